"""How much of its weight a returning backend carries.

Owns the curve. Refuses to know when a slow start begins.
"""

from __future__ import annotations

# A backend that carried nothing at first would never warm up.
_LEAST = 0.10


def share(elapsed: float, window: float, aggression: float) -> float:
    """The fraction of weight and limit `elapsed` seconds after the return: 0.10 at least, 1.0 from `window` on.

    `aggression` above 1 warms faster at first (Envoy's slow-start formula).
    """
    if elapsed >= window:
        return 1.0
    grown: float = (max(0.0, elapsed) / window) ** (1 / aggression)
    return max(_LEAST, grown)
