"""What is written about a stored answer on disk, beside its body.

Owns that form and the digests by which entries are found. Whatever does not read back exactly is `Broken`; that costs a
hit and no more. Refuses to know files and the index.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import NamedTuple

import msgspec

from lbproxy.cache.body import AnyBody
from lbproxy.cache.values import Stored

# What an entry takes beyond its body and its meta: its row and the places of it in two indexes.
_ROW = 256
# File systems give out whole blocks.
_BLOCK = 4096


class Broken(Exception):
    """What is on the disk is not what was written."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """The fields of Stored that are kept, and the names in its Vary."""

    key: bytes
    variant: bytes
    vary: tuple[bytes, ...]
    status: int
    reason: bytes
    lines: bytes
    coding: bytes
    born: float
    fresh_until: float
    while_revalidate: float
    if_error: float
    flags: int
    tags: tuple[bytes, ...] | None

    def stored(self, body: AnyBody) -> Stored:
        """The answer again, with this body."""
        return Stored(
            self.key,
            self.variant,
            self.status,
            self.reason,
            self.lines,
            body,
            coding=self.coding,
            born=self.born,
            fresh_until=self.fresh_until,
            while_revalidate=self.while_revalidate,
            if_error=self.if_error,
            flags=self.flags,
            tags=self.tags,
        )


class Row(NamedTuple):
    """What the index holds of one entry.

    `name` is the number of its file and never used again, `place` its place in the order of eviction. `length` and
    `crc` are those of the body, `room` is what it counts for in bytes; `seal` covers the rest.
    """

    name: int
    place: int
    digest: int
    length: int
    crc: int
    room: int
    seal: int
    meta: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def entry_of(stored: Stored, vary: tuple[bytes, ...]) -> Entry:
    """What is kept of this answer, as it is now."""
    return Entry(
        stored.key,
        stored.variant,
        vary,
        stored.status,
        stored.reason,
        stored.lines,
        stored.coding,
        stored.born,
        stored.fresh_until,
        stored.while_revalidate,
        stored.if_error,
        stored.flags,
        stored.tags,
    )


def row_of(name: int, place: int, entry: Entry, length: int, crc: int) -> Row:
    """The row for a body of this length and checksum."""
    meta = _encoder.encode(entry)
    room = -(-length // _BLOCK) * _BLOCK + _ROW + len(meta)
    return Row(name, place, digest_of(entry.key), length, crc, room, _seal(name, length, crc, meta), meta)


def read_row(row: Row) -> Entry:
    """The entry in a row. Raises Broken."""
    if _seal(row.name, row.length, row.crc, row.meta) != row.seal:
        raise Broken
    try:
        return _decoder.decode(row.meta)
    except msgspec.MsgspecError as problem:
        raise Broken from problem


def digest_of(key: bytes) -> int:
    """64 bits, signed as SQLite has them. Two keys may share one: the whole key is compared when an entry is read."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big", signed=True)


def _seal(name: int, length: int, crc: int, meta: bytes) -> int:
    return zlib.crc32(b"%d %d %d" % (name, length, crc), zlib.crc32(meta))
