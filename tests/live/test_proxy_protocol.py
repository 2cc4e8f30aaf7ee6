"""The PROXY protocol on both sides of lbproxy, with a real HAProxy as a peer where there is one."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.live import peers
from tests.live.harness import Lbproxy, Ports, one_pool, until
from tests.live.peers import Backend, connect, read_all, read_exactly

Start = Callable[..., Lbproxy]
Serve = Callable[..., Backend]
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"
V2 = SIGNATURE + bytes.fromhex("2111000cc0000201c6336402c82201bb")
V2_TLVS = SIGNATURE + bytes.fromhex("2111001fc0000201c6336402c82201bb 020009612e6578616d706c65 0300048effb9e1")
V2_LOCAL = SIGNATURE + bytes.fromhex("20000000")
HAPROXY = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/usr/local/bin")


@pytest.fixture(scope="module")
def scene() -> Iterator[SimpleNamespace]:
    """One lbproxy that takes PROXY headers from 127.0.0.1 at `port`, and from nobody here at `elsewhere`."""
    with ExitStack() as stack:
        ports = Ports()
        stack.callback(ports.release)
        server = Backend(peers.echo)
        stack.callback(server.stop)
        port, elsewhere = ports.reserve(), ports.reserve()
        listener = 'deny = "203.0.113.0/24"\nproxy_protocol = { from = "127.0.0.0/8" }'
        text = one_pool(port, server.address, listener=listener, more="[timeouts]\nproxy_header = '3s'\n")
        text += f"""
[[listener]]
name = "elsewhere"
bind = "127.0.0.1:{elsewhere}"
pool = "out"
proxy_protocol = {{ from = "192.0.2.7" }}
"""
        proxy = Lbproxy(text)
        stack.callback(proxy.end)
        yield SimpleNamespace(proxy=proxy, port=port, elsewhere=elsewhere, server=server)


def _last_record(scene: SimpleNamespace, before: int) -> dict[str, object]:
    record: dict[str, object] = scene.proxy.records(before + 1)[before]
    return record


def _count(scene: SimpleNamespace) -> int:
    scene.proxy.wait_until_idle()
    status = scene.proxy.status()
    count = sum(sum(pool.values()) for pool in status["counters"]["sessions_ended"].values())
    if count:
        scene.proxy.records(count)
    return int(count)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V1, "192.0.2.1:51234"),
        (V2, "192.0.2.1:51234"),
        (V2_TLVS, "192.0.2.1:51234"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 5 443\r\n", "[2001:db8::1]:5"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN 2001:db8::1 2001:db8::2 5 443\r\n", None),
        (V2_LOCAL, None),
    ],
    ids=["v1", "v2", "v2-tlvs", "v1-tcp6", "v1-unknown", "v1-unknown-addresses", "v2-local"],
)
@pytest.mark.parametrize("how", ["alone", "with payload", "bytewise"])
def test_a_header_is_taken_and_the_payload_passed_on(
    scene: SimpleNamespace, header: bytes, client: str | None, how: str
) -> None:
    """P3, P4, P5; with None as the client the socket's address counts."""
    before = _count(scene)
    payload = b"payload of this session"
    with connect(scene.port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = "{}:{}".format(*sock.getsockname())
        if how == "alone":
            sock.sendall(header)
            sock.sendall(payload)
        elif how == "with payload":
            sock.sendall(header + payload)
        else:
            for byte in header + payload:
                sock.send(bytes([byte]))
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == payload
    record = _last_record(scene, before)
    assert (record["outcome"], record["client"], record["peer"]) == ("ok", client or own, own)
    assert record["sni"] == ("a.example" if header is V2_TLVS else "")


@pytest.mark.parametrize("second", [V1, V2])
@pytest.mark.parametrize("first", [V1, V2])
def test_a_second_header_is_payload(scene: SimpleNamespace, first: bytes, second: bytes) -> None:
    """P5."""
    assert peers.ask(scene.port, first + second + b"x") == second + b"x"


@pytest.mark.parametrize(
    ("bytes_", "rule"),
    [
        (b"GET / HTTP/1.1\r\n", "P2"),
        (b"\x16\x03\x01\x02\x00\x01", "P2"),
        (b"\x00", "P2"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 051234 443\r\n", "P3"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "P3"),
        (b"PROXY TCP4 2001:db8::1 198.51.100.2 5 443\r\n", "P3"),
        (b"PROXY UDP4 192.0.2.1 198.51.100.2 5 443\r\n", "P3"),
        (b"PROXY UNKNOWN " + b"x" * 100, "P3"),
        (V2_TLVS[:-1] + b"\x00", "P4"),
        (SIGNATURE + bytes.fromhex("21110004c0000201"), "P4"),
        (SIGNATURE + bytes.fromhex("2111ffff"), "P4"),
        (SIGNATURE + bytes.fromhex("22110000"), "P4"),
    ],
)
def test_what_is_no_header_is_closed_at_once(scene: SimpleNamespace, bytes_: bytes, rule: str) -> None:
    before, connections = _count(scene), scene.server.connections
    with connect(scene.port) as sock:
        began = time.monotonic()
        sock.sendall(bytes_)
        assert peers.closed_quietly(sock)
        assert time.monotonic() - began < 1
    record = _last_record(scene, before)
    assert (record["outcome"], record["state"], record["flag"], record["rule"]) == ("proxy_header", "PR--", "DPE", rule)
    assert scene.server.connections == connections, "nothing reached a backend"


def test_a_header_that_does_not_come_is_waited_for_in_bounds(scene: SimpleNamespace) -> None:
    """P2, and the trickling client: the time is a total from accept."""
    before = _count(scene)
    with connect(scene.port) as silent, connect(scene.port) as trickling:
        began = time.monotonic()
        trickling.sendall(V1[:10])
        time.sleep(2)
        trickling.sendall(V1[10:20])
        assert peers.closed_quietly(silent)
        assert peers.closed_quietly(trickling)
        assert 2.9 <= time.monotonic() - began < 3.0 + 0.8
    for record in scene.proxy.records(before + 2)[before:]:
        assert record["outcome"] == "proxy_header_timeout"
        assert (record["timer"], record["rule"]) == ("proxy_header", "P2")


def test_a_client_that_leaves_within_the_header(scene: SimpleNamespace) -> None:
    before = _count(scene)
    with connect(scene.port) as sock:
        sock.sendall(V1[:10])
        sock.shutdown(socket.SHUT_WR)
        assert peers.closed_quietly(sock)
    record = _last_record(scene, before)
    assert (record["outcome"], record["state"]) == ("client_gone", "CR--")


def test_a_peer_that_is_not_listed_is_closed_at_once(scene: SimpleNamespace) -> None:
    """P1: whatever it sends."""
    connections = scene.server.connections
    for _ in range(3):
        with connect(scene.elsewhere) as sock:
            assert peers.closed_quietly(sock)
    until(lambda: scene.proxy.listener("elsewhere")["refused"] == {"proxy_peer": 3}, "they are counted")
    assert scene.server.connections == connections


def test_access_rules_see_the_address_in_the_header(scene: SimpleNamespace) -> None:
    """P6."""
    before = _count(scene)
    with connect(scene.port) as sock:
        sock.sendall(b"PROXY TCP4 203.0.113.9 198.51.100.2 5 443\r\nhello")
        assert peers.closed_quietly(sock)
    record = _last_record(scene, before)
    assert (record["outcome"], record["client"]) == ("denied", "203.0.113.9:5")


# Towards backends.


def _split_v1(conn: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += read_exactly(conn, 1)
    return line


def _split_v2(conn: socket.socket) -> tuple[bytes, dict[int, bytes]]:
    """The address part and the TLVs of a version 2 header."""
    fixed = read_exactly(conn, 16)
    assert fixed[:12] == SIGNATURE
    body = read_exactly(conn, struct.unpack("!H", fixed[14:])[0])
    size = {0x21: 36, 0x11: 12, 0x00: 0}[fixed[13]]
    tlvs, rest = {}, body[size:]
    while rest:
        kind, length = struct.unpack("!BH", rest[:3])
        tlvs[kind] = rest[3 : 3 + length]
        rest = rest[3 + length :]
    return fixed[12:14] + body[:size], tlvs


def test_version_1_opens_each_connection_once(start: Start, backend: Serve, ports: Ports) -> None:
    """P7."""
    port, lines = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        lines.append(_split_v1(conn))
        peers.echo(conn)

    start(one_pool(port, backend(note).address, pool='send_proxy = "v1"'))
    for _ in range(3):
        with connect(port) as sock:
            own = sock.getsockname()[1]
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"hello"
        assert lines[-1] == f"PROXY TCP4 127.0.0.1 127.0.0.1 {own} {port}\r\n".encode()


def test_the_header_goes_out_before_a_client_says_anything(start: Start, backend: Serve, ports: Ports) -> None:
    port = ports.reserve()

    def greet(conn: socket.socket) -> None:
        line = _split_v1(conn)
        conn.sendall(b"hello " + line)

    start(one_pool(port, backend(greet).address, pool='send_proxy = "v1"'))
    assert peers.fetch(port).startswith(b"hello PROXY TCP4 127.0.0.1 127.0.0.1 ")


def test_version_2_carries_what_was_asked_for(start: Start, backend: Serve, ports: Ports) -> None:
    """P7, and the client's own header in front: its address and server name are passed on, its header is not."""
    port, found = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        found.append(_split_v2(conn))
        peers.echo(conn)

    pool = 'send_proxy = { version = 2, tlvs = ["authority", "unique_id", "crc32c"] }'
    listener = 'proxy_protocol = { from = "127.0.0.1" }'
    proxy = start(one_pool(port, backend(note).address, pool=pool, listener=listener))
    assert peers.ask(port, V2_TLVS + b"hello") == b"hello"
    address, tlvs = found[0]
    assert address == bytes.fromhex("2111c0000201c6336402c82201bb")
    assert tlvs[0x02] == b"a.example"
    assert tlvs[0x05].decode() == proxy.record()["id"]
    assert len(tlvs[0x03]) == 4


def test_version_2_is_read_by_an_independent_library(start: Start, backend: Serve, ports: Ports) -> None:
    library = pytest.importorskip("proxyprotocol.v2")
    port, found = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        data = conn.recv(4096)
        found.append(data)
        conn.sendall(b"seen")

    pool = 'send_proxy = { version = 2, tlvs = ["unique_id", "crc32c"] }'
    start(one_pool(port, backend(note).address, pool=pool))
    with connect(port) as sock:
        own = sock.getsockname()
        assert read_all(sock) == b"seen"
    result = library.ProxyProtocolV2().unpack(found[0])
    assert (str(result.source[0]), result.source[1]) == own
    assert result.tlv.crc32c is not None


def test_a_failover_sends_one_header_to_each_backend(start: Start, backend: Serve, ports: Ports) -> None:
    port, found = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        found.append(read_exactly(conn, 5))
        rest = _split_v1(conn)
        conn.sendall(rest)

    dead = ports.reserve()
    pool = 'send_proxy = "v1"\npolicy = "first"'
    start(one_pool(port, f"127.0.0.1:{dead}", backend(note).address, pool=pool))
    assert peers.fetch(port).endswith(f" {port}\r\n".encode())
    assert found == [b"PROXY"]


def test_checks_say_local(start: Start, backend: Serve, ports: Ports) -> None:
    """So that a backend does not take a check for a client."""
    port, found = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        found.append(read_exactly(conn, 16))

    start(one_pool(port, backend(note).address, pool='send_proxy = "v2"\ncheck = { interval = "50ms" }'))
    until(lambda: len(found) > 2, "checks come")
    assert set(found) == {V2_LOCAL}


def test_unix_clients_are_sent_as_local_or_unknown(start: Start, backend: Serve, ports: Ports) -> None:
    port, found = ports.reserve(), []

    def note(conn: socket.socket) -> None:
        found.append(_split_v1(conn))
        peers.echo(conn)

    text = one_pool(port, backend(note).address, pool='send_proxy = "v1"')
    proxy = start(text)
    path = proxy.directory / "front.sock"
    proxy.change(text.replace(f"127.0.0.1:{port}", f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(peers.PATIENCE)
        sock.connect(str(path))
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"hello"
    assert found == [b"PROXY UNKNOWN\r\n"]


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_takes_our_header_and_we_take_haproxys(
    start: Start, backend: Serve, ports: Ports, stack: ExitStack, tmp_path: Path, version: str
) -> None:
    """client -> haproxy sends PROXY -> lbproxy takes it, sends its own -> haproxy takes it -> backend hears it."""
    assert HAPROXY is not None
    front, middle, back = ports.reserve(), ports.reserve(), ports.reserve()
    found = []

    def note(conn: socket.socket) -> None:
        found.append(_split_v1(conn))
        peers.echo(conn)

    server = backend(note)
    config = tmp_path / "haproxy.cfg"
    send = "send-proxy" if version == "v1" else "send-proxy-v2"
    config.write_text(f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen front
  bind 127.0.0.1:{front}
  server lbproxy 127.0.0.1:{middle} {send}
listen back
  bind 127.0.0.1:{back} accept-proxy
  server end {server.address} send-proxy
""")
    proxy = start(
        one_pool(
            middle,
            f"127.0.0.1:{back}",
            listener='proxy_protocol = { from = "127.0.0.1" }',
            pool=f'send_proxy = "{version}"',
        )
    )
    haproxy = subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stack.callback(lambda: haproxy.communicate(timeout=10))
    stack.callback(haproxy.terminate)

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", front)) == 0

    until(listening, "haproxy listens")
    with connect(front) as sock:
        own = sock.getsockname()[1]
        sock.sendall(b"through three proxies")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"through three proxies"
    assert f"PROXY TCP4 127.0.0.1 127.0.0.1 {own} {front}\r\n".encode() in found
    assert any(record["client"] == f"127.0.0.1:{own}" for record in proxy.records(1))
