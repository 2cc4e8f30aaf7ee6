"""Cross-checks on HTTP: what a listener's protocol allows, and which protocols use a pool.

Routes have a file of their own, checks_http_routes.py. Judges by the text of the configuration alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from lbproxy.config.checks_pools import HASH_POLICIES, pools_of
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable, ListenerTable
from lbproxy.config.schema_http import StickyTable
from lbproxy.config.schema_pools import CheckTable, PoolTable
from lbproxy.config.units import show, write_size, write_time
from lbproxy.model import Configuration, ListenerSettings, PoolSettings

HTTP_TIMEOUTS = (
    "request_head",
    "request_body_idle",
    "request_body_rate",
    "response_head",
    "response_body_idle",
    "client_idle",
    "backend_idle",
)
_ONLY_COOKIE = ("name", "key_file", "max_age", "max_idle", "max_life", "same_site", "domain")
_ONLY_LEARNT = ("table_size", "table_idle")
_CHECK_KEYS = ("path", "method", "host", "headers", "status", "body")


def check_http(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    for index, table in enumerate(tables.listener):
        path: Path = ("listener", index)
        if table.protocol != "http":
            if table.http is not None and not notes.places.is_spoiled((*path, "protocol")):
                notes.error((*path, "http"), 'is for HTTP, and this listener speaks TCP; write protocol = "http"')
            continue
        _check_alpn(table, path, notes)
        http = table.http
        if http is not None and http.given("max_target") and http.max_target > http.max_head:
            most = write_size(http.max_head)
            notes.error(
                (*path, "http", "max_target"),
                f"is {write_size(http.max_target)}, it must not be more than max_head, {most}, of which it is a part",
            )
    users_of = users(configuration)
    for pool in configuration.pools:
        _check_pool(tables.pool[pool.name], pool, users_of[pool.name], notes)


def warn_about_http(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note what works, but hardly as meant."""
    for index, (table, listener) in enumerate(zip(tables.listener, configuration.listeners, strict=True)):
        path: Path = ("listener", index)
        if listener.protocol == "http":
            _warn_about_listener(listener, path, notes)
            continue
        for key in HTTP_TIMEOUTS:
            if table.timeouts.given(key):
                notes.warn((*path, "timeouts", key), "has no effect: it is for HTTP, and this listener speaks TCP")
    users_of = users(configuration)
    for pool in configuration.pools:
        table_of_pool = tables.pool[pool.name]
        path = ("pool", pool.name)
        listeners = users_of[pool.name]
        protocols = {listener.protocol for listener in listeners}
        if protocols == {"tcp"} and table_of_pool.given("http"):
            notes.warn((*path, "http"), "has no effect: every listener that uses this pool speaks TCP")
        if pool.load_report is not None and all(b.address.kind == "unix" for b in pool.backends):
            notes.warn((*path, "load_report"), "has no effect: every backend is a UNIX socket")
        if table_of_pool.sticky is not None:
            _warn_about_sticky(table_of_pool.sticky, pool, listeners, (*path, "sticky"), notes)


def users(configuration: Configuration) -> dict[str, list[ListenerSettings]]:
    """For each pool the listeners whose clients may get there, in the order of the file."""
    found: dict[str, set[str]] = {pool.name: set() for pool in configuration.pools}
    every = {listener.name for listener in configuration.listeners}
    for route in configuration.routes:
        for name in pools_of(route):
            found.setdefault(name, set()).update(route.listeners or every)
    for listener in configuration.listeners:
        if listener.pool is not None:
            found.setdefault(listener.pool, set()).add(listener.name)
    return {
        pool: [listener for listener in configuration.listeners if listener.name in names]
        for pool, names in found.items()
    }


def _check_alpn(table: ListenerTable, path: Path, notes: Notes) -> None:
    if table.tls is None:
        return
    places = [((*path, "tls", "alpn"), table.tls.alpn)]
    places += [((*path, "tls", "site", n, "alpn"), site.alpn or []) for n, site in enumerate(table.tls.site)]
    for place, names in places:
        for number, name in enumerate(names):
            if name != "http/1.1":
                notes.error(
                    (*place, number),
                    f'is {show(name)}, but this listener speaks HTTP/1.1 only; write "http/1.1", or leave the key out',
                )


def _warn_about_listener(listener: ListenerSettings, path: Path, notes: Notes) -> None:
    http, inner = listener.http, (*path, "http")
    clear = listener.tls is None
    if http.redirect_https and not clear:
        notes.warn((*inner, "redirect_https"), "has no effect: with tls here nothing comes in clear")
    if http.redirect_https and clear and http.trusted_peers is None and listener.pool is not None:
        notes.warn((*path, "pool"), "is never used: redirect_https sends every client of this listener elsewhere")
    if http.hsts is not None and clear and http.trusted_peers is None:
        notes.warn((*inner, "hsts"), "has no effect: it is said on TLS only, write it where [listener.tls] is")
    if http.hsts_subdomains and http.hsts is None:
        notes.warn((*inner, "hsts_subdomains"), 'has no effect without hsts; write hsts = "1y" with it')
    policies = [] if listener.tls is None else [listener.tls.policy, *(site.policy for site in listener.tls.sites)]
    if http.client_cert and all(policy.client is None for policy in policies):
        notes.warn((*inner, "client_cert"), "has no effect: no client is asked for a certificate, see client_ca")


def _check_pool(table: PoolTable, pool: PoolSettings, listeners: Sequence[ListenerSettings], notes: Notes) -> None:
    path: Path = ("pool", pool.name)
    if table.check is not None:
        _check_request(table.check, (*path, "check"), notes)
    relaying = next((listener for listener in listeners if listener.protocol == "tcp"), None)
    if relaying is not None and not notes.places.is_spoiled(("listener",)):
        where = f"the listener {show(relaying.name)}"
        if pool.hash_key not in ("client_ip", "sni"):
            key = show(pool.hash_key)
            notes.error(
                (*path, "hash_key"),
                f'is {key}, which needs HTTP, but {where} speaks TCP and uses this pool; write "client_ip"',
            )
        if table.sticky is not None and all(listener.protocol == "tcp" for listener in listeners):
            notes.error(
                (*path, "sticky"),
                f'needs HTTP, but {where} speaks TCP; for one backend per client write policy = "maglev"',
            )
    if table.tls is not None and any(listener.protocol == "http" for listener in listeners):
        for number, name in enumerate(table.tls.alpn):
            if name == "h2":
                notes.error(
                    (*path, "tls", "alpn", number),
                    'is "h2", but backends are spoken to in HTTP/1.1; write "http/1.1", or leave the key out',
                )


def _check_request(table: CheckTable, path: Path, notes: Notes) -> None:
    written = [key for key in _CHECK_KEYS if table.given(key)]
    for key in ("send", "expect"):
        if written and table.given(key):
            notes.error((*path, key), f"does not go with {written[0]}: a check sends either bytes or a request")
    if table.method == "HEAD" and table.given("body"):
        notes.error((*path, "body"), 'does not go with method = "HEAD", whose answers have no body')


def _warn_about_sticky(
    table: StickyTable, pool: PoolSettings, listeners: Sequence[ListenerSettings], path: Path, notes: Notes
) -> None:
    if pool.policy in HASH_POLICIES:
        notes.warn(path, f"decides before the policy {show(pool.policy)}; one of them is enough")
    ours = table.by == "cookie"
    for key in _ONLY_LEARNT if ours else _ONLY_COOKIE:
        if table.given(key):
            notes.warn((*path, key), f'has no effect with by = "{table.by}"')
    if not ours:
        return
    if table.key_file is None and not notes.places.is_spoiled(path):
        notes.warn(
            path,
            "has no key_file, so its secret is made at start: after a restart, and on other machines, cookies do not "
            "count",
        )
    clear = [one.name for one in listeners if one.protocol == "http" and one.tls is None and not one.http.trusted_peers]
    if table.same_site == "none" and clear:
        notes.warn(
            (*path, "same_site"),
            f'is "none", which browsers accept on TLS only, but the listener {show(clear[0])} is in clear',
        )
    if table.max_idle is not None and table.max_life is not None and table.max_idle > table.max_life:
        notes.warn(
            (*path, "max_idle"),
            f"is {write_time(table.max_idle)} and never reached: max_life is {write_time(table.max_life)}",
        )
