"""Threads that do what they are told one after the other, and that nobody waits for.

Owns the way there. A call that never comes back holds up its thread and nothing else: not the end of the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Call = Callable[[], object]


class Threads:
    """So many threads that share one queue."""

    def __init__(self, name: str, count: int = 1, idle: Callable[[], bool] = lambda: False) -> None:
        """`idle` is called when nothing waits, again and again as long as it gives True. Neither it nor any call may
        raise.
        """
        self._name = name
        self._count = count
        self._idle = idle
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._running = False

    def start(self) -> None:
        """Begin with what has been told already."""
        self._running = True
        for number in range(self._count):
            threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()

    def stop(self) -> None:
        """End when all that waits is done; what is told later is never done."""
        if self._running:
            self._running = False
            for _ in range(self._count):
                self._calls.put(None)

    def tell(self, call: Call) -> None:
        """Do this next. May be called in any thread, also while an object is finalised."""
        self._calls.put(call)

    @property
    def running(self) -> bool:
        """Whether what is told will be done."""
        return self._running

    def _run(self) -> None:
        busy = False
        while True:
            try:
                call = self._calls.get(block=not busy)
            except queue.Empty:
                busy = self._idle()
                continue
            if call is None:
                return
            call()
            # Kept, it would keep what it holds: files above all.
            del call
            busy = True
