"""What may be sent twice, to whom and how often: the classes A to D, and what a retry never does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lbproxy.balancing.backend import Backend
from lbproxy.errors import TryError
from lbproxy.model_http import HttpRouteSettings
from lbproxy.session.phases import ANSWER, CONNECT, DATA, OVER, QUEUE
from lbproxy.session.repeating import REPLAY_BYTES, Replay, pause_before
from tests.session.http_fakes import Talk

OPTED_IN = HttpRouteSettings(retry_idempotent=True)
WITH_KEY = HttpRouteSettings(retry_idempotent=True, idempotency_key=True)
IDEMPOTENT = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]
OTHERS = ["POST", "PATCH", "LOCK", "MKCOL"]
# Class A, but for our own lack of descriptors.
NOTHING_SENT = [
    TryError.REFUSED,
    TryError.UNREACHABLE,
    TryError.TIMEOUT,
    TryError.DNS,
    TryError.TLS,
    TryError.TLS_TIMEOUT,
]


def classes(talk: Talk) -> list[tuple[str, str, bool]]:
    """Backend, class and use of the tries in the last record."""
    return [(one.backend, one.klass, one.reused) for one in talk.records[-1].tries or []]


def executions(talk: Talk, exchange: Any) -> list[str]:
    """The backends that this request has been sent to."""
    return [name for name, _, one in talk.asked if one is exchange]


class TestClassA:
    @pytest.mark.parametrize("error", NOTHING_SENT)
    def test_a_request_of_any_method_goes_to_another_backend_at_once(self, error: TryError) -> None:
        talk = Talk()
        exchange = talk.asks(method="POST", length=5)
        talk.did()
        talk.refuses(exchange, error)
        assert talk.did() == ["dial b"]
        exchange.connected()
        talk.sends(exchange, b"12345", last=True)
        talk.ok(exchange)
        assert executions(talk, exchange) == ["b"]
        assert classes(talk)[0] == ("a", "A", False)
        assert talk.records[0].retries == 1
        assert talk.records[0].backend == "b"
        assert talk.pool.backends["a"].failures_total == 1
        assert talk.http_factory.avoided == ["a"]
        talk.check_clean()

    def test_our_own_lack_of_descriptors_is_not_the_backends_fault(self) -> None:
        talk = Talk()
        exchange = talk.asks()
        talk.refuses(exchange, TryError.LOCAL)
        assert talk.pool.backends["a"].failures_total == 0
        assert exchange.backend is talk.pool.backends["b"]

    @pytest.mark.parametrize(
        ("error", "status", "outcome", "state"),
        [
            (TryError.REFUSED, 502, "refused", "SC"),
            (TryError.UNREACHABLE, 502, "refused", "SC"),
            (TryError.TIMEOUT, 504, "connect_timeout", "sC"),
            (TryError.DNS, 503, "dns", "SC"),
            (TryError.TLS, 502, "backend_tls", "SC"),
            (TryError.TLS_TIMEOUT, 504, "connect_timeout", "sC"),
            (TryError.LOCAL, 503, "local_resource", "RC"),
        ],
    )
    def test_after_three_tries_the_last_error_is_the_answer(
        self, error: TryError, status: int, outcome: str, state: str
    ) -> None:
        talk = Talk("a b c d")
        exchange = talk.asks()
        for _ in range(3):
            talk.refuses(exchange, error)
        assert talk.did()[-3:] == [f"client!{status}", f"record {outcome}", "client.next"]
        assert talk.records[0].state == state + "--"
        assert [one[0] for one in classes(talk)] == ["a", "b", "c"]
        talk.check_clean()

    def test_no_backend_is_tried_twice(self) -> None:
        talk = Talk("a b")
        exchange = talk.asks()
        talk.refuses(exchange)
        talk.refuses(exchange)
        assert [name for name, _, _ in classes(talk)] == ["a", "b"]
        assert talk.records[0].outcome == "refused", "the last error decides, not that nobody is left"
        talk.check_clean()

    def test_errors_that_come_before_the_dial_returns_lead_on_as_well(self) -> None:
        talk = Talk()
        talk.http_factory.at_once = {"a": TryError.REFUSED, "b": TryError.UNREACHABLE}
        exchange = talk.asks()
        assert talk.did() == ["dial a", "dial b", "dial c"]
        exchange.connected()
        talk.ok(exchange)
        talk.check_clean()

    def test_no_try_begins_after_the_window(self) -> None:
        talk = Talk(timeouts={"connect": 60})
        exchange = talk.asks()
        talk.passes(10)
        talk.refuses(exchange)
        assert talk.records[0].outcome == "refused"
        talk.check_clean()

    def test_within_the_window_one_does(self) -> None:
        talk = Talk(timeouts={"connect": 60})
        exchange = talk.asks()
        talk.passes(9.9)
        talk.refuses(exchange)
        assert exchange.backend is talk.pool.backends["b"]

    def test_a_retry_may_have_to_wait_and_the_window_holds_for_it_too(self) -> None:
        talk = Talk("a b", max_active=1, timeouts={"try_window": 3})
        other = talk.busy("a")
        talk.busy("b")
        talk.pool.give_back(other, talk.now)
        exchange = talk.asks()
        talk.refuses(exchange)
        assert exchange.phase == QUEUE
        talk.passes(4)
        talk.pool.give_back(talk.pool.backends["b"], talk.now)
        assert talk.records[0].outcome == "refused"
        talk.check_clean()

    def test_a_fresh_connection_that_is_closed_before_the_request_is_written_has_sent_nothing(self) -> None:
        talk = Talk()
        exchange = talk.asks(method="POST", length=5)
        talk.side(exchange).is_dead = True
        exchange.connected()
        assert talk.did() == ["dial a", "a.dead", "dial b"]
        exchange.connected()
        talk.sends(exchange, b"12345", last=True)
        talk.ok(exchange)
        assert classes(talk)[0] == ("a", "A", False)
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()


class TestClassABeyondTheBudget:
    def spend(self, talk: Talk) -> None:
        for _ in range(3):
            talk.pool.retry_began()
        assert not talk.pool.may_retry()

    def free(self, talk: Talk) -> None:
        for _ in range(3):
            talk.pool.retry_ended()

    def test_nothing_was_sent_so_it_waits_for_its_turn(self) -> None:
        talk = Talk()
        exchange = talk.asks(method="POST", length=5)
        talk.did()
        self.spend(talk)
        talk.refuses(exchange)
        assert talk.did() == []
        assert talk.pool.active == 0, "nothing is held while it waits"
        talk.passes(1)
        assert talk.did() == []
        self.free(talk)
        talk.passes(1)
        assert talk.did() == ["dial b"]
        exchange.connected()
        talk.sends(exchange, b"12345", last=True)
        talk.ok(exchange)
        talk.check_clean()

    def test_one_that_had_connected_waits_too(self) -> None:
        talk = Talk()
        exchange = talk.asks(method="POST", length=5)
        self.spend(talk)
        talk.side(exchange).is_dead = True
        exchange.connected()
        self.free(talk)
        talk.passes(1)
        assert exchange.phase == CONNECT
        assert exchange.backend is talk.pool.backends["b"]
        exchange.connected()
        talk.sends(exchange, b"12345", last=True)
        talk.ok(exchange)
        talk.check_clean()

    def test_when_the_window_is_over_the_last_error_is_the_answer(self) -> None:
        talk = Talk(timeouts={"try_window": 3})
        exchange = talk.asks()
        self.spend(talk)
        talk.refuses(exchange)
        talk.passes(2.5)
        assert exchange.phase == CONNECT
        talk.passes(2)
        assert talk.records[0].outcome == "refused"
        self.free(talk)
        talk.check_clean()

    def test_a_client_that_leaves_meanwhile_is_forgotten(self) -> None:
        talk = Talk()
        exchange = talk.asks()
        self.spend(talk)
        talk.refuses(exchange)
        talk.leaves(exchange.conversation)
        self.free(talk)
        talk.did()
        talk.passes(20)
        assert talk.did() == []
        assert talk.records[0].state == "CC--"
        talk.check_over()


class TestClassB:
    @pytest.mark.parametrize("method", IDEMPOTENT)
    def test_a_connection_that_served_before_and_dies_without_a_byte_is_replaced_once(self, method: str) -> None:
        talk = Talk()
        exchange = talk.reused(method=method)
        talk.loses(exchange)
        assert talk.did() == ["dial a"], "the same backend, a fresh connection, at once"
        assert not exchange.reused
        exchange.connected()
        talk.ok(exchange)
        assert executions(talk, exchange) == ["a", "a"]
        assert classes(talk)[0] == ("a", "B", True)
        assert talk.records[-1].retries == 1
        assert talk.pool.backends["a"].failures_total == 0, "nobody is to blame"
        talk.check_clean()

    def test_it_takes_none_of_the_budget(self) -> None:
        talk = Talk()
        exchange = talk.reused()
        for _ in range(3):
            talk.pool.retry_began()
        assert not talk.pool.may_retry()
        talk.loses(exchange)
        assert talk.did() == ["dial a"]
        for _ in range(3):
            talk.pool.retry_ended()

    def test_a_second_one_is_not(self) -> None:
        talk = Talk()
        exchange = talk.reused()
        talk.loses(exchange)
        exchange.connected()
        talk.did()
        talk.loses(exchange)
        assert talk.did() == ["client!502", "record backend_closed", "client.next"]
        assert classes(talk) == [("a", "B", True), ("a", "C", False)]
        assert talk.pool.backends["a"].failures_total == 1, "of the fresh connection it is the backend's failure"
        talk.check_clean()

    @pytest.mark.parametrize("method", OTHERS)
    def test_a_request_that_may_not_happen_twice_is_502(self, method: str) -> None:
        talk = Talk()
        exchange = talk.reused(method=method)
        talk.loses(exchange)
        assert talk.did() == ["client!502", "record backend_closed", "client.next"]
        assert executions(talk, exchange) == ["a"]
        assert classes(talk) == [("a", "B", True)]
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_clean()

    def test_one_that_was_never_written_may_be_of_any_method(self) -> None:
        talk = Talk()
        first = talk.asked_and_sent()
        talk.ok(first)
        talk.http_factory.idle["a"][0].is_dead = True
        exchange = talk.asks(first.conversation, method="POST", length=5)
        assert talk.did()[-3:] == ["reuse a", "a.dead", "dial a"]
        exchange.connected()
        talk.sends(exchange, b"12345", last=True)
        assert talk.side(exchange).body == b"12345"
        talk.ok(exchange)
        assert executions(talk, exchange) == ["a"]
        talk.check_clean()

    def test_a_byte_of_an_answer_makes_it_class_d(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.reused()
        talk.side(exchange).bytes_in = 1
        talk.loses(exchange)
        assert talk.did() == ["client!502", "record backend_closed", "client.next"]
        assert classes(talk) == [("a", "D", True)]
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()

    def test_what_cannot_be_sent_twice_goes_on_a_connection_used_just_now(self) -> None:
        talk = Talk()
        first = talk.asked_and_sent()
        talk.ok(first)
        talk.passes(0.9)
        exchange = talk.asks(first.conversation, method="POST")
        assert exchange.reused
        talk.ok(exchange)
        talk.passes(1)
        exchange = talk.asks(first.conversation, method="POST")
        assert exchange.phase == CONNECT
        assert not exchange.reused

    @pytest.mark.parametrize("parts", [{"chunked": True}, {"length": REPLAY_BYTES + 1}])
    def test_nor_does_what_may_be_too_long_to_be_kept(self, parts: dict[str, Any]) -> None:
        talk = Talk()
        first = talk.asked_and_sent()
        talk.ok(first)
        talk.passes(1.5)
        assert not talk.asks(first.conversation, method="PUT", **parts).reused

    def test_what_can_goes_on_any(self) -> None:
        talk = Talk()
        first = talk.asked_and_sent()
        talk.ok(first)
        talk.passes(3)
        assert talk.asks(first.conversation).reused

    def test_it_is_once_for_the_fresh_connection_even_if_that_is_refused(self) -> None:
        talk = Talk()
        exchange = talk.reused()
        talk.loses(exchange)
        talk.did()
        talk.refuses(exchange)
        assert talk.did() == ["dial b"], "then nothing was sent, and another backend may be asked"
        exchange.connected()
        talk.ok(exchange)
        assert [(name, klass) for name, klass, _ in classes(talk)[:2]] == [("a", "B"), ("a", "A")]
        talk.check_clean()

    def test_after_one_no_further_connection_of_doubtful_life_is_used(self) -> None:
        talk = Talk()
        client = talk.accept()
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        talk.ok(talk.asked_and_sent(client))
        talk.pool.set_admin(talk.pool.backends["a"], "ready", talk.now)
        talk.ok(talk.asked_and_sent(client))
        talk.passes(2)
        exchange = talk.asks(client)
        assert exchange.reused
        talk.loses(exchange)
        talk.did()
        talk.refuses(exchange)
        assert talk.did() == ["b.close", "dial b"], "that of b has been idle for too long to be sure"

    def test_a_connection_reused_for_a_retry_is_told_apart(self) -> None:
        talk = Talk(route=OPTED_IN)
        client = talk.accept()
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        talk.ok(talk.asked_and_sent(client))
        talk.pool.set_admin(talk.pool.backends["a"], "ready", talk.now)
        exchange = talk.asks(client)
        talk.refuses(exchange)
        assert exchange.reused, "that of b was waiting"
        talk.loses(exchange)
        exchange.connected()
        talk.ok(exchange)
        assert [(name, klass) for name, klass, _ in classes(talk)[:2]] == [("a", "A"), ("b", "B")]
        talk.check_clean()


class TestClassC:
    def test_a_fresh_connection_that_dies_is_502_unless_the_route_opts_in(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        assert talk.did() == ["client!502", "record backend_closed", "client.next"]
        assert classes(talk) == [("a", "C", False)]
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()

    @pytest.mark.parametrize("method", IDEMPOTENT)
    def test_where_it_does_another_backend_is_asked_after_a_pause(self, method: str) -> None:
        talk = Talk(route=OPTED_IN)
        talk.dice = [0.9]
        exchange = talk.asked_and_sent(method=method)
        talk.loses(exchange)
        assert talk.did() == []
        assert exchange.resume_at == pytest.approx(talk.now + 0.9 * 0.025)
        assert talk.pool.active == 0, "nothing is held in a pause"
        talk.passes(0.1)
        assert talk.did() == ["dial b"]
        exchange.connected()
        assert talk.pool.retries == 1
        talk.ok(exchange)
        assert executions(talk, exchange) == ["a", "b"]
        assert classes(talk)[0] == ("a", "C", False)
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()

    @pytest.mark.parametrize("method", OTHERS)
    def test_what_may_not_happen_twice_does_not(self, method: str) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(method=method)
        talk.loses(exchange)
        assert executions(talk, exchange) == ["a"]
        assert talk.records[0].outcome == "backend_closed"

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_a_key_makes_a_post_safe_where_the_route_says_so(self, method: str) -> None:
        talk = Talk(route=WITH_KEY)
        exchange = talk.asked_and_sent(method=method, fields="Idempotency-Key: 7")
        talk.loses(exchange)
        talk.passes(0.1)
        assert exchange.phase == CONNECT

    @pytest.mark.parametrize(
        ("route", "method", "fields"),
        [
            (OPTED_IN, "POST", "Idempotency-Key: 7"),
            (WITH_KEY, "POST", ""),
            (WITH_KEY, "POST", "Idempotency-Key:"),
            (WITH_KEY, "LOCK", "Idempotency-Key: 7"),
        ],
    )
    def test_and_nothing_else_does(self, route: HttpRouteSettings, method: str, fields: str) -> None:
        talk = Talk(route=route)
        exchange = talk.asked_and_sent(method=method, fields=fields)
        talk.loses(exchange)
        assert exchange.phase == OVER

    def test_a_request_for_another_protocol_is_not_repeated(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: websocket")
        talk.loses(exchange)
        assert exchange.phase == OVER

    def test_an_upgrade_that_is_dropped_leaves_an_ordinary_request(self) -> None:
        """C9: what goes to the backend asks for nothing unusual, so it may be repeated like any other."""
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: foo")
        assert b"Upgrade" not in talk.side(exchange).asked
        talk.loses(exchange)
        assert exchange.phase == CONNECT

    def test_nobody_answers_within_the_deadline_is_class_c_too(self) -> None:
        talk = Talk(route=OPTED_IN, timeouts={"response_head": 3})
        exchange = talk.asked_and_sent()
        talk.passes(3.2)
        assert talk.did() == ["a.abandon", "dial b"]
        exchange.connected()
        talk.ok(exchange)
        assert talk.records[0].tries is not None
        assert talk.records[0].tries[0].error == "response_timeout"
        talk.check_clean()

    def test_each_try_has_a_time_of_its_own(self) -> None:
        talk = Talk(route=OPTED_IN)
        talk.dice = [0.0]
        exchange = talk.asks()
        talk.passes(0.5)
        exchange.connected()
        talk.passes(1)
        talk.loses(exchange)
        talk.passes(0.1)
        talk.passes(0.25)
        talk.refuses(exchange)
        talk.passes(2)
        exchange.connected()
        talk.ok(exchange)
        tries = talk.records[0].tries
        assert tries is not None
        assert [one.klass for one in tries] == ["C", "A", "A"]
        assert [one.ms for one in tries] == pytest.approx([1500, 350, 2000], abs=101)
        assert talk.records[0].t_connect_ms == pytest.approx(2000, abs=1)

    def test_a_client_that_leaves_in_the_pause_was_connected_with_nobody(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        talk.leaves(exchange.conversation)
        assert talk.records[0].t_connect_ms == -1

    def test_three_tries_are_all(self) -> None:
        talk = Talk("a b c d", route=OPTED_IN)
        exchange = talk.asked_and_sent()
        for _ in range(2):
            talk.loses(exchange)
            talk.passes(0.3)
            exchange.connected()
        talk.did()
        talk.loses(exchange)
        assert talk.did() == ["client!502", "record backend_closed", "client.next"]
        assert executions(talk, exchange) == ["a", "b", "c"]
        assert talk.records[0].retries == 2
        talk.check_clean()

    def test_none_begins_after_the_window(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.passes(10)
        talk.loses(exchange)
        assert exchange.phase == OVER

    def test_a_budget_that_is_used_up_makes_the_last_error_the_answer(self) -> None:
        talk = Talk(route=OPTED_IN)
        under_way = [talk.asked_and_sent() for _ in range(4)]
        for exchange in under_way:
            talk.loses(exchange)
        assert [exchange.phase for exchange in under_way] == [CONNECT, CONNECT, CONNECT, OVER]
        assert talk.records[0].outcome == "backend_closed"
        talk.passes(0.1)
        for exchange in under_way[:3]:
            exchange.connected()
            assert exchange.backend is talk.pool.backends["b"]
            talk.ok(exchange)
        talk.check_clean()

    def test_a_further_try_of_the_same_request_takes_no_second_place_of_the_budget(self) -> None:
        talk = Talk(route=OPTED_IN)
        for _ in range(2):
            talk.pool.retry_began()
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        talk.passes(0.1)
        exchange.connected()
        assert talk.pool.retries == 3
        talk.loses(exchange)
        assert exchange.phase == CONNECT
        assert talk.pool.retries == 3
        for _ in range(2):
            talk.pool.retry_ended()

    def test_the_budget_is_free_once_the_answer_has_begun(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        talk.passes(0.1)
        exchange.connected()
        talk.answers(exchange)
        assert talk.pool.retries == 0

    def test_a_client_that_leaves_in_the_pause_takes_no_part_in_what_follows(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        talk.leaves(exchange.conversation)
        talk.did()
        talk.passes(1)
        assert talk.did() == []
        talk.check_over()

    def test_nobody_is_left_to_be_asked(self) -> None:
        talk = Talk("a", route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        talk.passes(0.1)
        assert talk.records[0].outcome == "backend_closed"
        assert talk.records[0].status == 502
        talk.check_clean()

    @pytest.mark.parametrize(
        ("retry", "bound"), [(1, 0.025), (2, 0.075), (3, 0.175), (4, 0.25), (9, 0.25), (2000, 0.25)]
    )
    def test_the_pause_is_random_up_to_a_bound_that_doubles(self, retry: int, bound: float) -> None:
        assert pause_before(retry, 0.0) == 0.0
        assert pause_before(retry, 0.999999) == pytest.approx(bound, rel=1e-3)
        chances = random.Random(3)
        assert all(0 <= pause_before(retry, chances.random()) <= bound for _ in range(50))


class TestClassD:
    def test_an_answer_that_has_begun_is_never_asked_for_again(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        talk.loses(exchange)
        assert talk.records[0].outcome == "backend_cut"
        assert executions(talk, exchange) == ["a"]

    def test_an_interim_answer_is_a_byte_of_an_answer(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.reused(method="PUT", length=3, fields="Expect: 100-continue")
        talk.answers(exchange, status=100)
        talk.loses(exchange)
        assert exchange.phase == OVER
        assert executions(talk, exchange) == ["a"]
        assert classes(talk) == [("a", "D", True)]

    def test_what_is_no_answer_is_not_asked_for_again(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent()
        talk.side(exchange).bytes_in = 8
        exchange.unanswered(TryError.NONSENSE)
        assert exchange.phase == OVER
        assert classes(talk) == [("a", "D", False)]


class TestBodiesThatAreSentAgain:
    BODY = random.Random(5).randbytes(REPLAY_BYTES)

    def test_all_that_was_sent_goes_again_and_then_the_rest(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(method="PUT", length=len(self.BODY))
        talk.sends(exchange, self.BODY[:1000])
        talk.sends(exchange, self.BODY[1000:3000])
        talk.loses(exchange)
        talk.sends(exchange, self.BODY[3000:5000])
        talk.passes(0.1)
        talk.did()
        exchange.connected()
        assert talk.did() == ["b.ask PUT /", "client>b 3000 again"]
        talk.sends(exchange, self.BODY[5000:], last=True)
        assert talk.side(exchange).body == self.BODY
        talk.ok(exchange)
        talk.check_clean()

    def test_a_body_that_came_whole_in_the_meantime_is_sent_whole(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(method="PUT", length=10)
        talk.sends(exchange, b"01234")
        talk.loses(exchange)
        talk.sends(exchange, b"56789", last=True)
        talk.passes(0.1)
        exchange.connected()
        side = talk.side(exchange)
        assert (side.body, side.body_ended) == (b"0123456789", True)
        assert exchange.sent_at == talk.now

    def test_the_head_deadline_begins_anew(self) -> None:
        talk = Talk(route=OPTED_IN, timeouts={"response_head": 5})
        exchange = talk.asked_and_sent(method="PUT", length=5)
        talk.sends(exchange, b"01234", last=True)
        talk.passes(4)
        talk.loses(exchange)
        talk.passes(0.1)
        exchange.connected()
        talk.passes(4)
        assert exchange.phase == ANSWER

    @pytest.mark.parametrize(("size", "again"), [(65_536, True), (65_537, False)])
    def test_a_body_is_kept_up_to_64_kib(self, size: int, again: bool) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(method="PUT", length=size)
        body = self.BODY + b"x" * (size - len(self.BODY))
        for start in range(0, size, 9000):
            talk.sends(exchange, body[start : start + 9000], last=start + 9000 >= size)
        talk.loses(exchange)
        talk.passes(0.1)
        if not again:
            assert exchange.phase == OVER
            assert (talk.records[0].outcome, executions(talk, exchange)) == ("backend_closed", ["a"])
            return
        exchange.connected()
        assert talk.side(exchange).body == body

    def test_class_b_sends_the_body_again_too(self) -> None:
        talk = Talk()
        exchange = talk.reused(method="PUT", length=5)
        talk.sends(exchange, b"012")
        talk.loses(exchange)
        exchange.connected()
        talk.sends(exchange, b"34", last=True)
        assert talk.side(exchange).body == b"01234"

    def test_beyond_the_bound_class_b_is_class_d(self) -> None:
        talk = Talk()
        exchange = talk.reused(method="PUT", length=REPLAY_BYTES * 2)
        talk.sends(exchange, bytes(REPLAY_BYTES + 1))
        talk.loses(exchange)
        assert exchange.phase == OVER
        assert executions(talk, exchange) == ["a"]
        assert talk.pool.backends["a"].failures_total == 0

    def test_a_long_body_does_not_keep_class_a_from_being_tried(self) -> None:
        talk = Talk()
        exchange = talk.asks(method="PUT", length=REPLAY_BYTES * 4)
        talk.sends(exchange, bytes(REPLAY_BYTES + 1))
        talk.refuses(exchange)
        exchange.connected()
        assert talk.side(exchange).body == bytes(REPLAY_BYTES + 1)

    def test_a_body_of_a_post_is_not_kept(self) -> None:
        talk = Talk(route=OPTED_IN)
        exchange = talk.asked_and_sent(method="POST", length=5)
        assert exchange.replay is None

    def test_nothing_is_kept_once_something_had_to_be_dropped(self) -> None:
        replay = Replay()
        replay.add(bytes(REPLAY_BYTES))
        assert (replay.complete, len(replay.data)) == (True, REPLAY_BYTES)
        replay.add(b"x")
        assert (replay.complete, len(replay.data)) == (False, 0)
        replay.add(memoryview(b"y"))
        assert (replay.complete, len(replay.data)) == (False, 0)


class TestStatusesThatAreTriedAgain:
    ROUTE = HttpRouteSettings(retry_statuses=(503, 429))

    def test_another_backend_is_asked_and_the_first_answer_is_never_seen(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.asked_and_sent()
        talk.answers(exchange, status=503)
        assert talk.did() == ["a.abandon"]
        talk.passes(0.1)
        exchange.connected()
        talk.ok(exchange)
        assert talk.did() == ["dial b", "b.ask GET /", "client<200", "record ok", "client.next"]
        record = talk.records[0]
        assert (record.status, record.backend, record.retries) == (200, "b", 1)
        assert record.tries is not None
        assert [one.error for one in record.tries] == ["status", None]
        assert talk.pool.backends["a"].failures_total == 1
        assert talk.pool.backends["b"].failures_total == 0
        talk.check_clean()

    def test_the_last_of_them_is_the_answer(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.asked_and_sent()
        for _ in range(2):
            talk.answers(exchange, status=429)
            talk.passes(0.1)
            exchange.connected()
        talk.did()
        talk.ok(exchange, status=429)
        assert talk.did() == ["client<429", "record ok", "client.next"]
        assert executions(talk, exchange) == ["a", "b", "c"]
        assert [backend.failures_total for backend in talk.pool.backends.values()] == [0, 0, 0]
        talk.check_clean()

    def test_the_next_backend_is_judged_by_itself(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.asked_and_sent()
        talk.answers(exchange, status=503)
        talk.passes(0.1)
        exchange.connected()
        talk.answers(exchange)
        talk.loses(exchange)
        assert [backend.failures_total for backend in talk.pool.backends.values()] == [1, 1, 0]

    def test_other_statuses_are_answers(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.asked_and_sent()
        talk.answers(exchange, status=500)
        assert exchange.phase == DATA
        assert talk.did() == ["client<500"]

    def test_what_may_not_happen_twice_gets_the_first_answer(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.asked_and_sent(method="POST")
        talk.ok(exchange, status=503)
        assert executions(talk, exchange) == ["a"]
        assert talk.records[0].status == 503

    def test_without_another_backend_it_is_the_answer(self) -> None:
        talk = Talk("a", route=self.ROUTE)
        exchange = talk.asked_and_sent()
        talk.ok(exchange, status=503)
        assert talk.did() == ["client<503", "record ok", "client.next"]
        talk.check_clean()

    def test_a_backend_that_is_gone_after_the_pause_makes_it_503_of_ours(self) -> None:
        talk = Talk("a b", route=self.ROUTE)
        exchange = talk.asked_and_sent()
        talk.answers(exchange, status=503)
        talk.pool.set_admin(talk.pool.backends["b"], "maint", talk.now)
        talk.passes(0.1)
        assert talk.did() == ["a.abandon", "client!503", "record no_backend", "client.next"]
        talk.check_clean()

    def test_one_that_is_found_full_after_the_pause_is_waited_for(self) -> None:
        talk = Talk("a b", route=self.ROUTE, max_active=1)
        exchange = talk.asked_and_sent()
        other = talk.busy("b")
        talk.answers(exchange, status=503)
        talk.passes(0.1)
        assert exchange.phase == QUEUE
        talk.passes(6)
        assert talk.did() == ["a.abandon", "client!503", "record queue_timeout", "client.next"]
        talk.pool.give_back(other, talk.now)
        talk.check_clean()

    def test_an_early_answer_of_this_kind_loses_no_byte_of_the_body(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.asked_and_sent(method="PUT", length=200_000)
        body = random.Random(6).randbytes(200_000)
        talk.sends(exchange, body[:1000])
        talk.answers(exchange, status=503)
        talk.sends(exchange, body[1000:100_000])
        talk.passes(0.1)
        exchange.connected()
        talk.sends(exchange, body[100_000:], last=True)
        assert talk.side(exchange).body == body
        talk.ok(exchange)
        talk.check_clean()

    def test_a_connection_that_served_before_and_now_says_so_is_no_class_b(self) -> None:
        talk = Talk(route=self.ROUTE)
        exchange = talk.reused()
        talk.answers(exchange, status=503)
        talk.passes(0.1)
        exchange.connected()
        talk.ok(exchange)
        assert [(name, klass) for name, klass, _ in classes(talk)[:1]] == [("a", "C")]
        talk.check_clean()


class TestABackendThatIsRemovedMeanwhile:
    def test_its_lease_is_given_back_all_the_same(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        gone: Backend = talk.pool.backends["a"]
        talk.pool.reconfigure(talk.pool.settings.__class__("web", talk.pool.settings.backends[1:]), talk.now)
        talk.ok(exchange)
        assert gone.active == 0
        talk.check_clean()
