"""A body that we have ourselves, in all codings: a fixed answer, an error page.

Owns its coded forms, each made once, when it is first wanted, and its entity tags. Refuses to know when it is sent.
"""

from __future__ import annotations

from hashlib import blake2b

from lbproxy.compress.codings import encode, usable
from lbproxy.compress.eligibility import Eligibility
from lbproxy.compress.heads import weak
from lbproxy.compress.negotiation import IDENTITY_REFUSED, accepted, choose
from lbproxy.model_cache import CompressSettings

# It is done once and in between, so it may cost some milliseconds, whatever the route does for each answer.
_LEVELS = {b"zstd": 12, b"br": 9, b"gzip": 9}
_LOW_LEVELS = {b"zstd": 3, b"br": 4, b"gzip": 4}
# Up to this length the higher levels are that fast.
_SMALL = 64 * 1024


class KnownBody:
    """`body` is the plain one. `etag` is its strong entity tag, which is the same in every process and after every
    start. `varies` tells that Vary has to name Accept-Encoding. Without settings it is always sent plain.
    """

    __slots__ = ("_coded", "_min_size", "_order", "body", "etag", "varies")

    def __init__(self, body: bytes, content_type: bytes, settings: CompressSettings | None) -> None:
        self.body = body
        self.etag = b'"%b"' % blake2b(body, digest_size=12).hexdigest().encode("ascii")
        self._coded: dict[bytes, bytes | None] = {}
        self._order: tuple[bytes, ...] = ()
        self._min_size = 0
        if settings is not None and body and Eligibility(settings).eligible_type(content_type):
            self._order = usable(settings.codings)
            self._min_size = settings.min_size
        self.varies = bool(self._order)

    def in_coding(self, coding: bytes) -> bytes | None:
        """The body in this coding; None when it is not one of the route's, or makes the body no shorter."""
        if coding not in self._order:
            return None
        if coding not in self._coded:
            levels = _LEVELS if len(self.body) <= _SMALL else _LOW_LEVELS
            packed = encode(coding, levels[coding], self.body)
            self._coded[coding] = packed if len(packed) < len(self.body) else None
        return self._coded[coding]

    def for_client(self, accept_encoding: bytes | None) -> tuple[bytes, bytes, bytes]:
        """What a client with this Accept-Encoding gets: the coding, b"" for none; the body; its entity tag.

        A body shorter than the route's `min_size` is sent as it is unless the client refuses that.
        """
        coding = choose(accept_encoding, self._order) if self._order else b""
        if coding and (len(self.body) >= self._min_size or accepted(accept_encoding) & IDENTITY_REFUSED):
            packed = self.in_coding(coding)
            if packed is not None:
                return coding, packed, weak(self.etag)
        return b"", self.body, self.etag
