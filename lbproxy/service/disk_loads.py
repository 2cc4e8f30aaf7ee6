"""What is being read from the disk for requests, and how long anybody waits for it.

Owns the reads in flight, their bound in number and in time, and the bodies that are open: an entry that is asked for
again shares its file. A read that comes too late, or that a purge has overtaken, has found nothing. Refuses to know
what is on the disk, and who asks for it.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from lbproxy.cache.values import Stored
from lbproxy.service.disk_body import GrowingFile, OpenBody
from lbproxy.service.disk_loading import Found, Loading, VariantOf
from lbproxy.service.disk_threads import Threads

# A disk that takes longer is of no use to a request.
LOAD_SECONDS = 2.0
MOST_LOADS = 128
THREADS = 4

Then = Callable[[Stored | None, tuple[bytes, ...]], None]


class Load:
    """One read; `then` is None when it has been answered."""

    __slots__ = ("due", "key", "then")

    def __init__(self, key: bytes, then: Then) -> None:
        self.key = key
        self.then: Then | None = then
        self.due: Any = None


class Loads:
    """All reads of one disk."""

    def __init__(
        self,
        reactor: Any,
        loading: Loading,
        counts: Counter[str],
        most_open: int,
        broken: Callable[[list[int]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """At most `most_open` files are open for bodies. `broken` hears of names to be removed, `failed` of reads that
        were not possible; both in the reactor.
        """
        self._reactor = reactor
        self._loading = loading
        self._counts = counts
        self._most_open = most_open
        self._broken = broken
        self._failed = failed
        self._threads = Threads("lbproxy-disk-read", THREADS)
        self._flying: set[Load] = set()
        # Those that a thread has not come back from, answered or not.
        self._asked = 0
        self._bodies: WeakValueDictionary[int, OpenBody] = WeakValueDictionary()
        self._growing: WeakSet[GrowingFile] = WeakSet()

    def start(self) -> None:
        """Begin to read."""
        self._threads.start()

    def stop(self) -> None:
        """Whoever waits gets nothing, and what grows fails: nothing more of it will be written."""
        self.overtake(None)
        for growing in list(self._growing):
            growing.fail()
        self._threads.stop()

    @property
    def crowded(self) -> bool:
        """Whether too many files are open."""
        return len(self._bodies) + len(self._growing) >= self._most_open

    def grows(self, growing: GrowingFile) -> None:
        """This one is open too."""
        self._growing.add(growing)

    def load(self, key: bytes, variant_of: VariantOf, then: Then) -> None:
        """See Disk.load()."""
        if not self._threads.running or self._asked >= MOST_LOADS:
            self._reactor.callFromThread(then, None, ())
            return
        load = Load(key, then)
        self._flying.add(load)
        self._asked += 1
        load.due = self._reactor.callLater(LOAD_SECONDS, self._late, load)
        self._threads.tell(partial(self._find, load, variant_of))

    def overtake(self, key: bytes | None) -> None:
        """What is being read of this key, None for all, is not to be used any more."""
        for load in list(self._flying):
            if key is None or load.key == key:
                self._answer(load, None, ())

    def read(self, call: Callable[[], bytes | None], then: Callable[[bytes | None], None]) -> None:
        """See Elsewhere."""
        if self._threads.running:
            self._threads.tell(partial(self._read, call, then))
        else:
            self._reactor.callFromThread(then, None)

    def close(self, descriptor: int) -> None:
        """See Elsewhere."""
        if self._threads.running:
            self._threads.tell(partial(os.close, descriptor))
        else:
            os.close(descriptor)

    def _find(self, load: Load, variant_of: VariantOf) -> None:
        found: Found | None = None
        problem: Exception | None = None
        broken: list[int] = []
        try:
            if load.then is not None:
                found = self._loading.find(load.key, variant_of, broken)
        except sqlite3.ProgrammingError:
            # It has just been closed.
            pass
        except Exception as caught:
            problem = caught
        self._reactor.callFromThread(self._found, load, found, broken, problem)

    def _found(self, load: Load, found: Found | None, broken: list[int], problem: Exception | None) -> None:
        self._asked -= 1
        if broken:
            self._broken(broken)
        if problem is not None:
            self._failed(problem)
        if found is None:
            self._answer(load, None, ())
            return
        body = self._body(found, wanted=load.then is not None)
        self._answer(load, None if body is None else found.entry.stored(body), found.entry.vary)

    def _body(self, found: Found, *, wanted: bool) -> bytes | OpenBody | None:
        if isinstance(found.body, bytes):
            return found.body
        shared = self._bodies.get(found.name)
        if shared is None and wanted and not self.crowded:
            shared = self._bodies[found.name] = OpenBody(found.body, found.length, self)
        else:
            self.close(found.body)
        return shared

    def _answer(self, load: Load, stored: Stored | None, vary: tuple[bytes, ...]) -> None:
        then, load.then = load.then, None
        if then is None:
            return
        self._flying.discard(load)
        if load.due.active():
            load.due.cancel()
        if stored is not None:
            self._counts["hits"] += 1
        then(stored, vary if stored is not None else ())

    def _late(self, load: Load) -> None:
        self._counts["late"] += 1
        self._answer(load, None, ())

    def _read(self, call: Callable[[], bytes | None], then: Callable[[bytes | None], None]) -> None:
        data = None
        try:
            data = call()
        except Exception as problem:
            self._reactor.callFromThread(self._failed, problem)
        self._reactor.callFromThread(then, data)
