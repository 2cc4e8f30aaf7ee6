"""What an exchange finds in the cache before any backend is asked: an answer, somebody to wait for, or nothing.

Owns the order of these questions. What is done with a found answer is in serving.py, with a backend's in fetching.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.cache.body import AnyBody, Body
from lbproxy.cache.collapse import Flight
from lbproxy.cache.serving import FRESH, REFRESH, how
from lbproxy.cache.values import ALWAYS_ASK, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead
from lbproxy.session.cached import Cached
from lbproxy.session.flights import begin_waiting
from lbproxy.session.from_disk import load
from lbproxy.session.lookup import Lookup
from lbproxy.session.serving import serve

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange


def look_up(
    exchange: Exchange,
    head: RequestHead,
    pool: str,
    loaded: Stored | None = None,
    *,
    again: bool = False,
    disk: bool = True,
) -> bool:
    """Whether no backend need be asked: the request is answered, or waits. Else `exchange.lookup` says what to do.

    `again` tells that it has waited meanwhile. `loaded` has just come from the disk, where there is no need to look
    unless `disk` is True.
    """
    cache, plan = exchange.world.cache, exchange.plan
    assert cache is not None
    assert plan is not None
    caching = plan.caching
    now = cache.now() if again else exchange.read_at + cache.offset
    if caching is None:
        exchange.lookup = Lookup(cache, None, None, pool, now)
        return False
    query = caching.query(exchange, head, exchange.scheme, pool)
    if query.bypass:
        exchange.lookup = lookup = Lookup(cache, caching, query, pool, now)
        lookup.reason = "bypass" if query.bypass != "method" else "method"
        lookup.refused = query.bypass
        exchange.cached = Cached("bypass")
        return False
    stored = cache.find(query, head, now) or loaded
    if stored is not None:
        if now < stored.fresh_until and query.directives is None and not stored.flags & ALWAYS_ASK:
            serve(exchange, cache, stored, query, now, "hit")
            return True
        use = how(stored, query, now)
        if use == FRESH:
            serve(exchange, cache, stored, query, now, "hit")
            return True
        if use == REFRESH and caching.may_store(head, exchange.client_ip):
            if cache.flights.get(query.key) is None and not cache.resting(query.key, now):
                exchange.world.filling.refresh(exchange, head, stored, pool)
            serve(exchange, cache, stored, query, now, "updating")
            return True
    exchange.lookup = lookup = Lookup(cache, caching, query, pool, now)
    exchange.cached = Cached("miss")
    if (
        stored is None
        and disk
        and cache.disk is not None
        and cache.disk.find(query.key)
        and load(exchange, lookup, _go_on)
    ):
        return True
    if query.only_if_cached:
        exchange.refuse(errors.NOT_CACHED)
        return True
    return _fetch(exchange, lookup, head, stored)


def _go_on(exchange: Exchange, loaded: Stored | None) -> None:
    """The disk has been asked."""
    head, lookup = exchange.head, exchange.lookup
    if head is None or lookup is None:
        return
    exchange.lookup = None
    if exchange.world.cache is None or not look_up(exchange, head, lookup.pool, loaded, again=True, disk=False):
        exchange.ask_backend(lookup.pool)


def _fetch(exchange: Exchange, lookup: Lookup, head: RequestHead, stored: Stored | None) -> bool:
    """The backend has to be asked, unless somebody does so already; whether this exchange waits."""
    cache, caching, query = lookup.cache, lookup.caching, lookup.query
    assert caching is not None
    assert query is not None
    if stored is not None:
        lookup.reason = "stale"
        lookup.ask_about(stored)
    else:
        lookup.reason = "vary-miss" if cache.store.get(query.key) is not None else "uri-miss"
    flight = cache.flights.get(query.key)
    if flight is not None and cache.outdated(query.key, flight.began, flight.bans):
        flight = None
    if query.is_head or (query.ranged and stored is None):
        if stored is None and flight is not None and flight.stored is not None:
            return _join(exchange, lookup, head, flight)  # what it wants of it is there
        lookup.refused = "HEAD" if query.is_head else "Range"
        return False
    if not caching.may_store(head, exchange.client_ip):
        lookup.refused = "no_store"
        return False
    if cache.store.marked(query.key, lookup.asked_at):
        # Most likely nothing can be stored again: a client that has it already shall hear that of the backend.
        lookup.storing = not query.conditional or stored is not None
        lookup.refused = "" if lookup.storing else "not stored lately"
        return False
    lookup.storing = True
    if not caching.settings.collapse:
        return False
    if flight is None:
        lookup.flight = cache.flights.open(query.key, exchange, lookup.asked_at)
        lookup.flight.bans = lookup.bans
        return False
    return _join(exchange, lookup, head, flight)


def _join(exchange: Exchange, lookup: Lookup, head: RequestHead, flight: Flight) -> bool:
    """Somebody asks for the same already: have a part in its answer, be it that it has begun to come. Whether so."""
    cache, query, coming = lookup.cache, lookup.query, flight.stored
    assert query is not None
    if coming is None:
        if flight.join(exchange):
            begin_waiting(exchange, lookup, flight)
            return True
        lookup.storing = False
        lookup.refused = "too many wait"
        return False
    if not _joinable(coming.body) or variant_of(flight.vary, head, query.accept) != coming.variant:
        return False
    young = lookup.asked_at - flight.began <= cache.settings.wait and query.directives is None
    if not young and how(coming, query, lookup.asked_at) != FRESH:
        return False
    cache.collapsed += 1
    if exchange.cached is not None:
        exchange.cached.collapsed = True
    serve(exchange, cache, coming, query, lookup.asked_at, "miss", collapsed=True)
    return True


def _joinable(body: AnyBody) -> bool:
    """Whether the beginning of a body that is coming can still be had."""
    if not isinstance(body, Body) or not body.passing:
        return True
    return body.behind is not None and not body.behind.failed
