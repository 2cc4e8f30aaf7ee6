"""Smooth weighted round robin.

Owns the one implementation of it; other policies use it for ties and rescue picks. Refuses to know load.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.balancing.backend import Backend


def next_in_turn(candidates: Sequence[Backend]) -> Backend:
    """The next backend in smooth weighted round robin (nginx, Igor Sysoev's commit of 2012).

    Everybody's counter gains its effective weight; the highest counter wins, the earlier on a tie, and pays the
    sum of what was gained. So weights 5, 1, 1 give a a b a c a a and never five in a row.
    """
    best = candidates[0]
    highest = -(1 << 62)
    total = 0
    for backend in candidates:
        weight = backend.effective
        total += weight
        backend.turn = turn = backend.turn + weight
        if turn > highest:
            best, highest = backend, turn
    best.turn = highest - total
    return best


class RoundRobin:
    """Everybody in turn, in proportion to the effective weights, spread as evenly as possible."""

    __slots__ = ()

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        return next_in_turn(candidates)
