"""What a PROXY header says, as frozen values, and the wire numbers that reader and writer share.

Owns the words, the numbers and what a host name may look like. Refuses to know how a header is read or written.
Every text in these values is printable: it may enter a record or a protocol line as it is. Values that are
`bytes` are the sender's own, any octet may occur in them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct
from typing import Literal

Endpoint = tuple[str, int]
Command = Literal["LOCAL", "PROXY"]
Family = Literal["TCP4", "TCP6", "UDP4", "UDP6", "UNSPEC"]

# No server or shell speaks like this, so that a receiver without PROXY fails at once (proxy-protocol.txt, 2.2).
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
VERSION_2_LOCAL, VERSION_2_PROXY = 0x20, 0x21
# Signature, version and command, family, length.
FIXED_PART = 16

MAX_ALPN = 255  # RFC 7301, 3.1: a protocol name has a one-byte length
MAX_UNIQUE_ID = 128  # proxy-protocol.txt, 2.2.5

TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C, TLV_UNIQUE_ID = 0x01, 0x02, 0x03, 0x05
TLV_TLS, TLV_NAMESPACE = 0x20, 0x30
TLV_CUSTOM = range(0xE0, 0xF0)

# Inside TLV 0x20 (proxy-protocol.txt, 2.2.6): a flag byte and the verify result, then these. The ASCII ones stand
# under the names of their fields in ProxyTls.
TLS_START = Struct("!BI")
TLS_COMMON_NAME, TLS_CERTIFICATE = 0x22, 0x28
TLS_ASCII = {
    0x21: "version",
    0x23: "cipher",
    0x24: "signature_algorithm",
    0x25: "key_algorithm",
    0x26: "group",
    0x27: "signature_scheme",
}

# The length field allows 64 KiB; HAProxy takes what fits its buffer, by default 16 KiB. Ours (threats.md, P4) leaves
# room for a client certificate, which is the one long thing that a header may carry.
MAX_VERSION_2 = 4096

MAPPED_PREFIX = bytes(10) + b"\xff\xff"

_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(_LABEL + rb"(?:\." + _LABEL + rb")*\.?")


class PreambleError(Exception):
    """The bytes in front are not what must stand there, a valid PROXY header: close, without an answer.

    For the ClientHello there is the subclass NotHello, with rows of its own.
    `rule` is the row of threats.md (P2 not a header, P3 a bad version 1, P4 a bad version 2); `message` is a
    sentence for the log. It quotes the sender's bytes escaped or not at all.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (rule={self.rule})"


@dataclass(frozen=True, slots=True)
class ProxyTls:
    """The TLS connection between the client and the sender (TLV 0x20).

    `flags`: 1 the client used TLS, 2 it showed a certificate on this connection, 4 in this TLS session.
    `verify_result` is the sender's, 0 for good; ask `verified`. `certificate` is the client's, in DER, unchecked.
    """

    flags: int
    verify_result: int
    version: str | None = None
    common_name: str | None = None
    cipher: str | None = None
    signature_algorithm: str | None = None
    key_algorithm: str | None = None
    group: str | None = None
    signature_scheme: str | None = None
    certificate: bytes | None = None

    @property
    def verified(self) -> bool:
        """Whether the client showed a certificate and the sender found it good.

        Both are asked because OpenSSL's result, which senders copy, is 0 also when there was no certificate.
        """
        return self.verify_result == 0 and bool(self.flags & 0x06)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A complete, valid header.

    `source` is the client and `destination` where it connected to, each (canonical IP text with mapped IPv4
    unwrapped, port 0 to 65535). Both are None when the header names nobody (LOCAL, UNSPEC, UNKNOWN): then the
    socket's own addresses count. `family` is as written: TCP6 may carry a mapped IPv4 address.
    `authority` is a host name in lower case without a final dot. `custom` holds the TLVs 0xE0 to 0xEF as (type,
    value) in the order of the header.
    """

    version: Literal[1, 2]
    command: Command = "PROXY"
    family: Family = "UNSPEC"
    source: Endpoint | None = None
    destination: Endpoint | None = None
    alpn: bytes | None = None
    authority: str | None = None
    unique_id: bytes | None = None
    tls: ProxyTls | None = None
    namespace: str | None = None
    custom: tuple[tuple[int, bytes], ...] = ()


def host_name(raw: bytes) -> str | None:
    """The host name in lower case without a final dot; None when `raw` is not one.

    ASCII only: names in other scripts travel in TLS as A-labels (RFC 6066, 3). Lowered as bytes, because
    lowering text would turn U+212A into a "k".
    """
    if len(raw) > 254 or not _HOST_NAME.fullmatch(raw):
        return None
    name = raw.removesuffix(b".")
    return name.lower().decode("ascii") if len(name) <= 253 else None
