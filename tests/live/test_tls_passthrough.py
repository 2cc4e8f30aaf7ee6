"""TLS that passes through: routes by what a ClientHello asks for, and the stream that nobody touches."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lbproxy.preamble import encode_v1, encode_v2
from tests.live import peers
from tests.live.harness import Lbproxy, Ports, Record
from tests.live.peers import Backend, Sink, connect, read_all, read_exactly
from tests.live.tls_clients import TlsClient, hello_of, only
from tests.live.tls_peers import Files, Papers, TlsBackend, client_context, server_context
from tests.preamble import hellos

NAMES = {"a": ("a.example",), "wild": ("*.wild.example",), "h2": ("api.example",), "fallback": ("fallback.example",)}


class _Scene:
    """One lbproxy without certificates, whose routes lead to TLS backends that have them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.papers = Papers(directory)
        self.files: dict[str, Files] = {name: self.papers.issue(*names) for name, names in NAMES.items()}
        ports = Ports()
        stack.callback(ports.release)
        self.port, self.strict, self.headed, self.raw = (ports.reserve() for _ in range(4))
        self.backends = {
            name: TlsBackend(peers.echo, server_context(files, alpn=("h2",) if name == "h2" else ()))
            for name, files in self.files.items()
        }
        self.sink: peers.Script = Sink()
        self.plain = Backend(lambda conn: self.sink(conn))
        for backend in (*self.backends.values(), self.plain):
            stack.callback(backend.stop)
        self.proxy = Lbproxy(self._text())
        stack.callback(self.proxy.end)
        self._seen = 0

    def _text(self) -> str:
        listeners = "".join(
            f'[[listener]]\nname = "{name}"\nbind = "127.0.0.1:{port}"\n{more}\n'
            for name, port, more in (
                ("in", self.port, 'pool = "fallback"'),
                ("strict", self.strict, '[listener.timeouts]\nclient_hello = "3s"'),
                ("headed", self.headed, 'pool = "fallback"\nproxy_protocol = { from = "127.0.0.0/8" }'),
                ("raw", self.raw, 'pool = "plain"\n[listener.timeouts]\nclient_hello = "3s"'),
            )
        )
        routes = "".join(
            f'[[route]]\nname = "{listener}-{pool}"\nlistener = "{listener}"\n{asks}\npool = "{pool}"\n'
            for listener in ("in", "strict", "headed", "raw")
            for pool, asks in (
                ("h2", 'server_name = "api.example"\nalpn = "h2"'),
                ("a", 'server_name = ["a.example"]'),
                ("wild", 'server_name = "*.wild.example"'),
            )
        )
        pools = "".join(
            f'[pool.{name}]\nbackends = "{backend.address}"\ncheck = false\nslow_start = false\n'
            for name, backend in (*self.backends.items(), ("plain", self.plain))
        )
        return listeners + routes + pools

    def client(self, port: int, name: str | None, *, alpn: tuple[str, ...] = (), version: str = "1.3") -> TlsClient:
        """A client that trusts the backends' authority; it is not connected to them yet."""
        context = client_context(ca=self.papers.ca, alpn=alpn, **only(version))
        context.check_hostname = False
        return TlsClient(port, context, name)

    def reached(self, client: TlsClient) -> str:
        """Whose certificate a client has verified."""
        assert client.ask(b"end to end") == b"end to end"
        return next(name for name, files in self.files.items() if files.issued.der == client.served)

    def seen(self) -> None:
        """Forget what has happened so far."""
        self._seen = self._ended()

    def _ended(self) -> int:
        """How many sessions have been, each of which leaves one record."""
        self.proxy.wait_until_idle()
        return sum(one["accepted"] for one in self.proxy.status()["listeners"])

    def record(self) -> Record:
        """The one record since."""
        found = self.proxy.records(self._ended())[self._seen :]
        assert len(found) == 1, found
        return found[0]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Scene]:
    """Shared by the tests of this module, which leave nothing behind in it."""
    with ExitStack() as stack:
        yield _Scene(stack, tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _unharmed(scene: _Scene) -> Iterator[None]:
    scene.seen()
    yield
    with scene.client(scene.port, "a.example") as client:
        client.shake()
        assert scene.reached(client) == "a"
    scene.proxy.wait_until_idle()
    status = scene.proxy.status()
    assert status["held_bytes"] == 0
    assert status["counters"]["exceptions"] == 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("name", "alpn", "pool"),
    [
        ("a.example", (), "a"),
        ("x.wild.example", (), "wild"),
        ("x.y.wild.example", (), "fallback"),
        ("wild.example", (), "fallback"),
        ("api.example", ("http/1.1", "h2"), "h2"),
        ("api.example", ("http/1.1",), "fallback"),
        ("api.example", (), "fallback"),
        ("unknown.example", (), "fallback"),
        (None, (), "fallback"),
    ],
)
def test_the_name_and_the_protocol_choose_the_pool(
    scene: _Scene, name: str | None, alpn: tuple[str, ...], pool: str, version: str
) -> None:
    with scene.client(scene.port, name, alpn=alpn, version=version) as client:
        client.shake()
        assert scene.reached(client) == pool
        client.shutdown(socket.SHUT_WR)
        assert client.end() == "close_notify"
    record = scene.record()
    assert (record["outcome"], record["pool"]) == ("ok", pool)
    assert (record["sni"], record["tls"]) == (name or "", "")
    assert scene.backends[pool].next_seen().server_name == name


@pytest.mark.parametrize("name", [b"A.EXAMPLE", b"a.example.", b"A.Example."], ids=repr)
def test_the_form_of_a_name_makes_no_difference(scene: _Scene, name: bytes) -> None:
    with connect(scene.port) as client:
        client.sendall(hellos.hello(hellos.server_name(name)))
        client.shutdown(socket.SHUT_WR)
        read_all(client)
    record = scene.record()
    assert (record["pool"], record["sni"]) == ("a", "a.example")


def test_the_client_verifies_the_backend_not_us(scene: _Scene) -> None:
    context = client_context(ca=scene.papers.ca)
    with TlsClient(scene.port, context, "x.wild.example") as client:
        client.shake()
        assert client.peer == ("*.wild.example",)
    with TlsClient(scene.port, context, "unknown.example") as client, pytest.raises(ssl.SSLCertVerificationError):
        client.shake()


@pytest.mark.parametrize("way", ["byte by byte", "records of 1", "records of 50"])
def test_a_hello_in_any_pieces_finds_its_pool(scene: _Scene, way: str) -> None:
    with scene.client(scene.port, "x.wild.example") as client:
        hello = client.client_hello()
        if way == "byte by byte":
            for byte in hello:
                client.send_plain(bytes([byte]))
        else:
            client.send_plain(hellos.in_records(hello[5:], int(way.rpartition(" ")[2])))
        client.shake()
        assert scene.reached(client) == "wild"


@pytest.mark.parametrize("name", [None, "unknown.example", "x.y.wild.example"])
def test_without_a_pool_for_the_rest_they_are_closed(scene: _Scene, name: str | None) -> None:
    with connect(scene.strict) as client:
        client.sendall(hello_of(client_context(), name))
        assert peers.closed_quietly(client)
    record = scene.record()
    assert (record["outcome"], record["sni"], record["backend"]) == ("no_route", name or "", "")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\0", b"\x16\x02"], ids=repr)
def test_who_speaks_no_tls_goes_where_the_nameless_go(scene: _Scene, data: bytes) -> None:
    sink = scene.sink = Sink(answer=b"heard")
    with connect(scene.raw) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"heard"
    assert (sink.digest, sink.count) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (record := scene.record())["outcome"] == "ok"
    assert record["pool"] == "plain"


def test_who_speaks_no_tls_is_closed_where_nobody_takes_the_nameless(scene: _Scene) -> None:
    with connect(scene.strict) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peers.closed_quietly(client)
    assert scene.record()["outcome"] == "no_route"


def test_a_malformed_hello_is_closed(scene: _Scene) -> None:
    twice = hellos.hello(hellos.server_name(b"a.example"), hellos.server_name(b"x.wild.example"))
    with connect(scene.port) as client:
        client.sendall(twice)
        assert peers.closed_quietly(client)
    record = scene.record()
    assert (record["outcome"], record["rule"], record["backend"]) == ("client_hello", "L9", "")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("together", [True, False])
def test_a_proxy_header_stands_in_front_of_the_hello(scene: _Scene, version: int, together: bool) -> None:
    source, destination = ("192.0.2.7", 4711), ("192.0.2.1", 443)
    header = encode_v1(source, destination) if version == 1 else encode_v2(source, destination)
    with scene.client(scene.headed, "x.wild.example") as client:
        hello = client.client_hello()
        if together:
            client.send_plain(header + hello)
        else:
            for byte in header + hello:
                client.send_plain(bytes([byte]))
        client.shake()
        assert scene.reached(client) == "wild"
    record = scene.record()
    assert (record["client"], record["pool"], record["sni"]) == ("192.0.2.7:4711", "wild", "x.wild.example")


def test_a_hello_that_stops_short_ends_with_its_timer(scene: _Scene) -> None:
    with connect(scene.strict) as client:
        client.sendall(hello_of(client_context(), "a.example")[:-1])
        assert peers.closed_quietly(client)
    record = scene.record()
    assert (record["outcome"], record["timer"], record["rule"]) == ("client_hello_timeout", "client_hello", "L9")
    assert 2900 <= record["t_total_ms"] < 8000


def test_who_is_silent_is_given_to_the_pool_for_the_nameless(scene: _Scene) -> None:
    """In some protocols the server speaks first."""
    scene.sink = peers.named(b"220 ready")
    with connect(scene.raw) as client:
        assert read_all(client) == b"220 ready"
    record = scene.record()
    assert (record["outcome"], record["pool"]) == ("ok", "plain")
    assert record["t_total_ms"] >= 2900


@pytest.mark.parametrize("pieces", [1, 7, 1000, 10**9])
def test_not_a_byte_is_changed(scene: _Scene, pieces: int) -> None:
    """The ClientHello and all behind it, which a client may send before it has an answer."""
    sink = scene.sink = Sink(answer=b"done")
    hello = hello_of(client_context(), "nobody.example")
    behind = b"".join(peers.blocks(3_000 if pieces == 1 else 3_000_000))
    data = hello + behind
    with connect(scene.raw) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cut = 2 * len(hello)
        for at in range(0, cut, pieces):
            client.sendall(data[at : min(at + pieces, cut)])
        client.sendall(data[cut:])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"done"
    assert (sink.digest, sink.count) == (hashlib.sha256(data).hexdigest(), len(data))
    record = scene.record()
    assert (record["bytes_in"], record["bytes_out"]) == (len(data), 4)


def test_fifty_megabytes_are_exact_both_ways_at_once(scene: _Scene) -> None:
    size = 50_000_000
    with scene.client(scene.port, "a.example") as client:
        client.shake()
        sender = threading.Thread(target=_give, args=(client, size))
        sender.start()
        assert peers.digest_of(client) == (peers.digest(size), size)
        sender.join(peers.PATIENCE)


def _give(client: socket.socket, size: int) -> None:
    for block in peers.blocks(size):
        client.sendall(block)
    client.shutdown(socket.SHUT_WR)


def test_a_half_close_passes_through_in_either_direction(scene: _Scene) -> None:
    """close_notify and FIN are the backend's and the client's affair; we hand them on."""
    told = threading.Event()

    def speak_and_listen(conn: socket.socket) -> None:
        conn.sendall(b"first")
        conn.shutdown(socket.SHUT_WR)
        assert read_exactly(conn, 6) == b"second"
        told.set()

    with ExitStack() as stack:
        backend = TlsBackend(speak_and_listen, server_context(scene.files["a"]))
        stack.callback(backend.stop)
        ports = Ports()
        stack.callback(ports.release)
        port = ports.reserve()
        proxy = Lbproxy(
            f'[[listener]]\nname = "in"\nbind = "127.0.0.1:{port}"\n[[route]]\nname = "one"\nlistener = "in"\n'
            f'server_name = "a.example"\npool = "a"\n'
            f'[pool.a]\nbackends = "{backend.address}"\ncheck = false\n'
        )
        stack.callback(proxy.end)
        with scene.client(port, "a.example") as client:
            client.shake()
            assert read_all(client) == b"first"
            client.sendall(b"second")
            assert told.wait(peers.PATIENCE)
        assert proxy.record()["outcome"] == "ok"
    with scene.client(scene.port, "a.example") as client:
        client.shake()
        client.sendall(b"all I have")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"all I have"


def test_a_session_is_resumed_at_the_backend(scene: _Scene) -> None:
    """The ticket is the backend's; that it comes back to the same one is what routing by name is for."""
    context = client_context(ca=scene.papers.ca)
    session = None
    resumed: list[bool] = []
    for _ in range(3):
        with TlsClient(scene.port, context, "x.wild.example", session=session) as client:
            client.shake()
            assert scene.reached(client) == "wild"
            resumed.append(client.resumed)
            session = client.session
    assert resumed == [False, True, True]
