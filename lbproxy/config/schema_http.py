"""The tables about HTTP: what a listener and a pool may say of it; routes have a file of their own.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from lbproxy import model_http
from lbproxy.config.reading_addresses import Network
from lbproxy.config.reading_http import ErrorStatus, SingleHost
from lbproxy.config.reading_matches import CookieName, Key
from lbproxy.config.reading_tls import ExactName, FilePath
from lbproxy.config.readings import Duration, Flag, Size, Whole, Word
from lbproxy.config.shapes import Keys, OneOrMore, Table, default

_FOREVER = 10 * 365 * 86400.0

ErrorPages = Annotated[
    dict[str, Annotated[str, FilePath()]], Keys(ErrorStatus(), "is empty; leave the key out to keep the built-in texts")
]
ERROR_PAGES = (
    "Files (.html, .json or .txt, at most 64 KiB) that are answered in place of the built-in texts, by status. "
)


class HttpTable(Table):
    """How HTTP is spoken with clients. Only for listeners with `protocol = "http"`."""

    trusted_peers: Annotated[
        list[Annotated[str, Network()]] | None, OneOrMore("is empty; leave the key out to trust nobody")
    ] = Field(
        default=None,
        description="Proxies in front whose X-Forwarded-For, -Proto, -Host and X-Request-ID are believed; from others "
        "they are removed. Default: nobody.",
    )
    default_host: Annotated[str, SingleHost()] = Field(
        default="", description="The host of HTTP/1.0 clients that name none. Default: they are refused with 400."
    )
    underscores: Annotated[str, Word(("drop", "pass"))] = Field(
        default=default(model_http.HttpSettings, "underscores"),
        description="Header fields with an underscore in their name, which many applications take for a dash.",
    )
    max_head: Annotated[int, Size(1024, 1024**2)] = Field(
        default=default(model_http.HttpSettings, "max_head"), description="The head of a request; larger ones get 431."
    )
    max_fields: Annotated[int, Whole(1, 10_000)] = Field(
        default=default(model_http.HttpSettings, "max_fields"), description="Header fields of a request, for more 431."
    )
    max_target: Annotated[int, Size(64, 1024**2)] = Field(
        default=default(model_http.HttpSettings, "max_target"),
        description="Path and query of a request; longer ones get 414.",
    )
    max_requests: Annotated[int, Whole(1, 1_000_000_000)] = Field(
        default=default(model_http.HttpSettings, "max_requests"),
        description="Requests on one connection; behind the last one it is closed.",
    )
    via: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "via"),
        description="Add Via to what is forwarded, which finds loops; some backends do not compress then.",
    )
    forwarded: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "forwarded"),
        description="Add Forwarded (RFC 7239) besides the X-Forwarded fields.",
    )
    request_id: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "request_id"),
        description="Add X-Request-ID: that of a trusted peer, else a new one.",
    )
    traceparent: Annotated[str, Word(("pass", "mint", "drop"))] = Field(
        default=default(model_http.HttpSettings, "traceparent"),
        description="W3C trace context: passed on as it is, made where it is missing, or removed.",
    )
    client_cert: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "client_cert"),
        description="Tell backends about the client's certificate in header fields; those of clients are removed.",
    )
    redirect_https: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "redirect_https"),
        description="Redirect all that comes in clear to https; a listener for that alone needs no pool.",
    )
    hsts: Annotated[float | None, Duration(least=0.0, most=_FOREVER)] = Field(
        default=None,
        description="How long browsers shall use https only (Strict-Transport-Security); 0 makes them forget. "
        "Default: not said.",
    )
    hsts_subdomains: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "hsts_subdomains"), description="The same for all names below."
    )
    abort_on_half_close: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "abort_on_half_close"),
        description="Take a client that ends its half of the connection for gone; some scripts do so and wait.",
    )
    expose: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpSettings, "expose"),
        description="Let answers of lbproxy's own name the backend and what happened, for debugging.",
    )
    error_pages: ErrorPages = Field(default={}, description=f"{ERROR_PAGES}Default: none.")


class PoolHttpTable(Table):
    """How HTTP is spoken to the backends."""

    idle_connections: Annotated[int, Whole(0, 100_000)] = Field(
        default=default(model_http.HttpPoolSettings, "idle_connections"),
        description="Connections to each backend that are kept for the next request; 0 for none.",
    )
    max_requests: Annotated[int, Whole(1, 1_000_000_000)] = Field(
        default=default(model_http.HttpPoolSettings, "max_requests"),
        description="Requests on one connection; then it is closed.",
    )
    max_life: Annotated[float, Duration(none=True)] = Field(
        default=default(model_http.HttpPoolSettings, "max_life"), description="The longest that one connection is used."
    )
    version: Annotated[str, Word(("1.1", "1.0"))] = Field(
        default="1.1", description="The version of requests; 1.0 for backends that know nothing else."
    )
    conceal: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpPoolSettings, "conceal"),
        description="Hide what gives backends away: Server, X-Powered-By, and their own addresses in Location.",
    )


def sticky_by(text: str) -> dict[str, object]:
    """The table that a short form stands for."""
    return {"by": text}


class StickyTable(Table):
    """Keeps each client with its backend."""

    by: Annotated[str, Key(("cookie", "client_ip"), ("header", "cookie"))] = Field(
        description="`cookie`: one of lbproxy's own. The others are learnt in a table: the client's address, a header "
        "field, or a cookie that the application sets."
    )
    name: Annotated[str, CookieName()] = Field(
        default="", description="The name of lbproxy's cookie. Default: made from the pool's name."
    )
    key_file: Annotated[str | None, FilePath()] = Field(
        default=None,
        description="Secrets that sign the cookie, one a line: base64, or at least 16 characters. The first signs, all "
        "count. Default: made at start, so a restart lets clients change.",
    )
    max_age: Annotated[float | None, Duration(least=1.0, most=_FOREVER)] = Field(
        default=None, description="How long browsers keep the cookie. Default: until they are closed."
    )
    max_idle: Annotated[float | None, Duration(least=1.0, most=_FOREVER)] = Field(
        default=None, description="Without a request for so long a client gets a new choice. Default: no limit."
    )
    max_life: Annotated[float | None, Duration(least=1.0, most=_FOREVER)] = Field(
        default=None, description="After so long a client gets a new choice. Default: no limit."
    )
    same_site: Annotated[str, Word(get_args(model_http.SameSite))] = Field(
        default=default(model_http.StickySettings, "same_site"),
        description="The cookie's SameSite; `none` works on TLS only.",
    )
    domain: Annotated[str, ExactName()] = Field(
        default="", description="The cookie's Domain, which shares it with all hosts below. Default: one host only."
    )
    strict: Annotated[bool, Flag()] = Field(
        default=default(model_http.StickySettings, "strict"),
        description="Answer 503 while a client's backend is down, in place of choosing another.",
    )
    table_size: Annotated[int, Whole(1, 10_000_000)] = Field(
        default=default(model_http.StickySettings, "table_size"),
        description="Clients that are remembered, where they are learnt; the oldest are forgotten.",
    )
    table_idle: Annotated[float, Duration()] = Field(
        default=default(model_http.StickySettings, "table_idle"),
        description="How long a client is remembered without a request.",
    )


class LoadReportTable(Table):
    """A port of each backend that tells its load in one line, as HAProxy's agent checks do: `75%`, `drain`, `up`."""

    port: Annotated[int, Whole(1, 65_535)] = Field(description="The TCP port, on the backend's address.")
    interval: Annotated[float, Duration()] = Field(
        default=default(model_http.LoadReport, "interval"), description="Between two reports."
    )
    timeout: Annotated[float, Duration()] = Field(
        default=default(model_http.LoadReport, "timeout"), description="For one report."
    )
