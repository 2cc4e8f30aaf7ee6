"""What each part of a condition means."""

from __future__ import annotations

import re

import pytest

from lbproxy.addresses import NetworkSet
from lbproxy.http.messages import RequestHead
from lbproxy.model_http import Condition, NamedMatch, ValueKind, ValueMatch
from lbproxy.routing.conditions import compile_condition, goes_by_client
from lbproxy.routing.named_values import parameters
from tests.routing.routing_rig import CLIENT, http_routes, pool_of, reference_holds, request, to


def holds(condition: Condition, head: RequestHead, client_ip: str = CLIENT) -> bool:
    """As a route of its own, as a part of another condition, and as its docstring says: they must agree."""
    found = pool_of(http_routes(to("red", condition)), head, client_ip) == "red"
    test = compile_condition(Condition(every=(condition,)))
    assert (test is None or test(head, client_ip)) is found
    assert pool_of(http_routes(to("red", Condition(none=(condition,)))), head, client_ip) == (
        "main" if found else "red"
    )
    assert reference_holds(condition, head, client_ip) is found
    return found


def value(name: str, kind: ValueKind, text: str = "") -> tuple[NamedMatch]:
    return (NamedMatch(name, ValueMatch(kind, text)),)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("a.example", b"a.example", True),
        ("a.example", b"b.a.example", False),
        ("a.example", b"a.exampl", False),
        ("*.example", b"a.example", True),
        ("*.example", b"b.a.example", True),
        ("*.example", b"example", False),
        ("*.example", b"anexample", False),
        ("*.example", b".example", False),
        ("*.a.example", b"b.a.example", True),
        ("*.a.example", b"c.b.a.example", True),
        ("*.a.example", b"a.example", False),
        ("*.a.example", b"b.example", False),
        ("*.a.example", b"ba.example", False),
        ("192.0.2.7", b"192.0.2.7", True),
        ("[2001:db8::1]", b"[2001:db8::1]", True),
    ],
)
def test_a_host_is_that_name_or_lies_below_it(pattern: str, host: bytes, expected: bool) -> None:
    assert holds(Condition(hosts=(pattern,)), request(host=host)) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", b"/", True),
        ("/", b"/anything/below", True),
        ("/a/", b"/a/", True),
        ("/a/", b"/a/b", True),
        ("/a/", b"/a/b/c/d", True),
        ("/a/", b"/a", False),
        ("/a/", b"/ab/", False),
        ("/a/", b"/A/", False),
        ("/a/", b"/b/a/", False),
        ("/a", b"/a", True),
        ("/a", b"/a/", False),
        ("/a", b"/a/b", False),
        ("/a/b/", b"/a/b/c", True),
        ("/a/b/", b"/a/c/b/", False),
        ("/", b"*", False),
        ("*", b"*", False),
    ],
)
def test_a_path_is_that_path_or_all_below_it(pattern: str, path: bytes, expected: bool) -> None:
    assert holds(Condition(paths=(pattern,)), request(path)) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/[0-9]+", b"/17", True),
        ("/[0-9]+", b"/17/", False),
        ("/[0-9]+", b"/a/17", False),
        ("/a|/b", b"/b", True),
        ("/a|/b", b"/bc", False),
        (".*", b"/anything", True),
        (".*", b"*", False),
    ],
)
def test_an_expression_matches_the_whole_path(pattern: str, path: bytes, expected: bool) -> None:
    assert holds(Condition(path_regexes=(pattern,)), request(path)) is expected


def test_the_server_as_a_whole_is_served_by_routes_that_ask_for_no_path() -> None:
    head = request(b"*", method=b"OPTIONS")
    assert holds(Condition(), head)
    assert holds(Condition(hosts=("a.example",), methods=("OPTIONS",)), head)
    assert not holds(Condition(every=(Condition(paths=("/",)),)), head)


@pytest.mark.parametrize(("method", "expected"), [(b"GET", True), (b"PUT", True), (b"get", False), (b"POST", False)])
def test_methods_match_by_case(method: bytes, expected: bool) -> None:
    assert holds(Condition(methods=("GET", "PUT")), request(method=method)) is expected


VALUES: list[tuple[ValueKind, str, list[bytes], bool]] = [
    ("present", "", [], False),
    ("present", "", [b""], True),
    ("absent", "", [], True),
    ("absent", "", [b""], False),
    ("absent", "", [b"x", b"y"], False),
    ("exact", "x", [], False),
    ("exact", "x", [b"x"], True),
    ("exact", "x", [b"X"], False),
    ("exact", "x", [b"xy"], False),
    ("exact", "x", [b"y", b"x"], True),
    ("exact", "", [b""], True),
    ("exact", "", [], False),
    ("prefix", "xy", [b"xyz"], True),
    ("prefix", "xy", [b"xy"], True),
    ("prefix", "xy", [b"x", b"axy"], False),
    ("prefix", "xy", [b"x", b"xyz"], True),
    ("regex", "[0-9]{2}", [b"12"], True),
    ("regex", "[0-9]{2}", [b"123"], False),
    ("regex", "[0-9]{2}", [b"x", b"12"], True),
    ("regex", "[0-9]{2}", [], False),
]


@pytest.mark.parametrize(("kind", "text", "found", "expected"), VALUES)
def test_one_matching_value_of_several_is_enough(
    kind: ValueKind, text: str, found: list[bytes], expected: bool
) -> None:
    others = [(b"x-other", b"x"), (b"cookie", b"other=x")]
    fields = request(fields=[*others, *((b"x-thing", each) for each in found)])
    assert holds(Condition(headers=value("x-thing", kind, text)), fields) is expected
    pairs = [b"thing=" + each for each in found]
    assert holds(Condition(queries=value("thing", kind, text)), request(query=b"&".join([b"o=x", *pairs]))) is expected
    together = request(fields=[(b"cookie", b"; ".join([b"o=x", *pairs]))])
    assert holds(Condition(cookies=value("thing", kind, text)), together) is expected
    apart = request(fields=[*others, *((b"cookie", pair) for pair in pairs)])
    assert holds(Condition(cookies=value("thing", kind, text)), apart) is expected


def test_all_headers_queries_and_cookies_that_are_named_must_match() -> None:
    condition = Condition(headers=value("x", "present") + value("y", "present"))
    assert holds(condition, request(fields=[(b"x", b""), (b"y", b"")]))
    assert not holds(condition, request(fields=[(b"x", b"")]))


def test_the_host_field_is_what_is_sent_on_as_host() -> None:
    head = request(host=b"a.example", authority=b"a.example:8080")
    assert holds(Condition(headers=value("host", "exact", "a.example:8080")), head)
    assert not holds(Condition(headers=value("host", "exact", "a.example")), head)
    assert holds(Condition(hosts=("a.example",)), head)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"a=1", {b"a": [b"1"]}),
        (b"a=1&b=2&a=3", {b"a": [b"1", b"3"], b"b": [b"2"]}),
        (b"a", {b"a": [b""]}),
        (b"a=", {b"a": [b""]}),
        (b"=1", {b"": [b"1"]}),
        (b"a=b=c", {b"a": [b"b=c"]}),
        (b"&&a=1&", {b"a": [b"1"]}),
        (b"a+b=c+d", {b"a b": [b"c d"]}),
        (b"a=%2B%20%26%3d", {b"a": [b"+ &="]}),
        (b"%61=1", {b"a": [b"1"]}),
        (b"a=%", {b"a": [b"%"]}),
        (b"a=%zz%4", {b"a": [b"%zz%4"]}),
        (b"a=%+1%0x%-1", {b"a": [b"% 1%0x%-1"]}),
        (b"a=%2541", {b"a": [b"%41"]}),
        (b"a=%c3%bc%ff%00", {b"a": [b"\xc3\xbc\xff\x00"]}),
        (b"a;b=1", {b"a;b": [b"1"]}),
    ],
)
def test_a_query_is_read_as_forms_write_it(query: bytes, expected: dict[bytes, list[bytes]]) -> None:
    assert parameters(query) == expected


@pytest.mark.parametrize("query", [None, b""])
def test_without_a_query_there_are_no_parameters(query: bytes | None) -> None:
    assert holds(Condition(queries=value("", "absent")), request(query=query))


def test_a_line_break_does_not_get_past_an_expression() -> None:
    condition = Condition(queries=value("to", "regex", "evil.*"))
    assert holds(condition, request(query=b"to=evil%0a%0d"))
    assert not holds(condition, request(query=b"to=%0aevil"))
    assert not holds(Condition(queries=value("to", "regex", "evil")), request(query=b"to=evil%0a"))


def test_a_client_lies_in_one_of_the_networks() -> None:
    condition = Condition(clients=NetworkSet(["10.0.0.0/8", "2001:db8::/32"]))
    assert holds(condition, request(), "10.1.2.3")
    assert holds(condition, request(), "2001:db8::7")
    assert not holds(condition, request(), "192.0.2.1")
    assert not holds(condition, request(), "")
    assert not holds(Condition(clients=NetworkSet([])), request(), "10.1.2.3")


A, B = Condition(methods=("GET",)), Condition(hosts=("a.example",))
YES, NO = Condition(), Condition(methods=("NEVER",))


@pytest.mark.parametrize(
    ("condition", "get_a", "get_b", "put_a"),
    [
        (Condition(every=(A, B)), True, False, False),
        (Condition(some=(A, B)), True, True, True),
        (Condition(some=(A, YES)), True, True, True),
        (Condition(some=(NO, NO)), False, False, False),
        (Condition(none=(A, B)), False, False, False),
        (Condition(none=(A,)), False, False, True),
        (Condition(none=(YES,)), False, False, False),
        (Condition(none=(NO, B)), False, True, False),
        (Condition(every=(YES,), some=(YES,), none=(NO,)), True, True, True),
        (Condition(methods=("GET", "PUT"), none=(Condition(every=(A, B)),)), False, True, True),
        (Condition(some=(Condition(none=(A,)), Condition(none=(B,)))), False, True, True),
        (Condition(hosts=("a.example",), methods=("GET",), paths=("/",), path_regexes=("/.*",)), True, False, False),
        (Condition(paths=("/x",), path_regexes=("/.*",)), False, False, False),
    ],
)
def test_conditions_are_nested(condition: Condition, get_a: bool, get_b: bool, put_a: bool) -> None:
    assert holds(condition, request()) is get_a
    assert holds(condition, request(host=b"b.example")) is get_b
    assert holds(condition, request(method=b"PUT")) is put_a


def test_what_always_holds_is_known_to() -> None:
    assert compile_condition(Condition()) is None
    assert compile_condition(Condition(every=(YES, Condition(every=(YES,))), some=(A, YES))) is None
    assert compile_condition(A) is not None


def test_what_goes_by_the_client_is_known_to_however_deep_it_is() -> None:
    by_client = Condition(clients=NetworkSet(["10.0.0.0/8"]))
    assert goes_by_client(by_client)
    assert goes_by_client(Condition(every=(A, by_client)))
    assert goes_by_client(Condition(some=(A, Condition(none=(by_client,)))))
    assert not goes_by_client(Condition(every=(A, B), some=(YES,), none=(NO,)))


def test_a_bad_expression_is_refused_when_the_condition_is_made() -> None:
    with pytest.raises(re.error):
        compile_condition(Condition(none=(Condition(path_regexes=("(",)),)))
