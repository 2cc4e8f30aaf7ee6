"""A pool whose leases are exchanges of HTTP: what it hears of them, and what it makes of their numbers (section 5)."""

from __future__ import annotations

import random

import pytest

from lbproxy.balancing.outlier import failing_status
from lbproxy.balancing.pool import Pool
from lbproxy.model import OutlierSettings
from tests.balancing.balancing_doubles import Session, make_pool, picks, take, watched_pool

RULE_1_OFF = OutlierSettings(consecutive=1_000_000)


def exchange(pool: Pool, backend_id: str, status: int, now: float, took: float = 0.01) -> None:
    """One request answered by this backend, as an exchange tells of it."""
    backend = pool.take_sticky(pool.backends[backend_id], now)
    assert backend is not None
    if failing_status(status):
        pool.failed(backend, now, took, cut=True)
    else:
        pool.answered(backend, now, took)
        pool.succeeded(backend, now)
    pool.give_back(backend, now)


def test_which_statuses_are_failures() -> None:
    assert [status for status in range(1000) if not failing_status(status)] == [
        *range(500),
        501,
        505,
        *range(600, 1000),
    ]


class TestFacts:
    def test_a_connect_is_counted_and_is_no_sample(self) -> None:
        pool = make_pool(policy="peak-ewma")
        backend = pool.backends["a"]
        pool.opened(backend, 0.0)
        assert (backend.connects_ok_total, backend.sampled_at) == (1, float("-inf"))

    def test_an_answer_is_a_sample_and_no_connect(self) -> None:
        pool = make_pool(policy="peak-ewma")
        backend = pool.backends["a"]
        pool.answered(backend, 1.0, 0.25)
        assert (backend.connects_ok_total, backend.estimate, backend.sampled_at) == (0, 0.25, 1.0)
        assert backend.evidence.sessions == 0

    def test_policies_that_do_not_care_are_not_asked(self) -> None:
        pool = make_pool()
        pool.answered(pool.backends["a"], 1.0, 0.25)
        assert pool.backends["a"].sampled_at == float("-inf")

    def test_a_failing_answer_is_no_failed_connect(self) -> None:
        pool = make_pool()
        exchange(pool, "a", 503, 0.0)
        backend = pool.backends["a"]
        assert (backend.failures_total, backend.connects_failed_total, backend.sessions_total) == (1, 0, 1)

    def test_a_fast_failing_answer_attracts_nothing(self) -> None:
        pool = make_pool("a b", policy="peak-ewma")
        for _ in range(3):
            exchange(pool, "a", 500, 0.0, 0.001)
            exchange(pool, "b", 200, 0.0, 0.2)
        assert pool.backends["a"].estimate >= 1.0
        assert pool.backends["b"].estimate == pytest.approx(0.2)

    def test_an_answer_that_did_not_come_costs_the_time_it_was_waited_for(self) -> None:
        pool = make_pool("a b", policy="peak-ewma")
        pool.failed(pool.backends["a"], 30.0, 30.0, cut=True)
        assert pool.backends["a"].estimate == 30.0

    def test_reuses_are_counted_for_backend_and_pool(self) -> None:
        pool = make_pool("a b")
        pool.backends["a"].reuses_total += 2
        pool.backends["b"].reuses_total += 1
        status = pool.status(0.0)
        assert status["reuses_total"] == 3


class TestOutliers:
    def test_five_failing_answers_in_a_row_eject(self) -> None:
        pool, news = watched_pool()
        for status in (500, 502, 503, 504, 200, 500, 502, 503, 504):
            exchange(pool, "a", status, 0.0)
        assert news.words() == []
        exchange(pool, "a", 599, 0.0)
        assert news.words() == ["a unknown>ejected consecutive"]

    def test_statuses_that_are_no_failure_never_eject(self) -> None:
        pool, news = watched_pool()
        for number in range(200):
            exchange(pool, "a", (400, 404, 429, 501, 505)[number % 5], number * 0.1)
        assert news.words() == []

    def test_a_share_of_failures_among_thousands_ejects_once_it_is_sure(self) -> None:
        pool, news = watched_pool(outlier=RULE_1_OFF)
        chance = random.Random(5)
        now = 0.0
        for number in range(12_000):
            now = number * 0.005
            exchange(pool, "bc"[number % 2], 500 if chance.random() < 0.02 else 200, now)
        assert news.words() == []
        assert pool.backends["b"].evidence.sessions > 5_000
        for number in range(600):
            if news.changes:
                break
            exchange(pool, "a", 500 if number % 4 == 0 else 200, now)
        assert news.words() == ["a unknown>ejected wilson"]

    def test_a_trifle_among_thousands_does_not(self) -> None:
        pool, news = watched_pool(outlier=RULE_1_OFF)
        for number in range(10_000):
            now = number * 0.005
            exchange(pool, "a", 500 if number % 12 == 0 else 200, now)
            exchange(pool, "b", 200, now)
        assert pool.backends["a"].evidence.failures > 500
        assert news.words() == []

    def test_what_all_fail_alike_ejects_nobody(self) -> None:
        pool, news = watched_pool(outlier=RULE_1_OFF)
        chance = random.Random(6)
        for number in range(9_000):
            exchange(pool, "abc"[number % 3], 500 if chance.random() < 0.5 else 200, number * 0.005)
        assert news.words() == []

    def test_what_happened_long_ago_is_forgotten(self) -> None:
        pool, news = watched_pool(outlier=RULE_1_OFF)
        for number in range(1000):
            exchange(pool, "b", 200, number * 0.01)
        # With those successes of b in the window, this would be enough.
        for _ in range(9):
            exchange(pool, "a", 500, 80.0)
        assert pool.backends["b"].evidence.sessions == 0
        assert news.words() == []

    def test_three_good_answers_end_a_probation(self) -> None:
        pool, news = watched_pool()
        for _ in range(5):
            exchange(pool, "a", 500, 0.0)
        pool.tick(31.0)
        for _ in range(3):
            exchange(pool, "a", 204, 31.0)
        assert news.words() == [
            "a unknown>ejected consecutive",
            "a ejected>ejected probe",
            "a ejected>unknown probe",
        ]


class TestLoad:
    def test_requests_in_flight_are_the_load(self) -> None:
        pool = make_pool()
        slow = take(pool)
        # Those that are answered at once go to the other two, however many there are.
        assert set(picks(pool, 50).split()) == {"b", "c"}
        assert slow.sessions_total == 1
        pool.give_back(slow, 0.0)
        assert sorted(picks(pool, 3, keep=True).split()) == ["a", "b", "c"]

    def test_requests_wait_when_all_slots_are_in_use_and_go_on_in_their_order(self) -> None:
        pool = make_pool("a b", max_active=2)
        leases = [take(pool) for _ in range(4)]
        log: list[str] = []
        for name in ("1", "2"):
            assert pool.enqueue(Session(name, log=log), 0.0) is None
        pool.give_back(leases[0], 0.1)
        pool.give_back(leases[1], 0.2)
        assert log == [f"1={leases[0].id}", f"2={leases[1].id}"]

    def test_the_load_bound_counts_requests_in_flight(self) -> None:
        pool = make_pool(policy="ketama", bounded_load=1.25)
        for _ in range(12):
            take(pool, 0.0, b"same")
        assert sorted(backend.active for backend in pool.backends.values()) == [2, 5, 5]

    def test_retries_are_a_share_of_requests_in_flight(self) -> None:
        pool = make_pool()
        for _ in range(25):
            take(pool)
        allowed = 0
        while pool.may_retry():
            pool.retry_began()
            allowed += 1
        assert allowed == 5
