"""Whether a client has what is stored already, and how a backend is asked the same (RFC 9110, section 13).

Owns entity tags, their comparison and the order of preconditions. Refuses to know whether the stored answer is fresh,
and who answers. Tags that break the syntax are compared as they are: there are programs that leave out the quotes.
"""

from __future__ import annotations

import re
from functools import lru_cache

from lbproxy.http.dates import read_date
from lbproxy.http.lines import BLANKS
from lbproxy.http.messages import RequestHead

# What makes a request depend on what its sender has; those that ask a backend about a stored answer replace them.
CONDITIONAL = frozenset((b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since"))

GO_ON = 0
NOT_MODIFIED = 304
FAILED = 412

# A date that is younger than this when the answer was made may stand for two states (RFC 9110, 8.8.2.2).
_STRONG_AFTER = 1.0

_DAY = 86400.0
# The same few dates come again and again.
_REMEMBERED = 512

_SAFE = (b"GET", b"HEAD")
_WEAK = (b"W/", b"w/")
_STORED = re.compile(rb"\n(?:([Ee][Tt][Aa][Gg])|[Ll][Aa][Ss][Tt]-[Mm][Oo][Dd][Ii][Ff][Ii][Ee][Dd]):[ \t]*+([^\r\n]*+)")
_DATE = re.compile(rb"\n[Dd][Aa][Tt][Ee]:[ \t]*+([^\r\n]*+)")
_MEMBER = re.compile(rb'[ \t]*+((?:[Ww]/)?+"[^"]*+"(?=[ \t]*+(?:,|\Z))|[^,]*+)[ \t]*+,?+')


def evaluate(head: RequestHead, status: int, etag: bytes | None, modified: bytes | None, now: float) -> int:
    """What the preconditions of a request make of the answer with these validators: 304, 412, or 0 to go on.

    The order is that of RFC 9110, 13.2.2. `etag` and `modified` are the values of ETag and Last-Modified as they would
    be sent; where there is no Last-Modified, RFC 9111, 4.3.2, has Date stand for it (see `date_of`). Nothing is
    evaluated for a `status` other than 2xx. A 412 is the word of what is stored alone: If-Match and If-Unmodified-Since
    are meant for the origin (RFC 9111, 4.3.2), so whoever can ask it should.
    """
    if not 200 <= status < 300:
        return GO_ON
    matches: list[bytes] = []
    none_matches: list[bytes] = []
    modified_since: list[bytes] = []
    unmodified_since: list[bytes] = []
    for name, value, _ in head.fields:
        if name == b"if-none-match":
            none_matches.append(value)
        elif name == b"if-modified-since":
            modified_since.append(value)
        elif name == b"if-match":
            matches.append(value)
        elif name == b"if-unmodified-since":
            unmodified_since.append(value)
    if matches:
        if not _any_strong(b",".join(matches), etag):
            return FAILED
    elif unmodified_since and _later(modified, unmodified_since, now) is True:
        return FAILED
    if none_matches:
        if _any_weak(b",".join(none_matches), etag):
            return NOT_MODIFIED if head.method in _SAFE else FAILED
    elif modified_since and head.method in _SAFE and _later(modified, modified_since, now) is False:
        return NOT_MODIFIED
    return GO_ON


def range_holds(head: RequestHead, etag: bytes | None, modified: bytes | None, date: bytes | None = None) -> bool:
    """Whether the Range of a request may be obeyed, going by its If-Range (RFC 9110, 13.1.5); True without one.

    The comparison is strong. A date holds only if it is exactly Last-Modified, and the answer's Date, `date`, shows
    that it was not modified again within that second; without `date` it never does.
    """
    values = [value for name, value, _ in head.fields if name == b"if-range"]
    if not values:
        return True
    if len(values) > 1:
        return False
    value = values[0]
    if etag is not None and value == etag:
        return _is_strong(etag)
    if modified is None or date is None or value != modified:
        return False
    then, made = _instant(modified, 0), _instant(date, 0)
    return then is not None and made is not None and made - then >= _STRONG_AFTER


def validators(lines: bytes) -> tuple[bytes | None, bytes | None]:
    """The values of ETag and Last-Modified in the lines of a stored answer, the first where there are several."""
    etag = modified = None
    for is_etag, value in _STORED.findall(b"\n" + lines):
        if is_etag:
            if etag is None:
                etag = value
        elif modified is None:
            modified = value
    return etag or None, modified or None


def date_of(lines: bytes) -> bytes | None:
    """The value of Date in the lines of a stored answer."""
    found = _DATE.search(b"\n" + lines)
    return found[1] if found else None


def revalidating_lines(lines: bytes) -> bytes:
    """The lines that ask a backend whether the stored answer of these lines still holds; b"" without a validator.

    Both are sent where there are both, as RFC 9111, 4.3.1, has it; who knows ETags goes by them alone.
    """
    etag, modified = validators(lines)
    asked = b""
    if etag is not None:
        asked += b"If-None-Match: %b\r\n" % etag
    if modified is not None:
        asked += b"If-Modified-Since: %b\r\n" % modified
    return asked


def same_weakly(one: bytes, other: bytes) -> bool:
    """Whether two entity tags are the same by the weak comparison (RFC 9110, 8.8.3.2)."""
    return one == other or _opaque(one) == _opaque(other)


def _any_weak(value: bytes, etag: bytes | None) -> bool:
    if value == etag or value.strip(BLANKS) == b"*":
        return True
    if etag is None:
        return False
    wanted = _opaque(etag)
    return any(_opaque(member) == wanted for member in _members(value))


def _any_strong(value: bytes, etag: bytes | None) -> bool:
    if value.strip(BLANKS) == b"*":
        return True
    return etag is not None and _is_strong(etag) and etag in _members(value)


def _members(value: bytes) -> list[bytes]:
    return [member for member in (found.rstrip(BLANKS) for found in _MEMBER.findall(value)) if member]


def _is_strong(etag: bytes) -> bool:
    return len(etag) >= 2 and etag[:1] == etag[-1:] == b'"'


def _opaque(etag: bytes) -> bytes:
    if etag[:2] in _WEAK:
        etag = etag[2:]
    return etag[1:-1] if _is_strong(etag) else etag


def _later(modified: bytes | None, limits: list[bytes], now: float) -> bool | None:
    """Whether the first is after the other; None when that cannot be told."""
    if modified is None or len(limits) != 1:
        return None
    day = int(now // _DAY)
    then, limit = _instant(modified, day), _instant(limits[0], day)
    return None if then is None or limit is None else then > limit


@lru_cache(_REMEMBERED)
def _instant(date: bytes, day: int) -> float | None:
    # Only years of two digits ask for the time that it is, and for them the day will do.
    return read_date(date, day * _DAY)
