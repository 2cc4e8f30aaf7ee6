"""How conditions on values are read: text, a beginning, a regular expression, being there or not; and hash keys.

Owns the spelling of these. Whether an expression is safe to match is for regex_guard.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lbproxy.config.reading_fields import MatchedFieldName
from lbproxy.config.reading_http import TOKEN
from lbproxy.config.readings import Reading, refuse
from lbproxy.config.regex_guard import refusal
from lbproxy.config.units import did_you_mean, show
from lbproxy.model_http import ValueMatch

_TEXT = re.compile(r"[\x20-\x7e]{0,4096}")
_FORMS = ("prefix", "regex")
_NAMED = ("header", "cookie", "query")
_PLAIN = ("client_ip", "path", "host", "sni")


class Pattern(Reading):
    """A regular expression that all of a value must match."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            refuse(f"is {show(value)}, it must be {self.words()}")
        if complaint := refusal(value):
            refuse(f"is {show(value)}; {complaint}")
        return value

    def words(self) -> str:
        return "a regular expression"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class Value(Reading):
    """What a named value must be."""

    def read(self, value: object) -> ValueMatch:
        if isinstance(value, bool):
            return ValueMatch("present" if value else "absent")
        if isinstance(value, str):
            return ValueMatch("exact", _text(value))
        if not isinstance(value, dict):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if unknown := [key for key in value if key not in _FORMS]:
            refuse(f"has the key {show(unknown[0])}, known are prefix and regex{did_you_mean(unknown[0], _FORMS)}")
        if len(value) != 1:
            refuse("must have one of the keys prefix and regex")
        if "regex" in value:
            return ValueMatch("regex", Pattern().read(value["regex"]))
        beginning = value["prefix"]
        if not isinstance(beginning, str) or not beginning:
            refuse(f"has the prefix {show(beginning)}, it must be text that is not empty")
        return ValueMatch("prefix", _text(beginning))

    def words(self) -> str:
        return 'text, true (is there), false (is not there), { prefix = "..." } or { regex = "..." }'

    def json_schema(self) -> dict[str, Any]:
        tables = [
            {
                "type": "object",
                "properties": {key: {"type": "string"}},
                "required": [key],
                "additionalProperties": False,
            }
            for key in _FORMS
        ]
        return {"anyOf": [{"type": "string"}, {"type": "boolean"}, *tables]}


class ParameterName(Reading):
    """The name of a query parameter, or of a cookie."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,256}", value) or re.search("[&=#;]", value):
            refuse(f"{show(value)} is no name; write printable ASCII characters without blanks and without & = # ;")
        return value

    def words(self) -> str:
        return "a name"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class CookieName(Reading):
    """The name of a cookie (RFC 6265, section 4.1.1)."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not TOKEN.fullmatch(value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        return value

    def words(self) -> str:
        return "the name of a cookie, of letters, digits, dashes and underscores"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class Key(Reading):
    """Which value of a request stands for its client: `plain` words, and `named` ones with a colon and a name."""

    plain: tuple[str, ...] = _PLAIN
    named: tuple[str, ...] = _NAMED

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            refuse(f"is {show(value)}, it must be {self.words()}")
        kind, colon, name = value.partition(":")
        if not colon:
            if value in self.plain:
                return value
            if value in self.named:
                refuse(f'is {show(value)}; write the name with it, as in "{value}:NAME"')
            refuse(f"is {show(value)}, it must be {self.words()}{did_you_mean(value, self.plain)}")
        if kind not in self.named:
            refuse(f"is {show(value)}, it must be {self.words()}")
        if kind == "header":
            if name.lower() == "host" and "host" in self.plain:
                refuse(f'is {show(value)}; write "host"')
            # Fields are looked up by their names in lower case.
            return f"header:{MatchedFieldName().read(name).lower()}"
        (CookieName() if kind == "cookie" else ParameterName()).read(name)
        return value

    def words(self) -> str:
        forms = [f'"{word}"' for word in self.plain] + [f'"{kind}:NAME"' for kind in self.named]
        return f"{', '.join(forms[:-1])} or {forms[-1]}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({'|'.join(self.plain)}|({'|'.join(self.named)}):.+)$"}


def _text(value: str) -> str:
    if not _TEXT.fullmatch(value):
        refuse(f"is {show(value)}, it must be printable ASCII text")
    return value
