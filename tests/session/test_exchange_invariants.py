"""Whatever happens in whatever order: nothing is leaked, nothing is told twice, nothing unsafe is sent twice."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lbproxy.balancing.backend import Backend
from lbproxy.errors import KILLED_BY_OPERATOR, TryError
from lbproxy.model import OutlierSettings
from lbproxy.model_http import HttpPoolSettings, HttpRouteSettings, Mirror, StickySettings
from lbproxy.session.exchange import Exchange
from lbproxy.session.mirroring import Copy
from lbproxy.session.phases import ANSWER, CONNECT, DATA, OVER, QUEUE, REQUEST, TUNNEL
from tests.session.http_fakes import Talk, web_pool

ROUTES = [
    HttpRouteSettings(),
    HttpRouteSettings(retry_idempotent=True, retry_statuses=(503,)),
    HttpRouteSettings(retry_idempotent=True, mirror=Mirror("copy", unsafe=True)),
]
REQUESTS: list[dict[str, Any]] = [
    {"method": "GET"},
    {"method": "POST", "length": 5},
    {"method": "PUT", "length": 5},
    {"method": "PUT", "length": 70_000},
    {"method": "DELETE", "chunked": True},
    {"method": "PUT", "length": 5, "fields": "Expect: 100-continue"},
    {"method": "GET", "fields": "Connection: Upgrade|Upgrade: websocket"},
    {"method": "GET", "fields": "Connection: close"},
]


class Life(RuleBasedStateMachine):
    """Several clients, three backends with two places each, and everything that may happen to them."""

    @initialize(
        route=st.sampled_from(ROUTES),
        sticky=st.sampled_from([None, StickySettings(), StickySettings("client_ip", strict=True)]),
    )
    def begin(self, route: HttpRouteSettings, sticky: StickySettings | None) -> None:
        http = HttpPoolSettings(sticky=sticky)
        outlier = OutlierSettings(consecutive=1000, min_sessions=1000)
        self.talk = Talk(
            route=route, max_active=2, queue_size=2, http=http, outlier=outlier, pools=[web_pool("m", "copy")]
        )
        self.others: list[Backend] = []
        self.retrying = 0
        self.tunnels: dict[Exchange, Any] = {}

    # Who may be chosen.

    def exchanges(self, *phases: int) -> list[Exchange]:
        return [one for one in self.talk.exchanges if one.phase in phases]

    def some(self, data: st.DataObject, *phases: int) -> Exchange | None:
        found = [one for one in self.exchanges(*phases) if one.backend_side is not None]
        return data.draw(st.sampled_from(found)) if found else None

    def copies(self) -> list[Copy]:
        sides = [side.exchange for side in self.talk.http_factory.all if side.open]
        return [one for one in sides if isinstance(one, Copy)]

    # Clients.

    @rule(data=st.data(), request=st.sampled_from(REQUESTS))
    def ask(self, data: st.DataObject, request: dict[str, Any]) -> None:
        waiting = [one for one in self.talk.conversations if one.phase == REQUEST and one.exchange is None]
        client = data.draw(st.sampled_from([None, *waiting]))
        if client is None and len([one for one in self.talk.conversations if one.phase != OVER]) >= 8:
            return
        exchange = self.talk.asks(client, **request)
        if exchange not in self.talk.exchanges:
            self.talk.exchanges.append(exchange)

    @rule(data=st.data(), size=st.sampled_from([1, 4, 30_000, 66_000]), last=st.booleans())
    def send(self, data: st.DataObject, size: int, last: bool) -> None:
        found = [one for one in self.exchanges(QUEUE, CONNECT, ANSWER, DATA) if not self.talk.stream(one).whole]
        if found:
            self.talk.sends(data.draw(st.sampled_from(found)), bytes(size), last=last)

    @rule(data=st.data(), half=st.booleans())
    def leave(self, data: st.DataObject, half: bool) -> None:
        found = [one for one in self.talk.conversations if one.phase != OVER]
        if not found:
            return
        conversation = data.draw(st.sampled_from(found))
        exchange = conversation.exchange
        if exchange is not None and exchange.phase == TUNNEL:
            tunnel = self.tunnels[exchange]
            if half:
                self.talk.stream(conversation).finished = True
                tunnel.ended(tunnel.client)
            else:
                self.talk.stream(conversation).gone()
                tunnel.lost(tunnel.client)
        elif not half:
            self.talk.leaves(conversation)
        elif not self.talk.stream(conversation).finished:
            self.talk.half_closes(conversation)

    @rule(data=st.data())
    def stall(self, data: st.DataObject) -> None:
        found = self.exchanges(DATA)
        if found:
            exchange = data.draw(st.sampled_from(found))
            self.talk.stalls(exchange, self.talk.stream(exchange))

    @rule()
    def drain(self) -> None:
        for exchange in self.talk.exchanges:
            if exchange.phase != OVER and self.talk.stream(exchange).held:
                self.talk.drains(exchange, self.talk.stream(exchange))

    # Backends.

    @rule(data=st.data(), fine=st.booleans())
    def connect(self, data: st.DataObject, fine: bool) -> None:
        exchange = self.some(data, CONNECT)
        if exchange is None:
            return
        if fine:
            exchange.connected()
        else:
            self.talk.refuses(exchange, data.draw(st.sampled_from([TryError.REFUSED, TryError.LOCAL, TryError.TLS])))

    @rule(data=st.data(), status=st.sampled_from([100, 101, 103, 200, 204, 500, 503]))
    def answer(self, data: st.DataObject, status: int) -> None:
        exchange = self.some(data, ANSWER)
        if exchange is None:
            return
        fields = "Connection: Upgrade|Upgrade: websocket" if status == 101 else ""
        self.talk.answers(exchange, status=status, fields=fields)
        if exchange.phase == TUNNEL:
            self.tunnels[exchange] = self.talk.tunnels(exchange)

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        exchange = self.some(data, DATA)
        if exchange is not None:
            self.talk.completes(exchange)

    @rule(data=st.data(), unsaid=st.booleans())
    def lose(self, data: st.DataObject, unsaid: bool) -> None:
        exchange = self.some(data, ANSWER, DATA, TUNNEL)
        if exchange is None:
            return
        self.talk.stream(exchange).said_nothing = unsaid and not self.talk.stream(exchange).held
        if exchange.phase == TUNNEL:
            tunnel = self.tunnels[exchange]
            tunnel.backend_side.gone()
            tunnel.lost(tunnel.backend_side)
        else:
            self.talk.loses(exchange)

    @rule(data=st.data())
    def die_in_the_pool(self, data: st.DataObject) -> None:
        waiting = [side for sides in self.talk.http_factory.idle.values() for side in sides]
        if waiting:
            data.draw(st.sampled_from(waiting)).is_dead = True

    @rule(data=st.data(), event=st.sampled_from(["connected", "answered", "completed", "lost", "refused"]))
    def copy_goes_on(self, data: st.DataObject, event: str) -> None:
        found = self.copies()
        found += [one for one in self.talk.http_factory.seeking if isinstance(one, Copy) and one.phase == CONNECT]
        found = [one for one in found if one.backend_side is not None]
        if not found:
            return
        copy = data.draw(st.sampled_from(found))
        if copy.phase == CONNECT and event == "connected":
            copy.connected()
        elif copy.phase == CONNECT and event == "refused":
            self.talk.refuses(copy)
        elif copy.phase == ANSWER and event == "answered":
            self.talk.answers(copy)
        elif copy.phase == ANSWER and event == "completed" and copy.first_byte_at >= 0:
            side: Any = copy.backend_side
            side.exchange = None
            side.gone()
            copy.completed()
        elif copy.phase == ANSWER and event == "lost":
            side = copy.backend_side
            side.gone()
            copy.unanswered(TryError.CLOSED)

    @rule(name=st.sampled_from("abc"), state=st.sampled_from(["ready", "maint", "drain"]))
    def administer(self, name: str, state: Any) -> None:
        self.talk.pool.set_admin(self.talk.pool.backends[name], state, self.talk.now)

    # Others, and time.

    @rule()
    def others_come(self) -> None:
        backend = self.talk.pool.take(self.talk.now)
        if backend is not None:
            self.others.append(backend)

    @precondition(lambda self: self.others)
    @rule()
    def others_go(self) -> None:
        self.talk.pool.give_back(self.others.pop(), self.talk.now)

    @rule(count=st.integers(0, 3))
    def others_retry(self, count: int) -> None:
        for _ in range(count):
            self.talk.pool.retry_began()
        for _ in range(self.retrying):
            self.talk.pool.retry_ended()
        self.retrying = count

    @rule(seconds=st.sampled_from([0.0, 0.05, 1.0, 6.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.talk.passes(seconds)

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        found = [one for one in self.talk.conversations if one.phase != OVER]
        if found:
            data.draw(st.sampled_from(found)).kill(KILLED_BY_OPERATOR)

    @rule()
    def stop_gently(self) -> None:
        for conversation in self.talk.conversations:
            if conversation.phase != OVER:
                conversation.drain()

    # What always holds.

    @invariant()
    def counts_are_those_of_the_sessions(self) -> None:
        talk, pool = self.talk, self.talk.pool
        alive = [one for one in talk.exchanges if one.phase != OVER]
        assert pool.active == len(self.others) + sum(one.backend is not None for one in alive)
        assert pool.queued == sum(one.phase == QUEUE for one in alive)
        assert pool.retries == self.retrying + sum(one.retrying for one in alive)
        assert all(backend.active <= 2 for backend in pool.backends.values())
        copies = [one for one in talk.http_factory.seeking if isinstance(one, Copy) and one.phase != OVER]
        assert talk.pools["copy"].active == sum(one.backend is not None for one in copies)
        assert talk.copies.active >= len(copies)

    @invariant()
    def each_exchange_is_told_once(self) -> None:
        talk = self.talk
        ended = [one for one in talk.exchanges if one.phase == OVER]
        assert len(talk.over) == len(ended)
        assert set(talk.over) == set(ended)

    @invariant()
    def nothing_unsafe_is_sent_twice(self) -> None:
        asked: dict[Any, list[tuple[str, bytes]]] = {}
        for name, method, exchange in self.talk.asked:
            asked.setdefault(exchange, []).append((name, method))
        for sent in asked.values():
            assert len(sent) == 1 or sent[0][1] != b"POST"
            assert len(sent) <= 3

    @invariant()
    def a_request_has_all_of_its_body_or_is_cut(self) -> None:
        for side in self.talk.http_factory.all:
            one = side.exchange
            if side.open and side.body_ended and one is not None and not isinstance(one, Copy):
                assert one.head is not None
                assert self.talk.stream(one).sent_of_body == len(side.body)

    def teardown(self) -> None:
        if not hasattr(self, "talk"):
            return
        for conversation in self.talk.conversations:
            conversation.kill(KILLED_BY_OPERATOR)
        self.talk.passes(70)
        self.others_retry(count=0)
        while self.others:
            self.talk.pool.give_back(self.others.pop(), self.talk.now)
        self.talk.check_over()


TestTheLifeOfManyExchanges = Life.TestCase
TestTheLifeOfManyExchanges.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
