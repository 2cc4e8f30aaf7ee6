"""The pairs that settings mean, read with a memory: a file that has become bad keeps what was last good in it.

Owns that memory (threats.md L12), and what becomes of a file that has gone from its directory. Refuses to know when to
look, and OpenSSL. Everything here is a value that is never changed, so it may be read in another thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lbproxy.certificates import CertificateError, Pair, covers, find, load_all, load_pair, only_pair
from lbproxy.certificates.keys import key_places
from lbproxy.model_tls import CertificateSettings
from lbproxy.service.watching import Stamp, Stamps, stamps_of

# Raises CertificateError for a pair that must not be served.
Approve = Callable[[Pair], None]
# Whether a pair that has gone is replaced by those that are there.
Replaced = Callable[[Pair, Sequence[Pair]], bool]


@dataclass(frozen=True, slots=True)
class PairFile:
    """One certificate's files: the last good pair (None: there never was one), and what is wrong with them now."""

    settings: CertificateSettings
    pair: Pair | None
    problem: CertificateError | None
    stamps: Stamps

    def refused(self, problem: CertificateError, before: PairFile | None) -> PairFile:
        """This one, when what was read cannot be used after all."""
        return replace(self, pair=None if before is None else before.pair, problem=problem)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of pairs: the files in it, those that have gone among them, and what is wrong with it now."""

    files: tuple[CertificateSettings, ...]
    gone: frozenset[CertificateSettings]
    problem: CertificateError | None
    stamps: Stamps


@dataclass(frozen=True, slots=True)
class PairFiles:
    """What is known, by the settings."""

    directories: Mapping[CertificateSettings, Directory] = field(default_factory=dict)
    files: Mapping[CertificateSettings, PairFile] = field(default_factory=dict)

    def of(self, settings: Iterable[CertificateSettings]) -> list[PairFile]:
        """The files that these settings mean, in their order."""
        found: list[PairFile] = []
        for one in settings:
            directory = self.directories.get(one)
            singles = (one,) if directory is None else directory.files
            found += [self.files[single] for single in singles]
        return found

    def shown(self, settings: CertificateSettings) -> Pair:
        """The one that we show to backends. What has become bad or has gone counts only if there is nothing better.

        Raises CertificateError unless there is just one.
        """
        found = self.of([settings])
        good = [one.pair for one in found if one.pair is not None and one.problem is None]
        pairs = good or [one.pair for one in found if one.pair is not None]
        return only_pair(settings.path, pairs)

    def taken_back(self, problem: CertificateError, before: PairFiles) -> PairFiles | None:
        """With the last pair of the file that `problem` is about; None where there is none to go back from."""
        for settings, one in self.files.items():
            if settings.path == problem.path and one.pair is not None and one.problem is None:
                old = before.files.get(settings)
                if old is not None and old.pair is one.pair:
                    return None
                return replace(self, files={**self.files, settings: one.refused(problem, old)})
        return None

    def problems(self) -> list[CertificateError]:
        """What is wrong now."""
        known: list[Directory | PairFile] = [*self.directories.values(), *self.files.values()]
        return [one.problem for one in known if one.problem is not None]

    def stamps(self) -> dict[str, Stamp]:
        """What to look at."""
        seen: dict[str, Stamp] = {}
        for directory in self.directories.values():
            seen.update(directory.stamps)
        for file in self.files.values():
            seen.update(file.stamps)
        return seen


def read_pair_files(
    settings: Iterable[CertificateSettings],
    before: PairFiles,
    approve: Approve,
    replaced: Replaced,
    unsettled: Collection[str] = (),
) -> PairFiles:
    """Read what these settings mean, as far as it is not as it was before. Files that are `unsettled` are left alone.

    A pair that has gone from its directory is kept until it is `replaced`. What is wrong is kept with the files and
    raises nothing.
    """
    directories: dict[CertificateSettings, Directory] = {}
    files: dict[CertificateSettings, PairFile] = {}
    for one in dict.fromkeys(settings):
        known = before.directories.get(one)
        if known is None and not os.path.isdir(one.path):
            files[one] = _read_pair(one, before.files.get(one), approve, unsettled)
            continue
        directory = _read_directory(one, known, unsettled)
        inside = {single: _read_inside(single, directory, before, approve, unsettled) for single in directory.files}
        left = _without_the_replaced(directory.gone, inside, replaced)
        directories[one] = replace(directory, files=tuple(left), gone=directory.gone & left.keys())
        files |= left
    return PairFiles(directories, files)


def _read_directory(settings: CertificateSettings, before: Directory | None, unsettled: Collection[str]) -> Directory:
    path = settings.path
    stamps = stamps_of((path,))
    if before is not None and (stamps == before.stamps or path in unsettled):
        return before
    old = () if before is None else before.files
    try:
        if not os.path.isdir(path):
            raise CertificateError(path, "is no directory any more, or one that may not be looked into")
        here = [replace(settings, path=one.path) for one in find(settings)]
    except CertificateError as problem:
        return Directory(old, frozenset(old), problem, stamps)
    gone = frozenset(old) - frozenset(here)
    return Directory(tuple(sorted([*here, *gone], key=lambda one: one.path)), gone, None, stamps)


def _read_inside(
    settings: CertificateSettings,
    directory: Directory,
    before: PairFiles,
    approve: Approve,
    unsettled: Collection[str],
) -> PairFile:
    known = before.files.get(settings)
    if known is not None and directory.problem is not None:
        # One sentence about the directory is enough.
        return replace(known, problem=None, stamps=stamps_of(known.stamps))
    return _read_pair(settings, known, approve, unsettled)


def _without_the_replaced(
    gone: Collection[CertificateSettings], files: Mapping[CertificateSettings, PairFile], replaced: Replaced
) -> dict[CertificateSettings, PairFile]:
    """Without the files that have gone and are not missed."""
    present = [one.pair for single, one in files.items() if single not in gone and one.pair is not None]

    def missed(pair: Pair | None) -> bool:
        return pair is not None and not replaced(pair, present)

    return {single: one for single, one in files.items() if single not in gone or missed(one.pair)}


def by_names(pair: Pair, present: Sequence[Pair]) -> bool:
    """For who serves clients: others serve all the names that it was for."""
    return all(_served(name, pair.kind, present) for name in pair.names)


def by_any(_: Pair, present: Sequence[Pair]) -> bool:
    """For who shows it to backends, whatever names are in it: there is another."""
    return bool(present)


def _served(name: str, kind: str, pairs: Sequence[Pair]) -> bool:
    return any(pair.kind == kind and any(name == own or covers(own, name) for own in pair.names) for pair in pairs)


def _read_pair(
    settings: CertificateSettings, before: PairFile | None, approve: Approve, unsettled: Collection[str]
) -> PairFile:
    named = _named(settings) if before is None else before.stamps.keys()
    # Before the reading: a change during it is seen by the next look.
    stamps = stamps_of(named)
    if before is not None and (stamps == before.stamps or any(path in unsettled for path in named)):
        return before
    loaded = load_all([settings])
    stamps = stamps_of(path for path in loaded.files if path not in stamps) | stamps
    old = None if before is None else before.pair
    problem = loaded.problems[0][1] if loaded.problems else None
    pair = loaded.pairs[0] if problem is None else _unstapled(settings, problem, old)
    if pair is not None and pair != old:
        try:
            approve(pair)
        except CertificateError as unfit:
            problem, pair = unfit, None
    return PairFile(settings, old if pair is None else pair, problem, stamps)


def _named(settings: CertificateSettings) -> list[str]:
    places = (settings.key,) if settings.key is not None else key_places(settings.path)
    return [path for path in (settings.path, *places, settings.passphrase_file, settings.ocsp) if path is not None]


def _unstapled(settings: CertificateSettings, problem: CertificateError, old: Pair | None) -> Pair | None:
    """The pair alone, where only its OCSP response is bad: a response that comes late must not hold back a renewal."""
    try:
        (resolved,) = find(settings)
        if problem.path != resolved.ocsp:
            return None
        pair = load_pair(replace(resolved, ocsp=None))
    except CertificateError:
        return None
    same = old is not None and old.fingerprint == pair.fingerprint
    return replace(pair, ocsp=old.ocsp) if old is not None and same else pair
