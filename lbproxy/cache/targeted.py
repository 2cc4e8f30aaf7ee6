"""Dictionaries of structured fields (RFC 9651, section 4.2.2), as fields for caches of one kind are (RFC 9213).

Owns the grammar. Refuses to know any key. Such a field is right as a whole or not there.
"""

from __future__ import annotations

import re

# A boolean, an integer, or the text of a string or a token. Everything else (decimals, byte sequences, dates, inner
# lists) is None: no directive has such a value.
Member = bool | int | bytes | None

_KEY = rb"[a-z*][a-z0-9_\-.*]*+"
_BARE = (
    rb"(?:-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}|"
    rb'"(?:[ !#-\[\]-~]|\\["\\])*+"|'
    rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+|"
    rb":[A-Za-z0-9+/=]*+:|\?[01]|@-?[0-9]{1,15}|"
    rb'%"(?:[ !#$&-\[\]-~]|%[0-9a-f]{2})*+")'
)
_PARAMETERS = rb"(?:; *+" + _KEY + rb"(?:=" + _BARE + rb")?+)*+"
_ITEM = _BARE + _PARAMETERS
_LIST = rb"\( *+(?:" + _ITEM + rb"(?: ++" + _ITEM + rb")*+ *+)?+\)"
_MEMBER = re.compile(rb"(" + _KEY + rb")(?:=(?:(" + _BARE + rb")|(" + _LIST + rb")))?+" + _PARAMETERS)
_COMMA = re.compile(rb"[ \t]*+,[ \t]*+(?!\Z)")
_INTEGER = re.compile(rb"-?[0-9]++")
_PAIR = re.compile(rb"\\(.)")


def read_dictionary(value: bytes) -> dict[bytes, Member] | None:
    """The members of a dictionary by key; parameters are left out, and of several members of one key the last counts.
    None if this is no dictionary.
    """
    members: dict[bytes, Member] = {}
    value = value.strip(b" ")
    position = 0
    while position < len(value):
        if position:
            comma = _COMMA.match(value, position)
            if comma is None:
                return None
            position = comma.end()
        found = _MEMBER.match(value, position)
        if found is None:
            return None
        members[found[1]] = _member(found[2], inner=found[3] is not None)
        position = found.end()
    return members


def _member(bare: bytes | None, *, inner: bool) -> Member:
    if bare is None:
        return None if inner else True
    if bare[:1] == b"?":
        return bare == b"?1"
    if bare[:1] == b'"':
        return _PAIR.sub(rb"\1", bare[1:-1])
    if _INTEGER.fullmatch(bare):
        return int(bare)
    return bare if bare[:1].isalpha() or bare[:1] == b"*" else None
