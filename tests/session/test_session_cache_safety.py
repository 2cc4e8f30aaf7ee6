"""What must not happen whatever else does: that one client gets what is another's, that what is no longer true is
served, that memory has no bound, that somebody waits for ever, that one client's fault is another's.
"""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from typing import Any

import pytest

from lbproxy import errors
from lbproxy.addresses import NetworkSet
from lbproxy.cache.store import MemoryStore
from lbproxy.errors import TryError
from lbproxy.http.dates import date_line
from lbproxy.model import RouteSettings
from lbproxy.model_cache import CacheSettings, CompressSettings, RouteCacheSettings
from lbproxy.model_http import Condition, FieldEdits, HttpSettings, NamedMatch, Split, ValueMatch
from lbproxy.session import coded_bodies, shared_cache
from lbproxy.session.caching import marks_of
from lbproxy.session.phases import ANSWER, OVER, WAITING
from tests.session.cache_fakes import ETAG, HELLO, KEY, MINUTE, CachingTalk, copied, with_disk
from tests.session.http_fakes import route_of, web_pool

RULES = RouteCacheSettings()
VARYING = f"{MINUTE}|Vary: X-A"
BACKGROUND = f"{MINUTE}, stale-while-revalidate=600{ETAG}"
COOKIE = "Cookie: session=1"
GZIP = "Accept-Encoding: gzip"
PAGE = f"{MINUTE}|Content-Type: text/html"
# A route that stores nothing for those who have a cookie.
FOR_ALL = {"cache_no_store": (Condition(headers=(NamedMatch("cookie", ValueMatch("present")),)),)}
TRUSTING = HttpSettings(trusted_peers=NetworkSet(["192.0.2.0/24"]))


def several(*routes: RouteSettings) -> CachingTalk:
    """A talk with these routes, which lead to the pools "web" and "other"."""
    talk = CachingTalk(routes=routes, pools=[web_pool("o", "other")])
    talk.cache.configure(talk.cache.settings, marks_of([(one.pool or "", one.http) for one in routes if one.http]))
    return talk


def stale(fields: str = MINUTE + ETAG, seconds: float = 61, **parts: Any) -> CachingTalk:
    """A talk that has stored an answer at "/" which is stale by now."""
    talk = CachingTalk(**parts)
    talk.fetched(fields=fields)
    talk.passes(seconds)
    return talk


def packing() -> CachingTalk:
    """A talk whose route compresses."""
    return CachingTalk(route={"compress": CompressSettings(codings=("gzip",), min_size=1)})


def kept_lines(talk: CachingTalk) -> bytes:
    """The header of the one answer that is stored."""
    (stored,) = talk.cache.stored_under(KEY)
    assert stored.body == HELLO
    return stored.lines


class TestKeys:
    def test_routes_that_lead_elsewhere_share_nothing(self) -> None:
        staff = Condition(headers=(NamedMatch("x-staff", ValueMatch("exact", "1")),))
        talk = several(route_of("other", "staff", condition=staff, cache=RULES), route_of(cache=RULES))
        talk.answers(talk.sent(fields="X-Staff: 1"), fields=MINUTE, body=b"staff")
        talk.fetched(body=b"all!!")
        assert talk.given(talk.asks(fields="X-Staff: 1")) == (200, b"staff")
        assert talk.given(talk.asks()) == (200, b"all!!")

    def test_routes_that_ask_otherwise_share_nothing(self) -> None:
        """What the backend is told besides may change its answer."""
        staff = Condition(headers=(NamedMatch("x-staff", ValueMatch("exact", "1")),))
        edits = FieldEdits(set=(("X-Role", "staff"),))
        talk = several(
            route_of(name="staff", condition=staff, request_fields=edits, cache=RULES), route_of(cache=RULES)
        )
        talk.answers(talk.sent(fields="X-Staff: 1"), fields=MINUTE, body=b"staff")
        talk.fetched(body=b"all!!")
        assert talk.given(talk.asks(fields="X-Staff: 1")) == (200, b"staff")

    def test_what_is_changed_by_one_way_is_forgotten_by_all(self) -> None:
        talk = CachingTalk(route={"split": Split((("web", 1), ("other", 1)))})
        for dice in (0.0, 0.99):
            talk.dice = [dice]
            talk.fetched()
        assert talk.cache.store.objects == 2
        talk.ok(talk.sent(method="PUT", length=0))
        assert talk.cache.store.objects == 0

    @pytest.mark.parametrize(
        "line", ["X-Forwarded-Host: b.example", "X-Forwarded-Port: 31337", "X-Forwarded-Prefix: /b"]
    )
    def test_what_a_trusted_peer_says_of_the_target_tells_answers_apart(self, line: str) -> None:
        talk = CachingTalk(listener=TRUSTING)
        client = "X-Forwarded-For: 198.51.100.9"
        talk.answers(talk.sent(fields=client), fields=f"{MINUTE}", body=b"usual")
        other = talk.sent(fields=f"{client}|{line}")
        assert other.phase == ANSWER
        assert line.lower().encode() in talk.asked_for(other)
        talk.answers(other, fields=f"{MINUTE}", body=b"other")
        assert talk.given(talk.asks(fields=f"{client}|{line}")) == (200, b"other")
        assert talk.given(talk.asks(fields=client)) == (200, b"usual")

    def test_what_is_changed_behind_a_trusted_peer_is_forgotten(self) -> None:
        talk = CachingTalk(listener=TRUSTING)
        fields = "X-Forwarded-For: 198.51.100.9|X-Forwarded-Port: 8443"
        talk.answers(talk.sent(fields=fields), fields=MINUTE, body=HELLO)
        assert talk.asks(fields=fields).verdict == "hit"
        talk.ok(talk.sent(method="PUT", length=0, fields=fields))
        assert talk.sent(fields=fields).phase == ANSWER

    @pytest.mark.parametrize("name", ["Front-End-Https", "X-Url-Scheme", "X-Original-URL"])
    def test_fields_for_another_target_pass_by(self, name: str) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(fields=f"{name}: 1"), fields=MINUTE)
        assert talk.cache.store.objects == 0

    @pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "Client-Cert"])
    def test_what_varies_by_fields_that_are_written_here_is_not_stored(self, name: str) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(), fields=f"{MINUTE}|Vary: {name}")
        assert talk.records[0].cache_reason == f"Vary: {name.lower()}"
        assert talk.cache.store.objects == 0

    def test_nor_what_varies_by_fields_that_the_route_writes(self) -> None:
        talk = CachingTalk(route={"request_fields": FieldEdits(set=(("X-Who", "{client_ip}"),))})
        talk.ok(talk.sent(), fields=f"{MINUTE}|Vary: X-Who")
        assert talk.cache.store.objects == 0
        assert talk.fetched(fields=VARYING).status == 200, "other fields may be named"


class TestPrivate:
    """What is for one client reaches nobody else, and does reach that client."""

    def test_a_refresh_is_never_asked_for_somebody_whose_answers_are_not_stored(self) -> None:
        talk = stale(BACKGROUND, route=FOR_ALL)
        exchange = talk.sent(fields=COOKIE)
        assert exchange.phase == ANSWER
        talk.ok(exchange, fields=f'{BACKGROUND}|ETag: "mine"|X-User: alice')
        talk.passes(0)
        assert talk.backends_asked == 2
        assert b"X-User" not in kept_lines(talk)

    @pytest.mark.parametrize("asking", [COOKIE, "Authorization: Basic YTpi"])
    @pytest.mark.parametrize("way", ["head", "304", "200"])
    def test_nothing_that_is_said_to_one_changes_what_is_stored_for_all(self, way: str, asking: str) -> None:
        talk = stale(f"{MINUTE}, stale-if-error=600{ETAG}", route=FOR_ALL)
        private = f"{MINUTE}{ETAG}|X-User: alice"
        if way == "head":
            talk.ok(talk.sent(method="HEAD", fields=asking), fields=f"{private}|Content-Length: 5")
        elif way == "304":
            exchange = talk.sent(fields=asking)
            talk.answers(exchange, status=304, fields=private)
            assert exchange.status == 200
        else:
            talk.ok(talk.sent(fields=asking), fields=private)
        assert b"X-User" not in kept_lines(talk)
        exchange = talk.sent()
        assert exchange.phase == ANSWER, "it is as stale as it was"
        talk.answers(exchange, status=503)
        assert talk.given(exchange) == (200, HELLO)

    def test_a_head_may_tell_that_it_must_always_be_asked_about(self) -> None:
        talk = stale()
        talk.ok(talk.sent(method="HEAD"), fields=f"{MINUTE}, no-cache{ETAG}|Content-Length: 5")
        assert talk.sent().phase == ANSWER

    def test_a_304_that_makes_it_private_is_for_who_asked_alone(self) -> None:
        talk = stale()
        leader, waiter = talk.sent(), talk.asks()
        assert waiter.phase == WAITING
        talk.answers(leader, status=304, fields=f"Cache-Control: private{ETAG}")
        assert talk.given(leader) == (200, HELLO)
        assert talk.connects(waiter).phase == ANSWER
        talk.ok(waiter, fields="Cache-Control: private")
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    @pytest.mark.parametrize("said", ['no-cache="Set-Cookie"', 'private="Set-Cookie"'])
    def test_fields_that_are_not_stored_are_given_to_who_asked(self, said: str) -> None:
        talk = CachingTalk()
        first = talk.sent()
        waiter = talk.asks()
        talk.answers(first, fields=f"{MINUTE}, {said}|Set-Cookie: id=1", body=HELLO)
        assert b"Set-Cookie: id=1\r\n" in talk.stream(first).extra
        for other in (waiter, talk.asks()):
            assert talk.given(other) == (200, HELLO)
            stream = talk.stream(other)
            assert b"set-cookie: " not in (stream.extra + stream.got[-1].kept).lower()

    def test_who_waits_for_what_is_another_s_goes_at_once(self) -> None:
        talk = CachingTalk()
        leader = talk.sent(fields="Authorization: Basic YTpi")
        waiters = [talk.asks(fields=f"Authorization: Basic {number}") for number in range(5)]
        assert {one.phase for one in waiters} == {WAITING}
        talk.ok(leader, fields=MINUTE)
        assert WAITING not in {one.phase for one in waiters}
        for one in waiters:
            talk.ok(talk.connects(one), fields=MINUTE)
        assert talk.backends_asked == 6
        talk.check_at_rest()

    def test_conditions_are_obeyed_though_nothing_is_stored(self) -> None:
        talk = CachingTalk()
        private, asking = f"Cache-Control: private{ETAG}", 'If-None-Match: "e1"'
        first = talk.sent(fields=asking)
        assert b"if-none-match" not in talk.asked_for(first), "the whole might be stored"
        talk.answers(first, fields=private, body=HELLO)
        assert talk.given(first)[0] == 304
        second = talk.sent(fields=asking)
        assert b'if-none-match: "e1"' in talk.asked_for(second), "most likely it will not be"
        talk.answers(second, status=304, fields=private)
        assert talk.stream(second).got[-1].status == 304
        assert talk.cache.store.objects == 0

    def test_what_stands_between_several_parts_cannot_be_known_before(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        kinds = set()
        for _ in range(2):
            kept = talk.stream(talk.asks(fields="Range: bytes=0-1,4-")).got[-1].kept
            kinds.add(next(line for line in kept.split(b"\r\n") if line.startswith(b"Content-Type: multipart")))
        assert len(kinds) == 2


class TestNoMoreTrue:
    def test_who_asks_after_a_purge_does_not_wait_for_what_was_asked_before(self) -> None:
        talk = CachingTalk()
        before = talk.sent()
        talk.cache.bans.add("url", KEY, talk.cache.now(), soft=False)
        after = talk.sent()
        assert after.phase == ANSWER
        talk.answers(after, fields=MINUTE, body=b"newer")
        talk.answers(before, fields=MINUTE, body=b"older")
        assert talk.given(talk.asks()) == (200, b"newer")
        talk.check_at_rest()

    def test_nor_joins_what_is_coming(self) -> None:
        talk = CachingTalk()
        side = talk.begins(length=5, body=b"ol")
        talk.cache.bans.add("prefix", b"http://www.example.com/", talk.cache.now(), soft=False)
        assert talk.sent().phase == ANSWER
        talk.brings(side, b"der")
        assert talk.cache.store.objects == 0

    def test_a_confirmation_brings_nothing_back_that_a_sweep_has_found_purged(self) -> None:
        talk = stale()
        leader = talk.sent()
        (stored,) = talk.cache.stored_under(KEY)
        talk.cache.bans.add("prefix", KEY, talk.cache.now(), soft=False)
        assert not talk.cache.hold_against_bans(stored, talk.cache.now())
        talk.answers(leader, status=304, fields=MINUTE + ETAG)
        assert talk.given(leader) == (200, HELLO)
        assert talk.sent().phase == ANSWER

    def test_a_purge_that_is_done_with_leaves_the_rest_of_the_disk_alone(self) -> None:
        talk, disk = with_disk()
        talk.fetched()
        talk.cache.store.remove_key(KEY)
        number = talk.cache.bans.add("tag", b"other", talk.cache.now(), soft=False)
        talk.cache.bans.forget(number)
        for _ in range(2):
            exchange = talk.asks()
            if disk.loads:
                disk.gives()
            assert talk.given(exchange) == (200, HELLO)
        assert talk.backends_asked == 1

    @pytest.mark.parametrize("long", [False, True])
    @pytest.mark.parametrize("way", ["purged", "changed"])
    def test_what_is_true_no_more_when_it_has_been_read_from_the_disk_is_not_used(self, way: str, long: bool) -> None:
        talk, disk = with_disk(shared=CacheSettings(max_object=4 if long else 1 << 20))
        talk.fetched()
        for file in disk.files:
            file.writes()
        talk.cache.store.remove_key(KEY)
        exchange = talk.asks()
        ((stored, vary),) = disk.there[KEY]
        ((_, _, then),) = disk.loads
        talk.passes(1)
        if way == "purged":
            talk.cache.bans.add("prefix", KEY, talk.cache.now(), soft=False)
        else:
            talk.ok(talk.sent(method="PUT", length=0))
        then(copied(stored), vary)
        assert talk.connects(exchange).phase == ANSWER
        assert talk.cache.store.objects == 0

    def test_what_is_coming_is_joined_while_it_is_fresh_or_has_just_begun(self) -> None:
        talk = CachingTalk()
        side = talk.begins(fields="Cache-Control: max-age=1, must-revalidate", body=b"a")
        talk.passes(4)
        assert talk.given(talk.asks()) == (200, b"a"), "it would have waited as long"
        talk.passes(2)
        assert talk.sent().phase == ANSWER
        talk.brings(side, b"b", last=True)

    def test_what_is_coming_is_joined_as_long_as_it_is_fresh(self) -> None:
        talk = CachingTalk()
        talk.begins(body=b"a")
        talk.passes(30)
        assert talk.given(talk.asks()) == (200, b"a")

    def test_what_it_looked_like_is_forgotten_in_every_coding(self) -> None:
        talk = packing()
        packed = gzip.compress(HELLO)
        fields = f"{PAGE}{ETAG}|Content-Encoding: gzip"
        talk.fetched(fields=fields, body=packed, path="/")
        talk.cache.bans.add("url", KEY, talk.cache.now(), soft=False)
        talk.answers(talk.sent(fields=GZIP), fields=f"{fields}|Content-Length: {len(packed)}", body=packed)
        first, second = talk.asks(fields=GZIP), talk.asks(fields=GZIP)
        assert talk.stream(first).face is talk.stream(second).face
        talk.cache.bans.add("url", KEY, talk.cache.now(), soft=True)
        talk.answers(talk.sent(fields=GZIP), status=304, fields=f"{fields}|X-A: 2")
        assert b"X-A: 2" in talk.stream(talk.asks(fields=GZIP)).got[-1].kept


class TestSwitchingOff:
    """A reload takes the cache away while something waits for it."""

    def test_who_waits_for_another_variant_asks_for_itself(self) -> None:
        talk = CachingTalk()
        leader, other = talk.sent(fields="X-A: 1"), talk.asks(fields="X-A: 2")
        assert other.phase == WAITING
        talk.switches_off()
        talk.answers(leader, fields=f"{VARYING}", body=HELLO)
        assert talk.given(leader) == (200, HELLO)
        assert talk.connects(other).phase == ANSWER
        talk.ok(other)
        talk.check_clean()

    def test_who_waits_for_the_disk_asks_for_itself(self) -> None:
        talk, disk = with_disk()
        talk.fetched()
        talk.cache.store.remove_key(KEY)
        exchange = talk.asks()
        assert exchange.phase == WAITING
        talk.switches_off()
        disk.gives()
        assert talk.connects(exchange).phase == ANSWER
        talk.ok(exchange)
        talk.check_clean()

    def test_new_bounds_count_from_the_reload_on(self) -> None:
        talk = CachingTalk()
        cache = talk.cache
        cache.configure(replace(cache.settings, waiters=1, variants=2), cache.marks)
        for number in range(3):
            talk.answers(talk.sent(fields=f"X-A: {number}"), fields=f"{VARYING}", body=HELLO)
        assert cache.store.objects == 2
        talk.sent(path="/b")
        assert talk.asks(path="/b").phase == WAITING
        assert talk.sent(path="/b").phase == ANSWER


class TestMemory:
    @pytest.mark.parametrize("leave", [False, True], ids=["readers", "fills"])
    def test_bodies_that_are_read_and_filled_have_a_bound(self, leave: bool) -> None:
        talk = CachingTalk(shared=CacheSettings(memory=3 << 20, max_object=2 << 20))
        megabyte = bytes(1 << 20)
        sides = []
        for number in range(3):
            stream = talk.slow()
            exchange = talk.sent(conversation=stream.conversation, path=f"/{number}")
            sides.append(talk.side(exchange))
            talk.comes_to(exchange, length=len(megabyte), body=b"a")
            if leave:
                talk.leaves(stream.conversation)
        one_more = talk.sent(path="/3")
        talk.answers(one_more, fields=f"{MINUTE}|Content-Length: {len(megabyte)}")
        assert talk.told(one_more) == 'lbproxy; fwd=uri-miss; detail="busy"'
        talk.completes(one_more, len(megabyte))
        small = talk.sent(path="/4")
        talk.answers(small, fields=f"{MINUTE}", body=HELLO)
        assert talk.told(small).endswith("stored")
        for side in sides:
            talk.brings(side, megabyte[1:])
        if leave:
            talk.check_at_rest()

    def test_who_reads_what_others_have_read_holds_it_too(self) -> None:
        talk = CachingTalk(shared=CacheSettings(memory=3 << 20, max_object=2 << 20))
        talk.fetched(body=bytes(1 << 20))
        talk.asks()
        assert not talk.cache.crowded(3 << 20), "nobody reads it now"
        stream = talk.stream(talk.accept())
        stream.held = 1
        talk.asks(conversation=stream.conversation)
        talk.cache.forget_key(KEY)
        assert talk.cache.crowded(3 << 20)
        stream.held = 0
        assert stream.reader is not None
        stream.reader.more()
        assert len(stream.content) == 1 << 20
        talk.check_at_rest()

    def test_what_goes_into_a_file_may_be_longer_than_the_memory(self) -> None:
        talk, disk = with_disk(shared=CacheSettings(memory=70_000, max_object=1000))
        body = bytes(200_000)
        exchange = talk.fetched(body=body)
        assert talk.told(exchange) == "lbproxy; fwd=uri-miss; stored"
        disk.files[0].writes()
        assert disk.find(KEY)
        talk.check_at_rest()

    def test_a_body_of_unknown_length_goes_into_a_file_once_memory_is_not_for_it(self) -> None:
        talk, disk = with_disk(shared=CacheSettings(max_object=1000))
        side = talk.begins(body=bytes(600))
        assert disk.files == []
        talk.brings(side, bytes(600))
        (file,) = disk.files
        talk.brings(side, b"end", last=True)
        file.writes()
        assert file.data == bytes(1200) + b"end"
        assert disk.find(KEY)
        talk.check_at_rest()

    def test_while_nobody_knows_how_long_it_is_nobody_is_told_that_it_is_stored(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        talk.comes_to(exchange, body=b"a")
        assert talk.told(exchange) == "lbproxy; fwd=uri-miss"

    def test_what_answers_looked_like_has_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared_cache, "_MOST_SHOWN", 1000)
        talk = CachingTalk()
        for number in range(20):
            talk.fetched(path=f"/{number}", body=bytes(300))
            talk.asks(path=f"/{number}")
            assert sum(face.length for face in talk.cache.faces.values()) <= 1300

    def test_a_packed_answer_does_not_come_out_without_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though no more comes out of it at once than its ratio allows (threats.md R7)."""
        monkeypatch.setattr(coded_bodies, "MOST", 100_000)
        talk = packing()
        bomb = gzip.compress(random.Random(1).randbytes(4000) * 40)
        leader = talk.sent()
        side, reads = talk.side(leader), talk.asks(fields=GZIP)
        talk.comes_to(leader, fields=f"{PAGE}|Content-Encoding: gzip", length=len(bomb), body=bomb[:100])
        talk.brings(side, bomb[100:])
        assert leader.phase == OVER
        assert not talk.stream(leader).open
        assert len(talk.stream(leader).content) <= 100_000
        assert talk.given(reads) == (200, bomb)
        (stored,) = talk.cache.stored_under(KEY)
        assert not stored.coded, "nobody finds what is not whole"
        talk.check_at_rest()


class TestSlowReaders:
    def test_one_that_reads_what_is_packed_for_it_gets_all_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coded_bodies, "MOST", 1 << 20)  # it is for what is unpacked
        talk = packing()
        stream = talk.slow()
        whole = random.Random(1).randbytes(2 << 20)
        leader = talk.sent(conversation=stream.conversation, fields=GZIP)
        side = talk.side(leader)
        talk.comes_to(leader, fields=PAGE, length=len(whole))
        for place in range(0, len(whole), 65536):
            talk.brings(side, whole[place : place + 65536])
        talk.reads(stream, 4 << 20)
        assert leader.phase == OVER
        assert gzip.decompress(stream.content) == whole
        assert gzip.decompress(talk.given(talk.asks(fields=GZIP))[1]) == whole
        talk.check_at_rest()


class TestTransforming:
    def test_what_must_not_be_transformed_is_not_unpacked(self) -> None:
        talk = packing()
        packed = gzip.compress(HELLO * 100)
        fields = f"{MINUTE}, no-transform|Content-Type: text/html|Content-Encoding: gzip"
        exchange = talk.fetched(fields=fields, body=packed)
        for one in (exchange, talk.asks()):
            assert talk.given(one) == (200, packed)
        assert talk.beside == []

    def test_who_wants_nothing_transformed_gets_it_plain(self) -> None:
        talk = packing()
        talk.fetched(fields=PAGE, body=HELLO * 100)
        assert talk.given(talk.asks(fields=f"{GZIP}|Cache-Control: no-transform")) == (200, HELLO * 100)
        assert gzip.decompress(talk.given(talk.asks(fields=GZIP))[1]) == HELLO * 100


class TestFailures:
    def test_a_backend_that_fails_is_left_alone_for_longer_and_longer(self) -> None:
        talk = CachingTalk("a", tries=1)
        talk.fetched(fields=BACKGROUND)
        talk.passes(61)
        seeking = talk.http_factory.seeking
        for pause in (1.0, 2.0, 4.0):
            talk.asks()
            talk.background().unanswered(TryError.NONSENSE)
            before = len(seeking)
            talk.passes(pause - 0.2)
            assert talk.given(talk.asks()) == (200, HELLO)
            talk.passes(0)
            assert len(seeking) == before, "it may still be ill"
            talk.passes(0.3)

    def test_what_one_request_has_provoked_takes_nothing_from_others(self) -> None:
        talk = stale(f"{MINUTE}, stale-if-error=600{ETAG}")
        talk.ok(talk.sent(), status=403)
        exchange = talk.sent()
        talk.answers(exchange, status=503)
        assert talk.given(exchange) == (200, HELLO)

    def test_the_fault_of_one_who_is_served_is_nobody_else_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = CachingTalk()
        leader = talk.sent()
        first, second = talk.asks(), talk.asks()

        def breaks(_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(talk.stream(first), "present", breaks)
        talk.answers(leader, fields=f"{MINUTE}", body=HELLO)
        assert talk.given(leader) == talk.given(second) == (200, HELLO)
        assert first.phase == OVER
        assert [type(problem) for problem in talk.faults] == [RuntimeError]
        assert talk.asks().verdict == "hit"

    def test_the_fault_of_the_leader_is_nobody_else_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = CachingTalk()
        leader, waiter = talk.sent(), talk.asks()

        def breaks(_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(talk.stream(leader), "present", breaks)
        talk.answers(leader, fields=f"{MINUTE}", body=HELLO)
        assert leader.phase == OVER
        assert not talk.stream(leader).open
        assert talk.given(waiter) == (200, HELLO)
        assert len(talk.cache.flights) == 0

    def test_the_fault_of_one_who_goes_to_the_backend_is_nobody_else_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = CachingTalk()
        leader = talk.sent()
        first, second = talk.asks(), talk.asks()
        connect = talk.http_factory.connect

        def breaks(session: object, now: float) -> None:
            if session is first:
                raise RuntimeError
            connect(session, now)

        monkeypatch.setattr(talk.http_factory, "connect", breaks)
        talk.ok(leader, fields="Cache-Control: private")
        assert first.phase == OVER
        assert talk.connects(second).phase == ANSWER

    def test_a_store_that_breaks_leaves_nobody_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = CachingTalk()
        leader, waiter = talk.sent(), talk.asks()

        def breaks(*_: object) -> bool:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(MemoryStore, "put", breaks)
            with pytest.raises(MemoryError):
                talk.answers(leader, fields=f"{MINUTE}", body=HELLO)
        assert leader.phase == OVER
        assert leader.outcome is errors.BAD_RESPONSE
        assert talk.connects(waiter).phase == ANSWER
        talk.answers(waiter, fields=f"{MINUTE}", body=HELLO)
        assert talk.given(waiter) == (200, HELLO)
        assert len(talk.cache.flights) == 0


class TestClocks:
    @pytest.mark.parametrize("wrong", [-3600.0, 3600.0])
    def test_a_clock_that_was_wrong_at_the_start_ages_nothing(self, wrong: float) -> None:
        talk = CachingTalk()
        talk.cache.offset += wrong
        date = date_line(int(talk.wall())).decode().strip()
        first = talk.fetched(fields=f"{MINUTE}|{date}")
        assert b"Age" not in talk.stream(first).extra
        talk.passes(10)
        again = talk.asks()
        assert talk.told(again) == "lbproxy; hit; ttl=50"
        assert b"Age: 10\r\n" in talk.stream(again).extra

    def test_the_date_that_an_answer_lacks_is_that_of_the_clock_as_it_is_now(self) -> None:
        talk = CachingTalk()
        talk.cache.offset += 3600
        talk.fetched()
        assert date_line(int(talk.wall())) in kept_lines(talk)
