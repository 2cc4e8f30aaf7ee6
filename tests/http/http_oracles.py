"""What other readers of HTTP/1.1 make of bytes: h11, and llhttp through httptools.

What they say is put in the same terms as ours, so that tests can compare.
"""

from __future__ import annotations

from typing import Any

import h11
import httptools

from lbproxy.http.messages import CHUNKED, RequestHead
from lbproxy.http.request_head import RequestReader
from lbproxy.model_http import HttpSettings
from tests.http.http_reading import NOT_FORWARDED, forwarded, said

# Method, target, fields (names in lower case) and the framing that goes by them.
Meaning = tuple[bytes, bytes, list[tuple[bytes, bytes]]]
LIMIT = 1 << 17


def assert_same_to_others(head: RequestHead) -> None:
    """The canonical form of `head` says the same to us, to h11 and to llhttp (I1)."""
    data = forwarded(head)
    again = RequestReader(HttpSettings(), secure=False).read(data)
    assert again is not None
    assert again[1] == len(data)
    ours, theirs = said(head), said(again[0])
    for name in NOT_FORWARDED:
        del ours[name], theirs[name]
    assert ours == theirs
    target = head.path if head.query is None else head.path + b"?" + head.query
    fields = [(b"host", head.authority), *((name, value) for name, value, _ in head.fields)]
    if head.length == CHUNKED:
        fields.append((b"transfer-encoding", b"chunked"))
    elif head.has_length:
        fields.append((b"content-length", b"%d" % head.length))
    if head.expect:
        fields.append((b"expect", b"100-continue"))
    if head.te_trailers:
        fields += [(b"te", b"trailers"), (b"connection", b"TE")]
    assert sorted(of_h11(data)[2]) == sorted(fields)
    assert of_h11(data)[:2] == (head.method, target)
    if of_llhttp(data) is not None or head.method in LLHTTP_METHODS:
        assert of_llhttp(data) == (head.method, target, fields)


# llhttp knows a fixed list of methods.
LLHTTP_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")


def of_h11(data: bytes) -> Meaning:
    """What h11 makes of a request's head. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
    connection.receive_data(data)
    event = connection.next_event()
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError("no request")
    return event.method, event.target, [(name, value) for name, value in event.headers]


class _Seen:
    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.heads = 0
        self.complete = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def of_llhttp(data: bytes) -> Meaning | None:
    """What llhttp makes of a request's head, None when it refuses it."""
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return (parser.get_method(), seen.target, seen.fields) if seen.heads else None


def response_of_llhttp(data: bytes) -> tuple[int, list[tuple[bytes, bytes]]] | None:
    """Status and fields that llhttp sees in a response's head, None when it refuses it."""
    seen = _Seen()
    parser = httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return (parser.get_status_code(), seen.fields) if seen.heads else None


def response_of_h11(data: bytes) -> tuple[int, list[tuple[bytes, bytes]]] | None:
    """Status and fields that h11 sees in a response's head, None when it refuses it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
    connection.send(h11.Request(method=b"GET", target=b"/", headers=[(b"host", b"a")]))
    connection.receive_data(data)
    try:
        event: Any = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, (h11.Response, h11.InformationalResponse)):
        return None
    return event.status_code, [(name, value) for name, value in event.headers]


def body_of_h11(data: bytes) -> tuple[bytes, bool] | None:
    """The payload h11 finds in a chunked body, and whether it has ended; None when it refuses it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    body = b""
    try:
        while True:
            event: Any = connection.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body, True
            elif event is h11.NEED_DATA:
                return body, False
    except h11.RemoteProtocolError:
        return None


def body_of_llhttp(data: bytes) -> tuple[bytes, bool] | None:
    """The payload llhttp finds in a chunked body, and whether it has ended; None when it refuses it."""
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        # What is wrong behind the end is another message.
        return (seen.body, True) if seen.complete else None
    return seen.body, bool(seen.complete)
