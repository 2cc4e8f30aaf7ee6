"""The clients that read HTTP, run as a child: ``python -m bench.http_load KIND key=value...``, as `bench.load`.

- ``download``   bodies with a Content-Length, one after the other on each connection, dropped in the kernel
- ``chunked``    bodies in chunks; those that are under way at the end are read to theirs
- ``websocket``  short messages, each answered before the connection's next
"""

import select
import socket
import time
from collections.abc import Callable

from bench import load
from bench.http_serve import SIZES
from bench.load import MAX_BULK_BYTES, MAX_REQUESTS, SETTLE, LoadFailed, Result, connect
from bench.websocket import HELLO, KEY, RETURNED, SENT, digest, field

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"
"""The end of a body in chunks without trailers; the bodies themselves have no end of line in them."""

BUFFER = bytearray(1024 * 1024)
VIEW = memoryview(BUFFER)


def get(path: str) -> bytes:
    """A request for *path*."""
    return b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % path.encode()


class Download:
    """Answers of one size on one connection, of which only the heads are looked at."""

    def __init__(self, raw: socket.socket, path: str, size: int | None = None) -> None:
        self.raw = raw
        self.request = get(path)
        self.size = SIZES[path] if size is None else size
        self.left = 0
        self.head = b""
        raw.send(self.request)

    def read(self) -> int:
        """Read once; return the bytes of a body that came. Raises LoadFailed."""
        if self.left:
            count = self.raw.recv_into(BUFFER, min(self.left, len(BUFFER)), socket.MSG_TRUNC)
            if not count:
                raise LoadFailed("the proxy closed a connection within a body")
        else:
            count = self._begin()
        self.left -= count
        if not self.left and not self.head:
            self.raw.send(self.request)
        return count

    def _begin(self) -> int:
        """Read of the head; at its end return how much of the body came with it."""
        data = self.raw.recv(4096)
        if not data:
            raise LoadFailed("the proxy closed a connection before the answer")
        self.head += data
        head, end, rest = self.head.partition(HEAD_END)
        if not end:
            return 0
        if not head.startswith(b"HTTP/1.1 200 ") or field(head, b"content-length") != b"%d" % self.size:
            raise LoadFailed(f"not an answer of {self.size} bytes: {head[:200]!r}")
        self.head = b""
        self.left = self.size
        return len(rest)


def download(port: int, streams: int, seconds: float, size: int) -> Result:
    """Read bodies of *size* bytes on *streams* connections; all bytes that arrive in time count."""
    path = next(path for path, known in SIZES.items() if known == size)
    epoll = select.epoll()
    downloads = {}
    for number in range(streams):
        connection = connect(port, number)
        connection.setblocking(False)
        downloads[connection.fileno()] = Download(connection, path)
        epoll.register(connection, select.EPOLLIN)
    received = 0
    begin = now = time.perf_counter()
    while now < begin + seconds and received < MAX_BULK_BYTES:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no bytes on any connection")
        for descriptor, _ in ready:
            received += downloads[descriptor].read()
        now = time.perf_counter()
    return {"bytes": received, "seconds": now - begin}


def chunked(port: int, streams: int, seconds: float) -> Result:
    """Read whole bodies in chunks on *streams* connections. Only their ends are looked at."""
    epoll = select.epoll()
    request = get("/chunked")
    connections = {}
    tails = {}
    for number in range(streams):
        connection = connect(port, number)
        connection.sendall(request)
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        tails[connection.fileno()] = b""
        epoll.register(connection, select.EPOLLIN)
    received = 0
    begin = now = time.perf_counter()
    while connections:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no bytes on any connection")
        for descriptor, _ in ready:
            count = connections[descriptor].recv_into(BUFFER)
            if not count:
                raise LoadFailed("the proxy closed a connection within a body")
            tail = (tails[descriptor] + VIEW[max(0, count - len(LAST_CHUNK)) : count].tobytes())[-len(LAST_CHUNK) :]
            tails[descriptor] = tail
            if tail != LAST_CHUNK:
                continue
            received += SIZES["/chunked"]
            if now < begin + seconds and received < MAX_BULK_BYTES:
                connections[descriptor].send(request)
            else:
                epoll.unregister(descriptor)
                connections.pop(descriptor).close()
        now = time.perf_counter()
    return {"bytes": received, "seconds": now - begin}


def upgraded(port: int, number: int) -> socket.socket:
    """A connection on which WebSocket was agreed on; raises LoadFailed."""
    connection = connect(port, number)
    connection.sendall(HELLO)
    head = b""
    while not head.endswith(HEAD_END):
        data = connection.recv(4096)
        if not data:
            raise LoadFailed("the proxy closed a connection before it was upgraded")
        head += data
    if not head.startswith(b"HTTP/1.1 101 ") or field(head, b"sec-websocket-accept") != digest(KEY):
        raise LoadFailed(f"no upgrade to WebSocket: {head[:200]!r}")
    return connection


def websocket(port: int, connections: int, seconds: float) -> Result:
    """As many messages as go, one at a time on each connection; each echo is compared."""
    epoll = select.epoll()
    sockets = {}
    for number in range(connections):
        connection = upgraded(port, number)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)
    for connection in sockets.values():
        connection.send(SENT)
    parts: dict[int, bytes] = {}
    answered = 0
    begin = now = time.perf_counter()
    while now < begin + seconds and answered < MAX_REQUESTS:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no echo on any connection")
        for descriptor, _ in ready:
            connection = sockets[descriptor]
            data = connection.recv(4096)
            if data != RETURNED:
                if not data:
                    raise LoadFailed("the proxy closed a kept connection")
                data = parts.pop(descriptor, b"") + data
                if len(data) < len(RETURNED):
                    parts[descriptor] = data
                    continue
                if data != RETURNED:
                    raise LoadFailed(f"not what was sent came back: {data[:100]!r}")
            answered += 1
            connection.send(SENT)
        now = time.perf_counter()
    return {"requests": answered, "seconds": now - begin}


KINDS: dict[str, Callable[..., Result]] = {"download": download, "chunked": chunked, "websocket": websocket}


if __name__ == "__main__":
    load.main(KINDS)
