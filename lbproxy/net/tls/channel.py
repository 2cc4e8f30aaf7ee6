"""A TLS connection as a side sees it: a handshake, then bytes in and out as from a plain socket; and the portable way.

`receive` and `send` keep the contract of `socket.recv_into` and `socket.send` (a count, 0 at the orderly end,
BlockingIOError, OSError), so that what moves bytes need not know whether they are encrypted. Owns the connection and
what its errors mean. Refuses to know who waits for what: `shake` says it, the side does it.

`MemoryChannel` hands ciphertext through memory, with nothing but pyOpenSSL's documented calls; it runs wherever those
do.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

from OpenSSL import SSL

from lbproxy.net.polling import READ, WRITE
from lbproxy.net.tls.failures import TlsFailure, Truncated, handshake_failure

# Of ciphertext: one record at a time, so that what comes out always fits into a receive buffer.
_PULL_BYTES = 16 * 1024
# Records that carry no data (KeyUpdate, alerts) between two that do; see threats.md L8.
_MOST_CONTROLS = 32


class MemoryChannel:
    """See the module. `established` turns True with the handshake; `more` says that something is left inside which no
    event of the socket will tell. `errors` are the codes of certificate verification that were met, see verify(1).
    """

    __slots__ = (
        "_again",
        "_controls",
        "_late",
        "_out",
        "_said_goodbye",
        "_sock",
        "_wake",
        "connection",
        "errors",
        "established",
        "more",
    )

    def __init__(self, connection: SSL.Connection, sock: socket.socket, hello: bytes = b"") -> None:
        """Over the connected, non-blocking `sock`. `hello` is what was read from it already."""
        self.connection = connection
        self._sock = sock
        self._out = b""
        self._late: OSError | None = None
        self._controls = 0
        self._said_goodbye = False
        self._wake: Callable[[], None] | None = None
        self.established = False
        self.more = False
        self.errors: list[int] = []
        connection.set_app_data(self.errors)
        if hello:
            connection.bio_write(hello)

    @property
    def owes(self) -> int:
        """Bytes of ciphertext that the kernel has not taken yet."""
        return len(self._out)

    def when_owing(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever bytes are left that only `flush` can get rid of."""
        self._wake = wake

    # The handshake.

    def shake(self) -> int:
        """Go on with the handshake: 0 when it is done, else READ or WRITE, whichever is to be waited for.

        Raises TlsFailure, and OSError when the connection is gone.
        """
        while True:
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                if not self.flush():
                    return WRITE
                if not self._pull():
                    return READ
            except SSL.Error as problem:
                self.flush()  # the alert
                raise handshake_failure(problem, self.errors) from None
            else:
                self.established = True
                self.flush()
                self._count_controls()
                self.more = True
                return 0

    def _count_controls(self) -> None:
        self.connection.set_info_callback(lambda *_: self._control_seen())

    def _control_seen(self) -> None:
        self._controls += 1

    # Bytes.

    def receive(self, buffer: bytearray | memoryview) -> int:
        """As socket.recv_into: 0 at close_notify. Raises Truncated at an end without one."""
        if self._late is not None:
            raise self._late
        self.more = False
        view = memoryview(buffer)
        total = 0
        while True:
            try:
                total += self.connection.recv_into(view[total:])
            except SSL.WantReadError:
                if total:
                    self._controls = 0
                    return total
                self._judge_controls()
                self._answer()
                if not self._pull():
                    raise BlockingIOError(errno.EAGAIN, "no whole record yet") from None
            except SSL.ZeroReturnError:
                self.more = bool(total)
                return total
            except SSL.Error as problem:
                self._answer()
                if not total:
                    raise _reading_failed(problem) from None
                self._late = _reading_failed(problem)
                self.more = True
                return total

    def send(self, data: bytes | memoryview) -> int:
        """As socket.send: all or nothing here, what the kernel did not take is owed."""
        if self._out and not self.flush():
            raise BlockingIOError(errno.EAGAIN, "ciphertext is waiting")
        total = 0
        while total < len(data):
            try:
                total += self.connection.send(data[total:])
            except SSL.Error as problem:
                raise TlsFailure("protocol", str(problem)) from None
        if not self.flush() and self._wake is not None:
            self._wake()
        return total

    def flush(self) -> bool:
        """Offer the kernel what is owed; False while some is left. Raises OSError."""
        while True:
            if not self._out:
                try:
                    self._out = self.connection.bio_read(_PULL_BYTES)
                except SSL.WantReadError:
                    return True
            try:
                sent = self._sock.send(self._out)
            except BlockingIOError:
                return False
            self._out = self._out[sent:]

    def _answer(self) -> None:
        """Reading makes records too: alerts, and what a KeyUpdate asks for."""
        with contextlib.suppress(OSError):  # the next write, or read, will meet it
            if not self.flush() and self._wake is not None:
                self._wake()

    def _pull(self) -> bool:
        """Take what the kernel has; False when that is nothing."""
        try:
            data = self._sock.recv(_PULL_BYTES)
        except BlockingIOError:
            return False
        if data:
            self.connection.bio_write(data)
        else:
            self.connection.bio_shutdown()
        return True

    def _judge_controls(self) -> None:
        if self._controls > _MOST_CONTROLS:
            raise TlsFailure("control_flood", f"more than {_MOST_CONTROLS} TLS records without data (rule=L8)")

    # The end.

    def goodbye(self) -> bool:
        """Send close_notify, once; False while the kernel does not take it."""
        try:
            if not self._said_goodbye:
                self._said_goodbye = True
                self.connection.shutdown()
            return self.flush()
        except (SSL.Error, OSError):
            return True  # it cannot be said any more

    def release(self) -> None:
        """The socket is being closed."""
        self._wake = None
        self.connection.set_app_data(None)


def _reading_failed(problem: SSL.Error) -> OSError:
    if isinstance(problem, SSL.SysCallError):
        code = problem.args[0] if problem.args else -1
        return Truncated() if code <= 0 else OSError(code, "the connection was lost")
    return TlsFailure("bad_record", "a TLS record that cannot be read")
