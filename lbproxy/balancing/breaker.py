"""The circuit breaker of one backend: closed, open (ejected), half-open (proving itself).

Owns the three states, the length of an ejection and the count of probes. Refuses to know why a backend is ejected
and whether the pool can spare it.
"""

from __future__ import annotations

import math
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]

# Probe sessions at once in half-open, and successes in a row that close the breaker.
PROBES = 3
# One past ejection is forgiven for each such time spent in service, in seconds.
_FORGIVEN_AFTER = 60.0


class Breaker:
    """One backend's breaker.

    `ejections` is k of the ejection's length: the number of ejections less those forgiven. `until` is when an open
    breaker becomes half-open, monotonic seconds. `probes` counts leases given out in half-open and not yet back.

    A lease has no identity, so one that was out before the ejection and ends in half-open passes for a probe: that
    allows one probe more for a moment, where the other reading could block the probes until old relays end.
    """

    __slots__ = ("_closed_at", "ejections", "probes", "state", "successes", "until")

    def __init__(self, now: float) -> None:
        self.state: BreakerState = "closed"
        self.ejections = 0
        self.until = math.inf
        self.probes = 0
        self.successes = 0
        self._closed_at = now

    def open(self, now: float, step: float, longest: float) -> float:
        """Eject for `step` seconds times k, at most `longest`; returns the length."""
        if self.state == "closed":
            self.ejections = max(0, self.ejections - int((now - self._closed_at) / _FORGIVEN_AFTER))
        self.ejections += 1
        length = min(longest, step * self.ejections)
        self.state = "open"
        self.until = now + length
        return length

    def begin_probes(self) -> None:
        """The ejection is over: let a few sessions try."""
        self.state = "half-open"
        self.until = math.inf
        self.probes = 0
        self.successes = 0

    def probe_succeeded(self) -> bool:
        """A session went well in half-open; whether that was enough to close."""
        self.successes += 1
        return self.successes >= PROBES

    def close(self, now: float) -> None:
        """Back in service; past ejections are remembered and forgiven with time."""
        self.state = "closed"
        self.until = math.inf
        self._closed_at = now

    def __repr__(self) -> str:
        return f"<Breaker {self.state} k={self.ejections} probes={self.probes}>"
