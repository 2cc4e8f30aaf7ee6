"""Copies of requests for a second pool, whose answers nobody reads.

Owns which requests are copied and how many copies may be under way. A copy is an exchange with nobody to answer: it is
sent once, it never delays the one it was made from, and it leaves no record. It goes out once the request has been
sent whole, with the body as it was sent.
"""

from __future__ import annotations

from lbproxy import errors
from lbproxy.errors import Outcome, TryError
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.session.detached import Detached, Nowhere
from lbproxy.session.exchange import Exchange
from lbproxy.session.phases import OVER

MOST_COPIES = 100
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


class Copy(Detached):
    """A copy of `original`."""

    __slots__ = ()

    mark = b"X-Mirror: 1\r\n"

    def __init__(self, original: Exchange, head: RequestHead, body: bytes) -> None:
        super().__init__(original, Nowhere(body), head)

    @property
    def repeatable(self) -> bool:
        """See Exchange: never."""
        return False

    def unanswered(self, error: TryError, detail: str = "", *, rule: str = "", unsent: bool = False) -> None:
        """See Exchange: nothing is tried again."""
        self.over(error.outcome)

    def answered(self, answer: ResponseHead, length: int) -> None:
        """See Exchange: only who gave it is of interest."""
        self.first_byte_at = self.world.clock()
        if answer.status == 101:
            self.over(errors.UPGRADE)

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """See Exchange."""
        if self.phase != OVER:
            self.world.copies.active -= 1
        super().over(outcome, cut=cut)
