"""The way of a body's bytes, in either direction: read on one connection, checked, given to the other.

Owns how many bytes of a message are still to come, chunks, and the pipe for those that need not be looked at. Refuses
to know what the end of a body means: `body_over`, `body_bad` and `body_broken` tell the connection. A connection is
read only while its peer takes all that it is given, so at most one buffer is held per direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.http.chunks import LAST, ChunkReader, chunk, last_with
from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, HttpError
from lbproxy.net.polling import READ, WRITE
from lbproxy.net.relaying import RelaySide
from lbproxy.net.splicing import SPLICE_BYTES, splice
from lbproxy.net.transport import RECEIVE_BUFFER, RECEIVE_BYTES, RECEIVE_VIEW

# From this many bytes still to come a pipe is worth its system calls.
BULK = 128 * 1024
_BEYOND = 8 * 1024
# What comes in pieces smaller than this is passed on as far as it is there, be it a part of a chunk.
_TRICKLE = 16 * 1024


class BodyReader(RelaySide):
    """A connection on which bodies are read. `left` is what is still to come: a number, CHUNKED or UNTIL_CLOSE.

    `framed` tells that what is given to the peer is in chunks, `trailing` that trailers are welcome there. `rest` are
    bytes of a line that is not complete. `drained` tells that the last read has left nothing with the kernel.
    """

    if not TYPE_CHECKING:  # mypy knows no class that sets the slots of its subclasses
        __slots__ = ()

    left: int
    chunks: ChunkReader | None
    framed: bool
    trailing: bool
    rest: bytes
    drained: bool

    # What subclasses say.

    def take(self, data: bytes | memoryview) -> bool:
        """Send a piece of the body that the peer has read; False when some of it had to be held."""
        raise NotImplementedError

    def give(self, data: bytes | memoryview) -> None:
        """Hand a piece of the body, as it goes on the wire, to the peer."""
        peer = self.peer
        if isinstance(peer, BodyReader) and not peer.take(data):
            self.slowed()

    def body_ends(self, excess: bytes) -> None:
        """The last of the body is here, and is given next; `excess` came behind it."""
        raise NotImplementedError

    def body_over(self) -> None:
        """The body has been given whole, unless what was given met a loss."""
        raise NotImplementedError

    def body_bad(self, problem: HttpError) -> None:
        """What came is no body."""
        raise NotImplementedError

    def body_broken(self) -> None:
        """FIN came before the end of the body."""
        raise NotImplementedError

    # Reading.

    def expect_body(self, length: int, *, framed: bool, trailing: bool) -> None:
        """A body of `length` follows, which goes to the peer in chunks or (not `framed`) as it is."""
        self.left = length
        self.framed = framed
        self.trailing = trailing
        self.rest = b""
        self.chunks = ChunkReader() if length == CHUNKED else None

    def read_body(self) -> None:
        """As doRead, within a body."""
        if self.pipe is not None:
            self._splice_body()
            return
        left = self.left
        # A little further than the body goes: what stands behind it is to be seen, but not all of it to be kept.
        # TLS gives what is in a record, which is read whole: no event would tell of the rest.
        most = RECEIVE_BYTES if left < 0 or self.channel is not None else min(left + _BEYOND, RECEIVE_BYTES)
        try:
            count = self._receive(RECEIVE_BUFFER if most == RECEIVE_BYTES else RECEIVE_VIEW[:most])
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        if not count:
            self.finished = True
            self._body_ended()
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        self.drained = count < most
        self.take_body(RECEIVE_VIEW[:count])
        left = self.left
        if left > BULK and count == RECEIVE_BYTES and self.pipe is None:
            self.take_pipe()

    def _body_ended(self) -> None:
        """FIN came. That is the end of a body that has no other, and of no other."""
        if self.left != UNTIL_CLOSE:
            self.body_broken()
            return
        self.left = 0
        self.body_ends(b"")
        if self.framed:
            self.give(LAST)
        self.body_over()

    def take_body(self, data: memoryview | bytes) -> None:
        """The next bytes, of which some may lie behind the body."""
        left = self.left
        if left >= 0:
            if len(data) < left:
                self.left = left - len(data)
                self.give(data)
            else:
                self.left = 0
                self.body_ends(bytes(data[left:]))
                self.give(data[:left])
                self.body_over()
        elif left == CHUNKED:
            self._take_chunks(data)
        elif self.framed:
            self.give(b"".join((chunk(len(data)), data, b"\r\n")))
        else:
            self.give(data)

    def _take_chunks(self, data: memoryview | bytes) -> None:
        reader = self.chunks
        assert reader is not None  # expect_body made it
        whole = self.rest + data if self.rest else bytes(data)
        try:
            used = reader.read(whole)
        except HttpError as problem:
            self.body_bad(problem)
            return
        self.rest = whole[used:]
        if self.framed and reader.verbatim and not reader.trailers:
            out = whole[:used] if self.rest else whole
        else:
            out = self._again(reader, whole)
        if not reader.done:
            if self.rest and self.drained and len(whole) < _TRICKLE and self.framed:
                out += self._hasten(reader)
            if out:
                self.give(out)
            return
        self.left = 0
        excess, self.rest = self.rest, b""
        self.body_ends(excess)
        self.give(out)
        self.body_over()

    def _hasten(self, reader: ChunkReader) -> bytes:
        """The beginning of a chunk whose end may be long in coming: what is there of it, as a chunk of ours."""
        rest = self.rest
        try:
            used = reader.read(rest)
        except HttpError:
            return b""  # it is told again, when it is presented again
        self.rest = rest[used:]
        return self._again(reader, rest)

    def _again(self, reader: ChunkReader, data: bytes) -> bytes:
        """The payload in chunks of ours, or as it is."""
        payload = b"".join([data[start:end] for start, end in reader.pieces])
        if not self.framed:
            return payload
        out = b"%b%b\r\n" % (chunk(len(payload)), payload) if payload else b""
        if reader.done:
            out += last_with(reader.trailers) if self.trailing and reader.trailers else LAST
        return out

    # Bulk.

    def take_pipe(self) -> None:
        """Let the kernel move what comes, where neither side has to look at it."""
        peer = self.peer
        if self.channel is None and isinstance(peer, RelaySide) and peer.channel is None and peer.pending is None:
            self.pipe = self.shared.pipes.take()

    def _splice_body(self) -> None:
        """As read_body, with the pipe in place of the buffer; it is empty whenever this side is read."""
        pipe, peer = self.pipe, self.peer
        assert pipe is not None
        if peer is None:
            self._give_pipe_back()
            self.unwatch(READ)
            return
        try:
            count = splice(self.fd, pipe.enter, min(self.left, SPLICE_BYTES))
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        if not count:
            self._give_pipe_back()
            self.finished = True
            self.body_broken()
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        self.left -= count
        self.drained = False
        pipe.held = count
        if not self.left:
            self.body_ends(b"")
        self.gave(count)
        if not self._pour(pipe, peer):
            self._charge(pipe)
            peer._stall_begins()
            peer.watch(WRITE)
            self.slowed()
            return
        if not self.left and self.pipe is pipe:
            self._give_pipe_back()
            self.body_over()

    def gave(self, count: int) -> None:
        """So many bytes went to the peer through the pipe."""

    def slowed(self) -> None:
        """The peer did not take all: this side is not read until it has."""
        self.unwatch(READ)
        self._look_at_budget()

    def poured(self) -> None:
        """The peer has taken what it held: go on, or come to the end."""
        pipe = self.pipe
        if pipe is not None and not self.left:
            self._give_pipe_back()
            self.body_over()
        else:
            self.resume_reading()
