"""The clocks of HTTP, scaled down: what each one ends, when, and with which word; and clients that come in hoards."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from itertools import repeat

import pytest

from tests.live.harness import until
from tests.live.http_peers import Do, request
from tests.live.http_scripts import OK, Gate, Live, Pushing, all_at_once, large, rest_of
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE

# The wheel turns in steps of 0.1 s and asks at most two of them late; the rest is for a busy machine.
LATE = 0.7


class Clock:
    """Whether what happens within takes `seconds`, and not much more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *problem: object) -> None:
        if problem[0] is None:
            took = time.monotonic() - self._began
            assert self._seconds - 0.05 <= took < self._seconds + LATE, took


class TestHeads:
    LIMIT = 'timeouts = { request_head = "400ms", client_idle = "600ms" }'

    @pytest.mark.parametrize("first", [True, False])
    def test_a_slow_head_is_408_in_total(self, live: Live, first: bool) -> None:
        """W1: not per byte"""
        live.serve(live.recording().address, listener=self.LIMIT)
        with live.client() as client:
            if not first:
                assert client.ask().status == 200
                time.sleep(0.3)
            going = threading.Event()

            def drip() -> None:
                for byte in request(fields=((b"X-Long", b"x" * 100),)):
                    if going.wait(0.05):
                        return
                    with suppress(OSError):
                        client.sock.sendall(bytes((byte,)))

            dripping = threading.Thread(target=drip)
            with Clock(0.4 if first else 0.45):
                dripping.start()
                answer = client.answer()
            assert (answer.status, answer.get(b"connection")) == (408, b"close")
            going.set()
            dripping.join()
        record = live.records(1 if first else 2)[-1]
        assert (record["outcome"], record["state"][:2]) == ("head_timeout", "cR")
        assert (record["timer"], record["rule"]) == ("request_head", "W1")

    def test_silence_at_first_is_closed_without_a_word(self, live: Live) -> None:
        """W4"""
        live.serve(live.recording().address, listener=self.LIMIT)
        with live.client() as client, Clock(0.4):
            assert client.was_closed()

    def test_silence_between_requests_is_closed_without_a_word(self, live: Live) -> None:
        """W5"""
        live.serve(live.recording().address, listener=self.LIMIT)
        with live.client() as client:
            for _ in range(3):
                assert client.ask().status == 200
                time.sleep(0.3)
            with Clock(0.3):
                assert client.was_closed()
        assert len(live.records(3)) == 3

    def test_a_second_head_has_all_of_its_time(self, live: Live) -> None:
        live.serve(live.recording().address, listener=self.LIMIT)
        with live.client() as client:
            assert client.ask().status == 200
            time.sleep(0.45)
            whole = request()
            client.send(whole[:10])
            time.sleep(0.25)
            client.send(whole[10:])
            assert client.answer().status == 200

    def test_five_hundred_slow_heads_and_bodies_harm_nobody(self, live: Live) -> None:
        """Scenarios 20 and 21, smaller"""
        backend = live.recording()
        live.serve(
            backend.address,
            listener=self.LIMIT,
            pool='timeouts = { request_body_idle = "400ms" }\nmax_active = "none"',
        )
        slow = [live.client() for _ in range(500)]
        for number, client in enumerate(slow):
            client.send(b"GET / HT" if number % 2 else request(b"POST", fields=((b"Content-Length", b"9"),)))
        with ExitStack() as stack:
            for client in slow:
                stack.callback(client.close)
            with live.client() as client:
                for _ in range(50):
                    began = time.monotonic()
                    assert client.ask().status == 200
                    assert time.monotonic() - began < 2.0  # of a machine that may be busy with other tests
            for client in slow:
                assert client.answer().status == 408
        assert not any(asked.complete for asked in backend.requests if asked.method == b"POST")


class TestBodies:
    @pytest.mark.parametrize("fields", [((b"Content-Length", b"10"),), ((b"Transfer-Encoding", b"chunked"),)])
    def test_a_body_that_stops_is_408(self, live: Live, fields: tuple[tuple[bytes, bytes]]) -> None:
        """W2, F18"""
        backend = live.recording()
        live.serve(backend.address, pool='timeouts = { request_body_idle = "300ms" }')
        with live.client() as client:
            client.send(request(b"POST", b"/", fields, b"5\r\nabcde"))
            with Clock(0.3):
                answer = client.answer()
            assert (answer.status, answer.get(b"connection")) == (408, b"close")
            assert client.was_closed()
        record = live.record()
        assert (record["outcome"], record["state"][:2]) == ("body_timeout", "cH")
        assert (record["timer"], record["rule"]) == ("request_body_idle", "W2")
        assert not any(asked.complete for asked in backend.requests)
        until(lambda: backend.open == 0, "the backend's connection is reset", 1.0)

    def test_each_byte_counts(self, live: Live) -> None:
        live.serve(live.recording().address, pool='timeouts = { request_body_idle = "300ms" }')
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"6"),)))
            for _ in range(6):
                time.sleep(0.15)
                client.send(b"x")
            assert client.answer().status == 200

    def test_our_own_pauses_do_not_count(self, live: Live) -> None:
        """W2: the backend is slow to read, not the client to send"""

        def slow(conn: socket.socket) -> None:
            time.sleep(0.7)
            left = 8_000_000 + 500
            while left > 500 and (data := conn.recv(1 << 20)):
                left -= len(data)
            conn.sendall(OK)

        live.serve(live.scripted(slow).address, pool='timeouts = { request_body_idle = "300ms" }')
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"8000000"),)))
            client.sock.sendall(b"x" * 8_000_000)
            assert client.answer().status == 200

    def test_a_streaming_route_waits_for_bodies(self, live: Live) -> None:
        """W2"""
        route = '[[route]]\nlistener = "in"\npool = "out"\nstreaming = true\n'
        live.serve(live.recording().address, more=f'{route}timeouts = {{ request_body_idle = "200ms" }}\n')
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"2"),)))
            time.sleep(0.6)
            client.send(b"ok")
            assert client.answer().status == 200

    def test_a_backend_that_does_not_take_the_request_is_given_up(self, live: Live) -> None:
        """`write_stall` towards the backend"""
        over = threading.Event()
        live.stack.callback(over.set)
        backend = live.scripted(lambda conn: _until(over))
        live.serve(backend.address, pool='timeouts = { write_stall = "400ms" }')
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"50000000"),)))
            sending = Pushing(client, repeat(b"x" * 65_536, 700))
            began = time.monotonic()
            assert client.answer().status == 504
            assert time.monotonic() - began < 2.5
            sending.hang_up()
        assert live.record()["timer"] == "write_stall"


class TestAnswers:
    def test_a_head_that_does_not_come_is_504(self, live: Live) -> None:
        """Scenario 13"""
        gate = Gate()
        backend = live.recording({"/": gate})
        live.serve(backend.address, pool='timeouts = { response_head = "300ms" }\nmax_active = 1')
        with live.client() as client:
            with Clock(0.3):
                answer = client.ask()
            assert (answer.status, answer.get(b"connection")) == (504, None)
            assert b"http_response_timeout" in (answer.get(b"proxy-status") or b"")
            assert live.proxy.pool()["active"] == 0
            until(lambda: backend.open <= 1, "its connection is closed")
            assert client.ask(target=b"/else").status == 200
            gate.open()

    def test_the_time_of_the_head_begins_behind_the_body(self, live: Live) -> None:
        live.serve(live.recording().address, pool='timeouts = { response_head = "300ms" }')
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"2"),)) + b"o")
            time.sleep(0.6)
            client.send(b"k")
            assert client.answer().status == 200

    def test_a_client_that_does_not_read_is_cut(self, live: Live) -> None:
        """W3"""
        backend = live.recording(default=large(50_000_000))
        live.serve(backend.address, pool='timeouts = { write_stall = "400ms" }')
        with live.client(receive_buffer=4096) as client:
            client.send(request())
            assert client.take(10)
            record = live.record()
            assert (record["outcome"], record["timer"]) == ("write_stall", "write_stall")
            _, was_reset = rest_of(client.sock)
            assert was_reset
            assert record["bytes_out"] < 50_000_000
        until(lambda: backend.open == 0, "the backend is free", 1.0)

    def test_a_client_that_reads_slowly_but_does_is_not(self, live: Live) -> None:
        """W3: progress is what counts, not speed"""
        backend = live.recording(default=large(2_000_000))
        live.serve(backend.address, pool='timeouts = { write_stall = "400ms", response_body_idle = "400ms" }')
        with live.client(receive_buffer=32_768) as client:
            client.send(request())
            count, began = 0, time.monotonic()
            while count < 2_000_000:
                data = client.sock.recv(60_000)
                assert data
                count += len(data)
                time.sleep(0.03)
            assert time.monotonic() - began > 0.8
        assert live.record()["outcome"] == "ok"

    def test_a_small_answer_to_a_client_that_does_not_read_ends_too(self, live: Live) -> None:
        """Answers of ours as well: they are pipelined until nothing is taken any more"""
        port = live.ports.reserve()
        live.port = port
        text = f'[[listener]]\nname = "in"\nbind = "127.0.0.1:{port}"\nprotocol = "http"\n'
        text += 'timeouts = { write_stall = "400ms" }\n'
        text += '[[route]]\nlistener = "in"\nanswer = { body = "' + "x" * 60_000 + '" }\n'
        live.serve_text(text)
        with live.client(receive_buffer=4096) as client:
            client.send(request() * 200)
            until(lambda: live.proxy.status()["sessions"] == 0, "it is cut", 3.0)
            _, was_reset = rest_of(client.sock)
            assert was_reset
        assert live.proxy.status()["held_bytes"] == 0


class TestManyAtOnce:
    def test_clients_that_come_and_go_leave_nothing(self, live: Live) -> None:
        """Scenario 48, smaller: the backend goes away and returns under load"""
        port = live.ports.reserve()
        first = live.recording(port=port)
        live.serve(first.address, pool="outlier = false")
        statuses: list[int] = []
        ends = threading.Event()

        def go() -> None:
            with live.client() as client:
                while not ends.is_set():
                    try:
                        statuses.append(client.ask().status)
                    except OSError:
                        statuses.append(0)
                        return
                    time.sleep(0.002)

        def restart() -> None:
            time.sleep(0.2)
            first.stop()
            time.sleep(0.2)
            live.recording(port=port)
            time.sleep(0.2)
            ends.set()

        all_at_once([restart, *[go] * 20])
        # A stop between head and body of an answer cuts it.
        assert {200, 502} <= set(statuses) <= {200, 502, 0}
        assert statuses.count(0) <= 2
        assert statuses[-20:] == [200] * 20

    def test_a_silent_backend_harms_no_other(self, live: Live) -> None:
        """Scenario 4: it is stopped, its kernel still accepts"""
        silent, good = live.evil((Do.READ_ALL,)), live.recording()
        pool = 'timeouts = { response_head = "300ms" }\noutlier = { consecutive = 3 }'
        live.serve(silent.address, good.address, pool=pool)
        statuses: list[int] = []

        def go() -> None:
            with live.client() as client:
                statuses.extend(client.ask().status for _ in range(30))

        all_at_once([go] * 4)
        assert 3 <= statuses.count(504) <= 10
        assert statuses.count(200) == 120 - statuses.count(504)
        assert live.proxy.backend(silent.address)["state"] == "ejected"


def _until(over: threading.Event) -> None:
    """A backend that does nothing at all until the test is over."""
    over.wait(PATIENCE)
