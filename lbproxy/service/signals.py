"""Signals: HUP reloads, USR1 reopens files, TERM and INT stop, and stop at once the second time.

Owns the signal handlers from `install` to `uninstall`. Each handler only passes the word on to the reactor; TERM and
INT go on to the handlers that Twisted had put there, so that twistd ends with the signal's own status.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

_Number = int


class StopAsked(Protocol):
    """Hears that a stop was asked for."""

    def __call__(self, *, grace: bool) -> bool:
        """Whether this is the first time, so that the reactor has to be stopped."""


class Signals:
    """See the module."""

    def __init__(self, reactor: Any, reload: Callable[[], None], stop: StopAsked, reopen: Callable[[], None]) -> None:
        self._reactor = reactor
        self._stop = stop
        self._calls = {signal.SIGHUP: reload, signal.SIGUSR1: reopen}
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over. Only possible in the main thread, which is where the reactor runs."""
        for number in self._calls:
            self._before[number] = signal.signal(number, self._call)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._stop_by_signal)

    def uninstall(self) -> None:
        """Give the signals back to whoever had them."""
        for number, before in self._before.items():
            # None: it was not set from Python, and cannot be set back from there.
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def _call(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._calls[signal.Signals(number)])

    def _stop_by_signal(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._stop_now, number, frame)

    def _stop_now(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if self._stop(grace=number == signal.SIGTERM) and callable(before):
            before(number, frame)
