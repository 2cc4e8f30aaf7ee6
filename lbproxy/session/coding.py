"""In which coding a body goes to the client, and the packing of bodies on their way.

Owns the choice for answers that pass and for those that are stored, and the work itself, which is measured: who is too
busy packs less. Which answers are worth it, and the codings, are in `compress/`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lbproxy.cache.body import LEAD, AnyBody, Body
from lbproxy.cache.values import COMPRESSIBLE, Query, Stored
from lbproxy.compress.codings import encode, encoder, level_of, usable
from lbproxy.compress.decoding import TooMuch, coding_named, decode, decoder
from lbproxy.compress.effort import Effort
from lbproxy.compress.eligibility import Eligibility, is_events
from lbproxy.compress.heads import compressed_fields, confirming_fields, decoded_fields, varied_fields
from lbproxy.compress.negotiation import BR, GZIP, IDENTITY_REFUSED, ZSTD, choose
from lbproxy.compress.unpacking import Corrupt
from lbproxy.http.messages import CHUNKED, Field, RequestHead, ResponseHead
from lbproxy.http.writing import lines_of
from lbproxy.model_cache import CompressSettings, DecompressSettings
from lbproxy.session.shared_cache import length_of

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange
    from lbproxy.session.seams import World

# Whole bodies that are longer than this are packed in a thread.
_ASIDE = 64 * 1024
# What comes in pieces smaller than this is passed on at once.
_TRICKLE = 16 * 1024
_STEP = 64 * 1024
# Bounds for bodies that backends have packed (threats.md, section 2).
_RATIO, _MOST = 100, 32 * 1024 * 1024
# These are true of the packed bytes alone.
_OF_BYTES = frozenset({b"content-md5", b"content-digest", b"digest"})
_BITS = {b"zstd": ZSTD, b"br": BR, b"gzip": GZIP}


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

    def __init__(self, coding: bytes, ratio: int = _RATIO, most: int | None = None) -> None:
        self._decoder = decoder(coding, ratio=ratio, most=most)

    def feed(self, data: bytes | memoryview) -> bytes:
        pieces = [self._decoder.feed(bytes(data), _STEP)]
        while self._decoder.pending:
            pieces.append(self._decoder.feed(b"", _STEP))
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
        if self._flushes or len(data) < _TRICKLE:
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
    fields = [field for field in head.fields if field[0] != b"content-encoding" and field[0] not in _OF_BYTES]
    bound = settings.max_size if most is None else min(most, settings.max_size)
    return head.with_fields(fields, lines_of(fields)), Unpacker(coding, settings.ratio, bound)


# Answers that are stored.


def coding_for(compression: Compression, stored: Stored, query: Query, world: World, minor: int) -> bytes:
    """The coding in which a stored answer goes to this client, b"" for plain."""
    if not isinstance(stored.body, bytes) and (not isinstance(stored.body, Body) or stored.body.passing):
        return stored.coding  # what lies in a file is sent from there
    if stored.coding:
        readable = stored.coding not in _BITS or query.codings & _BITS[stored.coding]
        unpacks = compression.settings.decode and not readable and bool(coding_named(stored.coding))
        return b"" if unpacks and b"no-transform" not in stored.lines.lower() else stored.coding
    if not stored.flags & COMPRESSIBLE or not query.codings or not minor or query.no_transform:
        return b""
    length = length_of(stored.body)
    if not length or (0 < length < compression.settings.min_size and not query.codings & IDENTITY_REFUSED):
        return b""
    coding = choose(query.accept_encoding, compression.order)
    if not coding or (stored.coded is not None and coding in stored.coded):
        return coding
    wanted = level_of(compression.settings, coding)
    return b"" if world.effort.level(wanted, coding, world.clock()) is None else coding


def depends(compression: Compression, stored: Stored) -> bool:
    """Whether it depends on Accept-Encoding in which coding a stored answer goes out."""
    if stored.flags & COMPRESSIBLE:
        return True
    return compression.settings.decode and stored.coding in _BITS and b"no-transform" not in stored.lines.lower()


def in_coding(fields: list[Field], theirs: bytes, coding: bytes, *, varies: bool) -> list[Field]:
    """The fields of a stored answer as it goes out in `coding`; `theirs` is that of the backend."""
    if coding == theirs:
        return varied_fields(fields) if varies else fields
    return compressed_fields(fields, coding) if coding else decoded_fields(fields)


def coded_body(world: World, stored: Stored, coding: bytes, compression: Compression) -> AnyBody:
    """The body of a stored answer in another coding than its own: once for all who want it."""
    if stored.coded is None:
        stored.coded = {}
    known = stored.coded.get(coding)
    if known is not None:
        return known
    body = _make(world, stored, coding, compression)
    if isinstance(body, Body) and body.complete:
        body = body.whole()
    stored.coded[coding] = body
    if isinstance(body, bytes):
        _counted(world, stored)
    return body


def _make(world: World, stored: Stored, coding: bytes, compression: Compression) -> AnyBody:
    source, theirs = stored.body, stored.coding
    began = world.clock()
    level = 0
    if coding:
        wanted = level_of(compression.settings, coding)
        level = world.effort.level(wanted, coding, began) or 1
    if isinstance(source, bytes):

        def work() -> bytes:
            if not coding:
                return decode(theirs, source, ratio=_RATIO, most=_MOST)
            return encode(coding, level, source)

        if len(source) > _ASIDE or not coding:
            return _aside(world, stored, coding, work)
        body = work()
        ended = world.clock()
        world.effort.note(ended - began, ended)
        return body
    assert isinstance(source, Body)  # coding_for leaves files alone
    following = _Following(
        world, stored, coding, source, encoder(coding, level, None) if coding else Unpacker(theirs, most=_MOST)
    )
    return following.body


def _aside(world: World, stored: Stored, coding: bytes, work: Callable[[], bytes]) -> Body:
    """Have it made in a thread; whoever wants it waits for it."""
    body = Body()
    began = world.clock()

    def made(data: bytes | None) -> None:
        ended = world.clock()
        world.effort.note(ended - began, ended)
        if data is None:
            if stored.coded is not None:
                stored.coded.pop(coding, None)
            body.fail()
            return
        _settle(world, stored, coding, body, data)

    world.aside(work, made)
    return body


def _settle(world: World, stored: Stored, coding: bytes, body: Body, rest: bytes) -> None:
    """It is complete."""
    body.add(rest)
    body.finish()
    if stored.coded is not None and stored.coded.get(coding) is body:
        stored.coded[coding] = body.whole()
        _counted(world, stored)


def _counted(world: World, stored: Stored) -> None:
    if world.cache is not None:
        world.cache.store.resize(stored)


class _Following:
    """Packs a body as it comes, for all who want it in this coding."""

    may_lag = False

    __slots__ = ("_coding", "_packer", "_source", "_stored", "_world", "body", "position")

    def __init__(self, world: World, stored: Stored, coding: bytes, source: Body, packer: Packer) -> None:
        self._world = world
        self._stored = stored
        self._coding = coding
        self._source = source
        self._packer = packer
        self.position = 0
        self.body = Body()
        source.wait(self)
        self.more()

    def more(self) -> None:
        """See BodyReaderLike."""
        source, body = self._source, self.body
        if source.passing and not body.passing:
            body.pass_on(self._advanced)
        lead = LEAD if source.passing else _MOST  # what is kept has its bound already
        try:
            out, took = b"", 0
            while self.position < source.length and body.lead <= lead:
                data = source.read(self.position, _STEP)
                self.position += len(data)
                took += len(data)
                out += self._packer.feed(data)
            if source.complete and self.position == source.length:
                _settle(self._world, self._stored, self._coding, self.body, out + self._packer.finish())
                return
            if took < _TRICKLE:
                out += self._packer.flush()
        except (Corrupt, TooMuch):
            source.leave(self)
            self._fail()
            return
        if source.failed:
            self._fail()
        else:
            body.add(out)
            source.advanced()

    def _fail(self) -> None:
        """It cannot be had in this coding."""
        coded = self._stored.coded
        if coded is not None and coded.get(self._coding) is self.body:
            del coded[self._coding]
        self.body.fail()

    def _advanced(self) -> None:
        """Those who read the packed body have gone on, or left."""
        if not self.body.readers:
            self._source.leave(self)
        elif self.position < self._source.length:
            self.more()
