"""A transport that can be given TLS: the handshake, what TLS owes the kernel, what it holds inside, and its end.

Owns when a channel is asked what. Until `secure` is called it is a plain transport, and costs what that costs: the
channel's calls take the place of the socket's.
"""

from __future__ import annotations

from typing import Protocol

from lbproxy.net.lingering import LingerShared, linger
from lbproxy.net.polling import READ, WRITE
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.failures import TlsFailure
from lbproxy.net.transport import Shared, Transport


class SecureShared(Shared, LingerShared, Protocol):
    """What the transports of one process have in common."""


class SecureTransport(Transport):
    """See the module. `channel` is None without TLS; `cut` is True when the end is to be seen as one out of order."""

    __slots__ = ("_charged", "channel", "cut")
    shared: SecureShared

    def __init__(self, shared: SecureShared, sock: Socket) -> None:
        super().__init__(shared, sock)
        self.channel: MemoryChannel | None = None
        self.cut = False
        self._charged = 0

    # The handshake.

    def secure(self, channel: MemoryChannel) -> None:
        """Begin the handshake of `channel`; `handshake_over` follows, or `lost`."""
        self.channel = channel
        channel.attach(self._owing, self.look_inside)
        self.shake(channel)

    def _owing(self) -> None:
        self.charge_owed()
        self.watch(WRITE)
        if self.channel is not None and self.channel.blocked:
            self.unwatch(READ)

    def charge_owed(self) -> None:
        """Let the budget know what is owed."""
        owed = 0 if self.channel is None else self.channel.owes
        self.shared.budget.used += owed - self._charged
        self._charged = owed

    def shake(self, channel: MemoryChannel) -> None:
        """Go on with the handshake, since the socket has something for it or takes something."""
        if self.pending is not None:
            return  # what goes in front of the handshake is not sent yet; doWrite comes back
        try:
            wanted = channel.shake()
        except TlsFailure as failure:
            self.handshake_over(failure)
            return
        except OSError as problem:
            self.lost(problem)
            return
        if wanted:
            self.shared.poller.watch(self, wanted)
            return
        self._receive = channel.receive  # type: ignore[assignment]  # keeps the contract of recv_into
        self._send = channel.send  # type: ignore[assignment]  # keeps the contract of send
        # From the handshake's interest to the session's in one step.
        self.shared.poller.watch(self, READ | WRITE if channel.owes else READ)
        self.handshake_over(None)
        self.look_inside()

    def handshake_over(self, failure: TlsFailure | None) -> None:
        """The handshake has succeeded, or failed; subclasses that begin one say what that means."""
        raise NotImplementedError

    # Writing.

    @property
    def held(self) -> int:
        """See Transport: records that were made already count too."""
        owed = 0 if self.channel is None else self.channel.owes
        return owed + (0 if self.pending is None else len(self.pending))

    def doWrite(self) -> None:
        """See IWriteDescriptor: first what is owed of records that were made already."""
        channel = self.channel
        if channel is None:
            super().doWrite()
        elif not channel.established:
            if self.pending is not None:
                super().doWrite()
            if self.pending is None and self.sock is not None:
                self.shake(channel)
        else:
            self._write_on(channel)

    def _write_on(self, channel: MemoryChannel) -> None:
        try:
            flushed = channel.flush()
            self.charge_owed()
            if not flushed:
                return
            if channel.blocked:
                channel.blocked = False
                self.watch(READ)
        except OSError as problem:
            self.write_failed(problem)
            return
        if self.pending is not None:
            super().doWrite()
            return
        if self.finishing and not self.shut:
            self._shut_down()
            if not self.shut:
                return
        self.unwatch(WRITE)
        self.flushed()

    # What is inside.

    def watch_reading(self) -> None:
        """Wait for something to read, also for what TLS has read already."""
        self.watch(READ)
        self.look_inside()

    def look_inside(self) -> None:
        """What TLS holds inside makes no event: read it as if there had been one."""
        if self.channel is not None and self.channel.more:
            self.shared.later(0.0, self._read_inside)

    def _read_inside(self) -> None:
        channel = self.channel
        if self.sock is not None and self.mask & READ and channel is not None and channel.more:
            channel.more = False
            try:
                self.doRead()
            except Exception as problem:  # as where the poller calls it
                self.broken(problem)
            self.look_inside()

    # The end.

    def _shut_down(self) -> None:
        """See Transport: with TLS close_notify goes in front of FIN."""
        if self.channel is None or self.channel.goodbye():
            super()._shut_down()
        else:
            self.watch(WRITE)

    def close(self) -> None:
        """See Transport. TLS says that it is the end, if it is one: a loss or a cut must not look like it."""
        channel, sock = self.channel, self.sock
        if channel is not None and sock is not None:
            if channel.established and self.pending is None and not self.cut:
                channel.goodbye()
            self._release(channel, sock)
        super().close()

    def close_gently(self) -> None:
        """As close, so that what was said last in clear, or by a handshake that failed, is heard."""
        channel = self.channel
        if self.sock is not None and channel is not None and channel.established and self.pending is None:
            channel.goodbye()
        sock = self.detach()
        if sock is not None:
            if channel is not None:
                self._release(channel, sock)
            linger(self.shared, sock)

    def _release(self, channel: MemoryChannel, sock: Socket) -> None:
        channel.release()
        self.channel = None
        self.charge_owed()
        # They know the channel, which knows them.
        self._receive, self._send = sock.recv_into, sock.send

    def abort(self) -> None:
        """See Transport."""
        self.cut = True
        super().abort()
