"""Our rules beside those of hishel: what we do otherwise is in the tables, with the paragraph that says why.

A difference that is in no table fails, and so does an entry that is no longer true.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import hishel
import pytest
from hishel._core import _spec
from hishel._core._headers import CacheControl, parse_cache_control
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lbproxy.cache.directives import Directives, read_directives, request_directives
from lbproxy.cache.freshness import MOST_GUESSED, UNTOLD
from lbproxy.cache.invalidation import invalidated
from lbproxy.cache.serving import FRESH, how
from lbproxy.cache.storing import NEVER_STORED, Storable, judge
from lbproxy.cache.values import ALWAYS_ASK, GUESSED, Stored
from lbproxy.http.dates import read_date
from lbproxy.http.messages import ResponseHead
from lbproxy.model_cache import RouteCacheSettings
from tests.cache.rule_heads import NOW, answer, fresh, query, request

OPTIONS = hishel.CacheOptions(shared=True, supported_methods=["GET", "HEAD"], allow_stale=False)
DAY = 86400


class StoppedClock:
    """What hishel asks for the time; it stands still."""

    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now


CLOCK = StoppedClock()


@pytest.fixture(autouse=True, scope="module")
def _clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spec, "time", CLOCK)
        yield


def at(seconds: float) -> str:
    return formatdate(NOW + seconds, usegmt=True)


def headers_of(fields: str) -> hishel.Headers:
    """The same fields as hishel has them."""
    found: dict[str, str | list[str]] = {}
    for line in fields.split("\n"):
        if line:
            name, _, value = line.partition(":")
            lines = found.setdefault(name.lower(), [])
            if isinstance(lines, list):
                lines.append(value.strip())
    return hishel.Headers(found)


def response_of(fields: str, status: int = 200) -> hishel.Response:
    return hishel.Response(status, headers_of(fields))


def as_ours(theirs: CacheControl) -> Directives:
    """What hishel has read, in our words."""

    def names(said: bool | list[str]) -> frozenset[bytes]:
        return frozenset(name.lower().encode() for name in said) if isinstance(said, list) else frozenset()

    def seconds(said: int | None) -> float | None:
        return None if said is None else float(said)

    return Directives(
        no_store=theirs.no_store,
        no_cache=theirs.no_cache is True,
        no_cache_fields=names(theirs.no_cache),
        private=theirs.private is True,
        private_fields=names(theirs.private),
        public=theirs.public,
        must_revalidate=theirs.must_revalidate,
        proxy_revalidate=theirs.proxy_revalidate,
        must_understand=theirs.must_understand,
        no_transform=theirs.no_transform,
        immutable=theirs.immutable,
        only_if_cached=theirs.only_if_cached,
        max_age=seconds(theirs.max_age),
        s_maxage=seconds(theirs.s_maxage),
        stale_while_revalidate=seconds(theirs.stale_while_revalidate),
        stale_if_error=seconds(theirs.stale_if_error),
        min_fresh=seconds(theirs.min_fresh),
        max_stale=seconds(theirs.max_stale),
    )


# Cache-Control: what hishel reads, and what we do.

DIRECTIVES: list[tuple[str, str, Any, Any]] = [
    # 1.2.2: what is too large is 2^31.
    ("max-age=9999999999", "max_age", 2.0**31, 2.0**31 - 1),
    # 4.2.1: of several the first counts.
    ("max-age=1, max-age=2", "max_age", 1.0, 2.0),
    # 4.2.1: what is invalid is stale; hishel takes it as not there, so something else may be guessed.
    ("max-age=a", "max_age", 0.0, None),
    ("max-age=-1", "max_age", 0.0, None),
    ("max-age=1.5", "max_age", 0.0, None),
    ("max-age", "max_age", 0.0, None),
    ("stale-if-error=a", "stale_if_error", 0.0, None),
    # 1.2.2: delta-seconds are digits; int() takes more.
    ("max-age=+5", "max_age", 0.0, 5.0),
    ("max-age=1_0", "max_age", 0.0, 10.0),
    # 5.2 has no blanks around "=".
    ("max-age = 5", "max_age", 0.0, 5.0),
    # 5.2.1.2: max-stale alone is any staleness.
    ("max-stale", "max_stale", float("inf"), 2.0**31 - 1),
    # 5.2.2.4, 5.2.2.7: a directive stands for itself, whatever stands behind it.
    ('no-cache, no-cache="a"', "no_cache", True, False),
    ('private="a", private', "private_fields", frozenset((b"a",)), frozenset()),
    ("no-store=1", "no_store", True, False),
    # 5.2: a token ends at the comma.
    ("private=a,no-store", "no_store", True, False),
    ("no-cache=,public", "no_cache_fields", frozenset(), frozenset((b"public",))),
    # 5.2: what is no list of field names restricts all.
    ('private=""', "private", True, False),
    ('private="a b"', "private", True, False),
    ('no-cache="a', "no_cache", True, False),
    # RFC 9110, 5.6.1: a blank is no comma; what restricts is read all the same, what permits is not.
    ("a public", "public", False, True),
]


@pytest.mark.parametrize(("value", "slot", "ours", "theirs"), DIRECTIVES)
def test_directives_differ_where_the_table_says_so(value: str, slot: str, ours: Any, theirs: Any) -> None:
    assert getattr(read_directives([value.encode()]), slot) == ours
    assert getattr(as_ours(parse_cache_control(value)), slot) == theirs


FLAGS = ["no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "must-understand"]
FLAGS += ["no-transform", "immutable", "only-if-cached", "unknown"]
NUMBERS = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "min-fresh", "max-stale", "other"]
number = st.sampled_from(NUMBERS).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.integers(0, 10**6).flatmap(lambda value: st.sampled_from([f"={value}", f'="{value}"', f"=00{value}"])),
    )
)
naming = st.tuples(
    st.sampled_from(["no-cache", "private"]), st.sampled_from(['="a"', '="A, b"', '="set-cookie,x-y"', "=a"])
)
flag = st.tuples(st.sampled_from(FLAGS), st.just(""))
quoted = st.tuples(st.just("extension"), st.sampled_from(['="max-age=5"', '="a, no-store"', '="\\", private"', "=a"]))
member = number | flag | flag | naming | quoted
comma = st.sampled_from([",", ", ", " ,\t", ",, "])


def written(members: list[tuple[str, str]], commas: list[str], *, upper: bool) -> str:
    text = ""
    for index, (name, rest) in enumerate(members):
        end = commas[index % len(commas)]
        # That hishel takes a comma into a token is in the table.
        text += (name.upper() if upper else name) + rest + (", " if rest == "=a" else end)
    return text


@settings(max_examples=100)
@given(
    st.lists(member, max_size=6, unique_by=lambda item: item[0]), st.lists(comma, min_size=1, max_size=3), st.booleans()
)
def test_what_is_well_formed_is_read_alike(members: list[tuple[str, str]], commas: list[str], upper: bool) -> None:
    value = written(members, commas, upper=upper)
    # A token for a list of names: a comma behind it is in the table.
    if any(rest == "=a" and name in ("no-cache", "private") for name, rest in members):
        value = value.replace("=a, ", '="a", ').replace("=A, ", '="a", ')
    assert read_directives([value.encode()]) == as_ours(parse_cache_control(value))


junk = st.sampled_from(["", " ", "=", '"', "\\", ";", "=1", "=x", "=-1", '="', '="a', '"a"', "=1 ", " =1", "= 1", "=,"])

TAKEN_IN = re.compile(r'(?:no-cache|private) *= *[^" ]*,')


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(FLAGS + NUMBERS), junk), max_size=4, unique_by=lambda item: item[0]))
def test_of_what_is_malformed_we_allow_no_more(members: list[tuple[str, str]]) -> None:
    value = ",".join(name + rest for name, rest in members)
    # That hishel takes what is behind the comma into a token is in the table.
    assume(TAKEN_IN.search(value) is None)
    ours, theirs = read_directives([value.encode()]), as_ours(parse_cache_control(value))
    for restricting in ("no_store", "no_cache", "private", "must_revalidate", "proxy_revalidate"):
        assert getattr(ours, restricting) >= getattr(theirs, restricting)
    for permitting in ("public", "must_understand"):
        assert getattr(ours, permitting) <= getattr(theirs, permitting)
    for seconds in ("max_age", "s_maxage", "stale_while_revalidate", "stale_if_error"):
        mine, other = getattr(ours, seconds), getattr(theirs, seconds)
        assert (mine is None or mine == 0.0) if other is None else (mine is not None and mine <= other)


# Lifetimes and ages.

LIFETIMES: list[tuple[str, int, float | None, float | None]] = [
    # 4.2: a zone other than GMT is no date for this.
    (f"Date: {at(0)}\nExpires: {at(60)[:-3]}UTC", 200, 0.0, 60),
    # 4.2, RFC 9110, 5.6.7: nor is what is none of the three forms.
    (f"Date: {at(0)}\nExpires: {at(60).replace(',', '')}", 200, 0.0, 60),
    # 4.2.1: of several that differ we take none.
    (f"Date: {at(0)}\nExpires: {at(60)}\nExpires: {at(90)}", 200, 0.0, 60),
    # A lifetime that is negative is none; the comparisons come to the same.
    (f"Date: {at(0)}\nExpires: {at(-60)}", 200, 0.0, -60),
    ("Expires: 0", 200, 0.0, -1),
    # 4.2.2: guessed from Date, not from now, at most a day (ours to choose).
    (f"Date: {at(-500)}\nLast-Modified: {at(-1000)}", 200, 50.0, 100),
    (f"Last-Modified: {at(-100 * DAY)}", 200, MOST_GUESSED, 7 * DAY),
    (f"Last-Modified: {at(1000)}", 200, None, -100),
    # 4.2.2: not for statuses that are not made for it.
    (f"Last-Modified: {at(-1000)}", 302, None, 100),
    # 4.2.1: see the table of directives.
    (f"Cache-Control: max-age=x\nLast-Modified: {at(-1000)}", 200, 0.0, 100),
    # 3, 5.2.2.4: what must be confirmed anyway needs no lifetime.
    ("Cache-Control: no-cache", 200, 0.0, None),
    # RFC 9213, 2.2.
    ("Cache-Control: max-age=5\nCDN-Cache-Control: max-age=7", 200, 7.0, 5),
]


def lifetime(fields: str, status: int) -> float | None:
    found = fresh(fields, status=status)
    return None if found is None else found.fresh_until - found.born


@pytest.mark.parametrize(("fields", "status", "ours", "theirs"), LIFETIMES)
def test_lifetimes_differ_where_the_table_says_so(
    fields: str, status: int, ours: float | None, theirs: float | None
) -> None:
    assert lifetime(fields, status) == ours
    assert _spec.get_freshness_lifetime(response_of(fields, status), True) == theirs


def test_ages_differ_by_what_others_have_measured() -> None:
    # 4.2.3, 5.1: hishel knows neither Age nor how long the answer took.
    found = fresh("Cache-Control: max-age=60\nAge: 15", asked_at=NOW - 2)
    assert found is not None
    assert NOW - found.born == 17.0
    assert _spec.get_age(response_of("Cache-Control: max-age=60\nAge: 15")) == 0


def test_ages_differ_where_the_clock_of_the_backend_is_ahead() -> None:
    # 4.2.3: the time that an answer lies here counts from when it came; with hishel, from its Date.
    fields = f"Cache-Control: max-age=60\nDate: {at(30)}"
    found = fresh(fields)
    assert found is not None
    CLOCK.now = NOW + 20
    try:
        assert (CLOCK.now - found.born, _spec.get_age(response_of(fields))) == (20.0, 0)
    finally:
        CLOCK.now = NOW


dates = st.integers(-900, 900)
SAID = ["max-age=0", "max-age=60", "max-age=600", "s-maxage=30", "no-cache", "no-store", "private", "public"]
SAID += ["must-revalidate", "proxy-revalidate", 'no-cache="x"', 'private="x"', "must-understand", "unknown"]
cache_control = st.lists(st.sampled_from(SAID), max_size=3, unique_by=lambda said: said.partition("=")[0]).map(
    lambda said: f"Cache-Control: {', '.join(said)}\n" if said else ""
)


def optional(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.just("") | values.map(lambda value: f"{name}: {value}\n")


whens = dates.map(at)
dated = st.tuples(
    cache_control,
    optional("Date", whens),
    optional("Expires", whens | st.just("0")),
    optional("Last-Modified", st.integers(-9 * DAY, 0).map(at)),
).map("".join)


@settings(max_examples=100)
@given(dated)
def test_lifetimes_and_ages_are_alike(fields: str) -> None:
    found, theirs = fresh(fields), _spec.get_freshness_lifetime(response_of(fields), True)
    stated = any(word in fields for word in ("max-age", "s-maxage", "Expires"))
    if found is None:
        # In the table: what is newer than its Date tells nothing.
        assert not stated
        assert theirs is None or "Date" in fields
        return
    if stated:
        assert theirs is not None
        assert found.fresh_until - found.born == max(0, theirs)
    elif found.flags & GUESSED:
        assert theirs is not None
        # In the table: guessed from Date, where there is one.
        assert "Date" in fields or int(found.fresh_until - found.born) == theirs
    else:
        assert found.flags & ALWAYS_ASK
    assert NOW - found.born == _spec.get_age(response_of(fields))


# Storing.

# Why we do not store what hishel stores.
STRICTER = {
    "method": "3: HEAD has no body to store; ours is a cache of GET",
    "Set-Cookie": "7.3: what may be meant for one client is not for all",
    "Vary: *": "4.1: it never matches",
    "must-understand": "5.2.2.3: hishel takes any status for understood",
    "no freshness": "4.2.2: may be stored, but could never be used without asking",
    "stale": "4: nothing that could be confirmed or served stale",
    "no-cache": "5.2.2.4: nothing that could be confirmed",
    "content-encoding": "5.2.2.7: a body is nothing without its coding",
} | {f"status {status}": "3: provoked, or of a sick backend" for status in sorted(NEVER_STORED | set(range(500, 600)))}


def by_hishel(fields: str, status: int, method: str, asked: str) -> bool:
    miss = hishel.CacheMiss(request=hishel.Request(method, "http://a.example/a", headers_of(asked)), options=OPTIONS)
    return isinstance(miss.next(response_of(fields, status)), hishel.StoreAndUse)


answers = st.tuples(
    dated,
    optional("ETag", st.just('"a"')),
    optional("Set-Cookie", st.just("a=b")),
    optional("Vary", st.sampled_from(["Foo", "*"])),
    optional("X", st.just("1")),
).map("".join)
statuses = st.sampled_from([200, 203, 204, 206, 299, 301, 302, 304, 404, 405, 410, 414, 429, 500, 501, 503])


@settings(max_examples=250)
@given(
    answers, statuses, st.sampled_from(["GET", "GET", "GET", "HEAD", "POST"]), optional("Authorization", st.just("x"))
)
def test_what_is_stored_differs_only_for_known_reasons(fields: str, status: int, method: str, asked: str) -> None:
    verdict = judge(
        request(asked, method=method), answer(fields, status), RouteCacheSettings(), asked_at=NOW, received_at=NOW
    )
    theirs = by_hishel(fields, status, method, asked)
    if isinstance(verdict, Storable):
        # 5.2.2.3: who understands a status stores it in spite of no-store.
        assert theirs or ("must-understand" in fields and "no-store" in fields)
        names = [line.partition(b":")[0].lower().decode() for line in verdict.lines.split(b"\r\n") if line]
        kept = _spec.exclude_unstorable_headers(response_of(fields, status), True).headers
        assert set(names) == set(kept) | {"date"}
    elif theirs:
        assert verdict in STRICTER


def test_every_reason_of_that_table_is_one() -> None:
    stored_by_hishel = [
        ("Cache-Control: max-age=60", 200, "HEAD", "method"),
        ("Cache-Control: max-age=60\nSet-Cookie: a=b", 200, "GET", "Set-Cookie"),
        ("Cache-Control: max-age=60\nVary: *", 200, "GET", "Vary: *"),
        ("Cache-Control: max-age=60, must-understand", 299, "GET", "must-understand"),
        ("X: 1", 200, "GET", "no freshness"),
        ("Cache-Control: max-age=0", 200, "GET", "stale"),
        ("Cache-Control: no-cache", 200, "GET", "no-cache"),
        ('Cache-Control: max-age=60, private="content-encoding"\nContent-Encoding: br', 200, "GET", "content-encoding"),
        ("Cache-Control: max-age=60", 503, "GET", "status 503"),
    ]
    for fields, status, method, reason in stored_by_hishel:
        assert by_hishel(fields, status, method, "")
        head = request(method=method)
        assert judge(head, answer(fields, status), RouteCacheSettings(), asked_at=NOW, received_at=NOW) == reason
    assert set(STRICTER) - {f"status {status}" for status in range(600)} == {row[3] for row in stored_by_hishel[:-1]}


# Serving.


@settings(max_examples=100)
@given(dated, st.integers(0, 700), optional("Cache-Control", st.sampled_from(["no-cache", "no-store", "unknown"])))
def test_what_is_served_without_asking_is_alike(fields: str, after: int, asked: str) -> None:
    # What differs in guesses is in the table; and what is stored has a Date, which is not ahead here: see below.
    fields = "".join(line for line in fields.splitlines(keepends=True) if not line.startswith("Last-Modified"))
    ahead = (read_date(line[6:].encode(), NOW) or 0.0 for line in fields.splitlines() if line.startswith("Date: "))
    if next(ahead, NOW + 1.0) > NOW:
        fields = "".join(line for line in fields.splitlines(keepends=True) if not line.startswith("Date"))
        fields += f"Date: {at(0)}\n"
    found = fresh(fields)
    if found is None:
        return
    kept = Stored(
        b"k",
        b"",
        200,
        b"OK",
        b"",
        b"",
        coding=b"",
        born=found.born,
        fresh_until=found.fresh_until,
        while_revalidate=found.while_revalidate,
        if_error=found.if_error,
        flags=found.flags,
        tags=None,
    )
    ours = how(kept, query(request_directives(request(asked))), NOW + after)
    url = hishel.Request("GET", "http://a.example/a", headers_of(asked))
    entry = hishel.Entry(uuid.UUID(int=1), hishel.Request("GET", url.url), response_of(fields))
    CLOCK.now = NOW + after
    try:
        theirs = hishel.IdleClient(options=OPTIONS).next(url, [entry])
    finally:
        CLOCK.now = NOW
    assert (ours == FRESH) is isinstance(theirs, hishel.FromCache)


# Invalidation.


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 500])
def test_what_is_invalidated_is_alike(method: str, status: int) -> None:
    said: ResponseHead = answer("X: 1", status)
    ours = invalidated(request(method=method), said, b"http")
    url = "http://a.example/a"
    entry = hishel.Entry(uuid.UUID(int=1), hishel.Request("GET", url), response_of("Cache-Control: max-age=60"))
    state = hishel.IdleClient(options=OPTIONS).next(hishel.Request(method, url), [entry])
    theirs = isinstance(state, hishel.CacheMiss) and isinstance(
        state.next(response_of("X: 1", status)), hishel.InvalidateEntries
    )
    assert ours == ([(b"/a", None)] if theirs else [])


def test_what_hishel_does_not_invalidate() -> None:
    # 4.4: Location and Content-Location may be, and are.
    found = invalidated(request(method="POST"), answer("Location: /b\nContent-Location: /c", 201), b"http")
    assert found == [(b"/a", None), (b"/b", None), (b"/c", None)]


def test_statuses_that_need_no_freshness_are_among_those_of_hishel() -> None:
    # RFC 9110, 15.1; 405 is not worth it, 414 and 501 are never stored.
    assert set(_spec.HEURISTICALLY_CACHEABLE_STATUS_CODES) - UNTOLD == {405, 414, 501}
    assert set(_spec.HEURISTICALLY_CACHEABLE_STATUS_CODES) >= UNTOLD
