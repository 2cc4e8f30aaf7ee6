"""Which certificate and policy a client of a TLS listener gets, by the name that it asks for.

The choice is made from the ClientHello, before OpenSSL has seen a byte of it: nothing of one site, neither tickets nor
what it asks of clients, can then be carried over to another (threats.md L1, L4, L5). Owns that choice; the files behind
it are read in `lbproxy.certificates`, and OpenSSL is told in `contexts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from OpenSSL import SSL

from lbproxy.certificates import NameIndex, Pair
from lbproxy.model_tls import TlsPolicy, TlsSettings
from lbproxy.preamble import NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME, ClientHello, alert

MakeContext = Callable[[tuple[Pair, ...], TlsPolicy], SSL.Context]


@dataclass(frozen=True, slots=True)
class Site:
    """What certain names are served with. `alpn` are the protocols as bytes, `asks` is True where clients are asked
    for a certificate.
    """

    openssl: SSL.Context
    policy: TlsPolicy
    alpn: tuple[bytes, ...]
    asks: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client is turned away before the handshake; `alert` is the record that tells it so."""

    word: str
    message: str
    alert: bytes


_UNKNOWN_NAME = Refusal(
    "unknown_name", "it asked for a name that is not served here (rule=L1)", alert(UNRECOGNIZED_NAME)
)
_NO_NAME = Refusal("unknown_name", "it asked for no name (rule=L1)", alert(UNRECOGNIZED_NAME))
_NO_PROTOCOL = Refusal(
    "no_application_protocol",
    "it offers no application protocol that is served here (rule=L17)",
    alert(NO_APPLICATION_PROTOCOL),
)


class Sites:
    """The sites of one listener. `pairs` is what they serve."""

    def __init__(self, settings: TlsSettings, pairs: Sequence[Pair], make: MakeContext) -> None:
        """`make` gives the context for certificates of one name, at most one of each kind, under a policy."""
        self.settings = settings
        self.pairs = tuple(pairs)
        self._policies: NameIndex[TlsPolicy] = NameIndex()
        self._policy_of = {name: site.policy for site in settings.sites for name in site.names}
        for name, policy in self._policy_of.items():
            self._policies.add(name, policy)
        self._index: NameIndex[Site] = NameIndex()
        site_for = _SiteMaker(make)
        self._fill(site_for)
        self._default = None if settings.refuse_unknown else self._default_site(site_for)

    def choose(self, hello: ClientHello) -> Site | Refusal:
        """The site for this client, or why there is none."""
        name = hello.server_name
        site = None if name is None else self._index.find(name)
        if site is None:
            site = self._default
            # A name with a policy of its own, but without a certificate, must not slip through under another policy.
            if site is None or (name is not None and self._policies.find(name) is not None):
                return _UNKNOWN_NAME if hello.named else _NO_NAME
        if site.alpn and hello.alpn and not any(name in hello.alpn for name in site.alpn):
            return _NO_PROTOCOL
        return site

    def alike(self, server_name: str | None, host: str) -> bool:
        """Whether a session that was begun for `server_name` (None: for no name) may ask for `host` too: both are
        served under the same policy, so nothing is got around by it (threats.md L2).
        """
        if server_name == host or not self._policy_of:
            return True
        asked = self.settings.policy if server_name is None else self._policy(server_name)
        return asked == self._policy(host)

    def _fill(self, site_for: _SiteMaker) -> None:
        by_name: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            for name in pair.names:
                by_name.setdefault(name, []).append(pair)
        for name in dict.fromkeys([*by_name, *self._policy_of]):
            pairs = by_name.get(name) or by_name.get(_wildcard(name))
            if pairs:
                self._index.add(name, site_for(pairs, self._policy(name)))

    def _policy(self, name: str) -> TlsPolicy:
        # Only the same wildcard covers all that a wildcard stands for.
        found = self._policy_of.get(name) if name.startswith("*.") else self._policies.find(name)
        return self.settings.policy if found is None else found

    def _default_site(self, site_for: _SiteMaker) -> Site | None:
        name = self.settings.default_name
        if name is not None:
            pairs = [pair for pair in self.pairs if name in pair.names]
            pairs = pairs or [pair for pair in self.pairs if _wildcard(name) in pair.names]
        else:
            first = self.pairs[:1]
            pairs = [pair for pair in self.pairs if first and set(first[0].names) <= set(pair.names)]
        # The policy is the listener's, never that of the site whose certificate happens to be shown (L1).
        return site_for(pairs, self.settings.policy) if pairs else None


class _SiteMaker:
    """Makes sites, each once. It lives no longer than the making: whoever made it may hold much more."""

    def __init__(self, make: MakeContext) -> None:
        self._make = make
        self._made: dict[tuple[tuple[str, ...], TlsPolicy], Site] = {}

    def __call__(self, pairs: Iterable[Pair], policy: TlsPolicy) -> Site:
        chosen: dict[str, Pair] = {}
        for pair in pairs:
            chosen.setdefault(pair.kind, pair)
        served = tuple(chosen.values())
        key = tuple(pair.fingerprint for pair in served), policy
        if key not in self._made:
            alpn = tuple(name.encode() for name in policy.alpn)
            self._made[key] = Site(self._make(served, policy), policy, alpn, policy.client is not None)
        return self._made[key]


def _wildcard(name: str) -> str:
    """The pattern that covers `name` and its siblings."""
    return "*." + name.partition(".")[2]
