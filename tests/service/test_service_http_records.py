"""What a whole service leaves behind of HTTP: records, counters, and the sessions that the control socket shows."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lbproxy.addresses import NetworkSet
from lbproxy.model import Configuration, ControlSettings, RecordSettings, StopSettings
from tests.net.net_rig import take_all, tcp_listener, turn
from tests.service.service_rig import Running, configured, free_port, pool, running

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Place:
    """A service with an HTTP listener, its control socket and records, and one backend that is played by the test."""

    def __init__(self, made: Running, port: int, end: socket.socket, directory: Path) -> None:
        self.made = made
        self.port = port
        self.end = end
        self.control = directory / "control"
        self._records = directory / "records"

    def records(self) -> list[dict[str, Any]]:
        self.made.service.records.flush()
        return [json.loads(line) for line in self._records.read_text().splitlines()]

    def asks(self, client: socket.socket, request: bytes) -> bytes:
        """What the client is answered by lbproxy itself."""
        client.sendall(request)
        turn(self.made.reactor)
        return take_all(client)[0]

    def backend(self) -> socket.socket:
        """The next connection to the backend."""
        connection, _ = self.end.accept()
        turn(self.made.reactor)
        return connection


@contextmanager
def place(directory: Path, **listener: Any) -> Iterator[Place]:
    port, end = free_port(), tcp_listener()
    wanted: Configuration = configured(
        {"site": [port]},
        (pool("web", end.getsockname()[1]),),
        records=RecordSettings("file", str(directory / "records")),
        control=ControlSettings(str(directory / "control")),
        stop=StopSettings(grace=0.0, hard_stop=60.0),
    )
    wanted = replace(wanted, listeners=(replace(wanted.listeners[0], protocol="http", **listener),))
    with running(wanted) as made:
        yield Place(made, port, end, directory)
    end.close()


def test_requests_are_recorded_and_counted(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        client = here.made.connect(here.port)
        backend: socket.socket | None = None
        for number in range(2):
            client.sendall(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
            turn(here.made.reactor)
            backend = backend or here.backend()
            backend.sendall(ANSWER)
            turn(here.made.reactor)
            given, _ = take_all(client)
            assert given.endswith(b"\r\n\r\nhi")
            record = here.records()[number]
            assert (record["path"], record["status"], record["outcome"]) == ("/a", 200, "ok")
            assert (record["bytes_in"], record["bytes_out"]) == (28, len(given))
            assert (record["reused"], record["request_number"]) == (number == 1, number + 1)
        assert b" 400 " in here.asks(client, b"GET / HTTP/1.1\r\n\r\n")
        assert (here.records()[2]["status"], here.records()[2]["pool"]) == (400, "")
        counters = here.made.service.counters.as_dict()
        assert counters["http_requests"] == {"site": {"2xx": 2, "4xx": 1}}
        assert counters["sessions_ended"] == {"": {"bad_request": 1}, "web": {"ok": 2}}
        assert counters["rules"] == {here.records()[2]["rule"]: 1}
        assert counters["bytes_from_clients"] == sum(one["bytes_in"] for one in here.records())
        assert counters["bytes_from_backends"] == sum(one["bytes_out"] for one in here.records()[:2])
        client.close()
        if backend is not None:
            backend.close()


def test_a_client_that_leaves_has_its_status_in_the_record_only(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        client = here.made.connect(here.port)
        client.sendall(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        turn(here.made.reactor)
        backend = here.backend()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        turn(here.made.reactor)
        (record,) = here.records()
        assert (record["status"], record["outcome"], record["state"]) == (499, "client_gone", "CH--")
        assert (record["bytes_out"], record["t_first_byte_ms"]) == (0, -1)
        backend.close()


def test_a_connection_that_ends_in_its_opening_has_a_record(tmp_path: Path) -> None:
    with place(tmp_path, proxy_from=NetworkSet(["127.0.0.0/8"])) as here:
        client = here.made.connect(here.port)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        turn(here.made.reactor)
        (record,) = here.records()
        assert (record["protocol"], record["outcome"], record["rule"]) == ("http", "proxy_header", "P2")
        assert here.made.service.counters.as_dict()["http_requests"] == {}
        client.close()


def test_a_connection_without_requests_leaves_nothing(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        here.made.connect(here.port).close()
        turn(here.made.reactor)
        assert here.records() == []
        assert here.made.service.total.sessions == 0


def test_sessions_are_shown_with_their_requests(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        client = here.made.connect(here.port)
        status, (idle,) = here.made.ask(here.control, "GET", "/v1/sessions")
        assert (status, idle["phase"], idle["requests"]) == (200, "request", 0)
        client.sendall(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        turn(here.made.reactor)
        backend = here.backend()
        _, (busy,) = here.made.ask(here.control, "GET", "/v1/sessions")
        assert (busy["phase"], busy["pool"], busy["backend"], busy["requests"]) == ("answer", "web", "b0", 1)
        assert (busy["request"], busy["bytes_in"]) == ("GET h/a", 28)
        backend.sendall(ANSWER)
        turn(here.made.reactor)
        assert here.records()[0]["id"] == busy["id"]
        client.close()
        backend.close()


def test_the_last_request_ends_a_stop(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        client = here.made.connect(here.port)
        client.sendall(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        turn(here.made.reactor)
        backend = here.backend()
        done: list[object] = []
        here.made.service.stopService().addBoth(done.append)
        turn(here.made.reactor)
        assert done == []
        backend.sendall(ANSWER)
        turn(here.made.reactor, lambda: done)
        given, _ = take_all(client)
        assert b"\r\nConnection: close\r\n" in given
        (record,) = [json.loads(line) for line in (tmp_path / "records").read_text().splitlines()]
        assert record["outcome"] == "ok"
        client.close()
        backend.close()
