"""TLS with the clients that there are: curl, openssl and Python; all forms of keys, bulk, and every kind of end."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates.making import Authority, Issued, key_pem
from tests.live import peers
from tests.live.harness import Lbproxy, Ports, Record, one_pool, until
from tests.live.peers import Backend, Sink, connect, read_all, read_exactly
from tests.live.tls_clients import WAYS, OpenSsl, TlsClient, ask_tls, environment, only, trusting

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
BIG = 50_000_000


def _http(conn: socket.socket) -> None:
    """A small server of HTTP/1.1 that answers each request with its first line, and keeps the connection."""
    with conn.makefile("rb") as lines:
        while first := lines.readline().strip():
            while lines.readline().strip():
                pass
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(first) + first)


class _Scene:
    """One lbproxy for all tests of one way, with keys of two kinds for one name."""

    def __init__(self, stack: ExitStack, directory: Path, way: str) -> None:
        self.way = way
        self.authority = Authority("Server CA")
        self.ca_file = Path(self.authority.write(directory, "ca"))
        self.rsa = self.authority.issue("both.example", "localhost", "127.0.0.1", kind="RSA")
        self.ecdsa = self.authority.issue("both.example", "localhost", "127.0.0.1")
        self.locked, self.live = self.authority.issue("locked.example"), self.authority.issue("live.example")
        self.rsa.write(directory, "rsa")
        self.ecdsa.write(directory, "ecdsa")
        (directory / "locked.crt").write_bytes(self.locked.certificate_pem)
        (directory / "locked.key").write_bytes(key_pem(self.locked.key, b"open sesame"))
        (directory / "locked.pass").write_text("open sesame\n")
        _certbot(directory / "letsencrypt", "live.example", self.live)
        ports = Ports()
        stack.callback(ports.release)
        self.port = ports.reserve()
        self.script: peers.Script = peers.echo
        self.backend = Backend(lambda conn: self.script(conn))
        stack.callback(self.backend.stop)
        listener = f"""
[listener.tls]
alpn = ["h2", "http/1.1"]
certificates = [
    {{ cert = "{directory}/rsa.crt", key = "{directory}/rsa.key" }},
    {{ cert = "{directory}/ecdsa.crt", key = "{directory}/ecdsa.key" }},
    {{ cert = "{directory}/locked.crt", key = "{directory}/locked.key", passphrase_file = "{directory}/locked.pass" }},
    "{directory}/letsencrypt/live",
]
[listener.timeouts]
write_stall = "5s"
"""
        self.proxy = Lbproxy(one_pool(self.port, self.backend.address, listener=listener), environment=environment(way))
        stack.callback(self.proxy.end)
        self._seen = 0

    def client(self, **options: object) -> ssl.SSLContext:
        """What a client goes by who trusts the server."""
        return trusting(self.authority, **options)  # type: ignore[arg-type]  # passed on as they are

    def seen(self) -> None:
        """Forget what has happened so far."""
        self._seen = self._ended()

    def records(self, count: int) -> list[Record]:
        """The `count` records of what has happened since, and no more."""
        found = self.proxy.records(self._ended())[self._seen :]
        assert len(found) == count, found
        return found

    def _ended(self) -> int:
        """How many sessions have been, each of which leaves one record."""
        self.proxy.wait_until_idle()
        accepted: int = self.proxy.listener()["accepted"]
        return accepted

    def record(self) -> Record:
        """The one record since."""
        return self.records(1)[0]


def _certbot(directory: Path, name: str, issued: Issued) -> None:
    """What certbot leaves behind: live/NAME with links into archive/NAME, and a README."""
    archive, live = directory / "archive" / name, directory / "live" / name
    archive.mkdir(parents=True)
    live.mkdir(parents=True)
    (directory / "live" / "README").write_text("This directory contains your keys and certificates.\n")
    content = {
        "cert": issued.leaf_pem,
        "chain": b"",
        "fullchain": issued.certificate_pem,
        "privkey": issued.key_pem,
    }
    for stem, data in content.items():
        (archive / f"{stem}1.pem").write_bytes(data)
        (live / f"{stem}.pem").symlink_to(f"../../archive/{name}/{stem}1.pem")


@pytest.fixture(scope="module", params=WAYS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Scene]:
    """Shared by the tests of this module, which leave nothing behind in it."""
    with ExitStack() as stack:
        yield _Scene(stack, tmp_path_factory.mktemp("tls"), request.param)


@pytest.fixture(autouse=True)
def _unharmed(scene: _Scene) -> Iterator[None]:
    scene.seen()
    yield
    scene.script = peers.echo
    assert ask_tls(scene.port, scene.client(), "both.example").data == b"question"
    scene.proxy.wait_until_idle()
    status = scene.proxy.status()
    assert (status["held_bytes"], status["pipes_in_use"], status["counters"]["exceptions"]) == (0, 0, 0)


# curl.


def _curl(
    scene: _Scene, *options: str, path: str = "/", name: str = "both.example"
) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sSv", "--http1.1", "--cacert", str(scene.ca_file), "--noproxy", "*"]
    command += ["--resolve", f"{name}:{scene.port}:127.0.0.1", *options]
    return subprocess.run(
        [*command, f"https://{name}:{scene.port}{path}"], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "TLSv1.3"),
        (("--tls-max", "1.2"), "TLSv1.2 / ECDHE-ECDSA-AES"),
        (("--tls-max", "1.2", "--ciphers", "ECDHE-RSA-CHACHA20-POLY1305"), "ECDHE-RSA-CHACHA20-POLY1305"),
        (("--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"), "TLSv1.3 / TLS_CHACHA20_POLY1305_SHA256"),
        (("--tls13-ciphers", "TLS_AES_256_GCM_SHA384"), "TLSv1.3 / TLS_AES_256_GCM_SHA384"),
    ],
)
def test_curl_is_served(scene: _Scene, options: tuple[str, ...], said: str) -> None:
    scene.script = _http
    found = _curl(scene, *options, path="/path")
    assert found.stdout == "GET /path HTTP/1.1", found.stderr
    assert "SSL certificate verify ok" in found.stderr
    assert "ALPN: server accepted http/1.1" in found.stderr
    assert said in found.stderr
    record = scene.record()
    assert (record["outcome"], record["alpn"], record["sni"]) == ("ok", "http/1.1", "both.example")
    assert record["tls"] == ("TLSv1.2" if "1.2" in options else "TLSv1.3")
    assert record["cipher"].startswith(said.removeprefix(record["tls"]).removeprefix(" / "))


def test_curl_asks_many_things_on_one_connection(scene: _Scene) -> None:
    scene.script = _http
    address = f"https://both.example:{scene.port}/again"
    found = _curl(scene, *[word for _ in range(20) for word in (address,)], path="/again")
    assert found.stdout == "GET /again HTTP/1.1" * 21
    assert scene.record()["outcome"] == "ok"


def test_curl_tells_us_why_it_does_not_trust_us(scene: _Scene, tmp_path: Path) -> None:
    found = _curl(scene, "--cacert", Authority("Another CA").write(tmp_path))
    assert found.returncode == 60
    record = scene.record()
    assert (record["outcome"], record["tls_error"]) == ("tls_handshake", "peer_alert")


# Keys of two kinds, and where they come from.


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("algorithms", "kind"),
    [
        ("RSA-PSS+SHA256:RSA+SHA256", "rsa"),
        ("ECDSA+SHA256", "ecdsa"),
        ("ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256", "ecdsa"),
        # Not cheapest at any price: OpenSSL goes by the client's order here.
        ("RSA-PSS+SHA256:ECDSA+SHA256", ""),
    ],
)
def test_a_client_gets_the_kind_of_key_that_it_can_use(scene: _Scene, version: str, algorithms: str, kind: str) -> None:
    with OpenSsl(
        scene.port, scene.ca_file, "-servername", "both.example", version, "-sigalgs", algorithms, "-showcerts"
    ) as client:
        client.type(b"hello")
        assert client.hear(b"\nhello\n")
        said = client.everything
    assert b"Verify return code: 0 (ok)" in said
    served = {"rsa": scene.rsa, "ecdsa": scene.ecdsa}
    found = [name for name, one in served.items() if one.leaf_pem.strip() in said]
    assert found == [kind] if kind else len(found) == 1


def test_tls12_ciphers_choose_the_kind_of_key_as_well(scene: _Scene) -> None:
    for cipher, issued in (("ECDHE-RSA-AES128-GCM-SHA256", scene.rsa), ("ECDHE-ECDSA-AES128-GCM-SHA256", scene.ecdsa)):
        answer = ask_tls(scene.port, scene.client(ciphers=cipher, **only("1.2")), "both.example")
        assert answer.served == issued.der


def test_a_key_with_a_passphrase_is_opened(scene: _Scene) -> None:
    assert ask_tls(scene.port, scene.client(), "locked.example").served == scene.locked.der


def test_the_directory_of_certbot_is_read(scene: _Scene) -> None:
    assert ask_tls(scene.port, scene.client(), "live.example").served == scene.live.der


# Bulk.


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_fifty_megabytes_down_are_exact(scene: _Scene, version: str) -> None:
    scene.script = peers.source(BIG)
    with TlsClient(scene.port, scene.client(**only(version)), "both.example") as client:
        assert peers.digest_of(client.shake()) == (peers.digest(BIG), BIG)
    assert scene.record()["bytes_out"] == BIG


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_fifty_megabytes_up_are_exact(scene: _Scene, version: str) -> None:
    sink = scene.script = Sink(answer=b"all here")
    with TlsClient(scene.port, scene.client(**only(version)), "both.example") as client:
        _give(client.shake(), BIG)
        assert read_all(client) == b"all here"
    assert (sink.digest, sink.count) == (peers.digest(BIG), BIG)
    assert scene.record()["bytes_in"] == BIG


def _give(client: socket.socket, size: int) -> None:
    for block in peers.blocks(size):
        client.sendall(block)
    client.shutdown(socket.SHUT_WR)


def test_both_directions_at_once_are_exact(scene: _Scene) -> None:
    size = 20_000_000
    with TlsClient(scene.port, scene.client(), "both.example") as client:
        client.shake()
        sender = threading.Thread(target=_give, args=(client, size))
        sender.start()
        assert peers.digest_of(client) == (peers.digest(size), size)
        sender.join(peers.PATIENCE)


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 65_536, 131_072, 1_000_003])
def test_bytes_are_exact_at_every_edge_of_a_record(scene: _Scene, size: int) -> None:
    sent = os.urandom(size)
    with TlsClient(scene.port, scene.client(), "both.example") as client:
        client.shake()
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert read_exactly(client, size) == sent
        sender.join(peers.PATIENCE)


def test_many_small_records_in_one_segment_all_arrive(scene: _Scene) -> None:
    """What TLS holds inside makes no event."""
    with TlsClient(scene.port, scene.client(), "both.example") as client:
        client.shake()
        for number in range(3000):
            client.tls.write(b"%4d" % number)
        threading.Thread(target=client.send_plain, args=(client._out.read(),), daemon=True).start()
        assert read_exactly(client, 12_000) == b"".join(b"%4d" % number for number in range(3000))


def test_a_slow_reader_holds_the_backend_back(scene: _Scene) -> None:
    given = 0
    done = threading.Event()

    def pour(conn: socket.socket) -> None:
        nonlocal given
        try:
            for block in peers.blocks(100_000_000):
                for at in range(0, len(block), 65536):
                    given += conn.send(block[at : at + 65536])
        finally:
            done.set()

    scene.script = pour
    with TlsClient(scene.port, scene.client(), "both.example", receive_buffer=65536) as client:
        client.shake()
        assert len(read_exactly(client, 1000)) == 1000
        before = -1
        # Nothing is read: what the backend gives comes to an end.
        while given != before:
            before = given
            done.wait(0.5)
        assert not done.is_set()
        assert given < 30_000_000
        held = scene.proxy.status()["held_bytes"]
        assert 0 < held <= 256 * 1024
        assert scene.proxy.cpu_share(0.5) < 0.2, "waiting costs nothing"
        assert len(read_exactly(client, 5_000_000)) == 5_000_000
        assert given > before - 65536


# Ends.


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_clients_half_close_reaches_the_backend_and_its_answer_comes_back(scene: _Scene, version: str) -> None:
    scene.script = Sink(answer=b"answer")
    with TlsClient(scene.port, scene.client(**only(version)), "both.example") as client:
        client.shake().sendall(b"question")
        client.send_close_notify()
        assert read_all(client) == b"answer"
    record = scene.record()
    assert (record["outcome"], record["bytes_in"], record["bytes_out"]) == ("ok", 8, 6)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_backends_half_close_reaches_the_client_who_may_go_on(scene: _Scene, version: str) -> None:
    heard: list[bytes] = []

    def speak_and_listen(conn: socket.socket) -> None:
        conn.sendall(b"first")
        conn.shutdown(socket.SHUT_WR)
        heard.append(read_all(conn))

    scene.script = speak_and_listen
    with TlsClient(scene.port, scene.client(**only(version)), "both.example") as client:
        assert read_all(client.shake()) == b"first"
        client.sendall(b"second")
        client.shutdown(socket.SHUT_WR)
        until(lambda: heard, "the backend hears the end")
    assert heard == [b"second"]
    assert scene.record()["outcome"] == "ok"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_client_cut_off_is_told_as_a_reset_behind_all_its_bytes(scene: _Scene, version: str, size: int) -> None:
    sink = Sink()

    def greet_and_take(conn: socket.socket) -> None:
        conn.sendall(b"go")
        sink(conn)

    scene.script = greet_and_take
    data = b"".join(peers.blocks(size))
    with TlsClient(scene.port, scene.client(**only(version)), "both.example") as client:
        assert read_exactly(client.shake(), 2) == b"go"
        client.sendall(data)
        client.cut()
        assert sink.ended.wait(peers.PATIENCE)
    assert (sink.count, sink.broken) == (size, True)
    assert sink.digest == hashlib.sha256(data).hexdigest()
    record = scene.record()
    assert (record["outcome"], record["state"][:2]) == ("truncated", "CD")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_cut_off_before_its_backend_is_there_sends_all_or_nothing(scene: _Scene, version: str) -> None:
    sink = scene.script = Sink()
    with TlsClient(scene.port, scene.client(**only(version)), "both.example") as client:
        client.shake().sendall(b"early")
        client.cut()
        assert client.end() != "close_notify"
    record = scene.record()
    assert record["outcome"] in ("truncated", "client_gone")
    if scene.backend.open or sink.ended.is_set():
        assert sink.ended.wait(peers.PATIENCE)
        assert (sink.count in (0, 5), sink.broken) == (True, True)


def test_a_reset_by_the_backend_never_looks_like_an_end_to_the_client(scene: _Scene) -> None:
    def break_off(conn: socket.socket) -> None:
        conn.sendall(b"half of")
        conn.recv(1)
        peers.reset(conn)

    scene.script = break_off
    with TlsClient(scene.port, scene.client(), "both.example") as client:
        assert read_exactly(client.shake(), 7) == b"half of"
        client.sendall(b"!")
        assert client.end() in ("truncated", "reset")
    assert scene.record()["outcome"] == "backend_cut"


def test_a_client_that_goes_within_its_handshake_leaves_nothing(scene: _Scene) -> None:
    for _ in range(20):
        with TlsClient(scene.port, scene.client(), "both.example") as client:
            client.send_plain(client.client_hello())
    records = scene.records(20)
    assert {record["tls_error"] for record in records} == {"client_gone"}
    assert scene.backend.open == 0


def test_bytes_that_are_no_records_end_an_established_session(scene: _Scene) -> None:
    sink = scene.script = Sink()
    with TlsClient(scene.port, scene.client(), "both.example") as client:
        client.shake().sendall(b"good")
        until(lambda: sink.count == 4, "the backend has the good bytes")
        client.send_plain(b"\x17\x03\x03\0\x20" + bytes(32))
        assert client.end() not in ("close_notify", "truncated")
    assert sink.ended.wait(peers.PATIENCE)
    assert (sink.count, sink.broken) == (4, True)
    assert scene.record()["outcome"] != "ok"


# Over and over.


@pytest.mark.parametrize("scene", ["fast"], indirect=True, scope="module")
def test_ten_thousand_resumptions_in_one_chain(scene: _Scene) -> None:
    """Each with the ticket of the one before; tickets are renewed, and never wear out."""
    scene.script = peers.named(b".")
    context = scene.client(**only("1.3"))
    session, resumed = None, 0
    for _ in range(10_001):
        with connect(scene.port) as sock:
            # Python's own socket, since this is about speed.
            client = context.wrap_socket(sock, server_hostname="both.example", session=session)
            assert client.recv(1) == b"."
            resumed += bool(client.session_reused)
            session = client.session
            client.close()
    assert resumed == 10_000


def test_memory_comes_back_after_five_hundred_connections(scene: _Scene) -> None:
    context = scene.client()

    def wave(count: int) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(TlsClient(scene.port, context, "both.example")) for _ in range(count)]
            for client in clients:
                assert client.shake().ask(b"x" * 20_000) == b"x" * 20_000
        scene.proxy.wait_until_idle()

    wave(500)
    base, descriptors = scene.proxy.resident_bytes(), scene.proxy.descriptors()
    for _ in range(3):
        wave(500)
    grown = scene.proxy.resident_bytes() - base
    assert grown < 4_000_000, f"{grown / 1500:.0f} bytes for each of 1500 connections"
    until(lambda: scene.proxy.descriptors() <= descriptors, "only a health check has another one, now and then")
