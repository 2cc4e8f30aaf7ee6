"""Cases about how long an answer is fresh (RFC 9111, section 4.2): Cache-Control, Age, Expires, and guessing."""

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

SHARED = "s-maxage-is-fresh"
EXPIRES = "expires-ahead-is-fresh"

LIFETIMES = (
    refused("nothing-said-is-not-fresh", QUESTION, needs=()),
    reused("max-age-is-fresh", OPTIONAL, LONG),
    refused("max-age-runs-out", REQUIRED, SHORT, pause=LATER),
    refused("max-age-0", REQUIRED, "Cache-Control: max-age=0"),
    refused("max-age-negative", REQUIRED, "Cache-Control: max-age=-3600"),
    refused("age-beyond-max-age", REQUIRED, NOW, LONG, "Age: 7200"),
    refused("max-age-0-beats-expires", REQUIRED, "Expires: @3600", "Cache-Control: max-age=0", NOW),
    reused(SHARED, REQUIRED, "Cache-Control: s-maxage=3600"),
    *(
        refused(f"short-s-maxage-beats-max-age-{name}", REQUIRED, *lines, pause=LATER, needs=SHARED)
        for name, lines in {
            "behind": ("Cache-Control: max-age=3600, s-maxage=1",),
            "in-front": ("Cache-Control: s-maxage=1, max-age=3600",),
            "on-two-lines": (LONG, "Cache-Control: s-maxage=1"),
        }.items()
    ),
    *(
        reused(f"max-age-of-{seconds}", OPTIONAL, f"Cache-Control: max-age={seconds}")
        for seconds in (2147483647, 2147483648, 2147483649, 99999999999)
    ),
    reused("max-age-beats-past-expires", OPTIONAL, LONG, "Expires: @-7200", NOW),
    reused("max-age-beats-invalid-expires", OPTIONAL, LONG, "Expires: 0", NOW),
    reused("unknown-directive-beside-max-age", OPTIONAL, "Cache-Control: foobar, max-age=3600"),
    reused("max-age-in-any-case", OPTIONAL, "Cache-Control: MaX-aGe=3600"),
    reused("long-s-maxage-beats-max-age", OPTIONAL, "Cache-Control: max-age=1, s-maxage=3600", pause=LATER),
    reused("s-maxage-beats-all", OPTIONAL, "Expires: @-10", "Cache-Control: max-age=0, s-maxage=3600"),
    refused("old-date-is-an-age", QUESTION, "Date: @-7200", LONG),
)


def _syntax(id: str, kind: Kind, value: str, *, pause: float = 0.0, is_fresh: bool) -> Case:
    make = reused if is_fresh else refused
    return make(id, kind, f"Cache-Control: {value}", pause=pause, needs="max-age-is-fresh")


CACHE_CONTROL = (
    _syntax("quoted-max-age-in-front", REQUIRED, 'extension="max-age=3600", max-age=1', pause=LATER, is_fresh=False),
    _syntax("quoted-max-age-behind", REQUIRED, 'max-age=1, extension="max-age=3600"', pause=LATER, is_fresh=False),
    _syntax("max-age-with-leading-zeros", REQUIRED, "max-age=003600", is_fresh=True),
    _syntax("max-age-in-single-quotes", REQUIRED, "max-age='3600'", is_fresh=False),
    _syntax("max-age-quoted", QUESTION, 'max-age="3600"', is_fresh=True),
    _syntax("max-age-twice-long-first", QUESTION, "max-age=1800, max-age=1", pause=LATER, is_fresh=True),
    _syntax("max-age-twice-short-first", QUESTION, "max-age=1, max-age=1800", pause=LATER, is_fresh=True),
    _syntax("max-age-blank-before-equals", QUESTION, "max-age =3600", is_fresh=False),
    _syntax("max-age-blank-after-equals", QUESTION, "max-age= 3600", is_fresh=False),
    _syntax("max-age-with-fraction-0", QUESTION, "max-age=3600.0", is_fresh=True),
    _syntax("max-age-with-fraction-5", QUESTION, "max-age=3600.5", is_fresh=True),
    _syntax("max-age-with-letter-in-front", QUESTION, "max-age=a3600", is_fresh=True),
    _syntax("max-age-with-letter-behind", QUESTION, "max-age=3600a", is_fresh=True),
)


def _age(id: str, kind: Kind, *ages: str, is_fresh: bool, lifetime: int = 3600) -> Case:
    make = reused if is_fresh else refused
    lines = (NOW, f"Cache-Control: max-age={lifetime}", *(f"Age: {age}" for age in ages))
    return make(id, kind, *lines, needs="age-beyond-max-age")


AGE = (
    _age("age-no-number", REQUIRED, "abc", is_fresh=True),
    _age("age-negative", REQUIRED, "-7200", is_fresh=True),
    _age("age-with-fraction", REQUIRED, "7200.0", is_fresh=True),
    *(_age(f"age-of-{age}", REQUIRED, str(age), is_fresh=False) for age in (2147483647, 2147483648, 2147483649)),
    _age("age-list-old-first", REQUIRED, "7200, 0", is_fresh=False),
    _age("age-list-young-first", REQUIRED, "0, 7200", is_fresh=True),
    _age("age-lines-old-first", REQUIRED, "7200", "0", is_fresh=False),
    _age("age-lines-young-first", REQUIRED, "0", "7200", is_fresh=True),
    _age("age-list-of-zeros", REQUIRED, "0, 0", is_fresh=True),
    _age("age-lines-of-zeros", REQUIRED, "0", "0", is_fresh=True),
    _age("age-lines-are-not-added", REQUIRED, "3600", "3600", lifetime=7000, is_fresh=True),
    _age("age-with-parameter", QUESTION, "7200;foo=bar", is_fresh=False),
    _age("age-with-parameter-of-digits", QUESTION, "7200;foo=111", is_fresh=False),
)


def _expires(id: str, kind: Kind, *values: str, is_fresh: bool) -> Case:
    make = reused if is_fresh else refused
    return make(id, kind, *(f"Expires: {value}" for value in values), NOW, needs=EXPIRES)


EXPIRY = (
    reused(EXPIRES, OPTIONAL, "Expires: @2592000", NOW),
    _expires("expires-past", REQUIRED, "@-2592000", is_fresh=False),
    _expires("expires-at-date", REQUIRED, "@0", is_fresh=False),
    _expires("expires-0", REQUIRED, "0", is_fresh=False),
    refused("expires-before-date-ahead", REQUIRED, "Expires: @300", "Date: @400", needs=EXPIRES),
    refused("age-beyond-expires-date-behind", REQUIRED, "Date: @-10", "Expires: @10", "Age: 25", needs=EXPIRES),
    refused("age-beyond-expires-date-ahead", REQUIRED, "Date: @10", "Expires: @20", "Age: 15", needs=EXPIRES),
    reused("expires-without-valid-date", OPTIONAL, "Date: foo", "Expires: @20", needs=EXPIRES),
    _expires("expires-of-32-bits", OPTIONAL, "Tue, 19 Jan 2038 14:14:08 GMT", is_fresh=True),
    _expires("expires-far-ahead", OPTIONAL, "Sun, 21 Nov 2286 04:46:39 GMT", is_fresh=True),
    _expires("expires-of-rfc-850", OPTIONAL, "Thursday, 18-Aug-50 02:01:18 GMT", is_fresh=True),
    _expires("expires-of-asctime", OPTIONAL, "Thu Aug  8 02:01:18 2050", is_fresh=True),
    _expires("expires-weekday-in-capitals", OPTIONAL, "THU, 18 Aug 2050 02:01:18 GMT", is_fresh=True),
    _expires("expires-month-in-capitals", OPTIONAL, "Thu, 18 AUG 2050 02:01:18 GMT", is_fresh=True),
    _expires("expires-zone-in-mixed-case", OPTIONAL, "Thu, 18 Aug 2050 02:01:18 gMT", is_fresh=True),
    _expires("expires-in-utc", REQUIRED, "Thu, 18 Aug 2050 02:01:18 UTC", is_fresh=False),
    _expires("expires-in-another-zone", REQUIRED, "Thu, 18 Aug 2050 02:01:18 AEST", is_fresh=False),
    _expires("expires-year-of-two-digits", REQUIRED, "Thu, 18 Aug 50 02:01:18 GMT", is_fresh=False),
    _expires("expires-without-comma", REQUIRED, "Thu 18 Aug 2050 02:01:18 GMT", is_fresh=False),
    _expires("expires-with-more-blanks", REQUIRED, "Thu, 18  Aug  2050 02:01:18 GMT", is_fresh=False),
    _expires("expires-with-dashes", REQUIRED, "Thu, 18-Aug-2050 02:01:18 GMT", is_fresh=False),
    _expires("expires-with-dots", REQUIRED, "Thu, 18 Aug 2050 02.01.18 GMT", is_fresh=False),
    _expires("expires-hour-of-one-digit", REQUIRED, "Thu, 18 Aug 2050 2:01:18 GMT", is_fresh=False),
    _expires(
        "expires-twice",
        REQUIRED,
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 18 Aug 2050 2:01:19 GMT",
        is_fresh=False,
    ),
)


def _guessed(status: int, *more: str, is_fresh: bool) -> Case:
    made = first("Last-Modified: @-86400", NOW, *more, status=status)
    again = Ask(status=status, expect=Expect.STORED if is_fresh else Expect.ORIGIN)
    name = f"{status}-public" if more else str(status)
    kind = OPTIONAL if is_fresh else REQUIRED
    needs = () if status == 200 else ("guess-200",)
    return case(f"guess-{name}" if is_fresh else f"no-guess-{name}", kind, made, again, needs=needs)


GUESSES = (
    *(_guessed(status, is_fresh=True) for status in (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)),
    *(_guessed(status, is_fresh=False) for status in (201, 202, 403, 502, 503, 504, 599)),
    _guessed(599, "Cache-Control: public", is_fresh=True),
    *(
        case(f"guess-changed-{ago}-s-ago", QUESTION, first(f"Last-Modified: @-{ago}", NOW), Ask(expect=Expect.STORED))
        for ago in (10, 60, 600, 3600, 43200)
    ),
)
