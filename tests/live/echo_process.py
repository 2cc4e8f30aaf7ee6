"""An echo server for BackendProcess: `echo_process.py PORT` prints the port it has, then serves until it is killed."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading


def serve(conn: socket.socket) -> None:
    """Send back what comes."""
    with conn, contextlib.suppress(OSError):
        while data := conn.recv(65536):
            conn.sendall(data)


def main() -> None:
    """Accept for ever."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", int(sys.argv[1])))
    listening.listen(512)
    print(listening.getsockname()[1], flush=True)
    while True:
        conn, _ = listening.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


if __name__ == "__main__":
    main()
