"""How hard to compress, from how busy compressing has kept us.

Owns the measure, the share of the last second that was spent compressing, and what is done about it. Refuses to know
clocks: it is told how long each piece took, and when.
"""

from __future__ import annotations

from math import exp

# The measure forgets at this pace, in seconds.
_MEMORY = 1.0
# Above the first share a rung is left for the next one, below the second it is left for the one before: without a gap
# between them every answer would change it, as less work makes for a lower share.
_LEAVE_UP = (0.5, 0.8)
_LEAVE_DOWN = (0.3, 0.5)
_FULL, _LOW, _NONE = 0, 1, 2
# The lowest levels that are worth it. br at 1 sees no further than the piece it is given, so that gzip packs better.
_LOW_LEVELS = {b"zstd": 1, b"br": 2, b"gzip": 1}


class Effort:
    """The measure of one worker. A share may be above 1 where several threads compress."""

    __slots__ = ("_busy", "_measured", "_rung")

    def __init__(self) -> None:
        self._busy = 0.0
        self._measured = 0.0
        self._rung = _FULL

    def note(self, busy_seconds: float, now: float) -> None:
        """A piece of work that took so long has ended now."""
        self._busy = self.share(now) + busy_seconds / _MEMORY
        self._measured = max(now, self._measured)

    def share(self, now: float) -> float:
        """How much of the last second was spent compressing; what is older counts less and less."""
        return self._busy * exp(-max(0.0, now - self._measured) / _MEMORY) if self._busy else 0.0

    def level(self, wanted: int, coding: bytes, now: float) -> int | None:
        """The level to compress the next body at, where `wanted` is configured; None to send it as it is."""
        share, rung = self.share(now), self._rung
        while rung < _NONE and share > _LEAVE_UP[rung]:
            rung += 1
        while rung > _FULL and share < _LEAVE_DOWN[rung - 1]:
            rung -= 1
        self._rung = rung
        if rung == _NONE:
            return None
        return wanted if rung == _FULL else min(wanted, _LOW_LEVELS[coding])
