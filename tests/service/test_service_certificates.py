"""What TLS is ended with while files change: what is good is taken at once, what is bad changes nothing (L6, L12)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL

from lbproxy.certificates import CertificateError, Pair, Trust
from lbproxy.errors import StartError
from lbproxy.model import PoolSettings
from lbproxy.model_tls import BackendTlsSettings, CertificateSettings, ClientAuthSettings, SiteSettings, TlsPolicy
from lbproxy.net.tls.clients import ClientTls
from lbproxy.net.tls.contexts import server_context
from lbproxy.service import tls_building
from tests.certificates.making import Authority
from tests.service.certificate_rig import Aside, Place, Said, configured, put, renew, tls, visit

CA, OTHER = Authority(), Authority("Other CA")
A, A2, A3, B, B2 = (CA.issue(f"{name}.example") for name in "aaabb")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(monkeypatch)


@pytest.fixture
def place(said: Said) -> Place:
    return Place(said)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a.pem", tmp_path / "b.pem"
    renew(a, A)
    renew(b, B)
    return a, b


class TestARenewal:
    def test_is_served_within_a_few_seconds(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        assert place.served("a.example") == A.fingerprint
        renew(files[0], A2)
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint
        assert place.swaps == [place.service.sites]
        assert place.counters.certificates == {"swapped": 1}
        (line,) = place.said.take("info")
        assert line.startswith(f"{files[0]}: a new certificate is served from now on, for a.example until ")

    def test_leaves_the_contexts_of_others_alone(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        before = place.site("b.example").openssl
        renew(files[0], A2)
        place.wait(5)
        assert place.site("b.example").openssl is before

    def test_of_a_key_beside_comes_with_it(self, place: Place, tmp_path: Path) -> None:
        certificate, _ = A.write(tmp_path)
        place.go(configured(**{"in": tls(certificate)}))
        A2.write(tmp_path)
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint

    def test_by_links_as_certbot_does_it(self, place: Place, tmp_path: Path) -> None:
        live = tmp_path / "live" / "a.example"
        live.mkdir(parents=True)
        for number, issued in enumerate((A, A2), 1):
            (tmp_path / f"fullchain{number}.pem").write_bytes(issued.certificate_pem)
            (tmp_path / f"privkey{number}.pem").write_bytes(issued.key_pem)
        for part in ("fullchain", "privkey"):
            (live / f"{part}.pem").symlink_to(tmp_path / f"{part}1.pem")
        place.go(configured(**{"in": tls(live.parent)}))
        for part in ("fullchain", "privkey"):
            (live / f"{part}.pem").unlink()
            (live / f"{part}.pem").symlink_to(tmp_path / f"{part}2.pem")
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint

    def test_by_a_link_to_a_directory_as_kubernetes_does_it(self, place: Place, tmp_path: Path) -> None:
        for version, issued in (("..1", A), ("..2", A2)):
            (tmp_path / version).mkdir()
            issued.write(tmp_path / version, "tls")
        (tmp_path / "..data").symlink_to("..1")
        for name in ("tls.crt", "tls.key"):
            (tmp_path / name).symlink_to(f"..data/{name}")
        place.go(configured(**{"in": tls(tmp_path)}))
        (tmp_path / "..fresh").symlink_to("..2")
        (tmp_path / "..fresh").replace(tmp_path / "..data")
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint

    def test_that_has_expired_is_taken_with_a_warning(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        late = CA.issue("a.example", days=-1)
        renew(files[0], late)
        place.wait(5)
        assert place.served("a.example") == late.fingerprint
        assert any("expired on" in line for line in place.said.take("warn"))

    def test_that_reaches_us_after_a_reload_counts_no_more(self, said: Said, files: tuple[Path, Path]) -> None:
        aside = Aside()
        place = Place(said, aside)
        configuration = configured(**{"in": tls(*files)})
        place.go(configuration)
        renew(files[0], A2)
        for _ in range(2):
            place.wait(2)
            aside.work()
        assert len(aside.waiting) == 1, "what was seen is being read"
        renew(files[0], A3)
        place.go(configuration)
        aside.work()
        assert place.swaps == []
        assert place.served("a.example") == A3.fingerprint


class TestABadFile:
    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (A2.certificate_pem + B.key_pem, "does not belong to the certificate"),
            (A2.certificate_pem[:-40], "half written?"),
            (b"", "is empty"),
            (b"nothing of the kind", "holds no certificate"),
            (A2.certificate_pem, "has no private key"),
        ],
    )
    def test_keeps_what_was_read_before(
        self, place: Place, files: tuple[Path, Path], content: bytes, sentence: str
    ) -> None:
        place.go(configured(**{"in": tls(*files)}))
        put(files[0], content)
        renew(files[1], B2)
        place.wait(5)
        assert place.served("a.example") == A.fingerprint, "the old one is served"
        assert place.served("b.example") == B2.fingerprint, "the other file is taken"
        place.wait(60)
        (line,) = place.said.take("error")
        assert line.startswith(f"{files[0]}: ")
        assert sentence in line
        assert place.counters.certificates["refused"] == 1
        assert [problem.path for problem in place.service.problems] == [str(files[0])]

    def test_that_is_deleted_keeps_what_was_read_before(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        files[0].unlink()
        place.wait(5)
        assert place.served("a.example") == A.fingerprint
        assert ["there is no such file" in line for line in place.said.take("error")] == [True]

    def test_is_told_anew_when_it_is_bad_in_another_way(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        for content in (b"", b"junk"):
            put(files[0], content)
            place.wait(5)
        assert len(place.said.take("error")) == 2

    def test_is_told_when_it_is_good_again(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        put(files[0], b"")
        place.wait(5)
        place.said.take("info")
        renew(files[0], A2)
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint
        assert f"{files[0]}: is good again" in place.said.take("info")
        assert place.service.problems == []

    def test_is_one_that_clients_would_refuse(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        renew(files[0], CA.issue("a.example", kind="RSA", bits=1024))
        place.wait(5)
        assert place.served("a.example") == A.fingerprint
        assert ["1024 bits" in line for line in place.said.take("error")] == [True]

    def test_may_be_one_that_only_openssl_finds_wanting(
        self, place: Place, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def picky(pairs: Sequence[Pair], *rest: Any, **named: Any) -> SSL.Context:
            if any(pair.fingerprint == A2.fingerprint for pair in pairs):
                raise CertificateError(str(files[0]), "OpenSSL does not take it")
            return server_context(pairs, *rest, **named)

        monkeypatch.setattr(tls_building, "server_context", picky)
        place.go(configured(**{"in": tls(*files)}))
        renew(files[0], A2)
        renew(files[1], B2)
        place.wait(60)
        assert place.served("a.example") == A.fingerprint
        assert place.served("b.example") == B2.fingerprint
        assert place.said.take("error") == [f"{files[0]}: OpenSSL does not take it; what it held before stays in use"]
        renew(files[0], A3)
        place.wait(5)
        assert place.served("a.example") == A3.fingerprint

    def test_of_a_reload_is_an_error_that_changes_nothing(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        before = dict(place.service.sites)
        put(files[0], b"")
        renew(files[1], B2)
        with pytest.raises(StartError, match="is empty"):
            place.go(configured(**{"in": tls(*files)}))
        assert dict(place.service.sites) == before

    def test_with_an_ocsp_response_of_the_last_certificate_does_not_hold_back_a_renewal(
        self, place: Place, files: tuple[Path, Path]
    ) -> None:
        files[0].with_suffix(".ocsp").write_bytes(CA.ocsp(A))
        place.go(configured(**{"in": tls(*files)}))
        renew(files[0], A2)
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint
        assert ["for another certificate" in line for line in place.said.take("error")] == [True]
        fresh = CA.ocsp(A2)
        put(files[0].with_suffix(".ocsp"), fresh)
        place.wait(5)
        assert visit(place.site("a.example")).ocsp == fresh


class TestADirectory:
    def test_gives_new_files(self, place: Place, tmp_path: Path) -> None:
        renew(tmp_path / "a.pem", A)
        place.go(configured(**{"in": tls(tmp_path)}))
        renew(tmp_path / "b.pem", B)
        place.wait(5)
        assert place.served("b.example") == B.fingerprint

    def test_with_a_new_file_that_is_bad_loses_nothing(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(files[0].parent)}))
        put(files[0].with_name("c.pem"), A2.certificate_pem)
        renew(files[1], B2)
        place.wait(5)
        assert (place.served("a.example"), place.served("b.example")) == (A.fingerprint, B2.fingerprint)
        assert ["has no private key" in line for line in place.said.take("error")] == [True]

    def test_keeps_the_certificate_of_a_file_that_goes(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(files[0].parent)}))
        files[0].unlink()
        place.wait(5)
        assert place.served("a.example") == A.fingerprint
        assert len(place.said.take("error")) == 1

    def test_lets_go_of_one_that_another_file_replaces(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(files[0].parent)}))
        files[0].unlink()
        renew(files[0].with_name("x.pem"), A2)
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint
        assert place.said.take("error") == []

    def test_that_goes_is_one_problem(self, place: Place, tmp_path: Path) -> None:
        directory = tmp_path / "d"
        directory.mkdir()
        renew(directory / "a.pem", A)
        renew(directory / "b.pem", B)
        place.go(configured(**{"in": tls(directory)}))
        shutil.rmtree(directory)
        place.wait(60)
        assert place.served("a.example") == A.fingerprint
        (line,) = place.said.take("error")
        assert line.startswith(f"{directory}: is no directory any more")
        directory.mkdir()
        renew(directory / "a.pem", A2)
        place.wait(5)
        assert place.served("a.example") == A2.fingerprint


class TestWhomWeTrust:
    GUEST, STRANGER = CA.issue("guest", client=True), OTHER.issue("stranger", client=True)

    def policy(self, directory: Path) -> TlsPolicy:
        return TlsPolicy(client=ClientAuthSettings(CA.write(directory)))

    def admits(self, place: Place, shown: object) -> bool:
        try:
            visit(place.site("a.example"), shown)  # type: ignore[arg-type]  # one is there
        except SSL.Error:
            return False
        return True

    def test_is_read_again(self, place: Place, files: tuple[Path, Path]) -> None:
        policy = self.policy(files[0].parent)
        place.go(configured(**{"in": tls(*files, policy=policy)}))
        assert self.admits(place, self.GUEST)
        assert not self.admits(place, self.STRANGER)
        put(files[0].with_name("ca.pem"), OTHER.pem)
        place.wait(5)
        assert not self.admits(place, self.GUEST)
        assert self.admits(place, self.STRANGER)

    @pytest.mark.parametrize("content", [b"", b"junk", None])
    def test_stays_when_the_file_is_bad_though_a_certificate_is_renewed(
        self, place: Place, files: tuple[Path, Path], content: bytes | None
    ) -> None:
        policy = self.policy(files[0].parent)
        place.go(configured(**{"in": tls(*files, policy=policy)}))
        if content is None:
            files[0].with_name("ca.pem").unlink()
        else:
            put(files[0].with_name("ca.pem"), content)
        renew(files[0], A2)
        place.wait(5)
        assert visit(place.site("a.example"), self.GUEST).fingerprint == A2.fingerprint
        assert not self.admits(place, self.STRANGER)
        assert len(place.said.take("error")) == 1

    def test_ends_with_a_new_revocation_list(self, place: Place, files: tuple[Path, Path]) -> None:
        crl = files[0].with_name("revoked.crl")
        crl.write_bytes(CA.crl_pem())
        client = ClientAuthSettings(CA.write(files[0].parent), crl=str(crl))
        site = SiteSettings(("a.example",), TlsPolicy(client=client))
        place.go(configured(**{"in": tls(*files, sites=(site,))}))
        assert self.admits(place, self.GUEST)
        put(crl, CA.crl_pem(self.GUEST))
        place.wait(5)
        assert not self.admits(place, self.GUEST)
        put(crl, b"-----BEGIN X509 CRL-----\nhalf")
        place.wait(5)
        assert not self.admits(place, self.GUEST)

    def test_is_an_error_at_the_start_when_it_cannot_be_read(self, place: Place, files: tuple[Path, Path]) -> None:
        policy = self.policy(files[0].parent)
        put(files[0].with_name("ca.pem"), b"")
        with pytest.raises(StartError, match=r"ca\.pem: is empty"):
            place.go(configured(**{"in": tls(*files, policy=policy)}))


class Made:
    """The ClientTls that are made, as authorities, lists and the fingerprint of our certificate.

    The one whose fingerprint is `refused` OpenSSL does not take.
    """

    def __init__(self) -> None:
        self.refused = ""
        self._made: list[tuple[object, tuple[x509.CertificateRevocationList, ...], str | None]] = []

    def __call__(self, settings: BackendTlsSettings, *, trust: Trust | None, pair: Pair | None) -> ClientTls:
        if pair is not None and pair.fingerprint == self.refused:
            raise CertificateError(pair.path, "OpenSSL does not take it")
        shown = None if pair is None else pair.fingerprint
        held = trust or Trust(())
        self._made.append((held.authorities, held.revocations, shown))
        return ClientTls(settings, trust=trust, pair=pair)

    def last(self) -> tuple[object, tuple[x509.CertificateRevocationList, ...], str | None]:
        return self._made[-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(tls_building, "ClientTls", made)
    return made


class TestPools:
    def pool(self, directory: Path) -> PoolSettings:
        certificate = CertificateSettings(str(directory / "a.pem"))
        return PoolSettings("web", (), tls=BackendTlsSettings(ca=CA.write(directory), certificate=certificate))

    def test_have_another_tls_when_a_file_has_changed(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(self.pool(files[0].parent)))
        before = place.service.clients["web"]
        put(files[0].with_name("ca.pem"), CA.pem, CA.pem)
        place.wait(5)
        assert place.service.clients["web"] is not before

    def test_keep_theirs_when_nothing_has_changed(self, place: Place, files: tuple[Path, Path]) -> None:
        configuration = configured(self.pool(files[0].parent), **{"in": tls(files[1])})
        place.go(configuration)
        before = place.service.clients["web"]
        renew(files[1], B2)
        place.wait(5)
        assert place.service.clients["web"] is before, "another file has"
        place.go(replace(configuration))
        assert place.service.clients["web"] is before, "over a reload too"

    @pytest.mark.parametrize("name", ["ca.pem", "a.pem"])
    def test_keep_theirs_when_a_file_is_bad(self, place: Place, files: tuple[Path, Path], name: str) -> None:
        place.go(configured(self.pool(files[0].parent)))
        before = place.service.clients["web"]
        put(files[0].with_name(name), b"")
        place.wait(5)
        assert place.service.clients["web"] is before
        assert [str(files[0].with_name(name)) in line for line in place.said.take("error")] == [True]

    @pytest.mark.parametrize("bad", ["ca.pem", "ca.crl", "a.pem"])
    def test_keep_what_one_bad_file_held_and_take_the_others(
        self, place: Place, files: tuple[Path, Path], made: Made, bad: str
    ) -> None:
        directory = files[0].parent
        put(directory / "ca.crl", CA.crl_pem())
        settings = self.pool(directory).tls
        assert settings is not None
        place.go(configured(PoolSettings("web", (), tls=replace(settings, crl=str(directory / "ca.crl")))))
        before = made.last()
        good = {"ca.pem": CA.pem + OTHER.pem, "ca.crl": CA.crl_pem(7), "a.pem": A2.certificate_pem + A2.key_pem}
        for name, content in good.items():
            put(directory / name, b"" if name == bad else content)
        place.wait(5)
        for name, old, new in zip(good, before, made.last(), strict=True):
            assert (old == new) == (name == bad), name
        assert len(place.said.take("error")) == 1
        put(directory / bad, good[bad])
        place.wait(5)
        assert not any(old == new for old, new in zip(before, made.last(), strict=True))

    def test_of_a_list_beside_the_systems_authorities(self, place: Place, files: tuple[Path, Path], made: Made) -> None:
        crl = files[0].with_name("ca.crl")
        put(crl, CA.crl_pem())
        place.go(configured(PoolSettings("web", (), tls=BackendTlsSettings(crl=str(crl)))))
        assert [len(one) for one in made.last()[1]] == [0]
        put(crl, CA.crl_pem(7))
        place.wait(5)
        assert [len(one) for one in made.last()[1]] == [1]
        assert made.last()[0] == (), "the system has its own"

    def test_with_a_certificate_that_only_openssl_finds_wanting_take_the_rest(
        self, place: Place, files: tuple[Path, Path], made: Made
    ) -> None:
        made.refused = A2.fingerprint
        place.go(configured(self.pool(files[0].parent)))
        renew(files[0], A2)
        put(files[0].with_name("ca.pem"), CA.pem, OTHER.pem)
        place.wait(60)
        assert made.last() == ((CA.certificate, OTHER.certificate), (), A.fingerprint)
        assert place.said.take("error") == [f"{files[0]}: OpenSSL does not take it; what it held before stays in use"]
        assert "is good again" not in "".join(place.said.take("info"))
        renew(files[0], A3)
        place.wait(5)
        assert made.last()[2] == A3.fingerprint

    def test_of_a_file_of_authorities_that_openssl_refuses_cannot_begin(
        self, place: Place, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def picky(*_: Any, **__: Any) -> ClientTls:
            raise SSL.Error([("", "", "bad object header")])

        monkeypatch.setattr(tls_building, "ClientTls", picky)
        with pytest.raises(StartError, match="web: OpenSSL does not take the TLS settings of this pool"):
            place.go(configured(self.pool(files[0].parent)))


class TestOurCertificateInADirectory:
    def pool(self, directory: Path) -> PoolSettings:
        return PoolSettings("web", (), tls=BackendTlsSettings(certificate=CertificateSettings(str(directory))))

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        directory = tmp_path / "ours"
        directory.mkdir()
        renew(directory / "a.pem", A)
        return directory

    def test_is_shown_if_it_is_the_only_one(self, place: Place, directory: Path, made: Made) -> None:
        place.go(configured(self.pool(directory)))
        assert made.last()[2] == A.fingerprint
        renew(directory / "a.pem", A2)
        place.wait(5)
        assert made.last()[2] == A2.fingerprint

    def test_must_be_the_only_one_at_the_start(self, place: Place, directory: Path) -> None:
        renew(directory / "b.pem", B)
        with pytest.raises(StartError, match="ours: holds 2 certificates, we can show only one; name its file"):
            place.go(configured(self.pool(directory)))

    def test_stays_when_another_comes(self, place: Place, directory: Path, made: Made) -> None:
        place.go(configured(self.pool(directory)))
        before = place.service.clients["web"]
        renew(directory / "b.pem", B)
        place.wait(60)
        assert place.service.clients["web"] is before
        (line,) = place.said.take("error")
        assert "ours: holds 2 certificates" in line
        (directory / "b.pem").unlink()
        place.wait(5)
        assert place.service.problems == []

    def test_stays_when_all_go(self, place: Place, directory: Path, made: Made) -> None:
        place.go(configured(self.pool(directory)))
        before = place.service.clients["web"]
        (directory / "a.pem").unlink()
        place.wait(60)
        assert place.service.clients["web"] is before
        assert len(place.said.take("error")) == 1

    def test_may_come_in_another_file(self, place: Place, directory: Path, made: Made) -> None:
        place.go(configured(self.pool(directory)))
        renew(directory / "b.pem", B)
        (directory / "a.pem").unlink()
        place.wait(5)
        assert made.last()[2] == B.fingerprint
        assert place.service.problems == []


class TestTickets:
    def test_unchanged_contexts_outlive_a_reload(self, place: Place, files: tuple[Path, Path]) -> None:
        place.go(configured(**{"in": tls(*files)}))
        before = place.site("a.example").openssl
        renew(files[1], B2)
        place.go(configured(**{"in": tls(*files)}))
        assert place.site("a.example").openssl is before
        assert place.served("b.example") == B2.fingerprint, "a reload reads everything at once"

    def test_a_new_ocsp_response_costs_none(self, place: Place, files: tuple[Path, Path]) -> None:
        response = files[0].with_suffix(".ocsp")
        response.write_bytes(CA.ocsp(A))
        place.go(configured(**{"in": tls(*files)}))
        before = place.site("a.example").openssl
        fresh = CA.ocsp(A, days=8)
        put(response, fresh)
        place.wait(5)
        assert place.site("a.example").openssl is before
        assert visit(place.site("a.example")).ocsp == fresh


class TestExpiry:
    def test_is_warned_of_once_a_day(self, said: Said, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        place = Place(said, now=now + timedelta(days=75))
        renew(tmp_path / "a.pem", A)
        place.go(configured(**{"in": tls(tmp_path / "a.pem")}))
        assert said.take("warn") == []
        days = []
        for _ in range(17):
            for _ in range(24):
                place.clock.advance(3600)
            days.append(said.take("warn"))
        assert [len(lines) for lines in days].count(1) >= 15
        assert max(len(lines) for lines in days) <= 2, "on the last day it expires and has expired"
        assert "expires on" in next(line for lines in days for line in lines)
        assert "expired on" in days[-1][0]


def test_nothing_is_left_behind_by_a_service_that_stops(place: Place, files: tuple[Path, Path]) -> None:
    place.go(configured(**{"in": tls(*files)}))
    place.service.stopService()
    assert place.clock.getDelayedCalls() == []


def test_without_tls_nothing_is_ever_looked_at(place: Place) -> None:
    place.go(configured())
    assert place.clock.getDelayedCalls() == []
