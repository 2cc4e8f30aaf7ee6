"""Demo backends: tiny web servers that tell their names, in clear or in TLS of their own.

Each answers in HTTP/1.0, one request a connection, so that every request shows a new choice of the balancer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

_PAGE = """<!doctype html>
<title>lbproxy demo: {name}</title>
<body style="margin:0;display:grid;place-items:center;height:100vh;font:2rem system-ui;background:{name};color:white">
<p>Hello from <b>{name}</b>, on port {port}. It is answer number {number} of this backend.<br>
{more}
"""
_IN_TURN = "Reload the page: the next one comes from another backend."
_TLS = "This backend speaks TLS itself."


class DemoBackend(ThreadingHTTPServer):
    """One demo backend on 127.0.0.1, with `tls` one that speaks TLS. Raises OSError when its port is taken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.name = name
        self.numbers = count(1)
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


class _Answer(BaseHTTPRequestHandler):
    server: DemoBackend
    timeout = 10
    # The body would wait for the client's word on the head.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Say hello: a page for browsers, a line for everybody else."""
        name, number, port = self.server.name, next(self.server.numbers), self.server.server_port
        if "text/html" in self.headers.get("Accept", ""):
            more = _TLS if isinstance(self.connection, ssl.SSLSocket) else _IN_TURN
            kind, text = "text/html", _PAGE.format(name=name, port=port, number=number, more=more)
        else:
            kind, text = "text/plain", f"hello from {name}, on port {port}, answer number {number}\n"
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the records of lbproxy are what is to be seen."""


def serve(backends: Sequence[DemoBackend]) -> None:
    """Serve all of them, each in a thread, without returning control to the caller's thread."""
    for backend in backends:
        threading.Thread(target=backend.serve_forever, name=backend.name, daemon=True).start()
