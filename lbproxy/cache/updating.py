"""What a 304, or the answer to a HEAD, changes in a stored answer (RFC 9111, sections 3.2, 4.3.4 and 4.3.5; K8).

Owns which answers speak of which, and which fields they may change. Refuses to work out freshness: that is done anew,
from the new fields. Nothing here changes what the body is: its coding and its length are those that it came with.
"""

from __future__ import annotations

from collections.abc import Set

from lbproxy.cache.conditions import same_weakly, validators
from lbproxy.http.dates import date_line
from lbproxy.http.lines import BLANKS, CRLF
from lbproxy.http.messages import Field, ResponseHead

# What these say holds for the body as it is stored (RFC 9111, 3.2), or for the one message that they came with.
# Set-Cookie: a cookie for one client would be everybody's. Age: counted anew.
_NEVER = frozenset(
    (
        b"age",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"proxy-authentication-info",
        b"set-cookie",
        b"set-cookie2",
        b"transfer-encoding",
    )
)


def matches(stored_lines: bytes, answer: ResponseHead, *, length: int | None = None) -> bool:
    """Whether `answer` speaks of the stored answer of these lines.

    A 304 does when its ETag is the stored one by the weak comparison, or else its Last-Modified is, or when it has
    neither: then what it was asked by tells. (A backend that compresses may well weaken the ETag of a 200 alone.) A
    2xx to a HEAD does when all of ETag, Last-Modified and Content-Length that it has are the stored ones; `length` is
    that of the stored body, None where it is not known. No other answer does.
    """
    is_head = 200 <= answer.status < 300
    if not is_head and answer.status != 304:
        return False
    etag, modified = validators(stored_lines)
    new_etag, new_modified = answer.get(b"etag"), answer.get(b"last-modified")
    if is_head and length is not None and answer.length is not None and answer.length != length:
        return False
    if new_etag and (etag is None or not same_weakly(new_etag, etag)):
        return False
    if new_etag and not is_head:
        return True
    return not new_modified or new_modified == modified


def freshened(
    lines: bytes, answer: ResponseHead, *, received_at: float | None = None, left_out: Set[bytes] = frozenset()
) -> bytes:
    """The lines of a stored answer with those of `answer`, which `matches`, in their places (RFC 9111, 3.2).

    Content-Encoding, Content-Length, Content-Range and Age stay as they are stored, and so does ETag, which is the same
    but for its strength. No cookie is taken over. `left_out` are other fields that must not be (`no-cache="..."`,
    `private="..."`), in lower case. Where `answer` has no Date, `received_at` becomes it (RFC 9110, 6.6.1).
    """
    stored = fields_of(lines)
    kept = _NEVER | left_out
    if any(name == b"etag" for name, _, _ in stored):
        kept |= {b"etag"}
    new: dict[bytes, bytes] = {}
    for name, _, line in answer.fields:
        if name not in kept:
            new[name] = new.get(name, b"") + line
    if received_at is not None and b"date" not in new:
        new[b"date"] = date_line(int(received_at))
    changed = frozenset(new)
    result = []
    for name, _, line in stored:
        if name not in changed:
            result.append(line)
        elif name in new:
            result.append(new.pop(name))
    return b"".join((*result, *new.values()))


def fields_of(lines: bytes) -> list[Field]:
    """The fields in the lines of a stored answer, which were written by us."""
    fields = []
    for line in lines.split(CRLF)[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(BLANKS), line + CRLF))
    return fields
