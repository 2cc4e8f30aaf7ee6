"""A stored answer as one client gets it: the head that goes out, and which bytes of which body follow.

Owns these values alone. A face may be shown to many clients; writers keep the bytes of its head in `memo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbproxy.cache.body import AnyBody
from lbproxy.http.messages import ResponseHead

# A part of what follows a head: bytes of ours, or those of the body from the first number up to the second.
Part = bytes | tuple[int, int]


# Up to this many bytes a stored body goes out in one piece with its head.
SHORT = 16 * 1024


class Face:
    """See the module. `length` is that of all that follows, or CHUNKED while nobody knows it. `parts` are what follows,
    None for the whole body. `lines` stand in place of the head's own fields (None: as they are), `extra` are further
    ones. `second` is when it was made: what it says of its age is true for a second. `plan` is whose words it has, for
    those who keep it. `short` is all that follows, where that is little and at hand; else `long` is True.
    """

    __slots__ = ("body", "extra", "head", "length", "lines", "long", "memo", "parts", "plan", "second", "short")

    def __init__(
        self,
        head: ResponseHead,
        length: int,
        body: AnyBody,
        parts: Sequence[Part] | None,
        lines: bytes | None,
        extra: bytes,
        second: int,
    ) -> None:
        self.head = head
        self.length = length
        self.body = body
        self.parts = parts
        self.lines = lines
        self.extra = extra
        self.second = second
        whole = parts is None and isinstance(body, bytes) and len(body) <= SHORT
        self.long = not whole and (parts is None or bool(parts))
        self.short = body if whole and isinstance(body, bytes) else b""
        self.memo: Any = None
        self.plan: Any = None
