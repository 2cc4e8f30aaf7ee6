"""What an answer to an unsafe request makes wrong in the store (RFC 9111, section 4.4).

Owns which targets those are. Refuses to know keys. What lies on another origin is not touched: anybody could empty
the cache of others.
"""

from __future__ import annotations

import re

from lbproxy.http.hosts import normalise_host
from lbproxy.http.messages import HttpError, RequestHead, ResponseHead
from lbproxy.http.target import normalise, read_target, split_absolute

# Methods that are registered as safe (RFC 9110, 9.2.1); whether another one is, is unknown, and that is unsafe.
SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PROPFIND", b"QUERY", b"REPORT", b"SEARCH", b"TRACE"))
_PORTS = {b"http": 80, b"https": 443}
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*+:")

Target = tuple[bytes, bytes | None]


def invalidated(head: RequestHead, answer: ResponseHead, scheme: bytes, *, merge: bool = True) -> list[Target]:
    """Path and query (None without one) of everything that must not be served any more without asking.

    `scheme` is that of the request. Paths are normalised, as `head.path` is; with `merge` False runs of slashes are
    left as they are, as in `head.unmerged`.
    """
    if head.method in SAFE or not 200 <= answer.status < 400 or head.path[:1] != b"/":
        return []
    found: list[Target] = [(head.path if merge else head.unmerged, head.query)]
    for name, value, _ in answer.fields:
        if name in (b"location", b"content-location"):
            target = _resolve(value, head, scheme, merge=merge)
            if target is not None and target not in found:
                found.append(target)
    return found


def _resolve(reference: bytes, head: RequestHead, scheme: bytes, *, merge: bool) -> Target | None:
    """What a reference leads to on the origin of the request, None when it leads elsewhere (RFC 3986, 5.2.2)."""
    reference = reference.partition(b"#")[0]
    absolute = split_absolute(reference if reference[:2] != b"//" else scheme + b":" + reference)
    try:
        if absolute is not None:
            if absolute[0] != scheme or _authority(absolute[1], scheme) != head.authority:
                return None
            reference = absolute[2]
            if reference[:1] != b"/":
                reference = b"/" + reference
        elif _SCHEME.match(reference):
            return None
        elif not reference:
            return head.path if merge else head.unmerged, head.query
        elif reference[:1] == b"?":
            reference = head.unmerged + reference
        elif reference[:1] != b"/":
            reference = head.unmerged[: head.unmerged.rindex(b"/") + 1] + reference
        path, query = read_target(reference)
        merged, unmerged, _ = normalise(path)
    except HttpError:
        # What could not be asked for is not stored.
        return None
    return merged if merge else unmerged, query


def _authority(authority: bytes, scheme: bytes) -> bytes:
    """As it stands in a request. Raises HttpError."""
    return normalise_host(authority, _PORTS.get(scheme, 0))[1]
