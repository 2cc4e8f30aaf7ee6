"""What a 304, or the answer to a HEAD, makes of a stored answer (RFC 9111, sections 4.3.3 to 4.3.5).

Owns what is taken over, and who is served then. Which answers speak of which is in `cache/updating.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.storing import Storable, vary_names
from lbproxy.cache.updating import freshened, matches
from lbproxy.cache.values import COMPRESSIBLE, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.session.lookup import OF_REQUEST, Lookup
from lbproxy.session.serving import serve
from lbproxy.session.shared_cache import length_of
from lbproxy.session.sharing import head_of, serve_all
from lbproxy.session.waiting import wake

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange

_NOT_MODIFIED = 304


def confirm(exchange: Exchange, lookup: Lookup, stored: Stored, answer: ResponseHead, now: float) -> bool:
    """The backend says that what is stored is still true, and for how long; False where it speaks of something else."""
    query = lookup.query
    assert query is not None
    if not matches(stored.lines, answer):
        return False
    kept = _update(exchange, lookup, stored, answer, now)
    exchange.world.filling.discard(exchange)
    told = lookup.tells(reason="stale", status=_NOT_MODIFIED, stored=kept, detail=lookup.refused)
    if not kept and lookup.flight is not None:
        flight, lookup.flight = lookup.flight, None
        cache = lookup.cache
        serve(exchange, cache, stored, query, now, "revalidated", told=told)
        cache.flights.end(flight)
        wake(flight)  # it is for this client alone now
    else:
        serve_all(exchange, lookup, stored, query, now, "revalidated", told)
    return True


def learn_from_head(exchange: Exchange, lookup: Lookup, answer: ResponseHead, now: float) -> None:
    """The answer to a HEAD tells whether what is stored is still true (RFC 9111, section 4.3.5)."""
    stored = lookup.stored
    if stored is None or not 200 <= answer.status < 300:
        return
    length = length_of(stored.body)
    if matches(stored.lines, answer, length=None if length < 0 else length):
        _update(exchange, lookup, stored, answer, now)
    else:
        lookup.cache.expire(stored, now)


def ask_afresh(exchange: Exchange, lookup: Lookup) -> None:
    """The 304 speaks of something else than what was asked about (threats.md K8): ask for the whole."""
    lookup.stored, lookup.lines = None, b""
    exchange.outgoing = None  # it had the conditions
    exchange.ask_once_more()


def _update(exchange: Exchange, lookup: Lookup, stored: Stored, answer: ResponseHead, now: float) -> bool:
    """Take over what a 304, or the answer to a HEAD, says of a stored answer; whether it may still be stored."""
    head, query, caching, cache = exchange.head, lookup.query, lookup.caching, lookup.cache
    assert head is not None
    assert query is not None
    assert caching is not None
    lines = freshened(stored.lines, answer, received_at=exchange.world.wall())
    verdict = lookup.judge(_as_get(head), head_of(stored, lines), now, exchange.world.wall())
    if not isinstance(verdict, Storable):
        if verdict not in OF_REQUEST:
            cache.forget(stored)  # who has asked is served this once more
        lookup.refused = verdict
        return False
    if not caching.may_store(head, exchange.client_ip):
        lookup.refused = "no_store"
        return True  # it stays as it is
    fresh, there = verdict.freshness, stored.size > 0
    if verdict.vary != vary_names(head_of(stored, stored.lines)):
        cache.store.remove(stored)  # it varies by other fields than it did
        stored.variant = variant_of(verdict.vary, head, query.accept)
    stored.lines = verdict.lines
    stored.born, stored.fresh_until = fresh.born, fresh.fresh_until
    stored.while_revalidate, stored.if_error = fresh.while_revalidate, fresh.if_error
    stored.flags = fresh.flags | stored.flags & COMPRESSIBLE
    stored.tags = verdict.tags
    cache.refreshed(stored, verdict.vary, lookup.bans, there=there)
    return True


def _as_get(head: RequestHead) -> RequestHead:
    """What is stored is the answer to a GET, whoever asks about it."""
    return head if head.method == b"GET" else head.with_method(b"GET")
