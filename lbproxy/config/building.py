"""From read tables to the frozen values of `lbproxy.model`.

Owns what stands where the user wrote nothing and needs other keys to know it: names from addresses, ids from
addresses; building_tls.py does so for TLS. Judges nothing; a configuration built here may still be nonsense until
checks.py has seen it.
"""

from __future__ import annotations

from typing import cast

from lbproxy import model
from lbproxy.addresses import NetworkSet
from lbproxy.config import schema
from lbproxy.config.building_tls import Paths, backend_tls, listener_tls
from lbproxy.config.places import Path, Places


def build(tables: schema.FileTable, places: Places, file: str | None) -> model.Configuration:
    """The configuration that these tables describe; `places` knows their lines."""
    paths = Paths(file)
    return model.Configuration(
        listeners=tuple(_listener(table, ("listener", i), places, paths) for i, table in enumerate(tables.listener)),
        pools=tuple(_pool(name, table, places, paths) for name, table in tables.pool.items()),
        routes=tuple(_route(table, places.line(("route", i))) for i, table in enumerate(tables.route)),
        timeouts=_timeouts(tables.timeouts),
        records=_records(tables.records),
        log=model.LogSettings(**tables.log.model_dump()),
        limits=model.LimitSettings(**tables.limits.model_dump()),
        control=model.ControlSettings(tables.control.socket),
        stop=model.StopSettings(tables.stop.grace, tables.stop.hard_stop),
        file=file,
    )


def _timeouts(table: schema.AfterRouteTimeouts) -> model.TimeoutSettings:
    return model.TimeoutSettings(**table.model_dump())


def _networks(written: list[str] | None) -> NetworkSet | None:
    return None if written is None else NetworkSet(written)


def _records(table: schema.RecordsTable) -> model.RecordSettings:
    return model.RecordSettings(table.to.to, table.to.path, table.to.address, table.buffer)


def _listener(table: schema.ListenerTable, path: Path, places: Places, paths: Paths) -> model.ListenerSettings:
    return model.ListenerSettings(
        # Without a number in it the name stays when listeners before this one come and go.
        name=table.name or next(map(str, table.bind), ""),
        binds=tuple(table.bind),
        pool=table.pool,
        proxy_from=_networks(table.proxy_protocol.from_) if table.proxy_protocol else None,
        max_connections=table.max_connections,
        max_connections_per_client=table.max_connections_per_client,
        allow=_networks(table.allow),
        deny=_networks(table.deny),
        backlog=table.backlog,
        tls=listener_tls(table.tls, (*path, "tls"), places, paths),
        timeouts=_timeouts(table.timeouts),
        line=places.line(path),
    )


def _route(table: schema.RouteTable, line: int) -> model.RouteSettings:
    return model.RouteSettings(
        pool=table.pool,
        name=table.name,
        listeners=tuple(table.listener or ()),
        clients=_networks(table.client),
        server_names=tuple(table.server_name or ()),
        alpn=tuple(table.alpn or ()),
        priority=table.priority,
        timeouts=_timeouts(table.timeouts),
        line=line,
    )


def _pool(name: str, table: schema.PoolTable, places: Places, paths: Paths) -> model.PoolSettings:
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
        tls=backend_tls(table.tls, (*path, "tls"), places, paths),
        timeouts=_timeouts(table.timeouts),
        line=places.line(path),
    )


_NO_OUTLIER = model.OutlierSettings(enabled=False)
_NO_SLOW_START = model.SlowStartSettings(window=0.0)


def _backend(table: schema.BackendTable, line: int) -> model.BackendSettings:
    return model.BackendSettings(
        id=table.id or str(table.address),
        address=table.address,
        weight=table.weight,
        backup=table.backup,
        max_active=table.max_active,
        state=cast(model.AdminState, table.state),
        line=line,
    )


def _check(table: schema.CheckTable | None) -> model.CheckSettings:
    return model.CheckSettings(enabled=False) if table is None else model.CheckSettings(**table.model_dump())


def _send_proxy(table: schema.SendProxyTable | None) -> model.SendProxySettings | None:
    if table is None:
        return None
    return model.SendProxySettings(1 if table.version == 1 else 2, tuple(cast(list[model.Tlv], table.tlvs)))
