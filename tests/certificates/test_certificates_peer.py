"""What is said about a client's certificate, and that no certificate is too odd for it."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.certificates import read_peer
from tests.certificates.making import Authority, Kind, case

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA = Authority(now=NOW)
DER = CA.issue(subject="alice", client=True).der


@pytest.mark.parametrize(("kind", "algorithm"), [("ECDSA", "EC256"), ("RSA", "RSA2048"), ("Ed25519", "ED25519")])
def test_a_peer_is_told_in_haproxys_words(kind: Kind, algorithm: str) -> None:
    issued = CA.issue(subject="alice", client=True, kind=kind, days=10)
    peer = read_peer(issued.der)
    assert (peer.subject, peer.common_name) == ("CN=alice", "alice")
    assert (peer.key_algorithm, peer.signature_algorithm) == (algorithm, "ecdsa-with-SHA256")
    assert peer.fingerprint == issued.fingerprint
    assert peer.der == issued.der
    assert peer.not_after == NOW + timedelta(days=10)


def test_an_rsa_signature_has_openssls_short_name() -> None:
    assert read_peer(Authority(kind="RSA", now=NOW).issue("a").der).signature_algorithm == "RSA-SHA256"


def test_the_certificate_itself_is_not_in_the_repr() -> None:
    assert "der=" not in repr(read_peer(DER))


def test_the_subject_is_printable_and_the_first_common_name_counts() -> None:
    parts = [(NameOID.COMMON_NAME, "first\n\x1b[31m"), (NameOID.ORGANIZATION_NAME, "a,\N{RIGHT-TO-LEFT OVERRIDE}b")]
    name = x509.Name([*(x509.NameAttribute(oid, text) for oid, text in parts)])
    peer = read_peer(CA.issue(subject=name).der)
    assert peer.common_name == "first??[31m"
    assert peer.subject == "O=a\\,?b,CN=first??[31m"


def test_a_long_subject_is_cut_between_characters_at_1_kib() -> None:
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" + "ä" * 30) for _ in range(40)]
    subject = read_peer(CA.issue(subject=x509.Name(units)).der).subject
    assert 1020 < len(subject.encode()) <= 1024


def test_a_subject_without_a_common_name_has_an_empty_one() -> None:
    peer = read_peer(CA.issue(subject=x509.Name([])).der)
    assert (peer.subject, peer.common_name) == ("", "")
    assert peer.key_algorithm == "EC256"


@pytest.mark.parametrize("der", [b"", b"x", DER[:-1], DER + b"x", b"\x30\x82" * 100], ids=case)
def test_what_is_no_certificate_has_a_fingerprint_and_nothing_else(der: bytes) -> None:
    peer = read_peer(der)
    assert len(peer.fingerprint) == 64
    assert (peer.subject, peer.common_name, peer.key_algorithm, peer.signature_algorithm) == ("", "", "", "")
    assert peer.not_after is None


@settings(deadline=None)
@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
def test_a_certificate_with_one_byte_changed_never_raises(place: int, change: int) -> None:
    odd = bytearray(DER)
    odd[place] ^= change
    peer = read_peer(bytes(odd))
    assert peer.subject.isprintable()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_a_serial_number_of_zero_and_an_explicit_curve_are_odd_but_read(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    commands = (
        ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-param_enc", "explicit", "-out", str(key)],
        [
            "req",
            "-x509",
            "-key",
            str(key),
            "-set_serial",
            "0",
            "-subj",
            "/CN=odd",
            "-outform",
            "DER",
            "-out",
            str(certificate),
        ],
    )
    for command in commands:
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    peer = read_peer(certificate.read_bytes())
    assert peer.common_name == "odd"
    assert peer.signature_algorithm == "ecdsa-with-SHA256"
