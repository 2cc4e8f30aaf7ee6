"""Active checks: one short connection to a backend, again and again.

Owns their times: one in each interval, never two at once. Refuses to judge: each result goes to the pool, which counts
rise and fall. What a single check does is in check_tcp.py and check_tls.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lbproxy.addresses import Address
from lbproxy.model import CheckSettings
from lbproxy.net.check_tcp import CheckConnection, Result
from lbproxy.net.check_tls import TlsCheckConnection
from lbproxy.net.polling import Poller
from lbproxy.net.tls.clients import ClientTls

_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """What one check connects to (`family` and `target` are for connect(2)), and how it opens the connection.

    With `tls` a handshake follows the `preamble`, with the backend that is configured as `address`.
    """

    family: int
    target: Any
    address: Address
    preamble: bytes = b""
    tls: ClientTls | None = None


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
        self._random = random
        self._next: Any = None
        self._running: CheckConnection | None = None

    def start(self) -> None:
        """Begin somewhere in the first interval, so that the checks of many backends spread."""
        self._next = self._reactor.callLater(self._random() * self.settings.interval, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _check(self) -> None:
        jitter = 1 + _SPREAD * (2 * self._random() - 1)
        self._next = self._reactor.callLater(self.settings.interval * jitter, self._check)
        if self._running is not None:
            return
        where = self._where()
        if where is None:
            return
        self._running = self._connection(where)
        self._running.begin(where.family, where.target)

    def _connection(self, where: CheckTarget) -> CheckConnection:
        common = self._reactor, self._poller, self.settings, where.preamble, self._result
        if where.tls is None:
            return CheckConnection(*common)
        return TlsCheckConnection(*common, where.tls, where.address)

    def _result(self, code: str, detail: str) -> None:
        self._running = None
        self._told(code, detail)
