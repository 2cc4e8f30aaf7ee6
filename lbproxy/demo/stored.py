"""What demo backends say to caches: how long an answer is good, and for whom.

Owns the questions that are about storing and packing, and the long text of /story. What the answers say to people is in
answers.py.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from lbproxy.demo.answers import Said

Fields = tuple[tuple[str, str], ...]

_VARY = ("Vary", "Accept")


class Kind(NamedTuple):
    """How long such an answer takes, in seconds, and what it says of itself."""

    seconds: float
    fields: Fields


# Questions whose answers may be stored, and one that looks so and must not.
KINDS = {
    "page": Kind(0.0, (("Cache-Control", "max-age=60"), ("Cache-Tag", "pages"), _VARY)),
    "report": Kind(2.0, (("Cache-Control", "max-age=15, stale-while-revalidate=15"), _VARY)),
    "news": Kind(0.0, (("Cache-Control", "max-age=2, stale-if-error=600"), _VARY)),
    "popular": Kind(1.0, (("Cache-Control", "max-age=5"), _VARY)),
    "basket": Kind(
        0.0,
        (("Cache-Control", "max-age=60"), ("Set-Cookie", "basket=1; Path=/basket; HttpOnly; SameSite=Lax"), _VARY),
    ),
}


def broken(name: str) -> Said:
    """What /news is while somebody has broken it."""
    return Said("text/plain; charset=utf-8", f"{name} is broken\n", 503)


def switched(name: str, method: str, *, to_broken: bool) -> Said:
    """The answer to who breaks or mends it."""
    if method != "POST":
        return Said("text/plain; charset=utf-8", "That takes a POST.\n", 405, (("Allow", "POST"),))
    return Said("text/plain; charset=utf-8", f"{name} is {'broken' if to_broken else 'mended'}\n")


def story() -> Said:
    """A long text, of which much is left out when it is packed."""
    text = "".join(
        f"Request {number} came to the door and asked for page {number * number % 97}. Backend {number % 3 + 1} "
        f"looked for it, found it on shelf {number * 7 % 31}, and sent it back the way the request had come.\n"
        for number in range(1, 301)
    )
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
    return Said("text/plain; charset=utf-8", text, 200, (("Cache-Control", "max-age=60"), ("ETag", etag)))
