"""An exchange: one HTTP request and its answer, from the head to the record.

Owns what happens and in which order: route, answers of our own, backend, the request sent, the answer passed on,
retries, the end. Refuses to know how HTTP is written and how sockets behave: it is told events by its two streams and
answers with the verbs of `session/http_seams.py`. Bodies go from stream to stream in `net/` without passing here.

What comes before a backend is asked is in `session/settling.py`, what is changed in heads in `session/changing.py`, the
proofs for retries in `session/repeating.py`, the clock's part in `session/exchange_deadlines.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.outlier import failing_status
from lbproxy.balancing.pool import Pool
from lbproxy.balancing.sticky import Seen
from lbproxy.errors import Outcome, TryError
from lbproxy.http.forwarding import Introduction
from lbproxy.http.messages import CHUNKED, HttpError, RequestHead, ResponseHead
from lbproxy.model import SendProxySettings, Timeouts
from lbproxy.routing import HttpRoute
from lbproxy.session.changing import Outgoing, outgoing, response_changes
from lbproxy.session.exchange_deadlines import RATE_GRACE
from lbproxy.session.http_seams import BackendStream, ClientStream
from lbproxy.session.introducing import introduction
from lbproxy.session.phases import ANSWER, CONNECT, DATA, LAST, OVER, QUEUE, TUNNEL
from lbproxy.session.plans import Plan, plan_of
from lbproxy.session.repeating import Replay, idempotent, may_repeat, pause_before
from lbproxy.session.retrying import Try
from lbproxy.session.seams import Factory
from lbproxy.session.secured import TlsFacts
from lbproxy.session.seeking import Seeker
from lbproxy.session.settling import answer_error, settle

if TYPE_CHECKING:
    from lbproxy.session.conversation import Conversation
    from lbproxy.session.relay import Relay

_KEYED = frozenset({"ketama", "maglev", "rendezvous"})
# Interim answers that are passed on before it is too much (threats.md C11).
_MOST_INTERIM = 16
_GONE = {
    QUEUE: errors.CLIENT_GONE_IN_QUEUE,
    CONNECT: errors.CLIENT_GONE_IN_CONNECT,
    ANSWER: errors.CLIENT_GONE_IN_HEAD,
}
# What the client is answered when an answer breaks before its head has gone out.
_UNSAID = {
    errors.BAD_BODY: errors.BAD_RESPONSE,
    errors.BACKEND_CUT: errors.BACKEND_CLOSED,
    errors.BODY_IDLE: errors.RESPONSE_TIMEOUT,
}
# How long a try waits for the retry budget before it asks again, give or take a half (seconds).
_BUDGET_PAUSE = 0.02
_NOT_SEEN = Seen(None, "N")


class Exchange(Seeker):
    """One request of `conversation`, which came on `stream`.

    Times are monotonic seconds, -1.0 for never: `began` is the first byte of the request, `read_at` the end of its
    head, `sent_at` when the request was sent, `first_byte_at` when the head of the answer came. `status` is what the
    client was answered, 0 for nothing. `answer` is the backend's head. `reused` tells that its connection had served
    before, `blamed` that this try has counted against its backend. `intro` says what is told about the client where
    that is not the same for all requests.
    """

    __slots__ = (
        "again",
        "answer",
        "backend",
        "backend_side",
        "backend_tls",
        "began",
        "blamed",
        "client_ip",
        "connected_at",
        "continued",
        "conversation",
        "first_byte_at",
        "first_try_at",
        "head",
        "interims",
        "intro",
        "introduced",
        "mirrored",
        "outcome",
        "outgoing",
        "phase",
        "plan",
        "pool",
        "priority",
        "queue_seconds",
        "queued_at",
        "read_at",
        "replay",
        "request_id",
        "resume_at",
        "retrying",
        "reused",
        "route",
        "rule",
        "securing_since",
        "seen",
        "sent_at",
        "served_by",
        "status",
        "sticky_sent",
        "stream",
        "timeouts",
        "timer",
        "tried",
        "tries",
        "try_began",
        "tunnel",
        "world",
    )

    # A line that marks what is no request of a client: see mirroring.py.
    mark = b""

    def __init__(
        self, conversation: Conversation, stream: ClientStream, head: RequestHead | None, began: float, now: float
    ) -> None:
        """`head` is None for a request that could not be read."""
        self.conversation = conversation
        self.world = conversation.world
        self.stream = stream
        self.head = head
        self.began = began
        self.read_at = now
        self.phase = CONNECT
        self.outcome = errors.OK
        self.status = 0
        self.rule = ""
        self.timer = ""
        self.client_ip = conversation.source[0]
        self.request_id = b""
        self.intro: Introduction | None = None
        self.outgoing: Outgoing | None = None
        self.route: HttpRoute | None = None
        self.plan: Plan | None = None
        self.pool: Pool | None = None
        self.timeouts: Timeouts = conversation.timeouts
        self.priority = 5
        self.backend: Backend | None = None
        self.served_by: Backend | None = None
        self.backend_side: BackendStream | None = None
        self.backend_tls: TlsFacts | None = None
        self.answer: ResponseHead | None = None
        self.tried: tuple[Backend, ...] = ()
        self.tries: list[Try] | None = None
        self.retrying = self.reused = self.again = self.blamed = self.introduced = self.continued = self.mirrored = (
            False
        )
        self.interims = 0
        self.replay: Replay | None = None
        self.tunnel: Relay | None = None
        self.seen: Seen = _NOT_SEEN
        self.sticky_sent = "-"
        self.queued_at = self.resume_at = -1.0
        self.queue_seconds = 0.0
        self.first_try_at = self.try_began = self.connected_at = self.securing_since = -1.0
        self.sent_at = self.first_byte_at = -1.0

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
        pool = world.pools.get(name)
        if pool is None:
            self.refuse(errors.NO_ROUTE)
            return
        self.pool = pool
        world.http_factory.connect(self, self.read_at)

    # Finding a backend: see Seeker.

    @property
    def factory(self) -> Factory:
        """See Seeker."""
        return self.world.http_factory

    @property
    def key(self) -> bytes | None:
        """See Waiter: what the pool's hash policy goes by."""
        pool, head = self.pool, self.head
        if pool is None or head is None or pool.settings.policy not in _KEYED:
            return None
        return self.world.key_of(pool.settings.hash_key)(head, self.client_ip, self.conversation.server_name)

    def take(self, now: float) -> Backend | None:
        """A lease on a backend of the pool: the one that the client is bound to, else one that the policy picks."""
        pool, head = self.pool, self.head
        assert pool is not None
        settings = pool.settings
        if settings.http.sticky is None or head is None:
            return pool.take(now, self.key if settings.policy in _KEYED else None, self.tried)
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

    @property
    def strictly_bound(self) -> bool:
        """Whether the client is bound to a backend and must not go to another one."""
        pool = self.pool
        sticky = None if pool is None else pool.settings.http.sticky
        return sticky is not None and sticky.strict and self.seen.state in ("V", "D")

    def within(self, delay: float) -> None:
        """See Seeker."""
        self.conversation.within(delay)

    def give_up(self, outcome: Outcome) -> None:
        """See Seeker."""
        if outcome is errors.RESPONSE_TIMEOUT:
            self.timer = "response_head"
        self.refuse(outcome)

    def last_error(self, otherwise: Outcome) -> Outcome:
        """See Seeker. A status that was not taken for an answer is no failure by itself."""
        error = super().last_error(otherwise)
        return otherwise if error is errors.OK else error

    def introduction(self, settings: SendProxySettings) -> bytes:
        """See Seeker."""
        return introduction(self.conversation, settings)

    def over_budget(self, error: TryError, now: float) -> None:
        """See Seeker. Nothing was sent, so waiting is safe: where all backends but one are restarted under load, many
        requests meet a closed port at once, and none of them has to fail for it.
        """
        self.resume_at = now + _BUDGET_PAUSE * (0.5 + self.world.random())
        self.world.later(self.resume_at - now, self._resume_on_budget)

    def _resume_on_budget(self) -> None:
        pool = self.pool
        if self.phase != CONNECT or self.resume_at < 0 or pool is None:
            return
        self.resume_at = -1.0
        now = self.world.clock()
        last = self.tries[-1].error if self.tries else None
        if pool.may_retry() or last is None:
            self.retry(now)
        elif self.may_try_again(now):
            self.over_budget(last, now)
        else:
            self.give_up(last.outcome)

    @property
    def repeatable(self) -> bool:
        """Whether this request may be sent once more when a connection that had served before turns out to be dead."""
        head = self.head
        if head is not None and head.method == b"GET" and not head.length and not head.upgrade:
            return not self.again
        return not self.again and may_repeat(self)

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
        conversation, pool = self.conversation, self.pool
        if head.length == CHUNKED and pool is not None and pool.settings.http.http10:
            self.refuse(errors.LENGTH_REQUIRED)  # HTTP/1.0 has no way to say where such a body ends
            return
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
            or (self.pool is not None and self.pool.settings.http.sticky is not None)
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
        self.status = status
        self.phase = DATA
        lines: bytes | None = None
        extra = self.conversation.gate.front.hsts
        settings = pool.settings.http
        if not plan.plain_response or settings.sticky is not None or settings.conceal or extra:
            lines, extra = response_changes(self, answer, plan, now)
        if status == 101:
            self._change_protocol(answer, lines, extra)
            return
        if head.upgrade and head.length == 0 and self.outgoing is not None and self.outgoing.upgrade:
            self.conversation.last = True  # C7: nobody knows what a client that wanted another protocol says next
        if self.timeouts.response_body_idle < self.conversation.look:
            self.within(self.timeouts.response_body_idle)
        self.stream.respond(answer, length, lines, extra)

    def _again_for_status(self, now: float, status: int) -> bool:
        """A status that the route wants to be tried again, if that is safe and allowed; True when it is under way."""
        if not self._may_go_on(now):
            return False  # what is at hand is better than nothing
        self.stream.hold_body()
        self._drop_side()
        self._next_try(TryError.STATUS, f"status {status}", now, counted=True)
        return True

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

    def flushed(self) -> None:
        """The client has taken all that was held for it."""
        if self.phase == LAST:
            self.over(self.outcome)

    def stalled(self) -> None:
        """A side began to hold bytes: somebody reads slowly, and is given `write_stall`."""
        self.within(self.timeouts.write_stall / 4)

    # What goes wrong.

    def unanswered(self, error: TryError, detail: str = "", *, rule: str = "", unsent: bool = False) -> None:
        """The backend's connection ended, or said something that is no HTTP, before the head of an answer.

        `unsent` is True where it is proved that not a byte of the request has gone out.
        """
        side, pool, backend = self.backend_side, self.pool, self.backend
        assert pool is not None
        assert backend is not None
        self.rule = rule or self.rule
        self.backend_side = None
        self.stream.hold_body()
        spoke = side is not None and side.bytes_in > 0
        if side is not None:
            side.abandon()
        now = self.world.clock()
        fresh = not self.reused
        if not fresh and not spoke and (unsent or (error is TryError.CLOSED and self.repeatable)):
            # Class B: it closed an idle connection just as it was used. Once, and nobody is to blame.
            self.again = True
            self.reused = False
            self.note_try(Try(backend.id, str(backend.address), error, now - self.try_began, detail, "B", reused=True))
            self._repeat()
            self.factory.dial_fresh(self, now)
            return
        if unsent:
            self.dial_failed(TryError.RESET, detail)  # class A after all
            return
        if fresh or spoke or error is not TryError.CLOSED:
            pool.failed(backend, now, now - self.try_began, cut=True)
        if not spoke and error is not TryError.NONSENSE and self._wants_repeats and self._may_go_on(now):
            self._next_try(error, detail, now, counted=True)
            return
        klass = "D" if spoke else "B" if self.reused else "C"
        self.note_try(Try(backend.id, str(backend.address), error, now - self.try_began, detail, klass, self.reused))
        if error is TryError.SILENT:
            self.timer = "response_head"
        self.refuse(error.outcome)

    @property
    def _wants_repeats(self) -> bool:
        return self.plan is not None and self.plan.settings.retry_idempotent

    def _may_go_on(self, now: float) -> bool:
        """Class C: whether the request may be sent to another backend although this one may have acted on it."""
        pool, backend = self.pool, self.backend
        made = 1 if self.tries is None else len(self.tries) + 1
        assert pool is not None
        assert backend is not None
        self.retry_over()  # this try was one, and has come to its end
        return (
            may_repeat(self)
            and made < pool.settings.tries
            and now - self.first_try_at < self.timeouts.try_window
            and pool.may_retry()
            and not self.strictly_bound
            and pool.refusal((*self.tried, backend)) is None
        )

    def _next_try(self, error: TryError, detail: str, now: float, *, counted: bool) -> None:
        """Go to another backend after a pause."""
        pool, backend = self.pool, self.backend
        assert pool is not None
        assert backend is not None
        self.note_try(Try(backend.id, str(backend.address), error, now - self.try_began, detail, "C", self.reused))
        self.tried = (*self.tried, backend)
        self.backend = None
        self.retry_over()
        pool.give_back(backend, now)
        pool.retry_began()
        self.retrying = True
        self._repeat()
        self.phase = CONNECT
        self.resume_at = now + pause_before(len(self.tried), self.world.random())
        self.within(self.resume_at - now)
        self.world.later(self.resume_at - now, self._resume)

    def _resume(self) -> None:
        if self.phase == CONNECT and self.resume_at >= 0:
            self.resume_at = -1.0
            self.factory.connect(self, self.world.clock())

    def _repeat(self) -> None:
        """The request begins anew: so does its account."""
        self.connected_at = self.sent_at = -1.0
        self.blamed = False
        self.phase = CONNECT

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
        if instead is not None and self.stream.unsaid():
            self.status = 0
            self.answer = None
            self.refuse(instead)
        else:
            self.abort(outcome)

    def blame(self, now: float) -> None:
        """It is the backend that failed; of one try it is said once."""
        pool, backend = self.pool, self.backend
        if pool is not None and backend is not None and not self.blamed:
            self.blamed = True
            pool.failed(backend, now, cut=True)

    def abort(self, outcome: Outcome) -> None:
        """End an answer that has begun, without its end."""
        self.over(outcome, cut=True)

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

    def refuse(self, outcome: Outcome) -> None:
        """Answer with an error of ours, if the client has not been answered; else cut."""
        if self.phase == OVER:
            return
        if self.phase == QUEUE:
            self._leave_queue(self.world.clock())
        self._drop_side()
        self.outcome = outcome
        if self.status or not outcome.status:
            self.abort(outcome)
            return
        answer_error(self, outcome)

    def says(self, status: int, outcome: Outcome) -> None:
        """An answer of ours is given now."""
        self.status = status
        self.outcome = outcome
        self.phase = LAST

    def said(self) -> None:
        """It has been given, unless the client was lost over it."""
        if self.phase != LAST:
            return
        if not self.stream.held:
            self.over(self.outcome)
        else:
            self.within(self.timeouts.write_stall)

    def _drop_side(self) -> None:
        side, self.backend_side = self.backend_side, None
        if side is not None:
            side.abandon()

    # The end.

    def _leave_queue(self, now: float) -> None:
        self.phase = CONNECT
        self.queue_seconds += now - self.queued_at
        if self.pool is not None:
            self.pool.leave(self)

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """Give everything back, write the record, let the conversation go on; nothing happens to an exchange after
        this. `cut` ends the conversation with it.
        """
        if self.phase == OVER:
            return
        tunnel = self.tunnel
        if tunnel is not None and tunnel.phase != OVER:
            tunnel.over(outcome, reset=cut)  # which ends this too
            return
        now = self.world.clock()
        if self.phase == QUEUE:
            self._leave_queue(now)
        self.phase = OVER
        self.outcome = outcome
        if self.backend_side is not None:
            self._drop_side()
        pool, backend = self.pool, self.backend
        if pool is not None:
            if self.retrying:
                self.retry_over()
            if backend is not None:
                self.served_by = backend
                self.backend = None
                pool.give_back(backend, now)
        self.world.answered(self, now)
        self.conversation.exchange_over(self, now, cut=cut)

    def tunnel_over(self, tunnel: Relay) -> None:
        """What became of this exchange after its upgrade has ended; its sides are closed."""
        client, side = tunnel.client, tunnel.backend_side
        self.timer = tunnel.timer
        if client is not None and side is not None:
            self.stream.taken += client.bytes_in
            self.stream.given += side.bytes_in - client.dropped
        self.backend_side = None
        self.over(tunnel.outcome, cut=True)

    @property
    def streaming(self) -> bool:
        """Whether long silence is what this route expects of bodies."""
        answer = self.answer
        return (self.plan is not None and self.plan.settings.streaming) or (
            answer is not None and (answer.get(b"content-type") or b"").startswith(b"text/event-stream")
        )
