"""What the cache did for one exchange, as its record tells it."""

from __future__ import annotations


class Cached:
    """`word` is the record's: hit, miss, stale, revalidated, updating or bypass. `key` is that of the stored answer
    that was served, `age` how old it was in seconds, -1 for none; `collapsed` tells that another request had asked
    for it. `coding` is what a stored body was packed in here, `plain` and `packed` are its bytes before and after, -1
    where they are not known.
    """

    __slots__ = ("age", "coding", "collapsed", "key", "packed", "plain", "word")

    def __init__(self, word: str) -> None:
        self.word = word
        self.key = self.coding = b""
        self.age = self.plain = self.packed = -1
        self.collapsed = False
