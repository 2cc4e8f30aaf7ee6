"""The other ends where HTTP/1.1 is spoken: backends that record and obey, backends that misbehave, and a raw client.

None of it uses a line of lbproxy: what is read is read with h11, which is strict and independent, and what is written
is written byte by byte as the test says. A test module asks for the fixtures by importing them under their own names,
as in `from tests.live.http_peers import recording_fixture as recording_fixture`. A test then is:

    def test_something(start, ports, recording):
        backend = recording({"/slow": Answer(delay=0.5)})
        port = ports.reserve()
        start(http_site(port, backend.address))
        with RawClient(port) as client:
            assert client.ask(b"GET", b"/slow").status == 200
        assert backend.requests[0].target == b"/slow"
"""

from __future__ import annotations

import enum
import hashlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, Protocol

import h11
import pytest

from tests.live.harness import one_pool, until
from tests.live.peers import PATIENCE, Backend, reset
from tests.live.tls_peers import TlsSocket

Fields = Sequence[tuple[bytes, bytes]]
# What tells the requests of one test apart, through whatever passes them on.
ID_FIELD = b"X-Test-Id"
_HEAD_END = b"\r\n\r\n"
_LARGEST_HEAD = 1 << 20
_PIECE = 1 << 16


# Configuration.

HTTP = 'protocol = "http"'


def http_listener(port: int, *, name: str = "in", more: str = "") -> str:
    """An HTTP listener without a pool of its own; `more` are further keys."""
    return f'\n[[listener]]\nname = "{name}"\nbind = "127.0.0.1:{port}"\n{HTTP}\n{more}\n'


def http_pool(name: str, *backends: object, more: str = "") -> str:
    """A pool without checks, unless `more` (further keys) asks for them."""
    listed = ", ".join(one if (one := str(backend)).startswith("{") else f'"{one}"' for backend in backends)
    for key in ("check", "slow_start"):
        if f"{key} =" not in more:
            more += f"\n{key} = false"
    return f"\n[pool.{name}]\nbackends = [{listed}]\n{more}\n"


def http_site(port: int, *backends: object, listener: str = "", pool: str = "", more: str = "") -> str:
    """The configuration of most tests: see `one_pool`; the listener speaks HTTP."""
    return one_pool(port, *backends, listener=f"{HTTP}\n{listener}", pool=pool, more=more)


# What backends see.


@dataclass
class Asked:
    """One request as it arrived. `fields` keep order and case; `body` is without framing, `wire` is all with it.

    `connection` numbers the connections from 1, `complete` says that the body came to its end. Without `keep_bodies`
    `body` and `wire` stay empty beyond the head; `size` and `digest` (SHA-256) tell of the body all the same.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    connection: int
    head: bytes
    wire: bytes = b""
    body: bytes = b""
    size: int = 0
    digest: str = ""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False

    def all(self, name: bytes) -> list[bytes]:
        """The values of all fields of this name, in their order."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def get(self, name: bytes) -> bytes | None:
        """The value of the one field of this name; None when there is none."""
        found = self.all(name)
        assert len(found) <= 1, found
        return found[0] if found else None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")


class Executions:
    """How often each request was carried out: those whose body came to its end. May be shared by several backends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[bytes] = Counter()

    def add(self, asked: Asked) -> None:
        """One more, for requests that have an id."""
        id = asked.get(ID_FIELD)
        if id is not None:
            with self._lock:
                self._counts[id] += 1

    def of(self, id: bytes) -> int:
        """How often the request with this id was carried out."""
        with self._lock:
            return self._counts[id]

    def several(self) -> dict[bytes, int]:
        """What was carried out more than once."""
        with self._lock:
            return {id: count for id, count in self._counts.items() if count > 1}


# What backends say.


class Then(Protocol):
    """What becomes of a connection behind an answer; `ahead` was read from it already."""

    def __call__(self, conn: socket.socket, ahead: bytes, /) -> None: ...


@dataclass(frozen=True)
class Answer:
    """One answer, and how it is given. Times are seconds.

    `body` goes out in pieces of `piece` bytes with `pause` between them, each a chunk where `framing` is "chunked";
    `stream` makes the pieces instead, of `size` bytes in all where they have a length. Framing "close" ends the body
    with FIN, "none" adds no field and leaves that to `fields`. `interim` are whole heads in front, `delay` is
    before everything, `early` answers without reading the request's body first (it is read afterwards). `raw` replaces
    head and body. With `end` or `cut`, which sends so many bytes only, the connection ends, and says so in the head.
    `then` takes over the connection afterwards.
    """

    status: int = 200
    body: bytes = b"ok"
    fields: Fields = ()
    reason: bytes = b"OK"
    framing: Literal["length", "chunked", "close", "none"] = "length"
    trailers: Fields = ()
    version: bytes = b"HTTP/1.1"
    interim: Sequence[bytes] = ()
    stream: Callable[[], Iterable[bytes]] | None = None
    size: int = 0
    piece: int = _PIECE
    delay: float = 0.0
    pause: float = 0.0
    early: bool = False
    raw: bytes | None = None
    cut: int | None = None
    end: Literal["keep", "close", "reset"] = "keep"
    then: Then | None = None

    @property
    def last(self) -> bool:
        """Whether the connection ends with it."""
        return self.end != "keep" or self.framing == "close" or self.cut is not None

    def pieces(self, method: bytes) -> Iterator[bytes]:
        """What goes out, in pieces."""
        yield from self.interim
        if self.raw is not None:
            yield self.raw
            return
        yield self._head()
        if method == b"HEAD" or self.status in (204, 304) or self.status < 200:
            return
        parts = _split(self.body, self.piece) if self.stream is None else self.stream()
        if self.framing != "chunked":
            yield from parts
            return
        yield from (b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
        yield b"0\r\n" + _lines(self.trailers) + b"\r\n"

    def _head(self) -> bytes:
        fields = list(self.fields)
        if self.status >= 200 and self.status != 204:
            if self.framing == "length":
                fields.append((b"Content-Length", b"%d" % (len(self.body) if self.stream is None else self.size)))
            elif self.framing == "chunked":
                fields.append((b"Transfer-Encoding", b"chunked"))
        if self.last:
            fields.append((b"Connection", b"close"))
        return b"%b %d %b\r\n%b\r\n" % (self.version, self.status, self.reason, _lines(fields))


def upgraded(protocol: bytes = b"websocket", then: Then | None = None) -> Answer:
    """A 101 to this protocol, which is spoken by `then`; without it, what comes is sent back up to FIN."""
    fields = ((b"Connection", b"Upgrade"), (b"Upgrade", protocol))
    return Answer(101, fields=fields, reason=b"Switching Protocols", then=then or _echo)


def _echo(conn: socket.socket, ahead: bytes) -> None:
    data = ahead or conn.recv(65536)
    while data:
        conn.sendall(data)
        data = conn.recv(65536)
    conn.shutdown(socket.SHUT_WR)


def _lines(fields: Fields) -> bytes:
    return b"".join(b"%b: %b\r\n" % one for one in fields)


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


Chooses = Callable[[Asked], Answer]


class RecordingBackend(Backend):
    """An HTTP/1.1 backend that keeps connections, records every request, and answers as `answers` says.

    `answers` is by path (an Answer, or what makes one of the whole request), or makes all of them; it may be changed at
    any time. `default` is for other paths. A connection is closed after `idle` seconds without a request, and after
    `most` answers, unannounced. What h11 takes for no request fails the test at `stop`. With `tls` it speaks TLS.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer | Chooses] | Chooses | None = None,
        *,
        default: Answer | None = None,
        idle: float = PATIENCE,
        most: int | None = None,
        executions: Executions | None = None,
        keep_bodies: bool = True,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "",
    ) -> None:
        self.answers = answers if callable(answers) else dict(answers or {})
        self.default = default or Answer()
        self.idle = idle
        self.most = most
        self.executions = executions or Executions()
        self.requests: list[Asked] = []
        self._keep_bodies = keep_bodies
        self._tls = tls
        self._numbers = 0
        self._stopping = threading.Event()
        self._noting = threading.Lock()
        super().__init__(self._begin, host=host, port=port, path=path)

    def __enter__(self) -> RecordingBackend:
        return self

    def __exit__(self, *problem: object) -> None:
        self.stop()

    def stop(self) -> None:
        """See Backend."""
        self._stopping.set()
        super().stop()

    def wait_for(self, count: int) -> list[Asked]:
        """The requests so far, once there are `count` that have come to their end."""
        until(lambda: sum(one.complete for one in list(self.requests)) >= count, f"{count} requests have come")
        return list(self.requests)

    # One connection.

    def _begin(self, conn: socket.socket) -> None:
        if self._tls is None:
            self._converse(conn)
            return
        with TlsSocket(conn.dup(), self._tls, server_side=True) as tls:
            tls.settimeout(PATIENCE)
            tls.handshake()
            self._converse(tls)
            if tls.fileno() >= 0:
                tls.send_close_notify()

    def _converse(self, conn: socket.socket) -> None:
        with self._noting:
            self._numbers += 1
            number = self._numbers
        ahead, answered = b"", 0
        while self.most is None or answered < self.most:
            arriving = _Arriving(conn, ahead, number, self._keep_bodies)
            asked = arriving.read_head(self.idle)
            if asked is None:
                return
            with self._noting:
                self.requests.append(asked)
            chosen = self._choose(asked)
            early = isinstance(chosen, Answer) and chosen.early
            if not early and not self._finish(arriving, asked):
                return
            answer = chosen if isinstance(chosen, Answer) else chosen(asked)
            if not self._give(conn, asked, answer):
                return
            if early and not self._finish(arriving, asked):
                return
            ahead, answered = arriving.ahead, answered + 1
            if answer.then is not None:
                answer.then(conn, ahead)
                return
            if answer.last:
                return

    def _finish(self, arriving: _Arriving, asked: Asked) -> bool:
        if arriving.read_body():
            self.executions.add(asked)
            asked.complete = True
        return asked.complete

    def _choose(self, asked: Asked) -> Answer | Chooses:
        return self.answers if callable(self.answers) else self.answers.get(asked.path, self.default)

    def _give(self, conn: socket.socket, asked: Asked, answer: Answer) -> bool:
        """Send the answer; False when the connection is over."""
        if self._stopping.wait(answer.delay):
            return False
        left = answer.cut
        for index, piece in enumerate(answer.pieces(asked.method)):
            if index and answer.pause and self._stopping.wait(answer.pause):
                return False
            conn.sendall(piece if left is None else piece[:left])
            if left is not None:
                left -= min(left, len(piece))
                if not left:
                    break
        if answer.end == "reset":
            reset(conn)
            return False
        return True


class _Arriving:
    """One request on its way in. `ahead` is what came behind it."""

    def __init__(self, conn: socket.socket, ahead: bytes, number: int, keep: bool) -> None:
        self._conn = conn
        self._number = number
        self._keep = keep
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD)
        self._wire = bytearray(ahead)
        self._asked: Asked | None = None
        if ahead:
            self._parser.receive_data(ahead)

    @property
    def ahead(self) -> bytes:
        """What is not part of this request."""
        return bytes(self._parser.trailing_data[0])

    def read_head(self, idle: float) -> Asked | None:
        """The head; None when the connection ended in front of it, or nothing came for `idle` seconds."""
        self._conn.settimeout(PATIENCE if self._wire else idle)
        event = self._next()
        if event is None:
            return None
        assert isinstance(event, h11.Request), event
        head = bytes(self._wire).partition(_HEAD_END)[0] + _HEAD_END
        check_lines(head)
        self._asked = Asked(
            event.method,
            event.target,
            b"HTTP/" + event.http_version,
            list(event.headers.raw_items()),
            self._number,
            head,
            head,
        )
        return self._asked

    def read_body(self) -> bool:
        """Read the body to its end; False when the connection ended before."""
        asked, found, parts = self._asked, hashlib.sha256(), []
        assert asked is not None
        if self._parser.they_are_waiting_for_100_continue:
            self._conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not isinstance(event := self._next(), h11.EndOfMessage):
            if event is None:
                return False
            assert isinstance(event, h11.Data), event
            found.update(event.data)
            asked.size += len(event.data)
            if self._keep:
                parts.append(bytes(event.data))
        asked.body, asked.digest = b"".join(parts), found.hexdigest()
        asked.trailers = list(event.headers.raw_items())
        if self._keep:
            asked.wire = bytes(self._wire[: len(self._wire) - len(self.ahead)])
        return True

    def _next(self) -> object | None:
        """The next event; None when the connection has ended before it."""
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            try:
                data = self._conn.recv(65536)
            except TimeoutError:
                return None
            if not data:
                return None
            self._conn.settimeout(PATIENCE)
            self._parser.receive_data(data)
            if self._keep or self._asked is None:
                self._wire += data
        return event


def check_lines(head: bytes) -> None:
    """What h11 forgives and a canonical head has not: bare LF or CR, folded lines."""
    for line in head.split(b"\r\n"):
        assert b"\n" not in line, head
        assert b"\r" not in line, head
        assert not line.startswith((b" ", b"\t")), head


# Backends that misbehave.


class Do(enum.Enum):
    """What an EvilBackend does besides sending bytes (`bytes`) and waiting (`float`, seconds)."""

    READ_HEAD = "read up to the first blank line"
    READ_ALL = "read up to FIN or a reset"
    FIN = "send FIN, the connection stays"
    RESET = "reset the connection"


Step = bytes | float | Do


def drip(data: bytes, seconds: float) -> list[Step]:
    """Byte by byte, with so much time between two."""
    steps: list[Step] = []
    for byte in data:
        steps += (bytes((byte,)), seconds)
    return steps[:-1]


class EvilBackend(Backend):
    """Follows one script of steps in each connection: the first script in the first one and so on, the last in all
    further ones. At a script's end the connection is closed (by a reset, if something was left unread).

    `heard` is what came in each connection, as far as the script read it.
    """

    def __init__(self, *scripts: Sequence[Step], host: str = "127.0.0.1", port: int = 0) -> None:
        self.heard: list[bytearray] = []
        self._scripts = scripts
        self._taking = threading.Lock()
        super().__init__(self._follow, host=host, port=port)

    def __enter__(self) -> EvilBackend:
        return self

    def __exit__(self, *problem: object) -> None:
        self.stop()

    def _follow(self, conn: socket.socket) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._taking:
            steps = self._scripts[min(len(self.heard), len(self._scripts) - 1)]
            heard = bytearray()
            self.heard.append(heard)
        for step in steps:
            if isinstance(step, bytes):
                conn.sendall(step)
            elif isinstance(step, float):
                time.sleep(step)
            elif step is Do.FIN:
                conn.shutdown(socket.SHUT_WR)
            elif step is Do.RESET:
                reset(conn)
                return
            else:
                while not (step is Do.READ_HEAD and _HEAD_END in heard) and (data := conn.recv(65536)):
                    heard += data


# Clients.


@dataclass(frozen=True)
class Answered:
    """One answer as a client read it; `interim` are the statuses of those in front of it, `head` its own bytes."""

    status: int
    reason: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    head: bytes
    interim: tuple[int, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()

    def all(self, name: bytes) -> list[bytes]:
        """The values of all fields of this name, in their order."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def get(self, name: bytes) -> bytes | None:
        """The value of the one field of this name; None when there is none."""
        found = self.all(name)
        assert len(found) <= 1, found
        return found[0] if found else None


def request(
    method: bytes = b"GET",
    target: bytes = b"/",
    fields: Fields = (),
    body: bytes | None = None,
    *,
    host: bytes | None = b"lbproxy.test",
    id: bytes = b"",
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """A request as bytes; a body has a Content-Length unless `fields` say how it is framed (it is sent as it is)."""
    lines = [] if host is None else [(b"Host", host)]
    lines += [(ID_FIELD, id)] if id else []
    lines += fields
    framed = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)
    if body is not None and not framed:
        lines.append((b"Content-Length", b"%d" % len(body)))
    return b"%b %b %b\r\n%b\r\n" % (method, target, version, _lines(lines)) + (body or b"")


def chunked(*parts: bytes, trailers: Fields = ()) -> bytes:
    """A body in chunks, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + _lines(trailers) + b"\r\n"


class RawClient:
    """A client that sends what it is told and reads what HTTP/1.1 allows. `sock` stands in for a connection to `port`,
    such as one with TLS.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        sock: socket.socket | None = None,
        receive_buffer: int = 0,
        timeout: float = PATIENCE,
    ) -> None:
        if sock is None:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            sock.settimeout(timeout)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.connect((host, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._ahead = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    # Saying.

    def send(self, *segments: bytes, pause: float = 0.0) -> RawClient:
        """Send these, each with a system call of its own, with so much time between two; returns itself."""
        for index, segment in enumerate(segments):
            if index and pause:
                time.sleep(pause)
            self.sock.sendall(segment)
        return self

    def send_bytewise(self, data: bytes, pause: float = 0.0) -> RawClient:
        """Send this byte by byte."""
        return self.send(*_split(data, 1), pause=pause)

    def half_close(self) -> None:
        """Send FIN; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        reset(self.sock)

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    # Hearing.

    def ask(
        self,
        method: bytes = b"GET",
        target: bytes = b"/",
        fields: Fields = (),
        body: bytes | None = None,
        *,
        host: bytes | None = b"lbproxy.test",
        id: bytes = b"",
        version: bytes = b"HTTP/1.1",
    ) -> Answered:
        """Send one request, see `request`, and read its answer."""
        self.send(request(method, target, fields, body, host=host, id=id, version=version))
        return self.answer(method)

    def answer(self, method: bytes = b"GET", *, upgrade: bool = False) -> Answered:
        """Read one answer to a request with `method`, strictly, and no byte that is not part of it (see `take`).

        With `upgrade` a 101 is an answer. Raises h11.RemoteProtocolError for one that breaks the rules or is cut off,
        and OSError.
        """
        parser = _waiting_for(method, upgrade=upgrade)
        wire = bytearray(self._ahead)
        if wire:
            parser.receive_data(bytes(wire))
        final: h11.Response | h11.InformationalResponse | None = None
        interim: list[int] = []
        parts: list[bytes] = []
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = self.sock.recv(65536)
                parser.receive_data(data)
                if final is None:
                    wire += data
            elif isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                interim.append(event.status_code)
            elif isinstance(event, (h11.Response, h11.InformationalResponse)):
                final = event
                if event.status_code == 101:
                    break
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise h11.RemoteProtocolError(f"no answer, but {event!r}")
        assert final is not None
        self._ahead = bytes(parser.trailing_data[0])
        heads = bytes(wire).split(_HEAD_END, len(interim) + 1)[: len(interim) + 1]
        for head in heads:
            check_lines(head)
        trailers = tuple(event.headers.raw_items()) if isinstance(event, h11.EndOfMessage) else ()
        fields = list(final.headers.raw_items())
        version = b"HTTP/" + final.http_version
        head = heads[-1] + _HEAD_END
        return Answered(
            final.status_code, final.reason, version, fields, b"".join(parts), head, tuple(interim), trailers
        )

    def take(self, count: int) -> bytes:
        """So many bytes as they are, or what there is before FIN."""
        while len(self._ahead) < count and (data := self.sock.recv(65536)):
            self._ahead += data
        found, self._ahead = self._ahead[:count], self._ahead[count:]
        return found

    def read_to_end(self) -> bytes:
        """Everything up to FIN, as it is. A reset raises ConnectionError."""
        parts, self._ahead = [self._ahead], b""
        while data := self.sock.recv(1 << 18):
            parts.append(data)
        return b"".join(parts)

    def was_closed(self) -> bool:
        """Wait for the other end's FIN or reset; whether no further byte came before it."""
        try:
            return self.read_to_end() == b""
        except ConnectionError:
            return True


def _waiting_for(method: bytes, *, upgrade: bool) -> h11.Connection:
    """A parser that believes to have sent such a request."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)
    headers = [(b"Host", b"x")]
    if upgrade:
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"any")]
    parser.send(h11.Request(method=method, target=b"/", headers=headers))
    parser.send(h11.EndOfMessage())
    return parser


# Fixtures; see the module.


@pytest.fixture(name="recording")
def recording_fixture(stack: ExitStack) -> Callable[..., RecordingBackend]:
    """Starts a RecordingBackend; the arguments are its own."""

    def begin(*words: object, **options: object) -> RecordingBackend:
        server = RecordingBackend(*words, **options)  # type: ignore[arg-type]  # passed on as they are
        stack.callback(server.stop)
        return server

    return begin


@pytest.fixture(name="evil")
def evil_fixture(stack: ExitStack) -> Callable[..., EvilBackend]:
    """Starts an EvilBackend; the arguments are its own."""

    def begin(*scripts: Sequence[Step], **options: object) -> EvilBackend:
        server = EvilBackend(*scripts, **options)  # type: ignore[arg-type]  # passed on as they are
        stack.callback(server.stop)
        return server

    return begin
