"""What a client is told: heads and their framing, bodies of all kinds, back-pressure, bulk, ends and cuts."""

from __future__ import annotations

import random
import socket

import pytest

from lbproxy.session.phases import OVER
from tests.net.http1.http_rig import GET, OK, HttpRig, dechunked, head_and_body, http_rig
from tests.net.net_rig import put, reset, take_all, turn

DATE = b"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n"
OLD_KEEP = b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")


def asked(rig: HttpRig, request: bytes = GET, send: int = 0, receive: int = 0) -> tuple[socket.socket, socket.socket]:
    """A client whose request has reached the backend; both their ends."""
    _, client = rig.client(send, receive)
    put(client, request)
    backend = rig.answered_by()
    rig.hears(backend)
    return client, backend


def until_told(rig: HttpRig) -> None:
    """Let the clock go on until there is a record."""

    def is_there() -> bool:
        rig.passes(0.1)
        return bool(rig.told)

    turn(rig.reactor, is_there)


def told(lines: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + DATE + lines + b"\r\n" + body


class TestHeads:
    def test_fields_go_as_they_came_and_framing_is_ours(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            named = b"Connection: keep-alive, X-b\r\nX-b: 2\r\nKeep-Alive: timeout=9\r\n"
            put(backend, told(b"X-a: 1\r\n" + named + b"Content-Length: 02\r\n", b"ok"))
            assert rig.hears(client, b"ok") == told(b"X-a: 1\r\nContent-Length: 2\r\n", b"ok")

    def test_a_date_is_added_where_there_is_none(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, OK)
            heard = rig.hears(client, b"ok")
            assert heard == b"HTTP/1.1 200 OK\r\n" + rig.worker.date() + b"Content-Length: 2\r\n\r\nok"

    def test_equal_answers_differ_where_the_requests_do(self) -> None:
        answer = told(b"Content-Length: 2\r\n", b"ok")
        last = GET[:-2] + b"Connection: close\r\n\r\n"
        with http_rig() as rig:
            rig.backends()
            backend = None
            for request, says in ((last, True), (GET, False), (last, True), (OLD_KEEP, False), (GET, False)):
                _, client = rig.client()
                put(client, request)
                backend = backend or rig.answered_by()
                rig.hears(backend)
                put(backend, answer)
                heard = rig.hears(client, b"ok")
                assert (b"\r\nConnection: close\r\n" in heard) is says
                assert (b"\r\nConnection: keep-alive\r\n" in heard) is (request is OLD_KEEP)
                turn(rig.reactor)

    def test_a_head_may_come_byte_by_byte(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            answer = told(b"Content-Length: 2\r\n", b"ok")
            for place in range(len(answer)):
                put(backend, answer[place : place + 1])
                turn(rig.reactor)
            assert rig.hears(client, b"ok") == answer

    def test_a_head_goes_on_before_its_body_has_come(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"Content-Length: 2\r\n"))
            assert rig.hears(client) == told(b"Content-Length: 2\r\n")
            put(backend, b"ok")
            assert rig.hears(client, b"ok") == b"ok"
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].bytes_out == len(told(b"Content-Length: 2\r\n", b"ok"))

    @pytest.mark.parametrize(
        ("answer", "rule", "outcome"),
        [
            (b"HELLO\r\n\r\n", "B8", "bad_response"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "B7", "bad_response"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 17_000, "B9", "response_head_large"),
        ],
    )
    def test_what_is_no_answer_is_502(self, answer: bytes, rule: str, outcome: str) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, answer)
            turn(rig.reactor, lambda: rig.told)
            assert take_all(client)[0].startswith(b"HTTP/1.1 502 ")
            assert (rig.told[0].rule, rig.told[0].outcome) == (rule, outcome)
            assert rig.worker.idle.count == 0

    def test_interim_answers_go_before_it(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            put(backend, early + told(b"Content-Length: 2\r\n", b"ok"))
            assert rig.hears(client, b"ok") == early + told(b"Content-Length: 2\r\n", b"ok")

    def test_an_old_client_hears_no_interim_answer(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, OLD)
            put(backend, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
            assert rig.hears_all(client).count(b"HTTP/1.1") == 1


class TestBodies:
    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 900_000])
    def test_a_body_of_known_length(self, size: int) -> None:
        body = random.Random(size).randbytes(size)
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            whole = told(b"Content-Length: %d\r\n" % size, body)
            left = memoryview(whole)
            got = bytearray()

            def through() -> bool:
                nonlocal left
                left = left[put(backend, bytes(left[:262_144])) :]
                got.extend(take_all(client)[0])
                return len(got) >= len(whole)

            turn(rig.reactor, through)
            assert bytes(got) == whole
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].bytes_out == len(whole)
            assert rig.worker.pipes.in_use == 0
            rig.exchange(client, backend=backend)

    def test_the_part_of_a_chunk_that_is_there_does_not_wait_for_the_rest(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\na\r\nhalf "))
            assert dechunked(rig.hears(client, b"half \r\n").partition(b"\r\n\r\n")[2] + b"0\r\n\r\n") == b"hellohalf "
            put(backend, b"of it\r\n0\r\n\r\n")
            assert dechunked(rig.hears(client, b"0\r\n\r\n")) == b"of it"
            rig.exchange(client, backend=backend)

    @pytest.mark.parametrize("step", [1, 9, 1000])
    @pytest.mark.parametrize("trailers", [True, False])
    def test_a_body_in_chunks(self, step: int, trailers: bool) -> None:
        body = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n" + (b"X-Trailer: 1\r\n" if trailers else b"") + b"\r\n"
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"Transfer-Encoding: chunked\r\n"))
            assert rig.hears(client) == told(b"Transfer-Encoding: chunked\r\n")
            for start in range(0, len(body), step):
                put(backend, body[start : start + step])
                turn(rig.reactor)
            heard = rig.hears(client, b"0\r\n\r\n")
            assert dechunked(heard) == b"hello world"
            assert b"Trailer" not in heard
            rig.exchange(client, backend=backend)

    def test_trailers_reach_a_client_that_wants_them(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, GET[:-2] + b"TE: trailers\r\nConnection: TE\r\n\r\n")
            put(
                backend,
                told(b"Transfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n"),
            )
            heard = rig.hears(client, b"\r\n\r\n")
            if heard.endswith(b"chunked\r\n\r\n"):
                heard += rig.hears(client, b"\r\n\r\n")
            assert heard.endswith(b"0\r\nX-Sum: 7\r\n\r\n"), "but none that says how long a message is"

    def test_a_body_that_ends_with_its_connection_is_in_chunks(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"", b"hello"))
            turn(rig.reactor)
            put(backend, b" world")
            turn(rig.reactor)
            backend.close()
            head, body = head_and_body(rig.hears(client, b"0\r\n\r\n"))
            assert head == told(b"Transfer-Encoding: chunked\r\n")
            assert dechunked(body) == b"hello world"
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "ok"
            assert rig.worker.idle.count == 0
            rig.exchange(client)

    def test_a_body_that_ends_with_its_connection_may_be_empty(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b""))
            backend.close()
            assert rig.hears(client, b"0\r\n\r\n") == told(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n")
            rig.exchange(client)

    @pytest.mark.parametrize(
        "answer",
        [
            told(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
            told(b"Connection: close\r\n", b"hello world"),
        ],
    )
    @pytest.mark.parametrize("request_", [OLD, OLD_KEEP])
    def test_an_old_client_gets_it_as_it_is_and_then_the_end(self, answer: bytes, request_: bytes) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, request_)
            put(backend, answer)
            turn(rig.reactor)
            backend.close()
            head, body = head_and_body(rig.hears_all(client))
            assert body == b"hello world"
            assert b"Transfer-Encoding" not in head
            assert b"\r\nConnection: close\r\n" in head
            assert rig.told[0].outcome == "ok"

    def test_an_old_client_may_stay_where_the_length_is_known(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, OLD_KEEP)
            put(backend, OK)
            assert b"\r\nConnection: keep-alive\r\n" in rig.hears(client, b"ok")
            rig.exchange(client, OLD_KEEP, backend=backend)

    @pytest.mark.parametrize(
        "lines",
        [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"", b"Content-Length: 0\r\n"],
    )
    def test_an_answer_to_head_has_no_body_and_the_next_is_in_step(self, lines: bytes) -> None:
        """In whatever order GET and HEAD are answered with the very same head."""
        body = b"hello"
        if b"chunked" in lines:
            body = b"5\r\nhello\r\n0\r\n\r\n"
        elif lines == b"Content-Length: 0\r\n":
            body = b""
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            for method in (HEAD, GET, HEAD, GET):
                put(client, method)
                if not rig.worker.idle.count:
                    backend = rig.answered_by()
                rig.hears(backend)
                put(backend, told(lines) if method is HEAD else told(lines, body))
                if not lines and method is GET:
                    turn(rig.reactor)
                    backend.close()
                end = body[-5:] if lines else b"0\r\n\r\n"
                heard = rig.hears(client, b"\r\n\r\n" if method is HEAD or not body else end)
                head, rest = head_and_body(heard)
                if method is HEAD:
                    assert rest == b""
                    assert lines in head
                elif lines.startswith(b"Content-Length"):
                    assert (lines in head, rest) == (True, body)
                else:
                    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
                    assert dechunked(rest) == b"hello"
                turn(rig.reactor, lambda: rig.worker.sessions()[0].exchange is None)  # type: ignore[attr-defined]  # a conversation
            assert [record.status for record in rig.told] == [200] * 4

    @pytest.mark.parametrize(("status", "length"), [(204, b""), (304, b"Content-Length: 5\r\n"), (304, b"")])
    def test_statuses_without_a_body(self, status: int, length: bytes) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            answer = b"HTTP/1.1 %d X\r\n%b%b\r\n" % (status, DATE, length)
            put(backend, answer)
            assert rig.hears(client) == answer
            rig.exchange(client, backend=backend)

    def test_one_that_announces_a_body_all_the_same_is_not_asked_again(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, b"HTTP/1.1 204 X\r\n%bContent-Length: 5\r\n\r\n" % DATE)
            assert rig.hears(client) == b"HTTP/1.1 204 X\r\n%b\r\n" % DATE
            assert rig.hears_all(backend) == b""
            rig.exchange(client)


class TestBulk:
    def test_it_ends_exactly_where_the_body_does(self) -> None:
        size = 1_500_000
        body = random.Random(3).randbytes(size)
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            left = memoryview(told(b"Content-Length: %d\r\n" % size, body + b"HTTP/1.1 200 OK\r\n\r\n"))
            got = bytearray()
            piped = False

            def through() -> bool:
                nonlocal left, piped
                left = left[put(backend, bytes(left[:262_144])) :]
                got.extend(take_all(client)[0])
                piped = piped or rig.worker.pipes.in_use > 0
                return bool(rig.told) and not left

            turn(rig.reactor, through)
            got.extend(take_all(client)[0])
            assert head_and_body(bytes(got))[1] == body
            assert piped
            turn(rig.reactor)
            assert rig.worker.idle.count == 0, "whoever says more than it should is not asked again"
            assert rig.told[0].bytes_out == len(got)
            rig.exchange(client)

    def test_a_slow_client_holds_the_backend_up(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, send=8192, receive=8192)
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            size = 12_000_000
            put(backend, told(b"Content-Length: %d\r\n" % size))
            body = random.Random(6).randbytes(size)
            sent = 0

            def held() -> bool:
                nonlocal sent
                sent += put(backend, body[sent : sent + 262_144])
                return rig.worker.budget.used > 0

            turn(rig.reactor, held)
            turn(rig.reactor)
            assert sent < size
            assert 0 < rig.worker.budget.used <= 1 << 19
            got = bytearray()

            def some() -> bool:
                got.extend(take_all(client)[0])
                return len(got) > 60_000

            turn(rig.reactor, some)
            assert body.startswith(head_and_body(bytes(got))[1])
            reset(client)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "client_gone"
            assert rig.told[0].bytes_out < size
            assert rig.worker.budget.used == 0

    @pytest.mark.parametrize("chunked", [True, False])
    def test_a_client_that_reads_after_all_is_there_gets_all(self, chunked: bool) -> None:
        size = 150_000
        body = random.Random(7).randbytes(size)
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, send=8192, receive=8192)
            wire = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if chunked else body
            lines = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % size
            rig.sends(backend, told(lines, wire))
            turn(rig.reactor)
            got = bytearray()

            def all_of_it() -> bool:
                got.extend(take_all(client)[0])
                return bool(rig.told)

            turn(rig.reactor, all_of_it)
            got.extend(take_all(client)[0])
            rest = head_and_body(bytes(got))[1]
            assert (dechunked(rest) if chunked else rest) == body
            assert rig.told[0].outcome == "ok"


class TestEnds:
    @pytest.mark.parametrize(
        "answer",
        [told(b"Content-Length: 10\r\n", b"hello"), told(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n")],
    )
    @pytest.mark.parametrize("how", ["fin", "reset"])
    def test_an_answer_that_is_cut_is_no_whole_one(self, answer: bytes, how: str) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            client, backend = asked(rig)
            put(backend, answer)
            rig.hears(client, b"hello\r\n" if b"chunked" in answer else b"hello")
            if how == "fin":
                backend.close()
            else:
                reset(backend)
            with pytest.raises(ConnectionResetError):
                rig.hears_all(client)
            assert (rig.told[0].outcome, rig.told[0].rule) == ("backend_cut", "B5")
            assert pool.backends["b0"].failures_total == 1

    def test_a_reset_cuts_a_body_that_would_end_with_its_connection(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"", b"hello"))
            rig.hears(client, b"hello\r\n")
            reset(backend)
            with pytest.raises(ConnectionResetError):
                rig.hears_all(client)
            assert rig.told[0].outcome == "backend_cut"

    def test_chunks_that_are_none_cut_the_answer(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"))
            rig.hears(client, b"hello\r\n")
            put(backend, b"zz\r\n")
            with pytest.raises(ConnectionResetError):
                rig.hears_all(client)
            assert (rig.told[0].outcome, rig.told[0].state) == ("bad_response", "PD--")

    def test_a_backend_that_closes_without_an_answer_is_502(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            backend.close()
            assert b"HTTP/1.1 502 " in rig.hears(client, b"\n", most=1 << 16)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "backend_closed"
            put(client, GET)
            rig.hears(rig.answered_by())

    def test_a_client_that_leaves_frees_the_backend_at_once(self) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"Content-Length: 10\r\n", b"hello"))
            rig.hears(client, b"hello")
            reset(client)
            turn(rig.reactor, lambda: rig.told)
            assert pool.active == 0
            assert rig.hears_all(backend) == b""
            assert (rig.told[0].outcome, rig.told[0].state) == ("client_gone", "CD--")

    def test_a_client_that_half_closes_is_answered(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig)
            client.shutdown(socket.SHUT_WR)
            turn(rig.reactor)
            put(backend, OK)
            assert rig.hears_all(client).endswith(b"ok")
            assert rig.told[0].outcome == "ok"

    def test_an_idle_client_is_closed_with_fin(self) -> None:
        with http_rig(client_idle=3) as rig:
            rig.backends()
            conversation, client = rig.client()
            rig.exchange(client)
            rig.passes(3.3)
            assert conversation.phase == OVER
            assert take_all(client) == (b"", True)

    def test_a_stopping_listener_says_so_with_its_last_answer(self) -> None:
        with http_rig() as rig:
            rig.backends()
            conversation, client = rig.client()
            put(client, GET)
            backend = rig.answered_by()
            rig.hears(backend)
            conversation.drain()
            put(backend, OK)
            assert b"\r\nConnection: close\r\n" in rig.hears_all(client)


class TestClocks:
    """That the clocks of exchanges see what happens on real connections."""

    def test_a_client_that_reads_nothing_is_cut(self) -> None:
        with http_rig(write_stall=4, response_body_idle=600) as rig:
            rig.backends()
            client, backend = asked(rig, send=8192, receive=8192)
            put(backend, told(b"Content-Length: 9000000\r\n"))

            def held() -> bool:
                put(backend, bytes(262_144))
                return rig.worker.budget.used > 0

            turn(rig.reactor, held)
            turn(rig.reactor)
            rig.passes(3.5)
            assert rig.told == []
            rig.passes(3)
            assert (rig.told[0].timer, rig.told[0].state) == ("write_stall", "cD--")
            assert rig.worker.budget.used == 0
            assert client.fileno() >= 0

    def test_one_that_reads_a_little_now_and_then_is_not(self) -> None:
        with http_rig(write_stall=4, response_body_idle=600) as rig:
            rig.backends()
            client, backend = asked(rig, send=8192, receive=8192)
            put(backend, told(b"Content-Length: 9000000\r\n"))

            def held() -> bool:
                put(backend, bytes(262_144))
                return rig.worker.budget.used > 0

            turn(rig.reactor, held)
            for _ in range(6):
                rig.passes(2)
                got = 0
                while got < 20_000:
                    turn(rig.reactor)
                    got += len(take_all(client, 20_000 - got)[0])
            assert rig.told == []
            reset(client)
            turn(rig.reactor, lambda: rig.told)

    def test_a_backend_that_says_nothing_more_is_cut(self) -> None:
        with http_rig(response_body_idle=4) as rig:
            rig.backends()
            client, backend = asked(rig)
            put(backend, told(b"Content-Length: 10\r\n", b"01"))
            rig.hears(client, b"01")
            rig.passes(3)
            put(backend, b"23")
            rig.hears(client, b"23")
            rig.passes(3.5)
            assert rig.told == []
            rig.passes(1)
            assert rig.told[0].timer == "response_body_idle"
            with pytest.raises(ConnectionResetError):
                rig.hears_all(client)

    def test_a_backend_that_does_not_answer_is_504(self) -> None:
        with http_rig(response_head=4) as rig:
            rig.backends()
            client, _ = asked(rig)
            rig.passes(4.4)
            assert rig.told[0].timer == "response_head"
            assert take_all(client)[0].startswith(b"HTTP/1.1 504 ")

    def test_a_body_that_does_not_come_is_408(self) -> None:
        with http_rig(request_body_idle=4) as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01")
            backend = rig.answered_by()
            rig.hears(backend, b"01")
            rig.passes(3)
            put(client, b"23")
            rig.hears(backend, b"23")
            rig.passes(3.5)
            assert rig.told == []
            rig.passes(1)
            assert rig.told[0].timer == "request_body_idle"
            assert rig.hears_all(client).startswith(b"HTTP/1.1 408 ")

    def test_what_we_do_not_read_is_nobodys_fault(self) -> None:
        with http_rig(request_body_idle=4, write_stall=60, response_head=600) as rig:
            rig.backends(receive=8192)
            _, client = rig.client()
            put(client, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 12000000\r\n\r\n")
            backend = rig.answered_by()
            rig.hears(backend)

            def held() -> bool:
                put(client, bytes(262_144))
                return rig.worker.budget.used > 0

            turn(rig.reactor, held)
            rig.passes(40)
            assert rig.told == []
            reset(backend)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].status == 502


class TestTunnels:
    ASK = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    CHANGE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + DATE + b"\r\n"

    def tunnel(self, rig: HttpRig, early: bytes = b"", first: bytes = b"") -> tuple[socket.socket, socket.socket]:
        client, backend = asked(rig, self.ASK + early)
        put(backend, self.CHANGE + first)
        heard = rig.hears(client, b"\r\n\r\n" + first)
        assert heard.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: websocket\r\n" in heard
        return client, backend

    def test_bytes_go_both_ways_as_they_come(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = self.tunnel(rig)
            put(client, b"\x81\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n")
            assert rig.hears(backend) == b"\x81\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n"
            put(backend, b"\x00pong")
            assert rig.hears(client, b"pong") == b"\x00pong"
            client.close()
            rig.hears_all(backend)
            backend.close()
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].status == 101

    def test_what_came_before_and_behind_the_change_is_not_lost(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = self.tunnel(rig, early=b"early", first=b"first")
            assert rig.hears(backend, b"early") == b"early"
            reset(client)
            until_told(rig)
            assert rig.told[0].outcome == "client_gone"

    def test_nothing_of_it_reaches_a_backend_that_did_not_change(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = asked(rig, self.ASK + GET)
            put(backend, OK)
            assert rig.hears_all(client).endswith(b"ok")
            turn(rig.reactor)
            assert take_all(backend)[0] == b""
            assert len(rig.told) == 1

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_reset_is_carried_over(self, who: str) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            client, backend = self.tunnel(rig)
            put(client, b"x")
            rig.hears(backend, b"x")
            reset(client if who == "client" else backend)
            until_told(rig)
            with pytest.raises(ConnectionResetError):
                rig.hears_all(backend if who == "client" else client)
            assert rig.told[0].outcome == ("client_gone" if who == "client" else "backend_cut")
            assert pool.active == 0

    def test_a_silent_one_is_closed(self) -> None:
        with http_rig(tunnel_idle=20) as rig:
            rig.backends()
            self.tunnel(rig)
            rig.passes(21)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].timer == "tunnel_idle"

    def test_its_bytes_are_in_the_record(self) -> None:
        with http_rig() as rig:
            rig.backends()
            client, backend = self.tunnel(rig)
            put(client, bytes(1000))
            rig.hears_count(backend, 1000)
            put(backend, bytes(7000))
            rig.hears_count(client, 7000)
            client.close()
            rig.hears_all(backend)
            backend.close()
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].bytes_in == len(self.ASK) + 1000
            assert 7000 < rig.told[0].bytes_out < 7300
