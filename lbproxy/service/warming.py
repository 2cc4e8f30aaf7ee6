"""Fetching many URLs through a proxy, a few at a time, each to the end of its body.

Runs in threads of a process of its own, `lbproxy cache warm`; nothing here belongs into a process that serves.
Redirects are answers like any other and are not followed.
"""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
from collections.abc import Generator, Sequence

from lbproxy.service.warm_list import Fetched, Wanted, judge

_TIMEOUT = 60.0
_CHUNK = 256 * 1024
# What a connection says that its other end has closed while it was idle.
_WORN_OUT = (http.client.RemoteDisconnected, http.client.BadStatusLine, BrokenPipeError, ConnectionResetError)

Place = tuple[str, int]


class Fetcher:
    """Fetches one URL after the other, on connections that are used again. For one thread.

    With `place` every connection goes there in place of the URL's host; names in certificates are still the URL's.
    """

    def __init__(self, place: Place | None, fields: Sequence[tuple[str, str]]) -> None:
        self._place = place
        self._fields = fields
        self._open: dict[tuple[bool, str, int], _Connection] = {}

    def fetch(self, wanted: Wanted) -> Fetched:
        """What becomes of it; never raises."""
        try:
            return self._fetch(wanted)
        # A name that nobody could resolve is a ValueError to the socket module.
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self._close(wanted)
            return Fetched(wanted.url, "failed", _sentence(problem))

    def close(self) -> None:
        """Close all connections."""
        while self._open:
            self._open.popitem()[1].close()

    def _fetch(self, wanted: Wanted) -> Fetched:
        used_before = _site(wanted) in self._open
        try:
            answer = self._ask(wanted)
        except _WORN_OUT:
            if not used_before:
                raise
            self._close(wanted)
            answer = self._ask(wanted)
        size = 0
        while data := answer.read(_CHUNK):
            size += len(data)
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        if answer.will_close:
            self._close(wanted)
        return judge(wanted.url, answer.status, answer.headers.get_all("Cache-Status", []), size)

    def _ask(self, wanted: Wanted) -> http.client.HTTPResponse:
        connection = self._open.get(_site(wanted))
        if connection is None:
            connection = self._open[_site(wanted)] = _Connection(wanted, self._place or (wanted.name, wanted.port))
        # Without Accept-Encoding, unless the user wants one: what is stored plain can be packed for everybody.
        connection.putrequest("GET", wanted.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", wanted.host)
        for name, value in self._fields:
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()

    def _close(self, wanted: Wanted) -> None:
        connection = self._open.pop(_site(wanted), None)
        if connection is not None:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP or HTTPS at a place that need not be the URL's."""

    def __init__(self, wanted: Wanted, place: Place) -> None:
        super().__init__(wanted.name, wanted.port, timeout=_TIMEOUT)
        self._wanted = wanted
        self._place = place

    def connect(self) -> None:
        """See HTTPConnection."""
        self.sock = socket.create_connection(self._place, _TIMEOUT)
        if self._wanted.tls:
            trusting = ssl.create_default_context()
            self.sock = trusting.wrap_socket(self.sock, server_hostname=self._wanted.name)


def fetch_all(
    wanted: Sequence[Wanted], concurrency: int, place: Place | None, fields: Sequence[tuple[str, str]]
) -> Generator[Fetched, None, None]:
    """What becomes of each of them, in the order in which they are done. Ends its threads when it is closed."""
    left: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    done: queue.SimpleQueue[Fetched] = queue.SimpleQueue()
    for one in wanted:
        left.put(one)
    given_up = threading.Event()

    def work() -> None:
        fetcher = Fetcher(place, fields)
        try:
            while not given_up.is_set():
                done.put(fetcher.fetch(left.get_nowait()))
        except queue.Empty:
            return
        finally:
            fetcher.close()

    # Daemons: who gives up need not wait for an answer that does not come.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(concurrency, len(wanted)))]
    for thread in threads:
        thread.start()
    try:
        for _ in wanted:
            yield done.get()
        for thread in threads:
            thread.join()
    finally:
        given_up.set()


def _site(wanted: Wanted) -> tuple[bool, str, int]:
    return wanted.tls, wanted.name, wanted.port


def _sentence(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} seconds"
    if isinstance(problem, http.client.IncompleteRead):
        return "the answer ended before its end"
    if isinstance(problem, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {problem.verify_message}"
    return (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)[:200]
