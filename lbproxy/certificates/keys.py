"""Which private key is the certificate's, where it is looked for, and whether it can be served.

Owns passphrases and the kinds of keys. A key leaves this module as an object, never in a message (threats.md L19).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from lbproxy.certificates.content import absent, is_key, read_blocks
from lbproxy.certificates.files import Block, read_file
from lbproxy.certificates.problem import CertificateError
from lbproxy.model_tls import CertificateSettings

# The OIDs of the key in the certificate: RFC 8017 and 5480, 8410, 9881.
_KINDS = {
    "1.2.840.113549.1.1.1": "RSA",
    "1.2.840.10045.2.1": "ECDSA",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
# Those that TLS 1.3 signs with (RFC 8446 section 4.2.3) and that clients have.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")

_CERTBOT = ("fullchain.pem", "cert.pem")
_CERTBOT_KEY = "privkey.pem"


def key_places(path: str) -> tuple[str, ...]:
    """The files beside the certificate file `path` in which its key may be, the likeliest first."""
    directory, name = os.path.split(path)
    stem, dot, _ = name.rpartition(".")
    places = [os.path.join(directory, _CERTBOT_KEY)] if name in _CERTBOT else []
    if dot and stem:
        places.append(os.path.join(directory, f"{stem}.key"))
    # HAProxy's way: site.pem and site.pem.key.
    places.append(f"{path}.key")
    return tuple(places)


def key_blocks(settings: CertificateSettings, blocks: Sequence[Block]) -> tuple[str, tuple[Block, ...]]:
    """The file that holds the key, and its blocks that are keys; `blocks` are those of the certificate file.

    Raises CertificateError if there is no key in the file that is named for it, or in none of the usual places.
    """
    if settings.key is not None:
        return settings.key, _keys_in(settings.key)
    if keys := tuple(block for block in blocks if is_key(block)):
        return settings.path, keys
    places = key_places(settings.path)
    for place in places:
        if os.path.lexists(place):
            return place, _keys_in(place)
    tried = ", ".join(os.path.basename(place) for place in places)
    raise CertificateError(settings.path, f"has no private key: none is in the file, nor beside it ({tried})")


def _keys_in(path: str) -> tuple[Block, ...]:
    blocks = read_blocks(path)
    keys = tuple(block for block in blocks if is_key(block))
    if not keys:
        raise absent(path, blocks, "private key")
    return keys


def read_passphrase(path: str) -> bytes:
    """The content of the file without one newline at its end. Raises CertificateError."""
    content = read_file(path)
    return content.removesuffix(b"\r\n" if content.endswith(b"\r\n") else b"\n")


def read_key(path: str, block: Block, passphrase_file: str | None) -> PrivateKeyTypes:
    """The key in the block, decrypted if need be. Raises CertificateError."""
    if block.label == "OPENSSH PRIVATE KEY":
        raise CertificateError(
            path, "holds a key in the form of OpenSSH; convert it with 'ssh-keygen -p -m PEM -f ...'"
        )
    passphrase = None
    # RFC 1421's header is how OpenSSL marks its traditional form.
    if block.label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type:" in block.text:
        if passphrase_file is None:
            raise CertificateError(path, "holds an encrypted key, and no file with its passphrase is named")
        passphrase = read_passphrase(passphrase_file)
    try:
        return serialization.load_pem_private_key(block.text, passphrase)
    except UnsupportedAlgorithm:
        raise CertificateError(path, "holds a key of a kind, or encrypted in a way, that is not supported") from None
    except (ValueError, TypeError):
        if passphrase is not None:
            raise CertificateError(path, f"the passphrase in {passphrase_file} does not open the key") from None
        raise CertificateError(path, "holds a private key that is damaged") from None


def kind_of(certificate: x509.Certificate, path: str) -> str:
    """ "RSA", "ECDSA", "Ed25519" and so on. Raises CertificateError for a key that OpenSSL cannot serve to clients."""
    oid = certificate.public_key_algorithm_oid.dotted_string
    if oid not in _KINDS:
        raise CertificateError(path, f"its key ({oid}) is of a kind that cannot be served; use ECDSA, RSA or Ed25519")
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(path, "its key is damaged, or of a kind that cannot be served") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise CertificateError(path, f"its key is on the curve {key.curve.name}, which clients do not take; use P-256")
    return _KINDS[oid]
