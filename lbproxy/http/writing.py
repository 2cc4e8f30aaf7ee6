"""Heads as bytes of HTTP/1.1: what is sent to backends and to clients (RFC 9112, sections 3 to 6).

Owns the order of the parts and our own framing of bodies. Refuses to decide what is said: fields come from the heads
that were read, or from those who edit them. What is the same for all equal heads is worked out once and kept with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, Field, RequestHead, ResponseHead
from lbproxy.http.phrases import status_line

CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"
CLOSE_LINE = b"Connection: close\r\n"
KEEP_LINE = b"Connection: keep-alive\r\n"
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: %b\r\n"
TRAILERS_LINES = b"TE: trailers\r\nConnection: TE\r\n"
EXPECT_LINE = b"Expect: 100-continue\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def target_of(path: bytes, query: bytes | None) -> bytes:
    """The request target in origin form, or "*"."""
    return path if query is None else b"%b?%b" % (path, query)


def request_beginning(head: RequestHead) -> bytes:
    """Everything of `head` as it goes to a backend but what is said about the client: no end, and no blank line."""
    memo: bytes | None = head.memo_forward
    if memo is None:
        head.memo_forward = memo = b"".join(
            (
                head.method,
                b" ",
                target_of(head.path, head.query),
                b" HTTP/1.1\r\nHost: ",
                head.authority,
                b"\r\n",
                head.kept,
                request_framing(head),
                b"X-Forwarded-Host: ",
                head.authority,
                b"\r\n",
            )
        )
    return memo


def edited_beginning(
    head: RequestHead, path: bytes, query: bytes | None, authority: bytes, lines: bytes, upgrade: bytes
) -> bytes:
    """As `request_beginning`, with another target, authority and other field lines; `upgrade` is a protocol that the
    client may change to, b"" for none. The caller says X-Forwarded-Host.
    """
    change = _UPGRADE % upgrade if upgrade else b""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b" % (
        head.method,
        target_of(path, query),
        authority,
        lines,
        request_framing(head, upgraded=bool(upgrade)),
        change,
    )


def request_framing(head: RequestHead, *, upgraded: bool = False) -> bytes:
    """The lines that are ours to say: how long the body is, and what we ask of the next hop."""
    if head.length == CHUNKED:
        framing = CHUNKED_LINE
    elif head.has_length:
        framing = b"Content-Length: %d\r\n" % head.length
    else:
        framing = b""
    if head.expect:
        framing += EXPECT_LINE
    if head.te_trailers and not upgraded:
        framing += TRAILERS_LINES
    return framing


def response_framing(head: ResponseHead, length: int, *, chunks: bool) -> bytes:
    """The line for a body of `length`; `chunks` tells whether this client can read chunks.

    Where there is no body but a length of one that there would be (HEAD, 304), that is passed on (RFC 9110, 8.6).
    """
    if length in (CHUNKED, UNTIL_CLOSE):
        return CHUNKED_LINE if chunks else b""
    status = head.status
    if status < 200 or status == 204:
        return b""
    if length or status == 205:
        return b"Content-Length: %d\r\n" % length
    if head.chunked:
        return CHUNKED_LINE if chunks else b""  # what GET would have been answered with; there are no chunks
    return b"" if head.length is None else b"Content-Length: %d\r\n" % head.length


def response_beginning(head: ResponseHead) -> bytes:
    """The status line as it goes to a client: our version, whatever that of the backend, and the backend's words."""
    return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def answer_head(status: int, fields: Sequence[tuple[bytes, bytes]], length: int, connection: bytes) -> bytes:
    """The whole head of an answer of our own."""
    lines = [status_line(status)]
    lines += [b"%b: %b\r\n" % field for field in fields]
    if status >= 200 and status not in (204, 304):
        lines.append(b"Content-Length: %d\r\n" % length)
    lines += (connection, b"\r\n")
    return b"".join(lines)


def lines_of(fields: Sequence[Field]) -> bytes:
    """The lines of fields, as they are sent."""
    return b"".join([field[2] for field in fields])
