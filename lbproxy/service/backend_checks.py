"""Which backends are checked and asked for their load, as the settings of their pools want it.

Owns one checker and one load reader for each backend that wants them, however many routes lead to it. Refuses to
know what a check says and what follows from it: results go to the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from twisted.logger import Logger

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.load_report import parse_report
from lbproxy.balancing.pool import Pool
from lbproxy.model_http import LoadReport
from lbproxy.net.checking import Checker, CheckTarget
from lbproxy.net.load_report import LoadReader
from lbproxy.net.polling import Poller
from lbproxy.net.tls.clients import ClientTls
from lbproxy.preamble import local_header


class Reaching(Protocol):
    """Who knows how backends are reached: the BalancerService."""

    def target(self, backend: Backend) -> tuple[int, Any] | None:
        """The socket family of a backend and what connect(2) takes for it; None while its name has no address."""

    def tls_of(self, pool: Pool) -> ClientTls | None:
        """How a pool speaks TLS."""


class BackendChecks:
    """See the module."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        clock: Callable[[], float],
        random: Callable[[], float],
        reaching: Reaching,
    ) -> None:
        """`clock` is monotonic seconds; `random` gives floats in [0, 1)."""
        self._reactor = reactor
        self._poller = poller
        self._clock = clock
        self._random = random
        self._reaching = reaching
        self._checkers: dict[Backend, Checker] = {}
        self._readers: dict[Backend, LoadReader] = {}

    def follow(self, pools: Iterable[Pool]) -> None:
        """From now on check what these pools want, and nothing else. What stays as it was goes on undisturbed."""
        owners = {backend: pool for pool in pools for backend in pool.backends.values()}
        checks = {backend: pool.settings.check for backend, pool in owners.items() if pool.settings.check.enabled}
        loads = {b: load for b, pool in owners.items() if (load := pool.settings.load_report) is not None}
        _stop_others(self._checkers, checks)
        _stop_others(self._readers, loads)
        for backend in checks:
            if backend not in self._checkers:
                self._checkers[backend] = checker = self._checker(owners[backend], backend)
                checker.start()
        for backend, load in loads.items():
            if backend not in self._readers:
                self._readers[backend] = reader = self._reader(owners[backend], backend, load)
                reader.start()

    def stop(self) -> None:
        """Check nothing any more."""
        self.follow(())

    # Checks.

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
        target, address = self._reaching.target(backend), backend.address
        if target is None:
            return None
        settings, (family, where) = pool.settings, target
        port = settings.check.port
        if port is not None and address.kind != "unix":
            where, address = (where[0], port), replace(address, port=port)
        preamble = b"" if settings.send_proxy is None else local_header(settings.send_proxy.version)
        tls = None
        if settings.tls is not None and settings.check.tls:
            tls = self._reaching.tls_of(pool)
            if tls is None:
                return None  # better no check than one that says less than it is asked for
        return CheckTarget(family, where, address, preamble, tls, settings.http.http10)

    # Load reports.

    def _reader(self, pool: Pool, backend: Backend, settings: LoadReport) -> LoadReader:
        name = f"{pool.settings.name}/{backend.id}"
        unknown: tuple[str, ...] = ()

        def where() -> tuple[int, Any] | None:
            # The operator's maintenance, that is; what a report began a report may end.
            target = None if backend.admin == "maint" else self._reaching.target(backend)
            if target is None or backend.address.kind == "unix":
                return None
            family, (host, _) = target
            return family, (host, settings.port)

        def heard(line: bytes) -> None:
            nonlocal unknown
            report = parse_report(line)
            if report.unknown and report.unknown != unknown:
                words = " ".join(report.unknown)
                self.log.warn(
                    "the load report of {backend} has words that mean nothing: {words}", backend=name, words=words
                )
            unknown = report.unknown
            pool.reported(backend, report, self._clock())

        return LoadReader(self._reactor, self._poller, settings, where, heard, self._random, name)


def _stop_others(running: dict[Backend, Any], wanted: dict[Backend, Any]) -> None:
    """End those that nobody wants any more, and those that are wanted in another way."""
    for backend, one in list(running.items()):
        if one.settings != wanted.get(backend):
            running.pop(backend).stop()
