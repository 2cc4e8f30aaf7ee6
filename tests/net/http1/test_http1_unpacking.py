"""Bodies of requests that are unpacked on their way to backends."""

from __future__ import annotations

import random

import pytest

from lbproxy.compress.codings import AVAILABLE, encode
from lbproxy.model_cache import DecompressSettings
from lbproxy.model_http import HttpRouteSettings
from tests.net.http1.http_rig import dechunked, head_and_body, http_rig
from tests.net.net_rig import put, take_all, turn

# So long that the kernel would move it from one connection to the other, if nobody had to look at it.
LONG = random.Random(3).randbytes(1 << 20)


@pytest.mark.parametrize("coding", sorted(AVAILABLE))
def test_a_long_one_comes_out_whole(coding: bytes) -> None:
    packed = encode(coding, 1, LONG)
    request = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    with http_rig(route=HttpRouteSettings(decompress=DecompressSettings())) as rig:
        rig.backends()
        _, client = rig.client()
        left = memoryview(request % (coding, len(packed)) + packed)
        left = left[put(client, bytes(left)) :]
        backend = rig.answered_by()
        heard = bytearray()

        def whole() -> bool:
            nonlocal left
            left = left[put(client, bytes(left[: 1 << 18])) :]
            heard.extend(take_all(backend)[0])
            return heard.endswith(b"\r\n0\r\n\r\n")

        turn(rig.reactor, whole)
        head, body = head_and_body(bytes(heard))
        assert dechunked(body) == LONG
        assert b"content-encoding" not in head.lower()
