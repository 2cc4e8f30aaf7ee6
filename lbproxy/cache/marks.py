"""Keys whose answers could not be stored lately, so that their requests do not wait for each other: hit-for-miss.

Owns hashes and times alone. Refuses to know why an answer could not be stored, and the clock. Hashes, since a key may
be as long as a request target; two keys with one hash cost a request that does not wait.
"""

from __future__ import annotations

_SHARDS = 64


class Marks:
    """At most about `most` of them: the oldest go first. Each step takes time that does not grow with their number."""

    __slots__ = ("_most", "_shards")

    def __init__(self, most: int = 100_000) -> None:
        self._most = max(1, most // _SHARDS)
        # Small ones: a dictionary that grows, or that looks for its first entry, takes time by its size.
        self._shards: list[dict[int, float]] = [{} for _ in range(_SHARDS)]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def mark(self, key: bytes, until: float) -> None:
        """Remember the key until then (seconds since the epoch)."""
        name = hash(key)
        shard = self._shards[name % _SHARDS]
        shard.pop(name, None)
        if len(shard) >= self._most:
            del shard[next(iter(shard))]
        shard[name] = until

    def marked(self, key: bytes, now: float) -> bool:
        """Whether the key is remembered; a mark whose time is over is forgotten."""
        name = hash(key)
        shard = self._shards[name % _SHARDS]
        until = shard.get(name)
        if until is None:
            return False
        if now < until:
            return True
        del shard[name]
        return False
