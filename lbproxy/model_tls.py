"""What is configured about TLS, as frozen values.

Paths are absolute by the time they stand here: relative ones count from the directory of the configuration file.
Nothing here has been read; `lbproxy.certificates` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Profile = Literal["modern", "intermediate", "old"]


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """Where one certificate is, or a directory of them.

    `path` is a PEM file that holds the certificate and behind it its chain, or a directory of such files. The private
    key is in `key`, or (None) in the same file or in the file beside it. `ocsp` is a file with the OCSP response to be
    stapled, in DER.
    """

    path: str
    key: str | None = None
    passphrase_file: str | None = None
    ocsp: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class ClientAuthSettings:
    """Which client certificates are asked for: those issued under `ca`, a PEM file of authorities.

    Without one the handshake fails, unless it is `optional`. `crl` is a PEM file of revocation lists; with `soft`
    a list that is out of date, or missing for an authority, refuses nobody.
    """

    ca: str
    optional: bool = False
    crl: str | None = None
    soft: bool = False


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What a server name asks of its clients. `alpn` in the order of preference; empty leaves ALPN alone."""

    profile: Profile = "intermediate"
    alpn: tuple[str, ...] = ()
    client: ClientAuthSettings | None = None


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Names of a listener with a policy of their own; each exact, or `*.name` for one more label."""

    names: tuple[str, ...]
    policy: TlsPolicy
    line: int = 0


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How a listener ends TLS.

    `policy` is for every name without a site of its own. A client who names nobody we know gets the certificate of
    `default_name` (None: the first one), or with `refuse_unknown` an alert. `ocsp_fetch`: ask the responder that a
    certificate names for what is stapled. `keylog` is a file for the secrets of all sessions, for debugging only.
    """

    certificates: tuple[CertificateSettings, ...]
    policy: TlsPolicy = TlsPolicy()
    sites: tuple[SiteSettings, ...] = ()
    default_name: str | None = None
    refuse_unknown: bool = False
    tickets: bool = True
    ocsp_fetch: bool = True
    keylog: str | None = None


@dataclass(frozen=True, slots=True)
class BackendTlsSettings:
    """How a pool speaks TLS to its backends.

    `ca` is a PEM file of authorities, None for the system's. `server_name` is sent and verified in place of the
    backend's own host. `verify` False trusts anybody. `certificate` is ours, for backends that ask for one.
    """

    verify: bool = True
    ca: str | None = None
    crl: str | None = None
    soft: bool = False
    server_name: str | None = None
    certificate: CertificateSettings | None = None
    alpn: tuple[str, ...] = ()
    profile: Profile = "intermediate"
    sessions: bool = True
