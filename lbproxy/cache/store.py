"""Where stored answers are while they are in memory: by key, by variant, within a bound of bytes.

Owns the index and what each answer counts for. Refuses to know whether an answer is fresh, may be served or may be
stored. Who goes when there is no room is the question of eviction.py.

The index is thousands of small dictionaries, since one with a million entries takes tens of milliseconds to grow.
"""

from __future__ import annotations

from lbproxy.cache.body import AnyBody, Body
from lbproxy.cache.eviction import VISITS, Eviction
from lbproxy.cache.marks import Marks
from lbproxy.cache.values import OVERHEAD, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead

# The upper bits of a hash choose the shard, as its dictionary begins with the lower ones.
_SHIFT = 52
_SHARDS = 1 << (64 - _SHIFT)
# What a variant takes beyond an answer without Vary, a body in pieces beyond one that is bytes, coded bodies and a tag
# beyond their bytes: the first two measured as OVERHEAD is, the others by the sizes of the objects.
VARIANT = 310
PIECES = 320
CODED = 270
TAG = 50


class Variants:
    """The answers of one key that differ by the fields `names` (lower case, sorted); `by_value` by what these said."""

    __slots__ = ("by_value", "names")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.names = names
        self.by_value: dict[bytes, Stored] = {}


class MemoryStore:
    """Stored answers in at most `limit` bytes, their heads and our own accounts of them included.

    What is put belongs to the store until it is removed: it sets `size`, `visits` and (to an equal one) `key`. `size`
    is 0 when an answer has left. Keys have at least two bytes.
    """

    __slots__ = ("_eviction", "_marks", "_shards", "evicted_total", "max_variants", "objects")

    def __init__(self, limit: int, *, max_variants: int = 32) -> None:
        self._shards: list[dict[bytes, Stored | Variants]] = [{} for _ in range(_SHARDS)]
        self._eviction = Eviction(limit, self._live)
        self._marks = Marks()
        self.max_variants = max_variants
        self.objects = 0
        self.evicted_total = 0

    @property
    def used(self) -> int:
        """What all answers count for, in bytes."""
        return self._eviction.used

    @property
    def limit(self) -> int:
        """What they may count for. Lowering it evicts some hundreds at once; see trim()."""
        return self._eviction.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._eviction.limit = limit
        self.trim()

    def trim(self) -> bool:
        """Evict some hundreds if there are too many; True when the limit is kept."""
        return self._eviction.evict(0, self._evicted)

    def get(self, key: bytes) -> Stored | Variants | None:
        """What there is under the key. Who serves from it says so with touch()."""
        # A hash is signed, and the list is read from its end for half of them.
        return self._shards[hash(key) >> _SHIFT].get(key)

    def touch(self, stored: Stored) -> None:
        """It has been asked for."""
        if stored.visits & VISITS != VISITS:
            stored.visits += 1

    def find(self, key: bytes, head: RequestHead, accept_encoding: bytes) -> Stored | None:
        """The answer under the key whose variant the request asks for; counts the visit. See vary.variant_of()."""
        found = self._shards[hash(key) >> _SHIFT].get(key)
        if found is None:
            return None
        if isinstance(found, Variants):
            found = found.by_value.get(variant_of(found.names, head, accept_encoding))
            if found is None:
                return None
        if found.visits & VISITS != VISITS:
            found.visits += 1
        return found

    def put(self, stored: Stored, vary: tuple[bytes, ...]) -> bool:
        """Store it under its key and its variant, in place of what was there. False: it has not been stored.

        That is when it is larger than the limit, or when there is no room that could be made at once. When `vary`
        names other fields than the variants of this key have, these go: the newest answer tells (RFC 9111, 4.1). When
        there are too many variants, the least asked for goes, the oldest of several.

        The work is bounded by the size of what is put; a body that is put while it is short and grows by resize()
        makes its room piece by piece.
        """
        size = size_of(stored, varies=bool(vary))
        old = self._prepare(stored, vary)
        if size > self.limit:
            if old is not None:
                self.remove(old)
            return False
        if old is not None:
            return self._replace(old, stored, size)
        self._make_way(stored.key)
        if not self._eviction.evict(size, self._evicted):
            return False
        stored.size = size
        stored.key = bytes(memoryview(stored.key))  # an object of its own: its place in a queue is known by it
        self._hook(stored, vary)
        self.objects += 1
        self._eviction.add(stored)
        return True

    def resize(self, stored: Stored) -> None:
        """Count it again: its lines, its body or its coded bodies have changed. It goes if it has become too large."""
        if not self._has(stored):
            return
        size = size_of(stored, varies=isinstance(self.get(stored.key), Variants))
        if size > self.limit:
            self._evicted(stored, queued=True)
            return
        self._eviction.change(stored, size)
        if not self._eviction.evict(0, self._evicted) and self._has(stored):
            self._evicted(stored, queued=True)

    def remove(self, stored: Stored) -> None:
        """Forget it; nothing happens if it has gone already. Who serves from it keeps its body."""
        if self._has(stored):
            self._unhook(stored)
            self._eviction.drop(stored)
            stored.size = 0

    def remove_key(self, key: bytes) -> int:
        """Forget all that is under the key, and say how many that were."""
        found = self.get(key)
        if found is None:
            return 0
        several = list(found.by_value.values()) if isinstance(found, Variants) else [found]
        for stored in several:
            self.remove(stored)
        return len(several)

    def walk(self, cursor: int, count: int) -> tuple[list[Stored], int | None]:
        """About `count` answers, and where to go on, None at the end; 0 is the beginning.

        Whoever is there from the beginning of a walk to its end is met once, whatever comes and goes in between.
        """
        met: list[Stored] = []
        while cursor < _SHARDS:
            for found in self._shards[cursor].values():
                if isinstance(found, Variants):
                    met.extend(found.by_value.values())
                else:
                    met.append(found)
            cursor += 1
            if len(met) >= count:
                break
        return met, cursor if cursor < _SHARDS else None

    def mark(self, key: bytes, until: float) -> None:
        """Answers under this key cannot be stored, as far as is known: hit-for-miss."""
        self._marks.mark(key, until)

    def marked(self, key: bytes, now: float) -> bool:
        """Whether the key bears a mark."""
        return self._marks.marked(key, now)

    def _prepare(self, stored: Stored, vary: tuple[bytes, ...]) -> Stored | None:
        """The answer that this one replaces; others that cannot stay beside it go."""
        found = self.get(stored.key)
        if not isinstance(found, Variants):
            if found is None or not vary:
                return found
            self.remove(found)
            return None
        if found.names != vary:
            self.remove_key(stored.key)
            return None
        return found.by_value.get(stored.variant)

    def _make_way(self, key: bytes) -> None:
        """For one more variant."""
        found = self.get(key)
        if isinstance(found, Variants) and len(found.by_value) >= self.max_variants:
            self._evicted(min(found.by_value.values(), key=_visits), queued=True)

    def _replace(self, old: Stored, stored: Stored, size: int) -> bool:
        if old is stored:
            self.resize(stored)
            return stored.size > 0
        stored.size = size
        self._eviction.replace(old, stored)
        old.size = 0
        shard = self._shards[hash(stored.key) >> _SHIFT]
        found = shard[stored.key]
        if isinstance(found, Variants):
            found.by_value[stored.variant] = stored
        else:
            shard[stored.key] = stored
        if not self._eviction.evict(0, self._evicted) and self._has(stored):
            self._evicted(stored, queued=True)
        return stored.size > 0

    def _live(self, key: bytes) -> Stored | None:
        found = self._shards[hash(key) >> _SHIFT].get(key)
        if isinstance(found, Variants):
            return next((one for one in found.by_value.values() if one.key is key), None)
        return found if found is not None and found.key is key else None

    def _has(self, stored: Stored) -> bool:
        return self._live(stored.key) is stored

    def _hook(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        shard = self._shards[hash(stored.key) >> _SHIFT]
        if not vary:
            shard[stored.key] = stored
            return
        found = shard.get(stored.key)
        if not isinstance(found, Variants):
            found = shard[stored.key] = Variants(vary)
        found.by_value[stored.variant] = stored

    def _unhook(self, stored: Stored) -> None:
        shard = self._shards[hash(stored.key) >> _SHIFT]
        found = shard[stored.key]
        if isinstance(found, Variants):
            del found.by_value[stored.variant]
            if found.by_value:
                self.objects -= 1
                return
        del shard[stored.key]
        self.objects -= 1

    def _evicted(self, stored: Stored, *, queued: bool = False) -> None:
        self._unhook(stored)
        if queued:
            self._eviction.drop(stored)
        stored.size = 0
        self.evicted_total += 1


def size_of(stored: Stored, *, varies: bool) -> int:
    """What it counts for, in bytes; `varies` when it is a variant. What of it is in files counts for nothing."""
    size = OVERHEAD + len(stored.key) + len(stored.reason) + len(stored.lines) + _length(stored.body)
    if varies:
        size += VARIANT + len(stored.variant)
    if stored.tags:
        size += sum(map(len, stored.tags)) + TAG * len(stored.tags)
    if stored.coded:
        size += CODED + sum(map(_length, stored.coded.values()))
    return size


def _length(body: AnyBody) -> int:
    if isinstance(body, bytes):
        return len(body)
    return body.length + PIECES if isinstance(body, Body) else 0


def _visits(stored: Stored) -> int:
    return stored.visits & VISITS
