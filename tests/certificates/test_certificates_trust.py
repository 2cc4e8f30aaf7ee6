"""Files of authorities and of revocation lists, and what is said about the lists (threats.md L6, L13)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from lbproxy.certificates import (
    CertificateError,
    Trust,
    asked_trust,
    judge_revocations,
    load_authorities,
    load_revocations,
    load_trust,
    read_authorities,
    read_revocations,
    system_authorities,
)
from tests.certificates.making import Authority, case, not_as_root

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA, OTHER = Authority(now=NOW), Authority("Other CA", now=NOW)
CHILD = CA.intermediate()


def file(directory: Path, content: bytes) -> str:
    path = directory / "ca.pem"
    path.write_bytes(content)
    return str(path)


def test_authorities_are_all_the_certificates_of_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, b"# ours\n" + CA.pem + b"\n" + OTHER.pem.replace(b"\n", b"\r\n"))
    assert load_authorities(path) == (CA.certificate, OTHER.certificate)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "holds no certificate"),
        (CA.crl_pem(), "holds no certificate but a revocation list"),
        (CA.issue("a").key_pem, "holds no certificate but a private key"),
        (CA.pem[:200], "the CERTIFICATE block that begins in line 1 has no end: half written?"),
        (CA.pem + OTHER.pem.replace(b"MII", b"AAA", 1), "its certificate no. 2 is damaged"),
        (
            CA.pem + OTHER.pem.replace(b"MII", b"M!I", 1),
            "its certificate no. 2 is not base64: damaged, or half written?",
        ),
    ],
    ids=case,
)
def test_a_file_without_good_authorities_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(CertificateError) as caught:
        load_authorities(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_missing_file_of_authorities_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="there is no such file"):
        load_authorities(str(tmp_path / "none"))


def test_an_unreadable_file_of_authorities_is_an_error(tmp_path: Path) -> None:
    path = file(tmp_path, CA.pem)
    Path(path).chmod(0)
    with not_as_root(), pytest.raises(CertificateError, match="may not be read"):
        load_authorities(path)


def test_revocation_lists_are_all_those_of_the_file(tmp_path: Path) -> None:
    lists = load_revocations(file(tmp_path, CA.crl_pem(7) + OTHER.crl_pem()))
    assert [one.issuer for one in lists] == [CA.certificate.subject, OTHER.certificate.subject]
    assert lists[0].get_revoked_certificate_by_serial_number(7) is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (CA.pem, "holds no revocation list but a certificate"),
        (CA.crl_pem()[:100], "has no end: half written"),
        (CA.crl_pem().replace(b"\nMI", b"\nAA", 1), "its revocation list no. 1 is damaged"),
        (CA.crl().public_bytes(Encoding.DER), "is DER, not PEM"),
    ],
    ids=case,
)
def test_a_file_without_good_lists_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CertificateError, match=message):
        load_revocations(file(tmp_path, content))


def test_content_is_read_without_its_file() -> None:
    assert read_authorities(CA.pem, "/nowhere") == (CA.certificate,)
    (found,) = read_revocations(CA.crl_pem(7), "/nowhere")
    assert found.get_revoked_certificate_by_serial_number(7) is not None
    for read in (read_authorities, read_revocations):
        for content in (b"", b"junk", CA.issue("a").key_pem):
            with pytest.raises(CertificateError, match=r"^/nowhere: holds no "):
                read(content, "/nowhere")


def test_trust_is_what_both_files_hold(tmp_path: Path) -> None:
    ca, crl = CA.write(tmp_path), tmp_path / "ca.crl"
    crl.write_bytes(CA.crl_pem())
    assert load_trust(None, None) is None
    assert load_trust(ca, None) == Trust((CA.certificate,))
    assert load_trust(ca, str(crl)) == Trust((CA.certificate,), load_revocations(str(crl)))
    assert load_trust(None, str(crl)) == Trust((), load_revocations(str(crl)))
    with pytest.raises(CertificateError, match="there is no such file"):
        load_trust(ca, str(tmp_path / "none"))


def test_the_fingerprint_of_trust_tells_contents_apart() -> None:
    lists = (CA.crl(), OTHER.crl())
    several = [
        Trust(()),
        Trust((CA.certificate,)),
        Trust((OTHER.certificate,)),
        Trust((CA.certificate, OTHER.certificate)),
        *(Trust((CA.certificate,), lists[:count]) for count in (1, 2)),
        Trust((), lists[:1]),
    ]
    assert len({one.fingerprint() for one in several}) == len(several)
    assert Trust(read_authorities(CA.pem, "ca.pem")).fingerprint() == Trust((CA.certificate,)).fingerprint()


@pytest.mark.parametrize(
    ("trust", "ca", "crl"),
    [
        (None, "/ca", None),
        (None, None, "/crl"),
        (Trust(()), "/ca", None),
        (Trust((), (CA.crl(),)), "/ca", "/crl"),
        (Trust((CA.certificate,)), "/ca", "/crl"),
        (Trust((CA.certificate,)), None, None),
        (Trust((CA.certificate,), (CA.crl(),)), "/ca", None),
        (Trust((CA.certificate,), (CA.crl(),)), None, "/crl"),
    ],
)
def test_trust_that_is_not_what_was_asked_for_is_a_fault(trust: Trust | None, ca: str | None, crl: str | None) -> None:
    with pytest.raises(ValueError, match="named"):
        asked_trust(trust, ca, crl)


def test_trust_that_was_asked_for_is_taken() -> None:
    whole = Trust((CA.certificate,), (CA.crl(),))
    assert asked_trust(whole, "/ca", "/crl") is whole
    assert asked_trust(None, None, None) == Trust(())


def test_a_current_list_of_every_authority_gives_no_remark() -> None:
    assert judge_revocations([CA.crl(), CHILD.crl()], [CA.certificate, CHILD.certificate], NOW) == []


def test_a_list_out_of_date_is_told_with_its_date() -> None:
    remarks = judge_revocations([CA.crl(days=30)], [CA.certificate], NOW + timedelta(days=31))
    assert [(remark.severity, str(remark), remark.index) for remark in remarks] == [
        ("warning", "the revocation list of CN=Test CA is out of date since 2026-01-31 00:00 UTC", 0)
    ]


def test_a_list_from_the_future_is_told() -> None:
    (remark,) = judge_revocations([CA.crl()], [CA.certificate], NOW - timedelta(days=1))
    assert remark.message == "the revocation list of CN=Test CA is not valid before 2025-12-31 23:00 UTC"


def test_an_old_list_beside_a_new_one_is_left_alone() -> None:
    assert judge_revocations([CA.crl(days=-1), CA.crl()], [CA.certificate], NOW) == []


def test_an_authority_without_a_list_is_told() -> None:
    (remark,) = judge_revocations([CA.crl()], [CA.certificate, OTHER.certificate], NOW)
    assert (remark.severity, remark.index) == ("warning", None)
    assert remark.message.startswith("there is no revocation list of CN=Other CA")


def test_a_list_that_no_authority_signed_does_not_count() -> None:
    same_name = Authority("Test CA", now=NOW)
    messages = [remark.message for remark in judge_revocations([same_name.crl()], [CA.certificate], NOW)]
    assert messages == [
        "the revocation list of CN=Test CA does not count: none of the authorities signed it",
        "there is no revocation list of CN=Test CA: none of its certificates can be checked",
    ]


def test_the_systems_authorities_come_from_the_file_that_openssl_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = OTHER.pem.replace(b"MII", b"AAA", 1)
    monkeypatch.setenv("SSL_CERT_FILE", file(tmp_path, damaged + CA.pem))
    assert system_authorities() == (CA.certificate,)


def test_without_a_bundle_the_system_trusts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    assert system_authorities() == ()
