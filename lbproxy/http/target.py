"""What is asked for: the target of a request, and paths normalised once (RFC 9112, 3.2; RFC 3986, 6.2.2).

Owns the four forms of targets, and the order of steps that make a path one that routes, keys, records and backends
all see the same. Refuses to decode what would change the meaning, and to repair what has two.
"""

from __future__ import annotations

import re

from lbproxy.errors import BAD_REQUEST
from lbproxy.http.messages import HttpError

# What a target is made of: visible ASCII without "#"; the path without "\" and "?" too.
_TARGET = re.compile(rb"([!\"$->@-\[\]-~]++)(?:\?([!\"$-~]*+))?+")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?]*+)(.*+)", re.DOTALL)
_TRIPLET = re.compile(rb"%([0-9A-Fa-f]{2})?+")
_DOTS = re.compile(rb"\.\.?+(?:(?:;|%3B).*+)?+", re.DOTALL)

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_DECODED = {b"%02X" % byte: bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte for byte in range(256)}
_DECODED.update({(b"%02x" % byte): _DECODED[b"%02X" % byte] for byte in range(256)})
_DECODED.update({(b"%x%X" % (byte >> 4, byte & 15)): _DECODED[b"%02X" % byte] for byte in range(256)})
_DECODED.update({(b"%X%x" % (byte >> 4, byte & 15)): _DECODED[b"%02X" % byte] for byte in range(256)})

# In upper case, after unreserved triplets were decoded. NUL and backslash; a percent sign before what would be one of
# these or a dot or slash when decoded again; the first bytes of overlong UTF-8 (RFC 3629, section 3).
_REFUSED = re.compile(
    rb"%(?:00|5C|25(?:25)*+(?:00|2[Ff]|5[Cc]|2[Ee])|C[01]|E0%[89][0-9A-F]|F0%8[0-9A-F]|F8%8[0-7]|FC%8[0-3])"
)


def read_target(target: bytes) -> tuple[bytes, bytes | None]:
    """Path (not yet normalised) and query of a target in origin form. Raises HttpError."""
    parts = _TARGET.fullmatch(target)
    if parts is None:
        raise judge_target(target)
    if target[:1] != b"/":
        raise _bad("T8", "the target is not a path")
    return parts[1], parts[2]


def judge_target(target: bytes) -> HttpError:
    """Why there is a byte in `target` that has no place there."""
    for byte in target:
        if byte == 0:
            return _bad("S3", "the target has a NUL")
        if byte < 0x21 or byte == 0x7F:
            return _bad("S4", "the target has a control character")
        if byte >= 0x80:
            return _bad("T17", "the target has a byte that is not ASCII")
        if byte == 0x23:
            return _bad("T9", "the target has a fragment")
        if byte == 0x5C:
            return _bad("T17", "the path has a backslash")
    return _bad("T8", "the target is not a path")


def split_absolute(target: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Scheme (in lower case), authority and the rest of a target in absolute form, None when it is in another."""
    parts = _ABSOLUTE.fullmatch(target)
    return None if parts is None else (parts[1].lower(), parts[2], parts[3])


def normalise(path: bytes) -> tuple[bytes, bytes, bool]:
    """The path normalised, the same with runs of slashes left as they are, and whether it holds %2F.

    `path` begins with a slash and has no byte that is not for paths. Raises HttpError (T18).
    """
    plain = path
    slash = False
    if 0x25 in path:
        plain = _TRIPLET.sub(_triplet, path)
        if _REFUSED.search(plain):
            raise _bad("T18", "the path has an encoded NUL or backslash, overlong UTF-8, or is encoded twice")
        slash = plain.find(b"%2F") >= 0
    _check_dots(path, plain)
    if plain.find(b"/.") < 0 and plain.find(b"//") < 0:
        return plain, plain, slash
    merged = _resolve(plain, merge=True)
    return merged, _resolve(plain, merge=False) if plain.find(b"//") >= 0 else merged, slash


def _triplet(found: re.Match[bytes]) -> bytes:
    digits = found[1]
    if digits is None:
        raise _bad("T18", "the path has a percent sign without two hexadecimal digits")
    return _DECODED[digits]


def _check_dots(path: bytes, plain: bytes) -> None:
    """Refuses segments of dots that not everybody would see as such."""
    if 0x2E not in plain:
        return
    for raw, segment in zip(path.split(b"/"), plain.split(b"/"), strict=True):
        if segment in (b".", b".."):
            if 0x25 in raw:
                raise _bad("T18", "the path has encoded dots in a segment of dots")
        elif any(_DOTS.fullmatch(part) for part in segment.split(b"%2F")):
            raise _bad("T18", "the path has a segment of dots with a parameter or an encoded slash")


def _resolve(path: bytes, *, merge: bool) -> bytes:
    """RFC 3986, 5.2.4, but nothing is above the root, and ".." takes away a segment with all slashes behind it: so the
    result merged is the merged result.
    """
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            while kept and not kept[-1]:
                kept.pop()
            if not kept:
                raise _bad("T18", "the path leads above the root")
            if kept.pop().find(b"%2F") >= 0:
                # Whoever decodes first goes up from within it.
                raise _bad("T18", "the path goes up from a segment with an encoded slash")
        elif segment != b"." and (segment or not merge):
            kept.append(segment)
    # What ends in a slash or in dots is a directory.
    if segments[-1] in (b".", b"..") or (merge and not segments[-1]):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _bad(row: str, message: str) -> HttpError:
    return HttpError(BAD_REQUEST, row, message)
