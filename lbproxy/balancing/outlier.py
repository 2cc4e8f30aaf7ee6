"""What live traffic says about one backend: failures in a row, and a failure rate set against the others'.

Owns the evidence and the two rules that read it. Refuses to know what an ejection does, and how many are allowed.
"""

from __future__ import annotations

import math

# 95 % confidence, two-sided.
_Z = 1.96
# A rate that is surely worse than the others' may still be harmless; below this floor nobody is taken out.
_FLOOR = 0.10
# Slices of the window: finer ones forget more smoothly and cost memory; a sixtieth is one second by default.
_SLICES = 60


# A backend that does not do what was asked for, or does not speak this version, is not ill (RFC 9110, section 15.6).
_HEALTHY = (501, 505)


def failing_status(status: int) -> bool:
    """Whether an answer of this status is the backend's failure: 500 to 599, but not 501 and 505."""
    return 500 <= status <= 599 and status not in _HEALTHY


def wilson(failures: int, sessions: int) -> tuple[float, float]:
    """The lower and the upper Wilson bound of a failure rate (E. B. Wilson, 1927), z = 1.96.

    Nothing seen means nothing known: (0, 1).
    """
    if sessions <= 0:
        return 0.0, 1.0
    rate, square = failures / sessions, _Z * _Z
    middle = rate + square / (2 * sessions)
    spread = _Z * math.sqrt(rate * (1 - rate) / sessions + square / (4 * sessions * sessions))
    scale = 1 + square / sessions
    # Rounding may carry a bound of an extreme rate a hair outside.
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def is_outlier(failures: int, sessions: int, other_failures: int, other_sessions: int) -> bool:
    """Whether this failure rate is surely above that of all the others together, and not just a trifle."""
    low = wilson(failures, sessions)[0]
    return low >= _FLOOR and low > wilson(other_failures, other_sessions)[1]


class Evidence:
    """How the latest sessions of one backend went.

    `consecutive` counts failures in a row; `sessions` and `failures` count verdicts of the last `window` seconds,
    as of the last call that told the time.
    """

    __slots__ = ("_failed", "_seen", "_slice", "_width", "consecutive", "failures", "sessions", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._width = window / _SLICES
        self.forget()

    def forget(self) -> None:
        """Start from nothing, so that failures already punished are not counted twice."""
        self.consecutive = 0
        self.sessions = 0
        self.failures = 0
        self._slice = -1
        self._seen = [0] * _SLICES
        self._failed = [0] * _SLICES

    def succeeded(self, now: float) -> None:
        """One session went well."""
        self.consecutive = 0
        current = int(now / self._width)
        if current != self._slice:
            self._advance(current)
        self._seen[current % _SLICES] += 1
        self.sessions += 1

    def failed(self, now: float) -> None:
        """One session failed by the backend's doing."""
        self.consecutive += 1
        current = int(now / self._width)
        if current != self._slice:
            self._advance(current)
        self._seen[current % _SLICES] += 1
        self._failed[current % _SLICES] += 1
        self.sessions += 1
        self.failures += 1

    def expire(self, now: float) -> None:
        """Drop what has left the window."""
        current = int(now / self._width)
        if current != self._slice:
            self._advance(current)

    def _advance(self, current: int) -> None:
        for passed in range(max(self._slice + 1, current - _SLICES + 1), current + 1):
            place = passed % _SLICES
            self.sessions -= self._seen[place]
            self.failures -= self._failed[place]
            self._seen[place] = self._failed[place] = 0
        self._slice = current

    def __repr__(self) -> str:
        return f"<Evidence {self.failures} of {self.sessions} failed, {self.consecutive} in a row>"
