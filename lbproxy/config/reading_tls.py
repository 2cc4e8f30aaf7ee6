"""How files, server names and protocol names are read, each with the sentence for the usual slip.

Owns their grammar only. Refuses to know whether a file is there: checks_tls.py has that found out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lbproxy.config.readings import Reading, refuse
from lbproxy.config.units import show

# The system takes longer ones, but nobody means them, and a path is repeated in sentences.
_LONGEST_PATH = 1024
_SERVER_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*",
    re.IGNORECASE,
)
_PROTOCOL = re.compile(r"[\x21-\x7e]{1,255}")
_PROTOCOL_SLIPS = {"http/2": "h2", "http2": "h2", "http/2.0": "h2", "http1.1": "http/1.1", "http/1": "http/1.1"}


class FilePath(Reading):
    """A file or directory; a relative one counts from the directory of the configuration file."""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if not value:
            refuse(f"is empty, it must be {self.words()}")
        if "\0" in value:
            refuse(f"is {show(value)}; no path has a NUL in it")
        if len(value.encode()) > _LONGEST_PATH:
            refuse(f"has {len(value.encode())} bytes, at most {_LONGEST_PATH} are allowed")
        return value

    def words(self) -> str:
        return "a path"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class ServerName(Reading):
    """A server name to match, `*.name` for all below it; lower case, since names have none.

    `star` is the sentence for a lone "*"; `tls` leaves out what no client names in a handshake.
    """

    star: str
    tls: bool = False

    def read(self, value: object) -> str:
        if value == "*":
            refuse(self.star)
        name = _read_name(value, self.words())
        if self.tls and _is_address(name):
            refuse(f"is {show(value)}; a TLS server name is never an address")
        return name

    def words(self) -> str:
        return '"a.example" or "*.example"'

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class ExactName(Reading):
    """One server name, for a TLS handshake or a certificate."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and "*" in value:
            refuse(f"is {show(value)}, it must be a single name")
        name = _read_name(value, self.words())
        if _is_address(name):
            refuse(f"is {show(value)}; a TLS server name is never an address")
        return name

    def words(self) -> str:
        return 'a name such as "a.example"'

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class Protocol(Reading):
    """The name of a protocol for ALPN (RFC 7301), as IANA lists them."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _PROTOCOL.fullmatch(value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        meant = _PROTOCOL_SLIPS.get(value.lower(), value.lower() if value.lower() == "http/1.1" else value)
        if meant != value:
            refuse(f"is {show(value)}; this protocol is called {show(meant)} in ALPN")
        return value

    def words(self) -> str:
        return 'the name of a protocol such as "h2" or "http/1.1", of 1 to 255 ASCII characters without blanks'

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": 255}


def _read_name(value: object, words: str) -> str:
    if not isinstance(value, str):
        refuse(f"is {show(value)}, it must be {words}")
    if not value.isascii():
        refuse(f'is {show(value)}; write names outside ASCII in their "xn--" form')
    if not _SERVER_NAME.fullmatch(value):
        refuse(f"is {show(value)}, it must be {words}, without port or scheme")
    return value.lower()


def _is_address(name: str) -> bool:
    # What ends in a number is no host name but an IPv4 address, or a slip in one; IPv6 has colons.
    return name.rpartition(".")[2].isdigit()
