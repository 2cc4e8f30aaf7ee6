"""Accepting clients.

A listener has one port per listening socket. Owns when to accept, when to pause, and who is turned away at the door;
refuses to know what becomes of a client after that.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lbproxy.errors import INTERNAL, Outcome
from lbproxy.http.forwarding import Introducer
from lbproxy.http.hsts import hsts_field
from lbproxy.http.request_head import RequestReader
from lbproxy.model import ListenerSettings, Timeouts
from lbproxy.model_http import HttpSettings
from lbproxy.net.accepted import AcceptedSide
from lbproxy.net.admission import Admission, Total
from lbproxy.net.http1.client import ClientConnection
from lbproxy.net.polling import READ
from lbproxy.net.sockets import Socket, accept
from lbproxy.net.tls.complaints import Complaints
from lbproxy.net.tls.sites import Refusal, Sites
from lbproxy.net.worker import Worker
from lbproxy.preamble import ClientHello
from lbproxy.routing import HttpRoutes, ListenerRoutes, Route
from lbproxy.session.arrival import Arrival, Endpoint
from lbproxy.session.conversation import Conversation
from lbproxy.session.http_seams import Front
from lbproxy.session.relay import Relay
from lbproxy.session.seams import Opening
from lbproxy.session.sticking import cookie_names

# Accepted in one go at the most, so that a storm of new clients does not starve those who are here.
_ACCEPTS = 32
# How long to pause when descriptors or memory ran out (seconds), and how often to say so.
_PAUSE = 0.25
_SAY_AGAIN = 10.0
# That client is gone, the next may not be; see accept(2).
_GONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.EINTR,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    }
)
_EMPTY = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})


class Listener:
    """The ports of one name, with their limits and routes. It is the `Gate` of its sessions."""

    log = Logger()

    def __init__(
        self,
        settings: ListenerSettings,
        routes: ListenerRoutes | HttpRoutes,
        worker: Worker,
        total: Total,
        timeouts: Timeouts,
        sites: Sites | None = None,
    ) -> None:
        """`timeouts` are the clocks until a route is known. `sites` are what TLS is ended with, None for no TLS."""
        self.name = settings.name
        self.worker = worker
        self.admission = Admission(settings, total)
        self.ports: list[Port] = []
        worker.when_room.append(self.resume)
        self.paused_total = 0
        self.handshakes: Counter[str] = Counter()
        self._complaints = Complaints(settings.name, worker.clock)
        self._said = float("-inf")
        self.only_route: Route | None = None
        self.configure(settings, routes, timeouts, sites)

    def configure(
        self,
        settings: ListenerSettings,
        routes: ListenerRoutes | HttpRoutes,
        timeouts: Timeouts,
        sites: Sites | None = None,
    ) -> None:
        """Go by other settings from now on, binds apart. What has begun goes on as it began; the next request of a
        conversation goes by the new ones.
        """
        self.settings = settings
        self.sites = sites
        header, tls = settings.proxy_from is not None, sites is not None
        hello = False
        self.http = isinstance(routes, HttpRoutes)
        if isinstance(routes, HttpRoutes):
            self.front = self._front(settings.http, routes, timeouts, secure=tls)
            self.routes = ListenerRoutes(())
            self.only_route = None
        else:
            self.routes = routes
            self.only_route = routes.only
            hello = not tls and routes.by_name
        self.opening = Opening(header, hello, tls, timeouts, plain=not (header or hello or tls))
        self.admission.configure(settings)
        self.resume()

    def _front(self, settings: HttpSettings, routes: HttpRoutes, timeouts: Timeouts, *, secure: bool) -> Front:
        worker = self.worker
        hsts = settings.hsts
        return Front(
            settings,
            routes,
            RequestReader(settings, secure=secure),
            Introducer(settings, worker.instance, worker.ids),
            secure,
            hsts_field(hsts, settings.hsts_subdomains)[2] if secure and hsts is not None else b"",
            {page.status: page for page in settings.error_pages},
            timeouts,
            self._belongs,
            cookie_names(pool.settings for pool in worker.pools.values()),
        )

    def _belongs(self, server_name: str | None, host: str) -> bool:
        """See Front (threats.md L2)."""
        return self.sites is None or self.sites.alike(server_name, host)

    def use_sites(self, sites: Sites) -> None:
        """End TLS with these for new handshakes; those that have begun go on with what they have."""
        self.sites = sites

    def accept_on(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on exactly these listening sockets from now on. They stay their owner's, who closes them."""
        wanted = set(sockets)
        for port in [port for port in self.ports if port.sock not in wanted]:
            port.stop()
            self.ports.remove(port)
        present = {port.sock for port in self.ports}
        for sock in sockets:
            if sock not in present:
                self.ports.append(Port(self, sock))
        self.resume()

    def close(self) -> None:
        """Stop accepting for good. Sessions go on."""
        self.accept_on(())
        self.worker.when_room.remove(self.resume)

    def pause(self) -> None:
        """Leave new clients in the kernel's queue."""
        for port in self.ports:
            port.pause()

    def resume(self) -> None:
        """Accept again."""
        for port in self.ports:
            port.resume()

    def ran_out(self, problem: OSError) -> None:
        """No descriptor, no memory, or a socket that does not accept: pause, so that this cannot become a busy loop."""
        self.paused_total += 1
        self.worker.make_room()
        self.pause()
        self.worker.reactor.callLater(_PAUSE, self.resume)
        now = self.worker.clock()
        if now - self._said >= _SAY_AGAIN:
            self._said = now
            self.log.warn(
                "listener {name}: cannot accept, {problem}; pausing (sessions under way go on)."
                " Raise the open-file limit or set limits.max_connections lower",
                name=self.name,
                problem=problem.strerror,
            )

    # Gate.

    def find_route(self, client_ip: str, server_name: str | None, protocols: tuple[bytes, ...]) -> Route | None:
        """See Gate."""
        return self.routes.find(client_ip, server_name, [name.decode("latin-1") for name in protocols])

    def secure(self, session: Arrival, hello: ClientHello) -> None:
        """See Gate."""
        side = session.client
        if self.sites is None or not isinstance(side, AcceptedSide):
            session.kill(INTERNAL)  # a reload has taken TLS away since this session began
            return
        site = self.sites.choose(hello)
        if isinstance(site, Refusal):
            session.refuse_handshake(site.word, site.message, site.alert)
        else:
            side.ask_handshake(site)

    def handshake_ended(self, session: Arrival, result: str, message: str) -> None:
        """See Gate."""
        self.handshakes[result] += 1
        if message:
            self.complain(session, result, message)

    def complain(self, session: Arrival, word: str, message: str) -> None:
        """See Gate."""
        self._complaints.complain(session.source[0], word, message)

    @property
    def sessions(self) -> int:
        """See Gate."""
        return self.admission.sessions

    def admit(self, client_ip: str) -> Outcome | None:
        """See Gate."""
        outcome = self.admission.admit(client_ip)
        if outcome is not None:
            self.admission.refuse(outcome.word)
        return outcome

    def left(self, client_ip: str | None) -> None:
        """See Gate."""
        admission = self.admission
        was_full = admission.full
        admission.left(client_ip)
        if was_full:
            self.worker.room_again()


@implementer(IReadDescriptor)
class Port:
    """One listening socket of a listener."""

    __slots__ = ("_family", "_listener", "_local", "fd", "mask", "sock")

    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self._listener = listener
        self.sock: socket.socket | None = sock
        self.fd = sock.fileno()
        self._family = int(sock.family)
        self.mask = 0
        self._local: Endpoint | None = _local_endpoint(sock)

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self.fd if self.sock is not None else -1

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "Port"

    def doRead(self) -> None:
        """See IReadDescriptor: accept who is waiting."""
        listener = self._listener
        admission = listener.admission
        for _ in range(_ACCEPTS):
            if self.sock is None:
                return
            if admission.full:
                listener.worker.make_room()
            if admission.full:
                listener.pause()
                return
            try:
                sock, address = accept(self.sock, self._family)
            except OSError as problem:
                if problem.errno in _GONE:
                    continue
                if problem.errno not in _EMPTY:
                    listener.ran_out(problem)
                return
            self._welcome(sock, address)

    def _welcome(self, sock: Socket, address: Any) -> None:
        listener = self._listener
        admission = listener.admission
        settings = listener.settings
        peer = _endpoint(address)
        senders = settings.proxy_from
        if senders is not None:
            # P1: a header from anybody else would let them choose their address. UNIX peers are local and trusted.
            refusal = None if peer[0] in senders or not peer[0] else "proxy_peer"
        else:
            outcome = admission.admit(peer[0])
            refusal = None if outcome is None else outcome.word
        if refusal is not None:
            admission.refuse(refusal)
            sock.close()
            return
        admission.entered()
        worker = listener.worker
        local = self._local or _endpoint(sock.getsockname())
        if listener.http:
            conversation = Conversation(worker, listener, peer, local, worker.session_time())
            conversation.begin(ClientConnection(worker, sock, conversation))
        else:
            session = Relay(worker, listener, peer, local, worker.session_time())
            session.begin(AcceptedSide(worker, sock, session))

    def doWrite(self) -> None:
        """Ports are never written to."""

    def troubled(self) -> None:
        """See Descriptor: this one never waits for trouble alone."""

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        self.mask = 0
        self.sock = None

    def broken(self, problem: BaseException) -> None:
        """See Descriptor: a fault of ours while accepting; the port goes on."""
        self._listener.worker.fault(problem)

    def pause(self) -> None:
        """Do not accept for now."""
        if self.sock is not None:
            self._listener.worker.poller.watch(self, 0)

    def resume(self) -> None:
        """Accept again."""
        if self.sock is not None:
            self._listener.worker.poller.watch(self, READ)

    def stop(self) -> None:
        """Accept no more; the socket stays open, its owner closes it."""
        if self.sock is not None:
            # Not just forgotten: the socket lives on, here or with systemd, and so would its events.
            self._listener.worker.poller.watch(self, 0)
            self.sock = None


def _endpoint(address: Any) -> Endpoint:
    """Host and port of what accept(2) or getsockname(2) gave; a mapped IPv4 address is unwrapped, UNIX is ("", 0)."""
    if not isinstance(address, tuple):
        return "", 0
    host = address[0]
    if ":" in host:
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        host = host.partition("%")[0]
    return host, address[1]


def _local_endpoint(sock: Socket) -> Endpoint | None:
    """Where clients of this socket connect to, None when that differs from client to client (a wildcard)."""
    endpoint = _endpoint(sock.getsockname())
    return None if endpoint[0] in ("0.0.0.0", "::") else endpoint
