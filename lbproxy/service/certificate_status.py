"""What the control socket tells about certificates, as plain values: names, dates and states, never keys (L19)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lbproxy.certificates import Pair
from lbproxy.service.expiring import expiry

if TYPE_CHECKING:
    from lbproxy.service.certificates import CertificateService


def certificates_status(service: CertificateService, now: float) -> dict[str, object]:
    """For `GET /v1/certificates`: every served certificate by listener, and every problem. `now` in POSIX seconds."""
    moment = datetime.fromtimestamp(now, UTC)
    return {
        "certificates": [
            _described(service, listener, pair, moment)
            for listener, sites in sorted(service.sites.items())
            for pair in sites.pairs
        ],
        "problems": _problems(service),
    }


def certificates_summary(service: CertificateService, now: float) -> dict[str, object]:
    """For `GET /v1/status`: how many are served, and what an operator should look after."""
    moment = datetime.fromtimestamp(now, UTC)
    pairs = {pair.fingerprint: pair for sites in service.sites.values() for pair in sites.pairs}
    expiring = ((pair, expiry(pair, moment)) for pair in pairs.values())
    return {
        "served": len(pairs),
        "expiring": [{"path": pair.path, "message": sentence} for pair, sentence in expiring if sentence],
        "problems": _problems(service),
    }


def _problems(service: CertificateService) -> list[dict[str, str]]:
    return [{"path": problem.path, "message": problem.message} for problem in service.problems]


def _described(service: CertificateService, listener: str, pair: Pair, now: datetime) -> dict[str, object]:
    return {
        "listener": listener,
        "path": pair.path,
        "names": [*pair.names, *pair.addresses],
        "kind": pair.kind,
        "not_before": _text(pair.not_before),
        "not_after": _text(pair.not_after),
        "expires_in_seconds": int((pair.not_after - now).total_seconds()),
        "fingerprint": pair.fingerprint,
        "ocsp": service.stapler.describe(pair.fingerprint),
        "problem": service.problem_of(pair),
    }


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
