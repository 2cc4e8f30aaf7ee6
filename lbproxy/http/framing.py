"""How long a body is: one place for both directions (RFC 9112, section 6).

Owns the values of Content-Length and Transfer-Encoding, and what they mean together. Refuses to repair: two answers
to "where does this message end" are none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lbproxy.errors import BAD_REQUEST, NOT_IMPLEMENTED
from lbproxy.http.lines import BLANKS, TOKEN
from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, HttpError, ResponseHead

_DIGITS = re.compile(rb"[0-9]{1,18}+")
_MANY_DIGITS = re.compile(rb"[0-9]{19,}+")
_CHUNKED = b"chunked"


def body_length(lengths: Sequence[bytes], codings: Sequence[bytes], minor: int) -> int | None:
    """What the Content-Length and Transfer-Encoding lines of one head say: a length, CHUNKED, or None for nothing.

    Raises HttpError with a row of F1 to F17; NOT_IMPLEMENTED for a coding that is not ours.
    """
    if codings:
        if lengths:
            raise _bad("F1", "there is both a Content-Length and a Transfer-Encoding")
        if minor == 0:
            raise _bad("F11", "there is a Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1:
            raise _bad("F4", "there is more than one Transfer-Encoding line")
        check_coding(codings[0])
        return CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1:
        raise _two_lengths(lengths)
    return read_length(lengths[0])


def read_length(value: bytes) -> int:
    """The number in one Content-Length line. Raises HttpError."""
    if _DIGITS.fullmatch(value):
        return int(value)
    if _MANY_DIGITS.fullmatch(value):
        raise _bad("F17", "the Content-Length has more than 18 digits")
    if b"," in value:
        raise _two_lengths([part.strip(BLANKS) for part in value.split(b",")], "F14")
    raise _bad("F14", "the Content-Length is not a number in plain digits")


def _two_lengths(values: Sequence[bytes], empty_row: str = "F15") -> HttpError:
    if b"" in values:
        return _bad(empty_row, "there is an empty Content-Length beside another")
    if not all(_DIGITS.fullmatch(value) for value in values):
        return _bad("F14", "the Content-Length is not one number in plain digits")
    if len({int(value) for value in values}) == 1:
        return _bad("F13", "the Content-Length is repeated")
    return _bad("F12", "there are different values of Content-Length")


def check_coding(value: bytes) -> None:
    """Raises HttpError unless the value of a Transfer-Encoding line is `chunked` alone."""
    value = value.lower()
    if value == _CHUNKED:
        return
    codings = [part.strip(BLANKS) for part in value.split(b",")]
    if b"" in codings:
        raise _bad("F5", "the Transfer-Encoding has an empty element")
    if not all(TOKEN.fullmatch(coding) for coding in codings):
        raise _bad("F6", "the Transfer-Encoding is not a list of names of codings")
    if codings.count(_CHUNKED) > 1:
        raise _bad("F4", "the Transfer-Encoding names chunked more than once")
    if _CHUNKED in codings[:-1] or codings == [b"identity"]:
        raise _bad("F3", "the last Transfer-Encoding is not chunked")
    raise HttpError(NOT_IMPLEMENTED, "F2", "the only Transfer-Encoding that is understood here is chunked")


def body_of_response(head: ResponseHead, method: bytes) -> int:
    """How long the body of a response to `method` is: bytes, CHUNKED or UNTIL_CLOSE (RFC 9112, 6.3)."""
    status = head.status
    # 1. No body, whatever the fields say: any response to HEAD, and 1xx, 204 and 304. 205 has none either
    #    (RFC 9110, 15.3.6).
    if method == b"HEAD" or status < 200 or status in (204, 205, 304):
        return 0
    # 2. A 2xx to CONNECT becomes a tunnel; CONNECT does not come this far.
    # 3. Transfer-Encoding and Content-Length together: refused when the head was read.
    # 4. The last coding is chunked; in a response, other codings are refused when the head is read.
    if head.chunked:
        return CHUNKED
    # 5. An invalid Content-Length: refused when the head was read.
    # 6. A valid Content-Length is the length.
    if head.length is not None:
        return head.length
    # 7. A request without either has no body: that is with the request's head.
    # 8. Otherwise the body is what comes until the backend closes.
    return UNTIL_CLOSE


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
