"""Any input gives problems or a configuration that makes sense; never a traceback, never silence about nonsense."""

from __future__ import annotations

import copy
import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy import model, model_http
from lbproxy.config import Loaded, loads, quick
from lbproxy.config.loading import examine
from lbproxy.config.places import Places
from lbproxy.http.edits import Edits
from lbproxy.http.rewriting import Rewriter
from lbproxy.http.templates import Template
from lbproxy.routing import RoutingTable
from lbproxy.routing.splitting import Splitter
from tests.config.test_config_http import EVERYTHING as EVERYTHING_HTTP
from tests.config.test_config_loading import EVERYTHING

ETC = Path(__file__).parents[2] / "etc"
TEXTS = [EVERYTHING, EVERYTHING_HTTP, *(path.read_text(encoding="utf-8") for path in sorted(ETC.glob("*.toml")))]

FRAGMENTS = st.sampled_from([
    "nan", "inf", "-inf", "true", "false", "0", "-1", "1e400", "0x" + "f" * 40, "9" * 400, "[]", "{}", '""', '"none"',
    '"web"', '"5s"', "[[listener]]", "[listener]", "[pool.web]", "[[pool.web]]", "[pool]", "=", ".", ",", '"', "'''",
    "[" * 300, "]", "{", "}", "\n", "#", "\\", "\0", "\ud7ff", "\U0001f600", "1979-05-27", "07:32:00", "-", "_",
    '"127.0.0.1:80"', '["0.0.0.0:80", "[::]:80"]', '"systemd:x"', "name", "bind", "pool", "backends", "from",
])  # fmt: skip

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([
        math.nan, math.inf, -math.inf, True, False, 0, -1, 10**400, 1e300, 0.0, "", "none", "web", "front", "5s", [],
        {}, "127.0.0.1:80", "0.0.0.0:80", "[::1]:80", "unix:/run/b", "systemd:x", "10.0.0.0/8", "0.0.0.0/0", "a" * 1000,
        "x\0y", "first", "maglev", "required", "/", "a.pem", "*.a.example", "h2", 1, 2, 3.5, 65536, [[]], [{}],
        {"address": "10.0.0.1:1"}, {"": 1}, "\n", "ü", "tcp", "http", "cookie", "header:x", "/a/", "(a+)+", "{1}", "{",
        {"web": 0}, {"prefix": "a"}, {"path": "/"}, {"not": {"any": [{}]}}, 404, "200-299", "GET", "[key]",
    ]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)  # fmt: skip


def sane(loaded: Loaded) -> None:
    """What must hold of whatever was loaded; of a configuration, what the rest of the program relies on."""
    for problem in loaded.problems:
        assert str(problem)
        assert "\n" not in str(problem)
        assert len(problem.message) < 2000
        assert problem.line >= 0
        assert set(problem.as_dict()) == {"file", "line", "key", "message", "severity"}
    assert [p.line for p in loaded.problems] == sorted(p.line for p in loaded.problems) or len(loaded.problems) > 1000
    assert (loaded.configuration is None) == bool(loaded.errors)
    configuration = loaded.configuration
    if configuration is None:
        return
    RoutingTable(configuration)
    assert configuration.listeners
    names = [listener.name for listener in configuration.listeners]
    assert len(set(names)) == len(names)
    binds = [bind for listener in configuration.listeners for bind in listener.binds]
    assert len(set(binds)) == len(binds)
    assert configuration.stop.hard_stop >= configuration.stop.grace
    for pool in configuration.pools:
        assert pool.backends
        assert len({backend.id for backend in pool.backends}) == len(pool.backends)
        assert not {backend.address for backend in pool.backends} & set(binds)
        for backend in pool.backends:
            assert 0 <= backend.weight <= 256
            assert type(backend.weight) is int
            assert backend.address.kind != "systemd"
        assert 0 < pool.check.interval < math.inf
        assert pool.bounded_load is None or 1 < pool.bounded_load <= 2
        for number in dataclasses.astuple(pool.check) + dataclasses.astuple(pool.outlier):
            assert not isinstance(number, float) or math.isfinite(number)
    for listener in configuration.listeners:
        if listener.tls is not None:
            assert listener.tls.certificates
            names = [name for site in listener.tls.sites for name in site.names]
            assert len(set(names)) == len(names)
            for one in listener.tls.certificates:
                assert one.path.startswith("/")
                assert "\0" not in one.path
    for route in configuration.routes:
        assert bool(route.pool) + sum(map(bool, actions_of(route))) == 1
        if route.http is not None:
            kinds = [
                one.protocol for one in configuration.listeners if one.name in (route.listeners or names_of(loaded))
            ]
            assert "tcp" not in kinds
            assert not route.server_names
            Splitter(route.http.split or model_http.Split((("", 1),)), lambda: 0.5)
            Edits.of(route.http.request_fields)
            Edits.of(route.http.response_fields)
            Rewriter.of(route.http.rewrite or model_http.Rewrite(), route.http.merge_slashes)
            Template(route.http.redirect.to if route.http.redirect else "")
            assert route.http.max_body is None or route.http.max_body >= 0
            assert route.http.cache is None or route.pool or route.http.split
            assert route.http.cache is not None or not route.http.cache_bypass + route.http.cache_no_store
    cache = configuration.cache
    assert 0 < cache.max_object <= cache.memory // 2
    assert cache.disk is None or 0 < cache.disk.max_object <= cache.disk.size // 2
    for pool in configuration.pools:
        relayed = {one.pool for one in configuration.listeners if one.protocol == "tcp"}
        assert pool.name not in relayed or pool.hash_key in ("client_ip", "sni")
        assert pool.check.http is None or not (pool.check.send or pool.check.expect)
    for clocks in (configuration.timeouts, *(x.timeouts for x in configuration.listeners + configuration.pools)):
        assert all_positive(clocks)


def names_of(loaded: Loaded) -> list[str]:
    return [listener.name for listener in loaded.configuration.listeners] if loaded.configuration else []


def actions_of(route: model.RouteSettings) -> list[object]:
    return [] if route.http is None else [route.http.split, route.http.redirect, route.http.answer]


def all_positive(clocks: model.TimeoutSettings) -> bool:
    # A rate of 0 is what "none" means.
    rest = dataclasses.replace(clocks, request_body_rate=None)
    assert clocks.request_body_rate is None or clocks.request_body_rate >= 0
    return all(seconds is None or seconds > 0 for seconds in dataclasses.astuple(rest))


@settings(max_examples=200, deadline=None)
@given(text=st.sampled_from(TEXTS), data=st.data())
def test_mutated_text(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        kind = data.draw(st.sampled_from(["insert", "delete", "replace", "line", "value"]))
        if kind == "insert":
            text = text[:at] + data.draw(FRAGMENTS) + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + data.draw(st.integers(1, 30)) :]
        elif kind == "replace":
            text = text[:at] + data.draw(FRAGMENTS) + text[at + data.draw(st.integers(1, 10)) :]
        elif kind == "line":
            lines = text.split("\n")
            lines.insert(data.draw(st.integers(0, len(lines))), data.draw(st.sampled_from(lines)))
            text = "\n".join(lines)
        else:
            # A whole value: what follows an equals sign, to the end of the line.
            start = text.find("=", at) + 1
            end = text.find("\n", start)
            text = text[:start] + " " + data.draw(FRAGMENTS) + text[end:] if start and end > 0 else text
    sane(loads(text, "f", read_files=False))
    sane(loads(text, "f", now=1.8e9))


def places_in(node: Any) -> list[tuple[Any, Any]]:
    """Every container and key of a tree, to change what is there."""
    found: list[tuple[Any, Any]] = []
    if isinstance(node, dict | list):
        for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
            found.append((node, key))
            found += places_in(value)
    return found


@settings(max_examples=300, deadline=None)
@given(text=st.sampled_from(TEXTS), data=st.data())
def test_mutated_values(text: str, data: st.DataObject) -> None:
    tree = tomllib.loads(text)
    for _ in range(data.draw(st.integers(1, 4))):
        spots = places_in(tree)
        if not spots:
            break
        container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        other, other_key = spots[data.draw(st.integers(0, len(spots) - 1))]
        match data.draw(st.sampled_from(["change", "remove", "double", "copy", "rename", "wrap"])):
            case "change":
                # The drawn ones are shared between runs, and a later step may change what is inside.
                container[key] = copy.deepcopy(data.draw(VALUES))
            case "remove":
                del container[key]
            case "double" if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case "copy":
                container[key] = copy.deepcopy(other[other_key])
            case "rename" if isinstance(container, dict):
                new = data.draw(st.one_of(st.text(max_size=5), st.just(str(other_key)), st.just(str(key)[:-1])))
                container[new] = container.pop(key)
            case "wrap":
                container[key] = data.draw(st.sampled_from([[container[key]], {"x": container[key]}]))
            case _:
                pass
    for read_files in (False, True):
        sane(examine(tree, Places(tree, {}), "f", lambda host: len(host) % 2 == 0, now=1.8e9, read_files=read_files))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_text_of_any_kind(text: str) -> None:
    sane(loads(text, "f"))


WORDS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["tcp://", "tcp://127.0.0.1:80", "unix:/x", "127.0.0.1:81", "://", "http://x:1", "tcp://[::]:80",
                     "tls://", "tls://127.0.0.1:443", "/", "a.pem", "a\0b", "https://127.0.0.1:443", "HTTP://unix:/y"]),
    st.just("\udcff"),  # what Python makes of bytes on the command line that are no UTF-8
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(*[st.lists(WORDS, max_size=3)] * 4, st.one_of(st.none(), WORDS))
def test_words_of_any_kind_on_the_command_line(
    listens: list[str], backends: list[str], certs: list[str], keys: list[str], policy: str | None
) -> None:
    sane(quick(listens, backends, policy, certs=certs, keys=keys, now=1.8e9))
