"""The system log: one event is one line, whatever it says, and only from the chosen level up."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from lbproxy.model import LogSettings
from lbproxy.service.logs import LogObserver, observer_for

Form = Literal["text", "json"]


def logged(form: Form, text: str, level: Any = "info", **rest: Any) -> str:
    """What is written for one event."""
    stream = io.StringIO()
    observer = LogObserver(LogSettings("info", form), None, stream)
    event = {
        "log_format": "{text}",
        "text": text,
        "log_time": 1_700_000_000.25,
        "log_level": LogLevel.lookupByName(level),
        "log_namespace": "lbproxy.service.proxy",
        **rest,
    }
    observer(event)
    return stream.getvalue()


class TestLines:
    def test_text(self) -> None:
        assert logged("text", "hello") == "2023-11-14T22:13:20.250Z info  [service.proxy] hello\n"

    def test_json(self) -> None:
        assert json.loads(logged("json", "hello")) == {
            "ts": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "source": "lbproxy.service.proxy",
            "message": "hello",
        }

    @pytest.mark.parametrize("form", ["text", "json"])
    @pytest.mark.parametrize("odd", ["a\r\nb", "a\nb", "a\rb", "a\x1b[31mb", "\n", '"\\"', "{braces}", "\ud800", ""])
    def test_one_event_is_one_line(self, form: Form, odd: str) -> None:
        line = logged(form, odd)
        assert line.count("\n") == 1
        assert line.endswith("\n")
        assert "\r" not in line
        assert "\x1b" not in line
        if form == "json":
            json.loads(line)

    @pytest.mark.parametrize("form", ["text", "json"])
    @pytest.mark.parametrize("octet", ["\x00", "\x07", "\x08", "\x0b", "\x0c", "\x7f", "\x85", "\x9b", "\u2028"])
    def test_nothing_that_moves_the_cursor_reaches_a_terminal(self, form: Form, octet: str) -> None:
        assert octet not in logged(form, f"a{octet}b")

    @settings(deadline=None)
    @given(st.text(), st.sampled_from(["text", "json"]))
    def test_any_text(self, text: str, form: Form) -> None:
        line = logged(form, text)
        assert (line.count("\n"), line.count("\r"), line.count("\x1b")) == (1, 0, 0)

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_a_failure_brings_its_traceback(self, form: Form) -> None:
        try:
            raise ValueError("odd\r\n2023-11-14T22:13:20.250Z info  [x] forged \x1b[2J")
        except ValueError:
            failure = Failure()
        written = logged(form, "a fault", "critical", log_failure=failure)
        first, *rest = written.splitlines()
        assert "a fault" in first
        assert "\x1b" not in written
        if form == "json":
            assert rest == []
            assert "ValueError" in json.loads(first)["traceback"]
        else:
            assert rest
            assert all(line.startswith("    ") for line in rest), "nothing in it looks like a line of the log"

    def test_a_message_that_cannot_be_formatted_is_a_line_all_the_same(self) -> None:
        assert logged("text", "x", log_format="{nothing}").count("\n") == 1


class TestLevels:
    @pytest.mark.parametrize("least", ["debug", "info", "warn", "error"])
    def test_from_the_chosen_level_up(self, least: Any) -> None:
        stream = io.StringIO()
        log = Logger("lbproxy.x", observer=LogPublisher(LogObserver(LogSettings(least), None, stream)))
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(log, level)("a {word}", word=level)
        every = ["debug", "info", "warn", "error", "critical"]
        assert [line.split()[-1] for line in stream.getvalue().splitlines()] == every[every.index(least) :]

    def test_what_twisted_says_about_its_ports_is_of_no_use(self) -> None:
        assert logged("text", "starting factory", log_namespace="twisted.internet.protocol.Factory") == ""
        assert logged("text", "trouble", "warn", log_namespace="twisted.internet.tcp.Port") != ""

    def test_another_level_and_form_from_now_on(self) -> None:
        stream = io.StringIO()
        observer = LogObserver(LogSettings("error"), None, stream)
        log = Logger("lbproxy.x", observer=observer)
        log.info("no")
        observer.configure(LogSettings("debug", "json"))
        log.debug("yes")
        assert json.loads(stream.getvalue())["message"] == "yes"


class TestFiles:
    def test_a_file_is_begun_anew_after_its_rotation(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        observer = LogObserver(LogSettings(), str(path))
        log = Logger("lbproxy.x", observer=observer)
        log.info("one")
        path.rename(tmp_path / "old")
        observer.reopen()
        log.info("two é")
        assert "one" in (tmp_path / "old").read_text()
        assert "two é" in path.read_text(encoding="utf-8")
        path.unlink()
        path.parent.joinpath("log").mkdir()
        with pytest.raises(OSError, match="log"):
            observer.reopen()
        log.info("three")
        observer._stream.close()  # type: ignore[union-attr]  # nobody else closes it

    def test_a_full_disk_costs_lines(self) -> None:
        observer = LogObserver(LogSettings(), "/dev/full")
        for number in range(1000):
            Logger("lbproxy.x", observer=observer).info("lost {number}", number=number)
        with contextlib.suppress(OSError):
            observer._stream.close()  # type: ignore[union-attr]  # nobody else closes it

    def test_where_twistd_wants_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for number, (logfile, daemon) in enumerate([("-", False), (None, False), (None, True), ("own.log", True)]):
            observer = observer_for(LogSettings(), logfile, daemon)
            Logger("lbproxy.x", observer=observer).info("number {number}", number=number)
            if daemon:
                observer._stream.close()  # type: ignore[union-attr]  # nobody else closes it
        out, err = capfd.readouterr()
        assert "number 0" in out
        assert "number 1" in err
        assert "number 2" in (tmp_path / "twistd.log").read_text()
        assert "number 3" in (tmp_path / "own.log").read_text()
