"""Where a PROXY header ends, and whether it is one: bytes in, a header or an error out.

Owns the choice between the versions, the bounds, the version 1 line, and failing as early as the bytes prove it.
Refuses to guess: the caller knows from its configuration that a header must come.
"""

from __future__ import annotations

import re

from lbproxy.addresses import parse_ip
from lbproxy.preamble.block import ADDRESS_BYTES, read_block
from lbproxy.preamble.header import (
    FIXED_PART,
    MAX_VERSION_2,
    SIGNATURE,
    VERSION_2_LOCAL,
    VERSION_2_PROXY,
    PreambleError,
    ProxyHeader,
)

# proxy-protocol.txt, 2.1: the longest line, "PROXY UNKNOWN" with two full IPv6 addresses, CRLF included.
MAX_VERSION_1 = 107

_VERSION_1 = b"PROXY "
_CR, _LF = b"\r", b"\n"
_WORD_END = re.compile(rb"[ \r\n]")
_LINE_END = re.compile(rb"[\r\n]")
_FAMILIES = frozenset((b"TCP4", b"TCP6", b"UNKNOWN"))
_TCP4 = b"TCP4"
# The words behind PROXY, and what is wrong with one that does not fit. The word itself is not quoted: how much
# of it is here depends on the segments.
_PARTS = (
    "the family is not TCP4, TCP6 or UNKNOWN",
    "the source is no address of its family",
    "the destination is no address of its family",
    "the source port is no number from 0 to 65535 in plain digits",
    "the destination port is no number from 0 to 65535 in plain digits",
)
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# Whoever matches this is canonical already.
_IP4 = re.compile(_OCTET + rb"(?:\." + _OCTET + rb"){3}")
_IP4_START = re.compile(rb"[0-9.]{0,15}")
# The colon keeps IPv4 out of TCP6. Dots stand in mapped addresses, as inet_ntop writes them.
_IP6 = re.compile(rb"(?=[^:]*:)[0-9A-Fa-f:.]{2,39}")
_IP6_START = re.compile(rb"[0-9A-Fa-f:.]{0,39}")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


class HeaderReader:
    """Reads the one header that opens a connection.

    Feed it what arrives until it answers; the answer does not depend on how the bytes were split, and the work
    is linear in them. After a header, `rest` is the payload that came with it (a second header is payload).
    An answer is final: fed again, the reader repeats it, and payload goes on to `rest`.
    """

    __slots__ = ("_buffer", "_enough", "_failure", "_header", "_line_ended", "_mark", "_words", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self._buffer = bytearray()
        # With fewer bytes than this there is nothing new to learn.
        self._enough = 1
        self._header: ProxyHeader | None = None
        self._failure: PreambleError | None = None
        # Version 1: the finished words, where the next one begins, whether the CR was seen.
        self._words: list[bytes] = []
        self._mark = len(_VERSION_1)
        self._line_ended = False

    def feed(self, data: bytes) -> ProxyHeader | None:
        """The header, or None when more bytes are needed.

        Raises PreambleError as soon as the bytes cannot be a header, or are an invalid one.
        """
        if self._failure is not None:
            raise self._failure
        if self._header is not None:
            self.rest += data
            return self._header
        self._buffer += data
        if len(self._buffer) < self._enough:
            return None
        try:
            end = self._find_end()
            if end is None:
                return None
            self._header = self._line() if self._words else read_block(bytes(self._buffer[:end]))
        except PreambleError as failure:
            self._failure = failure
            self._buffer.clear()
            raise
        self.rest = bytes(self._buffer[end:])
        self._buffer.clear()
        return self._header

    def _find_end(self) -> int | None:
        """How many bytes the header has, once they are all here."""
        buffer = self._buffer
        if buffer.startswith(_VERSION_1):
            return self._line_end()
        if buffer.startswith(SIGNATURE):
            return self._block_end()
        if _VERSION_1.startswith(buffer) or SIGNATURE.startswith(buffer):
            return None
        raise PreambleError("P2", "the connection does not begin with a PROXY header")

    # Version 1. Each word is judged as it ends (and its beginning before that), in the order of the line, so
    # that the first mistake in the bytes is the one reported, however they arrive.

    def _line_end(self) -> int | None:
        buffer, words = self._buffer, self._words
        while not self._line_ended:
            # After UNKNOWN everything up to CRLF is ignored (proxy-protocol.txt, 2.1).
            ignored = bool(words) and words[0] == b"UNKNOWN"
            # The CR must leave room for its LF within the limit.
            end = (_LINE_END if ignored else _WORD_END).search(buffer, self._mark, MAX_VERSION_1 - 1)
            word = bytes(buffer[self._mark : end.start() if end else MAX_VERSION_1 - 1])
            if not ignored and not _fits(words, word, complete=end is not None):
                raise PreambleError("P3", f"in the version 1 header {_PARTS[len(words)]}")
            if end is None:
                if len(buffer) >= MAX_VERSION_1 - 1:
                    raise PreambleError("P3", f"the version 1 header has no CRLF within {MAX_VERSION_1} bytes")
                return None
            words.append(word)
            self._mark = end.end()
            found = end.group()
            self._line_ended = found == _CR
            if found == _LF or (words[0] != b"UNKNOWN" and self._line_ended != (len(words) == len(_PARTS))):
                raise PreambleError(
                    "P3", "the version 1 header is not a family, two addresses and two ports, ended by CRLF"
                )
        if len(buffer) == self._mark:
            return None
        if not buffer.startswith(_LF, self._mark):
            raise PreambleError("P3", "the version 1 header has a CR without its LF")
        return self._mark + 1

    def _line(self) -> ProxyHeader:
        family, *rest = self._words
        if family == b"UNKNOWN":
            return ProxyHeader(1)
        client, server = rest[0].decode("ascii"), rest[1].decode("ascii")
        client_port, server_port = int(rest[2]), int(rest[3])
        if family == _TCP4:
            return ProxyHeader(1, "PROXY", "TCP4", (client, client_port), (server, server_port))
        # Both are known to be addresses by now.
        client, server = parse_ip(client) or client, parse_ip(server) or server
        return ProxyHeader(1, "PROXY", "TCP6", (client, client_port), (server, server_port))

    # Version 2. Sixteen bytes tell where it ends; until then each is checked as it comes.

    def _block_end(self) -> int | None:
        buffer, size = self._buffer, len(self._buffer)
        if size < 13:
            return None
        if buffer[12] not in (VERSION_2_LOCAL, VERSION_2_PROXY):
            raise PreambleError("P4", f"version and command are 0x{buffer[12]:02x}, known are 0x20 and 0x21")
        # LOCAL: "discard the protocol block including the family which is ignored" (proxy-protocol.txt, 2.2).
        proxied = buffer[12] == VERSION_2_PROXY
        if size > 13 and proxied and buffer[13] not in ADDRESS_BYTES:
            raise PreambleError("P4", f"the family 0x{buffer[13]:02x} is not supported")
        length = int.from_bytes(buffer[14:16].ljust(2, b"\0"))
        if FIXED_PART + length > MAX_VERSION_2:
            raise PreambleError("P4", f"the version 2 header is longer than {MAX_VERSION_2} bytes")
        if size < FIXED_PART:
            return None
        if proxied and length < ADDRESS_BYTES[buffer[13]]:
            raise PreambleError("P4", f"{length} bytes are too few for addresses of family 0x{buffer[13]:02x}")
        self._enough = FIXED_PART + length
        return self._enough if size >= self._enough else None


def _fits(words: list[bytes], word: bytes, *, complete: bool) -> bool:
    """Whether `word` may follow `words`, or may begin what follows them when it is not complete."""
    if not words:
        return word in _FAMILIES if complete else any(family.startswith(word) for family in _FAMILIES)
    if len(words) <= 2:
        if not complete:
            # Judged as a whole when its end is seen.
            return (_IP4_START if words[0] == _TCP4 else _IP6_START).fullmatch(word) is not None
        if words[0] == _TCP4:
            return _IP4.fullmatch(word) is not None
        return _IP6.fullmatch(word) is not None and parse_ip(word.decode("ascii")) is not None
    if not word:
        return not complete
    return _PORT.fullmatch(word) is not None and int(word) <= 65535
