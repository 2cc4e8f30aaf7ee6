"""What one certificate file is worth: the certificate, its chain and its key, fit to be served.

Owns the reading of a pair from start to end (threats.md L12). Refuses to know the time, so that an expired pair is
read like any other, and other pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lbproxy.certificates.chain import path_from
from lbproxy.certificates.content import certificates_of, read_blocks
from lbproxy.certificates.keys import key_blocks, kind_of, read_key
from lbproxy.certificates.names import read_pattern
from lbproxy.certificates.problem import CertificateError
from lbproxy.certificates.stapling import read_response
from lbproxy.model_tls import CertificateSettings


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with what is needed to serve it. Two are equal if the same would be served from the same file.

    `chain` is in the order in which it is sent, without its root; `root` is the self-signed certificate that ends it,
    if the file holds that. `names` are host names in lower case, or "*." and one; `addresses` IP addresses as text.
    `fingerprint` is the SHA-256 of the certificate in hexadecimal, `pem` the certificate and its chain. `ocsp` is the
    response to be stapled, in DER. `line` is that of the settings.
    """

    certificate: x509.Certificate = field(repr=False, compare=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False, compare=False)
    root: x509.Certificate | None = field(repr=False, compare=False)
    # It is the certificate's own, so comparing the certificate compares it.
    key: PrivateKeyTypes = field(repr=False, compare=False)
    path: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    kind: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    pem: bytes = field(repr=False)
    ocsp: bytes | None = field(repr=False)
    line: int = field(default=0, compare=False)


def load_pair(settings: CertificateSettings) -> Pair:
    """Read the file that `settings` name, and those that belong to it.

    The certificate is the one that the key is for, wherever it stands in the file. Raises CertificateError.
    """
    blocks = read_blocks(settings.path)
    certificates = certificates_of(settings.path, blocks)
    key_path, keys = key_blocks(settings, blocks)
    read = [read_key(key_path, block, settings.passphrase_file) for block in keys]
    certificate, key = _belonging(settings.path, certificates, key_path, read)
    kind = kind_of(certificate, settings.path)
    chain, root = path_from(certificate, [other for other in certificates if other is not certificate])
    names, addresses = _named(certificate, settings.path)
    ocsp = None
    if settings.ocsp is not None:
        issuer = chain[0] if chain else root
        ocsp = read_response(settings.ocsp, certificate, issuer)
    return Pair(
        certificate=certificate,
        chain=chain,
        root=root,
        key=key,
        path=settings.path,
        names=names,
        addresses=addresses,
        kind=kind,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(SHA256()).hex(),
        pem=b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain)),
        ocsp=ocsp,
        line=settings.line,
    )


def _belonging(
    path: str, certificates: Sequence[x509.Certificate], key_path: str, keys: Sequence[PrivateKeyTypes]
) -> tuple[x509.Certificate, PrivateKeyTypes]:
    for certificate in certificates:
        for key in keys:
            if _fits(certificate, key):
                return certificate, key
    # A key that cannot be served may not even be comparable; that is then the better reason.
    kind_of(certificates[0], path)
    raise CertificateError(path, f"the key in {key_path} does not belong to the certificate in {path}")


def _fits(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    try:
        return bool(certificate.public_key() == key.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _named(certificate: x509.Certificate, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The host names and IP addresses; the common name counts only without a SAN extension (RFC 9525 section 2)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        common = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        return _patterns(value for value in common if isinstance(value, str)), ()
    except (ValueError, x509.DuplicateExtension):
        raise CertificateError(path, "the extensions of its certificate are damaged") from None
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return (
        _patterns(extension.value.get_values_for_type(x509.DNSName)),
        tuple(dict.fromkeys(str(address) for address in addresses)),
    )


def _patterns(names: Iterable[str]) -> tuple[str, ...]:
    read = (read_pattern(name) for name in names)
    return tuple(dict.fromkeys(pattern for pattern in read if pattern is not None))
