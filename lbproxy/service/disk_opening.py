"""Whether what an earlier process has left in the index can be used, and what it was.

Owns that decision alone. An index that is broken or of another form is begun anew: that costs what was stored. After
the machine has come up anew, files may lack what had not reached the disk, so all of them are doubted.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from dataclasses import dataclass

from lbproxy.service.disk_files import BLOCK_BITS, Files
from lbproxy.service.disk_index import Index
from lbproxy.service.disk_purges import Purge

_BOOT = "/proc/sys/kernel/random/boot_id"

# The disk is at fault, or is not there: the index may be as good as ever.
_TRANSIENT = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    )
)


@dataclass(frozen=True, slots=True)
class Opened:
    """An index that can be used: how many entries of which room, the highest name or place, how many there are by
    digest, the purges that have not been carried out, the blocks of names to look at. Names below `doubted` were
    written before the machine came up. `begun_anew` tells that there was one that could not be used.
    """

    index: Index
    files: int
    room: int
    last: int
    known: Counter[int]
    purges: list[Purge]
    blocks: list[int]
    doubted: int
    begun_anew: bool


def open_index(files: Files) -> Opened:
    """Open it, or begin anew. Raises OSError, and sqlite3.Error when the disk is at fault."""
    try:
        return _read(files, begun_anew=False)
    except sqlite3.Error as problem:
        if not is_broken(problem):
            raise
    files.forget_index()
    return _read(files, begun_anew=True)


def is_broken(problem: sqlite3.Error) -> bool:
    """Whether it is the index that is at fault, and not the disk."""
    return getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _TRANSIENT


def _read(files: Files, *, begun_anew: bool) -> Opened:
    index = Index(files.index)
    try:
        count, room, last = index.totals()
        doubted = _doubted(index, last)
        blocks = sorted(index.blocks(BLOCK_BITS) | files.blocks(), reverse=True)
        return Opened(index, count, room, last, index.digests(), index.purges(), blocks, doubted, begun_anew)
    except BaseException:
        index.close()
        raise


def _doubted(index: Index, last: int) -> int:
    boot = _boot()
    if boot and index.fact("boot") == boot:
        return int(index.fact("doubted") or 0)
    if not index.whole():
        raise sqlite3.DatabaseError("the index is not whole")
    doubted = last + 1
    index.note("boot", boot)
    index.note("doubted", str(doubted))
    index.commit()
    return doubted


def _boot() -> str:
    with contextlib.suppress(OSError), open(_BOOT, encoding="ascii") as file:
        return file.read().strip()
    return ""
