"""Which route serves an HTTP request: the listener's routes in the file's order, its own pool last.

Owns the routes of one listener and the rule about encoded slashes. Refuses to know what a route does with a request
(that is in its settings), and where the client's address comes from: it is what trusted peers say it is.

Built once from a configuration and never changed; a reload builds other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

from lbproxy.http.messages import RequestHead
from lbproxy.model import Configuration, ListenerSettings, RouteSettings, Timeouts
from lbproxy.model_http import HttpRouteSettings
from lbproxy.routing.conditions import (
    both,
    client_test,
    compile_condition,
    goes_by_client,
    merged_path,
    unmerged_path,
)
from lbproxy.routing.index import Candidate, Index
from lbproxy.routing.levels import routes_of, timeouts_of


@dataclass(slots=True, eq=False)
class HttpRoute:
    """What an exchange needs to know of the route it took; one for each configured route and listener.

    `pool` is "" where `http` says what to do instead. `name` is the route's, "" when it has none and for a listener's
    own pool; `line` is where the user wrote it; `number` is its place among all routes of the file, from 0, and the
    listener's own pool comes behind them. `priority` 0 to 9 orders the pool's queue, 0 first. `timeouts` are those of
    all levels together; that of a pool that `http.split` chooses is not among them.

    Nothing of this changes but `plan`, where the session keeps what it works out of the settings.
    """

    pool: str
    name: str
    line: int
    number: int
    priority: int
    timeouts: Timeouts
    http: HttpRouteSettings
    plan: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        # `plan` is the last that the constructor sets.
        if name != "plan" and hasattr(self, "plan"):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class HttpCandidate:
    """A route with its conditions, as they are looked up."""

    route: HttpRoute
    lookup: Candidate
    goes_by_client: bool = False

    @property
    def unconditional(self) -> bool:
        return not self.lookup.hosts and not self.lookup.paths and self.lookup.rest is None


class HttpRoutes:
    """The routes of one listener in their order, its own pool last.

    `only` is the route that every request takes whose head has no `encoded_slash`; None when that depends on the
    request or when there is none. A caller that finds it set needs no `find` for such a head.

    `by_head` is True where nothing depends on the client's address: what was found for a head is true for all equal
    ones.
    """

    __slots__ = ("_encoded", "_plain", "by_head", "only")

    def __init__(self, candidates: Sequence[HttpCandidate]) -> None:
        """`candidates` are in order; their positions are those in the sequence."""
        self._plain = _Lookup(candidates)
        self._encoded = _Lookup([candidate for candidate in candidates if candidate.route.http.encoded_slash])
        self.only = self._plain.only
        self.by_head = not (self._plain.goes_by_client or self._encoded.goes_by_client)

    def find(self, head: RequestHead, client_ip: str) -> HttpRoute | None:
        """The first route that matches, or None: this listener has no place for such a request.

        `client_ip` is canonical text; any other text, such as a UNIX peer's, lies in no network. Routes that do not
        allow encoded slashes do not match a head that has them (T18).
        """
        if head.encoded_slash:
            return self._encoded.find(head, client_ip)
        if self.only is not None:
            return self.only
        return self._plain.find(head, client_ip)

    def find_refused_slash(self, head: RequestHead, client_ip: str) -> bool:
        """Whether an encoded slash is all that keeps this request from a route: then it is bad, not unknown here."""
        return (
            head.encoded_slash
            and self._encoded.find(head, client_ip) is None
            and self._plain.find(head, client_ip) is not None
        )


class _Lookup:
    """Candidates behind their indexes: one for those that see merged slashes, one for the others."""

    __slots__ = ("_merged", "_routes", "_unmerged", "goes_by_client", "only")

    def __init__(self, candidates: Sequence[HttpCandidate]) -> None:
        last = next((place for place, one in enumerate(candidates, 1) if one.unconditional), len(candidates))
        # Nobody gets past the first that takes everything.
        reached = [replace(one.lookup, position=place) for place, one in enumerate(candidates[:last])]
        self._routes: tuple[HttpRoute | None, ...] = (*(one.route for one in candidates[:last]), None)
        self.goes_by_client = any(one.goes_by_client for one in candidates[:last])
        self.only = self._routes[0] if candidates and candidates[0].unconditional else None
        merges = [one.route.http.merge_slashes for one in candidates[:last]]
        self._merged = Index(one for one, merge in zip(reached, merges, strict=True) if merge)
        unmerged = [one for one, merge in zip(reached, merges, strict=True) if not merge]
        self._unmerged = Index(unmerged) if unmerged else None

    def find(self, head: RequestHead, client_ip: str) -> HttpRoute | None:
        place = self._merged.first(head.path, head, client_ip, len(self._routes) - 1)
        if self._unmerged is not None:
            place = self._unmerged.first(head.unmerged, head, client_ip, place)
        return self._routes[place]


def http_routes(configuration: Configuration, listener: ListenerSettings) -> HttpRoutes:
    """The routes of one listener. Raises KeyError for a pool that does not exist, re.error for a bad expression."""
    candidates = [
        _candidate(configuration, listener, number, settings)
        for number, settings in routes_of(configuration, listener)
        # These go by the handshake of a session, which nobody tells here: rather no request than all of them.
        if not settings.server_names and not settings.alpn
    ]
    if listener.pool is not None:
        own = RouteSettings(listener.pool, line=listener.line)
        candidates.append(_candidate(configuration, listener, len(configuration.routes), own))
    return HttpRoutes(candidates)


def _candidate(
    configuration: Configuration, listener: ListenerSettings, number: int, settings: RouteSettings
) -> HttpCandidate:
    http = settings.http or HttpRouteSettings()
    for pool in _further_pools(http):
        configuration.pool_by_name[pool]
    timeouts = timeouts_of(configuration, listener, settings)
    route = HttpRoute(settings.pool, settings.name, settings.line, number, settings.priority, timeouts, http)
    condition = http.condition
    rest = compile_condition(
        replace(condition, hosts=(), paths=()), merged_path if http.merge_slashes else unmerged_path
    )
    if settings.clients is not None:
        rest = both(rest, client_test(settings.clients))
    lookup = Candidate(number, condition.hosts, condition.paths, rest)
    return HttpCandidate(route, lookup, settings.clients is not None or goes_by_client(condition))


def _further_pools(http: HttpRouteSettings) -> list[str]:
    pools = [name for name, _ in http.split.pools] if http.split else []
    return [*pools, http.mirror.pool] if http.mirror else pools
