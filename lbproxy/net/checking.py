"""Active checks: one short connection to a backend, again and again.

Owns the connection of a check and its timing. Refuses to judge: each result goes to the pool, which counts rise and
fall. The codes are those of the health-check log of HAProxy.
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

# A check asks for a few bytes; an answer that has not matched by then will not.
_ANSWER_BYTES = 16 * 1024
_SPREAD = 0.1

Result = Callable[[str], None]


@implementer(IReadWriteDescriptor)
class CheckConnection:
    """One check: connect, send, compare. `done(code)` is called exactly once, unless the check is cancelled."""

    log = Logger()

    def __init__(self, reactor: Any, poller: Poller, settings: CheckSettings, preamble: bytes, done: Result) -> None:
        self._reactor = reactor
        self._poller = poller
        self._expect = settings.expect
        self._unsent = preamble + settings.send
        self._answer = b""
        self._done = done
        self._sock: socket.socket | None = None
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
            self._finish("L7OK" if self._answer else "L4OK")

    def doRead(self) -> None:
        """See IReadDescriptor."""
        assert self._sock is not None
        try:
            data = self._sock.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._answer += data
        if self._expect in self._answer:
            self._finish("L7OK")
        elif not data or len(self._answer) >= _ANSWER_BYTES:
            self._finish("L7RSP")

    def troubled(self) -> None:
        """See Descriptor: this one never waits for trouble alone."""

    def connectionLost(self, reason: Failure) -> None:
        """A stock reactor saw the connection end."""
        self.mask = 0
        if self._sock is not None:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._finish("L7RSP" if self._connected else _connect_code(code or errno.ECONNREFUSED))

    def broken(self, problem: BaseException) -> None:
        """See Descriptor."""
        self.log.failure("a fault of lbproxy ended a check", Failure(problem))
        self._finish("SOCKERR")

    def _time_out(self) -> None:
        self._finish("L7TOUT" if self._connected else "L4TOUT")

    def _finish(self, code: str) -> None:
        if self._timeout.active():
            self._timeout.cancel()
        if self._sock is not None:
            self._poller.forget(self)
            self._sock.close()
            self._sock = None
        done, self._done = self._done, _ignore
        done(code)


def _ignore(code: str) -> None:
    """Where the results of ended checks go."""


def _connect_code(code: int) -> str:
    return {"timeout": "L4TOUT", "local_resource": "SOCKERR"}.get(connect_error(code).value, "L4CON")


class Checker:
    """The checks of one backend, from `start` to `stop`. `told(code)` hears every result."""

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        settings: CheckSettings,
        preamble: bytes,
        where: Callable[[], tuple[int, Any] | None],
        told: Result,
        random: Callable[[], float],
    ) -> None:
        """`where` gives family and address at the time of each check, None while there is none (no check then)."""
        self._reactor = reactor
        self._poller = poller
        self.settings = settings
        self._preamble = preamble
        self._where = where
        self._told = told
        self._random = random
        self._next: Any = None
        self._running: CheckConnection | None = None

    def start(self) -> None:
        """Begin somewhere in the first interval, so that the checks of many backends spread."""
        self._next = self._reactor.callLater(self._random() * self.settings.interval, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _check(self) -> None:
        jitter = 1 + _SPREAD * (2 * self._random() - 1)
        self._next = self._reactor.callLater(self.settings.interval * jitter, self._check)
        target = self._where()
        if target is None or self._running is not None:
            return
        self._running = CheckConnection(self._reactor, self._poller, self.settings, self._preamble, self._result)
        self._running.begin(*target)

    def _result(self, code: str) -> None:
        self._running = None
        self._told(code)
