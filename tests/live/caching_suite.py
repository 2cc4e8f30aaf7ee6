"""A suite of cases about shared HTTP caches, played by one client and one scripted origin around any proxy.

    python -m tests.live.caching_suite --port 8080 --origin-port 8081

plays it against a proxy at 8080 whose backend is 127.0.0.1:8081. All cases run at once, as most of their time is spent
on growing stale. A case passes, fails, or is untested: then something that it needs does not hold, as when a cache that
stores nothing is asked not to serve what is stale.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from tests.live.caching_case import Case, Kind
from tests.live.caching_cases import CASES, TOPIC_OF, TOPICS
from tests.live.caching_origin import Origin, Play
from tests.live.caching_play import Wrong, ask_for, check

# How many cases begin at once: those that wait already must not be held up by those to come.
_AT_ONCE = 16
PASSED, FAILED, UNTESTED = "passed", "failed", "untested"


@dataclass(frozen=True)
class Outcome:
    """What became of a case, and why it did not pass."""

    case: Case
    verdict: str
    why: str = ""

    @property
    def topic(self) -> str:
        """Where the case belongs."""
        return TOPIC_OF[self.case.id]


def run(
    listening: socket.socket, port: int, ids: Iterable[str] = CASES, *, settle: float = 0.0, alone: bool = False
) -> list[Outcome]:
    """Play these cases, and those that they need, against the proxy at `port`, which asks the socket `listening`.

    `settle` is for proxies that store a little later than they answer. With `alone` a case that needs others counts
    whatever became of those.
    """
    outcomes = asyncio.run(_run(listening, port, _with_needs(ids), settle))
    by_id = {one.case.id: one for one in outcomes}
    return [by_id[id] if alone else _with_regard(by_id[id], by_id) for id in CASES if id in by_id]


def _with_needs(ids: Iterable[str]) -> set[str]:
    wanted: set[str] = set()
    left = list(ids)
    while left:
        id = left.pop()
        if id not in wanted:
            wanted.add(id)
            left += CASES[id].needs
    return wanted


async def _run(listening: socket.socket, port: int, ids: Collection[str], settle: float) -> list[Outcome]:
    room = asyncio.Semaphore(_AT_ONCE)
    top = f"/{uuid.uuid4().hex}"
    async with Origin(listening) as origin:
        plays = [Play(CASES[id], f"{top}/{id}.end") for id in ids]
        origin.plays.update({play.path: play for play in plays})
        # The long ones first: they end last.
        plays.sort(key=lambda play: -play.case.pauses)
        return await asyncio.gather(*(_play(play, port, room, settle) for play in plays))


def _with_regard(outcome: Outcome, others: dict[str, Outcome]) -> Outcome:
    """The outcome, given those of the cases it needs."""
    for id in outcome.case.needs:
        if _with_regard(others[id], others).verdict != PASSED:
            return replace(outcome, verdict=UNTESTED, why=f"needs {id}")
    return outcome


async def _play(play: Play, port: int, room: asyncio.Semaphore, settle: float) -> Outcome:
    await room.acquire()
    has_room = True
    try:
        for step, ask in enumerate(play.case.asks, 1):
            check(play, step, ask, await ask_for(play, step, ask, port))
            if (ask.pause or settle) and step < len(play.case.asks):
                if has_room and ask.pause:
                    room.release()
                    has_room = False
                await asyncio.sleep(ask.pause or settle)
    except Wrong as wrong:
        return Outcome(play.case, UNTESTED if wrong.prepares else FAILED, str(wrong))
    finally:
        if has_room:
            room.release()
    return Outcome(play.case, PASSED)


# As a command.


def report(outcomes: list[Outcome]) -> str:
    """The counts by topic, and what did not pass."""
    lines = [f"{'topic':32}" + "".join(f"{kind.value:>12}" for kind in Kind)]
    for topic in (*TOPICS, "all"):
        mine = [one for one in outcomes if topic in (one.topic, "all")]
        if mine:
            lines.append(f"{topic:32}" + "".join(f"{_count(mine, kind):>12}" for kind in Kind))
    for kind in Kind:
        missed = [one for one in outcomes if one.case.kind is kind and one.verdict != PASSED]
        lines += [f"{kind.value}: {one.verdict}: {one.case.id}: {one.why}" for one in missed]
    return "\n".join(lines)


def _count(outcomes: list[Outcome], kind: Kind) -> str:
    mine = [one for one in outcomes if one.case.kind is kind]
    return f"{sum(one.verdict == PASSED for one in mine)}/{len(mine)}" if mine else "-"


def main(words: list[str] | None = None) -> int:
    """Play the suite, say how it went; 0 when nothing that is required failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.live.caching_suite")
    parser.add_argument("--port", type=int, required=True, help="where the proxy listens")
    parser.add_argument("--origin-port", type=int, required=True, help="where the proxy believes its backend to be")
    parser.add_argument("--only", nargs="+", default=list(CASES), metavar="ID", help="play these cases only")
    parser.add_argument("--settle", type=float, default=0.0, help="seconds between any two requests of a case")
    parser.add_argument("--alone", action="store_true", help="count each case without regard to those that it needs")
    given = parser.parse_args(words)
    with socket.create_server(("127.0.0.1", given.origin_port), backlog=512) as listening:
        outcomes = run(listening, given.port, given.only, settle=given.settle, alone=given.alone)
    print(report(outcomes))
    return any(one.verdict == FAILED and one.case.kind is Kind.REQUIRED for one in outcomes)


if __name__ == "__main__":
    sys.exit(main())
