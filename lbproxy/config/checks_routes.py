"""Cross-checks on routes: what they name, and whether they can ever match.

Owns the question which of two routes takes all that the other would. Refuses to route anything: that is
`lbproxy.routing`, whose order (the file's, the listener's own pool last) is assumed here.
"""

from __future__ import annotations

from lbproxy.addresses import NetworkSet, parse_network
from lbproxy.config.checks_listeners import suggestion, unknown_pool
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.units import show
from lbproxy.model import Configuration, RouteSettings

# The comparison looks at pairs. Files with more routes are made by programs, which do not read warnings.
_MOST_COMPARED = 300


def check_routes(configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    known = _listener_names(configuration, notes)
    first: dict[str, int] = {}
    for index, route in enumerate(configuration.routes):
        path: Path = ("route", index)
        if complaint := unknown_pool(route.pool, notes):
            notes.error((*path, "pool"), complaint)
        for number, name in enumerate(route.listeners):
            if known is not None and name not in known:
                notes.error((*path, "listener", number), f"there is no listener {show(name)}{suggestion(name, known)}")
        if route.name and first.setdefault(route.name, index) != index:
            line = configuration.routes[first[route.name]].line
            notes.error((*path, "name"), f"is {show(route.name)}, like the route in line {line}")


def _listener_names(configuration: Configuration, notes: Notes) -> list[str] | None:
    """The names of all listeners; None when one could not be read that may have any name."""
    if not notes.places.is_spoiled(("listener",)):
        return [listener.name for listener in configuration.listeners]
    tables = notes.places.raw.get("listener")
    if not isinstance(tables, list) or not all(isinstance(table, dict) and "name" in table for table in tables):
        return None
    return [str(table["name"]) for table in tables]


def warn_about_routes(configuration: Configuration, notes: Notes) -> None:
    """Note the routes, and the listeners' own pools, that nobody reaches."""
    every = {listener.name for listener in configuration.listeners}
    proxied = {listener.name for listener in configuration.listeners if listener.proxy_from is not None}
    reached = [set(route.listeners) or every for route in configuration.routes]
    for index, route in enumerate(configuration.routes):
        if route.authority and not reached[index] & proxied:
            notes.warn(
                ("route", index, "authority"),
                "never matches: the name comes from PROXY headers, and no listener of this route has proxy_protocol",
            )
    compared = list(zip(configuration.routes, reached, strict=True))[:_MOST_COMPARED]
    for index, (route, listeners) in enumerate(compared):
        takers = [
            next(
                (earlier for earlier, served in compared[:index] if name in served and _takes_all(earlier, route)), None
            )
            for name in sorted(listeners)
        ]
        if takers and (taker := takers[0]) is not None and None not in takers:
            notes.warn(("route", index), f"never matches: the route in line {taker.line} takes all its clients first")
    for index, listener in enumerate(configuration.listeners):
        served_by = next((r for r, names in compared if listener.name in names and _unconditional(r)), None)
        if listener.pool is not None and served_by is not None:
            notes.warn(
                ("listener", index, "pool"), f"is never used: the route in line {served_by.line} takes every client"
            )


def _unconditional(route: RouteSettings) -> bool:
    return route.clients is None and not route.authority


def _takes_all(earlier: RouteSettings, later: RouteSettings) -> bool:
    """Whether every session that `later` would match on some listener matches `earlier` there."""
    return _names_within(later.authority, earlier.authority) and _clients_within(later.clients, earlier.clients)


def _names_within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    if not outer or not inner:
        return not outer
    return all(name in outer or f"*.{name.partition('.')[2]}" in outer for name in inner)


def _clients_within(inner: NetworkSet | None, outer: NetworkSet | None) -> bool:
    if outer is None or inner is None:
        return outer is None
    if inner == outer:
        return True
    around = [parse_network(text) for text in outer.source]
    return all(
        any(
            network.version == wide.version and wide.prefixlen <= network.prefixlen and network.network_address in wide
            for wide in around
        )
        for network in map(parse_network, inner.source)
    )
