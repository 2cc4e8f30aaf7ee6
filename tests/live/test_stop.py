"""How lbproxy ends: in order, within a bound, and at once when asked twice."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, connect

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]


def _head(grace: str, hard_stop: str) -> str:
    return (
        '[control]\nsocket = "unix:{directory}/control.sock"\n[records]\nto = "file:{directory}/records.jsonl"\n'
        f'[stop]\ngrace = "{grace}"\nhard_stop = "{hard_stop}"\n'
    )


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _closed(proxy: Lbproxy, port: int) -> None:
    """Wait until nobody is accepted any more. Not by connecting: that would be one session more."""
    proxy.wait_for_log("listeners are closed")
    assert _refused(port)


@pytest.mark.parametrize(("number", "grace"), [(signal.SIGTERM, "0s"), (signal.SIGINT, "5s")])
def test_with_nobody_there_it_ends_at_once(start: Start, ports: Ports, number: signal.Signals, grace: str) -> None:
    """Whoever started it sees the signal's own status, and no socket is left behind."""
    port = ports.reserve()
    proxy = start(one_pool(port, "127.0.0.1:1"), head=_head(grace, "25s"))
    began = time.monotonic()
    proxy.signal(number)
    assert proxy.wait() == -number
    assert time.monotonic() - began < 2
    assert _refused(port)
    assert not (proxy.directory / "control.sock").exists()


def test_the_grace_is_for_those_who_have_not_noticed_yet(start: Start, backend: Serve, ports: Ports) -> None:
    """A balancer in front may send its next client at any moment, whether or not one is here now."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address), head=_head("1s", "20s"))
    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    until(lambda: proxy.ask("GET", "/readyz")[0] == 503, "it says that it is not ready")
    assert peers.fetch(port) == b"in"
    assert proxy.wait(5) == -signal.SIGTERM
    assert 0.9 < time.monotonic() - began < 3


def test_the_shell_sees_143(start: Start, ports: Ports) -> None:
    """The same in a shell's words; scenario 43."""
    port = ports.reserve()
    proxy = start(one_pool(port, "127.0.0.1:1"))
    proxy.signal(signal.SIGTERM)
    assert 128 - proxy.wait() == 143


def test_sessions_go_on_after_listeners_have_closed(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address), head=_head("0s", "20s"))
    client = stack.enter_context(connect(port))
    client.sendall(b"before")
    assert peers.read_exactly(client, 6) == b"before"
    proxy.signal(signal.SIGTERM)
    _closed(proxy, port)
    client.sendall(b"after")
    assert peers.read_exactly(client, 5) == b"after"
    assert proxy.process.poll() is None
    client.shutdown(socket.SHUT_WR)
    assert peers.read_all(client) == b""
    assert proxy.wait(5) == -signal.SIGTERM
    assert proxy.record()["outcome"] == "ok"


def test_listeners_stay_open_during_the_grace(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """A balancer in front learns from readyz first; until then its connections are served."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address), head=_head("1s", "20s"))
    client = stack.enter_context(connect(port))
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    proxy.signal(signal.SIGTERM)
    began = time.monotonic()
    until(lambda: proxy.ask("GET", "/readyz")[0] == 503, "it says that it is not ready")
    assert peers.ask(port, b"new") == b"new"
    _closed(proxy, port)
    assert 0.9 < time.monotonic() - began < 2.5
    client.close()
    assert proxy.wait(5) == -signal.SIGTERM


def test_the_hard_stop_cuts_what_is_left(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 43: stuck clients are cut with a reset, and each has its record."""
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address), head=_head("0s", "500ms"))
    clients = [stack.enter_context(connect(port)) for _ in range(5)]
    for client in clients:
        assert client.recv(2) == b"in"
    proxy.signal(signal.SIGTERM)
    began = time.monotonic()
    for client in clients:
        assert peers.was_reset(client)
    assert proxy.wait() == -signal.SIGTERM
    assert 0.4 < time.monotonic() - began < 2
    assert [one["outcome"] for one in proxy.records(5)] == ["killed"] * 5
    assert "5 sessions were cut" in proxy.log


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("grace", ["0s", "10s"])
def test_a_second_signal_ends_it_at_once(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, second: signal.Signals, grace: str
) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address), head=_head(grace, "20s"))
    client = stack.enter_context(connect(port))
    assert client.recv(2) == b"in"
    proxy.signal(signal.SIGTERM)
    until(lambda: proxy.ask("GET", "/readyz")[0] == 503, "it is stopping")
    began = time.monotonic()
    proxy.signal(second)
    assert proxy.wait(5) < 0
    assert time.monotonic() - began < 2
    assert peers.was_reset(client)
    assert len(proxy.records(1)) == 1


def test_interrupt_skips_the_grace(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address), head=_head("10s", "20s"))
    client = stack.enter_context(connect(port))
    assert client.recv(2) == b"in"
    proxy.signal(signal.SIGINT)
    _closed(proxy, port)
    client.close()
    assert proxy.wait(5) == -signal.SIGINT


def test_sessions_in_the_queue_are_ended_too(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address, pool="max_active = 1"), head=_head("0s", "500ms"))
    first, second = stack.enter_context(connect(port)), stack.enter_context(connect(port))
    assert first.recv(2) == b"in"
    until(lambda: proxy.pool()["queued"] == 1, "the second waits")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(5) == -signal.SIGTERM
    assert peers.closed_quietly(second)
    assert len(proxy.records(2)) == 2


def test_a_reload_while_it_stops_opens_nothing_again(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address), head=_head("0s", "20s"))
    client = stack.enter_context(connect(port))
    assert client.recv(2) == b"in"
    proxy.signal(signal.SIGTERM)
    _closed(proxy, port)
    proxy.signal(signal.SIGHUP)
    proxy.ask("POST", "/v1/reload")
    assert _refused(port)
    client.close()
    assert proxy.wait(5) == -signal.SIGTERM


def test_bulk_that_is_under_way_is_finished(start: Start, backend: Serve, ports: Ports) -> None:
    size = 30_000_000
    port, server = ports.reserve(), backend(peers.source(size))
    proxy = start(one_pool(port, server.address), head=_head("0s", "20s"))
    with connect(port) as client:
        assert client.recv(1)
        proxy.signal(signal.SIGTERM)
        _closed(proxy, port)
        count = 1
        while data := client.recv(1 << 18):
            count += len(data)
    assert count == size
    assert proxy.wait(5) == -signal.SIGTERM
    record = proxy.record()
    assert (record["outcome"], record["bytes_out"]) == ("ok", size)
