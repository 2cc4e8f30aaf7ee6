"""The record of a session: its fields, its words, and odd texts in it."""

from __future__ import annotations

import msgspec
import pytest

from lbproxy import errors
from lbproxy.errors import Blame, Outcome, TryError
from lbproxy.session.record import RelayRecord, describe
from lbproxy.session.retrying import may_try_again
from tests.session.session_fakes import LOCAL, Conversation

# What a try that had sent its request leaves behind when it was the last one.
SENT = {
    TryError.CLOSED: "SH",
    TryError.SILENT: "sH",
    TryError.NONSENSE: "PH",
    TryError.STATUS: "--",
}


class TestFields:
    def test_all_fields_of_a_session_that_went_well(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.passes(0.25)
        session.connected()
        talk.asks(session, 300)
        talk.passes(0.5)
        talk.answers(session, 4000)
        talk.ends(session, talk.client(session))
        talk.passes(0.25)
        talk.ends(session, talk.side(session))
        assert msgspec.to_builtins(talk.records[0]) == {
            "ts": "2026-01-02T03:04:05.678Z",
            "id": "id1",
            "listener": "web",
            "client": "192.0.2.7:40007",
            "peer": "192.0.2.7:40007",
            "protocol": "tcp",
            "route": "all",
            "route_line": 3,
            "pool": "web",
            "backend": "a",
            "policy": "first",
            "outcome": "ok",
            "state": "----",
            "flag": "-",
            "timer": "",
            "rule": "",
            "bytes_in": 300,
            "bytes_out": 4000,
            "t_queue_ms": 0,
            "t_connect_ms": 250.0,
            "t_first_byte_ms": 500.0,
            "t_total_ms": 1000.0,
            "retries": 0,
            "tries": [],
            "conns_process": 7,
            "conns_listener": 0,
            "conns_pool": 0,
            "conns_backend": 0,
            "queue_pool": 0,
            "sni": "",
            "unique_id": "",
            "tls": "",
            "cipher": "",
            "group": "",
            "alpn": "",
            "resumed": False,
            "t_handshake_ms": -1,
            "client_verify": "",
            "client_cert": "",
            "client_subject": "",
            "tls_error": "",
            "backend_tls": "",
            "backend_cipher": "",
            "backend_resumed": False,
            "namespace": "",
        }

    def test_a_phase_that_was_never_reached_is_minus_one(self) -> None:
        talk = Conversation()
        talk.gate.routes = {None: None}
        talk.accept()
        record = talk.records[0]
        assert (record.t_queue_ms, record.t_connect_ms, record.t_first_byte_ms) == (-1, -1, -1)
        assert (record.route, record.pool, record.backend, record.policy) == ("", "", "", "")

    def test_tries_tell_backend_address_error_class_and_time(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.passes(0.5)
        talk.refuses(session, detail="that is why")
        talk.passes(0.25)
        session.connected()
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        first, second = msgspec.to_builtins(record.tries)
        assert first == {
            "backend": "a",
            "address": "203.0.113.1:9001",
            "error": "refused",
            "ms": 500.0,
            "class": "A",
            "detail": "that is why",
            "reused": False,
        }
        assert second == {
            "backend": "b",
            "address": "203.0.113.1:9002",
            "error": None,
            "ms": 250.0,
            "class": "A",
            "detail": "",
            "reused": False,
        }
        assert (record.retries, record.backend) == (1, "b")

    def test_a_try_that_fails_at_once_took_no_time(self) -> None:
        talk = Conversation()
        talk.factory.at_once = {"b": TryError.DNS}
        session = talk.accept()
        talk.passes(0.5)
        talk.refuses(session)
        session.kill(errors.KILLED_BY_OPERATOR)
        assert [one.ms for one in talk.records[0].tries] == [500.0, 0.0]

    def test_the_client_of_a_proxy_header_stands_beside_its_peer(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n")
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert (record.client, record.peer) == ("[2001:db8::1]:1", "192.0.2.7:40007")

    def test_a_unix_client_has_no_address(self) -> None:
        talk = Conversation()
        talk.accept(peer=("", 0), local=LOCAL).kill(errors.INTERNAL)
        assert talk.records[0].client == "unix"

    @pytest.mark.parametrize(
        ("octets", "text"),
        [
            (b"plain", "plain"),
            (b"\xff\x80", "\\xff\\x80"),
            (b'"\r\n\x1b\0', '"\r\n\x1b\0'),
            (bytes(range(128)), "".join(map(chr, range(128)))),
        ],
    )
    def test_odd_texts_stay_one_line_of_json(self, octets: bytes, text: str) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        tlv = b"\x05" + len(octets).to_bytes(2, "big") + octets
        talk.sends(session, b"\r\n\r\n\0\r\nQUIT\n\x21\x00" + len(tlv).to_bytes(2, "big") + tlv)
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert record.unique_id == text
        line = msgspec.json.encode(record)
        assert not set(line) & set(range(32)), "control characters are escaped"
        assert msgspec.json.decode(line, type=RelayRecord) == record

    def test_the_name_that_was_asked_for(self) -> None:
        talk = Conversation()
        session = talk.accept(header=5.0)
        name = b"WWW.Example.com."
        tlv = b"\x02" + len(name).to_bytes(2, "big") + name
        talk.sends(session, b"\r\n\r\n\0\r\nQUIT\n\x21\x00" + len(tlv).to_bytes(2, "big") + tlv)
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.records[0].sni == "www.example.com"
        assert talk.gate.asked_route == [("192.0.2.7", "www.example.com", ())]

    def test_numbers_at_the_end_are_those_of_the_others(self) -> None:
        talk = Conversation("a", max_active=2)
        first, _, _ = talk.accept(), talk.accept(), talk.accept()
        first.connected()
        first.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert (record.conns_listener, record.conns_pool, record.conns_backend, record.queue_pool) == (2, 2, 2, 0)


class TestDescribe:
    def test_a_session_under_way(self) -> None:
        talk = Conversation()
        session = talk.accept()
        talk.passes(1.5)
        assert describe(session, talk.now) == {
            "id": "id1",
            "listener": "web",
            "client": "192.0.2.7:40007",
            "pool": "web",
            "backend": "a",
            "phase": "connect",
            "age_seconds": 1.5,
            "bytes_in": 0,
            "bytes_out": 0,
        }

    def test_a_session_in_its_header(self) -> None:
        talk = Conversation()
        described = describe(talk.accept(header=5.0), talk.now)
        assert (described["phase"], described["pool"], described["backend"]) == ("header", "", "")


class TestOutcomes:
    def all(self) -> dict[str, Outcome]:
        return {name: value for name, value in vars(errors).items() if isinstance(value, Outcome)}

    def test_the_letters_are_those_of_the_table(self) -> None:
        for outcome in self.all().values():
            assert len(outcome.state) == 2
            assert outcome.state[0] in "CSPLRIDUKcs-"
            assert outcome.state[1] in "RQCHDLT-"

    def test_the_letter_tells_whom_to_blame(self) -> None:
        for outcome in self.all().values():
            if outcome.state[0] in "Cc":
                assert outcome.blame is Blame.CLIENT, outcome
            if outcome.state[0] == "S":
                assert outcome.blame is Blame.BACKEND, outcome

    @pytest.mark.parametrize("error", TryError)
    def test_every_error_of_a_try_has_an_outcome(self, error: TryError) -> None:
        state = error.outcome.state
        assert (state == SENT[error]) if error in SENT else (state[1] == "C")
        assert error.counts is (error is not TryError.LOCAL)

    def test_what_is_answered_has_a_word_for_the_client(self) -> None:
        for name, outcome in self.all().items():
            assert outcome.status == 0 or 400 <= outcome.status < 600, name
            # A cache that has nothing says so in Cache-Status.
            assert not outcome.status or outcome.error or outcome is errors.NOT_CACHED, name


@pytest.mark.parametrize(
    ("made", "limit", "since_first", "window", "again"),
    [
        (1, 3, 0.0, 10.0, True),
        (2, 3, 9.99, 10.0, True),
        (3, 3, 0.0, 10.0, False),
        (4, 3, 0.0, 10.0, False),
        (1, 1, 0.0, 10.0, False),
        (1, 3, 10.0, 10.0, False),
        (1, 3, 11.0, 10.0, False),
        (1, 3, 1e9, float("inf"), True),
        (1, 3, 0.0, 0.0, False),
    ],
)
def test_whether_a_further_try_may_begin(made: int, limit: int, since_first: float, window: float, again: bool) -> None:
    assert may_try_again(made=made, limit=limit, since_first=since_first, window=window) is again
