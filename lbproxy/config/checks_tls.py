"""Cross-checks on TLS: keys that need one another, sites that clash, and what is dangerous to write.

Judges by the text of the configuration alone. Refuses to open what it names: checks_files.py does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_tls import ListenerTlsTable, PoolTlsTable, SiteTable
from lbproxy.config.units import show
from lbproxy.model import Configuration, ListenerSettings

_OLD = 'is "old", which lets in what is known to be weak; keep it for clients that nobody can replace'


def check_tls(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note the errors."""
    for path, listener in listener_tables(tables):
        _check_certificate_keys(listener, path, notes)
        if not listener.cert and not listener.certificates and not _unread(path, ("cert", "certificates"), notes):
            notes.error(path, 'names no certificate; write cert = "FILE" and key = "FILE", or certificates = [...]')
        _check_protocols(listener.alpn, (*path, "alpn"), notes)
        _check_clients(listener, None, path, notes)
        for number, site in enumerate(listener.site):
            _check_protocols(site.alpn or (), (*path, "site", number, "alpn"), notes)
            _check_clients(site, listener, (*path, "site", number), notes)
        _check_site_names(listener, path, notes)
    for path, pool in pool_tables(tables):
        _check_certificate_keys(pool, path, notes)
        _check_protocols(pool.alpn, (*path, "alpn"), notes)
        _check_backend_names(configuration, pool, path, notes)
    for index, route in enumerate(tables.route):
        _check_protocols(route.alpn or (), ("route", index, "alpn"), notes)


def warn_about_tls(tables: FileTable, configuration: Configuration, notes: Notes) -> None:
    """Note what works, but hardly as meant, and what is dangerous."""
    for path, listener in listener_tables(tables):
        _warn_about_listener(listener, path, notes)
    for path, pool in pool_tables(tables):
        _warn_about_pool(pool, path, notes)
    for name, table in tables.pool.items():
        if table.tls is None and table.check is not None and table.check.given("tls"):
            notes.warn(("pool", name, "check", "tls"), "has no effect: the pool itself speaks no TLS")
    _warn_about_protocols(configuration, notes)
    for index, listener_settings in enumerate(configuration.listeners):
        timeouts: Path = ("listener", index, "timeouts")
        if tables.listener[index].timeouts.client_hello is None:
            continue
        if listener_settings.tls is not None:
            notes.warn((*timeouts, "client_hello"), "has no effect: with tls here, tls_handshake is what counts")
        elif not _asks_for_names(configuration, listener_settings):
            notes.warn((*timeouts, "client_hello"), "has no effect: no route here has server_name or alpn")


def listener_tables(tables: FileTable) -> Iterator[tuple[Path, ListenerTlsTable]]:
    """The `tls` of each listener that has one, with its path."""
    for index, listener in enumerate(tables.listener):
        if listener.tls is not None:
            yield ("listener", index, "tls"), listener.tls


def pool_tables(tables: FileTable) -> Iterator[tuple[Path, PoolTlsTable]]:
    """The `tls` of each pool that has one, with its path."""
    for name, pool in tables.pool.items():
        if pool.tls is not None:
            yield ("pool", name, "tls"), pool.tls


def _unread(path: Path, keys: Sequence[str], notes: Notes) -> bool:
    return any(notes.places.is_spoiled((*path, key)) for key in keys)


def _check_certificate_keys(table: ListenerTlsTable | PoolTlsTable, path: Path, notes: Notes) -> None:
    """What belongs to a `cert` needs one."""
    if table.cert is not None or _unread(path, ("cert",), notes):
        return
    for key in ("key", "passphrase_file", "ocsp_file"):
        if getattr(table, key, None) is not None:
            notes.error((*path, key), 'belongs to a certificate; write cert = "FILE" with it')


def _check_protocols(names: Sequence[str], path: Path, notes: Notes) -> None:
    for repeated in sorted({name for name in names if names.count(name) > 1}):
        notes.error(path, f"names {show(repeated)} more than once")


def _check_clients(
    table: ListenerTlsTable | SiteTable, listener: ListenerTlsTable | None, path: Path, notes: Notes
) -> None:
    """Asking clients for certificates needs authorities; `listener` is where a site may have them from."""
    sources = [(path, table.client_ca)]
    if listener is not None:
        sources.append((path[:-2], listener.client_ca))
    if any(ca is not None or _unread(place, ("client_ca",), notes) for place, ca in sources):
        return
    if table.client_verify in ("required", "optional"):
        notes.error(
            (*path, "client_verify"),
            f"is {show(table.client_verify)}, but no client_ca says which certificates count",
        )
    if table.client_crl is not None:
        notes.error((*path, "client_crl"), "is a list for client certificates, but there is no client_ca")


def _check_site_names(listener: ListenerTlsTable, path: Path, notes: Notes) -> None:
    first: dict[str, tuple[int, int]] = {}
    for number, site in enumerate(listener.site):
        for place, name in enumerate(site.names):
            earlier = first.setdefault(name, (number, place))
            if earlier == (number, place):
                continue
            where = "in this site already"
            if earlier[0] != number:
                where = f"in the site in line {notes.places.line((*path, 'site', earlier[0]))} already"
            notes.error((*path, "site", number, "names", place), f"{show(name)} is {where}")


def _check_backend_names(configuration: Configuration, table: PoolTlsTable, path: Path, notes: Notes) -> None:
    if not table.verify or table.server_name is not None or _unread(path, ("verify", "server_name"), notes):
        return
    pool = configuration.pool_by_name[str(path[1])]
    for index, backend in enumerate(pool.backends):
        if backend.address.kind == "unix":
            notes.error(
                (*path[:-1], "backends", index),
                f'{backend.address} has no host name to verify; write tls = {{ server_name = "NAME" }}',
            )


def _warn_about_listener(table: ListenerTlsTable, path: Path, notes: Notes) -> None:
    if table.profile == "old":
        notes.warn((*path, "profile"), _OLD)
    if table.keylog is not None:
        notes.warn(
            (*path, "keylog"),
            "WRITES THE SECRETS OF EVERY SESSION to this file: whoever reads it can read all traffic; "
            "take it out once you are done debugging",
        )
    if table.default_name is not None and table.unknown_name == "refuse":
        notes.warn((*path, "default_name"), 'has no effect with unknown_name = "refuse"')
    crl_anywhere = table.client_crl or any(site.client_crl for site in table.site)
    if table.given("revocation") and not crl_anywhere:
        notes.warn((*path, "revocation"), "has no effect: there is no client_crl")
    lifted = all(site.client_ca or site.client_verify in (None, "none") for site in table.site)
    if table.client_ca and table.client_verify == "none" and lifted:
        notes.warn((*path, "client_ca"), 'has no effect with client_verify = "none"')
    for number, site in enumerate(table.site):
        inner: Path = (*path, "site", number)
        if site.profile == "old":
            notes.warn((*inner, "profile"), _OLD)
        if site.client_verify == "none":
            for key in ("client_ca", "client_crl", "revocation"):
                if site.given(key):
                    notes.warn((*inner, key), 'has no effect with client_verify = "none"')
        elif site.revocation and not site.client_crl and (site.client_ca or not table.client_crl):
            notes.warn((*inner, "revocation"), "has no effect: there is no client_crl")


def _warn_about_pool(table: PoolTlsTable, path: Path, notes: Notes) -> None:
    if table.profile == "old":
        notes.warn((*path, "profile"), 'is "old", which lets in what is known to be weak; better renew the backends')
    if not table.verify:
        notes.warn(
            (*path, "verify"),
            "is false, so NO BACKEND HAS TO PROVE WHO IT IS: anybody on the way could read and change this traffic",
        )
        for key in ("ca", "crl", "revocation"):
            if table.given(key):
                notes.warn((*path, key), "has no effect with verify = false")
    elif table.given("revocation") and table.crl is None:
        notes.warn((*path, "revocation"), "has no effect: there is no crl")


def _warn_about_protocols(configuration: Configuration, notes: Notes) -> None:
    """On routes that ask for a protocol on which none of their listeners ever agrees with a client."""
    for index, route in enumerate(configuration.routes):
        if not route.alpn:
            continue
        agreed: set[str] = set()
        for listener in configuration.listeners:
            if route.listeners and listener.name not in route.listeners:
                continue
            if listener.tls is None:
                # Here the client's own offer is read.
                break
            for policy in (listener.tls.policy, *(site.policy for site in listener.tls.sites)):
                agreed.update(policy.alpn)
        else:
            if agreed.isdisjoint(route.alpn):
                notes.warn(
                    ("route", index, "alpn"), "never matches: no listener of this route has any of these in its alpn"
                )


def _asks_for_names(configuration: Configuration, listener: ListenerSettings) -> bool:
    return any(
        (route.server_names or route.alpn) and (not route.listeners or listener.name in route.listeners)
        for route in configuration.routes
    )
