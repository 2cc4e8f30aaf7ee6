"""Where a peer runs and as what, and what is asked of the programs that are installed. It names no peer."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.children import find_program
from bench.tls import Material

SESSIONS = 20_000
"""Sessions that each proxy is configured for, where the limit of open files allows."""

Front = Literal["tcp", "tls", "name", "http", "https", "route", "routes", "cache", "gzip", "zstd"]
"""What clients meet.

Bytes passed on as they are; TLS that ends at the proxy; TLS that is passed on by server name; HTTP; HTTP over TLS;
HTTP with one route for all; HTTP with a thousand; HTTP with answers stored; HTTP with answers compressed.
"""

HTTP_FRONTS: tuple[Front, ...] = ("http", "https", "route", "routes", "cache", "gzip", "zstd")


class NotInstalled(Exception):
    """The text says what is missing."""


@dataclass(frozen=True)
class Place:
    """Where a peer runs: its own directory, its port, its backends, how many files it may open; and as what."""

    directory: Path
    port: int
    backends: tuple[int, int]
    file_limit: int
    front: Front
    material: Material

    @property
    def tls(self) -> Material | None:
        """The certificate, where TLS ends at the proxy."""
        return self.material if self.front in ("tls", "https") else None

    @property
    def http(self) -> bool:
        """Whether requests are read, and not only bytes."""
        return self.front in HTTP_FRONTS

    @property
    def sessions(self) -> int:
        """As many sessions as configured; each takes two descriptors, and pipes and listeners want some too."""
        return min(SESSIONS, (self.file_limit - 1000) // 2)


def program(name: str) -> str:
    """The path of an installed program."""
    path = find_program(name)
    if path is None:
        raise NotInstalled(f"{name} is not installed")
    return path


def first_line(command: list[str]) -> str:
    """The first line that a program prints when asked for its version."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10, check=False)
    return done.stdout.partition("\n")[0].strip()
