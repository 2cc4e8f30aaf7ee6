"""The key log: private, loud, shared, and never in the way of a handshake."""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path

import pytest

from lbproxy.service.keylog import KeyLogs
from tests.certificates.making import Authority
from tests.service.certificate_rig import Place, Said, configured, renew, tls, visit


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(monkeypatch)


class Logs(KeyLogs):
    """KeyLogs with its counters."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        super().__init__(self.counts)


def test_only_its_owner_may_read_it(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    logs = Logs()
    mask = os.umask(0)
    try:
        logs.configure([str(path)])
    finally:
        os.umask(mask)
    logs.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_loud_each_time(said: Said, tmp_path: Path) -> None:
    logs = Logs()
    for _ in range(2):
        logs.configure([str(tmp_path / "keys")])
        (line,) = said.take("warn")
        assert line.startswith("ssl key log is on: ")
        assert "can be decrypted" in line
    logs.close()


def test_lines_are_appended_at_once_by_all_who_share_it(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"before\n")
    path.chmod(0o600)
    logs = Logs()
    logs.configure([str(path), str(path)])
    logs.writer(str(path))(b"one")
    logs.writer(str(path))(b"two")
    assert path.read_bytes() == b"before\none\ntwo\n"
    logs.close()


def test_one_that_others_may_read_is_complained_about(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"")
    path.chmod(0o644)
    logs = Logs()
    logs.configure([str(path)])
    assert any("others may read it" in line for line in said.take("warn"))
    logs.close()


def test_after_rotation_lines_go_to_a_new_file(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    logs = Logs()
    logs.configure([str(path)])
    write = logs.writer(str(path))
    write(b"one")
    path.rename(tmp_path / "old")
    logs.reopen()
    write(b"two")
    assert ((tmp_path / "old").read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")
    logs.close()


def test_when_the_new_file_cannot_be_had_the_old_one_goes_on(said: Said, tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    logs = Logs()
    logs.configure([str(directory / "keys")])
    directory.rename(tmp_path / "e")
    logs.reopen()
    logs.writer(str(directory / "keys"))(b"one")
    assert (tmp_path / "e" / "keys").read_bytes() == b"one\n"
    assert len(said.take("error")) == 1
    logs.close()


def test_one_that_is_configured_no_more_takes_no_lines(said: Said, tmp_path: Path) -> None:
    logs = Logs()
    logs.configure([str(tmp_path / "keys")])
    logs.configure([])
    logs.writer(str(tmp_path / "keys"))(b"late")
    assert (tmp_path / "keys").read_bytes() == b""


def test_one_that_cannot_be_opened_is_told_once_and_counted(said: Said, tmp_path: Path) -> None:
    logs = Logs()
    path = str(tmp_path / "missing" / "keys")
    logs.configure([path])
    for _ in range(3):
        logs.writer(path)(b"lost")
    assert logs.counts["keylog_failed"] == 3
    (line,) = said.take("error")
    assert path in line
    (tmp_path / "missing").mkdir()
    logs.reopen()
    logs.writer(path)(b"kept")
    assert Path(path).read_bytes() == b"kept\n"
    logs.close()


def test_a_full_disk_is_told_once_and_counted(said: Said) -> None:
    logs = Logs()
    logs.configure(["/dev/full"])
    for _ in range(3):
        logs.writer("/dev/full")(b"lost")
    assert logs.counts["keylog_failed"] == 3
    assert len(said.take("error")) == 1
    logs.close()


class TestAService:
    CA = Authority()

    def test_writes_the_secrets_of_listeners_that_ask_for_it_and_of_no_others(self, said: Said, tmp_path: Path) -> None:
        path, log = tmp_path / "a.pem", tmp_path / "keys"
        renew(path, self.CA.issue("a.example"))
        place = Place(said)
        place.go(configured(quiet=tls(path), loud=tls(path, keylog=str(log))))
        visit(place.site("a.example", "quiet"))
        assert log.read_bytes() == b""
        visit(place.site("a.example", "loud"))
        assert b"CLIENT_HANDSHAKE_TRAFFIC_SECRET " in log.read_bytes()
        assert log.read_bytes().endswith(b"\n")
        assert len(said.take("warn")) == 1
        place.service.stopService()

    def test_shakes_hands_all_the_same_without_the_file(self, said: Said, tmp_path: Path) -> None:
        path = tmp_path / "a.pem"
        issued = self.CA.issue("a.example")
        renew(path, issued)
        place = Place(said)
        place.go(configured(loud=tls(path, keylog=str(tmp_path / "missing" / "keys"))))
        assert place.served("a.example", "loud") == issued.fingerprint
        assert place.counters.certificates["keylog_failed"] > 0
        place.service.stopService()
