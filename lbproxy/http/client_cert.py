"""What backends are told of the certificate that a client showed, in header fields.

Owns their names and how their values are made safe. Refuses to judge certificates: OpenSSL verified what is shown here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from itertools import product
from typing import Protocol

from lbproxy.http.messages import Field

_NAMES = (
    b"client-cert",
    b"client-cert-chain",
    b"x-client-cert-verify",
    b"x-client-cert-subject",
    b"x-client-cert-fingerprint",
)
# Never taken from clients, whether these fields are sent to backends or not (X2). Applications behind CGI or WSGI
# cannot tell "_" from "-", so each mixture of both is one more spelling of the same name.
CLIENT_CERT_NAMES: frozenset[bytes] = frozenset(
    bytes(spelling)
    for name in _NAMES
    for spelling in product(*(b"-_" if byte == ord("-") else (byte,) for byte in name))
)

_UNSAFE = re.compile(rb"[^ -~]")


class ShownCertificate(Protocol):
    """What is needed of a certificate: see `certificates.peer`."""

    @property
    def der(self) -> bytes: ...
    @property
    def subject(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


def certificate_fields(certificate: ShownCertificate | None) -> list[Field]:
    """The fields for a verified certificate, or for a client that showed none (the verdict "none" alone).

    Client-Cert is that of RFC 9440, section 2.2. The subject is as RFC 4514 has it, with all but printable ASCII
    written as the escapes of its UTF-8 (`\\C3\\A9`). The fingerprint is the SHA-256 in hexadecimal. What could not be
    read is left out.
    """
    if certificate is None:
        return [_field(b"X-Client-Cert-Verify", b"none")]
    fields = [
        _field(b"Client-Cert", b":%b:" % b64encode(certificate.der)),
        _field(b"X-Client-Cert-Verify", b"ok"),
    ]
    for name, text in (
        (b"X-Client-Cert-Subject", certificate.subject),
        (b"X-Client-Cert-Fingerprint", certificate.fingerprint),
    ):
        if text:
            fields.append(_field(name, _safe(text)))
    return fields


def _field(name: bytes, value: bytes) -> Field:
    return name.lower(), value, b"%b: %b\r\n" % (name, value)


def _safe(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if raw.endswith(b"\\ "):
        # Readers take blanks off the end of a value, which would leave an escape of nothing.
        raw = raw[:-1] + b"20"
    return _UNSAFE.sub(lambda unsafe: b"\\%02X" % unsafe[0][0], raw.strip(b" "))
