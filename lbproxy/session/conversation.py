"""A conversation in HTTP: one client's connection, from its acceptance to its end, with exchanges one after the other.

Owns what is the same for all requests of the connection: who the client is, how many requests it has made, how long it
may be silent, and whether the answer at hand is the last one. Each request with its answer is an exchange of its own.
"""

from __future__ import annotations

import contextlib
from typing import Any

from lbproxy import errors
from lbproxy.errors import Outcome
from lbproxy.http.client_cert import certificate_fields
from lbproxy.http.forwarding import Client
from lbproxy.http.messages import HttpError, RequestHead
from lbproxy.session.account import Account
from lbproxy.session.arrival import Arrival, Endpoint
from lbproxy.session.deadlines import opening_expires
from lbproxy.session.exchange import Exchange
from lbproxy.session.exchange_deadlines import exchange_expires
from lbproxy.session.http_seams import Front, HttpClientSide
from lbproxy.session.phases import OVER, REQUEST, TUNNEL
from lbproxy.session.seams import Gate, Side, World

# Nobody is asked later than this by the wheel, whatever was wanted (seconds; a little less than its turn).
_TURN = 50.0
# What a client that has not asked for anything yet is given when the listener ends (seconds).
_LAST_CHANCE = 2.0


class Conversation(Arrival):
    """One client's HTTP connection; see Arrival.

    `exchange` is the one under way. `requests` counts them. `last` turns True when no further request will be read.
    `waiting_since` is when the last exchange ended, or the conversation began. `look` is a bound of the time until
    the wheel asks, so that most requests need not tell it anything.
    """

    __slots__ = (
        "drained_at",
        "exchange",
        "facts",
        "head_began",
        "last",
        "look",
        "record_memo",
        "requests",
        "side",
        "waiting_since",
    )

    # A conversation has none of these, and its record says so.
    route = None
    pool = None
    backend_side = None
    backend = None
    served_by = None
    backend_tls = None
    tries = None
    connected_at = try_began = first_byte_at = -1.0
    queue_seconds = 0.0

    facts: Client
    side: HttpClientSide

    def __init__(self, world: World, gate: Gate, peer: Endpoint, local: Endpoint, now: float) -> None:
        super().__init__(world, gate, peer, local, now)
        self.exchange: Exchange | None = None
        self.requests = 0
        self.last = False
        self.waiting_since = self.head_began = now
        self.look = 0.0
        self.drained_at = -1.0
        # What all records of this connection say; see session/exchange_record.py.
        self.record_memo: Any = None

    @property
    def front(self) -> Front:
        """How the listener speaks HTTP now; a reload changes it between two requests."""
        return self.gate.front

    @property
    def looks_closer(self) -> bool:
        """Whether it matters for every request what it asks for: names and TLS, or that it came in clear."""
        return self.tls is not None or self.gate.front.settings.redirect_https

    # Beginning.

    def proceed(self) -> None:
        """See Arrival: requests are awaited."""
        front = self.gate.front
        certificate = None if self.tls is None else self.tls.certificate
        shown = () if not front.settings.client_cert else certificate_fields(certificate)
        told = self.header is not None and self.header.tls is not None and bool(self.header.tls.flags & 1)
        secure = front.secure or told
        self.facts = Client(front.introducer, self.source[0], self.local[1], secure=secure, certificate=shown)
        self.timeouts = front.timeouts
        self.phase = REQUEST
        if not self.opening.plain:
            self.waiting_since = self.head_began = self.world.clock()
        self.look = front.timeouts.request_head
        self.world.wheel.sooner(self, self.look)
        self.side = side = self.world.http_side(self.client)
        side.serve()

    def asked(self, head: RequestHead, began: float, now: float) -> None:
        """The head of a request has come; `began` is when its first byte did."""
        self.requests += 1
        self.exchange = exchange = Exchange(self, self.side, head, began, now)
        exchange.begin(head)

    def misread(self, problem: HttpError, began: float) -> None:
        """What has come is no request: answer so, and end."""
        self.requests += 1
        self.last = True
        self.exchange = exchange = Exchange(self, self.side, None, began, self.world.clock())
        exchange.rule = problem.rule
        exchange.refuse(problem.outcome)

    def head_begins(self, now: float) -> None:
        """A part of a head has come; the rest is awaited."""
        self.head_began = now
        self.within(self.front.timeouts.request_head)

    def within(self, delay: float) -> None:
        """Have the clock looked at within `delay` seconds."""
        if self.phase != OVER:
            self.look = min(self.look, delay)
            self.world.wheel.sooner(self, delay)

    # Ends.

    def exchange_over(self, exchange: Account, now: float, *, cut: bool) -> None:
        """An exchange has ended; `cut` if nothing can follow it."""
        if self.exchange is not exchange or self.phase == OVER:
            return
        self.exchange = None
        self.waiting_since = now
        if cut:
            self.outcome = exchange.outcome
            self.finish(reset=True)
            return
        idle = self.gate.front.timeouts.client_idle
        if idle < self.look:
            self.within(idle)
        exchange.stream.exchange_over()

    def ended(self, _side: Side) -> None:
        """The client sent FIN within its opening; later on its side tells `client_ended`."""
        self.client_ended()

    def lost(
        self,
        _side: Side,
        *,
        stalled: bool = False,
        truncated: bool = False,
        broken: tuple[str, str] | None = None,
    ) -> None:
        """The client's connection is lost within its opening. See Relay."""
        if broken is not None:
            self.breaks_rules(*broken)
        self.client_lost(stalled=stalled)

    def client_ended(self) -> None:
        """The client sent FIN."""
        exchange = self.exchange
        if self.phase != REQUEST:
            self.over(errors.CLIENT_GONE_IN_HEADER)
        elif exchange is None:
            self.over(errors.OK)
        elif self.front.settings.abort_on_half_close:
            exchange.client_gone()
        elif not self.side.whole:
            if exchange.status:
                # It has been answered before it had sent everything, and says that it will not: let it hear the answer.
                self.last = True
                self.side.stop_body()
            else:
                exchange.client_half_gone()
        elif not self.side.begun:
            self.last = True  # else there are requests in front of the FIN, which are answered as well

    def client_lost(self, *, stalled: bool = False) -> None:
        """The client's connection is lost."""
        if self.phase not in (REQUEST, TUNNEL):
            self.over(errors.CLIENT_GONE_IN_HEADER)
        elif self.exchange is not None:
            self.exchange.client_gone(stalled=stalled)
        else:
            self.over(errors.OK)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and at least one request has been answered."""
        return self.phase == REQUEST and self.exchange is None and bool(self.requests) and not self.side.begun

    def drain(self) -> None:
        """No further request shall come: end now if none is under way, else with its answer. Whoever has just come is
        given a moment: its first request may be on its way, and is answered.
        """
        self.last = True
        if self.phase != REQUEST or self.exchange is not None or self.side.begun:
            return
        if self.requests:
            self.over(errors.OK, gently=True)
        else:
            self.drained_at = self.world.clock()
            self.within(_LAST_CHANCE)

    def over(self, outcome: Outcome, *, reset: bool = False, gently: bool = False) -> None:
        """See Arrival. Within an exchange it is the exchange that ends."""
        if self.phase == OVER:
            return
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.over(outcome, cut=True)
        self.opening_ended(outcome)
        self.outcome = outcome
        if self.phase not in (REQUEST, TUNNEL):
            self.world.ended(self, self.world.clock())
        self.finish(reset=reset, gently=gently)

    def finish(self, *, reset: bool = False, gently: bool = False) -> None:
        """Close the connection and leave the listener; records are written by others."""
        if self.phase == OVER:
            return
        self.phase = OVER
        self.world.wheel.discard(self)
        client = self.client
        if client is not None:
            if reset:
                client.abort()
            elif gently:
                client.close_gently()
            else:
                client.close()
        self.left()
        # They know each other; without this only the garbage collector could free them.
        self.client = None
        with contextlib.suppress(AttributeError):  # there is none where the opening was not survived
            del self.side

    def left(self) -> None:
        """Leave the listener."""
        self.gate.left(self.admitted)
        self.world.conversation_over(self)

    @property
    def holds(self) -> int:
        """See Arrival."""
        client, exchange = self.client, self.exchange
        held = 0 if client is None else client.held + client.keeps
        if exchange is not None and exchange.backend_side is not None:
            held += exchange.backend_side.held
        return held

    # Time.

    def expire(self, now: float) -> float | None:
        """See Arrival."""
        if self.phase == REQUEST:
            exchange = self.exchange
            left = self._awaiting(now) if exchange is None else exchange_expires(exchange, now)
            if self.phase != REQUEST or left is None:
                return None
            self.look = min(left, _TURN)
            return left
        return None if self.phase in (OVER, TUNNEL) else opening_expires(self, now)

    def _awaiting(self, now: float) -> float | None:
        """No exchange is under way: the next head is awaited."""
        timeouts = self.front.timeouts
        if self.side.begun or not self.requests:
            # The first head has its time from the accept on, or the end of the handshake.
            left = (self.head_began if self.requests else self.waiting_since) + timeouts.request_head - now
            if self.drained_at >= 0 and not self.side.begun:
                left = min(left, self.drained_at + _LAST_CHANCE - now)
            if left > 0:
                return left
            self.timer = "request_head"
            if self.side.begun:
                self._late()
            else:
                self.over(errors.OK)
            return None if self.phase == OVER else 1.0
        left = self.waiting_since + timeouts.client_idle - now
        if left > 0:
            return left
        self.over(errors.OK)
        return None

    def _late(self) -> None:
        """A head has begun and does not end: say so, and end."""
        self.last = True
        self.requests += 1
        self.side.drop_head()
        self.exchange = exchange = Exchange(self, self.side, None, self.head_began, self.world.clock())
        exchange.timer = "request_head"
        exchange.rule = "W1"
        exchange.refuse(errors.HEAD_TIMEOUT)
