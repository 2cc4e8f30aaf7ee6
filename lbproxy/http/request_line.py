"""The first line of a request: method, target, version (RFC 9112, section 3).

Owns the rows T1 to T6, in the order of the bytes, so that they can be told before the line or the head is complete.
Refuses to know fields; whether the authority in a target is that of Host is for the reader of the head.
"""

from __future__ import annotations

import re

from lbproxy.errors import BAD_REQUEST, METHOD, NOT_IMPLEMENTED, URI_LONG, VERSION
from lbproxy.http.hosts import normalise_host
from lbproxy.http.lines import TOKEN, TOKEN_CLASS
from lbproxy.http.messages import HttpError
from lbproxy.http.target import normalise, read_target, split_absolute

MAX_METHOD = 32
# What a request line has beside its target, at most: method, two spaces, version.
LINE_BESIDE_TARGET = MAX_METHOD + 2 + len(b"HTTP/1.1")

_KNOWN = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"))
_METHOD = re.compile(TOKEN_CLASS + rb"{0,32}+")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")
_MINORS = {b"HTTP/1.0": 0} | {b"HTTP/1.%d" % minor: 1 for minor in range(1, 10)}
# What is fine whatever else is said; all others are looked at closely.
_PLAIN_METHODS = _KNOWN - {b"TRACE", b"CONNECT"}


# A line in which nothing needs a closer look: the path is normalised as it is (no percent sign, no "//", no "/.").
_PLAIN_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) "
    rb"(?=/)((?:/[!\"$&-\-0->@-\[\]-~][!\"$&-.0->@-\[\]-~]*+)*+/?+)(?:\?([!\"$-~]*+))?+ HTTP/1\.([01])"
)


# Method, minor version, path, unmerged path, query and encoded_slash as in RequestHead, and in absolute form the site
# (host, authority), else None. A plain tuple: there is one for each request that is not just like another.
RequestLine = tuple[bytes, int, bytes, bytes, bytes | None, bool, tuple[bytes, bytes] | None]


def judge_start(data: bytes) -> HttpError | None:
    """What is wrong with the method at the beginning of `data`, of which more may come."""
    found = _METHOD.match(data)
    end = found.end() if found else 0
    if end == len(data):
        return None
    following = data[end]
    if following in b"\r\n":
        return None  # an end of line is judged as such
    if following == 0x20 and end:
        return None
    if following == 0x09:
        return _bad("T1", "the parts of the request line are not separated by single spaces")
    if end == MAX_METHOD and TOKEN.match(data, end):
        return HttpError(NOT_IMPLEMENTED, "T4", f"the method is longer than {MAX_METHOD} bytes")
    return _bad("T4", "the method is empty or has a character that is not for methods")


def split_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version of a whole line. Raises HttpError."""
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[1] or 0x09 in line:
        raise _bad("T1", "the request line is not a method, a target and a version with single spaces between")
    method, target, version = parts
    minor = _MINORS.get(version)
    if minor is None:
        if _VERSION.fullmatch(version):
            row = "T3" if method == b"PRI" else "T2"
            raise HttpError(VERSION, row, "the version of HTTP is not 1.0 or 1.1")
        raise _bad("T2", "the request line does not end with a version of HTTP")
    if method not in _PLAIN_METHODS:
        _judge_method(method)
    return method, target, minor


def _judge_method(method: bytes) -> None:
    if len(method) > MAX_METHOD or TOKEN.fullmatch(method) is None:
        raise judge_start(method) or _bad("T4", "the method is empty or has a character that is not for methods")
    if method == b"TRACE":
        raise HttpError(METHOD, "T5", "TRACE is not allowed")
    if method == b"CONNECT":
        raise HttpError(METHOD, "T6", "CONNECT is not for a reverse proxy")
    if method.upper() in _KNOWN:
        raise HttpError(NOT_IMPLEMENTED, "T4", "the method is a known one in the wrong case")


def read_line(line: bytes, max_target: int, *, secure: bool) -> RequestLine:
    """The whole line, its target normalised. Raises HttpError."""
    plain = _PLAIN_LINE.fullmatch(line) if len(line) <= max_target else None
    if plain is not None:
        method, path, query, digit = plain.groups()
        return method, 1 if digit == b"1" else 0, path, path, query, False, None
    method, target, minor = split_line(line)
    if len(target) > max_target:
        raise HttpError(URI_LONG, "T16", f"the target is longer than {max_target} bytes")
    if target[:1] == b"/":
        raw, query = read_target(target)
        path, unmerged, encoded_slash = normalise(raw)
        return method, minor, path, unmerged, query, encoded_slash, None
    if target == b"*":
        if method != b"OPTIONS":
            raise _bad("T8", "the target * is for OPTIONS alone")
        return method, minor, b"*", b"*", None, False, None
    return _absolute(method, target, minor, secure)


def _absolute(method: bytes, target: bytes, minor: int, secure: bool) -> RequestLine:
    parts = split_absolute(target)
    if parts is None:
        read_target(target)  # says what else is wrong with it
        raise _bad("T8", "the target is neither a path nor a URL")
    scheme, authority, rest = parts
    if scheme != (b"https" if secure else b"http"):
        raise _bad("T12", "the scheme of the target is not that of the listener")
    if b"@" in authority:
        raise _bad("T12", "the target holds a user name")
    site = normalise_host(authority, 443 if secure else 80)
    if not rest and method == b"OPTIONS":
        return method, minor, b"*", b"*", None, False, site  # RFC 9112, 3.2.4
    raw, query = read_target(rest if rest[:1] == b"/" else b"/" + rest)
    path, unmerged, encoded_slash = normalise(raw)
    return method, minor, path, unmerged, query, encoded_slash, site


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
