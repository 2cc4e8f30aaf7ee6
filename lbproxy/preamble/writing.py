"""How our own PROXY headers look, for backends that ask for them.

Owns the bytes, once per connection and before anything else (P7). Refuses to know when they are sent and what a
pool wants in them. Nothing from outside enters unchecked: an address that is no IP address counts as unknown.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from struct import Struct
from typing import Literal, NamedTuple

from lbproxy.addresses import parse_ip
from lbproxy.preamble.checksum import crc32c as crc32c_of
from lbproxy.preamble.header import (
    MAPPED_PREFIX,
    MAX_ALPN,
    MAX_UNIQUE_ID,
    MAX_VERSION_2,
    SIGNATURE,
    TLS_ASCII,
    TLS_CERTIFICATE,
    TLS_COMMON_NAME,
    TLS_START,
    TLV_ALPN,
    TLV_AUTHORITY,
    TLV_CRC32C,
    TLV_TLS,
    TLV_UNIQUE_ID,
    VERSION_2_LOCAL,
    VERSION_2_PROXY,
    Endpoint,
    ProxyTls,
    host_name,
)

_UNKNOWN = b"PROXY UNKNOWN\r\n"
_START = Struct("!12sBBH")
_IP4 = Struct("!12sBBH4s4sHH")
_IP6 = Struct("!12sBBH16s16sHH")
_TLV = Struct("!BH")
_CRC = Struct("!BHI")
_TCP4, _TCP6, _UNSPEC = 0x11, 0x21, 0x00
_IP4_BYTES, _IP6_BYTES = 12, 36
# Names of ciphers and people are shorter; seven of these, with all else, stay far below MAX_VERSION_2.
_MAX_TLS_TEXT = 255


class _Host(NamedTuple):
    text: str
    packed: bytes


def encode_v1(source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """A version 1 line for a client at `source` who connected to `destination`, each (IP text, port).

    It says UNKNOWN when one of them is None or no IP address, or when their families differ: version 1 has no
    words for that. Raises ValueError for a port outside 0 to 65535.
    """
    if source is None or destination is None:
        return _UNKNOWN
    client, server = _host(source[0]), _host(destination[0])
    if client is None or server is None or len(client.packed) != len(server.packed):
        return _UNKNOWN
    family = "TCP4" if len(client.packed) == 4 else "TCP6"
    return f"PROXY {family} {client.text} {server.text} {_port(source[1])} {_port(destination[1])}\r\n".encode("ascii")


def encode_v2(
    source: Endpoint | None,
    destination: Endpoint | None,
    *,
    local: bool = False,
    authority: str | None = None,
    unique_id: bytes | None = None,
    alpn: bytes | None = None,
    crc32c: bool = False,
    tls: ProxyTls | None = None,
) -> bytes:
    """A version 2 header for a client at `source` who connected to `destination`, each (IP text, port).

    The family is UNSPEC when one of them is None or no IP address (a client on a UNIX socket), and always with
    `local`, the command of connections that we make for ourselves. When the families differ, the IPv4 address is
    written as a mapped IPv6 address. TLVs follow in the order of their numbers, the checksum last.
    `tls` describes the client's TLS connection. Its texts come from the client's certificate and from libraries: one
    that is not printable, or over 255 bytes, is left out, and so is a certificate for which the header has no room
    (MAX_VERSION_2 in all). The rest still says whether it was verified.
    Raises ValueError for a port outside 0 to 65535, an authority that is no host name, a unique id over 128
    bytes, an ALPN that has not 1 to 255 bytes, or TLS flags and a verify result outside one and four bytes.
    """
    tlvs = b""
    if alpn is not None or authority is not None or unique_id is not None:
        tlvs = _tlvs(alpn, authority, unique_id)
    if tls is not None:
        # Counted with the longest addresses and a checksum: what a backend is told depends on nothing else.
        tlvs += _tls(tls, MAX_VERSION_2 - _IP6.size - len(tlvs) - _CRC.size)
    length = len(tlvs) + (_CRC.size if crc32c else 0)
    command = VERSION_2_LOCAL if local else VERSION_2_PROXY
    client = server = None
    if source is not None and destination is not None and not local:
        client, server = _host(source[0]), _host(destination[0])
    if source is None or destination is None or client is None or server is None:
        start = _START.pack(SIGNATURE, command, _UNSPEC, length)
    else:
        ports = _port(source[1]), _port(destination[1])
        if len(client.packed) == len(server.packed) == 4:
            length += _IP4_BYTES
            start = _IP4.pack(SIGNATURE, command, _TCP4, length, client.packed, server.packed, *ports)
        else:
            length += _IP6_BYTES
            start = _IP6.pack(SIGNATURE, command, _TCP6, length, _wide(client), _wide(server), *ports)
    if not crc32c:
        return start + tlvs
    # Computed over the header with the field zeroed, which is then filled (proxy-protocol.txt, 2.2.3).
    whole = start + tlvs + _CRC.pack(TLV_CRC32C, 4, 0)
    return whole[:-4] + crc32c_of(whole).to_bytes(4)


def local_header(version: Literal[1, 2]) -> bytes:
    """The header of a connection that we make for ourselves, such as a health check.

    Version 1 has no LOCAL; UNKNOWN makes the receiver use the socket's own addresses just as well.
    """
    return _UNKNOWN if version == 1 else _LOCAL


# Destinations are our own few addresses, and clients come back; reading IPv6 text takes longer than all the rest.
@lru_cache(maxsize=4096)
def _host(text: str) -> _Host | None:
    # The zone of a link-local address has a meaning on this machine only.
    canonical = parse_ip(text.partition("%")[0])
    return None if canonical is None else _Host(canonical, ipaddress.ip_address(canonical).packed)


def _wide(host: _Host) -> bytes:
    return host.packed if len(host.packed) == 16 else MAPPED_PREFIX + host.packed


def _port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise ValueError(f"the port {port} is not in 0 to 65535")
    return port


def _tlvs(alpn: bytes | None, authority: str | None, unique_id: bytes | None) -> bytes:
    parts = b""
    if alpn is not None:
        if not 0 < len(alpn) <= MAX_ALPN:
            raise ValueError(f"the ALPN has {len(alpn)} bytes, allowed are 1 to {MAX_ALPN}")
        parts += _TLV.pack(TLV_ALPN, len(alpn)) + alpn
    if authority is not None:
        name = host_name(authority.encode())
        if name is None:
            raise ValueError(f"{authority!r} is not a host name")
        parts += _TLV.pack(TLV_AUTHORITY, len(name)) + name.encode("ascii")
    if unique_id is not None:
        if len(unique_id) > MAX_UNIQUE_ID:
            raise ValueError(f"the unique id has {len(unique_id)} bytes, allowed are {MAX_UNIQUE_ID}")
        parts += _TLV.pack(TLV_UNIQUE_ID, len(unique_id)) + unique_id
    return parts


def _tls(tls: ProxyTls, room: int) -> bytes:
    """TLV 0x20 with its own TLVs in the order of their numbers, in at most `room` bytes."""
    if not 0 <= tls.flags <= 0xFF or not 0 <= tls.verify_result <= 0xFFFFFFFF:
        raise ValueError(
            f"the TLS flags {tls.flags} and verify result {tls.verify_result} do not fit one and four bytes"
        )
    values: dict[int, str | None] = {kind: getattr(tls, name) for kind, name in TLS_ASCII.items()}
    values[TLS_COMMON_NAME] = tls.common_name
    parts = TLS_START.pack(tls.flags, tls.verify_result)
    for kind, text in sorted(values.items()):
        # Nothing printable fails to encode: lone surrogates are not printable.
        if text is None or not text.isprintable() or (kind != TLS_COMMON_NAME and not text.isascii()):
            continue
        value = text.encode()
        if len(value) <= _MAX_TLS_TEXT:
            parts += _TLV.pack(kind, len(value)) + value
    certificate = tls.certificate
    if certificate is not None and 2 * _TLV.size + len(parts) + len(certificate) <= room:
        parts += _TLV.pack(TLS_CERTIFICATE, len(certificate)) + certificate
    return _TLV.pack(TLV_TLS, len(parts)) + parts


_LOCAL = encode_v2(None, None, local=True)
