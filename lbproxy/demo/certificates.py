"""Throw-away certificates for the demo: an authority, a server's certificate under it, and one for a client; and the
secret that signs cookies.

Owns their names and their files. The authority's key is never written, and its word counts for this machine's own names
only, so nothing bad comes of trusting it. All are made anew when one of them is missing, or not valid for much longer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lbproxy.certificates import CertificateError, load_authorities, load_pair
from lbproxy.model_tls import CertificateSettings

NAMES = ("localhost", "admin.localhost")
_ADDRESSES = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
_NETWORKS = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_LIFE = timedelta(days=30)
_LEFT = timedelta(days=1)
# Clocks of virtual machines step back now and then.
_EARLIER = timedelta(hours=1)
_OPEN, _PRIVATE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where they are. `client` holds certificate and key, as curl takes it, `sticky` the secret for cookies."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    sticky: Path


@dataclass(frozen=True, slots=True)
class _Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def files_in(directory: Path) -> DemoFiles:
    """The files by their names, whether they exist or not."""
    names = ("ca.pem", "localhost.pem", "localhost.key", "client.pem", "sticky.keys")
    return DemoFiles(*(directory / name for name in names))


def ensure(directory: Path, now: datetime) -> DemoFiles:
    """The files in `directory`, made if those there will not do; `now` is in UTC.

    Raises OSError when they cannot be written.
    """
    files = files_in(directory)
    if not _good(files, now):
        directory.mkdir(parents=True, exist_ok=True)
        _make(files, now)
    if not files.sticky.exists():
        _write(files.sticky, f"{secrets.token_urlsafe(32)}\n".encode(), _PRIVATE)
    return files


def _good(files: DemoFiles, now: datetime) -> bool:
    with contextlib.suppress(CertificateError):
        authorities = tuple(load_authorities(str(files.ca)))
        server = load_pair(CertificateSettings(str(files.server), str(files.server_key)))
        client = load_pair(CertificateSettings(str(files.client)))
        return server.names == NAMES and all(
            authorities == (pair.root,) and pair.not_before <= now < pair.not_after - _LEFT for pair in (server, client)
        )
    return False


def _make(files: DemoFiles, now: datetime) -> None:
    authority = _authority(now)
    names = [*(x509.DNSName(name) for name in NAMES), *(x509.IPAddress(address) for address in _ADDRESSES)]
    server = _issue(authority, "localhost", names, ExtendedKeyUsageOID.SERVER_AUTH, now)
    client = _issue(authority, "lbproxy demo client", (), ExtendedKeyUsageOID.CLIENT_AUTH, now)
    root = _pem(authority.certificate)
    _write(files.ca, root, _OPEN)
    _write(files.server_key, _key_pem(server.key), _PRIVATE)
    _write(files.server, _pem(server.certificate) + root, _OPEN)
    _write(files.client, _pem(client.certificate) + root + _key_pem(client.key), _PRIVATE)


def _authority(now: datetime) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own each time: browsers take two authorities of one name for one that contradicts itself.
    name = f"lbproxy demo CA of {now:%Y-%m-%d %H:%M:%S}"
    within = [x509.DNSName("localhost"), *(x509.IPAddress(network) for network in _NETWORKS)]
    builder = (
        _builder(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.NameConstraints(permitted_subtrees=within, excluded_subtrees=None), critical=True)
    )
    return _Issued(builder.sign(key, SHA256()), key)


def _issue(
    authority: _Issued, subject: str, names: Sequence[x509.GeneralName], use: x509.ObjectIdentifier, now: datetime
) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = (
        _builder(subject, str(issuer), key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _Issued(builder.sign(authority.key, SHA256()), key)


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _LIFE)
        .public_key(key.public_key())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write the file whole or not at all, never with a looser mode than `mode`."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    new.replace(path)
