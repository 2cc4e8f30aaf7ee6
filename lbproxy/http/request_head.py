"""The head of a request: bytes in; a head, an error or the wish for more out (RFC 9112, sections 2, 3 and 5).

Owns the bounds, the order of verdicts, and what has been learnt. Refuses to know sockets, time and routes. The verdict
goes by the first mistake in the bytes: the request line as it comes, line ends as they come, the size; everything else
when the head is complete. So it is the same however the bytes are cut.

A reader holds nothing of a message, only what it remembers: one serves all connections of a listener.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lbproxy.errors import BAD_REQUEST, HEAD_LARGE, URI_LONG
from lbproxy.http.hosts import normalise_host
from lbproxy.http.lines import CRLF, MAX_NAME, find_bare, read_field
from lbproxy.http.messages import Field, HttpError, RequestHead
from lbproxy.http.request_fields import LAST_SENT, PLAIN, Special, kind_of, meaning, value_of
from lbproxy.http.request_line import LINE_BESIDE_TARGET, RequestLine, judge_start, read_line, split_line
from lbproxy.model_http import HttpSettings

# What is remembered: whole heads, request lines and field lines, each up to a size and a number, then forgotten.
MEMO_HEADS, MEMO_HEAD = 1024, 2048
MEMO_LINES, MEMO_LINE = 4096, 256
# How many of those that came once are known by their mark.
_MARKS = 8192

_END = b"\r\n\r\n"
_LONG_NAME = re.compile(rb"\n[^:\r\n]{%d}" % (MAX_NAME + 1))


class RequestReader:
    """Reads the heads of requests to one listener."""

    __slots__ = (
        "_default",
        "_drop_underscores",
        "_heads",
        "_lines",
        "_max_fields",
        "_max_head",
        "_max_line",
        "_max_target",
        "_plain",
        "_plain_get",
        "_port",
        "_secure",
        "_seen",
        "_special",
    )

    def __init__(self, settings: HttpSettings, *, secure: bool) -> None:
        """Raises HttpError when `settings.default_host` is no host."""
        self._secure = secure
        self._port = 443 if secure else 80
        self._max_head = settings.max_head
        self._max_fields = settings.max_fields
        self._max_target = settings.max_target
        self._max_line = settings.max_target + LINE_BESIDE_TARGET
        self._drop_underscores = settings.underscores == "drop"
        default = settings.default_host.encode("ascii", "replace")
        self._default = normalise_host(default, self._port) if default else None
        self._heads: dict[bytes, RequestHead] = {}
        self._seen: set[int] = set()
        self._lines: dict[bytes, RequestLine] = {}
        self._plain: dict[bytes, Field] = {}
        self._plain_get: Callable[[bytes], Field | None] = self._plain.get
        self._special: dict[bytes, Special] = {}

    def read(self, data: bytes) -> tuple[RequestHead, int] | None:
        """The head at the beginning of `data` and how many bytes it takes, None when more must come.

        `data` is what came since the end of the message before; a CRLF in front is accepted (S11). Raises HttpError.
        """
        size = len(data)
        if size <= MEMO_HEAD:
            head = self._heads.get(data)
            if head is not None:
                return head, size
        if not data or data[0] != 13:
            return self._read(data)
        if size < 2:
            return None
        if data[1] != 10:
            raise _bad("S2", "there is a CR that no LF follows")
        found = self._read(data[2:])
        return None if found is None else (found[0], found[1] + 2)

    def _read(self, data: bytes) -> tuple[RequestHead, int] | None:
        end = data.find(_END) + len(_END)
        if not len(_END) <= end <= self._max_head:
            self._judge(data, min(len(data), self._max_head), complete=False)
            return None
        text = data if end == len(data) else data[:end]
        head = self._heads.get(text) if end <= MEMO_HEAD else None
        if head is None:
            lines = text.split(CRLF)
            try:
                head = self._head(lines)
            except HttpError as error:
                self._judge(text, end, complete=True)
                if error.rule == "F8" and lines[1][:1] in (b" ", b"\t"):
                    raise _bad("S9", "there is a blank before the first field") from None
                raise
            if end <= MEMO_HEAD and lines[0] in self._lines and self._known(text):
                if len(self._heads) >= MEMO_HEADS:
                    self._heads.clear()
                self._heads[text] = head
        return head, end

    def _known(self, text: bytes) -> bool:
        """Whether this has come before. Most that is new never comes again, and to keep it would only drive what is
        used out of the processor's caches.
        """
        seen, mark = self._seen, hash(text)
        if mark in seen:
            return True
        if len(seen) >= _MARKS:
            seen.clear()
        seen.add(mark)
        return False

    def _head(self, lines: list[bytes]) -> RequestHead:
        """What the lines say, of which the last two are empty. Raises HttpError."""
        first = self._lines.get(lines[0]) or self._learn_first(lines[0])
        if len(lines) - 3 > self._max_fields:
            raise HttpError(HEAD_LARGE, "S13", f"there are more than {self._max_fields} fields")
        fields: list[Field] = []
        specials: list[Special] = []
        plain = self._plain_get
        for line in lines[1:-2]:
            field = plain(line)
            if field is None:
                special = self._special.get(line) or self._learn(line)
                kind, _, field = special
                if kind != PLAIN:
                    specials.append(special)
                    if kind > LAST_SENT:
                        continue
            fields.append(field)
        return meaning(first, fields, specials, self._default)

    def _learn_first(self, line: bytes) -> RequestLine:
        first = read_line(line, self._max_target, secure=self._secure)
        if len(line) <= MEMO_LINE and self._known(line):
            if len(self._lines) >= MEMO_LINES:
                self._lines.clear()
            self._lines[line] = first
        return first

    def _learn(self, line: bytes) -> Special:
        field = read_field(line)
        kind = kind_of(field[0], drop_underscores=self._drop_underscores)
        special = (kind, value_of(kind, field[1], self._port), field)
        if len(line) <= MEMO_LINE:
            if len(self._plain) + len(self._special) >= MEMO_LINES:
                self._plain.clear()
                self._special.clear()
            if kind == PLAIN:
                self._plain[line] = field
            else:
                self._special[line] = special
        return special

    def _judge(self, data: bytes, end: int, *, complete: bool) -> None:
        """Raises the first of what can be wrong before a head is complete, in the order of the bytes up to `end`."""
        wrong = judge_start(data)
        if wrong is not None:
            raise wrong
        room = min(end, self._max_line + len(CRLF))
        line_end = data.find(CRLF, 0, room)
        wrong = find_bare(data, 0, room if line_end < 0 else line_end + len(CRLF))
        if wrong is not None:
            raise wrong
        if line_end == 0:
            raise _bad("S11", "there is more than one empty line before the request")
        if line_end > 0:
            split_line(data[:line_end])
            wrong = find_bare(data, line_end, end)
            if wrong is not None:
                raise wrong
        elif room == self._max_line + len(CRLF):
            raise HttpError(URI_LONG, "T16", f"the target is longer than {self._max_target} bytes")
        if not complete and end == self._max_head:
            if _LONG_NAME.search(data, 0, end):
                raise HttpError(HEAD_LARGE, "S12", f"the name of a field is longer than {MAX_NAME} bytes")
            raise HttpError(HEAD_LARGE, "S13", f"the head is longer than {self._max_head} bytes")


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
