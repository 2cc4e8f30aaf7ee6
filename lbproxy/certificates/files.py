"""How a file comes into memory, and which PEM blocks are in it (RFC 7468).

Owns the bounds on its size and a sentence for each way in which a file may not be one. Refuses to know what the
blocks mean.
"""

from __future__ import annotations

import binascii
import os
import re
import stat
from dataclasses import dataclass, field

from lbproxy.certificates.problem import CertificateError

MOST_BYTES = 1 << 20

_BEGIN = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?$", re.MULTILINE)
_DASHES = b"-----BEGIN "
_CHUNK = 1 << 16
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """One PEM block: the word behind BEGIN, and the text from BEGIN to END. The text may hold a key."""

    label: str
    text: bytes = field(repr=False)


def read_file(path: str, most: int = MOST_BYTES) -> bytes:
    """The content of the regular file at `path`. Raises CertificateError, also if there are more than `most` bytes."""
    try:
        # Opening a FIFO would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise CertificateError(path, "there is no such file") from None
    except PermissionError:
        raise CertificateError(path, "may not be read: check its owner and mode, and those of its directory") from None
    except OSError as error:
        raise CertificateError(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError(path, "is not the name of a file") from None
    try:
        return _content(descriptor, path, most)
    except OSError as error:
        raise CertificateError(path, f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _content(descriptor: int, path: str, most: int) -> bytes:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise CertificateError(path, "is a directory, not a file")
    if not stat.S_ISREG(mode):
        raise CertificateError(path, "is not a regular file")
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(descriptor, _CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise CertificateError(path, f"is larger than {most >> 20} MiB, more than is read")
    if not size:
        raise CertificateError(path, "is empty")
    return b"".join(chunks)


def pem_blocks(data: bytes, path: str) -> tuple[Block, ...]:
    """The PEM blocks of `data` in their order; the text between them is passed over (RFC 7468 section 2).

    Raises CertificateError for a block without its end: the file is half written.
    """
    data = data.removeprefix(_BOM)
    blocks: list[Block] = []
    place = 0
    while begin := _BEGIN.search(data, place):
        label = begin[1]
        end_line = b"-----END " + label + b"-----"
        end = data.find(end_line, begin.end())
        following = data.find(_DASHES, begin.end())
        if end < 0 or 0 <= following < end:
            name = label.decode("ascii")
            raise CertificateError(
                path, f"the {name} block that begins in {_line(data, begin)} has no end: half written?"
            )
        place = end + len(end_line)
        blocks.append(Block(label.decode("ascii"), data[begin.start() : place] + b"\n"))
    last_line = data[place:].rsplit(b"\n", 1)[-1]
    if last_line.startswith(_DASHES) or (last_line.startswith(b"-----") and _DASHES.startswith(last_line)):
        raise CertificateError(path, "its last line is the beginning of a block: half written?")
    return tuple(blocks)


def _line(data: bytes, begin: re.Match[bytes]) -> str:
    return f"line {data.count(bytes((10,)), 0, begin.start()) + 1}"


def der_of(block: Block) -> bytes | None:
    """The bytes that the block holds in base64; None if that is not base64."""
    body = block.text.split(b"\n", 1)[1].rsplit(b"-----END ", 1)[0]
    try:
        return binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
    except binascii.Error:
        return None
