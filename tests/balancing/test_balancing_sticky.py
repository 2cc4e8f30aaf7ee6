"""Who is bound to which backend: sealed values, the table of what was learnt, leases on one backend (section 12)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.balancing.learnt import LearntTable
from lbproxy.balancing.load_report import Report
from lbproxy.balancing.pool import Pool
from lbproxy.balancing.sticky import CookieSeal, Seen
from lbproxy.model_http import StickySettings
from tests.balancing.balancing_doubles import (
    Session,
    changed,
    come_up,
    go_down,
    make_pool,
    make_settings,
    picks,
    take,
)

ZEROS = bytes(32)
POOL = make_pool("web1 web2")
WEB1 = b"v1.h-a3tPvjG-haPPnRBd3FAg"
WEB2 = b"v1.4Rhf0GQp7YcIkUuk4Cph_Q"
WALL = 1_700_000_000.0


def make_seal(pool: str = "web", **rest: Any) -> CookieSeal:
    return CookieSeal(pool, StickySettings(**rest), ZEROS)


def read(seal: CookieSeal, value: bytes | None, wall: float = WALL, pool: Pool = POOL) -> Seen:
    return seal.read(value, pool.backends, wall)


class TestSeal:
    def test_the_vectors(self) -> None:
        seal = make_seal()
        assert seal.name == b"lb_4b5e57f6"
        assert seal.issue("web1", WALL, None) == WEB1
        assert seal.issue("web2", WALL, None) == WEB2
        assert read(seal, WEB1) == Seen(POOL.backends["web1"], "V")
        assert read(seal, WEB2) == Seen(POOL.backends["web2"], "V")

    def test_a_name_of_ones_own(self) -> None:
        assert make_seal(name="SERVER").name == b"SERVER"

    def test_pools_do_not_take_each_others_values(self) -> None:
        other = make_seal("api")
        assert other.name != make_seal().name
        assert read(other, WEB1).state == "I"

    def test_none_is_none(self) -> None:
        assert read(make_seal(), None) == Seen(None, "N")

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"v1.",
            b"v1",
            b"web1",
            WEB1[:-1],
            WEB1 + b"=",
            WEB1 + b"==",
            WEB1 + b" ",
            WEB1 + b"\n",
            WEB1.lower(),
            WEB1.replace(b"v1.", b"v2."),
            WEB1.replace(b"v1.", b""),
            # The last of 22 characters has four bits that a decoder ignores.
            WEB1[:-1] + b"h",
            WEB1.replace(b"-", b"+"),
            b'"' + WEB1 + b'"',
            WEB1 + b".1.1",
            WEB1 + b".1.1.",
            WEB1 + b".1.1." + b"A" * 22,
            WEB1 + b".%d.%d." % (WALL, WALL) + WEB1[3:],
            b"v1." + b"\xff" * 22,
            b"x" * 100_000,
        ],
    )
    def test_what_differs_in_anything_is_invalid(self, value: bytes) -> None:
        assert read(make_seal(), value) == Seen(None, "I")

    @settings(max_examples=200)
    @given(st.binary(max_size=90), st.booleans())
    def test_whatever_comes_is_invalid_and_raises_nothing(self, value: bytes, limited: bool) -> None:
        assert read(make_seal(max_idle=60.0 if limited else None), value).state == "I"

    def test_no_value_tells_a_backend(self) -> None:
        one, other = (CookieSeal("web", StickySettings(keys=(key,)), ZEROS) for key in (b"k" * 32, b"l" * 32))
        assert one.issue("web1", WALL, None) != other.issue("web1", WALL, None)
        assert b"k" * 8 not in repr(one).encode()

    def test_the_first_key_signs_and_all_verify(self) -> None:
        old = make_seal(keys=(b"a" * 32,))
        both = make_seal(keys=(b"b" * 32, b"a" * 32))
        new = make_seal(keys=(b"b" * 32,))
        assert read(both, old.issue("web1", WALL, None)) == Seen(POOL.backends["web1"], "V", None, renew=True)
        fresh = both.issue("web1", WALL, None)
        assert read(both, fresh) == Seen(POOL.backends["web1"], "V")
        assert read(new, fresh).state == "V"
        assert read(new, old.issue("web1", WALL, None)).state == "I"

    def test_a_key_that_is_listed_twice_is_one_key(self) -> None:
        seal = make_seal(keys=(b"a" * 32, b"a" * 32))
        assert not read(seal, seal.issue("web1", WALL, None)).renew

    def test_a_reload_changes_who_is_known(self) -> None:
        pool, seal = make_pool("a b"), make_seal()
        values = {name: seal.issue(name, WALL, None) for name in "abc"}
        assert [read(seal, values[name], pool=pool).state for name in "abc"] == ["V", "V", "I"]
        pool.reconfigure(make_settings("b c"), 1.0)
        assert [read(seal, values[name], pool=pool).state for name in "abc"] == ["I", "V", "V"]
        pool.reconfigure(make_settings("a b c"), 2.0)
        assert [read(seal, values[name], pool=pool).state for name in "abc"] == ["V", "V", "V"]
        assert read(seal, values["c"], pool=pool).backend is pool.backends["c"]

    def test_another_address_under_the_same_id_is_meant_by_the_same_value(self) -> None:
        pool, seal = make_pool("a"), make_seal()
        value = seal.issue("a", WALL, None)
        assert read(seal, value, pool=pool).state == "V"
        wanted = changed(pool.settings, "a", address=make_settings("x y").backends[1].address)
        (gone,) = pool.reconfigure(wanted, 1.0)
        assert read(seal, value, pool=pool).backend is pool.backends["a"] is not gone

    def test_of_several_values_the_first_valid_one_counts(self) -> None:
        seal = make_seal()
        assert seal.find([], POOL.backends, WALL) == Seen(None, "N")
        assert seal.find([b"x"], POOL.backends, WALL) == Seen(None, "I")
        assert seal.find([b"x", WEB2, WEB1], POOL.backends, WALL).backend is POOL.backends["web2"]
        assert seal.find([b"x"] * 8 + [WEB1], POOL.backends, WALL).state == "I"

    def test_of_several_that_are_not_valid_the_first_counts(self) -> None:
        pool, seal = make_pool("web1 web2"), make_seal()
        go_down(pool, "web1")
        assert seal.find([WEB1, b"x"], pool.backends, WALL).state == "D"


class TestAge:
    def test_a_limited_value_holds_its_times(self) -> None:
        seal = make_seal(max_idle=60.0)
        value = seal.issue("web1", WALL + 0.9, None)
        assert value.startswith(WEB1 + b".1700000000.1700000000.")
        assert len(value) == len(WEB1) + 2 * 11 + 23
        assert read(seal, value) == Seen(POOL.backends["web1"], "V", WALL)

    def test_the_first_time_is_handed_on(self) -> None:
        seal = make_seal(max_life=100.0)
        seen = read(seal, seal.issue("web1", WALL, None), WALL + 50)
        assert seen.first == WALL
        value = seal.issue("web1", WALL + 50, seen.first)
        assert b".1700000000.1700000050." in value
        assert read(seal, value, WALL + 100).state == "V"
        assert read(seal, value, WALL + 101) == Seen(None, "O")

    def test_idle_too_long(self) -> None:
        seal = make_seal(max_idle=60.0)
        value = seal.issue("web1", WALL, WALL - 1e6)
        assert read(seal, value, WALL + 60).state == "V"
        assert read(seal, value, WALL + 61) == Seen(None, "E")

    def test_both_limits_hold(self) -> None:
        seal = make_seal(max_idle=60.0, max_life=100.0)
        value = seal.issue("web1", WALL + 90, WALL)
        assert [read(seal, value, WALL + age).state for age in (91, 100, 101, 151)] == ["V", "V", "O", "E"]

    def test_use_is_noted_anew_once_it_has_aged(self) -> None:
        seal = make_seal(max_idle=100.0)
        value = seal.issue("web1", WALL, None)
        assert [read(seal, value, WALL + age).renew for age in (0, 9, 10, 50)] == [False, False, True, True]

    def test_life_alone_needs_no_renewal(self) -> None:
        seal = make_seal(max_life=100.0)
        assert not read(seal, seal.issue("web1", WALL, None), WALL + 99).renew

    def test_a_value_without_times_evades_no_limit(self) -> None:
        assert read(make_seal(max_idle=60.0), WEB1) == Seen(None, "I")

    def test_a_value_with_times_stays_good_without_limits(self) -> None:
        value = make_seal(max_idle=60.0).issue("web1", WALL, None)
        assert read(make_seal(), value, WALL + 1e6).state == "V"
        assert read(make_seal(), value[:-4] + b"AAAA", WALL).state == "I"

    def test_a_clock_that_was_set_back_expires_nothing(self) -> None:
        seal = make_seal(max_idle=60.0, max_life=60.0)
        assert read(seal, seal.issue("web1", WALL, None), WALL - 3600).state == "V"

    @settings(max_examples=200)
    @given(st.integers(0, 70), st.binary(min_size=1, max_size=1))
    def test_no_byte_can_be_changed(self, place: int, byte: bytes) -> None:
        seal = make_seal(max_idle=60.0)
        value = seal.issue("web1", WALL, None)
        forged = value[:place] + byte + value[place + 1 :]
        assert read(seal, forged).state == ("V" if forged == value else "I")

    def test_times_of_one_backend_are_not_those_of_another(self) -> None:
        seal = make_seal(max_idle=60.0)
        assert read(seal, WEB2 + seal.issue("web1", WALL, None)[len(WEB1) :]).state == "I"

    def test_the_seal_is_of_the_key_that_made_the_value(self) -> None:
        old = make_seal(keys=(b"a" * 32,), max_idle=60.0)
        both = make_seal(keys=(b"b" * 32, b"a" * 32), max_idle=60.0)
        assert read(both, old.issue("web1", WALL, None)) == Seen(POOL.backends["web1"], "V", WALL, renew=True)
        mixed = old.issue("web1", WALL, None)[: len(WEB1)] + both.issue("web1", WALL, None)[len(WEB1) :]
        assert read(both, mixed).state == "I"


class TestTakeSticky:
    def test_it_is_a_lease_like_any_other(self) -> None:
        pool = make_pool()
        backend = pool.backends["b"]
        assert [pool.take_sticky(backend, 0.0) for _ in range(3)] == [backend] * 3
        assert (backend.active, backend.sessions_total, pool.active) == (3, 3, 3)
        assert set(picks(pool, 6, keep=True).split()) == {"a", "c"}
        pool.give_back(backend, 0.0)
        assert (backend.active, pool.active) == (2, 8)

    @pytest.mark.parametrize("wish", ["drain", "weight", "report drain", "report 0%"])
    def test_a_backend_that_drains_honours_its_sessions_and_gets_no_others(self, wish: str) -> None:
        pool = make_pool("a b")
        backend = pool.backends["a"]
        if wish == "drain":
            pool.set_admin(backend, "drain", 0.0)
        elif wish == "weight":
            pool.set_weight(backend, 0, 0.0)
        elif wish == "report drain":
            pool.reported(backend, Report(state="drain"), 0.0)
        else:
            pool.reported(backend, Report(percent=0), 0.0)
        assert set(picks(pool, 5).split()) == {"b"}
        assert pool.take_sticky(backend, 0.0) is backend
        pool.give_back(backend, 0.0)
        assert pool.active == 0

    def test_a_draining_backend_keeps_its_limit(self) -> None:
        pool = make_pool("a b", max_active=1)
        backend = pool.backends["a"]
        pool.set_admin(backend, "drain", 0.0)
        assert pool.take_sticky(backend, 0.0) is backend
        assert pool.take_sticky(backend, 0.0) is None
        pool.give_back(backend, 0.0)
        assert pool.take_sticky(backend, 0.0) is backend

    @pytest.mark.parametrize("trouble", ["maint", "down", "ejected", "unresolved", "report maint", "report down"])
    def test_others_do_not_and_the_value_says_so(self, trouble: str) -> None:
        pool = make_pool("web1 web2")
        backend = pool.backends["web1"]
        if trouble == "maint":
            pool.set_admin(backend, "maint", 0.0)
        elif trouble == "down":
            go_down(pool, "web1")
        elif trouble == "ejected":
            for _ in range(5):
                pool.failed(backend, 0.0)
            assert backend.state == "ejected"
        elif trouble == "unresolved":
            pool.set_resolved(backend, False, 0.0)
        else:
            pool.reported(backend, Report(down=True) if "down" in trouble else Report(state="maint"), 0.0)
        assert pool.take_sticky(backend, 0.0) is None
        assert make_seal().read(WEB1, pool.backends, WALL) == Seen(None, "D")
        assert pool.active == 0

    def test_draining_does_not_hide_that_it_is_down(self) -> None:
        pool = make_pool("a b")
        pool.set_admin(pool.backends["a"], "drain", 0.0)
        go_down(pool, "a")
        assert pool.take_sticky(pool.backends["a"], 0.0) is None
        come_up(pool, "a")
        assert pool.take_sticky(pool.backends["a"], 0.0) is not None

    def test_on_probation_its_sessions_are_probes(self) -> None:
        pool = make_pool("a b")
        backend = pool.backends["a"]
        for _ in range(5):
            pool.failed(backend, 0.0)
        pool.tick(31.0)
        assert [pool.take_sticky(backend, 31.0) for _ in range(4)] == [backend, backend, backend, None]
        assert backend.breaker.probes == 3

    def test_in_panic_health_is_ignored_here_too(self) -> None:
        pool = make_pool("web1 web2 c d", panic_threshold=60)
        for name in ("web1", "web2", "c"):
            go_down(pool, name)
        assert pool.panic
        assert pool.take_sticky(pool.backends["web1"], 0.0) is not None
        assert make_seal().read(WEB1, pool.backends, WALL).state == "V"
        pool.set_admin(pool.backends["web1"], "maint", 0.0)
        assert pool.panic
        assert pool.take_sticky(pool.backends["web1"], 0.0) is None

    def test_a_full_backend_a_tried_one_and_one_that_left_give_nothing(self) -> None:
        pool = make_pool("a b", max_active=1)
        backend = pool.backends["a"]
        assert pool.take_sticky(backend, 0.0, [backend]) is None
        assert pool.take_sticky(backend, 0.0, [pool.backends["b"]]) is backend
        assert pool.take_sticky(backend, 0.0) is None
        pool.reconfigure(make_settings("b"), 1.0)
        pool.give_back(backend, 1.0)
        assert pool.take_sticky(backend, 1.0) is None
        assert pool.active == 0

    def test_a_full_one_is_not_chosen_for_others(self) -> None:
        pool = make_pool("a b", max_active=1)
        pool.take_sticky(pool.backends["a"], 0.0)
        assert take(pool).id == "b"
        assert pool.take(0.0) is None

    def test_it_does_not_slip_in_before_those_who_wait(self) -> None:
        pool = make_pool("a", max_active=1)
        lease = take(pool)
        taken = []

        def barge_in(session: Session) -> None:
            # From within the call that hands the slots out, one more of which is promised to the second.
            pool.give_back(lease, 0.0)
            taken.append(pool.take_sticky(lease, 0.0))

        first, second = Session("1", then=barge_in), Session("2")
        for session in (first, second):
            assert pool.enqueue(session, 0.0) is None
        pool.give_back(lease, 0.0)
        assert taken == [None]
        assert second.backend is lease


class TestLearnt:
    def test_what_was_learnt_is_known(self) -> None:
        table = LearntTable(10, 600.0)
        assert table.get(b"k", 0.0) is None
        table.learn(b"k", "a", 0.0)
        assert table.get(b"k", 1.0) == "a"
        table.learn(b"k", "b", 2.0)
        assert (table.get(b"k", 3.0), len(table)) == ("b", 1)

    def test_it_is_forgotten_when_it_was_not_used(self) -> None:
        table = LearntTable(10, 600.0)
        table.learn(b"k", "a", 0.0)
        assert table.get(b"k", 600.0) == "a"
        assert table.get(b"k", 1200.0) == "a"
        assert table.get(b"k", 1800.1) is None
        assert len(table) == 0

    def test_the_one_not_used_for_longest_makes_room(self) -> None:
        table = LearntTable(2, 600.0)
        table.learn(b"1", "a", 0.0)
        table.learn(b"2", "b", 1.0)
        assert table.get(b"1", 2.0) == "a"
        table.learn(b"3", "c", 3.0)
        assert [table.get(key, 4.0) for key in (b"1", b"2", b"3")] == ["a", None, "c"]

    def test_what_is_idle_goes_without_being_asked_for(self) -> None:
        table = LearntTable(100, 10.0)
        for number in range(50):
            table.learn(b"%d" % number, "a", 0.0)
        for number in range(50):
            table.learn(b"new %d" % number, "b", 20.0)
        assert len(table) == 50

    def test_a_smaller_table_keeps_the_newest(self) -> None:
        table = LearntTable(10, 600.0)
        for number in range(10):
            table.learn(b"%d" % number, "a", float(number))
        table.configure(2, 600.0)
        assert [number for number in range(10) if table.get(b"%d" % number, 10.0)] == [8, 9]

    def test_a_table_of_size_nought_learns_nothing(self) -> None:
        table = LearntTable(0, 600.0)
        table.learn(b"k", "a", 0.0)
        assert (table.get(b"k", 0.0), len(table)) == (None, 0)

    def test_long_keys_differ_and_take_little_room(self) -> None:
        table = LearntTable(10, 600.0)
        long, longer = b"x" * 5000, b"x" * 5001
        table.learn(long, "a", 0.0)
        table.learn(longer, "b", 0.0)
        assert (table.get(long, 1.0), table.get(longer, 1.0)) == ("a", "b")
        assert max(len(key) for key in table._entries) < 64

    def test_it_never_exceeds_its_size_and_agrees_with_a_simple_model(self) -> None:
        chance = random.Random(3)
        table, model, now = LearntTable(20, 50.0), dict[bytes, tuple[str, float]](), 0.0
        for _ in range(3000):
            now += chance.random() * 4
            key = b"%d" % chance.randrange(60)
            known = model.get(key)
            expected = known[0] if known and now - known[1] <= 50.0 else None
            if chance.random() < 0.5:
                assert table.get(key, now) == expected
                if expected:
                    model[key] = (expected, now)
            else:
                model[key] = (chance.choice("abc"), now)
                table.learn(key, model[key][0], now)
            model = dict(sorted(model.items(), key=lambda item: item[1][1])[-20:])
            assert len(table) <= 20
