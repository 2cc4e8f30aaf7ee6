"""The tables about pools: their backends, how they are chosen, watched and retried.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from lbproxy import model
from lbproxy.addresses import Address
from lbproxy.config.reading_addresses import Backend
from lbproxy.config.reading_fields import CheckFieldName, FieldValue
from lbproxy.config.reading_http import CheckHost, CheckTarget, Method, StatusRange
from lbproxy.config.reading_matches import Key
from lbproxy.config.readings import Choice, Duration, Flag, Name, Octets, Real, Whole, Word, refuse
from lbproxy.config.schema_http import LoadReportTable, PoolHttpTable, StickyTable, sticky_by
from lbproxy.config.schema_timeouts import AfterRouteTimeouts
from lbproxy.config.schema_tls import PoolTlsTable
from lbproxy.config.shapes import Keys, OneOrMore, Table, TableOr, TableOrFalse, default
from lbproxy.config.units import show
from lbproxy.model_http import HttpCheck

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


class BackendTable(Table):
    """One server of a pool."""

    address: Annotated[Address, Backend()] = Field(description="Where it is.")
    id: Annotated[str, Name()] = Field(
        default="", description="What records call it, and what hash policies hash. Default: its address."
    )
    weight: Annotated[int, Whole(0, 256)] = Field(
        default=default(model.BackendSettings, "weight"), description="Its share of sessions; 0 gets none."
    )
    backup: Annotated[bool, Flag()] = Field(
        default=default(model.BackendSettings, "backup"), description="Used only while no other backend is usable."
    )
    max_active: Annotated[int | None, Whole(1, 1_000_000)] = Field(
        default=None, description="Sessions at once; further ones wait. Default: that of the pool."
    )
    state: Annotated[str, Word(get_args(model.AdminState))] = Field(
        default=default(model.BackendSettings, "state"),
        description="`drain` gets no new sessions, `maint` is not checked either; the control socket changes it.",
    )


class QueueTable(Table):
    """Where sessions wait when every backend is at its `max_active`."""

    size: Annotated[int, Whole(0, 1_000_000)] = Field(
        default=default(model.PoolSettings, "queue_size"), description="Sessions that may wait; 0 for none."
    )
    shed: Annotated[str, Word(("none", "codel"))] = Field(
        default=default(model.PoolSettings, "shed"),
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
    """How the health of backends is tested: connect, then perhaps send bytes or a request, and judge the answer."""

    interval: Annotated[float, Duration()] = Field(
        default=default(model.CheckSettings, "interval"),
        description="Between checks of one backend, give or take a tenth.",
    )
    timeout: Annotated[float, Duration()] = Field(
        default=default(model.CheckSettings, "timeout"), description="For one whole check."
    )
    rise: Annotated[int, Whole(1, 100)] = Field(
        default=default(model.CheckSettings, "rise"), description="Passes in a row that bring a backend up."
    )
    fall: Annotated[int, Whole(1, 100)] = Field(
        default=default(model.CheckSettings, "fall"), description="Failures in a row that take it down."
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
        default=default(model.CheckSettings, "tls"),
        description="Where the pool speaks TLS, whether checks do so too; `false` only connects.",
    )
    path: Annotated[str, CheckTarget()] = Field(
        default=default(HttpCheck, "path"),
        description="This key, or one of those below, makes the check a request: what is asked for.",
    )
    method: Annotated[str, Method()] = Field(default=default(HttpCheck, "method"), description="Its method.")
    host: Annotated[str, CheckHost()] = Field(default="", description="Its Host. Default: the backend's address.")
    headers: Annotated[
        dict[str, Annotated[str, FieldValue()]], Keys(CheckFieldName(), "is empty; leave the key out")
    ] = Field(default={}, description="Its further header fields.")
    status: Annotated[
        list[Annotated[tuple[int, int], StatusRange()]], OneOrMore("is empty, so no answer would pass")
    ] = Field(default=list(default(HttpCheck, "statuses")), description='Which answers pass. Default: `"200-399"`.')
    body: Annotated[bytes, Octets(4096)] = Field(
        default=b"", description="What the first 64 KiB of the answer must contain. Default: anything."
    )


class OutlierTable(Table):
    """When live traffic takes a backend out: by failures in a row, or by comparison with the other backends."""

    consecutive: Annotated[int, Whole(1, 1000)] = Field(
        default=default(model.OutlierSettings, "consecutive"), description="Failures in a row that eject."
    )
    window: Annotated[float, Duration()] = Field(
        default=default(model.OutlierSettings, "window"), description="The time over which backends are compared."
    )
    min_sessions: Annotated[int, Whole(1, 1_000_000)] = Field(
        default=default(model.OutlierSettings, "min_sessions"),
        description="Sessions a backend needs in that time to be compared.",
    )
    ejection: Annotated[float, Duration()] = Field(
        default=default(model.OutlierSettings, "ejection"),
        description="The first ejection; each further one is longer by it.",
    )
    max_ejection: Annotated[float, Duration()] = Field(
        default=default(model.OutlierSettings, "max_ejection"), description="The longest ejection."
    )
    max_ejected_percent: Annotated[int, Whole(1, 100)] = Field(
        default=default(model.OutlierSettings, "max_ejected_percent"),
        description="Of the pool's backends out at once; one always may be, the last usable one never.",
    )


class SlowStartTable(Table):
    """How a backend that returns is warmed up: its weight grows from a tenth to the whole."""

    window: Annotated[float, Duration()] = Field(
        default=default(model.SlowStartSettings, "window"), description="Until it has its whole weight."
    )
    aggression: Annotated[float, Real(0, 100)] = Field(
        default=default(model.SlowStartSettings, "aggression"),
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
        default=default(model.PoolSettings, "policy"), description="How a backend is chosen."
    )
    hash_key: Annotated[str, Key()] = Field(
        default=default(model.PoolSettings, "hash_key"),
        description="What ketama, maglev and rendezvous hash; where a request has none of it, chance decides.",
    )
    label: Annotated[str, Word(("id", "address"))] = Field(
        default=default(model.PoolSettings, "label"),
        description="What hash policies take for a backend: with `id` a new address moves no clients.",
    )
    bounded_load: Annotated[float | None, Real(1, 2)] = Field(
        default=None,
        description="With a hash policy: a backend holds at most this times its fair share. 1.25 is usual. "
        "Default: off.",
    )
    max_active: Annotated[int | None, Whole(1, 1_000_000, none=True)] = Field(
        default=default(model.PoolSettings, "max_active"),
        description='Sessions at once on each backend; further ones wait in the queue. "none" for no limit.',
    )
    queue: QueueTable = Field(default=QueueTable(), description="Where sessions wait for a backend.")
    tries: Annotated[int, Whole(1, 10)] = Field(
        default=default(model.PoolSettings, "tries"),
        description="Connection attempts for one session, the first included.",
    )
    panic_threshold: Annotated[int, Whole(0, 100)] = Field(
        default=default(model.PoolSettings, "panic_threshold"),
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
    sticky: Annotated[
        StickyTable | None, TableOr(sticky_by, Key(("cookie", "client_ip"), ("header", "cookie")).words())
    ] = Field(default=None, description="Keep each client with its backend. Needs HTTP. Default: no.")
    http: PoolHttpTable = Field(default=PoolHttpTable(), description="How HTTP is spoken to the backends.")
    load_report: LoadReportTable | None = Field(
        default=None, description="A port of each backend that tells its load. Default: none is asked."
    )
    timeouts: AfterRouteTimeouts = Field(default=AfterRouteTimeouts(), description="Clocks of sessions with this pool.")
