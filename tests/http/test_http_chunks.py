"""The chunked coding, row by row (F22 to F30), at every split; what is sent on is read again."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.chunks import HELD, LAST, ChunkReader, chunk, last_with
from lbproxy.http.lines import read_field
from tests.http.http_reading import cuts, read_chunks, steps

DONE = b"0\r\n\r\n"

REFUSED: list[tuple[str, str, bytes]] = [
    *(
        ("F22", "F22", size + b"\r\nhello\r\n" + DONE)
        for size in (b"0x5", b"+5", b"-5", b"5 ", b" 5", b"5\t", b"0_5", b"", b"G", b"5these", b"\xb2", b"5 ;a", b"\0")
    ),
    ("F22", "F22", b"5\nhello\r\n" + DONE),
    ("F22", "F22", b"5\rhello\r\n" + DONE),
    *(
        ("F23", "F23", size + b"\r\n")
        for size in (b"000000005", b"80000000", b"f" * 16, b"1" + b"0" * 16, b"8" * 8, b"0" * 9)
    ),
    ("F23", "F23", b"80000000;a\r\n"),
    *(
        ("F24", "F24", b"5" + extension + b"\r\nhello\r\n" + DONE)
        for extension in (b";", b";a=\x00", b";a=b\rX", b";[=x", b';a="unterminated', b";a=", b";a b", b";a ", b";=b")
    ),
    ("F24", "F24", b"5;\nhello\r\n" + DONE),
    ("F24", "F24", b"5;a\nhello\r\n" + DONE),
    ("F24", "F24", b'5;a="\\\x7f"\r\nhello\r\n' + DONE),
    ("F25", "F25", b"5;a=" + b"b" * 65536 + b"\r\nhello\r\n" + DONE),
    ("F25", "F25", b"5;a=" + b"b" * 253 + b"\r\nhello\r\n" + DONE),
    ("F25", "F25", (b"1;a=" + b"b" * 250 + b"\r\nx\r\n") * 66 + DONE),
    *(
        ("F27", "F27", b"5\r\n" + body + DONE)
        for body in (b"hello", b"helloo\r\n", b"hell\r\n\r\n", b"hello\n", b"hello\r", b"hello\rX", b"hello\n\r\n")
    ),
    ("F28", "F28", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    ("F28", "F28", b"0\n\n"),
    ("F28", "F28", b"0\r\n\n"),
    ("F28", "F28", b"0\r\n\rX"),
    ("F28", "F28", b"0\r\nX: y\r\n\r\r\n\r\n"),
    ("F28", "F28", b"0\rX"),
    ("F28", "F28", b"5\r\nhello\r\n\r\n" + DONE),
    ("F28", "F28", b"0\r\nX: y\n\r\n"),
    ("F30", "F30", b"0\r\nX: y\0\r\n\r\n"),
    ("F30", "F30", b"0\r\nX : y\r\n\r\n"),
    ("F30", "F30", b"0\r\nX: y\r\n z\r\n\r\n"),
    ("F30", "F30", b"0\r\n: y\r\n\r\n"),
    ("F30", "F30", b"0\r\nX: " + b"y" * 4096 + b"\r\n\r\n"),
    ("F30", "F30", b"0\r\n" + b"X: y\r\n" * 683 + b"\r\n"),
    ("F30", "F30", b"0\r\n" + b"x" * 257 + b": y\r\n\r\n"),
]

Field = tuple[bytes, bytes, bytes]


def field(line: bytes) -> Field:
    return read_field(line)


ACCEPTED: list[tuple[str, bytes, bytes, list[Field], bool]] = [
    # Row, bytes, payload, trailers, whether it goes on as it is.
    ("plain", DONE, b"", [], True),
    ("plain", b"5\r\nhello\r\n" + DONE, b"hello", [], True),
    ("plain", b"a\r\n0123456789\r\nA\r\nabcdefghij\r\n" + DONE, b"0123456789abcdefghij", [], True),
    ("F16", b"05\r\nhello\r\n" + DONE, b"hello", [], False),
    ("F16", b"00000005\r\nhello\r\n" + DONE, b"hello", [], False),
    ("F16", b"5\r\nhello\r\n000\r\n\r\n", b"hello", [], False),
    *(
        ("F26", b"5" + extension + b"\r\nhello\r\n" + DONE, b"hello", [], False)
        for extension in (b";a", b";a=b", b";a=b;c", b'; a = "b;\\"\xff c" ;d', b';a=""')
    ),
    ("F26", b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello", [], False),
    ("F26", b"5;a=" + b"b" * 252 + b"\r\nhello\r\n" + DONE, b"hello", [], False),
    ("F26", (b"1;a=" + b"b" * 250 + b"\r\nx\r\n") * 64 + DONE, b"x" * 64, [], False),
    ("F30", b"1\r\nx\r\n0\r\nX: y\r\nZ:\r\n\r\n", b"x", [field(b"X: y"), field(b"Z:")], False),
    ("F30", b"0\r\nX: " + b"y" * (4096 - 7) + b"\r\n\r\n", b"", [field(b"X: " + b"y" * (4096 - 7))], False),
    (
        "F30",
        b"0\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nHost: a\r\nAuthorization: b\r\nCookie: c\r\n"
        b"Set-Cookie: d\r\nX-Forwarded-For: e\r\nForwarded: f\r\nContent-Type: g\r\nTrailer: h\r\nConnection: i\r\n"
        b"X-Request-ID: j\r\nVia: k\r\ngrpc-status: 0\r\n\r\n",
        b"",
        [field(b"grpc-status: 0")],
        False,
    ),
]


def every_way(data: bytes) -> tuple[Any, ...]:
    whole = read_chunks([data])
    bytewise = read_chunks([bytes((byte,)) for byte in data])
    assert bytewise == whole
    for seed in range(4):
        places = [0, *cuts(len(data), seed), len(data)]
        pieces = [data[start:end] for start, end in pairwise(places)]
        assert read_chunks(pieces) == whole
    return whole


@pytest.mark.parametrize(
    ("row", "rule", "data"), REFUSED, ids=[f"{row}-{number}" for number, (row, *_) in enumerate(REFUSED)]
)
def test_what_the_tables_refuse_is_refused_at_every_split(row: str, rule: str, data: bytes) -> None:
    assert every_way(data) == ("refused", rule)


@pytest.mark.parametrize(
    ("row", "data", "payload", "trailers", "verbatim"),
    ACCEPTED,
    ids=[f"{row}-{number}" for number, (row, *_) in enumerate(ACCEPTED)],
)
def test_what_the_tables_accept_is_the_same_at_every_split(
    row: str, data: bytes, payload: bytes, trailers: list[Field], verbatim: bool
) -> None:
    assert every_way(data) == ("done", payload, trailers, b"")
    assert read_chunks([data + b"GET / HTTP/1.1"]) == ("done", payload, trailers, b"GET / HTTP/1.1")
    for end in steps(len(data)):
        assert read_chunks([data[:end]])[0] == "more"
    reader = ChunkReader()
    reader.read(memoryview(data))
    assert reader.verbatim == verbatim


def test_after_the_end_nothing_is_read() -> None:
    reader = ChunkReader()
    assert reader.read(DONE + b"5\r\nhello\r\n") == len(DONE)
    assert reader.read(b"5\r\nhello\r\n") == 0
    assert (reader.pieces, reader.verbatim, reader.done) == ([], False, True)


def test_whole_chunks_go_on_as_they_are_and_the_beginning_of_the_next_waits() -> None:
    reader = ChunkReader()
    assert reader.read(b"5\r\nhello\r\n6\r\nwor") == 10
    assert (reader.pieces, reader.verbatim) == ([(3, 8)], True)
    assert reader.read(b"6\r\nworld!\r\n") == 11
    assert (reader.pieces, reader.verbatim, reader.payload) == ([(3, 9)], True, 11)


def test_a_chunk_that_comes_in_parts_is_not_waited_for() -> None:
    reader = ChunkReader()
    assert reader.read(b"6\r\nwor") == 6
    assert (reader.pieces, reader.verbatim) == ([(3, 6)], False)
    assert reader.read(b"ld!\r\n5\r\nhello\r\n") == 15
    assert (reader.pieces, reader.verbatim) == ([(0, 3), (8, 13)], False)
    assert reader.read(b"5\r\nhello\r\n") == 10
    assert reader.verbatim


def test_a_large_beginning_behind_whole_chunks_is_not_waited_for() -> None:
    reader = ChunkReader()
    data = b"5\r\nhello\r\nffff\r\n" + b"x" * HELD
    assert reader.read(data) == len(data)
    assert (reader.pieces, reader.verbatim) == ([(3, 8), (16, 16 + HELD)], False)


def test_a_line_that_is_not_complete_is_never_consumed() -> None:
    for rest in (b"5", b"5\r", b"5;a", b"5;a\r", b"0\r\n", b"0\r\nX: y\r\n", b"0\r\nX: y\r\n\r", b"5\r\n"):
        reader = ChunkReader()
        assert reader.read(rest) == 0
        assert (reader.pieces, reader.verbatim, reader.done) == ([], False, False)
        assert reader.read(b"1\r\nx\r\n" + rest) == 6


def test_our_own_chunks_are_canonical() -> None:
    assert chunk(26) == b"1a\r\n"
    assert last_with([]) == LAST == DONE
    assert last_with([field(b"X:y")]) == b"0\r\nX: y\r\n\r\n"


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=12), st.integers(0, 2**32), st.booleans())
def test_any_payload_in_any_chunks_at_any_splits_comes_out_as_it_was(
    payloads: list[bytes], seed: int, trailing: bool
) -> None:
    chance = random.Random(seed)
    body = b""
    for payload in payloads:
        size = b"%x" % len(payload)
        form = chance.randrange(4)
        size = size.upper() if form == 1 else size.rjust(4, b"0") if form == 2 else size + b";a" if form == 3 else size
        body += size + b"\r\n" + payload + b"\r\n"
    body += b"0\r\nX: y\r\n\r\n" if trailing else DONE
    places = [0, *sorted(chance.randrange(len(body) + 1) for _ in range(chance.randrange(8))), len(body)]
    parts = [body[start:end] for start, end in pairwise(places)]
    trailers = [field(b"X: y")] if trailing else []
    assert read_chunks(parts) == ("done", b"".join(payloads), trailers, b"")
