"""The system log: what twisted.logger tells, as text or as JSON lines, from a chosen level up.

Owns the form of a line and where it goes. Records of sessions are not here: see service/records.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from lbproxy.model import LogSettings
from lbproxy.service.sinks import DescriptorSink, Sink

_LEVELS = {name: position for position, name in enumerate(("debug", "info", "warn", "error", "critical"))}
# What Twisted itself says at "info" about each factory and port is of no use to an operator.
_LONGEST_WAIT = 256 * 1024
_QUIET = ("twisted.internet", "twisted.web", "log_legacy")


_WRITTEN_OUT = {
    code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029) if code != 0x09
}


@implementer(ILogObserver)
class LogObserver:
    """Writes one line an event to a stream, or to a file that `reopen` begins anew."""

    def __init__(self, settings: LogSettings, path: str | None, stream: TextIO | PatientStream | None = None) -> None:
        """Write to the file at `path`, else to `stream`. Raises OSError."""
        self._path = path
        self._stream = stream if path is None else _open(path)
        self.configure(settings)

    def configure(self, settings: LogSettings) -> None:
        """Another least level or form from now on."""
        self._least = _LEVELS[settings.level]
        self._line: Callable[[LogEvent, str], str] = _json_line if settings.format == "json" else _text_line

    def reopen(self) -> None:
        """The file may have been moved away: begin a new one. Raises OSError, and then the old one goes on."""
        if self._path is not None:
            fresh, old = _open(self._path), self._stream
            self._stream = fresh
            if old is not None:
                old.close()

    def __call__(self, event: LogEvent) -> None:
        """See ILogObserver. A stream that takes nothing costs lines, never traffic."""
        level = event.get("log_level", LogLevel.info)
        name = getattr(level, "name", "info")
        if _LEVELS[name] < self._least or self._stream is None:
            return
        if name == "info" and str(event.get("log_namespace", "")).startswith(_QUIET):
            return
        try:
            self._stream.write(self._line(event, name))
            self._stream.flush()
        except (OSError, ValueError):
            return


def _open(path: str) -> TextIO:
    return open(path, "a", encoding="utf-8", errors="backslashreplace")


def _moment(event: LogEvent) -> str:
    moment = float(event.get("log_time", time.time()))
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


def _message(event: LogEvent) -> str:
    # Stock messages end with newlines, and texts from outside may hold anything: one event stays one line.
    return _plain(formatEvent(event).strip())


def _plain(text: str) -> str:
    """`text` without anything that ends a line or moves a terminal's cursor: such characters are written out."""
    return text.translate(_WRITTEN_OUT)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback() if isinstance(failure, Failure) else ""


def _text_line(event: LogEvent, level: str) -> str:
    source = str(event.get("log_namespace", "-")).removeprefix("lbproxy.")
    line = f"{_moment(event)} {level:5} [{source}] {_message(event)}\n"
    traceback = _traceback(event)
    return line + "".join(f"    {_plain(part)}\n" for part in traceback.split("\n") if part)


def _json_line(event: LogEvent, level: str) -> str:
    line: dict[str, Any] = {
        "ts": _moment(event),
        "level": level,
        "source": str(event.get("log_namespace", "-")),
        "message": _message(event),
    }
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = traceback
    return json.dumps(line, ensure_ascii=True) + "\n"


class PatientStream(io.TextIOBase):
    """Standard output or error, without ever waiting for who reads it (threats.md R6).

    Lines that are not taken wait in a bounded buffer; beyond it they are lost, and the next that comes through says
    how many. A regular file always takes everything.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting = bytearray()
        self._lost = 0

    def write(self, text: str) -> int:
        """Take one line."""
        if len(self._waiting) > _LONGEST_WAIT:
            self._lost += 1
            return len(text)
        if self._lost:
            self._waiting += f"{self._lost} lines of the log were lost: nobody read them\n".encode()
            self._lost = 0
        self._waiting += text.encode("utf-8", "backslashreplace")
        return len(text)

    def flush(self) -> None:
        """Hand over what can be handed over now."""
        if self._waiting:
            with contextlib.suppress(OSError):
                with memoryview(self._waiting) as view:
                    taken = self._sink.write(view)
                del self._waiting[:taken]


def observer_for(settings: LogSettings, logfile: str | None, daemon: bool) -> LogObserver:
    """The observer that twistd's options ask for: a file, "-" for standard output, else standard error.

    A daemon has no standard error, so its log goes to `twistd.log` as Twisted's own would.
    """
    if logfile == "-":
        return LogObserver(settings, None, PatientStream(DescriptorSink(None, 1)))
    if logfile is None and not daemon:
        return LogObserver(settings, None, PatientStream(DescriptorSink(None, 2)))
    return LogObserver(settings, logfile or "twistd.log")
