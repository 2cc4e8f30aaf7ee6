"""Which bytes of a body are asked for, and how several pieces are told in one answer (RFC 9110, section 14).

Owns the syntax of Range, Content-Range and multipart/byteranges. Refuses to know where bytes come from, and whether the
range may be obeyed at all (If-Range: see conditions.py). A Range that is not obeyed is answered with the whole body.
"""

from __future__ import annotations

import re

# From the first byte up to, not including, the second number.
Span = tuple[int, int]

# What read_ranges gives when no byte of the body is asked for: the answer is 416.
UNSATISFIABLE: list[Span] = []

MOST_RANGES = 50

_UNIT = b"bytes="
_BLANKS = b" \t"
_SPEC = re.compile(rb"([0-9]*+)-([0-9]*+)")
# Beyond any body; what has more digits is no more.
_MOST_DIGITS = 18
_HUGE = 10**_MOST_DIGITS
# So many that begin within others before them are not asked for by anybody who means well (RFC 9110, 14.2).
_MOST_OVERLAPS = 2


def read_ranges(value: bytes, length: int) -> list[Span] | None:
    """The pieces of a body of `length` bytes that a Range asks for, in its order, without those that lie beyond it.

    None when it is to be ignored: another unit, wrong syntax, more than 50 ranges (K6), two or more that begin within
    others, or an empty body, of which there is no piece. UNSATISFIABLE when none of them lies within the body.
    """
    if value[: len(_UNIT)].lower() != _UNIT:
        return None
    spans: list[Span] = []
    count = 0
    # The rest behind that many commas stays in one, which is no range then.
    for member in value[len(_UNIT) :].split(b",", 2 * MOST_RANGES):
        text = member.strip(_BLANKS)
        if not text:
            continue
        span = _read_spec(text, length)
        count += 1
        if span is None or count > MOST_RANGES:
            return None
        if span[0] < span[1]:
            spans.append(span)
    if not count or not length:
        return None
    if not spans:
        return UNSATISFIABLE
    return spans if len(spans) == 1 or _overlaps(spans) < _MOST_OVERLAPS else None


def content_range(start: int, end: int, length: int) -> bytes:
    """The line that says which bytes of `length` an answer has: from `start` up to, not including, `end`."""
    return b"Content-Range: bytes %d-%d/%d\r\n" % (start, end - 1, length)


def unsatisfied_range(length: int) -> bytes:
    """The line that goes with a 416."""
    return b"Content-Range: bytes */%d\r\n" % length


def multipart_type(boundary: bytes) -> bytes:
    """The line of Content-Type for an answer of several pieces."""
    return b"Content-Type: multipart/byteranges; boundary=%b\r\n" % boundary


def multipart(
    boundary: bytes, content_type: bytes | None, spans: list[Span], length: int
) -> tuple[list[bytes | Span], int]:
    """The body of an answer with several pieces (RFC 9110, 14.6): what is written between them, and the pieces
    themselves, in order; and how long it is altogether. `content_type` is that of the stored answer.

    `boundary` is a token of at most 70 bytes that the caller has made up: it must not be guessable.
    """
    kind = b"Content-Type: %b\r\n" % content_type if content_type else b""
    parts: list[bytes | Span] = []
    before = b""
    total = 0
    for start, end in spans:
        text = b"%b--%b\r\n%b%b\r\n" % (before, boundary, kind, content_range(start, end, length))
        parts += (text, (start, end))
        total += len(text) + end - start
        before = b"\r\n"
    last = b"\r\n--%b--\r\n" % boundary
    parts.append(last)
    return parts, total + len(last)


def _read_spec(text: bytes, length: int) -> Span | None:
    """The bytes meant, none of them (an empty span) when they lie beyond the body; None when it says nothing."""
    found = _SPEC.fullmatch(text)
    if found is None:
        return None
    first, last = found[1], found[2]
    if not first:
        return (max(0, length - _number(last)), length) if last else None
    start = _number(first)
    if not last:
        return min(start, length), length
    end = _number(last) + 1
    return (min(start, length), min(end, length)) if end > start else None


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) <= _MOST_DIGITS else _long_number(digits)


def _long_number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _MOST_DIGITS else _HUGE


def _overlaps(spans: list[Span]) -> int:
    """How many begin within those that begin before them."""
    count = reached = 0
    for start, end in sorted(spans):
        count += start < reached
        reached = max(reached, end)
    return count
