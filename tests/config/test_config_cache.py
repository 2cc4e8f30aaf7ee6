"""The tables about the cache and compression: what becomes of them, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from lbproxy.addresses import NetworkSet
from lbproxy.config import loads
from lbproxy.model import Configuration
from lbproxy.model_cache import (
    MIB,
    CacheSettings,
    CompressSettings,
    DecompressSettings,
    DiskSettings,
    KeySettings,
    RouteCacheSettings,
)
from lbproxy.model_http import Condition, HttpRouteSettings, NamedMatch, ValueMatch

BASE = """\
[[listener]]
name = "web"
bind = "127.0.0.1:80"
protocol = "http"
pool = "web"
[pool.web]
backends = "10.0.0.1:80"
"""
ROUTE = '[[route]]\npath = "/"\nlistener = "web"\npool = "web"\n'
CACHING = ROUTE + "cache = true\n"


def said(addition: str, base: str = BASE) -> list[str]:
    """The problems of the base with this appended, their lines counted from the addition."""
    lines = base.count("\n")
    word = {"error": "", "warning": "warning: "}
    return [
        f"{p.line - lines}: {word[p.severity]}{p.key}: {p.message}" for p in loads(base + addition, "/d/f").problems
    ]


def loaded(addition: str, file: str | None = "/d/f") -> Configuration:
    """What the base with this appended makes; without any problem."""
    made = loads(BASE + addition, file or "")
    assert made.problems == ()
    assert made.configuration is not None
    return made.configuration


def http_of(lines: str) -> HttpRouteSettings:
    """What these lines of a route make."""
    http = loaded(f"{ROUTE}{lines}\n").routes[0].http
    assert http is not None
    return http


# --- what becomes of them -------------------------------------------------------------------------------------------


def test_without_a_word_about_it_nothing_is_stored_and_nothing_compressed() -> None:
    http = http_of("")
    assert (http.cache, http.compress, http.decompress) == (None, None, None)
    assert loaded("").cache == CacheSettings()
    http = http_of("cache = false\ncompress = false\ndecompress_requests = false")
    assert (http.cache, http.compress, http.decompress) == (None, None, None)


def test_one_word_switches_each_of_them_on_with_the_defaults_of_the_model() -> None:
    http = http_of("cache = true\ncompress = true\ndecompress_requests = true")
    assert http.cache == RouteCacheSettings()
    assert http.compress == CompressSettings()
    assert http.decompress == DecompressSettings()
    assert (http.cache_bypass, http.cache_no_store) == ((), ())


def test_every_key_of_the_store_gets_to_the_model() -> None:
    text = """\
[cache]
memory = "1GiB"
max_object = "16MiB"
waiters = 10
wait = "500ms"
hit_for_miss = 0
variants = 5
[cache.disk]
path = "store"
size = "2GiB"
max_object = "1GiB"
"""
    assert loaded(text + CACHING).cache == CacheSettings(
        memory=1024 * MIB,
        max_object=16 * MIB,
        disk=DiskSettings("/d/store", 2048 * MIB, 1024 * MIB),
        waiters=10,
        wait=0.5,
        hit_for_miss=0.0,
        variants=5,
    )


@pytest.mark.parametrize(("written", "meant"), [("/var/store", "/var/store"), ("store", "/d/store")])
def test_a_directory_may_be_written_alone_and_counts_from_the_file(written: str, meant: str) -> None:
    assert loaded(f'[cache]\ndisk = "{written}"\n{CACHING}').cache.disk == DiskSettings(meant)


def test_the_largest_object_that_nobody_wrote_fits_its_store() -> None:
    cache = loaded(f'[cache]\nmemory = "4MiB"\ndisk = {{ path = "/s", size = "100MiB" }}\n{CACHING}').cache
    assert (cache.max_object, cache.disk) == (2 * MIB, DiskSettings("/s", 100 * MIB, 50 * MIB))


def test_every_key_of_a_route_that_caches_gets_to_the_model() -> None:
    http = http_of("""\
[route.cache]
ttl = "1m"
default_ttl = 0
max_ttl = "1y"
heuristic = false
stale_while_revalidate = "10s"
stale_if_error = "1d"
cdn_cache_control = false
client_revalidate = "honour"
ignore_set_cookie = true
collapse = false
cache_status = false
bypass = { cookie = { session = true } }
no_store = [{ path = "/a/" }, { client = "10.0.0.0/8", not = { method = "HEAD" } }]
[route.cache.key]
ignore_query = ["utm_*", "fbclid"]
sort_query = true
headers = ["X-Tenant", "X-Country", "x-tenant"]
cookies = "currency"
""")
    assert http.cache == RouteCacheSettings(
        key=KeySettings(("utm_*", "fbclid"), None, True, ("x-country", "x-tenant"), ("currency",)),
        ttl=60.0,
        default_ttl=0.0,
        max_ttl=365 * 86400.0,
        heuristic=False,
        stale_while_revalidate=10.0,
        stale_if_error=86400.0,
        targeted=False,
        honour_clients=True,
        ignore_set_cookie=True,
        collapse=False,
        told=False,
    )
    assert http.cache_bypass == (Condition(cookies=(NamedMatch("session", ValueMatch("present")),)),)
    assert http.cache_no_store == (
        Condition(paths=("/a/",)),
        Condition(clients=NetworkSet(["10.0.0.0/8"]), none=(Condition(methods=("HEAD",)),)),
    )


@pytest.mark.parametrize(
    ("written", "only"), [("[]", ()), ('"*"', ("*",)), ('"id"', ("id",)), ('["id", "page"]', ("id", "page"))]
)
def test_only_some_parameters_may_count_or_none(written: str, only: tuple[str, ...]) -> None:
    cache = http_of(f"cache = {{ key = {{ only_query = {written} }} }}").cache
    assert cache is not None
    assert cache.key == KeySettings(only_query=only)


def test_every_key_of_compression_gets_to_the_model() -> None:
    http = http_of("""\
compress = { codings = ["gzip", "br"], br_level = 0, gzip_level = 9, min_size = 0, types = "Application/X-A", \
private = true, events = true, offload = true, decode = false }
decompress_requests = { ratio = 2, max_size = "1KiB" }
""")
    assert http.compress == CompressSettings(("gzip", "br"), 3, 0, 9, 0, ("application/x-a",), True, True, True, False)
    assert http.decompress == DecompressSettings(2, 1024)
    http = http_of('compress = { codings = "zstd", zstd_level = 19 }')
    assert http.compress == CompressSettings(("zstd",), 19)


def test_an_answer_of_our_own_may_be_compressed() -> None:
    route = '[[route]]\npath = "/"\nlistener = "web"\nanswer = { body = "a" }\ncompress = true\n'
    http = loaded(route).routes[0].http
    assert http is not None
    assert http.compress == CompressSettings()


def test_a_split_may_cache() -> None:
    text = '[[route]]\npath = "/"\nlistener = "web"\nsplit = { web = 1, next = 1 }\ncache = true\n'
    http = loaded(text + '[pool.next]\nbackends = "10.0.0.2:80"\n').routes[0].http
    assert http is not None
    assert http.cache == RouteCacheSettings()


# --- what is said of those that are wrong ---------------------------------------------------------------------------

SWITCH = "it must be true, false or a table"
STORE = [
    ('memory = "512KiB"', "memory", 'is "512KiB", it must be from 1MiB to 1048576GiB'),
    ('memory = "1GB"', "memory", 'is "1GB", write it as "1GiB"'),
    ("memroy = 5", "memroy", 'unknown key; did you mean "memory"?'),
    ('max_object = "65MiB"', "max_object", "is 65MiB, it must not be more than half of memory, 128MiB: one answer "
     "would drive out all others"),
    ("waiters = -1", "waiters", "is -1, it must be a whole number from 0 to 1000000"),
    ("wait = 0", "wait", "is 0, it must be from 1ms to 1h"),
    ('hit_for_miss = "2d"', "hit_for_miss", 'is "2d", it must be from 0s to 1d'),
    ("variants = 0", "variants", "is 0, it must be a whole number from 1 to 10000"),
    ("disk = true", "disk", "is true, it must be a directory or a table"),
    ('disk = ""', "disk", "is empty, it must be a path"),
    ("disk = {}", "disk.path", 'is missing; name the directory, as in path = "/var/cache/lbproxy"'),
    ('disk = { path = "/s", szie = 5 }', "disk.szie", 'unknown key; did you mean "size"?'),
    ('disk = { path = "/s", size = "1GiB", max_object = "513MiB" }', "disk.max_object",
     "is 513MiB, it must not be more than half of size, 1GiB: one answer would drive out all others"),
]  # fmt: skip
CACHE = [
    ("cache = 5", "", f"is 5, {SWITCH}"),
    ('cache = "yes"', "", f'is "yes", {SWITCH}'),
    ("cache = { tll = 5 }", ".tll", 'unknown key; did you mean "ttl"?'),
    ("cache = { ttl = -1 }", ".ttl", "is -1, it must be from 0s to 3650d"),
    ('cache = { ttl = "none" }', ".ttl", 'is "none", it must be a time such as "5s" or "1h30m", from 0s to 3650d'),
    ('cache = { ttl = "2h", max_ttl = "1h" }', ".ttl", "is 2h, it must not be more than max_ttl, 1h"),
    ('cache = { default_ttl = "1d", max_ttl = "1h" }', ".default_ttl", "is 1d, it must not be more than max_ttl, 1h"),
    ('cache = { client_revalidate = "honor" }', ".client_revalidate", 'is "honor"; write "honour"'),
    ("cache = { client_revalidate = true }", ".client_revalidate", 'is true, it must be "ignore" or "honour"'),
    ("cache = { collapse = 1 }", ".collapse", "is 1, it must be true or false (without quotes)"),
    ('cache = { key = "url" }', ".key", 'is "url", it must be a table'),
    ("cache = { key = { ignore = [] } }", ".key.ignore", 'unknown key; did you mean "ignore_query"?'),
    ("cache = { key = { ignore_query = [] } }", ".key.ignore_query", "is empty; leave the key out"),
    ('cache = { key = { ignore_query = ["a", "b*c"] } }', ".key.ignore_query[1]", 'is "b*c"; a star stands at the end '
     "only"),
    ('cache = { key = { ignore_query = "a=b" } }', ".key.ignore_query", '"a=b" is no name; write printable ASCII '
     "characters without blanks and without & = # ;"),
    ('cache = { key = { ignore_query = "a", only_query = "b" } }', ".key.ignore_query", "does not go with only_query, "
     "which ignores all that it does not name"),
    ('cache = { key = { headers = "Host" } }', ".key.headers", '"Host" is part of every key; leave it out'),
    ('cache = { key = { headers = "cookie" } }', ".key.headers", '"cookie" holds far more than one value; write '
     "cookies with the names of those that count"),
    ('cache = { key = { headers = "Accept-Encoding" } }', ".key.headers", '"Accept-Encoding" is taken care of: each '
     "coding of an answer is kept apart"),
    ('cache = { key = { headers = "If-None-Match" } }', ".key.headers", '"If-None-Match" asks whether an answer is '
     "still right, and is no part of what is asked for"),
    ('cache = { key = { headers = ["X-A", "Connection"] } }', ".key.headers[1]", '"Connection" belongs to the '
     "connection, so routes cannot go by it"),
    ('cache = { key = { headers = "X-Forwarded-For" } }', ".key.headers", '"X-Forwarded-For" is believed from '
     "trusted_peers only, so routes cannot go by it; use client or host"),
    ('cache = { key = { cookies = "a b" } }', ".key.cookies", 'is "a b", it must be the name of a cookie, of letters, '
     "digits, dashes and underscores"),
    ("cache = { bypass = [] }", ".bypass", "is empty; leave the key out"),
    ("cache = { bypass = true }", ".bypass", "is true, it must be a table"),
    ("cache = { bypass = {} }", ".bypass", 'is an empty condition; write in it what must hold, as in '
     '{ host = "a.example" }'),
    ('cache = { bypass = [{ path = "/a" }, {}] }', ".bypass[1]", 'is an empty condition; write in it what must hold, '
     'as in { host = "a.example" }'),
    ("cache = { no_store = { cokie = { a = true } } }", ".no_store.cokie", 'unknown key; did you mean "cookie"?'),
    ('cache = { no_store = { not = { path = "/a//b" } } }', ".no_store.not.path", 'is "/a//b"; // is taken for /, so '
     'write "/a/b", or merge_slashes = false'),
    ("cache = { bypass = " + "{ all = " * 9 + '{ host = "a" }' + " }" * 9 + " }", ".bypass" + ".all" * 8,
     "nests conditions more than 8 deep"),
]  # fmt: skip
COMPRESS = [
    ('compress = "gzip"', "compress", f'is "gzip", {SWITCH}'),
    ("compress = { codings = [] }", "compress.codings", "is empty; write compress = false for none"),
    ('compress = { codings = "brotli" }', "compress.codings", 'is "brotli"; write "br"'),
    ('compress = { codings = "deflate" }', "compress.codings", 'is "deflate"; clients mean two different things by it, '
     'write "gzip"'),
    ('compress = { codings = ["br", "gizp"] }', "compress.codings[1]", 'is "gizp", it must be "zstd", "br" or "gzip"; '
     'did you mean "gzip"?'),
    ('compress = { codings = ["br", "gzip", "br"] }', "compress.codings[2]", 'is "br", which is there already'),
    ("compress = { zstd_level = 20 }", "compress.zstd_level", "is 20, it must be a whole number from 1 to 19"),
    ("compress = { br_level = 12 }", "compress.br_level", "is 12, it must be a whole number from 0 to 11"),
    ("compress = { gzip_level = 0 }", "compress.gzip_level", "is 0, it must be a whole number from 1 to 9"),
    ("compress = { level = 5 }", "compress.level", 'unknown key; did you mean "br_level"?'),
    ('compress = { types = "text/*" }', "compress.types", 'is "text/*"; write each type by its full name'),
    ('compress = { types = "html" }', "compress.types", 'is "html", it must be a media type such as '
     '"application/x-font"'),
    ("decompress_requests = 100", "decompress_requests", f"is 100, {SWITCH}"),
    ("decompress_requests = { ratio = 1 }", "decompress_requests.ratio", "is 1, it must be a whole number from 2 to "
     "1000000"),
    ("decompress_requests = { max_size = 5 }", "decompress_requests.max_size", "is 5, it must be from 1KiB to 1024GiB"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "key", "message"), STORE)
def test_a_key_of_the_store(line: str, key: str, message: str) -> None:
    assert said(f"[cache]\n{line}\n{CACHING}") == [f"2: cache.{key}: {message}"]


@pytest.mark.parametrize(("line", "key", "message"), CACHE)
def test_a_key_of_a_route_that_caches(line: str, key: str, message: str) -> None:
    assert said(f"{ROUTE}{line}\n") == [f"5: route[0].cache{key}: {message}"]


@pytest.mark.parametrize(("line", "key", "message"), COMPRESS)
def test_a_key_of_a_route_that_compresses(line: str, key: str, message: str) -> None:
    assert said(f"{ROUTE}{line}\n") == [f"5: route[0].{key}: {message}"]


@pytest.mark.parametrize("action", ['redirect = "/a"', 'answer = { body = "a" }'])
def test_a_route_that_asks_no_backend_cannot_cache(action: str) -> None:
    route = f'[[route]]\npath = "/"\nlistener = "web"\n{action}\ncache = true\n'
    key = action.partition(" ")[0]
    assert said(route) == [
        f"5: route[0].cache: does not go with {key}: such a route asks no backend, so there is nothing to store"
    ]


def test_of_a_route_without_anything_to_do_only_that_is_said() -> None:
    route = '[[route]]\nhost = "a.example"\nlistener = "web"\ncache = true\n'
    assert [problem.partition("; ")[0] for problem in said(route)] == ["1: route[0].pool: is missing"]
    # What cannot be read might be a pool.
    assert [problem.partition(": is")[0] for problem in said(f"{route}pool = 5\n")] == ["5: route[0].pool"]


@pytest.mark.parametrize("key", ["cache", "compress", "decompress_requests"])
def test_it_is_for_http(key: str) -> None:
    tcp = '[[listener]]\nname = "tcp"\nbind = "127.0.0.1:82"\npool = "web"\n'
    assert said(f'{tcp}[[route]]\nlistener = "tcp"\nclient = "10.0.0.0/8"\npool = "web"\n{key} = true\n') == [
        f'6: route[0].listener: the listener "tcp" speaks TCP, and {key} is for HTTP; write protocol = "http" there'
    ]


ELSEWHERE = [
    ("cache", "a cache is switched on for each route, with cache = true in its [[route]]"),
    ("compress", "compression is switched on for each route, with compress = true in its [[route]]"),
    ("gzip", "compression is switched on for each route, with compress = true in its [[route]]"),
]


@pytest.mark.parametrize(("key", "message"), ELSEWHERE)
def test_who_writes_it_elsewhere_is_told_where_it_belongs(key: str, message: str) -> None:
    assert said(f"{key} = true\n") == [f"1: pool.web.{key}: unknown key; {message}"]


WARNINGS = [
    (f"[cache]\nwaiters = 5\n{ROUTE}", "1: warning: cache: has no effect: no route caches; write cache = true in a "
     "[[route]]"),
    (f"{ROUTE}cache = {{ default_ttl = 5, heuristic = true }}\n", "5: warning: route[0].cache.heuristic: has no effect "
     "with default_ttl: nothing is left to be guessed"),
    (f'{ROUTE}cache = {{ key = {{ ignore_query = "*", sort_query = true }} }}\n', "5: warning: "
     "route[0].cache.key.sort_query: has no effect: no parameter counts"),
    (f"{ROUTE}cache = {{ key = {{ only_query = [], sort_query = true }} }}\n", "5: warning: "
     "route[0].cache.key.sort_query: has no effect: no parameter counts"),
    (f"{ROUTE}cache = {{ max_ttl = 0 }}\n", "5: warning: route[0].cache.max_ttl: is 0s: no answer is ever fresh, and "
     "every request asks a backend"),
    (f'{ROUTE}compress = {{ codings = "gzip", br_level = 5 }}\n', "5: warning: route[0].compress.br_level: has no "
     'effect: codings are without "br"'),
    ('[[route]]\npath = "/a"\nlistener = "web"\nredirect = "/b"\ncompress = true\n', "5: warning: route[0].compress: "
     "has no effect: a redirect has nothing to compress"),
    ('[[route]]\npath = "/a"\nlistener = "web"\nanswer = {}\ndecompress_requests = true\n', "5: warning: "
     "route[0].decompress_requests: has no effect: this route sends nothing to a pool"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "warning"), WARNINGS)
def test_what_works_but_hardly_as_meant(text: str, warning: str) -> None:
    assert said(text) == [warning]


def test_what_cannot_be_read_is_not_complained_about_twice() -> None:
    text = f"""\
[cache]
memory = "a"
max_object = "1GiB"
disk = {{ path = "/s", size = 1, max_object = "1GiB" }}
{ROUTE}
[route.cache]
max_ttl = "a"
ttl = "1h"
key = {{ only_query = 5, ignore_query = "a" }}
"""
    assert [": ".join(problem.split(": ")[:2]) for problem in said(text)] == [
        "2: cache.memory",
        "4: cache.disk.size",
        "11: route[0].cache.max_ttl",
        "13: route[0].cache.key.only_query",
    ]
