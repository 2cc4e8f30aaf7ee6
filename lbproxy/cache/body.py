"""The body of a stored answer, which may still be coming in.

Owns the bytes, in one piece once they are complete, and who waits for more of them. Refuses to know where they come
from and where they go. Whoever reads one keeps a position of its own, so slow readers cost nobody anything; a body
lives as long as someone has it, whatever the store does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

# How far, in bytes, the fastest reader may be ahead of the slowest one in a body that is too long to be kept.
LEAD = 256 * 1024
_SMALL = 4 * 1024


class BodyReaderLike(Protocol):
    """Who reads a body that is still coming, and has read it up to `position`."""

    @property
    def position(self) -> int:
        """Nothing in front of this is wanted any more."""

    @property
    def may_lag(self) -> bool:
        """Whether it can go on reading from the file of a long body, where there is one."""

    def more(self) -> None:
        """There is more to read now, or the end: see `complete` and `failed` of the body."""


class Body:
    """A body in memory. `length` is how much of it is there, `expected` how much it will be, -1 when nobody knows.
    `complete` turns True at its end, `failed` when there will never be one.

    `passing` tells that it is too long to be kept: only what readers still have to read is there, from `start` on.
    `behind` is the file that it is written to at the same time, None without one: what has got there is not kept
    for those who may lag. Should the file fail, they are waited for as if there were none.
    """

    __slots__ = (
        "_on_room",
        "_pieces",
        "_readers",
        "_starts",
        "behind",
        "complete",
        "expected",
        "failed",
        "length",
        "passing",
    )

    def __init__(self, expected: int = -1) -> None:
        self.expected = expected
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._readers: list[BodyReaderLike] = []
        self.length = 0
        self.complete = self.failed = self.passing = False
        self._on_room: Callable[[], None] | None = None
        self.behind: FileBody | None = None

    def add(self, data: bytes) -> None:
        """More of it has come."""
        if not data:
            return
        if self._pieces and len(self._pieces[-1]) < _SMALL:
            self._pieces[-1] += data  # each piece takes more than its bytes
        else:
            self._starts.append(self.length)
            self._pieces.append(data)
        self.length += len(data)
        self._tell()

    def finish(self) -> None:
        """All of it has come."""
        if len(self._pieces) > 1 and not self.passing:
            self._pieces, self._starts = [b"".join(self._pieces)], [0]
        self.complete = True
        self._on_room = None
        self._tell()

    def fail(self) -> None:
        """The rest will never come."""
        self.failed = True
        self._on_room = None
        self._tell()

    def whole(self) -> bytes:
        """All bytes that are there."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def read(self, position: int, most: int) -> bytes | memoryview:
        """Up to `most` of the bytes from `position` on; b"" if there are none yet."""
        if position >= self.length:
            return b""
        index = bisect_right(self._starts, position) - 1
        piece, offset = self._pieces[index], position - self._starts[index]
        if not offset and len(piece) <= most:
            return piece
        return memoryview(piece)[offset : offset + most]

    def wait(self, reader: BodyReaderLike) -> None:
        """Tell `reader` whenever there is more, until it leaves or the end has been told."""
        self._readers.append(reader)

    def leave(self, reader: BodyReaderLike) -> None:
        """Tell `reader` no more; nothing happens if it was not told."""
        if reader in self._readers:
            self._readers.remove(reader)
            self.advanced()

    def pass_on(self, on_room: Callable[[], None], behind: FileBody | None = None) -> None:
        """Keep only what readers have not read yet; whoever fills this asks for `lead`, and goes on at `on_room`."""
        self.passing = True
        self.behind = behind
        self._on_room = on_room
        self._trim()

    def advanced(self) -> None:
        """A reader has gone on, or left; or more of the file has been written."""
        # Behind its end nobody is told any more, so it is not known who still reads: what is there stays.
        if self.passing and not (self.complete or self.failed):
            self._trim()
            if self._on_room is not None:
                self._on_room()

    @property
    def readers(self) -> int:
        """How many are told."""
        return len(self._readers)

    @property
    def weight(self) -> int:
        """How many bytes it takes, or is going to take, in memory."""
        return self.length - self.start if self.passing else max(self.length, self.expected)

    @property
    def start(self) -> int:
        """The first byte that is here: 0, unless this is passing."""
        return self._starts[0] if self._starts else self.length

    @property
    def lead(self) -> int:
        """How many bytes the slowest reader still has to read of what is there, that of a healthy file included."""
        length, written = self.length, 0
        behind = self.behind
        if behind is not None and not behind.failed:
            written = behind.length
        low = length if behind is None or behind.failed else written
        for reader in self._readers:
            low = min(low, max(reader.position, written) if reader.may_lag else reader.position)
        return length - low

    def _trim(self) -> None:
        index = bisect_right(self._starts, self.length - self.lead) - 1
        if index > 0:
            del self._pieces[:index], self._starts[:index]

    def _tell(self) -> None:
        told = list(self._readers)
        if self.complete or self.failed:
            self._readers.clear()
        for reader in told:
            reader.more()


class FileBody(Protocol):
    """A body in a file, which may still be written; the attributes are those of Body, and so are `wait` and `leave`."""

    length: int
    expected: int
    complete: bool
    failed: bool

    def wait(self, reader: BodyReaderLike) -> None:
        """See Body."""

    def leave(self, reader: BodyReaderLike) -> None:
        """See Body."""

    def descriptor(self) -> int:
        """The open file, for sendfile(2); it stays open as long as this object lives."""

    def ready(self, position: int, most: int) -> bool:
        """Whether these bytes can be had without waiting for the disk, as far as that can be told."""

    def load(self, position: int, most: int, then: Callable[[bytes | None], None]) -> None:
        """Read these bytes in a thread, then call with them, None when they cannot be had."""


AnyBody = bytes | Body | FileBody
