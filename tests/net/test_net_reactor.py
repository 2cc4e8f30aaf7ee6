"""The thin reactor and the two ways of telling a reactor what is waited for."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor

from lbproxy.net.polling import READ, TROUBLE, WRITE, EpollPoller, StockPoller, poller_for
from lbproxy.net.reactor import ProxyReactor
from tests.net.net_rig import hand_reactor, tcp_pair, turn


class Spy:
    """A descriptor that remembers what it was told."""

    def __init__(self, sock: socket.socket, *, fails: bool = False) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.mask = 0
        self.told: list[str] = []
        self.problems: list[BaseException] = []
        self.fails = fails

    def fileno(self) -> int:
        return self.fd

    def logPrefix(self) -> str:
        return "Spy"

    def doRead(self) -> None:
        self.told.append("read")
        if self.fails:
            raise ZeroDivisionError

    def troubled(self) -> None:
        self.told.append("trouble")

    def doWrite(self) -> None:
        self.told.append("write")
        if self.fails:
            raise ZeroDivisionError

    def connectionLost(self, reason: object) -> None:
        self.told.append("lost")

    def broken(self, problem: BaseException) -> None:
        self.problems.append(problem)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    yield one, other
    one.close()
    other.close()


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def reactor(pair: Pair) -> Iterator[ProxyReactor]:
    """Made after `pair`, so that it goes before the sockets that it watches."""
    with hand_reactor() as made:
        yield made


class TestDispatch:
    def test_only_what_is_waited_for_is_told(self, reactor: ProxyReactor, pair: Pair) -> None:
        spy, poller = Spy(pair[0]), poller_for(reactor)
        poller.watch(spy, READ)
        reactor.doIteration(0)
        assert spy.told == []
        pair[1].send(b"x")
        reactor.doIteration(1)
        assert spy.told == ["read"]
        poller.watch(spy, WRITE)
        reactor.doIteration(1)
        assert spy.told == ["read", "write"]
        poller.watch(spy, READ | WRITE)
        reactor.doIteration(1)
        assert spy.told == ["read", "write", "read", "write"]
        poller.watch(spy, 0)
        reactor.doIteration(0)
        assert len(spy.told) == 4

    @pytest.mark.parametrize(
        ("mask", "told"), [(READ, ["read"]), (WRITE, ["write"]), (READ | WRITE, ["read", "write"])]
    )
    def test_a_hang_up_is_told_by_the_call_that_is_waited_for(
        self, reactor: ProxyReactor, pair: Pair, mask: int, told: list[str]
    ) -> None:
        spy = Spy(pair[0])
        poller_for(reactor).watch(spy, mask)
        pair[1].close()
        reactor.doIteration(1)
        assert spy.told == told

    def test_a_reset_is_told_once_to_who_waits_for_neither(self, reactor: ProxyReactor) -> None:
        theirs, ours = tcp_pair()
        spy = Spy(ours)
        poller = poller_for(reactor)
        poller.watch(spy, TROUBLE)
        theirs.send(b"nobody reads this")
        reactor.doIteration(0)
        assert spy.told == []
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        reactor.doIteration(1)
        reactor.doIteration(0)
        assert spy.told == ["trouble"]
        poller.forget(spy)
        ours.close()

    def test_a_fault_is_told_to_that_descriptor_only(self, reactor: ProxyReactor, pair: Pair) -> None:
        bad, good = Spy(pair[0], fails=True), Spy(pair[1])
        poller = poller_for(reactor)
        poller.watch(bad, WRITE)
        poller.watch(good, WRITE)
        reactor.doIteration(1)
        assert [type(problem) for problem in bad.problems] == [ZeroDivisionError]
        assert (good.told, good.problems) == (["write"], [])

    def test_a_descriptor_that_another_one_took_out_is_not_told(self, reactor: ProxyReactor, pair: Pair) -> None:
        poller = poller_for(reactor)

        class Last(Spy):
            def doWrite(self) -> None:
                super().doWrite()
                for spy in spies:
                    poller.watch(spy, 0)

        spies = [Last(pair[0]), Last(pair[1])]
        for spy in spies:
            poller.watch(spy, WRITE)
        reactor.doIteration(1)
        assert sorted(len(spy.told) for spy in spies) == [0, 1]

    def test_an_event_of_a_closed_descriptor_is_not_its_successors(self, reactor: ProxyReactor, pair: Pair) -> None:
        """Two can be read; the first closes the second, and a new one gets its number and waits for something else."""
        poller = poller_for(reactor)
        one, other = socket.socketpair()
        pair[1].send(b"x")
        other.send(b"x")
        successors: list[Spy] = []

        class First(Spy):
            def doRead(self) -> None:
                super().doRead()
                for spy in spies:
                    if spy is not self and not successors:
                        poller.forget(spy)
                        number = spy.fd
                        spy.sock.close()
                        fresh = socket.socket()
                        assert fresh.fileno() == number
                        successors.append(Spy(fresh))
                        poller.watch(successors[0], WRITE)

        spies = [First(pair[0]), First(one)]
        for spy in spies:
            poller.watch(spy, READ)
        reactor.doIteration(1)
        told = successors[0].told
        poller.forget(successors[0])
        for sock in (successors[0].sock, one, other):
            sock.close()
        assert "read" not in told


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)
        if data.endswith(b"!"):
            self.transport.loseConnection()


class TestAnOrdinaryReactor:
    def test_stock_transports_work_on_it(self, reactor: ProxyReactor) -> None:
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
            client.setblocking(False)
            got = bytearray()

            def answered() -> bool:
                try:
                    data = client.recv(100)
                except BlockingIOError:
                    return False
                got.extend(data)
                return not data

            client.send(b"hello ")
            turn(reactor)
            client.send(b"world!")
            turn(reactor, answered)
        assert got == b"hello world!"
        port.stopListening()
        turn(reactor)
        assert not [one for one in reactor.getReaders() if isinstance(one, Connection)]

    def test_timed_calls(self, reactor: ProxyReactor) -> None:
        told: list[str] = []
        reactor.callLater(0, told.append, "now")
        late = reactor.callLater(60, told.append, "late")
        turn(reactor, lambda: told)
        assert told == ["now"]
        late.cancel()

    def test_calls_from_threads_wake_it(self, reactor: ProxyReactor) -> None:
        told: list[str] = []
        reactor.callFromThread(told.append, "x")
        turn(reactor, lambda: told)

    def test_its_clock_is_monotonic(self, reactor: ProxyReactor, monkeypatch: pytest.MonkeyPatch) -> None:
        before = time.monotonic()
        assert before <= reactor.seconds() <= time.monotonic()
        monkeypatch.setattr(time, "time", lambda: 0.0)
        call = reactor.callLater(10, lambda: None)
        assert 9 < call.getTime() - reactor.seconds() <= 10
        call.cancel()

    def test_removing_all_gives_ours_too(self, reactor: ProxyReactor, pair: Pair) -> None:
        ours, stock = Spy(pair[0]), Spy(pair[1])
        poller_for(reactor).watch(ours, READ)
        reactor.addReader(stock)
        removed = reactor.removeAll()
        assert ours in removed
        assert stock in removed
        assert ours.mask == 0
        assert not reactor.descriptors
        pair[1].send(b"x")
        reactor.doIteration(0)
        assert ours.told == []

    def test_an_interrupted_wait_is_no_error(self, reactor: ProxyReactor, monkeypatch: pytest.MonkeyPatch) -> None:
        class Interrupted:
            def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
                raise InterruptedError(4, "Interrupted system call")

        monkeypatch.setattr(reactor, "_poller", Interrupted())
        reactor.doIteration(0)


class TestEpollPoller:
    def test_the_quickest_poller(self, reactor: ProxyReactor) -> None:
        assert isinstance(poller_for(reactor), EpollPoller)
        assert isinstance(poller_for(MemoryReactor()), StockPoller)

    def test_each_change_is_one_call_and_no_change_is_none(self) -> None:
        calls: list[tuple[Any, ...]] = []

        class FakeEpoll:
            def register(self, *words: int) -> None:
                calls.append(("register", *words))

            def modify(self, *words: int) -> None:
                calls.append(("modify", *words))

            def unregister(self, *words: int) -> None:
                calls.append(("unregister", *words))

        class FakeReactor:
            descriptors: dict[int, Any] = {}  # noqa: RUF012
            epoll = FakeEpoll()

        fake: Any = FakeReactor()
        poller, sock = EpollPoller(fake), socket.socket()
        spy, fd = Spy(sock), sock.fileno()
        for mask in (READ, READ, READ | WRITE, WRITE, WRITE, 0, 0, WRITE, 0):
            poller.watch(spy, mask)
            assert spy.mask == mask
            assert (fd in fake.descriptors) == bool(mask)
        assert calls == [
            ("register", fd, READ),
            ("modify", fd, READ | WRITE),
            ("modify", fd, WRITE),
            ("unregister", fd),
            ("register", fd, WRITE),
            ("unregister", fd),
        ]
        calls.clear()
        poller.watch(spy, READ)
        poller.forget(spy)
        poller.forget(spy)
        assert calls == [("register", fd, READ)]
        assert (spy.mask, fake.descriptors) == (0, {})
        sock.close()


class TestStockPoller:
    @pytest.mark.parametrize("before", [0, READ, WRITE, READ | WRITE])
    @pytest.mark.parametrize("after", [0, READ, WRITE, READ | WRITE])
    def test_every_change(self, before: int, after: int) -> None:
        reactor, sock = MemoryReactor(), socket.socket()
        poller, spy = StockPoller(reactor), Spy(sock)
        poller.watch(spy, before)
        poller.watch(spy, after)
        assert (spy in reactor.getReaders(), spy in reactor.getWriters()) == (bool(after & READ), bool(after & WRITE))
        assert spy.mask == after
        poller.forget(spy)
        poller.forget(spy)
        assert not reactor.getReaders()
        assert not reactor.getWriters()
        sock.close()
