"""Which pool serves whom: the routes of every listener, for TCP sessions and for HTTP requests.

`tcp` goes by the client and what it said in its handshake, `http_routes` by the request; `table` has both. Refuses to
know pools, backends and the wire.
"""

from lbproxy.routing.http_routes import HttpRoute, HttpRoutes
from lbproxy.routing.table import RoutingTable
from lbproxy.routing.tcp import ListenerRoutes, Route

__all__ = ["HttpRoute", "HttpRoutes", "ListenerRoutes", "Route", "RoutingTable"]
