"""A client's connection in HTTP/1.1: requests one after the other, their framing, and how the connection ends."""

from __future__ import annotations

import socket
import time

import pytest

from tests.live.http_peers import Answer, Fields, chunked, request
from tests.live.http_scripts import OK, Gate, Live, once
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture

UPLOADS = [
    pytest.param((), b"x" * 5, b"x" * 5, id="length"),
    pytest.param((), b"", b"", id="length 0"),
    pytest.param((), b"y" * 300_000, b"y" * 300_000, id="long"),
    pytest.param(
        ((b"Transfer-Encoding", b"chunked"),), chunked(b"ab", b"c" * 70_000), b"ab" + b"c" * 70_000, id="chunked"
    ),
    pytest.param(((b"Transfer-Encoding", b"\t Chunked "),), chunked(), b"", id="empty chunked"),
    pytest.param(((b"Transfer-Encoding", b"chunked"),), b'3;a="b;c"\r\nabc\r\n0\r\n\r\n', b"abc", id="extension"),
    pytest.param(
        ((b"Transfer-Encoding", b"chunked"),), chunked(b"abc", trailers=((b"X-Sum", b"1"),)), b"abc", id="trailers"
    ),
]


class TestOneConnection:
    def test_requests_of_all_kinds_follow_each_other(self, live: Live) -> None:
        backend = live.recording(
            {"/none": Answer(204), "/chunks": Answer(body=b"c" * 9000, framing="chunked", piece=77)}
        )
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(3):
                assert client.ask().body == b"ok"
                assert client.ask(b"HEAD").get(b"content-length") == b"2"
                assert client.ask(b"POST", body=b"12345").status == 200
                assert client.ask(target=b"/none").status == 204
                assert client.ask(target=b"/chunks").body == b"c" * 9000
                assert client.ask(b"OPTIONS", b"*").status == 200
        assert {asked.connection for asked in backend.wait_for(18)} == {1}
        assert [record["request_number"] for record in live.records(18)] == list(range(1, 19))
        assert {record["outcome"] for record in live.records(18)} == {"ok"}

    @pytest.mark.parametrize(("fields", "sent", "body"), UPLOADS)
    def test_a_body_arrives_and_the_next_request_is_in_step(
        self, live: Live, fields: Fields, sent: bytes, body: bytes
    ) -> None:
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            for method in (b"POST", b"PUT", b"GET"):
                assert client.ask(method, b"/", fields, sent).status == 200
            client.send(request(b"POST", b"/", fields, sent) + request(target=b"/behind"))
            assert (client.answer().status, client.answer().status) == (200, 200)
        seen = [(asked.method, asked.body, asked.trailers) for asked in backend.wait_for(5)]
        assert seen == [(method, body, []) for method in (b"POST", b"PUT", b"GET", b"POST")] + [(b"GET", b"", [])]

    @pytest.mark.parametrize(("fields", "sent", "body"), UPLOADS[:1] + UPLOADS[3:])
    def test_a_body_byte_by_byte_is_the_same_body(self, live: Live, fields: Fields, sent: bytes, body: bytes) -> None:
        backend = live.recording()
        live.serve(backend.address)
        whole = request(b"POST", b"/", fields, sent) + request(target=b"/behind")
        with live.client() as client:
            client.send_bytewise(whole[:400])
            client.send(whole[400:-400], pause=0)
            client.send_bytewise(whole[-400:] if len(whole) > 800 else whole[400:])
            assert (client.answer().status, client.answer().status) == (200, 200)
        assert [asked.body for asked in backend.wait_for(2)] == [body, b""]

    def test_a_request_within_a_body_is_never_run(self, live: Live) -> None:
        """F19, F21"""
        backend = live.recording()
        live.serve(backend.address)
        inner = request(target=b"/inner")
        with live.client() as client:
            for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST"):
                assert client.ask(method, b"/", (), inner).status == 200
            client.send(request(b"POST") + request(target=b"/next"))
            assert (client.answer().status, client.answer().status) == (200, 200)
        asked = backend.wait_for(7)
        assert [one.target for one in asked] == [b"/"] * 6 + [b"/next"]
        assert [one.body for one in asked] == [inner] * 5 + [b"", b""]

    @pytest.mark.parametrize("status", [301, 404, 200])
    def test_a_body_in_front_of_an_answer_of_our_own_is_never_run(self, live: Live, status: int) -> None:
        """F19"""
        port = live.ports.reserve()
        live.port = port
        route = f'[[route]]\nlistener = "in"\npath = "/"\nanswer = {{ status = {status} }}\n'
        if status == 301:
            route = '[[route]]\nlistener = "in"\npath = "/"\nredirect = { to = "https://example.com/", status = 301 }\n'
        live.serve_text(f'[[listener]]\nname = "in"\nbind = "127.0.0.1:{port}"\nprotocol = "http"\n{route}')
        inner = request(target=b"/inner")
        with live.client() as client:
            assert client.ask(b"POST", body=inner).status == status
            assert client.ask().status == status
        with live.client() as client:
            client.send(request(b"POST", b"/", ((b"Content-Length", b"%d" % (len(inner) + 1)),), inner))
            answer = client.answer()
            assert (answer.status, answer.get(b"connection")) == (status, b"close")
            client.send(b"x" + request())
            assert client.was_closed()
        assert [record["request_number"] for record in live.records(3)] == [1, 2, 1]

    def test_a_request_byte_by_byte_from_head_to_head(self, live: Live) -> None:
        """Scenario 56"""
        backend = live.recording({"/": Answer(body=b"answer", framing="chunked", piece=1)})
        live.serve(backend.address)
        with live.client() as client:
            client.send_bytewise(request(fields=((b"Cookie", b"a=b"), (b"X-More", b"1"))) * 2)
            assert [client.answer().body for _ in range(2)] == [b"answer"] * 2
        heads = {asked.head.replace(asked.get(b"X-Request-ID") or b"", b"") for asked in backend.wait_for(2)}
        assert len(heads) == 1

    def test_the_connection_ends_after_so_many_requests(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, listener="http = { max_requests = 3 }")
        with live.client() as client:
            client.send(request() * 5)
            assert [client.answer().get(b"connection") for _ in range(3)] == [None, None, b"close"]
            assert client.was_closed()
        assert len(backend.wait_for(3)) == 3

    def test_connection_close_is_obeyed_and_what_follows_is_ignored(self, live: Live) -> None:
        """F31, C17"""
        backend = live.recording()
        live.serve(backend.address)
        for value in (b"close", b"Close", b"close, keep-alive", b"keep-alive, close", b"x,close"):
            with live.client() as client:
                client.send(request(fields=((b"Connection", value),)) + request(target=b"/behind"))
                answer = client.answer()
                assert (answer.status, answer.get(b"connection")) == (200, b"close")
                assert client.was_closed()
        assert {asked.target for asked in backend.wait_for(5)} == {b"/"}
        assert len(backend.requests) == 5

    def test_several_connection_lines_count_as_one(self, live: Live) -> None:
        """C17"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            lines = ((b"Connection", b"keep-alive, X-One"), (b"Connection", b"close, x-two"))
            answer = client.ask(fields=(*lines, (b"X-One", b"1"), (b"X-Two", b"2"), (b"X-Three", b"3")))
            assert answer.get(b"connection") == b"close"
        (asked,) = backend.wait_for(1)
        assert (asked.all(b"x-one"), asked.all(b"x-two"), asked.all(b"x-three")) == ([], [], [b"3"])
        assert asked.all(b"connection") == []

    def test_what_a_request_needs_cannot_be_named_away(self, live: Live) -> None:
        """C17"""
        backend = live.recording()
        live.serve(backend.address)
        named = b"Host, Content-Length, Authorization, Cookie, X-Forwarded-For, X-Forwarded-Proto, Via"
        with live.client() as client:
            fields = ((b"Connection", named), (b"Authorization", b"Basic eA=="), (b"Cookie", b"a=b"))
            assert client.ask(b"POST", b"/", fields, b"12345").status == 200
        (asked,) = backend.wait_for(1)
        assert (asked.get(b"host"), asked.body, asked.get(b"authorization")) == (
            b"lbproxy.test",
            b"12345",
            b"Basic eA==",
        )
        assert (asked.get(b"cookie"), asked.get(b"x-forwarded-for")) == (b"a=b", b"127.0.0.1")
        assert asked.get(b"x-forwarded-proto") == b"http"
        assert len(asked.all(b"via")) == 1

    def test_fields_for_one_hop_are_not_passed_on(self, live: Live) -> None:
        """C18, and the same for answers"""
        hop = (
            (b"Keep-Alive", b"timeout=9"),
            (b"Proxy-Authenticate", b"x"),
            (b"Connection", b"X-Hop"),
            (b"X-Hop", b"1"),
        )
        backend = live.recording(
            {"/": Answer(fields=(*hop, (b"X-End", b"2"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")))}
        )
        live.serve(backend.address)
        with live.client() as client:
            fields = (
                (b"Proxy-Connection", b"keep-alive"),
                (b"Keep-Alive", b"timeout=5"),
                (b"TE", b"trailers, chunked"),
                (b"Trailer", b"X-Sum"),
                (b"Proxy-Authorization", b"Basic eA=="),
                (b"Accept", b"*/*"),
            )
            answer = client.ask(fields=fields)
            assert answer.all(b"set-cookie") == [b"a", b"b"]
            assert answer.get(b"x-end") == b"2"
            assert not any(answer.all(name) for name in (b"keep-alive", b"proxy-authenticate", b"connection", b"x-hop"))
        (asked,) = backend.wait_for(1)
        for name in (b"proxy-connection", b"keep-alive", b"trailer", b"proxy-authorization"):
            assert asked.all(name) == []
        # RFC 9110, section 10.1.4: who sends TE names it in Connection.
        assert (asked.all(b"te"), asked.all(b"connection")) == ([b"trailers"], [b"TE"])
        assert asked.get(b"accept") == b"*/*"

    def test_what_clients_say_about_clients_is_removed_unless_they_are_trusted(self, live: Live) -> None:
        """X1, X5"""
        said = (
            (b"X-Forwarded-For", b"192.0.2.1"),
            (b"X-Forwarded-For", b"192.0.2.2"),
            (b"X_Forwarded_For", b"192.0.2.3"),
            (b"X-Forwarded-Host", b"evil.test"),
            (b"X-Forwarded-Proto", b"https"),
            (b"X-Forwarded-Port", b"1"),
            (b"X-Forwarded-Prefix", b"/evil"),
            (b"Forwarded", b"for=192.0.2.4"),
            (b"X-Real-IP", b"192.0.2.5"),
            (b"True-Client-IP", b"192.0.2.6"),
            (b"X-Request-ID", b"mine"),
            (b"Via", b"1.0 other"),
        )
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask(fields=said).status == 200
        (asked,) = backend.wait_for(1)
        assert b"192.0.2" not in asked.head
        assert b"evil" not in asked.head
        assert (asked.get(b"x-forwarded-for"), asked.get(b"x-forwarded-proto")) == (b"127.0.0.1", b"http")
        assert asked.get(b"x-forwarded-port") == b"%d" % live.port
        assert asked.get(b"x-request-id") not in (None, b"mine")
        assert b"1.0 other" in b", ".join(asked.all(b"via"))
        live.serve(backend.address, listener='http = { trusted_peers = "127.0.0.0/8" }')
        with live.client() as client:
            assert client.ask(fields=said).status == 200
        asked = backend.wait_for(2)[1]
        assert b", ".join(asked.all(b"x-forwarded-for")) == b"192.0.2.1, 192.0.2.2, 127.0.0.1"
        assert (asked.get(b"x-forwarded-proto"), asked.get(b"x-request-id")) == (b"https", b"mine")
        assert live.records(2)[1]["client"].startswith("192.0.2.2")


class TestPipelining:
    def test_a_hundred_requests_behind_a_slow_one_are_answered_in_order(self, live: Live) -> None:
        """C1"""
        gate = Gate()
        backend = live.recording(
            lambda asked: gate(asked) if asked.path == "/slow" else Answer(body=asked.target, framing="chunked")
        )
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(target=b"/slow") + b"".join(request(target=b"/%d" % number) for number in range(99)))
            gate.wait()
            time.sleep(0.05)
            assert len(backend.requests) == 1
            gate.open()
            assert client.answer().body == b"ok"
            assert [client.answer().body for _ in range(99)] == [b"/%d" % number for number in range(99)]
        assert [asked.target for asked in backend.wait_for(100)][1:] == [b"/%d" % number for number in range(99)]

    def test_no_more_than_a_little_is_read_ahead(self, live: Live) -> None:
        """C1"""
        gate = Gate()
        backend = live.recording({"/slow": gate})
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(target=b"/slow"))
            gate.wait()
            client.sock.settimeout(0.3)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 50_000_000:
                    sent += client.sock.send(request(target=b"/x") * 1000)
            assert live.proxy.status()["held_bytes"] <= 16 * 1024
            client.reset()
            gate.open()
        assert len(backend.wait_for(1)) == 1
        assert live.record()["outcome"] == "client_gone"

    def test_what_comes_behind_a_rejected_request_is_never_run(self, live: Live) -> None:
        """C2, F32, I2"""
        backend = live.recording(default=Answer(delay=0.1))
        live.serve(backend.address)
        for bad in (
            b"GET /bad HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01 nonsense\r\n\r\n",
            request(b"get"),
            request(b"CONNECT"),
        ):
            with live.client() as client:
                client.send(request(target=b"/good") + bad + request(target=b"/behind") * 2)
                assert client.answer().status == 200
                answer = client.answer()
                assert answer.status in (400, 405, 501)
                assert answer.get(b"connection") == b"close"
                assert client.was_closed()
        assert [asked.target for asked in backend.wait_for(4)] == [b"/good"] * 4

    def test_bodies_and_pipelining_mix(self, live: Live) -> None:
        backend = live.recording(lambda asked: Answer(body=b"%b %d" % (asked.target, len(asked.body))))
        live.serve(backend.address)
        many = b"".join(
            request(b"POST", b"/%d" % number, ((b"Transfer-Encoding", b"chunked"),), chunked(b"z" * number * 37))
            if number % 2
            else request(b"PUT", b"/%d" % number, (), b"z" * number * 37)
            for number in range(40)
        )
        with live.client() as client:
            client.send(many)
            assert [client.answer().body for _ in range(40)] == [b"/%d %d" % (n, n * 37) for n in range(40)]


class TestOldClients:
    def test_http_1_0_is_closed_after_one_answer_unless_it_asks(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            answer = client.ask(version=b"HTTP/1.0")
            assert (answer.status, answer.version) == (200, b"HTTP/1.1")
            assert client.was_closed()
        with live.client() as client:
            for _ in range(3):
                answer = client.ask(version=b"HTTP/1.0", fields=((b"Connection", b"Keep-Alive"),))
                assert (answer.status, answer.get(b"connection")) == (200, b"keep-alive")
            assert client.ask(version=b"HTTP/1.0").get(b"connection") in (None, b"close")
            assert client.was_closed()
        assert {asked.version for asked in backend.wait_for(5)} == {b"HTTP/1.1"}

    def test_http_1_0_never_sees_chunks_nor_interim_answers(self, live: Live) -> None:
        interim = (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",)
        backend = live.recording(
            {
                "/": Answer(
                    body=b"whole body" * 100, framing="chunked", piece=99, interim=interim, trailers=((b"X-T", b"1"),)
                )
            }
        )
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(version=b"HTTP/1.0", fields=((b"Connection", b"keep-alive"),)))
            wire = client.read_to_end()
        head, _, body = wire.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"chunked" not in head.lower()
        assert b"keep-alive" not in head.lower()
        assert body == b"whole body" * 100

    def test_http_1_0_without_host_goes_to_the_default_host_or_nowhere(self, live: Live) -> None:
        """T14"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask(version=b"HTTP/1.0", host=None).status == 400
        live.serve(backend.address, listener='http = { default_host = "default.test" }')
        with live.client() as client:
            assert client.ask(version=b"HTTP/1.0", host=None).status == 200
        with live.client() as client:
            assert client.ask(host=None).status == 400
        (asked,) = backend.wait_for(1)
        assert asked.get(b"host") == b"default.test"

    def test_an_http_1_0_client_that_expects_gets_no_100(self, live: Live) -> None:
        """C3"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(b"POST", b"/", ((b"Expect", b"100-continue"),), b"body", version=b"HTTP/1.0"))
            answer = client.answer()
            assert (answer.status, answer.interim) == (200, ())
        assert backend.wait_for(1)[0].body == b"body"


class TestTargets:
    """T10 to T13 where they need the whole proxy."""

    @pytest.mark.parametrize(
        ("target", "host", "status"),
        [
            (b"http://lbproxy.test/a?b", b"lbproxy.test", 200),
            (b"http://LBPROXY.test:80/a?b", b"lbproxy.test", 200),
            (b"http://other.test/a", b"lbproxy.test", 400),
            (b"https://lbproxy.test/a", b"lbproxy.test", 400),
            (b"http://user@lbproxy.test/a", b"lbproxy.test", 400),
            (b"/a", b"", 400),
            (b"/a", b"a,b", 400),
            (b"/a", b"a/b", 400),
            (b"/a", b"u@a", 400),
            (b"/a", b"a:99999", 400),
            (b"/a", b"[::1", 400),
            (b"/a", b"a" * 256, 400),
        ],
    )
    def test_target_and_host_must_agree(self, live: Live, target: bytes, host: bytes, status: int) -> None:
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask(target=target, host=host).status == status
        if status == 200:
            (asked,) = backend.wait_for(1)
            assert asked.target == b"/a?b"
            assert (asked.get(b"host") or b"").lower().removesuffix(b":80") == b"lbproxy.test"
        else:
            assert backend.requests == []
        assert live.record()["status"] == status

    @pytest.mark.parametrize("lines", [(b"Host", b"b"), (b"host", b"lbproxy.test")])
    def test_two_hosts_are_none(self, live: Live, lines: tuple[bytes, bytes]) -> None:
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask(fields=(lines,)).status == 400
        assert backend.requests == []


class TestEnds:
    def test_a_client_that_half_closes_gets_its_whole_answer(self, live: Live) -> None:
        """C14, scenario 24"""
        backend = live.recording(default=Answer(body=b"b" * 400_000, delay=0.1, pause=0.001))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request())
            client.half_close()
            answer = client.answer()
            assert len(answer.body) == 400_000
            assert client.was_closed()
        assert live.record()["outcome"] == "ok"

    def test_pipelined_requests_in_front_of_a_fin_are_all_answered(self, live: Live) -> None:
        """C14"""
        backend = live.recording(default=Answer(delay=0.02))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request() * 5)
            client.half_close()
            assert [client.answer().status for _ in range(5)] == [200] * 5
            assert client.was_closed()
        assert len(backend.wait_for(5)) == 5

    def test_a_half_close_ends_the_exchange_where_that_is_asked_for(self, live: Live) -> None:
        """C14"""
        gate = Gate()
        backend = live.recording({"/": gate})
        live.serve(backend.address, listener="http = { abort_on_half_close = true }")
        with live.client() as client:
            client.send(request())
            gate.wait()
            client.half_close()
            assert client.was_closed()
            gate.open()
        assert live.record()["outcome"] == "client_gone"

    def test_a_client_that_resets_during_the_answer_frees_everything(self, live: Live) -> None:
        """C15, scenario 23"""
        backend = live.recording(default=Answer(body=b"b" * 5_000_000, piece=1000, pause=0.001))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request())
            assert client.take(2000)
            client.reset()
        record = live.record()
        assert (record["outcome"], record["state"][:2]) == ("client_gone", "CD")
        began = time.monotonic()
        while backend.open:
            assert time.monotonic() - began < 1
            time.sleep(0.01)
        assert live.proxy.pool()["active"] == 0

    def test_a_client_that_leaves_before_the_answer_frees_everything(self, live: Live) -> None:
        """C15"""
        gate = Gate()
        backend = live.recording({"/": gate})
        live.serve(backend.address)
        with live.client() as client:
            client.send(request())
            gate.wait()
            client.reset()
        record = live.record()
        assert (record["outcome"], record["state"][:2], record["status"]) == ("client_gone", "CH", 499)
        assert live.proxy.pool()["active"] == 0
        gate.open()

    def test_a_body_that_breaks_off_is_never_complete(self, live: Live) -> None:
        """F18, F29"""
        backend = live.recording()
        live.serve(backend.address)
        cut = (
            request(b"POST", body=b"x" * 100)[:-1],
            request(b"POST", b"/", ((b"Transfer-Encoding", b"chunked"),), chunked(b"x" * 100)[:-2]),
            request(b"POST", b"/", ((b"Transfer-Encoding", b"chunked"),), chunked(b"x" * 100)[:-40]),
        )
        for number, bad in enumerate(cut, 1):
            with live.client() as client:
                client.send(bad)
                while len(backend.requests) < number:
                    time.sleep(0.005)
                client.half_close()
                assert client.was_closed()
        live.records(3)
        assert not any(asked.complete for asked in backend.requests)
        assert {record["rule"] for record in live.records(3)} == {"F18"}

    @pytest.mark.parametrize(
        "bad", [b"5\r\nabcdeX", b"5;\x00\r\nabcde\r\n0\r\n\r\n", b"0x5\r\nabcde\r\n", b"80000000\r\n"]
    )
    def test_a_bad_chunk_ends_both_requests(self, live: Live, bad: bytes) -> None:
        """F22 to F28, I2"""
        backend = live.recording()
        live.serve(backend.address)
        fields = ((b"Transfer-Encoding", b"chunked"),)
        with live.client() as client:
            client.send(request(b"POST", b"/", fields, b"3\r\nabc\r\n" + bad + request(target=b"/behind")))
            answer = client.answer()
            assert (answer.status, answer.get(b"connection")) == (400, b"close")
            assert client.was_closed()
        assert live.record()["outcome"] == "bad_request"
        assert not any(asked.complete or asked.target == b"/behind" for asked in backend.requests)

    def test_an_idle_connection_is_closed_by_fin(self, live: Live) -> None:
        """C16"""
        backend = live.recording()
        live.serve(backend.address, listener='timeouts = { client_idle = "300ms" }')
        with live.client() as client:
            began = time.monotonic()
            assert client.ask().status == 200
            assert client.sock.recv(1) == b""
            assert 0.2 < time.monotonic() - began < 1

    def test_a_drained_connection_says_close_with_its_last_answer(self, live: Live) -> None:
        """C16: a listener that is taken away"""
        gate = Gate()
        backend = live.recording({"/slow": gate})
        live.serve(backend.address)
        idle, busy = live.client(), live.client()
        assert idle.ask().status == 200
        busy.send(request(target=b"/slow"))
        gate.wait()
        live.serve_text("")
        assert idle.sock.recv(1) == b""
        gate.open()
        assert busy.answer().get(b"connection") == b"close"
        assert busy.was_closed()


class TestExpect:
    FIELDS = ((b"Expect", b"100-continue"), (b"Content-Length", b"4"))

    def test_the_backends_word_is_passed_on_and_then_the_body(self, live: Live) -> None:
        """C3"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(2):
                client.send(request(b"POST", b"/", self.FIELDS))
                assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.send(b"body")
                answer = client.answer()
                assert (answer.status, answer.interim) == (200, ())
        assert [asked.body for asked in backend.wait_for(2)] == [b"body"] * 2

    def test_a_silent_backend_makes_us_say_it_after_a_second(self, live: Live) -> None:
        """C3"""
        backend = live.scripted(lambda conn: _silent(conn, b"body"))
        live.serve(backend.address)
        with live.client() as client:
            began = time.monotonic()
            client.send(request(b"POST", b"/", self.FIELDS))
            assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert 0.8 < time.monotonic() - began < 1.8
            client.send(b"body")
            answer = client.answer()
            assert (answer.status, answer.interim) == (200, ())

    def test_a_final_answer_comes_through_without_the_body(self, live: Live) -> None:
        """C4: the client may keep its body; then nobody knows what follows, so both connections end"""
        backend = live.evil(once(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", 1.0))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(b"POST", b"/", self.FIELDS))
            answer = client.answer()
            assert (answer.status, answer.body, answer.get(b"connection")) == (403, b"no", b"close")
            assert client.was_closed()
        with live.client() as client:
            client.send(request(b"POST", b"/", self.FIELDS))
            assert client.answer().status == 403
        assert backend.connections == 2

    def test_a_body_sent_at_once_leaves_everything_in_step(self, live: Live) -> None:
        """C6"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            client.send((request(b"POST", b"/", self.FIELDS) + b"body") * 3 + request(target=b"/next"))
            for _ in range(3):
                answer = client.answer()
                assert answer.status == 200
                assert answer.interim in ((), (100,))
            assert client.answer().status == 200
        assert [asked.body for asked in backend.wait_for(4)] == [b"body"] * 3 + [b""]

    @pytest.mark.parametrize(
        ("value", "status"), [(b"foo", 417), (b"100-continue, x", 417), (b"\x0b100-continue", 400)]
    )
    def test_other_expectations_are_not_met(self, live: Live, value: bytes, status: int) -> None:
        """C5"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            answer = client.ask(b"POST", b"/", ((b"Expect", value),), b"body")
            assert (answer.status, answer.get(b"connection")) == (status, b"close")
            assert client.was_closed()
        assert backend.requests == []


def _silent(conn: socket.socket, body: bytes) -> None:
    """A backend that reads a head and its body without a word, and then answers."""
    heard = b""
    while not heard.endswith(body) and (data := conn.recv(65536)):
        heard += data
    conn.sendall(OK)
