"""Whether pairs that were read will satisfy clients, and what the operator had better know.

Owns the rules on dates, chains, names and strength (threats.md L7). An expired pair is only a warning: to serve it is
better than not to start. Refuses to know the clock and the system's roots; both are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from lbproxy.certificates.chain import Issuers
from lbproxy.certificates.reading import Pair
from lbproxy.certificates.remark import Remark, Severity, called, moment, span
from lbproxy.certificates.stapling import find_single

_LEAST_RSA_BITS = 2048
_WEAK_HASHES = frozenset(("md5", "sha1"))
# RSA and ECDSA with MD2, MD4, MD5 and SHA-1 (RFC 8017, RFC 3279), for signatures whose hash is not known here.
_WEAK_SIGNATURES = frozenset(f"1.2.840.113549.1.1.{last}" for last in (2, 3, 4, 5)) | {"1.2.840.10045.4.1"}
_MOST_NAMES = 5

_Finding = tuple[Severity, str]


def judge(
    pairs: Sequence[Pair],
    now: datetime,
    soon: timedelta = timedelta(days=14),
    roots: Sequence[x509.Certificate] = (),
) -> list[Remark]:
    """Everything that is to be said about the pairs, each on its own and then beside the others.

    `now` is in UTC. `soon` is how long before its end a certificate is spoken of. `roots` are what clients are taken
    to trust. An error means that the pair must not be served.
    """
    trusted = Issuers(roots)
    remarks = [
        Remark(severity, message, pair.path, index)
        for index, pair in enumerate(pairs)
        for severity, message in _findings(pair, now, soon, trusted)
    ]
    remarks.extend(_shared_names(pairs))
    return remarks


def _findings(pair: Pair, now: datetime, soon: timedelta, trusted: Issuers) -> Iterator[_Finding]:
    yield from _dates(pair, now, soon)
    yield from _chain(pair, trusted)
    yield from _strength(pair)
    yield from _use(pair)
    yield from _response(pair, now)


def _dates(pair: Pair, now: datetime, soon: timedelta) -> Iterator[_Finding]:
    if now > pair.not_after:
        yield "warning", f"expired on {moment(pair.not_after)}, {span(now - pair.not_after)} ago"
    elif now < pair.not_before:
        yield "warning", f"is not valid before {moment(pair.not_before)}, in {span(pair.not_before - now)}"
    elif pair.not_after - now < soon:
        yield "warning", f"expires on {moment(pair.not_after)}, in {span(pair.not_after - now)}"
    for issuer in pair.chain:
        if now > issuer.not_valid_after_utc:
            yield "warning", f"its issuer {called(issuer.subject)} expired on {moment(issuer.not_valid_after_utc)}"


def _chain(pair: Pair, trusted: Issuers) -> Iterator[_Finding]:
    if pair.root is not None:
        if pair.root == pair.certificate:
            yield "warning", "is self-signed: only clients that were told to will trust it"
        return
    path = (pair.certificate, *pair.chain)
    last = path[-1]
    # A client stops at the first issuer that it knows: what follows may be a cross-signature of an old root.
    if not any(trusted.of(certificate) for certificate in path):
        yield (
            "warning",
            f"its chain is incomplete: the certificate of {called(last.issuer)} is missing; "
            "put it behind the others, unless every client has it",
        )


def _strength(pair: Pair) -> Iterator[_Finding]:
    for certificate in (pair.certificate, *pair.chain):
        whose = "its" if certificate is pair.certificate else f"the issuer {called(certificate.subject)}'s"
        bits = _rsa_bits(certificate)
        if bits is not None and bits < _LEAST_RSA_BITS:
            yield "error", f"{whose} RSA key has {bits} bits; at least {_LEAST_RSA_BITS} are wanted"
        weak = _weak_hash(certificate)
        if weak:
            yield "error", f"{whose} signature is made with {weak}, which clients refuse; have it issued anew"


def _rsa_bits(certificate: x509.Certificate) -> int | None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def _weak_hash(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return "an old hash" if certificate.signature_algorithm_oid.dotted_string in _WEAK_SIGNATURES else ""
    return algorithm.name.upper() if algorithm is not None and algorithm.name in _WEAK_HASHES else ""


def _use(pair: Pair) -> Iterator[_Finding]:
    if not pair.names and not pair.addresses:
        yield "warning", "names no host: no client will take it for the one that was asked for"
    try:
        uses = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in uses and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in uses:
        yield "warning", "is not for servers: its extended key usage lacks serverAuth, so clients refuse it"


def _response(pair: Pair, now: datetime) -> Iterator[_Finding]:
    if pair.ocsp is None:
        return
    issuer = pair.chain[0] if pair.chain else pair.root
    single = find_single(ocsp.load_der_ocsp_response(pair.ocsp), pair.certificate, issuer)
    if single is None:
        return
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        yield "warning", "is revoked, says its OCSP response"
    if single.next_update_utc is not None and now > single.next_update_utc:
        yield "warning", f"its OCSP response is out of date since {moment(single.next_update_utc)}"


def _shared_names(pairs: Sequence[Pair]) -> Iterator[Remark]:
    first: dict[tuple[str, str], int] = {}
    for index, pair in enumerate(pairs):
        shared: dict[str, list[str]] = {}
        for name in pair.names:
            winner = first.setdefault((pair.kind, name), index)
            if winner != index:
                shared.setdefault(pairs[winner].path, []).append(name)
        for path, names in shared.items():
            yield Remark("warning", _second(pair, path, names), pair.path, index)


def _second(pair: Pair, path: str, names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        listed += f" and {len(names) - _MOST_NAMES} more"
    if path == pair.path:
        return f"is listed twice, for {listed}; once is enough"
    return f"is not served for {listed}: of the two with {pair.kind}, {path} is served, which is listed first"
