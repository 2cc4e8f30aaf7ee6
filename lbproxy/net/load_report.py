"""Load reports: one line from a TCP port of a backend, again and again.

Owns when it is read, and the log of whether that works. Refuses to know what a line means, and whom it concerns. The
port speaks neither TLS nor PROXY: it belongs to an agent beside the backend, as with HAProxy's `agent-check`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from lbproxy.model_http import LoadReport
from lbproxy.net.check_tcp import CheckConnection, Verdict
from lbproxy.net.checking import Rhythm
from lbproxy.net.polling import Poller

LINE_BYTES = 256


class LineQuestion:
    """Says nothing and waits for one line, of 256 bytes at the most. `line` is without its end, which is LF, CRLF or
    the orderly end of the connection.
    """

    send = b""
    waits = True

    def __init__(self) -> None:
        self.line = b""

    def heard(self, data: bytes) -> Verdict | None:
        """See Question."""
        line, end, _ = (self.line + data).partition(b"\n")
        if len(line) > LINE_BYTES:
            return "L7RSP", f"the line has more than {LINE_BYTES} bytes"
        self.line = line
        return self._complete() if end else None

    def ended(self, cut: str) -> Verdict:
        """See Question."""
        if cut or not self.line:
            return "L7RSP", cut or "it closed without a line"
        return self._complete()

    def _complete(self) -> Verdict:
        self.line = self.line.removesuffix(b"\r")
        return "L7OK", ""


class LoadReader:
    """The load reports of one backend, from `start` to `stop`; `name` is how the log calls it.

    `heard(line)` is called with every line. What cannot be read changes nothing, and is logged when it begins and ends.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        settings: LoadReport,
        where: Callable[[], tuple[int, Any] | None],
        heard: Callable[[bytes], None],
        random: Callable[[], float],
        name: str,
    ) -> None:
        """`where` is asked each time, for the socket's family and what connect(2) takes; None: not now."""
        self._reactor = reactor
        self._poller = poller
        self.settings = settings
        self._where = where
        self._heard = heard
        self._name = name
        self._rhythm = Rhythm(reactor, settings.interval, self._read, random)
        self._running: CheckConnection | None = None
        self._failing = False

    def start(self) -> None:
        """Begin somewhere in the first interval."""
        self._rhythm.start()

    def stop(self) -> None:
        """Read no more."""
        self._rhythm.stop()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _read(self) -> None:
        where = None if self._running is not None else self._where()
        if where is None:
            return
        question = LineQuestion()

        def done(code: str, detail: str) -> None:
            self._running = None
            if code == "L7OK":
                self._say_readable()
                self._heard(question.line)
            else:
                self._say_failing(f"{code}, {detail}" if detail else code)

        timeout = self.settings.timeout
        self._running = CheckConnection(self._reactor, self._poller, timeout, b"", question, done)
        self._running.begin(*where)

    def _say_readable(self) -> None:
        if self._failing:
            self._failing = False
            self.log.info("the load report of {backend} is read again", backend=self._name)

    def _say_failing(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self.log.warn(
                "the load report of {backend} at port {port} cannot be read, the last one stays: {why}",
                backend=self._name,
                port=self.settings.port,
                why=why,
            )
