"""How a session finds a backend: the queue, the tries, and what a failed one leads to.

Owns the order of these events and the account of the tries. Relays and exchanges are both seekers; what they do with a
connection is their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import Outcome, TryError
from lbproxy.model import SendProxySettings, Timeouts
from lbproxy.session.phases import CONNECT, QUEUE
from lbproxy.session.retrying import Try, may_try_again
from lbproxy.session.seams import Factory, Side, World


class Seeker:
    """A session that wants a backend. Subclasses hold the attributes, and say what the three verbs at the end mean.

    `backend` is held by a lease, `reused` tells that its connection had served before. `tries` is None until one has
    failed; `try_began`, `first_try_at`, `connected_at` and `securing_since` are monotonic seconds, -1.0 for never.
    """

    if not TYPE_CHECKING:  # mypy knows no class that sets the slots of its subclasses
        __slots__ = ()

    world: World
    phase: int
    pool: Pool | None
    priority: int
    timeouts: Timeouts
    backend: Backend | None
    backend_side: Side | None
    tried: tuple[Backend, ...]
    tries: list[Try] | None
    retrying: bool
    reused: bool
    introduced: bool
    queued_at: float
    queue_seconds: float
    first_try_at: float
    try_began: float
    connected_at: float
    securing_since: float

    def none_taken(self, refusal: Outcome | None, now: float) -> None:
        """The pool gave no backend: because of `refusal`, or (None) because all are full."""
        if refusal is None:
            assert self.pool is not None
            refusal = self.pool.enqueue(self, now)
            if refusal is None:
                self.phase = QUEUE
                self.queued_at = now
                self.within(self.timeouts.queue)
                return
        self.give_up(self.last_error(refusal))

    def granted(self, backend: Backend, now: float) -> None:
        """See Waiter: the queue found a place."""
        self.queue_seconds += now - self.queued_at
        self.backend = backend
        self.phase = CONNECT
        if self.tries and not self.may_try_again(now):
            self.give_up(self.last_error(errors.QUEUE_TIMEOUT))
            return
        self.factory.dial(self, now)

    def dropped(self, outcome: Outcome, now: float) -> None:
        """See Waiter: the queue gave up on this session."""
        self.give_up(outcome)

    def try_begins(self, now: float) -> None:
        """The held backend is dialled now."""
        self.phase = CONNECT
        self.try_began = now
        self.securing_since = -1.0
        self.introduced = False
        if self.first_try_at < 0:
            self.first_try_at = now

    def dialling(self, side: Side) -> None:
        """The try is under way; `connected` or `dial_failed` follows."""
        self.backend_side = side
        self.within(self.timeouts.connect)

    def securing(self) -> None:
        """The backend took the connection, now TLS is agreed on with it."""
        self.securing_since = self.world.clock()
        self.within(self.timeouts.tls_handshake)

    def introduce(self) -> bytes:
        """What goes to the backend in front of everything else, once."""
        pool = self.pool
        assert pool is not None
        settings = None if self.introduced else pool.settings.send_proxy
        self.introduced = True
        return b"" if settings is None else self.introduction(settings)

    def dial_failed(self, error: TryError, detail: str = "") -> None:
        """A try failed before anything was sent, its side is closed: go to another backend, or give up. `detail` says
        more than the word.
        """
        pool, backend, now = self.pool, self.backend, self.world.clock()
        assert pool is not None
        assert backend is not None
        # A try that had connected took until then: how long it stood before its reset says nothing about the way there.
        took = (self.connected_at if self.connected_at >= 0 else now) - self.try_began
        self.note_try(Try(backend.id, str(backend.address), error, took, detail))
        self.tried = (*self.tried, backend)
        self.backend = self.backend_side = None
        self.connected_at = -1.0
        self.retry_over()
        if error.counts:
            pool.failed(backend, now, took)
            self.factory.unreachable(backend)
        pool.give_back(backend, now)
        if not self.may_try_again(now):
            self.give_up(error.outcome)
        elif not pool.may_retry():
            self.over_budget(error, now)
        else:
            self.retry(now)

    def over_budget(self, error: TryError, now: float) -> None:
        """Another try is due, and the pool has no retry left to give."""
        self.give_up(error.outcome)

    def retry(self, now: float) -> None:
        """Go to another backend, on the pool's budget."""
        assert self.pool is not None
        self.pool.retry_began()
        self.retrying = True
        self.phase = CONNECT
        self.factory.connect(self, now)

    def note_try(self, failed: Try) -> None:
        """Put a failed try into the account."""
        if self.tries is None:
            self.tries = []
        elif self.tries and self.tries[-1].error is None:
            self.tries.pop()  # that try had connected, before it was reset
        self.tries.append(failed)

    def note_success(self, now: float) -> None:
        """This try has connected: it ends the account, where there is one."""
        self.retry_over()
        backend = self.backend
        if self.tries is not None and backend is not None:
            self.tries.append(Try(backend.id, str(backend.address), None, now - self.try_began, reused=self.reused))

    def may_try_again(self, now: float) -> bool:
        """Whether the number of tries and their time allow one more."""
        assert self.pool is not None
        return may_try_again(
            made=len(self.tries) if self.tries else 1,
            limit=self.pool.settings.tries,
            since_first=now - self.first_try_at,
            window=self.timeouts.try_window,
        )

    def last_error(self, otherwise: Outcome) -> Outcome:
        """After failed tries the last error decides how the session ended."""
        error = self.tries[-1].error if self.tries else None
        return otherwise if error is None else error.outcome

    def retry_over(self) -> None:
        """What was tried again has come to its end: the budget is free."""
        if self.retrying and self.pool is not None:
            self.retrying = False
            self.pool.retry_ended()

    # What subclasses say.

    @property
    def factory(self) -> Factory:
        """Who connects to backends."""
        raise NotImplementedError

    @property
    def key(self) -> bytes | None:
        """What a hash policy goes by. See Waiter."""
        raise NotImplementedError

    def within(self, delay: float) -> None:
        """Have the clock looked at within `delay` seconds."""
        raise NotImplementedError

    def give_up(self, outcome: Outcome) -> None:
        """No backend is to be had."""
        raise NotImplementedError

    def introduction(self, settings: SendProxySettings) -> bytes:
        """The PROXY header of this client."""
        raise NotImplementedError
