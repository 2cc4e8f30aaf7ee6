"""Whether a stored answer may be served now (RFC 9111, section 4; RFC 5861).

Owns the comparisons. Refuses to know how freshness came about: what can be worked out beforehand has been, so an
answer that must not be served stale has no time for it.
"""

from __future__ import annotations

from typing import Final

from lbproxy.cache.directives import Directives
from lbproxy.cache.values import ALWAYS_ASK, NEVER_STALE, Query, Stored

FRESH: Final = 0  # serve it
REFRESH: Final = 1  # serve it stale, and ask the backend meanwhile
ASK: Final = 2  # the backend must confirm it first


def how(stored: Stored, query: Query, now: float) -> int:
    """How `stored` may be used for this request at `now`: FRESH, REFRESH or ASK."""
    if query.directives is None:
        if now < stored.fresh_until:
            return ASK if stored.flags & ALWAYS_ASK else FRESH
        return REFRESH if now < stored.fresh_until + stored.while_revalidate else ASK
    return _as_wished(stored, query.directives, now)


def may_replace_error(stored: Stored, query: Query, now: float) -> bool:
    """Whether `stored` may be served because the backend failed (RFC 5861, section 4).

    What the client wishes counts where it gives more time, not where it wants the backend to be asked: it was.
    """
    if stored.flags & ALWAYS_ASK:
        return False
    if now < stored.fresh_until:
        return True
    if stored.flags & NEVER_STALE:
        return False
    most = stored.if_error
    wished = None if query.directives is None else query.directives.stale_if_error
    if wished is not None and wished > most:
        most = wished
    return now < stored.fresh_until + most


def age(stored: Stored, now: float) -> int:
    """What its field Age says, in whole seconds."""
    seconds = now - stored.born
    return int(seconds) if seconds > 0.0 else 0


def _as_wished(stored: Stored, wishes: Directives, now: float) -> int:
    """As `how`, where the Cache-Control of the request counts (RFC 9111, 5.2.1)."""
    if stored.flags & ALWAYS_ASK or wishes.no_cache:
        return ASK
    # An age of 0 is too much for "max-age=0".
    if wishes.max_age is not None and now - stored.born >= wishes.max_age:
        return ASK
    if now < stored.fresh_until:
        return ASK if wishes.min_fresh is not None and stored.fresh_until - now < wishes.min_fresh else FRESH
    if stored.flags & NEVER_STALE or wishes.min_fresh is not None:
        return ASK
    if wishes.max_stale is not None:
        return FRESH if now - stored.fresh_until <= wishes.max_stale else ASK
    # With max-age and without max-stale the client wants nothing stale.
    if wishes.max_age is not None:
        return ASK
    return REFRESH if now < stored.fresh_until + stored.while_revalidate else ASK
