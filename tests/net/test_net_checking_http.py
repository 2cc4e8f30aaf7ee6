"""HTTP checks: what is asked, which answers pass, and both on real sockets turned by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from lbproxy.addresses import Address, parse_address
from lbproxy.model import CheckSettings
from lbproxy.model_http import HttpCheck
from lbproxy.net.check_http import HttpQuestion, request_bytes
from lbproxy.net.check_tcp import CheckConnection, Verdict
from lbproxy.net.checking import CheckTarget, question_of
from lbproxy.net.polling import EpollPoller, Poller, StockPoller
from lbproxy.preamble import local_header
from tests.net.net_rig import hand_reactor, reset, tcp_listener, turn

PLAIN = HttpCheck()
READY = HttpCheck(body=b"ready")
PASSED = ("L7OK", "")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_END = b"HTTP/1.1 200 OK\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
FILLER = b"x" * (64 * 1024)


def head(status: int, *lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d Word" % status, *lines, b"", b""])


def sized(body: bytes, status: int = 200) -> bytes:
    return head(status, b"Content-Length: %d" % len(body)) + body


def chunks(*parts: bytes) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def verdict(check: HttpCheck, pieces: Sequence[bytes], cut: str = "") -> Verdict:
    question = HttpQuestion(check, b"")
    for piece in pieces:
        found = question.heard(piece)
        if found is not None:
            return found
    return question.ended(cut)


def judged(check: HttpCheck, answer: bytes, cut: str = "") -> Verdict:
    """The verdict on an answer with this end, which must be the same for all its bytes at once and one by one."""
    whole = verdict(check, [answer], cut)
    assert verdict(check, [bytes((byte,)) for byte in answer], cut) == whole
    return whole


class TestTheRequest:
    def asked(self, check: HttpCheck = PLAIN, address: str = "10.0.0.1:8000", **how: bool) -> bytes:
        how = {"secure": False, "http10": False, **how}
        return request_bytes(check, parse_address(address), **how)

    def test_it_is_short_and_canonical(self) -> None:
        assert self.asked() == (
            b"GET / HTTP/1.1\r\nHost: 10.0.0.1:8000\r\nUser-Agent: lbproxy-check\r\nConnection: close\r\n\r\n"
        )

    def test_backends_of_http_1_0_are_asked_in_it(self) -> None:
        assert self.asked(http10=True).startswith(b"GET / HTTP/1.0\r\nHost: 10.0.0.1:8000\r\n")

    def test_all_of_it_can_be_configured(self) -> None:
        check = HttpCheck("OPTIONS", "/health?full=1", "app.example", (("X-Check", "yes"), ("Accept", "text/plain")))
        assert self.asked(check) == (
            b"OPTIONS /health?full=1 HTTP/1.1\r\nHost: app.example\r\nUser-Agent: lbproxy-check\r\n"
            b"X-Check: yes\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
        )

    def test_a_configured_field_stands_in_place_of_ours(self) -> None:
        check = HttpCheck(headers=(("user-agent", "probe/1"), ("HOST", "a.example"), ("Connection", "keep-alive")))
        assert self.asked(check) == (
            b"GET / HTTP/1.1\r\nuser-agent: probe/1\r\nHOST: a.example\r\nConnection: close\r\n\r\n"
        )

    @pytest.mark.parametrize(("method", "there"), [("POST", True), ("PUT", True), ("GET", False), ("HEAD", False)])
    def test_methods_whose_content_means_something_say_that_there_is_none(self, method: str, there: bool) -> None:
        assert (b"\r\nContent-Length: 0\r\n" in self.asked(HttpCheck(method))) is there

    @pytest.mark.parametrize(
        ("address", "secure", "host"),
        [
            ("10.0.0.1:80", False, b"10.0.0.1"),
            ("10.0.0.1:80", True, b"10.0.0.1:80"),
            ("10.0.0.1:443", True, b"10.0.0.1"),
            ("10.0.0.1:443", False, b"10.0.0.1:443"),
            ("[2001:db8::1]:8000", False, b"[2001:db8::1]:8000"),
            ("[2001:db8::1]:80", False, b"[2001:db8::1]"),
            ("App.Example.:8000", False, b"app.example:8000"),
            ("unix:/run/app.sock", False, b"localhost"),
        ],
    )
    def test_host_names_the_backend_unless_it_is_configured(self, address: str, secure: bool, host: bytes) -> None:
        assert b"\r\nHost: %b\r\n" % host in self.asked(address=address, secure=secure)


class TestStatuses:
    @pytest.mark.parametrize("status", [200, 204, 206, 302, 304, 399])
    def test_from_200_to_399_they_pass(self, status: int) -> None:
        assert judged(PLAIN, head(status)) == PASSED

    @pytest.mark.parametrize("status", [400, 404, 500, 503])
    def test_others_are_told(self, status: int) -> None:
        assert judged(PLAIN, sized(b"sorry", status)) == ("L7STS", f"status {status}")
        assert judged(READY, sized(b"ready", status)) == ("L7STS", f"status {status}")

    @pytest.mark.parametrize(("status", "code"), [(200, "L7OK"), (201, "L7STS"), (301, "L7STS"), (429, "L7OK")])
    def test_those_that_pass_can_be_configured(self, status: int, code: str) -> None:
        assert judged(HttpCheck(statuses=((200, 200), (400, 499))), head(status))[0] == code

    def test_the_head_is_enough(self) -> None:
        assert verdict(PLAIN, [head(200, b"Content-Length: 1000000")], cut="reset") == PASSED

    def test_an_answer_to_head_has_no_body(self) -> None:
        assert judged(HttpCheck("HEAD"), head(200, b"Content-Length: 5")) == PASSED

    def test_http_1_0_answers(self) -> None:
        assert judged(PLAIN, b"HTTP/1.0 200 OK\r\n\r\n") == PASSED


class TestInterimAnswers:
    @pytest.mark.parametrize("count", [1, 16])
    def test_they_are_skipped(self, count: int) -> None:
        assert judged(PLAIN, EARLY_HINTS * count + head(204)) == PASSED
        assert judged(PLAIN, EARLY_HINTS * count + head(500)) == ("L7STS", "status 500")

    def test_there_are_16_at_the_most(self) -> None:
        assert judged(PLAIN, EARLY_HINTS * 17 + head(204)) == ("L7RSP", "more than 16 interim answers (rule=C11)")

    def test_they_are_no_answer(self) -> None:
        assert judged(PLAIN, EARLY_HINTS) == ("L7RSP", "it ended without an answer")

    def test_nobody_asked_for_another_protocol(self) -> None:
        code, detail = judged(PLAIN, head(101, b"Upgrade: websocket", b"Connection: upgrade"))
        assert (code, detail) == ("L7RSP", "it changes to a protocol that nobody asked for (rule=C10)")


class TestNoHttp:
    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
            b"<html>it works</html>\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 99 Low\r\n\r\n",
            b"HTTP/1.1 1000 High\r\n\r\n",
            b"HTTP/1.1 20x Odd\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n",
            b"\r\n\r\n\r\n\r\n",
        ],
    )
    def test_it_fails_with_a_reason(self, answer: bytes) -> None:
        code, detail = judged(PLAIN, answer)
        assert code == "L7RSP"
        assert "(rule=" in detail

    def test_a_head_without_end_is_not_gathered_for_ever(self) -> None:
        line = b"X-Filler: %b\r\n" % (b"x" * 1000)
        code, detail = verdict(PLAIN, [b"HTTP/1.1 200 OK\r\n", *[line] * 100])
        assert (code, "(rule=" in detail) == ("L7RSP", True), "before it has ended"

    @pytest.mark.parametrize(
        ("answer", "cut", "detail"),
        [
            (b"", "", "it ended without an answer"),
            (b"", "Connection reset by peer", "it ended without an answer: Connection reset by peer"),
            (b"HTTP/1.1 200 OK\r\nServer", "", "it ended within the head of its answer"),
            (b"HTTP/1.1 200 OK\r\n", "reset", "it ended within the head of its answer: reset"),
        ],
    )
    def test_an_early_end(self, answer: bytes, cut: str, detail: str) -> None:
        assert judged(PLAIN, answer, cut) == ("L7RSP", detail)


class TestBodies:
    @pytest.mark.parametrize(
        "answer",
        [
            sized(b"we are ready now"),
            sized(b"ready"),
            chunks(b"re", b"a", b"dy"),
            chunks(b"not yet, but soon rea", b"dy"),
            OPEN_END + b"already",
            sized(FILLER[5:] + b"ready"),
            chunks(FILLER[5:], b"ready", b"more"),
            EARLY_HINTS + sized(b"ready"),
        ],
        ids=["within", "alone", "small chunks", "border", "open end", "last of 64 KiB", "last chunk", "hints"],
    )
    def test_what_is_expected_is_found(self, answer: bytes) -> None:
        assert verdict(READY, [answer]) == PASSED
        assert verdict(READY, [answer[:-3], answer[-3:]]) == PASSED

    @pytest.mark.parametrize(
        "answer",
        [
            sized(b""),
            sized(b"read") + b"y",
            chunks(b"rea", b"-", b"dy"),
            chunks(b"no") + b"ready",
            OPEN_END + b"no",
            head(204),
            head(205) + b"ready",
        ],
        ids=["empty", "behind the length", "apart", "behind the last chunk", "open end", "204", "205"],
    )
    def test_a_whole_body_without_it_fails(self, answer: bytes) -> None:
        assert judged(READY, answer) == ("L7RSP", "what is expected is not in its body")

    @pytest.mark.parametrize("answer", [sized(FILLER[4:] + b"ready"), chunks(FILLER[4:], b"ready"), OPEN_END + FILLER])
    def test_behind_64_kib_nothing_is_looked_for(self, answer: bytes) -> None:
        nowhere = ("L7RSP", "what is expected is not in the first 64 KiB of its body")
        assert verdict(READY, [answer]) == nowhere
        assert verdict(READY, [answer[:100], answer[100:60_000], answer[60_000:-7], answer[-7:]]) == nowhere

    def test_a_chunk_need_not_end_within_64_kib(self) -> None:
        begun = CHUNKED + b"100000\r\n"
        assert verdict(READY, [begun, FILLER[1:-1000], FILLER])[0] == "L7RSP"
        assert verdict(READY, [begun, FILLER[1:-1000], b"ready" + FILLER]) == PASSED

    def test_a_body_to_head_is_none(self) -> None:
        check = HttpCheck("HEAD", body=b"ready")
        assert judged(check, head(200, b"Content-Length: 5") + b"ready")[0] == "L7RSP"

    @pytest.mark.parametrize(
        ("answer", "cut"),
        [
            (sized(b"1234567890")[:-1], ""),
            (chunks(b"1234567890")[:-1], ""),
            (chunks(b"1234567890")[:-8], ""),
            (CHUNKED + b"2\r\nno\r\n9\r\nready", ""),
            (OPEN_END + b"12345", "Connection reset by peer"),
        ],
        ids=["length", "last chunk", "within a chunk", "within the chunk that has it", "open end, reset"],
    )
    def test_a_body_that_is_cut_fails(self, answer: bytes, cut: str) -> None:
        what = "it ended within the body of its answer"
        assert judged(READY, answer, cut) == ("L7RSP", f"{what}: {cut}" if cut else what)

    @pytest.mark.parametrize("chunk", [b"zz\r\nready", b"5\r\nreadyX\r\n", b"0x5\r\nready\r\n", b"5 \r\nready\r\n"])
    def test_bad_chunks_in_front_of_it_fail(self, chunk: bytes) -> None:
        code, detail = judged(HttpCheck(body=b"ready\r"), CHUNKED + b"3\r\nnot\r\n" + chunk)
        assert code == "L7RSP"
        assert "(rule=" in detail

    def test_bad_chunks_behind_it_are_not_looked_at(self) -> None:
        assert judged(READY, CHUNKED + b"5\r\nready\r\nzz\r\n") == PASSED

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_the_verdict_does_not_depend_on_the_segments(self, data: st.DataObject) -> None:
        answer = EARLY_HINTS + data.draw(
            st.sampled_from(
                [
                    chunks(b"no", b"t r", b"eady"),
                    chunks(b"no", b"t rad", b"y"),
                    sized(b"not ready"),
                    CHUNKED + b"3\r\nrea\r\n2\r\ndyX",
                    CHUNKED + b"3\r\nrea\r\nQ",
                ]
            )
        )
        marks = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
        pieces = [answer[a:b] for a, b in zip([0, *marks], [*marks, len(answer)], strict=True)]
        assert verdict(READY, [piece for piece in pieces if piece]) == verdict(READY, [answer])


class Bench:
    """A reactor for sockets, a clock for deadlines, and a backend that the test plays."""

    def __init__(self, reactor: Any, poller: Poller, listening: socket.socket) -> None:
        self.reactor = reactor
        self.poller = poller
        self.clock = Clock()
        self.listening = listening
        self.results: list[Verdict] = []

    def begin(self, check: HttpCheck = PLAIN, preamble: bytes = b"") -> socket.socket:
        """A check that has said its request: the backend's end."""
        address = Address("ip", *self.listening.getsockname())
        where = CheckTarget(socket.AF_INET, self.listening.getsockname(), address, preamble)
        question = question_of(CheckSettings(http=check), where)
        connection = CheckConnection(self.clock, self.poller, 2.0, preamble, question, self.hear)
        connection.begin(where.family, where.target)
        server, _ = self.listening.accept()
        server.setblocking(False)
        said = bytearray()

        def asked() -> bool:
            try:
                said.extend(server.recv(4096))
            except BlockingIOError:
                return False
            return said.endswith(b"\r\n\r\n")

        turn(self.reactor, asked)
        assert said.startswith(preamble + b"GET / HTTP/1.1\r\nHost: 127.0.0.1:"), said
        return server

    def hear(self, code: str, detail: str) -> None:
        self.results.append((code, detail))

    def result(self) -> Verdict:
        turn(self.reactor, lambda: self.results)
        assert self.clock.getDelayedCalls() == [], "its deadline is taken back"
        assert not self.reactor.descriptors, "nothing is watched any more"
        return self.results.pop()


@pytest.fixture(params=["epoll", "stock"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with hand_reactor() as reactor, tcp_listener() as listening:
        yield Bench(reactor, EpollPoller(reactor) if request.param == "epoll" else StockPoller(reactor), listening)


class TestOnSockets:
    @pytest.mark.parametrize(
        ("answer", "expected"), [(head(204), PASSED), (sized(b"no", 404), ("L7STS", "status 404"))]
    )
    def test_an_answer(self, bench: Bench, answer: bytes, expected: Verdict) -> None:
        with bench.begin() as server:
            server.sendall(answer)
            assert bench.result() == expected

    def test_the_proxy_header_goes_in_front(self, bench: Bench) -> None:
        with bench.begin(preamble=local_header(2)) as server:
            server.sendall(head(200))
            assert bench.result() == PASSED

    def test_a_body_in_pieces(self, bench: Bench) -> None:
        with bench.begin(READY) as server:
            for piece in (CHUNKED[:30], CHUNKED[30:], b"3\r\nrea\r", b"\n2\r\nd"):
                server.sendall(piece)
                turn(bench.reactor)
                assert bench.results == []
            server.sendall(b"y\r\n")
            assert bench.result() == PASSED

    def test_an_open_end_in_order_and_by_a_reset(self, bench: Bench) -> None:
        with bench.begin(READY) as server:
            server.sendall(OPEN_END + b"no")
            server.shutdown(socket.SHUT_WR)
            assert bench.result() == ("L7RSP", "what is expected is not in its body")
        server = bench.begin(READY)
        server.sendall(OPEN_END + b"no")
        turn(bench.reactor)
        reset(server)
        code, detail = bench.result()
        assert (code, detail.partition(":")[0]) == ("L7RSP", "it ended within the body of its answer")

    def test_an_end_within_the_head(self, bench: Bench) -> None:
        with bench.begin() as server:
            server.sendall(b"HTTP/1.1 200 OK\r\n")
            server.shutdown(socket.SHUT_WR)
            assert bench.result() == ("L7RSP", "it ended within the head of its answer")

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX", EARLY_HINTS, OPEN_END + b"still not "])
    def test_an_answer_that_does_not_end_in_time(self, bench: Bench, sent: bytes) -> None:
        with bench.begin(READY) as server:
            for byte in sent[:3]:
                server.sendall(bytes((byte,)))
                turn(bench.reactor)
                bench.clock.advance(0.3)
            server.sendall(sent[3:])
            turn(bench.reactor)
            bench.clock.advance(1.0)
            assert bench.results == []
            bench.clock.advance(1.1)
            assert bench.result() == ("L7TOUT", "")
