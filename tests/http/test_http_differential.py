"""Our readers beside h11 and llhttp, on bytes that are nearly right: what we accept means the same to them.

That they accept more is no matter. Where we are the more permissive, the table says why; a difference that is not
in it fails, and so does an entry that is no longer true.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.http.messages import CHUNKED
from tests.http import test_http_chunks, test_http_requests, test_http_responses
from tests.http.http_oracles import (
    LLHTTP_METHODS,
    body_of_h11,
    body_of_llhttp,
    of_h11,
    of_llhttp,
    response_of_h11,
    response_of_llhttp,
)
from tests.http.http_reading import Verdict, read_chunks, request, response

REQUESTS = [row[-1] for row in test_http_requests.REFUSED] + [row[1] for row in test_http_requests.ACCEPTED]
RESPONSES = [row[-1] for row in test_http_responses.REFUSED] + [row[1] for row in test_http_responses.ACCEPTED]
BODIES = [row[-1] for row in test_http_chunks.REFUSED] + [row[1] for row in test_http_chunks.ACCEPTED]

ALPHABET = [bytes((byte,)) for byte in b'\0\t\n\r "%,-./0159:;=?A[\\]_af{|}\x7f\x80\xff'] + [
    b"\r\n",
    b"\r\n ",
    b": ",
    b"chunked",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"HTTP/1.1",
]


@st.composite
def nearly(draw: st.DrawFn, right: list[bytes]) -> bytes:
    """One of `right` with up to three places changed."""
    data = draw(st.sampled_from([each for each in right if len(each) < 2000]))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 3))
        data = data[:place] + draw(st.sampled_from([b"", *ALPHABET])) + data[place + removed :]
    return data


# Why we accept what h11 or llhttp does not; each is a test on the bytes and what we read.
Reason = Callable[[bytes, dict[str, Any]], bool]
H11_REASONS: dict[str, Reason] = {
    # RFC 9112, 2.2: an empty line in front is to be ignored; one is, as some clients send it behind a body (S11).
    "an empty line in front": lambda data, said: data.startswith(b"\r\n"),
}
LLHTTP_REASONS: dict[str, Reason] = {
    # llhttp has a fixed list; a method that is a token is forwarded unchanged (T4).
    "a method that it does not know": lambda data, said: said["method"] not in LLHTTP_METHODS,
    # RFC 9110, 2.5: a higher minor version is read as the highest known one (T2).
    "a minor version above 1": lambda data, said: b" HTTP/1.0\r\n" not in data and b" HTTP/1.1\r\n" not in data,
    # RFC 9110, 5.5: OWS behind a value is SP and HTAB alike (F6).
    "a tab behind the coding": lambda data, said: re.search(rb"(?i)chunked *\t", data) is not None,
}

quick = settings(deadline=None, max_examples=300)


def accepted(verdict: Verdict, data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """What a head says and its bytes alone, None when there is none."""
    return (verdict[1], data[: verdict[2]]) if verdict is not None and verdict[0] == "head" else None


def differs(said: dict[str, Any], method: bytes, fields: list[tuple[bytes, bytes]]) -> str:
    """What another reader saw otherwise, "" for nothing."""
    if said["method"] != method:
        return f"method {method!r}"
    rest = iter(fields)
    for name, value, _ in said["fields"]:
        if (name, value) not in rest:
            return f"no {name!r}: {value!r}"
    chunked = [value for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    if bool(chunked) != (said["length"] == CHUNKED) or bool(lengths) != said["has_length"]:
        return "framing"
    return "length" if lengths and int(lengths[0]) != said["length"] else ""


@quick
@given(nearly(REQUESTS))
def test_a_request_that_we_accept_is_the_same_to_others(data: bytes) -> None:
    found = accepted(request()(data), data)
    if found is None:
        return
    said, data = found
    try:
        method, _, fields = of_h11(data)
    except h11.RemoteProtocolError:
        assert any(reason(data, said) for reason in H11_REASONS.values())
    else:
        assert differs(said, method, fields) == ""
    theirs = of_llhttp(data)
    if theirs is None:
        assert any(reason(data, said) for reason in LLHTTP_REASONS.values())
    else:
        assert differs(said, theirs[0], theirs[2]) == ""


RESPONSE_REASONS: dict[str, Reason] = {
    "a minor version above 1": lambda data, said: data[5:8] not in (b"1.0", b"1.1"),
    # They know what was asked; our reader of heads does not, and leaves it to the exchange (C10).
    "a 101 that was not asked for": lambda data, said: said["status"] == 101,
}


@quick
@given(nearly(RESPONSES))
def test_a_response_that_we_accept_is_the_same_to_others(data: bytes) -> None:
    found = accepted(response()(data), data)
    if found is None:
        return
    said, data = found
    for theirs in (response_of_h11(data), response_of_llhttp(data)):
        if theirs is None:
            assert any(reason(data, said) for reason in RESPONSE_REASONS.values())
            continue
        assert theirs[0] == said["status"]
        rest = iter(theirs[1])
        assert all((name, value) in rest for name, value, _ in said["fields"])
        lengths = [value for name, value in theirs[1] if name == b"content-length"]
        assert [int(value) for value in lengths] == ([] if said["length"] is None else [said["length"]])


CHUNK_REASONS: dict[str, Callable[[bytes], bool]] = {
    # RFC 9112, 7.1.1: BWS is to be parsed and removed. llhttp refuses it; where the chunk begins is beyond doubt.
    "blanks around ; and = in an extension": lambda data: re.search(rb"[;=][ \t]|[ \t][;=]", data) is not None,
    # h11 minds them as if they were fields of the head; here they are dropped unread, as any such trailer is (F30).
    "framing in the trailers": lambda data: (
        re.search(rb"(?i)\n(?:content-length|transfer-encoding):", data) is not None
    ),
}


@quick
@given(nearly(BODIES))
def test_a_chunked_body_that_we_accept_is_the_same_to_others(data: bytes) -> None:
    verdict = read_chunks([data])
    if verdict[0] != "done":
        return
    for theirs in (body_of_h11(data), body_of_llhttp(data)):
        if theirs is None:
            assert any(reason(data) for reason in CHUNK_REASONS.values())
        else:
            assert theirs == (verdict[1], True)


def test_the_reasons_are_still_needed() -> None:
    """Each of them is true of these bytes, and we accept what the other does not."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for reasons, reason, data in (
        (H11_REASONS, "an empty line in front", b"\r\n" + start),
        (LLHTTP_REASONS, "a method that it does not know", start.replace(b"GET", b"BREW")),
        (LLHTTP_REASONS, "a tab behind the coding", start[:-2] + b"Transfer-Encoding: chunked\t\r\n\r\n"),
        (LLHTTP_REASONS, "a minor version above 1", start.replace(b"1.1", b"1.2")),
    ):
        found = accepted(request()(data), data)
        assert found is not None
        assert reasons[reason](data, found[0])
        if reasons is LLHTTP_REASONS:
            assert of_llhttp(data) is None
        else:
            with pytest.raises(h11.RemoteProtocolError):
                of_h11(data)
    body = b"5; a\r\nhello\r\n0\r\n\r\n"
    assert body_of_llhttp(body) is None
    assert read_chunks([body])[0] == "done"
    assert CHUNK_REASONS["blanks around ; and = in an extension"](body)
    body = b"0\r\nTransfer-Encoding: x\r\n\r\n"
    assert body_of_h11(body) is None
    assert read_chunks([body])[0] == "done"
    assert CHUNK_REASONS["framing in the trailers"](body)
    data = b"HTTP/1.2 200 OK\r\n\r\n"
    assert response_of_llhttp(data) is None
    assert accepted(response()(data), data) is not None
    data = b"HTTP/1.1 101 Switching\r\n\r\n"
    assert response_of_h11(data) is None
    assert accepted(response()(data), data) is not None
