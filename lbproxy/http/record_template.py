"""The text of a record line as a user writes it: `{field}` stands for a field of the record, "{{" and "}}" for braces.

Owns the syntax, the names and the sentence about a mistake. Refuses to know records: who writes them fills this in.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

# What may stand in braces: the fields of both kinds of records in their order, lists apart.
FIELDS = (
    "ts",
    "id",
    "listener",
    "client",
    "peer",
    "protocol",
    "method",
    "host",
    "path",
    "bytes_in",
    "route",
    "route_line",
    "pool",
    "backend",
    "policy",
    "status",
    "bytes_out",
    "outcome",
    "state",
    "flag",
    "t_request_ms",
    "t_queue_ms",
    "t_connect_ms",
    "t_first_byte_ms",
    "t_total_ms",
    "conns_process",
    "conns_listener",
    "conns_pool",
    "conns_backend",
    "queue_pool",
    "retries",
    "reused",
    "request_number",
    "query",
    "referer",
    "user_agent",
    "sticky",
    "cache",
    "cache_reason",
    "cache_key",
    "age",
    "collapsed",
    "limit",
    "rule",
    "timer",
    "coding",
    "bytes_plain",
    "bytes_packed",
    "tls",
    "cipher",
    "sni",
    "alpn",
    "client_cert",
    "resumed",
    "tls_error",
    "unique_id",
    "group",
    "t_handshake_ms",
    "client_verify",
    "client_subject",
    "backend_tls",
    "backend_cipher",
    "backend_resumed",
    "namespace",
)

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def read_template(text: str) -> list[tuple[str, str]]:
    """Pairs of a literal text and the name of the field that follows it, which is "" at the end.

    Raises ValueError, with a sentence for the user.
    """
    parts: list[tuple[str, str]] = []
    literal, at = "", 0
    for piece in _PIECE.finditer(text):
        literal += text[at : piece.start()]
        at = piece.end()
        if piece[0] in ("{{", "}}"):
            literal += piece[0][0]
        elif piece[1] is None:
            raise ValueError(f'there is a lonely "{piece[0]}": a literal brace is written twice')
        else:
            _known(piece[1])
            parts.append((literal, piece[1]))
            literal = ""
    parts.append((literal + text[at:], ""))
    return parts


def check_template(text: str) -> str | None:
    """What is wrong with a template, as a sentence; None if nothing is."""
    try:
        read_template(text)
    except ValueError as problem:
        return str(problem)
    return None


def _known(name: str) -> None:
    if name in FIELDS:
        return
    near = get_close_matches(name, FIELDS, 1)
    hint = f"did you mean {{{near[0]}}}?" if near else f"there are {{{FIELDS[0]}}}, {{path}}, {{status}} and others"
    raise ValueError(f"{{{name}}} is no field of a record that a text can hold; {hint}")
