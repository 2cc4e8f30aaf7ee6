"""A real lbproxy in a process of its own: started, asked, signalled, stopped and looked at from outside.

Every wait is bounded, every process is ended by its own id, and every port comes from the kernel.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
PATIENCE = 15.0
_HEAD = """
[control]
socket = "unix:{directory}/control.sock"
[records]
to = "file:{directory}/records.jsonl"
[stop]
grace = "0s"
hard_stop = "2s"
"""

Record = dict[str, Any]
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Ask until the answer is true; that answer."""
    deadline = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience:g} s still not: {what}")
        time.sleep(0.01)


class Ports:
    """Ports that nobody else gets while this lives: bound here without listening, so that lbproxy may bind them too.

    Until somebody listens there, a connect is refused.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def reserve(self, host: str = "127.0.0.1") -> int:
        """One port more."""
        held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, 0))
        self._held.append(held)
        port: int = held.getsockname()[1]
        return port

    def release(self) -> None:
        """Give all back."""
        for held in self._held:
            held.close()
        self._held.clear()


class _LocalConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Lbproxy:
    """One lbproxy under `twistd -n`. `text` is its configuration without the tables that every test needs.

    `twistd` are options of twistd, `before` is a command that executes the rest of its arguments, `shell` are
    commands of the shell that becomes lbproxy.
    """

    def __init__(
        self,
        text: str,
        *,
        twistd: Sequence[str] = (),
        before: Sequence[str] = (),
        shell: str = "",
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        head: str = _HEAD,
        stdout: Any = None,
        ready: bool = True,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lbp"))
        self.file = self.directory / "lbproxy.toml"
        self.record_file = self.directory / "records.jsonl"
        self.log_file = self.directory / "log"
        self.tracebacks_expected = False
        self._head = head
        self.configure(text)
        command = [*before, *TWISTD, *twistd, "-n", "--pidfile=", "lbproxy", "--config", str(self.file)]
        if shell:
            command = ["/bin/sh", "-c", f'{shell}; exec "$@"', "sh", *command]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                pass_fds=pass_fds,
                start_new_session=True,
            )
        if ready:
            try:
                self.wait_until_ready()
            except BaseException:
                self.end()
                raise

    # Configuration.

    def configure(self, text: str) -> None:
        """Write another configuration; nothing reads it yet."""
        self.file.write_text(self._head.replace("{directory}", str(self.directory)) + text)

    def reload(self) -> tuple[int, list[dict[str, Any]]]:
        """Reload through the control socket: the status, and the problems found."""
        status, answer = self.ask("POST", "/v1/reload")
        return status, answer["problems"]

    def change(self, text: str) -> None:
        """Go over to another configuration."""
        self.configure(text)
        status, problems = self.reload()
        assert status == 200, problems

    # Asking.

    def ask(self, method: str, path: str, body: object = None, timeout: float = PATIENCE) -> tuple[int, Any]:
        """One request to the control socket."""
        connection = _LocalConnection(str(self.directory / "control.sock"), timeout)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Wait until the reactor runs, which is after all listeners accept."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"lbproxy ended with {self.process.returncode}:\n{self.log}")
            try:
                return self.ask("GET", "/readyz")[0] == 200
            except OSError:
                return False

        until(ready, "lbproxy is ready")

    def status(self) -> dict[str, Any]:
        """All of the status."""
        status, answer = self.ask("GET", "/v1/status")
        assert status == 200
        assert isinstance(answer, dict)
        return answer

    def listener(self, name: str = "in") -> dict[str, Any]:
        """The status of one listener."""
        return next(one for one in self.status()["listeners"] if one["name"] == name)

    def pool(self, name: str = "out") -> dict[str, Any]:
        """The status of one pool."""
        return next(one for one in self.status()["pools"] if one["pool"] == name)

    def backend(self, id: str, pool: str = "out") -> dict[str, Any]:
        """The status of one backend."""
        return next(one for one in self.pool(pool)["backends"] if one["id"] == id)

    def wait_for_state(self, id: str, state: str, pool: str = "out") -> None:
        """Wait until a backend is in this state."""
        until(lambda: self.backend(id, pool)["state"] == state, f"backend {id} is {state}")

    def wait_until_idle(self) -> None:
        """Wait until no session is left."""
        until(lambda: self.status()["sessions"] == 0, "no session is left")

    # What it leaves behind.

    def records(self, count: int = 0) -> list[Record]:
        """The records so far; waits until there are at least `count`."""
        until(lambda: len(self._records()) >= count, f"{count} records")
        return self._records()

    def _records(self) -> list[Record]:
        text = self.record_file.read_text() if self.record_file.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def record(self) -> Record:
        """The one record that there is."""
        records = self.records(1)
        assert len(records) == 1, records
        return records[0]

    @property
    def log(self) -> str:
        """The system log."""
        return self.log_file.read_text(errors="replace")

    def wait_for_log(self, text: str) -> None:
        """Wait until the log says `text`."""
        until(lambda: text in self.log, f"the log says {text!r}")

    # Seen from outside.

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def resident_bytes(self) -> int:
        """How much memory it has now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self) -> float:
        """The processor time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_share(self, seconds: float) -> float:
        """The part of one processor that it uses over the next `seconds`."""
        before, began = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - began)

    # The end.

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; what a parent sees: the exit status, or minus the signal."""
        return self.process.wait(patience)

    def stop(self) -> int:
        """Stop in order and look back; what a parent sees."""
        if self.process.poll() is None:
            self.signal(signal.SIGINT)
        return self.wait()

    def end(self) -> None:
        """Make sure that it has ended and left no traceback."""
        try:
            if self.process.poll() is None:
                status = self.stop()
                assert status == -signal.SIGINT, f"ended with {status}:\n{self.log}"
            log = self.log
        except subprocess.TimeoutExpired:
            raise AssertionError(f"lbproxy did not stop:\n{self.log}") from None
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.directory, ignore_errors=True)
        assert self.tracebacks_expected or "Traceback" not in log, log


def one_pool(port: int, *backends: object, listener: str = "", pool: str = "", more: str = "") -> str:
    """The configuration of most tests: listener "in" at `port`, pool "out" without checks unless `pool` asks for them.

    Backends are addresses, or tables written as text. `listener` and `pool` are further keys, `more` comes behind.
    """
    listed = ", ".join(one if (one := str(backend)).startswith("{") else f'"{one}"' for backend in backends)
    if "check =" not in pool:
        pool += "\ncheck = false"
    if "slow_start =" not in pool:
        pool += "\nslow_start = false"
    return f"""
[[listener]]
name = "in"
bind = "127.0.0.1:{port}"
pool = "out"
{listener}
[pool.out]
backends = [{listed}]
{pool}
{more}
"""
