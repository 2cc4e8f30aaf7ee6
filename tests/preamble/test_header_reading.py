"""Reading PROXY headers: every case whole, byte by byte, and with payload behind it."""

from __future__ import annotations

import ipaddress
import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.preamble import HeaderReader, PreambleError, ProxyHeader, ProxyTls, crc32c, encode_v1, encode_v2

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
CLIENT, SERVER = ("192.0.2.1", 51234), ("198.51.100.2", 443)
CLIENT6, SERVER6 = ("2001:db8::1", 51234), ("2001:db8::2", 443)
ADDRESSES = bytes.fromhex("c0000201c6336402c82201bb")
ADDRESSES6 = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002c82201bb")
PAYLOAD = b"GET / HTTP/1.1\r\n\r\n"

Answer = tuple[ProxyHeader | None, bytes] | str


def v2(block: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2) + block


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2) + value


def tcp4(*tlvs: bytes) -> bytes:
    return v2(ADDRESSES + b"".join(tlvs))


def with_crc(header: bytes) -> bytes:
    """The header with a correct checksum behind its other TLVs."""
    length = int.from_bytes(header[14:16]) + 7
    header = header[:14] + length.to_bytes(2) + header[16:] + tlv(3, bytes(4))
    return header[:-4] + crc32c(header).to_bytes(4)


def read(chunks: list[bytes]) -> Answer:
    """(header, payload) or (None, b"") for more bytes please; for an error its rule and message."""
    reader = HeaderReader()
    try:
        for place, chunk in enumerate(chunks):
            header = reader.feed(chunk)
            if header is not None:
                return header, reader.rest + b"".join(chunks[place + 1 :])
    except PreambleError as error:
        return f"{error.rule}: {error.message}"
    return None, b""


def singles(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def both_ways(data: bytes) -> Answer:
    whole = read([data])
    assert read(singles(data)) == whole
    return whole


TLS = b"\x03\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, "Zoë".encode()) + tlv(0x23, b"TLS_AES_128_GCM_SHA256")
TLS += (
    tlv(0x24, b"SHA256") + tlv(0x25, b"RSA2048") + tlv(0x26, b"x25519") + tlv(0x27, b"rsa_pss") + tlv(0x28, b"\x30\0")
)

GOOD: dict[str, tuple[bytes, ProxyHeader]] = {
    "v1 tcp4": (
        b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n",
        ProxyHeader(1, "PROXY", "TCP4", CLIENT, SERVER),
    ),
    "v1 tcp6": (
        b"PROXY TCP6 2001:DB8:0::1 2001:db8::2 51234 443\r\n",
        ProxyHeader(1, "PROXY", "TCP6", CLIENT6, SERVER6),
    ),
    "v1 longest tcp6": (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ProxyHeader(1, "PROXY", "TCP6", (":".join(["ffff"] * 8), 65535), (":".join(["ffff"] * 8), 65535)),
    ),
    "v1 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 51234 443\r\n",
        ProxyHeader(1, "PROXY", "TCP6", CLIENT, SERVER),
    ),
    "v1 zeros": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        ProxyHeader(1, "PROXY", "TCP4", ("0.0.0.0", 0), ("255.255.255.255", 65535)),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", ProxyHeader(1)),
    "v1 unknown, worst case of 107 bytes": (
        b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ProxyHeader(1),
    ),
    "v1 unknown, rest ignored": (b"PROXY UNKNOWN  \x00 nonsense \xff\r\n", ProxyHeader(1)),
    "v2 tcp4": (
        bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000201c6336402c82201bb"),
        ProxyHeader(2, "PROXY", "TCP4", CLIENT, SERVER),
    ),
    "v2 authority and checksum": (
        bytes.fromhex("0d0a0d0a000d0a515549540a2111001fc0000201c6336402c82201bb020009612e6578616d706c650300048effb9e1"),
        ProxyHeader(2, "PROXY", "TCP4", CLIENT, SERVER, authority="a.example"),
    ),
    "v2 local": (SIGNATURE + bytes.fromhex("20000000"), ProxyHeader(2, "LOCAL")),
    "v2 local, family and block ignored": (
        v2(b"\x03\xff\xff", command=0x20, family=0xEE),
        ProxyHeader(2, "LOCAL"),
    ),
    "v2 local, longest": (v2(bytes(4080), command=0x20, family=0), ProxyHeader(2, "LOCAL")),
    "v2 unspec": (v2(b"", family=0), ProxyHeader(2)),
    "v2 unspec with a name": (v2(tlv(2, b"a.example"), family=0), ProxyHeader(2, authority="a.example")),
    "v2 udp4": (v2(ADDRESSES, family=0x12), ProxyHeader(2, "PROXY", "UDP4", CLIENT, SERVER)),
    "v2 tcp6": (v2(ADDRESSES6, family=0x21), ProxyHeader(2, "PROXY", "TCP6", CLIENT6, SERVER6)),
    "v2 udp6": (v2(ADDRESSES6, family=0x22), ProxyHeader(2, "PROXY", "UDP6", CLIENT6, SERVER6)),
    "v2 mapped": (
        v2(
            bytes(10) + b"\xff\xff\xc0\0\x02\x01" + bytes(10) + b"\xff\xff\xc6\x33\x64\x02\xc8\x22\x01\xbb", family=0x21
        ),
        ProxyHeader(2, "PROXY", "TCP6", CLIENT, SERVER),
    ),
    "v2 every TLV": (
        with_crc(
            tcp4(
                tlv(1, b"h2"),
                tlv(2, b"A.Example."),
                tlv(4, bytes(9)),
                tlv(4, b""),
                tlv(5, b"\0" * 128),
                tlv(0x20, TLS),
                tlv(0x30, b"blue"),
                tlv(0xE0, b""),
                tlv(0xEF, b"\r\n"),
                tlv(0xE0, b"again"),
                tlv(0xF0, b"experiment"),
                tlv(0xFF, b"unknown"),
                tlv(0x06, b"unknown"),
                tlv(0x06, b"unknown"),
            )
        ),
        ProxyHeader(
            2,
            "PROXY",
            "TCP4",
            CLIENT,
            SERVER,
            alpn=b"h2",
            authority="a.example",
            unique_id=bytes(128),
            tls=ProxyTls(
                3,
                0,
                version="TLSv1.3",
                common_name="Zoë",
                cipher="TLS_AES_128_GCM_SHA256",
                signature_algorithm="SHA256",
                key_algorithm="RSA2048",
                group="x25519",
                signature_scheme="rsa_pss",
                certificate=b"\x30\0",
            ),
            namespace="blue",
            custom=((0xE0, b""), (0xEF, b"\r\n"), (0xE0, b"again")),
        ),
    ),
    "v2 checksum in the middle": (
        (lambda h: h[:31] + crc32c(h[:31] + bytes(4) + h[35:]).to_bytes(4) + h[35:])(
            tcp4(tlv(3, bytes(4)), tlv(1, b"h2"))
        ),
        ProxyHeader(2, "PROXY", "TCP4", CLIENT, SERVER, alpn=b"h2"),
    ),
    "v2 longest": (tcp4(tlv(4, bytes(4065))), ProxyHeader(2, "PROXY", "TCP4", CLIENT, SERVER)),
}

V1 = "PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"
BAD: dict[str, tuple[str, bytes]] = {
    # P2: no header at all.
    "http": ("P2: ", b"GET / HTTP/1.1\r\n"),
    "tls": ("P2: ", b"\x16\x03\x01"),
    "lower case": ("P2: ", b"proxy TCP4 "),
    "proxy without space": ("P2: ", b"PROXY\r\n"),
    "blank lines": ("P2: ", b"\r\n\r\n\r\n"),
    "v2 bad last byte of the signature": ("P2: ", SIGNATURE[:11] + b"\r"),
    # P3: version 1.
    **{
        f"v1 {line!r}": ("P3: ", line.encode("latin-1"))
        for line in (
            "PROXY tcp4 ",
            "PROXY TCP5",
            "PROXY TCP ",
            "PROXY TCP44 ",
            "PROXY UDP4 ",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\rX",
            "PROXY UNKNOWN a\nb\r\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 \r\n",
            V1.replace("192.0.2.1", "192.0.02.1"),
            V1.replace("192.0.2.1", "256.0.2.1"),
            V1.replace("192.0.2.1", "192.0.2"),
            V1.replace("192.0.2.1", "3221225985"),
            V1.replace("192.0.2.1", "0xc0.0.2.1"),
            V1.replace("192.0.2.1", "192.0.2.1.1"),
            V1.replace("192.0.2.1", "192.0.2.+1"),
            V1.replace("192.0.2.1", "192.0.2.\xb9"),
            V1.replace("192.0.2.1", "::1"),
            V1.replace("192.0.2.1", "::ffff:192.0.2.1"),
            V1.replace("192.0.2.1", "a.example"),
            V1.replace("TCP4", "TCP6"),
            V1.replace("51234", "65536"),
            V1.replace("51234", "99999"),
            V1.replace("51234", "512345"),
            V1.replace("51234", "01"),
            V1.replace("51234", "00"),
            V1.replace("51234", "+1"),
            V1.replace("51234", "-1"),
            V1.replace("51234", "1_0"),
            V1.replace("51234", "\xb2"),
            V1.replace("51234", "\x0b1"),
            V1.replace("51234", ""),
            V1.replace(" 443", ""),
            V1.replace(" 443", " "),
            V1.replace(" 443", " 443 "),
            V1.replace(" 443", " 443 1"),
            V1.replace(" 443", "\t443"),
            V1.replace(" 443", "  443"),
            V1.replace("TCP4 ", "TCP4  "),
            V1.replace("\r\n", "\n"),
            V1.replace("\r\n", "\r\r\n"),
            V1.replace("\r\n", "\rX"),
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY TCP6 1::2::3 ::1 1 2\r\n",
            "PROXY TCP6 :::1 ::1 1 2\r\n",
            "PROXY TCP6 : ::1 1 2\r\n",
            "PROXY TCP6 12345::1 ::1 1 2\r\n",
            "PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n",
            "PROXY TCP6 ::ffff:192.0.02.1 ::1 1 2\r\n",
            "PROXY TCP6 [::1] ::1 1 2\r\n",
            "PROXY TCP6 " + "0" * 40,
            "PROXY TCP6 ::1 192.0.2.1 1 2\r\n",
        )
    },
    "v1 no line end in 107 bytes": ("P3: ", b"PROXY UNKNOWN " + b"x" * 92),
    "v1 line of 108 bytes": ("P3: ", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n"),
    # P4: version 2.
    "v2 version 1": ("P4: ", SIGNATURE + b"\x11"),
    "v2 version 3": ("P4: ", SIGNATURE + b"\x31"),
    "v2 command 2": ("P4: ", SIGNATURE + b"\x22"),
    "v2 unix": ("P4: the family 0x31", v2(bytes(216), family=0x31)),
    "v2 unix datagram": ("P4: the family 0x32", v2(bytes(216), family=0x32)),
    "v2 length beyond 4 KiB, first byte": ("P4: ", SIGNATURE + b"\x21\x11\x10"),
    "v2 length beyond 4 KiB": ("P4: ", SIGNATURE + b"\x21\x11\x0f\xf1"),
    "v2 local beyond 4 KiB": ("P4: ", SIGNATURE + b"\x20\x00\xff\xff"),
    "v2 too short for tcp4": ("P4: ", v2(b"", length=11)),
    "v2 too short for udp6": ("P4: ", v2(b"", family=0x22, length=35)),
    "v2 tlv cut in its length": ("P4: TLV 0x01", tcp4(b"\x01")),
    "v2 tlv cut in its length, second byte": ("P4: TLV 0x01", tcp4(b"\x01\x00")),
    "v2 tlv past the end": ("P4: TLV 0x04", tcp4(b"\x04\x00\x01")),
    "v2 unspec with garbage": ("P4: TLV 0x00", v2(b"\0", family=0)),
    "v2 wrong crc": ("P4: the checksum is wrong", with_crc(tcp4(tlv(1, b"h2")))[:-1] + b"\0"),
    "v2 crc of a changed header": ("P4: the checksum is wrong", with_crc(tcp4(tlv(1, b"h2"))).replace(b"h2", b"h3")),
    "v2 short crc": ("P4: the checksum has 3", tcp4(tlv(3, bytes(3)))),
    "v2 long crc": ("P4: the checksum has 5", tcp4(tlv(3, bytes(5)))),
    "v2 empty alpn": ("P4: the ALPN", tcp4(tlv(1, b""))),
    "v2 long alpn": ("P4: the ALPN", tcp4(tlv(1, bytes(256)))),
    "v2 long unique id": ("P4: the unique id", tcp4(tlv(5, bytes(129)))),
    **{
        f"v2 {kind:#04x} twice": ("P4: TLV", tcp4(tlv(kind, value), tlv(kind, value)))
        for kind, value in ((1, b"h2"), (2, b"a.example"), (5, b"id"), (0x20, bytes(5)), (0x30, b"blue"))
    },
    "v2 crc twice": ("P4: ", with_crc(with_crc(tcp4()))),
    **{
        f"v2 authority {name!r}": ("P4: the authority", tcp4(tlv(2, name)))
        for name in (
            b"",
            b".",
            b"a..b",
            b".a",
            b"a.example\n",
            b"a\0.example",
            b"a b",
            b"-a.example",
            b"a-.example",
            b"*.example",
            b"[::1]",
            b"a.example:443",
            "ä.example".encode(),
            "\u212a.example".encode(),
            b"a" * 64 + b".example",
            b".".join([b"a" * 49] * 5 + [b"abcd"]),
        )
    },
    "v2 namespace with a line end": ("P4: the network namespace", tcp4(tlv(0x30, b"a\nb"))),
    "v2 namespace in utf-8": ("P4: the network namespace", tcp4(tlv(0x30, "ä".encode()))),
    "v2 tls too short": ("P4: the TLS part", tcp4(tlv(0x20, bytes(4)))),
    "v2 tls sub-tlv past the end": ("P4: TLV 0x21", tcp4(tlv(0x20, bytes(5) + b"\x21\0\x01"))),
    "v2 tls version twice": ("P4: TLV 0x21", tcp4(tlv(0x20, bytes(5) + tlv(0x21, b"a") * 2))),
    "v2 tls version with a control": ("P4: the TLS version", tcp4(tlv(0x20, bytes(5) + tlv(0x21, b"TLS\x1b[2J")))),
    "v2 tls name, bad utf-8": ("P4: the TLS common name", tcp4(tlv(0x20, bytes(5) + tlv(0x22, b"\xff")))),
    "v2 tls name, line separator": ("P4: the TLS common", tcp4(tlv(0x20, bytes(5) + tlv(0x22, "a\u2028b".encode())))),
    "v2 tls name, bidi mark": ("P4: the TLS common", tcp4(tlv(0x20, bytes(5) + tlv(0x22, "a\u202eb".encode())))),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_header_is_read_however_it_arrives(name: str) -> None:
    data, header = GOOD[name]
    assert both_ways(data) == (header, b"")
    assert both_ways(data + PAYLOAD) == (header, PAYLOAD)


@pytest.mark.parametrize("name", GOOD)
def test_a_second_header_is_payload(name: str) -> None:
    data, header = GOOD[name]
    assert both_ways(data + data) == (header, data)


@pytest.mark.parametrize("name", GOOD)
def test_a_header_cut_anywhere_waits_for_more(name: str) -> None:
    data, _ = GOOD[name]
    reader = HeaderReader()
    for byte in singles(data[:-1]):
        assert reader.feed(byte) is None
        assert reader.rest == b""
    assert all(read([data[:end]]) == (None, b"") for end in range(0, len(data), 1 + len(data) // 200))


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_header_is_refused_with_its_rule_however_it_arrives(name: str) -> None:
    message, data = BAD[name]
    answer = both_ways(data)
    assert isinstance(answer, str), f"taken as {answer}"
    assert answer.startswith(message)
    assert both_ways(data + PAYLOAD) == answer
    assert answer.isprintable()


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_header_cut_anywhere_waits_or_is_refused_for_the_same_reason(name: str) -> None:
    _, data = BAD[name]
    answer = read([data])
    refused = False
    for end in range(0, len(data) + 1, 1 + len(data) // 200):
        early = read([data[:end]])
        assert early in (answer, (None, b""))
        assert not (refused and early != answer)
        refused = early == answer


@pytest.mark.parametrize(
    ("data", "enough"),
    [
        (b"GET", 1),
        (b"\r\n\r\n\r", 5),
        (b"PROXX", 5),
        (b"PROXY T4", 8),
        (b"PROXY TCP4 1a", 13),
        (b"PROXY TCP4 300.", 15 + 1),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 0123", 29),
        (b"PROXY UNKNOWN " + b"x" * 92, 106),
        (SIGNATURE + b"\x21\x31", 14),
        (SIGNATURE + b"\x21\x11\x0f\xff", 16),
        (SIGNATURE + b"\x21\x11\x00\x0b", 16),
    ],
)
def test_the_refusal_comes_with_the_byte_that_proves_it(data: bytes, enough: int) -> None:
    data += b" " * (enough - len(data))
    assert read([data[: enough - 1]]) == (None, b"")
    assert isinstance(read([data[:enough]]), str)


def test_families_outside_the_table_are_refused() -> None:
    taken = {family for family in range(256) if read([SIGNATURE + b"\x21" + bytes((family,))]) == (None, b"")}
    assert taken == {0x00, 0x11, 0x12, 0x21, 0x22}


def test_the_first_mistake_is_the_one_reported() -> None:
    answer = both_ways(b"PROXY TCP4 1.2.3.400 x 99999 0\n")
    assert answer == "P3: in the version 1 header the source is no address of its family"


def test_an_answer_is_final() -> None:
    reader = HeaderReader()
    header = reader.feed(GOOD["v2 tcp4"][0] + b"one")
    assert reader.feed(b" two") is header
    assert reader.rest == b"one two"
    reader = HeaderReader()
    for data in (b"GET", GOOD["v2 tcp4"][0]):
        with pytest.raises(PreambleError, match=r"rule=P2"):
            reader.feed(data)
    assert reader.rest == b""


def test_a_certificate_counts_as_verified_only_when_there_was_one() -> None:
    assert not ProxyTls(1, 0).verified
    assert ProxyTls(3, 0).verified
    assert ProxyTls(5, 0).verified
    assert not ProxyTls(3, 18).verified


def test_single_bytes_cost_no_more_than_a_look_each() -> None:
    data = v2(bytes(4080), command=0x20)
    reader = HeaderReader()
    began = time.perf_counter()
    for byte in singles(data):
        reader.feed(byte)
    assert time.perf_counter() - began < 0.05  # threats.md section 1; about 1 ms


ip4 = st.ip_addresses(v=4).map(str)
ip6 = st.ip_addresses(v=6).filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None).map(str)
ports = st.integers(0, 65535)
pairs = st.one_of(
    st.tuples(st.tuples(ip4, ports), st.tuples(ip4, ports)), st.tuples(st.tuples(ip6, ports), st.tuples(ip6, ports))
)
labels = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=6).map(".".join)
quick = settings(deadline=None, max_examples=80)


@quick
@given(pairs)
def test_what_version_1_writes_is_read_back(pair: tuple[tuple[str, int], tuple[str, int]]) -> None:
    family = "TCP6" if ":" in pair[0][0] else "TCP4"
    assert both_ways(encode_v1(*pair)) == (ProxyHeader(1, "PROXY", "TCP6" if family == "TCP6" else "TCP4", *pair), b"")


@quick
@given(
    pairs,
    st.none() | names,
    st.none() | st.binary(max_size=128),
    st.none() | st.binary(min_size=1, max_size=255),
    st.booleans(),
)
def test_what_version_2_writes_is_read_back(
    pair: tuple[tuple[str, int], tuple[str, int]],
    authority: str | None,
    unique_id: bytes | None,
    alpn: bytes | None,
    crc: bool,
) -> None:
    data = encode_v2(*pair, authority=authority, unique_id=unique_id, alpn=alpn, crc32c=crc)
    expected = ProxyHeader(
        2,
        "PROXY",
        "TCP6" if ":" in pair[0][0] else "TCP4",
        *pair,
        authority=authority,
        unique_id=unique_id,
        alpn=alpn,
    )
    assert both_ways(data) == (expected, b"")


starts = st.sampled_from(
    [
        b"",
        b"PROXY ",
        b"PROXY TCP4 ",
        b"PROXY TCP6 ",
        b"PROXY UNKNOWN",
        SIGNATURE,
        SIGNATURE + b"\x21\x11",
        v2(b"", length=15),
    ]
    + [data for data, _ in GOOD.values() if len(data) < 400]
)
ends = st.one_of(
    st.binary(max_size=150),
    st.text("0123456789abF:. \r\n", max_size=110).map(str.encode),
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=9)), max_size=5).map(
        lambda tlvs: b"".join(tlv(kind, value) for kind, value in tlvs)
    ),
)


@settings(deadline=None, max_examples=300)
@given(starts, ends, st.lists(st.integers(0, 300), max_size=8))
def test_any_bytes_in_any_segments_get_the_same_answer(start: bytes, end: bytes, cuts: list[int]) -> None:
    data = start + end
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[left:right] for left, right in pairwise(edges)]
    assert read(chunks) == both_ways(data)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([name for name in GOOD if name != "v2 longest"]), st.data())
def test_a_changed_byte_never_raises_anything_else(name: str, data: st.DataObject) -> None:
    good, _ = GOOD[name]
    at = data.draw(st.integers(0, min(len(good), 400) - 1))
    changed = good[:at] + bytes((data.draw(st.integers(0, 255)),)) + good[at + 1 :]
    both_ways(changed)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text("0123456789abcdefABCDEF:.", max_size=39),
        st.lists(st.sampled_from(["", "0", "1", "ff", "12345", "g", "1.2.3.4"]), max_size=9).map(":".join),
        st.ip_addresses().map(str),
    )
)
def test_version_1_takes_just_the_addresses_that_inet_pton_takes(text: str) -> None:
    if not text:
        return
    for family, af, other in (("TCP4", socket.AF_INET, "192.0.2.1"), ("TCP6", socket.AF_INET6, "::1")):
        try:
            packed = socket.inet_pton(af, text)
        except OSError:
            packed = None
        answer = read([f"PROXY {family} {text} {other} 1 2\r\n".encode()])
        if packed is None:
            assert isinstance(answer, str)
            continue
        address = ipaddress.ip_address(packed)
        expected = str(getattr(address, "ipv4_mapped", None) or address)
        assert isinstance(answer, tuple)
        assert answer[0] is not None
        assert answer[0].source == (expected, 1)
