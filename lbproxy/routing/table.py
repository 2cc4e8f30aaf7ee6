"""The routes of all listeners of one configuration.

Built once and never changed; a reload builds another table. Refuses to know how routes are chosen.
"""

from __future__ import annotations

from lbproxy.model import Configuration
from lbproxy.routing.http_routes import HttpRoutes, http_routes
from lbproxy.routing.tcp import ListenerRoutes, tcp_routes


class RoutingTable:
    """The routes of every listener of one configuration.

    Raises KeyError when a route or a listener names a pool that does not exist, and re.error when a regular expression
    is none; `config/` has told the user by then.
    """

    __slots__ = ("_http", "_tcp")

    def __init__(self, configuration: Configuration) -> None:
        self._tcp: dict[str, ListenerRoutes] = {}
        self._http: dict[str, HttpRoutes] = {}
        for listener in configuration.listeners:
            if listener.protocol == "http":
                self._http[listener.name] = http_routes(configuration, listener)
            else:
                self._tcp[listener.name] = tcp_routes(configuration, listener)

    def for_listener(self, name: str) -> ListenerRoutes:
        """The routes of the TCP listener `name`. Raises KeyError when there is no such listener."""
        return self._tcp[name]

    def for_http_listener(self, name: str) -> HttpRoutes:
        """The routes of the HTTP listener `name`. Raises KeyError when there is no such listener."""
        return self._http[name]
