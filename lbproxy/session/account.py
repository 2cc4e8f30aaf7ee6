"""The account of an exchange: all that is known of it, and how it is closed.

Owns the attributes, giving everything back, and the two ways in which an exchange fails: with an answer of ours, or
with a cut. Refuses to know in which order things happen: that is in `session/exchange.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.balancing.sticky import Seen
from lbproxy.cache.body import AnyBody
from lbproxy.errors import Outcome
from lbproxy.http.forwarding import Introduction
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.model import SendProxySettings, Timeouts
from lbproxy.routing import HttpRoute
from lbproxy.session.cached import Cached
from lbproxy.session.changing import Outgoing, scheme_of
from lbproxy.session.http_seams import BackendStream, ClientStream
from lbproxy.session.introducing import introduction
from lbproxy.session.phases import CONNECT, LAST, OVER, QUEUE
from lbproxy.session.plans import Plan
from lbproxy.session.repeating import Replay
from lbproxy.session.retrying import Try
from lbproxy.session.seams import Factory
from lbproxy.session.secured import TlsFacts
from lbproxy.session.seeking import Seeker
from lbproxy.session.settling import answer_error

if TYPE_CHECKING:
    from lbproxy.session.coding import Coder, Unpacker
    from lbproxy.session.conversation import Conversation
    from lbproxy.session.lookup import Lookup
    from lbproxy.session.relay import Relay
    from lbproxy.session.shared_cache import SharedCache


KEYED = frozenset({"ketama", "maglev", "rendezvous"})
_NOT_SEEN = Seen(None, "N")


class Account(Seeker):
    """One request of `conversation`, which came on `stream`.

    Times are monotonic seconds, -1.0 for never: `began` is the first byte of the request, `read_at` the end of its
    head, `sent_at` when the request was sent, `first_byte_at` when the head of the answer came. `status` is what the
    client was answered, 0 for nothing. `answer` is the backend's head. `reused` tells that its connection had served
    before, `blamed` that this try has counted against its backend. `intro` says what is told about the client where
    that is not the same for all requests.

    `lookup` is what there is to do with the cache and `cached` what it did, None for nothing. `coder` packs the body of
    the answer, `unpacker` unpacks that of the request. `pinned` is a long stored body that is being given.
    """

    __slots__ = (
        "again",
        "answer",
        "backend",
        "backend_side",
        "backend_tls",
        "began",
        "blamed",
        "cached",
        "client_ip",
        "coder",
        "connected_at",
        "continued",
        "conversation",
        "first_byte_at",
        "first_try_at",
        "head",
        "interims",
        "intro",
        "introduced",
        "lookup",
        "mirrored",
        "outcome",
        "outgoing",
        "phase",
        "pinned",
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
        "unpacker",
        "world",
    )

    # Whether there is no client: see detached.py.
    detached = False

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
        self.lookup: Lookup | None = None
        self.cached: Cached | None = None
        self.coder: Coder | None = None
        self.unpacker: Unpacker | None = None
        self.pinned: tuple[SharedCache, AnyBody] | None = None
        self.queued_at = self.resume_at = -1.0
        self.queue_seconds = 0.0
        self.first_try_at = self.try_began = self.connected_at = self.securing_since = -1.0
        self.sent_at = self.first_byte_at = -1.0

    # See Seeker.

    @property
    def factory(self) -> Factory:
        """See Seeker."""
        return self.world.http_factory

    @property
    def key(self) -> bytes | None:
        """See Waiter: what the pool's hash policy goes by."""
        pool, head = self.pool, self.head
        if pool is None or head is None or pool.settings.policy not in KEYED:
            return None
        return self.world.key_of(pool.settings.hash_key)(head, self.client_ip, self.conversation.server_name)

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

    # What there is to ask.

    @property
    def strictly_bound(self) -> bool:
        """Whether the client is bound to a backend and must not go to another one."""
        pool = self.pool
        sticky = None if pool is None else pool.settings.http.sticky
        return sticky is not None and sticky.strict and self.seen.state in ("V", "D")

    @property
    def verdict(self) -> str:
        """The record's word for what the cache did, "" where it had nothing to do."""
        return "" if self.cached is None else self.cached.word

    @property
    def scheme(self) -> bytes:
        """What the client used, as far as that is known."""
        return scheme_of(self)

    @property
    def conceals(self) -> bool:
        """Whether clients shall not learn which server has answered."""
        pool = self.pool
        return (self.plan is not None and self.plan.conceal) or (pool is not None and pool.settings.http.conceal)

    @property
    def streaming(self) -> bool:
        """Whether long silence is what this route expects of bodies."""
        answer = self.answer
        return (self.plan is not None and self.plan.settings.streaming) or (
            answer is not None and (answer.get(b"content-type") or b"").startswith(b"text/event-stream")
        )

    # Failures.

    def refuse(self, outcome: Outcome) -> None:
        """Answer with an error of ours, if the client has not been answered; else cut."""
        if self.phase == OVER:
            return
        if self.phase == QUEUE:
            self._leave_queue(self.world.clock())
        self._drop_side()
        if self.lookup is not None and self.rescued(outcome):
            return
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

    def abort(self, outcome: Outcome) -> None:
        """End an answer that has begun, without its end."""
        self.over(outcome, cut=True)

    def blame(self, now: float) -> None:
        """It is the backend that failed; of one try it is said once."""
        pool, backend = self.pool, self.backend
        if pool is not None and backend is not None and not self.blamed:
            self.blamed = True
            pool.failed(backend, now, cut=True)

    def broken(self, problem: BaseException) -> None:
        """A fault of ours: the conversation ends, no other does."""
        self.conversation.broken(problem)

    # What subclasses say.

    def rescued(self, outcome: Outcome) -> bool:
        """Whether something stored is served in place of this error."""
        raise NotImplementedError

    def leave_flight(self) -> None:
        """Wait for nobody and lead nobody any more."""
        raise NotImplementedError

    # The end.

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """Give everything back, write the record, let the conversation go on; nothing happens to an exchange after
        this. `cut` ends the conversation with it.
        """
        if self.phase == OVER:
            return
        tunnel, self.tunnel = self.tunnel, None
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
        if self.lookup is not None and self.lookup.flight is not None:
            self.leave_flight()
        if self.pinned is not None:
            cache, body = self.pinned
            self.pinned = None
            cache.unpin(body)
        pool, backend = self.pool, self.backend
        if pool is not None:
            if self.retrying:
                self.retry_over()
            if backend is not None:
                self.served_by = backend
                self.backend = None
                pool.give_back(backend, now)
        if self.cached is not None and self.world.cache is not None:
            self.world.cache.counts[self.cached.word] += 1
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

    def _drop_side(self) -> None:
        side, self.backend_side = self.backend_side, None
        if side is not None:
            side.abandon()

    def _leave_queue(self, now: float) -> None:
        self.phase = CONNECT
        self.queue_seconds += now - self.queued_at
        if self.pool is not None:
            self.pool.leave(self)
