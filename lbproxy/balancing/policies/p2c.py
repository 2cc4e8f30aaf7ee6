"""The power of two choices.

Owns the comparison of two drawn backends by load. Refuses to know all the others: that is the point.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.policies.policy import Random
from lbproxy.balancing.policies.weighted_random import Draw


class PowerOfTwo:
    """Two draws by effective weight, the lower active / effective weight of them; on a tie the first drawn.

    M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996). For several instances that
    share a pool without sharing counts: two draws avoid the herd that a common minimum attracts.
    """

    __slots__ = ("_draw",)

    def __init__(self, random: Random) -> None:
        self._draw = Draw(random)

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        if len(candidates) == 1:
            return candidates[0]
        first, second = self._draw.two(candidates)
        return first if first.active * second.effective <= second.active * first.effective else second
