"""The field Forwarded: read with tolerance, written strictly (X4)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.forwarded import Hop, forwarded, hops


@pytest.mark.parametrize(
    ("line", "hop"),
    [
        (b"for=192.0.2.1", ("192.0.2.1", None, None)),
        (b"For=192.0.2.1", ("192.0.2.1", None, None)),
        (b'for="192.0.2.1"', ("192.0.2.1", None, None)),
        (b'for="192.0.2.1:8080"', ("192.0.2.1", None, None)),
        (b'for="192.0.2.1:_x"', ("192.0.2.1", None, None)),
        (b'for="[::1]:80"', ("::1", None, None)),
        (b'for="[::1]:_a.b-c_"', ("::1", None, None)),
        (b'for="\\[::1\\]"', ("::1", None, None)),
        (b'for="[::ffff:192.0.2.1]"', ("192.0.2.1", None, None)),
        # Not quoted as they should be, but not to be mistaken.
        (b"for=[2001:DB8::1]:80", ("2001:db8::1", None, None)),
        (b"for=2001:db8::1", ("2001:db8::1", None, None)),
        (b"for=192.0.2.1:80", ("192.0.2.1", None, None)),
        (b"for=192.0.2.1;", ("192.0.2.1", None, None)),
        (b" \tfor=192.0.2.1 ; proto=HTTPS\t;host=a.example ", ("192.0.2.1", b"https", b"a.example")),
        (b'by=_us;proto="http";host="A.example:80";for=192.0.2.1;secret=1', ("192.0.2.1", b"http", b"a.example:80")),
        (b'for=192.0.2.1;proto=ftp;host="a b"', ("192.0.2.1", None, None)),
        (b'for=192.0.2.1;x="a, for=6.6.6.6;\\"y\\\\"', ("192.0.2.1", None, None)),
        (b"for=unknown", None),
        (b"for=_hidden", None),
        (b'for="_hidden:80"', None),
        (b"for=", None),
        (b'for=""', None),
        (b"proto=https", None),
        (b"for=192.0.2.1;for=192.0.2.2", None),
        (b'for="[fe80::1%25eth0]"', None),
        (b"for=192.0.2.1;proto=http;proto=https", None),
    ],
)
def test_an_element_tells_an_address_or_none(line: bytes, hop: Hop | None) -> None:
    assert list(hops([line])) == [hop]
    behind = ("198.51.100.7", None, None)
    assert list(hops([line + b", for=198.51.100.7"])) == [behind, hop]
    assert list(hops([line, b"for=198.51.100.7"])) == [behind, hop]


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b",", b"192.0.2.1", b"for", b"=192.0.2.1", b"for =192.0.2.1", b"for= 192.0.2.1 x", b'for="192.0.2.1',
        b'for=192.0.2.1"', b'for=1"92.0.2.1"', b'for="192.0.2.1"x', b'for="192.0.2.1\\"', b";;", b"for=192.0.2.1;;",
        b";for=192.0.2.1", b"for=192.0.2.1 proto=http", b"for=192.0.2.1\\", b"for=\xff", b"f\xffr=192.0.2.1",
        b"for==192.0.2.1",
    ],
)  # fmt: skip
def test_what_cannot_be_read_ends_the_reading(line: bytes) -> None:
    behind = ("198.51.100.7", None, None)
    for lines in (
        [b"for=192.0.2.9," + line],
        [b"for=192.0.2.9", line],
        [b"for=192.0.2.9," + line + b",for=198.51.100.7"],
    ):
        found = list(hops(lines))
        assert found == [behind] * (len(found) and lines[0].endswith(b"7"))


TOKENS = st.sampled_from([b"192.0.2.1", b"_x", b"unknown", b"http", b"a.example", b""])
# All that could be taken for structure.
QUOTED = st.lists(
    st.sampled_from([b",", b";", b"=", b"for=", b" ", b'\\"', b"\\\\", b"\\,", b"192.0.2.66", b"a", b"host=", b"\xff"]),
    max_size=8,
).map(b"".join)
PAIRS = st.tuples(
    st.sampled_from([b"for", b"by", b"host", b"x"]), st.one_of(TOKENS, QUOTED.map(lambda text: b'"%b"' % text))
).map(b"=".join)
ELEMENTS = st.lists(st.lists(PAIRS, min_size=1, max_size=4).map(b";".join), min_size=1, max_size=5)


@given(ELEMENTS, st.sampled_from([b",", b", ", b" ,\t"]))
@settings(max_examples=300, deadline=None)
def test_reading_from_the_end_finds_the_elements_that_were_written(elements: list[bytes], comma: bytes) -> None:
    alone = [next(hops([element])) for element in reversed(elements)]
    assert list(hops([comma.join(elements)])) == alone
    assert list(hops(elements)) == alone


NODES = st.sampled_from(["192.0.2.1", "2001:db8::1", "::1"])
HOPS = st.tuples(
    NODES, st.sampled_from([None, b"http", b"https"]), st.sampled_from([None, b"a.example", b"[::1]:8443", b"a:1"])
)


@given(st.lists(HOPS, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_again(elements: list[Hop]) -> None:
    assert list(hops([forwarded(elements)])) == elements[::-1]


def test_what_is_written_is_strict() -> None:
    assert forwarded([("2001:db8::1", b"https", b"a.example")]) == b'for="[2001:db8::1]";proto=https;host="a.example"'
    assert forwarded([("192.0.2.1", None, None), ("", b"http", b"[::1]:80")]) == (
        b'for=192.0.2.1, for=unknown;proto=http;host="[::1]:80"'
    )
    assert forwarded([("fe80::1%eth0", None, b'a"b\\')]) == b'for="[fe80::1]";host="a\\"b\\\\"'


@pytest.mark.parametrize(
    "piece", [b'"', b"\\", b'"\\', b"a=", b'a="', b"a=;", b" ", b"\t;", b'a="",', b",", b"[", b'a="\\",']
)
def test_no_text_keeps_the_reader_busy(piece: bytes) -> None:
    line = (piece * 4096)[:4000]
    if line.count(b",") > 30:
        line = line.replace(b",", b"a", line.count(b",") - 30)
    spent = time.process_time()
    list(hops([line + b"!,for=192.0.2.1"]))
    list(hops([b"!" + line]))
    assert time.process_time() - spent < 0.05
