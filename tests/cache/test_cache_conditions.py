"""Conditional requests against a stored answer, and conditional requests about one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.conditions import (
    CONDITIONAL,
    date_of,
    evaluate,
    range_holds,
    revalidating_lines,
    same_weakly,
    validators,
)
from tests.cache.matching_heads import request

NOW = 800_000_000.0
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"
MODIFIED = b"Sun, 06 Nov 1994 08:49:37 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"

TAGS = st.builds(
    lambda weak, text: weak + b'"' + text + b'"',
    st.sampled_from([b"", b"W/"]),
    st.lists(st.sampled_from([b"a", b"b", b",", b" ", b"W/", b"\xfc", b"*"]), max_size=4).map(b"".join),
)


def verdict(
    *lines: bytes,
    etag: bytes | None = b'"abc"',
    modified: bytes | None = MODIFIED,
    status: int = 200,
    method: bytes = b"GET",
) -> int:
    return evaluate(request(b"/", *lines, method=method), status, etag, modified, NOW)


def none_match(value: bytes, etag: bytes | None) -> int:
    return verdict(b"If-None-Match: " + value, etag=etag)


@pytest.mark.parametrize(
    ("value", "etag"),
    [
        (b'"abc"', b'"abc"'),
        (b'"abc", "1", "2"', b'"abc"'),
        (b'"1", "abc", "2"', b'"abc"'),
        (b'"1","2"\t,"abc"', b'"abc"'),
        (b',, "abc" ,', b'"abc"'),
        (b'W/"abc"', b'"abc"'),
        (b'"abc"', b'W/"abc"'),
        (b'W/"abc"', b'W/"abc"'),
        (b'w/"abc"', b'w/"abc"'),
        (b'W"abc"', b'W"abc"'),
        (b'W\\"abc"', b'W\\"abc"'),
        (b'"a,b"', b'"a,b"'),
        (b'"x", "a, b"', b'"a, b"'),
        (b'"abcdef\xfc"', b'"abcdef\xfc"'),
        (b'""', b'""'),
        # Without their quotes by one side or both.
        (b"abc", b'"abc"'),
        (b"abc", b"abc"),
        (b'"abc"', b"abc"),
        (b"x, abc", b"abc"),
        (b"*", b'"abc"'),
        (b"*", None),
    ],
)
def test_who_has_it_gets_304(value: bytes, etag: bytes | None) -> None:
    assert none_match(value, etag) == 304


@pytest.mark.parametrize(
    ("value", "etag"),
    [
        (b'"abd"', b'"abc"'),
        (b'"abc"', None),
        (b'"ABC"', b'"abc"'),
        (b'"a", "b"', b'"a, b"'),
        (b'"x,abc,y"', b'"abc"'),
        (b'"abc', b'"abc"'),
        (b'"*"', b'"abc"'),
        (b"*, x", b'"abc"'),
        (b"", b'"abc"'),
        (b"", b'""'),
        (b",", b""),
    ],
)
def test_who_has_something_else_gets_the_answer(value: bytes, etag: bytes | None) -> None:
    assert none_match(value, etag) == 0


def test_the_tags_of_several_lines_are_one_list() -> None:
    assert verdict(b'If-None-Match: "1"', b"Accept: */*", b'If-None-Match: "abc"') == 304


def test_no_condition_is_no_obstacle() -> None:
    assert verdict() == 0
    assert verdict(b"Range: bytes=0-1", b'If-Range: "abc"') == 0


@pytest.mark.parametrize(
    ("value", "modified", "expected"),
    [
        (MODIFIED, MODIFIED, 304),
        (LATER, MODIFIED, 304),
        (EARLIER, MODIFIED, 0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", MODIFIED, 304),
        (b"Sun Nov  6 08:49:37 1994", MODIFIED, 304),
        (b"Sunday, 06-Nov-94 08:49:36 GMT", MODIFIED, 0),
        (MODIFIED, None, 0),
        (b"yesterday", MODIFIED, 0),
        (b"", MODIFIED, 0),
        (b"yesterday", b"yesterday", 0),
        (MODIFIED, b"yesterday", 0),
    ],
)
def test_if_modified_since_goes_by_dates_that_can_be_read(value: bytes, modified: bytes | None, expected: int) -> None:
    assert verdict(b"If-Modified-Since: " + value, modified=modified) == expected
    assert verdict(b"If-Modified-Since: " + value, modified=modified, method=b"HEAD") == expected


def test_two_dates_are_none() -> None:
    assert verdict(b"If-Modified-Since: " + LATER, b"If-Modified-Since: " + LATER) == 0


@pytest.mark.parametrize(("value", "expected"), [(EARLIER, 412), (MODIFIED, 0), (LATER, 0), (b"yesterday", 0)])
def test_if_unmodified_since_fails_when_it_was_modified_since(value: bytes, expected: int) -> None:
    assert verdict(b"If-Unmodified-Since: " + value) == expected
    assert verdict(b"If-Unmodified-Since: " + value, modified=None) == 0


@pytest.mark.parametrize(
    ("value", "etag", "expected"),
    [
        (b'"abc"', b'"abc"', 0),
        (b'"x", "abc"', b'"abc"', 0),
        (b"*", b'"abc"', 0),
        (b"*", None, 0),
        (b'"x"', b'"abc"', 412),
        (b'W/"abc"', b'"abc"', 412),
        (b'"abc"', b'W/"abc"', 412),
        (b'W/"abc"', b'W/"abc"', 412),
        (b'"abc"', None, 412),
        (b"abc", b'"abc"', 412),
        (b"abc", b"abc", 412),
        (b"", b'"abc"', 412),
    ],
)
def test_if_match_compares_strongly(value: bytes, etag: bytes | None, expected: int) -> None:
    assert verdict(b"If-Match: " + value, etag=etag) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # RFC 9110, 13.2.2: If-Match before all others, and If-Unmodified-Since only without it.
        ((b'If-Match: "x"', b'If-None-Match: "abc"'), 412),
        ((b'If-Match: "abc"', b"If-Unmodified-Since: " + EARLIER), 0),
        ((b'If-Match: "abc"', b'If-None-Match: "abc"'), 304),
        ((b"If-Unmodified-Since: " + EARLIER, b'If-None-Match: "abc"'), 412),
        ((b"If-Unmodified-Since: " + LATER, b'If-None-Match: "abc"'), 304),
        # If-Modified-Since only without If-None-Match.
        ((b'If-None-Match: "x"', b"If-Modified-Since: " + LATER), 0),
        ((b'If-None-Match: "abc"', b"If-Modified-Since: " + EARLIER), 304),
        ((b"If-None-Match: ", b"If-Modified-Since: " + LATER), 0),
        ((b'If-Match: "abc"', b"If-Modified-Since: " + LATER), 304),
    ],
)
def test_the_order_of_preconditions_is_that_of_the_standard(lines: tuple[bytes, ...], expected: int) -> None:
    assert verdict(*lines) == verdict(*reversed(lines)) == expected


@pytest.mark.parametrize(
    ("status", "expected"), [(200, 304), (204, 304), (299, 304), (300, 0), (301, 0), (404, 0), (199, 0)]
)
def test_conditions_are_for_answers_that_are_well(status: int, expected: int) -> None:
    assert verdict(b'If-None-Match: "abc"', status=status) == expected
    assert verdict(b'If-Match: "x"', status=status) == (412 if expected else 0)


def test_only_get_and_head_are_answered_with_304() -> None:
    assert verdict(b'If-None-Match: "abc"', method=b"HEAD") == 304
    assert verdict(b'If-None-Match: "abc"', method=b"PUT") == 412
    assert verdict(b"If-Modified-Since: " + LATER, method=b"PUT") == 0


@given(st.lists(TAGS, max_size=4), TAGS)
def test_a_list_matches_when_one_of_its_members_does(members: list[bytes], etag: bytes) -> None:
    value = b" , ".join(members)
    opaque = [member.removeprefix(b"W/") for member in members]
    assert none_match(value, etag) == (304 if etag.removeprefix(b"W/") in opaque else 0)
    if members:
        strong = etag in members and not etag.startswith(b"W/")
        assert verdict(b"If-Match: " + value, etag=etag) == (0 if strong else 412)


@given(st.lists(st.sampled_from([b'"', b",", b"W/", b" ", b"a", b"*"]), max_size=30).map(b"".join), TAGS)
def test_any_text_at_all_is_read(value: bytes, etag: bytes) -> None:
    assert none_match(value, etag) in (0, 304)
    assert verdict(b"If-Match: " + value, etag=etag) in (0, 412)


@pytest.mark.parametrize(
    ("value", "etag", "modified", "date", "expected"),
    [
        (None, None, None, None, True),
        (b'"abc"', b'"abc"', None, None, True),
        (b'"abd"', b'"abc"', None, None, False),
        (b'W/"abc"', b'W/"abc"', None, None, False),
        (b'"abc"', b'W/"abc"', None, None, False),
        (b"abc", b"abc", None, None, False),
        (b'"abc", "abc"', b'"abc"', None, None, False),
        (b"*", b'"abc"', None, None, False),
        (b'"abc"', None, MODIFIED, LATER, False),
        (MODIFIED, b'"abc"', MODIFIED, LATER, True),
        (MODIFIED, None, MODIFIED, None, False),
        (MODIFIED, None, MODIFIED, MODIFIED, False),
        (MODIFIED, None, MODIFIED, EARLIER, False),
        (MODIFIED, None, None, LATER, False),
        # Exactly the same, not later: it might be another version between.
        (LATER, None, MODIFIED, b"Sun, 06 Nov 1994 09:49:38 GMT", False),
        (b"Sun Nov  6 08:49:37 1994", None, MODIFIED, LATER, False),
        (b"yesterday", None, b"yesterday", LATER, False),
        (MODIFIED, None, MODIFIED, b"today", False),
    ],
)
def test_a_range_holds_only_for_exactly_what_its_client_has(
    value: bytes | None, etag: bytes | None, modified: bytes | None, date: bytes | None, expected: bool
) -> None:
    lines = [b"Range: bytes=0-1"] if value is None else [b"Range: bytes=0-1", b"If-Range: " + value]
    assert range_holds(request(b"/", *lines), etag, modified, date) is expected


def test_two_if_ranges_hold_for_nothing() -> None:
    assert not range_holds(request(b"/", b'If-Range: "abc"', b'If-Range: "abc"'), b'"abc"', None)


STORED = b'Server: x\r\nlast-modified:%b\r\nX-ETag: "no"\r\nEtag: W/"1"\r\nETag: "2"\r\nDate: %b\r\n' % (
    MODIFIED,
    LATER,
)


def test_validators_are_found_in_lines_whatever_their_case() -> None:
    assert validators(STORED) == (b'W/"1"', MODIFIED)
    assert validators(b'ETag: "1"\r\n') == (b'"1"', None)
    assert validators(b"Last-Modified: " + MODIFIED + b"\r\n") == (None, MODIFIED)
    assert validators(b"") == validators(b"ETag:\r\nX: ETag: 1\r\nLast-Modified-By: me\r\n") == (None, None)
    assert date_of(STORED) == LATER
    assert date_of(b"Date: " + LATER + b"\r\n") == LATER
    assert date_of(b"X-Date: " + LATER + b"\r\n") is None


def test_a_backend_is_asked_by_all_validators_as_they_came() -> None:
    assert revalidating_lines(STORED) == b'If-None-Match: W/"1"\r\nIf-Modified-Since: %b\r\n' % MODIFIED
    assert revalidating_lines(b'ETag: "1"\r\n') == b'If-None-Match: "1"\r\n'
    assert revalidating_lines(b"Last-Modified: %b\r\n" % MODIFIED) == b"If-Modified-Since: %b\r\n" % MODIFIED
    assert revalidating_lines(b"Server: x\r\n") == b""
    asked = re.findall(rb"^([^:\n]+):", revalidating_lines(STORED).lower(), re.MULTILINE)
    assert set(asked) <= CONDITIONAL


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(b'"a"', b'"a"', True), (b'W/"a"', b'"a"', True), (b'"a"', b'"b"', False), (b'W/"a"', b'W/"b"', False)],
)
def test_the_weak_comparison_overlooks_weakness_alone(one: bytes, other: bytes, expected: bool) -> None:
    assert same_weakly(one, other) is same_weakly(other, one) is expected
