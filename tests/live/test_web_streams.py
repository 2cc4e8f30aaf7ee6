"""Long and open ended: WebSockets, other upgrades, events, long polls, large bodies, slow readers."""

from __future__ import annotations

import contextlib
import hashlib
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as websocket
from websockets.sync.server import ServerConnection, serve

from tests.live.harness import Lbproxy, until
from tests.live.http_peers import (
    Answer,
    Asked,
    Chooses,
    Do,
    Fields,
    RawClient,
    chunked,
    http_listener,
    request,
    upgraded,
)
from tests.live.http_scripts import Gate, Live, blocks, digest, large
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE, connect, reset
from tests.live.tls_peers import Papers, client_context, server_context
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, https, named, tls_keys

UPGRADE = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
CHUNKED = ((b"Transfer-Encoding", b"chunked"),)
EVENTS = ((b"Content-Type", b"text/event-stream"),)
MEGABYTE = 1 << 20


@contextlib.contextmanager
def _stopped(proxy: Lbproxy) -> Iterator[None]:
    """Let lbproxy sleep meanwhile: what comes is told to it in the order of its coming, when it wakes."""
    proxy.signal(signal.SIGSTOP)
    until(lambda: Path(f"/proc/{proxy.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it has stopped")
    try:
        yield
    finally:
        proxy.signal(signal.SIGCONT)


class Sockets:
    """A WebSocket server: it sends back what comes; "close 4001" makes it close so. `paths` are those asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.closes: list[tuple[int, str]] = []
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listening.getsockname()[1]}"
        self._server = serve(self._echo, sock=listening, process_request=self._admit, max_size=None)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _admit(self, connection: ServerConnection, asked: Request) -> Response | None:
        self.paths.append(asked.path)
        return connection.respond(403, "not you\n") if asked.path == "/secret" else None

    def _echo(self, connection: ServerConnection) -> None:
        try:
            for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    connection.close(int(message.split()[1]), "as you wish")
                else:
                    connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.closes.append((connection.close_code or 0, connection.close_reason or ""))

    def stop(self) -> None:
        """Accept no more; connections end with their clients."""
        self._server.shutdown()
        self._thread.join(PATIENCE)


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Each test over both."""
    word: str = request.param
    return word


@pytest.fixture
def sockets(live: Live) -> Sockets:
    """A WebSocket server."""
    server = Sockets()
    live.stack.callback(server.stop)
    return server


def _keys(scheme: str, authority: Papers) -> str:
    return tls_keys(authority.server(NAME)) if scheme == "https" else ""


def _client(live: Live, scheme: str) -> RawClient:
    return https(live) if scheme == "https" else live.client()


def _open(live: Live, scheme: str, authority: Papers, path: str = "/") -> ClientConnection:
    """A WebSocket through the listener of this test."""
    tls = client_context(ca=authority.ca) if scheme == "https" else None
    sock = connect(live.port)
    sock.settimeout(None)
    word = "wss" if tls else "ws"
    try:
        opened = websocket(
            f"{word}://{NAME}{path}", sock=sock, ssl=tls, max_size=None, proxy=None, close_timeout=PATIENCE
        )
    except BaseException:
        sock.close()
        raise
    assert isinstance(opened, ClientConnection)
    return opened


class TestWebSockets:
    def test_messages_of_all_kinds_come_back(
        self, live: Live, scheme: str, authority: Papers, sockets: Sockets
    ) -> None:
        live.serve(sockets.address, listener=_keys(scheme, authority))
        with _open(live, scheme, authority, "/chat?room=1") as client:
            for message in ("short", "ä" * 100_000, b"\0\xff" * 3 * MEGABYTE, "", b""):
                client.send(message)
                assert client.recv(PATIENCE) == message
            client.send(iter(["in ", "pieces"]))
            assert client.recv(PATIENCE) == "in pieces"
            assert client.ping().wait(PATIENCE)
        until(lambda: sockets.closes, "it was closed")
        assert (sockets.paths, sockets.closes) == (["/chat?room=1"], [(1000, "")])
        record = live.record()
        assert (record["status"], record["outcome"], record["path"]) == (101, "ok", "/chat")
        assert record["bytes_in"] > 1000
        assert record["bytes_out"] > 1000

    def test_close_codes_pass_in_both_directions(
        self, live: Live, scheme: str, authority: Papers, sockets: Sockets
    ) -> None:
        live.serve(sockets.address, listener=_keys(scheme, authority))
        with _open(live, scheme, authority) as client:
            client.close(4000, "enough")
        with _open(live, scheme, authority) as client:
            client.send("close 4001")
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE)
            assert (client.close_code, client.close_reason) == (4001, "as you wish")
        until(lambda: len(sockets.closes) == 2, "both are closed")
        assert sockets.closes == [(4000, "enough"), (4001, "as you wish")]
        assert [record["outcome"] for record in live.records(2)] == ["ok", "ok"]

    def test_many_at_once_and_requests_beside_them(self, live: Live, authority: Papers, sockets: Sockets) -> None:
        plain = named(live, b"plain")
        route = '[[route]]\nlistener = "in"\npath = "/chat"\npool = "chat"\n'
        pool = f'[pool.chat]\nbackends = "{sockets.address}"\ncheck = false\n'
        live.serve(plain.address, more=route + pool)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(_open(live, "http", authority, "/chat")) for _ in range(20)]
            for number in range(3):
                for index, client in enumerate(clients):
                    client.send(f"{number} {index}")
                with live.client() as other:
                    assert other.ask().body == b"plain"
                assert [client.recv(PATIENCE) for client in clients] == [f"{number} {index}" for index in range(20)]
            assert live.proxy.pool("chat")["active"] == 20
        assert len(live.records(23)) == 23

    def test_a_refusal_is_the_backends_answer(
        self, live: Live, scheme: str, authority: Papers, sockets: Sockets
    ) -> None:
        """C7: and the last one of its connection"""
        live.serve(sockets.address, listener=_keys(scheme, authority))
        with pytest.raises(InvalidStatus) as caught:
            _open(live, scheme, authority, "/secret")
        assert (caught.value.response.status_code, caught.value.response.body) == (403, b"not you\n")
        assert caught.value.response.headers["Connection"] == "close"
        assert live.record()["status"] == 403

    def test_a_reload_closes_none(self, live: Live, authority: Papers, sockets: Sockets) -> None:
        """semantics.md 20; also where listener, route and pool are gone"""
        live.serve(sockets.address)
        with _open(live, "http", authority) as client:
            for text in (http_listener(live.ports.reserve(), name="other", more='pool = "probe"'), ""):
                live.serve_text(text)
                client.send("still there")
                assert client.recv(PATIENCE) == "still there"
        record = live.record()
        assert (record["outcome"], record["pool"]) == ("ok", "out")

    def test_silence_ends_it_and_traffic_either_way_does_not(
        self, live: Live, scheme: str, authority: Papers, sockets: Sockets
    ) -> None:
        """W7"""
        live.serve(sockets.address, listener=_keys(scheme, authority), more='[timeouts]\ntunnel_idle = "400ms"\n')
        with _open(live, scheme, authority) as client:
            for _ in range(5):
                time.sleep(0.15)
                client.send("x")
                assert client.recv(PATIENCE) == "x"
            began = time.monotonic()
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE)
            assert 0.3 < time.monotonic() - began < 3
        record = live.record()
        assert (record["outcome"], record["timer"], record["status"]) == ("idle_timeout", "tunnel_idle", 101)


class TestUpgrades:
    def test_bytes_in_front_of_the_101_wait_for_it(self, live: Live, scheme: str, authority: Papers) -> None:
        """C7"""
        early: list[bool] = []
        gate = Gate(upgraded())

        def wait(asked: Asked) -> Answer:
            return gate(asked)

        backend = live.recording(wait)
        live.serve(backend.address, listener=_keys(scheme, authority))
        with _client(live, scheme) as client:
            client.send(request(fields=UPGRADE) + b"first ")
            gate.wait()
            client.send(b"second")
            time.sleep(0.05)
            early.append(any(select.select(list(backend._open), [], [], 0)[0]))
            gate.open()
            answer = client.answer(upgrade=True)
            assert (answer.status, answer.get(b"upgrade"), answer.get(b"connection")) == (101, b"websocket", b"Upgrade")
            assert client.take(12) == b"first second"
        assert early == [False]
        (asked,) = backend.requests
        assert (asked.get(b"connection"), asked.get(b"upgrade")) == (b"Upgrade", b"websocket")

    def test_bytes_behind_the_101_in_its_segment_arrive(self, live: Live, scheme: str, authority: Papers) -> None:
        raw = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\nhello"
        evil = live.evil(_after_head(raw))
        live.serve(evil.address, listener=_keys(scheme, authority))
        with _client(live, scheme) as client:
            client.send(request(fields=UPGRADE))
            assert client.answer(upgrade=True).status == 101
            assert client.take(5) == b"hello"

    @pytest.mark.parametrize("first", ["client", "backend"])
    def test_a_half_close_passes_and_the_other_way_goes_on(
        self, live: Live, scheme: str, authority: Papers, first: str
    ) -> None:
        def after(conn: socket.socket, _ahead: bytes) -> None:
            if first == "client":
                heard = b""
                while data := conn.recv(65536):
                    heard += data
                conn.sendall(b"heard " + heard)
            else:
                conn.sendall(b"bye")
                conn.shutdown(socket.SHUT_WR)
                heard = b""
                while data := conn.recv(65536):
                    heard += data
                told.append(heard)

        told: list[bytes] = []
        backend = live.recording(default=upgraded(then=after))
        live.serve(backend.address, listener=_keys(scheme, authority))
        with _client(live, scheme) as client:
            client.send(request(fields=UPGRADE))
            assert client.answer(upgrade=True).status == 101
            if first == "client":
                client.send(b"a" * 100_000)
                client.half_close()
                assert client.read_to_end() == b"heard " + b"a" * 100_000
            else:
                assert client.read_to_end() == b"bye"
                client.send(b"b" * 100_000)
                client.half_close()
                until(lambda: told, "the backend has heard all")
                assert told == [b"b" * 100_000]
        assert live.record()["outcome"] == "ok"

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_reset_passes(self, live: Live, who: str) -> None:
        """Scenario 66"""
        broken = threading.Event()

        def after(conn: socket.socket, _ahead: bytes) -> None:
            if who == "backend":
                reset(conn)
                return
            with contextlib.suppress(ConnectionResetError):
                conn.recv(1)
            broken.set()

        backend = live.recording(default=upgraded(then=after))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(fields=UPGRADE))
            assert client.answer(upgrade=True).status == 101
            if who == "client":
                client.reset()
                assert broken.wait(PATIENCE)
            else:
                with pytest.raises(ConnectionResetError):
                    client.read_to_end()
        assert live.record()["outcome"] == ("client_gone" if who == "client" else "backend_cut")

    @pytest.mark.parametrize(
        ("fields", "asked"),
        [
            (b"Connection: Upgrade\r\nUpgrade: other\r\n", UPGRADE),
            (b"Connection: Upgrade\r\n", UPGRADE),
            (b"Connection: Upgrade\r\nUpgrade: websocket, other\r\n", UPGRADE),
            (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", ()),
            (b"", ()),
        ],
    )
    def test_a_wrong_101_is_a_502(self, live: Live, fields: bytes, asked: Fields) -> None:
        """C10, B15"""
        evil = live.evil(_after_head(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\nmore"))
        live.serve(evil.address)
        with live.client() as client:
            answer = client.ask(fields=asked)
            assert answer.status == 502
            assert answer.get(b"connection") == b"close"
            assert client.was_closed()
        until(lambda: not evil.open, "the backend's connection is closed")
        assert live.record()["rule"] in ("C10", "B8", "B15")

    @pytest.mark.parametrize(
        ("fields", "version", "body"),
        [
            ((*UPGRADE[:1], (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")), b"HTTP/1.1", None),
            ((*UPGRADE[:1], (b"Upgrade", b"foo/2")), b"HTTP/1.1", None),
            (UPGRADE[1:], b"HTTP/1.1", None),
            (UPGRADE, b"HTTP/1.0", None),
            (UPGRADE, b"HTTP/1.1", b"body"),
        ],
        ids=["C8", "not listed", "no Connection", "HTTP/1.0", "with a body"],
    )
    def test_an_upgrade_that_is_none_is_an_ordinary_request(
        self, live: Live, fields: Fields, version: bytes, body: bytes | None
    ) -> None:
        """C8, C9"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            answer = client.ask(b"GET", b"/", fields, body, version=version)
            assert (answer.status, answer.body) == (200, b"ok")
            if version == b"HTTP/1.1":
                assert answer.get(b"connection") is None
                assert client.ask().status == 200
        asked = backend.wait_for(1)[0]
        assert [asked.all(name) for name in (b"upgrade", b"connection", b"http2-settings")] == [[], [], []]
        assert asked.body == (body or b"")

    def test_an_http_1_0_backend_is_asked_for_no_other_protocol(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, pool='http.version = "1.0"')
        with live.client() as client:
            answer = client.ask(fields=UPGRADE)
            assert (answer.status, answer.get(b"connection")) == (200, None)
            assert client.ask().status == 200
        assert backend.requests[0].version == b"HTTP/1.0"
        assert [backend.requests[0].all(name) for name in (b"upgrade", b"connection")] == [[], []]

    def test_a_route_says_which_protocols_there_are(self, live: Live) -> None:
        backend = live.recording(
            lambda asked: upgraded(asked.get(b"upgrade") or b"") if asked.all(b"upgrade") else Answer()
        )
        more = '[[route]]\nlistener = "in"\npath = "/none"\npool = "out"\nupgrades = []\n'
        more += '[[route]]\nlistener = "in"\npath = "/foo"\npool = "out"\nupgrades = ["foo"]\n'
        live.serve(backend.address, more=more)
        for path, protocol, status in (
            (b"/none", b"websocket", 200),
            (b"/foo", b"websocket", 200),
            (b"/foo", b"Foo", 101),
            (b"/", b"foo", 200),
        ):
            with live.client() as client:
                client.send(request(target=path, fields=((b"Connection", b"Upgrade"), (b"Upgrade", protocol))))
                answer = client.answer(upgrade=True)
                assert (path, answer.status) == (path, status)
                if status == 101:
                    client.send(b"echo")
                    assert client.take(4) == b"echo"


def _after_head(raw: bytes) -> tuple[Do | bytes, ...]:
    return Do.READ_HEAD, raw, Do.READ_ALL


class Ticker:
    """A body that is made piece by piece, when the test says so."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._steps = threading.Semaphore(0)

    def __call__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            assert self._steps.acquire(timeout=PATIENCE)
            yield piece

    def step(self) -> None:
        """Let one more go."""
        self._steps.release()


class TestEvents:
    @pytest.mark.parametrize("framing", ["chunked", "close"])
    def test_each_event_arrives_before_the_next_is_made(self, live: Live, authority: Papers, framing: str) -> None:
        """With TLS on both sides, where something could be waiting inside."""
        ticker = Ticker(*(b"data: %d\n\n" % number for number in range(20)))
        answer = Answer(stream=ticker, framing=framing, fields=EVENTS)  # type: ignore[arg-type]  # one of them
        backend = live.recording(default=answer, tls=server_context(authority.server()))
        live.serve(backend.address, listener=_keys("https", authority), pool=f'tls = {{ ca = "{authority.ca}" }}')
        with https(live) as client:
            client.send(request())
            wire = b""
            while b"\r\n\r\n" not in wire:
                wire += client.take(1)
            for number in range(20):
                ticker.step()
                while b"data: %d\n\n" % number not in wire:
                    data = client.take(1)
                    assert data
                    wire += data
            assert client.take(7) == b"\r\n0\r\n\r\n"
        assert wire.count(b"data: ") == 20
        assert live.record()["outcome"] == "ok"

    @pytest.mark.parametrize(
        ("path", "kind", "whole"),
        [(b"/", EVENTS, True), (b"/", (), False), (b"/ticker/", (), True)],
        ids=["events", "another type", "a streaming route"],
    )
    def test_silence_between_events_is_no_failure(self, live: Live, path: bytes, kind: Fields, whole: bool) -> None:
        ticker = Ticker(b"one", b"two")
        backend = live.recording(default=Answer(stream=ticker, framing="chunked", fields=kind))
        more = '[[route]]\nlistener = "in"\npath = "/ticker/"\npool = "out"\nstreaming = true\n'
        live.serve(backend.address, more=more + '[timeouts]\nresponse_body_idle = "250ms"\n')
        with live.client() as client:
            client.send(request(target=path))
            ticker.step()
            if whole:
                time.sleep(0.6)
                ticker.step()
                assert client.answer().body == b"onetwo"
            else:
                with pytest.raises(ConnectionResetError):
                    client.answer()
                ticker.step()
        record = live.record()
        assert record["outcome"] == ("ok" if whole else "body_idle")

    def test_long_polls_wait_while_others_are_served(self, live: Live) -> None:
        gate = Gate(Answer(body=b"news"))
        backend = live.recording({"/poll": gate})
        live.serve(backend.address)
        pollers = [live.client() for _ in range(20)]
        for client in pollers:
            client.send(request(target=b"/poll"))
            gate.wait()
        with live.client() as other:
            for _ in range(20):
                assert other.ask().body == b"ok"
        # A FIN alone would not do: many end their half and wait (threats.md C14).
        pollers.pop().reset()
        pollers.pop().reset()
        until(lambda: live.proxy.pool()["active"] == 18, "those who have left are not waited for")
        gate.open()
        assert {client.answer().body for client in pollers} == {b"news"}
        outcomes = [record["outcome"] for record in live.records(40)]
        assert (outcomes.count("client_gone"), outcomes.count("ok")) == (2, 38)


def test_nothing_spins_while_everybody_waits(live: Live, scheme: str, authority: Papers) -> None:
    """Scenario 55: every state in which one side could be told of over and over."""
    gate, over, ticker = Gate(), threading.Event(), Ticker(b"one", b"two")

    def ends_its_half(conn: socket.socket, _ahead: bytes) -> None:
        conn.sendall(b"x")
        conn.shutdown(socket.SHUT_WR)
        over.wait(PATIENCE)

    def says_nothing(conn: socket.socket, _ahead: bytes = b"") -> None:
        over.wait(PATIENCE)

    answers: dict[str, Answer | Chooses] = {
        "/slow": gate,
        "/half": upgraded(then=ends_its_half),
        "/silent": upgraded(then=says_nothing),
        "/big": large(50_000_000),
        "/chunks": large(50_000_000, framing="chunked"),
        "/events": Answer(stream=ticker, framing="chunked", fields=EVENTS),
    }
    backend, stuck = live.recording(answers), live.scripted(says_nothing)
    more = '[[route]]\nlistener = "in"\npath = "/stuck"\npool = "stuck"\n'
    more += f'[pool.stuck]\nbackends = "{stuck.address}"\ncheck = false\n'
    live.serve(backend.address, listener=_keys(scheme, authority), more=more)

    def ask(wire: bytes, *, upgrade: bool = False) -> RawClient:
        client = _client(live, scheme)
        client.send(wire)
        if upgrade:
            assert client.answer(upgrade=True).status == 101
        return client

    def fill(client: RawClient, data: Iterator[bytes]) -> None:
        with contextlib.suppress(OSError):
            for piece in data:
                client.sock.sendall(piece)

    ask(request()).answer()
    ask(request(target=b"/slow")).half_close()
    ask(request(target=b"/half", fields=UPGRADE), upgrade=True).take(1)
    ask(request(target=b"/silent", fields=UPGRADE), upgrade=True).half_close()
    ask(request(target=b"/big"))
    ask(request(target=b"/chunks"))
    ask(request(target=b"/events"))
    ask(request(b"PUT", b"/stuck", ((b"Content-Length", b"5"),), b"12"))
    ask(b"GET / HT")
    ahead = ask(request(target=b"/slow"))
    uploads = ask(request(b"PUT", b"/stuck", ((b"Content-Length", b"50000000"),)))
    many = (request(fields=((b"X-Pad", b"x" * 5000),)) for _ in range(2000))
    threads = [
        threading.Thread(target=fill, args=(client, data), daemon=True)
        for client, data in ((ahead, many), (uploads, blocks(50_000_000)))
    ]
    for thread in threads:
        thread.start()
    ticker.step()
    for _ in range(2):
        gate.wait()
    time.sleep(0.2)
    share = live.proxy.cpu_share(0.5)
    over.set()
    gate.open()
    ticker.step()
    for client in (ahead, uploads):
        client.reset()
    for thread in threads:
        thread.join(PATIENCE)
    assert share < 0.2


class TestBulk:
    SIZE = 200_000_000

    @pytest.mark.parametrize("way", ["down", "up"])
    def test_much_goes_through_while_small_requests_go_on(self, live: Live, way: str) -> None:
        backend = live.recording({"/big": large(self.SIZE)}, keep_bodies=False)
        small = named(live, b"small")
        route = '[[route]]\nlistener = "in"\npath = "/small"\npool = "small"\n'
        pool = f'[pool.small]\nbackends = "{small.address}"\ncheck = false\n'
        live.serve(backend.address, more=route + pool)
        slowest, stopped = 0.0, threading.Event()

        def ask() -> None:
            nonlocal slowest
            with live.client() as client:
                while not stopped.wait(0.01):
                    began = time.monotonic()
                    assert client.ask(target=b"/small").body == b"small"
                    slowest = max(slowest, time.monotonic() - began)
                    count.append(1)

        count: list[int] = []
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        memory = live.proxy.resident_bytes()
        with live.client() as client:
            if way == "down":
                client.send(request(target=b"/big"))
                assert _digest(client, self.SIZE, self._spliced(live)) == digest(self.SIZE)
            else:
                client.send(request(b"PUT", b"/", ((b"Content-Length", b"%d" % self.SIZE),)))
                spliced = self._spliced(live)
                for number, block in enumerate(blocks(self.SIZE)):
                    if number == 40:
                        spliced()
                    client.sock.sendall(block)
                assert client.answer().status == 200
                assert backend.wait_for(1)[0].digest == digest(self.SIZE)
            assert client.ask().body == b"ok"
        stopped.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(count) >= 5
        assert slowest < 1.0
        assert live.proxy.resident_bytes() - memory < 8_000_000

    def _spliced(self, live: Live) -> Callable[[], None]:
        def look() -> None:
            assert live.proxy.status()["pipes_in_use"] == 1

        return look

    def test_a_slow_reader_over_tls_holds_little_and_frees_it(self, live: Live, authority: Papers) -> None:
        """W8, C15: a gigabyte that nobody has in one piece"""
        backend = live.recording(default=large(1 << 30))
        live.serve(backend.address, listener=_keys("https", authority))
        with https(live) as client:
            assert client.ask(b"HEAD").status == 200
            before, most = live.proxy.resident_bytes(), 0
            client.send(request())
            for _ in range(20):
                assert len(client.take(50_000)) == 50_000
                time.sleep(0.01)
                most = max(most, live.proxy.resident_bytes())
            assert most - before < 6_000_000
            assert live.proxy.status()["held_bytes"] < 1_000_000
        until(lambda: live.proxy.pool()["active"] == 0, "the backend is free", 1.0)
        until(lambda: live.proxy.status()["held_bytes"] == 0, "nothing is held", 1.0)
        assert live.records(2)[1]["outcome"] == "client_gone"


def _digest(client: RawClient, size: int, halfway: Callable[[], None]) -> str:
    """The SHA-256 of the body of an answer with this length, which is not held in one piece."""
    wire = b""
    while b"\r\n\r\n" not in wire:
        wire += client.sock.recv(65536)
    data = wire.partition(b"\r\n\r\n")[2]
    found = hashlib.sha256(data)
    left, middle = size - len(data), size // 2
    while left > 0:
        data = client.sock.recv(MEGABYTE)
        assert data
        found.update(data)
        if left > middle >= left - len(data):
            halfway()
        left -= len(data)
    assert not left
    return found.hexdigest()


class TestBodies:
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_body_that_ends_as_its_backend_dies_has_ended(self, live: Live, framing: str) -> None:
        """What is pipelined behind it is the next request, whatever becomes of this one (threats.md F19, C13)."""
        asked, dies = threading.Event(), threading.Event()

        def dying(conn: socket.socket) -> None:
            while b"\r\n\r\n" not in conn.recv(65536, socket.MSG_PEEK):
                pass
            asked.set()
            assert dies.wait(PATIENCE)
            reset(conn)

        evil = live.scripted(dying)
        good = named(live, b"good")
        route = '[[route]]\nlistener = "in"\npath = "/"\nmethod = ["PUT", "GET"]\npool = "out"\nretry = "idempotent"\n'
        live.serve(evil.address, f'{{ address = "{good.address}", backup = true }}', more=route)
        chunks = framing == "chunked"
        body = chunked(b"0123456789") if chunks else b"0123456789"
        fields = CHUNKED if chunks else ((b"Content-Length", b"10"),)
        with live.client() as client:
            # Of what comes while it is stopped, lbproxy hears in this order: the body, then the backend's end.
            client.send(request(b"PUT", b"/", fields))
            assert asked.wait(PATIENCE)
            with _stopped(live.proxy):
                client.send(body + request())
                dies.set()
                until(lambda: not evil.open, "the backend has died")
            assert [client.answer(b"PUT").body, client.answer().body] == [b"good", b"good"]
            assert client.ask().body == b"good"
        seen = [(asked.method, asked.body) for asked in good.wait_for(3)]
        assert seen == [(b"PUT", b"0123456789"), (b"GET", b""), (b"GET", b"")]
