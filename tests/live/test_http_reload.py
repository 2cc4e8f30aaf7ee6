"""Changes while requests are under way: reloads, drained and restarted backends, and the end of the process."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.live.harness import Lbproxy, Ports, until
from tests.live.http_peers import Answer, RawClient, http_listener, http_pool, http_site, request, upgraded
from tests.live.http_scripts import Gate, Live, Recording, all_at_once, large, rest_of
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture

Start = Callable[..., Lbproxy]


class Site:
    """One listener that stays while everything else is changed."""

    def __init__(self, live: Live) -> None:
        self.live = live
        live.port = live.ports.reserve()

    def serve(self, *backends: str, listener: str = 'pool = "out"', pool: str = "", more: str = "") -> None:
        text = http_listener(self.live.port, more=listener) + more
        self.live.serve_text(text + http_pool("out", *backends, more=pool))


class TestReload:
    def test_an_exchange_keeps_what_it_began_with(self, live: Live) -> None:
        site, gate = Site(live), Gate()
        old, new = (
            live.recording({"/slow": gate}, default=Answer(body=b"old")),
            live.recording(default=Answer(body=b"new")),
        )
        site.serve(old.address)
        client, idle = live.client(), live.client()
        assert idle.ask().body == b"old"
        client.send(request(target=b"/slow"))
        gate.wait()
        site.serve(new.address)
        assert idle.ask().body == b"new", "the next request goes by the new configuration"
        gate.open()
        assert client.answer().body == b"ok"
        assert client.ask().body == b"new"

    def test_uploads_and_downloads_go_on(self, live: Live) -> None:
        site = Site(live)
        backend = live.recording(lambda asked: large(3_000_000, piece=30_000, pause=0.001), keep_bodies=False)
        site.serve(backend.address)

        def go() -> None:
            with live.client() as client:
                for _ in range(2):
                    client.send(request(b"POST", fields=((b"Content-Length", b"500000"),)))
                    for _ in range(10):
                        client.send(b"x" * 50_000)
                        time.sleep(0.01)
                    assert len(client.answer().body) == 3_000_000

        def reload() -> None:
            for number in range(15):
                site.serve(backend.address, pool=f"tries = {number % 3 + 1}")
                time.sleep(0.02)

        all_at_once([reload, *[go] * 4])
        assert {asked.size for asked in backend.wait_for(8)} == {500_000}

    def test_traffic_does_not_notice(self, live: Live) -> None:
        """Scenario 38, smaller"""
        site = Site(live)
        backends = [live.recording() for _ in range(3)]
        ends = threading.Event()
        count: list[int] = []
        site.serve(*(one.address for one in backends))

        def keep_alive() -> None:
            with live.client() as client:
                while not ends.is_set():
                    answer = client.ask(b"POST", body=b"x")
                    assert (answer.status, answer.get(b"connection")) == (200, None)
                    count.append(1)
                    time.sleep(0.001)

        def anew() -> None:
            while not ends.is_set():
                with RawClient(live.port) as client:
                    assert client.ask().status == 200
                count.append(1)
                time.sleep(0.001)

        def reload() -> None:
            try:
                for number in range(30):
                    used = backends[: number % 3 + 1]
                    site.serve(*(one.address for one in used), pool=f"max_active = {number + 10}")
                    time.sleep(0.01)
            finally:
                ends.set()

        all_at_once([reload, *[keep_alive] * 4, *[anew] * 2])
        assert len(count) > 100
        assert live.proxy.status()["counters"]["exceptions"] == 0

    def test_connections_to_unchanged_backends_are_kept(self, live: Live) -> None:
        """Section 20"""
        site, backend = Site(live), live.recording()
        site.serve(backend.address)
        client = live.client()
        for number in range(3):
            assert client.ask().status == 200
            site.serve(
                backend.address, more='[[route]]\nlistener = "in"\npath = "/x"\nanswer = { status = 200 }\n' * number
            )
        assert {asked.connection for asked in backend.wait_for(3)} == {1}

    def test_settings_of_the_connection_change_with_the_next_request(self, live: Live) -> None:
        site, backend = Site(live), live.recording()
        site.serve(backend.address)
        client = live.client()
        assert client.ask().status == 200
        route = '[[route]]\nlistener = "in"\npath = "/x"\nanswer = { status = 200, body = "mine" }\n'
        site.serve(backend.address, more=route, listener='pool = "out"\nhttp = { max_target = 100 }')
        assert client.ask(target=b"/x").body == b"mine"
        assert client.ask(target=b"/" + b"y" * 200).status == 414

    def test_a_pool_that_is_gone_ends_no_exchange(self, live: Live) -> None:
        site, gate = Site(live), Gate()
        site.serve(live.recording({"/": gate}).address)
        client = live.client()
        client.send(request())
        gate.wait()
        live.serve_text("")
        gate.open()
        answer = client.answer()
        assert (answer.body, answer.get(b"connection")) == (b"ok", b"close")
        assert client.was_closed()

    def test_those_who_wait_in_a_queue_are_served(self, live: Live) -> None:
        site, gate = Site(live), Gate()
        backend = live.recording({"/0": gate})
        site.serve(backend.address, pool="max_active = 1")
        first, second = live.client(), live.client()
        first.send(request(target=b"/0"))
        gate.wait()
        second.send(request(target=b"/1"))
        until(lambda: live.proxy.pool()["queued"] == 1, "it waits")
        site.serve(backend.address, pool="max_active = 2")
        assert second.answer().status == 200
        gate.open()
        assert first.answer().status == 200


class TestRollingRestart:
    def test_drained_backends_restart_without_a_failed_request(self, live: Live) -> None:
        ports = [live.ports.reserve() for _ in range(3)]
        running = [live.recording(port=port) for port in ports]
        checks = 'check = { interval = "50ms", timeout = "500ms", rise = 1, fall = 1 }\nslow_start = false'
        live.serve(*(one.address for one in running), pool=checks)
        ends = threading.Event()
        count: list[int] = []

        def ask(method: bytes) -> None:
            with live.client() as client:
                while not ends.is_set():
                    answer = client.ask(method, body=b"x" if method == b"POST" else None)
                    assert (answer.status, answer.get(b"connection")) == (200, None)
                    count.append(1)
                    time.sleep(0.002)

        def state(backend: Recording, state: str) -> None:
            status, said = live.proxy.ask("PATCH", f"/v1/pools/out/backends/{backend.address}", {"state": state})
            assert status == 200, said

        def restart() -> None:
            try:
                for number, port in enumerate(ports):
                    old = running[number]
                    state(old, "drain")
                    until(lambda old=old: live.proxy.backend(old.address)["active"] == 0, "it is drained")  # type: ignore[misc]
                    old.stop()
                    running[number] = live.recording(port=port)
                    state(running[number], "ready")
                    time.sleep(0.15)
            finally:
                ends.set()

        all_at_once([restart, *[lambda: ask(b"GET")] * 3, *[lambda: ask(b"POST")] * 3])
        assert len(count) > 100
        assert all(one.requests for one in running)

    def test_backends_that_finish_what_they_have_begun_cost_no_idempotent_request(self, live: Live) -> None:
        """Without a word to lbproxy: they close behind an answer, listen no more for a moment, and are there again"""
        ports = [live.ports.reserve() for _ in range(2)]
        running = [live.recording(port=port) for port in ports]
        live.serve(*(one.address for one in running), pool="outlier = false")
        ends = threading.Event()
        count: list[int] = []

        def ask() -> None:
            with live.client() as client:
                while not ends.is_set():
                    assert client.ask().status == 200
                    count.append(1)

        def restart() -> None:
            try:
                for number, port in enumerate(ports * 2):
                    which = number % 2
                    old = running[which]
                    old.most, old.idle = 0, 0.0
                    # No connect is taken any more; those that are open end behind their next answer.
                    old._listening.shutdown(socket.SHUT_RDWR)
                    old._listening.close()
                    until(lambda old=old: not old.open, "all of its connections have ended")  # type: ignore[misc]
                    time.sleep(0.05)
                    running[which] = live.recording(port=port)
                    time.sleep(0.1)
            finally:
                ends.set()

        all_at_once([restart, *[ask] * 4])
        assert len(count) > 100


def _head(grace: str, hard_stop: str) -> str:
    return (
        '[control]\nsocket = "unix:{directory}/control.sock"\n[records]\nto = "file:{directory}/records.jsonl"\n'
        f'[stop]\ngrace = "{grace}"\nhard_stop = "{hard_stop}"\n'
    )


class TestStop:
    """These end their process, so each has one of its own."""

    @pytest.fixture
    def site(self, start: Start, ports: Ports, stack: ExitStack) -> tuple[Callable[..., Lbproxy], int, Recording, Gate]:
        gate = Gate()
        backend = Recording({"/slow": gate, "/ws": upgraded()}, default=Answer())
        stack.callback(backend.stop)
        port = ports.reserve()

        def begin(grace: str, hard_stop: str) -> Lbproxy:
            return start(http_site(port, backend.address), head=_head(grace, hard_stop))

        return begin, port, backend, gate

    def test_idle_connections_are_closed_and_answers_under_way_say_so(
        self, site: tuple[Callable[..., Lbproxy], int, Recording, Gate], stack: ExitStack
    ) -> None:
        """Section 20, C16, scenario 43"""
        begin, port, backend, gate = site
        proxy = begin("0s", "10s")
        idle, busy, pipelining = (stack.enter_context(RawClient(port)) for _ in range(3))
        assert idle.ask().status == 200
        busy.send(request(target=b"/slow"))
        gate.wait()
        pipelining.send(request(target=b"/slow") + request(target=b"/behind"))
        gate.wait()
        proxy.signal(signal.SIGTERM)
        assert idle.sock.recv(1) == b"", "by FIN, not by a reset"
        gate.open()
        for client in (busy, pipelining):
            answer = client.answer()
            assert (answer.status, answer.get(b"connection")) == (200, b"close")
            assert client.was_closed()
        assert proxy.wait(5) == -signal.SIGTERM
        assert b"/behind" not in {asked.target for asked in backend.requests}

    def test_in_the_grace_everything_goes_on_and_then_ends(
        self, site: tuple[Callable[..., Lbproxy], int, Recording, Gate], stack: ExitStack
    ) -> None:
        begin, port, _, gate = site
        proxy = begin("500ms", "1200ms")
        client, tunnel, slow = (stack.enter_context(RawClient(port)) for _ in range(3))
        assert client.ask().status == 200
        tunnel.send(request(target=b"/ws", fields=((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))))
        assert tunnel.answer(upgrade=True).status == 101
        slow.send(request(target=b"/slow"))
        gate.wait()
        began = time.monotonic()
        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.ask("GET", "/readyz")[0] == 503, "it says that it is not ready")
        assert client.ask().status == 200
        with RawClient(port) as new:
            assert new.ask().status == 200
        tunnel.send(b"ping")
        assert tunnel.take(4) == b"ping"
        assert proxy.wait(5) == -signal.SIGTERM
        assert 1.0 < time.monotonic() - began < 2.5, "who does not end is ended"
        assert rest_of(slow.sock)[0] == b""
        gate.open()

    def test_a_second_signal_ends_it_at_once(
        self, site: tuple[Callable[..., Lbproxy], int, Recording, Gate], stack: ExitStack
    ) -> None:
        begin, port, _, gate = site
        proxy = begin("5s", "20s")
        client = stack.enter_context(RawClient(port))
        client.send(request(target=b"/slow"))
        gate.wait()
        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.ask("GET", "/readyz")[0] == 503, "it has heard")
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(3) == -signal.SIGTERM
        gate.open()
