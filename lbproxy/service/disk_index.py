"""Which entries the disk cache has: a table in SQLite.

Owns the file and who may talk to it: one connection, one thread at a time. What is changed is seen at once and lasts
once it is committed. The journal is a write-ahead log that is not synced: a killed process loses what it had not
committed, a power cut may break the file, which is found out by the next start. All methods raise sqlite3.Error.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from lbproxy.service.disk_entry import Row
from lbproxy.service.disk_purges import Purge

T = TypeVar("T")

_FORM = 1
_TABLES = """
CREATE TABLE entries (
    name INTEGER PRIMARY KEY, place INTEGER NOT NULL, digest INTEGER NOT NULL, length INTEGER NOT NULL,
    crc INTEGER NOT NULL, room INTEGER NOT NULL, seal INTEGER NOT NULL, meta BLOB NOT NULL
) STRICT;
CREATE INDEX by_place ON entries (place);
CREATE INDEX by_digest ON entries (digest);
CREATE TABLE purges (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, value BLOB NOT NULL, soft INTEGER NOT NULL, moment REAL NOT NULL,
    upto INTEGER NOT NULL
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class Index:
    """The table, in one file."""

    def __init__(self, path: str) -> None:
        """Open it, or make it. Raises sqlite3.DatabaseError too for a file that is not ours or of another form."""
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            # One process has it: no memory is shared, so that network file systems will do.
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = OFF")
            # In pages: on a small disk, the journal must leave room for what it is about.
            self._base.execute("PRAGMA wal_autocheckpoint = 256")
            (form,) = self._base.execute("PRAGMA user_version").fetchone()
            if form == 0:
                self._base.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_FORM}; COMMIT")
            elif form != _FORM:
                raise sqlite3.DatabaseError(f"the index is of form {form}")
        except BaseException:
            self._base.close()
            raise

    def close(self) -> None:
        """Without what has not been committed."""
        with self._lock:
            self._base.close()

    def whole(self) -> bool:
        """Whether all of it can be read; that takes a while."""
        with self._lock, contextlib.closing(self._base.execute("PRAGMA quick_check(1)")) as found:
            return bool(found.fetchone() == ("ok",))

    def reading(self, digest: int, call: Callable[[list[Row]], T]) -> T:
        """What `call` makes of the rows of this digest, newest first; meanwhile nothing changes."""
        with self._lock:
            return call(self._rows("WHERE digest = ? ORDER BY name DESC", digest))

    def rows_of(self, digest: int) -> list[Row]:
        """The rows of this digest, newest first."""
        return self.reading(digest, list)

    def row(self, name: int) -> Row | None:
        """The row of this name."""
        with self._lock:
            return next(iter(self._rows("WHERE name = ?", name)), None)

    def oldest(self, count: int) -> list[Row]:
        """Those whose turn it is to go."""
        with self._lock:
            return self._rows("ORDER BY place LIMIT ?", count)

    def between(self, first: int, end: int, count: int) -> list[Row]:
        """Up to `count` rows with names from `first` on and below `end`, in their order."""
        with self._lock:
            return self._rows("WHERE name >= ? AND name < ? ORDER BY name LIMIT ?", first, end, count)

    def blocks(self, bits: int) -> set[int]:
        """The names there are, without their last bits."""
        with self._lock:
            return {one for (one,) in self._base.execute("SELECT DISTINCT name >> ? FROM entries", (bits,))}

    def put(self, row: Row) -> None:
        """Add it, or change the one of this name."""
        self._change("REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [row])

    def remove(self, names: Iterable[int]) -> None:
        """Take these away."""
        self._change("DELETE FROM entries WHERE name = ?", [(name,) for name in names])

    def digests(self) -> Counter[int]:
        """How many entries there are of each digest."""
        with self._lock:
            return Counter(one for (one,) in self._base.execute("SELECT digest FROM entries"))

    def totals(self) -> tuple[int, int, int]:
        """How many there are, their room in bytes, and the highest name or place."""
        with self._lock:
            asked = self._base.execute(
                "SELECT COUNT(*), COALESCE(SUM(room), 0), MAX(COALESCE(MAX(name), 0), COALESCE(MAX(place), 0))"
                " FROM entries"
            )
            files, room, last = asked.fetchone()
        return files, room, last

    def fact(self, name: str) -> str | None:
        """Something noted about all of it."""
        with self._lock:
            found = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def note(self, name: str, value: str) -> None:
        """Note it."""
        self._change("REPLACE INTO facts VALUES (?, ?)", [(name, value)])

    def purges(self) -> list[Purge]:
        """Those that were written and not taken away, in their order."""
        with self._lock:
            asked = self._base.execute("SELECT kind, value, soft, moment, upto, number FROM purges ORDER BY number")
            return [
                Purge(kind, value, moment, soft=bool(soft), upto=upto, number=number)
                for kind, value, soft, moment, upto, number in asked
            ]

    def put_purge(self, purge: Purge) -> None:
        """Write it down."""
        row = (purge.number, purge.kind, purge.value, int(purge.soft), purge.moment, purge.upto)
        self._change("REPLACE INTO purges VALUES (?, ?, ?, ?, ?, ?)", [row])

    def remove_purges(self, numbers: Iterable[int]) -> None:
        """They have been carried out."""
        self._change("DELETE FROM purges WHERE number = ?", [(number,) for number in numbers])

    def commit(self) -> None:
        """Let all that has changed last."""
        with self._lock:
            if self._base.in_transaction:
                self._base.execute("COMMIT")

    def rollback(self) -> None:
        """Back to the last commit."""
        with self._lock:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")

    def _rows(self, what: str, *values: int) -> list[Row]:
        return [Row(*one) for one in self._base.execute(f"SELECT * FROM entries {what}", values)]

    def _change(self, what: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._lock:
            if not self._base.in_transaction:
                self._base.execute("BEGIN")
            self._base.executemany(what, rows)
