"""A whole service on a reactor that is turned by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lbproxy.addresses import Address
from lbproxy.config import Loaded
from lbproxy.model import (
    BackendSettings,
    CheckSettings,
    Configuration,
    ControlSettings,
    LimitSettings,
    ListenerSettings,
    PoolSettings,
    RecordSettings,
    StopSettings,
)
from lbproxy.net.reactor import ProxyReactor
from lbproxy.service.proxy import ProxyService
from tests.net.net_rig import hand_reactor, put, take_all, tcp_listener, turn

QUIET = CheckSettings(enabled=False)


def free_port() -> int:
    """A port that nobody has."""
    with tcp_listener() as sock:
        port: int = sock.getsockname()[1]
        return port


def at(port: int) -> Address:
    return Address("ip", "127.0.0.1", port)


def pool(name: str, *ports: int, **rest: Any) -> PoolSettings:
    """A pool with backends "b0" and so on at these ports, without checks."""
    rest.setdefault("check", QUIET)
    return PoolSettings(name, tuple(BackendSettings(f"b{n}", at(port)) for n, port in enumerate(ports)), **rest)


def configured(listeners: dict[str, list[int]], pools: tuple[PoolSettings, ...], **rest: Any) -> Configuration:
    """Listeners by name with their ports; all of them go to the first pool."""
    rest.setdefault("records", RecordSettings("none"))
    rest.setdefault("limits", LimitSettings(max_connections=100))
    return Configuration(
        tuple(ListenerSettings(name, tuple(map(at, ports)), pool=pools[0].name) for name, ports in listeners.items()),
        pools,
        **rest,
    )


class Running:
    """A service that runs, with somebody to ask it."""

    def __init__(self, reactor: ProxyReactor, configuration: Configuration, load: Callable[[], Loaded] | None) -> None:
        self.reactor = reactor
        self.seen: list[Any] = []
        self.service = ProxyService(configuration, reactor, load, self.seen.append, chance=lambda: 0.5)
        self.service.privilegedStartService()
        self.service.startService()

    def connect(self, port: int) -> socket.socket:
        """A client; the service has had its turn."""
        client = socket.create_connection(("127.0.0.1", port))
        client.setblocking(False)
        turn(self.reactor)
        return client

    def http(self, path: Path | str, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, fields and body of the answer to these bytes."""
        with socket.socket(socket.AF_UNIX) as client:
            name = str(path)
            client.connect("\0" + name[1:] if name.startswith("@") else name)
            client.setblocking(False)
            got, sent = bytearray(), 0

            def answered() -> bool:
                nonlocal sent
                try:
                    sent += put(client, request[sent:])
                except BrokenPipeError:
                    sent = len(request)
                more, ended = take_all(client)
                got.extend(more)
                return ended

            turn(self.reactor, answered)
        head, _, body = bytes(got).partition(b"\r\n\r\n")
        first, *rest = head.split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in rest)}
        return int(first.split()[1]), fields, body

    def ask(
        self, path: Path | str, method: str, target: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, Any]:
        """Status and decoded JSON."""
        length = f"Content-Length: {len(body)}\r\nContent-Type: {kind}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}\r\n"
        status, _, answer = self.http(path, head.encode() + body)
        return status, json.loads(answer) if answer else None

    def stop(self) -> None:
        if self.service.running or self.service.stopping.state == "serving":
            self.service.stopping.end()
            self.service.stopService()
            self.service.stopping.end()
            turn(self.reactor)


@contextmanager
def running(configuration: Configuration, load: Callable[[], Loaded] | None = None) -> Iterator[Running]:
    """A service, started and stopped."""
    with hand_reactor() as reactor:
        made = Running(reactor, configuration, load)
        try:
            yield made
        finally:
            made.stop()


__all__ = ["ControlSettings", "Running", "StopSettings", "at", "configured", "free_port", "pool", "running"]
