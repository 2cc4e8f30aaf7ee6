"""What scanners say of the default profile: no finding that asks for a change. Each of them runs once."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.certificates.making import Authority, Kind
from tests.live.harness import Lbproxy, Ports, one_pool
from tests.live.peers import Backend

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
# Names as they are sent; nobody resolves them.
NAME = "scan.example"
HEADERS = (
    "Content-Type: text/plain",
    "Strict-Transport-Security: max-age=31536000; includeSubDomains",
    "Content-Security-Policy: default-src 'none'",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Referrer-Policy: no-referrer",
)
# Findings above LOW that say something about the scan, not about us, and what.
ALLOWED = {
    "sessionresumption_ticket": "testssl 3.0 reports a failed check where the only tickets are those of TLS 1.3",
    "RC4": "the local openssl has no RC4 to ask with; that it is refused is in the test of row L7",
}
GRADES = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")

needs_testssl = pytest.mark.skipif(shutil.which("testssl") is None, reason="testssl (package testssl.sh) is not here")
needs_sslscan = pytest.mark.skipif(shutil.which("sslscan") is None, reason="sslscan is not here")


def _http(conn: socket.socket) -> None:
    body = b"hello\n"
    with conn.makefile("rb") as lines:
        while lines.readline().strip():
            while lines.readline().strip():
                pass
            date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime())
            head = "\r\n".join(("HTTP/1.1 200 OK", date, *HEADERS, f"Content-Length: {len(body)}", "", ""))
            conn.sendall(head.encode() + body)


@pytest.fixture
def target(
    request: pytest.FixtureRequest, start: Start, backend: Serve, ports: Ports, tmp_path: Path
) -> tuple[int, Path]:
    """The port of an lbproxy with the default profile and keys of `request.param`, and the file of its authority."""
    kinds: tuple[Kind, ...] = request.param
    authority, port = Authority("Scan CA", kind="RSA"), ports.reserve()
    where = x509.UniformResourceIdentifier("http://crl.example/ca.crl")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([where], None, None, None)])
    files = [
        authority.issue(NAME, "localhost", kind=kind, extensions=(points,)).write(tmp_path, kind)[0] for kind in kinds
    ]
    server = backend(_http)
    tls = f'tls = {{ certificates = {json.dumps(files)}, alpn = ["http/1.1"] }}'
    start(one_pool(port, server.address, listener=tls))
    return port, Path(authority.write(tmp_path))


@needs_testssl
@pytest.mark.timeout(240)
@pytest.mark.parametrize("target", [("RSA", "ECDSA")], indirect=True, ids=["both kinds of keys"])
def test_testssl_finds_nothing_that_needs_a_change(target: tuple[int, Path], tmp_path: Path) -> None:
    port, ca = target
    report = tmp_path / "report.json"
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--fast", "--nodns", "none"]
    command += ["--ip", "127.0.0.1", "--add-ca", str(ca), "--jsonfile", str(report)]
    command += ["-p", "-s", "-f", "-P", "-S", "-U", "-h", f"{NAME}:{port}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=220, cwd=tmp_path, check=False)
    # With two certificates the ids of what belongs to one end in its number.
    findings: dict[str, dict[str, Any]] = {one["id"]: one for one in json.loads(report.read_text())}
    bad = {
        id: f"{one['severity']}: {one['finding']}"
        for id, one in findings.items()
        if one["severity"] in GRADES[1:] and id not in ALLOWED
    }
    assert not bad
    said = {id: one["finding"] for id, one in findings.items()}
    for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        assert said[version] == "not offered"
    assert said["TLS1_2"] == "offered"
    assert said["TLS1_3"] == "offered with final"
    assert said["PFS"] == "offered"
    for ciphers in ("NULL", "aNULL", "EXPORT", "LOW", "3DES_IDEA", "AVERAGE"):
        assert said[f"cipherlist_{ciphers}"] == "not offered"
    assert said["cipherlist_STRONG"] == "offered"
    assert said["cipher_order"] == "server"
    assert said["cert_numbers"] == "2"
    assert [said[f"cert_chain_of_trust <cert#{number}>"] for number in (1, 2)] == ["passed."] * 2
    assert said["secure_renego"] == "supported"
    for attack in ("heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_client_renego", "CRIME_TLS", "BREACH"):
        assert said[attack].startswith("not vulnerable"), attack
    for attack in ("POODLE_SSL", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13"):
        assert said[attack].startswith("not vulnerable"), attack
    assert "365 days" in said["HSTS_time"]
    assert said["ALPN"] == "http/1.1"


@needs_sslscan
@pytest.mark.parametrize(("target", "kind"), [(("RSA",), "RSA"), (("ECDSA",), "ECDSA")], indirect=["target"])
def test_sslscan_sees_two_versions_and_the_ciphers_of_the_profile(target: tuple[int, Path], kind: Kind) -> None:
    port, _ = target
    command = ["sslscan", "--no-colour", f"--sni-name={NAME}", f"127.0.0.1:{port}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout
    versions = dict(re.findall(r"^((?:SSL|TLS)v\S+) +(enabled|disabled)$", found, re.MULTILINE))
    assert {name for name, state in versions.items() if state == "enabled"} == {"TLSv1.2", "TLSv1.3"}
    assert {"SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"} <= versions.keys()
    ciphers = re.findall(r"^(Preferred|Accepted) +TLSv(1\.[23]) +\d+ bits +(\S+)", found, re.MULTILINE)
    assert [cipher for _, version, cipher in ciphers if version == "1.3"] == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]
    assert [cipher for _, version, cipher in ciphers if version == "1.2"] == [
        f"ECDHE-{kind}-AES128-GCM-SHA256",
        f"ECDHE-{kind}-AES256-GCM-SHA384",
        f"ECDHE-{kind}-CHACHA20-POLY1305",
    ]
    assert [state for state, *_ in ciphers].count("Preferred") == 2, "the server has its order"
    assert "Session renegotiation not supported" in found
    assert "Server supports TLS Fallback SCSV" in found
    assert len(re.findall(r"not vulnerable to heartbleed", found)) == 2
