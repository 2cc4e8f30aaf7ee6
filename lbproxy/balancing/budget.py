"""How many sessions of a pool may be retrying at once.

Owns the count of retries. Refuses to know which failure may be retried at all.
"""

from __future__ import annotations

_LEAST = 3
# One in five: 20 % of the active sessions (the precedent is Finagle's and Envoy's retry budget).
_ONE_IN = 5


class RetryBudget:
    """Retries active at once: at most max(3, 20 % of the active sessions), so that a failing pool is not buried."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = 0

    def allows(self, sessions: int) -> bool:
        """Whether one more retry fits beside `sessions` active sessions."""
        wanted = self.active + 1
        return wanted <= _LEAST or wanted * _ONE_IN <= sessions

    def began(self) -> None:
        """One retry more; not refused, as the caller has asked `allows`."""
        self.active += 1

    def ended(self) -> None:
        """One retry less."""
        self.active = max(0, self.active - 1)
