"""Copies of requests for a second pool, whose answers nobody reads.

Owns which requests are copied and how many copies may be under way. A copy is an exchange with nobody to answer: it is
sent once, it never delays the one it was made from, and it leaves no record. It goes out once the request has been
sent whole, with the body as it was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lbproxy import errors
from lbproxy.errors import Outcome, TryError
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.session.exchange import Exchange
from lbproxy.session.exchange_deadlines import exchange_expires
from lbproxy.session.http_seams import BackendStream
from lbproxy.session.phases import OVER

if TYPE_CHECKING:
    pass

MOST_COPIES = 100
# How often a copy's clock is looked at, at the least (seconds).
_LOOK = 5.0
_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class Copies:
    """Those of one worker: `active` are under way, `made` and `skipped` count since the start."""

    __slots__ = ("active", "made", "skipped")

    def __init__(self) -> None:
        self.active = 0
        self.made = 0
        self.skipped = 0


def mirror(exchange: Exchange, head: RequestHead, body: bytes | None) -> None:
    """Send a copy of this request where its route wants one; `body` is None when it was too long to be kept."""
    plan, world = exchange.plan, exchange.world
    wanted = None if plan is None else plan.settings.mirror
    if wanted is None or (head.method not in _SAFE and not wanted.unsafe):
        return
    if wanted.percent < 100 and world.random() * 100 >= wanted.percent:
        return
    copies, pool = world.copies, world.pools.get(wanted.pool)
    if pool is None or body is None or head.upgrade or copies.active >= MOST_COPIES:
        copies.skipped += 1
        return
    copies.made += 1
    copies.active += 1
    Copy(exchange, head, body).start(pool.settings.name)


class Copy(Exchange):
    """A copy of `original`."""

    __slots__ = ("_deadline",)

    mark = b"X-Mirror: 1\r\n"

    def __init__(self, original: Exchange, head: RequestHead, body: bytes) -> None:
        now = original.world.clock()
        super().__init__(original.conversation, Nowhere(body), head, now, now)
        self._deadline: Any = None
        self.client_ip = original.client_ip
        self.request_id = original.request_id
        self.intro = original.intro
        self.route, self.plan = original.route, original.plan
        self.timeouts = original.timeouts
        self.priority = 9

    def start(self, pool: str) -> None:
        """Go, after whatever is done at the moment."""
        self.pool = self.world.pools.get(pool)
        self.world.later(0.0, self._go)

    def _go(self) -> None:
        if self.pool is not None:
            self.world.http_factory.connect(self, self.world.clock())

    def within(self, delay: float) -> None:
        """See Seeker. The conversation's clock is the original's, so a copy has one of its own."""
        if self.phase != OVER:
            self._forget_deadline()
            self._deadline = self.world.later(min(delay, _LOOK), self._look)

    def _look(self) -> None:
        self._deadline = None
        left = exchange_expires(self, self.world.clock())
        if left is not None and self._deadline is None:
            self.within(left)

    def _forget_deadline(self) -> None:
        call, self._deadline = self._deadline, None
        if call is not None:
            call.cancel()

    @property
    def repeatable(self) -> bool:
        """See Exchange: never."""
        return False

    def refuse(self, outcome: Outcome) -> None:
        """See Exchange: nobody is to be answered."""
        self.over(outcome)

    def unanswered(self, error: TryError, detail: str = "", *, rule: str = "", unsent: bool = False) -> None:
        """See Exchange: nothing is tried again."""
        self.over(error.outcome)

    def answered(self, answer: ResponseHead, length: int) -> None:
        """See Exchange: only who gave it is of interest."""
        self.first_byte_at = self.world.clock()
        if answer.status == 101:
            self.over(errors.UPGRADE)

    def broken(self, problem: BaseException) -> None:
        """See Exchange: the original has nothing to do with it."""
        self.world.fault(problem)
        self.over(errors.INTERNAL)

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """See Exchange."""
        if self.phase == OVER:
            return
        self.phase = OVER
        self._forget_deadline()
        self.stream = _NOWHERE  # what is kept of the body goes with it
        self.world.copies.active -= 1
        side, self.backend_side = self.backend_side, None
        if side is not None:
            side.abandon()
        pool, backend = self.pool, self.backend
        if pool is not None:
            pool.leave(self)
            self.retry_over()
            if backend is not None:
                self.backend = None
                pool.give_back(backend, self.world.clock())


class Nowhere:
    """The client of a copy: it has sent everything, and takes all that comes."""

    __slots__ = ("body", "dropped", "finished", "given", "moved", "paused", "taken", "touched", "whole")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.given = self.taken = self.dropped = 0
        self.paused = self.touched = self.moved = 0.0
        self.finished = False
        self.whole = True

    @property
    def held(self) -> int:
        """See ClientStream."""
        return 0

    def still_takes(self) -> bool:
        """See Side."""
        return True

    def begin_body(self, backend: BackendStream) -> None:
        """See ClientStream."""
        backend.send_body(self.body)

    def hold_body(self) -> None:
        """See ClientStream."""

    def respond(self, head: ResponseHead, length: int, lines: bytes | None, extra: bytes) -> None:
        """See ClientStream."""

    def unsaid(self) -> bool:
        """See ClientStream."""
        return False

    def interim(self, head: ResponseHead) -> None:
        """See ClientStream."""

    def go_on(self) -> None:
        """See ClientStream."""

    def reply(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes, *, close: bool) -> None:
        """See ClientStream."""

    def tunnel(self, head: ResponseHead, lines: bytes | None, extra: bytes) -> None:
        """See ClientStream."""

    def exchange_over(self) -> None:
        """See ClientStream."""


_NOWHERE = Nowhere(b"")
