"""What Cache-Control says, in requests and answers (RFC 9111, section 5.2).

Owns the reading of the list, and which of several fields is asked. Refuses to know what follows from a directive. What
is not written as it should be is read in the way that lets less be stored and used: a number that is none is 0, a list
of field names that is none stands for the whole answer, a word in a member that is none is a directive. Of several
numbers for one directive the first counts (RFC 9111, 4.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lbproxy.cache.targeted import read_dictionary
from lbproxy.http.lines import BLANKS, TOKEN, TOKEN_CLASS, elements
from lbproxy.http.messages import RequestHead, ResponseHead

# RFC 9111, 1.2.2: what is more than this may be this.
MOST_SECONDS = float(2**31)
FOREVER = float("inf")


@dataclass(slots=True)
class Directives:
    """The directives that are there. Seconds are None where there is no such directive, infinite for `max-stale` alone.

    `no_cache` and `private` are the forms without field names; with them the names are, in lower case, in
    `no_cache_fields` and `private_fields`. `targeted` tells that they come from a field that overrules Cache-Control
    and Expires. Nobody changes one after reading.
    """

    no_store: bool = False
    no_cache: bool = False
    no_cache_fields: frozenset[bytes] = frozenset()
    private: bool = False
    private_fields: frozenset[bytes] = frozenset()
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    s_maxage: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    targeted: bool = False


NOTHING = Directives()

# What restricts counts even with an argument that it should not have; what permits does not.
_RESTRICTING = {
    b"no-store": "no_store",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"no-transform": "no_transform",
    b"only-if-cached": "only_if_cached",
}
_PERMITTING = {b"public": "public", b"must-understand": "must_understand", b"immutable": "immutable"}
_SECONDS = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"stale-while-revalidate": "stale_while_revalidate",
    b"stale-if-error": "stale_if_error",
    b"min-fresh": "min_fresh",
    b"max-stale": "max_stale",
}
_NAMING = {b"no-cache": ("no_cache", "no_cache_fields"), b"private": ("private", "private_fields")}
_FLAGS = _RESTRICTING | _PERMITTING

# What was read of answers: backends say the same few things over and over.
MEMO_VALUES = 1024
MEMO_LENGTH = 256
_read: dict[bytes, Directives] = {}

_DIGITS = re.compile(rb"[0-9]++")
_ARGUMENT = re.compile(TOKEN_CLASS + rb'++|"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
# One member of the list; a quoted string in it may hold commas. One that does not end takes the rest with it.
_MEMBER = re.compile(rb'(?:[^,"]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))++', re.DOTALL)


def read_directives(values: Iterable[bytes]) -> Directives:
    """The directives in the lines of Cache-Control; those that are not known are left out."""
    read = Directives()
    for value in values:
        for member in value.split(b",") if b'"' not in value else _MEMBER.findall(value):
            member = member.strip(BLANKS)
            name, equals, argument = member.partition(b"=")
            if TOKEN.fullmatch(name) and (not equals or _ARGUMENT.fullmatch(argument)):
                _note(read, name.lower(), argument if equals else None)
            else:
                # A comma or quote is missing, or a blank too many: no word that restricts is lost in it.
                for word in TOKEN.findall(member):
                    _note(read, word.lower(), b"")
    return read


def response_directives(answer: ResponseHead, *, targeted: bool) -> Directives:
    """Those of an answer: with `targeted` of CDN-Cache-Control, where it can be read and is not empty (RFC 9213, 2.2),
    else of Cache-Control.
    """
    if targeted:
        lines = [value for name, value, _ in answer.fields if name == b"cdn-cache-control"]
        found = _targeted(b", ".join(lines)) if lines else None
        if found is not None:
            return found
    values = [value for name, value, _ in answer.fields if name == b"cache-control"]
    if not values:
        return NOTHING
    # No value has a line end.
    joined = b"\n".join(values)
    return _read.get(joined) or _learn(joined, values)


def request_directives(head: RequestHead) -> Directives:
    """Those of a request. Without Cache-Control, `Pragma: no-cache` is one (RFC 9111, 5.4)."""
    values = [value for name, value, _ in head.fields if name == b"cache-control"]
    if values:
        return read_directives(values)
    for name, value, _ in head.fields:
        if name == b"pragma" and b"no-cache" in elements(value):
            return Directives(no_cache=True)
    return NOTHING


def read_seconds(value: bytes) -> float | None:
    """A number of seconds, None for what is none (RFC 9111, 1.2.2)."""
    if _DIGITS.fullmatch(value) is None:
        return None
    digits = value.lstrip(b"0") or b"0"
    return MOST_SECONDS if len(digits) > 10 else min(float(int(digits)), MOST_SECONDS)


def _learn(joined: bytes, values: list[bytes]) -> Directives:
    read = read_directives(values)
    if len(joined) <= MEMO_LENGTH:
        if len(_read) >= MEMO_VALUES:
            _read.clear()
        _read[joined] = read
    return read


def _note(read: Directives, name: bytes, argument: bytes | None) -> None:
    if name in _SECONDS:
        slot = _SECONDS[name]
        if getattr(read, slot) is None:
            setattr(read, slot, _number(name, argument))
    elif name in _NAMING:
        whole, fields = _NAMING[name]
        names = None if argument is None else _names(_unquoted(argument))
        if names is None:
            setattr(read, whole, True)
        else:
            setattr(read, fields, getattr(read, fields) | names)
    elif name in _RESTRICTING:
        setattr(read, _RESTRICTING[name], True)
    elif name in _PERMITTING and argument is None:
        setattr(read, _PERMITTING[name], True)


def _number(name: bytes, argument: bytes | None) -> float:
    if argument is None:
        return FOREVER if name == b"max-stale" else 0.0
    return read_seconds(_unquoted(argument)) or 0.0


def _names(value: bytes) -> frozenset[bytes] | None:
    names = elements(value)
    return frozenset(names) if names and all(TOKEN.fullmatch(name) for name in names) else None


def _unquoted(argument: bytes) -> bytes:
    return _PAIR.sub(rb"\1", argument[1:-1]) if argument[:1] == b'"' else argument


def _targeted(value: bytes) -> Directives | None:
    """The directives of a targeted field, None when it is empty, no dictionary, or has one with a value of the wrong
    type: it is as if it were not there then.
    """
    members = read_dictionary(value)
    if not members:
        return None
    read = Directives(targeted=True)
    for name, member in members.items():
        if name in _FLAGS:
            if not isinstance(member, bool):
                return None
            setattr(read, _FLAGS[name], member)
        elif name in _SECONDS:
            if isinstance(member, bool) or not isinstance(member, int):
                return None
            setattr(read, _SECONDS[name], min(max(float(member), 0.0), MOST_SECONDS))
        elif name in _NAMING:
            if not isinstance(member, bool | bytes):
                return None
            if member is not False:
                _note(read, name, None if member is True else member)
    return read
