"""Stored bodies in other codings than their own, each made once for all who want it.

Owns which coding a client gets of what is stored, and when a body is packed: at once if it is short, in a thread if it
is long, and piece by piece while it is still coming.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from lbproxy.cache.body import LEAD, AnyBody, Body
from lbproxy.cache.values import COMPRESSIBLE, Query, Stored
from lbproxy.compress.codings import encode, encoder, level_of
from lbproxy.compress.decoding import TooMuch, coding_named, decode
from lbproxy.compress.heads import compressed_fields, decoded_fields, varied_fields
from lbproxy.compress.negotiation import BR, GZIP, IDENTITY_REFUSED, ZSTD, choose
from lbproxy.compress.unpacking import Corrupt
from lbproxy.http.messages import Field
from lbproxy.session.coding import MOST, RATIO, STEP, TRICKLE, Compression, Packer, Unpacker
from lbproxy.session.shared_cache import length_of

if TYPE_CHECKING:
    from lbproxy.session.seams import World

# Whole bodies that are longer than this are packed in a thread.
_ASIDE = 64 * 1024
_BITS = {b"zstd": ZSTD, b"br": BR, b"gzip": GZIP}


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
                return decode(theirs, source, ratio=RATIO, most=MOST)
            return encode(coding, level, source)

        if len(source) > _ASIDE or not coding:
            return _aside(world, stored, coding, work)
        body = work()
        ended = world.clock()
        world.effort.note(ended - began, ended)
        return body
    assert isinstance(source, Body)  # coding_for leaves files alone
    following = _Following(
        world, stored, coding, source, encoder(coding, level, None) if coding else Unpacker(theirs, most=MOST)
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
    if stored.coded is None or stored.coded.get(coding) is not body:
        return
    if body.passing:
        del stored.coded[coding]  # only its end is there
    else:
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
        lead = LEAD if source.passing else inf  # what is kept has its bound already
        try:
            out, took = b"", 0
            while self.position < source.length and body.lead <= lead:
                data = source.read(self.position, STEP)
                self.position += len(data)
                took += len(data)
                out += self._packer.feed(data)
            if source.complete and self.position == source.length:
                _settle(self._world, self._stored, self._coding, self.body, out + self._packer.finish())
                return
            if took < TRICKLE:
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
