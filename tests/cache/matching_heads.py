"""Heads of requests and answers for the tests of what matches what: read from bytes, as the real ones are."""

from __future__ import annotations

from lbproxy.cache.values import Stored
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.http.request_head import RequestReader
from lbproxy.http.response_head import ResponseReader
from lbproxy.model_http import HttpSettings


def request(target: bytes = b"/", *lines: bytes, host: bytes = b"a.example", method: bytes = b"GET") -> RequestHead:
    """The head of a request with these further field lines."""
    text = b"\r\n".join((b"%b %b HTTP/1.1" % (method, target), b"Host: " + host, *lines, b"", b""))
    found = RequestReader(HttpSettings(), secure=False).read(text)
    if found is None:
        raise ValueError(f"{text!r} is no whole head")
    return found[0]


def answer(status: int, *lines: bytes) -> ResponseHead:
    """The head of an answer with these field lines."""
    text = b"\r\n".join((b"HTTP/1.1 %d Word" % status, *lines, b"", b""))
    found = ResponseReader().read(text)
    if found is None:
        raise ValueError(f"{text!r} is no whole head")
    return found[0]


def stored(key: bytes = b"http://a.example/", *, tags: tuple[bytes, ...] | None = None, checked: int = 0) -> Stored:
    """A stored answer of which nothing else matters."""
    return Stored(
        key,
        b"",
        200,
        b"OK",
        b"",
        b"",
        coding=b"",
        born=0.0,
        fresh_until=0.0,
        while_revalidate=0.0,
        if_error=0.0,
        flags=0,
        tags=tags,
        checked=checked,
    )
