"""ClientHellos built by hand, out of parts that may each be wrong, and the ways of feeding them."""

from __future__ import annotations

from lbproxy.preamble import ClientHello, HelloReader, NotHello

SERVER_NAME, ALPN, SUPPORTED_VERSIONS, KEY_SHARE, ENCRYPTED_HELLO = 0, 16, 43, 51, 0xFE0D
# What stands behind a ClientHello is none of the reader's business.
TRAILING = bytes.fromhex("1403030001011703030005") + b"early"

Verdict = ClientHello | tuple[str, str] | None


def vector(size: int, content: bytes) -> bytes:
    """The content behind its length of `size` bytes, the way TLS writes everything."""
    return len(content).to_bytes(size) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(SERVER_NAME, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    return extension(ALPN, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def versions(*numbers: int) -> bytes:
    return extension(SUPPORTED_VERSIONS, vector(1, b"".join(number.to_bytes(2) for number in numbers)))


def body(
    *extensions: bytes,
    session_id: bytes = vector(1, bytes(32)),
    suites: bytes = vector(2, b"\x13\x01\x13\x02"),
    methods: bytes = vector(1, b"\0"),
    legacy: int = 0x0303,
    behind: bytes = b"",
) -> bytes:
    """The inside of a ClientHello; with one empty `extensions` argument the list is there and empty."""
    listed = vector(2, b"".join(extensions)) if extensions else b""
    return legacy.to_bytes(2) + bytes(range(32)) + session_id + suites + methods + listed + behind


def message(content: bytes, *, kind: int = 1, size: int | None = None) -> bytes:
    return bytes((kind,)) + (len(content) if size is None else size).to_bytes(3) + content


def record(content: bytes, *, kind: int = 22, version: int = 0x0301, size: int | None = None) -> bytes:
    return bytes((kind,)) + version.to_bytes(2) + (len(content) if size is None else size).to_bytes(2) + content


def hello(*extensions: bytes) -> bytes:
    """A good one in one record."""
    return record(message(body(*extensions)))


def in_records(content: bytes, size: int) -> bytes:
    """One message in records of at most `size` bytes."""
    return b"".join(record(content[at : at + size]) for at in range(0, len(content), size))


def read(data: bytes, *ends: int) -> Verdict:
    """What the reader says of `data`, of which it sees the bytes up to each of `ends` in turn, then all.

    A second look at the same bytes must say the same.
    """
    reader = HelloReader()
    for end in (*ends, len(data)):
        first, again = (_feed(reader, data[:end]) for _ in range(2))
        assert again == first
        if first is not None:
            return first
    return None


def _feed(reader: HelloReader, data: bytes) -> Verdict:
    try:
        return reader.feed(data)
    except NotHello as error:
        return error.rule, error.message


def every_way(data: bytes) -> Verdict:
    """The one verdict on `data`: whole, byte by byte, cut in two anywhere, with bytes behind it."""
    whole = read(data)
    assert read(data, *range(len(data))) == whole
    if whole is not None:
        assert read(data + TRAILING) == whole
        assert read(data + TRAILING, *range(len(data + TRAILING))) == whole
    if len(data) < 600:
        assert {read(data, cut) for cut in range(len(data))} == {whole}
    return whole
