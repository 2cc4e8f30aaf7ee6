"""In which coding a body goes to the client, and the packing of bodies on their way.

Owns the choice for answers and requests that pass, and the work itself, which is measured: who is too busy packs less.
Which answers are worth it, and the codings, are in `compress/`; bodies that are stored are in coded_bodies.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lbproxy.compress.codings import encoder, level_of, usable
from lbproxy.compress.decoding import coding_named, decoder
from lbproxy.compress.effort import Effort
from lbproxy.compress.eligibility import Eligibility, is_events
from lbproxy.compress.heads import OF_BYTES, compressed_fields, confirming_fields, decoded_fields, varied_fields
from lbproxy.compress.negotiation import choose
from lbproxy.http.messages import CHUNKED, Field, RequestHead, ResponseHead
from lbproxy.http.writing import lines_of
from lbproxy.model_cache import CompressSettings, DecompressSettings

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange

# What comes in pieces smaller than this is passed on at once.
TRICKLE = 16 * 1024
STEP = 64 * 1024
# Bounds for bodies that backends have packed (threats.md, section 2).
RATIO, MOST = 100, 32 * 1024 * 1024


class Compression:
    """What a route compresses, worked out once."""

    __slots__ = ("eligibility", "order", "settings")

    def __init__(self, settings: CompressSettings) -> None:
        self.settings = settings
        self.eligibility = Eligibility(settings)
        self.order = usable(settings.codings)


class Packer(Protocol):
    """Packs or unpacks one body; see Encoder in compress/codings.py. May raise Corrupt and TooMuch."""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take more of the body."""

    def flush(self) -> bytes:
        """Give out all that was taken."""

    def finish(self) -> bytes:
        """The end of the body."""


class Unpacker:
    """A decoder as a Packer."""

    __slots__ = ("_decoder",)

    def __init__(self, coding: bytes, ratio: int = RATIO, most: int | None = None) -> None:
        self._decoder = decoder(coding, ratio=ratio, most=most)

    def feed(self, data: bytes | memoryview) -> bytes:
        pieces = [self._decoder.feed(bytes(data), STEP)]
        while self._decoder.pending:
            pieces.append(self._decoder.feed(b"", STEP))
        return b"".join(pieces)

    def flush(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        self._decoder.finish()
        return b""


class Coder:
    """Packs the body of an answer that passes, or (without a `coding`) unpacks it."""

    __slots__ = ("_came", "_clock", "_effort", "_flushes", "_packer", "_went", "coding")

    def __init__(self, packer: Packer, coding: bytes, effort: Effort, clock: Callable[[], float], *, flushes: bool):
        self._packer = packer
        self._effort = effort
        self._clock = clock
        self._flushes = flushes
        self.coding = coding
        self._came = self._went = 0

    def feed(self, data: bytes | memoryview) -> bytes:
        """What is to be sent when this has come. Raises Corrupt or TooMuch."""
        began = self._clock()
        out = self._packer.feed(data)
        if self._flushes or len(data) < TRICKLE:
            out += self._packer.flush()
        self._came += len(data)
        self._went += len(out)
        ended = self._clock()
        self._effort.note(ended - began, ended)
        return out

    def finish(self) -> bytes:
        """What is to be sent at the end. Raises Corrupt."""
        out = self._packer.finish()
        self._went += len(out)
        return out

    @property
    def sizes(self) -> tuple[int, int]:
        """The bytes of the plain and of the packed body so far."""
        return (self._came, self._went) if self.coding else (self._went, self._came)


# Answers that pass.


def recoded(exchange: Exchange, answer: ResponseHead, length: int) -> tuple[ResponseHead, int]:
    """The head and the length of what the client gets in place of `answer`; `exchange.coder` does the rest."""
    plan, head, world = exchange.plan, exchange.head, exchange.world
    assert plan is not None
    assert head is not None
    compression = plan.compression
    assert compression is not None
    accept = head.get(b"accept-encoding")
    if answer.status == 304:
        if accept is None:  # it has got nothing that was packed here
            return answer, length
        return _with(answer, confirming_fields(answer.fields, head.get(b"if-none-match"))), length
    reason = compression.eligibility.why_not(answer, length, head)
    if not reason:
        coding = choose(accept, compression.order)
        level = world.effort.level(level_of(compression.settings, coding), coding, world.clock()) if coding else None
        if coding and level is not None:
            packer = encoder(coding, level, length if length >= 0 else None)
            events = is_events(answer.get(b"content-type"))
            exchange.coder = Coder(packer, coding, world.effort, world.clock, flushes=events)
            return _with(answer, compressed_fields(answer.fields, coding), unsized=True), CHUNKED
        return _with(answer, varied_fields(answer.fields)), length
    theirs = _unpackable(answer, compression)
    if theirs and length and not choose(accept, (theirs,)):
        exchange.coder = Coder(Unpacker(theirs), b"", world.effort, world.clock, flushes=False)
        return _with(answer, decoded_fields(answer.fields), unsized=True), CHUNKED
    if theirs or compression.eligibility.varies(answer):
        return _with(answer, varied_fields(answer.fields)), length
    return answer, length


def _unpackable(answer: ResponseHead, compression: Compression) -> bytes:
    """The coding of this answer, if clients that cannot read it get it unpacked; else b""."""
    if not compression.settings.decode or answer.status == 206:
        return b""
    coding = _coding_of(answer.fields)
    if not coding:
        return b""
    return b"" if (answer.get(b"cache-control") or b"").find(b"no-transform") >= 0 else coding


def _coding_of(fields: list[Field]) -> bytes:
    """The one coding of a body, if it can be unpacked; else b"". Two lines name two codings, as a list does."""
    values = [value for name, value, _ in fields if name == b"content-encoding"]
    return coding_named(values[0]) if len(values) == 1 else b""


def _with(answer: ResponseHead, fields: list[Field], *, unsized: bool = False) -> ResponseHead:
    return ResponseHead(
        answer.status,
        answer.reason,
        answer.minor,
        fields,
        lines_of(fields),
        None if unsized else answer.length,
        unsized or answer.chunked,
        answer.close,
        answer.keep_alive,
        answer.upgrade,
    )


# Requests.


def unpacked_request(
    head: RequestHead, settings: DecompressSettings, most: int | None
) -> tuple[RequestHead, Unpacker] | None:
    """The head that goes to the backend with the body unpacked, and what unpacks it; None where that cannot be done.
    At most `most` bytes may come out, where the route bounds them.
    """
    coding = _coding_of(head.fields)
    if not coding:
        return None
    fields = [field for field in head.fields if field[0] != b"content-encoding" and field[0] not in OF_BYTES]
    bound = settings.max_size if most is None else min(most, settings.max_size)
    return head.with_fields(fields, lines_of(fields)), Unpacker(coding, settings.ratio, bound)
