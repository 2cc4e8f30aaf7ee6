"""Which certificate is for which name: patterns as certificates hold them, and the index of them.

Owns threats.md L3: a wildcard is exactly one label, case is ignored, one final dot does not count, and a name is never
anything but a key of a dict. Refuses to know what is found under a name.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

T = TypeVar("T")

# RFC 1123 section 2.1, with the underscore that internal names have.
_LABEL_TEXT = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_LABEL = re.compile(_LABEL_TEXT)
_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL_TEXT}(?:\.{_LABEL_TEXT})*")
_MOST_CHARACTERS = 253
_WILDCARD = "*."


def folded(name: str) -> str | None:
    """`name` as it is compared: lower case, without one final dot; None if no pattern could cover it."""
    # Outside ASCII, lower() turns other letters into ours: the Kelvin sign into a k.
    if not name.isascii():
        return None
    name = name.lower().removesuffix(".")
    return name if 0 < len(name) <= _MOST_CHARACTERS else None


def read_pattern(text: str) -> str | None:
    """A host name or `*.` and a host name in the form in which it is compared; None for anything else.

    Refused are `*` alone, a star anywhere else (RFC 9525 section 6.3) and what ends like an IPv4 address.
    """
    pattern = folded(text)
    if pattern is None or not _PATTERN.fullmatch(pattern) or pattern.rpartition(".")[2].isdigit():
        return None
    return pattern


def _wildcard_for(name: str) -> str | None:
    """What stands behind the `*.` of the one wildcard that covers the folded `name`."""
    label, dot, rest = name.partition(".")
    return rest if dot and _LABEL.fullmatch(label) else None


def covers(pattern: str, name: str) -> bool:
    """Whether `pattern` is for `name`. Never raises."""
    wanted, known = folded(name), read_pattern(pattern)
    if wanted is None or known is None:
        return False
    if known.startswith(_WILDCARD):
        return _wildcard_for(wanted) == known.removeprefix(_WILDCARD)
    return wanted == known


class NameIndex(Generic[T]):
    """Values under patterns; looking a name up costs two look-ups, however many patterns there are."""

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}
        self._wildcard: dict[str, T] = {}

    def add(self, pattern: str, value: T) -> T:
        """Put `value` under `pattern`, unless something stands there already; what stands there afterwards.

        Raises ValueError for a pattern that can cover no name, such as `*`.
        """
        known = read_pattern(pattern)
        if known is None:
            raise ValueError(f"{pattern!r} is neither a host name nor '*.' and a host name")
        if known.startswith(_WILDCARD):
            return self._wildcard.setdefault(known.removeprefix(_WILDCARD), value)
        return self._exact.setdefault(known, value)

    def find(self, name: str) -> T | None:
        """The value for `name`: the one that names it, before the one that covers it by wildcard. Never raises."""
        wanted = folded(name)
        if wanted is None:
            return None
        if wanted in self._exact:
            return self._exact[wanted]
        rest = _wildcard_for(wanted)
        return None if rest is None else self._wildcard.get(rest)

    def __len__(self) -> int:
        return len(self._exact) + len(self._wildcard)
