"""What twistd asks for: options, refusals in one sentence, and the service they mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.usage import UsageError

from lbproxy import __version__, tap
from lbproxy.tap import Options, makeService
from tests.certificates.making import Authority

FILE = """
[records]
to = "none"

[[listener]]
name = "front"
bind = "127.0.0.1:8101"
pool = "web"

[pool.web]
backends = ["127.0.0.1:9101", "127.0.0.1:9102"]
check = false

[pool.api]
backends = ["127.0.0.1:9103"]
"""
QUICK = ["--listen", "tcp://127.0.0.1:8101", "--backend", "127.0.0.1:9101", "--backend", "127.0.0.1:9102"]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of ours, and a reactor that is chosen already: none is installed here."""
    for name in ("LBPROXY_CONFIG", "LBPROXY_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", ModuleType("twisted.internet.reactor"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "lbproxy.toml"
    path.write_text(FILE)
    return str(path)


def parsed(*words: str, parent: Any = None) -> Options:
    options = Options()
    options.parent = parent
    options.parseOptions(list(words))
    return options


class TestTheQuickForm:
    @pytest.mark.parametrize(
        "words",
        [
            QUICK,
            ["-l", "tcp://127.0.0.1:8101", "-b", "127.0.0.1:9101", "-b", "127.0.0.1:9102"],
            ["--listen=127.0.0.1:8101", "--backend=127.0.0.1:9101", "--backend=tcp://127.0.0.1:9102"],
        ],
    )
    def test_a_listener_and_its_backends(self, words: list[str]) -> None:
        configuration = parsed(*words)["prepared"].configuration
        (listener,), (pool,) = configuration.listeners, configuration.pools
        assert [str(bind) for bind in listener.binds] == ["127.0.0.1:8101"]
        assert [str(backend.address) for backend in pool.backends] == ["127.0.0.1:9101", "127.0.0.1:9102"]
        assert configuration.file is None

    def test_a_policy(self) -> None:
        assert parsed(*QUICK, "-p", "random")["prepared"].configuration.pools[0].policy == "random"

    def test_certificates_each_with_its_key(self, tmp_path: Path) -> None:
        authority = Authority()
        cert, key = authority.issue("a.example").write(tmp_path, "a")
        both = authority.issue("b.example").write_both(tmp_path, "b")
        words = ["--listen", "tls://127.0.0.1:8443", "--cert", cert, "--key", key, "--cert", both, "-b", "127.0.0.1:1"]
        (listener,) = parsed(*words)["prepared"].configuration.listeners
        assert [(one.path, one.key) for one in listener.tls.certificates] == [(cert, key), (both, None)]
        assert listener.name == "tls"

    def test_backends_that_speak_tls(self) -> None:
        words = ["--listen", "tcp://127.0.0.1:8101", "--backend", "tls://app.example:443"]
        (pool,) = parsed(*words)["prepared"].configuration.pools
        assert pool.tls is not None
        assert [str(backend.address) for backend in pool.backends] == ["app.example:443"]

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--listen", "tls://127.0.0.1:8443", "--backend", "127.0.0.1:1"], "--cert: is missing"),
            ([*QUICK, "--cert", "a.pem"], "--cert: has no use"),
            (["--listen", "https://127.0.0.1:80", "--backend", "127.0.0.1:9101"], "--cert: is missing"),
            (["--listen", "tcp://127.0.0.1:8101"], "--backend"),
            (["--backend", "127.0.0.1:9101"], "--listen"),
            ([*QUICK, "--policy", "fastest"], "fastest"),
            (["--listen", "htp://127.0.0.1:80", "--backend", "127.0.0.1:9101"], 'did you mean "http"?'),
            (["--listen", "tcp://127.0.0.1:99999", "--backend", "127.0.0.1:9101"], "99999"),
        ],
    )
    def test_what_is_wrong_is_printed_and_the_status_is_2(
        self, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            parsed(*words)
        assert stopped.value.code == 2
        told = capsys.readouterr()
        assert sentence in told.err
        assert told.out == ""


class TestAFile:
    def test_it_is_read(self, file: str) -> None:
        configuration = parsed("--config", file)["prepared"].configuration
        assert [pool.name for pool in configuration.pools] == ["web", "api"]
        assert configuration.file == file

    def test_it_may_be_named_by_the_environment(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LBPROXY_CONFIG", file)
        assert parsed()["prepared"].configuration.file == file
        assert parsed(*QUICK)["prepared"].configuration.file is None, "the quick form wins over the environment"

    def test_there_is_a_place_where_it_is_looked_for(
        self, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(tap, "DEFAULT_CONFIG", file)
        assert parsed()["prepared"].configuration.file == file
        monkeypatch.setattr(tap, "DEFAULT_CONFIG", str(tmp_path / "no"))
        with pytest.raises(SystemExit) as stopped:
            parsed()
        assert stopped.value.code == 2
        assert "no" in capsys.readouterr().err

    def test_every_problem_is_printed_and_the_status_is_2(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path(file).write_text(FILE.replace("pool =", "pol =").replace("backends = [", 'backends = ["x", '))
        with pytest.raises(SystemExit) as stopped:
            parsed("--config", file)
        assert stopped.value.code == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) >= 3
        assert all(line.startswith(f"{file}:") for line in told)

    def test_the_level_of_the_command_line_wins(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(file).write_text(FILE + '\n[log]\nlevel = "warn"\n')
        assert parsed("--config", file)["prepared"].configuration.log.level == "warn"
        monkeypatch.setenv("LBPROXY_LOG_LEVEL", "error")
        assert parsed("--config", file)["prepared"].configuration.log.level == "error"
        prepared = parsed("--config", file, "--log-level", "debug")["prepared"]
        assert prepared.configuration.log.level == "debug"
        assert prepared.load_again().configuration.log.level == "debug", "after a reload too"


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--config", "f", *QUICK], "--config and the quick form .* exclude each other"),
            (["--config", "f", "--policy", "random"], "exclude each other"),
            (["--config", "f", "--cert", "a.pem"], "exclude each other"),
            (["--config", "f", "--key", "a.key"], "exclude each other"),
            ([*QUICK, "--format", "xml"], "--format is 'xml', it must be text or json"),
            ([*QUICK, "--log-level", "loud"], "log level is 'loud', it must be one of debug, info, warn, error"),
            ([*QUICK, "more"], "."),
            (["--nonsense"], "nonsense"),
        ],
    )
    def test_wrong_words(self, words: list[str], sentence: str) -> None:
        with pytest.raises(UsageError, match=sentence):
            parsed(*words)

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            parsed("--version")
        assert stopped.value.code == 0
        assert __version__ in capsys.readouterr().out


class TestCheck:
    def test_a_file_that_is_fine(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            parsed("--config", file, "--check")
        assert stopped.value.code == 0
        assert f"{file}: fine" in capsys.readouterr().out

    def test_a_file_that_is_not(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path(file).write_text(FILE.replace("pool =", "pol ="))
        with pytest.raises(SystemExit) as stopped:
            parsed("--config", file, "--check")
        assert stopped.value.code == 2
        told = capsys.readouterr()
        assert "did you mean" in told.out
        assert "fine" not in told.out
        assert told.err == ""

    def test_as_json(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path(file).write_text(FILE.replace("pool =", "pol ="))
        with pytest.raises(SystemExit) as stopped:
            parsed("--config", file, "--check", "--format", "json")
        assert stopped.value.code == 2
        problems = json.loads(capsys.readouterr().out)
        assert {problem["file"] for problem in problems} == {file}
        assert all(problem["line"] for problem in problems)

    def test_dates_are_judged_by_the_clock(self, file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        Authority().issue("a.example", days=-1).write(tmp_path, "a")
        Path(file).write_text(FILE.replace('pool = "web"', 'pool = "web"\ntls = { cert = "a.crt" }'))
        with pytest.raises(SystemExit) as stopped:
            parsed("--config", file, "--check")
        assert stopped.value.code == 0
        assert f"listener[0].tls.cert: {tmp_path}/a.crt: expired on " in capsys.readouterr().out

    def test_the_quick_form(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            parsed(*QUICK, "--check")
        assert stopped.value.code == 0
        assert "fine" in capsys.readouterr().out


class TestTheLog:
    @pytest.mark.parametrize(
        ("twistd", "taken"),
        [
            ({"logfile": None, "nodaemon": True}, True),
            ({"logfile": "f", "nodaemon": False}, True),
            ({"logfile": None, "syslog": True}, False),
            ({"logfile": None, "logger": "their.own"}, False),
        ],
    )
    def test_it_is_ours_unless_the_operator_chose_another(self, twistd: dict[str, Any], taken: bool) -> None:
        before = twistd.get("logger")
        parsed(*QUICK, parent=twistd)
        assert twistd.get("logger") == ("lbproxy.service.start.chosen_observer" if taken else before)

    def test_without_twistd(self) -> None:
        assert parsed(*QUICK).parent is None


class TestTheService:
    def test_it_has_the_pools_of_the_file(self, file: str) -> None:
        service = makeService(parsed("--config", file), Clock())
        assert sorted(service.balancer.pools) == ["api", "web"]
        assert service.name == "lbproxy"
        assert sorted(one.name for one in service) == ["balancer", "caching", "certificates", "control"]

    def test_it_can_read_its_file_again(self, file: str) -> None:
        prepared = parsed("--config", file)["prepared"]
        Path(file).write_text(FILE.replace("[pool.api]", "[pool.new]"))
        assert [pool.name for pool in prepared.load_again().configuration.pools] == ["web", "new"]
        Path(file).write_text("nonsense")
        assert prepared.load_again().configuration is None

    def test_a_certificate_is_read_again_with_the_file(self, file: str, tmp_path: Path) -> None:
        cert, _ = Authority().issue("a.example").write(tmp_path, "a")
        Path(file).write_text(FILE.replace('pool = "web"', 'pool = "web"\ntls = { cert = "a.crt" }'))
        prepared = parsed("--config", file)["prepared"]
        Authority().issue("a.example", days=-1).write(tmp_path, "a")
        assert [problem.severity for problem in prepared.load_again().problems if "expired" in problem.message]
        Path(cert).unlink()
        assert prepared.load_again().configuration is None

    def test_the_quick_form_has_nothing_to_read_again(self) -> None:
        service = makeService(parsed(*QUICK), Clock())
        (problem,) = service.reload()
        assert "no configuration file" in problem.message
        service.records.close()
