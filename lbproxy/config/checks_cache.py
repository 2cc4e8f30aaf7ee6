"""Cross-checks on the cache and on compression: sizes that must fit, and keys that exclude or need one another.

Judges by the text of the configuration alone; whether a library for a coding is installed is told at start
(service/codings_news.py), whether a directory can be used once it is.
"""

from __future__ import annotations

from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_cache import CacheTable, CompressTable, DiskTable, RouteCacheTable
from lbproxy.config.schema_routes import RouteTable
from lbproxy.config.units import show, write_size, write_time

_ACTIONS = ("pool", "split", "redirect", "answer")
_LEVELS = (("zstd_level", "zstd"), ("br_level", "br"), ("gzip_level", "gzip"))


def check_cache(tables: FileTable, notes: Notes) -> None:
    """Note the errors."""
    _check_store(tables.cache, notes)
    for index, table in enumerate(tables.route):
        path: Path = ("route", index)
        if table.cache is not None:
            _check_pool(table, path, notes)
            _check_route(table.cache, (*path, "cache"), notes)
        if table.compress is not None:
            _check_codings(table.compress, (*path, "compress"), notes)


def warn_about_cache(tables: FileTable, notes: Notes) -> None:
    """Note what works, but hardly as meant."""
    if tables.given("cache") and all(table.cache is None for table in tables.route):
        notes.warn(("cache",), "has no effect: no route caches; write cache = true in a [[route]]")
    for index, table in enumerate(tables.route):
        path: Path = ("route", index)
        if table.cache is not None:
            _warn_about_route(table.cache, (*path, "cache"), notes)
        if table.compress is not None:
            for key, coding in _LEVELS:
                if table.compress.given(key) and coding not in table.compress.codings:
                    notes.warn((*path, "compress", key), f"has no effect: codings are without {show(coding)}")
        if table.redirect is not None and table.compress is not None:
            notes.warn((*path, "compress"), "has no effect: a redirect has nothing to compress")


def _check_store(table: CacheTable, notes: Notes) -> None:
    _check_largest(table, table.memory, "memory", ("cache",), notes)
    if table.disk is not None:
        _check_largest(table.disk, table.disk.size, "size", ("cache", "disk"), notes)


def _check_largest(table: CacheTable | DiskTable, size: int, key: str, path: Path, notes: Notes) -> None:
    if any(notes.places.is_spoiled((*path, name)) for name in (key, "max_object")):
        return
    if table.given("max_object") and table.max_object > size // 2:
        notes.error(
            (*path, "max_object"),
            f"is {write_size(table.max_object)}, it must not be more than half of {key}, {write_size(size)}: "
            "one answer would drive out all others",
        )


def _check_pool(table: RouteTable, path: Path, notes: Notes) -> None:
    if table.pool is not None or table.split or any(notes.places.is_spoiled((*path, key)) for key in _ACTIONS):
        return
    action = next((key for key in ("redirect", "answer") if table.given(key)), None)
    if action is not None:
        notes.error(
            (*path, "cache"), f"does not go with {action}: such a route asks no backend, so there is nothing to store"
        )


def _check_route(table: RouteCacheTable, path: Path, notes: Notes) -> None:
    if table.key.only_query is not None and table.key.given("ignore_query"):
        notes.error(
            (*path, "key", "ignore_query"), "does not go with only_query, which ignores all that it does not name"
        )
    for key, ttl in (("ttl", table.ttl), ("default_ttl", table.default_ttl)):
        if ttl is not None and table.max_ttl is not None and ttl > table.max_ttl:
            notes.error(
                (*path, key), f"is {write_time(ttl)}, it must not be more than max_ttl, {write_time(table.max_ttl)}"
            )


def _check_codings(table: CompressTable, path: Path, notes: Notes) -> None:
    for number, coding in enumerate(table.codings):
        if coding in table.codings[:number]:
            notes.error((*path, "codings", number), f"is {show(coding)}, which is there already")


def _warn_about_route(table: RouteCacheTable, path: Path, notes: Notes) -> None:
    if table.default_ttl is not None and table.given("heuristic") and table.heuristic:
        notes.warn((*path, "heuristic"), "has no effect with default_ttl: nothing is left to be guessed")
    if table.key.sort_query and ("*" in table.key.ignore_query or table.key.only_query == []):
        notes.warn((*path, "key", "sort_query"), "has no effect: no parameter counts")
    if table.max_ttl == 0:
        notes.warn((*path, "max_ttl"), "is 0s: no answer is ever fresh, and every request asks a backend")
