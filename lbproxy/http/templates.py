"""Texts with placeholders for what a request is like: values of header fields, targets of redirects, rewritten paths.

Owns the names of the placeholders, their check when the configuration is read, and filling them in. Refuses to know
what the text is for: whoever uses it as a path or a host checks the result as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

# The order in which messages name them.
PLACEHOLDERS = ("scheme", "host", "port", "path", "query", "uri", "client_ip", "request_id")
MOST_GROUPS = 9

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PRINTABLE = re.compile(r"[ -~]*")


class TemplateError(ValueError):
    """A template that cannot be used; the message is a sentence for the user."""


@dataclass(slots=True)
class Facts:
    """What is filled in. All are as the readers let them through, which is without CR, LF and NUL.

    `scheme` is "http" or "https"; `host` and `port` are what the client asked for. `path` is the one that is matched
    and forwarded, `query` stands without its "?" and is empty where there is none; `uri` is the path, with "?" and the
    query if there is one. `client_ip` is empty for a client behind a UNIX socket.
    """

    scheme: bytes
    host: bytes
    port: bytes
    path: bytes
    query: bytes
    uri: bytes
    client_ip: bytes
    request_id: bytes


class Template:
    """A text with placeholders: {scheme} {host} {port} {path} {query} {uri} {client_ip} {request_id}, and {1} to {9} as
    far as there are `groups` of a regular expression. "{{" and "}}" are literal braces.

    Raises TemplateError for an unknown placeholder, a lonely brace, and anything but printable ASCII: no text of
    ours can end a line. `constant` tells that nothing is filled in.
    """

    __slots__ = ("_facts", "_format", "_places", "constant", "text")

    def __init__(self, text: str, groups: int = 0) -> None:
        if not _PRINTABLE.fullmatch(text):
            raise TemplateError(f"{text!r} may hold printable ASCII characters only; write others as %C3%A9 in a URL")
        self.text = text
        form, names = _read(text, min(groups, MOST_GROUPS))
        self.constant = not names
        self._format = form if names else form % ()
        # Each place takes a fact or the group of that index; where there are facts only, one call takes them all.
        self._places = tuple(int(name) - 1 if name.isdigit() else name for name in names)
        mixed = any(isinstance(place, int) for place in self._places)
        self._facts: Callable[[Facts], Any] | None = attrgetter(*names) if names and not mixed else None

    def render(self, facts: Facts, groups: Sequence[bytes] = ()) -> bytes:
        """The text with everything filled in. `groups` are those of the match, empty ones for those not taken part."""
        if self.constant:
            return self._format
        if self._facts is not None:
            filled: bytes = self._format % self._facts(facts)
            return filled
        return self._format % tuple(
            groups[place] if isinstance(place, int) else getattr(facts, place) for place in self._places
        )

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def _read(text: str, groups: int) -> tuple[bytes, list[str]]:
    """The text as a format of bytes, and what goes into its places."""
    form: list[str] = []
    names: list[str] = []
    at = 0
    for piece in _PIECE.finditer(text):
        form.append(text[at : piece.start()].replace("%", "%%"))
        at = piece.end()
        if piece[0] in ("{{", "}}"):
            form.append(piece[0][0])
        elif piece[1] is None:
            raise TemplateError(f'{text!r} has a lonely "{piece[0]}"; a literal brace is written twice')
        else:
            _known(text, piece[1], groups)
            names.append(piece[1])
            form.append("%b")
    form.append(text[at:].replace("%", "%%"))
    return "".join(form).encode("ascii"), names


def _known(text: str, name: str, groups: int) -> None:
    if name in PLACEHOLDERS or (len(name) == 1 and name in "123456789"[:groups]):
        return
    known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
    if groups:
        known += ", {1}" if groups == 1 else f", {{1}} to {{{groups}}}"
    if len(name) == 1 and name in "123456789":
        there = f"which has {groups}" if groups else "and there is none"
        raise TemplateError(f"{text!r}: {{{name}}} is a group of the regular expression, {there}; known are {known}")
    raise TemplateError(f"{text!r}: {{{name}}} is not known; known are {known}")
