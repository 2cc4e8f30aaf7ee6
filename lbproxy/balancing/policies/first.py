"""The first backend with a free slot.

Owns nothing but the order of the file. Refuses to know weights: slow start acts through the limit alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.balancing.backend import Backend


class First:
    """Fill the backends in file order, each up to its `max_active` (HAProxy's `first`): the last ones stay idle."""

    __slots__ = ()

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        return candidates[0]
