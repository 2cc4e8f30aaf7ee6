"""Backends in Python, run as a child: ``python -m bench.serve answers|stream|sink PORT...``.

``answers`` gives a small HTTP answer to each request, for machines without nginx.
``stream`` sends bytes without end to whoever has sent anything, by sendfile, so that the source costs little.
``sink`` drops what it gets in the kernel, and answers each message of a fixed size with one byte.
"""

import os
import select
import socket
import sys

ANSWER_BODY = b"hello world\n"
KILOBYTE = b"0123456789abcdef" * 64
"""What ``/1k`` gives."""


def answer(body: bytes) -> bytes:
    """An answer with *body*."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


ANSWER = answer(ANSWER_BODY)
ANSWER_1K = answer(KILOBYTE)

STREAM_FILE = 64 * 1024 * 1024
"""Bytes of the file that a stream repeats: more than a core's cache holds, as a real download would be."""

SEND_AT_ONCE = 1024 * 1024

MESSAGE = 8 * 1024 * 1024
"""Bytes that the sink acknowledges at once."""


class Backend:
    """An epoll loop over listening ports; what a connection gets is the subclass's business."""

    def __init__(self, ports: list[int]) -> None:
        self.epoll = select.epoll()
        self.listening: dict[int, socket.socket] = {}
        self.connections: dict[int, socket.socket] = {}
        for port in ports:
            listening = socket.create_server(("127.0.0.1", port), backlog=4096)
            listening.setblocking(False)
            self.listening[listening.fileno()] = listening
            self.epoll.register(listening, select.EPOLLIN)

    def run(self) -> None:
        """Serve until ended."""
        while True:
            for descriptor, _ in self.epoll.poll():
                if descriptor in self.listening:
                    self._accept(self.listening[descriptor])
                else:
                    connection = self.connections[descriptor]
                    try:
                        alive = self.ready(connection)
                    except BlockingIOError:
                        alive = True
                    except OSError:
                        alive = False
                    if not alive:
                        del self.connections[descriptor]
                        connection.close()

    def ready(self, connection: socket.socket) -> bool:
        """Serve a ready connection; False closes it."""
        raise NotImplementedError

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[connection.fileno()] = connection
        self.epoll.register(connection, select.EPOLLIN)


class Answers(Backend):
    """A small answer per request; requests are counted by the empty line that ends their head."""

    def ready(self, connection: socket.socket) -> bool:
        data = connection.recv(65536)
        if data:
            kilobytes = data.count(b"GET /1k ")
            connection.send(ANSWER_1K * kilobytes + ANSWER * (data.count(b"\r\n\r\n") - kilobytes))
        return bool(data)


class Stream(Backend):
    """Bytes without end, once asked."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(ports)
        self.file = os.memfd_create("stream")
        for _ in range(STREAM_FILE // SEND_AT_ONCE):
            os.write(self.file, os.urandom(4096) * (SEND_AT_ONCE // 4096))
        self.offsets: dict[int, int] = {}

    def ready(self, connection: socket.socket) -> bool:
        descriptor = connection.fileno()
        offset = self.offsets.get(descriptor)
        if offset is None:
            if not connection.recv(65536):
                return False
            self.offsets[descriptor] = 0
            self.epoll.modify(connection, select.EPOLLOUT)
            return True
        try:
            sent = os.sendfile(descriptor, self.file, offset, min(SEND_AT_ONCE, STREAM_FILE - offset))
        except BlockingIOError:
            return True
        except OSError:
            del self.offsets[descriptor]
            raise
        self.offsets[descriptor] = (offset + sent) % STREAM_FILE
        return True


class Sink(Backend):
    """A byte back for each message that is complete."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(ports)
        self.received: dict[int, int] = {}
        self.buffer = bytearray(SEND_AT_ONCE)

    def ready(self, connection: socket.socket) -> bool:
        descriptor = connection.fileno()
        try:
            count = connection.recv_into(self.buffer, 0, socket.MSG_TRUNC)
        except ConnectionError:
            count = 0
        if not count:
            self.received.pop(descriptor, None)
            return False
        received = self.received.get(descriptor, 0) + count
        connection.send(b"." * (received // MESSAGE))
        self.received[descriptor] = received % MESSAGE
        return True


def main() -> None:
    """Serve on the ports of the command line."""
    kinds: dict[str, type[Backend]] = {"answers": Answers, "stream": Stream, "sink": Sink}
    kinds[sys.argv[1]]([int(port) for port in sys.argv[2:]]).run()


if __name__ == "__main__":
    main()
