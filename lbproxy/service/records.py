"""Writing records: gathered for a moment, encoded together, handed to a sink that never makes anybody wait.

Owns the buffer between sessions and their sink. Where the sink does not take more (full disk, blocked pipe, dead
syslog), traffic goes on: the buffer fills up to its bound, then records are dropped and counted.
"""

from __future__ import annotations

import errno
from typing import Any

import msgspec
from twisted.logger import Logger

from lbproxy.errors import StartError
from lbproxy.model import RecordSettings
from lbproxy.net.dialing import target_of
from lbproxy.service.formats import Encode, encoder_of
from lbproxy.service.sinks import DescriptorSink, Sink, SyslogSink

# Encoded and written together, so that a record costs no system call of its own (seconds, records).
FLUSH_SECONDS = 0.2
_BATCH = 256
_SAY_AGAIN = 60.0


class RecordWriter:
    """Takes records from sessions; `dropped` counts those that were lost, `written` those handed to the sink."""

    log = Logger()

    def __init__(self, settings: RecordSettings, reactor: Any) -> None:
        """Open the sink. Raises StartError."""
        self.settings = settings
        self.dropped = 0
        self.written = 0
        self._reactor = reactor
        self._encode = _encoder(settings)
        self._records: list[msgspec.Struct] = []
        self._buffer = bytearray()
        # Whether the sink took a part of the line with which the buffer begins.
        self._cut = False
        self._sink = self._open(settings)
        self._due: Any = None
        self._said = float("-inf")

    def _open(self, settings: RecordSettings) -> Sink | None:
        if settings.to == "none":
            return None
        if settings.to == "syslog":
            assert settings.address is not None  # the configuration has seen to it
            return SyslogSink(*target_of(settings.address), self._lose_one)
        try:
            return DescriptorSink(settings.path if settings.to == "file" else None)
        except OSError as problem:
            where = settings.path or "standard output"
            raise StartError(f"records cannot be written to {where}: {problem.strerror}") from problem

    @property
    def enabled(self) -> bool:
        """Whether anybody reads records at all."""
        return self._sink is not None

    def write(self, record: msgspec.Struct) -> None:
        """Take one record. It is on its way to the sink within FLUSH_SECONDS."""
        records = self._records
        records.append(record)
        if self._due is None:
            self._due = self._reactor.callLater(FLUSH_SECONDS, self._flush_due)
        elif len(records) >= _BATCH:
            self.flush()

    def _flush_due(self) -> None:
        self._due = None
        self.flush()
        if self._buffer:
            self._due = self._reactor.callLater(FLUSH_SECONDS, self._flush_due)

    def flush(self) -> None:
        """Encode what was taken and give the sink as much as it takes."""
        buffer, bound = self._buffer, self.settings.buffer
        encode = self._encode
        for record in self._records:
            if len(buffer) >= bound:
                self._hand_over()
                if len(buffer) >= bound:
                    self.dropped += 1
                    continue
            encode(record, buffer, -1)
            buffer += b"\n"
            self.written += 1
        self._records.clear()
        self._hand_over()

    def _hand_over(self) -> None:
        buffer = self._buffer
        if self._sink is None or not buffer:
            buffer.clear()
            return
        taken = 0
        with memoryview(buffer) as view:
            try:
                taken = self._sink.write(view)
            except OSError as problem:
                self._failed(problem)
        if taken:
            self._cut = buffer[taken - 1 : taken] != b"\n"
            del buffer[:taken]

    def _failed(self, problem: OSError) -> None:
        now = self._reactor.seconds()
        if now - self._said >= _SAY_AGAIN:
            self._said = now
            why = "nobody reads them" if problem.errno == errno.EAGAIN else problem.strerror
            self.log.warn(
                "records wait: {why}; up to {buffer} bytes are kept, then they are dropped ({dropped} so far)."
                " Traffic goes on",
                why=why,
                buffer=self.settings.buffer,
                dropped=self.dropped,
            )

    def _begin_line(self) -> None:
        """Before another file: the rest of a line that the last one has half of belongs nowhere."""
        if self._cut:
            self._cut = False
            del self._buffer[: self._buffer.find(b"\n") + 1]
            self._lose_one()

    def _lose_one(self) -> None:
        self.dropped += 1
        self.written -= 1

    def reopen(self) -> None:
        """After log rotation: write to a new file of the same name."""
        self.flush()
        if self._sink is not None:
            try:
                self._sink.reopen()
            except OSError as problem:
                self.log.error("records go on to the old file: {problem}", problem=problem)
                return
            self._begin_line()
            self.flush()

    def configure(self, settings: RecordSettings) -> None:
        """Write elsewhere from now on. Raises StartError, and then changes nothing."""
        if settings == self.settings:
            return
        encode = _encoder(settings)
        sink = self._open(settings)
        self.flush()
        if self._sink is not None:
            self._sink.close()
        self._sink, self.settings, self._encode = sink, settings, encode
        self._begin_line()

    def close(self) -> None:
        """Write what is left, as far as the sink takes it now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self.flush()
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        left = self._buffer.count(b"\n")
        self._buffer.clear()
        self.dropped += left
        self.written -= left


def _encoder(settings: RecordSettings) -> Encode:
    try:
        return encoder_of(settings)
    except ValueError as problem:
        raise StartError(f"records cannot be written as {settings.template!r}: {problem}") from problem
