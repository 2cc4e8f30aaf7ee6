"""Sockets of connections, as C makes them.

`socket.socket` wraps the interpreter's own type in Python, which turns numbers into enums for every accepted client and
counts `makefile` objects that nobody here makes: about 6 microseconds for each relayed connection. Its base class has
all that is needed.
"""

from __future__ import annotations

import socket
from _socket import socket as Socket
from typing import Any

__all__ = ["Socket", "accept"]


def accept(listening: socket.socket, family: int) -> tuple[Socket, Any]:
    """A waiting client of `listening`, non-blocking, and its address. Raises OSError as accept(2) does."""
    descriptor, address = listening._accept()  # type: ignore[attr-defined]  # what accept() itself stands on
    sock = Socket(family, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    return sock, address
