"""Who is told that a certificate expires, and how often: the log, once a day, from two weeks before.

Owns the memory of what was said. Refuses to know clocks; moments are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from twisted.logger import Logger

from lbproxy.certificates import Pair
from lbproxy.certificates.remark import moment, span

SOON = timedelta(days=14)
_DAY = timedelta(days=1)


def expiry(pair: Pair, now: datetime) -> str:
    """A sentence about the end of its life, "" while that is far away."""
    if now >= pair.not_after:
        return f"expired on {moment(pair.not_after)}, {span(now - pair.not_after)} ago"
    if pair.not_after - now < SOON:
        return f"expires on {moment(pair.not_after)}, in {span(pair.not_after - now)}"
    return ""


class Reminders:
    """Warns of certificates that are served."""

    log = Logger()

    def __init__(self) -> None:
        self._said: dict[str, tuple[datetime, bool]] = {}

    def remind(self, pairs: Iterable[Pair], now: datetime) -> None:
        """Say of each of these what was not said today; that one has expired is said at once."""
        said: dict[str, tuple[datetime, bool]] = {}
        for pair in pairs:
            sentence = expiry(pair, now)
            if not sentence or pair.fingerprint in said:
                continue
            expired = now >= pair.not_after
            last = self._said.get(pair.fingerprint)
            if last is not None and last[1] == expired and now - last[0] < _DAY:
                said[pair.fingerprint] = last
                continue
            said[pair.fingerprint] = now, expired
            self.log.warn("{path}: the certificate {sentence}", path=pair.path, sentence=sentence)
        self._said = said
