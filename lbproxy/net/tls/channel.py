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
from collections.abc import Callable

from OpenSSL import SSL

from lbproxy.net.polling import READ, WRITE
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.failures import TlsFailure, Truncated, handshake_failure, reasons_of

# Of ciphertext: one record at a time, so that what comes out always fits into a receive buffer.
_PULL_BYTES = 16 * 1024
# Records that carry no data (KeyUpdate, alerts) between two that do; see threats.md L8.
_MOST_CONTROLS = 32
# SSL_CB_EXIT, which ends a message of the handshake protocol once, and SSL_CB_ALERT.
MESSAGE_ENDS = 0x02 | 0x4000


def _nobody() -> None:
    """Who is told while no side is."""


class Controls:
    """How many records without data an established connection has seen since the last one with some."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def seen(self, _: object, where: int, _value: int) -> None:
        """OpenSSL calls this at every step; see SSL_CTX_set_info_callback(3)."""
        if where & MESSAGE_ENDS:
            self.count += 1


class MemoryChannel:
    """See the module. `established` turns True with the handshake; `more` says that something may be left inside which
    no event of the socket will tell, `blocked` that reading has to wait until something was written. `errors` are the
    codes of certificate verification that were met, see verify(1).
    """

    __slots__ = (
        "_controls",
        "_late",
        "_look_inside",
        "_out",
        "_owing",
        "_said_goodbye",
        "_sock",
        "blocked",
        "connection",
        "errors",
        "established",
        "more",
    )

    def __init__(self, connection: SSL.Connection, sock: Socket, hello: bytes = b"") -> None:
        """Over the connected, non-blocking `sock`. `hello` is what was read from it already."""
        self.connection = connection
        self._sock = sock
        self._out = b""
        self._late: OSError | None = None
        self._controls = Controls()
        self._said_goodbye = False
        self._owing = self._look_inside = _nobody
        self.established = False
        self.blocked = False
        self.more = False
        self.errors: list[int] = []
        connection.set_app_data(self.errors)
        if hello:
            connection.bio_write(hello)

    @property
    def owes(self) -> int:
        """Bytes of ciphertext that the kernel has not taken yet."""
        return len(self._out)

    def attach(self, owing: Callable[[], None], look_inside: Callable[[], None]) -> None:
        """Have `owing` called whenever bytes are left that only `flush` can get rid of, `look_inside` whenever `more`
        has turned True behind data.
        """
        self._owing = owing
        self._look_inside = look_inside

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
                self._answer()
                raise handshake_failure(problem, self.errors) from None
            else:
                self.established = True
                self.flush()
                self.connection.set_info_callback(self._controls.seen)
                self.more = True
                return 0

    # Bytes.

    def receive(self, buffer: bytearray | memoryview) -> int:
        """As socket.recv_into: 0 at close_notify. Raises Truncated at an end without one."""
        self._tell_late()
        self.more = False
        view = memoryview(buffer)
        total = 0
        while True:
            try:
                total += self.connection.recv_into(view[total:])
            except SSL.WantReadError:
                if total:
                    self._controls.count = 0
                    return total
                self._judge_controls()
                self._answer()
                if self._out:
                    # Whoever takes none of our answers is not asked for more to be answered.
                    self._block()
                if self._out or not self._pull():
                    raise BlockingIOError(errno.EAGAIN, "no whole record yet") from None
            except SSL.ZeroReturnError:
                self._is_more(there=total > 0)
                return total
            except SSL.Error as problem:
                self._answer()
                if not total:
                    raise _reading_failed(problem) from None
                self._late = _reading_failed(problem)
                self._is_more(there=True)
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
        if not self.flush():
            self._owing()
        return total

    def flush(self) -> bool:
        """Offer the kernel what is owed; False while some is left. Raises OSError."""
        last = False
        while True:
            if not self._out:
                if last:
                    return True
                try:
                    self._out = self.connection.bio_read(_PULL_BYTES)
                except SSL.WantReadError:
                    return True
                last = len(self._out) < _PULL_BYTES
            try:
                sent = self._sock.send(self._out)
            except BlockingIOError:
                return False
            self._out = self._out[sent:]

    def _answer(self) -> None:
        """Reading makes records too: alerts, and what a KeyUpdate asks for."""
        with contextlib.suppress(OSError):  # the next write, or read, will meet it
            if not self.flush():
                self._owing()

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

    def _block(self) -> None:
        """Reading has to wait until something could be written."""
        self.blocked = True
        self._owing()

    def _tell_late(self) -> None:
        """Raise what was found behind the last data; its traceback would know us for as long as we knew it."""
        late, self._late = self._late, None
        if late is not None:
            try:
                raise late
            finally:
                del late

    def _is_more(self, *, there: bool) -> None:
        self.more = there
        if there:
            self._look_inside()

    def _judge_controls(self) -> None:
        if self._controls.count > _MOST_CONTROLS:
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
        # Both know the side, which knows this.
        self._owing = self._look_inside = _nobody
        self.connection.set_app_data(None)


def _reading_failed(problem: SSL.Error) -> OSError:
    if isinstance(problem, SSL.SysCallError):
        code = problem.args[0] if problem.args else -1
        return Truncated() if code <= 0 else OSError(code, "the connection was lost")
    alert = next((reason for reason in reasons_of(problem) if "alert" in reason), None)
    if alert is not None:
        return TlsFailure("peer_alert", f"it sent the {alert}")
    return TlsFailure("bad_record", "a TLS record that cannot be read")
