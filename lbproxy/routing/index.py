"""Where a request is looked up: candidates by host and by path, so that a thousand of them cost what one does.

Owns the way from host and path to the few candidates that are left, and to the first of them in the order that was
given. Refuses to know routes: a candidate is its position, and a test of what host and path do not decide.

Every host pattern has a `_Paths` with the candidates of that host; for one request those of its exact name, of each
ending of it that somebody wrote, and of candidates for all hosts are asked, and in each of them the path, each of its
prefixes that ends in a slash, and the candidates for all paths. What is walked is bounded by what is configured, not
by what is sent. The first in order wins, however short its prefix is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lbproxy.http.messages import RequestHead
from lbproxy.routing.conditions import Test


@dataclass(frozen=True, slots=True)
class Candidate:
    """`hosts` and `paths` are those of a condition, () for all of them; `rest` is what else must hold, if anything."""

    position: int
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    rest: Test | None = None


# Position and rest of candidates, in order.
_Entries = list[tuple[int, Test | None]]


class Index:
    """Candidates, given in order, that are found by host and path."""

    __slots__ = ("_any_host", "_endings", "_labels", "_names")

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._any_host: _Paths | None = None
        self._names: dict[bytes, _Paths] = {}
        # "*.a.example" is kept as ".a.example".
        self._endings: dict[bytes, _Paths] = {}
        for candidate in candidates:
            self._add(candidate)
        self._labels = max((ending.count(b".") for ending in self._endings), default=0)

    def _add(self, candidate: Candidate) -> None:
        if not candidate.hosts:
            self._any_host = self._any_host or _Paths()
            self._any_host.add(candidate)
        for pattern in dict.fromkeys(candidate.hosts):
            if pattern.startswith("*."):
                self._endings.setdefault(pattern[1:].encode(), _Paths()).add(candidate)
            else:
                self._names.setdefault(pattern.encode(), _Paths()).add(candidate)

    def first(self, path: bytes, head: RequestHead, client_ip: str, before: int) -> int:
        """The position of the first candidate that holds, or `before` when there is none in front of that."""
        paths = self._names.get(head.host)
        if paths is not None:
            before = paths.first(path, head, client_ip, before)
        if self._labels:
            before = self._first_by_ending(path, head, client_ip, before)
        if self._any_host is not None:
            before = self._any_host.first(path, head, client_ip, before)
        return before

    def _first_by_ending(self, path: bytes, head: RequestHead, client_ip: str, before: int) -> int:
        host = head.host
        dot = len(host)
        for _ in range(self._labels):
            dot = host.rfind(b".", 0, dot)
            if dot <= 0:
                break
            paths = self._endings.get(host[dot:])
            if paths is not None:
                before = paths.first(path, head, client_ip, before)
        return before


class _Paths:
    """The candidates of one host pattern, found by path."""

    __slots__ = ("_depth", "_exact", "_others", "_prefixes")

    def __init__(self) -> None:
        self._exact: dict[bytes, _Entries] = {}
        self._prefixes: dict[bytes, _Entries] = {}
        self._others: _Entries = []
        # How many slashes the longest prefix has.
        self._depth = 0

    def add(self, candidate: Candidate) -> None:
        entry = (candidate.position, candidate.rest)
        if not candidate.paths:
            self._others.append(entry)
        for pattern in dict.fromkeys(candidate.paths):
            path = pattern.encode()
            if path.endswith(b"/"):
                self._prefixes.setdefault(path, []).append(entry)
                self._depth = max(self._depth, path.count(b"/"))
            elif path != b"*":
                # "*" is no path: it is asked of the server as a whole (RFC 9112, 3.2.4).
                self._exact.setdefault(path, []).append(entry)

    def first(self, path: bytes, head: RequestHead, client_ip: str, before: int) -> int:
        entries = self._exact.get(path)
        if entries is not None:
            before = _first(entries, head, client_ip, before)
        slash = -1
        for _ in range(self._depth):
            slash = path.find(b"/", slash + 1)
            if slash < 0:
                break
            entries = self._prefixes.get(path[: slash + 1])
            if entries is not None:
                before = _first(entries, head, client_ip, before)
        # Last, since these are walked: what has been found already cuts the walk short.
        if self._others:
            before = _first(self._others, head, client_ip, before)
        return before


def _first(entries: _Entries, head: RequestHead, client_ip: str, before: int) -> int:
    for position, rest in entries:
        if position >= before:
            break
        if rest is None or rest(head, client_ip):
            return position
    return before
