"""What the targets share: how atheris is started, and how input becomes settings and places to cut at."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def cut(data: bytes, places: bytes) -> list[bytes]:
    """`data` in pieces, as the bytes of `places` say."""
    pieces = []
    for place in places:
        size = place % (len(data) + 1)
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def instrumented() -> AbstractContextManager[object]:
    """Within it, what is imported of lbproxy tells atheris which branches were taken; without atheris, nothing."""
    try:
        atheris = _atheris()
    except ImportError:
        return nullcontext()
    found: AbstractContextManager[object] = atheris.instrument_imports(include=["lbproxy.http"])
    return found


def _atheris() -> Any:
    return importlib.import_module("atheris")  # it has no types


# What messages are made of, for libFuzzer to put together.
WORDS = (
    *(
        "GET ",
        "POST ",
        "OPTIONS * ",
        " HTTP/1.1\\x0d\\x0a",
        " HTTP/1.0\\x0d\\x0a",
        "HTTP/1.1 200 OK\\x0d\\x0a",
        "http://a",
    ),
    *(
        "Host: a\\x0d\\x0a",
        "Content-Length: 5\\x0d\\x0a",
        "Transfer-Encoding: chunked\\x0d\\x0a",
        "Connection: ",
        "close",
    ),
    *("Expect: 100-continue\\x0d\\x0a", "Upgrade: ", "TE: trailers\\x0d\\x0a", "Keep-Alive: timeout=5", "\\x0d\\x0a"),
    *(
        "\\x0d\\x0a\\x0d\\x0a",
        "\\x0d\\x0a ",
        "%2e%2e",
        "%2f",
        "%25",
        "%c0%af",
        "/../",
        "//",
        ";a=b",
        "5\\x0d\\x0ahello\\x0d\\x0a",
    ),
    *("0\\x0d\\x0a\\x0d\\x0a", "7fffffff", "[::1]", ":80", "_", "X-Forwarded-For: ", "Set-Cookie: a=b\\x0d\\x0a"),
)


def run(target: Callable[[bytes], None], seeds: list[bytes]) -> None:
    """Runs `target` on the seeds and what libFuzzer makes of them; its options are those of the command line."""
    atheris = _atheris()
    with TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            Path(corpus, str(number)).write_bytes(seed)
        words = Path(folder, "words")
        words.write_text("".join(f'"{word}"\n' for word in WORDS))
        atheris.Setup([*sys.argv, f"-dict={words}", str(corpus)], target)
        atheris.Fuzz()
