"""Dates as HTTP writes them (RFC 9110, section 5.6.7)."""

from __future__ import annotations

from email.utils import formatdate


def date_line(second: int) -> bytes:
    """The line of the field Date for this second since the epoch."""
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")
