"""Authorities and revocation lists, read with a memory as pairs are: one that has become bad keeps its last content.

Owns threats.md L6 while the proxy runs: what was asked of clients goes on being asked. What was judged is lent to
those who read files themselves, so that it is what is used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from lbproxy.certificates import CertificateError, Remark, judge_revocations, load_authorities, load_revocations
from lbproxy.certificates.files import read_file
from lbproxy.model_tls import ClientAuthSettings, TlsPolicy
from lbproxy.service.lending import as_file
from lbproxy.service.watching import Stamps, stamps_of

Kind = Literal["authorities", "revocations"]
Named = tuple[str, Kind]

_LOAD = {"authorities": load_authorities, "revocations": load_revocations}
# As much as `lbproxy.certificates` reads of either kind, which then looks more closely.
_MOST_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class TrustFile:
    """One file: its last good content (None: it never was good), and what is wrong with it now."""

    content: bytes | None
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
    stamps = stamps_of((path,))
    if before is not None and (stamps == before.stamps or path in unsettled):
        return before
    old = None if before is None else before.content
    try:
        content = read_file(path, _MOST_BYTES)
        if content != old:
            _check(content, path, kind)
    except CertificateError as problem:
        return TrustFile(old, problem, stamps)
    return TrustFile(content, None, stamps)


def _check(content: bytes, path: str, kind: Kind) -> None:
    with as_file(content) as lent:
        try:
            _LOAD[kind](lent)
        except CertificateError as problem:
            raise CertificateError(path, problem.message) from None


@contextmanager
def lent_policy(policy: TlsPolicy, files: TrustFiles) -> Iterator[TlsPolicy]:
    """The policy with its files as they were judged."""
    client = policy.client
    if client is None:
        yield policy
        return
    with ExitStack() as stack:
        ca = stack.enter_context(as_file(_content(files, client.ca, "authorities")))
        crl = None if client.crl is None else stack.enter_context(as_file(_content(files, client.crl, "revocations")))
        yield replace(policy, client=replace(client, ca=ca, crl=crl))


def trust_contents(client: ClientAuthSettings | None, files: TrustFiles) -> tuple[bytes, ...]:
    """The content of the files that say whom we trust: with another content it is another context."""
    if client is None:
        return ()
    return tuple(_content(files, path, kind) for path, kind in named_by(client.ca, client.crl))


def _content(files: TrustFiles, path: str, kind: Kind) -> bytes:
    content = files[path, kind].content
    if content is None:
        raise CertificateError(path, "was never read")
    return content


def judge_trust(ca: str | None, crl: str | None, files: TrustFiles, now: datetime) -> list[Remark]:
    """What is to be said about the revocation lists at `crl` beside the authorities at `ca`."""
    if ca is None or crl is None:
        return []
    with (
        as_file(_content(files, ca, "authorities")) as authorities,
        as_file(_content(files, crl, "revocations")) as lists,
    ):
        remarks = judge_revocations(load_revocations(lists), load_authorities(authorities), now)
    return [replace(remark, path=crl) for remark in remarks]
