"""Coded bodies of others: bounds, truncation, corruption, several bodies in one."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli  # type: ignore[import-untyped]  # it carries no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.compress import unpacking
from lbproxy.compress.decoding import FREE, Decoder, TooMuch, coding_named, decode, decoder
from lbproxy.compress.unpacking import Corrupt
from tests.compress.compress_rig import PACKED, RECIPES, Recipe, made, noise, pieces, zstd

# Packing by the libraries themselves, without any of our code.
PACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": lambda data: bytes(brotli.compress(data, quality=4)),
    b"zstd": zstd.compress,
}
TEXT = b"".join(b"line %d\n" % number for number in range(300))
MEMBERS = [b"gzip", b"zstd"]


def unpacked(body: Decoder, parts: list[bytes], most: int) -> bytes:
    """All that comes out, never more than `most` at once."""
    out = []
    for part in parts:
        out.append(body.feed(part, most))
        while body.pending:
            out.append(body.feed(b"", most))
    body.finish()
    assert all(len(piece) <= most for piece in out)
    return b"".join(out)


@pytest.mark.parametrize("coding", PACKED)
@settings(max_examples=60, deadline=None)
@given(recipe=RECIPES, places=st.lists(st.integers(0, 10_000), max_size=5), most=st.integers(500, 100_000))
def test_a_body_comes_out_whole_however_it_comes_in(
    coding: bytes, recipe: Recipe, places: list[int], most: int
) -> None:
    body = made(recipe)
    packed = PACK[coding](body)
    assert unpacked(decoder(coding, ratio=None, most=len(body)), pieces(packed, places), most) == body


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("most", [1, 3, 1000])
def test_byte_by_byte_in_and_few_bytes_at_once_out(coding: bytes, most: int) -> None:
    packed = PACK[coding](TEXT)
    parts = [packed[index : index + 1] for index in range(len(packed))]
    assert unpacked(decoder(coding, ratio=None, most=None), parts, most) == TEXT
    assert unpacked(decoder(coding, ratio=None, most=None), [packed], most) == TEXT


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("most", [500, 5000, 32_752, 65_536])
def test_what_a_library_gives_beyond_its_room_is_not_the_last_of_it(coding: bytes, most: int) -> None:
    body = bytes(300_000)
    packed = PACK[coding](body)
    for place in (0, len(packed) // 2, len(packed) - 1):
        assert unpacked(decoder(coding, ratio=None, most=None), pieces(packed, [place]), most) == body


@pytest.mark.parametrize("coding", PACKED)
def test_a_body_that_ends_too_early_is_corrupt_at_every_byte(coding: bytes) -> None:
    packed = PACK[coding](TEXT[:500] + noise(1, 50))
    for end in range(1, len(packed)):
        with pytest.raises(Corrupt, match="ends in the middle"):
            decode(coding, packed[:end], ratio=None, most=None)


@pytest.mark.parametrize("coding", PACKED)
def test_a_body_without_any_bytes_is_whole(coding: bytes) -> None:
    assert decode(coding, b"", ratio=1, most=0) == b""
    assert decode(coding, PACK[coding](b""), ratio=1, most=0) == b""


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("behind", [b"\0", b"garbage behind the end", b"\r\n", b"\x1f"])
def test_what_stands_behind_the_end_is_corrupt(coding: bytes, behind: bytes) -> None:
    packed = PACK[coding](TEXT)
    for parts in ([packed + behind], [packed, behind], [*pieces(packed, [10]), behind]):
        with pytest.raises(Corrupt):
            unpacked(decoder(coding, ratio=None, most=None), parts, 1000)


@pytest.mark.parametrize("coding", [b"deflate", b"br"])
def test_codings_of_one_body_have_one(coding: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(coding, PACK[coding](b"one") + PACK[coding](b"two"), ratio=None, most=None)


@pytest.mark.parametrize("coding", MEMBERS)
@settings(max_examples=50, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    places=st.lists(st.integers(0, 2000), max_size=5),
    most=st.integers(1, 500),
)
def test_bodies_behind_each_other_are_one(coding: bytes, bodies: list[bytes], places: list[int], most: int) -> None:
    packed = b"".join(PACK[coding](body) for body in bodies)
    assert unpacked(decoder(coding, ratio=None, most=None), pieces(packed, places), most) == b"".join(bodies)


def test_frames_of_zstd_that_hold_nothing_are_passed_over() -> None:
    skipped = b"\x50\x2a\x4d\x18\x05\0\0\0other"
    packed = skipped + zstd.compress(b"one") + skipped + zstd.compress(b"two") + skipped
    assert decode(b"zstd", packed, ratio=None, most=None) == b"onetwo"
    with pytest.raises(Corrupt, match="ends in the middle"):
        decode(b"zstd", packed[:-1], ratio=None, most=None)


@pytest.mark.parametrize("coding", MEMBERS)
def test_a_body_of_very_many_is_refused(coding: bytes) -> None:
    one = PACK[coding](b"")
    assert decode(coding, one * 1000, ratio=None, most=None) == b""
    with pytest.raises(Corrupt, match="more than 1000"):
        decode(coding, one * 100_000, ratio=None, most=None)


@pytest.mark.parametrize("coding", PACKED)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_corrupt_or_gives_other_bytes_within_bounds(coding: bytes, data: st.DataObject) -> None:
    packed = bytearray(PACK[coding](TEXT))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        out = decode(coding, bytes(packed), ratio=100, most=50_000)
    except (Corrupt, TooMuch):
        return
    assert len(out) <= 50_000
    # What carries a checksum is never wrong: what was changed was not about the body.
    if coding in (b"gzip", b"deflate"):
        assert out == TEXT


@pytest.mark.parametrize("coding", PACKED)
@settings(max_examples=100, deadline=None)
@given(garbage=st.binary(min_size=1, max_size=300))
def test_garbage_is_corrupt_or_within_bounds(coding: bytes, garbage: bytes) -> None:
    try:
        out = decode(coding, garbage, ratio=2, most=70_000)
    except (Corrupt, TooMuch):
        return
    assert len(out) <= min(70_000, FREE + 2 * len(garbage))


@pytest.mark.parametrize("coding", PACKED)
def test_a_corrupt_body_stays_corrupt(coding: bytes) -> None:
    body = decoder(coding, ratio=None, most=None)
    with pytest.raises(Corrupt):
        body.feed(b"\xff" * 100, 1000)
    for _ in range(2):
        with pytest.raises(Corrupt):
            body.feed(PACK[coding](TEXT), 1000)
        with pytest.raises(Corrupt):
            body.finish()


@pytest.mark.parametrize("coding", PACKED)
def test_a_bomb_is_stopped_by_its_ratio(coding: bytes) -> None:
    bomb = PACK[coding](bytes(20_000_000))
    # deflate cannot do better than 1032, the others can.
    assert len(bomb) < 20_000_000 / 900
    body, out = decoder(coding, ratio=10, most=None), 0
    with pytest.raises(TooMuch, match="more than 10 times as long"):
        for part in pieces(bomb, range(0, len(bomb), 1000)):
            out += len(body.feed(part, 100_000))
            while body.pending:
                out += len(body.feed(b"", 100_000))
    assert out <= FREE + 10 * len(bomb)


@pytest.mark.parametrize("coding", PACKED)
def test_the_bounds_are_exact(coding: bytes) -> None:
    body = bytes(200_000)
    packed = PACK[coding](body)
    assert decode(coding, packed, ratio=None, most=200_000) == body
    with pytest.raises(TooMuch, match="longer than 199999 bytes"):
        decode(coding, packed, ratio=None, most=199_999)
    ratio = -(-(200_000 - FREE) // len(packed))
    assert decode(coding, packed, ratio=ratio, most=None) == body
    with pytest.raises(TooMuch, match=f"more than {ratio - 1} times"):
        decode(coding, packed, ratio=ratio - 1, most=None)


@pytest.mark.parametrize("coding", PACKED)
def test_short_bodies_may_grow_by_any_ratio(coding: bytes) -> None:
    assert decode(coding, PACK[coding](bytes(FREE)), ratio=0, most=None) == bytes(FREE)
    with pytest.raises(TooMuch):
        decode(coding, PACK[coding](bytes(FREE + 1)), ratio=0, most=None)


@pytest.mark.parametrize("coding", PACKED)
def test_after_too_much_there_is_nothing_more(coding: bytes) -> None:
    body = decoder(coding, ratio=None, most=10)
    with pytest.raises(TooMuch):
        body.feed(PACK[coding](TEXT), 1000)
    with pytest.raises(TooMuch):
        body.feed(b"", 1000)
    with pytest.raises(TooMuch):
        body.finish()


def test_a_window_of_zstd_that_nobody_has_to_keep_is_refused() -> None:
    packing = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    packed = packing.compress(b"x") + packing.flush()
    assert zstd.decompress(packed) == b"x"
    with pytest.raises(Corrupt, match="memory"):
        decode(b"zstd", packed, ratio=None, most=None)


def test_the_end_is_not_told_while_there_is_more() -> None:
    body = decoder(b"gzip", ratio=None, most=None)
    body.feed(gzip.compress(TEXT), 10)
    with pytest.raises(ValueError, match="more to be unpacked"):
        body.finish()


@pytest.mark.parametrize("coding", MEMBERS)
def test_many_small_bodies_do_not_copy_the_rest_each(coding: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # Libraries copy what stands behind each end. With all of this at once that would be gigabytes.
    monkeypatch.setattr(unpacking, "_MOST_MEMBERS", 10**6)
    given = []
    source: Any = unpacking._Inflating if coding == b"gzip" else unpacking._Zstd
    unpack = source.unpack

    def noted(self: Any, data: bytes, most: int) -> bytes:
        given.append(len(data))
        return bytes(unpack(self, data, most))

    monkeypatch.setattr(source, "unpack", noted)
    packed = PACK[coding](b"x") * 10_000
    assert decode(coding, packed, ratio=None, most=None) == b"x" * 10_000
    assert max(given) <= 16 * 1024
    assert sum(given) == len(packed)


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (b"gzip", b"gzip"),
        (b"GZIP ", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"br", b"br"),
        (b"zstd", b"zstd"),
        (b"deflate", b"deflate"),
        (b"identity", b""),
        (b"compress", b""),
        (b"gzip, br", b""),
        (b"", b""),
    ],
)
def test_content_encoding_names_one_coding_that_we_know(value: bytes, coding: bytes) -> None:
    assert coding_named(value) == coding


def test_a_coding_that_we_do_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="'lzma' cannot be unpacked"):
        decoder(b"lzma", ratio=None, most=None)
