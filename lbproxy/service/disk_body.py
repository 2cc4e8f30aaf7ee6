"""Bodies in files, as those who send them see them.

Owns what is read of them without waiting, and who waits for more. A body keeps its file open for as long as it lives,
also when the file has been evicted; the descriptor is closed elsewhere, for that may take its time. Refuses to know
where files are and who writes them.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable
from typing import Protocol

from lbproxy.cache.body import BodyReaderLike

# A growing file may be so far behind what it was given before it asks for a pause, and before it gives up.
BEHIND = 1024 * 1024
TOO_FAR_BEHIND = 8 * 1024 * 1024

_REFUSED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Elsewhere(Protocol):
    """What a body has done in other threads."""

    def read(self, call: Callable[[], bytes | None], then: Callable[[bytes | None], None]) -> None:
        """Call in a thread that reads; then `then` with what it gave, in the reactor."""

    def close(self, descriptor: int) -> None:
        """Close it in a thread; may be called in any thread and at any time."""


class OpenBody:
    """A body in an open file: see FileBody. `length` bytes of it can be read."""

    def __init__(self, descriptor: int, length: int, elsewhere: Elsewhere) -> None:
        """Takes over the descriptor; -1 for a file that is not there yet."""
        self.length = self.expected = length
        self.complete = True
        self.failed = False
        self._descriptor = -1
        self._elsewhere = elsewhere
        self._loaded = (0, 0)
        self._readers: list[BodyReaderLike] = []
        if descriptor >= 0:
            self._opened(descriptor)

    def descriptor(self) -> int:
        """The open file, for sendfile(2); it stays open as long as this object lives. Raises OSError before there is
        anything to read.
        """
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "nothing has been written yet")
        return self._descriptor

    def ready(self, position: int, most: int) -> bool:
        """Whether these bytes can be had without waiting for the disk: the first and the last are asked for. Where the
        file system does not tell, those that were loaded last are.
        """
        end = min(position + most, self.length)
        if position >= end:
            return False
        try:
            return self._at_hand(position) and (end - position == 1 or self._at_hand(end - 1))
        except OSError as problem:
            first, last = self._loaded
            return problem.errno in _REFUSED and first <= position and end <= last

    def load(self, position: int, most: int, then: Callable[[bytes | None], None]) -> None:
        """Read these bytes in a thread, then call with them; with None when they cannot be had."""
        end = min(position + most, self.length)

        def loaded(data: bytes | None) -> None:
            if data is not None:
                self._loaded = (position, end)
            then(data)

        self._elsewhere.read(lambda: self._read(position, end), loaded)

    def wait(self, reader: BodyReaderLike) -> None:
        """Tell `reader` whenever there is more, until it leaves or the end has been told."""
        self._readers.append(reader)

    def leave(self, reader: BodyReaderLike) -> None:
        """Tell `reader` no more; nothing happens if it was not told."""
        if reader in self._readers:
            self._readers.remove(reader)

    @property
    def readers(self) -> int:
        """How many are told."""
        return len(self._readers)

    def _opened(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Not at exit: the system does it then.
        weakref.finalize(self, self._elsewhere.close, descriptor).atexit = False

    def _at_hand(self, position: int) -> bool:
        try:
            return os.preadv(self._descriptor, [bytearray(1)], position, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False

    def _read(self, position: int, end: int) -> bytes | None:
        return read_exactly(self._descriptor, position, end)

    def _tell(self) -> None:
        told = list(self._readers)
        if self.complete or self.failed:
            self._readers.clear()
        for reader in told:
            reader.more()


class Sink(Protocol):
    """Where a growing file's data go, in the order of the calls. What comes of it is told later in the reactor."""

    def write(self, data: bytes) -> bool:
        """Then `wrote` or `broke` is called. False: too much is waiting, and this has not been taken."""

    def finish(self) -> None:
        """Then `ended` or `broke`."""

    def give_up(self) -> None:
        """The file is not wanted any more."""


class GrowingFile(OpenBody):
    """A body that is still coming; what has been written of it can be read. `complete` turns True when all has been.

    `on_room` is called when there is room again after `add` has given False.
    """

    def __init__(self, sink: Sink, elsewhere: Elsewhere, length: int | None, most: int) -> None:
        """`length` is how long it will be, None for not known; more than `most` bytes are not taken."""
        super().__init__(-1, 0, elsewhere)
        self.complete = False
        self.on_room: Callable[[], None] | None = None
        self.sink = self._sink = sink
        self.expected = -1 if length is None else length
        self._most = most
        self._given = 0
        self._finishing = self._full = False

    def add(self, data: bytes) -> bool:
        """More of it has come. False when the disk is behind: wait for `on_room`, or go on and risk that it fails."""
        if self.failed or self._finishing:
            return True
        self._given += len(data)
        most = self._most if self.expected < 0 else self.expected
        if self._given > most or self._given - self.length > TOO_FAR_BEHIND:
            self.fail()
            return True
        if data and not self._sink.write(data):
            self.fail()
            return True
        self._full = self._given - self.length > BEHIND
        return not self._full

    def finish(self) -> None:
        """All of it has come. A body that is shorter than it was to be fails."""
        if self.failed or self._finishing:
            return
        if self.expected >= 0 and self._given != self.expected:
            self.fail()
            return
        self._finishing = True
        self._sink.finish()

    def fail(self) -> None:
        """The rest will never come."""
        if not self.failed and not self.complete:
            self._sink.give_up()
            self.broke()

    def opened(self, descriptor: int) -> None:
        """The file is there."""
        self._opened(descriptor)

    def wrote(self, length: int) -> None:
        """So much of it can be read now."""
        if self.failed:
            return
        self.length = length
        if self._full and self._given - length <= BEHIND // 2:
            self._full = False
            if self.on_room is not None:
                self.on_room()
        self._tell()

    def ended(self) -> None:
        """All of it has been written."""
        if not self.failed:
            self.expected = self.length
            self.complete = True
            self.on_room = None  # who filled it holds it, and it would stay open until somebody looks for cycles
            self._tell()

    def broke(self) -> None:
        """It cannot be written, or need not be."""
        if self.failed or self.complete:
            return
        self.failed = True
        if self._full and self.on_room is not None:
            # Whoever waits for room would wait for ever.
            self._full = False
            self.on_room()
        self.on_room = None
        self._tell()


def read_exactly(descriptor: int, position: int, end: int) -> bytes | None:
    """The bytes between these positions; None when they are not there any more. Raises OSError."""
    parts = []
    while position < end:
        part = os.pread(descriptor, end - position, position)
        if not part:
            return None
        parts.append(part)
        position += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
