"""Writing PROXY headers: the exact bytes that a backend gets (P7), and the checksum."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.preamble import HeaderReader, ProxyHeader, crc32c, encode_v1, encode_v2, local_header

SIGNATURE = "0d0a0d0a000d0a515549540a"
CLIENT, SERVER = ("192.0.2.1", 51234), ("198.51.100.2", 443)
CLIENT6, SERVER6 = ("2001:db8::1", 51234), ("2001:db8::2", 443)
PACKED6 = "20010db8000000000000000000000001", "20010db8000000000000000000000002"
MAPPED = "00000000000000000000ffff"
Endpoint = tuple[str, int]


@pytest.mark.parametrize(
    ("source", "destination", "line"),
    [
        (CLIENT, SERVER, b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"),
        (CLIENT6, SERVER6, b"PROXY TCP6 2001:db8::1 2001:db8::2 51234 443\r\n"),
        (("2001:DB8:0::1", 0), ("2001:db8::2", 65535), b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n"),
        (("::ffff:192.0.2.1", 51234), SERVER, b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n"),
        (("fe80::1%eth0", 1), ("fe80::2%3", 2), b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"),
        (CLIENT, SERVER6, b"PROXY UNKNOWN\r\n"),
        (CLIENT6, SERVER, b"PROXY UNKNOWN\r\n"),
        (None, SERVER, b"PROXY UNKNOWN\r\n"),
        (CLIENT, None, b"PROXY UNKNOWN\r\n"),
        (None, None, b"PROXY UNKNOWN\r\n"),
        (("/run/app.sock", 0), SERVER, b"PROXY UNKNOWN\r\n"),
        (("192.0.2.1\r\nGET /", 1), SERVER, b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1_writes_this_line(source: Endpoint | None, destination: Endpoint | None, line: bytes) -> None:
    assert encode_v1(source, destination) == line


@pytest.mark.parametrize(
    ("source", "destination", "rest"),
    [
        (CLIENT, SERVER, "2111000cc0000201c6336402c82201bb"),
        (CLIENT6, SERVER6, "21210024" + "".join(PACKED6) + "c82201bb"),
        (CLIENT, SERVER6, "21210024" + MAPPED + "c0000201" + PACKED6[1] + "c82201bb"),
        (CLIENT6, SERVER, "21210024" + PACKED6[0] + MAPPED + "c6336402" + "c82201bb"),
        (("::ffff:192.0.2.1", 51234), SERVER, "2111000cc0000201c6336402c82201bb"),
        (None, SERVER, "21000000"),
        (CLIENT, None, "21000000"),
        (("@abstract", 0), SERVER, "21000000"),
    ],
)
def test_version_2_writes_these_bytes(source: Endpoint | None, destination: Endpoint | None, rest: str) -> None:
    assert encode_v2(source, destination).hex() == SIGNATURE + rest


def test_tlvs_follow_in_order_with_the_checksum_last() -> None:
    assert encode_v2(CLIENT, SERVER, authority="a.example", crc32c=True).hex() == (
        SIGNATURE + "2111001fc0000201c6336402c82201bb020009612e6578616d706c650300048effb9e1"
    )
    everything = encode_v2(CLIENT, SERVER, authority="A.example", unique_id=b"\0\xff", alpn=b"h2", crc32c=True)
    assert everything[28:-7].hex() == "0100026832020009612e6578616d706c6505000200ff"
    assert everything[-7:-4].hex() == "030004"
    assert encode_v2(None, None, unique_id=b"").hex() == SIGNATURE + "21000003050000"


def test_a_health_check_speaks_for_itself() -> None:
    assert local_header(1) == b"PROXY UNKNOWN\r\n"
    assert local_header(2).hex() == SIGNATURE + "20000000"
    assert encode_v2(CLIENT, SERVER, local=True) == local_header(2)
    checked = encode_v2(None, None, local=True, crc32c=True)
    assert checked.hex().startswith(SIGNATURE + "20000007030004")
    assert HeaderReader().feed(checked) == ProxyHeader(2, "LOCAL")


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    for source, destination in (((CLIENT[0], port), SERVER), (CLIENT, (SERVER[0], port))):
        with pytest.raises(ValueError, match="not in 0 to 65535"):
            encode_v1(source, destination)
        with pytest.raises(ValueError, match="not in 0 to 65535"):
            encode_v2(source, destination)


@pytest.mark.parametrize("authority", ["", "a b", "a\r\n", "ä.example", "a" * 64, "\u212a.example"])
def test_an_authority_that_is_no_host_name_is_refused(authority: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        encode_v2(CLIENT, SERVER, authority=authority)


def test_values_longer_than_the_protocol_allows_are_refused() -> None:
    with pytest.raises(ValueError, match="unique id has 129 bytes"):
        encode_v2(CLIENT, SERVER, unique_id=bytes(129))
    for alpn in (b"", bytes(256)):
        with pytest.raises(ValueError, match="ALPN has"):
            encode_v2(CLIENT, SERVER, alpn=alpn)


def bit_by_bit(data: bytes) -> int:
    """CRC-32C by long division, most significant bit first: the definition, and not our table's way."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= int(f"{byte:08b}"[::-1], 2) << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x1EDC6F41 if crc >> 31 else 0)) & 0xFFFFFFFF
    return int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2)


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"123456789", 0xE3069283),
        (b"", 0),
        # RFC 3720, B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_gives_the_published_values(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc
    assert bit_by_bit(data) == crc


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=80))
def test_the_checksum_is_the_division_it_is_defined_as(data: bytes) -> None:
    assert crc32c(data) == bit_by_bit(data)
