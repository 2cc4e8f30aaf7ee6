"""What live tests of the cache and of compression have in common: routes that do both, and what answers say of it."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Lbproxy
from tests.live.http_peers import Answer, Answered, Fields, RawClient
from tests.live.http_scripts import Live
from tests.live.peers import PATIENCE

# What the URLs of the tests begin with, as purges name them.
SITE = "http://lbproxy.test"
TEXT = (b"Content-Type", b"text/plain")
_LBPROXY = (sys.executable, "-c", "import sys; from lbproxy.cli import main; sys.exit(main())")


def route(cache: str = "true", more: str = "", *, compress: str = "") -> str:
    """The route of most tests; `cache` and `compress` are their values, `more` further keys."""
    packs = f"compress = {compress}\n" if compress else ""
    caches = f"cache = {cache}\n" if cache else ""
    return f'\n[[route]]\nlistener = "in"\npool = "out"\n{caches}{packs}{more}\n'


def caching(
    live: Live, *backends: object, cache: str = "true", compress: str = "", more: str = "", **where: str
) -> int:
    """Serve these backends through such a route. `where` are further words for Live.serve."""
    where["more"] = route(cache, more, compress=compress) + where.get("more", "")
    return live.serve(*backends, **where)


def cacheable(body: bytes = b"ok", *fields: tuple[bytes, bytes], cc: bytes = b"max-age=60", **options: Any) -> Answer:
    """An answer that says how long it is fresh; options are those of Answer."""
    return Answer(body=body, fields=((b"Cache-Control", cc), *fields), **options)


def told(answer: Answered) -> str:
    """What the cache says of itself, without its name."""
    said = answer.get(b"cache-status") or b""
    assert said.startswith(b"lbproxy; "), answer.head
    return said[9:].decode()


def is_hit(answer: Answered) -> bool:
    """Whether no backend was asked."""
    return told(answer).startswith("hit; ")


def purge(proxy: Lbproxy, **what: object) -> dict[str, Any]:
    """Purge by the control socket; its answer."""
    status, answer = proxy.ask("POST", "/v1/cache/purge", what)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def stat(proxy: Lbproxy) -> dict[str, Any]:
    """What the control socket tells of the cache."""
    status, answer = proxy.ask("GET", "/v1/cache")
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def command(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run lbproxy as a user does."""
    return subprocess.run(
        [*_LBPROXY, *words], input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def socket_of(proxy: Lbproxy) -> str:
    """The path of its control socket."""
    return str(Path(proxy.directory) / "control.sock")


def room_for(sockets: int) -> None:
    """Have so many descriptors in this process, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + 256
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} descriptors are wanted, {hard} are allowed")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Stepwise:
    """A body in pieces, each of which is sent when the test says so; ends with its test."""

    def __init__(self, stack: ExitStack, *pieces: bytes) -> None:
        self.whole = b"".join(pieces)
        self._pieces = pieces
        self._tokens = threading.Semaphore(0)
        stack.callback(self._tokens.release, len(pieces) + 1)

    def step(self, count: int = 1) -> None:
        """Send so many pieces more."""
        self._tokens.release(count)

    def all(self) -> None:
        """Send the rest."""
        self.step(len(self._pieces))

    def answer(self, *fields: tuple[bytes, bytes], cc: bytes = b"max-age=60", chunked: bool = False) -> Answer:
        """The answer with this body; its head goes out at once."""
        lines: Fields = ((b"Cache-Control", cc), *fields)
        return Answer(
            fields=lines, stream=self._stream, size=len(self.whole), framing="chunked" if chunked else "length"
        )

    def _stream(self) -> Iterator[bytes]:
        for piece in self._pieces:
            assert self._tokens.acquire(timeout=PATIENCE)
            yield piece


def unpacked(body: bytes, coding: bytes | None) -> bytes:
    """A coded body, unpacked with libraries directly: it must be whole, with nothing behind it."""
    if coding is None:
        return body
    plain, left = _UNPACKS[coding](body)
    assert left == b"", f"{len(left)} bytes behind the end"
    return plain


def _gzip(body: bytes) -> tuple[bytes, bytes]:
    found = zlib.decompressobj(31)
    plain = found.decompress(body) + found.flush()
    assert found.eof, "it is not complete"
    return plain, found.unused_data


def _br(body: bytes) -> tuple[bytes, bytes]:
    return import_module("brotli").decompress(body), b""  # which raises for what is cut off, or has something behind it


def _zstd(body: bytes) -> tuple[bytes, bytes]:
    found = import_module("backports.zstd").ZstdDecompressor()
    plain = found.decompress(body)
    assert found.eof, "it is not complete"
    return plain, found.unused_data


_UNPACKS: dict[bytes, Callable[[bytes], tuple[bytes, bytes]]] = {b"gzip": _gzip, b"br": _br, b"zstd": _zstd}


def packed(body: bytes, coding: bytes) -> bytes:
    """A body in this coding, made with libraries directly."""
    if coding == b"br":
        return bytes(import_module("brotli").compress(body))
    if coding == b"zstd":
        return bytes(import_module("backports.zstd").compress(body))
    maker = zlib.compressobj(6, zlib.DEFLATED, 31 if coding == b"gzip" else 15)
    return maker.compress(body) + maker.flush()


def ask_all(clients: list[RawClient], wire: bytes) -> None:
    """Send the same on all connections."""
    for client in clients:
        client.send(wire)
