"""The other ends: scripted backends in threads, clients, and what both do to sockets."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 20.0
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
# Longer than any buffer and of no round length, so that a piece in the wrong place does not fit.
_BLOCK = os.urandom((1 << 20) + 13)

Script = Callable[[socket.socket], None]


# Scripts of backends. When a script returns its connection is closed.


def echo(conn: socket.socket) -> None:
    """Send back what comes, then FIN."""
    while data := conn.recv(65536):
        conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)


def named(name: bytes) -> Script:
    """Say a name at once, and close."""

    def say(conn: socket.socket) -> None:
        conn.sendall(name)

    return say


def hold(conn: socket.socket) -> None:
    """Read to the end and say nothing."""
    while conn.recv(65536):
        pass


def greet_and_hold(name: bytes) -> Script:
    """Say a name, then stay until the other side ends."""

    def greet(conn: socket.socket) -> None:
        conn.sendall(name)
        hold(conn)

    return greet


def reset(conn: socket.socket) -> None:
    """Reset the connection."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def source(size: int) -> Script:
    """Send `size` known bytes and close; see `digest`."""

    def give(conn: socket.socket) -> None:
        for block in blocks(size):
            conn.sendall(block)
        conn.shutdown(socket.SHUT_WR)
        hold(conn)

    return give


class Sink:
    """A script that reads everything; `ended` is set at the end, or when that was a reset (`broken`)."""

    def __init__(self, answer: bytes = b"") -> None:
        self.count = 0
        self.broken = False
        self.ended = threading.Event()
        self._digest = hashlib.sha256()
        self._answer = answer

    def __call__(self, conn: socket.socket) -> None:
        try:
            while data := conn.recv(1 << 18):
                self._digest.update(data)
                self.count += len(data)
            if self._answer:
                conn.sendall(self._answer)
        except ConnectionError:
            self.broken = True
        finally:
            self.ended.set()

    @property
    def digest(self) -> str:
        """The SHA-256 of all that came."""
        return self._digest.hexdigest()


class Backend:
    """A listening socket whose connections each follow a script in a thread.

    `connections` counts those accepted, `faults` are exceptions of scripts that are no socket errors.
    """

    def __init__(self, script: Script, *, host: str = "127.0.0.1", port: int = 0, path: str = "") -> None:
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.socket(family, socket.SOCK_STREAM)
        if path:
            self._listening.bind(path)
            self.address = f"unix:{path}"
            self.port = 0
        else:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listening.bind((host, port))
            self.port = self._listening.getsockname()[1]
            self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._listening.listen(512)
        self._script = script
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.connections = 0
        self.faults: list[Exception] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listening.accept()
            except OSError:
                return
            conn.settimeout(PATIENCE)
            with self._lock:
                self.connections += 1
                self._open.add(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        try:
            self._script(conn)
        except OSError:
            pass
        except Exception as fault:
            self.faults.append(fault)
        finally:
            with self._lock:
                self._open.discard(conn)
            conn.close()

    def stop(self) -> None:
        """Close the listening socket and all connections."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE)
        with self._lock:
            left = list(self._open)
        for conn in left:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        assert not self.faults, self.faults


class BackendProcess:
    """An echo server in a process of its own, which can be stopped, continued and killed."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("echo_process.py")), str(port)], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.address = f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Kill it, if it still lives."""
        self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The address of a listening socket that no SYN ever reaches."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        drop_everything(listening)
        listening.listen(8)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def drop_everything(sock: socket.socket) -> None:
    """Let this socket receive nothing any more, not even acknowledgements: to its peer it has vanished."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction: return 0
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


# Clients.


def connect(port: int, *, host: str = "127.0.0.1", receive_buffer: int = 0, timeout: float = PATIENCE) -> socket.socket:
    """A connected client."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(timeout)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect((host, port))
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Everything up to FIN."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or what there is before FIN."""
    found = b""
    while len(found) < count and (data := sock.recv(count - len(found))):
        found += data
    return found


def fetch(port: int) -> bytes:
    """All that a server says which speaks first; b"" when it was closed or reset without a word."""
    with connect(port) as sock, contextlib.suppress(ConnectionError):
        return read_all(sock)
    return b""


def ask(port: int, question: bytes) -> bytes:
    """What an echo says: all of the answer, after FIN."""
    with connect(port) as sock:
        sock.sendall(question)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def closed_quietly(sock: socket.socket) -> bool:
    """Whether the other side ends without a byte, with FIN or with a reset."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def was_reset(sock: socket.socket) -> bool:
    """Read to the end; whether that was a reset."""
    try:
        read_all(sock)
    except ConnectionResetError:
        return True
    return False


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that were sent and that the other machine's kernel has not confirmed; see SIOCOUTQ in tcp(7)."""
    queued: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), 0x5411, b"\0\0\0\0"))[0]
    return queued


# Known bytes.


def blocks(size: int) -> Iterator[bytes]:
    """`size` known bytes in pieces."""
    while size > 0:
        yield _BLOCK[:size]
        size -= len(_BLOCK)


def digest(size: int) -> str:
    """The SHA-256 of what `blocks` and `source` give."""
    found = hashlib.sha256()
    for block in blocks(size):
        found.update(block)
    return found.hexdigest()


def digest_of(sock: socket.socket) -> tuple[str, int]:
    """The SHA-256 of everything up to FIN, and how much it was."""
    found, count = hashlib.sha256(), 0
    while data := sock.recv(1 << 18):
        found.update(data)
        count += len(data)
    return found.hexdigest(), count


class Stream:
    """Requests to an echo, in the background at a fixed rate, whether or not earlier ones have been answered.

    Each is a connection of its own with a question of its own. `errors` are those that were not answered exactly.
    """

    def __init__(self, port: int, rate: float = 50.0) -> None:
        self.done = 0
        self.errors: list[str] = []
        self.slowest = 0.0
        self._port = port
        self._pause = 1 / rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._running: list[threading.Thread] = []
        self._thread.start()

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            number += 1
            due += self._pause
            one = threading.Thread(target=self._ask, args=(number,), daemon=True)
            one.start()
            self._running = [thread for thread in self._running if thread.is_alive()] + [one]

    def _ask(self, number: int) -> None:
        question = f"question {number} ".encode() * 50
        began = time.monotonic()
        try:
            answer = ask(self._port, question)
            if answer != question:
                self.errors.append(f"{number}: {len(answer)} bytes for {len(question)}")
        except OSError as problem:
            self.errors.append(f"{number}: {problem!r}")
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.done += 1

    def finish(self) -> None:
        """Ask no more and wait for the last answers."""
        self._stopping.set()
        self._thread.join(PATIENCE)
        for thread in self._running:
            thread.join(PATIENCE)

    def stop(self) -> None:
        """End, and fail when there was any error."""
        self.finish()
        assert not self.errors, (len(self.errors), self.done, self.errors[:5])
        assert self.done


@contextlib.contextmanager
def short_directory() -> Iterator[str]:
    """A directory whose path leaves room for the name of a UNIX socket."""
    with tempfile.TemporaryDirectory(prefix="lbs") as found:
        yield found


class Chaos:
    """A forwarder in front of `port` that delays, cuts the stream into small pieces, and stalls now and then."""

    def __init__(self, port: int, *, delay: float, piece: int, seed: int) -> None:
        self._to, self._delay, self._piece = port, delay, piece
        self._random = random.Random(seed)
        self._backend = Backend(self._forward)
        self.port = self._backend.port
        self.address = self._backend.address
        self.stop = self._backend.stop

    def _forward(self, conn: socket.socket) -> None:
        with connect(self._to) as other:
            back = threading.Thread(target=self._copy, args=(other, conn), daemon=True)
            back.start()
            self._copy(conn, other)
            back.join(PATIENCE)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(65536):
                time.sleep(self._delay)
                while data:
                    size = self._random.randint(1, self._piece)
                    target.sendall(data[:size])
                    data = data[size:]
                    if self._random.random() < 0.01:
                        time.sleep(self._delay)
            target.shutdown(socket.SHUT_WR)
