"""Opening listening sockets: bound by us, or passed by systemd.

Everything that can be wrong with a bind is said here in one sentence that names the address.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import stat
from collections.abc import Iterable, Mapping

from lbproxy.addresses import Address
from lbproxy.errors import StartError
from lbproxy.net.dialing import set_liveness, set_no_delay

# The first descriptor that systemd passes, see sd_listen_fds(3).
_FIRST_PASSED = 3


class BindError(StartError):
    """A listener cannot have its address; the message is a sentence for the operator."""


def open_listening(address: Address, backlog: int, passed: Mapping[str, list[int]]) -> list[socket.socket]:
    """Non-blocking listening sockets for `address`: one, or several when a name means or systemd passes several.

    `passed` are the descriptors of `passed_sockets`. Raises BindError.
    """
    try:
        if address.kind == "systemd":
            sockets = _adopt(address, passed)
        elif address.kind == "unix":
            sockets = [_bind_unix(address.host)]
        else:
            sockets = _bind_all(_resolve(address))
    except OSError as problem:
        raise BindError(_explain(address, problem)) from problem
    try:
        for sock in sockets:
            if sock.family != socket.AF_UNIX:
                set_no_delay(sock)
                # What is accepted inherits it. The limit for unacknowledged data is a matter of pool and route.
                set_liveness(sock, math.inf)
            sock.listen(backlog)
            sock.setblocking(False)
    except OSError as problem:
        for sock in sockets:
            sock.close()
        raise BindError(_explain(address, problem)) from problem
    return sockets


def passed_sockets(environ: Mapping[str, str], pid: int) -> dict[str, list[int]]:
    """The sockets that systemd passed to process `pid`, by name; see sd_listen_fds(3). Unnamed ones are "unknown"."""
    if environ.get("LISTEN_PID") != str(pid) or not environ.get("LISTEN_FDS", "").isdecimal():
        return {}
    count = int(environ["LISTEN_FDS"])
    names = environ.get("LISTEN_FDNAMES", "").split(":") if environ.get("LISTEN_FDNAMES") else []
    names += ["unknown"] * (count - len(names))
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names[:count]):
        found.setdefault(name, []).append(_FIRST_PASSED + number)
    return found


def remove_unix_path(sock: socket.socket) -> None:
    """Unlink the path of a UNIX listening socket of ours, if it has one and is a socket still."""
    if sock.family != socket.AF_UNIX:
        return
    path = sock.getsockname()
    if isinstance(path, str) and path and _is_socket(path):
        os.unlink(path)


def remove_stale_socket(path: str) -> bool:
    """Unlink a UNIX socket that a process which is gone has left behind; whether that was so. Never waits."""
    if not _is_socket(path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        # Anything else says that somebody listens: connected, or (EAGAIN) too many are waiting to be.
        stale = probe.connect_ex(path) == errno.ECONNREFUSED
    if stale:
        os.unlink(path)
    return stale


def _adopt(address: Address, passed: Mapping[str, list[int]]) -> list[socket.socket]:
    descriptors = passed.get(address.host)
    if not descriptors:
        given = ", ".join(sorted(passed)) or "none"
        raise BindError(f"{address}: systemd passed no socket of this name (FileDescriptorName=); passed: {given}")
    # Duplicated, so that closing ours leaves the passed one for the next reload.
    return [socket.socket(fileno=os.dup(fd)) for fd in descriptors]


def _resolve(address: Address) -> list[tuple[int, tuple[str, int]]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    targets = {(family, (str(target[0]), int(target[1]))) for family, _, _, _, target in found}
    return sorted(targets)


def _bind_all(targets: Iterable[tuple[int, tuple[str, int]]]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, target in targets:
            sockets.append(_bind_ip(family, target))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_ip(family: int, target: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # So that 0.0.0.0:80 and [::]:80 can stand side by side, whatever the system's default is.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name = "\0" + path[1:] if path.startswith("@") else path
    try:
        try:
            sock.bind(name)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE or not remove_stale_socket(path):
                raise
            sock.bind(name)
        if not path.startswith("@"):
            # Like a port on loopback: for everybody on this machine, whatever the umask of a daemon is.
            os.chmod(path, 0o666)
    except OSError:
        sock.close()
        raise
    return sock


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def _explain(address: Address, problem: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "another socket has it already, of another process or of a listener that overlaps",
        errno.EACCES: "not allowed; ports below 1024 need CAP_NET_BIND_SERVICE or a socket passed by systemd",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.ENOENT: "its directory does not exist",
    }
    return f"cannot listen on {address}: {hints.get(problem.errno or 0, problem.strerror or str(problem))}"
