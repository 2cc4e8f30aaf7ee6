"""Cases about answers that are stale: when they are served all the same (RFC 5861), and when never."""

from __future__ import annotations

from tests.live.caching_case import LATER, OPTIONAL, QUESTION, REQUIRED, Ask, Case, Expect, case, first


def _not_when_closed(id: str, value: str) -> Case:
    """Stale, and the origin does not answer: any error will do, the stored answer will not."""
    return case(
        id,
        REQUIRED,
        first(f"Cache-Control: max-age=1, {value}", pause=LATER),
        Ask(dies=True, wanted=None, lacks=("X-Origin-Step",)),
    )


def _instead(id: str, value: str, status: int = 200, *, dies: bool = False) -> Case:
    again = Ask(expect=Expect.STORED, wanted=200, status=status, dies=dies)
    return case(id, QUESTION, first(f"Cache-Control: max-age=1{value}", pause=LATER), again)


def _survives(id: str, newer: str) -> Case:
    """An older answer that is there when a newer one must not be stored. Stale by then, it makes room for asking."""
    return case(
        id,
        QUESTION,
        first("Cache-Control: max-age=1, stale-if-error=60", "A: 1", pause=LATER),
        first(f"Cache-Control: {newer}", "A: 2"),
        Ask(dies=True, expect=Expect.STORED, got=("A: 1",)),
        needs="stale-if-error-when-closed",
    )


STALE = (
    case(
        "stale-while-revalidate",
        OPTIONAL,
        first("Cache-Control: max-age=1, stale-while-revalidate=3600", 'ETag: "abc"', pause=LATER),
        Ask(expect=Expect.STORED),
    ),
    case(
        "stale-while-revalidate-ends",
        REQUIRED,
        first("Cache-Control: max-age=1, stale-while-revalidate=3", 'ETag: "abc"', pause=LATER),
        Ask(
            answer=("Cache-Control: no-cache", 'ETag: "def"'),
            expect=Expect.STORED,
            prepares=True,
            pause=LATER,
        ),
        Ask(expect=Expect.ORIGIN),
        needs="stale-while-revalidate",
    ),
    _instead("stale-when-closed", "", dies=True),
    _instead("stale-when-503", "", status=503),
    _instead("stale-if-error-when-closed", ", stale-if-error=60", dies=True),
    _instead("stale-if-error-when-503", ", stale-if-error=60", status=503),
    _not_when_closed("not-stale-with-must-revalidate", "must-revalidate, stale-if-error=60"),
    _not_when_closed("not-stale-with-proxy-revalidate", "proxy-revalidate, stale-if-error=60"),
    _not_when_closed("not-stale-with-no-cache", "no-cache, stale-if-error=60"),
    _not_when_closed("not-stale-with-s-maxage", "s-maxage=1"),
    _survives("older-answer-survives-no-store", "no-store"),
    _survives("older-answer-survives-private", "private"),
)
