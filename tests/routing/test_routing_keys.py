"""Keys of requests, and the splits that go by them (specification, sections 11 and 26)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.model_http import Split
from lbproxy.routing.keys import key_reader
from lbproxy.routing.splitting import Splitter
from tests.routing.routing_rig import CLIENT, request

HEAD = request(
    b"/a/b",
    b"a.example",
    authority=b"a.example:8080",
    query=b"q=one%20+&q=two&e=",
    fields=[
        (b"x-user", b"u1"),
        (b"X-other", b""),
        (b"x-user", b"u2"),
        (b"cookie", b"a=1; b"),
        (b"cookie", b"s=2; s=3"),
    ],
)


@pytest.mark.parametrize(
    ("hash_key", "expected"),
    [
        ("client_ip", b"192.0.2.1"),
        ("path", b"/a/b"),
        ("host", b"a.example"),
        ("sni", b"b.example"),
        ("header:X-User", b"u1"),
        ("header:x-user", b"u1"),
        ("header:host", b"a.example:8080"),
        ("header:x-none", None),
        ("cookie:a", b"1"),
        ("cookie:s", b"2"),
        ("cookie:A", None),
        ("query:q", b"one  "),
        ("query:e", b""),
        ("query:Q", None),
    ],
)
def test_a_key_is_the_first_value_of_what_it_is_named_after(hash_key: str, expected: bytes | None) -> None:
    assert key_reader(hash_key)(HEAD, CLIENT, "b.example") == expected


@pytest.mark.parametrize("hash_key", ["header:x", "cookie:x", "query:x", "sni"])
def test_there_is_no_key_where_the_request_has_no_such_thing(hash_key: str) -> None:
    assert key_reader(hash_key)(request(), CLIENT, None) is None


@pytest.mark.parametrize("hash_key", ["", "ip", "header", "header:", "client_ip:x", "Path", "form:x"])
def test_other_texts_are_no_keys(hash_key: str) -> None:
    with pytest.raises(ValueError, match="is no hash key; write"):
        key_reader(hash_key)


def never() -> float:
    raise AssertionError("nobody asked for chance")


def test_a_key_chooses_as_the_policy_rendezvous_does() -> None:
    splitter = Splitter(Split((("web1", 1), ("web2", 1), ("web3", 2))), never)
    chosen = [splitter.choose(b"k%d" % n) for n in range(8)]
    assert chosen == ["web3", "web3", "web1", "web3", "web3", "web3", "web2", "web3"]


def test_keys_are_spread_by_weight_and_only_those_move_that_must() -> None:
    keys = [b"client %d" % n for n in range(4000)]
    before = Splitter(Split((("main", 90), ("canary", 10))), never)
    after = Splitter(Split((("main", 80), ("canary", 20))), never)
    counts = Counter(map(before.choose, keys))
    assert 340 <= counts["canary"] <= 460
    assert 720 <= Counter(map(after.choose, keys))["canary"] <= 880
    # Who is on the canary's side stays there when it grows.
    assert all(after.choose(key) == "canary" for key in keys if before.choose(key) == "canary")


def test_chance_chooses_by_weight() -> None:
    splitter = Splitter(Split((("main", 90), ("canary", 10))), random.Random(17).random)
    assert 340 <= Counter(splitter.choose(None) for _ in range(4000))["canary"] <= 460


@pytest.mark.parametrize(
    ("chance", "expected"),
    [(0.0, "a"), (0.2499, "a"), (0.25, "b"), (0.4999, "b"), (0.5, "d"), (1 - 2**-53, "d")],
)
def test_chance_is_divided_in_order_and_weight_0_has_no_share(chance: float, expected: str) -> None:
    splitter = Splitter(Split((("zero", 0), ("a", 1), ("b", 1), ("c", 0), ("d", 2), ("none", 0))), lambda: chance)
    assert splitter.choose(None) == expected


weights = st.lists(st.integers(0, 256), min_size=1, max_size=5).filter(any)


@settings(deadline=None, max_examples=100)
@given(weights, st.binary(max_size=8) | st.none(), st.floats(0, 1, exclude_max=True))
def test_what_is_chosen_has_weight_and_a_key_decides_alone(
    given_weights: list[int], key: bytes | None, chance: float
) -> None:
    pools = tuple((f"p{n}", weight) for n, weight in enumerate(given_weights))
    chosen = Splitter(Split(pools), lambda: chance).choose(key)
    assert dict(pools)[chosen] > 0
    if key is not None:
        assert Splitter(Split(pools), never).choose(key) == chosen
        assert Splitter(Split(tuple(pool for pool in pools if pool[1])), never).choose(key) == chosen


def test_a_split_of_one_pool_needs_neither_key_nor_chance() -> None:
    splitter = Splitter(Split((("main", 1), ("canary", 0))), never)
    assert splitter.choose(None) == splitter.choose(b"k") == "main"


@pytest.mark.parametrize("pools", [(), (("main", 0),)])
def test_a_split_without_weight_is_refused(pools: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Splitter(Split(pools), never)
