"""Which regular expressions may be used: those that are accepted are quick on any text, those that are not are told
why."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.config.regex_guard import refusal

# T19: below 10 ms for each match, on a path of 8 KiB.
MOST_SECONDS = 0.010
LENGTH = 8192

ACCEPTED = [
    "/",
    "/static/.*",
    r"/.*\.php",
    r"/a/.*\.(jpe?g|png|gif|webp|svg)",
    "/[^/]+/edit/[0-9]+",
    "/users/[0-9]{1,20}(/.*)?",
    "/(en|english|de)/.*",
    "(?:/[a-z]+)+",
    "(?:/[a-z]+)*/?",
    r"/api/v[0-9]+(\.[0-9]+)*/.*",
    "(?i)/A[b-c]*D",
    r"/\w+@\w+",
    r"/(?:.*/)?index\.html",
    "(?:(?:[a-z]+,)+;)*",
    "a{100}.*",
    "[^a]{40}b?",
    "(?:a|b)*c",
    "(?:/x[0-9]{3})*/y",
    "a?a?a?a?.*b",
    "^/a$",
    ".*?a{30}b",
    ".*" + "a" * 60 + "b",
    "(?:.a)*(?:.a){14}c",
    "(?:(?:aa|b)c?)*(?:aa){14}!",
    r"/.*\.(js|css|png|jpe?g|gif|svg|webp|woff2?|ico|map)",
    r"(?:/[a-z0-9-]+){1,8}\.html",
    "a{0,10}(?:a(?:b|c)?)*!",
    "a++b",
    "(?>[a-z]+)/",
    "(?s:.*)x",
    "",
]
MANY = "can match one text in very many ways, which takes for ever; what it repeats must not be able to begin what is "
BEHIND = 'repeats again; say more exactly where the first one ends, as in "[^/]*/"'
REFUSED = [
    ("(a+)+$", f'"(a+)+" {MANY}within or behind it'),
    ("(a|a)*b", f'"(a(?:|))*" {MANY}within or behind it'),
    ("(.*)*", f'"(.*)*" {MANY}within or behind it'),
    (".*a.*b.*c", f'behind ".*", which can end anywhere, ".*" {BEHIND}'),
    ("(a*)*b", f'"(a*)*" {MANY}within or behind it'),
    ("(a|aa)+", f'"(a(?:|a))+" {MANY}within or behind it'),
    ("(?:a|b|ab)*c", f'"(?:a|b|ab)*" {MANY}within or behind it'),
    ("(x+x+)+y", f'"(x+x+)+" {MANY}within or behind it'),
    ("(?:a?){40}", f'"(?:a?){{40}}" {MANY}within or behind it'),
    ("(?:a?b?){1,3}", f'"(?:a?b?){{1,3}}" {MANY}within or behind it'),
    ("(.*a){20}", f'"(.*a){{20}}" {MANY}within or behind it'),
    ("(?:a*b?c){2,3}cx", f'"(?:a*b?c){{2,3}}" {MANY}within or behind it'),
    (r"([a-z]+\d?)*;", f'"([a-z]+\\\\d?)*" {MANY}within or behind it'),
    ("a*?b*c*?a", f'behind "a*?", which can end anywhere, "b*" {BEHIND}'),
    (r"\w+\d+", f'behind "\\\\w+", which can end anywhere, "\\\\d+" {BEHIND}'),
    (".{0,40}a[^b]{33}", f'behind ".{{0,40}}", which can end anywhere, "[^b]{{33}}" {BEHIND}'),
    ("a{1,30}a{1,30}a", '"a{1,30}" leaves more than 64 ways to match one text'),
    ("(a{1,30}){1,30}", '"(a{1,30}){1,30}" leaves more than 64 ways to match one text'),
    ("(?:a|aa)" * 8, '"(?:|a)" leaves more than 64 ways to match one text'),
    (".*(?:a{32}){4}", "for each byte of a text there would be more than 64 steps to do; make it simpler"),
    (".*" + "a" * 70, "for each byte of a text there would be more than 64 steps to do; make it simpler"),
    ("(?=a)b", '"(?=a)" is a look-around, which cannot be matched in linear time'),
    ("(?<!a)b", '"(?<!a)" is a look-around, which cannot be matched in linear time'),
    ("a(?!)", '"(?!)" is a look-around, which cannot be matched in linear time'),
    (r"(a)\1", '"\\\\1" is a reference to a group, which cannot be matched in linear time'),
    ("(?P<x>a)(?P=x)", '"\\\\1" is a reference to a group, which cannot be matched in linear time'),
    ("(a)?(?(1)b|c)", '"(?(1)...)" is a condition on a group, which cannot be matched in linear time'),
    ("(", "it is not a regular expression: missing ), unterminated subpattern at position 0"),
    ("a**", "it is not a regular expression: multiple repeat at position 2"),
    ("[[a]]", "it is not a regular expression: Possible nested set at position 1"),
    ("a{99999999999}", "it is not a regular expression: the repetition number is too large"),
    ("ü", "it may hold printable ASCII characters only, like what it is compared with"),
    ("a\nb", "it may hold printable ASCII characters only, like what it is compared with"),
    ("(?L)a", "its flag L depends on the machine; leave it out"),
    ("a" * 513, "it has 513 characters, at most 512 are allowed"),
]  # fmt: skip


def seconds(pattern: re.Pattern[bytes], text: bytes) -> float:
    """The least that one match of three took: what else the machine did is not counted."""
    times = []
    for _ in range(3):
        start = time.thread_time()
        pattern.fullmatch(text)
        times.append(time.thread_time() - start)
        if times[-1] < MOST_SECONDS:
            break
    return min(times)


def unkind(units: list[str]) -> list[bytes]:
    """Texts of full length that repeat each unit, and end in what may fit or not."""
    return [((unit * LENGTH)[: LENGTH - 1] + end).encode() for unit in units for end in ("!", "a", "/")]


@pytest.mark.parametrize("pattern", ACCEPTED)
def test_what_is_accepted_is_quick(pattern: str) -> None:
    assert refusal(pattern) is None
    compiled = re.compile(pattern.encode(), re.DOTALL)
    for text in unkind(
        ["a", "/", "ab", "/a", "aab", "a/b.", "/x123", "0", ".php", "aac", "a,", "/index.html", "b" * 9]
    ):
        assert seconds(compiled, text) < MOST_SECONDS


@pytest.mark.parametrize(("pattern", "reason"), REFUSED)
def test_what_is_refused_is_told_why(pattern: str, reason: str) -> None:
    assert refusal(pattern) == reason


def test_what_takes_for_ever_is_what_is_meant() -> None:
    # Two of those above, to see that the measure measures: some more text takes much more time.
    for pattern, short, long in ((b"(a+)+$", b"a" * 14, b"a" * 20), (b".*a.*b.*c", b"ab" * 100, b"ab" * 400)):
        compiled = re.compile(pattern)
        assert seconds(compiled, long + b"!") > 8 * seconds(compiled, short + b"!")


PIECES = st.sampled_from(
    ["a", "b", "c", "/", ".", "[ab]", "[^/]", "[^a]", r"\w", r"\d", "[a-c]", "1", "ab", "abc", "(?i:A)"]
)
COUNTS = st.sampled_from(
    ["*", "+", "?", "{2,5}", "{0,3}", "{1,40}", "{3}", "*?", "+?", "??", "{33}", "*+", "{0,32}", "{0}"]
)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, COUNTS).map(lambda both: f"(?:{both[0]}){both[1]}"),
    )


PATTERNS = st.recursive(PIECES, larger, max_leaves=8)
UNITS = st.lists(st.text("abc/1.", min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=500, deadline=None)
@given(PATTERNS, UNITS)
def test_any_pattern_is_refused_or_quick(pattern: str, units: list[str]) -> None:
    reason = refusal(pattern)
    if reason is not None:
        assert reason.isprintable()
        assert len(reason) < 1000
        return
    compiled = re.compile(pattern.encode(), re.DOTALL)
    for text in unkind(units):
        assert seconds(compiled, text) < MOST_SECONDS


@settings(max_examples=300, deadline=None)
@given(st.text("ab/.*+?|()[]{}^$\\1,-:=!<>Pwx", max_size=30))
def test_any_text_is_judged(pattern: str) -> None:
    reason = refusal(pattern)
    assert reason is None or reason.isprintable()
