"""How the words of HTTP are read: methods, hosts, paths, statuses.

Owns their grammar, as far as it can be judged without knowing what the key is for. Header fields are in
reading_fields.py, conditions on values and their regular expressions in reading_matches.py.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from lbproxy.config.reading_tls import ServerName
from lbproxy.config.readings import Reading, refuse
from lbproxy.config.units import closest, show
from lbproxy.http.messages import HttpError
from lbproxy.http.target import normalise, read_target

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
LONGEST = 4096
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Text(Reading):
    """What words of text have in common for editors."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class Method(Text):
    """A method, case and all (RFC 9110, section 9.1)."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not TOKEN.fullmatch(value) or len(value) > 32:
            refuse(f"is {show(value)}, it must be {self.words()}")
        if value.upper() in ("CONNECT", "TRACE"):
            refuse(f"is {show(value)}, which is always refused and never routed")
        if value != value.upper():
            meant = closest(value, [method.lower() for method in _METHODS])
            if meant is not None and meant != value.lower():
                refuse(f"is {show(value)}; methods go by case, did you mean {show(meant.upper())}?")
            refuse(f"is {show(value)}; methods go by case, write {show(value.upper())}")
        return value

    def words(self) -> str:
        return 'a method such as "GET"'


@dataclass(frozen=True)
class Host(ServerName):
    """A host to match, `*.name` for all below it, or an address as URLs have it."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and value.startswith("["):
            try:
                return f"[{ipaddress.IPv6Address(value[1:].removesuffix(']')).compressed}]"
            except ValueError:
                refuse(f"is {show(value)}, it must be {self.words()}, without port or scheme")
        return super().read(value)


@dataclass(frozen=True)
class SingleHost(Host):
    """One host, without a star."""

    star: str = 'is "*", it must be a single host'

    def read(self, value: object) -> str:
        if isinstance(value, str) and value.startswith("*."):
            refuse(f"is {show(value)}, it must be a single host")
        return super().read(value)

    def words(self) -> str:
        return 'a host such as "a.example"'


class PathText(Text):
    """A path as it is after normalising; one that could never match is told so."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.startswith("/"):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if len(value) > LONGEST:
            refuse(f"has {len(value)} characters, at most {LONGEST} are allowed")
        if value.rstrip("*") != value and value.rstrip("*").endswith("/"):
            refuse(f"is {show(value)}; for everything below write {show(value.rstrip('*'))}")
        if not value.isascii():
            refuse(f"is {show(value)}; write what is not ASCII as requests have it, as in /caf%C3%A9")
        try:
            path, query = read_target(value.encode())
            _, normal, _ = normalise(path)
        except HttpError as problem:
            refuse(f"is {show(value)}: {problem.message}")
        if query is not None:
            refuse(f"is {show(value)}; a path ends before the question mark, what is behind goes into query")
        if normal != path:
            refuse(f"is {show(value)}; requests are normalised, so write {show(normal.decode('ascii'))}")
        return value

    def words(self) -> str:
        return 'a path, "/a" for itself alone or "/a/" for everything below it'


class Prefix(PathText):
    """The beginning of a path, to be taken off or put in front."""

    def words(self) -> str:
        return 'the beginning of a path such as "/app"'


class StatusRange(Text):
    """One status, or a range of them."""

    def read(self, value: object) -> tuple[int, int]:
        low = high = value
        if isinstance(value, str) and (found := re.fullmatch(r"([0-9]{3})-([0-9]{3})", value)):
            low, high = int(found[1]), int(found[2])
        for one in (low, high):
            if not isinstance(one, int) or isinstance(one, bool) or not 100 <= one <= 599:
                refuse(f"is {show(value)}, it must be {self.words()}")
        if low > high:  # type: ignore[operator]  # both are int by now
            refuse(f"is {show(value)}; the lower status comes first")
        return int(low), int(high)  # type: ignore[call-overload]  # the same

    def words(self) -> str:
        return 'a status such as 200, or a range such as "200-399"'

    def json_schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 100, "maximum": 599}
        return {"anyOf": [number, {"type": "string", "pattern": "^[1-5][0-9]{2}-[1-5][0-9]{2}$"}]}


class ErrorStatus(Text):
    """The status of an error page, as a key."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch("[45][0-9]{2}", value):
            refuse(f"{show(value)} is no status of an error, it must be a number from 400 to 599")
        return value

    def words(self) -> str:
        return "a status from 400 to 599"


class CheckHost(Text):
    """The Host of a health check: a name or an address, perhaps with a port."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(
            r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", value
        ):
            refuse(f"is {show(value)}, it must be {self.words()}")
        return value

    def words(self) -> str:
        return 'a host such as "a.example" or "a.example:8080"'


class CheckTarget(Text):
    """What a health check asks for: a path, perhaps with a query."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"/[\x21-\x22\x24-\x7e]{0,2000}", value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        return value

    def words(self) -> str:
        return 'a path such as "/health"'


class Upgrade(Text):
    """A protocol that a connection may change to."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not TOKEN.fullmatch(value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if value.lower() == "h2c":
            refuse(f"is {show(value)}; lbproxy would have to speak HTTP/2 then, which it does not")
        return value.lower()

    def words(self) -> str:
        return 'the name of a protocol such as "websocket"'
