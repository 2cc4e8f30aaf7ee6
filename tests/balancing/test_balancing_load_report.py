"""What a backend says of its own load, and what the pool makes of it (section 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.balancing.load_report import Report, parse_report
from lbproxy.balancing.pool import Pool
from lbproxy.errors import NO_BACKEND
from lbproxy.model import SlowStartSettings
from lbproxy.model_http import LoadReport
from tests.balancing.balancing_doubles import (
    Session,
    come_up,
    go_down,
    make_pool,
    make_settings,
    picks,
    take,
    watched_pool,
)

NO_SLOW_START = SlowStartSettings(window=0.0)
ASKED = LoadReport(port=9000)


def report(pool: Pool, backend_id: str, line: bytes, now: float = 0.0) -> None:
    pool.reported(pool.backends[backend_id], parse_report(line), now)


class TestParsing:
    @pytest.mark.parametrize(
        ("line", "found"),
        [
            (b"", Report()),
            (b"\n", Report()),
            (b"75%\n", Report(percent=75)),
            (b"0%", Report(percent=0)),
            (b"200%", Report(percent=200)),
            (b"maxconn:30\r\n", Report(max_active=30)),
            (b"ready", Report(state="ready")),
            (b"drain", Report(state="drain")),
            (b"maint", Report(state="maint")),
            (b"up", Report(down=False)),
            (b"down", Report(down=True)),
            (b"fail", Report(down=True)),
            (b"failed", Report(down=True)),
            (b"stopped", Report(down=True)),
            (b"UP Ready", Report(down=False, state="ready")),
            (b"up ready 50% maxconn:7", Report(50, 7, "ready", down=False)),
            (b"up,ready\t50%, maxconn:7 ,\t", Report(50, 7, "ready", down=False)),
            (b"down # disk full\n", Report(down=True, detail="disk full")),
            (b"fail#a#b", Report(down=True, detail="a#b")),
            (b"# up", Report(detail="up")),
            (b"down#\x1b[31m\xff", Report(down=True, detail="?[31m?")),
            (b"50% 60%", Report(percent=60)),
            (b"drain ready", Report(state="ready")),
            (b"75%\ndown", Report(percent=75)),
            (b"75%\rdown", Report(percent=75)),
            (b"x" * 256, Report(unknown=("x" * 64,))),
        ],
    )
    def test_the_words(self, line: bytes, found: Report) -> None:
        assert parse_report(line) == found

    @pytest.mark.parametrize(
        "word",
        [
            b"75",
            b"%",
            b"+5%",
            b"-5%",
            b"1_0%",
            b"7.5%",
            b"1000%",
            b"maxconn:",
            b"maxconn:0",
            b"maxconn:-1",
            b"maxconn:+1",
            b"maxconn:1_0",
            b"maxconn:1234567890",
            b"maxconn",
            b"upp",
            b"\x0b",
            b"\xb2%",
        ],
    )
    def test_what_means_nothing_is_left_out_and_told(self, word: bytes) -> None:
        found = parse_report(b"up " + word + b" 20%")
        assert len(found.unknown) == 1
        assert replace(found, unknown=()) == Report(percent=20, down=False)

    def test_a_line_that_is_too_long_says_nothing(self) -> None:
        assert parse_report(b"up" + b" " * 254 + b"\r\n").down is False
        assert parse_report(b"up" + b" " * 255 + b"\r\n").down is None
        assert parse_report(b"down " * 100_000).down is None
        assert parse_report(b"up " * 86).unknown != ()

    @settings(max_examples=200)
    @given(
        st.one_of(
            st.binary(max_size=300),
            st.lists(st.sampled_from([b"up", b"7%", b" ", b",", b"#", b"maxconn:", b"3", b"\n", b"drain"])).map(
                b"".join
            ),
        )
    )
    def test_anything_can_be_read_and_what_is_kept_can_be_logged(self, line: bytes) -> None:
        found = parse_report(line)
        for text in (found.detail, *found.unknown):
            assert len(text) <= 64
            assert text.isascii()
            assert text == "" or text.isprintable()

    @given(st.lists(st.sampled_from([b"up", b"drain", b"7%", b"maxconn:3"]), max_size=5))
    def test_what_follows_the_line_changes_nothing(self, words: list[bytes]) -> None:
        line = b" ".join(words)
        assert parse_report(line) == parse_report(line + b"\r\n") == parse_report(line + b"\ndown 1%")


class TestWeight:
    def test_the_percentage_is_of_the_configured_weight(self) -> None:
        pool = make_pool("a b", [2, 1], policy="round-robin")
        report(pool, "a", b"50%")
        assert pool.backends["a"].effective == 1000
        assert sorted(picks(pool, 10).split()) == ["a"] * 5 + ["b"] * 5
        report(pool, "a", b"100%")
        assert pool.backends["a"].effective == 2000

    def test_the_operators_weight_is_the_base(self) -> None:
        pool = make_pool("a b")
        report(pool, "a", b"50%")
        pool.set_weight(pool.backends["a"], 4, 0.0)
        assert (pool.backends["a"].weight, pool.backends["a"].effective) == (4, 2000)

    def test_slow_start_takes_its_share_of_what_is_reported(self) -> None:
        pool = make_pool("a b")
        report(pool, "a", b"50%")
        go_down(pool, "a")
        come_up(pool, "a", 10.0)
        pool.tick(15.0)
        assert pool.backends["a"].effective == 250

    def test_nought_lets_it_run_empty(self) -> None:
        pool = make_pool("a b")
        report(pool, "a", b"0%")
        assert set(picks(pool, 5).split()) == {"b"}
        report(pool, "b", b"0%")
        assert (pool.take(0.0), pool.refusal()) == (None, NO_BACKEND)
        assert pool.backends["a"].effective == 0
        report(pool, "a", b"1%")
        assert take(pool).id == "a"

    def test_no_report_makes_a_backend_heavier_than_the_heaviest(self) -> None:
        pool = make_pool("a b", [200, 1])
        report(pool, "a", b"999%")
        assert pool.backends["a"].effective == 256_000

    @pytest.mark.parametrize("policy", ["ketama", "maglev", "rendezvous"])
    def test_hash_policies_let_some_keys_pass_by_and_move_no_others(self, policy: str) -> None:
        pool = make_pool(policy=policy)

        def places() -> dict[bytes, str]:
            found = {}
            for key in (b"%d" % number for number in range(400)):
                lease = take(pool, 0.0, key)
                found[key] = lease.id
                pool.give_back(lease, 0.0)
            return found

        before = places()
        report(pool, "a", b"50%")
        after = places()
        moved = [key for key in before if before[key] != after[key]]
        assert {before[key] for key in moved} == {"a"}
        mine = [key for key in before if before[key] == "a"]
        assert 0.35 < len(moved) / len(mine) < 0.65
        report(pool, "a", b"100%")
        assert places() == before


class TestLimit:
    def test_the_limit_is_the_reported_one(self) -> None:
        pool = make_pool("a", max_active=10)
        report(pool, "a", b"maxconn:2")
        assert picks(pool, 2, keep=True) == "a a"
        assert pool.take(0.0) is None
        report(pool, "a", b"maxconn:3")
        assert take(pool).active == 3

    def test_it_counts_where_none_was_configured(self) -> None:
        pool = make_pool("a", max_active=None)
        report(pool, "a", b"maxconn:1")
        take(pool)
        assert pool.take(0.0) is None

    def test_a_higher_one_serves_those_who_wait(self) -> None:
        pool = make_pool("a", max_active=1)
        take(pool)
        session = Session()
        assert pool.enqueue(session, 0.0) is None
        report(pool, "a", b"maxconn:2")
        assert session.backend is pool.backends["a"]


class TestState:
    def test_what_it_says_of_itself_becomes_its_state(self) -> None:
        pool, news = watched_pool("a b")
        for word in (b"drain", b"maint", b"ready", b"down", b"up"):
            report(pool, "a", word)
        assert news.words() == [
            "a unknown>drain report",
            "a drain>maint report",
            "a maint>unknown report",
            "a unknown>down report",
            "a down>unknown report",
        ]

    def test_the_news_says_what_was_said(self) -> None:
        pool, news = watched_pool("a b")
        report(pool, "a", b"down 75% maxconn:30 # disk full")
        (change,) = news.changes
        assert change.evidence == (
            "its load report says: down, ready, 75 % of its weight, at most 30 sessions (disk full)"
        )

    def test_the_same_again_is_no_news_and_costs_no_work(self) -> None:
        pool, news = watched_pool("a b")
        report(pool, "a", b"down 50%")
        assert len(news.words()) == 1
        before = pool._roster.open
        report(pool, "a", b"down 50%", 1.0)
        report(pool, "a", b"", 2.0)
        assert pool._roster.open is before
        assert news.words() == []

    @pytest.mark.parametrize("word", [b"drain", b"maint", b"down"])
    def test_it_gets_no_sessions_then(self, word: bytes) -> None:
        pool = make_pool("a b")
        report(pool, "a", word)
        assert set(picks(pool, 5).split()) == {"b"}

    def test_the_operators_maintenance_is_not_lifted(self) -> None:
        pool = make_pool("a b")
        pool.set_admin(pool.backends["a"], "maint", 0.0)
        report(pool, "a", b"ready up")
        assert pool.backends["a"].state == "maint"
        report(pool, "a", b"drain")
        assert pool.backends["a"].state == "maint"

    def test_nor_does_the_operators_ready_lift_its_own(self) -> None:
        pool = make_pool("a b")
        report(pool, "a", b"maint")
        pool.set_admin(pool.backends["a"], "drain", 0.0)
        assert pool.backends["a"].state == "maint"
        pool.set_admin(pool.backends["a"], "ready", 0.0)
        assert pool.backends["a"].state == "maint"
        assert pool.backends["a"].admin == "ready"
        report(pool, "a", b"ready")
        assert pool.backends["a"].usable

    def test_down_holds_against_checks_that_pass(self) -> None:
        pool, news = watched_pool("a b")
        come_up(pool, "a")
        report(pool, "a", b"down")
        come_up(pool, "a", 1.0)
        assert not pool.backends["a"].usable
        report(pool, "a", b"up", 2.0)
        assert pool.backends["a"].usable
        assert news.words() == ["a unknown>up L4OK", "a up>down report", "a down>up report"]

    def test_up_does_not_hold_against_checks_that_fail(self) -> None:
        pool = make_pool("a b")
        go_down(pool, "a")
        report(pool, "a", b"down")
        report(pool, "a", b"up")
        assert pool.backends["a"].state == "down"

    def test_checks_go_on_while_it_says_maint(self) -> None:
        pool = make_pool("a b")
        report(pool, "a", b"maint")
        go_down(pool, "a")
        report(pool, "a", b"ready")
        assert pool.backends["a"].state == "down"

    @pytest.mark.parametrize("word", [b"down", b"maint"])
    def test_its_return_begins_slow_start(self, word: bytes) -> None:
        pool = make_pool("a b")
        report(pool, "a", word)
        report(pool, "a", b"up ready", 5.0)
        assert pool.backends["a"].effective == 100
        pool.tick(15.0)
        assert pool.backends["a"].effective == 1000

    def test_those_who_wait_are_told_when_the_last_goes_and_served_when_one_comes(self) -> None:
        pool = make_pool("a", max_active=1)
        lease = take(pool)
        first, second = Session(), Session()
        assert pool.enqueue(first, 0.0) is None
        report(pool, "a", b"down")
        assert first.outcome is NO_BACKEND
        assert pool.enqueue(second, 0.0) is NO_BACKEND
        report(pool, "a", b"up")
        pool.give_back(lease, 0.0)
        assert take(pool).id == "a"

    def test_in_panic_down_is_ignored_and_drain_is_not(self) -> None:
        pool = make_pool("a b", panic_threshold=60, slow_start=NO_SLOW_START)
        report(pool, "a", b"down")
        assert pool.panic
        assert set(picks(pool, 6).split()) == {"a", "b"}
        report(pool, "a", b"drain")
        assert set(picks(pool, 6).split()) == {"b"}


class TestReload:
    def test_what_was_reported_stays(self) -> None:
        pool = make_pool("a b", load_report=ASKED)
        report(pool, "a", b"50% maxconn:3 drain")
        pool.reconfigure(make_settings("a b c", load_report=ASKED), 1.0)
        backend = pool.backends["a"]
        assert (backend.state, backend.effective, backend.limit) == ("drain", 500, 3)

    def test_it_goes_when_nobody_asks_any_more(self) -> None:
        pool, news = watched_pool("a b", load_report=ASKED)
        report(pool, "a", b"50% maxconn:3 maint")
        news.words()
        pool.reconfigure(make_settings("a b", slow_start=NO_SLOW_START), 1.0)
        backend = pool.backends["a"]
        assert (backend.state, backend.effective, backend.limit) == ("unknown", 1000, 1024)
        assert news.words() == ["a maint>unknown operator"]

    def test_late_news_of_one_that_left_changes_nothing(self) -> None:
        pool, news = watched_pool("a b")
        gone = pool.backends["a"]
        pool.reconfigure(make_settings("b"), 1.0)
        pool.reported(gone, Report(down=True), 2.0)
        assert news.words() == []


def test_the_status_tells_it_beside_the_operators_word() -> None:
    pool = make_pool("a b")
    report(pool, "a", b"50% maxconn:3 drain")
    pool.set_admin(pool.backends["a"], "maint", 0.0)
    found = pool.status(1.0)["backends"]
    assert isinstance(found, list)
    assert (found[0]["state"], found[0]["admin"]) == ("maint", "maint")
    assert found[0]["reported"] == {"state": "drain", "down": False, "percent": 50, "max_active": 3}
    assert (found[0]["weight"], found[0]["effective"], found[0]["limit"]) == (1, 0.5, 3)
    assert found[1]["reported"] is None
