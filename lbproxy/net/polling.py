"""How our descriptors tell a reactor what they wait for.

Two ways behind one small interface: straight into epoll on our own reactor, or through `addReader` and `addWriter`
on any other. Owns the interest of a descriptor (`mask`); refuses to know what is read or written.
"""

from __future__ import annotations

from typing import Any, Protocol

from lbproxy.net.reactor import ProxyReactor

READ = 1  # EPOLLIN
WRITE = 4  # EPOLLOUT
# For nothing but an error or a hang-up, which epoll always tells: once (EPOLLET), or a hang-up would be told for ever.
TROUBLE = 1 << 31


class Descriptor(Protocol):
    """One of our sockets. `mask` belongs to the poller: what the reactor was told last."""

    fd: int
    mask: int

    def doRead(self) -> None:
        """The descriptor can be read, has ended, or has an error to tell."""

    def doWrite(self) -> None:
        """The descriptor can be written, or has an error to tell."""

    def troubled(self) -> None:
        """It waits for neither reading nor writing, and there is an error or a hang-up on it."""

    def broken(self, problem: BaseException) -> None:
        """doRead or doWrite raised `problem`, which is a fault of ours: end this connection, and no other.

        Must not raise.
        """


class Poller(Protocol):
    """Where descriptors say what they wait for."""

    def watch(self, descriptor: Descriptor, mask: int) -> None:
        """Wait for `mask`: READ, WRITE, both, TROUBLE alone, or 0 for nothing at all."""

    def forget(self, descriptor: Descriptor) -> None:
        """Stop waiting because the descriptor is closed next."""


class EpollPoller:
    """Straight into the epoll of our own reactor: one system call per change, none when nothing changes."""

    __slots__ = ("_descriptors", "_modify", "_register", "_unregister")

    def __init__(self, reactor: ProxyReactor) -> None:
        self._descriptors = reactor.descriptors
        self._register = reactor.epoll.register
        self._modify = reactor.epoll.modify
        self._unregister = reactor.epoll.unregister

    def watch(self, descriptor: Descriptor, mask: int) -> None:
        """See Poller."""
        before = descriptor.mask
        if mask == before:
            return
        if not before:
            self._register(descriptor.fd, mask)
            self._descriptors[descriptor.fd] = descriptor
        elif mask:
            self._modify(descriptor.fd, mask)
        else:
            self._unregister(descriptor.fd)
            del self._descriptors[descriptor.fd]
        descriptor.mask = mask

    def forget(self, descriptor: Descriptor) -> None:
        """See Poller. Closing the descriptor takes it out of epoll: no system call is needed for it."""
        if descriptor.mask:
            descriptor.mask = 0
            del self._descriptors[descriptor.fd]


class StockPoller:
    """Through the interfaces that every Twisted reactor has. They know no TROUBLE: it is seen when bytes move again."""

    __slots__ = ("_reactor",)

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def watch(self, descriptor: Descriptor, mask: int) -> None:
        """See Poller."""
        before = descriptor.mask
        descriptor.mask = mask
        gained, lost = mask & ~before, before & ~mask
        if gained & READ:
            self._reactor.addReader(descriptor)
        if gained & WRITE:
            self._reactor.addWriter(descriptor)
        if lost & READ:
            self._reactor.removeReader(descriptor)
        if lost & WRITE:
            self._reactor.removeWriter(descriptor)

    def forget(self, descriptor: Descriptor) -> None:
        """See Poller."""
        self.watch(descriptor, 0)


def poller_for(reactor: Any) -> Poller:
    """The quickest poller that this reactor allows."""
    return EpollPoller(reactor) if isinstance(reactor, ProxyReactor) else StockPoller(reactor)
