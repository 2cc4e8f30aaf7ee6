"""Which OCSP responses are stapled: those from files while they are current, and those that responders give.

Owns which certificates that goes for, and how many responders are asked at once. When they are asked is in
`ocsp_subjects`, what makes an answer good in `ocsp_answers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from lbproxy.certificates import Pair
from lbproxy.service.ocsp_answers import issuer_of, responder_of
from lbproxy.service.ocsp_seams import Ask
from lbproxy.service.ocsp_subjects import FromFile, FromResponder

# Questions under way at once.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """A served certificate. `fetch`: ask its responder if no file has the response."""

    pair: Pair
    fetch: bool


class Stapler:
    """Fills `stapled`, responses by the fingerprint of their certificate, and keeps it true."""

    log = Logger()

    def __init__(
        self,
        stapled: dict[str, bytes],
        clock: Any,
        wall: Callable[[], float],
        ask: Ask,
        counts: Counter[str],
    ) -> None:
        """`clock` is an IReactorTime, `wall` gives POSIX seconds. `counts` gets "ocsp_fetched" and "ocsp_failed"."""
        self.stapled = stapled
        self.clock = clock
        self.ask = ask
        self.counts = counts
        self.asking = DeferredSemaphore(_AT_ONCE)
        self._wall = wall
        self._subjects: dict[str, FromFile | FromResponder] = {}

    def now(self) -> datetime:
        """The moment, in UTC."""
        return datetime.fromtimestamp(self._wall(), UTC)

    def serve(self, wanted: Iterable[Wanted]) -> None:
        """Staple for exactly these from now on. What was fetched for a certificate is kept as long as that stays."""
        subjects: dict[str, FromFile | FromResponder] = {}
        # Of one certificate that is served twice: a file first, then whoever wants it fetched.
        for one in sorted(wanted, key=lambda one: (one.pair.ocsp is None, not one.fetch)):
            if one.pair.fingerprint not in subjects:
                subject = self._subject(one, self._subjects.get(one.pair.fingerprint))
                if subject is not None:
                    subjects[one.pair.fingerprint] = subject
        before, self._subjects = self._subjects, subjects
        for fingerprint, old in before.items():
            if subjects.get(fingerprint) is not old:
                old.stop()
        for fingerprint in self.stapled.keys() - subjects.keys():
            del self.stapled[fingerprint]
        for fingerprint, subject in subjects.items():
            if before.get(fingerprint) is not subject:
                subject.start()

    def _subject(self, wanted: Wanted, old: FromFile | FromResponder | None) -> FromFile | FromResponder | None:
        pair = wanted.pair
        if pair.ocsp is not None:
            return old if isinstance(old, FromFile) and old.pair.ocsp == pair.ocsp else FromFile(self, pair)
        issuer, url = issuer_of(pair), responder_of(pair.certificate)
        if not wanted.fetch or issuer is None or url is None:
            return None
        same = isinstance(old, FromResponder) and old.issuer == issuer
        return old if same else FromResponder(self, pair, issuer, url)

    def stop(self) -> None:
        """Ask no more. What is stapled stays so."""
        for subject in self._subjects.values():
            subject.stop()
        self._subjects = {}

    def describe(self, fingerprint: str) -> dict[str, str | None]:
        """For the status: `state`, `source` ("file" or the responder's URL), `until`, and the last `problem`."""
        subject = self._subjects.get(fingerprint)
        if subject is None:
            return {"state": "none", "source": None, "until": None, "problem": None}
        answer = subject.answer
        return {
            "state": subject.state,
            "source": subject.source,
            "until": None if answer is None else f"{answer.ends:%Y-%m-%dT%H:%M:%SZ}",
            "problem": subject.problem,
        }
