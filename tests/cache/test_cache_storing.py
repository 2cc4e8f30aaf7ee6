"""Storing: what may not be stored has a reason, what is stored has the fields that may be (K2, K3, K4, K8)."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from lbproxy.cache.storing import NEVER_STORED, Storable, is_lasting, judge, unfit
from lbproxy.model_cache import RouteCacheSettings
from tests.cache.rule_heads import NOW, answer, judged, request

FRESH = "Cache-Control: max-age=60\n"
DATE = f"Date: {formatdate(NOW, usegmt=True)}\n"


def stored(fields: str, settings: RouteCacheSettings | None = None, status: int = 200) -> Storable:
    """What is stored of an answer, which must be something."""
    verdict = judged(fields, settings or RouteCacheSettings(), status)
    assert isinstance(verdict, Storable)
    return verdict


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("", "no freshness"),
        ('ETag: "a"', "no freshness"),
        ("Cache-Control: no-store", "no-store"),
        ("Cache-Control: max-age=60, no-store", "no-store"),
        ("Cache-Control: max-age=60\nCDN-Cache-Control: no-store", "no-store"),
        ("Cache-Control: private, max-age=60", "private"),
        ("CDN-Cache-Control: private\nCache-Control: max-age=60", "private"),
        (FRESH + "Set-Cookie: a=b", "Set-Cookie"),
        ("Cache-Control: public, s-maxage=60\nSet-Cookie: a=b", "Set-Cookie"),
        (FRESH + "Vary: *", "Vary: *"),
        (FRESH + "Vary: *, *", "Vary: *"),
        (FRESH + "Vary: , *", "Vary: *"),
        (FRESH + "Vary:\nVary: *", "Vary: *"),
        (FRESH + "Vary: Foo, *", "Vary: *"),
        (FRESH + "Vary: *, Foo", "Vary: *"),
        (FRESH + "Vary: Accept, X-Forwarded-For", "Vary: x-forwarded-for"),
        (FRESH + "Vary: a b", "Vary: malformed"),
        ("Cache-Control: max-age=0", "stale"),
        ("Expires: 0", "stale"),
        (FRESH + "Age: 61", "stale"),
        ("Cache-Control: max-age=0, stale-while-revalidate=9, must-revalidate", "stale"),
        (FRESH + "Age: 70\nCache-Control: stale-if-error=9", "stale"),
        ("Cache-Control: no-cache", "no-cache"),
        ("Cache-Control: no-cache, max-age=60", "no-cache"),
        (FRESH + 'Content-Encoding: gzip\nCache-Control: private="content-encoding"', "content-encoding"),
    ],
)
def test_what_is_not_stored_has_a_reason_that_lasts(fields: str, reason: str) -> None:
    assert judged(fields) == reason
    assert is_lasting(reason)


@pytest.mark.parametrize("status", sorted(NEVER_STORED | {101}))
def test_what_a_request_may_provoke_is_never_stored(status: int) -> None:
    fields = FRESH + "Cache-Control: public"
    reason = judged(fields, RouteCacheSettings(ttl=60.0, default_ttl=60.0), status)
    assert reason == f"status {status}"
    assert not is_lasting(reason)


def test_these_are_all_statuses_of_the_table() -> None:
    assert {400, 408, 413, 414, 417, 421, 425, 429, 431, 501, 502, 503, 504} <= NEVER_STORED


def test_a_part_is_never_stored() -> None:
    assert judged(FRESH + "Content-Range: bytes 0-1/2", status=206) == "206"
    assert not is_lasting("206")


@pytest.mark.parametrize("status", [500, 599])
def test_an_error_that_forbids_storing_is_remembered_as_an_error(status: int) -> None:
    reason = judged("Cache-Control: no-store", status=status)
    assert reason == f"status {status}"
    assert not is_lasting(reason)
    stored(FRESH, status=status)


@pytest.mark.parametrize("status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 403, 404, 405, 410, 499, 500, 599])
def test_any_other_status_is_stored_when_its_freshness_is_stated(status: int) -> None:
    stored(FRESH, status=status)


@pytest.mark.parametrize("rest", ["", ", no-store"])
def test_must_understand_stands_above_no_store(rest: str) -> None:
    fields = "Cache-Control: must-understand, max-age=60" + rest
    stored(fields)
    assert judged(fields, status=299) == "must-understand"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("Expires: Fri, 01 Jan 2027 00:00:00 GMT", "Authorization"),
        (FRESH, "Authorization"),
        ("CDN-Cache-Control: max-age=60\nCache-Control: public", "Authorization"),
        ("Cache-Control: max-age=60, public", ""),
        ("Cache-Control: max-age=60, must-revalidate", ""),
        ("Cache-Control: s-maxage=60", ""),
        ("CDN-Cache-Control: max-age=60, public", ""),
        ("Cache-Control: max-age=60, proxy-revalidate", "Authorization"),
    ],
)
def test_authorisation_needs_an_answer_that_is_for_all(fields: str, reason: str) -> None:
    verdict = judged(fields, head=request("Authorization: Basic YTpi"))
    assert verdict == reason if reason else isinstance(verdict, Storable)
    # Whether the next request has it, nobody knows.
    assert not is_lasting("Authorization")


@pytest.mark.parametrize(
    ("method", "fields", "reason"),
    [
        ("HEAD", "", "method"),
        ("POST", "Content-Length: 2", "method"),
        ("PUT", "", "method"),
        ("GET", "Content-Length: 2", "body"),
        ("GET", "Transfer-Encoding: chunked", "body"),
        ("GET", "X-HTTP-Method-Override: DELETE", "method override"),
        ("GET", "X-HTTP-Method: DELETE", "method override"),
        ("GET", "X-Method-Override: GET", "method override"),
        ("GET", "Content-Length: 0", ""),
    ],
)
def test_only_plain_gets_are_stored(method: str, fields: str, reason: str) -> None:
    head = request(fields, method=method)
    assert unfit(head) == reason
    verdict = judged(FRESH, head=head)
    assert verdict == reason if reason else isinstance(verdict, Storable)
    assert not reason or not is_lasting(reason)


@pytest.mark.parametrize("target", ["/account/x.css", "/account;.js", "/logo.png?x=.css"])
def test_only_fields_decide_never_what_a_path_looks_like(target: str) -> None:
    assert judged("Content-Type: text/css", head=request(target=target)) == "no freshness"
    assert judged(FRESH + "Set-Cookie: a=b", head=request(target=target)) == "Set-Cookie"


def test_the_clients_word_counts_where_the_route_says_so() -> None:
    head = request("Cache-Control: no-store")
    assert isinstance(judged(FRESH, head=head), Storable)
    assert judged(FRESH, RouteCacheSettings(honour_clients=True), head=head) == "request no-store"
    assert not is_lasting("request no-store")


def test_a_cookie_is_dropped_only_when_the_route_or_the_answer_says_so() -> None:
    fields = f"{FRESH}Set-Cookie: a=b\nX: 1\n{DATE}"
    kept = b"Cache-Control: max-age=60\r\nX: 1\r\n" + DATE[:-1].encode() + b"\r\n"
    assert stored(fields, RouteCacheSettings(ignore_set_cookie=True)).lines == kept
    for said in ('no-cache="set-cookie"', 'private="Set-Cookie, Y"'):
        assert stored(f"Cache-Control: {said}\nY: 1\n{fields}").lines.endswith(
            kept if "Y" in said else b"Y: 1\r\n" + kept
        )


def test_what_may_not_be_kept_is_not_in_the_lines() -> None:
    found = stored(
        'Cache-Control: max-age=60, no-cache="a, B"\nA: 1\nb: 2\nC: 3\nAge: 5\nProxy-Authentication-Info: x\n'
        "Content-Length: 3\nConnection: d\nD: 4\nCache-Status: other; hit\n" + DATE
    )
    kept = b'Cache-Control: max-age=60, no-cache="a, B"\r\nC: 3\r\nCache-Status: other; hit\r\n'
    assert found.lines == kept + DATE[:-1].encode() + b"\r\n"
    assert NOW - found.freshness.born == 5.0


OLD = f"Date: {formatdate(NOW - 9, usegmt=True)}\n"


@pytest.mark.parametrize("date", ["", "Date: foo\n", f'{OLD}Cache-Control: private="date"\n'])
def test_there_is_always_a_date(date: str) -> None:
    head = answer(f"{FRESH}{date}X: 1")
    found = judge(request(), head, RouteCacheSettings(), asked_at=NOW, received_at=NOW + 0.9)
    assert isinstance(found, Storable)
    assert found.lines.count(b"Date: ") == 1
    assert found.lines.endswith(b"X: 1\r\n" + DATE[:-1].encode() + b"\r\n")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("", ()),
        ("Vary:", ()),
        ("Vary: Foo", (b"foo",)),
        ("Vary: foo, ,Bar,\tFOO", (b"bar", b"foo")),
        ("Vary: Foo\nVary: Bar", (b"bar", b"foo")),
        ("Vary: Accept-Encoding, X-Forwarded-Proto", (b"accept-encoding", b"x-forwarded-proto")),
    ],
)
def test_names_in_vary_are_in_lower_case_and_in_order(fields: str, names: tuple[bytes, ...]) -> None:
    assert stored(FRESH + fields).vary == names


@pytest.mark.parametrize(
    ("fields", "coding"),
    [
        ("", b""),
        ("Content-Encoding: identity", b""),
        ("Content-Encoding: GZip", b"gzip"),
        ("Content-Encoding: gzip\nContent-Encoding: br", b"gzip, br"),
    ],
)
def test_the_coding_is_known(fields: str, coding: bytes) -> None:
    assert stored(FRESH + fields).coding == coding


def test_tags_are_known() -> None:
    assert stored(FRESH).tags is None
    assert stored(FRESH + "Cache-Tag: a, B").tags == (b"a", b"b")


@pytest.mark.parametrize(
    "fields",
    [
        'Cache-Control: no-cache\nETag: "a"',
        'Cache-Control: max-age=0\nETag: "a"',
        "Expires: 0\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "Cache-Control: max-age=0, stale-while-revalidate=9",
        "Cache-Control: max-age=0, stale-if-error=9",
    ],
)
def test_what_is_stale_is_stored_when_it_may_be_used_again(fields: str) -> None:
    assert stored(fields).freshness.fresh_until == NOW
