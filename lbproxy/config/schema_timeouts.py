"""The tables of timeouts: which clocks may be set where.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lbproxy.config.readings import Duration, Rate
from lbproxy.config.shapes import Table

_Timeout = Annotated[float | None, Duration(none=True)]


class AfterRouteTimeouts(Table):
    """Clocks that run once the pool is known. What is not set here is taken from the level above."""

    connect: _Timeout = Field(
        default=None, description="One try to connect to a backend; then the next backend is tried."
    )
    try_window: _Timeout = Field(
        default=None, description="From the start of the first try; after it no new try begins."
    )
    queue: _Timeout = Field(
        default=None, description="Waiting for a backend with a free slot; then the client is closed."
    )
    request_body_idle: _Timeout = Field(
        default=None, description="Without a byte of a request's body while it is awaited; then 408."
    )
    request_body_rate: Annotated[float | None, Rate()] = Field(
        default=None, description="The least pace of a request's body, on average after ten seconds; below it 408."
    )
    response_head: _Timeout = Field(
        default=None, description="From the whole request to the head of the answer; then 504."
    )
    response_body_idle: _Timeout = Field(
        default=None, description="Without a byte of an answer's body while it is awaited; then both sides are cut."
    )
    backend_idle: _Timeout = Field(
        default=None,
        description="A connection to a backend that waits for its next request; less than what backends allow.",
    )
    write_stall: _Timeout = Field(default=None, description="Without progress in writing to a peer that does not read.")
    tunnel_idle: _Timeout = Field(default=None, description="Without a byte either way; then both sides are closed.")
    half_closed: _Timeout = Field(default=None, description="Without a byte after one side has ended its half.")
    tls_handshake: _Timeout = Field(
        default=None,
        description="One handshake: with the client as its listener or the file says, with a backend at any level.",
    )


class AllTimeouts(AfterRouteTimeouts):
    """The clocks of a session. Every one has a finite default; "none" switches one off, with a warning."""

    proxy_header: Annotated[float | None, Duration(none=True, least=3.0)] = Field(
        default=None,
        description="From accept until the PROXY header is complete; clients on bad lines need three seconds.",
    )
    client_hello: Annotated[float | None, Duration(none=True, least=3.0)] = Field(
        default=None,
        description="Until the ClientHello is complete, where TLS passes through and a route asks what is in it.",
    )
    request_head: _Timeout = Field(
        default=None, description="From a request's first byte (of the first request: from accept) to its whole head."
    )
    client_idle: _Timeout = Field(default=None, description="A client's connection without a request.")
