"""Freshness: dates, ages and lifetimes, as the sections of RFC 9111 have them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.freshness import MOST_GUESSED
from lbproxy.cache.values import ALWAYS_ASK, GUESSED, NEVER_STALE, Freshness
from lbproxy.http.dates import date_line, read_date
from lbproxy.model_cache import RouteCacheSettings
from tests.cache.rule_heads import NOW, fresh

DAY = 86400.0


def at(seconds: float) -> str:
    """NOW and so many seconds, as a date."""
    return formatdate(NOW + seconds, usegmt=True)


def lifetime(fields: str, settings: RouteCacheSettings | None = None, status: int = 200) -> float | None:
    """How long an answer is fresh from when it was born."""
    found = fresh(fields, settings or RouteCacheSettings(), status)
    return None if found is None else found.fresh_until - found.born


def known(fields: str, settings: RouteCacheSettings | None = None) -> Freshness:
    found = fresh(fields, settings or RouteCacheSettings())
    assert found is not None
    return found


@given(st.integers(-(10**9), 10**11))
def test_a_date_that_we_write_is_read_back(second: int) -> None:
    assert read_date(date_line(second)[6:-2], NOW) == second


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"SUN, 06 NOV 1994 08:49:37 gmt",
        b"sunday, 06-nov-94 08:49:37 GMT",
        # The day of the week is not held against it.
        b"Mon, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_dates_have_three_forms(value: bytes) -> None:
    assert read_date(value, NOW) == 784111777.0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"foo",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06  Nov  1994 08:49:37 GMT",
        b"Sun, 06-Nov-1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08.49.37 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
        b" Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun Nov 6 08:49:37 1994",
        b"Sonntag, 06-Nov-94 08:49:37 GMT",
        "Sun, 0\u0666 Nov 1994 08:49:37 GMT".encode(),
    ],
)
def test_anything_else_is_no_date(value: bytes) -> None:
    assert read_date(value, NOW) is None


@pytest.mark.parametrize(
    ("now", "year", "meant"),
    [(2026, 76, 2076), (2026, 78, 1978), (2026, 26, 2026), (2095, 5, 2105), (2095, 46, 2046), (1970, 99, 1999)],
)
def test_two_digits_are_a_year_at_most_fifty_ahead(now: int, year: int, meant: int) -> None:
    clock = datetime(now, 6, 1, tzinfo=UTC).timestamp()
    assert read_date(b"Monday, 01-Jan-%02d 00:00:00 GMT" % year, clock) == datetime(meant, 1, 1, tzinfo=UTC).timestamp()


def test_a_leap_second_is_the_next_minute() -> None:
    assert read_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) == datetime(2017, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ("Cache-Control: max-age=60", 60.0),
        ("Cache-Control: max-age=60, s-maxage=5", 5.0),
        ("Cache-Control: s-maxage=60\nCache-Control: max-age=5", 60.0),
        (f"Cache-Control: max-age=60\nExpires: {at(-9)}", 60.0),
        (f"Cache-Control: max-age=0\nExpires: {at(900)}", 0.0),
        (f"Expires: {at(900)}\nDate: {at(0)}", 900.0),
        (f"Expires: {at(900)}", 900.0),
        (f"Expires: {at(900)}\nDate: foo", 900.0),
        (f"Expires: {at(300)}\nDate: {at(400)}", 0.0),
        (f"Expires: {at(900)}\nExpires: {at(900)}", 900.0),
        (f"Expires: {at(900)}\nExpires: {at(901)}", 0.0),
        ("Expires: 0", 0.0),
        (f"Expires: {at(900)[:-3]}UTC", 0.0),
        # RFC 9213: both are as if they were not there.
        (f"CDN-Cache-Control: max-age=7\nExpires: {at(900)}\nCache-Control: max-age=9", 7.0),
        (f"CDN-Cache-Control: foo\nExpires: {at(900)}\nCache-Control: max-age=9", None),
        ("", None),
        ('ETag: "a"', None),
        (f"Last-Modified: {at(-1000)}", 100.0),
        (f"Last-Modified: {at(-1000)}\nDate: {at(-500)}", 50.0),
        (f"Last-Modified: {at(-1000)}\nCache-Control: max-age=x", 0.0),
        (f"Last-Modified: {at(-100 * DAY)}", MOST_GUESSED),
        (f"Last-Modified: {at(1)}", None),
        ("Last-Modified: yesterday", None),
        ('Cache-Control: no-cache\nETag: "a"', 0.0),
    ],
)
def test_the_lifetime_is_the_first_that_is_stated(fields: str, seconds: float | None) -> None:
    assert lifetime(fields) == seconds


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 410])
def test_freshness_is_guessed_for_these_statuses(status: int) -> None:
    found = fresh(f"Last-Modified: {at(-1000)}", status=status)
    assert found is not None
    assert found.flags == GUESSED


@pytest.mark.parametrize("status", [201, 202, 302, 307, 403, 500, 599])
def test_freshness_is_guessed_for_other_statuses_only_when_public(status: int) -> None:
    fields = f"Last-Modified: {at(-1000)}"
    assert fresh(fields, status=status) is None
    assert fresh(f"{fields}\nCache-Control: no-cache", status=status) is None
    assert lifetime(f"{fields}\nCache-Control: public", status=status) == 100.0
    # What is stated counts for all.
    assert lifetime("Cache-Control: max-age=9", status=status) == 9.0


def test_nothing_is_guessed_when_the_route_forbids_it() -> None:
    assert fresh(f"Last-Modified: {at(-1000)}", RouteCacheSettings(heuristic=False)) is None


@pytest.mark.parametrize(
    ("settings", "with_60", "with_none"),
    [
        (RouteCacheSettings(ttl=7.0), 7.0, 7.0),
        (RouteCacheSettings(default_ttl=8.0), 60.0, 8.0),
        (RouteCacheSettings(ttl=7.0, default_ttl=8.0), 7.0, 8.0),
        (RouteCacheSettings(max_ttl=5.0), 5.0, 5.0),
        (RouteCacheSettings(max_ttl=5.0, ttl=7.0), 5.0, 5.0),
        (RouteCacheSettings(max_ttl=5.0, default_ttl=3.0), 5.0, 3.0),
        (RouteCacheSettings(max_ttl=500.0), 60.0, 100.0),
    ],
)
def test_the_route_may_say_how_long(settings: RouteCacheSettings, with_60: float, with_none: float) -> None:
    assert lifetime("Cache-Control: max-age=60", settings) == with_60
    assert lifetime(f"Last-Modified: {at(-1000)}", settings) == with_none


def test_what_the_route_says_is_not_for_errors_that_say_nothing() -> None:
    assert fresh("", RouteCacheSettings(ttl=60.0, default_ttl=60.0), status=500) is None
    assert lifetime("Cache-Control: max-age=9", RouteCacheSettings(ttl=60.0), status=500) == 60.0


@pytest.mark.parametrize(
    ("fields", "asked", "age"),
    [
        ("", 0.0, 0.0),
        (f"Date: {at(0)}", 0.0, 0.0),
        (f"Date: {at(-30)}", 0.0, 30.0),
        (f"Date: {at(30)}", 0.0, 0.0),
        ("Age: 15", 0.0, 15.0),
        (f"Date: {at(-30)}\nAge: 15", 0.0, 30.0),
        (f"Date: {at(-30)}\nAge: 45", 0.0, 45.0),
        (f"Date: {at(30)}\nAge: 15", 0.0, 15.0),
        # The time of the fetch counts, to the Age that somebody else has measured, not to Date.
        ("", -2.5, 2.5),
        ("Age: 15", -2.5, 17.5),
        (f"Date: {at(-30)}\nAge: 15", -2.5, 30.0),
        # RFC 9111, 5.1: the first member; what is none is ignored.
        ("Age: 7200,0", 0.0, 7200.0),
        ("Age: 7200\nAge: 0", 0.0, 7200.0),
        ("Age: 0, 7200", 0.0, 0.0),
        ("Age: 7200 , 7200", 0.0, 7200.0),
        ("Age: abc", 0.0, 0.0),
        ("Age: -7200", 0.0, 0.0),
        ("Age: 7200.0", 0.0, 0.0),
        ("Age: 99999999999", 0.0, 2.0**31),
    ],
)
def test_the_age_is_what_it_was_when_it_came(fields: str, asked: float, age: float) -> None:
    found = fresh(f"Cache-Control: max-age=60\n{fields}", asked_at=NOW + asked)
    assert found is not None
    assert NOW - found.born == age
    assert found.fresh_until == found.born + 60.0


def test_a_date_of_this_second_is_no_age() -> None:
    found = fresh(f"Cache-Control: max-age=1\nDate: {at(0)}", asked_at=NOW + 0.75, received_at=NOW + 0.75)
    assert found is not None
    assert found.born == NOW + 0.75


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ("Cache-Control: max-age=9", 0),
        ("Cache-Control: max-age=9, must-revalidate", NEVER_STALE),
        ("Cache-Control: max-age=9, proxy-revalidate", NEVER_STALE),
        ("Cache-Control: max-age=9, no-cache", ALWAYS_ASK),
        ('Cache-Control: max-age=9, no-cache="a"', 0),
        ("Cache-Control: no-cache, must-revalidate", ALWAYS_ASK | NEVER_STALE),
        ("CDN-Cache-Control: max-age=9\nCache-Control: no-cache, must-revalidate", 0),
        ("Cache-Control: s-maxage=9, must-revalidate", NEVER_STALE),
    ],
)
def test_what_forbids_staleness_is_a_flag_and_leaves_no_time(fields: str, flags: int) -> None:
    found = known(f"{fields}\nCache-Control: stale-while-revalidate=4, stale-if-error=5")
    allowed = known(fields, RouteCacheSettings(stale_while_revalidate=4.0, stale_if_error=5.0))
    assert found.flags == allowed.flags == flags
    if flags:
        assert found.while_revalidate == found.if_error == allowed.while_revalidate == allowed.if_error == 0.0
    else:
        assert (allowed.while_revalidate, allowed.if_error) == (4.0, 5.0)


@pytest.mark.parametrize("words", ["stale-while-revalidate=4", "stale-if-error=4"])
def test_s_maxage_forbids_staleness_unless_the_answer_itself_allows_it(words: str) -> None:
    rules = RouteCacheSettings(stale_while_revalidate=4.0, stale_if_error=4.0)
    assert known("Cache-Control: s-maxage=9", rules).flags == NEVER_STALE
    found = known(f"Cache-Control: s-maxage=9, {words}", rules)
    assert (found.flags, found.while_revalidate, found.if_error) == (0, 4.0, 4.0)


def test_staleness_is_allowed_by_the_answer_before_the_route() -> None:
    route = RouteCacheSettings(stale_while_revalidate=40.0, stale_if_error=50.0)
    found = known("Cache-Control: max-age=0, stale-while-revalidate=4, stale-if-error=0", route)
    assert (found.while_revalidate, found.if_error) == (4.0, 0.0)
    plain = known("Cache-Control: max-age=0")
    assert (plain.while_revalidate, plain.if_error) == (0.0, 0.0)
