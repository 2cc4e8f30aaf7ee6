"""Network addresses as frozen values: how they are written, and sets of networks.

Owns the one reading of an address as a user writes it, and the one way of printing it.
Refuses to know sockets: nothing here resolves a name or opens anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
# What inet_aton, and so the resolver, reads as an IPv4 address: "127.1", "2130706433", "0x7f.1".
_NUMBERS = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)(?:\.(?:[0-9]+|0[xX][0-9A-Fa-f]*))*\.?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
# The kernel's sun_path holds 108 bytes with the closing NUL.
_UNIX_PATH_BYTES = 107

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

Kind = Literal["ip", "name", "unix", "systemd"]


class AddressError(ValueError):
    """An address that cannot be read; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place to bind or to dial.

    `kind` tells how to read the rest: "ip" and "name" use `host` and `port`; for "unix" `host` is the
    path ("@name" is in the abstract space); for "systemd" it is the name of the passed socket.
    """

    kind: Kind
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.kind in ("unix", "systemd"):
            return f"{self.kind}:{self.host}"
        return join_host_port(self.host, self.port)


def join_host_port(host: str, port: int) -> str:
    """Write host and port the usual way, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:80`, `[::1]:80`, `name:80`, `unix:/path`, `unix:@abstract` or `systemd:name`.

    IPv6 hosts come back in their shortest form. Raises AddressError with a sentence for the user.
    """
    if text.startswith("unix:"):
        return _unix(text, text[5:])
    if text.startswith("systemd:"):
        name = text[8:]
        if not name or ":" in name or not name.isascii() or not name.isprintable():
            raise AddressError(f'{text!r} needs the name of a passed socket, as in "systemd:http"')
        return Address("systemd", name)
    host, port_text = _split(text)
    port = _port(text, port_text)
    literal = parse_ip(host)
    if literal is not None:
        return Address("ip", literal, port)
    if _NUMBERS.fullmatch(host) or not _NAME.fullmatch(host):
        raise AddressError(f"{text!r}: {host!r} is neither an IP address nor a host name")
    return Address("name", host.lower(), port)


def parse_ip(text: str) -> str | None:
    """The canonical text of an IP address, mapped IPv4 unwrapped; None when it is not one (zones are refused)."""
    address = _ip(text)
    return None if address is None else str(address)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _unix(text: str, path: str) -> Address:
    if not path.startswith(("/", "@")) or len(path) < 2 or "\0" in path:
        raise AddressError(f'{text!r} needs an absolute path, as in "unix:/run/app.sock" (or "unix:@name")')
    try:
        # A command line may carry any bytes; Python hands those that are no UTF-8 on as lone surrogates.
        size = len(path.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        raise AddressError(f"{text!r}: the path has characters that no file name can have") from None
    if size > _UNIX_PATH_BYTES:
        raise AddressError(f"{text!r}: the path has {size} bytes, a UNIX socket allows {_UNIX_PATH_BYTES}")
    return Address("unix", path)


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":") or ":" not in host:
            raise AddressError(f"{text!r} is not an address; IPv6 is written [::1]:80")
        return host, rest[1:]
    host, colon, port = text.rpartition(":")
    if not colon:
        raise AddressError(f"{text!r} has no port; write it as {text}:80")
    if ":" in host:
        # In "::1" the last group is no port; in "fe80::1:80" it may be either, and is taken for one.
        meant = f"[{host}]:{port}" if parse_ip(host) else f"[{text}]:80" if parse_ip(text) else "[::1]:80"
        raise AddressError(f"{text!r}: write an IPv6 address in brackets, as in {meant}")
    return host, port


def _port(text: str, port: str) -> int:
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise AddressError(f"{text!r}: the port is {port!r}, it must be a number from 1 to 65535")
    return int(port)


class NetworkSet:
    """A set of IP networks, asked by address text in time that does not grow with the set.

    One dictionary per prefix length in use, longest first, keyed by the network part as an integer.
    `source` keeps what the user wrote.
    """

    __slots__ = ("_by_prefix", "source")

    def __init__(self, networks: Iterable[str]) -> None:
        self.source: tuple[str, ...] = tuple(networks)
        tables: dict[tuple[int, int], set[int]] = {}
        for text in self.source:
            network = parse_network(text)
            shift = network.max_prefixlen - network.prefixlen
            tables.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._by_prefix = tuple((version, shift, frozenset(keys)) for (version, shift), keys in sorted(tables.items()))

    def __contains__(self, address: object) -> bool:
        """Whether the address, as text, lies in one of the networks; text that is no IP address never does.

        A mapped IPv4 address is looked for among the IPv4 networks.
        """
        if not self._by_prefix or not isinstance(address, str):
            return False
        parsed = _ip(address)
        if parsed is None:
            return False
        number, version = int(parsed), parsed.version
        return any(version == v and (number >> shift) in keys for v, shift, keys in self._by_prefix)

    def __bool__(self) -> bool:
        return bool(self.source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkSet) and self._by_prefix == other._by_prefix

    def __hash__(self) -> int:
        return hash(self._by_prefix)

    def __repr__(self) -> str:
        return f"NetworkSet({list(self.source)!r})"


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read `10.0.0.0/8`, `2001:db8::/32` or a single address. Raises AddressError with a sentence for the user.

    A network of mapped IPv4 addresses comes back as the IPv4 network: addresses are unwrapped before they are
    looked for, so that as an IPv6 network it would never match.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as problem:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise AddressError(f"{text!r} is not a network; write it as 10.0.0.0/8 or 2001:db8::/32") from problem
        raise AddressError(f"{text!r} has bits set behind its prefix; did you mean {network}?") from problem
    if isinstance(network, ipaddress.IPv6Network) and "%" in text:
        raise AddressError(f"{text!r}: a zone has no meaning in a network")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        return ipaddress.IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network
