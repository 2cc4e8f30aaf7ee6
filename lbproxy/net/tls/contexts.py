"""OpenSSL's contexts, made from settings and certificates that have been read.

A context is never changed once connections use it: whatever changes makes a new one. Each has ticket keys of its own,
which OpenSSL makes with it, so that a ticket resumes under the settings only under which it was given (threats.md L5).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store, X509StoreFlags

from lbproxy.certificates import CertificateError, Pair, Trust, asked_trust
from lbproxy.model_tls import ClientAuthSettings, Profile, TlsPolicy
from lbproxy.net.tls.binding import set_groups
from lbproxy.net.tls.failures import reasons_of
from lbproxy.net.tls.profiles import GROUPS, SUITES

# X509_V_ERR_*: no list for an authority, a list not valid yet, a list out of date.
_REVOCATION_UNKNOWN = frozenset({3, 11, 12})

# SSL_MODE_NO_AUTO_CHAIN: what is sent is what the file holds, without a search for more in every handshake.
_NO_AUTO_CHAIN = 8

WriteSecret = Callable[[bytes], None]


def server_context(
    pairs: Sequence[Pair],
    policy: TlsPolicy,
    *,
    trust: Trust | None,
    tickets: bool,
    stapled: Mapping[str, bytes],
    write_secret: WriteSecret | None,
) -> SSL.Context:
    """What serves `pairs`, at most one of each kind of key, under `policy`.

    `trust` is the content of the files that `policy.client` names. `stapled` holds OCSP responses by the fingerprint of
    their certificate and may change later. `write_secret` takes lines for a key log. Raises CertificateError for a
    certificate that OpenSSL refuses, and ValueError where `trust` is not what the policy asks for (L6).
    """
    client = policy.client
    trusted = asked_trust(trust, *((None, None) if client is None else (client.ca, client.crl)))
    openssl = _context(SSL.TLS_SERVER_METHOD, policy.profile)
    for pair in pairs:
        _use_pair(openssl, pair)
    openssl.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    # Tickets need no memory here; a table of sessions would.
    openssl.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if not tickets:
        openssl.set_options(SSL.OP_NO_TICKET)
    openssl.set_session_id(_fingerprint(pairs, policy, trusted))
    if policy.alpn:
        openssl.set_alpn_select_callback(_selecting([name.encode() for name in policy.alpn]))
    if client is not None:
        _ask_clients(openssl, client, trusted)
    if any(pair.fingerprint in stapled for pair in pairs) or any(_names_responder(pair) for pair in pairs):
        openssl.set_ocsp_server_callback(_stapling(stapled))
    if write_secret is not None:
        openssl.set_keylog_callback(lambda _, line: write_secret(line))
    return openssl


def client_context(
    profile: Profile,
    alpn: Sequence[str],
    *,
    verify: bool,
    authorities: Sequence[x509.Certificate] | None,
    revocations: Sequence[x509.CertificateRevocationList],
    soft: bool,
    pair: Pair | None,
) -> SSL.Context:
    """What speaks to backends. `authorities` None: those of the system. Raises CertificateError."""
    openssl = _context(SSL.TLS_CLIENT_METHOD, profile)
    openssl.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    openssl.set_options(SSL.OP_NO_RENEGOTIATION)
    if alpn:
        openssl.set_alpn_protos([name.encode() for name in alpn])
    if pair is not None:
        _use_pair(openssl, pair)
    if verify:
        if authorities is None:
            openssl.set_default_verify_paths()
        _trust(_store(openssl), authorities or (), revocations)
        openssl.set_verify(SSL.VERIFY_PEER, _verifying(soft=soft))
    return openssl


def _context(method: int, profile: Profile) -> SSL.Context:
    suite = SUITES[profile]
    openssl = SSL.Context(method)
    openssl.set_min_proto_version(suite.least_version)
    openssl.set_cipher_list(suite.ciphers.encode())
    openssl.set_tls13_ciphersuites(suite.ciphersuites.encode())
    openssl.set_options(SSL.OP_NO_COMPRESSION)
    # An idle connection keeps no record buffers: 34 KB less.
    openssl.set_mode(SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    set_groups(openssl, GROUPS)
    return openssl


def _use_pair(openssl: SSL.Context, pair: Pair) -> None:
    """Load a certificate with its chain and key. The chain belongs to its certificate, which only a file can say."""
    try:
        with _as_file(pair.pem) as path:
            openssl.use_certificate_chain_file(path)
        openssl.use_privatekey(pair.key)  # type: ignore[arg-type]  # of the kinds that OpenSSL serves, see Pair
        openssl.check_privatekey()
    except SSL.Error as problem:
        reasons = ", ".join(reasons_of(problem)) or "it gives no reason"
        raise CertificateError(pair.path, f"OpenSSL does not take it: {reasons}") from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A file of this content that nobody else sees: exactly the bytes that were read and judged."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as stream:
            stream.write(content)
            stream.flush()
            yield stream.name


def _fingerprint(pairs: Sequence[Pair], policy: TlsPolicy, trust: Trust) -> bytes:
    """What names these settings to OpenSSL, 32 bytes. Contents count, wherever they were read."""
    client = policy.client
    asked = None if client is None else (client.optional, client.soft)
    served = tuple(pair.fingerprint for pair in pairs)
    return hashlib.sha256(repr((policy.profile, policy.alpn, asked, served, trust.fingerprint())).encode()).digest()


def _selecting(ours: Sequence[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    """The choice among a client's protocols, in our order (RFC 7301, 3.2). Without a common one it has been refused."""

    def select(_: SSL.Connection, offered: list[bytes]) -> bytes:
        found = next((name for name in ours if name in offered), None)
        return found if found is not None else SSL.NO_OVERLAPPING_PROTOCOLS  # type: ignore[return-value]  # a sentinel

    return select


def _names_responder(pair: Pair) -> bool:
    try:
        access = pair.certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(one.access_method == AuthorityInformationAccessOID.OCSP for one in access)


def _stapling(stapled: Mapping[str, bytes]) -> Callable[[SSL.Connection, object], bytes]:
    def staple(connection: SSL.Connection, _: object) -> bytes:
        served = connection.get_certificate(as_cryptography=True)
        if served is None:
            return b""
        return stapled.get(hashlib.sha256(served.public_bytes(Encoding.DER)).hexdigest(), b"")

    return staple


def _ask_clients(openssl: SSL.Context, settings: ClientAuthSettings, trust: Trust) -> None:
    for authority in trust.authorities:
        openssl.add_client_ca(authority)
    _trust(_store(openssl), trust.authorities, trust.revocations)
    mode = SSL.VERIFY_PEER if settings.optional else SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    openssl.set_verify(mode, _verifying(soft=settings.soft))


def _store(openssl: SSL.Context) -> X509Store:
    store = openssl.get_cert_store()
    if store is None:
        raise SSL.Error([("", "", "a context without a certificate store")])
    return store


def _trust(
    store: X509Store,
    authorities: Sequence[x509.Certificate],
    revocations: Sequence[x509.CertificateRevocationList],
) -> None:
    for authority in authorities:
        store.add_cert(X509.from_cryptography(authority))
    for revocation in revocations:
        store.add_crl(revocation)
    if revocations:
        store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)


def _verifying(*, soft: bool) -> Callable[[SSL.Connection, X509, int, int, int], bool]:
    """OpenSSL's verdict on each certificate of a chain, with its code noted where the connection keeps them (L13)."""

    def verify(connection: SSL.Connection, _: X509, code: int, _depth: int, ok: int) -> bool:
        if ok or (soft and code in _REVOCATION_UNKNOWN):
            return True
        noted = connection.get_app_data()
        if isinstance(noted, list):
            noted.append(code)
        return False

    return verify
