"""What all sessions of one process share.

A worker is one process that serves: it has a poller, a clock, a wheel of deadlines, a budget for held bytes, pipes,
and the factory of backend sides. It owns no listener and no pool.
"""

from __future__ import annotations

import itertools
import random
import resource
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from lbproxy.balancing.pool import Pool
from lbproxy.compress.effort import Effort
from lbproxy.errors import LOCAL_RESOURCE, OK
from lbproxy.http.dates import date_line
from lbproxy.http.identity import RequestIds, via_name
from lbproxy.net.backend import Balancer, ProxyClientFactory
from lbproxy.net.http1.client import ClientConnection
from lbproxy.net.http1.factory import HttpClientFactory
from lbproxy.net.http1.idle import IdleConnections
from lbproxy.net.lingering import Lingering
from lbproxy.net.polling import poller_for
from lbproxy.net.splicing import Pipes
from lbproxy.net.tls.handshakes import Handshakes
from lbproxy.net.tls.way import channel_class
from lbproxy.net.transport import Budget
from lbproxy.net.wheel import Timed, Wheel
from lbproxy.routing.keys import KeyOf, key_reader
from lbproxy.session.account import Account
from lbproxy.session.arrival import Arrival
from lbproxy.session.conversation import Conversation
from lbproxy.session.filling import Filling
from lbproxy.session.mirroring import Copies, mirror
from lbproxy.session.relay import Relay
from lbproxy.session.seams import ClientSide, Gate
from lbproxy.session.shared_cache import SharedCache
from lbproxy.session.sticking import Sticking


def descriptor_limit() -> int:
    """How many file descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def pipe_limit() -> int:
    """How many pipes, of two descriptors each, bulk may take."""
    return min(1024, descriptor_limit() // 32)


def linger_limit() -> int:
    """How many clients may be closed gently at the same time, with a descriptor for each."""
    return min(256, descriptor_limit() // 64)


def _holds(session: Arrival) -> int:
    return session.holds


def _unheard(_exchange: Account, _now: float) -> None:
    """Nobody wants to hear of exchanges."""


def _unheard_too(_conversation: Conversation) -> None:
    """Nobody wants to hear of conversations."""


def _waiting_since(conversation: Conversation) -> float:
    return conversation.waiting_since


class Worker:
    """See the module. Fills `World` for sessions and `RelayShared` for their sides."""

    def __init__(
        self,
        reactor: Any,
        balancer: Balancer,
        ended: Callable[[Relay | Conversation, float], None],
        fault: Callable[[BaseException], None],
        *,
        buffers: int,
        handshakes: int = 256,
        answered: Callable[[Account, float], None] = _unheard,
        conversation_over: Callable[[Conversation], None] = _unheard_too,
        random: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`ended` hears of every session's end, `answered` of every exchange's and `conversation_over` of every client
        that spoke HTTP and has left, `fault` of every exception of ours; `buffers` is in bytes, `handshakes` how many
        may be under way at once.
        """
        self.reactor = reactor
        self.clock = clock
        self.wall = wall
        self.handshakes = Handshakes(handshakes, clock, self.later)
        self.channel_class = channel_class()
        self.lingering: set[Lingering] = set()
        self.most_lingering = linger_limit()
        self.poller = poller_for(reactor)
        self.budget = Budget(buffers)
        self.pipes = Pipes(pipe_limit())
        self.wheel = Wheel(clock(), self._expiry_broken)
        self.factory = ProxyClientFactory(balancer, self)
        self.pools: Mapping[str, Pool] = balancer.pools
        self.ended = ended
        self.answered = answered
        self.conversation_over = conversation_over
        self.fault = fault
        self.random = random
        self.idle = IdleConnections(self)
        self.http_factory = HttpClientFactory(balancer, self)
        self.ids = RequestIds(secrets.token_bytes)
        # What tells this instance from others in Via.
        self.instance = via_name(secrets.token_hex(4).encode())
        self.copies = Copies()
        self.mirror = mirror
        self.cache: SharedCache | None = None
        self.filling = Filling()
        self.effort = Effort()
        self._sticky_key = secrets.token_bytes(32)
        self._sticking: dict[str, Sticking] = {}
        self._keys: dict[str, KeyOf] = {}
        self._date = b""
        self._date_second = -1
        # Unique among instances too, since backends and logs of several may meet.
        self._id_prefix = secrets.token_hex(5)
        self._ids = itertools.count()
        self._ticking: Any = None
        self._running = False
        self.when_room: list[Callable[[], None]] = []
        self.shed_total = 0

    def later(self, delay: float, call: Callable[[], None]) -> Any:
        """See RelayShared."""
        return self.reactor.callLater(delay, call)

    def aside(self, call: Callable[[], bytes], then: Callable[[bytes | None], None]) -> None:
        """See World."""

        def run() -> None:
            try:
                made: bytes | None = call()
            except Exception:
                made = None  # who asked for it finds another way
            self.reactor.callFromThread(then, made)

        self.reactor.callInThread(run)

    def room_again(self) -> None:
        """A session has ended while some listener was full: all may accept again, and find out whether they can."""
        for resume in self.when_room:
            resume()

    def sessions(self) -> list[Arrival]:
        """All sessions under way."""
        return [timed for timed in self.wheel if isinstance(timed, Arrival)]

    def drain(self, gate: Gate | None = None) -> None:
        """Let conversations in HTTP end with the answer at hand: those of this listener, or (None) all of them."""
        for session in self.sessions():
            if isinstance(session, Conversation) and gate in (None, session.gate):
                session.drain()

    def make_room(self) -> None:
        """No further client can be accepted: close some of those that have waited longest for their next request."""
        idle = [session for session in self.sessions() if isinstance(session, Conversation) and session.idle]
        idle.sort(key=_waiting_since)
        for session in idle[: max(1, len(idle) // 16)]:
            session.over(OK)

    # What exchanges ask for: see World.

    def key_of(self, hash_key: str) -> KeyOf:
        """See World."""
        reader = self._keys.get(hash_key)
        if reader is None:
            reader = self._keys[hash_key] = key_reader(hash_key)
        return reader

    def sticking(self, pool: Pool) -> Sticking:
        """See World. Settings that change make it anew: what was learnt by other rules is worth nothing."""
        settings = pool.settings.http.sticky
        name = pool.settings.name
        sticking = self._sticking.get(name)
        if sticking is None or sticking.settings != settings:
            assert settings is not None  # it is asked where there are some
            sticking = self._sticking[name] = Sticking(name, settings, self._sticky_key)
        return sticking

    def http_side(self, client: ClientSide | None) -> ClientConnection:
        """See World."""
        assert isinstance(client, ClientConnection)  # the listener makes these for conversations
        return client

    def date(self) -> bytes:
        """The line of the field Date, for now."""
        second = int(self.wall())
        if second != self._date_second:
            self._date_second = second
            self._date = date_line(second)
        return self._date

    def new_id(self) -> str:
        """See World."""
        return f"{self._id_prefix}{next(self._ids):08x}"

    def start(self) -> None:
        """Begin to turn the wheel."""
        self._running = True
        self.wake()

    def stop(self) -> None:
        """Stop the wheel and close what is pooled."""
        self._running = False
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        self.pipes.close()
        self.idle.close()
        for one in list(self.lingering):
            one.end()

    def session_time(self) -> float:
        """The time at which a new session begins. The wheel sleeps while there are none, and wakes here."""
        self.wheel.now = now = self.clock()
        if self._ticking is None:
            self.wake()
        return now

    def wake(self) -> None:
        """Turn the wheel until it is empty."""
        if self._running and self._ticking is None:
            self.wheel.advance(self.clock())
            self._ticking = self.reactor.callLater(self.wheel.tick, self._tick)

    def over_budget(self) -> None:
        """All sides together hold too much (threats.md R2): end those who hold most, until a quarter of it is free.

        Each direction is paused already while it holds anything. To pause everybody else as well would let a few
        thousand slow readers stop the whole process, for as long as they like.
        """
        enough = self.budget.limit * 3 // 4
        for session in sorted(self.sessions(), key=_holds, reverse=True):
            if self.budget.used <= enough:
                break
            self.shed_total += 1
            session.kill(LOCAL_RESOURCE)

    def _tick(self) -> None:
        self._ticking = None
        self.wheel.advance(self.clock())
        if self._running and self._ticking is None and self.wheel:
            self._ticking = self.reactor.callLater(self.wheel.tick, self._tick)

    def _expiry_broken(self, timed: Timed, problem: Exception) -> None:
        if isinstance(timed, Arrival):
            timed.broken(problem)
        else:
            self.fault(problem)
