"""Cases about the traffic around stored answers: what clients wish, and what other methods change."""

from __future__ import annotations

from typing import Any

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
    case,
    first,
)

_TAG = 'ETag: "abcdef"'


def _wish(id: str, *answer: str, wish: str, expect: Expect, pause: float = 0.0) -> Case:
    again = Ask(sends=(wish,), expect=expect)
    return case(f"client-{id}", QUESTION, first(*answer, pause=pause), again, needs="max-age-is-fresh")


_UNKNOWN = ("Cache-Control: nothing-we-know", "Pragma: nor-this")
_OF_1500 = "Cache-Control: max-age=1500"
WISHES = (
    _wish("max-age-0", LONG, wish="Cache-Control: max-age=0", expect=Expect.ORIGIN),
    _wish("max-age-1", LONG, wish="Cache-Control: max-age=1", expect=Expect.ORIGIN, pause=LATER),
    _wish("max-age-below-age", LONG, "Age: 1800", wish="Cache-Control: max-age=600", expect=Expect.ORIGIN),
    _wish("max-stale", SHORT, wish="Cache-Control: max-stale=1000", expect=Expect.STORED, pause=LATER),
    _wish("max-stale-of-aged", _OF_1500, "Age: 2000", wish="Cache-Control: max-stale=1000", expect=Expect.STORED),
    _wish("min-fresh", _OF_1500, wish="Cache-Control: min-fresh=2000", expect=Expect.ORIGIN),
    _wish("min-fresh-of-aged", _OF_1500, "Age: 1000", wish="Cache-Control: min-fresh=1000", expect=Expect.ORIGIN),
    _wish("no-cache", LONG, wish="Cache-Control: no-cache", expect=Expect.ORIGIN),
    _wish("no-cache-by-etag", LONG, _TAG, wish="Cache-Control: no-cache", expect=Expect.BY_ETAG),
    _wish(
        "no-cache-by-date", LONG, "Last-Modified: @-9000", NOW, wish="Cache-Control: no-cache", expect=Expect.BY_DATE
    ),
    _wish("no-store", LONG, wish="Cache-Control: no-store", expect=Expect.ORIGIN),
    _wish("pragma-no-cache", LONG, wish="Pragma: no-cache", expect=Expect.ORIGIN),
    case(
        "client-unknown-directives",
        OPTIONAL,
        first(LONG, sends=_UNKNOWN),
        Ask(sends=_UNKNOWN, expect=Expect.STORED),
        needs="max-age-is-fresh",
    ),
    case("client-only-if-cached", QUESTION, Ask(sends=("Cache-Control: only-if-cached",), wanted=504)),
)


def _unsafe(method: str) -> tuple[Case, ...]:
    asks: dict[str, Any] = {"method": method, "content": "abc"}
    id, needs = f"invalidated-by-{method}", ("max-age-is-fresh",)
    more = ("Location: {path}/there", "Content-Location: {path}/described")

    def elsewhere(suffix: str) -> tuple[Ask, Ask, Ask]:
        changed = first(*more, **asks)
        return first(LONG, NOW, suffix=suffix), changed, Ask(suffix=suffix, expect=Expect.ORIGIN)

    made = first("Cache-Control: max-age=100000", NOW)
    return (
        case(id, REQUIRED, made, first(**asks), Ask(expect=Expect.ORIGIN), needs=needs),
        case(f"{id}-not-by-500", OPTIONAL, made, first(status=500, **asks), Ask(expect=Expect.STORED), needs=(id,)),
        case(f"{id}-at-location", QUESTION, *elsewhere("/there"), needs=(id,)),
        case(f"{id}-at-content-location", QUESTION, *elsewhere("/described"), needs=(id,)),
    )


INVALIDATION = (
    *(one for method in ("POST", "PUT", "DELETE", "M-SEARCH") for one in _unsafe(method)),
    case(
        "not-invalidated-by-OPTIONS",
        OPTIONAL,
        first(LONG, NOW),
        first(method="OPTIONS"),
        Ask(expect=Expect.STORED),
        needs="max-age-is-fresh",
    ),
)
