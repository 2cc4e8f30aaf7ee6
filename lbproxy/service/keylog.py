"""The files that hold the secrets of TLS sessions, for debugging: whoever reads them reads all traffic.

Owns these files, and that nobody forgets them. A file that cannot be written costs its lines and no handshake.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable

from twisted.logger import Logger

_MODE = 0o600


class KeyLogs:
    """One file for each path, shared by all listeners that name it."""

    log = Logger()

    def __init__(self, counts: Counter[str]) -> None:
        """`counts` gets "keylog_failed", one for each line that was lost."""
        self._counts = counts
        self._descriptors: dict[str, int | None] = {}
        self._complained: set[str] = set()

    def writer(self, path: str) -> Callable[[bytes], None]:
        """Writes lines (SSLKEYLOGFILE's, without their end) to `path`, as far as it is open then."""

        def write(line: bytes) -> None:
            self._write(path, line)

        return write

    def configure(self, paths: Iterable[str]) -> None:
        """Have exactly these open from now on, and say so loudly."""
        wanted = dict.fromkeys(paths)
        for path in self._descriptors.keys() - wanted.keys():
            self._close(path)
        for path in wanted:
            if self._descriptors.get(path) is None:
                self._open(path)
            self.log.warn(
                "ssl key log is on: all TLS sessions of its listeners can be decrypted by whoever reads {path}."
                " Take keylog out of the configuration when you are done",
                path=path,
            )

    def reopen(self) -> None:
        """After log rotation: write to new files of the same names."""
        for path in list(self._descriptors):
            old = self._descriptors[path]
            self._complained.discard(path)
            self._open(path)
            if self._descriptors[path] is None:
                self._descriptors[path] = old
            elif old is not None:
                os.close(old)

    def close(self) -> None:
        """Write no more."""
        for path in list(self._descriptors):
            self._close(path)

    def _open(self, path: str) -> None:
        try:
            # A FIFO that nobody reads must not make anybody wait.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = self._descriptors[path] = os.open(path, flags, _MODE)
        except OSError as problem:
            self._descriptors[path] = None
            self._complain(path, problem)
            return
        self._complained.discard(path)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            self.log.warn("ssl key log {path}: others may read it; do 'chmod 600' on it", path=path)

    def _close(self, path: str) -> None:
        descriptor = self._descriptors.pop(path)
        self._complained.discard(path)
        if descriptor is not None:
            os.close(descriptor)

    def _write(self, path: str, line: bytes) -> None:
        descriptor = self._descriptors.get(path)
        if descriptor is None:
            self._counts["keylog_failed"] += 1
            return
        try:
            # One write for each line, so that lines stay whole whoever else appends.
            os.write(descriptor, line + b"\n")
        except OSError as problem:
            self._counts["keylog_failed"] += 1
            self._complain(path, problem)

    def _complain(self, path: str, problem: OSError) -> None:
        if path not in self._complained:
            self._complained.add(path)
            self.log.error(
                "ssl key log {path} cannot be written: {problem}; its lines are lost, TLS goes on",
                path=path,
                problem=problem.strerror,
            )
