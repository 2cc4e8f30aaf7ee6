"""Who waits for an answer that another request has asked for already: request collapsing.

Owns the list of those. Refuses to know what a request is, what becomes of its answer, and the clock: leaders and
waiters are whoever is handed in. A flight ends when it is closed; who waits then is told by who closed it.
"""

from __future__ import annotations

from typing import Any

from lbproxy.cache.values import Stored


class Flight:
    """One request that others wait for. `leader` made it, at `began`; at most `most` wait. `stored` is the answer while
    its body is coming, and `vary` what it varies by. `bans` is the number of the last ban at its beginning.
    """

    __slots__ = ("_most", "bans", "began", "key", "leader", "stored", "vary", "waiters")

    def __init__(self, key: bytes, leader: Any, began: float, most: int) -> None:
        self.key = key
        self.leader = leader
        self.began = began
        self.waiters: list[Any] = []
        self.stored: Stored | None = None
        self.vary: tuple[bytes, ...] = ()
        self._most = most
        self.bans = 0

    def join(self, waiter: Any) -> bool:
        """Let this one wait too; False if too many do."""
        if len(self.waiters) >= self._most:
            return False
        self.waiters.append(waiter)
        return True

    def leave(self, waiter: Any) -> None:
        """This one waits no more; nothing happens if it did not."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)


class Flights:
    """All of them, by key; `most` bounds the waiters of each."""

    __slots__ = ("_by_key", "most")

    def __init__(self, most: int) -> None:
        self._by_key: dict[bytes, Flight] = {}
        self.most = most

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: bytes) -> Flight | None:
        """The flight of this key that is under way."""
        return self._by_key.get(key)

    def open(self, key: bytes, leader: Any, began: float) -> Flight:
        """A new one, which takes the place of one that is under way: that one's leader still tells its waiters."""
        flight = self._by_key[key] = Flight(key, leader, began, self.most)
        return flight

    def end(self, flight: Flight) -> None:
        """Nobody can join this one any more."""
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
