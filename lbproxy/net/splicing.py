"""Pipes for bulk: the kernel moves pages from socket to pipe to socket, nothing is copied into the process.

Owns the pool of pipes. A pipe that may still hold bytes is closed, never pooled: no byte of one client can
reach another through it (threats.md, scenario 29).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable

# How many full buffers in a row prove a stream to be bulk, and how many thin splices in a row prove the contrary.
BULK_READS = 2
THIN_SPLICES = 4
# Asked for in one splice; the kernel gives as much as the pipe has room for.
SPLICE_BYTES = 1 << 20
_MOST_FREE = 64
# Four times the kernel's default: a third less CPU per byte was measured for it, and little more for 1 MiB.
_PIPE_BYTES = 256 * 1024

if hasattr(os, "splice"):
    _FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

    def splice(source: int, target: int, count: int) -> int:
        """Move up to `count` bytes; one of both is a pipe. Raises BlockingIOError when nothing can move now."""
        return os.splice(source, target, count, flags=_FLAGS)
else:  # not Linux: Pipes.take() answers None and this is never called

    def splice(source: int, target: int, count: int) -> int:
        """Not on this platform."""
        raise NotImplementedError


class Pipe:
    """A pipe with its two ends; `held` bytes are in it, of which the budget knows `charged`."""

    __slots__ = ("charged", "enter", "exit", "held")

    def __init__(self) -> None:
        self.exit, self.enter = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A user has an allowance for large pipes (pipe(7)); beyond it, the default size serves.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.enter, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.held = 0
        self.charged = 0

    def close(self) -> None:
        """Close both ends, and lose what is held."""
        os.close(self.exit)
        os.close(self.enter)


_MAKE = Pipe if hasattr(os, "splice") else None


class Pipes:
    """Pipes to be used again, `limit` in use at the most, since each costs two descriptors.

    `make` is what makes one; None, as where there is no splice, switches splicing off.
    """

    __slots__ = ("_free", "_limit", "_make", "in_use")

    def __init__(self, limit: int = 1024, make: Callable[[], Pipe] | None = _MAKE) -> None:
        self._make = make
        self._limit = limit
        self._free: list[Pipe] = []
        self.in_use = 0

    def take(self) -> Pipe | None:
        """An empty pipe, or None when there is none to be had: the stream is copied then."""
        if self._make is None or self.in_use >= self._limit:
            return None
        if self._free:
            self.in_use += 1
            return self._free.pop()
        try:
            pipe = self._make()
        except OSError:
            return None
        self.in_use += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """End the use of `pipe`. One with bytes in it is closed."""
        self.in_use -= 1
        if pipe.held or len(self._free) >= _MOST_FREE:
            pipe.close()
        else:
            self._free.append(pipe)

    def close(self) -> None:
        """Close those that are free."""
        while self._free:
            self._free.pop().close()
