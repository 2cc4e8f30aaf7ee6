"""What happens to a client and what the relay does about it, in order."""

from __future__ import annotations

import pytest

from lbproxy import errors
from lbproxy.errors import TryError
from lbproxy.model import SendProxySettings
from lbproxy.session.phases import CONNECT, DATA, ENDING, HEADER, OVER, QUEUE
from tests.session.session_fakes import PEER, Conversation, route_with

END = ["left 192.0.2.7"]


class TestAnOrdinarySession:
    def test_a_client_is_joined_with_the_backend_that_takes_the_connection(self) -> None:
        talk = Conversation()
        session = talk.accept()
        assert talk.did() == ["client.read", "dial a"]
        session.connected()
        assert talk.did() == ["client+a"]

    def test_both_ends_close_after_the_last_byte(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.ends(session, talk.client(session))
        assert talk.did() == ["a.finish"]
        talk.ends(session, talk.side(session))
        assert talk.did() == ["client.close", "a.close", *END, "record ok"]
        talk.check_clean()

    def test_a_client_that_half_closes_gets_the_whole_answer(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.ends(session, talk.client(session))
        assert talk.did() == ["a.finish"]
        talk.answers(session, 5000)
        talk.passes(30)
        talk.answers(session, 5000)
        assert talk.did() == []
        assert session.phase == DATA
        talk.ends(session, talk.side(session))
        assert talk.records[0].bytes_out == 10000
        assert talk.records[0].outcome == "ok"

    def test_a_backend_that_half_closes_still_gets_what_the_client_sends(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.ends(session, talk.side(session))
        assert talk.did() == ["client.finish"]
        talk.asks(session, 700)
        talk.ends(session, talk.client(session))
        assert talk.did()[-1] == "record ok"
        assert talk.records[0].bytes_in == 700

    def test_the_end_waits_for_what_a_side_still_holds(self) -> None:
        talk = Conversation()
        session = talk.joined()
        client, side = talk.client(session), talk.side(session)
        talk.answers(session, 5000)
        talk.stalls(session, client)
        talk.ends(session, client)
        talk.ends(session, side)
        assert talk.did() == ["a.finish", "client.finish"], "FIN goes behind the data"
        assert session.phase == DATA
        talk.drains(session, client)
        assert talk.did() == ["client.close", "a.close", *END, "record ok"]

    def test_fin_is_passed_on_once(self) -> None:
        talk = Conversation()
        session = talk.joined()
        client, side = talk.client(session), talk.side(session)
        talk.ends(session, client)
        talk.drains(session, side)
        talk.drains(session, client)
        assert side.finishes == 1

    def test_a_client_that_half_closed_before_it_was_joined_is_served(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.ends(session, talk.client(session))
        assert session.phase == CONNECT
        talk.did()
        session.connected()
        assert talk.did() == ["client+a", "a.finish"]
        talk.answers(session)
        talk.ends(session, talk.side(session))
        assert talk.did() == ["client.close", "a.close", *END, "record ok"]

    def test_a_backend_that_closes_in_order_without_a_word_is_no_failure(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.ends(session, talk.side(session))
        talk.ends(session, talk.client(session))
        assert talk.records[0].outcome == "ok"
        assert talk.pool.backends["a"].failures_total == 0


class TestAnotherBackend:
    def test_a_refused_try_goes_to_another_backend_at_once(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.did()
        talk.refuses(session)
        assert talk.did() == ["dial b"]
        session.connected()
        assert talk.did() == ["client+b"]
        assert [b.active for b in talk.pool.backends.values()] == [0, 1, 0]

    def test_a_reset_backend_before_any_byte_is_replaced_by_another(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.part", "dial b"]
        session.connected()
        assert talk.did() == ["client+b"]
        talk.answers(session)
        talk.ends(session, talk.client(session))
        talk.ends(session, talk.side(session))
        record = talk.records[0]
        assert (record.outcome, record.backend, record.retries) == ("ok", "b", 1)

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_reset_backend_after_a_byte_is_not_replaced(self, who: str) -> None:
        talk = Conversation()
        session = talk.joined()
        (talk.asks if who == "client" else talk.answers)(session, 1)
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.abort", *END, "record backend_cut"]
        assert talk.pool.backends["a"].failures_total == 1

    def test_a_reset_backend_is_not_replaced_for_a_client_that_sent_its_fin(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.ends(session, talk.client(session))
        talk.did()
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.abort", *END, "record backend_cut"]

    def test_bytes_that_came_before_the_connection_go_to_the_backend_that_takes_it(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.sends(session, b"GET ")
        talk.refuses(session)
        talk.sends(session, b"/")
        talk.did()
        session.connected()
        assert talk.did() == ["client+b b'GET /'"]

    def test_no_backend_is_tried_twice(self) -> None:
        talk = Conversation(tries=9)
        session = talk.accept()
        for _ in range(3):
            talk.refuses(session)
        assert talk.did() == ["client.read", "dial a", "dial b", "dial c", "client.close", *END, "record refused"]

    @pytest.mark.parametrize("tries", [1, 2, 3])
    def test_no_more_tries_than_configured(self, tries: int) -> None:
        talk = Conversation("a b c d e", tries=tries)
        session = talk.accept()
        for _ in range(tries):
            assert session.phase == CONNECT
            talk.refuses(session)
        assert session.phase == OVER
        assert [one for one in talk.did() if one.startswith("dial")] == ["dial a", "dial b", "dial c"][:tries]
        assert talk.records[0].retries == tries - 1
        talk.check_clean()

    def test_every_configured_try_is_made_also_when_a_reset_is_among_them(self) -> None:
        talk = Conversation("a b c d", tries=3)
        session = talk.accept()
        talk.refuses(session)
        session.connected()
        talk.loses(session, talk.side(session))
        assert [one for one in talk.did() if one.startswith("dial")] == ["dial a", "dial b", "dial c"]

    def test_a_backend_that_connected_and_reset_is_one_try_in_the_record(self) -> None:
        talk = Conversation("a b c d", tries=4)
        session = talk.accept()
        talk.refuses(session)
        session.connected()
        talk.loses(session, talk.side(session))
        session.connected()
        talk.loses(session, talk.client(session))
        assert [(one.backend, one.error) for one in talk.records[0].tries] == [
            ("a", "refused"),
            ("b", "reset"),
            ("c", None),
        ]

    @pytest.mark.parametrize(
        ("last", "outcome"),
        [
            (TryError.REFUSED, "refused"),
            (TryError.UNREACHABLE, "refused"),
            (TryError.RESET, "refused"),
            (TryError.TIMEOUT, "connect_timeout"),
            (TryError.DNS, "dns"),
            (TryError.LOCAL, "local_resource"),
        ],
    )
    def test_the_last_error_decides_the_outcome(self, last: TryError, outcome: str) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.refuses(session, TryError.REFUSED)
        talk.refuses(session, TryError.DNS)
        talk.refuses(session, last)
        assert talk.records[0].outcome == outcome
        assert [one.error for one in talk.records[0].tries] == ["refused", "dns", last.value]

    def test_the_last_error_also_decides_when_no_other_backend_is_left(self) -> None:
        talk = Conversation("a", tries=3)
        session = talk.accept()
        talk.refuses(session, TryError.TIMEOUT)
        assert talk.records[0].outcome == "connect_timeout"

    def test_no_try_after_the_window(self) -> None:
        talk = Conversation(tries=9, timeouts={"try_window": 10.0, "connect": 30.0})
        session = talk.accept()
        talk.passes(9.9)
        talk.refuses(session)
        assert session.phase == CONNECT
        talk.passes(0.2)
        talk.did()
        talk.refuses(session)
        assert talk.did() == ["client.close", *END, "record refused"]

    def test_the_window_opens_with_the_first_try_not_with_the_wait_for_it(self) -> None:
        talk = Conversation("a b", max_active=1, timeouts={"try_window": 4.0})
        mine, other = talk.busy("a"), talk.busy("b")
        session = talk.accept()
        assert session.phase == QUEUE
        talk.passes(4.5)
        talk.pool.give_back(mine, talk.now)
        talk.pool.give_back(other, talk.now)
        assert session.phase == CONNECT
        talk.did()
        talk.refuses(session)
        assert talk.did() == ["dial b"], "semantics.md, section 1: the window runs from the start of the first try"

    def test_no_try_after_the_window_for_a_client_that_waited_between_two(self) -> None:
        talk = Conversation("a b", max_active=1, timeouts={"try_window": 3.0})
        other = talk.busy("b")
        session = talk.accept()
        talk.passes(2.9)
        talk.refuses(session)
        assert session.phase == QUEUE
        talk.did()
        talk.passes(4.0)
        talk.pool.give_back(other, talk.now)
        assert not [one for one in talk.did() if one.startswith("dial")], "a try began 6.9 s after the first one"

    def test_a_reset_before_any_byte_is_a_try_within_the_window_only(self) -> None:
        talk = Conversation(timeouts={"try_window": 3.0, "tunnel_idle": 60.0})
        early, late = talk.joined(), talk.joined()
        talk.passes(2.9)
        talk.loses(early, talk.side(early))
        assert talk.did() == ["client.part", "dial b"]
        talk.passes(0.2)
        talk.loses(late, talk.side(late))
        assert talk.did() == ["client.abort", *END, "record backend_cut"], "not a FIN: nobody said that it was all"
        assert late.phase == OVER
        early.kill(errors.KILLED_BY_OPERATOR)
        talk.check_clean()

    def test_a_reset_before_any_byte_is_backend_cut_when_no_try_is_left(self) -> None:
        talk = Conversation(tries=2)
        session = talk.accept()
        talk.refuses(session)
        session.connected()
        talk.did()
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.abort", *END, "record backend_cut"]
        talk.check_clean()

    def test_a_reset_before_any_byte_is_backend_cut_when_one_try_is_all(self) -> None:
        talk = Conversation(tries=1)
        session = talk.joined()
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.abort", *END, "record backend_cut"]
        talk.check_clean()

    def test_a_try_that_was_reset_took_as_long_as_its_connect(self) -> None:
        talk = Conversation(timeouts={"try_window": 10.0})
        session = talk.accept()
        talk.passes(0.3)
        session.connected()
        talk.passes(2.0)
        talk.loses(session, talk.side(session))
        session.connected()
        session.kill(errors.KILLED_BY_OPERATOR)
        assert [(one.backend, one.error, round(one.ms)) for one in talk.records[0].tries] == [
            ("a", "reset", 300),
            ("b", None, 0),
        ]
        talk.check_clean()

    def test_the_budget_stops_retries(self) -> None:
        talk = Conversation("a b c d", tries=4)
        sessions = [talk.accept() for _ in range(4)]
        for session in sessions[:3]:
            talk.refuses(session)
            assert session.retrying
        assert talk.pool.retries == 3
        talk.refuses(sessions[3])
        assert sessions[3].phase == OVER, "three of four sessions are retrying already"
        assert talk.records[0].outcome == "refused"

    def test_a_retry_that_connects_makes_room_in_the_budget(self) -> None:
        talk = Conversation("a b c d", tries=4)
        sessions = [talk.accept() for _ in range(4)]
        for session in sessions[:3]:
            talk.refuses(session)
        sessions[0].connected()
        assert talk.pool.retries == 2
        talk.refuses(sessions[3])
        assert sessions[3].phase == CONNECT
        for session in sessions:
            session.kill(errors.KILLED_BY_OPERATOR)
        talk.check_clean()

    def test_each_failure_counts_against_its_backend_but_not_our_own_shortage(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.refuses(session, TryError.LOCAL)
        talk.refuses(session, TryError.REFUSED)
        a, b, _ = talk.pool.backends.values()
        assert (a.connects_failed_total, b.connects_failed_total) == (0, 1)
        assert talk.factory.avoided == ["b"]

    def test_dials_that_fail_at_once_are_tries_like_any_other(self) -> None:
        talk = Conversation()
        talk.factory.at_once = {"a": TryError.DNS, "b": TryError.LOCAL, "c": TryError.UNREACHABLE}
        talk.accept()
        assert talk.did() == ["client.read", "dial a", "dial b", "dial c", "client.close", *END, "record refused"]
        talk.check_clean()

    def test_an_unusable_pool_ends_the_session(self) -> None:
        talk = Conversation("a")
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        talk.accept()
        assert talk.did() == ["client.read", "client.close", *END, "record no_backend"]


class TestTheQueue:
    def test_a_client_waits_while_all_are_full_and_is_served_in_turn(self) -> None:
        talk = Conversation("a", max_active=1)
        first, second = talk.accept(), talk.accept()
        assert (first.phase, second.phase) == (CONNECT, QUEUE)
        talk.did()
        talk.refuses(first)
        assert talk.did() == ["dial a", "client.close", *END, "record refused"]
        second.connected()
        assert second.phase == DATA

    def test_a_queued_client_that_leaves_is_forgotten(self) -> None:
        talk = Conversation("a", max_active=1)
        lease = talk.busy("a")
        session = talk.accept()
        talk.did()
        talk.loses(session, talk.client(session))
        assert talk.did() == [*END, "record client_gone"]
        talk.pool.give_back(lease, talk.now)
        assert talk.did() == [], "nobody waits any more"
        talk.check_clean()
        assert talk.records[0].state == "CQ--"

    def test_a_queued_client_that_half_closes_keeps_its_place(self) -> None:
        talk = Conversation("a", max_active=1)
        lease = talk.busy("a")
        session = talk.accept()
        talk.ends(session, talk.client(session))
        assert session.phase == QUEUE
        talk.pool.give_back(lease, talk.now)
        session.connected()
        assert talk.did()[-2:] == ["client+a", "a.finish"]

    def test_a_full_queue_turns_the_next_client_away(self) -> None:
        talk = Conversation("a", max_active=1, queue_size=1)
        talk.busy("a")
        talk.accept()
        talk.did()
        talk.accept()
        assert talk.did() == ["client.read", "client.close", *END, "record queue_full"]

    def test_the_queue_times_out(self) -> None:
        talk = Conversation("a", max_active=1, timeouts={"queue": 3.0})
        talk.busy("a")
        session = talk.accept()
        talk.passes(2.9)
        assert session.phase == QUEUE
        talk.passes(0.2)
        record = talk.records[0]
        assert (record.outcome, record.timer, record.state) == ("queue_timeout", "queue", "sQ--")
        assert record.t_queue_ms == pytest.approx(3000, abs=101)

    def test_the_record_tells_how_long_a_client_waited_before_it_left(self) -> None:
        talk = Conversation("a", max_active=1)
        talk.busy("a")
        session = talk.accept()
        talk.passes(2.0)
        talk.loses(session, talk.client(session))
        assert talk.records[0].t_queue_ms == pytest.approx(2000, abs=1)

    def test_the_queue_gives_up_when_no_usable_backend_is_left(self) -> None:
        talk = Conversation("a", max_active=1)
        talk.busy("a")
        talk.accept()
        talk.did()
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        assert talk.did() == ["client.close", *END, "record no_backend"]

    def test_a_pool_that_is_removed_sends_its_queue_away(self) -> None:
        talk = Conversation("a", max_active=1)
        talk.busy("a")
        talk.accept()
        talk.did()
        talk.pool.close(talk.now)
        assert talk.did() == ["client.close", *END, "record no_backend"]

    def test_a_granted_dial_that_fails_at_once_tries_another_backend(self) -> None:
        talk = Conversation("a b", max_active=1)
        mine, other = talk.busy("a"), talk.busy("b")
        session = talk.accept()
        assert session.phase == QUEUE
        talk.factory.at_once = {"a": TryError.DNS}
        talk.did()
        talk.pool.give_back(other, talk.now)
        assert talk.did() == ["dial b"]
        talk.refuses(session)
        assert session.phase == QUEUE, "the other one is merely full"
        talk.did()
        talk.pool.give_back(mine, talk.now)
        assert talk.did() == ["dial a", "client.close", *END, "record dns"]
        talk.check_clean()


class TestResets:
    def test_a_reset_client_resets_its_backend(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.asks(session)
        talk.loses(session, talk.client(session))
        assert talk.did() == ["a.abort", *END, "record client_gone"]
        assert talk.records[0].state == "CD--"
        assert talk.pool.backends["a"].failures_total == 0, "no fault of the backend"

    def test_a_client_that_is_reset_while_its_backend_is_dialled_ends_the_dial(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.did()
        talk.loses(session, talk.client(session))
        assert talk.did() == ["a.abort", *END, "record client_gone"]
        assert talk.records[0].state == "CC--"
        talk.check_clean()

    def test_a_reset_comes_after_what_is_on_its_way(self) -> None:
        talk = Conversation()
        session = talk.joined()
        client = talk.client(session)
        talk.answers(session, 9000)
        client.queued = 9000
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.stop_reading"]
        assert session.phase == ENDING
        talk.passes(0.5)
        assert session.phase == ENDING
        client.queued = 0
        talk.passes(0.3)
        assert talk.did() == ["client.abort", *END, "record backend_cut"]

    def test_what_is_on_its_way_gets_its_time_however_old_the_session_is(self) -> None:
        talk = Conversation(timeouts={"write_stall": 30.0})
        session = talk.joined()
        client = talk.client(session)
        for _ in range(10):
            talk.passes(20)
            talk.answers(session)
        client.queued = 9000  # a client far away; none of it was ever held by us
        talk.loses(session, talk.side(session))
        talk.passes(1.0)
        assert session.phase == ENDING, "cut after a moment, although the client may still be taking bytes"
        client.queued = 0
        talk.passes(0.3)
        assert session.phase == OVER

    def test_a_client_that_takes_nothing_more_is_not_waited_for_without_end(self) -> None:
        talk = Conversation(timeouts={"write_stall": 3.0})
        session = talk.joined()
        client = talk.client(session)
        talk.answers(session)
        talk.stalls(session, client)
        talk.loses(session, talk.side(session))
        talk.passes(2.5)
        assert session.phase == ENDING
        talk.passes(1.0)
        assert session.phase == OVER
        talk.check_clean()

    def test_the_lease_of_a_cut_backend_is_free_while_its_last_bytes_are_delivered(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.client(session).queued = 10
        talk.loses(session, talk.side(session))
        assert (session.phase, talk.pool.active) == (ENDING, 0)

    def test_the_first_loss_is_the_one_that_is_recorded(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.side(session).queued = 10
        talk.loses(session, talk.client(session))
        assert session.phase == ENDING
        talk.loses(session, talk.side(session))
        assert session.phase == OVER
        assert talk.records[0].outcome == "client_gone", "the client left first; the backend only answered to it"

    def test_a_client_that_leaves_while_the_last_bytes_of_a_cut_backend_come_does_not_take_the_blame(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.client(session).queued = 10
        talk.loses(session, talk.side(session))
        talk.loses(session, talk.client(session))
        assert talk.records[0].outcome == "backend_cut"

    def test_kill_resets_both_sides(self) -> None:
        talk = Conversation()
        session = talk.joined()
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.did() == ["client.abort", "a.abort", *END, "record killed"]
        talk.check_clean()

    def test_a_fault_of_ours_ends_this_session_only(self) -> None:
        talk = Conversation()
        session, other = talk.joined(), talk.joined()
        problem = ZeroDivisionError()
        session.broken(problem)
        assert talk.faults == [problem]
        assert talk.did() == ["client.abort", "a.abort", *END, "record internal"]
        assert other.phase == DATA


HEADER_1 = b"PROXY TCP4 192.0.2.99 198.51.100.2 5678 443\r\n"


class TestProxyHeaders:
    @pytest.mark.parametrize("cut", range(1, len(HEADER_1)))
    def test_a_header_in_two_parts_tells_the_client(self, cut: int) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        assert talk.did() == ["client.read"]
        talk.sends(session, HEADER_1[:cut])
        assert session.phase == HEADER
        assert talk.gate.inside == []
        talk.sends(session, HEADER_1[cut:])
        assert talk.did() == ["dial a"]
        assert (session.source, session.peer, session.local) == (("192.0.2.99", 5678), PEER, ("198.51.100.2", 443))
        assert talk.gate.inside == ["192.0.2.99"]
        session.connected()
        assert talk.did() == ["client+a"], "none of the header is the backend's"

    def test_a_header_byte_by_byte(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        for octet in HEADER_1 + b"hello":
            talk.sends(session, bytes([octet]))
        session.connected()
        assert talk.did() == ["client.read", "dial a", "client+a b'hello'"]

    @pytest.mark.parametrize("later", [b"", b" world"])
    def test_what_comes_with_the_header_goes_to_the_backend(self, later: bytes) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, HEADER_1 + b"hello")
        talk.sends(session, later)
        talk.did()
        session.connected()
        assert talk.did() == [f"client+a {b'hello' + later!r}"]

    def test_a_second_header_is_payload(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, HEADER_1 + HEADER_1)
        talk.did()
        session.connected()
        assert talk.did() == [f"client+a {HEADER_1!r}"]

    def test_a_header_that_names_nobody_leaves_the_socket_addresses(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, b"PROXY UNKNOWN\r\n")
        assert session.source == PEER
        assert talk.gate.inside == [PEER[0]]

    def test_bytes_that_are_no_header_close_the_connection_and_name_the_rule(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, b"GET / HTTP/1.1\r\n")
        assert talk.did() == ["client.read", "client.close", "left None", "record proxy_header"]
        record = talk.records[0]
        assert (record.state, record.rule, record.pool, record.t_queue_ms) == ("PR--", "P2", "", -1)

    def test_a_header_that_does_not_come_in_time(self) -> None:
        talk = Conversation()
        session = talk.accept(header=3.0)
        talk.passes(1.0)
        talk.sends(session, b"PROX")
        talk.passes(1.9)
        assert session.phase == HEADER
        talk.passes(0.3)
        assert talk.did() == ["client.read", "client.close", "left None", "record proxy_header_timeout"]
        assert talk.records[0].timer == "proxy_header"
        talk.check_clean()

    @pytest.mark.parametrize("reset", [False, True])
    def test_a_client_that_leaves_before_its_header(self, reset: bool) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.did()
        (talk.loses if reset else talk.ends)(session, talk.client(session))
        assert talk.did()[-2:] == ["left None", "record client_gone"]
        assert talk.records[0].state == "CR--"
        talk.check_clean()

    def test_admission_asks_for_the_client_of_the_header(self) -> None:
        talk = Conversation()
        talk.gate.refusals["192.0.2.99"] = errors.DENIED
        session = talk.accept(header=5.0)
        talk.sends(session, HEADER_1)
        assert talk.did() == ["client.read", "client.close", "left None", "record denied"]
        assert talk.records[0].client == "192.0.2.99:5678"
        assert session.backend is None

    def test_the_header_chooses_the_route(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, HEADER_1)
        assert talk.gate.asked_route == [("192.0.2.99", None, ())]

    def test_the_header_of_the_backend_comes_before_the_bytes_of_the_client(self) -> None:
        talk = Conversation(send_proxy=SendProxySettings(1))
        session = talk.accept()
        talk.sends(session, b"hello")
        talk.did()
        session.connected()
        assert talk.did() == ["client+a b'PROXY TCP4 192.0.2.7 198.51.100.1 40007 443\\r\\nhello'"]

    def test_every_backend_that_connects_gets_the_header(self) -> None:
        talk = Conversation(send_proxy=SendProxySettings(1))
        session = talk.accept()
        session.connected()
        talk.loses(session, talk.side(session))
        talk.did()
        session.connected()
        assert talk.did() == ["client+b b'PROXY TCP4 192.0.2.7 198.51.100.1 40007 443\\r\\n'"]

    def test_the_unique_id_of_the_header_is_that_of_the_record(self) -> None:
        talk = Conversation(send_proxy=SendProxySettings(2, ("unique_id", "crc32c")))
        session = talk.accept()
        talk.did()
        session.connected()
        assert "id1" in talk.did()[0]
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.records[0].id == "id1"

    def test_a_client_on_a_unix_socket_is_unknown_to_the_backend(self) -> None:
        talk = Conversation(send_proxy=SendProxySettings(1))
        session = talk.accept(peer=("", 0), local=("", 0))
        talk.did()
        session.connected()
        assert talk.did() == ["client+a b'PROXY UNKNOWN\\r\\n'"]


class TestRoutes:
    def test_a_client_whom_no_route_wants(self) -> None:
        talk = Conversation()
        talk.gate.routes = {None: None}
        talk.accept()
        assert talk.did() == ["client.close", *END, "record no_route"]
        talk.check_clean()

    def test_a_route_to_a_pool_that_a_reload_removed(self) -> None:
        talk = Conversation()
        talk.pools.clear()
        talk.accept()
        assert talk.did() == ["client.close", *END, "record no_route"]

    def test_a_session_keeps_its_pool_when_a_reload_removes_it(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.pools.clear()
        talk.pool.close(talk.now)
        talk.answers(session)
        talk.ends(session, talk.client(session))
        talk.ends(session, talk.side(session))
        assert talk.records[0].outcome == "ok"
        talk.check_clean()

    @pytest.mark.parametrize("policy", ["ketama", "maglev", "rendezvous"])
    def test_hash_policies_go_by_the_address_of_the_client(self, policy: str) -> None:
        talk = Conversation(policy=policy)
        session = talk.accept()
        assert session.key == b"192.0.2.7"
        again = talk.accept()
        assert again.backend is session.backend
        assert talk.accept(peer=("", 0)).key is None

    def test_other_policies_need_no_key(self) -> None:
        assert Conversation().accept().key is None

    def test_the_priority_of_the_route_is_that_of_the_queue(self) -> None:
        talk = Conversation(route=route_with())
        assert talk.accept().priority == 5
