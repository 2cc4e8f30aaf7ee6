"""Dates as HTTP writes them (RFC 9110, section 5.6.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate

_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# IMF-fixdate, RFC 850 and asctime. Caches are to read all of them whatever their case (RFC 9111, 4.2).
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rb"(?:mon|tue|wed|thu|fri|sat|sun), (?P<day>[0-9]{2}) %b (?P<year>[0-9]{4}) %b GMT" % (_MONTH, _TIME),
        rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (?P<day>[0-9]{2})-%b-(?P<year>[0-9]{2}) %b GMT"
        % (_MONTH, _TIME),
        rb"(?:mon|tue|wed|thu|fri|sat|sun) %b (?P<day>[0-9]{2}| [0-9]) %b (?P<year>[0-9]{4})" % (_MONTH, _TIME),
    )
)
_FIFTY_YEARS = 50 * 365.25 * 86400.0
# Dates that were read: many answers come in one second, and many speak of the same file.
MEMO_DATES = 1024
_read: dict[bytes, float] = {}


def date_line(second: int) -> bytes:
    """The line of the field Date for this second since the epoch."""
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")


def read_date(value: bytes, now: float) -> float | None:
    """Seconds since the epoch of a date in one of the three forms of RFC 9110, None for anything else.

    A year of two digits is the latest of its kind that is not more than fifty years ahead of `now`. The day of the
    week is not held against the date.
    """
    known = _read.get(value)
    if known is not None:
        return known
    for form in _FORMS:
        found = form.fullmatch(value)
        if found is not None:
            year = int(found["year"])
            if len(found["year"]) == 2:
                return _within_fifty_years(found, year, now)
            return _learn(value, _instant(found, year))
    return None


def _learn(value: bytes, instant: float | None) -> float | None:
    if instant is not None:
        if len(_read) >= MEMO_DATES:
            _read.clear()
        _read[value] = instant
    return instant


def _within_fifty_years(found: re.Match[bytes], year: int, now: float) -> float | None:
    # From the century that is ahead on: one of them is near enough.
    century = datetime.fromtimestamp(now, UTC).year // 100 * 100 + 100
    for candidate in (century + year, century - 100 + year, century - 200 + year):
        instant = _instant(found, candidate)
        if instant is not None and instant <= now + _FIFTY_YEARS:
            return instant
    return None


def _instant(found: re.Match[bytes], year: int) -> float | None:
    second = int(found["second"])
    # A leap second is the first one of the next minute.
    leap = second == 60
    try:
        return leap + (
            datetime(
                year,
                _MONTHS.index(found["month"].lower()) + 1,
                int(found["day"].replace(b" ", b"0")),
                int(found["hour"]),
                int(found["minute"]),
                second - leap,
                tzinfo=UTC,
            ).timestamp()
        )
    except ValueError:
        return None
