"""Writing answers to a client that speaks HTTP/1.1: those of backends, and our own.

Owns the framing of answers, whether the connection persists behind them, and that the head of an answer leaves together
with the first bytes of its body. Refuses to read: that is in client.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lbproxy.cache.face import Face
from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead
from lbproxy.http.writing import (
    CLOSE_LINE,
    CONTINUE,
    KEEP_LINE,
    answer_head,
    response_beginning,
    response_framing,
)
from lbproxy.net.accepted import AcceptedShared, AcceptedSide
from lbproxy.net.http1.bodies import BodyReader
from lbproxy.net.http1.presenting import Presenting
from lbproxy.net.sockets import Socket
from lbproxy.session.conversation import Conversation


class HttpShared(AcceptedShared, Protocol):
    """What connections that speak HTTP have in common."""

    @property
    def date(self) -> Callable[[], bytes]:
        """The line of the field Date, for now."""


class AnsweringSide(BodyReader, AcceptedSide):
    """The side of a client as far as it is written to. `head` is the request that is answered, None for one that could
    not be read; `whole` tells that its body has been read to its end. `given` and `taken` count the bytes of the answer
    and the request.

    `corked` is the head of an answer that waits for the first bytes of its body. `persists` tells that another request
    may follow. `source` is where the rest of a stored answer comes from.
    """

    __slots__ = ("conversation", "corked", "given", "head", "persists", "source", "taken", "whole")
    shared: HttpShared

    def __init__(self, shared: HttpShared, sock: Socket, conversation: Conversation) -> None:
        super().__init__(shared, sock, conversation)
        self.conversation = conversation
        self.head: RequestHead | None = None
        self.corked = b""
        self.persists = self.whole = True
        self.given = self.taken = 0
        self.source: Presenting | None = None

    def skip_body(self) -> None:
        """A body that is here already is nobody's any more."""
        raise NotImplementedError

    def respond(self, head: ResponseHead, length: int, lines: bytes | None, extra: bytes) -> None:
        """See ClientStream. The head waits for the first bytes of the body, so that they go together."""
        request = self.head
        assert request is not None
        self._look_whether_last()
        modern = request.minor >= 1
        if length == UNTIL_CLOSE and not modern:
            self.persists = False
        if length == CHUNKED and not modern:
            self.persists = False
        if modern and self.persists and lines is None and not extra:
            memo: bytes | None = head.memo
            if memo is None:
                memo = self._whole_head(head, length, head.kept, b"", modern=True)
                # Where the body has no length of its own, its framing depends on the request: HEAD has none.
                if (head.length is not None or head.chunked) and head.get(b"date") is not None:
                    head.memo = memo
            self.corked = memo
            return
        self.corked = self._whole_head(head, length, head.kept if lines is None else lines, extra, modern=modern)

    def _look_whether_last(self) -> None:
        """Nothing follows a request that was not read to its end, nor the last one of a connection."""
        conversation = self.conversation
        if (
            not self.whole
            or conversation.last
            or conversation.requests >= conversation.gate.front.settings.max_requests
        ):
            self.persists = False

    def present(self, face: Face) -> None:
        """See ClientStream. A short body goes out with its head, and both are remembered as they go."""
        request, exchange = self.head, self.conversation.exchange
        assert request is not None
        assert exchange is not None
        if not self.whole:
            self.skip_body()
        self._look_whether_last()
        modern = request.minor >= 1
        if face.length == CHUNKED and not modern:
            self.persists = False
        usual = modern and self.persists
        data: bytes | None = face.memo if usual else None
        if data is None:
            lines = face.head.kept if face.lines is None else face.lines
            data = self._whole_head(face.head, face.length, lines, face.extra, modern=modern)
            data += face.short
            if usual:
                face.memo = data
        if face.long:
            self.moved = self.shared.wheel.now
            self.corked = data
            self.source = source = Presenting(self, exchange, face)
            source.poured()
        else:
            self.take(data)
            exchange.presented()

    def offer(self, data: memoryview) -> int:
        """Send of `data` what the kernel takes at once, and behind a head that waits: how much of it that was, -1 when
        the client is lost.
        """
        corked, self.corked = self.corked, b""
        count = len(corked)
        try:
            if not corked:
                sent = self._send(data)
            elif self.channel is None and self.sock is not None:
                sent = self.sock.sendmsg((corked, data))
            else:
                sent = self._send(b"".join((corked, data)))
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            self.dropped += count
            self.write_failed(problem)
            return -1
        if sent < count:
            self._stall_begins()
            self.given += count
            self.hold(corked[sent:])
            return 0
        self.given += sent
        if sent:
            self.moved = self.shared.wheel.now
        return sent - count

    def keep_back(self, data: memoryview) -> None:
        """What the kernel did not take of an offer, as far as it shall wait here."""
        self.given += len(data)
        if self.pending is None:
            self._stall_begins()
        self.hold(data)
        self._look_at_budget()

    def _whole_head(self, head: ResponseHead, length: int, lines: bytes, extra: bytes, *, modern: bool) -> bytes:
        connection = b""
        if not self.persists:
            connection = CLOSE_LINE
        elif not modern:
            connection = KEEP_LINE
        date = b"" if head.get(b"date") is not None else self.shared.date()
        framing = response_framing(head, length, chunks=modern)
        return b"".join((response_beginning(head), lines, date, extra, framing, connection, b"\r\n"))

    @property
    def reads_chunks(self) -> bool:
        """Whether this client can be given a body in chunks."""
        return self.head is not None and self.head.minor >= 1

    def take(self, data: bytes | memoryview) -> bool:
        """See BodyReader: a piece of the answer's body."""
        corked = self.corked
        if corked:
            self.corked = b""
            data = corked + data
        self.given += len(data)
        if self.pending is not None:
            self.hold(data)
            return False
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            self.dropped += len(data)
            self.write_failed(problem)
            return True
        if sent == len(data):
            return True
        self._stall_begins()
        self.hold(memoryview(data)[sent:])
        self._look_at_budget()
        return False

    def close(self) -> None:
        """See Side."""
        source, self.source = self.source, None
        if source is not None:
            source.leave()
        super().close()

    def unsaid(self) -> bool:
        """See ClientStream."""
        corked, self.corked = self.corked, b""
        return bool(corked)

    def uncork(self) -> None:
        """The body's first bytes are not there yet: let the head go alone."""
        if self.corked:
            self.take(b"")

    def interim(self, head: ResponseHead) -> None:
        """See ClientStream."""
        data = b"%b%b\r\n" % (response_beginning(head), head.kept)
        self.given += len(data)
        self.write(data)

    def go_on(self) -> None:
        """See ClientStream."""
        if self.head is not None and self.head.minor:
            self.given += len(CONTINUE)
            self.write(CONTINUE)

    def reply(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes, *, close: bool) -> None:
        """See ClientStream."""
        head, conversation = self.head, self.conversation
        if not self.whole:
            self.skip_body()
        if not self.whole or close or conversation.last:
            self.persists = False
        if conversation.requests >= conversation.front.settings.max_requests:
            self.persists = False
        connection = b"" if self.persists else CLOSE_LINE
        if self.persists and head is not None and not head.minor:
            connection = KEEP_LINE
        out = answer_head(status, [*fields, (b"Date", self.shared.date()[6:-2])], len(body), connection)
        if (head is None or head.method != b"HEAD") and status not in (204, 304):
            out += body
        self.given += len(out)
        self.write(out)

    def tunnel(self, head: ResponseHead, lines: bytes | None, extra: bytes) -> None:
        """See ClientStream."""
        kept = head.kept if lines is None else lines
        change = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade
        date = b"" if head.get(b"date") is not None else self.shared.date()
        data = b"".join((response_beginning(head), kept, date, extra, change, b"\r\n"))
        self.given += len(data)
        self.write(data)
