"""What the log hears of files that have changed: what is served now, what is wrong, and when it is good again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twisted.logger import Logger

from lbproxy.certificates import CertificateError, Pair
from lbproxy.certificates.remark import moment
from lbproxy.config.units import printable
from lbproxy.service.tls_state import Built

_MOST_NAMES = 5


class News:
    """Tells each thing once."""

    log = Logger()

    def __init__(self, counts: Counter[str]) -> None:
        """`counts` gets "swapped", one for each new certificate, and "refused", one for each problem."""
        self._counts = counts

    def tell_problems(self, before: Sequence[CertificateError], now: Sequence[CertificateError]) -> None:
        """Each problem that is new, and the end of those that were."""
        known = {(problem.path, problem.message) for problem in before}
        still = {problem.path for problem in now}
        for problem in now:
            if (problem.path, problem.message) not in known:
                self._counts["refused"] += 1
                self.log.error("{problem}; what it held before stays in use", problem=printable(str(problem)))
        for path in sorted({path for path, _ in known} - still):
            self.log.info("{path}: is good again", path=printable(path))

    def tell_changes(self, before: Built, now: Built) -> None:
        """The certificates that are served from now on, and what is to be said of them."""
        old, new = _served(before), _served(now)
        for key in new.keys() - old.keys():
            pair = new[key]
            self._counts["swapped"] += 1
            self.log.info(
                "{path}: a new certificate is served from now on, for {names} until {until}",
                path=printable(pair.path),
                names=_listed(pair),
                until=moment(pair.not_after),
            )
        for remark in now.remarks:
            self.log.warn("{remark}", remark=printable(str(remark)))


def _served(built: Built) -> dict[tuple[str, bytes], Pair]:
    return {(pair.path, pair.pem): pair for sites in built.sites.values() for pair in sites.pairs}


def _listed(pair: Pair) -> str:
    names = (*pair.names, *pair.addresses)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "no name") + more
