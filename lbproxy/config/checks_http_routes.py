"""Cross-checks on what a route does with requests: keys that exclude or need one another.

Refuses to know whether a route is ever reached, and whether what it names exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_conditions import ConditionTable
from lbproxy.config.schema_routes import OF_TCP, AnswerTable, RewriteTable, RouteTable, http_keys
from lbproxy.config.units import show
from lbproxy.http.rewriting import Rewriter
from lbproxy.http.templates import TemplateError
from lbproxy.model import Configuration
from lbproxy.model_http import Rewrite

_ACTIONS = ("pool", "split", "redirect", "answer")
# What only makes sense for a request that goes to a backend.
_FOR_BACKENDS = (
    "rewrite",
    "request_headers",
    "mirror",
    "retry",
    "retry_statuses",
    "idempotency_key",
    "upgrades",
    "streaming",
    "conceal",
    "decompress_requests",
    "priority",
)
_DEEPEST = 8
# RFC 9110, section 6.4.1.
_WITHOUT_BODY = (204, 205, 304)


def check_http_routes(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    protocols = {listener.name: listener.protocol for listener in configuration.listeners}
    every_listener_known = not notes.places.is_spoiled(("listener",))
    for index, table in enumerate(tables.route):
        path: Path = ("route", index)
        if every_listener_known:
            _check_protocol(table, protocols, path, notes)
        _check_action(table, path, notes)
        _check_mirror(table, path, notes)
        http = configuration.routes[index].http
        if table.rewrite is not None and http is not None and http.rewrite is not None:
            _check_rewrite(table.rewrite, http.rewrite, table.merge_slashes, (*path, "rewrite"), notes)
        if table.answer is not None:
            _check_answer(table.answer, (*path, "answer"), notes)
        _check_paths(table, table, path, notes)
        _check_conditions(table, path, notes)


def warn_about_http_routes(tables: FileTable, notes: Notes) -> None:
    """Note what works, but hardly as meant."""
    for index, table in enumerate(tables.route):
        path: Path = ("route", index)
        if table.pool is None and not table.split:
            for key in _FOR_BACKENDS:
                if table.given(key):
                    notes.warn((*path, key), "has no effect: this route sends nothing to a pool")
        if len(table.split) == 1:
            (name,) = table.split
            notes.warn((*path, "split"), f"names one pool only; write pool = {show(name)}")


def _check_protocol(table: RouteTable, protocols: Mapping[str, str], path: Path, notes: Notes) -> None:
    """HTTP and TCP have keys that the other does not understand."""
    http = http_keys(table)
    tcp = [key for key in OF_TCP if table.given(key)]
    if http and tcp:
        notes.error((*path, tcp[0]), f"is for TCP, and {http[0]} is for HTTP, where names are matched with host")
        return
    if not protocols:
        return
    for number, name in enumerate(table.listener or ()):
        if http and protocols.get(name) == "tcp":
            notes.error(
                (*path, "listener", number),
                f'the listener {show(name)} speaks TCP, and {http[0]} is for HTTP; write protocol = "http" there',
            )
        if tcp and protocols.get(name) == "http":
            notes.error((*path, tcp[0]), f"is for TCP, and the listener {show(name)} speaks HTTP; {_instead(tcp[0])}")
    if table.listener is None and not notes.places.is_spoiled((*path, "listener")):
        if http and "http" not in protocols.values():
            notes.error(
                (*path, http[0]), 'is for HTTP, and no listener speaks it; write protocol = "http" in its [[listener]]'
            )
        if tcp and "tcp" not in protocols.values():
            notes.error((*path, tcp[0]), f"is for TCP, and every listener speaks HTTP; {_instead(tcp[0])}")


def _instead(key: str) -> str:
    return "write host" if key == "server_name" else "leave the key out"


def _check_action(table: RouteTable, path: Path, notes: Notes) -> None:
    written = [key for key in _ACTIONS if table.given(key)]
    if not written and not any(notes.places.is_spoiled((*path, key)) for key in _ACTIONS):
        notes.error((*path, "pool"), 'is missing; write pool = "NAME", or one of split, redirect and answer')
    for key in written[1:]:
        notes.error((*path, key), f"does not go with {written[0]}: a route does one thing with what it matches")
    if table.split and not any(table.split.values()) and not notes.places.is_spoiled((*path, "split")):
        notes.error((*path, "split"), "gives no pool a share; at least one must be above 0")
    if table.split_key is not None and not notes.places.is_spoiled((*path, "split")) and not table.split:
        notes.error((*path, "split_key"), "belongs to a split, and there is none")


def _check_mirror(table: RouteTable, path: Path, notes: Notes) -> None:
    if table.mirror is not None and table.mirror.pool in (table.pool, *table.split):
        notes.error(
            (*path, "mirror", "pool"), f"is {show(table.mirror.pool)}, where requests go anyway; name another pool"
        )


def _check_rewrite(table: RewriteTable, settings: Rewrite, merge_slashes: bool, path: Path, notes: Notes) -> None:
    if not table.model_fields_set and not notes.places.is_spoiled(path):
        notes.error(path, "is empty; write strip_prefix, add_prefix, path or host in it")
    whole = next((key for key in ("path", "regex") if table.given(key)), None)
    whole_and_part = [key for key in ("strip_prefix", "add_prefix") if whole and table.given(key)]
    for key in whole_and_part:
        notes.error((*path, key), f"does not go with {whole}, which replaces the path as a whole")
    if table.regex and not table.path and not notes.places.is_spoiled((*path, "path")):
        notes.error((*path, "regex"), "needs a path that replaces what it matches")
    elif not whole_and_part and not notes.places.is_spoiled(path):
        try:
            Rewriter.of(settings, merge_slashes)
        except TemplateError as problem:
            notes.error(path, str(problem))


def _check_answer(table: AnswerTable, path: Path, notes: Notes) -> None:
    for key in ("body", "file"):
        if table.status in _WITHOUT_BODY and table.given(key):
            notes.error((*path, key), f"does not go with the status {table.status}, whose answers have no body")
    if table.given("body") and table.given("file"):
        notes.error((*path, "file"), "does not go with body: an answer says one thing")


def _check_paths(table: ConditionTable, route: RouteTable, path: Path, notes: Notes) -> None:
    """Paths that are as no request of this route can be."""
    for number, text in enumerate(table.path or ()):
        place: Path = (*path, "path", number)
        if route.merge_slashes and "//" in text:
            meant = show(re.sub("//+", "/", text))
            notes.error(place, f"is {show(text)}; // is taken for /, so write {meant}, or merge_slashes = false")
        if "%2F" in text and route.encoded_slash != "allow":
            notes.error(place, f'is {show(text)}; %2F is refused here, unless the route has encoded_slash = "allow"')


def _check_conditions(table: RouteTable, path: Path, notes: Notes) -> None:
    left = [*_inner(table, path, 1), *_of_cache(table, path)]
    while left:
        inner, place, depth = left.pop()
        if depth > _DEEPEST:
            notes.error(place, f"nests conditions more than {_DEEPEST} deep")
            continue
        if not inner.model_fields_set and not notes.places.is_spoiled(place):
            notes.error(place, 'is an empty condition; write in it what must hold, as in { host = "a.example" }')
        _check_paths(inner, table, place, notes)
        left.extend(_inner(inner, place, depth + 1))


def _of_cache(table: RouteTable, path: Path) -> Iterator[tuple[ConditionTable, Path, int]]:
    if table.cache is not None:
        for key, conditions in (("bypass", table.cache.bypass), ("no_store", table.cache.no_store)):
            for number, condition in enumerate(conditions):
                yield condition, (*path, "cache", key, number), 1


def _inner(table: ConditionTable, path: Path, depth: int) -> Iterator[tuple[ConditionTable, Path, int]]:
    for key, conditions in (("all", table.all_), ("any", table.any_), ("not", table.not_)):
        for number, condition in enumerate(conditions):
            yield condition, (*path, key, number), depth
