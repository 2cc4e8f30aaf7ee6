"""The benchmark's rows of the cache and of compression: what peers are told, what is served to them, what is read."""

import gzip
import http.client
import os
import re
import socket
import tempfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from bench.cache_load import Answer, ask
from bench.cache_serve import ASKED, HUNDRED, ITEMS, RELEASE, TEXT_SIZE, CacheBackend, content, stored_answer
from bench.http_serve import chunked_answer
from bench.load import LoadFailed
from bench.peers import lbproxy
from bench.peers_cache import LEVELS, nginx_cache_configuration
from bench.peers_http import haproxy_configuration
from bench.places import Front, Place
from bench.rows_cache import nearest, packed, unpack
from bench.tls import Material
from lbproxy.config.loading import loads

NOWHERE = Material(Path("certificate"), Path("key"), Path("both"), Path("client"), Path("wrk"))


def place(front: Front, directory: Path = Path("/nowhere")) -> Place:
    """Where nobody will ever run."""
    return Place(directory, 4711, (1, 2), 4096, front, NOWHERE)


class ConfigurationTests(SynchronousTestCase):
    """What the peers are told."""

    def test_lbproxy(self) -> None:
        """One route stores or compresses, and lbproxy itself has nothing against the file."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        wanted: dict[Front, object] = {
            "cache": {"cache": True},
            "gzip": {"compress": {"codings": ["gzip"]}},
            "zstd": {"compress": {"codings": ["zstd"]}},
        }
        for front, keys in wanted.items():
            lbproxy(place(front, Path(directory.name)))
            text = (Path(directory.name) / "lbproxy.toml").read_text()
            assert isinstance(keys, dict)
            assert tomllib.loads(text)["route"] == [{"path": "/", "pool": "bench", **keys}]
            assert [str(problem) for problem in loads(text, "lbproxy.toml").problems] == []

    def test_stores(self) -> None:
        """nginx and HAProxy store where the row is of the cache, and nowhere else."""
        for front in ("cache", "gzip"):
            stores = front == "cache"
            assert ("proxy_cache bench" in nginx_cache_configuration(place(front))) is stores
            assert ("cache-use" in haproxy_configuration(place(front))) is stores
            assert ("gzip on" in nginx_cache_configuration(place(front))) is not stores
            assert ("compression algo gzip" in haproxy_configuration(place(front))) is not stores
        assert "cache-use" not in haproxy_configuration(place("http"))
        assert "compression" not in haproxy_configuration(place("http"))

    def test_levels(self) -> None:
        """The first part of a path chooses nginx's level."""
        found = re.findall(r"location /(\d)/ \{[^}]*gzip_comp_level (\d);", nginx_cache_configuration(place("zstd")))
        assert found == [(str(level), str(level)) for level in LEVELS]

    def test_logs(self) -> None:
        """Both log in either case."""
        for front in ("cache", "gzip"):
            assert "access_log /nowhere/access.log" in nginx_cache_configuration(place(front))
            assert "option httplog" in haproxy_configuration(place(front))


class ServedTests(SynchronousTestCase):
    """The backend."""

    def setUp(self) -> None:
        """A backend of this process, which ends with it: it has no other end."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.backend = CacheBackend([self.port])
        self.going = True
        self.serving = threading.Thread(target=self.serve)
        self.serving.start()
        self.addCleanup(self.end)

    def serve(self) -> None:
        """As `run`, until the test is over."""
        while self.going:
            for descriptor, _ in self.backend.epoll.poll(0.05):
                if descriptor in self.backend.listening:
                    self.backend._accept(self.backend.listening[descriptor])
                elif not self.backend.ready(self.backend.connections[descriptor]):
                    self.backend.connections.pop(descriptor).close()

    def end(self) -> None:
        """End the thread, then close what it had."""
        self.going = False
        self.serving.join()
        sockets = (*self.backend.connections.values(), *self.backend.listening.values())
        for one in sockets:
            one.close()
        self.backend.epoll.close()
        for descriptor, _ in self.backend.answers.values():
            os.close(descriptor)

    def get(self, path: str) -> bytes:
        """The body of a path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        self.addCleanup(connection.close)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else b"%d" % answer.status

    def test_bodies(self) -> None:
        """Each path has its body, and each item one of its own; others have none."""
        for path, size in (("/1k", 1024), ("/100k", HUNDRED), ("/4/text", TEXT_SIZE), ("/item/7", 1024)):
            body = self.get(path)
            assert len(body) == size
            assert body == content(path)
        assert len({content(f"/item/{number}") for number in range(ITEMS)}) == ITEMS
        assert self.get("/nothing") == b"404"

    def test_asked(self) -> None:
        """It is told how often a path was asked for; telling does not count."""
        assert ask(self.port, f"{ASKED}/1k") == 0
        self.get("/1k")
        self.get("/1k")
        self.get("/100k")
        assert [ask(self.port, f"{ASKED}{path}") for path in ("/1k", "/100k", "/1k")] == [2, 1, 2]

    def test_cold(self) -> None:
        """A cold path is answered when it is released, to all who asked for it before and who ask later."""
        waiting = [socket.create_connection(("127.0.0.1", self.port), timeout=5) for _ in range(3)]
        for number, one in enumerate(waiting):
            self.addCleanup(one.close)
            one.sendall(b"GET /cold/%d HTTP/1.1\r\n\r\n" % (number // 2))
            while ask(self.port, f"{ASKED}/cold/{number // 2}") != 1 + number % 2:
                pass
        assert ask(self.port, f"{RELEASE}/cold/0") == 2
        for one in waiting[:2]:
            answer = Answer(one)
            while not answer.read():
                pass
            assert answer.body == HUNDRED
        waiting[2].setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting[2].recv(1)
        assert self.get("/cold/0") == content("/cold/0")
        assert ask(self.port, f"{ASKED}/cold/0") == 3


class ReadTests(SynchronousTestCase):
    """What the clients make of answers."""

    def answered(self, data: bytes, step: int) -> Answer:
        """The answer read from *data* in pieces; it must be whole with the last one, and not before."""
        there, here = socket.socketpair()
        self.addCleanup(there.close)
        self.addCleanup(here.close)
        here.settimeout(5)
        answer = Answer(here)
        for start in range(0, len(data), step):
            there.sendall(data[start : start + step])
            assert answer.read() is (start + step >= len(data))
        return answer

    def test_length(self) -> None:
        """A body ends where its length says, wherever it is cut."""
        data = stored_answer("/1k")
        for step in (1, 7, len(data)):
            assert self.answered(data, step).body == 1024

    def test_chunks(self) -> None:
        """Chunks are counted without their frames; what looks like the last one within a body is not taken for it."""
        data = chunked_answer(20_000)
        for step in (977, len(data)):
            assert self.answered(data, step).body == 20_000
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        content_of = b"\r\n0\r\n\r\n"
        data = head + (b"%x\r\n%b\r\n" % (len(content_of), content_of)) * 3 + b"0\r\n\r\n"
        for step in (1, 5, len(data)):
            answer = self.answered(data, step)
            assert answer.body == 3 * len(content_of)
            assert answer.coding == b"gzip"

    def test_no_good_answer(self) -> None:
        """Errors and ends are failures."""
        for data, words in ((b"HTTP/1.1 503 No\r\n\r\n", "not a good answer"), (b"", "closed")):
            there, here = socket.socketpair()
            self.addCleanup(here.close)
            there.sendall(data)
            there.close()
            with pytest.raises(LoadFailed, match=words):
                Answer(here).read()

    def test_nearest(self) -> None:
        """The level whose ratio is nearest is chosen, be it above or below."""
        ratios = {1: 3.4, 2: 3.6, 3: 4.0}
        assert [nearest(ratios, wanted) for wanted in (1.0, 3.55, 3.9, 9.0)] == [1, 2, 3, 3]

    def test_packed(self) -> None:
        """A text that is not what the backend has, is not packed or cannot be unpacked is no measurement."""
        text = content("/text")
        answers: list[tuple[bytes, bytes, str]] = [
            (b"gzip", gzip.compress(text, 1), ""),
            (b"gzip", gzip.compress(text[:-1], 1), "another text"),
            (b"gzip", gzip.compress(text, 1)[:-9], "cannot be unpacked"),
            (b"identity", text, "identity"),
        ]
        for coding, body, words in answers:
            port = self.serve_once(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (coding, len(body), body)
            )
            if words:
                with pytest.raises(LoadFailed, match=words):
                    packed(port, "/text", "gzip")
            else:
                assert packed(port, "/text", "gzip") == len(text) / len(body)

    def test_unpack(self) -> None:
        """zstd is unpacked where a module for it is there, and what is none is refused."""
        with pytest.raises(LoadFailed, match="zstd"):
            unpack(b"no frame", "zstd")

    def serve_once(self, answer: bytes) -> int:
        """The port on which one request is answered so."""
        listening = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        ending: list[Callable[[], object]] = [listening.close, serving.join]
        for end in ending:
            self.addCleanup(end)
        port: int = listening.getsockname()[1]
        return port
