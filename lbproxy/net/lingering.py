"""Closing so that the last words are heard.

A socket that is closed while the peer's bytes are unread sends a reset, and the reset takes with it what we said last:
an alert, an answer. So our half is closed, what comes is read and thrown away for a while, and then the rest is closed
(threats.md, "Short forms": the lingering close). Owns these sockets until then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from lbproxy.net.polling import READ, TROUBLE, Poller
from lbproxy.net.sockets import Socket

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024


class LingerShared(Protocol):
    """What lingering takes of a worker."""

    @property
    def poller(self) -> Poller:
        """Where it waits."""

    @property
    def lingering(self) -> set[Lingering]:
        """All who linger."""

    @property
    def most_lingering(self) -> int:
        """At once; with more than that somebody makes us do it, and a plain close has to do."""

    def later(self, delay: float, call: Callable[[], None], /) -> object:
        """Call after `delay` seconds."""


def linger(shared: LingerShared, sock: Socket) -> None:
    """Close `sock`, which is the caller's no more: at once where nothing can be lost by it, else after a while."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        sock.close()
        return
    if len(shared.lingering) >= shared.most_lingering:
        sock.close()
        return
    Lingering(shared, sock).begin()


@implementer(IReadDescriptor)
class Lingering:
    """One socket that only waits for its peer to have heard us."""

    __slots__ = ("_left", "_shared", "_sock", "fd", "mask")

    def __init__(self, shared: LingerShared, sock: Socket) -> None:
        self._shared = shared
        self._sock: Socket | None = sock
        self._left = LINGER_BYTES
        self.fd = sock.fileno()
        self.mask = 0

    def begin(self) -> None:
        """Wait for the peer's end, for as long as that may take."""
        self._shared.lingering.add(self)
        self._shared.poller.watch(self, READ)
        self._shared.later(LINGER_SECONDS, self.end)

    def end(self) -> None:
        """Close now. A second call changes nothing."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._shared.poller.forget(self)
            self._shared.lingering.discard(self)
            sock.close()

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self.fd if self._sock is not None else -1

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "Lingering"

    def doRead(self) -> None:
        """See IReadDescriptor: throw away what comes."""
        if self._sock is None:
            return
        try:
            count = len(self._sock.recv(16 * 1024))
        except BlockingIOError:
            return
        except OSError:
            count = 0
        self._left -= count
        if not count:
            self.end()
        elif self._left <= 0:
            # Whoever goes on sending is not read any more, but not reset either: it may still want to hear us. What its
            # kernel cannot deliver makes it look.
            self._shared.poller.watch(self, TROUBLE)

    def doWrite(self) -> None:
        """It never writes."""

    def troubled(self) -> None:
        """See Descriptor: the peer is gone, and has heard us or not."""
        self.end()

    def connectionLost(self, reason: Failure) -> None:
        """A stock reactor saw the end, or is about to end."""
        self.mask = 0
        self.end()

    def broken(self, problem: BaseException) -> None:
        """See Descriptor."""
        self.end()
