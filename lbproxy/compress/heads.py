"""The fields of answers whose bodies are packed or unpacked here.

Owns which fields speak of the bytes of a body, and what becomes of them. Refuses to know lengths, which are framing,
and whether a body is worth it. Fields are never changed in place: what is given back is another list.
"""

from __future__ import annotations

import re

from lbproxy.http.lines import elements
from lbproxy.http.messages import Field

# These are true of the very bytes that they were said of: ranges are of the coded body (RFC 9110, 14.1), and so are
# digests (RFC 9530, 2 and 3; RFC 3230).
OF_BYTES = frozenset((b"accept-ranges", b"content-digest", b"content-md5", b"digest", b"repr-digest"))
_CODING = b"content-encoding"
_NAMED = b"accept-encoding"
# RFC 9110, 8.8.3.
_TAG = re.compile(rb'(?:W/)?"[^"]*+"')


def compressed_fields(fields: list[Field], coding: bytes) -> list[Field]:
    """The fields of an answer whose body is packed in this coding here."""
    changed = decoded_fields(fields)
    changed.append(_field(b"Content-Encoding", coding))
    return changed


def decoded_fields(fields: list[Field]) -> list[Field]:
    """The fields of an answer whose body came in a coding and is sent without."""
    changed = []
    for field in fields:
        name, value, _ = field
        if name == b"etag":
            tag = weak(value)
            # What is no entity tag cannot be made a weak one.
            if tag:
                changed.append(field if tag == value else _field(b"ETag", tag))
        elif name not in OF_BYTES and name != _CODING:
            changed.append(field)
    return varied_fields(changed)


def varied_fields(fields: list[Field]) -> list[Field]:
    """The fields of an answer that is sent as it came, but might have been compressed: Vary names Accept-Encoding."""
    last = -1
    for index, (name, value, _) in enumerate(fields):
        if name == b"vary":
            members = elements(value)
            if b"*" in members or _NAMED in members:
                return fields.copy()
            last = index
    changed = fields.copy()
    if last < 0:
        changed.append(_field(b"Vary", b"Accept-Encoding"))
    else:
        before = fields[last][1].rstrip(b", \t")
        changed[last] = _field(b"Vary", before + b", Accept-Encoding" if before else b"Accept-Encoding")
    return changed


def confirming_fields(fields: list[Field], if_none_match: bytes | None) -> list[Field]:
    """The fields of a 304 for a client that asked with this If-None-Match.

    One that has a body that was packed here knows the backend's strong tag as a weak one, and has to read that again: a
    strong one would be another body's (RFC 9111, 4.3.4).
    """
    known = _TAG.findall(if_none_match or b"")
    for index, (name, value, _) in enumerate(fields):
        if name == b"etag" and value not in known and weak(value) in known:
            changed = fields.copy()
            changed[index] = _field(b"ETag", weak(value))
            return varied_fields(changed)
    return fields.copy()


def weak(etag: bytes) -> bytes:
    """The weak form of an entity tag, b"" for what is none (RFC 9110, 8.8.3)."""
    if not _TAG.fullmatch(etag):
        return b""
    return etag if etag.startswith(b"W/") else b"W/" + etag


def _field(name: bytes, value: bytes) -> Field:
    return name.lower(), value, b"%b: %b\r\n" % (name, value)
