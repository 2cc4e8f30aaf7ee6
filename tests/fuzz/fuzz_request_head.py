"""Requests: nothing but HttpError, the same at every split, and what is forwarded is read as the same.

The first bytes of the input are the settings and the places to cut at.
"""

from __future__ import annotations

from itertools import accumulate

from tests.fuzz.fuzzing import cut, instrumented, run

with instrumented():
    from lbproxy.http.request_head import RequestReader
    from lbproxy.model_http import HttpSettings
    from tests.http.http_reading import NOT_FORWARDED, forwarded, grown, request, said

SETTINGS = [
    HttpSettings(),
    HttpSettings(underscores="pass", default_host="default.example"),
    HttpSettings(max_head=200, max_target=60, max_fields=4),
    HttpSettings(max_head=40, max_target=100),
]


def target(data: bytes) -> None:
    settings, places, data = SETTINGS[data[0] % len(SETTINGS)] if data else SETTINGS[0], data[1:4], data[4:]
    read = request(settings)
    whole = read(data)
    assert read(data) == whole
    ends = accumulate(len(piece) for piece in cut(data, places))
    assert grown(request(settings), data, ends) == whole
    assert grown(request(settings), data, iter(range(len(data)))) == whole
    if whole is None:
        return
    assert read(data + b"\nx\r\r\n\r\n") == whole
    if whole[0] == "head":
        _round_trip(data[: whole[2]], settings)


def _round_trip(data: bytes, settings: HttpSettings) -> None:
    found = RequestReader(settings, secure=False).read(data)
    assert found is not None
    text = forwarded(found[0])
    # Canonical form may be longer than what came: "X:y" becomes "X: y".
    again = RequestReader(HttpSettings(underscores=settings.underscores, max_head=1 << 20), secure=False).read(text)
    assert again is not None
    assert again[1] == len(text)
    ours, theirs = said(found[0]), said(again[0])
    for name in NOT_FORWARDED:
        del ours[name], theirs[name]
    assert ours == theirs


SEEDS = [
    b"\0\0\0\0GET /a/../%41?b HTTP/1.1\r\nHost: A:80\r\nConnection: close, x\r\nX: y\r\n\r\n",
    b"\1\1\2\3POST http://a:81/ HTTP/1.0\r\nHost: a:81\r\nContent-Length: 05\r\nExpect: 100-continue\r\n\r\n",
    b"\2\5\6\7\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
]

if __name__ == "__main__":
    run(target, SEEDS)
