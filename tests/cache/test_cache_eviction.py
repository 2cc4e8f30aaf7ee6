"""S3-FIFO by bytes: the queues, the ghosts, the bound on work, and what a scan leaves alone."""

from __future__ import annotations

import random
from typing import NoReturn

from lbproxy.cache.eviction import IN_MAIN, VISITS, Eviction, Ghosts, Queue
from lbproxy.cache.values import Stored
from tests.cache.matching_heads import stored

SIZE = 1000


class Shelf:
    """Whatever an Eviction needs to stand for a store: who is there, by key."""

    def __init__(self, limit: int) -> None:
        self.there: dict[bytes, Stored] = {}
        self.looked = 0
        self.eviction = Eviction(limit, self.live)

    def live(self, key: bytes) -> Stored | None:
        self.looked += 1
        found = self.there.get(key)
        return found if found is not None and found.key is key else None

    def add(self, number: int, size: int = SIZE) -> Stored:
        one = stored(b"key %06d" % number)
        one.size = size
        assert self.eviction.evict(size, self.gone)
        self.there[one.key] = one
        self.eviction.add(one)
        return one

    def gone(self, one: Stored) -> None:
        del self.there[one.key]

    def drop(self, one: Stored) -> None:
        del self.there[one.key]
        self.eviction.drop(one)

    def has(self, number: int) -> bool:
        return b"key %06d" % number in self.there

    def ask(self, number: int) -> bool:
        """As a cache does: a visit if it is there, else it is fetched and put."""
        one = self.there.get(b"key %06d" % number)
        if one is None:
            self.add(number)
            return False
        if one.visits & VISITS != VISITS:
            one.visits += 1
        return True


def refuse(found: object) -> NoReturn:
    raise AssertionError(f"nobody was to be asked about {found!r}")


def places(eviction: Eviction) -> int:
    return len(eviction.small) + len(eviction.main)


def test_what_is_asked_for_once_leaves_in_the_order_in_which_it_came() -> None:
    shelf = Shelf(10 * SIZE)
    for number in range(15):
        shelf.add(number)
    assert [shelf.has(number) for number in range(15)] == [False] * 5 + [True] * 10


def test_two_visits_in_the_small_queue_lead_to_the_main_one() -> None:
    shelf = Shelf(10 * SIZE)
    for number in range(10):
        shelf.add(number)
    for number in (0, 0, 1):
        shelf.ask(number)
    shelf.add(10)
    shelf.add(11)
    assert shelf.has(0)
    assert shelf.there[b"key 000000"].visits == IN_MAIN
    assert not shelf.has(1)


def test_what_comes_back_soon_is_in_the_main_queue_at_once() -> None:
    shelf = Shelf(10 * SIZE)
    for number in range(11):
        shelf.add(number)
    assert shelf.add(0).visits == IN_MAIN
    assert shelf.eviction.main.count == 1


def test_what_comes_back_late_is_new() -> None:
    shelf = Shelf(10 * SIZE)
    for number in range(40):
        shelf.add(number)
    assert shelf.add(0).visits == 0


def test_each_visit_buys_one_turn_in_the_main_queue() -> None:
    shelf = Shelf(4 * SIZE)
    for number in range(4):
        shelf.add(number).visits = 2
    assert shelf.eviction.evict(SIZE, shelf.gone)  # all move, and the first of them goes
    assert (shelf.eviction.small.count, shelf.eviction.main.count) == (0, 3)
    shelf.there[b"key 000001"].visits |= 2
    shelf.there[b"key 000003"].visits |= 1
    gone: list[bytes] = []

    def note(one: Stored) -> None:
        gone.append(one.key[-1:])
        shelf.gone(one)

    assert shelf.eviction.evict(4 * SIZE, note)
    assert gone == [b"2", b"3", b"1"]


def test_a_scan_of_one_hit_wonders_does_not_flush_the_hot_set() -> None:
    shelf = Shelf(1000 * SIZE)
    hot = range(500)
    for _ in range(4):
        for number in hot:
            shelf.ask(number)
    for number in range(10_000, 60_000):
        shelf.ask(number)
    # One in 128 may be lost where a whole queue of them moves in one call: its work is bounded.
    assert sum(map(shelf.has, hot)) >= 496


def test_popular_things_are_hit_more_often_than_by_the_least_recently_used() -> None:
    chance = random.Random(11)
    weights = [1 / (rank + 1) for rank in range(5000)]
    asked = chance.choices(range(5000), weights=weights, k=60_000)
    shelf = Shelf(250 * SIZE)
    recent: dict[int, None] = {}
    hits = recent_hits = 0
    for number in asked:
        hits += shelf.ask(number)
        if number in recent:
            recent_hits += 1
            del recent[number]
        elif len(recent) == 250:
            del recent[next(iter(recent))]
        recent[number] = None
    assert hits > recent_hits * 1.05


def test_the_sums_are_those_of_who_is_there() -> None:
    shelf = Shelf(50 * SIZE)
    chance = random.Random(3)
    for _ in range(3000):
        number = chance.randrange(120)
        if chance.random() < 0.2 and shelf.has(number):
            shelf.drop(shelf.there[b"key %06d" % number])
        elif not shelf.has(number):
            shelf.add(number, chance.randrange(1, 3 * SIZE))
        else:
            shelf.ask(number)
        for queue, place in ((shelf.eviction.small, 0), (shelf.eviction.main, IN_MAIN)):
            members = [one for one in shelf.there.values() if one.visits & IN_MAIN == place]
            assert queue.count == len(members)
            assert queue.bytes == sum(one.size for one in members)
        assert shelf.eviction.used <= 50 * SIZE


def test_dead_places_stay_fewer_than_live_ones() -> None:
    shelf = Shelf(100_000 * SIZE)
    for number in range(1000):
        shelf.add(number)
    for round_ in range(20_000):
        shelf.drop(shelf.add(10_000 + round_))
        assert places(shelf.eviction) <= 2 * len(shelf.there) + 2


def test_a_key_that_comes_and_goes_leaves_no_trail() -> None:
    shelf = Shelf(100 * SIZE)
    for _ in range(1000):
        shelf.drop(shelf.add(1))
        assert places(shelf.eviction) <= 2


def test_sweeping_keeps_the_order() -> None:
    shelf = Shelf(10_000 * SIZE)
    there = [shelf.add(number) for number in range(100)]
    for one in there[::2]:
        shelf.drop(one)
    while len(shelf.eviction.small) > shelf.eviction.small.count:
        shelf.eviction.small.sweep(shelf.live)
    left = [shelf.eviction.small.pop(shelf.live) for _ in range(50)]
    assert left == there[1::2]


def test_one_call_looks_at_a_bounded_number_of_places_when_all_deserve_mercy() -> None:
    shelf = Shelf(20_000 * SIZE)
    for number in range(20_000):
        shelf.add(number).visits = VISITS
    for one in shelf.there.values():
        shelf.eviction.small.forget(one)
        one.visits = IN_MAIN | VISITS
        shelf.eviction.main.push(one)
    shelf.looked = 0
    shelf.add(50_000)
    assert shelf.looked < 300
    assert shelf.eviction.used <= 20_000 * SIZE


def test_a_limit_that_is_lowered_is_reached_in_bounded_steps() -> None:
    shelf = Shelf(20_000 * SIZE)
    for number in range(20_000):
        shelf.add(number)
    shelf.eviction.limit = 1000 * SIZE
    calls = 1
    while not shelf.eviction.evict(0, shelf.gone):
        calls += 1
    assert shelf.eviction.used == 1000 * SIZE
    assert 19_000 // 256 <= calls <= 19_000 // 128


def test_evicting_from_nothing_is_no_work() -> None:
    assert Shelf(10).eviction.evict(10, refuse)


def test_a_ghost_is_told_once() -> None:
    ghosts = Ghosts(100)
    ghosts.add(7 << 30)
    assert ghosts.take(7 << 30, 1)
    assert not ghosts.take(7 << 30, 1)


def test_only_the_newest_ghosts_count() -> None:
    ghosts = Ghosts(100)
    for number in range(10):
        ghosts.add((number << 30) + number)
    assert not ghosts.take(6 << 30 | 6, 3)
    assert ghosts.take(7 << 30 | 7, 3)
    assert not ghosts.take(3, 0)


def test_ghosts_that_nobody_added_are_not_there() -> None:
    ghosts = Ghosts(5000)
    ghosts.add(1 << 30)
    assert not ghosts.take(2 << 30, 100)
    assert not ghosts.take((1 << 30) + 3000, 100)


def test_a_newer_ghost_takes_the_place_of_an_older_one() -> None:
    ghosts = Ghosts(100)
    one, other = 1 << 40, (1 << 40) + (ghosts.slots << 24)
    ghosts.add(one)
    ghosts.add(other)
    assert not ghosts.take(one, 100)
    assert ghosts.take(other, 100)


def test_a_queue_that_is_empty_has_no_places() -> None:
    queue = Queue()
    queue.sweep(refuse)
    assert len(queue) == queue.count == queue.bytes == 0
