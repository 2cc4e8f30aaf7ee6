"""What went wrong in TLS: a word from a closed set for counters and records, and a sentence for the log.

Owns the translation of OpenSSL's reasons and of the codes of certificate verification.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from OpenSSL import SSL


class TlsFailure(OSError):
    """TLS cannot go on. `word` is one of the closed set, the message says more."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(errno.EPROTO, message)
        self.word = word


class Truncated(OSError):
    """The connection ended without close_notify: what came before may be cut short (RFC 8446, 6.1)."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNABORTED, "the connection ended without close_notify")


# OpenSSL's reasons, as it words them.
_REASONS = {
    "unsupported protocol": "protocol_version",
    "version too low": "protocol_version",
    "no protocols available": "protocol_version",
    "inappropriate fallback": "protocol_version",
    "no shared cipher": "no_shared_cipher",
    "no suitable signature algorithm": "no_shared_cipher",
    "no shared signature algorithms": "no_shared_cipher",
    "no suitable key share": "no_shared_cipher",
    "no shared group": "no_shared_cipher",
    "legacy sigalg disallowed or unsupported": "no_shared_cipher",
    "peer did not return a certificate": "no_certificate",
    "certificate verify failed": "bad_certificate",
    "wrong version number": "not_tls",
    "http request": "not_tls",
    "https proxy request": "not_tls",
    "packet length too long": "not_tls",
    "record layer failure": "bad_record",
    "decryption failed or bad record mac": "bad_record",
    "no application protocol": "no_application_protocol",
    "unsafe legacy renegotiation disabled": "renegotiation",
    "no renegotiation": "renegotiation",
}
# X509_V_ERR_*, see verify(1).
_CERTIFICATE_CODES = {
    2: "unknown_ca",
    18: "unknown_ca",
    19: "unknown_ca",
    20: "unknown_ca",
    21: "unknown_ca",
    9: "expired_certificate",
    10: "expired_certificate",
    23: "revoked_certificate",
    3: "crl_unavailable",
    11: "crl_unavailable",
    12: "crl_unavailable",
}
_CERTIFICATE_SENTENCES = {
    "unknown_ca": "its certificate was not issued by a trusted authority",
    "expired_certificate": "its certificate is out of date",
    "revoked_certificate": "its certificate was revoked",
    "crl_unavailable": "no current revocation list covers its certificate",
    "bad_certificate": "its certificate was refused",
}


def certificate_failure(codes: Sequence[int]) -> TlsFailure:
    """What the codes of verification mean, the first one of them."""
    word = _CERTIFICATE_CODES.get(codes[0], "bad_certificate") if codes else "bad_certificate"
    detail = f" (verification code {codes[0]})" if codes and word == "bad_certificate" else ""
    return TlsFailure(word, _CERTIFICATE_SENTENCES[word] + detail)


def reasons_of(problem: SSL.Error) -> list[str]:
    """OpenSSL's reasons in its own words, the first cause first."""
    entries = problem.args[0] if problem.args and isinstance(problem.args[0], list) else []
    return [entry[2] for entry in entries if entry[2]]


def handshake_failure(problem: SSL.Error, codes: Sequence[int]) -> OSError:
    """What a failed handshake means; `codes` are those of verification that were met on the way."""
    if isinstance(problem, SSL.SysCallError):
        code = problem.args[0] if problem.args else -1
        return OSError(code if code > 0 else errno.ECONNRESET, "the connection ended within the handshake")
    reasons = reasons_of(problem)
    for reason in reasons:
        word = _REASONS.get(reason)
        if word == "bad_certificate":
            return certificate_failure(codes)
        if word is not None:
            return TlsFailure(word, reason)
        if "alert" in reason:
            return TlsFailure("peer_alert", f"it sent the {reason}")
        if "unexpected eof" in reason:
            return OSError(errno.ECONNRESET, "the connection ended within the handshake")
    return TlsFailure("protocol", reasons[-1] if reasons else "a TLS error without a reason")
