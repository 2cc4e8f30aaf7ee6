"""What a waiting session may rely on: the order, shedding, and that nobody is forgotten (section 21)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balancing.pool import Pool
from lbproxy.balancing.queue import Queue
from lbproxy.errors import DNS, NO_BACKEND, QUEUE_FULL, SHED, Outcome
from tests.balancing.balancing_doubles import Session, come_up, go_down, make_pool, take

Log = list[str]


def busy_pool(names: str = "a", **rest: Any) -> Pool:
    """A pool of one slot per backend, all taken."""
    pool = make_pool(names, **{"max_active": 1, **rest})
    while pool.take(0.0) is not None:
        pass
    return pool


class TestOrder:
    def test_first_in_first_out(self) -> None:
        pool, log = busy_pool(), Log()
        for name in "1234":
            assert pool.enqueue(Session(name, log=log), 0.0) is None
        assert pool.queued == 4
        for _ in range(3):
            pool.give_back(pool.backends["a"], 0.0)
        assert log == ["1=a", "2=a", "3=a"]
        assert (pool.queued, pool.active) == (1, 1)

    def test_the_class_goes_before_the_time(self) -> None:
        pool, log = busy_pool(), Log()
        for name, priority in [("n1", 5), ("low", 9), ("n2", 5), ("high", 0), ("odd", 99), ("odder", -3)]:
            pool.enqueue(Session(name, priority=priority, log=log), 0.0)
        for _ in range(6):
            pool.give_back(pool.backends["a"], 0.0)
        assert log == ["high=a", "odder=a", "n1=a", "n2=a", "low=a", "odd=a"]

    def test_a_slot_goes_to_the_first_that_may_use_it(self) -> None:
        pool, log = busy_pool("a b"), Log()
        a, b = pool.backends.values()
        pool.enqueue(Session("not a", tried=[a], log=log), 0.0)
        pool.enqueue(Session("any", log=log), 0.0)
        pool.give_back(a, 0.0)
        pool.give_back(b, 0.0)
        assert log == ["any=a", "not a=b"]

    def test_who_leaves_is_forgotten_at_once(self) -> None:
        pool, log = busy_pool(), Log()
        gone, stays = Session("gone", log=log), Session("stays", log=log)
        pool.enqueue(gone, 0.0)
        pool.enqueue(stays, 0.0)
        pool.leave(gone)
        pool.leave(gone)
        assert pool.queued == 1
        pool.give_back(pool.backends["a"], 0.0)
        pool.leave(stays)
        assert log == ["stays=a"]

    def test_the_key_is_heeded(self) -> None:
        pool = make_pool("a b c", policy="ketama", max_active=1)
        home = take(pool, key=b"k")
        take(pool)
        take(pool)
        session = Session(key=b"k")
        pool.enqueue(session, 0.0)
        pool.give_back(home, 0.0)
        assert session.backend is home

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=40))
    def test_the_order_is_by_class_then_time_whoever_leaves(self, arrivals: list[tuple[int, int]]) -> None:
        queue, expected = Queue(codel=False), list[tuple[int, int]]()
        for place, (priority, action) in enumerate(arrivals):
            session = Session(str(place), priority=priority)
            queue.add(session, 0.0)
            if action == 0:
                assert queue.remove(session)
                assert not queue.remove(session)
            else:
                expected.append((priority, place))
        order = [int(waiter.name) for waiter in queue.in_order(0.0)]  # type: ignore[attr-defined]
        assert order == [place for _, place in sorted(expected)]
        assert len(queue) == len(expected)


class TestLimits:
    def test_a_full_queue_refuses_at_once(self) -> None:
        pool = busy_pool(queue_size=2)
        assert [pool.enqueue(Session(), 0.0) for _ in range(3)] == [None, None, QUEUE_FULL]

    def test_size_nought_means_no_queue(self) -> None:
        assert busy_pool(queue_size=0).enqueue(Session(), 0.0) is QUEUE_FULL

    def test_nobody_waits_for_what_cannot_come(self) -> None:
        pool = busy_pool("a b")
        go_down(pool, "a")
        assert pool.enqueue(Session(tried=[pool.backends["b"]]), 0.0) is NO_BACKEND
        pool.set_resolved(pool.backends["b"], False, 0.0)
        assert pool.enqueue(Session(), 0.0) is NO_BACKEND

    def test_who_comes_with_a_slot_free_is_served_at_once(self) -> None:
        pool, session = make_pool("a"), Session()
        assert pool.enqueue(session, 0.0) is None
        assert session.backend is pool.backends["a"]


class TestStates:
    def test_the_last_usable_one_gone_they_are_sent_away(self) -> None:
        pool = busy_pool("a b")
        waiting = [Session() for _ in range(3)]
        for session in waiting:
            pool.enqueue(session, 0.0)
        go_down(pool, "a")
        assert all(session.waits for session in waiting)
        go_down(pool, "b")
        assert {session.outcome for session in waiting} == {NO_BACKEND}
        assert pool.queued == 0

    def test_the_last_one_they_had_not_tried_gone_they_are_sent_away(self) -> None:
        pool = busy_pool("a b")
        picky, easy = Session(tried=[pool.backends["b"]]), Session()
        pool.enqueue(picky, 0.0)
        pool.enqueue(easy, 0.0)
        pool.set_admin(pool.backends["a"], "drain", 0.0)
        assert picky.outcome is NO_BACKEND
        assert easy.waits

    def test_names_lost_they_are_told_so(self) -> None:
        pool, session = busy_pool(), Session()
        pool.enqueue(session, 0.0)
        pool.set_resolved(pool.backends["a"], False, 0.0)
        assert session.outcome is DNS

    def test_a_backup_that_takes_over_serves_them(self) -> None:
        pool, session = busy_pool("a x+"), Session()
        pool.enqueue(session, 0.0)
        go_down(pool, "a")
        assert session.backend is pool.backends["x"]

    def test_a_returning_backend_serves_as_many_as_it_has_slots_for(self) -> None:
        pool = make_pool("a b", max_active=20, policy="first")
        go_down(pool, "b")
        for _ in range(20):
            take(pool)
        waiting = [Session() for _ in range(30)]
        for session in waiting:
            pool.enqueue(session, 0.0)
        come_up(pool, "b", 100.0)
        served = [sum(not session.waits for session in waiting)]
        for now in (105.0, 110.0):
            pool.tick(now)
            served.append(sum(not session.waits for session in waiting))
        assert served == [2, 10, 20], "slow start grants a tenth, half, all of the twenty"
        assert [session.waits for session in waiting] == [False] * 20 + [True] * 10

    def test_probes_are_for_those_who_wait_too(self) -> None:
        pool = busy_pool("a b")
        a = pool.backends["a"]
        for _ in range(5):
            pool.failed(a, 0.0, 0.0)
        pool.give_back(a, 0.0)
        waiting = [Session() for _ in range(2)]
        for session in waiting:
            pool.enqueue(session, 20.0)
        pool.tick(30.0)
        assert [session.backend for session in waiting] == [a, None]

    def test_a_session_that_tried_all_primaries_is_served_by_a_backup(self) -> None:
        pool = busy_pool("a x+")
        a, x = pool.backends.values()
        assert take(pool, tried=[a]) is x
        session = Session(tried=[a])
        assert pool.enqueue(session, 0.0) is None
        pool.give_back(a, 0.0)
        assert session.waits
        pool.give_back(x, 0.0)
        assert session.backend is x

    def test_the_end_of_the_pool(self) -> None:
        pool, session = busy_pool(), Session()
        pool.enqueue(session, 0.0)
        pool.close(0.0)
        assert session.outcome is NO_BACKEND
        pool.give_back(pool.backends["a"], 0.0)
        assert pool.active == 0


class TestShedding:
    def crowd(self, shed: str = "codel") -> tuple[Pool, Log]:
        """At 10.00 to 10.48 a session joins every 40 ms, and nothing is given back."""
        pool, log = busy_pool(shed=shed), Log()
        for n in range(13):
            pool.enqueue(Session(str(n), log=log), 10.0 + n * 0.04)
        return pool, log

    def test_a_short_crowd_waits_in_order(self) -> None:
        pool, log = self.crowd()
        pool.tick(10.49)
        pool.give_back(pool.backends["a"], 10.49)
        assert log == ["0=a"]

    def test_a_standing_crowd_loses_those_who_waited_a_tenth_of_a_second(self) -> None:
        pool, log = self.crowd()
        pool.tick(10.55)
        assert log == [f"{n}!shed" for n in range(12)]
        pool.tick(10.60)
        assert log[12:] == ["12!shed"]

    def test_and_serves_the_newest_first(self) -> None:
        pool, log = self.crowd()
        pool.enqueue(Session("13", log=log), 10.51)
        pool.give_back(pool.backends["a"], 10.51)
        assert log == [*(f"{n}!shed" for n in range(11)), "13=a"]
        pool.give_back(pool.backends["a"], 10.51)
        assert log[-1] == "12=a"

    def test_until_it_has_been_empty_once(self) -> None:
        pool, log = self.crowd()
        pool.tick(11.0)
        log.clear()
        assert pool.queued == 0
        for name in "xy":
            pool.enqueue(Session(name, log=log), 11.0)
        pool.tick(11.2)
        pool.give_back(pool.backends["a"], 11.2)
        assert log == ["x=a"]

    def test_the_outcome_is_shed(self) -> None:
        pool, session = busy_pool(shed="codel"), Session()
        pool.enqueue(session, 0.0)
        pool.tick(0.5)
        assert session.outcome is SHED

    def test_a_full_queue_sheds_before_it_refuses(self) -> None:
        pool = busy_pool(shed="codel", queue_size=2)
        old = [Session(), Session()]
        for session in old:
            pool.enqueue(session, 0.0)
        assert pool.enqueue(Session(), 0.4) is QUEUE_FULL
        assert pool.enqueue(Session(), 0.6) is None
        assert [session.outcome for session in old] == [SHED, SHED]

    def test_off_by_default(self) -> None:
        pool, log = self.crowd("none")
        pool.tick(20.0)
        pool.give_back(pool.backends["a"], 20.0)
        assert log == ["0=a"]


class TestReentrancy:
    def test_a_thousand_that_give_back_at_once_do_not_nest(self) -> None:
        pool, log = busy_pool(), Log()

        def back(session: Session) -> None:
            assert session.backend is not None
            pool.give_back(session.backend, 0.0)

        for n in range(1000):
            pool.enqueue(Session(str(n), log=log, then=back), 0.0)
        pool.give_back(pool.backends["a"], 0.0)
        assert log == [f"{n}=a" for n in range(1000)]
        assert pool.active == 0

    def test_a_thousand_that_are_shed_and_come_again_do_not_nest(self) -> None:
        pool, again = busy_pool(shed="codel"), list[Outcome | None]()

        def rejoin(_: Session) -> None:
            again.append(pool.enqueue(Session(), 1.0))

        for _ in range(1000):
            pool.enqueue(Session(then=rejoin), 0.0)
        pool.tick(1.0)
        assert again == [None] * 1000
        assert pool.queued == 1000

    def test_one_that_takes_again_does_not_jump_the_queue(self) -> None:
        pool, log = busy_pool(), Log()
        taken = []

        def jump(session: Session) -> None:
            assert session.backend is not None
            pool.give_back(session.backend, 0.0)
            taken.append(pool.take(0.0))
            assert pool.refusal() is None
            pool.enqueue(Session("again", log=log), 0.0)

        pool.enqueue(Session("1", log=log, then=jump), 0.0)
        pool.enqueue(Session("2", log=log), 0.0)
        pool.give_back(pool.backends["a"], 0.0)
        pool.give_back(pool.backends["a"], 0.0)
        assert taken == [None]
        assert log == ["1=a", "2=a", "again=a"]

    def test_one_may_let_another_leave(self) -> None:
        pool = make_pool("a b", max_active=1, policy="first")
        go_down(pool, "b")
        take(pool)
        second = Session()
        first = Session(then=lambda _: pool.leave(second))
        pool.enqueue(first, 0.0)
        pool.enqueue(second, 0.0)
        go_down(pool, "a")
        assert first.outcome is NO_BACKEND
        assert second.waits

    def test_one_may_change_a_backend(self) -> None:
        """The first to be told of no backend brings one back: the second is served by it."""
        pool = busy_pool("a b")
        b = pool.backends["b"]
        second = Session()

        def revive(_: Session) -> None:
            pool.set_admin(b, "ready", 0.0)
            pool.give_back(b, 0.0)

        pool.enqueue(Session(then=revive), 0.0)
        pool.enqueue(second, 0.0)
        pool.set_admin(b, "drain", 0.0)
        pool.set_admin(pool.backends["a"], "drain", 0.0)
        assert second.backend is b

    def test_one_that_raises_blocks_nobody_for_long(self) -> None:
        pool, calm = make_pool("a b", max_active=1), Session()
        a, b = take(pool), take(pool)

        def stumble(_: Session) -> None:
            raise RuntimeError("no luck")

        pool.enqueue(Session(then=stumble, tried=[b]), 0.0)
        pool.enqueue(calm, 0.0)
        with pytest.raises(RuntimeError, match="no luck"):
            pool.give_back(a, 0.0)
        pool.give_back(b, 0.0)
        assert calm.backend is b
