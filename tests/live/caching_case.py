"""What a case of the caching suite is: the requests of one client, the origin's answers, and what must come of it.

Owns the words in which the cases are written. Knows no proxy, no socket and no clock. Fields are written as lines; in
a line `@-5000` stands for the date 5000 seconds before the origin's answer, `{path}` for the path of the case.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

# Longer than a lifetime of one second, also for caches that count whole seconds.
LATER = 2.2
SHORT = "Cache-Control: max-age=1"
LONG = "Cache-Control: max-age=3600"
NOW = "Date: @0"

Lines = tuple[str, ...]


class Kind(enum.Enum):
    """How much a case asks for."""

    REQUIRED = "required"  # by the RFCs, for correctness
    OPTIONAL = "optional"  # what a good cache does
    QUESTION = "question"  # both answers are allowed; the case says which one it calls yes


class Expect(enum.Enum):
    """Where the answer to a request must come from."""

    ANYWHERE = "anywhere"
    STORED = "the cache"
    ORIGIN = "the origin"
    BY_ETAG = "the cache, which has asked by If-None-Match"
    BY_DATE = "the cache, which has asked by If-Modified-Since"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request of the client, and the answer of the origin should it get there.

    `answer` are the fields of the origin's answer, `status` is its status, `body` its body (that of the case where
    None), `interim` what goes in front of it, as a status and fields. With `chunked` the body goes out in chunks, with
    `dies` the origin closes the connection instead; `delay` (seconds) is before both. The request goes to the path of
    the case with `suffix` behind it, which may hold a query.

    Then the client must get `expect` (a status that is None is not looked at, 0 is that of the origin), the `got` lines
    and no field named in `lacks`, an Age of at least `age`, the body `text`, `early` interim answers, and the fields
    named in `kept` as the origin sent them first. The origin must have seen the `seen` lines and the method `by`.

    A request that goes wrong says nothing about the case when `prepares` is set, nor does one that is answered from the
    wrong place with `unless_placed`. `pause` (seconds) is before the next request.
    """

    answer: Lines = ()
    status: int = 200
    body: str | None = None
    interim: tuple[tuple[int, Lines], ...] = ()
    chunked: bool = False
    dies: bool = False
    delay: float = 0.0

    method: str = "GET"
    suffix: str = ""
    sends: Lines = ()
    content: str = ""

    expect: Expect = Expect.ANYWHERE
    wanted: int | None = 0
    got: Lines = ()
    lacks: Lines = ()
    kept: Lines = ()
    age: int | None = None
    text: str | None = None
    early: tuple[int, ...] | None = None
    seen: Lines = ()
    by: str = ""

    prepares: bool = False
    unless_placed: bool = False
    pause: float = 0.0


@dataclass(frozen=True)
class Case:
    """One promise. `needs` are the cases without which this one says nothing."""

    id: str
    kind: Kind
    asks: tuple[Ask, ...]
    needs: frozenset[str] = field(default=frozenset())

    @property
    def pauses(self) -> float:
        """How long it takes at least, in seconds."""
        return sum(one.pause + one.delay for one in self.asks)


REQUIRED, OPTIONAL, QUESTION = Kind


def case(id: str, kind: Kind, *asks: Ask, needs: Iterable[str] | str = ()) -> Case:
    """A case; `needs` is one id or several."""
    return Case(id, kind, asks, frozenset((needs,) if isinstance(needs, str) else needs))


def first(*answer: str, pause: float = 0.0, **more: object) -> Ask:
    """A request that brings something into the cache."""
    return Ask(answer=answer, pause=pause, prepares=True, **more)  # type: ignore[arg-type]  # passed on as they are


def reused(id: str, kind: Kind, *answer: str, pause: float = 0.0, needs: Iterable[str] | str = ()) -> Case:
    """What was answered first must be served for the same request again."""
    return case(id, kind, first(*answer, pause=pause), Ask(expect=Expect.STORED), needs=needs)


def refused(
    id: str, kind: Kind, *answer: str, pause: float = 0.0, needs: Iterable[str] | str = "max-age-is-fresh"
) -> Case:
    """What was answered first must not be served again without asking the origin."""
    return case(id, kind, first(*answer, pause=pause), Ask(expect=Expect.ORIGIN), needs=needs)
