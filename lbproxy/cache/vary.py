"""Which of the answers under one key a request asks for: the fields that Vary names (RFC 9111, section 4.1).

Owns how their values are made comparable. Refuses to know how Vary is read, how many variants there may be, and how
Accept-Encoding is normalised (K5): it is handed in. Only blanks are touched where the syntax of a field is not known to
allow more, and nothing at all where a comma may be part of a value: two requests that differ never look the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from lbproxy.http.client_cert import CLIENT_CERT_NAMES
from lbproxy.http.lines import BLANKS
from lbproxy.http.messages import RequestHead
from lbproxy.http.names import is_origin

ACCEPT_ENCODING = b"accept-encoding"
# No value holds a NUL, so it tells "no such field" from one without a value; none holds a line end either.
_ABSENT = b"\0"
_BETWEEN = b"\n"

# Not lists: a comma in these is a character like others.
_NO_LISTS = frozenset(
    (
        b"authorization",
        b"cookie",
        b"from",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"origin",
        b"referer",
        b"user-agent",
    )
)
# Lists of tokens without regard to case, with no quoted text in them.
_LOWER_LISTS = frozenset((b"accept-charset", b"accept-language"))
_REMEMBERED = 512


def variant_of(names: tuple[bytes, ...], head: RequestHead, accept_encoding: bytes) -> bytes:
    """What the request says in the fields of `names` (lower case, in the order that the store keeps them in).

    `accept_encoding` stands for Accept-Encoding. Requests with the same result may get the same answer.
    """
    if len(names) == 1:
        return _value(names[0], head, accept_encoding)
    return _BETWEEN.join([_value(name, head, accept_encoding) for name in names])


def unseen(names: Iterable[bytes]) -> bool:
    """Whether one of these names a field that tells variants apart which we cannot: one of those that we write
    ourselves, about where a request came from. X-Forwarded-Proto is in the key, as its scheme.
    """
    return any((is_origin(name) and name != b"x-forwarded-proto") or name in CLIENT_CERT_NAMES for name in names)


def _value(name: bytes, head: RequestHead, accept_encoding: bytes) -> bytes:
    if name == ACCEPT_ENCODING:
        return accept_encoding
    found = [value for field, value, _ in head.fields if field == name]
    if not found:
        return _ABSENT
    value = found[0] if len(found) == 1 else b", ".join(found)
    return _normalised(name, value) if b"," in value or name in _LOWER_LISTS else value


@lru_cache(_REMEMBERED)
def _normalised(name: bytes, value: bytes) -> bytes:
    """The value with its list written in one way."""
    if name in _NO_LISTS or b'"' in value:
        return value
    if name in _LOWER_LISTS:
        value = value.lower().replace(b" ", b"").replace(b"\t", b"")
    return b",".join([member.strip(BLANKS) for member in value.split(b",")])
