"""HTTP in the configuration: where each key arrives in the model, and what is said of each that is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lbproxy import model
from lbproxy.addresses import NetworkSet
from lbproxy.config import loads
from lbproxy.model_http import (
    Condition,
    ErrorPage,
    FieldEdits,
    FixedAnswer,
    HttpCheck,
    HttpPoolSettings,
    HttpRouteSettings,
    HttpSettings,
    LoadReport,
    Mirror,
    NamedMatch,
    Redirect,
    Rewrite,
    Split,
    StickySettings,
    ValueMatch,
)

EVERYTHING = r"""
[records]
format = "template"
template = "{client} {status}"
[timeouts]
request_head = 1
request_body_idle = 2
request_body_rate = "none"
response_head = 3
response_body_idle = "none"
client_idle = 4
backend_idle = 5
[[listener]]
name = "web"
bind = "127.0.0.1:80"
protocol = "http"
[listener.http]
trusted_peers = ["10.0.0.0/8", "::1"]
default_host = "A.example"
underscores = "pass"
max_head = "32KiB"
max_fields = 7
max_target = "4KiB"
max_requests = 9
via = false
forwarded = true
request_id = false
traceparent = "mint"
client_cert = true
redirect_https = true
hsts = "1y"
hsts_subdomains = true
abort_on_half_close = true
expose = true
error_pages = { 503 = "sorry.html", 404 = "missing.json" }
[listener.timeouts]
request_head = 6
client_idle = 7
[[route]]
name = "conditions"
client = "10.0.0.0/9"
host = ["A.example", "*.b.example", "[::0:1]"]
path = ["/a/", "/b"]
path_regex = '/[a-z]+/[0-9]{1,4}'
method = ["GET", "PURGE"]
header = { X-Canary = "yes", X-Any = true, X-None = false, X-P = { prefix = "a" }, X-R = { regex = "[a-c]*" } }
query = { debug = "1" }
cookie = { Beta = true }
all = { host = "c.example" }
any = [{ method = "GET" }, { client = "10.0.0.0/8" }]
not = { path = "/c", any = { path = "/d" } }
pool = "web"
rewrite = { strip_prefix = "/a", add_prefix = "/b/", host = "{host}.x" }
request_headers = { set = { X-A = "{client_ip}" }, add = { X-B = "{{" }, remove = ["X-C", "X-D"] }
response_headers = { remove = "Server" }
max_body = "1MiB"
mirror = { pool = "stable", percent = 2.5, unsafe = true }
retry = "idempotent"
retry_statuses = [502, 503]
idempotency_key = true
upgrades = ["WebSocket", "tcp"]
streaming = true
encoded_slash = "allow"
merge_slashes = false
conceal = true
error_pages = { 500 = "oops.txt" }
timeouts = { request_body_rate = 100, response_head = "none" }
[[route]]
host = "split.example"
split = { stable = 95, canary = 5 }
split_key = "header:X-User"
rewrite = { regex = "/u/([0-9]+)", path = "/{1}" }
[[route]]
host = "old.example"
redirect = { to = "https://new.example{uri}", status = 301 }
[[route]]
host = "short.example"
redirect = "/elsewhere"
[[route]]
path = "/robots.txt"
answer = { status = 404, body = "no", content_type = "text/x; a=b", headers = { X-A = "b c" } }
[[route]]
path = "/file"
answer = { file = "a.json" }
[pool.web]
backends = "10.0.0.1:80"
policy = "maglev"
hash_key = "cookie:Beta"
sticky = { by = "cookie", name = "stay", key_file = "keys", max_age = "2d", max_idle = 60, max_life = "1y", same_site = "strict", domain = "A.example", strict = true }
load_report = { port = 9000, interval = 1, timeout = "500ms" }
[pool.web.http]
idle_connections = 0
max_requests = 3
max_life = "none"
version = "1.0"
conceal = true
[pool.web.check]
path = "/health?a=b"
method = "HEAD"
host = "a.example:81"
headers = { X-A = "b" }
status = [200, "300-399"]
[pool.stable]
backends = "10.0.0.2:80"
sticky = "header:X-User"
check = { body = "ok" }
[pool.canary]
backends = "10.0.0.3:80"
sticky = { by = "cookie:SID", table_size = 5, table_idle = "1m" }
[pool.local]
backends = "10.0.0.4:80"
sticky = "client_ip"
"""  # noqa: E501  # an inline table has one line


@pytest.fixture
def configuration(tmp_path: Path) -> model.Configuration:
    for name, content in {
        "sorry.html": "<p>sorry",
        "missing.json": "{}",
        "oops.txt": "oops",
        "a.json": "[]",
        "keys": "# the new one\nAAECAwQFBgcICQoLDA0ODw==\n\nan old secret of some length\r\n",
    }.items():
        (tmp_path / name).write_bytes(content.encode())
    loaded = loads(EVERYTHING, str(tmp_path / "f"))
    assert [str(problem) for problem in loaded.errors] == []
    assert loaded.configuration is not None
    return loaded.configuration


def test_what_a_listener_says_of_http_arrives(configuration: model.Configuration) -> None:
    (listener,) = configuration.listeners
    assert (listener.protocol, listener.pool) == ("http", None)
    assert listener.http == HttpSettings(
        trusted_peers=NetworkSet(["10.0.0.0/8", "::1"]),
        default_host="a.example",
        underscores="pass",
        max_head=32768,
        max_fields=7,
        max_target=4096,
        max_requests=9,
        via=False,
        forwarded=True,
        request_id=False,
        traceparent="mint",
        client_cert=True,
        redirect_https=True,
        hsts=365 * 86400.0,
        hsts_subdomains=True,
        abort_on_half_close=True,
        expose=True,
        error_pages=(ErrorPage(503, b"<p>sorry"), ErrorPage(404, b"{}", "application/json")),
    )
    assert listener.timeouts == model.TimeoutSettings(request_head=6.0, client_idle=7.0)


def test_what_the_file_says_arrives(configuration: model.Configuration) -> None:
    assert configuration.records == model.RecordSettings(format="template", template="{client} {status}")
    assert configuration.timeouts == model.TimeoutSettings(
        request_head=1.0,
        request_body_idle=2.0,
        request_body_rate=0.0,
        response_head=3.0,
        response_body_idle=math.inf,
        client_idle=4.0,
        backend_idle=5.0,
    )


def test_what_a_route_goes_by_and_does_arrives(configuration: model.Configuration) -> None:
    route = configuration.routes[0]
    assert (route.pool, route.name, route.clients) == ("web", "conditions", NetworkSet(["10.0.0.0/9"]))
    assert route.timeouts == model.TimeoutSettings(request_body_rate=100.0, response_head=math.inf)
    assert route.http == HttpRouteSettings(
        condition=Condition(
            hosts=("a.example", "*.b.example", "[::1]"),
            paths=("/a/", "/b"),
            path_regexes=("/[a-z]+/[0-9]{1,4}",),
            methods=("GET", "PURGE"),
            headers=(
                NamedMatch("x-canary", ValueMatch("exact", "yes")),
                NamedMatch("x-any", ValueMatch("present")),
                NamedMatch("x-none", ValueMatch("absent")),
                NamedMatch("x-p", ValueMatch("prefix", "a")),
                NamedMatch("x-r", ValueMatch("regex", "[a-c]*")),
            ),
            queries=(NamedMatch("debug", ValueMatch("exact", "1")),),
            cookies=(NamedMatch("Beta", ValueMatch("present")),),
            every=(Condition(hosts=("c.example",)),),
            some=(Condition(methods=("GET",)), Condition(clients=NetworkSet(["10.0.0.0/8"]))),
            none=(Condition(paths=("/c",), some=(Condition(paths=("/d",)),)),),
        ),
        rewrite=Rewrite(strip_prefix="/a", add_prefix="/b/", host="{host}.x"),
        request_fields=FieldEdits((("X-A", "{client_ip}"),), (("X-B", "{{"),), ("X-C", "X-D")),
        response_fields=FieldEdits(remove=("Server",)),
        max_body=1024 * 1024,
        mirror=Mirror("stable", 2.5, True),
        retry_idempotent=True,
        idempotency_key=True,
        retry_statuses=(502, 503),
        upgrades=("websocket", "tcp"),
        streaming=True,
        encoded_slash=True,
        merge_slashes=False,
        conceal=True,
        error_pages=(ErrorPage(500, b"oops", "text/plain; charset=utf-8"),),
    )


def test_what_routes_do_in_place_of_a_pool_arrives(configuration: model.Configuration) -> None:
    _, split, redirect, short, answer, file = configuration.routes
    assert [route.pool for route in (split, redirect, short, answer, file)] == [""] * 5
    assert split.http == HttpRouteSettings(
        condition=Condition(hosts=("split.example",)),
        split=Split((("stable", 95), ("canary", 5)), "header:x-user"),
        rewrite=Rewrite(regex="/u/([0-9]+)", path="/{1}"),
    )
    assert redirect.http is not None
    assert redirect.http.redirect == Redirect("https://new.example{uri}", 301)
    assert short.http is not None
    assert short.http.redirect == Redirect("/elsewhere", 308)
    assert answer.http is not None
    assert answer.http.answer == FixedAnswer(404, b"no", "text/x; a=b", (("X-A", "b c"),))
    assert file.http is not None
    assert file.http.answer == FixedAnswer(200, b"[]", "application/json")


def test_what_a_pool_says_of_http_arrives(configuration: model.Configuration) -> None:
    web, stable, canary, local = configuration.pools
    assert web.hash_key == "cookie:Beta"
    assert web.load_report == LoadReport(9000, 1.0, 0.5)
    assert web.check.http == HttpCheck(
        "HEAD", "/health?a=b", "a.example:81", (("X-A", "b"),), ((200, 200), (300, 399)), b""
    )
    assert stable.check.http == HttpCheck(body=b"ok")
    assert canary.check.http is None
    assert web.http == HttpPoolSettings(
        sticky=StickySettings(
            "cookie",
            "stay",
            (bytes(range(16)), b"an old secret of some length"),
            2 * 86400.0,
            60.0,
            365 * 86400.0,
            "strict",
            "a.example",
            True,
        ),
        idle_connections=0,
        max_requests=3,
        max_life=math.inf,
        http10=True,
        conceal=True,
    )
    assert stable.http.sticky == StickySettings("header", "x-user")
    assert canary.http.sticky == StickySettings("learnt_cookie", "SID", table_size=5, table_idle=60.0)
    assert local.http.sticky == StickySettings("client_ip")


def test_what_is_not_written_has_the_model_s_defaults() -> None:
    configuration = loads(BASE, "f").configuration
    assert configuration is not None
    assert configuration.listeners[0].http == HttpSettings()
    assert configuration.pools[0].http == HttpPoolSettings()
    assert configuration.pools[0].check.http is None
    text = BASE + '[[route]]\npath = "/"\npool = "web"\n'
    configuration = loads(text, "f").configuration
    assert configuration is not None
    assert configuration.routes[0].http == HttpRouteSettings(Condition(paths=("/",)))
    text = BASE + '[[route]]\nclient = "10.0.0.0/8"\npool = "web"\n'
    configuration = loads(text, "f").configuration
    assert configuration is not None
    # Nothing in it is for HTTP, so it goes for TCP as well.
    assert configuration.routes[0].http is None


BASE = """\
[[listener]]
name = "web"
bind = "127.0.0.1:80"
protocol = "http"
pool = "web"
[pool.web]
backends = "10.0.0.1:80"
"""
BASE_LINES = BASE.count("\n")


def said(addition: str, base: str = BASE) -> list[str]:
    """The problems of the base with this appended, their lines counted from the addition."""
    lines = base.count("\n")
    word = {"error": "", "warning": "warning: "}
    problems = loads(base + addition, "/d/f").problems
    return [f"{p.line - lines}: {word[p.severity]}{p.key}: {p.message}" for p in problems]


def test_the_base_has_no_problem() -> None:
    assert said("") == []


SIZE = 'a size such as "64KiB" or "256MiB"'
HTTP_KEYS = [
    ("maxhead = 5", "maxhead", 'unknown key; did you mean "max_head"?'),
    ("trusted_peers = []", "trusted_peers", "is empty; leave the key out to trust nobody"),
    ('trusted_peers = "10.0.0.1/8"', "trusted_peers",
     "'10.0.0.1/8' has bits set behind its prefix; did you mean 10.0.0.0/8?"),
    ('default_host = "*.a.example"', "default_host", 'is "*.a.example", it must be a single host'),
    ('default_host = "a.example:80"', "default_host",
     'is "a.example:80", it must be a host such as "a.example", without port or scheme'),
    ('default_host = "*"', "default_host", 'is "*", it must be a single host'),
    ('underscores = "allow"', "underscores", 'is "allow", it must be "drop" or "pass"'),
    ("max_head = 100", "max_head", "is 100, it must be from 1KiB to 1MiB"),
    ("max_fields = 0", "max_fields", "is 0, it must be a whole number from 1 to 10000"),
    ('max_target = "32KiB"', "max_target",
     "is 32KiB, it must not be more than max_head, 16KiB, of which it is a part"),
    ("max_requests = 0", "max_requests", "is 0, it must be a whole number from 1 to 1000000000"),
    ("via = 1", "via", "is 1, it must be true or false (without quotes)"),
    ("forwarded = 1", "forwarded", "is 1, it must be true or false (without quotes)"),
    ("request_id = 1", "request_id", "is 1, it must be true or false (without quotes)"),
    ('traceparent = "make"', "traceparent", 'is "make", it must be "pass", "mint" or "drop"'),
    ("client_cert = 1", "client_cert", "is 1, it must be true or false (without quotes)"),
    ("redirect_https = 301", "redirect_https", "is 301, it must be true or false (without quotes)"),
    ('hsts = "11y"', "hsts", 'is "11y", it must be from 0s to 3650d'),
    ("hsts_subdomains = 1", "hsts_subdomains", "is 1, it must be true or false (without quotes)"),
    ("abort_on_half_close = 1", "abort_on_half_close", "is 1, it must be true or false (without quotes)"),
    ("expose = 1", "expose", "is 1, it must be true or false (without quotes)"),
    ("error_pages = {}", "error_pages", "is empty; leave the key out to keep the built-in texts"),
    ('error_pages = { 200 = "a.html" }', "error_pages.200",
     '"200" is no status of an error, it must be a number from 400 to 599'),
    ('error_pages = { 5xx = "a.html" }', "error_pages.5xx",
     '"5xx" is no status of an error, it must be a number from 400 to 599'),
    ("error_pages = { 503 = 5 }", "error_pages.503", "is 5, it must be a path"),
    ('error_pages = { 503 = "a.xml" }', "error_pages.503",
     "a.xml ends in none of .html, .json and .txt, so its type is unknown"),
    ('error_pages = { 503 = "a.html" }', "error_pages.503", "/d/a.html: there is no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "key", "message"), HTTP_KEYS)
def test_a_key_of_a_listener(line: str, key: str, message: str) -> None:
    base = BASE.partition("[pool")[0] + "[listener.http]\n"
    assert said(f'{line}\n[pool.web]\nbackends = "10.0.0.1:80"\n', base) == [f"1: listener[0].http.{key}: {message}"]


LISTENER_WARNINGS = [
    ("hsts = 5", "hsts", "has no effect: it is said on TLS only, write it where [listener.tls] is"),
    ("hsts_subdomains = true", "hsts_subdomains", 'has no effect without hsts; write hsts = "1y" with it'),
    ("client_cert = true", "client_cert", "has no effect: no client is asked for a certificate, see client_ca"),
]


@pytest.mark.parametrize(("line", "key", "message"), LISTENER_WARNINGS)
def test_a_key_of_a_listener_without_effect(line: str, key: str, message: str) -> None:
    base = BASE.partition("[pool")[0] + "[listener.http]\n"
    text = f'{line}\n[pool.web]\nbackends = "10.0.0.1:80"\n'
    assert said(text, base) == [f"1: warning: listener[0].http.{key}: {message}"]


def test_hsts_may_be_meant_for_what_a_trusted_peer_took_in() -> None:
    base = BASE.partition("[pool")[0] + "[listener.http]\n"
    text = 'hsts = 5\ntrusted_peers = "10.0.0.1"\n[pool.web]\nbackends = "10.0.0.1:80"\n'
    assert said(text, base) == []


def test_a_key_of_http_beside_its_table_is_told_where_it_belongs() -> None:
    text = BASE.replace('pool = "web"\n', 'pool = "web"\ntrusted_peers = "10.0.0.1"\n', 1)
    assert said("", text) == ["-2: listener[0].trusted_peers: unknown key; it belongs into [listener.http]"]
    assert said("idle_connections = 5") == [
        "1: pool.web.idle_connections: unknown key; it belongs into [pool.web.http]"
    ]


def test_a_redirect_to_https_is_one_line_and_needs_no_pool() -> None:
    clear = '[[listener]]\nbind = "127.0.0.1:80"\nprotocol = "http"\nhttp = { redirect_https = true }\n'
    assert said("", clear) == []
    assert said("", clear.replace("true", "false")) == [
        '-3: listener[0].pool: is missing, and no route is for this listener; write pool = "NAME"'
    ]
    served = clear + 'pool = "web"\n[pool.web]\nbackends = "10.0.0.1:80"\n'
    assert said("", served) == [
        "-2: warning: listener[0].pool: is never used: redirect_https sends every client of this listener elsewhere"
    ]
    assert said("", served.replace("true", 'true, trusted_peers = "10.0.0.9"')) == []


def tls(text: str) -> list[str]:
    """The problems of an HTTPS listener; its files are not there."""
    base = BASE.partition("[pool")[0] + '[listener.tls]\ncert = "a.pem"\n'
    problems = loads(f'{base}{text}\n[pool.web]\nbackends = "10.0.0.1:80"\n', "f", read_files=False).problems
    return [f"{p.severity}: {p.key}: {p.message}" for p in problems]


ONLY = 'but this listener speaks HTTP/1.1 only; write "http/1.1", or leave the key out'
HTTPS = [
    ('alpn = ["h2", "http/1.1"]', [f'error: listener[0].tls.alpn[0]: is "h2", {ONLY}']),
    ('alpn = ["http/1.1", "http/1.0"]', [f'error: listener[0].tls.alpn[1]: is "http/1.0", {ONLY}']),
    ('[[listener.tls.site]]\nnames = "a.example"\nalpn = "h2"',
     [f'error: listener[0].tls.site[0].alpn: is "h2", {ONLY}']),
    ("http = { redirect_https = true }".replace("http", "[listener.http]\nredirect_https = true #", 1),
     ["warning: listener[0].http.redirect_https: has no effect: with tls here nothing comes in clear"]),
    ('alpn = "http/1.1"\n[[listener.tls.site]]\nnames = "a.example"\nalpn = []', []),
    ('client_ca = "ca.pem"\n[listener.http]\nhsts = "1y"\nclient_cert = true', []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problems"), HTTPS)
def test_http_with_tls(text: str, problems: list[str]) -> None:
    assert tls(text) == problems


def test_an_https_listener_agrees_on_http_1_1_alone() -> None:
    base = BASE.partition("[pool")[0] + '[listener.tls]\ncert = "a.pem"\n[[listener.tls.site]]\nnames = "a.example"\n'
    loaded = loads(base + '[pool.web]\nbackends = "10.0.0.1:80"\n', "f", read_files=False)
    assert loaded.configuration is not None
    settings = loaded.configuration.listeners[0].tls
    assert settings is not None
    assert (settings.policy.alpn, settings.sites[0].policy.alpn) == (("http/1.1",), ("http/1.1",))


def test_a_tcp_listener_has_no_use_for_http() -> None:
    text = BASE.replace('protocol = "http"\n', "http = {}\n")
    assert said("", text) == [
        '-3: listener[0].http: is for HTTP, and this listener speaks TCP; write protocol = "http"'
    ]
    for value in ("htp", 5):
        # What the listener was meant to speak is not known.
        text = BASE.replace('protocol = "http"\n', f'protocol = "{value}"\nhttp = {{}}\n')
        assert len(said("", text)) == 1
    text = BASE.replace('protocol = "http"\n', "timeouts = { request_head = 5, backend_idle = 3, connect = 1 }\n")
    assert said("", text) == [
        f"-3: warning: listener[0].timeouts.{key}: has no effect: it is for HTTP, and this listener speaks TCP"
        for key in ("request_head", "backend_idle")
    ]


STATUS = 'it must be a status such as 200, or a range such as "200-399"'
STICKY = '"cookie", "client_ip", "header:NAME" or "cookie:NAME"'
KEYS = '"client_ip", "path", "host", "sni", "header:NAME", "cookie:NAME" or "query:NAME"'
TIME = 'a time such as "5s" or "1h30m"'
POOL = [
    ('hash_key = "clientip"', "hash_key", f'is "clientip", it must be {KEYS}; did you mean "client_ip"?'),
    ('hash_key = "header"', "hash_key", 'is "header"; write the name with it, as in "header:NAME"'),
    ('hash_key = "heder:X"', "hash_key", f'is "heder:X", it must be {KEYS}'),
    ('hash_key = "header:Host"', "hash_key", 'is "header:Host"; write "host"'),
    ('hash_key = "header:Connection"', "hash_key",
     '"Connection" belongs to the connection, so routes cannot go by it'),
    ('hash_key = "cookie:a b"', "hash_key",
     'is "a b", it must be the name of a cookie, of letters, digits, dashes and underscores'),
    ('hash_key = "query:a&b"', "hash_key",
     '"a&b" is no name; write printable ASCII characters without blanks and without & = # ;'),
    ("hash_key = 5", "hash_key", f"is 5, it must be {KEYS}"),
    ('sticky = "coky"', "sticky", f'is "coky", it must be {STICKY}; did you mean "cookie"?'),
    ("sticky = true", "sticky", f"is true, it must be {STICKY} or a table"),
    ("sticky = {}", "sticky.by", 'is missing; say what tells clients apart, as in by = "cookie"'),
    ('sticky = { by = "cookie", name = "a b" }', "sticky.name",
     'is "a b", it must be the name of a cookie, of letters, digits, dashes and underscores'),
    ('sticky = { by = "cookie", key_file = "" }', "sticky.key_file", "is empty, it must be a path"),
    ('sticky = { by = "cookie", key_file = "no" }', "sticky.key_file", "/d/no: there is no such file"),
    ('sticky = { by = "cookie", max_age = 0 }', "sticky.max_age", "is 0, it must be from 1s to 3650d"),
    ('sticky = { by = "cookie", max_idle = "1" }', "sticky.max_idle",
     f'is "1", it must be {TIME}, from 1s to 3650d'),
    ('sticky = { by = "cookie", max_life = "11y" }', "sticky.max_life", 'is "11y", it must be from 1s to 3650d'),
    ('sticky = { by = "cookie", same_site = "Lax" }', "sticky.same_site",
     'is "Lax", it must be "lax", "strict" or "none"; did you mean "lax"?'),
    ('sticky = { by = "cookie", domain = ".a.example" }', "sticky.domain",
     'is ".a.example", it must be a name such as "a.example", without port or scheme'),
    ('sticky = { by = "cookie", strict = 1 }', "sticky.strict", "is 1, it must be true or false (without quotes)"),
    ('sticky = { by = "client_ip", table_size = 0 }', "sticky.table_size",
     "is 0, it must be a whole number from 1 to 10000000"),
    ('sticky = { by = "client_ip", table_idle = 0 }', "sticky.table_idle", "is 0, it must be from 1ms to 365d"),
    ("http = { idle_connections = -1 }", "http.idle_connections",
     "is -1, it must be a whole number from 0 to 100000"),
    ("http = { max_requests = 0 }", "http.max_requests", "is 0, it must be a whole number from 1 to 1000000000"),
    ("http = { max_life = 0 }", "http.max_life", 'is 0, it must be from 1ms to 365d ("none" switches it off)'),
    ('http = { version = "2" }', "http.version", 'is "2", it must be "1.1" or "1.0"'),
    ("http = { version = 1.1 }", "http.version", 'is 1.1, it must be "1.1" or "1.0"'),
    ("http = { conceal = 1 }", "http.conceal", "is 1, it must be true or false (without quotes)"),
    ("http = true", "http", "is true, it must be a table"),
    ("load_report = {}", "load_report.port", "is missing; say where the load is told, as in port = 9000"),
    ("load_report = { port = 0 }", "load_report.port", "is 0, it must be a whole number from 1 to 65535"),
    ("load_report = { port = 1, interval = 0 }", "load_report.interval", "is 0, it must be from 1ms to 365d"),
    ("load_report = { port = 1, timeout = 0 }", "load_report.timeout", "is 0, it must be from 1ms to 365d"),
    ("load_report = 9000", "load_report", "is 9000, it must be a table"),
    ('check = { path = "health" }', "check.path", 'is "health", it must be a path such as "/health"'),
    ('check = { path = "/a b" }', "check.path", 'is "/a b", it must be a path such as "/health"'),
    ('check = { method = "get" }', "check.method", 'is "get"; methods go by case, write "GET"'),
    ('check = { method = "CONNECT" }', "check.method", 'is "CONNECT", which is always refused and never routed'),
    ('check = { host = "a b" }', "check.host",
     'is "a b", it must be a host such as "a.example" or "a.example:8080"'),
    ('check = { headers = { Host = "a" } }', "check.headers.Host", "the Host of a check is set with host"),
    ('check = { headers = { Connection = "a" } }', "check.headers.Connection",
     "'Connection' belongs to the connection or tells how long a message is, and cannot be edited"),
    ('check = { headers = { X-A = "a\\nb" } }', "check.headers.X-A",
     'is "a\\nb", it must be printable ASCII text without blanks at its ends'),
    ("check = { headers = {} }", "check.headers", "is empty; leave the key out"),
    ("check = { status = 99 }", "check.status", f"is 99, {STATUS}"),
    ('check = { status = [200, "3xx"] }', "check.status[1]", f'is "3xx", {STATUS}'),
    ('check = { status = "399-200" }', "check.status", 'is "399-200"; the lower status comes first'),
    ("check = { status = [] }", "check.status", "is empty, so no answer would pass"),
    (f'check = {{ body = "{"x" * 5000}" }}', "check.body", "has 5000 bytes, at most 4096 are allowed"),
    ('check = { path = "/", send = "a" }', "check.send",
     "does not go with path: a check sends either bytes or a request"),
    ('check = { status = 200, expect = "a" }', "check.expect",
     "does not go with status: a check sends either bytes or a request"),
    ('check = { method = "HEAD", body = "ok" }', "check.body",
     'does not go with method = "HEAD", whose answers have no body'),
    ('tls = { alpn = ["http/1.1", "h2"] }', "tls.alpn[1]",
     'is "h2", but backends are spoken to in HTTP/1.1; write "http/1.1", or leave the key out'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "key", "message"), POOL)
def test_a_key_of_a_pool(line: str, key: str, message: str) -> None:
    assert said(line) == [f"1: pool.web.{key}: {message}"]


KEY_FILE = "sticky = { by = 'cookie', key_file = 'KEYS'"
POOL_WARNINGS = [
    ("sticky = 'cookie'", "sticky", "has no key_file, so its secret is made at start: after a restart, and on other "
     "machines, cookies do not count"),
    ("sticky = { by = 'client_ip', name = 'a' }", "sticky.name", 'has no effect with by = "client_ip"'),
    ("sticky = { by = 'header:X', domain = 'a.example' }", "sticky.domain", 'has no effect with by = "header:x"'),
    (KEY_FILE + ", table_size = 5 }", "sticky.table_size", 'has no effect with by = "cookie"'),
    (KEY_FILE + ", max_idle = '1h', max_life = '30m' }", "sticky.max_idle", "is 1h and never reached: max_life is 30m"),
    (KEY_FILE + ", same_site = 'none' }", "sticky.same_site", 'is "none", which browsers accept on TLS only, but the '
     'listener "web" is in clear'),
    ("policy = 'maglev'\nsticky = 'client_ip'", "sticky", 'decides before the policy "maglev"; one of them is enough'),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "key", "message"), POOL_WARNINGS)
def test_a_key_of_a_pool_that_is_hardly_meant(tmp_path: Path, lines: str, key: str, message: str) -> None:
    (tmp_path / "keys").write_text("a secret that is long enough\n")
    line = lines.count("\n") + 1
    assert said(lines.replace("KEYS", str(tmp_path / "keys"))) == [f"{line}: warning: pool.web.{key}: {message}"]


def test_no_load_is_told_behind_unix_sockets() -> None:
    text = BASE.replace("10.0.0.1:80", "unix:/run/app.sock")
    assert said("load_report = { port = 9000 }", text) == [
        "1: warning: pool.web.load_report: has no effect: every backend is a UNIX socket"
    ]


RELAYED = BASE.replace('protocol = "http"\n', "")


def test_what_needs_http_is_not_for_pools_of_tcp() -> None:
    assert said("policy = 'maglev'\nhash_key = 'path'", RELAYED) == [
        '2: pool.web.hash_key: is "path", which needs HTTP, but the listener "web" speaks TCP and uses this pool; '
        'write "client_ip"'
    ]
    assert said("sticky = 'client_ip'", RELAYED) == [
        '1: pool.web.sticky: needs HTTP, but the listener "web" speaks TCP; for one backend per client write '
        'policy = "maglev"'
    ]
    assert said("http = { conceal = true }", RELAYED) == [
        "1: warning: pool.web.http: has no effect: every listener that uses this pool speaks TCP"
    ]
    assert said("policy = 'maglev'\nhash_key = 'client_ip'", RELAYED) == []
    # A check asks what it asks, whoever the clients are.
    assert said("check = { path = '/health' }", RELAYED) == []
    assert said("tls = { alpn = 'h2' }", RELAYED) == []


def test_a_pool_of_both_may_stick_but_not_hash_what_tcp_lacks() -> None:
    both = (
        RELAYED + '[[listener]]\nname = "front"\nbind = "127.0.0.1:81"\nprotocol = "http"\npool = "web"\n[pool.web]\n'
    )
    both = both.replace("[pool.web]\nbackends", "backends", 1).replace('backends = "10.0.0.1:80"\n', "")
    both += 'backends = "10.0.0.1:80"\n'
    assert said("sticky = 'client_ip'\nhttp = { conceal = true }", both) == []
    assert len(said("policy = 'maglev'\nhash_key = 'path'", both)) == 1


# --- files ----------------------------------------------------------------------------------------------------------


def of_file(tmp_path: Path, line: str, name: str, content: bytes) -> list[str]:
    (tmp_path / name).write_bytes(content)
    problems = loads(f"{BASE}{line.replace('FILE', name)}\n", str(tmp_path / "f")).problems
    return [f"{p.line - BASE_LINES}: {p.key}: {p.message.replace(str(tmp_path), 'DIR')}" for p in problems]


SECRETS = [
    (b"\n# nothing\n", "DIR/keys: holds no secret; write one on a line of its own, for example 32 random bytes in "
     "base64"),
    (b"0123456789abcdef\nshort\n", "DIR/keys: line 2 has 5 characters, a secret has at least 16"),
    (b"0123456789abcdef\n\n0123456789abcdef\n", "DIR/keys: line 3 is the same as line 1"),
    (b"", "DIR/keys: is empty"),
    (b"x" * 70_000, "DIR/keys: is larger than 64 KiB, more than is kept in memory"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "problem"), SECRETS)
def test_a_file_of_secrets(tmp_path: Path, content: bytes, problem: str) -> None:
    line = 'sticky = { by = "cookie", key_file = "FILE" }'
    assert of_file(tmp_path, line, "keys", content) == [f"1: pool.web.sticky.key_file: {problem}"]


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("AAECAwQFBgcICQoLDA0ODw==", bytes(range(16))),
        # Base64 of too few bytes, and what only looks like base64, are taken as they stand.
        ("abcdefghijklmnop", b"abcdefghijklmnop"),
        ("AAECAwQFBgcICQoLDA0ODx==", b"AAECAwQFBgcICQoLDA0ODx=="),
        ("\tsixteen letters!!", b"sixteen letters!!"),
    ],
)
def test_a_secret(tmp_path: Path, line: str, secret: bytes) -> None:
    (tmp_path / "keys").write_text(line)
    text = f'{BASE}sticky = {{ by = "cookie", key_file = "keys" }}\n'
    configuration = loads(text, str(tmp_path / "f")).configuration
    assert configuration is not None
    assert configuration.pools[0].http.sticky == StickySettings(keys=(secret,))


def test_the_file_of_an_answer(tmp_path: Path) -> None:
    line = '[[route]]\npath = "/a"\nanswer = { file = "FILE" }'
    assert of_file(tmp_path, line, "a.txt", b"x" * 65536) == []
    assert of_file(tmp_path, line, "a.txt", b"x" * 65537) == [
        "3: route[0].answer.file: DIR/a.txt: is larger than 64 KiB, more than is kept in memory"
    ]
    assert of_file(tmp_path, line, "a.bin", b"x") == [
        "3: route[0].answer.file: a.bin ends in none of .html, .json and .txt, so its type is unknown"
    ]
    assert of_file(tmp_path, line.replace(" }", ', content_type = "a/b" }'), "a.bin", b"x") == []


def test_files_are_left_alone_where_they_are_not_to_be_read() -> None:
    text = EVERYTHING + '[[route]]\npath = "/x"\nanswer = { file = "a.xml" }\n'
    loaded = loads(text, "/nowhere/f", read_files=False)
    assert [problem.key for problem in loaded.errors] == ["route[6].answer.file"]
    loaded = loads(EVERYTHING, "/nowhere/f", read_files=False)
    assert loaded.configuration is not None
    assert loaded.configuration.listeners[0].http.error_pages[0] == ErrorPage(503, b"")
