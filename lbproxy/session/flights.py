"""Those who wait for what another exchange has asked for, or for the disk: how they begin to wait, and go on.

Owns these verbs. What becomes of the answer that they wait for is in sharing.py, who may look again in waiting.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lbproxy.cache.collapse import Flight
from lbproxy.session.phases import CONNECT, WAITING

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange
    from lbproxy.session.lookup import Lookup


def begin_waiting(exchange: Exchange, lookup: Lookup, flight: Flight) -> None:
    """It has joined this flight."""
    lookup.flight = flight
    exchange.phase = WAITING
    lookup.waiting_since = exchange.world.clock()
    exchange.within(lookup.cache.settings.wait)


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
