"""What is said about something that was read: a sentence, and whether it keeps it from being used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One sentence about the file `path`, or ("") about none. `index` is its place in what was judged."""

    severity: Severity
    message: str
    path: str = ""
    index: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def moment(time: datetime) -> str:
    """A time in UTC to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def span(length: timedelta) -> str:
    """A length of time in the largest unit that fits once."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        count = length // unit
        if count:
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "less than a minute"


def called(name: x509.Name) -> str:
    """The name of a certificate or its issuer as RFC 4514 writes it, printable."""
    text = name.rfc4514_string()
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "(no name)"
