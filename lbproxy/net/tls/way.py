"""Which of the two ways TLS goes here: over the socket, or through memory where that is not to be had."""

from __future__ import annotations

import os

from lbproxy.net.tls import binding
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.socket_channel import SocketChannel

# "memory" takes the portable way although the fast one is there, to tell a fault of one from a fault of both.
VARIABLE = "LBPROXY_TLS"


def channel_class() -> type[MemoryChannel]:
    """The kind of channels that new connections get."""
    portable = os.environ.get(VARIABLE) == "memory" or not binding.AVAILABLE
    return MemoryChannel if portable else SocketChannel
