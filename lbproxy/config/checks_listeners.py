"""Cross-checks on listeners: names, addresses that clash, and whether anybody serves their clients.

Refuses to know how pools choose and how routes match.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from lbproxy.addresses import Address
from lbproxy.config.places import Path, written
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.units import did_you_mean, show
from lbproxy.model import Configuration, ListenerSettings


def check_listeners(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    if not notes.places.raw.get("listener") and not notes.places.is_gone(("listener",)):
        notes.error((), "there is no [[listener]], so nothing would be served")
    _check_names(tables, configuration, notes)
    _check_binds(configuration, notes)
    _check_service(configuration, notes)


def warn_about_listeners(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note what works, but hardly as meant."""
    for index, (table, listener) in enumerate(zip(tables.listener, configuration.listeners, strict=True)):
        path: Path = ("listener", index)
        most, share = listener.max_connections, listener.max_connections_per_client
        if most is not None and share is not None and share > most:
            notes.warn(
                (*path, "max_connections_per_client"), f"is {share} and never reached: max_connections is {most}"
            )
        if table.timeouts.proxy_header is not None and listener.proxy_from is None:
            notes.warn((*path, "timeouts", "proxy_header"), "has no effect: the listener has no proxy_protocol")


def check_pool_names(notes: Notes) -> None:
    """Note every pool that a listener or a route names and nobody describes, in unreadable tables too."""
    for kind in ("listener", "route"):
        tables = notes.places.raw.get(kind)
        for index, table in enumerate(tables if isinstance(tables, list) else ()):
            for name, path in _pools_named(table if isinstance(table, dict) else {}, (kind, index)):
                readable = isinstance(name, str) and not notes.places.is_unreadable(path)
                if readable and (said := _unknown_pool(str(name), notes)):
                    notes.error_at(path, said)


def _pools_named(table: dict[str, object], path: Path) -> Iterator[tuple[object, Path]]:
    """Whatever stands where a listener or a route names a pool."""
    yield table.get("pool"), (*path, "pool")
    if path[0] == "route":
        split, mirror = table.get("split"), table.get("mirror")
        yield from ((name, (*path, "split", name)) for name in (split if isinstance(split, dict) else ()))
        if isinstance(mirror, dict):
            yield mirror.get("pool"), (*path, "mirror", "pool")
        else:
            yield mirror, (*path, "mirror")


def _unknown_pool(name: str, notes: Notes) -> str | None:
    """What to say of a pool that is not in the file; None when it is."""
    # Asked of the file itself: a pool that cannot be read is still there.
    pools = notes.places.raw.get("pool", {})
    if notes.places.is_gone(("pool",)) or not isinstance(pools, dict) or name in pools:
        return None
    known = list(pools)
    if not known:
        return f"there is no pool {show(name)}; describe it under [{written(('pool', name))}]"
    return f"there is no pool {show(name)}{suggestion(name, known)}"


def suggestion(name: str, known: Sequence[str]) -> str:
    """What to write instead of a name that nothing has."""
    others = ", ".join(written((other,)) for other in known[:20])
    return did_you_mean(name, known) or (f"; there are {others}" if known else "")


def binds_of(configuration: Configuration) -> Iterator[tuple[int, int, ListenerSettings, Address]]:
    """Every address where we accept, with its listener's place and its own."""
    for index, listener in enumerate(configuration.listeners):
        for number, bind in enumerate(listener.binds):
            yield index, number, listener, bind


def _check_names(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    first: dict[str, int] = {}
    for index, table in enumerate(tables.listener):
        if not table.name:
            continue
        earlier = first.setdefault(table.name, index)
        if earlier != index:
            line = configuration.listeners[earlier].line
            notes.error(("listener", index, "name"), f"is {show(table.name)}, like the listener{_at(line)}")


def _check_binds(configuration: Configuration, notes: Notes) -> None:
    exact: dict[Address, tuple[int, int]] = {}
    at_port: dict[tuple[int, int], list[tuple[Address, bool]]] = {}
    for index, number, _, bind in binds_of(configuration):
        path: Path = ("listener", index, "bind", number)
        if bind in exact:
            earlier = notes.places.line(("listener", exact[bind][0], "bind", exact[bind][1]))
            notes.error(path, f"{bind} is in use already, by the listener{_at(earlier)}")
            continue
        exact[bind] = index, number
        if bind.kind == "ip":
            ip = ipaddress.ip_address(bind.host)
            others = at_port.setdefault((ip.version, bind.port), [])
            # Of two addresses of the same family and port, neither may mean all addresses.
            if other := next((other for other, all_of_them in others if all_of_them or ip.is_unspecified), None):
                notes.error(path, f"{bind} overlaps with {other}; the system lets only one of them be bound")
            others.append((bind, ip.is_unspecified))


def _check_service(configuration: Configuration, notes: Notes) -> None:
    # A route that could not be read might be the one that serves.
    every_route_known = not notes.places.is_spoiled(("route",))
    routed = {name for route in configuration.routes for name in route.listeners}
    everywhere = any(not route.listeners for route in configuration.routes)
    for index, listener in enumerate(configuration.listeners):
        path: Path = ("listener", index, "pool")
        if (
            listener.pool is None
            and not (listener.http.redirect_https and listener.tls is None)
            and every_route_known
            and not everywhere
            and listener.name not in routed
            and not notes.places.is_spoiled(path)
        ):
            notes.error(path, 'is missing, and no route is for this listener; write pool = "NAME"')


def _at(line: int) -> str:
    return f" in line {line}" if line else " before"
