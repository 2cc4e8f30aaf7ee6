"""Consistent hashing on a ring of points, as nginx does it.

Owns the ring. Refuses to know which backends may serve.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from zlib import crc32

# Points per unit of weight; libketama and nginx have the same.
POINTS = 160


class Ring:
    """The points of all backends in order, and whose each is."""

    __slots__ = ("owners", "points")

    def __init__(self, points: list[int], owners: list[int]) -> None:
        self.points = points
        self.owners = owners

    def order(self, key: bytes) -> Iterator[int]:
        """Clockwise from the first point at or after the key's hash, all the way round."""
        start = bisect_left(self.points, crc32(key))
        owners = self.owners
        for place in range(start, len(owners)):
            yield owners[place]
        for place in range(start):
            yield owners[place]


def build_ring(backends: Sequence[tuple[str, int]]) -> Ring:
    """The ring of these labels and weights.

    Compatible with nginx's `hash ... consistent` when labels are `host:port`. Of equal points the lower label's
    is kept.
    """
    owned: list[tuple[int, str, int]] = []
    for position, (label, weight) in enumerate(backends):
        host, colon, port = label.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()):
            host, port = label, ""
        base = crc32(port.encode(), crc32(host.encode() + b"\0"))
        point = 0
        for _ in range(POINTS * weight):
            point = crc32(point.to_bytes(4, "little"), base)
            owned.append((point, label, position))
    owned.sort()
    points: list[int] = []
    owners: list[int] = []
    for point, _, position in owned:
        if not points or points[-1] != point:
            points.append(point)
            owners.append(position)
    return Ring(points, owners)
