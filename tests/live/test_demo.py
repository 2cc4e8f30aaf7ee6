"""The demo as somebody meets it: started, and everything typed that it says to type."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lbproxy.certificates import load_authorities, load_pair
from lbproxy.config import load
from lbproxy.demo.certificates import NAMES, ensure
from lbproxy.model_tls import CertificateSettings
from tests.live.harness import PATIENCE, Ports, until

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
DEMO = [sys.executable, "-m", "lbproxy.demo", "etc/demo.toml"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def place(tmp_path: Path, ports: Ports) -> Path:
    """A directory with etc/demo.toml in it, on ports of this test."""
    text = (ROOT / "etc" / "demo.toml").read_text(encoding="utf-8")
    text = text.replace("/tmp/lbproxy-demo.sock", f"{tmp_path}/demo.sock")
    for port in sorted(set(re.findall(r"(?<=127\.0\.0\.1:)\d+", text))):
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ports.reserve()}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "demo.toml").write_text(text)
    return tmp_path


class Demo:
    """A demo that runs, and what it has said."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.file = place / "said"
        with self.file.open("wb") as said:
            self.process = subprocess.Popen(DEMO, cwd=place, env=ENVIRONMENT, stdout=said, stderr=said)
        until(lambda: "Ctrl-C ends everything" in self.said or self.process.poll() is not None, "the banner")
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        return self.file.read_text()

    def command(self, word: str) -> str:
        """The command that stands behind `word` in the banner."""
        found = re.search(rf"{word}\s+((?:curl|\S*lbproxy) .*?)(?:    .*)?$", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found[1]

    def type(self, word: str) -> subprocess.CompletedProcess[str]:
        """Type it."""
        command = self.command(word).replace("curl ", "curl -sS -m 10 ")
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.place,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(PATIENCE) == 0
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def demo(place: Path) -> Iterator[Demo]:
    running = Demo(place)
    yield running
    running.end()


def test_all_that_the_banner_says_to_type_does_what_it_says(demo: Demo) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the commands of the demo were not run")
    assert {demo.type("try").stdout.split()[2] for _ in range(3)} == {"blue,", "green,", "orange,"}
    ended = demo.type("Ended here")
    assert re.match(r"hello from (blue|green|orange),", ended.stdout), ended.stderr
    passed = demo.type("Passed through")
    assert passed.stdout.startswith("hello from teal,"), passed.stderr
    shut = demo.type("A name that is shut")
    assert shut.returncode != 0
    assert not shut.stdout
    opened = demo.type("and with a key, open")
    assert opened.stdout.startswith("hello from purple,"), opened.stderr
    assert "demo/blue" in demo.type("Watch").stdout
    assert demo.type("Take").stdout == "demo/blue: drain\n"
    assert demo.type("back").stdout.startswith("demo/blue: ")
    until(lambda: demo.said.count('{"ts"') >= 7, "seven records")
    outcomes = re.findall(r'"listener":"([\w-]+)".*"outcome":"(\w+)"', demo.said)
    # What is passed through may end with the backend's close_notify coming to a client that has left.
    outcomes = [(name, "ok" if (name, word) == ("demo-passing", "client_gone") else word) for name, word in outcomes]
    assert sorted(word for _, word in outcomes) == ["ok"] * 6 + ["tls_handshake"]
    assert "warn" not in demo.said, demo.said


def test_without_the_certificates_of_the_demo_the_configuration_says_what_is_missing(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lbproxy.cli", "check", "etc/demo.toml"],
        cwd=place,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert re.search(r"^etc/demo\.toml:(\d+): .*localhost\.pem: there is no such file$", said, re.MULTILINE)
    line = int(re.findall(r"demo\.toml:(\d+): ", said)[0])
    assert "make demo" in (place / "etc" / "demo.toml").read_text().splitlines()[line - 2]


def test_with_the_certificates_of_the_demo_the_configuration_has_no_problem(place: Path) -> None:
    now = datetime.now(UTC)
    ensure(place / ".demo", now)
    assert load(str(place / "etc" / "demo.toml"), now=now.timestamp()).problems == ()


def test_a_configuration_that_is_no_demo_is_refused_in_a_sentence(place: Path) -> None:
    (place / "etc" / "demo.toml").write_text((ROOT / "etc" / "minimal.toml").read_text())
    done = subprocess.run(
        DEMO, cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("demo: etc/demo.toml is no demo configuration; it needs a control socket")


# The certificates.


def test_the_certificates_are_for_this_machine_and_nobody_else_may_read_the_keys(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        files = ensure(tmp_path / "new", NOW)
    finally:
        os.umask(old_mask)
    pair = load_pair(CertificateSettings(str(files.server), str(files.server_key)))
    assert pair.names == NAMES == ("localhost", "admin.localhost")
    assert pair.addresses == ("127.0.0.1", "::1")
    assert tuple(load_authorities(str(files.ca))) == (pair.root,)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert modes == {"ca.pem": 0o644, "localhost.pem": 0o644, "localhost.key": 0o600, "client.pem": 0o600}
    # Nobody can issue more of them: there are the keys of the server and of the client, and no third one.
    texts = [path.read_text() for path in (tmp_path / "new").iterdir()]
    assert sum(text.count("PRIVATE KEY-----") for text in texts) == 2 * 2


def test_the_certificates_are_used_again_as_long_as_they_are_good(tmp_path: Path) -> None:
    before = ensure(tmp_path, NOW).server.read_bytes()
    assert ensure(tmp_path, NOW + timedelta(days=28)).server.read_bytes() == before
    assert ensure(tmp_path, NOW + timedelta(days=29, hours=1)).server.read_bytes() != before


@pytest.mark.parametrize("name", ["ca.pem", "localhost.pem", "localhost.key", "client.pem"])
def test_the_certificates_are_made_anew_when_one_is_gone_or_of_another_making(tmp_path: Path, name: str) -> None:
    ensure(tmp_path / "other", NOW)
    files = ensure(tmp_path / "ours", NOW)
    for damage in (Path.unlink, lambda path: shutil.copy(tmp_path / "other" / name, path)):
        damage(tmp_path / "ours" / name)
        ensure(tmp_path / "ours", NOW)
        server = load_pair(CertificateSettings(str(files.server), str(files.server_key)))
        client = load_pair(CertificateSettings(str(files.client)))
        assert server.root == client.root
        assert tuple(load_authorities(str(files.ca))) == (server.root,)
