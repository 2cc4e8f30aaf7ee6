"""The tables and keys of a configuration file: their types, ranges, defaults and meaning.

This is what docs/configuration.md and the JSON Schema are made from. Defaults come from `lbproxy.model`, so that they
exist once. Owns what a single key may be; refuses to know how keys relate (checks.py) and where they stand (places.py).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lbproxy import model
from lbproxy.addresses import Address
from lbproxy.config.reading_addresses import Bind, Network, RecordsTo, UnixPath
from lbproxy.config.reading_records import RecordTemplate
from lbproxy.config.readings import Duration, Name, Reference, Size, Whole, Word
from lbproxy.config.schema_cache import CacheTable
from lbproxy.config.schema_http import HttpTable
from lbproxy.config.schema_pools import PoolTable
from lbproxy.config.schema_routes import RouteTable
from lbproxy.config.schema_timeouts import AllTimeouts
from lbproxy.config.schema_tls import ListenerTlsTable
from lbproxy.config.shapes import OneOrMore, Table, default

_PROTOCOLS = (
    ("https", 'write protocol = "http", and set TLS in [listener.tls]'),
    ("http/1.1", 'write protocol = "http"'),
    ("h2", 'lbproxy speaks HTTP/1.1, write protocol = "http"'),
    ("tls", "leave the key out, and set TLS in [listener.tls]"),
    ("udp", 'lbproxy balances TCP and HTTP, write "tcp" or "http"'),
)


class LogTable(Table):
    """The system log, written to standard error: starts, reloads, changes of health."""

    level: Annotated[str, Word(("debug", "info", "warn", "error"), (("warning", 'write "warn"'),))] = Field(
        default=default(model.LogSettings, "level"), description="The least level that is written."
    )
    format: Annotated[str, Word(("text", "json"))] = Field(
        default=default(model.LogSettings, "format"), description="Text for people or one JSON object a line."
    )


class RecordsTable(Table):
    """The records: one line for each session, written when it ends."""

    to: Annotated[model.RecordSettings, RecordsTo()] = Field(
        default_factory=model.RecordSettings, description="Where they go; a file is opened again on SIGUSR1."
    )
    buffer: Annotated[int, Size(16 * 1024, 1024**3)] = Field(
        default=default(model.RecordSettings, "buffer"),
        description="What may wait for a slow sink; records beyond it are dropped and counted.",
    )
    format: Annotated[str, Word(("json", "common", "combined", "template"))] = Field(
        default=default(model.RecordSettings, "format"),
        description="JSON with everything, the formats of web servers, or a text of your own.",
    )
    template: Annotated[str, RecordTemplate()] = Field(
        default="", description='The text of a line, with `format = "template"`. Default: none.'
    )


class ControlTable(Table):
    """The control socket of `lbproxy status`, `drain` and the like. It is made with mode 0600."""

    socket: Annotated[str | None, UnixPath()] = Field(default=None, description="Its path. Default: no socket.")


class LimitsTable(Table):
    """Bounds of the whole process."""

    max_connections: Annotated[int | None, Whole(1, 10_000_000)] = Field(
        default=None,
        description="Clients served at once; beyond it accepting pauses. Default: what the open-file limit allows.",
    )
    buffers: Annotated[int, Size(1024**2, 1024**4)] = Field(
        default=default(model.LimitSettings, "buffers"),
        description="Bytes held for slow peers by all sessions together; beyond it those that hold most are ended.",
    )
    handshakes: Annotated[int, Whole(1, 65_536)] = Field(
        default=default(model.LimitSettings, "handshakes"),
        description="Clients within their TLS handshake at once; further ones wait.",
    )


class StopTable(Table):
    """What SIGTERM does. A second one ends the process at once; SIGINT skips the grace."""

    grace: Annotated[float, Duration(least=0.0)] = Field(
        default=default(model.StopSettings, "grace"),
        description="How long listeners go on accepting after the signal, for load balancers in front to notice.",
    )
    hard_stop: Annotated[float, Duration(least=0.0)] = Field(
        default=default(model.StopSettings, "hard_stop"),
        description="When, counted from the signal, sessions that are left are closed; not before `grace`.",
    )


class ProxyProtocolTable(Table):
    """Makes a PROXY header (version 1 or 2) the required first thing on each connection."""

    from_: Annotated[
        list[Annotated[str, Network()]],
        OneOrMore("is empty; a listener that takes PROXY headers needs the list of their senders"),
    ] = Field(
        alias="from", description="Who may send the header. Others are closed: a header decides who the client is."
    )


class ListenerTable(Table):
    """A place where clients are accepted. Write one [[listener]] for each."""

    name: Annotated[str, Name()] = Field(
        default="", description="What records, counters and routes call it. Default: its first address."
    )
    bind: Annotated[list[Annotated[Address, Bind()]], OneOrMore("is empty; a listener needs at least one address")] = (
        Field(description="Where to accept: one address or an array.")
    )
    protocol: Annotated[str, Word(("tcp", "http"), _PROTOCOLS)] = Field(
        default="tcp", description="What is spoken: `tcp` relays bytes, `http` forwards requests."
    )
    pool: Annotated[str | None, Reference()] = Field(
        default=None,
        description="The pool for clients that no route claims. Without it they are closed. Default: none.",
    )
    max_connections: Annotated[int | None, Whole(1, 10_000_000)] = Field(
        default=None,
        description="Clients served at once here; beyond it accepting pauses. Default: the whole process's.",
    )
    max_connections_per_client: Annotated[int | None, Whole(1, 10_000_000)] = Field(
        default=None,
        description="For one address (IPv6: one /64); more are closed. "
        "Default: no limit, but a tenth of the maximum once the listener is 80 % full.",
    )
    allow: Annotated[
        list[Annotated[str, Network()]] | None,
        OneOrMore("is empty, which would let nobody in; leave the key out to let everybody in"),
    ] = Field(default=None, description="Only these clients are let in. Default: everybody.")
    deny: Annotated[list[Annotated[str, Network()]] | None, OneOrMore("is empty; leave the key out to deny nobody")] = (
        Field(default=None, description="These clients are closed at once, even if allowed above. Default: nobody.")
    )
    backlog: Annotated[int, Whole(1, 65_535)] = Field(
        default=default(model.ListenerSettings, "backlog"),
        description="Connections the kernel keeps until they are accepted; net.core.somaxconn also bounds it.",
    )
    proxy_protocol: ProxyProtocolTable | None = Field(
        default=None,
        description="Take PROXY headers; the client address is then the one in the header. Default: none taken.",
    )
    tls: ListenerTlsTable | None = Field(
        default=None, description="End TLS here, with these certificates. Default: TLS passes through untouched."
    )
    http: HttpTable | None = Field(
        default=None, description='How HTTP is spoken, with `protocol = "http"`. Default: see there.'
    )
    timeouts: AllTimeouts = Field(default=AllTimeouts(), description="Clocks of this listener's sessions.")


class FileTable(Table):
    """The whole file."""

    listener: list[ListenerTable] = Field(default=[], description="Where clients are accepted; at least one.")
    route: list[RouteTable] = Field(default=[], description="Which pool serves what, beyond the listener's own.")
    pool: dict[str, PoolTable] = Field(default={}, description="The pools by name.")
    timeouts: AllTimeouts = Field(default=AllTimeouts(), description="Clocks of all sessions.")
    cache: CacheTable = Field(default=CacheTable(), description="The store of all routes with `cache`.")
    limits: LimitsTable = Field(default=LimitsTable(), description="Bounds of the process.")
    records: RecordsTable = Field(default=RecordsTable(), description="One line for each session.")
    log: LogTable = Field(default=LogTable(), description="The system log.")
    control: ControlTable = Field(default=ControlTable(), description="The control socket.")
    stop: StopTable = Field(default=StopTable(), description="How the process ends.")
