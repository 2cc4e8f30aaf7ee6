"""The cache that all exchanges of one worker share: what is stored, who asks for what, and what has been counted.

Owns how these belong together. The rules are in `cache/`, what an exchange does with it in lookup.py and fetching.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from lbproxy.cache.bans import GONE, SOFT, Bans
from lbproxy.cache.body import AnyBody, FileBody
from lbproxy.cache.collapse import Flights
from lbproxy.cache.face import Face
from lbproxy.cache.store import MemoryStore, Variants
from lbproxy.cache.values import Query, Stored
from lbproxy.http.messages import RequestHead
from lbproxy.model_cache import CacheSettings

# Heads of popular answers that are kept as they went out, each for a second.
_MOST_FACES = 1024


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
    not stored.
    """

    __slots__ = (
        "_second",
        "bans",
        "clock",
        "collapsed",
        "counts",
        "disk",
        "faces",
        "flights",
        "offset",
        "refused",
        "settings",
        "store",
        "stored_total",
    )

    def __init__(self, settings: CacheSettings, clock: Callable[[], float], offset: float) -> None:
        self.settings = settings
        self.clock = clock
        self.offset = offset
        self.store = MemoryStore(settings.memory, max_variants=settings.variants)
        self.bans = Bans()
        self.flights = Flights(settings.waiters)
        self.disk: Disk | None = None
        self.faces: dict[tuple[Stored, bytes], Face] = {}
        self._second = 0
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.collapsed = 0
        self.stored_total = 0

    def configure(self, settings: CacheSettings) -> None:
        """Go by these settings from now on."""
        self.settings = settings
        if self.store.limit != settings.memory:
            self.store.limit = settings.memory

    def now(self) -> float:
        """The cache's time."""
        return self.clock() + self.offset

    def find(self, query: Query, head: RequestHead, now: float) -> Stored | None:
        """The stored answer for this request, fresh or not."""
        stored = self.store.find(query.key, head, query.accept)
        if stored is not None and stored.checked != self.bans.newest and not self.hold_against_bans(stored, now):
            return None
        return stored

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
        self.faces.pop((stored, b""), None)

    def forget(self, stored: Stored) -> None:
        """It must not be used again."""
        self.store.remove(stored)
        if self.disk is not None:
            self.disk.drop(stored.key)
        self.unface(stored)

    def forget_key(self, key: bytes) -> int:
        """Nothing of this key may be used again; how many there were in memory."""
        if self.disk is not None:
            self.disk.drop(key)
        return self.store.remove_key(key)

    def unface(self, stored: Stored) -> None:
        """What was shown of it is not true any more."""
        if self.faces:
            for coding in (b"", *(stored.coded or ())):
                self.faces.pop((stored, coding), None)

    def remember(self, stored: Stored, coding: bytes, face: Face) -> None:
        """This is what it looks like now."""
        if face.second != self._second or len(self.faces) >= _MOST_FACES:
            self._second = face.second
            self.faces.clear()
        self.faces[stored, coding] = face

    def take_in(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        """It has come from the disk; long bodies stay there, and are asked for each time."""
        stored.checked = self.bans.newest  # the disk has its own account of what was purged
        if isinstance(stored.body, bytes):
            self.store.put(stored, vary)

    def refreshed(self, stored: Stored, vary: tuple[bytes, ...] | None, checked: int) -> None:
        """The backend has confirmed it. `vary` is None where it has not changed."""
        stored.checked = max(stored.checked, checked)
        self.unface(stored)
        if isinstance(stored.body, bytes):
            if vary is None:
                self.store.resize(stored)
            else:
                self.store.put(stored, vary)
        if self.disk is not None and vary is not None:
            self.disk.update(stored, vary)

    def forget_url(self, scheme: bytes, authority: bytes, path: bytes, query: bytes | None) -> None:
        """What the usual key of this target has stored must not be used again."""
        url = b"%b://%b%b" % (scheme, authority, path)
        self.forget_key(url if query is None else b"%b?%b" % (url, query))

    def put(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        """Its body is complete: it may be used."""
        verdict = self.bans.verdict(stored)
        if verdict == GONE:
            return  # it was purged while it was on its way
        if verdict == SOFT:
            self.expire(stored, self.now())
        if not isinstance(stored.body, bytes) or not self.store.put(stored, vary):
            self.store.remove_key(stored.key)  # what it replaces is not true any more
        if self.disk is not None:
            self.disk.keep(stored, vary)
        self.stored_total += 1


def length_of(body: AnyBody) -> int:
    """How long a body is, -1 while nobody knows."""
    if isinstance(body, bytes):
        return len(body)
    return body.length if body.complete else body.expected
