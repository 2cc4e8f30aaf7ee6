"""Variants: which requests say the same in the fields that Vary names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.vary import unseen, variant_of
from tests.cache.matching_heads import request

SOUP = st.lists(st.sampled_from([b"a", b"B", b",", b" ", b"\t", b'"', b";", b"q=1"]), max_size=8).map(b"".join)


def variant(names: tuple[bytes, ...], *lines: bytes, accept_encoding: bytes = b"") -> bytes:
    return variant_of(names, request(b"/", *lines), accept_encoding)


def same(name: bytes, one: tuple[bytes, ...], other: tuple[bytes, ...]) -> bool:
    names = (name,)
    alone = variant(names, *one) == variant(names, *other)
    # Beside another field it is the same.
    assert (variant((*names, b"z"), *one) == variant((*names, b"z"), *other)) is alone
    return alone


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (b"foo", (b"Foo: 1",), (b"foo: 1", b"Other: 2")),
        (b"foo", (), ()),
        (b"foo", (b"Foo: 1,2",), (b"Foo:  1, 2 ",)),
        (b"foo", (b"Foo: 1, 2",), (b"Foo: 1", b"Bar: 0", b"Foo: 2")),
        (b"foo", (b"Foo: 1\t ,\t2",), (b"Foo: 1,2",)),
        (b"accept-language", (b"Accept-Language: en, de;q=0.5",), (b"Accept-Language: eN,De; Q = 0.5",)),
        (b"accept-language", (b"Accept-Language: EN",), (b"Accept-Language: en",)),
        # Neither is sent on as it comes, so neither can matter.
        (b"te", (b"TE: trailers",), ()),
        (b"host", (), ()),
    ],
)
def test_values_that_mean_the_same_make_one_variant(
    name: bytes, one: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    assert same(name, one, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (b"foo", (b"Foo: 1",), (b"Foo: 2",)),
        (b"foo", (b"Foo: 1",), ()),
        (b"foo", (b"Foo:",), ()),
        (b"foo", (b"Foo: a",), (b"Foo: A",)),
        (b"foo", (b"Foo: 1, 2",), (b"Foo: 2, 1",)),
        (b"foo", (b"Foo: a b",), (b"Foo: ab",)),
        (b"foo", (b'Foo: "a, b"',), (b'Foo: "a,b"',)),
        (b"foo", (b'Foo: "a\\", b"',), (b'Foo: "a\\",b"',)),
        (b"cookie", (b"Cookie: a=1, 2",), (b"Cookie: a=1,2",)),
        (b"user-agent", (b"User-Agent: x (a, b)",), (b"User-Agent: x (a,b)",)),
        (b"accept-language", (b"Accept-Language: en, de",), (b"Accept-Language: de, en",)),
    ],
)
def test_values_that_differ_make_two_variants(name: bytes, one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    assert not same(name, one, other)


def test_accept_encoding_is_what_it_was_normalised_to() -> None:
    names = (b"accept-encoding",)
    assert variant(names, b"Accept-Encoding: GZIP;q=0.123, x-odd", accept_encoding=b"gzip") == b"gzip"
    assert variant(names, accept_encoding=b"gzip") == b"gzip"
    both = (b"accept-encoding", b"foo")
    assert variant(both, b"Accept-Encoding: a", b"Foo: 1", accept_encoding=b"br") == variant(
        both, b"Accept-Encoding: b", b"Foo: 1", accept_encoding=b"br"
    )


def test_without_names_there_is_one_variant() -> None:
    assert variant(()) == variant((), b"Foo: 1", accept_encoding=b"gzip") == b""


@given(st.lists(SOUP, max_size=2), st.lists(SOUP, max_size=2), st.lists(SOUP, max_size=2), st.lists(SOUP, max_size=2))
def test_fields_are_never_mistaken_for_each_other(
    foo: list[bytes], bar: list[bytes], other_foo: list[bytes], other_bar: list[bytes]
) -> None:
    def lines(name: bytes, values: list[bytes]) -> list[bytes]:
        return [b"%b: %b" % (name, value) for value in values]

    one = [*lines(b"Foo", foo), *lines(b"Bar", bar)]
    other = [*lines(b"Bar", other_bar), *lines(b"Foo", other_foo)]
    separately = all(variant((name,), *one) == variant((name,), *other) for name in (b"foo", b"bar"))
    assert (variant((b"bar", b"foo"), *one) == variant((b"bar", b"foo"), *other)) is separately


@given(SOUP, SOUP)
def test_only_blanks_around_commas_are_overlooked_in_a_field_that_nobody_knows(one: bytes, other: bytes) -> None:
    def meant(value: bytes) -> list[bytes]:
        value = value.strip(b" \t")
        return [value] if b'"' in value else [part.strip(b" \t") for part in value.split(b",")]

    assert same(b"foo", (b"Foo: " + one,), (b"Foo: " + other,)) is (meant(one) == meant(other))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((b"accept-encoding", b"cookie"), False),
        ((b"x-forwarded-proto",), False),
        ((b"cookie", b"x-forwarded-for"), True),
        ((b"forwarded",), True),
        ((b"x-real-ip",), True),
        ((b"client-cert",), True),
        ((), False),
    ],
)
def test_what_we_write_ourselves_tells_no_variants_apart(names: tuple[bytes, ...], expected: bool) -> None:
    assert unseen(names) is expected
