"""The field Forwarded (RFC 7239), and what it shares with the X-Forwarded ones: addresses, schemes and hosts.

Owns its syntax: a tolerant reader, a strict writer (X4). Refuses to know whom to believe: see `trust`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from lbproxy.addresses import parse_ip
from lbproxy.http.hosts import normalise_host
from lbproxy.http.messages import HttpError

# An address that was passed on, and what was told of its request: scheme and Host, None where nothing was.
Hop = tuple[str, bytes | None, bytes | None]

BLANKS = b" \t"
# One visitor comes many times. What is remembered is short, and for more visitors than these it only costs more time.
_REMEMBERED = 4096
# A mapped IPv4 address in brackets, with its port.
_MOST_NODE_BYTES = 55

_NODE = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?|([0-9A-Fa-f:.]+)")
_OBFUSCATED_PORT = re.compile(rb":_[A-Za-z0-9._-]+\Z")
_SCHEME = re.compile(rb"(?i:https?|wss?)")

# Unquoted addresses with brackets and colons are no tokens, but common.
_TCHAR = rb"!#$%&'*+.^_`|~0-9A-Za-z-"
_PAIR = rb'[ \t]*([%b]+)=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([][:%b]*))[ \t]*' % (_TCHAR, _TCHAR)
_PAIRS = re.compile(_PAIR, re.DOTALL)
_ELEMENT = re.compile(rb"%b(?:;%b)*;?[ \t]*" % (_PAIR, _PAIR), re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(rb'(["\\])')


def read_address(value: bytes) -> str | None:
    """The address in `value`, canonical and without its port, mapped IPv4 unwrapped; None when there is none (X3).

    Forms are 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] and [2001:db8::1]:80. Zones are refused.
    """
    return _read_address(value) if len(value) <= _MOST_NODE_BYTES else None


@lru_cache(_REMEMBERED)
def _read_address(value: bytes) -> str | None:
    found = _NODE.fullmatch(value)
    if found is None or (found[3] and int(found[3]) > 65535):
        return None
    if found[1] and b":" not in found[1]:
        return None
    return parse_ip((found[1] or found[2] or found[4]).decode("ascii"))


def read_scheme(value: bytes | None) -> bytes | None:
    """`http`, `https`, `ws` or `wss` in lower case; None for anything else."""
    return value.lower() if value and _SCHEME.fullmatch(value) else None


def read_host(value: bytes | None) -> bytes | None:
    """The value normalised, with its port if it has one, if it is what Host may be; None if it is not."""
    if not value:
        return None
    try:
        # Which port is the default depends on a scheme that may come in another field, or not at all.
        return normalise_host(value, 0)[1]
    except HttpError:
        return None


def hops(lines: Sequence[bytes]) -> Iterator[Hop | None]:
    """The elements of all lines from right to left, None for one that tells no address; ends at what is unreadable.

    A client may leave a quote open to swallow what the next proxy appends. So a line is read from its end, and an
    element is the shortest piece behind a comma that is one. For a line without errors that is the same as from the
    start: a piece that begins within a quoted string has an odd number of quotes, so it is none.
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            start = line.rfind(b",", 0, end) + 1
            while not _ELEMENT.fullmatch(line, start, end):
                if not start:
                    return
                start = line.rfind(b",", 0, start - 1) + 1
            yield _hop(_PAIRS.finditer(line, start, end))
            end = start - 1


def _hop(pairs: Iterable[re.Match[bytes]]) -> Hop | None:
    found: dict[bytes, bytes] = {}
    for pair in pairs:
        name = pair[1].lower()
        if name in found:
            return None
        found[name] = pair[3] if pair[2] is None else _ESCAPED.sub(rb"\1", pair[2])
    address = read_address(_OBFUSCATED_PORT.sub(b"", found.get(b"for", b"")))
    return None if address is None else (address, read_scheme(found.get(b"proto")), read_host(found.get(b"host")))


def forwarded(elements: Iterable[Hop]) -> bytes:
    """The value of the field for these hops, the client's first; the address "" is written as `unknown`."""
    return b", ".join(_element(*hop) for hop in elements)


def _element(address: str, proto: bytes | None, host: bytes | None) -> bytes:
    # A zone has no place in the field, and no meaning to others.
    node = address.partition("%")[0].encode("ascii") or b"unknown"
    text = b'for="[%b]"' % node if b":" in node else b"for=" + node
    if proto:
        text += b";proto=" + proto
    if host:
        text += b';host="%b"' % _TO_ESCAPE.sub(rb"\\\1", host)
    return text
