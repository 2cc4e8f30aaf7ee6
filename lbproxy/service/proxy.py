"""ProxyService: a whole lbproxy, as one Twisted service.

Owns the parts and their order: bind before privileges are dropped, serve, reload, stop. What each part does is in its
own module.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lbproxy import errors
from lbproxy.config import Loaded, Problem
from lbproxy.errors import StartError
from lbproxy.model import Configuration, LogSettings, RecordSettings
from lbproxy.net.admission import Total
from lbproxy.net.polling import poller_for
from lbproxy.net.resolving import SystemResolver
from lbproxy.net.worker import Worker, descriptor_limit, linger_limit, pipe_limit
from lbproxy.service.balancer import BalancerService
from lbproxy.service.caching import CachingService
from lbproxy.service.certificates import CertificateService
from lbproxy.service.control import ControlService
from lbproxy.service.counters import Counters, Stamps
from lbproxy.service.listeners import Listeners
from lbproxy.service.notify import notify_systemd
from lbproxy.service.records import RecordWriter
from lbproxy.service.signals import Signals
from lbproxy.service.stopping import SERVING, Stopping
from lbproxy.session.account import Account
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange_record import record_of_exchange, status_of
from lbproxy.session.record import record_of
from lbproxy.session.relay import Relay

# Descriptors kept for everything that is not a session: logs, checks, the control socket, pipes.
_RESERVED_DESCRIPTORS = 100
# Containers that are made and not freed before the collector looks for cycles.
_ALLOCATIONS = 20_000


class ProxyService(MultiService):
    """See the module. `configuration` is what runs now; `load` reads it anew, None where there is no file."""

    log = Logger()

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        load: Callable[[], Loaded] | None = None,
        observe: Callable[[LogSettings | None], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] | None = None,
    ) -> None:
        """`observe` lets the log go by other settings, or (None) reopens its file. `clock` is monotonic seconds,
        `chance` gives floats in [0, 1).
        """
        super().__init__()
        self.setName("lbproxy")
        self.configuration = configuration
        self.reactor = reactor
        self.clock = clock
        self.started = clock()
        self.counters = Counters()
        self.total = Total(_session_limit(configuration))
        self.listeners = Listeners(self.total)
        self.records = RecordWriter(RecordSettings(to="none"), reactor)
        chance = chance or random.SystemRandom().random
        self.certificates = CertificateService(reactor, self.counters, self.listeners.use_sites)
        self.certificates.setServiceParent(self)
        self.balancer = BalancerService(
            reactor, poller_for(reactor), clock, random.Random(chance()).random, self.certificates
        )
        self.balancer.setServiceParent(self)
        self.balancer.configure(configuration.pools)
        self.worker = Worker(
            reactor,
            self.balancer,
            self._ended,
            self._fault,
            buffers=configuration.limits.buffers,
            handshakes=configuration.limits.handshakes,
            answered=self._answered,
            conversation_over=self._conversation_over,
            clock=clock,
        )
        self.caching = CachingService(reactor, self.worker, clock)
        self.caching.setServiceParent(self)
        self.control = ControlService(self, configuration.control)
        self.control.setServiceParent(self)
        self.stopping = Stopping(reactor, self)
        self.signals = Signals(reactor, self.reload_and_log, self._stop_asked, self.reopen)
        self._load = load
        self._observe = observe or _unobserved
        self._stamps = Stamps(clock)
        self._grace = True
        self._prepared = False

    @property
    def cache_desk(self) -> CachingService | None:
        """Who knows what is stored; None while no route caches."""
        return None if self.worker.cache is None else self.caching

    # Starting.

    def privilegedStartService(self) -> None:
        """Bind. Raises StartError: a listener that cannot be had ends the start, before anybody is served."""
        super().privilegedStartService()
        self._bind()

    def _bind(self) -> None:
        """The second call, without privileges, finds everything done."""
        try:
            self.listeners.open(self.configuration)
            if not self._prepared:
                # Keys are often readable by root alone.
                self.certificates.commit(self.certificates.prepare(self.configuration))
                self._prepared = True
        except StartError as problem:
            self.log.error("{problem}", problem=problem)
            raise

    def startService(self) -> None:
        """Serve. Raises StartError when records have no place to go."""
        self.reactor.installNameResolver(SystemResolver(self.reactor))
        super().startService()
        # Only now: privileges have been dropped, and the file shall belong to the user who serves.
        self.records.configure(self.configuration.records)
        self._bind()  # for those who run this service without twistd; nothing is left to do after the above
        self.worker.start()
        self.caching.configure(self.configuration)
        self.listeners.apply(self.configuration, self.worker, self.certificates.sites)
        self.reactor.callWhenRunning(self._ready)
        for name in self.listeners.by_name:
            self.log.info("listener {name} accepts on {binds}", name=name, binds=", ".join(self.listeners.bound(name)))

    def _ready(self) -> None:
        """The reactor runs. Only now may anybody be told: a signal before this would have met no handler of ours."""
        self.signals.install()
        # Not earlier than that: Twisted's own handlers would complain about a signal that comes while the reactor ends.
        self.reactor.addSystemEventTrigger("after", "shutdown", self.signals.uninstall)
        # What is here now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        # Sessions are freed without the collector; that it looks seldom saves a twentieth of new connections.
        gc.set_threshold(_ALLOCATIONS, 20, 20)
        notify_systemd("READY=1")

    # Sessions.

    def _ended(self, session: Relay | Conversation, now: float) -> None:
        counters = self.counters
        pool = session.pool
        counters.ended["" if pool is None else pool.settings.name, session.outcome.word] += 1
        if session.rule:
            counters.rules[session.rule] += 1
        if session.client is not None:
            counters.bytes_from_clients += session.client.bytes_in
        if session.backend_side is not None:
            counters.bytes_from_backends += session.backend_side.bytes_in
        if self.records.enabled:
            ts = self._stamps.text(session.started, now)
            self.records.write(record_of(session, ts, now, self.total.sessions))
        if self.stopping.state != SERVING:
            self.stopping.session_ended()

    def _answered(self, exchange: Account, now: float) -> None:
        """An exchange has ended. What its backend sent is counted as it went to the client: the rest has no owner."""
        counters = self.counters
        pool = exchange.pool
        counters.ended["" if pool is None else pool.settings.name, exchange.outcome.word] += 1
        status = exchange.status or status_of(exchange)
        counters.http_requests[exchange.conversation.gate.name, status // 100] += 1
        if exchange.rule:
            counters.rules[exchange.rule] += 1
        stream = exchange.stream
        counters.bytes_from_clients += stream.taken
        if exchange.coder is not None:
            counters.packed(exchange.coder.coding, *exchange.coder.sizes)
        elif exchange.cached is not None and exchange.cached.packed >= 0 and exchange.cached.plain >= 0:
            cached = exchange.cached
            counters.packed(cached.coding, cached.plain, cached.packed)
        if exchange.answer is not None:
            counters.bytes_from_backends += stream.given
        if self.records.enabled:
            ts = self._stamps.text(exchange.began, now)
            self.records.write(record_of_exchange(exchange, ts, now, self.total.sessions))

    def _conversation_over(self, _conversation: Conversation) -> None:
        if self.stopping.state != SERVING:
            # Not at once: the record of one that ended in its opening is written after this.
            self.reactor.callLater(0, self.stopping.session_ended)

    def _fault(self, problem: BaseException) -> None:
        self.counters.exceptions += 1
        if self.counters.exceptions <= 10 or self.counters.exceptions % 1000 == 0:
            self.log.failure("a fault of lbproxy ended one session", Failure(problem))

    # Reloading.

    def reload(self) -> tuple[Problem, ...]:
        """Read the configuration anew and go by it; returns its problems. With an error among them nothing changed."""
        if self._load is None:
            return (Problem("", 0, "", "there is no configuration file to read again", "error"),)
        if self.stopping.state != SERVING:
            return (Problem("", 0, "", "it is stopping: nothing is reloaded any more", "error"),)
        notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        loaded = self._load()
        problems = loaded.problems
        if loaded.configuration is not None:
            try:
                self.apply(loaded.configuration)
            except StartError as problem:
                file = loaded.configuration.file or ""
                problems = (*problems, Problem(file, 0, "", str(problem), "error"))
        failed = any(problem.severity == "error" for problem in problems)
        self.counters.reloads["failed" if failed else "ok"] += 1
        notify_systemd("READY=1")
        return problems

    def apply(self, configuration: Configuration) -> None:
        """Go by `configuration` from now on. Raises StartError, and then everything is as before."""
        prepared = self.certificates.prepare(configuration)
        self.listeners.open(configuration)
        try:
            self.records.configure(configuration.records)
        except StartError:
            self.listeners.abandon()
            raise
        self.certificates.commit(prepared)
        self.configuration = configuration
        self.total.limit = _session_limit(configuration)
        self.worker.budget.limit = configuration.limits.buffers
        self.worker.handshakes.limit = configuration.limits.handshakes
        self.balancer.configure(configuration.pools)
        self.caching.configure(configuration)
        self.listeners.apply(configuration, self.worker, self.certificates.sites)
        self.control.configure(configuration.control)
        self._observe(configuration.log)

    def reload_and_log(self) -> None:
        """What SIGHUP does."""
        problems = self.reload()
        failed = any(problem.severity == "error" for problem in problems)
        for problem in problems:
            (self.log.error if problem.severity == "error" else self.log.warn)("{problem}", problem=str(problem))
        if failed:
            self.log.error("reload refused: the configuration that ran before goes on")
        else:
            self.log.info("reloaded: {listeners} listeners, {pools} pools", **self._sizes())

    def reopen(self) -> None:
        """What SIGUSR1 does: begin new files for records and log, after their rotation."""
        self.records.reopen()
        self.certificates.reopen()
        try:
            self._observe(None)
        except OSError as problem:
            self.log.error("the log goes on to the old file: {problem}", problem=str(problem))
        else:
            self.log.info("log files were opened again")

    def _sizes(self) -> dict[str, int]:
        return {"listeners": len(self.listeners.by_name), "pools": len(self.balancer.pools)}

    # Stopping.

    def _stop_asked(self, *, grace: bool) -> bool:
        """A signal asks to stop; False when that was asked before, and everything ends now."""
        if self.stopping.state == SERVING:
            self._grace = grace
            return True
        self.log.warn("asked again to stop: ending at once")
        self.stopping.end()
        return False

    def stopService(self) -> Deferred[None]:
        """Stop in order; the Deferred fires with None when the last session has ended."""
        notify_systemd("STOPPING=1")
        done = self.stopping.begin(self.configuration.stop, grace=self._grace)
        return done.addCallback(self._stop_parts)

    def _stop_parts(self, _: None) -> Any:
        self.worker.stop()
        self.records.close()
        return super().stopService()

    def close_listeners(self) -> None:
        """See Stopped. Clients that speak HTTP are told with their next answer that it is the last one."""
        self.listeners.close()
        self.worker.drain()

    def kill_sessions(self) -> int:
        """See Stopped."""
        sessions = self.worker.sessions()
        for session in sessions:
            session.kill(errors.KILLED_BY_OPERATOR)
        return len(sessions)

    def session_count(self) -> int:
        """See Stopped."""
        return self.total.sessions


def _session_limit(configuration: Configuration) -> int:
    """How many sessions the process may have: as configured, else what its descriptors allow."""
    if configuration.limits.max_connections is not None:
        return configuration.limits.max_connections
    descriptors = descriptor_limit()
    # Where that would leave nearly nothing, a quarter is for clients: two descriptors each, and some to spare.
    apart = _RESERVED_DESCRIPTORS + 2 * pipe_limit() + linger_limit()
    return max((descriptors - apart) // 2, descriptors // 4)


def _unobserved(_: LogSettings | None) -> None:
    """Where there is no log of ours to go by."""
