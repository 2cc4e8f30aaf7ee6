"""What lies on the disk, and long bodies on their way there: nobody waits for a disk longer than for anything else."""

from __future__ import annotations

import pytest

from lbproxy.cache.values import Stored
from lbproxy.model_cache import CacheSettings
from lbproxy.session.phases import ANSWER, OVER, WAITING
from tests.session.cache_fakes import ETAG, HELLO, KEY, MINUTE, CachingTalk, FakeDisk, with_disk
from tests.session.test_session_cache_filling import PIECE

LONG = bytes(range(200)) * 10
SMALL = CacheSettings(max_object=1000)


def started_anew(fields: str = MINUTE + ETAG, asked: str = "") -> tuple[CachingTalk, FakeDisk]:
    """A talk whose disk has what an earlier process stored, `asked` with these fields; nothing is in memory."""
    talk, disk = with_disk()
    talk.answers(talk.sent(fields=asked), fields=fields, body=HELLO)
    talk.cache.store.remove_key(KEY)
    talk.did()
    return talk, disk


class TestFound:
    def test_what_is_on_the_disk_is_a_hit(self) -> None:
        talk, disk = started_anew()
        talk.passes(3)
        exchange = talk.asks()
        assert exchange.phase == WAITING
        disk.gives()
        assert talk.given(exchange) == (200, HELLO)
        assert talk.told(exchange) == "lbproxy; hit; ttl=57"
        assert talk.records[-1].cache == "hit"
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_it_is_in_memory_from_then_on(self) -> None:
        talk, disk = started_anew()
        talk.asks()
        disk.gives()
        assert talk.given(talk.asks()) == (200, HELLO)
        assert disk.loads == []

    def test_it_is_read_once_for_all_who_want_it(self) -> None:
        talk, disk = started_anew()
        exchanges = [talk.asks() for _ in range(5)]
        assert len(disk.loads) == 1
        disk.gives()
        assert [talk.given(one) for one in exchanges] == [(200, HELLO)] * 5
        talk.check_at_rest()

    def test_a_head_and_a_condition_are_answered_from_it(self) -> None:
        talk, disk = started_anew()
        head, condition = talk.asks(method="HEAD"), talk.asks(fields='If-None-Match: "e1"')
        disk.gives()
        assert talk.given(head) == (200, b"")
        assert talk.given(condition) == (304, b"")
        talk.check_at_rest()

    def test_who_only_wants_what_is_stored_is_given_what_is_on_the_disk(self) -> None:
        talk, disk = started_anew()
        exchange = talk.asks(fields="Cache-Control: only-if-cached")
        assert exchange.phase == WAITING
        disk.gives()
        assert talk.given(exchange) == (200, HELLO)
        talk.cache.store.remove_key(KEY)
        exchange = talk.asks(fields="Cache-Control: only-if-cached")
        disk.fails()
        assert exchange.status == 504

    def test_what_is_stale_by_now_is_asked_about(self) -> None:
        talk, disk = started_anew()
        talk.passes(61)
        exchange, other = talk.asks(), talk.asks()
        disk.gives()
        talk.connects(exchange)
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)
        assert other.phase == WAITING
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert talk.given(exchange) == talk.given(other) == (200, HELLO)
        assert len(disk.updated) == 1
        talk.check_at_rest()

    def test_another_variant_is_asked_for(self) -> None:
        talk, disk = started_anew(f"{MINUTE}|Vary: X-A", "X-A: 1")
        mine, other = talk.asks(fields="X-A: 1"), talk.asks(fields="X-A: 2")
        disk.gives()
        assert talk.given(mine) == (200, HELLO)
        talk.connects(other)
        assert other.phase == ANSWER

    def test_what_was_purged_meanwhile_is_not_brought_back(self) -> None:
        talk, disk = started_anew()
        talk.ok(talk.sent(method="DELETE"))
        assert talk.sent().phase == ANSWER
        assert disk.loads == []


class TestNotFound:
    def test_a_file_that_cannot_be_read_costs_a_hit(self) -> None:
        talk, disk = started_anew()
        first, second = talk.asks(), talk.asks()
        disk.fails()
        talk.connects(first)
        assert (first.phase, second.phase) == (ANSWER, WAITING), "one asks, the other waits for it"
        talk.answers(first, fields=MINUTE, body=b"again")
        assert talk.given(first) == talk.given(second) == (200, b"again")
        talk.check_at_rest()

    def test_a_disk_that_does_not_answer_is_waited_for_like_anybody(self) -> None:
        talk, disk = started_anew()
        exchange = talk.asks()
        talk.passes(5.2)
        assert exchange.phase == ANSWER
        talk.ok(exchange, fields=MINUTE)
        disk.gives()
        assert exchange.phase == OVER
        talk.check_at_rest()

    def test_who_leaves_meanwhile_is_not_answered(self) -> None:
        talk, disk = started_anew()
        exchange, other = talk.asks(), talk.asks()
        talk.leaves(exchange.conversation)
        disk.gives()
        assert talk.stream(exchange).got == []
        assert talk.given(other) == (200, HELLO)
        talk.check_at_rest()

    def test_more_than_may_wait_go_to_the_backend(self) -> None:
        talk, disk = with_disk(shared=CacheSettings(waiters=1))
        talk.fetched()
        talk.cache.store.remove_key(KEY)
        talk.asks()
        assert talk.sent().phase == ANSWER

    def test_what_the_disk_does_not_have_is_not_waited_for(self) -> None:
        talk, disk = with_disk()
        assert talk.sent().phase == ANSWER
        assert disk.loads == []


class TestKept:
    def test_what_is_stored_in_memory_is_kept_on_the_disk_too(self) -> None:
        talk, disk = with_disk()
        talk.fetched()
        ((stored, vary),) = disk.there[KEY]
        assert (stored.body, vary) == (HELLO, ())

    def test_what_does_not_fit_into_memory_is_kept_there_alone(self) -> None:
        talk, disk = with_disk(shared=CacheSettings(memory=1000))
        talk.fetched(body=LONG)
        assert talk.cache.store.objects == 0
        assert disk.find(KEY)

    def test_a_long_body_goes_into_a_file_and_to_its_readers_at_once(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side, waiter = talk.side(exchange), talk.asks()
        talk.comes_to(exchange, length=len(LONG), body=LONG[:100])
        (file,) = disk.files
        assert file.expected == len(LONG)
        late = talk.asks()
        assert talk.given(late) == (200, LONG[:100])
        file.writes()
        talk.brings(side, LONG[100:])
        for one in (exchange, waiter, late):
            assert talk.given(one) == (200, LONG)
        file.writes()
        assert file.complete
        assert not file.failed
        talk.check_at_rest()

    def test_the_file_may_be_written_after_the_backend_has_gone(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=len(LONG), body=LONG[:100])
        talk.brings(side, LONG[100:])
        (file,) = disk.files
        assert not file.failed
        assert talk.given(exchange) == (200, LONG)
        file.writes()
        ((stored, _),) = disk.there[KEY]
        assert stored.body is file
        talk.check_at_rest()

    def test_it_is_served_from_there(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        talk.fetched(body=LONG)
        disk.files[0].writes()
        for _ in range(2):
            exchange = talk.asks()
            assert exchange.phase == WAITING, "long bodies are in no memory"
            disk.gives()
            assert talk.given(exchange) == (200, LONG)
        part = talk.asks(fields="Range: bytes=5-8")
        disk.gives()
        assert talk.given(part) == (206, LONG[5:9])
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_it_is_found_while_the_disk_is_still_writing(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        talk.fetched(body=LONG)
        soon = talk.asks()
        assert talk.backends_asked == 1
        disk.files[0].writes()
        assert talk.given(soon) == (200, LONG)
        talk.cache.settle()
        later = talk.asks()
        disk.gives()
        assert talk.given(later) == (200, LONG)
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_one_that_the_disk_could_not_write_is_not_found(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        talk.fetched(body=LONG)
        disk.files[0].fail()
        assert talk.sent().phase == ANSWER

    def test_it_is_asked_about_when_it_is_stale(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        talk.fetched(fields=MINUTE + ETAG, body=LONG)
        disk.files[0].writes()
        talk.passes(61)
        exchange = talk.asks()
        disk.gives()
        talk.connects(exchange)
        talk.answers(exchange, status=304, fields=f"{MINUTE}{ETAG}|X-A: 2")
        assert talk.given(exchange) == (200, LONG)
        assert b"X-A: 2" in disk.updated[0]
        again = talk.asks()
        disk.gives()
        assert talk.given(again) == (200, LONG)
        assert again.verdict == "hit"

    def test_one_that_is_cut_short_is_not_kept(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=len(LONG), body=LONG[:100])
        talk.breaks(side)
        assert disk.files[0].failed
        assert disk.there == {}
        assert exchange.phase == OVER
        talk.check_at_rest()

    def test_readers_may_leave_and_it_is_kept_nevertheless(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=len(LONG), body=LONG[:100])
        talk.leaves(exchange.conversation)
        talk.brings(side, LONG[100:])
        disk.files[0].writes()
        assert disk.find(KEY)
        talk.check_at_rest()


class TestUnknownLengths:
    def test_many_bytes_go_into_a_file_as_well(self) -> None:
        talk, disk = with_disk(shared=CacheSettings(max_object=20 * len(PIECE)))
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange)
        for _ in range(16):
            talk.brings(side, PIECE)
        assert disk.files == []
        talk.brings(side, PIECE)
        (file,) = disk.files
        assert file.expected == -1
        for _ in range(9):
            talk.brings(side, PIECE)
            file.writes()
        talk.brings(side, b"end", last=True)
        file.writes()
        assert talk.given(exchange) == (200, PIECE * 26 + b"end")
        assert file.data == PIECE * 26 + b"end"
        ((stored, _),) = disk.there[KEY]
        assert stored.body is file
        talk.check_at_rest()

    def test_what_turns_out_to_fit_into_memory_needs_no_file_of_its_own(self) -> None:
        talk, disk = with_disk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange)
        for _ in range(18):
            talk.brings(side, PIECE)
        talk.brings(side, b"", last=True)
        assert disk.files[0].failed
        ((stored, _),) = disk.there[KEY]
        assert stored.body == PIECE * 18
        assert talk.given(talk.asks()) == (200, PIECE * 18)
        talk.check_at_rest()


class TestTrouble:
    def test_a_disk_that_takes_nothing_more_costs_a_hit_and_no_request(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        disk.full = True
        exchange = talk.sent()
        talk.ok(exchange, fields=f"{MINUTE}|Content-Length: 2000")
        assert talk.told(exchange) == 'lbproxy; fwd=uri-miss; detail="too large"'
        talk.check_at_rest()

    def test_a_disk_that_takes_nothing_more_in_the_middle(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        disk.full = True
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange)
        for _ in range(30):
            talk.brings(side, PIECE)
        talk.brings(side, b"end", last=True)
        assert talk.given(exchange) == (200, PIECE * 30 + b"end")
        assert disk.there == {}
        talk.check_at_rest()

    @pytest.mark.parametrize("written", [False, True])
    def test_a_file_that_fails_is_no_trouble_for_its_readers(self, written: bool) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side, waiter = talk.side(exchange), talk.asks()
        talk.comes_to(exchange, length=len(LONG), body=LONG[:500])
        (file,) = disk.files
        if written:
            file.writes()
        file.fail()
        talk.brings(side, LONG[500:])
        assert talk.given(exchange) == talk.given(waiter) == (200, LONG)
        assert disk.there == {}
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_a_disk_that_is_behind_holds_the_backend_up(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=len(LONG), body=LONG[:100])
        (file,) = disk.files
        file.full = True
        talk.brings(side, LONG[100:200])
        assert not side.wanted
        file.writes()
        assert side.wanted
        talk.brings(side, LONG[200:])
        file.writes()
        assert talk.given(exchange) == (200, LONG)
        talk.check_at_rest()

    def test_a_disk_that_hangs_is_not_waited_for_for_ever(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=len(LONG), body=LONG[:100])
        disk.files[0].full = True
        talk.brings(side, LONG[100:200])
        talk.passes(70)
        assert exchange.phase == OVER
        assert not side.open
        talk.check_at_rest()

    def test_a_slow_reader_does_not_hold_up_what_goes_into_a_file(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        stream = talk.slow(10)
        exchange = talk.sent(conversation=stream.conversation)
        side = talk.side(exchange)
        size = 40 * len(PIECE)
        talk.comes_to(exchange, length=size)
        (file,) = disk.files
        for _ in range(40):
            talk.brings(side, PIECE)
            assert side.wanted
            file.writes()
        assert file.complete
        assert stream.content == PIECE[:10]
        for _ in range(4):
            talk.reads(stream, size // 2)
        assert stream.content == PIECE * 40
        talk.check_at_rest()

    def test_a_slow_reader_is_waited_for_when_the_file_fails(self) -> None:
        talk, disk = with_disk(shared=SMALL)
        stream = talk.slow(10)
        exchange = talk.sent(conversation=stream.conversation)
        side = talk.side(exchange)
        size = 40 * len(PIECE)
        talk.comes_to(exchange, length=size)
        (file,) = disk.files
        talk.brings(side, PIECE)
        file.fail()
        sent = 1
        while side.wanted:
            talk.brings(side, PIECE)
            sent += 1
            assert sent < 40
        for _ in range(40):
            talk.reads(stream, len(PIECE))
            while side.wanted and sent < 40:
                talk.brings(side, PIECE)
                sent += 1
        talk.reads(stream, size)
        assert stream.content == PIECE * 40
        assert exchange.phase == OVER
        talk.check_at_rest()


def test_objects_from_the_disk_are_other_objects() -> None:
    """The double is worth something: what is changed in memory does not change on the disk."""
    talk, disk = started_anew()
    talk.asks()
    disk.gives()
    (stored,) = talk.cache.stored_under(KEY)
    assert isinstance(stored, Stored)
    assert stored is not disk.there[KEY][0][0]
