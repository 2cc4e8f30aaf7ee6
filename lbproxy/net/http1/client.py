"""The connection of a client that speaks HTTP/1.1: requests are read from it, one after the other.

Owns what is read: heads, bodies, pipelining with a bounded read-ahead; and the end of the connection. What is written
is in answering.py. Refuses to decide what a request gets: that is told by its exchange. Fills `ClientStream` and
`HttpClientSide` of session/http_seams.py.
"""

from __future__ import annotations

import errno
from fcntl import ioctl
from struct import unpack

from lbproxy.compress.decoding import TooMuch
from lbproxy.compress.unpacking import Corrupt
from lbproxy.errors import BAD_REQUEST
from lbproxy.http.chunks import LAST, chunk
from lbproxy.http.messages import CHUNKED, HttpError, RequestHead
from lbproxy.net.http1.answering import AnsweringSide, HttpShared
from lbproxy.net.http1.bodies import BodyReader
from lbproxy.net.polling import READ
from lbproxy.net.relaying import ROOM_FOR_RECORDS, RelaySide
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.failures import TlsFailure
from lbproxy.net.transport import RECEIVE_VIEW
from lbproxy.session.coding import Unpacker
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange import Exchange
from lbproxy.session.http_seams import BackendStream
from lbproxy.session.tunnel import Tunnel

# What may be read ahead of the exchange under way (threats.md C1), and so what is read at once between bodies.
_AHEAD = 16 * 1024
_AHEAD_VIEW = RECEIVE_VIEW[:_AHEAD]
# What TLS has begun to take out of its records has to be taken whole: no event would tell of the rest.
_RECORDS_VIEW = RECEIVE_VIEW[:ROOM_FOR_RECORDS]
_FIONREAD = 0x541B
# What is being read: nothing of HTTP (opening or tunnel); a head; nothing, while an exchange is under way; its body.
_APART, _HEAD, _HELD, _BODY = range(4)


class ClientConnection(AnsweringSide):
    """See the module. Its `session` is the conversation, and a tunnel after an upgrade."""

    __slots__ = (
        "chunks",
        "drained",
        "expected",
        "framed",
        "left",
        "paused_at",
        "paused_for",
        "rest",
        "state",
        "trailing",
        "turning",
    )

    def __init__(self, shared: HttpShared, sock: Socket, conversation: Conversation) -> None:
        super().__init__(shared, sock, conversation)
        self.state = _APART
        self.turning = False
        self.paused_for = 0.0
        self.paused_at = -1.0
        self.left = 0
        self.chunks = None
        self.framed = self.trailing = self.expected = False
        self.drained = True
        self.rest = b""

    # Reading.

    def serve(self) -> None:
        """See HttpClientSide."""
        self.state = _HEAD
        if self._kept:
            self._turn(self.take_kept(), self.conversation.waiting_since)
            if self.sock is None or self.state == _APART:
                return
        if self.finished:
            self.conversation.client_ended()
        else:
            self.watch_reading()

    @property
    def begun(self) -> bool:
        """See HttpClientSide."""
        return bool(self._kept)

    def drop_head(self) -> None:
        """See HttpClientSide."""
        kept = len(self._kept)
        self.take_kept()
        self._begin(None, kept)

    def doRead(self) -> None:
        """See IReadDescriptor."""
        state = self.state
        if state == _APART:
            RelaySide.doRead(self)
            return
        if state == _HEAD:
            view = _AHEAD_VIEW if self.channel is None else _RECORDS_VIEW
        elif state == _HELD:
            room = _AHEAD - len(self._kept)
            if room <= 0:
                self.unwatch(READ)
                return
            view = RECEIVE_VIEW[:room] if self.channel is None else _RECORDS_VIEW
        else:
            before = self.bytes_in
            self.read_body()
            self.taken += self.bytes_in - before
            return
        try:
            count = self._receive(view)
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        if not count:
            self.finished = True
            self.unwatch(READ)
            if not self._may_be_whole or self.conversation.front.settings.abort_on_half_close:
                self.conversation.client_ended()
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        kept = self._kept
        if state == _HELD:
            self._keep_ahead(kept + RECEIVE_VIEW[:count])
            if len(self._kept) >= _AHEAD:
                self.unwatch(READ)
        elif kept:
            self.take_kept()
            self._turn(kept + RECEIVE_VIEW[:count], self.conversation.head_began)
        else:
            self._turn(bytes(RECEIVE_VIEW[:count]), -1.0)

    @property
    def _may_be_whole(self) -> bool:
        """Whether a FIN may stand behind the whole of a body that nobody reads yet: who reads it finds out."""
        head = self.head
        if self.state != _HELD or self.whole or head is None:
            return False
        length = self.left if self.expected else head.length
        return length == CHUNKED or len(self._kept) >= length

    def _keep_ahead(self, data: bytes) -> None:
        if self.sock is not None:  # else nobody would ever take it back out of the budget
            self.shared.budget.used += len(data) - len(self._kept)
            self._kept = data

    def _turn(self, data: bytes, began: float) -> None:
        """Serve requests from `data` until one of them takes its time, or there is none left. The first byte came at
        `began`, or (negative) just now.
        """
        self.turning = True
        conversation = self.conversation
        while True:
            now = self.shared.clock()
            try:
                found = conversation.gate.front.reader.read(data)
            except HttpError as problem:
                self._begin(None, len(data))
                conversation.misread(problem, now if began < 0 else began)
                break
            if found is None:
                if data:
                    self._keep_ahead(data)
                    if began < 0:
                        conversation.head_begins(now)
                break
            head, used = found
            if used != len(data):
                self._keep_ahead(data[used:])
            self._begin(head, used)
            conversation.asked(head, now if began < 0 else began, now)
            if self.state != _HEAD or not self._kept or self.sock is None:
                break
            data = self.take_kept()
            began = -1.0
        self.turning = False

    def _begin(self, head: RequestHead | None, used: int) -> None:
        """A request begins, and its exchange."""
        self.state = _HELD
        self.head = head
        self.given = 0
        self.taken = used
        self.dropped = 0
        self.persists = head is not None and not head.close
        self.whole = head is None or not head.length
        self.expected = False
        self.chunks = None
        self.left = 0
        self.paused_for = 0.0
        self.paused_at = -1.0

    # The request's body.

    def begin_body(self, backend: BackendStream) -> None:
        """See ClientStream."""
        head, exchange = self.head, self.conversation.exchange
        assert head is not None  # a body belongs to a request
        assert exchange is not None
        assert isinstance(backend, BodyReader)  # of this version, as all are now
        self.peer, backend.peer = backend, self
        if exchange.replay is not None and exchange.replay.data:
            backend.take(bytes(exchange.replay.data))
            if self.peer is not backend:
                return  # it was lost, and that has been dealt with
        if self.whole:
            exchange.body_sent()
            return
        if not self.expected:
            self.expected = True
            self.expect_body(head.length, framed=exchange.unpacker is None, trailing=False)
        self.state = _BODY
        if self._kept:
            kept = self.take_kept()
            self.taken += len(kept)
            self.take_body(kept)
            if self.state != _BODY or self.peer is not backend:
                return
        if self.finished:
            self.body_broken()
        elif not backend.held:
            self._unpause()
            self.watch_reading()

    def hold_body(self) -> None:
        """See ClientStream."""
        if self.state == _BODY:
            self.state = _HELD
            self._pause()
        self._part()

    def _part(self) -> None:
        """Nothing goes from here to the backend any more, or the other way."""
        peer, self.peer = self.peer, None
        if peer is not None and peer.peer is self:
            peer.peer = None
        if self.pipe is not None:
            self._give_pipe_back()

    @property
    def sends_body(self) -> bool:
        """Whether the request's body is on its way to the backend."""
        return self.state == _BODY

    def stop_body(self) -> None:
        """The backend takes no more of it: what comes is left with the client until the answer is known."""
        if self.state == _BODY:
            self.state = _HELD
            self._pause()
            self.unwatch(READ)
            if self.pipe is not None:
                self._give_pipe_back()

    def skip_body(self) -> None:
        """A small body that is here already is nobody's any more (threats.md F19); what has to be waited for ends the
        connection instead.
        """
        head = self.head
        if head is not None and self.state == _HELD and 0 < head.length <= len(self._kept) and not self.left:
            self.taken += head.length
            kept = self.take_kept()
            self.whole = True
            if len(kept) > head.length:
                self._keep_ahead(kept[head.length :])

    def give(self, data: bytes | memoryview) -> None:
        """See BodyReader: what comes from here goes to the backend."""
        exchange = self.conversation.exchange
        if exchange is None:
            return
        if exchange.unpacker is not None:
            unpacked = self._unpacked(exchange, exchange.unpacker, data)
            if not unpacked:
                return
            data = b"%b%b\r\n" % (chunk(len(unpacked)), unpacked)
        if exchange.replay is not None:
            exchange.replay.add(data)
        if self.chunks is not None and exchange.plan is not None:
            limit = exchange.plan.settings.max_body
            if limit is not None and self.chunks.payload > limit:
                exchange.body_too_large()
                return
        super().give(data)

    def _unpacked(self, exchange: Exchange, unpacker: Unpacker, data: bytes | memoryview) -> bytes:
        """What a piece of a packed body holds; b"" for nothing, or when it must not be believed (threats.md R7)."""
        try:
            return unpacker.feed(data)
        except TooMuch:
            exchange.rule = "R7"
            self.persists = False
            exchange.body_too_large()
        except Corrupt as problem:
            self.persists = False
            exchange.bad_body(HttpError(BAD_REQUEST, "R7", str(problem)))
        return b""

    def _ends_unpacked(self, exchange: Exchange, unpacker: Unpacker) -> bool:
        """The packed body has come to its end: tell the backend; whether that is as it should be."""
        try:
            unpacker.finish()
        except Corrupt as problem:
            self.persists = False
            exchange.bad_body(HttpError(BAD_REQUEST, "R7", str(problem)))
            return False
        if exchange.replay is not None:
            exchange.replay.add(LAST)
        super().give(LAST)
        return True

    def take_pipe(self) -> None:
        """See BodyReader: what is unpacked on its way has to come by here."""
        exchange = self.conversation.exchange
        if exchange is None or exchange.unpacker is None:
            super().take_pipe()

    def gave(self, count: int) -> None:
        """See BodyReader."""
        exchange = self.conversation.exchange
        if exchange is not None and exchange.replay is not None:
            exchange.replay.complete = False

    def slowed(self) -> None:
        """See BodyReader."""
        self._pause()
        super().slowed()
        if self.conversation.exchange is not None:
            self.conversation.exchange.stalled()

    @property
    def paused(self) -> float:
        """See ClientStream."""
        return self.paused_for + (self.shared.wheel.now - self.paused_at if self.paused_at >= 0 else 0.0)

    def _pause(self) -> None:
        if self.paused_at < 0:
            self.paused_at = self.shared.wheel.now

    def _unpause(self) -> None:
        if self.paused_at >= 0:
            self.paused_for += self.shared.wheel.now - self.paused_at
            self.paused_at = -1.0

    def body_ends(self, excess: bytes) -> None:
        """See BodyReader: whatever becomes of the last piece, what follows is another request."""
        self.whole = True
        if excess:
            self.taken -= len(excess)
            self._keep_ahead(excess)

    def body_over(self) -> None:
        """See BodyReader."""
        if self.sock is None or self.state not in (_BODY, _HELD):
            return
        refused = self.state == _HELD  # stop_body: a dead backend did not take the last of it
        self.state = _HELD
        self.chunks = None
        exchange = self.conversation.exchange
        if exchange is not None and self.peer is not None and not refused:
            if exchange.unpacker is not None and not self._ends_unpacked(exchange, exchange.unpacker):
                return
            exchange.body_sent()
        if len(self._kept) < _AHEAD:
            self.resume_reading()
        else:
            self.unwatch(READ)

    def body_bad(self, problem: HttpError) -> None:
        """See BodyReader."""
        self.persists = False
        if self.conversation.exchange is not None:
            self.conversation.exchange.bad_body(problem)

    def body_broken(self) -> None:
        """See BodyReader."""
        self.unwatch(READ)
        self.conversation.client_ended()

    def resume_reading(self) -> None:
        """See RelaySide."""
        if self.state == _APART:
            super().resume_reading()
        elif self.sock is not None and not (self.finished or self.stopped):
            # A head is read as far as the reader wants; behind a request only so much.
            if self.state == _HELD and len(self._kept) >= _AHEAD:
                return
            self._unpause()
            self.watch_reading()

    # What follows an exchange.

    def exchange_over(self) -> None:
        """See ClientStream."""
        if self.sock is None:
            return
        if self.peer is not None or self.pipe is not None:
            self._part()
        if not self.persists or not self.whole or self.conversation.last or (self.finished and not self._kept):
            self._say_goodbye()
            return
        self.state = _HEAD
        self.head = None
        if self.turning:
            return
        if self._kept:
            self._turn(self.take_kept(), -1.0)
            if self.sock is None or self.state == _APART:
                return
        if self.finished:
            self.conversation.client_ended()
        elif not self.mask & READ:
            self.resume_reading()

    def _say_goodbye(self) -> None:
        """Close so that the answer is heard, even if the client goes on sending: a plain close will do only where the
        client itself has asked for it, and nothing of it is unread.
        """
        gently = not self.whole or bool(self._kept) or self.head is None or not self.head.close
        if not gently and self.sock is not None:
            gently = bool(unpack("i", ioctl(self.fd, _FIONREAD, b"\0\0\0\0"))[0])
        self.conversation.finish(gently=gently)

    def become_tunnel(self, tunnel: Tunnel, backend: BodyReader, rest: bytes) -> None:
        """From here on bytes go both ways as they come; `rest` came behind the head of the answer."""
        self.state = _APART
        self.session = tunnel
        if rest and self.sock is not None:
            self.write(rest)
        if self.sock is not None and backend.sock is not None:
            self.bytes_in = len(self._kept)
            self.join(backend, b"")

    # What is heard of the socket.

    def flushed(self) -> None:
        """See Transport."""
        if self.state == _APART:
            super().flushed()
            return
        self.moved = self.shared.wheel.now
        if self.source is not None:
            self.source.poured()
        elif isinstance(self.peer, BodyReader):
            self.peer.poured()
        exchange = self.conversation.exchange
        if exchange is not None and not self.held:
            exchange.flushed()

    def write_failed(self, problem: OSError) -> None:
        """See Transport: nobody is there to be answered."""
        if self.state == _APART:
            super().write_failed(problem)
        else:
            self.lost(problem)

    def lost(self, problem: OSError) -> None:
        """See Transport."""
        if self.state == _APART:
            super().lost(problem)
            return
        stalled = problem.errno == errno.ETIMEDOUT and self.unacknowledged() > 0
        self.cut = True
        self.close()
        if isinstance(problem, TlsFailure):
            self.conversation.breaks_rules(problem.word, str(problem.strerror))
        self.conversation.client_lost(stalled=stalled)
