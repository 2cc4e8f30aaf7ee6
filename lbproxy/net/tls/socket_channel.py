"""The fast way: OpenSSL reads and writes the socket itself, without copies through memory.

The beginning of a server's handshake is the portable way's, since the ClientHello has been read already to choose the
certificate. After its first answer the connection is given the socket, and from then on its data moves in two calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from OpenSSL import SSL

from lbproxy.net.polling import READ, WRITE
from lbproxy.net.tls import binding
from lbproxy.net.tls.channel import Controls, MemoryChannel
from lbproxy.net.tls.failures import TlsFailure, Truncated, handshake_failure
from lbproxy.net.transport import RECEIVE_BUFFER, RECEIVE_BYTES

# The plaintext of a full record; where one came, more may be waiting behind it.
_RECORD_BYTES = 16 * 1024
# SSL_AD_REASON_OFFSET: reasons beyond it are alerts that the peer sent.
_ALERTS = 1000

if binding.AVAILABLE:
    _lib, _ffi = binding.lib, binding.ffi
    _from_buffer, _get_error = _ffi.from_buffer, _lib.SSL_get_error
    _read, _write, _do_handshake, _shutdown = map(
        binding.without_leftovers, (_lib.SSL_read, _lib.SSL_write, _lib.SSL_do_handshake, _lib.SSL_shutdown)
    )
    _WANT_READ, _WANT_WRITE = _lib.SSL_ERROR_WANT_READ, _lib.SSL_ERROR_WANT_WRITE
    _SHARED = _from_buffer(RECEIVE_BUFFER)

_controls_of: dict[Any, Controls] = {}


def _told(ssl: Any, where: int, value: int) -> None:
    """OpenSSL's state has changed on an established connection: a record without data was seen."""
    controls = _controls_of.get(ssl)
    if controls is not None:
        controls.seen(None, where, value)


if binding.AVAILABLE:
    # One for all connections: each would cost a closure otherwise.
    _TOLD = _ffi.callback("void (*)(const SSL *, int, int)", _told)


class SocketChannel(MemoryChannel):
    """See the module."""

    __slots__ = ("_in_memory", "_ssl")

    def __init__(self, connection: SSL.Connection, sock: Any, hello: bytes = b"") -> None:
        super().__init__(connection, sock, hello)
        self._ssl = connection._ssl
        self._in_memory = True
        if not hello:
            self._take_socket()

    def _take_socket(self) -> None:
        # The memory that it went through until now is freed by this call.
        _lib.SSL_set_fd(self._ssl, self._sock.fileno())
        self.connection._into_ssl = self.connection._from_ssl = None
        self._in_memory = False
        # Or one read would go on through records without data for as long as somebody sends them (L8); what is left
        # is in the kernel, which tells of it again.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_AUTO_RETRY)

    def shake(self) -> int:
        """See MemoryChannel."""
        result = _do_handshake(self._ssl)
        if result <= 0:
            error = _get_error(self._ssl, result)
            if error == _WANT_READ:
                if self._in_memory:
                    if not self.flush():
                        return WRITE
                    self._take_socket()
                return READ
            if error == _WANT_WRITE:
                return WRITE
            self._fail(result)
        if self._in_memory:
            # No server is done before it has heard from the client again.
            raise TlsFailure("protocol", "the handshake was over before it could be")
        self.established = True
        _controls_of[self._ssl] = self._controls
        _lib.SSL_set_info_callback(self._ssl, _TOLD)
        return 0

    def _fail(self, result: int) -> None:
        """Raise what pyOpenSSL makes of a failed handshake."""
        try:
            self.connection._raise_ssl_error(self._ssl, result)
        except SSL.Error as problem:
            self._answer()
            raise handshake_failure(problem, self.errors) from None
        raise TlsFailure("protocol", "OpenSSL gave up without a reason")

    def flush(self) -> bool:
        """See MemoryChannel."""
        return super().flush() if self._in_memory else True

    def receive(self, buffer: bytearray | memoryview) -> int:
        """See MemoryChannel."""
        if buffer is RECEIVE_BUFFER:
            count: int = _read(self._ssl, _SHARED, RECEIVE_BYTES)
        else:
            count = _read(self._ssl, _from_buffer(buffer), len(buffer))
        if 0 < count < _RECORD_BYTES:
            if self._controls.count:
                self._controls.count = 0
            return count
        return self._receive_on(buffer, count)

    def _receive_on(self, buffer: bytearray | memoryview, count: int) -> int:
        """A full record came, or none."""
        self._tell_late()
        if count <= 0:
            self._judge_controls()
            return self._end_of_reading(count)
        self._controls.count = 0
        pointer = _from_buffer(buffer)
        total = count
        while count == _RECORD_BYTES and len(buffer) - total >= _RECORD_BYTES:
            count = _read(self._ssl, pointer + total, len(buffer) - total)
            if count > 0:
                total += count
                continue
            try:
                self._is_more(there=self._end_of_reading(count) == 0)
            except BlockingIOError:
                break
            except OSError as problem:
                self._late = problem.with_traceback(None)
                self._is_more(there=True)
        return total

    def _end_of_reading(self, count: int) -> int:
        """What a read without data means: 0 for the orderly end, else an exception."""
        error = _get_error(self._ssl, count)
        if error == _WANT_WRITE:
            self._block()  # an answer to a KeyUpdate does not fit into the kernel
        if error in (_WANT_READ, _WANT_WRITE):
            raise BlockingIOError(errno.EAGAIN, "no whole record yet")
        if error == _lib.SSL_ERROR_ZERO_RETURN:
            return 0
        raise _failure(error)

    def send(self, data: bytes | memoryview) -> int:
        """See MemoryChannel: as much as the kernel takes, record by record."""
        size = len(data)
        pointer = _from_buffer(data)
        total: int = _write(self._ssl, pointer, size)
        if total == size:
            return total
        if total <= 0:
            return self._not_sent(total)
        while total < size:
            count = _write(self._ssl, pointer + total, size - total)
            if count <= 0:
                with contextlib.suppress(BlockingIOError):
                    self._not_sent(count)
                return total
            total += count
        return total

    def _not_sent(self, count: int) -> int:
        error = _get_error(self._ssl, count)
        if error in (_WANT_READ, _WANT_WRITE):
            raise BlockingIOError(errno.EAGAIN, "the kernel takes no more")
        raise _failure(error)

    def goodbye(self) -> bool:
        """See MemoryChannel."""
        if self._in_memory:
            return super().goodbye()
        if self._said_goodbye:
            return True
        result = _shutdown(self._ssl)
        if result < 0 and _get_error(self._ssl, result) == _WANT_WRITE:
            return False
        _lib.ERR_clear_error()
        self._said_goodbye = True
        return True

    def release(self) -> None:
        """See MemoryChannel."""
        super().release()
        _controls_of.pop(self._ssl, None)


def _failure(error: int) -> OSError:
    """What OpenSSL left behind: the socket's error, an end without close_notify, or a fault of the protocol."""
    code = _ffi.errno
    entry = _lib.ERR_peek_error()
    reason = _lib.ERR_GET_REASON(entry)
    text = _ffi.string(_lib.ERR_reason_error_string(entry)).decode() if reason > _ALERTS else ""
    _lib.ERR_clear_error()
    if reason == _lib.SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return Truncated()
    if error == _lib.SSL_ERROR_SYSCALL:
        return OSError(code, os.strerror(code)) if code else Truncated()
    if text:
        return TlsFailure("peer_alert", f"it sent the {text}")
    return TlsFailure("bad_record", "a TLS record that cannot be read")
