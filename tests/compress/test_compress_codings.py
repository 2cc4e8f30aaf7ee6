"""Every coding gives back what was put in, however it comes in pieces."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence

import brotli  # type: ignore[import-untyped]  # it carries no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.compress import libraries
from lbproxy.compress.codings import AVAILABLE, decode, decoder, encode, encoder, level_of, usable
from lbproxy.model_cache import CompressSettings
from tests.compress.compress_rig import CODINGS, RECIPES, Recipe, made, noise, pieces, zstd

PLACES = st.lists(st.integers(0, 100_000), max_size=6)
LEVELS: dict[bytes, Sequence[int]] = {b"gzip": range(1, 10), b"br": range(12), b"zstd": (1, 2, 3, 5, 9, 12, 19, 22)}
# Unpacking by the libraries themselves, without any of our code.
THEIRS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.decompress,
    b"br": lambda data: bytes(brotli.decompress(data)),
    b"zstd": zstd.decompress,
}
TEXT = b"".join(b'<li><a href="/item/%d">Item %d</a></li>\n' % (number, number * 7919 % 1000) for number in range(2000))


def streamed(coding: bytes, level: int, parts: list[bytes], flushed: frozenset[int] = frozenset()) -> bytes:
    """The parts through an encoder, flushed after those with these numbers."""
    packing = encoder(coding, level, None)
    out = []
    for number, part in enumerate(parts):
        out.append(packing.feed(part))
        if number in flushed:
            out.append(packing.flush())
    out.append(packing.finish())
    return b"".join(out)


def test_all_codings_are_there_with_their_libraries() -> None:
    assert AVAILABLE == (b"zstd", b"br", b"gzip")
    assert usable(("gzip", "br", "lzma")) == (b"gzip", b"br")


@pytest.mark.parametrize("coding", CODINGS)
@settings(max_examples=60, deadline=None)
@given(recipe=RECIPES, places=PLACES, flushed=st.frozensets(st.integers(0, 6)), level=st.integers(-1, 9))
def test_a_body_comes_back_whatever_its_pieces_and_flushes(
    coding: bytes, recipe: Recipe, places: list[int], flushed: frozenset[int], level: int
) -> None:
    body = made(recipe)
    packed = streamed(coding, level, pieces(body, places), flushed)
    assert THEIRS[coding](packed) == body
    assert decode(coding, packed, ratio=None, most=None) == body


@pytest.mark.parametrize("coding", CODINGS)
@settings(max_examples=60, deadline=None)
@given(recipe=RECIPES, level=st.integers(1, 9))
def test_a_body_in_one_piece_comes_back(coding: bytes, recipe: Recipe, level: int) -> None:
    body = made(recipe)
    packed = encode(coding, level, body)
    assert THEIRS[coding](packed) == body
    assert packed == encode(coding, level, body)


@pytest.mark.parametrize(("coding", "level"), [(coding, level) for coding in CODINGS for level in LEVELS[coding]])
def test_every_level_packs(coding: bytes, level: int) -> None:
    for packed in (encode(coding, level, TEXT), streamed(coding, level, pieces(TEXT, range(0, len(TEXT), 16384)))):
        assert THEIRS[coding](packed) == TEXT
        assert len(packed) < len(TEXT) / 4


@pytest.mark.parametrize("coding", CODINGS)
def test_levels_beyond_the_ends_are_those_at_the_ends(coding: bytes) -> None:
    lowest, highest = LEVELS[coding][0], LEVELS[coding][-1]
    assert encode(coding, -5, TEXT) == encode(coding, lowest, TEXT)
    assert encode(coding, 99, TEXT) == encode(coding, highest, TEXT)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("level", [1, 4, 6])
@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.just(TEXT[:5000])), min_size=1, max_size=8))
def test_what_was_fed_can_be_read_after_a_flush(coding: bytes, level: int, parts: list[bytes]) -> None:
    packing, unpacking = encoder(coding, level, None), decoder(coding, ratio=None, most=None)
    for part in parts:
        assert unpacking.feed(packing.feed(part) + packing.flush(), 1_000_000) == part
        assert not unpacking.pending
    assert unpacking.feed(packing.finish(), 1_000_000) == b""
    unpacking.finish()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_flush_without_anything_new_costs_nothing(coding: bytes) -> None:
    packing = encoder(coding, 4, None)
    assert packing.flush() == b""
    out = packing.feed(b"") + packing.flush()
    assert out == b""
    out = packing.feed(b"data: 1\n\n") + packing.flush()
    assert out != b""
    assert packing.flush() == packing.flush() == b""
    assert THEIRS[coding](out + packing.finish()) == b"data: 1\n\n"


@pytest.mark.parametrize("coding", CODINGS)
def test_views_of_bytes_are_taken_as_well(coding: bytes) -> None:
    packing = encoder(coding, 4, None)
    packed = packing.feed(memoryview(TEXT)[10:50_000]) + packing.finish()
    assert THEIRS[coding](packed) == TEXT[10:50_000]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("hint", [0, 1, 100, 40_000, 10**9])
@pytest.mark.parametrize("body", [b"", b"x", TEXT, noise(1, 200_000)], ids=["nothing", "byte", "text", "noise"])
def test_a_hint_may_be_wrong(coding: bytes, hint: int, body: bytes) -> None:
    packing = encoder(coding, 4, hint)
    packed = packing.feed(body) + packing.finish()
    assert THEIRS[coding](packed) == body
    assert len(packed) < len(body) + 100 + len(body) // 1000


@pytest.mark.parametrize("level", [3, 20])
def test_no_window_of_zstd_is_wider_than_browsers_allow(level: int) -> None:
    # RFC 9659: 8 MiB. A decoder that is told so refuses anything wider.
    narrow: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
    body = bytes(9 * 1024 * 1024)
    for packed in (encode(b"zstd", level, body), streamed(b"zstd", level, [body])):
        assert zstd.decompress(packed, options=narrow) == body


def test_a_coding_without_a_library_is_refused() -> None:
    for name in (b"deflate", b"lzma", b""):
        with pytest.raises(ValueError, match="no library for the coding"):
            encoder(name, 4, None)
        with pytest.raises(ValueError, match="no library for the coding"):
            encode(name, 4, b"")


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_gzip_is_the_same_body_with_and_without_isa_l(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = encode(b"gzip", level, TEXT), streamed(b"gzip", level, [TEXT])
    monkeypatch.setattr(libraries, "isal", None)
    slow = encode(b"gzip", level, TEXT), streamed(b"gzip", level, [TEXT])
    assert slow[0] == slow[1] == zlib.compress(TEXT, level, 31)
    assert fast[0] != slow[0]
    for packed in fast:
        assert gzip.decompress(packed) == TEXT
        # The levels are chosen such that ratios are alike.
        assert len(packed) < 1.3 * len(slow[0])


def test_without_any_library_there_is_gzip() -> None:
    script = """
import sys
for name in ("brotli", "isal", "isal.isal_zlib", "backports", "backports.zstd", "compression", "compression.zstd"):
    sys.modules[name] = None
from lbproxy.compress import codings, known
assert codings.AVAILABLE == (b"gzip",), codings.AVAILABLE
assert codings.DECODABLE == {b"gzip", b"deflate"}, codings.DECODABLE
assert codings.decode(b"gzip", codings.encode(b"gzip", 4, b"body"), ratio=10, most=10) == b"body"
try:
    codings.decode(b"gzip", b"no gzip", ratio=10, most=10)
except codings.Corrupt:
    pass
else:
    raise SystemExit("garbage was unpacked")
try:
    codings.encoder(b"br", 4, None)
except ValueError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_brotli_that_cannot_be_bounded_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        class Decompressor:
            pass

    monkeypatch.setattr(libraries, "find", lambda *names: Old)
    assert libraries.find_brotli() is None


def test_each_coding_has_its_own_level() -> None:
    told = CompressSettings(zstd_level=5, br_level=6, gzip_level=7)
    assert [level_of(told, coding) for coding in CODINGS] == [5, 6, 7]
