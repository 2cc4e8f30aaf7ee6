"""Sites that live on: reloads and stops under load, backends that restart, drain, fail and recover."""

from __future__ import annotations

import contextlib
import hashlib
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.live.harness import Lbproxy, Ports, until
from tests.live.http_peers import Answer, Executions, RawClient, http_listener, http_pool, http_site, request, upgraded
from tests.live.http_scripts import Gate, Live, Recording, digest, large
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE, Backend
from tests.live.tls_peers import Papers, server_context
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import Asker, Browser, Load, listed, named

Start = Callable[..., Lbproxy]
_OF_STOPS = (
    '[control]\nsocket = "unix:{directory}/control.sock"\n[records]\nto = "file:{directory}/records.jsonl"\n'
    '[stop]\ngrace = "300ms"\nhard_stop = "20s"\n'
)


def _set(live: Live, backend: str, **wanted: object) -> None:
    status, answer = live.proxy.ask("PATCH", f"/v1/pools/out/backends/{backend}", wanted)
    assert status == 200, answer


def _hang_up(proxy: Lbproxy) -> None:
    """Reload by the signal."""

    def count() -> int:
        reloads: dict[str, int] = proxy.status()["counters"]["reloads"]
        return reloads["ok"]

    before = count()
    proxy.signal(signal.SIGHUP)
    until(lambda: count() > before, "it has reloaded")


def _wait_until_unused(proxy: Lbproxy, backend: str) -> None:
    until(lambda: not proxy.backend(backend)["active"], f"{backend} serves nobody")


def _wait_for_two_more(agent: Backend) -> None:
    """Until a report that was changed just now has been heard: the one under way may be the old one."""
    before = agent.connections
    until(lambda: agent.connections >= before + 3 and not agent.open, "it was asked twice more")


def _client(port: int) -> Asker:
    return Asker(sock=socket.create_connection(("127.0.0.1", port), PATIENCE))


class TestReload:
    def test_routes_change_for_the_next_request_of_the_same_connection(self, live: Live) -> None:
        one, two = named(live, b"one"), named(live, b"two")
        port = live.serve(one.address)
        text = http_listener(port, more='pool = "two"') + http_pool("two", two.address)
        route = text + '[[route]]\nname = "new"\nlistener = "in"\npath = "/new"\nanswer = { status = 410 }\n'
        with live.client() as client:
            assert client.ask().body == b"one"
            live.serve_text(text)
            assert client.ask().body == b"two"
            assert client.ask(target=b"/new").status == 200
            live.serve_text(route)
            assert client.ask(target=b"/new").status == 410
            assert client.ask().body == b"two"
        records = live.records(5)
        assert [record["request_number"] for record in records] == [1, 2, 3, 4, 5]
        assert [record["route"] for record in records] == ["", "", "", "new", ""]

    def test_under_load_nothing_fails_and_no_connection_is_closed(self, live: Live) -> None:
        """Scenario 38"""
        one, two = named(live, b"one"), named(live, b"two")
        port = live.serve(one.address)
        first = http_listener(port, more='pool = "out"') + http_pool("out", one.address)
        second = http_listener(port, more='pool = "next"\nhttp.max_fields = 50') + http_pool("next", two.address)
        load = Load(live.client, clients=4)
        for number in range(10):
            load.go_on(30)
            live.proxy.configure((second, first)[number % 2].replace('"in"', f'"{live.listener}"') + live.shared.base)
            _hang_up(live.proxy)
        load.stop()
        assert load.closes == 0
        assert set(load.answers) == {b"one", b"two"}

    def test_an_answer_that_has_begun_ends_as_it_began(self, live: Live) -> None:
        """Its pool, backend and listener have all gone from the file before it ends."""
        gate = Gate(large(3_000_000))
        backend = live.recording({"/": gate}, keep_bodies=False)
        live.serve(backend.address)
        with live.client() as client:
            client.send(request())
            gate.wait()
            live.serve_text("")
            gate.open()
            answer = client.answer()
            assert hashlib.sha256(answer.body).hexdigest() == digest(3_000_000)
            assert answer.get(b"connection") == b"close"
            assert client.was_closed()
        assert (record := live.record())["outcome"] == "ok", record

    def test_clients_of_a_listener_that_goes_are_told(self, live: Live) -> None:
        gate = Gate()
        backend = live.recording({"/slow": gate})
        port, other = live.ports.reserve(), live.ports.reserve()
        live.port = port
        stays = http_listener(other, name="stays", more='pool = "out"') + http_pool("out", backend.address)
        live.serve_text(stays + http_listener(port, more='pool = "out"'))
        with live.client() as idle, live.client() as fresh, live.client() as busy, live.client(other) as elsewhere:
            for client in (idle, elsewhere):
                assert client.ask().status == 200
            fresh.send(b"GET / HT")
            busy.send(request(target=b"/slow"))
            gate.wait()
            until(lambda: live.proxy.listener(live.listener)["sessions"] == 3, "all are there")
            live.serve_text(stays)
            assert idle.was_closed()
            gate.open()
            answer = busy.answer()
            assert (answer.status, answer.get(b"connection")) == (200, b"close")
            assert busy.was_closed()
            # Whoever has begun to ask is answered.
            fresh.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            answer = fresh.answer()
            assert (answer.status, answer.get(b"connection")) == (200, b"close")
            assert fresh.was_closed()
            assert elsewhere.ask().get(b"connection") is None

    def test_a_backend_that_moves_is_asked_at_its_new_place(self, live: Live) -> None:
        """The same id: connections to the old address are of no use any more."""
        one, two = named(live, b"one"), named(live, b"two")
        port = live.serve(*listed(same=one))
        with live.client() as client:
            assert client.ask().body == b"one"
            live.serve_text(http_listener(port, more='pool = "out"') + http_pool("out", *listed(same=two)))
            assert client.ask().body == b"two"

    def test_other_settings_for_backends_take_other_connections(self, live: Live, authority: Papers) -> None:
        """L16, P7"""
        backend = live.recording(tls=server_context(authority.server()))
        port = live.serve(backend.address, pool=f'tls = {{ ca = "{authority.ca}" }}')
        listener = http_listener(port, more='pool = "out"')
        with live.client() as client:
            assert client.ask().status == 200
            tls = f'tls = {{ ca = "{authority.stranger().ca}" }}'
            live.serve_text(listener + http_pool("out", backend.address, more=tls))
            assert client.ask().status == 502
        heard: list[bytes] = []

        def converse(conn: socket.socket) -> None:
            while data := conn.recv(65536):
                heard.append(data.partition(b"\r\n")[0])
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        plain = live.scripted(converse)
        live.serve_text(listener + http_pool("out", plain.address))
        with live.client() as client:
            assert [client.ask().status for _ in range(2)] == [200, 200]
            live.serve_text(listener + http_pool("out", plain.address, more='send_proxy = "v1"'))
            assert client.ask().status == 200
        assert heard[:2] == [b"GET / HTTP/1.1"] * 2
        assert heard[2].startswith(b"PROXY TCP4 127.0.0.1 ")

    @pytest.mark.parametrize("instead", [True, False])
    def test_who_waits_for_a_backend_that_goes(self, live: Live, instead: bool) -> None:
        gate = Gate()
        one, two = live.recording({"/": gate}), named(live, b"two")
        port = live.serve(*listed(one=one), pool="max_active = 1")
        with live.client() as served, live.client() as waits:
            served.send(request())
            gate.wait()
            waits.send(request())
            until(lambda: live.proxy.pool()["queued"] == 1, "one waits")
            if instead:
                live.serve_text(http_listener(port, more='pool = "out"') + http_pool("out", *listed(two=two)))
                assert waits.answer().body == b"two"
            else:
                live.serve_text("")
                assert waits.answer().status == 503
            gate.open()
            assert served.answer().body == b"ok"


class TestStop:
    def test_everybody_gets_an_answer_and_is_told_that_it_is_the_last(self, start: Start, ports: Ports) -> None:
        """Scenario 43; semantics.md 20"""
        gate = Gate()
        with Recording({"/slow": gate, "/big": large(8_000_000, piece=65536)}, keep_bodies=False) as backend:
            port = ports.reserve()
            proxy = start(http_site(port, backend.address), head=_OF_STOPS)
            names = ("idle", "during", "slow", "big", "sends")
            clients = {name: RawClient(port, receive_buffer=4096 if name == "big" else 0) for name in names}
            try:
                for name in ("idle", "during"):
                    assert clients[name].ask().get(b"connection") is None
                clients["slow"].send(request(target=b"/slow"))
                gate.wait()
                clients["big"].send(request(target=b"/big"))
                assert clients["big"].take(15) == b"HTTP/1.1 200 OK"
                clients["sends"].send(request(b"PUT", b"/up", ((b"Content-Length", b"500000"),)), b"x" * 1000)
                proxy.signal(signal.SIGTERM)
                until(lambda: proxy.ask("GET", "/readyz")[0] == 503, "it says that it is not ready")
                # For the grace all goes on: who balances between several has to notice first.
                assert clients["during"].ask().get(b"connection") is None
                with RawClient(port) as new:
                    assert new.ask().get(b"connection") is None
                proxy.wait_for_log("listeners are closed")
                for name in ("idle", "during"):
                    assert clients[name].was_closed()
                gate.open()
                answer = clients["slow"].answer()
                assert (answer.status, answer.get(b"connection")) == (200, b"close")
                clients["sends"].send(b"x" * 499_000)
                answer = clients["sends"].answer()
                assert (answer.status, answer.get(b"connection")) == (200, b"close")
                assert clients["slow"].was_closed()
                assert clients["sends"].was_closed()
                assert proxy.process.poll() is None
                body = clients["big"].read_to_end().partition(b"\r\n\r\n")[2]
                assert hashlib.sha256(body).hexdigest() == digest(8_000_000)
                assert 128 - proxy.wait(5) == 143
            finally:
                for client in clients.values():
                    client.close()
            assert {record["outcome"] for record in proxy.records(6)} == {"ok"}

    def test_under_load_clients_that_listen_lose_nothing(self, start: Start, ports: Ports) -> None:
        """Whoever meets the close of an idle connection tries again; here there is nobody left, so nothing more."""
        with Recording() as backend:
            port = ports.reserve()
            proxy = start(http_site(port, backend.address), head=_OF_STOPS)
            load = Load(lambda: _client(port), clients=4, kinds=((b"GET", None),), pause=0.002, race=True)
            load.go_on(50)
            proxy.signal(signal.SIGTERM)
            status = proxy.wait(5)
            until(lambda: len(load.failures) >= 4, "everybody has noticed")
            load.halt()
            assert status == -signal.SIGTERM
            assert all("ConnectionRefused" in one for one in load.failures), load.failures
            assert load.races + load.closes == 4
            served = Counter(record["outcome"] for record in proxy.records(len(load.answers)))
            assert served == {"ok": len(load.answers)}

    def test_a_tunnel_goes_on_until_it_ends(self, start: Start, ports: Ports) -> None:
        with Recording(default=upgraded()) as backend:
            port = ports.reserve()
            proxy = start(http_site(port, backend.address), head=_OF_STOPS.replace("300ms", "0s"))
            with RawClient(port) as client:
                client.send(request(fields=((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))))
                assert client.answer(upgrade=True).status == 101
                proxy.signal(signal.SIGTERM)
                proxy.wait_for_log("listeners are closed")
                client.send(b"still there")
                assert client.take(11) == b"still there"
                assert proxy.process.poll() is None
                client.half_close()
                assert client.read_to_end() == b""
            assert proxy.wait(5) == -signal.SIGTERM
            assert proxy.record()["outcome"] == "ok"

    def test_the_hard_stop_cuts_what_is_left_and_records_it(self, start: Start, ports: Ports) -> None:
        gate = Gate()
        with Recording({"/slow": gate}) as backend:
            port = ports.reserve()
            proxy = start(http_site(port, backend.address), head=_OF_STOPS.replace("20s", "600ms"))
            with RawClient(port) as client:
                client.send(request(target=b"/slow"))
                gate.wait()
                proxy.signal(signal.SIGTERM)
                with pytest.raises(ConnectionResetError):
                    client.answer()
            assert proxy.wait(5) == -signal.SIGTERM
            assert proxy.record()["outcome"] == "killed"
            gate.open()


class Graceful:
    """A server that stops in order: it accepts no more, answers what it has begun, closes connections that wait."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions
        self._stopping = threading.Event()
        self._server = self._begin(0)
        self.address = self._server.address
        self.open_for = 0

    def _begin(self, port: int) -> Backend:
        self._stopping.clear()
        return Backend(self._converse, port=port)

    def _converse(self, conn: socket.socket) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stopping, waiting = self._stopping, b""
        while True:
            while b"\r\n\r\n" not in waiting:
                while not select.select([conn], [], [], 0.005)[0]:
                    if stopping.is_set() and not waiting:
                        return
                data = conn.recv(65536)
                if not data:
                    return
                waiting += data
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            while len(waiting) < int(fields.get(b"content-length", b"0")):
                waiting += conn.recv(65536)
            waiting = b""
            time.sleep(0.001)
            last = b"Connection: close\r\n" if stopping.is_set() else b""
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nok" % last)
            if last:
                return

    def restart(self, down: float) -> None:
        """Stop, stay away for so many seconds, and begin anew at the same address."""
        with contextlib.suppress(OSError):
            self._server._listening.shutdown(socket.SHUT_RDWR)
        self._stopping.set()
        until(lambda: not self._server.open, "it has served everybody")
        self.stop()
        time.sleep(down)
        self._stopping = threading.Event()
        self._server = self._begin(int(self.address.rpartition(":")[2]))

    def stop(self) -> None:
        """End."""
        self._server.stop()


class TestRollingRestarts:
    @pytest.mark.parametrize("drained", [False, True])
    def test_no_request_fails_while_all_backends_restart(self, live: Live, drained: bool) -> None:
        """A POST cannot be sent twice where a close crosses it: backends are drained for its sake."""
        servers = [Graceful(Executions()) for _ in range(3)]
        for server in servers:
            live.stack.callback(server.stop)
        tables = [f'{{ id = "s{number}", address = "{server.address}" }}' for number, server in enumerate(servers)]
        live.serve(*tables, pool="outlier = false")
        kinds: list[tuple[bytes, bytes | None]] = [(b"GET", None), (b"PUT", b"x" * 500), (b"DELETE", None)]
        load = Load(live.client, clients=8, pause=0.004, kinds=kinds + ([(b"POST", b"body")] if drained else []))
        for _ in range(2):
            for number, server in enumerate(servers):
                load.go_on(60)
                if drained:
                    _set(live, f"s{number}", state="drain")
                    _wait_until_unused(live.proxy, f"s{number}")
                server.restart(0.1)
                if drained:
                    _set(live, f"s{number}", state="ready")
        load.go_on(60)
        load.stop()
        assert load.closes == 0
        assert len(load.answers) > 400


class TestOperators:
    STICKY = 'sticky = "cookie"'

    def _bound(self, live: Live, more: str = STICKY) -> tuple[Browser, bytes, bytes]:
        """A client that is bound to a backend: the name of that, and of the other one."""
        live.serve(*listed(one=named(live, b"one"), two=named(live, b"two")), pool=more)
        browser = Browser(live)
        bound = browser.ask().body
        assert all(browser.ask().body == bound for _ in range(5))
        return browser, bound, b"two" if bound == b"one" else b"one"

    def test_drain_keeps_those_who_are_bound_and_maint_does_not(self, live: Live) -> None:
        browser, bound, other = self._bound(live)
        cookie = dict(browser.jar)
        _set(live, bound.decode(), state="drain")
        assert [browser.ask().body for _ in range(4)] == [bound] * 4
        assert browser.jar == cookie
        with live.client() as client:
            assert {client.ask().body for _ in range(4)} == {other}
        _set(live, bound.decode(), state="maint")
        assert browser.ask().body == other
        assert browser.jar.keys() == cookie.keys()
        assert browser.jar != cookie
        _set(live, bound.decode(), state="ready")
        assert [browser.ask().body for _ in range(4)] == [other] * 4
        states = [record["state"] for record in live.records(19)]
        assert (states[0], states[1], states[14]) == ("--NI", "--VN", "--DI")

    def test_who_is_strictly_bound_gets_503_instead(self, live: Live) -> None:
        browser, bound, other = self._bound(live, 'sticky = { by = "cookie", strict = true }')
        _set(live, bound.decode(), state="drain")
        assert browser.ask().body == bound
        _set(live, bound.decode(), state="maint")
        answer = browser.ask()
        assert (answer.status, answer.all(b"set-cookie")) == (503, [])
        with live.client() as client:
            assert client.ask().body == other
        _set(live, bound.decode(), state="ready")
        assert browser.ask().body == bound

    def test_a_weight_of_zero_is_a_drain(self, live: Live) -> None:
        browser, bound, other = self._bound(live)
        _set(live, bound.decode(), weight=0)
        assert browser.ask().body == bound
        with live.client() as client:
            assert {client.ask().body for _ in range(4)} == {other}

    def test_sessions_are_listed_with_what_they_ask_for(self, live: Live) -> None:
        gate = Gate()
        live.serve(live.recording({"/slow": gate}).address)
        with live.client() as client, live.client() as idle:
            assert idle.ask().status == 200
            client.send(request(target=b"/slow"))
            gate.wait()
            status, sessions = live.proxy.ask("GET", "/v1/sessions")
            assert (status, len(sessions)) == (200, 2)
            gate.open()
            assert client.answer().status == 200


class TestHealth:
    def test_a_check_takes_a_backend_out_and_in_while_nothing_fails(self, live: Live) -> None:
        one, two = named(live, b"one"), named(live, b"two")
        check = 'check = { path = "/healthz", interval = "30ms", rise = 1, fall = 2 }'
        live.serve(*listed(one=one, two=two), pool=check)
        live.proxy.wait_for_state("one", "up")
        load = Load(live.client, clients=2, pause=0.002)
        load.go_on(10)
        one.answers = {"/healthz": Answer(503)}
        live.proxy.wait_for_state("one", "down")
        time.sleep(0.02)
        seen = len(load.answers)
        load.go_on(20)
        assert set(load.answers[seen:]) == {b"two"}
        one.answers = {}
        live.proxy.wait_for_state("one", "up")
        until(lambda: b"one" in load.answers[seen:], "it is used again")
        load.stop()

    def test_live_failures_eject_and_a_probe_brings_back(self, live: Live) -> None:
        one, two = named(live, b"one"), named(live, b"two")
        one.default = Answer(500, body=b"one")
        live.serve(
            *listed(one=one, two=two), pool='policy = "round-robin"\noutlier = { consecutive = 3, ejection = "400ms" }'
        )
        with live.client() as client:
            until(
                lambda: client.ask().status == 500 and live.proxy.backend("one")["state"] == "ejected", "it is ejected"
            )
            assert len(one.requests) == 3
            assert {client.ask().body for _ in range(6)} == {b"two"}
            one.default = Answer(body=b"one")
            until(lambda: client.ask().body == b"one", "it is tried again")
            until(lambda: client.ask() and live.proxy.backend("one")["state"] != "ejected", "it is back")
            assert {client.ask().body for _ in range(6)} == {b"one", b"two"}

    @pytest.mark.parametrize("status", [404, 429, 501, 505])
    def test_what_is_no_failure_ejects_nobody(self, live: Live, status: int) -> None:
        one, two = live.recording(default=Answer(status)), named(live, b"two")
        live.serve(*listed(one=one, two=two), pool='policy = "round-robin"\noutlier = { consecutive = 3 }')
        with live.client() as client:
            for _ in range(10):
                client.ask()
        assert len(one.wait_for(5)) == 5
        assert live.proxy.backend("one")["state"] != "ejected"

    def test_a_load_report_changes_the_weight(self, live: Live) -> None:
        words = {"one": b"100%\n", "two": b"100%\n"}

        def report(name: str) -> Callable[[socket.socket], None]:
            return lambda conn: conn.sendall(words[name])

        agents = [Backend(report("one"))]
        live.stack.callback(agents[0].stop)
        agents.append(Backend(report("two"), host="127.0.0.2", port=agents[0].port))
        live.stack.callback(agents[1].stop)
        one, two = named(live, b"one"), named(live, b"two", host="127.0.0.2")
        live.serve(
            *(f'{{ id = "{id}", address = "{at.address}", weight = 100 }}' for id, at in (("one", one), ("two", two))),
            pool=f'load_report = {{ port = {agents[0].port}, interval = "30ms" }}\npolicy = "round-robin"',
        )
        with live.client() as client:
            for said, share in ((b"25%\n", 10), (b"drain\n", 0), (b"ready 100%\n", 25), (b"down\n", 0), (b"up\n", 25)):
                words["one"] = said
                _wait_for_two_more(agents[0])
                answers = Counter(client.ask().body for _ in range(50))
                assert abs(answers[b"one"] - share) <= 1, (said, answers)
                assert answers.total() == 50
