"""What is said about pairs that were read: dates, chains, strength, names (threats.md L7, L12)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from lbproxy.certificates import Pair, Remark, judge, load_pair
from lbproxy.model_tls import CertificateSettings
from tests.certificates.making import Authority, Issued, alternative_names, common_name, make_key, self_signed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CA = Authority(now=NOW)
LOW = CA.intermediate("Low CA")
ROOTS = (CA.certificate,)


def pair(directory: Path, issued: Issued, stem: str = "x", response: bytes | None = None) -> Pair:
    staple = None
    if response is not None:
        (directory / "response").write_bytes(response)
        staple = str(directory / "response")
    return load_pair(CertificateSettings(issued.write_both(directory, stem), ocsp=staple))


def messages(one: Pair, now: datetime = NOW, roots: Sequence[x509.Certificate] = ROOTS) -> list[str]:
    return [f"{remark.severity}: {remark.message}" for remark in judge([one], now, roots=roots)]


def test_a_good_pair_gives_no_remark(tmp_path: Path) -> None:
    assert judge([pair(tmp_path, LOW.issue("a.example"))], NOW, roots=ROOTS) == []


def test_a_remark_names_its_file_and_its_place(tmp_path: Path) -> None:
    good, bad = pair(tmp_path, LOW.issue("a.example")), pair(tmp_path, LOW.issue("b.example", days=1), "late")
    (remark,) = judge([good, bad], NOW, roots=ROOTS)
    assert remark == Remark("warning", "expires on 2026-01-02 12:00 UTC, in 1 day", bad.path, 1)
    assert str(remark) == f"{bad.path}: expires on 2026-01-02 12:00 UTC, in 1 day"


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (timedelta(hours=-2), ["warning: is not valid before 2026-01-01 11:00 UTC, in 1 hour"]),
        (timedelta(hours=-1), []),
        (timedelta(days=76), []),
        (timedelta(days=76, seconds=1), ["warning: expires on 2026-04-01 12:00 UTC, in 13 days"]),
        (timedelta(days=88, hours=22), ["warning: expires on 2026-04-01 12:00 UTC, in 1 day"]),
        (timedelta(days=89, hours=21), ["warning: expires on 2026-04-01 12:00 UTC, in 3 hours"]),
        (timedelta(days=90), ["warning: expires on 2026-04-01 12:00 UTC, in less than a minute"]),
        (timedelta(days=90, minutes=2), ["warning: expired on 2026-04-01 12:00 UTC, 2 minutes ago"]),
        (timedelta(days=93), ["warning: expired on 2026-04-01 12:00 UTC, 3 days ago"]),
    ],
)
def test_dates_are_told_with_their_distance(tmp_path: Path, later: timedelta, message: list[str]) -> None:
    assert messages(pair(tmp_path, LOW.issue("a.example", days=90)), NOW + later) == message


def test_how_soon_is_soon_is_handed_in(tmp_path: Path) -> None:
    one = pair(tmp_path, LOW.issue("a.example", days=90))
    assert judge([one], NOW, timedelta(days=90), ROOTS) == []
    assert len(judge([one], NOW, timedelta(days=91), ROOTS)) == 1


def test_an_issuer_that_expired_is_told(tmp_path: Path) -> None:
    old = CA.intermediate("Old CA", days=-1)
    assert messages(pair(tmp_path, old.issue("a.example"))) == [
        "warning: its issuer CN=Old CA expired on 2025-12-31 12:00 UTC"
    ]


def test_a_missing_intermediate_is_told_by_name(tmp_path: Path) -> None:
    issued = LOW.issue("a.example")
    assert messages(pair(tmp_path, Issued(issued.certificate, issued.key))) == [
        "warning: its chain is incomplete: the certificate of CN=Low CA is missing; "
        "put it behind the others, unless every client has it"
    ]


def test_a_chain_that_ends_at_an_unknown_root_names_the_root(tmp_path: Path) -> None:
    one = pair(tmp_path, LOW.issue("a.example"))
    (message,) = messages(one, roots=())
    assert "the certificate of CN=Test CA is missing" in message
    stranger = Authority(now=NOW)
    assert messages(one, roots=(stranger.certificate,)) == [message]


def test_a_root_in_the_file_completes_the_chain(tmp_path: Path) -> None:
    issued = LOW.issue("a.example")
    assert (
        messages(pair(tmp_path, Issued(issued.certificate, issued.key, (*LOW.chain, CA.certificate))), roots=()) == []
    )


def test_a_cross_signed_root_at_the_end_needs_no_older_root(tmp_path: Path) -> None:
    gone = Authority("Gone CA", now=NOW)
    cross = (
        x509.CertificateBuilder()
        .subject_name(common_name(CA.name))
        .issuer_name(common_name(gone.name))
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=100))
        .public_key(CA.key.public_key())
        .sign(gone.key, hashes.SHA256())
    )
    issued = LOW.issue("a.example")
    one = pair(tmp_path, Issued(issued.certificate, issued.key, (LOW.certificate, cross)))
    assert one.chain[-1] == cross
    assert messages(one) == []
    assert "CN=Gone CA is missing" in messages(one, roots=())[0]


def test_a_self_signed_certificate_is_told(tmp_path: Path) -> None:
    assert messages(pair(tmp_path, self_signed("a.example", now=NOW))) == [
        "warning: is self-signed: only clients that were told to will trust it"
    ]


@pytest.mark.parametrize(
    ("bits", "told"), [(1024, ["error: its RSA key has 1024 bits; at least 2048 are wanted"]), (2048, [])]
)
def test_a_short_rsa_key_is_an_error(tmp_path: Path, bits: int, told: list[str]) -> None:
    assert messages(pair(tmp_path, LOW.issue("a.example", kind="RSA", bits=bits))) == told


def test_a_short_rsa_key_of_an_issuer_is_an_error(tmp_path: Path) -> None:
    weak = Authority("Weak CA", kind="RSA", bits=1024, now=NOW, parent=CA)
    assert messages(pair(tmp_path, weak.issue("a.example"))) == [
        "error: the issuer CN=Weak CA's RSA key has 1024 bits; at least 2048 are wanted"
    ]


def test_a_signature_too_old_to_be_known_is_an_error(tmp_path: Path) -> None:
    old = Authority("Old CA", kind="RSA", now=NOW)
    issued = old.issue("a.example")
    sha256, md2 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010102")
    certificate = x509.load_der_x509_certificate(issued.der.replace(sha256, md2))
    assert messages(pair(tmp_path, Issued(certificate, issued.key)), roots=(old.certificate,)) == [
        "error: its signature is made with an old hash, which clients refuse; have it issued anew"
    ]


def test_no_usable_name_is_told(tmp_path: Path) -> None:
    (message,) = messages(pair(tmp_path, CA.issue(subject="An Authority")))
    assert message.startswith("warning: names no host")
    assert messages(pair(tmp_path, CA.issue("192.0.2.1", subject="x"))) == []


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ([ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION], True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], False),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], False),
    ],
)
def test_an_extended_key_usage_without_servers_is_told(
    tmp_path: Path, uses: list[x509.ObjectIdentifier], told: bool
) -> None:
    issued = CA.issue("a.example", extensions=[x509.ExtendedKeyUsage(uses)])
    assert [message[:28] for message in messages(pair(tmp_path, issued))] == ["warning: is not for servers:"] * told


def test_no_extended_key_usage_at_all_forbids_nothing(tmp_path: Path) -> None:
    key = make_key()
    bare = (
        x509.CertificateBuilder()
        .subject_name(common_name("a.example"))
        .issuer_name(common_name(CA.name))
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=100))
        .public_key(key.public_key())
        .add_extension(alternative_names("a.example"), critical=False)
        .sign(CA.key, hashes.SHA256())
    )
    assert messages(pair(tmp_path, Issued(bare, key))) == []


def test_of_two_pairs_of_a_kind_for_a_name_the_first_is_served_and_the_second_told(tmp_path: Path) -> None:
    first = pair(tmp_path, LOW.issue("a.example", "b.example"), "first")
    second = pair(tmp_path, LOW.issue("B.example", "c.example"), "second")
    assert judge([first, second], NOW, roots=ROOTS) == [
        Remark(
            "warning",
            f"is not served for b.example: of the two with ECDSA, {first.path} is served, which is listed first",
            second.path,
            1,
        )
    ]


def test_pairs_of_different_kinds_and_a_wildcard_beside_a_name_are_no_conflict(tmp_path: Path) -> None:
    pairs = [
        pair(tmp_path, LOW.issue("a.b.example"), "1"),
        pair(tmp_path, LOW.issue("a.b.example", kind="Ed25519"), "2"),
        pair(tmp_path, LOW.issue("*.b.example"), "3"),
    ]
    assert judge(pairs, NOW, roots=ROOTS) == []


def test_a_file_that_is_listed_twice_is_told_once_with_few_names(tmp_path: Path) -> None:
    one = pair(tmp_path, LOW.issue(*(f"{number}.example" for number in range(7))))
    assert [remark.message for remark in judge([one, one], NOW, roots=ROOTS)] == [
        "is listed twice, for 0.example, 1.example, 2.example, 3.example, 4.example and 2 more; once is enough"
    ]


def test_a_staple_that_is_stale_or_says_revoked_is_told(tmp_path: Path) -> None:
    issued = LOW.issue("a.example")
    assert messages(pair(tmp_path, issued, response=LOW.ocsp(issued))) == []
    assert messages(pair(tmp_path, issued, response=LOW.ocsp(issued, days=None))) == []
    assert messages(pair(tmp_path, issued, response=LOW.ocsp(issued, days=-1))) == [
        "warning: its OCSP response is out of date since 2025-12-31 12:00 UTC"
    ]
    assert messages(pair(tmp_path, issued, response=LOW.ocsp(issued, revoked=True))) == [
        "warning: is revoked, says its OCSP response"
    ]


def test_many_pairs_and_roots_are_judged_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, LOW.issue(f"{place}.example", days=place), str(place)) for place in range(1, 30)]
    remarks = judge(pairs, NOW, timedelta(days=10), (LOW.certificate, *ROOTS))
    assert [remark.index for remark in remarks] == list(range(9))


def test_nothing_to_judge_gives_nothing() -> None:
    assert judge([], NOW) == []
