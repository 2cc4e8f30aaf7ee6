"""What a policy is: one verb, and two more for those that need them.

Owns the seam between the pool and its policies. Refuses to know any policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from lbproxy.balancing.backend import Backend

# A source of chance: floats in [0, 1), as random.random gives them.
Random = Callable[[], float]


class Policy(Protocol):
    """How one of several backends is chosen."""

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        """One of the candidates: usable backends with a free slot, in file order, at least one.

        The same list object means the same candidates with the same effective weights, so that sums over it may
        be kept. `key` is the session's hash key, None when it has none. `now` is monotonic seconds.
        """
        ...


@runtime_checkable
class Sampling(Policy, Protocol):
    """A policy that wants to hear how fast backends answer."""

    def sampled(self, backend: Backend, seconds: float, now: float) -> None:
        """An answer (in TCP mode: a connect) took this long."""
        ...

    def failed(self, backend: Backend, elapsed: float, now: float) -> None:
        """A session failed after this many seconds."""
        ...


@runtime_checkable
class Prepared(Policy, Protocol):
    """A policy that prepares something for the whole pool, such as a table."""

    def prepare(self, backends: Sequence[Backend]) -> None:
        """All backends of the pool, in file order; called when one comes, goes or changes its weight or label."""
        ...
