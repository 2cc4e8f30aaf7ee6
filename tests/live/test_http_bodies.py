"""Bodies of every size and framing, both ways: whole, bounded in memory, and in step with answers that come early."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from tests.live.harness import until
from tests.live.http_peers import Answer, Do, RawClient, Step, request
from tests.live.http_scripts import Live, Pushing, all_at_once, blocks, digest, large, upload
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE, drop_everything

BIG = 30_000_000
GIGABYTE = 1_000_000_000
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nX-Said: by-backend\r\n\r\ntoo large"


def receive(client: RawClient, count: int) -> str:
    """The SHA-256 of so many bytes."""
    found = hashlib.sha256()
    while count:
        data = client.take(min(count, 1 << 18))
        assert data
        found.update(data)
        count -= len(data)
    return found.hexdigest()


def head_of(client: RawClient) -> bytes:
    """The bytes of an answer's head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        one = client.take(1)
        assert one, head
        head += one
    return head


class TestWhole:
    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    def test_a_large_answer_arrives_as_it_was(self, live: Live, framing: str) -> None:
        backend = live.recording({"/": large(BIG, framing=framing), "/small": Answer()})
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(2):
                answer = client.ask()
                assert hashlib.sha256(answer.body).hexdigest() == digest(BIG)
                assert answer.get(b"connection") is None
                assert client.ask(target=b"/small").body == b"ok"
        assert [record["outcome"] for record in live.records(4)] == ["ok"] * 4
        assert live.records(4)[0]["bytes_out"] >= BIG

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_large_upload_arrives_as_it_was(self, live: Live, framing: str) -> None:
        backend = live.recording(keep_bodies=False)
        live.serve(backend.address)
        with live.client() as client:
            for _ in range(2):
                if framing == "length":
                    upload(client, request(b"POST", fields=((b"Content-Length", b"%d" % BIG),)), BIG)
                else:
                    client.send(request(b"POST", fields=((b"Transfer-Encoding", b"chunked"),)))
                    for block in blocks(BIG):
                        client.send(b"%x\r\n" % len(block) + block + b"\r\n")
                    client.send(b"0\r\n\r\n")
                assert client.answer().status == 200
                assert client.ask().status == 200
        asked = backend.wait_for(4)
        assert [one.digest for one in asked[::2]] == [digest(BIG)] * 2
        assert live.records(4)[0]["bytes_in"] >= BIG

    def test_both_ways_at_once_and_many_of_them(self, live: Live) -> None:
        backend = live.recording(lambda asked: large(3_000_000), keep_bodies=False)
        live.serve(backend.address)

        def go() -> None:
            with live.client() as client:
                for _ in range(2):
                    upload(client, request(b"PUT", fields=((b"Content-Length", b"2000000"),)), 2_000_000)
                    assert hashlib.sha256(client.answer().body).hexdigest() == digest(3_000_000)

        all_at_once([go] * 12)
        assert {asked.digest for asked in backend.wait_for(24)} == {digest(2_000_000)}

    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 200_000, 1_048_576])
    def test_sizes_around_the_buffers(self, live: Live, size: int) -> None:
        backend = live.recording(lambda asked: large(size, framing="chunked" if asked.path == "/c" else "length"))
        live.serve(backend.address)
        body = b"".join(blocks(size))
        with live.client() as client:
            for target in (b"/", b"/c", b"/"):
                assert client.ask(b"POST", target, body=body).body == body
        assert [asked.body for asked in backend.wait_for(3)] == [body] * 3

    def test_an_answer_in_many_tiny_pieces(self, live: Live) -> None:
        """Scenario 56"""
        body = b"".join(blocks(3000))
        backend = live.recording(
            {
                "/length": Answer(body=body, piece=1),
                "/chunked": Answer(body=body, piece=1, framing="chunked", trailers=((b"X-Sum", b"1"),)),
                "/close": Answer(body=body, piece=1, framing="close"),
            }
        )
        live.serve(backend.address)
        with live.client() as client:
            for target in (b"/length", b"/chunked", b"/close", b"/length"):
                assert client.ask(target=target).body == body

    def test_everything_in_one_segment(self, live: Live) -> None:
        """Scenario 57: requests with bodies, and answers with interim ones in front"""
        early = (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3,)
        answer = Answer(raw=early[0] + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        backend = live.recording(lambda asked: answer)
        live.serve(backend.address)
        with live.client() as client:
            client.send(b"".join(request(b"PUT", b"/%d" % number, body=b"x" * number) for number in range(50)))
            for _ in range(50):
                found = client.answer()
                assert (found.body, found.interim) == (b"abc", (103, 103, 103))
        assert [asked.size for asked in backend.wait_for(50)] == list(range(50))

    def test_events_come_at_once(self, live: Live) -> None:
        """Server-sent events: each is there before the next one is made"""
        steps, seen = threading.Semaphore(0), []

        def stream() -> Iterator[bytes]:
            for number in range(5):
                yield b"data: %d\n\n" % number
                assert steps.acquire(timeout=PATIENCE)

        for framing in ("chunked", "close"):
            answer = Answer(
                stream=stream,
                framing=framing,
                fields=((b"Content-Type", b"text/event-stream"),),
            )
            backend = live.recording(default=answer)
            live.serve(backend.address)
            with live.client() as client:
                client.send(request())
                head_of(client)
                for number in range(5):
                    wire = b""
                    while b"data: %d\n\n" % number not in wire:
                        wire += client.take(1)
                    seen.append(number)
                    steps.release()
        assert seen == [0, 1, 2, 3, 4] * 2


class TestBounded:
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_slow_reader_of_a_gigabyte_keeps_memory_flat(self, live: Live, framing: str) -> None:
        """W8, scenario 22"""
        size = GIGABYTE if framing == "length" else GIGABYTE // 10
        backend = live.recording(default=large(size, framing=framing))
        live.serve(backend.address)
        before = live.proxy.resident_bytes()
        with live.client() as client:
            client.send(request())
            assert (b"chunked" in head_of(client)) == (framing == "chunked")
            most = 0
            for _ in range(10):
                assert len(client.take(100)) == 100
                time.sleep(0.05)
                most = max(most, live.proxy.resident_bytes())
            assert most - before < 8_000_000
            assert live.proxy.status()["held_bytes"] <= 1_200_000
            # What comes now is read raw: the client has taken some of it already.
            left = size - 200_000
            while left > 0:
                count = len(client.sock.recv(1 << 20))
                assert count
                left -= count
            most = max(most, live.proxy.resident_bytes())
        assert most - before < 8_000_000

    def test_a_backend_that_reads_slowly_pauses_the_upload(self, live: Live) -> None:
        goes_on = threading.Event()

        def slow(conn: socket.socket) -> None:
            assert goes_on.wait(PATIENCE)
            found, left = hashlib.sha256(), BIG
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += conn.recv(65536)
            body = heard.partition(b"\r\n\r\n")[2]
            while body:
                found.update(body)
                left -= len(body)
                body = conn.recv(65536) if left else b""
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + found.hexdigest().encode())

        live.serve(live.scripted(slow).address)
        before = live.proxy.resident_bytes()
        with live.client() as client:
            sending = threading.Thread(
                target=upload, args=(client, request(b"POST", fields=((b"Content-Length", b"%d" % BIG),)), BIG)
            )
            sending.start()
            time.sleep(0.3)
            assert sending.is_alive(), "it waits"
            assert live.proxy.status()["held_bytes"] <= 1_200_000
            assert live.proxy.resident_bytes() - before < 8_000_000
            goes_on.set()
            assert client.answer().body.decode() == digest(BIG)
            sending.join(PATIENCE)

    def test_a_hundred_slow_readers_are_bounded_and_cut(self, live: Live) -> None:
        """W3, scenario 22"""
        backend = live.recording(default=large(100_000_000))
        live.serve(backend.address, pool='timeouts = { write_stall = "500ms" }')
        before = live.proxy.resident_bytes()
        clients = [live.client(receive_buffer=4096) for _ in range(100)]
        for client in clients:
            client.send(request())
        until(lambda: live.proxy.pool()["active"] == 100, "all are served")
        assert live.shared.probe() < 1
        assert live.proxy.resident_bytes() - before < 30_000_000
        records = live.records(100)
        assert {(one["outcome"], one["timer"], one["state"][:2]) for one in records} == {
            ("write_stall", "write_stall", "cD")
        }
        until(lambda: backend.open == 0, "the backend is free", 1.0)
        for client in clients:
            client.close()

    def test_a_client_that_has_vanished_frees_everything(self, live: Live) -> None:
        """Scenario 25"""
        backend = live.recording(default=large(100_000_000))
        live.serve(backend.address, pool='timeouts = { write_stall = "500ms" }')
        with live.client(receive_buffer=4096) as client:
            client.send(request())
            assert client.take(100)
            drop_everything(client.sock)
            began = time.monotonic()
            record = live.record()
            assert time.monotonic() - began < 2
            assert (record["outcome"], record["state"][:2]) == ("write_stall", "cD")
        until(lambda: backend.open == 0, "the backend is free", 1.0)


class TestEarlyAnswers:
    @pytest.mark.parametrize("end", [(Do.READ_ALL,), (), (Do.FIN, Do.READ_ALL)], ids=["reads on", "closes", "FIN"])
    @pytest.mark.parametrize("runs", [34])
    def test_the_client_reads_the_413_every_time(self, live: Live, end: tuple[Step, ...], runs: int) -> None:
        """C12, C13, scenarios 16 and 17: with the three ways in which backends behave, 102 runs of a 10 MB upload"""
        backend = live.evil((Do.READ_HEAD, TOO_LARGE, *end))
        live.serve(backend.address, pool="outlier = false")

        def go() -> None:
            with live.client() as client:
                client.send(request(b"POST", fields=((b"Content-Length", b"10000000"),)))
                sending = Pushing(client, blocks(10_000_000))
                answer = client.answer()
                assert (answer.status, answer.body) == (413, b"too large")
                assert answer.get(b"connection") == b"close"
                assert answer.get(b"x-said") == b"by-backend"
                sending.hang_up()

        for _ in range(runs // 2):
            all_at_once([go] * 2)
        assert backend.connections == runs
        assert {record["status"] for record in live.records(runs)} == {413}

    @pytest.mark.parametrize("end", [(Do.READ_ALL,), ()], ids=["reads on", "closes"])
    def test_a_client_that_sends_first_and_reads_afterwards_reads_it_too(
        self, live: Live, end: tuple[Step, ...]
    ) -> None:
        """Scenario 16: as most libraries do; no reset may overtake the answer"""
        backend = live.evil((Do.READ_HEAD, TOO_LARGE, *end))
        live.serve(backend.address, pool="outlier = false")
        for _ in range(10):
            with live.client() as client:
                client.send(request(b"POST", fields=((b"Content-Length", b"200000"),)), b"x" * 100_000)
                time.sleep(0.02)
                client.send(b"x" * 100_000)
                assert client.answer().status == 413

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    @pytest.mark.parametrize("end", [(Do.READ_ALL,), ()], ids=["reads on", "closes"])
    @pytest.mark.parametrize("expect", [True, False])
    def test_curl_reads_it(self, live: Live, end: tuple[Step, ...], expect: bool, tmp_path: Path) -> None:
        """Scenario 16"""
        backend = live.evil((Do.READ_HEAD, TOO_LARGE, *end))
        port = live.serve(backend.address, pool="outlier = false")
        file = tmp_path / "large"
        file.write_bytes(b"x" * 10_000_000)
        for _ in range(5):
            command = ["curl", "-s", "-o", "-", "-w", "%{http_code}", "--data-binary", f"@{file}"]
            command += [] if expect else ["-H", "Expect:"]
            done = subprocess.run(
                [*command, f"http://127.0.0.1:{port}/"], capture_output=True, timeout=PATIENCE, check=False
            )
            assert (done.stdout, done.returncode) == (b"too large413", 0)

    def test_a_limit_of_ours_is_told_while_the_client_sends(self, live: Live) -> None:
        """413 of the route: by Content-Length at once, in chunks when it is passed"""
        backend = live.recording()
        route = '[[route]]\nlistener = "in"\npool = "out"\nmax_body = "100KiB"\n'
        live.serve(backend.address, more=route)
        for _ in range(10):
            with live.client() as client:
                client.send(request(b"POST", fields=((b"Content-Length", b"10000000"),)))
                sending = Pushing(client, blocks(10_000_000))
                assert client.answer().status == 413
                sending.hang_up()
        assert backend.connections == 0
        for _ in range(10):
            with live.client() as client:
                client.send(request(b"POST", fields=((b"Transfer-Encoding", b"chunked"),)))
                sending = Pushing(client, repeat(b"fff0\r\n" + b"x" * 0xFFF0 + b"\r\n", 200))
                assert client.answer().status == 413
                sending.hang_up()
        assert not any(asked.complete for asked in backend.requests)
        assert {record["outcome"] for record in live.records(20)} == {"body_large"}
        with live.client() as client:
            assert client.ask(b"POST", body=b"x" * 102_400).status == 200

    def test_a_body_that_fits_in_step_behind_an_early_answer(self, live: Live) -> None:
        """C4, C12: an early answer to a body that is on its way: the connection ends, no byte of it is a request"""
        backend = live.recording(default=Answer(401, early=True))
        live.serve(backend.address)
        inner = request(target=b"/inner")
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"%d" % (len(inner) * 2)),)))
            answer = client.answer()
            assert (answer.status, answer.get(b"connection")) == (401, b"close")
            client.send(inner + inner)
            assert client.was_closed()
        assert {asked.target for asked in backend.requests} == {b"/"}

    @pytest.mark.parametrize("end", [Do.RESET, Do.FIN], ids=["reset", "FIN"])
    def test_a_backend_that_ends_without_an_answer_is_a_502_and_no_hang(self, live: Live, end: Do) -> None:
        """Scenario 17"""
        backend = live.evil((Do.READ_HEAD, end))
        live.serve(backend.address, pool="outlier = false")
        for _ in range(5):
            with live.client() as client:
                client.send(request(b"POST", fields=((b"Content-Length", b"10000000"),)))
                sending = Pushing(client, blocks(10_000_000))
                assert client.answer().status == 502
                sending.hang_up()
        assert {record["outcome"] for record in live.records(5)} == {"backend_closed"}

    def test_a_backend_that_stops_reading_for_good_has_its_answer_read(self, live: Live) -> None:
        """Scenario 17: shutdown of its read side"""

        def deaf(conn: socket.socket) -> None:
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += conn.recv(4096)
            conn.shutdown(socket.SHUT_RD)
            time.sleep(0.1)
            conn.sendall(TOO_LARGE)

        live.serve(live.scripted(deaf).address)
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"10000000"),)))
            sending = Pushing(client, blocks(10_000_000))
            assert client.answer().status == 413
            sending.hang_up()

    def test_an_answer_flows_while_the_request_still_does(self, live: Live) -> None:
        """Both directions of one exchange at once"""

        def echo(conn: socket.socket) -> None:
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += conn.recv(4096)
            body = heard.partition(b"\r\n\r\n")[2]
            conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            left = 50
            while True:
                if body:
                    conn.sendall(b"%x\r\n%b\r\n" % (len(body), body))
                    left -= len(body)
                if not left:
                    break
                body = conn.recv(4096)
            conn.sendall(b"0\r\n\r\n")
            conn.recv(1)

        live.serve(live.scripted(echo).address)
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"50"),)))
            assert b"200 OK" in head_of(client)
            for number in range(5):
                client.send(b"%010d" % number)
                assert client.take(15) == b"a\r\n%010d\r\n" % number
            assert client.take(5) == b"0\r\n\r\n"
            assert client.was_closed(), "the head had to be sent before the body's end was known"
        assert live.record()["outcome"] == "ok"
