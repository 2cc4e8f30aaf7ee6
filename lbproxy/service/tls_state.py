"""One state of all TLS: what was made, and the files that it came from.

A state is not changed once it runs, so another thread may build the next one from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from OpenSSL import SSL

from lbproxy.certificates import CertificateError, Pair, Remark
from lbproxy.model import Configuration
from lbproxy.model_tls import TlsPolicy
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.sites import Sites
from lbproxy.service.pair_files import PairFiles
from lbproxy.service.trust_files import Named, TrustFile
from lbproxy.service.watching import Stamp

# Everything that a context is made from: certificates, whether it staples, policy, tickets, key log, whom it trusts.
ContextKey = tuple[tuple[bytes, ...], bool, TlsPolicy, bool, str | None, object]


@dataclass(slots=True)
class Built:
    """Sites by listener, clients by pool, and their files: `our_pairs` are those that may be shown to backends, `ours`
    the one that is, by pool.

    `problems` are the files that are not as they should be now, `remarks` what is to be said of those that are new.
    """

    configuration: Configuration | None = None
    sites: dict[str, Sites] = field(default_factory=dict)
    clients: dict[str, ClientTls] = field(default_factory=dict)
    pairs: PairFiles = field(default_factory=PairFiles)
    our_pairs: PairFiles = field(default_factory=PairFiles)
    ours: dict[str, Pair] = field(default_factory=dict)
    trust: dict[Named, TrustFile] = field(default_factory=dict)
    contexts: dict[ContextKey, SSL.Context] = field(default_factory=dict)
    client_keys: dict[str, object] = field(default_factory=dict)
    problems: list[CertificateError] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def stamps(self) -> dict[str, Stamp]:
        """What to look at: every file, and what it was when it was read."""
        seen = self.pairs.stamps() | self.our_pairs.stamps()
        for one in self.trust.values():
            seen.update(one.stamps)
        return seen
