"""Whether a request that was sent may be sent once more: the proofs for HTTP.

Class A (nothing was sent) needs no proof and is not here. Everything else may have been acted upon by the backend, so
only what may safely happen twice is repeated: idempotent requests (RFC 9110, section 9.2.2) whose body is still there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbproxy.session.account import Account

REPLAY_BYTES = 64 * 1024
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_WITH_KEY = frozenset({b"POST", b"PATCH"})
# Of the pause before a further try, in seconds: see pause_before.
_FIRST_PAUSE = 0.025
_LONGEST_PAUSE = 0.25


class Replay:
    """What has been sent of a body, up to a bound; `complete` is False once something had to be dropped."""

    __slots__ = ("complete", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self.complete = True

    def add(self, data: bytes | memoryview) -> None:
        """Keep what is sent now."""
        if not self.complete:
            return
        if len(self.data) + len(data) > REPLAY_BYTES:
            self.complete = False
            self.data.clear()
        else:
            self.data += data


def idempotent(exchange: Account) -> bool:
    """Whether the request may be acted upon twice. POST and PATCH may where the route trusts their Idempotency-Key."""
    head, plan = exchange.head, exchange.plan
    if head is None:
        return False
    if head.method in _IDEMPOTENT:
        return not head.upgrade or plan is None or plan.upgrades.isdisjoint(head.upgrade.split(b", "))
    return (
        head.method in _WITH_KEY
        and plan is not None
        and plan.settings.idempotency_key
        and bool(head.get(b"idempotency-key"))
    )


def may_repeat(exchange: Account) -> bool:
    """Whether the request may be acted upon twice, and all that was sent of it is still at hand."""
    head, replay = exchange.head, exchange.replay
    if head is None or not idempotent(exchange):
        return False
    return not head.length or replay is None or replay.complete


def pause_before(retry: int, chance: float) -> float:
    """The seconds before retry number `retry` (from 1): random, up to a bound that doubles; `chance` is in [0, 1)."""
    return chance * min(_LONGEST_PAUSE, _FIRST_PAUSE * (2.0 ** min(retry, 10) - 1))
