"""The server's end of a WebSocket, as far as the demo needs it (RFC 6455): greet, send back what comes, end in order.

Owns the frames. Refuses extensions, and messages of more than 64 KiB.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from email.message import Message
from io import BufferedIOBase

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_FIN = 0x80
_MASKED = 0x80
_LONGEST = 64 * 1024
_PROTOCOL_ERROR, _TOO_BIG = 1002, 1009


def wanted(fields: Message) -> bool:
    """Whether this request asks for a WebSocket (section 4.2.1)."""
    return fields.get("Upgrade", "").lower() == "websocket" and "Sec-WebSocket-Key" in fields


def accepted(key: str) -> str:
    """What proves that the request was understood (section 4.2.2)."""
    return b64encode(hashlib.sha1(key.strip().encode() + _GUID, usedforsecurity=False).digest()).decode()


def echo(source: BufferedIOBase, sink: BufferedIOBase, greeting: str) -> None:
    """Say the greeting, then send every frame back until one side ends it. Raises OSError when the client is lost.

    Fragments of a message go back as they came, which makes the same message of them.
    """
    sink.write(frame(_FIN | _TEXT, greeting.encode()))
    while head := source.read(2):
        first, code = head[0], head[0] & 0xF
        size = head[-1] & 0x7F
        if size > 125:
            size = int.from_bytes(source.read(2 if size == 126 else 8))
        if len(head) < 2 or not head[1] & _MASKED or first & 0x70:
            sink.write(frame(_FIN | _CLOSE, _PROTOCOL_ERROR.to_bytes(2)))
            return
        if size > _LONGEST:
            sink.write(frame(_FIN | _CLOSE, _TOO_BIG.to_bytes(2)))
            return
        mask, data = source.read(4), source.read(size)
        if len(data) < size:
            return
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        if code == _CLOSE:
            sink.write(frame(_FIN | _CLOSE, data[:2]))
            return
        if code == _PING:
            sink.write(frame(_FIN | _PONG, data))
        elif code != _PONG:
            sink.write(frame(first, data))


def frame(first: int, data: bytes) -> bytes:
    """A frame with this first byte (FIN and opcode); those of servers are not masked (section 5.2)."""
    size = len(data)
    if size <= 125:
        return bytes((first, size)) + data
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2) + data
    return bytes((first, 127)) + size.to_bytes(8) + data
