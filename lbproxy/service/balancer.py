"""BalancerService: the pools, and what keeps them true.

Owns the pools of a running lbproxy with their checks, their names' addresses and their clock tick. It chooses nothing
itself: choosing is in `balancing/`, reached through `pools`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.change import Change
from lbproxy.balancing.pool import Pool
from lbproxy.model import PoolSettings
from lbproxy.net.checking import Checker, CheckTarget
from lbproxy.net.dialing import target_of
from lbproxy.net.polling import Poller
from lbproxy.net.resolving import Name
from lbproxy.net.tls.clients import ClientTls
from lbproxy.preamble import local_header
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
        self._poller = poller
        self._clock = clock
        self._random = random
        self._checkers: dict[Backend, Checker] = {}
        self._names: dict[str, Name] = {}
        self._targets: dict[Address, Target] = {}
        self._ticking: Any = None

    def configure(self, settings: tuple[PoolSettings, ...]) -> None:
        """Have these pools from now on. Those that stay keep their backends' health, counts and leases."""
        now = self._clock()
        wanted = {one.name: one for one in settings}
        for name in self.pools.keys() - wanted.keys():
            self._drop(self.pools.pop(name), now)
        for name, one in wanted.items():
            if name in self.pools:
                for backend in self.pools[name].reconfigure(one, now):
                    self._stop_checking(backend)
            else:
                self.pools[name] = Pool(one, self._random, now, self._changed)
        self._watch_names()
        if self.running:
            self._start_checking()

    def startService(self) -> None:
        """Begin to check, to resolve and to tick."""
        super().startService()
        self._watch_names()
        self._start_checking()
        self._ticking = self._reactor.callLater(TICK_SECONDS, self._tick)

    def stopService(self) -> None:
        """Stop all that; the pools stay usable for sessions that are still ending."""
        super().stopService()
        for checker in self._checkers.values():
            checker.stop()
        self._checkers.clear()
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

    # Checks.

    def _start_checking(self) -> None:
        for pool in self.pools.values():
            settings = pool.settings
            for backend in pool.backends.values():
                checker = self._checkers.get(backend)
                if checker is not None and (checker.settings != settings.check or not settings.check.enabled):
                    self._stop_checking(backend)
                if settings.check.enabled and backend not in self._checkers:
                    self._checkers[backend] = checker = self._checker(pool, backend)
                    checker.start()

    def _checker(self, pool: Pool, backend: Backend) -> Checker:
        def where() -> CheckTarget | None:
            return None if backend.admin == "maint" else self._check_target(pool, backend)

        def told(code: str, detail: str) -> None:
            now = self._clock()
            if code.endswith("OK"):
                pool.check_passed(backend, code, now)
            elif code != "SOCKERR":  # that we have no socket to ask with says nothing about the backend
                pool.check_failed(backend, code, now, detail)

        return Checker(self._reactor, self._poller, pool.settings.check, where, told, self._random)

    def _check_target(self, pool: Pool, backend: Backend) -> CheckTarget | None:
        target, address = self.target(backend), backend.address
        if target is None:
            return None
        settings, (family, where) = pool.settings, target
        port = settings.check.port
        if port is not None and address.kind != "unix":
            where, address = (where[0], port), replace(address, port=port)
        preamble = b"" if settings.send_proxy is None else local_header(settings.send_proxy.version)
        tls = None
        if settings.tls is not None and settings.check.tls:
            tls = self.tls_of(pool)
            if tls is None:
                return None  # better no check than one that says less than it is asked for
        return CheckTarget(family, where, address, preamble, tls)

    def _stop_checking(self, backend: Backend) -> None:
        checker = self._checkers.pop(backend, None)
        if checker is not None:
            checker.stop()

    # The rest.

    def _drop(self, pool: Pool, now: float) -> None:
        for backend in pool.backends.values():
            self._stop_checking(backend)
        pool.close(now)

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
