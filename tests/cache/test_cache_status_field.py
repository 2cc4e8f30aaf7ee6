"""Cache-Status: one line, in the grammar of RFC 9211."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.status_field import forwarded, hit
from lbproxy.cache.targeted import read_dictionary
from tests.cache.rule_heads import answer


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (hit(57), b"lbproxy; hit; ttl=57"),
        (hit(-3), b"lbproxy; hit; ttl=-3"),
        (hit(-3, "updating"), b'lbproxy; hit; ttl=-3; detail="updating"'),
        (forwarded("uri-miss", stored=True), b"lbproxy; fwd=uri-miss; stored"),
        (forwarded("vary-miss"), b"lbproxy; fwd=vary-miss"),
        (forwarded("stale", status=304), b"lbproxy; fwd=stale; fwd-status=304"),
        (forwarded("bypass", detail="Range"), b'lbproxy; fwd=bypass; detail="Range"'),
        (forwarded("method"), b"lbproxy; fwd=method"),
        (forwarded("uri-miss", collapsed=True), b"lbproxy; fwd=uri-miss; collapsed"),
        (
            forwarded("stale", status=503, stored=True, collapsed=True, ttl=-9, key=b'a"\\\n\xff', detail="\u00e4"),
            b'lbproxy; fwd=stale; fwd-status=503; ttl=-9; stored; collapsed; key="a\\"\\\\%0A%FF"; detail="%C3%A4"',
        ),
    ],
)
def test_the_line_says_what_was_done(line: bytes, value: bytes) -> None:
    assert line == b"Cache-Status: " + value + b"\r\n"


@given(st.none() | st.binary(max_size=20), st.text(max_size=20), st.booleans(), st.none() | st.integers(-9, 999))
def test_whatever_is_said_is_one_field_that_can_be_read(
    key: bytes | None, detail: str, flag: bool, number: int | None
) -> None:
    line = forwarded("miss", status=number, stored=flag, collapsed=not flag, ttl=number, key=key, detail=detail)
    (field,) = answer(line.decode("ascii").replace("\r\n", "")).fields
    # A list of one member with parameters is a dictionary of one key too.
    assert read_dictionary(field[1]) == {b"lbproxy": True}
