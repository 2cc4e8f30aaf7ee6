"""One backend of a pool while it serves: its counts, its weight of the moment and whether it may be chosen.

Owns what changes about a backend and the one sentence on "usable". Refuses to know the other backends, the rules
that move its states (health.py) and how it is reached.
"""

from __future__ import annotations

import math
from typing import Literal

from lbproxy.addresses import Address
from lbproxy.balancing.breaker import PROBES, Breaker
from lbproxy.balancing.checks import Checks
from lbproxy.balancing.load_report import NOTHING_REPORTED
from lbproxy.balancing.outlier import Evidence
from lbproxy.balancing.slow_start import share
from lbproxy.model import AdminState, BackendSettings, PoolSettings, SlowStartSettings

State = Literal["unknown", "up", "down", "ejected", "drain", "maint"]
# The largest weight that can be configured, in thousandths: what a backend says of itself may not exceed it.
_HEAVIEST = 256_000


class Backend:
    """A backend and all that changes about it.

    `weight` and `admin` are the operator's word, `reported` is what the backend says of itself. `effective` is the
    weight in thousandths after both and slow start: what policies use. `limit` is the most leases at once, after the
    same, `math.inf` for none; `active` counts the leases out, `reuses_total` those served on a connection that was
    open already. `label` is what hash policies know it by. `reason` and `since` (monotonic seconds) belong to `state`.
    `forced` tells that the pool is in panic and serves from here whatever checks and traffic say.

    `turn` (smooth round robin's counter), `estimate` and `sampled_at` (peak EWMA, seconds; `sampled_at` is minus
    infinity before the first sample) are the policy's; they live here so that they survive a reload.
    """

    __slots__ = (
        "active",
        "address",
        "admin",
        "backup",
        "breaker",
        "checks",
        "checks_failed_total",
        "checks_ok_total",
        "connects_failed_total",
        "connects_ok_total",
        "effective",
        "ejections_total",
        "estimate",
        "evidence",
        "failures_total",
        "forced",
        "full_at",
        "id",
        "label",
        "limit",
        "max_active",
        "probing",
        "reason",
        "reported",
        "resolved",
        "reuses_total",
        "sampled_at",
        "sessions_total",
        "settings",
        "since",
        "turn",
        "warm_since",
        "weight",
    )

    def __init__(self, settings: BackendSettings, pool: PoolSettings, now: float) -> None:
        self.id = settings.id
        self.address: Address = settings.address
        self.active = 0
        self.resolved = True
        self.reported = NOTHING_REPORTED
        self.forced = False
        self.checks = Checks()
        self.breaker = Breaker(now)
        self.evidence = Evidence(pool.outlier.window)
        self.reason = "INI"
        self.since = now
        self.warm_since: float | None = None
        self.probing = False
        self.turn = 0
        self.estimate = 0.0
        self.sampled_at = -math.inf
        self.sessions_total = 0
        self.reuses_total = 0
        self.connects_ok_total = 0
        self.connects_failed_total = 0
        self.failures_total = 0
        self.ejections_total = 0
        self.checks_ok_total = 0
        self.checks_failed_total = 0
        self.configure(settings, pool)

    def configure(self, settings: BackendSettings, pool: PoolSettings) -> None:
        """Take over what the configuration says: weight, limit, operator state, label. Counts and health stay."""
        self.settings = settings
        self.backup = settings.backup
        self.weight = settings.weight
        self.admin: AdminState = settings.state
        self.label = settings.id if pool.label == "id" else str(settings.address)
        self.max_active = pool.max_active if settings.max_active is None else settings.max_active
        self.warm(1.0)

    @property
    def state(self) -> State:
        """The one word for its condition: what the operator or it itself wants wins over an ejection, that over what
        checks say. Of two wishes the stricter one counts.
        """
        admin, reported = self.admin, self.reported
        if admin != "ready" or reported.state != "ready":
            return "maint" if "maint" in (admin, reported.state) else "drain"
        if self.breaker.state != "closed":
            return "ejected"
        return self.checks.state if self.resolved and not reported.down else "down"

    @property
    def wanted(self) -> bool:
        """Whether the operator and it itself want it chosen: ready, and of some weight. (Weight 0 means drain.)"""
        return self.admin == "ready" and self.weight > 0 and self.reported.wanted

    @property
    def usable(self) -> bool:
        """Whether it may be chosen at all, full or not."""
        return (
            self.admin == "ready"
            and self.weight > 0
            and self.resolved
            and self.checks.state != "down"
            and self.breaker.state != "open"
            and self.reported.admits
        )

    @property
    def sticks(self) -> bool:
        """Whether it may serve sessions that are bound to it, full or not: also while it drains, or with weight 0."""
        return self.forced or (
            self.admin != "maint"
            and self.reported.state != "maint"
            and not self.reported.down
            and self.resolved
            and self.checks.state != "down"
            and self.breaker.state != "open"
        )

    @property
    def full(self) -> bool:
        """Whether it has no free slot: its limit is reached, or it is on probation and all probes are out."""
        return self.active >= self.limit or (self.probing and self.breaker.probes >= PROBES)

    def begin_warm_up(self, now: float, slow_start: SlowStartSettings) -> None:
        """It is back, or new: let it have its full weight only after the window."""
        self.warm_since = now if slow_start.window > 0 else None

    def warm_up(self, now: float, slow_start: SlowStartSettings) -> float:
        """The share of its weight that slow start grants at `now`; forgets a slow start that has ended."""
        if self.warm_since is None:
            return 1.0
        factor = share(now - self.warm_since, slow_start.window, slow_start.aggression)
        if factor >= 1.0:
            self.warm_since = None
        return factor

    def warm(self, factor: float) -> None:
        """Set `effective` and `limit` to this share of what was configured and reported; a limit is at least 1."""
        reported = self.reported
        weight = min(_HEAVIEST, self.weight * 10 * reported.percent)
        self.effective = max(1, round(weight * factor)) if weight else 0
        most = self.max_active if reported.max_active is None else reported.max_active
        self.limit: float = math.inf if most is None else max(1, math.floor(most * factor))
        self.watch_slots()

    def watch_slots(self) -> None:
        """Set `full_at`, the count of leases from which on taking and giving back concern the pool's lists.

        That is the limit; on probation each lease concerns it, since probes are counted.
        """
        self.full_at: float = 0 if self.probing else self.limit

    def retire(self) -> None:
        """It has left its pool: the leases that are still out concern no list any more."""
        self.probing = False
        self.forced = False
        self.full_at = math.inf

    def __repr__(self) -> str:
        limit = "none" if self.limit == math.inf else f"{self.limit:.0f}"
        return (
            f"<Backend {self.id} {self.address} {self.state} ({self.reason}) active={self.active}/{limit} "
            f"weight={self.weight} effective={self.effective / 1000:g}>"
        )
