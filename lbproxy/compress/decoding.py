"""Coded bodies, unpacked in pieces and within bounds (R7).

Owns how much may come out of how little, and how much at a time. Refuses to know whose body it is: that it is too much
may be a 413 or a 502. See unpacking.py for the codings themselves.
"""

from __future__ import annotations

from collections import deque

from lbproxy.compress.unpacking import DECODABLE, LIBRARY_ERRORS, Corrupt, Source, source

# The ratio counts beyond this much, in bytes.
FREE = 64 * 1024
# Libraries copy what they have not come to yet, so they are given little at a time.
_SLICE = 16 * 1024
_ALIASES = {b"x-gzip": b"gzip"}


class TooMuch(Exception):
    """More would come out than is allowed. The message is a sentence for the log."""


class Decoder:
    """Unpacks one body."""

    __slots__ = ("_broken", "_given", "_most", "_queue", "_ratio", "_source", "_taken")

    def __init__(self, source: Source, ratio: int | None, most: int | None) -> None:
        self._source = source
        self._ratio = ratio
        self._most = most
        self._queue: deque[memoryview] = deque()
        self._taken = self._given = 0
        self._broken: Exception | None = None

    @property
    def pending(self) -> bool:
        """Whether more may come out without further input: feed b"" to get it."""
        return bool(self._queue) or not self._source.hungry

    def feed(self, data: bytes, most: int) -> bytes:
        """Take more of the coded body, and give out at most `most` bytes (at least 1) of the plain one.

        Raises Corrupt and TooMuch, and again whenever it is called after that; what else came out in this call is lost.
        """
        if self._broken is not None:
            raise self._broken
        if data:
            self._taken += len(data)
            self._queue.append(memoryview(data))
        try:
            return self._unpack(most)
        except LIBRARY_ERRORS as error:
            self._broken = Corrupt(f"the body is not what its coding says: {error}")
        except (Corrupt, TooMuch) as error:
            self._broken = error
        raise self._broken

    def finish(self) -> None:
        """The coded body has come to its end. Raises Corrupt when it ought not to, and ValueError while something is
        pending. A body without any bytes is whole: many declare a coding and send nothing.
        """
        if self._broken is not None:
            raise self._broken
        if self.pending:
            raise ValueError("there is more to be unpacked before the end")
        if self._taken and not self._source.ended:
            self._broken = Corrupt("the body ends in the middle of its coding")
            raise self._broken

    def _unpack(self, most: int) -> bytes:
        body, pieces, room = self._source, [], most
        while room > 0:
            piece = b""
            if body.hungry:
                if not self._queue:
                    break
                piece = self._slice()
            # One byte more than is allowed tells that it is too much.
            allowed = self._allowed()
            plain = body.unpack(piece, min(room, allowed + 1) if allowed is not None else room)
            if plain:
                self._given += len(plain)
                room -= len(plain)
                if allowed is not None and len(plain) > allowed:
                    raise TooMuch(self._why())
                pieces.append(plain)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _slice(self) -> bytes:
        first = self._queue.popleft()
        if len(first) > _SLICE:
            self._queue.appendleft(first[_SLICE:])
        return bytes(first[:_SLICE])

    def _allowed(self) -> int | None:
        """How much more may come out, None for any amount."""
        most = self._most
        if self._ratio is not None:
            limit = FREE + self._ratio * self._taken
            most = limit if most is None else min(most, limit)
        return None if most is None else most - self._given

    def _why(self) -> str:
        if self._most is not None and self._given > self._most:
            return f"the body is longer than {self._most} bytes when it is unpacked"
        return f"the body is more than {self._ratio} times as long when it is unpacked"


def coding_named(value: bytes) -> bytes:
    """The coding that this Content-Encoding names, if it is a single one that can be unpacked; else b""."""
    name = value.strip(b" \t").lower()
    name = _ALIASES.get(name, name)
    return name if name in DECODABLE else b""


def decoder(coding: bytes, *, ratio: int | None, most: int | None) -> Decoder:
    """A decoder that gives out at most `most` bytes in all, and at most `ratio` times what it was fed beyond the first
    64 KiB; None for no bound. Raises ValueError for a coding that is not DECODABLE.
    """
    name = coding_named(coding)
    if not name:
        raise ValueError(f"the coding {coding.decode('latin-1')!r} cannot be unpacked")
    return Decoder(source(name), ratio, most)


def decode(coding: bytes, data: bytes, *, ratio: int | None, most: int | None) -> bytes:
    """The whole body, unpacked; see `decoder`."""
    unpacking = decoder(coding, ratio=ratio, most=most)
    pieces = [unpacking.feed(data, 1024 * 1024)]
    while unpacking.pending:
        pieces.append(unpacking.feed(b"", 1024 * 1024))
    unpacking.finish()
    return b"".join(pieces)
