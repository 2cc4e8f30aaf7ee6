"""Which of several pools a request goes to: by chance, or the same for the same key.

Owns the choice by weight. Refuses to know routes and where a key comes from.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from hashlib import blake2b
from itertools import accumulate

from lbproxy.model_http import Split


class Splitter:
    """The pools of one split. A pool of weight 0 gets nothing.

    `random` gives numbers from 0 up to, and without, 1. Raises ValueError when no pool has any weight.
    """

    __slots__ = ("_bids", "_names", "_random", "_sums")

    def __init__(self, split: Split, random: Callable[[], float]) -> None:
        pools = [(name, weight) for name, weight in split.pools if weight > 0]
        if not pools:
            raise ValueError("a split needs a pool whose weight is more than 0")
        self._random = random
        self._names = [name for name, _ in pools]
        self._sums = list(accumulate(weight for _, weight in pools))
        self._bids = [(name.encode() + b"\0", -weight) for name, weight in pools]

    def choose(self, key: bytes | None) -> str:
        """The name of a pool, fixed by `key`; None leaves it to chance."""
        if len(self._names) == 1:
            return self._names[0]
        if key is None:
            return self._names[bisect_right(self._sums, self._random() * self._sums[-1])]
        scores = [_score(start + key, weight) for start, weight in self._bids]
        return self._names[scores.index(max(scores))]


def _score(data: bytes, weight: int) -> float:
    """The bid of a pool, by weighted rendezvous hashing; `weight` is negative (specification, section 11).

    The formula and the hash are those of the policy `rendezvous`, and so are its sources.
    """
    digest = blake2b(data, digest_size=8, person=b"lb-hrw").digest()
    logarithm = math.log((int.from_bytes(digest, "big") + 0.5) / 2**64)
    # The very highest hashes round to 1.
    return weight / logarithm if logarithm else math.inf
