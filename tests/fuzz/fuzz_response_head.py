"""Responses: nothing but HttpError, the same at every split, and what is sent on is read as the same."""

from __future__ import annotations

from itertools import accumulate

from tests.fuzz.fuzzing import cut, instrumented, run

with instrumented():
    from lbproxy.http.response_head import ResponseReader
    from tests.http.http_reading import grown, response


def target(data: bytes) -> None:
    places, data = data[:3], data[3:]
    read = response()
    whole = read(data)
    assert read(data) == whole
    ends = accumulate(len(piece) for piece in cut(data, places))
    assert grown(response(), data, ends) == whole
    assert grown(response(), data, iter(range(len(data)))) == whole
    if whole is None:
        return
    assert read(data + b"\nx\r\r\n\r\n") == whole
    if whole[0] != "head":
        assert whole[2] == 502
        return
    found = ResponseReader().read(data)
    assert found is not None
    head = found[0]
    text = b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, head.kept)
    again = ResponseReader().read(text)
    if again is not None:  # it may have become longer than a head may be
        assert (again[0].status, again[0].reason, again[0].kept) == (head.status, head.reason, head.kept)
        assert again[0].fields == head.fields


SEEDS = [
    b"\1\2\3HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=2\r\nSet-Cookie: a=b\r\n\r\n",
    b"\1\2\3HTTP/1.0 304 \r\nConnection: keep-alive, x\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\1\2\3HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]

if __name__ == "__main__":
    run(target, SEEDS)
