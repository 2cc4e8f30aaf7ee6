"""Files as the openssl command makes them: every form of key that it writes, old signatures, and what it says of us."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lbproxy.certificates import (
    CertificateError,
    Pair,
    judge,
    judge_revocations,
    load_authorities,
    load_pair,
    load_revocations,
)
from lbproxy.model_tls import CertificateSettings
from tests.certificates.making import Authority, key_pem, pem

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pass").write_text("secret\n")
    return tmp_path


def openssl(command: str) -> str:
    return subprocess.run(["openssl", *command.split()], check=True, capture_output=True, text=True).stdout


def self_signed(key: str, *options: str) -> None:
    """Put the certificate for `key` into x.pem."""
    openssl(
        f"req -x509 -key {key} -subj /CN=a.example -addext subjectAltName=DNS:a.example -out x.pem {' '.join(options)}"
    )


def read(key: str, passphrase: str | None = None) -> Pair:
    return load_pair(CertificateSettings("x.pem", key, passphrase))


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("genrsa -out key 2048", "RSA"),
        ("genrsa -traditional -out key 2048", "RSA"),
        ("ecparam -name prime256v1 -genkey -out key", "ECDSA"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key", "ECDSA"),
        ("genpkey -algorithm ED25519 -out key", "Ed25519"),
        ("genpkey -algorithm ED448 -out key", "Ed448"),
    ],
)
def test_a_key_as_openssl_writes_it_is_read(directory: Path, command: str, kind: str) -> None:
    openssl(command)
    self_signed("key")
    pair = read("key")
    assert (pair.kind, pair.names) == (kind, ("a.example",))
    Path("ours").write_bytes(key_pem(pair.key))
    assert openssl("pkey -in ours -pubout") == openssl("x509 -in x.pem -noout -pubkey")
    shown = openssl("x509 -in x.pem -noout -fingerprint -sha256").partition("=")[2].strip()
    assert pair.fingerprint == shown.replace(":", "").lower()


@pytest.mark.parametrize(
    "command",
    [
        "rsa -in key -traditional -aes256 -passout file:pass -out locked",
        "rsa -in key -traditional -des3 -passout file:pass -out locked",
        "pkcs8 -topk8 -in key -passout file:pass -out locked",
        "pkcs8 -topk8 -in key -scrypt -passout file:pass -out locked",
        "pkcs8 -topk8 -in key -v2 aes-128-cbc -v2prf hmacWithSHA1 -passout file:pass -out locked",
    ],
)
def test_a_key_as_openssl_encrypts_it_is_opened(directory: Path, command: str) -> None:
    openssl("genrsa -out key 2048")
    self_signed("key")
    openssl(command)
    assert key_pem(read("locked", "pass").key) == key_pem(read("key").key)
    with pytest.raises(CertificateError, match="holds an encrypted key"):
        read("locked")
    Path("pass").write_text("guess")
    with pytest.raises(CertificateError, match="the passphrase in pass does not open the key"):
        read("locked", "pass")


@pytest.mark.parametrize(
    "command",
    [
        "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1 -out key",
    ],
)
def test_a_key_that_clients_have_no_use_for_is_refused(directory: Path, command: str) -> None:
    openssl(command)
    self_signed("key")
    with pytest.raises(CertificateError, match=r"^x\.pem: its key "):
        read("key")


def test_a_dsa_key_is_refused(directory: Path) -> None:
    openssl("genpkey -genparam -algorithm DSA -pkeyopt dsa_paramgen_bits:1024 -out parameters")
    openssl("genpkey -paramfile parameters -out key")
    self_signed("key")
    with pytest.raises(CertificateError, match="is of a kind that cannot be served"):
        read("key")


@pytest.mark.parametrize(("digest", "name"), [("sha1", "SHA1"), ("md5", "MD5")])
def test_an_old_signature_is_an_error(directory: Path, digest: str, name: str) -> None:
    openssl("genrsa -out key 2048")
    self_signed("key", f"-{digest}")
    errors = [remark.message for remark in judge([read("key")], NOW) if remark.severity == "error"]
    assert errors == [f"its signature is made with {name}, which clients refuse; have it issued anew"]


def test_the_text_form_of_openssl_around_a_certificate_is_passed_over(directory: Path) -> None:
    openssl("ecparam -name prime256v1 -genkey -out key")
    self_signed("key", "-text")
    assert Path("x.pem").read_text().startswith("Certificate:")
    assert read("key").names == ("a.example",)


def test_openssl_verifies_the_path_that_we_put_in_order(directory: Path) -> None:
    authority = Authority()
    low = authority.intermediate().intermediate("Low CA")
    issued = low.issue("a.example")
    authority.write(directory)
    Path("x.pem").write_bytes(issued.leaf_pem + pem(*reversed(issued.chain)) + issued.key_pem)
    pair = load_pair(CertificateSettings("x.pem"))
    Path("ordered").write_bytes(pair.pem)
    assert openssl("verify -purpose sslserver -CAfile ca.pem -untrusted ordered ordered") == "ordered: OK\n"
    assert pair.pem == issued.certificate_pem


def test_openssl_agrees_that_our_list_revokes(directory: Path) -> None:
    authority = Authority()
    good, bad = authority.issue("good.example"), authority.issue("bad.example")
    authority.write(directory)
    Path("list").write_bytes(authority.crl_pem(bad))
    assert judge_revocations(load_revocations("list"), load_authorities("ca.pem"), authority.now) == []
    good.write(directory, "good")
    bad.write(directory, "bad")
    assert openssl("verify -crl_check -CRLfile list -CAfile ca.pem good.crt") == "good.crt: OK\n"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        openssl("verify -crl_check -CRLfile list -CAfile ca.pem bad.crt")
    assert "certificate revoked" in caught.value.stderr
