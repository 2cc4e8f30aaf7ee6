"""One stored answer for all who wait for it: who gets it, and who has to look again.

Owns the comparison: what was asked for by one may not be the variant for another, nor be what it may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.serving import may_replace_error
from lbproxy.cache.storing import vary_names
from lbproxy.cache.updating import fields_of
from lbproxy.cache.values import Query, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import ResponseHead
from lbproxy.session.flights import for_each_waiter
from lbproxy.session.lookup import Lookup
from lbproxy.session.phases import WAITING
from lbproxy.session.serving import serve
from lbproxy.session.shared_cache import length_of
from lbproxy.session.waiting import look_again

if TYPE_CHECKING:
    from lbproxy.cache.collapse import Flight
    from lbproxy.session.exchange import Exchange


def serve_all(
    exchange: Exchange, lookup: Lookup, stored: Stored, query: Query, now: float, word: str, told: bytes
) -> None:
    """Serve this to the exchange and to those who wait for it."""
    flight, lookup.flight = lookup.flight, None
    names = vary_names(head_of(stored, stored.lines)) if flight is not None and flight.waiters else ()
    serve(exchange, lookup.cache, stored, query, now, word, told=told)
    if flight is None:
        return
    lookup.cache.flights.end(flight)

    def give(waiter: Exchange) -> None:
        mine = waiter.lookup
        if mine is None or mine.query is None:
            return
        stale = word == "stale" and not may_replace_error(stored, mine.query, now)
        if stale or isinstance(names, str) or not _wants(waiter, stored, names):
            mine.flight = None
            look_again(waiter)
        else:
            _serve_waiter(waiter, stored, now, word, told)

    for_each_waiter(flight, give)


def serve_others(flight: Flight, now: float) -> None:
    """The answer has begun to come: serve it to those who wait for it, as it comes."""
    stored = flight.stored

    def give(waiter: Exchange) -> None:
        if stored is not None and _wants(waiter, stored, flight.vary):
            _serve_waiter(waiter, stored, now, "miss", None)
        elif waiter.lookup is not None:
            waiter.lookup.flight = None
            look_again(waiter)

    for_each_waiter(flight, give)


def _wants(waiter: Exchange, stored: Stored, names: tuple[bytes, ...]) -> bool:
    """Whether this variant is the one for who waits; `names` are those of its Vary."""
    lookup, head = waiter.lookup, waiter.head
    if lookup is None or lookup.query is None or head is None:
        return False
    return (variant_of(names, head, lookup.query.accept) if names else b"") == stored.variant


def _serve_waiter(waiter: Exchange, stored: Stored, now: float, word: str, told: bytes | None) -> None:
    """Serve one that has waited."""
    lookup, head = waiter.lookup, waiter.head
    if waiter.phase != WAITING or lookup is None or head is None or lookup.query is None:
        return
    lookup.flight = None
    lookup.cache.collapsed += 1
    if waiter.cached is not None:
        waiter.cached.collapsed = True
    serve(waiter, lookup.cache, stored, lookup.query, now, word, told=told, collapsed=told is None)


def head_of(stored: Stored, lines: bytes) -> ResponseHead:
    """The head that the stored answer with these lines came with."""
    length = length_of(stored.body)
    return ResponseHead(
        stored.status,
        stored.reason,
        1,
        fields_of(lines),
        lines,
        None if length < 0 else length,
        False,
        False,
        None,
        b"",
    )
