"""The keys of stored answers: what is in them, what is not, and how a route changes that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.cache.keys import KeyMaker, host_of, key_of_url, url_of
from lbproxy.model_cache import KeySettings
from tests.cache.matching_heads import request

PLAIN = KeyMaker(KeySettings())

# Much of what separates, little of the rest.
QUERIES = st.lists(st.sampled_from([b"a", b"b", b"utm_x", b"=", b"&", b"%61", b"+", b";", b"?", b"1"])).map(b"".join)


def key(target: bytes, *lines: bytes, settings: KeySettings | None = None, host: bytes = b"a.example") -> bytes:
    return KeyMaker(settings or KeySettings())(request(target, *lines, host=host), b"http")


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"/", b"a.example", b"http://a.example/"),
        (b"/x?y=1", b"a.example", b"http://a.example/x?y=1"),
        (b"/x?", b"a.example", b"http://a.example/x?"),
        (b"/x??&", b"a.example", b"http://a.example/x??&"),
        # As everybody else sees it: normalised once.
        (b"/%7Ea/./b//c/../d%2f", b"A.Example.", b"http://a.example/~a/b/d%2F"),
        (b"/", b"a.example:80", b"http://a.example/"),
        (b"/", b"a.example:8080", b"http://a.example:8080/"),
        (b"/", b"[2001:DB8::1]:81", b"http://[2001:db8::1]:81/"),
        (b"http://b.example/x", b"b.example", b"http://b.example/x"),
    ],
)
def test_the_default_key_is_scheme_host_path_and_query_as_forwarded(
    target: bytes, host: bytes, expected: bytes
) -> None:
    assert key(target, host=host) == expected


def test_the_scheme_tells_keys_apart() -> None:
    assert PLAIN(request(b"/x"), b"https") == b"https://a.example/x"


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-Host: evil.example",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Scheme: https",
        b"X-Original-URL: /admin",
        b"X-Rewrite-URL: /admin",
        b"Forwarded: host=evil.example",
        b"Cookie: a=b",
        b"Range: bytes=0-1",
        b"Accept-Encoding: gzip",
    ],
)
def test_no_field_is_in_the_default_key(line: bytes) -> None:
    assert key(b"/x", line) == key(b"/x")


def test_the_path_keeps_its_slashes_where_the_route_does() -> None:
    head = request(b"//x///y?q")
    assert KeyMaker(KeySettings(), merge_slashes=False)(head, b"http") == b"http://a.example//x///y?q"
    assert PLAIN(head, b"http") == b"http://a.example/x/y?q"


@pytest.mark.parametrize(
    ("settings", "query", "expected"),
    [
        (KeySettings(ignore_query=("*",)), b"?a=1&b", b""),
        (KeySettings(ignore_query=("*",)), b"?a=1;b", b""),
        (KeySettings(only_query=()), b"?a=1;b", b""),
        (KeySettings(ignore_query=("utm_*", "ref")), b"?a=1&utm_source=x&ref=2&b", b"?a=1&b"),
        (KeySettings(ignore_query=("utm_*",)), b"?utm_source=x&utm_", b""),
        (KeySettings(ignore_query=("utm_*",)), b"?UTM_source=x", b"?UTM_source=x"),
        (KeySettings(ignore_query=("utm_*",)), b"", b""),
        (KeySettings(ignore_query=("utm_*",)), b"?", b"?"),
        (KeySettings(ignore_query=("a",)), b"?aa=1&a&a=&=a&b=a", b"?aa=1&=a&b=a"),
        # Names count as the backend reads them, and what is kept is kept as it was written.
        (KeySettings(ignore_query=("ref",)), b"?%72e%66=1&%61=%7e", b"?%61=%7e"),
        (KeySettings(ignore_query=("a b",)), b"?a+b=1&a%20b=2&a%2Bb=3", b"?a%2Bb=3"),
        (KeySettings(ignore_query=("%zz",)), b"?%zz=1&%7", b"?%7"),
        (KeySettings(only_query=("id", "p*")), b"?x=1&id=2&page=3&&ID=4", b"?id=2&page=3"),
        (KeySettings(only_query=("id",)), b"?x=1", b""),
        (KeySettings(only_query=("id*",), ignore_query=("idle",)), b"?id=1&idle=2&idx=3", b"?id=1&idx=3"),
        (KeySettings(sort_query=True), b"?b=2&a=1&%61=0&c&a=3", b"?a=1&%61=0&a=3&b=2&c"),
        (KeySettings(sort_query=True, ignore_query=("b",)), b"?c&b&a", b"?a&c"),
    ],
)
def test_a_route_may_edit_the_query_within_the_key(settings: KeySettings, query: bytes, expected: bytes) -> None:
    assert key(b"/x" + query, settings=settings) == b"http://a.example/x" + expected


@pytest.mark.parametrize("settings", [KeySettings(ignore_query=("utm",)), KeySettings(only_query=("id",))])
def test_what_some_backends_take_for_two_parameters_is_never_left_out(settings: KeySettings) -> None:
    assert key(b"/x?utm=1;id=evil&id=1", settings=settings) != key(b"/x?utm=1&id=1", settings=settings)


@given(QUERIES, st.randoms(use_true_random=False))
def test_sorted_parameters_make_one_key_in_any_order_of_their_names(query: bytes, chance: object) -> None:
    settings = KeySettings(sort_query=True)
    by_name: dict[bytes, list[bytes]] = {}
    for text in query.split(b"&"):
        by_name.setdefault(text.partition(b"=")[0].replace(b"%61", b"a").replace(b"+", b" "), []).append(text)
    groups = list(by_name.values())
    chance.shuffle(groups)  # type: ignore[attr-defined]  # hypothesis gives a random.Random, and types it so from 3.12
    shuffled = b"&".join(text for group in groups for text in group)
    assert key(b"/?" + query, settings=settings) == key(b"/?" + shuffled, settings=settings)


@given(QUERIES)
def test_edits_leave_out_whole_parameters_and_nothing_else(query: bytes) -> None:
    url = key(b"/?" + query, settings=KeySettings(ignore_query=("a*",)))
    kept = url.partition(b"?")[2].split(b"&") if b"?" in url else []
    rest = iter(query.split(b"&"))
    assert all(text in rest for text in kept)
    for text in query.split(b"&"):
        ignored = text.startswith((b"a", b"%61")) and b";" not in text
        assert (text in kept) is not ignored


def test_fields_and_cookies_that_a_route_names_are_in_the_key() -> None:
    settings = KeySettings(headers=("accept", "x-a"), cookies=("lang",))
    made = key(b"/x", b"X-A: 1", b"Cookie: a=b; lang=en", b"x-a: 2", b"Cookie: lang=de", settings=settings)
    assert made == b"http://a.example/x\naccept\nx-a: 1, 2\ncookie lang=en;de"
    assert url_of(made) == b"http://a.example/x"
    assert url_of(b"http://a.example/x") == b"http://a.example/x"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"X-A: ",), ()),
        ((b"X-A: b: 1",), (b"X-B: 1",)),
        ((b"Cookie: c=",), ()),
        ((b"X-A: cookie c=1",), (b"Cookie: c=1",)),
        ((b"Cookie: c=x-a",), (b"X-A: c",)),
    ],
)
def test_parts_of_a_key_are_not_mistaken_for_others(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    settings = KeySettings(headers=("x-a", "x-b"), cookies=("c",))
    assert key(b"/", *one, settings=settings) != key(b"/", *other, settings=settings)


def test_a_route_may_name_a_field_about_where_a_request_came_from() -> None:
    settings = KeySettings(headers=("x-forwarded-host",))
    assert key(b"/", b"X-Forwarded-Host: b", settings=settings) == b"http://a.example/\nx-forwarded-host: b"


def test_the_key_of_another_path_has_the_parts_of_the_same_client() -> None:
    maker = KeyMaker(KeySettings(headers=("x-a",), ignore_query=("b",)))
    head = request(b"/x", b"X-A: 1", host=b"a.example:81")
    assert maker.at(head, b"http", b"/y", b"b&c") == maker(request(b"/y?c", b"X-A: 1", host=b"a.example:81"), b"http")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example", b"http://a.example/"),
        ("HTTP://A.Example:80/x//y/../%7ez?q#".rstrip("#"), b"http://a.example/x/~z?q"),
        ("https://a.example:443/", b"https://a.example/"),
        ("https://a.example:80/", b"https://a.example:80/"),
        ("http://a.example?q", b"http://a.example/?q"),
        ("http://[::1]:81/x?", b"http://[::1]:81/x?"),
    ],
)
def test_a_url_that_someone_has_written_has_the_key_of_its_requests(url: str, expected: bytes) -> None:
    assert key_of_url(url) == expected


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("/x", "not a whole URL"),
        ("", "not a whole URL"),
        ("a.example/x", "not a whole URL"),
        ("ftp://a.example/", "not a whole URL"),
        ("http:///x", "cannot be asked for"),
        ("http://u:p@a.example/", "names a user"),
        ("http://a.example/x#y", "fragment"),
        ("http://a.example#y", "fragment"),
        ("http://a.example/ü", "ASCII"),
        ("http://a.example/x y", "control character"),
        ("http://a.example/x\ny", "control character"),
        ("http://a.example/%zz", "two hexadecimal digits"),
        ("http://a.example/../x", "above the root"),
        ("http://a b/", "cannot be asked for"),
    ],
)
def test_what_is_no_url_is_refused_with_a_sentence(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        key_of_url(url)


def test_the_key_of_a_url_can_be_had_as_the_route_makes_it() -> None:
    maker = KeyMaker(KeySettings(ignore_query=("utm_*",)), merge_slashes=False)
    assert maker.key_of_url("http://a.example//x?utm_a=1&b") == b"http://a.example//x?b"


@pytest.mark.parametrize(
    ("made", "host"),
    [
        (b"http://a.example/x", b"a.example"),
        (b"http://a.example:81/x:82", b"a.example"),
        (b"http://[2001:db8::1]/", b"[2001:db8::1]"),
        (b"http://[2001:db8::1]:81/", b"[2001:db8::1]"),
        (b"http:///x", b""),
    ],
)
def test_the_host_of_a_key_has_no_port(made: bytes, host: bytes) -> None:
    assert host_of(made) == host
