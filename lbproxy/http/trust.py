"""Where a request comes from: the one `client_ip`, and what backends are told of the way that led here.

Owns the walk over trusted addresses (X1, X3) and what is believed of X-Forwarded-For, -Proto, -Host, -Port, -Prefix
and Forwarded. Refuses to know which peers are trusted, which is configured, and how the fields came to be collected.
Nothing is passed on that was not read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lbproxy.addresses import NetworkSet
from lbproxy.http.forwarded import BLANKS, Hop, forwarded, hops, read_address, read_host, read_scheme
from lbproxy.http.messages import Field

# A field beyond either is dropped, and the peer is the client.
MOST_BYTES = 4096
MOST_ENTRIES = 32

_PORT = re.compile(rb"[0-9]{1,5}")
# No comma: a list of prefixes is none. No empty segment: whoever builds links from "//name" names another host.
_PREFIX = re.compile(rb"/|(?:/(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})+)+/?")
# Triplets that the reader of paths refuses, dots in disguise, and dot segments.
_DECEIVING = re.compile(rb"%(?:00|25|2[eE]|2[fF]|5[cC])|/\.\.?(?:[/;]|\Z)")


class Origin:
    """Where a request comes from. All values are checked, and safe to be sent and recorded.

    `client_ip` is the address for records, limits, hashing and rules, "" for a client behind a UNIX socket of whom
    nothing is told. `forwarded_for` is the whole X-Forwarded-For to send, the peer included, b"" for none. `proto`,
    `host`, `port` and `prefix` are what a trusted peer told, None where it told nothing. `elements` are the hops before
    the peer, the client's first.
    """

    __slots__ = ("client_ip", "elements", "forwarded_for", "host", "port", "prefix", "proto")

    def __init__(
        self,
        client_ip: str,
        forwarded_for: bytes,
        proto: bytes | None = None,
        host: bytes | None = None,
        port: bytes | None = None,
        prefix: bytes | None = None,
        elements: Sequence[Hop] = (),
    ) -> None:
        self.client_ip = client_ip
        self.forwarded_for = forwarded_for
        self.proto = proto
        self.host = host
        self.port = port
        self.prefix = prefix
        self.elements = elements


def walk(peer_ip: str, origin_fields: Sequence[Field], trusted: NetworkSet | None) -> Origin:
    """The origin of a request that `peer_ip` sent with these fields; "" is the peer of a UNIX socket, and trusted.

    What an untrusted peer sends is not looked at. From a trusted one, X-Forwarded-For is walked from right to left
    over trusted addresses: the first other one is the client, or the left-most where all are trusted. What is no
    address ends the walk; left of the client it is left out. Forwarded is walked where there is no X-Forwarded-For,
    and then tells the scheme and Host of the client's request where no X-Forwarded-Proto and -Host do. A field for one
    value that comes twice tells nothing. Never raises.
    """
    if not origin_fields or (peer_ip and (trusted is None or not _is_trusted(trusted, peer_ip))):
        return Origin(peer_ip, _sent(peer_ip))
    addresses: list[bytes] = []
    elements: list[bytes] = []
    single: dict[bytes, bytes] = {}
    for name, value, _ in origin_fields:
        if name == b"x-forwarded-for":
            addresses.append(value)
        elif name == b"forwarded":
            elements.append(value)
        else:
            single[name] = b"" if name in single else value
    told: Iterable[Hop | None] = ()
    if addresses:
        told = _addresses(addresses)
    elif elements and within_limits(b", ".join(elements)):
        told = hops(elements)
    client_ip, client, kept = _walked(peer_ip, told, trusted)
    proto = host = None
    if client >= 0:
        _, proto, host = kept[client]
    if single:
        proto = read_scheme(single.get(b"x-forwarded-proto", proto))
        host = read_host(single.get(b"x-forwarded-host", host))
        if client >= 0:
            kept[client] = (client_ip, proto, host)
    if len(kept) == 1 and peer_ip:
        sent = b"%b, %b" % (client_ip.encode("ascii"), _sent(peer_ip))
    else:
        kept.reverse()
        chain = [hop[0].encode("ascii") for hop in kept]
        if peer_ip:
            chain.append(_sent(peer_ip))
        sent = b", ".join(chain)
    if not single:
        return Origin(client_ip, sent, proto, host, None, None, kept)
    return Origin(
        client_ip,
        sent,
        proto,
        host,
        _port(single.get(b"x-forwarded-port")),
        _prefix(single.get(b"x-forwarded-prefix")),
        kept,
    )


def forwarded_line(origin: Origin, peer_ip: str, proto: bytes, host: bytes) -> bytes:
    """The value of Forwarded to send: the hops passed on, then the peer with scheme and Host of its request to us."""
    return forwarded([*origin.elements, (peer_ip, proto, host)])


def _walked(peer_ip: str, told: Iterable[Hop | None], trusted: NetworkSet | None) -> tuple[str, int, list[Hop]]:
    """The client, its place in what is passed on (-1 when it is the peer), and that, from right to left."""
    client_ip, client = peer_ip, -1
    kept: list[Hop] = []
    walking = True
    for hop in told:
        if hop is None:
            if walking:
                break
            continue
        if walking:
            client_ip, client = hop[0], len(kept)
            walking = trusted is not None and _is_trusted(trusted, client_ip)
        kept.append(hop)
    return client_ip, client, kept


def _addresses(lines: Sequence[bytes]) -> list[Hop | None]:
    """What X-Forwarded-For lists, from right to left."""
    text = lines[0] if len(lines) == 1 else b", ".join(lines)
    if not within_limits(text):
        return []
    told: list[Hop | None] = []
    for entry in text.split(b","):
        address = read_address(entry.strip(BLANKS))
        told.append(None if address is None else (address, None, None))
    told.reverse()
    return told


def within_limits(text: bytes) -> bool:
    return len(text) <= MOST_BYTES and text.count(b",") < MOST_ENTRIES


# Peers and proxies are few, and asking costs more than remembering.
@lru_cache(1024)
def _is_trusted(trusted: NetworkSet, address: str) -> bool:
    return address in trusted


def _sent(peer_ip: str) -> bytes:
    # A zone is this machine's own business.
    return (peer_ip.partition("%")[0] if "%" in peer_ip else peer_ip).encode("ascii")


def _port(value: bytes | None) -> bytes | None:
    return value if value and _PORT.fullmatch(value) and 0 < int(value) <= 65535 else None


def _prefix(value: bytes | None) -> bytes | None:
    return value if value and _PREFIX.fullmatch(value) and not _DECEIVING.search(value) else None
