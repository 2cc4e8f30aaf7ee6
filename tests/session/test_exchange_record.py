"""The record of an exchange: its fields, its words, its times, and odd texts in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy import errors
from lbproxy.balancing.sticky import Seen
from lbproxy.certificates import PeerCertificate
from lbproxy.errors import Outcome, TryError
from lbproxy.model_http import StickySettings
from lbproxy.preamble import ClientHello, ProxyHeader
from lbproxy.session.exchange_record import CLIENT_LEFT, ExchangeRecord, record_of_exchange
from lbproxy.session.phases import ANSWER, REQUEST, TUNNEL
from lbproxy.session.record import describe, record_of
from lbproxy.session.retrying import Try
from lbproxy.session.secured import TlsFacts
from lbproxy.session.tunnel import Tunnel
from tests.session.exchange_rig import STAMP, conversation_of, exchange_of, head_of, pool_of
from tests.session.session_fakes import START, FakeSide

FACTS = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "www.example.com", "http/1.1", True, 0.004)


def record(exchange: Any) -> ExchangeRecord:
    return record_of_exchange(exchange, STAMP, START + 2.0, 7)


def written(exchange: Any) -> dict[str, Any]:
    """The record as somebody reads it who has only its line."""
    line = msgspec.json.encode(record(exchange))
    assert not set(line) & set(range(32)), "control characters are escaped"
    decoded: dict[str, Any] = msgspec.json.decode(line)
    return decoded


class TestFields:
    def test_all_of_a_plain_request(self) -> None:
        exchange = exchange_of(head_of(b"GET /a HTTP/1.1\r\nHost: Www.Example.com:80\r\n\r\n"))
        assert written(exchange) == {
            "ts": STAMP,
            "id": "0123456789abcdef0123456789abcdef",
            "listener": "web",
            "client": "192.0.2.7:40007",
            "peer": "192.0.2.7:40007",
            "protocol": "HTTP/1.1",
            "method": "GET",
            "host": "www.example.com",
            "path": "/a",
            "bytes_in": 90,
            "route": "all",
            "route_line": 3,
            "pool": "web",
            "backend": "a",
            "policy": "first",
            "status": 200,
            "bytes_out": 300,
            "outcome": "ok",
            "state": "----",
            "flag": "-",
            "t_request_ms": 250.0,
            "t_queue_ms": 0.0,
            "t_connect_ms": 500.0,
            "t_first_byte_ms": 1000.0,
            "t_total_ms": 2000.0,
            "conns_process": 7,
            "conns_listener": 0,
            "conns_pool": 0,
            "conns_backend": 0,
            "queue_pool": 0,
            "retries": 0,
            "reused": False,
            "request_number": 1,
        }

    def test_what_has_nothing_to_say_is_left_out_and_comes_back_as_its_default(self) -> None:
        one = record(exchange_of(head_of()))
        line = msgspec.json.encode(one)
        assert b"sticky" not in line
        assert msgspec.json.decode(line, type=ExchangeRecord) == one

    def test_the_fields_of_the_request(self) -> None:
        found = written(exchange_of(head_of()))
        assert (found["path"], found["query"]) == ("/a/b", "c=d")
        assert (found["referer"], found["user_agent"]) == ("http://x/", "curl/8")

    def test_an_old_version(self) -> None:
        assert record(exchange_of(head_of(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"))).protocol == "HTTP/1.0"

    def test_a_request_that_could_not_be_read(self) -> None:
        exchange = exchange_of(None)
        exchange.route = exchange.pool = exchange.served_by = exchange.answer = None
        exchange.request_id = b""
        exchange.status, exchange.outcome, exchange.rule = 400, errors.BAD_REQUEST, "S2"
        one = record(exchange)
        assert (one.protocol, one.method, one.host, one.path) == ("http", "", "", "")
        assert (one.status, one.outcome, one.state, one.flag, one.rule) == (400, "bad_request", "PR--", "DPE", "S2")
        assert (one.route, one.route_line, one.pool, one.backend, one.policy) == ("", 0, "", "", "")
        assert (one.t_request_ms, one.t_queue_ms, one.t_connect_ms, one.t_first_byte_ms) == (-1, -1, -1, -1)
        assert one.id == "id1", "the connection's name stands in for that of the request"

    def test_numbers_at_the_end_are_those_of_the_others(self) -> None:
        pool = pool_of()
        for _ in range(3):
            assert pool.take(START) is not None
        conversation = conversation_of()
        conversation.gate.sessions, conversation.requests = 5, 12
        one = record(exchange_of(head_of(), conversation, pool))
        assert (one.conns_process, one.conns_listener, one.conns_pool, one.conns_backend) == (7, 5, 3, 3)
        assert (one.queue_pool, one.request_number) == (0, 12)

    def test_equal_heads_and_requests_of_one_connection_say_the_same(self) -> None:
        head, conversation = head_of(), conversation_of()
        first = record(exchange_of(head, conversation))
        assert record(exchange_of(head, conversation)) == first
        other = record(exchange_of(head, conversation_of(("192.0.2.8", 1))))
        assert (other.client, other.path) == ("192.0.2.8:1", first.path)


class TestWho:
    @pytest.mark.parametrize(
        ("peer", "client_ip", "client", "told_peer"),
        [
            (("192.0.2.7", 5), None, "192.0.2.7:5", "192.0.2.7:5"),
            (("2001:db8::1", 5), None, "[2001:db8::1]:5", "[2001:db8::1]:5"),
            (("", 0), None, "unix", "unix"),
            (("10.0.0.1", 5), "192.0.2.9", "192.0.2.9", "10.0.0.1:5"),
            (("10.0.0.1", 5), "2001:db8::1", "[2001:db8::1]", "10.0.0.1:5"),
            (("", 0), "192.0.2.9", "192.0.2.9", "unix"),
            (("10.0.0.1", 5), "", "unix", "10.0.0.1:5"),
        ],
    )
    def test_the_client_is_whom_trusted_peers_name(
        self, peer: tuple[str, int], client_ip: str | None, client: str, told_peer: str
    ) -> None:
        exchange = exchange_of(head_of(), conversation_of(peer))
        if client_ip is not None:
            exchange.client_ip = client_ip
        one = record(exchange)
        assert (one.client, one.peer) == (client, told_peer)

    def test_one_trusted_peer_brings_many_clients(self) -> None:
        conversation, seen = conversation_of(("10.0.0.1", 5)), []
        for client_ip in ("192.0.2.1", "192.0.2.2", "10.0.0.1"):
            exchange = exchange_of(head_of(), conversation)
            exchange.client_ip = client_ip
            seen.append(record(exchange).client)
        assert seen == ["192.0.2.1", "192.0.2.2", "10.0.0.1:5"]

    def test_tls_with_a_certificate(self) -> None:
        conversation = conversation_of()
        certificate = PeerCertificate("CN=a", "a", "ab12", b"", "EC256", "ecdsa-with-SHA256", None)
        conversation.tls = replace(FACTS, certificate=certificate)
        conversation.hello = ClientHello("www.example.com")
        found = written(exchange_of(head_of(), conversation))
        wanted = {"tls": "TLSv1.3", "cipher": FACTS.cipher, "alpn": "http/1.1", "resumed": True}
        wanted |= {"client_cert": "ab12", "sni": "www.example.com"}
        assert {name: found[name] for name in wanted} == wanted

    def test_a_name_that_another_proxy_told_of(self) -> None:
        conversation = conversation_of()
        conversation.header = ProxyHeader(2, authority="www.example.com")
        found = written(exchange_of(head_of(), conversation))
        assert found["sni"] == "www.example.com"
        assert "tls" not in found

    def test_why_tls_was_cut(self) -> None:
        conversation = conversation_of()
        conversation.tls_error = "bad_record"
        exchange = exchange_of(head_of(), conversation)
        exchange.outcome = errors.CLIENT_GONE_IN_DATA
        assert record(exchange).tls_error == "bad_record"


class TestTimes:
    def test_a_connection_that_was_there_takes_no_time(self) -> None:
        exchange = exchange_of(head_of())
        exchange.reused = True
        one = record(exchange)
        assert (one.t_connect_ms, one.reused) == (0, True)

    def test_phases_that_were_not_reached(self) -> None:
        exchange = exchange_of(head_of())
        exchange.connected_at = exchange.sent_at = exchange.first_byte_at = -1.0
        exchange.answer, exchange.queue_seconds = None, 0.5
        one = record(exchange)
        assert (one.t_queue_ms, one.t_connect_ms, one.t_first_byte_ms) == (500.0, -1, -1)

    def test_an_answer_of_ours_has_neither_queue_nor_backend(self) -> None:
        exchange = exchange_of(head_of())
        exchange.pool = exchange.served_by = exchange.answer = None
        exchange.connected_at = exchange.sent_at = exchange.first_byte_at = -1.0
        exchange.outcome, exchange.status = errors.ANSWERED, 301
        one = record(exchange)
        assert (one.t_request_ms, one.t_queue_ms, one.t_connect_ms, one.t_first_byte_ms) == (250.0, -1, -1, -1)
        assert (one.status, one.outcome, one.state) == (301, "ok", "LR--")

    @pytest.mark.parametrize("sent_at", [-1.0, START + 1.875])
    def test_an_answer_before_the_request_was_sent_took_no_time(self, sent_at: float) -> None:
        exchange = exchange_of(head_of())
        exchange.sent_at = sent_at
        assert record(exchange).t_first_byte_ms == 0

    def test_the_answer_of_an_earlier_try_is_no_answer(self) -> None:
        exchange = exchange_of(head_of())
        exchange.answer, exchange.status = None, 504
        exchange.outcome = errors.RESPONSE_TIMEOUT
        assert record(exchange).t_first_byte_ms == -1

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(0, 100), min_size=5, max_size=5))
    def test_none_is_negative_or_longer_than_the_whole(self, moments: list[float]) -> None:
        exchange = exchange_of(head_of())
        began, read, tried, connected, sent = sorted(moments)
        exchange.began, exchange.read_at, exchange.try_began = began, read, tried
        exchange.connected_at, exchange.sent_at, exchange.first_byte_at = connected, sent, 100.0
        one = record_of_exchange(exchange, STAMP, 101.0, 0)
        parts = (one.t_request_ms, one.t_connect_ms, one.t_first_byte_ms)
        assert all(0 <= part <= one.t_total_ms for part in parts)
        assert sum(parts) <= one.t_total_ms + 0.001


class TestResult:
    @pytest.mark.parametrize(
        ("outcome", "status", "told"),
        [
            (errors.CLIENT_GONE_IN_QUEUE, 0, CLIENT_LEFT),
            (errors.CLIENT_GONE_IN_HEAD, 0, CLIENT_LEFT),
            (errors.CLIENT_GONE_IN_DATA, 200, 200),
            (errors.WRITE_STALL_CLIENT, 0, 0),
            (errors.BACKEND_CUT, 200, 200),
            (errors.KILLED_BY_OPERATOR, 0, 0),
        ],
    )
    def test_the_status_is_what_the_client_was_told(self, outcome: Outcome, status: int, told: int) -> None:
        exchange = exchange_of(head_of())
        exchange.outcome, exchange.status = outcome, status
        assert record(exchange).status == told

    def test_bytes_that_nobody_took_were_not_given(self) -> None:
        exchange = exchange_of(head_of())
        exchange.stream.held, exchange.stream.dropped = 100, 50
        assert record(exchange).bytes_out == 150

    def test_a_tunnel_has_been_accounted_for(self) -> None:
        exchange = exchange_of(head_of())
        exchange.status, exchange.stream.dropped = 101, 50
        assert record(exchange).bytes_out == 300

    def test_tries(self) -> None:
        exchange = exchange_of(head_of())
        exchange.tries = [
            Try("b", "203.0.113.1:9002", TryError.CLOSED, 0.25, "", "B", reused=True),
            Try("a", "203.0.113.1:9001", None, 0.5),
        ]
        found = written(exchange)
        assert found["retries"] == 1
        assert found["tries"] == [
            {"backend": "b", "address": "203.0.113.1:9002", "error": "closed", "ms": 250.0, "class": "B"}
            | {"detail": "", "reused": True},
            {"backend": "a", "address": "203.0.113.1:9001", "error": None, "ms": 500.0, "class": "A"}
            | {"detail": "", "reused": False},
        ]

    @pytest.mark.parametrize(
        ("error", "timer"), [(TryError.TIMEOUT, "connect"), (TryError.TLS_TIMEOUT, "tls_handshake")]
    )
    def test_the_timer_of_the_last_try(self, error: TryError, timer: str) -> None:
        exchange = exchange_of(head_of())
        exchange.tries = [Try("a", "203.0.113.1:9001", error, 5.0)]
        exchange.outcome = error.outcome
        one = record(exchange)
        assert (one.outcome, one.timer, one.retries) == ("connect_timeout", timer, 0)

    def test_a_timer_of_its_own(self) -> None:
        exchange = exchange_of(head_of())
        exchange.outcome, exchange.timer = errors.BODY_TIMEOUT, "request_body_idle"
        assert record(exchange).timer == "request_body_idle"

    @pytest.mark.parametrize("seen", ["N", "I", "V", "D", "E", "O"])
    def test_the_letters_of_a_sticky_pool(self, seen: Any) -> None:
        pool = pool_of(sticky=StickySettings())
        exchange = exchange_of(head_of(), pool=pool)
        exchange.seen = Seen(pool.backends["b"] if seen == "V" else None, seen)
        exchange.sticky_sent = "I"
        one = record(exchange)
        assert one.state == f"--{seen}I"
        assert one.sticky == ("b" if seen == "V" else "")


class TestOddTexts:
    @pytest.mark.parametrize(
        ("agent", "text"),
        [
            (b"plain", "plain"),
            (b"\xff\x80", "\\xff\\x80"),
            (b'a"b\\', 'a"b\\'),
            (b"x" * 5000, "x" * 1024),
            (b"\xe9" * 5000, ("\\xe9" * 256)),
        ],
    )
    def test_of_fields(self, agent: bytes, text: str) -> None:
        head = head_of(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: %b\r\n\r\n" % agent)
        assert written(exchange_of(head))["user_agent"] == text

    def test_the_first_of_several_fields_counts(self) -> None:
        head = head_of(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nUser-Agent: c\r\n\r\n")
        assert record(exchange_of(head)).user_agent == "b"

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.binary(max_size=1500), min_size=4, max_size=4))
    def test_a_line_stays_a_line_and_is_bounded(self, octets: list[bytes]) -> None:
        head = head_of()
        head.path, head.query, head.host = octets[:3]
        head.fields = [(b"user-agent", octets[3], b""), (b"referer", octets[0], b"")]
        found = written(exchange_of(head))
        for name in ("path", "query", "host", "user_agent", "referer"):
            assert len(found.get(name, "")) <= 1024
            assert found.get(name, "").isascii()


class TestConversations:
    def test_one_that_ended_in_its_opening_has_a_record_of_its_own(self) -> None:
        conversation = conversation_of()
        conversation.outcome, conversation.rule = errors.PROXY_HEADER_BAD, "P2"
        one = record_of(conversation, STAMP, START + 0.5, 7)
        assert (one.protocol, one.id, one.listener, one.client) == ("http", "id1", "web", "192.0.2.7:40007")
        assert (one.outcome, one.state, one.rule, one.pool, one.backend) == ("proxy_header", "PR--", "P2", "", "")
        assert (one.t_queue_ms, one.t_connect_ms, one.t_first_byte_ms, one.t_total_ms) == (-1, -1, -1, 500)
        assert one.tries == []

    def test_one_that_waits_is_described(self) -> None:
        conversation = conversation_of()
        conversation.phase = REQUEST
        described = describe(conversation, START + 1.5)
        assert (described["id"], described["phase"], described["age_seconds"]) == ("id1", "request", 1.5)
        assert (described["pool"], described["backend"], described["requests"]) == ("", "", 1)

    def test_a_request_under_way_is_described(self) -> None:
        conversation = conversation_of()
        conversation.exchange = exchange = exchange_of(head_of(), conversation)
        exchange.backend, exchange.phase = exchange.served_by, ANSWER
        described = describe(conversation, START + 1.5)
        assert described["id"] == exchange.request_id.decode()
        assert (described["pool"], described["backend"], described["phase"]) == ("web", "a", "answer")
        assert (described["bytes_in"], described["bytes_out"]) == (90, 300)
        assert described["request"] == "GET www.example.com/a/b"

    def test_a_tunnel_is_described_as_the_request_that_it_was(self) -> None:
        conversation = conversation_of()
        conversation.exchange = exchange = exchange_of(head_of(), conversation)
        side = FakeSide("a", [], START)
        conversation.client = client = FakeSide("client", [], START)
        exchange.backend, exchange.backend_side, exchange.phase = exchange.served_by, side, TUNNEL
        client.bytes_in, side.bytes_in = 10, 20
        tunnel = Tunnel(exchange, client, side, START)
        for session in (conversation, tunnel):
            described = describe(session, START + 1.5)
            assert (described["id"], described["phase"]) == (exchange.request_id.decode(), "tunnel")
            assert (described["bytes_in"], described["bytes_out"]) == (100, 320)
