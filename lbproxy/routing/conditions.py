"""Whether a request is what a condition wants: conditions as functions that are made once and asked often.

Owns the meaning of every part of a condition. Refuses to know the order of routes, and look-ups that spare asking
(see `index`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lbproxy.addresses import NetworkSet
from lbproxy.http.messages import RequestHead
from lbproxy.model_http import Condition, NamedMatch, ValueMatch
from lbproxy.routing.named_values import Read, cookie_reader, header_reader, query_reader

# Asked with the head and the client's address (canonical text; any other text lies in no network).
Test = Callable[[RequestHead, str], bool]
PathOf = Callable[[RequestHead], bytes]


def merged_path(head: RequestHead) -> bytes:
    """The path as most routes see it: runs of slashes are one."""
    return head.path


def unmerged_path(head: RequestHead) -> bytes:
    """The path as routes with `merge_slashes = false` see it."""
    return head.unmerged


def compile_condition(condition: Condition, path_of: PathOf = merged_path) -> Test | None:
    """A function that tells whether the condition holds; None when it always does.

    Raises re.error when a regular expression is none.
    """
    return _all_of(list(_parts(condition, path_of)))


def goes_by_client(condition: Condition) -> bool:
    """Whether the client's address can make a difference."""
    nested = condition.every + condition.some + condition.none
    return condition.clients is not None or any(map(goes_by_client, nested))


def client_test(networks: NetworkSet) -> Test:
    """Whether the client's address lies in one of the networks."""
    return lambda _, client_ip: client_ip in networks


def both(first: Test | None, second: Test | None) -> Test | None:
    """Both must hold; None is what always holds."""
    return _all_of([test for test in (first, second) if test is not None])


def _parts(condition: Condition, path_of: PathOf) -> Iterator[Test]:
    """The parts that are there, cheap ones first."""
    if condition.methods:
        methods = frozenset(method.encode() for method in condition.methods)
        yield lambda head, _: head.method in methods
    if condition.hosts:
        yield _host_test(condition.hosts)
    if condition.paths:
        yield _path_test(condition.paths, path_of)
    if condition.path_regexes:
        yield _regex_test(condition.path_regexes, path_of)
    for wanted in condition.headers:
        yield _value_test(header_reader(wanted.name), wanted)
    for wanted in condition.cookies:
        yield _value_test(cookie_reader(wanted.name), wanted)
    for wanted in condition.queries:
        yield _value_test(query_reader(wanted.name), wanted)
    if condition.clients is not None:
        yield client_test(condition.clients)
    for inner in condition.every:
        if (test := compile_condition(inner, path_of)) is not None:
            yield test
    if condition.some:
        some = [compile_condition(inner, path_of) for inner in condition.some]
        if None not in some:
            yield _any_of([test for test in some if test is not None])
    for inner in condition.none:
        yield _negated(compile_condition(inner, path_of))


def _host_test(patterns: tuple[str, ...]) -> Test:
    names = frozenset(pattern.encode() for pattern in patterns if not pattern.startswith("*."))
    endings = [pattern[1:].encode() for pattern in patterns if pattern.startswith("*.")]

    def test(head: RequestHead, _: str) -> bool:
        host = head.host
        return host in names or any(host.endswith(ending) and len(host) > len(ending) for ending in endings)

    return test


def _path_test(patterns: tuple[str, ...], path_of: PathOf) -> Test:
    paths = frozenset(pattern.encode() for pattern in patterns if not pattern.endswith("/"))
    # "*" is no path: it is asked of the server as a whole (RFC 9112, 3.2.4).
    paths -= {b"*"}
    prefixes = tuple(pattern.encode() for pattern in patterns if pattern.endswith("/"))

    def test(head: RequestHead, _: str) -> bool:
        path = path_of(head)
        return path in paths or path.startswith(prefixes)

    return test


def _regex_test(patterns: tuple[str, ...], path_of: PathOf) -> Test:
    matches = [_fullmatch(pattern) for pattern in patterns]

    def test(head: RequestHead, _: str) -> bool:
        path = path_of(head)
        return path != b"*" and any(match(path) for match in matches)

    return test


def _value_test(read: Read, wanted: NamedMatch) -> Test:
    kind = wanted.match.kind
    if kind == "present":
        return lambda head, _: bool(read(head))
    if kind == "absent":
        return lambda head, _: not read(head)
    matches = _value_match(wanted.match)
    return lambda head, _: any(map(matches, read(head)))


def _value_match(match: ValueMatch) -> Callable[[bytes], object]:
    value = match.value.encode()
    if match.kind == "exact":
        return value.__eq__
    if match.kind == "prefix":
        return lambda found: found.startswith(value)
    return _fullmatch(match.value)


def _fullmatch(pattern: str) -> Callable[[bytes], object]:
    # With DOTALL, a decoded line break in a query does not get past what "." is meant to forbid.
    return re.compile(pattern.encode(), re.DOTALL).fullmatch


def _all_of(tests: list[Test]) -> Test | None:
    if len(tests) < 2:
        return tests[0] if tests else None
    if len(tests) == 2:
        first, second = tests
        return lambda head, client_ip: first(head, client_ip) and second(head, client_ip)
    return lambda head, client_ip: all(test(head, client_ip) for test in tests)


def _any_of(tests: list[Test]) -> Test:
    return lambda head, client_ip: any(test(head, client_ip) for test in tests)


def _negated(test: Test | None) -> Test:
    if test is None:
        return lambda _, __: False
    return lambda head, client_ip: not test(head, client_ip)
