"""One active check of a backend that speaks TLS: connect, handshake, then as without.

The backend is verified as it is for sessions, so that a check fails where they would. Owns the handshake of a check.
L6OK: the handshake passed, and nothing more was asked; L6RSP: bad TLS; L6TOUT: none within the check's time.
"""

from __future__ import annotations

import errno
from typing import Any

from lbproxy.addresses import Address
from lbproxy.net.check_tcp import ANSWER_BYTES, CheckConnection, Question, Result
from lbproxy.net.polling import READ, WRITE, Poller
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.failures import TlsFailure


class TlsCheckConnection(CheckConnection):
    """See the module, and CheckConnection. `preamble` goes out in clear, in front of the ClientHello."""

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        timeout: float,
        preamble: bytes,
        question: Question,
        done: Result,
        tls: ClientTls,
        address: Address,
    ) -> None:
        """`address` is the backend's, for the name to be verified."""
        super().__init__(reactor, poller, timeout, preamble, question, done)
        self._preamble, self._unsent = preamble, question.send
        self._tls = tls
        self._address = address
        self._clock = reactor.seconds
        self._began = 0.0
        self._channel: MemoryChannel | None = None
        self._secured = False

    def doRead(self) -> None:
        """See IReadDescriptor."""
        assert self._sock is not None
        if self._secured:
            self._listen()
        else:
            self._speak(self._sock)

    def _speak(self, sock: Socket) -> None:
        """See CheckConnection."""
        try:
            if self._channel is None:
                self._began = self._clock()
                self._channel = self._tls.begin(self._address, sock)
            if not self._secured:
                self._shake(sock, self._channel)
            if self._secured:
                self._send(self._channel)
        except BlockingIOError:
            self._poller.watch(self, WRITE)
        except TlsFailure as failure:
            self._finish("L7RSP" if self._secured else "L6RSP", f"{failure.word}: {failure.strerror}")
        except OSError as problem:
            self._lost(problem.strerror or "")

    def _shake(self, sock: Socket, channel: MemoryChannel) -> None:
        if self._preamble:
            self._preamble = self._preamble[sock.send(self._preamble) :]
            if self._preamble:
                raise BlockingIOError(errno.EAGAIN, "the kernel takes no more")
        wanted = channel.shake()
        if wanted:
            self._poller.watch(self, wanted)
            return
        self._tls.verify(self._address, channel, self._clock() - self._began)
        self._secured = True

    def _send(self, channel: MemoryChannel) -> None:
        if self._unsent:
            self._unsent = self._unsent[channel.send(self._unsent) :]
        if self._unsent or not channel.flush():
            raise BlockingIOError(errno.EAGAIN, "the kernel takes no more")
        if self._question.waits:
            self._poller.watch(self, READ)
            self._listen()  # what came with the end of the handshake makes no event any more
        else:
            self._finish("L6OK")

    def _listen(self) -> None:
        buffer = bytearray(ANSWER_BYTES)
        while self._sock is not None and self._channel is not None:
            try:
                count = self._channel.receive(buffer)
            except BlockingIOError:
                return
            except OSError as problem:
                self._lost(problem.strerror or "")
            else:
                self._heard(bytes(buffer[:count]))

    def _lost(self, why: str) -> None:
        """See CheckConnection."""
        if self._secured:
            super()._lost(why)
        else:
            self._finish("L6RSP", "closed: the backend closed within the TLS handshake")

    def _time_out(self) -> None:
        if self._connected and not self._secured:
            self._finish("L6TOUT")
        else:
            super()._time_out()

    def _close(self, sock: Socket) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            if self._secured:
                if self._answered or not _tickets_come_later(channel):
                    self._tls.remember(self._address, channel)
                channel.goodbye()
            channel.release()
        super()._close(sock)


def _tickets_come_later(channel: MemoryChannel) -> bool:
    """In TLS 1.3 what is resumed with comes behind the handshake (RFC 8446, 4.6.1). A connection that has read nothing
    has none, and to remember it would throw away what a session that ran meanwhile was given.
    """
    return channel.connection.get_protocol_version_name() == "TLSv1.3"
