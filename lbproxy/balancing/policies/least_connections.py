"""Least connections, weighted.

Owns the comparison of loads and the order among equals. Refuses to know latency.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.balancing.backend import Backend


class LeastConnections:
    """The lowest (active + 1) / effective weight; equals take turns.

    The turns are smooth round robin over all candidates, where the highest counter *among the equals* wins. Turns
    among the equals alone would let one who was just chosen for its load win the next tie as well: three equal
    backends would be filled a b c c instead of a b c a.
    """

    __slots__ = ()

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        best = candidates[0]
        if len(candidates) == 1:
            return best
        # Loads are compared by cross-multiplication; against 1/0 the first candidate always wins.
        least, least_weight, highest, total = 1, 0, 0, 0
        for backend in candidates:
            weight = backend.effective
            total += weight
            backend.turn = turn = backend.turn + weight
            load = backend.active + 1
            here, there = load * least_weight, least * weight
            if here < there or (here == there and turn > highest):
                best, least, least_weight, highest = backend, load, weight, turn
        # Who never ties saves up turns, and who wins alone runs into debt. Both are cut off where pure round
        # robin never gets (a counter stays within one total of 0), or a newly idle backend would win all ties.
        highest -= total
        best.turn = total if highest > total else -total if highest < -total else highest
        return best
