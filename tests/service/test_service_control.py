"""The control socket: who may use it, what it tells, and what it changes."""

from __future__ import annotations

import gc
import json
import os
import socket
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger

from lbproxy.config import Loaded, Problem
from lbproxy.model import ControlSettings
from lbproxy.service.control import ControlService
from tests.service.service_rig import Running, configured, free_port, pool, running


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Running, str]]:
    path = str(tmp_path / "control")
    pools = (pool("web", 9101, 9102), pool("api", 9103))
    with running(configured({"front": [free_port()]}, pools, control=ControlSettings(path))) as made:
        yield made, path


Place = tuple[Running, str]
BACKEND = "/v1/pools/web/backends/b0"


def state(running: Running, path: str) -> str:
    """All that a GET must not change."""
    _, told = running.ask(path, "GET", "/v1/status")
    for key in ("uptime_seconds", "held_bytes"):
        told.pop(key)
    for one in told["pools"]:
        for backend in one["backends"]:
            backend.pop("since_seconds")
    return json.dumps(told, sort_keys=True)


class TestTheSocket:
    def test_only_its_owner_may_use_it(self, place: Place) -> None:
        _, path = place
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600

    def test_it_goes_with_the_service(self, place: Place) -> None:
        made, path = place
        made.stop()
        assert not os.path.exists(path)

    def test_one_that_was_left_behind_is_replaced(self, tmp_path: Path) -> None:
        path = str(tmp_path / "control")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with running(configured({}, (pool("web", 9101),), control=ControlSettings(path))) as made:
            assert made.ask(path, "GET", "/healthz")[0] == 200

    def test_one_that_somebody_answers_on_stays_theirs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = str(tmp_path / "control")
        told: list[Any] = []
        observer: Any = told.append
        monkeypatch.setattr(ControlService, "log", Logger("lbproxy.x", observer=observer))
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            with running(configured({}, (pool("web", 9101),), control=ControlSettings(path))) as made:
                assert made.service.running, "traffic is worth more"
            assert os.path.exists(path)
        assert [event["log_level"].name for event in told] == ["error"]
        # The port that Twisted could not bind leaves its socket to the collector.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            told.clear()
            gc.collect()

    def test_another_path_after_a_reload(self, place: Place, tmp_path: Path) -> None:
        made, path = place
        other = str(tmp_path / "other")
        made.service.control.configure(ControlSettings(other))
        assert made.ask(other, "GET", "/healthz")[0] == 200
        assert not os.path.exists(path)


class TestQuestions:
    def test_health_and_readiness(self, place: Place) -> None:
        made, path = place
        assert made.ask(path, "GET", "/healthz") == (200, {"status": "ok"})
        assert made.ask(path, "GET", "/readyz") == (200, {"status": "serving"})
        made.service.stopping.state = "grace"
        assert made.ask(path, "GET", "/readyz") == (503, {"status": "grace"})
        assert made.ask(path, "GET", "/healthz")[0] == 200
        made.service.stopping.state = "serving"

    def test_status(self, place: Place) -> None:
        made, path = place
        status, told = made.ask(path, "GET", "/v1/status")
        assert status == 200
        assert (told["state"], told["sessions"], told["max_sessions"]) == ("serving", 0, 100)
        assert [one["pool"] for one in told["pools"]] == ["api", "web"]
        assert [one["name"] for one in told["listeners"]] == ["front"]
        assert told["reactor"] == "ProxyReactor"

    def test_pools_and_sessions(self, place: Place) -> None:
        made, path = place
        assert [one["pool"] for one in made.ask(path, "GET", "/v1/pools")[1]] == ["api", "web"]
        assert made.ask(path, "GET", "/v1/sessions") == (200, [])

    @pytest.mark.parametrize("target", ["/healthz", "/readyz", "/v1/status", "/v1/pools", "/v1/sessions"])
    def test_answers_are_json_that_nobody_keeps(self, place: Place, target: str) -> None:
        made, path = place
        status, fields, body = made.http(
            path, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert (status, fields[b"content-type"], fields[b"cache-control"]) == (200, b"application/json", b"no-store")
        json.loads(body)
        status, fields, body = made.http(
            path, f"HEAD {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert (status, body) == (200, b"")

    @pytest.mark.parametrize(
        "target", ["/", "/v1", "/v1/nothing", "/v1/pools/web", "/../etc/passwd", "/v1/%2e%2e/x%00"]
    )
    def test_nothing_else_is_there(self, place: Place, target: str) -> None:
        made, path = place
        assert made.ask(path, "GET", target)[0] == 404

    @pytest.mark.parametrize("target", [BACKEND, "/v1/reload", BACKEND + "?state=maint", "/v1/reload?now=1"])
    def test_get_never_changes_anything(self, place: Place, target: str) -> None:
        made, path = place
        before = state(made, path)
        assert made.ask(path, "GET", target)[0] in (404, 405)
        assert state(made, path) == before

    @pytest.mark.parametrize(
        ("method", "target"),
        [("POST", "/healthz"), ("DELETE", BACKEND), ("PUT", BACKEND), ("POST", BACKEND), ("PATCH", "/v1/reload")],
    )
    def test_wrong_methods_change_nothing(self, place: Place, method: str, target: str) -> None:
        made, path = place
        before = state(made, path)
        assert made.ask(path, method, target, b'{"state": "maint"}')[0] in (404, 405)
        assert state(made, path) == before


class TestChanges:
    @pytest.mark.parametrize(
        ("body", "admin", "weight"),
        [
            ({"state": "drain"}, "drain", 1),
            ({"state": "maint", "weight": 5}, "maint", 5),
            ({"weight": 0}, "ready", 0),
            ({"weight": 256}, "ready", 256),
            ({}, "ready", 1),
        ],
    )
    def test_a_backend(self, place: Place, body: dict[str, Any], admin: str, weight: int) -> None:
        made, path = place
        status, told = made.ask(path, "PATCH", BACKEND, json.dumps(body).encode())
        assert (status, told["pool"]) == (200, "web")
        backend = made.service.balancer.pools["web"].backends["b0"]
        assert (backend.admin, backend.weight) == (admin, weight)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b"\xff\xfe", 400),
            (b"[" * 100_000, 400),
            (b"[]", 422),
            (b'"ready"', 422),
            (b"null", 422),
            (b'{"state": "off"}', 422),
            (b'{"state": ["ready"]}', 422),
            (b'{"state": 1}', 422),
            (b'{"weight": 257}', 422),
            (b'{"weight": -1}', 422),
            (b'{"weight": 1.5}', 422),
            (b'{"weight": true}', 422),
            (b'{"weight": "1"}', 422),
            (b'{"weight": 5, "wieght": 6}', 422),
            (b'{"state": "maint", "weight": 999}', 422),
            (b" " * (1024 * 1024 + 1), 413),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_what_makes_no_sense_changes_nothing(self, place: Place, body: bytes, status: int) -> None:
        made, path = place
        before = state(made, path)
        answer = made.ask(path, "PATCH", BACKEND, body)
        assert answer[0] == status
        assert answer[1]["error"]
        assert state(made, path) == before

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    def test_a_form_of_a_browser_is_refused(self, place: Place, kind: str) -> None:
        made, path = place
        assert made.ask(path, "PATCH", BACKEND, b'{"state": "maint"}', kind)[0] == 415

    def test_a_content_type_may_name_its_character_set(self, place: Place) -> None:
        made, path = place
        kind = "application/json; charset=utf-8"
        assert made.ask(path, "PATCH", BACKEND, b'{"state": "drain"}', kind)[0] == 200

    @pytest.mark.parametrize("target", ["/v1/pools/web/backends/b9", "/v1/pools/nobody/backends/b0"])
    def test_an_unknown_backend(self, place: Place, target: str) -> None:
        made, path = place
        assert made.ask(path, "PATCH", target, b'{"state": "maint"}')[0] == 404

    def test_answers_quote_nothing_raw(self, place: Place) -> None:
        made, path = place
        _, _, body = made.http(
            path, b"GET /%0d%0aSet-Cookie:%20x%1b%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert body.count(b"\n") == 1
        assert b"\x1b" not in body


class TestReload:
    def test_without_a_file(self, place: Place) -> None:
        made, path = place
        status, told = made.ask(path, "POST", "/v1/reload")
        assert (status, len(told["problems"])) == (422, 1)

    def test_problems_are_told(self, tmp_path: Path) -> None:
        path = str(tmp_path / "control")
        good = configured({}, (pool("web", 9101),), control=ControlSettings(path))
        loaded = [
            Loaded(None, (Problem("f", 3, "pool.web", "is wrong"),)),
            Loaded(good, (Problem("f", 4, "pool.web", "is odd", "warning"),)),
        ]
        with running(good, loaded.pop) as made:
            status, told = made.ask(path, "POST", "/v1/reload")
            assert (status, told["problems"][0]["line"]) == (200, 4)
            status, told = made.ask(path, "POST", "/v1/reload")
            assert (status, told["problems"][0]["message"]) == (422, "is wrong")
            assert made.service.counters.reloads == {"ok": 1, "failed": 1}
