"""Cache-Status: what the cache did, said in the answer (RFC 9211).

Owns the line. Refuses to know why. What caches behind us have said stays in lines of its own, before ours.
"""

from __future__ import annotations

_QUOTED = {0x22: b'\\"', 0x5C: b"\\\\"}
# RFC 9651, 3.3.3: a string is visible ASCII and blanks.
_TEXT = [_QUOTED.get(byte, bytes((byte,)) if 0x20 <= byte < 0x7F else b"%%%02X" % byte) for byte in range(256)]


def hit(ttl: int, detail: str = "") -> bytes:
    """The line for what was served from the store; `ttl` is how long it stays fresh, in seconds, negative when it is
    stale.
    """
    if detail:
        return b"Cache-Status: lbproxy; hit; ttl=%d; detail=%b\r\n" % (ttl, _string(detail.encode()))
    return b"Cache-Status: lbproxy; hit; ttl=%d\r\n" % ttl


def forwarded(
    reason: str,
    *,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    ttl: int | None = None,
    key: bytes | None = None,
    detail: str = "",
) -> bytes:
    """The line for what was asked of the backend.

    `reason` is one of those of RFC 9211, 2.2: bypass, method, uri-miss, vary-miss, miss, request, stale, partial.
    `status` is what the backend answered, where that is not what is served. `stored` tells that its answer was stored,
    `collapsed` that it was asked for by another request, `key` what it was looked for by, `detail` anything else.
    """
    line = b"Cache-Status: lbproxy; fwd=%b" % reason.encode("ascii")
    if status is not None:
        line += b"; fwd-status=%d" % status
    if ttl is not None:
        line += b"; ttl=%d" % ttl
    if stored:
        line += b"; stored"
    if collapsed:
        line += b"; collapsed"
    if key is not None:
        line += b"; key=" + _string(key)
    if detail:
        line += b"; detail=" + _string(detail.encode())
    return line + b"\r\n"


def _string(text: bytes) -> bytes:
    return b'"%b"' % b"".join([_TEXT[byte] for byte in text])
