"""What backends may not do, and what a client gets of it: nothing that could be taken for a whole answer."""

from __future__ import annotations

import time

import pytest

from tests.live.harness import until
from tests.live.http_peers import Answer, Do, Step, drip, request
from tests.live.http_scripts import OK, Live, once, rest_of
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FIELD = b"X: y\r\n"

# Answers that are none: B7, B8, B9. Each must be a 502, whole and byte by byte, and with bytes behind it.
GARBAGE = {
    "nothing but text": b"hello there, this is no HTTP at all\r\n\r\n",
    "HTTP/0.9": b"<html><body>hello</body></html>\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x28" * 8 + b"\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "HTTP/2 settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00\x03\x00\x00\x00\x64" * 3 + b"\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    "SMTP": b"220 mail.test ESMTP\r\n\r\n",
    "NULs": b"\x00" * 100 + b"\r\n\r\n",
    "high bytes": b"\xff" * 100 + b"\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 200": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/2.0 200": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/3.0": b"HTTP/3.0 200 OK\r\n\r\n",
    "HTTP/1": b"HTTP/1 200 OK\r\n\r\n",
    "HTTP/1.10": b"HTTP/1.10 200 OK\r\n\r\n",
    "HTTP/01.1": b"HTTP/01.1 200 OK\r\n\r\n",
    "http/1.1": b"http/1.1 200 OK\r\n\r\n",
    "HTTP 1.1": b"HTTP 1.1 200 OK\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "space in front": b" HTTP/1.1 200 OK\r\n\r\n",
    "status 0": b"HTTP/1.1 0 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 OK\r\n\r\n",
    "status 20x": b"HTTP/1.1 20x OK\r\n\r\n",
    "status +200": b"HTTP/1.1 +200 OK\r\n\r\n",
    "status -200": b"HTTP/1.1 -200 OK\r\n\r\n",
    "status 2_0": b"HTTP/1.1 2_0 OK\r\n\r\n",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "no line": b"HTTP/1.1\r\n\r\n",
    "tab": b"HTTP/1.1\t200 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\n\r\n",
    "100 KB of status line": HEAD[:-2] + b"x" * 100_000 + b"\r\n\r\n",
    "100 KB of nothing": b"x" * 100_000,
    "folded": HEAD + b"X: a\r\n b\r\n\r\n",
    "folded framing": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 2\r\n\r\nok",
    "no colon": HEAD + b"Content-Length 2\r\n\r\nok",
    "empty name": HEAD + b": 2\r\n\r\n",
    "space in a name": HEAD + b"Content Length: 2\r\n\r\nok",
    "NUL in a value": HEAD + b"X: a\x00b\r\n\r\n",
    "CR in a value": HEAD + b"X: a\rb\r\n\r\n",
    "control in a value": HEAD + b"X: a\x01b\r\n\r\n",
    "DEL in a value": HEAD + b"X: a\x7fb\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "mixed ends": HEAD + b"X: a\nContent-Length: 2\r\n\r\nok",
    "NUL in a name": HEAD + b"X\x00: a\r\n\r\n",
    "head too large": HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
    "too many fields": HEAD + FIELD * 120 + b"\r\n",
    "length and chunked": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\nok",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "empty coding": HEAD + b"Transfer-Encoding:\r\n\r\nok",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "two lengths in a line": HEAD + b"Content-Length: 2, 3\r\n\r\nok!",
    "negative length": HEAD + b"Content-Length: -2\r\n\r\nok",
    "length +2": HEAD + b"Content-Length: +2\r\n\r\nok",
    "length 0x2": HEAD + b"Content-Length: 0x2\r\n\r\nok",
    "length 2_0": HEAD + b"Content-Length: 2_0\r\n\r\nok",
    "empty length": HEAD + b"Content-Length:\r\n\r\nok",
    "length of 25 digits": HEAD + b"Content-Length: %d\r\n\r\nok" % 10**25,
    "length 2^64 + 2": HEAD + b"Content-Length: %d\r\n\r\nok" % (2**64 + 2),
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}

# Bodies that go wrong when the head has gone: the client must see that they are not whole.
CUT = {
    "length, FIN": (HEAD + b"Content-Length: 100\r\n\r\n", b"x" * 99, Do.FIN),
    "length, reset": (HEAD + b"Content-Length: 100\r\n\r\n", b"x" * 99, Do.RESET),
    "length, no body, FIN": (HEAD + b"Content-Length: 100\r\n\r\n", b"", Do.FIN),
    "long, FIN": (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x" * 900_000, Do.FIN),
    "long, reset": (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x" * 900_000, Do.RESET),
    "chunked, FIN in front": (CHUNKED, b"", Do.FIN),
    "chunked, FIN in the size": (CHUNKED, b"5", Do.FIN),
    "chunked, FIN in a chunk": (CHUNKED, b"5\r\nabc", Do.FIN),
    "chunked, FIN behind a chunk": (CHUNKED, b"5\r\nabcde", Do.FIN),
    "chunked, FIN before the last": (CHUNKED, b"5\r\nabcde\r\n", Do.FIN),
    "chunked, FIN in the last": (CHUNKED, b"5\r\nabcde\r\n0\r\n", Do.FIN),
    "chunked, FIN in trailers": (CHUNKED, b"5\r\nabcde\r\n0\r\nX: y\r\n", Do.FIN),
    "chunked, reset": (CHUNKED, b"5\r\nabcde\r\n", Do.RESET),
    "close-delimited, reset": (HEAD + b"\r\n", b"some of it", Do.RESET),
    "chunk size +5": (CHUNKED, b"+5\r\nabcde\r\n0\r\n\r\n", Do.READ_ALL),
    "chunk size of 9 digits": (CHUNKED, b"000000005\r\nabcde\r\n0\r\n\r\n", Do.READ_ALL),
    "chunk too long": (CHUNKED, b"3\r\nabcde\r\n0\r\n\r\n", Do.READ_ALL),
    "chunk extension with a NUL": (CHUNKED, b"3;\x00\r\nabc\r\n0\r\n\r\n", Do.READ_ALL),
    "chunk with bare LF": (CHUNKED, b"3\nabc\n0\n\n", Do.READ_ALL),
    "long chunk extension": (CHUNKED, b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n", Do.READ_ALL),
    "large trailers": (CHUNKED, b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", Do.READ_ALL),
}


def whole(wire: bytes) -> bool:
    """Whether a strict client would take this for a complete answer, if FIN followed."""
    head, _, body = wire.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return True


class TestNoAnswer:
    @pytest.mark.parametrize("name", GARBAGE)
    def test_garbage_is_a_502(self, live: Live, name: str) -> None:
        """B7 to B10, C10, scenario 18; I3: the next answer is clean"""
        said = GARBAGE[name]
        slowly = [said[at : at + 1] for at in range(len(said))] if len(said) < 500 else [said]
        ways: list[tuple[Step, ...]] = [
            once(said, Do.READ_ALL),
            once(*slowly, Do.READ_ALL),
            once(said + OK, Do.READ_ALL),
            once(OK, Do.READ_ALL),
        ]
        backend = live.evil(*ways)
        live.serve(backend.address, pool="outlier = false")
        with live.client() as client:
            for _ in ways[:-1]:
                answer = client.ask()
                assert (answer.status, answer.get(b"connection")) in ((502, None), (502, b"close"))
                assert answer.get(b"proxy-status")
                if answer.get(b"connection"):
                    client.close()
                    client = live.client()
            assert client.ask().body == b"ok"
        assert backend.connections == len(ways)
        records = live.records(len(ways))
        assert {record["state"][:2] for record in records[:-1]} == {"PH"}
        assert live.proxy.pool()["failures_total"] == len(ways) - 1

    @pytest.mark.parametrize("cut", range(1, 38, 4))
    @pytest.mark.parametrize("end", [Do.FIN, Do.RESET], ids=["FIN", "reset"])
    def test_half_a_head_is_a_502(self, live: Live, cut: int, end: Do) -> None:
        """B4, scenario 8"""
        backend = live.evil(once(OK[:cut], 0.02, end), once(OK, Do.READ_ALL))
        live.serve(
            backend.address,
            pool="outlier = false",
            more='[[route]]\nlistener = "in"\npool = "out"\nretry = "idempotent"\n',
        )
        with live.client() as client:
            assert client.ask().status == 502
            assert client.ask().body == b"ok"
        assert live.records(2)[0]["outcome"] == "backend_closed"

    def test_too_many_interim_answers_are_a_502(self, live: Live) -> None:
        """C11, B15, scenario 15"""
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
        for interim in (hints, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"):
            backend = live.evil(once(interim * 17, Do.READ_ALL), once(interim * 16 + OK, Do.READ_ALL))
            live.serve(backend.address, pool="outlier = false")
            with live.client() as client:
                answer = client.ask()
                assert answer.status == 502
                assert len(answer.interim) <= 16
                answer = client.ask() if answer.get(b"connection") is None else live.client().ask()
                assert answer.body == b"ok"
                assert len(answer.interim) <= 16
                assert interim is not hints or len(answer.interim) == 16

    def test_endless_interim_answers_do_not_move_the_deadline(self, live: Live) -> None:
        """C11: the deadline of the head is total"""
        steps: list[Step] = []
        for _ in range(12):
            steps += [b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.05]
        backend = live.evil(once(*steps, Do.READ_ALL))
        live.serve(backend.address, pool='timeouts = { response_head = "300ms" }')
        with live.client() as client:
            began = time.monotonic()
            assert client.ask().status == 504
            assert 0.25 < time.monotonic() - began < 1.0

    def test_a_head_byte_by_byte_ends_at_the_total_deadline(self, live: Live) -> None:
        """B10, scenario 14"""
        backend = live.evil(once(*drip(HEAD + FIELD * 10, 0.05)))
        live.serve(backend.address, pool='timeouts = { response_head = "300ms" }')
        with live.client() as client:
            began = time.monotonic()
            assert client.ask().status == 504
            assert 0.25 < time.monotonic() - began < 1.0
        assert live.record()["outcome"] == "response_timeout"


class TestCutAnswers:
    @pytest.mark.parametrize("name", CUT)
    def test_a_cut_body_is_never_complete(self, live: Live, name: str) -> None:
        """B5, B7, scenarios 9, 10, 11"""
        head, body, end = CUT[name]
        ways = (once(head, 0.02, body, 0.02, end), once(head + body, end), once(OK, Do.READ_ALL))
        backend = live.evil(*ways)
        live.serve(backend.address, pool="outlier = false")
        for _ in ways[:-1]:
            with live.client() as client:
                client.send(request(fields=((b"Connection", b"close"),)))
                wire, was_reset = rest_of(client.sock)
                if wire.startswith(b"HTTP/1.1 502"):
                    continue
                assert was_reset
                assert not wire or not whole(wire)
        with live.client() as client:
            assert client.ask().body == b"ok"
        records = live.records(3)
        assert {(record["outcome"], record["state"][:2]) for record in records[:2]} <= {
            ("backend_cut", "SD"),
            ("bad_response", "PD"),
            ("bad_response", "PH"),
            ("backend_closed", "SH"),
        }
        assert live.proxy.pool()["failures_total"] == 2

    def test_at_every_byte_of_a_chunked_answer(self, live: Live) -> None:
        """Scenario 10"""
        answer = CHUNKED + b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX: y\r\n\r\n"
        scripts = [once(answer[:cut]) for cut in range(len(answer))]
        backend = live.evil(*scripts, once(answer))
        live.serve(backend.address, pool="outlier = false")
        for cut in range(len(answer)):
            with live.client() as client:
                client.send(request())
                wire, was_reset = rest_of(client.sock) if cut >= len(CHUNKED) else (client.answer().head, True)
                assert was_reset or wire.startswith(b"HTTP/1.1 502"), cut
                assert not wire.endswith(b"0\r\n\r\n"), cut
        with live.client() as client:
            assert client.ask().body == b"abcdefg"

    def test_a_body_that_ends_with_the_connection_is_whole(self, live: Live) -> None:
        """Scenario 11"""
        backend = live.evil(once(HEAD + b"\r\nall of it"))
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(2):
                answer = client.ask()
                assert (answer.body, answer.get(b"transfer-encoding")) == (b"all of it", b"chunked")
        assert {record["outcome"] for record in live.records(2)} == {"ok"}

    @pytest.mark.parametrize("long", [False, True])
    def test_a_body_that_stalls_is_cut(self, live: Live, long: bool) -> None:
        """B11, scenario 14"""
        size = 1_000_000 if long else 100
        backend = live.evil(once(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * (size - 1), Do.READ_ALL))
        live.serve(backend.address, pool='timeouts = { response_body_idle = "300ms" }')
        with live.client() as client:
            began = time.monotonic()
            client.send(request())
            wire, was_reset = rest_of(client.sock)
            assert was_reset
            assert 0.25 < time.monotonic() - began < 1.0
            assert not whole(wire)
        record = live.record()
        assert (record["outcome"], record["state"][:2], record["timer"]) == ("body_idle", "sD", "response_body_idle")

    def test_a_streaming_route_is_patient(self, live: Live) -> None:
        backend = live.evil(once(HEAD + b"Content-Length: 2\r\n\r\n", 0.6, b"ok", Do.READ_ALL))
        route = (
            '[[route]]\nlistener = "in"\npool = "out"\nstreaming = true\ntimeouts = { response_body_idle = "200ms" }\n'
        )
        live.serve(backend.address, more=route)
        with live.client() as client:
            assert client.ask().body == b"ok"


class TestTooMuch:
    def test_exactly_the_length_is_relayed(self, live: Live) -> None:
        """B6, scenario 12"""
        for more in (b"x", b"x" * 100, OK, b"x" * 200_000):
            backend = live.evil(once(OK + more, Do.READ_ALL), once(OK, Do.READ_ALL))
            live.serve(backend.address)
            with live.client() as client:
                assert client.ask().body == b"ok"
                assert client.ask().body == b"ok"
            assert backend.connections == 2

    @pytest.mark.parametrize(
        ("method", "status", "fields"),
        [
            (b"HEAD", 200, b"Content-Length: 5\r\n"),
            (b"HEAD", 200, b"Transfer-Encoding: chunked\r\n"),
            (b"GET", 204, b""),
            (b"GET", 204, b"Content-Length: 5\r\n"),
            (b"GET", 304, b"Content-Length: 5\r\n"),
            (b"GET", 205, b"Content-Length: 0\r\n"),
        ],
    )
    def test_a_body_where_there_is_none_goes_nowhere(
        self, live: Live, method: bytes, status: int, fields: bytes
    ) -> None:
        """B12"""
        head = b"HTTP/1.1 %d X\r\n%b\r\n" % (status, fields)
        backend = live.evil(once(head + b"wrong", Do.READ_ALL), once(head, 0.03, b"wrong", Do.READ_ALL), once(OK, 1.0))
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(2):
                answer = client.ask(method)
                if answer.status == 502:  # a 204 with a length is none
                    assert status == 204
                    continue
                assert (answer.status, answer.body) == (status, b"")
                assert not (status == 204 and answer.all(b"content-length"))
            time.sleep(0.06)
            assert client.ask().body == b"ok"
        assert backend.connections == 3

    def test_a_205_with_a_body_has_none(self, live: Live) -> None:
        """B12"""
        backend = live.evil(once(b"HTTP/1.1 205 X\r\nContent-Length: 5\r\n\r\nwrong", Do.READ_ALL), once(OK, 1.0))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request())
            answer = client.answer()
            assert answer.status in (205, 502)
            assert b"wrong" not in answer.body
            assert client.ask().body == b"ok"

    @pytest.mark.parametrize("fields", [b"Connection: close\r\n", b"Connection: Close, x\r\n"])
    def test_a_backend_that_closes_is_believed(self, live: Live, fields: bytes) -> None:
        """B16"""
        answer = HEAD + fields + b"Content-Length: 2\r\n\r\nok"
        backend = live.evil(once(answer, Do.READ_ALL))
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(3):
                answered = client.ask()
                assert (answered.body, answered.get(b"connection")) == (b"ok", None)
        assert backend.connections == 3

    def test_a_false_keep_alive_costs_nothing(self, live: Live) -> None:
        """B16"""
        answer = HEAD + b"Connection: keep-alive\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok"
        backend = live.evil(once(answer))
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(10):
                assert client.ask().body == b"ok"
        assert backend.connections == 10

    def test_http_1_0_backends_are_understood(self, live: Live) -> None:
        old = b"HTTP/1.0 200 OK\r\n"
        answers = (
            old + b"Content-Length: 2\r\n\r\nok",
            old + b"\r\nok",
            old + b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        )
        for answer in answers:
            backend = live.evil(once(answer))
            live.serve(backend.address)
            with live.client() as client:
                for _ in range(3):
                    found = client.ask()
                    assert (found.body, found.version) == (b"ok", b"HTTP/1.1")

    def test_trailers_go_to_those_who_ask_for_them(self, live: Live) -> None:
        """B17"""
        trailers = ((b"X-Sum", b"1"), (b"Content-Length", b"9"), (b"Set-Cookie", b"a=b"), (b"Host", b"x"))
        backend = live.recording(default=Answer(body=b"abc", framing="chunked", trailers=trailers))
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask().trailers == ()
            assert client.ask(fields=((b"TE", b"trailers"), (b"Connection", b"TE"))).trailers == ((b"X-Sum", b"1"),)
            assert client.ask().trailers == ()

    def test_names_of_backends_stay_hidden(self, live: Live) -> None:
        """No address of a backend is in an error of ours"""
        backend = live.evil(once(b"nonsense\r\n\r\n"))
        live.serve(backend.address, pool="outlier = false")
        with live.client() as client:
            answer = client.ask(fields=((b"Accept", b"application/json"),))
            assert answer.status == 502
            assert backend.address.encode() not in answer.head + answer.body
            assert b"%d" % backend.port not in answer.head + answer.body
        live.serve(backend.address, pool="outlier = false", listener="http = { expose = true }")
        with live.client() as client:
            answer = client.ask()
            assert backend.address.encode() in answer.head

    def test_a_backend_that_goes_away_in_mid_transfer_ends_both_connections(self, live: Live) -> None:
        backend = live.recording(default=Answer(body=b"x" * 5_000_000, piece=1000, pause=0.001))
        live.serve(backend.address)
        client = live.client()
        client.send(request())
        assert client.take(5000)
        backend.stop()
        _, was_reset = rest_of(client.sock)
        assert was_reset
        assert live.record()["outcome"] == "backend_cut"
        until(lambda: live.proxy.pool()["active"] == 0, "the slot is free", 1.0)
