"""One active check of a backend: connect, perhaps send a few bytes, and compare the answer.

Owns the connection of a check and its deadline. Refuses to judge: the result goes to whoever began it. The codes are
those of the health-check log of HAProxy.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lbproxy.model import CheckSettings
from lbproxy.net.dialing import connect_error, open_connection
from lbproxy.net.polling import READ, WRITE, Poller
from lbproxy.net.sockets import Socket

# A check asks for a few bytes; an answer that has not matched by then will not.
ANSWER_BYTES = 16 * 1024

# The code, and what there is to say about it ("" for most).
Result = Callable[[str, str], None]


@implementer(IReadWriteDescriptor)
class CheckConnection:
    """One check. `done(code, detail)` is called exactly once, unless the check is cancelled."""

    log = Logger()

    def __init__(self, reactor: Any, poller: Poller, settings: CheckSettings, preamble: bytes, done: Result) -> None:
        self._poller = poller
        self._expect = settings.expect
        self._unsent = preamble + settings.send
        self._answer = b""
        self._done = done
        self._sock: Socket | None = None
        self._target: Any = None
        self._connected = False
        self._timeout = reactor.callLater(settings.timeout, self._time_out)
        self.fd = -1
        self.mask = 0

    def begin(self, family: int, target: Any) -> None:
        """Connect to what `target_of` gave."""
        self._target = target
        try:
            self._sock, code = open_connection(family, target)
        except OSError:
            self._finish("SOCKERR")
            return
        if code not in (0, errno.EINPROGRESS):
            self._finish(_connect_code(code))
            return
        self.fd = self._sock.fileno()
        self._poller.watch(self, WRITE)

    def cancel(self) -> None:
        """Forget about this check; nobody hears of it."""
        self._done = _ignore
        self._finish("")

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self.fd if self._sock is not None else -1

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "Check"

    def doWrite(self) -> None:
        """See IWriteDescriptor."""
        sock = self._sock
        assert sock is not None
        if not self._connected:
            code = sock.connect_ex(self._target)
            if code in (errno.EALREADY, errno.EINPROGRESS, errno.EINTR):
                return
            if code not in (0, errno.EISCONN):
                self._finish(_connect_code(code))
                return
            self._connected = True
        self._speak(sock)

    def doRead(self) -> None:
        """See IReadDescriptor."""
        assert self._sock is not None
        try:
            data = self._sock.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard(data)

    def troubled(self) -> None:
        """See Descriptor: this one never waits for trouble alone."""

    def connectionLost(self, reason: Failure) -> None:
        """A stock reactor saw the connection end."""
        self.mask = 0
        if self._sock is None:
            return
        if self._connected:
            self._lost()
        else:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._finish(_connect_code(code or errno.ECONNREFUSED))

    def broken(self, problem: BaseException) -> None:
        """See Descriptor."""
        self.log.failure("a fault of lbproxy ended a check", Failure(problem))
        self._finish("SOCKERR")

    # What differs with TLS.

    def _speak(self, sock: Socket) -> None:
        """Connected: send what is left to be sent."""
        try:
            self._unsent = self._unsent[sock.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            return
        except OSError:
            self._finish("L7RSP")
            return
        if self._unsent:
            return
        if self._expect:
            self._poller.watch(self, READ)
        else:
            self._finish("L4OK")

    def _heard(self, data: bytes, detail: str = "") -> None:
        """The next piece of the answer; b"" is its end."""
        self._answer += data
        if self._expect in self._answer:
            self._finish("L7OK")
        elif not data or len(self._answer) >= ANSWER_BYTES:
            self._finish("L7RSP", detail)

    def _lost(self) -> None:
        """The connection is gone, after it stood."""
        self._finish("L7RSP")

    def _time_out(self) -> None:
        self._finish("L7TOUT" if self._connected else "L4TOUT")

    def _close(self, sock: Socket) -> None:
        sock.close()

    def _finish(self, code: str, detail: str = "") -> None:
        if self._timeout.active():
            self._timeout.cancel()
        if self._sock is not None:
            self._poller.forget(self)
            sock, self._sock = self._sock, None
            self._close(sock)
        done, self._done = self._done, _ignore
        done(code, detail)


def _ignore(code: str, detail: str) -> None:
    """Where the results of ended checks go."""


def _connect_code(code: int) -> str:
    return {"timeout": "L4TOUT", "local_resource": "SOCKERR"}.get(connect_error(code).value, "L4CON")
