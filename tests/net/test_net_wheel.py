"""When the wheel asks: never early, at most a few ticks late, and nobody suffers for another's fault."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.net.wheel import Timed, Wheel

TICK = 0.1
# How late a question may come: the slots are coarse, and `now` may be a tick old.
LATE = 3 * TICK


class Sleeper:
    """Wants to be asked at `deadline`; each answer moves it or ends it."""

    def __init__(self, then: Callable[[float], float | None] | None = None) -> None:
        self.slot = -1
        self.asked: list[float] = []
        self.then = then

    def expire(self, now: float) -> float | None:
        self.asked.append(now)
        return None if self.then is None else self.then(now)


def wheel_at(now: float = 0.0, slots: int = 512) -> tuple[Wheel, list[tuple[Timed, Exception]]]:
    broken: list[tuple[Timed, Exception]] = []
    return Wheel(now, lambda timed, problem: broken.append((timed, problem)), tick=TICK, slots=slots), broken


def turn(wheel: Wheel, until: float, step: float = TICK) -> None:
    """Turn the wheel as a reactor would."""
    while wheel.now < until:
        wheel.advance(min(until, wheel.now + step))


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.1, 0.15, 1.0, 5.0, 30.0, 50.0])
@pytest.mark.parametrize("start", [0.0, 0.07, 1234567.89])
def test_never_early_and_hardly_late(delay: float, start: float) -> None:
    wheel, _ = wheel_at(start)
    sleeper = Sleeper()
    wheel.add(sleeper, delay)
    turn(wheel, start + delay + 1, 0.03)
    assert len(sleeper.asked) == 1
    assert -1e-6 <= sleeper.asked[0] - (start + delay) <= LATE


def test_a_deadline_beyond_one_turn_is_asked_once_per_turn() -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper(lambda now: 200.0 - now if now < 200.0 else None)
    wheel.add(sleeper, 200.0)
    turn(wheel, 210.0)
    assert 3 <= len(sleeper.asked) <= 6
    assert 200.0 <= sleeper.asked[-1] <= 200.0 + LATE


@pytest.mark.parametrize("delay", [math.inf, 1e300])
def test_no_deadline_is_asked_once_per_turn(delay: float) -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper(lambda now: delay)
    wheel.add(sleeper, delay)
    turn(wheel, 160.0)
    assert len(sleeper.asked) == 3


def test_discard() -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper()
    wheel.add(sleeper, 1.0)
    assert (len(wheel), list(wheel)) == (1, [sleeper])
    wheel.discard(sleeper)
    wheel.discard(sleeper)
    assert (len(wheel), list(wheel), sleeper.slot) == (0, [], -1)
    turn(wheel, 60.0)
    assert sleeper.asked == []


def test_sooner_moves_a_question_forward_only() -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper()
    wheel.sooner(sleeper, 5.0)
    wheel.sooner(sleeper, 20.0)
    wheel.sooner(sleeper, 2.0)
    wheel.sooner(sleeper, 4.0)
    assert len(wheel) == 1
    turn(wheel, 60.0)
    assert len(sleeper.asked) == 1
    assert 2.0 <= sleeper.asked[0] <= 2.0 + LATE


@pytest.mark.parametrize("jump", [1.0, 30.0, 51.2, 52.0, 5000.0])
def test_after_a_jump_of_the_clock_everybody_due_is_asked_once(jump: float) -> None:
    wheel, _ = wheel_at()
    sleepers = [Sleeper() for _ in range(300)]
    for number, sleeper in enumerate(sleepers):
        wheel.add(sleeper, number * 0.1)
    wheel.advance(jump)
    for number, sleeper in enumerate(sleepers):
        assert len(sleeper.asked) == 1 or (not sleeper.asked and number * 0.1 + LATE > jump)
    turn(wheel, jump + 60)
    assert [len(sleeper.asked) for sleeper in sleepers] == [1] * 300


def test_the_clock_may_stand_still() -> None:
    wheel, _ = wheel_at(5.0)
    sleeper = Sleeper()
    wheel.add(sleeper, 0.0)
    for _ in range(1000):
        wheel.advance(5.0)
    assert sleeper.asked == []


def test_an_exception_ends_the_stay_of_that_entry_only() -> None:
    wheel, broken = wheel_at()
    problem = ZeroDivisionError()

    def fail(now: float) -> float:
        raise problem

    bad, good = Sleeper(fail), [Sleeper() for _ in range(20)]
    for sleeper in (*good[:10], bad, *good[10:]):
        wheel.add(sleeper, 1.0)
    turn(wheel, 5.0)
    assert broken == [(bad, problem)]
    assert [len(sleeper.asked) for sleeper in good] == [1] * 20
    assert len(wheel) == 0


@pytest.mark.parametrize("answer", [-5.0, math.nan, 0.0])
def test_an_odd_answer_means_soon(answer: float) -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper(lambda now: answer if now < 1.5 else None)
    wheel.add(sleeper, 1.0)
    turn(wheel, 2.0)
    assert 2 <= len(sleeper.asked) <= 6, "not in a loop, and not never"


def test_who_is_taken_out_by_another_of_the_same_slot_is_not_asked() -> None:
    wheel, _ = wheel_at()
    pair: list[Sleeper] = []

    def take_the_other_out(now: float) -> None:
        for other in pair:
            wheel.discard(other)

    pair += [Sleeper(take_the_other_out), Sleeper(take_the_other_out)]
    for sleeper in pair:
        wheel.add(sleeper, 1.0)
    turn(wheel, 5.0)
    assert sum(len(sleeper.asked) for sleeper in pair) == 1


def test_who_adds_itself_while_asked_is_in_once() -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper()

    def again(now: float) -> float | None:
        if now < 3:
            wheel.sooner(sleeper, 0.5)
            return 10.0
        return None

    sleeper.then = again
    wheel.add(sleeper, 1.0)
    turn(wheel, 1.4)
    assert len(wheel) == 1
    turn(wheel, 2.0)
    assert len(sleeper.asked) == 2


@pytest.mark.parametrize("jump", [0.1, 0.3, 1.0, 20.0])
def test_who_is_made_sooner_by_another_after_a_stall_is_asked_when_it_should(jump: float) -> None:
    """A dial times out, its lease goes to a session that waits, and that one has another deadline now."""
    wheel, _ = wheel_at()
    pair: list[Sleeper] = []

    def make_sooner(now: float) -> float | None:
        if len(pair[0].asked) + len(pair[1].asked) == 1:
            for other in pair:
                if other.slot >= 0:
                    wheel.sooner(other, 5.0)
        return 20.0

    pair += [Sleeper(make_sooner), Sleeper(make_sooner)]
    for sleeper in pair:
        wheel.add(sleeper, 1.0)
    turn(wheel, 1.1, 0.1)
    wheel.advance(1.1 + jump)
    turn(wheel, 19.0)
    for sleeper in pair:
        assert sleeper.asked[0] <= 1.1 + jump + LATE, "an earlier question stays"
        assert len(sleeper.asked) == 1 or sleeper.asked[1] >= sleeper.asked[0] + 20.0, "nobody is asked early"
    assert len(wheel) == 2, "nobody is in it twice"


def test_true_while_somebody_is_in_it() -> None:
    wheel, _ = wheel_at()
    sleeper = Sleeper()
    assert not wheel
    wheel.add(sleeper, 1.0)
    assert wheel
    wheel.discard(sleeper)
    assert not wheel


class Modelled(Sleeper):
    """Knows when it should be asked at the latest, and complains about early questions."""

    def __init__(self) -> None:
        super().__init__()
        self.earliest = 0.0
        self.due = math.inf

    def expire(self, now: float) -> float | None:
        assert now >= self.earliest - 1e-6, "asked early"
        self.due, self.earliest = math.inf, math.inf
        return super().expire(now)


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 5), st.floats(0, 6)),
    st.tuples(st.just("sooner"), st.integers(0, 5), st.floats(0, 6)),
    st.tuples(st.just("discard"), st.integers(0, 5), st.just(0.0)),
    st.tuples(st.just("pass"), st.integers(0, 0), st.sampled_from([0.0, 0.05, 0.1, 0.35, 1.0])),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=60), st.floats(0, 1e6))
def test_against_a_naive_model(steps: list[tuple[str, int, float]], start: float) -> None:
    wheel, broken = wheel_at(start, slots=64)
    everybody = [Modelled() for _ in range(6)]
    now = start
    for verb, number, amount in steps:
        one = everybody[number]
        if verb == "pass":
            until = now + amount
            while now < until:
                now = min(now + TICK, until)
                wheel.advance(now)
            for each in everybody:
                assert each.due + LATE >= now - 1e-6, "asked late"
        elif verb == "discard":
            wheel.discard(one)
            one.due = one.earliest = math.inf
        elif verb == "add":
            wheel.discard(one)
            wheel.add(one, amount)
            one.due = one.earliest = wheel.now + amount
        else:
            wheel.sooner(one, amount)
            # An earlier question stays, and one that comes a moment later counts as that.
            one.due = min(one.due, wheel.now + amount)
            one.earliest = min(one.earliest, wheel.now + amount)
        assert len(wheel) == sum(each.due < math.inf for each in everybody)
    assert broken == []
