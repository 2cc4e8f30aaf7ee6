"""Ranges: what is asked for, what is ignored, and how several pieces are told."""

from __future__ import annotations

import email.parser
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.ranges import (
    UNSATISFIABLE,
    Span,
    content_range,
    multipart,
    multipart_type,
    read_ranges,
    unsatisfied_range,
)

SOUP = st.lists(st.sampled_from([b"bytes=", b"-", b",", b"0", b"1", b"9", b" ", b"+", b"_", b"\x0b", b"00"]))


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        (b"bytes=0-1", [(0, 2)]),
        (b"bytes=0-0", [(0, 1)]),
        (b"bytes=9-9", [(9, 10)]),
        (b"bytes=1-", [(1, 10)]),
        (b"bytes=0-", [(0, 10)]),
        (b"bytes=-1", [(9, 10)]),
        (b"bytes=-10", [(0, 10)]),
        (b"bytes=-11", [(0, 10)]),
        (b"bytes=5-99", [(5, 10)]),
        (b"BYTES=0-1", [(0, 2)]),
        (b"bytes=0-0,-1", [(0, 1), (9, 10)]),
        (b"bytes= 0-0 ,\t5-6 ,, 9-", [(0, 1), (5, 7), (9, 10)]),
        # In the order in which they are wanted, without those that are not there.
        (b"bytes=8-9,0-1,20-30,-0", [(8, 10), (0, 2)]),
        # One that overlaps is let pass.
        (b"bytes=0-5,3-9", [(0, 6), (3, 10)]),
        (b"bytes=0-4,5-9", [(0, 5), (5, 10)]),
        (b"bytes=0-99999999999999999999999", [(0, 10)]),
        (b"bytes=-99999999999999999999999", [(0, 10)]),
        (b"bytes=" + b"0" * 5000 + b"1-" + b"0" * 5000 + b"2", [(1, 3)]),
    ],
)
def test_pieces_are_read(value: bytes, spans: list[Span]) -> None:
    assert read_ranges(value, 10) == spans


@pytest.mark.parametrize(
    "value",
    [b"bytes=10-", b"bytes=10-11", b"bytes=-0", b"bytes=20-,10-10,-00", b"bytes=99999999999999999999999-"],
)
def test_what_lies_beyond_the_body_cannot_be_satisfied(value: bytes) -> None:
    assert read_ranges(value, 10) is UNSATISFIABLE


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=5",
        b"bytes=5-4",
        b"bytes=99999999999999999999999-5",
        b"bytes=a-b",
        b"bytes=+1-2",
        b"bytes=1_0-",
        b"bytes=0x0-1",
        b"bytes=1 -2",
        b"bytes=0- 1",
        b"bytes=\x0b0-1",
        b"bytes=0-1\n",
        b"bytes=--1",
        b"bytes=0-1-2",
        b"bytes=0-1,x",
        b"bytes=0-1;2-3",
        b"bytes =0-1",
        b" bytes=0-1",
        b"byte=0-1",
        b"lines=0-1",
        b"bytes:0-1",
        b"bytes=\xb2-",
    ],
)
def test_what_cannot_be_read_is_ignored(value: bytes) -> None:
    assert read_ranges(value, 10) is None


def test_an_empty_body_has_no_pieces() -> None:
    for value in (b"bytes=0-", b"bytes=-1", b"bytes=-0", b"bytes=0-0,5-"):
        assert read_ranges(value, 0) is None


def test_more_than_fifty_ranges_are_ignored() -> None:
    def some(count: int) -> bytes:
        return b"bytes=" + b",".join(b"%d-%d" % (2 * index, 2 * index) for index in range(count))

    fifty = read_ranges(some(50), 1000)
    assert fifty is not None
    assert len(fifty) == 50
    assert read_ranges(some(51), 1000) is None
    # Those beyond the body count too, and so do commas with nothing between, sooner or later.
    assert read_ranges(some(51), 10) is None
    assert read_ranges(b"bytes=" + b"," * 1000 + b"0-1", 10) is None


@pytest.mark.parametrize(
    "value",
    [b"bytes=0-,0-,0-", b"bytes=0-9,1-1,3-3", b"bytes=3-3,1-1,0-9", b"bytes=0-4,4-6,6-8", b"bytes=" + b"0-,-9," * 500],
)
def test_ranges_that_overlap_again_and_again_are_ignored(value: bytes) -> None:
    assert read_ranges(value, 10) is None


@given(SOUP.map(lambda parts: b"bytes=" + b"".join(parts)), st.integers(0, 12))
def test_whatever_is_read_lies_within_the_body(value: bytes, length: int) -> None:
    spans = read_ranges(value, length)
    for start, end in spans or []:
        assert 0 <= start < end <= length


@given(
    st.lists(st.one_of(st.tuples(st.integers(0, 30), st.integers(0, 30) | st.none()), st.integers(0, 30)), max_size=5),
    st.integers(1, 25),
)
def test_ranges_say_the_bytes_that_a_slow_reading_says(wanted: list[object], length: int) -> None:
    texts: list[bytes] = []
    pieces: list[list[int]] = []
    wrong = not wanted
    for one in wanted:
        if isinstance(one, tuple):
            first, last = one
            texts.append(b"%d-" % first if last is None else b"%d-%d" % (first, last))
            wrong = wrong or (last is not None and last < first)
            pieces.append([place for place in range(length) if place >= first and (last is None or place <= last)])
        elif isinstance(one, int):
            texts.append(b"-%d" % one)
            pieces.append(list(range(length))[max(0, length - one) :])
    pieces = [piece for piece in pieces if piece]
    by_start = sorted((piece[0], piece[-1]) for piece in pieces)
    overlaps = sum(any(begin <= other[1] for other in by_start[:index]) for index, (begin, _) in enumerate(by_start))
    read = read_ranges(b"bytes=" + b", ".join(texts), length)
    if wrong or overlaps >= 2:
        assert read is None
    else:
        assert read is not None
        assert [list(range(*span)) for span in read] == pieces


def test_lines_say_first_and_last_byte() -> None:
    assert content_range(0, 2, 10) == b"Content-Range: bytes 0-1/10\r\n"
    assert unsatisfied_range(10) == b"Content-Range: bytes */10\r\n"


@pytest.mark.parametrize("content_type", [b"image/png", b"", None])
def test_several_pieces_are_read_back_by_another_reader(content_type: bytes | None) -> None:
    body = bytes(range(65, 91))
    spans = [(0, 2), (24, 26), (5, 6)]
    parts, total = multipart(b"x-y", content_type, spans, len(body))
    written = b"".join(part if isinstance(part, bytes) else body[slice(*part)] for part in parts)
    assert len(written) == total
    assert [part for part in parts if isinstance(part, tuple)] == spans
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    read = parser.parsebytes(multipart_type(b"x-y") + b"\r\n" + written)
    assert read.get_content_type() == "multipart/byteranges"
    assert read.is_multipart()
    assert not read.defects
    pieces = list(read.iter_parts())
    assert [piece.get_payload(decode=True) for piece in pieces] == [b"AB", b"YZ", b"F"]
    assert [piece["Content-Range"] for piece in pieces] == ["bytes 0-1/26", "bytes 24-25/26", "bytes 5-5/26"]
    types = [piece["Content-Type"] for piece in pieces]
    assert types == ["image/png" if content_type else None] * 3
