"""Which field is what: hop-by-hop, about where a request came from, or not to be named away.

Owns these lists and nothing else; a name that is in none of them is passed on unread.
"""

from __future__ import annotations

from lbproxy.http.client_cert import CLIENT_CERT_NAMES

# RFC 9110, 7.6.1, and what is in use beside it: for the next hop only, and none of our business to repeat.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

_ORIGIN = frozenset((b"forwarded", b"x-real-ip", b"true-client-ip", b"x-request-id"))
_ORIGIN_PREFIX = b"x-forwarded-"

# `Connection` is a client's or a backend's word about its own hop; it must not undo what we or others rely on.
_NOT_NAMED_AWAY = frozenset(
    (
        b"authorization",
        b"content-length",
        b"cookie",
        b"host",
        b"set-cookie",
        b"transfer-encoding",
        b"via",
    )
)

# RFC 9110, 6.5.1: what is decided by the head is not decided again behind the body.
_NO_TRAILERS = frozenset(
    (
        b"age",
        b"authorization",
        b"cache-control",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"host",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
    )
)


def is_origin(name: bytes) -> bool:
    """Whether a field tells where a request came from."""
    return name in _ORIGIN or name.startswith(_ORIGIN_PREFIX)


def may_be_named_away(name: bytes) -> bool:
    """Whether `Connection: name` removes the field of that name."""
    return name not in _NOT_NAMED_AWAY and not is_origin(name)


def may_trail(name: bytes) -> bool:
    """Whether a field may stand behind a body."""
    if name in _NO_TRAILERS or name in HOP_BY_HOP or name in CLIENT_CERT_NAMES:
        return False
    return not (is_origin(name) or name.startswith(b"content-"))
