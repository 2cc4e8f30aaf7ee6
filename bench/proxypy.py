"""proxy.py's reverse proxy as a peer: ``python -m bench.proxypy LISTEN_PORT BACKEND_PORT BACKEND_PORT ACCESS_LOG``.

The package is optional and this module is the only one that names it. One acceptor, which does the work itself: that
is one worker. It writes its access log when a connection ends, one line for all its requests.
"""

import random
import sys
from importlib import import_module
from typing import Any


def plugin(backends: list[int]) -> type:
    """A plugin that adds X-Forwarded-For and sends everything to one of the *backends*.

    It keeps a connection to the backend for each client: left to itself, proxy.py makes one for each request, and its
    worker ends with FileNotFoundError soon after the second request on a kept connection (2.4.10).

    It is put together at run time, because nothing can be said about the types of a package that may be absent.
    """
    base = import_module("proxy.http.server").ReverseProxyBasePlugin
    connection = import_module("proxy.core.connection").TcpServerConnection

    def routes(_self: Any) -> list[str]:
        return [r"/.*"]

    def before_routing(self: Any, request: Any) -> Any:
        request.add_header(b"X-Forwarded-For", self.client.addr[0].encode())
        return request

    def handle_route(self: Any, request: Any, _pattern: Any) -> Any:
        if not hasattr(self, "kept"):
            self.kept = connection("127.0.0.1", random.choice(backends))
            self.kept.connect()
        self.kept.queue(memoryview(request.build()))
        return self.kept

    methods = {"routes": routes, "before_routing": before_routing, "handle_route": handle_route}
    return type("ToBackends", (base,), methods)


def main() -> None:
    """Forward until ended."""
    port, *backends, log = sys.argv[1:]
    options = ["--hostname", "127.0.0.1", "--port", port, "--backlog", "4096", "--log-file", log]
    one = ["--num-acceptors", "1", "--num-workers", "1", "--local-executor", "1"]
    # Its main function takes its options from there alone.
    sys.argv[1:] = [*options, *one, "--disable-http-proxy", "--enable-reverse-proxy"]
    import_module("proxy").main(plugins=[plugin([int(backend) for backend in backends])])


if __name__ == "__main__":
    main()
