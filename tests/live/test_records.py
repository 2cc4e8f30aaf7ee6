"""The line that each session leaves behind, and that nobody ever waits for it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, connect

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
RECORDS_TO = '[control]\nsocket = "unix:{directory}/control.sock"\n[stop]\ngrace = "0s"\nhard_stop = "2s"\n'


def test_the_fields_of_a_record(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address))
    began = time.time()
    with connect(port) as client:
        own = "{}:{}".format(*client.getsockname())
        client.sendall(b"x" * 1000)
        assert peers.read_exactly(client, 1000) == b"x" * 1000
        time.sleep(0.2)
        client.shutdown(socket.SHUT_WR)
        assert peers.read_all(client) == b""
    record = proxy.record()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["ts"])
    assert abs(_seconds(record["ts"]) - began) < 1, "the time at which it began"
    assert record["id"]
    assert record["listener"] == "in"
    assert record["client"] == record["peer"] == own
    assert (record["protocol"], record["pool"], record["backend"]) == ("tcp", "out", server.address)
    assert record["policy"] == "least-connections"
    assert (record["outcome"], record["state"], record["flag"], record["timer"]) == ("ok", "----", "-", "")
    assert (record["bytes_in"], record["bytes_out"]) == (1000, 1000)
    assert 0 <= record["t_queue_ms"] < 50
    assert 0 <= record["t_connect_ms"] < 500
    assert 0 <= record["t_first_byte_ms"] < 500
    assert 200 <= record["t_total_ms"] < 2000
    assert (record["retries"], record["tries"]) == (0, [])
    assert record["conns_process"] == record["conns_listener"] == 0


def _seconds(ts: str) -> float:
    return datetime.fromisoformat(ts).timestamp()


def test_every_session_leaves_exactly_one_record(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """However it ends: answered, reset by either side, refused, cut at the stop."""
    port, refused = ports.reserve(), ports.reserve()
    ends = iter(range(10**6))

    def various(conn: socket.socket) -> None:
        match next(ends) % 3:
            case 0:
                peers.echo(conn)
            case 1:
                conn.recv(100)
                peers.reset(conn)
            case 2:
                conn.sendall(b"bye")

    server = backend(various)
    text = one_pool(port, server.address, pool="outlier = false")
    text += f"""
[[listener]]
name = "refused"
bind = "127.0.0.1:{refused}"
pool = "refused"
[pool.refused]
backends = ["127.0.0.1:{ports.reserve()}"]
check = false
"""
    proxy = start(text)
    for number in range(60):
        with connect(port) as client:
            client.sendall(b"x")
            if number % 4 == 0:
                peers.reset(client)
            else:
                with suppress(OSError):  # the reset may have come already
                    client.shutdown(socket.SHUT_WR)
                peers.was_reset(client)
    for _ in range(20):
        assert peers.fetch(refused) == b""
    proxy.wait_until_idle()
    held = stack.enter_context(connect(port))
    until(lambda: proxy.status()["sessions"] == 1, "one is held")
    ended = proxy.status()["counters"]["sessions_ended"]
    assert sum(sum(one.values()) for one in ended.values()) == 80
    assert proxy.stop() == -signal.SIGINT
    held.close()
    records = proxy.records(81)
    assert len(records) == 81
    assert len({one["id"] for one in records}) == 81
    assert records[-1]["outcome"] == "killed"
    by_word: dict[str, int] = {}
    for one in records[:-1]:
        by_word[one["outcome"]] = by_word.get(one["outcome"], 0) + 1
    counted: dict[str, int] = {}
    for words in ended.values():
        for word, count in words.items():
            counted[word] = counted.get(word, 0) + count
    assert by_word == counted


def test_records_go_to_standard_output(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    reading, writing = os.pipe()
    output = stack.enter_context(os.fdopen(reading))
    start(one_pool(port, server.address), head=RECORDS_TO, stdout=writing)
    os.close(writing)
    assert peers.fetch(port) == b"in"
    assert json.loads(output.readline())["outcome"] == "ok"


def test_a_pipe_that_nobody_reads_blocks_nobody(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """Scenario 53, R6: traffic goes on, records are dropped and counted, and flow again when somebody reads."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    reading, writing = os.pipe()
    output = stack.enter_context(os.fdopen(reading, "rb", buffering=0))
    records = '[records]\nto = "stdout"\nbuffer = "16KiB"\n'
    proxy = start(one_pool(port, server.address, more=records), head=RECORDS_TO, stdout=writing)
    os.close(writing)
    slowest, count = 0.0, 0
    while proxy.status()["records"]["dropped"] < 50 or "Traffic goes on" not in proxy.log:
        for _ in range(50):
            began = time.monotonic()
            assert peers.fetch(port) == b"in"
            slowest = max(slowest, time.monotonic() - began)
            count += 1
        assert count < 5000
    assert slowest < 1
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.extend(iter(lambda: output.read(65536), b"")))
    reader.start()
    until(lambda: sum(proxy.status()["records"].values()) == count, "all are dealt with")
    dropped = proxy.status()["records"]["dropped"]
    assert peers.fetch(port) == b"in"
    assert proxy.stop() == -signal.SIGINT
    reader.join(peers.PATIENCE)
    lines = b"".join(found).splitlines()
    assert len(lines) == count + 1 - dropped
    for line in lines:
        assert json.loads(line)["outcome"] == "ok", "no line is torn"


def test_a_small_buffer_loses_nothing_while_the_sink_takes_all(start: Start, backend: Serve, ports: Ports) -> None:
    """The bound is for what a slow sink leaves behind, not for what ends between two writes."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    records = '[records]\nto = "file:{directory}/records.jsonl"\nbuffer = "16KiB"\n'
    proxy = start(one_pool(port, server.address), head=RECORDS_TO + records)
    for _ in range(200):
        assert peers.fetch(port) == b"in"
    proxy.wait_until_idle()
    until(lambda: sum(proxy.status()["records"].values()) == 200, "all are dealt with")
    assert proxy.status()["records"] == {"written": 200, "dropped": 0}
    assert len(proxy.records(200)) == 200


def test_a_full_disk_stops_no_traffic(start: Start, backend: Serve, ports: Ports) -> None:
    """Scenario 52: /dev/full takes nothing and says that no space is left."""
    port, server = ports.reserve(), backend(peers.named(b"in"))
    records = '[records]\nto = "file:/dev/full"\nbuffer = "16KiB"\n'
    proxy = start(one_pool(port, server.address, more=records), head=RECORDS_TO)
    count = 0
    while not proxy.status()["records"]["dropped"]:
        for _ in range(20):
            assert peers.fetch(port) == b"in"
        count += 20
        assert count < 1000
    assert "No space left" in proxy.log


def test_records_that_a_dead_syslog_does_not_take_are_counted(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    records = '[records]\nto = "syslog:{directory}/nobody"\n'
    proxy = start(one_pool(port, server.address), head=RECORDS_TO + records)
    for _ in range(5):
        assert peers.fetch(port) == b"in"
    until(lambda: proxy.status()["records"]["dropped"] == 5, "they are counted")


def test_records_reach_a_syslog(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    daemon = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    daemon.bind(("127.0.0.1", 0))
    daemon.settimeout(peers.PATIENCE)
    records = f'[records]\nto = "syslog:127.0.0.1:{daemon.getsockname()[1]}"\n'
    start(one_pool(port, server.address, more=records), head=RECORDS_TO)
    assert peers.fetch(port) == b"in"
    datagram = daemon.recv(65536).decode()
    assert datagram.startswith("<134>1 ")
    assert json.loads(datagram[datagram.index("{") :])["outcome"] == "ok"


def test_usr1_begins_a_new_file_after_rotation(start: Start, backend: Serve, ports: Ports) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address))
    assert peers.fetch(port) == b"in"
    proxy.records(1)
    old = proxy.record_file.with_suffix(".old")
    proxy.record_file.rename(old)
    assert peers.fetch(port) == b"in"
    until(lambda: len(old.read_text().splitlines()) == 2, "until the signal the old file goes on")
    proxy.signal(signal.SIGUSR1)
    proxy.wait_for_log("log files were opened again")
    assert peers.fetch(port) == b"in"
    assert len(proxy.records(1)) == 1
    assert len(old.read_text().splitlines()) == 2


def test_hostile_text_stays_inside_its_field(start: Start, backend: Serve, ports: Ports) -> None:
    """R5: a server name in a PROXY header that tries to end the line or the string."""
    port, server = ports.reserve(), backend(peers.echo)
    proxy = start(one_pool(port, server.address, listener='proxy_protocol = { from = "127.0.0.1" }'))
    unique = b'"}\r\n\x1b[31m{"id": "forged"' + b"\xff" * 80
    body = bytes.fromhex("c0000201c6336402c82201bb") + b"\x05\x00" + bytes([len(unique)]) + unique
    header = bytes.fromhex("0d0a0d0a000d0a515549540a2111") + len(body).to_bytes(2, "big") + body
    assert peers.ask(port, header + b"hello") == b"hello"
    line = proxy.record_file.read_text() if proxy.records(1) else ""
    assert line.count("\n") == 1
    assert "\x1b" not in line
    record = json.loads(line)
    assert record["outcome"] == "ok"
    assert "forged" in record["unique_id"]


@pytest.mark.parametrize("to", ["none"])
def test_no_records_when_nobody_wants_them(start: Start, backend: Serve, ports: Ports, to: str) -> None:
    port, server = ports.reserve(), backend(peers.named(b"in"))
    proxy = start(one_pool(port, server.address, more=f'[records]\nto = "{to}"\n'), head=RECORDS_TO)
    assert peers.fetch(port) == b"in"
    proxy.wait_until_idle()
    assert proxy.status()["records"] == {"written": 0, "dropped": 0}
