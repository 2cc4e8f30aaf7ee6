"""Whom we trust to vouch for others: authorities, and the lists of what they revoked.

Owns threats.md L6: a file of authorities that is missing, unreadable or empty is an error and never means "nobody is
asked". Refuses to know handshakes; what a list out of date means to one (L13) is decided there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256

from lbproxy.certificates.content import REVOCATIONS, absent, certificates_of, is_certificate, is_der, parse_certificate
from lbproxy.certificates.files import der_of, pem_blocks, read_file
from lbproxy.certificates.problem import CertificateError
from lbproxy.certificates.remark import Remark, called, moment

MOST_AUTHORITIES_BYTES = 8 << 20
MOST_REVOCATIONS_BYTES = 32 << 20

_SYSTEM_VARIABLE = "SSL_CERT_FILE"
# Debian's, Red Hat's and the BSDs' place for the bundle of roots.
_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom we trust, as it was read: `authorities`, and the lists of what they revoked.

    Without authorities it vouches for nobody; only where the system's are meant do lists stand alone. It has no hash,
    since lists have none; `fingerprint` stands for it.
    """

    authorities: tuple[x509.Certificate, ...] = field(repr=False)
    revocations: tuple[x509.CertificateRevocationList, ...] = field(default=(), repr=False)

    def fingerprint(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """The SHA-256 of each authority and of each list: with another content it is another one."""
        return (
            tuple(authority.fingerprint(SHA256()) for authority in self.authorities),
            tuple(revocation.fingerprint(SHA256()) for revocation in self.revocations),
        )


def load_trust(ca: str | None, crl: str | None) -> Trust | None:
    """What these two PEM files hold; None if neither is named. Raises CertificateError."""
    if ca is None and crl is None:
        return None
    return Trust(() if ca is None else load_authorities(ca), () if crl is None else load_revocations(crl))


def asked_trust(trust: Trust | None, ca: str | None, crl: str | None) -> Trust:
    """`trust`, once it is of the kind that settings with these two files ask for; Trust(()) where they name none.

    Raises ValueError otherwise, which is a fault of ours: to go on would be to trust others than was asked for (L6).
    """
    given = Trust(()) if trust is None else trust
    for what, path, content in (("authorities", ca, given.authorities), ("revocation lists", crl, given.revocations)):
        if path is not None and not content:
            raise ValueError(f"{path} is named, but its {what} were not handed over")
        if path is None and content:
            raise ValueError(f"there are {what}, but no file of them is named")
    return given


def load_authorities(path: str) -> tuple[x509.Certificate, ...]:
    """The certificates in the PEM file; at least one. Raises CertificateError."""
    return read_authorities(read_file(path, MOST_AUTHORITIES_BYTES), path)


def read_authorities(content: bytes, path: str) -> tuple[x509.Certificate, ...]:
    """As `load_authorities`, of the content of the file at `path`, which is only named."""
    return certificates_of(path, pem_blocks(content, path))


def load_revocations(path: str) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists in the PEM file; at least one. Raises CertificateError."""
    return read_revocations(read_file(path, MOST_REVOCATIONS_BYTES), path)


def read_revocations(content: bytes, path: str) -> tuple[x509.CertificateRevocationList, ...]:
    """As `load_revocations`, of the content of the file at `path`, which is only named."""
    blocks = pem_blocks(content, path)
    texts = [block for block in blocks if block.label in REVOCATIONS]
    if not texts:
        if not blocks and is_der(content):
            raise CertificateError(path, "is DER, not PEM; convert it with 'openssl crl -inform DER -in ... -out ...'")
        raise absent(path, blocks, "revocation list")
    lists: list[x509.CertificateRevocationList] = []
    for number, block in enumerate(texts, 1):
        der = der_of(block)
        try:
            lists.append(x509.load_der_x509_crl(der or b""))
        except ValueError:
            raise CertificateError(path, f"its revocation list no. {number} is damaged") from None
    return tuple(lists)


def judge_revocations(
    crls: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate], now: datetime
) -> list[Remark]:
    """What is wrong with the lists, and which authority has none; all of it warnings, since they may come later.

    `now` is in UTC. `index` is the place of the list; None where an authority has no list. A list that is out of date
    is left alone if the same authority has a newer one that is not.
    """
    remarks: list[Remark] = []
    covered: set[x509.Certificate] = set()
    current: set[x509.Certificate] = set()
    late: list[tuple[int, list[x509.Certificate], str]] = []
    for index, crl in enumerate(crls):
        signers = [authority for authority in authorities if _signed(crl, authority)]
        if not signers:
            text = f"the revocation list of {called(crl.issuer)} does not count: none of the authorities signed it"
            remarks.append(Remark("warning", text, index=index))
            continue
        covered.update(signers)
        if now < crl.last_update_utc:
            late.append((index, signers, f"is not valid before {moment(crl.last_update_utc)}"))
        elif crl.next_update_utc is not None and now > crl.next_update_utc:
            late.append((index, signers, f"is out of date since {moment(crl.next_update_utc)}"))
        else:
            current.update(signers)
    for index, signers, what in late:
        if not current.issuperset(signers):
            text = f"the revocation list of {called(crls[index].issuer)} {what}"
            remarks.append(Remark("warning", text, index=index))
    for authority in dict.fromkeys(authorities):
        if authority not in covered:
            text = (
                f"there is no revocation list of {called(authority.subject)}: none of its certificates can be checked"
            )
            remarks.append(Remark("warning", text))
    return remarks


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if crl.issuer != authority.subject:
        return False
    try:
        # Of an unknown kind of key it raises, like is_signature_valid.
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # see above
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False


def system_authorities() -> tuple[x509.Certificate, ...]:
    """The roots that this system trusts, as far as they can be read; empty if no bundle is where one usually is."""
    named = os.environ.get(_SYSTEM_VARIABLE)
    for path in (named,) if named else _SYSTEM_FILES:
        try:
            blocks = pem_blocks(read_file(path, MOST_AUTHORITIES_BYTES), path)
        except CertificateError:
            continue
        return tuple(_readable(der_of(block) for block in blocks if is_certificate(block)))
    return ()


def _readable(ders: Iterable[bytes | None]) -> Iterable[x509.Certificate]:
    for der in ders:
        certificate = parse_certificate(der or b"")
        if certificate is not None:
            yield certificate
