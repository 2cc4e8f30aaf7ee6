"""Faults of the system below: calls that fail, signals, clocks that jump, networks that delay, many slow peers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, Chaos, Stream, connect, digest, digest_of

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
STRACE = shutil.which("strace")


def _strace_works() -> str:
    """Why strace cannot be used here, "" when it can."""
    if STRACE is None:
        return "strace is not installed"
    probe = [STRACE, "-f", "-e", "trace=none", "-e", "inject=getppid:error=EPERM:when=1..2", "true"]
    done = subprocess.run(probe, capture_output=True, check=False, timeout=10)
    return "" if done.returncode == 0 else "strace may not trace processes here"


NO_STRACE = _strace_works()
needs_strace = pytest.mark.skipif(bool(NO_STRACE), reason=NO_STRACE or "strace works")


@contextmanager
def _injected(proxy: Lbproxy, call: str, what: str) -> Iterator[None]:
    """While this lasts, these calls of lbproxy go wrong."""
    assert STRACE is not None
    command = [STRACE, "-f", "-q", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}"]
    tracer = subprocess.Popen([*command, "-p", str(proxy.pid)], stderr=subprocess.DEVNULL)
    try:
        status = Path(f"/proc/{proxy.pid}/status")
        until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "strace is attached")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


@needs_strace
@pytest.mark.parametrize("error", ["ECONNABORTED", "EPERM", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_accept_that_fails_a_few_times(start: Start, backend: Serve, ports: Ports, error: str) -> None:
    """Scenario 32: the client is served a little later; at most one line is said."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    with _injected(proxy, "accept4", f"error={error}:when=1..3"):
        assert peers.ask(port, b"hello") == b"hello"
    assert peers.ask(port, b"again") == b"again"
    assert proxy.log.count("cannot accept") == (0 if error in ("ECONNABORTED", "EPERM") else 1)


@needs_strace
def test_accept_that_fails_for_long_does_not_spin(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 32: the system has no files left for a second; existing sessions go on."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    with connect(port) as first:
        first.sendall(b"1")
        assert first.recv(1) == b"1"
        with connect(port, timeout=peers.PATIENCE) as waiting:
            waiting.sendall(b"w")
            assert waiting.recv(1) == b"w"
        with _injected(proxy, "accept4", "error=ENFILE:when=1+"), connect(port) as waiting:
            waiting.sendall(b"w")
            assert proxy.cpu_share(1.0) < 0.2
            first.sendall(b"2")
            assert first.recv(1) == b"2"
        assert peers.ask(port, b"after") == b"after"
    assert proxy.listener()["paused"] > 0


@needs_strace
def test_no_source_port_for_one_try(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 33, R3: the next backend is tried, and nobody is blamed."""
    port, one, two = ports.reserve(), backend(peers.named(b"one")), backend(peers.named(b"two"))
    proxy = start(one_pool(port, one.address, two.address, pool='policy = "first"'))
    with _injected(proxy, "connect", "error=EADDRNOTAVAIL:when=1"):
        assert peers.fetch(port) == b"two"
    record = proxy.record()
    assert [each["error"] for each in record["tries"]] == ["local_resource", None]
    assert proxy.backend(one.address)["failures_total"] == 0


@needs_strace
def test_no_source_port_at_all(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 33: a quick end for the client, and service as soon as there are ports again."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address))
    with _injected(proxy, "connect", "error=EADDRNOTAVAIL:when=1+"):
        began = time.monotonic()
        for _ in range(8):
            assert peers.fetch(port) == b""
        assert time.monotonic() - began < 4
    assert peers.fetch(port) == b"in"
    assert [one["outcome"] for one in proxy.records(9)] == ["local_resource"] * 8 + ["ok"]
    assert proxy.backend(server.address)["state"] == "unknown"


@needs_strace
def test_no_descriptor_for_the_backend_socket(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 31, exactly at the call."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address))
    with _injected(proxy, "socket", "error=EMFILE:when=1+"):
        assert peers.fetch(port) == b""
    assert proxy.record()["outcome"] == "local_resource"
    assert peers.fetch(port) == b"in"
    assert proxy.backend(server.address)["failures_total"] == 0


@needs_strace
@pytest.mark.parametrize("call", ["sendto", "recvfrom", "splice"])
def test_calls_that_would_block_lose_nothing(start: Start, backend: Serve, ports: Ports, call: str) -> None:
    """Scenario 54: every third one; the hashes are equal."""
    size = 8_000_000
    port, server = ports.reserve(), backend(peers.source(size))
    proxy = start(one_pool(port, server.address))
    with _injected(proxy, call, "error=EAGAIN:when=2+3"), connect(port) as client:
        assert digest_of(client) == (digest(size), size)
    proxy.wait_until_idle()
    assert proxy.status()["held_bytes"] == 0


@needs_strace
@pytest.mark.parametrize("call", ["sendto", "recvfrom", "splice"])
def test_calls_that_break_end_one_session_alone(start: Start, backend: Serve, ports: Ports, call: str) -> None:
    """R13: whatever the kernel says, the next client is served and nothing is left of the broken session."""
    size = 8_000_000
    port, server = ports.reserve(), backend(peers.source(size))
    proxy = start(one_pool(port, server.address))
    with _injected(proxy, call, "error=EIO:when=3"), connect(port) as client:
        peers.was_reset(client)
    with connect(port) as client:
        assert digest_of(client) == (digest(size), size)
    proxy.wait_until_idle()
    status = proxy.status()
    assert (status["held_bytes"], status["pipes_in_use"]) == (0, 0)
    assert len(proxy.records(2)) == 2


@needs_strace
def test_records_meet_a_disk_that_fills_and_empties(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 52: ENOSPC for a while; nothing is lost while the buffer has room."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address, more="[log]\nlevel = 'warn'\n"))
    with _injected(proxy, "write", "error=ENOSPC:when=1+"):
        for _ in range(5):
            assert peers.fetch(port) == b"in"
        time.sleep(0.5)
    assert peers.fetch(port) == b"in"
    assert len(proxy.records(6)) == 6


def test_a_storm_of_signals_loses_nothing(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 55: interrupted calls at 1 kHz."""
    size = 20_000_000
    port, server = ports.reserve(), backend(peers.source(size))
    proxy = start(one_pool(port, server.address))
    stop = threading.Event()

    def storm() -> None:
        while not stop.wait(0.001):
            proxy.signal(signal.SIGCHLD)

    storming = threading.Thread(target=storm)
    storming.start()
    try:
        for _ in range(3):
            with connect(port) as client:
                assert digest_of(client) == (digest(size), size)
    finally:
        stop.set()
        storming.join()


def test_an_idle_lbproxy_does_not_spin(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 55: with idle, half-closed and finished sessions."""
    port, server = ports.reserve(), backend(peers.hold)
    proxy = start(one_pool(port, server.address))
    clients = [stack.enter_context(connect(port)) for _ in range(20)]
    for client in clients[:10]:
        client.sendall(b"x")
    until(lambda: proxy.status()["sessions"] == 20, "all are in")
    assert proxy.cpu_share(1.0) < 0.1


def test_the_wall_clock_jumps_by_an_hour(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, tmp_path: Path
) -> None:
    """Scenario 51, R15: no timer fires, records follow the clock."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "_time = time.time\n"
        f"time.time = lambda: _time() + 3600 * os.path.exists({str(tmp_path / 'jump')!r})\n"
    )
    port, server = ports.reserve(), backend(peers.echo)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    proxy = start(one_pool(port, server.address, more="[timeouts]\ntunnel_idle = '1m'\n"), environment=environment)
    with connect(port) as client:
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        (tmp_path / "jump").touch()
        time.sleep(0.5)
        client.sendall(b"2")
        assert client.recv(1) == b"2"
        client.shutdown(socket.SHUT_WR)
        assert peers.read_all(client) == b""
    assert proxy.record()["t_total_ms"] < 10_000

    def stamped_an_hour_ahead() -> bool:
        assert peers.ask(port, b"after") == b"after"
        ahead = datetime.fromisoformat(proxy.records(1)[-1]["ts"]) - datetime.now(UTC)
        return 3500 < ahead.total_seconds() < 3700

    # The distance between the clocks is read once a second.
    until(stamped_an_hour_ahead, "records follow the clock", 3.0)
    assert {one["outcome"] for one in proxy.records(1)} == {"ok"}
    assert "1970" not in proxy.log, "lines of the log have the date of the wall clock"


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_network_that_delays_and_cuts_into_pieces(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, side: str
) -> None:
    """Scenarios 56 and 58."""
    port, server = ports.reserve(), backend(peers.echo)
    if side == "client":
        start(one_pool(port, server.address))
        chaos = Chaos(port, delay=0.05, piece=200, seed=1)
        entrance = chaos.port
    else:
        chaos = Chaos(server.port, delay=0.05, piece=200, seed=2)
        entrance = port
        start(one_pool(port, chaos.address))
    stack.callback(chaos.stop)
    text = os.urandom(60_000)
    assert [peers.ask(entrance, text + bytes([number])) for number in range(3)] == [
        text + bytes([number]) for number in range(3)
    ]


def test_slow_headers_hurt_nobody_else(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, stream: Callable[[int], Stream]
) -> None:
    """Scenario 20, scaled: 200 clients trickle a PROXY header; a clean stream beside them has no error."""
    port, clean, server = ports.reserve(), ports.reserve(), backend(peers.echo)
    listener = 'proxy_protocol = { from = "127.0.0.1" }\nmax_connections_per_client = 1000'
    text = one_pool(port, server.address, listener=listener, more="[timeouts]\nproxy_header = '3s'\n")
    proxy = start(text + f'[[listener]]\nname = "clean"\nbind = "127.0.0.1:{clean}"\npool = "out"\n')
    slow = [stack.enter_context(connect(port)) for _ in range(200)]
    running = stream(clean)
    began = time.monotonic()
    for byte in b"PROXY TCP4":
        for client in slow:
            client.send(bytes([byte]))
        time.sleep(0.2)
    for client in slow:
        assert peers.closed_quietly(client)
    assert time.monotonic() - began < 3.0 + 1.5
    running.stop()
    assert running.slowest < 1
    until(lambda: proxy.listener()["sessions"] == 0, "all are gone")


def test_slow_readers_cost_bounded_memory(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 22, scaled: 60 readers of 100 MB who read next to nothing."""
    port, server = ports.reserve(), backend(peers.source(100_000_000))
    limits = "max_connections_per_client = 1000"
    proxy = start(one_pool(port, server.address, listener=limits, more="[timeouts]\nwrite_stall = '1500ms'\n"))
    before = proxy.resident_bytes()
    slow = [stack.enter_context(connect(port, receive_buffer=4096)) for _ in range(60)]
    for client in slow:
        assert client.recv(1)
    # Two buffers each at the most, and some for the sessions themselves.
    assert proxy.resident_bytes() - before < 60 * 2 * 65536 + 8_000_000
    until(lambda: proxy.status()["sessions"] == 0, "all are cut")
    status = proxy.status()
    assert (status["held_bytes"], status["pipes_in_use"]) == (0, 0)
    assert {one["timer"] for one in proxy.records(60)} == {"write_stall"}


def test_being_stopped_for_a_while_fires_no_timer(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 50, scaled: late timers are right, and active sessions survive."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address, more="[timeouts]\ntunnel_idle = '3s'\n"))
    client = stack.enter_context(connect(port))
    client.sendall(b"1")
    assert client.recv(1) == b"1"
    for _ in range(4):
        proxy.signal(signal.SIGSTOP)
        time.sleep(0.4)
        client.sendall(b"x")
        proxy.signal(signal.SIGCONT)
        assert client.recv(1) == b"x"
    client.close()
    assert proxy.record()["outcome"] == "ok"
