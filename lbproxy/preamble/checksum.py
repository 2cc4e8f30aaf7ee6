"""CRC-32C, the checksum of a version 2 header.

Owns the arithmetic (RFC 4960, appendix B) and nothing else. `zlib.crc32` is another polynomial and cannot help.
"""

from __future__ import annotations

# Castagnoli's polynomial 0x1EDC6F41 with its bits reversed, because the register shifts to the right.
_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`, 0 to 2**32 - 1; b"123456789" gives 0xe3069283."""
    table = _TABLE
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
