"""What a 304, and the answer to a HEAD, changes in a stored answer, and what it never does (K8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.updating import fields_of, freshened, matches
from tests.cache.matching_heads import answer

OLD = b"Sun, 06 Nov 1994 08:49:37 GMT"
NEW = b"Mon, 07 Nov 1994 08:49:37 GMT"
LINES = b'Server: x\r\nETag: "a"\r\nDate: %b\r\nVary: Foo\r\nX-Two: 1\r\nX-Three: 3\r\nx-two: 2\r\n' % OLD

NAMES = st.sampled_from([b"ETag", b"X-A", b"x-a", b"X-B", b"X-C", b"Set-Cookie", b"Content-Encoding", b"Age"])
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"1", b"2", b"a: b"])), max_size=8)


def lines_of(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [b"%b: %b" % field for field in fields]


@pytest.mark.parametrize(
    ("stored", "new", "expected"),
    [
        ((b'ETag: "a"',), (b'ETag: "a"',), True),
        ((b'ETag: "a"',), (b'ETag: "b"',), False),
        ((b'ETag: W/"a"',), (b'ETag: W/"a"',), True),
        ((b'ETag: W/"a"',), (b'ETag: W/"b"',), False),
        # Some weaken only what they compress, which a 304 is not.
        ((b'ETag: W/"a"',), (b'ETag: "a"',), True),
        ((b'ETag: "a"',), (b'ETag: W/"a"',), True),
        ((), (b'ETag: "a"',), False),
        ((b"Last-Modified: " + OLD,), (b'ETag: "a"', b"Last-Modified: " + OLD), False),
        ((b"Last-Modified: " + OLD,), (b"Last-Modified: " + OLD,), True),
        ((b"Last-Modified: " + OLD,), (b"Last-Modified: " + NEW,), False),
        ((), (b"Last-Modified: " + OLD,), False),
        ((b'ETag: "a"', b"Last-Modified: " + OLD), (b"Last-Modified: " + NEW,), False),
        ((b'ETag: "a"', b"Last-Modified: " + OLD), (b'ETag: "a"', b"Last-Modified: " + NEW), True),
        # It says nothing of its own, so it speaks of what was asked about.
        ((b'ETag: "a"',), (), True),
        ((b"Last-Modified: " + OLD,), (b"ETag:",), True),
        ((), (), True),
    ],
)
def test_a_304_speaks_of_the_stored_answer_with_its_validator(
    stored: tuple[bytes, ...], new: tuple[bytes, ...], expected: bool
) -> None:
    assert matches(b"".join(line + b"\r\n" for line in stored), answer(304, *new)) is expected


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ((), True),
        ((b'ETag: "a"',), True),
        ((b'ETag: "a"', b"Last-Modified: " + OLD, b"Content-Length: 5"), True),
        ((b'ETag: "b"', b"Last-Modified: " + OLD), False),
        ((b'ETag: "a"', b"Last-Modified: " + NEW), False),
        ((b"Last-Modified: " + NEW,), False),
        ((b'ETag: "a"', b"Content-Length: 6"), False),
        ((b"Content-Length: 6",), False),
    ],
)
def test_the_answer_to_a_head_must_be_the_same_in_all_that_it_says(new: tuple[bytes, ...], expected: bool) -> None:
    stored = b'ETag: "a"\r\nLast-Modified: %b\r\n' % OLD
    assert matches(stored, answer(200, *new), length=5) is expected


def test_a_length_is_compared_only_with_one_that_is_known() -> None:
    assert matches(b"", answer(200, b"Content-Length: 6"))
    # That of a 304 is often wrong, and means nothing.
    assert matches(b"", answer(304, b"Content-Length: 0"), length=5)


@pytest.mark.parametrize("status", [300, 302, 303, 305, 400, 404, 410, 500, 503])
def test_no_other_answer_speaks_of_anything_stored(status: int) -> None:
    assert not matches(b'ETag: "a"\r\n', answer(status, b'ETag: "a"'))


def test_lines_are_replaced_in_their_places_and_new_ones_follow() -> None:
    new = answer(304, b"X-New: n", b"Date: " + NEW, b"X-TWO: 4", b'Etag: W/"a"', b"X-New: m", b"X-Two: 5")
    assert freshened(LINES, new) == (
        b'Server: x\r\nETag: "a"\r\nDate: %b\r\nVary: Foo\r\nX-TWO: 4\r\nX-Two: 5\r\nX-Three: 3\r\n'
        b"X-New: n\r\nX-New: m\r\n" % NEW
    )


@pytest.mark.parametrize(
    "name",
    [
        b"Age",
        b"Content-Encoding",
        b"Content-Length",
        b"Content-Range",
        b"Set-Cookie",
        b"Set-Cookie2",
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"Proxy-Authentication-Info",
        b"Proxy-Connection",
        b"TE",
        b"Transfer-Encoding",
        b"Upgrade",
    ],
)
def test_what_a_304_must_not_change_it_does_not(name: bytes) -> None:
    value = {b"Content-Length": b"7", b"Transfer-Encoding": b"chunked"}.get(name, b"new")
    assert freshened(LINES, answer(304, b"%b: %b" % (name, value))) == LINES


@pytest.mark.parametrize("name", [b"Content-Encoding", b"Content-Range", b"Set-Cookie"])
def test_what_must_not_change_stays_as_it_is_stored(name: bytes) -> None:
    stored = b"%b: old\r\n" % name
    assert freshened(stored, answer(304, b"%b: new" % name)) == stored


@pytest.mark.parametrize(
    "name",
    [
        b"Test-Header",
        b"Cache-Control",
        b"Content-Foo",
        b"Content-Location",
        b"Content-MD5",
        b"Content-Security-Policy",
        b"Content-Type",
        b"Clear-Site-Data",
        b"Expires",
        b"Last-Modified",
        b"Vary",
        b"X-Frame-Options",
    ],
)
def test_everything_else_is_the_new_one(name: bytes) -> None:
    stored = b"A: 1\r\n%b: old\r\nB: 2\r\n" % name
    assert freshened(stored, answer(304, b"%b: new" % name)) == b"A: 1\r\n%b: new\r\nB: 2\r\n" % name


def test_an_answer_without_a_tag_learns_the_one_it_is_told() -> None:
    assert freshened(b"A: 1\r\n", answer(304, b'ETag: "a"')) == b'A: 1\r\nETag: "a"\r\n'


def test_fields_that_may_not_be_stored_are_left_out() -> None:
    new = answer(304, b'Cache-Control: no-cache="Foo"', b"Foo: 1", b"Bar: 2")
    kept = freshened(b"Bar: 1\r\n", new, left_out=frozenset((b"foo",)))
    assert kept == b'Bar: 2\r\nCache-Control: no-cache="Foo"\r\n'


def test_the_time_of_an_answer_without_date_is_when_it_came() -> None:
    assert freshened(b"Date: %b\r\nA: 1\r\n" % OLD, answer(304), received_at=784284577.9) == (
        b"Date: Tue, 08 Nov 1994 08:49:37 GMT\r\nA: 1\r\n"
    )
    dated = freshened(b"Date: %b\r\n" % OLD, answer(304, b"Date: " + NEW), received_at=784284577.9)
    assert dated == b"Date: %b\r\n" % NEW
    assert freshened(b"Date: %b\r\n" % OLD, answer(304)) == b"Date: %b\r\n" % OLD


def test_stored_lines_are_fields_again() -> None:
    assert fields_of(b"Server: x: y\r\nx-EMPTY: \r\n") == [
        (b"server", b"x: y", b"Server: x: y\r\n"),
        (b"x-empty", b"", b"x-EMPTY: \r\n"),
    ]
    assert fields_of(b"") == []


@given(FIELDS, FIELDS)
def test_a_304_changes_exactly_the_fields_that_it_has(
    old: list[tuple[bytes, bytes]], new: list[tuple[bytes, bytes]]
) -> None:
    stored = b"".join(field[2] for field in answer(200, *lines_of(old)).fields)
    told = answer(304, *lines_of(new))
    after = freshened(stored, told)

    def values(fields: list[tuple[bytes, bytes, bytes]], name: bytes) -> list[bytes]:
        return [value for field, value, _ in fields if field == name]

    for name in (b"etag", b"x-a", b"x-b", b"x-c", b"set-cookie", b"content-encoding", b"age"):
        before = values(fields_of(stored), name)
        fixed = name in (b"set-cookie", b"content-encoding", b"age") or (name == b"etag" and before)
        wanted = before if fixed else values(told.fields, name) or before
        assert values(fields_of(after), name) == wanted
    # Told the same again, nothing changes.
    assert freshened(after, told) == after
