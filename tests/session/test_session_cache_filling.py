"""The body of an answer on its way into the store: whole, in pieces, cut short, too long; and those who read it."""

from __future__ import annotations

import pytest

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import BAD_BODY
from lbproxy.http.messages import CHUNKED
from lbproxy.http.response_head import ResponseReader
from lbproxy.model_cache import CacheSettings
from lbproxy.session.exchange import Exchange
from lbproxy.session.phases import ANSWER, OVER
from tests.session.cache_fakes import ETAG, HELLO, KEY, MINUTE, CachingTalk
from tests.session.http_fakes import FakeStream, answer

PIECE = b"0123456789abcdef" * 4096
SMALL = CacheSettings(max_object=100)


def begun(talk: CachingTalk, stream: FakeStream | None = None) -> tuple[Exchange, FakeStream]:
    """One whose answer, of unknown length, has begun to come; and its connection."""
    stream = stream or talk.stream(talk.accept())
    exchange = talk.sent(conversation=stream.conversation)
    talk.comes_to(exchange)
    return exchange, stream


class TestWhole:
    @pytest.mark.parametrize("body", [b"", b"x", HELLO, PIECE])
    def test_in_one_piece_with_its_head(self, body: bytes) -> None:
        talk = CachingTalk()
        assert talk.given(talk.fetched(body=body)) == (200, body)
        assert talk.given(talk.asks()) == (200, body)
        talk.check_at_rest()

    @pytest.mark.parametrize("length", [5, -1])
    def test_byte_by_byte(self, length: int) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=length)
        for place in range(5):
            assert talk.given(exchange) == (200, HELLO[:place])
            talk.brings(side, HELLO[place : place + 1], last=place == 4)
        assert talk.given(exchange) == (200, HELLO)
        stored = talk.cache.stored_under(KEY)[0]
        assert stored.body == HELLO
        assert talk.stream(talk.asks()).got[-1].length == 5
        talk.check_at_rest()

    def test_without_a_body(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        talk.answers(exchange, status=204, fields=MINUTE)
        assert talk.given(exchange) == (204, b"")
        assert talk.given(talk.asks()) == (204, b"")
        talk.check_at_rest()

    def test_it_is_not_found_before_its_end(self) -> None:
        talk = CachingTalk()
        talk.begins(length=5, body=b"hell")
        assert talk.cache.stored_under(KEY) == []
        assert talk.cache.stored_total == 0

    def test_the_connection_of_the_backend_is_used_again(self) -> None:
        talk = CachingTalk()
        side = talk.begins(length=5, body=b"he")
        assert "a" not in talk.http_factory.idle
        talk.brings(side, b"llo")
        assert talk.http_factory.idle["a"] == [side]
        assert talk.sent(path="/other").reused

    def test_the_lease_is_given_back_at_the_end_and_not_before(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=5, body=b"he")
        assert talk.pool.active == 1
        talk.leaves(exchange.conversation)
        assert talk.pool.active == 1, "the answer is still coming"
        talk.brings(side, b"llo")
        assert talk.pool.active == 0

    def test_the_record_tells_of_the_backend(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        record = talk.records[0]
        assert (record.backend, record.status, record.outcome, record.t_first_byte_ms) == ("a", 200, "ok", 0)


class TestCutShort:
    @pytest.mark.parametrize("length", [5, -1])
    def test_it_is_not_stored_and_no_client_takes_it_for_whole(self, length: int) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=length, body=b"hell")
        talk.did()
        talk.breaks(side)
        assert talk.did()[-3:] == ["record backend_cut", "client.abort", "left 192.0.2.7"]
        assert exchange.outcome is errors.BACKEND_CUT
        assert not talk.stream(exchange).open
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER
        assert talk.backends_asked == 2

    def test_it_counts_against_the_backend_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side, waiter = talk.side(exchange), talk.asks()
        talk.comes_to(exchange, length=5, body=b"he")
        counted: list[str] = []

        def failed(_: Pool, backend: Backend, *__: object, **___: object) -> None:
            counted.append(backend.id)

        monkeypatch.setattr(Pool, "failed", failed)
        talk.breaks(side)
        assert counted == ["a"]
        assert exchange.phase == waiter.phase == OVER
        talk.check_at_rest()

    def test_what_it_was_to_replace_stays(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=f"{MINUTE}, stale-if-error=600{ETAG}")
        talk.passes(61)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=5, body=b"HE")
        talk.breaks(side)
        again = talk.sent()
        assert b'if-none-match: "e1"' in talk.asked_for(again)
        talk.answers(again, status=503, body=b"oops!")
        assert talk.given(again) == (200, HELLO)

    @pytest.mark.parametrize("stale", [False, True])
    def test_where_nothing_has_been_said_yet_the_client_is_answered(self, stale: bool) -> None:
        """The head of the answer and what is no body came together."""
        talk = CachingTalk()
        if stale:
            talk.fetched(fields=f"{MINUTE}, stale-if-error=600{ETAG}")
            talk.passes(61)
        exchange = talk.sent()
        side = talk.side(exchange)
        found = ResponseReader().read(answer(200, f"{MINUTE}|Transfer-Encoding: chunked"))
        assert found is not None
        exchange.answered(found[0], CHUNKED)
        fill = side.exchange
        assert fill is not None
        assert fill is not exchange
        fill.cut_short(BAD_BODY, "B7")
        fill.begun()
        if stale:
            assert talk.given(exchange) == (200, HELLO)
        else:
            assert exchange.status == 502
        assert talk.stream(exchange).open
        assert not side.open
        talk.check_at_rest()

    def test_a_backend_that_falls_silent_is_given_up(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        talk.comes_to(exchange, length=5, body=b"he")
        talk.passes(59)
        assert exchange.phase != OVER
        talk.passes(10)
        assert exchange.phase == OVER
        assert not talk.stream(exchange).open
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_a_backend_that_goes_on_slowly_is_not(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=5)
        for place in range(5):
            talk.passes(50)
            talk.brings(side, HELLO[place : place + 1])
        assert talk.given(exchange) == (200, HELLO)


class TestTooLong:
    def test_a_length_that_is_known_is_passed_on_by_the_usual_way(self) -> None:
        talk = CachingTalk(shared=SMALL)
        exchange = talk.sent()
        talk.did()
        talk.answers(exchange, fields=f"{MINUTE}|Content-Length: 101")
        assert talk.did() == ["client<200"]
        talk.completes(exchange, 101)
        talk.check_at_rest()

    def test_one_that_turns_out_to_be_is_given_whole_and_not_stored(self) -> None:
        talk = CachingTalk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        waiter = talk.asks()
        talk.comes_to(exchange)
        for number in range(30):
            talk.brings(side, b"%010d" % number, last=number == 29)
        whole = b"".join([b"%010d" % number for number in range(30)])
        assert talk.given(exchange) == (200, whole)
        assert talk.given(waiter) == (200, whole)
        assert talk.cache.store.objects == 0
        assert talk.cache.refused["too large"] == 1
        talk.check_at_rest()

    def test_it_is_known_from_then_on(self) -> None:
        talk = CachingTalk(shared=SMALL)
        side = talk.begins(body=bytes(101))
        late, later = talk.sent(), talk.sent()
        assert (late.phase, later.phase) == (ANSWER, ANSWER), "nobody can join, and nobody waits"
        talk.brings(side, b"", last=True)
        assert talk.cache.store.marked(KEY, talk.cache.now())

    def test_all_in_one_piece(self) -> None:
        talk = CachingTalk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, body=bytes(101))
        assert talk.given(exchange) == (200, bytes(101))
        talk.brings(side, b"", last=True)
        assert exchange.phase == OVER
        talk.check_at_rest()

    def test_what_it_replaces_is_true_no_more(self) -> None:
        talk = CachingTalk(shared=SMALL)
        talk.fetched(fields=f"{MINUTE}, stale-if-error=600{ETAG}")
        talk.passes(61)
        side = talk.begins(body=bytes(101))
        assert talk.cache.store.objects == 0
        talk.brings(side, b"", last=True)

    def test_the_backend_is_not_read_faster_than_the_slowest_takes_it(self) -> None:
        talk = CachingTalk(shared=SMALL)
        exchange, stream = begun(talk, talk.slow())
        side = talk.http_factory.all[0]
        sent = 0
        while side.wanted:
            talk.brings(side, PIECE)
            sent += len(PIECE)
            assert sent < 4 << 20, "it is read for ever"
        assert sent > 1 << 20
        talk.reads(stream, sent // 4)
        assert not side.wanted, "there is still much to be taken"
        talk.reads(stream, sent)
        assert side.wanted
        talk.brings(side, b"end", last=True)
        assert exchange.phase == OVER
        assert stream.content == PIECE * (sent // len(PIECE)) + b"end"
        talk.check_at_rest()

    def test_a_slow_one_has_the_rest_after_the_backend_has_gone(self) -> None:
        talk = CachingTalk(shared=SMALL)
        slow, stream = begun(talk, talk.slow(10))
        other, fast = talk.slow(), talk.asks()
        other_exchange = talk.asks(conversation=other.conversation)
        side = talk.http_factory.all[0]
        for _ in range(8):
            talk.brings(side, PIECE)
        talk.brings(side, b"end", last=True)
        assert talk.given(fast) == (200, PIECE * 8 + b"end")
        for _ in range(10):
            talk.reads(stream, len(PIECE))
            talk.reads(other, len(PIECE))
        assert stream.content == other.content == PIECE * 8 + b"end"
        assert (slow.phase, other_exchange.phase) == (OVER, OVER)
        talk.check_at_rest()

    def test_a_slow_client_is_no_silence_of_the_backend(self) -> None:
        talk = CachingTalk(shared=SMALL)
        exchange, stream = begun(talk, talk.slow())
        side = talk.http_factory.all[0]
        sent = 0
        while side.wanted:
            talk.brings(side, PIECE)
            sent += len(PIECE)
        for _ in range(8):
            talk.passes(20)
            talk.reads(stream, 1000)
        assert exchange.phase != OVER, "it takes what it is given"
        talk.reads(stream, sent)
        talk.passes(1)
        assert side.open, "the backend has been asked to go on a second ago"
        talk.brings(side, b"end", last=True)
        assert len(stream.content) == sent + 3
        talk.check_at_rest()

    def test_the_silence_of_the_backend_counts_from_when_it_was_asked_to_go_on(self) -> None:
        talk = CachingTalk(shared=SMALL)
        exchange, stream = begun(talk, talk.slow())
        side = talk.http_factory.all[0]
        while side.wanted:
            talk.brings(side, PIECE)
        talk.passes(50)
        talk.reads(stream, 4 << 20)
        talk.passes(59)
        assert exchange.phase != OVER
        talk.passes(10)
        assert exchange.phase == OVER

    def test_the_backend_is_left_when_all_readers_have(self) -> None:
        talk = CachingTalk(shared=SMALL)
        first, _ = begun(talk)
        second = talk.asks()
        side = talk.http_factory.all[0]
        talk.brings(side, bytes(101))
        talk.leaves(first.conversation)
        assert side.open
        talk.leaves(second.conversation)
        assert not side.open
        talk.check_at_rest()

    def test_a_fast_one_goes_on_when_the_slow_one_leaves(self) -> None:
        talk = CachingTalk(shared=SMALL)
        slow, _ = begun(talk, talk.slow())
        fast = talk.asks()
        side = talk.http_factory.all[0]
        sent = 0
        while side.wanted:
            talk.brings(side, PIECE)
            sent += len(PIECE)
        assert len(talk.stream(fast).content) == sent
        talk.leaves(slow.conversation)
        assert side.wanted
        talk.brings(side, b"end", last=True)
        assert len(talk.stream(fast).content) == sent + 3
        talk.check_at_rest()


class TestSlowReaders:
    def test_they_hold_up_neither_the_backend_nor_others(self) -> None:
        talk = CachingTalk()
        slow, stream = begun(talk, talk.slow(1))
        fast = talk.asks()
        side = talk.http_factory.all[0]
        for _ in range(40):
            talk.brings(side, PIECE)
            assert side.wanted
        talk.brings(side, b"", last=True)
        assert talk.given(fast) == (200, PIECE * 40)
        assert talk.given(talk.asks()) == (200, PIECE * 40)
        assert stream.content == PIECE[:1]
        talk.reads(stream, len(PIECE) * 40)
        assert stream.content == PIECE * 40
        assert slow.phase == OVER
        talk.check_at_rest()

    def test_one_keeps_what_it_reads_whatever_becomes_of_the_store(self) -> None:
        talk = CachingTalk()
        slow, stream = begun(talk, talk.slow(2))
        side = talk.http_factory.all[0]
        talk.brings(side, HELLO, last=True)
        talk.cache.forget_key(KEY)
        talk.fetched(body=b"later")
        talk.reads(stream, 10)
        assert stream.content == HELLO
        assert slow.phase == OVER

    def test_one_that_takes_nothing_is_cut_and_nobody_else(self) -> None:
        talk = CachingTalk()
        slow, stream = begun(talk, talk.slow())
        fast = talk.asks()
        side = talk.http_factory.all[0]
        talk.brings(side, HELLO)
        talk.stalls(slow, stream)
        for _ in range(7):
            talk.passes(5)
            talk.brings(side, b"x")
        assert slow.phase == OVER
        assert slow.outcome is errors.WRITE_STALL_CLIENT
        talk.brings(side, b"!", last=True)
        assert talk.given(fast) == (200, b"helloxxxxxxx!")
        talk.check_at_rest()

    def test_who_asks_for_a_part_reads_it_out_of_what_comes(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        exchange = talk.sent(fields="Range: bytes=2-5")
        side = talk.side(exchange)
        talk.comes_to(exchange, fields=f'{MINUTE}|ETag: "e2"', length=10, body=b"012")
        assert talk.given(exchange) == (206, b"2")
        talk.brings(side, b"345678")
        assert talk.given(exchange) == (206, b"2345")
        assert exchange.phase == OVER
        talk.brings(side, b"9")
        assert talk.given(talk.asks()) == (200, b"0123456789")


class TestReplacement:
    def test_two_that_come_at_once_leave_the_one_that_is_whole_last(self) -> None:
        talk = CachingTalk(shared=CacheSettings(waiters=0))
        first = talk.sent()
        side = talk.side(first)
        talk.comes_to(first, length=5, body=b"fi")
        flight = talk.cache.flights.get(KEY)
        assert flight is not None
        talk.cache.flights.end(flight)
        second = talk.sent()
        talk.answers(second, fields=MINUTE, body=b"twice")
        talk.brings(side, b"rst")
        assert talk.cache.store.objects == 1
        assert talk.given(first) == (200, b"first")
        talk.check_at_rest()

    def test_what_is_larger_than_the_whole_memory_is_served_and_gone(self) -> None:
        talk = CachingTalk(shared=CacheSettings(memory=1000, max_object=1 << 20))
        assert talk.given(talk.fetched(body=bytes(2000))) == (200, bytes(2000))
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER
