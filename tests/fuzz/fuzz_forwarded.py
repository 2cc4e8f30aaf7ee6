"""Fuzz target: whatever a trusted peer passes on, the client is who it must be, and all that is sent is well-formed.

Run it as a program, with the options of libFuzzer: `python tests/fuzz/fuzz_forwarded.py -max_total_time=60`.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from lbproxy.addresses import NetworkSet, parse_ip
from lbproxy.http import forwarded, hosts, trust
from lbproxy.http.messages import Field

TRUSTED = NetworkSet(["10.0.0.0/8", "fd00::/8"])
PROXY = "10.0.0.1"
NAMES = (
    b"x-forwarded-for",
    b"forwarded",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-real-ip",
    b"x_forwarded_for",
)


def fuzz_one(data: bytes) -> None:
    """Read the lines of `data` as fields; the first byte of each chooses its name."""
    fields: list[Field] = [
        (NAMES[line[0] % len(NAMES)], line[1:].strip(b" \t"), b"") for line in data.split(b"\n") if line
    ]
    for peer in (PROXY, "", "203.0.113.9"):
        _check(peer, trust.walk(peer, fields, TRUSTED))
    for name, honest in (
        (b"x-forwarded-for", b"198.51.100.7, 10.0.0.2"),
        (b"forwarded", b'for=198.51.100.7, for="10.0.0.2"'),
    ):
        # What a client sent, and what the trusted ones before us appended to it.
        for lines in ([data + b", " + honest], [data, honest]):
            if trust.within_limits(b", ".join(lines)):
                origin = trust.walk(PROXY, [(name, line, b"") for line in lines], TRUSTED)
                assert origin.client_ip == "198.51.100.7", origin.client_ip
                _check(PROXY, origin)


def _check(peer: str, origin: trust.Origin) -> None:
    addresses = origin.forwarded_for.decode("ascii").split(", ") if origin.forwarded_for else []
    assert all(parse_ip(address) == address for address in addresses), addresses
    assert len(addresses) <= trust.MOST_ENTRIES + 1
    assert origin.client_ip in addresses or origin.client_ip == peer == ""
    assert peer not in TRUSTED or addresses[-1] == peer
    assert origin.proto in (None, b"http", b"https", b"ws", b"wss")
    assert origin.host is None or hosts.normalise_host(origin.host, 0)[1] == origin.host
    assert origin.port is None or 0 < int(origin.port) <= 65535
    assert origin.prefix is None or (origin.prefix.startswith(b"/") and not origin.prefix.startswith(b"//"))
    line = trust.forwarded_line(origin, peer or "192.0.2.1", b"https", b"a.example")
    told = list(forwarded.hops([line]))
    assert told[0] == (peer or "192.0.2.1", b"https", b"a.example"), line
    assert told[:0:-1] == list(origin.elements), line


def main() -> None:
    atheris: Any = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
