"""What operators see of certificates: over the control socket, in the status page and in a table; never keys (L19)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lbproxy import cli
from lbproxy.model import ControlSettings
from lbproxy.service.certificate_page import certificates_text
from lbproxy.service.certificate_status import certificates_status, certificates_summary
from lbproxy.service.status import status_text
from tests.certificates.making import Authority, Issued
from tests.service.certificate_rig import Place, Said, put, renew, tls
from tests.service.certificate_rig import configured as tls_configured
from tests.service.service_rig import Running, configured, free_port, pool, running

CA = Authority()
FAR, NEAR = CA.issue("a.example", "*.a.example", "127.0.0.1"), CA.issue("near.example", days=3)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Running, str]]:
    path = str(tmp_path / "control")
    directory = tmp_path / "certificates"
    directory.mkdir()
    renew(directory / "far.pem", FAR)
    renew(directory / "near.pem", NEAR)
    listeners = {"plain": [free_port()], "front": [free_port()]}
    settings = configured(listeners, (pool("web", 9101),), control=ControlSettings(path))
    plain, front = settings.listeners
    with running(replace(settings, listeners=(plain, replace(front, tls=tls(directory))))) as made:
        yield made, path


def secret(issued: Issued) -> str:
    """The number that nobody may see, in hexadecimal."""
    key: Any = load_pem_private_key(issued.key_pem, None)
    return f"{key.private_numbers().private_value:x}"


class TestTheControlSocket:
    def test_tells_what_is_served(self, place: tuple[Running, str]) -> None:
        made, path = place
        status, told = made.ask(path, "GET", "/v1/certificates")
        assert status == 200
        assert told["problems"] == []
        far, near = told["certificates"]
        assert far.pop("path").endswith("/far.pem")
        assert 89 * 86400 < far.pop("expires_in_seconds") <= 90 * 86400
        assert far == {
            "listener": "front",
            "names": ["a.example", "*.a.example", "127.0.0.1"],
            "kind": "ECDSA",
            "not_before": f"{FAR.certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
            "not_after": f"{FAR.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            "fingerprint": FAR.fingerprint,
            "ocsp": {"state": "none", "source": None, "until": None, "problem": None},
            "problem": None,
        }
        assert near["names"] == ["near.example"]

    def test_never_tells_keys(self, place: tuple[Running, str]) -> None:
        made, path = place
        for target in ("/v1/certificates", "/v1/status"):
            text = json.dumps(made.ask(path, "GET", target)[1])
            assert "PRIVATE" not in text
            assert secret(FAR) not in text.lower()

    def test_tells_handshakes_of_listeners_with_tls(self, place: tuple[Running, str]) -> None:
        made, path = place
        made.service.listeners.by_name["front"].handshakes["full"] += 2
        _, told = made.ask(path, "GET", "/v1/status")
        assert {one["name"]: one["handshakes"] for one in told["listeners"]} == {"plain": None, "front": {"full": 2}}
        assert told["handshakes"] == {"under_way": 0, "waiting": 0}

    def test_tells_what_to_look_after(self, place: tuple[Running, str]) -> None:
        made, path = place
        _, told = made.ask(path, "GET", "/v1/status")
        assert told["certificates"]["served"] == 2
        assert told["certificates"]["problems"] == []
        (one,) = told["certificates"]["expiring"]
        assert one["path"].endswith("/near.pem")
        assert one["message"].startswith("expires on ")

    def test_changes_nothing_by_asking(self, place: tuple[Running, str]) -> None:
        made, path = place
        assert made.ask(path, "PATCH", "/v1/certificates", b"{}")[0] == 404


def test_a_bad_file_is_told_with_the_certificate_that_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Place(Said(monkeypatch))
    certificate, key = FAR.write(tmp_path)
    service.go(tls_configured(front=tls(certificate)))
    put(key, b"")
    service.wait(5)
    now = datetime.now(UTC).timestamp()
    told: Any = json.loads(json.dumps(certificates_status(service.service, now)))
    assert told["problems"] == [{"path": key, "message": "is empty"}]
    assert told["certificates"][0]["problem"] == f"{key}: is empty"
    assert certificates_summary(service.service, now)["problems"] == told["problems"]
    page = certificates_text(told)
    assert f"{certificate} (!)" in page
    assert page.endswith(f"\n\n{key}: is empty")
    service.service.stopService()


def served(**rest: Any) -> dict[str, Any]:
    """One certificate as the control socket tells it."""
    one = {
        "listener": "front",
        "path": "/etc/a.pem",
        "names": ["a.example"],
        "kind": "ECDSA",
        "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2026-04-01T00:00:00Z",
        "expires_in_seconds": int(timedelta(days=90).total_seconds()),
        "fingerprint": "ab" * 32,
        "ocsp": {"state": "none", "source": None, "until": None, "problem": None},
        "problem": None,
    }
    return {**one, **rest}


class TestTheTable:
    def test_has_a_row_for_each(self) -> None:
        names = [f"{letter}.example" for letter in "abcde"]
        answer = {"certificates": [served(), served(names=names, expires_in_seconds=-5)], "problems": []}
        heading, first, second = certificates_text(answer).splitlines()
        assert heading.split() == ["listener", "names", "kind", "ends", "in", "ocsp", "file"]
        assert first.split() == ["front", "a.example", "ECDSA", "2026-04-01T00:00:00Z", "90d", "none", "/etc/a.pem"]
        assert "a.example, b.example, c.example +2" in second
        assert "EXPIRED" in second

    def test_ends_with_what_is_wrong(self) -> None:
        ocsp = {
            "state": "failed",
            "source": "http://o/",
            "until": None,
            "problem": "no OCSP response from http://o/: x",
        }
        answer = {"certificates": [served(ocsp=ocsp)], "problems": [{"path": "/etc/b\x1b.pem", "message": "is empty"}]}
        assert certificates_text(answer).splitlines()[-2:] == [
            "/etc/b?.pem: is empty",
            "/etc/a.pem: no OCSP response from http://o/: x",
        ]

    def test_says_when_there_is_none(self) -> None:
        assert certificates_text({"certificates": [], "problems": []}) == "no certificate is served"


class TestTheStatusPage:
    def page(self, place: tuple[Running, str]) -> list[str]:
        made, path = place
        return status_text(made.ask(path, "GET", "/v1/status")[1]).splitlines()

    def test_counts_handshakes(self, place: tuple[Running, str]) -> None:
        counts = place[0].service.listeners.by_name["front"].handshakes
        counts.update({"full": 5, "resumed": 2, "unknown_name": 1, "no_shared_cipher": 3})
        assert [line for line in self.page(place) if "TLS handshakes" in line] == [
            "  TLS handshakes: 5 full, 2 resumed, 4 failed (3 no_shared_cipher, 1 unknown_name)"
        ]

    def test_names_certificates_that_expire(self, place: tuple[Running, str]) -> None:
        (line,) = [line for line in self.page(place) if line.startswith("certificate ")]
        assert "near.pem: expires on" in line


class TestTheCommand:
    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_prints_what_it_is_told(
        self, form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = {"certificates": [served()], "problems": []}
        asked: list[tuple[str, ...]] = []

        def ask(*request: str) -> tuple[int, object]:
            asked.append(request)
            return 200, answer

        monkeypatch.setattr(cli, "ask", ask)
        assert cli.main(["certificates", "--socket", "/run/x", *form]) == 0
        assert asked == [("/run/x", "GET", "/v1/certificates")]
        printed = capsys.readouterr().out
        assert json.loads(printed) == answer if form else printed == certificates_text(answer) + "\n"

    def test_says_when_the_instance_does_not_know_the_question(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(cli, "ask", lambda *_: (404, {"error": "there is no GET /v1/certificates here"}))
        assert cli.main(["certificates", "--socket", "/run/x"]) == 1
        assert "there is no GET" in capsys.readouterr().err
