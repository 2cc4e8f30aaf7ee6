"""Which pool serves a TCP session: its listener, the client's address, the server name and protocols asked for decide.

Owns the order of the routes. Refuses to know pools, backends and how a session learnt these: the address (P6: behind
a listed sender it is the PROXY header's), the name and the protocols (from a ClientHello, a handshake of our own or a
PROXY header).

Built once from a configuration and never changed; a reload builds other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lbproxy.addresses import NetworkSet
from lbproxy.model import Configuration, ListenerSettings, RouteSettings, Timeouts
from lbproxy.routing.levels import routes_of, timeouts_of


@dataclass(frozen=True, slots=True)
class Route:
    """What a session needs to know of the route it took.

    `name` is the route's, "" when it has none and for a listener's own pool; `line` is where the user wrote it.
    `priority` 0 to 9 orders the pool's queue, 0 first. `timeouts` are those of all levels together.
    """

    pool: str
    name: str
    line: int
    priority: int
    timeouts: Timeouts


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A route with its conditions; one that holds none is taken by everybody."""

    route: Route
    clients: NetworkSet | None = None
    names: frozenset[str] = frozenset()
    # "*.a.example" is kept as "a.example", the part behind the first dot.
    parents: frozenset[str] = frozenset()
    protocols: frozenset[str] = frozenset()

    @property
    def by_name(self) -> bool:
        return bool(self.names or self.parents or self.protocols)

    @property
    def unconditional(self) -> bool:
        return self.clients is None and not self.by_name

    def matches(self, client_ip: str, server_name: str | None, alpn: Sequence[str]) -> bool:
        # The name first: it costs a look-up, the address must be parsed.
        if self.names or self.parents:
            if server_name is None:
                return False
            if server_name not in self.names:
                label, _, parent = server_name.partition(".")
                if not label or parent not in self.parents:
                    return False
        if self.protocols and self.protocols.isdisjoint(alpn):
            return False
        return self.clients is None or client_ip in self.clients


class ListenerRoutes:
    """The routes of one listener in their order, its own pool last.

    `only` is the route that every session takes, None when that depends on the client or when there is none: a
    caller that finds it set needs no `find`. `by_name` tells whether the name or the protocols that a client asks for
    can make a difference; where it is False, nobody needs to wait for a ClientHello.
    """

    __slots__ = ("_candidates", "by_name", "only")

    def __init__(self, candidates: tuple[_Candidate, ...]) -> None:
        self._candidates = candidates
        self.only = candidates[0].route if candidates and candidates[0].unconditional else None
        self.by_name = any(candidate.by_name for candidate in candidates)

    def find(self, client_ip: str, server_name: str | None, alpn: Sequence[str] = ()) -> Route | None:
        """The first route that matches, or None: this listener serves no such client.

        `client_ip` is canonical text (any other text, such as a UNIX peer's, lies in no network); `server_name` is
        in lower case without a final dot, None when the client named none; `alpn` is what the client offers, or the
        one protocol that was agreed on (RFC 7301), case and all.
        """
        if self.only is not None:
            return self.only
        for candidate in self._candidates:
            if candidate.matches(client_ip, server_name, alpn):
                return candidate.route
        return None


def tcp_routes(configuration: Configuration, listener: ListenerSettings) -> ListenerRoutes:
    """The routes of one listener. Those that go by requests are none of its own.

    Raises KeyError when a route or the listener names a pool that does not exist.
    """
    candidates = [
        _candidate(configuration, listener, settings)
        for _, settings in routes_of(configuration, listener)
        if settings.http is None
    ]
    if listener.pool is not None:
        fallback = RouteSettings(listener.pool, line=listener.line)
        candidates.append(_candidate(configuration, listener, fallback))
    for place, candidate in enumerate(candidates, 1):
        if candidate.unconditional:
            # Nobody gets past it.
            return ListenerRoutes(tuple(candidates[:place]))
    return ListenerRoutes(tuple(candidates))


def _candidate(configuration: Configuration, listener: ListenerSettings, settings: RouteSettings) -> _Candidate:
    timeouts = timeouts_of(configuration, listener, settings)
    patterns = [pattern.lower().removesuffix(".") for pattern in settings.server_names]
    return _Candidate(
        Route(settings.pool, settings.name, settings.line, settings.priority, timeouts),
        settings.clients,
        frozenset(pattern for pattern in patterns if not pattern.startswith("*.")),
        frozenset(pattern[2:] for pattern in patterns if pattern.startswith("*.")),
        frozenset(settings.alpn),
    )
