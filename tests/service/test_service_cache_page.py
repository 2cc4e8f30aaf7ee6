"""The control socket's paths about the cache, and the page of `lbproxy cache stat`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbproxy.model import ControlSettings
from lbproxy.service.cache_stat import cache_text, hit_ratio, size
from tests.service.service_rig import Running, configured, free_port, pool, running

PURGE = "/v1/cache/purge"


class Desk:
    """A store that only says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []

    def purge(self, kind: str, value: str, soft: bool) -> dict[str, Any]:
        self.asked.append((kind, value, soft))
        if value == "nonsense":
            raise ValueError("'nonsense' is not a whole URL")
        return {"purged": 1} if kind == "url" else {"ban": 5}

    def status(self) -> dict[str, Any]:
        return {"bans": 3}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Running, str]]:
    path = str(tmp_path / "control")
    with running(configured({"front": [free_port()]}, (pool("web", 9101),), control=ControlSettings(path))) as made:
        yield made, path


@pytest.fixture
def desk(place: tuple[Running, str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk()
    monkeypatch.setattr(type(place[0].service), "cache_desk", property(lambda _: made))
    return made


Place = tuple[Running, str]


def test_where_no_route_caches_there_is_nothing_to_ask(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made, path = place
    monkeypatch.setattr(type(made.service), "cache_desk", property(lambda _: None))
    refused = (404, {"error": "no route caches: write cache = true in a [[route]]"})
    assert made.ask(path, "GET", "/v1/cache") == refused
    assert made.ask(path, "POST", PURGE, b'{"all": true}') == refused


def test_how_the_cache_does(place: Place, desk: Desk) -> None:
    made, path = place
    assert made.ask(path, "GET", "/v1/cache") == (200, {"bans": 3})
    assert made.ask(path, "HEAD", "/v1/cache")[0] == 200


@pytest.mark.parametrize(
    ("body", "asked", "told"),
    [
        ({"url": "http://a/b"}, ("url", "http://a/b", False), {"purged": 1}),
        ({"url": "http://a/b", "soft": True}, ("url", "http://a/b", True), {"purged": 1}),
        ({"prefix": "http://a/"}, ("prefix", "http://a/", False), {"ban": 5}),
        ({"host": "a", "soft": False}, ("host", "a", False), {"ban": 5}),
        ({"tag": "news"}, ("tag", "news", False), {"ban": 5}),
        ({"all": True, "soft": True}, ("all", "", True), {"ban": 5}),
    ],
)
def test_a_purge(place: Place, desk: Desk, body: dict[str, Any], asked: Any, told: dict[str, int]) -> None:
    made, path = place
    assert made.ask(path, "POST", PURGE, json.dumps(body).encode()) == (200, told)
    assert desk.asked == [asked]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"soft": true}', 422),
        (b'{"url": "http://a/", "tag": "b"}', 422),
        (b'{"url": "http://a/", "sfot": true}', 422),
        (b'{"url": "http://a/", "soft": 1}', 422),
        (b'{"url": ""}', 422),
        (b'{"url": 5}', 422),
        (b'{"url": null}', 422),
        (b'{"tag": ["a"]}', 422),
        (b'{"all": false}', 422),
        (b'{"all": "true"}', 422),
        (b'{"host": "' + b"a" * 65537 + b'"}', 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_makes_no_sense_purges_nothing(place: Place, desk: Desk, body: bytes, status: int) -> None:
    made, path = place
    answer = made.ask(path, "POST", PURGE, body)
    assert answer[0] == status
    assert answer[1]["error"]
    assert desk.asked == []


def test_what_the_store_says_of_a_value_is_told(place: Place, desk: Desk) -> None:
    made, path = place
    refused = (422, {"error": "'nonsense' is not a whole URL"})
    assert made.ask(path, "POST", PURGE, b'{"url": "nonsense"}') == refused


def test_a_form_of_a_browser_purges_nothing(place: Place, desk: Desk) -> None:
    made, path = place
    assert made.ask(path, "POST", PURGE, b'{"all": true}', "text/plain")[0] == 415
    assert desk.asked == []


@pytest.mark.parametrize(
    ("method", "target"), [("GET", PURGE), ("DELETE", "/v1/cache"), ("POST", "/v1/cache"), ("PUT", PURGE)]
)
def test_no_other_method_does_anything(place: Place, desk: Desk, method: str, target: str) -> None:
    made, path = place
    assert made.ask(path, method, target, b'{"all": true}')[0] in (404, 405)
    assert desk.asked == []


# --- the page -------------------------------------------------------------------------------------------------------


def test_a_disk_has_lines_of_its_own() -> None:
    disk = {"used": 2048, "limit": 10 * 1024**3, "files": 3, "written": 5, "loads": 4, "evicted": 2}
    status = {"memory": {"used": 0, "limit": 1024, "objects": 0, "evicted": 0}, "requests": {}, "collapsed": 0}
    calm = {**disk, "dropped": 0, "errors": 0, "error": None}
    assert cache_text({**status, "disk": calm}).splitlines()[-2:] == [
        "disk         2KiB of 10GiB in 3 files",
        "on disk      4 loaded, 5 written, 2 evicted",
    ]
    trouble = {**disk, "dropped": 6, "errors": 7, "error": "no space\x1b left"}
    assert cache_text({**status, "disk": trouble}).splitlines()[-1] == (
        "disk trouble  6 not written in time, 7 errors: no space? left"
    )


def test_the_hit_ratio_counts_those_that_looked_into_the_store() -> None:
    assert hit_ratio({}) == "-"
    assert hit_ratio({"bypass": 5}) == "-"
    assert hit_ratio({"miss": 5, "bypass": 5}) == "0.0 %"
    assert hit_ratio({"hit": 1, "stale": 1, "updating": 1, "revalidated": 1, "miss": 4}) == "37.5 %"


def test_sizes_are_written_short() -> None:
    for octets, text in [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1536, "1.5KiB"),
        (1024**2 - 1, "1MiB"),
        (13 * 1024**2, "13MiB"),
        (5 * 1024**4, "5TiB"),
        (5000 * 1024**4, "5000TiB"),
    ]:
        assert size(octets) == text
