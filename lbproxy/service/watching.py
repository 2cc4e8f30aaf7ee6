"""Which of the files that were read are no longer what they were.

Owns the rhythm of looking, and that a change counts only once two looks in a row agree: what is being written is left
alone. It looks by stat(2), so that links that are set anew, as certbot and Kubernetes do, and other owners and modes
are seen as well. Refuses to know what is in the files, and what a change means.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbproxy.service.aside import Aside

LOOK_SECONDS = 2.0
# Thousands of files on a slow file system: a look takes a twentieth of the time at the most.
_REST = 20.0

# What is looked at in a directory: see lbproxy.certificates.find.
_PAIRS = (".pem", ".crt", ".cer")
_BESIDE = (".key", ".ocsp")

Stamp = tuple[object, ...]
Stamps = Mapping[str, Stamp]


def stamps_of(paths: Iterable[str]) -> dict[str, Stamp]:
    """What each file is now. Two equal stamps: nobody has touched it."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
        return _listing(path) if stat.S_ISDIR(found.st_mode) else _of_file(found)
    except OSError as problem:
        return ("error", problem.errno)
    except ValueError:
        return ("error", None)


def _of_file(found: os.stat_result) -> Stamp:
    # The last one changes with owner and mode too, and nobody can set it back.
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _listing(path: str) -> Stamp:
    """The files of a directory that may be pairs; of its sub-directories, names alone."""
    seen: list[tuple[object, ...]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if entry.is_dir():
                seen.append((name, *_names(entry.path)))
            elif name.endswith(_PAIRS):
                seen.append((name, *_stamp(entry.path)))
            elif name.endswith(_BESIDE):
                seen.append((name,))
    return tuple(sorted(seen, key=lambda one: str(one[0])))


def _names(path: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(path) if name.endswith(_PAIRS))
    except OSError as problem:
        return [f"error {problem.errno}"]


class Watch:
    """Looks at files again and again while it runs and there are any."""

    log = Logger()

    def __init__(self, clock: Any, aside: Aside, changed: Callable[[frozenset[str]], Deferred[None]]) -> None:
        """`clock` is an IReactorTime. `changed` hears of changes that have settled, and which paths have not; until
        its Deferred fires, nobody looks.
        """
        self._clock = clock
        self._aside = aside
        self._changed = changed
        self._taken: Stamps = {}
        self._last: Stamps = {}
        self._pause = LOOK_SECONDS
        self._due: Any = None
        self._busy = False
        self._running = False

    def watch(self, taken: Stamps) -> None:
        """Look at these files from now on; `taken` is what they were when they were read."""
        self._taken = taken
        self._last = {}
        self._schedule()

    def start(self) -> None:
        """Begin to look."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Look no more; a look under way comes to nothing."""
        self._running = False
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _schedule(self) -> None:
        if self._running and self._taken and self._due is None and not self._busy:
            self._due = self._clock.callLater(self._pause, self._look)

    def _look(self) -> None:
        self._due = None
        self._busy = True
        paths = tuple(self._taken)
        self._aside(lambda: stamps_of(paths)).addCallback(self._looked, self._clock.seconds()).addErrback(
            self._broken
        ).addBoth(self._rest)

    def _looked(self, now: Stamps, began: float) -> Deferred[None] | None:
        self._pause = max(LOOK_SECONDS, _REST * (self._clock.seconds() - began))
        if not self._running:
            return None
        last, self._last = self._last, now
        moved = {path for path, stamp in now.items() if self._taken.get(path, stamp) != stamp}
        unsettled = {path for path in moved if last.get(path) != now[path]}
        return self._changed(frozenset(unsettled)) if moved != unsettled else None

    def _broken(self, failure: Failure) -> None:
        self.log.failure("a fault of lbproxy: a change of certificate files was not followed", failure)

    def _rest(self, _: object) -> None:
        self._busy = False
        self._schedule()
