"""From read tables to the frozen values of `lbproxy.model`.

Owns what stands where the user wrote nothing and needs other keys to know it: names from addresses, ids from
addresses; building_tls.py, building_http.py and building_cache.py do so for their tables. Judges nothing but files; a
configuration built here may still be nonsense until checks.py has seen it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from lbproxy import model
from lbproxy.addresses import NetworkSet
from lbproxy.config import schema, schema_pools
from lbproxy.config.building_cache import cache_of
from lbproxy.config.building_http import check_http, listener_http, load_report, pool_http, route_http
from lbproxy.config.building_tls import backend_tls, listener_tls
from lbproxy.config.contents import Contents
from lbproxy.config.places import Path, Places
from lbproxy.config.schema_routes import OF_TCP, RouteTable, http_keys
from lbproxy.config.schema_timeouts import AfterRouteTimeouts

RecordFormat = Literal["json", "common", "combined", "template"]


def build(tables: schema.FileTable, places: Places, file: str | None, contents: Contents) -> model.Configuration:
    """The configuration that these tables describe; `places` knows their lines, `contents` reads what it has to hold of
    other files.
    """
    return model.Configuration(
        listeners=tuple(_listener(table, ("listener", i), places, contents) for i, table in enumerate(tables.listener)),
        pools=tuple(_pool(name, table, places, contents) for name, table in tables.pool.items()),
        routes=tuple(_route(table, ("route", i), tables, places, contents) for i, table in enumerate(tables.route)),
        timeouts=_timeouts(tables.timeouts),
        records=_records(tables.records),
        log=model.LogSettings(**tables.log.model_dump()),
        limits=model.LimitSettings(**tables.limits.model_dump()),
        control=model.ControlSettings(tables.control.socket),
        stop=model.StopSettings(tables.stop.grace, tables.stop.hard_stop),
        cache=cache_of(tables.cache, contents.paths),
        file=file,
    )


def _timeouts(table: AfterRouteTimeouts) -> model.TimeoutSettings:
    return model.TimeoutSettings(**table.model_dump())


def _networks(written: list[str] | None) -> NetworkSet | None:
    return None if written is None else NetworkSet(written)


def _records(table: schema.RecordsTable) -> model.RecordSettings:
    return replace(table.to, buffer=table.buffer, format=cast(RecordFormat, table.format), template=table.template)


def _listener(table: schema.ListenerTable, path: Path, places: Places, contents: Contents) -> model.ListenerSettings:
    http = table.protocol == "http"
    return model.ListenerSettings(
        # Without a number in it the name stays when listeners before this one come and go.
        name=_listener_name(table),
        binds=tuple(table.bind),
        protocol="http" if http else "tcp",
        pool=table.pool,
        proxy_from=_networks(table.proxy_protocol.from_) if table.proxy_protocol else None,
        max_connections=table.max_connections,
        max_connections_per_client=table.max_connections_per_client,
        allow=_networks(table.allow),
        deny=_networks(table.deny),
        backlog=table.backlog,
        # HTTP/1.1 is all that is spoken there; to a client that asks, this is said.
        tls=listener_tls(table.tls, (*path, "tls"), places, contents.paths, ("http/1.1",) if http else ()),
        http=listener_http(table.http, (*path, "http"), contents),
        timeouts=_timeouts(table.timeouts),
        line=places.line(path),
    )


def _listener_name(table: schema.ListenerTable) -> str:
    return table.name or next(map(str, table.bind), "")


def _listeners_of(table: RouteTable, tables: schema.FileTable) -> tuple[str, ...]:
    """The listeners that a route is for: those it names, else all that speak what it needs; () for all there are."""
    if table.listener is not None:
        return tuple(table.listener)
    http, tcp = bool(http_keys(table)), any(table.given(key) for key in OF_TCP)
    if http == tcp:
        return ()
    fit = [listener for listener in tables.listener if (listener.protocol == "http") == http]
    return tuple(map(_listener_name, fit)) if len(fit) < len(tables.listener) else ()


def _route(
    table: RouteTable, path: Path, tables: schema.FileTable, places: Places, contents: Contents
) -> model.RouteSettings:
    return model.RouteSettings(
        pool=table.pool or "",
        name=table.name,
        listeners=_listeners_of(table, tables),
        clients=_networks(table.client),
        server_names=tuple(table.server_name or ()),
        alpn=tuple(table.alpn or ()),
        priority=table.priority,
        http=route_http(table, path, contents) if http_keys(table) else None,
        timeouts=_timeouts(table.timeouts),
        line=places.line(path),
    )


def _pool(name: str, table: schema_pools.PoolTable, places: Places, contents: Contents) -> model.PoolSettings:
    path: Path = ("pool", name)
    return model.PoolSettings(
        name=name,
        backends=tuple(
            _backend(backend, places.line((*path, "backends", i))) for i, backend in enumerate(table.backends)
        ),
        policy=cast(model.PolicyName, table.policy),
        hash_key=table.hash_key,
        label="address" if table.label == "address" else "id",
        bounded_load=table.bounded_load,
        max_active=table.max_active,
        queue_size=table.queue.size,
        shed="codel" if table.queue.shed == "codel" else "none",
        tries=table.tries,
        panic_threshold=table.panic_threshold,
        check=_check(table.check),
        outlier=model.OutlierSettings(**table.outlier.model_dump()) if table.outlier else _NO_OUTLIER,
        slow_start=model.SlowStartSettings(**table.slow_start.model_dump()) if table.slow_start else _NO_SLOW_START,
        send_proxy=_send_proxy(table.send_proxy),
        tls=backend_tls(table.tls, (*path, "tls"), places, contents.paths),
        http=pool_http(table, path, contents),
        load_report=load_report(table.load_report),
        timeouts=_timeouts(table.timeouts),
        line=places.line(path),
    )


_NO_OUTLIER = model.OutlierSettings(enabled=False)
_NO_SLOW_START = model.SlowStartSettings(window=0.0)


def _backend(table: schema_pools.BackendTable, line: int) -> model.BackendSettings:
    return model.BackendSettings(
        id=table.id or str(table.address),
        address=table.address,
        weight=table.weight,
        backup=table.backup,
        max_active=table.max_active,
        state=cast(model.AdminState, table.state),
        line=line,
    )


def _check(table: schema_pools.CheckTable | None) -> model.CheckSettings:
    if table is None:
        return model.CheckSettings(enabled=False)
    return model.CheckSettings(
        interval=table.interval,
        timeout=table.timeout,
        rise=table.rise,
        fall=table.fall,
        send=table.send,
        expect=table.expect,
        port=table.port,
        tls=table.tls,
        http=check_http(table),
    )


def _send_proxy(table: schema_pools.SendProxyTable | None) -> model.SendProxySettings | None:
    if table is None:
        return None
    return model.SendProxySettings(1 if table.version == 1 else 2, tuple(cast(list[model.Tlv], table.tlvs)))
