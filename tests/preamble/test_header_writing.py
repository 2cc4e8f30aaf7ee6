"""Writing PROXY headers: the exact bytes that a backend gets (P7), and the checksum."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.preamble import HeaderReader, ProxyHeader, ProxyTls, crc32c, encode_v1, encode_v2, local_header

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


EVERY_PART = ProxyTls(
    flags=3,
    verify_result=0,
    version="TLSv1.3",
    common_name="Zoë",
    cipher="TLS_AES_128_GCM_SHA256",
    signature_algorithm="SHA256",
    key_algorithm="RSA2048",
    group="x25519",
    signature_scheme="rsa_pss_rsae_sha256",
    certificate=b"\x30\x00",
)


def with_text(field: str, text: str | None) -> ProxyTls:
    changed: dict[str, Any] = {field: text}
    return replace(EVERY_PART, **changed)


def read_back(tls: ProxyTls, **others: Any) -> ProxyTls | None:
    header = HeaderReader().feed(encode_v2(CLIENT, SERVER, tls=tls, **others))
    assert header is not None
    return header.tls


def test_the_tls_part_is_written_by_number_in_front_of_the_checksum() -> None:
    assert encode_v2(CLIENT, SERVER, tls=ProxyTls(1, 18)).hex() == (
        SIGNATURE + "21110014c0000201c6336402c82201bb" + "200005" + "0100000012"
    )
    written = encode_v2(CLIENT, SERVER, unique_id=b"id", tls=EVERY_PART, crc32c=True)
    parts = (
        bytes.fromhex("0300000000")
        + b"\x21\0\x07TLSv1.3"
        + b"\x22\0\x04Zo\xc3\xab"
        + b"\x23\0\x16TLS_AES_128_GCM_SHA256"
        + b"\x24\0\x06SHA256"
        + b"\x25\0\x07RSA2048"
        + b"\x26\0\x06x25519"
        + b"\x27\0\x13rsa_pss_rsae_sha256"
        + b"\x28\0\x02\x30\0"
    )
    assert written[28:-7] == b"\x05\0\x02id" + b"\x20" + len(parts).to_bytes(2) + parts
    assert written[-7:-4].hex() == "030004"
    assert int.from_bytes(written[14:16]) == len(written) - 16


TEXTS = ("version", "common_name", "cipher", "signature_algorithm", "key_algorithm", "group", "signature_scheme")


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize(
    "text", ["a\nb", "a\0", "\x7f", "a\u202eb", "a\u2028b", "\ud800", "x" * 256, "é" * 128], ids=ascii
)
def test_a_text_that_is_not_printable_or_too_long_is_left_out(field: str, text: str) -> None:
    assert read_back(with_text(field, text)) == with_text(field, None)


@pytest.mark.parametrize("field", TEXTS)
def test_only_the_common_name_has_letters_beyond_ascii(field: str) -> None:
    seen = read_back(with_text(field, "Zoë"))
    assert seen is not None
    assert getattr(seen, field) == ("Zoë" if field == "common_name" else None)


def test_a_certificate_is_written_while_every_header_has_room_for_it() -> None:
    everything: dict[str, Any] = {"authority": "a" * 63, "unique_id": bytes(128), "alpn": b"x" * 255, "crc32c": True}
    bare = len(encode_v2(CLIENT6, SERVER6, tls=replace(EVERY_PART, certificate=b""), **everything))
    for size, kept in ((4096 - bare, True), (4097 - bare, False), (20_000, False), (70_000, False)):
        tls = replace(EVERY_PART, certificate=bytes(size))
        for source, destination in ((CLIENT, SERVER), (CLIENT6, SERVER6), (None, None)):
            written = encode_v2(source, destination, tls=tls, **everything)
            header = HeaderReader().feed(written)
            assert header is not None
            assert header.tls == (tls if kept else replace(EVERY_PART, certificate=None))
            assert len(written) <= 4096


def test_the_longest_texts_leave_the_header_readable() -> None:
    texts: dict[str, Any] = dict.fromkeys(TEXTS, "x" * 255)
    longest = ProxyTls(255, 0xFFFFFFFF, **texts)
    name = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert read_back(longest, authority=name, unique_id=bytes(128), alpn=bytes(255), crc32c=True) == longest


@pytest.mark.parametrize(("flags", "verify_result"), [(-1, 0), (256, 0), (1, -1), (1, 1 << 32)])
def test_tls_numbers_that_do_not_fit_are_refused(flags: int, verify_result: int) -> None:
    with pytest.raises(ValueError, match="do not fit one and four bytes"):
        encode_v2(CLIENT, SERVER, tls=ProxyTls(flags, verify_result))


ascii_text = st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=255)
printable = st.text(max_size=60).filter(str.isprintable)


@settings(deadline=None, max_examples=150)
@given(
    st.builds(
        ProxyTls,
        st.integers(0, 255),
        st.integers(0, 0xFFFFFFFF),
        ascii_text,
        st.none() | printable,
        ascii_text,
        ascii_text,
        ascii_text,
        ascii_text,
        ascii_text,
        st.none() | st.binary(max_size=1500),
    ),
    st.booleans(),
)
def test_what_is_told_of_the_tls_is_what_is_read(tls: ProxyTls, crc: bool) -> None:
    assert read_back(tls, crc32c=crc, unique_id=b"id") == tls


@settings(deadline=None, max_examples=150)
@given(st.lists(st.text(max_size=300), min_size=7, max_size=7), st.binary(max_size=5000))
def test_whatever_a_certificate_says_our_own_reader_takes_the_header(texts: list[str], certificate: bytes) -> None:
    said: dict[str, Any] = dict(zip(TEXTS, texts, strict=True))
    seen = read_back(ProxyTls(7, 1, certificate=certificate, **said), crc32c=True)
    assert seen is not None
    assert all(getattr(seen, field) in (text, None) for field, text in said.items())


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
