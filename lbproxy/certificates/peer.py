"""What there is to know about the certificate that a client showed, for records and for backends.

Owns the words for it, which are HAProxy's. Refuses to judge: OpenSSL verified it, and it accepts certificates that
`cryptography` does not, so whatever cannot be read is empty.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import NameOID

T = TypeVar("T")

_MOST_TEXT_BYTES = 1024

# OpenSSL's short names of signature algorithms, as HAProxy's ssl_c_sig_alg and TLV 0x24 have them.
_RSA, _ECDSA, _NIST = "1.2.840.113549.1.1.", "1.2.840.10045.4.", "2.16.840.1.101.3.4.3."
_SIGNATURES = {
    f"{_RSA}4": "RSA-MD5",
    f"{_RSA}5": "RSA-SHA1",
    f"{_RSA}10": "RSASSA-PSS",
    f"{_RSA}11": "RSA-SHA256",
    f"{_RSA}12": "RSA-SHA384",
    f"{_RSA}13": "RSA-SHA512",
    f"{_RSA}14": "RSA-SHA224",
    f"{_ECDSA}1": "ecdsa-with-SHA1",
    f"{_ECDSA}3.1": "ecdsa-with-SHA224",
    f"{_ECDSA}3.2": "ecdsa-with-SHA256",
    f"{_ECDSA}3.3": "ecdsa-with-SHA384",
    f"{_ECDSA}3.4": "ecdsa-with-SHA512",
    f"{_NIST}1": "dsa_with_SHA224",
    f"{_NIST}2": "dsa_with_SHA256",
    "1.2.840.10040.4.3": "DSA-SHA1",
    "1.3.101.112": "ED25519",
    "1.3.101.113": "ED448",
}


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate that a peer showed.

    `subject` is written as RFC 4514 has it; it and `common_name` are printable and at most 1 KiB. `fingerprint` is the
    SHA-256 in hexadecimal. `key_algorithm` ("RSA2048", "EC256") and `signature_algorithm` ("RSA-SHA256",
    "ecdsa-with-SHA256") are what stands in the TLVs 0x25 and 0x24 of the PROXY protocol. What could not be read is
    empty.
    """

    subject: str
    common_name: str
    fingerprint: str
    der: bytes = field(repr=False)
    key_algorithm: str
    signature_algorithm: str
    not_after: datetime | None


def read_peer(der: bytes) -> PeerCertificate:
    """What is in the certificate. Never raises."""
    with warnings.catch_warnings():
        # cryptography warns of what it will refuse some day, which is for nobody to act on here.
        warnings.simplefilter("ignore")
        certificate = _or_none(lambda: x509.load_der_x509_certificate(der))
        return PeerCertificate(
            subject=_text(certificate, lambda one: one.subject.rfc4514_string()),
            common_name=_text(certificate, _common_name),
            fingerprint=sha256(der).hexdigest(),
            der=der,
            key_algorithm=_text(certificate, _key_algorithm),
            signature_algorithm=_text(
                certificate, lambda one: _SIGNATURES.get(one.signature_algorithm_oid.dotted_string, "")
            ),
            not_after=None if certificate is None else _or_none(lambda: certificate.not_valid_after_utc),
        )


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    # Parsing is lazy and refuses in many ways, which no list of exceptions would keep up with.
    except Exception:
        return None


def _text(certificate: x509.Certificate | None, read: Callable[[x509.Certificate], str]) -> str:
    text = None if certificate is None else _or_none(lambda: read(certificate))
    printable = "".join(letter if letter.isprintable() else "?" for letter in text or "")
    return printable.encode("utf-8", "replace")[:_MOST_TEXT_BYTES].decode("utf-8", "ignore")


def _common_name(certificate: x509.Certificate) -> str:
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if isinstance(attribute.value, str):
            return attribute.value
    return ""


def _key_algorithm(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC{key.key_size}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA{key.key_size}"
    # Both have one size only, so OpenSSL's name says it.
    return {"1.3.101.112": "ED25519", "1.3.101.113": "ED448"}.get(
        certificate.public_key_algorithm_oid.dotted_string, ""
    )
