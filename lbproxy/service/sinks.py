"""Where lines go without making anybody wait: descriptors and syslog.

Owns the non-blocking descriptors; refuses to know what a line is about. What a sink does not take now is the caller's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable
from typing import Any, Protocol

# local0.info, the facility and severity that access logs usually have (RFC 5424, section 6.2.1).
_PRIORITY = b"<134>1 "


class Sink(Protocol):
    """Where encoded records go."""

    def write(self, data: memoryview) -> int:
        """Take some of `data` without waiting; how many bytes. Raises BlockingIOError or OSError."""

    def reopen(self) -> None:
        """The file may have been moved away: begin a new one."""

    def close(self) -> None:
        """No more is written."""


class DescriptorSink:
    """A file, a pipe or a terminal. Pipes are made non-blocking; the kernel buffers writes to regular files."""

    def __init__(self, path: str | None, inherited: int = 1) -> None:
        """Append to `path`; None: write to an inherited descriptor, standard output. Raises OSError."""
        self._path = path
        self._inherited = inherited
        self._fd = self._open()

    def _open(self) -> int:
        if self._path is not None:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
        fd = os.dup(self._inherited)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd  # never blocks; and the place in the file must be shared with whoever else writes to it
        with contextlib.suppress(OSError):
            # A descriptor of our own, where the kernel has such a way: O_NONBLOCK belongs to the open file, and
            # the shell that started us shares ours.
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(fd)
            return own
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
        return fd

    def write(self, data: memoryview) -> int:
        """See Sink."""
        return os.write(self._fd, data)

    def reopen(self) -> None:
        """See Sink."""
        if self._path is not None:
            fresh = self._open()
            os.close(self._fd)
            self._fd = fresh

    def close(self) -> None:
        """See Sink."""
        os.close(self._fd)


class SyslogSink:
    """A syslog daemon's datagram socket, RFC 5424 in form: one datagram a record, dropped when it does not take it."""

    def __init__(self, family: int, target: Any, dropped: Callable[[], None]) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._target = target
        self._dropped = dropped
        host = socket.gethostname().encode("ascii", "replace") or b"-"
        self._head = b" " + host + b" lbproxy " + str(os.getpid()).encode() + b" record - "

    def write(self, data: memoryview) -> int:
        """See Sink."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
        for line in bytes(data).splitlines():
            try:
                self._socket.sendto(_PRIORITY + stamp + self._head + line, self._target)
            except OSError:
                self._dropped()
        return len(data)

    def reopen(self) -> None:
        """See Sink: datagrams find a new daemon by themselves."""

    def close(self) -> None:
        """See Sink."""
        self._socket.close()
