"""TLS to the backends of one pool: whom we trust, which name we expect, and the TLS sessions that are taken up again.

Owns these. Refuses to know files, sockets and what becomes of a failed try.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError as NoPattern
from service_identity import VerificationError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)

from lbproxy.addresses import Address
from lbproxy.certificates import Pair, Trust, asked_trust
from lbproxy.model_tls import BackendTlsSettings
from lbproxy.net.sockets import Socket
from lbproxy.net.tls.binding import was_resumed
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.contexts import client_context
from lbproxy.net.tls.facts import facts_of
from lbproxy.net.tls.failures import TlsFailure
from lbproxy.net.tls.way import channel_class
from lbproxy.session.secured import TlsFacts


class ClientTls:
    """How one pool speaks TLS. A pool whose settings change gets another one, and with it no old TLS session (L16)."""

    def __init__(
        self,
        settings: BackendTlsSettings,
        *,
        trust: Trust | None,
        pair: Pair | None,
        way: Callable[[], type[MemoryChannel]] = channel_class,
    ) -> None:
        """`trust` and `pair` are the content of the files that `settings` name; without a `ca` the authorities are
        the system's. Raises CertificateError for a pair that OpenSSL refuses, and ValueError where they are not what
        the settings ask for.
        """
        trusted = asked_trust(trust, settings.ca, settings.crl)
        if (settings.certificate is None) != (pair is None):
            raise ValueError("our certificate is handed over where none is named, or the other way round")
        self.settings = settings
        self._channel = way()
        self._openssl = client_context(
            settings.profile,
            settings.alpn,
            verify=settings.verify,
            authorities=None if settings.ca is None else trusted.authorities,
            revocations=trusted.revocations,
            soft=settings.soft,
            pair=pair,
        )
        self._sessions: dict[Address, SSL.Session] = {}

    def begin(self, address: Address, sock: Socket) -> MemoryChannel:
        """A connection to the backend at `address` over the connected `sock`. Raises TlsFailure (L14)."""
        if _speaks_already(sock):
            raise TlsFailure("early_bytes", "it sent bytes before the TLS handshake (rule=L14)")
        connection = SSL.Connection(self._openssl, None)
        connection.set_connect_state()
        name = self._name(address) if self.settings.server_name or address.kind == "name" else None
        if name is not None:
            connection.set_tlsext_host_name(name.encode("ascii"))
        session = self._sessions.get(address)
        if session is not None:
            connection.set_session(session)
        return self._channel(connection, sock)

    def verify(self, address: Address, channel: MemoryChannel, seconds: float) -> TlsFacts:
        """The facts of an established connection, once its certificate is for whom we meant. Raises TlsFailure."""
        connection = channel.connection
        # Of a TLS session that is taken up again the name was verified when it began, under these same settings.
        if self.settings.verify and not was_resumed(connection):
            numbered = self.settings.server_name is None and address.kind == "ip"
            _verify_name(connection, self._name(address), numbered=numbered)
        return facts_of(connection, self._name(address), seconds, asked=False)

    def _name(self, address: Address) -> str:
        """For whom the certificate must be. A final dot is for the resolver only (RFC 6066, 3)."""
        return (self.settings.server_name or address.host).removesuffix(".")

    def remember(self, address: Address, channel: MemoryChannel) -> None:
        """Keep what the backend gave us to resume with (in TLS 1.3 that comes behind the handshake)."""
        if self.settings.sessions and channel.established:
            session = channel.connection.get_session()
            if session is not None:
                self._sessions[address] = session


# Only certificates of authorities have networks there (RFC 5280, 4.2.1.10).
_ONE = (IPv4Address, IPv6Address)


def _named_in(certificate: x509.Certificate) -> list[CertificatePattern]:
    """For whom a certificate is (RFC 9525, 2). A wildcard that is none, such as `*.local`, spoils no other name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    found: list[CertificatePattern] = [IPAddressPattern(ip) for ip in addresses if isinstance(ip, _ONE)]
    for name in names.get_values_for_type(x509.DNSName):
        with contextlib.suppress(NoPattern):
            found.append(DNSPattern.from_bytes(name.encode("ascii")))
    return found


def _speaks_already(sock: Socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False  # nothing there, or an error that the handshake will meet


def _verify_name(connection: SSL.Connection, name: str, *, numbered: bool) -> None:
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
        wanted = IPAddress_ID(name) if numbered else DNS_ID(name)
        verify_service_identity([] if certificate is None else _named_in(certificate), [wanted], [])
    except (VerificationError, NoPattern) as problem:
        raise TlsFailure("wrong_name", f"its certificate is not for {name} (rule=L14)") from problem
    # OpenSSL takes certificates that `cryptography` cannot read, and that refuses in more ways than a list would hold.
    except Exception as problem:
        raise TlsFailure("bad_certificate", "the names in its certificate cannot be read (rule=L14)") from problem
