"""What an exchange finds in the cache before any backend is asked: an answer, somebody to wait for, or nothing.

Owns the order of these questions. What is done with a found answer is in serving.py, with a backend's in fetching.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.cache.body import AnyBody, Body
from lbproxy.cache.collapse import Flight
from lbproxy.cache.conditions import revalidating_lines
from lbproxy.cache.serving import FRESH, REFRESH, how
from lbproxy.cache.values import ALWAYS_ASK, Query, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead
from lbproxy.session.cached import Cached
from lbproxy.session.phases import CONNECT, WAITING
from lbproxy.session.serving import serve

if TYPE_CHECKING:
    from lbproxy.session.caching import Caching
    from lbproxy.session.exchange import Exchange
    from lbproxy.session.shared_cache import SharedCache

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


def look_up(
    exchange: Exchange, head: RequestHead, pool: str, loaded: Stored | None = None, *, disk: bool = True
) -> bool:
    """Whether no backend need be asked: the request is answered, or waits. Else `exchange.lookup` says what to do.

    `loaded` has just come from the disk, where there is no need to look again unless `disk` is True.
    """
    cache, plan = exchange.world.cache, exchange.plan
    assert cache is not None
    assert plan is not None
    caching = plan.caching
    now = exchange.read_at + cache.offset
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
    if stored is None and disk and cache.disk is not None and cache.disk.find(query.key) and _load(exchange, lookup):
        return True
    if query.only_if_cached:
        exchange.refuse(errors.NOT_CACHED)
        return True
    return _fetch(exchange, lookup, head, stored)


def look_again(exchange: Exchange) -> None:
    """What was waited for has come, or will not: find out anew what to do. The time it has waited counts on."""
    head, lookup = exchange.head, exchange.lookup
    if exchange.phase != WAITING or head is None or lookup is None:
        return
    exchange.phase = CONNECT
    if exchange.world.cache is None:  # it was switched off meanwhile
        exchange.ask_backend(lookup.pool)
        return
    exchange.lookup = None
    if not look_up(exchange, head, lookup.pool):
        exchange.ask_backend(lookup.pool)
    elif exchange.phase == WAITING and exchange.lookup is not None:
        exchange.lookup.waiting_since = lookup.waiting_since


def for_each_waiter(flight: Flight, do: Callable[[Exchange], None]) -> None:
    """Do this for all that wait, who wait no more; the fault of one is nobody else's."""
    waiters, flight.waiters = flight.waiters, []
    for waiter in waiters:
        try:
            do(waiter)
        except Exception as problem:
            waiter.broken(problem)


def go_alone(flight: Flight) -> None:
    """There is no answer for all: those that wait go to the backend, each for itself (hit-for-miss)."""

    def go(waiter: Exchange) -> None:
        if waiter.phase == WAITING and waiter.lookup is not None:
            waiter.lookup.flight = None
            waiter.phase = CONNECT
            waiter.ask_backend(waiter.lookup.pool)

    for_each_waiter(flight, go)


def stop_waiting(exchange: Exchange) -> None:
    """It has waited long enough: the backend is asked, and nothing is stored (threats.md K10)."""
    lookup = exchange.lookup
    if exchange.phase != WAITING or lookup is None:
        return
    leave(exchange)
    lookup.storing = False
    lookup.refused = "waited too long"
    exchange.phase = CONNECT
    exchange.ask_backend(lookup.pool)


def prepare_refresh(exchange: Exchange, stored: Stored, pool: str) -> None:
    """This exchange, which has no client, shall have the backend confirm `stored`; others may wait for that."""
    cache, plan, head = exchange.world.cache, exchange.plan, exchange.head
    assert cache is not None
    assert plan is not None
    assert plan.caching is not None
    assert head is not None
    query = plan.caching.query(exchange, head, exchange.scheme, pool)
    exchange.lookup = lookup = Lookup(cache, plan.caching, query, pool, cache.now())
    lookup.reason = "stale"
    lookup.storing = not query.is_head
    lookup.ask_about(stored)
    lookup.flight = cache.flights.open(query.key, exchange, lookup.asked_at)
    lookup.flight.bans = lookup.bans


def leave(exchange: Exchange) -> None:
    """This exchange waits no more, and leads no more: another one may have to."""
    lookup = exchange.lookup
    flight = None if lookup is None else lookup.flight
    if lookup is None or flight is None:
        return
    lookup.flight = None
    if flight.leader is not exchange:
        flight.leave(exchange)
        return
    lookup.cache.flights.end(flight)
    wake(flight)


def wake(flight: Flight) -> None:
    """Those that wait look again; where there is still nothing for them, the first will lead the others."""

    def again(waiter: Exchange) -> None:
        if waiter.lookup is not None:
            waiter.lookup.flight = None
        look_again(waiter)

    for_each_waiter(flight, again)


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
    if query.is_head or (query.ranged and stored is None):
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
    flight = cache.flights.get(query.key)
    if flight is None or cache.outdated(query.key, flight.began, flight.bans):
        lookup.flight = cache.flights.open(query.key, exchange, lookup.asked_at)
        lookup.flight.bans = lookup.bans
        return False
    coming = flight.stored
    if coming is not None:
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
    if not flight.join(exchange):
        lookup.storing = False
        lookup.refused = "too many wait"
        return False
    lookup.flight = flight
    _wait(exchange, lookup)
    return True


def _joinable(body: AnyBody) -> bool:
    """Whether the beginning of a body that is coming can still be had."""
    if not isinstance(body, Body) or not body.passing:
        return True
    return body.behind is not None and not body.behind.failed


def _wait(exchange: Exchange, lookup: Lookup) -> None:
    exchange.phase = WAITING
    lookup.waiting_since = exchange.world.clock()
    exchange.within(lookup.cache.settings.wait)


def _load(exchange: Exchange, lookup: Lookup) -> bool:
    """It may be on the disk: wait until that is known. What comes from there is in memory afterwards."""
    cache, query, head = lookup.cache, lookup.query, exchange.head
    assert query is not None
    assert head is not None
    flight = cache.flights.get(query.key)
    if flight is None:
        flight = cache.flights.open(query.key, None, lookup.asked_at)
        flight.bans = lookup.bans
        _ask_disk(cache, flight, head, query)
    if flight.leader is not None or not flight.join(exchange):
        return False
    lookup.flight = flight
    _wait(exchange, lookup)
    return True


def _ask_disk(cache: SharedCache, flight: Flight, head: RequestHead, query: Query) -> None:
    disk = cache.disk
    assert disk is not None

    def loaded(stored: Stored | None, vary: tuple[bytes, ...]) -> None:
        body = None if stored is None else stored.body
        if stored is None or body is None or isinstance(body, bytes | Body) or body.length > cache.settings.max_object:
            found(stored, vary)
        else:  # it is short enough for memory, where it can be packed as well
            body.load(0, body.length, lambda data: read(stored, vary, data))

    def read(stored: Stored, vary: tuple[bytes, ...], data: bytes | None) -> None:
        if data is not None:
            stored.body = data
        found(stored, vary)

    def found(stored: Stored | None, vary: tuple[bytes, ...]) -> None:
        cache.flights.end(flight)
        if stored is not None:
            # The disk has its own account of what was purged, up to when it was asked.
            stored.checked = flight.bans
            cache.take_in(stored, vary)
        for_each_waiter(flight, lambda waiter: _have_from_disk(waiter, stored, vary))

    disk.load(query.key, lambda names: variant_of(names, head, query.accept), loaded)


def _have_from_disk(exchange: Exchange, stored: Stored | None, vary: tuple[bytes, ...]) -> None:
    lookup, head = exchange.lookup, exchange.head
    if exchange.phase != WAITING or lookup is None or head is None or lookup.query is None:
        return
    lookup.flight = None
    exchange.phase = CONNECT
    exchange.lookup = None
    query = lookup.query
    on_loan = None  # a long body stays on the disk, and is not found in memory
    if (
        stored is not None
        and not isinstance(stored.body, bytes)
        and variant_of(vary, head, query.accept) == stored.variant
    ):
        on_loan = stored
    if not look_up(exchange, head, lookup.pool, on_loan, disk=False):
        exchange.ask_backend(lookup.pool)
