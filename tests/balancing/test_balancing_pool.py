"""What a pool promises about leases, backups, refusals, retries and reloads (sections 2, 20, 21)."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from lbproxy.addresses import Address
from lbproxy.balancing.change import Change
from lbproxy.balancing.pool import Pool
from lbproxy.errors import NO_BACKEND
from lbproxy.model import OutlierSettings, SlowStartSettings
from tests.balancing.balancing_doubles import (
    Session,
    changed,
    come_up,
    go_down,
    make_pool,
    make_settings,
    picks,
    take,
    watched_pool,
)


class TestLeases:
    def test_taking_counts_and_giving_back_uncounts(self) -> None:
        pool = make_pool("a b")
        leases = [take(pool) for _ in range(5)]
        assert (pool.active, [b.active for b in pool.backends.values()]) == (5, [3, 2])
        for lease in leases:
            pool.give_back(lease, 0.0)
        assert (pool.active, [b.active for b in pool.backends.values()]) == (0, [0, 0])
        assert sum(b.sessions_total for b in pool.backends.values()) == 5

    def test_no_backend_gets_more_than_its_limit(self) -> None:
        pool = Pool(changed(make_settings("a b", max_active=2), "b", max_active=1), random.random, 0.0)
        assert sorted(picks(pool, 3, keep=True).split()) == ["a", "a", "b"]
        assert pool.take(0.0) is None
        assert pool.refusal() is None, "full is no failure: the session may wait"

    def test_without_limit(self) -> None:
        pool = make_pool("a", max_active=None)
        picks(pool, 5000, keep=True)
        assert pool.backends["a"].limit == math.inf
        assert pool.active == 5000

    def test_the_default_limit_is_that_of_the_pool(self) -> None:
        assert make_pool("a").backends["a"].limit == 1024

    def test_tried_backends_are_not_offered_again(self) -> None:
        pool = make_pool("a b c")
        a, b, c = pool.backends.values()
        assert take(pool, tried=[a, b]) is c
        assert take(pool, tried={a, c}) is b
        assert pool.take(0.0, None, [a, b, c]) is None
        assert pool.refusal([a, b, c]) is NO_BACKEND
        assert pool.refusal([a]) is None

    def test_an_empty_pool_has_no_backend(self) -> None:
        pool = make_pool("")
        assert pool.take(0.0) is None
        assert pool.refusal() is NO_BACKEND
        assert pool.enqueue(Session(), 0.0) is NO_BACKEND


class TestBackups:
    def test_they_serve_only_without_usable_primary(self) -> None:
        pool = make_pool("a b x+")
        go_down(pool, "a")
        assert set(picks(pool, 9).split()) == {"b"}
        go_down(pool, "b")
        assert set(picks(pool, 9).split()) == {"x"}
        come_up(pool, "a")
        assert set(picks(pool, 9).split()) == {"a"}

    def test_full_primaries_do_not_call_them(self) -> None:
        pool = make_pool("a x+", max_active=1)
        take(pool)
        assert pool.take(0.0) is None
        assert pool.refusal() is None

    def test_a_session_that_tried_all_primaries_may_use_them(self) -> None:
        pool = make_pool("a b x+", max_active=1)
        a, b, x = pool.backends.values()
        assert take(pool, tried=[a]) is b
        assert pool.take(0.0, None, [a]) is None, "b is merely full"
        assert take(pool, tried=[a, b]) is x
        assert pool.take(0.0, None, [a, b]) is None
        assert pool.refusal([a, b]) is None
        assert pool.refusal([a, b, x]) is NO_BACKEND

    def test_a_pool_of_backups_only_serves(self) -> None:
        assert set(picks(make_pool("x+ y+"), 4).split()) == {"x", "y"}


class TestRetryBudget:
    @pytest.mark.parametrize(("active", "allowed"), [(0, 3), (15, 3), (19, 3), (20, 4), (100, 20)])
    def test_three_or_a_fifth_of_the_active(self, active: int, allowed: int) -> None:
        pool = make_pool(max_active=None)
        picks(pool, active, keep=True) if active else None
        began = 0
        while pool.may_retry():
            pool.retry_began()
            began += 1
        assert began == allowed == pool.retries
        pool.retry_ended()
        assert pool.may_retry()


class TestReload:
    def test_unchanged_backends_keep_everything(self) -> None:
        pool, news = watched_pool("a b")
        go_down(pool, "a")
        lease = take(pool)
        pool.connected(lease, 0.0, 0.05)
        backends = dict(pool.backends)
        news.words()
        assert pool.reconfigure(make_settings("a b", tries=2), 9.0) == []
        assert pool.backends == backends
        assert pool.settings.tries == 2
        assert (pool.backends["a"].state, pool.backends["a"].since) == ("down", 0.0)
        assert (lease.active, lease.connects_ok_total) == (1, 1)
        assert news.words() == []

    def test_a_new_address_is_a_new_backend(self) -> None:
        pool = make_pool("a b")
        old = pool.backends["a"]
        go_down(pool, "a")
        moved = changed(pool.settings, "a", address=Address("ip", "127.0.0.1", 9))
        assert pool.reconfigure(moved, 1.0) == [old]
        assert pool.backends["a"] is not old
        assert (pool.backends["a"].state, pool.backends["a"].effective) == ("unknown", 100)
        assert list(pool.backends) == ["a", "b"]

    def test_leases_on_removed_backends_come_back_without_trouble(self) -> None:
        pool, news = watched_pool("a b", max_active=1)
        lease = pool.backends["a"]
        assert take(pool) is lease
        take(pool)
        waiting = Session()
        assert pool.enqueue(waiting, 0.0) is None
        assert pool.reconfigure(replace(pool.settings, backends=pool.settings.backends[1:]), 1.0) == [lease]
        pool.give_back(pool.backends["b"], 1.0)
        assert waiting.backend is pool.backends["b"]
        for _ in range(9):
            pool.failed(lease, 1.0, 0.0)
            pool.check_failed(lease, "L4CON", 1.0)
        pool.succeeded(lease, 1.0)
        pool.set_admin(lease, "drain", 1.0)
        pool.set_weight(lease, 3, 1.0)
        pool.set_resolved(lease, False, 1.0)
        pool.give_back(lease, 1.0)
        assert (pool.active, lease.active) == (1, 0)
        assert news.words() == []
        assert "a" not in pool.backends

    def test_limits_weights_and_operator_states_apply(self) -> None:
        pool, news = watched_pool("a b", max_active=1)
        picks(pool, 2, keep=True)
        waiting = [Session() for _ in range(3)]
        for session in waiting:
            pool.enqueue(session, 0.0)
        wanted = changed(make_settings("a b", [5, 1], max_active=3), "b", state="drain")
        pool.reconfigure(wanted, 1.0)
        assert news.words() == ["b unknown>drain operator"]
        assert [s.backend and s.backend.id for s in waiting] == ["a", "a", None]
        assert pool.backends["a"].weight == 5
        pool.reconfigure(replace(wanted, max_active=1), 2.0)
        pool.give_back(pool.backends["a"], 2.0)
        pool.give_back(pool.backends["a"], 2.0)
        assert waiting[2].waits
        pool.give_back(pool.backends["a"], 2.0)
        assert waiting[2].backend is pool.backends["a"]

    def test_the_file_wins_over_what_the_operator_said_meanwhile(self) -> None:
        pool = make_pool("a b")
        pool.set_admin(pool.backends["a"], "drain", 0.0)
        pool.set_weight(pool.backends["b"], 9, 0.0)
        pool.reconfigure(make_settings("a b"), 1.0)
        assert [(b.admin, b.weight) for b in pool.backends.values()] == [("ready", 1), ("ready", 1)]

    def test_a_new_policy_takes_over(self) -> None:
        pool = make_pool("a b")
        picks(pool, 3)
        pool.reconfigure(make_settings("a b", policy="ketama"), 1.0)
        assert len({take(pool, key=b"k").id for _ in range(9)}) == 1
        pool.reconfigure(make_settings("a b", policy="first"), 1.0)
        assert picks(pool, 3) == "a a a"

    def test_a_new_bound_takes_over(self) -> None:
        pool = make_pool("a b", policy="ketama")
        pool.reconfigure(make_settings("a b", policy="ketama", bounded_load=1.25), 1.0)
        assert {take(pool, key=b"k").id for _ in range(9)} == {"a", "b"}

    def test_labels_follow_the_settings(self) -> None:
        pool = make_pool("a b", policy="ketama")
        pool.reconfigure(make_settings("a b", policy="ketama", label="address"), 1.0)
        assert [b.label for b in pool.backends.values()] == ["127.0.0.1:9101", "127.0.0.1:9102"]

    def test_removing_all_sends_away_those_who_wait(self) -> None:
        pool = make_pool("a", max_active=1)
        take(pool)
        waiting = Session()
        pool.enqueue(waiting, 0.0)
        pool.reconfigure(make_settings(""), 1.0)
        assert waiting.outcome is NO_BACKEND

    def test_a_new_window_for_outliers_starts_from_nothing(self) -> None:
        pool = make_pool("a b")
        pool.failed(pool.backends["a"], 0.0, 0.0)
        pool.reconfigure(make_settings("a b", outlier=OutlierSettings(window=10.0)), 1.0)
        assert pool.backends["a"].evidence.window == 10.0


class TestTick:
    def test_an_idle_pool_does_nothing(self) -> None:
        pool = make_pool()
        before = pool._roster.open
        pool.tick(5.0)
        pool.tick(1e6)
        assert pool._roster.open is before

    def test_slow_start_ends_by_itself_and_ticks_are_idle_again(self) -> None:
        pool = make_pool(slow_start=SlowStartSettings(window=1.0))
        go_down(pool, "a")
        come_up(pool, "a")
        pool.tick(1.0)
        before = pool._roster.open
        assert pool.backends["a"].effective == 1000
        pool.tick(2.0)
        assert pool._roster.open is before


class TestNotify:
    def test_the_pool_has_taken_account_of_the_change_before_it_tells(self) -> None:
        seen = []

        def listen(change: Change) -> None:
            seen.append((change.new, picks(pool, 4)))

        pool = Pool(make_settings("a b"), random.Random(1).random, 0.0, listen)
        go_down(pool, "a")
        assert seen == [("down", "b b b b")]

    def test_a_listener_may_call_the_pool(self) -> None:
        def listen(change: Change) -> None:
            if change.new == "down":
                pool.set_admin(pool.backends[change.backend], "maint", 0.0)

        pool = Pool(make_settings("a b"), random.Random(1).random, 0.0, listen)
        go_down(pool, "a")
        assert pool.backends["a"].state == "maint"


class TestStatus:
    def test_it_is_plain_and_complete(self) -> None:
        pool = make_pool("a b+", [2, 1], max_active=10)
        lease = take(pool)
        pool.connected(lease, 0.0, 0.01)
        pool.failed(lease, 0.0, 0.0)
        pool.failed(lease, 0.0, 0.0, cut=True)
        go_down(pool, "b", 3.0)
        status = pool.status(5.0)
        backends = status.pop("backends")
        assert status == {
            "pool": "web",
            "policy": "least-connections",
            "check": "tcp",
            "active": 1,
            "queued": 0,
            "retries": 0,
            "usable": 1,
            "panic": False,
            "sessions_total": 1,
            "reuses_total": 0,
            "connects_ok_total": 1,
            "connects_failed_total": 1,
            "failures_total": 2,
            "ejections_total": 0,
            "checks_ok_total": 0,
            "checks_failed_total": 3,
        }
        assert isinstance(backends, list)
        assert [b["id"] for b in backends] == ["a", "b"]
        assert backends[1] == {
            "id": "b",
            "address": "127.0.0.1:9102",
            "state": "down",
            "reason": "L4CON",
            "admin": "ready",
            "reported": None,
            "breaker": "closed",
            "checks": "down",
            "resolved": True,
            "since_seconds": 2.0,
            "weight": 1,
            "effective": 1.0,
            "active": 0,
            "limit": 10,
            "backup": True,
            "sessions_total": 0,
            "reuses_total": 0,
            "connects_ok_total": 0,
            "connects_failed_total": 0,
            "failures_total": 0,
            "ejections_total": 0,
            "checks_ok_total": 0,
            "checks_failed_total": 3,
        }
