"""Which rows a run has, in the order of the report."""

from bench.rows import Bulk, Idle, IdleMemory, Latency, NewConnections, RoundTrips, Row, Scale
from bench.rows_cache import Coded, Cold, StoredBody, StoredKilobyte, StoredMany
from bench.rows_http import (
    HttpBodies,
    HttpChunked,
    HttpConnections,
    HttpKilobytes,
    HttpLatency,
    HttpRoundTrips,
    HttpRoutes,
    HttpsRoundTrips,
    HttpUnique,
    WebSocketEcho,
)
from bench.rows_tls import Handshakes, PassThrough, TlsBulk, TlsIdleMemory, TlsRoundTrips


def all_rows(scale: Scale) -> list[Row]:
    """The rows in the order of the report."""
    return [
        RoundTrips(),
        NewConnections(),
        Bulk(1),
        Bulk(64),
        IdleMemory(scale.held),
        Latency(),
        Idle(scale.idle_connections, scale.idle_seconds),
        TlsRoundTrips(),
        Handshakes(resumed=False),
        Handshakes(resumed=True),
        TlsBulk("download"),
        TlsBulk("upload"),
        TlsIdleMemory(scale.held_tls),
        PassThrough(),
        HttpRoundTrips(),
        HttpKilobytes(),
        HttpUnique(),
        HttpBodies("1m"),
        HttpBodies("100m"),
        HttpChunked(),
        HttpConnections(),
        HttpsRoundTrips(),
        HttpLatency(),
        WebSocketEcho(),
        HttpRoutes(),
        StoredKilobyte(),
        StoredMany(),
        StoredBody(),
        Cold(),
        Coded("gzip"),
        Coded("zstd"),
    ]
