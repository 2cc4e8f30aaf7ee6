"""What a client sends: heads in any pieces, pipelining, bodies on their way to the backend, and their ends."""

from __future__ import annotations

import random
import socket

import pytest

from lbproxy.model_http import FixedAnswer, HttpRouteSettings, HttpSettings
from lbproxy.session.phases import OVER
from tests.net.http1.http_rig import GET, OK, dechunked, head_and_body, http_rig
from tests.net.net_rig import put, reset, take_all, turn

AHEAD = 16 * 1024


def get(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % number


def answer(number: int) -> bytes:
    body = b"<%d>" % number
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def post(length: int | None, path: bytes = b"/", method: bytes = b"POST") -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return b"%b %b HTTP/1.1\r\nHost: a.example\r\n%b\r\n\r\n" % (method, path, framing)


class TestHeads:
    def test_a_request_may_come_byte_by_byte(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            for place in range(len(GET)):
                put(client, GET[place : place + 1])
                turn(rig.reactor)
            backend = rig.answered_by()
            whole = rig.hears(backend)
            put(backend, OK)
            rig.hears(client, b"ok")
            put(client, GET)
            assert rig.hears(backend)[: whole.index(b"X-Request-ID")] == whole[: whole.index(b"X-Request-ID")]
            put(backend, OK)
            rig.hears(client, b"ok")
            assert [record.bytes_in for record in rig.told] == [len(GET), len(GET)]

    def test_what_is_no_request_is_answered_and_closed(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + GET)
            heard = rig.hears_all(client)
            assert heard.startswith(b"HTTP/1.1 400 ")
            assert heard.count(b"HTTP/1.1") == 1
            assert b"\r\nConnection: close\r\n" in heard
            assert rig.told[0].rule == "F7"

    def test_a_head_that_does_not_end_is_408(self) -> None:
        with http_rig(request_head=5) as rig:
            rig.backends()
            _, client = rig.client()
            put(client, GET[:20])
            turn(rig.reactor)
            rig.passes(5.3)
            assert rig.hears_all(client).startswith(b"HTTP/1.1 408 ")
            assert (rig.told[0].timer, rig.told[0].bytes_in) == ("request_head", 20)

    def test_a_client_that_says_nothing_is_closed_without_a_word(self) -> None:
        with http_rig(request_head=5) as rig:
            rig.backends()
            _, client = rig.client()
            rig.passes(5.3)
            assert rig.hears_all(client) == b""
            assert rig.told == []


class TestPipelining:
    def test_a_hundred_requests_are_answered_in_order(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"".join(get(number) for number in range(100)))
            backend = rig.answered_by()
            for number in range(100):
                assert rig.hears(backend).startswith(b"GET /%d HTTP/1.1\r\n" % number)
                put(backend, answer(number))
            heard = rig.hears(client, b"<99>")
            assert heard == b"".join(
                b"HTTP/1.1 200 OK\r\n" + rig.worker.date() + answer(number)[17:] for number in range(100)
            )
            assert [record.request_number for record in rig.told] == list(range(1, 101))

    def test_no_more_than_16_kib_are_read_ahead(self) -> None:
        with http_rig() as rig:
            rig.backends()
            conversation, client = rig.client()
            sent = put(client, b"".join(get(number) for number in range(5000)))
            backend = rig.answered_by()
            rig.hears(backend)
            turn(rig.reactor)
            assert sent > 3 * AHEAD
            assert 0 < conversation.side.keeps <= AHEAD
            assert rig.worker.budget.used == conversation.side.keeps
            put(backend, answer(0))
            rig.hears(client, b"<0>")
            for number in range(1, 600):
                assert rig.hears(backend).startswith(b"GET /%d HTTP/1.1\r\n" % number)
                assert conversation.side.keeps <= AHEAD
                put(backend, answer(number))
            assert rig.hears(client, b"<599>").count(b"HTTP/1.1 200 OK") == 599

    @pytest.mark.parametrize("length", [5, None])
    @pytest.mark.parametrize("more", [50, 150, 900])
    def test_requests_behind_a_body_in_one_piece_are_read_no_further_ahead(self, length: int | None, more: int) -> None:
        body = b"01234" if length else b"5\r\n01234\r\n0\r\n\r\n"
        with http_rig(listener=HttpSettings(max_requests=5000)) as rig:
            rig.backends()
            conversation, client = rig.client()
            put(client, post(length))
            backend = rig.answered_by()
            head = rig.hears(backend)
            assert b"POST / " in head
            behind = b"".join(get(number)[:-2] + b"X: %b\r\n\r\n" % (b"z" * 50) for number in range(more))
            if more == 150:  # and one more, such that it is exactly as much as may be read ahead
                last = b"GET /150 HTTP/1.1\r\nHost: a.example\r\nX: "
                behind += last + b"y" * (AHEAD - len(behind) - len(last) - 4) + b"\r\n\r\n"
                assert len(behind) == AHEAD
            count = behind.count(b"GET ")
            put(client, body + behind)
            rig.hears(backend, body)
            turn(rig.reactor)
            assert conversation.side.keeps <= 64 * 1024
            at_first = conversation.side.keeps
            turn(rig.reactor)
            assert conversation.side.keeps == at_first, "nothing more is read while there is as much"
            put(backend, OK)
            rig.hears(client, b"ok")
            for number in range(count):
                rig.hears(backend)
                put(backend, answer(number))
            assert rig.hears(client, b"<%d>" % (count - 1)).count(b"200 OK") == count
            assert conversation.phase != OVER

    def test_garbage_behind_a_request_waits_for_its_answer(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, GET + b"\x00\x01garbage\r\n\r\n")
            backend = rig.answered_by()
            rig.hears(backend)
            turn(rig.reactor)
            assert take_all(client) == (b"", False)
            put(backend, OK)
            heard = rig.hears_all(client)
            first, _, second = heard.partition(b"ok")
            assert first.startswith(b"HTTP/1.1 200 ")
            assert second.startswith(b"HTTP/1.1 400 ")

    def test_requests_behind_a_refused_one_never_run(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
            assert rig.hears_all(client).startswith(b"HTTP/1.1 405 ")
            assert [record.status for record in rig.told] == [405]

    def test_what_comes_behind_the_last_request_is_ignored(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n" + GET)
            backend = rig.answered_by()
            rig.hears(backend)
            put(backend, OK)
            heard = rig.hears_all(client)
            assert heard.endswith(b"ok")
            assert b"\r\nConnection: close\r\n" in heard
            assert len(rig.told) == 1

    def test_a_client_that_half_closes_behind_its_requests_gets_all_answers(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, get(0) + get(1) + get(2))
            client.shutdown(1)
            backend = rig.answered_by()
            for number in range(3):
                rig.hears(backend)
                put(backend, answer(number))
            assert rig.hears_all(client).count(b"200 OK") == 3

    def test_the_last_request_of_a_connection_is_told_to_be_so(self) -> None:
        with http_rig(listener=HttpSettings(max_requests=2)) as rig:
            rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            put(client, GET + GET)
            rig.hears(backend)
            put(backend, OK)
            heard = rig.hears_all(client)
            assert b"\r\nConnection: close\r\n" in heard
            assert heard.count(b"HTTP/1.1 200") == 1


class TestBodies:
    @pytest.mark.parametrize("size", [1, 1000, 65_536, 300_000])
    def test_a_body_of_known_length_arrives_byte_by_byte_the_same(self, size: int) -> None:
        body = random.Random(size).randbytes(size)
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(size))
            backend = rig.answered_by()
            assert b"\r\nContent-Length: %d\r\n" % size in rig.hears(backend)
            got = b""
            for start in range(0, size, 100_000):
                piece = body[start : start + 100_000]
                rig.sends(client, piece)
                got += rig.hears_count(backend, len(piece))
            assert got == body
            put(backend, OK)
            rig.hears(client, b"ok")
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].bytes_in == len(post(size)) + size
            rig.exchange(client, backend=backend)

    def test_a_body_may_come_with_its_head_and_the_next_request(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(5) + b"01234" + get(1))
            backend = rig.answered_by()
            assert head_and_body(rig.hears(backend, b"01234"))[1] == b"01234"
            put(backend, OK)
            assert rig.hears(backend).startswith(b"GET /1 ")
            put(backend, OK)
            turn(rig.reactor, lambda: len(rig.told) == 2)
            assert [record.bytes_in for record in rig.told] == [len(post(5)) + 5, len(get(1))]
            assert take_all(client)[0].count(b"200 OK") == 2

    @pytest.mark.parametrize("step", [1, 7, 1000])
    def test_chunks_arrive_as_a_body_in_chunks_whatever_their_cut(self, step: int) -> None:
        body = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(None))
            backend = rig.answered_by()
            assert b"\r\nTransfer-Encoding: chunked\r\n" in rig.hears(backend)
            for start in range(0, len(body), step):
                put(client, body[start : start + step])
                turn(rig.reactor)
            got = rig.hears(backend, b"0\r\n\r\n")
            assert dechunked(got) == b"hello world"
            assert b"Trailer" not in got, "trailers of clients are dropped"
            assert b";" not in got, "and so are extensions"
            put(backend, OK)
            rig.hears(client, b"ok")
            rig.exchange(client, backend=backend)

    def test_chunks_that_are_none_end_the_request_and_are_not_completed(self) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            _, client = rig.client()
            put(client, post(None) + b"5\r\nhello\r\n")
            backend = rig.answered_by()
            rig.hears(backend, b"hello\r\n")
            put(client, b"zz\r\n" + GET)
            heard = rig.hears_all(client)
            assert heard.startswith(b"HTTP/1.1 400 ")
            assert heard.count(b"HTTP/1.1") == 1
            with pytest.raises(ConnectionResetError):
                rig.hears_all(backend)
            assert rig.told[0].rule == "F22"
            assert pool.backends["b0"].failures_total == 0

    def test_a_body_that_is_cut_is_not_completed(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(100) + b"01234")
            backend = rig.answered_by()
            rig.hears(backend, b"01234")
            client.shutdown(1)
            with pytest.raises(ConnectionResetError):
                rig.hears_all(backend)
            assert (rig.told[0].rule, rig.told[0].outcome) == ("F18", "client_gone")

    def test_a_body_beyond_the_routes_limit_is_cut_within_its_chunks(self) -> None:
        with http_rig(route=HttpRouteSettings(max_body=10)) as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(None) + b"a\r\n0123456789\r\n")
            backend = rig.answered_by()
            rig.hears(backend, b"0123456789\r\n")
            put(client, b"1\r\nx\r\n0\r\n\r\n")
            assert rig.hears_all(client).startswith(b"HTTP/1.1 413 ")
            with pytest.raises(ConnectionResetError):
                rig.hears_all(backend)

    def test_a_slow_backend_is_not_outrun(self) -> None:
        """Back-pressure: what it does not take stays with the client."""
        size = 12_000_000
        body = random.Random(1).randbytes(size)
        with http_rig() as rig:
            rig.backends(receive=8192)
            _, client = rig.client()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            put(client, post(size))
            backend = rig.answered_by()
            rig.hears(backend)
            sent = 0

            def held() -> bool:
                nonlocal sent
                sent += put(client, body[sent : sent + 262_144])
                return rig.worker.budget.used > 0

            turn(rig.reactor, held)
            turn(rig.reactor)
            assert sent < size
            assert 0 < rig.worker.budget.used <= 1 << 19
            got = bytearray()

            def some_more() -> bool:
                got.extend(take_all(backend)[0])
                return len(got) > 500_000

            turn(rig.reactor, some_more)
            assert body.startswith(got), "what was held comes in its order"
            reset(client)

    def test_bulk_ends_exactly_where_the_body_does(self) -> None:
        size = 1_500_000
        body = random.Random(2).randbytes(size)
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(size))
            backend = rig.answered_by()
            rig.hears(backend)
            left = memoryview(body + get(7))
            got = bytearray()
            piped = False

            def through() -> bool:
                nonlocal left, piped
                left = left[put(client, bytes(left[:262_144])) :]
                got.extend(take_all(backend)[0])
                piped = piped or rig.worker.pipes.in_use > 0
                return len(got) >= size

            turn(rig.reactor, through)
            assert bytes(got) == body, "not a byte of the next request goes with it"
            assert piped, "it was to be moved by the kernel"
            put(backend, OK)
            rig.hears(client, b"ok")
            assert rig.hears(backend).startswith(b"GET /7 ")
            put(backend, OK)
            rig.hears(client, b"ok")
            assert rig.worker.pipes.in_use == 0
            turn(rig.reactor, lambda: len(rig.told) == 2)
            assert [record.bytes_in for record in rig.told] == [len(post(size)) + size, len(get(7))]


class TestBodiesThatAreSentAgain:
    @pytest.mark.parametrize("length", [60_000, None])
    def test_class_b_sends_every_byte_once_more(self, length: int | None) -> None:
        payload = random.Random(4).randbytes(60_000)
        wire = payload if length else b"ea60\r\n" + payload + b"\r\n0\r\n\r\n"
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            put(client, post(length, method=b"PUT") + wire[:30_000])
            rig.hears_count(backend, 25_000)
            backend.close()
            fresh = rig.answered_by()
            rig.sends(client, wire[30_000:])
            got = bytearray()

            def whole() -> bool:
                got.extend(take_all(fresh)[0])
                return got.endswith(wire[-5:]) and len(got) > 60_000

            turn(rig.reactor, whole)
            body = head_and_body(bytes(got))[1]
            assert (body if length else dechunked(body)) == payload
            put(fresh, OK)
            rig.hears(client, b"ok")
            assert rig.told[-1].retries == 1

    def test_what_is_too_long_to_be_kept_is_502(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            put(client, post(200_000, method=b"PUT"))
            rig.hears(backend)
            rig.sends(client, bytes(100_000))
            rig.hears_count(backend, 100_000)
            reset(backend)
            assert b"HTTP/1.1 502 " in rig.hears_all(client)

    def test_bulk_is_not_kept(self) -> None:
        size = 2_000_000
        with http_rig() as rig:
            pool = rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            put(client, post(size, method=b"PUT"))
            rig.hears(backend)
            sent = taken = 0

            def some() -> bool:
                nonlocal sent, taken
                sent += put(client, bytes(min(262_144, size // 2 - sent)))
                taken += len(take_all(backend)[0])
                return taken == size // 2

            turn(rig.reactor, some)
            reset(backend)
            turn(rig.reactor, lambda: len(rig.told) == 2)
            assert rig.told[-1].status == 502
            assert pool.active == 0


class TestUnreadBodies:
    ANSWER = HttpRouteSettings(answer=FixedAnswer(200, b"fixed\n"))

    def test_a_body_that_is_here_is_thrown_away_and_never_read_as_a_request(self) -> None:
        with http_rig(route=self.ANSWER) as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(len(GET)) + GET + get(1))
            turn(rig.reactor, lambda: len(rig.told) == 2)
            assert [record.path for record in rig.told] == ["/", "/1"]
            assert [record.bytes_in for record in rig.told] == [len(post(len(GET))) + len(GET), len(get(1))]
            heard = take_all(client)
            assert heard[0].count(b"fixed\n") == 2
            assert not heard[1]

    @pytest.mark.parametrize("length", [100, None])
    def test_one_that_has_to_be_waited_for_ends_the_connection_after_the_answer(self, length: int | None) -> None:
        with http_rig(route=self.ANSWER) as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(length))
            heard = rig.hears_all(client)
            assert b"\r\nConnection: close\r\n" in heard
            assert heard.endswith(b"fixed\n")
            put(client, GET * 100)  # whoever goes on sending is not reset, so that it can read the answer
            turn(rig.reactor)
            assert len(rig.told) == 1
            assert len(rig.worker.lingering) == 1

    def test_an_early_answer_is_heard_while_the_client_still_sends(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(1_000_000) + bytes(10_000))
            backend = rig.answered_by()
            rig.hears_count(backend, 10_000)
            put(backend, b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch")
            heard = rig.hears_all(client)
            assert heard.startswith(b"HTTP/1.1 413 ")
            assert heard.endswith(b"much")
            assert b"\r\nConnection: close\r\n" in heard
            put(client, bytes(10_000))
            turn(rig.reactor)
            assert take_all(client) == (b"", True), "no reset"
            assert rig.worker.idle.count == 0
            assert rig.told[0].status == 413

    def test_the_answer_of_a_backend_that_closes_within_the_body_is_read_first(self) -> None:
        """C13, the lost 413."""
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, post(1_000_000) + bytes(10_000))
            backend = rig.answered_by()
            rig.hears(backend, b"\x00")
            put(backend, b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
            backend.close()
            put(client, bytes(50_000))
            heard = rig.hears_all(client)
            assert heard.startswith(b"HTTP/1.1 413 ")
            assert heard.endswith(b"much")

    def test_after_an_ordinary_answer_the_close_is_plain(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            backend = rig.answered_by()
            rig.hears(backend)
            put(backend, OK)
            rig.hears_all(client)
            assert not rig.worker.lingering


class TestExpect:
    def test_the_backends_word_is_passed_on_and_the_body_follows(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            backend = rig.answered_by()
            assert b"\r\nExpect: 100-continue\r\n" in rig.hears(backend)
            put(backend, b"HTTP/1.1 100 Continue\r\n\r\n")
            assert rig.hears(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
            put(client, b"01234")
            assert rig.hears(backend, b"01234") == b"01234"
            put(backend, OK)
            rig.hears(client, b"ok")

    def test_a_backend_that_says_nothing_is_helped_out_after_a_second(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            backend = rig.answered_by()
            rig.hears(backend)
            turn(rig.reactor)
            rig.passes(0.8)
            assert take_all(client) == (b"", False)
            rig.passes(0.5)
            assert rig.hears(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
            put(client, b"01234")
            rig.hears(backend, b"01234")
            put(backend, b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
            heard = rig.hears(client, b"ok")
            assert heard.startswith(b"HTTP/1.1 200 "), "100 is not said twice"
