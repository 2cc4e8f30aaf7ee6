"""One certificate whose OCSP response is stapled: where that comes from, for how long it counts, and what comes then.

Owns when a responder is asked, and asked again. It is asked quietly: without an answer a client does without, and no
handshake fails for it. Refuses to know HTTP, and what makes an answer good.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from lbproxy.certificates import Pair
from lbproxy.certificates.remark import moment
from lbproxy.service.ocsp_answers import Answer, OcspError, question, read_answer, read_file_answer

if TYPE_CHECKING:
    from lbproxy.service.ocsp import Stapler

# Asked again at half of an answer's life, within these bounds; after a failure, twice as late each time (seconds).
_SOONEST, _LATEST = 300.0, 12 * 3600.0
_LATEST_AFTER_FAILURE = 3600.0

State = Literal["waiting", "stapled", "revoked", "failed", "out_of_date"]


class Subject:
    """One certificate and its response."""

    def __init__(self, stapler: Stapler, pair: Pair, source: str) -> None:
        self.pair = pair
        self.source = source
        self.state: State = "waiting"
        self.answer: Answer | None = None
        self.problem: str | None = None
        self._stapler = stapler
        self._end: Any = None

    def take(self, answer: Answer, now: datetime) -> None:
        """Staple it until it ends."""
        if answer.revoked and self.state != "revoked":
            self._stapler.log.error(
                "{path}: the certificate is revoked, says its OCSP response; it is served until you replace it",
                path=self.pair.path,
            )
        self.answer = answer
        self.problem = None
        self.state = "revoked" if answer.revoked else "stapled"
        self._stapler.stapled[self.pair.fingerprint] = answer.der
        self._cancel_end()
        self._end = self._stapler.clock.callLater((answer.ends - now).total_seconds(), self._ended)

    def _ended(self) -> None:
        self._end = None
        self.answer = None
        self.state = "out_of_date"
        # Not taken away: a context that is being made asks here only if it finds something here.
        self._stapler.stapled[self.pair.fingerprint] = b""
        self.ended()

    def ended(self) -> None:
        """The response is out of date, and no longer stapled."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Nothing more will come."""
        self._cancel_end()

    def _cancel_end(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


class FromFile(Subject):
    """The response is in a file. When that is out of date it is said once."""

    def __init__(self, stapler: Stapler, pair: Pair) -> None:
        super().__init__(stapler, pair, "file")

    def start(self) -> None:
        """See Subject."""
        now = self._stapler.now()
        try:
            self.take(read_file_answer(self.pair, now), now)
        except OcspError as problem:
            self.state = "out_of_date"
            self._stapler.stapled[self.pair.fingerprint] = b""
            self._warn(str(problem))

    def ended(self) -> None:
        """See Subject."""
        self._warn(f"it is out of date since {moment(self._stapler.now())}")

    def _warn(self, why: str) -> None:
        self.problem = f"the OCSP response in its file is not stapled: {why}"
        self._stapler.log.warn("{path}: {problem}", path=self.pair.path, problem=self.problem)


class FromResponder(Subject):
    """The response is fetched."""

    def __init__(self, stapler: Stapler, pair: Pair, issuer: x509.Certificate, url: str) -> None:
        super().__init__(stapler, pair, url)
        self.issuer = issuer
        self.url = url
        self._failures = 0
        self._due: Any = None
        self._asked: Deferred[Any] | None = None
        self._stopped = False

    def start(self) -> None:
        """See Subject."""
        self._due = None
        asked = self._asked = self._stapler.asking.run(self._ask)
        asked.addCallback(self._answered).addErrback(self._failed)

    def stop(self) -> None:
        """See Subject."""
        super().stop()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._stopped = True
        if self._asked is not None:
            self._asked.cancel()

    def _ask(self) -> Deferred[bytes]:
        return maybeDeferred(self._stapler.ask, self.url, question(self.pair.certificate, self.issuer))

    def _answered(self, der: bytes) -> None:
        now = self._stapler.now()
        answer = read_answer(der, self.pair.certificate, self.issuer, now)
        self._failures = 0
        self._stapler.counts["ocsp_fetched"] += 1
        self.take(answer, now)
        self._again(min(max((answer.ends - now) / timedelta(seconds=2), _SOONEST), _LATEST))

    def _failed(self, failure: Failure) -> None:
        if self._stopped:
            return
        self._stapler.counts["ocsp_failed"] += 1
        self.problem = f"no OCSP response from {self.url}: {_why(failure)}"
        if self.answer is None:
            self.state = "failed"
        self._stapler.log.debug("{path}: {problem}", path=self.pair.path, problem=self.problem)
        self._again(min(_SOONEST * 2 ** min(self._failures, 10), _LATEST_AFTER_FAILURE))
        self._failures += 1

    def _again(self, seconds: float) -> None:
        self._due = self._stapler.clock.callLater(seconds, self.start)


def _why(failure: Failure) -> str:
    """What the operator is told; Twisted wraps what a connection ended with."""
    reasons = getattr(failure.value, "reasons", None)
    value = reasons[0].value if reasons else failure.value
    return str(value) or type(value).__name__
