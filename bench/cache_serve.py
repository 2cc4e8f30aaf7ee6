"""A backend of answers that may be stored and of text, run as a child: ``python -m bench.cache_serve PORT...``.

``/1k``, ``/100k`` and ``/item/N`` may be stored for an hour. So may ``/cold/N``, but requests for it are answered only
when somebody has asked for ``/release/cold/N``. What ends in ``/text`` is a megabyte of text. ``/asked/PATH`` tells how
often PATH was asked for.
"""

import os
import select
import socket
import sys
from collections import Counter
from pathlib import Path

from bench.http_serve import BLOCK, body, in_memory
from bench.serve import SEND_AT_ONCE, Backend

HUNDRED = 100_000
TEXT_SIZE = 1_000_000
ITEMS = 1000
"""As many as ``cache-1k-many`` asks for."""

ASKED, RELEASE = "/asked", "/release"


def text() -> bytes:
    """A megabyte of what people wrote: Python's own modules, which are the same for a whole run."""
    modules = sorted(Path(os.__file__).parent.glob("*.py"))
    return b"".join(module.read_bytes() for module in modules)[:TEXT_SIZE]


def content(path: str) -> bytes:
    """The body that belongs to *path*; raises KeyError for one that has none."""
    if path.endswith("/text"):
        return text()
    if path.startswith("/cold/"):
        return body(HUNDRED)
    if path.startswith("/item/"):
        # Of a kilobyte, and of its own, so that an answer for another path is noticed.
        return path.encode().ljust(len(BLOCK), b".")
    return {"/1k": BLOCK, "/100k": body(HUNDRED)}[path]


def stored_answer(path: str) -> bytes:
    """The whole answer for *path*; raises KeyError."""
    found = content(path)
    head = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=3600\r\nETag: "%x"\r\n'
    return head % len(path) + b"Content-Length: %d\r\n\r\n%b" % (len(found), found)


class CacheBackend(Backend):
    """One request at a time on each connection."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(ports)
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, tuple[int, int]] = {}
        """Files in memory, so that they go out by sendfile."""
        self.sending: dict[int, tuple[int, int, int]] = {}
        """For a connection: the file, how far it has got, where it ends."""
        self.held: dict[str, list[socket.socket]] = {}
        """For a cold path: who waits until it is released."""
        self.released: set[str] = set()

    def ready(self, connection: socket.socket) -> bool:
        if connection.fileno() in self.sending:
            self._send(connection)
            return True
        data = connection.recv(65536)
        if data:
            self._begin(connection, data.split(b" ", 2)[1].decode())
        else:
            self._forget(connection)
        return bool(data)

    def _forget(self, connection: socket.socket) -> None:
        for waiting in self.held.values():
            if connection in waiting:
                waiting.remove(connection)

    def _begin(self, connection: socket.socket, path: str) -> None:
        if path.startswith(ASKED):
            self._tell(connection, self.asked[path.removeprefix(ASKED)])
        elif path.startswith(RELEASE):
            path = path.removeprefix(RELEASE)
            self.released.add(path)
            waiting = self.held.pop(path, [])
            for one in waiting:
                self._answer(one, path)
            self._tell(connection, len(waiting))
        else:
            self.asked[path] += 1
            if path.startswith("/cold/") and path not in self.released:
                self.held.setdefault(path, []).append(connection)
            else:
                self._answer(connection, path)

    def _tell(self, connection: socket.socket, number: int) -> None:
        told = b"%d" % number
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))

    def _answer(self, connection: socket.socket, path: str) -> None:
        if path not in self.answers:
            try:
                self.answers[path] = in_memory(stored_answer(path))
            except KeyError:
                connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
        file, end = self.answers[path]
        self.sending[connection.fileno()] = (file, 0, end)
        self.epoll.modify(connection, select.EPOLLOUT)

    def _send(self, connection: socket.socket) -> None:
        descriptor = connection.fileno()
        file, offset, end = self.sending[descriptor]
        try:
            offset += os.sendfile(descriptor, file, offset, min(SEND_AT_ONCE, end - offset))
        except BlockingIOError:
            return
        except OSError:
            # The number goes to the next connection, which must not inherit anything.
            del self.sending[descriptor]
            raise
        if offset < end:
            self.sending[descriptor] = (file, offset, end)
        else:
            del self.sending[descriptor]
            self.epoll.modify(connection, select.EPOLLIN)


if __name__ == "__main__":
    CacheBackend([int(port) for port in sys.argv[1:]]).run()
