"""Which pattern covers which name (threats.md L3)."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.certificates import NameIndex, covers

ODD = [
    "",
    ".",
    "..",
    "*",
    "*.",
    "*.ex.com",
    "*.*.ex.com",
    ".ex.com",
    "..ex.com",
    "a..ex.com",
    "a*.ex.com",
    "192.0.2.1",
    "::1",
    "[::1]",
    "a" * 64 + ".ex.com",
    "a." * 128 + "ex.com",
    "a\0.ex.com",
    "\0",
    "a b.ex.com",
    "a\n.ex.com",
    "a.ex.com\0",
    "a.ex.com..",
    "../../etc/x",
    "../../etc/x.ex.com",
    "-a.ex.com",
    "ä.ex.com",
    "\N{KELVIN SIGN}.ex.com",
    "\udc80.ex.com",
]


def index(*patterns: str) -> NameIndex[str]:
    names: NameIndex[str] = NameIndex()
    for pattern in patterns:
        names.add(pattern, pattern)
    return names


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("ex.com", "ex.com"),
        ("ex.com", "EX.com"),
        ("EX.COM", "ex.com"),
        ("ex.com", "ex.com."),
        ("ex.com.", "ex.com"),
        ("localhost", "localhost"),
        ("*.ex.com", "a.ex.com"),
        ("*.ex.com", "A.Ex.Com."),
        ("*.ex.com", "xn--bcher-kva.ex.com"),
        ("*.ex.com", "_acme.ex.com"),
        ("*.ex.com", "a" * 63 + ".ex.com"),
        ("xn--bcher-kva.ex", "XN--bcher-kva.ex"),
    ],
)
def test_a_pattern_covers_its_names_whatever_their_case_and_final_dot(pattern: str, name: str) -> None:
    assert covers(pattern, name)
    assert index(pattern).find(name) == pattern


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.ex.com", "ex.com"),
        ("*.ex.com", "a.b.ex.com"),
        ("*.ex.com", "a.ex.com.org"),
        ("ex.com", "a.ex.com"),
        ("ex.com", "exxcom"),
        ("k.com", "\N{KELVIN SIGN}.com"),
        *(("*.ex.com", odd) for odd in ODD),
        *(("ex.com", odd) for odd in ODD),
    ],
)
def test_a_pattern_covers_nothing_else(pattern: str, name: str) -> None:
    assert not covers(pattern, name)
    assert index(pattern).find(name) is None


@pytest.mark.parametrize(
    "pattern", ["*", "*.", "", ".", "a.*.b", "f*o.x", "*.*.x", "*x.com", "192.0.2.1", "*.0.2.1", "a b"]
)
def test_what_is_no_pattern_covers_nothing_and_cannot_be_added(pattern: str) -> None:
    assert not covers(pattern, "a.b")
    assert not covers(pattern, pattern)
    with pytest.raises(ValueError, match="neither a host name"):
        index(pattern)


def test_the_exact_name_goes_before_the_wildcard() -> None:
    names = index("*.ex.com", "a.ex.com")
    assert names.find("a.ex.com") == "a.ex.com"
    assert names.find("b.ex.com") == "*.ex.com"


def test_the_first_value_of_a_pattern_stays() -> None:
    names: NameIndex[int] = NameIndex()
    assert names.add("*.ex.com", 1) == 1
    assert names.add("*.EX.com.", 2) == 1
    assert names.find("a.ex.com") == 1
    assert len(names) == 1


def test_a_value_that_is_false_is_found_all_the_same() -> None:
    names: NameIndex[int] = NameIndex()
    names.add("a.ex.com", 0)
    names.add("*.ex.com", 1)
    assert names.find("a.ex.com") == 0


label = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=3)
host = st.lists(label, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "x"]))
pattern = st.one_of(host, host.map("*.{}".format))


@given(st.lists(pattern, max_size=8), host)
def test_the_index_finds_what_trying_every_pattern_finds(patterns: list[str], name: str) -> None:
    covering = {one for one in patterns if covers(one, name)}
    found = index(*patterns).find(name)
    assert (found in covering) if covering else (found is None)


@given(st.one_of(st.text(), st.text(".*ax\0", max_size=12), st.characters()), st.sampled_from(["*.x", "a.x", "x"]))
def test_no_name_at_all_raises(name: str, known: str) -> None:
    found = index(known).find(name)
    assert (found is not None) == covers(known, name)
    covers(name, known)
