"""An exchange without a client: nobody waits for it, and it has a clock of its own.

Owns that clock and the end of such an exchange, which leaves no record. What it is for is said by its subclasses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbproxy.cache.face import Face
from lbproxy.errors import INTERNAL, NO_ROUTE, Outcome
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.session.exchange import Exchange
from lbproxy.session.exchange_deadlines import exchange_expires
from lbproxy.session.http_seams import BackendStream
from lbproxy.session.phases import OVER

# How often its clock is looked at, at the least (seconds).
_LOOK = 5.0


class Detached(Exchange):
    """An exchange that was made from `original`, with its request, its route and what is told of its client."""

    __slots__ = ("_deadline",)

    detached = True

    def __init__(self, original: Exchange, stream: Nowhere, head: RequestHead | None) -> None:
        now = original.world.clock()
        super().__init__(original.conversation, stream, head, now, now)
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
        self.within(_LOOK)
        self.world.later(0.0, self._go)

    def _go(self) -> None:
        if self.pool is None:
            self.over(NO_ROUTE)
        elif self.phase != OVER:
            self.world.http_factory.connect(self, self.world.clock())

    def within(self, delay: float) -> None:
        """See Seeker. The conversation's clock is the original's, so this has one of its own."""
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

    def refuse(self, outcome: Outcome) -> None:
        """See Exchange: nobody is to be answered."""
        if self.lookup is None or not self.rescued(outcome):
            self.over(outcome)

    def broken(self, problem: BaseException) -> None:
        """See Exchange: the original has nothing to do with it."""
        self.world.fault(problem)
        self.over(INTERNAL)

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """See Exchange."""
        if self.phase == OVER:
            return
        self.phase = OVER
        self.outcome = outcome
        self._forget_deadline()
        if self.lookup is not None and self.lookup.flight is not None:
            self.leave_flight()
        self.stream = NOWHERE  # what is kept of the body goes with it
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
    """The client of such an exchange: it has sent everything, and takes all that comes."""

    __slots__ = ("body", "dropped", "finished", "given", "moved", "paused", "taken", "touched", "whole")

    def __init__(self, body: bytes = b"") -> None:
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

    def take(self, data: bytes | memoryview) -> bool:
        """See BodySink: it goes nowhere."""
        return True

    def begin_body(self, backend: BackendStream) -> None:
        """See ClientStream."""
        backend.send_body(self.body)

    def hold_body(self) -> None:
        """See ClientStream."""

    def respond(self, head: ResponseHead, length: int, lines: bytes | None, extra: bytes) -> None:
        """See ClientStream."""

    def present(self, face: Face) -> None:
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


NOWHERE = Nowhere()
