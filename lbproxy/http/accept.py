"""In which form a client would rather read what we say: as a page, as JSON, or as plain text.

Owns the reading of Accept (RFC 9110, section 12.5.1) as far as this question needs it. Refuses to know what is said.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Form = Literal["text", "json", "html"]

# What is beyond this is not read. No program that cares for the form of errors needs more.
_LONGEST = 1024
_MOST_RANGES = 32

_QUALITY = re.compile(rb"[01](?:\.[0-9]{0,8})?")
_RANGES: dict[bytes, Form] = {
    b"text/html": "html",
    b"application/xhtml+xml": "html",
    b"application/json": "json",
    b"*/json": "json",
    b"text/plain": "text",
}
# The wildcards, with how exact they are. Where one of them is all that a client says, short text does: those who
# want a page or data by name say so.
_WILD: dict[bytes, int] = {b"text/*": 1, b"application/*": 1, b"*/*": 0}
_WILD_FORMS: dict[bytes, Form] = {b"text/*": "text", b"application/*": "json", b"*/*": "text"}


def preferred_form(accept: bytes | None) -> Form:
    """The form for this Accept field: "text" where there is none, and where nothing suits.

    The highest quality decides, then what is named before what falls under a wildcard, then what is named first.
    Anything may be in the field: what is not understood is passed over, and nothing is raised.
    """
    return "text" if accept is None else _decide(accept[:_LONGEST])


@lru_cache(maxsize=256)
def _decide(accept: bytes) -> Form:
    best: Form = "text"
    highest = (0.0, -1)
    for written in accept.split(b",", _MOST_RANGES)[:_MOST_RANGES]:
        media, *parameters = (part.strip(b" \t") for part in written.lower().split(b";"))
        if media in _WILD:
            form, exact = _WILD_FORMS[media], _WILD[media]
        elif media in _RANGES or media.endswith(b"+json"):
            form, exact = _RANGES.get(media, "json"), 2
        else:
            continue
        rank = (quality(parameters), exact)
        if rank[0] > 0 and rank > highest:
            best, highest = form, rank
    return best


def quality(parameters: list[bytes]) -> float:
    """The quality among these parameters: 1 when none is given, 0 when it cannot be read."""
    for parameter in parameters:
        name, equals, value = parameter.partition(b"=")
        if equals and name.rstrip(b" \t") == b"q":
            value = value.lstrip(b" \t")
            return min(1.0, float(value)) if _QUALITY.fullmatch(value) else 0.0
    return 1.0
