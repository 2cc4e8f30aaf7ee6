"""The two sides of a relay, and the way of a byte between them.

Owns moving bytes from one socket to the other, with back-pressure: a side is read only while the other takes all it is
given, so at most one buffer is held per direction. Refuses to know what an end or a loss means: the session decides.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from typing import Any, Protocol

from lbproxy.net.dialing import set_liveness
from lbproxy.net.polling import READ, WRITE
from lbproxy.net.sockets import Socket
from lbproxy.net.splicing import BULK_READS, SPLICE_BYTES, THIN_SPLICES, Pipe, Pipes, splice
from lbproxy.net.tls.failures import TlsFailure, Truncated
from lbproxy.net.tls.transport import SecureShared, SecureTransport
from lbproxy.net.transport import RECEIVE_BUFFER, RECEIVE_BYTES, RECEIVE_VIEW
from lbproxy.net.wheel import Wheel
from lbproxy.session.seams import Side

_NEVER_LOOKED = -1
# What comes out of TLS at once is a record, or a few: there must be room for it whenever a side is read.
ROOM_FOR_RECORDS = 32 * 1024


class RelayShared(SecureShared, Protocol):
    """What the sides of all relays have in common."""

    @property
    def wheel(self) -> Wheel:
        """Whose coarse time the sides go by."""

    @property
    def pipes(self) -> Pipes:
        """Pipes for bulk."""

    def over_budget(self) -> None:
        """All sides together hold more than the budget allows."""


class RelaySide(SecureTransport):
    """One side of a relay; see `Side` in session/seams.py.

    Reading goes three ways: into `kept` before there is a `peer`, through the shared buffer to the peer, and, once
    the stream has proved to be bulk, through a `pipe` that the kernel fills and empties without copying. `_apart` is
    True for the first and the last, so that the way of most bytes asks one question only.

    With TLS a channel stands in for the socket where bytes are read and written; see SecureTransport.
    """

    __slots__ = (
        "_apart",
        "_bulk",
        "_deaf",
        "_kept",
        "_most_kept",
        "_queued",
        "_thin",
        "moved",
        "peer",
        "pipe",
        "session",
        "stopped",
        "touched",
    )
    shared: RelayShared

    def __init__(self, shared: RelayShared, sock: Socket, session: Any) -> None:
        """`session` is a Relay; connections that speak HTTP put others in its place, and hear of events themselves."""
        super().__init__(shared, sock)
        self.session = session
        self.peer: RelaySide | None = None
        self.pipe: Pipe | None = None
        self.touched = self.moved = shared.wheel.now
        self.stopped = False
        self._apart = True
        self._kept = b""
        self._most_kept = RECEIVE_BYTES
        self._bulk: float = 0
        self._thin = 0
        self._queued = _NEVER_LOOKED
        self._deaf: OSError | None = None

    # Reading.

    def handshake_over(self, failure: TlsFailure | None) -> None:
        """See SecureTransport; subclasses tell the session."""
        self._most_kept = RECEIVE_BYTES - ROOM_FOR_RECORDS

    def doRead(self) -> None:
        """See IReadDescriptor: one buffer from this side to the other."""
        if self._apart:
            self._read_apart()
            return
        try:
            count = self._receive(RECEIVE_BUFFER)
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        peer = self.peer
        if not count or peer is None or peer.pending is not None:
            self._read_otherwise(count)
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        try:
            sent = peer._send(RECEIVE_VIEW[:count])
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            peer.dropped += count
            peer.write_failed(problem)
            return
        if sent != count:
            self._hold_back(peer, RECEIVE_VIEW[sent:count])
        elif count == RECEIVE_BYTES:
            self._bulk += 1
            if self._bulk >= BULK_READS:
                self._take_pipe()
        if self.bytes_in == count:
            self.session.first_bytes(self)

    def _read_apart(self) -> None:
        """As doRead: a handshake, into the pipe, or into what is kept for a peer to come."""
        if self.pipe is not None:
            self._splice(self.pipe)
            return
        if self.channel is not None and not self.channel.established:
            self.shake(self.channel)
            return
        try:
            count = self._receive(RECEIVE_VIEW[len(self._kept) :])
        except BlockingIOError:
            return
        except OSError as problem:
            self.lost(problem)
            return
        if not count:
            self._read_otherwise(0)
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        self._kept += RECEIVE_VIEW[len(self._kept) :][:count]
        self.shared.budget.used += count
        if len(self._kept) >= self._most_kept:
            self.unwatch(READ)
        self.session.arrived()
        self._look_at_budget()

    def _read_otherwise(self, count: int) -> None:
        if not count:
            if self._deaf is not None:  # the error was told to whoever wrote; this is no FIN
                self.lost(self._deaf)
                return
            self.finished = True
            self.session.ended(self)
            if self.sock is not None:  # a FIN would be told again and again
                self.unwatch(READ)
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        if self.peer is not None:  # woken although reading was paused: nothing may overtake what is held
            self._hold_back(self.peer, RECEIVE_VIEW[:count])

    def _hold_back(self, peer: RelaySide, rest: memoryview) -> None:
        if peer.pending is None:
            peer._stall_begins()
        peer.hold(rest)
        self.unwatch(READ)
        self.session.stalled()
        self._look_at_budget()

    def _look_at_budget(self) -> None:
        budget = self.shared.budget
        if budget.used > budget.limit:
            self.shared.over_budget()

    def _stall_begins(self) -> None:
        self.moved = self.shared.wheel.now
        self._queued = _NEVER_LOOKED

    def _splice(self, pipe: Pipe) -> None:
        """As doRead, with the pipe in place of the buffer. The pipe is empty whenever this side is read."""
        try:
            count = splice(self.fd, pipe.enter, SPLICE_BYTES)
        except BlockingIOError:
            # Nothing there after all, or urgent data, over which splice(2) does not step but recv(2) does.
            self._give_pipe_back()
            self.doRead()
            return
        except OSError as problem:
            self.lost(problem)
            return
        if not count:
            self._give_pipe_back()
            self._read_otherwise(0)
            return
        self.touched = self.shared.wheel.now
        self.bytes_in += count
        pipe.held = count
        peer = self.peer
        if peer is not None and not self._pour(pipe, peer):
            self._charge(pipe)
            peer._stall_begins()
            peer.watch(WRITE)
            self.unwatch(READ)
            self.session.stalled()
            self._look_at_budget()
        elif count >= RECEIVE_BYTES // 4:
            self._thin = 0
        else:
            self._thin += 1
            if self._thin >= THIN_SPLICES:
                self._give_pipe_back()

    def _pour(self, pipe: Pipe, peer: RelaySide) -> bool:
        """Empty the pipe into the peer; False when some is left. On a lost peer the session has ended already."""
        while pipe.held:
            try:
                pipe.held -= splice(pipe.exit, peer.fd, pipe.held)
            except BlockingIOError:
                if pipe.charged:
                    self._charge(pipe)
                return False
            except OSError as problem:
                peer.write_failed(problem)
                return True
        return True

    def _charge(self, pipe: Pipe) -> None:
        """Let the budget know what the pipe holds. Only a pipe that could not be emptied at once is counted."""
        self.shared.budget.used += pipe.held - pipe.charged
        pipe.charged = pipe.held

    def _take_pipe(self) -> None:
        self.pipe = self.shared.pipes.take()
        self._apart = self.pipe is not None
        self._bulk = self._thin = 0

    def _give_pipe_back(self) -> None:
        if self.pipe is not None:
            self.shared.budget.used -= self.pipe.charged
            self.pipe.charged = 0
            self.shared.pipes.give_back(self.pipe)
            self.pipe = None
            self._apart = False

    # Writing.

    @property
    def keeps(self) -> int:
        """See Side."""
        return len(self._kept)

    @property
    def kept(self) -> bytes:
        """See ClientSide."""
        return self._kept

    @property
    def held(self) -> int:
        """See Side."""
        peer = self.peer
        piped = peer.pipe.held if peer is not None and peer.pipe is not None else 0
        if self.pending is None and self.channel is None:
            return piped  # asked for each answer of HTTP, and nearly always so
        return piped + super().held

    def doWrite(self) -> None:
        """See IWriteDescriptor: what the pipe of the other side holds, else what is pending."""
        peer = self.peer
        if peer is None or peer.pipe is None or not peer.pipe.held or self.pending is not None:
            super().doWrite()
            return
        before = peer.pipe.held
        emptied = peer._pour(peer.pipe, self)
        if self.sock is None:
            return
        if peer.pipe is None or peer.pipe.held != before:
            self.moved = self.shared.wheel.now
        if emptied and self._deaf is None:
            if peer.pipe is not None:
                peer._charge(peer.pipe)
            self.unwatch(WRITE)
            self.flushed()

    def progressed(self) -> None:
        """See Transport."""
        self.moved = self.shared.wheel.now

    def flushed(self) -> None:
        """See Transport: the other side may be read again."""
        self.moved = self.shared.wheel.now
        if self.peer is not None:
            self.peer.resume_reading()
        self.session.flushed()

    # What the session asks for: see Side and ClientSide.

    def start_reading(self) -> None:
        """See ClientSide."""
        self.watch(READ)

    def resume_reading(self) -> None:
        """Read again, if nothing is against it."""
        peer = self.peer
        full = len(self._kept) >= self._most_kept if peer is None else bool(peer.held)
        if self.sock is not None and not (self.finished or self.stopped or full):
            self.watch_reading()

    def still_takes(self) -> bool:
        """See Side. The kernel asks for more only when much has been taken: its queue tells earlier."""
        before, self._queued = self._queued, self.unacknowledged()
        taken = before not in (_NEVER_LOOKED, self._queued)
        if taken:
            self.moved = self.shared.wheel.now
        return taken

    def watch_over(self) -> None:
        """See Side."""
        if self.sock is not None and self.sock.family != socket.AF_UNIX:
            set_liveness(self.sock, self.session.timeouts.write_stall)

    def stop_reading(self) -> None:
        """See Side."""
        self.stopped = True
        self.unwatch(READ)

    def take_kept(self) -> bytes:
        """See ClientSide."""
        kept, self._kept = self._kept, b""
        self.shared.budget.used -= len(kept)
        return kept

    def keep(self, data: bytes) -> None:
        """See ClientSide."""
        self._kept = data + self._kept
        self.shared.budget.used += len(data)

    def join(self, backend: Side, preamble: bytes) -> None:
        """See ClientSide."""
        assert isinstance(backend, RelaySide)  # sessions join the sides that this package gave them
        self.peer, backend.peer = backend, self
        self._apart = backend._apart = False
        if self.channel is not None or backend.channel is not None:
            self._bulk = backend._bulk = -math.inf  # what TLS has to look at cannot go through a pipe
        first = preamble + self.take_kept()
        if first:
            backend.write(first)
            if self.sock is None or backend.sock is None or self.peer is not backend:
                return  # the backend was gone, and the session has dealt with it
        if self.finished:
            backend.finish()
        elif backend.pending is not None:
            self.unwatch(READ)
            self.session.stalled()
        elif not self.stopped:
            self.watch_reading()
        if backend.sock is not None:
            # From the connect's interest to the relay's in one step, not two.
            self.shared.poller.watch(backend, READ | WRITE if backend.held else READ)
            backend.look_inside()

    def part(self) -> None:
        """See ClientSide."""
        self.peer = None
        self._apart = True
        self.stopped = False
        if not self.finished:
            self.watch(READ)

    def close(self) -> None:
        """See Side. What a pipe holds for this side is lost with it; what ours holds is still the peer's to take."""
        if self.sock is None:
            return
        peer = self.peer
        if peer is not None:
            self._drop_piped(peer)
        if self.pipe is not None and (not self.pipe.held or peer is None or peer.sock is None):
            self._give_pipe_back()
        self.take_kept()
        super().close()
        if peer is not None and peer.sock is None:
            self.peer = peer.peer = None  # they are freed with their last user, not by the garbage collector

    def close_gently(self) -> None:
        """See ClientSide; there is no peer yet."""
        self.take_kept()
        super().close_gently()

    def write_failed(self, problem: OSError) -> None:
        """See Transport: an answer that came before the reset is still read, and given to the other side."""
        if self.finished or self.stopped or self.sock is None:
            self.lost(problem)
            return
        # Without its traceback, which knows the frames that know this side: only the garbage collector could free them.
        self._deaf = problem.with_traceback(None)
        self.cut = True
        self.drop_pending()
        self.unwatch(WRITE)
        source = self.peer
        if source is not None:
            self._drop_piped(source)
            source.stop_reading()
        self.resume_reading()

    def troubled(self) -> None:
        """See Descriptor: where nothing is read any more, nothing can come before the error."""
        if not self.stopped:
            super().troubled()
        elif self.sock is not None and (code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self.lost(OSError(code, os.strerror(code)))

    def _drop_piped(self, source: RelaySide) -> None:
        """Forget what the pipe of the other side holds for this one."""
        if source.pipe is not None:
            self.dropped += source.pipe.held
            source._give_pipe_back()

    def lost(self, problem: OSError) -> None:
        """See Transport. Where the kernel gave up on what we had sent (TCP_USER_TIMEOUT), the peer has stalled."""
        stalled = problem.errno == errno.ETIMEDOUT and self.unacknowledged() > 0
        self.cut = True
        self.close()
        broken = (problem.word, str(problem.strerror)) if isinstance(problem, TlsFailure) else None
        self.session.lost(self, stalled=stalled, truncated=isinstance(problem, Truncated), broken=broken)

    def broken(self, problem: BaseException) -> None:
        """See Descriptor."""
        self.session.broken(problem)
