"""Twisted's ``ReverseProxyResource`` as a peer: ``python -m bench.reverseproxy LISTEN_PORT BACKEND_PORT ACCESS_LOG``.

It owns nothing of lbproxy's: default reactor, ``twisted.web.proxy`` as it is, but for the client's address in a field,
which all proxies of these rows add.
"""

import sys
from typing import Any, cast
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.web.http import Request
from twisted.web.proxy import ProxyClientFactory, ReverseProxyResource
from twisted.web.server import Site

# A line on standard output for each request would be a second access log.
ProxyClientFactory.noisy = False


class Forwarding(ReverseProxyResource):
    """Adds X-Forwarded-For; its children do, too."""

    def getChild(self, path: bytes, _request: Request) -> "Forwarding":
        """The same for what lies below."""
        return Forwarding(self.host, self.port, self.path + b"/" + quote(path, safe=b"").encode())

    def render(self, request: Request) -> int:
        """Forward, with the field."""
        request.requestHeaders.addRawHeader(b"X-Forwarded-For", request.getClientAddress().host.encode())
        answer: int = super().render(request)
        return answer


def main() -> None:
    """Forward until ended."""
    listen_port, backend_port = (int(argument) for argument in sys.argv[1:3])
    resource = Forwarding("127.0.0.1", backend_port, b"")
    site = cast("ServerFactory[Any]", Site(resource, logPath=sys.argv[3].encode()))
    reactor.listenTCP(listen_port, site, backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
