"""The client of the caching suite: it plays one case against a proxy, and compares what comes with what must."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import h11

from tests.live.caching_case import Ask, Expect
from tests.live.caching_origin import ORIGIN_STEP, STEP, Pairs, Play, pairs

# No answer takes longer, however busy the machine is.
_PATIENCE = 6.0


@dataclass
class Answered:
    """An answer as the client got it; field names are in lower case."""

    status: int
    fields: Pairs
    body: str
    early: tuple[int, ...]

    def get(self, name: str) -> str | None:
        """The values of a field as one list, None when there is none."""
        found = [value for known, value in self.fields if known == name.lower()]
        return ", ".join(found) if found else None


class Wrong(Exception):
    """What came of a request is not what should; `prepares` tells that this says nothing about the case."""

    def __init__(self, why: str, *, prepares: bool) -> None:
        super().__init__(why)
        self.prepares = prepares


async def ask_for(play: Play, step: int, ask: Ask, port: int) -> Answered:
    """Send one request on a connection of its own and read the answer."""
    lines = [("Host", "cache.test"), *pairs(ask.sends, play.now, play.path), (STEP, str(step)), ("Connection", "close")]
    if ask.content:
        lines.append(("Content-Length", str(len(ask.content))))
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    wire = f"{ask.method} {play.path}{ask.suffix} HTTP/1.1\r\n{text}\r\n{ask.content}".encode("latin-1")
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(wire)
                return await _read(reader, ask.method)
            finally:
                writer.close()
    except (OSError, TimeoutError, h11.RemoteProtocolError) as problem:
        raise Wrong(f"request {step}: no answer, {problem!r}", prepares=ask.prepares) from None


async def _read(reader: asyncio.StreamReader, method: str) -> Answered:
    """The answer to a request with `method`."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    early: list[int] = []
    final: h11.Response | None = None
    body = bytearray()
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            parser.receive_data(await reader.read(65536))
        elif isinstance(event, h11.InformationalResponse):
            early.append(event.status_code)
        elif isinstance(event, h11.Response):
            final = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            raise h11.RemoteProtocolError(f"no answer, but {event!r}")
    assert final is not None
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in final.headers]
    return Answered(final.status_code, fields, body.decode("latin-1"), tuple(early))


def check(play: Play, step: int, ask: Ask, got: Answered) -> None:
    """Raise Wrong unless the answer, and what the origin saw of the request, are as they should be."""
    for why in _misplaced(play, step, ask, got):
        raise Wrong(f"request {step}: {why}", prepares=ask.prepares or ask.unless_placed)
    for why in (*_answered_wrongly(play, ask, got), *_asked_wrongly(play, step, ask)):
        raise Wrong(f"request {step}: {why}", prepares=ask.prepares)


def _misplaced(play: Play, step: int, ask: Ask, got: Answered) -> Iterable[str]:
    said = got.get(ORIGIN_STEP)
    by = None if said is None else int(said)
    if ask.expect is Expect.STORED and (by == step or (by is None and got.status != 304)):
        yield f"the answer ({got.status}) does not come from the cache"
    if ask.expect is Expect.ORIGIN and by != step:
        yield f"the answer ({got.status}) does not come from the origin"
    if ask.expect in (Expect.BY_ETAG, Expect.BY_DATE) and step not in play.confirmed:
        yield "the origin was not asked by the validator that it sent"


def _answered_wrongly(play: Play, ask: Ask, got: Answered) -> Iterable[str]:
    wanted = ask.status if ask.wanted == 0 else ask.wanted
    if wanted is not None and got.status != wanted:
        yield f"the status is {got.status}, not {wanted}"
    for name, value in pairs(ask.got, play.now, play.path):
        if got.get(name) != value:
            yield f"{name} is {got.get(name)!r}, not {value!r}"
    for line in ask.lacks:
        name, _, value = line.partition(": ")
        if got.get(name) is not None and value in (got.get(name) or ""):
            yield f"{name} is there: {got.get(name)!r}"
    for name in ask.kept:
        sent = dict(play.sent[1])[name]
        if got.get(name) != sent:
            yield f"{name} is {got.get(name)!r}, not {sent!r}"
    if ask.age is not None and int(got.get("Age") or "-1") < ask.age:
        yield f"Age is {got.get('Age')!r}, not {ask.age} or more"
    if ask.early is not None and got.early != ask.early:
        yield f"the interim answers are {got.early}, not {ask.early}"
    if got.get(ORIGIN_STEP) is None or got.status in (204, 304) or ask.method == "HEAD":
        return
    text = ask.text if ask.text is not None else play.body if ask.body is None else ask.body
    if got.body != text:
        yield f"the body is {got.body!r}, not {text!r}"


def _asked_wrongly(play: Play, step: int, ask: Ask) -> Iterable[str]:
    if not ask.seen and not ask.by:
        return
    seen = [one for one in play.seen if one.step == step]
    if not seen:
        yield "the origin was not asked"
        return
    if ask.by and seen[0].method != ask.by:
        yield f"the origin was asked with {seen[0].method}, not {ask.by}"
    for name, value in pairs(ask.seen, play.now, play.path):
        if (name.lower(), value) not in seen[0].fields:
            yield f"the origin did not see {name}: {value}"
