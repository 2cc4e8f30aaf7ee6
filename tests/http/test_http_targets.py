"""Paths and hosts: what was normalised is normal, and what a path means is what it meant."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lbproxy.http.hosts import normalise_host
from lbproxy.http.messages import HttpError
from lbproxy.http.request_head import RequestReader
from lbproxy.http.target import normalise
from lbproxy.model_http import HttpSettings

PIECES = (
    b'/ // . .. a B ; x=y %2e %2E %2f %2F %5c %25 %00 %41 %c3%a9 %c0 %af %e0 %80 %3b %7E % 2e %zz - ~ " %20 ['
).split(b" ")
paths = st.lists(st.sampled_from(PIECES), max_size=10).map(lambda pieces: b"/" + b"".join(pieces))
quick = settings(deadline=None, max_examples=300)


@quick
@given(paths)
@example(b"/a//../../b")
@example(b"/%25%32%65")
@example(b"/%2F../")
def test_a_normalised_path_is_normal(path: bytes) -> None:
    try:
        merged, unmerged, slash = normalise(path)
    except HttpError:
        return
    assert normalise(merged) == (merged, merged, slash)
    assert normalise(unmerged) == (merged, unmerged, slash)
    assert merged.startswith(b"/")
    assert b"//" not in merged
    assert not {b".", b".."} & set(merged.split(b"/"))
    assert not {b".", b".."} & set(unmerged.split(b"/"))
    assert slash == (b"%2F" in merged)
    # No second decoding, by anybody, brings up what was not there before.
    decoded = unquote_to_bytes(merged.replace(b"%2F", b"_"))
    again = unquote_to_bytes(decoded)
    assert b"\0" not in again
    assert b"\\" not in again
    assert again.count(b"/") == decoded.count(b"/") == merged.count(b"/")
    assert not {b".", b".."} & {segment.split(b";")[0] for segment in again.split(b"/")}
    assert normalise(unmerged) == (merged, unmerged, slash)
    assert re.fullmatch(rb"(?:%[0-9A-F]{2}|[^%])*", merged)


@quick
@given(paths)
def test_the_quick_way_through_a_request_line_and_the_long_one_are_the_same(path: bytes) -> None:
    reader = RequestReader(HttpSettings(), secure=False)
    try:
        expected = normalise(path)
    except HttpError:
        with pytest.raises(HttpError):
            reader.read(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        return
    found = reader.read(b"GET %b?q HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    assert found is not None
    assert (found[0].path, found[0].unmerged, found[0].encoded_slash) == expected
    assert found[0].query == b"q"


hosts = st.lists(
    st.sampled_from(
        [b"a", b"B", b".", b"-", b"_", b":", b"80", b"443", b"[", b"]", b"::1", b"0", b"xn--", b"@", b"%", b" "]
    ),
    max_size=8,
).map(b"".join)


@quick
@given(hosts, st.sampled_from([80, 443]))
@example(b"[::1]:80", 80)
@example(b"[0:0::FFFF:1.2.3.4]", 80)
@example(b"a.b.:443", 443)
def test_a_normalised_host_is_normal(raw: bytes, port: int) -> None:
    try:
        host, authority = normalise_host(raw, port)
    except HttpError:
        return
    assert normalise_host(authority, port) == (host, authority)
    assert normalise_host(host, port) == (host, host)
    assert normalise_host(raw.upper(), port) == (host, authority)
    assert not authority.endswith(b":%d" % port)
    assert host == host.lower()


@pytest.mark.parametrize("size", [255, 256])
def test_a_host_has_255_bytes_at_most(size: int) -> None:
    raw = (b"a" * 60 + b".") * 4 + b"b" * (size - 244)
    if size == 255:
        assert normalise_host(raw, 80) == (raw, raw)
    else:
        with pytest.raises(HttpError):
            normalise_host(raw, 80)
