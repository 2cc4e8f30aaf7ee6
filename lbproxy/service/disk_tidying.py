"""What the thread that writes does when nothing else is to be done, one short step at a time.

Owns the walk that carries out purges, and the look at each file that an earlier process has left: those that the index
does not know go, and so do entries whose file is not as long as it was.
"""

from __future__ import annotations

from lbproxy.service.disk_files import BLOCK_BITS
from lbproxy.service.disk_purges import Purge, Purges
from lbproxy.service.disk_shelf import Shelf

_AT_ONCE = 256


class Tidying:
    """The work on one shelf. Methods raise OSError and sqlite3.Error; then the step is done again."""

    def __init__(self, shelf: Shelf, purges: Purges, blocks: list[int]) -> None:
        """`blocks` are those of the names to look at, last first."""
        self._shelf = shelf
        self._purges = purges
        self._blocks = blocks
        self._walking: list[Purge] = []
        self._cursor = 0

    def step(self) -> bool:
        """Do some of it; False when there is nothing to do."""
        for purge in self._purges.unsettled():
            self._shelf.settle(purge)
            return True
        if self._walking or self._begin():
            self._walk()
            return True
        if self._blocks:
            self._look(self._blocks[-1])
            self._blocks.pop()
            return True
        return False

    def _begin(self) -> bool:
        self._walking = self._purges.settled()
        self._cursor = 0
        return bool(self._walking)

    def _walk(self) -> None:
        end = max(one.upto or 0 for one in self._walking)
        rows = self._shelf.index.between(self._cursor, end, _AT_ONCE)
        if rows:
            self._shelf.hold(rows)
            self._cursor = rows[-1].name + 1
            return
        self._shelf.index.remove_purges(one.number for one in self._walking)
        # What the walk has done must last before anybody forgets why.
        self._shelf.index.commit()
        self._purges.remove(self._walking)
        self._walking = []

    def _look(self, block: int) -> None:
        shelf = self._shelf
        rows = shelf.index.between(block << BLOCK_BITS, (block + 1) << BLOCK_BITS, 1 << BLOCK_BITS)
        sizes = shelf.store.sizes(block)
        for name in sizes.keys() - {row.name for row in rows}:
            shelf.store.remove(name)
            shelf.changes.counts["unknown"] += 1
        shelf.take([row for row in rows if sizes.get(row.name) != row.length], "broken")
        shelf.store.tidy(block)
