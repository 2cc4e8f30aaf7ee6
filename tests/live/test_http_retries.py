"""What may be sent a second time and what never is, and the connections to backends that wait for the next request."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from functools import partial

import pytest

from tests.live.harness import until
from tests.live.http_peers import Answer, Asked, Do, Executions, RecordingBackend, chunked, request
from tests.live.http_scripts import OK, Brief, Gate, Live, Persistent, all_at_once, in_turn, once
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import black_hole

AGAIN = '[[route]]\nlistener = "in"\npool = "out"\nretry = "idempotent"\n'
# In the order of the file, one after the other; nobody is put out of service by what a test does to it.
IN_TURN = 'policy = "round-robin"\noutlier = false\n'


class TestNothingWasSent:
    """Class A: any method."""

    @pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH"])
    def test_a_refused_connection_leads_to_the_next_backend(self, live: Live, method: bytes) -> None:
        """B1, scenario 1"""
        good, closed = live.recording(), live.ports.reserve()
        live.serve(f"127.0.0.1:{closed}", good.address, pool=IN_TURN)
        with live.client() as client:
            assert client.ask(method, body=b"x" * 100_000).status == 200
        assert [asked.size for asked in good.wait_for(1)] == [100_000]
        record = live.record()
        assert (record["retries"], record["backend"], record["outcome"]) == (1, good.address, "ok")
        assert next((one["class"], one.get("error")) for one in record["tries"]) == ("A", "refused")

    def test_when_all_refuse_it_is_502_and_503_once_the_checks_know(self, live: Live) -> None:
        """B1, scenario 1"""
        closed = [live.ports.reserve() for _ in range(2)]
        live.serve(*(f"127.0.0.1:{port}" for port in closed), pool=IN_TURN)
        with live.client() as client:
            answer = client.ask(b"POST", body=b"x")
            assert answer.status == 502
            assert b"connection_refused" in (answer.get(b"proxy-status") or b"")
            assert client.ask().status == 502, "the connection stays"
        checked = 'check = { interval = "50ms", fall = 1 }\noutlier = false'
        live.serve(*(f"127.0.0.1:{port}" for port in closed), pool=checked)
        for port in closed:
            live.proxy.wait_for_state(f"127.0.0.1:{port}", "down")
        with live.client() as client:
            began = time.monotonic()
            answer = client.ask()
            assert time.monotonic() - began < 0.05
            assert answer.status == 503
            assert 5 <= int(answer.get(b"retry-after") or b"0") <= 10
            assert b"destination_unavailable" in (answer.get(b"proxy-status") or b"")
        assert [record["outcome"] for record in live.records(3)] == ["refused", "refused", "no_backend"]

    def test_backends_that_return_are_used_again_at_once(self, live: Live) -> None:
        """Scenario 47"""
        port = live.ports.reserve()
        live.serve(f"127.0.0.1:{port}", pool='check = { interval = "50ms", fall = 1, rise = 1 }\noutlier = false')
        live.proxy.wait_for_state(f"127.0.0.1:{port}", "down")
        with live.client() as client:
            assert client.ask().status == 503
            live.recording(port=port)
            live.proxy.wait_for_state(f"127.0.0.1:{port}", "up")
            assert client.ask().status == 200

    def test_a_connect_timeout_leads_to_the_next_backend_and_then_to_504(self, live: Live) -> None:
        """B2, scenario 2"""
        good = live.recording()
        timeouts = f'{IN_TURN}timeouts = {{ connect = "200ms" }}'
        with black_hole() as nowhere:
            live.serve(nowhere, good.address, pool=timeouts)
            with live.client() as client:
                began = time.monotonic()
                assert client.ask(b"POST", body=b"once").status == 200
                assert 0.15 < time.monotonic() - began < 0.8
            assert good.wait_for(1)[0].body == b"once"
            live.serve(nowhere, pool=timeouts)
            with live.client() as client:
                answer = client.ask(b"POST", body=b"once")
                assert answer.status == 504
                assert b"connection_timeout" in (answer.get(b"proxy-status") or b"")
        assert [record["outcome"] for record in live.records(2)] == ["ok", "connect_timeout"]
        assert live.records(2)[1]["state"][:2] == "sC"

    def test_tries_are_limited(self, live: Live) -> None:
        good = live.recording()
        closed = [f"127.0.0.1:{live.ports.reserve()}" for _ in range(4)]
        live.serve(*closed, good.address, pool=f"{IN_TURN}tries = 3")
        with live.client() as client:
            assert client.ask().status == 502
        record = live.record()
        assert [one["backend"] for one in record["tries"]] == closed[:3]
        assert good.requests == []

    def test_a_reset_at_once_is_never_an_execution_twice(self, live: Live) -> None:
        """Scenario 6: whether the reset comes before or behind the request is chance"""
        executions = Executions()
        bad, good = live.evil((Do.RESET,)), live.recording(executions=executions)
        live.serve(bad.address, good.address, pool=IN_TURN, more=AGAIN)
        with live.client() as client:
            for number in range(40):
                assert client.ask(b"GET", id=b"get%d" % number).status == 200
                assert client.ask(b"POST", body=b"x", id=b"post%d" % number).status in (200, 502)
        assert not executions.several()
        assert bad.connections >= 40


class TestAReusedConnectionThatDied:
    """Class B: idempotent requests, once, on a fresh connection to the same backend."""

    @pytest.mark.parametrize("end", [Do.FIN, Do.RESET], ids=["FIN", "reset"])
    @pytest.mark.parametrize(
        ("method", "size", "status"),
        [
            (b"GET", 0, 200),
            (b"HEAD", 0, 200),
            (b"OPTIONS", 0, 200),
            (b"DELETE", 0, 200),
            (b"PUT", 1000, 200),
            (b"PUT", 65_536, 200),
            (b"PUT", 65_537, 502),
            (b"PUT", 300_000, 502),
            (b"POST", 0, 502),
            (b"POST", 1000, 502),
            (b"PATCH", 1000, 502),
        ],
    )
    def test_the_table(self, live: Live, end: Do, method: bytes, size: int, status: int) -> None:
        """B3"""
        executions = Executions()
        backend = Mortal(live, executions, end)
        live.serve(backend.address, pool="outlier = { consecutive = 1 }")
        with live.client() as client:
            assert client.ask().status == 200
            answer = client.ask(method, target=b"/die", body=b"x" * size if size else None, id=b"one")
            assert answer.status == status
            if status == 502:
                assert b"connection_terminated" in (answer.get(b"proxy-status") or b"")
        seen = [asked for asked in backend.requests if asked.target == b"/die"]
        assert len(seen) == (2 if status == 200 else 1)
        assert seen[-1].size == (size if status == 200 else seen[-1].size)
        record = live.records(2)[1]
        assert record["tries"][0]["class"] == "B"
        assert record["tries"][0]["reused"] is True
        assert record["retries"] == len(seen) - 1
        assert live.proxy.pool()["failures_total"] == 0, "nobody is to blame"

    def test_only_once(self, live: Live) -> None:
        backend = live.evil((Do.READ_HEAD, OK, 0.2), (Do.READ_HEAD,))
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().status == 200
            time.sleep(0.1)
            assert client.ask().status == 502
        assert backend.connections == 2

    def test_a_byte_of_an_answer_forbids_it(self, live: Live) -> None:
        backend = Mortal(live, Executions(), Do.RESET, first=b"H")
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().status == 200
            assert client.ask(target=b"/die").status == 502
        assert [asked.target for asked in backend.requests] == [b"/", b"/die"]
        assert live.records(2)[1]["tries"][0]["class"] == "D"

    @pytest.mark.parametrize(("trusted", "status"), [(True, 200), (False, 502)])
    def test_an_idempotency_key_counts_where_the_route_says_so(self, live: Live, trusted: bool, status: int) -> None:
        executions = Executions()
        backend = Mortal(live, executions, Do.FIN)
        route = f'[[route]]\nlistener = "in"\npool = "out"\nidempotency_key = {str(trusted).lower()}\n'
        live.serve(backend.address, more=route)
        with live.client() as client:
            assert client.ask().status == 200
            fields = ((b"Idempotency-Key", b'"k"'),)
            assert client.ask(b"POST", b"/die", fields, b"body").status == status

    def test_a_chunked_body_is_sent_again_as_it_was(self, live: Live) -> None:
        backend = Mortal(live, Executions(), Do.FIN)
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().status == 200
            fields = ((b"Transfer-Encoding", b"chunked"),)
            assert client.ask(b"PUT", b"/die", fields, chunked(b"a" * 999, b"b")).status == 200
            assert client.ask().status == 200
        assert [asked.body for asked in backend.requests if asked.target == b"/die"][-1] == b"a" * 999 + b"b"


class TestAFreshConnectionThatDied:
    """Class C: idempotent requests where the route says so, on another backend."""

    @pytest.mark.parametrize("end", [Do.FIN, Do.RESET], ids=["FIN", "reset"])
    @pytest.mark.parametrize(
        ("method", "size", "asked_for", "status"),
        [
            (b"GET", 0, True, 200),
            (b"GET", 0, False, 502),
            (b"PUT", 1000, True, 200),
            (b"PUT", 100_000, True, 502),
            (b"POST", 1000, True, 502),
            (b"POST", 0, True, 502),
        ],
    )
    def test_the_table(self, live: Live, end: Do, method: bytes, size: int, asked_for: bool, status: int) -> None:
        executions = Executions()
        bad, good = Mortal(live, executions, end), live.recording(executions=executions)
        live.serve(bad.address, good.address, pool=IN_TURN, more=AGAIN if asked_for else "")
        with live.client() as client:
            answer = client.ask(method, b"/die", body=b"x" * size if size else None, id=b"one")
            assert answer.status == status
        assert executions.of(b"one") <= (2 if status == 200 else 1)
        assert len(good.requests) == (status == 200)
        record = live.record()
        assert record["tries"][0]["class"] == "C"
        assert record["tries"][0]["error"] == "closed"
        assert live.proxy.backend(bad.address)["failures_total"] == 1

    def test_a_late_head_is_class_c_and_else_504(self, live: Live) -> None:
        """B10, scenario 13"""
        slow, good = live.recording({"/": Gate()}), live.recording()
        late = f'{IN_TURN}timeouts = {{ response_head = "200ms" }}'
        live.serve(slow.address, good.address, pool=late, more=AGAIN)
        with live.client() as client:
            assert client.ask().status == 200
        live.serve(slow.address, pool=late, more=AGAIN)
        with live.client() as client:
            began = time.monotonic()
            assert client.ask().status == 504
            assert 0.15 < time.monotonic() - began < 0.8
            assert client.ask().status == 504, "the connection stays"
        records = live.records(3)
        assert [record["outcome"] for record in records] == ["ok", "response_timeout", "response_timeout"]
        assert (records[1]["timer"], records[1]["state"][:2]) == ("response_head", "sH")

    def test_the_budget_ends_it(self, live: Live) -> None:
        """At most three retries at once in a small pool."""
        gate = Gate()
        bad = [live.evil((Do.READ_HEAD,)) for _ in range(2)]
        good = live.recording({"/": gate})
        live.serve(*(one.address for one in bad), good.address, pool=IN_TURN, more=AGAIN)
        statuses: list[int] = []

        def ask() -> None:
            with live.client() as client:
                statuses.append(client.ask().status)
                if len(statuses) >= 9:
                    gate.open()

        threading.Timer(2.0, gate.open).start()
        all_at_once([ask] * 12)
        assert set(statuses) == {200, 502}
        assert live.proxy.pool()["retries"] == 0

    def test_statuses_are_answers_unless_the_route_lists_them(self, live: Live) -> None:
        executions = Executions()
        bad = live.recording(default=Answer(503, body=b"no"), executions=executions)
        good = live.recording(executions=executions)
        live.serve(bad.address, good.address, pool=IN_TURN, more=AGAIN)
        with live.client() as client:
            assert (client.ask().status, client.ask().status) == (503, 200)
        live.serve(bad.address, good.address, pool=IN_TURN, more=f"{AGAIN}retry_statuses = [503]\n")
        with live.client() as client:
            assert [client.ask().status for _ in range(4)] == [200] * 4
            statuses = sorted(client.ask(b"POST", body=b"x", id=b"%d" % number).status for number in range(4))
            assert 503 in statuses
        assert not executions.several()
        live.serve(bad.address, pool=IN_TURN, more=f"{AGAIN}retry_statuses = [503]\n")
        with live.client() as client:
            assert client.ask().status == 503, "the last answer is the answer"


class TestWaitingConnections:
    def test_they_are_used_last_in_first_out(self, live: Live) -> None:
        gates = [Gate(), Gate()]
        backend = live.recording({"/0": gates[0], "/1": gates[1]})
        live.serve(backend.address)
        clients = [live.client() for _ in range(2)]
        for number, client in enumerate(clients):
            client.send(request(target=b"/%d" % number))
            gates[number].wait()
        for number in (0, 1):
            gates[number].open()
            assert clients[number].answer().status == 200
        for _ in range(3):
            assert clients[0].ask().status == 200
        connections = [asked.connection for asked in backend.wait_for(5)]
        assert sorted(connections[:2]) == [1, 2]
        assert connections[2:] == [connections[1]] * 3

    @pytest.mark.parametrize(
        ("pool", "connections"),
        [
            ("http = { idle_connections = 0 }", [1, 2, 3, 4, 5]),
            ("http = { max_requests = 2 }", [1, 1, 2, 2, 3]),
            ('http = { max_life = "150ms" }', None),
            ("", [1, 1, 1, 1, 1]),
            ('send_proxy = "v1"', [1, 2, 3, 4, 5]),
        ],
    )
    def test_how_long_one_is_used(self, live: Live, pool: str, connections: list[int] | None) -> None:
        backend: RecordingBackend = ProxyReading(live) if "proxy" in pool else live.recording()
        live.serve(backend.address, pool=pool)
        with live.client() as client:
            for _ in range(5):
                assert client.ask().status == 200
                if connections is None:
                    time.sleep(0.06)
        used = [asked.connection for asked in backend.wait_for(5)]
        assert used == connections if connections else 1 < len(set(used)) < 5

    @pytest.mark.parametrize(("said", "kept"), [(b"timeout=1", False), (b"timeout=9, max=5", True), (b"junk", True)])
    def test_a_backends_word_on_its_patience_is_heeded(self, live: Live, said: bytes, kept: bool) -> None:
        """B16"""
        backend = live.recording(default=Answer(fields=((b"Keep-Alive", said),)))
        live.serve(backend.address)
        with live.client() as client:
            assert (client.ask().status, client.ask().status) == (200, 200)
        assert [asked.connection for asked in backend.wait_for(2)] == [1, 1 if kept else 2]

    def test_one_is_closed_after_its_time(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, pool='timeouts = { backend_idle = "300ms" }')
        with live.client() as client:
            assert client.ask().status == 200
            assert backend.open == 1
            until(lambda: backend.open == 0, "it is closed", 2.0)
            assert client.ask().status == 200

    def test_a_post_does_not_trust_a_connection_that_was_idle_for_a_second(self, live: Live) -> None:
        """Section 3, rule 3"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().status == 200
            assert client.ask(b"POST", body=b"x").status == 200
            time.sleep(1.1)
            assert client.ask(b"POST", body=b"x").status == 200
        assert [asked.connection for asked in backend.wait_for(3)] == [1, 1, 2]

    @pytest.mark.parametrize("said", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", OK, b"\x00", b"x" * 100_000])
    def test_what_a_waiting_connection_says_is_nobodys_answer(self, live: Live, said: bytes) -> None:
        """B13, B14, scenario 19"""
        backend = live.evil(once(OK, 0.05, said, 1.0), once(OK, 1.0))
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().body == b"ok"
            time.sleep(0.1)
            assert client.ask(b"POST", body=b"x").body == b"ok"
        assert backend.connections == 2

    def test_two_answers_to_one_request_are_one(self, live: Live) -> None:
        """B14, scenario 12"""
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
        backend = live.evil(once(OK + wrong, 1.0), once(OK, 1.0))
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().body == b"ok"
            assert client.ask().body == b"ok"
            client.send(b"")
        assert backend.connections == 2

    def test_a_backend_that_closes_at_the_very_moment_costs_no_idempotent_request(self, live: Live) -> None:
        """Scenario 7: it closes after 4 ms without a request; requests come 3 to 5 ms apart"""
        executions: list[bytes] = []
        backend = Brief(0.004, executions)
        live.stack.callback(backend.stop)
        live.serve(backend.address, pool="outlier = false")
        lost: list[bool] = []

        def ask(seed: int) -> None:
            client = Persistent(live)
            for number in range(100):
                assert client.ask(id=b"get%d-%d" % (seed, number)).status == 200
                time.sleep(0.003 + 0.002 * (number * 7919 % 100) / 100)
                status = client.ask(b"POST", body=b"x", id=b"post%d-%d" % (seed, number)).status
                assert status in (200, 502)
                lost.append(status == 502)
                time.sleep(0.003 + 0.002 * (number * 104_729 % 100) / 100)

        all_at_once([partial(ask, seed) for seed in range(4)])
        posts = Counter(id for id in executions if id.startswith(b"post"))
        assert max(posts.values()) == 1
        assert sum(lost) < len(lost) / 4
        assert live.proxy.pool()["reuses_total"] > 0


class TestNothingTwice:
    def test_no_post_is_carried_out_twice_whatever_backends_do(self, live: Live) -> None:
        """Scenario 79"""
        executions = Executions()
        ends = (Do.FIN, Do.RESET)
        bad = [Mortal(live, executions, end, often=3).address for end in ends]
        good = live.recording(executions=executions, most=3, idle=0.01)
        failing = live.recording(in_turn(Answer(503), Answer(), Answer(502)), executions=executions)
        live.serve(
            *bad,
            good.address,
            failing.address,
            f"127.0.0.1:{live.ports.reserve()}",
            pool=IN_TURN,
            more=f"{AGAIN}retry_statuses = [502, 503]\n",
        )
        seen: list[int] = []

        def ask(seed: int) -> None:
            client = Persistent(live)
            for number in range(60):
                body = b"x" * (number * 997 % 70_000)
                target = b"/die" if number % 3 == 0 else b"/"
                seen.append(client.ask(b"POST", target, body=body, id=b"%d-%d" % (seed, number)).status)

        all_at_once([partial(ask, seed) for seed in range(4)])
        assert not executions.several()
        assert set(seen) <= {200, 502, 503}
        assert seen.count(200) > 100


class Mortal:
    """A RecordingBackend that carries out a request for "/die" and then ends the connection without an answer.

    The first such request of each connection dies, `often` times in all; others are answered. `first` is sent before.
    """

    def __init__(self, live: Live, executions: Executions, end: Do, *, first: bytes = b"", often: int = 1) -> None:
        self._left = often
        self._lock = threading.Lock()
        self._dying = Answer(raw=first, end="reset" if end is Do.RESET else "close")
        self._backend: RecordingBackend = live.recording(self._choose, executions=executions)
        self.address = self._backend.address

    @property
    def requests(self) -> list[Asked]:
        return self._backend.requests

    def _choose(self, asked: Asked) -> Answer:
        if asked.target != b"/die":
            return Answer()
        with self._lock:
            self._left -= 1
            return self._dying if self._left >= 0 else Answer()


class ProxyReading(RecordingBackend):
    """A RecordingBackend behind a PROXY header of version 1."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        live.stack.callback(self.stop)

    def _begin(self, conn: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += conn.recv(1)
        assert line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 "), line
        super()._begin(conn)
