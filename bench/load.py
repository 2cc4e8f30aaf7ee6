"""The clients, run as a child: ``python -m bench.load KIND key=value...``; one line of JSON is the result.

Every load ends by itself, by time or by count, whichever is first. Kinds:

- ``closed``   keep-alive connections, each asks again as soon as it is answered
- ``open``     requests at a fixed rate, whatever the answers do; latency counts from the *intended* moment
- ``connect``  a connection for each request; the client closes first
- ``bulk``     streams read and thrown away
- ``hold``     connections held open; how many is read line by line from standard input
"""

import json
import math
import os
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
ANSWER_END = b"hello world\n"

MAX_REQUESTS = 2_000_000
MAX_CONNECTIONS = 100_000
MAX_BULK_BYTES = 64 * 1024**3

CLIENTS = 64
"""Client addresses that kept connections come from."""

SETTLE = 10.0
"""Seconds after which a connection that gives no answer is an error."""

Result = dict[str, float]


class LoadFailed(Exception):
    """The proxy refused, closed or stayed silent."""


class Connection(Protocol):
    """What the loads that keep connections use of one: a socket, or TLS over it (`bench.tls_load`)."""

    def fileno(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def send(self, data: bytes, /) -> int: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...


Dial = Callable[[int, int], Connection]
"""Connects to a port; the second number is that of the connection."""


def connect(port: int, number: int = 0) -> socket.socket:
    """A connection to the proxy. On loopback the handshake ends inside ``connect``, so blocking costs nothing.

    Many connections come from many client addresses: a proxy may limit what one client holds when it is nearly full.
    """
    source = (f"127.0.1.{1 + number % CLIENTS}", 0)
    connection = socket.create_connection(("127.0.0.1", port), timeout=SETTLE, source_address=source)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answer(connection: Connection) -> None:
    """Wait for one whole answer on a blocking connection."""
    data = b""
    while not data.endswith(ANSWER_END):
        chunk = connection.recv(4096)
        if not chunk:
            raise LoadFailed("the proxy closed a connection before the answer")
        data += chunk


def open_connections(port: int, count: int, first: int = 0, dial: Dial = connect) -> list[Connection]:
    """Connections on which one request was already answered: both directions are known to work."""
    connections = []
    for number in range(first, first + count):
        connection = dial(port, number)
        connection.sendall(REQUEST)
        read_answer(connection)
        connections.append(connection)
    return connections


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in order."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def closed(port: int, connections: int, seconds: float, dial: Dial = connect) -> Result:
    """As many requests as go, one at a time on each connection."""
    sockets = {connection.fileno(): connection for connection in open_connections(port, connections, dial=dial)}
    epoll = select.epoll()
    for connection in sockets.values():
        connection.setblocking(False)
        epoll.register(connection.fileno(), select.EPOLLIN)
        connection.send(REQUEST)
    answered = 0
    begin = now = time.perf_counter()
    while now < begin + seconds and answered < MAX_REQUESTS:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no answer on any connection")
        for descriptor, _ in ready:
            connection = sockets[descriptor]
            try:
                data = connection.recv(4096)
            except BlockingIOError:
                # What came was TLS's own affair.
                continue
            if data.endswith(ANSWER_END):
                answered += 1
                connection.send(REQUEST)
            elif not data:
                raise LoadFailed("the proxy closed a kept connection")
        now = time.perf_counter()
    return {"requests": answered, "seconds": now - begin}


def open_loop(port: int, connections: int, seconds: float, rate: float) -> Result:
    """Request number i is due at i / rate. With no connection free it waits here, and the wait counts."""
    # Timers are 50 us late by default; the precision wanted here is of that order.
    Path("/proc/self/timerslack_ns").write_text("1")
    sockets = {connection.fileno(): connection for connection in open_connections(port, connections)}
    epoll = select.epoll()
    for connection in sockets.values():
        connection.setblocking(False)
        epoll.register(connection.fileno(), select.EPOLLIN)
    free = deque(sockets.values())
    due_of: dict[int, float] = {}
    latencies, lateness = array("d"), array("d")
    total = min(MAX_REQUESTS, int(rate * seconds))
    issued = 0
    begin = time.perf_counter() + 0.01
    give_up = begin + seconds + SETTLE
    clock = time.perf_counter
    while len(latencies) < total:
        now = clock()
        if now > give_up:
            raise LoadFailed(f"{total - len(latencies)} of {total} requests were not answered in time")
        while issued < total and free and (due := begin + issued / rate) <= now:
            connection = free.popleft()
            due_of[connection.fileno()] = due
            connection.send(REQUEST)
            now = clock()
            lateness.append(now - due)
            issued += 1
        # epoll waits in whole milliseconds; select on the epoll descriptor waits in microseconds.
        wait = max(0.0, begin + issued / rate - now) if issued < total and free else 0.1
        if wait and not select.select([epoll], [], [], wait)[0]:
            continue
        for descriptor, _ in epoll.poll(0):
            connection = sockets[descriptor]
            data = connection.recv(4096)
            if data.endswith(ANSWER_END):
                latencies.append(clock() - due_of[descriptor])
                free.append(connection)
            elif not data:
                raise LoadFailed("the proxy closed a kept connection")
    ordered = sorted(latencies)
    return {
        "requests": total,
        "p50": percentile(ordered, 0.50),
        "p99": percentile(ordered, 0.99),
        "p999": percentile(ordered, 0.999),
        "late_p99": percentile(sorted(lateness), 0.99),
    }


def connect_loop(port: int, parallel: int, seconds: float) -> Result:
    """Connect, ask, read, close; then the next. *parallel* connections are under way at any moment."""
    sockets: dict[int, socket.socket] = {}
    epoll = select.epoll()
    target = ("127.0.0.1", port)

    def begin_one() -> None:
        connection = socket.socket()
        connection.connect(target)
        connection.send(REQUEST)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)

    for _ in range(parallel):
        begin_one()
    done = 0
    begin = now = time.perf_counter()
    while now < begin + seconds and done < MAX_CONNECTIONS:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no answer on any connection")
        for descriptor, _ in ready:
            data = sockets[descriptor].recv(4096)
            if data.endswith(ANSWER_END):
                sockets.pop(descriptor).close()
                done += 1
                begin_one()
            elif not data:
                raise LoadFailed("the proxy closed a connection before the answer")
        now = time.perf_counter()
    for connection in list(sockets.values()):
        connection.settimeout(SETTLE)
        read_answer(connection)
        connection.close()
        done += 1
    return {"connections": done, "seconds": now - begin}


def bulk(port: int, streams: int, seconds: float) -> Result:
    """Read *streams* endless downloads. MSG_TRUNC drops the bytes in the kernel: the sink copies nothing."""
    buffer = bytearray(1024 * 1024)
    epoll = select.epoll()
    sockets = {}
    for _ in range(streams):
        connection = connect(port)
        connection.sendall(REQUEST)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)
    received = 0
    begin = now = time.perf_counter()
    while now < begin + seconds and received < MAX_BULK_BYTES:
        ready = epoll.poll(SETTLE)
        if not ready:
            raise LoadFailed("no bytes on any stream")
        for descriptor, _ in ready:
            count = sockets[descriptor].recv_into(buffer, len(buffer), socket.MSG_TRUNC)
            if not count:
                raise LoadFailed("the proxy closed a stream")
            received += count
        now = time.perf_counter()
    return {"bytes": received, "seconds": now - begin}


def hold(port: int, dial: Dial = connect) -> Result:
    """Open connections until as many are held as each line of standard input says; end with the input."""
    held: list[Connection] = []
    for line in sys.stdin:
        held += open_connections(port, int(line) - len(held), len(held), dial)
        print(json.dumps({"held": len(held)}), flush=True)
    return {"held": len(held)}


KINDS: dict[str, Callable[..., Result]] = {
    "closed": closed,
    "open": open_loop,
    "connect": connect_loop,
    "bulk": bulk,
    "hold": hold,
}


def main(kinds: Mapping[str, Callable[..., Result]] = KINDS) -> None:
    """Run one load of *kinds*; a failure is a line of JSON as well."""
    kind, *pairs = sys.argv[1:]
    arguments: dict[str, float] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        arguments[key] = float(value) if "." in value else int(value)
    try:
        result: dict[str, float | str] = {**kinds[kind](**arguments)}
    except (LoadFailed, OSError) as error:
        result = {"error": str(error) or type(error).__name__}
    print(json.dumps(result), flush=True)
    # Closing thousands of connections one by one is the kernel's job, and nobody waits for tidiness.
    os._exit(0)


if __name__ == "__main__":
    main()
