"""What becomes of an answer that a backend was asked for on the cache's behalf."""

from __future__ import annotations

from typing import Any

import pytest

from lbproxy import errors
from lbproxy.errors import TryError
from lbproxy.model_cache import CacheSettings, RouteCacheSettings
from lbproxy.model_http import HttpPoolSettings, StickySettings
from lbproxy.session.phases import ANSWER, CONNECT, DATA, OVER
from tests.session.cache_fakes import ETAG, HELLO, MINUTE, CachingTalk, with_disk
from tests.session.http_fakes import message

RESCUING = f"{MINUTE}, stale-if-error=600{ETAG}"


def stale(fields: str = MINUTE + ETAG, seconds: float = 61, **parts: Any) -> CachingTalk:
    """A talk that has stored an answer at "/" which is stale by now."""
    talk = CachingTalk(**parts)
    talk.fetched(fields=fields)
    talk.passes(seconds)
    talk.did()
    return talk


class TestConfirmed:
    def test_a_304_makes_what_is_stored_fresh_again(self) -> None:
        talk = stale()
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert talk.given(exchange) == (200, HELLO)
        assert talk.told(exchange) == "lbproxy; fwd=stale; fwd-status=304; stored"
        assert talk.records[-1].cache == "revalidated"
        assert talk.records[-1].backend == "a"
        assert b"Age:" not in talk.stream(exchange).extra, "the backend has just vouched for it"
        again = talk.asks()
        assert talk.told(again) == "lbproxy; hit; ttl=60"
        assert talk.backends_asked == 2
        talk.check_at_rest()

    def test_its_fields_take_the_place_of_those_that_are_stored(self) -> None:
        talk = stale(fields=f"{MINUTE}{ETAG}|X-A: 1|X-B: 1")
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=f"Cache-Control: max-age=5{ETAG}|X-A: 2|X-C: 3|Set-Cookie: a=b")
        for one in (exchange, talk.asks()):
            kept = talk.stream(one).got[-1].kept
            assert b"X-A: 2\r\n" in kept
            assert b"X-B: 1\r\n" in kept
            assert b"X-C: 3\r\n" in kept
            assert b"X-A: 1" not in kept
            assert b"Set-Cookie" not in kept
        talk.passes(5)
        assert talk.sent().phase == ANSWER

    def test_who_asked_whether_it_has_changed_hears_that_it_has_not(self) -> None:
        talk = stale()
        exchange = talk.sent(fields='If-None-Match: "e1"')
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert talk.given(exchange) == (304, b"")

    def test_a_head_asks_as_well(self) -> None:
        talk = stale()
        exchange = talk.sent(method="HEAD")
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert talk.given(exchange) == (200, b"")
        assert talk.given(talk.asks()) == (200, HELLO)

    def test_one_that_must_not_be_stored_any_more_is_served_this_once(self) -> None:
        talk = stale()
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=f"Cache-Control: no-store{ETAG}")
        assert talk.given(exchange) == (200, HELLO)
        assert talk.told(exchange) == 'lbproxy; fwd=stale; fwd-status=304; detail="no-store"'
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER

    def test_one_of_another_version_is_asked_for_whole(self) -> None:
        talk = stale()
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=f'{MINUTE}|ETag: "e2"')
        talk.connects(exchange)
        assert exchange.phase == ANSWER
        assert b"if-none-match" not in talk.asked_for(exchange)
        talk.answers(exchange, fields=f'{MINUTE}|ETag: "e2"', body=b"HELLO")
        assert talk.given(exchange) == (200, b"HELLO")
        assert talk.given(talk.asks()) == (200, b"HELLO")
        talk.check_at_rest()

    def test_one_that_makes_it_vary_makes_it_a_variant(self) -> None:
        talk = stale()
        exchange = talk.sent(fields="X-A: 1")
        talk.answers(exchange, status=304, fields=f"{MINUTE}{ETAG}|Vary: X-A")
        assert talk.given(exchange) == (200, HELLO)
        assert talk.asks(fields="X-A: 1").verdict == "hit"
        assert talk.sent(fields="X-A: 2").phase == ANSWER

    def test_a_304_that_nobody_has_asked_for_goes_no_further_than_its_client(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        talk.completes(exchange, 0)
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_the_disk_hears_of_it(self) -> None:
        talk, disk = with_disk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=f"{MINUTE}{ETAG}|X-A: 2")
        assert len(disk.updated) == 1
        assert b"X-A: 2\r\n" in disk.updated[0]

    def test_a_new_answer_takes_the_place_of_the_old_one(self) -> None:
        talk = stale()
        exchange = talk.sent()
        talk.answers(exchange, fields=f'{MINUTE}|ETag: "e2"', body=b"HELLO")
        assert talk.given(exchange) == (200, b"HELLO")
        assert talk.told(exchange) == "lbproxy; fwd=stale; fwd-status=200; stored"
        assert talk.given(talk.asks()) == (200, b"HELLO")
        assert talk.cache.store.objects == 1

    def test_a_new_answer_that_is_not_stored_ends_the_old_one(self) -> None:
        talk = stale(RESCUING)
        exchange = talk.sent()
        talk.ok(exchange, fields="Cache-Control: no-store")
        assert talk.told(exchange) == 'lbproxy; fwd=stale; detail="no-store"'
        assert talk.cache.store.objects == 0


class TestErrors:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_what_is_stored_stands_in_for_an_error(self, status: int) -> None:
        talk = stale(RESCUING)
        exchange = talk.sent()
        talk.answers(exchange, status=status, body=b"oops!")
        assert talk.given(exchange) == (200, HELLO)
        assert talk.told(exchange) == f"lbproxy; fwd=stale; fwd-status={status}"
        assert talk.records[-1].cache == "stale"
        assert b"Age: 61\r\n" in talk.stream(exchange).extra
        talk.check_at_rest()

    def test_it_is_asked_about_each_time_until_it_is_too_old(self) -> None:
        talk = stale(RESCUING)
        for _ in range(3):
            talk.answers(talk.sent(), status=503, body=b"oops!")
        assert talk.backends_asked == 4
        talk.passes(600)
        exchange = talk.sent()
        talk.ok(exchange, status=503)
        assert talk.records[-1].status == 503
        assert talk.told(exchange) == 'lbproxy; fwd=stale; detail="status 503"'

    @pytest.mark.parametrize("way", ["refused", "silent", "closed", "no backend"])
    def test_it_stands_in_where_no_backend_answers(self, way: str) -> None:
        talk = stale(RESCUING, names="a", tries=1)
        side = talk.http_factory.idle["a"].pop()
        side.close()
        exchange = talk.asks()
        if way == "refused":
            talk.refuses(exchange)
        elif way == "silent":
            exchange.connected()
            exchange.unanswered(TryError.SILENT)
        elif way == "closed":
            exchange.connected()
            talk.loses(exchange)
        else:
            exchange.give_up(errors.NO_BACKEND)
            talk.http_factory.all[-1].close()
        assert talk.given(exchange) == (200, HELLO)
        assert talk.told(exchange).startswith("lbproxy; fwd=stale; detail=")
        assert talk.records[-1].cache == "stale"

    def test_nothing_stands_in_past_must_revalidate(self) -> None:
        talk = stale(f"{MINUTE}, must-revalidate, stale-if-error=600{ETAG}")
        exchange = talk.sent()
        talk.ok(exchange, status=503)
        assert talk.records[-1].status == 503

    def test_the_route_may_say_how_long(self) -> None:
        talk = stale(rules=RouteCacheSettings(stale_if_error=600.0))
        exchange = talk.sent()
        talk.answers(exchange, status=500, body=b"oops!")
        assert talk.given(exchange) == (200, HELLO)

    def test_what_the_client_has_done_wrong_is_told(self) -> None:
        talk = stale(RESCUING)
        exchange = talk.sent()
        talk.ok(exchange, status=404, fields="Cache-Control: no-store")
        assert talk.records[-1].status == 404
        assert talk.cache.store.objects == 0, "the backend has no such thing any more"

    def test_an_error_keeps_what_is_stored(self) -> None:
        talk = stale()
        talk.ok(talk.sent(), status=503)
        exchange = talk.sent()
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)

    def test_the_rest_of_the_error_is_read_and_its_connection_used_again(self) -> None:
        talk = stale(RESCUING)
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.answers(exchange, status=503, body=b"o")
        assert talk.given(exchange) == (200, HELLO)
        assert exchange.phase == OVER
        talk.brings(side, b"ops!")
        assert talk.http_factory.idle["a"] == [side]
        talk.check_at_rest()


class TestNotStored:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ("Cache-Control: no-store", "no-store"),
            ("Cache-Control: private", "private"),
            (f"{MINUTE}|Set-Cookie: a=b", "Set-Cookie"),
            (f"{MINUTE}|Vary: *", "Vary: *"),
            ("X-A: 1", "no freshness"),
            ("Cache-Control: max-age=0", "stale"),
        ],
    )
    def test_it_is_passed_on_and_the_reason_is_told(self, fields: str, reason: str) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        talk.did()
        talk.ok(exchange, fields=fields)
        assert talk.did() == ["client<200", "record ok", "client.next"]
        assert talk.told(exchange) == f'lbproxy; fwd=uri-miss; detail="{reason}"'
        record = talk.records[0]
        assert (record.cache, record.cache_reason) == ("miss", reason)
        assert talk.cache.refused[reason] == 1
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_it_is_remembered_so_that_nobody_waits_for_the_next_one(self) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(), fields="Cache-Control: no-store")
        first, second = talk.sent(), talk.sent()
        assert (first.phase, second.phase) == (ANSWER, ANSWER)
        talk.ok(first, fields="Cache-Control: no-store")
        talk.ok(second, fields="Cache-Control: no-store")
        talk.passes(121)
        first, second = talk.sent(), talk.sent()
        assert first.phase == ANSWER
        assert second.backend_side is None

    def test_what_can_be_stored_after_all_is(self) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(), fields="Cache-Control: no-store")
        talk.fetched()
        assert talk.asks().verdict == "hit"

    def test_a_bad_day_of_the_backend_is_not_remembered(self) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(), status=503)
        first, second = talk.sent(), talk.sent()
        assert (first.phase, second.backend_side) == (ANSWER, None)

    def test_what_is_too_long_for_the_store_is_passed_on(self) -> None:
        talk = CachingTalk(shared=CacheSettings(max_object=4))
        exchange = talk.sent()
        talk.ok(exchange, fields=MINUTE)
        assert talk.told(exchange) == 'lbproxy; fwd=uri-miss; detail="too large"'
        assert (talk.sent().phase, talk.sent().phase) == (ANSWER, ANSWER), "it is remembered"

    def test_cookies_are_stored_without_where_the_route_says_so(self) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(ignore_set_cookie=True))
        first = talk.fetched(fields=f"{MINUTE}|Set-Cookie: a=b|X-A: 1")
        for one in (first, talk.asks()):
            kept = talk.stream(one).got[-1].kept
            assert b"Set-Cookie" not in kept
            assert b"X-A: 1" in kept

    def test_answers_to_others_are_not_what_is_stored(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent(method="POST", length=0)
        talk.ok(exchange, fields=MINUTE)
        assert talk.sent().phase == ANSWER


class TestHeadsThatTell:
    def test_one_that_agrees_makes_what_is_stored_fresh(self) -> None:
        talk = stale()
        exchange = talk.sent(method="HEAD")
        talk.ok(exchange, fields=f"{MINUTE}{ETAG}|X-A: 2|Content-Length: 5")
        again = talk.asks()
        assert talk.given(again) == (200, HELLO)
        assert b"X-A: 2\r\n" in talk.stream(again).got[-1].kept

    @pytest.mark.parametrize("fields", [f'{MINUTE}|ETag: "e2"', f"{MINUTE}{ETAG}|Content-Length: 6"])
    def test_one_that_does_not_makes_it_stale(self, fields: str) -> None:
        talk = stale(seconds=1, rules=RouteCacheSettings(honour_clients=True))
        assert talk.asks().verdict == "hit"
        exchange = talk.sent(method="HEAD", fields="Cache-Control: no-cache")
        talk.ok(exchange, fields=f"{fields}|X-A: 2")
        exchange = talk.sent()
        assert exchange.phase == ANSWER
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert b"X-A: 2" not in talk.stream(exchange).got[-1].kept

    def test_one_that_fails_changes_nothing(self) -> None:
        talk = stale()
        talk.ok(talk.sent(method="HEAD"), status=404, fields="X-A: 2")
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert b"X-A: 2" not in talk.stream(exchange).got[-1].kept


class TestSticky:
    def test_who_has_to_be_bound_first_gets_an_answer_of_its_own(self) -> None:
        talk = CachingTalk(http=HttpPoolSettings(sticky=StickySettings("cookie")))
        exchange = talk.sent()
        talk.ok(exchange, fields=MINUTE)
        assert b"Set-Cookie: " in talk.stream(exchange).extra
        assert talk.records[0].cache_reason == "sticky"
        assert talk.cache.store.objects == 0

    def test_nobody_gets_the_cookie_of_another(self) -> None:
        talk = CachingTalk(http=HttpPoolSettings(sticky=StickySettings("cookie")))
        first = talk.sent()
        talk.ok(first, fields=MINUTE)
        line = next(one for one in talk.stream(first).extra.decode().split("\r\n") if one.startswith("Set-Cookie"))
        cookie = line.partition(": ")[2].partition(";")[0]
        bound = talk.sent(fields=f"Cookie: {cookie}")
        talk.answers(bound, fields=MINUTE, body=HELLO)
        other = talk.asks()
        assert talk.given(other) == (200, HELLO)
        stream = talk.stream(other)
        assert b"cookie" not in (stream.extra + stream.got[-1].kept).lower()


class TestInvalidation:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FOO"])
    def test_what_may_have_changed_is_asked_for_again(self, method: str) -> None:
        talk = CachingTalk()
        talk.fetched(path="/a?b")
        talk.fetched(path="/a?c")
        talk.ok(talk.sent(path="/a?b", method=method, length=0))
        assert talk.asks(path="/a?c").verdict == "hit"
        assert talk.sent(path="/a?b").phase == ANSWER

    def test_so_is_what_the_answer_points_to_on_the_same_site(self) -> None:
        talk = CachingTalk()
        for path in ("/list", "/item/1", "/other"):
            talk.fetched(path=path)
        talk.fetched(path="/elsewhere", host="other.example.com")
        here, there = "Location: /item/1|Content-Location: http://www.example.com/list", "http://other.example.com"
        for fields in (here, f"Location: {there}/elsewhere"):
            talk.ok(talk.sent(path="/new", method="POST", length=0), status=201, fields=fields)
        assert talk.asks(path="/other").verdict == "hit"
        assert talk.asks(path="/elsewhere", host="other.example.com").verdict == "hit"
        assert talk.sent(path="/list").phase == ANSWER
        assert talk.sent(path="/item/1").phase == ANSWER

    @pytest.mark.parametrize("status", [400, 404, 500, 503])
    def test_a_request_that_failed_has_changed_nothing(self, status: int) -> None:
        talk = CachingTalk()
        talk.fetched()
        talk.ok(talk.sent(method="DELETE"), status=status)
        assert talk.asks().verdict == "hit"

    @pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND"])
    def test_a_safe_one_changes_nothing(self, method: str) -> None:
        talk = CachingTalk()
        talk.fetched()
        talk.ok(talk.sent(method=method))
        assert talk.asks().verdict == "hit"

    def test_every_variant_goes(self) -> None:
        talk = CachingTalk()
        for language in ("de", "fr"):
            exchange = talk.sent(fields=f"Accept-Language: {language}")
            talk.answers(exchange, fields=f"{MINUTE}|Vary: Accept-Language", body=HELLO)
        assert talk.cache.store.objects == 2
        talk.ok(talk.sent(method="PUT", length=0))
        assert talk.cache.store.objects == 0

    def test_the_disk_forgets_it_too(self) -> None:
        talk, disk = with_disk()
        talk.fetched()
        assert disk.find(b"http://www.example.com/")
        talk.ok(talk.sent(method="DELETE"))
        assert not disk.find(b"http://www.example.com/")


class TestRetries:
    def test_a_dead_idle_connection_costs_the_cache_nothing(self) -> None:
        talk = stale()
        (side,) = talk.http_factory.idle["a"]
        side.is_dead = True
        exchange = talk.sent()
        assert exchange.phase == ANSWER
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)
        talk.answers(exchange, status=304, fields=MINUTE + ETAG)
        assert talk.given(exchange) == (200, HELLO)
        talk.check_at_rest()

    def test_another_backend_answers_for_one_that_refuses(self) -> None:
        talk = CachingTalk()
        exchange = talk.asks()
        talk.refuses(exchange)
        assert exchange.phase == CONNECT
        exchange.connected()
        talk.answers(exchange, fields=MINUTE, body=HELLO)
        assert talk.given(exchange) == (200, HELLO)
        assert (talk.records[0].backend, talk.records[0].retries) == ("b", 1)
        talk.check_at_rest()

    def test_pipelined_requests_are_looked_up_in_turn(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        client = talk.accept()
        for _ in range(3):
            assert talk.given(talk.asks(client, message())) == (200, HELLO)
        assert talk.backends_asked == 1

    def test_an_answer_that_passes_has_the_phase_of_its_body(self) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        talk.answers(exchange, fields="Cache-Control: private")
        assert exchange.phase == DATA
        talk.completes(exchange)
        assert exchange.phase == OVER
