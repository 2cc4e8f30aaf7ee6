"""What an exchange needs of its two ends, whatever version of HTTP they speak: `net/` fills these, tests play them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lbproxy.cache.face import Face
from lbproxy.http.forwarding import Introducer
from lbproxy.http.messages import Field, RequestHead, ResponseHead
from lbproxy.http.request_head import RequestReader
from lbproxy.model import Timeouts
from lbproxy.model_http import ErrorPage, HttpSettings
from lbproxy.routing import HttpRoutes
from lbproxy.session.seams import ClientSide, Side
from lbproxy.session.secured import TlsFacts

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange


class ClientStream(Protocol):
    """Where one request came from, and where its answer goes: an HTTP/1 connection, or a stream of a later version.

    `held` are bytes that the client's kernel did not take yet. `whole` tells that the request's body has been read to
    its end. `given` counts the bytes of this answer, `taken` those of this request.
    """

    given: int
    taken: int
    whole: bool
    touched: float
    moved: float
    dropped: int
    finished: bool

    @property
    def paused(self) -> float:
        """Seconds in which more of the request's body was not wanted."""

    @property
    def held(self) -> int:
        """Bytes that wait for the client to take them."""

    def still_takes(self) -> bool:
        """See Side."""

    def begin_body(self, backend: BackendStream) -> None:
        """Let the request's body go to `backend`, from its first byte on."""

    def hold_body(self) -> None:
        """Read no more of the request's body until it may begin again."""

    def respond(self, head: ResponseHead, length: int, lines: bytes | None, extra: bytes) -> None:
        """Begin an answer with `head`; its body of `length` follows from the backend. `lines` stand in place of the
        head's own fields (None: as they are), `extra` are further ones.
        """

    def present(self, face: Face) -> None:
        """Give a stored answer; the exchange hears `presented` when all of it has been given."""

    def unsaid(self) -> bool:
        """Take back the head of an answer, if nothing of it has gone out; whether that was so."""

    def interim(self, head: ResponseHead) -> None:
        """Pass on an answer that is not the last one (1xx)."""

    def go_on(self) -> None:
        """Tell a client that waits with its body to send it."""

    def reply(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes, *, close: bool) -> None:
        """Give an answer of our own; with `close` it is the last one of this connection."""

    def tunnel(self, head: ResponseHead, lines: bytes | None, extra: bytes) -> None:
        """Tell the client that the protocol changes; no HTTP is read or written from here on."""

    def exchange_over(self) -> None:
        """The exchange has ended in order: what comes next is another request, or the end."""


class BodySink(Protocol):
    """Who takes the body of an answer in place of a client, as it is without any framing."""

    def take(self, data: bytes | memoryview) -> bool:
        """The next bytes, which are the caller's own; False when no more is wanted until `go_on_reading`."""


class BackendStream(Side, Protocol):
    """Where a request goes, and where its answer comes from. `facts` are those of its TLS, None without. `exchange` is
    the one it works for, which may hand it on to another while it is told of the head of an answer.
    """

    facts: TlsFacts | None
    exchange: Exchange | None

    def go_on_reading(self) -> None:
        """More of the answer is wanted again."""

    def ask(self, exchange: Exchange) -> None:
        """Send the exchange's head, and tell it of the answer."""

    def send_body(self, body: bytes) -> None:
        """Send the whole body, as it goes on the wire, and tell the exchange."""

    def end_body(self) -> None:
        """The request's body is complete."""

    def abandon(self) -> None:
        """The answer is not wanted any more: end this."""


class HttpClientSide(ClientSide, ClientStream, Protocol):
    """The connection of a client that speaks HTTP."""

    def serve(self) -> None:
        """Read requests from now on."""

    def stop_body(self) -> None:
        """Nobody takes any more of the request's body; it is left with the client."""

    def drop_head(self) -> None:
        """The head that has begun will not be completed: what has come of it is answered as a request."""

    @property
    def begun(self) -> bool:
        """Whether the beginning of a request's head has come."""


@dataclass(frozen=True, slots=True)
class Front:
    """How a listener speaks HTTP now: everything that a reload changes for it at once.

    `secure` tells that TLS is ended here. `hsts` is the line of Strict-Transport-Security, b"" for none. `timeouts` are
    those until a route is known. `belongs` tells whether a host may be asked for in a session that was begun for
    a server name (None: without one). `sticky_cookies` are the names of all cookies of ours.
    """

    settings: HttpSettings
    routes: HttpRoutes
    reader: RequestReader
    introducer: Introducer
    secure: bool
    hsts: bytes
    pages: dict[int, ErrorPage]
    timeouts: Timeouts
    belongs: Callable[[str | None, str], bool]
    sticky_cookies: frozenset[bytes] = frozenset()


__all__ = ["BackendStream", "ClientStream", "Field", "Front", "HttpClientSide", "RequestHead"]
