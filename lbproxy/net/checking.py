"""Active checks: one short connection to a backend, again and again.

Owns their times: one in each interval, never two at once; and which kind of check the settings ask for. Refuses to
judge: each result goes to the pool, which counts rise and fall. What a single check does is in check_tcp.py and
check_tls.py, what it says and waits for in check_tcp.py and check_http.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lbproxy.addresses import Address
from lbproxy.model import CheckSettings
from lbproxy.net.check_http import HttpQuestion, request_bytes
from lbproxy.net.check_tcp import BytesQuestion, CheckConnection, Question, Result
from lbproxy.net.check_tls import TlsCheckConnection
from lbproxy.net.polling import Poller
from lbproxy.net.tls.clients import ClientTls

_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """What one check connects to (`family` and `target` are for connect(2)), and how it opens the connection.

    With `tls` a handshake follows the `preamble`, with the backend that is configured as `address`. `http10` is for
    checks that speak HTTP.
    """

    family: int
    target: Any
    address: Address
    preamble: bytes = b""
    tls: ClientTls | None = None
    http10: bool = False


class Rhythm:
    """Calls `act` once in each interval (seconds), give or take a tenth, from `start` to `stop`."""

    def __init__(self, reactor: Any, interval: float, act: Callable[[], None], random: Callable[[], float]) -> None:
        self._reactor = reactor
        self._interval = interval
        self._act = act
        self._random = random
        self._next: Any = None

    def start(self) -> None:
        """Begin somewhere in the first interval, so that what is done for many backends spreads."""
        self._next = self._reactor.callLater(self._random() * self._interval, self._beat)

    def stop(self) -> None:
        """Call no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _beat(self) -> None:
        jitter = 1 + _SPREAD * (2 * self._random() - 1)
        self._next = self._reactor.callLater(self._interval * jitter, self._beat)
        self._act()


class Checker:
    """The checks of one backend, from `start` to `stop`. `told(code, detail)` hears every result."""

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        settings: CheckSettings,
        where: Callable[[], CheckTarget | None],
        told: Result,
        random: Callable[[], float],
    ) -> None:
        """`where` is asked at the time of each check, so that it goes by what is configured then; None: no check."""
        self._reactor = reactor
        self._poller = poller
        self.settings = settings
        self._where = where
        self._told = told
        self._rhythm = Rhythm(reactor, settings.interval, self._check, random)
        self._running: CheckConnection | None = None

    def start(self) -> None:
        """Begin somewhere in the first interval."""
        self._rhythm.start()

    def stop(self) -> None:
        """Check no more."""
        self._rhythm.stop()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _check(self) -> None:
        where = None if self._running is not None else self._where()
        if where is not None:
            self._running = self._connection(where)
            self._running.begin(where.family, where.target)

    def _connection(self, where: CheckTarget) -> CheckConnection:
        question, timeout = question_of(self.settings, where), self.settings.timeout
        common = self._reactor, self._poller, timeout, where.preamble, question, self._result
        if where.tls is None:
            return CheckConnection(*common)
        return TlsCheckConnection(*common, where.tls, where.address)

    def _result(self, code: str, detail: str) -> None:
        self._running = None
        self._told(code, detail)


def question_of(settings: CheckSettings, where: CheckTarget) -> Question:
    """What these settings want to be said: a request, or some bytes, or nothing."""
    if settings.http is None:
        return BytesQuestion(settings)
    request = request_bytes(settings.http, where.address, secure=where.tls is not None, http10=where.http10)
    return HttpQuestion(settings.http, request)
