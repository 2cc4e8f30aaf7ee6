"""Certificates, authorities and revocation lists that change while clients shake hands (threats.md L12, fault 44)."""

from __future__ import annotations

import itertools
import json
import re
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.certificates.making import Authority, Issued
from tests.live import peers
from tests.live.harness import TWISTD, Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend
from tests.live.tls_clients import WAYS, Answer, TlsClient, ask_tls, environment, only, refusal, trusting

VERSIONS = "1.2", "1.3"
# Two looks of two seconds, the reading, and a busy machine.
SOON = 10.0


class _Visit(NamedTuple):
    """A client that was served, with an echo: from `began` to `ended` in monotonic seconds.

    `offered` tells whether it had a session to take up, `resumed` whether that was done.
    """

    began: float
    ended: float
    served: bytes
    offered: bool
    resumed: bool


class _Load:
    """Clients that come again and again, one at a time for each context; two of three take up the session before."""

    def __init__(self, port: int, visitors: Mapping[str, list[ssl.SSLContext]]) -> None:
        self.visits: dict[str, list[_Visit]] = {name: [] for name in visitors}
        self.failures: list[str] = []
        self._port = port
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name, context), daemon=True)
            for name, contexts in visitors.items()
            for context in contexts
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, name: str, context: ssl.SSLContext) -> None:
        session = None
        for number in itertools.count():
            if self._stopped.is_set():
                return
            question, began = b"%d of %s" % (number, name.encode()), time.monotonic()
            try:
                answer = ask_tls(self._port, context, name, question=question, session=session)
            except (OSError, AssertionError) as problem:
                self.failures.append(f"{name}, number {number}: {problem!r}")
                session = None
                continue
            if answer.data != question:
                self.failures.append(f"{name}, number {number}: {answer.data!r}")
            visit = _Visit(began, time.monotonic(), answer.served, session is not None, answer.resumed)
            self.visits[name].append(visit)
            session = answer.session if number % 3 != 2 else None

    def stop(self) -> None:
        """No client more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(peers.PATIENCE)
            assert not thread.is_alive()

    @property
    def count(self) -> int:
        """How many have been."""
        return sum(map(len, self.visits.values()))

    def go_on(self, count: int) -> None:
        """Wait for so many more of each name."""
        goals = {name: len(visits) + count for name, visits in self.visits.items()}
        until(lambda: all(len(self.visits[name]) >= goal for name, goal in goals.items()), f"{count} handshakes more")

    def wait_for(self, name: str, served: Issued) -> None:
        """Wait until a client was served with this."""
        visits = self.visits[name]
        until(lambda: any(one.served == served.der for one in visits), f"{name} has the new certificate", SOON)


def _put(path: Path, content: bytes) -> None:
    """Exchange a file in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


def _link(path: Path, target: str) -> None:
    """Exchange what is at `path` for a link in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.symlink_to(target)
    fresh.replace(path)


def _both(issued: Issued) -> bytes:
    return issued.certificate_pem + issued.key_pem


class _Certbot:
    """The directory of certbot with one name in it."""

    def __init__(self, directory: Path, name: str, issued: Issued) -> None:
        self.live = directory / "live"
        self._name = name
        self._count = 0
        (self.live / name).mkdir(parents=True)
        (directory / "archive" / name).mkdir(parents=True)
        (self.live / "README").write_text("This directory contains your keys and certificates.\n")
        self.renew(issued)

    def renew(self, issued: Issued) -> None:
        """Files with the next number, then the links, one after the other."""
        self._count += 1
        content = {"cert": issued.leaf_pem, "fullchain": issued.certificate_pem, "privkey": issued.key_pem}
        archive = self.live.parent / "archive" / self._name
        for stem, data in content.items():
            (archive / f"{stem}{self._count}.pem").write_bytes(data)
        for stem in content:
            _link(self.live / self._name / f"{stem}.pem", f"../../archive/{self._name}/{stem}{self._count}.pem")


class _Place:
    """A directory with certificates, an echo, and one lbproxy before it with one TLS listener."""

    def __init__(self, stack: ExitStack, directory: Path, authority: Authority) -> None:
        self.directory = directory
        self.authority = authority
        self._stack = stack
        self._ports = Ports()
        stack.callback(self._ports.release)
        self.port = self._ports.reserve()
        self.backend = Backend(peers.echo)
        stack.callback(self.backend.stop)
        self.proxy: Lbproxy

    def reserve(self) -> int:
        """One port more."""
        return self._ports.reserve()

    def issue(self, name: str, **options: Any) -> Issued:
        """A certificate of the servers' authority."""
        return self.authority.issue(name, **options)

    def text(self, tls: str, more: str = "") -> str:
        """The configuration of one listener with these keys of `tls`."""
        return one_pool(self.port, self.backend.address, listener=f"[listener.tls]\n{tls}\n", more=more)

    def start(self, tls: str, way: str = "fast") -> Lbproxy:
        """Run lbproxy."""
        self.proxy = Lbproxy(self.text(tls), environment=environment(way))
        self._stack.callback(self.proxy.end)
        return self.proxy

    def client(self, certificate: Issued | None = None, version: str = "1.3") -> ssl.SSLContext:
        """What a client goes by who trusts the servers."""
        return trusting(self.authority, certificate=certificate, **only(version))

    def ask(self, name: str, certificate: Issued | None = None) -> Answer:
        """One client."""
        return ask_tls(self.port, self.client(certificate), name)

    def serves(self, name: str, issued: Issued, certificate: Issued | None = None) -> bool:
        """Whether a new client of `name` gets this one."""
        return self.ask(name, certificate).served == issued.der

    def visitors(self, *names: str, staff: Mapping[str, Issued]) -> dict[str, list[ssl.SSLContext]]:
        """Contexts of either version for each name; those of `staff` show a certificate."""
        return {
            name: [self.client(staff.get(name), version) for version in VERSIONS] for name in (*names, *staff.keys())
        }

    def load(self, visitors: Mapping[str, list[ssl.SSLContext]]) -> _Load:
        """Clients that go on until the end of the test."""
        load = _Load(self.port, visitors)
        self._stack.callback(load.stop)
        return load

    def problems(self) -> dict[str, str]:
        """What lbproxy says is wrong with files, by path."""
        status, answer = self.proxy.ask("GET", "/v1/certificates")
        assert status == 200
        return {one["path"]: one["message"] for one in answer["problems"]}

    def complaints(self, path: Path | str) -> list[str]:
        """The error lines about a file."""
        lines = self.proxy.log.splitlines()
        return [line for line in lines if f"{path}: " in line and "what it held before stays in use" in line]

    def is_unharmed(self, name: str, issued: Issued) -> None:
        """Invariant I3: the next client is served, and nothing is kept."""
        answer = self.ask(name)
        assert (answer.data, answer.served) == (b"question", issued.der)
        self.proxy.wait_until_idle()
        status = self.proxy.status()
        assert (status["held_bytes"], status["pipes_in_use"], status["counters"]["exceptions"]) == (0, 0, 0)


class _Ticket:
    """A client with a session from before; `resumes` and `refusal` come back with it."""

    def __init__(self, place: _Place, name: str, version: str, certificate: Issued | None = None) -> None:
        self._place = place
        self._name = name
        self._context = place.client(certificate, version)
        self._session = ask_tls(place.port, self._context, name).session
        assert self.resumes(), "it does at first"

    def ask(self) -> Answer:
        return ask_tls(self._place.port, self._context, self._name, session=self._session)

    def resumes(self) -> bool:
        return self.ask().resumed

    def refusal(self) -> str:
        return refusal(self._place.port, self._context, self._name, session=self._session)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Whom all clients trust."""
    return Authority("Server CA")


@pytest.fixture
def place(stack: ExitStack, tmp_path: Path, authority: Authority) -> _Place:
    """See _Place; the proxy is the test's to start."""
    return _Place(stack, tmp_path, authority)


def _site(name: str, ca: Path, crl: Path | None = None) -> str:
    listed = "" if crl is None else f'client_crl = "{crl}"\n'
    return f'[[listener.tls.site]]\nnames = "{name}"\nclient_ca = "{ca}"\n{listed}'


def _changed_once(visits: list[_Visit], old: Issued, new: Issued) -> None:
    """Nobody got anything but the old or the new one, and nobody who came after the first new one got the old one."""
    assert {visit.served for visit in visits} == {old.der, new.der}
    first = min(visit.ended for visit in visits if visit.served == new.der)
    assert [visit for visit in visits if visit.began > first and visit.served != new.der] == []


def _never_changed(visits: list[_Visit], issued: Issued) -> None:
    """All got the same certificate, and every ticket was good."""
    assert {visit.served for visit in visits} == {issued.der}
    assert {visit.offered for visit in visits} == {True, False}
    assert [visit for visit in visits if visit.resumed != visit.offered] == []


# Changes under load.


@pytest.mark.parametrize("way", WAYS)
def test_all_certificates_are_swapped_under_load_without_a_failed_handshake(place: _Place, way: str) -> None:
    """L12, fault 44. Three layouts of files, one of the names for clients with certificates only."""
    names = "one.example", "two.example", "staff.example"
    old, new = ({name: place.issue(name) for name in names} for _ in range(2))
    staff = Authority("Staff CA")
    alice = staff.issue(subject="alice", client=True)
    one, (cert, key) = place.directory / "one.pem", old["staff.example"].write(place.directory, "staff")
    one.write_bytes(_both(old["one.example"]))
    certbot = _Certbot(place.directory / "letsencrypt", "two.example", old["two.example"])
    ca = Path(staff.write(place.directory))
    listed = f'certificates = ["{one}", "{certbot.live}", {{ cert = "{cert}", key = "{key}" }}]\n'
    proxy = place.start(listed + _site("staff.example", ca), way)
    shown = {"staff.example": alice}
    with ExitStack() as stack:
        before = {
            name: stack.enter_context(TlsClient(place.port, place.client(shown.get(name)), name)).shake()
            for name in names
        }
        for name, client in before.items():
            assert (client.ask(b"early"), client.served) == (b"early", old[name].der)
        load = place.load(place.visitors("one.example", "two.example", staff=shown))
        load.go_on(30)
        assert {visit.served for visits in load.visits.values() for visit in visits} == {
            one.der for one in old.values()
        }
        _put(one, _both(new["one.example"]))
        certbot.renew(new["two.example"])
        _put(Path(cert), new["staff.example"].certificate_pem)
        _put(Path(key), new["staff.example"].key_pem)
        for name in names:
            load.wait_for(name, new[name])
        load.go_on(100)
        for client in before.values():
            assert client.ask(b"still there") == b"still there", "a session outlives the certificate it began with"
        load.stop()
    assert load.failures == []
    for name, visits in load.visits.items():
        _changed_once(visits, old[name], new[name])
        for served in (old[name], new[name]):
            kinds = {visit.resumed for visit in visits if visit.served == served.der}
            assert kinds == {True, False}, "whole and resumed handshakes, before and after"
    place.is_unharmed("one.example", new["one.example"])
    assert set(proxy.listener()["handshakes"]) == {"full", "resumed"}
    assert proxy.status()["counters"]["certificates"] == {"swapped": 3}
    assert place.problems() == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_reload_changes_what_it_names_and_no_ticket_of_anything_else(place: _Place, way: str) -> None:
    """L5, L12. Two ways to replace the authority of clients: another file, and another content of the same one."""
    names = "one.example", "two.example", "other-file.example", "same-file.example"
    certificates = {name: place.issue(name) for name in (*names, "added.example")}
    paths = {name: one.write_both(place.directory, name) for name, one in certificates.items()}
    old, new = Authority("Old CA"), Authority("New CA")
    alice, bob = old.issue(subject="alice", client=True), new.issue(subject="bob", client=True)
    first, same = Path(old.write(place.directory, "first")), Path(old.write(place.directory, "same"))
    second = Path(new.write(place.directory, "second"))
    guarded = "other-file.example", "same-file.example"

    def tls(ca: Path, *names: str) -> str:
        listed = ", ".join(f'"{paths[name]}"' for name in names)
        return f"certificates = [{listed}]\n" + _site(guarded[0], ca) + _site(guarded[1], same)

    proxy = place.start(tls(first, *names), way)
    kept = [_Ticket(place, name, version) for name in names[:2] for version in VERSIONS]
    lost = [_Ticket(place, name, version, alice) for name in guarded for version in VERSIONS]
    for name in guarded:
        assert refusal(place.port, place.client(bob), name) == "tlsv1 alert unknown ca"
    assert place.ask("added.example").served == certificates[names[0]].der, "nobody's name gets the default"
    load = place.load(place.visitors(*names[:2], staff={}))
    load.go_on(30)
    with TlsClient(place.port, place.client(alice), guarded[0]).shake() as client:
        assert client.ask(b"early") == b"early"
        proxy.configure(place.text(tls(second, *names, "added.example")))
        _put(same, new.pem)
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("reloaded: ")
        for name in guarded:
            for version in VERSIONS:
                assert ask_tls(place.port, place.client(bob, version), name).served == certificates[name].der
                assert refusal(place.port, place.client(alice, version), name) == "tlsv1 alert unknown ca"
        assert [one.refusal() for one in lost] == ["tlsv1 alert unknown ca"] * len(lost), "no ticket gets around it"
        assert all(one.resumes() for one in kept), "tickets of what did not change stay good"
        assert place.serves("added.example", certificates["added.example"])
        load.go_on(50)
        assert client.ask(b"still there") == b"still there", "who was let in before stays"
        load.stop()
    assert load.failures == []
    for name, visits in load.visits.items():
        _never_changed(visits, certificates[name])
    place.is_unharmed("two.example", certificates["two.example"])
    assert set(proxy.listener()["handshakes"]) == {"full", "resumed", "unknown_ca"}
    assert proxy.status()["counters"]["reloads"] == {"ok": 1}


def test_handshakes_under_way_end_as_they_began(place: _Place) -> None:
    """L12: the choice falls when the whole ClientHello has come; from then on a swap changes nothing."""
    old, new = place.issue("one.example"), place.issue("one.example")
    path = Path(old.write_both(place.directory, "one"))
    proxy = place.start(f'cert = "{path}"')
    with (
        TlsClient(place.port, place.client(), "one.example") as silent,
        TlsClient(place.port, place.client(), "one.example") as halfway,
        TlsClient(place.port, place.client(), "one.example") as chosen,
    ):
        hello = halfway.client_hello()
        halfway.send_plain(hello[:100])
        chosen.send_plain(chosen.client_hello())
        assert select.select([chosen], [], [], peers.PATIENCE)[0], "the server has answered"
        _put(path, _both(new))
        assert proxy.reload()[0] == 200
        assert place.serves("one.example", new)
        halfway.send_plain(hello[100:])
        for client, issued in ((silent, new), (halfway, new), (chosen, old)):
            assert client.shake().ask(b"question") == b"question"
            assert client.served == issued.der
    place.is_unharmed("one.example", new)


@pytest.mark.parametrize("way", WAYS)
def test_one_reload_after_another_under_load_costs_nobody_a_handshake(place: _Place, way: str) -> None:
    """Fault 44: by signal, while the watch looks at the same files."""
    kept, first = place.issue("kept.example"), place.issue("moving.example")
    staying = kept.write_both(place.directory, "kept")
    moving = Path(first.write_both(place.directory, "moving"))
    proxy = place.start(f'certificates = ["{staying}", "{moving}"]', way)
    place.is_unharmed("kept.example", kept)
    before = proxy.descriptors()
    load = place.load(place.visitors("kept.example", "moving.example", staff={}))
    known = [first]
    for number in range(1, 26):
        known.append(place.issue("moving.example"))
        _put(moving, _both(known[-1]))
        proxy.signal(signal.SIGHUP)
        until(lambda: proxy.log.count("reloaded: ") == number, "the reload is done")  # noqa: B023  # asked at once
        load.wait_for("moving.example", known[-1])
    load.stop()
    assert load.failures == []
    _never_changed(load.visits["kept.example"], kept)
    for old, new in itertools.pairwise(known):
        early = [visit for visit in load.visits["moving.example"] if visit.served == new.der]
        first_seen = min(visit.ended for visit in early)
        assert not any(v.began > first_seen and v.served == old.der for v in load.visits["moving.example"])
    place.is_unharmed("moving.example", known[-1])
    until(lambda: proxy.descriptors() <= before, "no descriptor is left of them")
    assert set(proxy.listener()["handshakes"]) == {"full", "resumed"}
    assert proxy.status()["counters"]["reloads"] == {"ok": 25}


def test_nothing_of_earlier_certificates_is_kept(place: _Place) -> None:
    """L19: a key that is no longer served is forgotten, and so is all the memory of it."""
    issued = [place.issue("one.example") for _ in range(10)]
    path = Path(issued[0].write_both(place.directory, "one"))
    proxy = place.start(f'cert = "{path}"')

    def reload(times: int) -> int:
        for number in range(times):
            _put(path, _both(issued[number % len(issued)]))
            assert proxy.reload()[0] == 200
        assert place.serves("one.example", issued[(times - 1) % len(issued)])
        return proxy.resident_bytes()

    before = reload(50)
    # One context with its certificate is about 40 KB.
    assert reload(100) - before < 1 << 20
    place.is_unharmed("one.example", issued[-1])


# Files that are not as they should be.


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _lbproxy(proxy: Lbproxy, *arguments: str) -> str:
    """What the lbproxy command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "lbproxy.cli", *arguments, "--socket", str(proxy.directory / "control.sock")],
        capture_output=True,
        text=True,
        timeout=peers.PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_is_bad_stays_as_it_was_and_is_told_while_all_else_is_swapped(place: _Place) -> None:
    """L12: each kind of a bad file in a file of its own, at the same time, and then all of them mended."""
    sentences = {
        "garbage": "holds no",
        "half": "half written?",
        "mismatch": "does not belong to the certificate",
        "deleted": "there is no such file",
        "keyless": "there is no such file",
        "unreadable": "cannot be read: Too many levels of symbolic links",
    }
    fine = "good", "beside", "expired"
    stems = *sentences, *fine
    old = {stem: place.issue(f"{stem}.example") for stem in stems}
    new = {stem: place.issue(f"{stem}.example", days=-1 if stem == "expired" else 90) for stem in stems}
    inside = place.directory / "directory"
    inside.mkdir()
    pairs = {stem: (place.directory / f"{stem}.crt", place.directory / f"{stem}.key") for stem in stems}
    pairs |= {stem: (inside / f"{stem}.crt", inside / f"{stem}.key") for stem in ("unreadable", "beside")}
    for stem, (cert, _) in pairs.items():
        old[stem].write(cert.parent, stem)
    half = place.directory / "half.pem"
    half.write_bytes(_both(old["half"]))
    staff = Authority("Staff CA")
    ca = Path(staff.write(place.directory))
    alice = staff.issue(subject="alice", client=True)
    told = {
        **{stem: pairs[stem][0] for stem in sentences},
        "half": half,
        "keyless": pairs["keyless"][1],
        "ca": ca,
    }
    listed = [f'"{half}"', f'"{inside}"']
    listed += [
        f'{{ cert = "{cert}", key = "{key}" }}'
        for stem, (cert, key) in pairs.items()
        if stem != "half" and cert.parent != inside
    ]
    proxy = place.start(f"certificates = [{', '.join(listed)}]\n" + _site("good.example", ca))
    tickets = {stem: _Ticket(place, f"{stem}.example", "1.3") for stem in sentences}
    unjudging = place.client()
    unjudging.verify_mode = ssl.CERT_NONE

    def served(stem: str) -> bytes:
        shown = place.client(alice) if stem == "good" else unjudging
        return ask_tls(place.port, shown, f"{stem}.example").served

    # All go bad, and three are renewed.
    _put(pairs["garbage"][0], b"this is no certificate\n")
    _put(half, _both(new["half"])[: len(_both(new["half"])) // 2])
    _put(pairs["mismatch"][0], new["mismatch"].certificate_pem)
    pairs["deleted"][0].unlink()
    pairs["keyless"][1].unlink()
    _link(pairs["unreadable"][0], pairs["unreadable"][0].name)
    _put(ca, b"")
    for stem in fine:
        _put(pairs[stem][0], new[stem].certificate_pem)
        _put(pairs[stem][1], new[stem].key_pem)
    until(lambda: place.problems().keys() == {str(path) for path in told.values()}, "all problems are known", SOON)
    until(lambda: all(served(stem) == new[stem].der for stem in fine), "what is good is taken", SOON)
    assert {stem: served(stem) for stem in sentences} == {stem: old[stem].der for stem in sentences}
    assert all(ticket.resumes() for ticket in tickets.values())
    assert refusal(place.port, place.client(), "good.example") == "tlsv13 alert certificate required", "L6"
    page, status = _lbproxy(proxy, "certificates"), _lbproxy(proxy, "status")
    answer = json.loads(_lbproxy(proxy, "certificates", "--json"))
    said = {one["path"]: one["message"] for one in answer["problems"]}
    for stem, sentence in sentences.items():
        path = told[stem]
        assert sentence in said[str(path)]
        assert f"{path}: {said[str(path)]}" in page
        assert f"file {path}: {said[str(path)]}" in status
        (line,) = place.complaints(path)
        assert f"{path}: {said[str(path)]}; " in line
    flagged = {one["names"][0].removesuffix(".example") for one in answer["certificates"] if one["problem"]}
    assert flagged == sentences.keys()
    fingerprints = {one["names"][0].removesuffix(".example"): one["fingerprint"] for one in answer["certificates"]}
    assert fingerprints == {stem: (new if stem in fine else old)[stem].fingerprint for stem in stems}
    assert re.search(rf" warn .*{pairs['expired'][0]}: (the certificate )?expired on ", proxy.log)
    assert f"certificate {pairs['expired'][0]}: expired on " in status

    # All are mended.
    _put(half, _both(new["half"]))
    _put(ca, staff.pem)
    for stem in sentences.keys() - {"half"}:
        _put(pairs[stem][0], new[stem].certificate_pem)
        _put(pairs[stem][1], new[stem].key_pem)
    until(lambda: place.problems() == {}, "all problems are gone", SOON)
    assert {stem: served(stem) for stem in stems} == {stem: new[stem].der for stem in stems}
    for path in told.values():
        assert len(place.complaints(path)) == 1, "once is enough"
        assert proxy.log.count(f"{path}: is good again") == 1
    assert refusal(place.port, place.client(), "good.example") == "tlsv13 alert certificate required"
    assert not any(one["problem"] for one in json.loads(_lbproxy(proxy, "certificates", "--json"))["certificates"])
    counts = proxy.status()["counters"]["certificates"]
    assert counts == {"refused": len(told), "swapped": len(stems)}
    place.is_unharmed("beside.example", new["beside"])


def test_a_directory_that_goes_away_and_comes_back_costs_nothing(place: _Place) -> None:
    """L12: what was in it is served on, and what comes back is taken."""
    live, away = place.directory / "live", place.directory / "away"
    live.mkdir()
    old, new = place.issue("one.example"), place.issue("one.example")
    old.write_both(live, "one")
    other, renewed = place.issue("two.example"), place.issue("two.example")
    outside = Path(other.write_both(place.directory, "two"))
    proxy = place.start(f'certificates = ["{live}", "{outside}"]')
    live.rename(away)
    until(lambda: str(live) in place.problems(), "it is missed", SOON)
    _put(outside, _both(renewed))
    until(lambda: place.serves("two.example", renewed), "what is elsewhere is taken", SOON)
    assert place.serves("one.example", old)
    assert len(place.complaints(live)) == 1, "once, whatever else changes"
    _put(away / "one.pem", _both(new))
    away.rename(live)
    until(lambda: place.serves("one.example", new), "what came back is served", SOON)
    assert place.problems() == {}
    assert f"{live}: is good again" in proxy.log
    place.is_unharmed("one.example", new)


_BAD_RELOADS = {
    "garbage": ("cert", "holds no"),
    "half": ("cert", "half written?"),
    "missing": ("cert", "there is no such file"),
    "mismatch": ("cert", "does not belong to the certificate"),
    "no-key": ("key", "there is no such file"),
    "ca-missing": ("client_ca", "there is no such file"),
    "ca-empty": ("client_ca", "is empty"),
    "ca-garbage": ("client_ca", "holds no"),
    "crl-missing": ("client_crl", "there is no such file"),
}


def _bad_tls(place: _Place, fault: str) -> str:
    """Keys of `tls` that name one bad file; what the fault is about is told in _BAD_RELOADS."""
    good, other = place.issue("one.example"), place.issue("one.example")
    cert, key = map(Path, good.write(place.directory, fault))
    ca = Path(Authority("Staff CA").write(place.directory, f"{fault}-ca"))
    crl = ""
    match fault:
        case "garbage":
            cert.write_bytes(b"this is no certificate\n")
        case "half":
            cert.write_bytes(good.certificate_pem[: len(good.certificate_pem) // 2])
        case "missing":
            cert.unlink()
        case "mismatch":
            key.write_bytes(other.key_pem)
        case "no-key":
            key.unlink()
        case "ca-missing":
            ca.unlink()
        case "ca-empty":
            ca.write_bytes(b"")
        case "ca-garbage":
            ca.write_bytes(b"this is no certificate\n")
        case "crl-missing":
            crl = f'client_crl = "{place.directory}/nowhere.crl"\n'
    return f'cert = "{cert}"\nkey = "{key}"\nclient_ca = "{ca}"\n{crl}'


def test_a_reload_with_a_bad_file_is_refused_and_changes_nothing(place: _Place) -> None:
    """L6, L12: the line names the file and the line of the configuration, the key in it, and the bad file."""
    good, fresh = place.issue("one.example"), place.reserve()
    path = good.write_both(place.directory, "one")
    proxy = place.start(f'cert = "{path}"')
    ticket = _Ticket(place, "one.example", "1.3")
    with TlsClient(place.port, place.client(), "one.example").shake() as client:
        assert client.ask(b"early") == b"early"
        for number, (fault, (key, sentence)) in enumerate(_BAD_RELOADS.items(), 1):
            added = f'[[listener]]\nname = "added"\nbind = "127.0.0.1:{fresh}"\npool = "out"\n'
            proxy.configure(place.text(_bad_tls(place, fault), added))
            line = proxy.file.read_text().partition(f"\n{key} = ")[0].count("\n") + 2
            proxy.signal(signal.SIGHUP)
            until(lambda: proxy.log.count("reload refused: ") == number, f"{fault}: the reload is refused")  # noqa: B023  # asked at once
            said = next(
                one for one in proxy.log.splitlines() if f"{place.directory}/{fault}" in one or "nowhere" in one
            )
            assert f"{proxy.file}:{line}: " in said, fault
            assert f".{key}: " in said, fault
            assert sentence in said, fault
            assert ticket.resumes()
            assert place.serves("one.example", good)
            assert _refused(fresh)
        assert client.ask(b"still there") == b"still there"
    assert proxy.status()["counters"]["reloads"] == {"failed": len(_BAD_RELOADS)}
    place.is_unharmed("one.example", good)


def test_a_file_that_went_bad_refuses_the_reload_of_an_unchanged_configuration(place: _Place) -> None:
    """L12: what the watch forgives a reload does not, but both serve on; mended, either takes it."""
    old, new = place.issue("one.example"), place.issue("one.example")
    path = Path(old.write_both(place.directory, "one"))
    proxy = place.start(f'cert = "{path}"')
    _put(path, b"this is no certificate\n")
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("reload refused: ")
    assert place.serves("one.example", old)
    until(lambda: str(path) in place.problems(), "the watch has seen it too", SOON)
    _put(path, _both(new))
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_log("reloaded: ")
    assert place.serves("one.example", new), "at once, not with the next look"
    assert place.problems() == {}
    place.is_unharmed("one.example", new)


@pytest.mark.parametrize("fault", _BAD_RELOADS)
def test_a_start_with_a_bad_file_ends_with_status_2_and_a_sentence(place: _Place, fault: str) -> None:
    """L6, L12: nothing is served in place of what was asked for."""
    key, sentence = _BAD_RELOADS[fault]
    file = place.directory / "lbproxy.toml"
    file.write_text(place.text(_bad_tls(place, fault)))
    done = subprocess.run(
        [*TWISTD, "-n", "--pidfile=", "lbproxy", "--config", str(file)],
        cwd=place.directory,
        capture_output=True,
        text=True,
        timeout=peers.PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    (line,) = (one for one in said.splitlines() if sentence in one)
    assert f"{file}:" in line
    assert f".{key}: " in line
    assert "Traceback" not in said


# Revocation lists.


def _fate(place: _Place, name: str, context: ssl.SSLContext) -> str:
    """ "served", or what the alert says; "lost" if the connection was gone before the alert was heard."""
    try:
        return "served" if ask_tls(place.port, context, name).data == b"question" else "not served"
    except ssl.SSLError as problem:
        return (problem.reason or str(problem)).lower().replace("_", " ")
    except ConnectionError:
        return "lost"


def test_who_is_on_a_new_revocation_list_is_out_with_and_without_a_ticket(place: _Place) -> None:
    """L13: within the time of the watch. A list that is then spoiled pardons nobody."""
    served = place.issue("staff.example")
    staff = Authority("Staff CA")
    alice, bob = (staff.issue(subject=name, client=True) for name in ("alice", "bob"))
    crl = place.directory / "staff.crl"
    crl.write_bytes(staff.crl_pem())
    path, ca = served.write_both(place.directory, "staff"), Path(staff.write(place.directory))
    other = place.issue("other.example")
    listed = f'certificates = ["{other.write_both(place.directory, "other")}", "{path}"]\n'
    proxy = place.start(listed + _site("staff.example", ca, crl))
    hers, his = ([_Ticket(place, "staff.example", version, one) for version in VERSIONS] for one in (alice, bob))
    elsewhere = _Ticket(place, "other.example", "1.3")

    def fate(issued: Issued) -> list[str]:
        return [_fate(place, "staff.example", place.client(issued, version)) for version in VERSIONS]

    assert fate(alice) == fate(bob) == ["served"] * 2
    _put(crl, staff.crl_pem(alice))
    until(lambda: fate(alice) == ["sslv3 alert certificate revoked"] * 2, "alice is refused", SOON)
    assert [one.refusal() for one in hers] == ["sslv3 alert certificate revoked"] * 2
    assert fate(bob) == ["served"] * 2
    for ticket in his:
        answer = ticket.ask()
        assert (answer.data, answer.resumed) == (b"question", False), "his ticket was given under the old list"
    assert elsewhere.resumes()
    _put(crl, b"this is no list\n")
    until(lambda: str(crl) in place.problems(), "the bad list is told", SOON)
    assert len(place.complaints(crl)) == 1
    assert "served" not in fate(alice)
    assert fate(bob) == ["served"] * 2
    _put(crl, staff.crl_pem())
    until(lambda: fate(alice) == ["served"] * 2, "a list without her lets her in", SOON)
    assert set(proxy.listener()["handshakes"]) == {"full", "resumed", "revoked_certificate"}
    place.is_unharmed("other.example", other)


# The key log.


def test_the_key_log_is_loud_private_and_begins_anew_after_rotation(place: _Place) -> None:
    """L19: secrets go only where they were asked to go, and nobody can overlook it."""
    served = place.issue("one.example")
    path, log = served.write_both(place.directory, "one"), place.directory / "keys.log"
    proxy = place.start(f'cert = "{path}"\nkeylog = "{log}"')
    assert f"ssl key log is on: all TLS sessions of its listeners can be decrypted by whoever reads {log}" in proxy.log
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert log.read_bytes() == b""
    assert place.ask("one.example").data == b"question"
    for word in (b"CLIENT_HANDSHAKE_TRAFFIC_SECRET ", b"CLIENT_TRAFFIC_SECRET_0 ", b"SERVER_TRAFFIC_SECRET_0 "):
        assert log.read_bytes().count(word) == 1
    rotated = place.directory / "keys.log.1"
    log.rename(rotated)
    before = rotated.read_bytes()
    proxy.signal(signal.SIGUSR1)
    until(log.exists, "a new file is begun")
    proxy.wait_for_log("log files were opened again")
    assert ask_tls(place.port, place.client(version="1.2"), "one.example").data == b"question"
    assert log.read_bytes().startswith(b"CLIENT_RANDOM ")
    assert rotated.read_bytes() == before
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    place.is_unharmed("one.example", served)
    size = log.stat().st_size
    proxy.change(place.text(f'cert = "{path}"'))
    assert place.ask("one.example").data == b"question"
    assert log.stat().st_size == size, "taken out of the configuration, nothing more is written"
    place.is_unharmed("one.example", served)
