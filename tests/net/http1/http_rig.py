"""A worker that is turned by hand, and conversations in HTTP on real sockets; see net_rig.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lbproxy.http.forwarding import Introducer
from lbproxy.http.request_head import RequestReader
from lbproxy.model import Configuration, ListenerSettings, PoolSettings, RouteSettings, Timeouts
from lbproxy.model_http import HttpRouteSettings, HttpSettings
from lbproxy.net.http1.backend import BackendConnection
from lbproxy.net.http1.client import ClientConnection
from lbproxy.net.reactor import ProxyReactor
from lbproxy.routing.http_routes import http_routes
from lbproxy.session.account import Account
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange_record import ExchangeRecord, record_of_exchange
from lbproxy.session.http_seams import Front
from tests.net.net_rig import Rig, hand_reactor, put, take_all, tcp_pair, turn

STAMP = "2026-01-02T03:04:05.678Z"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class HttpRig(Rig):
    """A listener in HTTP in front of pool "web". Call `backends` first, then `client`."""

    def __init__(
        self,
        reactor: ProxyReactor,
        *,
        listener: HttpSettings | None = None,
        route: HttpRouteSettings | None = None,
        **timeouts: float,
    ) -> None:
        super().__init__(reactor, stock=False, **timeouts)
        self.told: list[ExchangeRecord] = []
        self.worker.answered = self._answered
        self._listener = listener or HttpSettings()
        self._route = route or HttpRouteSettings()
        self._timeouts = Timeouts(**timeouts)

    def _answered(self, exchange: Account, now: float) -> None:
        self.told.append(record_of_exchange(exchange, STAMP, now, 0))

    def backends(self, count: int = 1, receive: int = 0, **settings: Any) -> Any:
        """See Rig; the listener knows them from now on."""
        pool = super().backends(count, receive, **settings)
        self._face(pool.settings)
        return pool

    def _face(self, pool: PoolSettings) -> None:
        http = self._listener
        listener = ListenerSettings("rig", (), protocol="http", http=http)
        answers = self._route.answer is not None
        route = RouteSettings("" if answers else "web", "all", http=self._route)
        routes = http_routes(Configuration((listener,), (pool,), (route,)), listener)
        assert routes.only is not None
        object.__setattr__(routes.only, "timeouts", self._timeouts)
        gate: Any = self.gate
        gate.front = Front(
            http,
            routes,
            RequestReader(http, secure=False),
            Introducer(http, self.worker.instance, self.worker.ids),
            False,
            b"",
            {},
            self._timeouts,
            lambda _name, _host: True,
        )

    def client(self, send: int = 0, receive: int = 0) -> tuple[Conversation, socket.socket]:
        """A client connects: the conversation, and the client's end."""
        theirs, ours = tcp_pair(send, receive)
        self.sockets.append(theirs)
        self.gate.sessions += 1
        gate: Any = self.gate
        conversation = Conversation(self.worker, gate, ("192.0.2.1", 1), ("192.0.2.2", 2), self.now)
        conversation.begin(ClientConnection(self.worker, ours, conversation))
        return conversation, theirs

    def hears(self, sock: socket.socket, end: bytes = b"\r\n\r\n", most: int = 1 << 30) -> bytes:
        """What this end reads until it ends like this."""
        got = bytearray()

        def ended() -> bool:
            data, fin = take_all(sock, most - len(got))
            got.extend(data)
            assert not fin or got.endswith(end), f"FIN behind {bytes(got)!r}"
            return got.endswith(end)

        turn(self.reactor, ended)
        return bytes(got)

    def hears_count(self, sock: socket.socket, count: int) -> bytes:
        """The next so many bytes that this end reads."""
        got = bytearray()

        def enough() -> bool:
            data, fin = take_all(sock, count - len(got))
            got.extend(data)
            assert not fin or len(got) == count, "FIN came before"
            return len(got) == count

        turn(self.reactor, enough)
        return bytes(got)

    def hears_all(self, sock: socket.socket) -> bytes:
        """What this end reads until FIN."""
        got = bytearray()

        def fin() -> bool:
            data, ended = take_all(sock)
            got.extend(data)
            return ended

        turn(self.reactor, fin)
        return bytes(got)

    def sends(self, sock: socket.socket, data: bytes) -> None:
        """All of `data`, as fast as it is taken."""
        left = memoryview(data)

        def gone() -> bool:
            nonlocal left
            left = left[put(sock, bytes(left[:262_144])) :]
            return not left

        turn(self.reactor, gone)

    def exchange(self, client: socket.socket, request: bytes = GET, answer: bytes = OK, backend: Any = None) -> Any:
        """One request and its answer; the backend's end. Both have to end as `hears` expects."""
        put(client, request)
        sock = backend or self.answered_by()
        self.hears(sock)
        put(sock, answer)
        heard = self.hears(client, answer[-2:])
        assert heard.startswith(b"HTTP/1.1 ")
        turn(self.reactor)
        return sock

    def waiting(self) -> list[BackendConnection]:
        """The connections that wait, the next one to be used last."""
        return [side for sides in self.worker.idle._by_backend.values() for side in sides]

    def later(self, seconds: float) -> None:
        """Let the clock go on, and the sweep of idle connections come."""
        self.passes(seconds)
        self.worker.idle._sweep()

    def check_clean(self) -> None:
        """See Rig."""
        for conversation in self.worker.sessions():
            conversation.over(conversation.outcome)
        self.worker.idle.close()
        super().check_clean()
        assert [(pool.queued, pool.retries) for pool in self.pools.values()] == [(0, 0)] * len(self.pools)
        assert self.worker.copies.active == 0


@contextmanager
def http_rig(
    *, listener: HttpSettings | None = None, route: HttpRouteSettings | None = None, **timeouts: float
) -> Iterator[HttpRig]:
    """An HttpRig that closes what it opened, once it has found that nothing was left."""
    with hand_reactor() as reactor:
        made = HttpRig(reactor, listener=listener, route=route, **timeouts)
        try:
            yield made
            made.check_clean()
        finally:
            made.worker.idle.close()
            made.close()


def head_and_body(data: bytes) -> tuple[bytes, bytes]:
    """A message in its two parts."""
    head, _, body = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def dechunked(data: bytes) -> bytes:
    """The payload of chunks."""
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        out += data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]
        if not length:
            assert not data
    return out
