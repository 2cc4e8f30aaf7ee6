"""How header fields are read: names that a configuration may touch, values, and templates for them and for URLs.

Owns which use of a field allows which names, each with the sentence for those it does not. What frames a message is
known to `lbproxy.http`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lbproxy.config.reading_http import LONGEST, TOKEN, Text
from lbproxy.config.readings import refuse
from lbproxy.config.units import show
from lbproxy.http.edits import edited_name
from lbproxy.http.names import HOP_BY_HOP, is_origin
from lbproxy.http.templates import Template, TemplateError

_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: *;[\x20-\x7e]*)?")


class FieldName(Text):
    """The name of a header field that a configuration may set or remove."""

    def read(self, value: object) -> str:
        name = _field_name(value)
        try:
            edited_name(name)
        except TemplateError as problem:
            refuse(str(problem))
        return name

    def words(self) -> str:
        return "the name of a header field"


class MatchedFieldName(FieldName):
    """The name of a header field that a route may go by."""

    def read(self, value: object) -> str:
        name = _field_name(value)
        lower = name.lower().encode()
        if lower == b"host":
            refuse('"Host" is no field to go by; write host = "a.example"')
        if lower in HOP_BY_HOP or lower == b"content-length":
            refuse(f"{show(name)} belongs to the connection, so routes cannot go by it")
        if is_origin(lower):
            refuse(f"{show(name)} is believed from trusted_peers only, so routes cannot go by it; use client or host")
        return name


class AnswerFieldName(FieldName):
    """The name of a header field of an answer of our own."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and value.lower() == "content-type":
            refuse("the type of an answer is set with content_type")
        if isinstance(value, str) and value.lower() == "date":
            refuse("every answer gets the date of its making")
        return super().read(value)


class CheckFieldName(FieldName):
    """The name of a header field of a health check."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and value.lower() == "host":
            refuse("the Host of a check is set with host")
        return super().read(value)


class FieldValue(Text):
    """The value of a header field, sent as it is (RFC 9110, section 5.5)."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > LONGEST or (value and not _VALUE.fullmatch(value)):
            refuse(f"is {show(value)}, it must be {self.words()}")
        return value

    def words(self) -> str:
        return "printable ASCII text without blanks at its ends"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True)
class TemplateText(Text):
    """A text with placeholders. `groups` tells that {1} to {9} are allowed, as far as another key brings them."""

    groups: bool = False
    empty: bool = False

    def read(self, value: object) -> str:
        if not isinstance(value, str) or (value == "" and not self.empty):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if len(value) > LONGEST:
            refuse(f"has {len(value)} characters, at most {LONGEST} are allowed")
        if value != value.strip(" "):
            refuse(f"is {show(value)}; blanks at its ends would be lost")
        try:
            Template(value, 9 if self.groups else 0)
        except TemplateError as problem:
            refuse(str(problem))
        return value

    def words(self) -> str:
        return "text, perhaps with placeholders such as {host}"


class RedirectTo(TemplateText):
    """Where a client is sent: a whole URL, or a path of the same host."""

    def read(self, value: object) -> str:
        text = super().read(value)
        if not re.match(r"https?://[^/]|/|\{(?:scheme|path|uri)\}", text, re.IGNORECASE):
            refuse(f"is {show(text)}, it must begin with https://, http:// or /")
        return text

    def words(self) -> str:
        return 'a URL, perhaps with placeholders, such as "https://new.example{uri}"'


class MediaType(Text):
    """The value of a Content-Type."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > 256 or not _MEDIA_TYPE.fullmatch(value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        return value

    def words(self) -> str:
        return 'a media type such as "text/html; charset=utf-8"'


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        refuse(f"{show(value)} is not the name of a header field; it has letters, digits and dashes, at most 256")
    return value
