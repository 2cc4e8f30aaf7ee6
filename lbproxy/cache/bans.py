"""Which stored answers were purged together: by URL, by the beginning of one, by host, by tag, or all.

Owns the bans and their numbers. Refuses to walk the store: a stored answer is held against the bans that are newer than
it when it is next looked at, and someone else's sweep looks at those that nobody asks for. There are at most 1000 bans.
The oldest beyond that, and those that a sweep is done with, become a floor: a stored answer that was last held against
a ban before the floor is taken for purged. So nothing that was purged is ever served, whatever is forgotten.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from lbproxy.cache.keys import host_of, url_of
from lbproxy.cache.values import Stored

Kind = Literal["url", "prefix", "host", "tag", "all"]

NOTHING = 0
SOFT = 1
GONE = 2

MOST_BANS = 1000


class Ban(NamedTuple):
    """One purge: `since` is when it was told, in seconds since the epoch. A soft one makes stale, no more."""

    number: int
    kind: Kind
    value: bytes
    soft: bool
    since: float


class Bans:
    """All bans that a stored answer may still have to be held against."""

    __slots__ = ("_bans", "_floors", "_named", "_prefixes", "newest")

    def __init__(self) -> None:
        # The number of the last ban. A request for an answer takes it down before it is sent, and what is stored has
        # it as `checked`: what was purged while it was on its way is purged.
        self.newest = 0
        # By number, which is by age.
        self._bans: dict[int, Ban] = {}
        # Of those with a name to look up, the number of the newest, for hard and soft ones apart.
        self._named: dict[tuple[Kind, bytes, bool], int] = {}
        self._prefixes: dict[tuple[bytes, bool], int] = {}
        # Hard, soft: those up to these numbers are forgotten.
        self._floors = [0, 0]

    def add(self, kind: Kind, value: bytes, now: float, *, soft: bool) -> int:
        """Purge what is stored up to now; the number of the ban.

        `value` is, by kind: "url" a URL as `keys.key_of_url` makes it, "prefix" its beginning, "host" a normalised host
        without port, "tag" a tag in lower case, "all" nothing. The same said again takes the place of the older one.
        """
        if kind == "all":
            value = b""
        self._withdraw(kind, value, soft)
        self.newest = number = self.newest + 1
        self._bans[number] = Ban(number, kind, value, soft, now)
        if kind == "prefix":
            self._prefixes[value, soft] = number
        else:
            self._named[kind, value, soft] = number
        if len(self._bans) > MOST_BANS:
            self._forget(next(iter(self._bans)))
        return number

    def verdict(self, stored: Stored) -> int:
        """NOTHING, SOFT or GONE, by the bans since the stored answer was last held against them. It was, then."""
        since = stored.checked
        if since >= self.newest:
            return NOTHING
        stored.checked = self.newest
        if self._hit(stored, since, soft=False):
            return GONE
        return SOFT if self._hit(stored, since, soft=True) else NOTHING

    def forget(self, upto: int) -> None:
        """A sweep has held everything that is stored against the bans up to this number.

        What was on its way meanwhile, or is brought back from elsewhere with a lower number in `checked`, is gone.
        """
        for number in [number for number in self._bans if number <= upto]:
            self._forget(number)

    def list(self) -> list[Ban]:
        """Those that are not forgotten, oldest first."""
        return list(self._bans.values())

    def __len__(self) -> int:
        return len(self._bans)

    def _hit(self, stored: Stored, since: int, *, soft: bool) -> bool:
        if since < self._floors[soft]:
            return True
        named = self._named
        if not named and not self._prefixes:
            return False
        key = stored.key
        url = url_of(key)
        if (
            named.get(("all", b"", soft), 0) > since
            or named.get(("host", host_of(key), soft), 0) > since
            or named.get(("url", url, soft), 0) > since
        ):
            return True
        if stored.tags and any(named.get(("tag", tag, soft), 0) > since for tag in stored.tags):
            return True
        return any(
            number > since and kind == soft and url.startswith(prefix)
            for (prefix, kind), number in self._prefixes.items()
        )

    def _withdraw(self, kind: Kind, value: bytes, soft: bool) -> None:
        """Whatever an older ban of the same meaning hits, a newer one does."""
        number = self._prefixes.pop((value, soft), 0) if kind == "prefix" else self._named.pop((kind, value, soft), 0)
        self._bans.pop(number, None)

    def _forget(self, number: int) -> None:
        ban = self._bans[number]
        self._withdraw(ban.kind, ban.value, ban.soft)
        self._floors[ban.soft] = max(self._floors[ban.soft], number)
