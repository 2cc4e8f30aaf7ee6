"""Doubles for the seams of HTTP sessions, and a world to play with them; see session_fakes.py.

The heads of requests and answers are real ones, read by the real readers; so are routes and pools. What is done goes
into one list of words: `talk.did()` gives what was done since the last call. Bodies are whatever the test says they
are: the client's stream hands them to the backend as the real one does, and keeps them while there is none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.cache.body import Body
from lbproxy.cache.face import Face, Part
from lbproxy.compress.effort import Effort
from lbproxy.errors import BACKEND_CUT, NO_BACKEND, OK, TryError
from lbproxy.http.forwarding import Introducer
from lbproxy.http.framing import body_of_response
from lbproxy.http.identity import RequestIds
from lbproxy.http.messages import HttpError, RequestHead, ResponseHead
from lbproxy.http.request_head import RequestReader
from lbproxy.http.response_head import ResponseReader
from lbproxy.model import (
    BackendSettings,
    Configuration,
    ListenerSettings,
    PoolSettings,
    RouteSettings,
    Timeouts,
    TimeoutSettings,
)
from lbproxy.model_http import HttpRouteSettings, HttpSettings
from lbproxy.net.http1.backend import request_bytes
from lbproxy.routing.http_routes import http_routes
from lbproxy.routing.keys import KeyOf, key_reader
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange import Exchange
from lbproxy.session.exchange_record import ExchangeRecord, record_of_exchange
from lbproxy.session.filling import Filling
from lbproxy.session.http_seams import BodySink, Front
from lbproxy.session.mirroring import Copies, mirror
from lbproxy.session.phases import ANSWER, DATA, LAST, OVER
from lbproxy.session.seams import Opening
from lbproxy.session.shared_cache import SharedCache
from lbproxy.session.sticking import Sticking, cookie_names
from lbproxy.session.tunnel import Tunnel
from tests.session.session_fakes import LOCAL, PEER, START, FakeGate, FakeSide, FakeWheel

STAMP = "2026-01-02T03:04:05.678Z"
INSTANCE = b"lbproxy-0a1b2c3d"
# POSIX seconds when the clock shows START.
WALL = 1_700_000_000.0
KEY = bytes(32)


# Where a body that is still coming may end.
_OPEN = 1 << 62


class FakeReader:
    """A stored answer on its way to a client; see net/http1/presenting.py. It reads as far as its client has room."""

    may_lag = True

    def __init__(self, stream: FakeStream, exchange: Exchange, face: Face) -> None:
        self._stream = stream
        self._exchange = exchange
        self._body = face.body
        self._parts: list[Part] = [(0, _OPEN)] if face.parts is None else list(face.parts)
        self.position = 0
        self._end = 0
        if not isinstance(self._body, bytes):
            self._body.wait(self)

    def leave(self) -> None:
        """The client is gone, or has got everything."""
        if not isinstance(self._body, bytes):
            self._body.leave(self)

    def more(self) -> None:
        """See BodyReaderLike."""
        stream = self._stream
        while stream.reader is self and not stream.held:
            if self.position < self._end:
                if not self._reads():
                    return
            elif not self._parts:
                stream.reader = None
                self.leave()
                self._exchange.presented()
            else:
                part = self._parts.pop(0)
                if isinstance(part, bytes):
                    stream.content += part
                else:
                    self.position, self._end = part

    def _reads(self) -> bool:
        """Read what is there, once; whether to go on."""
        body, stream = self._body, self._stream
        if isinstance(body, bytes):
            end = min(self._end, len(body))
            stream.content += body[self.position : end]
            self.position = self._end = end
            return True
        there = min(body.length, self._end) - self.position
        if not there:
            if body.complete:
                self._end = self.position
                return True
            if body.failed:
                self._breaks()
            return False
        most = there if stream.room is None else min(there, stream.room)
        if not most:
            return False
        data = self._bytes(most)
        if not data:
            self._breaks()
            return False
        stream.content += data
        stream.moved = stream.clock()
        self.position += len(data)
        if stream.room is not None:
            stream.room -= len(data)
        if isinstance(body, Body):
            body.advanced()
        return True

    def _bytes(self, most: int) -> bytes:
        """The next bytes; b"" when they are not there any more."""
        body: Any = self._body
        if isinstance(body, Body):
            if self.position >= body.start:
                return bytes(body.read(self.position, most))
            body = body.behind
        if body is None or body.failed:
            return b""
        return bytes(body.data[self.position : min(self.position + most, body.length)])

    def _breaks(self) -> None:
        self._stream.reader = None
        self.leave()
        self._exchange.cut_short(BACKEND_CUT)


class FakeStream(FakeSide):
    """The connection of a client. `got` is what it was answered, heads in order; `lines` and `extra` are those of the
    last one. `body` collects what the client sent and nobody took yet.

    `content` is what followed the head of the last stored answer, `room` how many bytes of it the client still takes,
    None for all of them.
    """

    def __init__(self, talk: Talk, conversation: Conversation) -> None:
        super().__init__("client", talk.log, talk.now)
        self._talk = talk
        self.conversation = conversation
        self.given = self.taken = 0
        self.whole = True
        self.paused = 0.0
        self.persists = True
        self.takes = False  # whether the peer acknowledges bytes although it is stalled
        self.said_nothing = False  # whether the head of the answer has stayed with us
        self.to: FakeBackend | None = None
        self.body = b""
        self.sent_of_body = 0
        self.got: list[ResponseHead] = []
        self.lines: bytes | None = None
        self.extra = b""
        self.reply_fields: dict[bytes, bytes] = {}
        self.reply_body = b""
        self.face: Face | None = None
        self.reader: FakeReader | None = None
        self.content = b""
        self.room: int | None = None

    def gone(self) -> None:
        super().gone()
        self._reads_no_more()

    def _end(self, how: str) -> None:
        super()._end(how)
        self._reads_no_more()

    def _reads_no_more(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.leave()

    def clock(self) -> float:
        return self._talk.now

    def still_takes(self) -> bool:
        if self.takes:
            self.moved = self._talk.now
        return self.takes

    def serve(self) -> None:
        self._must_be_open("serve")
        self._log.append("client.serve")

    def drop_head(self) -> None:
        self.taken = len(self.kept)
        self.kept = b""
        self.whole = True

    @property
    def begun(self) -> bool:
        return bool(self.kept)

    def begins(self, head: RequestHead | None) -> None:
        """The script: a request has been read."""
        self.whole = head is None or not head.length
        self.persists = head is not None and not head.close
        self.given = self.taken = self.dropped = 0
        self.body = b""
        self.to = None
        self.paused = 0.0
        self.sent_of_body = 0

    # The request's body.

    def begin_body(self, backend: Any) -> None:
        assert isinstance(backend, FakeBackend)
        assert backend.open, "a body for a closed connection"
        exchange = self.conversation.exchange
        assert exchange is not None
        again = b"" if exchange.replay is None else bytes(exchange.replay.data)
        self.to = backend
        self._log.append(f"client>{backend.name}" + (f" {len(again)} again" if again else ""))
        backend.body += again
        waiting, self.body = self.body, b""
        if waiting:
            self.pass_on(waiting)
        if self.whole:
            exchange.body_sent()

    def pass_on(self, data: bytes) -> None:
        """Body of the client, which goes on if it may."""
        exchange = self.conversation.exchange
        if self.to is None or exchange is None:
            self.body += data
            return
        if exchange.replay is not None:
            exchange.replay.add(data)
        self.to.body += data

    def hold_body(self) -> None:
        if self.to is not None:
            self._log.append("client.hold_body")
        self.to = None

    def stop_body(self) -> None:
        self._log.append("client.stop_body")
        self.to = None

    # Answers.

    def respond(self, head: ResponseHead, length: int, lines: bytes | None, extra: bytes) -> None:
        self._must_be_open("respond")
        conversation = self.conversation
        if not self.whole or conversation.last:
            self.persists = False
        self.got.append(head)
        self.lines, self.extra = lines, extra
        self._log.append(f"client<{head.status}" + ("" if self.persists else " close"))

    def present(self, face: Face) -> None:
        self._must_be_open("present")
        if not self.whole or self.conversation.last:
            self.persists = False
        self.got.append(face.head)
        self.face = face
        self.lines, self.extra = face.lines, face.extra
        self._log.append(f"client<{face.head.status} stored" + ("" if self.persists else " close"))
        exchange = self.conversation.exchange
        assert exchange is not None
        self.content = b""
        if face.long:
            self.moved = self.clock()
        self.reader = reader = FakeReader(self, exchange, face)
        reader.more()

    def unsaid(self) -> bool:
        return self.said_nothing

    def interim(self, head: ResponseHead) -> None:
        self._must_be_open("interim")
        self.got.append(head)
        self._log.append(f"client<{head.status}")

    def go_on(self) -> None:
        self._must_be_open("go_on")
        self._log.append("client<100 of ours")

    def reply(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes, *, close: bool) -> None:
        self._must_be_open("reply")
        if close or not self.whole or self.conversation.last:
            self.persists = False
        self.reply_fields = dict(fields)
        self.reply_body = body
        self._log.append(f"client!{status}" + ("" if self.persists else " close"))

    def tunnel(self, head: ResponseHead, lines: bytes | None, extra: bytes) -> None:
        self._must_be_open("tunnel")
        self.got.append(head)
        self._log.append(f"client<{head.status} tunnel")

    def exchange_over(self) -> None:
        if not self.open:
            return
        self.to = None
        if not self.persists or not self.whole or self.conversation.last or self.finished:
            self.conversation.finish(gently=not self.whole)
        else:
            self._log.append("client.next")


class FakeBackend(FakeSide):
    """A connection to a backend. `asked` is the request as it was written, `body` what followed it. `sink` is who takes
    the answer's body in place of a client, `left` what is still to come of it (or CHUNKED, UNTIL_CLOSE), `wanted`
    whether more of it is.
    """

    def __init__(self, talk: Talk, name: str, backend: Backend) -> None:
        super().__init__(name, talk.log, talk.now)
        self._talk = talk
        self.backend = backend
        self.exchange: Exchange | None = None
        self.asked = b""
        self.body = b""
        self.is_dead = False  # the next request finds it closed
        self.takes = False
        self.idle_since = 0.0
        self.body_ended = False
        self.sink: BodySink | None = None
        self.left = 0
        self.wanted = True

    def still_takes(self) -> bool:
        if self.takes:
            self.moved = self._talk.now
        return self.takes

    def go_on_reading(self) -> None:
        self.wanted = True

    def absorbs(self, exchange: Exchange, length: int, data: bytes) -> None:
        """The script: the body of an answer that no client reads begins; see `_absorb` of net/http1/backend.py."""
        self.sink = exchange.stream  # type: ignore[assignment]  # it has no client
        self.left = length
        self.wanted = True
        if data or not length:
            self.comes(data)
        exchange.begun()

    def comes(self, data: bytes, *, last: bool = False) -> None:
        """The script: more of that body; `last` where its length does not tell."""
        sink = self.sink
        assert sink is not None, "nobody takes this body"
        if self.left >= 0:
            assert len(data) <= self.left, "more than was announced"
            self.left -= len(data)
            last = not self.left
        if data and not sink.take(data):
            self.wanted = False
        if last and self.exchange is not None:
            exchange, self.exchange, self.sink = self.exchange, None, None
            self.idle_since = self._talk.now
            self._talk.http_factory.idle.setdefault(self.name, []).append(self)
            exchange.completed()

    def ask(self, exchange: Exchange) -> None:
        self._must_be_open("ask")
        head = exchange.head
        assert head is not None
        self.exchange = exchange
        self.bytes_in = 0
        self.body = b""
        self.body_ended = False
        if self.is_dead:
            self.gone()
            self._log.append(f"{self.name}.dead")
            exchange.unanswered(TryError.CLOSED, "closed before the request", unsent=True)
            return
        self.asked = request_bytes(exchange, head)
        self._talk.asked.append((self.name, head.method, exchange))
        self._log.append(f"{self.name}.ask {head.method.decode()} {self.asked.split()[1].decode()}")

    def send_body(self, body: bytes) -> None:
        self.body += body
        if self.exchange is not None:
            self.exchange.body_sent()

    def end_body(self) -> None:
        assert not self.body_ended, "the end of a body was told twice"
        self.body_ended = True

    def abandon(self) -> None:
        self.exchange = self.sink = None
        if self.open:
            self.gone()
            self._log.append(f"{self.name}.abandon")


class FakeHttpFactory:
    """As net/http1/factory.py. `idle` are the connections that wait, by backend; the last is used next."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.at_once: dict[str, TryError] = {}
        self.idle: dict[str, list[FakeBackend]] = {}
        self.avoided: list[str] = []
        self.all: list[FakeBackend] = []
        self.seeking: list[Any] = []

    def connect(self, session: Any, now: float) -> None:
        self.seeking.append(session)
        pool = session.pool
        backend = session.take(now)
        if backend is None:
            session.none_taken(NO_BACKEND if session.strictly_bound else pool.refusal(session.tried), now)
            return
        session.backend = backend
        self.dial(session, now)

    def dial(self, session: Any, now: float) -> None:
        waiting = self.idle.get(session.backend.id) if session.pool.settings.send_proxy is None else None
        if waiting:
            side = waiting.pop()
            if not session.daring or now - side.idle_since < 1.0:
                self._talk.log.append(f"reuse {side.name}")
                session.reuse(side, now)
                return
            side.close()
        self.dial_fresh(session, now)

    def dial_fresh(self, session: Any, now: float) -> None:
        backend = session.backend
        self._talk.log.append(f"dial {backend.id}")
        session.try_begins(now)
        error = self.at_once.get(backend.id)
        if error is not None:
            session.dial_failed(error)
            return
        side = FakeBackend(self._talk, backend.id, backend)
        self.all.append(side)
        session.dialling(side)

    def unreachable(self, backend: Backend) -> None:
        self.avoided.append(backend.id)


class HttpGate(FakeGate):
    """A listener that speaks HTTP."""

    front: Front
    wrong_names: set[str]


def web_pool(names: str = "a b c", name: str = "web", **rest: Any) -> PoolSettings:
    """A pool with backends of these names, chosen in this order."""
    rest.setdefault("policy", "first")
    backends = tuple(
        BackendSettings(one, Address("ip", "203.0.113.1", 9001 + place)) for place, one in enumerate(names.split())
    )
    return PoolSettings(name=name, backends=backends, **rest)


class _Call:
    """What will be called later, unless it is cancelled."""

    def __init__(self, calls: list[tuple[float, Callable[[], None]]], entry: tuple[float, Callable[[], None]]) -> None:
        self._calls = calls
        self._entry = entry

    def cancel(self) -> None:
        if self._entry in self._calls:
            self._calls.remove(self._entry)


class Talk:
    """A world with pools, one listener in HTTP and the conversations that `accept` makes. It fills `World`.

    `listener` are its settings in HTTP. `route` are the settings of the one route there is, or `routes` of several;
    `timeouts` count for all of them.
    """

    def __init__(
        self,
        names: str = "a b c",
        *,
        route: HttpRouteSettings | None = None,
        routes: Sequence[RouteSettings] | None = None,
        listener: HttpSettings | None = None,
        timeouts: Mapping[str, float] | None = None,
        pools: Sequence[PoolSettings] = (),
        secure: bool = False,
        hsts: bytes = b"",
        **rest: Any,
    ) -> None:
        self.log: list[str] = []
        self.now = START
        self.wheel: Any = FakeWheel(START)
        self.http_factory: Any = FakeHttpFactory(self)
        self.factory: Any = None
        self.copies = Copies()
        self.cache: SharedCache | None = None
        self.filling = Filling()
        self.effort = Effort()
        self.beside: list[tuple[Callable[[], bytes], Callable[[bytes | None], None]]] = []
        self.dice = [0.5]
        settings = (web_pool(names, **rest), *pools)
        self.pools = {one.name: Pool(one, random.Random(1).random, START) for one in settings}
        self.pool = self.pools["web"]
        self.records: list[ExchangeRecord] = []
        self.over: list[Exchange] = []
        self.unheard: list[Conversation] = []
        self.exchanges: list[Exchange] = []
        self.conversations: list[Conversation] = []
        self.streams: dict[Conversation, FakeStream] = {}
        self.faults: list[BaseException] = []
        self.asked: list[tuple[str, bytes, Exchange]] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._sticking: dict[str, Sticking] = {}
        self._answers = ResponseReader()
        own = TimeoutSettings(**dict(timeouts or {}))
        if routes is None:
            pool = "" if route is not None and (route.split or route.redirect or route.answer) else "web"
            routes = () if route is None else (RouteSettings(pool, "all", line=3, http=route),)
        self.gate = HttpGate(self.log, {})
        http = listener or HttpSettings()
        fallback = None if routes else "web"
        one = ListenerSettings(
            "web", (Address("ip", "127.0.0.1", 80),), protocol="http", pool=fallback, http=http, timeouts=own
        )
        configuration = Configuration((one,), settings, tuple(routes))
        ids = RequestIds(random.Random(2).randbytes)
        self.gate.wrong_names = set()
        self.gate.front = Front(
            http,
            http_routes(configuration, one),
            RequestReader(http, secure=secure),
            Introducer(http, INSTANCE, ids),
            secure,
            hsts,
            {page.status: page for page in http.error_pages},
            own.over(Timeouts()),
            lambda _, host: host not in self.gate.wrong_names,
            cookie_names(configuration.pools),
        )

    # World.

    def clock(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now - START

    def random(self) -> float:
        """The first of `dice`; the last one stays for ever."""
        return self.dice[0] if len(self.dice) == 1 else self.dice.pop(0)

    def later(self, delay: float, call: Callable[[], None], /) -> object:
        entry = (self.now + delay, call)
        self._later.append(entry)
        return _Call(self._later, entry)

    def key_of(self, hash_key: str) -> KeyOf:
        return key_reader(hash_key)

    def sticking(self, pool: Pool) -> Sticking:
        settings = pool.settings.http.sticky
        assert settings is not None
        name = pool.settings.name
        if name not in self._sticking:
            self._sticking[name] = Sticking(name, settings, KEY)
        return self._sticking[name]

    def http_side(self, client: Any) -> Any:
        return client

    def aside(self, call: Callable[[], bytes], then: Callable[[bytes | None], None], /) -> None:
        """It is done when the test says so."""
        self.beside.append((call, then))

    def mirror(self, exchange: Exchange, head: RequestHead, body: bytes | None) -> None:
        mirror(exchange, head, body)

    def answered(self, exchange: Exchange, now: float) -> None:
        self.over.append(exchange)
        self.log.append(f"record {exchange.outcome}")
        self.records.append(record_of_exchange(exchange, STAMP, now, 7))

    def conversation_over(self, conversation: Conversation) -> None:
        pass

    def new_id(self) -> str:
        return f"id{len(self.conversations)}"

    def ended(self, session: Any, now: float) -> None:
        self.unheard.append(session)
        self.log.append(f"unheard {session.outcome}")

    def fault(self, problem: BaseException) -> None:
        self.faults.append(problem)

    # The script.

    def did(self) -> list[str]:
        """What was done since the last call."""
        done, self.log[:] = list(self.log), []
        return done

    def accept(
        self, *, opening: Opening | None = None, peer: tuple[str, int] = PEER, quietly: bool = True
    ) -> Conversation:
        """A client connects."""
        opening = opening or Opening()
        self.gate.opening = opening
        self.gate.sessions += 1
        conversation = Conversation(self, self.gate, peer, LOCAL, self.now)  # type: ignore[arg-type]  # fakes
        stream = FakeStream(self, conversation)
        self.conversations.append(conversation)
        self.streams[conversation] = stream
        if not opening.header:
            assert self.gate.admit(peer[0]) is None
        conversation.begin(stream)
        if quietly:
            self.did()
        return conversation

    def stream(self, session: Exchange | Conversation) -> FakeStream:
        return self.streams[session.conversation if isinstance(session, Exchange) else session]

    def side(self, exchange: Exchange) -> FakeBackend:
        """The connection to the backend that this exchange uses now."""
        side = exchange.backend_side
        assert isinstance(side, FakeBackend)
        return side

    def asks(self, conversation: Conversation | None = None, text: bytes = b"", **parts: Any) -> Exchange:
        """The client asks, on a new connection if none is given: `text`, or what `message` makes of the rest."""
        conversation = conversation or self.accept()
        found = self.gate.front.reader.read(text or message(**parts))
        assert found is not None
        head, used = found
        stream = self.stream(conversation)
        assert stream.open
        stream.begins(head)
        stream.taken = used
        stream.bytes_in += used
        stream.touched = self.now
        conversation.asked(head, self.now, self.now)
        exchange = conversation.exchange
        if exchange is None:  # it is over already
            return self.over[-1]
        self.exchanges.append(exchange)
        return exchange

    def asked_and_sent(self, conversation: Conversation | None = None, text: bytes = b"", **parts: Any) -> Exchange:
        """The client asks, and the first backend has taken the connection; what it took to get there is told."""
        exchange = self.asks(conversation, text, **parts)
        exchange.connected()
        assert exchange.phase == ANSWER
        self.did()
        return exchange

    def reused(self, conversation: Conversation | None = None, text: bytes = b"", **parts: Any) -> Exchange:
        """The client asks on a connection of a backend that has served before."""
        conversation = conversation or self.accept()
        first = self.asked_and_sent(conversation)
        self.ok(first)
        exchange = self.asks(conversation, text, **parts)
        assert exchange.phase == ANSWER
        assert exchange.reused
        self.did()
        return exchange

    def misreads(self, conversation: Conversation, text: bytes) -> None:
        """The client sends what is no request."""
        self.stream(conversation).begins(None)
        try:
            self.gate.front.reader.read(text)
        except HttpError as problem:
            conversation.misread(problem, self.now)
            return
        raise AssertionError("that was a request")

    def sends(self, exchange: Exchange, data: bytes, *, last: bool = False) -> None:
        """The client sends some of its request's body."""
        stream = self.stream(exchange)
        stream.bytes_in += len(data)
        stream.taken += len(data)
        stream.sent_of_body += len(data)
        stream.touched = self.now
        stream.pass_on(data)
        if last:
            stream.whole = True
            if stream.to is not None:
                exchange.body_sent()

    def answers(
        self,
        exchange: Exchange,
        text: bytes | None = None,
        *,
        status: int = 200,
        fields: str = "",
        body: bytes = b"",
    ) -> None:
        """The backend says this, which is a head or several: interim ones and the last. `body` comes with it where no
        client reads it; else it is left to `completes`.
        """
        side = self.side(exchange)
        data = text if text is not None else answer(status, fields)
        side.bytes_in += len(data)
        side.touched = self.now
        while data and side.exchange is exchange:
            found = self._answers.read(data)
            assert found is not None
            head, used = found
            data = data[used:]
            if head.status < 200 and head.status != 101:
                exchange.interim(head)
            else:
                assert exchange.head is not None
                length = body_of_response(head, exchange.head.method)
                exchange.answered(head, length)
                self._follows(side, exchange, head, length, body)

    @staticmethod
    def _follows(side: FakeBackend, exchange: Exchange, head: ResponseHead, length: int, body: bytes) -> None:
        """As net/http1/backend.py, where the body of an answer begins."""
        now_for: Exchange | None = side.exchange
        if now_for is None or (now_for is not exchange and now_for.answer is not head):
            return  # it was given up, or asks once more
        if not isinstance(now_for.stream, FakeStream):
            side.absorbs(now_for, length, body)

    def brings(self, side: FakeBackend, data: bytes, *, last: bool = False) -> None:
        """More of an answer's body that no client reads."""
        side.bytes_in += len(data)
        side.touched = self.now
        side.comes(data, last=last)

    def breaks(self, side: FakeBackend) -> None:
        """The backend closes its connection within such a body."""
        exchange = side.exchange
        assert exchange is not None
        side.gone()
        exchange.cut_short(BACKEND_CUT, "B5")

    def completes(self, exchange: Exchange, count: int = 5) -> None:
        """The rest of the answer comes; the backend's connection waits for the next request."""
        side = self.side(exchange)
        side.touched = self.now
        self.stream(exchange).given += count
        side.exchange = None
        if exchange.sent_at < 0:
            side.gone()
        else:
            side.idle_since = self.now
            self.http_factory.idle.setdefault(side.name, []).append(side)
        exchange.completed()

    def ok(self, exchange: Exchange, **parts: Any) -> None:
        """The backend answers, and all of it is passed on."""
        self.answers(exchange, **parts)
        self.completes(exchange)

    def loses(self, exchange: Exchange) -> None:
        """The backend closes its connection."""
        side = self.side(exchange)
        side.gone()
        if exchange.phase == ANSWER:
            exchange.unanswered(TryError.CLOSED)
        else:
            exchange.cut_short(BACKEND_CUT, "B5")

    def refuses(self, exchange: Exchange, error: TryError = TryError.REFUSED, detail: str = "") -> None:
        """The backend that is being dialled does not take the connection."""
        self.side(exchange).gone()
        exchange.dial_failed(error, detail)

    def leaves(self, conversation: Conversation, *, stalled: bool = False) -> None:
        """The client's connection is lost."""
        self.stream(conversation).gone()
        conversation.client_lost(stalled=stalled)

    def half_closes(self, conversation: Conversation) -> None:
        """The client sends FIN."""
        self.stream(conversation).finished = True
        conversation.client_ended()

    def stalls(self, exchange: Exchange, side: FakeSide, count: int = 1000) -> None:
        """The kernel of this side takes no more: so much is held."""
        if not side.held:
            side.moved = self.now
        side.held += count
        exchange.stalled()

    def drains(self, exchange: Exchange, side: FakeSide) -> None:
        """The kernel of this side has taken what was held."""
        side.held = 0
        side.moved = self.now
        if isinstance(side, FakeStream):
            exchange.flushed()

    def tunnels(self, exchange: Exchange) -> Tunnel:
        """What the connections do once the protocol has changed."""
        side, stream = self.side(exchange), self.stream(exchange)
        tunnel = Tunnel(exchange, stream, side, self.now)
        side.exchange = None
        stream.bytes_in = side.bytes_in = 0
        return tunnel

    def passes(self, seconds: float = 0.0) -> None:
        """Time passes; whoever is due is asked, as late as by the real wheel at the most."""
        until = self.now + seconds
        self._run()
        while self.now < until:
            due = min([*self.wheel.due.values(), *(when for when, _ in self._later), until])
            self.now = min(until, max(due, self.now + 0.1))
            self.wheel.now = self.now
            self.wheel.ask(self.now)
            self._run()

    def _run(self) -> None:
        for entry in [one for one in self._later if one[0] <= self.now]:
            if entry in self._later:  # an earlier one may have cancelled it
                self._later.remove(entry)
                entry[1]()

    def busy(self, backend_id: str, pool: str = "web") -> Backend:
        """Somebody else takes a lease on this backend."""
        chosen = self.pools[pool]
        others = [backend for backend in chosen.backends.values() if backend.id != backend_id]
        backend = chosen.take(self.now, None, others)
        assert backend is not None
        assert backend.id == backend_id
        return backend

    def check_clean(self) -> None:
        """Everything was given back: what must hold once no exchange is under way."""
        assert self.faults == []
        for pool in self.pools.values():
            assert (pool.active, pool.queued, pool.retries) == (0, 0, 0)
            assert [backend.active for backend in pool.backends.values()] == [0] * len(pool.backends)
        assert all(exchange.phase == OVER for exchange in self.exchanges)
        assert all(self.over.count(exchange) == 1 for exchange in self.exchanges), "not answered exactly once"
        assert len(self.records) == len(self.over)
        assert self.copies.active == 0
        assert all(conversation.exchange is None for conversation in self.conversations)
        ended = [conversation for conversation in self.conversations if conversation.phase == OVER]
        assert not any(conversation in self.wheel.due for conversation in ended), "an ended one is still in the wheel"
        assert set(self.wheel.due) <= set(self.conversations), "a tunnel is still in the wheel"
        assert self.gate.sessions == len(self.gate.inside) == len(self.conversations) - len(ended)
        assert not any(self.streams[conversation].open for conversation in ended)
        waiting = [side for sides in self.http_factory.idle.values() for side in sides]
        assert [side for side in self.http_factory.all if side.open and side not in waiting] == []

    def check_over(self) -> None:
        """As `check_clean`, and no client is left either."""
        self.check_clean()
        assert all(conversation.phase == OVER for conversation in self.conversations)


def message(
    path: str = "/",
    method: str = "GET",
    *,
    length: int | None = None,
    chunked: bool = False,
    host: str = "www.example.com",
    fields: str = "",
    minor: int = 1,
) -> bytes:
    """A request's head. `fields` are lines, separated by "|"."""
    lines = [f"{method} {path} HTTP/1.{minor}", f"Host: {host}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    lines += [line for line in fields.split("|") if line]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(status: int = 200, fields: str = "") -> bytes:
    """An answer's head; a final one has a body of five bytes unless its fields say otherwise."""
    lines = [f"HTTP/1.1 {status} Whatever", *(line for line in fields.split("|") if line)]
    if status >= 200 and not any(line.lower().startswith(("content-length", "transfer-")) for line in lines):
        lines.append("Content-Length: 5")
    return "\r\n".join([*lines, "", ""]).encode()


def route_of(pool: str = "web", name: str = "all", **settings: Any) -> RouteSettings:
    """A route with these settings of HTTP."""
    return RouteSettings(pool, name, line=3, http=HttpRouteSettings(**settings))


__all__ = [
    "ANSWER",
    "DATA",
    "LAST",
    "OK",
    "FakeBackend",
    "FakeStream",
    "Talk",
    "answer",
    "message",
    "replace",
    "route_of",
    "web_pool",
]
