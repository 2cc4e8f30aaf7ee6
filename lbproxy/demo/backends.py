"""Demo backends: small web servers that tell their names, in clear or in TLS of their own.

Owns the connections and which question gets which answer: the last part of the path is the question, so routes may put
anything in front of it. What is said is in answers.py, to caches in stored.py, the page in page.py, WebSockets in
websocket.py.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

from lbproxy.demo import answers, stored, websocket
from lbproxy.demo.answers import Said

_TEXT = "text/plain; charset=utf-8"
_PIECE = 64 * 1024
# Of ten requests for /flaky to all backends together those fail, and one of them without a word. No two in a row, so
# that a second try helps; and not at equal distances, so that the failures do not always fall on the same backend.
_FAIL_WITH_STATUS, _FAIL_SILENTLY = (2, 8), 5
_CHANCES = count(1)
_SLOW_SECONDS, _LATE_SECONDS = 2.0, 3.0
_RESET = struct.pack("ii", 1, 0)


class DemoBackend(ThreadingHTTPServer):
    """One demo backend on 127.0.0.1, with `tls` one that speaks TLS. Raises OSError when its port is taken."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.name = name
        self.numbers = count(1)
        # Whether /news fails, until it is mended.
        self.broken = False
        if tls is not None:
            # The handshake comes with the first read, in the thread of that client.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """End the connection; in TLS with close_notify, without which the answer would count as cut short."""
        if isinstance(request, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                request.unwrap()
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Somebody left in the middle of it; the record says so."""


class _Connection(BaseHTTPRequestHandler):
    server: DemoBackend
    protocol_version = "HTTP/1.1"
    # Longer than lbproxy keeps an idle connection, so that it never uses one that is being closed.
    timeout = 10
    # The body would wait for the client's word on the head.
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        """The base class looks for one method for each method of HTTP; here all are answered alike."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        question = path.rsplit("/", 1)[-1]
        if question == "ws" and websocket.wanted(self.headers):
            self._talk()
            return
        if question == "upload":
            self._say(answers.uploaded(self.server.name, self._body(), self.headers.get("Accept", "")))
            return
        for _ in self._body():
            pass  # what is asked next stands behind it
        if question == "stream":
            self._stream()
        elif question == "healthz":
            self._say(Said(_TEXT, "ok\n"))
        elif question == "echo":
            self._say(Said(_TEXT, answers.request_text(self.requestline, self.headers)))
        elif question == "flaky":
            self._perhaps(path)
        elif question == "story":
            self._say(stored.story())
        elif question in ("break", "mend"):
            self._switch(to_broken=question == "break")
        elif question == "news" and self.server.broken:
            self._say(stored.broken(self.server.name))
        elif question in stored.KINDS:
            kind = stored.KINDS[question]
            time.sleep(answers.seconds(query, kind.seconds))
            self._hello(path, kind.fields)
        else:
            if question in ("slow", "late"):
                time.sleep(answers.seconds(query, _SLOW_SECONDS) if question == "slow" else _LATE_SECONDS)
            self._hello(path)

    def _hello(self, path: str, fields: stored.Fields = ()) -> None:
        server = self.server
        secure = isinstance(self.connection, ssl.SSLSocket)
        accept = self.headers.get("Accept", "")
        number, kept = next(server.numbers), bool(fields)
        said = answers.hello(server.name, server.server_port, number, path, accept, secure=secure, stored=kept)
        self._say(said._replace(fields=fields) if fields else said)

    def _switch(self, *, to_broken: bool) -> None:
        """Break or mend what /news is about."""
        if self.command == "POST":
            self.server.broken = to_broken
        self._say(stored.switched(self.server.name, self.command, to_broken=to_broken))

    def _say(self, said: Said) -> None:
        body = said.text.encode()
        self.send_response(said.status)
        self.send_header("Content-Type", said.content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in said.fields:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _perhaps(self, path: str) -> None:
        """Say hello or fail."""
        chance = next(_CHANCES) % 10
        if chance in _FAIL_WITH_STATUS:
            self._say(Said(_TEXT, f"{self.server.name} has a bad moment\n", 503))
        elif chance == _FAIL_SILENTLY:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            os.close(self.connection.detach())
        else:
            self._hello(path)

    def _stream(self) -> None:
        """Send an event each second, until the client leaves."""
        chunked = self.request_version != "HTTP/1.0"
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        self.end_headers()
        for number in count(1):
            event = answers.event(self.server.name, number).encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event) if chunked else event)
            time.sleep(1.0)

    def _talk(self) -> None:
        self.close_connection = True
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", websocket.accepted(self.headers["Sec-WebSocket-Key"]))
        self.end_headers()
        self.connection.settimeout(None)
        websocket.echo(self.rfile, self.wfile, f"Hello from {self.server.name}. Whatever you send comes back.")

    def _body(self) -> Iterator[bytes]:
        """The body of the request in pieces. Ends the connection behind one that is cut short or makes no sense."""
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline(100).split(b";")[0], 16):
                yield from self._pieces(size)
                self.rfile.readline(3)
            while self.rfile.readline(_PIECE).strip():
                pass
        else:
            yield from self._pieces(int(self.headers.get("Content-Length", 0)))

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.rfile.read(min(size, _PIECE))
            if not piece:
                raise ConnectionError("the body ended early")
            size -= len(piece)
            yield piece

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the records of lbproxy are what is to be seen."""


def serve(backends: Sequence[DemoBackend]) -> None:
    """Serve all of them, each in a thread, without returning control to the caller's thread."""
    for backend in backends:
        threading.Thread(target=backend.serve_forever, name=backend.name, daemon=True).start()
