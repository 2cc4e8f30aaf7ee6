"""The chunked coding: where the payload is within what arrived, and our own chunks (RFC 9112, section 7.1).

Owns the bounds of chunk lines, extensions and trailers, and which bytes may be sent on as they came. Refuses to hold
bytes: what is not complete (a chunk line, the CRLF behind a chunk, everything from the last chunk on) is left to the
caller, who presents it again with more. So is the beginning of a chunk that came behind whole ones, up to `HELD`
bytes, for the next read to begin where a chunk does: only whole chunks can be sent on as they came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lbproxy.errors import BAD_REQUEST
from lbproxy.http.lines import CRLF, find_bare, read_field
from lbproxy.http.messages import Field, HttpError
from lbproxy.http.names import may_trail

MAX_SIZE = 0x7FFFFFFF
MAX_LINE = 256
MAX_EXTENSIONS = 16 * 1024
MAX_TRAILERS = 4 * 1024
HELD = 4 * 1024

LAST = b"0\r\n\r\n"

_END = b"\r\n\r\n"
# A line as we would write it ourselves, but for the case of the digits.
_CANONICAL = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")
_SIZE = re.compile(rb"[0-9A-Fa-f]{0,8}+")
_HEX = b"0123456789ABCDEFabcdef"
_LINE_END = re.compile(rb"[\r\n]")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
# RFC 9112, 7.1.1, with blanks only where its grammar has BWS, and none behind the size.
_EXTENSIONS = re.compile(
    rb"(?:;[ \t]*+" + _TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+(?:[ \t]++(?=;))?+)++"
)


class ChunkReader:
    """Reads one chunked body, in either direction.

    After each `read`, `pieces` are the ranges of payload in what was consumed, and `verbatim` tells that all of that
    can be sent on as it is: whole chunks in our own form. What cannot is written again, piece by piece, in chunks
    of our own; each read stands for itself in that. `done` is True when the body has ended, then `trailers` are those
    fields that may be passed on. `payload` counts the bytes so far.
    """

    __slots__ = ("_extensions", "_left", "_open", "done", "payload", "pieces", "trailers", "verbatim")

    def __init__(self) -> None:
        self.pieces: list[tuple[int, int]] = []
        self.verbatim = False
        self.done = False
        self.trailers: list[Field] = []
        self.payload = 0
        # Whether we are in a chunk, up to the CRLF behind it, and how much of its payload has not come yet.
        self._open = False
        self._left = 0
        self._extensions = 0

    def read(self, data: bytes | memoryview) -> int:
        """How many bytes of `data` were consumed. Raises HttpError with a row of F22 to F30.

        Of a body that has not ended, a few may be left: they are to be presented again, with what comes then.
        """
        self.pieces = pieces = []
        self.verbatim = False
        if self.done:
            return 0
        size = len(data)
        whole = not self._open
        at = 0 if whole else self._close(data, size)
        payload, match = self.payload, _CANONICAL.match
        while not self._open:
            canonical = match(data, at)
            if canonical is not None:
                start, length = canonical.end(), int(canonical[1], 16)
                if length > MAX_SIZE:
                    raise _too_large()
                extension = 0
            else:
                line = self._line(data, at, size, payload)
                if line is None:
                    break
                start, length, extension = line
                if not length:
                    end = self._last(data, start)
                    if end is None:
                        break
                    self.done = True
                    whole = whole and end - at == len(LAST)
                    at = end
                    break
            end = start + length
            if end < size and data[end] != 13:
                raise _bad("F27", "the data of a chunk are not followed by CRLF")
            if end + 2 > size:
                # Not all of the chunk is here. Behind others it waits, so that the next read begins with a chunk.
                if start >= size or (at and size - at < HELD):
                    break
                end = min(end, size)
                self._open, self._left = True, length - (end - start)
                at = end
                whole = False
            elif data[end + 1] != 10:
                raise _bad("F27", "the data of a chunk are not followed by CRLF")
            else:
                at = end + 2
                if canonical is None:
                    whole = False
            pieces.append((start, end))
            payload += end - start
            if extension:
                self._extensions += extension
        self.payload = payload
        self.verbatim = whole and at > 0
        return at

    def _close(self, data: bytes | memoryview, size: int) -> int:
        """Goes on in a chunk that is open; the end of what could be consumed of it."""
        at = min(self._left, size)
        if at:
            self.pieces.append((0, at))
            self.payload += at
            self._left -= at
        if self._left or at == size:
            return at
        if data[at] != 13 or (at + 1 < size and data[at + 1] != 10):
            raise _bad("F27", "the data of a chunk are not followed by CRLF")
        if at + 1 == size:
            return at
        self._open = False
        return at + 2

    def _line(self, data: bytes | memoryview, at: int, size: int, payload: int) -> tuple[int, int, int] | None:
        """A chunk line that is not in our own form: where it ends, the size, and how long its extensions are."""
        digits = _SIZE.match(data, at)
        end = digits.end() if digits is not None else at
        if end == size:
            return None
        following = data[end]
        if following in _HEX:
            raise _too_large()
        if end == at:
            row = "F28" if payload and following == 13 else "F22"
            raise _bad(row, "a chunk does not begin with its size in hexadecimal digits")
        length = int(bytes(data[at:end]), 16)
        row = "F28" if not length and following in b"\r\n" else "F22"
        if following == 0x3B:
            return self._extended(data, at, end, size, length)
        if following != 13:
            raise _bad(row, "the size of a chunk is not followed by CRLF")
        if length > MAX_SIZE:
            raise _too_large()
        if end + 1 == size:
            return None
        if data[end + 1] != 10:
            raise _bad(row, "the size of a chunk is not followed by CRLF")
        return end + 2, length, 0

    def _extended(
        self, data: bytes | memoryview, at: int, begin: int, size: int, length: int
    ) -> tuple[int, int, int] | None:
        if length > MAX_SIZE:
            raise _too_large()
        found = _LINE_END.search(data, begin, at + MAX_LINE + 1)
        if found is None:
            if size > at + MAX_LINE:
                raise _bad("F25", f"a chunk line is longer than {MAX_LINE} bytes")
            return None
        end = found.start()
        if data[end] != 13:
            raise _bad("F24", "a chunk line ends with LF alone")
        if end + 1 == size:
            return None
        if data[end + 1] != 10 or _EXTENSIONS.fullmatch(data, begin, end) is None:
            raise _bad("F24", "a chunk extension is not well-formed")
        if self._extensions + end - begin > MAX_EXTENSIONS:
            raise _bad("F25", f"the chunk extensions are longer than {MAX_EXTENSIONS} bytes in all")
        return end + 2, length, end - begin

    def _last(self, data: bytes | memoryview, start: int) -> int | None:
        """Reads what follows the line of the last chunk; where the body ends, None when that is not here yet."""
        section = bytes(data[start : start + MAX_TRAILERS])
        if section.startswith(CRLF):
            return start + len(CRLF)
        end = section.find(_END)
        wrong = find_bare(section, 0, len(section) if end < 0 else end + len(_END))
        if wrong is not None:
            raise _bad("F28", "behind the last chunk, " + wrong.message)
        if end < 0:
            if len(section) == MAX_TRAILERS:
                raise _bad("F30", f"the trailers are longer than {MAX_TRAILERS} bytes")
            return None
        try:
            fields = [read_field(line) for line in section[:end].split(CRLF)]
        except HttpError as error:
            row = "F28" if error.rule in ("S8", "S10") else "F30"
            raise _bad(row, "behind the last chunk, " + error.message) from None
        self.trailers = [field for field in fields if may_trail(field[0])]
        return start + end + len(_END)


def chunk(size: int) -> bytes:
    """The line in front of a chunk of `size` bytes, which is not 0."""
    return b"%x\r\n" % size


def last_with(trailers: Sequence[Field]) -> bytes:
    """The last chunk with trailers; without any it is `LAST`."""
    return b"0\r\n%b\r\n" % b"".join([field[2] for field in trailers])


def _too_large() -> HttpError:
    return _bad("F23", f"the size of a chunk has more than 8 digits or is above {MAX_SIZE:#x}")


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
