"""Writing records: in batches, whole lines, never waiting, never beyond the bound."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from lbproxy.addresses import Address
from lbproxy.errors import StartError
from lbproxy.model import RecordSettings
from lbproxy.service.counters import Counters, Stamps
from lbproxy.service.notify import notify_systemd
from lbproxy.service.records import RecordWriter


class Line(msgspec.Struct):
    """A record."""

    number: int
    text: str = ""


def to_file(path: object, **rest: Any) -> RecordSettings:
    return RecordSettings("file", str(path), **rest)


def lines(text: str) -> list[int]:
    """The numbers of all lines; each must be whole."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line)["number"] for line in text.splitlines()]


class TestAFile:
    def test_records_are_gathered_and_written_together(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "r", Clock()
        writer = RecordWriter(to_file(path), clock)
        for number in range(10):
            writer.write(Line(number))
        assert path.read_text() == ""
        clock.advance(0.3)
        assert lines(path.read_text()) == list(range(10))
        assert clock.getDelayedCalls() == [], "nothing is due while there is nothing"
        writer.close()

    def test_many_are_written_at_once(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "r", Clock()
        writer = RecordWriter(to_file(path), clock)
        for number in range(1000):
            writer.write(Line(number))
        assert len(lines(path.read_text())) >= 512
        writer.close()
        assert lines(path.read_text()) == list(range(1000))
        assert (writer.written, writer.dropped) == (1000, 0)

    def test_a_file_grows_and_is_not_everybodys(self, tmp_path: Path) -> None:
        path = tmp_path / "r"
        for number in range(2):
            writer = RecordWriter(to_file(path), Clock())
            writer.write(Line(number))
            writer.close()
        assert lines(path.read_text()) == [0, 1]
        assert path.stat().st_mode & 0o007 == 0

    def test_after_rotation_a_new_file_is_begun(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "r", Clock()
        writer = RecordWriter(to_file(path), clock)
        writer.write(Line(1))
        os.rename(path, tmp_path / "old")
        writer.reopen()
        writer.write(Line(2))
        clock.advance(0.3)
        assert lines((tmp_path / "old").read_text()) == [1]
        assert lines(path.read_text()) == [2]
        writer.close()

    def test_a_new_file_that_cannot_be_made_leaves_the_old_one(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "d" / "r", Clock()
        path.parent.mkdir()
        writer = RecordWriter(to_file(path), clock)
        os.rename(path.parent, tmp_path / "e")
        writer.reopen()
        writer.write(Line(1))
        writer.close()
        assert lines((tmp_path / "e" / "r").read_text()) == [1]

    def test_a_path_that_cannot_be_opened_is_an_error_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="records cannot be written"):
            RecordWriter(to_file(tmp_path / "no" / "r"), Clock())

    def test_odd_texts_stay_one_line(self, tmp_path: Path) -> None:
        writer = RecordWriter(to_file(tmp_path / "r"), Clock())
        writer.write(Line(1, 'a"\r\n\x1b\x00\u2028é'))
        writer.close()
        raw = (tmp_path / "r").read_bytes()
        assert raw.count(b"\n") == 1
        assert b"\x1b" not in raw
        assert json.loads(raw)["text"] == 'a"\r\n\x1b\x00\u2028é'


class TestASinkThatTakesNothing:
    def test_a_full_disk_costs_records_and_nothing_else(self) -> None:
        clock = Clock()
        writer = RecordWriter(to_file("/dev/full", buffer=2000), clock)
        for number in range(1000):
            writer.write(Line(number, "x" * 50))
            if number % 10 == 0:
                clock.advance(0.3)
        clock.advance(0.3)
        assert writer.dropped > 900
        assert writer.written + writer.dropped == 1000
        assert len(clock.getDelayedCalls()) == 1, "it tries again"
        writer.close()
        assert clock.getDelayedCalls() == []

    def test_a_blocked_pipe_makes_nobody_wait_and_loses_no_whole_line(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "fifo", Clock()
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = RecordWriter(to_file(path, buffer=20_000), clock)
        for number in range(5000):
            writer.write(Line(number, "x" * 40))
        clock.advance(0.3)
        assert writer.dropped > 0
        got = bytearray()

        def take() -> None:
            try:
                while data := os.read(reader, 1 << 16):
                    got.extend(data)
            except BlockingIOError:
                pass

        for _ in range(5):
            take()
            clock.advance(0.3)
        writer.write(Line(9999))
        clock.advance(0.3)
        take()
        numbers = lines(got.decode())
        assert numbers == sorted(set(numbers)), "in order, none twice"
        assert numbers[-1] == 9999, "it goes on when somebody reads again"
        assert len(numbers) == writer.written
        assert writer.written + writer.dropped == 5001
        writer.close()
        os.close(reader)

    @pytest.mark.parametrize("bound", [100, 5000, 20_000])
    def test_what_waits_is_bounded(self, tmp_path: Path, bound: int) -> None:
        path, clock = tmp_path / "fifo", Clock()
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = RecordWriter(to_file(path, buffer=bound), clock)
        for number in range(8000):
            writer.write(Line(number, "x" * 40))
        clock.advance(0.3)
        pipe_takes = 70_000
        assert writer.written * 60 <= bound + pipe_takes + 400
        writer.close()
        os.close(reader)

    def test_after_rotation_the_new_file_begins_with_a_whole_line(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "r", Clock()
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer = RecordWriter(to_file(path), clock)
        for number in range(3000):
            writer.write(Line(number, "x" * 33))
        clock.advance(0.3)  # the pipe took a part of some line
        path.unlink()
        path.touch()
        writer.reopen()
        writer.write(Line(9999))
        writer.close()
        os.close(reader)
        assert lines(path.read_text())[-1] == 9999

    @settings(max_examples=60, deadline=None)
    @given(
        takes=st.lists(st.one_of(st.integers(0, 200), st.none()), max_size=40),
        sizes=st.lists(st.integers(0, 120), min_size=1, max_size=60),
        bound=st.integers(1, 3000),
    )
    def test_partial_writes_keep_lines_whole(self, takes: list[int | None], sizes: list[int], bound: int) -> None:
        clock, taken, offers = Clock(), bytearray(), iter(takes)

        class Slow:
            def write(self, data: memoryview) -> int:
                most = next(offers, 1 << 20)
                if most is None:
                    raise BlockingIOError(11, "Resource temporarily unavailable")
                taken.extend(data[:most])
                return len(data[:most])

            def reopen(self) -> None:
                pass

            def close(self) -> None:
                pass

        class Writer(RecordWriter):
            def _open(self, settings: RecordSettings) -> Slow:
                return Slow()

        writer = Writer(to_file("slow", buffer=bound), clock)
        for number, size in enumerate(sizes):
            writer.write(Line(number, "x" * size))
            if size % 3 == 0:
                clock.advance(0.25)
        clock.pump([0.25] * 50)
        numbers = lines(taken.decode())
        assert numbers == sorted(set(numbers))
        assert len(numbers) == writer.written
        assert writer.written + writer.dropped == len(sizes)
        writer.close()


class TestOtherSinks:
    def test_none(self) -> None:
        clock = Clock()
        writer = RecordWriter(RecordSettings("none"), clock)
        assert not writer.enabled
        writer.write(Line(1))
        clock.advance(1)
        writer.reopen()
        writer.close()

    def test_standard_output(self) -> None:
        reader, end = os.pipe()
        before = os.dup(1)
        os.dup2(end, 1)
        try:
            writer = RecordWriter(RecordSettings("stdout"), Clock())
        finally:
            os.dup2(before, 1)
            os.close(before)
        assert os.get_blocking(end), "the shell shares this pipe: it stays as it was"
        os.close(end)
        writer.write(Line(1))
        writer.close()
        assert lines(os.read(reader, 1000).decode()) == [1]
        os.close(reader)

    def test_syslog_gets_one_datagram_a_record(self, tmp_path: Path) -> None:
        path = str(tmp_path / "log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(path)
            daemon.settimeout(5)
            writer = RecordWriter(RecordSettings("syslog", address=Address("unix", path)), Clock())
            writer.write(Line(1))
            writer.write(Line(2))
            writer.close()
            for number in (1, 2):
                data = daemon.recv(1000)
                assert data.startswith(b"<134>1 20")
                head, _, body = data.partition(b" record - ")
                assert b" lbproxy %d" % os.getpid() in head
                assert json.loads(body)["number"] == number

    def test_a_dead_syslog_costs_records(self, tmp_path: Path) -> None:
        clock = Clock()
        writer = RecordWriter(RecordSettings("syslog", address=Address("unix", str(tmp_path / "no"))), clock)
        for number in range(10):
            writer.write(Line(number))
        clock.advance(1)
        assert (writer.written, writer.dropped) == (0, 10)
        writer.close()

    def test_another_sink_from_now_on(self, tmp_path: Path) -> None:
        clock = Clock()
        writer = RecordWriter(to_file(tmp_path / "a"), clock)
        writer.write(Line(1))
        writer.configure(to_file(tmp_path / "b"))
        writer.write(Line(2))
        clock.advance(1)
        assert lines((tmp_path / "a").read_text()) == [1]
        assert lines((tmp_path / "b").read_text()) == [2]
        with pytest.raises(StartError, match="records cannot be written"):
            writer.configure(to_file(tmp_path / "no" / "r"))
        writer.write(Line(3))
        writer.close()
        assert lines((tmp_path / "b").read_text()) == [2, 3]


class TestStamps:
    @pytest.mark.parametrize(
        ("moment", "text"),
        [
            (0.0, "2023-11-14T22:13:20.000Z"),
            (0.25, "2023-11-14T22:13:20.250Z"),
            (0.9995, "2023-11-14T22:13:20.999Z"),
            (1.0, "2023-11-14T22:13:21.000Z"),
            (-0.5, "2023-11-14T22:13:19.500Z"),
            (86400.0, "2023-11-15T22:13:20.000Z"),
        ],
    )
    def test_a_moment(self, moment: float, text: str) -> None:
        stamps = Stamps(lambda: 500.0, lambda: 1_700_000_000.0)
        assert stamps.text(500.0 + moment, 500.0) == text

    def test_a_corrected_wall_clock_is_followed_within_a_second(self) -> None:
        now, wall = [500.0], [1_700_000_000.0]
        stamps = Stamps(lambda: now[0], lambda: wall[0])
        assert stamps.text(500.0, 500.0) == "2023-11-14T22:13:20.000Z"
        now[0], wall[0] = 502.0, 1_700_003_602.0
        assert stamps.text(502.0, 502.0) == "2023-11-14T23:13:22.000Z"

    def test_old_and_new_moments_in_any_order(self) -> None:
        stamps = Stamps(lambda: 0.0, lambda: 0.0)
        texts = [stamps.text(moment, 0.0) for moment in (5.5, 1.25, 5.75)]
        assert texts == ["1970-01-01T00:00:05.500Z", "1970-01-01T00:00:01.250Z", "1970-01-01T00:00:05.750Z"]


def test_counters_as_plain_values() -> None:
    counters = Counters()
    counters.ended["web", "ok"] += 2
    counters.ended["", "denied"] += 1
    counters.http_requests["web", 2] += 3
    counters.http_requests["web", 0] += 1
    counters.http_requests["api", 5] += 1
    counters.rules["P2"] += 1
    counters.reloads["ok"] += 1
    counters.packed(b"br", 1000, 300)
    counters.packed(b"br", 10, 3)
    assert json.loads(json.dumps(counters.as_dict())) == {
        "sessions_ended": {"": {"denied": 1}, "web": {"ok": 2}},
        "http_requests": {"api": {"5xx": 1}, "web": {"none": 1, "2xx": 3}},
        "rules": {"P2": 1},
        "bytes_from_clients": 0,
        "bytes_from_backends": 0,
        "exceptions": 0,
        "reloads": {"ok": 1},
        "certificates": {},
        "packed_bytes": {"br packed": 303, "br plain": 1010},
    }


class TestSystemd:
    @pytest.mark.parametrize("abstract", [False, True])
    def test_a_word(self, abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = f"@lbproxy-test-{os.getpid()}" if abstract else str(tmp_path / "n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind("\0" + name[1:] if abstract else name)
            monkeypatch.setenv("NOTIFY_SOCKET", name)
            notify_systemd("READY=1")
            systemd.settimeout(5)
            assert systemd.recv(100) == b"READY=1"

    @pytest.mark.parametrize("name", ["", "/nowhere/at/all", "vsock:2:1", "@nobody-is-here-lbproxy"])
    def test_nobody_listens(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify_systemd("READY=1")
        monkeypatch.delenv("NOTIFY_SOCKET")
        notify_systemd("READY=1")
