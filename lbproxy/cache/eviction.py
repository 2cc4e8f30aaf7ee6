"""Which stored answer goes when there is no room: S3-FIFO, counted in bytes (Yang et al., SOSP 2023).

Owns the two queues, the memory of what has been evicted, and the sums of bytes. Refuses to know keys' meanings,
variants and who asks. What is new waits in a small queue; what was asked for twice there moves to the main one, where
each visit buys one more turn; what comes back soon after its eviction goes to the main queue at once. So a scan of
things that nobody asks for again passes through the small queue and moves nothing else, and a hit moves nothing at all.

A queue holds keys, each an object of its own: removing an answer costs no search, its body is free at once, and the
place that it leaves is swept up little by little.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable

from lbproxy.cache.values import OVERHEAD, Stored

VISITS = 3  # the bits of Stored.visits that count; it counts no further
IN_MAIN = 4  # the bit that tells the queue

SMALL_SHARE = 10  # the small queue has one part in ten of the bytes
_MOVES = 1  # more visits than this in the small queue, and it moves to the main one
_STEPS = 256  # places looked at per call beyond those that the bytes call for; half of them may show mercy
_SWEPT = 4  # places looked at per change while there are dead ones: four keep the dead ones fewer than the live

_STAMP = (1 << 24) - 1
_WORD = (1 << 64) - 1
_PRINT = _WORD ^ _STAMP
_GHOST_BYTES = 1024  # of the limit, for each ghost
_PAGE = 1024

Live = Callable[[bytes], Stored | None]
"""The stored answer whose `key` is this very object, None when it is gone."""


class Ghosts:
    """Hashes of what was evicted lately, in a table of eight bytes each: a newer one may take the place of an older.

    A wrong answer costs no more than a place in the wrong queue.
    """

    __slots__ = ("_added", "_pages")

    def __init__(self, most: int) -> None:
        # Pages are made when they are written to: a store that never fills up has none.
        self._pages: list[array[int] | None] = [None] * -(-most // _PAGE)
        self._added = 0

    @property
    def slots(self) -> int:
        """How many it can remember, if no two want the same place."""
        return len(self._pages) * _PAGE

    def add(self, name: int) -> None:
        """Remember this hash."""
        self._added += 1
        number, slot = divmod(name % self.slots, _PAGE)
        page = self._pages[number]
        if page is None:
            page = self._pages[number] = array("Q", bytes(8 * _PAGE))
        page[slot] = (name & _PRINT) | (self._added & _STAMP)

    def take(self, name: int, newest: int) -> bool:
        """Whether this hash is among the `newest` that were added; it is forgotten."""
        number, slot = divmod(name % self.slots, _PAGE)
        page = self._pages[number]
        if page is None or (page[slot] ^ name) & _PRINT or (self._added - page[slot]) & _STAMP >= newest:
            return False
        page[slot] = 0
        return True


class Queue:
    """Keys first in, first out. `bytes` and `count` are of the live ones among them."""

    __slots__ = ("_back", "_front", "bytes", "count")

    def __init__(self) -> None:
        # What the sweep has passed is in front, what it has yet to look at behind it.
        self._front: deque[bytes] = deque()
        self._back: deque[bytes] = deque()
        self.bytes = self.count = 0

    def __len__(self) -> int:
        """Places, the dead ones included."""
        return len(self._front) + len(self._back)

    def push(self, stored: Stored) -> None:
        """Put it last."""
        self._back.append(stored.key)
        self.bytes += stored.size
        self.count += 1

    def pop(self, live: Live) -> Stored | None:
        """Take the first place; None if nobody is there any more."""
        stored = live((self._front or self._back).popleft())
        if stored is not None:
            self.forget(stored)
        return stored

    def forget(self, stored: Stored) -> None:
        """It is gone; its place is dead."""
        self.bytes -= stored.size
        self.count -= 1

    def sweep(self, live: Live) -> None:
        """Look at the next few places for dead ones, if there are any."""
        if len(self) == self.count:
            return
        for _ in range(_SWEPT):
            if not self._back:
                self._front, self._back = self._back, self._front
            key = self._back.popleft()
            if live(key) is not None:
                self._front.append(key)
            if len(self) == self.count:
                return


class Eviction:
    """The queues of a store. `limit` is in bytes; `live` tells who a key in a queue stands for.

    What is added has its `size` set, and a `key` that is an object of its own.
    """

    __slots__ = ("_ghosts", "_limit", "_live", "main", "small")

    def __init__(self, limit: int, live: Live) -> None:
        self.small = Queue()
        self.main = Queue()
        self._live = live
        self.limit = limit

    @property
    def limit(self) -> int:
        """What all may count for together, in bytes. Who lowers it has to `evict` afterwards."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._ghosts = Ghosts(limit // _GHOST_BYTES + 1)

    @property
    def used(self) -> int:
        """What all count for, in bytes."""
        return self.small.bytes + self.main.bytes

    def add(self, stored: Stored) -> None:
        """It is new."""
        if self._ghosts.take(_name(stored), self.small.count + self.main.count):
            stored.visits = IN_MAIN
            self.main.push(stored)
        else:
            stored.visits = 0
            self.small.push(stored)
        self._sweep()

    def replace(self, old: Stored, new: Stored) -> None:
        """It takes over the place, the visits and the key of `old`."""
        new.key, new.visits = old.key, old.visits
        self._queue(new).bytes += new.size - old.size

    def change(self, stored: Stored, size: int) -> None:
        """It counts for this much now, in bytes."""
        self._queue(stored).bytes += size - stored.size
        stored.size = size

    def drop(self, stored: Stored) -> None:
        """It has been removed: `live` knows it no more."""
        self._queue(stored).forget(stored)
        self._sweep()

    def evict(self, room: int, gone: Callable[[Stored], None]) -> bool:
        """Evict until `room` more bytes fit, and call `gone` with each victim. Its place is free already.

        At most so many places are looked at as `room` bytes can have been taken by, and some hundreds more; half of
        them get their second chance. False: more would have to go than can be found so. The next call goes on.
        """
        most = self._limit - room
        steps = _STEPS + 2 * (room // OVERHEAD)
        mercy = steps // 2
        small, main, live = self.small, self.main, self._live
        share = self._limit // SMALL_SHARE
        while small.bytes + main.bytes > most:
            if not steps:
                return False
            steps -= 1
            if not main.count or (small.count and small.bytes > share):
                stored = small.pop(live)
                if stored is None:
                    continue
                if stored.visits > _MOVES and steps >= mercy:
                    stored.visits = IN_MAIN
                    main.push(stored)
                    continue
                self._ghosts.add(_name(stored))
            else:
                stored = main.pop(live)
                if stored is None:
                    continue
                if stored.visits & VISITS and steps >= mercy:
                    stored.visits -= 1
                    main.push(stored)
                    continue
            gone(stored)
        return True

    def _queue(self, stored: Stored) -> Queue:
        return self.main if stored.visits & IN_MAIN else self.small

    def _sweep(self) -> None:
        self.small.sweep(self._live)
        self.main.sweep(self._live)


def _name(stored: Stored) -> int:
    return (hash(stored.key) ^ hash(stored.variant)) & _WORD
