"""Whether a file holds the OCSP response for a certificate (RFC 6960).

Refuses to know the time and who signed it: a client checks both, and `judging` looks at the dates.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509 import ocsp

from lbproxy.certificates.files import read_file
from lbproxy.certificates.problem import CertificateError


def read_response(path: str, certificate: x509.Certificate, issuer: x509.Certificate | None) -> bytes:
    """The DER of the response in the file. Raises CertificateError if it is none, or for another certificate.

    Without `issuer` only the serial number is compared.
    """
    data = read_file(path)
    if data.startswith(b"-----BEGIN"):
        raise CertificateError(path, "is PEM; an OCSP response to be stapled is in DER")
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError:
        raise CertificateError(path, "is no OCSP response, or a damaged one") from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        said = response.response_status.name.lower().replace("_", " ")
        raise CertificateError(path, f"holds no answer: the responder said '{said}'")
    if find_single(response, certificate, issuer) is None:
        raise CertificateError(path, "is the OCSP response for another certificate")
    return data


def find_single(
    response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate | None
) -> ocsp.OCSPSingleResponse | None:
    """The part of a successful `response` that is about `certificate`."""
    try:
        singles = [one for one in response.responses if one.serial_number == certificate.serial_number]
        if issuer is None:
            return singles[0] if singles else None
        for single in singles:
            ask = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, single.hash_algorithm).build()
            if ask.issuer_key_hash == single.issuer_key_hash and ask.issuer_name_hash == single.issuer_name_hash:
                return single
    except ValueError:
        return None
    return None
