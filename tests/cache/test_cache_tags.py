"""Surrogate tags: how they are written, and how many count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.tags import tags_of
from tests.cache.matching_heads import answer


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ((), None),
        ((b"Cache-Tag:",), None),
        ((b"Cache-Tag: , ,",), None),
        ((b"Surrogate-Key: ",), None),
        ((b"Cache-Tag: a",), (b"a",)),
        ((b"Cache-Tag: a, B,\tc,,d ",), (b"a", b"b", b"c", b"d")),
        ((b"Cache-Tag: product list, x",), (b"product list", b"x")),
        ((b"Surrogate-Key: a  B\tc",), (b"a", b"b", b"c")),
        ((b"Surrogate-Key: a,b c",), (b"a,b", b"c")),
        ((b"cache-tag: a, b", b"X: y", b"Surrogate-Key: B z", b"Cache-Tag: A, q"), (b"a", b"b", b"z", b"q")),
        ((b"Cache-Tags: a", b"Tag: b"), None),
        ((b"Cache-Tag: " + b"x" * 256,), (b"x" * 256,)),
        ((b"Cache-Tag: a, " + b"x" * 257 + b", b",), (b"a", b"b")),
        ((b"Cache-Tag: " + b"x" * 257,), None),
    ],
)
def test_tags_are_read_from_both_fields(lines: tuple[bytes, ...], tags: tuple[bytes, ...] | None) -> None:
    assert tags_of(answer(200, *lines)) == tags


@pytest.mark.parametrize("count", [64, 65, 500])
def test_the_first_sixty_four_count(count: int) -> None:
    names = [b"t%d" % index for index in range(count)]
    assert tags_of(answer(200, b"Cache-Tag: a,a", b"Surrogate-Key: " + b" ".join(names))) == (b"a", *names[:63])


@given(st.lists(st.sampled_from([b"a", b"B", b"c-1", b",", b" ", b"\t", b"=", b'"', b"\xff"])).map(b"".join))
def test_tags_are_lower_case_told_apart_and_never_empty(value: bytes) -> None:
    for name, separators in ((b"Cache-Tag", b","), (b"Surrogate-Key", b" \t")):
        tags = tags_of(answer(200, b"%b: %b" % (name, value))) or ()
        assert len(set(tags)) == len(tags)
        for tag in tags:
            assert tag
            assert tag == tag.lower().strip(b" \t")
            assert not set(tag) & set(separators)
        # Nothing is lost.
        assert set(b"".join(tags)) == set(value.lower()) - set(separators + b" \t") | (
            set(b"".join(tags)) & set(b" \t")
        )
