"""Cross-checks on certificates as they are on disk: whether they can be served, and which names they are for.

Owns the way from a problem of a file to the key that names the file. Refuses to know what makes a certificate good:
that is `lbproxy.certificates`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lbproxy.certificates import CertificateError, Pair, covers, judge, load_all, only_pair, system_authorities
from lbproxy.certificates.remark import moment, span
from lbproxy.config.checks_tls import listener_tables, pool_tables
from lbproxy.config.places import Path
from lbproxy.config.problems import Notes
from lbproxy.config.schema import FileTable
from lbproxy.config.schema_tls import ListenerTlsTable
from lbproxy.config.units import printable, show
from lbproxy.model import Configuration
from lbproxy.model_tls import CertificateSettings, TlsSettings

SOON = timedelta(days=14)

_MOST_NAMES = 10

# What is said once it is clear that there is no error.
Later = list[tuple[Path, str]]


@dataclass(frozen=True, slots=True)
class _Named:
    """The names that the certificates of one listener are for; `complete` unless one could not be read."""

    names: tuple[str, ...]
    complete: bool

    def cover(self, name: str) -> bool:
        """Whether a client who asks for `name`, or for some name that the pattern covers, has a certificate here."""
        return name in self.names or any(covers(known, name) or covers(name, known) for known in self.names)

    def said(self) -> str:
        """The names for a sentence."""
        if not self.names:
            return "the certificates here name no host"
        more = f" and {len(self.names) - _MOST_NAMES} more" if len(self.names) > _MOST_NAMES else ""
        return f"the certificates here are for {', '.join(self.names[:_MOST_NAMES])}{more}"


def check_certificates(tables: FileTable, configuration: Configuration, notes: Notes, now: datetime | None) -> Later:
    """Note the errors; what else is to be said is returned. Without `now` certificates are read, but not judged."""
    later: Later = []
    named: dict[str, _Named] = {}
    for path, table in listener_tables(tables):
        listener = configuration.listeners[int(path[1])]
        if listener.tls is None:
            continue
        read = named[listener.name] = _check_pairs(table, listener.tls, path, notes, now, later)
        if read.complete and not any(notes.places.is_spoiled((*path, key)) for key in ("cert", "certificates")):
            _check_names(table, read, path, notes)
    for path, _ in pool_tables(tables):
        tls = configuration.pool_by_name[str(path[1])].tls
        if tls is not None and tls.certificate is not None:
            _check_ours(tls.certificate, path, notes, now, later)
    later += _unmatched_routes(configuration, named)
    return later


def _check_pairs(
    table: ListenerTlsTable, settings: TlsSettings, path: Path, notes: Notes, now: datetime | None, later: Later
) -> _Named:
    """Read every certificate of a listener."""
    places = list(_places(table, path))
    pairs: list[Pair] = []
    owners: list[int] = []
    complete = True
    for index, one in enumerate(settings.certificates):
        loaded = load_all([one])
        for _, problem in loaded.problems:
            complete = False
            notes.error((*places[index], _key_of(one, problem)), printable(str(problem)))
        pairs += loaded.pairs
        owners += [index] * len(loaded.pairs)
    for remark in judge(pairs, now, SOON, system_authorities()) if now is not None and pairs else ():
        place = (*places[owners[remark.index]], "cert") if remark.index is not None else path
        if remark.severity == "error":
            notes.error(place, printable(str(remark)))
        else:
            later.append((place, printable(str(remark))))
    return _Named(tuple(dict.fromkeys(name for pair in pairs for name in pair.names)), complete)


def _places(table: ListenerTlsTable, path: Path) -> Iterator[Path]:
    """The path of each certificate in the order of the settings: the short form first."""
    if table.cert is not None:
        yield path
    for index in range(len(table.certificates)):
        yield (*path, "certificates", index)


def _key_of(settings: CertificateSettings, problem: CertificateError) -> str:
    """The key that names the file which the problem is about."""
    named = {settings.key: "key", settings.passphrase_file: "passphrase_file", settings.ocsp: "ocsp_file"}
    return "cert" if problem.path == settings.path else named.get(problem.path, "cert")


def _check_names(table: ListenerTlsTable, read: _Named, path: Path, notes: Notes) -> None:
    if table.default_name is not None and not read.cover(table.default_name):
        notes.error((*path, "default_name"), f"is {show(table.default_name)}, but {read.said()}")
    for number, site in enumerate(table.site):
        for place, name in enumerate(site.names):
            if not read.cover(name):
                notes.error((*path, "site", number, "names", place), f"is {show(name)}, but {read.said()}")


def _check_ours(settings: CertificateSettings, path: Path, notes: Notes, now: datetime | None, later: Later) -> None:
    """Read the certificate that we show to backends. What servers' certificates need does not count for it."""
    loaded = load_all([settings])
    for _, problem in loaded.problems:
        notes.error((*path, _key_of(settings, problem)), printable(str(problem)))
    if not loaded.problems:
        try:
            only_pair(settings.path, loaded.pairs)
        except CertificateError as problem:
            notes.error((*path, "cert"), printable(str(problem)))
    for pair in loaded.pairs:
        if now is not None and (said := _dates(pair, now)):
            later.append(((*path, "cert"), printable(f"{pair.path}: {said}")))


def _dates(pair: Pair, now: datetime) -> str:
    if now > pair.not_after:
        return f"expired on {moment(pair.not_after)}, {span(now - pair.not_after)} ago"
    if now < pair.not_before:
        return f"is not valid before {moment(pair.not_before)}, in {span(pair.not_before - now)}"
    if pair.not_after - now < SOON:
        return f"expires on {moment(pair.not_after)}, in {span(pair.not_after - now)}"
    return ""


def _unmatched_routes(configuration: Configuration, named: dict[str, _Named]) -> Later:
    """Names of routes that every listener of theirs refuses in the handshake."""
    later: Later = []
    for index, route in enumerate(configuration.routes):
        reads: Sequence[_Named | None] = [
            named.get(listener.name) if listener.tls is not None and listener.tls.refuse_unknown else None
            for listener in configuration.listeners
            if not route.listeners or listener.name in route.listeners
        ]
        for place, name in enumerate(route.server_names):
            if reads and all(read is not None and not read.cover(name) for read in reads):
                later.append(
                    (
                        ("route", index, "server_name", place),
                        f'{show(name)} never matches: no certificate is for it, and unknown_name is "refuse"',
                    )
                )
    return later
