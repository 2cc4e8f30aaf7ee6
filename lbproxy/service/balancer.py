"""BalancerService: the pools, and what keeps them true.

Owns the pools of a running lbproxy, their names' addresses and their clock tick; backend_checks.py looks after their
health. It chooses nothing itself: choosing is in `balancing/`, reached through `pools`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.change import Change
from lbproxy.balancing.pool import Pool
from lbproxy.model import PoolSettings
from lbproxy.net.dialing import target_of
from lbproxy.net.polling import Poller
from lbproxy.net.resolving import Name
from lbproxy.net.tls.clients import ClientTls
from lbproxy.service.backend_checks import BackendChecks
from lbproxy.service.certificates import CertificateService

TICK_SECONDS = 0.5

Target = tuple[int, Any]


class BalancerService(Service):
    """See the module. Fills `Balancer` of net/backend.py."""

    log = Logger()
    name = "balancer"

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        clock: Callable[[], float],
        random: Callable[[], float],
        certificates: CertificateService,
    ) -> None:
        """`clock` is monotonic seconds; `random` gives floats in [0, 1). `certificates` knows the pools' TLS."""
        self._certificates = certificates
        self.pools: dict[str, Pool] = {}
        self._reactor = reactor
        self._clock = clock
        self._random = random
        self._checks = BackendChecks(reactor, poller, clock, random, self)
        self._names: dict[str, Name] = {}
        self._targets: dict[Address, Target] = {}
        self._ticking: Any = None

    def configure(self, settings: tuple[PoolSettings, ...]) -> None:
        """Have these pools from now on. Those that stay keep their backends' health, counts and leases."""
        now = self._clock()
        wanted = {one.name: one for one in settings}
        for name in self.pools.keys() - wanted.keys():
            self.pools.pop(name).close(now)
        for name, one in wanted.items():
            if name in self.pools:
                self.pools[name].reconfigure(one, now)
            else:
                self.pools[name] = Pool(one, self._random, now, self._changed)
        self._watch_names()
        if self.running:
            self._checks.follow(self.pools.values())

    def startService(self) -> None:
        """Begin to check, to resolve and to tick."""
        super().startService()
        self._watch_names()
        self._checks.follow(self.pools.values())
        self._ticking = self._reactor.callLater(TICK_SECONDS, self._tick)

    def stopService(self) -> None:
        """Stop all that; the pools stay usable for sessions that are still ending."""
        super().stopService()
        self._checks.stop()
        for name in self._names.values():
            name.stop()
        self._names.clear()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    # Balancer.

    def target(self, backend: Backend) -> Target | None:
        """See Balancer."""
        address = backend.address
        target = self._targets.get(address)
        if target is None and address.kind != "name":
            target = self._targets[address] = target_of(address)
        return target

    def tls_of(self, pool: Pool) -> ClientTls | None:
        """See Balancer."""
        return self._certificates.clients.get(pool.settings.name)

    def unreachable(self, backend: Backend) -> None:
        """See Balancer."""
        if backend.address.kind == "name":
            name = self._names.get(backend.address.host)
            if name is not None:
                name.next_address()
                self._resolved(name)

    # Names.

    def _watch_names(self) -> None:
        if not self.running:
            return
        hosts = {b.address.host for pool in self.pools.values() for b in pool.backends.values() if _named(b)}
        for host in self._names.keys() - hosts:
            self._names.pop(host).stop()
        for host in sorted(hosts - self._names.keys()):
            name = self._names[host] = Name(self._reactor, host, self._random, self._resolved)
            name.start()
        for name in self._names.values():
            self._resolved(name)

    def _resolved(self, name: Name) -> None:
        now, current = self._clock(), name.current
        for pool in self.pools.values():
            for backend in pool.backends.values():
                address = backend.address
                if not _named(backend) or address.host != name.host:
                    continue
                if current is not None:
                    self._targets[address] = target_of(Address("ip", current, address.port))
                if backend.resolved != (current is not None):
                    pool.set_resolved(backend, current is not None, now)

    # The rest.

    def _tick(self) -> None:
        self._ticking = self._reactor.callLater(TICK_SECONDS, self._tick)
        now = self._clock()
        for pool in self.pools.values():
            pool.tick(now)

    def _changed(self, change: Change) -> None:
        self.log.info(
            "backend {pool}/{backend} is {new} (was {old}): {reason}, {evidence}",
            pool=change.pool,
            backend=change.backend,
            old=change.old,
            new=change.new,
            reason=change.reason,
            evidence=change.evidence,
        )


def _named(backend: Backend) -> bool:
    return backend.address.kind == "name"
