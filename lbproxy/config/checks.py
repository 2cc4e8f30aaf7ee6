"""How keys relate: what no single value can be blamed for.

Owns the order of the cross-checks and those on the process as a whole; listeners, pools, routes, TLS, HTTP and the
cache have files of their own. Errors are looked for even when parts of the file could not be read, except where those
parts might be the answer; warnings only once there is no error, since they would speak of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from lbproxy.config.checks_cache import check_cache, warn_about_cache
from lbproxy.config.checks_files import check_files
from lbproxy.config.checks_http import check_http, warn_about_http
from lbproxy.config.checks_http_routes import check_http_routes, warn_about_http_routes
from lbproxy.config.checks_listeners import check_listeners, check_pool_names, warn_about_listeners
from lbproxy.config.checks_pools import check_pools, warn_about_pools
from lbproxy.config.checks_routes import check_routes, warn_about_routes
from lbproxy.config.checks_tls import check_tls, warn_about_tls
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_timeouts import AfterRouteTimeouts
from lbproxy.config.units import show, write_time
from lbproxy.model import Configuration


def check_all(
    tables: FileTable,
    configuration: Configuration,
    notes: Notes,
    resolve: Callable[[str], bool] | None,
    now: float | None,
    read_files: bool,
) -> None:
    """Note every problem between keys, and of the files that they name unless `read_files` is False.

    `configuration` was built from `tables`, element by element; `now` is in POSIX seconds, None if nobody says.
    """
    check_pool_names(notes)
    check_listeners(tables, configuration, notes)
    check_pools(tables, configuration, notes)
    check_routes(configuration, notes)
    check_tls(tables, configuration, notes)
    check_http(tables, configuration, notes)
    check_http_routes(tables, configuration, notes)
    check_cache(tables, notes)
    _check_records(tables, notes)
    _check_stop(configuration, notes)
    of_files = check_files(tables, configuration, notes, now) if read_files else []
    if notes.failed:
        return
    warn_about_listeners(tables, configuration, notes)
    warn_about_pools(tables, configuration, notes)
    warn_about_routes(configuration, notes)
    warn_about_tls(tables, configuration, notes)
    warn_about_http(tables, configuration, notes)
    warn_about_http_routes(tables, notes)
    warn_about_cache(tables, notes)
    _warn_about_timeouts(tables, notes)
    for path, message in of_files:
        notes.warn(path, message)
    if resolve is not None:
        _warn_about_names(configuration, notes, resolve)


def _check_stop(configuration: Configuration, notes: Notes) -> None:
    stop = configuration.stop
    if stop.hard_stop < stop.grace and not notes.places.is_spoiled(("stop",)):
        notes.error(
            ("stop", "hard_stop"),
            f"is {write_time(stop.hard_stop)}, it must not be less than stop.grace, {write_time(stop.grace)}: "
            "both are counted from the signal",
        )


def _check_records(tables: FileTable, notes: Notes) -> None:
    path: Path = ("records",)
    if any(notes.places.is_spoiled((*path, key)) for key in ("format", "template")):
        return
    own = tables.records.format == "template"
    if own and not tables.records.template:
        notes.error((*path, "format"), 'is "template", which needs the text of a line; write template = "..."')
    if not own and tables.records.template:
        notes.error((*path, "template"), 'belongs to format = "template"')


def _warn_about_timeouts(tables: FileTable, notes: Notes) -> None:
    for path, table in _timeout_tables(tables):
        for name, seconds in table:
            if name == "request_body_rate" and seconds == 0:
                notes.warn(
                    (*path, name), 'is "none"; a client that sends a byte now and then can hold a request for ever'
                )
            elif seconds is not None and math.isinf(seconds):
                notes.warn((*path, name), 'is "none"; one peer that goes silent can then hold a session for ever')


def _timeout_tables(tables: FileTable) -> Iterator[tuple[Path, AfterRouteTimeouts]]:
    yield ("timeouts",), tables.timeouts
    for index, listener in enumerate(tables.listener):
        yield ("listener", index, "timeouts"), listener.timeouts
    for index, route in enumerate(tables.route):
        yield ("route", index, "timeouts"), route.timeouts
    for name, pool in tables.pool.items():
        yield ("pool", name, "timeouts"), pool.timeouts


def _warn_about_names(configuration: Configuration, notes: Notes, resolve: Callable[[str], bool]) -> None:
    known: dict[str, bool] = {}

    def resolves(host: str) -> bool:
        if host not in known:
            known[host] = resolve(host)
        return known[host]

    for index, listener in enumerate(configuration.listeners):
        for number, bind in enumerate(listener.binds):
            if bind.kind == "name" and not resolves(bind.host):
                notes.warn(("listener", index, "bind", number), _unresolved(bind.host, "accepting cannot begin"))
    for pool in configuration.pools:
        for index, backend in enumerate(pool.backends):
            if backend.address.kind == "name" and not resolves(backend.address.host):
                path: Path = ("pool", pool.name, "backends", index)
                notes.warn(path, _unresolved(backend.address.host, "the backend gets no sessions"))


def _unresolved(host: str, consequence: str) -> str:
    return f"the name {show(host)} does not resolve now; until it does, {consequence}"
