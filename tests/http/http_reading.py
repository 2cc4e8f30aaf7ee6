"""Reading one message in every way that bytes can come, for the tests and fuzzers of the readers.

A verdict is a plain value: ("head", what it says, bytes taken), ("refused", status, row), or None for "more bytes".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from lbproxy.http.chunks import LAST, ChunkReader, chunk, last_with
from lbproxy.http.messages import Field, HttpError, RequestHead, ResponseHead
from lbproxy.http.request_head import RequestReader
from lbproxy.http.response_head import ResponseReader
from lbproxy.http.writing import edited_beginning
from lbproxy.model_http import HttpSettings

Verdict = tuple[Any, ...] | None
Read = Callable[[bytes], Verdict]


def said(head: RequestHead | ResponseHead) -> dict[str, Any]:
    """Everything that a head says."""
    return {slot: getattr(head, slot) for slot in head.__slots__ if not slot.startswith("memo")}


def _verdict(read: Callable[[bytes], tuple[RequestHead | ResponseHead, int] | None], data: bytes) -> Verdict:
    try:
        found = read(data)
    except HttpError as error:
        return "refused", error.outcome.word, error.outcome.status, error.rule
    return None if found is None else ("head", said(found[0]), found[1])


def request(settings: HttpSettings | None = None, *, secure: bool = False) -> Read:
    """A fresh reader of requests."""
    reader = RequestReader(settings or HttpSettings(), secure=secure)
    return lambda data: _verdict(reader.read, data)


def response() -> Read:
    """A fresh reader of responses."""
    reader = ResponseReader()
    return lambda data: _verdict(reader.read, data)


def grown(read: Read, data: bytes, ends: Iterator[int]) -> Verdict:
    """The first verdict when ever more of `data` is presented."""
    for end in ends:
        verdict = read(data[:end])
        if verdict is not None:
            return verdict
    return read(data)


def cuts(size: int, seed: int) -> list[int]:
    """Some places to cut `size` bytes at, in order."""
    chance = random.Random(seed)
    return sorted(chance.randrange(size + 1) for _ in range(chance.randrange(1, 6))) if size else []


def steps(size: int) -> Iterator[int]:
    """Byte by byte, but of much only where it begins and where bounds are."""
    if size < 2048:
        return iter(range(size))
    near = {end for bound in (0, 8192, 16384) for end in range(bound, bound + 300)}
    return iter(sorted(end for end in near | set(range(0, size, 97)) if end < size))


def read_every_way(fresh: Callable[[], Read], data: bytes, trailing: bytes = b"\r\nx\n") -> Verdict:
    """The verdict on `data`, the same whole, seen before, byte by byte, in random pieces and with bytes behind it."""
    read = fresh()
    whole = read(data)
    assert read(data) == whole, "seen before"
    assert grown(fresh(), data, steps(len(data))) == whole, "byte by byte"
    for seed in range(3):
        assert grown(fresh(), data, iter(cuts(len(data), seed))) == whole, f"in pieces {seed}"
    if whole is not None:
        assert fresh()(data + trailing) == whole, "with bytes behind it"
        assert read(data + trailing) == whole, "seen before, with bytes behind it"
    return whole


# What a head says that is not in its canonical form: it is for this hop alone, or for another path.
NOT_FORWARDED = ("close", "minor", "origin", "unmerged", "upgrade")


def forwarded(head: RequestHead) -> bytes:
    """What a backend gets of `head`, but for what is said about the client."""
    return edited_beginning(head, head.path, head.query, head.authority, head.kept, b"") + b"\r\n"


def read_chunks(parts: list[bytes]) -> tuple[Any, ...]:
    """What a chunked body says that comes in `parts`: payload, trailers, whether it is done and what is behind it; or
    the row that it breaks. What would be sent on is put together on the way, and read again.
    """
    reader = ChunkReader()
    payload, sent, waiting = bytearray(), bytearray(), b""
    for number, part in enumerate(parts):
        data = waiting + part
        try:
            end = reader.read(data)
        except HttpError as error:
            return "refused", error.rule
        pieces = [data[start:stop] for start, stop in reader.pieces]
        assert all(pieces), "an empty piece would end the body when written as a chunk"
        payload += b"".join(pieces)
        if reader.verbatim:
            sent += data[:end]
        else:
            sent += b"".join(chunk(len(piece)) + piece + b"\r\n" for piece in pieces)
            if reader.done:
                sent += last_with(reader.trailers)
        waiting = data[end:]
        # 256 of a line and 16 KiB of trailers at the most.
        assert reader.done or len(waiting) <= 4096 + 512, "more is held back than may be"
        if reader.done:
            waiting += b"".join(parts[number + 1 :])
            break
    assert reader.payload == len(payload)
    if reader.done:
        assert_canonical(bytes(sent), bytes(payload), reader.trailers)
    # How far it is before the end depends on the parts.
    return ("done", bytes(payload), reader.trailers, waiting) if reader.done else ("more",)


def assert_canonical(sent: bytes, payload: bytes, trailers: list[Field]) -> None:
    """What was sent on is one body in our own form, with that payload."""
    again = ChunkReader()
    assert again.read(sent) == len(sent)
    assert again.done
    assert b"".join(sent[start:end] for start, end in again.pieces) == payload
    assert again.trailers == trailers
    assert again.verbatim == (not trailers)
    assert sent.endswith(last_with(trailers) if trailers else LAST)
