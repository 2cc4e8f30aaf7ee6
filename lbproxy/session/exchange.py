"""An exchange: one HTTP request and its answer, from the head to the record.

Owns what happens and in which order: route, answers of our own, backend, the request sent, the answer passed on.
Refuses to know how HTTP is written and how sockets behave: it is told events by its two streams and answers with the
verbs of `session/http_seams.py`. Bodies go from stream to stream in `net/` without passing here.

What is known of it and how it ends is in `session/account.py`, further tries in `session/repetition.py`, what comes
before a backend is asked in `session/settling.py`, what is changed in heads in `session/changing.py`, the clock's part
in `session/exchange_deadlines.py`.
"""

from __future__ import annotations

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.outlier import failing_status
from lbproxy.cache.body import AnyBody
from lbproxy.cache.face import Face
from lbproxy.errors import Outcome, TryError
from lbproxy.http.messages import CHUNKED, HttpError, RequestHead, ResponseHead
from lbproxy.session.account import KEYED
from lbproxy.session.changing import outgoing, response_changes
from lbproxy.session.coding import recoded, unpacked_request
from lbproxy.session.exchange_deadlines import RATE_GRACE
from lbproxy.session.fetching import answered as answered_for
from lbproxy.session.fetching import rescued
from lbproxy.session.finding import look_up
from lbproxy.session.http_seams import BackendStream
from lbproxy.session.lookup import SAFE
from lbproxy.session.phases import ANSWER, CONNECT, DATA, LAST, OVER, QUEUE, TUNNEL, WAITING
from lbproxy.session.plans import plan_of
from lbproxy.session.repeating import Replay, idempotent
from lbproxy.session.repetition import Repetition
from lbproxy.session.secured import TlsFacts
from lbproxy.session.settling import settle
from lbproxy.session.shared_cache import length_of
from lbproxy.session.waiting import leave

# Interim answers that are passed on before it is too much (threats.md C11).
_MOST_INTERIM = 16
_GONE = {
    QUEUE: errors.CLIENT_GONE_IN_QUEUE,
    WAITING: errors.CLIENT_GONE_IN_QUEUE,
    CONNECT: errors.CLIENT_GONE_IN_CONNECT,
    ANSWER: errors.CLIENT_GONE_IN_HEAD,
}
# What the client is answered when an answer breaks before its head has gone out.
_UNSAID = {
    errors.BAD_BODY: errors.BAD_RESPONSE,
    errors.BACKEND_CUT: errors.BACKEND_CLOSED,
    errors.BODY_IDLE: errors.RESPONSE_TIMEOUT,
    errors.LOCAL_RESOURCE: errors.LOCAL_RESOURCE,
}


class Exchange(Repetition):
    """One request of a conversation; see Account for what is known of it."""

    __slots__ = ()

    # Beginning.

    def begin(self, head: RequestHead) -> None:
        """Find out what is to be done with a request, and do it."""
        conversation, world = self.conversation, self.world
        front = conversation.gate.front
        client = conversation.facts
        if client.plain:
            self.request_id = client.introducer.ids.new()
        else:
            self.intro = intro = client.introduction(head)
            self.client_ip = intro.client_ip
            self.request_id = intro.request_id
        routes = front.routes
        memo = head.memo_route
        if memo is not None and memo[0] is routes:
            route = memo[1]
        else:
            route = routes.find(head, self.client_ip)
            if routes.by_head:
                head.memo_route = (routes, route)
        name = ""
        if route is not None:
            self.route = route
            self.timeouts = route.timeouts
            self.priority = route.priority
            self.plan = plan = route.plan or plan_of(route, world.random)
            name = route.pool
        if route is None or not plan.direct or head.via or conversation.looks_closer:
            settled = settle(self, head)
            if settled is None:
                return
            name = settled
        if head.length and plan.settings.decompress is not None:
            unpacked = unpacked_request(head, plan.settings.decompress, plan.settings.max_body)
            if unpacked is not None:
                self.head, self.unpacker = unpacked
        caches = world.cache is not None and (plan.caching is not None or head.method not in SAFE)
        if not caches or not look_up(self, head, name):
            self.ask_backend(name, self.read_at)

    def ask_backend(self, name: str, now: float = -1.0) -> None:
        """Have a backend of this pool answer."""
        world, head = self.world, self.head
        pool = world.pools.get(name)
        if pool is None:
            self.refuse(errors.NO_ROUTE)
            return
        self.pool = pool
        if head is not None and head.length == CHUNKED and pool.settings.http.http10:
            self.refuse(errors.LENGTH_REQUIRED)  # HTTP/1.0 has no way to say where such a body ends
            return
        world.http_factory.connect(self, now if now >= 0 else world.clock())

    def take(self, now: float) -> Backend | None:
        """A lease on a backend of the pool: the one that the client is bound to, else one that the policy picks."""
        pool, head = self.pool, self.head
        assert pool is not None
        settings = pool.settings
        if settings.http.sticky is None or head is None:
            return pool.take(now, self.key if settings.policy in KEYED else None, self.tried)
        sticking = self.world.sticking(pool)
        if not self.tried:
            self.seen = sticking.seen(head, self.client_ip, pool.backends, now, self.world.wall())
        bound = self.seen.backend
        if bound is not None and bound not in self.tried:
            taken = pool.take_sticky(bound, now, self.tried)
            if taken is not None:
                return taken
        if self.strictly_bound:
            return None
        return pool.take(now, self.key, self.tried)

    def reuse(self, side: BackendStream, now: float) -> None:
        """The held backend has a connection that is open already."""
        self.backend_side = side
        self.backend_tls = side.facts
        self.try_began = self.connected_at = now
        if self.first_try_at < 0:
            self.first_try_at = now
        self.reused = True
        self._ask(side, now)

    def connected(self, facts: TlsFacts | None = None) -> None:
        """The backend took the connection, and its part in TLS if there are `facts`."""
        side, pool, backend = self.backend_side, self.pool, self.backend
        assert side is not None
        assert pool is not None
        assert backend is not None
        self.connected_at = now = self.world.clock()
        self.reused = False
        self.backend_tls = side.facts = facts
        pool.opened(backend, now)
        self._ask(side, now)

    # Asking and being answered.

    def _ask(self, side: BackendStream, now: float) -> None:
        head = self.head
        assert head is not None
        self.phase = ANSWER
        if self.lookup is not None:
            self.lookup.asking()
        conversation, pool = self.conversation, self.pool
        plan = self.plan
        if plan is None or pool is None or not plan.plain_request or self._speaks_for_itself(head):
            try:
                self.outgoing = outgoing(self, head)
            except ValueError:  # what the route makes of this path is none
                self.rule = "T18"
                self.refuse(errors.BAD_REQUEST)
                return
        if head.length:
            if self.replay is None and (idempotent(self) or self._wants_copy):
                self.replay = Replay()
            self.sent_at = -1.0
            side.ask(self)
            if self.backend_side is side:  # it may have been lost by now
                if head.expect and pool is not None and pool.settings.http.http10:
                    self.continued = True  # nobody else will say so
                    self.stream.go_on()
                self.stream.begin_body(side)
                if self.sent_at < 0:
                    self.within(1.0 if head.expect else min(self.timeouts.request_body_idle, RATE_GRACE))
            return
        self.sent_at = now
        side.ask(self)
        if plan is not None and plan.settings.mirror is not None and self._wants_copy:
            self._copy(head, b"")
        if self.timeouts.response_head < conversation.look:
            self.within(self.timeouts.response_head)

    def _speaks_for_itself(self, head: RequestHead) -> bool:
        """Whether there is something about this request that is not as in most."""
        return bool(
            self.intro is not None
            or head.upgrade
            or self.mark
            or self.conversation.gate.front.sticky_cookies
            or (self.lookup is not None and self.lookup.changes_request)
        )

    def body_sent(self) -> None:
        """The whole request has been given to the backend."""
        self.sent_at = self.world.clock()
        if self.backend_side is not None:
            self.backend_side.end_body()
        self.within(self.timeouts.response_head)
        if self._wants_copy and self.head is not None:
            self._copy(self.head, bytes(self.replay.data) if self.replay is not None and self.replay.complete else None)

    @property
    def _wants_copy(self) -> bool:
        return self.plan is not None and self.plan.settings.mirror is not None and not self.mark

    def _copy(self, head: RequestHead, body: bytes | None) -> None:
        """Have a copy made, once; `body` is None when it is too long for that."""
        if not self.mirrored:
            self.mirrored = True
            self.world.mirror(self, head, body)

    def interim(self, head: ResponseHead) -> None:
        """The backend has something to say before its answer (1xx, not 101)."""
        self.interims += 1
        if self.interims > _MOST_INTERIM:
            self.unanswered(TryError.NONSENSE, "more than 16 interim answers", rule="C11")
            return
        if head.status == 100 and self.continued:
            return
        if head.status == 100:
            self.continued = True
        if self.head is not None and self.head.minor:
            self.stream.interim(head)

    def answered(self, answer: ResponseHead, length: int) -> None:
        """The head of the answer has come; a body of `length` follows it."""
        pool, backend, plan, head = self.pool, self.backend, self.plan, self.head
        assert pool is not None
        assert backend is not None
        assert plan is not None
        assert head is not None
        self.first_byte_at = now = self.world.clock()
        status = answer.status
        if status >= 500 and failing_status(status):
            pool.failed(backend, now, now - self.try_began, cut=True)
            self.blamed = True
        elif self.sent_at >= 0:
            pool.answered(backend, now, now - self.sent_at)
        if self.tries is not None or status in plan.settings.retry_statuses:
            if status in plan.settings.retry_statuses and self._again_for_status(now, status):
                return
            self.note_success(now)
        if self.retrying:
            self.retry_over()
        self.answer = answer
        lookup = self.lookup
        if lookup is not None and answered_for(self, lookup, answer, length):
            return
        self.status = status
        self.phase = DATA
        lines: bytes | None = None
        extra = self.conversation.gate.front.hsts
        settings = pool.settings.http
        if plan.compression is not None and status != 101:
            answer, length = recoded(self, answer, length)
        if not plan.plain_response or settings.sticky is not None or settings.conceal or extra:
            lines, extra = response_changes(self, answer, plan, now)
        if status == 101:
            self._change_protocol(answer, lines, extra)
            return
        if head.upgrade and head.length == 0 and self.outgoing is not None and self.outgoing.upgrade:
            self.conversation.last = True  # C7: nobody knows what a client that wanted another protocol says next
        if self.timeouts.response_body_idle < self.conversation.look:
            self.within(self.timeouts.response_body_idle)
        if lookup is not None:
            extra += lookup.tells(detail=lookup.refused)
        self.stream.respond(answer, length, lines, extra)

    def _change_protocol(self, answer: ResponseHead, lines: bytes | None, extra: bytes) -> None:
        wanted = b"" if self.outgoing is None else self.outgoing.upgrade
        if not wanted or answer.upgrade not in [name.strip() for name in wanted.split(b",")]:
            self.status = 0
            self.rule = "C10"
            if self.pool is not None and self.backend is not None:
                self.pool.failed(self.backend, self.first_byte_at, cut=True)
            self.refuse(errors.UPGRADE)
            return
        self.phase = TUNNEL
        if self.pool is not None and self.backend is not None:
            self.pool.succeeded(self.backend, self.first_byte_at)
        self.stream.tunnel(answer, lines, extra)

    def completed(self) -> None:
        """The answer has been passed on whole; its connection is not ours any more."""
        self.backend_side = None
        self.phase = LAST
        if not self.blamed and self.pool is not None and self.backend is not None:
            self.pool.succeeded(self.backend, self.first_byte_at)
        if not self.stream.held:
            self.over(errors.OK)
        elif self.conversation.look > self.timeouts.write_stall:
            self.within(self.timeouts.write_stall)

    # What is stored.

    def present(self, face: Face) -> None:
        """Give the client a stored answer."""
        self.status = face.head.status
        self.phase = DATA
        if face.long:
            self.within(self.timeouts.response_body_idle)
        self.stream.present(face)

    def presented(self) -> None:
        """It has been given whole."""
        if self.phase != DATA:
            return
        self.phase = LAST
        if not self.stream.held:
            self.over(errors.OK)
        elif self.conversation.look > self.timeouts.write_stall:
            self.within(self.timeouts.write_stall)

    def note_coding(self, coding: bytes, plain: AnyBody, packed: AnyBody) -> None:
        """For the record: in which coding it was given, and how long it is both ways where that is known."""
        cached = self.cached
        if cached is not None:
            cached.coding, cached.plain, cached.packed = coding, length_of(plain), length_of(packed)

    def rescued(self, outcome: Outcome) -> bool:
        """See Account."""
        return rescued(self, outcome)

    def leave_flight(self) -> None:
        """See Account."""
        leave(self)

    def begun(self) -> None:
        """All that came together with the head of the answer has been given on."""

    def flushed(self) -> None:
        """The client has taken all that was held for it."""
        if self.phase == LAST:
            self.over(self.outcome)

    def stalled(self) -> None:
        """A side began to hold bytes: somebody reads slowly, and is given `write_stall`."""
        self.within(self.timeouts.write_stall / 4)

    # What goes wrong.

    def head_too_large(self, problem: HttpError) -> None:
        """The head of the answer is longer than anybody should send."""
        pool, backend = self.pool, self.backend
        self.rule = problem.rule
        if pool is not None and backend is not None:
            pool.failed(backend, self.world.clock(), cut=True)
        self.refuse(errors.RESPONSE_HEAD_LARGE)

    def cut_short(self, outcome: Outcome, rule: str = "") -> None:
        """The backend ended its answer before its end: the client must not take it for a whole one."""
        if self.phase == OVER:
            return
        self.rule = rule or self.rule
        self._drop_side()
        self.blame(self.world.clock())
        instead = _UNSAID.get(outcome)
        if instead is not None and (not self.status or self.stream.unsaid()):
            self.status = 0
            self.answer = None
            self.refuse(instead)
        else:
            self.abort(outcome)

    def bad_body(self, problem: HttpError) -> None:
        """The request's body broke the rules; no part of what follows it is believed."""
        self.rule = problem.rule
        self._drop_side()
        if self.status:
            self.abort(problem.outcome)
        else:
            self.refuse(problem.outcome)

    def body_too_large(self) -> None:
        """More of the request's body has come than the route allows."""
        if self.phase != OVER:
            self._drop_side()
            if self.status:
                self.abort(errors.BODY_LARGE)
            else:
                self.refuse(errors.BODY_LARGE)

    def client_gone(self, *, stalled: bool = False) -> None:
        """The client's connection is lost."""
        if self.phase == LAST and not self.stream.dropped:
            self.over(self.outcome, cut=True)
            return
        outcome = errors.WRITE_STALL_CLIENT if stalled else _GONE.get(self.phase, errors.CLIENT_GONE_IN_DATA)
        if stalled:
            self.timer = "write_stall"
        self.over(outcome, cut=True)

    def client_half_gone(self) -> None:
        """The client sent FIN within its request's body: it can never be complete (threats.md F18)."""
        self.rule = "F18"
        self.over(_GONE.get(self.phase, errors.CLIENT_GONE_IN_DATA), cut=True)
