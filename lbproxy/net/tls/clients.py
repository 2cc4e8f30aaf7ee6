"""TLS to the backends of one pool: whom we trust, which name we expect, and the TLS sessions that are taken up again.

Owns these. Refuses to know sockets and what becomes of a failed try.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from service_identity import CertificateError as NoSuchName
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from lbproxy.addresses import Address
from lbproxy.certificates import load_authorities, load_pair, load_revocations
from lbproxy.model_tls import BackendTlsSettings
from lbproxy.net.tls.binding import was_resumed
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.contexts import client_context
from lbproxy.net.tls.facts import facts_of
from lbproxy.net.tls.failures import TlsFailure
from lbproxy.net.tls.way import channel_class
from lbproxy.session.secured import TlsFacts


class ClientTls:
    """How one pool speaks TLS. A pool whose settings change gets another one, and with it no old TLS session (L16)."""

    def __init__(self, settings: BackendTlsSettings, *, way: Callable[[], type[MemoryChannel]] = channel_class) -> None:
        """Reads the files that `settings` name. Raises CertificateError."""
        self.settings = settings
        self._channel = way()
        self._openssl = client_context(
            settings.profile,
            settings.alpn,
            verify=settings.verify,
            authorities=None if settings.ca is None else load_authorities(settings.ca),
            revocations=load_revocations(settings.crl) if settings.crl is not None else (),
            soft=settings.soft,
            pair=None if settings.certificate is None else load_pair(settings.certificate),
        )
        self._sessions: dict[Address, SSL.Session] = {}

    def begin(self, address: Address, sock: socket.socket) -> MemoryChannel:
        """A connection to the backend at `address` over the connected `sock`. Raises TlsFailure (L14)."""
        if _speaks_already(sock):
            raise TlsFailure("early_bytes", "it sent bytes before the TLS handshake (rule=L14)")
        connection = SSL.Connection(self._openssl, None)
        connection.set_connect_state()
        name = self.settings.server_name or (address.host if address.kind == "name" else None)
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
            _verify_name(connection, self.settings.server_name, address)
        return facts_of(connection, self.settings.server_name or address.host, seconds, asked=False)

    def remember(self, address: Address, channel: MemoryChannel) -> None:
        """Keep what the backend gave us to resume with (in TLS 1.3 that comes behind the handshake)."""
        if self.settings.sessions and channel.established:
            session = channel.connection.get_session()
            if session is not None:
                self._sessions[address] = session


def _speaks_already(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False  # nothing there, or an error that the handshake will meet


def _verify_name(connection: SSL.Connection, server_name: str | None, address: Address) -> None:
    check: Any = verify_hostname
    if server_name is None and address.kind == "ip":
        check = verify_ip_address
    name = server_name or address.host
    try:
        check(connection, name)
    except (VerificationError, NoSuchName) as problem:
        raise TlsFailure("wrong_name", f"its certificate is not for {name} (rule=L14)") from problem
