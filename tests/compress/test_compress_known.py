"""Bodies of our own in all codings."""

from __future__ import annotations

import pytest

from lbproxy.compress import known
from lbproxy.compress.codings import decode
from lbproxy.compress.known import KnownBody
from lbproxy.model_cache import CompressSettings
from tests.compress.compress_rig import CODINGS, noise

PAGE = b"<p>There is nothing here.</p>\n" * 100
ON = CompressSettings()


@pytest.mark.parametrize("coding", CODINGS)
def test_each_coding_is_the_same_body_and_shorter(coding: bytes) -> None:
    body = KnownBody(PAGE, b"text/html", ON)
    packed = body.in_coding(coding)
    assert packed is not None
    assert len(packed) < len(PAGE) / 10
    assert decode(coding, packed, ratio=None, most=None) == PAGE


def test_each_coding_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(coding: bytes, level: int, data: bytes) -> bytes:
        made.append(coding)
        return b"packed" if coding != b"br" else data

    monkeypatch.setattr(known, "encode", counted)
    body = KnownBody(PAGE, b"text/html", ON)
    assert made == []
    for _ in range(3):
        assert body.in_coding(b"gzip") == b"packed"
        assert body.in_coding(b"br") is None
    assert made == [b"gzip", b"br"]


@pytest.mark.parametrize(
    ("body", "content_type", "settings"),
    [
        (PAGE, b"text/html", None),
        (PAGE, b"image/png", ON),
        (b"", b"text/html", ON),
        (PAGE, b"text/html", CompressSettings(codings=())),
    ],
)
def test_what_is_not_compressed_is_plain_for_all(
    body: bytes, content_type: bytes, settings: CompressSettings | None
) -> None:
    plain = KnownBody(body, content_type, settings)
    assert not plain.varies
    assert [plain.in_coding(coding) for coding in CODINGS] == [None, None, None]
    assert plain.for_client(b"gzip, br, zstd") == (b"", body, plain.etag)


def test_the_codings_are_those_of_the_route() -> None:
    body = KnownBody(PAGE, b"text/html", CompressSettings(codings=("gzip",)))
    assert body.varies
    assert body.in_coding(b"br") is None
    assert body.for_client(b"br, gzip;q=0.1")[0] == b"gzip"
    assert body.for_client(b"br")[0] == b""


@pytest.mark.parametrize(
    ("accept", "coding"),
    [(None, b""), (b"gzip", b"gzip"), (b"gzip, br", b"br"), (b"*", b"zstd"), (b"identity", b""), (b"gzip;q=0", b"")],
)
def test_a_client_gets_what_it_can_read(accept: bytes | None, coding: bytes) -> None:
    body = KnownBody(PAGE, b"text/html", ON)
    told, data, etag = body.for_client(accept)
    assert told == coding
    assert (decode(coding, data, ratio=None, most=None) if coding else data) == PAGE
    assert etag == (b"W/" + body.etag if coding else body.etag)


def test_short_bodies_are_plain_unless_that_is_refused() -> None:
    short = b"a" * 500
    body = KnownBody(short, b"text/plain", ON)
    assert body.varies
    assert body.for_client(b"gzip")[:2] == (b"", short)
    told, data, _ = body.for_client(b"gzip, identity;q=0")
    assert (told, decode(told, data, ratio=None, most=None)) == (b"gzip", short)


def test_what_packing_makes_longer_is_plain() -> None:
    body = KnownBody(noise(1, 2000), b"text/plain", ON)
    assert body.for_client(b"gzip") == (b"", body.body, body.etag)


def test_the_tag_is_of_the_body_alone() -> None:
    assert KnownBody(PAGE, b"text/html", ON).etag == KnownBody(PAGE, b"text/plain", None).etag
    assert KnownBody(PAGE, b"text/html", ON).etag != KnownBody(PAGE + b" ", b"text/html", ON).etag
    # The same in every process: it is written down here.
    assert KnownBody(b"abc", b"text/plain", None).etag == b'"48b4f1f9042a2d5033b382b5"'
