"""The thin reactor: Twisted's epoll reactor with a short way to our own descriptors.

For a descriptor of ours an event is one dictionary look-up and one method call. Everything else (Twisted's own
transports, the waker, processes, timed calls) goes the stock way, so this is an ordinary Twisted reactor.
Its clock is monotonic: with the stock clock, a step of the wall clock would stop or fire every timed call.
"""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log

if TYPE_CHECKING:
    from lbproxy.net.polling import Descriptor

_IN = 1
_OUT = 4
# How many events one turn takes at the most: bounds the time until timed calls are looked at again.
_EVENTS = 512


class ProxyReactor(EPollReactor):
    """`descriptors` maps a file descriptor to the one of ours that waits on `epoll` for it (see net/polling.py)."""

    seconds = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.descriptors: dict[int, Descriptor] = {}
        super().__init__()
        self.epoll = self._poller

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, at most `timeout` seconds (None: without end), and let each descriptor act on its own."""
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, _EVENTS)
        except OSError as problem:
            if problem.errno == errno.EINTR:
                return
            raise
        find = self.descriptors.get
        for fd, event in events:
            descriptor = find(fd)
            if descriptor is None:
                self._stock(fd, event)
                continue
            try:
                # The mask is asked since this event may be older than the descriptor: its number may have been
                # another's when the batch was fetched.
                if event == _IN:
                    if descriptor.mask & _IN:
                        descriptor.doRead()
                else:
                    _otherwise(descriptor, event)
            except Exception as problem:
                descriptor.broken(problem)

    doIteration = doPoll

    def removeAll(self) -> list[Any]:
        """See IReactorFDSet: ours are included, since the reactor closes what this returns when it ends."""
        ours = list(self.descriptors.values())
        for descriptor in ours:
            with contextlib.suppress(OSError):  # closed already
                self.epoll.unregister(descriptor.fd)
            descriptor.mask = 0
        self.descriptors.clear()
        return ours + super().removeAll()  # type: ignore[no-any-return]  # Twisted's reactors carry no annotations

    def _stock(self, fd: int, event: int) -> None:
        selectable = self._selectables.get(fd)
        if selectable is not None:
            log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)


def _otherwise(descriptor: Descriptor, event: int) -> None:
    """It can be written, or several things happened. Errors and hang-ups are told by the call that is waited for."""
    mask = descriptor.mask
    if not mask & (_IN | _OUT):
        descriptor.troubled()
        return
    if event & ~_OUT and mask & _IN:
        descriptor.doRead()
    if descriptor.mask & _OUT:
        descriptor.doWrite()


def install() -> None:
    """Make a ProxyReactor the reactor of this process; raises ReactorAlreadyInstalledError when there is one."""
    installReactor(ProxyReactor())
