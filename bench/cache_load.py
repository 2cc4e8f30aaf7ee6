"""The clients of the cache and of compression, run as a child: ``python -m bench.cache_load KIND``, as `bench.load`.

- ``stored``  bodies of a hundred kilobytes, one after the other on each connection, dropped in the kernel
- ``cold``    one request on each of many connections, all for the same path that nobody has asked for before
- ``coded``   texts in a coding, one after the other on each connection; those under way at the end are read to theirs
"""

import http.client
import select
import socket
import time
from collections.abc import Callable

from bench import load
from bench.cache_serve import ASKED, HUNDRED, RELEASE
from bench.http_load import BUFFER, Download
from bench.load import MAX_BULK_BYTES, MAX_REQUESTS, SETTLE, LoadFailed, Result, connect

ARRIVAL = 1.0
"""Seconds that a proxy has to read all requests before the backend answers the first of them."""

CODINGS = ("gzip", "zstd")
"""What ``coded`` may ask for: its argument is the place in here."""


def stored(port: int, streams: int, seconds: float) -> Result:
    """Read ``/100k`` on *streams* connections; whole bodies count."""
    epoll = select.epoll()
    downloads = {}
    for number in range(streams):
        connection = connect(port, number)
        connection.setblocking(False)
        downloads[connection.fileno()] = Download(connection, "/100k", HUNDRED)
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
    return {"requests": received / HUNDRED, "seconds": now - begin}


def ask(port: int, path: str) -> int:
    """The number that the backend itself tells."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SETTLE)
    connection.request("GET", path)
    told = int(connection.getresponse().read())
    connection.close()
    return told


class Answer:
    """One answer as it arrives, whole when its length or its last chunk says so; raises LoadFailed for no good one."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.data = bytearray()
        self.body = 0
        """Bytes of the body, without the frames of its chunks."""
        self.coding = b""
        self._in_head = True
        self._chunked = False
        self._left = 0
        """Of the body, or of the chunk with its end of line."""

    def read(self) -> bool:
        """Read once; return whether the answer is whole."""
        count = self.raw.recv_into(BUFFER)
        if not count:
            raise LoadFailed("the proxy closed a connection before the end of an answer")
        self.data += memoryview(BUFFER)[:count]
        if self._in_head and not self._begin():
            return False
        return self._chunks() if self._chunked else self._rest()

    def _begin(self) -> bool:
        head, end, rest = bytes(self.data).partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200 "):
            raise LoadFailed(f"not a good answer: {head[:200]!r}")
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        self.coding = fields.get(b"content-encoding", b"").strip()
        self._chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
        if not self._chunked:
            self._left = int(fields[b"content-length"])
        self._in_head = False
        self.data[:] = rest
        return True

    def _rest(self) -> bool:
        self.body += len(self.data)
        self._left -= len(self.data)
        self.data.clear()
        return self._left == 0

    def _chunks(self) -> bool:
        while True:
            if self._left:
                took = min(self._left, len(self.data))
                self._left -= took
                del self.data[:took]
                if self._left:
                    return False
            line = self.data.find(b"\r\n")
            if line < 0:
                return False
            size = int(self.data[:line].partition(b";")[0], 16)
            if not size:
                return self.data.endswith(b"\r\n\r\n")
            del self.data[: line + 2]
            self.body += size
            self._left = size + 2


def cold(port: int, backend: int, number: int, requests: int) -> Result:
    """Ask for one cold path on *requests* connections; tell how often the backend was."""
    path = f"/cold/{number}"
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    epoll = select.epoll()
    waiting = {}
    for one in range(requests):
        connection = connect(port, one)
        waiting[connection.fileno()] = Answer(connection)
        epoll.register(connection, select.EPOLLIN)
    begin = time.perf_counter()
    for answer in waiting.values():
        answer.raw.sendall(request)
    time.sleep(ARRIVAL)
    ask(backend, RELEASE + path)
    while waiting:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed(f"{len(waiting)} of {requests} requests were not answered")
        for descriptor, _ in ready:
            answer = waiting[descriptor]
            if answer.read():
                if answer.body != HUNDRED:
                    raise LoadFailed(f"a body of {answer.body} bytes, not of {HUNDRED}")
                epoll.unregister(descriptor)
                waiting.pop(descriptor).raw.close()
    return {"asked": ask(backend, ASKED + path), "seconds": time.perf_counter() - begin}


def coded(port: int, streams: int, seconds: float, coding: int, level: int) -> Result:
    """Read whole texts in one coding on *streams* connections; the *level* is for peers that take it from the path."""
    name = CODINGS[coding]
    request = f"GET /{level}/text HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {name}\r\n\r\n".encode()
    epoll = select.epoll()
    answers = {}
    for number in range(streams):
        connection = connect(port, number)
        connection.sendall(request)
        answers[connection.fileno()] = Answer(connection)
        epoll.register(connection, select.EPOLLIN)
    whole = received = 0
    begin = now = time.perf_counter()
    while answers:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no bytes on any connection")
        for descriptor, _ in ready:
            answer = answers[descriptor]
            if not answer.read():
                continue
            if answer.coding != name.encode():
                raise LoadFailed(f"a text came in the coding {answer.coding!r}, not in {name}")
            whole += 1
            received += answer.body
            if now < begin + seconds and whole < MAX_REQUESTS:
                answers[descriptor] = Answer(answer.raw)
                answer.raw.sendall(request)
            else:
                epoll.unregister(descriptor)
                answers.pop(descriptor).raw.close()
        now = time.perf_counter()
    return {"answers": whole, "bytes": received, "seconds": now - begin}


KINDS: dict[str, Callable[..., Result]] = {"stored": stored, "cold": cold, "coded": coded}


if __name__ == "__main__":
    load.main(KINDS)
