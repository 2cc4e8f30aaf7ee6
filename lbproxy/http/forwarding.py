"""What a backend is told about the client: where the request came from, through whom, and its name.

Owns the fields that a proxy adds to requests (X-Forwarded-*, Forwarded, Via, X-Request-ID, traceparent, the client's
certificate). Refuses to know which of a peer's own claims are true: that is in trust.py. What is the same for all
requests of one client is put together once.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.addresses import NetworkSet
from lbproxy.http.identity import RequestIds, acceptable, mint_traceparent, valid_traceparent
from lbproxy.http.messages import Field, RequestHead
from lbproxy.http.trust import forwarded_line, walk
from lbproxy.model_http import HttpSettings

_ID_LINE = b"X-Request-ID: "


class Introducer:
    """The part that is the listener's: its settings, the name of this instance and the source of ids."""

    __slots__ = ("ids", "instance", "settings", "trusted", "via")

    def __init__(self, settings: HttpSettings, instance: bytes, ids: RequestIds) -> None:
        """`instance` is the pseudonym of this instance in Via (see via_name; RFC 9110, section 7.6.3)."""
        self.settings = settings
        self.trusted: NetworkSet | None = settings.trusted_peers
        self.instance = instance
        self.via = b"Via: 1.1 %b\r\n" % instance if settings.via else b""
        self.ids = ids


class Client:
    """The part that is one client's, for all its requests.

    `plain` is True where nothing that the client says about itself is believed and nothing unusual is added: then
    `tail`, an id and the end of the head are all that a request needs besides its own fields.
    """

    __slots__ = ("certificate", "introducer", "ip", "plain", "port", "scheme", "tail")

    def __init__(
        self, introducer: Introducer, ip: str, port: int, *, secure: bool, certificate: Sequence[Field] = ()
    ) -> None:
        """`port` is that on which the client came in, `ip` "" for a client on a UNIX socket, `certificate` what is said
        about the certificate that it showed.
        """
        settings = introducer.settings
        self.introducer = introducer
        self.ip = ip
        self.scheme = b"https" if secure else b"http"
        self.port = b"%d" % port
        self.certificate = b"".join([field[2] for field in certificate])
        believed = not ip or (introducer.trusted is not None and ip in introducer.trusted)
        self.plain = not believed and settings.request_id and not settings.forwarded and settings.traceparent == "pass"
        self.tail = b""
        if self.plain:
            self.tail = b"".join((self._origin(ip.encode(), None, None), self.certificate, introducer.via, _ID_LINE))

    def _origin(self, forwarded_for: bytes, proto: bytes | None, port: bytes | None) -> bytes:
        return b"%bX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %b\r\n" % (
            b"X-Forwarded-For: %b\r\n" % forwarded_for if forwarded_for else b"",
            proto or self.scheme,
            port or self.port,
        )

    def introduction(self, head: RequestHead) -> Introduction:
        """What is said with this request, where that is not `plain`."""
        introducer = self.introducer
        settings = introducer.settings
        origin = walk(self.ip, head.origin, introducer.trusted)
        believed = not self.ip or (introducer.trusted is not None and self.ip in introducer.trusted)
        request_id = (_own_id(head) if believed else None) or introducer.ids.new()
        host = origin.host or head.authority
        parts = [
            b"X-Forwarded-Host: %b\r\n" % host,
            self._origin(origin.forwarded_for, origin.proto, origin.port),
            b"X-Forwarded-Prefix: %b\r\n" % origin.prefix if origin.prefix else b"",
            b"Forwarded: %b\r\n" % forwarded_line(origin, self.ip, self.scheme, head.authority)
            if settings.forwarded
            else b"",
            self._trace(head),
            self.certificate,
            introducer.via,
            b"%b%b\r\n" % (_ID_LINE, request_id) if settings.request_id else b"",
        ]
        return Introduction(origin.client_ip, b"".join(parts), request_id, origin.proto)

    def _trace(self, head: RequestHead) -> bytes:
        """A traceparent of our own where one is wanted and none that is valid came (W3C Trace Context, 3.2)."""
        if self.introducer.settings.traceparent != "mint" or _traced(head):
            return b""
        return b"traceparent: %b\r\n" % mint_traceparent(self.introducer.ids)


class Introduction:
    """What one request says about its client: `lines`, and who that is for everything that goes by the client.

    `scheme` is what a trusted peer says that the client used, None where it says nothing.
    """

    __slots__ = ("client_ip", "lines", "request_id", "scheme")

    def __init__(self, client_ip: str, lines: bytes, request_id: bytes, scheme: bytes | None) -> None:
        self.client_ip = client_ip
        self.lines = lines
        self.request_id = request_id
        self.scheme = scheme


def passed_on(head: RequestHead, traceparent: str) -> list[Field]:
    """The fields of `head` without a traceparent that is unwanted, or that no one can read where we mint our own."""
    if traceparent == "pass" or (traceparent == "mint" and _traced(head)):
        return head.fields
    return [field for field in head.fields if field[0] not in (b"traceparent", b"tracestate")]


def _traced(head: RequestHead) -> bool:
    given = head.get(b"traceparent")
    return given is not None and valid_traceparent(given)


def _own_id(head: RequestHead) -> bytes | None:
    for name, value, _ in head.origin:
        if name == b"x-request-id" and acceptable(value):
            return value
    return None
