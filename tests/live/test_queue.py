"""Waiting for a backend with a free slot, and the clocks of a session."""

from __future__ import annotations

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
# The wheel turns in steps of 0.1 s and asks at most two of them late; the rest is for a busy machine.
LATE = 0.6


def _queued(proxy: Lbproxy, count: int) -> None:
    until(lambda: proxy.pool()["queued"] == count, f"{count} wait")


def test_a_session_waits_for_the_slot_of_another(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address, pool="max_active = 1"))
    first = stack.enter_context(connect(port))
    first.sendall(b"1")
    assert first.recv(1) == b"1"
    second = stack.enter_context(connect(port))
    second.sendall(b"sent while waiting")
    _queued(proxy, 1)
    time.sleep(0.2)
    assert server.connections == 1, "the limit is kept"
    first.close()
    assert peers.read_exactly(second, 18) == b"sent while waiting"
    second.close()
    records = proxy.records(2)
    assert [one["outcome"] for one in records] == ["ok", "ok"]
    assert records[0]["t_queue_ms"] == 0
    assert records[1]["t_queue_ms"] >= 200


def test_the_queue_is_first_in_first_out(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, order = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        while data := conn.recv(10):
            order.append(data)

    proxy = start(one_pool(port, backend(note).address, pool="max_active = 1"))
    clients = []
    for number in range(6):
        client = stack.enter_context(connect(port))
        client.sendall(b"%d" % number)
        clients.append(client)
        _queued(proxy, number)
    for number, client in enumerate(clients):
        until(lambda: len(order) == number + 1, "its turn has come")  # noqa: B023  # used within this turn only
        client.close()
    assert order == [b"%d" % number for number in range(6)]


def test_a_priority_route_is_served_first(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, fast = ports.reserve(), ports.reserve()
    order: list[bytes] = []

    def note(conn: socket.socket) -> None:
        while data := conn.recv(10):
            order.append(data)

    text = one_pool(port, backend(note).address, pool="max_active = 1")
    text += f"""
[[listener]]
name = "fast"
bind = "127.0.0.1:{fast}"
[[route]]
listener = "fast"
pool = "out"
priority = 0
"""
    proxy = start(text)
    clients = []
    for waiting, (where, name) in enumerate([(port, b"first"), (port, b"normal"), (fast, b"urgent")]):
        client = stack.enter_context(connect(where))
        client.sendall(name)
        clients.append(client)
        _queued(proxy, waiting)
    until(lambda: order == [b"first"], "the first is served")
    clients[0].close()
    until(lambda: order == [b"first", b"urgent"], "the urgent one is next")
    clients[2].close()
    until(lambda: order == [b"first", b"urgent", b"normal"], "then the other")


def test_queue_timeout(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address, pool="max_active = 1", more="[timeouts]\nqueue = '300ms'\n"))
    first = stack.enter_context(connect(port))
    assert first.recv(2) == b"in"
    second = stack.enter_context(connect(port))
    began = time.monotonic()
    assert peers.closed_quietly(second)
    assert 0.28 <= time.monotonic() - began < 0.3 + LATE
    record = proxy.record()
    assert (record["outcome"], record["timer"], record["state"]) == ("queue_timeout", "queue", "sQ--")
    assert record["t_queue_ms"] >= 290
    assert record["t_connect_ms"] == -1
    assert proxy.pool()["queued"] == 0


def test_a_full_queue_turns_away_at_once(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    proxy = start(one_pool(port, server.address, pool="max_active = 1\nqueue = { size = 1 }"))
    first = stack.enter_context(connect(port))
    assert first.recv(2) == b"in"
    stack.enter_context(connect(port))
    _queued(proxy, 1)
    began = time.monotonic()
    assert peers.fetch(port) == b""
    assert time.monotonic() - began < 0.5
    record = proxy.record()
    assert (record["outcome"], record["flag"]) == ("queue_full", "UO")


@pytest.mark.parametrize("leave", ["fin", "reset"])
def test_a_client_that_leaves_the_queue_is_gone(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, leave: str
) -> None:
    """Its place is free at once after a reset; a FIN alone may be a half-close with a request in front of it."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address, pool="max_active = 1"))
    first = stack.enter_context(connect(port))
    first.sendall(b"1")
    assert first.recv(1) == b"1"
    second, third = connect(port), stack.enter_context(connect(port))
    _queued(proxy, 2)
    if leave == "reset":
        peers.reset(second)
        _queued(proxy, 1)
        record = proxy.record()
        assert (record["outcome"], record["state"], record["flag"]) == ("client_gone", "CQ--", "DC")
        assert server.connections == 1
    else:
        second.close()
    third.sendall(b"3")
    first.close()
    assert third.recv(1) == b"3"
    third.close()
    proxy.wait_until_idle()
    assert len(proxy.records(3)) == 3


def test_a_half_closed_client_keeps_its_place(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address, pool="max_active = 1"))
    first = stack.enter_context(connect(port))
    first.sendall(b"1")
    assert first.recv(1) == b"1"
    second = stack.enter_context(connect(port))
    second.sendall(b"question")
    second.shutdown(socket.SHUT_WR)
    _queued(proxy, 1)
    first.close()
    assert peers.read_all(second) == b"question"


def test_waiting_sessions_are_told_when_the_last_backend_goes_down(
    start: Start, ports: Ports, stack: ExitStack
) -> None:
    port = ports.reserve()
    server = peers.BackendProcess()
    stack.callback(server.stop)
    proxy = start(one_pool(port, server.address, pool="max_active = 1\ncheck = { interval = '50ms', fall = 2 }"))
    first = stack.enter_context(connect(port))
    first.sendall(b"1")
    assert first.recv(1) == b"1"
    proxy.ask("PATCH", f"/v1/pools/out/backends/{server.address}", {"state": "maint"})
    second = stack.enter_context(connect(port))
    assert peers.closed_quietly(second)
    assert proxy.record()["outcome"] == "no_backend"


def test_waiting_sessions_are_served_when_a_backend_comes_up(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    """Scenario 47, second half: a slot on another backend appears while they wait."""
    port, busy, spare = ports.reserve(), backend(peers.greet_and_hold(b"busy")), backend(peers.named(b"spare"))
    spare_table = f'{{ id = "spare", address = "{spare.address}", state = "maint" }}'
    proxy = start(one_pool(port, busy.address, spare_table, pool="max_active = 1"))
    first = stack.enter_context(connect(port))
    assert first.recv(4) == b"busy"
    waiting = [stack.enter_context(connect(port)) for _ in range(5)]
    _queued(proxy, 5)
    assert proxy.ask("PATCH", "/v1/pools/out/backends/spare", {"state": "ready"})[0] == 200
    for one in waiting:
        assert peers.read_all(one) == b"spare"
        one.close()


# The clocks.


def test_tunnel_idle_ends_a_silent_session(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address, more="[timeouts]\ntunnel_idle = '500ms'\n"))
    client = stack.enter_context(connect(port))
    for _ in range(4):
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        time.sleep(0.2)
    last = time.monotonic() - 0.2
    assert peers.closed_quietly(client)
    assert 0.39 <= time.monotonic() - last < 0.5 + LATE, "counted from the last byte"
    record = proxy.record()
    assert (record["outcome"], record["timer"]) == ("idle_timeout", "tunnel_idle")
    until(lambda: server.open == 0, "the backend is closed too")


def test_half_closed_ends_a_session_whose_other_half_is_silent(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, go_on = ports.reserve(), threading.Event()
    stack.callback(go_on.set)

    def never_answers(conn: socket.socket) -> None:
        peers.hold(conn)
        go_on.wait(peers.PATIENCE)

    proxy = start(one_pool(port, backend(never_answers).address, more="[timeouts]\nhalf_closed = '300ms'\n"))
    client = stack.enter_context(connect(port))
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    began = time.monotonic()
    assert peers.closed_quietly(client)
    assert 0.28 <= time.monotonic() - began < 0.3 + LATE
    record = proxy.record()
    assert (record["outcome"], record["timer"], record["state"]) == ("idle_timeout", "half_closed", "sD--")


def test_write_stall_ends_a_client_that_does_not_read(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    """Scenario 22: the backend's connection is freed with it."""
    port, server = ports.reserve(), backend(peers.source(100_000_000))
    proxy = start(one_pool(port, server.address, more="[timeouts]\nwrite_stall = '500ms'\n"))
    client = stack.enter_context(connect(port, receive_buffer=4096))
    assert client.recv(10)
    record = proxy.record()
    assert (record["outcome"], record["timer"], record["state"]) == ("write_stall", "write_stall", "cD--")
    until(lambda: server.open == 0, "the backend is closed too")
    # What the client never got does not count as given to it.
    assert record["bytes_out"] < 20_000_000


def test_write_stall_spares_a_client_that_reads_slowly(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    """W3: progress, however slow, is progress."""
    size = 6_000_000
    port, server = ports.reserve(), backend(peers.source(size))
    proxy = start(one_pool(port, server.address, more="[timeouts]\nwrite_stall = '500ms'\n"))
    client = stack.enter_context(connect(port, receive_buffer=65536))
    count = 0
    try:
        for _ in range(15):
            count += len(peers.read_exactly(client, 200_000))
            time.sleep(0.1)
        count += len(peers.read_all(client))
    except ConnectionResetError:
        pytest.fail(f"cut after {count} bytes: {proxy.record()}")
    assert count == size
    client.close()
    assert proxy.record()["outcome"] == "ok"


def test_write_stall_ends_a_backend_that_does_not_read(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, go_on = ports.reserve(), threading.Event()
    stack.callback(go_on.set)
    server = backend(lambda conn: [go_on.wait(peers.PATIENCE), None][1])
    proxy = start(one_pool(port, server.address, more="[timeouts]\nwrite_stall = '500ms'\n"))
    client = stack.enter_context(connect(port))
    with pytest.raises(ConnectionError):
        while True:
            client.sendall(b"x" * 65536)
    record = proxy.record()
    assert (record["outcome"], record["timer"], record["state"]) == ("write_stall", "write_stall", "sD--")


@pytest.mark.parametrize("timer", ["write_stall", "tunnel_idle"])
def test_a_client_that_vanished_is_freed(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, timer: str
) -> None:
    """Scenario 25: nothing comes from it any more, not even acknowledgements or FIN."""
    port = ports.reserve()
    go_on = threading.Event()

    def answer_later(conn: socket.socket) -> None:
        conn.sendall(b"hello")
        go_on.wait(peers.PATIENCE)
        if timer == "write_stall":
            peers.source(50_000_000)(conn)
        else:
            conn.sendall(b"is anybody there?")
            peers.hold(conn)

    server = backend(answer_later)
    stack.callback(go_on.set)
    proxy = start(one_pool(port, server.address, more=f"[timeouts]\n{timer} = '800ms'\n"))
    client = stack.enter_context(connect(port))
    assert peers.read_exactly(client, 5) == b"hello"
    peers.drop_everything(client)
    began = time.monotonic()
    go_on.set()
    record = proxy.record()
    assert time.monotonic() - began < 0.8 + 1.5
    assert record["outcome"] in ("write_stall", "client_gone", "idle_timeout")
    until(lambda: server.open == 0, "the backend's connection is freed")
    assert proxy.status()["sessions"] == 0


def test_routes_pools_and_listeners_have_clocks_of_their_own(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, server = ports.reserve(), backend(peers.hold)
    listener = "[listener.timeouts]\ntunnel_idle = '1h'"
    pool = "[pool.out.timeouts]\ntunnel_idle = '300ms'"
    proxy = start(one_pool(port, server.address, listener=listener, more=pool))
    began = time.monotonic()
    assert peers.closed_quietly(stack.enter_context(connect(port)))
    assert time.monotonic() - began < 0.3 + LATE
    assert proxy.record()["timer"] == "tunnel_idle"
