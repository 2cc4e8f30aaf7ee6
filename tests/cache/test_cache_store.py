"""The store in memory: what is found, what it counts for, and that it does what a naive store does."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lbproxy.cache.body import Body
from lbproxy.cache.eviction import IN_MAIN, VISITS, Ghosts
from lbproxy.cache.marks import Marks
from lbproxy.cache.store import CODED, PIECES, TAG, VARIANT, MemoryStore, Variants
from lbproxy.cache.values import OVERHEAD, Stored
from tests.cache.matching_heads import request
from tests.cache.matching_heads import stored as plain

PLENTY = 1 << 20
LANGUAGE = (b"accept-language",)


def stored(key: bytes = b"http://a.example/", variant: bytes = b"", body: bytes | Body = b"") -> Stored:
    one = plain(bytes(memoryview(key)))
    one.variant, one.body = variant, body
    return one


def everyone(store: MemoryStore, count: int = 10) -> list[Stored]:
    met: list[Stored] = []
    cursor: int | None = 0
    while cursor is not None:
        some, cursor = store.walk(cursor, count)
        met += some
    return met


def test_what_is_put_is_found_under_an_equal_key() -> None:
    store = MemoryStore(PLENTY)
    one = stored(b"one")
    assert store.put(one, ())
    assert store.get(b"o" + b"ne") is one
    assert store.find(b"one", request(), b"gzip") is one
    assert store.get(b"two") is None
    assert store.find(b"two", request(), b"gzip") is None


def test_visits_count_to_three_by_finding_and_by_touching() -> None:
    store = MemoryStore(PLENTY)
    one = stored()
    store.put(one, ())
    seen = []
    for step in range(5):
        if step % 2:
            store.touch(one)
        else:
            store.find(one.key, request(), b"")
        seen.append(one.visits)
    assert seen == [1, 2, 3, 3, 3]


def test_variants_are_told_by_the_fields_that_vary_names() -> None:
    store = MemoryStore(PLENTY)
    english, german = stored(variant=b"en"), stored(variant=b"de")
    assert store.put(english, LANGUAGE)
    assert store.put(german, LANGUAGE)
    found = store.get(english.key)
    assert isinstance(found, Variants)
    assert found.names == LANGUAGE
    assert store.find(english.key, request(b"/", b"Accept-Language: de"), b"") is german
    assert german.visits == 1
    assert english.visits == 0
    assert store.find(english.key, request(b"/", b"Accept-Language: fr"), b"") is None


@pytest.mark.parametrize("names", [(), (b"accept-encoding",), (b"accept-encoding", b"accept-language")])
def test_when_vary_names_other_fields_than_before_the_newest_tells(names: tuple[bytes, ...]) -> None:
    store = MemoryStore(PLENTY)
    old = [stored(variant=b"en"), stored(variant=b"de")]
    for one in old:
        store.put(one, LANGUAGE)
    new = stored(variant=b"gzip" if names else b"")
    assert store.put(new, names)
    assert everyone(store) == [new]
    assert store.objects == 1
    assert store.used == new.size
    assert [one.size for one in old] == [0, 0]


def test_a_variant_takes_the_place_of_an_answer_without_vary() -> None:
    store = MemoryStore(PLENTY)
    store.put(stored(), ())
    new = stored(variant=b"en")
    assert store.put(new, LANGUAGE)
    assert everyone(store) == [new]
    assert store.used == new.size


def test_of_too_many_variants_the_least_asked_for_goes_and_the_oldest_of_these() -> None:
    store = MemoryStore(PLENTY, max_variants=3)
    for variant in (b"a", b"b", b"c"):
        store.put(stored(variant=variant), LANGUAGE)
    store.find(stored().key, request(b"/", b"Accept-Language: a"), b"")
    store.put(stored(variant=b"d"), LANGUAGE)
    assert [one.variant for one in everyone(store)] == [b"a", b"c", b"d"]
    store.put(stored(variant=b"c"), LANGUAGE)
    assert [one.variant for one in everyone(store)] == [b"a", b"c", b"d"]
    assert store.evicted_total == 1


def test_one_variant_at_most_is_one() -> None:
    store = MemoryStore(PLENTY, max_variants=1)
    for variant in (b"a", b"b"):
        assert store.put(stored(variant=variant), LANGUAGE)
    assert [one.variant for one in everyone(store)] == [b"b"]
    assert store.objects == 1


def test_the_same_answer_put_again_is_counted_again() -> None:
    store = MemoryStore(PLENTY)
    one = stored()
    store.put(one, ())
    one.body = b"longer"
    assert store.put(one, ())
    assert (store.objects, store.used) == (1, one.size)
    assert one.size == OVERHEAD + len(one.key) + len(b"OK") + 6


def test_a_newer_answer_inherits_visits_and_the_older_one_has_left() -> None:
    store = MemoryStore(PLENTY)
    old, new = stored(), stored(body=b"new")
    store.put(old, ())
    store.touch(old)
    store.put(new, ())
    assert new.visits == 1
    assert store.get(old.key) is new
    store.remove(old)
    store.resize(old)
    assert store.get(new.key) is new
    assert (store.objects, store.used, old.size) == (1, new.size, 0)


def test_what_it_counts_for_is_all_that_it_holds_in_memory() -> None:
    class InFile:
        length = 1 << 40

    store = MemoryStore(PLENTY)
    one = stored(b"key", body=b"body")
    one.lines, one.tags = b"A: b\r\n", (b"ab", b"c")
    store.put(one, ())
    bare = OVERHEAD + 3 + 2 + 6 + 3 + 2 * TAG
    assert one.size == store.used == bare + 4
    one.body = InFile()  # type: ignore[assignment]  # a file has more methods, which nobody calls here
    store.resize(one)
    assert one.size == store.used == bare
    one.coded = {b"gzip": b"12345", b"br": InFile()}  # type: ignore[dict-item]  # as above
    store.resize(one)
    assert one.size == store.used == bare + CODED + 5
    other = stored(b"yek", b"variant", Body())
    store.put(other, LANGUAGE)
    assert other.size == OVERHEAD + VARIANT + PIECES + 3 + 7 + 2


def test_a_body_is_counted_as_it_grows_and_makes_its_room() -> None:
    store = MemoryStore(20 * (OVERHEAD + 1000))
    for number in range(20):
        store.put(stored(b"key %d" % number, body=bytes(900)), ())
    body = Body()
    one = stored(b"growing", body=body)
    assert store.put(one, ())
    for _ in range(10):
        body.add(bytes(1000))
        store.resize(one)
        assert one.size == OVERHEAD + len(b"growing") + 2 + PIECES + body.length
        assert store.used == sum(each.size for each in everyone(store)) <= store.limit
    assert store.get(b"growing") is one
    assert store.objects < 20


def test_a_body_that_outgrows_the_limit_goes_and_nothing_else_does() -> None:
    store = MemoryStore(4 * OVERHEAD)
    store.put(stored(b"other"), ())
    body = Body()
    one = stored(b"growing", body=body)
    store.put(one, ())
    body.add(bytes(4 * OVERHEAD))
    store.resize(one)
    assert store.get(b"growing") is None
    assert store.get(b"other") is not None
    assert one.size == 0
    assert body.length == 4 * OVERHEAD
    assert store.evicted_total == 1


def test_what_is_larger_than_the_limit_is_refused_and_the_older_answer_goes() -> None:
    store = MemoryStore(4 * OVERHEAD)
    store.put(stored(), ())
    assert not store.put(stored(body=bytes(4 * OVERHEAD)), ())
    assert store.get(stored().key) is None
    assert (store.objects, store.used, store.evicted_total) == (0, 0, 0)


def test_an_empty_store_of_no_size_keeps_nothing() -> None:
    store = MemoryStore(0)
    assert not store.put(stored(), ())
    assert store.trim()


def test_removing_by_key_says_how_many_went() -> None:
    store = MemoryStore(PLENTY)
    for variant in (b"a", b"b", b"c"):
        store.put(stored(variant=variant), LANGUAGE)
    store.put(stored(b"other"), ())
    assert store.remove_key(stored().key) == 3
    assert store.remove_key(stored().key) == 0
    assert store.remove_key(b"other") == 1
    assert (store.objects, store.used) == (0, 0)


def test_a_walk_meets_everyone_who_stays_once_whatever_comes_and_goes() -> None:
    store = MemoryStore(1 << 30)
    staying = [stored(b"stays %d" % number) for number in range(2000)]
    going = [stored(b"goes %d" % number) for number in range(2000)]
    for one in staying + going:
        store.put(one, ())
    met: list[Stored] = []
    cursor: int | None = 0
    number = slices = 0
    while cursor is not None:
        some, cursor = store.walk(cursor, 50)
        met += some
        slices += 1
        for _ in range(20):
            if going:
                store.remove(going.pop())
            store.put(stored(b"comes %d" % number), ())
            number += 1
    names = [one.key for one in met if one.key.startswith(b"stays")]
    assert sorted(names) == sorted(one.key for one in staying)
    assert slices > 40


def test_a_limit_that_is_lowered_holds_when_it_has_been_trimmed() -> None:
    store = MemoryStore(1 << 30)
    for number in range(5000):
        store.put(stored(b"key %04d" % number), ())
    each = store.used // 5000
    store.limit = 100 * each
    assert store.objects >= 4000
    assert not store.put(stored(b"new"), ())
    while not store.trim():
        pass
    assert store.objects == 100
    assert store.evicted_total == 4900
    assert store.put(stored(b"new"), ())


def test_a_change_while_far_too_much_is_there_costs_what_has_changed() -> None:
    store = MemoryStore(1 << 30)
    many = [stored(b"key %04d" % number) for number in range(5000)]
    for one in many:
        store.put(one, ())
    store.limit = 10 * OVERHEAD
    one = many[-1]
    store.resize(one)
    assert store.get(one.key) is None
    assert not store.put(stored(many[-2].key), ())
    assert store.get(many[-2].key) is None
    assert store.used == sum(each.size for each in everyone(store))


def test_marks_hold_until_their_time() -> None:
    store = MemoryStore(PLENTY)
    store.mark(b"key", 10.0)
    assert store.marked(b"key", 9.9)
    assert not store.marked(b"other", 9.9)
    assert not store.marked(b"key", 10.0)
    store.mark(b"key", 20.0)
    store.mark(b"key", 30.0)
    assert store.marked(b"key", 25.0)


def test_marks_are_bounded_and_the_oldest_go() -> None:
    marks = Marks(640)
    for number in range(10_000):
        marks.mark(b"%d" % number, 1e9)
    assert len(marks) <= 640
    assert marks.marked(b"9999", 0.0)
    assert not any(marks.marked(b"%d" % number, 0.0) for number in range(1000))


class Naive:
    """The same store with lists: every queue is searched from its end, every sum is added up. Ghosts are shared."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.small: list[Stored] = []
        self.main: list[Stored] = []
        self.names: dict[bytes, tuple[bytes, ...]] = {}
        self.visits: dict[int, int] = {}
        self.ghosts = Ghosts(limit // 1024 + 1)

    @property
    def there(self) -> list[Stored]:
        return self.small + self.main

    def used(self) -> int:
        return sum(weight(one) for one in self.there)

    def under(self, key: bytes) -> list[Stored]:
        return [one for one in self.there if one.key == key]

    def drop(self, one: Stored) -> None:
        for queue in (self.small, self.main):
            queue[:] = [other for other in queue if other is not one]

    def evict(self, room: int) -> None:
        while self.used() + room > self.limit:
            if not self.main or sum(map(weight, self.small)) > self.limit // 10:
                one = self.small.pop(0)
                if self.visits[id(one)] > 1:
                    self.visits[id(one)] = 0
                    self.main.append(one)
                else:
                    self.ghosts.add(ghost(one))
            else:
                one = self.main.pop(0)
                if self.visits[id(one)]:
                    self.visits[id(one)] -= 1
                    self.main.append(one)

    def put(self, one: Stored, vary: tuple[bytes, ...], most: int) -> bool:
        if self.names.get(one.key) != vary:
            for other in self.under(one.key):
                self.drop(other)
        self.names[one.key] = vary
        same = [other for other in self.under(one.key) if other.variant == one.variant]
        if weight(one) > self.limit:
            for other in same:
                self.drop(other)
            return False
        if same:
            for queue in (self.small, self.main):
                queue[:] = [one if other is same[0] else other for other in queue]
            self.visits[id(one)] = self.visits[id(same[0])]
            self.evict(0)
            return one in self.there
        if len(self.under(one.key)) >= most:
            self.drop(min(self.under_in_order(one.key), key=lambda other: self.visits[id(other)]))
        self.evict(weight(one))
        self.visits[id(one)] = 0
        if self.ghosts.take(ghost(one), len(self.there)):
            self.main.append(one)
        else:
            self.small.append(one)
        return True

    def under_in_order(self, key: bytes) -> list[Stored]:
        return sorted(self.under(key), key=lambda one: one.born)


def weight(one: Stored) -> int:
    length = len(one.body) if isinstance(one.body, bytes) else 0
    return OVERHEAD + len(one.key) + len(one.reason) + length + (VARIANT if one.variant else 0) + len(one.variant)


def ghost(one: Stored) -> int:
    return (hash(one.key) ^ hash(one.variant)) % (1 << 64)


LIMIT = 12 * OVERHEAD
KEYS = st.sampled_from([b"key %d" % number for number in range(12)])
BODIES = st.integers(0, 2 * OVERHEAD).map(bytes)
VARY = st.sampled_from([((), b""), ((), b""), ((b"x",), b"1"), ((b"x",), b"2"), ((b"x",), b"3"), ((b"y",), b"1")])


class AgainstTheNaive(RuleBasedStateMachine):
    """Whatever is done, both keep the same answers in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(LIMIT, max_variants=2)
        self.naive = Naive(LIMIT)
        self.number = 0
        self.ever: list[Stored] = []  # alive, so that no two have one id

    @rule(key=KEYS, vary=VARY, body=BODIES)
    def put(self, key: bytes, vary: tuple[tuple[bytes, ...], bytes], body: bytes) -> None:
        one = stored(key, vary[1], body)
        self.number += 1
        before = [other.born for other in self.naive.under(key) if other.variant == vary[1]]
        # A newer answer keeps the place of the older one among the variants.
        same_names = self.naive.names.get(key) == vary[0]
        one.born = before[0] if before and same_names else float(self.number)
        self.ever.append(one)
        assert self.store.put(one, vary[0]) == self.naive.put(one, vary[0], 2)

    @precondition(lambda self: self.naive.there)
    @rule(data=st.data())
    def put_the_same_key_object_again(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.naive.there))
        self.store.remove(old)
        self.naive.drop(old)
        again = plain(old.key)
        again.variant = old.variant
        self.number += 1
        again.born = float(self.number)
        self.ever.append(again)
        vary = self.naive.names[old.key]
        assert self.store.put(again, vary) == self.naive.put(again, vary, 2)

    @precondition(lambda self: self.naive.there)
    @rule(data=st.data(), times=st.integers(1, 4))
    def visit(self, data: st.DataObject, times: int) -> None:
        one = data.draw(st.sampled_from(self.naive.there))
        for _ in range(times):
            self.store.touch(one)
            self.naive.visits[id(one)] = min(3, self.naive.visits[id(one)] + 1)

    @precondition(lambda self: self.naive.there)
    @rule(data=st.data(), body=BODIES)
    def change(self, data: st.DataObject, body: bytes) -> None:
        one = data.draw(st.sampled_from(self.naive.there))
        one.body = body
        self.store.resize(one)
        if weight(one) > self.naive.limit:
            self.naive.drop(one)
        else:
            self.naive.evict(0)

    @precondition(lambda self: self.ever)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.ever))
        self.store.remove(one)
        self.naive.drop(one)

    @rule(key=KEYS)
    def remove_key(self, key: bytes) -> None:
        assert self.store.remove_key(key) == len(self.naive.under(key))
        for one in self.naive.under(key):
            self.naive.drop(one)

    @rule(limit=st.sampled_from([LIMIT // 3, LIMIT, LIMIT, 2 * LIMIT]))
    def set_limit(self, limit: int) -> None:
        self.store.limit = self.naive.limit = limit
        self.naive.ghosts = Ghosts(limit // 1024 + 1)
        self.naive.evict(0)

    @invariant()
    def both_keep_the_same(self) -> None:
        kept = everyone(self.store)
        assert sorted(map(id, kept)) == sorted(map(id, self.naive.there))
        for queue, place in ((self.naive.small, 0), (self.naive.main, IN_MAIN)):
            for one in queue:
                assert one.visits == self.naive.visits[id(one)] | place
                assert one.size == weight(one)

    @invariant()
    def used_is_the_sum_and_never_above_the_limit(self) -> None:
        assert self.store.used == sum(one.size for one in everyone(self.store)) == self.naive.used()
        assert self.store.used <= self.store.limit
        assert self.store.objects == len(self.naive.there)

    @invariant()
    def who_has_left_counts_for_nothing(self) -> None:
        there = set(map(id, self.naive.there))
        assert all(one.size == 0 for one in self.ever if id(one) not in there)

    @invariant()
    def everyone_is_found_under_the_key(self) -> None:
        for one in self.naive.there:
            found = self.store.get(one.key)
            if isinstance(found, Variants):
                assert found.names == self.naive.names[one.key]
                assert found.by_value[one.variant] is one
            else:
                assert found is one
            assert one.visits & VISITS <= 3


TestAgainstTheNaive = AgainstTheNaive.TestCase
TestAgainstTheNaive.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
