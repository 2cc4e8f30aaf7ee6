"""Checks and load reports of a running service: which backends get them, how often, and what follows."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, formatEvent

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend as PoolBackend
from lbproxy.balancing.status import check_kind
from lbproxy.model import CheckSettings, ControlSettings, PoolSettings, RouteSettings
from lbproxy.model_http import HttpCheck, HttpPoolSettings, LoadReport
from lbproxy.model_tls import BackendTlsSettings
from lbproxy.service.backend_checks import BackendChecks
from lbproxy.service.balancer import BalancerService
from lbproxy.service.status import status_text
from tests.live.peers import Backend, Script
from tests.net.net_rig import tcp_listener, turn
from tests.service.service_rig import Running, configured, free_port, pool, running

OFTEN = CheckSettings(interval=0.01, timeout=5.0, rise=1, fall=1, http=HttpCheck(path="/health"))
REPORTED = LoadReport(port=1, interval=0.01, timeout=5.0)
Serve = Callable[[Script], Backend]


class Answers:
    """A script that answers each request with the first line of the moment, and keeps what was asked."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.asked: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, conn: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (data := conn.recv(4096)):
                return
            head += data
        with self._lock:
            self.asked.append(head)
        conn.sendall(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % self.line)


class Agent:
    """A script that says a line to everybody."""

    def __init__(self, line: bytes) -> None:
        self.line = line

    def __call__(self, conn: socket.socket) -> None:
        conn.sendall(self.line)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def begin(script: Script) -> Backend:
            backend = Backend(script)
            stack.callback(backend.stop)
            return backend

        yield begin


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the pools and their checks tell."""
    told: list[str] = []
    observer: Any = lambda event: told.append(formatEvent(event))  # noqa: E731  # Any, as Logger asks for an interface
    for owner in (BalancerService, BackendChecks):
        monkeypatch.setattr(owner, "log", Logger("lbproxy.x", observer=observer))
    return told


def only(made: Running) -> PoolBackend:
    (found,) = made.service.balancer.pools.values()
    (backend,) = found.backends.values()
    return backend


def checked(port: int, check: CheckSettings = OFTEN, **rest: Any) -> Sequence[PoolSettings]:
    return (pool("web", port, check=check, **rest),)


class TestHttpChecks:
    def test_a_backend_goes_down_and_comes_back_with_its_status_and_only_changes_are_told(
        self, serve: Serve, log: list[str]
    ) -> None:
        answers = Answers(b"200 OK")
        with running(configured({}, tuple(checked(serve(answers).port)))) as made:
            backend = only(made)
            turn(made.reactor, lambda: backend.checks_ok_total >= 3)
            answers.line = b"503 Away"
            turn(made.reactor, lambda: backend.checks_failed_total >= 3)
            assert (backend.state, backend.reason) == ("down", "L7STS")
            answers.line = b"302 Found"
            turn(made.reactor, lambda: backend.state == "up")
        assert [line.partition(":")[0] for line in log] == [
            "backend web/b0 is up (was unknown)",
            "backend web/b0 is down (was up)",
            "backend web/b0 is up (was down)",
        ]
        assert ": L7STS, " in log[1]
        assert "status 503" in log[1]

    def test_the_request_names_the_backend(self, serve: Serve) -> None:
        answers = Answers(b"200 OK")
        server = serve(answers)
        with running(configured({}, tuple(checked(server.port)))) as made:
            turn(made.reactor, lambda: answers.asked)
            host = b"127.0.0.1:%d" % server.port
            assert answers.asked[0].startswith(b"GET /health HTTP/1.1\r\nHost: " + host)

    def test_another_port_and_http_1_0(self, serve: Serve) -> None:
        answers = Answers(b"200 OK")
        server = serve(answers)
        pools = checked(free_port(), replace(OFTEN, port=server.port), http=HttpPoolSettings(http10=True))
        with running(configured({}, tuple(pools))) as made:
            turn(made.reactor, lambda: only(made).checks_ok_total)
            host = b"127.0.0.1:%d" % server.port
            assert answers.asked[0].startswith(b"GET /health HTTP/1.0\r\nHost: " + host)
            assert only(made).reason == "L7OK"

    def test_there_is_one_for_a_backend_however_many_routes_lead_to_it(self, serve: Serve) -> None:
        seldom = replace(OFTEN, interval=0.2)
        answers = Answers(b"200 OK")
        routes = tuple(RouteSettings("web", server_names=(f"{n}.example",)) for n in range(20))
        setup = configured({"in": [free_port()]}, tuple(checked(serve(answers).port, seldom)), routes=routes)
        with running(setup) as made:
            turn(made.reactor, lambda: only(made).checks_ok_total >= 2)
            assert len(answers.asked) == 2

    def test_reloads_put_no_check_off(self, serve: Serve) -> None:
        answers = Answers(b"200 OK")
        (web,) = checked(serve(answers).port, replace(OFTEN, interval=1.0))
        setups = itertools.cycle([configured({}, (web,)), configured({}, (web, pool("api", 9101)))])
        with running(next(setups)) as made:

            def asked_between_reloads() -> bool:
                made.service.apply(next(setups))
                return bool(answers.asked)

            turn(made.reactor, asked_between_reloads)

    def test_a_reload_changes_what_is_asked_and_ends_what_is_gone(self, serve: Serve) -> None:
        answers, other = Answers(b"200 OK"), Answers(b"200 OK")
        api = pool("api", serve(other).port, check=OFTEN)
        port = serve(answers).port
        with running(configured({}, (*checked(port), api))) as made:
            turn(made.reactor, lambda: answers.asked and other.asked)
            changed = replace(OFTEN, http=HttpCheck(path="/other"))
            made.service.apply(configured({}, (*checked(port, changed), api)))
            count = len(answers.asked)
            turn(made.reactor, lambda: len(answers.asked) > count + 1)
            assert all(head.startswith(b"GET /other ") for head in answers.asked[count + 1 :])
            made.service.apply(configured({}, (api,)))
            turn(made.reactor)
            count, further = len(answers.asked), len(other.asked)
            turn(made.reactor, lambda: len(other.asked) > further + 2)
            assert len(answers.asked) == count, "a pool that is gone is not checked"


class TestTheStatus:
    @pytest.mark.parametrize(
        ("check", "tls", "kind"),
        [
            (CheckSettings(enabled=False, http=HttpCheck()), None, None),
            (CheckSettings(), None, "tcp"),
            (CheckSettings(), BackendTlsSettings(), "tls"),
            (CheckSettings(tls=False), BackendTlsSettings(), "tcp"),
            (OFTEN, None, "http"),
            (OFTEN, BackendTlsSettings(), "https"),
        ],
    )
    def test_it_tells_how_backends_are_checked(
        self, check: CheckSettings, tls: BackendTlsSettings | None, kind: str | None
    ) -> None:
        assert check_kind(pool("web", 9101, check=check, tls=tls)) == kind

    def test_the_page_says_it_for_each_pool(self, tmp_path: Path) -> None:
        path = str(tmp_path / "control")
        pools = (pool("api", 9101, check=OFTEN), pool("web", 9102))
        with running(configured({}, pools, control=ControlSettings(path))) as made:
            page = status_text(made.ask(path, "GET", "/v1/status")[1]).splitlines()
        lines = [line for line in page if line.startswith("pool ")]
        assert lines[0].endswith(" of 1 backends usable, http checks")
        assert lines[1].endswith("1 of 1 backends usable, no checks")


class TestLoadReports:
    def pools(self, port: int, **rest: Any) -> tuple[PoolSettings, ...]:
        return (pool("web", free_port(), load_report=replace(REPORTED, port=port), **rest),)

    def test_what_an_agent_says_comes_to_the_pool(self, serve: Serve) -> None:
        agent = Agent(b"50%\n")
        with running(configured({}, self.pools(serve(agent).port))) as made:
            backend = only(made)
            turn(made.reactor, lambda: backend.effective == 500)
            agent.line = b"drain"
            turn(made.reactor, lambda: backend.state == "drain")
            agent.line = b"ready 100%\r\n"
            turn(made.reactor, lambda: backend.state == "unknown")
            assert backend.effective == 1000

    def test_what_it_said_last_stays_while_it_says_nothing(self, serve: Serve) -> None:
        agent = Agent(b"50%\n")
        server = serve(agent)
        with running(configured({}, self.pools(server.port))) as made:
            backend = only(made)
            turn(made.reactor, lambda: backend.effective == 500)
            agent.line = b""
            before = server.connections
            turn(made.reactor, lambda: server.connections > before + 2)
            assert (backend.effective, backend.state) == (500, "unknown")

    def test_words_that_mean_nothing_are_told_once(self, serve: Serve, log: list[str]) -> None:
        agent = Agent(b"fast 50%\n")
        server = serve(agent)
        with running(configured({}, self.pools(server.port))) as made:
            turn(made.reactor, lambda: only(made).effective == 500)
            before = server.connections
            turn(made.reactor, lambda: server.connections > before + 2)
        assert [line for line in log if "fast" in line] == [
            "the load report of web/b0 has words that mean nothing: fast"
        ]

    def test_it_begins_and_ends_with_the_settings_and_rests_under_maintenance(self, serve: Serve) -> None:
        server = serve(Agent(b"50%\n"))
        with running(configured({}, self.pools(server.port))) as made:
            web, backend = made.service.balancer.pools["web"], only(made)
            turn(made.reactor, lambda: server.connections > 1)
            web.set_admin(backend, "maint", made.service.clock())
            self.rests(made, server)
            web.set_admin(backend, "ready", made.service.clock())
            before = server.connections
            turn(made.reactor, lambda: server.connections > before)
            made.service.apply(configured({}, (pool("web", backend.address.port),)))
            self.rests(made, server)

    def rests(self, made: Running, server: Backend) -> None:
        """Nothing is asked for several intervals; one question may be on its way."""
        turn(made.reactor)
        until = made.service.clock() + 0.1
        before = server.connections
        turn(made.reactor, lambda: made.service.clock() > until)
        assert server.connections <= before + 1

    def test_a_path_has_no_port_to_ask(self) -> None:
        with tcp_listener() as end:
            (settings,) = self.pools(end.getsockname()[1])
            (one,) = settings.backends
            unix = replace(settings, backends=(replace(one, address=Address("unix", "/nowhere")),))
            with running(configured({}, (unix,))) as made:
                until = made.service.clock() + 0.05
                turn(made.reactor, lambda: made.service.clock() > until)
                end.settimeout(0)
                with pytest.raises(BlockingIOError):
                    end.accept()
