"""Stored answers that outlive the process, on a disk that may be slow, full, broken or gone.

Owns what the reactor sees of it: which keys there are, what waits to be written, and what is said of failures.
Everything that touches a file is done in threads. Whatever goes wrong there costs hits and is counted; it costs no
request anything.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lbproxy.cache.bans import Kind
from lbproxy.cache.body import Body
from lbproxy.cache.values import Stored
from lbproxy.model_cache import MIB, DiskSettings
from lbproxy.service.disk_body import GrowingFile, OpenBody
from lbproxy.service.disk_entry import Entry, digest_of, entry_of
from lbproxy.service.disk_files import Files
from lbproxy.service.disk_growing import Draft, Drafts
from lbproxy.service.disk_loading import Loading, VariantOf
from lbproxy.service.disk_loads import Loads, Then
from lbproxy.service.disk_purges import Kind as PurgeKind
from lbproxy.service.disk_purges import Purges
from lbproxy.service.disk_shelf import Shelf
from lbproxy.service.disk_threads import Threads
from lbproxy.service.disk_writing import REST_SECONDS, News, Writing

STOP_SECONDS = 5.0
# The log has at most one line in so many seconds.
_QUIET_SECONDS = 60.0
# So many changes wait for a disk that does not answer; no more are made then.
_MOST_CHANGES = 10_000
# What waits counts for more than its bytes.
_WAITING = 500


class Disk:
    """The disk cache of one directory. Everything is called, and calls back, in the reactor.

    `files` are the entries there are, `bytes` what they take. `counts` are of entries: "written", "updated",
    "replaced", "evicted", "purged", "broken" (found so and removed), "dropped" (not written: too much waited, or the
    disk had failed); of reads: "loads", "hits", "late"; "unknown" of files that were nobody's, and "errors".
    `last_error` is a sentence, None as long as there was none.
    """

    log = Logger()

    def __init__(
        self,
        settings: DiskSettings,
        reactor: Any,
        *,
        variants: int = 32,
        queue: int = 32 * MIB,
        most_open: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        files: Files | None = None,
    ) -> None:
        """`reactor` is an IReactorTime and an IReactorFromThreads. At most `variants` of one key are kept, `queue`
        bytes wait to be written, and `most_open` files are open for bodies.
        """
        self.path = settings.path
        self.files = self.bytes = 0
        self.counts: Counter[str] = Counter()
        self.last_error: str | None = None
        self._reactor = reactor
        self._clock = clock
        self._queue = queue
        self._known: Counter[int] = Counter()
        self._open = self._opening = self._running = self._all_purged = False
        self._changes = 0
        self._rest_until = self._quiet_until = float("-inf")
        files = files or Files(settings.path)
        self._purges = Purges()
        loading = Loading(files, self._purges)
        self._loads = Loads(reactor, loading, self.counts, most_open, self._take_broken, self._read_failed)
        self._writing = Writing(files, self._purges, loading, self._tell, clock, variants)
        self._threads = Threads("lbproxy-disk-write", 1, self._writing.idle)
        self._drafts = Drafts(reactor, self._threads.tell, self._writing, files, self._loads, queue)
        self._store = files
        self.configure(settings)

    def start(self) -> None:
        """Open it. As long as that takes, there is nothing in it; when it fails, it is tried again later."""
        self._running = True
        self._threads.start()
        self._loads.start()
        self._usable()

    def stop(self) -> Deferred[None]:
        """Write what waits, within some seconds, and close. Bodies cannot be loaded any more; what is open can be
        sent.
        """
        stopped: Deferred[None] = Deferred()
        if not self._running:
            stopped.callback(None)
            return stopped
        self._running = self._open = False
        self._known.clear()
        self._loads.stop()
        late = self._reactor.callLater(STOP_SECONDS, self._hurry, stopped)

        def closed() -> None:
            if not stopped.called:
                late.cancel()
                stopped.callback(None)

        self._threads.tell(self._writing.close)
        self._threads.tell(partial(self._reactor.callFromThread, closed))
        self._threads.stop()
        return stopped

    def configure(self, settings: DiskSettings) -> None:
        """Have these bounds from now on; the path stays what it was."""
        self._drafts.limit = settings.size
        self._max_object = min(settings.max_object, settings.size)
        if self._running:
            self._change(lambda shelf: shelf.evict(settings.size - self._drafts.room))

    def find(self, key: bytes) -> bool:
        """Whether there is something under this key. It may turn out that there is nothing of use."""
        return self._usable() and digest_of(key) in self._known

    def load(self, key: bytes, variant_of: VariantOf, then: Then) -> None:
        """Read the answer under this key whose variant is what `variant_of` makes of the names in its Vary, and call
        `then` later with it and with these names; with None and () when there is none, or none in time.

        `variant_of` is called in another thread. The body is bytes up to 64 KiB, else a FileBody. What has been purged
        here is not found; `checked` is 0, to be set by who knows the bans.
        """
        self.counts["loads"] += 1
        self._loads.load(key, variant_of, then)

    def keep(self, stored: Stored, vary: tuple[bytes, ...]) -> bool:
        """Write it later, in place of what it replaces. Its body is complete, or a file of `begin` that is finished.
        False: it is not written, now.
        """
        body = stored.body
        entry = entry_of(stored, vary)
        if isinstance(body, GrowingFile):
            draft = body.sink
            return isinstance(draft, Draft) and not body.failed and self._write(partial(draft.place, entry), _WAITING)
        if isinstance(body, OpenBody):
            # It has come from here.
            self.update(stored, vary)
            return True
        if isinstance(body, Body) and (not body.complete or body.passing):
            return False
        data = body.whole() if isinstance(body, Body) else body
        if not isinstance(data, bytes) or len(data) > self._max_object:
            return False
        return self._write(partial(self._keep, entry, data), len(data) + len(entry.lines) + _WAITING)

    def update(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        """Its lines and its times are these now, its body is what it was (RFC 9111, section 4.3.4)."""
        if self.find(stored.key):
            entry, body = entry_of(stored, vary), stored.body
            length = len(body) if isinstance(body, bytes) else body.length
            self._write(partial(Shelf.update, entry=entry, length=length), len(stored.lines) + _WAITING)

    def drop(self, key: bytes) -> None:
        """Purge what there is under this key, for good and at once."""
        self._loads.overtake(key)
        # What waits may be under this key, or may be nothing yet.
        if not self._open or self._drafts.waiting or digest_of(key) in self._known:
            self._purge("key", key, 0.0, soft=False)

    def purge(self, kind: Kind, value: bytes, now: float, *, soft: bool) -> None:
        """Purge what is there now, or make it stale; the arguments are those of Bans.add()."""
        self._loads.overtake(None)
        self._purge(kind, value, now, soft=soft)

    def begin(self, length: int | None) -> GrowingFile | None:
        """A file for a body that is still coming, of this length, None for not known. None: none can be had now.

        Where the length is known, `failed` turns True before anything can be read if the disk is too full.
        """
        if not self._writable() or self._loads.crowded or (length or 0) > self._max_object:
            return None
        growing = self._drafts.begin(length, self._max_object)
        self._loads.grows(growing)
        return growing

    def status(self) -> dict[str, object]:
        """For JSON."""
        return {
            "path": self.path,
            "open": self._open,
            "files": self.files,
            "bytes": self.bytes,
            "waiting": self._drafts.waiting,
            "last_error": self.last_error,
            **self.counts,
        }

    def _usable(self) -> bool:
        """Whether it is open. After a rest, what could not be opened is tried again."""
        if self._running and not self._open and not self._opening and self._clock() >= self._rest_until:
            self._opening = True
            self._threads.tell(self._writing.open)
        return self._open

    def _writable(self) -> bool:
        return self._usable() and self._clock() >= self._rest_until and self._waiting_changes < _MOST_CHANGES

    @property
    def _waiting_changes(self) -> int:
        return self._changes - self._writing.came

    def _write(self, change: Callable[[Shelf], object], room: int) -> bool:
        """Have something written that may as well not be, and counts for so many bytes until it is."""
        if not self._writable() or self._drafts.waiting + room > self._queue:
            self.counts["dropped"] += 1
            return False
        self._all_purged = False
        self._drafts.waiting += room
        self._change(change, room)
        return True

    def _change(self, change: Callable[[Shelf], object], room: int = 0) -> None:
        self._changes += 1
        self._threads.tell(partial(self._writing.change, change, room))

    def _keep(self, entry: Entry, data: bytes, shelf: Shelf) -> None:
        shelf.keep(entry, self._store.whole(data), self._drafts.limit - self._drafts.room)

    def _purge(self, kind: PurgeKind, value: bytes, now: float, *, soft: bool) -> None:
        if self._waiting_changes >= _MOST_CHANGES:
            # The disk does not answer, and nothing is written behind what waits: one purge of all will do.
            if self._all_purged:
                return
            kind, value, soft, self._all_purged = "all", b"", False, True
        purge = self._purges.add(kind, value, now, soft=soft)
        self._change(partial(Shelf.settle, purge=purge))

    def _take_broken(self, names: list[int]) -> None:
        self._change(partial(Shelf.take_broken, names=names))

    def _hurry(self, stopped: Deferred[None]) -> None:
        self._writing.hurry = True
        stopped.callback(None)

    def _tell(self, news: News) -> None:
        self._reactor.callFromThread(self._hear, news)

    def _hear(self, news: News) -> None:
        self._drafts.waiting -= news.done
        self._open = news.is_open and self._running
        self.files, self.bytes = news.files, news.room
        if news.known is not None:
            self._known = news.known
        if news.changes is not None:
            self._known.update(news.changes.added)
            for digest, count in news.changes.removed.items():
                self._known[digest] -= count
                if self._known[digest] <= 0:
                    del self._known[digest]
            self.counts.update(news.changes.counts)
        if news.is_open or news.problem is not None or news.failure is not None:
            self._opening = False
        if news.failure is not None:
            self.counts["errors"] += 1
            self.log.failure("a fault of lbproxy: the disk cache goes on without what it was doing", news.failure)
        if news.problem is not None:
            self._rest_until = self._clock() + REST_SECONDS
            self._complain(news.problem)

    def _read_failed(self, problem: Exception) -> None:
        if isinstance(problem, sqlite3.Error):
            self._change(lambda shelf: shelf.index.totals())
        self._complain(f"reading: {problem}")

    def _complain(self, problem: str) -> None:
        self.counts["errors"] += 1
        self.last_error = problem
        if self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + _QUIET_SECONDS
            self.log.error(
                "disk cache {path}: {problem}; requests go on without it, and it is tried again",
                path=self.path,
                problem=problem,
            )
