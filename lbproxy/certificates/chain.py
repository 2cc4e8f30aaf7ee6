"""Who issued whom: a heap of certificates becomes the path from the first one up.

Owns the order of a chain. Refuses to know the time, and which roots are trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed `certificate`, by name and signature."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # A signature of a kind that is not known here: the name has to do, clients will see for themselves.
        return True
    return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it vouches for itself, as roots do."""
    return issued_by(certificate, certificate)


class Issuers:
    """Certificates by the name of their subject, so that an issuer is found among many."""

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        self._by_subject: dict[bytes, list[x509.Certificate]] = {}
        for certificate in certificates:
            self._by_subject.setdefault(certificate.subject.public_bytes(), []).append(certificate)

    def of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """The first one that issued `certificate`."""
        for candidate in self._by_subject.get(certificate.issuer.public_bytes(), ()):
            if issued_by(certificate, candidate):
                return candidate
        return None


def path_from(
    certificate: x509.Certificate, others: Sequence[x509.Certificate]
) -> tuple[tuple[x509.Certificate, ...], x509.Certificate | None]:
    """The chain behind `certificate` in the order in which it is sent, and the root that ends it, if it is there.

    What does not belong to the path is left out. The root is not in the chain, since a client trusts only its own
    (RFC 8446 section 4.4.2).
    """
    issuers = Issuers(others)
    chain: list[x509.Certificate] = []
    seen = {certificate}
    last = certificate
    if is_self_signed(certificate):
        return (), certificate
    while (issuer := issuers.of(last)) is not None and issuer not in seen:
        if is_self_signed(issuer):
            return tuple(chain), issuer
        seen.add(issuer)
        chain.append(issuer)
        last = issuer
    return tuple(chain), None
