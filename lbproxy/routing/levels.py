"""What the levels of a configuration say together: which routes a listener has, and the timeouts of a route.

Owns the order of the levels. Refuses to know conditions.
"""

from __future__ import annotations

from collections.abc import Iterator

from lbproxy.model import Configuration, ListenerSettings, RouteSettings, Timeouts


def routes_of(configuration: Configuration, listener: ListenerSettings) -> Iterator[tuple[int, RouteSettings]]:
    """The routes that are for this listener, each with its position in the file's order of all routes."""
    for position, settings in enumerate(configuration.routes):
        if not settings.listeners or listener.name in settings.listeners:
            yield position, settings


def timeouts_of(configuration: Configuration, listener: ListenerSettings, settings: RouteSettings) -> Timeouts:
    """The nearest level that sets a clock wins: route, pool, listener, file. What does something else than to
    serve from one pool has no such level.

    Raises KeyError when the pool does not exist.
    """
    levels = [settings.timeouts, listener.timeouts, configuration.timeouts]
    if settings.pool or settings.http is None:
        levels.insert(1, configuration.pool_by_name[settings.pool].timeouts)
    timeouts = Timeouts()
    for level in reversed(levels):
        timeouts = level.over(timeouts)
    return timeouts
