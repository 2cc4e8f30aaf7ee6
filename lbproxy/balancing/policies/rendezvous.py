"""Rendezvous hashing: every backend bids for the key, the highest bid wins.

Owns the bids. Refuses to know which backends may serve. There is no table to build, at the price of one hash per
backend and session; for small pools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lbproxy.balancing.policies.hashing import number


class Bids:
    """Who bids: labels and weights.

    D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998); the weighted score is
    that of J. Resch and of C. Schindelhauer, G. Schomaker (2005): -w / ln u.
    """

    __slots__ = ("_backends",)

    def __init__(self, backends: Sequence[tuple[str, int]]) -> None:
        self._backends = [(label.encode() + b"\0", -weight) for label, weight in backends]

    def order(self, key: bytes) -> Iterator[int]:
        """The highest score first; equal scores in the order given."""
        scores = []
        for start, weight in self._backends:
            logarithm = math.log((number(b"lb-hrw", start + key) + 0.5) / 2**64)
            # The very highest hashes round to u = 1.
            scores.append(weight / logarithm if logarithm else math.inf)
        return iter(sorted(range(len(scores)), key=scores.__getitem__, reverse=True))
