"""Names of backends: asked again and again, the last good answer kept.

Owns which addresses a host name stands for right now. The system's own resolver answers (hosts file, NSS), in
threads, so it honours what the operator configured for the machine; it tells no TTL, hence the fixed rhythm.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

REFRESH_SECONDS = 10.0
_FIRST_RETRY = 1.0
_LONGEST_RETRY = 30.0
_SPREAD = 0.1
_MOST_ADDRESSES = 64


@implementer(IResolutionReceiver)
class _Answer:
    """Gathers one answer of the reactor's resolver, then hands it over."""

    def __init__(self, done: Callable[[tuple[str, ...]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """See IResolutionReceiver."""

    def addressResolved(self, address: object) -> None:
        """See IResolutionReceiver."""
        if isinstance(address, (IPv4Address, IPv6Address)) and address.host not in self._found:
            self._found.append(address.host)

    def resolutionComplete(self) -> None:
        """See IResolutionReceiver."""
        self._done(tuple(self._found[:_MOST_ADDRESSES]))


@implementer(IHostResolution)
class _LookUp:
    """One question to the system's resolver, on its way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """See IHostResolution: what getaddrinfo(3) has begun cannot be called off; the answer is thrown away."""


@implementer(IHostnameResolver)
class SystemResolver:
    """Asks the system's resolver, each question in a thread that nobody waits for.

    Twisted's own resolver asks in the reactor's pool of threads, which is joined at the end: a name server that does
    not answer would then keep a stopped process alive for half a minute.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See IHostnameResolver."""
        look_up = _LookUp(hostName)
        resolutionReceiver.resolutionBegan(look_up)
        wanted = tuple(addressTypes or (IPv4Address, IPv6Address))

        def answer(addresses: list[IPv4Address | IPv6Address]) -> None:
            for address in addresses:
                if isinstance(address, wanted):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        def ask() -> None:
            self._reactor.callFromThread(answer, _system_addresses(hostName, portNumber))

        threading.Thread(target=ask, name=f"resolve {hostName}", daemon=True).start()
        return look_up


def _system_addresses(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    kinds = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}
    return [kinds[family]("TCP", str(target[0]), port) for family, *_, target in found if family in kinds]


class Name:
    """One host name, watched. `addresses` is the last good answer; `current` the one to dial now."""

    log = Logger()

    def __init__(self, reactor: Any, host: str, random: Callable[[], float], changed: Callable[[Name], None]) -> None:
        """`changed` is called with this name when its answer has become another one."""
        self.host = host
        self.addresses: tuple[str, ...] = ()
        self._current = 0
        self._reactor = reactor
        self._random = random
        self._changed = changed
        self._retry = _FIRST_RETRY
        self._failing = False
        self._next: Any = None
        self._stopped = True

    @property
    def current(self) -> str | None:
        """The address to dial now; None while there never was an answer."""
        return self.addresses[self._current] if self.addresses else None

    def next_address(self) -> None:
        """The current address did not answer: dial another one of the same name next."""
        if self.addresses:
            self._current = (self._current + 1) % len(self.addresses)

    def start(self) -> None:
        """Ask now, and then for ever."""
        self._stopped = False
        self._ask()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _ask(self) -> None:
        self._reactor.nameResolver.resolveHostName(_Answer(self._answered), self.host)

    def _answered(self, addresses: tuple[str, ...]) -> None:
        if self._stopped:
            return
        delay = REFRESH_SECONDS
        if addresses:
            self._retry = _FIRST_RETRY
            self._take(addresses)
        else:
            delay, self._retry = self._retry, min(2 * self._retry, _LONGEST_RETRY)
            self._say_failing()
        jitter = 1 + _SPREAD * (2 * self._random() - 1)
        self._next = self._reactor.callLater(delay * jitter, self._ask)

    def _take(self, addresses: tuple[str, ...]) -> None:
        if self._failing:
            self._failing = False
            self.log.info("name {host} resolves again", host=self.host)
        # As a set: resolvers rotate their answers, which is no change.
        if set(addresses) == set(self.addresses):
            return
        current = self.current
        self.addresses = addresses
        self._current = addresses.index(current) if current in addresses else 0
        self.log.info("name {host} is {addresses}", host=self.host, addresses=", ".join(addresses))
        self._changed(self)

    def _say_failing(self) -> None:
        if not self._failing:
            self._failing = True
            kept = ", ".join(self.addresses) or "none: its backends are not used"
            self.log.warn("name {host} does not resolve; addresses kept: {kept}", host=self.host, kept=kept)
