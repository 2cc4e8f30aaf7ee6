"""As much of WebSocket (RFC 6455) as an echo of short frames of one size needs: both sides, pure."""

import base64
import hashlib

PAYLOAD = b"0123456789abcdef" * 2
"""What each message holds."""

KEY = base64.b64encode(bytes(range(16)))
MASK = b"\x5a\x17\xc3\x88"

HELLO = (
    b"GET /echo HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY
)


def digest(key: bytes) -> bytes:
    """What proves that the other side has read *key* (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """*payload* under *mask*, or what was under it (RFC 6455, 5.3)."""
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


SENT = b"\x82" + bytes([0x80 | len(PAYLOAD)]) + MASK + masked(PAYLOAD)
"""A client's frame: whole, binary, masked."""

SENT_SIZE = len(SENT)

RETURNED = b"\x82" + bytes([len(PAYLOAD)]) + PAYLOAD
"""The same message from a server."""


def echo(frames: bytes) -> bytes:
    """The answers to whole client's frames of `SENT_SIZE`."""
    answers = []
    for start in range(0, len(frames), SENT_SIZE):
        mask = int.from_bytes(frames[start + 2 : start + 6] * (len(PAYLOAD) // 4))
        payload = int.from_bytes(frames[start + 6 : start + SENT_SIZE]) ^ mask
        answers.append(RETURNED[:2] + payload.to_bytes(len(PAYLOAD)))
    return b"".join(answers)


def accepted(head: bytes) -> bytes:
    """The answer to a request to upgrade."""
    return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b\r\n" % (
        b"Sec-WebSocket-Accept: %b\r\n" % digest(field(head, b"sec-websocket-key"))
    )


def field(head: bytes, name: bytes) -> bytes:
    """The value of a field in a head, b"" where there is none; *name* is in lower case."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""
