"""The way of an answer into the store, once its head has shown that it belongs there.

Owns the body as it comes: it goes on without the client for whom it was asked, so that a slow one delays nobody and one
that leaves takes nothing away. All who wait read from what has come. Only what is complete is found by others later
(threats.md K7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.body import Body
from lbproxy.cache.values import Stored
from lbproxy.errors import BACKEND_CLOSED, BACKEND_CUT, BAD_RESPONSE, BODY_IDLE, OK, RESPONSE_TIMEOUT, Outcome
from lbproxy.http.messages import RequestHead
from lbproxy.session.arriving import Arriving
from lbproxy.session.detached import NOWHERE, Detached, Nowhere
from lbproxy.session.phases import DATA, OVER
from lbproxy.session.refreshing import Refresh
from lbproxy.session.serving import serve
from lbproxy.session.shared_cache import length_of
from lbproxy.session.sharing import serve_others
from lbproxy.session.sinks import Sink
from lbproxy.session.waiting import wake

if TYPE_CHECKING:
    from lbproxy.cache.collapse import Flight
    from lbproxy.session.exchange import Exchange
    from lbproxy.session.lookup import Lookup

# What the client who has asked is told where nothing has gone out yet.
_UNSAID = {BACKEND_CUT: BACKEND_CLOSED, BODY_IDLE: RESPONSE_TIMEOUT}


class Fill(Detached):
    """Takes an answer's body from the backend in place of the exchange that asked for it."""

    __slots__ = ("_arriving", "_flight", "_leader", "_lookup", "_stored", "has_begun")

    def __init__(self, leader: Exchange, sink: Nowhere) -> None:
        super().__init__(leader, sink, leader.head)
        self.pool, self.backend = leader.pool, leader.backend
        self.backend_side, self.backend_tls = leader.backend_side, leader.backend_tls
        self.answer, self.status = leader.answer, leader.status
        self.blamed = leader.blamed
        self.try_began, self.connected_at = leader.try_began, leader.connected_at
        self.sent_at, self.first_byte_at = leader.sent_at, leader.first_byte_at
        self.phase = DATA
        self._leader: Exchange | None = None
        self._flight: Flight | None = None
        self._lookup: Lookup | None = None
        self._stored: Stored | None = None
        self._arriving: Arriving | None = None
        self.has_begun = False
        leader.backend_side = leader.backend = None
        leader.served_by = self.backend
        if self.backend_side is not None:
            self.backend_side.exchange = self
        self.within(self.timeouts.response_body_idle)

    def store(self, leader: Exchange, lookup: Lookup, arriving: Arriving) -> None:
        """This is whose body it takes."""
        self._leader, self._lookup = leader, lookup
        self._stored, self._arriving = arriving.stored, arriving
        self._flight, lookup.flight = lookup.flight, None
        body = arriving.stored.body
        if lookup.cache.pin(body):
            self.pinned = (lookup.cache, body)

    def begun(self) -> None:
        """What came together with the head has been taken: now serve those who want it."""
        leader, self._leader = self._leader, None
        self.has_begun = True
        arriving, lookup, flight = self._arriving, self._lookup, self._flight
        if leader is None or arriving is None or lookup is None or lookup.query is None:
            return
        stored, cache = arriving.stored, lookup.cache
        now = cache.now()
        told = arriving.told
        if told and length_of(stored.body) >= 0:
            told = told[:-2] + b"; stored\r\n"  # while nobody knows how long it will be, that is not sure
        if leader.phase != OVER:
            serve(leader, cache, stored, lookup.query, now, "miss", told=told, own=arriving.own)
        if flight is not None:
            flight.stored, flight.vary = stored, arriving.vary
            serve_others(flight, now)

    def completed(self) -> None:
        """See Exchange: the body is whole, and may be used."""
        self.backend_side = None
        if not self.blamed and self.pool is not None and self.backend is not None:
            self.pool.succeeded(self.backend, self.first_byte_at)
        try:
            self._keep()
            self.begun()
        finally:  # whatever happens, nobody waits for it any more
            self._close()
            self._stored = None  # it is whole, be it that its file is not written yet
            self.over(OK)

    def cut_short(self, outcome: Outcome, rule: str = "") -> None:
        """See Exchange: what has come is no answer."""
        if self.phase == OVER:
            return
        self.rule = rule or self.rule
        self._drop_side()
        self.blame(self.world.clock())
        self.over(outcome)

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """See Exchange."""
        stored, self._stored = self._stored, None
        leader, self._leader = self._leader, None
        if self.phase != OVER and stored is not None and isinstance(self.stream, Sink):
            body = stored.body
            if not isinstance(body, bytes) and not body.complete and not body.failed:
                self.stream.fail()
        if leader is not None and leader.phase != OVER:
            leader.rule = leader.rule or self.rule
            leader.refuse(_UNSAID.get(outcome, BAD_RESPONSE))
        self._close()
        if self.pinned is not None:
            cache, held = self.pinned
            self.pinned = None
            cache.unpin(held)
        if isinstance(self.stream, Sink):
            self.stream.release()
        self._arriving = self._lookup = None
        super().over(outcome, cut=cut)

    def _keep(self) -> None:
        """Put it into the store."""
        stored, lookup, sink = self._stored, self._lookup, self.stream
        if stored is None or lookup is None or not isinstance(sink, Sink):
            return
        body = sink.finish()
        if body is not None:
            stored.body = body
            vary = () if self._arriving is None else self._arriving.vary
            lookup.cache.put(stored, vary, lookup.asked_at)

    def _close(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None and self._lookup is not None:
            self._lookup.cache.flights.end(flight)
            wake(flight)

    def too_long(self) -> None:
        """It will not be stored after all: nobody can join those who read it now."""
        lookup = self._lookup
        if lookup is not None and lookup.query is not None:
            cache = lookup.cache
            if lookup.stored is not None:
                cache.forget(lookup.stored)  # the backend has another one now
            cache.refused["too large"] += 1
            cache.store.mark(lookup.query.key, cache.now() + cache.settings.hit_for_miss)
        self.begun()
        self._close()

    def go_on_reading(self) -> None:
        """There is room for more of the body."""
        sink = self.stream
        if self.phase != OVER and self.backend_side is not None and isinstance(sink, Sink):
            sink.full = False
            sink.moved = self.world.clock()
            self.backend_side.go_on_reading()


class Filling:
    """Makes these for exchanges; see World."""

    __slots__ = ()

    def discard(self, leader: Exchange) -> None:
        """Read the rest of an answer that nobody wants."""
        Fill(leader, NOWHERE)

    def adopt(
        self,
        leader: Exchange,
        lookup: Lookup,
        arriving: Arriving,
    ) -> None:
        """Store the answer that `leader` is being told of, and serve it and those who wait from there."""
        body, cache = arriving.stored.body, lookup.cache
        assert isinstance(body, Body)  # it is coming
        open_file = None if cache.disk is None else cache.disk.begin
        sink = Sink(body, arriving.file, cache.settings.max_object, open_file)
        fill = Fill(leader, sink)
        sink.use(fill)
        fill.store(leader, lookup, arriving)

    def refresh(self, original: Exchange, head: RequestHead, stored: Stored, pool: str) -> None:
        """Have the backend asked about a stored answer, without anybody waiting for it."""
        get = head if head.method == b"GET" else head.with_method(b"GET")
        Refresh(original, get).begin_asking(stored, pool)
