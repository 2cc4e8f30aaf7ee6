"""Ids of requests and traces, and our own name in Via."""

from __future__ import annotations

import os
import re

import pytest

from lbproxy.http.identity import RequestIds, acceptable, mint_traceparent, names_us, valid_traceparent, via_name

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"


def test_an_id_is_fresh_randomness_in_hexadecimal() -> None:
    asked: list[int] = []
    given: list[bytes] = []

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        given.append(os.urandom(size))
        return given[-1]

    ids = RequestIds(random_bytes)
    assert asked == []
    made = [ids.new() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(rb"[0-9a-f]{32}", one) for one in made)
    # Nothing is used twice, and randomness comes in blocks.
    assert sum(asked) < 2 * 16 * 1000
    assert len(asked) <= 4
    digits = b"".join(given).hex().encode()
    assert {digits[at : at + 32] for at in range(0, len(digits), 32)} >= set(made)


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        (b"a", True),
        (b"A-Z.a_z-09", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"", False),
        (b"a b", False),
        (b"a\n", False),
        (b"a,b", False),
        (b"\xc3\xa9", False),
        (b'"', False),
    ],
)
def test_an_id_from_outside_is_plain_text(value: bytes, fine: bool) -> None:
    assert acceptable(value) is fine


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"00-%b-%b-01" % (TRACE, SPAN), True),
        (b"00-%b-%b-00" % (TRACE, SPAN), True),
        (b"00-%b-%b-ff" % (TRACE, SPAN), True),
        (b"01-%b-%b-01" % (TRACE, SPAN), True),
        (b"fe-%b-%b-01-what.the-future,brings" % (TRACE, SPAN), True),
        (b"fe-%b-%b-01-a b" % (TRACE, SPAN), False),
        (b"01-%b-%b-01-more" % (TRACE, SPAN), True),
        (b"01-%b-%b-01-" % (TRACE, SPAN), True),
        (b"01-%b-%b-01more" % (TRACE, SPAN), False),
        (b"00-%b-%b-01-more" % (TRACE, SPAN), False),
        (b"00-%b-%b-01-" % (TRACE, SPAN), False),
        (b"ff-%b-%b-01" % (TRACE, SPAN), False),
        (b"00-%b-%b-01" % (b"0" * 32, SPAN), False),
        (b"00-%b-%b-01" % (TRACE, b"0" * 16), False),
        (b"00-%b-%b-01" % (TRACE.upper(), SPAN), False),
        (b"0-%b-%b-01" % (TRACE, SPAN), False),
        (b"00-%b-%b-1" % (TRACE, SPAN), False),
        (b"00-%b-%b-01" % (TRACE[1:], SPAN), False),
        (b"00-%b-%b" % (TRACE, SPAN), False),
        (b"00-%b-%b-01\n" % (TRACE, SPAN), False),
        (b" 00-%b-%b-01" % (TRACE, SPAN), False),
        (b"00-%b-%b-01,00-%b-%b-01" % (TRACE, SPAN, TRACE, SPAN), False),
        (b"", False),
    ],
)
def test_a_trace_is_what_the_standard_says(value: bytes, valid: bool) -> None:
    assert valid_traceparent(value) is valid


def test_a_minted_trace_is_valid_sampled_and_new() -> None:
    ids = RequestIds(os.urandom)
    first, second = mint_traceparent(ids), mint_traceparent(ids)
    assert valid_traceparent(first)
    assert first.endswith(b"-01")
    assert not set(first.split(b"-")[1:3]) & set(second.split(b"-")[1:3])


NAME = via_name(b"0123456789abcdef")


def test_our_name_has_eight_digits_of_the_instance() -> None:
    assert NAME == b"lbproxy-01234567"
    for bad in (b"", b"0123456", b"0123456X", b"ABCDEF01", b"0123 567"):
        with pytest.raises(ValueError, match="8 hexadecimal digits"):
            via_name(bad)


@pytest.mark.parametrize(
    ("via", "ours"),
    [
        (b"", False),
        (b"1.1 " + NAME, True),
        (b"1.0 fred, 1.1 " + NAME, True),
        (b"1.1 " + NAME + b", 1.1 other", True),
        (b"HTTP/1.1 " + NAME, True),
        (b"2 \t" + NAME + b" (lbproxy, edge)", True),
        (b"1.1 a,1.1 " + NAME + b"\t,1.1 b", True),
        (b"1.1 lbproxy-01234568", False),
        (b"1.1 " + NAME + b"9", False),
        (b"1.1 x" + NAME, False),
        (b"1.1 " + NAME + b".example:80", False),
        (b"1.1 fred (not " + NAME + b")", False),
        (b"1.1 fred (a, 1.1 b " + NAME + b")", False),
        (NAME + b" fred", False),
        (NAME, False),
    ],
)
def test_a_loop_is_our_name_as_a_recipient(via: bytes, ours: bool) -> None:
    assert names_us(via, NAME) is ours
