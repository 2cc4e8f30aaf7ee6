"""A pool: gives out leases on backends, takes them back, and lets sessions wait when all are full.

Owns the counts of leases and who gets a freed slot. Refuses to know who may be chosen (roster.py), clocks,
sockets and sessions: time comes in as a number, a waiting session as something with two verbs.

Two promises hold between any two calls: no backend has more leases than its limit allowed when they were given,
and nobody waits while a backend that they may use has a free slot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.budget import RetryBudget
from lbproxy.balancing.change import Change, ignore
from lbproxy.balancing.health import Health
from lbproxy.balancing.load_report import Report
from lbproxy.balancing.policies import POLICIES, Policy, Prepared, Random, Sampling
from lbproxy.balancing.queue import Queue, Waiter
from lbproxy.balancing.roster import Roster
from lbproxy.balancing.status import pool_status
from lbproxy.errors import NO_BACKEND, QUEUE_FULL, SHED, Outcome
from lbproxy.model import AdminState, PoolSettings

__all__ = ["Pool", "Waiter"]


class Pool:
    """The backends of one name, their leases and their queue.

    `backends` is in file order. `active` counts all leases out, those on removed backends too. `now` is monotonic
    seconds everywhere and must not run backwards. `notify` hears of each change of a backend's state, after the
    pool has taken account of it. Callbacks may call the pool again at once.
    """

    __slots__ = (
        "_attending",
        "_budget",
        "_doubtful",
        "_health",
        "_notify",
        "_pick",
        "_policy",
        "_queue",
        "_random",
        "_roster",
        "_sampling",
        "active",
        "backends",
        "settings",
    )

    def __init__(
        self, settings: PoolSettings, random: Random, now: float, notify: Callable[[Change], None] = ignore
    ) -> None:
        self.settings = settings
        self.backends: dict[str, Backend] = {s.id: Backend(s, settings, now) for s in settings.backends}
        self.active = 0
        self._random = random
        self._notify = notify
        self._health = Health(settings, self.backends)
        self._queue = Queue(settings.shed == "codel")
        self._budget = RetryBudget()
        self._attending = False
        self._doubtful = False
        self._use_policy()
        self._roster = Roster(self.backends)
        self._roster.refresh(settings, now)

    # The way of a session: take, or enqueue and be granted; at last give_back.

    def take(self, now: float, key: bytes | None = None, tried: Collection[Backend] = ()) -> Backend | None:
        """Choose a backend and count a lease on it, which one `give_back` must end; None if there is none.

        `key` is for hash policies. `tried` are backends that this session may not get again.
        """
        candidates = self._roster.untried(tried) if tried else self._roster.open
        # While slots are being handed to those who wait, a newcomer must not slip in between.
        if not candidates or (self._attending and self._queue):
            return None
        backend = self._pick(candidates, key, now)
        backend.active = active = backend.active + 1
        backend.sessions_total += 1
        self.active += 1
        if active >= backend.full_at:
            self._filled(backend)
        return backend

    def take_sticky(self, backend: Backend, now: float, tried: Collection[Backend] = ()) -> Backend | None:
        """Count a lease on just this backend, which a session is bound to; one `give_back` must end it.

        None if it may not serve such sessions (see `Backend.sticks`), is no longer part of the pool, is among `tried`
        or has no free slot. Nobody waits for one backend: a session that is told None is placed by `take` like
        any other and bound anew, or, where stickiness is strict, refused.
        """
        if not backend.sticks or backend.full or not self._owns(backend) or backend in tried:
            return None
        # As in `take`: a slot that is being handed to those who wait is not free.
        if self._attending and self._queue:
            return None
        self._lease(backend)
        return backend

    def give_back(self, backend: Backend, now: float) -> None:
        """End a lease; a freed slot goes to the first waiter that may use it."""
        active = backend.active
        backend.active = active - 1
        self.active -= 1
        if active >= backend.full_at:
            self._freed(backend, now)

    def refusal(self, tried: Collection[Backend] = ()) -> Outcome | None:
        """Why `take` gave nothing: None when usable backends are merely full, so that waiting makes sense."""
        return self._roster.refusal(tried)

    @property
    def queued(self) -> int:
        """How many sessions wait."""
        return len(self._queue)

    def enqueue(self, waiter: Waiter, now: float) -> Outcome | None:
        """Let a session wait for a slot; returns why it may not, or None.

        It hears `granted` or `dropped` later. How long it is willing to wait is its own business: see `leave`.
        """
        hopeless = self.refusal(waiter.tried)
        if hopeless is not None:
            return hopeless
        if len(self._queue) >= self.settings.queue_size:
            self._attend(now)
            if len(self._queue) >= self.settings.queue_size:
                return QUEUE_FULL
        self._queue.add(waiter, now)
        # Nothing is free, unless the caller did not ask `take` first or asked while slots were being handed out.
        if self._roster.open or self._roster.tiers.reserve:
            self._attend(now)
        return None

    def leave(self, waiter: Waiter) -> None:
        """Let a session wait no longer, without a word to it; nothing happens if it does not wait."""
        self._queue.remove(waiter)

    # What is heard of backends.

    def connected(self, backend: Backend, now: float, seconds: float) -> None:
        """A connect succeeded and took this long: a sample of latency, no proof of life."""
        backend.connects_ok_total += 1
        if self._sampling is not None:
            self._sampling.sampled(backend, seconds, now)

    def opened(self, backend: Backend, now: float) -> None:
        """A connect succeeded where it is no sample of latency, since answers are: see `answered`."""
        backend.connects_ok_total += 1

    def answered(self, backend: Backend, now: float, seconds: float) -> None:
        """A response head came so long after the last byte of its request: a sample of latency, no proof of health.

        Not for an answer that `failed` hears of: that samples failures in its own way.
        """
        if self._sampling is not None:
            self._sampling.sampled(backend, seconds, now)

    def succeeded(self, backend: Backend, now: float) -> None:
        """Traffic proved the backend alive: in HTTP, by an answer whose status is not a failing one.

        Once per session, before its `give_back`.
        """
        if backend.breaker.state == "closed":
            backend.evidence.succeeded(now)
        elif self._owns(backend):
            self._settle([self._health.succeeded(backend, now)], now)

    def failed(self, backend: Backend, now: float, elapsed: float = 0.0, *, cut: bool = False) -> None:
        """A session failed by the backend's doing: no connection after `elapsed` seconds, or with `cut` a broken one,
        no answer on it in time, or an answer with a failing status.

        Once per try, before its `give_back`. `elapsed` is the time that an answer was waited for; the length of a
        relay that was cut says nothing about latency and is left out.
        """
        if not cut:
            backend.connects_failed_total += 1
        if self._sampling is not None:
            self._sampling.failed(backend, elapsed, now)
        if self._owns(backend):
            self._settle([self._health.failed(backend, now)], now)

    def check_passed(self, backend: Backend, code: str, now: float) -> None:
        """An active check passed, with this result code."""
        if self._owns(backend):
            self._settle([self._health.check_passed(backend, code, now)], now)

    def check_failed(self, backend: Backend, code: str, now: float, detail: str = "") -> None:
        """An active check failed, with this result code; `detail` says more where there is more to say."""
        if self._owns(backend):
            usable = backend.usable
            change = self._health.check_failed(backend, code, now, detail)
            # On probation the state stays "ejected", yet the backend is usable no more.
            self._settle([change], now, certain=backend.usable is not usable)

    def set_admin(self, backend: Backend, state: AdminState, now: float) -> None:
        """The operator's word; lasts until the next reconfiguration."""
        if self._owns(backend):
            self._settle([self._health.set_admin(backend, state, now)], now, certain=True)

    def reported(self, backend: Backend, report: Report, now: float) -> None:
        """The backend's word on its own load. It lasts until it says otherwise, or is no longer asked.

        `percent` is of the operator's weight; hash policies keep their tables and let as many keys pass by as the
        weight falls short, as they do while a backend warms up. Of the operator's state and the reported one
        the stricter counts, so "ready" lifts no maintenance that the operator ordered. "down" counts at once, and
        until "up": checks do not lift it.
        """
        before = backend.reported
        if self._owns(backend) and before != before.with_report(report):
            self._settle([self._health.reported(backend, report, now)], now, certain=True)

    def set_weight(self, backend: Backend, weight: int, now: float) -> None:
        """The operator's weight; 0 lets the backend run empty. Lasts until the next reconfiguration."""
        backend.weight = weight
        if self._owns(backend):
            self._prepare()
            self._settle([], now, certain=True)

    def set_resolved(self, backend: Backend, resolved: bool, now: float) -> None:
        """Whether the name of the backend has an address; without one it is not usable."""
        if backend.resolved is not resolved and self._owns(backend):
            self._settle([self._health.set_resolved(backend, resolved, now)], now, certain=True)

    # Retries.

    @property
    def retries(self) -> int:
        """How many sessions are retrying."""
        return self._budget.active

    def may_retry(self) -> bool:
        """Whether the budget has room for one more retry."""
        return self._budget.allows(self.active)

    def retry_began(self) -> None:
        """A session began a retry; `retry_ended` must follow."""
        self._budget.began()

    def retry_ended(self) -> None:
        """That retry has come to its end."""
        self._budget.ended()

    # Time, settings, condition.

    @property
    def panic(self) -> bool:
        """Whether so few backends are usable that checks and ejections are ignored."""
        return self._roster.tiers.panic

    def tick(self, now: float) -> None:
        """Let time act: slow starts, ends of ejections, overdue waiters. Cheap when there are none."""
        if now >= self._roster.wake:
            self._settle(self._health.tick(now), now, certain=True)
        elif self._queue:
            self._attend(now)

    def reconfigure(self, settings: PoolSettings, now: float) -> list[Backend]:
        """Take over new settings; returns the backends that are no longer part of the pool.

        A backend with the same id and address keeps all it has, another address makes it a new one. New ones begin
        with slow start. Leases on removed ones are given back as before.
        """
        old, self.settings = self.settings, settings
        self._health.settings = settings
        changes: list[Change | None] = []
        kept: dict[str, Backend] = {}
        for wanted in settings.backends:
            backend = self.backends.get(wanted.id)
            if backend is None or backend.address != wanted.address:
                backend = Backend(wanted, settings, now)
                backend.begin_warm_up(now, settings.slow_start)
            else:
                if backend.admin != wanted.state:
                    changes.append(self._health.set_admin(backend, wanted.state, now))
                backend.configure(wanted, settings)
            kept[wanted.id] = backend
        removed = [backend for backend in self.backends.values() if kept.get(backend.id) is not backend]
        for backend in removed:
            backend.retire()
        # In place: the rules look at the same mapping.
        self.backends.clear()
        self.backends.update(kept)
        changes += self._health.configure(now)
        self._queue.configure(settings.shed == "codel")
        if (settings.policy, settings.bounded_load) == (old.policy, old.bounded_load):
            # The policy itself knows which of its tables are still good.
            self._prepare()
        else:
            self._use_policy()
        # Without news too: limits and the policy's lists are of the old settings.
        self._settle(changes, now, certain=True)
        return removed

    def close(self, now: float) -> None:
        """The pool is no more: nobody can wait here. Leases may still be given back."""
        while (waiter := next(self._queue.in_order(now), None)) is not None:
            self._queue.remove(waiter)
            waiter.dropped(NO_BACKEND, now)

    def status(self, now: float) -> dict[str, object]:
        """All that an operator may want to know, as plain values."""
        return pool_status(self, now)

    def __repr__(self) -> str:
        return (
            f"<Pool {self.settings.name} {self.settings.policy} active={self.active} queued={self.queued} "
            f"open={len(self._roster.open)} serving={len(self._roster.tiers.serving)} of {len(self.backends)}>"
        )

    # How it holds together.

    def _owns(self, backend: Backend) -> bool:
        """Whether the backend is still part of the pool; late news of a removed one changes nothing."""
        return self.backends.get(backend.id) is backend

    def _use_policy(self) -> None:
        settings = self.settings
        self._policy: Policy = POLICIES[settings.policy](settings, self._random)
        self._pick = self._policy.pick
        self._sampling = self._policy if isinstance(self._policy, Sampling) else None
        self._prepare()

    def _prepare(self) -> None:
        if isinstance(self._policy, Prepared):
            self._policy.prepare(list(self.backends.values()))

    def _settle(self, changes: Sequence[Change | None], now: float, *, certain: bool = False) -> None:
        """Take account of what changed, tell of it, and let those who wait have their share of it."""
        news = [change for change in changes if change is not None]
        if news or certain:
            self._roster.refresh(self.settings, now)
            self._doubtful = True
            for change in news:
                self._notify(change)
            self._attend(now)

    def _lease(self, backend: Backend) -> None:
        """Count a lease. `take` does the same without the call, since every session passes there."""
        backend.active = active = backend.active + 1
        backend.sessions_total += 1
        self.active += 1
        if active >= backend.full_at:
            self._filled(backend)

    def _filled(self, backend: Backend) -> None:
        """A lease was given out that may have been the last one."""
        if backend.probing:
            backend.breaker.probes += 1
        if backend.full:
            self._roster.list_open()

    def _freed(self, backend: Backend, now: float) -> None:
        """A lease came back to a backend that may have been full."""
        if backend.probing:
            backend.breaker.probes = max(0, backend.breaker.probes - 1)
        if not backend.full:
            self._roster.list_open()
            if self._queue:
                self._attend(now)

    def _attend(self, now: float) -> None:
        """Look after those who wait until nothing can be done for anybody.

        They are called from this one loop only. A call that comes from within finds the loop running and leaves
        the work to it; so a thousand waiters that give back at once do not nest a thousand calls deep.
        """
        if self._attending:
            return
        self._attending = True
        try:
            while self._queue:
                if self._doubtful:
                    self._doubtful = False
                    self._drop_hopeless(now)
                elif (overdue := self._queue.overdue(now)) is not None:
                    self._queue.remove(overdue)
                    overdue.dropped(SHED, now)
                elif (found := self._match(now)) is not None:
                    waiter, backend = found
                    self._queue.remove(waiter)
                    self._lease(backend)
                    waiter.granted(backend, now)
                else:
                    break
        finally:
            self._attending = False

    def _drop_hopeless(self, now: float) -> None:
        """Send away those for whom there is no usable backend any more."""
        for waiter in [w for w in self._queue.in_order(now) if self.refusal(w.tried) is not None]:
            # Asked again, as those who were just told may have changed something.
            outcome = self.refusal(waiter.tried)
            if outcome is not None and self._queue.remove(waiter):
                waiter.dropped(outcome, now)

    def _match(self, now: float) -> tuple[Waiter, Backend] | None:
        """The first waiter for whom there is a free slot, and the backend that the policy gives it."""
        if self._roster.open or self._roster.tiers.reserve:
            for waiter in self._queue.in_order(now):
                candidates = self._roster.untried(waiter.tried) if waiter.tried else self._roster.open
                if candidates:
                    return waiter, self._pick(candidates, waiter.key, now)
        return None
