"""The life of an exchange, from the head of a request to its record, and who may end it when."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lbproxy import errors
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.pool import Pool
from lbproxy.errors import KILLED_BY_OPERATOR, LOCAL_RESOURCE, TryError
from lbproxy.http.messages import HttpError
from lbproxy.model import RouteSettings, SendProxySettings
from lbproxy.model_http import Condition, HttpPoolSettings, HttpRouteSettings, HttpSettings
from lbproxy.session.phases import ANSWER, CONNECT, DATA, LAST, OVER, QUEUE, TUNNEL
from tests.session.http_fakes import Talk, message, web_pool

NEXT = ["record ok", "client.next"]


class TestAnOrdinaryExchange:
    def test_a_request_goes_to_the_backend_that_takes_the_connection_and_its_answer_comes_back(self) -> None:
        talk = Talk()
        exchange = talk.asks(path="/a?b=c")
        assert (talk.did(), exchange.phase) == (["dial a"], CONNECT)
        exchange.connected()
        assert (talk.did(), exchange.phase) == (["a.ask GET /a?b=c"], ANSWER)
        talk.answers(exchange)
        assert (talk.did(), exchange.phase) == (["client<200"], DATA)
        talk.completes(exchange)
        assert (talk.did(), exchange.phase) == (NEXT, OVER)
        talk.check_clean()

    def test_what_is_sent_names_the_client_and_the_request(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields="Accept: */*|X-Forwarded-For: 1.2.3.4")
        assert talk.side(exchange).asked == (
            b"GET / HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\nX-Forwarded-Host: www.example.com\r\n"
            b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 443\r\n"
            b"Via: 1.1 lbproxy-0a1b2c3d\r\nX-Request-ID: " + exchange.request_id + b"\r\n\r\n"
        )

    def test_the_next_request_goes_on_the_same_connection(self) -> None:
        talk = Talk()
        client = talk.accept()
        talk.ok(talk.asked_and_sent(client))
        exchange = talk.asks(client)
        assert talk.did() == ["client<200", *NEXT, "reuse a", "a.ask GET /"]
        assert exchange.reused
        talk.ok(exchange)
        assert [record.request_number for record in talk.records] == [1, 2]
        assert [record.reused for record in talk.records] == [False, True]
        assert talk.records[0].id != talk.records[1].id
        talk.check_clean()

    def test_its_record_has_the_times_of_all_phases(self) -> None:
        talk = Talk()
        exchange = talk.asks()
        talk.passes(0.25)
        exchange.connected()
        talk.passes(0.5)
        talk.answers(exchange)
        talk.passes(1.0)
        talk.completes(exchange)
        record = talk.records[0]
        assert (record.t_request_ms, record.t_queue_ms) == (0, 0)
        assert record.t_connect_ms == pytest.approx(250, abs=1)
        assert record.t_first_byte_ms == pytest.approx(500, abs=1)
        assert record.t_total_ms == pytest.approx(1750, abs=1)
        assert (record.outcome, record.state, record.status, record.bytes_out) == ("ok", "----", 200, 5)
        assert record.tries is None

    def test_the_lease_lasts_as_long_as_the_exchange(self) -> None:
        talk = Talk()
        exchange = talk.asks()
        assert talk.pool.active == 1
        exchange.connected()
        talk.answers(exchange)
        assert talk.pool.backends["a"].active == 1
        talk.completes(exchange)
        assert talk.pool.active == 0

    def test_a_slow_client_keeps_the_exchange_until_it_has_taken_all(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        talk.stalls(exchange, talk.stream(exchange))
        talk.completes(exchange)
        assert exchange.phase == LAST
        assert talk.did() == ["client<200"]
        talk.drains(exchange, talk.stream(exchange))
        assert talk.did() == NEXT
        talk.check_clean()

    def test_it_does_not_end_while_the_body_is_still_coming_however_fast_the_client(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        exchange.flushed()
        assert exchange.phase == DATA
        talk.completes(exchange)
        talk.check_clean()

    def test_a_body_follows_its_head_and_the_answer_may_be_waited_for_once_it_is_sent(self) -> None:
        talk = Talk()
        exchange = talk.asks(method="POST", length=10)
        talk.sends(exchange, b"01234")
        exchange.connected()
        assert talk.did() == ["dial a", "a.ask POST /", "client>a"]
        side = talk.side(exchange)
        assert (side.body, side.body_ended, exchange.sent_at) == (b"01234", False, -1.0)
        talk.sends(exchange, b"56789", last=True)
        assert (side.body, side.body_ended, exchange.sent_at) == (b"0123456789", True, talk.now)
        talk.ok(exchange)
        talk.check_clean()

    def test_an_answer_before_the_end_of_the_body_is_passed_on_and_is_the_last(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(method="POST", length=10)
        talk.sends(exchange, b"01234")
        talk.answers(exchange, status=413)
        talk.completes(exchange)
        assert talk.did() == ["client>a", "client<413 close", "record ok", "client.close", "left 192.0.2.7"][1:]
        assert talk.records[0].t_first_byte_ms == 0
        assert not talk.http_factory.idle, "a connection that waits for the rest of a body takes no other request"
        talk.check_over()

    def test_a_backend_that_speaks_proxy_is_introduced_to_the_client_once(self) -> None:
        talk = Talk(send_proxy=SendProxySettings(1))
        exchange = talk.asks()
        assert exchange.introduce().startswith(b"PROXY TCP4 192.0.2.7 198.51.100.1 40007 443")
        assert exchange.introduce() == b""

    def test_the_last_request_of_a_client_that_wants_it_so_closes(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields="Connection: close")
        talk.ok(exchange)
        assert talk.did() == ["client<200 close", "record ok", "client.close", "left 192.0.2.7"]
        talk.check_over()

    def test_requests_in_flight_are_what_least_connections_counts(self) -> None:
        talk = Talk(policy="least-connections")
        served = [talk.asked_and_sent() for _ in range(6)]
        assert [backend.active for backend in talk.pool.backends.values()] == [2, 2, 2]
        for exchange in served[:2]:
            talk.ok(exchange)
        counts = [backend.active for backend in talk.pool.backends.values()]
        assert sorted(counts) == [1, 1, 2]
        fuller = next(backend.id for backend in talk.pool.backends.values() if backend.active == 2)
        further = [talk.asks(talk.accept()) for _ in range(2)]
        assert fuller not in [one.backend.id for one in further if one.backend is not None]

    def test_a_pool_that_is_gone_is_no_route(self) -> None:
        talk = Talk()
        del talk.pools["web"]
        talk.asks()
        assert talk.records[0].outcome == "no_route"
        assert talk.did() == ["client!404", "record no_route", "client.next"]


class TestTheQueue:
    def test_a_request_waits_for_a_place_and_is_served(self) -> None:
        talk = Talk("a", max_active=1)
        other = talk.busy("a")
        exchange = talk.asks()
        assert (talk.did(), exchange.phase, talk.pool.queued) == ([], QUEUE, 1)
        talk.passes(2)
        talk.pool.give_back(other, talk.now)
        assert talk.did() == ["dial a"]
        exchange.connected()
        talk.ok(exchange)
        assert talk.records[0].t_queue_ms == pytest.approx(2000, abs=1)
        talk.check_clean()

    def test_a_full_queue_is_503_at_once_with_a_time_to_come_back(self) -> None:
        talk = Talk("a", max_active=1, queue_size=1)
        other = talk.busy("a")
        waiting = talk.asks()
        talk.did()
        turned_away = talk.asks()
        assert talk.did() == ["client!503", "record queue_full", "client.next"]
        assert 5 <= int(talk.stream(turned_away).reply_fields[b"Retry-After"]) <= 10
        assert talk.records[0].state == "sQ--"
        talk.pool.give_back(other, talk.now)
        waiting.connected()
        talk.ok(waiting)
        talk.check_clean()

    def test_whoever_leaves_the_queue_leaves_its_place(self) -> None:
        talk = Talk("a", max_active=1)
        other = talk.busy("a")
        exchange = talk.asks()
        talk.passes(1)
        talk.leaves(exchange.conversation)
        assert talk.pool.queued == 0
        assert (talk.records[0].state, talk.records[0].status) == ("CQ--", 499)
        assert talk.records[0].t_queue_ms == pytest.approx(1000, abs=1)
        talk.pool.give_back(other, talk.now)
        talk.check_over()

    def test_whoever_is_sent_away_from_the_queue_has_its_waiting_in_the_record(self) -> None:
        talk = Talk("a", max_active=1)
        other = talk.busy("a")
        talk.asks()
        talk.passes(2)
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        assert talk.records[0].outcome == "no_backend"
        assert talk.records[0].t_queue_ms == pytest.approx(2000, abs=1)
        talk.pool.give_back(other, talk.now)
        talk.check_clean()

    def test_a_queue_that_sheds_says_503(self) -> None:
        talk = Talk("a", max_active=1, shed="codel")
        other = talk.busy("a")
        exchange = talk.asks()
        exchange.dropped(errors.SHED, talk.now)
        talk.pool.leave(exchange)
        assert talk.records[0].outcome == "shed"
        assert talk.pool.queued == 0
        talk.pool.give_back(other, talk.now)
        talk.check_clean()


class TestNobodyIsThere:
    def test_without_a_usable_backend_the_answer_is_503_with_a_time_to_come_back(self) -> None:
        talk = Talk("a")
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        exchange = talk.asks()
        assert talk.did() == ["client!503", "record no_backend", "client.next"]
        assert b"Retry-After" in talk.stream(exchange).reply_fields
        record = talk.records[0]
        assert (record.state, record.flag, record.t_connect_ms) == ("SC--", "UH", -1)
        talk.check_clean()

    def test_the_body_of_a_refused_request_is_not_read_and_ends_the_connection(self) -> None:
        talk = Talk("a")
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        talk.asks(method="POST", length=100)
        assert talk.did() == ["client!503 close", "record no_backend", "client.close", "left 192.0.2.7"]
        talk.check_over()


def half_full() -> Talk:
    """Each backend has room for one more, and lost requests are tried again."""
    talk = Talk(max_active=2, route=HttpRouteSettings(retry_idempotent=True))
    for name in "abc":
        talk.busy(name)
    return talk


# An exchange in each phase.
def in_queue(talk: Talk) -> Any:
    for name in "abc":
        talk.busy(name)
    return talk.asks()


def in_connect(talk: Talk) -> Any:
    return talk.asks()


def in_pause(talk: Talk) -> Any:
    exchange = talk.asked_and_sent()
    talk.loses(exchange)
    assert exchange.resume_at >= 0
    talk.did()
    return exchange


def in_body(talk: Talk) -> Any:
    exchange = talk.asked_and_sent(method="PUT", length=10)
    talk.sends(exchange, b"01234")
    return exchange


def in_answer(talk: Talk) -> Any:
    return talk.asked_and_sent()


def in_answer_reused(talk: Talk) -> Any:
    return talk.reused()


def in_data(talk: Talk) -> Any:
    exchange = talk.asked_and_sent()
    talk.answers(exchange)
    return exchange


def in_early_data(talk: Talk) -> Any:
    exchange = talk.asked_and_sent(method="PUT", length=10)
    talk.sends(exchange, b"01234")
    talk.answers(exchange, status=403)
    return exchange


def in_last(talk: Talk) -> Any:
    exchange = talk.asked_and_sent()
    talk.answers(exchange)
    talk.stalls(exchange, talk.stream(exchange))
    talk.completes(exchange)
    assert exchange.phase == LAST
    return exchange


def in_last_of_ours(talk: Talk) -> Any:
    for backend in talk.pool.backends.values():
        talk.pool.set_admin(backend, "maint", talk.now)
    client = talk.accept()
    talk.stream(client).held = 100
    exchange = talk.asks(client)
    assert exchange.phase == LAST
    return exchange


def in_tunnel(talk: Talk) -> Any:
    exchange = talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: websocket")
    talk.answers(exchange, status=101, fields="Connection: Upgrade|Upgrade: websocket")
    assert exchange.phase == TUNNEL
    return exchange


PHASES: dict[str, Any] = {
    "queue": in_queue,
    "connect": in_connect,
    "pause": in_pause,
    "body": in_body,
    "answer": in_answer,
    "answer reused": in_answer_reused,
    "data": in_data,
    "early data": in_early_data,
    "last": in_last,
    "last of ours": in_last_of_ours,
}


class TestAClientThatLeaves:
    @pytest.mark.parametrize(
        ("phase", "state", "status"),
        [
            ("queue", "CQ", 499),
            ("connect", "CC", 499),
            ("pause", "CC", 499),
            ("body", "CH", 499),
            ("answer", "CH", 499),
            ("answer reused", "CH", 499),
            ("data", "CD", 200),
            ("early data", "CD", 403),
            ("last", "CD", 200),
            ("last of ours", "CD", 503),
        ],
    )
    def test_the_record_says_in_which_phase_it_was(self, phase: str, state: str, status: int) -> None:
        talk = half_full()
        exchange = PHASES[phase](talk)
        talk.leaves(exchange.conversation)
        record = talk.records[-1]
        assert (record.outcome, record.state[:2], record.status, record.flag) == ("client_gone", state, status, "DC")
        assert exchange.phase == OVER
        release(talk)
        talk.check_over()

    def test_a_request_whose_body_has_begun_is_cut_not_ended(self) -> None:
        talk = Talk()
        exchange = in_body(talk)
        talk.did()
        talk.half_closes(exchange.conversation)
        assert talk.did() == ["a.abandon", "record client_gone", "client.abort", "left 192.0.2.7"]
        assert (talk.records[0].rule, talk.records[0].state) == ("F18", "CH--")
        talk.check_over()

    def test_a_request_that_was_answered_before_its_body_had_ended_is_heard_out(self) -> None:
        talk = Talk()
        exchange = in_early_data(talk)
        talk.did()
        talk.half_closes(exchange.conversation)
        assert talk.did() == ["client.stop_body"]
        talk.completes(exchange)
        assert talk.did() == ["record ok", "client.close", "left 192.0.2.7"]
        talk.check_over()

    def test_one_that_only_half_closes_gets_its_answer(self) -> None:
        talk = Talk()
        exchange = in_answer(talk)
        talk.half_closes(exchange.conversation)
        assert talk.did() == []
        talk.ok(exchange)
        assert talk.did() == ["client<200 close", "record ok", "client.close", "left 192.0.2.7"]
        talk.check_over()

    def test_one_that_half_closes_is_gone_where_the_listener_says_so(self) -> None:
        talk = Talk(listener=HttpSettings(abort_on_half_close=True))
        exchange = in_answer(talk)
        talk.half_closes(exchange.conversation)
        assert talk.did() == ["a.abandon", "record client_gone", "client.abort", "left 192.0.2.7"]
        talk.check_over()

    def test_one_that_has_taken_everything_was_served(self) -> None:
        talk = Talk()
        exchange = in_last(talk)
        talk.stream(exchange).held = 0
        talk.leaves(exchange.conversation)
        assert talk.records[0].outcome == "ok"
        talk.check_over()

    def test_one_that_has_taken_all_of_an_error_of_ours_was_told_it(self) -> None:
        talk = Talk()
        exchange = in_last_of_ours(talk)
        talk.stream(exchange).held = 0
        talk.leaves(exchange.conversation)
        assert (talk.records[0].outcome, talk.records[0].status) == ("no_backend", 503)
        talk.check_over()

    def test_the_kernel_that_gives_up_on_one_names_the_timer(self) -> None:
        talk = Talk()
        exchange = in_data(talk)
        talk.leaves(exchange.conversation, stalled=True)
        record = talk.records[0]
        assert (record.outcome, record.state, record.timer) == ("write_stall", "cD--", "write_stall")
        talk.check_over()


class TestABackendThatLeaves:
    def test_an_answer_that_is_cut_is_never_ended_in_order(self) -> None:
        talk = Talk()
        exchange = in_data(talk)
        talk.did()
        talk.loses(exchange)
        assert talk.did() == ["record backend_cut", "client.abort", "left 192.0.2.7"]
        record = talk.records[0]
        assert (record.state, record.status, record.rule) == ("SD--", 200, "B5")
        talk.check_over()

    def test_an_answer_of_which_nothing_has_gone_out_yet_is_502_instead(self) -> None:
        talk = Talk()
        exchange = in_data(talk)
        talk.did()
        talk.stream(exchange).said_nothing = True
        talk.loses(exchange)
        assert talk.did() == ["client!502", "record backend_closed", "client.next"]
        assert (talk.records[0].status, talk.records[0].rule) == (502, "B5")
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()

    def test_bytes_that_are_no_answer_are_502(self) -> None:
        talk = Talk()
        exchange = in_answer(talk)
        talk.side(exchange).bytes_in += 10
        exchange.unanswered(TryError.NONSENSE, "the status line is none", rule="B8")
        assert talk.did() == ["a.abandon", "client!502", "record bad_response", "client.next"]
        record = talk.records[0]
        assert (record.state, record.rule, record.flag) == ("PH--", "B8", "UPE")
        assert record.tries is not None
        assert record.tries[0].error == "bad_response"
        talk.check_clean()

    def test_a_head_that_is_too_large_is_502(self) -> None:
        talk = Talk()
        exchange = in_answer(talk)
        exchange.head_too_large(errors_http("B9"))
        assert talk.did() == ["a.abandon", "client!502", "record response_head_large", "client.next"]
        assert talk.records[0].rule == "B9"
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()


class TestOurselves:
    @pytest.mark.parametrize("phase", PHASES)
    def test_an_operator_may_end_it_in_every_phase(self, phase: str) -> None:
        talk = half_full()
        exchange = PHASES[phase](talk)
        exchange.conversation.kill(KILLED_BY_OPERATOR)
        assert (talk.records[-1].outcome, talk.records[-1].state[:2]) == ("killed", "KD")
        release(talk)
        talk.check_over()

    def test_a_fault_of_ours_ends_one_conversation_and_is_told(self) -> None:
        talk = Talk()
        exchange = in_answer(talk)
        problem = RuntimeError("ours")
        exchange.conversation.broken(problem)
        assert talk.faults == [problem]
        talk.faults.clear()
        assert (talk.records[0].outcome, talk.records[0].state[:2]) == ("internal", "IH")
        talk.check_over()

    def test_one_that_holds_too_much_is_ended(self) -> None:
        talk = Talk()
        exchange = in_data(talk)
        talk.stalls(exchange, talk.stream(exchange), 5000)
        talk.side(exchange).held = 300
        assert exchange.conversation.holds == 5300
        exchange.conversation.kill(LOCAL_RESOURCE)
        assert talk.records[0].outcome == "local_resource"
        talk.check_over()

    def test_a_body_that_breaks_the_rules_reaches_nobody_further(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(method="POST", chunked=True)
        talk.did()
        exchange.bad_body(errors_http("F22", errors.BAD_REQUEST))
        assert talk.did() == [
            "a.abandon",
            "client!400 close",
            "record bad_request",
            "client.close",
            "left 192.0.2.7",
        ]
        assert talk.records[0].rule == "F22"
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_over()

    def test_a_body_that_breaks_the_rules_cuts_an_answer_that_has_begun(self) -> None:
        talk = Talk()
        exchange = in_early_data(talk)
        talk.did()
        exchange.bad_body(errors_http("F22", errors.BAD_REQUEST))
        assert talk.did() == ["a.abandon", "record bad_request", "client.abort", "left 192.0.2.7"]
        talk.check_over()


EVENTS: dict[str, Any] = {
    "flushed": lambda _talk, one: one.flushed(),
    "stalled": lambda _talk, one: one.stalled(),
    "client lost": lambda talk, one: talk.leaves(one.conversation),
    "client fin": lambda talk, one: talk.half_closes(one.conversation),
    "client lost stalled": lambda talk, one: talk.leaves(one.conversation, stalled=True),
    "drain": lambda _talk, one: one.conversation.drain(),
    "kill": lambda _talk, one: one.conversation.kill(KILLED_BY_OPERATOR),
    "broken": lambda _talk, one: one.conversation.broken(RuntimeError()),
    "body too large": lambda _talk, one: one.body_too_large(),
    "bad body": lambda _talk, one: one.bad_body(errors_http("F22", errors.BAD_REQUEST)),
    "refuse": lambda _talk, one: one.refuse(errors.BODY_TIMEOUT),
    "abort": lambda _talk, one: one.abort(errors.BODY_IDLE),
    "cut short": lambda _talk, one: one.cut_short(errors.BACKEND_CUT),
    "over": lambda _talk, one: one.over(errors.OK),
    "resume": lambda _talk, one: one._resume(),
    "an hour": lambda talk, _one: talk.passes(4000),
    "a second": lambda talk, _one: talk.passes(1),
}


class TestEveryEventInEveryPhase:
    """Each of what may happen, in each phase: it may change something or nothing, and nothing is ever left behind."""

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("phase", [*PHASES, "tunnel", "over"])
    def test_nothing_is_raised_and_nothing_left(self, phase: str, event: str) -> None:
        talk = half_full()
        if phase == "over":
            exchange = in_data(talk)
            talk.completes(exchange)
            count = len(talk.records)
        elif phase == "tunnel":
            exchange = in_tunnel(talk)
            talk.tunnels(exchange)
            count = 0
        else:
            exchange = PHASES[phase](talk)
            count = len(talk.records)
        EVENTS[event](talk, exchange)
        if phase == "over":
            assert len(talk.records) == count
        talk.faults.clear()
        exchange.conversation.kill(KILLED_BY_OPERATOR)
        talk.passes(1)
        release(talk)
        talk.check_over()


def release(talk: Talk) -> None:
    """Others give back what they have."""
    for backend in talk.pool.backends.values():
        while backend.active:
            talk.pool.give_back(backend, talk.now)


def errors_http(rule: str, outcome: errors.Outcome = errors.RESPONSE_HEAD_LARGE) -> Any:
    return HttpError(outcome, rule, "it is not what it should be")


class TestOutliers:
    @pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
    def test_a_failing_status_counts_once_for_the_exchange(self, status: int) -> None:
        talk = Talk()
        talk.ok(talk.asked_and_sent(), status=status)
        assert talk.pool.backends["a"].failures_total == 1
        assert talk.records[0].outcome == "ok", "an answer is an answer"

    @pytest.mark.parametrize("status", [200, 304, 400, 404, 429, 499, 501, 505])
    def test_other_statuses_never_count(self, status: int) -> None:
        talk = Talk()
        client = talk.accept()
        for _ in range(8):
            exchange = talk.asks(client)
            if exchange.phase == CONNECT:
                exchange.connected()
            talk.ok(exchange, status=status)
        backend = talk.pool.backends["a"]
        assert (backend.failures_total, backend.usable) == (0, True)

    def test_five_in_a_row_take_a_backend_out(self) -> None:
        talk = Talk()
        client = talk.accept()
        for _ in range(5):
            exchange = talk.asks(client)
            if exchange.phase == CONNECT:
                exchange.connected()
            assert exchange.backend is talk.pool.backends["a"]
            talk.ok(exchange, status=500)
        assert not talk.pool.backends["a"].usable
        assert talk.asks(client).backend is talk.pool.backends["b"]

    def test_an_answer_that_is_fine_breaks_the_row(self) -> None:
        talk = Talk()
        client = talk.accept()
        for status in (500, 500, 500, 500, 200, 500, 500, 500, 500):
            exchange = talk.asks(client)
            if exchange.phase == CONNECT:
                exchange.connected()
            talk.ok(exchange, status=status)
        assert talk.pool.backends["a"].usable

    def test_a_failing_answer_that_is_cut_counts_once(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        talk.answers(exchange, status=500)
        talk.loses(exchange)
        assert talk.pool.backends["a"].failures_total == 1

    def test_an_answer_that_is_cut_counts(self) -> None:
        talk = Talk()
        exchange = in_data(talk)
        talk.loses(exchange)
        assert talk.pool.backends["a"].failures_total == 1

    def test_what_the_client_does_never_counts(self) -> None:
        talk = Talk()
        talk.leaves(in_data(talk).conversation)
        talk.leaves(in_answer(talk).conversation)
        assert talk.pool.backends["a"].failures_total == 0

    def test_an_answer_to_an_upgrade_that_nobody_asked_for_is_no_success(self) -> None:
        talk = Talk()
        for _ in range(2):
            exchange = talk.asked_and_sent()
            talk.answers(exchange, status=101, fields="Connection: Upgrade|Upgrade: websocket")
            assert exchange.phase == OVER
        assert talk.pool.active == 0


class TestBackendsThatSpeakHttp10:
    def test_a_body_without_a_length_cannot_be_sent(self) -> None:
        talk = Talk(listener=HttpSettings(), pools=[web_pool("o", "old", http=HttpPoolSettings(http10=True))])
        talk.pools["web"] = talk.pools["old"]
        talk.asks(text=message(method="POST", chunked=True))
        assert talk.did() == [
            "client!411 close",
            "record length_required",
            "client.close",
            "left 192.0.2.7",
        ]
        talk.check_over()

    def test_nobody_changes_the_protocol(self) -> None:
        talk = Talk(pools=[web_pool("o", "old", http=HttpPoolSettings(http10=True))])
        talk.pools["web"] = talk.pools["old"]
        exchange = talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: websocket")
        assert b"Upgrade" not in talk.side(exchange).asked

    def test_a_client_that_waits_with_its_body_is_told_to_go_on(self) -> None:
        talk = Talk(pools=[web_pool("o", "old", http=HttpPoolSettings(http10=True))])
        talk.pools["web"] = talk.pools["old"]
        exchange = talk.asks(method="PUT", length=5, fields="Expect: 100-continue")
        talk.did()
        exchange.connected()
        assert talk.did() == ["o.ask PUT /", "client<100 of ours", "client>o"]
        assert b"Expect" not in talk.side(exchange).asked
        talk.passes(3)
        assert talk.did() == []

    def test_the_request_says_so(self) -> None:
        talk = Talk(pools=[web_pool("o", "old", http=HttpPoolSettings(http10=True))])
        talk.pools["web"] = talk.pools["old"]
        exchange = talk.asked_and_sent()
        assert talk.side(exchange).asked.startswith(b"GET / HTTP/1.0\r\n")


class TestWhoIsChosen:
    def test_hash_policies_go_by_what_the_pool_says(self) -> None:
        talk = Talk("a b c d e f", policy="rendezvous", hash_key="header:X-User")
        chosen: dict[str, set[str]] = {}
        for _ in range(3):
            for user in "abcdefghij":
                backend = talk.asks(fields=f"X-User: {user}").backend
                assert backend is not None
                chosen.setdefault(user, set()).add(backend.id)
        assert all(len(names) == 1 for names in chosen.values())
        assert len(set.union(*chosen.values())) > 2

    def test_a_retry_goes_to_the_next_one_of_the_key(self) -> None:
        talk = Talk("a b c d", policy="rendezvous", hash_key="path")
        exchange = talk.asks(path="/k")
        first = exchange.backend
        talk.refuses(exchange)
        second = exchange.backend
        assert first is not second
        other = talk.asks(path="/k")
        talk.refuses(other)
        assert other.backend is second

    def test_other_policies_ask_for_no_key(self) -> None:
        assert Talk().asks().key is None

    def test_the_priority_of_its_route_decides_who_is_served_first(self) -> None:
        routes = [
            RouteSettings("web", "late", priority=9, http=HttpRouteSettings(condition=Condition(paths=("/late",)))),
            RouteSettings("web", "soon", priority=0, http=HttpRouteSettings()),
        ]
        talk = Talk("a", max_active=1, routes=routes)
        other = talk.busy("a")
        late, soon = talk.asks(path="/late"), talk.asks(path="/")
        talk.pool.give_back(other, talk.now)
        assert (late.phase, soon.phase) == (QUEUE, CONNECT)

    def test_answers_are_the_samples_of_latency_from_the_end_of_the_request_on(self) -> None:
        samples: list[tuple[str, float]] = []

        class Spy(Pool):
            """A pool that remembers what it was told."""

            def answered(self, backend: Backend, now: float, seconds: float) -> None:
                samples.append(("answered", round(seconds, 3)))

            def failed(self, backend: Backend, now: float, elapsed: float = 0.0, *, cut: bool = False) -> None:
                samples.append(("failed", round(elapsed, 3)))

        talk = Talk()
        talk.pool = talk.pools["web"] = Spy(talk.pool.settings, random.Random(1).random, talk.now)
        exchange = talk.asked_and_sent(method="PUT", length=5)
        talk.passes(3)
        talk.sends(exchange, b"12345", last=True)
        talk.passes(2)
        talk.ok(exchange)
        assert samples == [("answered", 2.0)]
        early = talk.asks(exchange.conversation, method="PUT", length=5)
        if early.phase == CONNECT:
            early.connected()
        talk.answers(early)
        assert samples[1:] == [], "an answer that did not wait for the request is none"
        failing = talk.asked_and_sent()
        talk.passes(1)
        talk.answers(failing, status=503)
        assert samples[1:] == [("failed", 1.0)]
