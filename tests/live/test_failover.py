"""A backend that cannot be reached is the next backend's work, and no error of the client."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, BackendProcess, Stream, connect

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
FIRST = 'policy = "first"\noutlier = false'
QUICK = "[timeouts]\nconnect = '300ms'\n"


def _errors(record: dict[str, Any]) -> list[str | None]:
    return [one["error"] for one in record["tries"]]


def test_a_refusing_backend_is_passed_over(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 1, first half."""
    port, closed, good = ports.reserve(), ports.reserve(), backend(peers.named(b"good"))
    proxy = start(one_pool(port, f"127.0.0.1:{closed}", good.address, pool=FIRST))
    assert peers.fetch(port) == b"good"
    record = proxy.record()
    assert record["outcome"] == "ok"
    assert record["retries"] == 1
    assert _errors(record) == ["refused", None]
    assert record["backend"] == good.address


def test_a_black_hole_is_passed_over_after_the_connect_timeout(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    """Scenario 2."""
    port, good = ports.reserve(), backend(peers.named(b"good"))
    hole = stack.enter_context(peers.black_hole())
    proxy = start(one_pool(port, hole, good.address, pool=FIRST, more=QUICK))
    began = time.monotonic()
    assert peers.fetch(port) == b"good"
    assert 0.29 <= time.monotonic() - began < 0.3 + 0.4, "one connect timeout and two ticks of the wheel"
    assert _errors(proxy.record()) == ["timeout", None]


def test_only_black_holes_end_in_a_connect_timeout(start: Start, ports: Ports, stack: ExitStack) -> None:
    """Scenario 2, nobody left: the total stays within the tries."""
    port = ports.reserve()
    holes = [stack.enter_context(peers.black_hole()) for _ in range(3)]
    proxy = start(one_pool(port, *holes, pool="tries = 2", more=QUICK))
    began = time.monotonic()
    assert peers.fetch(port) == b""
    assert 0.59 <= time.monotonic() - began < 0.6 + 0.6
    record = proxy.record()
    assert (record["outcome"], record["timer"], record["flag"]) == ("connect_timeout", "connect", "UF")
    assert _errors(record) == ["timeout", "timeout"]
    assert len({one["backend"] for one in record["tries"]}) == 2


def test_no_new_try_begins_after_the_try_window(start: Start, ports: Ports, stack: ExitStack) -> None:
    port = ports.reserve()
    holes = [stack.enter_context(peers.black_hole()) for _ in range(3)]
    proxy = start(one_pool(port, *holes, more="[timeouts]\nconnect = '300ms'\ntry_window = '200ms'\n"))
    assert peers.fetch(port) == b""
    assert _errors(proxy.record()) == ["timeout"]


def test_a_full_accept_queue_is_passed_over(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 5: nobody accepts, and the kernel's queue is full."""
    stuck = stack.enter_context(socket.socket())
    stuck.bind(("127.0.0.1", 0))
    stuck.listen(0)
    fillers = []
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(stuck.getsockname())
        fillers.append(filler)
    port, good = ports.reserve(), backend(peers.named(b"good"))
    proxy = start(one_pool(port, f"127.0.0.1:{stuck.getsockname()[1]}", good.address, pool=FIRST, more=QUICK))
    assert peers.fetch(port) == b"good"
    assert _errors(proxy.record()) == ["timeout", None]


def test_a_reset_before_any_byte_is_retried_elsewhere(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 6: the client has sent nothing, so nothing can be lost."""
    port, bad, good = ports.reserve(), backend(peers.reset), backend(peers.named(b"good"))
    proxy = start(one_pool(port, bad.address, good.address, pool=FIRST))
    for _ in range(20):
        assert peers.fetch(port) == b"good"
    assert bad.connections == 20
    for record in proxy.records(20):
        assert record["outcome"] == "ok"
        assert _errors(record)[-1] is None
        assert "reset" in _errors(record)


def test_a_reset_after_the_clients_first_byte_is_never_retried(start: Start, backend: Serve, ports: Ports) -> None:
    """The backend may have acted on those bytes."""
    got = threading.Event()

    def read_and_reset(conn: socket.socket) -> None:
        conn.recv(100)
        got.set()
        peers.reset(conn)

    port, bad, good = ports.reserve(), backend(read_and_reset), backend(peers.named(b"good"))
    proxy = start(one_pool(port, bad.address, good.address, pool=FIRST))
    with connect(port) as client:
        client.sendall(b"transfer 100 coins")
        assert peers.was_reset(client)
    assert got.is_set()
    assert good.connections == 0
    assert proxy.record()["outcome"] == "backend_cut"


def test_all_refused_closes_the_client_at_once(start: Start, ports: Ports) -> None:
    port, closed = ports.reserve(), [ports.reserve() for _ in range(3)]
    proxy = start(one_pool(port, *(f"127.0.0.1:{one}" for one in closed)))
    began = time.monotonic()
    assert peers.fetch(port) == b""
    assert time.monotonic() - began < 0.5
    record = proxy.record()
    assert (record["outcome"], record["state"], record["flag"]) == ("refused", "SC--", "UF")
    assert _errors(record) == ["refused"] * 3
    assert len({one["backend"] for one in record["tries"]}) == 3, "no backend is tried twice"


@pytest.mark.parametrize("tries", [1, 2])
def test_never_more_than_tries(start: Start, backend: Serve, ports: Ports, tries: int) -> None:
    port, servers = ports.reserve(), [backend(peers.reset) for _ in range(4)]
    proxy = start(one_pool(port, *(one.address for one in servers), pool=f"tries = {tries}\noutlier = false"))
    assert peers.fetch(port) == b""
    until(lambda: sum(one.connections for one in servers) == tries, "all tries are made")
    record = proxy.record()
    # Where the reset overtakes the news of the connect, the connect itself has failed.
    met_at_once = record["tries"] and record["tries"][-1]["error"] == "reset"
    assert record["outcome"] == ("refused" if met_at_once else "backend_cut")
    assert len(record["tries"]) == (tries if tries > 1 or met_at_once else 0), "one that stood is no failed try"


def test_checks_take_dead_backends_out_and_clients_are_closed_quickly(start: Start, ports: Ports) -> None:
    """Scenario 1, second half: 50 ms is all it takes once they are known to be down."""
    port, closed = ports.reserve(), [f"127.0.0.1:{ports.reserve()}" for _ in range(2)]
    proxy = start(one_pool(port, *closed, pool="check = { interval = '100ms', fall = 2 }"))
    for one in closed:
        proxy.wait_for_state(one, "down")
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        assert peers.fetch(port) == b""
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.05
    record = proxy.records(20)[0]
    assert (record["outcome"], record["flag"], record["tries"]) == ("no_backend", "UH", [])
    assert "L4CON" in proxy.log


def test_all_down_then_up_again(start: Start, ports: Ports, stack: ExitStack) -> None:
    """Scenario 47: back within rise times interval."""
    port, own = ports.reserve(), ports.reserve()
    address = f"127.0.0.1:{own}"
    proxy = start(one_pool(port, address, pool="check = { interval = '100ms', fall = 2, rise = 3 }"))
    proxy.wait_for_state(address, "down")
    assert peers.fetch(port) == b""
    server = Backend(peers.named(b"back"), port=own)
    stack.callback(server.stop)
    began = time.monotonic()
    proxy.wait_for_state(address, "up")
    assert time.monotonic() - began < 3 * 0.11 + 0.3
    assert peers.fetch(port) == b"back"


def test_flapping_checks_do_not_flap_the_backend(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 46: every other check fails; neither rise nor fall is ever reached."""
    answers = iter(range(10**6))

    def flapping(conn: socket.socket) -> None:
        conn.recv(10)
        conn.sendall(b"OK" if next(answers) % 2 == 0 else b"NO")

    port, server = ports.reserve(), backend(flapping)
    check = "check = { interval = '20ms', send = 'hello', expect = 'OK', rise = 2, fall = 2 }"
    proxy = start(one_pool(port, server.address, pool=check))
    until(lambda: proxy.backend(server.address)["checks_failed_total"] >= 20, "twenty checks have failed")
    state = proxy.backend(server.address)
    assert state["state"] == "up"
    assert state["checks_ok_total"] >= 19
    assert proxy.log.count(" is down") == 0


def test_a_backend_that_accepts_but_does_not_answer_is_down(start: Start, ports: Ports, stack: ExitStack) -> None:
    """Scenario 4: stopped, its kernel still accepts; the check sees it. Continued, it is up again."""
    port = ports.reserve()
    stuck, good = BackendProcess(), BackendProcess()
    stack.callback(stuck.stop)
    stack.callback(good.stop)
    check = "check = { interval = '100ms', timeout = '200ms', fall = 2, rise = 2, send = 'hello', expect = 'hello' }"
    proxy = start(one_pool(port, stuck.address, good.address, pool=check))
    proxy.wait_for_state(stuck.address, "up")
    stuck.process.send_signal(signal.SIGSTOP)
    proxy.wait_for_state(stuck.address, "down")
    assert "L7TOUT" in proxy.log
    assert peers.ask(port, b"anybody?") == b"anybody?"
    assert proxy.record()["backend"] == good.address
    stuck.process.send_signal(signal.SIGCONT)
    proxy.wait_for_state(stuck.address, "up")


def test_checks_at_another_port_and_by_their_own_state(start: Start, backend: Serve, ports: Ports) -> None:
    port, server, health = ports.reserve(), backend(peers.named(b"served")), ports.reserve()
    proxy = start(one_pool(port, server.address, pool=f"check = {{ interval = '50ms', fall = 2, port = {health} }}"))
    proxy.wait_for_state(server.address, "down")
    assert peers.fetch(port) == b""


def test_killing_a_backend_under_load_costs_no_client_an_error(
    start: Start, ports: Ports, stack: ExitStack, stream: Callable[[int], Stream]
) -> None:
    """Sessions under way on it are cut, which nothing could hide; every new one finds the other backend."""
    port = ports.reserve()
    doomed, good = BackendProcess(), BackendProcess()
    stack.callback(doomed.stop)
    stack.callback(good.stop)
    proxy = start(one_pool(port, doomed.address, good.address, pool="check = { interval = '100ms', fall = 2 }"))
    held = stack.enter_context(connect(port))
    held.sendall(b"here")
    assert peers.read_exactly(held, 4) == b"here"

    broken: list[str] = []
    answered: list[bytes] = []
    stop = threading.Event()

    def idle_then_ask() -> None:
        while not stop.is_set():
            try:
                answered.append(peers.ask(port, b"q" * 10))
            except OSError as problem:
                broken.append(repr(problem))

    asking = threading.Thread(target=idle_then_ask)
    asking.start()
    until(lambda: len(answered) > 50, "load")
    at_kill = len(broken)
    doomed.process.kill()
    doomed.process.wait()
    count = len(answered)
    until(lambda: len(answered) > count + 200, "load goes on")
    stop.set()
    asking.join(peers.PATIENCE)
    # The one request that was on the killed backend at that moment, at the most.
    assert at_kill == 0
    assert len(broken) <= 1, broken
    proxy.wait_for_state(doomed.address, "down")
    stream(port)
    until(lambda: proxy.backend(good.address)["sessions_total"] > 50, "the stream runs")


def test_a_backend_restart_with_many_clients_makes_no_spike(start: Start, ports: Ports, stack: ExitStack) -> None:
    """Scenario 48, with 300 clients: all are told, all descriptors are freed, the next client is served."""
    port = ports.reserve()
    server = BackendProcess()
    stack.callback(server.stop)
    proxy = start(one_pool(port, server.address))
    before = proxy.descriptors()
    clients = [stack.enter_context(connect(port)) for _ in range(300)]
    for client in clients:
        client.sendall(b"x")
    for client in clients:
        assert client.recv(1) == b"x"
    assert proxy.status()["sessions"] == 300
    server.process.kill()
    server.process.wait()
    for client in clients:
        assert peers.closed_quietly(client)
        client.close()
    proxy.wait_until_idle()
    assert proxy.descriptors() <= before + 2
    assert len(proxy.records(300)) == 300
    again = BackendProcess(server.port)
    stack.callback(again.stop)
    until(lambda: _serves(port), "the restarted backend is used")


def _serves(port: int) -> bool:
    try:
        return peers.ask(port, b"again") == b"again"
    except OSError:
        return False


def test_a_dead_load_generator_leaves_nothing(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, stream: Callable[[int], Stream]
) -> None:
    """Scenario 80, scaled: a process with 300 connections is killed; all is cleaned up within 5 s."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    before = proxy.descriptors()
    code = (
        "import socket,sys,time\n"
        "all=[socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(300)]\n"
        "[one.sendall(b'x') for one in all]\n"
        "print('here', flush=True)\n"
        "time.sleep(60)\n"
    )
    load = subprocess.Popen([sys.executable, "-I", "-c", code, str(port)], stdout=subprocess.PIPE)
    stack.callback(load.wait)
    stack.callback(load.kill)
    assert load.stdout is not None
    stack.callback(load.stdout.close)
    assert load.stdout.readline() == b"here\n"
    until(lambda: proxy.status()["sessions"] == 300, "all are in")
    running = stream(port)
    load.kill()
    load.wait()
    until(lambda: server.open < 10 and proxy.status()["sessions"] < 10, "all is cleaned up", 5.0)
    running.stop()
    proxy.wait_until_idle()
    assert proxy.descriptors() <= before + 2
