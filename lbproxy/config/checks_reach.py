"""Whether one route takes all that another would, for the warning about routes that nobody reaches.

Says so only where it is certain. Refuses to route anything: that is `lbproxy.routing`, whose order (the file's) is
assumed here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from lbproxy.addresses import NetworkSet, parse_network
from lbproxy.model import RouteSettings
from lbproxy.model_http import Condition, HttpRouteSettings

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ALWAYS = Condition()
_NO_KEYS = HttpRouteSettings()


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a route is for; `networks` is None for everybody."""

    route: RouteSettings
    listeners: frozenset[str]
    networks: tuple[_Network, ...] | None
    condition: Condition

    @property
    def unconditional(self) -> bool:
        """Whether it takes everything on its listeners."""
        tcp = self.route.server_names or self.route.alpn
        return self.networks is None and not tcp and self.condition == _ALWAYS

    def takes_all(self, later: Reach) -> bool:
        """Whether everything that `later` would match on some listener matches this one there."""
        return (
            _has_names(self.route.server_names, later.route.server_names)
            and _has_some_of(self.route.alpn, later.route.alpn)
            and _has_networks(self.networks, later.networks)
            and _has_condition(self.condition, later.condition)
            and self._sees_same_paths(later)
        )

    def _sees_same_paths(self, later: Reach) -> bool:
        ours, theirs = self.route.http or _NO_KEYS, later.route.http or _NO_KEYS
        if theirs.encoded_slash and not ours.encoded_slash:
            return False
        return ours.merge_slashes == theirs.merge_slashes or self.condition == _ALWAYS


def reach(route: RouteSettings, listeners: Iterable[str]) -> Reach:
    """Whom `route` is for, on these listeners."""
    condition = route.http.condition if route.http is not None else _ALWAYS
    return Reach(route, frozenset(listeners), _networks(route.clients), condition)


def _networks(clients: NetworkSet | None) -> tuple[_Network, ...] | None:
    return None if clients is None else tuple(map(parse_network, clients.source))


def _has_names(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """For server names, where a star is for one label."""
    if not ours or not theirs:
        return not ours
    return all(name in ours or f"*.{name.partition('.')[2]}" in ours for name in theirs)


def _has_hosts(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """For hosts, where a star is for one label or more."""
    if not ours or not theirs:
        return not ours
    return all(
        name in ours or any(wide.startswith("*.") and name.endswith(wide[1:]) for wide in ours) for name in theirs
    )


def _has_paths(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    if not ours or not theirs:
        return not ours
    return all(path in ours or any(wide.endswith("/") and path.startswith(wide) for wide in ours) for path in theirs)


def _has_some_of(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    # Of protocols: a client that offers any of theirs then offers one of ours.
    if not ours or not theirs:
        return not ours
    return set(theirs) <= set(ours)


def _has_networks(ours: tuple[_Network, ...] | None, theirs: tuple[_Network, ...] | None) -> bool:
    if ours is None or theirs is None:
        return ours is None
    return all(
        any(
            network.version == wide.version and wide.prefixlen <= network.prefixlen and network.network_address in wide
            for wide in ours
        )
        for network in theirs
    )


def _has_condition(ours: Condition, theirs: Condition) -> bool:
    if ours == _ALWAYS:
        return True
    return (
        _has_hosts(ours.hosts, theirs.hosts)
        and _has_paths(ours.paths, theirs.paths)
        and _has_some_of(ours.path_regexes, theirs.path_regexes)
        and _has_some_of(ours.methods, theirs.methods)
        and set(ours.headers) <= set(theirs.headers)
        and set(ours.queries) <= set(theirs.queries)
        and set(ours.cookies) <= set(theirs.cookies)
        and _has_networks(_networks(ours.clients), _networks(theirs.clients))
        and set(ours.every) <= set(theirs.every)
        and (not ours.some or ours.some == theirs.some)
        and set(ours.none) <= set(theirs.none)
    )
