"""The listeners of a running lbproxy, and the listening sockets they stand on.

Owns the sockets: they live from reload to reload as long as any listener wants their address, so an unchanged address
keeps its accept queue, whatever happens around it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.logger import Logger

from lbproxy.addresses import Address
from lbproxy.model import Configuration, ListenerSettings, Timeouts
from lbproxy.net.admission import Total
from lbproxy.net.binding import BindError, open_listening, passed_sockets, remove_unix_path
from lbproxy.net.listening import Listener
from lbproxy.net.tls.sites import Sites
from lbproxy.net.worker import Worker
from lbproxy.routing import RoutingTable


class Listeners:
    """`by_name` are the listeners; `open` then `apply` take a configuration over, and `close` ends them."""

    log = Logger()

    def __init__(self, total: Total) -> None:
        self.by_name: dict[str, Listener] = {}
        self._total = total
        self._sockets: dict[Address, list[socket.socket]] = {}
        self._passed: Mapping[str, list[int]] = passed_sockets(os.environ, os.getpid())

    def open(self, configuration: Configuration) -> None:
        """Bind what this configuration wants and nobody has yet. Raises BindError, and then nothing has changed."""
        opened: list[Address] = []
        try:
            for listener in configuration.listeners:
                for address in listener.binds:
                    if address not in self._sockets:
                        self._sockets[address] = open_listening(address, listener.backlog, self._passed)
                        opened.append(address)
        except BindError:
            for address in opened:
                self._close_sockets(address)
            raise

    def apply(self, configuration: Configuration, worker: Worker, sites: Mapping[str, Sites]) -> None:
        """Have exactly these listeners; their sockets are open already. Sessions of those that go are left alone.

        `sites` are what those listeners end TLS with that do, by their names.
        """
        table = RoutingTable(configuration)
        wanted = {listener.name: listener for listener in configuration.listeners}
        for name in self.by_name.keys() - wanted.keys():
            listener = self.by_name.pop(name)
            listener.close()
            worker.drain(listener)
        for name, settings in wanted.items():
            http = settings.protocol == "http"
            routes = table.for_http_listener(name) if http else table.for_listener(name)
            timeouts = _timeouts(configuration, settings)
            present = self.by_name.get(name)
            if present is None:
                self.by_name[name] = Listener(settings, routes, worker, self._total, timeouts, sites.get(name))
            else:
                present.configure(settings, routes, timeouts, sites.get(name))
        # Two rounds: an address that moves from one listener to another is let go before it is taken.
        for final in (False, True):
            for name, settings in wanted.items():
                listener = self.by_name[name]
                sockets = [sock for address in settings.binds for sock in self._sockets[address]]
                standing = {port.sock for port in listener.ports}
                listener.accept_on(sockets if final else [sock for sock in sockets if sock in standing])
        self.abandon()

    def use_sites(self, sites: Mapping[str, Sites]) -> None:
        """Certificates have changed: end TLS with these from now on, by the names of their listeners."""
        for name, one in sites.items():
            if name in self.by_name:
                self.by_name[name].use_sites(one)

    def abandon(self) -> None:
        """Give up the addresses that no listener has: those of before, or those that were opened in vain."""
        used = {address for listener in self.by_name.values() for address in listener.settings.binds}
        for address in self._sockets.keys() - used:
            self._close_sockets(address)

    def close(self) -> None:
        """Stop accepting for good and give the addresses up."""
        for listener in self.by_name.values():
            listener.accept_on(())
        for address in list(self._sockets):
            self._close_sockets(address)

    def bound(self, name: str) -> list[str]:
        """The addresses that a listener really has, as text."""
        return [str(address) for address in self.by_name[name].settings.binds if address in self._sockets]

    def _close_sockets(self, address: Address) -> None:
        for sock in self._sockets.pop(address):
            try:
                if address.kind == "unix":
                    remove_unix_path(sock)
            except OSError as problem:
                # The directory may not be ours any more, after privileges were dropped. The next start clears it away.
                self.log.warn("{address} stays behind: {problem}", address=str(address), problem=problem.strerror)
            finally:
                sock.close()


def _timeouts(configuration: Configuration, listener: ListenerSettings) -> Timeouts:
    return listener.timeouts.over(configuration.timeouts.over(Timeouts()))
