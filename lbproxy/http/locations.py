"""What gives a backend away in an answer, and how that is kept from the client.

Owns the names of fields that tell about servers, and the rewriting of locations that point at a backend. Refuses to
know which backends there are and whether anything is to be hidden.
"""

from __future__ import annotations

import re

# Fields that carry an address of the kind that `public_location` reads.
LOCATIONS: frozenset[bytes] = frozenset((b"content-location", b"location", b"refresh"))

# Fields that name software, versions and machines, and that nobody but a person reads.
REVEALING: frozenset[bytes] = frozenset(
    (
        b"server",
        b"x-application-context",
        b"x-aspnet-version",
        b"x-aspnetmvc-version",
        b"x-backend",
        b"x-backend-server",
        b"x-envoy-upstream-service-time",
        b"x-generator",
        b"x-hostname",
        b"x-instance-id",
        b"x-node",
        b"x-php-version",
        b"x-powered-by",
        b"x-powered-by-plesk",
        b"x-runtime",
        b"x-served-by",
        b"x-server",
        b"x-server-name",
        b"x-upstream",
    )
)

# What Refresh has in front of its address, then scheme, authority and the rest (RFC 3986, section 3). A reference
# without a scheme may name a host too.
_ABSOLUTE = re.compile(
    rb"([ \t]*(?:[0-9.]+[ \t]*[;,][ \t]*(?:url[ \t]*=[ \t]*)?['\"]?)?)(https?:)?//([^/?#'\" \t\\]*)(.*)",
    re.DOTALL | re.IGNORECASE,
)
_DEFAULT_PORTS = {b"http:": b":80", b"https:": b":443"}


def public_location(value: bytes, backend_hosts: frozenset[bytes], scheme: bytes, authority: bytes) -> bytes:
    """The value of Location, Content-Location or Refresh as the client may see it.

    Where it leads to one of `backend_hosts` (in lower case, as host:port or the host alone, which may leave out the
    brackets of IPv6), it leads to the public `scheme` and `authority` instead, with the same path. Anything else is
    unchanged. A port that is the scheme's own may be there or not.
    """
    if b"//" not in value:
        return value
    found = _ABSOLUTE.fullmatch(value)
    if found is None:
        return value
    before, its_scheme, its_authority, rest = found.groups(b"")
    # What stands before "@" is a user's name, which leads nowhere.
    if backend_hosts.isdisjoint(_spellings(its_authority.rpartition(b"@")[2].lower(), its_scheme.lower())):
        return value
    return b"%b%b://%b%b" % (before, scheme, authority, rest)


def _spellings(host: bytes, scheme: bytes) -> list[bytes]:
    """All that the host of an address may be configured as."""
    port = _DEFAULT_PORTS.get(scheme, b"")
    alone = host.removesuffix(port)
    spellings = [host, alone, alone + port]
    if alone.startswith(b"[") and alone.endswith(b"]"):
        spellings.append(alone[1:-1])
    return spellings
