"""The table of threats to a cache, row by row, as far as no socket is needed. The row's id is in the test's name."""

from __future__ import annotations

import pytest

from lbproxy.addresses import NetworkSet
from lbproxy.errors import BAD_BODY, TryError
from lbproxy.http.messages import HttpError
from lbproxy.http.response_head import ResponseReader
from lbproxy.model_cache import CacheSettings, RouteCacheSettings
from lbproxy.model_http import HttpSettings
from lbproxy.session.phases import ANSWER, OVER, WAITING
from tests.session.cache_fakes import ETAG, HELLO, KEY, MINUTE, CachingTalk
from tests.session.http_fakes import answer, message

NEVER = (400, 408, 413, 414, 417, 421, 425, 429, 431, 501, 502, 503, 504)
STALE = f"{MINUTE}, stale-while-revalidate=600, stale-if-error=600{ETAG}"


def refused(talk: CachingTalk, text: bytes) -> HttpError:
    """What is wrong with this request."""
    with pytest.raises(HttpError) as raised:
        talk.gate.front.reader.read(text)
    return raised.value


class TestK1InputOutsideTheKey:
    @pytest.mark.parametrize(
        "field",
        [
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Proto: evil",
            "X-Forwarded-Port: 31337",
            "X-Forwarded-Prefix: /evil",
            "X-Forwarded-Server: evil.example",
            "X-Forwarded-Scheme: evil",
            "Forwarded: host=evil.example;proto=evil",
        ],
    )
    def test_K1_what_the_key_does_not_hold_does_not_reach_the_backend(self, field: str) -> None:
        talk = CachingTalk()
        exchange = talk.sent(fields=field)
        asked = talk.asked_for(exchange)
        assert b"evil" not in asked
        assert b"31337" not in asked
        assert b"x-forwarded-host: www.example.com\r\n" in asked

    @pytest.mark.parametrize(
        "name",
        ["X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-Host", "X-Host-Override", "X-HTTP-Host-Override"],
    )
    def test_K1_or_its_answer_is_neither_stored_nor_served(self, name: str) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(fields=f"{name}: /evil"), fields=MINUTE)
        assert talk.cache.store.objects == 0
        talk.fetched()
        assert talk.sent(fields=f"{name}: /evil").phase == ANSWER
        assert talk.given(talk.asks()) == (200, HELLO)

    def test_K1_a_trusted_peer_has_answers_of_its_own_for_another_host(self) -> None:
        talk = CachingTalk(listener=HttpSettings(trusted_peers=NetworkSet(["192.0.2.0/24"])))
        client = "X-Forwarded-For: 198.51.100.9"
        talk.answers(talk.sent(fields=client), fields=MINUTE, body=HELLO)
        assert talk.asks(fields=client).verdict == "hit"
        other = talk.sent(fields=f"{client}|X-Forwarded-Host: other.example")
        assert other.phase == ANSWER
        assert b"x-forwarded-host: other.example\r\n" in talk.asked_for(other)

    def test_K1_the_scheme_is_part_of_the_key(self) -> None:
        talk = CachingTalk(listener=HttpSettings(trusted_peers=NetworkSet(["192.0.2.0/24"])))
        secure = "X-Forwarded-For: 198.51.100.9|X-Forwarded-Proto: https"
        plain = "X-Forwarded-For: 198.51.100.9|X-Forwarded-Proto: http"
        talk.answers(talk.sent(fields=plain), fields=f"{MINUTE}|Content-Length: 5", body=b"plain")
        exchange = talk.sent(fields=secure)
        assert exchange.phase == ANSWER
        talk.answers(exchange, fields=f"{MINUTE}|Content-Length: 6", body=b"secure")
        assert talk.given(talk.asks(fields=plain)) == (200, b"plain")
        assert talk.given(talk.asks(fields=secure)) == (200, b"secure")

    def test_K1_the_host_is_the_normalised_one_whatever_the_form_of_the_target(self) -> None:
        talk = CachingTalk()
        talk.fetched()
        text = b"GET http://WWW.example.com:80/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
        assert talk.asks(text=text).verdict == "hit"
        other = b"GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n"
        assert talk.connects(talk.asks(text=other)).phase == ANSWER


class TestK2WhatThePathLooksLike:
    @pytest.mark.parametrize("path", ["/account/x.css", "/account;.js", "/account.jpg?a.png", "/account/%2e.css"])
    def test_K2_no_ending_makes_a_private_answer_public(self, path: str) -> None:
        talk = CachingTalk()
        for fields in ("", "Cache-Control: private", f"{MINUTE}|Set-Cookie: id=1"):
            talk.ok(talk.sent(path=path), fields=fields)
        assert talk.cache.store.objects == 0
        assert [record.cache_reason for record in talk.records] == ["no freshness", "private", "Set-Cookie"]

    def test_K2_a_nul_in_a_path_is_refused(self) -> None:
        assert refused(CachingTalk(), message("/account%00.css")).outcome.status == 400

    @pytest.mark.parametrize(
        ("said", "kept"),
        [
            (MINUTE, False),
            (f"{MINUTE}, public", True),
            ("Cache-Control: s-maxage=60", True),
            (f"{MINUTE}, must-revalidate", True),
        ],
    )
    def test_K2_what_was_asked_with_credentials_needs_leave(self, said: str, kept: bool) -> None:
        talk = CachingTalk()
        exchange = talk.sent(fields="Authorization: Basic YTpi")
        talk.answers(exchange, fields=said, body=HELLO)
        if not kept:
            talk.completes(exchange)
            assert talk.records[0].cache_reason == "Authorization"
        assert bool(talk.cache.store.objects) is kept


class TestK3RequestsThatAreNotWhatTheySeem:
    @pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
    def test_K3_another_method_in_a_field_is_neither_stored_nor_served(self, name: str) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(fields=f"{name}: DELETE"), fields=MINUTE)
        assert talk.cache.store.objects == 0
        talk.fetched()
        assert talk.sent(fields=f"{name}: DELETE").phase == ANSWER

    @pytest.mark.parametrize("framing", [{"length": 5}, {"chunked": True}])
    def test_K3_a_get_with_a_body_is_neither_stored_nor_served(self, framing: dict[str, int]) -> None:
        talk = CachingTalk()
        exchange = talk.connects(talk.asks(text=message(length=framing.get("length"), chunked="chunked" in framing)))
        talk.sends(exchange, b"hello", last=True)
        talk.ok(exchange, fields=MINUTE)
        assert talk.cache.store.objects == 0
        assert talk.records[0].cache == "bypass"
        talk.fetched()
        other = talk.connects(talk.asks(text=message(length=5)))
        assert other.phase == ANSWER


class TestK4Variants:
    def test_K4_what_varies_by_everything_is_not_stored(self) -> None:
        talk = CachingTalk()
        talk.ok(talk.sent(), fields=f"{MINUTE}|Vary: Accept, *")
        assert talk.cache.store.objects == 0

    def test_K4_there_are_no_more_than_so_many_of_a_key(self) -> None:
        talk = CachingTalk()
        for number in range(100):
            exchange = talk.sent(fields=f"X-A: {number}")
            talk.answers(exchange, fields=f"{MINUTE}|Vary: X-A", body=HELLO)
            assert talk.cache.store.objects == min(number + 1, 32)
        assert talk.asks(fields="X-A: 99").verdict == "hit"


class TestK5AcceptEncoding:
    def test_K5_odd_values_do_not_force_misses(self) -> None:
        talk = CachingTalk()
        fields = f"{MINUTE}|Vary: Accept-Encoding"
        talk.answers(talk.sent(fields="Accept-Encoding: gzip"), fields=fields, body=HELLO)
        for value in (
            "gzip, x1",
            "GZIP",
            "gzip;q=0.9",
            "x2;q=1, gzip ;q=0.001",
            "x3, , gzip",
            "x-gzip, gzip",
            "gzip,gzip",
        ):
            assert talk.asks(fields=f"Accept-Encoding: {value}").verdict == "hit", value
        talk.answers(talk.sent(), fields=fields, body=HELLO)
        for value in ("x4", "identity", "gzip;q=0", "", "sdch, x5"):
            assert talk.asks(fields=f"Accept-Encoding: {value}").verdict == "hit", value
        assert talk.backends_asked == 2
        assert talk.cache.store.objects == 2


class TestK6Ranges:
    def test_K6_too_many_or_overlapping_ranges_get_the_whole(self) -> None:
        talk = CachingTalk()
        talk.fetched(body=bytes(10_000))
        for spans in (
            ",".join(["0-"] * 1000),
            ",".join(f"{place}-{place}" for place in range(0, 102, 2)),
            ",".join(f"0-{place}" for place in range(5000, 5010)),
        ):
            status, content = talk.given(talk.asks(fields=f"Range: bytes={spans}"))
            assert (status, len(content)) == (200, 10_000)
        fifty = ",".join(f"{place}-{place}" for place in range(0, 100, 2))
        assert talk.given(talk.asks(fields=f"Range: bytes={fifty}"))[0] == 206

    @pytest.mark.parametrize("validator", ['W/"e1"', '"e0"', "Wed, 01 Jan 2020 00:00:00 GMT"])
    def test_K6_a_doubtful_if_range_gets_the_whole(self, validator: str) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        assert talk.given(talk.asks(fields=f"Range: bytes=1-2|If-Range: {validator}")) == (200, HELLO)

    def test_K6_a_part_is_never_stored_as_the_whole(self) -> None:
        talk = CachingTalk()
        for fields in ("", "Range: bytes=0-4"):
            exchange = talk.sent(fields=fields)
            talk.answers(exchange, status=206, fields=f"{MINUTE}{ETAG}|Content-Range: bytes 0-4/100")
            talk.completes(exchange)
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER

    @pytest.mark.parametrize(
        ("span", "expected"),
        [
            ("18446744073709551616-", (416, b"")),
            ("9223372036854775807-", (416, b"")),
            ("-18446744073709551616", (206, HELLO)),
            ("3-18446744073709551616", (206, b"lo")),
        ],
    )
    def test_K6_huge_numbers_reach_no_further_than_the_body(self, span: str, expected: tuple[int, bytes]) -> None:
        talk = CachingTalk()
        talk.fetched()
        assert talk.given(talk.asks(fields=f"Range: bytes={span}")) == expected


class TestK7Truncated:
    @pytest.mark.parametrize("length", [5, -1])
    def test_K7_an_answer_without_its_end_is_not_stored(self, length: int) -> None:
        talk = CachingTalk()
        exchange = talk.sent()
        side = talk.side(exchange)
        talk.comes_to(exchange, length=length, body=b"hell")
        talk.breaks(side)
        assert exchange.phase == OVER
        assert not talk.stream(exchange).open, "nothing tells its client that it was whole"
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER

    def test_K7_nor_one_whose_chunks_are_none(self) -> None:
        talk = CachingTalk()
        side = talk.begins(body=b"hell")
        fill = side.exchange
        assert fill is not None
        side.gone()
        fill.cut_short(BAD_BODY, "B7")
        assert talk.cache.store.objects == 0
        talk.check_at_rest()

    def test_K7_what_has_not_come_whole_is_found_by_nobody(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        side = talk.begins(fields=f'{MINUTE}|ETag: "e2"', length=5, body=b"HELL")
        (stored,) = talk.cache.stored_under(KEY)
        assert stored.body == HELLO
        talk.breaks(side)
        (stored,) = talk.cache.stored_under(KEY)
        assert stored.body == HELLO


class TestK8Rewriting:
    @pytest.mark.parametrize("validator", ['ETag: "e2"', "Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT"])
    def test_K8_a_304_for_something_else_changes_nothing(self, validator: str) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        exchange = talk.sent()
        talk.answers(exchange, status=304, fields=f"Cache-Control: max-age=9999|{validator}|X-Evil: 1")
        (stored,) = talk.cache.stored_under(KEY)
        assert b"X-Evil" not in stored.lines
        assert stored.fresh_until <= talk.cache.now()

    def test_K8_a_304_never_changes_what_describes_the_body(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        exchange = talk.sent()
        evil = "Content-Encoding: gzip|Content-Range: bytes 0-0/1|Set-Cookie: id=1"
        talk.answers(exchange, status=304, fields=f"{MINUTE}{ETAG}|{evil}")
        again = talk.asks()
        assert talk.given(again) == (200, HELLO)
        kept = talk.stream(again).got[-1].kept.lower()
        for name in (b"content-encoding", b"content-range", b"set-cookie"):
            assert name not in kept

    def test_K8_a_head_of_something_else_changes_nothing(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        talk.ok(talk.sent(method="HEAD"), fields='Cache-Control: max-age=9999|ETag: "e2"|X-Evil: 1')
        (stored,) = talk.cache.stored_under(KEY)
        assert b"X-Evil" not in stored.lines

    @pytest.mark.parametrize("status", NEVER)
    def test_K8_what_a_request_has_provoked_is_not_stored(self, status: int) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(ttl=60.0))
        exchange = talk.sent()
        talk.ok(exchange, status=status, fields=f"{MINUTE}, public")
        assert talk.records[0].cache_reason == f"status {status}"
        assert talk.cache.store.objects == 0
        assert talk.sent().phase == ANSWER

    @pytest.mark.parametrize("status", NEVER)
    def test_K8_it_takes_nothing_away_from_what_is_stored_unless_it_is_newer(self, status: int) -> None:
        talk = CachingTalk()
        talk.fetched()
        talk.ok(talk.sent(method="POST", length=0), status=status, fields=MINUTE)
        assert talk.asks().verdict == "hit"


class TestK9Characters:
    @pytest.mark.parametrize("evil", [b"a\rb", b"a\nb", b"a\x00b"])
    def test_K9_what_may_not_be_in_a_field_is_502_and_not_stored(self, evil: bytes) -> None:
        talk = CachingTalk("a", tries=1)
        exchange = talk.sent()
        text = answer(200, MINUTE).replace(b"\r\n\r\n", b"\r\nX-A: " + evil + b"\r\n\r\n")
        with pytest.raises(HttpError) as raised:
            ResponseReader().read(text)
        exchange.unanswered(TryError.NONSENSE, raised.value.message, rule=raised.value.rule)
        assert exchange.status == 502
        assert talk.cache.store.objects == 0
        talk.check_at_rest()


class TestK10Rushes:
    def test_K10_a_thousand_for_an_expired_object_are_one_for_the_backend(self) -> None:
        talk = CachingTalk(shared=CacheSettings(waiters=999))
        talk.fetched(fields=MINUTE + ETAG)
        talk.passes(61)
        leader = talk.sent()
        waiters = [talk.asks() for _ in range(999)]
        assert {one.phase for one in waiters} == {WAITING}
        talk.answers(leader, status=304, fields=MINUTE + ETAG)
        assert [talk.given(one) for one in (leader, *waiters)] == [(200, HELLO)] * 1000
        assert talk.backends_asked == 2
        talk.check_at_rest()

    def test_K10_stale_is_served_meanwhile_where_it_may_be(self) -> None:
        talk = CachingTalk()
        talk.fetched(fields=STALE)
        talk.passes(61)
        assert [talk.given(talk.asks()) for _ in range(100)] == [(200, HELLO)] * 100
        talk.background()
        assert talk.backends_asked == 2

    def test_K10_who_waits_is_bounded_in_number_and_in_time(self) -> None:
        talk = CachingTalk()
        talk.sent()
        waiters = [talk.asks() for _ in range(talk.cache.settings.waiters)]
        assert {one.phase for one in waiters} == {WAITING}
        assert talk.sent().phase == ANSWER
        talk.passes(5.2)
        assert WAITING not in {one.phase for one in waiters}
        for one in waiters:
            talk.ok(talk.connects(one), fields=MINUTE)
        assert talk.cache.store.objects == 0, "they are not cached"

    def test_K10_a_failing_backend_is_not_asked_at_once_by_all(self) -> None:
        talk = CachingTalk("a", tries=1)
        leader = talk.sent()
        waiters = [talk.asks() for _ in range(50)]
        talk.answers(leader, status=503)
        assert [one.phase for one in waiters].count(WAITING) == 49


class TestK11EndlessKeys:
    def test_K11_the_memory_has_a_bound_that_counts_everything(self) -> None:
        talk = CachingTalk(shared=CacheSettings(memory=100_000))
        for number in range(1000):
            talk.fetched(path=f"/?{number}", fields=f"{MINUTE}|X-A: {'a' * 200}", body=b"x")
            assert talk.cache.store.used <= 100_000
        assert 0 < talk.cache.store.objects < 120

    def test_K11_hit_for_miss_and_flights_leave_nothing_behind(self) -> None:
        talk = CachingTalk()
        for number in range(300):
            talk.ok(talk.sent(path=f"/?{number}"), fields="Cache-Control: no-store")
        assert talk.cache.store.used == 0
        talk.check_at_rest()

    def test_K11_a_key_is_no_longer_than_a_target_may_be(self) -> None:
        talk = CachingTalk()
        most = talk.gate.front.settings.max_target
        problem = refused(talk, message("/" + "a" * most))
        assert problem.outcome.status == 414


class TestK12ClientsThatWantItFresh:
    @pytest.mark.parametrize("field", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"])
    def test_K12_they_are_not_obeyed(self, field: str) -> None:
        talk = CachingTalk()
        talk.fetched()
        assert talk.asks(fields=field).verdict == "hit"

    @pytest.mark.parametrize("field", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"])
    def test_K12_unless_the_route_says_so(self, field: str) -> None:
        talk = CachingTalk(rules=RouteCacheSettings(honour_clients=True))
        talk.fetched(fields=MINUTE + ETAG)
        exchange = talk.sent(fields=field)
        assert b'if-none-match: "e1"' in talk.asked_for(exchange)
