"""Where the TLS ClientHello at the front of a connection ends, and whether it is one. Nothing is decrypted.

Owns the records around it (RFC 8446, 5.1), the bounds, and failing as early as the bytes prove it; also the few
bytes that may be answered before any TLS has begun. Refuses to keep the bytes: they belong to the caller, who
relays them untouched or hands them to whoever ends the TLS. What the message says is read by `hello_message`.
"""

from __future__ import annotations

import re
from struct import Struct

from lbproxy.preamble.hello_message import ClientHello, NotHello, read_message

__all__ = [
    "MAX_HELLO",
    "NO_APPLICATION_PROTOCOL",
    "UNRECOGNIZED_NAME",
    "ClientHello",
    "HelloReader",
    "NotHello",
    "alert",
    "looks_like_http",
]

# The message with its four bytes of handshake header (threats.md, L9).
MAX_HELLO = 16 * 1024
# Where the last record may begin. Records of one byte would otherwise make six bytes to keep out of each.
_MAX_FRAMED = 2 * MAX_HELLO

UNRECOGNIZED_NAME = 112
NO_APPLICATION_PROTOCOL = 120

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_MAX_RECORD = 16 * 1024
_MESSAGE_HEADER = 4
# Type, major version, minor version (to be ignored: RFC 8446, 5.1), length.
_RECORD = Struct("!BBxH")
_RECORD_HEADER = _RECORD.size
# A two-byte length below 256 with the top bit set, then CLIENT-HELLO (RFC 5246, E.2).
_SSL_2_LENGTH, _SSL_2_HELLO = 0x80, 1

_HTTP = re.compile(rb"[A-Z]{1,32} (?:/|\*|http)")


class HelloReader:
    """Reads the one ClientHello that opens a connection.

    Feed it all the bytes that came so far, again and again until it answers; the answer does not depend on how they
    were split, and the work is linear in them. What stands behind the ClientHello is not looked at. An answer is
    final: fed again, the reader repeats it.
    """

    __slots__ = ("_at", "_collected", "_failure", "_hello", "_parts", "_size", "needed")

    def __init__(self) -> None:
        # With fewer bytes than this there is nothing new to learn.
        self.needed = 1
        # Where the header of the current record is; the message's bytes out of the records before it.
        self._at = 0
        self._parts: list[bytes] = []
        self._collected = 0
        # How long the message is with its header, once that is known.
        self._size: int | None = None
        self._hello: ClientHello | None = None
        self._failure: NotHello | None = None

    def feed(self, data: bytes) -> ClientHello | None:
        """The ClientHello at the front of `data`, or None when more bytes are needed.

        `data` is everything that came so far, from the first byte of the connection on.
        Raises NotHello as soon as the bytes cannot be a ClientHello, or are an invalid one.
        """
        if len(data) < self.needed or self._hello is not None:
            return self._hello
        if self._failure is not None:
            raise self._failure
        try:
            self._hello = self._read(data)
        except NotHello as failure:
            self._failure = failure
            self._parts.clear()
            raise
        return self._hello

    # Every byte is judged in the order of the connection, and none before those in front of it are here: so the
    # first mistake is the one reported, however the bytes arrive.

    def _read(self, data: bytes) -> ClientHello | None:
        here = len(data)
        if self._at == 0 and not self._begins_as_tls(data):
            return None
        while here >= self._at + _RECORD_HEADER:
            start = self._at + _RECORD_HEADER
            end = start + self._record_length(data)
            if self._size is None and not self._message_begins(data, start, min(end, here)):
                if here < end:
                    self.needed = here + 1
                    return None
            elif self._size is not None and start + self._size - self._collected <= end:
                return self._finish(data, start)
            elif here < end:
                self.needed = end
                return None
            self._parts.append(data[start:end])
            self._collected += end - start
            self._at = end
        self.needed = self._at + _RECORD_HEADER
        return None

    def _begins_as_tls(self, data: bytes) -> bool:
        """False when one or two bytes more are needed to tell."""
        if data[0] == _SSL_2_LENGTH:
            self.needed = 3
            if len(data) < 3:
                return False
            if data[2] == _SSL_2_HELLO:
                raise NotHello("L7", "the connection begins with a hello of SSLv2")
        if data[0] != _HANDSHAKE:
            raise NotHello("L10", f"the connection does not begin with TLS: its first byte is 0x{data[0]:02x}")
        self.needed = 2
        if len(data) < 2:
            return False
        if data[1] != 3:
            raise NotHello("L10", f"the connection does not begin with TLS: its second byte is 0x{data[1]:02x}")
        return True

    def _record_length(self, data: bytes) -> int:
        kind, major, length = _RECORD.unpack_from(data, self._at)
        if kind != _HANDSHAKE or major != 3:
            raise NotHello("L9", f"a record of type {kind}, version {major}, stands inside the ClientHello")
        if not 0 < length <= _MAX_RECORD:
            raise NotHello("L9", f"a record of the ClientHello has {length} bytes, allowed are 1 to {_MAX_RECORD}")
        if self._at > _MAX_FRAMED:
            raise NotHello("L9", f"the ClientHello takes more than {_MAX_FRAMED} bytes, so small are its records")
        return int(length)

    def _message_begins(self, data: bytes, start: int, end: int) -> bool:
        """Whether type and length of the message are here; `start` to `end` is what there is of this record."""
        head = b"".join(self._parts) + data[start : min(end, start + _MESSAGE_HEADER)]
        if head and head[0] != _CLIENT_HELLO:
            raise NotHello("L9", f"the first handshake message has type {head[0]}, a ClientHello has {_CLIENT_HELLO}")
        if len(head) < _MESSAGE_HEADER:
            return False
        self._size = _MESSAGE_HEADER + int.from_bytes(head[1:_MESSAGE_HEADER])
        if self._size > MAX_HELLO:
            raise NotHello("L9", f"the ClientHello has {self._size} bytes, allowed are {MAX_HELLO}")
        return True

    def _finish(self, data: bytes, start: int) -> ClientHello | None:
        """The message, which ends in the record whose content begins at `start`, once all of it is here."""
        size = self._size or 0
        stop = start + size - self._collected
        if len(data) < stop:
            self.needed = stop
            return None
        if not self._parts:
            return read_message(data, start + _MESSAGE_HEADER, stop)
        whole = b"".join([*self._parts, data[start:stop]])
        self._parts.clear()
        return read_message(whole, _MESSAGE_HEADER, size)


def looks_like_http(data: bytes) -> bool:
    """Whether `data` begins with the request line of HTTP/1 (RFC 9112, 3): plain HTTP on a port for TLS.

    False also while too few bytes are here: a method, a space, and "/", "*" or "http".
    """
    return _HTTP.match(data) is not None


def alert(description: int) -> bytes:
    """A fatal alert in the clear (RFC 8446, 6), for connections that are refused before any ServerHello.

    Raises ValueError for a description outside 0 to 255.
    """
    return bytes((21, 3, 3, 0, 2, 2, description))
