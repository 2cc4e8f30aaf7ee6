"""What the cache knows of an answer that it has stored, and of a request that looks for one.

Owns these values alone; the rules are in the modules beside it. There may be ten million stored answers, so what can be
worked out of their lines when it is wanted is not kept.

All times here are seconds since the epoch on a clock that runs evenly: see `World.cache_time`.
"""

from __future__ import annotations

from typing import Any

from lbproxy.cache.body import AnyBody

# Flags of a stored answer.
NEVER_STALE = 1  # must-revalidate, proxy-revalidate, s-maxage: it is never served stale (RFC 9111, 4.2.4)
ALWAYS_ASK = 2  # no-cache: it is used only when the backend has confirmed it
COMPRESSIBLE = 4  # the route's compression is for answers like this one
GUESSED = 8  # its freshness was guessed from Last-Modified

# What a stored answer takes beyond its key, lines, reason and body, in bytes: the objects themselves, and their
# place in the store. `python -m bench.cache_entries` measured 580 over a million entries; the rest is for ghosts.
OVERHEAD = 600


class Stored:
    """One stored answer.

    `key` is its primary key (see keys.py), `variant` what the fields named in Vary said, b"" without Vary. `lines` are
    its fields as they are sent ("Name: value\\r\\n" each), with Date, without Age, Content-Length, Set-Cookie that is
    ignored, hop-by-hop fields and those that may not be stored. `coding` is its Content-Encoding in lower case, b"" for
    none.

    Its age was zero at `born`; it is fresh before `fresh_until`. It may be served stale for `while_revalidate` seconds
    after that while the backend is asked, and for `if_error` seconds when the backend fails. `flags` are those above.
    `tags` are its surrogate tags, lower case, None for none. `coded` are its body in other codings, by name (b"" for
    plain), None while there is none.

    `checked` is the number of the last ban that was held against it, `visits` a small count for the eviction, `size`
    what it counts for in the store. `hits` is how often it was served.
    """

    __slots__ = (
        "body",
        "born",
        "checked",
        "coded",
        "coding",
        "flags",
        "fresh_until",
        "hits",
        "if_error",
        "key",
        "lines",
        "reason",
        "size",
        "status",
        "tags",
        "variant",
        "visits",
        "while_revalidate",
    )

    def __init__(
        self,
        key: bytes,
        variant: bytes,
        status: int,
        reason: bytes,
        lines: bytes,
        body: AnyBody,
        *,
        coding: bytes,
        born: float,
        fresh_until: float,
        while_revalidate: float,
        if_error: float,
        flags: int,
        tags: tuple[bytes, ...] | None,
        checked: int = 0,
    ) -> None:
        self.key = key
        self.variant = variant
        self.status = status
        self.reason = reason
        self.lines = lines
        self.body = body
        self.coding = coding
        self.born = born
        self.fresh_until = fresh_until
        self.while_revalidate = while_revalidate
        self.if_error = if_error
        self.flags = flags
        self.tags = tags
        self.checked = checked
        self.coded: dict[bytes, AnyBody] | None = None
        self.visits = 0
        self.hits = 0
        self.size = 0

    def __repr__(self) -> str:
        return f"<Stored {self.status} {self.key!r} {self.variant!r}>"


class Freshness:
    """How long an answer is fresh, and what may be done with it afterwards; see Stored."""

    __slots__ = ("born", "flags", "fresh_until", "if_error", "while_revalidate")

    def __init__(self, born: float, fresh_until: float, while_revalidate: float, if_error: float, flags: int) -> None:
        self.born = born
        self.fresh_until = fresh_until
        self.while_revalidate = while_revalidate
        self.if_error = if_error
        self.flags = flags


class Query:
    """A request, as the cache sees it; it is the same for all equal heads.

    `key` is the primary key. `bypass` is the reason for which it neither looks nor stores, "" for none. `is_head` tells
    that only the head is wanted, `conditional` that there is If-None-Match, If-Modified-Since, If-Match or
    If-Unmodified-Since, `ranged` that there is a Range. `codings` are those that it accepts of ours, as a bit set of
    compress/negotiation.py, `accept` the same as a field value and `accept_encoding` what was written. `directives`
    (see directives.py) are those of its Cache-Control, None when there are none or they do not count.
    `only_if_cached` wants no backend to be asked, `no_transform` no other coding than the stored one.
    """

    __slots__ = (
        "accept",
        "accept_encoding",
        "as_is",
        "bypass",
        "codings",
        "conditional",
        "directives",
        "is_head",
        "key",
        "no_transform",
        "only_if_cached",
        "plain",
        "ranged",
    )

    def __init__(
        self,
        key: bytes,
        bypass: str,
        *,
        is_head: bool,
        conditional: bool,
        ranged: bool,
        codings: int,
        directives: Any,
        accept: bytes = b"",
        accept_encoding: bytes | None = None,
        only_if_cached: bool = False,
        no_transform: bool = False,
    ) -> None:
        self.key = key
        self.bypass = bypass
        self.is_head = is_head
        self.conditional = conditional
        self.ranged = ranged
        self.codings = codings
        self.directives = directives
        self.accept = accept
        self.accept_encoding = accept_encoding
        self.only_if_cached = only_if_cached
        self.no_transform = no_transform
        # Whether nothing but the whole answer is wanted.
        self.plain = not (is_head or conditional or ranged)
        # Whether a backend is asked for just that with the same words.
        self.as_is = self.plain and (accept_encoding or b"") == accept
