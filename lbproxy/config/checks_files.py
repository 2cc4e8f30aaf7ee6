"""Cross-checks on what the configuration names on disk: certificates, authorities, revocation lists, the key log.

Owns the order, and the files that say whom we trust (threats.md L6: a missing one keeps us from starting). The
certificates that we show have a file of their own, checks_certificates.py. Refuses to know the clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from lbproxy.certificates import (
    CertificateError,
    judge_revocations,
    load_authorities,
    load_revocations,
    system_authorities,
)
from lbproxy.config.checks_certificates import Later, check_certificates
from lbproxy.config.checks_tls import listener_tables, pool_tables
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_tls import ListenerTlsTable
from lbproxy.config.units import printable
from lbproxy.model import Configuration
from lbproxy.model_tls import ClientAuthSettings, TlsSettings

T = TypeVar("T")


def check_files(tables: FileTable, configuration: Configuration, notes: Notes, now: float | None) -> Later:
    """Note the errors of every file; the warnings, with their places, are returned for the time after.

    `now` in POSIX seconds; None leaves out what depends on it.
    """
    time = None if now is None else datetime.fromtimestamp(now, UTC)
    later = check_certificates(tables, configuration, notes, time)
    for path, table in listener_tables(tables):
        settings = configuration.listeners[int(path[1])].tls
        if settings is None:
            continue
        for place_of_ca, place_of_crl, client in _client_auth(table, settings, path):
            _check_trust(place_of_ca, client.ca, place_of_crl, client.crl, notes, time, later)
        _check_keylog(settings, path, notes)
    for path, _ in pool_tables(tables):
        tls = configuration.pool_by_name[str(path[1])].tls
        if tls is None:
            continue
        _check_trust((*path, "ca"), tls.ca, (*path, "crl"), tls.crl, notes, time, later)
        if tls.verify and tls.ca is None and not system_authorities():
            later.append(
                (path, "this system has no list of authorities, so no backend can be verified; name one with ca")
            )
    return later


def _client_auth(
    table: ListenerTlsTable, settings: TlsSettings, path: Path
) -> Iterator[tuple[Path, Path, ClientAuthSettings]]:
    """Every demand for client certificates, with the keys that name its authorities and its lists."""
    if settings.policy.client is not None:
        yield (*path, "client_ca"), (*path, "client_crl"), settings.policy.client
    for number, (written, site) in enumerate(zip(table.site, settings.sites, strict=True)):
        if site.policy.client is None:
            continue
        inner = (*path, "site", number)
        yield (
            (*(inner if written.client_ca else path), "client_ca"),
            (*(inner if written.client_crl else path), "client_crl"),
            site.policy.client,
        )


def _check_trust(
    place_of_ca: Path,
    ca: str | None,
    place_of_crl: Path,
    crl: str | None,
    notes: Notes,
    now: datetime | None,
    later: Later,
) -> None:
    authorities = None if ca is None else _read(load_authorities, ca, place_of_ca, notes)
    lists = None if crl is None else _read(load_revocations, crl, place_of_crl, notes)
    # The system has authorities by the hundred; nobody has a list of each.
    if now is None or crl is None or lists is None or authorities is None:
        return
    later += [(place_of_crl, printable(f"{crl}: {remark}")) for remark in judge_revocations(lists, authorities, now)]


def _read(load: Callable[[str], T], file: str, place: Path, notes: Notes) -> T | None:
    try:
        return load(file)
    except CertificateError as problem:
        notes.error(place, printable(str(problem)))
        return None


def _check_keylog(settings: TlsSettings, path: Path, notes: Notes) -> None:
    if settings.keylog is None:
        return
    directory = os.path.dirname(settings.keylog)
    if os.path.isdir(settings.keylog):
        notes.error((*path, "keylog"), printable(f"{settings.keylog}: is a directory, it must be a file"))
    elif not os.path.isdir(directory):
        notes.error((*path, "keylog"), printable(f"{settings.keylog}: there is no directory {directory}"))
