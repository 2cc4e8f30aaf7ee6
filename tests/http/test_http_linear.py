"""The work is linear in the bytes (R12): for what makes careless readers quadratic, four times as much takes about four
times as long, not sixteen.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from time import thread_time

import pytest

from lbproxy.http.chunks import ChunkReader
from lbproxy.http.hosts import normalise_host
from lbproxy.http.lines import read_field
from lbproxy.http.messages import HttpError
from lbproxy.http.target import normalise, read_target
from lbproxy.model_http import HttpSettings
from tests.http.http_reading import request, response

Read = Callable[[bytes], object]

BIG = HttpSettings(max_head=1 << 30, max_target=1 << 30, max_fields=1 << 30)
START = b"GET / HTTP/1.1\r\nHost: a\r\n"
END = b" HTTP/1.1\r\nHost: a\r\n\r\n"


def ask(data: bytes) -> object:
    return request(BIG)(data)


def host(data: bytes) -> object:
    return normalise_host(data, 80)


def body(data: bytes) -> object:
    return ChunkReader().read(data)


def answer(data: bytes) -> object:
    return response()(data)


CASES: dict[str, tuple[Read, Callable[[int], bytes]]] = {
    "blanks before a bad byte": (read_field, lambda n: b"X: " + b" " * n + b"\0"),
    "blanks in a name": (read_field, lambda n: b"X" + b" \t" * n + b": y"),
    "no colon": (read_field, lambda n: b"x" * n),
    "colons": (read_field, lambda n: b":" * n),
    "dots": (normalise, lambda n: b"/a/.." * n),
    "empty segments": (normalise, lambda n: b"/" * n + b"a/.."),
    "empty segments before dots": (normalise, lambda n: b"/a" + b"/" * n + b"../b//.." * n),
    "segments before dots": (normalise, lambda n: b"/a" * n + b"/.." * n),
    "percent signs": (normalise, lambda n: b"/" + b"%25" * n + b"2f"),
    "percent signs and no end": (normalise, lambda n: b"/" + b"%25" * n + b"%"),
    "a bad byte in a target": (read_target, lambda n: b"/" + b"a" * n + b"\0"),
    "segments in a request line": (ask, lambda n: b"GET " + b"/a" * n + b"\\" + END),
    "question marks": (ask, lambda n: b"GET /" + b"?" * n + b"\x80" + END),
    "labels": (host, lambda n: b"a." * n + b"-"),
    "fields": (ask, lambda n: START + b"X: y\r\n" * n + b"\r\n"),
    "different fields": (ask, lambda n: START + b"".join(b"X%d: y\r\n" % i for i in range(n)) + b"\r\n"),
    "connection options": (ask, lambda n: START + b"Connection: " + b"a, " * n + b"b\r\n\r\n"),
    "fields named away": (ask, lambda n: START + b"Connection: a\r\n" * n + b"A: b\r\n" * n + b"\r\n"),
    "codings": (ask, lambda n: START + b"Transfer-Encoding: " + b"a," * n + b"b\r\n\r\n"),
    "lengths": (ask, lambda n: START + b"Content-Length: " + b"5," * n + b"5\r\n\r\n"),
    "origin fields": (ask, lambda n: START + b"X-Forwarded-For: a\r\n" * n + b"\r\n"),
    "keep-alive": (answer, lambda n: b"HTTP/1.1 200 OK\r\nKeep-Alive: " + b"timeout=" * n + b"\r\n\r\n"),
    "a bare CR behind pairs": (ask, lambda n: START + b"X: y\r\n" * n + b"\r."),
    "chunks": (body, lambda n: b"1\r\nx\r\n" * n),
    "chunks with extensions": (body, lambda n: b"1;a\r\nx\r\n" * n),
    "trailers": (body, lambda n: b"0\r\n" + b"X: y\r\n" * n),
}


def least(read: Read, data: bytes) -> float:
    """CPU seconds of the quickest of some readings."""
    best = 1e9
    for _ in range(5):
        start = thread_time()
        with suppress(HttpError):
            read(data)
        best = min(best, thread_time() - start)
    return best


@pytest.mark.parametrize("name", CASES)
def test_four_times_the_bytes_are_about_four_times_the_work(name: str) -> None:
    read, build = CASES[name]
    size = 500
    gc.disable()
    try:
        # Large enough to be measured. What is bounded never gets there, and is as quick for any size.
        while (once := least(read, build(size))) < 0.001 and size < 50_000:
            size *= 2
        assert least(read, build(4 * size)) < 9 * once + 0.001
    finally:
        gc.enable()
