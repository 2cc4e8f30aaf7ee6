"""Fixtures: ports, lbproxy processes and backends that end with their test, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.live.harness import Lbproxy, Ports
from tests.live.peers import Backend, Script, Stream

# These have the longest tests: whoever runs them last would be waited for by all others.
_FIRST = ("test_tls_scanners.py", "test_tls_clients.py", "test_tls_reload.py", "test_tls_table.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; else the order stays."""
    items.sort(key=lambda item: item.path.name not in _FIRST)


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports for this test alone."""
    held = Ports()
    yield held
    held.release()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever has to end with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack: ExitStack, ports: Ports) -> Callable[..., Lbproxy]:
    """Starts an lbproxy; the arguments are those of Lbproxy."""

    def begin(text: str, **options: object) -> Lbproxy:
        proxy = Lbproxy(text, **options)  # type: ignore[arg-type]  # passed on as they are
        stack.callback(proxy.end)
        return proxy

    return begin


@pytest.fixture
def backend(stack: ExitStack) -> Callable[..., Backend]:
    """Starts a scripted backend; the arguments are those of Backend."""

    def begin(script: Script, **options: object) -> Backend:
        server = Backend(script, **options)  # type: ignore[arg-type]  # passed on as they are
        stack.callback(server.stop)
        return server

    return begin


@pytest.fixture
def stream(stack: ExitStack) -> Callable[[int], Stream]:
    """Starts a background stream of requests to an echo behind this port; it must end without an error."""

    def begin(port: int) -> Stream:
        running = Stream(port)
        stack.callback(running.stop)
        return running

    return begin
