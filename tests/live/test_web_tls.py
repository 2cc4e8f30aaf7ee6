"""https: TLS in front of HTTP, TLS towards backends, PROXY headers on both sides, UNIX sockets, and the quick form."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from tests.live.harness import TWISTD, Ports, until
from tests.live.http_peers import ID_FIELD, Answer, Asked, RawClient, RecordingBackend, chunked, http_pool, request
from tests.live.http_scripts import Gate, Live, Recording, digest, large, upload
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE, read_exactly, short_directory
from tests.live.tls_peers import Papers, TlsSocket, server_context, tls_client
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, Load, fields_of, https, tls_keys

BIG = 5_000_000


class TestListeners:
    def test_bodies_go_both_ways_on_one_connection(self, live: Live, authority: Papers) -> None:
        backend = live.recording(
            {"/big": large(BIG), "/chunks": large(BIG, framing="chunked"), "/close": large(BIG, framing="close")},
            keep_bodies=False,
        )
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        with https(live, ca=authority.ca) as client:
            assert client.ask(b"POST", b"/", body=b"12345").body == b"ok"
            for path in (b"/big", b"/chunks", b"/close"):
                assert hashlib.sha256(client.ask(target=path).body).hexdigest() == digest(BIG)
            upload(client, request(b"PUT", b"/up", ((b"Content-Length", b"%d" % BIG),)), BIG)
            assert client.answer().status == 200
            assert client.ask(b"HEAD", b"/big").get(b"content-length") == b"%d" % BIG
        put = next(one for one in backend.wait_for(6) if one.method == b"PUT")
        assert put.digest == digest(BIG)
        records = live.records(6)
        assert {record["tls"] for record in records} == {"TLSv1.3"}
        assert {(record["sni"], record["outcome"]) for record in records} == {(NAME, "ok")}
        assert [record["request_number"] for record in records] == [1, 2, 3, 4, 5, 6]
        assert fields_of(put, b"x-forwarded-")[b"x-forwarded-proto"] == b"https"

    def test_many_clients_with_tls_1_2_and_1_3_at_once(self, live: Live, authority: Papers) -> None:
        backend = live.recording({"/": large(70_000)})
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        older = ssl.TLSVersion.TLSv1_2
        loads = [
            Load(lambda: https(live, ca=authority.ca), clients=2),
            Load(lambda: https(live, ca=authority.ca, most=older), clients=2),
        ]
        for load in loads:
            load.go_on(40)
        for load in loads:
            load.stop()
            assert {hashlib.sha256(body).hexdigest() for body in load.answers} == {digest(70_000)}

    @pytest.mark.parametrize(
        ("ours", "theirs", "agreed"),
        [
            ('alpn = "http/1.1"', ("h2", "http/1.1"), "http/1.1"),
            ('alpn = "http/1.1"', (), None),
            ("", ("h2", "http/1.1"), "http/1.1"),
        ],
    )
    def test_the_protocol_that_is_agreed_on(
        self, live: Live, authority: Papers, ours: str, theirs: tuple[str, ...], agreed: str | None
    ) -> None:
        """L17"""
        backend = live.recording()
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME), more=ours))
        with https(live, alpn=theirs) as client:
            assert client.sock.tls.selected_alpn_protocol() == agreed  # type: ignore[attr-defined]  # a TlsSocket
            assert client.ask().status == 200
        assert live.record().get("alpn", "") == (agreed or "")

    def test_a_client_that_speaks_another_protocol_only_is_refused(self, live: Live, authority: Papers) -> None:
        """L17"""
        backend = live.recording()
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME), more='alpn = "http/1.1"'))
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            https(live, alpn=("h2",))
        assert live.record()["outcome"] == "tls_handshake"

    @pytest.mark.parametrize("ending", ["fin", "reset", "fin in hello", "reset in hello", "cut behind it"])
    def test_a_client_that_leaves_within_its_handshake_leaves_nothing(
        self, live: Live, authority: Papers, ending: str
    ) -> None:
        backend = live.recording()
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        with https(live, handshake=ending == "cut behind it") as client:
            tls = client.sock
            assert isinstance(tls, TlsSocket)
            if "hello" in ending:
                tls.send_plain(tls.client_hello()[:100])
            if "reset" in ending:
                client.reset()
            else:
                tls.cut()
                with contextlib.suppress(OSError):
                    client.read_to_end()
        until(lambda: live.proxy.status()["sessions"] == 0, "it has left")
        if ending != "cut behind it":
            record = live.record()
            assert (record["outcome"], record["state"]) == ("client_gone", "CR--")

    def test_a_request_in_clear_on_a_tls_port_harms_nobody(self, live: Live, authority: Papers) -> None:
        """L10"""
        backend = live.recording()
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        with live.client() as client:
            client.send(request())
            with contextlib.suppress(ConnectionError):
                client.read_to_end()
        with https(live) as client:
            assert client.ask().status == 200
        assert len(backend.wait_for(1)) == 1

    def test_tls_on_a_clear_port_is_a_bad_request(self, live: Live) -> None:
        """L10"""
        backend = live.recording()
        live.serve(backend.address)
        with pytest.raises(ssl.SSLError):
            https(live)
        record = live.record()
        assert (record["status"], record["outcome"], backend.requests) == (400, "bad_request", [])

    @pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_requests_that_share_records_are_all_answered(
        self, live: Live, authority: Papers, most: ssl.TLSVersion
    ) -> None:
        """C1: what TLS has read ahead makes no event, and is not forgotten."""
        gate = Gate()
        backend = live.recording(lambda asked: gate(asked) if asked.path == "/0" else Answer(body=asked.target))
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        many = b"".join(request(target=b"/%d" % n, fields=((b"X-Pad", b"x" * (n * 37 % 1500)),)) for n in range(300))
        with https(live, most=most) as client:
            sending = threading.Thread(target=client.send, args=(many,), daemon=True)
            sending.start()
            gate.wait()
            time.sleep(0.02)
            assert len(backend.requests) == 1
            gate.open()
            assert client.answer().body == b"ok"
            for number in range(1, 300):
                assert client.answer().body == b"/%d" % number
            sending.join(PATIENCE)

    def test_requests_in_the_record_of_a_bodys_end_are_answered(self, live: Live, authority: Papers) -> None:
        """C1, F19"""
        backend = live.recording()
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        behind = [request(target=b"/%d" % n, fields=((b"X-Pad", b"x" * 1000),)) for n in range(14)]
        with https(live) as client:
            for size in (10, 300):
                client.send(request(b"PUT", b"/%d" % size, ((b"Content-Length", b"%d" % size),)))
                _wait_for_head(backend, b"/%d" % size)
                client.send(b"x" * size + b"".join(behind))
                assert [client.answer().status for _ in range(15)] == [200] * 15
        assert {one.size for one in backend.wait_for(30)} == {0, 10, 300}

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_bodies_and_requests_in_records_of_any_size(self, live: Live, authority: Papers, encrypted: bool) -> None:
        """Scenarios 54, 56 and 57, with TLS"""
        chance = random.Random(5)

        def answer(asked: Asked) -> Answer:
            framing: Literal["chunked", "length"] = "chunked" if chance.random() < 0.5 else "length"
            return Answer(body=asked.body, framing=framing, piece=chance.randint(1, 70_000))

        tls = f'tls = {{ ca = "{authority.ca}" }}' if encrypted else ""
        backend = live.recording(answer, tls=server_context(authority.server()) if encrypted else None)
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)), pool=tls)
        sizes = (0, 1, 10, 1000, 16_384, 16_385, 40_000, 65_536, 200_000)
        bodies = [chance.randbytes(chance.choice(sizes)) for _ in range(60)]
        with https(live) as client:
            sending = threading.Thread(target=_send_in_pieces, args=(client, bodies, random.Random(6)), daemon=True)
            sending.start()
            for body in bodies:
                assert client.answer().body == body
            sending.join(PATIENCE)
            assert client.ask().status == 200

    @pytest.mark.parametrize("fin", [False, True])
    def test_a_client_that_ends_its_half_gets_its_answers(self, live: Live, authority: Papers, fin: bool) -> None:
        """C14"""
        gate = Gate()
        backend = live.recording({"/": gate})
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        with https(live) as client:
            client.send(request() * 2)
            gate.wait()
            if fin:
                client.half_close()
            else:
                client.sock.send_close_notify()  # type: ignore[attr-defined]  # a TlsSocket
            time.sleep(0.02)
            gate.open()
            assert [client.answer().body, client.answer().body] == [b"ok", b"ok"]
            assert client.was_closed()

    @pytest.mark.parametrize("begun", [b"", b"GET / HT"])
    def test_a_client_that_asks_nothing_is_closed_in_order(self, live: Live, authority: Papers, begun: bytes) -> None:
        """W4: without a word, if it said none"""
        listener = tls_keys(authority.issue(NAME)) + 'timeouts.request_head = "300ms"'
        live.serve(live.recording().address, listener=listener)
        with https(live) as client:
            client.send(begun)
            if begun:
                assert client.answer().status == 408
            assert client.was_closed()

    def test_a_client_that_cuts_its_tls_within_a_body_has_sent_none(self, live: Live, authority: Papers) -> None:
        """L15, F18"""
        backend = live.recording()
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)))
        with https(live) as client:
            client.send(request(b"POST", b"/", ((b"Content-Length", b"10"),), b"12345"))
            until(lambda: backend.requests, "the head has come")
            client.sock.cut()  # type: ignore[attr-defined]  # a TlsSocket
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                client.read_to_end()
        live.record()
        until(lambda: not backend.open, "the backend's connection was ended")
        assert [one.complete for one in backend.requests] == [False]


def _wait_for_head(backend: Recording, target: bytes) -> None:
    until(lambda: any(one.target == target for one in list(backend.requests)), "the head has come")


def _send_in_pieces(client: RawClient, bodies: Sequence[bytes], chance: random.Random) -> None:
    whole = b""
    for body in bodies:
        if chance.random() < 0.5:
            pieces = [body[at : at + 9999] for at in range(0, len(body), 9999)]
            whole += request(b"POST", b"/", ((b"Transfer-Encoding", b"chunked"),), chunked(*pieces))
        else:
            whole += request(b"PUT", b"/", body=body)
    while whole:
        size = chance.choice((1, 100, 5000, 16_384, 100_000))
        client.send(whole[:size])
        whole = whole[size:]


class TestOneLineEach:
    def test_redirect_https_keeps_path_and_query(self, live: Live) -> None:
        port = live.ports.reserve()
        live.port = port
        live.serve_text(
            f'[[listener]]\nname = "in"\nbind = "127.0.0.1:{port}"\nprotocol = "http"\nhttp.redirect_https = true\n'
        )
        with live.client() as client:
            answer = client.ask(target=b"/a%20b?c=d&e", host=b"Shop.Example:80")
            assert (answer.status, answer.get(b"location")) == (308, b"https://shop.example/a%20b?c=d&e")
            assert answer.get(b"strict-transport-security") is None
            answer = client.ask(b"POST", b"//evil.test/x", body=b"x" * 10)
            assert answer.get(b"location") == b"https://lbproxy.test/evil.test/x"
            # The port of the other listener is not known here: a browser asks for the usual one.
            assert client.ask(host=b"shop.example:8080").get(b"location") == b"https://shop.example/"
            assert client.ask(b"HEAD").status == 308
        assert [record["status"] for record in live.records(4)] == [308] * 4

    def test_a_trusted_peer_that_had_tls_is_not_redirected(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, listener='http = { redirect_https = true, trusted_peers = "127.0.0.1" }')
        with live.client() as client:
            assert client.ask().status == 308
            assert client.ask(fields=((b"X-Forwarded-Proto", b"https"),)).status == 200
            assert client.ask(fields=((b"X-Forwarded-Proto", b"http"),)).status == 308

    def test_hsts_is_said_on_every_answer_over_tls(self, live: Live, authority: Papers) -> None:
        backend = live.recording({"/404": Answer(404)})
        more = '[[route]]\nlistener = "in"\npath = "/none"\nanswer = { status = 410 }\n'
        http = 'http = { hsts = "1d", hsts_subdomains = true }'
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME)) + http, more=more)
        with https(live) as client:
            for path in (b"/", b"/404", b"/none", b"/bad%2F"):
                said = client.ask(target=path).get(b"strict-transport-security")
                assert said == b"max-age=86400; includeSubDomains"


class TestNames:
    @pytest.mark.parametrize(
        ("name", "host", "status"),
        [
            ("a.test", b"a.test", 200),
            ("a.test", b"A.TEST.:443", 200),
            ("a.test", b"b.test", 200),
            ("b.test", b"a.test", 200),
            ("a.test", b"secret.test", 421),
            (None, b"secret.test", 421),
            ("secret.test", b"secret.test", 200),
            ("secret.test", b"a.test", 421),
        ],
    )
    def test_a_host_of_another_policy_is_misdirected(
        self, live: Live, authority: Papers, name: str | None, host: bytes, status: int
    ) -> None:
        """L2"""
        backend = live.recording()
        files = authority.issue("a.test", "b.test", "secret.test")
        site = f'site = [{{ names = "secret.test", client_ca = "{authority.ca}" }}]'
        live.serve(backend.address, listener=tls_keys(files, more=site))
        shown = authority.issue("client", client=True)
        with https(live, name=name, cert=shown) as client:
            answer = client.ask(host=host)
            assert answer.status == status
            if status == 421:
                assert answer.get(b"connection") == b"close"
                assert client.was_closed()
        record = live.record()
        assert (record["status"], record.get("rule", "")) == (status, "L2" if status == 421 else "")
        assert len(backend.requests) == (status == 200)

    def test_the_second_request_of_a_connection_is_looked_at_too(self, live: Live, authority: Papers) -> None:
        """L2"""
        backend = live.recording()
        files = authority.issue("a.test", "secret.test")
        site = f'site = [{{ names = "secret.test", client_ca = "{authority.ca}" }}]'
        live.serve(backend.address, listener=tls_keys(files, more=site))
        with https(live, name="a.test") as client:
            assert client.ask(host=b"a.test").status == 200
            assert client.ask(host=b"secret.test").status == 421
        assert [asked.get(b"host") for asked in backend.requests] == [b"a.test"]


class TestClientCertificates:
    CLAIMS = (
        (b"Client-Cert", b":AAAA:"),
        (b"Client-Cert-Chain", b":AAAA:"),
        (b"X-Client-Cert-Verify", b"ok"),
        (b"x-client-cert-subject", b"CN=admin"),
        (b"X-Client-Cert-Fingerprint", b"00"),
        (b"Client_Cert", b":AAAA:"),
        (b"X_Client_Cert_Subject", b"CN=admin"),
        (b"X_Client-Cert_Verify", b"ok"),
    )

    @pytest.mark.parametrize("underscores", ["drop", "pass"])
    @pytest.mark.parametrize("shows", [True, False])
    @pytest.mark.parametrize("told", [True, False])
    def test_backends_are_told_and_claims_are_not_passed_on(
        self, live: Live, authority: Papers, told: bool, shows: bool, underscores: str
    ) -> None:
        """RFC 9440; X1, X5"""
        backend = live.recording()
        verify = f'client_ca = "{authority.ca}", client_verify = "optional"'
        http = f'http = {{ client_cert = {str(told).lower()}, underscores = "{underscores}" }}'
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME), more=verify) + http)
        shown = authority.issue("client.test", client=True, subject="Jürgen, Admin")
        with https(live, cert=shown if shows else None) as client:
            for _ in range(2):
                assert client.ask(fields=self.CLAIMS).status == 200
        for asked in backend.wait_for(2):
            seen = fields_of(asked, b"client") | fields_of(asked, b"x-client") | fields_of(asked, b"x_client")
            if not told:
                assert seen == {}
            elif not shows:
                assert seen == {b"x-client-cert-verify": b"none"}
            else:
                assert b64decode(seen.pop(b"client-cert").strip(b":")) == shown.issued.der
                assert seen == {
                    b"x-client-cert-verify": b"ok",
                    b"x-client-cert-subject": b"CN=J\\C3\\BCrgen\\, Admin",
                    b"x-client-cert-fingerprint": shown.issued.fingerprint.encode(),
                }
            assert asked.head.lower().count(b"client-cert:") == (told and shows)
        assert {record.get("client_cert", "") for record in live.records(2)} == {
            shown.issued.fingerprint if shows else ""
        }

    def test_who_must_show_one_and_does_not_never_gets_to_ask(self, live: Live, authority: Papers) -> None:
        """L4"""
        backend = live.recording()
        verify = f'client_ca = "{authority.ca}"'
        live.serve(backend.address, listener=tls_keys(authority.issue(NAME), more=verify) + "http.client_cert = true")
        with pytest.raises(ssl.SSLError), https(live) as client:
            client.ask()
        assert backend.requests == []


class TestBackends:
    def test_connections_with_tls_are_kept(self, live: Live, authority: Papers) -> None:
        files = authority.server()
        backend = live.recording({"/big": large(BIG)}, tls=server_context(files), keep_bodies=False)
        live.serve(backend.address, pool=f'tls = {{ ca = "{authority.ca}" }}')
        with live.client() as client:
            for _ in range(5):
                assert client.ask(b"POST", body=b"x" * 10).body == b"ok"
            assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(BIG)
            upload(client, request(b"PUT", b"/up", ((b"Content-Length", b"%d" % BIG),)), BIG)
            assert client.answer().status == 200
        asked = backend.wait_for(7)
        assert {one.connection for one in asked} == {1}
        assert asked[-1].digest == digest(BIG)
        assert [record["reused"] for record in live.records(7)] == [False] + [True] * 6

    def test_tls_on_both_sides_and_the_way_back_is_whole(self, live: Live, authority: Papers) -> None:
        backend = live.recording({"/big": large(BIG, framing="chunked")}, tls=server_context(authority.server()))
        live.serve(
            backend.address,
            listener=tls_keys(authority.issue(NAME)),
            pool=f'tls = {{ ca = "{authority.ca}" }}',
        )
        with https(live, ca=authority.ca) as client:
            assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(BIG)
            assert client.ask().body == b"ok"
        assert {one.connection for one in backend.wait_for(2)} == {1}

    def test_other_settings_take_other_connections(self, live: Live, authority: Papers) -> None:
        """L16"""
        backend = live.recording(tls=server_context(authority.issue("127.0.0.1", "other.test")))
        more = '[[route]]\nlistener = "in"\npath = "/other"\npool = "other"\n'
        tls = f'ca = "{authority.ca}"'
        more += http_pool("other", backend.address, more=f'tls = {{ {tls}, server_name = "other.test" }}')
        live.serve(backend.address, pool=f"tls = {{ {tls} }}", more=more)
        with live.client() as client:
            for path in (b"/", b"/other", b"/", b"/other"):
                assert client.ask(target=path).status == 200
        assert [(one.target, one.connection) for one in backend.wait_for(4)] == [
            (b"/", 1),
            (b"/other", 2),
            (b"/", 1),
            (b"/other", 2),
        ]

    @pytest.mark.parametrize("stranger", [True, False])
    def test_a_backend_that_cannot_prove_itself_is_a_502(self, live: Live, authority: Papers, stranger: bool) -> None:
        """L14"""
        files = authority.stranger().server() if stranger else authority.server("other.test")
        backend = live.recording(tls=server_context(files))
        live.serve(backend.address, pool=f'tls = {{ ca = "{authority.ca}" }}')
        with live.client() as client:
            answer = client.ask(b"POST", body=b"x")
            assert answer.status == 502
            assert answer.get(b"proxy-status") == b"lbproxy; error=tls_protocol_error"
        record = live.record()
        assert (record["outcome"], record["tries"][0]["class"], backend.requests) == ("backend_tls", "A", [])

    def test_an_end_without_close_notify_is_no_end(self, live: Live, authority: Papers) -> None:
        """L15"""

        def cut(conn: socket.socket, _ahead: bytes) -> None:
            conn.cut()  # type: ignore[attr-defined]  # a TlsSocket
            conn.recv(1)

        answers = {"/cut": Answer(body=b"x" * 1000, framing="close", then=cut), "/end": Answer(framing="close")}
        backend = live.recording(answers, tls=server_context(authority.server()))
        live.serve(backend.address, pool=f'tls = {{ ca = "{authority.ca}" }}')
        with live.client() as client:
            assert client.ask(target=b"/end").body == b"ok"
        with live.client() as client:
            client.send(request(target=b"/cut"))
            with pytest.raises(ConnectionResetError):
                client.read_to_end()
        record = live.records(2)[1]
        assert (record["outcome"], record["state"][:2]) == ("backend_cut", "SD")

    def test_checks_go_over_https_and_take_a_backend_out_and_in(self, live: Live, authority: Papers) -> None:
        backend = live.recording(tls=server_context(authority.server()))
        check = 'interval = "50ms", rise = 1, fall = 1, path = "/healthz", host = "shop.example", body = "ok"'
        live.serve(backend.address, pool=f'tls = {{ ca = "{authority.ca}" }}\ncheck = {{ {check} }}')
        live.proxy.wait_for_state(backend.address, "up")
        assert {(one.target, one.get(b"host")) for one in backend.requests} == {(b"/healthz", b"shop.example")}
        with live.client() as client:
            assert client.ask().status == 200
            backend.answers = {"/healthz": Answer(body=b"not now")}
            live.proxy.wait_for_state(backend.address, "down")
            answer = client.ask()
            assert (answer.status, answer.get(b"retry-after") is not None) == (503, True)
            backend.answers = {}
            live.proxy.wait_for_state(backend.address, "up")
            assert client.ask().status == 200


class TestProxyHeaders:
    V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 8443\r\n"

    def test_the_client_is_the_one_in_the_header(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, listener='proxy_protocol.from = "127.0.0.1"')
        with live.client() as client:
            client.send(self.V1 + request(fields=((b"X-Forwarded-For", b"203.0.113.1"),)))
            assert client.answer().status == 200
            assert client.ask().status == 200
        for asked in backend.wait_for(2):
            assert fields_of(asked, b"x-forwarded-") == {
                b"x-forwarded-for": b"192.0.2.1",
                b"x-forwarded-host": b"lbproxy.test",
                b"x-forwarded-proto": b"http",
                b"x-forwarded-port": b"8443",
            }
        assert {record["client"] for record in live.records(2)} == {"192.0.2.1:51234"}

    @pytest.mark.parametrize(
        ("tlv", "scheme"),
        [("", b"http"), ("20 0005 01 00000000", b"https"), ("20 0005 00 00000000", b"http")],
        ids=["nothing said", "with TLS", "without TLS"],
    )
    def test_tls_that_ended_in_front_counts(self, live: Live, tlv: str, scheme: bytes) -> None:
        """The first bit of what is said about TLS tells whether the client used it (semantics.md 13)."""
        backend = live.recording()
        live.serve(backend.address, listener='proxy_protocol.from = "127.0.0.1"')
        more = bytes.fromhex(tlv)
        start = bytes.fromhex("0d0a0d0a000d0a515549540a 2111") + (12 + len(more)).to_bytes(2)
        with live.client() as client:
            client.send(start + bytes.fromhex("c0000201 c6336402 c822 01bb") + more + request())
            assert client.answer().status == 200
        (asked,) = backend.wait_for(1)
        assert (asked.get(b"x-forwarded-proto"), asked.get(b"x-forwarded-port")) == (scheme, b"443")

    def test_a_header_in_front_of_tls(self, live: Live, authority: Papers) -> None:
        backend = live.recording()
        listener = 'proxy_protocol.from = "127.0.0.1"\n' + tls_keys(authority.issue(NAME))
        live.serve(backend.address, listener=listener)
        with https(live, ca=authority.ca, before=self.V1) as client:
            assert client.ask().status == 200
        (asked,) = backend.wait_for(1)
        assert (asked.get(b"x-forwarded-for"), asked.get(b"x-forwarded-proto")) == (b"192.0.2.1", b"https")

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_a_connection_that_names_its_client_serves_it_alone(
        self, live: Live, authority: Papers, encrypted: bool
    ) -> None:
        """P7"""
        backend = _Introduced(server_context(authority.server()) if encrypted else None)
        live.stack.callback(backend.stop)
        tls = f'tls = {{ ca = "{authority.ca}" }}\n' if encrypted else ""
        live.serve(backend.address, pool=tls + 'send_proxy = "v1"')
        clients = [live.client() for _ in range(2)]
        own = [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (one.sock.getsockname()[1], live.port) for one in clients]
        for _ in range(2):
            for number, client in enumerate(clients):
                assert client.ask(id=b"%d" % number).status == 200
        asked = backend.wait_for(4)
        assert [backend.headers[one.connection] for one in asked] == own + own
        assert len({one.connection for one in asked}) == 4
        assert [one.get(ID_FIELD) for one in asked] == [b"0", b"1", b"0", b"1"]


class _Introduced(Recording):
    """A backend that wants a PROXY header of version 1 first; `headers` are by connection."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.headers: dict[int, bytes] = {}
        super().__init__(tls=tls)

    def _begin(self, conn: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            line += read_exactly(conn, 1)
        self.headers[self._numbers + 1] = line
        super()._begin(conn)


class TestUnixSockets:
    @pytest.fixture
    def directory(self) -> Iterator[str]:
        with short_directory() as found:
            yield found

    def test_listener_and_backend(self, live: Live, directory: str) -> None:
        backend = RecordingBackend({"/big": large(BIG)}, path=f"{directory}/back", keep_bodies=False)
        live.stack.callback(backend.stop)
        live.serve_text(
            f'[[listener]]\nname = "in"\nbind = "unix:{directory}/front"\nprotocol = "http"\npool = "out"\n'
            + http_pool("out", backend.address)
        )
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(f"{directory}/front")
        with RawClient(sock=sock) as client:
            assert client.ask().status == 200
            assert client.ask(fields=((b"X-Forwarded-For", b"192.0.2.7"),)).status == 200
            assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(BIG)
            upload(client, request(b"PUT", b"/up", ((b"Content-Length", b"%d" % BIG),)), BIG)
            assert client.answer().status == 200
        asked = backend.wait_for(4)
        assert {one.connection for one in asked} == {1}
        assert asked[3].digest == digest(BIG)
        # Who may open the socket is believed; it has no address of its own.
        assert [one.get(b"x-forwarded-for") for one in asked[:2]] == [None, b"192.0.2.7"]
        assert [record["client"] for record in live.records(4)[:2]] == ["unix", "192.0.2.7"]


class TestQuickForm:
    def test_https_on_the_command_line(self, authority: Papers, tmp_path: Path) -> None:
        """The portable way with TLS, since everything else here takes the fast one."""
        files = authority.issue(NAME)
        ports = Ports()
        with Recording({"/big": large(BIG)}, tls=server_context(authority.server()), keep_bodies=False) as backend:
            port = ports.reserve()
            command = [*TWISTD, "-n", "--pidfile=", "lbproxy", "--listen", f"https://127.0.0.1:{port}"]
            command += ["--backend", f"https://{backend.address}", "--cert", files.cert, "--key", files.key]
            environment = {**os.environ, "LBPROXY_TLS": "memory", "SSL_CERT_FILE": authority.ca}
            with (tmp_path / "log").open("wb") as log:
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
            try:
                until(lambda: _accepts(port) or process.poll() is not None, "lbproxy accepts")
                with RawClient(sock=tls_client(port, server_name=NAME, ca=authority.ca)) as client:
                    assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(BIG)
                    upload(client, request(b"PUT", b"/up", ((b"Content-Length", b"%d" % BIG),)), BIG)
                    assert client.answer().status == 200
                    # One small record, one that is as long as they get and is read in two pieces, many small ones.
                    whole = request(fields=((b"X-Pad", b"x" * 500),)) * 50
                    process.send_signal(signal.SIGSTOP)
                    client.send(whole[:100], whole[100:16_484])
                    client.send(*(whole[at : at + 500] for at in range(16_484, len(whole), 500)))
                    process.send_signal(signal.SIGCONT)
                    assert [client.answer().status for _ in range(50)] == [200] * 50
                assert backend.wait_for(52)[1].digest == digest(BIG)
                assert len({one.connection for one in backend.requests}) == 1
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)
                ports.release()
            log_text = (tmp_path / "log").read_text()
            assert "Traceback" not in log_text, log_text


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
