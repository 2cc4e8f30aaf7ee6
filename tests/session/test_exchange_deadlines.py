"""Every clock of an exchange: when it fires, whom it blames, what the record calls it, and what it does not touch."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lbproxy.errors import BODY_TIMEOUT
from lbproxy.model_http import HttpRouteSettings
from lbproxy.session.phases import ANSWER, CONNECT, DATA, LAST, OVER, QUEUE, TUNNEL
from tests.session.http_fakes import Talk, message

GONE = ["client.close", "left 192.0.2.7"]
CUT = ["client.abort", "left 192.0.2.7"]
# What the wheel of the fakes is late at the most.
TICK = 0.15


def fires_after(talk: Talk, exchange: Any, seconds: float) -> None:
    """It is not over before, and it is after so many seconds."""
    talk.passes(seconds - TICK)
    assert exchange.phase != OVER, "too early"
    talk.passes(2 * TICK)
    assert exchange.phase == OVER, "too late"


class TestQueue:
    def test_whoever_waits_too_long_is_told_503(self) -> None:
        talk = Talk("a", max_active=1, timeouts={"queue": 2})
        other = talk.busy("a")
        exchange = talk.asks()
        fires_after(talk, exchange, 2)
        assert talk.did() == ["client!503", "record queue_timeout", "client.next"]
        record = talk.records[0]
        assert (record.timer, record.state, record.flag) == ("queue", "sQ--", "UO")
        assert record.t_queue_ms == pytest.approx(2000, abs=200)
        talk.pool.give_back(other, talk.now)
        assert talk.did() == []
        talk.check_clean()

    def test_on_a_connection_that_has_been_idle_too(self) -> None:
        talk = Talk("a", max_active=1, timeouts={"queue": 2})
        client = talk.accept()
        talk.ok(talk.asked_and_sent(client))
        talk.passes(30)
        talk.busy("a")
        exchange = talk.asks(client)
        assert exchange.phase == QUEUE
        fires_after(talk, exchange, 2)


class TestConnect:
    def test_a_backend_that_does_not_answer_is_given_up_for_another(self) -> None:
        talk = Talk(timeouts={"connect": 2})
        exchange = talk.asks()
        talk.did()
        talk.passes(2.1)
        assert talk.did() == ["a.close", "dial b"]
        talk.passes(2.1)
        assert talk.did() == ["b.close", "dial c"]
        talk.passes(2.1)
        assert talk.did() == ["c.close", "client!504", "record connect_timeout", "client.next"]
        record = talk.records[0]
        assert (record.timer, record.state, record.retries) == ("connect", "sC--", 2)
        assert record.tries is not None
        assert [round(one.ms, -3) for one in record.tries] == [2000, 2000, 2000]
        assert exchange.phase == OVER
        talk.check_clean()

    def test_the_window_of_the_tries_ends_them(self) -> None:
        talk = Talk(timeouts={"connect": 6})
        talk.asks()
        talk.passes(12.3)
        assert talk.did()[-3:] == ["client!504", "record connect_timeout", "client.next"]
        assert talk.records[0].tries is not None
        assert len(talk.records[0].tries) == 2

    def test_a_handshake_has_a_clock_of_its_own(self) -> None:
        talk = Talk("a", timeouts={"connect": 2, "tls_handshake": 4})
        exchange = talk.asks()
        talk.passes(1)
        exchange.securing()
        fires_after(talk, exchange, 4)
        record = talk.records[0]
        assert (record.timer, record.outcome, record.status) == ("tls_handshake", "connect_timeout", 504)
        assert record.tries is not None
        assert record.tries[0].error == "tls_timeout"
        talk.check_clean()

    def test_without_limit_a_dial_may_take_for_ever(self) -> None:
        talk = Talk(timeouts={"connect": math.inf})
        exchange = talk.asks()
        talk.passes(5000)
        assert exchange.phase == CONNECT


class TestResponseHead:
    def test_a_backend_that_says_nothing_is_504(self) -> None:
        talk = Talk(timeouts={"response_head": 7})
        exchange = talk.asked_and_sent()
        fires_after(talk, exchange, 7)
        assert talk.did() == ["a.abandon", "client!504", "record response_timeout", "client.next"]
        record = talk.records[0]
        assert (record.timer, record.state, record.flag) == ("response_head", "sH--", "UT")
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()

    def test_on_a_reused_connection_it_is_the_backends_failure_too(self) -> None:
        talk = Talk(timeouts={"response_head": 7})
        exchange = talk.reused()
        fires_after(talk, exchange, 7)
        assert talk.records[-1].outcome == "response_timeout"
        assert talk.pool.backends["a"].failures_total == 1

    def test_interim_answers_do_not_begin_it_anew(self) -> None:
        talk = Talk(timeouts={"response_head": 7})
        exchange = talk.asked_and_sent()
        talk.passes(5)
        talk.answers(exchange, status=103)
        fires_after(talk, exchange, 2)

    def test_it_begins_with_the_end_of_the_request(self) -> None:
        talk = Talk(timeouts={"response_head": 7})
        exchange = talk.asked_and_sent(method="PUT", length=10_000)
        for _ in range(4):
            talk.passes(5)
            talk.sends(exchange, bytes(2000))
        talk.sends(exchange, bytes(2000), last=True)
        fires_after(talk, exchange, 7)

    def test_an_answer_in_time_ends_it(self) -> None:
        talk = Talk(timeouts={"response_head": 7})
        exchange = talk.asked_and_sent()
        talk.passes(6)
        talk.answers(exchange)
        talk.passes(30)
        assert exchange.phase == DATA


class TestResponseBody:
    def test_a_body_that_does_not_go_on_is_cut(self) -> None:
        talk = Talk(timeouts={"response_body_idle": 5})
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        talk.did()
        fires_after(talk, exchange, 5)
        assert talk.did() == ["a.abandon", "record body_idle", *CUT]
        record = talk.records[0]
        assert (record.timer, record.state, record.status, record.flag) == ("response_body_idle", "sD--", 200, "SI")
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_over()

    def test_on_a_conversation_that_was_looked_at_long_ago_it_fires_in_time(self) -> None:
        talk = Talk(timeouts={"response_body_idle": 5})
        client = talk.accept()
        talk.ok(talk.asked_and_sent(client))
        talk.passes(30)
        exchange = talk.asks(client)
        if exchange.phase == CONNECT:
            exchange.connected()
        talk.answers(exchange)
        fires_after(talk, exchange, 5)

    def test_every_byte_begins_it_anew(self) -> None:
        talk = Talk(timeouts={"response_body_idle": 5})
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        for _ in range(5):
            talk.passes(4)
            talk.side(exchange).touched = talk.now
        fires_after(talk, exchange, 5)

    def test_a_slow_client_is_not_the_backends_silence(self) -> None:
        talk = Talk(timeouts={"response_body_idle": 5, "write_stall": 60})
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        talk.stalls(exchange, talk.stream(exchange))
        talk.passes(20)
        talk.drains(exchange, talk.stream(exchange))
        fires_after(talk, exchange, 5)
        assert talk.records[0].timer == "response_body_idle"

    @pytest.mark.parametrize(
        ("route", "fields"),
        [
            (HttpRouteSettings(streaming=True), ""),
            (HttpRouteSettings(), "Content-Type: text/event-stream; charset=utf-8"),
        ],
    )
    def test_streams_may_be_silent_for_longer(self, route: HttpRouteSettings, fields: str) -> None:
        talk = Talk(route=route, timeouts={"response_body_idle": 5, "tunnel_idle": 100})
        exchange = talk.asked_and_sent()
        talk.answers(exchange, fields=fields)
        fires_after(talk, exchange, 100)
        record = talk.records[0]
        assert (record.timer, record.state) == ("tunnel_idle", "sD--")


class TestWriteStall:
    def test_a_client_that_takes_nothing_is_cut(self) -> None:
        talk = Talk(timeouts={"write_stall": 8})
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        talk.did()
        talk.stalls(exchange, talk.stream(exchange))
        talk.passes(8 - TICK)
        assert exchange.phase == DATA
        talk.passes(2.3)  # a quarter later at the most
        assert talk.did() == ["a.abandon", "record write_stall", *CUT]
        record = talk.records[0]
        assert (record.timer, record.state, record.status) == ("write_stall", "cD--", 200)
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_over()

    def test_one_that_takes_a_little_now_and_then_is_not(self) -> None:
        talk = Talk(timeouts={"write_stall": 8})
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        stream = talk.stream(exchange)
        talk.stalls(exchange, stream)
        stream.takes = True
        talk.passes(100)
        assert exchange.phase == DATA

    def test_it_holds_for_the_end_of_an_answer_too(self) -> None:
        talk = Talk(timeouts={"write_stall": 8})
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        talk.stalls(exchange, talk.stream(exchange))
        talk.completes(exchange)
        assert exchange.phase == LAST
        talk.passes(10.3)
        assert (talk.records[0].timer, talk.records[0].outcome) == ("write_stall", "write_stall")
        talk.check_over()

    def test_and_for_an_answer_of_ours(self) -> None:
        talk = Talk("a", timeouts={"write_stall": 8})
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        client = talk.accept()
        talk.stream(client).held = 100
        talk.stream(client).moved = talk.now
        exchange = talk.asks(client)
        assert exchange.phase == LAST
        talk.passes(10.3)
        assert (talk.records[0].timer, talk.records[0].status) == ("write_stall", 503)
        talk.check_over()

    def test_a_backend_that_takes_nothing_is_504(self) -> None:
        talk = Talk(timeouts={"write_stall": 8})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        talk.sends(exchange, bytes(50_000))
        talk.did()
        talk.stalls(exchange, talk.side(exchange))
        talk.passes(10.3)
        assert talk.did() == ["a.abandon", "client!504 close", "record response_timeout", *GONE]
        record = talk.records[0]
        assert (record.timer, record.status) == ("write_stall", 504)
        assert talk.pool.backends["a"].failures_total == 1, "it is a response timeout"
        talk.check_over()

    def test_a_backend_that_answers_and_takes_no_more_cuts_the_answer(self) -> None:
        talk = Talk(timeouts={"write_stall": 8, "response_body_idle": 600})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        talk.answers(exchange)
        talk.stalls(exchange, talk.side(exchange))
        talk.passes(10.3)
        assert (talk.records[0].timer, talk.records[0].state, talk.records[0].status) == ("write_stall", "sD--", 200)
        talk.check_over()


class TestRequestBody:
    def test_a_body_that_does_not_come_is_408(self) -> None:
        talk = Talk(timeouts={"request_body_idle": 4})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        talk.sends(exchange, bytes(50_000))
        talk.did()
        fires_after(talk, exchange, 4)
        assert talk.did() == ["a.abandon", "client!408 close", "record body_timeout", *GONE]
        record = talk.records[0]
        assert (record.timer, record.rule, record.state) == ("request_body_idle", "W2", "cH--")
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_over()

    def test_on_a_reused_connection_it_fires_in_time(self) -> None:
        talk = Talk(timeouts={"request_body_idle": 4})
        client = talk.accept()
        talk.ok(talk.asked_and_sent(client))
        talk.passes(30)
        other = talk.asked_and_sent()
        talk.ok(other)
        exchange = talk.asks(client, method="PUT", length=100_000)
        assert exchange.reused
        fires_after(talk, exchange, 4)

    def test_every_byte_begins_it_anew(self) -> None:
        talk = Talk(timeouts={"request_body_idle": 4})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        for _ in range(4):
            talk.passes(3)
            talk.sends(exchange, bytes(5000))
        fires_after(talk, exchange, 4)

    def test_less_than_240_bytes_a_second_is_too_slow_after_ten(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        for _ in range(9):
            talk.passes(1)
            talk.sends(exchange, bytes(10))
        assert exchange.phase == ANSWER, "there is a grace"
        for _ in range(12):  # it is looked at once in ten seconds
            talk.passes(1)
            if exchange.phase == ANSWER:
                talk.sends(exchange, bytes(10))
        record = talk.records[0]
        assert (record.timer, record.outcome, record.rule) == ("request_body_rate", "body_timeout", "W2")
        assert record.outcome == BODY_TIMEOUT.word
        talk.check_over()

    def test_just_enough_is_enough(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        for _ in range(100):
            talk.passes(1)
            talk.sends(exchange, bytes(270))
        assert exchange.phase == ANSWER

    def test_what_we_do_not_read_is_not_the_clients_silence(self) -> None:
        talk = Talk(timeouts={"request_body_idle": 4, "write_stall": 100})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        side, stream = talk.side(exchange), talk.stream(exchange)
        talk.stalls(exchange, side)
        talk.passes(60)
        assert exchange.phase == ANSWER
        stream.paused += 60
        talk.drains(exchange, side)
        talk.passes(3)
        assert exchange.phase == ANSWER, "neither idle nor slow: we did not read"
        talk.passes(2)
        assert talk.records[0].timer == "request_body_idle"

    def test_pauses_do_not_count_for_the_rate_either(self) -> None:
        talk = Talk(timeouts={"write_stall": 200})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        talk.sends(exchange, bytes(2000))
        side, stream = talk.side(exchange), talk.stream(exchange)
        talk.stalls(exchange, side)
        talk.passes(100)
        stream.paused += 100
        talk.drains(exchange, side)
        for _ in range(60):
            talk.passes(1)
            talk.sends(exchange, bytes(300))
        assert exchange.phase == ANSWER

    def test_the_time_in_the_queue_does_not_count(self) -> None:
        talk = Talk("a", max_active=1, timeouts={"queue": 60})
        other = talk.busy("a")
        exchange = talk.asks(method="PUT", length=100_000)
        talk.passes(50)
        talk.pool.give_back(other, talk.now)
        exchange.connected()
        talk.passes(8)
        assert exchange.phase == ANSWER

    def test_a_streaming_route_lets_bodies_be_slow_and_silent(self) -> None:
        talk = Talk(route=HttpRouteSettings(streaming=True), timeouts={"tunnel_idle": 100})
        exchange = talk.asked_and_sent(method="PUT", length=100_000)
        fires_after(talk, exchange, 100)
        assert talk.records[0].outcome == "body_timeout"


EXPECTS: dict[str, Any] = {"method": "PUT", "length": 100, "fields": "Expect: 100-continue"}


class TestExpect:
    def test_after_a_second_without_a_word_we_tell_the_client_to_go_on(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(**EXPECTS)
        talk.passes(0.9)
        assert talk.did() == []
        talk.passes(0.3)
        assert talk.did() == ["client<100 of ours"]
        talk.passes(5)
        assert talk.did() == [], "once"
        talk.sends(exchange, bytes(100), last=True)
        talk.answers(exchange, status=100)
        assert talk.did() == [], "the backend's own comes too late"
        talk.ok(exchange)
        talk.check_clean()

    def test_what_the_backend_says_is_passed_on_and_ours_is_not_needed(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(**EXPECTS)
        talk.answers(exchange, status=100)
        assert talk.did() == ["client<100"]
        talk.passes(3)
        assert talk.did() == []

    def test_on_a_reused_connection_too(self) -> None:
        talk = Talk()
        talk.reused(**EXPECTS)
        talk.passes(1.2)
        assert talk.did() == ["client<100 of ours"]

    def test_a_body_that_came_at_once_needs_no_word(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(**EXPECTS)
        talk.sends(exchange, bytes(100), last=True)
        talk.passes(3)
        assert talk.did() == []

    def test_a_final_answer_ends_it(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(**EXPECTS)
        talk.ok(exchange, status=417)
        assert talk.did() == ["client<417 close", "record ok", *GONE]
        talk.check_over()

    def test_the_backend_is_asked_to_expect_it(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(**EXPECTS)
        assert b"\r\nExpect: 100-continue\r\n" in talk.side(exchange).asked


class TestTheConversation:
    def test_a_client_that_says_nothing_is_closed_silently(self) -> None:
        talk = Talk(timeouts={"request_head": 6})
        client = talk.accept()
        talk.passes(5.8)
        assert client.phase != OVER
        talk.passes(0.4)
        assert talk.did() == GONE
        assert talk.records == []
        talk.check_over()

    def test_a_head_that_does_not_end_is_408_however_slowly_it_comes(self) -> None:
        talk = Talk(timeouts={"request_head": 6})
        client = talk.accept()
        stream = talk.stream(client)
        for number in range(5):
            stream.kept += b"x"
            if not number:
                client.head_begins(talk.now)
            talk.passes(1)
        assert client.phase != OVER
        talk.passes(1.2)
        assert talk.did() == ["client!408 close", "record head_timeout", *GONE]
        record = talk.records[0]
        assert (record.timer, record.rule, record.state, record.t_request_ms) == ("request_head", "W1", "cR--", -1)
        talk.check_over()

    def test_the_first_head_has_its_time_from_the_accept_on(self) -> None:
        talk = Talk(timeouts={"request_head": 6})
        client = talk.accept()
        talk.passes(5)
        talk.stream(client).kept = b"GET"
        client.head_begins(talk.now)
        talk.passes(1.2)
        assert talk.records[0].outcome == "head_timeout"

    def test_the_next_head_has_its_time_from_its_first_byte_on(self) -> None:
        talk = Talk(timeouts={"request_head": 6, "client_idle": 20})
        client = talk.accept()
        talk.ok(talk.asked_and_sent(client))
        talk.passes(15)
        talk.stream(client).kept = b"GET"
        client.head_begins(talk.now)
        talk.passes(5.8)
        assert len(talk.records) == 1
        talk.passes(0.4)
        assert talk.records[1].outcome == "head_timeout"

    def test_a_client_that_is_idle_is_closed_silently(self) -> None:
        talk = Talk(timeouts={"client_idle": 3})
        client = talk.accept()
        talk.passes(1)
        talk.ok(talk.asked_and_sent(client))
        talk.did()
        talk.passes(2.85)
        assert client.phase != OVER
        talk.passes(0.3)
        assert talk.did() == GONE
        assert len(talk.records) == 1
        talk.check_over()

    def test_idleness_begins_with_the_end_of_the_last_answer(self) -> None:
        talk = Talk(timeouts={"client_idle": 3})
        client = talk.accept()
        for _ in range(4):
            exchange = talk.asks(client)
            if exchange.phase == CONNECT:
                exchange.connected()
            talk.passes(10)
            talk.ok(exchange)
            talk.passes(2.8)
            assert client.phase != OVER
        talk.passes(0.4)
        assert client.phase == OVER

    def test_a_long_exchange_is_not_idleness(self) -> None:
        talk = Talk(timeouts={"client_idle": 3})
        exchange = talk.asked_and_sent()
        talk.passes(50)
        assert exchange.phase == ANSWER

    def test_a_route_has_its_own_clocks(self) -> None:
        talk = Talk()
        exchange = talk.asks(text=message())
        assert exchange.timeouts == talk.gate.front.timeouts


class TestTunnels:
    def test_one_that_is_silent_is_closed_and_its_record_names_the_timer(self) -> None:
        talk = Talk(timeouts={"tunnel_idle": 100})
        exchange = talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: websocket")
        talk.answers(exchange, status=101, fields="Connection: Upgrade|Upgrade: websocket")
        assert exchange.phase == TUNNEL
        tunnel = talk.tunnels(exchange)
        talk.passes(60)
        talk.stream(exchange).touched = talk.now
        fires_after(talk, exchange, 100)
        assert tunnel.phase == OVER
        record = talk.records[0]
        assert (record.timer, record.outcome, record.status) == ("tunnel_idle", "idle_timeout", 101)
        talk.check_over()

    def test_nobody_is_asked_every_second_for_its_sake(self) -> None:
        talk = Talk(timeouts={"tunnel_idle": 1000})
        exchange = talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: websocket")
        talk.answers(exchange, status=101, fields="Connection: Upgrade|Upgrade: websocket")
        talk.tunnels(exchange)
        talk.passes(60)
        assert exchange.conversation not in talk.wheel.due
