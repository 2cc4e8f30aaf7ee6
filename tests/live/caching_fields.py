"""Cases about the fields of stored answers: what is kept, what is not, and what the cache adds."""

from __future__ import annotations

from tests.live.caching_case import (
    LATER,
    LONG,
    NOW,
    OPTIONAL,
    QUESTION,
    REQUIRED,
    Ask,
    Case,
    Expect,
    Kind,
    case,
    first,
    reused,
)

# What a stored answer keeps, with the value that it has first and the one that a 304 brings.
KEPT = {
    "Test-Header": ("one", "two"),
    "X-Test-Header": ("one", "two"),
    "Content-Foo": ("one", "two"),
    "X-Content-Foo": ("one", "two"),
    "Content-Encoding": ("coding-one", "coding-two"),
    "Content-Location": ("/foo", "/bar"),
    "Content-MD5": ("rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
    "Content-Range": ("range-one", "range-two"),
    "Content-Security-Policy": ("default-src 'self'", "default-src 'none'"),
    "Content-Type": ("text/plain", "text/plain;charset=utf-8"),
    "Clear-Site-Data": ('"cache"', '"cookies"'),
    "ETag": ('"one"', '"two"'),
    "Expires": ("Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
    "Public-Key-Pins": ("one", "two"),
    "Set-Cookie": ("a=b", "a=c"),
    "Set-Cookie2": ("a=b", "a=c"),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": ("1", "1; mode=block"),
}
_OF_CONNECTION = (
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Upgrade",
)


def _kept(name: str, value: str) -> Case:
    line = f"{name}: {value}"
    again = Ask(expect=Expect.STORED, unless_placed=True, got=(line,))
    return case(f"keeps-{name}", REQUIRED, first(NOW, line, LONG), again, needs="max-age-is-fresh")


def _dropped(name: str) -> Case:
    value = f"{name.lower()}-of-one-connection"
    again = Ask(expect=Expect.STORED, unless_placed=True, lacks=(f"{name}: {value}",))
    return case(f"drops-{name}", REQUIRED, first(NOW, f"{name}: {value}", LONG), again, needs="max-age-is-fresh")


STORED_FIELDS = (
    *(_kept(name, values[1]) for name, values in KEPT.items()),
    case(
        "keeps-Cache-Control",
        REQUIRED,
        first(NOW, LONG),
        Ask(expect=Expect.STORED, unless_placed=True, got=(LONG,)),
        needs="max-age-is-fresh",
    ),
    case(
        "keeps-Content-Length",
        REQUIRED,
        first(NOW, LONG, body="0123456789"),
        Ask(expect=Expect.STORED, unless_placed=True, got=("Content-Length: 10",), text="0123456789"),
        needs="max-age-is-fresh",
    ),
    *(_dropped(name) for name in _OF_CONNECTION),
    case(
        "keeps-a-body-in-chunks",
        REQUIRED,
        first(NOW, LONG, chunked=True, body="in chunks"),
        Ask(expect=Expect.STORED, text="in chunks"),
        needs="max-age-is-fresh",
    ),
    case(
        "drops-what-Connection-names",
        REQUIRED,
        first(LONG, NOW, "Connection: a, b", "a: 1", "b: 2", "c: 3"),
        Ask(expect=Expect.STORED, unless_placed=True, got=("c: 3",), lacks=("a", "b")),
        needs="max-age-is-fresh",
    ),
)

_LINK = "Link: </styles.css>; rel=preload; as=style"
_HINTS = ((103, (_LINK, "X-Hint: yes")),)
INTERIM = (
    case(
        "102-gets-through",
        OPTIONAL,
        Ask(answer=(LONG, NOW), interim=((102, ()),), early=(102,)),
        Ask(expect=Expect.STORED),
    ),
    case(
        "103-gets-through",
        OPTIONAL,
        Ask(answer=(LONG, NOW), interim=_HINTS, early=(103,)),
        Ask(expect=Expect.STORED),
    ),
    case(
        "103-is-not-stored",
        REQUIRED,
        Ask(answer=(LONG, NOW), interim=_HINTS, early=(103,)),
        Ask(expect=Expect.STORED, early=()),
    ),
    case(
        "103-leaves-no-fields",
        OPTIONAL,
        Ask(answer=(LONG, NOW), interim=_HINTS, early=(103,), lacks=("X-Hint",)),
        Ask(expect=Expect.STORED, lacks=("X-Hint",)),
    ),
)


def _aged(id: str, *answer: str, age: int, kind: Kind = REQUIRED, delay: float = 0.0, pause: float = LATER) -> Case:
    made = first(*answer, delay=delay, pause=pause)
    return case(id, kind, made, Ask(expect=Expect.STORED, age=age), needs="max-age-is-fresh")


def _dated(id: str, kind: Kind, name: str, *answer: str) -> Case:
    made = first(*answer, pause=LATER)
    return case(id, kind, made, Ask(expect=Expect.STORED, kept=(name,)), needs="max-age-is-fresh")


_MONTH = "Expires: @2592000"
OTHER = (
    _aged("age-is-sent", LONG, NOW, age=2),
    _aged("age-goes-on-with-max-age", LONG, NOW, "Age: 30", age=32),
    _aged("age-goes-on-with-expires", _MONTH, NOW, "Age: 30", age=32),
    _aged("age-counts-the-way", LONG, kind=OPTIONAL, age=1, delay=1.5, pause=0.0),
    case("no-age-from-the-origin", QUESTION, Ask(answer=(LONG, NOW), lacks=("Age",))),
    _dated("date-stays", REQUIRED, "Date", LONG, NOW),
    _dated("date-stays-with-expires", REQUIRED, "Date", _MONTH, NOW),
    _dated("expires-stays", QUESTION, "Expires", _MONTH, NOW),
    case(
        "query-other",
        REQUIRED,
        first(LONG, NOW, suffix="?test=1"),
        Ask(suffix="?test=2", expect=Expect.ORIGIN),
        needs="max-age-is-fresh",
    ),
    case(
        "query-same",
        OPTIONAL,
        first(LONG, NOW, suffix="?test=1"),
        Ask(suffix="?test=1", expect=Expect.STORED),
        needs="max-age-is-fresh",
    ),
    reused("answer-with-Set-Cookie", OPTIONAL, LONG, NOW, "Set-Cookie: a=b", needs="max-age-is-fresh"),
    case(
        "request-with-Cookie",
        OPTIONAL,
        first(LONG, NOW),
        Ask(sends=("Cookie: a=b",), expect=Expect.STORED),
        needs="max-age-is-fresh",
    ),
    case(
        "post-answers-a-get",
        OPTIONAL,
        first(_MONTH, NOW, "Content-Location: {path}", method="POST", content="12345"),
        Ask(expect=Expect.STORED),
    ),
    reused("attachment-is-fresh", QUESTION, LONG, NOW, "Content-Disposition: attachment; filename=a.txt"),
    reused("pragma-in-an-answer", QUESTION, LONG, "Pragma: no-cache"),
)
