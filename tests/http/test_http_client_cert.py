"""What is told about certificates, and the field that keeps browsers on https."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.certificates.peer import PeerCertificate
from lbproxy.http.client_cert import CLIENT_CERT_NAMES, certificate_fields
from lbproxy.http.hsts import hsts_field


@dataclass
class Shown:
    der: bytes = b"\x30\x00"
    subject: str = "CN=a"
    fingerprint: str = "ab" * 32


def test_a_certificate_is_told_in_four_fields() -> None:
    shown = PeerCertificate("CN=client,O=Example", "client", "ab" * 32, b"\x30\x82\x00\xff", "EC256", "", datetime.min)
    assert b"".join(field[2] for field in certificate_fields(shown)) == (
        b"Client-Cert: :MIIA/w==:\r\n"
        b"X-Client-Cert-Verify: ok\r\n"
        b"X-Client-Cert-Subject: CN=client,O=Example\r\n"
        b"X-Client-Cert-Fingerprint: " + b"ab" * 32 + b"\r\n"
    )


def test_without_a_certificate_there_is_the_verdict_alone() -> None:
    assert certificate_fields(None) == [(b"x-client-cert-verify", b"none", b"X-Client-Cert-Verify: none\r\n")]


def test_what_could_not_be_read_is_left_out() -> None:
    names = [field[0] for field in certificate_fields(Shown(subject="", fingerprint=""))]
    assert names == [b"client-cert", b"x-client-cert-verify"]


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ("CN=Jos\u00e9", b"CN=Jos\\C3\\A9"),
        ("CN=a\r\nX-Admin: yes", b"CN=a\\0D\\0AX-Admin: yes"),
        ("CN=a\0b\x7f", b"CN=a\\00b\\7F"),
        ("CN=a\\,b", b"CN=a\\,b"),
        ("CN=a\\ ", b"CN=a\\20"),
        ("CN=a  ", b"CN=a"),
        ("CN=\u2028\U0001f600", b"CN=\\E2\\80\\A8\\F0\\9F\\98\\80"),
        ("CN=\ud800", b"CN=?"),
    ],
)
def test_a_subject_is_made_of_printable_ascii(subject: str, told: bytes) -> None:
    assert certificate_fields(Shown(subject=subject))[2][1] == told


@given(st.binary(max_size=40), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_each_field_is_one_line_and_says_the_same_twice(der: bytes, subject: str, fingerprint: str) -> None:
    fields = certificate_fields(Shown(der, subject, fingerprint))
    for lower, value, line in fields:
        name, _, rest = line.partition(b": ")
        assert (lower, value + b"\r\n") == (name.lower(), rest)
        assert all(32 <= byte < 127 for byte in value)
        assert value == value.strip()
        assert lower in CLIENT_CERT_NAMES
    assert b64decode(fields[0][1].strip(b":"), validate=True) == der


@pytest.mark.parametrize(
    "name",
    [
        b"client-cert", b"client_cert", b"client-cert-chain", b"client_cert_chain", b"client_cert-chain",
        b"x-client-cert-verify", b"x_client_cert_verify", b"x-client_cert-verify", b"x-client-cert-subject",
        b"x_client-cert_subject", b"x-client-cert-fingerprint", b"x_client_cert_fingerprint",
    ],
)  # fmt: skip
def test_every_spelling_is_known_as_ours(name: bytes) -> None:
    assert name in CLIENT_CERT_NAMES


def test_other_names_are_not_ours() -> None:
    assert not CLIENT_CERT_NAMES & {b"client", b"client-certificate", b"x-client-ip", b"cookie", b"cert"}


@pytest.mark.parametrize(
    ("max_age", "subdomains", "line"),
    [
        (31536000.0, False, b"Strict-Transport-Security: max-age=31536000\r\n"),
        (31536000.0, True, b"Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n"),
        (0.0, False, b"Strict-Transport-Security: max-age=0\r\n"),
        (1.9, False, b"Strict-Transport-Security: max-age=1\r\n"),
    ],
)
def test_strict_transport_security_is_told_in_whole_seconds(max_age: float, subdomains: bool, line: bytes) -> None:
    name, value, whole = hsts_field(max_age, subdomains)
    assert whole == line
    assert (name, b"Strict-Transport-Security: %b\r\n" % value) == (b"strict-transport-security", line)
