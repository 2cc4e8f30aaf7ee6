"""A relay: one TCP client, from its acceptance to its record.

Owns what happens and in which order: header, TLS, route, backend, queue, retries, half-close, reset, deadlines. Refuses
to know sockets: it is told events by its two sides and answers with the few verbs of `session/seams.py`. The bytes
themselves go from side to side in `net/relaying.py` without passing through here.

The phases are in `session/phases.py`, what comes before the route in `session/opening.py`, the clock's part in
`session/deadlines.py`.
"""

from __future__ import annotations

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import Outcome, TryError
from lbproxy.model import Timeouts
from lbproxy.preamble import ClientHello, HeaderReader, HelloReader, ProxyHeader
from lbproxy.routing import Route
from lbproxy.session.deadlines import STALL_LOOKS, expire
from lbproxy.session.introducing import introduction
from lbproxy.session.opening import begin as begin_opening
from lbproxy.session.opening import opening_arrived
from lbproxy.session.phases import CONNECT, DATA, ENDING, HANDSHAKE, HEADER, HELLO, OVER, QUEUE
from lbproxy.session.retrying import Try, may_try_again
from lbproxy.session.seams import ClientSide, Gate, Side, World
from lbproxy.session.secured import TlsFacts

_KEYED = frozenset({"ketama", "maglev", "rendezvous"})
_GONE = {
    HEADER: errors.CLIENT_GONE_IN_HEADER,
    HELLO: errors.CLIENT_GONE_IN_HEADER,
    HANDSHAKE: errors.CLIENT_GONE_IN_HEADER,
    QUEUE: errors.CLIENT_GONE_IN_QUEUE,
    CONNECT: errors.CLIENT_GONE_IN_CONNECT,
    DATA: errors.CLIENT_GONE_IN_DATA,
}

_DEFAULTS = Timeouts()

Endpoint = tuple[str, int]


class Relay:
    """One client's TCP session. Times are monotonic seconds; -1.0 where a phase was never reached.

    `peer` is the socket's address, `source` the client's (the same unless a PROXY header told otherwise),
    `local` the address that was connected to; ports are 0 and hosts "" for UNIX sockets. `closing_at` is when the
    first FIN or the reset came.
    """

    __slots__ = (
        "admitted",
        "backend",
        "backend_side",
        "backend_tls",
        "client",
        "closing_at",
        "connected_at",
        "first_byte_at",
        "first_try_at",
        "gate",
        "header",
        "hello",
        "hello_began",
        "hello_reader",
        "id",
        "introduced",
        "local",
        "opening",
        "outcome",
        "peer",
        "phase",
        "pool",
        "priority",
        "queue_seconds",
        "queued_at",
        "reader",
        "retrying",
        "route",
        "rule",
        "securing_since",
        "served_by",
        "slot",
        "source",
        "started",
        "timeouts",
        "timer",
        "tls",
        "tls_error",
        "tried",
        "tries",
        "try_began",
        "watched_over",
        "world",
    )

    def __init__(self, world: World, gate: Gate, peer: Endpoint, local: Endpoint, now: float) -> None:
        self.world = world
        self.gate = gate
        self.opening = gate.opening
        self.peer = peer
        self.source = peer
        self.local = local
        self.started = now
        self.admitted: str | None = None
        self.client: ClientSide | None = None
        self.backend_side: Side | None = None
        self.id = ""
        self.phase = CONNECT
        self.outcome: Outcome = errors.OK
        self.timer = ""
        self.rule = ""
        self.slot = -1
        self.route: Route | None = None
        self.pool: Pool | None = None
        self.timeouts = _DEFAULTS
        self.priority = 5
        self.backend: Backend | None = None
        self.served_by: Backend | None = None
        self.tried: tuple[Backend, ...] = ()
        self.tries: list[Try] | None = None
        self.retrying = False
        self.watched_over = False
        self.reader: HeaderReader | None = None
        self.header: ProxyHeader | None = None
        self.hello_reader: HelloReader | None = None
        self.hello: ClientHello | None = None
        self.hello_began = self.securing_since = -1.0
        self.tls: TlsFacts | None = None
        self.backend_tls: TlsFacts | None = None
        self.tls_error = ""
        self.introduced = False
        self.queued_at = -1.0
        self.queue_seconds = 0.0
        self.first_try_at = self.try_began = self.connected_at = self.first_byte_at = self.closing_at = -1.0

    @property
    def key(self) -> bytes | None:
        """What a hash policy goes by: the client's address. See Waiter."""
        if self.pool is None or self.pool.settings.policy not in _KEYED or not self.source[0]:
            return None
        return self.source[0].encode()

    # Beginning.

    def begin(self, client: ClientSide) -> None:
        """Start with an accepted `client`, admitted already unless a PROXY header comes first and tells who asks for
        admission.
        """
        self.client = client
        if self.opening.plain:
            self.admitted = self.peer[0]
            self.choose_route()
        else:
            begin_opening(self, client)

    def arrived(self) -> None:
        """The client sent bytes while no backend was joined; they are kept by its side."""
        if self.phase in (HEADER, HELLO) and self.client is not None:
            opening_arrived(self, self.client)

    def refuse_handshake(self, word: str, message: str, answer: bytes) -> None:
        """The client is turned away before OpenSSL hears of it; `answer` tells it why."""
        client = self.client
        assert client is not None  # nobody else is asked to be refused
        client.take_kept()
        if answer:
            client.write(answer)
        self.handshake_failed(word, message)

    def handshake_failed(self, word: str, message: str) -> None:
        """TLS with the client came to nothing."""
        self.tls_error = word
        self.gate.handshake_ended(self, word, message)
        self.over(errors.TLS_HANDSHAKE, gently=True)

    def gave_way(self) -> None:
        """The client let us wait within its handshake while others waited for their turn."""
        self.time_out("tls_handshake", errors.TLS_HANDSHAKE_TIMEOUT)

    def secured(self, facts: TlsFacts) -> None:
        """TLS with the client stands."""
        self.tls = facts
        self.gate.handshake_ended(self, "resumed" if facts.resumed else "full", "")
        self.choose_route()

    @property
    def server_name(self) -> str | None:
        """The name that the client asked for, None when it named none."""
        if self.hello is not None:
            return self.hello.server_name
        return None if self.header is None else self.header.authority

    @property
    def agreed(self) -> bool:
        """Whether `protocols` is what client and proxy have agreed on, not just an offer."""
        return self.tls is not None or self.hello is None

    @property
    def protocols(self) -> tuple[bytes, ...]:
        """The protocols that routes go by: the one agreed on, else those that are offered."""
        if self.tls is not None:
            return (self.tls.alpn.encode("ascii", "backslashreplace"),) if self.tls.alpn else ()
        if self.hello is not None:
            return self.hello.alpn
        return (self.header.alpn,) if self.header is not None and self.header.alpn else ()

    def choose_route(self) -> None:
        """All is known that a route goes by."""
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
        self.world.factory.connect(self, self.world.clock())

    # Finding a backend.

    def none_taken(self, refusal: Outcome | None, now: float) -> None:
        """The pool gave no backend: because of `refusal`, or (None) because all are full."""
        if refusal is None:
            assert self.pool is not None
            refusal = self.pool.enqueue(self, now)
            if refusal is None:
                self.phase = QUEUE
                self.queued_at = now
                self.world.wheel.sooner(self, self.timeouts.queue)
                return
        self.over(self._last_error(refusal))

    def granted(self, backend: Backend, now: float) -> None:
        """See Waiter: the queue found a place."""
        self.queue_seconds += now - self.queued_at
        self.backend = backend
        self.phase = CONNECT
        if self.tries and not self._may_try_again(now):
            self.over(self._last_error(errors.QUEUE_TIMEOUT))
            return
        self.world.factory.dial(self, now)

    def dropped(self, outcome: Outcome, now: float) -> None:
        """See Waiter: the queue gave up on this session."""
        self.over(outcome)

    def try_begins(self, now: float) -> None:
        """The held backend is dialled now."""
        self.phase = CONNECT
        self.try_began = now
        self.securing_since = -1.0
        self.introduced = False
        if self.first_try_at < 0:
            self.first_try_at = now

    def dialling(self, side: Side) -> None:
        """The try is under way; `connected` or `dial_failed` follows."""
        self.backend_side = side
        if self.slot < 0 or self.tries is not None or self.queued_at >= 0:
            self.world.wheel.sooner(self, self.timeouts.connect)

    def securing(self) -> None:
        """The backend took the connection, now TLS is agreed on with it."""
        self.securing_since = self.world.clock()
        self.world.wheel.sooner(self, self.timeouts.tls_handshake)

    def introduce(self) -> bytes:
        """What goes to the backend in front of everything else, once."""
        pool = self.pool
        assert pool is not None
        settings = None if self.introduced else pool.settings.send_proxy
        self.introduced = True
        return b"" if settings is None else introduction(self, settings)

    def connected(self, facts: TlsFacts | None = None) -> None:
        """The backend took the connection, and its part in TLS if there are `facts`: join the sides."""
        client, side, pool, backend = self.client, self.backend_side, self.pool, self.backend
        assert client is not None
        assert side is not None
        assert pool is not None
        assert backend is not None
        self.connected_at = now = self.world.clock()
        pool.connected(backend, now, now - self.try_began)
        self._retry_over()
        if self.tries is not None:
            self.tries.append(Try(backend.id, str(backend.address), None, now - self.try_began))
        self.phase = DATA
        if self.timeouts.tunnel_idle < self.timeouts.connect:  # else the question about the connect comes soon enough
            self.world.wheel.sooner(self, self.timeouts.tunnel_idle)
        self.backend_tls = facts
        client.join(side, b"" if pool.settings.send_proxy is None else self.introduce())

    def dial_failed(self, error: TryError, detail: str = "") -> None:
        """A try failed, its side is closed: go to another backend, or give up. `detail` says more than the word."""
        pool, backend, now = self.pool, self.backend, self.world.clock()
        assert pool is not None
        assert backend is not None
        # A try that had connected took until then: how long it stood before its reset says nothing about the way there.
        took = (self.connected_at if self.connected_at >= 0 else now) - self.try_began
        if self.tries is None:
            self.tries = []
        elif self.tries and self.tries[-1].error is None:
            self.tries.pop()  # that try had connected, before it was reset
        self.tries.append(Try(backend.id, str(backend.address), error, took, detail))
        self.tried = (*self.tried, backend)
        self.backend = self.backend_side = None
        self.connected_at = -1.0
        self.watched_over = False
        self._retry_over()
        if error.counts:
            pool.failed(backend, now, took)
            self.world.factory.unreachable(backend)
        pool.give_back(backend, now)
        if not self._may_try_again(now) or not pool.may_retry():
            self.over(error.outcome)
            return
        pool.retry_began()
        self.retrying = True
        self.phase = CONNECT
        self.world.factory.connect(self, now)

    def _may_try_again(self, now: float) -> bool:
        assert self.pool is not None
        return may_try_again(
            made=len(self.tries) if self.tries else 1,
            limit=self.pool.settings.tries,
            since_first=now - self.first_try_at,
            window=self.timeouts.try_window,
        )

    def _last_error(self, otherwise: Outcome) -> Outcome:
        """After failed tries the last error decides how the session ended."""
        error = self.tries[-1].error if self.tries else None
        return otherwise if error is None else error.outcome

    def _retry_over(self) -> None:
        if self.retrying and self.pool is not None:
            self.retrying = False
            self.pool.retry_ended()

    def unique_id(self) -> str:
        """The name of this session, the same in its record and in what backends are told."""
        if not self.id:
            self.id = self.world.new_id()
        return self.id

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
                self._breaks_rules(*broken)
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
        if not client.bytes_in and not side.bytes_in and not client.finished and self._may_try_again(now):
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

    def _breaks_rules(self, word: str, message: str) -> None:
        self.tls_error = word
        if word == "control_flood":
            self.rule = "L8"
        self.gate.complain(self, word, message)

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

    def kill(self, outcome: Outcome) -> None:
        """End now, with a reset: nobody may take a cut stream for a whole one."""
        if self.phase != OVER:
            self.over(outcome, reset=True)

    def broken(self, problem: BaseException) -> None:
        """A fault of ours: this session ends, no other does."""
        self.world.fault(problem)
        self.kill(errors.INTERNAL)

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
        if self.phase in (HELLO, HANDSHAKE) and self.opening.tls and not self.tls_error:
            gone = outcome is errors.CLIENT_GONE_IN_HEADER
            self.tls_error = "timeout" if self.timer else "client_gone" if gone else "cut"
            self.gate.handshake_ended(self, self.tls_error, "")
        self.phase = OVER
        self.outcome = outcome
        world = self.world
        world.wheel.discard(self)
        if gently and self.client is not None:
            self.client.close_gently()
        for side in (self.client, self.backend_side):
            if side is None:
                continue
            if reset:
                side.abort()
            else:
                side.close()
        now = world.clock()
        if queued and self.pool is not None:
            self.queue_seconds += now - self.queued_at
            self.pool.leave(self)
        self._retry_over()
        self._give_back(now)
        self.gate.left(self.admitted)
        world.ended(self, now)
        # Sides and session know each other; without this only the garbage collector could free them.
        self.client = self.backend_side = None
