"""A connected socket that writes at once.

Owns one non-blocking stream socket: what waits to be sent, half-close, reset, and the interest told to the poller.
Refuses to know what the bytes mean. A write is tried immediately; only what the kernel did not take is kept, and only
then is the poller asked for writability.
"""

from __future__ import annotations

import errno
import socket
import struct
from fcntl import ioctl
from typing import Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from lbproxy.net.polling import TROUBLE, WRITE, Poller
from lbproxy.net.sockets import Socket

RECEIVE_BYTES = 64 * 1024
_TCP_CLOSE = 7  # the state of TCP_INFO, see tcp_states.h
_SIOCOUTQ = 0x5411  # bytes in the send queue, see tcp(7)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST

# One receive buffer for the whole process: bytes leave it before the next descriptor is read.
RECEIVE_BUFFER = bytearray(RECEIVE_BYTES)
RECEIVE_VIEW = memoryview(RECEIVE_BUFFER)


class Budget:
    """What all transports of a process may hold back together, in bytes (threats.md R2)."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Shared(Protocol):
    """What the transports of one process have in common."""

    @property
    def poller(self) -> Poller:
        """Where they say what they wait for."""

    @property
    def budget(self) -> Budget:
        """What they may hold together."""


@implementer(IReadWriteDescriptor)
class Transport:
    """One connected stream socket. Subclasses say what reading means (`doRead`) and hear of losses (`lost`).

    `pending` is what the kernel did not take yet; `dropped` counts what was still pending at the close. `finished` is
    True once the peer sent FIN, `shut` once we did. `sock` is None once closed.
    """

    __slots__ = (
        "_receive",
        "_send",
        "bytes_in",
        "dropped",
        "fd",
        "finished",
        "finishing",
        "mask",
        "pending",
        "shared",
        "shut",
        "sock",
    )

    def __init__(self, shared: Shared, sock: Socket) -> None:
        self.shared = shared
        self.sock: Socket | None = sock
        self.fd = sock.fileno()
        self._receive = sock.recv_into
        self._send = sock.send
        self.mask = 0
        self.pending: memoryview | None = None
        self.finished = False
        self.finishing = False
        self.shut = False
        self.bytes_in = 0
        self.dropped = 0

    # What the reactor calls.

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self.fd if self.sock is not None else -1

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return type(self).__name__

    def doRead(self) -> None:
        """See IReadDescriptor."""
        raise NotImplementedError

    def doWrite(self) -> None:
        """See IWriteDescriptor: offer the kernel what is pending."""
        pending = self.pending
        if pending is None:
            self.unwatch(WRITE)
            return
        try:
            sent = self._send(pending)
        except BlockingIOError:
            return
        except OSError as problem:
            self.write_failed(problem)
            return
        self.shared.budget.used -= sent
        if sent < len(pending):
            self.pending = pending[sent:]
            self.progressed()
            return
        self.pending = None
        if not self.held:
            self.unwatch(WRITE)
        if self.finishing:
            self._shut_down()
        self.flushed()

    def connectionLost(self, reason: Failure) -> None:
        """A stock reactor saw a hang-up or an error before we did, or is about to end."""
        self.mask = 0
        if self.sock is None:
            return
        if reason.check(ConnectionDone, ConnectionLost) is None:
            # Not the connection: doRead or doWrite raised, and the reactor has logged it.
            self.broken(reason.value or RuntimeError(str(reason)))
        else:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.lost(OSError(code or errno.ECONNRESET, reason.getErrorMessage()))

    def troubled(self) -> None:
        """See Descriptor. As long as bytes or a FIN can be read, they come first, when it is their turn."""
        if self.sock is None:
            return
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)

    def broken(self, problem: BaseException) -> None:
        """See Descriptor."""
        raise NotImplementedError

    # What subclasses hear.

    def lost(self, problem: OSError) -> None:
        """The connection is gone for good; nothing more can be read or written."""
        raise NotImplementedError

    def write_failed(self, problem: OSError) -> None:
        """Nothing more can be written. Subclasses that still want to read what has come already do so first."""
        self.lost(problem)

    def flushed(self) -> None:
        """All that was pending has been taken by the kernel (and FIN sent, if that was asked for)."""

    def progressed(self) -> None:
        """Some of what is pending has been taken by the kernel."""

    # What sessions ask for.

    def watch(self, mask: int) -> None:
        """Wait for `mask` too. Nothing happens on a closed one: its number may be another's by now."""
        if self.sock is not None:
            self.shared.poller.watch(self, (self.mask | mask) & ~TROUBLE)

    def unwatch(self, mask: int) -> None:
        """Wait for `mask` no more. A reset is noticed all the same, where the poller can."""
        if self.sock is not None:
            self.shared.poller.watch(self, self.mask & ~mask or TROUBLE)

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`: now as far as the kernel takes it, the rest when it can."""
        if self.pending is not None:
            self.hold(data)
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            self.dropped += len(data)
            self.write_failed(problem)
            return
        if sent < len(data):
            self.hold(memoryview(data)[sent:])

    def hold(self, data: bytes | memoryview) -> None:
        """Keep a copy of `data` behind what is pending, and ask for writability."""
        self.shared.budget.used += len(data)
        self.pending = memoryview(bytes(data) if self.pending is None else bytes(self.pending) + data)
        self.watch(WRITE)

    def finish(self) -> None:
        """Half-close: FIN after all that is pending; reading goes on. A second call changes nothing."""
        if self.finishing or self.sock is None:
            return
        self.finishing = True
        if self.pending is None:
            self._shut_down()

    def unsent(self) -> int:
        """Bytes that the peer's kernel has not acknowledged yet, and still may: those held here, and our kernel's send
        queue.
        """
        count = self.unacknowledged()
        # What was not acknowledged when the peer reset the connection never is.
        return 0 if count and self._reset_by_peer() else count

    def unacknowledged(self) -> int:
        """The same, be the connection at its end or not."""
        if self.sock is None:
            return 0
        queued: int = struct.unpack("i", ioctl(self.fd, _SIOCOUTQ, b"\0\0\0\0"))[0]
        if self.shut and queued:
            queued -= 1  # our FIN counts as a byte, and a peer that is gone never acknowledges it
        return queued + self.held

    def _reset_by_peer(self) -> bool:
        """Whether TCP has ended under us; the queue is told as it was then."""
        assert self.sock is not None  # asked of open ones only
        try:
            return self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
        except OSError:
            return False  # it is a UNIX socket

    @property
    def held(self) -> int:
        """Bytes that our kernel has not taken yet."""
        return 0 if self.pending is None else len(self.pending)

    def close(self) -> None:
        """Close at once. What the kernel has taken is still delivered, what is pending is not."""
        sock = self.sock
        if sock is None:
            return
        if self.mask:
            self.shared.poller.forget(self)
        self.sock = None
        self.drop_pending()
        sock.close()

    def detach(self) -> Socket | None:
        """Be closed, without the socket: that is the caller's now, who closes it. None when it is closed already."""
        sock = self.sock
        if sock is not None:
            self.shared.poller.watch(self, 0)
            self.sock = None
            self.drop_pending()
        return sock

    def drop_pending(self) -> None:
        """Forget what the kernel did not take."""
        if self.pending is not None:
            self.dropped += len(self.pending)
            self.shared.budget.used -= len(self.pending)
            self.pending = None

    def abort(self) -> None:
        """Reset the connection: the peer learns that it did not end in order."""
        if self.sock is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()

    def _shut_down(self) -> None:
        self.shut = True
        assert self.sock is not None  # finish() and doWrite() run on open sockets only
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as problem:
            self.write_failed(problem)  # the peer was quicker with its reset
