"""Which backend a client is bound to, by what it did before: a table of bounded size.

Owns the entries, their order and their age. Refuses to know what a key is made of.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

# Longer keys are kept as a digest, so that the table's size bounds its memory too.
_LONGEST = 32


class LearntTable:
    """Backend ids by key. Beyond `size` entries the one that was not used for longest goes; an entry that was not used
    for `idle` seconds is no more. Times are monotonic seconds.
    """

    __slots__ = ("_entries", "_idle", "_size")

    def __init__(self, size: int, idle: float) -> None:
        self._entries: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._size = size
        self._idle = idle

    def configure(self, size: int, idle: float) -> None:
        """Take over new bounds; entries that fit them stay."""
        self._size = size
        self._idle = idle
        while len(self._entries) > size:
            self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> str | None:
        """The id of the backend that this key is bound to; being asked for counts as use."""
        key = _short(key)
        entry = self._entries.get(key)
        if entry is None:
            return None
        backend_id, used = entry
        if now - used > self._idle:
            del self._entries[key]
            return None
        if now != used:
            self._entries[key] = (backend_id, now)
        self._entries.move_to_end(key)
        return backend_id

    def learn(self, key: bytes, backend_id: str, now: float) -> None:
        """Bind this key to this backend, whatever it was bound to before."""
        entries = self._entries
        key = _short(key)
        entries[key] = (backend_id, now)
        entries.move_to_end(key)
        if len(entries) > self._size:
            entries.popitem(last=False)
        # Two of the oldest per entry: what is idle goes faster than the table grows, and no call takes long.
        for _ in range(2):
            if not entries:
                return
            oldest = next(iter(entries))
            if now - entries[oldest][1] <= self._idle:
                return
            del entries[oldest]

    def __repr__(self) -> str:
        return f"<LearntTable {len(self)} of {self._size}>"


def _short(key: bytes) -> bytes:
    # A digest is one byte longer than the longest plain key, so that no client can send one as a key.
    return key if len(key) <= _LONGEST else blake2b(key, digest_size=_LONGEST + 1).digest()
