"""Conversations with a cache in the middle: see http_fakes.py. What the disk does is what the test says it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lbproxy.cache.body import BodyReaderLike
from lbproxy.cache.values import Stored
from lbproxy.model_cache import CacheSettings, RouteCacheSettings
from lbproxy.model_http import HttpRouteSettings
from lbproxy.session.caching import marks_of
from lbproxy.session.detached import Detached
from lbproxy.session.exchange import Exchange
from lbproxy.session.phases import ANSWER, CONNECT
from lbproxy.session.shared_cache import SharedCache
from tests.session.http_fakes import WALL, FakeBackend, FakeStream, Talk, web_pool
from tests.session.session_fakes import START

# What most answers here say of themselves.
MINUTE = "Cache-Control: max-age=60"
ETAG = '|ETag: "e1"'
HELLO = b"hello"
KEY = b"http://www.example.com/"


class CachingTalk(Talk):
    """A talk whose only route caches by these rules; `shared` is what all routes share."""

    cache: SharedCache

    def __init__(
        self,
        names: str = "a b c",
        *,
        shared: CacheSettings | None = None,
        rules: RouteCacheSettings | None = None,
        route: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        settings = HttpRouteSettings(cache=rules or RouteCacheSettings(), **(route or {}))
        if settings.split is None:
            super().__init__(names, route=settings, **rest)
        else:
            super().__init__(names, route=settings, pools=[web_pool("o", "other")], **rest)
        self.cache = SharedCache(shared or CacheSettings(), self.clock, WALL - START)
        self.cache.configure(self.cache.settings, marks_of([("web", settings)]))

    def sent(self, **parts: Any) -> Exchange:
        """A client asks; where that takes a backend, it has been asked now."""
        return self.connects(self.asks(**parts))

    def connects(self, exchange: Exchange) -> Exchange:
        """Its backend has taken the connection, if one is dialled."""
        if exchange.phase == CONNECT and exchange.backend_side is not None:
            exchange.connected()
        return exchange

    def fetched(self, *, fields: str = MINUTE, body: bytes = HELLO, status: int = 200, **parts: Any) -> Exchange:
        """A client asks, a backend is asked and answers so: all of it."""
        exchange = self.sent(**parts)
        assert exchange.phase == ANSWER, "no backend was asked"
        self.answers(exchange, status=status, fields=f"{fields}|Content-Length: {len(body)}", body=body)
        return exchange

    def begins(self, *, fields: str = MINUTE, length: int = -1, body: bytes = b"", **parts: Any) -> FakeBackend:
        """A client asks, and an answer of this length (in chunks, when nobody knows it) begins to come."""
        exchange = self.sent(**parts)
        side = self.side(exchange)
        self.comes_to(exchange, fields=fields, length=length, body=body)
        return side

    def comes_to(self, exchange: Exchange, *, fields: str = MINUTE, length: int = -1, body: bytes = b"") -> None:
        """The answer for this exchange begins to come."""
        framing = f"Content-Length: {length}" if length >= 0 else "Transfer-Encoding: chunked"
        self.answers(exchange, fields=f"{fields}|{framing}", body=body)

    def background(self) -> Detached:
        """What asks the backend without a client; it has been asked now."""
        self.passes(0)
        one = self.http_factory.seeking[-1]
        assert isinstance(one, Detached)
        self.connects(one)
        assert one.phase == ANSWER
        return one

    def told(self, exchange: Exchange) -> str:
        """What Cache-Status said of the answer."""
        for line in self.stream(exchange).extra.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "Cache-Status":
                return value
        return ""

    def given(self, exchange: Exchange) -> tuple[int, bytes]:
        """The status and the body of the stored answer that the client got."""
        stream = self.stream(exchange)
        return stream.got[-1].status, stream.content

    def asked_for(self, exchange: Exchange) -> bytes:
        """The head of the request as the backend got it, in lower case."""
        return self.side(exchange).asked.lower()

    def slow(self, room: int = 0) -> FakeStream:
        """A client that takes so many bytes of what is stored, and then no more; it asks with `conversation=`."""
        stream = self.stream(self.accept())
        stream.room = room
        return stream

    def reads(self, stream: FakeStream, count: int) -> None:
        """Such a client takes some more."""
        assert stream.room is not None
        stream.room += count
        if stream.reader is not None:
            stream.reader.more()

    def switches_off(self) -> None:
        """A reload: no route caches any more."""
        base: Talk = self
        base.cache = None

    def check_at_rest(self) -> None:
        """Nothing is under way: nobody waits, nobody asks."""
        self.passes(0)
        assert len(self.cache.flights) == 0
        assert not self.cache.crowded(self.cache.settings.memory), "a long body is still held"
        self.check_clean()

    @property
    def backends_asked(self) -> int:
        """How many requests have gone to a backend."""
        return len(self.asked)


class FakeFile:
    """A long body on its way to a file; see GrowingFile of session/shared_cache.py. `data` is all it was given,
    `length` what has been written of it, `full` whether it wants a pause.
    """

    def __init__(self, length: int | None) -> None:
        self.expected = -1 if length is None else length
        self.length = 0
        self.complete = self.failed = False
        self.on_room: Callable[[], None] | None = None
        self.data = b""
        self.full = False
        self.ended = False
        self._readers: list[BodyReaderLike] = []

    def wait(self, reader: BodyReaderLike) -> None:
        self._readers.append(reader)

    def leave(self, reader: BodyReaderLike) -> None:
        if reader in self._readers:
            self._readers.remove(reader)

    def descriptor(self) -> int:
        raise AssertionError("nobody sends from this file")

    def ready(self, position: int, most: int) -> bool:
        return position + most <= self.length

    def load(self, position: int, most: int, then: Callable[[bytes | None], None]) -> None:
        then(self.data[position : position + most])

    def add(self, data: bytes) -> bool:
        assert not self.ended, "more after the end"
        if not self.failed:
            self.data += data
        return self.failed or not self.full

    def finish(self) -> None:
        self.ended = True

    def fail(self) -> None:
        """Nobody wants it any more; or (the script) the disk is full."""
        if not self.failed and not self.complete:
            self.failed = True
            self._tell()

    # The script.

    def writes(self) -> None:
        """All that was given has been written."""
        assert not self.failed
        self.length = len(self.data)
        if self.full:
            self.full = False
            if self.on_room is not None:
                self.on_room()
        self.complete = self.ended
        self._tell()

    def _tell(self) -> None:
        for reader in list(self._readers):
            reader.more()


class FakeDisk:
    """See Disk of session/shared_cache.py. What is kept is found at once, and loaded when the test says `gives`."""

    def __init__(self) -> None:
        self.there: dict[bytes, list[tuple[Stored, tuple[bytes, ...]]]] = {}
        self.loads: list[
            tuple[
                bytes,
                Callable[[tuple[bytes, ...]], bytes],
                Callable[[Stored | None, tuple[bytes, ...]], None],
            ]
        ] = []
        self.updated: list[bytes] = []
        self.dropped: list[bytes] = []
        self.files: list[FakeFile] = []
        self.full = False

    def find(self, key: bytes) -> bool:
        return any(_whole(stored) for stored, _ in self.there.get(key, ()))

    def load(
        self,
        key: bytes,
        variant_of: Callable[[tuple[bytes, ...]], bytes],
        then: Callable[[Stored | None, tuple[bytes, ...]], None],
    ) -> None:
        self.loads.append((key, variant_of, then))

    def keep(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        others = [one for one in self.there.get(stored.key, []) if one[0].variant != stored.variant]
        self.there[stored.key] = [*others, (copied(stored), vary)]

    def update(self, stored: Stored, vary: tuple[bytes, ...]) -> None:
        self.updated.append(stored.lines)
        self.keep(stored, vary)

    def drop(self, key: bytes) -> None:
        self.dropped.append(key)
        self.there.pop(key, None)

    def begin(self, length: int | None) -> FakeFile | None:
        if self.full:
            return None
        self.files.append(FakeFile(length))
        return self.files[-1]

    # The script.

    def gives(self) -> None:
        """What was asked for first has been read, or is not there."""
        key, variant_of, then = self.loads.pop(0)
        for stored, vary in self.there.get(key, []):
            if variant_of(vary) == stored.variant and _whole(stored):
                then(copied(stored), vary)
                return
        then(None, ())

    def fails(self) -> None:
        """What was asked for first cannot be read."""
        self.loads.pop(0)[2](None, ())


def _whole(stored: Stored) -> bool:
    """Whether its body has been written: before that nobody finds it."""
    return isinstance(stored.body, bytes) or stored.body.complete


def with_disk(**parts: Any) -> tuple[CachingTalk, FakeDisk]:
    """A talk whose cache has a disk."""
    talk = CachingTalk(**parts)
    talk.cache.disk = disk = FakeDisk()
    return talk, disk


def copied(stored: Stored) -> Stored:
    """The same as another object, as it comes from a disk."""
    return Stored(
        stored.key,
        stored.variant,
        stored.status,
        stored.reason,
        stored.lines,
        stored.body,
        coding=stored.coding,
        born=stored.born,
        fresh_until=stored.fresh_until,
        while_revalidate=stored.while_revalidate,
        if_error=stored.if_error,
        flags=stored.flags,
        tags=stored.tags,
        checked=stored.checked,
    )


__all__ = ["ETAG", "HELLO", "KEY", "MINUTE", "CachingTalk", "FakeDisk", "FakeFile", "copied", "with_disk"]
