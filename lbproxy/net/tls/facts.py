"""What a handshake told us, read from OpenSSL once."""

from __future__ import annotations

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

from lbproxy.certificates import PeerCertificate, read_peer
from lbproxy.net.tls import binding
from lbproxy.session.secured import TlsFacts


def facts_of(connection: SSL.Connection, server_name: str, seconds: float, *, asked: bool) -> TlsFacts:
    """The facts of an established `connection`; `asked` says whether a client certificate was asked for."""
    certificate = peer_certificate(connection) if asked else None
    verified = "" if not asked else "none" if certificate is None else "ok"
    return TlsFacts(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        _group(connection),
        server_name,
        connection.get_alpn_proto_negotiated().decode("ascii", "backslashreplace"),
        binding.was_resumed(connection),
        seconds,
        verified,
        certificate,
    )


def _group(connection: SSL.Connection) -> str:
    try:
        return connection.get_group_name() or ""
    except NotImplementedError:  # an OpenSSL before 3.2
        return ""


def peer_certificate(connection: SSL.Connection) -> PeerCertificate | None:
    """The certificate that the peer showed, now or when the resumed TLS session began."""
    certificate = connection.get_peer_certificate()
    # As bytes: OpenSSL has verified some that `cryptography` does not read.
    return None if certificate is None else read_peer(dump_certificate(FILETYPE_ASN1, certificate))
