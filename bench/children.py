"""Child processes: starting them on the right core, waiting for their port, ending each by its own pid.

It does not know what the children do.
"""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

START_DEADLINE = 10.0
"""Seconds that a child has to accept its first connection."""

CHECKOUT = Path(__file__).resolve().parent.parent


class StartFailed(Exception):
    """A child did not come up; the text says why, with the end of what it wrote."""


@dataclass(frozen=True)
class Cores:
    """Which cores serve the proxy and which everything else; equal when there is only one."""

    proxy: frozenset[int]
    load: frozenset[int]

    @classmethod
    def divided(cls) -> "Cores":
        """The last core for the proxy, the others for clients and backends."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            return cls(frozenset(allowed), frozenset(allowed))
        return cls(frozenset(allowed[-1:]), frozenset(allowed[:-1]))

    @property
    def text(self) -> str:
        """One sentence for the report."""
        if self.proxy == self.load:
            return "not pinned: one core for everything, throughput means little"
        return f"pinned: the proxy on one core of its own, clients and backends on {len(self.load)} other(s)"


def find_program(name: str) -> str | None:
    """The path of an installed program; system directories are searched too, as a user's PATH may lack them."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago. All are held until all are known, so they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for listening in held:
            listening.bind(("127.0.0.1", 0))
        return [listening.getsockname()[1] for listening in held]
    finally:
        for listening in held:
            listening.close()


def raise_file_limit(wanted: int) -> int:
    """Raise our own limit of open files, which the children inherit; return what we got."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(hard, wanted)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (ValueError, OSError):
            continue
        return limits[0]
    return soft


@dataclass
class Children:
    """All children of this run. Used as a context: leaving it ends every child that still lives."""

    cores: Cores
    directory: Path
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _outputs: dict[int, Path] = field(default_factory=dict)

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        # An impatient second Ctrl-C must not leave children behind; ending them takes seconds at most.
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)
        self.end(*self._running)

    def start(
        self,
        command: Sequence[str],
        *,
        on: frozenset[int],
        name: str,
        environment: Mapping[str, str] | None = None,
        talk: bool = False,
    ) -> "subprocess.Popen[bytes]":
        """Start *command* on the cores *on*; with *talk* its standard input and output are ours, else a file's."""
        errors_path = self.directory / f"{name}.{len(self._outputs)}.out"
        ours = os.sched_getaffinity(0)
        with errors_path.open("wb") as errors:
            # A child inherits the affinity of the thread that starts it: no code runs between fork and exec.
            os.sched_setaffinity(0, on)
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if talk else errors,
                    stderr=errors,
                    cwd=CHECKOUT,
                    env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})},
                )
            finally:
                os.sched_setaffinity(0, ours)
        self._running.append(child)
        self._outputs[child.pid] = errors_path
        return child

    def start_python(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None, talk: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a module of ours beside the load."""
        command = [sys.executable, "-m", module, *arguments]
        return self.start(command, on=self.cores.load, name=module, environment=environment, talk=talk)

    def wait_for_port(self, child: "subprocess.Popen[bytes]", port: int) -> None:
        """Return once *port* accepts; raise StartFailed when the child ends first or the deadline passes."""
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise StartFailed(f"ended with status {child.returncode}{self._last_words(child)}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise StartFailed(f"did not accept on its port within {START_DEADLINE:.0f} s{self._last_words(child)}")

    def _last_words(self, child: "subprocess.Popen[bytes]") -> str:
        words = self.last_words(child)
        return f": {words}" if words else ""

    def last_words(self, child: "subprocess.Popen[bytes]") -> str:
        """The end of what *child* wrote to its standard error."""
        lines = self._outputs[child.pid].read_text(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines if line.strip())[-300:]

    def end(self, *children: "subprocess.Popen[bytes]") -> None:
        """Ask these children to end, then insist. Safe to call twice."""
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            try:
                child.wait(timeout=3)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _close(child.stdin)
            _close(child.stdout)
        self._running = [child for child in self._running if child not in children]


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        try:
            stream.close()
        except BrokenPipeError:
            return
