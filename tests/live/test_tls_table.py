"""Rows of the TLS table (threats.md, 4.10) that concern listeners, with real peers; L12 is in test_tls_reload.py.

All but a few run both ways that TLS goes; behind every test a clean client is served (invariant I3).
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lbproxy.preamble import HeaderReader, ProxyHeader
from tests.certificates.making import Authority, Issued
from tests.live import peers
from tests.live.harness import TWISTD, Lbproxy, Ports, Record, one_pool, until
from tests.live.peers import Backend, connect, read_all
from tests.live.tls_clients import (
    WAYS,
    Answer,
    OpenSsl,
    TlsClient,
    alert_in,
    ask_tls,
    environment,
    hello_of,
    only,
    records_of,
    refusal,
    trusting,
)
from tests.preamble import hellos

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
ALERTS = {
    "unknown_ca": "unknown ca",
    "expired_certificate": "certificate expired",
    "revoked_certificate": "certificate revoked",
}


class _Introduced:
    """An echo that takes a PROXY header first; `headers` are those it was sent."""

    def __init__(self) -> None:
        self.headers: list[ProxyHeader] = []

    def __call__(self, conn: socket.socket) -> None:
        reader, header = HeaderReader(), None
        while header is None:
            data = conn.recv(65536)
            if not data:
                return
            header = reader.feed(data)
        self.headers.append(header)
        if reader.rest:
            conn.sendall(reader.rest)
        peers.echo(conn)


class _Scene:
    """One lbproxy with a site of every kind, for all tests of one way."""

    def __init__(self, stack: ExitStack, directory: Path, way: str) -> None:
        self.directory = directory
        self.authority = Authority("Server CA")
        self.staff = Authority("Staff CA")
        self.strangers = Authority("Strangers CA")
        self.alice = self.staff.issue(subject="alice", client=True)
        self.expired = self.staff.issue(subject="erin", client=True, days=-1)
        self.revoked = self.staff.issue(subject="rob", client=True)
        self.stranger = self.strangers.issue(subject="alice", client=True)
        self.ca_file = Path(self.authority.write(directory, "server-ca"))
        self.staff.write(directory, "staff")
        (directory / "staff.crl").write_bytes(self.staff.crl_pem(self.revoked))
        self.certificates = {name: self.authority.issue(*names) for name, names in _NAMES.items()}
        for name, certificate in self.certificates.items():
            certificate.write(directory, name)
        self.alice.write(directory, "alice")
        ports = Ports()
        stack.callback(ports.release)
        self.port, self.strict, self.modern = ports.reserve(), ports.reserve(), ports.reserve()
        self.script = _Introduced()
        backend = Backend(self.script)
        stack.callback(backend.stop)
        self.proxy = Lbproxy(self._text(backend.address), environment=environment(way))
        stack.callback(self.proxy.end)
        self._seen = 0

    def _text(self, backend: str) -> str:
        listed = ", ".join(f'{{ cert = "{self.directory}/{name}.crt" }}' for name in _NAMES)
        staff = f'client_ca = "{self.directory}/staff.pem"\n'
        sites = f"""
[[listener.tls.site]]
names = "staff.example"
{staff}
[[listener.tls.site]]
names = "crl.example"
{staff}client_crl = "{self.directory}/staff.crl"
[[listener.tls.site]]
names = "optional.example"
client_verify = "optional"
{staff}
[[listener.tls.site]]
names = "*.vip.example"
{staff}
[[listener.tls.site]]
names = "alpn.example"
alpn = ["h2", "http/1.1"]
[[listener.tls.site]]
names = "modern.example"
profile = "modern"
"""
        return one_pool(
            self.port,
            backend,
            listener=f"[listener.tls]\ncertificates = [{listed}]\n{sites}\n"
            f'[[listener]]\nname = "strict"\nbind = "127.0.0.1:{self.strict}"\npool = "out"\n'
            f'[listener.tls]\ncertificates = [{listed}]\nunknown_name = "refuse"\n{sites}',
            pool='send_proxy = { version = 2, tlvs = ["authority", "alpn", "tls"] }',
        )

    def client(self, certificate: Issued | None = None, **options: Any) -> ssl.SSLContext:
        """What a client goes by who trusts the servers."""
        return trusting(self.authority, certificate=certificate, **options)

    def ask(self, name: str | None, certificate: Issued | None = None, **options: Any) -> Answer:
        """One client of the listener "in"."""
        return ask_tls(self.port, self.client(certificate, **options), name)

    def shown(self, answer: Answer) -> str:
        """Which of our certificates a client was served with."""
        return next((name for name, one in self.certificates.items() if one.der == answer.served), "none")

    def seen(self) -> None:
        """Forget what has happened so far."""
        self._seen = self._ended()

    def records(self, count: int) -> list[Record]:
        """The `count` records of what has happened since, and no more."""
        found = self.proxy.records(self._ended())[self._seen :]
        assert len(found) == count, found
        return found

    def _ended(self) -> int:
        """How many sessions have been, each of which leaves one record."""
        self.proxy.wait_until_idle()
        return sum(one["accepted"] for one in self.proxy.status()["listeners"])

    def record(self) -> Record:
        """The one of them."""
        return self.records(1)[0]


_NAMES = {
    "default": ("www.example",),
    "staff": ("staff.example", "*.vip.example"),
    "crl": ("crl.example",),
    "optional": ("optional.example",),
    "wild": ("*.wild.example",),
    "alpn": ("alpn.example",),
    "modern": ("modern.example",),
}
CLIENTS_ASKED = ("staff.example", "crl.example", "a.vip.example")


@pytest.fixture(scope="module", params=WAYS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Scene]:
    """Shared by the tests of this module, which leave nothing behind in it."""
    with ExitStack() as stack:
        yield _Scene(stack, tmp_path_factory.mktemp("tls"), request.param)


@pytest.fixture
def _unharmed(scene: _Scene) -> Iterator[None]:
    """Invariant I3: whatever a test did, the next client is served, and nothing is kept."""
    scene.seen()
    yield
    answer = scene.ask("www.example")
    assert (answer.data, scene.shown(answer)) == (b"question", "default")
    scene.proxy.wait_until_idle()
    status = scene.proxy.status()
    assert status["held_bytes"] == 0
    assert status["counters"]["exceptions"] == 0


unharmed = pytest.mark.usefixtures("_unharmed")
# What ends before there is any data goes the same way in both.
once = pytest.mark.parametrize("scene", ["fast"], indirect=True, scope="module")


# As numbers: x25519, secp256r1; ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256, rsa_pkcs1_sha256.
_GROUPS = hellos.extension(10, hellos.vector(2, bytes.fromhex("001d0017")))
_SCHEMES = 0x0403, 0x0804, 0x0401
_SUITES = 0xC02B, 0xC02F, 0xC02C, 0xC030


def tls12_hello(
    *extensions: bytes,
    suites: Iterable[int] = _SUITES,
    schemes: Iterable[int] = _SCHEMES,
    legacy: int = 0x0303,
    methods: bytes = b"\0",
) -> bytes:
    """A ClientHello by hand without supported_versions, which is answered in the clear."""
    signatures = hellos.extension(13, hellos.vector(2, _numbers(schemes)))
    body = hellos.body(
        *extensions,
        _GROUPS,
        signatures,
        suites=hellos.vector(2, _numbers(suites)),
        methods=hellos.vector(1, methods),
        session_id=b"\0",
        legacy=legacy,
    )
    return hellos.record(hellos.message(body))


def _numbers(numbers: Iterable[int]) -> bytes:
    return b"".join(number.to_bytes(2) for number in numbers)


def say(port: int, data: bytes, *, most: int = 1 << 16) -> bytes:
    """Send bytes by hand, and read the answer: to the end, or until the server waits for us."""
    with connect(port) as sock:
        sock.sendall(data)
        found = b""
        sock.settimeout(0.5)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while len(found) < most and (more := sock.recv(65536)):
                found += more
                if _is_over(found):
                    break
        return found


def _is_over(data: bytes) -> bool:
    """Whether a server's first flight of TLS 1.2 is complete (ServerHelloDone), or an alert came."""
    return any(kind == 21 or (kind == 22 and content[-4:] == b"\x0e\0\0\0") for kind, content in records_of(data))


# L1: no name, unknown name.


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", [None, "unknown.example", "a.b.wild.example", "example", "vip.example"])
def test_l1_who_names_nobody_known_gets_the_default_and_none_of_a_sites_rules(
    scene: _Scene, name: str | None, version: str
) -> None:
    answer = scene.ask(name, **only(version))
    assert (answer.data, scene.shown(answer)) == (b"question", "default")
    record = scene.record()
    assert (record["outcome"], record["sni"], record["client_verify"]) == ("ok", name or "", "")


@once
@unharmed
@pytest.mark.parametrize("name", [None, "unknown.example", "a.b.wild.example", "192.0.2.1"])
def test_l1_with_refuse_they_get_unrecognized_name(scene: _Scene, name: str | None) -> None:
    assert "unrecognized name" in refusal(scene.strict, scene.client(), name)
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["tls"]) == ("tls_handshake", "unknown_name", "")


@once
@unharmed
def test_l1_with_refuse_those_who_are_known_are_served(scene: _Scene) -> None:
    answer = ask_tls(scene.strict, scene.client(), "a.wild.example")
    assert (answer.data, scene.shown(answer)) == (b"question", "wild")


# L3: forms of names.


@once
@unharmed
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a.wild.example", "wild"),
        (b"A.WiLd.ExAmPlE", "wild"),
        (b"a.wild.example.", "wild"),
        (b"WWW.EXAMPLE.", "default"),
        (b"xn--nxasmq6b.wild.example", "wild"),
        (b"wild.example", "default"),
        (b"a.b.wild.example", "default"),
        (b"*.wild.example", "default"),
        (b"*", "default"),
        (b".wild.example", "default"),
        (b"a.wild.example..", "default"),
        (b"127.0.0.1", "default"),
        (b"::1", "default"),
        (b"../../etc/x", "default"),
        (b"alpn.example/../modern.example", "default"),
    ],
    ids=repr,
)
def test_l3_a_name_in_any_form_finds_its_certificate_or_the_default(scene: _Scene, name: bytes, shown: str) -> None:
    answer = say(scene.port, tls12_hello(hellos.server_name(name)))
    found = [one for one, certificate in scene.certificates.items() if certificate.der in answer]
    assert found == [shown]


@once
@unharmed
@pytest.mark.parametrize(
    "name",
    [b"a" * 256, b"www.example\0.wild.example", b"\0", b"../../etc/x", b"127.0.0.1", b"*.wild.example", b"w\xc3\xbc.x"],
    ids=lambda name: repr(name[:24]),
)
def test_l3_with_refuse_what_is_no_name_of_ours_gets_unrecognized_name(scene: _Scene, name: bytes) -> None:
    assert alert_in(say(scene.strict, tls12_hello(hellos.server_name(name)))) == 112
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["sni"]) == ("tls_handshake", "unknown_name", "")


@once
@unharmed
@pytest.mark.parametrize("name", [b"a" * 256, b"www.example\0.wild.example", b"\0"], ids=lambda name: repr(name[:24]))
def test_l3_names_that_cannot_be_are_refused_by_everybody(scene: _Scene, name: bytes) -> None:
    """OpenSSL would not have them either; what counts is that no site answers to them."""
    assert alert_in(say(scene.port, tls12_hello(hellos.server_name(name)))) == 112
    assert scene.record()["outcome"] == "tls_handshake"


# L4: the name chooses a site that asks for a certificate.


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", CLIENTS_ASKED)
def test_l4_without_a_certificate_the_handshake_fails(scene: _Scene, name: str, version: str) -> None:
    alert = refusal(scene.port, scene.client(**only(version)), name)
    assert ("certificate required" if version == "1.3" else "handshake failure") in alert
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["sni"]) == ("tls_handshake", "no_certificate", name)
    assert record["pool"] == "", "no backend hears of it"


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", [*CLIENTS_ASKED, "optional.example"])
@pytest.mark.parametrize(
    ("who", "word"),
    [("stranger", "unknown_ca"), ("expired", "expired_certificate"), ("revoked", "revoked_certificate")],
)
def test_l4_a_wrong_certificate_is_refused(scene: _Scene, name: str, who: str, word: str, version: str) -> None:
    if who == "revoked" and name != "crl.example":
        name = "crl.example"  # only that site has been told
    alert = refusal(scene.port, scene.client(getattr(scene, who), **only(version)), name)
    assert ALERTS[word] in alert
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["client_subject"]) == ("tls_handshake", word, "")


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", [*CLIENTS_ASKED, "optional.example"])
def test_l4_the_right_certificate_is_told_to_record_and_backend(scene: _Scene, name: str, version: str) -> None:
    answer = scene.ask(name, scene.alice, **only(version))
    assert answer.data == b"question"
    record = scene.record()
    assert record["outcome"] == "ok"
    assert (record["client_verify"], record["client_cert"]) == ("ok", scene.alice.fingerprint)
    assert "alice" in record["client_subject"]
    assert record["tls"] == f"TLSv{version}"
    header = scene.script.headers[-1]
    assert header.authority == name
    assert header.tls is not None
    assert header.tls.verified
    assert (header.tls.flags, header.tls.verify_result) == (7, 0)
    assert (header.tls.common_name, header.tls.certificate) == ("alice", scene.alice.der)
    assert header.tls.version == f"TLSv{version}"
    assert header.tls.cipher == record["cipher"] != ""


@unharmed
def test_l4_optional_lets_in_who_shows_none_and_says_so(scene: _Scene) -> None:
    assert scene.ask("optional.example").data == b"question"
    record = scene.record()
    assert (record["client_verify"], record["client_cert"], record["client_subject"]) == ("none", "", "")
    header = scene.script.headers[-1]
    assert header.tls is not None
    assert (header.tls.flags, header.tls.verified, header.tls.certificate) == (1, False, None)


@unharmed
def test_l4_a_site_that_does_not_ask_learns_nothing_of_a_certificate(scene: _Scene) -> None:
    assert scene.ask("www.example", scene.alice).data == b"question"
    record = scene.record()
    assert (record["client_verify"], record["client_cert"]) == ("", "")


# L5: resumption.


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("target", [*CLIENTS_ASKED, "optional.example", "modern.example", "alpn.example"])
def test_l5_a_ticket_of_another_site_opens_no_door(scene: _Scene, target: str, version: str) -> None:
    """CVE-2025-23419: the ticket was given where nobody was asked for a certificate."""
    context = scene.client(**only(version))
    session = ask_tls(scene.port, context, "www.example").session
    assert session is not None
    assert ask_tls(scene.port, context, "www.example", session=session).resumed, "the ticket as such is good"
    scene.seen()
    if target in CLIENTS_ASKED or (target, version) == ("modern.example", "1.2"):
        assert refusal(scene.port, context, target, session=session) not in ("close_notify", "truncated")
        assert scene.record()["tls_error"] == ("no_certificate" if target in CLIENTS_ASKED else "protocol_version")
    else:
        answer = ask_tls(scene.port, context, target, session=session)
        assert (answer.data, answer.resumed, scene.record()["resumed"]) == (b"question", False, False)


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("target", ["crl.example", "optional.example", "www.example", "a.wild.example"])
def test_l5_a_ticket_of_a_site_with_certificates_is_worth_nothing_elsewhere(
    scene: _Scene, target: str, version: str
) -> None:
    context = scene.client(scene.alice, **only(version))
    session = ask_tls(scene.port, context, "staff.example").session
    scene.seen()
    answer = ask_tls(scene.port, context, target, session=session)
    assert (answer.data, answer.resumed) == (b"question", False)
    record = scene.record()
    assert (record["resumed"], record["client_verify"]) == (False, "ok" if target[0] in "co" else "")


@unharmed
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", [*CLIENTS_ASKED, "optional.example"])
def test_l5_a_resumed_session_keeps_the_facts_of_its_certificate(scene: _Scene, name: str, version: str) -> None:
    context = scene.client(scene.alice, **only(version))
    session = ask_tls(scene.port, context, name).session
    scene.seen()
    answer = ask_tls(scene.port, context, name, session=session)
    assert (answer.data, answer.resumed) == (b"question", True)
    record = scene.record()
    assert record["resumed"] is True
    assert (record["client_verify"], record["client_cert"]) == ("ok", scene.alice.fingerprint)
    header = scene.script.headers[-1]
    assert header.tls is not None
    assert (header.tls.flags, header.tls.verified, header.tls.common_name) == (5, True, "alice")


@unharmed
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_l5_with_openssl_a_ticket_opens_only_the_door_it_is_from(scene: _Scene, version: str, tmp_path: Path) -> None:
    ticket = str(tmp_path / "ticket.pem")

    def visit(name: str, *options: str) -> bytes:
        with OpenSsl(scene.port, scene.ca_file, "-servername", name, version, *options) as client:
            client.type(b"hello")
            client.hear(b"\nhello\n")
            return client.everything

    assert b"\nNew, " in visit("www.example", "-sess_out", ticket)
    assert b"\nReused, " in visit("www.example", "-sess_in", ticket)
    assert b"\nNew, " in visit("a.wild.example", "-sess_in", ticket)
    scene.seen()
    visit("staff.example", "-sess_in", ticket)
    assert scene.record()["tls_error"] == "no_certificate"


# L6: authorities for clients that cannot be read.


@pytest.mark.parametrize("fault", ["missing", "unreadable", "empty"])
def test_l6_without_authorities_for_clients_nothing_starts_and_a_reload_keeps_the_old(
    start: Start, backend: Serve, ports: Ports, tmp_path: Path, fault: str
) -> None:
    authority, staff = Authority(), Authority("Staff")
    certificate, _ = authority.issue("www.example").write(tmp_path)
    good, bad = tmp_path / "good.pem", tmp_path / "bad.pem"
    good.write_bytes(staff.pem)
    if fault == "empty":
        bad.write_bytes(b"")
    elif fault == "unreadable":
        # Not its mode, which root would not be stopped by.
        bad.mkdir()
    port, server = ports.reserve(), backend(peers.echo)

    def text(client_ca: Path) -> str:
        tls = f'[listener.tls]\ncert = "{certificate}"\nclient_ca = "{client_ca}"\n'
        return one_pool(port, server.address, listener=tls)

    configuration = tmp_path / "lbproxy.toml"
    configuration.write_text(text(bad))
    command = [*TWISTD, "-n", "--pidfile=", "lbproxy", "--config", str(configuration)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False)
    assert found.returncode == 2
    assert str(bad) in found.stderr + found.stdout
    assert "Traceback" not in found.stderr + found.stdout

    proxy = start(text(good))
    proxy.configure(text(bad))
    status, problems = proxy.reload()
    assert status != 200
    assert any(str(bad) in str(problem) for problem in problems)
    alice = staff.issue(subject="alice", client=True)
    assert ask_tls(port, trusting(authority, certificate=alice), "www.example").data == b"question"
    assert "certificate required" in refusal(port, trusting(authority), "www.example")


# L7: what is too old.


def _ssl2_hello() -> bytes:
    suites = bytes.fromhex("0100800200800300800400800500800600400700c0")
    body = struct.pack("!BHHHH", 1, 2, len(suites), 0, 16) + suites + bytes(16)
    return struct.pack("!H", 0x8000 | len(body)) + body


# Of TLS 1.0 with elliptic curves, with RSA, and 3DES.
_OLD_SUITES = 0xC009, 0xC013, 0xC00A, 0xC014, 0x002F, 0x0035, 0x000A
_TOO_OLD = {
    "SSLv3": (tls12_hello(suites=_OLD_SUITES, legacy=0x0300), "protocol_version", 70),
    "TLS 1.0": (tls12_hello(suites=_OLD_SUITES, legacy=0x0301), "protocol_version", 70),
    "TLS 1.1": (tls12_hello(suites=_OLD_SUITES, legacy=0x0302), "protocol_version", 70),
    "NULL": (tls12_hello(suites=[0x0001, 0x0002, 0x003B, 0xC006, 0xC010]), "no_shared_cipher", 40),
    "anonymous": (tls12_hello(suites=[0x0018, 0x0034, 0xC018, 0xC019, 0x00A6]), "no_shared_cipher", 40),
    "EXPORT": (tls12_hello(suites=[0x0003, 0x0006, 0x0008, 0x0014, 0x0062]), "no_shared_cipher", 40),
    "RC4": (tls12_hello(suites=[0x0004, 0x0005, 0xC007, 0xC011]), "no_shared_cipher", 40),
    "3DES": (tls12_hello(suites=[0x000A, 0xC008, 0xC012, 0x0016]), "no_shared_cipher", 40),
    "CBC": (tls12_hello(suites=[0xC009, 0xC013, 0xC023, 0xC027]), "no_shared_cipher", 40),
    "RSA key exchange": (tls12_hello(suites=[0x002F, 0x0035, 0x009C, 0x009D]), "no_shared_cipher", 40),
    "finite-field DH": (tls12_hello(suites=[0x0033, 0x0039, 0x009E, 0x009F]), "no_shared_cipher", 40),
    "SHA-1 signatures": (tls12_hello(schemes=[0x0201, 0x0203]), "no_shared_cipher", 40),
    "MD5 signatures": (tls12_hello(schemes=[0x0101, 0x0103]), "no_shared_cipher", 40),
}


@once
@unharmed
@pytest.mark.parametrize("what", _TOO_OLD)
def test_l7_what_is_too_old_fails_with_an_alert_and_a_record(scene: _Scene, what: str) -> None:
    data, word, alert = _TOO_OLD[what]
    assert alert_in(say(scene.port, data)) == alert
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["tls"]) == ("tls_handshake", word, "")


@once
@unharmed
def test_l7_a_hello_of_sslv2_is_closed_without_an_answer(scene: _Scene) -> None:
    assert say(scene.port, _ssl2_hello()) == b""
    record = scene.record()
    assert (record["outcome"], record["rule"]) == ("tls_handshake", "L7")


@once
@unharmed
@pytest.mark.parametrize(
    "options",
    [
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher", "ALL:@SECLEVEL=0"),
    ],
    ids=" ".join,
)
def test_l7_openssl_gets_nothing_old_either(scene: _Scene, options: tuple[str, ...]) -> None:
    with OpenSsl(scene.port, scene.ca_file, "-servername", "www.example", *options) as client:
        assert b"Cipher is (NONE)" in client.rest()
    assert scene.record()["outcome"] == "tls_handshake"


@once
@unharmed
def test_l7_compression_is_not_agreed_on(scene: _Scene) -> None:
    answer = say(scene.port, tls12_hello(methods=b"\x01\0"))
    kind, server_hello = next(records_of(answer))
    assert (kind, server_hello[0]) == (22, 2)
    # Behind type, length, version and random; then the session id and the cipher suite (RFC 5246, 7.4.1.3).
    behind = 38 + 1 + server_hello[38]
    assert server_hello[behind + 2] == 0, "null"


def test_l7_the_log_says_it_once_however_often_it_happens(
    start: Start, backend: Serve, ports: Ports, tmp_path: Path
) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    certificate, _ = Authority().issue("www.example").write(tmp_path)
    proxy = start(one_pool(port, server.address, listener=f'tls = {{ cert = "{certificate}" }}'))
    for _ in range(30):
        assert alert_in(say(port, tls12_hello(suites=_OLD_SUITES, legacy=0x0301))) == 70
    assert len(proxy.records(30)) == 30
    assert proxy.log.count("[protocol_version]") == 1


# L8: floods of records without data.


@unharmed
def test_l8_renegotiation_is_refused(scene: _Scene) -> None:
    with OpenSsl(scene.port, scene.ca_file, "-servername", "www.example", "-tls1_2") as client:
        client.type(b"hello")
        assert client.hear(b"\nhello\n")
        assert b"Secure Renegotiation IS supported" in client.everything
        client.type(b"R")
        assert b"no renegotiation" in client.rest()


@unharmed
@pytest.mark.parametrize("command", [b"k", b"K"])
def test_l8_a_flood_of_key_updates_is_closed_with_its_rule(scene: _Scene, command: bytes) -> None:
    """With K the client asks for an update of our key as well."""
    with OpenSsl(scene.port, scene.ca_file, "-servername", "www.example", "-tls1_3") as client:
        client.type(b"hello")
        assert client.hear(b"\nhello\n")
        updates = 0
        with contextlib.suppress(BrokenPipeError):
            # Only its end ends this: the test's own time is the bound.
            client.type(command)
            while client.hear(b"KEYUPDATE\n"):
                updates += 1
                client.type(command)
    # An answer of ours is a record without data as well.
    assert updates >= (32 if command == b"k" else 16)
    record = scene.record()
    assert (record["outcome"], record["rule"], record["tls_error"]) == ("tls_error", "L8", "control_flood")


@unharmed
@pytest.mark.parametrize("command", [b"k", b"K"])
def test_l8_key_updates_between_data_are_served(scene: _Scene, command: bytes) -> None:
    with OpenSsl(scene.port, scene.ca_file, "-servername", "www.example", "-tls1_3") as client:
        for number in range(100):
            client.type(b"line %d" % number)
            assert client.hear(b"line %d\n" % number)
            client.type(command)
            assert client.hear(b"KEYUPDATE\n")
    assert scene.record()["bytes_in"] == 790


@unharmed
@pytest.mark.parametrize("content", ["empty", "warnings"])
def test_l8_a_flood_before_the_handshake_is_done_is_closed(scene: _Scene, content: str) -> None:
    """Records that say nothing, in place of a client's second flight."""
    nothing = hellos.record(b"", kind=22, version=0x0303) if content == "empty" else b"\x15\x03\x03\0\x02\x01\x5a"
    with connect(scene.port) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(tls12_hello(hellos.server_name(b"www.example")))
        sock.recv(1)
        for _ in range(100):
            sock.sendall(nothing * 10)
        read_all(sock)
    record = scene.record()
    assert record["outcome"] == "tls_handshake"
    assert record["t_total_ms"] < 5000, "it was not left to the timer"


@once
@unharmed
@pytest.mark.parametrize("what", ["empty record", "alert", "data", "change cipher spec"])
def test_l8_records_in_front_of_the_hello_are_refused_at_once(scene: _Scene, what: str) -> None:
    kind = {"empty record": 22, "alert": 21, "data": 23, "change cipher spec": 20}[what]
    with connect(scene.port) as sock:
        sock.sendall(hellos.record(b"" if kind == 22 else b"\x01\x5a", kind=kind) * 50)
        assert peers.closed_quietly(sock)
    record = scene.record()
    assert (record["outcome"], record["rule"]) == ("tls_handshake", "L9" if kind == 22 else "L10")


# L9: the ClientHello in pieces, and too large.


def _served_with(scene: _Scene, cut: Callable[[bytes], list[bytes]]) -> str:
    """Send a ClientHello for a.wild.example in segments; which certificate the client gets for it."""
    with TlsClient(scene.port, scene.client(), "a.wild.example") as client:
        for piece in cut(client.client_hello()):
            client.send_plain(piece)
        client.shake()
        assert client.ask(b"here") == b"here"
        return scene.shown(Answer(served=client.served))


@unharmed
def test_l9_a_hello_byte_by_byte_is_understood(scene: _Scene) -> None:
    assert _served_with(scene, lambda hello: [bytes([byte]) for byte in hello]) == "wild"


@unharmed
@pytest.mark.parametrize("size", [1, 7, 100])
def test_l9_a_hello_in_several_records_is_understood(scene: _Scene, size: int) -> None:
    assert _served_with(scene, lambda hello: [hellos.in_records(hello[5:], size)]) == "wild"


@once
@unharmed
def test_l9_a_hello_over_16_kib_is_refused_before_it_is_kept(scene: _Scene) -> None:
    long = hellos.message(hellos.body(hellos.extension(21, bytes(20_000))))
    with connect(scene.port) as sock:
        sock.sendall(hellos.in_records(long, 16_384))
        assert peers.closed_quietly(sock)
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["rule"]) == ("tls_handshake", "client_hello", "L9")


@once
@unharmed
def test_l9_grease_and_a_large_key_share_are_stepped_over(scene: _Scene) -> None:
    grease = hellos.extension(0x0A0A, b""), hellos.extension(0xFAFA, b"\0")
    share = hellos.extension(51, hellos.vector(2, b"\x11\xec" + hellos.vector(2, bytes(1184 + 32))))
    unknown = hellos.extension(hellos.ENCRYPTED_HELLO, bytes(1000))
    answer = say(scene.port, tls12_hello(grease[0], hellos.server_name(b"a.wild.example"), share, unknown, grease[1]))
    assert scene.certificates["wild"].der in answer


@once
@unharmed
def test_l9_a_hello_that_stops_short_has_its_time_and_no_more(
    start: Start, backend: Serve, ports: Ports, scene: _Scene
) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    certificate = scene.directory / "default.crt"
    more = "[timeouts]\ntls_handshake = '1s'\n"
    proxy = start(one_pool(port, server.address, listener=f'tls = {{ cert = "{certificate}" }}', more=more))
    with connect(port) as sock:
        sock.sendall(hello_of(scene.client(), "www.example")[:-1])
        assert peers.closed_quietly(sock)
    record = proxy.record()
    assert (record["outcome"], record["timer"]) == ("tls_handshake_timeout", "tls_handshake")
    assert 900 <= record["t_total_ms"] < 4000


# L10: something else than TLS.


@once
@unharmed
@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"OPTIONS * HTTP/1.1"])
def test_l10_http_is_told_that_this_port_speaks_tls(scene: _Scene, request_line: bytes) -> None:
    with connect(scene.port) as sock:
        sock.sendall(request_line + b"\r\nHost: www.example\r\n\r\n")
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["rule"]) == ("tls_handshake", "not_tls", "L10")


@once
@unharmed
@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH_9.2\r\n", bytes(range(256)), b"\xff" * 4096, b"\x16\x02\x01", b"\x80\x80\x02", b"\r\n" * 9],
    ids=lambda data: repr(data[:8]),
)
def test_l10_anything_else_is_closed_without_a_word(scene: _Scene, data: bytes) -> None:
    with connect(scene.port) as sock:
        sock.sendall(data)
        assert peers.closed_quietly(sock)
    record = scene.record()
    assert (record["outcome"], record["tls_error"], record["rule"]) == ("tls_handshake", "not_tls", "L10")


def test_l10_a_flood_of_garbage_is_one_line_in_the_log(
    start: Start, backend: Serve, ports: Ports, tmp_path: Path
) -> None:
    port, server = ports.reserve(), backend(peers.echo)
    certificate, _ = Authority().issue("www.example").write(tmp_path)
    proxy = start(one_pool(port, server.address, listener=f'tls = {{ cert = "{certificate}" }}'))
    for number in range(60):
        with connect(port) as sock:
            sock.sendall(b"rubbish %d\n" % number)
            assert peers.closed_quietly(sock)
    assert len(proxy.records(60)) == 60
    assert proxy.log.count("[not_tls]") == 1
    assert "rubbish" not in proxy.log


def test_l10_tls_on_a_plain_port_is_relayed_as_it_is(start: Start, backend: Serve, ports: Ports) -> None:
    port, sink = ports.reserve(), peers.Sink()
    server = backend(sink)
    proxy = start(one_pool(port, server.address))
    with connect(port) as sock:
        sock.sendall(hello_of(trusting(Authority()), "www.example") + bytes(range(256)))
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    assert proxy.record()["bytes_in"] == sink.count > 300
    assert proxy.record()["tls_error"] == ""


# L17: application protocols.


@unharmed
@pytest.mark.parametrize(
    ("offered", "agreed"),
    [((), None), (("http/1.1",), "http/1.1"), (("http/1.1", "h2"), "h2"), (("x", "http/1.1"), "http/1.1")],
)
def test_l17_the_protocol_is_the_one_both_know_in_our_order(
    scene: _Scene, offered: tuple[str, ...], agreed: str | None
) -> None:
    answer = scene.ask("alpn.example", alpn=offered)
    assert (answer.data, answer.alpn) == (b"question", agreed)
    assert scene.record()["alpn"] == (agreed or "")
    header = scene.script.headers[-1]
    assert header.alpn == (None if agreed is None else agreed.encode())


@once
@unharmed
@pytest.mark.parametrize("offered", [("spdy/3",), ("ftp", "imap")])
def test_l17_only_unknown_protocols_get_no_application_protocol(scene: _Scene, offered: tuple[str, ...]) -> None:
    assert "no application protocol" in refusal(scene.port, scene.client(alpn=offered), "alpn.example")
    record = scene.record()
    assert (record["outcome"], record["tls_error"]) == ("tls_handshake", "no_application_protocol")


@once
@unharmed
def test_l17_a_site_without_protocols_agrees_on_none(scene: _Scene) -> None:
    answer = scene.ask("www.example", alpn=("h2", "http/1.1"))
    assert (answer.data, answer.alpn) == (b"question", None)
    assert scene.record()["alpn"] == ""


# L18: a flood of handshakes.


@pytest.mark.parametrize("way", WAYS)
def test_l18_a_flood_of_hellos_hurts_neither_new_clients_nor_old_ones(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, tmp_path: Path, way: str
) -> None:
    """150 clients stop after their ClientHello, for whom there are 20 places."""
    port, server, authority = ports.reserve(), backend(peers.echo), Authority()
    certificate, _ = authority.issue("www.example").write(tmp_path)
    context = trusting(authority)
    proxy = start(
        one_pool(
            port,
            server.address,
            listener=f'tls = {{ cert = "{certificate}" }}\nmax_connections_per_client = 1000',
            more="[limits]\nhandshakes = 20\n",
        ),
        environment=environment(way),
    )
    established = stack.enter_context(TlsClient(port, context, "www.example")).shake()
    assert established.ask(b"before") == b"before"
    for _ in range(150):
        client = stack.enter_context(TlsClient(port, context, "www.example"))
        client.send_plain(client.client_hello())
    until(lambda: proxy.status()["sessions"] >= 140, "nearly all have been accepted, and few have been cut")
    assert established.ask(b"meanwhile") == b"meanwhile"
    began = time.monotonic()
    assert ask_tls(port, context, "www.example").data == b"question"
    # 150 wait in front, of whom 20 give way each second (the patience of a place is 1 s).
    assert time.monotonic() - began < 5
    assert established.ask(b"after") == b"after"


# L19: keys.


@unharmed
def test_l19_keys_are_nowhere_to_be_read(scene: _Scene) -> None:
    """Records, log, every answer of the control socket, and what the command prints."""
    scene.ask("staff.example", scene.alice)
    refusal(scene.port, scene.client(), "staff.example")
    socket_path = scene.proxy.directory / "control.sock"
    told = [scene.proxy.log, scene.proxy.record_file.read_text()]
    for path in ("/v1/status", "/v1/sessions", "/v1/certificates", "/v1/config", "/metrics", "/", "/readyz"):
        with contextlib.suppress(ValueError):
            told.append(str(scene.proxy.ask("GET", path)))
    for arguments in (
        ["status", "--json", "--socket", str(socket_path)],
        ["status", "--socket", str(socket_path)],
        ["certificates", "--socket", str(socket_path)],
        ["check", str(scene.proxy.file)],
        ["check", "--format", "json", str(scene.proxy.file)],
    ):
        command = [sys.executable, "-m", "lbproxy.cli", *arguments]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert found.returncode == 0, found.stderr
        told.append(found.stdout + found.stderr)
    everything = "\n".join(told)
    assert "staff.example" in everything
    assert "PRIVATE KEY" not in everything
    # As it would stand in text, in a JSON string, or in a log line.
    squeezed = re.sub(r"\\n|\s", "", everything)
    for certificate in scene.certificates.values():
        lines = certificate.key_pem.decode().splitlines()[1:-1]
        assert "".join(lines)[40:100] not in squeezed
        # PKCS #8 of a key on P-256: the secret number stands at 36.
        secret = base64.b64decode("".join(lines))[36:68]
        assert secret.hex() not in everything.lower()
        assert secret.hex(":") not in everything.lower()
