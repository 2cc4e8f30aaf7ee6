"""The demo as somebody meets it: started, and everything typed that it says to type."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lbproxy.certificates import load_authorities, load_pair
from lbproxy.config import load
from lbproxy.demo import websocket
from lbproxy.demo.certificates import NAMES, ensure
from lbproxy.model_tls import CertificateSettings
from tests.live.harness import PATIENCE, Ports, until

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)
DEMO = [sys.executable, "-m", "lbproxy.demo", "etc/demo.toml"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def set_up(place: Path, ports: Ports) -> Path:
    """Make `place` a directory with etc/demo.toml in it, on ports of this test."""
    text = (ROOT / "etc" / "demo.toml").read_text(encoding="utf-8")
    text = text.replace("/tmp/lbproxy-demo.sock", f"{place}/demo.sock")
    for port in sorted(set(re.findall(r"(?<=127\.0\.0\.1:)\d+", text))):
        text = re.sub(rf"(127\.0\.0\.1|localhost):{port}\b", rf"\1:{ports.reserve()}", text)
    (place / "etc").mkdir()
    (place / "etc" / "demo.toml").write_text(text)
    (place / "README.md").write_text("to be uploaded")
    return place


@pytest.fixture
def place(tmp_path: Path, ports: Ports) -> Path:
    return set_up(tmp_path, ports)


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

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said.splitlines() if line.startswith('{"ts"')]

    def type(
        self, word: str, seconds: float = 10, instead: tuple[str, str] = ("", "")
    ) -> subprocess.CompletedProcess[str]:
        """Type it, with the second of `instead` in place of the first."""
        command = self.command(word).replace("curl ", f"curl -sS -m {seconds} ").replace(*instead)
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.place,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def names(self, word: str, times: int) -> list[str]:
        """Type it some times: which backends say hello; "" for something else."""
        said = [self.type(word).stdout for _ in range(times)]
        return [found[1] if (found := re.match(r"hello from (\w+),", text)) else "" for text in said]

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(PATIENCE) == 0
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One for all tests."""
    ports = Ports()
    try:
        running = Demo(set_up(tmp_path_factory.mktemp("demo"), ports))
        yield running
        running.end()
    finally:
        ports.release()


def test_all_that_the_banner_says_to_type_does_what_it_says(demo: Demo) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the commands of the demo were not run")
    three = {"blue", "green", "orange"}
    assert set(demo.names("try", 3)) == three
    assert set(demo.names("Canary", 3)) <= {*three, "purple"}
    assert len(set(demo.names("Sticky", 3))) == 1
    assert "\nX-Forwarded-For: 127.0.0.1\n" in demo.type("As it arrives").stdout
    # Of ten in a row three fail, and behind each that failed comes one that does not.
    assert set(demo.names("Failures hidden", 7)) <= three
    assert 2 <= demo.names("Failures shown", 10).count("") <= 4
    assert re.match(r'id: 1\ndata: {"name": "(blue|green|orange)", "number": 1,', demo.type("Events", 0.5).stdout)
    assert re.match(r"\w+ got 14 bytes, SHA-256 [0-9a-f]{64}\n", demo.type("Upload").stdout)
    for word in ("Redirected", "Ended here"):
        ended = demo.type(word)
        assert re.match(r"hello from (blue|green|orange),", ended.stdout), ended.stderr
    passed = demo.type("Passed through")
    assert passed.stdout.startswith("hello from purple,"), passed.stderr
    shut = demo.type("A name that is shut")
    assert shut.returncode != 0
    assert not shut.stdout
    opened = demo.type("and with a key, open")
    assert "\nX-Client-Cert-Subject: CN=lbproxy demo client\n" in opened.stdout, opened.stderr
    assert "demo/blue" in demo.type("Watch").stdout
    assert demo.type("Take").stdout == "demo/blue: drain\n"
    assert demo.type("back").stdout.startswith("demo/blue: ")
    # That of the stream comes when the next event finds nobody.
    last = {("demo-tls", "/echo"), ("demo", "/stream")}
    until(lambda: last <= {(one["listener"], one.get("path")) for one in demo.records}, "records")
    hidden = [one for one in demo.records if (one.get("path"), one.get("method")) == ("/flaky", "GET")]
    assert {one["status"] for one in hidden} == {200}
    assert sum(one["retries"] for one in hidden) >= 1
    trouble = {(one["listener"], one.get("path", ""), one["outcome"]) for one in demo.records if one["outcome"] != "ok"}
    assert trouble - {
        # What is passed through may end with the backend's close_notify coming to a client that has left.
        ("demo-passing", "", "client_gone"),
        ("demo", "/flaky", "backend_closed"),
        ("demo", "/late", "response_timeout"),
    } == {("demo", "/stream", "client_gone"), ("demo-tls", "", "tls_handshake")}
    assert "warn" not in demo.said, demo.said


def test_what_the_banner_says_of_the_cache_is_so(demo: Demo) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the commands of the demo were not run")
    quick = ("/report", "/report?seconds=0.1")
    first, second = told(demo.type("Cached", instead=quick).stdout), told(demo.type("Cached", instead=quick).stdout)
    assert first.status.endswith("; fwd=uri-miss; stored")
    assert "; hit; ttl=" in second.status
    assert first.text == second.text
    basket = [told(demo.type("Not stored").stdout) for _ in range(2)]
    assert {one.status for one in basket} == {'lbproxy; fwd=uri-miss; detail="Set-Cookie"'}
    assert basket[0].text != basket[1].text
    packed, plain = (int(demo.type("Packed", instead=one).stdout) for one in (("", ""), ("gzip", "identity")))
    assert packed < plain / 5
    assert f"plain it has {plain} bytes" in demo.said
    crowd = demo.type("A thousand", instead=("?[", "?seconds=0.2&["))
    assert re.fullmatch(r" *1000 hello from (blue|green|orange), .*\n", crowd.stdout), crowd.stderr
    assert re.search(r"^hits +\d{3}$", demo.type("The cache").stdout, re.MULTILINE)


def test_news_go_on_when_their_backend_is_broken_and_say_so(demo: Demo) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the commands of the demo were not run")
    fresh = told(demo.type("Stale, not down").stdout)
    assert fresh.status.endswith("; stored")
    assert demo.type("Break them").stdout == "teal is broken\n"
    config = ("cache stat", "cache purge --soft --all")  # two seconds later
    assert "marked stale" in demo.type("The cache", instead=config).stdout
    stale = told(demo.type("Stale, not down").stdout)
    assert stale == (fresh.text, "lbproxy; fwd=stale; fwd-status=503")
    assert demo.type("Break them", instead=("-X POST ", "")).stdout == "That takes a POST.\n"
    assert demo.type("Break them", instead=("/break", "/mend")).stdout == "teal is mended\n"
    mended = told(demo.type("Stale, not down").stdout)
    assert mended.status.endswith("; fwd=stale; fwd-status=200; stored")
    assert mended.text != fresh.text


class Told(NamedTuple):
    """The text of an answer, and its Cache-Status."""

    text: str
    status: str


def told(answer: str) -> Told:
    """What curl -i has written."""
    head, _, text = answer.partition("\n\n")
    found = re.search(r"^Cache-Status: (.*)$", head, re.MULTILINE)
    return Told(text, "" if found is None else found[1])


def test_a_browser_gets_the_page_and_a_websocket(demo: Demo) -> None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)/ ", demo.said)
    assert found is not None
    port = int(found[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers={"Accept": "text/html,application/xhtml+xml"})
        page = connection.getresponse().read().decode()
        assert "This page came from <strong>" in page
        assert not re.search(r"@\w+@|(src|href)=.(https?:)?//", page)
        # Everything that the page asks for is there.
        asked = r'(?:data-(?:ask|watch|weigh|crowd|post)=|href=|fetch\(|EventSource\()"(/[^"]*)"'
        quick = {"/report": "?seconds=0", "/popular": "?seconds=0"}
        for path in sorted(set(re.findall(asked, page)) - {"/stream"}):
            connection.request("GET", path + quick.get(path, ""), headers={"Accept": "application/json"})
            answer = connection.getresponse()
            answer.read()
            switches = {"/news/break": 405, "/news/mend": 405}
            assert answer.status == {"/late": 504, "/secure": 307, **switches}.get(path, 200), path
        connection.request("GET", "/report?seconds=0", headers={"Accept": "text/html"})
        answer = connection.getresponse()
        assert "Asked again just now" in answer.read().decode()
        assert answer.headers["Cache-Status"].endswith("; stored")
    finally:
        connection.close()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client, client.makefile("rb") as source:
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = [source.readline()]
        while head[-1] != b"\r\n":
            head.append(source.readline())
        assert head[0].startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head  # RFC 6455, section 1.3
        greeting = source.read(source.read(2)[1])
        assert greeting.startswith(b"Hello from ")
        # In two fragments with a mask, a ping in between, and the close (section 5.7).
        client.sendall(b"\x01\x83\x37\xfa\x21\x3d\x7f\x9f\x4d\x89\x80\x00\x00\x00\x00")
        client.sendall(b"\x80\x82\x37\xfa\x21\x3d\x5b\x95\x88\x82\x00\x00\x00\x00\x03\xe8")
        assert source.read() == b"\x01\x03Hel\x8a\x00\x80\x02lo\x88\x02\x03\xe8"


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_of_the_websocket_have_the_right_length(size: int) -> None:
    head = {
        0: b"\x00",
        125: b"\x7d",
        126: b"\x7e\x00\x7e",
        65535: b"\x7e\xff\xff",
        65536: b"\x7f" + bytes(5) + b"\x01\0\0",
    }
    assert websocket.frame(0x82, bytes(size)) == b"\x82" + head[size] + bytes(size)


@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"\x81\x03abc", 1002), (b"\xc1\x80\0\0\0\0", 1002), (b"\x82\xff" + (65537).to_bytes(8) + b"\0\0\0\0", 1009)],
    ids=["unmasked", "reserved bit", "too long"],
)
def test_the_websocket_ends_with_a_reason_what_it_does_not_take(sent: bytes, code: int) -> None:
    sink = io.BytesIO()
    websocket.echo(io.BytesIO(sent), sink, "hi")
    assert sink.getvalue() == b"\x81\x02hi\x88\x02" + code.to_bytes(2)


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
    public, private = ("ca.pem", "localhost.pem"), ("localhost.key", "client.pem", "sticky.keys")
    assert modes == {**dict.fromkeys(public, 0o644), **dict.fromkeys(private, 0o600)}
    # Nobody can issue more of them: there are the keys of the server and of the client, and no third one.
    texts = [path.read_text() for path in (tmp_path / "new").iterdir()]
    assert sum(text.count("PRIVATE KEY-----") for text in texts) == 2 * 2


def test_the_certificates_are_used_again_as_long_as_they_are_good(tmp_path: Path) -> None:
    files = ensure(tmp_path, NOW)
    before, secret = files.server.read_bytes(), files.sticky.read_bytes()
    assert ensure(tmp_path, NOW + timedelta(days=28)).server.read_bytes() == before
    assert ensure(tmp_path, NOW + timedelta(days=29, hours=1)).server.read_bytes() != before
    assert files.sticky.read_bytes() == secret


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
