"""Asking the backend about a stored answer in the background, while the stale one is served (RFC 5861, section 3)."""

from __future__ import annotations

from lbproxy.cache.values import Stored
from lbproxy.errors import Outcome
from lbproxy.http.messages import RequestHead
from lbproxy.session.detached import Detached, Nowhere
from lbproxy.session.exchange import Exchange
from lbproxy.session.lookup import Lookup
from lbproxy.session.phases import OVER


class Refresh(Detached):
    """Asks the backend about a stored answer in the background (RFC 5861, section 3)."""

    __slots__ = ()

    def __init__(self, original: Exchange, head: RequestHead) -> None:
        super().__init__(original, Nowhere(), head)

    def begin_asking(self, stored: Stored, pool: str) -> None:
        """Go, after whatever is done at the moment."""
        self._prepare(stored, pool)
        self.start(pool)

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """See Exchange. What was of no use is not done again at once."""
        lookup = self.lookup
        if self.phase != OVER and lookup is not None and lookup.query is not None:
            if self.verdict in ("revalidated", "miss"):
                lookup.cache.rested(lookup.query.key)
            else:
                lookup.cache.rest(lookup.query.key, lookup.cache.now())
        super().over(outcome, cut=cut)

    def _prepare(self, stored: Stored, pool: str) -> None:
        """The backend shall confirm `stored`; others may wait for that."""
        cache, plan, head = self.world.cache, self.plan, self.head
        assert cache is not None
        assert plan is not None
        assert plan.caching is not None
        assert head is not None
        query = plan.caching.query(self, head, self.scheme, pool)
        self.lookup = lookup = Lookup(cache, plan.caching, query, pool, cache.now())
        lookup.reason = "stale"
        lookup.storing = not query.is_head
        lookup.ask_about(stored)
        lookup.flight = cache.flights.open(query.key, self, lookup.asked_at)
        lookup.flight.bans = lookup.bans
