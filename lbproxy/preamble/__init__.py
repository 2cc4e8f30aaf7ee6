"""What stands in front of a connection's payload, without I/O: the PROXY protocol and the TLS ClientHello.

Owns the bytes of both versions of the PROXY protocol, read and written as HAProxy's proxy-protocol.txt defines them,
and the limits and refusals of threats.md rows P2 to P5 and P7. Owns what a ClientHello tells in the clear, and rows
L9, L10 and the SSLv2 hello of L7. Refuses to know who may send a header (P1 and P6 are the listener's), how long to
wait for either, which socket it came from, and any cryptography.

One file per question: `header` what a PROXY header says, `reading` where it ends and whether it is one, `block`
what the binary part of version 2 holds, `writing` how ours looks, `checksum` the CRC that guards it; `hello` where a
ClientHello ends and whether it is one, `hello_message` what it says.
"""

from lbproxy.preamble.checksum import crc32c
from lbproxy.preamble.header import PreambleError, ProxyHeader, ProxyTls
from lbproxy.preamble.hello import (
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    HelloReader,
    alert,
    looks_like_http,
)
from lbproxy.preamble.hello_message import ClientHello, NotHello
from lbproxy.preamble.reading import HeaderReader
from lbproxy.preamble.writing import encode_v1, encode_v2, local_header

__all__ = [
    "NO_APPLICATION_PROTOCOL",
    "UNRECOGNIZED_NAME",
    "ClientHello",
    "HeaderReader",
    "HelloReader",
    "NotHello",
    "PreambleError",
    "ProxyHeader",
    "ProxyTls",
    "alert",
    "crc32c",
    "encode_v1",
    "encode_v2",
    "local_header",
    "looks_like_http",
]
