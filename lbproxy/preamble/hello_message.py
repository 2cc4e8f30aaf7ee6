"""What a TLS ClientHello says, as a frozen value, and how it is read out of one whole handshake message.

Owns the meaning of every byte behind the handshake header (RFC 8446, 4.1.2) and of the three extensions that a
route or a record asks for: server_name (RFC 6066, 3), ALPN (RFC 7301, 3.1) and supported_versions (RFC 8446, 4.2.1).
Refuses to know how the message was collected. The others, GREASE values (RFC 8701), an encrypted inner hello and
key shares of any size among them, are stepped over: whoever ends the TLS judges them.

Strict where two readers could see two different names: lengths that contradict each other, an extension that
comes twice, more than one host name.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, unpack_from

from lbproxy.addresses import parse_ip
from lbproxy.preamble.header import PreambleError, host_name

_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43
_HOST_NAME = 0

_LENGTH = Struct("!H")
_EXTENSION = Struct("!HH")
_NAME = Struct("!BH")

# legacy_version and random stand before the session id; a session id has 32 bytes at most.
_BEFORE_SESSION_ID = 2 + 32
_MAX_SESSION_ID = 32
# With empty session id, one cipher suite, one compression method, and no extensions, as TLS 1.2 allows.
_SHORTEST = _BEFORE_SESSION_ID + 1 + 4 + 2
_DIGITS = frozenset("0123456789")


class NotHello(PreambleError):
    """The bytes are no valid ClientHello: send an alert at most, and close.

    `rule` is the row of threats.md: L7 a hello of SSLv2, L9 TLS whose ClientHello is malformed or too long, L10 not
    TLS at all.
    """


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What the client asks for, in the clear; nothing of it is proven.

    `server_name` is a host name in lower case without a final dot. It is None when the client sent none, and when
    what it sent is no host name (an IP literal, an unknown type of name, other bytes); `named` tells the two apart:
    whether the extension was there at all. With encrypted ClientHello it is the public name of the outer hello.
    `alpn` holds the protocols offered, in their order, any octet may occur in them.
    `versions` holds what supported_versions lists, without GREASE, else the one legacy version; 0x0304 is TLS 1.3.
    """

    server_name: str | None = None
    named: bool = False
    alpn: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = ()


def read_message(data: bytes, at: int, end: int) -> ClientHello:
    """The ClientHello whose body is `data[at:end]`, without the four bytes of the handshake header.

    Raises NotHello (L9).
    """
    if end - at < _SHORTEST:
        raise _malformed(f"has {end - at} bytes, the shortest one has {_SHORTEST}")
    (legacy_version,) = _LENGTH.unpack_from(data, at)
    at = _behind_suites(data, at + _BEFORE_SESSION_ID, end)
    if at == end:
        return ClientHello(versions=(legacy_version,))
    places = _extensions(data, at, end)
    named = _SERVER_NAME in places
    return ClientHello(
        _server_name(data, *places[_SERVER_NAME]) if named else None,
        named,
        _alpn(data, *places[_ALPN]) if _ALPN in places else (),
        _versions(data, *places[_SUPPORTED_VERSIONS]) if _SUPPORTED_VERSIONS in places else (legacy_version,),
    )


def _malformed(what: str) -> NotHello:
    return NotHello("L9", f"the ClientHello {what}")


def _behind_suites(data: bytes, at: int, end: int) -> int:
    """Where the extensions begin; session id, cipher suites and compression methods are stepped over."""
    session_id = data[at]
    at += 1 + session_id
    if session_id > _MAX_SESSION_ID or at + 2 > end:
        raise _malformed("has a session id that is too long")
    (suites,) = _LENGTH.unpack_from(data, at)
    at += 2 + suites
    if suites == 0 or suites & 1 or at + 1 > end:
        raise _malformed("has a list of cipher suites whose length is wrong")
    methods = data[at]
    at += 1 + methods
    if methods == 0 or at > end:
        raise _malformed("has a list of compression methods whose length is wrong")
    return at


def _extensions(data: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """Start and end of each extension's content, by type."""
    if at + 2 > end or at + 2 + _LENGTH.unpack_from(data, at)[0] != end:
        raise _malformed("has extensions that do not end where it ends")
    at += 2
    places: dict[int, tuple[int, int]] = {}
    read = _EXTENSION.unpack_from
    # An extension needs four bytes of its own; what begins later than this cannot be one.
    last = end - 4
    while at <= last:
        kind, length = read(data, at)
        start = at + 4
        at = start + length
        if kind in places:
            raise _malformed(f"has extension {kind} twice")
        places[kind] = (start, at)
    if at != end:
        raise _malformed("has an extension that reaches past the end")
    return places


def _server_name(data: bytes, at: int, end: int) -> str | None:
    if at + 2 >= end or at + 2 + _LENGTH.unpack_from(data, at)[0] != end:
        raise _malformed("has a server_name list whose length is wrong")
    at += 2
    found: bytes | None = None
    while at < end:
        # RFC 6066 gives a form to host names only: what follows another type cannot be told apart.
        if data[at] != _HOST_NAME:
            return None
        start = at + 3
        at = start + _NAME.unpack_from(data, at)[1] if start < end else end + 1
        if at > end or at == start:
            raise _malformed("has a host name whose length is wrong")
        if found is not None:
            raise _malformed("has more than one host name")
        found = data[start:at]
    name = None if found is None else host_name(found)
    # RFC 6066, 3: literal addresses are not permitted. Those with a colon are no host names anyway.
    if name is None or (name[-1] in _DIGITS and parse_ip(name) is not None):
        return None
    return name


def _alpn(data: bytes, at: int, end: int) -> tuple[bytes, ...]:
    if at + 2 >= end or at + 2 + _LENGTH.unpack_from(data, at)[0] != end:
        raise _malformed("has an ALPN list whose length is wrong")
    at += 2
    protocols = []
    while at < end:
        start = at + 1
        at = start + data[at]
        if at == start or at > end:
            raise _malformed("has an ALPN protocol whose length is wrong")
        protocols.append(data[start:at])
    return tuple(protocols)


def _versions(data: bytes, at: int, end: int) -> tuple[int, ...]:
    length = end - at - 1
    if length < 2 or length & 1 or data[at] != length:
        raise _malformed("has a supported_versions list whose length is wrong")
    offered: tuple[int, ...] = unpack_from(f"!{length // 2}H", data, at + 1)
    # GREASE (RFC 8701, 2): 0x0a0a, 0x1a1a, to 0xfafa.
    return tuple([version for version in offered if version & 0x0F0F != 0x0A0A or version >> 8 != version & 0xFF])
