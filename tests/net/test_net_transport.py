"""A connected socket that writes at once, over real socket pairs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from lbproxy.net.polling import READ, TROUBLE, WRITE, EpollPoller, Poller, StockPoller
from lbproxy.net.reactor import ProxyReactor
from lbproxy.net.transport import Budget, Transport
from tests.net.net_rig import hand_reactor, reset, take_all, tcp_pair, turn


class Shared:
    """What transports share."""

    def __init__(self, reactor: ProxyReactor, *, stock: bool = False) -> None:
        self.poller: Poller = StockPoller(reactor) if stock else EpollPoller(reactor)
        self.budget = Budget(1 << 20)


class Plain(Transport):
    """Remembers what it heard."""

    def __init__(self, shared: Shared, sock: socket.socket) -> None:
        super().__init__(shared, sock)
        self.heard: list[str] = []

    def doRead(self) -> None:
        self.heard.append("read")

    def lost(self, problem: OSError) -> None:
        self.close()
        self.heard.append(f"lost {type(problem).__name__}")

    def flushed(self) -> None:
        self.heard.append("flushed")

    def progressed(self) -> None:
        if self.heard[-1:] != ["progressed"]:
            self.heard.append("progressed")


@pytest.fixture
def reactor() -> Iterator[ProxyReactor]:
    with hand_reactor() as made:
        yield made


@pytest.fixture
def ends(reactor: ProxyReactor) -> Iterator[tuple[Plain, socket.socket]]:
    theirs, ours = tcp_pair(4096, 4096)
    transport = Plain(Shared(reactor), ours)
    yield transport, theirs
    transport.close()
    theirs.close()


Ends = tuple[Plain, socket.socket]
DATA = bytes(range(256)) * 2000


def test_a_write_is_sent_at_once(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    transport.write(b"now")
    assert transport.mask == 0, "the poller is not even asked"
    turn(reactor)
    assert take_all(theirs) == (b"now", False)


def test_what_the_kernel_does_not_take_follows_in_order(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    transport.write(DATA)
    assert transport.mask == WRITE
    assert transport.pending is not None
    assert transport.shared.budget.used == len(transport.pending)
    transport.write(b"and ")
    transport.write(memoryview(b"more"))
    got = bytearray()

    def all_came() -> bool:
        got.extend(take_all(theirs)[0])
        return len(got) == len(DATA) + 8

    turn(reactor, all_came)
    assert got == DATA + b"and more"
    assert transport.heard == ["progressed", "flushed"]
    assert (transport.mask, transport.shared.budget.used) == (TROUBLE, 0)


def test_what_is_held_is_a_copy(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    transport.write(DATA)
    buffer = bytearray(b"mine")
    transport.write(memoryview(buffer))
    buffer[:] = b"lost"
    got = bytearray()

    def all_came() -> bool:
        got.extend(take_all(theirs)[0])
        return len(got) == len(DATA) + 4

    turn(reactor, all_came)
    assert got.endswith(b"mine")


def test_fin_goes_behind_what_is_pending(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    transport.write(DATA)
    transport.finish()
    transport.finish()
    assert not transport.shut
    got, ended = bytearray(), False

    def fin_came() -> bool:
        nonlocal ended
        more, ended = take_all(theirs)
        got.extend(more)
        return ended

    turn(reactor, fin_came)
    assert got == DATA
    assert transport.shut
    assert transport.sock is not None, "reading goes on"


def test_fin_at_once_when_nothing_is_pending(ends: Ends) -> None:
    transport, theirs = ends
    transport.finish()
    assert transport.shut
    assert take_all(theirs) == (b"", True)


def test_close_drops_and_counts_what_is_pending(ends: Ends) -> None:
    transport, _ = ends
    transport.write(DATA)
    assert transport.pending is not None
    pending = len(transport.pending)
    transport.close()
    transport.close()
    assert (transport.dropped, transport.shared.budget.used, transport.mask) == (pending, 0, 0)
    assert transport.fileno() == -1


def test_abort_resets(ends: Ends) -> None:
    transport, theirs = ends
    transport.write(b"x")
    transport.abort()
    transport.abort()
    with pytest.raises(ConnectionResetError):
        take_all(theirs)


def test_close_does_not_reset(ends: Ends) -> None:
    transport, theirs = ends
    transport.write(b"x")
    transport.close()
    assert take_all(theirs) == (b"x", True)


def test_verbs_on_a_closed_transport_change_nothing(ends: Ends) -> None:
    transport, _ = ends
    transport.close()
    transport.finish()
    transport.abort()
    assert transport.unsent() == 0
    assert not transport.shut
    assert transport.heard == []


def test_a_closed_transport_is_never_registered_again(ends: Ends, reactor: ProxyReactor) -> None:
    """Its number may be another connection's by now: that one would never be told anything again."""
    transport, _ = ends
    transport.watch(READ)
    number = transport.fd
    transport.close()
    for mask in (READ, WRITE, READ | WRITE):
        transport.watch(mask)
        transport.unwatch(mask)
    assert transport.mask == 0
    assert number not in reactor.descriptors


@pytest.mark.parametrize("stock", [False, True])
def test_a_failed_write_on_a_full_transport_does_not_register_it_again(
    ends: Ends, reactor: ProxyReactor, stock: bool
) -> None:
    transport, theirs = ends
    transport.shared = Shared(reactor, stock=stock)
    transport.write(DATA)
    reset(theirs)
    transport.doWrite()
    assert transport.heard[-1].startswith("lost")
    assert (transport.mask, transport.fileno()) == (0, -1)
    assert transport not in (*reactor.descriptors.values(), *reactor.getReaders(), *reactor.getWriters())


class TestTrouble:
    def test_an_error_alone_is_a_loss(self, ends: Ends) -> None:
        transport, theirs = ends
        reset(theirs)
        transport.troubled()
        assert transport.heard == ["lost ConnectionResetError"]
        transport.troubled()
        assert transport.heard == ["lost ConnectionResetError"], "it is closed"

    def test_bytes_come_before_the_error(self, ends: Ends) -> None:
        transport, theirs = ends
        theirs.send(b"last words")
        reset(theirs)
        transport.troubled()
        assert transport.heard == []
        assert transport.sock is not None
        assert transport.sock.recv(100) == b"last words"
        transport.troubled()
        assert transport.heard == ["lost ConnectionResetError"]

    def test_fin_is_no_loss(self, ends: Ends) -> None:
        transport, theirs = ends
        theirs.close()
        transport.troubled()
        assert transport.heard == []

    def test_nothing_at_all_is_nothing(self, ends: Ends) -> None:
        transport, _ = ends
        transport.troubled()
        assert transport.heard == []


def test_a_write_to_a_lost_peer_is_told(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    transport.write(b"x")
    assert transport.heard in (["lost ConnectionResetError"], ["lost BrokenPipeError"])


def test_a_peer_that_is_lost_while_something_is_pending_is_told_once(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    transport.write(DATA)
    transport.watch(WRITE)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    turn(reactor)
    assert [word for word in transport.heard if word.startswith("lost")] == ["lost ConnectionResetError"]
    assert transport.shared.budget.used == 0


def test_unsent_counts_ours_and_the_kernels(ends: Ends, reactor: ProxyReactor) -> None:
    transport, theirs = ends
    transport.write(DATA)
    assert transport.pending is not None
    assert transport.unsent() > len(transport.pending)
    got = 0

    def all_came() -> bool:
        nonlocal got
        got += len(take_all(theirs)[0])
        return got == len(DATA)

    turn(reactor, all_came)
    turn(reactor)
    assert transport.unsent() == 0


def test_what_was_sent_to_a_peer_that_has_reset_is_not_waited_for(ends: Ends) -> None:
    transport, theirs = ends
    transport.write(DATA)
    transport.drop_pending()
    assert transport.unsent() > 0
    reset(theirs)
    assert transport.unacknowledged() > 0, "so the kernel tells it for ever"
    assert transport.unsent() == 0


def test_interest_is_added_and_taken_away(ends: Ends) -> None:
    transport, _ = ends
    transport.watch(READ)
    transport.watch(WRITE)
    assert transport.mask == READ | WRITE
    transport.unwatch(READ)
    assert transport.mask == WRITE
    transport.unwatch(WRITE)
    assert transport.mask == TROUBLE
    transport.watch(READ)
    assert transport.mask == READ


def test_a_stock_reactor_that_sees_the_end_first_tells_it_as_a_loss(ends: Ends) -> None:
    transport, _ = ends
    transport.connectionLost(Failure(ConnectionLost()))
    transport.connectionLost(Failure(ConnectionLost()))
    assert transport.heard == ["lost ConnectionResetError"]
