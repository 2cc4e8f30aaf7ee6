"""What is configured about the cache and about compression, as frozen values.

Times are seconds, sizes bytes. None means "not set" or "none", as each field says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DiskSettings:
    """Where stored answers outlive the process. `size` bounds all files together, `max_object` one body."""

    path: str
    size: int = 10 * 1024 * MIB
    max_object: int = 1024 * MIB


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What all routes that cache share.

    `memory` bounds bodies, heads and our own accounts of them together, `max_object` one body in memory. At most
    `waiters` requests wait, at most `wait` seconds, for an answer that another one has asked for. That an answer cannot
    be stored is remembered for `hit_for_miss` seconds. `variants` bounds those of one key.
    """

    memory: int = 128 * MIB
    max_object: int = 8 * MIB
    disk: DiskSettings | None = None
    waiters: int = 1024
    wait: float = 5.0
    hit_for_miss: float = 120.0
    variants: int = 32


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What tells one stored answer from another, beyond scheme, host, path and query.

    Of the query's parameters those of `ignore_query` are left out (a name that ends in "*" stands for all that begin
    so; "*" alone for the whole query); with `only_query` all others are. `sort_query` makes their order not matter.
    The values of `headers` (lower case) and `cookies` are part of the key.
    """

    ignore_query: tuple[str, ...] = ()
    only_query: tuple[str, ...] | None = None
    sort_query: bool = False
    headers: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteCacheSettings:
    """What a route stores, and when it serves it.

    `ttl` stands in place of the freshness that an answer states, `default_ttl` where it states none (then nothing is
    guessed), `max_ttl` bounds both. `heuristic` lets freshness be guessed from Last-Modified (RFC 9111, 4.2.2).
    `stale_while_revalidate` and `stale_if_error` hold where the answer does not say (RFC 5861). `targeted` lets
    CDN-Cache-Control overrule Cache-Control (RFC 9213). `honour_clients` obeys the Cache-Control of requests.
    `ignore_set_cookie` stores answers with Set-Cookie, without it. `collapse` lets requests wait for what another one
    has asked for. `told` says what was done in Cache-Status (RFC 9211).
    """

    key: KeySettings = KeySettings()
    ttl: float | None = None
    default_ttl: float | None = None
    max_ttl: float | None = None
    heuristic: bool = True
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    targeted: bool = True
    honour_clients: bool = False
    ignore_set_cookie: bool = False
    collapse: bool = True
    told: bool = True


Coding = Literal["zstd", "br", "gzip"]


@dataclass(frozen=True, slots=True)
class CompressSettings:
    """What a route compresses. `codings` are in the order of our preference; a level is the coding's own.

    `min_size` is the shortest body worth it. `types` are media types beside the usual ones. `private` takes in
    answers with Set-Cookie or `Cache-Control: private`, `events` streams of events and gRPC, flushed as they come.
    `offload` asks backends for plain bodies. `decode` unpacks coded answers for clients that cannot read them.
    """

    codings: tuple[Coding, ...] = ("zstd", "br", "gzip")
    zstd_level: int = 3
    br_level: int = 4
    gzip_level: int = 4
    min_size: int = 1024
    types: tuple[str, ...] = ()
    private: bool = False
    events: bool = False
    offload: bool = False
    decode: bool = True


@dataclass(frozen=True, slots=True)
class DecompressSettings:
    """How compressed bodies of requests are unpacked for backends: at most `ratio` times as long as they came (beyond
    the first 64 KiB), at most `max_size` bytes.
    """

    ratio: int = 100
    max_size: int = 32 * MIB
