"""What a route does to header fields: remove, set, add, in this order (X5).

Owns which names may be edited and the making of fields and their lines. Refuses to know whether the message is a
request or a response, and what else is done to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lbproxy.http.messages import Field
from lbproxy.http.templates import Facts, Template, TemplateError
from lbproxy.model_http import FieldEdits

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
# Where a message ends and who reads it is ours to say: whoever edits these makes two readers see two messages.
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NO_FACTS = Facts(b"", b"", b"", b"", b"", b"", b"", b"")


class Edits:
    """The edits of one route and direction, ready to be applied. `names` are those touched, in lower case."""

    __slots__ = ("_made", "_removed", "names")

    def __init__(self, removed: frozenset[bytes], made: tuple[Callable[[Facts], Field], ...], names: frozenset[bytes]):
        self._removed = removed
        self._made = made
        self.names = names

    @classmethod
    def of(cls, edits: FieldEdits) -> Edits | None:
        """What is configured; None when that is nothing. Raises TemplateError with a sentence for the user for a name
        or a value that cannot be used.
        """
        removed = frozenset(edited_name(name) for name in (*edits.remove, *(name for name, _ in edits.set)))
        written = (*edits.set, *edits.add)
        names = removed | frozenset(edited_name(name) for name, _ in edits.add)
        return cls(removed, tuple(_maker(*pair) for pair in written), names) if names else None

    def apply(self, fields: list[Field], facts: Facts) -> list[Field]:
        """Another list: these fields without those removed, and behind them what is set and added."""
        removed = self._removed
        kept = [field for field in fields if field[0] not in removed] if removed else fields.copy()
        for make in self._made:
            kept.append(make(facts))
        return kept


def edited_name(name: str) -> bytes:
    """The name in lower case. Raises TemplateError with a sentence for the user if it is none, or not to be edited."""
    if not _TOKEN.fullmatch(name):
        raise TemplateError(f"{name!r} is not the name of a header field; it has letters, digits and dashes")
    lower = name.lower()
    if lower in _OURS:
        raise TemplateError(f"{name!r} belongs to the connection or tells how long a message is, and cannot be edited")
    if lower == "host":
        raise TemplateError("'Host' is changed by the rewrite of a route (its key host), not as a header field")
    return lower.encode("ascii")


def lines(fields: Iterable[Field]) -> bytes:
    """The lines of the fields as they are sent, in one piece."""
    return b"".join([field[2] for field in fields])


def _maker(name: str, value: str) -> Callable[[Facts], Field]:
    lower = edited_name(name)
    template = Template(value)
    start = name.encode("ascii") + b": "

    def made(facts: Facts) -> Field:
        text = template.render(facts).strip(b" \t")
        return lower, text, b"%b%b\r\n" % (start, text)

    if template.constant:
        field = made(_NO_FACTS)
        return lambda _: field
    return made
