"""Reading one pair: where the key is, how the chain is put in order, and a sentence for everything that is wrong."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    pkcs7,
    pkcs12,
)
from cryptography.hazmat.primitives.serialization import NoEncryption as NoLock
from cryptography.x509 import ocsp

from lbproxy.certificates import CertificateError, Pair, load_pair
from lbproxy.model_tls import CertificateSettings
from tests.certificates.making import Authority, Issued, Kind, case, common_name, key_pem, not_as_root, pem, self_signed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA = Authority(now=NOW)
MIDDLE = CA.intermediate("Middle CA")
LOW = MIDDLE.intermediate("Low CA")
ISSUED = LOW.issue("a.example", "*.b.example", "192.0.2.1", "2001:db8::1")
OTHER = LOW.issue("other.example")
LEAF, KEY = ISSUED.leaf_pem, ISSUED.key_pem


def put(directory: Path, name: str, content: bytes) -> str:
    path = directory / name
    path.write_bytes(content)
    return str(path)


def read(path: str, key: str | None = None, passphrase: str | None = None, stapled: str | None = None) -> Pair:
    return load_pair(CertificateSettings(path, key, passphrase, stapled, line=7))


def refusal(path: str, key: str | None = None, passphrase: str | None = None, stapled: str | None = None) -> str:
    with pytest.raises(CertificateError) as caught:
        read(path, key, passphrase, stapled)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.message}"
    return str(caught.value)


def test_a_pair_is_everything_that_is_known_about_a_certificate(tmp_path: Path) -> None:
    path, _ = ISSUED.write(tmp_path, "site")
    pair = read(path)
    assert pair.certificate == ISSUED.certificate
    assert pair.chain == (LOW.certificate, MIDDLE.certificate)
    assert pair.root is None
    assert pair.path == path
    assert pair.names == ("a.example", "*.b.example")
    assert pair.addresses == ("192.0.2.1", "2001:db8::1")
    assert pair.kind == "ECDSA"
    assert (pair.not_before, pair.not_after) == (NOW - timedelta(hours=1), NOW + timedelta(days=90))
    assert pair.fingerprint == ISSUED.fingerprint
    assert pair.pem == ISSUED.certificate_pem
    assert pair.ocsp is None
    assert pair.line == 7


def test_the_key_is_handed_out_as_pkcs8_and_never_printed(tmp_path: Path) -> None:
    pair = read(ISSUED.write(tmp_path)[0])
    assert key_pem(pair.key) == KEY
    body = KEY.split(b"\n")[1].decode()
    for text in (repr(pair), str(pair), f"{[pair]}"):
        assert body not in text
        assert "PrivateKey" not in text
    with pytest.raises(TypeError):
        pickle.dumps(pair)


def test_reading_the_same_files_again_gives_an_equal_pair(tmp_path: Path) -> None:
    path, _ = ISSUED.write(tmp_path)
    before = read(path)
    assert (read(path), hash(read(path))) == (before, hash(before))
    OTHER.write(tmp_path)
    assert read(path) != before


@pytest.mark.parametrize("kind", ["ECDSA", "RSA", "Ed25519"])
def test_each_kind_of_key_is_named(tmp_path: Path, kind: Kind) -> None:
    assert read(CA.issue("a.example", kind=kind).write_both(tmp_path)).kind == kind


# Where the key is.


@pytest.mark.parametrize(
    "content", [LEAF + KEY, KEY + LEAF, KEY + LOW.pem + LEAF, b"text\n" + LEAF + b"text\n" + KEY], ids=case
)
def test_the_key_may_be_in_the_certificates_file_in_any_place(tmp_path: Path, content: bytes) -> None:
    assert read(put(tmp_path, "site.pem", content)).certificate == ISSUED.certificate


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + (LEAF + KEY).replace(b"\n", b"\r\n")
    assert read(put(tmp_path, "site.pem", content)).pem == LEAF


def test_a_file_without_a_newline_at_its_end_is_whole(tmp_path: Path) -> None:
    assert read(put(tmp_path, "site.pem", (KEY + LEAF).removesuffix(b"\n"))).pem == LEAF


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("x.crt", "x.key"),
        ("x.pem", "x.key"),
        ("x.cer", "x.key"),
        ("a.example.pem", "a.example.key"),
        ("tls", "tls.key"),
        ("x.pem", "x.pem.key"),
        ("fullchain.pem", "privkey.pem"),
        ("cert.pem", "privkey.pem"),
        ("fullchain.pem", "fullchain.key"),
    ],
)
def test_the_key_is_found_beside_the_certificate(tmp_path: Path, certificate: str, key: str) -> None:
    path = put(tmp_path, certificate, LEAF)
    put(tmp_path, key, KEY)
    assert read(path).certificate == ISSUED.certificate


def test_a_key_that_is_named_is_taken_and_no_other(tmp_path: Path) -> None:
    path = put(tmp_path, "x.pem", LEAF + OTHER.key_pem)
    put(tmp_path, "x.key", OTHER.key_pem)
    assert read(path, put(tmp_path, "named", KEY)).certificate == ISSUED.certificate


def test_of_several_keys_the_certificates_own_is_taken(tmp_path: Path) -> None:
    path = put(tmp_path, "x.pem", LEAF + OTHER.key_pem + KEY)
    assert key_pem(read(path).key) == KEY


def test_no_key_anywhere_says_where_it_was_looked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "cert.pem", LEAF)
    assert refusal(path) == (
        f"{path}: has no private key: none is in the file, nor beside it (privkey.pem, cert.key, cert.pem.key)"
    )


def test_a_key_of_another_certificate_names_both_files(tmp_path: Path) -> None:
    path, key = put(tmp_path, "x.pem", LEAF), put(tmp_path, "x.key", OTHER.key_pem)
    assert refusal(path) == f"{path}: the key in {key} does not belong to the certificate in {path}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (LEAF, "holds no private key but a certificate"),
        (b"secret", "holds no private key"),
        (KEY[:100], "the PRIVATE KEY block that begins in line 1 has no end: half written?"),
        (KEY.replace(b"MI", b"AA", 1), "holds a private key that is damaged"),
        (
            ISSUED.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "holds no private key but a public key",
        ),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAA==\n-----END OPENSSH PRIVATE KEY-----\n",
            "holds a key in the form of OpenSSH; convert it with 'ssh-keygen -p -m PEM -f ...'",
        ),
    ],
    ids=case,
)
def test_a_file_that_holds_no_good_key_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    key = put(tmp_path, "key", content)
    assert refusal(put(tmp_path, "x.pem", LEAF), key) == f"{key}: {message}"


# Encrypted keys.


@pytest.mark.parametrize("traditional", [False, True], ids=["pkcs8", "traditional"])
@pytest.mark.parametrize("content", [b"secret", b"secret\n", b"secret\r\n"])
def test_an_encrypted_key_is_opened_with_the_passphrase_file(tmp_path: Path, traditional: bool, content: bytes) -> None:
    locked = key_pem(ISSUED.key, b"secret", traditional=traditional)
    path = put(tmp_path, "x.pem", LEAF + locked)
    assert key_pem(read(path, passphrase=put(tmp_path, "pass", content)).key) == KEY


@pytest.mark.parametrize(("passphrase", "content"), [(b"two words \n", b"two words \n\n"), (b"return\r", b"return\r")])
def test_only_one_newline_ends_a_passphrase(tmp_path: Path, passphrase: bytes, content: bytes) -> None:
    path = put(tmp_path, "x.pem", LEAF + key_pem(ISSUED.key, passphrase))
    assert key_pem(read(path, passphrase=put(tmp_path, "pass", content)).key) == KEY


@pytest.mark.parametrize("traditional", [False, True], ids=["pkcs8", "traditional"])
def test_a_wrong_or_missing_passphrase_is_told_without_telling_it(tmp_path: Path, traditional: bool) -> None:
    path = put(tmp_path, "x.pem", LEAF + key_pem(ISSUED.key, b"secret", traditional=traditional))
    assert refusal(path) == f"{path}: holds an encrypted key, and no file with its passphrase is named"
    wrong = put(tmp_path, "pass", b"guess\n")
    assert refusal(path, passphrase=wrong) == f"{path}: the passphrase in {wrong} does not open the key"
    missing = str(tmp_path / "none")
    assert refusal(path, passphrase=missing) == f"{missing}: there is no such file"


def test_a_passphrase_for_an_open_key_does_no_harm(tmp_path: Path) -> None:
    assert read(put(tmp_path, "x.pem", LEAF + KEY), passphrase=put(tmp_path, "pass", b"secret")).pem == LEAF


# The chain.


@pytest.mark.parametrize(
    "behind",
    [
        (LOW, MIDDLE),
        (MIDDLE, LOW),
        (CA, MIDDLE, LOW),
        (LOW, MIDDLE, CA),
        (OTHER, LOW, LOW, MIDDLE, Authority("Middle CA", now=NOW)),
    ],
)
def test_the_chain_is_put_in_order_without_root_and_strangers(
    tmp_path: Path, behind: tuple[Authority | Issued, ...]
) -> None:
    pair = read(put(tmp_path, "x.pem", LEAF + pem(*(one.certificate for one in behind)) + KEY))
    assert pair.chain == (LOW.certificate, MIDDLE.certificate)
    assert pair.pem == pem(ISSUED.certificate, LOW.certificate, MIDDLE.certificate)
    assert pair.root == (CA.certificate if CA in behind else None)


def test_the_certificate_is_the_one_with_the_key_wherever_it_stands(tmp_path: Path) -> None:
    pair = read(put(tmp_path, "x.pem", CA.pem + MIDDLE.pem + LOW.pem + LEAF + KEY))
    assert pair.certificate == ISSUED.certificate
    assert pair.chain == (LOW.certificate, MIDDLE.certificate)


def test_a_gap_ends_the_chain(tmp_path: Path) -> None:
    pair = read(put(tmp_path, "x.pem", LEAF + MIDDLE.pem + CA.pem + KEY))
    assert (pair.chain, pair.root) == ((), None)


def test_a_self_signed_certificate_is_its_own_root(tmp_path: Path) -> None:
    issued = self_signed("a.example", now=NOW)
    pair = read(issued.write_both(tmp_path))
    assert (pair.chain, pair.root, pair.pem) == ((), issued.certificate, issued.leaf_pem)


def test_authorities_that_signed_each_other_make_no_endless_chain(tmp_path: Path) -> None:
    one, two = Authority("One", now=NOW), Authority("Two", now=NOW)

    def cross(subject: Authority, signer: Authority) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(common_name(subject.name))
            .issuer_name(common_name(signer.name))
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
            .public_key(subject.key.public_key())
            .sign(signer.key, hashes.SHA256())
        )

    issued, first, second = one.issue("a.example"), cross(one, two), cross(two, one)
    pair = read(put(tmp_path, "x.pem", issued.leaf_pem + pem(first, second) + issued.key_pem))
    assert (pair.chain, pair.root) == ((first, second), None)


# Names.


@pytest.mark.parametrize(
    ("names", "read_as"),
    [
        (("A.Example", "a.example."), ("a.example",)),
        (("*.Ex.com", "ex.com"), ("*.ex.com", "ex.com")),
        (("*", "a.*.b", "f*o.x", "*.*.x", "*.", "", "192.0.2", "a b.x", "ok.x"), ("ok.x",)),
        (("xn--bcher-kva.example",), ("xn--bcher-kva.example",)),
    ],
)
def test_names_are_those_of_the_san_that_can_be_asked_for(
    tmp_path: Path, names: tuple[str, ...], read_as: tuple[str, ...]
) -> None:
    issued = CA.issue(*names, subject="ignored.example")
    assert read(issued.write_both(tmp_path)).names == read_as


@pytest.mark.parametrize(
    ("subject", "names"),
    [("Old.Example", ("old.example",)), ("An Authority", ()), ("*.old.example", ("*.old.example",))],
)
def test_without_a_san_the_common_name_counts_if_it_is_one(
    tmp_path: Path, subject: str, names: tuple[str, ...]
) -> None:
    assert read(CA.issue(subject=subject).write_both(tmp_path)).names == names


def test_with_a_san_of_addresses_only_the_common_name_does_not_count(tmp_path: Path) -> None:
    pair = read(CA.issue("192.0.2.1", subject="old.example").write_both(tmp_path))
    assert (pair.names, pair.addresses) == ((), ("192.0.2.1",))


def test_extensions_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    oid = x509.SubjectAlternativeName.oid
    issued = CA.issue(extensions=[x509.UnrecognizedExtension(oid, b"\x30\x03\x82\x01")], subject="a.example")
    path = issued.write_both(tmp_path)
    assert refusal(path) == f"{path}: the extensions of its certificate are damaged"


# Files that are none.

REQUEST = (
    x509.CertificateSigningRequestBuilder().subject_name(common_name("a")).sign(ISSUED.key, hashes.SHA256())
).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "holds no certificate"),
        (b"0 is where counting begins\n", "holds no certificate"),
        (KEY, "holds no certificate but a private key"),
        (
            REQUEST,
            "holds no certificate but a certificate request; put the certificate here that the authority made of it",
        ),
        (
            ISSUED.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "holds no certificate but a public key",
        ),
        (CA.crl_pem(), "holds no certificate but a revocation list"),
        (
            LEAF.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
            "holds no certificate but a certificate in OpenSSL's own form; "
            "convert it with 'openssl x509 -in ... -out ...'",
        ),
        (
            pkcs7.serialize_certificates([ISSUED.certificate], Encoding.PEM),
            "holds no certificate but PKCS#7; convert it with 'openssl pkcs7 -print_certs -in ... -out ...'",
        ),
        (
            pkcs12.serialize_key_and_certificates(None, ISSUED.key, ISSUED.certificate, None, NoLock()),
            "is PKCS#12, not PEM; convert it with 'openssl pkcs12 -nodes -in ... -out ...'",
        ),
        (
            ISSUED.der,
            "is DER, not PEM; convert it with 'openssl x509 -inform DER -in ... -out ...' (a key: 'openssl pkey')",
        ),
        (LEAF[:300], "the CERTIFICATE block that begins in line 1 has no end: half written?"),
        (KEY + LEAF[:300], "the CERTIFICATE block that begins in line 6 has no end: half written?"),
        (LEAF[:300] + KEY, "the CERTIFICATE block that begins in line 1 has no end: half written?"),
        (LEAF + KEY[:20], "its last line is the beginning of a block: half written?"),
        (LEAF.replace(b"MII", b"AAA", 1) + KEY, "its certificate no. 1 is damaged"),
        (
            LEAF + LOW.pem.replace(b"MII", b"M-I", 1) + KEY,
            "its certificate no. 2 is not base64: damaged, or half written?",
        ),
        (b"x" * ((1 << 20) + 1), "is larger than 1 MiB, more than is read"),
    ],
    ids=case,
)
def test_what_is_no_certificate_has_a_sentence_of_its_own(tmp_path: Path, content: bytes, message: str) -> None:
    path = put(tmp_path, "x.pem", content)
    assert refusal(path) == f"{path}: {message}"


def test_a_file_of_exactly_the_largest_size_is_read(tmp_path: Path) -> None:
    content = LEAF + KEY
    assert read(put(tmp_path, "x.pem", content + b"\n" * ((1 << 20) - len(content)))).pem == LEAF


def test_paths_that_are_no_files_have_sentences_of_their_own(tmp_path: Path) -> None:
    loop, pipe = tmp_path / "loop", tmp_path / "pipe"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    assert refusal(str(tmp_path)) == f"{tmp_path}: is a directory, not a file"
    assert refusal(str(tmp_path / "none")) == f"{tmp_path}/none: there is no such file"
    assert refusal(str(loop)).startswith(f"{loop}: cannot be read: ")
    assert refusal(str(pipe)) == f"{pipe}: is not a regular file"
    assert refusal("/dev/null") == "/dev/null: is not a regular file"
    assert refusal("a\0b").endswith("is not the name of a file")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = put(tmp_path, "x.pem", LEAF + KEY)
    Path(path).chmod(0)
    with not_as_root():
        assert refusal(path).startswith(f"{path}: may not be read")


def test_a_half_written_file_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    """Cut behind every byte: either it is refused, or what was cut off was a whole certificate."""
    content = KEY + LEAF + LOW.pem
    whole = {len(KEY + LEAF), len(KEY + LEAF) - 1, len(content), len(content) - 1}
    # Up to the fifth dash, a line may be anything.
    whole |= {len(KEY + LEAF) + dashes for dashes in range(1, 5)}
    path = str(tmp_path / "x.pem")
    for cut in range(len(content) + 1):
        put(tmp_path, "x.pem", content[:cut])
        if cut in whole:
            assert read(path).certificate == ISSUED.certificate
        else:
            refusal(path)


# Keys that cannot be served.


@pytest.mark.parametrize(
    ("curve", "message"),
    [(ec.SECP256K1(), "its key is on the curve secp256k1, which clients do not take; use P-256")],
)
def test_a_curve_that_clients_do_not_have_is_refused(tmp_path: Path, curve: ec.EllipticCurve, message: str) -> None:
    path = CA.issue("a.example", key=ec.generate_private_key(curve)).write_both(tmp_path)
    assert refusal(path) == f"{path}: {message}"


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_the_larger_curves_are_served(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    assert read(CA.issue("a.example", key=ec.generate_private_key(curve)).write_both(tmp_path)).kind == "ECDSA"


# OCSP responses.


def test_an_ocsp_response_for_the_certificate_is_taken(tmp_path: Path) -> None:
    path, _ = ISSUED.write(tmp_path)
    response = LOW.ocsp(ISSUED)
    assert read(path, stapled=put(tmp_path, "response", response)).ocsp == response


def test_without_an_issuer_in_the_file_the_serial_number_has_to_do(tmp_path: Path) -> None:
    path = put(tmp_path, "x.pem", LEAF + KEY)
    assert read(path, stapled=put(tmp_path, "good", LOW.ocsp(ISSUED))).ocsp is not None
    assert "another certificate" in refusal(path, stapled=put(tmp_path, "bad", LOW.ocsp(OTHER)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"garbage", "is no OCSP response, or a damaged one"),
        (LOW.ocsp(ISSUED)[:-9], "is no OCSP response, or a damaged one"),
        (LEAF, "is PEM; an OCSP response to be stapled is in DER"),
        (LOW.ocsp(OTHER), "is the OCSP response for another certificate"),
        (CA.ocsp(ISSUED), "is the OCSP response for another certificate"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            "holds no answer: the responder said 'try later'",
        ),
    ],
    ids=case,
)
def test_an_ocsp_response_that_does_not_fit_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    response = put(tmp_path, "response", content)
    assert refusal(ISSUED.write(tmp_path)[0], stapled=response) == f"{response}: {message}"


def test_a_weak_key_is_read_all_the_same_since_judging_comes_later(tmp_path: Path) -> None:
    assert read(CA.issue("a.example", kind="RSA", bits=1024).write_both(tmp_path)).kind == "RSA"


def test_the_key_of_a_pair_is_the_one_in_the_file(tmp_path: Path) -> None:
    key = load_pem_private_key(key_pem(read(ISSUED.write(tmp_path)[0]).key), None)
    assert key.public_key() == ISSUED.certificate.public_key()
