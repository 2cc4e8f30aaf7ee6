"""The tables about routes: what a session or a request must be like, and what is done with it.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lbproxy import model, model_http
from lbproxy.config.reading_fields import (
    AnswerFieldName,
    FieldName,
    FieldValue,
    MediaType,
    RedirectTo,
    TemplateText,
)
from lbproxy.config.reading_http import Prefix, Upgrade
from lbproxy.config.reading_matches import Key, Pattern
from lbproxy.config.reading_tls import FilePath, Protocol, ServerName
from lbproxy.config.readings import Choice, Flag, Name, Octets, Real, Reference, Size, Whole, Word
from lbproxy.config.schema_cache import CompressTable, DecompressTable, RouteCacheTable
from lbproxy.config.schema_conditions import ConditionTable
from lbproxy.config.schema_http import ERROR_PAGES, ErrorPages
from lbproxy.config.schema_timeouts import AfterRouteTimeouts
from lbproxy.config.shapes import Keys, OneOrMore, Table, TableOr, TableOrFalse, default

_NO_EDIT = "is empty; leave the key out"
_SWITCH = "true, false or a table"
_Templates = Annotated[dict[str, Annotated[str, TemplateText(empty=True)]], Keys(FieldName(), _NO_EDIT)]


def _redirect_to(text: str) -> dict[str, object]:
    return {"to": text}


def _mirror_to(text: str) -> dict[str, object]:
    return {"pool": text}


class RedirectTable(Table):
    """An answer that sends the client elsewhere."""

    to: Annotated[str, RedirectTo()] = Field(
        description="Where to. Placeholders: {scheme} {host} {port} {path} {query} {uri} (path and query) {client_ip} "
        "{request_id}; a literal brace is written twice."
    )
    status: Annotated[int, Choice((301, 302, 303, 307, 308))] = Field(
        default=default(model_http.Redirect, "status"),
        description="308 and 307 keep the method; 301 and 308 are remembered by browsers.",
    )


class AnswerTable(Table):
    """An answer of lbproxy's own; no backend is asked."""

    status: Annotated[int, Whole(200, 599)] = Field(
        default=default(model_http.FixedAnswer, "status"), description="Its status."
    )
    body: Annotated[bytes, Octets(65_536)] = Field(default=b"", description="What it says. Default: nothing.")
    file: Annotated[str | None, FilePath()] = Field(
        default=None, description="A file with what it says, at most 64 KiB. Default: none."
    )
    content_type: Annotated[str | None, MediaType()] = Field(
        default=None, description="Its type. Default: by the name of the file, else text/plain."
    )
    headers: Annotated[dict[str, Annotated[str, FieldValue()]], Keys(AnswerFieldName(), _NO_EDIT)] = Field(
        default={}, description="Further header fields."
    )


class RewriteTable(Table):
    """What is forwarded in place of path and Host."""

    strip_prefix: Annotated[str, Prefix()] = Field(
        default="", description="Taken off the path where it begins with it. Default: nothing."
    )
    add_prefix: Annotated[str, Prefix()] = Field(default="", description="Then put in front. Default: nothing.")
    regex: Annotated[str, Pattern()] = Field(
        default="",
        description="A regular expression that the whole path must match for `path` to replace it. Default: none.",
    )
    path: Annotated[str, TemplateText(groups=True)] = Field(
        default="",
        description="The new path; placeholders as for redirects, and {1} to {9} for the groups of `regex`. "
        "Default: unchanged.",
    )
    host: Annotated[str, TemplateText(groups=True)] = Field(
        default="", description="The Host that backends see, with the same placeholders. Default: the client's."
    )


class EditsTable(Table):
    """Changes of header fields, in the order of the keys here. Values may hold the placeholders of redirects."""

    remove: Annotated[list[Annotated[str, FieldName()]], OneOrMore(_NO_EDIT)] = Field(
        default=[], description="Fields to take out."
    )
    set_: _Templates = Field(default={}, alias="set", description="Fields to have with this value alone.")
    add: _Templates = Field(default={}, description="Fields to have with this value as well.")


class MirrorTable(Table):
    """Sends a copy of some requests to another pool, whose answers are thrown away."""

    pool: Annotated[str, Reference()] = Field(description="The pool that gets the copies.")
    percent: Annotated[float, Real(0, 100)] = Field(
        default=default(model_http.Mirror, "percent"), description="How many of the requests are copied."
    )
    unsafe: Annotated[bool, Flag()] = Field(
        default=default(model_http.Mirror, "unsafe"),
        description="Copy also requests that change something (POST and the like).",
    )


class _NamedTable(Table):
    """What a route begins with."""

    name: Annotated[str, Name()] = Field(default="", description="What records call it. Default: no name.")
    listener: Annotated[
        list[Annotated[str, Reference()]] | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all listeners"),
    ] = Field(default=None, description="The listeners it is for. Default: all that speak what its keys are for.")


class RouteTable(ConditionTable, _NamedTable):
    """What is done with which session or request. Routes are tried in the order of the file; the first that matches
    decides."""

    server_name: Annotated[
        list[Annotated[str, ServerName('is "*"; a route without server_name matches every name, leave the key out')]]
        | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all names"),
    ] = Field(
        default=None,
        description="Not for HTTP: the names that clients ask for, in the TLS ClientHello or as a PROXY header carries "
        "them; `*.example` is for one more label. Default: all.",
    )
    alpn: Annotated[
        list[Annotated[str, Protocol()]] | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all protocols"),
    ] = Field(
        default=None,
        description="Not for HTTP: the protocols that clients offer; with `tls` on the listener, the one that was "
        "agreed on. Default: all.",
    )
    pool: Annotated[str | None, Reference()] = Field(
        default=None, description="The pool that serves what matches. Default: none, then one of the next three."
    )
    split: Annotated[
        dict[str, Annotated[int, Whole(0, 1_000_000)]],
        Keys(Reference(), "is empty; name the pools, as in split = { stable = 95, canary = 5 }"),
    ] = Field(default={}, description="Several pools with the share of each. Default: none.")
    redirect: Annotated[RedirectTable | None, TableOr(_redirect_to, 'a URL such as "https://new.example{uri}"')] = (
        Field(default=None, description="Send the client elsewhere. Default: none.")
    )
    answer: AnswerTable | None = Field(default=None, description="Answer from here. Default: none.")
    split_key: Annotated[str | None, Key()] = Field(
        default=None, description="What fixes the side of a `split` for each client. Default: chance, for each request."
    )
    rewrite: RewriteTable | None = Field(
        default=None, description="What is forwarded in place of path and Host. Default: both unchanged."
    )
    request_headers: EditsTable = Field(default=EditsTable(), description="Changes of what backends get.")
    response_headers: EditsTable = Field(
        default=EditsTable(), description="Changes of what clients get, with the keys of `request_headers`."
    )
    max_body: Annotated[int | None, Size(0, 1024**5)] = Field(
        default=None, description="The body of a request; larger ones get 413. 0 allows none. Default: no limit."
    )
    mirror: Annotated[MirrorTable | None, TableOr(_mirror_to, "the name of a pool")] = Field(
        default=None, description="Copy requests to another pool. Default: none."
    )
    retry: Annotated[str, Word(("none", "idempotent"))] = Field(
        default="none",
        description="`idempotent`: a request that got lost is tried elsewhere, if its method says that twice does no "
        "harm.",
    )
    retry_statuses: Annotated[
        list[Annotated[int, Whole(400, 599)]], OneOrMore("is empty; leave the key out to take every status as it is")
    ] = Field(default=[], description="Statuses after which an idempotent request is tried elsewhere.")
    idempotency_key: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpRouteSettings, "idempotency_key"),
        description="Take POST and PATCH with an Idempotency-Key field for idempotent.",
    )
    upgrades: Annotated[list[Annotated[str, Upgrade()]], OneOrMore(None)] = Field(
        default=list(default(model_http.HttpRouteSettings, "upgrades")),
        description="The protocols that a connection may change to; [] for none.",
    )
    streaming: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpRouteSettings, "streaming"),
        description="Bodies may pause for long: `tunnel_idle` counts for them in place of the idle timeouts.",
    )
    encoded_slash: Annotated[str, Word(("refuse", "allow"))] = Field(
        default="refuse", description="Paths with %2F in them; where refused they get 400."
    )
    merge_slashes: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpRouteSettings, "merge_slashes"),
        description="Take // in a path for /, both for matching and for what is forwarded.",
    )
    conceal: Annotated[bool, Flag()] = Field(
        default=default(model_http.HttpRouteSettings, "conceal"), description="As in the pool, for this route alone."
    )
    error_pages: ErrorPages = Field(default={}, description=f"{ERROR_PAGES}Default: those of the listener.")
    cache: Annotated[RouteCacheTable | None, TableOrFalse(_SWITCH)] = Field(
        default=None, description="Store answers, as far as they allow it, and serve them again. Default: `false`."
    )
    compress: Annotated[CompressTable | None, TableOrFalse(_SWITCH)] = Field(
        default=None, description="Compress answers for clients that can read it. Default: `false`."
    )
    decompress_requests: Annotated[DecompressTable | None, TableOrFalse(_SWITCH)] = Field(
        default=None, description="Unpack compressed bodies of requests for the backends. Default: `false`."
    )
    priority: Annotated[int, Whole(0, 9)] = Field(
        default=default(model.RouteSettings, "priority"), description="The place in the pool's queue; 0 goes first."
    )
    timeouts: AfterRouteTimeouts = Field(default=AfterRouteTimeouts(), description="Clocks of sessions on this route.")


# What a route has that listeners of both kinds understand; server_name and alpn are for TCP, all else is for HTTP.
OF_BOTH = frozenset({"name", "listener", "client", "pool", "priority", "timeouts"})
OF_TCP = ("server_name", "alpn")


def http_keys(table: RouteTable) -> list[str]:
    """The keys for HTTP that the user wrote on a route, in the order of the schema."""
    return [
        field.alias or name
        for name, field in RouteTable.model_fields.items()
        if table.given(name) and name not in OF_BOTH and name not in OF_TCP
    ]
