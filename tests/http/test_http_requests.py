"""Heads of requests, row by row of the tables of threats: framing, lines, request line, connection, trust fields.

Each vector is read whole, byte by byte, in random pieces, with bytes behind it and once more; the verdict is the same.
What is accepted is also written as a backend would get it, and says the same to our reader, to h11 and to llhttp.
"""

from __future__ import annotations

from typing import Any

import pytest

from lbproxy.http.messages import CHUNKED, HttpError
from lbproxy.http.request_head import RequestReader
from lbproxy.model_http import HttpSettings
from tests.http.http_oracles import assert_same_to_others
from tests.http.http_reading import forwarded, read_every_way, request

START = b"GET / HTTP/1.1\r\nHost: a\r\n"


def head(*lines: bytes, start: bytes = b"POST / HTTP/1.1\r\nHost: a\r\n") -> bytes:
    return start + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def line(text: bytes, *lines: bytes) -> bytes:
    return head(*lines, start=text + b"\r\nHost: a\r\n")


def path(text: bytes) -> bytes:
    return line(b"GET " + text + b" HTTP/1.1")


def host(text: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + text + b"\r\n\r\n"


TE, CL = b"Transfer-Encoding: ", b"Content-Length: "

REFUSED: list[tuple[str, str, int, bytes]] = [
    # 4.1 Framing. The row of the table, that of the error, the status, the bytes.
    ("F1", "F1", 400, head(CL + b"5", TE + b"chunked")),
    ("F1", "F1", 400, head(TE + b"chunked", CL + b"5")),
    *(
        ("F2", "F2", 501, head(TE + coding))
        for coding in (b"xchunked", b"chunked-", b"x", b"gzip", b"gzip, chunked", b"identity, chunked")
    ),
    ("F2", "F1", 400, head(TE + b"gzip", CL + b"5")),
    *(("F3", "F3", 400, head(TE + v)) for v in (b"chunked, identity", b"identity", b"chunked, gzip", b"Identity")),
    ("F4", "F4", 400, head(TE + b"chunked, chunked")),
    ("F4", "F4", 400, head(TE + b"chunked", TE + b"chunked")),
    ("F4", "F4", 400, head(TE + b"chunked", b"X: y", TE + b"identity")),
    *(("F5", "F5", 400, head(TE + v)) for v in (b",chunked", b"chunked,", b", chunked", b"", b" ", b",")),
    *(
        ("F6", "F6", 400, head(TE + around))
        for byte in (b"\x0b", b"\x0c", b"\0", b"\x85", b"\xa0", b"\xff")
        for around in (byte + b"chunked", b"chunked" + byte)
    ),
    ("F6", "F6", 400, head(TE + b"chunked;q=1")),
    ("F6", "F6", 400, head(TE + b'"chunked"')),
    ("F7", "F7", 400, head(b"Transfer-Encoding : chunked")),
    ("F7", "F7", 400, head(b"X\t: y")),
    ("F8", "F8", 400, head(b"Transfer-Encoding:", b" chunked")),
    ("F8", "F8", 400, head(b"X: y", b"\tz")),
    ("F9", "F9", 400, head(b"Transfer_Encoding: chunked")),
    ("F9", "F9", 400, head(b"CONTENT_LENGTH: 5")),
    ("F11", "F11", 400, line(b"POST / HTTP/1.0", TE + b"chunked")),
    ("F12", "F12", 400, head(CL + b"5", CL + b"6")),
    ("F12", "F12", 400, head(CL + b"5, 6")),
    ("F13", "F13", 400, head(CL + b"5", CL + b"5")),
    ("F13", "F13", 400, head(CL + b"5, 5")),
    ("F13", "F13", 400, head(CL + b"5", CL + b"05")),
    *(
        ("F14", "F14", 400, head(CL + value))
        for value in (b"+5", b"-5", b"-0", b"0x5", b"0o5", b"5_0", b"5 5", b"5;", b"5e1", b"1Z", b" ", b"", b",5")
    ),
    ("F14", "F14", 400, head(CL + b"\xb2")),
    ("F14", "F14", 400, head(CL + b"\x0b5")),
    ("F14", "F14", 400, head(CL + b"5", CL + b"x")),
    ("F15", "F15", 400, head(b"Content-Length:", CL + b"5")),
    ("F15", "F15", 400, head(CL + b"5", b"Content-Length:")),
    *(("F17", "F17", 400, head(CL + b"%d" % value)) for value in (10**25, 2**63, 2**64 + 5, 10**18)),
    ("F17", "F17", 400, head(CL + b"5".rjust(19, b"0"))),
    # 4.2 Lines, names, values.
    ("S1", "S1", 400, b"GET / HTTP/1.1\nHost: a\n\n"),
    ("S1", "S1", 400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
    ("S1", "S1", 400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("S1", "S1", 400, head(b"X: a\nb")),
    ("S2", "S2", 400, head(b"X: a\rb")),
    ("S2", "S2", 400, b"\r\n\rX"),
    ("S2", "S2", 400, b"\rX"),
    ("S2", "S2", 400, b"GET / HTTP/1.1\rHost: a\r\r"),
    ("S2", "S2", 400, b"GET / HTTP/1.1\r\nHost: a\r\rX: y\r\n\r\n"),
    ("S2", "S2", 400, head(b"X: a\r")),
    ("S2", "S2", 400, b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    ("S3", "S3", 400, path(b"/a\0b")),
    ("S3", "S3", 400, head(b"X\0: a")),
    ("S3", "S3", 400, head(b"X: a\0b")),
    ("S3", "S3", 400, head(b"Cookie: a=\0")),
    *(("S4", "S4", 400, head(b"X: a%cb" % byte)) for byte in (1, 8, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)),
    *(("S4", "S4", 400, head(b"X%cY: b" % byte)) for byte in (1, 0x1F, 0x7F)),
    ("S4", "S4", 400, path(b"/a\x7f")),
    ("S5", "S5", 400, head(b"X\xe9: a")),
    ("S5", "T17", 400, path(b"/\xc3\xa9")),
    ("S5", "T17", 400, path(b"/?\xc3\xa9")),
    *(("S6", "S6", 400, head(b"X%cY: b" % byte)) for byte in b'"(),/;<=>?@[\\]{} \t'),
    ("S6", "S5", 400, head(b"X\x85: b")),
    ("S7", "S7", 400, head(b": v")),
    ("S7", "S7", 400, head(b":")),
    ("S8", "S8", 400, head(b"Content-Length 10")),
    ("S9", "S9", 400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("S9", "S9", 400, b"GET / HTTP/1.1\r\n\tX\r\nHost: a\r\n\r\n"),
    ("S9", "F8", 400, head(b" X: y")),
    ("S10", "S10", 400, head(b"Transfer-", b"Encoding: chunked")),
    ("S10", "S10", 400, head(b"Host")),
    ("S11", "S11", 400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("S12", "S12", 431, head(b"x" * 257 + b": y")),
    ("S12", "S12", 431, head(b"x" * 65536 + b": y")),
    ("S13", "S13", 431, head(b"X: " + b"y" * 65536)),
    ("S13", "S13", 431, head(b"X: " + b"y" * (16385 - len(head(b"X: "))))),
    ("S13", "S13", 431, head(*[b"X: y"] * 100)),
    ("S13", "S13", 431, head(*[b"X: " + b"y" * 800] * 21)),
    ("S14", "S14", 400, head(b"Authorization: a", b"Authorization: a")),
    ("S14", "S14", 400, head(b"Content-Type: a", b"content-type: b")),
    # 4.3 Request line, target, Host.
    *(
        ("T1", "T1", 400, line(text))
        for text in (b"GET /", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET / HTTP/1.1 ", b"GET")
    ),
    ("T1", "T1", 400, line(b"GET /\tHTTP/1.1")),
    ("T1", "T1", 400, line(b"GET / x HTTP/1.1")),
    ("T1", "T1", 400, b"GET /\r\n"),
    *(
        ("T2", "T2", 400, line(b"GET / " + version))
        for version in (b"HTTP/1", b"HTTP/01.1", b"http/1.1", b"HTTP/1.10", b"HTTP/4294967295.255", b"HTP/1.1")
    ),
    ("T2", "T1", 400, line(b"GET / HTTP/ 1.1")),
    ("T2", "T2", 400, line(b"GET / HTTP/1.\xb2")),
    *(("T2", "T2", 505, line(b"GET / HTTP/" + version)) for version in (b"3.0", b"2.0", b"0.9", b"2.1")),
    ("T3", "T3", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(("T4", "T4", 400, line(method + b" / HTTP/1.1")) for method in (b"", b"G(T", b"G\0T", b"\x16\x03\x01", b"G\xe9")),
    ("T4", "T4", 501, line(b"x" * 33 + b" / HTTP/1.1")),
    ("T4", "T4", 501, b"x" * 33),
    ("T4", "T4", 400, b"\x16\x03\x01\x02"),
    *(("T4", "T4", 501, line(method + b" / HTTP/1.1")) for method in (b"get", b"Post", b"trace")),
    ("T5", "T5", 405, line(b"TRACE / HTTP/1.1")),
    ("T6", "T6", 405, line(b"CONNECT a:443 HTTP/1.1")),
    *(("T8", "T8", 400, path(text)) for text in (b"admin", b"host:80", b"*", b"?a", b"file:/a")),
    ("T8", "T8", 400, line(b"OPTIONS *x HTTP/1.1")),
    ("T9", "T9", 400, path(b"/a#b")),
    ("T9", "T9", 400, path(b"/a?b#c")),
    ("T9", "T13", 400, path(b"http://a#b")),
    ("T11", "T11", 400, path(b"http://b/")),
    ("T11", "T11", 400, path(b"http://a:81/")),
    ("T12", "T12", 400, path(b"https://a/")),
    ("T12", "T12", 400, path(b"ftp://a/")),
    ("T12", "T12", 400, path(b"http://u@a/")),
    ("T12", "T12", 400, path(b"http://u:p@a/")),
    ("T13", "T13", 400, b"GET / HTTP/1.1\r\n\r\n"),
    ("T13", "T13", 400, path(b"http://a/").replace(b"Host: a\r\n", b"")),
    ("T13", "T13", 400, head(b"Host: a")),
    ("T13", "T13", 400, head(b"Host: b")),
    *(
        ("T13", "T13", 400, host(text))
        for text in (b"", b"a,b", b"a/b", b"u@a", b"a b", b"a:99999", b"a:-1", b"[::1", b"a\0", b"a." * 127 + b"aa")
    ),
    *(
        ("T13", "T13", 400, host(text))
        for text in (
            b"a:",
            b":80",
            b"a:080",
            b"a:0",
            b"[::1]x",
            b"[::g]",
            b"[fe80::1%eth0]",
            b"::1",
            b"a..b",
            b".",
            b"a..",
        )
    ),
    ("T13", "T13", 400, host(b"b\xc3\xbccher")),
    ("T13", "T13", 400, host(b"x" * 64)),
    ("T13", "T13", 400, host(b"-a.b")),
    ("T14", "T14", 400, b"GET / HTTP/1.0\r\n\r\n"),
    ("T16", "T16", 414, path(b"/" + b"a" * 8192)),
    ("T16", "T16", 414, path(b"/" + b"a" * 65536)),
    ("T16", "T16", 414, path(b"/" + b"a/../" * 1700)),
    ("T17", "T17", 400, path(b"/a\\b")),
    *(
        ("T18", "T18", 400, path(text))
        for text in (
            b"/..;/",
            b"/a/..;x=y/b",
            b"/a/.;/b",
            b"/a/..%3b/b",
            b"/%2e%2e/",
            b"/a/.%2E",
            b"/a/%2e/b",
            b"/a/..%2fadmin",
            b"/a%2F../b",
            b"/a/%2e%2e%2fadmin",
            b"/a%2fb/../c",
            b"/a/%2f//../c",
            b"/%252e",
            b"/%252E%252e/",
            b"/%25252e",
            b"/%252f",
            b"/%255c",
            b"/%2500",
            b"/%25%32%65",
            b"/admin%00",
            b"/a%5cb",
            b"/%c0%af",
            b"/%e0%80%af",
            b"/%f0%80%80%af",
            b"/%zz",
            b"/%",
            b"/a%4",
            b"/%%32e",
            b"/..",
            b"/../a",
            b"/a/../../b",
            b"/a//../../b",
        )
    ),
    # 4.4 Connection rules of single heads.
    ("C5", "C5", 417, head(b"Expect: foo", CL + b"1")),
    ("C5", "C5", 417, head(b"Expect: 100-continue, x", CL + b"1")),
    ("C5", "C5", 417, head(b"Expect:")),
    ("C5", "C5", 417, head(b"Expect: 100-continue", b"Expect: 100-continue", CL + b"1")),
    ("C5", "C5", 400, head(b"Expect:\x0b100-continue", CL + b"1")),
]


def names(rows: list[Any]) -> list[str]:
    return [f"{row[0]}-{number}" for number, row in enumerate(rows)]


@pytest.mark.parametrize(("row", "rule", "status", "data"), REFUSED, ids=names(REFUSED))
def test_what_the_tables_refuse_is_refused_however_it_comes(row: str, rule: str, status: int, data: bytes) -> None:
    verdict = read_every_way(request, data)
    assert verdict is not None
    assert verdict[0] == "refused"
    assert verdict[2:] == (status, rule)


LONG_HOST = b".".join([b"a" * 50] * 4)
NORMALISED = [
    (b"//admin", b"/admin", b"//admin"),
    (b"/./admin", b"/admin", b"/admin"),
    (b"/a/../admin", b"/admin", b"/admin"),
    (b"/%41", b"/A", b"/A"),
    (b"/%7e%2D%2e%5f", b"/~-._", b"/~-._"),
    (b"/%3a%c3%a9", b"/%3A%C3%A9", b"/%3A%C3%A9"),
    (b"/a/.", b"/a/", b"/a/"),
    (b"/a/..", b"/", b"/"),
    (b"/.", b"/", b"/"),
    (b"/a//b///c/", b"/a/b/c/", b"/a//b///c/"),
    (b"/a//../b", b"/b", b"/b"),
    (b"//a/.././/b", b"/b", b"///b"),
    (b"//", b"/", b"//"),
    (b"/...", b"/...", b"/..."),
    (b"/.well-known/x", b"/.well-known/x", b"/.well-known/x"),
    (b"/..a/b..", b"/..a/b..", b"/..a/b.."),
    (b"/a%2eb", b"/a.b", b"/a.b"),
    (b"/%25", b"/%25", b"/%25"),
    (b"/%2541", b"/%2541", b"/%2541"),
    (b"/ADMIN", b"/ADMIN", b"/ADMIN"),
    (b"/admin/", b"/admin/", b"/admin/"),
    (b'/"<>^`{}|', b'/"<>^`{}|', b'/"<>^`{}|'),
    (b"/a;b=c", b"/a;b=c", b"/a;b=c"),
    (b"/%e9", b"/%E9", b"/%E9"),
]

ACCEPTED: list[tuple[str, bytes, dict[str, Any]]] = [
    ("F6", head(TE + b"\t chunked \t"), {"length": CHUNKED, "has_length": False, "kept": b""}),
    ("F10", head(b"TRANSFER-ENCODING: Chunked"), {"length": CHUNKED}),
    ("F16", head(CL + b"00005"), {"length": 5, "has_length": True, "kept": b""}),
    ("F16", head(CL + b"00"), {"length": 0, "has_length": True}),
    ("F17", head(CL + b"9" * 18), {"length": 10**18 - 1}),
    *(("F19", line(m + b" / HTTP/1.1", CL + b"5"), {"length": 5, "method": m}) for m in (b"GET", b"HEAD", b"DELETE")),
    ("F20", head(b"Content-Lengt: 5", b"Content-Length-: 6"), {"length": 0, "has_length": False}),
    ("F21", head(), {"length": 0, "has_length": False, "method": b"POST"}),
    ("F9", head(b"X_A: b", b"Y: c"), {"kept": b"Y: c\r\n"}),
    ("S5", head(b"X: \xc3\xa9\xff\x80"), {"kept": b"X: \xc3\xa9\xff\x80\r\n"}),
    ("S4", head(b"X: a\tb"), {"kept": b"X: a\tb\r\n"}),
    ("S11", b"\r\n" + START + b"\r\n", {"path": b"/"}),
    ("S12", head(b"x" * 256 + b": y"), {"kept": b"x" * 256 + b": y\r\n"}),
    ("S13", head(*[b"X: y"] * 99), {"kept": b"X: y\r\n" * 99}),
    ("S13", head(b"X: " + b"y" * 16000), {"kept": b"X: " + b"y" * 16000 + b"\r\n"}),
    (
        "S14",
        head(b"Date: a", b"Date: b", b"Accept: c", b"Accept: d"),
        {"kept": b"Date: a\r\nDate: b\r\nAccept: c\r\nAccept: d\r\n"},
    ),
    ("S14", head(b"Content-Type: a", b"Authorization: b"), {"kept": b"Content-Type: a\r\nAuthorization: b\r\n"}),
    ("S15", path(b"/a%0ab"), {"path": b"/a%0Ab"}),
    ("field", head(b"X:\t a  b \t", b"Y:", b"Z: "), {"kept": b"X: a  b\r\nY: \r\nZ: \r\n"}),
    ("T2", line(b"GET / HTTP/1.2"), {"minor": 1, "close": False}),
    ("T4", line(b"BREW / HTTP/1.1"), {"method": b"BREW"}),
    ("T4", line(b"x" * 32 + b" / HTTP/1.1"), {"method": b"x" * 32}),
    ("T8", line(b"OPTIONS * HTTP/1.1"), {"path": b"*", "unmerged": b"*", "query": None}),
    ("T10", path(b"http://a/b?c"), {"path": b"/b", "query": b"c", "authority": b"a"}),
    ("T10", path(b"HTTP://A:80"), {"path": b"/", "query": None, "authority": b"a"}),
    ("T10", path(b"http://a?b"), {"path": b"/", "query": b"b"}),
    ("T10", line(b"OPTIONS http://a HTTP/1.1"), {"path": b"*"}),
    ("T10", b"GET http://b/ HTTP/1.0\r\n\r\n", {"host": b"b", "minor": 0}),
    ("T13", host(b"a:8080"), {"host": b"a", "authority": b"a:8080"}),
    ("T13", host(LONG_HOST), {"host": LONG_HOST}),
    ("T15", host(b"EXAMPLE.com.:80"), {"host": b"example.com", "authority": b"example.com"}),
    ("T15", host(b"xn--bcher-kva.example"), {"host": b"xn--bcher-kva.example"}),
    ("T15", host(b"my_service:443"), {"host": b"my_service", "authority": b"my_service:443"}),
    ("T15", host(b"[2001:DB8:0:0::1]:80"), {"host": b"[2001:db8::1]", "authority": b"[2001:db8::1]"}),
    ("T15", host(b"127.0.0.1:8080"), {"host": b"127.0.0.1", "authority": b"127.0.0.1:8080"}),
    ("T16", path(b"/" + b"a" * 7999), {"path": b"/" + b"a" * 7999}),
    ("T16", path(b"/" + b"a" * 8191), {"path": b"/" + b"a" * 8191}),
    ("T17", path(b'/?"<>^`{}|\\%zz%00'), {"query": b'"<>^`{}|\\%zz%00'}),
    *(
        ("T18", path(raw), {"path": merged, "unmerged": kept, "encoded_slash": False})
        for raw, merged, kept in NORMALISED
    ),
    ("T18", path(b"/a%2fb"), {"path": b"/a%2Fb", "encoded_slash": True}),
    ("target", path(b"/?"), {"path": b"/", "query": b""}),
    ("target", path(b"/a?b?c/../d"), {"path": b"/a", "query": b"b?c/../d"}),
    ("C3", line(b"POST / HTTP/1.0", b"Expect: 100-continue", CL + b"1"), {"expect": False, "kept": b""}),
    ("C3", head(b"Expect: 100-Continue", CL + b"1"), {"expect": True, "kept": b""}),
    ("C3", head(b"Expect: 100-continue"), {"expect": False}),
    (
        "C7",
        line(b"GET / HTTP/1.1", b"Connection: Upgrade", b"Upgrade: WebSocket"),
        {"upgrade": b"websocket", "kept": b""},
    ),
    (
        "C8",
        line(b"GET / HTTP/1.1", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        {"upgrade": b"", "kept": b""},
    ),
    ("C8", line(b"GET / HTTP/1.1", b"Connection: upgrade", b"Upgrade: h2c, x"), {"upgrade": b"x"}),
    ("C9", line(b"GET / HTTP/1.1", b"Upgrade: websocket"), {"upgrade": b"", "kept": b""}),
    ("C9", line(b"GET / HTTP/1.0", b"Connection: upgrade", b"Upgrade: websocket"), {"upgrade": b""}),
    ("C9", head(b"Connection: upgrade", b"Upgrade: websocket", CL + b"1"), {"upgrade": b""}),
    ("C9", head(b"Connection: upgrade", b"Upgrade: websocket", TE + b"chunked"), {"upgrade": b""}),
    ("C17", head(b"Connection: close, keep-alive"), {"close": True, "kept": b""}),
    ("C17", head(b"Connection: keep-alive", b"Connection: close"), {"close": True}),
    ("C17", line(b"GET / HTTP/1.0"), {"close": True}),
    ("C17", line(b"GET / HTTP/1.0", b"Connection: Keep-Alive"), {"close": False}),
    ("C17", line(b"GET / HTTP/1.0", b"Connection: Keep-Alive, close"), {"close": True}),
    ("C17", head(b"X-A: b", b"Connection: x-a ,, X-B", b"x-b: c", b"X-C: d"), {"kept": b"X-C: d\r\n"}),
    (
        "C17",
        head(
            b"Connection: Host, Content-Length, Authorization, X-Forwarded-For, Cookie, Via, Transfer-Encoding",
            CL + b"5",
            b"Authorization: b",
            b"X-Forwarded-For: 192.0.2.1",
            b"Cookie: c",
            b"Via: 1.1 d",
        ),
        {
            "host": b"a",
            "length": 5,
            "kept": b"Authorization: b\r\nCookie: c\r\nVia: 1.1 d\r\n",
            "origin": [(b"x-forwarded-for", b"192.0.2.1", b"X-Forwarded-For: 192.0.2.1\r\n")],
            "via": b"1.1 d",
        },
    ),
    (
        "C18",
        head(
            b"Proxy-Connection: keep-alive",
            b"Keep-Alive: timeout=5",
            b"TE: trailers, chunked",
            b"Trailer: X",
            b"Proxy-Authorization: x",
            b"Proxy-Authenticate: x",
        ),
        {"kept": b"", "te_trailers": True, "close": False},
    ),
    ("C18", head(b"TE: gzip"), {"te_trailers": False}),
    (
        "X1",
        head(
            b"X-Forwarded-For: a",
            b"x-forwarded-for: b",
            b"X-Forwarded-Host: c",
            b"X-Forwarded-Proto: d",
            b"X-Forwarded-Port: e",
            b"X-Forwarded-Prefix: f",
            b"Forwarded: g",
            b"X-Real-IP: h",
            b"True-Client-IP: i",
            b"X-Request-ID: j",
            b"X_Forwarded_For: k",
            b"X-Real_IP: l",
            b"Via: m",
            b"via: n",
        ),
        {"kept": b"Via: m\r\nvia: n\r\n", "via": b"m, n"},
    ),
]


@pytest.mark.parametrize(("row", "data", "expected"), ACCEPTED, ids=names(ACCEPTED))
def test_what_the_tables_accept_means_the_same_however_it_comes_and_to_everybody(
    row: str, data: bytes, expected: dict[str, Any]
) -> None:
    verdict = read_every_way(request, data)
    assert verdict is not None
    assert verdict[0] == "head", verdict
    assert verdict[2] == len(data)
    assert {name: verdict[1][name] for name in expected} == expected
    found = RequestReader(HttpSettings(), secure=False).read(data)
    assert found is not None
    assert_same_to_others(found[0])


@pytest.mark.parametrize("data", [data for _, data, _ in ACCEPTED if data.endswith(b"\r\n\r\n")][:12])
def test_a_head_that_is_not_complete_waits(data: bytes) -> None:
    for end in range(len(data)):
        assert request()(data[:end]) is None


def test_origin_fields_are_known_in_their_order() -> None:
    verdict = request()(next(data for row, data, _ in ACCEPTED if row == "X1"))
    assert verdict is not None
    assert [value for _, value, _ in verdict[1]["origin"]] == [
        b"a",
        b"b",
        b"c",
        b"d",
        b"e",
        b"f",
        b"g",
        b"h",
        b"i",
        b"j",
    ]


def test_underscores_pass_where_they_are_wanted_but_never_as_trust_or_framing() -> None:
    settings = HttpSettings(underscores="pass")
    verdict = request(settings)(head(b"X_A: b", b"X_Forwarded_For: c", b"x_real-ip: d", b"X_Request_Id: e"))
    assert verdict is not None
    assert verdict[1]["kept"] == b"X_A: b\r\n"
    assert verdict[1]["origin"] == []
    for name in (b"Content_Length: 5", b"transfer_encoding: chunked"):
        assert request(settings)(head(name)) == ("refused", "bad_request", 400, "F9")


def test_what_a_client_says_of_its_certificate_is_never_sent_on() -> None:
    for settings in (HttpSettings(underscores="drop"), HttpSettings(underscores="pass")):
        read = request(settings)
        said = b"Client-Cert: :AA==:", b"X-Client-Cert-Verify: ok", b"X_Client-Cert_Subject: a", b"X-Mirror: 1"
        verdict = read(head(*said, b"Y: z"))
        assert verdict is not None
        assert verdict[1]["kept"] == b"Y: z\r\n"


def test_http_1_0_without_host_gets_the_default_site() -> None:
    settings = HttpSettings(default_host="Default.example:443")
    verdict = request(settings, secure=True)(b"GET / HTTP/1.0\r\n\r\n")
    assert verdict is not None
    assert (verdict[1]["host"], verdict[1]["authority"]) == (b"default.example", b"default.example")
    assert request(settings)(b"GET / HTTP/1.1\r\n\r\n") == ("refused", "bad_request", 400, "T13")


def test_a_default_site_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(HttpError):
        RequestReader(HttpSettings(default_host="a b"), secure=False)


def test_https_has_its_own_scheme_and_port() -> None:
    verdict = read_every_way(lambda: request(secure=True), b"GET https://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert verdict is not None
    assert verdict[1]["authority"] == b"a"
    refused = read_every_way(lambda: request(secure=True), path(b"http://a/"))
    assert refused == ("refused", "bad_request", 400, "T12")


@pytest.mark.parametrize(("max_head", "max_target", "status"), [(512, 8192, 431), (512, 64, 414), (64, 64, 431)])
def test_the_bounds_are_those_of_the_settings_to_the_byte(max_head: int, max_target: int, status: int) -> None:
    def fresh() -> Any:
        return request(HttpSettings(max_head=max_head, max_target=max_target))

    full = START + b"X: " + b"y" * (max_head - len(START) - 7) + b"\r\n\r\n"
    assert len(full) == max_head
    verdict = read_every_way(fresh, full)
    assert verdict is not None
    assert verdict[0] == "head"
    assert read_every_way(fresh, full.replace(b"X: ", b"X: y")) == ("refused", "head_large", 431, "S13")
    target = b"/" + b"a" * max_target
    verdict = read_every_way(fresh, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert verdict is not None
    assert verdict[2] == status


def test_only_line_feeds_do_not_keep_anybody_waiting() -> None:
    for data in (b"\n", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: a\n"):
        assert request()(data) == ("refused", "bad_request", 400, "S1")


def test_the_forwarded_form_is_the_one_that_is_written() -> None:
    found = RequestReader(HttpSettings(), secure=False).read(head(b"x-A:b", CL + b"05"))
    assert found is not None
    assert forwarded(found[0]) == b"POST / HTTP/1.1\r\nHost: a\r\nx-A: b\r\nContent-Length: 5\r\n\r\n"


def test_what_is_remembered_is_bounded() -> None:
    reader = RequestReader(HttpSettings(), secure=False)
    for number in range(9000):
        for _ in range(3):  # request lines are kept when they come again, whole heads when their lines are known
            reader.read(b"GET /%d HTTP/1.1\r\nHost: h%d\r\nX-%d: y\r\n\r\n" % (number, number, number))
    memos = [value for name in RequestReader.__slots__ if isinstance(value := getattr(reader, name), dict)]
    assert len(memos) == 4
    assert all(0 < len(memo) <= 4096 for memo in memos)
    assert len(reader._heads) <= 1024
    assert len(reader._seen) <= 8192
