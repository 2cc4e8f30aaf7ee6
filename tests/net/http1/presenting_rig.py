"""Stored answers in front of real clients: whoever asks gets what the test has laid out; see http_rig.py."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from lbproxy.cache.body import AnyBody, BodyReaderLike
from lbproxy.cache.face import Face, Part
from lbproxy.http.messages import CHUNKED, ResponseHead
from lbproxy.model import Timeouts
from lbproxy.model_tls import TlsPolicy
from lbproxy.net.tls.contexts import server_context
from lbproxy.net.tls.sites import Site
from lbproxy.session.conversation import Conversation
from lbproxy.session.seams import Opening
from tests.net.http1.http_rig import GET, HttpRig
from tests.net.net_rig import put, take_all, turn
from tests.net.tls_peers import TlsPeer, client_ssl, issued, pair_of

LINES = b"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"


def face_of(
    body: AnyBody, length: int = CHUNKED, parts: Sequence[Part] | None = None, *, status: int = 200, extra: bytes = b""
) -> Face:
    """A face of this body; `length` is that of all that follows the head, CHUNKED where nobody knows it."""
    known = None if length < 0 else length
    chunked = length < 0 and status != 304
    head = ResponseHead(status, b"OK", 1, [(b"date", b"", b"")], LINES, known, chunked, False, None, b"")
    return Face(head, length, body, parts, None, extra, 0)


class Showing:
    """In place of the backends: everybody who asks is presented `face`, or what comes next of `faces`."""

    def __init__(self, rig: HttpRig, *faces: Face) -> None:
        self.faces = list(faces)
        rig.backends()
        worker: Any = rig.worker
        worker.http_factory = self

    def connect(self, exchange: Any, _now: float) -> None:
        """As a factory of connections to backends."""
        exchange.present(self.faces[0] if len(self.faces) == 1 else self.faces.pop(0))


def serve_tls(rig: HttpRig) -> None:
    """End the TLS of clients from now on."""
    policy = TlsPolicy()
    context = server_context([pair_of(issued())], policy, trust=None, tickets=True, stapled={}, write_secret=None)
    rig.gate.opening = Opening(tls=True, timeouts=Timeouts(), plain=False)
    rig.gate.site = Site(context, policy, (), asks=False)


class Taker:
    """A client that takes what comes, or (`idle`) nothing. `ended` turns True with FIN, `cut` with a reset, or a FIN
    without the close_notify that TLS wants.
    """

    def __init__(self, rig: HttpRig, *, tls: bool = False, send: int = 0, receive: int = 0) -> None:
        self.rig = rig
        self.conversation: Conversation
        self.conversation, self.sock = rig.client(send, receive)
        self.tls = TlsPeer(client_ssl(), self.sock) if tls else None
        self.got = self.tls.got if self.tls is not None else bytearray()
        self.ended = self.cut = self.idle = False
        self.most = 0

    def ask(self, request: bytes = GET) -> None:
        """Send a request; the handshake comes first."""
        if self.tls is None:
            put(self.sock, request)
            return
        if not self.tls.established:
            turn(self.rig.reactor, self.tls.pump)
        self.tls.send(request)

    @property
    def held(self) -> int:
        """What is kept for this client at the moment."""
        client: Any = self.conversation.client
        return 0 if client is None else client.held

    def pump(self, most: int = 1 << 30) -> None:
        """Take what is there, up to so many bytes (as they are on the wire)."""
        self.most = max(self.most, self.held)
        if self.ended or self.cut or self.idle:
            return
        try:
            if self.tls is None:
                data, self.ended = take_all(self.sock, most)
                self.got += data
            else:
                self._pump_tls(self.tls, most)
        except ConnectionResetError:
            self.cut = True

    def _pump_tls(self, peer: TlsPeer, most: int) -> None:
        data, fin = take_all(self.sock, most)
        peer.give(data)
        try:
            peer.read()
            if fin and not peer.closed:
                self.cut = True
        except ssl.SSLError:
            self.cut = True
        self.ended = peer.closed

    def until(self, done: Callable[[], object], *, most: int = 1 << 30) -> None:
        """Take and turn until this is so."""

        def step() -> object:
            self.pump(most)
            return done()

        turn(self.rig.reactor, step)

    def hears(self, count: int) -> bytes:
        """The next so many bytes."""
        self.until(lambda: len(self.got) >= count or self.ended or self.cut)
        data = bytes(self.got[:count])
        assert len(data) == count, f"it ended behind {bytes(self.got)!r}"
        del self.got[:count]
        return data

    def hears_head(self) -> bytes:
        """The head of an answer."""
        self.until(lambda: b"\r\n\r\n" in self.got)
        return self.hears(self.got.index(b"\r\n\r\n") + 4)

    def hears_end(self) -> bytes:
        """All that comes up to the end of the connection, be it in order or not."""
        self.until(lambda: self.ended or self.cut)
        data = bytes(self.got)
        self.got.clear()
        return data


class FakeFile:
    """A long body in a file without a name. `length` is what can be read; what is loaded comes when the reactor turns,
    or (`waits`) when `comes` is called.
    """

    def __init__(self, rig: HttpRig, data: bytes = b"", *, expected: int | None = None, at_hand: bool = True) -> None:
        self.rig = rig
        self.expected = len(data) if expected is None else expected
        self.complete = expected is None
        self.failed = self.waits = False
        self.at_hand = at_hand
        self.length = 0
        self.loads: list[tuple[int, int]] = []
        self.readers: list[BodyReaderLike] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._due: list[Callable[[], None]] = []
        self.add(data)

    def add(self, data: bytes) -> bool:
        """More of it has been written; whether still more may come."""
        self._file.seek(self.length)
        self._file.write(data)
        self._file.flush()
        self.length += len(data)
        self._tell()
        return True

    def finish(self) -> None:
        """All of it has been written."""
        self.complete = True
        self._tell()

    def fail(self) -> None:
        """The rest will never come."""
        self.failed = True
        self._tell()

    def cut(self, length: int) -> None:
        """Somebody has made the file shorter than it is said to be."""
        self._file.truncate(length)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def comes(self) -> None:
        """What is being loaded comes now."""
        due, self._due = self._due, []
        for call in due:
            call()

    def wait(self, reader: BodyReaderLike) -> None:
        """See FileBody."""
        self.readers.append(reader)

    def leave(self, reader: BodyReaderLike) -> None:
        """See FileBody."""
        if reader in self.readers:
            self.readers.remove(reader)

    def descriptor(self) -> int:
        """See FileBody."""
        return self._file.fileno()

    def ready(self, position: int, most: int) -> bool:
        """See FileBody."""
        return self.at_hand

    def load(self, position: int, most: int, then: Callable[[bytes | None], None]) -> None:
        """See FileBody."""
        self.loads.append((position, most))
        # As the real one: somebody else keeps what is asked for, so the file may be gone by then.
        data: bytes | None = os.pread(self._file.fileno(), most, position)
        if len(data or b"") < most:
            data = None
        if self.waits:
            self._due.append(lambda: then(data))
        else:
            self.rig.reactor.callLater(0.0, then, data)

    def _tell(self) -> None:
        told = list(self.readers)
        if self.complete or self.failed:
            self.readers.clear()
        for reader in told:
            reader.more()


class FakeDisk:
    """The part of a disk that takes long bodies: each goes into a GrowingFake, which `made` has."""

    def __init__(self, rig: HttpRig) -> None:
        self.rig = rig
        self.made: list[GrowingFake] = []
        self.kept: list[bytes] = []

    def begin(self, length: int | None) -> GrowingFake:
        """See Disk."""
        self.made.append(GrowingFake(self.rig, expected=-1 if length is None else length))
        return self.made[-1]

    def find(self, key: bytes) -> bool:
        """See Disk."""
        return False

    def drop(self, key: bytes) -> None:
        """See Disk."""

    def keep(self, stored: Any, vary: tuple[bytes, ...]) -> None:
        """See Disk."""
        self.kept.append(stored.key)

    def close(self) -> None:
        """Close all files."""
        for one in self.made:
            one.close()


class GrowingFake(FakeFile):
    """A file that is written as a body comes; `full` has who fills it wait until `room`."""

    full = False
    on_room: Callable[[], None] | None = None

    def add(self, data: bytes) -> bool:
        """See GrowingFile."""
        if not self.failed:
            super().add(data)
        return not self.full

    def room(self) -> None:
        """There is room again."""
        self.full = False
        if self.on_room is not None:
            self.on_room()

    def contents(self) -> bytes:
        """All that has been written."""
        return os.pread(self.descriptor(), self.length + 1, 0)
