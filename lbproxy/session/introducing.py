"""How a session introduces its client to the backend: the PROXY header in front of the first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.model import SendProxySettings
from lbproxy.preamble import encode_v1, encode_v2

if TYPE_CHECKING:
    from lbproxy.session.relay import Relay


def introduction(session: Relay, settings: SendProxySettings) -> bytes:
    """The header for this client. UNIX peers have no address to tell; then it says so (UNKNOWN, or UNSPEC)."""
    source = session.source if session.source[0] else None
    local = session.local if session.local[0] else None
    if settings.version == 1:
        return encode_v1(source, local)
    return encode_v2(
        source,
        local,
        authority=session.header.authority if session.header and "authority" in settings.tlvs else None,
        unique_id=session.unique_id().encode() if "unique_id" in settings.tlvs else None,
        crc32c="crc32c" in settings.tlvs,
    )
