"""What is said of routes for HTTP: of each key that is wrong, of keys that exclude one another, and of what nobody
reaches."""

from __future__ import annotations

import pytest

from lbproxy.config import loads
from lbproxy.routing import RoutingTable

BASE = """\
[[listener]]
name = "web"
bind = "127.0.0.1:80"
protocol = "http"
[pool.web]
backends = "10.0.0.1:80"
[pool.next]
backends = "10.0.0.2:80"
[[listener]]
name = "next"
bind = "127.0.0.1:81"
protocol = "http"
pool = "next"
"""
RELAYED = BASE + '[[listener]]\nname = "tcp"\nbind = "127.0.0.1:82"\npool = "web"\n'


def said(addition: str, base: str = BASE) -> list[str]:
    """The problems of the base with this appended, their lines counted from the addition."""
    lines = base.count("\n")
    word = {"error": "", "warning": "warning: "}
    loaded = loads(base + addition, "/d/f")
    if loaded.configuration is not None:
        RoutingTable(loaded.configuration)
    return [f"{p.line - lines}: {word[p.severity]}{p.key}: {p.message}" for p in loaded.problems]


def of_route(lines: str, base: str = BASE) -> list[str]:
    """The problems of one route, without its number; the route's header is line 0."""
    return [problem.replace("route[0]", "route") for problem in said(f"[[route]]\n{lines}\n", base)]


def test_the_base_has_no_problem_but_that_nobody_serves_a_listener() -> None:
    assert of_route('pool = "web"\nlistener = "web"') == []
    assert said("") == ['-12: listener[0].pool: is missing, and no route is for this listener; write pool = "NAME"']
    # A redirect or an answer of our own serves as well.
    assert not any("listener[0]" in problem for problem in of_route('path = "/"\nlistener = "web"\nanswer = {}'))


HOSTS = 'it must be "a.example" or "*.example", without port or scheme'
PATHS = 'it must be a path, "/a" for itself alone or "/a/" for everything below it'
NAMES = "is not the name of a header field; it has letters, digits and dashes, at most 256"
VALUES = 'it must be text, true (is there), false (is not there), { prefix = "..." } or { regex = "..." }'
EDITED = "belongs to the connection or tells how long a message is, and cannot be edited"
KNOWN = "{scheme}, {host}, {port}, {path}, {query}, {uri}, {client_ip}, {request_id}"
CONDITIONS = [
    ("host = 5", "host", 'is 5, it must be "a.example" or "*.example"'),
    ('host = "*"', "host", 'is "*"; without the key every host matches, leave it out'),
    ('host = "a.example:80"', "host", f'is "a.example:80", {HOSTS}'),
    ('host = "https://a.example"', "host", f'is "https://a.example", {HOSTS}'),
    ('host = "[::g]"', "host", f'is "[::g]", {HOSTS}'),
    ('host = "*.*.example"', "host", f'is "*.*.example", {HOSTS}'),
    ('host = "bücher.example"', "host", 'is "bücher.example"; write names outside ASCII in their "xn--" form'),
    ("host = []", "host", "is empty, so nothing would match; leave the key out for all hosts"),
    ('path = "a"', "path", f'is "a", {PATHS}'),
    ("path = [5]", "path[0]", f"is 5, {PATHS}"),
    ('path = "/a/*"', "path", 'is "/a/*"; for everything below write "/a/"'),
    ('path = "/a?b=c"', "path", 'is "/a?b=c"; a path ends before the question mark, what is behind goes into query'),
    ('path = "/a#b"', "path", 'is "/a#b": the target has a fragment'),
    ('path = "/a b"', "path", 'is "/a b": the target has a control character'),
    ('path = "/ü"', "path", 'is "/ü"; write what is not ASCII as requests have it, as in /caf%C3%A9'),
    ('path = "/a/../b"', "path", 'is "/a/../b"; requests are normalised, so write "/b"'),
    ('path = "/%41"', "path", 'is "/%41"; requests are normalised, so write "/A"'),
    ('path = "/caf%c3%a9"', "path", 'is "/caf%c3%a9"; requests are normalised, so write "/caf%C3%A9"'),
    ('path = "/%zz"', "path", 'is "/%zz": the path has a percent sign without two hexadecimal digits'),
    ('path = "/a//b"', "path", 'is "/a//b"; // is taken for /, so write "/a/b", or merge_slashes = false'),
    ('path = "/a%2Fb"', "path", 'is "/a%2Fb"; %2F is refused here, unless the route has encoded_slash = "allow"'),
    ('path_regex = ""', "path_regex", 'is "", it must be a regular expression'),
    ('path_regex = "/(a"', "path_regex", 'is "/(a"; it is not a regular expression: missing ), unterminated '
     "subpattern at position 1"),
    ('path_regex = "/(a+)+"', "path_regex", 'is "/(a+)+"; "(a+)+" can match one text in very many ways, which takes '
     "for ever; what it repeats must not be able to begin what is within or behind it"),
    ('method = "get"', "method", 'is "get"; methods go by case, write "GET"'),
    ('method = "pots"', "method", 'is "pots"; methods go by case, did you mean "POST"?'),
    ('method = "purge"', "method", 'is "purge"; methods go by case, write "PURGE"'),
    ('method = ["GET", "TRACE"]', "method[1]", 'is "TRACE", which is always refused and never routed'),
    ('method = "G T"', "method", 'is "G T", it must be a method such as "GET"'),
    ("header = {}", "header", "is empty, so nothing would match; leave the key out for all requests"),
    ('header = "X-A"', "header", 'is "X-A", it must be a table'),
    ('header = { "X A" = true }', 'header."X A"', f'"X A" {NAMES}'),
    ("header = { Host = true }", "header.Host", '"Host" is no field to go by; write host = "a.example"'),
    ('header = { Connection = "a" }', "header.Connection", '"Connection" belongs to the connection, so routes cannot '
     "go by it"),
    ('header = { X-Forwarded-For = "a" }', "header.X-Forwarded-For", '"X-Forwarded-For" is believed from '
     "trusted_peers only, so routes cannot go by it; use client or host"),
    ("header = { X-A = 5 }", "header.X-A", f"is 5, {VALUES}"),
    ("header = { X-A = {} }", "header.X-A", "must have one of the keys prefix and regex"),
    ('header = { X-A = { prefix = "a", regex = "b" } }', "header.X-A", "must have one of the keys prefix and regex"),
    ('header = { X-A = { prefx = "a" } }', "header.X-A", 'has the key "prefx", known are prefix and regex; did you '
     'mean "prefix"?'),
    ('header = { X-A = { prefix = "" } }', "header.X-A", 'has the prefix "", it must be text that is not empty'),
    ('header = { X-A = { regex = ".*.*" } }', "header.X-A", 'is ".*.*"; behind ".*", which can end anywhere, ".*" '
     'repeats again; say more exactly where the first one ends, as in "[^/]*/"'),
    ('header = { X-A = "ü" }', "header.X-A", 'is "ü", it must be printable ASCII text'),
    ('query = { "a=b" = true }', 'query."a=b"', '"a=b" is no name; write printable ASCII characters without blanks '
     "and without & = # ;"),
    ('cookie = { "a b" = true }', 'cookie."a b"', 'is "a b", it must be the name of a cookie, of letters, digits, '
     "dashes and underscores"),
    ('client = "10.0.0.1/8"', "client", "'10.0.0.1/8' has bits set behind its prefix; did you mean 10.0.0.0/8?"),
    ("all = []", "all", "is empty, so nothing would match; leave the key out for all requests"),
    ("all = {}", "all", 'is an empty condition; write in it what must hold, as in { host = "a.example" }'),
    ("any = [{ path = '/a' }, {}]", "any[1]", 'is an empty condition; write in it what must hold, as in '
     '{ host = "a.example" }'),
    ("not = 5", "not", "is 5, it must be a table"),
    ('not = { hots = "a" }', "not.hots", 'unknown key; did you mean "host"?'),
    ('not = { pool = "a" }', "not.pool", "unknown key; known here are host, path, path_regex, method, header, query, "
     "cookie, client, all, any, not"),
    ('all = { any = [{ path = "a" }] }', "all.any[0].path", f'is "a", {PATHS}'),
    ('not = { path = "/a//b" }', "not.path", 'is "/a//b"; // is taken for /, so write "/a/b", or merge_slashes = '
     "false"),
    ("all = " + "{ all = " * 8 + '{ host = "a" }' + " }" * 8, "all" + ".all" * 8,
     "nests conditions more than 8 deep"),
]  # fmt: skip
ACTIONS = [
    ("split = {}", "split", "is empty; name the pools, as in split = { stable = 95, canary = 5 }"),
    ("split = { web = 1, nxt = 1 }", "split.nxt", 'there is no pool "nxt"; did you mean "next"?'),
    ("split = { web = -1, next = 1 }", "split.web", "is -1, it must be a whole number from 0 to 1000000"),
    ("split = { web = 0, next = 0 }", "split", "gives no pool a share; at least one must be above 0"),
    ('split = { web = 1, next = 1 }\nsplit_key = "ip"', "split_key", 'is "ip", it must be "client_ip", "path", "host", '
     '"sni", "header:NAME", "cookie:NAME" or "query:NAME"'),
    ('pool = "web"\nsplit_key = "client_ip"', "split_key", "belongs to a split, and there is none"),
    ('pool = "web"\nsplit = { next = 1, web = 1 }', "split", "does not go with pool: a route does one thing with what "
     "it matches"),
    ('pool = "web"\nredirect = "/a"', "redirect", "does not go with pool: a route does one thing with what it matches"),
    ('redirect = "/a"\nanswer = {}', "answer", "does not go with redirect: a route does one thing with what it "
     "matches"),
    ('redirect = "a"', "redirect", 'is "a", it must begin with https://, http:// or /'),
    ('redirect = ""', "redirect", 'is "", it must be a URL, perhaps with placeholders, such as '
     '"https://new.example{uri}"'),
    ("redirect = 5", "redirect", 'is 5, it must be a URL such as "https://new.example{uri}" or a table'),
    ("redirect = {}", "redirect.to", 'is missing; say where to, as in to = "https://new.example{uri}"'),
    ('redirect = "https://{hst}/"', "redirect", f"'https://{{hst}}/': {{hst}} is not known; known are {KNOWN}"),
    ('redirect = "https://a/{"', "redirect", "'https://a/{' has a lonely \"{\"; a literal brace is written twice"),
    ('redirect = "/{1}"', "redirect", f"'/{{1}}': {{1}} is a group of the regular expression, and there is none; known "
     f"are {KNOWN}"),
    ('redirect = "/ü"', "redirect", "'/ü' may hold printable ASCII characters only; write others as %C3%A9 in a URL"),
    ('redirect = { to = "/a", status = 300 }', "redirect.status", "is 300, it must be 301 or 302 or 303 or 307 or 308"),
    ("answer = { status = 199 }", "answer.status", "is 199, it must be a whole number from 200 to 599"),
    (f'answer = {{ body = "{"x" * 65537}" }}', "answer.body", "has 65537 bytes, at most 65536 are allowed"),
    ('answer = { status = 204, body = "a" }', "answer.body", "does not go with the status 204, whose answers have no "
     "body"),
    ('answer = { body = "a", file = "a.html" }', "answer.file", "/d/a.html: there is no such file"),
    ('answer = { content_type = "html" }', "answer.content_type", 'is "html", it must be a media type such as '
     '"text/html; charset=utf-8"'),
    ('answer = { headers = { Content-Type = "a/b" } }', "answer.headers.Content-Type",
     "the type of an answer is set with content_type"),
    ('answer = { headers = { Date = "a" } }', "answer.headers.Date", "every answer gets the date of its making"),
    ('answer = { headers = { Content-Length = "5" } }', "answer.headers.Content-Length", f"'Content-Length' {EDITED}"),
    ('answer = { headers = { X-A = "a\\r\\nb" } }', "answer.headers.X-A",
     'is "a\\r\\nb", it must be printable ASCII text without blanks at its ends'),
    ("answer = 404", "answer", "is 404, it must be a table"),
]  # fmt: skip
FORWARDING = [
    ("rewrite = {}", "rewrite", "is empty; write strip_prefix, add_prefix, path or host in it"),
    ('rewrite = { strip_prefix = "a" }', "rewrite.strip_prefix", 'is "a", it must be the beginning of a path such as '
     '"/app"'),
    ('rewrite = { add_prefix = "/a", path = "/b" }', "rewrite.add_prefix", "does not go with path, which replaces the "
     "path as a whole"),
    ('rewrite = { regex = "/(.)" }', "rewrite.regex", "needs a path that replaces what it matches"),
    ('rewrite = { regex = "/(.)", path = "/{2}" }', "rewrite", f"'/{{2}}': {{2}} is a group of the regular expression, "
     f"which has 1; known are {KNOWN}, {{1}}"),
    ('rewrite = { path = "/{1}" }', "rewrite", f"'/{{1}}': {{1}} is a group of the regular expression, and there is "
     f"none; known are {KNOWN}"),
    ('rewrite = { path = " /a" }', "rewrite.path", 'is " /a"; blanks at its ends would be lost'),
    ('rewrite = { host = "{nam}" }', "rewrite.host", f"'{{nam}}': {{nam}} is not known; known are {KNOWN}, {{1}} to "
     "{9}"),
    ('request_headers = { set = { Host = "a" } }', "request_headers.set.Host", "'Host' is changed by the rewrite of a "
     "route (its key host), not as a header field"),
    ('request_headers = { add = { Transfer-Encoding = "a" } }', "request_headers.add.Transfer-Encoding",
     f"'Transfer-Encoding' {EDITED}"),
    ('request_headers = { remove = ["X-A", "Connection"] }', "request_headers.remove[1]", f"'Connection' {EDITED}"),
    ('response_headers = { set = { Upgrade = "a" } }', "response_headers.set.Upgrade", f"'Upgrade' {EDITED}"),
    ('response_headers = { set = { "X:A" = "a" } }', 'response_headers.set."X:A"', f'"X:A" {NAMES}'),
    ('response_headers = { set = { X-A = "{hst}" } }', "response_headers.set.X-A",
     f"'{{hst}}': {{hst}} is not known; known are {KNOWN}"),
    ('response_headers = { set = { X-A = "a\\nb" } }', "response_headers.set.X-A",
     "'a\\nb' may hold printable ASCII characters only; write others as %C3%A9 in a URL"),
    ("response_headers = { add = {} }", "response_headers.add", "is empty; leave the key out"),
    ('request_headers = { sett = {} }', "request_headers.sett", 'unknown key; did you mean "set"?'),
    ('max_body = "1MB"', "max_body", 'is "1MB", write it as "1MiB"'),
    ("max_body = -1", "max_body", "is -1, it must be from 0B to 1048576GiB"),
    ('mirror = "web"', "mirror", 'is "web", where requests go anyway; name another pool'),
    ('mirror = { pool = "web" }', "mirror.pool", 'is "web", where requests go anyway; name another pool'),
    ('mirror = "nxt"', "mirror", 'there is no pool "nxt"; did you mean "next"?'),
    ('mirror = { pool = "nxt" }', "mirror.pool", 'there is no pool "nxt"; did you mean "next"?'),
    ("mirror = {}", "mirror.pool", 'is missing; name the pool, as in pool = "web"'),
    ('mirror = { pool = "next", percent = 0 }', "mirror.percent", "is 0, it must be a number above 0, at most 100"),
    ('mirror = { pool = "next", unsafe = 1 }', "mirror.unsafe", "is 1, it must be true or false (without quotes)"),
    ('retry = "all"', "retry", 'is "all", it must be "none" or "idempotent"'),
    ("retry_statuses = [200]", "retry_statuses[0]", "is 200, it must be a whole number from 400 to 599"),
    ("retry_statuses = []", "retry_statuses", "is empty; leave the key out to take every status as it is"),
    ("idempotency_key = 1", "idempotency_key", "is 1, it must be true or false (without quotes)"),
    ('upgrades = ["h2c"]', "upgrades[0]", 'is "h2c"; lbproxy would have to speak HTTP/2 then, which it does not'),
    ('upgrades = "web socket"', "upgrades", 'is "web socket", it must be the name of a protocol such as "websocket"'),
    ("streaming = 1", "streaming", "is 1, it must be true or false (without quotes)"),
    ("encoded_slash = true", "encoded_slash", 'is true, it must be "refuse" or "allow"'),
    ("merge_slashes = 1", "merge_slashes", "is 1, it must be true or false (without quotes)"),
    ("conceal = 1", "conceal", "is 1, it must be true or false (without quotes)"),
    ('error_pages = { 503 = "a.html" }', "error_pages.503", "/d/a.html: there is no such file"),
    ("timeouts = { client_idle = 5 }", "timeouts.client_idle", "is about the client's connection, whatever pools it "
     "gets to; set it in [timeouts] or [listener.timeouts]"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "key", "message"), [*CONDITIONS, *FORWARDING])
def test_a_key_of_a_route(line: str, key: str, message: str) -> None:
    assert of_route(f'pool = "web"\n{line}') == [f"3: route.{key}: {message}"]


@pytest.mark.parametrize(("lines", "key", "message"), ACTIONS)
def test_what_a_route_does(lines: str, key: str, message: str) -> None:
    number = lines.count("\n") + 2
    problems = [problem for problem in of_route(lines) if "route" in problem]
    if "does not go with body" not in message and key == "answer.file":
        assert problems.pop() == "2: route.answer.file: does not go with body: an answer says one thing"
    assert problems == [f"{number}: route.{key}: {message}"]


@pytest.mark.parametrize("rewrite", ['path = "/a b"', 'path = "/a/../b"', 'host = "a b"', 'host = "a:b"'])
def test_a_rewrite_that_could_never_work_is_refused(rewrite: str) -> None:
    (problem,) = of_route(f'pool = "web"\nrewrite = {{ {rewrite} }}')
    assert problem.startswith("3: route.rewrite: the rewrite to ")
    assert " cannot work: " in problem


GOOD = [
    'host = ["a.example", "*.a.example", "10.0.0.1", "[2001:db8::1]"]',
    'path = ["/", "/a", "/a/", "/a;b", "/caf%C3%A9", "/{a}"]',
    'path = "/a//b"\nmerge_slashes = false',
    'path = "/a%2Fb"\nencoded_slash = "allow"',
    "path_regex = '/(?:[a-z]+/)*[0-9]{1,8}(?:\\.html)?'",
    'method = ["GET", "PURGE", "M-SEARCH"]',
    'header = { X-A = "", Content-Type = { prefix = "text/" }, User-Agent = { regex = "curl/.*" } }',
    'query = { "a[]" = true, b = "c d" }',
    "all = " + "{ not = " * 7 + '{ host = "a" }' + " }" * 7,
    "max_body = 0",
    "upgrades = []",
    'mirror = "next"',
    'rewrite = { regex = "/(?P<name>[a-z]+)", path = "/{1}?name={1}", host = "{1}.example" }',
    'request_headers = { set = { X-A = "{{{host}}}" }, add = { X-B = "" } }',
]


@pytest.mark.parametrize("line", GOOD)
def test_what_is_right_is_not_complained_about(line: str) -> None:
    assert of_route(f'listener = "web"\npool = "web"\n{line}') == []


def test_a_route_without_anything_to_do_is_told_so() -> None:
    assert of_route('host = "a.example"') == [
        '1: route.pool: is missing; write pool = "NAME", or one of split, redirect and answer'
    ]
    # What cannot be read might be the answer.
    assert [problem.partition(": is")[0] for problem in of_route('host = "a.example"\nredirect = 5')] == [
        "3: route.redirect"
    ]


EFFECTS = [
    ("rewrite = { host = 'a' }", "rewrite"),
    ("request_headers = { remove = 'X-A' }", "request_headers"),
    ("mirror = 'next'", "mirror"),
    ("retry = 'idempotent'", "retry"),
    ("retry_statuses = 503", "retry_statuses"),
    ("idempotency_key = true", "idempotency_key"),
    ("upgrades = 'tcp'", "upgrades"),
    ("streaming = true", "streaming"),
    ("conceal = true", "conceal"),
    ("priority = 1", "priority"),
]


@pytest.mark.parametrize(("line", "key"), EFFECTS)
def test_what_is_for_backends_has_no_effect_elsewhere(line: str, key: str) -> None:
    problems = of_route(f'path = "/a"\nlistener = "web"\nanswer = {{}}\n{line}')
    assert [problem for problem in problems if "route" in problem.partition(":")[2].partition(".")[0]] == [
        f"5: warning: route.{key}: has no effect: this route sends nothing to a pool"
    ]


def test_a_split_of_one_pool_is_a_pool() -> None:
    assert of_route('listener = "web"\nsplit = { web = 1 }') == [
        '3: warning: route.split: names one pool only; write pool = "web"'
    ]


# --- listeners of both protocols ------------------------------------------------------------------------------------


def test_keys_of_one_protocol_are_not_for_the_other() -> None:
    assert of_route('pool = "web"\nhost = "a"\nserver_name = "a"') == [
        "4: route.server_name: is for TCP, and host is for HTTP, where names are matched with host"
    ]
    assert of_route('pool = "web"\nlistener = ["web", "tcp"]\nnot = { path = "/a" }', RELAYED) == [
        '3: route.listener[1]: the listener "tcp" speaks TCP, and not is for HTTP; write protocol = "http" there'
    ]
    assert of_route('pool = "web"\nlistener = "web"\nserver_name = "a"', RELAYED) == [
        '4: route.server_name: is for TCP, and the listener "web" speaks HTTP; write host'
    ]
    assert of_route('pool = "web"\nlistener = "web"\nalpn = "h2"', RELAYED) == [
        '4: route.alpn: is for TCP, and the listener "web" speaks HTTP; leave the key out'
    ]
    assert of_route('pool = "web"\nserver_name = "a"') == [
        "3: route.server_name: is for TCP, and every listener speaks HTTP; write host",
    ]
    tcp = '[[listener]]\nname = "tcp"\nbind = "127.0.0.1:82"\npool = "web"\n[pool.web]\nbackends = "10.0.0.1:80"\n'
    assert of_route('pool = "web"\npath = "/a"', tcp) == [
        '3: route.path: is for HTTP, and no listener speaks it; write protocol = "http" in its [[listener]]'
    ]


def test_a_route_without_listeners_is_for_those_that_understand_it() -> None:
    text = RELAYED + '[[route]]\npool = "web"\npath = "/a"\n[[route]]\npool = "web"\nserver_name = "a"\n'
    text += '[[route]]\npool = "web"\nclient = "10.0.0.0/8"\n'
    configuration = loads(text, "f").configuration
    assert configuration is not None
    assert [route.listeners for route in configuration.routes] == [("web", "next"), ("tcp",), ()]
    # Where all understand it nothing needs to be said.
    configuration = loads(BASE + '[[route]]\npool = "web"\npath = "/a"\n', "f").configuration
    assert configuration is not None
    assert configuration.routes[0].listeners == ()


# --- what nobody reaches --------------------------------------------------------------------------------------------


def hidden(first: str, second: str) -> bool:
    """Whether the second route is said to be hidden behind the first."""
    text = f'[[route]]\nlistener = "web"\n{first}\npool = "web"\n[[route]]\nlistener = "web"\n{second}\npool = "web"\n'
    problems = said(text)
    assert all("route[1]: never matches: the route in line 14 takes all its clients first" in p for p in problems)
    return bool(problems)


def test_a_route_behind_one_that_takes_all_it_would_is_never_reached() -> None:
    assert hidden("", 'host = "a.example"')
    assert hidden('host = "a.example"', 'host = "a.example"\npath = "/a"')
    assert hidden('host = "*.example"', 'host = ["a.b.example", "*.c.example"]')
    assert hidden('path = "/"', 'path = "/a"')
    assert hidden('path = "/a/"', 'path = ["/a/b", "/a/c/"]')
    assert hidden('method = ["GET", "HEAD"]', 'method = "GET"')
    assert hidden("header = { X-A = true }", 'header = { X-B = true, X-A = true }\ncookie = { c = "d" }')
    assert hidden('client = "10.0.0.0/8"', 'client = "10.1.0.0/16"\nmethod = "GET"')
    assert hidden('any = [{ host = "a" }, { host = "b" }]', 'path = "/"\nany = [{ host = "a" }, { host = "b" }]')
    assert hidden('not = { path = "/a" }', 'not = [{ path = "/a" }, { path = "/b" }]')
    assert hidden("merge_slashes = false", 'path = "/a"')


def test_a_route_that_may_still_get_something_is_not_complained_about() -> None:
    assert not hidden('host = "a.example"', "")
    assert not hidden('host = "*.example"', 'host = "example"')
    assert not hidden('host = "a.example"', 'host = "*.example"')
    assert not hidden('path = "/a"', 'path = "/a/"')
    assert not hidden('path = "/a/"', 'path = "/a"')
    assert not hidden('method = "GET"', 'method = ["GET", "POST"]')
    assert not hidden("header = { X-A = true }", 'header = { X-A = "b" }')
    assert not hidden('client = "10.0.0.0/8"', 'client = "10.0.0.0/7"')
    assert not hidden('any = [{ host = "a" }]', 'any = [{ host = "b" }]')
    # A request with %2F, and one with runs of slashes, is seen by one of the two only.
    assert not hidden("", 'encoded_slash = "allow"')
    assert not hidden('path = "/a/"\nmerge_slashes = false', 'path = "/a/"')


def test_the_pool_of_a_listener_may_be_hidden_by_a_route_for_http() -> None:
    text = '[[route]]\nlistener = "next"\nredirect = "/a"\n[[route]]\nlistener = "web"\npool = "web"\n'
    assert said(text) == ["0: warning: listener[1].pool: is never used: the route in line 14 takes every client"]
    assert said(text.replace("redirect", 'host = "a"\nredirect')) == []


def test_pools_of_splits_and_mirrors_are_in_use() -> None:
    text = BASE + '[pool.third]\nbackends = "10.0.0.3:80"\n'
    route = '[[route]]\nlistener = "web"\npool = "web"\n'
    assert said(route, text) == [
        "-1: warning: pool.third: no listener and no route uses this pool",
    ]
    assert said(route + 'mirror = "third"\n', text) == []
    assert said(route.replace('pool = "web"', "split = { web = 1, third = 1 }"), text) == []


def test_conditions_of_any_depth_are_judged() -> None:
    for depth in (20, 250, 300, 3000):
        condition = "{ not = " * depth + '{ host = "a" }' + " }" * depth
        problems = loads(f'{BASE}[[route]]\npool = "web"\nnot = {condition}\n', "f").problems
        assert problems
        assert all("deep" in problem.message for problem in problems)


def test_what_cannot_be_read_is_not_complained_about_twice() -> None:
    text = """\
[[route]]
listener = "web"
split = { web = "a", next = 0 }
split_key = "client_ip"
[[route]]
listener = "web"
host = "a"
pool = 5
rewrite = { regex = "(", path = "/{1}" }
[[route]]
listener = "web"
not = { path = "a" }
answer = { status = "a", body = "a" }
"""
    assert [problem.partition(": is")[0] for problem in said(text)] == [
        "3: route[0].split.web",
        "8: route[1].pool",
        "9: route[1].rewrite.regex",
        "12: route[2].not.path",
        "13: route[2].answer.status",
    ]
