"""Our reader and writer beside the package `proxy-protocol`, an independent reading of the same document.

Where the two agree is a property; where they differ is a table, with our reason, that fails when it is no longer so.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from socket import SOCK_STREAM
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxyprotocol.detect import ProxyProtocolDetect
from proxyprotocol.result import ProxyResult, ProxyResultIPv4, ProxyResultIPv6
from proxyprotocol.tlv import ProxyProtocolSSLTLV, ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from lbproxy.preamble import HeaderReader, PreambleError, ProxyHeader, ProxyTls, encode_v1, encode_v2, local_header

Endpoint = tuple[str, int]
Seen = tuple[Endpoint, Endpoint] | Literal["socket", "refused", "waits"]


def ours(data: bytes) -> Seen:
    try:
        header = HeaderReader().feed(data)
    except PreambleError:
        return "refused"
    if header is None:
        return "waits"
    if header.source is None or header.destination is None:
        return "socket"
    return header.source, header.destination


def theirs(data: bytes) -> Seen:
    try:
        result = ProxyProtocolDetect().unpack(data)
    # Bad numbers and lengths come out of it as ValueError or struct.error.
    except Exception:
        return "refused"
    source, destination = result.peername, result.sockname
    if source is None or destination is None:
        return "socket"
    assert not isinstance(source, str)
    assert not isinstance(destination, str)
    return (unwrapped(source[0]), source[1]), (unwrapped(destination[0]), destination[1])


def unwrapped(text: str) -> str:
    return str(IPv6Address(text).ipv4_mapped or text) if ":" in text else text


port = st.integers(0, 65535)
four = st.tuples(st.ip_addresses(v=4), port)
six = st.tuples(st.ip_addresses(v=6), port)
quick = settings(deadline=None, max_examples=60)


@quick
@given(
    st.one_of(st.tuples(four, four), st.tuples(six, six)),
    st.sampled_from([ProxyProtocolV1(), ProxyProtocolV2()]),
)
def test_we_read_what_it_writes(
    pair: tuple[tuple[IPv4Address | IPv6Address, int], tuple[IPv4Address | IPv6Address, int]],
    protocol: ProxyProtocolV1 | ProxyProtocolV2,
) -> None:
    result: ProxyResult
    (source, source_port), (destination, destination_port) = pair
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        result = ProxyResultIPv4((source, source_port), (destination, destination_port), protocol=SOCK_STREAM)
    else:
        assert isinstance(source, IPv6Address)
        assert isinstance(destination, IPv6Address)
        result = ProxyResultIPv6((source, source_port), (destination, destination_port), protocol=SOCK_STREAM)
    data = protocol.pack(result)
    expected = (unwrapped(str(source)), source_port), (unwrapped(str(destination)), destination_port)
    assert ours(data) == theirs(data) == expected


@quick
@given(st.one_of(four, six), st.one_of(four, six), st.booleans())
def test_it_reads_what_we_write(
    source: tuple[IPv4Address | IPv6Address, int], destination: tuple[IPv4Address | IPv6Address, int], crc: bool
) -> None:
    client, server = (str(source[0]), source[1]), (str(destination[0]), destination[1])
    expected = (unwrapped(client[0]), client[1]), (unwrapped(server[0]), server[1])
    assert theirs(encode_v2(client, server, authority="a.example", crc32c=crc)) == expected
    line = encode_v1(client, server)
    assert theirs(line) == ("socket" if line == b"PROXY UNKNOWN\r\n" else expected)


def test_both_see_the_same_tlvs() -> None:
    tls = ProxyProtocolSSLTLV(
        has_ssl=True,
        has_cert_conn=True,
        verified=True,
        version="TLSv1.3",
        cn="Zoë",
        cipher="X",
        sig_alg="S",
        key_alg="K",
    )
    tlv = ProxyProtocolTLV(
        alpn=b"h2", authority="a.example", unique_id=b"id", netns="blue", ssl=tls, init={0xE3: b"own"}
    )
    addresses = (IPv4Address("192.0.2.1"), 1), (IPv4Address("192.0.2.2"), 2)
    header = HeaderReader().feed(ProxyProtocolV2().pack(ProxyResultIPv4(*addresses, protocol=SOCK_STREAM, tlv=tlv)))
    assert isinstance(header, ProxyHeader)
    assert (header.alpn, header.authority, header.unique_id, header.namespace) == (b"h2", "a.example", b"id", "blue")
    assert header.custom == ((0xE3, b"own"),)
    assert header.tls is not None
    seen = header.tls
    assert (seen.version, seen.common_name, seen.cipher) == ("TLSv1.3", "Zoë", "X")
    assert (seen.signature_algorithm, seen.key_algorithm, seen.verified) == ("S", "K", True)


@pytest.mark.parametrize("crc", [False, True])
def test_it_reads_what_we_tell_of_the_tls(crc: bool) -> None:
    tls = ProxyTls(3, 0, "TLSv1.3", "Zoë", "X", "S", "K", "x25519", "rsa_pss", b"\x30\0")
    written = encode_v2(
        ("192.0.2.1", 1), ("::1", 2), alpn=b"h2", authority="a.example", unique_id=b"id", tls=tls, crc32c=crc
    )
    tlv = ProxyProtocolDetect().unpack(written).tlv
    assert (tlv.alpn, tlv.authority, tlv.unique_id) == (b"h2", "a.example", b"id")
    seen = tlv.ssl
    assert (seen.has_ssl, seen.has_cert_conn, seen.has_cert_sess, seen.verified) == (True, True, False, True)
    assert (seen.version, seen.cn, seen.cipher, seen.sig_alg, seen.key_alg) == ("TLSv1.3", "Zoë", "X", "S", "K")


@pytest.mark.parametrize("version", [1, 2])
def test_a_health_check_leaves_it_with_the_socket(version: Literal[1, 2]) -> None:
    assert theirs(local_header(version)) == "socket"


V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"
V2 = bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000201c6336402c82201bb")
PAIR: Seen = (("192.0.2.1", 51234), ("198.51.100.2", 443))


def padded(tlvs: bytes) -> bytes:
    return V2[:14] + (12 + len(tlvs)).to_bytes(2) + V2[16:] + tlvs


DIFFERENCES: list[tuple[str, bytes, Seen, Seen]] = [
    ("a port with leading zeros is forbidden by the document", V1.replace(b"443", b"0443"), "refused", PAIR),
    ("a sign is no digit; int() takes it", V1.replace(b"443", b"+443"), "refused", PAIR),
    ("an underscore is no digit; int() takes it", V1.replace(b"443", b"4_43"), "refused", PAIR),
    ("a tab is no digit; int() strips it", V1.replace(b"443", b"\t443"), "refused", PAIR),
    (
        "a zone means nothing on another machine",
        b"PROXY TCP6 fe80::1%a ::1 1 2\r\n",
        "refused",
        (("fe80::1%a", 1), ("::1", 2)),
    ),
    ("UNKNOWN ignores the rest of its line, not bare LFs in it", b"PROXY UNKNOWN a\nb\r\n", "refused", "socket"),
    ("a line has 107 bytes at most", b"PROXY UNKNOWN " + b"x" * 99 + b"\r\n", "refused", "socket"),
    ("it wants the line cut out for it; we keep what follows", V1 + b"hello", PAIR, "refused"),
    ("a payload that is a line too", V1 + V1, PAIR, "refused"),
    ("TLVs end where the length says: payload is none of them", V2 + b"\x02\x00\x01!", PAIR, PAIR),
    ("an unknown family is a broken sender", V2[:13] + b"\x41" + V2[14:], "refused", "socket"),
    ("so is an unknown transport", V2[:13] + b"\x13" + V2[14:], "refused", PAIR),
    ("a TLV past the end", padded(b"\x04\x00\x09abc"), "refused", PAIR),
    ("a TLV cut in its length", padded(b"\x04\x00"), "refused", PAIR),
    ("a wrong checksum (it needs another package to look)", padded(b"\x03\x00\x04abcd"), "refused", PAIR),
    ("an authority that is no host name could forge a record", padded(b"\x02\x00\x03a\nb"), "refused", PAIR),
    ("two authorities: two readers would see two names", padded(b"\x02\x00\x01a\x02\x00\x01b"), "refused", PAIR),
    ("a header has 4 KiB at most", padded(b"\x04\x0f\xf2" + bytes(4082)), "refused", PAIR),
    ("a command in the future", V2[:12] + b"\x22" + V2[13:], "refused", "refused"),
    ("LOCAL: its block is not looked at", V2[:12] + b"\x20" + V2[13:], "socket", "socket"),
    ("more bytes please, where it refuses for the time being", V2[:-1], "waits", "refused"),
]


@pytest.mark.parametrize(("reason", "data", "we", "they"), DIFFERENCES, ids=[reason for reason, *_ in DIFFERENCES])
def test_where_the_two_differ_we_mean_it(reason: str, data: bytes, we: Seen, they: Seen) -> None:
    assert reason
    assert (ours(data), theirs(data)) == (we, they)
