"""Times, sizes and values as people write them, both ways.

Owns the spelling of "1h30m" and "256MiB", and how a value found is shown in a sentence. Refuses to know ranges.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches

_TIME_UNITS = (("y", 365 * 86400.0), ("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_TIME = re.compile("".join(rf"(?:([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?){unit})?" for unit, _ in _TIME_UNITS))
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_SIZE_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_LOOSE_SIZE = re.compile(r"([0-9]{1,15}) ?([KMG])i?[Bb]?", re.IGNORECASE)
_SHOWN = 60


def read_time(text: str) -> float | None:
    """The seconds of "250ms", "5s", "1h30m"; None when it is not a time. Units come once each, largest first."""
    found = _TIME.fullmatch(text)
    if not text or not found:
        return None
    return sum(float(part) * unit for part, (_, unit) in zip(found.groups(), _TIME_UNITS, strict=True) if part)


def write_time(seconds: float) -> str:
    """Seconds in the largest units that keep them whole: 5400 is "1h30m". Days are the largest of them."""
    if math.isinf(seconds):
        return "none"
    left = round(seconds * 1000)
    text = ""
    for unit, size in _TIME_UNITS[1:]:
        count, left = divmod(left, round(size * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def read_size(text: str) -> int | None:
    """The bytes of "256MiB"; None when it is not a size."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _SIZE_UNITS[found[2]] if found else None


def write_size(size: int) -> str:
    """Bytes in the largest unit that keeps them whole."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def likely_size(text: str) -> str | None:
    """What somebody meant who wrote "4MB" or "4 mib"."""
    found = _LOOSE_SIZE.fullmatch(text)
    return f"{found[1]}{found[2].upper()}iB" if found else None


def show(value: object) -> str:
    """A value found in the file, short enough for a sentence and as TOML writes it."""
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
        return json.dumps(cut, ensure_ascii=not cut.isprintable())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of more than 4300 digits, which hexadecimal TOML can hold.
        return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return f"the date or time {value.isoformat()}"
    return "an array" if isinstance(value, list) else "a table"


def printable(text: str) -> str:
    """Text that names files, for one line: a name may hold line ends, and bytes that are no UTF-8."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def listed(words: tuple[str, ...] | list[str], last: str = "or") -> str:
    """Words for a sentence: "a", "b" or "c"."""
    quoted = [f'"{word}"' for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, if one is close."""
    # Long words cost the comparison dearly and are no slip of the finger.
    close = get_close_matches(word.lower(), known, n=1) if len(word) <= 64 else []
    return close[0] if close else None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`; did you mean "x"?` when one of the known words is close, else nothing."""
    meant = closest(word, known)
    return f"; did you mean {show(meant)}?" if meant else ""
