"""After an upgrade: the two connections of an exchange become the sides of a relay (RFC 9110, section 7.8).

Owns how a relay comes out of an exchange, and that the exchange's record is the one that is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.session.phases import DATA
from lbproxy.session.relay import Relay
from lbproxy.session.seams import ClientSide, Side

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange


class Tunnel(Relay):
    """What used to be `exchange`. It is in phase DATA from the beginning, and no retry can follow."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: Exchange, client: ClientSide, backend: Side, now: float) -> None:
        conversation = exchange.conversation
        super().__init__(exchange.world, conversation.gate, conversation.peer, conversation.local, now)
        self.exchange = exchange
        exchange.tunnel = self
        self.source = conversation.source
        self.admitted = conversation.admitted
        self.timeouts = exchange.timeouts
        self.pool = exchange.pool  # the lease stays the exchange's
        self.client = client
        self.backend_side = backend
        self.tls = conversation.tls
        self.connected_at = self.first_byte_at = now
        self.phase = DATA
        self.world.wheel.sooner(self, min(exchange.timeouts.tunnel_idle, 10.0))

    def first_bytes(self, side: Side) -> None:
        """See Relay: the backend has proved itself with its answer."""

    def account(self, now: float) -> None:
        """See Relay."""
        self.exchange.tunnel_over(self)
