"""What one exchange has to do with the cache, from its look-up on.

Owns these values alone; see finding.py for how it begins, and fetching.py for what becomes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.collapse import Flight
from lbproxy.cache.conditions import revalidating_lines
from lbproxy.cache.status_field import forwarded
from lbproxy.cache.storing import Storable, judge
from lbproxy.cache.values import Query, Stored
from lbproxy.http.messages import RequestHead, ResponseHead

if TYPE_CHECKING:
    from lbproxy.session.caching import Caching
    from lbproxy.session.shared_cache import SharedCache

# Why an answer was not stored that says nothing about what is stored already.
OF_REQUEST = frozenset({"Authorization", "request no-store", "sticky", "busy"})
# Methods that change nothing at the backend (RFC 9110, section 9.2.1): what is stored stays true after them.
SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})


class Lookup:
    """What one exchange has to do with the cache.

    `query` is None for a request whose route does not cache. `stored` is what the backend is asked about, or what might
    replace its failure. `flight` is what this exchange leads or waits for. `storing` tells that the answer may be
    stored, `reason` why the backend is asked ("uri-miss" ...) and `refused` why the answer was not stored.

    `bans` is the number of the last ban when the backend was asked: what is purged while its answer is on its way must
    not be stored as if it had come later. `asked_at` is in the cache's time, `waiting_since` in the clock's. `lines`
    ask the backend about `stored`.
    """

    __slots__ = (
        "asked_at",
        "bans",
        "cache",
        "caching",
        "flight",
        "lines",
        "pool",
        "query",
        "reason",
        "refused",
        "stored",
        "storing",
        "waiting_since",
    )

    def __init__(
        self, cache: SharedCache, caching: Caching | None, query: Query | None, pool: str, asked_at: float
    ) -> None:
        self.cache = cache
        self.caching = caching
        self.query = query
        self.pool = pool
        self.asked_at = asked_at
        self.bans = cache.bans.newest
        self.stored: Stored | None = None
        self.flight: Flight | None = None
        self.storing = False
        self.reason = ""
        self.refused = ""
        self.lines = b""
        self.waiting_since = -1.0

    @property
    def changes_request(self) -> bool:
        """Whether the backend is asked something else than the client has asked for."""
        return bool(self.lines) or (self.storing and self.query is not None and not self.query.as_is)

    def asking(self) -> None:
        """The backend is asked now."""
        self.asked_at = self.cache.now()
        self.bans = self.cache.bans.newest

    def ask_about(self, stored: Stored) -> None:
        """The backend shall confirm this one, if it can."""
        self.stored = stored
        self.lines = revalidating_lines(stored.lines)

    def judge(self, head: RequestHead, answer: ResponseHead, now: float, wall: float) -> Storable | str:
        """What the rules make of this answer. They go by dates, which are the wall clock's: that may have been set
        right since the cache began, whose own time runs evenly.
        """
        caching = self.caching
        assert caching is not None  # nobody asks for a route that does not cache
        ahead = wall - now
        verdict = judge(head, answer, caching.settings, asked_at=self.asked_at + ahead, received_at=wall)
        if isinstance(verdict, Storable):
            verdict.freshness.born -= ahead
            verdict.freshness.fresh_until -= ahead
        return verdict

    def tells(self, *, reason: str = "", status: int | None = None, stored: bool = False, detail: str = "") -> bytes:
        """The line of Cache-Status for an answer that a backend was asked for, b"" where the route says nothing."""
        if self.caching is None or not self.caching.settings.told:
            return b""
        return forwarded(reason or self.reason or "bypass", status=status, stored=stored, detail=detail)
