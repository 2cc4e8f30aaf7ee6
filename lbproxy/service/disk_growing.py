"""Bodies that are written to the disk while they come in.

Owns their unfinished files: what waits to be written, how much of the disk they take before they have a place, and that
none is left behind by who loses interest. Refuses to know what becomes of a file when it is whole.

Where the length is known, the disk gives all the space before anything can be read: a disk that is full is found out
while nobody depends on it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from lbproxy.service.disk_body import Elsewhere, GrowingFile
from lbproxy.service.disk_entry import Entry
from lbproxy.service.disk_files import Files, NewFile
from lbproxy.service.disk_shelf import Shelf
from lbproxy.service.disk_threads import Call
from lbproxy.service.disk_writing import Writing

# Of a body whose length is not known, space is taken in such pieces.
_STEP = 1024 * 1024


class Drafts:
    """All of them. `limit` is how many bytes there may be on the disk, `room` how many of them are the drafts'."""

    def __init__(
        self,
        reactor: Any,
        tell: Callable[[Call], None],
        writing: Writing,
        files: Files,
        elsewhere: Elsewhere,
        most_waiting: int,
    ) -> None:
        """`tell` has something done in the thread that writes; at most `most_waiting` bytes wait for it."""
        self.limit = 0
        self.room = 0
        self.waiting = 0
        self.most_waiting = most_waiting
        self.call_back = reactor.callFromThread
        self.tell = tell
        self.writing = writing
        self.files = files
        self._elsewhere = elsewhere

    def begin(self, length: int | None, most: int) -> GrowingFile:
        """A file for a body of this length, None for not known, and of at most `most` bytes."""
        draft = Draft(self)
        growing = GrowingFile(draft, self._elsewhere, length, most)
        weakref.finalize(growing, self.tell, draft.abandon).atexit = False
        draft.begin(growing, length)
        return growing

    def claim(self, room: int) -> bool:
        """Have so much more for drafts, which others make room for; in the thread that writes."""
        if self.room + room > self.limit:
            return False
        self.room += room
        self.writing.change(lambda shelf: shelf.evict(self.limit - self.room))
        return True


class Draft:
    """One unfinished file: see Sink. It does not keep its body alive; what is to be done for it does."""

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts
        self._growing: Callable[[], GrowingFile | None] = lambda: None
        # What follows belongs to the thread that writes.
        self._file: NewFile | None = None
        self._room = 0
        self._whole = self._over = False

    def begin(self, growing: GrowingFile, length: int | None) -> None:
        """Have the file made."""
        self._growing = weakref.ref(growing)
        self._drafts.tell(partial(self._create, growing, length))

    def write(self, data: bytes) -> bool:
        """See Sink."""
        drafts, growing = self._drafts, self._growing()
        if growing is None or drafts.waiting + len(data) > drafts.most_waiting:
            return False
        drafts.waiting += len(data)
        drafts.tell(partial(self._write, growing, data))
        return True

    def finish(self) -> None:
        """See Sink."""
        growing = self._growing()
        if growing is not None:
            self._drafts.tell(partial(self._finish, growing))

    def give_up(self) -> None:
        """See Sink."""
        self._drafts.tell(self.abandon)

    def place(self, entry: Entry, shelf: Shelf) -> None:
        """It is whole, and is to be found from now on; nothing happens if it is not. In the thread that writes."""
        if self._whole and not self._over and self._file is not None:
            self._over = True
            self._release()
            shelf.keep(entry, self._file, self._drafts.limit - self._drafts.room)

    def abandon(self) -> None:
        """Nobody wants it any more, unless it has its place. In the thread that writes."""
        if not self._over:
            self._over = True
            self._release()
            if self._file is not None:
                self._file.unlink()

    def _create(self, growing: GrowingFile, length: int | None) -> None:
        drafts = self._drafts
        if self._over or not self._claim(length or 0) or not drafts.writing.attempt(self._new):
            self._fail(growing)
            return
        file = self._file
        if file is None:
            return
        drafts.call_back(growing.opened, file.descriptor)
        if length and not drafts.writing.attempt(lambda: file.reserve(length)):
            self._fail(growing)

    def _new(self) -> None:
        self._file = self._drafts.files.new()

    def _write(self, growing: GrowingFile, data: bytes) -> None:
        file, length = self._file, -1
        if not self._over and file is not None:
            missing = file.length + len(data) - self._room
            if (missing <= 0 or self._claim(max(missing, _STEP))) and self._drafts.writing.attempt(
                lambda: file.write(data)
            ):
                length = file.length
            else:
                self.abandon()
        self._drafts.call_back(self._wrote, growing, length, len(data))

    def _wrote(self, growing: GrowingFile, length: int, taken: int) -> None:
        self._drafts.waiting -= taken
        if length < 0:
            growing.broke()
        else:
            growing.wrote(length)

    def _finish(self, growing: GrowingFile) -> None:
        self._whole = not self._over
        self._drafts.call_back(growing.broke if self._over else growing.ended)

    def _fail(self, growing: GrowingFile) -> None:
        self.abandon()
        self._drafts.call_back(growing.broke)

    def _claim(self, room: int) -> bool:
        if not self._drafts.claim(room):
            return False
        self._room += room
        return True

    def _release(self) -> None:
        self._drafts.room -= self._room
        self._room = 0
