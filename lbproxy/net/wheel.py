"""A coarse timer wheel: one place for the deadlines of all sessions.

Owns when to ask somebody "is your time up?"; refuses to know what a deadline means. Nobody is asked early by
the wheel's own doing, and at most one tick late. An entry whose deadline moved further away stays where it is and
answers with the time that is left when it is asked, so that moving bytes never touches the wheel.

After G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 6, with the re-asking
in place of the hierarchy: a deadline beyond one turn of the wheel is simply asked once per turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

TICK = 0.1
SLOTS = 512
# Instead of a slot: not in the wheel, or about to be asked in the turn at hand.
_OUT = -1
_DUE = -2


class Timed(Protocol):
    """Somebody with a deadline. `slot` belongs to the wheel: negative while not in one of its slots, -1 at first."""

    slot: int

    def expire(self, now: float) -> float | None:
        """Look at the clock: act on what is due, and return the seconds to wait before being asked again.

        None means never again.
        """


class Wheel:
    """Slots of `tick` seconds; `now` is the coarse time (monotonic seconds, at most a tick old)."""

    __slots__ = ("_broken", "_position", "_slots", "now", "tick")

    def __init__(
        self, now: float, broken: Callable[[Timed, Exception], None], *, tick: float = TICK, slots: int = SLOTS
    ) -> None:
        """Start at `now`. An exception out of `expire` goes to `broken` and ends that entry's stay, no other's."""
        self.now = now
        self.tick = tick
        self._position = int(now / tick)
        self._slots: list[set[Timed]] = [set() for _ in range(slots)]
        self._broken = broken

    def add(self, timed: Timed, delay: float) -> None:
        """Ask `timed` once `delay` seconds from `now` (the coarse time) have passed, or after a turn of the wheel."""
        slots = self._slots
        # Two ticks more than the division says: `now` may be a tick old, and the slot at hand may be half over.
        ticks = len(slots) - 1 if delay >= (len(slots) - 3) * self.tick else int(delay / self.tick) + 2
        timed.slot = slot = (self._position + ticks) % len(slots)
        slots[slot].add(timed)

    def discard(self, timed: Timed) -> None:
        """Take `timed` out; nothing happens when it is not in the wheel."""
        if timed.slot >= 0:
            self._slots[timed.slot].discard(timed)
        timed.slot = _OUT

    def sooner(self, timed: Timed, delay: float) -> None:
        """Make sure that `timed` is asked within `delay` seconds; an earlier question stays."""
        if timed.slot == _DUE:
            return
        if timed.slot >= 0:
            left = (timed.slot - self._position) % len(self._slots) * self.tick
            if left <= delay + 2 * self.tick:
                return
            self.discard(timed)
        self.add(timed, delay)

    def advance(self, now: float) -> None:
        """Let the time be `now` and ask all whose slots have passed. A jump of any length asks each at most once."""
        target = int(now / self.tick)
        self.now = now
        steps = min(target - self._position, len(self._slots))
        first = target - steps + 1
        self._position = target
        for position in range(first, target + 1):
            index = position % len(self._slots)
            due = self._slots[index]
            if due:
                self._slots[index] = set()
                for timed in due:
                    timed.slot = _DUE
                for timed in due:
                    self._ask(timed, now)

    def _ask(self, timed: Timed, now: float) -> None:
        if timed.slot != _DUE:  # left the wheel while an earlier one of the same slot was asked
            return
        timed.slot = _OUT
        try:
            delay = timed.expire(now)
        except Exception as problem:
            self._broken(timed, problem)
            return
        if delay is not None and timed.slot == _OUT:
            self.add(timed, 0.0 if math.isnan(delay) or delay < 0 else delay)

    def __iter__(self) -> Iterator[Timed]:
        """Everybody in the wheel."""
        return chain.from_iterable(self._slots)

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def __bool__(self) -> bool:
        return any(self._slots)
