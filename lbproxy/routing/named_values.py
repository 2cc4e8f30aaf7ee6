"""What a request holds under a name: values of header fields, query parameters and cookies.

Owns the reading of a query (the `application/x-www-form-urlencoded` way that forms write it). Refuses to know what the
values are wanted for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from lbproxy.http.cookies import cookie_values
from lbproxy.http.messages import RequestHead

Read = Callable[[RequestHead], Sequence[bytes]]

_TRIPLET = re.compile(rb"%([0-9A-Fa-f]{2})")


def header_reader(name: str) -> Read:
    """Reads the values of a header field, one per line of it; `name` in any case.

    "host" is what is sent as Host. Of the rest only fields that are sent on are seen, so neither framing nor
    hop-by-hop fields nor those that tell where a request came from.
    """
    wanted = name.lower().encode()
    if wanted == b"host":
        return lambda head: (head.authority,) if head.authority else ()
    return lambda head: [value for field, value, _ in head.fields if field == wanted]


def query_reader(name: str) -> Read:
    """Reads the values of a query parameter; `name` by case, as it is once it has been decoded."""
    wanted = name.encode()
    return lambda head: parameters(head.query).get(wanted, ()) if head.query else ()


def cookie_reader(name: str) -> Read:
    """Reads the values of a cookie, of all Cookie fields; `name` by case."""
    wanted = name.encode()

    def read(head: RequestHead) -> Sequence[bytes]:
        values: list[bytes] = []
        for field, value, _ in head.fields:
            if field == b"cookie":
                values += cookie_values(value, wanted)
        return values

    return read


# All routes of a listener ask for the same query, one after the other.
@lru_cache(maxsize=1)
def parameters(query: bytes) -> Mapping[bytes, Sequence[bytes]]:
    """The decoded values by decoded name, in their order; a parameter without "=" has the value b"".

    "+" is a space. What is no triplet after "%" stays as it is.
    """
    found: dict[bytes, list[bytes]] = {}
    for part in query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            found.setdefault(_decoded(name), []).append(_decoded(value))
    return found


def _decoded(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    return _TRIPLET.sub(lambda triplet: bytes((int(triplet[1], 16),)), text) if b"%" in text else text
