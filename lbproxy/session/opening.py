"""The beginning of a session: what a client sends before its route is known.

Owns the PROXY header and the ClientHello, in this order, and what becomes of a client that sends something else.
Refuses to know TLS beyond that message: the gate begins it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.preamble import HeaderReader, HelloReader, PreambleError, ProxyHeader, looks_like_http
from lbproxy.session.phases import HANDSHAKE, HEADER, HELLO
from lbproxy.session.seams import ClientSide

if TYPE_CHECKING:
    from lbproxy.session.arrival import Arrival

# For those who speak HTTP to a port that speaks TLS (threats.md L10).
_HINT = b"This port speaks TLS. Write https:// in the address.\n"
_SPEAK_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_HINT), _HINT)
)
# The bytes are no TLS at all, as opposed to TLS that is malformed.
_NOT_TLS = "L10"


def begin(session: Arrival, client: ClientSide) -> None:
    """Wait for what comes first. Without a header it is known already who is admitted."""
    session.timeouts = session.opening.timeouts
    if not session.opening.header:
        session.admitted = session.peer[0]
        _await_hello(session, client)
        return
    session.phase = HEADER
    session.reader = HeaderReader()
    session.world.wheel.add(session, session.timeouts.proxy_header)
    client.start_reading()


def opening_arrived(session: Arrival, client: ClientSide) -> None:
    """The client sent bytes; its side keeps them."""
    if session.reader is not None:
        _header_arrived(session, client, session.reader)
    elif session.hello_reader is not None:
        _hello_arrived(session, client, session.hello_reader)


def _header_arrived(session: Arrival, client: ClientSide, reader: HeaderReader) -> None:
    try:
        header = reader.feed(client.take_kept())
    except PreambleError as problem:
        session.rule = problem.rule
        session.over(errors.PROXY_HEADER_BAD)
        return
    if header is not None:
        session.reader = None
        client.keep(reader.rest)
        _introduced(session, client, header)


def _introduced(session: Arrival, client: ClientSide, header: ProxyHeader) -> None:
    """The header told who the client is: now it can be admitted."""
    session.header = header
    if header.source is not None:
        session.source = header.source
    if header.destination is not None:
        session.local = header.destination
    refusal = session.gate.admit(session.source[0])
    if refusal is not None:
        session.over(refusal)
        return
    session.admitted = session.source[0]
    opening = session.opening
    if opening.tls or (opening.hello and header.authority is None):
        _await_hello(session, client)
    else:
        session.proceed()


def _await_hello(session: Arrival, client: ClientSide) -> None:
    """TLS is ended here, or routes ask which name the client wants: both are in its first message."""
    session.phase = HELLO
    session.hello_reader = reader = HelloReader()
    session.hello_began = session.world.clock()
    timeouts = session.timeouts
    session.world.wheel.sooner(session, timeouts.tls_handshake if session.opening.tls else timeouts.client_hello)
    client.start_reading()
    if client.keeps:
        _hello_arrived(session, client, reader)


def _hello_arrived(session: Arrival, client: ClientSide, reader: HelloReader) -> None:
    try:
        hello = reader.feed(client.kept)
    except PreambleError as problem:
        session.hello_reader = None
        _no_hello(session, client, problem)
        return
    if hello is None:
        return
    session.hello_reader = None
    session.hello = hello
    if session.opening.tls:
        session.phase = HANDSHAKE
        session.gate.secure(session, hello)
    else:
        session.proceed()


def _no_hello(session: Arrival, client: ClientSide, problem: PreambleError) -> None:
    """Something else than TLS: no name to go by, or no way to go on."""
    foreign = problem.rule == _NOT_TLS
    if foreign and not session.opening.tls:
        session.proceed()
        return
    session.rule = problem.rule
    if not session.opening.tls:
        session.over(errors.CLIENT_HELLO_BAD)
        return
    answer = _SPEAK_TLS if foreign and looks_like_http(client.kept) else b""
    session.refuse_handshake("not_tls" if foreign else "client_hello", problem.message, answer)


def silent(session: Arrival) -> None:
    """No byte came in time: a client of a protocol in which the server speaks first. It named nobody."""
    session.hello_reader = None
    session.proceed()
