"""How each library unpacks a body, made alike.

Owns where a coding ends, and what may stand behind it. Refuses to know bounds, except that on the number of bodies in
one. gzip and deflate are read by zlib alone: what strangers send goes to the library that has seen the most of it.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

from lbproxy.compress import libraries

# Each of these costs an object, up to 15 us, and may be less than 10 bytes long.
_MOST_MEMBERS = 1000
# RFC 9659: nobody may have to keep more than 8 MiB.
_ZSTD_WIDEST, _ZSTD_WINDOW = 23, 100
LIBRARY_ERRORS: tuple[type[Exception], ...] = tuple(
    error
    for error in (
        zlib.error,
        libraries.brotli and libraries.brotli.error,
        libraries.zstd and libraries.zstd.ZstdError,
    )
    if error
)

# Those that can be unpacked.
DECODABLE: frozenset[bytes] = frozenset(
    name
    for name, library in ((b"zstd", libraries.zstd), (b"br", libraries.brotli), (b"gzip", zlib), (b"deflate", zlib))
    if library
)


class Corrupt(Exception):
    """The body is not what its coding says, or ends too early. The message is a sentence for the log."""


class Source(Protocol):
    """One body, in one coding. `hungry` means that nothing more comes without input; only then may there be any.
    `ended` tells that the body may end here.
    """

    ended: bool
    hungry: bool

    def unpack(self, data: bytes, most: int) -> bytes:
        """At most `most` bytes, at least 1, of what comes out. Raises Corrupt and what is in LIBRARY_ERRORS."""


def source(coding: bytes) -> Source:
    """A fresh body in one of the codings in DECODABLE."""
    if coding == b"br":
        return _Brotli()
    return _Zstd() if coding == b"zstd" else _Inflating(coding)


class _Members:
    """What gzip and zstd have in common: bodies may follow each other (RFC 1952, 2.2; RFC 8878, 3)."""

    __slots__ = ("_members", "_object", "_tail", "ended", "hungry")

    def __init__(self) -> None:
        self._object: Any = None
        self._members = 0
        self._tail = b""
        self.ended = False
        self.hungry = True

    def _begin(self, made: Any) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise Corrupt(f"the body is made of more than {_MOST_MEMBERS} coded ones")
        self._object = made
        self.ended = False


class _Inflating(_Members):
    """gzip and deflate, which is the format of zlib (RFC 9110, 8.4.1.2)."""

    __slots__ = ("_bits",)

    def __init__(self, coding: bytes) -> None:
        super().__init__()
        self._bits = 31 if coding == b"gzip" else 15

    def unpack(self, data: bytes, most: int) -> bytes:
        data = data or self._tail
        if self._object is None or self.ended:
            if self._object is not None and self._bits == 15:
                raise Corrupt("there is something behind the end of the coded body")
            self._begin(zlib.decompressobj(self._bits))
        plain: bytes = self._object.decompress(data, most)
        self.ended = self._object.eof
        self._tail = self._object.unused_data if self.ended else self._object.unconsumed_tail
        # With all of its room used, it may hold back more.
        self.hungry = not self._tail and (self.ended or len(plain) < most)
        return plain


class _Zstd(_Members):
    __slots__ = ()

    def unpack(self, data: bytes, most: int) -> bytes:
        data = data or self._tail
        self._tail = b""
        if self._object is None or self.ended:
            self._begin(libraries.zstd.ZstdDecompressor(options={_ZSTD_WINDOW: _ZSTD_WIDEST}))
        plain: bytes = self._object.decompress(data, most)
        self.ended = self._object.eof
        if self.ended:
            self._tail = self._object.unused_data
        self.hungry = not self._tail if self.ended else self._object.needs_input
        return plain


class _Brotli:
    """br. Its library gives out somewhat more than it is told to, which is held back."""

    __slots__ = ("_held", "_more", "_object", "ended", "hungry")

    def __init__(self) -> None:
        self._object: Any = libraries.brotli.Decompressor()
        self._held = b""
        self._more = self.ended = False
        self.hungry = True

    def unpack(self, data: bytes, most: int) -> bytes:
        if data and self.ended:
            raise Corrupt("there is something behind the end of the coded body")
        plain = self._held
        if not plain:
            plain = self._object.process(data, output_buffer_limit=most)
            # With all of its room used, it may have more, whatever it says of further input.
            self._more = len(plain) >= most or not self._object.can_accept_more_data()
        self._held = plain[most:]
        self.ended = self._object.is_finished() and not self._held
        self.hungry = self.ended or not (self._held or self._more)
        return plain[:most] if self._held else plain
