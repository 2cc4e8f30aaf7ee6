"""Who may begin a handshake, and when: with a clock and a reactor in the test's hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.net.tls.handshakes import LEAST_PATIENCE, PATIENCE, Handshakes

ONE_TURN = 8


class Call:
    """One that was asked for."""

    def __init__(self, place: Place, at: float, call: Callable[[], None]) -> None:
        self.place = place
        self.at = at
        self.call = call

    def cancel(self) -> None:
        self.place.calls.remove(self)


class Place:
    """The clock, and the calls that were asked for."""

    def __init__(self, limit: int) -> None:
        self.now = 100.0
        self.calls: list[Call] = []
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.broken: list[BaseException] = []
        self.handshakes = Handshakes(limit, lambda: self.now, self.later)

    def later(self, delay: float, call: Callable[[], None]) -> Call:
        assert delay >= 0
        self.calls.append(Call(self, self.now + delay, call))
        return self.calls[-1]

    def turn(self) -> None:
        """One turn of the reactor: what is due now is called, what that asks for is not."""
        due = [call for call in self.calls if call.at <= self.now]
        self.calls = [call for call in self.calls if call.at > self.now]
        for one in due:
            one.call()

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def client(self, name: str, *, gone: bool = False) -> Client:
        return Client(self, name, gone)

    def enter(self, count: int, name: str = "c") -> list[Client]:
        clients = [self.client(f"{name}{number}") for number in range(count)]
        for client in clients:
            self.handshakes.enter(client)
        return clients


class Client:
    """A client that wants a handshake. One that must give way does as a session does: it leaves."""

    def __init__(self, place: Place, name: str, gone: bool) -> None:
        self.place = place
        self.name = name
        self.gone = gone

    @property
    def waits(self) -> bool:
        return not self.gone

    def begin_handshake(self) -> None:
        assert self.waits
        self.place.begun.append(self.name)

    def broken(self, problem: BaseException) -> None:
        self.place.broken.append(problem)
        self.leave()

    def give_way(self) -> None:
        self.place.ended.append(self.name)
        self.place.handshakes.leave(self)

    def leave(self) -> None:
        self.place.handshakes.leave(self)


class TestTurns:
    def test_the_first_ones_begin_at_once(self) -> None:
        place = Place(100)
        place.enter(ONE_TURN)
        assert len(place.begun) == ONE_TURN
        assert place.handshakes.under_way == ONE_TURN
        assert place.calls == []

    def test_the_others_wait_for_the_next_turn(self) -> None:
        place = Place(100)
        place.enter(ONE_TURN * 2 + 3)
        assert (len(place.begun), place.handshakes.waiting) == (ONE_TURN, ONE_TURN + 3)
        place.turn()
        assert len(place.begun) == ONE_TURN * 2
        place.turn()
        assert len(place.begun) == ONE_TURN * 2 + 3
        assert place.calls == [], "nobody is waited for"

    def test_they_begin_in_the_order_in_which_they_came(self) -> None:
        place = Place(100)
        place.enter(20)
        place.turn()
        late = place.client("late")
        place.handshakes.enter(late)
        place.turn()
        assert place.begun == [*(f"c{number}" for number in range(20)), "late"]

    def test_nobody_overtakes_those_who_wait(self) -> None:
        place = Place(100)
        place.enter(ONE_TURN + 1)
        place.passes(1.0)  # the allowance would be renewed
        place.enter(1, "late")
        assert place.begun[-1] == f"c{ONE_TURN - 1}"
        place.turn()
        assert place.begun[-2:] == [f"c{ONE_TURN}", "late0"]

    def test_the_allowance_is_renewed_after_a_while_without_a_turn(self) -> None:
        place = Place(100)
        for _ in range(5):
            place.enter(ONE_TURN)
            place.passes(0.006)
        assert len(place.begun) == 5 * ONE_TURN
        assert place.calls == []

    def test_it_is_not_renewed_within_the_while(self) -> None:
        place = Place(100)
        place.enter(ONE_TURN)
        place.passes(0.004)
        place.enter(1, "late")
        assert "late0" not in place.begun

    def test_one_question_is_enough_for_all_who_wait(self) -> None:
        place = Place(100)
        place.enter(50)
        assert len(place.calls) == 1


class TestPlaces:
    def test_no_more_than_the_limit_are_under_way(self) -> None:
        place = Place(3)
        place.enter(10)
        place.turn()
        assert (len(place.begun), place.handshakes.under_way, place.handshakes.waiting) == (3, 3, 7)

    def test_who_leaves_makes_room(self) -> None:
        place = Place(3)
        clients = place.enter(5)
        clients[1].leave()
        place.passes(1.0)
        place.turn()
        assert place.begun[3:4] == ["c3"]

    def test_room_is_used_in_the_next_turn(self) -> None:
        """A handshake ends within a second of another's wait: nobody waits for that second."""
        place = Place(1)
        first, _ = place.enter(2)
        place.passes(0.01)
        first.leave()
        place.turn()
        assert place.begun == ["c0", "c1"]

    def test_who_leaves_without_having_begun_changes_nothing(self) -> None:
        place = Place(1)
        first, second = place.enter(2)
        second.leave()
        stranger = place.client("stranger")
        stranger.leave()
        assert place.handshakes.under_way == 1
        first.leave()
        first.leave()
        assert place.handshakes.under_way == 0

    def test_those_who_are_gone_take_no_place(self) -> None:
        place = Place(2)
        first, second = place.enter(2)
        for number in range(5):
            place.handshakes.enter(place.client(f"gone{number}", gone=True))
        place.enter(1, "late")
        first.leave()
        place.passes(PATIENCE)
        place.turn()
        assert place.begun[-1] == "late0"
        assert place.handshakes.waiting == 0

    def test_those_who_are_gone_cost_nothing_of_the_turn(self) -> None:
        place = Place(100)
        place.enter(ONE_TURN)
        for number in range(30):
            place.handshakes.enter(place.client(f"gone{number}", gone=True))
        place.enter(1, "late")
        place.turn()
        assert place.begun[-1] == "late0"

    def test_nobody_makes_room_for_one_who_is_gone(self) -> None:
        place = Place(1)
        place.enter(1)
        place.handshakes.enter(place.client("gone", gone=True))
        place.passes(10 * PATIENCE)
        place.turn()
        assert (place.begun, place.ended, place.handshakes.waiting) == (["c0"], [], 0)

    def test_one_whose_handshake_fails_at_once_leaves_nothing(self) -> None:
        """It leaves while it begins, before it has told that it began."""
        place = Place(1)

        class Failing(Client):
            def begin_handshake(self) -> None:
                self.leave()

        place.handshakes.enter(Failing(place, "failing", False))
        assert place.handshakes.under_way == 0
        place.enter(1)
        assert place.begun == ["c0"]

    def test_one_whose_beginning_is_a_fault_of_ours_is_ended(self) -> None:
        place = Place(1)

        class Faulty(Client):
            def begin_handshake(self) -> None:
                raise MemoryError

        place.handshakes.enter(Faulty(place, "faulty", False))
        assert [type(problem) for problem in place.broken] == [MemoryError]
        assert place.handshakes.under_way == 0

    def test_however_many_leave_the_calls_that_are_waited_for_stay_few(self) -> None:
        """Under a flood that lasts each would be one more, for as long as anybody waits."""
        place = Place(1)
        under_way = place.enter(200)
        for client in under_way[:100]:
            place.passes(0.01)
            client.leave()
            place.turn()
        assert len(place.begun) > 90
        assert len(place.calls) <= 2


class TestGivingWay:
    def test_the_oldest_makes_room_after_a_while(self) -> None:
        place = Place(2)
        place.enter(2)
        patience = PATIENCE * 2 / 3  # two places, and one who waits
        place.passes(0.3)
        place.enter(1, "late")
        place.passes(patience - 0.31)
        place.turn()
        assert (place.ended, len(place.begun)) == ([], 2)
        place.passes(0.02)
        place.turn()
        assert (place.ended, place.begun[2:]) == (["c0"], ["late0"])
        assert place.handshakes.under_way == 2

    @pytest.mark.parametrize(("waiting", "patience"), [(1, PATIENCE / 2), (3, PATIENCE / 4), (50, LEAST_PATIENCE)])
    def test_the_longer_the_queue_the_shorter_it_is(self, waiting: int, patience: float) -> None:
        place = Place(1)
        place.enter(1 + waiting)
        place.passes(patience - 0.01)
        place.turn()
        assert place.ended == []
        place.passes(0.02)
        place.turn()
        assert place.ended == ["c0"]

    def test_nobody_must_while_nobody_waits(self) -> None:
        place = Place(2)
        place.enter(2)
        place.passes(100.0)
        place.turn()
        assert place.ended == []

    def test_a_newcomer_is_reason_enough_at_once(self) -> None:
        place = Place(2)
        place.enter(2)
        place.passes(100.0)
        place.enter(1, "late")
        assert (place.ended, place.begun[2:]) == (["c0"], ["late0"])

    def test_those_who_have_waited_longest_are_next(self) -> None:
        place = Place(1)
        place.enter(4)
        for _ in range(3):
            place.passes(PATIENCE)
            place.turn()
        assert place.begun == ["c0", "c1", "c2", "c3"]
        assert place.ended == ["c0", "c1", "c2"]
        assert place.calls == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 50)),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.001, 0.006, 0.3, 1.0])),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=150,
)


@settings(deadline=None)
@given(limit=st.integers(1, 12), steps=STEPS)
def test_nobody_waits_for_ever_and_the_limit_holds(limit: int, steps: list[tuple[str, float]]) -> None:
    place = Place(limit)
    clients: list[Client] = []
    for word, number in steps:
        if word == "enter":
            clients.append(place.client(f"c{len(clients)}"))
            place.handshakes.enter(clients[-1])
            clients[-1].gone = bool(number) and clients[-1].name not in place.begun
        elif word == "leave" and clients:
            clients[int(number) % len(clients)].leave()
        elif word == "pass":
            place.passes(number)
        else:
            place.turn()
        assert place.handshakes.under_way <= limit
        assert not place.handshakes.waiting or place.calls, "whoever waits is looked after"
    for _ in range(len(clients) + 1):  # with not one of them leaving by itself
        place.passes(PATIENCE)
        place.turn()
    assert place.handshakes.waiting == 0
    assert place.begun == [client.name for client in clients if not client.gone], "each once, in their order"
    assert len(set(place.ended)) == len(place.ended)
