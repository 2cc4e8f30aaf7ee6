"""Gives a stored body to a client of HTTP/1.1, as fast as it takes it and as it comes in.

Owns the place in the body that has been reached. The kernel is offered all that is there; of what it does not take at
once, only a little is kept for the client: the rest stays where it is stored. So a slow client costs a few kilobytes,
however long the body is, and delays nobody else who reads it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from lbproxy.cache.body import Body, FileBody
from lbproxy.cache.face import Face, Part
from lbproxy.errors import BACKEND_CUT, LOCAL_RESOURCE
from lbproxy.http.chunks import LAST, chunk
from lbproxy.http.messages import CHUNKED

if TYPE_CHECKING:
    from lbproxy.net.http1.answering import AnsweringSide
    from lbproxy.session.exchange import Exchange

# What is offered at once, and what is kept for a client of that which its kernel did not take.
_OFFER = 256 * 1024
# In chunks less is offered, since what the kernel does not take of one has to be kept whole.
_OFFER_FRAMED = 64 * 1024
_KEEP = 16 * 1024
# A body that is still coming has no end yet.
_OPEN = 1 << 62


class Presenting:
    """One stored answer on its way to `client`; `position` is what has been reached of the part at hand."""

    may_lag = True

    __slots__ = ("_body", "_client", "_end", "_exchange", "_framed", "_loading", "_parts", "_waits", "position")

    def __init__(self, client: AnsweringSide, exchange: Exchange, face: Face) -> None:
        self._client = client
        self._exchange = exchange
        self._body = face.body
        self._framed = face.length == CHUNKED and client.reads_chunks
        parts: list[Part] = [(0, _OPEN)] if face.parts is None else list(face.parts)
        parts.reverse()
        self._parts = parts
        self.position = self._end = 0
        self._loading = False
        # From the beginning: what has not been read yet is kept for those who are told.
        self._waits = not isinstance(self._body, bytes) and not (self._body.complete or self._body.failed)
        if self._waits and not isinstance(self._body, bytes):
            self._body.wait(self)

    def more(self) -> None:
        """See BodyReaderLike: go on, unless the client has to take something first."""
        if self._client.source is self and not self._client.held:
            self.poured()

    def poured(self) -> None:
        """The client has taken all it was given: give it more."""
        client = self._client
        while not self._loading:
            if self.position < self._end:
                if not self._give_some():
                    return
            elif self._parts:
                part = self._parts.pop()
                if isinstance(part, tuple):
                    self.position, self._end = part
                elif not client.take(part):
                    self._exchange.stalled()
                    return
            else:
                self._over()
                return
            if client.source is not self:
                return  # the client was lost

    def leave(self) -> None:
        """The client is gone, or wants no more."""
        if self._waits and not isinstance(self._body, bytes):
            self._waits = False
            self._body.leave(self)

    def _over(self) -> None:
        client = self._client
        client.source = None
        self.leave()
        if self._framed:
            client.take(LAST)
        client.uncork()
        self._exchange.presented()

    def _give_some(self) -> bool:
        """Give the next bytes of the part; whether to go on now."""
        body = self._body
        offer = _OFFER_FRAMED if self._framed else _OFFER
        if isinstance(body, bytes):
            if self._end == _OPEN:
                self._end = len(body)
            return self._offer(memoryview(body)[self.position : min(self._end, self.position + offer)])
        there = body.length - self.position
        if there <= 0:
            return self._wait(complete=body.complete, failed=body.failed)
        most = min(there, self._end - self.position, offer)
        if isinstance(body, Body):
            if self.position >= body.start:
                return self._offer(memoryview(body.read(self.position, most)))
            file = body.behind
            if file is None or file.failed:
                return self._wait(complete=False, failed=True)
            return self._give_from_file(file, min(most, file.length - self.position))
        return self._give_from_file(body, most)

    def _give_from_file(self, body: FileBody, most: int) -> bool:
        """Give up to `most` of the next bytes, which have been written."""
        if not body.ready(self.position, most):
            self._loading = True
            body.load(self.position, most, self._loaded)
            return False
        if self._client.channel is None and not self._framed:
            return self._send_file(body.descriptor(), most)
        self._loading = True
        body.load(self.position, most, self._loaded)
        return False

    def _wait(self, *, complete: bool, failed: bool) -> bool:
        """Nothing is there: is this the end, or will there be more?"""
        if failed:
            self._client.source = None
            self.leave()
            self._exchange.cut_short(BACKEND_CUT)
            return False
        if complete:
            self._end = self.position
            return True
        self._client.uncork()
        return False

    def _offer(self, data: memoryview) -> bool:
        """Give `data`; False when some of it has to wait, or the client is lost."""
        client = self._client
        self.position += len(data)
        if self._framed:
            data = memoryview(b"".join((chunk(len(data)), data, b"\r\n")))
        taken = client.offer(data)
        if taken < 0:
            return False
        if taken < len(data):
            rest = data[taken:]
            if len(rest) > _KEEP and not self._framed:
                self.position -= len(rest) - _KEEP
                rest = rest[:_KEEP]
            client.keep_back(rest)
            self._exchange.stalled()
        if isinstance(self._body, Body) and self._body.passing:
            self._body.advanced()
        # Who was told of that may have given more to the client by now.
        return taken == len(data) and client.source is self and not client.pending

    def _send_file(self, descriptor: int, most: int) -> bool:
        """As `_offer`, from a file, without the bytes coming by here."""
        client = self._client
        client.uncork()
        if client.source is not self or client.held:
            return client.source is self and not client.held
        try:
            sent = os.sendfile(client.fd, descriptor, self.position, most)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            if problem.errno == errno.EIO:
                self._loaded(None)  # it is the disk that fails, not the client
            else:
                client.lost(problem)
            return False
        client.given += sent
        client.moved = client.shared.wheel.now
        self.position += sent
        if sent == most:
            return True
        # A few bytes go by hand: what waits for them waits for the rest. They were there a moment ago.
        rest = os.pread(descriptor, min(most - sent, _KEEP), self.position)
        if not rest:
            self._loaded(None)  # somebody has made the file shorter
            return False
        self.position += len(rest)
        client.keep_back(memoryview(rest))
        self._exchange.stalled()
        return False

    def _loaded(self, data: bytes | None) -> None:
        """Bytes of a file have come from a thread."""
        self._loading = False
        client = self._client
        if client.source is not self:
            return
        if not data:
            client.source = None
            self._exchange.cut_short(LOCAL_RESOURCE)
        elif self._offer(memoryview(data)):
            self.poured()
