"""What is configured, as frozen values; everything that changes lives elsewhere.

`config/` makes these from TOML, the command line makes them from URLs, tests make them by hand; nobody changes
them. Times are seconds (`math.inf` where the user wrote "none"), sizes are bytes. `line` is the line of the
configuration file a value came from, 0 when there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from lbproxy.addresses import Address, NetworkSet
from lbproxy.model_cache import CacheSettings
from lbproxy.model_http import HttpCheck, HttpPoolSettings, HttpRouteSettings, HttpSettings, LoadReport
from lbproxy.model_tls import BackendTlsSettings, TlsSettings

AdminState = Literal["ready", "drain", "maint"]
PolicyName = Literal[
    "least-connections", "round-robin", "random", "p2c", "peak-ewma", "ketama", "maglev", "rendezvous", "first"
]
LogLevel = Literal["debug", "info", "warn", "error"]
Tlv = Literal["authority", "alpn", "unique_id", "crc32c", "tls"]
_HTTP = HttpSettings()
_CACHE = CacheSettings()
_HTTP_POOL = HttpPoolSettings()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The clocks of a session, with their defaults. `request_body_rate` is in bytes per second, the rest in seconds."""

    proxy_header: float = 5.0
    client_hello: float = 5.0
    tls_handshake: float = 10.0
    request_head: float = 10.0
    request_body_idle: float = 30.0
    request_body_rate: float = 240.0
    connect: float = 5.0
    try_window: float = 10.0
    queue: float = 5.0
    response_head: float = 60.0
    response_body_idle: float = 60.0
    write_stall: float = 30.0
    client_idle: float = 60.0
    backend_idle: float = 4.0
    tunnel_idle: float = 3600.0
    half_closed: float = 60.0


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """The clocks that one level of the configuration sets; None means "as the level above says"."""

    proxy_header: float | None = None
    client_hello: float | None = None
    tls_handshake: float | None = None
    request_head: float | None = None
    request_body_idle: float | None = None
    request_body_rate: float | None = None
    connect: float | None = None
    try_window: float | None = None
    queue: float | None = None
    response_head: float | None = None
    response_body_idle: float | None = None
    write_stall: float | None = None
    client_idle: float | None = None
    backend_idle: float | None = None
    tunnel_idle: float | None = None
    half_closed: float | None = None

    def over(self, base: Timeouts) -> Timeouts:
        """These, with the gaps filled from `base`."""
        return replace(base, **{f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None})


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How a backend's health is tested: a TCP connect, then optionally bytes to send and to expect, or a request.

    `enabled` False leaves health to live traffic alone. `port` replaces the backend's own port. `tls` False leaves out
    the handshake where the pool speaks TLS.
    """

    enabled: bool = True
    interval: float = 2.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    send: bytes = b""
    expect: bytes = b""
    port: int | None = None
    tls: bool = True
    http: HttpCheck | None = None


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """When live traffic takes a backend out (`enabled`), by consecutive failures or by comparison with the others."""

    enabled: bool = True
    consecutive: int = 5
    window: float = 60.0
    min_sessions: int = 5
    ejection: float = 30.0
    max_ejection: float = 300.0
    max_ejected_percent: int = 10


@dataclass(frozen=True, slots=True)
class SlowStartSettings:
    """How a returning backend is warmed up; `window` 0 switches it off."""

    window: float = 10.0
    aggression: float = 1.0


@dataclass(frozen=True, slots=True)
class SendProxySettings:
    """The PROXY header that opens each connection to a backend: version 1 or 2, and the TLVs of version 2."""

    version: Literal[1, 2]
    tlvs: tuple[Tlv, ...] = ()


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """One server of a pool. `id` is unique in its pool and stays when the address changes."""

    id: str
    address: Address
    weight: int = 1
    backup: bool = False
    max_active: int | None = None
    state: AdminState = "ready"
    line: int = 0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The backends of one name and how they are chosen, watched and retried.

    `max_active` is the default of its backends, None for no limit; `queue_size` sessions may wait for a slot.
    `bounded_load` is a factor in (1.0, 2.0] or None; `panic_threshold` a percentage, 0 for off.
    """

    name: str
    backends: tuple[BackendSettings, ...]
    policy: PolicyName = "least-connections"
    hash_key: str = "client_ip"
    label: Literal["id", "address"] = "id"
    bounded_load: float | None = None
    max_active: int | None = 1024
    queue_size: int = 1024
    shed: Literal["none", "codel"] = "none"
    tries: int = 3
    panic_threshold: int = 0
    check: CheckSettings = CheckSettings()
    outlier: OutlierSettings = OutlierSettings()
    slow_start: SlowStartSettings = SlowStartSettings()
    send_proxy: SendProxySettings | None = None
    tls: BackendTlsSettings | None = None
    http: HttpPoolSettings = _HTTP_POOL
    load_report: LoadReport | None = None
    timeouts: TimeoutSettings = TimeoutSettings()
    line: int = 0


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """A place where clients are accepted.

    `pool` serves what no route claims. `proxy_from` lists the senders of PROXY headers, None when the listener takes
    none. `max_connections_per_client` None means: a tenth of the maximum once the listener is 80 % full.
    """

    name: str
    binds: tuple[Address, ...]
    protocol: Literal["tcp", "http"] = "tcp"
    pool: str | None = None
    proxy_from: NetworkSet | None = None
    max_connections: int | None = None
    max_connections_per_client: int | None = None
    allow: NetworkSet | None = None
    deny: NetworkSet | None = None
    backlog: int = 4096
    tls: TlsSettings | None = None
    http: HttpSettings = _HTTP
    timeouts: TimeoutSettings = TimeoutSettings()
    line: int = 0


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """Which pool serves what: on `listeners` (all when empty), from `clients` (anybody when None).

    `http` holds what goes by requests; a route that has it is for HTTP listeners only, and its `pool` is "" where
    `http` says what to do instead.

    `server_names` match the name that the client asked for (in its ClientHello, or as a PROXY header tells), exactly
    or as `*.name`; `alpn` the protocols that it offers, or that were agreed on. Empty ones match all.
    `priority` 0 to 9 orders the pool's queue, 0 first.
    """

    pool: str
    name: str = ""
    listeners: tuple[str, ...] = ()
    clients: NetworkSet | None = None
    server_names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    priority: int = 5
    http: HttpRouteSettings | None = None
    timeouts: TimeoutSettings = TimeoutSettings()
    line: int = 0


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """Where records go: "stdout", "none", "file" (with `path`) or "syslog" (with `address`: a UNIX path or host:port).

    `buffer` bounds the bytes that wait for a slow sink; records beyond it are dropped and counted. `format` is that of
    each line: "json", the web servers' "common" and "combined", or "template" with `template` (service/formats.py).
    """

    to: Literal["stdout", "file", "syslog", "none"] = "stdout"
    path: str = ""
    address: Address | None = None
    buffer: int = 4 * 1024 * 1024
    format: Literal["json", "common", "combined", "template"] = "json"
    template: str = ""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The system log: least level that is written, and its form."""

    level: LogLevel = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Bounds of the whole process. `max_connections` None means (open-file limit - 100) / 2.

    `handshakes` is how many clients may be within their TLS handshake at once; further ones wait.
    """

    max_connections: int | None = None
    buffers: int = 256 * 1024 * 1024
    handshakes: int = 256


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """The local control socket, a UNIX path made with mode 0600; None for no socket."""

    path: str | None = None


@dataclass(frozen=True, slots=True)
class StopSettings:
    """What SIGTERM does: sessions get until `hard_stop` seconds after the signal; listeners close after `grace`."""

    grace: float = 5.0
    hard_stop: float = 25.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything a running lbproxy is told. `file` is None for the quick form on the command line."""

    listeners: tuple[ListenerSettings, ...]
    pools: tuple[PoolSettings, ...]
    routes: tuple[RouteSettings, ...] = ()
    timeouts: TimeoutSettings = TimeoutSettings()
    records: RecordSettings = RecordSettings()
    log: LogSettings = LogSettings()
    limits: LimitSettings = LimitSettings()
    control: ControlSettings = ControlSettings()
    stop: StopSettings = StopSettings()
    cache: CacheSettings = _CACHE
    file: str | None = None
    pool_by_name: dict[str, PoolSettings] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool_by_name", {pool.name: pool for pool in self.pools})
