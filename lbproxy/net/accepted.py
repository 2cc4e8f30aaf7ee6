"""The side that was accepted: as any side of a relay, and with TLS where its listener ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from OpenSSL import SSL

from lbproxy.net.polling import READ
from lbproxy.net.relaying import RelayShared, RelaySide
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.facts import facts_of
from lbproxy.net.tls.failures import TlsFailure
from lbproxy.net.tls.handshakes import Handshakes
from lbproxy.net.tls.sites import Site


class AcceptedShared(RelayShared, Protocol):
    """What accepted sides need besides."""

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds, exact."""

    @property
    def wall(self) -> Callable[[], float]:
        """POSIX seconds: what the dates in certificates mean."""

    @property
    def handshakes(self) -> Handshakes:
        """The places for handshakes."""

    @property
    def channel_class(self) -> type[MemoryChannel]:
        """The way that TLS goes."""


class AcceptedSide(RelaySide):
    """See the module. It is the `Shaker` of its handshake."""

    __slots__ = ("_began", "_site")
    shared: AcceptedShared

    def ask_handshake(self, site: Site) -> None:
        """Have the handshake with what `site` serves, now or when it is this client's turn."""
        self._site = site
        self._began = self.shared.clock()
        # The hello belongs to the handshake; what sessions count begins behind it.
        self.bytes_in = 0
        self.shared.handshakes.enter(self)
        if self.channel is None:
            # It has to wait. Meanwhile the kernel keeps what comes.
            self.unwatch(READ)

    @property
    def waits(self) -> bool:
        """See Shaker."""
        return self.sock is not None

    def begin_handshake(self) -> None:
        """See Shaker."""
        assert self.sock is not None  # it waits
        connection = SSL.Connection(self._site.openssl, None)
        connection.set_accept_state()
        self.secure(self.shared.channel_class(connection, self.sock, self.take_kept()))

    def give_way(self) -> None:
        """See Shaker."""
        self.session.gave_way()

    def handshake_over(self, failure: TlsFailure | None) -> None:
        """See SecureTransport."""
        super().handshake_over(failure)
        shared, site, channel = self.shared, self._site, self.channel
        shared.handshakes.leave(self)
        if failure is None and channel is not None:
            name = self.session.server_name or ""
            facts = facts_of(channel.connection, name, shared.clock() - self._began, asked=site.asks)
            certificate = facts.certificate
            # Tickets outlive certificates; OpenSSL looks at the dates in full handshakes only.
            expiry = None if certificate is None or not facts.resumed else certificate.not_after
            if expiry is None or expiry.timestamp() > shared.wall():
                self.session.secured(facts)
                return
            failure = TlsFailure("expired_certificate", "its certificate has expired since its TLS session began")
        if failure is not None:
            self.session.handshake_failed(failure.word, str(failure.strerror))

    def close(self) -> None:
        """See Side."""
        self._leave()
        super().close()

    def close_gently(self) -> None:
        """See ClientSide."""
        self._leave()
        super().close_gently()

    def _leave(self) -> None:
        """Give the place back, if this has one."""
        if self.channel is None or not self.channel.established:
            self.shared.handshakes.leave(self)
