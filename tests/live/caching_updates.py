"""Cases about stored answers that are confirmed: what a 304 or the answer to a HEAD changes in them."""

from __future__ import annotations

from tests.live.caching_case import (
    LATER,
    LONG,
    NOW,
    OPTIONAL,
    QUESTION,
    REQUIRED,
    SHORT,
    Ask,
    Case,
    Expect,
    Kind,
    case,
    first,
)
from tests.live.caching_fields import KEPT

_CHANGED = ("Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo")
_TAGGED = 'ETag: "tagged"'


def _by_304(name: str, kind: Kind, old: str, new: str) -> Case:
    """A 304 brings another value: the client gets it at once, and so does the next one from the cache."""
    tag = () if name == "ETag" else (_TAGGED,)
    short = "Cache-Control: max-age=2"
    made = first(NOW, short, f"{name}: {old}", *tag, pause=LATER + 1)
    line = f"{name}: {new}"
    asks = Ask(answer=(NOW, short, line, *tag), expect=Expect.BY_ETAG, unless_placed=True, got=(line,))
    again = Ask(expect=Expect.STORED, unless_placed=True, got=(line,))
    return case(f"304-changes-{name}", kind, made, asks, again, needs="304-leaves-the-rest")


_ON_304 = (name for name in KEPT if name not in _CHANGED)
CONFIRMED = (
    case(
        "304-leaves-the-rest",
        REQUIRED,
        first(SHORT, "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT", NOW, "Test-Header: one", pause=LATER),
        Ask(
            answer=("Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT", NOW),
            expect=Expect.BY_DATE,
            unless_placed=True,
            got=("Test-Header: one",),
        ),
    ),
    *(_by_304(name, REQUIRED, *KEPT[name]) for name in _CHANGED),
    case(
        "304-changes-Cache-Control",
        REQUIRED,
        first(NOW, SHORT, _TAGGED, pause=LATER),
        Ask(answer=(NOW, LONG, _TAGGED), expect=Expect.BY_ETAG, unless_placed=True, got=(LONG,), pause=LATER),
        Ask(expect=Expect.STORED, unless_placed=True, got=(LONG,)),
        needs="304-leaves-the-rest",
    ),
    case(
        "304-leaves-Content-Length",
        REQUIRED,
        first(NOW, "Cache-Control: max-age=2", _TAGGED, body="12345", pause=LATER + 1),
        Ask(
            answer=(NOW, "Cache-Control: max-age=2", _TAGGED, "Content-Length: 10"),
            expect=Expect.BY_ETAG,
            unless_placed=True,
            got=("Content-Length: 5",),
            text="12345",
        ),
        Ask(expect=Expect.STORED, unless_placed=True, got=("Content-Length: 5",), text="12345"),
        needs="304-leaves-the-rest",
    ),
    *(_by_304(name, QUESTION, *KEPT[name]) for name in _ON_304),
)

_HEAD_GETS_THROUGH = "head-gets-through-when-stale"


def _by_head(id: str, *answer: str, got: tuple[str, ...], status: int = 200) -> Case:
    made = first(SHORT, "A: 1", pause=LATER)
    asks = Ask(method="HEAD", answer=answer, status=status, by="HEAD")
    again = Ask(expect=Expect.STORED, unless_placed=True, got=got)
    return case(id, QUESTION, made, asks, again, needs=_HEAD_GETS_THROUGH)


HEADS = (
    case(_HEAD_GETS_THROUGH, QUESTION, first(SHORT, "A: 1", pause=LATER), Ask(method="HEAD", by="HEAD")),
    _by_head("head-changes-freshness", "Cache-Control: max-age=1000", got=("A: 1",)),
    _by_head("head-changes-fields", "Cache-Control: max-age=1000", "A: 2", got=("A: 2",)),
    _by_head("head-410-changes-fields", "Cache-Control: max-age=1000", "A: 2", status=410, got=("A: 2",)),
    case(
        "head-brings-no-body-for-a-get",
        REQUIRED,
        first(LONG, method="HEAD"),
        Ask(expect=Expect.ORIGIN),
        needs="max-age-is-fresh",
    ),
    case(
        "head-is-answered-from-a-stored-get",
        OPTIONAL,
        first(LONG, "A: 1"),
        Ask(method="HEAD", expect=Expect.STORED, got=("A: 1",)),
        needs="max-age-is-fresh",
    ),
)
