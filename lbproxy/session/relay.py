"""A relay: one TCP client, from its acceptance to its record.

Owns what happens and in which order: route, backend, half-close, reset, deadlines; what comes before the route is in
`session/arrival.py`, the way to a backend in `session/seeking.py`. Refuses to know sockets: it is told events by its
two sides and answers with the few verbs of `session/seams.py`. The bytes themselves go from side to side in
`net/relaying.py` without passing through here.

The phases are in `session/phases.py`, the clock's part in `session/deadlines.py`.
"""

from __future__ import annotations

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import Outcome, TryError
from lbproxy.model import SendProxySettings
from lbproxy.routing import Route
from lbproxy.session.arrival import Arrival, Endpoint
from lbproxy.session.deadlines import STALL_LOOKS, expire
from lbproxy.session.introducing import introduction
from lbproxy.session.phases import CONNECT, DATA, ENDING, HANDSHAKE, HEADER, HELLO, OVER, QUEUE
from lbproxy.session.retrying import Try
from lbproxy.session.seams import Factory, Gate, Side, World
from lbproxy.session.secured import TlsFacts
from lbproxy.session.seeking import Seeker

_KEYED = frozenset({"ketama", "maglev", "rendezvous"})
_GONE = {
    HEADER: errors.CLIENT_GONE_IN_HEADER,
    HELLO: errors.CLIENT_GONE_IN_HEADER,
    HANDSHAKE: errors.CLIENT_GONE_IN_HEADER,
    QUEUE: errors.CLIENT_GONE_IN_QUEUE,
    CONNECT: errors.CLIENT_GONE_IN_CONNECT,
    DATA: errors.CLIENT_GONE_IN_DATA,
}


class Relay(Arrival, Seeker):
    """One client's TCP session; see Arrival. `closing_at` is when the first FIN or the reset came."""

    __slots__ = (
        "backend",
        "backend_side",
        "backend_tls",
        "closing_at",
        "connected_at",
        "first_byte_at",
        "first_try_at",
        "introduced",
        "pool",
        "priority",
        "queue_seconds",
        "queued_at",
        "retrying",
        "route",
        "securing_since",
        "served_by",
        "tried",
        "tries",
        "try_began",
        "watched_over",
    )

    # Each relay has a connection of its own.
    reused = False

    def __init__(self, world: World, gate: Gate, peer: Endpoint, local: Endpoint, now: float) -> None:
        super().__init__(world, gate, peer, local, now)
        self.backend_side: Side | None = None
        self.route: Route | None = None
        self.pool: Pool | None = None
        self.priority = 5
        self.backend: Backend | None = None
        self.served_by: Backend | None = None
        self.tried: tuple[Backend, ...] = ()
        self.tries: list[Try] | None = None
        self.retrying = False
        self.watched_over = False
        self.securing_since = -1.0
        self.backend_tls: TlsFacts | None = None
        self.introduced = False
        self.queued_at = -1.0
        self.queue_seconds = 0.0
        self.first_try_at = self.try_began = self.connected_at = self.first_byte_at = self.closing_at = -1.0

    @property
    def key(self) -> bytes | None:
        """What a hash policy goes by: the client's address, or the name that it asked for. See Waiter."""
        if self.pool is None or self.pool.settings.policy not in _KEYED:
            return None
        text = self.server_name if self.pool.settings.hash_key == "sni" else self.source[0]
        return text.encode() if text else None

    # Beginning: see Arrival.

    def proceed(self) -> None:
        """See Arrival: all is known that a route goes by."""
        gate = self.gate
        route = gate.only_route or gate.find_route(self.source[0], self.server_name, self.protocols)
        if route is None:
            self.over(errors.NO_ROUTE)
            return
        pool = self.world.pools.get(route.pool)
        if pool is None:
            self.over(errors.NO_ROUTE)
            return
        self.route = route
        self.pool = pool
        self.timeouts = timeouts = route.timeouts
        self.priority = route.priority
        client = self.client
        assert client is not None
        if self.opening.plain:
            client.start_reading()
        self.world.wheel.sooner(self, timeouts.connect)
        self.factory.connect(self, self.world.clock())

    # Finding a backend: see Seeker.

    @property
    def factory(self) -> Factory:
        """See Seeker."""
        return self.world.factory

    def within(self, delay: float) -> None:
        """See Seeker."""
        self.world.wheel.sooner(self, delay)

    def give_up(self, outcome: Outcome) -> None:
        """See Seeker."""
        self.over(outcome)

    def introduction(self, settings: SendProxySettings) -> bytes:
        """See Seeker."""
        return introduction(self, settings)

    def dialling(self, side: Side) -> None:
        """See Seeker. A session that has just begun is asked soon enough."""
        self.backend_side = side
        if self.slot < 0 or self.tries is not None or self.queued_at >= 0:
            self.within(self.timeouts.connect)

    def connected(self, facts: TlsFacts | None = None) -> None:
        """The backend took the connection, and its part in TLS if there are `facts`: join the sides."""
        client, side, pool, backend = self.client, self.backend_side, self.pool, self.backend
        assert client is not None
        assert side is not None
        assert pool is not None
        assert backend is not None
        self.connected_at = now = self.world.clock()
        pool.connected(backend, now, now - self.try_began)
        self.note_success(now)
        self.phase = DATA
        if self.timeouts.tunnel_idle < self.timeouts.connect:  # else the question about the connect comes soon enough
            self.world.wheel.sooner(self, self.timeouts.tunnel_idle)
        self.backend_tls = facts
        client.join(side, b"" if pool.settings.send_proxy is None else self.introduce())

    def dial_failed(self, error: TryError, detail: str = "") -> None:
        """See Seeker."""
        self.watched_over = False
        super().dial_failed(error, detail)

    # Bytes and ends.

    def first_bytes(self, side: Side) -> None:
        """The first bytes of a joined side came; those of the backend are its answer."""
        if side is not self.backend_side:
            return
        self.first_byte_at = now = self.world.clock()
        if self.pool is not None and self.backend is not None:
            self.pool.succeeded(self.backend, now)

    def stalled(self) -> None:
        """A side began to hold bytes: somebody reads slowly, and is given `write_stall`."""
        if self.phase == DATA:
            self.world.wheel.sooner(self, self.timeouts.write_stall / STALL_LOOKS)

    def ended(self, side: Side) -> None:
        """A side sent FIN: pass it on behind its data. The other direction goes on."""
        client, backend = self.client, self.backend_side
        if self.phase in (HEADER, HELLO, HANDSHAKE):
            self.over(errors.CLIENT_GONE_IN_HEADER)
        if self.phase != DATA or client is None or backend is None:
            return  # before DATA: join() will find the side finished
        if client.finished and backend.finished and not client.held and not backend.held:
            self.flushed()
            return
        (backend if side is client else client).finish()
        if not (client.finished and backend.finished):
            self.closing_at = self.world.clock()
            self.world.wheel.sooner(self, self.timeouts.half_closed)

    def flushed(self) -> None:
        """A side holds nothing any more; with both ends reached this was the last of it."""
        client, backend = self.client, self.backend_side
        if self.phase != DATA or client is None or backend is None:
            return
        if client.finished and backend.finished and not client.held and not backend.held:
            if self.first_byte_at < 0 and self.pool is not None and self.backend is not None:
                self.pool.succeeded(self.backend, self.world.clock())
            self.over(errors.OK)

    def lost(
        self,
        side: Side,
        *,
        stalled: bool = False,
        truncated: bool = False,
        broken: tuple[str, str] | None = None,
    ) -> None:
        """A side was reset or failed; `stalled` when its kernel gave up waiting for what was sent to be taken,
        `truncated` when TLS ended without saying so, `broken` (a word and a sentence) when its bytes were no TLS.
        """
        if self.phase == ENDING:
            self.over(self.outcome, reset=True)
            return
        if stalled:
            self.timer = "write_stall"
        if side is not self.backend_side:
            if self._all_said(side):
                self.over(errors.OK, reset=True)
                return
            outcome = errors.WRITE_STALL_CLIENT if stalled else _GONE.get(self.phase, errors.CLIENT_GONE_IN_DATA)
            if truncated and self.phase == DATA:
                outcome = errors.CLIENT_TRUNCATED
            if broken is not None:
                outcome = errors.CLIENT_TLS
                self.breaks_rules(*broken)
            self._end_with_reset(self.backend_side, outcome)
            return
        client, pool, backend = self.client, self.pool, self.backend
        assert client is not None
        assert pool is not None
        if self.phase != DATA or backend is None:
            self._end_with_reset(client, errors.BACKEND_CUT)
            return
        side.close()
        now = self.world.clock()
        if not client.bytes_in and not side.bytes_in and not client.finished and self.may_try_again(now):
            # Proof for a retry: no byte of this client was ever read, so none can have been sent.
            client.part()
            if broken is None:
                self.dial_failed(TryError.RESET)
            else:
                self.dial_failed(TryError.TLS, ": ".join(broken))
            return
        pool.failed(backend, now, cut=True)
        self._give_back(now)
        cut = (
            errors.BACKEND_TRUNCATED if truncated else errors.BACKEND_CUT if broken is None else errors.BACKEND_TLS_CUT
        )
        self._end_with_reset(client, errors.WRITE_STALL_BACKEND if stalled else cut)

    def _all_said(self, client: Side) -> bool:
        """Whether a client that ended its TLS without saying so had been told everything, and that it was all.

        Most do not wait for more after our close_notify, and some leave it unread, which makes their end a reset.
        """
        backend = self.backend_side
        if self.tls is None or self.phase != DATA or backend is None:
            return False
        return backend.finished and client.shut and not client.dropped

    def _end_with_reset(self, other: Side | None, outcome: Outcome) -> None:
        """Carry a reset over to `other`, after what is already on its way there."""
        if self.phase == OVER:
            return
        self.outcome = outcome
        if self.phase != DATA or other is None or not other.unsent():
            self.over(outcome, reset=True)
            return
        lost = self.client if other is self.backend_side else self.backend_side
        if lost is not None:
            lost.close()
        other.stop_reading()
        self.phase = ENDING
        self.closing_at = self.world.clock()
        self.world.wheel.sooner(self, 0.0)

    @property
    def holds(self) -> int:
        """Bytes that this session makes the process hold."""
        client, backend = self.client, self.backend_side
        return (client.held + client.keeps if client is not None else 0) + (backend.held if backend is not None else 0)

    # Time.

    def expire(self, now: float) -> float | None:
        """See net/wheel.py: act on what is due, tell when to be asked again."""
        return expire(self, now)

    def time_out(self, timer: str, outcome: Outcome) -> None:
        """A deadline has passed: end, and let the record name the timer."""
        self.timer = timer
        self.over(outcome, reset=self.phase == DATA)

    # The end.

    def _give_back(self, now: float) -> None:
        backend, pool = self.backend, self.pool
        if backend is not None and pool is not None:
            self.served_by = backend
            self.backend = None
            pool.give_back(backend, now)

    def over(self, outcome: Outcome, *, reset: bool = False, gently: bool = False) -> None:
        """Close both sides, give everything back, write the record. Nothing happens to a session after this.

        `reset` cuts both sides, `gently` lets the client hear what it was told.
        """
        if self.phase == OVER:
            return
        queued = self.phase == QUEUE
        self.opening_ended(outcome)
        self.phase = OVER
        self.outcome = outcome
        self.world.wheel.discard(self)
        if gently and self.client is not None:
            self.client.close_gently()
        for side in (self.client, self.backend_side):
            if side is None:
                continue
            if reset:
                side.abort()
            else:
                side.close()
        now = self.world.clock()
        if queued and self.pool is not None:
            self.queue_seconds += now - self.queued_at
            self.pool.leave(self)
        self.retry_over()
        self.account(now)
        # Sides and session know each other; without this only the garbage collector could free them.
        self.client = self.backend_side = None

    def account(self, now: float) -> None:
        """Give everything back and have the record written."""
        self._give_back(now)
        self.gate.left(self.admitted)
        self.world.ended(self, now)
