"""How many clients may be within their handshake, and how many begin one in a turn of the reactor.

The first step of a handshake is the dearest thing that a stranger can ask for (a key exchange and a signature).
Sessions under way come first: a turn begins a few and leaves the rest to the next ones, as HAProxy does with its heavy
tasks. Owns the queue; refuses to know TLS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

# Begun in one turn, about 2 ms of work. A quiet turn is no event: the allowance is renewed after a while too (seconds).
_AT_ONCE = 8
_RENEWED_AFTER = 0.005
# With all places taken, a client that has kept one this long without finishing makes room for one that waits. The
# longer the queue, the shorter this is: it must not take longer to get through it than anybody would wait.
PATIENCE = 1.0
LEAST_PATIENCE = 0.1


class Shaker(Protocol):
    """A client that wants to begin its handshake; `waits` turns False when it is gone."""

    @property
    def waits(self) -> bool:
        """Whether it still wants to."""

    def begin_handshake(self) -> None:
        """Now it may."""

    def broken(self, problem: BaseException) -> None:
        """Beginning raised `problem`, which is a fault of ours: end it."""

    def give_way(self) -> None:
        """Its handshake takes too long, and others wait: end it."""


class Call(Protocol):
    """Something that will be called; see IDelayedCall."""

    def cancel(self) -> None:
        """Do not."""


class Handshakes:
    """The places of one worker; `limit` of them (threats.md L18)."""

    def __init__(
        self, limit: int, clock: Callable[[], float], later: Callable[[float, Callable[[], None]], Call]
    ) -> None:
        """`clock` is monotonic seconds; `later` calls after so many, with 0 in the next turn of the reactor."""
        self.limit = limit
        self._clock = clock
        self._later = later
        self._under_way: dict[Shaker, float] = {}
        self._waiting: deque[Shaker] = deque()
        self._left = _AT_ONCE
        self._renewed = clock()
        self._call: Call | None = None
        self._due = 0.0

    @property
    def under_way(self) -> int:
        """How many have begun and not ended."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """How many have not begun; those who gave up meanwhile are counted until their turn."""
        return len(self._waiting)

    def enter(self, shaker: Shaker) -> None:
        """Begin its handshake, now or when there is room."""
        now = self._clock()
        if now - self._renewed > _RENEWED_AFTER:
            self._left = _AT_ONCE
            self._renewed = now
        if self._waiting or not self._left or not self._has_room(now):
            self._waiting.append(shaker)
            self._schedule(now)
        else:
            self._begin(shaker, now)

    def leave(self, shaker: Shaker) -> None:
        """Its handshake is over, if it had begun."""
        if self._under_way.pop(shaker, None) is not None and self._waiting:
            self._schedule(self._clock())

    def _has_room(self, now: float) -> bool:
        if len(self._under_way) < self.limit:
            return True
        oldest, since = next(iter(self._under_way.items()))
        if now - since < self._patience():
            return False
        self._under_way.pop(oldest)
        oldest.give_way()
        return len(self._under_way) < self.limit

    def _patience(self) -> float:
        return max(LEAST_PATIENCE, PATIENCE * self.limit / (self.limit + len(self._waiting)))

    def _begin(self, shaker: Shaker, now: float) -> None:
        self._under_way[shaker] = now
        self._left -= 1
        try:
            shaker.begin_handshake()
        except Exception as problem:
            shaker.broken(problem)

    def _schedule(self, now: float) -> None:
        """Look again in the next turn, or when the oldest has had its time."""
        delay = 0.0
        if len(self._under_way) >= self.limit:
            delay = max(0.0, self._patience() - (now - next(iter(self._under_way.values()))))
        if self._call is not None:
            if self._due <= now + delay:
                return
            self._call.cancel()
        self._due = now + delay
        self._call = self._later(delay, self._turn)

    def _turn(self) -> None:
        self._call = None
        now = self._renewed = self._clock()
        self._left = _AT_ONCE
        while self._left > 0 and self._somebody_waits() and self._has_room(now):
            self._begin(self._waiting.popleft(), now)
        if self._waiting:
            self._schedule(now)

    def _somebody_waits(self) -> bool:
        """Whether anybody is still there; nobody makes room for those who are not."""
        while self._waiting and not self._waiting[0].waits:
            self._waiting.popleft()
        return bool(self._waiting)
