"""What an exchange finds in the cache before any backend is asked, and what the client and the record hear of it."""

from __future__ import annotations

import gzip
from hashlib import blake2b
from typing import Any

import pytest

from lbproxy.addresses import NetworkSet
from lbproxy.model_cache import CompressSettings, KeySettings, RouteCacheSettings
from lbproxy.model_http import Condition, FieldEdits, HttpRouteSettings, Split
from lbproxy.session.phases import ANSWER, OVER
from tests.session.cache_fakes import ETAG, HELLO, KEY, MINUTE, CachingTalk
from tests.session.http_fakes import Talk, route_of

HONOUR = RouteCacheSettings(honour_clients=True)


class TestHits:
    def test_the_second_request_sees_no_backend(self) -> None:
        talk = CachingTalk()
        first = talk.fetched()
        assert talk.given(first) == (200, HELLO)
        assert talk.told(first) == "lbproxy; fwd=uri-miss; stored"
        talk.passes(3)
        talk.did()
        second = talk.asks()
        assert talk.did() == ["client<200 stored", "record ok", "client.next"]
        assert talk.given(second) == (200, HELLO)
        assert talk.told(second) == "lbproxy; hit; ttl=57"
        assert b"Age: 3\r\n" in talk.stream(second).extra
        assert talk.backends_asked == 1
        talk.check_at_rest()

    def test_the_record_tells_word_age_and_the_hash_of_the_key(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        talk.passes(3)
        talk.asks()
        miss, hit = talk.records
        digest = blake2b(KEY, digest_size=8).hexdigest()
        assert (miss.cache, miss.cache_reason, miss.cache_key) == ("miss", "", digest)
        assert (hit.cache, hit.age, hit.cache_key) == ("hit", 3, digest)
        assert (hit.backend, hit.status, hit.outcome, hit.collapsed) == ("", 200, "ok", False)

    def test_what_it_looks_like_is_kept_for_a_second(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        first, second = talk.asks(), talk.asks()
        assert talk.stream(first).face is talk.stream(second).face
        talk.passes(1)
        third = talk.asks()
        assert talk.stream(third).face is not talk.stream(first).face
        assert b"Age: 1\r\n" in talk.stream(third).extra

    def test_at_the_end_of_its_freshness_it_is_asked_about(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(59)
        assert talk.asks().verdict == "hit"
        talk.passes(1)
        exchange = talk.sent()
        assert exchange.phase == ANSWER
        assert b'if-none-match: "e1"\r\n' in talk.asked_for(exchange)

    def test_what_must_always_be_asked_about_is(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=f"{MINUTE}, no-cache{ETAG}")
        assert b'if-none-match: "e1"' in talk.asked_for(talk.sent())

    def test_without_cache_status_where_the_route_does_not_want_it(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(told=False))
        assert talk.told(talk.fetched()) == ""
        assert talk.told(talk.asks()) == ""
        assert talk.told(talk.sent(method="POST")) == ""

    def test_the_route_still_edits_what_is_stored_for_each_client(self) -> None:
        edits = FieldEdits(set=(("X-Path", "{path}"),), remove=("server",))
        talk = CachingTalk(route={"response_fields": edits})
        talk.fetched(fields=f"{MINUTE}|Server: x")
        exchange = talk.asks()
        lines = talk.stream(exchange).lines or talk.stream(exchange).got[-1].kept
        assert b"X-Path: /\r\n" in lines
        assert b"Server" not in lines

    def test_counts_tell_what_clients_got(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        talk.asks()
        talk.asks()
        talk.ok(talk.sent(path="/a"), fields="Cache-Control: private")
        talk.ok(talk.sent(method="POST", length=0))
        assert dict(talk.cache.counts) == {"hit": 2, "miss": 2, "bypass": 1}
        assert talk.cache.stored_total == 1

    def test_the_same_connection_goes_on_behind_a_hit(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        client = talk.accept()
        talk.asks(conversation=client)
        exchange = talk.fetched(conversation=client, path="/other")
        talk.asks(conversation=client)
        assert talk.given(exchange) == (200, HELLO)
        assert [record.cache for record in talk.records] == ["miss", "hit", "miss", "hit"]
        assert [record.request_number for record in talk.records] == [1, 1, 2, 3]
        talk.check_at_rest()


class TestWhatIsWanted:
    def test_a_head_is_answered_from_a_stored_get(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        exchange = talk.asks(method="HEAD")
        assert talk.given(exchange) == (200, b"")
        assert talk.stream(exchange).got[-1].length == len(HELLO)
        assert exchange.verdict == "hit"
        talk.check_at_rest()

    def test_a_head_that_is_a_miss_is_forwarded_as_head_and_stores_nothing(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent(method="HEAD")
        assert talk.did()[-1] == "a.ask HEAD /"
        talk.ok(exchange, fields=MINUTE)
        assert talk.told(exchange) == 'lbproxy; fwd=uri-miss; detail="HEAD"'
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_who_has_it_already_hears_304(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=f"{MINUTE}{ETAG}|Content-Type: text/plain")
        exchange = talk.asks(fields='If-None-Match: "e0", W/"e1"')
        assert talk.given(exchange) == (304, b"")
        head = talk.stream(exchange).got[-1]
        assert b'ETag: "e1"' in head.kept
        assert b"Content-Type" not in head.kept
        assert talk.records[-1].status == 304

    def test_who_has_another_gets_it(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        assert talk.given(talk.asks(fields='If-None-Match: "e2"')) == (200, HELLO)

    @pytest.mark.parametrize(
        ("wanted", "status", "content"),
        [
            ("bytes=1-3", 206, b"ell"),
            ("bytes=-2", 206, b"lo"),
            ("bytes=3-", 206, b"lo"),
            ("bytes=9-", 416, b""),
            ("bytes=x", 200, HELLO),
            ("lines=1-2", 200, HELLO),
        ],
    )
    def test_parts_are_cut_out_of_what_is_stored(self, wanted: str, status: int, content: bytes) -> None:
        talk = CachingTalk()
        talk.fetched()
        assert talk.given(talk.asks(fields=f"Range: {wanted}")) == (status, content)
        talk.check_at_rest()

    def test_several_parts_come_with_their_places(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=f"{MINUTE}|Content-Type: text/plain")
        exchange = talk.asks(fields="Range: bytes=0-0,4-4")
        status, content = talk.given(exchange)
        head = talk.stream(exchange).got[-1]
        assert status == 206
        assert b"multipart/byteranges; boundary=" in head.kept
        assert content.count(b"Content-Type: text/plain") == 2
        assert b"Content-Range: bytes 4-4/5" in content
        assert head.length == len(content)

    def test_a_range_for_another_version_gets_the_whole(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        assert talk.given(talk.asks(fields='Range: bytes=1-3|If-Range: "e2"')) == (200, HELLO)
        assert talk.given(talk.asks(fields='Range: bytes=1-3|If-Range: "e1"')) == (206, b"ell")

    def test_a_miss_with_a_range_is_forwarded_as_it_is_and_not_stored(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent(fields="Range: bytes=1-3")
        assert b"range: bytes=1-3" in talk.asked_for(exchange)
        talk.answers(exchange, status=206, fields=f"{MINUTE}|Content-Range: bytes 1-3/5|Content-Length: 3")
        talk.completes(exchange, 3)
        assert talk.told(exchange) == 'lbproxy; fwd=uri-miss; detail="Range"'
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_who_only_wants_what_is_stored_is_not_made_to_wait(self) -> None:
        talk = CachingTalk()
        talk.did()
        exchange = talk.asks(fields="Cache-Control: only-if-cached")
        assert talk.did()[-3:] == ["client!504", "record not_cached", "client.next"]
        assert exchange.verdict == "miss"
        talk.fetched()
        assert talk.given(talk.asks(fields="Cache-Control: only-if-cached")) == (200, HELLO)

    def test_who_only_wants_what_is_stored_gets_no_stale_answer(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        exchange = talk.asks(fields="Cache-Control: only-if-cached")
        assert exchange.status == 504
        assert talk.backends_asked == 1


class TestWhatTheBackendIsAsked:
    def test_conditions_of_the_client_stay_with_us(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent(fields='If-None-Match: "e1"|If-Modified-Since: Sat, 01 Jan 2022 00:00:00 GMT')
        assert b"if-" not in talk.asked_for(exchange)
        talk.answers(exchange, fields=MINUTE + ETAG, body=HELLO)
        assert talk.given(exchange) == (304, b"")
        assert talk.given(talk.asks()) == (200, HELLO)

    def test_they_go_through_where_nothing_will_be_stored(self) -> None:
        talk = CachingTalk(route={"cache_bypass": (Condition(paths=("/",)),)})
        assert b'if-none-match: "e1"' in talk.asked_for(talk.sent(fields='If-None-Match: "e1"'))

    def test_a_range_of_something_stale_is_cut_out_here(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        exchange = talk.sent(fields="Range: bytes=1-3")
        asked = talk.asked_for(exchange)
        assert b"range" not in asked
        assert b'if-none-match: "e1"' in asked
        talk.answers(exchange, fields=f'{MINUTE}|ETag: "e2"', body=b"HELLO")
        assert talk.given(exchange) == (206, b"ELL")
        assert talk.given(talk.asks()) == (200, b"HELLO")

    def test_last_modified_is_asked_by_where_there_is_no_etag(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=f"{MINUTE}|Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT")
        talk.passes(61)
        assert b"if-modified-since: sat, 01 jan 2022 00:00:00 gmt" in talk.asked_for(talk.sent())

    def test_the_request_for_an_ordinary_miss_is_the_client_s(self) -> None:
        talk = CachingTalk()
        plain = Talk()
        cached, forwarded = talk.sent(fields="X-A: 1"), plain.asked_and_sent(fields="X-A: 1")
        assert talk.side(cached).asked == plain.side(forwarded).asked


class TestBypass:
    @pytest.mark.parametrize(
        ("parts", "reason"),
        [
            ({"method": "POST", "length": 0}, "method"),
            ({"method": "FOO"}, "method"),
            ({"length": 5}, "request-body"),
            ({"fields": "Connection: Upgrade|Upgrade: websocket"}, "upgrade"),
            ({"fields": "X-HTTP-Method-Override: DELETE"}, "method-override"),
            ({"fields": "X-Original-URL: /admin"}, "target-override"),
            ({"fields": 'If-Match: "e2"'}, "precondition"),
        ],
    )
    def test_what_is_no_plain_get_passes_by(self, parts: dict[str, object], reason: str) -> None:
        talk = CachingTalk()
        talk.fetched()
        exchange = talk.sent(**parts)
        assert exchange.phase == ANSWER
        talk.ok(exchange, fields=MINUTE)
        assert talk.records[-1].cache == "bypass"
        assert talk.records[-1].cache_reason == reason
        word = "method" if reason == "method" else "bypass"
        assert talk.told(exchange) == f'lbproxy; fwd={word}; detail="{reason}"'

    def test_conditions_of_the_route_pass_by(self) -> None:
        talk = CachingTalk(route={"cache_bypass": (Condition(paths=("/private/",)),)})
        talk.ok(talk.sent(path="/private/a"), fields=MINUTE)
        talk.ok(talk.sent(path="/private/a"), fields=MINUTE)
        talk.fetched(path="/public")
        assert talk.asks(path="/public").verdict == "hit"
        assert [record.cache for record in talk.records] == ["bypass", "bypass", "miss", "hit"]

    def test_what_the_route_does_not_want_stored_is_still_looked_for(self) -> None:
        talk = CachingTalk(route={"cache_no_store": (Condition(clients=NetworkSet(["192.0.2.0/24"])),)})
        exchange = talk.sent()
        talk.ok(exchange, fields=MINUTE)
        assert talk.told(exchange) == 'lbproxy; fwd=uri-miss; detail="no_store"'
        assert talk.cache.store.objects == 0

    def test_a_route_that_does_not_cache_says_nothing(self) -> None:
        talk = CachingTalk()
        other = Talk(route=HttpRouteSettings())
        other.cache = talk.cache
        exchange = other.asked_and_sent()
        other.ok(exchange, fields=MINUTE)
        assert b"Cache-Status" not in other.stream(exchange).extra
        assert other.records[0].cache == ""
        assert talk.cache.store.objects == 0


class TestKeys:
    def test_scheme_host_port_path_and_query_tell_answers_apart(self) -> None:
        talk = CachingTalk()
        asked: list[dict[str, Any]] = [
            {"path": "/"},
            {"path": "/?"},
            {"path": "/?a=1"},
            {"path": "/?a=2"},
            {"path": "/a"},
            {"path": "/A"},
            {"host": "example.com"},
            {"host": "www.example.com:8080"},
        ]
        for number, parts in enumerate(asked):
            talk.fetched(body=b"%05d" % number, **parts)
        for number, parts in enumerate(asked):
            assert talk.given(talk.asks(**parts)) == (200, b"%05d" % number)
        assert talk.backends_asked == len(asked)

    def test_ways_to_write_the_same_are_the_same(self) -> None:
        talk = CachingTalk()
        talk.fetched(path="/a/%7Eb")
        others: list[dict[str, Any]] = [
            {"path": "/a/~b"},
            {"path": "/a/c/../~b"},
            {"path": "/a/~b", "host": "WWW.Example.com:80"},
        ]
        for parts in others:
            assert talk.asks(**parts).verdict == "hit", parts

    def test_parameters_that_are_ignored_do_not_matter(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(key=KeySettings(ignore_query=("utm_*",))))
        talk.fetched(path="/?a=1&utm_source=x")
        assert talk.asks(path="/?utm_medium=y&a=1").verdict == "hit"
        assert talk.sent(path="/?a=2").phase == ANSWER

    def test_a_header_of_the_key_matters(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(key=KeySettings(headers=("x-tenant",))))
        talk.fetched(host="a", body=b"one")
        first = talk.fetched(host="b", body=b"two")
        assert talk.given(first) == (200, b"two")
        assert talk.sent(host="a", fields="X-Tenant: 1").phase == ANSWER

    def test_what_one_client_changes_has_changed_for_those_with_other_keys(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(key=KeySettings(headers=("x-tenant",))))
        exchange = talk.sent(fields="X-Tenant: b")
        talk.answers(exchange, fields=f"{MINUTE}|Content-Length: 3", body=b"two")
        assert talk.given(talk.asks(fields="X-Tenant: b")) == (200, b"two")
        talk.passes(1)
        talk.ok(talk.sent(method="PUT", length=0, fields="X-Tenant: a"))
        assert talk.sent(fields="X-Tenant: b").phase == ANSWER

    def test_pools_of_a_split_are_kept_apart(self) -> None:
        split = Split((("web", 1), ("other", 1)))
        talk = CachingTalk(route={"split": split})
        talk.dice = [0.0]
        talk.fetched(body=b"web")
        talk.dice = [0.99]
        talk.fetched(body=b"other")
        assert talk.given(talk.asks()) == (200, b"other")
        talk.dice = [0.0]
        assert talk.given(talk.asks()) == (200, b"web")

    def test_routes_share_what_is_stored(self) -> None:
        rules = RouteCacheSettings()
        routes = [
            route_of(name="a", condition=Condition(methods=("HEAD",)), cache=rules),
            route_of(name="b", cache=rules),
        ]
        talk = CachingTalk()
        two = Talk(routes=routes)
        two.cache = talk.cache
        talk.fetched()
        assert two.asks(method="HEAD").verdict == "hit"
        assert two.asks().verdict == "hit"


class TestVariants:
    def test_each_gets_the_one_for_what_it_says(self) -> None:
        talk = CachingTalk()
        for language in ("de", "fr"):
            exchange = talk.sent(fields=f"Accept-Language: {language}")
            talk.answers(exchange, fields=f"{MINUTE}|Vary: Accept-Language|Content-Length: 2", body=language.encode())
        assert talk.told(exchange) == "lbproxy; fwd=vary-miss; stored"
        assert talk.given(talk.asks(fields="Accept-Language: de")) == (200, b"de")
        assert talk.given(talk.asks(fields="Accept-Language: FR")) == (200, b"fr")
        assert talk.sent(fields="Accept-Language: it").phase == ANSWER

    def test_a_backend_is_asked_for_codings_in_the_order_of_ours(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent(fields="Accept-Encoding: gzip;q=0.5, foo, br")
        assert b"accept-encoding: br, gzip\r\n" in talk.asked_for(exchange)

    def test_a_packed_answer_of_the_backend_is_unpacked_for_who_cannot_read_it(self) -> None:
        talk = CachingTalk(route={"compress": CompressSettings()})
        packed = gzip.compress(HELLO * 1000)
        exchange = talk.sent(fields="Accept-Encoding: gzip")
        fields = f"{MINUTE}|Content-Type: text/plain|Content-Encoding: gzip|Content-Length: {len(packed)}"
        talk.answers(exchange, fields=fields, body=packed)
        assert talk.given(exchange) == (200, packed)
        other = talk.asks()
        ((work, then),) = talk.beside
        then(work())
        assert talk.given(other) == (200, HELLO * 1000)
        assert talk.backends_asked == 1
        assert other.phase == OVER


class TestWishesOfClients:
    @pytest.mark.parametrize("wish", ["no-cache", "max-age=0", "no-store"])
    def test_they_do_not_count_where_nobody_says_so(self, wish: str) -> None:
        talk = CachingTalk()
        talk.fetched()
        assert talk.asks(fields=f"Cache-Control: {wish}").verdict == "hit"

    @pytest.mark.parametrize("wish", ["no-cache", "max-age=0", "min-fresh=61"])
    def test_where_they_count_the_backend_is_asked(self, wish: str) -> None:
        talk = CachingTalk(rules=HONOUR)
        talk.fetched(fields=MINUTE + ETAG)
        exchange = talk.sent(fields=f"Cache-Control: {wish}")
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)

    def test_where_they_count_stale_answers_may_be_taken(self) -> None:
        talk = CachingTalk(rules=HONOUR)
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(70)
        assert talk.given(talk.asks(fields="Cache-Control: max-stale=20")) == (200, HELLO)

    def test_where_they_count_nothing_is_stored_against_them(self) -> None:
        talk = CachingTalk(rules=HONOUR)
        exchange = talk.sent(fields="Cache-Control: no-store")
        talk.ok(exchange, fields=MINUTE)
        assert talk.records[0].cache_reason == "request no-store"
        assert talk.cache.store.objects == 0


class TestPurges:
    def test_what_was_purged_is_asked_for_again(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        talk.cache.bans.add("host", b"www.example.com", talk.cache.now(), soft=False)
        assert talk.fetched(body=b"later").verdict == "miss"
        assert talk.given(talk.asks()) == (200, b"later")

    def test_what_was_softly_purged_is_asked_about(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.asks()
        talk.cache.bans.add("all", b"", talk.cache.now(), soft=True)
        exchange = talk.sent()
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert talk.given(exchange) == (200, HELLO)
        assert talk.asks().verdict == "hit"

    def test_what_is_purged_on_its_way_does_not_come_in(self) -> None:
        talk = CachingTalk()
        side = talk.begins(length=5, body=b"he")
        talk.cache.bans.add("all", b"", talk.cache.now(), soft=False)
        talk.brings(side, b"llo")
        assert talk.sent().phase == ANSWER
        assert talk.backends_asked == 2
