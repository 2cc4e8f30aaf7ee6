"""Heads for the tests of the cache's rules, read from bytes as they are in life."""

from __future__ import annotations

from lbproxy.cache.directives import Directives, response_directives
from lbproxy.cache.freshness import freshness
from lbproxy.cache.storing import Storable, judge
from lbproxy.cache.values import Freshness, Query, Stored
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.http.request_head import RequestReader
from lbproxy.http.response_head import ResponseReader
from lbproxy.model_cache import RouteCacheSettings
from lbproxy.model_http import HttpSettings

# 22 November 2026, 11:40:00.
NOW = 1795347600.0
DEFAULTS = RouteCacheSettings()


def request(fields: str = "", target: str = "/a", method: str = "GET", host: str = "a.example") -> RequestHead:
    """A request; `fields` are lines with "\\n" between them."""
    start = f"{method} {target} HTTP/1.1"
    read = RequestReader(HttpSettings(), secure=False).read(_message(start, f"Host: {host}\n{fields}"))
    if read is None:
        raise ValueError("this is no whole head")
    return read[0]


def answer(fields: str = "", status: int = 200) -> ResponseHead:
    """An answer; `fields` are lines with "\\n" between them."""
    read = ResponseReader().read(_message(f"HTTP/1.1 {status} Said", fields))
    if read is None:
        raise ValueError("this is no whole head")
    return read[0]


def fresh(
    fields: str,
    settings: RouteCacheSettings = DEFAULTS,
    status: int = 200,
    asked_at: float = NOW,
    received_at: float = NOW,
) -> Freshness | None:
    """The freshness of an answer with these fields."""
    head = answer(fields, status)
    said = response_directives(head, targeted=settings.targeted)
    return freshness(head, said, settings, asked_at=asked_at, received_at=received_at, expires_counts=not said.targeted)


def judged(
    fields: str, settings: RouteCacheSettings = DEFAULTS, status: int = 200, head: RequestHead | None = None
) -> Storable | str:
    """The verdict on an answer with these fields that comes at NOW."""
    return judge(head or request(), answer(fields, status), settings, asked_at=NOW, received_at=NOW)


def stored(
    lifetime: float, *, flags: int = 0, while_revalidate: float = 0.0, if_error: float = 0.0, born: float = NOW
) -> Stored:
    """A stored answer that is fresh for `lifetime` seconds from `born` on."""
    return Stored(
        b"k",
        b"",
        200,
        b"OK",
        b"",
        b"",
        coding=b"",
        born=born,
        fresh_until=born + lifetime,
        while_revalidate=while_revalidate,
        if_error=if_error,
        flags=flags,
        tags=None,
    )


def query(directives: Directives | None = None) -> Query:
    """A plain query with these directives."""
    return Query(b"k", "", is_head=False, conditional=False, ranged=False, codings=0, directives=directives)


def _message(start: str, fields: str) -> bytes:
    lines = [start, *[line for line in fields.split("\n") if line], "", ""]
    return "\r\n".join(lines).encode("latin-1")
