"""How many may be here, and what happens when the system itself has no more to give."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, connect

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]


@pytest.mark.parametrize("scope", ["listener", "process"])
def test_beyond_the_maximum_clients_wait_in_the_kernel(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, scope: str
) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    listener = "max_connections_per_client = 100"
    if scope == "listener":
        proxy = start(one_pool(port, server.address, listener="max_connections = 3\n" + listener))
    else:
        proxy = start(one_pool(port, server.address, listener=listener, more="[limits]\nmax_connections = 3\n"))
    clients = [stack.enter_context(connect(port)) for _ in range(3)]
    for client in clients:
        assert client.recv(2) == b"in"
    waiting = stack.enter_context(connect(port, timeout=0.3))
    with pytest.raises(TimeoutError):
        waiting.recv(2)
    assert server.connections == 3
    assert proxy.cpu_share(0.5) < 0.1, "a full listener does not spin"
    clients[0].close()
    waiting.settimeout(peers.PATIENCE)
    assert waiting.recv(2) == b"in"


def test_a_full_process_accepts_again_on_every_listener(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    """The place that one listener's client leaves may be what another listener's client waits for."""
    port, other, server = ports.reserve(), ports.reserve(), backend(peers.greet_and_hold(b"in"))
    text = one_pool(port, server.address, more="[limits]\nmax_connections = 1\n")
    start(text + f'[[listener]]\nname = "other"\nbind = "127.0.0.1:{other}"\npool = "out"\n')
    first = stack.enter_context(connect(port))
    assert first.recv(2) == b"in"
    waiting = stack.enter_context(connect(other))
    time.sleep(0.2)
    first.close()
    assert waiting.recv(2) == b"in"


def test_one_client_beyond_its_share_is_closed(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address, listener="max_connections_per_client = 2"))
    clients = [stack.enter_context(connect(port)) for _ in range(2)]
    for client in clients:
        assert client.recv(2) == b"in"
    assert peers.closed_quietly(stack.enter_context(connect(port)))
    assert proxy.listener()["refused"] == {"limited": 1}
    clients[0].close()
    until(lambda: proxy.status()["sessions"] == 1, "one has left")
    assert stack.enter_context(connect(port)).recv(2) == b"in"


def test_under_pressure_one_client_has_a_tenth(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """W6: from 80 % on; one address may fill the rest no further."""
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address, listener="max_connections = 20"))
    for _ in range(16):
        assert stack.enter_context(connect(port)).recv(2) == b"in"
    assert peers.closed_quietly(stack.enter_context(connect(port)))
    assert proxy.listener()["refused"] == {"limited": 1}


@pytest.mark.parametrize(
    ("rule", "welcome"),
    [("deny = '127.0.0.0/8'", False), ("allow = '192.0.2.1'", False), ("allow = '127.0.0.1'", True)],
)
def test_access_rules(start: Start, backend: Serve, ports: Ports, rule: str, welcome: bool) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address, listener=rule))
    assert peers.fetch(port) == (b"in" if welcome else b"")
    assert proxy.listener()["refused"] == ({} if welcome else {"denied": 1})
    assert server.connections == welcome


def test_out_of_descriptors_at_accept(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 30, R1: 200 clients, 64 descriptors."""
    port, server = ports.reserve(), backend(peers.echo)
    listener = "max_connections_per_client = 1000"
    limits = "[limits]\nmax_connections = 1000\n"
    proxy = start(one_pool(port, server.address, listener=listener, more=limits), shell="ulimit -n 64")
    first = stack.enter_context(connect(port))
    first.sendall(b"1")
    assert first.recv(1) == b"1"
    clients = [connect(port) for _ in range(200)]
    for client in clients:
        stack.enter_context(client)
    until(lambda: "cannot accept" in proxy.log or proxy.descriptors() >= 63, "descriptors have run out")
    assert proxy.cpu_share(2.0) < 0.2
    first.sendall(b"2")
    assert first.recv(1) == b"2", "sessions under way are unharmed"
    for client in clients:
        client.close()
    until(lambda: _asks(port), "it serves again", 5.0)
    # It depends on the last free descriptor whether an accept or a backend's socket goes without.
    outcomes = {one["outcome"] for one in proxy.records(1)}
    assert proxy.listener()["paused"] > 0 or "local_resource" in outcomes
    assert proxy.log.count("cannot accept") <= 2, "said once, not each time"
    until(lambda: proxy.status()["sessions"] == 1, "only the first is left")
    assert proxy.descriptors() < 30


def _asks(port: int) -> bool:
    try:
        return peers.ask(port, b"?") == b"?"
    except OSError:
        return False


def test_out_of_descriptors_at_the_backend_socket(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 31: the client is closed quickly, the backend is not blamed, nothing leaks."""
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    listener = "max_connections_per_client = 1000"
    limits = "[limits]\nmax_connections = 1000\n"
    proxy = start(one_pool(port, server.address, listener=listener, more=limits), shell="ulimit -n 64")
    before = proxy.descriptors()
    clients = []
    # Until an accept takes the last descriptor: then there is none for the backend's socket.
    while True:
        clients.append(stack.enter_context(connect(port, timeout=0.3)))
        try:
            if not clients[-1].recv(2):
                break
        except TimeoutError:
            break
        assert len(clients) < 64
    time.sleep(0.5)
    for client in clients:
        client.close()
    until(lambda: _fetches(port), "it serves again", 5.0)
    records = proxy.records(1)
    local = [one for one in records if one["outcome"] == "local_resource"]
    for one in local:
        assert one["state"] == "RC--"
        assert one["t_total_ms"] < 500
        assert [each["error"] for each in one["tries"]][-1] == "local_resource"
    assert proxy.backend(server.address)["failures_total"] == 0
    proxy.wait_until_idle()
    assert proxy.descriptors() <= before + 2


def _fetches(port: int) -> bool:
    try:
        with connect(port) as client:
            return client.recv(2) == b"in"
    except OSError:
        return False


def test_slow_readers_beyond_the_buffers_are_ended_and_stop_nobody_else(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    """Scenario R2: with all of [limits] buffers in use, an echo still answers, and memory stays where it was."""
    port, limit, ended = ports.reserve(), 1 << 20, threading.Event()

    def serve(conn: socket.socket) -> None:
        if conn.recv(1) == b"e":
            conn.sendall(b"e")
            peers.echo(conn)
        while not ended.is_set():
            conn.sendall(b"x" * 60_000)
            time.sleep(0.01)

    server = backend(serve)
    listener = "max_connections_per_client = 1000"
    proxy = start(one_pool(port, server.address, listener=listener, more='[limits]\nbuffers = "1MiB"\n'))
    talker = stack.enter_context(connect(port))
    talker.sendall(b"e")
    assert talker.recv(1) == b"e"
    before = proxy.resident_bytes()
    slow = [stack.enter_context(connect(port, receive_buffer=2048)) for _ in range(60)]
    try:
        for client in slow:
            client.sendall(b"f")
            client.setblocking(False)
        until(lambda: proxy.status()["shed"] > 0, "more is held than may be")
        worst, begin = 0.0, time.monotonic()
        while time.monotonic() - begin < 4.0:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.recv(2048)
            asked = time.monotonic()
            talker.sendall(b"?")
            assert talker.recv(1) == b"?"
            worst = max(worst, time.monotonic() - asked)
            assert proxy.status()["held_bytes"] <= limit
            assert proxy.resident_bytes() - before < 16 * limit
            time.sleep(0.02)
        assert worst < 1.0
        shed = proxy.status()["shed"]
    finally:
        ended.set()
        for client in (*slow, talker):
            client.close()
    proxy.wait_until_idle()
    assert (proxy.status()["held_bytes"], proxy.status()["pipes_in_use"]) == (0, 0)
    outcomes = [one["outcome"] for one in proxy.records(61)]
    assert outcomes.count("local_resource") >= shed > 0


def test_a_pool_may_give_slow_readers_more_time_than_the_file(start: Start, backend: Serve, ports: Ports) -> None:
    """The kernel is told of the limit, too; it must be told of the one that holds here."""
    port, server = ports.reserve(), backend(peers.source(100_000_000))
    pool, more = "timeouts = { write_stall = '60s' }", "[timeouts]\nwrite_stall = '2s'\n"
    proxy = start(one_pool(port, server.address, pool=pool, more=more))
    with connect(port, receive_buffer=4096) as client:
        until(lambda: proxy.status()["held_bytes"] > 0, "it holds bytes")
        time.sleep(4.5)
        assert proxy.status()["sessions"] == 1
        assert len(peers.read_exactly(client, 100_000)) == 100_000
    proxy.wait_until_idle()
    assert proxy.record()["outcome"] == "client_gone"


def test_a_backlog_that_overflows_is_worked_off(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 34, scaled: 40 connects at a backlog of 8 while lbproxy is stopped for a second."""
    port, server = ports.reserve(), backend(peers.echo)
    listener = "backlog = 8\nmax_connections_per_client = 1000"
    proxy = start(one_pool(port, server.address, listener=listener))
    answers: list[bytes] = []
    # The clients speak first: with SYN cookies only their data repeats an acknowledgement that was dropped.
    threads = [threading.Thread(target=lambda: answers.append(peers.ask(port, b"served"))) for _ in range(40)]
    proxy.signal(signal.SIGSTOP)
    try:
        for thread in threads:
            # Spread, so that the kernel's repetitions do not overflow the queue together again.
            thread.start()
            time.sleep(0.025)
    finally:
        proxy.signal(signal.SIGCONT)
    for thread in threads:
        thread.join(peers.PATIENCE)
    assert answers == [b"served"] * 40
