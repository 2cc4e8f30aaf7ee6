"""The origin of the caching suite: it answers each request by the script of its case, and remembers what it saw.

Which request of a case it is, the client says in a field, so a cache that asks in the background gets the answer of
the request that made it ask. What the origin answered says of itself, in a field too, to which request it belongs.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate

from tests.live.caching_case import Ask, Case, Expect

STEP = "X-Step"
ORIGIN_STEP = "X-Origin-Step"
_DATE = re.compile(r"@(-?\d+)")

Pairs = list[tuple[str, str]]


def pairs(lines: Iterable[str], now: int, path: str) -> Pairs:
    """The lines as names and values, with dates and paths put in; `now` is in seconds since the epoch."""
    found = []
    for line in lines:
        name, _, value = line.partition(": ")
        value = _DATE.sub(lambda match: formatdate(now + int(match[1]), usegmt=True), value)
        found.append((name, value.replace("{path}", path)))
    return found


@dataclass
class Seen:
    """A request as the origin got it; field names are in lower case."""

    step: int
    method: str
    fields: Pairs


@dataclass
class Play:
    """One case under way. `sent` are the fields of the answers by the number of their request, `confirmed` the
    requests that were answered with 304, `now` is when the origin answered last.
    """

    case: Case
    path: str
    now: int = 0
    seen: list[Seen] = field(default_factory=list)
    sent: dict[int, Pairs] = field(default_factory=dict)
    confirmed: set[int] = field(default_factory=set)

    @property
    def body(self) -> str:
        """What the origin's answers hold unless the script says otherwise."""
        return f"body of {self.path}"


class Origin:
    """Serves plays, by their paths."""

    def __init__(self, listening: socket.socket) -> None:
        self.plays: dict[str, Play] = {}
        self._listening = listening
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Origin:
        self._server = await asyncio.start_server(self._converse, sock=self._listening)
        return self

    async def __aexit__(self, *problem: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A connection that ends is nothing to worry about, wherever it does.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    await writer.drain()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        got = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in head[1:-2])]
        fields = dict(got)
        await reader.readexactly(int(fields.get("content-length", "0")))
        play = next((one for path, one in self.plays.items() if target.startswith(path)), None)
        if play is None:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        step = int(fields[STEP.lower()])
        ask = play.case.asks[step - 1]
        play.seen.append(Seen(step, method, got))
        if ask.delay:
            await asyncio.sleep(ask.delay)
        if ask.dies:
            return False
        writer.write(_written(play, step, method, fields).encode("latin-1"))
        return fields.get("connection", "").lower() != "close"


def _written(play: Play, step: int, method: str, fields: dict[str, str]) -> str:
    """The whole answer."""
    ask = play.case.asks[step - 1]
    play.now = int(time.time())
    text = "".join(
        f"HTTP/1.1 {status} Early\r\n{_lines(pairs(lines, play.now, play.path))}\r\n" for status, lines in ask.interim
    )
    status = ask.status
    if play.sent and _is_confirmed(ask, fields, dict(play.sent[max(play.sent)])):
        play.confirmed.add(step)
        status = 304
    answer = pairs(ask.answer, play.now, play.path)
    play.sent[step] = answer
    answer = [*answer, (ORIGIN_STEP, str(step))]
    names = {name.lower() for name, _ in answer}
    if "date" not in names:
        answer.append(("Date", formatdate(play.now, usegmt=True)))
    if "content-type" not in names:
        answer.append(("Content-Type", "text/plain"))
    body = "" if status in (204, 304) else play.body if ask.body is None else ask.body
    if status in (204, 304):
        pass
    elif ask.chunked:
        answer.append(("Transfer-Encoding", "chunked"))
        body = "".join(f"1\r\n{char}\r\n" for char in body) + "0\r\n\r\n"
    else:
        answer.append(("Content-Length", str(len(body))))
    return f"{text}HTTP/1.1 {status} Scripted\r\n{_lines(answer)}\r\n{'' if method == 'HEAD' else body}"


def _is_confirmed(ask: Ask, fields: dict[str, str], sent: dict[str, str]) -> bool:
    """Whether the request asks, as it should, by the very validator that was sent before."""
    if ask.expect is Expect.BY_ETAG:
        return "ETag" in sent and fields.get("if-none-match") == sent["ETag"]
    return ask.expect is Expect.BY_DATE and fields.get("if-modified-since") == sent.get("Last-Modified", "")


def _lines(fields: Pairs) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields)
