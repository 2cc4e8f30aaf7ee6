"""Which coding a client gets for its Accept-Encoding."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.compress.negotiation import BR, GZIP, IDENTITY_REFUSED, ZSTD, accepted, canonical, choose
from tests.compress.compress_rig import CODINGS

ALL = ZSTD | BR | GZIP
# Much of what is special about the field, little of the rest.
SOUP = st.lists(
    st.sampled_from(
        [
            b"gzip",
            b"br",
            b"zstd",
            b"identity",
            b"*",
            b",",
            b";",
            b"q",
            b"=",
            b"0",
            b"1",
            b".",
            b" ",
            b"\t",
            b"\xff",
            b"5",
        ]
    )
).map(b"".join)


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        # The vectors of the semantics.
        (None, b""),
        (b"gzip, br", b"br"),
        (b"gzip, br;q=0.5", b"gzip"),
        (b"*;q=0.1", b"zstd"),
        (b"gzip;q=0", b""),
        (b"identity;q=0, gzip", b"gzip"),
        # What browsers and programs write.
        (b"gzip, deflate", b"gzip"),
        (b"gzip, deflate, br", b"br"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip;q=1.0,deflate;q=0.6,identity;q=0.3", b"gzip"),
        (b"compress, gzip", b"gzip"),
        (b"deflate", b""),
        (b"identity", b""),
        (b"", b""),
        # Names are told apart by neither case nor age.
        (b"GZip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"X-GZIP;Q=0.5, br;q=0.4", b"gzip"),
        (b"gzipx, xbr", b""),
        # The wildcard stands for what is not named.
        (b"*", b"zstd"),
        (b"zstd;q=0, *", b"br"),
        (b"gzip;q=0.5, *;q=0", b"gzip"),
        (b"gzip, *;q=0", b"gzip"),
        (b"br;q=0.2, *;q=0.1", b"br"),
        (b"*;q=0", b""),
        # Plain bodies win where they are written to be better, and only there.
        (b"identity, gzip;q=0.5", b""),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"identity;q=0.5, *;q=0.1", b""),
        (b"identity;q=0, *;q=0", b""),
        # Qualities.
        (b"gzip;q=0.001, br;q=0.002", b"br"),
        (b"gzip;q=1.000, br;q=0.999", b"gzip"),
        (b"gzip;q=0.000", b""),
        (b"gzip ; q = 0.5 , br;q=0.4", b"gzip"),
        (b"gzip;level=3;q=0, br;q=0.1", b"br"),
        (b"gzip;q=, br;q=0.1", b"br"),
        (b"gzip;q=1_0, br;q=0.1", b"br"),
        (b"gzip;q=nan, br;q=0.1", b"br"),
        (b"gzip;q=-1, br;q=0.1", b"br"),
        (b"gzip;q=+1, br;q=0.1", b"br"),
        (b"gzip;q=2, br;q=0.1", b"br"),
        (b"gzip;q=.9, br;q=0.1", b"br"),
        (b"gzip;q=0, gzip", b""),
        # Other blanks than these two are no blanks.
        (b"\tgzip\t", b"gzip"),
        (b"\x0bgzip", b""),
        (b",, ,gzip,", b"gzip"),
    ],
)
def test_the_coding_is_the_best_that_the_client_accepts(value: bytes | None, coding: bytes) -> None:
    assert choose(value, CODINGS) == coding


@pytest.mark.parametrize(
    ("order", "coding"),
    [((b"gzip", b"br", b"zstd"), b"gzip"), ((b"br",), b"br"), ((b"br", b"gzip"), b"br"), ((), b"")],
)
def test_our_order_decides_between_equals(order: tuple[bytes, ...], coding: bytes) -> None:
    assert choose(b"zstd, gzip, br", order) == coding


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (None, 0),
        (b"", 0),
        (b"gzip, br", GZIP | BR),
        (b"*;q=0.1", ALL),
        (b"gzip;q=0, *", ZSTD | BR),
        (b"gzip;q=0", 0),
        (b"x-gzip", GZIP),
        (b"identity;q=0, gzip", GZIP | IDENTITY_REFUSED),
        (b"gzip, *;q=0", GZIP | IDENTITY_REFUSED),
        (b"identity;q=0.1, *;q=0", 0),
        (b"identity;q=0", IDENTITY_REFUSED),
        (b"*;q=0", IDENTITY_REFUSED),
        (b"identity;q=0, *", ALL | IDENTITY_REFUSED),
    ],
)
def test_what_is_accepted_and_whether_plain_bodies_are_refused(value: bytes | None, bits: int) -> None:
    assert accepted(value) == bits


def test_the_canonical_field_is_one_of_eight() -> None:
    assert [canonical(bits) for bits in range(8)] == [
        b"",
        b"zstd",
        b"br",
        b"zstd, br",
        b"gzip",
        b"zstd, gzip",
        b"br, gzip",
        b"zstd, br, gzip",
    ]
    assert [canonical(bits | IDENTITY_REFUSED) for bits in range(8)] == [canonical(bits) for bits in range(8)]


@pytest.mark.parametrize("bits", range(8))
def test_the_canonical_field_accepts_the_same(bits: int) -> None:
    assert accepted(canonical(bits)) == bits


def test_a_field_that_is_too_long_is_read_up_to_its_last_whole_member() -> None:
    # Cut after 1024 bytes, the last member would have lost its refusal.
    value = b"br;q=0.1," + b"x" * (1024 - 9 - len(b",gzip")) + b",gzip;q=0"
    assert choose(value, CODINGS) == b"br"
    assert accepted(value) == BR


def test_members_beyond_the_bound_are_not_read() -> None:
    assert choose(b"a," * 31 + b"gzip", CODINGS) == b"gzip"
    assert choose(b"a," * 32 + b"gzip", CODINGS) == b""


@settings(max_examples=300, deadline=None)
@given(value=SOUP)
def test_whatever_is_in_the_field_what_is_chosen_is_accepted(value: bytes) -> None:
    coding = choose(value, CODINGS)
    bits = {b"": ALL, b"zstd": ZSTD, b"br": BR, b"gzip": GZIP}[coding]
    assert coding == b"" or accepted(value) & bits
    if not accepted(value) & ALL:
        assert coding == b""


@settings(deadline=None)
@given(
    qualities=st.dictionaries(
        st.sampled_from([b"zstd", b"br", b"gzip", b"identity", b"deflate"]), st.integers(0, 1000), min_size=1
    ),
    chance=st.randoms(use_true_random=False),
)
def test_neither_order_nor_case_nor_blanks_matter(qualities: dict[bytes, int], chance: random.Random) -> None:
    names = sorted(qualities)
    plain = b",".join(b"%b;q=%.3f" % (name, qualities[name] / 1000) for name in names)
    chance.shuffle(names)
    odd = b" , ".join(b"%b ;\tQ=%.3f" % (name.upper(), qualities[name] / 1000) for name in names)
    assert choose(plain, CODINGS) == choose(odd, CODINGS)
    best = max((qualities.get(coding, 0) for coding in CODINGS), default=0)
    chosen = choose(plain, CODINGS)
    if best and best >= qualities.get(b"identity", 0):
        assert qualities[chosen] == best
    else:
        assert chosen == b""
