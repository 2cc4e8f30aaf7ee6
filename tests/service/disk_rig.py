"""A disk cache in a directory of its own, with a reactor whose calls wait until they are asked for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger

from lbproxy.cache.body import AnyBody
from lbproxy.cache.values import Stored
from lbproxy.model_cache import DiskSettings
from lbproxy.service.disk_body import GrowingFile
from lbproxy.service.disk_files import Files
from lbproxy.service.disk_store import Disk

LONG = 20.0


class Reactor(Clock):
    """Brings calls of threads to the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, call: Callable[..., object], *words: object) -> None:
        self.brought.put(lambda: call(*words))

    def until(self, condition: Callable[[], object]) -> None:
        """Run what comes until this is so."""
        while not condition():
            self.brought.get(timeout=LONG)()


class Place:
    """One directory, and the disk cache in it: `start` it again for another process' worth of it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.reactor = Reactor()
        self.events: list[dict[str, Any]] = []
        observer: Any = self.events.append
        monkeypatch.setattr(Disk, "log", Logger("lbproxy.test", observer=observer))
        self.disks: list[Disk] = []

    @property
    def root(self) -> Path:
        return self.path / "lbproxy-cache"

    @property
    def disk(self) -> Disk:
        return self.disks[-1]

    def make(self, *, files: Files | None = None, size: int = 1 << 30, **others: Any) -> Disk:
        """A disk that is not started."""
        settings = DiskSettings(str(self.path), size, others.pop("max_object", 1 << 30))
        self.disks.append(Disk(settings, self.reactor, clock=self.reactor.seconds, files=files, **others))
        return self.disk

    def start(self, **others: Any) -> Disk:
        """A disk that is open, and has looked at what was there."""
        disk = self.make(**others)
        disk.start()
        self.reactor.until(lambda: disk.status()["open"])
        self.settle()
        return disk

    def stop(self) -> None:
        """As a process that ends well."""
        ended: list[None] = []
        self.disk.stop().addCallback(ended.append)
        self.reactor.until(lambda: ended)

    def settle(self) -> None:
        """Until nothing waits any more, idle work included."""
        threads = self.disk._threads
        again = True
        while again:
            done = threading.Event()
            threads.tell(partial(self._idle, self.disk, done))
            assert done.wait(LONG)
            again = not self.reactor.brought.empty()
            while not self.reactor.brought.empty():
                self.reactor.brought.get()()

    @staticmethod
    def _idle(disk: Disk, done: threading.Event) -> None:
        while disk._writing.idle():
            pass
        done.set()

    def keep(self, key: bytes, body: AnyBody = b"body", vary: tuple[bytes, ...] = (), **others: Any) -> Stored:
        """Something that is on the disk then."""
        stored = answer(key, body, **others)
        assert self.disk.keep(stored, vary)
        self.settle()
        return stored

    def load(self, key: bytes, variant: bytes = b"") -> Stored | None:
        """What is found."""
        found: list[Stored | None] = []
        self.disk.load(key, lambda names: variant, lambda stored, names: found.append(stored))
        self.reactor.until(lambda: found)
        self.settle()
        return found[0]

    def grow(self, *pieces: bytes, length: int | None = None) -> GrowingFile:
        """A growing file with these pieces, all written."""
        growing = self.disk.begin(length)
        assert growing is not None
        for piece in pieces:
            growing.add(piece)
        self.settle()
        return growing

    def bodies(self) -> list[Path]:
        """The files of bodies, in the order of their names."""
        return sorted(path for path in (self.root / "bodies").rglob("*") if path.is_file())

    def said(self) -> list[str]:
        """What went to the log since the last time."""
        events, self.events[:] = list(self.events), []
        return [str(event["log_format"]).format(**event) for event in events]


def answer(key: bytes, body: AnyBody = b"body", **others: Any) -> Stored:
    """A stored answer."""
    words: dict[str, Any] = {
        "coding": b"",
        "born": 1000.0,
        "fresh_until": 2000.0,
        "while_revalidate": 10.0,
        "if_error": float("inf"),
        "flags": 3,
        "tags": None,
    }
    lines = others.pop("lines", b"Content-Type: text/plain\r\n")
    return Stored(key, others.pop("variant", b""), 200, b"OK", lines, body, **(words | others))


def same(one: Stored | None, other: Stored) -> bool:
    """Whether all that is to be kept is the same, the body's bytes included."""
    if one is None:
        return False
    names = [name for name in Stored.__slots__ if name not in ("checked", "coded", "hits", "size", "visits")]
    return all(getattr(one, name) == getattr(other, name) for name in names)
