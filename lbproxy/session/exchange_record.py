"""The record of an exchange: the one line that a request leaves behind.

Owns the fields, their order and their words; refuses to know where records go. It is made for every request, so what
is the same for all requests of a connection, and for all equal heads, is worked out once and kept there. Texts from
outside are cut here and escaped by the encoder (threats.md R5). Times are milliseconds, -1 for a phase that was never
reached.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from lbproxy.http.messages import RequestHead
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange import Exchange
from lbproxy.session.record import FIELD, TryRecord, endpoint, last_timer, milliseconds, try_record

# What the record says of a client that left before it was answered: no status was sent.
CLIENT_LEFT = 499
_SWITCHED = 101


class ExchangeRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """What a request leaves behind, in the order in which it is written.

    The first part is in every line; a field of the second part is left out where it has nothing to say.
    """

    ts: str
    id: str
    listener: str
    client: str
    peer: str
    protocol: str
    method: str
    host: str
    path: str
    bytes_in: int
    route: str
    route_line: int
    pool: str
    backend: str
    policy: str
    status: int
    bytes_out: int
    outcome: str
    state: str
    flag: str
    t_request_ms: float
    t_queue_ms: float
    t_connect_ms: float
    t_first_byte_ms: float
    t_total_ms: float
    conns_process: int
    conns_listener: int
    conns_pool: int
    conns_backend: int
    queue_pool: int
    retries: int
    reused: bool
    request_number: int
    query: str = ""
    referer: str = ""
    user_agent: str = ""
    sticky: str = ""
    cache: str = ""
    limit: str = ""
    rule: str = ""
    timer: str = ""
    coding: str = ""
    tries: list[TryRecord] | None = None
    tls: str = ""
    cipher: str = ""
    sni: str = ""
    alpn: str = ""
    client_cert: str = ""
    resumed: bool = False
    tls_error: str = ""


class _Ends(NamedTuple):
    """What all records of one connection say. `special` tells that there is more than the first three."""

    listener: str
    client: str
    peer: str
    special: bool
    tls: str = ""
    cipher: str = ""
    sni: str = ""
    alpn: str = ""
    client_cert: str = ""
    resumed: bool = False


_Asked = tuple[str, str, str, str, str, str, str]
_UNREAD: _Asked = ("http", "", "", "", "", "", "")


def record_of_exchange(exchange: Exchange, ts: str, now: float, conns_process: int) -> ExchangeRecord:
    """The record of an exchange that ended at `now`; `ts` is when its first byte came, as text."""
    conversation, head, stream = exchange.conversation, exchange.head, exchange.stream
    route, pool, backend, outcome = exchange.route, exchange.pool, exchange.served_by, exchange.outcome
    ends: _Ends | None = conversation.record_memo
    if ends is None:
        conversation.record_memo = ends = _ends(conversation)
    if head is None:
        asked = _UNREAD
    else:
        asked = head.memo_record or _asked(head)
    client = ends.client
    if exchange.client_ip != conversation.source[0]:
        client = _elsewhere(exchange.client_ip)
    if route is None:
        route_name, route_line = "", 0
    else:
        route_name, route_line = route.name, route.line
    state = outcome.state
    if pool is None:
        pool_name = policy = ""
        active = queued = 0
        queue = -1.0
        state += "--"
    else:
        settings = pool.settings
        pool_name, policy = settings.name, settings.policy
        active, queued = pool.active, pool.queued
        queue = exchange.queue_seconds
        if queue:
            queue = int(queue * 1_000_000) / 1000
        if settings.http.sticky is None:
            state += "--"
        else:
            state += exchange.seen.state + exchange.sticky_sent
    connect = -1.0
    if exchange.connected_at >= 0:
        connect = 0.0 if exchange.reused else int((exchange.connected_at - exchange.try_began) * 1_000_000) / 1000
    first = -1.0
    if exchange.answer is not None:
        # An answer may come before the request has been sent.
        sent = exchange.sent_at
        first = 0.0 if sent < 0 else max(0.0, int((exchange.first_byte_at - sent) * 1_000_000) / 1000)
    began, tries = exchange.began, exchange.tries
    protocol, method, host, path, query, referer, user_agent = asked
    record = ExchangeRecord(
        ts,
        exchange.request_id.decode("ascii", "backslashreplace") or conversation.unique_id(),
        ends.listener,
        client,
        ends.peer,
        protocol,
        method,
        host,
        path,
        stream.taken,
        route_name,
        route_line,
        pool_name,
        "" if backend is None else backend.id,
        policy,
        status_of(exchange),
        _given(exchange),
        outcome.word,
        state,
        outcome.flag,
        -1.0 if head is None else int((exchange.read_at - began) * 1_000_000) / 1000,
        queue,
        connect,
        first,
        int((now - began) * 1_000_000) / 1000,
        conns_process,
        conversation.gate.sessions,
        active,
        0 if backend is None else backend.active,
        queued,
        0 if tries is None else len(tries) - 1,
        exchange.reused,
        conversation.requests,
        query,
        referer,
        user_agent,
    )
    if tries is not None:
        record.tries = [try_record(one) for one in tries]
    if outcome.blame is not NOBODY:
        record.rule = exchange.rule
        record.timer = exchange.timer or last_timer(outcome, tries)
        record.tls_error = conversation.tls_error
    bound = exchange.seen.backend
    if bound is not None:
        record.sticky = bound.id
    if ends.special:
        _, _, _, _, record.tls, record.cipher, record.sni, record.alpn, record.client_cert, record.resumed = ends
    return record
