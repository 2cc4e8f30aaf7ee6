"""Cross-checks on routes: what they name, and whether they can ever match.

Refuses to know what is for HTTP: that is in checks_http_routes.py. Which of two routes takes all that the other would
is found in checks_reach.py; the order of `lbproxy.routing` (the file's, the listener's own pool last) is assumed.
"""

from __future__ import annotations

from lbproxy.config.checks_listeners import suggestion
from lbproxy.config.checks_reach import reach
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.units import show
from lbproxy.model import Configuration

# The comparison looks at pairs. Files with more routes are made by programs, which do not read warnings.
_MOST_COMPARED = 300


def check_routes(configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    known = _listener_names(configuration, notes)
    first: dict[str, int] = {}
    for index, route in enumerate(configuration.routes):
        path: Path = ("route", index)
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
    reached = [set(route.listeners) or every for route in configuration.routes]
    compared = [
        reach(route, listeners)
        for route, listeners in zip(configuration.routes[:_MOST_COMPARED], reached, strict=False)
    ]
    for index, later in enumerate(compared):
        takers = [
            next(
                (earlier for earlier in compared[:index] if name in earlier.listeners and earlier.takes_all(later)),
                None,
            )
            for name in sorted(later.listeners)
        ]
        if takers and (taker := takers[0]) is not None and None not in takers:
            notes.warn(
                ("route", index), f"never matches: the route in line {taker.route.line} takes all its clients first"
            )
    for index, listener in enumerate(configuration.listeners):
        taker = next((r for r in compared if listener.name in r.listeners and r.unconditional), None)
        if listener.pool is not None and taker is not None:
            notes.warn(
                ("listener", index, "pool"), f"is never used: the route in line {taker.route.line} takes every client"
            )
