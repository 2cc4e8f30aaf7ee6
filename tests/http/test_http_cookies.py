"""Cookies: reading one by name, taking one out, writing one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.cookies import cookie_values, set_cookie, set_cookie_value, without_cookie
from lbproxy.model_http import SameSite

# Much of what is special about cookies, little of the rest.
SOUP = st.lists(st.sampled_from([b"lb", b"=", b";", b" ", b"\t", b",", b'"', b"a", b"$", b"\xff", b"\\"])).map(b"".join)


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (b"", []),
        (b"lb=1", [b"1"]),
        (b"a=0; lb=1; c=2", [b"1"]),
        (b"a=0;lb=1;c=2", [b"1"]),
        (b"lb=1; lb=2", [b"1", b"2"]),
        (b" \tlb \t= \t1 \t", [b"1"]),
        (b"lb=", [b""]),
        (b"lb=a=b", [b"a=b"]),
        (b'lb="1"', [b'"1"']),
        (b"lb", []),
        (b"; lb", []),
        (b"LB=1", []),
        (b"xlb=1; lbx=2; x=lb", []),
        # Odd neighbours, each of which ends what SimpleCookie reads.
        (b"a b=1; lb=2", [b"2"]),
        (b"[x]=1; {y}; lb=2; z", [b"2"]),
        (b"\xffodd\x80=1; lb=2", [b"2"]),
        (b'q="open; lb=2', [b"2"]),
        (b"=; ;; lb=2;", [b"2"]),
        (b"$Version=1; lb=2; $Path=/", [b"2"]),
        (b"\x0blb=1; lb\x0c=2", []),
    ],
)
def test_all_values_of_a_name_are_found_and_nothing_else(raw: bytes, values: list[bytes]) -> None:
    assert cookie_values(raw, b"lb") == values


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b"", b""),
        (b"lb=1", b""),
        (b" lb=1 ; ", b""),
        (b"lb=1;;\t;lb=2", b""),
        (b"lb=1; a=2", b"a=2"),
        (b"a=2; lb=1", b"a=2"),
        (b"a=1; lb=2; c=3", b"a=1; c=3"),
        (b"a=1;lb=2;c=3", b"a=1;c=3"),
        (b"lb=1; a=2; lb=3; c=4; lb=5", b"a=2; c=4"),
        (b"xlb=1; lbx; LB=2", b"xlb=1; lbx; LB=2"),
        (b" a=lb ;; ", b" a=lb ;; "),
        (b'a="x; lb=1; y"', b'a="x; y"'),
    ],
)
def test_a_cookie_is_taken_out_and_the_others_stay_as_they_are(raw: bytes, left: bytes) -> None:
    assert without_cookie(raw, b"lb") == left


@settings(max_examples=300)
@given(SOUP)
def test_what_is_left_does_not_hold_the_cookie_and_holds_every_other_one(raw: bytes) -> None:
    left = without_cookie(raw, b"lb")
    assert cookie_values(left, b"lb") == []
    assert without_cookie(left, b"lb") == left
    assert cookie_values(left, b"a") == cookie_values(raw, b"a")
    if not cookie_values(raw, b"lb"):
        assert left == raw


@settings(max_examples=200)
@given(st.binary(max_size=20), st.binary(max_size=20).filter(lambda value: b";" not in value))
def test_a_cookie_is_found_whatever_stands_before_it(before: bytes, value: bytes) -> None:
    assert cookie_values(before + b"; lb=" + value, b"lb")[-1] == value.strip(b" \t")


def test_many_cookies_are_read_in_linear_time() -> None:
    assert cookie_values(b"lb=1;" * 3000, b"lb") == [b"1"] * 3000
    assert without_cookie(b"lb=1;" * 3000, b"lb") == b""


@pytest.mark.parametrize(
    ("max_age", "same_site", "secure", "domain", "rest"),
    [
        (None, "lax", False, b"", b"; HttpOnly; SameSite=Lax"),
        (None, "lax", True, b"", b"; HttpOnly; Secure; SameSite=Lax"),
        (None, "strict", True, b"a.example", b"; Domain=a.example; HttpOnly; Secure; SameSite=Strict"),
        (3600.0, "none", True, b"", b"; Max-Age=3600; HttpOnly; Secure; SameSite=None"),
        (0.9, "none", False, b"", b"; Max-Age=0; HttpOnly"),
    ],
)
def test_a_cookie_is_written_with_its_attributes(
    max_age: float | None, same_site: SameSite, secure: bool, domain: bytes, rest: bytes
) -> None:
    line = set_cookie(b"lb", b"v", max_age=max_age, same_site=same_site, secure=secure, domain=domain)
    assert line == b"lb=v; Path=/" + rest
    assert set_cookie_value(line, b"lb") == b"v"


def test_path_and_scripts_access_can_be_chosen() -> None:
    line = set_cookie(b"n", b"", max_age=None, same_site="lax", secure=False, domain=b"", path=b"/app", http_only=False)
    assert line == b"n=; Path=/app; SameSite=Lax"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"sid=abc; Path=/; HttpOnly", b"abc"),
        (b"sid=abc", b"abc"),
        (b" sid = abc ;Path=/", b"abc"),
        (b"sid=; Max-Age=0", b""),
        (b'sid="a b"', b'"a b"'),
        (b"sid", None),
        (b"SID=abc", None),
        (b"other=1; sid=abc", None),
        (b"other=sid=abc", None),
        (b"", None),
    ],
)
def test_the_value_that_a_backend_sets_is_that_of_the_first_pair(raw: bytes, value: bytes | None) -> None:
    assert set_cookie_value(raw, b"sid") == value
