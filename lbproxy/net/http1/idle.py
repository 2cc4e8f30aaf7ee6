"""Connections to backends that wait for the next request.

Owns which of them is used next (the one that came back last, RFC 9112 says nothing on it: the others may grow old) and
when they are closed. Two connections are interchangeable only if all that matters is equal: the backend, and how TLS is
spoken with it. One whose backend has said or closed something in the meantime is never used again.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from lbproxy.balancing.backend import Backend
from lbproxy.net.tls.clients import ClientTls

if TYPE_CHECKING:
    from lbproxy.net.http1.backend import BackendConnection

# How often old ones are looked for (seconds).
_SWEEP = 0.5
# A request that cannot be sent twice goes on a connection that was idle for less than this (seconds).
_SURE = 1.0
# One that came back less than this ago (seconds) is not looked at again: what the kernel had to tell of it before the
# request came, it has told by now, since it tells events in their order. The look is one more system call of five.
_FRESH = 0.1


class IdleShared(Protocol):
    """What this takes of a worker."""

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""

    def later(self, delay: float, call: Callable[[], None], /) -> Any:
        """Call after `delay` seconds."""


class IdleConnections:
    """All of one worker, by backend; the last of each list is the next to be used."""

    __slots__ = ("_by_backend", "_shared", "_sweeping", "count")

    def __init__(self, shared: IdleShared) -> None:
        self._shared = shared
        self._by_backend: dict[Backend, list[BackendConnection]] = {}
        self._sweeping = False
        self.count = 0

    def take(self, backend: Backend, tls: ClientTls | None, now: float, *, sure: bool) -> BackendConnection | None:
        """A connection that may be used now, None when there is none. `sure` asks for one that was used just now."""
        waiting = self._by_backend.get(backend)
        while waiting:
            side = waiting.pop()
            self.count -= 1
            if side.sock is None:
                continue
            if now >= side.idle_until or side.tls is not tls or (sure and now - side.idle_since >= _SURE):
                # Those below are older still; the sweep closes them when their time has come.
                side.retire()
                if sure:
                    return None
                continue
            if (sure or now - side.idle_since >= _FRESH) and side.readable(0):
                side.doRead()
                if side.sock is None:
                    continue
            return side
        return None

    def give(self, side: BackendConnection, most: int) -> None:
        """Let a connection wait; `most` may do so for its backend, beyond them the oldest is closed."""
        waiting = self._by_backend.get(side.backend)
        if waiting is None:
            waiting = self._by_backend[side.backend] = []
        waiting.append(side)
        self.count += 1
        if len(waiting) > most:
            oldest = waiting.pop(0)
            self.count -= 1
            oldest.retire()
        if not self._sweeping:
            self._sweeping = True
            self._shared.later(_SWEEP, self._sweep)

    def forget(self, side: BackendConnection) -> None:
        """It has closed while it waited."""
        waiting = self._by_backend.get(side.backend)
        if waiting is not None and side in waiting:
            waiting.remove(side)
            self.count -= 1

    def _sweep(self) -> None:
        """Close those whose time is over, and see to it that no backend is kept for the sake of an empty list."""
        now = self._shared.clock()
        for backend, waiting in list(self._by_backend.items()):
            for side in [side for side in waiting if now >= side.idle_until]:
                side.retire()
            if not waiting:
                del self._by_backend[backend]
        self._sweeping = bool(self._by_backend)
        if self._sweeping:
            self._shared.later(_SWEEP, self._sweep)

    def close(self) -> None:
        """Close all."""
        for waiting in list(self._by_backend.values()):
            for side in list(waiting):
                side.retire()
        self._by_backend.clear()
        self.count = 0


def readability(fd: int) -> Callable[[int], list[tuple[int, int]]]:
    """A question for the kernel that costs one call: what can be read from `fd` now (its argument is 0, no waiting)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return poll.poll
