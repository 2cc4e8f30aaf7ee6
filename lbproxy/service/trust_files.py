"""Authorities and revocation lists, read with a memory as pairs are: one that has become bad keeps its last content.

Owns threats.md L6 while the proxy runs: what was asked of clients goes on being asked. What was judged is what is
used, whatever has become of the file since. Refuses to know OpenSSL.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from lbproxy.certificates import CertificateError, Remark, Trust, judge_revocations, read_authorities, read_revocations
from lbproxy.certificates.files import read_file
from lbproxy.certificates.trust import MOST_AUTHORITIES_BYTES, MOST_REVOCATIONS_BYTES
from lbproxy.service.watching import Stamps, stamps_of

Kind = Literal["authorities", "revocations"]
Named = tuple[str, Kind]

_MOST_BYTES = {"authorities": MOST_AUTHORITIES_BYTES, "revocations": MOST_REVOCATIONS_BYTES}


@dataclass(frozen=True, slots=True)
class TrustFile:
    """One file: its last good content, and that as what it means (None: it never was good); what is wrong with it now.

    `trust` has authorities or lists, as the file is one of the former or of the latter.
    """

    content: bytes | None = field(repr=False)
    trust: Trust | None
    problem: CertificateError | None
    stamps: Stamps


TrustFiles = Mapping[Named, TrustFile]


def named_by(ca: str | None, crl: str | None) -> list[Named]:
    """The files of one demand."""
    named: list[Named] = [(ca, "authorities")] if ca is not None else []
    return [*named, (crl, "revocations")] if crl is not None else named


def read_trust_file(named: Named, before: TrustFile | None, unsettled: Collection[str] = ()) -> TrustFile:
    """Read it, if it is not as it was before."""
    path, kind = named
    # Before the reading: a change during it is seen by the next look.
    stamps = stamps_of((path,))
    if before is not None and (stamps == before.stamps or path in unsettled):
        return before
    old = TrustFile(None, None, None, stamps) if before is None else replace(before, problem=None, stamps=stamps)
    try:
        content = read_file(path, _MOST_BYTES[kind])
        return old if content == old.content else TrustFile(content, _read(content, path, kind), None, stamps)
    except CertificateError as problem:
        return replace(old, problem=problem)


def _read(content: bytes, path: str, kind: Kind) -> Trust:
    if kind == "authorities":
        return Trust(read_authorities(content, path))
    return Trust((), read_revocations(content, path))


def trust_of(ca: str | None, crl: str | None, files: TrustFiles) -> Trust | None:
    """What these two files hold, each as it was last good; None if neither is named.

    Raises CertificateError for one that never was.
    """
    if ca is None and crl is None:
        return None
    return Trust(
        () if ca is None else _good(files, ca, "authorities").authorities,
        () if crl is None else _good(files, crl, "revocations").revocations,
    )


def _good(files: TrustFiles, path: str, kind: Kind) -> Trust:
    trust = files[path, kind].trust
    if trust is None:
        raise CertificateError(path, "was never read")
    return trust


def judge_trust(ca: str | None, crl: str | None, files: TrustFiles, now: datetime) -> list[Remark]:
    """What is to be said about the revocation lists at `crl` beside the authorities at `ca`."""
    trust = trust_of(ca, crl, files)
    if trust is None or not trust.authorities or crl is None:
        return []
    return [replace(remark, path=crl) for remark in judge_revocations(trust.revocations, trust.authorities, now)]
