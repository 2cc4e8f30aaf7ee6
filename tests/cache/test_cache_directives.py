"""Cache-Control, CDN-Cache-Control and Pragma: what is written is read, and what is written wrong is read strictly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.directives import (
    FOREVER,
    MOST_SECONDS,
    NOTHING,
    Directives,
    read_directives,
    read_seconds,
    request_directives,
    response_directives,
)
from lbproxy.cache.targeted import read_dictionary
from tests.cache.rule_heads import answer, request
from tests.http.test_http_linear import least

PLAIN: list[tuple[list[bytes], dict[str, Any]]] = [
    ([], {}),
    ([b""], {}),
    ([b", ,\t,"], {}),
    ([b"no-store"], {"no_store": True}),
    ([b"No-StOrE"], {"no_store": True}),
    ([b" \tno-store\t , public"], {"no_store": True, "public": True}),
    ([b"no-store", b"private"], {"no_store": True, "private": True}),
    (
        [b"must-revalidate,proxy-revalidate,must-understand,no-transform,immutable,only-if-cached"],
        {
            "must_revalidate": True,
            "proxy_revalidate": True,
            "must_understand": True,
            "no_transform": True,
            "immutable": True,
            "only_if_cached": True,
        },
    ),
    ([b"max-age=3600, s-maxage=60"], {"max_age": 3600.0, "s_maxage": 60.0}),
    ([b'MaX-aGe="3600"'], {"max_age": 3600.0}),
    ([b'max-age="3\\600"'], {"max_age": 3600.0}),
    ([b"max-age=003600"], {"max_age": 3600.0}),
    ([b"max-age=2147483648"], {"max_age": MOST_SECONDS}),
    ([b"max-age=99999999999"], {"max_age": MOST_SECONDS}),
    ([b"max-age=" + b"9" * 5000], {"max_age": MOST_SECONDS}),
    (
        [b"stale-while-revalidate=30, stale-if-error=60, min-fresh=5, max-stale=6"],
        {"stale_while_revalidate": 30.0, "stale_if_error": 60.0, "min_fresh": 5.0, "max_stale": 6.0},
    ),
    ([b"max-stale"], {"max_stale": FOREVER}),
    ([b"no-cache"], {"no_cache": True}),
    ([b'no-cache="Set-Cookie"'], {"no_cache_fields": frozenset((b"set-cookie",))}),
    ([b'no-cache="a, B", no-cache=c'], {"no_cache_fields": frozenset((b"a", b"b", b"c"))}),
    ([b'private="a,b"'], {"private_fields": frozenset((b"a", b"b"))}),
    ([b'private="a", private'], {"private": True, "private_fields": frozenset((b"a",))}),
    # What is unknown is passed over, with all that is quoted in it.
    ([b'extension="max-age=3600", max-age=1'], {"max_age": 1.0}),
    ([b'max-age=1, extension="no-store, private"'], {"max_age": 1.0}),
    ([b'e="a\\", no-store", public'], {"public": True}),
]

STRICT: list[tuple[bytes, dict[str, Any]]] = [
    # Of several the first counts (RFC 9111, 4.2.1).
    (b"max-age=1800, max-age=1", {"max_age": 1800.0}),
    (b"max-age=1, max-age=1800", {"max_age": 1.0}),
    (b"max-age=a, max-age=1800", {"max_age": 0.0}),
    # A number that is none is 0.
    (b"max-age", {"max_age": 0.0}),
    (b"max-age=", {"max_age": 0.0}),
    (b"max-age=-1", {"max_age": 0.0}),
    (b"max-age=+1", {"max_age": 0.0}),
    (b"max-age=1_0", {"max_age": 0.0}),
    (b"max-age=3600.0", {"max_age": 0.0}),
    (b"max-age=a100", {"max_age": 0.0}),
    (b"max-age=100a", {"max_age": 0.0}),
    (b"max-age='3600'", {"max_age": 0.0}),
    (b"max-age =3600", {"max_age": 0.0}),
    (b"max-age= 3600", {"max_age": 0.0}),
    (b'max-age="3600', {"max_age": 0.0}),
    (b'max-age="36\x0b00"', {"max_age": 0.0}),
    (b"stale-if-error=x", {"stale_if_error": 0.0}),
    # A list of names that is none is the whole answer.
    (b'no-cache=""', {"no_cache": True}),
    (b"private=", {"private": True}),
    (b'private="a b"', {"private": True}),
    (b'private="set-cookie', {"private": True}),
    # What restricts needs no argument, what permits has none.
    (b"no-store=1", {"no_store": True}),
    (b"must-revalidate=no", {"must_revalidate": True}),
    (b"public=1, immutable=1, must-understand=1", {}),
    # A quote that does not end hides nothing.
    (b'e="a, no-store', {"no_store": True}),
    (b'e="a, public, max-age=60', {"max_age": 0.0}),
    (b'no-cache=",max-age=1,no-store"a"', {"max_age": 0.0, "no_cache": True, "no_store": True}),
    (b'e="a\\', {}),
    (b'e="a\\, private', {"private": True}),
    # Where a comma is missing no restriction is lost, and nothing is permitted.
    (b"no-store private", {"no_store": True, "private": True}),
    (b"public no-cache=a", {"no_cache": True}),
    (b"max-age=60 no-store", {"max_age": 0.0, "no_store": True}),
    (b"max-age=60;no-store", {"max_age": 0.0, "no_store": True}),
    (b'private="a"b', {"private": True}),
    (b'e="a" no-store', {"no_store": True}),
]


@pytest.mark.parametrize(("values", "said"), PLAIN)
def test_directives_are_read(values: list[bytes], said: dict[str, Any]) -> None:
    assert read_directives(values) == Directives(**said)


@pytest.mark.parametrize(("value", "said"), STRICT)
def test_what_is_malformed_allows_less(value: bytes, said: dict[str, Any]) -> None:
    assert read_directives([value]) == Directives(**said)


@given(st.lists(st.sampled_from([row[0][0] for row in PLAIN if row[0]] + [row[0] for row in STRICT[5:20]]), max_size=4))
def test_lines_are_one_list(values: list[bytes]) -> None:
    if any(value.count(b'"') % 2 for value in values):
        return  # What a quote without an end takes with it ends with its line.
    assert read_directives(values) == read_directives([b",".join(values)])


@given(st.binary(max_size=40))
def test_any_bytes_can_be_read_and_hide_no_directive_before_them(junk: bytes) -> None:
    read = read_directives([b"no-store," + junk, b"private"])
    assert read.no_store
    assert read.private


@pytest.mark.parametrize("junk", [b'"\\', b'a="', b'"', b"\\", b'"",', b"=", b'"a"', b"a=b,", b"a ", b'\\"'])
def test_four_times_the_bytes_are_about_four_times_the_work(junk: bytes) -> None:
    def read(data: bytes) -> object:
        return read_directives([data]), read_dictionary(data)

    once = least(read, junk * 10_000)
    # Quadratic would be sixteen times.
    assert least(read, junk * 40_000) < 9 * once + 0.001


@pytest.mark.parametrize(("value", "seconds"), [(b"0", 0.0), (b"0000000000000007", 7.0), (b"4294967296", MOST_SECONDS)])
def test_seconds_are_digits(value: bytes, seconds: float) -> None:
    assert read_seconds(value) == seconds


@pytest.mark.parametrize("value", [b"", b" 1", b"1 ", b"-1", b"1.5", b"0x1", b"1\n", "\u0661".encode()])
def test_nothing_else_is_seconds(value: bytes) -> None:
    assert read_seconds(value) is None


TARGETED: list[tuple[str, dict[str, Any]]] = [
    ("max-age=3600", {"max_age": 3600.0}),
    ("max-age=99999999999", {"max_age": MOST_SECONDS}),
    ("max-age=-1", {"max_age": 0.0}),
    ("max-age=60;why=us , foobar", {"max_age": 60.0}),
    ("max-age=1, max-age=2", {"max_age": 2.0}),
    ("no-store", {"no_store": True}),
    ("no-store=?0, private=?1", {"private": True}),
    ("no-cache", {"no_cache": True}),
    ('no-cache="a, B", private=c', {"no_cache_fields": frozenset((b"a", b"b")), "private_fields": frozenset((b"c",))}),
    ("foo", {}),
    ('foo=(a "b" 1.5;q);p, bar=:YQ==:, baz=1.25, *=@12, date=%"%c3%a4", s-maxage=5', {"s_maxage": 5.0}),
]
UNTARGETED = [
    "",
    " ",
    "max-age=10000, &&&&&",
    'max-age="10000"',
    "max-age=1.0",
    "max-age",
    "max-age=abc",
    "max-age =100",
    "max-age= 100",
    "MaX-aGe=3600",
    "no-store=1",
    "private=(a b)",
    "private=3",
    "max-age=1,",
    "max-age=1;",
    "max-age=1 no-store",
    "max-age=1234567890123456",
    'foo="a',
    'foo="\\a"',
    "foo=(a",
    "foo=(a,b)",
    "foo=?2",
]


@pytest.mark.parametrize(("value", "said"), TARGETED)
def test_the_targeted_field_overrules_cache_control(value: str, said: dict[str, Any]) -> None:
    head = answer(f"Cache-Control: no-store, max-age=7\nCDN-Cache-Control: {value}")
    assert response_directives(head, targeted=True) == Directives(**said, targeted=True)
    assert response_directives(head, targeted=False) == Directives(no_store=True, max_age=7.0)


@pytest.mark.parametrize("value", UNTARGETED)
def test_a_targeted_field_that_is_wrong_or_empty_is_not_there(value: str) -> None:
    head = answer(f"Cache-Control: no-store, max-age=7\nCDN-Cache-Control: {value}")
    assert response_directives(head, targeted=True) == Directives(no_store=True, max_age=7.0)


def test_lines_of_the_targeted_field_are_one_dictionary() -> None:
    head = answer("CDN-Cache-Control: max-age=7\nCDN-Cache-Control: public")
    assert response_directives(head, targeted=True) == Directives(max_age=7.0, public=True, targeted=True)
    assert response_directives(answer("CDN-Cache-Control: max-age=7\nCDN-Cache-Control: ;"), targeted=True) == NOTHING


@given(st.binary(max_size=30))
def test_any_bytes_are_a_dictionary_or_none(value: bytes) -> None:
    members = read_dictionary(value)
    assert members is None or all(key and key == key.lower() for key in members)


def test_a_request_says_it_in_cache_control() -> None:
    said = request_directives(request("Cache-Control: max-age=0\nCache-Control: no-store\nPragma: no-cache"))
    assert said == Directives(max_age=0.0, no_store=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("Pragma: no-cache", Directives(no_cache=True)),
        ("Pragma: x, No-Cache", Directives(no_cache=True)),
        ("Pragma: unrecognised", NOTHING),
        ("", NOTHING),
    ],
)
def test_pragma_counts_where_there_is_no_cache_control(fields: str, said: Directives) -> None:
    assert request_directives(request(fields)) == said
