"""Requests that wait for what another one has asked for already: what they get, and that nobody waits in vain."""

from __future__ import annotations

import gzip
import random

import pytest

from lbproxy import errors
from lbproxy.errors import TryError
from lbproxy.model_cache import CacheSettings, CompressSettings, RouteCacheSettings
from lbproxy.session.exchange import Exchange
from lbproxy.session.phases import ANSWER, CONNECT, OVER, QUEUE, WAITING
from tests.session.cache_fakes import ETAG, HELLO, MINUTE, CachingTalk

COLLAPSED = "lbproxy; fwd=uri-miss; collapsed"
BACKGROUND = f"{MINUTE}, stale-while-revalidate=600{ETAG}"
VARYING = f"{MINUTE}|Vary: X-A"


def waiting(talk: CachingTalk, count: int = 2) -> tuple[Exchange, list[Exchange]]:
    """One that asks a backend, and those that wait for it."""
    leader = talk.sent()
    assert leader.phase == ANSWER
    waiters = [talk.asks() for _ in range(count)]
    assert [one.phase for one in waiters] == [WAITING] * count
    return leader, waiters


class TestServed:
    def test_a_thousand_requests_for_one_cold_key_reach_the_backend_once(self) -> None:
        talk = CachingTalk(shared=CacheSettings(waiters=1000))
        leader, waiters = waiting(talk, 999)
        talk.answers(leader, fields=MINUTE, body=HELLO)
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, HELLO)] * 1000
        assert talk.backends_asked == 1
        assert talk.cache.collapsed == 999
        talk.check_at_rest()

    def test_the_answer_and_the_record_say_so(self) -> None:
        talk = CachingTalk()
        leader, (waiter, _) = waiting(talk)
        talk.passes(1)
        talk.answers(leader, fields=MINUTE, body=HELLO)
        assert talk.told(waiter) == COLLAPSED
        assert talk.told(leader) == "lbproxy; fwd=uri-miss; stored"
        first, second, third = talk.records
        assert (first.collapsed, second.collapsed, third.collapsed) == (False, True, True)
        assert [record.cache for record in talk.records] == ["miss"] * 3
        assert (first.backend, second.backend) == ("a", "")
        assert second.t_total_ms == 1000

    def test_all_get_it_as_it_comes(self) -> None:
        talk = CachingTalk()
        leader, waiters = waiting(talk)
        side = talk.side(leader)
        talk.comes_to(leader, length=5, body=b"he")
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, b"he")] * 3
        talk.brings(side, b"l")
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, b"hel")] * 3
        assert OVER not in [one.phase for one in (leader, *waiters)]
        talk.brings(side, b"lo")
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, HELLO)] * 3
        assert [one.phase for one in (leader, *waiters)] == [OVER] * 3
        talk.check_at_rest()

    def test_who_comes_in_the_middle_gets_it_from_its_beginning(self) -> None:
        talk = CachingTalk()
        side = talk.begins(length=5, body=b"hel")
        late = talk.asks()
        assert talk.given(late) == (200, b"hel")
        assert talk.told(late) == COLLAPSED
        talk.brings(side, b"lo")
        assert talk.given(late) == (200, HELLO)
        assert sorted(record.collapsed for record in talk.records) == [False, True]
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_each_gets_what_it_has_asked_for(self) -> None:
        talk = CachingTalk()
        leader = talk.sent()
        has_it = talk.asks(fields='If-None-Match: "e1"')
        whole = talk.asks(fields='If-None-Match: "e2"')
        talk.answers(leader, fields=MINUTE + ETAG, body=HELLO)
        assert talk.given(has_it) == (304, b"")
        assert talk.given(whole) == (200, HELLO)
        talk.check_at_rest()

    @pytest.mark.parametrize("parts", [{"method": "HEAD"}, {"fields": "Range: bytes=1-2"}, {"path": "/other"}])
    def test_others_do_not_wait(self, parts: dict[str, str]) -> None:
        talk = CachingTalk()
        talk.sent()
        assert talk.sent(**parts).phase == ANSWER

    def test_nobody_waits_where_the_route_does_not_want_it(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(collapse=False))
        first, second = talk.sent(), talk.sent()
        talk.answers(first, fields=MINUTE, body=HELLO)
        talk.answers(second, fields=MINUTE, body=b"HELLO")
        assert talk.given(talk.asks()) == (200, b"HELLO")
        talk.check_at_rest()


class TestNotStored:
    def test_who_waits_for_what_is_for_one_client_alone_asks_itself(self) -> None:
        talk = CachingTalk()
        leader, waiters = waiting(talk, 3)
        talk.answers(leader, fields="Cache-Control: private")
        for one in waiters:
            talk.connects(one)
        assert [one.phase for one in waiters] == [ANSWER] * 3, "one after the other would take for ever"
        for one in (leader, *waiters):
            talk.completes(one) if one is leader else talk.ok(one, fields="Cache-Control: private")
        assert talk.backends_asked == 4
        talk.check_at_rest()

    def test_after_a_bad_moment_one_of_them_leads_the_others(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        talk.answers(leader, status=503)
        talk.connects(first)
        assert (first.phase, second.phase) == (ANSWER, WAITING)
        talk.answers(first, fields=MINUTE, body=HELLO)
        assert talk.given(second) == (200, HELLO)
        talk.completes(leader)
        talk.check_at_rest()

    def test_a_bad_moment_that_lasts_lets_nobody_wait_longer_than_five_seconds(self) -> None:
        talk = CachingTalk()
        leader, waiters = waiting(talk, 3)
        for one in (leader, *waiters[:2]):
            talk.passes(2)
            talk.ok(talk.connects(one), status=503)
        last = waiters[2]
        assert last.phase != WAITING
        talk.ok(talk.connects(last), status=503)
        assert [record.status for record in talk.records] == [503] * 4
        talk.check_at_rest()


class TestLeavers:
    def test_the_first_in_line_asks_when_the_leader_leaves_before_the_head(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        talk.leaves(leader.conversation)
        talk.connects(first)
        assert (first.phase, second.phase) == (ANSWER, WAITING)
        talk.answers(first, fields=MINUTE, body=HELLO)
        assert talk.given(second) == (200, HELLO)
        assert talk.backends_asked == 2
        talk.check_at_rest()

    def test_nobody_is_touched_when_the_leader_leaves_behind_the_head(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        side = talk.side(leader)
        talk.comes_to(leader, length=5, body=b"he")
        talk.leaves(leader.conversation)
        assert side.open
        talk.brings(side, b"llo")
        assert [talk.given(one) for one in (first, second)] == [(200, HELLO)] * 2
        assert talk.given(talk.asks()) == (200, HELLO)
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_it_is_stored_although_nobody_is_left(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=5, body=b"he")
        talk.leaves(exchange.conversation)
        talk.brings(side, b"llo")
        assert talk.given(talk.asks()) == (200, HELLO)
        talk.check_at_rest()

    def test_one_that_waits_may_leave(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        talk.leaves(first.conversation)
        assert talk.records[0].outcome == "client_gone"
        talk.answers(leader, fields=MINUTE, body=HELLO)
        assert talk.given(second) == (200, HELLO)
        assert talk.stream(first).got == []
        talk.check_at_rest()

    def test_all_may_leave(self) -> None:
        talk = CachingTalk()
        leader, waiters = waiting(talk)
        for one in (*waiters, leader):
            talk.leaves(one.conversation)
        talk.check_at_rest()
        assert talk.http_factory.all[0].open is False

    def test_a_leader_that_leaves_in_the_queue_hands_its_place_on(self) -> None:
        talk = CachingTalk("a", max_active=1)
        other = talk.busy("a")
        leader = talk.asks()
        first = talk.asks()
        assert (leader.phase, first.phase) == (QUEUE, WAITING)
        talk.leaves(leader.conversation)
        assert first.phase == QUEUE
        talk.pool.give_back(other, talk.now)
        talk.connects(first)
        talk.answers(first, fields=MINUTE, body=HELLO)
        assert talk.given(first) == (200, HELLO)
        talk.check_at_rest()


class TestBounds:
    def test_more_than_may_wait_go_to_the_backend_uncached(self) -> None:
        talk = CachingTalk(shared=CacheSettings(waiters=2))
        leader, waiters = waiting(talk, 2)
        one_more = talk.sent()
        assert one_more.phase == ANSWER
        talk.ok(one_more, fields=MINUTE)
        assert talk.told(one_more) == 'lbproxy; fwd=uri-miss; detail="too many wait"'
        assert talk.records[0].cache_reason == "too many wait"
        assert talk.cache.store.objects == 0
        talk.answers(leader, fields=MINUTE, body=HELLO)
        assert [talk.given(one) for one in waiters] == [(200, HELLO)] * 2
        talk.check_at_rest()

    def test_who_has_waited_too_long_goes_to_the_backend_uncached(self) -> None:
        talk = CachingTalk()
        leader, (waiter, _) = waiting(talk)
        talk.passes(4.8)
        assert waiter.phase == WAITING
        talk.passes(0.4)
        assert waiter.phase == CONNECT
        talk.connects(waiter)
        talk.ok(waiter, fields=MINUTE)
        assert talk.told(waiter) == 'lbproxy; fwd=uri-miss; detail="waited too long"'
        assert talk.cache.store.objects == 0
        assert leader.phase == ANSWER
        assert talk.cache.flights.get(b"http://www.example.com/") is not None

    def test_who_comes_later_still_waits_five_seconds_of_its_own(self) -> None:
        talk = CachingTalk()
        talk.sent()
        talk.passes(4)
        late = talk.asks()
        talk.passes(4)
        assert late.phase == WAITING
        talk.passes(1.2)
        assert late.phase == CONNECT

    def test_one_that_has_to_look_again_has_no_more_time_for_that(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        talk.passes(3)
        talk.leaves(leader.conversation)
        talk.connects(first)
        assert second.phase == WAITING
        talk.passes(2.2)
        assert second.phase == CONNECT


class TestErrors:
    @pytest.mark.parametrize("error", [TryError.REFUSED, TryError.TIMEOUT, TryError.TLS_TIMEOUT])
    def test_all_get_the_error_of_the_leader_when_no_backend_could_be_had(self, error: TryError) -> None:
        talk = CachingTalk("a", tries=1)
        leader = talk.asks()
        waiters = [talk.asks(), talk.asks()]
        talk.refuses(leader, error)
        assert [one.outcome for one in (leader, *waiters)] == [error.outcome] * 3
        assert [one.status for one in (leader, *waiters)] == [error.outcome.status] * 3
        assert talk.backends_asked == 0
        talk.check_at_rest()

    @pytest.mark.parametrize("error", [TryError.SILENT, TryError.CLOSED, TryError.NONSENSE])
    def test_what_the_request_may_have_provoked_is_the_leader_s_alone(self, error: TryError) -> None:
        talk = CachingTalk("a", tries=1)
        leader, (first, second) = waiting(talk)
        leader.unanswered(error)
        assert leader.outcome is error.outcome
        talk.connects(first)
        assert (first.phase, second.phase) == (ANSWER, WAITING)
        talk.answers(first, fields=MINUTE, body=HELLO)
        assert talk.given(first) == talk.given(second) == (200, HELLO)
        assert talk.backends_asked == 2
        talk.check_at_rest()

    def test_who_is_cut_off_in_the_middle_is_not_told_that_it_is_whole(self) -> None:
        talk = CachingTalk()
        leader, (waiter, _) = waiting(talk)
        side = talk.side(leader)
        talk.comes_to(leader, length=5, body=b"he")
        talk.did()
        talk.breaks(side)
        assert [record.outcome for record in talk.records] == ["backend_cut"] * 3
        assert "client.next" not in talk.did()
        assert not talk.stream(waiter).open
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_the_next_one_after_an_error_asks_again(self) -> None:
        talk = CachingTalk("a", tries=1)
        talk.refuses(talk.asks())
        assert talk.fetched().status == 200

    def test_a_leader_that_finds_another_backend_still_leads(self) -> None:
        talk = CachingTalk()
        leader = talk.asks()
        waiter = talk.asks()
        talk.refuses(leader)
        assert waiter.phase == WAITING
        leader.connected()
        talk.answers(leader, fields=MINUTE, body=HELLO)
        assert talk.given(waiter) == (200, HELLO)
        talk.check_at_rest()


class TestVariants:
    def test_who_wants_another_variant_asks_for_it(self) -> None:
        talk = CachingTalk()
        leader = talk.sent(fields="X-A: 1")
        same, other = talk.asks(fields="X-A: 1"), talk.asks(fields="X-A: 2")
        assert (same.phase, other.phase) == (WAITING, WAITING)
        talk.answers(leader, fields=VARYING, body=b"one!!")
        assert talk.given(same) == (200, b"one!!")
        talk.connects(other)
        assert other.phase == ANSWER
        talk.answers(other, fields=VARYING, body=b"two!!")
        assert talk.given(other) == (200, b"two!!")
        assert talk.given(talk.asks(fields="X-A: 1")) == (200, b"one!!")
        assert talk.given(talk.asks(fields="X-A: 2")) == (200, b"two!!")
        talk.check_at_rest()

    def test_who_comes_in_the_middle_of_another_variant_asks_for_its_own(self) -> None:
        talk = CachingTalk()
        side = talk.begins(fields=VARYING, length=5, body=b"on")
        same = talk.asks()
        assert talk.given(same) == (200, b"on")
        third = talk.sent(fields="X-A: 2")
        assert third.phase == ANSWER
        talk.answers(third, fields=VARYING, body=b"two!!")
        assert talk.given(third) == (200, b"two!!")
        talk.brings(side, b"e!!")
        assert talk.given(talk.asks(fields="X-A: 2")) == (200, b"two!!")
        talk.check_at_rest()

    @pytest.mark.parametrize("way", ["confirmed", "stale"])
    def test_nobody_gets_another_variant_out_of_the_store(self, way: str) -> None:
        talk = CachingTalk()
        fields = f"{MINUTE}, stale-if-error=600{ETAG}|Vary: X-A"
        talk.answers(talk.sent(fields="X-A: 1"), fields=fields, body=b"one!!")
        talk.passes(61)
        leader = talk.sent(fields="X-A: 1")
        same, other = talk.asks(fields="X-A: 1"), talk.asks(fields="X-A: 2")
        assert (same.phase, other.phase) == (WAITING, WAITING)
        if way == "confirmed":
            talk.answers(leader, status=304, fields=fields)
        else:
            talk.answers(leader, status=503, body=b"oops!")
        assert talk.given(leader) == talk.given(same) == (200, b"one!!")
        talk.connects(other)
        assert other.phase == ANSWER
        talk.answers(other, fields=fields, body=b"two!!")
        assert talk.given(other) == (200, b"two!!")
        talk.check_at_rest()

    def test_an_error_finds_something_stored_for_each(self) -> None:
        talk = CachingTalk("a", tries=1)
        fields = f"{MINUTE}, stale-if-error=600{ETAG}|Vary: X-A"
        for number in ("1", "2"):
            talk.answers(talk.sent(fields=f"X-A: {number}"), fields=fields, body=number.encode() * 5)
        talk.passes(61)
        leader = talk.sent(fields="X-A: 1")
        other, none = talk.asks(fields="X-A: 2"), talk.asks(fields="X-A: 3")
        leader.unanswered(TryError.NONSENSE)
        assert talk.given(leader) == (200, b"11111")
        talk.connects(other).unanswered(TryError.NONSENSE)
        assert talk.given(other) == (200, b"22222")
        talk.connects(none).unanswered(TryError.NONSENSE)
        assert none.outcome is errors.BAD_RESPONSE
        talk.check_at_rest()


class TestCodings:
    """A route that compresses: some of those who read what comes want it packed."""

    PAGE = f"{MINUTE}|Content-Type: text/html"

    @staticmethod
    def talk() -> CachingTalk:
        compress = CompressSettings(codings=("gzip",), min_size=1)
        return CachingTalk(route={"compress": compress}, shared=CacheSettings(max_object=1 << 20))

    def test_each_gets_what_it_can_read(self) -> None:
        talk = self.talk()
        leader = talk.sent(fields="Accept-Encoding: gzip")
        plain, packed = talk.asks(), talk.asks(fields="Accept-Encoding: gzip")
        side = talk.side(leader)
        talk.comes_to(leader, fields=self.PAGE, body=HELLO * 100)
        talk.brings(side, HELLO * 900)
        late = talk.asks(fields="Accept-Encoding: gzip")
        talk.brings(side, b"!", last=True)
        whole = HELLO * 1000 + b"!"
        assert talk.given(plain) == (200, whole)
        for one in (leader, packed, late):
            status, content = talk.given(one)
            assert (status, gzip.decompress(content)) == (200, whole)
            assert len(content) < 1000
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_what_was_packed_once_is_packed(self) -> None:
        talk = self.talk()
        exchange = talk.sent(fields="Accept-Encoding: gzip")
        talk.answers(exchange, fields=f"{self.PAGE}|Content-Length: 5000", body=HELLO * 1000)
        first = talk.asks(fields="Accept-Encoding: gzip")
        second = talk.asks(fields="Accept-Encoding: gzip")
        assert gzip.decompress(talk.given(first)[1]) == HELLO * 1000
        assert talk.stream(first).face is talk.stream(second).face
        (stored,) = talk.cache.stored_under(b"http://www.example.com/")
        assert stored.coded is not None
        assert list(stored.coded) == [b"gzip"]

    def test_what_is_cut_short_is_cut_short_in_every_coding(self) -> None:
        talk = self.talk()
        leader = talk.sent(fields="Accept-Encoding: gzip")
        plain = talk.asks()
        side = talk.side(leader)
        talk.comes_to(leader, fields=self.PAGE, body=HELLO * 100)
        talk.breaks(side)
        assert [one.outcome for one in (leader, plain)] == [errors.BACKEND_CUT] * 2
        assert not talk.stream(leader).open
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    @pytest.mark.parametrize("room", [None, 1])
    def test_what_turns_out_too_long_is_whole_in_every_coding(self, room: int | None) -> None:
        talk = self.talk()
        stream = talk.slow(0)
        stream.room = room
        leader = talk.sent(conversation=stream.conversation, fields="Accept-Encoding: gzip")
        plain = talk.asks()
        side = talk.side(leader)
        whole = random.Random(1).randbytes(3 << 20)
        talk.comes_to(leader, fields=self.PAGE)
        place = 0
        while place < len(whole):
            if not side.wanted:
                talk.reads(stream, 100_000)
                continue
            talk.brings(side, whole[place : place + 65536])
            place += 65536
        talk.brings(side, b"", last=True)
        if room is not None:
            talk.reads(stream, 4 << 20)
        assert talk.given(plain) == (200, whole)
        assert gzip.decompress(stream.content) == whole
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_who_leaves_what_is_packed_for_it_alone_stops_the_backend(self) -> None:
        talk = self.talk()
        leader = talk.sent(fields="Accept-Encoding: gzip")
        side = talk.side(leader)
        talk.comes_to(leader, fields=self.PAGE)
        for _ in range(20):
            talk.brings(side, random.Random(1).randbytes(65536))
        assert side.open
        talk.leaves(leader.conversation)
        assert not side.open
        talk.check_at_rest()


class TestChanges:
    """Something changes at the backend while its answer is on its way."""

    def test_what_was_asked_for_before_is_not_stored(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=5, body=b"he")
        talk.passes(1)
        talk.ok(talk.sent(method="PUT", length=0))
        talk.brings(side, b"llo")
        assert talk.given(exchange) == (200, HELLO)
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER

    def test_who_asks_afterwards_does_not_wait_for_it(self) -> None:
        talk = CachingTalk()
        before = talk.sent()
        talk.passes(1)
        talk.ok(talk.sent(method="PUT", length=0))
        talk.passes(1)
        after = talk.sent()
        assert after.phase == ANSWER
        talk.answers(before, fields=MINUTE, body=b"older")
        talk.answers(after, fields=MINUTE, body=b"newer")
        assert talk.given(before) == (200, b"older")
        assert talk.given(talk.asks()) == (200, b"newer")
        talk.check_at_rest()

    def test_a_confirmation_from_before_brings_nothing_back(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        leader = talk.sent()
        talk.passes(1)
        talk.ok(talk.sent(method="PUT", length=0))
        talk.answers(leader, status=304, fields=MINUTE + ETAG)
        assert talk.sent().phase == ANSWER

    def test_the_cache_may_be_switched_off(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        side = talk.side(leader)
        talk.comes_to(leader, length=5, body=b"he")
        late = talk.asks()
        talk.switches_off()
        talk.brings(side, b"llo")
        for one in (leader, first, second, late):
            assert talk.given(one) == (200, HELLO)
        assert all(one.phase == OVER for one in (leader, first, second, late))

    def test_the_cache_may_be_switched_off_before_anything_comes(self) -> None:
        talk = CachingTalk()
        leader, (first, second) = waiting(talk)
        talk.switches_off()
        talk.answers(leader, fields=MINUTE, body=HELLO)
        for one in (first, second):
            if one.phase != OVER:
                talk.ok(talk.connects(one))
        assert [record.status for record in talk.records] == [200] * 3


class TestConfirmed:
    def test_all_who_wait_for_a_confirmation_get_what_was_confirmed(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        leader, waiters = waiting(talk)
        talk.answers(leader, status=304, fields=MINUTE + ETAG)
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, HELLO)] * 3
        assert [record.cache for record in talk.records[1:]] == ["revalidated"] * 3
        assert talk.backends_asked == 2
        talk.check_at_rest()

    def test_all_get_the_stale_one_when_the_backend_fails(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=f"{MINUTE}, stale-if-error=600{ETAG}")
        talk.passes(61)
        leader, waiters = waiting(talk)
        talk.answers(leader, status=500, body=b"oops!")
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, HELLO)] * 3
        assert [record.cache for record in talk.records[1:]] == ["stale"] * 3
        assert talk.told(waiters[0]) == "lbproxy; fwd=stale; fwd-status=500"
        talk.check_at_rest()

    def test_only_those_get_the_stale_one_who_may(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(honour_clients=True))
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        leader = talk.sent(fields="Cache-Control: stale-if-error=600")
        same, strict = talk.asks(fields="Cache-Control: stale-if-error=600"), talk.asks()
        talk.answers(leader, status=500, body=b"oops!")
        assert talk.given(leader) == talk.given(same) == (200, HELLO)
        assert talk.connects(strict).phase == ANSWER
        talk.ok(strict, status=500)
        assert talk.records[-1].status == 500
        talk.check_at_rest()

    def test_one_of_another_version_keeps_them_waiting_for_the_whole(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        leader, (waiter, _) = waiting(talk)
        talk.answers(leader, status=304, fields='ETag: "e2"')
        talk.connects(leader)
        assert waiter.phase == WAITING
        talk.answers(leader, fields=f'{MINUTE}|ETag: "e2"', body=b"HELLO")
        assert talk.given(waiter) == (200, b"HELLO")
        talk.check_at_rest()


class TestInTheBackground:
    def test_a_stale_answer_is_served_at_once_and_asked_about_meanwhile(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        exchange = talk.asks()
        assert talk.given(exchange) == (200, HELLO)
        assert talk.told(exchange) == "lbproxy; hit; ttl=-1"
        assert talk.records[-1].cache == "updating"
        refresh = talk.background()
        assert b'if-none-match: "e1"' in talk.asked_for(refresh)
        talk.answers(refresh, status=304, fields=BACKGROUND)
        assert talk.asks().verdict == "hit"
        assert len(talk.records) == 3, "what is asked in the background leaves no record"
        talk.check_at_rest()

    def test_one_at_a_time(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        assert [talk.given(talk.asks()) for _ in range(5)] == [(200, HELLO)] * 5
        talk.background()
        assert talk.given(talk.asks()) == (200, HELLO)
        assert talk.backends_asked == 2

    def test_a_new_answer_comes_in(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        talk.answers(talk.background(), fields=f'{MINUTE}|ETag: "e2"', body=b"HELLO")
        assert talk.given(talk.asks()) == (200, b"HELLO")
        talk.check_at_rest()

    def test_a_failure_hurts_nobody(self) -> None:
        talk = CachingTalk("a", tries=1)
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        talk.background().unanswered(TryError.SILENT)
        assert talk.given(talk.asks()) == (200, HELLO)
        assert [record.status for record in talk.records] == [200] * 3
        talk.passes(0.5)
        assert talk.backends_asked == 2, "the backend is left alone for a moment"
        talk.passes(1)
        talk.asks()
        talk.answers(talk.background(), status=304, fields=BACKGROUND)
        assert talk.asks().verdict == "hit"
        talk.check_at_rest()

    def test_an_error_of_the_backend_hurts_nobody(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        talk.answers(talk.background(), status=503, body=b"oops!")
        assert talk.given(talk.asks()) == (200, HELLO)

    def test_one_that_may_not_be_stored_any_more_ends_it(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        talk.answers(talk.background(), fields="Cache-Control: private", body=HELLO)
        assert talk.sent().phase == ANSWER
        assert talk.cache.store.objects == 0

    def test_counts_tell_only_what_clients_got(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        talk.answers(talk.background(), status=304, fields=BACKGROUND)
        assert dict(talk.cache.counts) == {"miss": 1, "updating": 1}

    def test_who_wants_another_variant_waits_and_asks_for_its_own(self) -> None:
        talk = CachingTalk()
        fields = f"{BACKGROUND}|Vary: X-A"
        talk.answers(talk.sent(fields="X-A: 1"), fields=fields, body=b"one!!")
        talk.passes(61)
        talk.asks(fields="X-A: 1")
        refresh = talk.background()
        other = talk.asks(fields="X-A: 2")
        assert other.phase == WAITING
        talk.answers(refresh, status=304, fields=fields)
        talk.connects(other)
        talk.answers(other, fields=fields, body=b"two!!")
        assert talk.given(other) == (200, b"two!!")
        talk.check_at_rest()

    def test_who_waits_for_one_that_fails_asks_itself(self) -> None:
        talk = CachingTalk("a", tries=1, rules=RouteCacheSettings(honour_clients=True))
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        refresh = talk.background()
        waiter = talk.asks(fields="Cache-Control: max-age=1")
        assert waiter.phase == WAITING
        refresh.unanswered(TryError.NONSENSE)
        assert talk.connects(waiter).phase == ANSWER
        talk.answers(waiter, status=304, fields=BACKGROUND)
        assert talk.given(waiter) == (200, HELLO)
        talk.check_at_rest()

    def test_the_client_for_whom_it_was_begun_may_leave(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        exchange = talk.asks()
        talk.leaves(exchange.conversation)
        talk.answers(talk.background(), status=304, fields=BACKGROUND)
        assert talk.asks().verdict == "hit"
        talk.check_at_rest()

    def test_a_silent_backend_is_given_up_after_its_time(self) -> None:
        talk = CachingTalk("a", tries=1)
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks()
        refresh = talk.background()
        talk.passes(66)
        assert refresh.phase == OVER
        assert len(talk.cache.flights) == 0

    def test_a_head_that_finds_it_stale_has_a_get_asked(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        talk.asks(method="HEAD")
        refresh = talk.background()
        assert talk.asked_for(refresh).startswith(b"get / ")
        talk.answers(refresh, fields=f'{MINUTE}|ETag: "e2"', body=b"HELLO")
        assert talk.given(talk.asks()) == (200, b"HELLO")
