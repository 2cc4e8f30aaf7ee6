"""Which files of a directory are pairs, and everything that is wrong with them at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lbproxy.certificates import CertificateError, find, load_all
from lbproxy.model_tls import CertificateSettings
from tests.certificates.making import Authority, Issued, self_signed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA = Authority(now=NOW)
LOW = CA.intermediate()
A, B = LOW.issue("a.example"), LOW.issue("b.example")


def found(directory: Path) -> list[str]:
    return [str(Path(one.path).relative_to(directory)) for one in find(CertificateSettings(str(directory)))]


def certbot(directory: Path, issued: Issued, name: str) -> Path:
    """certbot's layout: links in live/ to numbered files in archive/."""
    live, archive = directory / "live" / name, directory / "archive" / name
    live.mkdir(parents=True)
    archive.mkdir(parents=True)
    (directory / "live" / "README").write_text("This directory contains your keys and certificates.\n")
    (live / "README").write_text("This directory contains your keys and certificates.\n")
    parts = {
        "cert": issued.leaf_pem,
        "chain": LOW.pem,
        "fullchain": issued.certificate_pem,
        "privkey": issued.key_pem,
    }
    for part, content in parts.items():
        (archive / f"{part}1.pem").write_bytes(content)
        (live / f"{part}.pem").symlink_to(f"../../archive/{name}/{part}1.pem")
    return live


def test_a_file_is_itself_even_if_it_is_missing(tmp_path: Path) -> None:
    settings = CertificateSettings(str(tmp_path / "none"), key="k", line=3)
    assert find(settings) == (settings,)


def test_a_directory_is_its_pairs_sorted_by_name(tmp_path: Path) -> None:
    for stem in ("c", "a"):
        A.write(tmp_path, stem)
    B.write_both(tmp_path, "b")
    (tmp_path / "d.cer").write_bytes(A.leaf_pem + A.key_pem)
    settings = CertificateSettings(str(tmp_path), passphrase_file="/pass", line=3)
    assert find(settings) == tuple(
        CertificateSettings(str(tmp_path / name), passphrase_file="/pass", line=3)
        for name in ("a.crt", "b.pem", "c.crt", "d.cer")
    )


def test_what_begins_no_pair_is_passed_over(tmp_path: Path) -> None:
    A.write(tmp_path, "a")
    (tmp_path / "README").write_text("read me")
    (tmp_path / "only-key.pem").write_bytes(B.key_pem)
    (tmp_path / "dhparam.pem").write_bytes(b"-----BEGIN DH PARAMETERS-----\nAA==\n-----END DH PARAMETERS-----\n")
    (tmp_path / "list.pem").write_bytes(CA.crl_pem())
    (tmp_path / "issuer.pem").write_bytes(LOW.pem + CA.pem)
    (tmp_path / ".hidden.pem").write_bytes(b"half")
    (tmp_path / "a.crt~").write_bytes(b"old")
    (tmp_path / "deeper").mkdir()
    B.write(tmp_path / "deeper")
    assert found(tmp_path) == ["a.crt"]


def test_what_may_have_been_meant_as_a_pair_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    (tmp_path / "garbage.crt").write_bytes(b"garbage")
    (tmp_path / "half.pem").write_bytes(A.leaf_pem[:99])
    (tmp_path / "gone.pem").symlink_to("nowhere")
    (tmp_path / "no-key.crt").write_bytes(A.certificate_pem)
    (tmp_path / "windows.cer").write_bytes(A.der)
    names = ["empty.pem", "garbage.crt", "gone.pem", "half.pem", "no-key.crt", "windows.cer"]
    assert found(tmp_path) == names
    loaded = load_all([CertificateSettings(str(tmp_path))])
    assert loaded.pairs == ()
    assert [Path(error.path).name for _, error in loaded.problems] == names


def test_a_self_signed_authority_with_its_key_is_a_pair(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_bytes(CA.pem + Issued(CA.certificate, CA.key).key_pem)
    assert found(tmp_path) == ["x.pem"]


def test_certbots_live_directory_is_one_pair_for_each_name(tmp_path: Path) -> None:
    certbot(tmp_path, A, "a.example")
    certbot(tmp_path, B, "b.example")
    live = tmp_path / "live"
    (live / "half").mkdir()
    (live / "half" / "fullchain.pem").write_bytes(A.certificate_pem)
    assert found(live) == ["a.example/fullchain.pem", "b.example/fullchain.pem"]
    loaded = load_all([CertificateSettings(str(live))])
    assert loaded.problems == ()
    assert [pair.names for pair in loaded.pairs] == [("a.example",), ("b.example",)]
    assert all(pair.chain == (LOW.certificate,) for pair in loaded.pairs)


def test_one_directory_of_certbots_is_one_pair(tmp_path: Path) -> None:
    assert found(certbot(tmp_path, A, "a.example")) == ["fullchain.pem"]


def test_a_mounted_secret_of_kubernetes_is_one_pair(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for name, content in (("tls.crt", A.certificate_pem), ("tls.key", A.key_pem)):
        (tmp_path / "..2026" / name).write_bytes(content)
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert found(tmp_path) == ["tls.crt"]
    assert load_all([CertificateSettings(str(tmp_path))]).problems == ()


def test_a_directory_without_a_pair_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="is a directory without a certificate and its key"):
        find(CertificateSettings(str(tmp_path)))
    (tmp_path / "x.key").write_bytes(A.key_pem)
    with pytest.raises(CertificateError, match="is a directory without a certificate and its key"):
        find(CertificateSettings(str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "word"),
    [(CertificateSettings("", key="/k"), "key /k"), (CertificateSettings("", ocsp="/o"), "OCSP response /o")],
)
def test_a_directory_cannot_have_one_key_or_one_response(
    tmp_path: Path, settings: CertificateSettings, word: str
) -> None:
    A.write(tmp_path)
    with pytest.raises(CertificateError, match=f"cannot have the one {word}; name a file, or leave it out"):
        find(CertificateSettings(str(tmp_path), settings.key, ocsp=settings.ocsp))


@pytest.mark.parametrize("name", ["a.ocsp", "a.crt.ocsp"])
def test_a_response_beside_the_file_is_stapled(tmp_path: Path, name: str) -> None:
    path, _ = A.write(tmp_path, "a")
    response = LOW.ocsp(A)
    (tmp_path / name).write_bytes(response)
    for where in (path, str(tmp_path)):
        (pair,) = load_all([CertificateSettings(where)]).pairs
        assert pair.ocsp == response


def test_a_response_that_is_named_goes_before_the_one_beside(tmp_path: Path) -> None:
    path, _ = A.write(tmp_path, "a")
    (tmp_path / "a.ocsp").write_bytes(b"garbage")
    named = tmp_path / "named"
    named.write_bytes(LOW.ocsp(A))
    assert load_all([CertificateSettings(path, ocsp=str(named))]).problems == ()


def test_every_problem_is_told_and_the_good_pairs_are_read(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    A.write(good, "a")
    B.write(bad, "b")
    (bad / "b.key").write_bytes(A.key_pem)
    (bad / "c.pem").write_bytes(b"")
    B.write(bad, "d")
    everything = [
        CertificateSettings(str(path), line=line) for line, path in enumerate((tmp_path / "none", good, bad), 1)
    ]
    loaded = load_all(everything)
    assert [(pair.names, pair.line) for pair in loaded.pairs] == [(("a.example",), 2), (("b.example",), 3)]
    assert [(index, Path(error.path).name) for index, error in loaded.problems] == [
        (0, "none"),
        (2, "b.crt"),
        (2, "c.pem"),
    ]


def test_the_files_are_all_that_were_read_or_missed(tmp_path: Path) -> None:
    path, key = A.write(tmp_path, "a")
    files = load_all([CertificateSettings(path, passphrase_file="/pass")]).files
    assert set(files) >= {path, key, "/pass", str(tmp_path / "a.ocsp")}
    named = load_all([CertificateSettings(path, key="/k", ocsp="/o")]).files
    assert set(named) == {path, "/k", "/o"}


def test_the_files_of_a_directory_are_it_and_what_is_in_it(tmp_path: Path) -> None:
    live = certbot(tmp_path, A, "a.example")
    (tmp_path / "live" / "no-key.pem").write_bytes(B.leaf_pem)
    files = set(load_all([CertificateSettings(str(tmp_path / "live"))]).files)
    assert files >= {
        str(tmp_path / "live"),
        str(live),
        str(live / "fullchain.pem"),
        str(live / "privkey.pem"),
        str(tmp_path / "live" / "no-key.pem"),
        str(tmp_path / "live" / "no-key.key"),
    }


def test_a_directory_that_is_empty_or_cannot_be_listed_is_a_problem_and_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CertificateSettings(str(tmp_path))
    loaded = load_all([settings])
    assert [index for index, _ in loaded.problems] == [0]
    assert loaded.files == (str(tmp_path),)

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.listdir", refuse)
    loaded = load_all([settings])
    assert [str(error) for _, error in loaded.problems] == [
        f"{tmp_path}: is a directory that cannot be read: Permission denied"
    ]
    assert loaded.files == (str(tmp_path),)


def test_files_are_listed_once(tmp_path: Path) -> None:
    path = self_signed("a.example", now=NOW).write_both(tmp_path)
    files = load_all([CertificateSettings(path), CertificateSettings(path), CertificateSettings(str(tmp_path))]).files
    assert len(files) == len(set(files))


def test_a_key_that_is_put_there_later_is_found_in_a_watched_place(tmp_path: Path) -> None:
    """Whatever repairs a pair is among the files that were named when it was broken."""
    path, key = A.write(tmp_path, "a")
    Path(key).unlink()
    broken = load_all([CertificateSettings(path)])
    assert broken.pairs == ()
    assert key in broken.files
    A.write(tmp_path, "a")
    assert load_all([CertificateSettings(path)]).problems == ()
