"""The tables and keys of a configuration file: their types, ranges, defaults and meaning.

This is what docs/configuration.md and the JSON Schema are made from. Defaults come from `lbproxy.model`, so that they
exist once. Owns what a single key may be; refuses to know how keys relate (checks.py) and where they stand (places.py).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, get_args

from pydantic import Field

from lbproxy import model
from lbproxy.addresses import Address
from lbproxy.config.reading_addresses import Backend, Bind, Network, RecordsTo, UnixPath
from lbproxy.config.reading_tls import Protocol, ServerName
from lbproxy.config.readings import Choice, Duration, Flag, Name, Octets, Real, Reference, Size, Whole, Word, refuse
from lbproxy.config.schema_tls import ListenerTlsTable, PoolTlsTable
from lbproxy.config.shapes import OneOrMore, Table, TableOr, TableOrFalse
from lbproxy.config.units import show

_TCP_ONLY = 'this version balances TCP only, write "tcp" or leave the key out'
_TLS_APART = "leave the key out, and set TLS in [listener.tls]"
POLICIES: tuple[str, ...] = get_args(model.PolicyName)
_OTHER_POLICIES = (
    ("leastconn", 'here it is called "least-connections"'),
    ("least-conn", 'here it is called "least-connections"'),
    ("least_conn", 'here it is called "least-connections"'),
    ("roundrobin", 'here it is called "round-robin"'),
    ("round_robin", 'here it is called "round-robin"'),
    ("rr", 'here it is called "round-robin"'),
    ("source", 'for one backend per client write "maglev" or "rendezvous"'),
    ("ip-hash", 'for one backend per client write "maglev" or "rendezvous"'),
    ("ip_hash", 'for one backend per client write "maglev" or "rendezvous"'),
)


def _default(of: type, name: str) -> Any:
    """The default that the model gives this field."""
    return next(field.default for field in dataclasses.fields(of) if field.name == name)


_Timeout = Annotated[float | None, Duration(none=True)]


class AfterRouteTimeouts(Table):
    """Clocks that run once the pool is known. What is not set here is taken from the level above."""

    connect: _Timeout = Field(
        default=None, description="One try to connect to a backend; then the next backend is tried."
    )
    try_window: _Timeout = Field(
        default=None, description="From the start of the first try; after it no new try begins."
    )
    queue: _Timeout = Field(
        default=None, description="Waiting for a backend with a free slot; then the client is closed."
    )
    write_stall: _Timeout = Field(default=None, description="Without progress in writing to a peer that does not read.")
    tunnel_idle: _Timeout = Field(default=None, description="Without a byte either way; then both sides are closed.")
    half_closed: _Timeout = Field(default=None, description="Without a byte after one side has ended its half.")
    tls_handshake: _Timeout = Field(
        default=None,
        description="One handshake: with the client as its listener or the file says, with a backend at any level.",
    )


class AllTimeouts(AfterRouteTimeouts):
    """The clocks of a session. Every one has a finite default; "none" switches one off, with a warning."""

    proxy_header: Annotated[float | None, Duration(none=True, least=3.0)] = Field(
        default=None,
        description="From accept until the PROXY header is complete; clients on bad lines need three seconds.",
    )
    client_hello: Annotated[float | None, Duration(none=True, least=3.0)] = Field(
        default=None,
        description="Until the ClientHello is complete, where TLS passes through and a route asks what is in it.",
    )


class LogTable(Table):
    """The system log, written to standard error: starts, reloads, changes of health."""

    level: Annotated[str, Word(("debug", "info", "warn", "error"), (("warning", 'write "warn"'),))] = Field(
        default=_default(model.LogSettings, "level"), description="The least level that is written."
    )
    format: Annotated[str, Word(("text", "json"))] = Field(
        default=_default(model.LogSettings, "format"), description="Text for people or one JSON object a line."
    )


class RecordsTable(Table):
    """The records: one line for each session, written when it ends."""

    to: Annotated[model.RecordSettings, RecordsTo()] = Field(
        default_factory=model.RecordSettings, description="Where they go; a file is opened again on SIGUSR1."
    )
    buffer: Annotated[int, Size(16 * 1024, 1024**3)] = Field(
        default=_default(model.RecordSettings, "buffer"),
        description="What may wait for a slow sink; records beyond it are dropped and counted.",
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
        default=_default(model.LimitSettings, "buffers"),
        description="Bytes held for slow peers by all sessions together; beyond it those that hold most are ended.",
    )
    handshakes: Annotated[int, Whole(1, 65_536)] = Field(
        default=_default(model.LimitSettings, "handshakes"),
        description="Clients within their TLS handshake at once; further ones wait.",
    )


class StopTable(Table):
    """What SIGTERM does. A second one ends the process at once; SIGINT skips the grace."""

    grace: Annotated[float, Duration(least=0.0)] = Field(
        default=_default(model.StopSettings, "grace"),
        description="How long listeners go on accepting after the signal, for load balancers in front to notice.",
    )
    hard_stop: Annotated[float, Duration(least=0.0)] = Field(
        default=_default(model.StopSettings, "hard_stop"),
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
    protocol: Annotated[
        str, Word(("tcp",), (("http", _TCP_ONLY), ("https", _TCP_ONLY), ("tls", _TLS_APART), ("udp", _TCP_ONLY)))
    ] = Field(default="tcp", description="What is spoken; this version relays TCP.")
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
        default=_default(model.ListenerSettings, "backlog"),
        description="Connections the kernel keeps until they are accepted; net.core.somaxconn also bounds it.",
    )
    proxy_protocol: ProxyProtocolTable | None = Field(
        default=None,
        description="Take PROXY headers; the client address is then the one in the header. Default: none taken.",
    )
    tls: ListenerTlsTable | None = Field(
        default=None, description="End TLS here, with these certificates. Default: TLS passes through untouched."
    )
    timeouts: AllTimeouts = Field(default=AllTimeouts(), description="Clocks of this listener's sessions.")


class RouteTable(Table):
    """Which pool serves what. Routes are tried in the order of the file and the first that matches decides."""

    pool: Annotated[str, Reference()] = Field(description="The pool that serves what matches.")
    name: Annotated[str, Name()] = Field(default="", description="What records call it. Default: no name.")
    listener: Annotated[
        list[Annotated[str, Reference()]] | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all listeners"),
    ] = Field(default=None, description="The listeners it is for. Default: all.")
    client: Annotated[
        list[Annotated[str, Network()]] | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all clients"),
    ] = Field(default=None, description="The networks its clients are in. Default: everybody.")
    server_name: Annotated[
        list[Annotated[str, ServerName('is "*"; a route without server_name matches every name, leave the key out')]]
        | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all names"),
    ] = Field(
        default=None,
        description="The names that clients ask for, in the TLS ClientHello or as a PROXY header carries them; "
        "`*.example` is for one more label. Default: all.",
    )
    alpn: Annotated[
        list[Annotated[str, Protocol()]] | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all protocols"),
    ] = Field(
        default=None,
        description="The protocols that clients offer; with `tls` on the listener, the one that was agreed on. "
        "Default: all.",
    )
    priority: Annotated[int, Whole(0, 9)] = Field(
        default=_default(model.RouteSettings, "priority"), description="The place in the pool's queue; 0 goes first."
    )
    timeouts: AfterRouteTimeouts = Field(default=AfterRouteTimeouts(), description="Clocks of sessions on this route.")


class BackendTable(Table):
    """One server of a pool."""

    address: Annotated[Address, Backend()] = Field(description="Where it is.")
    id: Annotated[str, Name()] = Field(
        default="", description="What records call it, and what hash policies hash. Default: its address."
    )
    weight: Annotated[int, Whole(0, 256)] = Field(
        default=_default(model.BackendSettings, "weight"), description="Its share of sessions; 0 gets none."
    )
    backup: Annotated[bool, Flag()] = Field(
        default=_default(model.BackendSettings, "backup"), description="Used only while no other backend is usable."
    )
    max_active: Annotated[int | None, Whole(1, 1_000_000)] = Field(
        default=None, description="Sessions at once; further ones wait. Default: that of the pool."
    )
    state: Annotated[str, Word(get_args(model.AdminState))] = Field(
        default=_default(model.BackendSettings, "state"),
        description="`drain` gets no new sessions, `maint` is not checked either; the control socket changes it.",
    )


class QueueTable(Table):
    """Where sessions wait when every backend is at its `max_active`."""

    size: Annotated[int, Whole(0, 1_000_000)] = Field(
        default=_default(model.PoolSettings, "queue_size"), description="Sessions that may wait; 0 for none."
    )
    shed: Annotated[str, Word(("none", "codel"))] = Field(
        default=_default(model.PoolSettings, "shed"),
        description="`codel`: under lasting overload waiting is cut to 100 ms and the newest go first.",
    )


class SendProxyTable(Table):
    """The PROXY header that opens each connection to a backend."""

    version: Annotated[int, Choice((1, 2))] = Field(description="1 is a line of text, 2 is binary.")
    tlvs: list[Annotated[str, Word(get_args(model.Tlv))]] = Field(
        default=[],
        description="Fields added to version 2: server name, protocol, id of the session, checksum, facts of TLS.",
    )


class CheckTable(Table):
    """How the health of backends is tested: connect, then perhaps send some bytes and compare the answer."""

    interval: Annotated[float, Duration()] = Field(
        default=_default(model.CheckSettings, "interval"),
        description="Between checks of one backend, give or take a tenth.",
    )
    timeout: Annotated[float, Duration()] = Field(
        default=_default(model.CheckSettings, "timeout"), description="For one whole check."
    )
    rise: Annotated[int, Whole(1, 100)] = Field(
        default=_default(model.CheckSettings, "rise"), description="Passes in a row that bring a backend up."
    )
    fall: Annotated[int, Whole(1, 100)] = Field(
        default=_default(model.CheckSettings, "fall"), description="Failures in a row that take it down."
    )
    send: Annotated[bytes, Octets(4096)] = Field(
        default=b"", description="Bytes to send once connected. Default: nothing."
    )
    expect: Annotated[bytes, Octets(4096)] = Field(
        default=b"", description="Bytes the answer must contain. Default: connecting is enough."
    )
    port: Annotated[int | None, Whole(1, 65_535)] = Field(
        default=None, description="The port to check. Default: the backend's own."
    )
    tls: Annotated[bool, Flag()] = Field(
        default=_default(model.CheckSettings, "tls"),
        description="Where the pool speaks TLS, whether checks do so too; `false` only connects.",
    )


class OutlierTable(Table):
    """When live traffic takes a backend out: by failures in a row, or by comparison with the other backends."""

    consecutive: Annotated[int, Whole(1, 1000)] = Field(
        default=_default(model.OutlierSettings, "consecutive"), description="Failures in a row that eject."
    )
    window: Annotated[float, Duration()] = Field(
        default=_default(model.OutlierSettings, "window"), description="The time over which backends are compared."
    )
    min_sessions: Annotated[int, Whole(1, 1_000_000)] = Field(
        default=_default(model.OutlierSettings, "min_sessions"),
        description="Sessions a backend needs in that time to be compared.",
    )
    ejection: Annotated[float, Duration()] = Field(
        default=_default(model.OutlierSettings, "ejection"),
        description="The first ejection; each further one is longer by it.",
    )
    max_ejection: Annotated[float, Duration()] = Field(
        default=_default(model.OutlierSettings, "max_ejection"), description="The longest ejection."
    )
    max_ejected_percent: Annotated[int, Whole(1, 100)] = Field(
        default=_default(model.OutlierSettings, "max_ejected_percent"),
        description="Of the pool's backends out at once; one always may be, the last usable one never.",
    )


class SlowStartTable(Table):
    """How a backend that returns is warmed up: its weight grows from a tenth to the whole."""

    window: Annotated[float, Duration()] = Field(
        default=_default(model.SlowStartSettings, "window"), description="Until it has its whole weight."
    )
    aggression: Annotated[float, Real(0, 100)] = Field(
        default=_default(model.SlowStartSettings, "aggression"),
        description="1 grows evenly; more grows faster at first.",
    )


def _backend_of(text: str) -> dict[str, object]:
    return {"address": text}


def _version_of(text: str) -> dict[str, object]:
    if text not in ("v1", "v2"):
        refuse(f'is {show(text)}, it must be "v1", "v2" or a table')
    return {"version": 1 if text == "v1" else 2}


class PoolTable(Table):
    """The backends of one name. Its header carries the name: [pool.web]."""

    backends: Annotated[
        list[Annotated[BackendTable, TableOr(_backend_of, 'an address such as "10.0.0.1:80"')]],
        OneOrMore("is empty; a pool needs at least one backend"),
    ] = Field(description="Its servers: addresses, or tables for those that need more than an address.")
    policy: Annotated[str, Word(POLICIES, _OTHER_POLICIES)] = Field(
        default=_default(model.PoolSettings, "policy"), description="How a backend is chosen."
    )
    hash_key: Annotated[str, Word(("client_ip",))] = Field(
        default=_default(model.PoolSettings, "hash_key"), description="What ketama, maglev and rendezvous hash."
    )
    label: Annotated[str, Word(("id", "address"))] = Field(
        default=_default(model.PoolSettings, "label"),
        description="What hash policies take for a backend: with `id` a new address moves no clients.",
    )
    bounded_load: Annotated[float | None, Real(1, 2)] = Field(
        default=None,
        description="With a hash policy: a backend holds at most this times its fair share. 1.25 is usual. "
        "Default: off.",
    )
    max_active: Annotated[int | None, Whole(1, 1_000_000, none=True)] = Field(
        default=_default(model.PoolSettings, "max_active"),
        description='Sessions at once on each backend; further ones wait in the queue. "none" for no limit.',
    )
    queue: QueueTable = Field(default=QueueTable(), description="Where sessions wait for a backend.")
    tries: Annotated[int, Whole(1, 10)] = Field(
        default=_default(model.PoolSettings, "tries"),
        description="Connection attempts for one session, the first included.",
    )
    panic_threshold: Annotated[int, Whole(0, 100)] = Field(
        default=_default(model.PoolSettings, "panic_threshold"),
        description="With less than this percentage of backends usable, health is ignored; 0 for never.",
    )
    send_proxy: Annotated[
        SendProxyTable | None,
        TableOr(_version_of, '"v1", "v2"'),
    ] = Field(default=None, description='Tell backends who the client is: "v1", "v2" or a table. Default: no header.')
    tls: Annotated[PoolTlsTable | None, TableOrFalse("true, false or a table")] = Field(
        default=None, description="Speak TLS to the backends: `true` or a table. Default: in clear."
    )
    check: Annotated[CheckTable | None, TableOrFalse()] = Field(
        default=CheckTable(), description="The health checks; `false` leaves health to live traffic."
    )
    outlier: Annotated[OutlierTable | None, TableOrFalse()] = Field(
        default=OutlierTable(), description="Ejection by live traffic; `false` switches it off."
    )
    slow_start: Annotated[SlowStartTable | None, TableOrFalse()] = Field(
        default=SlowStartTable(), description="Warming up backends that return; `false` switches it off."
    )
    timeouts: AfterRouteTimeouts = Field(default=AfterRouteTimeouts(), description="Clocks of sessions with this pool.")


class FileTable(Table):
    """The whole file."""

    listener: list[ListenerTable] = Field(default=[], description="Where clients are accepted; at least one.")
    route: list[RouteTable] = Field(default=[], description="Which pool serves what, beyond the listener's own.")
    pool: dict[str, PoolTable] = Field(default={}, description="The pools by name.")
    timeouts: AllTimeouts = Field(default=AllTimeouts(), description="Clocks of all sessions.")
    limits: LimitsTable = Field(default=LimitsTable(), description="Bounds of the process.")
    records: RecordsTable = Field(default=RecordsTable(), description="One line for each session.")
    log: LogTable = Field(default=LogTable(), description="The system log.")
    control: ControlTable = Field(default=ControlTable(), description="The control socket.")
    stop: StopTable = Field(default=StopTable(), description="How the process ends.")
