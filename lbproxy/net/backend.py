"""The backend's end of a session: which backend, and the connection to it.

ProxyClientFactory asks the balancer's pools for a backend and dials it; BackendSide is the connection, from the dial
on. Neither decides anything about retries: what comes of a try is told to the session, which may ask again.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, Protocol

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import TryError
from lbproxy.net.dialing import connect_error, open_connection
from lbproxy.net.polling import WRITE
from lbproxy.net.relaying import RelayShared, RelaySide
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.failures import TlsFailure
from lbproxy.session.seeking import Seeker

_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EALREADY})


class Balancer(Protocol):
    """Who owns the pools and knows where their backends are: the BalancerService."""

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools by name."""

    def target(self, backend: Backend) -> tuple[int, Any] | None:
        """Socket family and address to dial now, None while its name has never been resolved."""

    def tls_of(self, pool: Pool) -> ClientTls | None:
        """How TLS is spoken with the backends of `pool`, None where it is not."""

    def unreachable(self, backend: Backend) -> None:
        """The address that `target` gave did not answer; another one of the same name may."""


class BackendSide(RelaySide):
    """The side that we dial. Until it is connected, writability and errors mean the outcome of the connect; with `tls`
    a handshake follows. `address` is the backend's as it is configured.
    """

    __slots__ = ("_address", "_securing", "_target", "_tls", "connecting")

    def __init__(
        self,
        shared: RelayShared,
        sock: Socket,
        session: Any,
        target: Any,
        tls: ClientTls | None,
        address: Address,
    ) -> None:
        super().__init__(shared, sock, session)
        self._target = target
        self._tls = tls
        self._address = address
        self._securing = False
        self.connecting = True

    def doWrite(self) -> None:
        """See IWriteDescriptor."""
        if self.connecting:
            self.look()
        else:
            super().doWrite()

    def look(self) -> None:
        """Ask the kernel how the connect went. Connecting again is the question that no stale event can answer wrong:
        it succeeds, or says EISCONN, only on a connection that stands.
        """
        assert self.sock is not None
        code = self.sock.connect_ex(self._target)
        if code in (0, errno.EISCONN):
            self.connecting = False
            if self._tls is None:
                self.session.connected()
            else:
                self._begin_tls(self._tls)
        elif code not in (errno.EALREADY, errno.EINPROGRESS, errno.EINTR):
            self._failed(connect_error(code))

    def _begin_tls(self, tls: ClientTls) -> None:
        assert self.sock is not None
        self._securing = True
        self.session.securing()
        try:
            channel = tls.begin(self._address, self.sock)
        except TlsFailure as failure:
            self.handshake_over(failure)
            return
        introduction = self.session.introduce()
        if introduction:
            self.write(introduction)
            if self.sock is None:
                return  # the backend was gone, and the session has dealt with it
        self.secure(channel)

    def handshake_over(self, failure: TlsFailure | None) -> None:
        """See SecureTransport."""
        super().handshake_over(failure)
        session, tls, channel = self.session, self._tls, self.channel
        if failure is None and tls is not None and channel is not None:
            try:
                facts = tls.verify(self._address, channel, session.world.clock() - session.securing_since)
            except TlsFailure as problem:
                failure = problem
            else:
                self._securing = False
                session.connected(facts)
                return
        self.close_gently()  # it may learn from the alert what was wrong
        self._failed(TryError.TLS, "" if failure is None else f"{failure.word}: {failure.strerror}")

    def resume_reading(self) -> None:
        """See RelaySide."""
        if not (self.connecting or self._securing):
            super().resume_reading()

    def write_failed(self, problem: OSError) -> None:
        """See RelaySide."""
        if self._securing:
            self.lost(problem)
        else:
            super().write_failed(problem)

    def lost(self, problem: OSError) -> None:
        """See Transport."""
        if self.connecting:
            self._failed(connect_error(problem.errno or errno.ECONNRESET))
        elif self._securing:
            self._failed(TryError.TLS, "closed: the backend closed within the TLS handshake")
        else:
            super().lost(problem)

    def close(self) -> None:
        """See Side."""
        # What TLS 1.3 resumes with comes behind the handshake: nothing was read, nothing is there.
        if self.channel is not None and self._tls is not None and self.bytes_in:
            self._tls.remember(self._address, self.channel)
        super().close()

    def _failed(self, error: TryError, detail: str = "") -> None:
        self.close()
        self.session.dial_failed(error, detail)


class ProxyClientFactory:
    """Makes the backend sides of sessions, with backends that `balancer` chooses."""

    __slots__ = ("_balancer", "_shared")

    def __init__(self, balancer: Balancer, shared: RelayShared) -> None:
        self._balancer = balancer
        self._shared = shared

    def connect(self, session: Seeker, now: float) -> None:
        """See Factory in session/seams.py."""
        pool = session.pool
        assert pool is not None  # a session looks for a backend once it has a route
        backend = pool.take(now, session.key, session.tried)
        if backend is None:
            session.none_taken(pool.refusal(session.tried), now)
            return
        session.backend = backend
        self.dial(session, now)

    def dial(self, session: Seeker, now: float) -> None:
        """See Factory in session/seams.py."""
        self.dial_fresh(session, now)

    def dial_fresh(self, session: Seeker, now: float) -> None:
        """See Factory in session/seams.py."""
        backend = session.backend
        assert backend is not None
        session.try_begins(now)
        pool = session.pool
        tls = None if pool is None or pool.settings.tls is None else self._balancer.tls_of(pool)
        if tls is None and pool is not None and pool.settings.tls is not None:
            session.dial_failed(TryError.TLS, "nothing is there to speak TLS with")  # never in clear instead
            return
        target = self._balancer.target(backend)
        if target is None:
            session.dial_failed(TryError.DNS)
            return
        try:
            sock, code = open_connection(*target)
        except OSError as problem:
            session.dial_failed(connect_error(problem.errno or 0))
            return
        if code not in _UNDER_WAY:
            sock.close()
            session.dial_failed(connect_error(code))
            return
        side = self._side(sock, session, target[1], tls, backend.address)
        session.dialling(side)
        side.watch(WRITE)

    def _side(self, sock: Socket, session: Any, target: Any, tls: ClientTls | None, address: Address) -> BackendSide:
        return BackendSide(self._shared, sock, session, target, tls, address)

    def unreachable(self, backend: Backend) -> None:
        """See Factory in session/seams.py."""
        self._balancer.unreachable(backend)
