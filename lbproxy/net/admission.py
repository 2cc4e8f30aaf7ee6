"""How many clients may be here: per process, per listener and per client address.

Owns the counts and the verdicts; refuses to know sockets. Being full pauses accepting, so that the kernel's queue
holds the next ones; a single address that takes too much is turned away instead.
"""

from __future__ import annotations

import ipaddress
import math

from lbproxy import errors
from lbproxy.addresses import NetworkSet
from lbproxy.errors import Outcome
from lbproxy.model import ListenerSettings

# Below this share of a listener's maximum nobody's share is looked at; above it, one address may have so much.
_PRESSURE = 0.8
_SHARE = 0.1


def client_group(ip: str) -> str:
    """Who counts as one client: an IPv4 address, an IPv6 /64 (one subscriber's network), all of a UNIX socket ("")."""
    if ":" not in ip:
        return ip
    return str(ipaddress.IPv6Network((ip, 64), strict=False).network_address)


class Total:
    """The sessions of the process and their limit."""

    __slots__ = ("limit", "sessions")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sessions = 0

    @property
    def full(self) -> bool:
        """Whether no further session may begin."""
        return self.sessions >= self.limit


class Admission:
    """The clients of one listener. `sessions` are under way, `accepted` and `refused` (by reason) count since start."""

    __slots__ = ("_by_client", "_settings", "_total", "accepted", "refused", "sessions")

    def __init__(self, settings: ListenerSettings, total: Total) -> None:
        self._settings = settings
        self._total = total
        self._by_client: dict[str, int] = {}
        self.sessions = 0
        self.accepted = 0
        self.refused: dict[str, int] = {}

    def configure(self, settings: ListenerSettings) -> None:
        """Go by other limits and lists from now on; who is in stays in."""
        self._settings = settings

    @property
    def full(self) -> bool:
        """Whether accepting should pause."""
        limit = self._settings.max_connections
        return self._total.full or (limit is not None and self.sessions >= limit)

    def entered(self) -> None:
        """A connection was accepted."""
        self.sessions += 1
        self.accepted += 1
        self._total.sessions += 1

    def left(self, client: str | None) -> None:
        """A connection has ended; `client` is the address that was admitted, None when it never came to that."""
        self.sessions -= 1
        self._total.sessions -= 1
        if client is not None:
            group = client_group(client)
            count = self._by_client[group] - 1
            if count:
                self._by_client[group] = count
            else:
                del self._by_client[group]

    def admit(self, client: str) -> Outcome | None:
        """Count `client` in (to be told to `left` later), or say why not."""
        settings = self._settings
        if not allowed(client, settings.allow, settings.deny):
            return errors.DENIED
        group = client_group(client)
        count = self._by_client.get(group, 0)
        if count >= self._share(client):
            return errors.LIMITED
        self._by_client[group] = count + 1
        return None

    def refuse(self, reason: str) -> None:
        """Count a connection that was turned away."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _share(self, client: str) -> float:
        settings = self._settings
        if settings.max_connections_per_client is not None:
            return settings.max_connections_per_client
        maximum = min(settings.max_connections or math.inf, self._total.limit)
        if self.sessions < _PRESSURE * maximum:
            return math.inf
        trusted = settings.proxy_from
        return math.inf if trusted is not None and client in trusted else max(1, int(_SHARE * maximum))


def allowed(client: str, allow: NetworkSet | None, deny: NetworkSet | None) -> bool:
    """Whether the lists let `client` in: not denied, and on the allow list where there is one."""
    if deny is not None and client in deny:
        return False
    return allow is None or client in allow
