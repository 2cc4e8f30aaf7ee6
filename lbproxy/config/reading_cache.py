"""How the words of caching and compression are read: query parameters that may end in a star, fields that may be part
of a key, media types.

Owns which names make no sense there, each with the sentence that says what to write instead.
"""

from __future__ import annotations

import re

from lbproxy.config.reading_fields import MatchedFieldName
from lbproxy.config.reading_http import TOKEN, Text
from lbproxy.config.reading_matches import ParameterName
from lbproxy.config.readings import refuse
from lbproxy.config.units import show

_TYPE = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]+/[!#$%&'+.^_`|~0-9A-Za-z-]+")
_NO_PART_OF_A_KEY = {
    "host": "is part of every key; leave it out",
    "cookie": "holds far more than one value; write cookies with the names of those that count",
    "accept-encoding": "is taken care of: each coding of an answer is kept apart",
    "range": "would keep the same bytes many times; parts are served from whole answers anyway",
    "cache-control": "is about caches, not about what is asked for; see client_revalidate",
    "pragma": "is about caches, not about what is asked for; see client_revalidate",
}


class ParameterPattern(ParameterName):
    """The name of a query parameter, or its beginning and a star."""

    def read(self, value: object) -> str:
        name = super().read(value)
        if "*" in name[:-1]:
            refuse(f"is {show(name)}; a star stands at the end only")
        return name

    def words(self) -> str:
        return 'a name, or a beginning such as "utm_*"'


class KeyFieldName(MatchedFieldName):
    """The name of a header field whose value may tell stored answers apart."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and TOKEN.fullmatch(value):
            lower = value.lower()
            if why := _NO_PART_OF_A_KEY.get(lower):
                refuse(f"{show(value)} {why}")
            if lower.startswith("if-"):
                refuse(f"{show(value)} asks whether an answer is still right, and is no part of what is asked for")
        return super().read(value)


class CodedType(Text):
    """A media type without parameters, in lower case."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and "*" in value:
            refuse(f"is {show(value)}; write each type by its full name")
        if not isinstance(value, str) or len(value) > 256 or not _TYPE.fullmatch(value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        return value.lower()

    def words(self) -> str:
        return 'a media type such as "application/x-font"'
