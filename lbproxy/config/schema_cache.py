"""The tables about the cache and about compression: what all routes share, and what a route says of its own.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from lbproxy import model_cache
from lbproxy.config.reading_cache import CodedType, KeyFieldName, ParameterPattern
from lbproxy.config.reading_matches import CookieName
from lbproxy.config.reading_tls import FilePath
from lbproxy.config.readings import YEAR, Duration, Flag, Size, Whole, Word
from lbproxy.config.schema_conditions import ConditionTable
from lbproxy.config.shapes import OneOrMore, Table, TableOr, default
from lbproxy.config.units import write_size

_LEAVE_OUT = "is empty; leave the key out"
_LONG = 10 * YEAR
_CODINGS = (
    ("brotli", 'write "br"'),
    ("zstandard", 'write "zstd"'),
    ("x-gzip", 'write "gzip"'),
    ("deflate", 'clients mean two different things by it, write "gzip"'),
    ("identity", "plain is what every client gets that reads none of the others; leave it out"),
)


def _disk_at(text: str) -> dict[str, object]:
    return {"path": text}


def _at_most(of: type, whole: str) -> str:
    """What stands where no `max_object` is written; see building_cache.py."""
    return f"Default: `{write_size(default(of, 'max_object'))}`, at most half of `{whole}`."


class DiskTable(Table):
    """Keeps stored answers in files as well: those that outlive a restart, and those too large for memory."""

    path: Annotated[str, FilePath()] = Field(
        description="The directory. lbproxy makes one of its own in it, and touches nothing beside that."
    )
    size: Annotated[int, Size(1024**2, 1024**5)] = Field(
        default=default(model_cache.DiskSettings, "size"), description="Of all files together."
    )
    max_object: Annotated[int, Size(1024, 1024**4)] = Field(
        default=default(model_cache.DiskSettings, "max_object"),
        description=f"The largest body that is stored. {_at_most(model_cache.DiskSettings, 'size')}",
    )


class CacheTable(Table):
    """The store of all routes with `cache`. Without such a route there is none."""

    memory: Annotated[int, Size(1024**2, 1024**5)] = Field(
        default=default(model_cache.CacheSettings, "memory"),
        description="Bodies, heads and what is noted of them together; what is seldom asked for makes room.",
    )
    max_object: Annotated[int, Size(1024, 1024**4)] = Field(
        default=default(model_cache.CacheSettings, "max_object"),
        description=f"The largest body in memory. {_at_most(model_cache.CacheSettings, 'memory')}",
    )
    disk: Annotated[DiskTable | None, TableOr(_disk_at, "a directory")] = Field(
        default=None, description="Keep answers in files as well. Default: in memory alone."
    )
    waiters: Annotated[int, Whole(0, 1_000_000)] = Field(
        default=default(model_cache.CacheSettings, "waiters"),
        description="Requests that wait for an answer which another one has asked for; further ones ask themselves.",
    )
    wait: Annotated[float, Duration(most=3600.0)] = Field(
        default=default(model_cache.CacheSettings, "wait"),
        description="How long they wait for it to begin; then they ask themselves.",
    )
    hit_for_miss: Annotated[float, Duration(least=0.0, most=86400.0)] = Field(
        default=default(model_cache.CacheSettings, "hit_for_miss"),
        description="How long it is remembered that an answer may not be stored, so that nobody waits for it.",
    )
    variants: Annotated[int, Whole(1, 10_000)] = Field(
        default=default(model_cache.CacheSettings, "variants"),
        description="Answers of one URL that differ by what `Vary` names; beyond it old ones are dropped.",
    )


class CacheKeyTable(Table):
    """What tells one stored answer from another, beside scheme, host, path and query."""

    ignore_query: Annotated[list[Annotated[str, ParameterPattern()]], OneOrMore(_LEAVE_OUT)] = Field(
        default=[],
        description='Parameters of the query that do not count; `"utm_*"` for all that begin so, `"*"` for all.',
    )
    only_query: Annotated[list[Annotated[str, ParameterPattern()]] | None, OneOrMore(None)] = Field(
        default=None, description="Parameters that alone count; [] for none. Default: all."
    )
    sort_query: Annotated[bool, Flag()] = Field(
        default=default(model_cache.KeySettings, "sort_query"), description="Let the order of parameters not count."
    )
    headers: Annotated[list[Annotated[str, KeyFieldName()]], OneOrMore(_LEAVE_OUT)] = Field(
        default=[], description="Header fields of the request whose values count."
    )
    cookies: Annotated[list[Annotated[str, CookieName()]], OneOrMore(_LEAVE_OUT)] = Field(
        default=[], description="Cookies whose values count."
    )


class RouteCacheTable(Table):
    """What a route stores and when it serves it. Short form: `cache = true`, which obeys what answers say."""

    key: CacheKeyTable = Field(default=CacheKeyTable(), description="What tells one answer from another.")
    ttl: Annotated[float | None, Duration(least=0.0, most=_LONG)] = Field(
        default=None, description="In place of the freshness that an answer states. Default: what it states."
    )
    default_ttl: Annotated[float | None, Duration(least=0.0, most=_LONG)] = Field(
        default=None, description="The freshness of an answer that states none. Default: it is guessed, or not stored."
    )
    max_ttl: Annotated[float | None, Duration(least=0.0, most=_LONG)] = Field(
        default=None, description="The longest that an answer counts as fresh. Default: no limit."
    )
    heuristic: Annotated[bool, Flag()] = Field(
        default=default(model_cache.RouteCacheSettings, "heuristic"),
        description="Guess a tenth of the age since Last-Modified, at most a day, where nothing else is said.",
    )
    stale_while_revalidate: Annotated[float | None, Duration(least=0.0, most=_LONG)] = Field(
        default=None,
        description="How long a stale answer is still served while a new one is fetched, where it does not say itself. "
        "Default: not at all.",
    )
    stale_if_error: Annotated[float | None, Duration(least=0.0, most=_LONG)] = Field(
        default=None,
        description="How long a stale answer is served in place of an error, where it does not say itself. "
        "Default: not at all.",
    )
    cdn_cache_control: Annotated[bool, Flag()] = Field(
        default=default(model_cache.RouteCacheSettings, "targeted"),
        description="Let CDN-Cache-Control overrule Cache-Control.",
    )
    client_revalidate: Annotated[str, Word(("ignore", "honour"), (("honor", 'write "honour"'),))] = Field(
        default="honour" if default(model_cache.RouteCacheSettings, "honour_clients") else "ignore",
        description="The Cache-Control of requests, by which any client can send each of its requests to a backend.",
    )
    ignore_set_cookie: Annotated[bool, Flag()] = Field(
        default=default(model_cache.RouteCacheSettings, "ignore_set_cookie"),
        description="Store answers with Set-Cookie, without that field; only where it is the same for everybody.",
    )
    collapse: Annotated[bool, Flag()] = Field(
        default=default(model_cache.RouteCacheSettings, "collapse"),
        description="Let requests wait for an answer that another one has asked for.",
    )
    cache_status: Annotated[bool, Flag()] = Field(
        default=default(model_cache.RouteCacheSettings, "told"),
        description="Tell clients what was done, in Cache-Status.",
    )
    bypass: Annotated[list[ConditionTable], OneOrMore(_LEAVE_OUT)] = Field(
        default=[],
        description="Requests that go to a backend, and whose answers are not stored; conditions as for a route.",
    )
    no_store: Annotated[list[ConditionTable], OneOrMore(_LEAVE_OUT)] = Field(
        default=[], description="Requests that are served from the store, but whose answers are not stored."
    )


class CompressTable(Table):
    """What a route compresses, and how hard. Short form: `compress = true`."""

    codings: Annotated[
        list[Annotated[str, Word(get_args(model_cache.Coding), _CODINGS)]],
        OneOrMore("is empty; write compress = false for none"),
    ] = Field(
        default=list(default(model_cache.CompressSettings, "codings")),
        description="Those in use, the one that we like best first; what the client likes best counts before that.",
    )
    zstd_level: Annotated[int, Whole(1, 19)] = Field(
        default=default(model_cache.CompressSettings, "zstd_level"), description="Higher is smaller and slower."
    )
    br_level: Annotated[int, Whole(0, 11)] = Field(
        default=default(model_cache.CompressSettings, "br_level"), description="The same for br."
    )
    gzip_level: Annotated[int, Whole(1, 9)] = Field(
        default=default(model_cache.CompressSettings, "gzip_level"), description="The same for gzip."
    )
    min_size: Annotated[int, Size(0, 1024**3)] = Field(
        default=default(model_cache.CompressSettings, "min_size"), description="Shorter bodies are sent as they are."
    )
    types: Annotated[list[Annotated[str, CodedType()]], OneOrMore(_LEAVE_OUT)] = Field(
        default=[], description="Media types beside text, JSON, XML, JavaScript, SVG and WASM."
    )
    private: Annotated[bool, Flag()] = Field(
        default=default(model_cache.CompressSettings, "private"),
        description="Compress also what is for one client alone; from its length secrets may then be guessed (BREACH).",
    )
    events: Annotated[bool, Flag()] = Field(
        default=default(model_cache.CompressSettings, "events"),
        description="Compress streams of events and gRPC as well; what has come is sent on at once.",
    )
    offload: Annotated[bool, Flag()] = Field(
        default=default(model_cache.CompressSettings, "offload"),
        description="Ask backends for plain answers, so that they need not compress.",
    )
    decode: Annotated[bool, Flag()] = Field(
        default=default(model_cache.CompressSettings, "decode"),
        description="Unpack compressed answers of backends for clients that cannot read them.",
    )


class DecompressTable(Table):
    """How compressed bodies of requests are unpacked; what is too large then gets 413.

    Short form: `decompress_requests = true`.
    """

    ratio: Annotated[int, Whole(2, 1_000_000)] = Field(
        default=default(model_cache.DecompressSettings, "ratio"),
        description="How many times as long as it came a body may become, beyond its first 64 KiB.",
    )
    max_size: Annotated[int, Size(1024, 1024**4)] = Field(
        default=default(model_cache.DecompressSettings, "max_size"), description="The largest body unpacked."
    )
