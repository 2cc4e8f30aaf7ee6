"""Names for requests and for ourselves: X-Request-ID, W3C traceparent, and what we write into Via.

Owns their syntax and the minting of ids. Refuses to know whose ids are believed and what is configured; randomness is
handed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ID_BYTES = 16
# One call for randomness makes so many ids.
_IDS_AT_ONCE = 256

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Versions above 00 may go on behind another dash.
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?")
_INSTANCE = re.compile(rb"[0-9a-f]{8,}")
_VIA_ENTRY = re.compile(rb"[ \t]*(?:[^ \t/,()]+/)?[^ \t/,()]+[ \t]+([^ \t,()]+)[ \t]*(?:\(.*)?", re.DOTALL)


class RequestIds:
    """A source of ids, from `random_bytes(size)`, which must give bytes that nobody can guess.

    Randomness is fetched for many ids at once. So each process makes its own source: two that were forked from one
    would give out the same ids.
    """

    __slots__ = ("_ids", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._ids: list[bytes] = []

    def new(self) -> bytes:
        """An id: 32 hexadecimal digits in lower case."""
        try:
            return self._ids.pop()
        except IndexError:
            digits = self._random_bytes(_ID_BYTES * _IDS_AT_ONCE).hex().encode("ascii")
            size = 2 * _ID_BYTES
            self._ids = [digits[at : at + size] for at in range(0, len(digits), size)]
            return self._ids.pop()


def acceptable(value: bytes) -> bool:
    """Whether an X-Request-ID that a trusted peer sent may be kept: 1 to 128 of A-Z a-z 0-9 . _ -"""
    return _REQUEST_ID.fullmatch(value) is not None


def valid_traceparent(value: bytes) -> bool:
    """Whether a traceparent may be passed on (W3C Trace Context, section 3.2); not if its ids are zero.

    What is passed on goes unchanged, its parent id too: we take no part in the trace, and an id of ours would point
    at a span that nobody has recorded.
    """
    found = _TRACEPARENT.fullmatch(value)
    return found is not None and (found[1] != b"00" or found[2] is None)


def mint_traceparent(ids: RequestIds) -> bytes:
    """A traceparent of version 00 for a request that came without one.

    It says "sampled": most tracers do as they are told, and would record nothing behind us otherwise.
    """
    return b"00-%b-%b-01" % (ids.new(), ids.new()[:16])


def via_name(instance_id: bytes) -> bytes:
    """What we call ourselves in Via: `lbproxy-` and 8 digits of the instance's id, which `RequestIds.new` can make.

    Raises ValueError when the id is not at least 8 hexadecimal digits in lower case.
    """
    if not _INSTANCE.fullmatch(instance_id):
        raise ValueError(f"an instance id has 8 hexadecimal digits or more, not {instance_id!r}")
    return b"lbproxy-" + instance_id[:8]


def names_us(via: bytes, instance: bytes) -> bool:
    """Whether the request has been here already: `via` is what all Via fields hold (RFC 9110, section 7.6.3), and
    `instance` is our `via_name`. What stands in a comment does not count, unless it looks like an entry of its own.
    """
    if instance not in via:
        return False
    found = (_VIA_ENTRY.fullmatch(entry) for entry in via.split(b","))
    return any(entry is not None and entry[1] == instance for entry in found)
