"""The codings that bodies are packed in: gzip (RFC 1952), br (RFC 7932) and zstd (RFC 8878, 9659).

Owns their parameters and how they are flushed. Refuses to know who asked for a coding and how hard to try. All of it
may be called in any thread, one encoder by one thread at a time. See decoding.py for the way back.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Protocol

from lbproxy.compress import libraries
from lbproxy.compress.decoding import Decoder, TooMuch, coding_named, decode, decoder
from lbproxy.compress.unpacking import DECODABLE, Corrupt
from lbproxy.model_cache import CompressSettings

__all__ = [
    "AVAILABLE",
    "DECODABLE",
    "Corrupt",
    "Decoder",
    "Encoder",
    "TooMuch",
    "coding_named",
    "decode",
    "decoder",
    "encode",
    "encoder",
    "level_of",
    "usable",
]

# A container of gzip around a window of 32 KiB.
_GZIP_BITS = 31
# Levels of zlib's scale that ISA-L takes over, and its own level for each. Its level 1 packs as well as zlib's in a
# fifth of the time, its level 3 as well as zlib's 2 to 3 in a third; for more than that there is only zlib.
_ISAL_LEVELS = {1: 1, 2: 3, 3: 3, 4: 3}
# The widest windows, as powers of two. They are most of what a stream costs in memory (1.4 and 1.6 MB with these), and
# for pages nothing is gained by wider ones.
_WINDOWS = {b"zstd": 19, b"br": 18}
_NARROWEST = 15
# RFC 9659: clients need not read wider ones.
_ZSTD_WIDEST = 23
_LEVELS = {b"zstd": (1, 22), b"br": (0, 11), b"gzip": (1, 9)}
# Parameters of zstd by their numbers, which are those of its C interface.
_ZSTD_LEVEL, _ZSTD_WINDOW = 100, 101

# Those that there are libraries for, in our order.
AVAILABLE: tuple[bytes, ...] = tuple(
    name for name, library in ((b"zstd", libraries.zstd), (b"br", libraries.brotli), (b"gzip", zlib)) if library
)


class Encoder(Protocol):
    """Packs one body. What the calls return, joined, is the coded body."""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take more of the body."""

    def flush(self) -> bytes:
        """Give out enough for all that was taken to be unpacked; b"" when nothing was taken since."""

    def finish(self) -> bytes:
        """The end of the body. Nothing may be called after it."""


def usable(names: Iterable[str]) -> tuple[bytes, ...]:
    """Those of these codings that there are libraries for, in the same order."""
    return tuple(coding for coding in (name.encode("ascii") for name in names) if coding in AVAILABLE)


def level_of(settings: CompressSettings, coding: bytes) -> int:
    """The level that is configured for the coding."""
    if coding == b"zstd":
        return settings.zstd_level
    return settings.br_level if coding == b"br" else settings.gzip_level


def encoder(coding: bytes, level: int, size_hint: int | None) -> Encoder:
    """An encoder at this level (that of zlib for gzip, whatever packs it).

    `size_hint` is how long the body probably is, None if that is not known; it saves memory. Levels beyond the
    coding's own are brought back. Raises ValueError for a coding that is not AVAILABLE.
    """
    level = _within(coding, level)
    if coding == b"gzip":
        return _Deflating(level)
    window = _window(_WINDOWS[coding], size_hint)
    return _Zstd(level, window) if coding == b"zstd" else _Brotli(level, window)


def encode(coding: bytes, level: int, data: bytes) -> bytes:
    """The whole body in this coding; see `encoder`."""
    level = _within(coding, level)
    packed: bytes
    if coding == b"gzip":
        theirs = _ISAL_LEVELS.get(level)
        if libraries.isal and theirs is not None:
            packed = libraries.isal.compress(data, theirs, _GZIP_BITS)
        else:
            packed = zlib.compress(data, level, _GZIP_BITS)
    elif coding == b"br":
        packed = libraries.brotli.compress(data, quality=level, lgwin=_window(_WINDOWS[coding], len(data)))
    else:
        # Its own choice for this length is the best one, but above level 19 that may be too wide.
        options = {_ZSTD_LEVEL: level} | ({_ZSTD_WINDOW: _window(_ZSTD_WIDEST, len(data))} if level > 19 else {})
        packed = libraries.zstd.compress(data, options=options)
    return packed


def _within(coding: bytes, level: int) -> int:
    if coding not in AVAILABLE:
        raise ValueError(f"there is no library for the coding {coding.decode('latin-1')!r}")
    lowest, highest = _LEVELS[coding]
    return max(lowest, min(level, highest))


def _window(widest: int, size: int | None) -> int:
    """The power of two that holds a body of this size, if it need not be wider than that."""
    return widest if size is None else max(_NARROWEST, min(widest, size.bit_length()))


class _Deflating:
    """gzip by ISA-L or zlib: they are called alike."""

    __slots__ = ("_dirty", "_object")

    def __init__(self, level: int) -> None:
        theirs = _ISAL_LEVELS.get(level)
        if libraries.isal and theirs is not None:
            self._object: Any = libraries.isal.compressobj(theirs, zlib.DEFLATED, _GZIP_BITS)
        else:
            self._object = zlib.compressobj(level, zlib.DEFLATED, _GZIP_BITS)
        self._dirty = False

    def feed(self, data: bytes | memoryview) -> bytes:
        self._dirty = self._dirty or bool(data)
        packed: bytes = self._object.compress(data)
        return packed

    def flush(self) -> bytes:
        if not self._dirty:
            return b""
        self._dirty = False
        packed: bytes = self._object.flush(zlib.Z_SYNC_FLUSH)
        return packed

    def finish(self) -> bytes:
        packed: bytes = self._object.flush(zlib.Z_FINISH)
        return packed


class _Brotli:
    __slots__ = ("_dirty", "_object")

    def __init__(self, level: int, window: int) -> None:
        self._object = libraries.brotli.Compressor(quality=level, lgwin=window)
        self._dirty = False

    def feed(self, data: bytes | memoryview) -> bytes:
        self._dirty = self._dirty or bool(data)
        packed: bytes = self._object.process(data)
        return packed

    def flush(self) -> bytes:
        if not self._dirty:
            return b""
        self._dirty = False
        packed: bytes = self._object.flush()
        return packed

    def finish(self) -> bytes:
        packed: bytes = self._object.finish()
        return packed


class _Zstd:
    __slots__ = ("_dirty", "_object")

    def __init__(self, level: int, window: int) -> None:
        self._object = libraries.zstd.ZstdCompressor(options={_ZSTD_LEVEL: level, _ZSTD_WINDOW: window})
        self._dirty = False

    def feed(self, data: bytes | memoryview) -> bytes:
        self._dirty = self._dirty or bool(data)
        packed: bytes = self._object.compress(data)
        return packed

    def flush(self) -> bytes:
        if not self._dirty:
            return b""
        self._dirty = False
        packed: bytes = self._object.flush(self._object.FLUSH_BLOCK)
        return packed

    def finish(self) -> bytes:
        packed: bytes = self._object.flush(self._object.FLUSH_FRAME)
        return packed
