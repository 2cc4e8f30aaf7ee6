"""The record of a session: the one line that it leaves behind.

Owns the fields, their order and their words; refuses to know where records go. Times are milliseconds, -1 for a
phase that was never reached. Texts from outside are cut here and escaped by the encoder.
"""

from __future__ import annotations

import msgspec

from lbproxy.errors import CONNECT_TIMEOUT, Outcome, TryError
from lbproxy.session.arrival import Arrival
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange import Exchange
from lbproxy.session.phases import PHASES, TUNNEL
from lbproxy.session.relay import Relay
from lbproxy.session.retrying import Try
from lbproxy.session.seeking import Seeker
from lbproxy.session.tunnel import Tunnel

# Of one field, in characters; see threats.md, section 2.
FIELD = 1024


class TryRecord(msgspec.Struct):
    """One try at one backend; `error` is null for the one that succeeded."""

    backend: str
    address: str
    error: str | None
    ms: float
    # See Try.
    klass: str = msgspec.field(name="class", default="A")
    detail: str = ""
    reused: bool = False


class RelayRecord(msgspec.Struct):
    """What a TCP session leaves behind, in the order in which it is written."""

    ts: str
    id: str
    listener: str
    client: str
    peer: str
    protocol: str
    route: str
    route_line: int
    pool: str
    backend: str
    policy: str
    outcome: str
    state: str
    flag: str
    timer: str
    rule: str
    bytes_in: int
    bytes_out: int
    t_queue_ms: float
    t_connect_ms: float
    t_first_byte_ms: float
    t_total_ms: float
    retries: int
    tries: list[TryRecord]
    conns_process: int
    conns_listener: int
    conns_pool: int
    conns_backend: int
    queue_pool: int
    sni: str = ""
    unique_id: str = ""
    tls: str = ""
    cipher: str = ""
    group: str = ""
    alpn: str = ""
    resumed: bool = False
    t_handshake_ms: float = -1
    client_verify: str = ""
    client_cert: str = ""
    client_subject: str = ""
    tls_error: str = ""
    backend_tls: str = ""
    backend_cipher: str = ""
    backend_resumed: bool = False
    namespace: str = ""


def record_of(session: Relay | Conversation, ts: str, now: float, conns_process: int) -> RelayRecord:
    """The record of a session that ended at `now`; `ts` is when it began, as text. A conversation has one of its own
    where it ended before anything could be asked.
    """
    client, side, pool, route = session.client, session.backend_side, session.pool, session.route
    backend, outcome, header, tries = session.served_by, session.outcome, session.header, session.tries
    connected, began = session.connected_at, session.try_began
    return RelayRecord(
        ts,
        session.unique_id(),
        session.gate.name,
        endpoint_text(session.source),
        endpoint_text(session.peer),
        "tcp" if isinstance(session, Relay) else "http",
        "" if route is None else route.name,
        0 if route is None else route.line,
        "" if pool is None else pool.settings.name,
        "" if backend is None else backend.id,
        "" if pool is None else pool.settings.policy,
        outcome.word,
        outcome.state + "--",
        outcome.flag,
        session.timer or last_timer(outcome, tries),
        session.rule,
        0 if client is None else client.bytes_in,
        0 if side is None or client is None else side.bytes_in - client.dropped,
        milliseconds(session.queue_seconds) if route is not None else -1,
        milliseconds(connected - began) if connected >= 0 else -1,
        milliseconds(session.first_byte_at - connected) if session.first_byte_at >= 0 else -1,
        milliseconds(now - session.started),
        0 if tries is None else len(tries) - 1,
        [] if tries is None else [try_record(one) for one in tries],
        conns_process,
        session.gate.sessions,
        0 if pool is None else pool.active,
        0 if backend is None else backend.active,
        0 if pool is None else pool.queued,
        (session.server_name or "")[:FIELD],
        "" if header is None or header.unique_id is None else text_of(header.unique_id),
        *_tls_fields(session),
        namespace="" if header is None or header.namespace is None else header.namespace[:FIELD],
    )


def last_timer(outcome: Outcome, tries: list[Try] | None) -> str:
    """The clock of the last try, where that decided."""
    if outcome is not CONNECT_TIMEOUT:
        return ""
    last = tries[-1].error if tries else None
    return "tls_handshake" if last is TryError.TLS_TIMEOUT else "connect"


def _tls_fields(
    session: Relay | Conversation,
) -> tuple[str, str, str, str, bool, float, str, str, str, str, str, str, bool]:
    """From `tls` to `backend_resumed`, in the record's order."""
    ours, theirs = session.tls, session.backend_tls
    backend = ("", "", False) if theirs is None else (theirs.version, theirs.cipher, theirs.resumed)
    if ours is None:
        offered = session.protocols
        alpn = text_of(offered[0]) if offered else ""
        return ("", "", "", alpn, False, -1, "", "", "", session.tls_error, *backend)
    certificate = ours.certificate
    return (
        ours.version,
        ours.cipher,
        ours.group,
        ours.alpn,
        ours.resumed,
        milliseconds(ours.seconds),
        ours.verified,
        "" if certificate is None else certificate.fingerprint,
        "" if certificate is None else certificate.subject[:FIELD],
        session.tls_error,
        *backend,
    )


def describe(session: Arrival, now: float) -> dict[str, object]:
    """A session under way, for the control socket. Of an HTTP client it is the request under way that has an id, a
    phase, a backend and bytes, also when it has become a tunnel.
    """
    client = session.client
    described: dict[str, object] = {
        "id": session.unique_id(),
        "listener": session.gate.name,
        "client": endpoint_text(session.source),
        "pool": "",
        "backend": "",
        "phase": PHASES[session.phase],
        "age_seconds": round(now - session.started, 3),
        "bytes_in": 0 if client is None else client.bytes_in,
        "bytes_out": 0,
    }
    if isinstance(session, Tunnel):
        described |= _request_under_way(session.exchange)
    elif isinstance(session, Relay):
        described |= _place(session)
        if session.backend_side is not None:
            described["bytes_out"] = session.backend_side.bytes_in
    elif isinstance(session, Conversation):
        described["requests"] = session.requests
        if session.exchange is not None:
            described |= _request_under_way(session.exchange)
    return described


def _request_under_way(exchange: Exchange) -> dict[str, object]:
    head, stream, conversation = exchange.head, exchange.stream, exchange.conversation
    taken, given = stream.taken, stream.given
    client, side = conversation.client, exchange.backend_side
    if exchange.phase == TUNNEL and client is not None and side is not None:
        taken += client.bytes_in
        given += side.bytes_in
    return {
        **_place(exchange),
        "id": text_of(exchange.request_id),
        "phase": PHASES[exchange.phase],
        "bytes_in": taken,
        "bytes_out": given,
        "requests": conversation.requests,
        "request": "" if head is None else f"{text_of(head.method)} {text_of(head.host)}{text_of(head.path)}",
    }


def _place(session: Seeker) -> dict[str, object]:
    pool, backend = session.pool, session.backend
    return {
        "pool": "" if pool is None else pool.settings.name,
        "backend": "" if backend is None else backend.id,
    }


def endpoint_text(endpoint: tuple[str, int]) -> str:
    """An address and its port; UNIX sockets have neither."""
    host, port = endpoint
    if not host:
        return "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def milliseconds(seconds: float) -> float:
    """With three places, cut."""
    return int(seconds * 1_000_000) / 1000


def text_of(raw: bytes) -> str:
    """Bytes from outside as text of ASCII, not too long."""
    if len(raw) <= FIELD and raw.isascii():
        return raw.decode()
    return raw[:FIELD].decode("ascii", "backslashreplace")[:FIELD]


def try_record(one: Try) -> TryRecord:
    """One try, as it is written."""
    error = None if one.error is None else one.error.value
    return TryRecord(
        one.backend, one.address, error, milliseconds(one.seconds), one.klass, one.detail[:FIELD], one.reused
    )
