"""CertificateService: what TLS is ended and begun with, kept true to the files.

Owns what runs now, and each step from one state to the next. A configuration is prepared as a whole before anything
changes, so that a reload with a file that cannot be read changes nothing (threats.md L6). Between reloads the files
are watched: what is good is taken as one step for new handshakes, what is bad stays as it was and is told (L12). How a
state is built is in `tls_building`, when files have changed in `watching`, what is stapled in `ocsp`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from lbproxy.certificates import CertificateError, Pair
from lbproxy.config.units import printable
from lbproxy.errors import StartError
from lbproxy.model import Configuration
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.sites import Sites
from lbproxy.service.aside import Aside, aside_of
from lbproxy.service.certificate_news import News
from lbproxy.service.counters import Counters
from lbproxy.service.expiring import Reminders
from lbproxy.service.keylog import KeyLogs
from lbproxy.service.ocsp import Stapler, Wanted
from lbproxy.service.ocsp_seams import Ask
from lbproxy.service.tls_building import Building
from lbproxy.service.tls_state import Built
from lbproxy.service.watching import Watch

# How often certificates are looked through for those that expire (seconds).
_REMIND_SECONDS = 3600.0


class CertificateService(Service):
    """See the module. `sites` and `clients` are what runs now, `problems` what is wrong with files now."""

    name = "certificates"

    def __init__(
        self,
        reactor: Any,
        counters: Counters,
        swapped: Callable[[Mapping[str, Sites]], None],
        *,
        wall: Callable[[], float] = time.time,
        aside: Aside | None = None,
        ask: Ask | None = None,
    ) -> None:
        """`swapped` hears of the listeners' sites when changed files, not a reload, have led to new ones.

        `wall` gives POSIX seconds, `aside` makes calls in another thread, `ask` asks OCSP responders.
        """
        self.sites: Mapping[str, Sites] = {}
        self.clients: Mapping[str, ClientTls] = {}
        self.problems: list[CertificateError] = []
        self.key_logs = KeyLogs(counters.certificates)
        self.stapler = Stapler({}, reactor, wall, ask or _asking(reactor), counters.certificates)
        self._built = Built()
        self._problem_of: Mapping[str, str] = {}
        self._reactor = reactor
        self._news = News(counters.certificates)
        self._swapped = swapped
        self._wall = wall
        self._aside = aside or aside_of(reactor, "certificates")
        self._watch = Watch(reactor, self._aside, self._changed)
        self._reminders = Reminders()
        self._reminding: Any = None

    def startService(self) -> None:
        """Begin to watch, to staple and to write key logs; privileges have been dropped by now."""
        super().startService()
        self._watch.start()
        self._open_key_logs()
        self._attend()

    def stopService(self) -> None:
        """Stop all that. What was made goes on serving the sessions that are still ending."""
        super().stopService()
        self._watch.stop()
        self.stapler.stop()
        self.key_logs.close()
        if self._reminding is not None:
            self._reminding.cancel()
            self._reminding = None

    def problem_of(self, pair: Pair) -> str | None:
        """What is wrong now with the files that `pair` came from; it is served all the same."""
        return self._problem_of.get(pair.path)

    def reopen(self) -> None:
        """After log rotation: begin new key logs."""
        self.key_logs.reopen()

    # Reloads.

    def prepare(self, configuration: Configuration) -> Built:
        """Read and make all that `configuration` asks for. Raises StartError, and changes nothing."""
        try:
            return self._building(configuration, strict=True).build()
        except CertificateError as problem:
            raise StartError(printable(str(problem))) from problem

    def commit(self, prepared: Built) -> None:
        """Go by what was prepared from now on; handshakes that have begun go on as they began."""
        self._take(prepared)
        if self.running:
            self._open_key_logs()

    # Changed files.

    def _changed(self, unsettled: frozenset[str]) -> Deferred[None]:
        before = self._built
        if before.configuration is None:
            raise AssertionError("files are watched before there is a configuration")
        building = self._building(before.configuration, strict=False, unsettled=unsettled)
        return self._aside(building.build).addCallback(self._rebuilt, before)

    def _rebuilt(self, built: Built, before: Built) -> None:
        if not self.running or self._built is not before:
            return  # a reload came first, and has read everything itself
        self._take(built)
        self._swapped(self.sites)

    def _building(
        self, configuration: Configuration, *, strict: bool, unsettled: frozenset[str] = frozenset()
    ) -> Building:
        return Building(
            configuration,
            self._built,
            strict=strict,
            unsettled=unsettled,
            stapled=self.stapler.stapled,
            write_secret=self.key_logs.writer,
            now=self._now(),
        )

    # What runs.

    def _take(self, built: Built) -> None:
        before, self._built = self._built, built
        self.sites, self.clients, self.problems = built.sites, built.clients, built.problems
        files = built.pairs.files.values()
        self._problem_of = {one.settings.path: str(one.problem) for one in files if one.problem is not None}
        self._news.tell_problems(before.problems, built.problems)
        if before.configuration is built.configuration:
            self._news.tell_changes(before, built)
        if self.running:
            self._attend()

    def _attend(self) -> None:
        """Let all parts go by what runs now."""
        self.stapler.serve(self._wanted())
        self._watch.watch(self._built.stamps())
        self._remind()

    def _wanted(self) -> Iterator[Wanted]:
        for sites in self.sites.values():
            for pair in sites.pairs:
                yield Wanted(pair, sites.settings.ocsp_fetch)

    def _open_key_logs(self) -> None:
        named = (sites.settings.keylog for sites in self.sites.values())
        self.key_logs.configure(path for path in named if path is not None)

    def _remind(self) -> None:
        if self._reminding is not None and self._reminding.active():
            self._reminding.cancel()
        self._reminding = None
        pairs = [pair for sites in self.sites.values() for pair in sites.pairs]
        self._reminders.remind(pairs, self._now())
        if pairs:
            self._reminding = self._reactor.callLater(_REMIND_SECONDS, self._remind)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)


def _asking(reactor: Any) -> Ask:
    """As ocsp_asking.asking, imported with the first question.

    It needs Twisted's endpoints, which take LISTEN_FDS out of the environment as soon as they are imported.
    """
    asks: list[Ask] = []

    def ask(url: str, request: bytes) -> Deferred[bytes]:
        if not asks:
            from lbproxy.service.ocsp_asking import asking

            asks.append(asking(reactor))
        return asks[0](url, request)

    return ask
