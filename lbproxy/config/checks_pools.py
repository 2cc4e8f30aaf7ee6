"""Cross-checks on pools: their backends among each other, keys that need one another, and loops.

Refuses to know who uses a pool, except to say that nobody does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from lbproxy.addresses import Address
from lbproxy.config.checks_listeners import binds_of
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.readings import NAME, NAME_RULE
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_pools import PoolTable
from lbproxy.config.units import listed, show, write_time
from lbproxy.model import Configuration, PoolSettings, RouteSettings

HASH_POLICIES = ("ketama", "maglev", "rendezvous")
_NEEDS_HASH = f"only a hash policy ({listed(HASH_POLICIES)}) has a use for it"


def check_pools(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    ours = [(bind, listener.name) for _, _, listener, bind in binds_of(configuration)]
    for pool in configuration.pools:
        path: Path = ("pool", pool.name)
        table = tables.pool[pool.name]
        if not NAME.fullmatch(pool.name):
            notes.error(path, f"{show(pool.name)} is no name for a pool; use {NAME_RULE}")
        _check_backends(table, pool, notes)
        _check_loops(pool, ours, notes)
        _check_pairs(table, pool, notes)


def warn_about_pools(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note what works, but hardly as meant."""
    used = {name for route in configuration.routes for name in pools_of(route)}
    used.update(listener.pool for listener in configuration.listeners if listener.pool is not None)
    for pool in configuration.pools:
        path: Path = ("pool", pool.name)
        table = tables.pool[pool.name]
        if pool.name not in used:
            notes.warn(path, "no listener and no route uses this pool")
        _warn_about_backends(pool, notes)
        if pool.policy not in HASH_POLICIES:
            for key in ("hash_key", "label"):
                if table.given(key):
                    notes.warn((*path, key), f"has no effect with the policy {show(pool.policy)}: {_NEEDS_HASH}")
        if table.given("queue") and pool.max_active is None and all(b.max_active is None for b in pool.backends):
            notes.warn((*path, "queue"), 'has no effect: with max_active = "none" nobody ever waits')
        if pool.check.port is not None and all(b.address.kind == "unix" for b in pool.backends):
            notes.warn((*path, "check", "port"), "has no effect: every backend is a UNIX socket")


def pools_of(route: RouteSettings) -> Iterator[str]:
    """Every pool that a route sends something to."""
    if route.pool:
        yield route.pool
    if route.http is not None and route.http.split is not None:
        yield from (name for name, _ in route.http.split.pools)
    if route.http is not None and route.http.mirror is not None:
        yield route.http.mirror.pool


def _check_backends(table: PoolTable, pool: PoolSettings, notes: Notes) -> None:
    by_id: dict[str, int] = {}
    by_address: dict[Address, int] = {}
    for index, (written, backend) in enumerate(zip(table.backends, pool.backends, strict=True)):
        path: Path = ("pool", pool.name, "backends", index)
        twin = by_address.setdefault(backend.address, index)
        if twin != index and not (written.id and table.backends[twin].id):
            notes.error(path, f"{backend.address} is in this pool already; give each an id of its own if that is meant")
            continue
        if by_id.setdefault(backend.id, index) != index:
            notes.error((*path, "id"), f"is {show(backend.id)}, like that of another backend of this pool")


def _check_loops(pool: PoolSettings, ours: list[tuple[Address, str]], notes: Notes) -> None:
    for index, backend in enumerate(pool.backends):
        for bind, listener in ours:
            if _leads_to(backend.address, bind):
                notes.error(
                    ("pool", pool.name, "backends", index),
                    f"{backend.address} is where the listener {show(listener)} accepts, so sessions would go round",
                )
                break


def _leads_to(backend: Address, bind: Address) -> bool:
    """Whether a connection to `backend` surely arrives at `bind`; whose the other addresses are, we do not know."""
    if backend == bind:
        return True
    if backend.port != bind.port or bind.kind not in ("ip", "name") or backend.kind not in ("ip", "name"):
        return False
    if backend.kind == "name":
        # "localhost" may be either family; one of its answers leads here.
        return backend.host == "localhost" and bind.kind == "ip" and _loopback_or_all(bind.host)
    if bind.kind == "name":
        return bind.host == "localhost" and ipaddress.ip_address(backend.host).is_loopback
    there, here = ipaddress.ip_address(backend.host), ipaddress.ip_address(bind.host)
    return here.is_unspecified and there.is_loopback and here.version == there.version


def _loopback_or_all(host: str) -> bool:
    ip = ipaddress.ip_address(host)
    return ip.is_loopback or ip.is_unspecified


def _check_pairs(table: PoolTable, pool: PoolSettings, notes: Notes) -> None:
    path: Path = ("pool", pool.name)
    spoiled = notes.places.is_spoiled
    if pool.bounded_load is not None and pool.policy not in HASH_POLICIES and not spoiled((*path, "policy")):
        notes.error((*path, "bounded_load"), f"does not go with the policy {show(pool.policy)}: {_NEEDS_HASH}")
    outlier = pool.outlier
    if outlier.max_ejection < outlier.ejection and not spoiled((*path, "outlier")):
        notes.error(
            (*path, "outlier", "max_ejection"),
            f"is {write_time(outlier.max_ejection)}, it must not be less than ejection, {write_time(outlier.ejection)}",
        )
    if table.send_proxy is not None and not spoiled((*path, "send_proxy")):
        tlvs = table.send_proxy.tlvs
        if tlvs and table.send_proxy.version == 1:
            notes.error((*path, "send_proxy", "tlvs"), "needs version = 2; version 1 has no such fields")
        for repeated in sorted({tlv for tlv in tlvs if tlvs.count(tlv) > 1}):
            notes.error((*path, "send_proxy", "tlvs"), f"names {show(repeated)} more than once")


def _warn_about_backends(pool: PoolSettings, notes: Notes) -> None:
    path: Path = ("pool", pool.name, "backends")
    if all(backend.weight == 0 for backend in pool.backends):
        notes.warn(path, "every backend has weight 0, so none gets sessions")
    elif all(backend.state != "ready" for backend in pool.backends):
        notes.warn(path, "no backend is in state ready, so none gets sessions")
    elif all(backend.backup for backend in pool.backends):
        notes.warn(path, "every backend is a backup; mark only those that should wait for the others to fail")
