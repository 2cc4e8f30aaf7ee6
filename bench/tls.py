"""What TLS is in a run: one certificate for all proxies, and one suite and one group that every client offers alone.

The files are made at run time in the run's directory. The clients are bound to the suite and the group by OpenSSL's
own configuration file, so no proxy is configured for them; `offers` reads from a ClientHello that it worked. This
module does not know who the proxies and the clients are.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NAME = "bench.test"
"""The server name that every client sends; no resolver knows it (RFC 6761 keeps .test for this)."""

VERSION = "TLSv1.3"
SUITE = "TLS_AES_128_GCM_SHA256"
GROUP = "X25519"

SUITE_NUMBER = 0x1301
GROUP_NUMBER = 0x001D
SCSV_NUMBER = 0x00FF
"""Offered beside the suites and not one: the signal of RFC 5746."""

CLIENT = f"""\
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = {VERSION}
Groups = {GROUP}
Ciphersuites = {SUITE}
"""

WRK = """\
local lookup = wrk.lookup
wrk.lookup = function(_, service) return lookup("127.0.0.1", service) end
"""
"""wrk sends the name of its URL to the server and wants it resolved: it finds every name here."""


@dataclass(frozen=True)
class Material:
    """The files of a run; *both* is the certificate with the key behind it, as some programs want them."""

    certificate: Path
    key: Path
    both: Path
    client: Path
    wrk: Path

    @property
    def environment(self) -> dict[str, str]:
        """What binds a client to the suite and the group."""
        return {"OPENSSL_CONF": str(self.client)}


def make_material(directory: Path) -> Material:
    """Write a fresh ECDSA P-256 certificate, signed by itself, and the files of the clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, SHA256())
    )
    certificate_text = certificate.public_bytes(Encoding.PEM)
    key_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    material = Material(*(directory / name for name in ("cert.pem", "key.pem", "both.pem", "client.cnf", "wrk.lua")))
    for path, content, mode in (
        (material.certificate, certificate_text, 0o644),
        (material.key, key_text, 0o600),
        (material.both, certificate_text + key_text, 0o600),
        (material.client, CLIENT.encode(), 0o644),
        (material.wrk, WRK.encode(), 0o644),
    ):
        path.touch(mode=mode)
        path.write_bytes(content)
    return material


def summary() -> str:
    """What is the same for all, and the OpenSSL that `cryptography` brings along: it decides much of the cost."""
    library = " ".join(backend.openssl_version_text().split()[:2])
    return f"{VERSION}, {SUITE}, {GROUP}, ECDSA P-256; {library}"


def offers(hello: bytes) -> tuple[list[int], list[int]]:
    """The suites and the groups of a ClientHello that fits one record (RFC 8446, 4.1.2 and 4.2.7).

    Raises ValueError for anything else.
    """
    if len(hello) < 9 or hello[0] != 22 or hello[5] != 1:
        raise ValueError("not a ClientHello")
    body = hello[9 : 9 + int.from_bytes(hello[6:9])]
    if len(body) != int.from_bytes(hello[6:9]):
        raise ValueError("a ClientHello that is cut off")
    # The version and the random number are of fixed length; a session id, suites, compression and extensions follow.
    _, rest = split(body[34:], 1)
    suites, rest = split(rest, 2)
    _, rest = split(rest, 1)
    extensions, _ = split(rest, 2)
    groups = b""
    while extensions:
        kind = int.from_bytes(extensions[:2])
        content, extensions = split(extensions[2:], 2)
        if kind == 10:
            groups, _ = split(content, 2)
    return [number for number in numbers(suites) if number != SCSV_NUMBER], list(numbers(groups))


def split(data: bytes, size: int) -> tuple[bytes, bytes]:
    """A field whose length stands before it in *size* bytes, and what comes after; raises ValueError."""
    end = size + int.from_bytes(data[:size])
    if len(data) < max(size, end):
        raise ValueError("a field reaches beyond the end of the ClientHello")
    return data[size:end], data[end:]


def numbers(data: bytes) -> Iterator[int]:
    """The two-byte numbers in *data*."""
    return (int.from_bytes(data[index : index + 2]) for index in range(0, len(data), 2))
