"""One lbproxy that serves many HTTP tests, each with a configuration of its own, and what such tests have in common.

Starting a process takes a second, a reload takes milliseconds. So every test goes over to its own listeners and pools
by a reload, and when it ends the process must be as it was: see `Live.finish`, which is invariant I3. A test module
asks for it by `from tests.live.http_scripts import live_fixture as live_fixture` (and `shared_fixture`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.harness import Lbproxy, Ports, Record, until
from tests.live.http_peers import (
    ID_FIELD,
    Answer,
    Answered,
    Asked,
    Chooses,
    Do,
    EvilBackend,
    RawClient,
    RecordingBackend,
    Step,
    http_listener,
    http_pool,
    http_site,
)
from tests.live.peers import PATIENCE, Backend, Script

# What the clean probe behind every test may take: its usual time is a millisecond or two.
PROBE = 1.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BLOCK = hashlib.shake_128(b"known bytes").digest((1 << 18) + 13)


class Recording(RecordingBackend):
    """A RecordingBackend that sends at once, so that no test waits for a delayed acknowledgement."""

    def _begin(self, conn: socket.socket) -> None:
        if conn.family != socket.AF_UNIX:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super()._begin(conn)


class Shared:
    """The process that all tests of one worker share, with a probe that is always there."""

    current: Shared | None = None

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.ports = Ports()
        self._stack.callback(self.ports.release)
        self.probed = Recording()
        self._stack.callback(self.probed.stop)
        self.probe_port = self.ports.reserve()
        self.base = http_listener(self.probe_port, name="probe", more='pool = "probe"') + http_pool(
            "probe", self.probed.address
        )
        self.proxy = Lbproxy(self.base)
        # Each test looks at the log for itself.
        self.proxy.tracebacks_expected = True
        self._stack.callback(self.proxy.end)
        self.probe()
        self.sockets = self.open_sockets()

    @classmethod
    def get(cls) -> Shared:
        """The one there is; one that a test has killed is replaced."""
        if cls.current is not None and cls.current.proxy.process.poll() is not None:
            cls.current.end()
        if cls.current is None:
            cls.current = cls()
        return cls.current

    def probe(self) -> float:
        """One clean request on a new connection; how long it took."""
        began = time.monotonic()
        with RawClient(self.probe_port) as client:
            assert client.ask().body == b"ok"
        return time.monotonic() - began

    def open_sockets(self) -> list[str]:
        """The sockets of the process, with what /proc/net/tcp says of them. Pipes are kept for later, and left out."""
        tcp = {line.split()[9]: line for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
        found = []
        for one in Path(f"/proc/{self.proxy.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(one)
                if target.startswith("socket:"):
                    found.append(tcp.get(target[8:-1], target))
        return found

    def end(self) -> None:
        """Stop it. A second call changes nothing."""
        Shared.current = None
        self._stack.close()


class Live:
    """What one test has: the shared process, peers that end with the test, and its own records.

    `listener` is what its listener "in" is really called.
    """

    count = 0

    def __init__(self, shared: Shared, stack: ExitStack) -> None:
        self.shared = shared
        self.proxy = shared.proxy
        self.stack = stack
        self.ports = Ports()
        self.port = 0
        # Records are told apart by their listener: those of the test before may be written late.
        Live.count += 1
        self.listener = f"in{Live.count}"
        self._log_at = len(self.proxy.log)
        self._records_at = self.proxy.record_file.stat().st_size
        self._faults = self.proxy.status()["counters"]["exceptions"]
        stack.callback(self.ports.release)

    # Going over to a configuration.

    def serve(self, *backends: object, listener: str = "", pool: str = "", more: str = "", top: str = "") -> int:
        """Listener "in" with pool "out" of these backends, see http_site; the port. `top` goes in front."""
        self.port = self.ports.reserve()
        return self.serve_text(top + http_site(self.port, *backends, listener=listener, pool=pool, more=more))

    def serve_text(self, text: str) -> int:
        """This configuration, and what the probe needs; listener "in" gets the name that only this test has."""
        self.proxy.change(text.replace('"in"', f'"{self.listener}"') + self.shared.base)
        return self.port

    # Peers.

    def recording(self, answers: object = None, **options: object) -> Recording:
        """Starts a RecordingBackend; the arguments are its own."""
        backend = Recording(answers, **options)  # type: ignore[arg-type]  # passed on as they are
        self.stack.callback(backend.stop)
        return backend

    def evil(self, *scripts: Sequence[Step], **options: object) -> EvilBackend:
        """Starts an EvilBackend; the arguments are its own."""
        backend = EvilBackend(*scripts, **options)  # type: ignore[arg-type]  # passed on as they are
        self.stack.callback(backend.stop)
        return backend

    def scripted(self, script: Script) -> Backend:
        """Starts a backend that follows this script in each connection."""
        backend = Backend(script)
        self.stack.callback(backend.stop)
        return backend

    def client(self, port: int = 0, **options: object) -> RawClient:
        """A client of the listener of this test; the arguments are those of RawClient."""
        client = RawClient(port or self.port, **options)  # type: ignore[arg-type]  # passed on as they are
        self.stack.callback(client.close)
        return client

    # What is left behind.

    def records(self, count: int) -> list[Record]:
        """The records of this test, of which there must be `count`, in the order in which they were written."""

        def there() -> bool:
            # Before it reopens the file, it writes what has been gathered: that spares a fifth of a second.
            self.proxy.signal(signal.SIGUSR1)
            return len(self._records()) >= count

        until(there, f"{count} records")
        records = self._records()
        assert len(records) == count, records
        return records

    def record(self) -> Record:
        """The one record of this test."""
        return self.records(1)[0]

    def _records(self) -> list[Record]:
        with self.proxy.record_file.open("rb") as file:
            file.seek(self._records_at)
            lines = file.read().split(b"\n")[:-1]
        mine = self.listener.encode()
        return [one for one in (json.loads(line) for line in lines if mine in line) if one["listener"] == self.listener]

    def finish(self) -> None:
        """Invariant I3: the process serves as before, holds nothing of this test, and has logged no fault."""
        assert self.proxy.process.poll() is None, self.proxy.log
        assert self.shared.probe() < PROBE
        self.proxy.change(self.shared.base)
        until(lambda: self.proxy.status()["sessions"] == 0, "no session is left", 5.0)
        status = self.proxy.status()
        assert (status["held_bytes"], status["pipes_in_use"]) == (0, 0), status
        log = self.proxy.log[self._log_at :]
        assert "Traceback" not in log, log
        assert status["counters"]["exceptions"] == self._faults, log


@pytest.fixture(name="shared", scope="session")
def shared_fixture() -> Iterator[Shared]:
    """The process. Each module that imports this has a fixture of its own, but all have the same process."""
    yield Shared.get()
    if Shared.current is not None:
        current = Shared.current
        try:
            until(lambda: len(current.open_sockets()) <= len(current.sockets), "no socket has leaked", 8.0)
        except AssertionError:
            print("\n".join(current.open_sockets()))
            raise
        finally:
            current.end()


@pytest.fixture(name="live")
def live_fixture(shared: Shared) -> Iterator[Live]:
    """See Live."""
    with ExitStack() as stack:
        live = Live(Shared.get(), stack)
        yield live
        stack.close()
        live.finish()


# Bodies that need not be held: known bytes in pieces, see `digest`.


def blocks(size: int) -> Iterator[bytes]:
    """`size` known bytes in pieces."""
    while size > 0:
        yield _BLOCK[:size]
        size -= len(_BLOCK)


def digest(size: int) -> str:
    """The SHA-256 of `blocks`."""
    found = hashlib.sha256()
    for block in blocks(size):
        found.update(block)
    return found.hexdigest()


def large(size: int, **options: object) -> Answer:
    """An answer whose body is `blocks(size)`; options are those of Answer."""
    return Answer(stream=lambda: blocks(size), size=size, **options)  # type: ignore[arg-type]  # passed on as they are


def upload(client: RawClient, head: bytes, size: int) -> None:
    """Send a head and `blocks(size)`."""
    client.send(head)
    for block in blocks(size):
        client.sock.sendall(block)


# Scripts.


def once(*steps: Step) -> tuple[Step, ...]:
    """A script that reads one head and then does this."""
    return (Do.READ_HEAD, *steps)


class Gate:
    """An answer that is held back until the test opens the gate."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer or Answer()
        self.reached = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, asked: Asked) -> Answer:
        self.reached.release()
        assert self._open.wait(PATIENCE)
        return self.answer

    def wait(self) -> None:
        """Wait until one more request waits here."""
        assert self.reached.acquire(timeout=PATIENCE)

    def open(self) -> None:
        """Let all through."""
        self._open.set()


def in_turn(*answers: Answer | Chooses) -> Chooses:
    """The first answer for the first request and so on, the last for all further ones."""
    lock, left = threading.Lock(), list(answers)

    def choose(asked: Asked) -> Answer:
        with lock:
            found = left.pop(0) if len(left) > 1 else left[0]
        return found if isinstance(found, Answer) else found(asked)

    return choose


def all_at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Run these in threads, wait for all, and raise the first thing that went wrong."""
    problems: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
        assert not thread.is_alive()
    if problems:
        raise problems[0]


def rest_of(sock: socket.socket) -> tuple[bytes, bool]:
    """What still comes on this connection, and whether a reset ended it."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            parts.append(data)
        return b"".join(parts), False
    return b"".join(parts), True


class Brief(Backend):
    """A backend that answers "ok", and closes a connection which was idle for `patience` seconds after an answer.

    It reads requests by their Content-Length; `executions` gets the id of each.
    """

    def __init__(self, patience: float, executions: list[bytes]) -> None:
        self._patience = patience
        self._executions = executions
        super().__init__(self._converse)

    def _converse(self, conn: socket.socket) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = b""
        while True:
            while b"\r\n\r\n" not in waiting:
                data = conn.recv(65536)
                if not data:
                    return
                waiting += data
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            length = int(fields.get(b"content-length", b"0"))
            while len(waiting) < length:
                waiting += conn.recv(65536)
            waiting = waiting[length:]
            self._executions.append(fields.get(ID_FIELD.lower(), b""))
            conn.sendall(OK)
            if not select.select([conn], [], [], self._patience)[0]:
                return


class Persistent:
    """A client that begins a new connection wherever the last answer said that its own ends."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._client: RawClient | None = None

    def ask(self, method: bytes = b"GET", target: bytes = b"/", **options: object) -> Answered:
        """As RawClient.ask."""
        client = self._client or self._live.client()
        answer = client.ask(method, target, **options)  # type: ignore[arg-type]  # passed on as they are
        if answer.get(b"connection") == b"close":
            assert client.was_closed()
            client.close()
            self._client = None
        else:
            self._client = client
        return answer


class Pushing:
    """Sends pieces in the background until there are no more, or the other side has had enough."""

    def __init__(self, client: RawClient, pieces: Iterable[bytes]) -> None:
        self._client = client
        self._thread = threading.Thread(target=self._run, args=(pieces,), daemon=True)
        self._thread.start()

    def _run(self, pieces: Iterable[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for piece in pieces:
                self._client.sock.sendall(piece)

    def hang_up(self) -> None:
        """End both ways of the connection at once, which also wakes who sends on it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._client.sock, socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._client.close()
