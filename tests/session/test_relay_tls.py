"""TLS as a session sees it: a name in the ClientHello, a handshake with the client, one with the backend."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lbproxy import errors
from lbproxy.certificates import PeerCertificate
from lbproxy.errors import TryError
from lbproxy.model import SendProxySettings
from lbproxy.preamble import HeaderReader, ProxyHeader, ProxyTls, encode_v2
from lbproxy.session.phases import CONNECT, DATA, ENDING, HANDSHAKE, HEADER, HELLO
from lbproxy.session.record import describe
from lbproxy.session.relay import Relay
from lbproxy.session.secured import TlsFacts
from tests.preamble import hellos
from tests.session.session_fakes import PEER, Conversation, opening_with, route_with

NAMED = hellos.hello(hellos.server_name(b"A.Example"), hellos.alpn(b"h2", b"http/1.1"))
NAMELESS = hellos.hello()
WHOLE = hellos.message(hellos.body(hellos.server_name(b"a.example")))
IN_TWO = hellos.in_records(WHOLE, len(WHOLE) // 2 + 1)
BAD = hellos.record(hellos.message(hellos.body(), kind=2))
SSL_2 = bytes((0x80, 46, 1, 3, 3)) + bytes(40)

FACTS = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", "a.example", "h2", resumed=False, seconds=0.25)
THEIRS = TlsFacts("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "", "", "", resumed=True, seconds=0.1)
CERTIFICATE = PeerCertificate(
    subject="CN=alice",
    common_name="alice",
    fingerprint="ab" * 32,
    der=b"not looked at",
    key_algorithm="EC256",
    signature_algorithm="ecdsa-with-SHA256",
    not_after=datetime(2030, 1, 1, tzinfo=UTC),
)

LEFT = "left 192.0.2.7"


def passing(**rest: object) -> tuple[Conversation, Relay]:
    """A client of a listener whose routes go by names."""
    talk = Conversation(**rest)  # type: ignore[arg-type]  # handed on as they are
    session = talk.accept(opening=opening_with(hello=True))
    assert session.phase == HELLO
    assert talk.did() == ["client.read"]
    return talk, session


def ending(*, hello: bytes = b"", **rest: object) -> tuple[Conversation, Relay]:
    """A client of a listener that ends TLS, who may have sent a `hello`."""
    talk = Conversation(**rest)  # type: ignore[arg-type]  # handed on as they are
    session = talk.accept(opening=opening_with(tls=True))
    if hello:
        talk.sends(session, hello)
        assert session.phase == HANDSHAKE
    talk.did()
    return talk, session


def header_of(session: Relay) -> ProxyHeader:
    """What the backend is told in front of everything."""
    reader = HeaderReader()
    header = reader.feed(session.introduce())
    assert header is not None
    assert reader.rest == b""
    return header


class TestPassingOn:
    def test_the_name_and_the_protocols_choose_the_route(self) -> None:
        talk, session = passing()
        talk.sends(session, NAMED)
        assert talk.gate.asked_route == [(PEER[0], "a.example", (b"h2", b"http/1.1"))]
        assert talk.did() == ["dial a"]

    def test_the_backend_gets_every_byte_as_it_came(self) -> None:
        talk, session = passing()
        talk.sends(session, NAMED + hellos.TRAILING)
        talk.sends(session, b"more")
        talk.did()
        session.connected()
        assert talk.did() == [f"client+a {NAMED + hellos.TRAILING + b'more'!r}"]

    @pytest.mark.parametrize("hello", [NAMED, IN_TWO], ids=["one record", "two records"])
    def test_a_hello_byte_by_byte(self, hello: bytes) -> None:
        talk, session = passing()
        for at in range(len(hello) - 1):
            talk.sends(session, hello[at : at + 1])
            assert session.phase == HELLO
        assert talk.gate.asked_route == []
        talk.sends(session, hello[-1:])
        assert [name for _, name, _ in talk.gate.asked_route] == ["a.example"]
        session.connected()
        assert talk.did() == ["dial a", f"client+a {hello!r}"]

    def test_a_name_without_a_route_is_refused(self) -> None:
        talk, session = passing()
        talk.gate.routes = {"b.example": route_with()}
        talk.sends(session, NAMED)
        assert talk.did() == ["client.close", LEFT, "record no_route"]
        assert talk.records[0].sni == "a.example"

    @pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.9\r\n", b"\0", b"GET / HTTP/1.1\r\n", b"\x16\x02"])
    def test_what_is_not_tls_takes_the_route_without_a_name(self, data: bytes) -> None:
        talk, session = passing()
        talk.sends(session, data)
        assert talk.gate.asked_route == [(PEER[0], None, ())]
        session.connected()
        assert talk.did() == ["dial a", f"client+a {data!r}"]

    def test_a_hello_without_a_name_takes_the_route_without_a_name(self) -> None:
        talk, session = passing()
        talk.sends(session, NAMELESS)
        assert talk.gate.asked_route == [(PEER[0], None, ())]

    def test_a_client_that_waits_for_the_server_is_routed_when_its_time_is_over(self) -> None:
        talk, session = passing()
        talk.passes(4.9)
        assert session.phase == HELLO
        talk.passes(0.2)
        assert session.phase == CONNECT
        assert talk.gate.asked_route == [(PEER[0], None, ())]
        session.connected()
        assert talk.did() == ["dial a", "client+a"]
        assert session in talk.wheel.due, "it has a deadline still"

    def test_a_silent_client_without_a_route_is_refused(self) -> None:
        talk, session = passing()
        talk.gate.routes = {"a.example": route_with()}
        talk.passes(5.1)
        assert talk.did() == ["client.close", LEFT, "record no_route"]
        talk.check_clean()

    def test_the_connect_of_a_silent_client_has_its_own_time(self) -> None:
        talk, session = passing()
        talk.passes(5.1)
        talk.did()
        talk.passes(4.7)
        assert talk.did() == []
        talk.passes(0.4)
        assert talk.did() == ["a.close", "dial b"]

    def test_a_hello_that_is_begun_and_not_finished_is_refused(self) -> None:
        talk, session = passing()
        talk.passes(1.0)
        talk.sends(session, NAMED[:-1])
        talk.passes(3.9)
        assert session.phase == HELLO
        talk.passes(0.2)
        assert talk.did() == ["client.close", LEFT, "record client_hello_timeout"]
        record = talk.records[0]
        assert (record.state, record.timer, record.rule, record.t_queue_ms) == ("cR--", "client_hello", "L9", -1)
        talk.check_clean()

    @pytest.mark.parametrize(("data", "rule"), [(BAD, "L9"), (SSL_2, "L7")])
    def test_a_malformed_hello_is_refused(self, data: bytes, rule: str) -> None:
        talk, session = passing()
        talk.sends(session, data)
        assert talk.did() == ["client.close", LEFT, "record client_hello"]
        record = talk.records[0]
        assert (record.state, record.rule, record.tls_error) == ("PR--", rule, "")
        assert talk.gate.handshakes == [], "no TLS of ours has failed"
        talk.check_clean()

    @pytest.mark.parametrize("how", ["ends", "loses"])
    def test_a_client_that_leaves_within_its_hello(self, how: str) -> None:
        talk, session = passing()
        talk.sends(session, NAMED[:50])
        getattr(talk, how)(session, talk.client(session))
        assert talk.did()[-2:] == [LEFT, "record client_gone"]
        assert talk.records[0].state == "CR--"
        assert talk.gate.handshakes == []
        talk.check_clean()

    def test_a_reset_backend_is_not_replaced_once_it_got_the_hello(self) -> None:
        talk, session = passing()
        talk.sends(session, NAMED)
        session.connected()
        talk.loses(session, talk.side(session))
        assert talk.did()[-1] == "record backend_cut"

    def test_the_record_tells_what_the_client_asked_for(self) -> None:
        talk, session = passing()
        talk.sends(session, NAMED)
        session.connected()
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert (record.sni, record.alpn, record.tls, record.t_handshake_ms) == ("a.example", "h2", "", -1)
        assert record.bytes_in == len(NAMED)

    def test_the_control_socket_tells_the_phase(self) -> None:
        talk, session = passing()
        assert describe(session, talk.now)["phase"] == "hello"


class TestBehindAHeader:
    TOLD = encode_v2(("192.0.2.99", 5678), ("198.51.100.2", 443), authority="told.example", alpn=b"h2")
    UNTOLD = encode_v2(("192.0.2.99", 5678), ("198.51.100.2", 443))

    def accept(self, *, tls: bool = False) -> tuple[Conversation, Relay]:
        talk = Conversation()
        session = talk.accept(opening=opening_with(header=True, hello=not tls, tls=tls))
        assert session.phase == HEADER
        talk.did()
        return talk, session

    def test_a_header_that_tells_the_name_is_not_waited_for_twice(self) -> None:
        talk, session = self.accept()
        talk.sends(session, self.TOLD)
        assert talk.gate.asked_route == [("192.0.2.99", "told.example", (b"h2",))]
        session.connected()
        assert talk.did() == ["dial a", "client+a"]

    def test_the_name_of_the_header_counts_whatever_comes_behind_it(self) -> None:
        talk, session = self.accept()
        talk.sends(session, self.TOLD + NAMED)
        assert [name for _, name, _ in talk.gate.asked_route] == ["told.example"]
        session.connected()
        assert talk.did()[-1] == f"client+a {NAMED!r}"

    def test_without_a_name_in_the_header_the_hello_is_waited_for(self) -> None:
        talk, session = self.accept()
        talk.sends(session, self.UNTOLD)
        assert session.phase == HELLO
        talk.sends(session, NAMED)
        assert talk.gate.asked_route == [("192.0.2.99", "a.example", (b"h2", b"http/1.1"))]

    @pytest.mark.parametrize("tls", [False, True], ids=["passed on", "ended"])
    def test_a_hello_in_the_same_segment(self, tls: bool) -> None:
        talk, session = self.accept(tls=tls)
        talk.sends(session, self.UNTOLD + NAMED)
        if tls:
            assert session.phase == HANDSHAKE
            assert [hello.server_name for hello in talk.gate.hellos] == ["a.example"]
        else:
            session.connected()
            assert talk.did()[-1] == f"client+a {NAMED!r}"

    @pytest.mark.parametrize("tls", [False, True], ids=["passed on", "ended"])
    def test_header_and_hello_byte_by_byte(self, tls: bool) -> None:
        talk, session = self.accept(tls=tls)
        for octet in self.UNTOLD + NAMED:
            talk.sends(session, bytes([octet]))
        assert session.phase == (HANDSHAKE if tls else CONNECT)
        assert session.server_name == "a.example"

    def test_where_tls_is_ended_a_name_in_the_header_does_not_replace_the_handshake(self) -> None:
        talk, session = self.accept(tls=True)
        talk.sends(session, self.TOLD)
        assert session.phase == HELLO
        talk.sends(session, NAMED)
        session.secured(FACTS)
        assert talk.gate.asked_route == [("192.0.2.99", "a.example", (b"h2",))]

    def test_the_time_for_the_hello_begins_behind_the_header(self) -> None:
        talk, session = self.accept()
        talk.passes(4.5)
        talk.sends(session, self.UNTOLD + NAMED[:9])
        talk.passes(4.8)
        assert session.phase == HELLO
        talk.passes(0.3)
        assert talk.did()[-1] == "record client_hello_timeout"
        talk.check_clean()

    def test_a_client_that_is_not_admitted_is_not_asked_for_its_hello(self) -> None:
        talk, session = self.accept(tls=True)
        talk.gate.refusals["192.0.2.99"] = errors.DENIED
        talk.sends(session, self.UNTOLD + NAMED)
        assert talk.did() == ["client.close", "left None", "record denied"]
        assert talk.gate.hellos == []
        assert talk.gate.handshakes == []


class TestEnding:
    def test_the_handshake_is_asked_for_once(self) -> None:
        talk, session = ending()
        for octet in NAMED:
            talk.sends(session, bytes([octet]))
        session.arrived()
        assert talk.did() == ["secure a.example"]
        assert [(hello.server_name, hello.alpn) for hello in talk.gate.hellos] == [("a.example", (b"h2", b"http/1.1"))]
        assert talk.gate.asked_route == [], "the route comes behind the handshake"
        assert describe(session, talk.now)["phase"] == "handshake"

    def test_the_name_and_the_protocol_agreed_on_choose_the_route(self) -> None:
        talk, session = ending(hello=NAMED)
        session.secured(FACTS)
        assert talk.gate.asked_route == [(PEER[0], "a.example", (b"h2",))]
        assert talk.gate.handshakes == [("full", "")]
        assert talk.did() == ["dial a"]
        session.connected()
        assert talk.did() == ["client+a"], "the hello is not the backend's"

    def test_without_a_common_protocol_none_is_told(self) -> None:
        talk, session = ending(hello=NAMED)
        session.secured(THEIRS)
        assert talk.gate.asked_route == [(PEER[0], "a.example", ())]
        assert talk.gate.handshakes == [("resumed", "")]

    def test_a_failed_handshake_ends_the_session(self) -> None:
        talk, session = ending(hello=NAMED)
        session.handshake_failed("no_shared_cipher", "no shared cipher")
        assert talk.did() == ["client.close", LEFT, "record tls_handshake"]
        assert talk.gate.handshakes == [("no_shared_cipher", "no shared cipher")]
        record = talk.records[0]
        assert (record.state, record.tls_error, record.sni) == ("PR--", "no_shared_cipher", "a.example")
        assert (record.tls, record.t_handshake_ms, record.backend) == ("", -1, "")
        talk.check_clean()

    def test_a_refusal_is_told_to_the_client(self) -> None:
        talk, session = ending(hello=NAMED)
        session.refuse_handshake("unknown_name", "it asked for a name that is not served", b"alert")
        assert talk.did() == ["client<b'alert'", "client.close", LEFT, "record tls_handshake"]
        assert talk.records[0].tls_error == "unknown_name"
        talk.check_clean()

    @pytest.mark.parametrize("silent", [0.0, 4.0, 9.9])
    def test_hello_and_handshake_have_one_time_together(self, silent: float) -> None:
        talk, session = ending()
        talk.passes(silent)
        talk.sends(session, NAMED)
        talk.passes(9.9 - silent)
        assert session.phase == HANDSHAKE
        talk.passes(0.2)
        assert talk.did()[1:] == ["client.close", LEFT, "record tls_handshake_timeout"]
        record = talk.records[0]
        assert (record.state, record.timer, record.tls_error) == ("cR--", "tls_handshake", "timeout")
        assert talk.gate.handshakes == [("timeout", "")]
        talk.check_clean()

    @pytest.mark.parametrize("sent", [0, 50])
    def test_a_client_that_does_not_say_hello_in_time(self, sent: int) -> None:
        talk, session = ending()
        talk.sends(session, NAMED[:sent])
        talk.passes(9.9)
        assert session.phase == HELLO
        talk.passes(0.2)
        assert talk.did() == ["client.close", LEFT, "record tls_handshake_timeout"]
        assert talk.gate.asked_route == [], "a name is needed for TLS, silence is none"
        talk.check_clean()

    def test_the_handshake_takes_nothing_from_the_time_of_the_connect(self) -> None:
        talk, session = ending(hello=NAMED)
        talk.passes(9.0)
        session.secured(FACTS)
        talk.did()
        talk.passes(4.8)
        assert session.phase == CONNECT
        assert talk.did() == []
        talk.passes(0.4)
        assert talk.did() == ["a.close", "dial b"]

    @pytest.mark.parametrize("how", ["ends", "loses"])
    @pytest.mark.parametrize("hello", [b"", NAMED], ids=["before the hello", "in the handshake"])
    def test_a_client_that_leaves(self, how: str, hello: bytes) -> None:
        talk, session = ending(hello=hello)
        getattr(talk, how)(session, talk.client(session))
        assert talk.did()[-2:] == [LEFT, "record client_gone"]
        record = talk.records[0]
        assert (record.state, record.tls_error) == ("CR--", "client_gone")
        assert talk.gate.handshakes == [("client_gone", "")]
        talk.check_clean()

    def test_a_client_that_ends_without_a_word_in_the_handshake_is_gone(self) -> None:
        talk, session = ending(hello=NAMED)
        talk.loses(session, talk.client(session), truncated=True)
        assert talk.records[0].outcome == "client_gone"

    def test_http_gets_a_hint(self) -> None:
        talk, session = ending()
        talk.sends(session, b"GET /index.html HTTP/1.1\r\nHost: a.example\r\n\r\n")
        written, *rest = talk.did()
        assert written.startswith("client<b'HTTP/1.1 400 Bad Request\\r\\n")
        assert rest == ["client.close", LEFT, "record tls_handshake"]
        record = talk.records[0]
        assert (record.rule, record.tls_error) == ("L10", "not_tls")
        talk.check_clean()

    def test_the_hint_is_as_long_as_it_says(self) -> None:
        talk, session = ending()
        client = talk.client(session)
        said: list[bytes] = []
        client.write = said.append  # type: ignore[assignment, method-assign]  # to see the very bytes
        talk.sends(session, b"POST / HTTP/1.1\r\n")
        head, _, body = b"".join(said).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
        assert b"Connection: close" in head.split(b"\r\n")

    @pytest.mark.parametrize(
        ("data", "word", "rule"),
        [(b"SSH-2.0-x\r\n", "not_tls", "L10"), (b"\0\1\2", "not_tls", "L10"), (b"G", "not_tls", "L10")],
    )
    def test_what_is_not_tls_is_closed_without_a_word(self, data: bytes, word: str, rule: str) -> None:
        talk, session = ending()
        talk.sends(session, data)
        assert talk.did() == ["client.close", LEFT, "record tls_handshake"]
        assert (talk.records[0].rule, talk.records[0].tls_error) == (rule, word)
        assert talk.gate.hellos == []

    @pytest.mark.parametrize(("data", "rule"), [(BAD, "L9"), (SSL_2, "L7")])
    def test_a_malformed_hello_never_comes_to_openssl(self, data: bytes, rule: str) -> None:
        talk, session = ending()
        talk.sends(session, data)
        assert talk.did() == ["client.close", LEFT, "record tls_handshake"]
        assert (talk.records[0].rule, talk.records[0].tls_error) == (rule, "client_hello")
        ((word, message),) = talk.gate.handshakes
        assert word == "client_hello"
        assert message, "the log is told why"

    def test_a_client_may_have_to_make_room(self) -> None:
        talk, session = ending(hello=NAMED)
        session.gave_way()
        assert talk.did() == ["client.close", LEFT, "record tls_handshake_timeout"]
        assert (talk.records[0].timer, talk.records[0].tls_error) == ("tls_handshake", "timeout")
        assert talk.gate.handshakes == [("timeout", "")]

    def test_a_session_that_is_killed_in_its_handshake_is_reset(self) -> None:
        talk, session = ending(hello=NAMED)
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.did() == ["client.abort", LEFT, "record killed"]
        assert len(talk.gate.handshakes) == 1
        talk.check_clean()

    @pytest.mark.parametrize("outcome", [errors.KILLED_BY_OPERATOR, errors.INTERNAL], ids=str)
    def test_a_client_whom_we_cut_is_not_said_to_have_gone(self, outcome: errors.Outcome) -> None:
        talk, session = ending(hello=NAMED)
        session.kill(outcome)
        assert talk.records[0].tls_error != "client_gone"
        assert [word for word, _ in talk.gate.handshakes] != ["client_gone"]

    def test_a_fault_of_ours_ends_the_handshake(self) -> None:
        talk, session = ending(hello=NAMED)
        session.broken(ValueError("ours"))
        assert talk.did() == ["client.abort", LEFT, "record internal"]
        assert len(talk.faults) == 1
        talk.check_clean()

    def test_a_handshake_that_nobody_waits_for_any_more_is_not_counted_twice(self) -> None:
        talk, session = ending(hello=NAMED)
        session.handshake_failed("protocol", "it is not to be understood")
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.gate.handshakes == [("protocol", "it is not to be understood")]

    def test_what_came_with_the_hello_does_not_count_as_the_clients_bytes(self) -> None:
        talk, session = ending(hello=NAMED)
        session.secured(FACTS)
        session.connected()
        talk.asks(session, 7)
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.records[0].bytes_in == 7

    def test_a_backend_that_resets_before_any_byte_is_replaced(self) -> None:
        """The hello went to nobody but us."""
        talk, session = ending(hello=NAMED)
        session.secured(FACTS)
        session.connected()
        talk.did()
        talk.loses(session, talk.side(session))
        assert talk.did() == ["client.part", "dial b"]


class TestReloads:
    """The listener goes by other settings while a session opens: what has begun goes on as it began."""

    def test_a_handshake_keeps_its_time(self) -> None:
        talk, session = ending(hello=NAMED)
        talk.gate.opening = opening_with()
        talk.passes(9.8)
        assert session.phase == HANDSHAKE
        talk.passes(0.4)
        assert talk.did()[-1] == "record tls_handshake_timeout"

    def test_a_handshake_is_counted_to_its_end(self) -> None:
        talk, session = ending(hello=NAMED)
        talk.gate.opening = opening_with()
        talk.loses(session, talk.client(session))
        assert talk.gate.handshakes == [("client_gone", "")]

    def test_a_hello_that_was_to_be_passed_on_is_passed_on(self) -> None:
        talk, session = passing()
        talk.sends(session, NAMED[:50])
        talk.gate.opening = opening_with(tls=True)
        talk.sends(session, NAMED[50:])
        assert session.phase == CONNECT
        assert talk.gate.hellos == []

    def test_a_hello_that_was_meant_for_us_never_goes_to_a_backend(self) -> None:
        talk, session = ending()
        talk.sends(session, NAMED[:50])
        talk.gate.opening = opening_with()
        talk.sends(session, NAMED[50:])
        assert talk.gate.asked_route == []


class TestBackendTls:
    def dialled(self, **rest: object) -> tuple[Conversation, Relay]:
        timeouts = {"connect": 5.0, "tls_handshake": 3.0, "try_window": 60.0}
        talk = Conversation(timeouts=timeouts, **rest)  # type: ignore[arg-type]  # handed on as they are
        session = talk.accept()
        talk.did()
        return talk, session

    def test_a_secured_backend_is_joined(self) -> None:
        talk, session = self.dialled()
        session.securing()
        assert session.phase == CONNECT
        session.connected(THEIRS)
        assert talk.did() == ["client+a"]
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert (record.backend_tls, record.backend_cipher) == ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")
        assert record.backend_resumed
        assert record.tls == ""

    def test_the_handshake_has_a_time_of_its_own(self) -> None:
        talk, session = self.dialled()
        talk.passes(4.8)
        session.securing()
        talk.passes(2.8)
        assert talk.did() == []
        talk.passes(0.3)
        assert talk.did() == ["a.close", "dial b"]
        assert session.tries is not None
        assert [one.error for one in session.tries] == [TryError.TLS_TIMEOUT]
        assert talk.pool.backends["a"].failures_total == 1

    def test_the_next_backend_has_the_whole_time_of_a_connect(self) -> None:
        talk, session = self.dialled()
        session.securing()
        talk.passes(3.1)
        talk.did()
        talk.passes(4.8)
        assert talk.did() == []
        talk.passes(0.3)
        assert talk.did() == ["b.close", "dial c"]
        assert session.tries is not None
        assert [one.error for one in session.tries] == [TryError.TLS_TIMEOUT, TryError.TIMEOUT]

    def test_the_last_backend_that_is_too_slow_ends_the_session(self) -> None:
        talk, session = self.dialled(names="a")
        session.securing()
        talk.passes(3.1)
        assert talk.did() == ["a.close", "client.close", LEFT, "record connect_timeout"]
        assert talk.records[0].tries[0].error == "tls_timeout"
        talk.check_clean()

    def test_the_record_names_the_timer_that_ran_out(self) -> None:
        talk, session = self.dialled(names="a")
        session.securing()
        talk.passes(3.1)
        assert talk.records[0].timer == "tls_handshake"

    def test_a_failed_handshake_goes_to_another_backend_and_says_why(self) -> None:
        talk, session = self.dialled()
        session.securing()
        talk.refuses(session, TryError.TLS, "unknown_ca: its certificate was not issued by a trusted authority")
        assert talk.did() == ["dial b"]
        session.connected()
        session.kill(errors.KILLED_BY_OPERATOR)
        first, second = talk.records[0].tries
        assert (first.backend, first.error) == ("a", "tls")
        assert first.detail == "unknown_ca: its certificate was not issued by a trusted authority"
        assert (second.backend, second.error, second.detail) == ("b", None, "")
        assert talk.pool.backends["a"].failures_total == 1

    def test_the_last_failed_handshake_ends_the_session(self) -> None:
        talk, session = self.dialled(names="a")
        session.securing()
        talk.refuses(session, TryError.TLS, "wrong_name: its certificate is not for a.example")
        assert talk.did() == ["client.close", LEFT, "record backend_tls"]
        assert (talk.records[0].state, talk.records[0].backend_tls) == ("SC--", "")
        talk.check_clean()

    def test_a_long_detail_is_cut(self) -> None:
        talk, session = self.dialled(names="a")
        talk.refuses(session, TryError.TLS, "x" * 5000)
        assert len(talk.records[0].tries[0].detail) == 1024

    def test_the_header_is_given_out_once(self) -> None:
        """It goes in front of the handshake, so nothing of it may come behind."""
        talk, session = self.dialled(send_proxy=SendProxySettings(1))
        session.securing()
        assert session.introduce() == b"PROXY TCP4 192.0.2.7 198.51.100.1 40007 443\r\n"
        assert session.introduce() == b""
        session.connected(THEIRS)
        assert talk.did() == ["client+a"]

    def test_the_next_backend_gets_it_too(self) -> None:
        talk, session = self.dialled(send_proxy=SendProxySettings(1))
        session.securing()
        first = session.introduce()
        talk.refuses(session, TryError.TLS)
        session.securing()
        assert session.introduce() == first
        session.connected(THEIRS)
        assert talk.did() == ["dial b", "client+b"]

    def test_a_backend_that_resets_after_its_handshake_is_replaced_by_one_that_gets_it_too(self) -> None:
        talk, session = self.dialled(send_proxy=SendProxySettings(1))
        session.securing()
        first = session.introduce()
        session.connected(THEIRS)
        talk.loses(session, talk.side(session))
        assert session.introduce() == first
        session.connected(THEIRS)
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.did()[:4] == ["client+a", "client.part", "dial b", "client+b"]

    def test_without_a_header_nothing_goes_in_front(self) -> None:
        _, session = self.dialled()
        session.securing()
        assert session.introduce() == b""

    def test_a_try_that_is_over_tells_nothing_of_its_tls(self) -> None:
        talk, session = self.dialled()
        session.securing()
        session.connected(THEIRS)
        talk.loses(session, talk.side(session))
        session.connected()
        session.kill(errors.KILLED_BY_OPERATOR)
        assert (talk.records[0].backend, talk.records[0].backend_tls) == ("b", "")


class TestTruncation:
    def test_a_client_that_ends_without_a_word_resets_the_backend(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.asks(session)
        talk.loses(session, talk.client(session), truncated=True)
        assert talk.did() == ["a.abort", LEFT, "record truncated"]
        record = talk.records[0]
        assert (record.state, record.flag) == ("CD--", "DC")
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_clean()

    def test_a_backend_that_ends_without_a_word_resets_the_client(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.loses(session, talk.side(session), truncated=True)
        assert talk.did() == ["client.abort", LEFT, "record truncated"]
        record = talk.records[0]
        assert (record.state, record.flag) == ("SD--", "UC")
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_what_came_before_is_delivered_first(self, who: str) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.asks(session)
        talk.answers(session)
        client, side = talk.client(session), talk.side(session)
        lost, other = (client, side) if who == "client" else (side, client)
        other.queued = 500
        talk.loses(session, lost, truncated=True)
        assert session.phase == ENDING
        assert talk.did() == [f"{other.name}.stop_reading"]
        other.queued = 0
        talk.passes(0.2)
        assert talk.did() == [f"{other.name}.abort", LEFT, "record truncated"]
        talk.check_clean()


class TestBytesThatAreNoTls:
    def loses(self, talk: Conversation, session: Relay, who: str, word: str) -> None:
        side = talk.client(session) if who == "client" else talk.side(session)
        side.gone()
        session.lost(side, broken=(word, "it is not to be understood"))

    @pytest.mark.parametrize(("word", "rule"), [("bad_record", ""), ("control_flood", "L8")])
    def test_of_a_client_they_end_the_session_and_are_told(self, word: str, rule: str) -> None:
        talk, session = ending(hello=NAMED)
        session.secured(FACTS)
        session.connected()
        talk.asks(session)
        talk.did()
        self.loses(talk, session, "client", word)
        assert talk.did() == ["a.abort", LEFT, "record tls_error"]
        record = talk.records[0]
        assert (record.state, record.tls_error, record.rule) == ("PD--", word, rule)
        assert talk.gate.complaints == [(word, "it is not to be understood")]
        assert talk.gate.handshakes == [("full", "")], "the handshake was a good one"
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_clean()

    def test_of_a_backend_they_are_its_failure(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        self.loses(talk, session, "backend", "bad_record")
        assert talk.did() == ["client.abort", LEFT, "record backend_tls"]
        assert (talk.records[0].state, talk.records[0].tls_error) == ("SD--", "")
        assert talk.pool.backends["a"].failures_total == 1
        talk.check_clean()


class TestEndsThatAreNotSaid:
    """Most clients do not wait for more after our close_notify, and some leave it unread."""

    def secured(self) -> tuple[Conversation, Relay]:
        talk, session = ending(hello=NAMED)
        session.secured(FACTS)
        session.connected()
        talk.asks(session)
        talk.answers(session)
        talk.did()
        return talk, session

    @pytest.mark.parametrize("truncated", [False, True], ids=["reset", "FIN alone"])
    def test_a_client_that_was_told_everything_may_just_leave(self, truncated: bool) -> None:
        talk, session = self.secured()
        talk.ends(session, talk.side(session))
        assert talk.did() == ["client.finish"]
        talk.loses(session, talk.client(session), truncated=truncated)
        assert talk.did()[-1] == "record ok"
        talk.check_clean()

    def test_not_so_while_the_backend_may_say_more(self) -> None:
        talk, session = self.secured()
        talk.loses(session, talk.client(session), truncated=True)
        assert talk.records[0].outcome == "truncated"

    def test_nor_when_some_of_it_was_lost_on_the_way(self) -> None:
        talk, session = self.secured()
        talk.stalls(session, talk.client(session))
        talk.ends(session, talk.side(session))
        talk.loses(session, talk.client(session), truncated=True)
        assert talk.records[0].outcome == "truncated"

    def test_nor_without_tls_where_a_reset_is_a_reset(self) -> None:
        talk = Conversation()
        session = talk.joined()
        talk.answers(session)
        talk.ends(session, talk.side(session))
        talk.loses(session, talk.client(session))
        assert talk.records[0].outcome == "client_gone"


class TestRecords:
    def test_all_fields_of_a_client_with_a_certificate(self) -> None:
        talk, session = ending(hello=NAMED)
        facts = TlsFacts(
            "TLSv1.3",
            "TLS_AES_128_GCM_SHA256",
            "X25519MLKEM768",
            "a.example",
            "h2",
            resumed=True,
            seconds=0.25,
            verified="ok",
            certificate=CERTIFICATE,
        )
        session.secured(facts)
        session.connected()
        talk.answers(session, 10)
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert (record.sni, record.alpn) == ("a.example", "h2")
        assert (record.tls, record.cipher, record.group) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768")
        assert record.resumed
        assert record.t_handshake_ms == 250.0
        assert (record.client_verify, record.client_cert, record.client_subject) == ("ok", "ab" * 32, "CN=alice")
        assert (record.tls_error, record.backend_tls, record.backend_cipher, record.backend_resumed) == (
            "",
            "",
            "",
            False,
        )

    def test_a_client_without_a_certificate(self) -> None:
        talk, session = ending(hello=NAMELESS)
        session.secured(FACTS)
        session.kill(errors.KILLED_BY_OPERATOR)
        record = talk.records[0]
        assert (record.sni, record.client_verify, record.client_cert, record.client_subject) == ("", "", "", "")

    def test_the_namespace_of_a_header(self) -> None:
        raw = encode_v2(("192.0.2.99", 1), ("192.0.2.1", 2))
        # TLV 0x30 by hand: nothing of ours writes it.
        told = raw[:14] + (12 + 7).to_bytes(2) + raw[16:] + b"\x30\0\4blue"
        talk = Conversation()
        session = talk.accept(header=5.0)
        talk.sends(session, told)
        session.kill(errors.KILLED_BY_OPERATOR)
        assert talk.records[0].namespace == "blue"


class TestIntroduction:
    TLVS = SendProxySettings(2, ("authority", "alpn", "tls", "crc32c"))

    def test_of_a_handshake_of_ours_everything_is_told(self) -> None:
        talk, session = ending(hello=NAMED, send_proxy=self.TLVS)
        session.secured(FACTS)
        header = header_of(session)
        assert (header.source, header.authority, header.alpn) == (PEER, "a.example", b"h2")
        assert header.tls == ProxyTls(1, 0, version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", group="X25519MLKEM768")
        assert not header.tls.verified

    @pytest.mark.parametrize(("resumed", "flags"), [(False, 7), (True, 5)])
    def test_of_a_client_certificate(self, resumed: bool, flags: int) -> None:
        talk, session = ending(hello=NAMED, send_proxy=self.TLVS)
        session.secured(TlsFacts("TLSv1.3", "C", "", "a.example", "", resumed, 0.1, "ok", CERTIFICATE))
        header = header_of(session)
        assert header.alpn is None
        assert header.tls is not None
        assert header.tls.flags == flags
        assert header.tls.verified
        assert (header.tls.common_name, header.tls.certificate) == ("alice", b"not looked at")
        assert (header.tls.key_algorithm, header.tls.signature_algorithm) == ("EC256", "ecdsa-with-SHA256")
        assert header.tls.group is None

    def test_of_a_hello_that_is_passed_on_only_the_name_is_told(self) -> None:
        """What is offered has not been agreed on, and the TLS is the backend's own."""
        talk, session = passing(send_proxy=self.TLVS)
        talk.sends(session, NAMED)
        header = header_of(session)
        assert (header.authority, header.alpn, header.tls) == ("a.example", None, None)

    def test_what_a_header_in_front_of_us_told_is_passed_on(self) -> None:
        told = ProxyTls(1, 0, version="TLSv1.2", cipher="X")
        raw = encode_v2(("192.0.2.99", 1), ("192.0.2.1", 2), authority="told.example", alpn=b"h2", tls=told)
        talk = Conversation(send_proxy=self.TLVS)
        session = talk.accept(opening=opening_with(header=True))
        talk.sends(session, raw)
        header = header_of(session)
        assert (header.source, header.authority, header.alpn, header.tls) == (
            ("192.0.2.99", 1),
            "told.example",
            b"h2",
            told,
        )

    def test_our_own_handshake_counts_more_than_what_a_header_told(self) -> None:
        told = ProxyTls(1, 0, version="TLSv1.2", cipher="X")
        raw = encode_v2(("192.0.2.99", 1), ("192.0.2.1", 2), authority="told.example", alpn=b"x", tls=told)
        talk = Conversation(send_proxy=self.TLVS)
        session = talk.accept(opening=opening_with(header=True, tls=True))
        talk.sends(session, raw + NAMED)
        session.secured(FACTS)
        header = header_of(session)
        assert (header.authority, header.alpn) == ("a.example", b"h2")
        assert header.tls is not None
        assert header.tls.version == "TLSv1.3"

    def test_what_is_not_asked_for_is_not_told(self) -> None:
        talk, session = ending(hello=NAMED, send_proxy=SendProxySettings(2))
        session.secured(FACTS)
        header = header_of(session)
        assert (header.authority, header.alpn, header.tls) == (None, None, None)

    def test_the_data_phase_begins_behind_it(self) -> None:
        talk, session = ending(hello=NAMED, send_proxy=SendProxySettings(1))
        session.secured(FACTS)
        session.connected()
        assert session.phase == DATA
        assert talk.did()[-1] == "client+a b'PROXY TCP4 192.0.2.7 198.51.100.1 40007 443\\r\\n'"
