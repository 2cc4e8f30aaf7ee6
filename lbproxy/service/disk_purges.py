"""What has been purged from the disk cache but may still be on it.

A purge counts from the moment it is asked for: whatever is read is held against it, until a walk over the index has
carried it out. It covers the entries written before it, which their names tell. Owns the list, which is read by several
threads and never changed in place. Refuses to know the index, where purges wait for the next process.
"""

from __future__ import annotations

import threading
from typing import Literal, NamedTuple

from lbproxy.cache.keys import host_of, url_of
from lbproxy.service.disk_entry import Entry

Kind = Literal["key", "url", "prefix", "host", "tag", "all"]

NOTHING, SOFT, GONE = range(3)

# Beyond so many that have not been carried out, all is purged: that costs hits only.
MOST = 1000


class Purge(NamedTuple):
    """One purge; `kind` and `value` are those of cache/bans.py, and "key" means one whole key. A soft one makes stale
    what was fresh at its `moment`.

    It covers names below `upto`; None as long as the thread that writes has not come to it, then it covers all.
    """

    kind: Kind
    value: bytes
    moment: float
    soft: bool
    upto: int | None = None
    number: int = 0

    def covers(self, name: int, entry: Entry) -> bool:
        """Whether the entry of this name is meant."""
        if self.upto is not None and name >= self.upto:
            return False
        # What has been confirmed since then is as good as new.
        if self.soft and entry.born > self.moment:
            return False
        if self.kind == "all":
            return True
        if self.kind == "tag":
            return entry.tags is not None and self.value in entry.tags
        if self.kind == "key":
            return entry.key == self.value
        if self.kind == "host":
            return host_of(entry.key) == self.value
        url = url_of(entry.key)
        return url == self.value if self.kind == "url" else url.startswith(self.value)


class Purges:
    """Those that have not been carried out."""

    def __init__(self) -> None:
        self._all: tuple[Purge, ...] = ()
        self._lock = threading.Lock()
        self._number = 0

    def add(self, kind: Kind, value: bytes, moment: float, *, soft: bool) -> Purge:
        """It counts from now on. When there are too many, it is one of all."""
        with self._lock:
            self._number += 1
            purge = Purge(kind, value, moment, soft, None, self._number)
            if len(self._all) >= MOST:
                purge = Purge("all", b"", moment, False, None, self._number)
                self._all = ()
            self._all = (*self._all, purge)
        return purge

    def restore(self, purges: list[Purge]) -> None:
        """Those that an earlier process has not carried out; the numbers of others change."""
        written = {one[:4] for one in purges}
        with self._lock:
            highest = max([one.number for one in purges], default=0)
            newer = [one for one in self._all if one[:4] not in written]
            self._all = (*purges, *[one._replace(number=highest + at) for at, one in enumerate(newer, 1)])
            self._number = highest + len(newer)

    def settle(self, purge: Purge, upto: int) -> Purge | None:
        """It covers names below `upto` only; None if it is not there any more or has been settled."""
        with self._lock:
            if purge not in self._all:
                return None
            settled = purge._replace(upto=upto)
            self._all = tuple(settled if one == purge else one for one in self._all)
        return settled

    def remove(self, purges: list[Purge]) -> None:
        """They have been carried out."""
        with self._lock:
            self._all = tuple(one for one in self._all if one not in purges)

    def unsettled(self) -> list[Purge]:
        """Those that the thread that writes has not come to."""
        return [one for one in self._all if one.upto is None]

    def settled(self) -> list[Purge]:
        """Those that a walk has to carry out."""
        return [one for one in self._all if one.upto is not None]

    def verdict(self, name: int, entry: Entry) -> tuple[int, float]:
        """NOTHING, SOFT or GONE; and for SOFT the moment from which on it is stale."""
        verdict, moment = NOTHING, 0.0
        for one in self._all:
            if one.covers(name, entry):
                if not one.soft:
                    return GONE, 0.0
                moment = one.moment if verdict == NOTHING else min(moment, one.moment)
                verdict = SOFT
        return verdict, moment
