"""Cases about what else an answer says of itself: directives, its status, and targeted fields."""

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
    refused,
    reused,
)

_EXPIRES = "Expires: @10000"
_TAG = 'ETag: "abcd"'
_LONG_NO_CACHE = "Cache-Control: max-age=10000, no-cache"


DIRECTIVES = (
    refused("private", REQUIRED, "Cache-Control: private, max-age=3600"),
    refused("no-store", REQUIRED, "Cache-Control: no-store"),
    refused("no-store-in-any-case", REQUIRED, "Cache-Control: max-age=3600, No-StOrE"),
    refused("no-store-beats-freshness", REQUIRED, "Cache-Control: max-age=10000, no-store", _EXPIRES, NOW),
    refused("no-cache", REQUIRED, _LONG_NO_CACHE, _EXPIRES, NOW),
    refused("no-cache-in-any-case", REQUIRED, "Cache-Control: max-age=10000, No-CaChE", _EXPIRES, NOW),
    case(
        "no-cache-is-confirmed",
        OPTIONAL,
        first("Cache-Control: no-cache", _TAG),
        Ask(expect=Expect.BY_ETAG),
        needs="no-cache",
    ),
    case(
        "no-cache-with-freshness-is-confirmed",
        OPTIONAL,
        first(_LONG_NO_CACHE, _EXPIRES, NOW, _TAG),
        Ask(expect=Expect.BY_ETAG),
        needs="no-cache",
    ),
    case(
        "no-cache-of-a-field",
        QUESTION,
        first('Cache-Control: no-cache="a, b"', "a: 1", "b: 2", "c: 3", LONG, NOW),
        Ask(expect=Expect.STORED, unless_placed=True, got=("c: 3",), lacks=("a", "b")),
    ),
    reused("must-revalidate-is-fresh", OPTIONAL, "Cache-Control: max-age=10000, must-revalidate", _TAG),
    case(
        "must-revalidate-is-confirmed-when-stale",
        REQUIRED,
        first("Cache-Control: max-age=2, must-revalidate", _TAG),
        Ask(
            answer=("Cache-Control: max-age=2, must-revalidate", _TAG),
            expect=Expect.STORED,
            prepares=True,
            pause=LATER + 1,
        ),
        Ask(expect=Expect.BY_ETAG),
    ),
)


def _of_status(status: int) -> tuple[Case, Case]:
    fresh = first("Cache-Control: max-age=100000", NOW, status=status)
    stale = first("Expires: @-5000", "Last-Modified: @-100000", NOW, status=status)
    return (
        case(f"status-{status}", OPTIONAL, fresh, Ask(expect=Expect.STORED, wanted=status)),
        case(f"status-{status}-stale", REQUIRED, stale, Ask(expect=Expect.ORIGIN), needs=f"status-{status}"),
    )


_STATUSES = (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599)
_UNDERSTAND = "Cache-Control: max-age=3600, no-store, must-understand"
STATUSES = (
    *(one for status in _STATUSES for one in _of_status(status)),
    case(
        "must-understand-unknown-status",
        REQUIRED,
        first(_UNDERSTAND, status=599),
        Ask(expect=Expect.ORIGIN),
        needs="status-599",
    ),
    reused("must-understand-known-status", OPTIONAL, _UNDERSTAND, needs="no-store"),
)


def _authorised(id: str, kind: Kind, value: str, expect: Expect) -> Case:
    made = first(f"Cache-Control: {value}", NOW, sends=("Authorization: FOO",), seen=("Authorization: FOO",))
    return case(id, kind, made, Ask(expect=expect), needs="max-age-is-fresh")


AUTHORIZATION = (
    _authorised("authorization", REQUIRED, "max-age=100000", Expect.ORIGIN),
    _authorised("authorization-public", OPTIONAL, "max-age=3600, public", Expect.STORED),
    _authorised("authorization-must-revalidate", OPTIONAL, "max-age=3600, must-revalidate", Expect.STORED),
    _authorised("authorization-s-maxage", OPTIONAL, "s-maxage=3600", Expect.STORED),
)

_TARGETED = "targeted-max-age"


def _targeted(id: str, kind: Kind, value: str, *more: str, pause: float = 0.0, is_fresh: bool = False) -> Case:
    make = reused if is_fresh else refused
    needs = () if id == _TARGETED else (_TARGETED,)
    return make(id, kind, f"CDN-Cache-Control: {value}", *more, pause=pause, needs=needs)


_PLAIN_LONG = ("Cache-Control: max-age=10000", _EXPIRES, NOW)
_NO_STORE = "Cache-Control: no-store"
TARGETED = (
    _targeted(_TARGETED, OPTIONAL, "max-age=3600", is_fresh=True),
    _targeted("targeted-max-age-of-2147483648", OPTIONAL, "max-age=2147483648", is_fresh=True),
    _targeted("targeted-max-age-of-99999999999", OPTIONAL, "max-age=99999999999", is_fresh=True),
    _targeted("targeted-unknown-directive", OPTIONAL, "foobar, max-age=3600", is_fresh=True),
    _targeted("targeted-beats-past-expires", OPTIONAL, "max-age=3600", "Expires: @-10000", NOW, is_fresh=True),
    _targeted("targeted-beats-invalid-expires", OPTIONAL, "max-age=3600", "Expires: 0", NOW, is_fresh=True),
    _targeted("targeted-long-beats-short", OPTIONAL, "max-age=3600", SHORT, pause=LATER, is_fresh=True),
    _targeted("targeted-age-beyond-max-age", REQUIRED, "max-age=3600", NOW, "Age: 7200"),
    _targeted("targeted-max-age-0", REQUIRED, "max-age=0"),
    _targeted("targeted-max-age-0-beats-expires", REQUIRED, "max-age=0", _EXPIRES, NOW),
    _targeted("targeted-short-beats-long", REQUIRED, "max-age=1", LONG, pause=LATER),
    _targeted("targeted-private", REQUIRED, "private", *_PLAIN_LONG),
    _targeted("targeted-no-cache", REQUIRED, "no-cache", *_PLAIN_LONG),
    _targeted("targeted-no-store", REQUIRED, "no-store", *_PLAIN_LONG),
    _targeted("targeted-beats-no-store", REQUIRED, "max-age=10000", _NO_STORE, is_fresh=True),
    _targeted("targeted-malformed", REQUIRED, "max-age=10000, &&&&&", _NO_STORE),
    _targeted("targeted-of-the-wrong-type", REQUIRED, 'max-age="10000"', _NO_STORE),
    _targeted("targeted-blank-before-equals", QUESTION, "max-age =100", SHORT, pause=LATER),
    _targeted("targeted-blank-after-equals", QUESTION, "max-age= 100", SHORT, pause=LATER),
    _targeted("targeted-in-any-case", QUESTION, "MaX-aGe=3600", is_fresh=True),
    case(
        "targeted-is-passed-on",
        QUESTION,
        Ask(answer=(LONG, "CDN-Cache-Control: foo"), got=("CDN-Cache-Control: foo",)),
    ),
)
