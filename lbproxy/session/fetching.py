"""What becomes of an answer that a backend was asked for on the cache's behalf: stored, confirmed, or only passed on.

Owns the order of these questions, and what those hear who wait for the same. The rules are in `cache/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.cache.invalidation import invalidated
from lbproxy.cache.serving import may_replace_error
from lbproxy.errors import Blame, Outcome
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.session.admitting import store
from lbproxy.session.confirming import ask_afresh, confirm, learn_from_head
from lbproxy.session.flights import for_each_waiter
from lbproxy.session.lookup import SAFE, Lookup
from lbproxy.session.phases import WAITING
from lbproxy.session.sharing import serve_all
from lbproxy.session.waiting import wake

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange

_NOT_MODIFIED = 304
# What has nothing to do with the request.
_OF_ALL = frozenset(
    {
        errors.NO_BACKEND,
        errors.DNS,
        errors.REFUSED,
        errors.CONNECT_TIMEOUT,
        errors.BACKEND_TLS,
        errors.QUEUE_FULL,
        errors.QUEUE_TIMEOUT,
        errors.SHED,
    }
)


def answered(exchange: Exchange, lookup: Lookup, answer: ResponseHead, length: int) -> bool:
    """Whether the client is served from the store, be it that this answer goes there first. Else it is passed on."""
    head, query = exchange.head, lookup.query
    assert head is not None
    if head.method not in SAFE:
        _invalidate(exchange, lookup, head, answer)
    if query is None or query.bypass:
        return False
    now = lookup.cache.now()
    stored = lookup.stored
    if stored is not None and lookup.lines and answer.status == _NOT_MODIFIED:
        if not confirm(exchange, lookup, stored, answer, now):
            ask_afresh(exchange, lookup)
        return True
    if stored is not None and answer.status >= 500 and may_replace_error(stored, query, now):
        exchange.world.filling.discard(exchange)
        serve_all(exchange, lookup, stored, query, now, "stale", lookup.tells(reason="stale", status=answer.status))
        return True
    if not lookup.storing:
        if query.is_head:
            learn_from_head(exchange, lookup, answer, now)
        return False
    return store(exchange, lookup, head, answer, length, now)


def rescued(exchange: Exchange, outcome: Outcome) -> bool:
    """Whether a stored answer takes the place of an error of ours (RFC 5861, section 4)."""
    lookup = exchange.lookup
    query = None if lookup is None else lookup.query
    if lookup is None or query is None or query.bypass or outcome.blame is Blame.CLIENT or exchange.status:
        return False
    stored, now = lookup.stored, lookup.cache.now()
    if stored is None or not may_replace_error(stored, query, now):
        _fail_all(lookup, outcome)
        return False
    serve_all(exchange, lookup, stored, query, now, "stale", lookup.tells(reason="stale", detail=outcome.word))
    return True


def _fail_all(lookup: Lookup, outcome: Outcome) -> None:
    """Where no backend could be had, who waits for the same gets the same error: asking again, one after the other,
    would help nobody. Where it was asked, the request may have been the reason: another one tries.
    """
    flight, lookup.flight = lookup.flight, None
    if flight is None:
        return
    lookup.cache.flights.end(flight)
    if outcome not in _OF_ALL:
        wake(flight)
        return

    def fail(waiter: Exchange) -> None:
        if waiter.phase == WAITING and waiter.lookup is not None:
            waiter.lookup.flight = None
            waiter.refuse(outcome)

    for_each_waiter(flight, fail)


def _invalidate(exchange: Exchange, lookup: Lookup, head: RequestHead, answer: ResponseHead) -> None:
    """A request that may have changed something: what is stored of it, and what it points to, is true no more."""
    caching, cache = lookup.caching, lookup.cache
    scheme, now = exchange.scheme, cache.now()
    for path, query in invalidated(head, answer, scheme, merge=caching is None or caching.merged):
        url = b"%b://%b%b" % (scheme, head.authority, path)
        url = url if query is None else b"%b?%b" % (url, query)
        cache.invalidate(url, now)
        key = url if caching is None else caching.key_at(exchange, head, path, query)
        if key != url:
            cache.invalidate(key, now)
        if caching is not None and caching.maker.has_parts:
            cache.invalidate_all(url, now)  # other clients have other keys for it
