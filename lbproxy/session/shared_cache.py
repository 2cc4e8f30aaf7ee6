"""The cache that all exchanges of one worker share: what is stored, who asks for what, and what has been counted.

Owns how these belong together. The rules are in `cache/`, what an exchange does with it in lookup.py and fetching.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Protocol

from lbproxy.cache.bans import GONE, SOFT, Bans
from lbproxy.cache.body import AnyBody, Body, FileBody
from lbproxy.cache.collapse import Flights
from lbproxy.cache.face import Face
from lbproxy.cache.keys import url_of
from lbproxy.cache.store import MemoryStore, Variants
from lbproxy.cache.values import Query, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead
from lbproxy.model_cache import CacheSettings

# Heads of popular answers that are kept as they went out, each for a second.
_MOST_FACES, _MOST_SHOWN = 1024, 16 * 1024 * 1024
# Invalidated keys that are remembered, for requests that are under way.
_MOST_INVALID = 4096
# Bodies below this (bytes) are not worth being counted while they are read.
LIGHT = 64 * 1024
# How long a backend is left alone after it has failed to refresh something: at first, and at most (seconds).
_REST, _LONGEST_REST = 1.0, 16.0
_RESTED = (-inf, _REST)
_NO_MARK = frozenset({b""})


class GrowingFile(FileBody, Protocol):
    """A long body on its way to a file; see BodySink for `add`."""

    on_room: Callable[[], None] | None

    def add(self, data: bytes) -> bool:
        """The next bytes; False when the disk is behind, until `on_room` is called."""

    def finish(self) -> None:
        """All of it has come."""

    def fail(self) -> None:
        """The rest will never come."""


class Disk(Protocol):
    """Where stored answers outlive the process; see lbproxy/service/disk_store.py. None of this waits for a disk."""

    def find(self, key: bytes) -> bool:
        """Whether something of this key may be there."""

    def load(
        self,
        key: bytes,
        variant_of: Callable[[tuple[bytes, ...]], bytes],
        then: Callable[[Stored | None, tuple[bytes, ...]], None],
    ) -> None:
        """Read it, then call with it and the names of its Vary, None when it cannot be had."""

    def keep(self, stored: Stored, vary: tuple[bytes, ...]) -> object:
        """Write it, when there is time."""

    def update(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        """Its head has changed."""

    def drop(self, key: bytes) -> None:
        """Forget all that has this key."""

    def begin(self, length: int | None) -> GrowingFile | None:
        """A file for a long body; None when there can be none."""


class SharedCache:
    """See the module. `now` is what the cache goes by: seconds since the epoch, which run evenly; `offset` is the
    distance to the monotonic clock. `counts` are by word of the record, `refused` by the reason why an answer was
    not stored. `marks` are what keeps answers of different backends apart: keys end in one of them where there are
    several.
    """

    __slots__ = (
        "_changed",
        "_changed_before",
        "_invalid",
        "_invalid_before",
        "_pinned",
        "_resting",
        "_second",
        "_settling",
        "_shown",
        "bans",
        "clock",
        "collapsed",
        "counts",
        "disk",
        "faces",
        "flights",
        "marks",
        "offset",
        "refused",
        "settings",
        "store",
        "stored_total",
    )

    def __init__(self, settings: CacheSettings, clock: Callable[[], float], offset: float) -> None:
        self.settings = settings
        self.marks: frozenset[bytes] = frozenset()
        self._invalid: dict[bytes, float] = {}
        self._invalid_before = self._changed_before = -inf
        self._changed: dict[bytes, float] = {}
        self._settling: dict[bytes, tuple[Stored, tuple[bytes, ...]]] = {}
        self._resting: dict[bytes, tuple[float, float]] = {}
        self._pinned: dict[int, tuple[AnyBody, int]] = {}
        self.clock = clock
        self.offset = offset
        self.store = MemoryStore(settings.memory, max_variants=settings.variants)
        self.bans = Bans()
        self.flights = Flights(settings.waiters)
        self.disk: Disk | None = None
        self.faces: dict[tuple[Stored, bytes], Face] = {}
        self._second = self._shown = 0
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.collapsed = 0
        self.stored_total = 0

    def configure(self, settings: CacheSettings, marks: frozenset[bytes] = frozenset()) -> None:
        """Go by these settings from now on."""
        self.settings = settings
        self.marks = marks
        self.flights.most = settings.waiters
        self.store.max_variants = settings.variants
        if self.store.limit != settings.memory:
            self.store.limit = settings.memory

    def now(self) -> float:
        """The cache's time."""
        return self.clock() + self.offset

    def find(self, query: Query, head: RequestHead, now: float) -> Stored | None:
        """The stored answer for this request, fresh or not."""
        stored = self.store.find(query.key, head, query.accept)
        if stored is None and self._settling:
            stored = self._find_settling(query, head)
        if stored is None:
            return None
        if self._changed and stored.born <= self._changed.get(url_of(stored.key), self._changed_before):
            self.forget(stored)
            return None
        if stored.checked != self.bans.newest and not self.hold_against_bans(stored, now):
            return None
        return stored

    def _find_settling(self, query: Query, head: RequestHead) -> Stored | None:
        """One whose long body is whole, but which the disk has not found a place for yet."""
        stored, vary = self._settling.get(query.key, (None, ()))
        if stored is None:
            return None
        settled = self.disk is None or self.disk.find(query.key)
        if settled or (not isinstance(stored.body, bytes) and stored.body.failed):
            del self._settling[query.key]
            return None
        return stored if (variant_of(vary, head, query.accept) if vary else b"") == stored.variant else None

    def settle(self) -> None:
        """Forget those that the disk has, or cannot have."""
        for key, (stored, _) in list(self._settling.items()):
            failed = not isinstance(stored.body, bytes) and stored.body.failed
            if failed or self.disk is None or self.disk.find(key):
                del self._settling[key]

    def hold_against_bans(self, stored: Stored, now: float) -> bool:
        """Whether it is still there when what was purged has gone."""
        verdict = self.bans.verdict(stored)
        if verdict == GONE:
            self.forget(stored)
        elif verdict == SOFT:
            self.expire(stored, now)
        return verdict != GONE

    def stored_under(self, key: bytes) -> list[Stored]:
        """All that has this key, in memory."""
        found = self.store.get(key)
        if found is None:
            return []
        return list(found.by_value.values()) if isinstance(found, Variants) else [found]

    def expire(self, stored: Stored, now: float) -> None:
        """It is stale from now on."""
        stored.fresh_until = min(stored.fresh_until, now)
        self.unface(stored)

    def forget(self, stored: Stored) -> None:
        """It must not be used again."""
        self.store.remove(stored)
        self._settling.pop(stored.key, None)
        if self.disk is not None:
            self.disk.drop(stored.key)
        self.unface(stored)

    def forget_key(self, key: bytes) -> int:
        """Nothing of this key may be used again; how many there were in memory."""
        self._settling.pop(key, None)
        if self.disk is not None:
            self.disk.drop(key)
        return self.store.remove_key(key)

    def forget_faces(self) -> None:
        """They are of the last second, and would keep bodies that have left the store."""
        self.faces.clear()
        self._shown = 0

    def unface(self, stored: Stored) -> None:
        """What was shown of it is not true any more."""
        if self.faces:
            for coding in (b"", stored.coding, *(stored.coded or ())):
                self.faces.pop((stored, coding), None)

    def remember(self, stored: Stored, coding: bytes, face: Face) -> None:
        """This is what it looks like now."""
        if face.second != self._second or len(self.faces) >= _MOST_FACES or self._shown > _MOST_SHOWN:
            self.forget_faces()
            self._second = face.second
        self._shown += face.length
        self.faces[stored, coding] = face

    def take_in(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        """It has come from the disk; long bodies stay there, and are asked for each time."""
        if isinstance(stored.body, bytes):
            self.store.put(stored, vary)

    def refreshed(self, stored: Stored, vary: tuple[bytes, ...], checked: int, *, there: bool) -> None:
        """The backend has confirmed it, when it was asked at ban number `checked`. What has left the store meanwhile,
        so that it is not `there`, does not come back: it may have been purged.
        """
        self.unface(stored)
        if self.bans.newest != checked and self.bans.verdict(stored) == GONE:
            self.forget(stored)
        elif isinstance(stored.body, bytes) and there:
            self.store.put(stored, vary)
        if self.disk is not None:
            self.disk.update(stored, vary)

    @property
    def suffixes(self) -> frozenset[bytes]:
        """What a URL's keys may end in."""
        return self.marks if len(self.marks) > 1 else _NO_MARK

    def invalidate(self, key: bytes, now: float) -> None:
        """What is stored under this key, and what was asked for before `now`, must not be used again. `key` is without
        a mark.
        """
        for mark in self.suffixes:
            whole = key + mark
            self.forget_key(whole)
            self._invalid.pop(whole, None)
            self._invalid[whole] = now
        while len(self._invalid) > _MOST_INVALID:
            oldest = next(iter(self._invalid))
            self._invalid_before = max(self._invalid_before, self._invalid.pop(oldest))

    def invalidate_all(self, url: bytes, now: float) -> None:
        """As `invalidate`, for all keys that this URL has with different fields and cookies: what was made before now
        is not found any more.
        """
        self._changed.pop(url, None)
        self._changed[url] = now
        while len(self._changed) > _MOST_INVALID:
            oldest = next(iter(self._changed))
            self._changed_before = max(self._changed_before, self._changed.pop(oldest))

    def outdated(self, key: bytes, asked_at: float, bans: int) -> bool:
        """Whether something was purged since a request was sent, so that its answer is nothing for later ones."""
        return asked_at <= self._invalid.get(key, self._invalid_before) or bans != self.bans.newest

    def rest(self, key: bytes, now: float) -> None:
        """Asking about this one in the background was of no use: leave the backend alone for a while, then longer."""
        _, pause = self._resting.pop(key, (0.0, _REST / 2))
        pause = min(2 * pause, _LONGEST_REST)
        self._resting[key] = (now + pause, pause)
        if len(self._resting) > _MOST_INVALID:
            del self._resting[next(iter(self._resting))]

    def resting(self, key: bytes, now: float) -> bool:
        """Whether a backend should not be asked about this one in the background now."""
        return bool(self._resting) and now < self._resting.get(key, _RESTED)[0]

    def rested(self, key: bytes) -> None:
        """It has answered."""
        self._resting.pop(key, None)

    # Long bodies that somebody reads or fills: they are in memory, be they in the store or not (threats.md R2).

    def pin(self, body: AnyBody) -> bool:
        """Somebody holds this body now; whether that is of any weight, and `unpin` must follow."""
        if isinstance(body, bytes) and len(body) < LIGHT:
            return False
        _, holders = self._pinned.get(id(body), (body, 0))
        self._pinned[id(body)] = (body, holders + 1)
        return True

    def unpin(self, body: AnyBody) -> None:
        """Somebody holds it no more."""
        _, holders = self._pinned.pop(id(body))
        if holders > 1:
            self._pinned[id(body)] = (body, holders - 1)

    def crowded(self, more: int) -> bool:
        """Whether what is held so, and `more` bytes, are as much as the store may have."""
        held = more
        for body, _ in self._pinned.values():
            held += max(length_of(body), 0) if not isinstance(body, Body) else body.weight
        return held > self.settings.memory

    def put(self, stored: Stored, vary: tuple[bytes, ...], asked_at: float) -> None:
        """Its body is complete: it may be used, unless something else has become true since it was asked for."""
        if asked_at <= self._invalid.get(stored.key, self._invalid_before):
            return
        verdict = self.bans.verdict(stored)
        if verdict == GONE:
            return  # it was purged while it was on its way
        if verdict == SOFT:
            self.expire(stored, self.now())
        if not isinstance(stored.body, bytes) or not self.store.put(stored, vary):
            self.store.remove_key(stored.key)  # what it replaces is not true any more
        if self.disk is not None:
            self.disk.keep(stored, vary)
            if not isinstance(stored.body, bytes):
                self._settling[stored.key] = (stored, vary)
        self.stored_total += 1


def length_of(body: AnyBody) -> int:
    """How long a body is, -1 while nobody knows."""
    if isinstance(body, bytes):
        return len(body)
    return body.length if body.complete else body.expected
