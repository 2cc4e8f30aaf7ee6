"""How hard to compress, from how busy compressing keeps us."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.compress.effort import Effort


def busy(effort: Effort, share: float, start: float, seconds: float) -> float:
    """Work of that share for some time, a hundred pieces a second; the time at its end."""
    for step in range(int(seconds * 100)):
        effort.note(share / 100, start + (step + 1) / 100)
    return start + seconds


def test_at_rest_the_configured_level_holds() -> None:
    effort = Effort()
    assert effort.level(4, b"br", 1000.0) == 4
    assert effort.share(1000.0) == 0


@pytest.mark.parametrize(
    ("share", "level"), [(0.1, 4), (0.45, 4), (0.55, 2), (0.75, 2), (0.85, None), (1.0, None), (2.0, None)]
)
def test_the_share_of_time_decides(share: float, level: int | None) -> None:
    effort = Effort()
    now = busy(effort, share, 1000.0, 10.0)
    assert effort.share(now) == pytest.approx(share, rel=0.02)
    assert effort.level(4, b"br", now) == level


def test_the_lowest_level_is_never_raised() -> None:
    effort = Effort()
    now = busy(effort, 0.6, 0.0, 10.0)
    assert effort.level(0, b"br", now) == 0
    assert effort.level(1, b"gzip", now) == 1


def test_a_second_of_rest_makes_up_for_most_of_it() -> None:
    effort = Effort()
    now = busy(effort, 1.0, 0.0, 10.0)
    assert effort.level(4, b"gzip", now) is None
    assert effort.level(4, b"gzip", now + 1.0) == 1
    assert effort.level(4, b"gzip", now + 2.0) == 4


def test_near_a_border_it_does_not_go_back_and_forth() -> None:
    effort = Effort()
    now = busy(effort, 0.55, 0.0, 10.0)
    assert effort.level(4, b"gzip", now) == 1
    now = busy(effort, 0.4, now, 10.0)
    assert effort.level(4, b"gzip", now) == 1
    now = busy(effort, 0.25, now, 10.0)
    assert effort.level(4, b"gzip", now) == 4
    now = busy(effort, 0.45, now, 10.0)
    assert effort.level(4, b"gzip", now) == 4


def test_from_nothing_it_comes_back_by_way_of_the_low_level() -> None:
    effort = Effort()
    now = busy(effort, 0.9, 0.0, 10.0)
    assert effort.level(4, b"gzip", now) is None
    now = busy(effort, 0.6, now, 10.0)
    assert effort.level(4, b"gzip", now) is None
    now = busy(effort, 0.45, now, 10.0)
    assert effort.level(4, b"gzip", now) == 1


def test_one_long_piece_counts_at_once() -> None:
    effort = Effort()
    effort.note(0.9, 100.0)
    assert effort.level(4, b"gzip", 100.0) is None


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    effort = Effort()
    effort.note(0.3, 100.0)
    effort.note(0.3, 100.0)
    effort.note(0.3, 90.0)
    assert effort.share(90.0) == effort.share(100.0) == pytest.approx(0.9)
    assert effort.share(101.0) == pytest.approx(0.33, abs=0.01)


@settings(deadline=None)
@given(work=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=30), wanted=st.integers(0, 22))
def test_the_level_is_always_one_of_three(work: list[tuple[float, float]], wanted: int) -> None:
    effort, now = Effort(), 0.0
    for took, passed in work:
        now += passed
        effort.note(took, now)
        share, level = effort.share(now), effort.level(wanted, b"zstd", now)
        assert level in (wanted, min(wanted, 1), None)
        if share > 0.8:
            assert level is None
        elif share > 0.5:
            assert level in (min(wanted, 1), None)
        elif share < 0.3:
            assert level == wanted
