"""Things that meet: bodies and retries, both directions at once, bad networks, other sockets and reactors, PROXY."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.live.harness import Lbproxy, Ports, until
from tests.live.http_peers import Answer, Asked, Do, Fields, RawClient, chunked, http_pool, http_site, request
from tests.live.http_scripts import Gate, Live, Pushing, Recording, all_at_once, blocks, digest, large, once, upload
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE, Chaos, short_directory

AGAIN = '[[route]]\nlistener = "in"\npool = "out"\nretry = "idempotent"\n'
IN_TURN = 'policy = "round-robin"\noutlier = false\n'
CHUNKED = ((b"Transfer-Encoding", b"chunked"),)


class TestRetriesWithinABody:
    @pytest.mark.parametrize("cut", [1, 1000, 20_000, 45_000])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("end", [Do.FIN, Do.RESET], ids=["FIN", "reset"])
    def test_a_backend_that_dies_in_mid_upload_is_replaced(self, live: Live, cut: int, framing: str, end: Do) -> None:
        """Class C with what was sent so far, and then the rest as it comes"""
        body = b"".join(blocks(50_000))
        bad = live.evil(once(0.02, end))
        good = live.recording()
        live.serve(bad.address, good.address, pool=IN_TURN, more=AGAIN)
        if framing == "length":
            wire = request(b"PUT", body=body)
        else:
            wire = request(b"PUT", b"/", CHUNKED, chunked(*[body[at : at + 777] for at in range(0, 50_000, 777)]))
        cut += wire.index(b"\r\n\r\n") + 4
        with live.client() as client:
            client.send(wire[:cut])
            until(lambda: bad.connections == 1 and bad.open == 0, "it has died")
            time.sleep(0.05)
            client.send(wire[cut:] + request(target=b"/next"))
            assert (client.answer().status, client.answer().status) in ((200, 200), (200, 502))
        first = good.wait_for(1)[0]
        assert (first.method, first.body) == (b"PUT", body)
        assert live.records(2)[0]["retries"] == 1

    def test_an_expectation_survives_a_retry(self, live: Live) -> None:
        bad, good = live.evil(once(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, Do.RESET)), live.recording()
        live.serve(bad.address, good.address, pool=IN_TURN, more=AGAIN)
        with live.client() as client:
            client.send(request(b"PUT", fields=((b"Expect", b"100-continue"), (b"Content-Length", b"4"))))
            assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            time.sleep(0.1)
            client.send(b"body")
            answer = client.answer()
            assert answer.status in (200, 502)
            assert answer.interim == (), "it was told once"

    def test_a_client_that_leaves_between_two_tries_ends_both(self, live: Live) -> None:
        bad, good = live.evil(once(0.02, Do.RESET)), live.recording()
        live.serve(bad.address, good.address, pool=IN_TURN, more=AGAIN)
        with live.client() as client:
            client.send(request(b"PUT", fields=((b"Content-Length", b"10"),)) + b"12345")
            until(lambda: bad.connections == 1 and bad.open == 0, "it has died")
            client.reset()
        assert live.record()["outcome"] == "client_gone"
        assert not any(asked.complete for asked in good.requests)


class TestBothDirections:
    @pytest.mark.parametrize("size", [100, 100_000, 20_000_000])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_an_echo_that_begins_at_once(self, live: Live, size: int, framing: str) -> None:
        """Splice in both directions of one exchange"""

        def echo(conn: socket.socket) -> None:
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += conn.recv(65_536)
            data = heard.partition(b"\r\n\r\n")[2]
            if framing == "length":
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                left = size
                while left:
                    if data:
                        conn.sendall(data)
                        left -= len(data)
                    data = conn.recv(1 << 18) if left else b""
            else:
                conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                left = size
                while left:
                    if data:
                        conn.sendall(b"%x\r\n%b\r\n" % (len(data), data))
                        left -= len(data)
                    data = conn.recv(1 << 18) if left else b""
                conn.sendall(b"0\r\n\r\n")
            conn.recv(1)

        live.serve(live.scripted(echo).address)
        with live.client() as client:
            client.send(request(b"POST", fields=((b"Content-Length", b"%d" % size),)))
            sending = Pushing(client, blocks(size))
            assert hashlib.sha256(client.answer().body).hexdigest() == digest(size)
            sending.hang_up()
        assert live.record()["outcome"] == "ok"

    def test_a_request_behind_a_spliced_upload(self, live: Live) -> None:
        backend = live.recording(keep_bodies=False)
        live.serve(backend.address)
        with live.client() as client:
            head = request(b"POST", fields=((b"Content-Length", b"3000000"),))
            body = b"".join(blocks(3_000_000))
            for _ in range(3):
                client.send((head + body + request(target=b"/next")) * 2)
                assert [client.answer().status for _ in range(4)] == [200] * 4
        seen = [(asked.target, asked.digest) for asked in backend.wait_for(12)]
        assert seen == [(b"/", digest(3_000_000)), (b"/next", hashlib.sha256().hexdigest())] * 6

    def test_a_half_close_behind_a_spliced_upload_and_before_a_spliced_answer(self, live: Live) -> None:
        """C14"""
        backend = live.recording(default=large(5_000_000), keep_bodies=False)
        live.serve(backend.address)
        with live.client() as client:
            upload(client, request(b"POST", fields=((b"Content-Length", b"3000000"),)), 3_000_000)
            client.half_close()
            assert hashlib.sha256(client.answer().body).hexdigest() == digest(5_000_000)
            assert client.was_closed()
        assert backend.wait_for(1)[0].digest == digest(3_000_000)
        assert live.record()["outcome"] == "ok"

    def test_a_client_that_aborts_at_any_time_leaves_no_byte_to_the_next(self, live: Live) -> None:
        """Scenario 29 with HTTP: pipes and buffers of aborted exchanges"""
        marks = iter(range(10_000))

        def marked(asked: Asked) -> Answer:
            mark = b"%08d" % next(marks)
            return Answer(body=mark * 100_000, fields=((b"X-Mark", mark),))

        backend = live.recording(marked)
        live.serve(backend.address, pool="outlier = false")
        chance = random.Random(1)
        cuts = [chance.randrange(1, 800_000) for _ in range(40)]

        def go(mine: list[int]) -> None:
            for cut in mine:
                with live.client() as client:
                    client.send(request())
                    got = 0
                    while got < cut and (data := client.sock.recv(65_536)):
                        got += len(data)
                    client.reset()
                with live.client() as client:
                    answer = client.ask()
                    assert answer.body == (answer.get(b"x-mark") or b"") * 100_000

        all_at_once([partial(go, cuts[at::4]) for at in range(4)])
        assert live.proxy.status()["pipes_in_use"] == 0


class TestBadNetworks:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_nothing_depends_on_how_bytes_are_cut(self, live: Live, seed: int) -> None:
        """Scenarios 56, 57, 58: a forwarder that cuts and delays on both sides; each answer tells what was asked"""

        def tell(asked: Asked) -> Answer:
            told = b"%b %b %b " % (asked.method, asked.target, asked.digest.encode())
            size = int(asked.target[1:].partition(b"-")[0])
            framing = ("length", "chunked", "close")[size % 3]
            body = told + b"".join(blocks(size))
            return Answer(body=body, framing=framing, piece=max(1, size // 7), trailers=((b"X-T", b"1"),) * (size % 2))  # type: ignore[arg-type]  # one of its words

        backend = live.recording(tell)
        behind = Chaos(backend.port, delay=0.0005, piece=900, seed=seed)
        live.stack.callback(behind.stop)
        live.serve(behind.address, pool="outlier = false")
        front = Chaos(live.port, delay=0.0005, piece=700, seed=seed + 10)
        live.stack.callback(front.stop)

        def go(number: int) -> None:
            chance = random.Random(seed * 100 + number)
            with live.client(front.port) as client:
                for _ in range(4):
                    group = []
                    for _ in range(chance.randrange(1, 5)):
                        size, body = chance.randrange(20_000), b"".join(blocks(chance.randrange(20_000)))
                        target = b"/%d-%d" % (size, chance.randrange(10**9))
                        method = chance.choice((b"GET", b"POST", b"PUT"))
                        if chance.random() < 0.5:
                            wire = request(method, target, (), body)
                        else:
                            pieces = [body[at : at + 1001] for at in range(0, len(body), 1001)]
                            wire = request(method, target, CHUNKED, chunked(*pieces))
                        group.append((method, target, size, body, wire))
                    client.send(b"".join(one[-1] for one in group))
                    for method, target, size, body, _ in group:
                        told = b"%b %b %b " % (method, target, hashlib.sha256(body).hexdigest().encode())
                        assert client.answer(method).body == told + b"".join(blocks(size))

        all_at_once([partial(go, number) for number in range(6)])


class TestOtherSockets:
    def test_unix_sockets_on_both_sides(self, live: Live) -> None:
        with short_directory() as directory, ExitStack() as stack:
            backend = Recording(default=large(2_000_000), path=f"{directory}/b", keep_bodies=False)
            stack.callback(backend.stop)
            text = f'[[listener]]\nname = "in"\nbind = "unix:{directory}/f"\nprotocol = "http"\npool = "out"\n'
            live.serve_text(text + http_pool("out", backend.address))
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(f"{directory}/f")
            with RawClient(sock=sock) as client:
                for _ in range(2):
                    upload(client, request(b"POST", fields=((b"Content-Length", b"1000000"),)), 1_000_000)
                    assert hashlib.sha256(client.answer().body).hexdigest() == digest(2_000_000)
            assert [asked.digest for asked in backend.wait_for(2)] == [digest(1_000_000)] * 2

    def test_ipv6(self, live: Live) -> None:
        backend = live.recording(host="::1")
        port = live.ports.reserve("::1")
        text = f'[[listener]]\nname = "in"\nbind = "[::1]:{port}"\nprotocol = "http"\npool = "out"\n'
        live.serve_text(text + http_pool("out", backend.address))
        with live.client(port, host="::1") as client:
            assert client.ask(host=b"[::1]").status == 200
        assert backend.wait_for(1)[0].get(b"x-forwarded-for") in (b"::1", b"[::1]")

    def test_the_address_in_a_proxy_header_is_the_client(self, live: Live) -> None:
        backend = live.recording()
        live.serve(backend.address, listener='proxy_protocol = { from = "127.0.0.0/8" }')
        with live.client() as client:
            client.send(b"PROXY TCP4 192.0.2.77 192.0.2.1 5555 80\r\n" + request() + request())
            assert (client.answer().status, client.answer().status) == (200, 200)
        assert {asked.get(b"x-forwarded-for") for asked in backend.wait_for(2)} == {b"192.0.2.77"}
        assert {record["client"] for record in live.records(2)} == {"192.0.2.77:5555"}

    @pytest.mark.parametrize("fields", [(), CHUNKED])
    def test_backends_of_http_1_0(self, live: Live, fields: Fields) -> None:
        backend = live.recording()
        live.serve(backend.address, pool='http = { version = "1.0" }')
        with live.client() as client:
            assert client.ask().body == b"ok"
            body = chunked(b"body") if fields else b"body"
            assert client.ask(b"POST", b"/", fields, body).status == (411 if fields else 200)
        assert {asked.version for asked in backend.requests} == {b"HTTP/1.0"}
        assert not any(asked.all(b"transfer-encoding") for asked in backend.requests)


class TestManyAtOnce:
    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    def test_curl_with_everything(self, live: Live, tmp_path: Path) -> None:
        backend = live.recording(lambda asked: large(700_000, framing="chunked" if asked.path == "/c" else "length"))
        port = live.serve(backend.address)
        body = tmp_path / "body"
        body.write_bytes(b"".join(blocks(2_000_000)))
        base = ["curl", "-sS", "--max-time", "15", "-o", str(tmp_path / "#1"), f"http://127.0.0.1:{port}/{{a,b,c,d}}"]
        for more in (
            [],
            ["-T", str(body)],
            ["-d", f"@{body}"],
            ["--http1.0"],
            ["-H", "Transfer-Encoding: chunked", "-T", str(body)],
        ):
            subprocess.run([*base, *more], check=True, timeout=PATIENCE, capture_output=True)
            for name in "abcd":
                assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest(700_000)

    def test_a_thousand_idle_connections_do_not_slow_the_others(self, live: Live) -> None:
        """W5, scenario 74, smaller"""
        backend = live.recording()
        live.serve(backend.address)
        idle = []
        for _ in range(1000):
            client = live.client()
            client.send(request())
            idle.append(client)
        for client in idle:
            assert client.answer().status == 200
        until(lambda: live.proxy.status()["sessions"] == 1000, "all are there")
        slowest = 0.0
        with live.client() as busy:
            for _ in range(50):
                began = time.monotonic()
                assert busy.ask().status == 200
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < 0.3
        for client in idle[::50]:
            assert client.ask().status == 200
        for client in idle:
            client.close()

    def test_clients_killed_in_the_middle_leave_nothing(self, live: Live) -> None:
        """Scenario 80, smaller"""
        gate = Gate()
        backend = live.recording({"/slow": gate}, default=large(1_000_000))
        live.serve(backend.address, pool='max_active = "none"')
        clients = [live.client() for _ in range(300)]
        for number, client in enumerate(clients):
            client.send(request(target=b"/slow" if number % 3 else b"/") if number % 2 else b"GET /half")
        until(lambda: len(backend.requests) == 150, "they are under way")
        for number, client in enumerate(clients):
            if number % 4 < 2:
                client.reset()
            else:
                client.close()
        # A FIN is no reason to go: those 50 may still read what they have asked for.
        until(lambda: live.proxy.status()["sessions"] == 50, "who is gone is forgotten", 5.0)
        gate.open()
        until(lambda: live.proxy.status()["sessions"] == 0, "all are gone", 5.0)


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select"])
def test_stock_reactors_do_the_same(
    start: Callable[..., Lbproxy], ports: Ports, stack: ExitStack, reactor: str
) -> None:
    """The sockets work on every reactor of Twisted that has readers and writers, only slower"""
    backend = Recording({"/big": large(3_000_000), "/413": Answer(413, early=True, end="close")})
    stack.callback(backend.stop)
    port = ports.reserve()
    site = http_site(port, backend.address, pool='outlier = false\ntimeouts = { response_head = "400ms" }')
    proxy = start(site, twistd=("-r", reactor))
    with RawClient(port) as client:
        for _ in range(5):
            assert client.ask().status == 200
            assert client.ask(b"POST", body=b"x" * 300_000).status == 200
            assert hashlib.sha256(client.ask(target=b"/big").body).hexdigest() == digest(3_000_000)
        client.send(request(b"POST", b"/413", ((b"Content-Length", b"5000000"),)))
        sending = Pushing(client, blocks(5_000_000))
        assert client.answer().status == 413
        sending.hang_up()
    with RawClient(port) as client:
        client.send(request(target=b"/big"))
        assert client.take(1000)
        client.reset()
    gate = Gate()
    backend.answers = {"/slow": gate}
    with RawClient(port) as client:
        assert client.ask(target=b"/slow").status == 504
        assert client.ask().status == 200
    gate.open()
    proxy.wait_until_idle()
    assert proxy.status()["held_bytes"] == 0
