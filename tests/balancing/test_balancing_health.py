"""How backends leave service and come back: checks, outliers, breaker, slow start, operator (sections 4 to 6, 22)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.balancing.breaker import Breaker
from lbproxy.balancing.checks import Checks
from lbproxy.balancing.outlier import Evidence, is_outlier, wilson
from lbproxy.balancing.pool import Pool
from lbproxy.balancing.slow_start import share
from lbproxy.errors import DNS, NO_BACKEND
from lbproxy.model import AdminState, CheckSettings, OutlierSettings, SlowStartSettings
from tests.balancing.balancing_doubles import (
    changed,
    come_up,
    go_down,
    make_pool,
    make_settings,
    picks,
    take,
    watched_pool,
)

NO_SLOW_START = SlowStartSettings(window=0.0)


def fail(pool: Pool, backend_id: str, times: int = 5, now: float = 0.0) -> None:
    for _ in range(times):
        pool.failed(pool.backends[backend_id], now, 0.001)


def succeed(pool: Pool, backend_id: str, times: int = 3, now: float = 0.0) -> None:
    for _ in range(times):
        pool.succeeded(pool.backends[backend_id], now)


class TestChecks:
    def test_unknown_is_usable_until_the_first_fall(self) -> None:
        pool, news = watched_pool()
        backend = pool.backends["a"]
        for _ in range(2):
            pool.check_failed(backend, "L4CON", 1.0)
            assert backend.state == "unknown"
            assert backend.usable
        pool.check_failed(backend, "L4TOUT", 1.0)
        assert (backend.state, backend.usable, backend.reason, backend.since) == ("down", False, "L4TOUT", 1.0)
        assert news.words() == ["a unknown>down L4TOUT"]

    def test_one_pass_makes_unknown_up(self) -> None:
        pool, news = watched_pool()
        pool.check_failed(pool.backends["a"], "L4CON", 0.0)
        pool.check_passed(pool.backends["a"], "L4OK", 0.0)
        assert news.words() == ["a unknown>up L4OK"]

    def test_down_needs_rise_passes_in_a_row(self) -> None:
        checks = Checks()
        assert [checks.failed(3) for _ in range(3)] == [False, False, True]
        assert not checks.passed(2)
        assert not checks.failed(3)
        assert not checks.passed(2)
        assert checks.passed(2)
        assert checks.state == "up"

    def test_up_needs_fall_failures_in_a_row(self) -> None:
        checks = Checks()
        checks.passed(2)
        for _ in range(5):
            assert not checks.failed(3)
            assert not checks.failed(3)
            assert not checks.passed(2)
        assert [checks.failed(3) for _ in range(3)] == [False, False, True]

    def test_only_flips_are_told(self) -> None:
        pool, news = watched_pool()
        for _ in range(9):
            pool.check_passed(pool.backends["a"], "L7OK", 0.0)
        for _ in range(9):
            pool.check_failed(pool.backends["a"], "L7STS", 0.0)
        assert [str(change) for change in news.changes] == [
            "web/a: unknown -> up (L7OK: 1 of 1 checks in a row passed)",
            "web/a: up -> down (L7STS: 3 of 3 checks in a row failed)",
        ]
        assert (pool.backends["a"].checks_ok_total, pool.backends["a"].checks_failed_total) == (9, 9)

    def test_late_results_in_maintenance_change_nothing(self) -> None:
        pool, news = watched_pool()
        pool.set_admin(pool.backends["a"], "maint", 0.0)
        news.words()
        go_down(pool, "a")
        assert news.words() == []
        pool.set_admin(pool.backends["a"], "ready", 0.0)
        assert pool.backends["a"].usable

    def test_maintenance_forgets_what_checks_said_before(self) -> None:
        pool, news = watched_pool()
        go_down(pool, "a")
        pool.set_admin(pool.backends["a"], "maint", 0.0)
        pool.set_admin(pool.backends["a"], "ready", 0.0)
        assert news.words() == ["a unknown>down L4CON", "a down>maint operator", "a maint>unknown operator"]


class TestWilson:
    @pytest.mark.parametrize(
        ("failures", "sessions", "low", "high"),
        [(5, 5, 0.566, 1.000), (6, 12, 0.254, 0.746), (1, 5, 0.036, 0.624), (2, 100, 0.006, 0.070)],
    )
    def test_bounds(self, failures: int, sessions: int, low: float, high: float) -> None:
        assert wilson(failures, sessions) == pytest.approx((low, high), abs=5e-4)

    def test_verdicts(self) -> None:
        assert is_outlier(6, 12, 2, 100)
        assert not is_outlier(1, 5, 2, 100)
        assert not is_outlier(12, 12, 0, 0), "nothing to compare with"
        assert not is_outlier(20, 1000, 0, 100_000), "surely worse, but a trifle"
        assert not is_outlier(50, 100, 50, 100), "everybody fails: not this one's fault"

    @given(st.integers(0, 500), st.integers(1, 500))
    def test_the_bounds_enclose_the_rate(self, failures: int, sessions: int) -> None:
        failures = min(failures, sessions)
        low, high = wilson(failures, sessions)
        hair = 1e-12
        assert 0.0 <= low <= failures / sessions + hair
        assert failures / sessions - hair <= high <= 1.0


class TestEvidence:
    @given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60))
    @settings(max_examples=80, deadline=None)
    def test_the_window_holds_what_is_younger_than_sixty_seconds(self, steps: list[tuple[float, bool]]) -> None:
        evidence, now, seen = Evidence(60.0), 1000.0, []
        for pause, failed in steps:
            now += pause
            evidence.failed(now) if failed else evidence.succeeded(now)
            seen.append((now, failed))
            slices = [(int(now) - int(at), failed) for at, failed in seen]
            assert evidence.sessions == sum(age < 60 for age, _ in slices)
            assert evidence.failures == sum(age < 60 and failed for age, failed in slices)
        evidence.expire(now + 61)
        assert (evidence.sessions, evidence.failures) == (0, 0)

    def test_a_success_ends_the_row(self) -> None:
        evidence = Evidence(60.0)
        for _ in range(4):
            evidence.failed(0.0)
        evidence.succeeded(0.0)
        assert evidence.consecutive == 0


class TestEjection:
    def test_five_failures_in_a_row_eject(self) -> None:
        pool, news = watched_pool()
        fail(pool, "a", 4)
        assert news.words() == []
        fail(pool, "a", 1)
        assert pool.backends["a"].state == "ejected"
        assert [str(c) for c in news.changes] == [
            "web/a: unknown -> ejected (consecutive: 5 failures in a row; ejection 1, for 30 s)"
        ]
        assert set(picks(pool, 20).split()) == {"b", "c"}

    def test_a_success_between_saves_it_from_the_first_rule(self) -> None:
        pool, news = watched_pool()
        for backend_id in "bc":
            fail(pool, backend_id, 4)
        for _ in range(20):
            fail(pool, "a", 4)
            succeed(pool, "a", 1)
            succeed(pool, "b", 1)
            fail(pool, "b", 4)
        assert news.words() == [], "as bad as the others, so no outlier"

    def test_the_second_rule_compares_with_all_others_together(self) -> None:
        pool, news = watched_pool()
        for n in range(100):
            succeed(pool, "bc"[n % 2], 1)
        fail(pool, "b", 1)
        fail(pool, "c", 1)
        for _ in range(5):
            succeed(pool, "a", 1)
            fail(pool, "a", 1)
        assert [c.reason for c in news.changes] == ["wilson"]
        assert news.changes[0].evidence == (
            "3 of 6 sessions failed, at least 0.188; elsewhere 2 of 102, at most 0.069; ejection 1, for 30 s"
        )

    def test_few_sessions_prove_nothing_by_the_second_rule(self) -> None:
        pool, news = watched_pool()
        succeed(pool, "b", 1000)
        fail(pool, "a", 4)
        assert news.words() == []
        succeed(pool, "a", 1)
        fail(pool, "a", 1)
        assert news.words() == ["a unknown>ejected wilson"]

    def test_old_failures_leave_the_window(self) -> None:
        pool, news = watched_pool()
        succeed(pool, "b", 1000, 0.0)
        fail(pool, "a", 4, 0.0)
        succeed(pool, "a", 20, 61.0)
        succeed(pool, "b", 1000, 61.0)
        fail(pool, "a", 1, 61.0)
        assert news.words() == []

    def test_the_others_old_failures_leave_the_window_too(self) -> None:
        pool, news = watched_pool(outlier=OutlierSettings(consecutive=1000))
        fail(pool, "b", 500, 0.0)
        pool.set_admin(pool.backends["b"], "drain", 0.0)
        news.words()
        succeed(pool, "c", 100, 100.0)
        succeed(pool, "a", 6, 100.0)
        fail(pool, "a", 6, 100.0)
        assert news.words() == ["a unknown>ejected wilson"]

    def test_one_at_a_time_in_a_small_pool(self) -> None:
        pool, _ = watched_pool("a b c d e f g h i")
        fail(pool, "a")
        fail(pool, "b", 20)
        assert [b.id for b in pool.backends.values() if b.state == "ejected"] == ["a"]

    def test_a_tenth_rounded_down_in_a_large_pool(self) -> None:
        pool, _ = watched_pool(" ".join(f"n{n}" for n in range(29)))
        for n in range(29):
            fail(pool, f"n{n}")
        assert sum(b.state == "ejected" for b in pool.backends.values()) == 2

    def test_never_the_last_usable_one(self) -> None:
        pool, _ = watched_pool("a b")
        go_down(pool, "b")
        fail(pool, "a", 50)
        assert pool.backends["a"].usable
        come_up(pool, "b")
        fail(pool, "a", 1)
        assert pool.backends["a"].state == "ejected"

    def test_switched_off_it_only_counts(self) -> None:
        pool, news = watched_pool(outlier=OutlierSettings(enabled=False))
        fail(pool, "a", 50)
        assert news.words() == []
        assert pool.backends["a"].failures_total == 50

    def test_a_passing_check_does_not_end_it(self) -> None:
        pool, news = watched_pool()
        fail(pool, "a")
        go_down(pool, "a")
        come_up(pool, "a")
        assert pool.backends["a"].state == "ejected"
        assert news.words() == ["a unknown>ejected consecutive"]

    def test_reload_without_outliers_lets_the_ejected_go(self) -> None:
        pool, news = watched_pool()
        fail(pool, "a")
        news.words()
        pool.reconfigure(make_settings(outlier=OutlierSettings(enabled=False)), 1.0)
        assert news.words() == ["a ejected>unknown operator"]
        assert pool.backends["a"].usable

    def test_reload_without_checks_lets_the_down_go(self) -> None:
        pool, _ = watched_pool()
        go_down(pool, "a")
        pool.reconfigure(make_settings(check=CheckSettings(enabled=False)), 1.0)
        assert pool.backends["a"].state == "unknown"


class TestLengthOfEjections:
    def test_it_grows_by_thirty_seconds_up_to_three_hundred(self) -> None:
        breaker = Breaker(0.0)
        lengths = []
        for _ in range(12):
            lengths.append(breaker.open(0.0, 30.0, 300.0))
            breaker.begin_probes()
        assert lengths == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]

    def test_each_minute_in_service_forgives_one(self) -> None:
        breaker = Breaker(0.0)
        for _ in range(4):
            breaker.open(0.0, 30.0, 300.0)
        breaker.close(1000.0)
        assert breaker.open(1000.0 + 59.0, 30.0, 300.0) == 150.0
        breaker.close(2000.0)
        assert breaker.open(2000.0 + 121.0, 30.0, 300.0) == 120.0
        breaker.close(3000.0)
        assert breaker.open(9000.0, 30.0, 300.0) == 30.0


class TestHalfOpen:
    def probing(self) -> Pool:
        """A pool whose backend a is on probation, at time 30."""
        self.pool, self.news = watched_pool("a b", policy="first")
        fail(self.pool, "a")
        self.pool.tick(29.9)
        assert self.pool.backends["a"].breaker.state == "open"
        self.pool.tick(30.0)
        self.news.words()
        return self.pool

    def test_the_end_of_an_ejection_is_told(self) -> None:
        pool, news = watched_pool()
        fail(pool, "a")
        pool.tick(30.0)
        assert news.words() == ["a unknown>ejected consecutive", "a ejected>ejected probe"]
        assert pool.backends["a"].state == "ejected"
        assert pool.backends["a"].usable

    def test_three_probes_at_once(self) -> None:
        pool = self.probing()
        assert picks(pool, 5, keep=True, now=30.0) == "a a a b b"
        pool.give_back(pool.backends["a"], 30.0)
        assert picks(pool, 2, keep=True, now=30.0) == "a b"

    def test_three_successes_close_it_and_slow_start_follows(self) -> None:
        pool = self.probing()
        succeed(pool, "a", 2, 31.0)
        assert pool.backends["a"].state == "ejected"
        assert pool.backends["a"].effective == 1000
        succeed(pool, "a", 1, 32.0)
        assert self.news.words() == ["a ejected>unknown probe"]
        assert pool.backends["a"].effective == 100
        assert pool.backends["a"].limit == 102
        assert picks(pool, 6, keep=True, now=32.0) == "a a a a a a"

    def test_one_failure_opens_it_again_for_longer(self) -> None:
        pool = self.probing()
        succeed(pool, "a", 2, 31.0)
        fail(pool, "a", 1, 31.0)
        assert [str(c) for c in self.news.changes] == [
            "web/a: ejected -> ejected (probe: a probe session failed; ejection 2, for 60 s)"
        ]
        assert set(picks(pool, 9).split()) == {"b"}
        pool.tick(90.9)
        assert not pool.backends["a"].usable
        pool.tick(91.0)
        assert pool.backends["a"].usable
        assert pool.backends["a"].ejections_total == 2
        succeed(pool, "a", 2, 92.0)
        assert pool.backends["a"].state == "ejected", "successes before the failure do not count"

    def test_each_probation_has_its_own_three_probes(self) -> None:
        pool = self.probing()
        a = pool.backends["a"]
        assert picks(pool, 3, keep=True, now=30.0) == "a a a"
        fail(pool, "a", 1, 30.0)
        for _ in range(3):
            pool.give_back(a, 31.0)
        pool.tick(90.0)
        assert picks(pool, 4, keep=True, now=90.0) == "a a a b"

    def test_leases_of_before_do_not_use_up_the_probes(self) -> None:
        pool, _ = watched_pool("a b", policy="first")
        for _ in range(10):
            take(pool)
        fail(pool, "a")
        pool.tick(30.0)
        assert picks(pool, 4, keep=True, now=30.0) == "a a a b"
        assert pool.backends["a"].active == 13

    def test_the_last_usable_one_goes_on_probing(self) -> None:
        pool = self.probing()
        go_down(pool, "b", 30.0)
        fail(pool, "a", 7, 30.0)
        assert pool.backends["a"].breaker.state == "half-open"
        assert picks(pool, 3, keep=True, now=30.0) == "a a a"
        assert pool.take(30.0) is None
        assert pool.refusal() is None, "it is merely full"

    def test_checks_that_fall_on_probation_take_it_out(self) -> None:
        pool = self.probing()
        go_down(pool, "a", 30.0)
        assert pool.backends["a"].state == "ejected"
        assert set(picks(pool, 5, now=30.0).split()) == {"b"}

    def test_failures_of_old_sessions_do_not_prolong_an_ejection(self) -> None:
        pool, news = watched_pool()
        fail(pool, "a", 25)
        assert len(news.words()) == 1
        pool.tick(30.0)
        assert pool.backends["a"].usable


class TestSlowStart:
    @pytest.mark.parametrize(
        ("aggression", "elapsed", "expected"),
        [(1, 0.5, 0.10), (1, 2.5, 0.25), (1, 5, 0.50), (2, 0.5, 0.224), (2, 2.5, 0.50), (2, 5, 0.707)],
    )
    def test_vectors(self, aggression: float, elapsed: float, expected: float) -> None:
        assert share(elapsed, 10.0, aggression) == pytest.approx(expected, abs=5e-4)

    @given(st.floats(0.1, 100), st.floats(0.2, 5), st.floats(0, 200))
    def test_it_only_grows_and_ends(self, window: float, aggression: float, elapsed: float) -> None:
        now, later = share(elapsed, window, aggression), share(elapsed + 1, window, aggression)
        assert 0.10 <= now <= later <= 1.0
        assert share(window, window, aggression) == 1.0

    def test_weight_and_limit_grow_with_the_ticks(self) -> None:
        pool = make_pool("a b", [4, 1], max_active=100)
        go_down(pool, "a")
        come_up(pool, "a", 100.0)
        backend, seen = pool.backends["a"], []
        for now in (100.0, 102.5, 105.0, 109.9, 110.0, 111.0):
            pool.tick(now)
            seen.append((backend.effective, backend.limit))
        assert seen == [(400, 10), (1000, 25), (2000, 50), (3960, 99), (4000, 100), (4000, 100)]

    def test_a_limit_is_at_least_one(self) -> None:
        pool = make_pool("a b", max_active=3)
        go_down(pool, "a")
        come_up(pool, "a")
        assert pool.backends["a"].limit == 1

    def test_not_at_process_start_and_not_at_the_first_pass(self) -> None:
        pool = make_pool()
        pool.check_passed(pool.backends["a"], "L4OK", 0.0)
        assert {b.effective for b in pool.backends.values()} == {1000}

    def test_after_maintenance_but_not_after_drain(self) -> None:
        pool = make_pool()
        cases: list[tuple[AdminState, int]] = [("drain", 1000), ("maint", 100)]
        for state, expected in cases:
            pool.set_admin(pool.backends["a"], state, 0.0)
            pool.set_admin(pool.backends["a"], "ready", 0.0)
            assert pool.backends["a"].effective == expected

    def test_for_backends_added_at_run_time(self) -> None:
        pool = make_pool("a")
        pool.reconfigure(make_settings("a b"), 5.0)
        assert [b.effective for b in pool.backends.values()] == [1000, 100]
        pool.tick(10.0)
        assert pool.backends["b"].effective == 500

    def test_skipped_while_everybody_is_in_it(self) -> None:
        pool = make_pool("a b c")
        for name in "abc":
            go_down(pool, name)
        come_up(pool, "a", 1.0)
        assert pool.backends["a"].effective == 1000
        come_up(pool, "b", 2.0)
        assert [pool.backends[name].effective for name in "ab"] == [1000, 1000]
        pool.tick(11.5)
        assert [pool.backends[name].effective for name in "ab"] == [1000, 950]

    def test_going_down_ends_it(self) -> None:
        pool = make_pool()
        go_down(pool, "a")
        come_up(pool, "a", 1.0)
        go_down(pool, "a", 2.0)
        come_up(pool, "a", 8.0)
        pool.tick(11.5)
        assert pool.backends["a"].effective == 350

    def test_window_nought_switches_it_off(self) -> None:
        pool = make_pool(slow_start=NO_SLOW_START)
        go_down(pool, "a")
        come_up(pool, "a")
        assert pool.backends["a"].effective == 1000

    def test_round_robin_feels_it(self) -> None:
        pool = make_pool("a b", policy="round-robin")
        go_down(pool, "a")
        come_up(pool, "a")
        assert picks(pool, 11).split().count("a") == 1


class TestOperator:
    @pytest.mark.parametrize("state", ["drain", "maint"])
    def test_the_operators_word_wins(self, state: AdminState) -> None:
        pool, news = watched_pool()
        fail(pool, "a")
        go_down(pool, "a")
        news.words()
        pool.set_admin(pool.backends["a"], state, 0.0)
        assert pool.backends["a"].state == state
        assert news.words() == [f"a ejected>{state} operator"]
        pool.set_admin(pool.backends["a"], "ready", 0.0)
        assert news.words() == [f"a {state}>ejected operator"]

    def test_drained_backends_get_nothing_but_keep_their_leases(self) -> None:
        pool = make_pool("a b")
        lease = take(pool)
        pool.set_admin(pool.backends["a"], "drain", 0.0)
        assert set(picks(pool, 9).split()) == {"b"}
        pool.give_back(lease, 0.0)
        assert pool.active == 0

    def test_weight_nought_means_drain(self) -> None:
        pool = make_pool("a b c+", [0, 1, 1])
        assert set(picks(pool, 9).split()) == {"b"}
        pool.set_weight(pool.backends["b"], 0, 0.0)
        assert set(picks(pool, 9).split()) == {"c"}
        pool.set_weight(pool.backends["c"], 0, 0.0)
        assert pool.take(0.0) is None
        assert pool.refusal() is NO_BACKEND
        pool.set_weight(pool.backends["a"], 7, 0.0)
        assert take(pool).effective == 7000


class TestNames:
    def test_unresolved_names_are_not_usable_and_have_their_own_refusal(self) -> None:
        pool, news = watched_pool("a b")
        for backend in pool.backends.values():
            pool.set_resolved(backend, False, 0.0)
        assert news.words() == ["a unknown>down dns", "b unknown>down dns"]
        assert pool.take(0.0) is None
        assert pool.refusal() is DNS
        pool.set_resolved(pool.backends["a"], True, 1.0)
        assert take(pool).id == "a"

    def test_another_trouble_beside_it_is_no_dns_failure(self) -> None:
        pool = make_pool("a b")
        pool.set_resolved(pool.backends["a"], False, 0.0)
        go_down(pool, "b")
        assert pool.refusal() is NO_BACKEND

    def test_the_first_answer_begins_no_slow_start_a_later_one_does(self) -> None:
        pool = make_pool("a b")
        pool.set_resolved(pool.backends["a"], False, 0.0)
        pool.set_resolved(pool.backends["a"], True, 0.1)
        assert pool.backends["a"].effective == 1000
        picks(pool, 4)
        pool.set_resolved(pool.backends["a"], False, 5.0)
        pool.set_resolved(pool.backends["a"], True, 6.0)
        assert pool.backends["a"].effective == 100


class TestPanic:
    def test_off_by_default(self) -> None:
        pool = make_pool("a b")
        go_down(pool, "a")
        go_down(pool, "b")
        assert pool.refusal() is NO_BACKEND

    def test_below_the_threshold_checks_and_ejections_are_ignored(self) -> None:
        pool = make_pool("a b c d", panic_threshold=50)
        fail(pool, "a")
        go_down(pool, "b")
        assert set(picks(pool, 20).split()) == {"c", "d"}, "half is not below half"
        go_down(pool, "c")
        assert pool.panic
        assert set(picks(pool, 20).split()) == set("abcd")
        come_up(pool, "c")
        assert not pool.panic
        assert set(picks(pool, 20, keep=True).split()) == {"c", "d"}

    def test_operators_are_not_ignored(self) -> None:
        pool = make_pool("a b c", panic_threshold=80)
        pool.set_admin(pool.backends["a"], "maint", 0.0)
        assert not pool.panic
        go_down(pool, "b")
        go_down(pool, "c")
        assert set(picks(pool, 20).split()) == {"b", "c"}

    def test_healthy_backups_come_before_panic(self) -> None:
        pool = make_pool("a b c+", panic_threshold=80)
        go_down(pool, "a")
        go_down(pool, "b")
        assert set(picks(pool, 9).split()) == {"c"}
        go_down(pool, "c")
        assert set(picks(pool, 9).split()) == {"a", "b"}

    def test_probation_limits_nothing_in_panic(self) -> None:
        pool = make_pool("a b", panic_threshold=90, policy="first")
        fail(pool, "a")
        pool.tick(30.0)
        go_down(pool, "b", 30.0)
        assert picks(pool, 6, keep=True, now=30.0) == "a a a a a a"


def test_a_status_line_says_what_matters() -> None:
    pool = Pool(changed(replace(make_settings("a"), max_active=None), "a", weight=3), random.random, 0.0)
    take(pool)
    assert repr(pool.backends["a"]) == ("<Backend a 127.0.0.1:9101 unknown (INI) active=1/none weight=3 effective=3>")
    assert repr(pool) == "<Pool web least-connections active=1 queued=0 open=1 serving=1 of 1>"
