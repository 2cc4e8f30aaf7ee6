"""Random draws by effective weight: one draw as a policy, and the draw of two for other policies.

Owns the running sums of the weights. Refuses to know load and latency.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.policies.policy import Random


class Draw:
    """Draws candidates with probability by effective weight; keeps the running sums while the list is the same."""

    __slots__ = ("_candidates", "_random", "_sums")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._candidates: Sequence[Backend] = ()
        self._sums: list[int] = []

    def one(self, candidates: Sequence[Backend]) -> Backend:
        """One candidate."""
        if candidates is not self._candidates:
            self._sum(candidates)
        sums = self._sums
        return candidates[bisect_right(sums, int(self._random() * sums[-1]))]

    def two(self, candidates: Sequence[Backend]) -> tuple[Backend, Backend]:
        """Two different ones of at least two candidates, the second drawn from those left by the first."""
        if candidates is not self._candidates:
            self._sum(candidates)
        sums = self._sums
        total = sums[-1]
        first = bisect_right(sums, int(self._random() * total))
        # The second point falls on the line with the first one's stretch cut out.
        start, end = sums[first - 1] if first else 0, sums[first]
        point = int(self._random() * (total - end + start))
        second = bisect_right(sums, point if point < start else point + end - start)
        return candidates[first], candidates[second]

    def _sum(self, candidates: Sequence[Backend]) -> None:
        self._candidates = candidates
        self._sums = list(accumulate(backend.effective for backend in candidates))


class WeightedRandom:
    """Any candidate, with probability by effective weight."""

    __slots__ = ("_draw",)

    def __init__(self, random: Random) -> None:
        self._draw = Draw(random)

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        return self._draw.one(candidates)
