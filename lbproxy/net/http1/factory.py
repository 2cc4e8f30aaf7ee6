"""Finds the connection on which a request goes to its backend: one that waits, else a new one."""

from __future__ import annotations

from typing import Any

from lbproxy.addresses import Address
from lbproxy.errors import NO_BACKEND
from lbproxy.net.backend import BackendSide, Balancer, ProxyClientFactory
from lbproxy.net.http1.backend import BackendConnection, BackendShared
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.clients import ClientTls
from lbproxy.session.exchange import Exchange
from lbproxy.session.seeking import Seeker


class HttpClientFactory(ProxyClientFactory):
    """As its base, for exchanges."""

    __slots__ = ()
    _shared: BackendShared

    def __init__(self, balancer: Balancer, shared: BackendShared) -> None:
        super().__init__(balancer, shared)

    def connect(self, session: Seeker, now: float) -> None:
        """See Factory in session/seams.py."""
        assert isinstance(session, Exchange)
        pool = session.pool
        assert pool is not None  # a session looks for a backend once it has a route
        backend = session.take(now)
        if backend is None:
            session.none_taken(NO_BACKEND if session.strictly_bound else pool.refusal(session.tried), now)
            return
        session.backend = backend
        self.dial(session, now)

    def dial(self, session: Seeker, now: float) -> None:
        """See Factory in session/seams.py."""
        assert isinstance(session, Exchange)
        backend = session.backend
        assert backend is not None
        idle = self._shared.idle
        pool = session.pool
        # A connection that waits was opened without a PROXY header: it cannot name this client (threats.md P7).
        if idle.count and (pool is None or pool.settings.send_proxy is None):
            tls = None if pool is None or pool.settings.tls is None else self._balancer.tls_of(pool)
            side = idle.take(backend, tls, now, sure=session.daring)
            if side is not None:
                backend.reuses_total += 1
                session.reuse(side, now)
                return
        self.dial_fresh(session, now)

    def _side(self, sock: Socket, session: Any, target: Any, tls: ClientTls | None, address: Address) -> BackendSide:
        return BackendConnection(self._shared, sock, session, target, tls, address)
