"""Heads and bodies for the tests of compression."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from hypothesis import strategies as st

from lbproxy.http.messages import Field, RequestHead, ResponseHead

CODINGS = (b"zstd", b"br", b"gzip")
# The library itself, without any of our code.
zstd: Any = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
PACKED = (*CODINGS, b"deflate")

# Text that packs well, bytes that do not, and runs that pack very well: what and how often. See `made`.
RECIPES = st.lists(
    st.one_of(
        st.tuples(st.binary(max_size=200), st.just(1)),
        st.tuples(
            st.sampled_from([b"<p>some text</p>\n", b'{"name": "value"}, ', b"\0", b"abc" * 100]), st.integers(1, 1500)
        ),
        st.tuples(st.integers(0, 2**32), st.just(3000)),
    ),
    max_size=6,
)
Recipe = list[tuple[bytes | int, int]]


def made(recipe: Recipe) -> bytes:
    """The body: so many times this text, or so many bytes of the noise with this seed."""
    return b"".join(noise(what, count) if isinstance(what, int) else what * count for what, count in recipe)


def noise(seed: int, size: int) -> bytes:
    """Bytes that no coding makes shorter."""
    state, out = seed * 2 + 1, bytearray()
    while len(out) < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out += (state >> 32).to_bytes(4, "big")
    return bytes(out[:size])


def pieces(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at these places, which may be beyond its end."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def fields(*pairs: tuple[str, str]) -> list[Field]:
    return [
        (name.lower().encode(), value.encode("latin-1"), f"{name}: {value}\r\n".encode("latin-1"))
        for name, value in pairs
    ]


def answer(*pairs: tuple[str, str], status: int = 200) -> ResponseHead:
    made = fields(*pairs)
    return ResponseHead(status, b"", 1, made, b"".join(field[2] for field in made), None, False, False, None, b"")


def page(*pairs: tuple[str, str], status: int = 200) -> ResponseHead:
    """An answer with text."""
    return answer(("Content-Type", "text/html; charset=utf-8"), *pairs, status=status)


def request(*pairs: tuple[str, str], method: bytes = b"GET", minor: int = 1) -> RequestHead:
    made = fields(*pairs)
    return RequestHead(
        method,
        b"/",
        b"/",
        None,
        b"a.example",
        b"a.example",
        minor,
        made,
        b"".join(field[2] for field in made),
        [],
        0,
        False,
        False,
        False,
        b"",
        False,
        b"",
        False,
    )
