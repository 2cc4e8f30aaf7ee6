"""Which entry of the disk cache answers a request, and whether it is what was written.

Owns the checks on the way back: seal, size, checksum, purges. What fails one is named so that it can be removed, and
nothing is served of it. Runs in the threads that read; refuses to change anything.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from lbproxy.service.disk_body import read_exactly
from lbproxy.service.disk_entry import Broken, Entry, Row, digest_of, read_row
from lbproxy.service.disk_files import Files
from lbproxy.service.disk_index import Index
from lbproxy.service.disk_purges import GONE, SOFT, Purges

# Bodies up to here are read at once, and their checksum is looked at each time.
SMALL = 64 * 1024
_PIECE = 1024 * 1024

VariantOf = Callable[[tuple[bytes, ...]], bytes]


class Found(NamedTuple):
    """What answers the request: the body's bytes, or the descriptor of its file."""

    name: int
    entry: Entry
    length: int
    body: bytes | int


class Loading:
    """Reads entries for requests."""

    def __init__(self, files: Files, purges: Purges) -> None:
        self._files = files
        self._purges = purges
        # The names that have been read; see Shelf.
        self.visited: set[int] = set()
        self._index: Index | None = None
        self._doubted = 0
        self._proven: set[int] = set()

    def use(self, index: Index | None, doubted: int) -> None:
        """Read this one from now on. Names below `doubted` may lack bytes: those are read whole once."""
        self._proven = set()
        self._doubted = doubted
        self._index = index

    def find(self, key: bytes, variant_of: VariantOf, broken: list[int]) -> Found | None:
        """The entry, None if there is none. Names that have to be removed are added to `broken`.

        Raises OSError and sqlite3.Error.
        """
        index, digest = self._index, digest_of(key)
        if index is None:
            return None
        chosen = index.reading(digest, lambda rows: self._choose(rows, key, variant_of, broken))
        if chosen is None:
            return None
        row, entry = chosen
        try:
            found = Found(row.name, entry, row.length, self._body(row))
        except (Broken, FileNotFoundError):
            broken.append(row.name)
            return None
        self.visited.add(row.name)
        return found

    def _choose(
        self, rows: list[Row], key: bytes, variant_of: VariantOf, broken: list[int]
    ) -> tuple[Row, Entry] | None:
        for row in rows:
            try:
                entry = read_row(row)
            except Broken:
                broken.append(row.name)
                continue
            if entry.key != key or entry.variant != (variant_of(entry.vary) if entry.vary else b""):
                continue
            verdict, moment = self._purges.verdict(row.name, entry)
            if verdict == GONE:
                continue
            if verdict == SOFT and entry.fresh_until > moment:
                entry = msgspec.structs.replace(entry, fresh_until=moment)
            return row, entry
        return None

    def _body(self, row: Row) -> bytes | int:
        descriptor, size = self._files.descriptor(row.name)
        kept = False
        try:
            if size != row.length:
                raise Broken
            if size <= SMALL:
                data = read_exactly(descriptor, 0, size) if size else b""
                if data is None or zlib.crc32(data) != row.crc:
                    raise Broken
                return data
            if row.name < self._doubted and row.name not in self._proven:
                _prove(descriptor, row)
                self._proven.add(row.name)
            kept = True
            return descriptor
        finally:
            if not kept:
                os.close(descriptor)


def _prove(descriptor: int, row: Row) -> None:
    crc = 0
    for position in range(0, row.length, _PIECE):
        data = read_exactly(descriptor, position, min(position + _PIECE, row.length))
        if data is None:
            raise Broken
        crc = zlib.crc32(data, crc)
    if crc != row.crc:
        raise Broken
