"""A reactor that is turned by hand, and a relay between two real connections on it."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import Outcome
from lbproxy.model import BackendSettings, PoolSettings, Timeouts
from lbproxy.net.accepted import AcceptedSide
from lbproxy.net.dialing import target_of
from lbproxy.net.polling import StockPoller
from lbproxy.net.reactor import ProxyReactor
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.sites import Site
from lbproxy.net.worker import Worker
from lbproxy.preamble import ClientHello
from lbproxy.routing import Route
from lbproxy.session.arrival import Arrival
from lbproxy.session.conversation import Conversation
from lbproxy.session.http_seams import Front
from lbproxy.session.phases import DATA, OVER
from lbproxy.session.record import RelayRecord, record_of
from lbproxy.session.relay import Relay
from lbproxy.session.seams import Opening

RESET = struct.pack("ii", 1, 0)
TURNS = 2000


@contextmanager
def hand_reactor() -> Iterator[ProxyReactor]:
    """A ProxyReactor that is neither installed nor run."""
    reactor = ProxyReactor()
    try:
        yield reactor
    finally:
        for left in reactor.removeAll():
            if hasattr(left, "close"):
                left.close()
        for call in reactor.getDelayedCalls():
            call.cancel()
        for waker in reactor._internalReaders:  # Twisted never closes its own pipe
            waker.connectionLost(None)
        reactor.epoll.close()


def turn(reactor: ProxyReactor, until: Callable[[], object] | None = None) -> None:
    """Turn until something is so; without `until`, until nothing happens any more (as far as that can be seen)."""
    if until is None:
        for _ in range(5):
            reactor.runUntilCurrent()
            reactor.doIteration(0.001)
        return
    for _ in range(TURNS):
        if until():
            return
        reactor.runUntilCurrent()
        reactor.doIteration(0.005)
    raise AssertionError("it did not come to that")


def tcp_listener(family: int = socket.AF_INET, backlog: int = 50) -> socket.socket:
    """A listening socket of somebody else, on a port of its own."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.listen(backlog)
    return sock


def tcp_pair(send: int = 0, receive: int = 0) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection: theirs (with a receive buffer of so much), ours (with such a send buffer)."""
    with tcp_listener() as listening:
        if send:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send)
        theirs = socket.socket()
        if receive:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        theirs.connect(listening.getsockname())
        ours, _ = listening.accept()
    theirs.setblocking(False)
    ours.setblocking(False)
    return theirs, ours


def take_all(sock: socket.socket, most: int = 1 << 30) -> tuple[bytes, bool]:
    """What can be read now, and whether FIN came. A reset raises."""
    got = bytearray()
    while len(got) < most:
        try:
            data = sock.recv(min(65536, most - len(got)))
        except BlockingIOError:
            return bytes(got), False
        if not data:
            return bytes(got), True
        got += data
    return bytes(got), False


def put(sock: socket.socket, data: bytes) -> int:
    """Send what can be sent now."""
    sent = 0
    while sent < len(data):
        try:
            sent += sock.send(data[sent:])
        except BlockingIOError:
            break
    return sent


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


class RigGate:
    """A listener that lets everybody in."""

    name = "rig"

    front: Front

    def __init__(self, route: Route) -> None:
        self.sessions = 0
        self.inside: list[str] = []
        self.opening = Opening()
        self.only_route: Route | None = route
        self.handshakes: list[tuple[str, str]] = []
        self.complaints: list[tuple[str, str]] = []
        self.site: Site | None = None

    def find_route(self, client_ip: str, server_name: str | None, protocols: tuple[bytes, ...]) -> Route | None:
        raise AssertionError("there is only one route")

    def secure(self, session: Arrival, hello: ClientHello) -> None:
        assert isinstance(session.client, AcceptedSide)
        assert self.site is not None
        session.client.ask_handshake(self.site)

    def handshake_ended(self, session: Arrival, result: str, message: str) -> None:
        self.handshakes.append((result, message))

    def complain(self, session: Arrival, word: str, message: str) -> None:
        self.complaints.append((word, message))

    def admit(self, client_ip: str) -> Outcome | None:
        self.inside.append(client_ip)
        return None

    def left(self, client_ip: str | None) -> None:
        self.sessions -= 1


class Rig:
    """A worker with a clock in the test's hand, one pool, and sessions on real sockets. It fills `Balancer`."""

    def __init__(self, reactor: ProxyReactor, *, stock: bool = False, **timeouts: float) -> None:
        self.reactor = reactor
        self.now = 1000.0
        self.records: list[RelayRecord] = []
        self.faults: list[BaseException] = []
        self.avoided: list[str] = []
        self.targets: dict[str, tuple[int, Any] | None] = {}
        self.listening: list[socket.socket] = []
        self.pools: dict[str, Pool] = {}
        self.tls: ClientTls | None = None
        self.gate = RigGate(Route("web", "", 0, 5, Timeouts(**timeouts)))
        self.worker = Worker(reactor, self, self._ended, self.faults.append, buffers=1 << 20, clock=lambda: self.now)
        if stock:
            self.worker.poller = StockPoller(reactor)
        self.sockets: list[socket.socket] = []

    def backends(self, count: int = 1, receive: int = 0, **settings: Any) -> Pool:
        """Have a pool of so many listening backends, named "b0" and so on."""
        made = []
        for number in range(count):
            listening = tcp_listener()
            if receive:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            listening.setblocking(False)
            self.listening.append(listening)
            host, port = listening.getsockname()
            made.append(BackendSettings(f"b{number}", Address("ip", host, port)))
        settings.setdefault("policy", "first")
        self.pools["web"] = pool = Pool(PoolSettings("web", tuple(made), **settings), random.Random(1).random, self.now)
        return pool

    # Balancer.

    def target(self, backend: Backend) -> tuple[int, Any] | None:
        return self.targets.get(backend.id, target_of(backend.address))

    def tls_of(self, pool: Pool) -> ClientTls | None:
        return self.tls

    def unreachable(self, backend: Backend) -> None:
        self.avoided.append(backend.id)

    # The script.

    def _ended(self, session: Relay | Conversation, now: float) -> None:
        self.records.append(record_of(session, "", now, 0))

    def accept(self, send: int = 0, receive: int = 0, begin: bool = True) -> tuple[Relay, socket.socket]:
        """A client connects: the session, and the client's end."""
        theirs, ours = tcp_pair(send, receive)
        self.sockets.append(theirs)
        self.gate.sessions += 1
        session = Relay(self.worker, self.gate, ("192.0.2.1", 1), ("192.0.2.2", 2), self.now)
        side = AcceptedSide(self.worker, ours, session)
        if begin:
            session.begin(side)
        return session, theirs

    def answered_by(self, number: int = 0) -> socket.socket:
        """The connection that this backend accepts."""
        found: list[socket.socket] = []

        def accepted() -> bool:
            try:
                found.append(self.listening[number].accept()[0])
            except BlockingIOError:
                return False
            return True

        turn(self.reactor, accepted)
        found[0].setblocking(False)
        self.sockets.append(found[0])
        return found[0]

    def relay(self, send: int = 0, receive: int = 0) -> tuple[Relay, socket.socket, socket.socket]:
        """A client that is joined with a backend: session, client's end, backend's end."""
        session, client = self.accept(send, receive)
        backend = self.answered_by()
        turn(self.reactor, lambda: session.phase == DATA)
        return session, client, backend

    def until_over(self, session: Relay) -> RelayRecord:
        """Turn until the session has left its record."""
        turn(self.reactor, lambda: session.phase == OVER)
        return self.records[-1]

    def passes(self, seconds: float) -> None:
        """Let the clock of the worker go on."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.1)
            self.worker.wheel.advance(self.now)

    def check_clean(self) -> None:
        """After the last session: nothing is held, watched, borrowed or waited for."""
        assert self.faults == []
        assert self.worker.budget.used == 0
        assert self.worker.pipes.in_use == 0
        assert self.worker.sessions() == []
        for one in list(self.worker.lingering):
            one.end()
        assert not self.reactor.descriptors
        assert [pool.active for pool in self.pools.values()] == [0] * len(self.pools)
        assert self.gate.sessions == 0

    def close(self) -> None:
        """Close everything that the test did not."""
        for session in self.worker.sessions():
            session.broken(AssertionError("left over"))
        for sock in (*self.sockets, *self.listening):
            sock.close()
        self.sockets.clear()
        self.listening.clear()
        self.worker.pipes.close()


@contextmanager
def rig(*, stock: bool = False, **timeouts: float) -> Iterator[Rig]:
    """A Rig that closes what it opened."""
    with hand_reactor() as reactor:
        made = Rig(reactor, stock=stock, **timeouts)
        try:
            yield made
        finally:
            made.close()
