"""How an exchange gets what is stored on the disk alone: it waits until it has been read, with all who want the same.

Owns that wait. What is short enough is in memory from then on; long bodies stay on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lbproxy.cache.body import Body, FileBody
from lbproxy.cache.collapse import Flight
from lbproxy.cache.values import Query, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead
from lbproxy.session.flights import begin_waiting, for_each_waiter
from lbproxy.session.phases import CONNECT, WAITING

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange
    from lbproxy.session.lookup import Lookup
    from lbproxy.session.shared_cache import SharedCache

# Goes on with what came from the disk, None for nothing.
GoOn = Callable[["Exchange", Stored | None], None]


def load(exchange: Exchange, lookup: Lookup, go_on: GoOn) -> bool:
    """It may be on the disk: wait until that is known, then `go_on`. False where that cannot be waited for."""
    cache, query, head = lookup.cache, lookup.query, exchange.head
    assert query is not None
    assert head is not None
    flight = cache.flights.get(query.key)
    if flight is None:
        flight = cache.flights.open(query.key, None, lookup.asked_at)
        flight.bans = lookup.bans
        _ask_disk(cache, flight, head, query, go_on)
    if flight.leader is not None or not flight.join(exchange):
        return False
    begin_waiting(exchange, lookup, flight)
    return True


def _ask_disk(cache: SharedCache, flight: Flight, head: RequestHead, query: Query, go_on: GoOn) -> None:
    disk = cache.disk
    assert disk is not None

    def loaded(stored: Stored | None, vary: tuple[bytes, ...]) -> None:
        body = None if stored is None else stored.body
        if stored is None or body is None or isinstance(body, bytes | Body) or not fits(body):
            found(stored, vary)
        else:
            body.load(0, body.length, lambda data: read(stored, vary, data))

    def fits(body: FileBody) -> bool:
        """Whether it is short enough for memory, where it can be packed as well."""
        return body.complete and body.length <= cache.settings.max_object

    def read(stored: Stored, vary: tuple[bytes, ...], data: bytes | None) -> None:
        if data is not None:
            stored.body = data
        found(stored, vary)

    def found(stored: Stored | None, vary: tuple[bytes, ...]) -> None:
        cache.flights.end(flight)
        if cache.outdated(query.key, flight.began, flight.bans):
            stored = None  # it may have been purged while it was read
        if stored is not None:
            # The disk has its own account of what was purged, up to when it was asked.
            stored.checked = flight.bans
            cache.take_in(stored, vary)
        for_each_waiter(flight, lambda waiter: _have(waiter, stored, vary, go_on))

    disk.load(query.key, lambda names: variant_of(names, head, query.accept), loaded)


def _have(exchange: Exchange, stored: Stored | None, vary: tuple[bytes, ...], go_on: GoOn) -> None:
    lookup, head = exchange.lookup, exchange.head
    if exchange.phase != WAITING or lookup is None or head is None or lookup.query is None:
        return
    lookup.flight = None
    exchange.phase = CONNECT
    query = lookup.query
    on_loan = None  # a long body stays on the disk, and is not found in memory
    if (
        stored is not None
        and not isinstance(stored.body, bytes)
        and variant_of(vary, head, query.accept) == stored.variant
    ):
        on_loan = stored
    go_on(exchange, on_loan)
