"""From a configuration and its files to what TLS is ended and begun with.

Builds everything beside what runs: strictly, where the first problem ends it and nothing has changed (threats.md L6),
or leniently, where what has become bad stays as it was and all the rest is new (L12). What did not change keeps its
OpenSSL context, and with it the tickets that clients hold. Owns no state, so it may be done in another thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cached_property

from cryptography import x509
from OpenSSL import SSL, crypto

from lbproxy.certificates import CertificateError, Pair, Remark, judge, system_authorities
from lbproxy.model import Configuration
from lbproxy.model_tls import BackendTlsSettings, CertificateSettings, TlsPolicy, TlsSettings
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.contexts import WriteSecret, server_context
from lbproxy.net.tls.sites import Sites
from lbproxy.service.pair_files import PairFile, read_pair_files
from lbproxy.service.tls_state import Built
from lbproxy.service.trust_files import (
    Named,
    judge_trust,
    lent_policy,
    named_by,
    read_trust_file,
    trust_contents,
)


class Building:
    """Makes one Built from another; see the module."""

    def __init__(
        self,
        configuration: Configuration,
        before: Built,
        *,
        strict: bool,
        unsettled: Collection[str] = (),
        stapled: dict[str, bytes],
        write_secret: Callable[[str], WriteSecret],
        now: datetime,
    ) -> None:
        """`unsettled` files are left alone. `stapled` holds OCSP responses by fingerprint, `write_secret` gives what
        writes to the key log of that path, `now` is in UTC.
        """
        self._before = before
        self._strict = strict
        self._unsettled = unsettled
        self._stapled = stapled
        self._write_secret = write_secret
        self._now = now
        self._built = Built(configuration)
        self._configuration = configuration

    def build(self) -> Built:
        """The new state. Strictly, raises CertificateError for the first thing that is wrong."""
        built, before = self._built, self._before
        memory = Built() if self._strict else before
        listeners = {one.name: one.tls for one in self._configuration.listeners if one.tls is not None}
        pools = {one.name: one.tls for one in self._configuration.pools if one.tls is not None}
        shown = [one for tls in listeners.values() for one in tls.certificates]
        built.pairs = read_pair_files(shown, memory.pairs, self._approve, self._unsettled)
        ours = [tls.certificate for tls in pools.values() if tls.certificate is not None]
        built.our_pairs = read_pair_files(ours, memory.our_pairs, _approve_any, self._unsettled)
        for named in self._trusted(listeners, pools):
            built.trust[named] = read_trust_file(named, memory.trust.get(named), self._unsettled)
        self._note_files()
        if not self._strict and any(file is not before.trust.get(named) for named, file in built.trust.items()):
            built.remarks += self._judge_lists(listeners.values())
        for name, tls in listeners.items():
            self._add_sites(name, tls)
        for name, settings in pools.items():
            self._add_client(name, settings)
        return built

    def _trusted(
        self, listeners: Mapping[str, TlsSettings], pools: Mapping[str, BackendTlsSettings]
    ) -> dict[Named, None]:
        named: dict[Named, None] = {}
        for policy in _policies(listeners.values()):
            if policy.client is not None:
                named |= dict.fromkeys(named_by(policy.client.ca, policy.client.crl))
        for settings in pools.values():
            named |= dict.fromkeys(named_by(settings.ca, settings.crl))
        return named

    def _note_files(self) -> None:
        built = self._built
        trouble = [one.problem for one in built.trust.values() if one.problem is not None]
        for problem in (*built.pairs.problems(), *built.our_pairs.problems(), *trouble):
            self._note(problem)

    def _note(self, problem: CertificateError) -> None:
        if self._strict:
            raise problem
        if problem.path not in {known.path for known in self._built.problems}:
            self._built.problems.append(problem)

    @cached_property
    def _roots(self) -> tuple[x509.Certificate, ...]:
        return system_authorities()

    def _approve(self, pair: Pair) -> None:
        """Judge a new pair. At the start and on a reload the configuration has done so, with all the others."""
        if self._strict:
            return
        remarks = judge([pair], self._now, roots=self._roots)
        for remark in remarks:
            if remark.severity == "error":
                raise CertificateError(pair.path, remark.message)
        self._built.remarks += remarks

    def _judge_lists(self, listeners: Iterable[TlsSettings]) -> Iterator[Remark]:
        """What is to be said of the revocation lists of clients, now that one of the files is new."""
        demands = {policy.client for policy in _policies(listeners) if policy.client is not None}
        for ca, crl in dict.fromkeys((demand.ca, demand.crl) for demand in demands):
            yield from judge_trust(ca, crl, self._built.trust, self._now)

    # Listeners.

    def _add_sites(self, name: str, settings: TlsSettings) -> None:
        """Make the sites of a listener, without the pairs that only OpenSSL finds wanting."""
        built = self._built
        while True:
            try:
                built.sites[name] = self._sites(settings)
                return
            except CertificateError as problem:
                if self._take_back(problem):
                    continue
                self._note(problem)
            except (SSL.Error, crypto.Error) as problem:
                self._note(CertificateError(name, f"OpenSSL does not take the settings of this listener: {problem}"))
            if name in self._before.sites:
                built.sites[name] = self._before.sites[name]
            return

    def _sites(self, settings: TlsSettings) -> Sites:
        pairs = tuple(one.pair for one in self._built.pairs.of(settings.certificates) if one.pair is not None)
        return Sites(settings, pairs, lambda chosen, policy: self._context(chosen, policy, settings))

    def _context(self, pairs: tuple[Pair, ...], policy: TlsPolicy, settings: TlsSettings) -> SSL.Context:
        built = self._built
        staples = any(pair.ocsp is not None for pair in pairs)
        trusted = trust_contents(policy.client, built.trust)
        key = tuple(pair.pem for pair in pairs), staples, policy, settings.tickets, settings.keylog, trusted
        found = built.contexts.get(key) or self._before.contexts.get(key)
        if found is None:
            for pair in pairs:
                if pair.ocsp is not None:
                    # So that the context asks here; what it gets is put there when it is taken.
                    self._stapled.setdefault(pair.fingerprint, b"")
            with lent_policy(policy, built.trust) as lent:
                found = server_context(
                    pairs,
                    lent,
                    tickets=settings.tickets,
                    stapled=self._stapled,
                    write_secret=None if settings.keylog is None else self._write_secret(settings.keylog),
                )
        built.contexts[key] = found
        return found

    def _take_back(self, problem: CertificateError) -> bool:
        """Go back to the last pair of the file that the problem is about; False where there is none to go back from."""
        if self._strict:
            return False
        built = self._built
        for settings, one in built.pairs.files.items():
            if settings.path == problem.path and one.pair is not None and one.problem is None:
                old = self._before.pairs.files.get(settings)
                if old is not None and old.pair is one.pair:
                    return False
                self._replace(settings, one.refused(problem, old))
                self._note(problem)
                return True
        return False

    def _replace(self, settings: CertificateSettings, file: PairFile) -> None:
        pairs = self._built.pairs
        self._built.pairs = replace(pairs, files={**pairs.files, settings: file})

    # Pools.

    def _add_client(self, name: str, settings: BackendTlsSettings) -> None:
        """Make the TLS of a pool, or keep it whole where one of its files is bad or nothing has changed."""
        built, before = self._built, self._before
        old = before.clients.get(name)
        files = list(self._files_of(settings))
        key = settings, tuple(content for content, _ in files)
        if old is not None and (key == before.client_keys.get(name) or any(problem for _, problem in files)):
            built.clients[name] = old
            built.client_keys[name] = before.client_keys.get(name)
            return
        try:
            built.clients[name] = ClientTls(settings)
            built.client_keys[name] = key
        except CertificateError as problem:
            self._note(problem)
            if old is not None:
                built.clients[name] = old
                built.client_keys[name] = before.client_keys.get(name)

    def _files_of(self, settings: BackendTlsSettings) -> Iterator[tuple[object, CertificateError | None]]:
        """The content of every file of a pool, and what is wrong with it."""
        for named in named_by(settings.ca, settings.crl):
            file = self._built.trust[named]
            yield file.content, file.problem
        if settings.certificate is not None:
            for one in self._built.our_pairs.of([settings.certificate]):
                yield None if one.pair is None else one.pair.pem, one.problem


def _policies(listeners: Iterable[TlsSettings]) -> Iterator[TlsPolicy]:
    for tls in listeners:
        yield tls.policy
        for site in tls.sites:
            yield site.policy


def _approve_any(_: Pair) -> None:
    """Ours for backends: what servers' certificates need does not count for it."""
