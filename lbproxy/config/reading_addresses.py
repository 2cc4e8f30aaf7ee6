"""How addresses and networks are read, each with the sentence for the usual slip.

`lbproxy.addresses` owns the grammar of an address; this owns which kinds make sense where: a listener binds, a backend
is dialled, a record goes to a file or syslog. Refuses to resolve or open anything.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from lbproxy.addresses import Address, AddressError, parse_address, parse_network
from lbproxy.config.readings import Reading, refuse
from lbproxy.config.units import show
from lbproxy.model import RecordSettings

# Host name (253), port, brackets and "systemd:" fit; beyond it nobody means an address.
_LONGEST = 300
_SCHEME = re.compile(r"([a-z]+)://(.*)", re.IGNORECASE | re.DOTALL)
_BIND_WORDS = '"10.0.0.1:80", "0.0.0.0:80", "[::]:80", "unix:/run/app.sock" or "systemd:NAME"'
_SYSLOG_WORDS = '"syslog:/dev/log" or "syslog:10.0.0.1:514"'
_BACKEND_WORDS = '"10.0.0.1:80", "[2001:db8::1]:80", "app.example:80" or "unix:/run/app.sock"'


def _read_address(value: object, words: str) -> Address:
    if not isinstance(value, str) or not _is_word(value):
        refuse(f"is {show(value)}, it must be an address such as {words}")
    if len(value) > _LONGEST:
        refuse(f"has {len(value)} characters, it must be an address such as {words}")
    if found := _SCHEME.fullmatch(value):
        refuse(f"is {show(value)}; here an address has no scheme, write {show(found[2].rstrip('/'))}")
    try:
        return parse_address(value)
    except AddressError as problem:
        refuse(str(problem))


def _is_word(text: str) -> bool:
    """Whether text can be repeated in a sentence: the messages of addresses.py do so."""
    return text != "" and text.isprintable() and " " not in text


class _Text(Reading):
    """What addresses have in common for editors."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class Bind(_Text):
    """Where a listener accepts: an address or name of this machine, a UNIX path or a passed socket."""

    def read(self, value: object) -> Address:
        if isinstance(value, str) and re.fullmatch(r"\*?:[0-9]{1,5}", value):
            port = value.rpartition(":")[2]
            refuse(f'is {show(value)}; for every address write ["0.0.0.0:{port}", "[::]:{port}"]')
        return _read_address(value, _BIND_WORDS)

    def words(self) -> str:
        return _BIND_WORDS


class Backend(_Text):
    """Whom we dial."""

    def read(self, value: object) -> Address:
        address = _read_address(value, _BACKEND_WORDS)
        if address.kind == "systemd":
            refuse(f'is {show(value)}; only a listener can use a passed socket, a backend needs "host:port"')
        if address.kind == "ip":
            ip = ipaddress.ip_address(address.host)
            if ip.is_unspecified:
                refuse(f"is {show(value)}; that means every address of this machine, a backend needs a single one")
            if ip.is_multicast or address.host == "255.255.255.255":
                refuse(f"is {show(value)}; nobody can be connected to at a multicast or broadcast address")
        return address

    def words(self) -> str:
        return _BACKEND_WORDS


class Network(_Text):
    """A network or a single address, kept as written."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _is_word(value):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if len(value) > _LONGEST:
            refuse(f"has {len(value)} characters, it must be {self.words()}")
        try:
            parse_network(value)
        except AddressError as problem:
            refuse(str(problem))
        return value

    def words(self) -> str:
        return '"10.0.0.0/8", "2001:db8::/32" or a single address'


class UnixPath(_Text):
    """The control socket: an absolute path, with or without "unix:"."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.removeprefix("unix:").startswith(("/", "@")):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if len(value) > _LONGEST:
            refuse(f"has {len(value)} characters, it must be {self.words()}")
        path = value.removeprefix("unix:")
        if path.startswith("@"):
            refuse(f"is {show(value)}; an abstract socket has no file mode to protect it, write an absolute path")
        try:
            return parse_address(f"unix:{path}").host
        except AddressError as problem:
            refuse(str(problem))

    def words(self) -> str:
        return 'the absolute path of a UNIX socket, as in "unix:/run/lbproxy/control.sock"'


class RecordsTo(_Text):
    """Where records go, as the settings that say so."""

    def read(self, value: object) -> RecordSettings:
        if not isinstance(value, str):
            refuse(f"is {show(value)}, it must be {self.words()}")
        kind, colon, rest = value.partition(":")
        if value in ("stdout", "none"):
            plain: Literal["stdout", "none"] = "stdout" if value == "stdout" else "none"
            return RecordSettings(to=plain)
        if kind == "file" and colon:
            # After start the working directory is twistd's business, so a relative path would land anywhere.
            if not rest.startswith("/") or rest.endswith("/") or "\0" in rest:
                refuse(f'is {show(value)}; write the whole path of a file, as in "file:/var/log/lbproxy/records.log"')
            return RecordSettings(to="file", path=rest)
        if kind != "syslog" or not colon:
            refuse(f"is {show(value)}, it must be {self.words()}")
        address = _read_address(f"unix:{rest}" if rest.startswith("/") else rest, _SYSLOG_WORDS)
        if address.kind == "systemd" or address.host.startswith("@"):
            refuse(f"is {show(value)}, it must be {_SYSLOG_WORDS}")
        if address.kind == "name":
            refuse(f"is {show(value)}; write the daemon's IP address: looking its name up would make sessions wait")
        return RecordSettings(to="syslog", address=address)

    def words(self) -> str:
        return '"stdout", "none", "file:/PATH", "syslog:/PATH" or "syslog:ADDRESS:PORT"'
