"""A backend of bodies and of WebSocket echoes, run as a child: ``python -m bench.http_serve PORT...``.

``/1m`` and ``/100m`` have a Content-Length, ``/chunked`` comes in chunks. Each answer lies ready in a file in memory,
head and all, and goes out by sendfile. A request to upgrade begins an echo of frames of one size.
"""

import os
import select
import socket
import sys

from bench.serve import SEND_AT_ONCE, Backend
from bench.websocket import SENT_SIZE, accepted, echo

BLOCK = b"0123456789abcdef" * 64
"""What all bodies are made of: a kilobyte without an end of line."""

SIZES = {"/1m": 1_000_000, "/100m": 100_000_000, "/chunked": 10_000_000}
"""Bytes of each body."""

CHUNK = 8192

UPGRADE = b"upgrade: websocket"


def body(size: int) -> bytes:
    """What a body of *size* bytes holds."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def plain_answer(size: int) -> bytes:
    """A whole answer with its length."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
    return head % size + body(size)


def chunked_answer(size: int) -> bytes:
    """A whole answer in chunks (RFC 9112, 7.1)."""
    content = body(size)
    pieces = (content[start : start + CHUNK] for start in range(0, size, CHUNK))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def in_memory(content: bytes) -> tuple[int, int]:
    """A file that holds *content*, and its size."""
    descriptor = os.memfd_create("answer")
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor, len(content)


class HttpBackend(Backend):
    """One request at a time on each connection."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(ports)
        self.answers = {
            path: in_memory(chunked_answer(size) if path == "/chunked" else plain_answer(size))
            for path, size in SIZES.items()
        }
        self.sending: dict[int, tuple[int, int, int]] = {}
        """For a connection: the file, how far it has got, where it ends."""
        self.echoing: dict[int, bytes] = {}
        """For a connection: the beginning of a frame."""

    def ready(self, connection: socket.socket) -> bool:
        descriptor = connection.fileno()
        try:
            if descriptor in self.sending:
                self._send(connection)
                return True
            data = connection.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            # The number goes to the next connection, which must not inherit anything.
            self.sending.pop(descriptor, None)
            self.echoing.pop(descriptor, None)
            return False
        if descriptor in self.echoing:
            data = self.echoing[descriptor] + data
            whole = len(data) - len(data) % SENT_SIZE
            connection.send(echo(data[:whole]))
            self.echoing[descriptor] = data[whole:]
        else:
            self._begin(connection, data)
        return True

    def _begin(self, connection: socket.socket, head: bytes) -> None:
        if UPGRADE in head.lower():
            self.echoing[connection.fileno()] = b""
            connection.send(accepted(head))
            return
        path = head.split(b" ", 2)[1].decode()
        if path not in self.answers:
            connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        file, end = self.answers[path]
        self.sending[connection.fileno()] = (file, 0, end)
        self.epoll.modify(connection, select.EPOLLOUT)

    def _send(self, connection: socket.socket) -> None:
        file, offset, end = self.sending[connection.fileno()]
        offset += os.sendfile(connection.fileno(), file, offset, min(SEND_AT_ONCE, end - offset))
        if offset < end:
            self.sending[connection.fileno()] = (file, offset, end)
        else:
            del self.sending[connection.fileno()]
            self.epoll.modify(connection, select.EPOLLIN)


if __name__ == "__main__":
    HttpBackend([int(port) for port in sys.argv[1:]]).run()
