"""What TLS told a session about one of its sides: values for routes, records and the backend.

Owns the fields. Refuses to know OpenSSL, which fills them (net/tls/facts.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from lbproxy.certificates import PeerCertificate
from lbproxy.preamble import ProxyTls


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """A completed handshake. `seconds` is how long it took, waiting for the peer included.

    `server_name` is the name that was asked for, "" for none; `alpn` the protocol agreed on, "" for none. `verified`
    is "ok" for a client with a good certificate, "none" for one without where none was required, "" where none was
    asked for.
    """

    version: str
    cipher: str
    group: str
    server_name: str
    alpn: str
    resumed: bool
    seconds: float
    verified: str = ""
    certificate: PeerCertificate | None = None


# The bits of TLV 0x20: TLS was used; a certificate on this connection; one in this TLS session.
_USED, _SHOWN, _IN_SESSION = 1, 2, 4


def tls_for_backends(facts: TlsFacts) -> ProxyTls:
    """What a PROXY header says of this handshake (proxy-protocol.txt, 2.2.6)."""
    certificate = facts.certificate
    if certificate is None:
        return ProxyTls(_USED, 0, version=facts.version, cipher=facts.cipher, group=facts.group or None)
    return ProxyTls(
        _USED | _IN_SESSION | (0 if facts.resumed else _SHOWN),
        0,
        version=facts.version,
        common_name=certificate.common_name or None,
        cipher=facts.cipher,
        signature_algorithm=certificate.signature_algorithm or None,
        key_algorithm=certificate.key_algorithm or None,
        group=facts.group or None,
        certificate=certificate.der,
    )
