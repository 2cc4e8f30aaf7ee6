"""The core of the data path on every reactor that twistd offers here: ours, and the stock ones."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, Sink, connect, digest, digest_of, read_all, read_exactly
from tests.live.tls_peers import Papers, TlsBackend, server_context, tls_client
from tests.live.tls_peers import authority_fixture as authority_fixture

CLASSES = {
    "": "ProxyReactor",
    "epoll": "EPollReactor",
    "poll": "PollReactor",
    "select": "SelectReactor",
    "asyncio": "AsyncioSelectorReactor",
}


@pytest.fixture(scope="module", params=CLASSES, ids=lambda name: name or "default")
def scene(request: pytest.FixtureRequest, authority: Papers) -> Iterator[SimpleNamespace]:
    """One lbproxy on this reactor: `port` leads to a backend that plays a script, `failing` to others first, and
    `secure` ends TLS in front of a backend with TLS that plays it too.
    """
    name: str = request.param
    with ExitStack() as stack:
        ports = Ports()
        stack.callback(ports.release)
        found = SimpleNamespace(script=peers.echo, reactor=name)
        backend = Backend(lambda conn: found.script(conn))
        stack.callback(backend.stop)
        resetting = Backend(peers.reset)
        stack.callback(resetting.stop)
        files = authority.server()
        secure = TlsBackend(lambda conn: found.script(conn), server_context(files))
        stack.callback(secure.stop)
        hole = stack.enter_context(peers.black_hole())
        found.port, found.failing, found.secure = ports.reserve(), ports.reserve(), ports.reserve()
        found.ca = authority.ca
        refusing = f"127.0.0.1:{ports.reserve()}"
        text = one_pool(found.port, backend.address)
        text += f"""
[[listener]]
name = "failing"
bind = "127.0.0.1:{found.failing}"
pool = "failing"
[pool.failing]
policy = "first"
tries = 4
backends = ["{refusing}", "{hole}", "{resetting.address}", "{backend.address}"]
check = false
outlier = false
[[listener]]
name = "secure"
bind = "127.0.0.1:{found.secure}"
pool = "secure"
tls = {{ cert = "{files.cert}", key = "{files.key}" }}
[pool.secure]
backends = "{secure.address}"
tls = {{ ca = "{authority.ca}" }}
[timeouts]
connect = "200ms"
queue = "300ms"
"""
        found.backend = backend
        found.proxy = Lbproxy(text, twistd=["-r", name] if name else [])
        stack.callback(found.proxy.end)
        yield found
        found.proxy.wait_until_idle()
        status = found.proxy.status()
        assert (status["pipes_in_use"], status["held_bytes"], status["counters"]["exceptions"]) == (0, 0, 0)


def test_the_operators_choice_is_kept(scene: SimpleNamespace) -> None:
    assert scene.proxy.status()["reactor"] == CLASSES[scene.reactor]


@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_003])
def test_bytes_are_exact(scene: SimpleNamespace, size: int) -> None:
    scene.script = peers.echo
    received = []
    with connect(scene.port) as client:
        reader = threading.Thread(target=lambda: received.append(digest_of(client)))
        reader.start()
        for block in peers.blocks(size):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        reader.join(peers.PATIENCE)
    assert received == [(digest(size), size)]


@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_003])
def test_bytes_are_exact_with_tls_on_both_sides(scene: SimpleNamespace, size: int) -> None:
    scene.script = peers.echo
    received = []
    with tls_client(scene.secure, ca=scene.ca) as client:
        reader = threading.Thread(target=lambda: received.append(digest_of(client)))
        reader.start()
        for block in peers.blocks(size):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        reader.join(peers.PATIENCE)
    assert received == [(digest(size), size)]


def test_half_close_in_both_orders(scene: SimpleNamespace) -> None:
    sink = Sink(answer=b"all of it")
    scene.script = sink
    with connect(scene.port) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"all of it"
    late = Sink()

    def fin_first(conn: socket.socket) -> None:
        conn.sendall(b"bye")
        conn.shutdown(socket.SHUT_WR)
        late(conn)

    scene.script = fin_first
    with connect(scene.port) as client:
        assert read_all(client) == b"bye"
        client.sendall(b"one last word")
        client.shutdown(socket.SHUT_WR)
        assert late.ended.wait(peers.PATIENCE)
    assert late.count == 13


def test_a_half_closed_session_does_not_spin(scene: SimpleNamespace) -> None:
    scene.script = peers.hold
    with connect(scene.port) as client:
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        done = threading.Event()

        def keep(conn: socket.socket) -> None:
            done.wait(peers.PATIENCE)

        scene.script = keep
        with connect(scene.port) as other:
            other.shutdown(socket.SHUT_WR)
            time.sleep(0.1)
            assert scene.proxy.cpu_share(0.5) < 0.2
        done.set()


def test_failover_past_refused_black_hole_and_reset(scene: SimpleNamespace) -> None:
    scene.script = peers.named(b"good")
    assert peers.fetch(scene.failing) == b"good"
    found = until(lambda: [one for one in scene.proxy.records(1) if one["listener"] == "failing"], "its record")
    record = found[0]
    assert [one["error"] for one in record["tries"]] == ["refused", "timeout", "reset", None]


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_is_passed_on(scene: SimpleNamespace, who: str) -> None:
    sink, got = Sink(), threading.Event()

    def reset_when_asked(conn: socket.socket) -> None:
        conn.recv(10)
        conn.sendall(b"ok")
        got.wait(peers.PATIENCE)
        peers.reset(conn)

    scene.script = sink if who == "client" else reset_when_asked
    client = connect(scene.port)
    client.sendall(b"x")
    if who == "client":
        until(lambda: sink.count == 1, "joined")
        peers.reset(client)
        assert sink.ended.wait(peers.PATIENCE)
        assert sink.broken
    else:
        assert read_exactly(client, 2) == b"ok"
        got.set()
        assert peers.was_reset(client)
        client.close()


def test_back_pressure(scene: SimpleNamespace) -> None:
    size = 40_000_000
    scene.script = peers.source(size)
    before = scene.proxy.resident_bytes()
    with connect(scene.port, receive_buffer=65536) as client:
        read_exactly(client, 1)
        time.sleep(0.5)
        assert scene.proxy.cpu_share(0.5) < 0.2
        assert scene.proxy.resident_bytes() - before < 8_000_000
        count = 1 + digest_of(client)[1]
    assert count == size


def test_a_reload(scene: SimpleNamespace) -> None:
    scene.script = peers.echo
    assert scene.proxy.reload()[0] == 200
    assert peers.ask(scene.port, b"after the reload") == b"after the reload"


@pytest.mark.parametrize("reactor", ["", "select"], ids=["default", "select"])
def test_an_early_answer_and_a_reset_reach_every_client_that_still_uploads(
    start: Callable[..., Lbproxy], backend: Callable[..., Backend], ports: Ports, reactor: str
) -> None:
    """The server answers after the first bytes and closes: behind the answer its kernel resets."""

    def early(conn: socket.socket) -> None:
        conn.recv(1000)
        conn.sendall(b"A" * 2000)

    port, server, count = ports.reserve(), backend(early), 20
    listener = "max_connections_per_client = 1000"
    text = one_pool(port, server.address, listener=listener, pool="outlier = false")
    proxy = start(text, twistd=["-r", reactor] if reactor else [])
    answers: list[int] = []

    def uploads() -> None:
        for _ in range(count):
            with connect(port, timeout=5.0) as client:
                with contextlib.suppress(OSError):
                    for _ in range(20):
                        client.sendall(b"u" * 4096)
                got = 0
                with contextlib.suppress(OSError):
                    while data := client.recv(65536):
                        got += len(data)
                answers.append(got)

    threads = [threading.Thread(target=uploads) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * peers.PATIENCE)
    assert Counter(answers) == {2000: 12 * count}
    proxy.wait_until_idle()
    assert {one["bytes_out"] for one in proxy.records(12 * count)} == {2000}
    assert proxy.status()["held_bytes"] == 0
