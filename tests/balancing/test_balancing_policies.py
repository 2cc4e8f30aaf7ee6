"""What each policy promises about its choice (specification, sections 7 to 10)."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.policies import POLICIES
from lbproxy.balancing.policies.first import First
from lbproxy.balancing.policies.least_connections import LeastConnections
from lbproxy.balancing.policies.p2c import PowerOfTwo
from lbproxy.balancing.policies.peak_ewma import PeakEwma, blended, drifted, failure_sample
from lbproxy.balancing.policies.round_robin import next_in_turn
from lbproxy.balancing.policies.weighted_random import Draw
from lbproxy.model import PolicyName
from tests.balancing.balancing_doubles import go_down, make_pool, make_settings, picks, take

WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=8)


def backends(weights: list[int], active: list[int] | None = None) -> list[Backend]:
    """Backends a, b, c ... outside of any pool."""
    configured = make_settings(" ".join("abcdefgh"[: len(weights)]), weights)
    made = [Backend(one, configured, 0.0) for one in configured.backends]
    for backend, count in zip(made, active or [], strict=False):
        backend.active = count
    return made


def test_the_table_has_every_policy_of_the_model() -> None:
    assert set(POLICIES) == set(get_args(PolicyName))


@pytest.mark.parametrize("name", get_args(PolicyName))
def test_every_policy_chooses_among_the_candidates_only(name: PolicyName) -> None:
    pool = make_pool("a b c d", [1, 2, 3, 4], policy=name)
    go_down(pool, "b")
    one, two = pool.backends["a"], pool.backends["d"]
    for n in range(200):
        assert take(pool, key=b"%d" % n).id in "acd"
        assert take(pool, key=b"%d" % n, tried=[one, two]).id == "c"
        assert take(pool, key=None).id in "acd"


@pytest.mark.parametrize("name", get_args(PolicyName))
def test_every_policy_serves_a_pool_of_one(name: PolicyName) -> None:
    assert {take(make_pool("a", policy=name), key=b"k").id} == {"a"}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([5, 1, 1], "a a b a c a a a a b a c a a"),
        ([3, 2, 1], "a b a c b a a b a c b a"),
        ([4, 2], "a b a a b a"),
        ([1, 1, 1], "a b c a b c"),
    ],
)
def test_round_robin_is_smooth(weights: list[int], expected: str) -> None:
    pool = make_pool(" ".join("abc"[: len(weights)]), weights, policy="round-robin")
    assert picks(pool, len(expected.split())) == expected


@given(WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_round_robin_is_exact_over_a_cycle_and_near_it_within(weights: list[int]) -> None:
    made = backends(weights)
    total = sum(weights)
    counts: Counter[str] = Counter()
    for n in range(1, total + 1):
        counts[next_in_turn(made).id] += 1
        for backend, weight in zip(made, weights, strict=True):
            assert abs(counts[backend.id] - n * weight / total) < len(weights)
    assert [counts[backend.id] for backend in made] == weights
    assert [backend.turn for backend in made] == [0] * len(made)


def test_round_robin_gives_newcomers_a_counter_of_nought_and_the_others_keep_theirs() -> None:
    pool = make_pool("a b", [3, 1], policy="round-robin")
    assert picks(pool, 2) == "a a"
    before = {backend.id: backend.turn for backend in pool.backends.values()}
    pool.reconfigure(make_settings("a b c", [3, 1, 1], policy="round-robin"), 0.0)
    assert {b.id: b.turn for b in pool.backends.values()} == {**before, "c": 0}


def test_least_connections_fills_equals_in_turn() -> None:
    assert picks(make_pool(), 9, keep=True) == "a b c a b c a b c"
    assert picks(make_pool(), 6) == "a b c a b c"


def test_least_connections_weighs_the_load_with_the_next_session_in_it() -> None:
    """Weights 2 and 1 with 1 and 0 active are a tie; with 2 and 0 the lighter one is less loaded."""
    policy = LeastConnections()
    tied = backends([2, 1], [1, 0])
    assert {policy.pick(tied, None, 0.0).id for _ in range(3)} == {"a", "b"}
    assert [policy.pick(backends([2, 1], [2, 0]), None, 0.0).id for _ in range(3)] == ["b", "b", "b"]
    assert [policy.pick(backends([2, 1], [0, 0]), None, 0.0).id for _ in range(3)] == ["a", "a", "a"]


@given(WEIGHTS.flatmap(lambda w: st.tuples(st.just(w), st.lists(st.integers(0, 50), min_size=len(w), max_size=len(w)))))
@settings(max_examples=100, deadline=None)
def test_least_connections_never_picks_one_that_is_more_loaded(case: tuple[list[int], list[int]]) -> None:
    made = backends(*case)
    for _ in range(20):
        chosen = LeastConnections().pick(made, None, 0.0)
        assert all((chosen.active + 1) * b.weight <= (b.active + 1) * chosen.weight for b in made)
        chosen.active += 1


@given(WEIGHTS)
@settings(max_examples=40, deadline=None)
def test_least_connections_keeps_leases_in_proportion(weights: list[int]) -> None:
    made = backends(weights)
    for _ in range(sum(weights)):
        LeastConnections().pick(made, None, 0.0).active += 1
    assert [backend.active for backend in made] == weights


def test_least_connections_lets_no_history_win_more_than_a_turn_or_two() -> None:
    """A backend that was busy for long, or alone the least busy for long, soon shares ties again."""
    policy = LeastConnections()
    made = backends([1, 1, 1], [9, 0, 9])
    for _ in range(10_000):
        assert policy.pick(made, None, 0.0).id == "b"
    for backend in made:
        backend.active = 0
    counts = Counter(policy.pick(made, None, 0.0).id for _ in range(30))
    assert min(counts[name] for name in "abc") >= 8


def test_first_fills_in_file_order() -> None:
    pool = make_pool("a b c", policy="first", max_active=2)
    assert picks(pool, 6, keep=True) == "a a b b c c"
    pool.give_back(pool.backends["b"], 0.0)
    pool.give_back(pool.backends["a"], 0.0)
    assert picks(pool, 2, keep=True) == "a b"
    assert First().pick(backends([1, 9]), None, 0.0).id == "a"


def test_random_follows_the_weights() -> None:
    counts = Counter(picks(make_pool("a b c", [1, 2, 5], policy="random"), 8000).split())
    assert counts["a"] == pytest.approx(1000, abs=130)
    assert counts["b"] == pytest.approx(2000, abs=180)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_two_draws_are_different_and_follow_every_value_of_chance(weights: list[int], chance: random.Random) -> None:
    made = backends(weights)
    values = [0.0, 1.0 - 2**-53, chance.random()]
    draw = Draw(lambda: chance.choice(values))
    for _ in range(10):
        first, second = draw.two(made)
        assert first is not second


def test_the_second_draw_has_the_weights_of_those_left() -> None:
    draw = Draw(random.Random(3).random)
    made = backends([6, 3, 1])
    pairs = Counter("".join(b.id for b in draw.two(made)) for _ in range(20_000))
    assert pairs["ab"] / 20_000 == pytest.approx(0.6 * 0.75, abs=0.015)
    assert pairs["ba"] / 20_000 == pytest.approx(0.3 * 6 / 7, abs=0.015)
    assert pairs["ca"] / 20_000 == pytest.approx(0.1 * 6 / 9, abs=0.01)


def test_p2c_takes_the_less_loaded_of_two_and_the_first_drawn_on_a_tie() -> None:
    assert PowerOfTwo(iter([0.0, 0.0]).__next__).pick(backends([1, 1], [0, 0]), None, 0.0).id == "a"
    assert PowerOfTwo(iter([0.9, 0.0]).__next__).pick(backends([1, 1], [0, 0]), None, 0.0).id == "b"
    assert PowerOfTwo(iter([0.0, 0.0]).__next__).pick(backends([1, 1], [1, 0]), None, 0.0).id == "b"
    # 3 of weight 4 is less than 1 of weight 1.
    assert PowerOfTwo(iter([0.99, 0.0]).__next__).pick(backends([4, 1], [3, 1]), None, 0.0).id == "a"


def test_p2c_takes_the_only_one_without_a_draw() -> None:
    assert PowerOfTwo(iter(()).__next__).pick(backends([1]), None, 0.0).id == "a"


def test_draws_follow_a_changed_weight() -> None:
    pool = make_pool("a b", policy="random")
    picks(pool, 10)
    pool.set_weight(pool.backends["a"], 0, 0.0)
    assert set(picks(pool, 50).split()) == {"b"}
    pool.set_weight(pool.backends["a"], 256, 0.0)
    assert picks(pool, 300).split().count("a") > 250


def test_peak_ewma_blends_relief_slowly_and_takes_peaks_at_once() -> None:
    assert blended(0.100, 0.020, 10.0) == pytest.approx(0.04943, abs=5e-6)
    assert blended(0.100, 0.250, 10.0) == 0.250
    assert drifted(0.500, 0.020, 20.0) == pytest.approx(0.08496, abs=5e-6)


def test_peak_ewma_vectors_hold_through_the_pool() -> None:
    pool = make_pool("a", policy="peak-ewma")
    backend = pool.backends["a"]
    pool.connected(backend, 0.0, 0.100)
    pool.connected(backend, 10.0, 0.020)
    assert backend.estimate == pytest.approx(0.04943, abs=5e-6)
    pool.connected(backend, 10.0, 0.250)
    assert backend.estimate == 0.250


def test_peak_ewma_starts_a_newcomer_at_the_mean_or_ten_milliseconds() -> None:
    made = backends([1, 1, 1])
    policy = PeakEwma(random.Random(1).random)
    policy.prepare(made)
    assert policy.estimate(made[2], 5.0) == 0.010
    policy.sampled(made[0], 0.2, 5.0)
    policy.sampled(made[1], 0.4, 5.0)
    assert policy.estimate(made[2], 5.0) == pytest.approx(0.3)


def test_peak_ewma_lets_idle_estimates_drift_to_the_mean() -> None:
    made = backends([1, 1])
    policy = PeakEwma(random.Random(1).random)
    policy.prepare(made)
    policy.sampled(made[0], 1.0, 0.0)
    policy.sampled(made[1], 0.0, 0.0)
    assert policy.estimate(made[0], 0.0) == 1.0
    assert policy.estimate(made[0], 20.0) == pytest.approx(0.5 + 0.5 * math.exp(-2))
    assert policy.estimate(made[1], 1e6) == pytest.approx(0.5)


def test_peak_ewma_counts_a_fast_failure_as_a_slow_answer() -> None:
    assert failure_sample(0.001, 0.010) == 1.0
    assert failure_sample(0.001, 0.5) == 5.0
    assert failure_sample(0.001, 100.0) == 60.0
    assert failure_sample(7.0, 0.010) == 7.0
    pool = make_pool("a b", policy="peak-ewma")
    pool.failed(pool.backends["a"], 0.0, 0.001)
    assert pool.backends["a"].estimate == 1.0
    pool.failed(pool.backends["b"], 0.0, cut=True)
    assert pool.backends["b"].estimate <= 10.0


def test_peak_ewma_prefers_the_fast_but_never_starves_the_slow() -> None:
    pool = make_pool("a b", policy="peak-ewma")
    pool.connected(pool.backends["a"], 0.0, 5.0)
    pool.connected(pool.backends["b"], 0.0, 0.001)
    ids = picks(pool, 200).split()
    assert [place for place, name in enumerate(ids, 1) if name == "a"] == [50, 150]


def test_peak_ewma_weighs_load_and_weight() -> None:
    made = backends([1, 4], [0, 2])
    policy = PeakEwma(random.Random(1).random)
    policy.prepare(made)
    for backend in made:
        policy.sampled(backend, 0.1, 0.0)
    assert {policy.pick(made, None, 0.0).id for _ in range(10)} == {"b"}
    made[1].active = 4
    assert {policy.pick(made, None, 0.0).id for _ in range(10)} == {"a"}


def test_in_a_large_pool_too_the_mean_follows_the_samples() -> None:
    made = list(make_pool(" ".join(f"b{number}" for number in range(41))).backends.values())
    policy = PeakEwma(random.Random(1).random)
    policy.prepare(made)
    for number, backend in enumerate(made[:40], 1):
        policy.sampled(backend, 0.1 * number, 0.0)
        # A first sample counts at once: the mean is what one that was never measured is believed to take.
        assert policy.estimate(made[40], 0.0) == pytest.approx(0.05 * (number + 1))
    for _ in range(5):
        policy.sampled(made[0], 40.1, 0.0)
    assert policy.estimate(made[40], 0.0) == pytest.approx(3.05)


def test_a_dead_backend_does_not_make_the_mean() -> None:
    pool = make_pool("a b c", policy="peak-ewma")
    pool.connected(pool.backends["b"], 0.0, 0.02)
    pool.connected(pool.backends["a"], 0.0, 50.0)
    go_down(pool, "a")
    pool.connected(pool.backends["b"], 0.0, 0.02)
    pool.failed(pool.backends["c"], 0.0, 0.0)
    assert pool.backends["c"].estimate == 1.0


@pytest.mark.parametrize("name", ["least-connections", "round-robin", "random", "p2c", "peak-ewma"])
@pytest.mark.parametrize("keep", [False, True])
def test_no_weighted_policy_starves_anybody(name: PolicyName, keep: bool) -> None:
    pool = make_pool("a b c d", [1, 2, 3, 1], policy=name, max_active=None)
    if keep or name != "least-connections":
        assert set(picks(pool, 400, keep=keep).split()) == set("abcd")
    else:
        # With nothing active the heaviest is the least loaded by the rule itself.
        assert set(picks(pool, 400).split()) == {"c"}
