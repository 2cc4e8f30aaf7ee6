"""Cases about which stored answer fits a request: Vary, conditions and ranges."""

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
    Lines,
    case,
    first,
)

_BASE = ("Cache-Control: max-age=5000", "Last-Modified: @-3000", NOW)
_VARY = "vary-same"


def _vary(id: str, kind: Kind, vary: str, then: Lines, now: Lines, *more: str, is_same: bool = False) -> Case:
    lines = tuple(f"Vary: {one}" for one in vary.split("\n"))
    again = Ask(sends=now, expect=Expect.STORED if is_same else Expect.ORIGIN)
    needs = "max-age-is-fresh" if id == _VARY else _VARY
    return case(id, kind, first(*_BASE, *lines, *more, sends=then), again, needs=needs)


_FOO, _BAR, _BAZ = "Foo: 1", "Bar: abc", "Baz: 789"
_TWO, _THREE, _LANGUAGE = "Foo, Bar", "Foo, Bar, Baz", "Accept-Language"
_EN_DE = ("Accept-Language: en, de",)
VARY = (
    _vary(_VARY, OPTIONAL, "Foo", (_FOO,), (_FOO,), is_same=True),
    _vary("vary-other", REQUIRED, "Foo", (_FOO,), ("Foo: 2",)),
    _vary("vary-missing-then", REQUIRED, "Foo", (), (_FOO,)),
    _vary("vary-missing-now", REQUIRED, "Foo", (_FOO,), ()),
    _vary("vary-2-same", OPTIONAL, _TWO, (_FOO, _BAR), (_FOO, _BAR), is_same=True),
    _vary("vary-2-other", REQUIRED, _TWO, (_FOO, _BAR), ("Foo: 2", _BAR)),
    _vary("vary-2-missing-now", REQUIRED, _TWO, (_FOO, _BAR), ()),
    _vary("vary-3-same", OPTIONAL, _THREE, (_FOO, _BAR, _BAZ), (_FOO, _BAR, _BAZ), is_same=True),
    _vary("vary-3-other", REQUIRED, _THREE, (_FOO, _BAR, _BAZ), ("Foo: 2", _BAR, _BAZ)),
    _vary("vary-3-other-in-another-order", REQUIRED, _THREE, (_FOO, _BAR, _BAZ), (_FOO, _BAZ, "Bar: abcde")),
    _vary("vary-3-missing-both-times", OPTIONAL, _THREE, (_FOO, _BAZ), (_FOO, _BAZ), is_same=True),
    _vary("vary-not-by-other-fields", OPTIONAL, "Foo", (_FOO, "Other: 2"), (_FOO, "Other: 3"), is_same=True),
    _vary("vary-lines-are-one-list", OPTIONAL, "Foo", ("Foo: 1, 2",), ("Foo: 1", "Foo: 2"), is_same=True),
    _vary("vary-blanks-do-not-matter", OPTIONAL, "Foo", ("Foo: 1,2",), ("Foo:  1, 2 ",), is_same=True),
    _vary("vary-language-order", OPTIONAL, _LANGUAGE, _EN_DE, ("Accept-Language: de, en",), is_same=True),
    _vary("vary-language-case", OPTIONAL, _LANGUAGE, _EN_DE, ("Accept-Language: eN, De",), is_same=True),
    _vary("vary-language-blanks", OPTIONAL, _LANGUAGE, _EN_DE, ("Accept-Language:  en ,   de",), is_same=True),
    _vary(
        "vary-language-chosen",
        OPTIONAL,
        _LANGUAGE,
        _EN_DE,
        ("Accept-Language: fr;q=0.5, de;q=1.0",),
        "Content-Language: de",
        is_same=True,
    ),
    case(
        "vary-variants-side-by-side",
        OPTIONAL,
        first(*_BASE, "Vary: Foo", sends=(_FOO,), body="for 1"),
        first(*_BASE, "Vary: Foo", sends=("Foo: 2",), body="for 2", expect=Expect.ORIGIN),
        Ask(sends=(_FOO,), expect=Expect.STORED, text="for 1"),
        needs=_VARY,
    ),
    *(
        _vary(f"vary-{name}", REQUIRED, value, (_FOO, _BAZ), (_FOO, _BAZ))
        for name, value in {
            "star": "*",
            "star-on-a-line": "\n*",
            "star-twice": "*, *",
            "star-on-two-lines": "*\n*",
            "star-behind-nothing": ", *",
            "star-in-front": "*, Foo",
            "star-behind": "Foo, *",
        }.items()
    ),
)

_TAG = 'ETag: "abcdef"'
_ASKS = "if-none-match-is-answered"


def _not_modified(id: str, kind: Kind, tag: str, asked: str, got: Lines = ()) -> Case:
    again = Ask(sends=(f"If-None-Match: {asked}",), expect=Expect.STORED, wanted=304, got=got)
    needs = "max-age-is-fresh" if id == _ASKS else _ASKS
    return case(id, kind, first(LONG, NOW, f"ETag: {tag}"), again, needs=needs)


def _since(id: str, ago: int, lifetime: int, expect: Expect, pause: float = 0.0) -> Case:
    made = first(f"Cache-Control: max-age={lifetime}", "Last-Modified: @-3000", NOW, pause=pause)
    return case(id, OPTIONAL, made, Ask(sends=(f"If-Modified-Since: @-{ago}",), expect=expect, wanted=304))


def _confirmed(id: str, kind: Kind, tag: str, asked: str = "") -> Case:
    again = Ask(expect=Expect.BY_ETAG, seen=(f"If-None-Match: {asked or tag}",))
    return case(id, kind, first(SHORT, f"ETag: {tag}", pause=LATER), again, needs="max-age-runs-out")


CONDITIONS = (
    _not_modified(_ASKS, OPTIONAL, '"abcdef"', '"abcdef"'),
    _not_modified("not-modified-has-the-etag", REQUIRED, '"abcdef"', '"abcdef"', got=(_TAG,)),
    _not_modified("if-none-match-weak", OPTIONAL, 'W/"abcdef"', 'W/"abcdef"'),
    _not_modified("if-none-match-first-of-list", OPTIONAL, '"abcdef"', '"abcdef", "1234", "5678"'),
    _not_modified("if-none-match-within-list", OPTIONAL, '"abcdef"', '"1234", "abcdef", "5678"'),
    _not_modified("if-none-match-last-of-list", OPTIONAL, '"abcdef"', '"1234", "5678", "abcdef"'),
    _not_modified("if-none-match-obs-text", QUESTION, '"abcdef\xfc"', '"abcdef\xfc"', got=('ETag: "abcdef\xfc"',)),
    _not_modified("if-none-match-unquoted", QUESTION, '"abcdef"', "abcdef"),
    _not_modified("if-none-match-unquoted-both", QUESTION, "abcdef", "abcdef"),
    _not_modified("if-none-match-weak-small-letter", QUESTION, 'w/"abcdef"', 'w/"abcdef"'),
    case(
        "if-none-match-before-if-modified-since",
        REQUIRED,
        first(LONG, NOW, "Last-Modified: @-5000", _TAG),
        Ask(
            sends=('If-None-Match: "abcdef"', "If-Modified-Since: @-6000"),
            expect=Expect.STORED,
            wanted=304,
        ),
        needs=_ASKS,
    ),
    case(
        "asks-with-the-fields-in-vary",
        REQUIRED,
        first("Expires: @1", _TAG, NOW, "Vary: Abc", sends=("Abc: 123",), pause=LATER),
        Ask(
            sends=("Abc: 123",), expect=Expect.BY_ETAG, unless_placed=True, seen=("Abc: 123", 'If-None-Match: "abcdef"')
        ),
    ),
    _confirmed("asks-by-strong-etag", OPTIONAL, '"abcdef"'),
    _confirmed("asks-by-weak-etag", OPTIONAL, 'W/"abcdef"'),
    _confirmed("asks-by-unquoted-etag-quoted", QUESTION, "abcdef", '"abcdef"'),
    case(
        "if-none-match-is-passed-on",
        QUESTION,
        Ask(sends=('If-None-Match: "abcdef"',), seen=('If-None-Match: "abcdef"',)),
    ),
    case(
        "if-none-match-is-passed-on-where-nothing-is-stored",
        QUESTION,
        first("Cache-Control: no-store", _TAG),
        Ask(sends=('If-None-Match: "abcdef"',), seen=('If-None-Match: "abcdef"',)),
    ),
    _since("if-modified-since-same", 3000, 100000, Expect.STORED),
    _since("if-modified-since-later", 2000, 100000, Expect.STORED),
    _since("if-modified-since-same-when-stale", 3000, 1, Expect.BY_DATE, LATER),
)

_TEN = "01234567890"


def _part(id: str, range: str, text: str, kind: Kind = OPTIONAL, got: Lines = ()) -> Case:
    made = first(LONG, "A: 1", body=_TEN)
    again = Ask(sends=(f"Range: {range}",), expect=Expect.STORED, wanted=206, text=text, got=got)
    return case(id, kind, made, again, needs="part-of-whole" if kind is REQUIRED else "max-age-is-fresh")


def _part_of_part(id: str, range: str, text: str) -> Case:
    made = first(LONG, "Content-Range: bytes 5-9/10", status=206, body="56789", sends=("Range: bytes=-5",))
    again = Ask(sends=(f"Range: {range}",), expect=Expect.STORED, wanted=206, text=text)
    return case(id, OPTIONAL, made, again, needs="max-age-is-fresh")


PARTS = (
    _part("part-of-whole", "bytes=0-1", "01"),
    _part("part-of-whole-to-its-end", "bytes=1-", "1234567890"),
    _part("part-of-whole-its-last", "bytes=-1", "0"),
    _part("part-has-the-stored-fields", "bytes=0-1", "01", REQUIRED, got=("A: 1",)),
    _part("part-says-which", "bytes=2-4", "234", REQUIRED, got=("Content-Range: bytes 2-4/11",)),
    _part_of_part("part-kept", "bytes=-5", "56789"),
    _part_of_part("part-of-part", "bytes=6-8", "678"),
    _part_of_part("part-of-part-to-its-end", "bytes=6-", "6789"),
    _part_of_part("part-of-part-its-last", "bytes=-1", "9"),
)
