"""Heads of responses, row by row: backends are believed no more than clients are (B7 to B9, B12, B16, C17)."""

from __future__ import annotations

from typing import Any

import pytest

from lbproxy.http.framing import body_of_response
from lbproxy.http.messages import CHUNKED, UNTIL_CLOSE, ResponseHead
from lbproxy.http.response_head import ResponseReader
from tests.http.http_oracles import response_of_h11, response_of_llhttp
from tests.http.http_reading import read_every_way, response

TE, CL = b"Transfer-Encoding: ", b"Content-Length: "


def head(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (start, *lines)) + b"\r\n"


REFUSED: list[tuple[str, str, bytes]] = [
    *(
        ("B7", "bad_response", head(*lines))
        for lines in (
            (CL + b"5", TE + b"chunked"),
            (TE + b"chunked", CL + b"5"),
            (TE + b"gzip",),
            (TE + b"gzip, chunked",),
            (TE + b"identity",),
            (TE + b"chunked, chunked",),
            (TE + b"chunked", TE + b"chunked"),
            (TE,),
            (TE + b"\x0bchunked",),
            (CL + b"5", CL + b"6"),
            (CL + b"5", CL + b"5"),
            (CL + b"5, 5",),
            (CL + b"-5",),
            (CL + b"+5",),
            (CL,),
            (CL + b"1" * 19,),
        )
    ),
    ("B7", "bad_response", head(TE + b"chunked", start=b"HTTP/1.0 200 OK")),
    *(
        ("B8", "bad_response", data)
        for data in (
            b"garbage",
            b"<html>",
            b"\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"\nHTTP/1.1 200 OK\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"ICY 200 OK\r\n\r\n",
            head(start=b"HTTP/2 200 OK"),
            head(start=b"HTTP/2.0 200 OK"),
            head(start=b"HTTP/1.10 200 OK"),
            head(start=b"http/1.1 200 OK"),
            head(start=b"HTTP/1.1 99 OK"),
            head(start=b"HTTP/1.1 099 OK"),
            head(start=b"HTTP/1.1 1000 OK"),
            head(start=b"HTTP/1.1 600 OK"),
            head(start=b"HTTP/1.1 20x OK"),
            head(start=b"HTTP/1.1 +20 OK"),
            head(start=b"HTTP/1.1 20\xb2 OK"),
            head(start=b"HTTP/1.1  200 OK"),
            head(start=b"HTTP/1.1\t200 OK"),
            head(start=b"HTTP/1.1 200\tOK"),
            head(start=b"HTTP/1.1 200 O\0K"),
            head(start=b"HTTP/1.1"),
            b"HTTP/1.1 \r\n",
        )
    ),
    ("B8", "response_head_large", b"HTTP/1.1 200 " + b"x" * 100_000),
    *(
        ("B9", "bad_response", head(*lines))
        for lines in (
            (b"X: y", b" z"),
            (b" X: y",),
            (b"X : y",),
            (b"X: a\0b",),
            (b"X: a\rb",),
            (b"X: a\nb",),
            (b"X: a\x7f",),
            (b"X",),
            (b": x",),
            (b"X\xe9: y",),
        )
    ),
    ("B9", "bad_response", b"HTTP/1.1 200 OK\n\n"),
    ("B9", "bad_response", b"HTTP/1.1 200 OK\r\r"),
    ("B9", "bad_response", b"HTTP/1.1 200 OK\r\nX: y\n\r\n"),
    ("B9", "response_head_large", head(*[b"X: y"] * 101)),
    ("B9", "response_head_large", head(b"X: " + b"y" * 16384)),
    ("B9", "response_head_large", head(b"X: " + b"y" * (16385 - len(head(b"X: "))))),
    ("B9", "response_head_large", head(b"x" * 257 + b": y")),
]


@pytest.mark.parametrize(
    ("row", "word", "data"), REFUSED, ids=[f"{row}-{number}" for number, (row, *_) in enumerate(REFUSED)]
)
def test_what_the_tables_refuse_is_a_502_however_it_comes(row: str, word: str, data: bytes) -> None:
    # A status line without end is too large a head, and not known to be nonsense before.
    rule = "B9" if word == "response_head_large" else row
    assert read_every_way(response, data) == ("refused", word, 502, rule)


ACCEPTED: list[tuple[str, bytes, dict[str, Any]]] = [
    ("plain", head(CL + b"5"), {"status": 200, "reason": b"OK", "length": 5, "chunked": False, "close": False}),
    ("F16", head(CL + b"005"), {"length": 5, "kept": b""}),
    ("F10", head(b"transfer-encoding: CHUNKED "), {"length": None, "chunked": True, "kept": b""}),
    ("reason", head(start=b"HTTP/1.1 200"), {"reason": b""}),
    ("reason", head(start=b"HTTP/1.1 200 "), {"reason": b""}),
    ("reason", head(start=b"HTTP/1.1 404 Nicht \xfcberall\t!"), {"reason": b"Nicht \xfcberall\t!"}),
    ("version", head(start=b"HTTP/1.0 200 OK"), {"minor": 0, "close": True}),
    ("version", head(b"Connection: keep-alive", start=b"HTTP/1.0 200 OK"), {"minor": 0, "close": False}),
    ("version", head(start=b"HTTP/1.7 599 x"), {"minor": 1, "status": 599}),
    ("1xx", head(start=b"HTTP/1.1 100 Continue"), {"status": 100}),
    ("1xx", head(b"Link: </a>", start=b"HTTP/1.1 103 Early Hints"), {"status": 103, "kept": b"Link: </a>\r\n"}),
    (
        "C10",
        head(b"Connection: Upgrade", b"Upgrade: WebSocket", start=b"HTTP/1.1 101 Switching"),
        {"upgrade": b"websocket", "kept": b""},
    ),
    ("S5", head(b"X: \xc3\xa9\x80"), {"kept": b"X: \xc3\xa9\x80\r\n"}),
    ("S14", head(b"Content-Type: a", b"Content-Type: b"), {"kept": b"Content-Type: a\r\nContent-Type: b\r\n"}),
    ("names", head(b"X_A: b", b"X-Forwarded-For: c"), {"kept": b"X_A: b\r\nX-Forwarded-For: c\r\n"}),
    (
        "B16",
        head(b"Set-Cookie: a=1", b"X: y", b"Set-Cookie: b=2", b"set-cookie: a=1"),
        {"kept": b"Set-Cookie: a=1\r\nX: y\r\nSet-Cookie: b=2\r\nset-cookie: a=1\r\n"},
    ),
    ("B16", head(b"Connection: close"), {"close": True, "kept": b""}),
    ("B16", head(b"Connection: keep-alive, Close"), {"close": True}),
    ("B16", head(b"Connection: keep-alive", b"Connection: close"), {"close": True}),
    ("B16", head(b"Keep-Alive: timeout=1"), {"keep_alive": 1.0, "kept": b""}),
    ("B16", head(b"Keep-Alive: max=5, Timeout=60"), {"keep_alive": 60.0}),
    ("B16", head(b"Keep-Alive: timeout=9", b"Keep-Alive: timeout=3"), {"keep_alive": 3.0}),
    *(
        ("B16", head(b"Keep-Alive: " + value), {"keep_alive": None})
        for value in (b"", b"5", b"timeout=", b"timeout=-1", b"timeout=1_0", b"timeout=1e9", b"xtimeout=5")
    ),
    (
        "hops",
        head(
            b"Proxy-Connection: a",
            b"Proxy-Authenticate: b",
            b"TE: c",
            b"Trailer: d",
            b"Upgrade: h2c",
            b"X-Hop: e",
            b"Connection: x-hop",
            b"X: f",
        ),
        {"kept": b"X: f\r\n"},
    ),
    (
        "C17",
        head(b"Connection: Set-Cookie, Content-Length, Host, Via, Forwarded", CL + b"5", b"Set-Cookie: a", b"Via: b"),
        {"kept": b"Set-Cookie: a\r\nVia: b\r\n", "length": 5},
    ),
    ("B9", head(*[b"X: y"] * 100), {"kept": b"X: y\r\n" * 100}),
    ("B9", head(b"X: " + b"y" * (16384 - len(head(b"X: ")))), {"status": 200}),
]


@pytest.mark.parametrize(
    ("row", "data", "expected"), ACCEPTED, ids=[f"{row}-{number}" for number, (row, *_) in enumerate(ACCEPTED)]
)
def test_what_the_tables_accept_means_the_same_however_it_comes_and_to_everybody(
    row: str, data: bytes, expected: dict[str, Any]
) -> None:
    verdict = read_every_way(response, data)
    assert verdict is not None
    assert verdict[0] == "head", verdict
    assert verdict[2] == len(data)
    assert {name: verdict[1][name] for name in expected} == expected
    said = verdict[1]
    framing = TE + b"chunked\r\n" if said["chunked"] else CL + b"%d\r\n" % said["length"] if said["length"] else b""
    canonical = b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (said["status"], said["reason"], said["kept"], framing)
    again = response()(canonical)
    assert again is not None
    assert [again[1][name] for name in ("status", "reason", "kept")] == [
        said[name] for name in ("status", "reason", "kept")
    ]
    fields = [(name, value) for name, value, _ in said["fields"]]
    if framing:
        name, _, value = framing.strip().partition(b": ")
        fields.append((name.lower(), value))
    # Neither of them takes a 101 that was not asked for.
    if said["status"] != 101:
        assert response_of_llhttp(canonical) == (said["status"], fields)
        assert response_of_h11(canonical) == (said["status"], fields)


def test_a_head_that_is_not_complete_waits() -> None:
    for _, data, _ in ACCEPTED[:-2]:
        assert all(response()(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize(
    ("method", "start", "line", "length"),
    [
        (b"GET", b"HTTP/1.1 200 OK", CL + b"5", 5),
        (b"GET", b"HTTP/1.1 200 OK", CL + b"0", 0),
        (b"GET", b"HTTP/1.1 200 OK", TE + b"chunked", CHUNKED),
        (b"GET", b"HTTP/1.1 200 OK", b"X: y", UNTIL_CLOSE),
        (b"GET", b"HTTP/1.0 200 OK", b"X: y", UNTIL_CLOSE),
        (b"POST", b"HTTP/1.1 404 No", CL + b"7", 7),
        *((b"HEAD", b"HTTP/1.1 200 OK", line, 0) for line in (CL + b"5", TE + b"chunked", b"X: y")),
        *(
            (b"GET", b"HTTP/1.1 %d x" % status, line, 0)
            for status in (100, 101, 103, 199, 204, 205, 304)
            for line in (CL + b"5", TE + b"chunked", b"X: y")
        ),
        (b"head", b"HTTP/1.1 200 OK", CL + b"5", 5),
    ],
)
def test_how_long_a_body_is_goes_by_method_status_and_fields(
    method: bytes, start: bytes, line: bytes, length: int
) -> None:
    found = ResponseReader().read(head(line, start=start))
    assert found is not None
    assert body_of_response(found[0], method) == length


def test_a_field_is_found_by_its_name_the_first_of_several() -> None:
    found = ResponseReader().read(head(b"Set-Cookie: a", b"set-cookie: b"))
    assert found is not None
    assert isinstance(found[0], ResponseHead)
    assert found[0].get(b"set-cookie") == b"a"
    assert found[0].get(b"x") is None


def test_what_is_remembered_is_bounded() -> None:
    reader = ResponseReader()
    for number in range(5000):
        reader.read(head(b"X-%d: y" % number, b"Keep-Alive: timeout=%d" % number, start=b"HTTP/1.1 200 %d" % number))
    memos = [value for name in ResponseReader.__slots__ if isinstance(value := getattr(reader, name), dict)]
    assert len(memos) == 4
    assert all(0 < len(memo) <= 4096 for memo in memos)
    assert len(reader._heads) <= 1024
