"""Which codings a client can read, and which of ours it gets (RFC 9110, section 12.5.3).

Owns the reading of Accept-Encoding. Refuses to know whether there is anything to compress, and with what.
"""

from __future__ import annotations

from functools import lru_cache

from lbproxy.http.accept import quality

ZSTD, BR, GZIP = 1, 2, 4
# The client says that it does not want plain bodies.
IDENTITY_REFUSED = 8

# What is beyond this is not read. Browsers write less than 50 bytes.
_LONGEST = 1024
_MOST_MEMBERS = 32
_BITS = {b"zstd": ZSTD, b"br": BR, b"gzip": GZIP}
_ANY, _IDENTITY = b"*", b"identity"
# RFC 9110, 8.4.1.3: the old name of the same thing.
_ALIASES = {b"x-gzip": b"gzip"}
_CANONICAL = tuple(b", ".join(name for name, bit in _BITS.items() if bits & bit) for bits in range(16))


def accepted(value: bytes | None) -> int:
    """The codings of ours that this Accept-Encoding allows, as a bit set, and IDENTITY_REFUSED.

    None stands for a request without the field: it gets plain bodies, whatever the RFC would let us do. Anything may be
    in the field: what is not understood is passed over, and nothing is raised.
    """
    if not value:
        return 0
    qualities = _read(_bounded(value))
    every = qualities.get(_ANY, 0.0)
    bits = IDENTITY_REFUSED if qualities.get(_IDENTITY, qualities.get(_ANY, 1.0)) == 0 else 0
    for name, bit in _BITS.items():
        if qualities.get(name, every) > 0:
            bits |= bit
    return bits


def choose(value: bytes | None, order: tuple[bytes, ...]) -> bytes:
    """The one of the codings in `order` for this Accept-Encoding, b"" for a plain body.

    The highest quality wins, what stands first in `order` where they are equal. "identity" wins only where it is
    written with a higher quality than any of these. A client that accepts nothing gets a plain body.
    """
    return _choose(_bounded(value), order) if value else b""


def canonical(accepted: int) -> bytes:
    """The Accept-Encoding with these codings, b"" for none: what backends are sent, and what tells variants apart.

    There are eight of them, whatever clients write (K5). Whether plain bodies are refused is not part of it.
    """
    return _CANONICAL[accepted & 15]


def _bounded(value: bytes) -> bytes:
    # What is cut off must not change the meaning of what is left: half a member is none.
    return value if len(value) <= _LONGEST else value[:_LONGEST].rpartition(b",")[0]


@lru_cache(maxsize=1024)
def _choose(value: bytes, order: tuple[bytes, ...]) -> bytes:
    qualities = _read(value)
    every = qualities.get(_ANY, 0.0)
    best, highest = b"", 0.0
    for coding in order:
        wanted = qualities.get(coding, every)
        if wanted > highest:
            best, highest = coding, wanted
    return best if highest >= qualities.get(_IDENTITY, 0.0) else b""


@lru_cache(maxsize=1024)
def _read(value: bytes) -> dict[bytes, float]:
    """The qualities by name in lower case; the first one counts where a name is written twice."""
    qualities: dict[bytes, float] = {}
    for written in value.lower().split(b",", _MOST_MEMBERS)[:_MOST_MEMBERS]:
        name, *parameters = (part.strip(b" \t") for part in written.split(b";"))
        qualities.setdefault(_ALIASES.get(name, name), quality(parameters))
    return qualities
