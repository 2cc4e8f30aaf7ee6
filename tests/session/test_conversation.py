"""A client's connection in HTTP: its opening, its requests one after the other, and its ends."""

from __future__ import annotations

import pytest

from lbproxy import errors
from lbproxy.errors import KILLED_BY_OPERATOR, LIMITED
from lbproxy.model import SendProxySettings, Timeouts
from lbproxy.model_http import HttpSettings
from lbproxy.session.phases import HEADER, OVER, REQUEST
from lbproxy.session.seams import Opening
from lbproxy.session.secured import TlsFacts
from tests.session.http_fakes import Talk, message
from tests.session.session_fakes import opening_with

CLOSED = ["client.close", "left 192.0.2.7"]
HEADER_LINE = b"PROXY TCP4 198.51.100.9 198.51.100.1 4711 80\r\n"


def sends(talk: Talk, data: bytes) -> None:
    """The client sends in its opening."""
    conversation = talk.conversations[-1]
    stream = talk.stream(conversation)
    stream.bytes_in += len(data)
    stream.kept += data
    conversation.arrived()


class TestTheOpening:
    def test_requests_are_read_from_the_first_byte_on(self) -> None:
        talk = Talk()
        conversation = talk.accept(quietly=False)
        assert talk.did() == ["client.serve"]
        assert conversation.phase == REQUEST

    def test_a_proxy_header_tells_who_asks(self) -> None:
        talk = Talk()
        conversation = talk.accept(opening=opening_with(header=True))
        assert conversation.phase == HEADER
        sends(talk, HEADER_LINE + message())
        assert talk.did() == ["client.serve"]
        assert talk.stream(conversation).kept == message(), "the request is still there"
        talk.stream(conversation).kept = b""
        exchange = talk.asked_and_sent(conversation)
        assert b"X-Forwarded-For: 198.51.100.9\r\n" in talk.side(exchange).asked
        talk.ok(exchange)
        record = talk.records[0]
        assert (record.client, record.peer) == ("198.51.100.9:4711", "192.0.2.7:40007")

    def test_who_is_not_admitted_is_closed(self) -> None:
        talk = Talk()
        talk.gate.refusals["198.51.100.9"] = LIMITED
        conversation = talk.accept(opening=opening_with(header=True))
        sends(talk, HEADER_LINE)
        assert conversation.phase == OVER
        assert talk.unheard == [conversation]
        assert talk.records == []
        talk.check_over()

    def test_a_bad_header_is_told_in_a_record_of_the_session(self) -> None:
        talk = Talk()
        conversation = talk.accept(opening=opening_with(header=True))
        sends(talk, b"GET / HTTP/1.1\r\n\r\n")
        assert talk.did() == ["unheard proxy_header", "client.close", "left None"]
        assert conversation.outcome is errors.PROXY_HEADER_BAD
        talk.check_over()

    def test_a_header_that_does_not_come_is_waited_for_and_no_longer(self) -> None:
        talk = Talk()
        conversation = talk.accept(opening=opening_with(header=True, proxy_header=4))
        talk.passes(3.8)
        assert conversation.phase == HEADER
        talk.passes(0.4)
        assert talk.did() == ["unheard proxy_header_timeout", "client.close", "left None"]
        assert (conversation.timer, conversation.rule) == ("proxy_header", "P2")
        talk.check_over()

    @pytest.mark.parametrize("lost", [True, False])
    def test_a_client_that_leaves_in_its_opening(self, lost: bool) -> None:
        talk = Talk()
        conversation = talk.accept(opening=opening_with(header=True))
        if lost:
            talk.leaves(conversation)
        else:
            talk.half_closes(conversation)
        assert talk.unheard == [conversation]
        assert conversation.outcome is errors.CLIENT_GONE_IN_HEADER
        talk.check_over()

    def test_after_a_handshake_the_head_has_its_whole_time(self) -> None:
        talk = Talk(timeouts={"request_head": 6}, secure=True)
        conversation = talk.accept(opening=Opening(header=True, plain=False, timeouts=Timeouts(proxy_header=30)))
        talk.passes(20)
        sends(talk, HEADER_LINE)
        talk.passes(5.8)
        assert conversation.phase == REQUEST
        talk.passes(0.4)
        assert conversation.phase == OVER

    def test_what_tls_told_is_in_the_records(self) -> None:
        talk = Talk(secure=True)
        conversation = talk.accept()
        conversation.tls = TlsFacts("TLSv1.3", "TLS_AES", "", "www.example.com", "http/1.1", True, 0.1)
        exchange = talk.asked_and_sent(conversation)
        assert b"X-Forwarded-Proto: https\r\n" in talk.side(exchange).asked
        talk.ok(exchange)
        record = talk.records[0]
        assert (record.tls, record.cipher, record.alpn, record.resumed) == ("TLSv1.3", "TLS_AES", "http/1.1", True)

    def test_a_backend_that_wants_it_is_told_whose_connection_this_is(self) -> None:
        talk = Talk(send_proxy=SendProxySettings(1))
        conversation = talk.accept()
        conversation.source = ("198.51.100.9", 4711)
        exchange = talk.asks(conversation)
        assert exchange.introduce().startswith(b"PROXY TCP4 198.51.100.9 198.51.100.1 4711 443")


class TestRequests:
    def test_they_are_counted(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        for _ in range(3):
            exchange = talk.asks(conversation)
            if exchange.backend_side is not None and not exchange.reused:
                exchange.connected()
            talk.ok(exchange)
        assert [record.request_number for record in talk.records] == [1, 2, 3]
        assert conversation.requests == 3

    def test_each_goes_by_the_settings_of_its_time(self) -> None:
        talk = Talk()
        other = Talk(listener=HttpSettings(via=False))
        conversation = talk.accept()
        talk.ok(talk.asked_and_sent(conversation))
        talk.gate.front = other.gate.front
        assert conversation.front is other.gate.front

    def test_a_late_end_of_an_earlier_exchange_changes_nothing(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        first = talk.asked_and_sent(conversation)
        talk.ok(first)
        second = talk.asks(conversation)
        talk.did()
        conversation.exchange_over(first, talk.now, cut=True)
        assert talk.did() == []
        assert conversation.exchange is second
        talk.ok(second)
        talk.check_clean()


class TestEnds:
    def test_a_client_that_closes_between_requests_leaves_no_record(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        talk.ok(talk.asked_and_sent(conversation))
        talk.did()
        talk.half_closes(conversation)
        assert talk.did() == CLOSED
        assert len(talk.records) == 1
        talk.check_over()

    def test_nor_does_one_that_never_asks(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        talk.leaves(conversation)
        assert (talk.records, talk.unheard) == ([], [])
        talk.check_over()

    def test_a_listener_that_stops_lets_the_answer_at_hand_be_the_last(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        exchange.conversation.drain()
        assert talk.did() == []
        talk.ok(exchange)
        assert talk.did() == ["client<200 close", "record ok", *CLOSED]
        talk.check_over()

    def test_an_idle_one_ends_at_once_then(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        assert not conversation.idle, "it has not asked yet"
        talk.ok(talk.asked_and_sent(conversation))
        assert conversation.idle
        talk.did()
        conversation.drain()
        assert talk.did() == CLOSED
        assert not conversation.idle
        talk.check_over()

    def test_one_that_has_just_come_may_ask_once(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        conversation.drain()
        talk.passes(1.5)
        assert conversation.phase == REQUEST, "its first request may be on its way"
        talk.ok(talk.asked_and_sent(conversation))
        assert talk.records[0].outcome == "ok"
        talk.check_over()

    def test_one_that_has_just_come_and_asks_for_nothing_ends_soon(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        conversation.drain()
        talk.passes(3.0)
        assert conversation.phase == OVER
        talk.check_over()

    def test_one_whose_next_request_has_begun_does_not(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        talk.stream(conversation).kept = b"GET /"
        conversation.head_begins(talk.now)
        conversation.drain()
        assert conversation.phase == REQUEST
        talk.stream(conversation).kept = b""
        exchange = talk.asked_and_sent(conversation)
        talk.ok(exchange)
        talk.check_over()

    def test_it_may_be_ended_between_requests(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        talk.ok(talk.asked_and_sent(conversation))
        talk.did()
        conversation.kill(KILLED_BY_OPERATOR)
        assert talk.did() == ["client.abort", "left 192.0.2.7"]
        conversation.kill(KILLED_BY_OPERATOR)
        assert talk.did() == []
        assert len(talk.records) == 1
        talk.check_over()

    def test_what_is_held_counts(self) -> None:
        talk = Talk()
        conversation = talk.accept()
        assert conversation.holds == 0
        talk.stream(conversation).kept = b"12345"
        talk.stream(conversation).held = 100
        assert conversation.holds == 105
        conversation.kill(KILLED_BY_OPERATOR)
        assert conversation.holds == 0
