"""The sessions of a pool that wait for a slot, in the order in which they are served.

Owns the order: priority classes, first in first out, newest first under overload. Refuses to know backends, and
who is told what: the pool does that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Protocol

from lbproxy.balancing.backend import Backend
from lbproxy.errors import Outcome

# Classes 0 to 9, 0 first.
_CLASSES = 10
# CoDel as a queue's rule (B. Maurer, "Fail at Scale", ACM Queue 2015): a queue that has not been empty for
# _OVERLOADED seconds makes nobody wait longer than _PATIENCE seconds.
_OVERLOADED = 0.5
_PATIENCE = 0.1


class Waiter(Protocol):
    """A session that waits. Exactly one of its two verbs is called, once, unless it leaves first."""

    @property
    def key(self) -> bytes | None:
        """Its hash key."""
        ...

    @property
    def priority(self) -> int:
        """Its class, 0 (first) to 9."""
        ...

    @property
    def tried(self) -> Collection[Backend]:
        """Backends it may not use again."""
        ...

    def granted(self, backend: Backend, now: float) -> None:
        """Its turn has come: it has a lease on this backend, already counted."""
        ...

    def dropped(self, outcome: Outcome, now: float) -> None:
        """Its wait is over without a backend."""
        ...


class Queue:
    """Who waits. With `codel` the queue turns round under overload: newest first, and the old ones are overdue.

    All but iteration costs the same however long the queue is.
    """

    __slots__ = ("_codel", "_lines", "_places", "_waiting_since")

    def __init__(self, codel: bool) -> None:
        self._codel = codel
        # By identity, as a waiter may define equality.
        self._lines: list[OrderedDict[int, tuple[Waiter, float]]] = [OrderedDict() for _ in range(_CLASSES)]
        self._places: dict[int, int] = {}
        self._waiting_since = 0.0

    def configure(self, codel: bool) -> None:
        """Switch shedding on or off; who waits goes on waiting."""
        self._codel = codel

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, waiter: Waiter) -> bool:
        return id(waiter) in self._places

    def add(self, waiter: Waiter, now: float) -> None:
        """Let it wait at the end of its class. It must not wait already."""
        if not self._places:
            self._waiting_since = now
        place = min(max(waiter.priority, 0), _CLASSES - 1)
        self._lines[place][id(waiter)] = (waiter, now)
        self._places[id(waiter)] = place

    def remove(self, waiter: Waiter) -> bool:
        """Let it wait no longer; whether it did."""
        place = self._places.pop(id(waiter), None)
        if place is None:
            return False
        del self._lines[place][id(waiter)]
        return True

    def overloaded(self, now: float) -> bool:
        """Whether the queue has not been empty for half a second, and somebody asked for shedding."""
        return self._codel and bool(self._places) and now - self._waiting_since >= _OVERLOADED

    def overdue(self, now: float) -> Waiter | None:
        """Somebody who has waited too long in an overloaded queue."""
        if self.overloaded(now):
            for line in self._lines:
                for waiter, since in line.values():
                    if now - since >= _PATIENCE:
                        return waiter
                    break
        return None

    def in_order(self, now: float) -> Iterator[Waiter]:
        """Everybody in the order of service. The queue must not change meanwhile."""
        newest_first = self.overloaded(now)
        for line in self._lines:
            if line:
                for waiter, _ in reversed(line.values()) if newest_first else line.values():
                    yield waiter

    def __repr__(self) -> str:
        return f"<Queue {len(self)} waiting{' codel' if self._codel else ''}>"
