"""How a request is sent once more: the order of events when a try has failed or must not count.

Owns what is done about each class of failure (see repeating.py for the proofs, and semantics of the classes in
docs/retries.md): the same backend on a fresh connection, another backend after a pause, or the error that is left.
"""

from __future__ import annotations

from lbproxy.errors import TryError
from lbproxy.http.messages import CHUNKED
from lbproxy.session.account import Account
from lbproxy.session.phases import CONNECT
from lbproxy.session.repeating import REPLAY_BYTES, may_repeat, pause_before
from lbproxy.session.retrying import Try

# How long a try waits for the retry budget before it asks again, give or take a half (seconds).
_BUDGET_PAUSE = 0.02


class Repetition(Account):
    """An exchange that may try again."""

    __slots__ = ()

    def over_budget(self, error: TryError, now: float) -> None:
        """See Seeker. Nothing was sent, so waiting is safe: where all backends but one are restarted under load, many
        requests meet a closed port at once, and none of them has to fail for it.
        """
        self.resume_at = now + _BUDGET_PAUSE * (0.5 + self.world.random())
        self.world.later(self.resume_at - now, self._resume_on_budget)

    def _resume_on_budget(self) -> None:
        pool = self.pool
        if self.phase != CONNECT or self.resume_at < 0 or pool is None:
            return
        self.resume_at = -1.0
        now = self.world.clock()
        last = self.tries[-1].error if self.tries else None
        if pool.may_retry() or last is None:
            self.retry(now)
        elif self.may_try_again(now):
            self.over_budget(last, now)
        else:
            self.give_up(last.outcome)

    @property
    def repeatable(self) -> bool:
        """Whether this request may be sent once more when a connection that had served before turns out to be dead."""
        head = self.head
        if head is not None and head.method == b"GET" and not head.length and not head.upgrade:
            return not self.again
        return not self.again and may_repeat(self)

    @property
    def daring(self) -> bool:
        """Whether it could not be repeated: then it wants a connection that is surely alive. A body that cannot be
        kept, or may turn out to be such, is a reason too.
        """
        head = self.head
        if head is not None and (head.length == CHUNKED or head.length > REPLAY_BYTES):
            return True
        return not self.repeatable

    def unanswered(self, error: TryError, detail: str = "", *, rule: str = "", unsent: bool = False) -> None:
        """The backend's connection ended, or said something that is no HTTP, before the head of an answer.

        `unsent` is True where it is proved that not a byte of the request has gone out.
        """
        side, pool, backend = self.backend_side, self.pool, self.backend
        assert pool is not None
        assert backend is not None
        self.rule = rule or self.rule
        self.backend_side = None
        self.stream.hold_body()
        spoke = side is not None and side.bytes_in > 0
        if side is not None:
            side.abandon()
        now = self.world.clock()
        fresh = not self.reused
        if not fresh and not spoke and (unsent or (error is TryError.CLOSED and self.repeatable)):
            # Class B: it closed an idle connection just as it was used. Once, and nobody is to blame.
            self.again = True
            self.reused = False
            self.note_try(Try(backend.id, str(backend.address), error, now - self.try_began, detail, "B", reused=True))
            self._repeat()
            self.factory.dial_fresh(self, now)
            return
        if unsent:
            self.phase = CONNECT
            self.sent_at = -1.0
            self.dial_failed(TryError.RESET, detail)  # class A after all
            return
        if fresh or spoke or error is not TryError.CLOSED:
            pool.failed(backend, now, now - self.try_began, cut=True)
        if not spoke and error is not TryError.NONSENSE and self._wants_repeats and self._may_go_on(now):
            self._next_try(error, detail, now)
            return
        klass = "D" if spoke else "B" if self.reused else "C"
        self.note_try(Try(backend.id, str(backend.address), error, now - self.try_began, detail, klass, self.reused))
        if error is TryError.SILENT:
            self.timer = "response_head"
        self.refuse(error.outcome)

    def _again_for_status(self, now: float, status: int) -> bool:
        """A status that the route wants to be tried again, if that is safe and allowed; True when it is under way."""
        if not self._may_go_on(now):
            return False  # what is at hand is better than nothing
        self.stream.hold_body()
        self._drop_side()
        self._next_try(TryError.STATUS, f"status {status}", now)
        return True

    @property
    def _wants_repeats(self) -> bool:
        return self.plan is not None and self.plan.settings.retry_idempotent

    def _may_go_on(self, now: float) -> bool:
        """Class C: whether the request may be sent to another backend although this one may have acted on it."""
        pool, backend = self.pool, self.backend
        made = 1 if self.tries is None else len(self.tries) + 1
        assert pool is not None
        assert backend is not None
        self.retry_over()  # this try was one, and has come to its end
        return (
            may_repeat(self)
            and made < pool.settings.tries
            and now - self.first_try_at < self.timeouts.try_window
            and pool.may_retry()
            and not self.strictly_bound
            and pool.refusal((*self.tried, backend)) is None
        )

    def _next_try(self, error: TryError, detail: str, now: float) -> None:
        """Go to another backend after a pause."""
        pool, backend = self.pool, self.backend
        assert pool is not None
        assert backend is not None
        self.note_try(Try(backend.id, str(backend.address), error, now - self.try_began, detail, "C", self.reused))
        self.tried = (*self.tried, backend)
        self.backend = None
        self.retry_over()
        pool.give_back(backend, now)
        pool.retry_began()
        self.retrying = True
        self._repeat()
        self.phase = CONNECT
        self.resume_at = now + pause_before(len(self.tried), self.world.random())
        self.within(self.resume_at - now)
        self.world.later(self.resume_at - now, self._resume)

    def _resume(self) -> None:
        if self.phase == CONNECT and self.resume_at >= 0:
            self.resume_at = -1.0
            self.factory.connect(self, self.world.clock())

    def ask_once_more(self) -> None:
        """What was answered is of no use: ask again, for something else."""
        pool, backend, now = self.pool, self.backend, self.world.clock()
        assert pool is not None
        assert backend is not None
        self._drop_side()
        self.backend = None
        pool.give_back(backend, now)
        self._repeat()
        self.factory.connect(self, now)

    def _repeat(self) -> None:
        """The request begins anew: so does its account."""
        self.connected_at = self.sent_at = -1.0
        self.blamed = False
        self.phase = CONNECT
