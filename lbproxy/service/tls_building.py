"""From a configuration and its files to what TLS is ended and begun with.

Builds everything beside what runs: strictly, where the first problem ends it and nothing has changed (threats.md L6),
or leniently, where what has become bad stays as it was and all the rest is new (L12). What did not change keeps its
OpenSSL context, and with it the tickets that clients hold. Owns no state, so it may be done in another thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property

from cryptography import x509
from OpenSSL import SSL, crypto

from lbproxy.certificates import CertificateError, Pair, Remark, judge, system_authorities
from lbproxy.model import Configuration
from lbproxy.model_tls import BackendTlsSettings, TlsPolicy, TlsSettings
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.contexts import WriteSecret, server_context
from lbproxy.net.tls.sites import Sites
from lbproxy.service.pair_files import by_any, by_names, read_pair_files
from lbproxy.service.tls_state import Built
from lbproxy.service.trust_files import Named, judge_trust, named_by, read_trust_file, trust_of


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
        built.pairs = read_pair_files(shown, memory.pairs, self._approve, by_names, self._unsettled)
        ours = [tls.certificate for tls in pools.values() if tls.certificate is not None]
        built.our_pairs = read_pair_files(ours, memory.our_pairs, _approve_any, by_any, self._unsettled)
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
        client = policy.client
        trust = None if client is None else trust_of(client.ca, client.crl, built.trust)
        trusted = None if trust is None else trust.fingerprint()
        key = tuple(pair.pem for pair in pairs), staples, policy, settings.tickets, settings.keylog, trusted
        found = built.contexts.get(key) or self._before.contexts.get(key)
        if found is None:
            for pair in pairs:
                if pair.ocsp is not None:
                    # So that the context asks here; what it gets is put there when it is taken.
                    self._stapled.setdefault(pair.fingerprint, b"")
            found = server_context(
                pairs,
                policy,
                trust=trust,
                tickets=settings.tickets,
                stapled=self._stapled,
                write_secret=None if settings.keylog is None else self._write_secret(settings.keylog),
            )
        built.contexts[key] = found
        return found

    def _take_back(self, problem: CertificateError) -> bool:
        """Go back to the last pair of the file that the problem is about; False where there is none to go back from."""
        pairs = None if self._strict else self._built.pairs.taken_back(problem, self._before.pairs)
        if pairs is None:
            return False
        self._built.pairs = pairs
        self._note(problem)
        return True

    # Pools.

    def _add_client(self, name: str, settings: BackendTlsSettings) -> None:
        """Make the TLS of a pool; where that cannot be, it stays as it was."""
        built, before = self._built, self._before
        try:
            self._make_client(name, settings)
            return
        except CertificateError as problem:
            pairs = None if self._strict else built.our_pairs.taken_back(problem, before.our_pairs)
            self._note(problem)
        except (SSL.Error, crypto.Error) as problem:
            pairs = None
            self._note(CertificateError(name, f"OpenSSL does not take the TLS settings of this pool: {problem}"))
        if pairs is not None:
            built.our_pairs = pairs
            self._add_client(name, settings)
        elif name in before.clients:
            built.clients[name] = before.clients[name]
            built.client_keys[name] = before.client_keys.get(name)
            if name in before.ours:
                built.ours[name] = before.ours[name]

    def _make_client(self, name: str, settings: BackendTlsSettings) -> None:
        """What did not change stays, and with it the TLS sessions that backends gave."""
        built, before = self._built, self._before
        trust = trust_of(settings.ca, settings.crl, built.trust)
        pair = self._our_pair(name, settings)
        key = settings, None if trust is None else trust.fingerprint(), None if pair is None else pair.pem
        same = name in before.clients and key == before.client_keys.get(name)
        built.clients[name] = before.clients[name] if same else ClientTls(settings, trust=trust, pair=pair)
        built.client_keys[name] = key

    def _our_pair(self, name: str, settings: BackendTlsSettings) -> Pair | None:
        """What we show to the backends of a pool; where that is in doubt, what we showed before."""
        if settings.certificate is None:
            return None
        built = self._built
        try:
            pair = built.our_pairs.shown(settings.certificate)
        except CertificateError as problem:
            self._note(problem)
            pair = self._before.ours[name]
        built.ours[name] = pair
        return pair


def _policies(listeners: Iterable[TlsSettings]) -> Iterator[TlsPolicy]:
    for tls in listeners:
        yield tls.policy
        for site in tls.sites:
            yield site.policy


def _approve_any(_: Pair) -> None:
    """Ours for backends: what servers' certificates need does not count for it."""
