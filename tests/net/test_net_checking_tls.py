"""Active checks over TLS, on real sockets turned by hand, against Python's ssl in a thread."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from lbproxy.addresses import Address, parse_address
from lbproxy.certificates import load_trust
from lbproxy.model import CheckSettings
from lbproxy.model_http import HttpCheck
from lbproxy.model_tls import BackendTlsSettings
from lbproxy.net.check_tcp import BytesQuestion
from lbproxy.net.check_tls import TlsCheckConnection
from lbproxy.net.checking import Checker, CheckTarget, question_of
from lbproxy.net.dialing import target_of
from lbproxy.net.polling import EpollPoller, Poller, StockPoller
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.socket_channel import SocketChannel
from lbproxy.preamble import local_header
from tests.live.peers import PATIENCE, Backend, Script, closed_quietly, hold, reset
from tests.live.tls_peers import OLDER, Files, Papers, TlsBackend, TlsSocket, cuts_off, gives_notice, server_context
from tests.net.net_rig import hand_reactor, turn

CUT_HEAD = "L7RSP", "it ended within the head of its answer: the connection ended without close_notify"


class Heard:
    """A script for one connection: what the check said, and how it ended."""

    def __init__(self, *answer: bytes) -> None:
        self._answer = answer
        self.question = b""
        self.orderly = False
        self.over = threading.Event()

    def __call__(self, conn: socket.socket) -> None:
        try:
            if self._answer:
                self.question = conn.recv(65536)
                for piece in self._answer:
                    conn.sendall(piece)
            while data := conn.recv(65536):
                self.question += data
            self.orderly = True  # FIN without close_notify would have raised
        finally:
            self.over.set()


def leave(conn: socket.socket) -> None:
    """A script: close at once."""


def leave_after_hello(conn: socket.socket) -> None:
    conn.recv(65536)


def reset_after_hello(conn: socket.socket) -> None:
    conn.recv(65536)
    reset(conn)


class Bench:
    """A reactor for sockets, a clock for deadlines, and backends in threads."""

    def __init__(
        self, reactor: Any, poller: Poller, way: type[MemoryChannel], papers: Papers, backends: ExitStack
    ) -> None:
        self.reactor = reactor
        self.poller = poller
        self.clock = Clock()
        self.papers = papers
        self.results: list[tuple[str, str]] = []
        self._way = way
        self._backends = backends

    def tls(self, **settings: Any) -> ClientTls:
        settings.setdefault("ca", self.papers.ca)
        asked = BackendTlsSettings(**settings)
        return ClientTls(asked, trust=load_trust(asked.ca, asked.crl), pair=None, way=lambda: self._way)

    def serve(self, script: Script, files: Files | None = None, *, header: int = 0, **context: Any) -> TlsBackend:
        made = server_context(files or self.papers.server(), **context)
        backend = TlsBackend(script, made, header=header)
        self._backends.callback(backend.stop)
        return backend

    def serve_plain(self, script: Script) -> Backend:
        backend = Backend(script)
        self._backends.callback(backend.stop)
        return backend

    def check(
        self, backend: Backend, tls: ClientTls | None = None, preamble: bytes = b"", **settings: Any
    ) -> TlsCheckConnection:
        address = parse_address(backend.address)
        asked = CheckSettings(**settings)
        made = self.tls() if tls is None else tls
        question = question_of(asked, CheckTarget(*target_of(address), address, preamble, made))
        check = TlsCheckConnection(self.clock, self.poller, asked.timeout, preamble, question, self.hear, made, address)
        check.begin(*target_of(address))
        return check

    def hear(self, code: str, detail: str) -> None:
        self.results.append((code, detail))

    def result(self) -> tuple[str, str]:
        turn(self.reactor, lambda: self.results)
        assert self.clock.getDelayedCalls() == [], "its deadline is taken back"
        assert not self.reactor.descriptors, "nothing is watched any more"
        return self.results.pop()

    def until(self, condition: Callable[[], object]) -> None:
        turn(self.reactor, condition)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(params=["epoll-socket", "epoll-memory", "stock-socket", "stock-memory"])
def bench(request: pytest.FixtureRequest, papers: Papers) -> Iterator[Bench]:
    kind, way = request.param.split("-")
    with hand_reactor() as reactor, ExitStack() as backends:
        poller = EpollPoller(reactor) if kind == "epoll" else StockPoller(reactor)
        yield Bench(reactor, poller, SocketChannel if way == "socket" else MemoryChannel, papers, backends)


class TestAGoodBackend:
    def test_a_handshake_that_passes_is_enough(self, bench: Bench) -> None:
        heard = Heard()
        backend = bench.serve(heard)
        bench.check(backend)
        assert bench.result() == ("L6OK", "")
        assert backend.next_seen().error == ""

    def test_the_end_is_close_notify(self, bench: Bench) -> None:
        # TLS 1.2: nothing of the backend's is under way at the end, so no reset can overtake close_notify.
        heard = Heard()
        bench.check(bench.serve(heard, most=OLDER))
        assert bench.result()[0] == "L6OK"
        assert heard.over.wait(PATIENCE)
        assert heard.orderly

    @pytest.mark.parametrize("answer", [[b"+PONG\r\n"], [b"+PO", b"NG\r\n"], [b"x" * 9000, b"+PONG"]])
    def test_the_expected_answer_in_any_records(self, bench: Bench, answer: list[bytes]) -> None:
        heard = Heard(*answer)
        bench.check(bench.serve(heard), send=b"PING\r\n", expect=b"+PONG")
        assert bench.result() == ("L7OK", "")
        assert heard.over.wait(PATIENCE)
        assert heard.question == b"PING\r\n"

    def test_what_came_with_the_end_of_the_handshake_is_heard(self, bench: Bench) -> None:
        bench.check(bench.serve(gives_notice(b"220 welcome\r\n")), expect=b"220 ")
        assert bench.result() == ("L7OK", "")

    def test_something_is_said_and_no_answer_is_asked_for(self, bench: Bench) -> None:
        heard = Heard()
        bench.check(bench.serve(heard, most=OLDER), send=b"QUIT\r\n")
        assert bench.result() == ("L6OK", "")
        assert heard.over.wait(PATIENCE)
        assert (heard.question, heard.orderly) == (b"QUIT\r\n", True)

    @pytest.mark.parametrize("version", [1, 2])
    def test_the_proxy_header_goes_in_front_in_clear(self, bench: Bench, version: Any) -> None:
        header = local_header(version)
        backend = bench.serve(Heard(), header=len(header))
        bench.check(backend, preamble=header)
        assert bench.result() == ("L6OK", "")
        assert backend.next_seen().before == header

    def test_a_backend_that_nobody_vouches_for_passes_where_nothing_is_verified(self, bench: Bench) -> None:
        backend = bench.serve(Heard(), bench.papers.self_signed("nobody.example"))
        bench.check(backend, bench.tls(verify=False, ca=None))
        assert bench.result() == ("L6OK", "")


class TestBadTls:
    def refused(self, bench: Bench, files: Files, **settings: Any) -> str:
        bench.check(bench.serve(Heard(), files), bench.tls(**settings), send=b"secret", expect=b"secret")
        code, detail = bench.result()
        assert code == "L6RSP"
        word, _, sentence = detail.partition(": ")
        assert sentence
        return word

    def test_a_certificate_for_somebody_else(self, bench: Bench) -> None:
        heard = Heard()
        bench.check(bench.serve(heard, bench.papers.server("other.example")), send=b"secret", expect=b"secret")
        code, detail = bench.result()
        assert (code, detail.partition(":")[0]) == ("L6RSP", "wrong_name")
        assert heard.over.wait(PATIENCE)
        assert heard.question == b"", "nothing is said to somebody else"

    def test_an_expired_certificate(self, bench: Bench) -> None:
        assert self.refused(bench, bench.papers.issue("127.0.0.1", days=-1)) == "expired_certificate"

    def test_a_self_signed_certificate(self, bench: Bench) -> None:
        assert self.refused(bench, bench.papers.self_signed("127.0.0.1")) == "unknown_ca"

    def test_a_certificate_of_an_unknown_authority(self, bench: Bench) -> None:
        assert self.refused(bench, bench.papers.stranger().server()) == "unknown_ca"

    def test_a_revoked_certificate(self, bench: Bench) -> None:
        files = bench.papers.issue("127.0.0.1")
        assert self.refused(bench, files, crl=bench.papers.crl(files)) == "revoked_certificate"

    @pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    def test_a_backend_that_speaks_no_tls(self, bench: Bench, banner: bytes) -> None:
        def speak(conn: socket.socket) -> None:
            conn.sendall(banner)
            hold(conn)

        bench.check(bench.serve_plain(speak))
        code, detail = bench.result()
        assert code == "L6RSP"
        assert detail.partition(":")[0] in ("early_bytes", "not_tls"), "whichever was quicker"

    def test_bytes_that_are_there_before_the_handshake(self, bench: Bench) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        address = Address("ip", *listening.getsockname())
        asked = BytesQuestion(CheckSettings())
        check = TlsCheckConnection(bench.clock, bench.poller, 2.0, b"", asked, bench.hear, bench.tls(), address)
        check.begin(*target_of(address))
        server, _ = listening.accept()
        with listening, server:
            server.sendall(b"220 hello\r\n")
            assert bench.result() == ("L6RSP", "early_bytes: it sent bytes before the TLS handshake (rule=L14)")
            assert closed_quietly(server), "without a ClientHello"

    @pytest.mark.parametrize("end", [leave, leave_after_hello, reset_after_hello])
    def test_a_backend_that_closes_in_the_handshake(self, bench: Bench, end: Script) -> None:
        bench.check(bench.serve_plain(end))
        assert bench.result() == ("L6RSP", "closed: the backend closed within the TLS handshake")

    def test_a_silent_backend(self, bench: Bench) -> None:
        backend = bench.serve_plain(hold)
        bench.check(backend, timeout=2.0)
        bench.until(lambda: backend.connections)
        turn(bench.reactor)
        bench.clock.advance(1.9)
        assert bench.results == []
        bench.clock.advance(0.2)
        assert bench.result() == ("L6TOUT", "")

    def test_a_check_within_its_handshake_can_be_cancelled(self, bench: Bench) -> None:
        backend = bench.serve_plain(hold)
        check = bench.check(backend)
        bench.until(lambda: backend.connections)
        turn(bench.reactor)
        check.cancel()
        check.cancel()
        turn(bench.reactor)
        assert bench.results == []
        assert bench.clock.getDelayedCalls() == []
        assert check.fileno() == -1


class TestBehindTheHandshake:
    @pytest.mark.parametrize(
        ("script", "detail"),
        [
            (Heard(b"-ERR\r\n", b"x" * 20_000), ""),
            (gives_notice(b"-ERR\r\n"), ""),
            (cuts_off(b"+PO"), "the connection ended without close_notify"),
        ],
        ids=["much", "notice", "cut"],
    )
    def test_another_answer(self, bench: Bench, script: Script, detail: str) -> None:
        bench.check(bench.serve(script), send=b"PING\r\n", expect=b"+PONG")
        assert bench.result() == ("L7RSP", detail)

    def test_no_answer(self, bench: Bench) -> None:
        heard = Heard()
        backend = bench.serve(heard)
        bench.check(backend, expect=b"+PONG", timeout=2.0)
        bench.until(lambda: backend.shaken)
        turn(bench.reactor)
        bench.clock.advance(2.1)
        assert bench.result() == ("L7TOUT", "")

    def test_plain_bytes_within_tls(self, bench: Bench) -> None:
        def lapse(conn: socket.socket) -> None:
            assert isinstance(conn, TlsSocket)
            conn.recv(100)
            conn.send_plain(b"+PONG in clear\r\n")
            hold(conn)

        bench.check(bench.serve(lapse), send=b"PING\r\n", expect=b"+PONG")
        assert bench.result() == ("L7RSP", "a TLS record that cannot be read")


class TestHttp:
    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            (Heard(b"HTTP/1.1 204 No Content\r\n\r\n"), ("L7OK", "")),
            (Heard(b"HTTP/1.1 503 Away\r\nContent-", b"Length: 0\r\n\r\n"), ("L7STS", "status 503")),
            (cuts_off(b"HTTP/1.1 200"), CUT_HEAD),
        ],
        ids=["good", "status", "cut"],
    )
    def test_the_request_and_its_answer_go_through_tls(
        self, bench: Bench, script: Script, expected: tuple[str, str]
    ) -> None:
        bench.check(bench.serve(script), http=HttpCheck())
        assert bench.result() == expected
        if isinstance(script, Heard):
            assert script.over.wait(PATIENCE)
            assert re.fullmatch(
                rb"GET / HTTP/1.1\r\nHost: 127.0.0.1:\d+\r\n.*close\r\n\r\n", script.question, re.DOTALL
            )

    @pytest.mark.parametrize(("body", "code"), [(b"we are ready", "L7OK"), (b"not yet", "L7RSP")])
    def test_a_body_with_an_open_end(self, bench: Bench, body: bytes, code: str) -> None:
        script = gives_notice(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        bench.check(bench.serve(script), http=HttpCheck(body=b"ready"))
        assert bench.result()[0] == code

    def test_an_open_end_without_close_notify_is_cut(self, bench: Bench) -> None:
        bench.check(bench.serve(cuts_off(b"HTTP/1.1 200 OK\r\n\r\nnot yet")), http=HttpCheck(body=b"ready"))
        assert bench.result() == (
            "L7RSP",
            "it ended within the body of its answer: the connection ended without close_notify",
        )

    def test_no_answer(self, bench: Bench) -> None:
        heard = Heard()
        backend = bench.serve(heard)
        bench.check(backend, http=HttpCheck(), timeout=2.0)
        bench.until(lambda: backend.shaken)
        turn(bench.reactor)
        bench.clock.advance(2.1)
        assert bench.result() == ("L7TOUT", "")

    def test_the_handshake_comes_first(self, bench: Bench) -> None:
        bench.check(bench.serve(Heard(), bench.papers.server("other.example")), http=HttpCheck())
        assert bench.result()[0] == "L6RSP"


class TestResumption:
    def ask(self, bench: Bench, backend: TlsBackend, tls: ClientTls, **settings: Any) -> bool:
        bench.check(backend, tls, **settings)
        assert bench.result()[0].endswith("OK")
        return backend.next_seen().resumed

    def test_a_check_that_was_answered_is_resumed(self, bench: Bench) -> None:
        def pong(conn: socket.socket) -> None:
            conn.recv(100)
            conn.sendall(b"+PONG")
            hold(conn)

        backend, tls = bench.serve(pong), bench.tls()
        question = {"send": b"PING", "expect": b"+PONG"}
        assert [self.ask(bench, backend, tls, **question) for _ in range(2)] == [False, True]

    def test_a_mere_handshake_throws_nothing_away(self, bench: Bench) -> None:
        """It begins before there is anything to resume with, and ends after there is."""
        context = server_context(bench.papers.server())
        late = threading.Event()
        resumed: list[bool] = []

        def answer(conn: socket.socket) -> None:
            if not late.is_set() and backend.connections == 1:
                late.wait(PATIENCE)
            with TlsSocket(conn.dup(), context, server_side=True) as tls:
                resumed.append(tls.handshake().resumed)
                if tls.recv(100):
                    tls.sendall(b"+PONG")
                    tls.recv(100)

        backend, tls = bench.serve_plain(answer), bench.tls()
        bench.check(backend, tls)
        bench.until(lambda: backend.connections)
        bench.check(backend, tls, send=b"PING", expect=b"+PONG")
        bench.until(lambda: bench.results)
        assert bench.results.pop()[0] == "L7OK"
        late.set()
        assert bench.result()[0] == "L6OK"
        bench.check(backend, tls, send=b"PING", expect=b"+PONG")
        assert bench.result()[0] == "L7OK"
        assert resumed == [False, False, True]


class TestManyChecks:
    def test_each_goes_by_the_tls_of_its_time(self, bench: Bench, tmp_path: Path) -> None:
        backend = bench.serve(Heard(), bench.papers.self_signed("127.0.0.1"))
        address = parse_address(backend.address)
        now = [bench.tls(), bench.tls(verify=False, ca=None), None]

        def where() -> CheckTarget:
            return CheckTarget(*target_of(address), address, b"", now[0])

        settings = CheckSettings(interval=4.0, timeout=1.0)
        checker = Checker(bench.clock, bench.poller, settings, where, bench.hear, lambda: 0.5)
        checker.start()
        codes = []
        for wait in (2.0, 4.0, 4.0):
            bench.clock.advance(wait)
            bench.until(lambda: bench.results)
            codes.append(bench.results.pop()[0])
            now.pop(0)
            now.append(None)
        checker.stop()
        assert codes == ["L6RSP", "L6OK", "L4OK"]
