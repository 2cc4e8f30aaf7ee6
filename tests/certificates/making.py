"""Certificates for tests: an authority, and what it issues. Quick, since keys are on P-256 unless asked otherwise.

Without `now` the dates count from the clock, for tests that speak TLS with OpenSSL; whoever judges dates hands it in.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Kind = Literal["ECDSA", "RSA", "Ed25519"]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
SignatureHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

# Peers' clocks are ours, but a certificate is not valid before the second in which it was made.
_EARLIER = timedelta(hours=1)


def make_key(kind: Kind = "ECDSA", bits: int = 2048) -> Key:
    if kind == "RSA":
        return rsa.generate_private_key(65537, bits)
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKeyTypes, passphrase: bytes | None = None, *, traditional: bool = False) -> bytes:
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    lock: KeySerializationEncryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, form, lock)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def case(value: object) -> str:
    """The id of a parameter: never its bytes, which are others in every process that collects the tests."""
    return value[:40] if isinstance(value, str) else "content"


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Issued:
    """A certificate with its key. `chain` are the intermediates that are served behind it."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def leaf_pem(self) -> bytes:
        return pem(self.certificate)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate and its chain, as it is served."""
        return pem(self.certificate, *self.chain)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, directory: Path | str, stem: str = "server") -> tuple[str, str]:
        """Write `stem`.crt with the chain and `stem`.key; their paths."""
        certificate, key = Path(directory) / f"{stem}.crt", Path(directory) / f"{stem}.key"
        certificate.write_bytes(self.certificate_pem)
        key.write_bytes(self.key_pem)
        return str(certificate), str(key)

    def write_both(self, directory: Path | str, stem: str = "server") -> str:
        """Write `stem`.pem with the key behind the chain; its path."""
        path = Path(directory) / f"{stem}.pem"
        path.write_bytes(self.certificate_pem + self.key_pem)
        return str(path)


class Authority:
    """A certificate authority. A root, unless `parent` is given; see `intermediate`."""

    def __init__(
        self,
        name: str = "Test CA",
        *,
        kind: Kind = "ECDSA",
        bits: int = 2048,
        days: float = 3650,
        now: datetime | None = None,
        parent: Authority | None = None,
    ) -> None:
        self.name = name
        self.now = now if now is not None else datetime.now(UTC)
        self.parent = parent
        self.key = make_key(kind, bits)
        signer = parent or self
        builder = (
            self._builder(common_name(name), self.now, days)
            .issuer_name(common_name(signer.name))
            .public_key(self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        )
        self.certificate = builder.sign(signer.key, _hash_for(signer.key))

    @staticmethod
    def _builder(subject: x509.Name, now: datetime, days: float) -> x509.CertificateBuilder:
        end = now + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, end) - _EARLIER)
            .not_valid_after(end)
        )

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return pem(self.certificate)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What is served behind a certificate of its making: itself and those above it, without the root."""
        return (self.certificate, *self.parent.chain) if self.parent is not None else ()

    def write(self, directory: Path | str, stem: str = "ca") -> str:
        path = Path(directory) / f"{stem}.pem"
        path.write_bytes(self.pem)
        return str(path)

    def intermediate(self, name: str = "Test Intermediate", *, kind: Kind = "ECDSA", days: float = 1825) -> Authority:
        return Authority(name, kind=kind, days=days, now=self.now, parent=self)

    def issue(
        self,
        *names: str,
        kind: Kind = "ECDSA",
        bits: int = 2048,
        days: float = 90,
        now: datetime | None = None,
        client: bool = False,
        subject: str | x509.Name | None = None,
        key: Key | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
        responder: str | None = None,
        must_staple: bool = False,
    ) -> Issued:
        """A certificate for host names and IP addresses; with `client` one that only clients may show.

        `subject` is the common name, the first of `names` if it is not given. A negative `days` makes one that has
        expired. `responder` is the URL of its OCSP responder. `extensions` are put in as they are.
        """
        key = key or make_key(kind, bits)
        if not isinstance(subject, x509.Name):
            subject = common_name(subject if subject is not None else names[0] if names else "nobody")
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            self._builder(subject, now or self.now, days)
            .issuer_name(common_name(self.name))
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        given = {type(extension) for extension in extensions}
        if x509.ExtendedKeyUsage not in given:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if names:
            builder = builder.add_extension(alternative_names(*names), critical=False)
        if responder is not None:
            where = x509.UniformResourceIdentifier(responder)
            access = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, where)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        if must_staple:
            builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Issued(builder.sign(self.key, _hash_for(self.key)), key, self.chain)

    def crl(
        self, *revoked: int | Issued, now: datetime | None = None, days: float = 30
    ) -> x509.CertificateRevocationList:
        """A revocation list, made `now` (else when the authority was) and good for `days`, which may be negative."""
        start = now or self.now
        end = start + timedelta(days=days)
        made = min(start, end) - _EARLIER
        builder = x509.CertificateRevocationListBuilder().issuer_name(common_name(self.name))
        builder = builder.last_update(made).next_update(end)
        for one in revoked:
            serial = one.serial if isinstance(one, Issued) else one
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(made).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, _hash_for(self.key))

    def crl_pem(self, *revoked: int | Issued, now: datetime | None = None, days: float = 30) -> bytes:
        return self.crl(*revoked, now=now, days=days).public_bytes(Encoding.PEM)

    def ocsp(
        self, issued: Issued, *, revoked: bool = False, now: datetime | None = None, days: float | None = 7
    ) -> bytes:
        """The DER of the response about `issued`, made `now` and good for `days` (None: it does not say)."""
        start = now or self.now
        end = None if days is None else start + timedelta(days=days)
        made = min(start, end or start) - _EARLIER
        status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                issued.certificate, self.certificate, hashes.SHA1(), status, made, end, made if revoked else None, None
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
        )
        return builder.sign(self.key, _hash_for(self.key)).public_bytes(Encoding.DER)


def self_signed(*names: str, kind: Kind = "ECDSA", days: float = 90, now: datetime | None = None) -> Issued:
    """A certificate that vouches for itself."""
    key = make_key(kind)
    start = now or datetime.now(UTC)
    end = start + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(names[0]))
        .issuer_name(common_name(names[0]))
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(start, end) - _EARLIER)
        .not_valid_after(end)
        .public_key(key.public_key())
        .add_extension(alternative_names(*names), critical=False)
    )
    return Issued(builder.sign(key, _hash_for(key)), key)


def alternative_names(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _hash_for(key: Key) -> SignatureHash | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@contextmanager
def not_as_root() -> Iterator[None]:
    """For as long as this lasts, be somebody whom the modes of files stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
