"""How a session introduces its client to the backend: the PROXY header in front of the first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.model import SendProxySettings
from lbproxy.preamble import ProxyTls, encode_v1, encode_v2
from lbproxy.session.secured import tls_for_backends

if TYPE_CHECKING:
    from lbproxy.session.arrival import Arrival


def introduction(session: Arrival, settings: SendProxySettings) -> bytes:
    """The header for this client. UNIX peers have no address to tell; then it says so (UNKNOWN, or UNSPEC)."""
    source = session.source if session.source[0] else None
    local = session.local if session.local[0] else None
    if settings.version == 1:
        return encode_v1(source, local)
    wanted = settings.tlvs
    return encode_v2(
        source,
        local,
        authority=session.server_name if "authority" in wanted else None,
        alpn=next(iter(session.protocols), None) if "alpn" in wanted and session.agreed else None,
        unique_id=session.unique_id().encode() if "unique_id" in wanted else None,
        crc32c="crc32c" in wanted,
        tls=_tls(session) if "tls" in wanted else None,
    )


def _tls(session: Arrival) -> ProxyTls | None:
    """Of the TLS that we ended, else what the header that came in front of this session told."""
    if session.tls is not None:
        return tls_for_backends(session.tls)
    return None if session.header is None else session.header.tls
