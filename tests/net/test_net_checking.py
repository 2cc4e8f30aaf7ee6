"""Active checks on real sockets, turned by hand, and names on a clock in the test's hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock

from lbproxy.addresses import Address
from lbproxy.model import CheckSettings
from lbproxy.net.check_tcp import BytesQuestion, CheckConnection
from lbproxy.net.checking import Checker, CheckTarget
from lbproxy.net.polling import EpollPoller, Poller, StockPoller
from lbproxy.net.resolving import Name
from tests.net.net_rig import hand_reactor, tcp_listener, turn


class Bench:
    """A reactor for sockets, a clock for deadlines."""

    def __init__(self, reactor: Any, poller: Poller) -> None:
        self.reactor = reactor
        self.poller = poller
        self.clock = Clock()
        self.codes: list[str] = []

    def check(self, settings: CheckSettings, target: Any, preamble: bytes = b"", family: int = socket.AF_INET) -> Any:
        question = BytesQuestion(settings)
        check = CheckConnection(self.clock, self.poller, settings.timeout, preamble, question, self.hear)
        check.begin(family, target)
        return check

    def hear(self, code: str, detail: str) -> None:
        assert detail == "", "the code says it all"
        self.codes.append(code)

    def has(self, count: int) -> bool:
        return len(self.codes) == count

    def result(self) -> str:
        turn(self.reactor, lambda: self.codes)
        assert self.clock.getDelayedCalls() == [], "its deadline is taken back"
        (code,) = self.codes
        return code


@pytest.fixture(params=["epoll", "stock"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with hand_reactor() as reactor:
        yield Bench(reactor, EpollPoller(reactor) if request.param == "epoll" else StockPoller(reactor))


class TestOneCheck:
    def test_somebody_listens(self, bench: Bench) -> None:
        with tcp_listener() as listening:
            bench.check(CheckSettings(), listening.getsockname())
            assert bench.result() == "L4OK"

    def test_nobody_listens(self, bench: Bench) -> None:
        with tcp_listener() as listening:
            target = listening.getsockname()
        bench.check(CheckSettings(), target)
        assert bench.result() == "L4CON"

    def test_no_such_path(self, bench: Bench, tmp_path: Any) -> None:
        bench.check(CheckSettings(), str(tmp_path / "s"), family=socket.AF_UNIX)
        assert bench.result() == "L4CON"

    def test_no_socket_to_be_had(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*words: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("lbproxy.net.check_tcp.open_connection", fail)
        bench.check(CheckSettings(), ("127.0.0.1", 1))
        assert bench.result() == "SOCKERR"

    def test_nobody_answers(self, bench: Bench) -> None:
        with tcp_listener(backlog=0) as full:
            crowd = []
            for _ in range(3):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(full.getsockname())
                crowd.append(one)
            bench.check(CheckSettings(timeout=2.0), full.getsockname())
            turn(bench.reactor)
            bench.clock.advance(1.9)
            assert bench.codes == []
            bench.clock.advance(0.2)
            assert bench.result() == "L4TOUT"
            for one in crowd:
                one.close()

    @pytest.mark.parametrize("pieces", [[b"+PONG\r\n"], [b"+PO", b"NG\r\n"], [b"x" * 5000, b"+PONG"]])
    def test_the_expected_answer_in_any_pieces(self, bench: Bench, pieces: list[bytes]) -> None:
        with tcp_listener() as listening:
            bench.check(CheckSettings(send=b"PING\r\n", expect=b"+PONG"), listening.getsockname(), b"PROXY UNKNOWN\r\n")
            server, _ = listening.accept()
            turn(bench.reactor)
            assert server.recv(100) == b"PROXY UNKNOWN\r\nPING\r\n"
            for piece in pieces:
                assert bench.codes == []
                server.send(piece)
                turn(bench.reactor)
            assert bench.result() == "L7OK"
            server.close()

    @pytest.mark.parametrize("answer", [b"-ERR\r\n", b"", b"x" * 20_000])
    def test_another_answer(self, bench: Bench, answer: bytes) -> None:
        with tcp_listener() as listening:
            bench.check(CheckSettings(expect=b"+PONG"), listening.getsockname())
            server, _ = listening.accept()
            turn(bench.reactor)
            server.send(answer)
            server.close()
            assert bench.result() == "L7RSP"

    def test_no_answer(self, bench: Bench) -> None:
        with tcp_listener() as listening:
            bench.check(CheckSettings(expect=b"+PONG", timeout=2.0), listening.getsockname())
            turn(bench.reactor)
            bench.clock.advance(2.1)
            assert bench.result() == "L7TOUT"

    def test_a_cancelled_check_tells_nobody(self, bench: Bench) -> None:
        with tcp_listener() as listening:
            check = bench.check(CheckSettings(), listening.getsockname())
            check.cancel()
            check.cancel()
            turn(bench.reactor)
            assert bench.codes == []
            assert bench.clock.getDelayedCalls() == []
            assert check.fileno() == -1


def at(listening: socket.socket) -> CheckTarget:
    host, port = listening.getsockname()
    return CheckTarget(socket.AF_INET, (host, port), Address("ip", host, port), b"PROXY UNKNOWN\r\n")


class TestManyChecks:
    def checker(self, bench: Bench, where: Any, chance: float = 0.5) -> Checker:
        settings = CheckSettings(interval=4.0, timeout=1.0)
        return Checker(bench.clock, bench.poller, settings, where, bench.hear, lambda: chance)

    def test_again_and_again(self, bench: Bench) -> None:
        with tcp_listener() as listening:
            checker = self.checker(bench, lambda: at(listening))
            checker.start()
            bench.clock.advance(1.9)
            turn(bench.reactor)
            assert bench.codes == [], "the first one comes somewhere in the first interval"
            for number in range(1, 4):
                bench.clock.advance(0.2 if number == 1 else 4.0)
                turn(bench.reactor, partial(bench.has, number))
            assert bench.codes == ["L4OK"] * 3
            checker.stop()
            checker.stop()
            bench.clock.advance(100)
            assert bench.clock.getDelayedCalls() == []
            assert len(bench.codes) == 3

    @pytest.mark.parametrize(("chance", "first", "second"), [(0.0, 0.0, 3.6), (0.999, 3.996, 4.4)])
    def test_checks_spread(self, bench: Bench, chance: float, first: float, second: float) -> None:
        asked: list[float] = []
        checker = self.checker(bench, lambda: asked.append(bench.clock.seconds()), chance)
        checker.start()
        bench.clock.pump([0.001] * 9000)
        assert asked[0] == pytest.approx(first, abs=0.01)
        assert asked[1] - asked[0] == pytest.approx(second, abs=0.01)
        checker.stop()

    def test_without_an_address_there_is_no_check(self, bench: Bench) -> None:
        checker = self.checker(bench, lambda: None)
        checker.start()
        bench.clock.pump([1.0] * 20)
        assert bench.codes == []
        checker.stop()

    def test_stopping_ends_the_one_under_way(self, bench: Bench) -> None:
        with tcp_listener() as listening:
            checker = self.checker(bench, lambda: at(listening))
            checker.start()
            bench.clock.advance(2.1)
            checker.stop()
            turn(bench.reactor)
            assert bench.codes == []
            assert bench.clock.getDelayedCalls() == []


class Resolver:
    """Answers what the test wants, at once or later."""

    def __init__(self) -> None:
        self.answer: list[str] = []
        self.asked = 0
        self.waits: list[Any] = []
        self.later = False

    def resolveHostName(self, receiver: Any, host: str) -> None:
        self.asked += 1
        if self.later:
            self.waits.append(receiver)
        else:
            self.give(receiver)

    def give(self, receiver: Any) -> None:
        receiver.resolutionBegan(None)
        for host in self.answer:
            make = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(make("TCP", host, 0))
        receiver.resolutionComplete()


class TestNames:
    def name(self, chance: float = 0.5) -> tuple[Clock, Resolver, Name, list[tuple[str, ...]]]:
        clock: Any = Clock()
        resolver = clock.nameResolver = Resolver()
        changes: list[tuple[str, ...]] = []
        name = Name(clock, "app.example", lambda: chance, lambda name: changes.append(name.addresses))
        return clock, resolver, name, changes

    def test_an_answer_is_told_once(self) -> None:
        clock, resolver, name, changes = self.name()
        resolver.answer = ["192.0.2.1", "2001:db8::1"]
        assert name.current is None
        name.start()
        assert name.current == "192.0.2.1"
        clock.pump([1.0] * 35)
        assert resolver.asked == 4
        assert changes == [("192.0.2.1", "2001:db8::1")]
        name.stop()

    def test_the_last_good_answer_is_kept(self) -> None:
        clock, resolver, name, changes = self.name()
        resolver.answer = ["192.0.2.1"]
        name.start()
        resolver.answer = []
        clock.pump([1.0] * 300)
        assert (name.current, len(changes)) == ("192.0.2.1", 1)
        name.stop()

    def test_failures_are_asked_again_at_growing_distances(self) -> None:
        clock, resolver, name, _ = self.name()
        times: list[float] = []
        name.start()
        before = resolver.asked
        for _ in range(1500):
            clock.advance(0.1)
            if resolver.asked != before:
                before = resolver.asked
                times.append(clock.seconds())
        gaps = [round(after - earlier) for earlier, after in zip([0.0, *times], times, strict=False)]
        assert gaps[:7] == [1, 2, 4, 8, 16, 30, 30]
        resolver.answer = ["192.0.2.1"]
        clock.pump([1.0] * 31)
        assert name.current == "192.0.2.1"
        resolver.answer = []
        before = resolver.asked
        clock.pump([1.0] * 12)
        assert resolver.asked - before >= 2, "after a good answer the distances begin anew"
        name.stop()

    def test_a_rotated_answer_is_no_change(self) -> None:
        clock, resolver, name, changes = self.name()
        resolver.answer = ["192.0.2.1", "192.0.2.2"]
        name.start()
        resolver.answer = ["192.0.2.2", "192.0.2.1"]
        clock.pump([1.0] * 12)
        assert (name.current, len(changes)) == ("192.0.2.1", 1)
        name.stop()

    def test_the_current_address_stays_as_long_as_it_is_an_answer(self) -> None:
        clock, resolver, name, changes = self.name()
        resolver.answer = ["192.0.2.1", "192.0.2.2"]
        name.start()
        name.next_address()
        resolver.answer = ["192.0.2.3", "192.0.2.2"]
        clock.pump([1.0] * 12)
        assert (name.current, len(changes)) == ("192.0.2.2", 2)
        resolver.answer = ["192.0.2.3"]
        clock.pump([1.0] * 12)
        assert name.current == "192.0.2.3"
        name.stop()

    def test_addresses_are_gone_through_in_turn(self) -> None:
        _, resolver, name, _ = self.name()
        name.next_address()
        resolver.answer = ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
        name.start()
        seen = []
        for _ in range(4):
            seen.append(name.current)
            name.next_address()
        assert seen == ["192.0.2.1", "192.0.2.2"] * 2
        name.stop()

    def test_an_answer_has_64_addresses_at_the_most(self) -> None:
        _, resolver, name, _ = self.name()
        resolver.answer = [f"192.0.2.{number}" for number in range(200)]
        name.start()
        assert len(name.addresses) == 64
        name.stop()

    def test_an_answer_that_comes_after_the_stop_changes_nothing(self) -> None:
        clock, resolver, name, changes = self.name()
        resolver.later = True
        name.start()
        name.stop()
        resolver.answer = ["192.0.2.1"]
        resolver.give(resolver.waits[0])
        assert (name.current, changes, clock.getDelayedCalls()) == (None, [], [])
