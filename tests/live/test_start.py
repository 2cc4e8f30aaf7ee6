"""From the command line to a running lbproxy, and what is said when that cannot be."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import lbproxy
from tests.live import peers
from tests.live.harness import TWISTD, Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, connect

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
# Becomes lbproxy with the descriptor given first as descriptor 3, as systemd hands it over.
_PASS = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def _run(directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run `twistd -n lbproxy` to its end: status, standard output, standard error."""
    done = subprocess.run(
        [*TWISTD, "-n", "--pidfile=", "lbproxy", *arguments],
        cwd=directory,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _write(directory: Path, text: str) -> str:
    file = directory / "lbproxy.toml"
    file.write_text(text)
    return str(file)


def test_version(tmp_path: Path) -> None:
    status, output, _ = _run(tmp_path, "--version")
    assert (status, output) == (0, f"lbproxy {lbproxy.__version__}\n")


def test_a_port_in_use_ends_the_start_with_a_sentence(tmp_path: Path, stack: ExitStack) -> None:
    taken = stack.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    where = f"127.0.0.1:{taken.getsockname()[1]}"
    file = _write(tmp_path, f'[[listener]]\nbind = "{where}"\npool = "a"\n[pool.a]\nbackends = "127.0.0.1:1"\n')
    status, output, errors = _run(tmp_path, "--config", file)
    assert status == 1
    assert f"cannot listen on {where}: another socket has it already" in output + errors
    assert "Traceback" not in output + errors


def test_records_that_cannot_be_written_end_the_start_with_a_sentence(tmp_path: Path, ports: Ports) -> None:
    text = one_pool(ports.reserve(), "127.0.0.1:1", more=f'[records]\nto = "file:{tmp_path}/missing/records"\n')
    status, output, errors = _run(tmp_path, "--config", _write(tmp_path, text))
    assert status == 1
    assert f"{tmp_path}/missing/records" in output + errors
    assert "Traceback" not in output + errors


def test_every_problem_of_a_configuration_is_printed(tmp_path: Path) -> None:
    text = """
[[listener]]
bind = "127.0.0.1:99999"
pool = "nowhere"
[pool.a]
backends = ["127.0.0.1:1"]
polcy = "first"
[timeouts]
connect = "soon"
"""
    file = _write(tmp_path, text)
    status, output, errors = _run(tmp_path, "--config", file)
    assert status == 2
    said = output + errors
    for word in ("99999", "nowhere", "polcy", "soon"):
        assert word in said
    assert 'did you mean "policy"' in said
    assert f"{file}:3" in said
    assert f"{file}:7" in said
    assert "Traceback" not in said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    status, output, errors = _run(tmp_path, "--config", str(tmp_path / "missing.toml"))
    assert status == 2
    assert "missing.toml" in output + errors
    assert "Traceback" not in output + errors


def test_check_says_fine_and_starts_nothing(tmp_path: Path, ports: Ports) -> None:
    port = ports.reserve()
    file = _write(tmp_path, one_pool(port, "127.0.0.1:1"))
    status, output, errors = _run(tmp_path, "--config", file, "--check")
    assert (status, errors) == (0, "")
    assert f"{file}: fine" in output
    status, output, errors = _run(tmp_path, "--config", file, "--check", "--format", "json")
    assert (status, errors) == (0, "")
    assert json.loads(output) == []


def test_check_prints_problems_to_standard_output(tmp_path: Path) -> None:
    file = _write(tmp_path, "[[listener]]\nbnid = 1\n")
    status, output, errors = _run(tmp_path, "--config", file, "--check")
    assert (status, errors) == (2, "")
    assert "bnid" in output
    status, output, _ = _run(tmp_path, "--config", file, "--check", "--format", "json")
    assert status == 2
    assert all(one["line"] for one in json.loads(output) if one["severity"] == "error")


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = _write(tmp_path, "[[listener]]\nbnid = 1\n")
    status, output, errors = _run(tmp_path, environment={"LBPROXY_CONFIG": file})
    assert status == 2
    assert "bnid" in output + errors


def test_file_and_quick_form_exclude_each_other(tmp_path: Path) -> None:
    status, output, errors = _run(tmp_path, "--config", "x.toml", "--listen", "tcp://127.0.0.1:1")
    assert status != 0
    assert "exclude each other" in output + errors


def test_the_quick_form_balances(tmp_path: Path, ports: Ports, backend: Serve, stack: ExitStack) -> None:
    port, one, two = ports.reserve(), backend(peers.named(b"one")), backend(peers.named(b"two"))
    arguments = ["--listen", f"tcp://127.0.0.1:{port}", "--policy", "round-robin"]
    for server in (one, two):
        arguments += ["--backend", server.address]
    process = subprocess.Popen(
        [*TWISTD, "-n", "--pidfile=", "lbproxy", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    stack.callback(process.communicate)
    stack.callback(process.kill)

    def serves() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(serves, "it listens")
    assert {peers.fetch(port) for _ in range(6)} == {b"one", b"two"}
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert b"Traceback" not in output + errors
    lines = [json.loads(line) for line in output.splitlines()]
    assert len(lines) == 7
    assert all(line["outcome"] in ("ok", "client_gone", "killed") for line in lines)


def test_a_socket_that_systemd_passes(start: Start, backend: Serve, ports: Ports, stack: ExitStack) -> None:
    """It is used as it is, given up and taken again by reloads, and outlives lbproxy."""
    server = backend(peers.named(b"in"))
    passed = stack.enter_context(socket.socket())
    passed.bind(("127.0.0.1", 0))
    passed.listen()
    port, other = passed.getsockname()[1], ports.reserve()
    own = one_pool(other, server.address)
    both = own.replace("bind = ", 'bind = "systemd:front"\npool = "out"\n[[listener]]\nname = "own"\nbind = ', 1)
    proxy = start(
        both,
        before=[sys.executable, "-S", "-c", _PASS, str(passed.fileno())],
        environment={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "front"},
        pass_fds=[passed.fileno()],
    )
    assert peers.fetch(port) == peers.fetch(other) == b"in"
    proxy.change(own)
    with connect(port, timeout=0.3) as waiting:
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        assert proxy.cpu_share(0.5) < 0.1, "a socket that was given up is not watched"
        proxy.change(both)
        waiting.settimeout(peers.PATIENCE)
        assert waiting.recv(2) == b"in"
    assert peers.fetch(port) == b"in"
    proxy.stop()
    with connect(port, timeout=0.3):
        conn, _ = passed.accept()
        conn.close()


def test_sockets_for_another_process_are_not_taken(tmp_path: Path, stack: ExitStack) -> None:
    file = _write(tmp_path, '[[listener]]\nbind = "systemd:front"\npool = "a"\n[pool.a]\nbackends = "127.0.0.1:1"\n')
    environment = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "front", "LISTEN_PID": "1"}
    status, output, errors = _run(tmp_path, "--config", file, environment=environment)
    assert status == 1
    assert "systemd passed no socket of this name" in output + errors


def test_it_says_ready_to_systemd(start: Start, ports: Ports, tmp_path: Path, stack: ExitStack) -> None:
    listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    name = f"lbproxy-{os.getpid()}-{ports.reserve()}"
    listening.bind("\0" + name)
    listening.settimeout(peers.PATIENCE)
    proxy = start(one_pool(ports.reserve(), "127.0.0.1:1"), environment={"NOTIFY_SOCKET": f"@{name}"})
    assert listening.recv(1000) == b"READY=1"
    proxy.reload()
    assert listening.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert listening.recv(1000) == b"READY=1"
    proxy.stop()
    assert listening.recv(1000) == b"STOPPING=1"


def test_a_signal_sent_on_ready_finds_its_handler(start: Start, ports: Ports, stack: ExitStack) -> None:
    """A SIGHUP before that would end the process: whoever is told READY=1 may send one at once."""
    listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    name = f"lbproxy-{os.getpid()}-{ports.reserve()}"
    listening.bind("\0" + name)
    listening.settimeout(peers.PATIENCE)
    text = one_pool(ports.reserve(), "127.0.0.1:1")
    for _ in range(5):
        proxy = start(text, environment={"NOTIFY_SOCKET": f"@{name}"}, ready=False)
        assert listening.recv(1000) == b"READY=1"
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("reloaded: 1 listeners")
        assert proxy.stop() == -signal.SIGINT
        while listening.recv(1000) != b"STOPPING=1":
            pass


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(
    start: Start, backend: Serve, ports: Ports, tmp_path: Path, stack: ExitStack
) -> None:
    directory = Path(stack.enter_context(peers.short_directory()))
    path, server = directory / "front.sock", backend(peers.named(b"in"))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    text = one_pool(1, server.address).replace("127.0.0.1:1", f"unix:{path}", 1)
    start(text)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(peers.PATIENCE)
        client.connect(str(path))
        assert peers.read_all(client) == b"in"
    status, output, errors = _run(tmp_path, "--config", _write(tmp_path, text))
    assert status == 1
    assert "another socket has it already" in output + errors


def test_the_control_socket_is_for_its_owner_alone(start: Start, ports: Ports) -> None:
    """R8: mode 0600, and nothing is changed by GET."""
    proxy = start(one_pool(ports.reserve(), "127.0.0.1:1"))
    assert (proxy.directory / "control.sock").stat().st_mode & 0o777 == 0o600
    assert proxy.ask("GET", "/v1/reload")[0] == 404
    assert proxy.ask("GET", "/nothing")[0] == 404
    assert proxy.ask("PATCH", "/v1/pools/out/backends/nobody", {"weight": 1})[0] == 404
    assert proxy.ask("PATCH", "/v1/pools/out/backends/127.0.0.1:1", {"weight": 257})[0] == 422
    assert proxy.ask("PATCH", "/v1/pools/out/backends/127.0.0.1:1", {"colour": "red"})[0] == 422
