"""Work that may take its time, done in a thread that nobody waits for.

The reactor's own pool of threads is joined at the end: a file system that does not answer would keep the process from
ending. Owns the way there and back; what is done there must touch nothing that changes meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Aside(Protocol):
    """Makes a call elsewhere; the Deferred fires in the reactor with what it gave or raised."""

    def __call__(self, call: Callable[[], T]) -> Deferred[T]:
        """See the class."""


def aside_of(reactor: Any, name: str) -> Aside:
    """Calls in threads of this name, with their outcomes brought back to the reactor."""

    def aside(call: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def run() -> None:
            outcome: T | Failure
            try:
                outcome = call()
            except Exception:
                outcome = Failure()
            reactor.callFromThread(done.callback, outcome)

        threading.Thread(target=run, name=name, daemon=True).start()
        return done

    return aside
