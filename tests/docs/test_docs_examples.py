"""The documents stay true: their commands are run, their configurations loaded, their tables compared with the code.

A block whose info string ends in `run` is executed, in the order of its document: `twistd` lines are started, `$` lines
run and their output compared, other commands run and must succeed. A `toml file=NAME` block is the file of that name.
Ports and paths are exchanged for ones of the test; in outputs any number stands for any other, and a line that ends in
`...` for all that begin like it.
"""

from __future__ import annotations

import ast
import configparser
import http.client
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec
import pytest
from OpenSSL import SSL

from lbproxy import errors
from lbproxy.addresses import NetworkSet
from lbproxy.config import loads
from lbproxy.demo.backends import DemoBackend, serve
from lbproxy.errors import Outcome, TryError
from lbproxy.http.templates import PLACEHOLDERS
from lbproxy.http.trust import walk
from lbproxy.model import PolicyName, RecordSettings, Timeouts, Tlv
from lbproxy.model_http import HttpRouteSettings, HttpSettings, StickyKind
from lbproxy.model_tls import Profile
from lbproxy.net.tls import failures
from lbproxy.net.tls.profiles import SUITES
from lbproxy.preamble import header
from lbproxy.service import caching
from lbproxy.service.formats import encoder_of
from lbproxy.session.exchange_record import ExchangeRecord
from lbproxy.session.phases import PHASES
from lbproxy.session.record import RelayRecord
from tests.live.harness import Ports

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
BIN = Path(sys.executable).parent
PATIENCE = 15.0
QUICK_CHECKS = 'check = { interval = "100ms" }\n'
BACKENDS = {9001: "web1", 9002: "web2"}
CHECKS = ("checking.py", "check_tcp.py", "check_tls.py", "check_http.py")

# What a fragment leaves out, to make it a configuration.
LISTENER = '[[listener]]\nname = "web"\nbind = "127.0.0.1:1"\npool = "web"\n'
HTTP = 'protocol = "http"\n'
POOL = '[pool.web]\nbackends = "10.9.9.9:1"\n'


class Block(NamedTuple):
    """A fenced block: its language, the rest of its info string, its text."""

    language: str
    info: str
    text: str

    @property
    def runs(self) -> bool:
        return self.info == "run"

    @property
    def file(self) -> str:
        return self.info.removeprefix("file=") if self.info.startswith("file=") else ""


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [Block(*found) for found in re.findall(r"^```(\w*) ?(.*)\n((?:.*\n)*?)^```$", text, re.MULTILINE)]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


SCENES = [document for document in DOCUMENTS if any(block.runs for block in blocks(document))]


# Running.


class Scene:
    """One document at work: its files in a directory, its backends and its lbproxy on ports of the test."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.ports: dict[str, int] = {}
        self._stack = stack
        self._running: subprocess.Popen[bytes] | None = None
        self._stderr = directory / "stderr"
        self._held = Ports()
        stack.callback(self._held.release)
        backends = []
        for port, name in BACKENDS.items():
            backend = DemoBackend(name, 0)
            self.ports[str(port)] = backend.server_port
            stack.callback(backend.server_close)
            stack.callback(backend.shutdown)
            backends.append(backend)
        serve(backends)
        stack.callback(self.end)

    def play(self, block: Block) -> None:
        if block.file:
            text = self._ours(block.text)
            if "check =" not in text:
                text = re.sub(r"^(\[pool\.\w+\]\n)", rf"\1{QUICK_CHECKS}", text, flags=re.MULTILINE)
            (self.directory / block.file).write_text(text)
        elif block.text.startswith("twistd"):
            self._start(block.text.replace("\\\n", " ").strip())
        elif block.language == "sh":
            self._do(block.text)
        else:
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
                self._compare(command, expected)

    def run(self, command: str) -> str:
        """What a shell command says, on either stream."""
        done = subprocess.run(
            ["/bin/sh", "-c", self._ours(command)],
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        return self._theirs(done.stdout.decode())

    def _do(self, commands: str) -> None:
        """Run shell commands that prepare something."""
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", self._ours(commands)],
            cwd=self.directory,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    def end(self) -> None:
        """End the lbproxy that runs, if one does."""
        process, self._running = self._running, None
        if process is None:
            return
        try:
            process.send_signal(signal.SIGTERM)
            self._wait_for_log("stopping: listeners close", 1, process)
            process.send_signal(signal.SIGTERM)  # the second one ends the grace
            status = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        assert status == -signal.SIGTERM
        assert "Traceback" not in self._stderr.read_text()

    def _start(self, command: str) -> None:
        self.end()
        words = shlex.split(self._ours(command))
        with self._stderr.open("wb") as stderr:
            self._running = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        # Both backends have been checked, so the listeners accept as well.
        self._wait_for_log(" is up (was unknown)", len(BACKENDS), self._running)

    def _wait_for_log(self, text: str, times: int, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._stderr.read_text().count(text) < times:
            assert process.poll() is None, self._stderr.read_text()
            assert time.monotonic() < deadline, self._stderr.read_text()
            time.sleep(0.02)

    def _compare(self, command: str, expected: str) -> None:
        said = self.run(command.replace("curl ", "curl -sS -m 10 ", 1))
        expected_lines, lines = _plain(expected), _plain(said)
        assert len(lines) == len(expected_lines), f"{command}\n{said}"
        for line, wanted in zip(lines, expected_lines, strict=True):
            if wanted.endswith("..."):
                assert line.startswith(wanted[:-3]), f"{command}\n{said}"
            else:
                assert line == wanted, f"{command}\n{said}"

    def _ours(self, text: str) -> str:
        """A text of the documents, with places of this test."""
        text = text.replace("/run/lbproxy/", f"{self.directory}/").replace("/var/log/lbproxy/", f"{self.directory}/")
        return re.sub(
            r"\b(127\.0\.0\.1|(?:\w+\.)?localhost):(\d+)", lambda found: f"{found[1]}:{self._port(found[2])}", text
        )

    def _theirs(self, text: str) -> str:
        """A text of lbproxy, with the places of the documents."""
        for theirs, ours in self.ports.items():
            text = re.sub(rf"\b{ours}\b", theirs, text)
        return text.replace(str(self.directory), "/etc/lbproxy")

    def _port(self, theirs: str) -> int:
        if theirs not in self.ports:
            self.ports[theirs] = self._held.reserve()
        return self.ports[theirs]

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LBPROXY_")}
        return {**ours, "PATH": f"{BIN}:{ours.get('PATH', '')}"}


def _plain(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, lengths of time, widths of columns."""
    text = re.sub(r"\b(\d+[dhms])+\b", "TIME", text)
    return [" ".join(re.sub(r"\d+", "N", line).split()) for line in text.splitlines() if line.strip()]


@contextmanager
def scene(directory: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(directory, stack)


def test_the_documents_with_commands_are_these() -> None:
    pages = ("balancing", "caching", "compression", "http", "records", "routing", "running", "sticky", "tls")
    assert {"README.md", *(f"docs/{page}.md" for page in pages)} <= set(map(name_of, SCENES))
    assert sum(block.runs for document in SCENES for block in blocks(document)) >= 25


@pytest.mark.parametrize("document", SCENES, ids=name_of)
def test_the_commands_of_a_document_say_what_it_says(document: Path, tmp_path: Path) -> None:
    for tool in ("curl", "openssl", "gzip"):
        used = any(
            block.runs and re.search(rf"^(\$ )?(.*\| )?{tool} ", block.text, re.MULTILINE) for block in blocks(document)
        )
        if used and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the commands of this document were not run")
    with scene(tmp_path) as played:
        for block in blocks(document):
            if block.runs or block.file:
                played.play(block)


def test_the_questions_about_records_are_answered(tmp_path: Path) -> None:
    records = ROOT / "docs" / "records.md"
    questions = next(block.text for block in blocks(records) if block.info == "jq")
    commands = [line for line in questions.splitlines() if not line.startswith("#")]
    with scene(tmp_path) as played:
        for block in blocks(records):
            if block.file or (block.runs and block.text.startswith("twistd")):
                played.play(block)
        for port, path in (("8080", "/"), ("8080", "/"), ("8081", "/a?b=c")):
            _get(played.ports[port], path)
        deadline = time.monotonic() + PATIENCE
        while (tmp_path / "records.log").read_text().count("\n") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    found = msgspec.json.decode(b"[" + b",".join((tmp_path / "records.log").read_bytes().splitlines()) + b"]")
    found.sort(key=lambda one: str(one["protocol"]), reverse=True)
    assert [one["outcome"] for one in found] == ["ok", "ok", "ok"]
    assert {one["backend"] for one in found} == {"web1", "web2"}
    session, request = shown_records()
    assert list(session) == list(found[0]) == list(found[1])
    assert list(request) == list(found[2])
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed: the one-liners were not run")
    failed = dict(found[0], outcome="refused", t_connect_ms=250.0, t_queue_ms=3.5)
    failed["tries"] = [{"backend": "web2", "address": "10.0.0.1:1", "error": "refused", "ms": 1.0, "class": "A"}]
    failed["tls_error"] = "not_tls"
    late = dict(found[2], path="/late", status=504, outcome="response_timeout", t_total_ms=60000.5)
    late |= {"cache": "miss", "cache_reason": "Set-Cookie", "bytes_plain": 4000, "bytes_packed": 900}
    with (tmp_path / "records.log").open("ab") as file:
        file.write(msgspec.json.encode(failed) + b"\n" + msgspec.json.encode(late) + b"\n")
    answers = []
    for command in commands:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=True
        )
        assert not done.stderr
        answers.append(done.stdout.decode())
    assert answers[0].split() == ["3", "ok", "1", "response_timeout", "1", "refused"]
    assert '"refused"' in answers[1]
    assert '"sessions":' in answers[2]
    assert answers[3].split() == ["5", "127.0.0.1"]
    assert ",250" in answers[4]
    assert ",3.5," in answers[5]
    assert '"127.0.0.1/late",504,"response_timeout"' in answers[6]
    assert '["/late",60000.5]' in answers[7]
    assert answers[8].split() == ["1", "not_tls"]
    assert answers[9].split() == ["1", "web2", "refused"]
    assert answers[10].split() == ["1", "miss", "Set-Cookie"]
    assert answers[11] == "3100\n"


def shown_records() -> tuple[dict[str, object], dict[str, object]]:
    """The records that the document shows: of a session, and of a request."""
    records = {block.info: block.text for block in blocks(ROOT / "docs" / "records.md") if block.language == "json"}
    return msgspec.json.decode(records[""]), msgspec.json.decode(records["request"])


@pytest.mark.parametrize("form", ["common", "combined", "template"])
def test_the_lines_of_a_format_are_what_the_records_become(form: Literal["common", "combined", "template"]) -> None:
    shown = blocks(ROOT / "docs" / "records.md")
    template = next(tomllib.loads(block.text)["records"]["template"] for block in shown if "template =" in block.text)
    encode = encoder_of(RecordSettings(format=form, template=template))
    session, request = shown_records()
    lines = bytearray()
    for record in (msgspec.convert(request, ExchangeRecord), msgspec.convert(session, RelayRecord)):
        encode(record, lines, -1)
        lines += b"\n"
    assert lines.decode() == next(block.text for block in shown if block.language == "text" and block.info == form)


def _get(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"User-Agent": "tests"})
        assert connection.getresponse().read().startswith(b"hello from ")
    finally:
        connection.close()


# Configurations. Plain `toml` blocks are loaded by tests/config/test_config_documents.py.


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_and_fragments_in_a_document_load(document: Path) -> None:
    for block in blocks(document):
        if block.language != "toml" or not block.info or block.file == "broken.toml":
            continue
        assert block.info in ("fragment", "fragment http") or block.file, f"```toml {block.info}"
        text = block.text
        http = block.info == "fragment http"
        text += "" if "[[listener]]" in text or block.file else LISTENER + HTTP * http
        text += "" if "[pool.web]" in text or ("[pool." in text and not http) or block.file else POOL
        # Nobody has the certificates that documents name.
        problems = loads(text.replace("[pool.cache]", "[pool.web]"), name_of(document), read_files=False).problems
        assert not [problem for problem in problems if problem.severity == "error"]
        assert not ((block.file or http) and problems), problems


# Links.


def anchors(document: Path) -> set[str]:
    """What a heading is called in a link, by GitHub's rule."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# Tables.


def rows(document: str, heading: str) -> list[list[str]]:
    """The rows of the table whose heading begins with this cell, without their backquotes."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, heading
    return [[cell.strip().strip("`") for cell in line.strip().strip("|").split("|")] for line in found[1].splitlines()]


def test_the_outcomes_are_all_there() -> None:
    outcomes = [one for one in vars(errors).values() if type(one) is Outcome]
    known = {(one.word, one.state, one.flag, one.blame.value, str(one.status or "-")) for one in outcomes}
    listed = [tuple(row[:5]) for row in rows("records.md", "Outcome")]
    assert set(listed) == known
    assert len(listed) == len(known)


def test_the_errors_of_tries_are_all_there() -> None:
    assert [row[0] for row in rows("records.md", "Error")] == [error.value for error in TryError]


def test_the_fields_of_a_record_are_all_there() -> None:
    assert [row[0] for row in rows("records.md", "Field")] == [
        field.encode_name for field in msgspec.structs.fields(RelayRecord)
    ]
    fields = msgspec.structs.fields(ExchangeRecord)
    assert [row[0] for row in rows("records.md", "Field of a request")] == [field.encode_name for field in fields]
    assert [field.name for field in fields if field.required][-1] == "request_number", "the document says so"


def test_the_rules_that_requests_break_are_all_there() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for place in ("http", "session", "net")
        for path in (ROOT / "lbproxy" / place).rglob("*.py")
    )
    assert {row[0] for row in rows("records.md", "Rules")} == set(re.findall(r'"([FSTCBWLR])\d\d?"', sources))


def test_the_classes_of_tries_are_all_there() -> None:
    text = "".join((ROOT / "lbproxy" / "session" / name).read_text() for name in ("exchange.py", "retrying.py"))
    used = set(re.findall(r'"([A-D])"', text))
    assert [row[0] for row in rows("records.md", "Class")] == sorted(used)


def test_the_client_is_whom_the_document_says() -> None:
    for peer, trusted, came, client, goes in rows("http.md", "Connection from"):
        networks = None if trusted == "-" else NetworkSet([trusted])
        fields = [] if came == "-" else [(b"x-forwarded-for", came.encode(), b"")]
        origin = walk(peer, fields, networks)
        assert (origin.client_ip, origin.forwarded_for.decode()) == (client, goes)


def test_the_limits_have_the_defaults_and_answers_that_the_document_says() -> None:
    known = {(one.word, str(one.status or "-")) for one in vars(errors).values() if type(one) is Outcome}
    defaults = {
        field.name: field.default for table in (Timeouts, HttpSettings, HttpRouteSettings) for field in fields(table)
    }
    units = {"KiB": 1024, "s": 1, "min": 60, "h": 3600, "": 1}
    for key, default, status, outcome, _ in rows("http.md", "Key"):
        assert (outcome, status) in known, key
        number, _, unit = default.partition(" ")
        assert defaults[key] == (None if default == "none" else int(number) * units[unit]), key


def test_the_words_of_the_cache_are_all_there() -> None:
    assert {row[2] for row in rows("caching.md", "Cache-Status")} == set(caching._WORDS)


def test_the_reasons_why_nothing_is_stored_are_all_there() -> None:
    places = (
        "cache/storing.py",
        "session/caching.py",
        "session/finding.py",
        "session/admitting.py",
        "session/waiting.py",
    )
    known = set().union(*(_reasons(ROOT / "lbproxy" / place) for place in places))
    known -= {"", "uri-miss", "vary-miss", "miss"}  # why a backend is asked at all, and a word of the record
    tables = [*rows("caching.md", "Reason"), *rows("caching.md", "Reason of a request")]
    listed = [cell.strip(" `") for row in tables for cell in row[0].split(",")]
    assert len(listed) == len(set(listed))
    assert set(listed) == known


def _reasons(module: Path) -> set[str]:
    """What functions of a module return, or call a reason, as the document writes it."""
    found: set[str] = set()

    def gather(value: ast.expr | None) -> None:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.add(value.value)
        elif isinstance(value, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "" for part in value.values]
            found.add("".join(parts) + {"status ": "NUMBER", "Vary: ": "NAME"}["".join(parts)])
        elif isinstance(value, ast.IfExp):
            gather(value.body)
            gather(value.orelse)
        elif isinstance(value, ast.BoolOp):
            for one in value.values:
                gather(one)
        elif isinstance(value, ast.Tuple):
            for one in value.elts:
                gather(one)

    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Return):
            gather(node.value)
        elif isinstance(node, ast.Assign):
            names = [getattr(one, "id", getattr(one, "attr", "")) for one in node.targets]
            if {"reason", "verdict", "refused"} & set(names):
                gather(node.value)
    return found


def test_the_placeholders_are_all_there() -> None:
    assert [row[0].strip("{}") for row in rows("routing.md", "Placeholder")] == list(PLACEHOLDERS)


def test_the_ways_to_be_sticky_are_all_there() -> None:
    listener = LISTENER + HTTP + '[pool.web]\nbackends = "10.9.9.9:1"\nsticky = {}\n'
    kinds = set()
    for written, _, _ in rows("sticky.md", "`sticky`"):
        configuration = loads(listener.format(written), "sticky.md").configuration
        assert configuration is not None
        sticky = configuration.pool_by_name["web"].http.sticky
        assert sticky is not None
        kinds.add(sticky.kind)
    assert kinds == set(get_args(StickyKind))


def test_the_classes_of_retries_are_those_of_the_records() -> None:
    assert [row[0] for row in rows("retries.md", "Class")] == [row[0] for row in rows("records.md", "Class")]


def test_the_policies_are_all_there() -> None:
    assert [row[0] for row in rows("balancing.md", "Policy")] == list(get_args(PolicyName))


def test_the_words_for_failures_of_tls_are_all_there() -> None:
    known = {*failures._REASONS.values(), *failures._CERTIFICATE_CODES.values(), *failures._CERTIFICATE_SENTENCES}
    for path in (ROOT / "lbproxy").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        known.update(re.findall(r'(?:TlsFailure|Refusal|refuse_handshake)\(\s*"(\w+)"', text))
        for choice in re.findall(r'(?:refuse_handshake\(|tls_error = )("\w+" if [^\n,]*)', text):
            known.update(re.findall(r'"(\w+)"', choice.replace('"L10"', "")))
        known.update(re.findall(r'"(\w+): the backend \w+ within the TLS handshake"', text))
    listed = [row[0] for row in rows("tls.md", "Word")]
    assert len(listed) == len(set(listed))
    assert set(listed) == known
    assert {"peer_alert", "unknown_name", "client_hello", "timeout", "closed"} <= known


def test_the_profiles_are_all_there() -> None:
    listed = rows("tls.md", "Profile")
    assert [row[0] for row in listed] == list(get_args(Profile)) == list(SUITES)
    least = {"modern": "1.3", "intermediate": "1.2", "old": "1.0"}
    for profile, versions, _ in listed:
        assert versions.startswith(f"TLS {least[profile]}")
        name = {"1.3": SSL.TLS1_3_VERSION, "1.2": SSL.TLS1_2_VERSION, "1.0": SSL.TLS1_VERSION}[least[profile]]
        assert next(suite.least_version for word, suite in SUITES.items() if word == profile) == name


def test_what_a_proxy_header_can_carry_is_all_there() -> None:
    listed = {name: int(number, 16) for name, number, _ in rows("proxy-protocol.md", "TLV")}
    assert list(listed) == list(get_args(Tlv))
    numbers = {name: getattr(header, f"TLV_{name.upper()}") for name in listed}
    assert listed == numbers


def test_the_codes_of_health_checks_are_all_there() -> None:
    listed = {code for row in rows("balancing.md", "Code") for code in re.findall(r"L\d\w+|SOCKERR", row[0])}
    sources = "".join((ROOT / "lbproxy" / "net" / name).read_text() for name in CHECKS)
    assert listed == set(re.findall(r'"(L[467][A-Z]+|SOCKERR)"', sources))


def test_the_phases_are_all_there() -> None:
    assert [row[0] for row in rows("architecture.md", "Phase")] == list(PHASES)


def test_the_dependencies_are_all_there() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    wanted = [setup["options"]["install_requires"], *extras.values()]
    document = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    named = {line.partition(";")[0].strip() for line in "\n".join(wanted).splitlines() if line.strip()}
    assert set(re.findall(r"^\| `([^`]+)` \|", document, re.MULTILINE)) == named


def test_the_modules_that_are_named_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:\w+/)+\w*(?:\.py)?|\w+\.py)`", text):
        assert any((base / path).exists() for base in (ROOT, ROOT / "lbproxy", ROOT / "lbproxy" / "balancing")), path
