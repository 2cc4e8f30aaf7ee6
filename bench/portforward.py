"""The stock forwarder of Twisted as a peer: ``python -m bench.portforward LISTEN_PORT BACKEND_PORT [CERTIFICATE KEY]``.

It owns nothing of lbproxy's: default reactor, ``twisted.protocols.portforward`` unchanged, and TLS, where a certificate
is given, as Twisted's own endpoint makes it.
"""

import sys
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.protocol import ServerFactory
from twisted.protocols.portforward import ProxyClientFactory, ProxyFactory

# A "Starting factory" line for each connection goes to no file here but to memory, and would blur the memory row.
ProxyClientFactory.noisy = False


def main() -> None:
    """Forward until ended."""
    listen_port, backend_port = (int(argument) for argument in sys.argv[1:3])
    factory = cast("ServerFactory[Any]", ProxyFactory("127.0.0.1", backend_port))
    if len(sys.argv) > 3:
        certificate, key = map(quoteStringArgument, sys.argv[3:5])
        where = f"ssl:{listen_port}:interface=127.0.0.1:backlog=4096:certKey={certificate}:privateKey={key}"
        serverFromString(reactor, where).listen(factory)
    else:
        reactor.listenTCP(listen_port, factory, backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
