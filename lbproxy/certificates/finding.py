"""Which files the settings mean, and everything that is in them.

Owns the layouts of directories: one of PEM files, and certbot's `live/`. Refuses to know what a good pair is beyond
having a key; every file that might be one is read, and what is wrong with it is gathered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography import x509

from lbproxy.certificates.content import certificates_of, is_certificate, is_key, read_blocks
from lbproxy.certificates.keys import key_places
from lbproxy.certificates.problem import CertificateError
from lbproxy.certificates.reading import Pair, load_pair
from lbproxy.model_tls import CertificateSettings

_ENDINGS = (".pem", ".crt", ".cer")
_CERTBOT = "fullchain.pem"
_CERTBOT_KEY = "privkey.pem"
# What certbot puts beside fullchain.pem: parts of it, and the key.
_CERTBOT_OTHERS = frozenset(("cert.pem", "chain.pem", _CERTBOT_KEY))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading: pairs in the order of the settings, and every problem with the index of its settings.

    `files` are the files and directories to watch, since a change to one of them would change the outcome. Some need
    not exist: a key or an OCSP response may yet be put there.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[tuple[int, CertificateError], ...]
    files: tuple[str, ...]


def find(settings: CertificateSettings) -> tuple[CertificateSettings, ...]:
    """The settings for each single file: a file is itself, a directory is every pair in it, sorted by name.

    In a directory *.pem, *.crt and *.cer count, unless their name begins with a dot, they hold no certificate, or only
    one that belongs to others; and of its sub-directories those that hold fullchain.pem and privkey.pem. A file beside
    with the ending .ocsp is taken as the response to be stapled. Raises CertificateError for a directory that cannot
    be read or has no pair.
    """
    if not os.path.isdir(settings.path):
        return (_with_response(settings),)
    for what, named in (("key", settings.key), ("OCSP response", settings.ocsp)):
        if named is not None:
            raise CertificateError(
                settings.path, f"is a directory, which cannot have the one {what} {named}; name a file, or leave it out"
            )
    paths = _pairs_in(settings.path)
    if not paths:
        raise CertificateError(
            settings.path,
            "is a directory without a certificate and its key (*.pem, *.crt or *.cer, or certbot's fullchain.pem)",
        )
    return tuple(_with_response(replace(settings, path=path)) for path in paths)


def load_all(settings: Iterable[CertificateSettings]) -> Loaded:
    """Read all of it. What is wrong is among the problems, raises nothing, and keeps no other pair from being read."""
    pairs: list[Pair] = []
    problems: list[tuple[int, CertificateError]] = []
    # A dict, for its keys in order.
    files: dict[str, None] = {}
    for index, one in enumerate(settings):
        files |= dict.fromkeys(_watched(one))
        try:
            found = find(one)
        except CertificateError as error:
            problems.append((index, error))
            continue
        for each in found:
            files |= dict.fromkeys(_watched(each))
            try:
                pairs.append(load_pair(each))
            except CertificateError as error:
                problems.append((index, error))
    return Loaded(tuple(pairs), tuple(problems), tuple(files))


def _with_response(settings: CertificateSettings) -> CertificateSettings:
    if settings.ocsp is None:
        for place in _response_places(settings.path):
            if os.path.isfile(place):
                return replace(settings, ocsp=place)
    return settings


def _response_places(path: str) -> tuple[str, ...]:
    # The second is HAProxy's way: site.pem and site.pem.ocsp.
    return f"{os.path.splitext(path)[0]}.ocsp", f"{path}.ocsp"


def _watched(settings: CertificateSettings) -> Iterable[str]:
    yield settings.path
    if settings.passphrase_file is not None:
        yield settings.passphrase_file
    if os.path.isdir(settings.path):
        try:
            names = _listed(settings.path)
        except CertificateError:
            return
        for name in names:
            path = os.path.join(settings.path, name)
            if os.path.isdir(path):
                yield path
            elif name.endswith(_ENDINGS):
                yield path
                yield from key_places(path)
        return
    yield from (settings.key,) if settings.key is not None else key_places(settings.path)
    yield from (settings.ocsp,) if settings.ocsp is not None else _response_places(settings.path)


def _listed(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError as error:
        raise CertificateError(directory, f"is a directory that cannot be read: {error.strerror}") from None


def _pairs_in(directory: str) -> list[str]:
    names = _listed(directory)
    passed_over = _CERTBOT_OTHERS if _CERTBOT in names else frozenset((_CERTBOT_KEY,))
    paths: list[str] = []
    for name in names:
        path = os.path.join(directory, name)
        if os.path.isdir(path):
            chain = os.path.join(path, _CERTBOT)
            if os.path.lexists(chain) and os.path.lexists(os.path.join(path, _CERTBOT_KEY)):
                paths.append(chain)
        elif name.endswith(_ENDINGS) and name not in passed_over and _begins_a_pair(path):
            paths.append(path)
    return paths


def _begins_a_pair(path: str) -> bool:
    """Whether the file is to be read as a pair, be it to say what is wrong with it."""
    try:
        blocks = read_blocks(path)
        if not any(is_certificate(block) for block in blocks):
            # Without any block it may be half of what it was to be.
            return not blocks
        if any(is_key(block) for block in blocks) or any(os.path.lexists(place) for place in key_places(path)):
            return True
        return not _is_authority(certificates_of(path, blocks)[0])
    except CertificateError:
        return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
