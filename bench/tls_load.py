"""The clients that speak TLS, run as a child: ``python -m bench.tls_load KIND key=value...``, as `bench.load` does.

Every connection is held against the one version, suite and group of the run (`bench.tls`). They stand on pyOpenSSL,
whose OpenSSL shakes hands for less than that of Python's ``ssl`` here and tells the group. Kinds beside ``closed``
and ``hold``, which are those of `bench.load`:

- ``handshakes``  a connection for each request, full or resumed; the client closes first, with a close_notify
- ``download``    streams whose records are counted and thrown away as they are: deciphering them is no proxy's work
- ``upload``      streams of messages; the sink acknowledges each one that has arrived whole
"""

import select
import socket
import struct
import time
from collections.abc import Callable
from functools import partial

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

from bench import load
from bench.load import MAX_BULK_BYTES, MAX_CONNECTIONS, REQUEST, SETTLE, LoadFailed, Result, read_answer
from bench.serve import MESSAGE
from bench.tls import GROUP, NAME, SUITE, VERSION

PIECE = bytes(16 * 1024)
"""What is sent at once: the most that one record carries."""

RECORD_HEADER = 5
RECORD_EXTRA = 17
"""Bytes of a record that are no payload: the inner type and the tag of the cipher (RFC 8446, 5.2)."""

APPLICATION_DATA = 23

RECORDS_AT_ONCE = 64
"""Records read from one stream before the next stream has its turn."""


def client() -> SSL.Context:
    """The settings of all connections; the suite and the group come from OpenSSL's configuration file.

    Nobody's certificate is verified: a signature more or less is the client's time, not the proxy's.
    """
    settings = SSL.Context(SSL.TLS_CLIENT_METHOD)
    settings.set_min_proto_version(SSL.TLS1_3_VERSION)
    settings.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return settings


class TlsConnection:
    """TLS over a socket of its own, with the face of a socket; failures are those of `bench.load`."""

    def __init__(self, settings: SSL.Context, raw: socket.socket, session: SSL.Session | None = None) -> None:
        self.raw = raw
        self.established = False
        self._tls = SSL.Connection(settings, raw)
        self._tls.set_connect_state()
        self._tls.set_tlsext_host_name(NAME.encode())
        if session is not None:
            self._tls.set_session(session)

    def handshake(self) -> bool:
        """Go on with the handshake; whether it is done, as agreed for the run."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise LoadFailed(f"TLS handshake: {error}") from None
        found = (self._tls.get_protocol_version_name(), self._tls.get_cipher_name(), self._tls.get_group_name())
        if (found[0], found[1], (found[2] or "").upper()) != (VERSION, SUITE, GROUP):
            raise LoadFailed(f"negotiated {found}, where all are measured with {(VERSION, SUITE, GROUP)}")
        self.established = True
        return True

    @property
    def resumed(self) -> bool:
        """Whether the server took up the session it was offered."""
        # pyOpenSSL has no public way to ask, though the binding under both of them has.
        return bool(Binding.lib.SSL_session_reused(self._tls._ssl))

    def session(self) -> SSL.Session:
        """What another connection may resume; raises LoadFailed."""
        session = self._tls.get_session()
        if session is None:
            raise LoadFailed("the proxy gave no session to resume")
        return session

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self.raw.fileno()

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self.raw.setblocking(flag)

    def send(self, data: bytes) -> int:
        """As of a socket that does not block, but in whole records."""
        try:
            return self._tls.send(data)
        except (SSL.WantWriteError, SSL.WantReadError):
            raise BlockingIOError("nothing can be sent now") from None
        except SSL.Error as error:
            raise LoadFailed(f"TLS: {error}") from None

    def sendall(self, data: bytes) -> None:
        """As of a socket that blocks."""
        sent = 0
        while sent < len(data):
            sent += self.send(data[sent:])
        # A proxy that leaves Nagle's algorithm on sends nothing behind its tickets until they are acknowledged, and
        # whoever has just sent something acknowledges late.
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def recv(self, size: int) -> bytes:
        """As of a socket; empty when the other side has closed, in whichever way."""
        try:
            return self._tls.recv(size)
        except SSL.WantReadError:
            raise BlockingIOError("the proxy gave no answer") from None
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return b""
        except SSL.Error as error:
            raise LoadFailed(f"TLS: {error}") from None

    def close(self) -> None:
        """Say goodbye, do not wait for the answer."""
        try:
            self._tls.shutdown()
        except SSL.Error as error:
            raise LoadFailed(f"TLS, at the end: {error}") from None
        self.raw.close()


def dial(settings: SSL.Context, port: int, number: int = 0) -> TlsConnection:
    """A connection that has shaken hands, and blocks."""
    raw = load.connect(port, number)
    # A timeout of Python's would make the socket one that does not block, and OpenSSL would not wait for it.
    raw.settimeout(None)
    limit = struct.pack("ll", int(SETTLE), 0)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection = TlsConnection(settings, raw)
    if not connection.handshake():
        raise LoadFailed("the proxy did not answer the handshake")
    return connection


def handshakes(port: int, parallel: int, seconds: float, resume: int) -> Result:
    """Connect, shake hands, ask, read, close; then the next. A connection resumes the session of the one before it."""
    settings = client()
    live: dict[int, TlsConnection] = {}
    epoll = select.epoll()
    first: SSL.Session | None = None
    if resume:
        # This one shakes hands in full: one in thousands, so it is not told apart.
        connection = dial(settings, port)
        connection.sendall(REQUEST)
        read_answer(connection)
        first = connection.session()
        connection.close()

    def go_on(connection: TlsConnection) -> None:
        if connection.handshake():
            connection.send(REQUEST)

    def begin_one(session: SSL.Session | None) -> None:
        raw = socket.socket()
        raw.connect(("127.0.0.1", port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setblocking(False)
        connection = TlsConnection(settings, raw, session)
        live[raw.fileno()] = connection
        epoll.register(raw, select.EPOLLIN)
        go_on(connection)

    for _ in range(parallel):
        begin_one(first)
    done = 0
    begin = now = time.perf_counter()
    while live:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no answer on any connection")
        for descriptor, _ in ready:
            connection = live[descriptor]
            if not connection.established:
                go_on(connection)
                continue
            try:
                data = connection.recv(4096)
            except BlockingIOError:
                # Tickets came, and no answer yet.
                continue
            if not data.endswith(load.ANSWER_END):
                raise LoadFailed("the proxy closed a connection before the answer")
            if connection.resumed != bool(resume):
                raise LoadFailed(f"a session was {'not ' if resume else ''}resumed")
            session = connection.session() if resume else None
            del live[descriptor]
            connection.close()
            done += 1
            if now < begin + seconds and done < MAX_CONNECTIONS:
                begin_one(session)
        now = time.perf_counter()
    return {"connections": done, "seconds": now - begin}


class Records:
    """Walks over the records that come in on a socket; reads their headers and has the kernel drop the rest."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._header = b""
        self._left = 0
        self._buffer = bytearray(RECORD_HEADER + 65535)
        self.payload = 0
        """Bytes of payload in the records that have begun."""

    def read(self) -> None:
        """Take what is there, a few records at most; raises LoadFailed for anything but application data."""
        try:
            for _ in range(RECORDS_AT_ONCE):
                if not self._left:
                    self._begin()
                while self._left:
                    count = self._raw.recv_into(self._buffer, self._left, socket.MSG_TRUNC)
                    if not count:
                        raise LoadFailed("the proxy closed a stream")
                    self._left -= count
        except BlockingIOError:
            return

    def _begin(self) -> None:
        while len(self._header) < RECORD_HEADER:
            more = self._raw.recv(RECORD_HEADER - len(self._header))
            if not more:
                raise LoadFailed("the proxy closed a stream")
            self._header += more
        if self._header[0] != APPLICATION_DATA:
            raise LoadFailed(f"a record of type {self._header[0]} in a stream")
        self._left = int.from_bytes(self._header[3:5])
        self.payload += self._left - RECORD_EXTRA
        self._header = b""


def download(port: int, streams: int, seconds: float) -> Result:
    """Read *streams* endless downloads and count what is in them."""
    epoll = select.epoll()
    settings = client()
    # The connections are kept beside their sockets: one that is collected would take its TLS with it.
    connections = []
    records = {}
    for number in range(streams):
        connection = dial(settings, port, number)
        connection.sendall(REQUEST)
        connection.setblocking(False)
        connections.append(connection)
        records[connection.fileno()] = Records(connection.raw)
        epoll.register(connection.fileno(), select.EPOLLIN)
    begin = now = time.perf_counter()
    while now < begin + seconds and sum(each.payload for each in records.values()) < MAX_BULK_BYTES:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no bytes on any stream")
        for descriptor, _ in ready:
            records[descriptor].read()
        now = time.perf_counter()
    return {"bytes": sum(each.payload for each in records.values()), "seconds": now - begin}


def upload(port: int, streams: int, seconds: float) -> Result:
    """Send whole messages on *streams* connections, each after the last one was acknowledged.

    All that is counted has arrived, and all that was sent is counted: what lies in buffers at the end would blur CPU
    per byte. Messages that are under way when the time is up are brought to their end.
    """
    epoll = select.epoll()
    settings = client()
    left = {}
    connections = {}
    for number in range(streams):
        connection = dial(settings, port, number)
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        left[connection.fileno()] = MESSAGE
        epoll.register(connection.fileno(), select.EPOLLOUT)
    arrived = 0
    begin = now = time.perf_counter()
    while connections:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no bytes on any stream")
        for descriptor, _ in ready:
            connection = connections[descriptor]
            try:
                while left[descriptor]:
                    left[descriptor] -= connection.send(PIECE)
                epoll.modify(descriptor, select.EPOLLIN)
                if not connection.recv(1):
                    raise LoadFailed("the proxy closed a stream")
            except BlockingIOError:
                continue
            arrived += MESSAGE
            if now < begin + seconds and arrived < MAX_BULK_BYTES:
                left[descriptor] = MESSAGE
                epoll.modify(descriptor, select.EPOLLOUT)
            else:
                epoll.unregister(descriptor)
                connections.pop(descriptor).close()
        now = time.perf_counter()
    return {"bytes": arrived, "seconds": now - begin}


KINDS: dict[str, Callable[..., Result]] = {
    "closed": partial(load.closed, dial=partial(dial, client())),
    "hold": partial(load.hold, dial=partial(dial, client())),
    "handshakes": handshakes,
    "download": download,
    "upload": upload,
}


if __name__ == "__main__":
    load.main(KINDS)
