"""Bans: what they hit, that nobody is held against one twice, and that nothing purged comes back."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.bans import GONE, MOST_BANS, NOTHING, SOFT, Bans, Kind
from lbproxy.cache.keys import host_of, url_of
from lbproxy.cache.values import Stored
from tests.cache.matching_heads import stored

KEY = b"https://a.example:8443/img/x.png?v=1\naccept: */*"
TAGS = (b"img", b"x")


@pytest.mark.parametrize(
    ("kind", "value", "hit"),
    [
        ("all", b"", True),
        ("host", b"a.example", True),
        ("host", b"example", False),
        ("host", b"a.example:8443", False),
        ("url", b"https://a.example:8443/img/x.png?v=1", True),
        ("url", b"https://a.example:8443/img/x.png", False),
        ("url", b"http://a.example:8443/img/x.png?v=1", False),
        ("prefix", b"https://a.example:8443/img/", True),
        ("prefix", b"https://a.example:8443/img/x.png?v=1", True),
        ("prefix", b"https://a.example:8443/img/x.png?v=1\naccept", False),
        ("prefix", b"https://a.example:8443/im/", False),
        ("prefix", b"https://a.example/img/", False),
        ("tag", b"img", True),
        ("tag", b"x", True),
        ("tag", b"im", False),
        ("tag", b"", False),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_a_ban_hits_what_it_names_once(kind: Kind, value: bytes, hit: bool, soft: bool) -> None:
    bans = Bans()
    entry = stored(KEY, tags=TAGS)
    assert bans.verdict(entry) == NOTHING
    assert bans.add(kind, value, 1.0, soft=soft) == bans.newest == 1
    assert bans.verdict(entry) == ((SOFT if soft else GONE) if hit else NOTHING)
    assert entry.checked == 1
    assert bans.verdict(entry) == NOTHING


def test_what_is_stored_after_a_ban_is_not_hit() -> None:
    bans = Bans()
    bans.add("all", b"", 1.0, soft=False)
    assert bans.verdict(stored(checked=bans.newest)) == NOTHING


def test_what_was_asked_for_before_a_ban_is_hit() -> None:
    bans = Bans()
    asked = bans.newest
    bans.add("prefix", b"http://a.example/", 1.0, soft=False)
    assert bans.verdict(stored(checked=asked)) == GONE


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_of_a_soft_and_a_hard_ban_the_hard_one_counts(order: tuple[bool, bool]) -> None:
    bans = Bans()
    for soft in order:
        bans.add("host", b"a.example", 1.0, soft=soft)
    assert len(bans) == 2
    assert bans.verdict(stored()) == GONE


def test_the_same_ban_again_takes_the_place_of_the_older_one() -> None:
    bans = Bans()
    bans.add("tag", b"a", 1.0, soft=False)
    bans.add("prefix", b"http://a", 2.0, soft=False)
    assert len(bans) == 2
    bans.add("all", b"what is said here is not looked at", 3.0, soft=False)
    bans.add("all", b"", 4.0, soft=False)
    bans.add("tag", b"a", 5.0, soft=False)
    bans.add("prefix", b"http://a", 6.0, soft=False)
    told = [(ban.number, ban.kind, ban.value, ban.soft, ban.since) for ban in bans.list()]
    assert told == [
        (4, "all", b"", False, 4.0),
        (5, "tag", b"a", False, 5.0),
        (6, "prefix", b"http://a", False, 6.0),
    ]
    assert bans.verdict(stored(checked=5)) == GONE


@pytest.mark.parametrize("soft", [False, True])
def test_what_no_sweep_has_seen_is_hit_by_what_was_forgotten(soft: bool) -> None:
    bans = Bans()
    bans.add("tag", b"a", 1.0, soft=soft)
    bans.add("tag", b"b", 2.0, soft=soft)
    swept, missed = stored(), stored()
    assert bans.verdict(swept) == NOTHING
    late = bans.add("tag", b"c", 3.0, soft=soft)
    bans.forget(2)
    assert [ban.number for ban in bans.list()] == [late]
    assert bans.verdict(swept) == NOTHING
    assert bans.verdict(missed) == (SOFT if soft else GONE)
    assert bans.verdict(missed) == NOTHING


def test_to_forget_nothing_changes_nothing() -> None:
    bans = Bans()
    bans.forget(0)
    assert bans.verdict(stored()) == NOTHING
    bans.add("tag", b"a", 1.0, soft=False)
    bans.forget(0)
    assert len(bans) == 1
    assert bans.verdict(stored()) == NOTHING


def test_there_are_at_most_a_thousand_and_none_is_lost() -> None:
    bans = Bans()
    first = bans.add("tag", b"a", 1.0, soft=False)
    before, after = stored(tags=(b"z",)), stored(tags=(b"z",), checked=first)
    for index in range(MOST_BANS):
        bans.add("tag", b"%d" % index, 2.0, soft=False)
    assert len(bans) == len(bans.list()) == MOST_BANS
    assert bans.list()[0].number == first + 1
    # Whether the oldest named it is no longer known.
    assert bans.verdict(before) == GONE
    assert bans.verdict(after) == NOTHING


SITES = [b"http://a/x", b"http://a/y", b"http://b:81/x", b"http://b:81/x\nk: v"]
NAMED = st.one_of(
    st.tuples(st.just("url"), st.sampled_from([b"http://a/x", b"http://b:81/x"])),
    st.tuples(st.just("prefix"), st.sampled_from([b"http://a/", b"http://", b"http://a/x"])),
    st.tuples(st.just("host"), st.sampled_from([b"a", b"b"])),
    st.tuples(st.just("tag"), st.sampled_from([b"s", b"t"])),
    st.tuples(st.just("all"), st.just(b"")),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ban"), NAMED, st.booleans()),
        st.tuples(st.just("look"), st.integers(0, 3)),
        st.tuples(st.just("renew"), st.integers(0, 3)),
        st.tuples(st.just("sweep"), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_verdicts_are_those_of_a_list_that_nothing_is_taken_from(steps: list[tuple[object, ...]]) -> None:
    bans = Bans()
    entries = [stored(key, tags=(b"s",) if index % 2 else (b"s", b"t")) for index, key in enumerate(SITES)]
    entries[0].tags = None
    open_bans: list[list[tuple[str, bytes, bool]]] = [[] for _ in entries]

    def look(index: int) -> None:
        hits = [soft for kind, value, soft in open_bans[index] if named(entries[index], kind, value)]
        wanted = NOTHING if not hits else SOFT if all(hits) else GONE
        assert bans.verdict(entries[index]) == wanted
        open_bans[index].clear()

    for step in steps:
        match step:
            case ("ban", (str(kind), bytes(value)), bool(soft)):
                bans.add(next(one for one in get_args(Kind) if one == kind), value, 0.0, soft=soft)
                for pending in open_bans:
                    pending.append((kind, value, soft))
            case ("look", int(index)):
                look(index)
            case ("renew", int(index)):
                entries[index].checked = bans.newest
                open_bans[index].clear()
            case _:
                newest = bans.newest
                for index in range(len(entries)):
                    look(index)
                bans.forget(newest)
                assert not bans.list()


def named(entry: Stored, kind: str, value: bytes) -> bool:
    match kind:
        case "url":
            return url_of(entry.key) == value
        case "prefix":
            return url_of(entry.key).startswith(value)
        case "host":
            return host_of(entry.key) == value
        case "tag":
            return value in (entry.tags or ())
    return True
