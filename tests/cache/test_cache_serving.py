"""Serving: what is fresh is served, what is not only where that is allowed; a hit costs comparisons."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.directives import FOREVER, Directives
from lbproxy.cache.serving import ASK, FRESH, REFRESH, age, how, may_replace_error
from lbproxy.cache.values import ALWAYS_ASK, GUESSED, NEVER_STALE
from tests.cache.rule_heads import NOW, query, stored


@pytest.mark.parametrize(
    ("after", "flags", "while_revalidate", "verdict"),
    [
        (0.0, 0, 0.0, FRESH),
        (59.99, 0, 0.0, FRESH),
        (60.0, 0, 0.0, ASK),
        (60.0, 0, 10.0, REFRESH),
        (69.99, 0, 10.0, REFRESH),
        (70.0, 0, 10.0, ASK),
        (59.0, GUESSED, 0.0, FRESH),
        (59.0, NEVER_STALE, 0.0, FRESH),
        (60.0, NEVER_STALE, 0.0, ASK),
        (0.0, ALWAYS_ASK, 0.0, ASK),
        (60.0, ALWAYS_ASK, 0.0, ASK),
    ],
)
def test_freshness_decides(after: float, flags: int, while_revalidate: float, verdict: int) -> None:
    assert how(stored(60.0, flags=flags, while_revalidate=while_revalidate), query(), NOW + after) == verdict


@pytest.mark.parametrize(
    ("after", "wishes", "verdict"),
    [
        (0.0, {}, FRESH),
        (65.0, {}, REFRESH),
        (0.0, {"no_cache": True}, ASK),
        (0.0, {"max_age": 0.0}, ASK),
        (9.0, {"max_age": 10.0}, FRESH),
        (11.0, {"max_age": 10.0}, ASK),
        (50.0, {"min_fresh": 10.0}, FRESH),
        (51.0, {"min_fresh": 10.0}, ASK),
        (61.0, {"min_fresh": 0.0}, ASK),
        (65.0, {"max_age": 100.0}, ASK),
        (65.0, {"max_stale": 5.0}, FRESH),
        (66.0, {"max_stale": 5.0}, ASK),
        (10**6, {"max_stale": FOREVER}, FRESH),
        (65.0, {"max_stale": 10.0, "max_age": 100.0}, FRESH),
        (65.0, {"max_stale": 10.0, "max_age": 64.0}, ASK),
        (0.0, {"no_store": True, "only_if_cached": True}, FRESH),
    ],
)
def test_what_the_client_wishes_decides_where_it_counts(after: float, wishes: dict[str, Any], verdict: int) -> None:
    assert how(stored(60.0, while_revalidate=10.0), query(Directives(**wishes)), NOW + after) == verdict


@pytest.mark.parametrize("flag", [NEVER_STALE, ALWAYS_ASK])
def test_no_client_may_have_what_the_answer_forbids(flag: int) -> None:
    wishes = query(Directives(max_stale=FOREVER, stale_if_error=FOREVER))
    assert how(stored(60.0, flags=flag), wishes, NOW + 61.0) == ASK
    assert not may_replace_error(stored(60.0, flags=flag), wishes, NOW + 61.0)


@pytest.mark.parametrize(
    ("after", "flags", "if_error", "wished", "may"),
    [
        (60.0, 0, 0.0, None, False),
        (60.0, 0, 5.0, None, True),
        (64.9, 0, 5.0, None, True),
        (65.0, 0, 5.0, None, False),
        (65.0, 0, 5.0, 6.0, True),
        (60.0, 0, 5.0, 0.0, True),
        # What is fresh was asked for only because the client wanted that.
        (59.0, 0, 0.0, None, True),
        (59.0, NEVER_STALE, 0.0, None, True),
        (60.0, NEVER_STALE, 0.0, None, False),
        (59.0, ALWAYS_ASK, 0.0, None, False),
    ],
)
def test_an_error_is_replaced_where_that_is_allowed(
    after: float, flags: int, if_error: float, wished: float | None, may: bool
) -> None:
    found = stored(60.0, flags=flags, if_error=if_error)
    wishes = None if wished is None else Directives(stale_if_error=wished)
    assert may_replace_error(found, query(wishes), NOW + after) is may


@pytest.mark.parametrize(("after", "seconds"), [(0.0, 0), (0.99, 0), (1.0, 1), (3600.5, 3600), (-5.0, 0)])
def test_the_age_is_in_whole_seconds(after: float, seconds: int) -> None:
    assert age(stored(60.0), NOW + after) == seconds


WISHES = st.none() | st.builds(
    Directives,
    no_cache=st.booleans(),
    max_age=st.none() | st.integers(0, 90).map(float),
    min_fresh=st.none() | st.integers(0, 90).map(float),
    max_stale=st.none() | st.integers(0, 90).map(float),
)


@given(st.integers(0, 200), st.integers(0, 7), st.integers(0, 30), WISHES)
def test_waiting_never_makes_an_answer_more_usable(
    after: int, flags: int, while_revalidate: int, wishes: Directives | None
) -> None:
    kept = 0.0 if flags & (NEVER_STALE | ALWAYS_ASK) else float(while_revalidate)
    found = stored(60.0, flags=flags, while_revalidate=kept)
    now, later = how(found, query(wishes), NOW + after), how(found, query(wishes), NOW + after + 1)
    assert later >= now
    # A client can only be stricter, but for max-stale.
    if wishes is not None and wishes.max_stale is None:
        assert now >= how(found, query(), NOW + after)
