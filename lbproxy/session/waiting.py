"""How those who have waited go on: they look again, lead the others, or have waited long enough.

Owns these; how they began to wait is in finding.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.collapse import Flight
from lbproxy.session.finding import look_up
from lbproxy.session.flights import for_each_waiter
from lbproxy.session.phases import CONNECT, WAITING

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange


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
    if not look_up(exchange, head, lookup.pool, again=True):
        exchange.ask_backend(lookup.pool)
    elif exchange.phase == WAITING and exchange.lookup is not None:
        exchange.lookup.waiting_since = lookup.waiting_since


def wake(flight: Flight) -> None:
    """Those that wait look again; where there is still nothing for them, the first will lead the others."""

    def again(waiter: Exchange) -> None:
        if waiter.lookup is not None:
            waiter.lookup.flight = None
        look_again(waiter)

    for_each_waiter(flight, again)


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
