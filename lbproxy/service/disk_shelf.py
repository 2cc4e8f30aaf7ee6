"""What is on the disk, and who goes when there is no room.

Owns the order of things: a file has its name before its row is written, and is unlinked before its row is, so that a
process that is killed in between leaves something that is noticed. Eviction is first in, first out, with a second
chance for what has been read since. For the thread that writes; methods raise OSError and sqlite3.Error.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable

import msgspec

from lbproxy.cache.conditions import validators
from lbproxy.service.disk_entry import Broken, Entry, Row, digest_of, read_row, row_of
from lbproxy.service.disk_files import Files, NewFile
from lbproxy.service.disk_opening import Opened
from lbproxy.service.disk_purges import GONE, SOFT, Purge, Purges

_AT_ONCE = 32
NO_CEILING = 1 << 62


class Changes:
    """What has changed since the last commit: entries by their digests, and how often what was done."""

    __slots__ = ("added", "counts", "removed")

    def __init__(self) -> None:
        self.added: Counter[int] = Counter()
        self.removed: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()


class Shelf:
    """The entries of an open index. `files` and `room` are how many they are and what they count for, in bytes."""

    def __init__(self, opened: Opened, store: Files, purges: Purges, visited: set[int], variants: int) -> None:
        """`visited` are the names that have been read since their turn was last; others add to it."""
        self.index = opened.index
        self.store = store
        self.files = opened.files
        self.room = opened.room
        # How many bytes the disk has turned out to hold.
        self.ceiling = NO_CEILING
        self.changes = Changes()
        self._last = opened.last
        self._purges = purges
        self._visited = visited
        self._variants = variants
        self._fresh: list[int] = []

    def keep(self, entry: Entry, new: NewFile, limit: int) -> None:
        """Give a whole file its place, within so many bytes for all. It takes the place of what it replaces."""
        name = self._next()
        row = row_of(name, name, entry, new.length, new.crc)
        if row.room > limit:
            new.unlink()
            self.changes.counts["dropped"] += 1
            return
        try:
            self.evict(limit, row.room)
            self.store.settle(new, name)
        except (OSError, sqlite3.Error):
            new.unlink()
            raise
        self._fresh.append(name)
        self.take(self._superseded(entry), "replaced")
        self.index.put(row)
        self.files += 1
        self.room += row.room
        self.changes.added[row.digest] += 1
        self.changes.counts["written"] += 1

    def update(self, entry: Entry, length: int) -> None:
        """The same body, of this length, with this beside it; nothing happens if it is not there. Another body has come
        to stand there, or has been left there as this one could not be written: it goes, for who knows which is true.
        """
        for row in self.index.rows_of(digest_of(entry.key)):
            try:
                old = read_row(row)
            except Broken:
                self.take([row], "broken")
                continue
            if old.key == entry.key and old.variant == entry.variant:
                if row.length != length or not _of_one_body(old, entry):
                    self.take([row], "replaced")
                    continue
                self._change(row, entry)
                self.changes.counts["updated"] += 1

    def take(self, rows: Iterable[Row], why: str) -> None:
        """Remove these; who reads one of them goes on."""
        for row in rows:
            self.store.remove(row.name)
            self.index.remove([row.name])
            self._visited.discard(row.name)
            self.files -= 1
            self.room -= row.room
            self.changes.removed[row.digest] += 1
            self.changes.counts[why] += 1

    def take_broken(self, names: Iterable[int]) -> None:
        """Remove these, as far as they are still there."""
        for name in names:
            row = self.index.row(name)
            if row is not None:
                self.take([row], "broken")

    def evict(self, limit: int, wanted: int = 0) -> None:
        """Have at most so many bytes, those that are `wanted` included; never more than the ceiling."""
        limit = min(limit, self.ceiling) - wanted
        while self.room > limit:
            rows = self.index.oldest(_AT_ONCE)
            if not rows:
                return
            for row in rows:
                if self.room <= limit:
                    return
                if row.name in self._visited:
                    self._visited.discard(row.name)
                    self.index.put(row._replace(place=self._next()))
                else:
                    self.take([row], "evicted")

    def settle(self, purge: Purge) -> None:
        """Carry it out, or have it last until someone has."""
        if purge.kind == "key":
            self.hold(self.index.rows_of(digest_of(purge.value)))
            self._purges.remove([purge])
            return
        settled = self._purges.settle(purge, self._last + 1)
        if settled is not None:
            self.index.put_purge(settled)

    def hold(self, rows: Iterable[Row]) -> None:
        """Hold these against all purges."""
        for row in rows:
            try:
                entry = read_row(row)
            except Broken:
                self.take([row], "broken")
                continue
            verdict, moment = self._purges.verdict(row.name, entry)
            if verdict == GONE:
                self.take([row], "purged")
            elif verdict == SOFT and entry.fresh_until > moment:
                self._change(row, msgspec.structs.replace(entry, fresh_until=moment))

    def commit(self) -> Changes:
        """Let it last; what has changed since the last time."""
        self.index.commit()
        self._fresh.clear()
        changes, self.changes = self.changes, Changes()
        return changes

    def undo(self) -> None:
        """What has not been committed did not happen; rows whose files have gone are found out later."""
        fresh, self._fresh = self._fresh, []
        self.changes = Changes()
        self.index.rollback()
        for name in fresh:
            self.store.remove(name)
        self.files, self.room, _ = self.index.totals()

    def _superseded(self, entry: Entry) -> list[Row]:
        """Of the same key: the same variant, all when Vary now names other fields (RFC 9111, 4.1), one too many."""
        gone: list[Row] = []
        left: list[Row] = []
        for row in self.index.rows_of(digest_of(entry.key)):
            try:
                old = read_row(row)
            except Broken:
                gone.append(row)
                continue
            if old.key == entry.key:
                (gone if old.variant == entry.variant or old.vary != entry.vary else left).append(row)
        return gone + left[self._variants - 1 :]

    def _change(self, row: Row, entry: Entry) -> None:
        changed = row_of(row.name, row.place, entry, row.length, row.crc)
        self.index.put(changed)
        self.room += changed.room - row.room

    def _next(self) -> int:
        self._last += 1
        return self._last


def _of_one_body(one: Entry, other: Entry) -> bool:
    """Whether these are of the same body, as far as they tell."""
    (etag, modified), (other_etag, other_modified) = validators(one.lines), validators(other.lines)
    same = modified == other_modified if etag is None else etag == other_etag
    return same and one.status == other.status and one.coding == other.coding
