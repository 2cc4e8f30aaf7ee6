"""Which site is meant: Host fields and authorities, normalised once (T13, T15).

Owns the one function that routes, TLS choice, keys and what is forwarded go by. Refuses to look anything up, and to
guess what a name that is no host name might mean.
"""

from __future__ import annotations

import ipaddress
import re

from lbproxy.errors import BAD_REQUEST
from lbproxy.http.messages import HttpError

MAX_HOST = 255

# RFC 1123, 2.1, and the underscore that names within private networks have. Lower case only.
_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(_LABEL + rb"(?:\." + _LABEL + rb")*+")
_PLAIN = re.compile(rb"((?:[^:\[\]]++|\[[0-9a-f:.]{2,45}+\]))(?::([1-9][0-9]{0,4}))?+")


def normalise_host(raw: bytes, default_port: int) -> tuple[bytes, bytes]:
    """The host in lower case without port and trailing dot, and the authority: with its port, if not the default one.

    IPv6 addresses keep their brackets in both, and are written as RFC 5952 has them. Raises HttpError (T13).
    """
    if len(raw) > MAX_HOST:
        raise _bad(f"longer than {MAX_HOST} bytes")
    parts = _PLAIN.fullmatch(raw.lower())
    if parts is None:
        raise _bad("not a host name or address with or without a port")
    host: bytes = parts[1]
    if host.startswith(b"["):
        host = _literal(host[1:-1])
    else:
        host = host.removesuffix(b".")
        if _NAME.fullmatch(host) is None:
            raise _bad("not made of labels of letters, digits and hyphens")
    if parts[2] is None:
        return host, host
    port = int(parts[2])
    if port > 65535:
        raise _bad("followed by a port above 65535")
    return host, host if port == default_port else b"%b:%d" % (host, port)


def _literal(address: bytes) -> bytes:
    try:
        return b"[%b]" % ipaddress.IPv6Address(address.decode("ascii")).compressed.encode()
    except ValueError:
        raise _bad("not an IPv6 address within its brackets") from None


def _bad(what: str) -> HttpError:
    return HttpError(BAD_REQUEST, "T13", f"the host is {what}")
