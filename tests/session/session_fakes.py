"""Doubles for the seams of a session, and a conversation to play with them.

Everything a session does is written into one list of words, in order: `talk.did()` gives what was done since the
last call. The pools are real. A side that is asked for something that a closed connection cannot do complains.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import Outcome, TryError
from lbproxy.model import BackendSettings, PoolSettings, Timeouts
from lbproxy.preamble import ClientHello
from lbproxy.routing import Route
from lbproxy.session.arrival import Arrival
from lbproxy.session.http_seams import Front
from lbproxy.session.phases import DATA, OVER
from lbproxy.session.record import RelayRecord, record_of
from lbproxy.session.relay import Relay
from lbproxy.session.seams import Opening, Side

PEER = ("192.0.2.7", 40007)
LOCAL = ("198.51.100.1", 443)
# Far from the end of an idle hour, and unlike any time of a pool that was made at 0.
START = 1000.0


class FakeSide:
    """A side that remembers what it was asked for; the events it would tell are told by the test."""

    def __init__(self, name: str, log: list[str], now: float) -> None:
        self.name = name
        self.bytes_in = 0
        self.dropped = 0
        self.finished = False
        self.shut = False
        self.touched = self.moved = now
        self.held = 0
        self.kept = b""
        self.queued = 0  # in the kernel's send queue
        self.open = True
        self.reading = False
        self.joined: Side | None = None
        self.finishes = 0
        self._log = log

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def keeps(self) -> int:
        return len(self.kept)

    def finish(self) -> None:
        if self.open:
            self.finishes += 1
            self.shut = not self.held
            self._log.append(f"{self.name}.finish")

    def close(self) -> None:
        self._end("close")

    def close_gently(self) -> None:
        self.close()

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        if self.open:
            self.open = False
            self.dropped, self.held = self.held, 0
            self.queued = 0
            self._log.append(f"{self.name}.{how}")

    def gone(self) -> None:
        """The connection is lost: a real side closes itself before it tells."""
        self.open = False
        self.dropped, self.held = self.held, 0
        self.queued = 0

    def still_takes(self) -> bool:
        return False

    def watch_over(self) -> None:
        pass

    def stop_reading(self) -> None:
        self.reading = False
        self._log.append(f"{self.name}.stop_reading")

    def unsent(self) -> int:
        return self.held + self.queued if self.open else 0

    # ClientSide.

    def start_reading(self) -> None:
        self._must_be_open("start_reading")
        self.reading = True
        self._log.append(f"{self.name}.read")

    def take_kept(self) -> bytes:
        kept, self.kept = self.kept, b""
        return kept

    def keep(self, data: bytes) -> None:
        self._must_be_open("keep")
        self.kept = data + self.kept

    def join(self, backend: Side, preamble: bytes) -> None:
        self._must_be_open("join")
        assert isinstance(backend, FakeSide)
        assert backend.open, "joined with a closed side"
        self.joined = backend
        sent = preamble + self.take_kept()
        self._log.append(f"{self.name}+{backend.name}" + (f" {sent!r}" if sent else ""))
        if self.finished:
            backend.finish()

    def part(self) -> None:
        self._must_be_open("part")
        self.joined = None
        self._log.append(f"{self.name}.part")

    def write(self, data: bytes) -> None:
        self._must_be_open("write")
        self._log.append(f"{self.name}<{data!r}")

    def _must_be_open(self, verb: str) -> None:
        assert self.open, f"{verb} on the closed {self.name}"


class FakeWheel:
    """Deadlines that are asked exactly when they are due."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.due: dict[Relay, float] = {}

    def add(self, timed: Relay, delay: float, /) -> None:
        assert timed not in self.due, "added twice"
        timed.slot = 0
        self.due[timed] = self.now + delay

    def sooner(self, timed: Relay, delay: float, /) -> None:
        timed.slot = 0
        self.due[timed] = min(self.due.get(timed, float("inf")), self.now + delay)

    def discard(self, timed: Relay, /) -> None:
        timed.slot = -1
        self.due.pop(timed, None)

    def ask(self, now: float) -> None:
        """Ask everybody who is due by `now`, each once."""
        for timed in [timed for timed, due in self.due.items() if due <= now]:
            if self.due.pop(timed, None) is None:
                continue
            timed.slot = -1
            delay = timed.expire(now)
            if delay is not None and timed.slot < 0:
                self.add(timed, max(0.0, delay))


class FakeGate:
    """A listener; `refusals` says whom it does not admit, `inside` counts whom it did.

    `routes` are by server name. What it was asked for is kept in order: routes in `asked_route`, TLS in `hellos`,
    ends of handshakes in `handshakes`.
    """

    front: Front

    def __init__(self, log: list[str], routes: Mapping[str | None, Route | None]) -> None:
        self.name = "web"
        self.opening = Opening()
        self.only_route: Route | None = None
        self.sessions = 0
        self.refusals: dict[str, Outcome] = {}
        self.inside: list[str] = []
        self.asked_route: list[tuple[str, str | None, tuple[bytes, ...]]] = []
        self.hellos: list[ClientHello] = []
        self.handshakes: list[tuple[str, str]] = []
        self.complaints: list[tuple[str, str]] = []
        self.routes = routes
        self._log = log

    def find_route(self, client_ip: str, server_name: str | None, protocols: tuple[bytes, ...]) -> Route | None:
        self.asked_route.append((client_ip, server_name, protocols))
        return self.routes.get(server_name, self.routes.get(None))

    def secure(self, session: Arrival, hello: ClientHello) -> None:
        assert isinstance(session.client, FakeSide)
        session.client.take_kept()  # it belongs to the handshake
        session.client.bytes_in = 0
        self.hellos.append(hello)
        self._log.append(f"secure {hello.server_name}")

    def handshake_ended(self, session: Arrival, result: str, message: str) -> None:
        self.handshakes.append((result, message))

    def complain(self, session: Arrival, word: str, message: str) -> None:
        self.complaints.append((word, message))

    def admit(self, client_ip: str) -> Outcome | None:
        refusal = self.refusals.get(client_ip)
        if refusal is None:
            self.inside.append(client_ip)
        return refusal

    def left(self, client_ip: str | None) -> None:
        self.sessions -= 1
        if client_ip is not None:
            self.inside.remove(client_ip)
        self._log.append(f"left {client_ip}")


class FakeFactory:
    """Takes backends from the real pool and "dials" them by making a side.

    `sides` are those of each session, in order. `at_once` are the errors that a dial meets before it returns.
    """

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self.sides: dict[Relay, list[FakeSide]] = {}
        self.at_once: dict[str, TryError] = {}
        self.avoided: list[str] = []

    def connect(self, session: Relay, now: float) -> None:
        pool = session.pool
        assert pool is not None
        backend = pool.take(now, session.key, session.tried)
        if backend is None:
            session.none_taken(pool.refusal(session.tried), now)
            return
        session.backend = backend
        self.dial(session, now)

    def dial(self, session: Relay, now: float) -> None:
        backend = session.backend
        assert backend is not None
        self._talk.log.append(f"dial {backend.id}")
        session.try_begins(now)
        error = self.at_once.get(backend.id)
        if error is not None:
            session.dial_failed(error)
            return
        side = FakeSide(backend.id, self._talk.log, now)
        self.sides.setdefault(session, []).append(side)
        session.dialling(side)

    def unreachable(self, backend: Backend) -> None:
        self.avoided.append(backend.id)


def pool_settings(names: str = "a b c", **rest: Any) -> PoolSettings:
    """Pool "web" with backends of these names, chosen in this order."""
    rest.setdefault("policy", "first")
    backends = tuple(
        BackendSettings(name, Address("ip", "203.0.113.1", 9001 + place)) for place, name in enumerate(names.split())
    )
    return PoolSettings(name="web", backends=backends, **rest)


def route_with(**timeouts: float) -> Route:
    """The route of everybody, to pool "web"; the defaults of the timeouts apart."""
    return Route("web", "all", 3, 5, replace(Timeouts(), **timeouts))


def opening_with(*, header: bool = False, hello: bool = False, tls: bool = False, **timeouts: float) -> Opening:
    """What comes before the route, with the defaults of the timeouts apart."""
    return Opening(header, hello, tls, replace(Timeouts(), **timeouts), plain=not (header or hello or tls))


class Conversation:
    """A world with one pool, one listener, and the sessions that `accept` makes. It fills `World`."""

    def __init__(
        self,
        names: str = "a b c",
        *,
        route: Route | None = None,
        timeouts: Mapping[str, float] | None = None,
        **rest: Any,
    ) -> None:
        self.log: list[str] = []
        self.now = START
        self.wheel = FakeWheel(START)
        self.factory = FakeFactory(self)
        self.pool = Pool(pool_settings(names, **rest), random.Random(1).random, START)
        self.pools: dict[str, Pool] = {"web": self.pool}
        self.gate = FakeGate(self.log, {None: route or route_with(**(timeouts or {}))})
        self.records: list[RelayRecord] = []
        self.over: list[Relay] = []
        self.faults: list[BaseException] = []
        self.sessions: list[Relay] = []
        self._clients: dict[Relay, FakeSide] = {}

    # World.

    def clock(self) -> float:
        return self.now

    def new_id(self) -> str:
        return f"id{len(self.sessions)}"

    def ended(self, session: Relay, now: float) -> None:
        self.over.append(session)
        self.log.append(f"record {session.outcome}")
        self.records.append(record_of(session, "2026-01-02T03:04:05.678Z", now, 7))

    def fault(self, problem: BaseException) -> None:
        self.faults.append(problem)

    # The script.

    def did(self) -> list[str]:
        """What was done since the last call."""
        done, self.log[:] = list(self.log), []
        return done

    def accept(
        self,
        *,
        header: float | None = None,
        opening: Opening | None = None,
        peer: tuple[str, int] = PEER,
        local: tuple[str, int] = LOCAL,
    ) -> Relay:
        """A client connects; with `header` it may take so long to send a PROXY header. `opening` says all of it."""
        if opening is None:
            opening = opening_with() if header is None else opening_with(header=True, proxy_header=header)
        self.gate.opening = opening
        self.gate.sessions += 1
        session = Relay(self, self.gate, peer, local, self.now)  # type: ignore[arg-type]  # it speaks no HTTP
        client = FakeSide("client", self.log, self.now)
        self.sessions.append(session)
        self._clients[session] = client
        if not opening.header:
            assert self.gate.admit(peer[0]) is None
        session.begin(client)
        return session

    def joined(self) -> Relay:
        """A client whose bytes go to the first backend; what it took to get there is told."""
        session = self.accept()
        session.connected()
        assert session.phase == DATA
        self.did()
        return session

    def client(self, session: Relay) -> FakeSide:
        return self._clients[session]

    def side(self, session: Relay) -> FakeSide:
        """The side that was dialled last for this session."""
        return self.factory.sides[session][-1]

    def sends(self, session: Relay, data: bytes) -> None:
        """The client sends before it is joined."""
        client = self.client(session)
        client.bytes_in += len(data)
        client.touched = self.now
        client.kept += data
        session.arrived()

    def answers(self, session: Relay, count: int = 100) -> None:
        """The backend sends."""
        side = self.side(session)
        first = not side.bytes_in
        side.bytes_in += count
        side.touched = self.now
        if first:
            session.first_bytes(side)

    def asks(self, session: Relay, count: int = 100) -> None:
        """The client sends when it is joined."""
        client = self.client(session)
        first = not client.bytes_in
        client.bytes_in += count
        client.touched = self.now
        if first:
            session.first_bytes(client)

    def ends(self, session: Relay, side: FakeSide) -> None:
        """This side sends FIN."""
        side.finished = True
        session.ended(side)

    def loses(self, session: Relay, side: FakeSide, *, truncated: bool = False) -> None:
        """This side is reset, or (`truncated`) ends without a close_notify."""
        side.gone()
        session.lost(side, truncated=truncated)

    def refuses(self, session: Relay, error: TryError = TryError.REFUSED, detail: str = "") -> None:
        """The backend that is being dialled does not take the connection."""
        self.side(session).gone()
        session.dial_failed(error, detail)

    def stalls(self, session: Relay, side: FakeSide, count: int = 1000) -> None:
        """The kernel of this side takes no more: so much is held."""
        if not side.held:
            side.moved = self.now
        side.held += count
        session.stalled()

    def drains(self, session: Relay, side: FakeSide) -> None:
        """The kernel of this side has taken what was held."""
        side.held = 0
        side.moved = self.now
        side.shut = side.shut or side.finishes > 0
        session.flushed()

    def passes(self, seconds: float, step: float = 0.1) -> None:
        """Time passes; whoever is due is asked, in steps like those of the real wheel."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + step, until)
            self.wheel.now = self.now
            self.wheel.ask(self.now)

    def busy(self, backend_id: str) -> Backend:
        """Somebody else takes a lease on this backend."""
        backend = self.pool.take(self.now, None, self.others(backend_id))
        assert backend is not None
        assert backend.id == backend_id
        return backend

    def others(self, backend_id: str) -> Collection[Backend]:
        return [backend for backend in self.pool.backends.values() if backend.id != backend_id]

    def check_clean(self) -> None:
        """Everything was given back: what must hold once all sessions are over."""
        assert all(session.phase == OVER for session in self.sessions)
        assert (self.pool.active, self.pool.queued, self.pool.retries) == (0, 0, 0)
        assert [backend.active for backend in self.pool.backends.values()] == [0] * len(self.pool.backends)
        assert self.over == sorted(self.over, key=self.over.index)
        assert len(self.over) == len(set(self.over)) == len(self.sessions)
        assert self.gate.inside == []
        assert self.gate.sessions == 0
        assert not self.wheel.due, "an ended session is still in the wheel"
        sides = [*self._clients.values(), *(side for sides in self.factory.sides.values() for side in sides)]
        assert not any(side.open for side in sides)


__all__ = [
    "LOCAL",
    "PEER",
    "START",
    "Conversation",
    "FakeSide",
    "Timeouts",
    "opening_with",
    "pool_settings",
    "route_with",
]
