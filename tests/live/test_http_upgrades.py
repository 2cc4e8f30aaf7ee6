"""Upgrades: what becomes a tunnel, what does not, and WebSocket with a library that knows nothing of lbproxy."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import ServerConnection, serve

from tests.live.harness import until
from tests.live.http_peers import Answer, Do, request, upgraded
from tests.live.http_scripts import OK, Live, all_at_once, once, rest_of
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE

UPGRADE = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
CHANGE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class TestRaw:
    @pytest.mark.parametrize(
        "fields",
        [
            UPGRADE,
            ((b"Connection", b"keep-alive, upgrade"), (b"Upgrade", b"WebSocket")),
            ((b"Connection", b"keep-alive"), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")),
        ],
    )
    def test_a_true_101_makes_a_tunnel(self, live: Live, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """C7"""
        backend = live.recording(default=upgraded())
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(fields=fields))
            answer = client.answer(upgrade=True)
            assert (answer.status, (answer.get(b"upgrade") or b"").lower()) == (101, b"websocket")
            assert b"upgrade" in (answer.get(b"connection") or b"").lower()
            for number in range(5):
                client.send(b"%d" % number * 1000)
                assert client.take(1000) == b"%d" % number * 1000
            client.half_close()
            assert client.was_closed()
        (asked,) = backend.wait_for(1)
        assert (asked.get(b"connection") or b"").lower() == b"upgrade"
        assert (asked.get(b"upgrade") or b"").lower() == b"websocket"
        record = live.record()
        assert (record["status"], record["outcome"], record["backend"]) == (101, "ok", backend.address)
        assert record["bytes_in"] >= 5000
        assert record["bytes_out"] >= 5000

    def test_bytes_in_front_of_the_101_are_held_until_it_comes(self, live: Live) -> None:
        """C7"""
        heard: list[bytes] = []

        def slow(conn: socket.socket) -> None:
            data = b""
            while b"\r\n\r\n" not in data:
                data += conn.recv(65536)
            time.sleep(0.15)
            heard.append(data.partition(b"\r\n\r\n")[2])
            conn.sendall(CHANGE + b"first words")
            heard.append(conn.recv(65536))
            conn.sendall(b"answer")
            conn.recv(1)

        live.serve(live.scripted(slow).address)
        with live.client() as client:
            client.send(request(fields=UPGRADE) + b"early")
            assert client.answer(upgrade=True).status == 101
            assert client.take(17) == b"first wordsanswer"
        assert heard == [b"", b"early"]

    @pytest.mark.parametrize("status", [200, 401, 404, 426])
    def test_an_ordinary_answer_is_one_and_then_the_client_is_closed(self, live: Live, status: int) -> None:
        """C7: what comes behind the request may be the other protocol already"""
        backend = live.recording(default=Answer(status, body=b"no tunnel"))
        live.serve(backend.address)
        with live.client() as client:
            client.send(request(fields=UPGRADE) + request(target=b"/smuggled"))
            answer = client.answer()
            assert (answer.status, answer.body, answer.get(b"connection")) == (status, b"no tunnel", b"close")
            assert client.was_closed()
        assert [asked.target for asked in backend.wait_for(1)] == [b"/"]

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
            b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n",
            b"HTTP/1.1 101 X\r\n\r\n",
            b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        ],
    )
    def test_a_wrong_101_is_a_502(self, live: Live, answer: bytes) -> None:
        """C10"""
        backend = live.evil(once(answer, Do.READ_ALL))
        live.serve(backend.address, pool="outlier = false")
        with live.client() as client:
            client.send(request(fields=UPGRADE))
            assert client.answer().status == 502
            assert client.was_closed()
        record = live.record()
        assert (record["outcome"], record["state"][:2]) == ("upgrade", "PH")

    def test_an_unasked_101_is_a_502_and_no_tunnel(self, live: Live) -> None:
        """C10"""
        backend = live.evil(once(CHANGE, Do.READ_ALL))
        live.serve(backend.address, pool="outlier = false")
        with live.client() as client:
            client.send(request() + request(target=b"/behind"))
            assert client.answer().status == 502
            assert client.was_closed()
        assert all(b"/behind" not in heard for heard in backend.heard)

    @pytest.mark.parametrize(
        ("method", "version", "fields", "body"),
        [
            (b"GET", b"HTTP/1.1", ((b"Upgrade", b"websocket"),), None),
            (b"GET", b"HTTP/1.1", ((b"Upgrade", b"websocket"), (b"Connection", b"keep-alive")), None),
            (b"GET", b"HTTP/1.0", UPGRADE, None),
            (b"POST", b"HTTP/1.1", UPGRADE, b"body"),
            (b"GET", b"HTTP/1.1", ((b"Connection", b"Upgrade"), (b"Upgrade", b"other")), None),
            (
                b"GET",
                b"HTTP/1.1",
                (
                    (b"Connection", b"Upgrade, HTTP2-Settings"),
                    (b"Upgrade", b"h2c"),
                    (b"HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA"),
                ),
                None,
            ),
        ],
        ids=["no Connection", "other Connection", "HTTP/1.0", "with a body", "other protocol", "h2c"],
    )
    def test_what_is_no_upgrade_is_an_ordinary_request(
        self, live: Live, method: bytes, version: bytes, fields: tuple[tuple[bytes, bytes], ...], body: bytes | None
    ) -> None:
        """C8, C9"""
        backend = live.recording()
        live.serve(backend.address)
        with live.client() as client:
            assert client.ask(method, b"/", fields, body, version=version).body == b"ok"
            if version == b"HTTP/1.1":
                assert client.ask().body == b"ok"
        asked = backend.wait_for(1)[0]
        assert asked.all(b"upgrade") == asked.all(b"http2-settings") == asked.all(b"connection") == []

    def test_a_route_lists_its_own_protocols(self, live: Live) -> None:
        """C9"""
        backend = live.recording(default=upgraded(b"other"))
        route = '[[route]]\nlistener = "in"\npool = "out"\nupgrades = ["other"]\n'
        live.serve(backend.address, more=route)
        with live.client() as client:
            client.send(request(fields=((b"Connection", b"Upgrade"), (b"Upgrade", b"other"))))
            assert client.answer(upgrade=True).status == 101
            client.send(b"hello")
            assert client.take(5) == b"hello"

    def test_an_upgrade_is_never_sent_twice(self, live: Live) -> None:
        backend = live.evil((Do.READ_HEAD, OK, 0.1), (Do.READ_HEAD,))
        route = '[[route]]\nlistener = "in"\npool = "out"\nretry = "idempotent"\n'
        live.serve(backend.address, pool="outlier = false", more=route)
        with live.client() as client:
            assert client.ask().status == 200
            client.send(request(fields=UPGRADE))
            assert client.answer().status == 502
        assert sum(b"Upgrade: websocket" in bytes(heard) for heard in backend.heard) <= 1

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_reset_is_passed_on(self, live: Live, who: str) -> None:
        """Scenario 66"""
        ended = threading.Event()
        resets: list[bool] = []

        def stay(conn: socket.socket, ahead: bytes) -> None:
            if who == "backend":
                conn.recv(1)
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                conn.close()
            else:
                try:
                    while conn.recv(100):
                        pass
                    resets.append(False)
                except ConnectionError:
                    resets.append(True)
            ended.set()

        live.serve(live.recording(default=upgraded(then=stay)).address)
        with live.client() as client:
            client.send(request(fields=UPGRADE))
            assert client.answer(upgrade=True).status == 101
            client.send(b"x")
            if who == "client":
                time.sleep(0.05)
                client.reset()
                assert ended.wait(PATIENCE)
                assert resets == [True]
            else:
                assert rest_of(client.sock)[1]
        record = live.record()
        assert record["state"][:2] == ("CD" if who == "client" else "SD")
        until(lambda: live.proxy.pool()["active"] == 0, "the slot is free", 1.0)

    def test_an_idle_tunnel_ends(self, live: Live) -> None:
        """W7"""
        live.serve(live.recording(default=upgraded()).address, pool='timeouts = { tunnel_idle = "400ms" }')
        with live.client() as client:
            client.send(request(fields=UPGRADE))
            assert client.answer(upgrade=True).status == 101
            for _ in range(4):
                time.sleep(0.2)
                client.send(b"ping")
                assert client.take(4) == b"ping"
            began = time.monotonic()
            rest_of(client.sock)
            assert 0.3 < time.monotonic() - began < 1.2
        assert live.record()["timer"] == "tunnel_idle"


class TestWebSocket:
    def test_messages_of_all_sizes_and_the_closing_handshake(self, live: Live) -> None:
        def echo(ws: ServerConnection) -> None:
            for message in ws:
                ws.send(message)

        with serve(echo, "127.0.0.1", 0, max_size=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            port = live.serve(f"127.0.0.1:{server.socket.getsockname()[1]}")
            with connect_websocket(f"ws://127.0.0.1:{port}/chat?x=1", max_size=None) as ws:
                for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000):
                    message = os.urandom(size)
                    ws.send(message)
                    assert ws.recv(PATIENCE) == message
                ws.send("text")
                assert ws.recv(PATIENCE) == "text"
                assert ws.ping().wait(PATIENCE)
                ws.close(4000, "bye")
            assert ws.close_code == 4000
            server.shutdown()
        record = live.record()
        assert (record["status"], record["outcome"], record["path"]) == (101, "ok", "/chat")

    def test_many_at_once_with_bulk_both_ways(self, live: Live) -> None:
        def echo(ws: ServerConnection) -> None:
            for message in ws:
                assert isinstance(message, bytes)
                ws.send(hashlib.sha256(message).digest() + message)

        with serve(echo, "127.0.0.1", 0, max_size=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            port = live.serve(f"127.0.0.1:{server.socket.getsockname()[1]}")

            def talk() -> None:
                with connect_websocket(f"ws://127.0.0.1:{port}/", max_size=None, compression=None) as ws:
                    for _ in range(3):
                        message = os.urandom(700_000)
                        ws.send(message)
                        answer = ws.recv(PATIENCE)
                        assert answer == hashlib.sha256(message).digest() + message

            all_at_once([talk] * 6)
            server.shutdown()
        assert {record["outcome"] for record in live.records(6)} == {"ok"}

    def test_a_reload_closes_none(self, live: Live) -> None:
        """Section 20, scenario 66"""

        def echo(ws: ServerConnection) -> None:
            for message in ws:
                ws.send(message)

        with serve(echo, "127.0.0.1", 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"127.0.0.1:{server.socket.getsockname()[1]}"
            port = live.serve(address)
            with connect_websocket(f"ws://127.0.0.1:{port}/") as ws:
                for number in range(5):
                    live.serve(address) if number % 2 else live.serve_text("")
                    ws.send(f"{number}")
                    assert ws.recv(PATIENCE) == f"{number}"
            server.shutdown()

    def test_a_server_that_goes_away_is_seen(self, live: Live) -> None:
        def leave(ws: ServerConnection) -> None:
            ws.recv()
            ws.close(1001, "going")

        with serve(leave, "127.0.0.1", 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            port = live.serve(f"127.0.0.1:{server.socket.getsockname()[1]}")
            with connect_websocket(f"ws://127.0.0.1:{port}/") as ws:
                ws.send("x")
                with pytest.raises(ConnectionClosed):
                    ws.recv(PATIENCE)
                assert ws.close_code == 1001
            server.shutdown()
