"""The heads of messages, as they are after reading: values that routes, exchanges and writers go by.

Owns their fields. Refuses to know how heads are written on the wire: `reading` makes these from HTTP/1, and so will
another version. One head may be shared by many equal requests, so nobody changes one; the slots that are called
`memo` are there for those who have worked something out of it and want to find it again.
"""

from __future__ import annotations

from typing import Any

from lbproxy.errors import Outcome

# A header field: its name in lower case, its value without surrounding blanks, and its whole line as it is sent on
# ("Name: value\r\n", the name as it was received).
Field = tuple[bytes, bytes, bytes]

# Lengths of bodies that are no numbers.
CHUNKED = -1
UNTIL_CLOSE = -2


class HttpError(Exception):
    """The peer broke the rules of HTTP. `outcome` has the status to answer with, `rule` is the row of the table of
    threats that it met, the message a sentence for the log. Nothing further on this connection is read.
    """

    def __init__(self, outcome: Outcome, rule: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.rule = rule
        self.message = message


class RequestHead:
    """What a client asks for.

    `path` is normalised, "*" for the server as a whole; `unmerged` is the same with runs of slashes left as they
    are. `query` is what stands behind "?", None without one. `host` is normalised and has no port; `authority` is
    what is sent as Host, with the port where it is not the scheme's. `encoded_slash` tells that the path holds %2F.

    `fields` are those that may be sent on, in their order; `kept` is their lines in one piece. In neither are: Host,
    Expect, TE, framing, hop-by-hop fields and what `Connection` names, and those that tell where a request came from.
    The latter are in `origin` (Forwarded, X-Forwarded-*, X-Real-IP, True-Client-IP, X-Request-ID).

    `length` is that of the body, 0 for none, or CHUNKED; `has_length` tells whether it was written. `close` is True
    when the client wants no further answer on this connection. `expect` means 100-continue; `upgrade` is the protocols
    asked for, in lower case, b"" for none. `te_trailers` tells that trailers are welcome. `via` is what the fields of
    that name hold, joined.
    """

    __slots__ = (
        "authority",
        "close",
        "encoded_slash",
        "expect",
        "fields",
        "has_length",
        "host",
        "kept",
        "length",
        "memo_cache",
        "memo_forward",
        "memo_record",
        "memo_route",
        "method",
        "minor",
        "origin",
        "path",
        "query",
        "te_trailers",
        "unmerged",
        "upgrade",
        "via",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        unmerged: bytes,
        query: bytes | None,
        host: bytes,
        authority: bytes,
        minor: int,
        fields: list[Field],
        kept: bytes,
        origin: list[Field],
        length: int,
        has_length: bool,
        close: bool,
        expect: bool,
        upgrade: bytes,
        te_trailers: bool,
        via: bytes,
        encoded_slash: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.unmerged = unmerged
        self.query = query
        self.host = host
        self.authority = authority
        self.minor = minor
        self.fields = fields
        self.kept = kept
        self.origin = origin
        self.length = length
        self.has_length = has_length
        self.close = close
        self.expect = expect
        self.upgrade = upgrade
        self.te_trailers = te_trailers
        self.via = via
        self.encoded_slash = encoded_slash
        self.memo_forward: Any = None
        self.memo_record: Any = None
        self.memo_route: Any = None
        self.memo_cache: Any = None

    def with_method(self, method: bytes) -> RequestHead:
        """The same request with another method."""
        return self._copy(method, self.fields, self.kept, self.length, self.has_length)

    def with_fields(self, fields: list[Field], kept: bytes) -> RequestHead:
        """The same request with other fields, whose body has no length that is known beforehand."""
        return self._copy(self.method, fields, kept, CHUNKED, has_length=False)

    def _copy(self, method: bytes, fields: list[Field], kept: bytes, length: int, has_length: bool) -> RequestHead:
        return RequestHead(
            method,
            self.path,
            self.unmerged,
            self.query,
            self.host,
            self.authority,
            self.minor,
            fields,
            kept,
            self.origin,
            length,
            has_length,
            self.close,
            self.expect,
            self.upgrade,
            self.te_trailers,
            self.via,
            self.encoded_slash,
        )

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field that may be sent on; `name` in lower case."""
        for field in self.fields:
            if field[0] == name:
                return field[1]
        return None


class ResponseHead:
    """What a backend answers.

    `fields` and `kept` are as in RequestHead: without framing, hop-by-hop fields and what `Connection` names. `length`
    is the Content-Length, None where there is none (or where CHUNKED overrules it); `chunked` tells that coding. How
    long the body really is depends on the request too: see `framing.body_of_response`. `close` tells that the backend
    closes behind it, `keep_alive` the seconds for which it says that it keeps the connection, None when it does not.
    `upgrade` is the protocol it changes to, in lower case, b"" for none.
    """

    __slots__ = (
        "chunked",
        "close",
        "fields",
        "keep_alive",
        "kept",
        "length",
        "memo",
        "minor",
        "reason",
        "status",
        "upgrade",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        minor: int,
        fields: list[Field],
        kept: bytes,
        length: int | None,
        chunked: bool,
        close: bool,
        keep_alive: float | None,
        upgrade: bytes,
    ) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields
        self.kept = kept
        self.length = length
        self.chunked = chunked
        self.close = close
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.memo: Any = None

    def get(self, name: bytes) -> bytes | None:
        """The first value of a field that may be sent on; `name` in lower case."""
        for field in self.fields:
            if field[0] == name:
                return field[1]
        return None
