"""Concealment: locations that point at a backend point at us instead, and fields that tell about servers are known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.locations import LOCATIONS, REVEALING, public_location

BACKENDS = frozenset((b"10.0.0.1:8000", b"10.0.0.1", b"app.internal:80", b"[fd00::1]:443", b"fd00::2"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"http://10.0.0.1:8000/a?b#c", b"https://a.example/a?b#c"),
        (b"http://10.0.0.1:8000", b"https://a.example"),
        (b"http://10.0.0.1:8000?x", b"https://a.example?x"),
        (b"http://10.0.0.1/a", b"https://a.example/a"),
        (b"http://10.0.0.1:80/a", b"https://a.example/a"),
        (b"HTTP://10.0.0.1:8000/", b"https://a.example/"),
        (b"https://10.0.0.1:8000/", b"https://a.example/"),
        (b"//10.0.0.1:8000/a", b"https://a.example/a"),
        (b"http://App.Internal/a", b"https://a.example/a"),
        (b"http://app.internal:80/a", b"https://a.example/a"),
        (b"https://[fd00::1]/a", b"https://a.example/a"),
        (b"http://[FD00::1]:443/a", b"https://a.example/a"),
        (b"http://[fd00::2]/a", b"https://a.example/a"),
        (b"http://user:word@10.0.0.1:8000/a", b"https://a.example/a"),
        (b"http://10.0.0.1:8000/http://10.0.0.1:8000/", b"https://a.example/http://10.0.0.1:8000/"),
        (b"5; url=http://10.0.0.1:8000/a", b"5; url=https://a.example/a"),
        (b"0;URL='http://10.0.0.1:8000/a'", b"0;URL='https://a.example/a'"),
        (b'0, "http://10.0.0.1:8000"', b'0, "https://a.example"'),
        (b"0.5; //10.0.0.1:8000/", b"0.5; https://a.example/"),
    ],
)
def test_what_leads_to_a_backend_leads_to_us(value: bytes, shown: bytes) -> None:
    assert public_location(value, BACKENDS, b"https", b"a.example") == shown


@pytest.mark.parametrize(
    "value",
    [
        b"", b"/a", b"a//b", b"/a//10.0.0.1:8000/", b"?u=http://10.0.0.1:8000/", b"http://a.example/",
        b"http://10.0.0.1:8001/", b"http://10.0.0.10/", b"http://10.0.0.1.example/", b"http://10.0.0.1:8000@b.example/",
        b"https://app.internal/", b"//app.internal/", b"http://b.example/?http://10.0.0.1:8000/", b"ftp://10.0.0.1/",
        b"5; url=/a", b"5", b"5; url=http://b.example//10.0.0.1:8000", b"http:///", b"http://", b"//",
        b"http://app.internal:8080/", b"x; http://10.0.0.1:8000/",
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_unchanged(value: bytes) -> None:
    assert public_location(value, BACKENDS, b"https", b"a.example") == value


@given(
    st.lists(st.sampled_from([b"5;", b"url=", b"http:", b"//", b"10.0.0.1", b":8000", b"/", b"@", b"'", b" ", b"\xff"]))
)
@settings(max_examples=300, deadline=None)
def test_a_location_is_all_its_own_or_has_our_name_for_that_of_a_backend(pieces: list[bytes]) -> None:
    value = b"".join(pieces)
    shown = public_location(value, BACKENDS, b"https", b"a.example")
    assert shown == value or shown.count(b"https://a.example") == 1
    assert public_location(shown, BACKENDS, b"https", b"a.example") == shown


def test_names_are_in_lower_case_and_none_that_a_client_needs_is_among_them() -> None:
    assert all(name == name.lower() for name in REVEALING | LOCATIONS)
    assert {b"server", b"x-powered-by", b"x-aspnet-version", b"x-aspnetmvc-version", b"x-runtime"} <= REVEALING
    assert not REVEALING & {b"date", b"etag", b"vary", b"set-cookie", b"content-type", b"via", b"location"}
