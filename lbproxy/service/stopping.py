"""How lbproxy stops: in order, within a bound, and at once when asked twice.

    SERVING  --stop--> GRACE     still accepting; the instance says that it is not ready (skipped for SIGINT)
             --grace over-->     DRAINING: listeners are closed, sessions go on
             --no session left, or hard stop, or asked again--> ENDED

Owns the order and the clock of it; what "close the listeners" and "end the sessions" mean is handed in.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lbproxy.model import StopSettings

SERVING, GRACE, DRAINING, ENDED = "serving", "grace", "draining", "ended"


class Stopped(Protocol):
    """What is stopped."""

    def close_listeners(self) -> None:
        """Accept nobody any more."""

    def kill_sessions(self) -> int:
        """End all that are left; how many."""

    def session_count(self) -> int:
        """How many sessions are under way."""


class Stopping:
    """The stop of one instance. `state` is one of the words above."""

    log = Logger()

    def __init__(self, reactor: Any, what: Stopped) -> None:
        self.state = SERVING
        self._reactor = reactor
        self._what = what
        self._calls: list[Any] = []
        self._done: Deferred[None] = Deferred()

    def begin(self, settings: StopSettings, *, grace: bool) -> Deferred[None]:
        """Begin to stop. The Deferred fires with None once everything has ended; it never fails."""
        if self.state != SERVING:
            return self._done
        self._later(settings.hard_stop, self.end)
        if grace and settings.grace > 0:
            self.state = GRACE
            self.log.info("stopping: listeners close in {grace} s", grace=settings.grace)
            self._later(min(settings.grace, settings.hard_stop), self._drain)
        else:
            self._drain()
        return self._done

    def _later(self, seconds: float, call: Any) -> None:
        if seconds != float("inf"):
            self._calls.append(self._reactor.callLater(seconds, call))

    def _drain(self) -> None:
        self.state = DRAINING
        self._what.close_listeners()
        left = self._what.session_count()
        if left:
            self.log.info("stopping: listeners are closed, {left} sessions go on", left=left)
        self.session_ended()

    def session_ended(self) -> None:
        """A session has ended; the last one lets the stop end too."""
        if self.state == DRAINING and not self._what.session_count():
            self.end()

    def end(self) -> None:
        """End now, whatever is left."""
        if self.state == ENDED:
            return
        self.state = ENDED
        for call in self._calls:
            if call.active():
                call.cancel()
        self._what.close_listeners()
        killed = self._what.kill_sessions()
        if killed:
            self.log.warn("stopped: {killed} sessions were cut", killed=killed)
        self._done.callback(None)
