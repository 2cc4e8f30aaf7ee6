"""What the hash policies share: the hash, the walk past backends that may not serve, warm-up and bounded load.

Owns the way from "the order of backends for this key" to a choice. Refuses to know how that order comes about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.policies.p2c import PowerOfTwo
from lbproxy.balancing.policies.policy import Random


def number(tag: bytes, data: bytes) -> int:
    """H(tag, data) of the specification: 8 bytes of BLAKE2b personalised by `tag`, big-endian.

    The same in every process and version, which Python's own hash() is not.
    """
    return int.from_bytes(blake2b(data, digest_size=8, person=tag).digest(), "big")


class Table(Protocol):
    """A prepared order of backends for each key."""

    def order(self, key: bytes) -> Iterator[int]:
        """Backends for this key, best first, as positions in the list of (label, weight) the table was built of.

        Repetitions are allowed. The iterator may end before all had their turn.
        """
        ...


Build = Callable[[Sequence[tuple[str, int]]], Table]


def bound(factor: float, active: int, weight: int, total: int) -> int:
    """How many sessions a backend may hold with bounded load: ceil(c (T + 1) w / W).

    V. Mirrokni, M. Thorup, M. Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016).
    """
    return math.ceil(factor * (active + 1) * weight / total)


def admits_while_warming(backend: Backend, key: bytes) -> bool:
    """Whether a backend in slow start takes this key already.

    Deterministic per key and backend, so a key that has returned stays; the share that has returned is the share
    of the weight that slow start grants.
    """
    full_weight = backend.weight * 1000
    if backend.effective >= full_weight:
        return True
    return number(b"lb-warm", backend.label.encode() + b"\0" + key) * full_weight < backend.effective << 64


class HashPolicy:
    """The same backend for the same key, as long as it may serve.

    Tables are built of the operator's weights, one for the primary backends and one for the backups, so a backup's
    coming and going moves no key. A session without a key is placed by p2c.
    """

    __slots__ = ("_backends", "_bound", "_build", "_keyless", "_tables")

    def __init__(self, build: Build, bounded_load: float | None, random: Random) -> None:
        self._build = build
        self._bound = bounded_load
        self._keyless = PowerOfTwo(random)
        self._backends: Sequence[Backend] = ()
        # By backup or not: what the table was built of, the table, the backends by position.
        self._tables: dict[bool, tuple[list[tuple[str, int]], Table, list[Backend]]] = {}

    def prepare(self, backends: Sequence[Backend]) -> None:
        """Build the tables of those backends, where labels or weights are not those of the last time."""
        self._backends = tuple(backends)
        tables: dict[bool, tuple[list[tuple[str, int]], Table, list[Backend]]] = {}
        for backup in (False, True):
            # Sorted, so that the order of the file moves no key.
            members = sorted((b for b in backends if b.backup is backup and b.weight), key=lambda b: b.label)
            shape = [(backend.label, backend.weight) for backend in members]
            if members:
                last = self._tables.get(backup)
                tables[backup] = (shape, last[1] if last and last[0] == shape else self._build(shape), members)
        self._tables = tables

    def pick(self, candidates: Sequence[Backend], key: bytes | None, now: float) -> Backend:
        if key is None:
            return self._keyless.pick(candidates, key, now)
        if len(candidates) == 1:
            return candidates[0]
        _, table, members = self._tables[candidates[0].backup]
        room = self._room() if self._bound else None
        fallback = None
        left = len(candidates)
        passed: list[Backend] = []
        for position in table.order(key):
            backend = members[position]
            if backend not in candidates or backend in passed:
                continue
            if (room is None or backend.active < room(backend)) and admits_while_warming(backend, key):
                return backend
            # Better a crowded or cold one than none: the first in the order, if everybody declines.
            fallback = fallback or backend
            passed.append(backend)
            left -= 1
            if not left:
                break
        return fallback or candidates[0]

    def _room(self) -> Callable[[Backend], int]:
        factor = self._bound or 1.0
        active = sum(backend.active for backend in self._backends)
        total = sum(backend.weight for backend in self._backends if backend.usable)
        return lambda backend: bound(factor, active, backend.weight, max(total, 1))
