"""Chunked bodies: nothing but HttpError, the same at every split, and what is sent on is one canonical body."""

from __future__ import annotations

from tests.fuzz.fuzzing import cut, instrumented, run

with instrumented():
    from tests.http.http_reading import read_chunks


def target(data: bytes) -> None:
    places, data = data[:4], data[4:]
    whole = read_chunks([data])
    assert read_chunks(cut(data, places)) == whole
    assert read_chunks([data[at : at + 1] for at in range(len(data))]) == whole


SEEDS = [
    b"\1\2\3\4" + b"5\r\nhello\r\n0\r\n\r\n",
    b"\1\2\3\4" + b'A;a="b;\\"";c=d\r\n0123456789\r\n0\r\nX: y\r\nHost: a\r\n\r\n',
    b"\1\2\3\4" + b"7fffffff\r\nhello",
]

if __name__ == "__main__":
    run(target, SEEDS)
