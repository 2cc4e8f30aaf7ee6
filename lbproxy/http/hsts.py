"""Strict-Transport-Security (RFC 6797): the answer's field that keeps browsers on https.

Owns its syntax. Refuses to know which answers carry it: only those over TLS may (section 7.2).
"""

from __future__ import annotations

from lbproxy.http.messages import Field


def hsts_field(max_age: float, subdomains: bool) -> Field:
    """The field for a number of seconds, of which whole ones count; 0 makes browsers forget."""
    value = b"max-age=%d" % max(0, int(max_age))
    if subdomains:
        value += b"; includeSubDomains"
    return b"strict-transport-security", value, b"Strict-Transport-Security: %b\r\n" % value
