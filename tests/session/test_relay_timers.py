"""Every clock of a relay: when it fires, what it is blamed on, and what it does not touch."""

from __future__ import annotations

import math

import pytest

from lbproxy.session.phases import CONNECT, DATA, OVER, QUEUE
from tests.session.session_fakes import Conversation


class TestConnect:
    def test_a_backend_that_does_not_answer_is_given_up_for_another(self) -> None:
        talk = Conversation(timeouts={"connect": 2.0})
        session = talk.accept()
        talk.did()
        talk.passes(1.9)
        assert talk.did() == []
        talk.passes(0.2)
        assert talk.did() == ["a.close", "dial b"]
        talk.passes(2.1)
        assert talk.did() == ["b.close", "dial c"]
        talk.passes(2.1)
        assert talk.did() == ["c.close", "client.close", "left 192.0.2.7", "record connect_timeout"]
        record = talk.records[0]
        assert (record.timer, record.state, record.retries) == ("connect", "sC--", 2)
        assert [round(one.ms, -3) for one in record.tries] == [2000, 2000, 2000]
        assert session.phase == OVER
        talk.check_clean()

    def test_each_try_has_the_whole_time(self) -> None:
        talk = Conversation(timeouts={"connect": 2.0})
        session = talk.accept()
        talk.passes(1.5)
        talk.refuses(session)
        talk.passes(1.5)
        assert session.backend is talk.pool.backends["b"]
        talk.passes(0.7)
        assert session.backend is talk.pool.backends["c"]

    def test_a_try_after_the_queue_has_the_whole_time(self) -> None:
        talk = Conversation("a", max_active=1, timeouts={"connect": 1.0, "queue": 60.0})
        lease = talk.busy("a")
        session = talk.accept()
        talk.passes(30)
        talk.pool.give_back(lease, talk.now)
        talk.passes(0.8)
        assert session.phase == CONNECT
        talk.passes(0.4)
        assert session.phase == OVER

    def test_the_clock_of_the_connect_stops_with_the_connection(self) -> None:
        talk = Conversation(timeouts={"connect": 1.0})
        session = talk.joined()
        talk.passes(5)
        assert session.phase == DATA

    def test_without_limit_a_dial_may_take_for_ever(self) -> None:
        talk = Conversation(timeouts={"connect": math.inf})
        session = talk.accept()
        talk.passes(1000, step=10)
        assert session.phase == CONNECT

    def test_the_record_never_tells_a_negative_time(self) -> None:
        talk = Conversation("a b")
        session = talk.accept()
        talk.passes(0.5)
        session.connected()
        talk.passes(0.5)
        talk.loses(session, talk.side(session))
        talk.passes(0.5)
        talk.refuses(session)
        record = talk.records[0]
        assert record.outcome == "refused"
        assert record.t_connect_ms == -1 or record.t_connect_ms >= 0


class TestQueue:
    def test_each_wait_has_its_own_time(self) -> None:
        talk = Conversation("a b", max_active=1, timeouts={"queue": 2.0})
        mine, other = talk.busy("a"), talk.busy("b")
        session = talk.accept()
        talk.passes(1.5)
        talk.pool.give_back(mine, talk.now)
        talk.refuses(session)
        assert session.phase == QUEUE
        talk.passes(1.5)
        assert session.phase == QUEUE
        talk.pool.give_back(other, talk.now)
        session.connected()
        assert session.queue_seconds == pytest.approx(3.0)


class TestIdle:
    def test_a_silent_relay_ends(self) -> None:
        talk = Conversation(timeouts={"tunnel_idle": 10.0})
        session = talk.joined()
        talk.passes(9.8)
        assert session.phase == DATA
        talk.passes(0.4)
        assert talk.did() == ["client.abort", "a.abort", "left 192.0.2.7", "record idle_timeout"]
        assert talk.records[0].timer == "tunnel_idle"

    @pytest.mark.parametrize(("idle", "connect"), [(1.0, 5.0), (10.0, 60.0), (10.0, math.inf)])
    def test_it_ends_in_time_however_long_a_connect_may_take(self, idle: float, connect: float) -> None:
        talk = Conversation(timeouts={"tunnel_idle": idle, "connect": connect})
        session = talk.joined()
        talk.passes(idle + 0.3)
        assert session.phase == OVER

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_any_byte_either_way_keeps_it(self, who: str) -> None:
        talk = Conversation(timeouts={"tunnel_idle": 10.0})
        session = talk.joined()
        for _ in range(5):
            talk.passes(8)
            (talk.asks if who == "client" else talk.answers)(session)
        assert session.phase == DATA
        talk.passes(10.3)
        assert session.phase == OVER

    def test_bytes_that_a_slow_reader_takes_keep_it(self) -> None:
        talk = Conversation(timeouts={"tunnel_idle": 10.0, "write_stall": 100.0})
        session = talk.joined()
        client = talk.client(session)
        talk.answers(session)
        talk.stalls(session, client)
        for _ in range(5):
            talk.passes(8)
            client.moved = talk.now
        assert session.phase == DATA

    def test_who_should_have_spoken_is_blamed(self) -> None:
        for who, state in (("asks", "sD--"), ("answers", "cD--")):
            talk = Conversation(timeouts={"tunnel_idle": 10.0})
            session = talk.joined()
            talk.passes(1)
            getattr(talk, who)(session)
            talk.passes(11)
            assert talk.records[0].state == state

    def test_without_limit_a_relay_may_be_silent_for_ever(self) -> None:
        talk = Conversation(timeouts={"tunnel_idle": math.inf})
        session = talk.joined()
        talk.passes(100_000, step=1000)
        assert session.phase == DATA

    def test_no_failure_of_the_backend(self) -> None:
        talk = Conversation(timeouts={"tunnel_idle": 10.0})
        talk.joined()
        talk.passes(11)
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_clean()


class TestHalfClosed:
    @pytest.mark.parametrize(("who", "state"), [("client", "sD--"), ("backend", "cD--")])
    def test_the_other_side_has_its_time_to_end_too(self, who: str, state: str) -> None:
        talk = Conversation(timeouts={"half_closed": 6.0})
        session = talk.joined()
        talk.ends(session, talk.client(session) if who == "client" else talk.side(session))
        talk.passes(5.8)
        assert session.phase == DATA
        talk.passes(0.4)
        record = talk.records[0]
        assert (record.outcome, record.timer, record.state) == ("idle_timeout", "half_closed", state)

    def test_each_byte_begins_it_anew(self) -> None:
        talk = Conversation(timeouts={"half_closed": 6.0})
        session = talk.joined()
        talk.ends(session, talk.client(session))
        for _ in range(4):
            talk.passes(5)
            talk.answers(session)
        assert session.phase == DATA
        talk.passes(6.3)
        assert session.phase == OVER

    def test_it_begins_with_the_fin_however_long_the_silence_before(self) -> None:
        talk = Conversation(timeouts={"half_closed": 6.0, "tunnel_idle": 3600.0})
        session = talk.joined()
        talk.passes(100)
        talk.wheel.sooner(session, 1.0)  # the wheel asks now and then, whatever the deadlines are
        talk.ends(session, talk.client(session))
        talk.passes(3)
        assert session.phase == DATA, "a client that sends FIN after a silence waits for its answer"
        talk.answers(session)
        talk.ends(session, talk.side(session))
        assert talk.records[0].outcome == "ok"


class TestWriteStall:
    @pytest.mark.parametrize(("who", "state"), [("client", "cD--"), ("backend", "sD--")])
    def test_a_side_that_takes_nothing_ends_the_session(self, who: str, state: str) -> None:
        talk = Conversation(timeouts={"write_stall": 4.0})
        session = talk.joined()
        talk.passes(10)
        talk.stalls(session, talk.client(session) if who == "client" else talk.side(session))
        talk.passes(3.8)
        assert session.phase == DATA
        talk.passes(0.4)
        assert talk.did() == ["client.abort", "a.abort", "left 192.0.2.7", "record write_stall"]
        record = talk.records[0]
        assert (record.timer, record.state) == ("write_stall", state)

    def test_each_byte_that_is_taken_begins_it_anew(self) -> None:
        talk = Conversation(timeouts={"write_stall": 4.0})
        session = talk.joined()
        client = talk.client(session)
        talk.stalls(session, client)
        for _ in range(5):
            talk.passes(3.5)
            client.moved = talk.now
        assert session.phase == DATA
        talk.passes(4.3)
        assert session.phase == OVER

    def test_a_reader_that_caught_up_is_not_blamed(self) -> None:
        talk = Conversation(timeouts={"write_stall": 4.0})
        session = talk.joined()
        talk.stalls(session, talk.client(session))
        talk.passes(3)
        talk.drains(session, talk.client(session))
        talk.passes(10)
        assert session.phase == DATA

    def test_what_was_not_delivered_does_not_count_as_sent(self) -> None:
        talk = Conversation(timeouts={"write_stall": 4.0})
        session = talk.joined()
        talk.answers(session, 5000)
        talk.stalls(session, talk.client(session), 1200)
        talk.passes(5)
        assert talk.records[0].bytes_out == 3800


class TestTheWheel:
    @pytest.mark.parametrize("phase", ["header", "queue", "connect", "idle", "stall"])
    def test_a_session_that_timed_out_asks_for_nothing_more(self, phase: str) -> None:
        talk = Conversation(
            "a",
            max_active=1,
            timeouts={"queue": 1.0, "connect": 1.0, "tunnel_idle": 1.0, "write_stall": 1.0},
        )
        if phase == "queue":
            talk.busy("a")
        session = talk.accept(header=1.0 if phase == "header" else None)
        if phase in ("idle", "stall"):
            session.connected()
        if phase == "stall":
            talk.stalls(session, talk.client(session))
        talk.now += 5
        talk.wheel.now = talk.now
        assert session.expire(talk.now) is None
        assert session.phase == OVER

    def test_a_question_that_comes_early_changes_nothing(self) -> None:
        talk = Conversation()
        session = talk.joined()
        for _ in range(50):
            delay = session.expire(talk.now)
            assert delay is not None
            assert delay > 0
        assert talk.did() == []
