"""The body of an answer that does not go to its client as it is: it is packed on its way, or goes into the store.

Owns these two ways out of BodyReader's. Both take the body without any framing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.compress.decoding import TooMuch
from lbproxy.compress.unpacking import Corrupt
from lbproxy.http.chunks import LAST, chunk
from lbproxy.net.http1.bodies import BodyReader
from lbproxy.net.http1.client import ClientConnection
from lbproxy.session.coding import Coder
from lbproxy.session.http_seams import BodySink


class DivertingReader(BodyReader):
    """See the module. `sink` takes the body in place of a client, `coder` packs it for one; None for neither."""

    if not TYPE_CHECKING:  # mypy knows no class that sets the slots of its subclasses
        __slots__ = ()

    sink: BodySink | None
    coder: Coder | None

    def spoilt(self) -> None:
        """The body is not what its coding says, or far too much (threats.md R7)."""
        raise NotImplementedError

    def give(self, data: bytes | memoryview) -> None:
        """See BodyReader."""
        if self.sink is not None:
            if not self.sink.take(data):
                self.slowed()
        elif self.coder is not None:
            try:
                packed = self.coder.feed(data)
            except (Corrupt, TooMuch):
                self.spoilt()
                return
            self._give_packed(packed, b"")
        else:
            super().give(data)

    def take_pipe(self) -> None:
        """See BodyReader: what is packed, or goes into the store, has to come by here."""
        if self.coder is None and self.sink is None:
            super().take_pipe()

    def end_packing(self) -> None:
        """The body has come to its end: give what the coder has kept so far."""
        coder, self.coder = self.coder, None
        if coder is None:
            return
        try:
            self._give_packed(coder.finish(), LAST)
        except Corrupt:
            self.spoilt()
            return
        if isinstance(self.peer, ClientConnection):
            self.peer.uncork()  # for an old client nothing at all may have come out

    def _give_packed(self, data: bytes, end: bytes) -> None:
        peer = self.peer
        if isinstance(peer, ClientConnection) and peer.reads_chunks:
            data = b"%b%b\r\n%b" % (chunk(len(data)), data, end) if data else end
        if data:
            super().give(data)
