"""The stock forwarder of Twisted as a peer: ``python -m bench.portforward LISTEN_PORT BACKEND_PORT``.

It owns nothing of lbproxy's: default reactor, ``twisted.protocols.portforward`` unchanged.
"""

import sys
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.protocols.portforward import ProxyClientFactory, ProxyFactory

# A "Starting factory" line for each connection goes to no file here but to memory, and would blur the memory row.
ProxyClientFactory.noisy = False


def main() -> None:
    """Forward until ended."""
    listen_port, backend_port = (int(argument) for argument in sys.argv[1:3])
    factory = cast("ServerFactory[Any]", ProxyFactory("127.0.0.1", backend_port))
    reactor.listenTCP(listen_port, factory, backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
