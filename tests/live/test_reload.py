"""Going over to another configuration while traffic runs: nothing is dropped, and errors change nothing."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, Stream, connect

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_bad_file_is_refused_and_the_old_one_goes_on(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 39: the problems name file and line, in the log and at the control socket."""
    port, server = ports.reserve(), backend(peers.named(b"old"))
    good = one_pool(port, server.address)
    proxy = start(good)
    proxy.configure(good.replace('pool = "out"', 'pool = "nowhere"').replace("check = false", "chekc = false"))
    status, problems = proxy.reload()
    assert status == 422
    assert len(problems) == 2, "all problems at once"
    assert all(str(proxy.file) in str(one) or one["file"] == str(proxy.file) for one in problems)
    assert all(one["line"] > 0 for one in problems)
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("reload refused")
    number = proxy.file.read_text()[: proxy.file.read_text().index("chekc")].count("\n") + 1
    assert f"lbproxy.toml:{number}" in proxy.log
    assert peers.fetch(port) == b"old"
    assert proxy.status()["counters"]["reloads"] == {"failed": 2}
    proxy.configure(good)
    assert proxy.reload()[0] == 200


@pytest.mark.parametrize("what", ["missing", "not toml", "empty"])
def test_a_file_that_is_none_is_refused(start: Start, backend: Serve, ports: Ports, what: str) -> None:
    port, server = ports.reserve(), backend(peers.named(b"old"))
    proxy = start(one_pool(port, server.address))
    if what == "missing":
        proxy.file.unlink()
    else:
        proxy.file.write_text("" if what == "empty" else "[[listener]\nbind = ")
    assert proxy.reload()[0] == 422
    assert peers.fetch(port) == b"old"


def test_a_port_in_use_refuses_all_of_a_reload(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 39: also what could have been done is not done."""
    port, fresh, server, other = ports.reserve(), ports.reserve(), backend(peers.named(b"old")), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    before = proxy.descriptors()
    text = one_pool(port, other.address)
    for name, where in (("fresh", fresh), ("taken", other.port)):
        text += f'[[listener]]\nname = "{name}"\nbind = "127.0.0.1:{where}"\npool = "out"\n'
    proxy.configure(text)
    status, problems = proxy.reload()
    assert status == 422
    assert f"127.0.0.1:{other.port}" in problems[0]["message"]
    assert _refused(fresh)
    assert peers.fetch(port) == b"old"
    until(lambda: proxy.descriptors() <= before, "what was opened is closed again")


def test_listeners_come_go_and_move(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 41."""
    first, second, third, server = ports.reserve(), ports.reserve(), ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(first, server.address))
    client = stack.enter_context(connect(first))
    client.sendall(b"1")
    assert client.recv(1) == b"1"
    proxy.change(one_pool(second, server.address))
    assert _refused(first)
    assert peers.ask(second, b"moved") == b"moved"
    client.sendall(b"2")
    assert client.recv(1) == b"2", "a session outlives its listener's address"
    added = f'[[listener]]\nname = "added"\nbind = "127.0.0.1:{third}"\npool = "out"\n'
    proxy.change(one_pool(second, server.address) + added)
    assert peers.ask(third, b"added") == b"added"
    proxy.change(one_pool(second, server.address))
    assert _refused(third)
    client.sendall(b"3")
    assert client.recv(1) == b"3"
    assert [one["name"] for one in proxy.status()["listeners"]] == ["in"]
    assert proxy.cpu_share(0.5) < 0.1


def test_an_address_moves_to_another_listener(
    start: Start, backend: Serve, ports: Ports, stream: Callable[[int], Stream]
) -> None:
    """The socket stays open: nobody is refused on the way."""
    port, other, server = ports.reserve(), ports.reserve(), backend(peers.echo)
    text = """
[[listener]]
name = "one"
bind = "127.0.0.1:{one}"
pool = "out"
[[listener]]
name = "two"
bind = "127.0.0.1:{two}"
pool = "out"
[pool.out]
backends = ["{address}"]
"""
    here = text.format(one=port, two=other, address=server.address)
    there = text.format(one=other, two=port, address=server.address)
    proxy = start(here)
    assert peers.ask(port, b"before") == b"before"
    running = stream(port)
    for number in range(6):
        proxy.change(here if number % 2 else there)
        assert peers.ask(port, b"after") == b"after"
        assert peers.ask(other, b"after") == b"after"
    running.stop()
    proxy.change(there)
    assert peers.ask(port, b"counted") == b"counted"
    until(lambda: proxy.listener("two")["accepted"] > 0, "it belongs to the other listener")


def test_renaming_a_listener_keeps_its_socket(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    text = one_pool(port, server.address)
    proxy = start(text)
    proxy.change(text.replace('name = "in"', 'name = "renamed"'))
    assert peers.ask(port, b"hello") == b"hello"
    assert proxy.record()["listener"] == "renamed"


def test_backends_and_weights_change_without_a_session_lost(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, old, new = ports.reserve(), backend(peers.greet_and_hold(b"old")), backend(peers.greet_and_hold(b"new"))
    proxy = start(one_pool(port, old.address))
    client = stack.enter_context(connect(port))
    assert client.recv(3) == b"old"
    proxy.change(one_pool(port, new.address))
    with connect(port) as fresh:
        assert fresh.recv(3) == b"new"
    tables = f'{{ address = "{old.address}", weight = 0 }}', f'{{ address = "{new.address}", weight = 3 }}'
    proxy.change(one_pool(port, *tables))
    for _ in range(6):
        with connect(port) as fresh:
            assert fresh.recv(3) == b"new"
    assert proxy.backend(new.address)["weight"] == 3
    assert old.open == 1, "the first session is still there"
    client.close()
    proxy.wait_until_idle()


def test_health_outlives_a_reload(start: Start, backend: Serve, ports: Ports) -> None:
    """A backend that is down stays down, one that is up is not tried anew."""
    port, dead, good = ports.reserve(), f"127.0.0.1:{ports.reserve()}", backend(peers.named(b"good"))
    text = one_pool(port, dead, good.address, pool="check = { interval = '100ms', fall = 2 }")
    proxy = start(text)
    proxy.wait_for_state(dead, "down")
    assert peers.fetch(port) == b"good"
    total = proxy.backend(good.address)["sessions_total"]
    proxy.change(text + "# changed\n")
    assert proxy.backend(dead)["state"] == "down"
    assert proxy.backend(good.address)["sessions_total"] == total


def test_a_removed_pool_lets_its_sessions_end(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, old, new = ports.reserve(), backend(peers.echo), backend(peers.named(b"new"))
    text = one_pool(port, old.address)
    proxy = start(text)
    client = stack.enter_context(connect(port))
    client.sendall(b"1")
    assert client.recv(1) == b"1"
    proxy.change(one_pool(port, new.address).replace("out", "renamed"))
    assert peers.fetch(port) == b"new"
    client.sendall(b"2")
    assert client.recv(1) == b"2"
    client.close()
    proxy.wait_until_idle()
    assert {one["pool"] for one in proxy.records(2)} == {"out", "renamed"}


def test_settings_of_a_listener_change_in_place(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address))
    proxy.change(one_pool(port, server.address, listener='deny = "127.0.0.1"'))
    assert peers.fetch(port) == b""
    proxy.change(one_pool(port, server.address))
    assert peers.fetch(port) == b"in"


def test_a_limit_that_was_raised_lets_waiting_clients_in(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack
) -> None:
    port, server = ports.reserve(), backend(peers.greet_and_hold(b"in"))
    share = "max_connections_per_client = 9"
    proxy = start(one_pool(port, server.address, listener=f"max_connections = 1\n{share}"))
    assert stack.enter_context(connect(port)).recv(2) == b"in"
    waiting = stack.enter_context(connect(port))
    proxy.change(one_pool(port, server.address, listener=f"max_connections = 2\n{share}"))
    assert waiting.recv(2) == b"in"
    third = stack.enter_context(connect(port))
    until(lambda: proxy.status()["sessions"] == 2, "full again")
    proxy.change(one_pool(port, server.address, pool="max_active = 9", listener=f"max_connections = 3\n{share}"))
    assert third.recv(2) == b"in"


def test_twenty_reloads_in_a_second(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 40: signals that come together may merge; nothing piles up."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    client = stack.enter_context(connect(port))
    client.sendall(b"1")
    assert client.recv(1) == b"1"
    before = proxy.descriptors()
    for _ in range(20):
        proxy.signal(signal.SIGHUP)
        time.sleep(0.05)
    until(lambda: proxy.status()["counters"]["reloads"].get("ok", 0) >= 1, "it has reloaded")
    client.sendall(b"2")
    assert client.recv(1) == b"2"
    assert proxy.descriptors() <= before
    assert "failed" not in proxy.status()["counters"]["reloads"]


def test_reloads_under_load_lose_nobody(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 38, scaled: 30 reloads that really change something, 200 new connections a second, a long session."""
    port, spare = ports.reserve(), ports.reserve()
    one, two = backend(peers.echo), backend(peers.echo)
    added = f'[[listener]]\nname = "spare"\nbind = "127.0.0.1:{spare}"\npool = "out"\n'
    texts = [
        one_pool(port, one.address),
        one_pool(port, one.address, two.address) + added,
        one_pool(port, two.address, listener="max_connections = 1000\nmax_connections_per_client = 1000"),
    ]
    proxy = start(texts[0])
    long = stack.enter_context(connect(port))
    streams = [Stream(port, 50.0) for _ in range(4)]
    for running in streams:
        stack.callback(running.finish)
    rounds = 0
    for rounds in range(30):
        proxy.change(texts[(rounds + 1) % 3])
        long.sendall(b"x")
        assert long.recv(1) == b"x"
        time.sleep(0.1)
    for running in streams:
        running.stop()
    done = sum(running.done for running in streams)
    assert done > 300
    long.close()
    proxy.wait_until_idle()
    assert all(record["outcome"] == "ok" for record in proxy.records(done + 1))
    assert proxy.status()["counters"]["reloads"] == {"ok": 30}
    assert rounds == 29


def test_records_and_control_socket_move(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    text = one_pool(port, server.address)
    proxy = start(text)
    proxy.file.write_text(proxy.file.read_text().replace("records.jsonl", "elsewhere.jsonl"))
    assert proxy.reload()[0] == 200
    assert peers.fetch(port) == b"in"
    moved = proxy.directory / "elsewhere.jsonl"
    until(lambda: moved.exists() and moved.read_text().count("\n") == 1, "the record is there")
    proxy.file.write_text(proxy.file.read_text().replace("control.sock", "other.sock"))
    proxy.signal(signal.SIGHUP)
    until((proxy.directory / "other.sock").exists, "the control socket has moved")
    until(lambda: not (proxy.directory / "control.sock").exists(), "the old one is gone")


def test_concurrent_reloads_are_serialised(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(proxy.reload()[0])) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(peers.PATIENCE)
    assert results == [200] * 10
    assert peers.ask(port, b"hello") == b"hello"
