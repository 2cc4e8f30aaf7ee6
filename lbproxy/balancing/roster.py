"""Who may be chosen now: the backends in service, and those of them with a free slot.

Owns these lists and works them out anew when something has changed, slow start included. Refuses to know who
asks, who waits and which one is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.tier import Tiers, refusal, tiers
from lbproxy.errors import Outcome
from lbproxy.model import PoolSettings


class Roster:
    """`open` are the backends in service with a free slot, in file order; always a new list when they change.

    `tiers` are those in service, full or not. `wake` is when time alone will change something (monotonic seconds,
    infinity for never).
    """

    __slots__ = ("_backends", "open", "tiers", "wake")

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = backends
        self.tiers = Tiers([], [])
        self.open: list[Backend] = []
        self.wake = math.inf

    def refresh(self, settings: PoolSettings, now: float) -> None:
        """Work out who serves, with which weight and limit."""
        backends = self._backends.values()
        self.tiers = found = tiers(backends, settings.panic_threshold)
        self.wake = math.inf
        shares = [backend.warm_up(now, settings.slow_start) for backend in backends]
        # With everybody cold there is nobody to spare them.
        together = all(backend.warm_since is not None for backend in found.serving)
        for backend, share in zip(backends, shares, strict=True):
            backend.probing = backend.breaker.state == "half-open" and not found.panic
            backend.forced = found.panic and backend in found.serving
            backend.warm(1.0 if together else share)
            # While anybody warms up, each tick is a step.
            self.wake = min(self.wake, backend.breaker.until if backend.warm_since is None else now)
        self.list_open()

    def list_open(self) -> None:
        """Somebody became full, or is full no more."""
        # Never changed in place: policies may keep sums over the list they were given.
        self.open = [backend for backend in self.tiers.serving if not backend.full]

    def untried(self, tried: Collection[Backend]) -> list[Backend]:
        """Who is left for a session that may not use `tried`; the reserve, if it has tried all who serve."""
        left = [backend for backend in self.open if backend not in tried]
        found = self.tiers
        if left or not found.reserve or any(backend not in tried for backend in found.serving):
            return left
        return [backend for backend in found.reserve if backend not in tried and not backend.full]

    def refusal(self, tried: Collection[Backend]) -> Outcome | None:
        """Why nobody is left; None when they are merely full."""
        return refusal(self.tiers, self._backends.values(), tried)
