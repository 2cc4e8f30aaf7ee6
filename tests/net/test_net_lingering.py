"""Closing so that the last words are heard: on real sockets, with the calls for later in the test's hand."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from lbproxy.net.lingering import LINGER_BYTES, LINGER_SECONDS, Lingering, linger
from lbproxy.net.polling import READ, EpollPoller, Poller
from lbproxy.net.reactor import ProxyReactor
from tests.net.net_rig import hand_reactor, reset, tcp_pair, turn

LAST_WORDS = b"the last words"


class Place:
    """Fills LingerShared."""

    def __init__(self, reactor: ProxyReactor) -> None:
        self.reactor = reactor
        self.poller: Poller = EpollPoller(reactor)
        self.lingering: set[Lingering] = set()
        self.most_lingering = 2
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay: float, call: Callable[[], None]) -> None:
        self.calls.append((delay, call))

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """The peer's end, and ours, on which the last words have been said already."""
        theirs, ours = tcp_pair()
        ours.setblocking(False)
        theirs.settimeout(10)
        ours.sendall(LAST_WORDS)
        return theirs, ours


@pytest.fixture
def place() -> Iterator[Place]:
    with hand_reactor() as reactor:
        made = Place(reactor)
        yield made
        for one in list(made.lingering):
            one.end()


def everything(sock: socket.socket) -> bytes:
    """What comes until the orderly end. Raises ConnectionResetError at another one."""
    came = b""
    while data := sock.recv(65536):
        came += data
    return came


def test_the_last_words_are_heard_although_bytes_were_unread(place: Place) -> None:
    theirs, ours = place.pair()
    with theirs:
        theirs.sendall(b"x" * 1000)
        linger(place, ours)
        assert everything(theirs) == LAST_WORDS
        theirs.sendall(b"more, which nobody reads")
        theirs.shutdown(socket.SHUT_WR)
        turn(place.reactor, lambda: not place.lingering)
        assert ours.fileno() == -1


def test_a_plain_close_would_have_lost_them() -> None:
    """Else the test above shows nothing."""
    theirs, ours = tcp_pair()
    with theirs:
        theirs.settimeout(10)
        theirs.sendall(b"x" * 1000)
        ours.recv(1)
        ours.close()
        with pytest.raises(ConnectionResetError):
            everything(theirs)


def test_it_ends_after_a_while(place: Place) -> None:
    theirs, ours = place.pair()
    with theirs:
        linger(place, ours)
        ((delay, call),) = place.calls
        assert delay == LINGER_SECONDS
        assert place.lingering
        call()
        assert not place.lingering
        assert ours.fileno() == -1
        call()


def test_a_peer_that_sends_and_sends_is_read_no_further_than_the_bound_and_still_hears_us(place: Place) -> None:
    theirs, ours = place.pair()
    with theirs:
        linger(place, ours)
        (lingering,) = place.lingering
        theirs.setblocking(False)
        sent = 0

        def over() -> bool:
            nonlocal sent
            if lingering.mask & READ:
                sent += theirs.send(b"y" * 4096)
            return not lingering.mask & READ

        turn(place.reactor, over)
        assert sent >= LINGER_BYTES
        theirs.setblocking(True)
        # More than our kernel takes: a close with this unread would be a reset, and take the last words with it.
        theirs.sendall(b"z" * 4096)
        assert theirs.recv(100) == LAST_WORDS
        assert theirs.recv(100) == b""
        theirs.close()
        turn(place.reactor, lambda: not place.lingering)


def test_it_ends_with_the_peers_reset(place: Place) -> None:
    theirs, ours = place.pair()
    linger(place, ours)
    reset(theirs)
    turn(place.reactor, lambda: not place.lingering)
    assert ours.fileno() == -1


def test_one_whose_peer_is_gone_is_closed_at_once(place: Place) -> None:
    theirs, ours = place.pair()
    reset(theirs)
    linger(place, ours)
    turn(place.reactor, lambda: not place.lingering)
    assert ours.fileno() == -1


def test_those_beyond_the_most_are_closed_at_once(place: Place) -> None:
    pairs = [place.pair() for _ in range(3)]
    for _, ours in pairs:
        linger(place, ours)
    assert len(place.lingering) == 2
    assert [ours.fileno() == -1 for _, ours in pairs] == [False, False, True]
    for theirs, _ in pairs:
        assert everything(theirs) == LAST_WORDS
        theirs.close()
