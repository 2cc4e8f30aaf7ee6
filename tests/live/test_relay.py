"""What a client and a backend see of each other: exactly what the other sent, in order, with its end."""

from __future__ import annotations

import hashlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, Sink, connect, digest, digest_of, read_all, read_exactly

BIG = 50_000_000


class _Scene(SimpleNamespace):
    """One lbproxy with a listener for each pool; each pool has one backend whose script a test may choose."""

    proxy: Lbproxy
    port: int

    def play(self, script: peers.Script) -> None:
        """Let the backend follow `script` for its next connections."""
        self.script = script


@pytest.fixture(scope="module")
def scene() -> Iterator[_Scene]:
    """Shared by the tests of this module, which leave nothing behind in it."""
    with ExitStack() as stack:
        ports = Ports()
        stack.callback(ports.release)
        found = _Scene(script=peers.echo)
        backend = Backend(lambda conn: found.script(conn))
        stack.callback(backend.stop)
        found.port = ports.reserve()
        found.backend = backend
        found.proxy = Lbproxy(one_pool(found.port, backend.address, more="[timeouts]\nwrite_stall = '5s'\n"))
        stack.callback(found.proxy.end)
        yield found


@pytest.fixture(autouse=True)
def _leaves_nothing(scene: _Scene) -> Iterator[None]:
    yield
    scene.proxy.wait_until_idle()
    status = scene.proxy.status()
    assert status["pipes_in_use"] == 0
    assert status["held_bytes"] == 0
    assert status["counters"]["exceptions"] == 0


@pytest.mark.parametrize("size", [0, 1, 12, 65535, 65536, 65537, 1_000_003])
def test_bytes_are_exact_both_ways(scene: _Scene, size: int) -> None:
    scene.play(peers.echo)
    sent = b"".join(peers.blocks(size))
    received = []
    with connect(scene.port) as client:
        reader = threading.Thread(target=lambda: received.append(read_all(client)))
        reader.start()
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        reader.join(peers.PATIENCE)
    assert received == [sent]


def test_one_byte_segments_arrive_in_order(scene: _Scene) -> None:
    scene.play(peers.echo)
    text = bytes(range(256)) * 4
    with connect(scene.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in text:
            client.send(bytes([byte]))
        assert read_exactly(client, len(text)) == text


def test_fifty_megabytes_down_are_exact(scene: _Scene) -> None:
    scene.play(peers.source(BIG))
    with connect(scene.port) as client:
        assert digest_of(client) == (digest(BIG), BIG)


def test_fifty_megabytes_up_are_exact(scene: _Scene) -> None:
    sink = Sink(answer=b"all here")
    scene.play(sink)
    with connect(scene.port) as client:
        for block in peers.blocks(BIG):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"all here"
    assert (sink.digest, sink.count) == (digest(BIG), BIG)


def test_both_directions_at_once_are_exact(scene: _Scene) -> None:
    size, sink = 10_000_000, Sink()

    def both(conn: socket.socket) -> None:
        reader = threading.Thread(target=sink, args=(conn,))
        reader.start()
        for block in peers.blocks(size):
            conn.sendall(block)
        conn.shutdown(socket.SHUT_WR)
        reader.join(peers.PATIENCE)

    scene.play(both)
    with connect(scene.port) as client:
        found: list[tuple[str, int]] = []
        reader = threading.Thread(target=lambda: found.append(digest_of(client)))
        reader.start()
        for block in peers.blocks(size):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        reader.join(peers.PATIENCE)
        sink.ended.wait(peers.PATIENCE)
    assert found == [(digest(size), size)]
    assert (sink.digest, sink.count) == (digest(size), size)


def test_the_server_may_speak_first(scene: _Scene) -> None:
    scene.play(peers.greet_and_hold(b"220 hello\r\n"))
    with connect(scene.port) as client:
        assert read_exactly(client, 11) == b"220 hello\r\n"


def test_client_half_closes_and_gets_the_full_answer(scene: _Scene) -> None:
    """Scenario 24: the answer is made only after the client's FIN has come."""
    size = 5_000_000

    def answer_after_fin(conn: socket.socket) -> None:
        assert read_all(conn) == b"give me all"
        for block in peers.blocks(size):
            conn.sendall(block)

    scene.play(answer_after_fin)
    with connect(scene.port) as client:
        client.sendall(b"give me all")
        client.shutdown(socket.SHUT_WR)
        assert digest_of(client) == (digest(size), size)


def test_backend_half_closes_and_still_gets_everything(scene: _Scene) -> None:
    """Scenario 26, the other order: the backend's FIN comes first, with the client's data in flight."""
    size, sink = 5_000_000, Sink()

    def fin_first(conn: socket.socket) -> None:
        conn.sendall(b"I am done")
        conn.shutdown(socket.SHUT_WR)
        sink(conn)

    scene.play(fin_first)
    with connect(scene.port) as client:
        assert read_all(client) == b"I am done"
        for block in peers.blocks(size):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        assert sink.ended.wait(peers.PATIENCE)
    assert (sink.digest, sink.count) == (digest(size), size)


def test_fin_comes_behind_data_that_is_still_in_flight(scene: _Scene) -> None:
    """Scenario 26: FIN is sent while most of the data waits for a slow reader."""
    size = 8_000_000
    scene.play(peers.source(size))
    with connect(scene.port, receive_buffer=4096) as client:
        until(lambda: scene.proxy.status()["counters"] and scene.proxy.status()["sessions"] == 1, "joined")
        time.sleep(0.2)  # the backend has sent all it can by now
        assert digest_of(client) == (digest(size), size)
        client.shutdown(socket.SHUT_WR)


def test_client_reset_reaches_the_backend_as_a_reset(scene: _Scene) -> None:
    sink = Sink()
    scene.play(sink)
    client = connect(scene.port)
    client.sendall(b"half of a")
    until(lambda: sink.count == 9, "the backend has the bytes")
    peers.reset(client)
    assert sink.ended.wait(1), "within a second"
    assert sink.broken


def test_backend_reset_reaches_the_client_as_a_reset(scene: _Scene) -> None:
    def answer_and_reset(conn: socket.socket) -> None:
        conn.recv(10)
        conn.sendall(b"half of")
        conn.recv(10)
        peers.reset(conn)

    scene.play(answer_and_reset)
    with connect(scene.port) as client:
        client.sendall(b"question")
        assert read_exactly(client, 7) == b"half of"
        client.sendall(b"next")
        assert peers.was_reset(client)


def test_a_reset_comes_behind_what_was_sent_before(scene: _Scene) -> None:
    """Scenario 27: the backend resets while the client has yet to read; what lbproxy has of it is flushed first."""
    told = threading.Event()

    def send_and_reset(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"x" * 200_000)
        told.wait(peers.PATIENCE)
        peers.reset(conn)

    scene.play(send_and_reset)
    with connect(scene.port) as client:
        client.sendall(b"?")
        # All of it fits the buffers on the way; the reset comes once it is there.
        until(lambda: _count(scene, "bytes_out") == 200_000, "lbproxy has read it all")
        told.set()
        until(lambda: not scene.backend.open, "the backend has reset")
        time.sleep(0.1)  # the reset has reached lbproxy
        count = 0
        with pytest.raises(ConnectionResetError):
            while data := client.recv(65536):
                count += len(data)
        assert count == 200_000


def _count(scene: _Scene, what: str) -> int:
    return sum(one[what] for one in scene.proxy.ask("GET", "/v1/sessions")[1])


def test_a_cut_stream_is_never_taken_for_a_whole_one(scene: _Scene) -> None:
    """A bulk stream that is reset in its middle ends with a reset at the client too, after exact bytes."""
    size = 3_000_000

    def cut(conn: socket.socket) -> None:
        for block in peers.blocks(size):
            conn.sendall(block)
        peers.reset(conn)

    scene.play(cut)
    found = b""
    with connect(scene.port) as client, pytest.raises(ConnectionResetError):
        while data := client.recv(65536):
            found += data
    assert b"".join(peers.blocks(size)).startswith(found)


def test_a_second_reset_ends_what_was_waiting_after_the_first(scene: _Scene) -> None:
    """After the client's reset the backend still gets what is on its way; when it resets too, nobody is left."""
    size, go_on = 300_000, threading.Event()

    def play(conn: socket.socket) -> None:
        go_on.wait(peers.PATIENCE)
        peers.reset(conn)

    scene.play(play)
    client = connect(scene.port)
    try:
        client.sendall(b"x" * size)
        until(lambda: _count(scene, "bytes_in") == size, "lbproxy has it all")
        peers.reset(client)
        until(lambda: _phases(scene) == ["ending"], "one side was reset", 3.0)
        go_on.set()
        until(lambda: _phases(scene) == [], "the session is over", 3.0)
    finally:
        go_on.set()


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_is_noticed_while_its_side_is_paused(scene: _Scene, who: str) -> None:
    """Nothing is read from a side while the other takes nothing; a reset with nothing unread is seen all the same."""
    with _two_ends(scene) as (client, server):
        source = client if who == "client" else server
        sent = 0
        while not scene.proxy.status()["held_bytes"]:
            source.sendall(b"x" * 30_000)
            sent += 30_000
            until(lambda sent=sent: _count(scene, _WAY[who]) == sent, "lbproxy has read it all")  # type: ignore[misc]
        peers.reset(source)
        until(lambda: _phases(scene) in ([], ["ending"]), "the reset is noticed", 3.0)


@pytest.mark.parametrize("who", ["client", "backend"])
def test_what_was_acknowledged_before_a_reset_reaches_the_other_side(scene: _Scene, who: str) -> None:
    """Also what still stood unread in the kernel, because the other side took nothing at that time."""
    with _two_ends(scene) as (client, server):
        source, target = (client, server) if who == "client" else (server, client)
        sent = _fill(source)
        acknowledged = sent - peers.unacknowledged(source)
        read = _count(scene, _WAY[who])
        assert acknowledged > read, "nothing stands unread"
        peers.reset(source)
        time.sleep(0.5)
        count = 0
        with pytest.raises(ConnectionResetError):
            while data := target.recv(65536):
                count += len(data)
        assert count == acknowledged


_WAY = {"client": "bytes_in", "backend": "bytes_out"}


@contextmanager
def _two_ends(scene: _Scene) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client whose receive buffer is small, and the backend's end of its session."""
    found: queue.Queue[socket.socket] = queue.Queue()
    go_on = threading.Event()

    def play(conn: socket.socket) -> None:
        found.put(conn)
        go_on.wait(2 * peers.PATIENCE)

    scene.play(play)
    try:
        with connect(scene.port, receive_buffer=4096) as client:
            server = found.get(timeout=peers.PATIENCE)
            server.settimeout(peers.PATIENCE)
            until(lambda: _phases(scene) == ["data"], "joined")
            yield client, server
    finally:
        go_on.set()


def _fill(sock: socket.socket) -> int:
    """Send until the other side takes no more, more or less; how much that was."""
    sent, end = 0, time.monotonic() + 1.0
    sock.setblocking(False)
    while time.monotonic() < end:
        try:
            sent += sock.send(b"x" * 65536)
        except BlockingIOError:
            time.sleep(0.01)
    sock.settimeout(peers.PATIENCE)
    return sent


def _phases(scene: _Scene) -> list[str]:
    return [one["phase"] for one in scene.proxy.ask("GET", "/v1/sessions")[1]]


def test_urgent_data_in_a_bulk_upload_neither_stops_it_nor_keeps_the_process_busy(scene: _Scene) -> None:
    """splice(2) does not step over an urgent byte; it is out of band, and not forwarded."""
    sink = Sink()
    scene.play(sink)
    block = os.urandom(1 << 20)
    expected, sent = hashlib.sha256(), 0
    with connect(scene.port) as client:
        for _ in range(3):
            for _ in range(12):
                client.sendall(block)
                expected.update(block)
            until(lambda: scene.proxy.status()["pipes_in_use"] == 1, "the stream goes through a pipe")
            client.send(b"!", socket.MSG_OOB)
            client.sendall(block[:100_000])
            expected.update(block[:100_000])
            sent += 12 * len(block) + 100_000
            until(lambda sent=sent: sink.count == sent, "everything got through", 5.0)  # type: ignore[misc]
        assert scene.proxy.cpu_share(1.0) < 0.2, "nothing is left to do"
        client.shutdown(socket.SHUT_WR)
        assert sink.ended.wait(peers.PATIENCE)
    assert (sink.count, sink.digest) == (sent, expected.hexdigest())


def test_a_client_that_resets_a_download_frees_the_backend(scene: _Scene) -> None:
    """Scenario 23."""
    scene.play(peers.source(100_000_000))
    client = connect(scene.port)
    read_exactly(client, 1_000_000)
    peers.reset(client)
    until(lambda: not scene.backend.open, "the backend's connection is closed", 1.0)


@pytest.mark.parametrize("round_", range(3))
def test_no_byte_of_an_aborted_transfer_reaches_the_next_client(scene: _Scene, round_: int) -> None:
    """Scenario 29: pipes full of one client's bytes are never used for another."""
    scene.play(peers.source(200_000_000))
    for _ in range(4):
        client = connect(scene.port, receive_buffer=8192)
        read_exactly(client, 300_000)
        until(lambda: scene.proxy.status()["pipes_in_use"] == 1, "the stream goes through a pipe")
        peers.reset(client)
        until(lambda: scene.proxy.status()["pipes_in_use"] == 0, "the pipe is given back")
    size = 3_000_000 + round_
    scene.play(peers.named(b"n" * size))
    with connect(scene.port) as client:
        answer = read_all(client)
    assert answer == b"n" * size


def test_a_stopped_receiver_stops_the_sender_and_memory_stays_flat(scene: _Scene) -> None:
    """Scenario 28: nothing is read, memory is flat; then it goes on and every byte is right."""
    size = 200_000_000
    scene.play(peers.source(size))
    before = scene.proxy.resident_bytes()
    with connect(scene.port) as client:
        read_exactly(client, 1_000_000)
        samples = []
        for _ in range(10):
            time.sleep(0.1)
            samples.append(_count(scene, "bytes_out"))
        assert samples[-1] == samples[4], "the sender is not paused"
        assert samples[-1] < 50_000_000
        assert scene.proxy.resident_bytes() - before < 8_000_000
        assert scene.proxy.cpu_share(0.5) < 0.2
        rest, count = digest_of(client)
        assert count == size - 1_000_000
        assert scene.proxy.resident_bytes() - before < 8_000_000
    assert rest == _digest_from(1_000_000, size)


def _digest_from(start: int, size: int) -> str:
    found, skipped = hashlib.sha256(), 0
    for block in peers.blocks(size):
        skip = min(start - skipped, len(block))
        skipped += skip
        found.update(block[skip:])
    return found.hexdigest()


def test_a_backend_that_does_not_read_stops_the_client(scene: _Scene) -> None:
    go_on = threading.Event()
    sink = Sink()

    def late(conn: socket.socket) -> None:
        go_on.wait(peers.PATIENCE)
        sink(conn)

    scene.play(late)
    size = 60_000_000
    with connect(scene.port) as client:
        client.settimeout(0.5)
        sent = 0
        everything = b"".join(peers.blocks(size))
        with pytest.raises(TimeoutError):
            while True:
                sent += client.send(everything[sent : sent + 65536])
        assert sent < 40_000_000
        go_on.set()
        client.settimeout(peers.PATIENCE)
        client.sendall(everything[sent:])
        client.shutdown(socket.SHUT_WR)
        assert sink.ended.wait(peers.PATIENCE)
    assert (sink.digest, sink.count) == (digest(size), size)


def test_many_clients_at_once_get_their_own_bytes(scene: _Scene) -> None:
    scene.play(peers.echo)
    wrong: list[int] = []

    def one(number: int) -> None:
        text = f"client {number} ".encode() * 5000
        if peers.ask(scene.port, text) != text:
            wrong.append(number)

    clients = [threading.Thread(target=one, args=(number,)) for number in range(100)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(peers.PATIENCE)
    assert wrong == []


def test_the_many_kinds_of_addresses(
    start: Callable[..., Lbproxy], backend: Callable[..., Backend], ports: Ports, stack: ExitStack
) -> None:
    """UNIX and IPv6 listeners, several binds, and backends by UNIX path, IPv6 address and host name."""
    directory = Path(stack.enter_context(peers.short_directory()))
    unix = backend(peers.named(b"unix"), path=str(directory / "backend.sock"))
    six = backend(peers.named(b"six"), host="::1")
    name = backend(peers.named(b"name"))
    four, other, six_port, name_port = ports.reserve(), ports.reserve(), ports.reserve("::1"), ports.reserve()
    path = directory / "front.sock"
    proxy = start(
        f"""
[[listener]]
name = "first"
bind = ["127.0.0.1:{four}", "127.0.0.1:{other}", "unix:{path}"]
pool = "unix"
[[listener]]
name = "six"
bind = "[::1]:{six_port}"
pool = "six"
[[listener]]
name = "name"
bind = "127.0.0.1:{name_port}"
pool = "name"
[pool.unix]
backends = ["{unix.address}"]
[pool.six]
backends = ["{six.address}"]
[pool.name]
backends = ["localhost:{name.port}"]
"""
    )
    assert peers.fetch(four) == peers.fetch(other) == b"unix"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(peers.PATIENCE)
        client.connect(str(path))
        assert read_all(client) == b"unix"
    with connect(six_port, host="::1") as client:
        assert read_all(client) == b"six"
    until(lambda: proxy.pool("name")["usable"] == 1, "the name has an address")
    until(lambda: peers.fetch(name_port) == b"name", "the host name leads to the backend")
    records = proxy.records(5)
    assert [one["client"].rpartition(":")[0] for one in records[:4]] == ["127.0.0.1", "127.0.0.1", "", "[::1]"]
    assert records[2]["client"] == "unix"
    assert proxy.stop() == -2
    assert not path.exists(), "a UNIX listener leaves no path behind"
