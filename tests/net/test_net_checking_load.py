"""Load reports: one line from a port of a backend, on real sockets turned by hand and a clock in the test's hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent

from lbproxy.model_http import LoadReport
from lbproxy.net.load_report import LineQuestion, LoadReader
from lbproxy.net.polling import EpollPoller
from tests.net.net_rig import hand_reactor, reset, tcp_listener, turn


def read(pieces: Sequence[bytes], cut: str = "") -> tuple[str, str, bytes]:
    question = LineQuestion()
    found = next(filter(None, map(question.heard, pieces)), None) or question.ended(cut)
    return *found, question.line


class TestOneLine:
    @pytest.mark.parametrize(
        ("said", "line"),
        [
            (b"75%\n", b"75%"),
            (b"ready 50%\r\n", b"ready 50%"),
            (b"drain", b"drain"),
            (b"up\nmaint\n", b"up"),
            (b"\n", b""),
            (b"x" * 256 + b"\n", b"x" * 256),
        ],
    )
    def test_it_ends_with_its_line_or_its_connection(self, said: bytes, line: bytes) -> None:
        assert read([said]) == ("L7OK", "", line)
        assert read([bytes((byte,)) for byte in said]) == ("L7OK", "", line)

    @pytest.mark.parametrize("said", [b"x" * 257, b"x" * 257 + b"\n"])
    def test_it_has_256_bytes_at_the_most(self, said: bytes) -> None:
        assert read([said])[:2] == ("L7RSP", "the line has more than 256 bytes")
        assert read([bytes((byte,)) for byte in said])[:2] == ("L7RSP", "the line has more than 256 bytes")

    def test_no_line_and_a_broken_one_are_none(self) -> None:
        assert read([])[:2] == ("L7RSP", "it closed without a line")
        assert read([b"75"], "Connection reset by peer")[:2] == ("L7RSP", "Connection reset by peer")


class Bench:
    """A reader of an agent that the test plays, its interval 4 s and its timeout 6 s, in the middle of all chances."""

    def __init__(self, reactor: Any, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reactor = reactor
        self.clock = Clock()
        self.lines: list[bytes] = []
        self.told: list[str] = []
        observer: Any = self._note
        monkeypatch.setattr(LoadReader, "log", Logger("lbproxy.x", observer=observer))
        self.where: tuple[int, Any] | None = (socket.AF_INET, listening.getsockname())
        settings = LoadReport(port=9777, interval=4.0, timeout=6.0)
        poller = EpollPoller(reactor)
        self.reader = LoadReader(
            self.clock, poller, settings, lambda: self.where, self.lines.append, lambda: 0.5, "web/b0"
        )

    def _note(self, event: Any) -> None:
        self.told.append(f"{event['log_level'].name}: {formatEvent(event)}")


@pytest.fixture
def agent() -> Iterator[socket.socket]:
    with tcp_listener() as listening:
        yield listening


@pytest.fixture
def bench(agent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with hand_reactor() as reactor:
        made = Bench(reactor, agent, monkeypatch)
        made.reader.start()
        yield made
        made.reader.stop()
        assert made.clock.getDelayedCalls() == []
        assert not reactor.descriptors


class TestAgainAndAgain:
    def test_every_interval_one_line_is_heard(self, bench: Bench, agent: socket.socket) -> None:
        for number in range(1, 4):
            bench.clock.advance(2.0 if number == 1 else 4.0)
            server, _ = agent.accept()
            with server:
                server.sendall(b"%d%%\n" % number)
                turn(bench.reactor, lambda: len(bench.lines) == number)  # noqa: B023  # turned within its round
        assert (bench.lines, bench.told) == ([b"1%", b"2%", b"3%"], [])

    def test_a_slow_agent_is_not_asked_twice_at_once(self, bench: Bench, agent: socket.socket) -> None:
        bench.clock.advance(2.0)
        with agent.accept()[0]:
            bench.clock.advance(4.0)
            agent.settimeout(0)
            with pytest.raises(BlockingIOError):
                agent.accept()
            bench.clock.advance(1.9)
            turn(bench.reactor)
            assert bench.told == []
            bench.clock.advance(0.1)
            turn(bench.reactor)
        assert bench.told == ["warn: the load report of web/b0 at port 9777 cannot be read, the last one stays: L7TOUT"]

    def test_trouble_is_told_when_it_begins_and_when_it_ends(self, bench: Bench, agent: socket.socket) -> None:
        def one(say: bytes) -> None:
            bench.clock.advance(4.0)
            server, _ = agent.accept()
            if say:
                server.sendall(say)
            else:
                reset(server)
            turn(bench.reactor)
            turn(bench.reactor)
            server.close()

        one(b"50%\n")
        one(b"")
        one(b"")
        assert len(bench.told) == 1
        one(b"75%\n")
        one(b"75%\n")
        assert bench.told[1:] == ["info: the load report of web/b0 is read again"]
        one(b"")
        assert len(bench.told) == 3
        assert bench.lines == [b"50%", b"75%", b"75%"]

    def test_nobody_listens(self, bench: Bench, agent: socket.socket) -> None:
        agent.close()
        for _ in range(3):
            bench.clock.advance(4.0)
            turn(bench.reactor)
        assert bench.told == ["warn: the load report of web/b0 at port 9777 cannot be read, the last one stays: L4CON"]

    def test_without_an_address_nothing_is_read(self, bench: Bench, agent: socket.socket) -> None:
        bench.where = None
        bench.clock.pump([1.0] * 20)
        assert (bench.lines, bench.told) == ([], [])

    def test_stopping_ends_the_one_under_way(self, bench: Bench, agent: socket.socket) -> None:
        bench.clock.advance(2.0)
        with agent.accept()[0] as server:
            bench.reader.stop()
            server.sendall(b"75%\n")
            turn(bench.reactor)
        assert (bench.lines, bench.told) == ([], [])
