"""The head of a response: bytes in; a head, an error or the wish for more out (RFC 9112, sections 2, 4 and 5).

Owns the status line, the bounds, the order of verdicts and what the fields of a response mean together. Refuses to
know requests: how long the body is depends on them too, see framing. Backends are believed no more than clients:
their errors are those of the same rows, told as B7 (framing), B8 (not HTTP/1) and B9 (lines and limits).

A reader holds nothing of a message, only what it remembers: one serves all connections to all backends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lbproxy.errors import BAD_RESPONSE, RESPONSE_HEAD_LARGE
from lbproxy.http.framing import body_length
from lbproxy.http.lines import CRLF, elements, find_bare, read_field
from lbproxy.http.messages import CHUNKED, Field, HttpError, ResponseHead
from lbproxy.http.names import HOP_BY_HOP, may_be_named_away

MAX_HEAD = 16 * 1024
MAX_FIELDS = 100
# What is remembered, as in the reader of requests.
MEMO_HEADS, MEMO_HEAD = 1024, 2048
MEMO_LINES, MEMO_LINE = 4096, 256

_END = b"\r\n\r\n"
_BEGINNING = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*+))?+")
_TIMEOUT = re.compile(rb"(?:^|[,; \t])timeout=([0-9]{1,9})(?:$|[,; \t])", re.IGNORECASE)

_CONNECTION, _LENGTH, _CODING, _UPGRADE, _KEEP_ALIVE, _DROPPED = range(1, 7)
_KINDS = {
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"upgrade": _UPGRADE,
    b"keep-alive": _KEEP_ALIVE,
}
_OPTIONS = frozenset((b"close", b"keep-alive"))
# What `Connection` says: close, keep-alive, and the fields to remove.
Connection = tuple[bool, bool, frozenset[bytes]]
_NO_CONNECTION: Connection = (False, False, frozenset())

StatusLine = tuple[int, int, bytes]
# A kind and what a field says.
Special = tuple[int, Any]


class ResponseReader:
    """Reads the heads of responses."""

    __slots__ = ("_heads", "_lines", "_plain", "_plain_get", "_special")

    def __init__(self) -> None:
        self._heads: dict[bytes, ResponseHead] = {}
        self._lines: dict[bytes, StatusLine] = {}
        self._plain: dict[bytes, Field] = {}
        self._plain_get: Callable[[bytes], Field | None] = self._plain.get
        self._special: dict[bytes, Special] = {}

    def read(self, data: bytes) -> tuple[ResponseHead, int] | None:
        """The head at the beginning of `data` and how many bytes it takes, None when more must come.

        Raises HttpError with BAD_RESPONSE or RESPONSE_HEAD_LARGE.
        """
        end = data.find(_END) + len(_END)
        if not len(_END) <= end <= MAX_HEAD:
            _judge(data, min(len(data), MAX_HEAD), complete=False)
            return None
        text = data if end == len(data) else data[:end]
        head = self._heads.get(text) if end <= MEMO_HEAD else None
        if head is None:
            try:
                head = self._head(text.split(CRLF))
            except HttpError as error:
                _judge(text, end, complete=True)
                raise _told(error) from None
            if end <= MEMO_HEAD:
                if len(self._heads) >= MEMO_HEADS:
                    self._heads.clear()
                self._heads[text] = head
        return head, end

    def _head(self, lines: list[bytes]) -> ResponseHead:
        """What the lines say, of which the last two are empty. Raises HttpError."""
        status_line = self._lines.get(lines[0]) or self._learn_first(lines[0])
        if len(lines) - 3 > MAX_FIELDS:
            raise HttpError(RESPONSE_HEAD_LARGE, "B9", f"the response has more than {MAX_FIELDS} fields")
        fields: list[Field] = []
        specials: list[Special] = []
        plain = self._plain_get
        for line in lines[1:-2]:
            field = plain(line)
            if field is not None:
                fields.append(field)
                continue
            special = self._special.get(line)
            if special is None:
                field, special = self._learn(line)
                if special is None:
                    fields.append(field)
                    continue
            specials.append(special)
        return _meaning(status_line, fields, specials)

    def _learn_first(self, line: bytes) -> StatusLine:
        status_line = _read_status_line(line)
        if len(line) <= MEMO_LINE:
            if len(self._lines) >= MEMO_LINES:
                self._lines.clear()
            self._lines[line] = status_line
        return status_line

    def _learn(self, line: bytes) -> tuple[Field, Special | None]:
        field = read_field(line)
        name, value, _ = field
        kind = _KINDS.get(name, _DROPPED if name in HOP_BY_HOP else 0)
        special = (kind, _value_of(kind, value)) if kind else None
        if len(line) <= MEMO_LINE:
            if len(self._plain) + len(self._special) >= MEMO_LINES:
                self._plain.clear()
                self._special.clear()
            if special is None:
                self._plain[line] = field
            else:
                self._special[line] = special
        return field, special


def _read_status_line(line: bytes) -> StatusLine:
    parts = _STATUS_LINE.fullmatch(line)
    if parts is None:
        raise _bad("B8", "the response does not begin with a status line of HTTP/1 with a status from 100 to 599")
    # A minor version that is not known is read as the highest that is (RFC 9110, 2.5).
    return min(int(parts[1]), 1), int(parts[2]), parts[3] or b""


def _value_of(kind: int, value: bytes) -> Any:
    if kind == _CONNECTION:
        options = frozenset(elements(value))
        named = frozenset(name for name in options - HOP_BY_HOP - _OPTIONS if may_be_named_away(name))
        return b"close" in options, b"keep-alive" in options, named
    if kind == _KEEP_ALIVE:
        timeout = _TIMEOUT.search(value)
        return float(timeout[1]) if timeout else None
    return value


def _meaning(status_line: StatusLine, fields: list[Field], specials: list[Special]) -> ResponseHead:
    """What the fields mean together. Raises HttpError."""
    minor, status, reason = status_line
    connection = _NO_CONNECTION
    keep_alive: float | None = None
    upgrade = b""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for kind, value in specials:
        if kind == _LENGTH:
            lengths.append(value)
        elif kind == _CONNECTION:
            connection = value if connection is _NO_CONNECTION else _both(connection, value)
        elif kind == _CODING:
            codings.append(value)
        elif kind == _KEEP_ALIVE and value is not None:
            # The shortest of several: the backend may go by it.
            keep_alive = value if keep_alive is None else min(keep_alive, value)
        elif kind == _UPGRADE:
            upgrade = upgrade + b", " + value.lower() if upgrade else value.lower()
    length = body_length(lengths, codings, minor) if lengths or codings else None
    close, keep, named = connection
    if named:
        fields = [field for field in fields if field[0] not in named]
    return ResponseHead(
        status,
        reason,
        minor,
        fields,
        b"".join([field[2] for field in fields]),
        None if length == CHUNKED else length,
        length == CHUNKED,
        close or (minor == 0 and not keep),
        keep_alive,
        upgrade,
    )


def _both(one: Connection, other: Connection) -> Connection:
    return one[0] or other[0], one[1] or other[1], one[2] | other[2]


def _judge(data: bytes, end: int, *, complete: bool) -> None:
    """Raises the first of what can be wrong before a head is complete, in the order of the bytes up to `end`."""
    if not data.startswith(_BEGINNING[: len(data)]):
        raise _bad("B8", "the response does not begin with HTTP/1")
    line_end = data.find(CRLF, 0, end)
    wrong = find_bare(data, 0, end if line_end < 0 else line_end + len(CRLF))
    if wrong is None and line_end >= 0:
        _read_status_line(data[:line_end])
        wrong = find_bare(data, line_end, end)
    if wrong is not None:
        raise _told(wrong)
    if not complete and end == MAX_HEAD:
        raise HttpError(RESPONSE_HEAD_LARGE, "B9", f"the head of the response is longer than {MAX_HEAD} bytes")


def _told(error: HttpError) -> HttpError:
    """The same error, as one of a backend."""
    if error.rule.startswith("B"):
        return error
    if error.rule == "S12":
        return HttpError(RESPONSE_HEAD_LARGE, "B9", error.message)
    framing = error.rule.startswith("F") and error.rule not in ("F7", "F8")
    return _bad("B7" if framing else "B9", error.message)


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_RESPONSE, row, message)
