"""What stands in front of a connection's payload: the PROXY protocol, read and written, without I/O.

Owns the bytes of both versions as HAProxy's proxy-protocol.txt defines them, and the limits and refusals of
threats.md rows P2 to P5 and P7. Refuses to know who may send a header (P1 and P6 are the listener's), how long
to wait for it, and which socket it came from.

One file per question: `header` what a header says, `reading` where it ends and whether it is one, `block` what
the binary part of version 2 holds, `writing` how ours looks, `checksum` the CRC that guards it.
"""

from lbproxy.preamble.checksum import crc32c
from lbproxy.preamble.header import PreambleError, ProxyHeader, ProxyTls
from lbproxy.preamble.reading import HeaderReader
from lbproxy.preamble.writing import encode_v1, encode_v2, local_header

__all__ = [
    "HeaderReader",
    "PreambleError",
    "ProxyHeader",
    "ProxyTls",
    "crc32c",
    "encode_v1",
    "encode_v2",
    "local_header",
]
