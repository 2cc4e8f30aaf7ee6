"""What the targets share: how atheris is started, and how input becomes settings and places to cut at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


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
        import atheris
    except ImportError:
        return nullcontext()
    found: AbstractContextManager[object] = atheris.instrument_imports(include=["lbproxy.http"])
    return found


def run(target: Callable[[bytes], None], seeds: list[bytes]) -> None:
    """Runs the seeds and then what libFuzzer makes of itself; its options are those of the command line."""
    import atheris

    for seed in seeds:
        target(seed)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
