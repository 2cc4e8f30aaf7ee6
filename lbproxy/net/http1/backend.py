"""The connection to a backend that speaks HTTP/1.1: requests are written, answers read, and it waits in between.

Owns what stands on the wire towards a backend, and whether a connection may be used again. Refuses to decide what a
failure means for the request: its exchange is told. Fills `BackendStream` of session/http_seams.py.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Protocol, cast

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.errors import BACKEND_CUT, BAD_BODY, RESPONSE_HEAD_LARGE, TryError
from lbproxy.http.framing import body_of_response
from lbproxy.http.messages import UNTIL_CLOSE, HttpError, RequestHead, ResponseHead
from lbproxy.http.response_head import ResponseReader
from lbproxy.http.writing import EXPECT_LINE, TRAILERS_LINES, edited_beginning, request_beginning
from lbproxy.net.backend import BackendSide
from lbproxy.net.http1.bodies import BULK
from lbproxy.net.http1.client import ClientConnection
from lbproxy.net.http1.diverting import DivertingReader
from lbproxy.net.http1.idle import IdleConnections, readability
from lbproxy.net.polling import READ, WRITE
from lbproxy.net.relaying import RelayShared, RelaySide
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.transport import RECEIVE_BUFFER, RECEIVE_BYTES, RECEIVE_VIEW
from lbproxy.session.exchange import Exchange
from lbproxy.session.http_seams import BodySink
from lbproxy.session.phases import TUNNEL
from lbproxy.session.secured import TlsFacts
from lbproxy.session.tunnel import Tunnel

# What is being read: nothing of HTTP (connecting or tunnel); nothing, it waits; the head of an answer; its body.
_APART, _IDLE, _ANSWER, _BODY = range(4)
# No connection waits longer than this for its next request, whatever its backend says (seconds).
_LONGEST_IDLE = 60.0
_READER = ResponseReader()


class BackendShared(RelayShared, Protocol):
    """What connections to backends have in common."""

    @property
    def idle(self) -> IdleConnections:
        """Those that wait."""

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds, exact."""

    @property
    def fault(self) -> Callable[[BaseException], None]:
        """Who hears of our own faults."""


class BackendConnection(DivertingReader, BackendSide):
    """See the module. `exchange` is the one it is used for. `idle_since` and `idle_until` are monotonic seconds;
    `served` counts its requests.
    """

    __slots__ = (
        "backend",
        "born",
        "chunks",
        "coder",
        "drained",
        "excess",
        "exchange",
        "facts",
        "framed",
        "idle_since",
        "idle_until",
        "left",
        "open_request",
        "persists",
        "readable",
        "rest",
        "served",
        "sink",
        "state",
        "tls",
        "trailing",
    )
    shared: BackendShared

    def __init__(
        self,
        shared: BackendShared,
        sock: Socket,
        exchange: Exchange,
        target: Any,
        tls: ClientTls | None,
        address: Address,
    ) -> None:
        super().__init__(shared, sock, exchange, target, tls, address)
        assert exchange.backend is not None  # it is dialled for one
        self.backend: Backend = exchange.backend
        self.tls = tls
        self.exchange: Exchange | None = exchange
        self.facts: TlsFacts | None = None
        self.born = exchange.try_began
        self.state = _APART
        self.served = 0
        self.persists = False
        self.open_request = False
        self.idle_since = self.idle_until = 0.0
        self.readable = readability(self.fd)
        self.left = 0
        self.chunks = None
        self.framed = self.trailing = self.excess = False
        self.drained = True
        self.rest = b""
        self.sink = self.coder = None

    # Asking.

    def ask(self, exchange: Exchange) -> None:
        """See BackendStream."""
        head = exchange.head
        assert head is not None
        self.exchange = exchange
        self.session = exchange
        self.state = _ANSWER
        self.served += 1
        self.bytes_in = 0
        self.open_request = head.length != 0
        self.persists = False
        data = request_bytes(exchange, head)
        if not exchange.reused and exchange.pool is not None and exchange.pool.settings.send_proxy is not None:
            data = exchange.introduce() + data
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Nothing of this request has left: that is proved by the call that failed.
            self.close()
            exchange.unanswered(TryError.CLOSED, "the connection was closed before the request", unsent=True)
            return
        if sent < len(data):
            self._stall_begins()
            self.hold(memoryview(data)[sent:])
            exchange.stalled()
        if self.mask & ~WRITE != READ:
            self.shared.poller.watch(self, READ | WRITE if self.held else READ)
            self.look_inside()

    def take(self, data: bytes | memoryview) -> bool:
        """See BodyReader: a piece of the request's body."""
        if self.sock is None or self._deaf is not None:
            return True  # what became of it is told when its answer is, or is not, read
        if self.pending is not None:
            self.hold(data)
            return False
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            self.write_failed(problem)
            return True
        if sent == len(data):
            return True
        self._stall_begins()
        self.hold(memoryview(data)[sent:])
        self._look_at_budget()
        return False

    def send_body(self, body: bytes) -> None:
        """See BackendStream."""
        exchange = self.exchange
        self.take(body)
        if exchange is not None and self.exchange is exchange:
            exchange.body_sent()

    def end_body(self) -> None:
        """See BackendStream."""
        self.open_request = False

    def abandon(self) -> None:
        """See BackendStream. A request that is not complete must not be taken for one."""
        self.exchange = None
        self.sink = self.coder = None
        self._unlink()
        if self.open_request:
            self.abort()
        else:
            self.close()

    # Reading.

    def doRead(self) -> None:
        """See IReadDescriptor."""
        state = self.state
        if state == _BODY:
            self.read_body()
            return
        if state == _APART:
            RelaySide.doRead(self)
            return
        try:
            count = self._receive(RECEIVE_BUFFER)
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        if state == _IDLE:
            self.retire()  # nobody has asked: whatever it is, it is nobody's answer (threats.md B13)
            return
        if not count:
            self.finished = True
            self._unanswered(TryError.CLOSED)
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        self.drained = count < RECEIVE_BYTES
        self._hear(self.rest + RECEIVE_VIEW[:count] if self.rest else bytes(RECEIVE_VIEW[:count]))

    def _hear(self, data: bytes) -> None:
        """An answer's head, or several of which all but the last are interim."""
        exchange = self.exchange
        while exchange is not None:
            try:
                found = _READER.read(data)
            except HttpError as problem:
                self._misheard(exchange, problem)
                return
            if found is None:
                self.rest = data
                return
            head, used = found
            if head.status >= 200 or head.status == 101:
                self.rest = b""
                self._answered(exchange, head, data, used)
                return
            data = data[used:]
            exchange.interim(head)
            exchange = self.exchange  # too many of them end it

    def _misheard(self, exchange: Exchange, problem: HttpError) -> None:
        if problem.outcome is RESPONSE_HEAD_LARGE:
            exchange.head_too_large(problem)
        else:
            exchange.unanswered(TryError.NONSENSE, problem.message, rule=problem.rule)

    def _unanswered(self, error: TryError) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()
        else:
            exchange.unanswered(error)

    def _answered(self, exchange: Exchange, head: ResponseHead, data: bytes, used: int) -> None:
        request = exchange.head
        assert request is not None
        length = body_of_response(head, request.method)
        self.persists = not head.close and length != UNTIL_CLOSE
        if head.status in (204, 205) and (head.length or head.chunked):
            self.persists = False  # what it announces must not come, and would be taken for the next answer
        patience = head.keep_alive
        self.idle_until = exchange.timeouts.backend_idle if patience is None else min(patience - 1.0, _LONGEST_IDLE)
        exchange.answered(head, length)
        now_for = self.exchange
        if now_for is not exchange:
            if now_for is None or now_for.answer is not head:
                return  # it was given up, or asks once more
            self.session = exchange = now_for  # which stores this answer
        stream = exchange.stream
        if exchange.phase == TUNNEL:
            self._open_tunnel(exchange, data[used:])
            return
        if not isinstance(stream, ClientConnection):
            self._absorb(exchange, cast(BodySink, stream), length, data[used:])
            return
        if exchange.coder is not None:
            self._pack(exchange, stream, length, data[used:])
            return
        if length >= 0:
            there = len(data) - used
            if there >= length:
                # The usual case: all of it is here.
                if length:
                    stream.take(data[used : used + length] if there > length else data[used:])
                else:
                    stream.take(b"")
                if self.exchange is exchange:
                    self._done(exchange, excess=there > length)
                return
        self.state = _BODY
        self.peer, stream.peer = stream, self
        self.expect_body(length, framed=stream.reads_chunks and length < 0, trailing=request.te_trailers)
        if used < len(data):
            self.take_body(memoryview(data)[used:])
            if self.left > BULK and self.exchange is exchange:
                self.take_pipe()
        if self.exchange is exchange:
            stream.uncork()  # where the body has begun it is gone already
        if self.sock is not None and self.exchange is exchange and stream.held:
            self.slowed()

    def _absorb(self, exchange: Exchange, sink: BodySink, length: int, data: bytes) -> None:
        """No client reads this answer: `sink` takes its body as it is."""
        self.sink = sink
        self.state = _BODY
        self.expect_body(length, framed=False, trailing=False)
        if data or not length:
            self.take_body(data)
        exchange.begun()

    def _pack(self, exchange: Exchange, stream: ClientConnection, length: int, data: bytes) -> None:
        """The body is packed, or unpacked, on its way."""
        self.state = _BODY
        self.peer, stream.peer = stream, self
        self.coder = exchange.coder
        self.expect_body(length, framed=False, trailing=False)
        if data or not length:
            self.take_body(data)
        if self.exchange is exchange:
            stream.uncork()
        if self.sock is not None and self.exchange is exchange and stream.held:
            self.slowed()

    def go_on_reading(self) -> None:
        """See BackendStream."""
        self.resume_reading()

    def _open_tunnel(self, exchange: Exchange, rest: bytes) -> None:
        stream = exchange.stream
        assert isinstance(stream, ClientConnection)  # nobody else is told that the protocol changes
        self.state = _APART
        tunnel = Tunnel(exchange, stream, self, exchange.first_byte_at)
        self.session = tunnel
        self.exchange = None
        stream.become_tunnel(tunnel, self, rest)

    # The end of an answer.

    def body_ends(self, excess: bytes) -> None:
        """See BodyReader."""
        self.excess = bool(excess)

    def body_over(self) -> None:
        """See BodyReader."""
        exchange = self.exchange
        if exchange is None or self.state != _BODY:
            return
        if self.coder is not None:
            self.end_packing()
            if self.exchange is not exchange:
                return
        self._done(exchange, excess=self.excess)

    def spoilt(self) -> None:
        """See DivertingReader."""
        if self.exchange is not None:
            self.exchange.cut_short(BAD_BODY, "R7")

    def _done(self, exchange: Exchange, *, excess: bool) -> None:
        """The answer is complete: wait for the next request, or close (threats.md B6, B14)."""
        self.exchange = None
        self.sink = self.coder = None
        if self.peer is not None:
            self._unlink()
        keep = self.persists and not excess and not self.open_request and not self.finished and self.idle_until > 0
        if keep and not (self.channel is None and self.drained):
            # More may be there already than was read: it would be taken for the next answer.
            keep = not self.readable(0) and (self.channel is None or not self.channel.more)
        if keep:
            self._wait(exchange)
        else:
            self.retire()
        exchange.completed()

    def _wait(self, exchange: Exchange) -> None:
        pool = exchange.pool
        assert pool is not None
        settings = pool.settings.http
        now = exchange.first_byte_at
        if (
            self.served >= settings.max_requests
            or now - self.born >= settings.max_life
            or pool.settings.send_proxy is not None  # threats.md P7: it names one client
            or not settings.idle_connections
            or self.pending is not None
        ):
            self.retire()
            return
        self.state = _IDLE
        self.session = None
        self.idle_since = now = self.shared.clock()
        self.idle_until += now
        self.shared.idle.give(self, settings.idle_connections)

    def retire(self) -> None:
        """Close in order: it is used no more."""
        if self.state == _IDLE:
            self.shared.idle.forget(self)
        self.state = _IDLE
        self.close()

    def _unlink(self) -> None:
        peer, self.peer = self.peer, None
        if isinstance(peer, ClientConnection):
            peer.stop_body()  # there is nobody any more whom it could go to
        if peer is not None and peer.peer is self:
            peer.peer = None
        if self.pipe is not None:
            if peer is not None:
                peer.dropped += self.pipe.held
            self._give_pipe_back()
        self.chunks = None

    # What goes wrong.

    def body_bad(self, problem: HttpError) -> None:
        """See BodyReader."""
        if self.exchange is not None:
            self.exchange.cut_short(BAD_BODY, "B7")

    def body_broken(self) -> None:
        """See BodyReader."""
        if self.exchange is not None:
            self.exchange.cut_short(BACKEND_CUT, "B5")
        else:
            self.close()

    def write_failed(self, problem: OSError) -> None:
        """See RelaySide: an answer that came before is still read (threats.md C13)."""
        if self.state in (_ANSWER, _BODY):
            self._deaf = problem.with_traceback(None)
            self.cut = True
            self.persists = False
            self.drop_pending()
            self.unwatch(WRITE)
            if isinstance(self.peer, ClientConnection):
                self.peer.stop_body()
            self.watch_reading()
        else:
            super().write_failed(problem)

    def lost(self, problem: OSError) -> None:
        """See Transport."""
        state = self.state
        if state == _APART:
            super().lost(problem)
            return
        self.cut = True
        if state == _IDLE:
            self.retire()
        elif state == _ANSWER:
            error = TryError.SILENT if problem.errno == errno.ETIMEDOUT else TryError.CLOSED
            self.close()
            self._unanswered(error)
        else:
            exchange = self.exchange
            self.close()
            if exchange is not None:
                exchange.cut_short(BACKEND_CUT, "B5")

    def gave(self, count: int) -> None:
        """See BodyReader."""
        if isinstance(self.peer, ClientConnection):
            self.peer.given += count

    def slowed(self) -> None:
        """See BodyReader."""
        super().slowed()
        if self.exchange is not None:
            self.exchange.stalled()

    def flushed(self) -> None:
        """See Transport: more of the request's body may come."""
        if self.state == _APART:
            super().flushed()
            return
        self.moved = self.shared.wheel.now
        if isinstance(self.peer, ClientConnection) and self.peer.sends_body:
            self.peer.poured()

    def resume_reading(self) -> None:
        """See RelaySide."""
        if self.state == _APART:
            super().resume_reading()
        elif self.sock is not None and not (self.finished or self.stopped):
            self.watch_reading()

    def broken(self, problem: BaseException) -> None:
        """See Descriptor."""
        exchange = self.exchange
        if self.state == _APART:
            super().broken(problem)
        elif exchange is not None:
            exchange.broken(problem)
        else:
            self.retire()
            self.shared.fault(problem)


def request_bytes(exchange: Exchange, head: RequestHead) -> bytes:
    """The head of a request as it goes to the backend."""
    changed = exchange.outgoing
    if changed is None:
        tail = exchange.conversation.facts.tail
        data = b"".join((head.memo_forward or request_beginning(head), tail, exchange.request_id, b"\r\n\r\n"))
    else:
        data = edited_beginning(head, changed.path, changed.query, changed.authority, changed.lines, changed.upgrade)
        data += b"\r\n"
    if exchange.pool is not None and exchange.pool.settings.http.http10:
        # Chunks have been ruled out before; of what else the writer says, HTTP/1.0 knows nothing. No value holds CRLF.
        data = data.replace(EXPECT_LINE, b"", 1).replace(TRAILERS_LINES, b"", 1)
        return data.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    return data
