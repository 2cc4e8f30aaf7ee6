"""The pool's promises under any order of events: a machine that hypothesis drives against a simple model."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.change import Change
from lbproxy.balancing.load_report import Report
from lbproxy.balancing.pool import Pool
from lbproxy.errors import QUEUE_FULL
from lbproxy.model import AdminState, BackendSettings, PolicyName, PoolSettings
from lbproxy.model_http import LoadReport
from tests.balancing.balancing_doubles import Session, make_settings

NAMES = "a b c d x+ y+"
KEYS = st.sampled_from([None, b"one", b"two", b"three"])
POLICIES: list[PolicyName] = [
    "least-connections",
    "round-robin",
    "random",
    "p2c",
    "peak-ewma",
    "ketama",
    "rendezvous",
    "first",
]


class PoolLife(RuleBasedStateMachine):
    """Knows who holds which lease and who waits; everything else it asks the pool in the open."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.leases: list[Backend] = []
        self.waiting: list[Session] = []
        self.changes: list[Change] = []
        self.chance = random.Random(7)

    @initialize(
        policy=st.sampled_from(POLICIES),
        shed=st.sampled_from(["none", "codel"]),
        limit=st.sampled_from([1, 2, 3, None]),
        size=st.sampled_from([0, 3, 20]),
        panic=st.sampled_from([0, 0, 60]),
        bound=st.sampled_from([None, 1.25]),
        names=st.sampled_from([NAMES, "a", "a b", "a b c x+", "x+ y+"]),
    )
    def start(self, policy: PolicyName, limit: int | None, size: int, panic: int, names: str, **rest: Any) -> None:
        wanted = make_settings(
            names,
            policy=policy,
            max_active=limit,
            queue_size=size,
            panic_threshold=panic,
            bounded_load=rest["bound"],
            shed=rest["shed"],
        )
        self.pool = Pool(wanted, self.chance.random, 0.0, self.changes.append)

    def some(self, data: st.DataObject) -> Backend:
        return data.draw(st.sampled_from(list(self.pool.backends.values())), "backend")

    def told(self, session: Session) -> None:
        """A session heard something: it waits no longer, and a lease it got is now held."""
        self.waiting.remove(session)
        if session.backend is None:
            return
        assert session.backend not in session.tried
        self.leases.append(session.backend)
        # Some act at once, from within the call.
        action = self.chance.randrange(6)
        if action == 0:
            self.back(len(self.leases) - 1)
        elif action == 1 and self.waiting:
            other = self.chance.choice(self.waiting)
            self.pool.leave(other)
            self.waiting.remove(other)
        elif action == 2:
            self.come(None, session.priority, [session.backend])
        elif action == 3:
            self.back(len(self.leases) - 1)
            self.come(None, session.priority, [session.backend])

    def back(self, place: int) -> None:
        self.pool.give_back(self.leases.pop(place), self.now)

    def come(self, key: bytes | None, priority: int, tried: list[Backend]) -> None:
        """A session comes as sessions do: take, else ask why, else wait."""
        backend = self.pool.take(self.now, key, tried)
        if backend is not None:
            assert backend not in tried
            assert backend.active <= backend.limit
            self.leases.append(backend)
            return
        session = Session(key=key, priority=priority, tried=tried, then=self.told)
        refusal = self.pool.refusal(tried)
        # It may be told before `enqueue` returns.
        self.waiting.append(session)
        outcome = self.pool.enqueue(session, self.now)
        if refusal is not None:
            assert outcome is refusal
        if outcome is not None:
            assert outcome in (refusal, QUEUE_FULL)
            self.waiting.remove(session)

    @rule(key=KEYS, priority=st.integers(0, 9), data=st.data(), count=st.integers(1, 4))
    def sessions_come(self, key: bytes | None, priority: int, data: st.DataObject, count: int) -> None:
        backends = list(self.pool.backends.values())
        places = st.sets(st.integers(0, len(backends) - 1), max_size=2) if backends else st.just(set())
        tried = [backends[place] for place in data.draw(places, "tried")]
        for _ in range(count):
            self.come(key, priority, tried)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), well=st.booleans(), told=st.booleans())
    def a_session_ends(self, data: st.DataObject, well: bool, told: bool) -> None:
        place = data.draw(st.integers(0, len(self.leases) - 1), "lease")
        backend = self.leases.pop(place)
        if told and well:
            self.pool.connected(backend, self.now, 0.01)
            self.pool.succeeded(backend, self.now)
        elif told:
            self.pool.failed(backend, self.now, 0.5)
        self.pool.give_back(backend, self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiter_leaves(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.waiting), "waiter")
        self.pool.leave(session)
        self.waiting.remove(session)

    @precondition(lambda self: self.pool.backends)
    @rule(data=st.data(), passed=st.booleans(), times=st.integers(1, 3))
    def checks_speak(self, data: st.DataObject, passed: bool, times: int) -> None:
        backend = self.some(data)
        for _ in range(times):
            if passed:
                self.pool.check_passed(backend, "L4OK", self.now)
            else:
                self.pool.check_failed(backend, "L4CON", self.now)

    @precondition(lambda self: self.pool.backends)
    @rule(data=st.data())
    def traffic_fails(self, data: st.DataObject) -> None:
        backend = self.some(data)
        for _ in range(5):
            self.pool.failed(backend, self.now, 0.01)

    @precondition(lambda self: self.pool.backends)
    @rule(data=st.data(), state=st.sampled_from(["ready", "ready", "drain", "maint"]))
    def the_operator_speaks(self, data: st.DataObject, state: AdminState) -> None:
        self.pool.set_admin(self.some(data), state, self.now)

    @precondition(lambda self: self.pool.backends)
    @rule(data=st.data(), weight=st.sampled_from([0, 1, 1, 5]))
    def the_operator_weighs(self, data: st.DataObject, weight: int) -> None:
        self.pool.set_weight(self.some(data), weight, self.now)

    @precondition(lambda self: self.pool.backends)
    @rule(data=st.data(), resolved=st.booleans())
    def a_name_changes(self, data: st.DataObject, resolved: bool) -> None:
        self.pool.set_resolved(self.some(data), resolved, self.now)

    @precondition(lambda self: self.pool.backends)
    @rule(
        data=st.data(),
        report=st.builds(
            Report,
            percent=st.sampled_from([None, None, 0, 50, 100, 100]),
            max_active=st.sampled_from([None, None, 1, 4]),
            state=st.sampled_from([None, "ready", "ready", "drain", "maint"]),
            down=st.sampled_from([None, False, False, True]),
        ),
    )
    def a_backend_speaks(self, data: st.DataObject, report: Report) -> None:
        self.pool.reported(self.some(data), report, self.now)

    @precondition(lambda self: self.pool.backends)
    @rule(data=st.data(), count=st.integers(1, 3))
    def bound_sessions_come(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            backend = self.some(data)
            serves, full = backend.sticks, backend.full
            lease = self.pool.take_sticky(backend, self.now)
            assert (lease is backend) == (serves and not full)
            assert serves or not backend.usable
            if lease is not None:
                assert lease.active <= lease.limit
                self.leases.append(lease)

    @rule(pause=st.sampled_from([0.05, 0.5, 3.0, 31.0, 100.0]))
    def time_goes_by(self, pause: float) -> None:
        self.now += pause
        self.pool.tick(self.now)

    @rule(data=st.data(), limit=st.sampled_from([1, 2, 5, None]), policy=st.sampled_from(POLICIES))
    def a_reload(self, data: st.DataObject, limit: int | None, policy: PolicyName) -> None:
        ids = data.draw(st.lists(st.sampled_from("abcdxyz"), min_size=0, max_size=5, unique=True), "ids")
        ports = st.sampled_from([9101, 9102])
        wanted = tuple(
            BackendSettings(
                id=name,
                address=Address("ip", "127.0.0.1", data.draw(ports, "port")),
                weight=data.draw(st.sampled_from([0, 1, 3]), "weight"),
                backup=name in "xy",
            )
            for name in ids
        )
        before = dict(self.pool.backends)
        new: PoolSettings = replace(self.pool.settings, backends=wanted, max_active=limit, policy=policy)
        new = replace(new, load_report=data.draw(st.sampled_from([None, LoadReport(port=1)]), "asked"))
        removed = self.pool.reconfigure(new, self.now)
        assert list(self.pool.backends) == ids
        for one in wanted:
            kept = before.get(one.id)
            assert (self.pool.backends[one.id] is kept) == (kept is not None and kept.address == one.address)
        assert set(removed) == {b for b in before.values() if self.pool.backends.get(b.id) is not b}

    @invariant()
    def leases_are_conserved(self) -> None:
        if not hasattr(self, "pool"):
            return
        held = Counter(map(id, self.leases))
        assert self.pool.active == len(self.leases)
        for backend in {*self.leases, *self.pool.backends.values()}:
            assert backend.active == held[id(backend)]

    @invariant()
    def those_who_wait_are_those_the_pool_knows(self) -> None:
        if hasattr(self, "pool"):
            assert self.pool.queued == len(self.waiting)
            assert all(session.waits for session in self.waiting)

    @invariant()
    def nobody_waits_beside_a_free_slot_or_in_vain(self) -> None:
        if not hasattr(self, "pool"):
            return
        backends = self.pool.backends.values()
        fit = [b for b in backends if b.usable and not b.backup]
        spare = [b for b in backends if b.usable and b.backup]
        serving, reserve = (fit, spare) if fit else (spare, [])
        if self.pool.panic:
            wanted = [b for b in backends if b.wanted and b.resolved]
            primaries = [b for b in wanted if not b.backup]
            serving = primaries if fit or (primaries and not spare) else [b for b in wanted if b.backup]
        for session in self.waiting:
            mine = [b for b in serving if b not in session.tried] or [b for b in reserve if b not in session.tried]
            assert mine, "waits in vain"
            assert all(b.full for b in mine), "waits beside a free slot"

    @invariant()
    def some_rules_hold_for_each_backend(self) -> None:
        if not hasattr(self, "pool"):
            return
        for backend in self.pool.backends.values():
            assert backend.limit >= 1
            assert backend.effective <= backend.weight * 1000
            assert (backend.effective == 0) == (backend.weight == 0 or backend.reported.percent == 0)
            assert backend.breaker.probes <= 3

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert all(change.old != change.new or change.reason == "probe" for change in self.changes)
        while self.leases:
            self.back(0)
        # All leases are back: whoever has waited for a slot has been served, and holds a lease no more.
        assert self.pool.active == 0
        assert self.waiting == []


PoolLife.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestPoolLife = PoolLife.TestCase
