"""Where lines end and what a field line is: bytes in, a field or the row that it breaks out (RFC 9112, 2.2 and 5).

Owns the alphabets of names and values, and finding the first line end that is none. Refuses to know what any field
means, whether the line is a request's, a response's or a trailer's, and how large a head may be.
"""

from __future__ import annotations

import re

from lbproxy.errors import BAD_REQUEST, HEAD_LARGE
from lbproxy.http.messages import Field, HttpError

MAX_NAME = 256
CRLF = b"\r\n"
BLANKS = b" \t"

# RFC 9110, 5.6.2: tchar.
TOKEN_CLASS = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(TOKEN_CLASS + rb"++")
# RFC 9110, 5.5: a value has no control characters but HTAB. This changes each of them and nothing else: translating
# by a table and comparing is many times faster than an expression.
_OTHER_CONTROLS = bytes((byte ^ 1) if (byte < 32 and byte != 9) or byte == 127 else byte for byte in range(256))
# Names that were seen, and the same in lower case: the same few hundred over and over.
MEMO_NAMES = 1024
_names: dict[bytes, bytes] = {}

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# A bad byte in one of these is the field's own row, whatever byte it is.
_OWN_ROWS = {b"transfer-encoding": "F6", b"content-length": "F14", b"expect": "C5", b"host": "T13"}


def read_field(line: bytes) -> Field:
    """The field in `line`, which has no CRLF. Raises HttpError when it is none; see `judge_line` for the rows."""
    name, colon, raw = line.partition(b":")
    value = raw.strip(BLANKS)
    if not colon or value.translate(_OTHER_CONTROLS) != value:
        raise judge_line(line)
    lower = _names.get(name) or _learn_name(name, line)
    # Most lines are as we would write them.
    canonical = len(raw) == len(value) + 1 and raw[0] == 0x20
    return lower, value, line + CRLF if canonical else b"%b: %b\r\n" % (name, value)


def _learn_name(name: bytes, line: bytes) -> bytes:
    if len(name) > MAX_NAME or TOKEN.fullmatch(name) is None:
        raise judge_line(line)
    if len(_names) >= MEMO_NAMES:
        _names.clear()
    _names[name] = lower = name.lower()
    return lower


def judge_line(line: bytes) -> HttpError:
    """Why `line` is no field line."""
    name, colon, value = line.partition(b":")
    shown = name.rstrip(BLANKS)
    if line[:1] in (b" ", b"\t"):
        return _bad("F8", "a line begins with a blank; folded lines are not accepted")
    if len(name) > MAX_NAME:
        return HttpError(HEAD_LARGE, "S12", f"the name of a field is longer than {MAX_NAME} bytes")
    if not colon:
        # What was one name, cut in two.
        row = "S10" if TOKEN.fullmatch(line) else "S8"
        return _bad(row, "a line between the first and the blank one has no colon")
    if not name:
        return _bad("S7", "a field has no name")
    if TOKEN.fullmatch(name) is None:
        if TOKEN.fullmatch(shown):
            return _bad("F7", "there is a blank between the name of a field and its colon")
        control = _CONTROL.search(name)
        if control is not None:
            return _bad("S3" if control.group() == b"\0" else "S4", "the name of a field has a control character")
        return _bad("S6" if name.isascii() else "S5", "the name of a field has a character that is not for names")
    control = _CONTROL.search(value)
    row = "S3" if control is not None and control.group() == b"\0" else "S4"
    return _bad(_OWN_ROWS.get(name.lower(), row), f"the value of {name.decode()} has a control character")


def find_bare(data: bytes, start: int, end: int) -> HttpError | None:
    """The first CR or LF in `data[start:end]` that is not part of a CRLF, as an error.

    A CR that is the last of these bytes is not yet bare.
    """
    # Counting is many times faster than the expression, and most of the time there is nothing.
    pairs = data.count(CRLF, start, end)
    if data.count(b"\n", start, end) == pairs == data.count(b"\r", start, end):
        return None
    for found in _BARE.finditer(data, start, end):
        if found.group() == b"\n":
            return _bad("S1", "a line ends with LF alone; lines end with CRLF")
        if found.end() < end:
            return _bad("S2", "there is a CR that no LF follows")
    return None


def elements(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case, empty ones left out (RFC 9110, 5.6.1.2)."""
    return [member for member in [part.strip(BLANKS) for part in value.lower().split(b",")] if member]


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
