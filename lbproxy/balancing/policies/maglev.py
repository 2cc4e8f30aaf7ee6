"""Maglev hashing: a table of slots that look-up answers in one step.

Owns the table. Refuses to know which backends may serve.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from lbproxy.balancing.policies.hashing import number

# A prime well above a hundred times the number of backends; the paper's small table.
SLOTS = 65_537
# Slots tried for one key before the rest of the table is walked: with nearly all backends out, more hashing would
# cost milliseconds. The walk is as deterministic.
_TRIES = 64


class Slots:
    """Whose each slot is."""

    __slots__ = ("owners",)

    def __init__(self, owners: array[int]) -> None:
        self.owners = owners

    def order(self, key: bytes) -> Iterator[int]:
        """The key's slot, then those of the key with a number appended, at last all slots from the first on."""
        owners = self.owners
        first = number(b"lb-key", key) % len(owners)
        yield owners[first]
        for n in range(1, _TRIES):
            yield owners[number(b"lb-key", b"%b\0%d" % (key, n)) % len(owners)]
        yield from owners[first + 1 :]
        yield from owners[:first]


def build_slots(backends: Sequence[tuple[str, int]]) -> Slots:
    """The table of these labels (sorted) and weights (each above 0)."""
    preferences = []
    for label, _ in backends:
        name = label.encode()
        preferences.append((number(b"lb-offset", name) % SLOTS, number(b"lb-skip", name) % (SLOTS - 1) + 1))
    return Slots(fill(SLOTS, preferences, [weight for _, weight in backends]))


def fill(size: int, preferences: Sequence[tuple[int, int]], weights: Sequence[int]) -> array[int]:
    """Fill `size` slots (a prime): backends take turns by weight, each its next free slot of offset + j * skip.

    D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (2016), section 3.4; weights
    as in Envoy: in round r a backend of weight w takes a slot if r * w has reached its target, which then grows by
    the largest weight.
    """
    owners = array("l", [-1]) * size
    turns = _turns(weights)
    places = [offset for offset, _ in preferences]
    skips = [skip for _, skip in preferences]
    # Free slots are found by probing while they are many ...
    last = min(size, max(16, size // (4 * len(weights))))
    for _ in range(size - last):
        who = next(turns)
        place, skip = places[who], skips[who]
        while owners[place] >= 0:
            place += skip
            if place >= size:
                place -= size
        owners[place] = who
        places[who] = place
    # ... and the last ones by sorting them into each backend's order, as most probes would hit taken slots.
    free = [slot for slot in range(size) if owners[slot] < 0]
    waiting = []
    for offset, skip in preferences:
        inverse = pow(skip, -1, size)
        # The defaults bind this round's values; mypy cannot type a lambda that has them.
        waiting.append(iter(sorted(free, key=lambda slot, o=offset, i=inverse: (slot - o) * i % size)))  # type: ignore[misc]
    for _ in range(len(free)):
        who = next(turns)
        owners[next(slot for slot in waiting[who] if owners[slot] < 0)] = who
    return owners


def _turns(weights: Sequence[int]) -> Iterator[int]:
    """Who takes a slot next, for ever: a calendar of rounds, so that light backends cost nothing in between."""
    largest = max(weights)
    if min(weights) == largest:
        while True:
            yield from range(len(weights))
    calendar = {1: list(range(len(weights)))}
    taken = [0] * len(weights)
    this_round = 0
    while True:
        this_round += 1
        for who in sorted(calendar.pop(this_round, ())):
            yield who
            taken[who] += 1
            # The first round r > this one with r * w >= taken * largest.
            due = max(this_round + 1, -(-taken[who] * largest // weights[who]))
            calendar.setdefault(due, []).append(who)
