"""What is asked of an OCSP responder about a certificate, and what an answer of it is worth (RFC 6960).

Owns who may sign an answer, and for how long it counts. Refuses to know HTTP and the clock; a moment is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha1

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from lbproxy.certificates import Pair
from lbproxy.certificates.remark import moment
from lbproxy.certificates.stapling import find_single

# Between the responder's clock and ours.
_SKEW = timedelta(minutes=5)
# For an answer that names no end: there is always a newer one (RFC 6960 section 4.2.2.1).
_DEFAULT_LIFE = timedelta(days=1)


class OcspError(Exception):
    """An answer that cannot be stapled; a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response in DER that may be stapled until `ends`."""

    der: bytes
    ends: datetime
    revoked: bool


def issuer_of(pair: Pair) -> x509.Certificate | None:
    """Who issued the pair's certificate, if the file holds that; a self-signed one has nobody to be asked."""
    issuer = pair.chain[0] if pair.chain else pair.root
    return None if issuer == pair.certificate else issuer


def responder_of(certificate: x509.Certificate) -> str | None:
    """The URL of the responder that the certificate names, plain HTTP (RFC 5280 section 4.2.2.1)."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    for one in access:
        place = one.access_location
        if (
            one.access_method == AuthorityInformationAccessOID.OCSP
            and isinstance(place, x509.UniformResourceIdentifier)
            and place.value.lower().startswith("http://")
        ):
            return place.value
    return None


def question(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """The request in DER. SHA-1 names the certificate here and protects nothing; all responders know it."""
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1()).build()
    return request.public_bytes(Encoding.DER)


def read_answer(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Answer:
    """The answer of a responder, if it is about this certificate, current, and signed by who may. Raises OcspError."""
    try:
        response = ocsp.load_der_ocsp_response(der)
    except ValueError:
        raise OcspError("the answer is no OCSP response") from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise OcspError(f"the responder said '{response.response_status.name.lower().replace('_', ' ')}'")
    single = find_single(response, certificate, issuer)
    if single is None:
        raise OcspError("the answer is about another certificate")
    if not any(_signed_by(response, signer) for signer in _signers(response, issuer, now)):
        raise OcspError("the answer is signed by nobody who may")
    if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise OcspError("the responder does not know the certificate")
    return Answer(der, _end_of(single, now), single.certificate_status is ocsp.OCSPCertStatus.REVOKED)


def read_file_answer(pair: Pair, now: datetime) -> Answer:
    """The answer that came with the pair's files, once it is current. Who signed it is the operator's affair.

    Raises OcspError.
    """
    if pair.ocsp is None:
        raise OcspError("there is none")
    single = find_single(ocsp.load_der_ocsp_response(pair.ocsp), pair.certificate, issuer_of(pair))
    if single is None:
        raise OcspError("it is about another certificate")
    return Answer(pair.ocsp, _end_of(single, now), single.certificate_status is ocsp.OCSPCertStatus.REVOKED)


def _end_of(single: ocsp.OCSPSingleResponse, now: datetime) -> datetime:
    begins, ends = single.this_update_utc, single.next_update_utc
    if begins > now + _SKEW:
        raise OcspError(f"it is not valid before {moment(begins)}")
    if ends is None:
        return now + _DEFAULT_LIFE
    if ends <= now:
        raise OcspError(f"it is out of date since {moment(ends)}")
    return ends


def _signers(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> Iterator[x509.Certificate]:
    """Who may have signed: the issuer, or whom it has made a responder (RFC 6960 section 4.2.2.2)."""
    if _is_responder(response, issuer):
        yield issuer
    try:
        enclosed = response.certificates
    except ValueError:
        return
    for certificate in enclosed:
        if _is_responder(response, certificate) and _is_delegate(certificate, issuer, now):
            yield certificate


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == certificate.subject
    return response.responder_key_hash == _key_hash(certificate)


def _key_hash(certificate: x509.Certificate) -> bytes | None:
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            bits = key.public_bytes_raw()
        else:
            return None
    except (ValueError, UnsupportedAlgorithm):
        return None
    return sha1(bits, usedforsecurity=False).digest()


def _is_delegate(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    if not certificate.not_valid_before_utc <= now + _SKEW or now > certificate.not_valid_after_utc:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (
        InvalidSignature,
        UnsupportedAlgorithm,
        TypeError,
        ValueError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
    ):
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in uses


def _signed_by(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    try:
        key = signer.public_key()
        signature, signed = response.signature, response.tbs_response_bytes
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
            return True
        algorithm = response.signature_hash_algorithm
        if algorithm is None:
            return False
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
