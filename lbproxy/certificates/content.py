"""What the blocks of a PEM file are: certificates, keys, revocation lists, or something that was put there by mistake.

Owns the labels and a sentence for each usual mistake. Refuses to know which certificate belongs to which key.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from cryptography import x509

from lbproxy.certificates.files import Block, der_of, pem_blocks, read_file
from lbproxy.certificates.problem import CertificateError

CERTIFICATE = frozenset(("CERTIFICATE", "X509 CERTIFICATE"))
PRIVATE_KEY = frozenset(
    (
        "PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "DSA PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    )
)
REVOCATIONS = frozenset(("X509 CRL",))

# In the order in which they say most about the mistake.
_MISTAKES = {
    "CERTIFICATE REQUEST": "a certificate request; put the certificate here that the authority made of it",
    "NEW CERTIFICATE REQUEST": "a certificate request; put the certificate here that the authority made of it",
    "TRUSTED CERTIFICATE": "a certificate in OpenSSL's own form; convert it with 'openssl x509 -in ... -out ...'",
    "PKCS7": "PKCS#7; convert it with 'openssl pkcs7 -print_certs -in ... -out ...'",
    "CERTIFICATE": "a certificate",
    "X509 CERTIFICATE": "a certificate",
    "X509 CRL": "a revocation list",
    "PUBLIC KEY": "a public key",
    "RSA PUBLIC KEY": "a public key",
    "DH PARAMETERS": "Diffie-Hellman parameters",
    "EC PARAMETERS": "the parameters of a curve",
} | dict.fromkeys(sorted(PRIVATE_KEY), "a private key")

# DER begins with a SEQUENCE; that of PKCS#12 with its version 3 (RFC 7292 section 4).
_SEQUENCE = 0x30
_LONG_LENGTHS = frozenset((0x81, 0x82, 0x83))
_PKCS12_VERSION = b"\x02\x01\x03"


def is_key(block: Block) -> bool:
    """Whether it says that it is a private key."""
    return block.label in PRIVATE_KEY


def is_certificate(block: Block) -> bool:
    """Whether it says that it is a certificate."""
    return block.label in CERTIFICATE


def read_blocks(path: str) -> tuple[Block, ...]:
    """The PEM blocks of the file. Raises CertificateError for what cannot be read and for other forms than PEM."""
    data = read_file(path)
    blocks = pem_blocks(data, path)
    if not blocks and is_der(data):
        raise CertificateError(path, _binary(data))
    return blocks


def is_der(data: bytes) -> bool:
    """Whether `data` looks like DER rather than like text that begins with a zero."""
    return len(data) > 1 and data[0] == _SEQUENCE and (data[1] in _LONG_LENGTHS or data[1] == len(data) - 2)


def _binary(data: bytes) -> str:
    if data[4:7] == _PKCS12_VERSION:
        return "is PKCS#12, not PEM; convert it with 'openssl pkcs12 -nodes -in ... -out ...'"
    return "is DER, not PEM; convert it with 'openssl x509 -inform DER -in ... -out ...' (a key: 'openssl pkey')"


def absent(path: str, blocks: Sequence[Block], wanted: str) -> CertificateError:
    """That the file lacks what is `wanted` ("certificate"), and what it has instead."""
    labels = {block.label for block in blocks}
    for label, what in _MISTAKES.items():
        if label in labels:
            return CertificateError(path, f"holds no {wanted} but {what}")
    return CertificateError(path, f"holds no {wanted}")


def certificates_of(path: str, blocks: Sequence[Block]) -> tuple[x509.Certificate, ...]:
    """The certificates among the blocks; at least one. Raises CertificateError if there is none or one is damaged."""
    texts = [block for block in blocks if is_certificate(block)]
    if not texts:
        raise absent(path, blocks, "certificate")
    return tuple(_certificate(path, block, number) for number, block in enumerate(texts, 1))


def _certificate(path: str, block: Block, number: int) -> x509.Certificate:
    der = der_of(block)
    if der is None:
        raise CertificateError(path, f"its certificate no. {number} is not base64: damaged, or half written?")
    certificate = parse_certificate(der)
    if certificate is None:
        raise CertificateError(path, f"its certificate no. {number} is damaged")
    return certificate


def parse_certificate(der: bytes) -> x509.Certificate | None:
    """The certificate in `der`, None if it cannot be read."""
    with warnings.catch_warnings():
        # Old roots have serial numbers that are not positive, of which cryptography warns; they work all the same.
        warnings.simplefilter("ignore")
        try:
            return x509.load_der_x509_certificate(der)
        except ValueError:
            return None
