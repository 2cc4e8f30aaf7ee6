"""What the binary block of a version 2 header holds: addresses, then TLVs (type, length, value).

Owns the meaning of every byte behind the length field. Refuses to know how the block was collected: it gets one
that is complete and long enough for the addresses of its family.

Stricter than the document, which lets a receiver ignore what it likes: a single-valued TLV that comes twice, or
whose value cannot be what it says, makes the header invalid. Two readers must not see two different clients.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from struct import Struct

from lbproxy.preamble.checksum import crc32c
from lbproxy.preamble.header import (
    FIXED_PART,
    MAPPED_PREFIX,
    MAX_ALPN,
    MAX_UNIQUE_ID,
    TLS_ASCII,
    TLS_CERTIFICATE,
    TLS_COMMON_NAME,
    TLS_START,
    TLV_ALPN,
    TLV_AUTHORITY,
    TLV_CRC32C,
    TLV_CUSTOM,
    TLV_NAMESPACE,
    TLV_TLS,
    TLV_UNIQUE_ID,
    VERSION_2_LOCAL,
    Family,
    PreambleError,
    ProxyHeader,
    ProxyTls,
    host_name,
)

_IP4 = Struct("!4s4sHH")
_IP6 = Struct("!16s16sHH")
# UNIX (0x31, 0x32) is left out: a path on another machine is nobody we could name. Halves that contradict each
# other, such as IPv4 over an unknown transport (0x10), are in no valid header.
_FAMILIES: dict[int, tuple[Family, Struct]] = {
    0x11: ("TCP4", _IP4),
    0x12: ("UDP4", _IP4),
    0x21: ("TCP6", _IP6),
    0x22: ("UDP6", _IP6),
}
_UNSPEC = 0x00

ADDRESS_BYTES = {_UNSPEC: 0} | {number: layout.size for number, (_, layout) in _FAMILIES.items()}

_SINGLE = frozenset((TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C, TLV_UNIQUE_ID, TLV_TLS, TLV_NAMESPACE))


def read_block(block: bytes) -> ProxyHeader:
    """The header in `block`, which is a whole version 2 header from its signature on.

    Raises PreambleError (P4). The block of LOCAL is not looked at, and UNSPEC has no addresses: its TLVs begin
    where the others have theirs.
    """
    if block[12] == VERSION_2_LOCAL:
        return ProxyHeader(2, "LOCAL")
    family: Family = "UNSPEC"
    source = destination = None
    if block[13] != _UNSPEC:
        family, layout = _FAMILIES[block[13]]
        source_ip, destination_ip, source_port, destination_port = layout.unpack_from(block, FIXED_PART)
        source = (_ip_text(source_ip), source_port)
        destination = (_ip_text(destination_ip), destination_port)
    start = FIXED_PART + ADDRESS_BYTES[block[13]]
    if start == len(block):
        return ProxyHeader(2, "PROXY", family, source, destination)
    single, custom = _tlvs(block, start)
    tls = single.get(TLV_TLS)
    return ProxyHeader(
        2,
        "PROXY",
        family,
        source,
        destination,
        alpn=_alpn(single.get(TLV_ALPN)),
        authority=_authority(single.get(TLV_AUTHORITY)),
        unique_id=_unique_id(single.get(TLV_UNIQUE_ID)),
        tls=None if tls is None else _tls(tls),
        namespace=_text(single.get(TLV_NAMESPACE), "network namespace", "ascii"),
        custom=tuple(custom),
    )


def _ip_text(packed: bytes) -> str:
    if len(packed) == 16:
        if not packed.startswith(MAPPED_PREFIX):
            return str(ipaddress.IPv6Address(packed))
        packed = packed[12:]
    return "{}.{}.{}.{}".format(*packed)


def _tlvs(block: bytes, start: int) -> tuple[dict[int, bytes], list[tuple[int, bytes]]]:
    """The TLVs that may come once, by type, and the custom ones; the checksum has been checked."""
    single: dict[int, bytes] = {}
    custom: list[tuple[int, bytes]] = []
    for kind, offset, value in _split(block, start):
        if kind in TLV_CUSTOM:
            custom.append((kind, value))
        elif kind in _SINGLE:
            if kind in single:
                raise PreambleError("P4", f"TLV 0x{kind:02x} comes twice")
            single[kind] = value
            if kind == TLV_CRC32C:
                _check_crc(block, offset, value)
    return single, custom


def _split(data: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Type, offset of the value, and value of each TLV from `at` to the end."""
    size = len(data)
    while at < size:
        offset = at + 3
        end = offset + int.from_bytes(data[at + 1 : offset])
        if offset > size or end > size:
            raise PreambleError("P4", f"TLV 0x{data[at]:02x} reaches past the end")
        yield data[at], offset, data[offset:end]
        at = end


def _check_crc(block: bytes, offset: int, value: bytes) -> None:
    if len(value) != 4:
        raise PreambleError("P4", f"the checksum has {len(value)} bytes, CRC-32C has 4")
    if crc32c(block[:offset] + bytes(4) + block[offset + 4 :]) != int.from_bytes(value):
        raise PreambleError("P4", "the checksum is wrong")


def _alpn(value: bytes | None) -> bytes | None:
    if value is not None and not 0 < len(value) <= MAX_ALPN:
        raise PreambleError("P4", f"the ALPN has {len(value)} bytes, allowed are 1 to {MAX_ALPN}")
    return value


def _unique_id(value: bytes | None) -> bytes | None:
    if value is not None and len(value) > MAX_UNIQUE_ID:
        raise PreambleError("P4", f"the unique id has {len(value)} bytes, allowed are {MAX_UNIQUE_ID}")
    return value


def _authority(value: bytes | None) -> str | None:
    if value is None:
        return None
    name = host_name(value)
    if name is None:
        raise PreambleError("P4", "the authority is not a host name")
    return name


def _tls(value: bytes) -> ProxyTls:
    if len(value) < TLS_START.size:
        raise PreambleError("P4", f"the TLS part has {len(value)} bytes, its start alone has {TLS_START.size}")
    flags, verify_result = TLS_START.unpack_from(value)
    found: dict[int, bytes] = {}
    for kind, _, part in _split(value, TLS_START.size):
        if kind in found:
            raise PreambleError("P4", f"TLV 0x{kind:02x} comes twice in the TLS part")
        found[kind] = part
    texts = {name: _text(found.get(kind), f"TLS {name}", "ascii") for kind, name in TLS_ASCII.items()}
    return ProxyTls(
        flags,
        verify_result,
        common_name=_text(found.get(TLS_COMMON_NAME), "TLS common name", "utf-8"),
        certificate=found.get(TLS_CERTIFICATE),
        **texts,
    )


def _text(value: bytes | None, what: str, encoding: str) -> str | None:
    """Printable text (str.isprintable: no controls, no separators but the space, no bidi marks)."""
    if value is None:
        return None
    try:
        text = value.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise PreambleError("P4", f"the {what} is not printable text")
    return text
