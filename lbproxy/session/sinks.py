"""Where the body of an answer goes that is stored: into memory, and into a file as well where it is long.

Owns when it is too long for memory, and when the backend has to wait: for the disk, or for readers where there is no
file. Refuses to know whose answer it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lbproxy.cache.body import LEAD, AnyBody, Body
from lbproxy.errors import CLIENT_GONE_IN_DATA, Outcome
from lbproxy.session.detached import Nowhere
from lbproxy.session.shared_cache import GrowingFile

# A body of unknown length is written to a file as well from here on, and a file may be so far behind (bytes).
_SPILL = _BEHIND = 1024 * 1024
OpenFile = Callable[[int | None], GrowingFile | None]


class Owner(Protocol):
    """Who takes the body from the backend: see Fill in filling.py."""

    has_begun: bool

    def too_long(self) -> None:
        """It will not be stored after all."""

    def go_on_reading(self) -> None:
        """There is room for more of the body."""

    def over(self, outcome: Outcome, *, cut: bool = False) -> None:
        """Nobody wants it any more."""


class Sink(Nowhere):
    """Where the bytes of the body go: into a body in memory, and into a file as well once they are many. While it is
    `full` the backend is not read.
    """

    __slots__ = ("_file", "_fill", "_most", "_open_file", "full", "into", "kept")

    def __init__(self, body: Body, file: GrowingFile | None, most: int, open_file: OpenFile | None) -> None:
        """`most` bytes may be kept in memory; `open_file` makes a file for a body of unknown length."""
        super().__init__()
        self.into = body
        self.kept = True
        self.full = False
        self._file = file
        self._most = most
        self._open_file = open_file or _no_file
        self._fill: Owner | None = None

    def use(self, fill: Owner) -> None:
        """This is whose body it is."""
        self._fill = fill
        if self._file is not None:
            self._pass_on(self._file)

    def take(self, data: bytes | memoryview) -> bool:
        """See BodySink."""
        body, data = self.into, bytes(data)
        body.add(data)
        file, more = self._file, True
        if file is not None:
            more = file.add(data)
        elif self.kept and body.expected < 0 and body.length > min(_SPILL, self._most):
            self._file = file = self._open_file(None)
            if file is not None:
                more = file.add(body.whole())
            self._open_file = _no_file
        if not body.passing and body.length > self._most:
            self._pass_on(file)
        self.full = not more or (body.passing and body.lead > LEAD + _BEHIND)
        return not self.full

    @property
    def held(self) -> int:
        """See ClientStream: what the backend waits for its readers with. A file that is slow is not one of them."""
        if not self.full:
            return 0
        body, file = self.into, self._file
        return body.lead - (0 if file is None or file.failed else body.length - file.length)

    def finish(self) -> AnyBody | None:
        """All of it has come: what is to be stored of it, None for nothing."""
        body, file = self.into, self._file
        if not body.passing:
            if file is not None:
                file.fail()  # it was shorter than it might have been
            body.finish()
            return body.whole()
        if file is not None:
            file.finish()
        body.finish()
        return file if file is not None and not file.failed else None

    def release(self) -> None:
        """Know nobody any more: bodies are large, and should not have to wait for the collector of cycles."""
        self._fill = None
        if self._file is not None:
            self._file.on_room = None

    def fail(self) -> None:
        """It will never be whole."""
        if self._file is not None:
            self._file.fail()
        self.into.fail()

    def _pass_on(self, file: GrowingFile | None) -> None:
        """It is too long for memory: without a file it is not stored after all, and nobody can join its readers."""
        fill = self._fill
        if fill is None:
            return
        if file is None:
            self.kept = False
            fill.too_long()
        else:
            file.on_room = fill.go_on_reading
            file.wait(_Follower(self.into))
        self.into.pass_on(self._advanced, file)
        self._advanced()  # those for whom it was read may have left before

    def _advanced(self) -> None:
        body, fill = self.into, self._fill
        if fill is None or body.complete or body.failed:
            return
        lost = self._file is None or self._file.failed
        if lost and not body.readers and fill.has_begun:
            fill.over(CLIENT_GONE_IN_DATA)  # they have all left, and it is for nobody else
        elif self.full and body.lead <= (LEAD if lost else LEAD + _BEHIND) // 2:
            fill.go_on_reading()


class _Follower:
    """Tells a body that more of its file has been written."""

    __slots__ = ("_body",)

    position = 0
    may_lag = True

    def __init__(self, body: Body) -> None:
        self._body = body

    def more(self) -> None:
        """See BodyReaderLike."""
        self._body.advanced()


def _no_file(_: int | None) -> None:
    return None
