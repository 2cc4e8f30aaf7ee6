"""One active check of a backend: connect, perhaps ask something, and hear the answer.

Owns the connection of a check and its deadline, and the simplest question: a few bytes, and others to look for in the
answer. Refuses to judge: the result goes to whoever began it. The codes are those of the health-check log of HAProxy.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Protocol

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
Verdict = tuple[str, str]
Result = Callable[[str, str], None]


class Question(Protocol):
    """What is said once a connection stands, and what the answer to it is worth. Good for one check."""

    @property
    def send(self) -> bytes:
        """What is said, b"" for nothing."""

    @property
    def waits(self) -> bool:
        """Whether an answer is waited for; without one, that everything could be sent is enough."""

    def heard(self, data: bytes) -> Verdict | None:
        """The next bytes of the answer; the verdict as soon as they allow one, however they are split."""

    def ended(self, cut: str) -> Verdict:
        """No more comes, and there is no verdict yet. `cut` tells how the connection broke, "" for an orderly end."""


class BytesQuestion:
    """Bytes to send, and bytes that must be in the first 16 KiB of the answer."""

    def __init__(self, settings: CheckSettings) -> None:
        self.send = settings.send
        self.waits = settings.expect != b""
        self._expect = settings.expect
        self._answer = b""

    def heard(self, data: bytes) -> Verdict | None:
        """See Question."""
        self._answer = (self._answer + data)[:ANSWER_BYTES]
        if self._expect in self._answer:
            return "L7OK", ""
        return ("L7RSP", "") if len(self._answer) == ANSWER_BYTES else None

    def ended(self, cut: str) -> Verdict:
        """See Question."""
        return "L7RSP", cut


@implementer(IReadWriteDescriptor)
class CheckConnection:
    """One check. `done(code, detail)` is called exactly once, unless the check is cancelled."""

    log = Logger()

    def __init__(
        self, reactor: Any, poller: Poller, timeout: float, preamble: bytes, question: Question, done: Result
    ) -> None:
        """`timeout` is for all of it, in seconds. `preamble` goes out in front of the question."""
        self._poller = poller
        self._question = question
        self._unsent = preamble + question.send
        self._answered = False
        self._done = done
        self._sock: Socket | None = None
        self._target: Any = None
        self._connected = False
        self._timeout = reactor.callLater(timeout, self._time_out)
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
        except OSError as problem:
            self._lost(problem.strerror or "")
        else:
            self._heard(data)

    def troubled(self) -> None:
        """See Descriptor: this one never waits for trouble alone."""

    def connectionLost(self, reason: Failure) -> None:
        """A stock reactor saw the connection end."""
        self.mask = 0
        if self._sock is None:
            return
        if self._connected:
            self._lost("")
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
        except OSError as problem:
            self._lost(problem.strerror or "")
            return
        if self._unsent:
            return
        if self._question.waits:
            self._poller.watch(self, READ)
        else:
            self._finish("L4OK")

    def _heard(self, data: bytes) -> None:
        """The next piece of the answer; b"" is its orderly end."""
        if not data:
            self._ended("")
            return
        self._answered = True
        verdict = self._question.heard(data)
        if verdict is not None:
            self._finish(*verdict)

    def _ended(self, cut: str) -> None:
        """No more comes; see Question."""
        self._finish(*self._question.ended(cut))

    def _lost(self, why: str) -> None:
        """The connection is gone, after it stood."""
        self._ended(why or "the connection was lost")

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
