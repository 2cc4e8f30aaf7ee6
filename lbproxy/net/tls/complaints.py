"""Log lines about failed handshakes, few enough to be read.

Scanners and broken clients fail all day. Owns the rate: a line now and then, which tells how many were left out.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

_SAY_AGAIN = 10.0


class Complaints:
    """Those of one listener; of each kind of failure one line in ten seconds."""

    log = Logger()

    def __init__(self, listener: str, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._listener = listener
        self._clock = clock
        self._said: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def complain(self, client: str, word: str, message: str) -> None:
        """Say that the TLS handshake with `client` failed; `word` is from a closed set."""
        now = self._clock()
        if now - self._said.get(word, float("-inf")) < _SAY_AGAIN:
            self._silent[word] = self._silent.get(word, 0) + 1
            return
        self._said[word] = now
        silent = self._silent.pop(word, 0)
        self.log.info(
            "listener {listener}: no TLS with {client}: {message} [{word}]{more}",
            listener=self._listener,
            client=client or "a UNIX client",
            message=message,
            word=word,
            more=f"; {silent} more like this since the last line" if silent else "",
        )
