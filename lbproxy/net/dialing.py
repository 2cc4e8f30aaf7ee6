"""Opening sockets towards backends, and what the errors of connecting mean."""

from __future__ import annotations

import errno
import socket
from typing import Any

from lbproxy.addresses import Address
from lbproxy.errors import TryError
from lbproxy.net.sockets import Socket

# A connection that has been silent this long is asked whether its other end still lives (seconds; then
# every so many seconds, given up after so many questions without answer).
KEEPALIVE_IDLE = 120
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 4

_ERRORS = {
    errno.ECONNREFUSED: TryError.REFUSED,
    errno.ENOENT: TryError.REFUSED,
    errno.EAGAIN: TryError.REFUSED,  # a UNIX socket whose accept queue is full
    errno.ETIMEDOUT: TryError.TIMEOUT,
    errno.ECONNRESET: TryError.RESET,
    errno.ECONNABORTED: TryError.RESET,
    errno.EPIPE: TryError.RESET,
    errno.EMFILE: TryError.LOCAL,
    errno.ENFILE: TryError.LOCAL,
    errno.ENOBUFS: TryError.LOCAL,
    errno.ENOMEM: TryError.LOCAL,
    errno.EADDRNOTAVAIL: TryError.LOCAL,  # no source port is left
}


def connect_error(code: int) -> TryError:
    """The name of what connect(2) or socket(2) reported; an unusual one counts as unreachable."""
    return _ERRORS.get(code, TryError.UNREACHABLE)


def set_liveness(sock: Socket, user_timeout: float) -> None:
    """Have the kernel notice a peer that is gone without a word, on a silent connection and on one with data under way.

    `user_timeout` is the seconds that sent data may stay without acknowledgement; infinite leaves the system's rule.
    On a listening socket, what it accepts inherits all this (Linux).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        if user_timeout < 1e6:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))


def set_no_delay(sock: Socket) -> None:
    """Let small writes leave at once; what a listening socket accepts inherits it (Linux)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def target_of(address: Address) -> tuple[int, Any]:
    """The socket family of an IP or UNIX address, and what connect(2) takes for it."""
    if address.kind == "unix":
        path = address.host
        return socket.AF_UNIX, "\0" + path[1:] if path.startswith("@") else path
    return (socket.AF_INET6 if ":" in address.host else socket.AF_INET), (address.host, address.port)


def open_connection(family: int, target: Any) -> tuple[Socket, int]:
    """Begin to connect: a non-blocking socket, and 0 or the error code of connect(2).

    The connection is not watched over yet (see `set_liveness`): that is five system calls which most do not live long
    enough to need. Raises OSError when there is no socket to be had.
    """
    sock = Socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family != socket.AF_UNIX:
            set_no_delay(sock)
        return sock, sock.connect_ex(target)
    except BaseException:
        sock.close()
        raise
