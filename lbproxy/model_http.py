"""What is configured about HTTP, as frozen values: listeners, routes, pools.

Texts of messages (names of fields, paths, hosts) are `str` here as the user wrote them, in ASCII; `http/` and
`session/` turn them into bytes once. None means "not set" or "none", as each field says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lbproxy.addresses import NetworkSet
from lbproxy.model_cache import CompressSettings, DecompressSettings, RouteCacheSettings

ValueKind = Literal["exact", "prefix", "regex", "present", "absent"]
StickyKind = Literal["cookie", "client_ip", "header", "learnt_cookie"]
SameSite = Literal["lax", "strict", "none"]


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """What a value must be. `value` is the text, its beginning, or a regular expression that all of it must match."""

    kind: ValueKind
    value: str = ""


@dataclass(frozen=True, slots=True)
class NamedMatch:
    """A header field (name in lower case), a query parameter or a cookie, and what its value must be.

    Where there are several of the name, one that matches is enough; "absent" wants none at all.
    """

    name: str
    match: ValueMatch


@dataclass(frozen=True, slots=True)
class Condition:
    """What a request must be like; every part that is not empty must hold, an empty condition always holds.

    `hosts` are in lower case, exact or `*.name` (one label or more); `paths` ending in "/" stand for everything below
    (and for the path without that slash they do not), others for that path alone; `path_regexes` must match the whole
    path. `methods` match by case. `every` must all hold, one of `some`, none of `none`.
    """

    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    path_regexes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[NamedMatch, ...] = ()
    queries: tuple[NamedMatch, ...] = ()
    cookies: tuple[NamedMatch, ...] = ()
    clients: NetworkSet | None = None
    every: tuple[Condition, ...] = ()
    some: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """Several pools with their weights. `key` is a hash key that fixes a client's side, None leaves it to chance."""

    pools: tuple[tuple[str, int], ...]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that sends the client elsewhere. `to` is a template, see http/templates.py."""

    to: str
    status: int = 308


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """An answer of our own."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """What is said in place of the built-in text for `status`; read when the configuration is."""

    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FieldEdits:
    """What is done to header fields, in this order: `remove`, `set` (removed and then added), `add`.

    Values are templates, see http/templates.py.
    """

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What is forwarded in place of path and Host. First `strip_prefix` is taken off, then `add_prefix` put in front;
    or `regex` (which must match the whole path) is replaced by `path`, or `path` alone is all there is.
    Templates know the groups of the regular expression as {1} to {9}.
    """

    strip_prefix: str = ""
    add_prefix: str = ""
    regex: str = ""
    path: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of some requests goes to another pool, whose answers are thrown away. `percent` is in (0, 100]."""

    pool: str
    percent: float = 100.0
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class HttpRouteSettings:
    """What a route does with HTTP requests, beyond the pool.

    Exactly one of the route's `pool`, `split`, `redirect` and `answer` is set. `retry_statuses` are tried again for
    idempotent requests, like `retry_idempotent` lost ones. `max_body` is in bytes, None for
    no limit; 0 allows none. `streaming` puts `tunnel_idle` in place of the idle clocks of bodies.

    With `cache`, answers are stored and served again; `cache_bypass` are requests that neither look nor store,
    `cache_no_store` those that only look. `compress` says what is compressed for clients, `decompress` that
    compressed bodies of requests are unpacked for backends.
    """

    condition: Condition = Condition()
    split: Split | None = None
    redirect: Redirect | None = None
    answer: FixedAnswer | None = None
    rewrite: Rewrite | None = None
    request_fields: FieldEdits = FieldEdits()
    response_fields: FieldEdits = FieldEdits()
    max_body: int | None = None
    mirror: Mirror | None = None
    retry_idempotent: bool = False
    idempotency_key: bool = False
    retry_statuses: tuple[int, ...] = ()
    upgrades: tuple[str, ...] = ("websocket",)
    streaming: bool = False
    encoded_slash: bool = False
    merge_slashes: bool = True
    conceal: bool = False
    error_pages: tuple[ErrorPage, ...] = ()
    cache: RouteCacheSettings | None = None
    cache_bypass: tuple[Condition, ...] = ()
    cache_no_store: tuple[Condition, ...] = ()
    compress: CompressSettings | None = None
    decompress: DecompressSettings | None = None


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How a listener speaks HTTP.

    `default_host` is the site of HTTP/1.0 clients that name none, "" for none. `hsts` is the max-age (seconds) of
    Strict-Transport-Security on TLS, None for no such field. `expose` lets answers of ours name the backend.
    """

    trusted_peers: NetworkSet | None = None
    default_host: str = ""
    underscores: Literal["drop", "pass"] = "drop"
    max_head: int = 16 * 1024
    max_fields: int = 100
    max_target: int = 8 * 1024
    max_requests: int = 1000
    via: bool = True
    forwarded: bool = False
    request_id: bool = True
    traceparent: Literal["pass", "mint", "drop"] = "pass"
    client_cert: bool = False
    redirect_https: bool = False
    hsts: float | None = None
    hsts_subdomains: bool = False
    abort_on_half_close: bool = False
    expose: bool = False
    error_pages: tuple[ErrorPage, ...] = ()


@dataclass(frozen=True, slots=True)
class StickySettings:
    """How a client stays with its backend.

    `name` is the cookie's (kind "cookie"; "" for the pool's own), the header field's or the application's cookie's.
    `keys` are the secrets, the first signs, all verify; empty for one made at start. Times are seconds.
    """

    kind: StickyKind = "cookie"
    name: str = ""
    keys: tuple[bytes, ...] = ()
    max_age: float | None = None
    max_idle: float | None = None
    max_life: float | None = None
    same_site: SameSite = "lax"
    domain: str = ""
    strict: bool = False
    table_size: int = 100_000
    table_idle: float = 600.0


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """What a health check asks and which answers pass. `statuses` are inclusive ranges. `body` must be in the answer's
    first 64 KiB; `host` "" stands for the backend's address.
    """

    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A TCP port of each backend that tells its load in one line. Times are seconds."""

    port: int
    interval: float = 2.0
    timeout: float = 2.0


@dataclass(frozen=True, slots=True)
class HttpPoolSettings:
    """How a pool's backends are spoken to in HTTP.

    `idle_connections` may wait for the next request, per backend; one is closed after `max_requests` or `max_life`
    seconds. `http10` speaks HTTP/1.0. `conceal` hides what gives backends away (Server, X-Powered-By, own Locations).
    """

    sticky: StickySettings | None = None
    idle_connections: int = 32
    max_requests: int = 1000
    max_life: float = 3600.0
    http10: bool = False
    conceal: bool = False
