"""The record of an exchange: the one line that a request leaves behind.

Owns the fields, their order and their words; refuses to know where records go. It is made for every request, so what
is the same for all requests of a connection, and for all equal heads, is worked out once and kept there. Texts from
outside are cut here and escaped by the encoder (threats.md R5). Times are milliseconds, -1 for a phase that was never
reached.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from lbproxy import errors
from lbproxy.http.messages import RequestHead
from lbproxy.session.account import Account
from lbproxy.session.cached import Cached
from lbproxy.session.conversation import Conversation
from lbproxy.session.record import FIELD, TryRecord, endpoint_text, last_timer, text_of, try_record

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
    cache_reason: str = ""
    cache_key: str = ""
    age: int = -1
    collapsed: bool = False
    limit: str = ""
    rule: str = ""
    timer: str = ""
    coding: str = ""
    bytes_plain: int = -1
    bytes_packed: int = -1
    tries: list[TryRecord] | None = None
    tls: str = ""
    cipher: str = ""
    sni: str = ""
    alpn: str = ""
    client_cert: str = ""
    resumed: bool = False
    tls_error: str = ""


# What all records of one connection say: listener, client, peer, and what follows from `tls` on if there is any of it.
_Tls = tuple[str, str, str, str, str, bool]
_Ends = tuple[str, str, str, _Tls | None]
# What all records of equal heads say, from `protocol` on.
_Request = tuple[str, str, str, str, str, str, str]
# Methods, hosts and names of clients that have been seen, as text.
_MOST_TEXTS = 512
_texts: dict[bytes, str] = {}
_hashes: dict[bytes, str] = {}
_UNREAD: _Request = ("http", "", "", "", "", "", "")


def record_of_exchange(exchange: Account, ts: str, now: float, conns_process: int) -> ExchangeRecord:
    """The record of an exchange that ended at `now`; `ts` is when its first byte came, as text."""
    conversation, head, stream = exchange.conversation, exchange.head, exchange.stream
    route, pool, backend, outcome = exchange.route, exchange.pool, exchange.served_by, exchange.outcome
    tries, began, status, seen = exchange.tries, exchange.began, exchange.status, exchange.seen
    ends: _Ends = conversation.record_memo or _ends(conversation)
    request: _Request = _UNREAD if head is None else head.memo_record or _request(head)
    listener, client, peer, tls = ends
    protocol, method, host, path, query, referer, user_agent = request
    if exchange.client_ip != conversation.source[0]:
        client = _address_text(exchange.client_ip)
    pool_name = policy = ""
    active = queued = 0
    wait: float = -1
    connect: float = -1
    first_byte: float = -1
    sticky = False
    if pool is not None:
        settings = pool.settings
        pool_name = settings.name
        policy = settings.policy
        sticky = settings.http.sticky is not None
        active = pool.active
        queued = pool.queued
        wait = exchange.queue_seconds and exchange.queue_seconds * 1e6 // 1 / 1e3
        if exchange.connected_at >= 0:
            connect = 0.0 if exchange.reused else (exchange.connected_at - exchange.try_began) * 1e6 // 1 / 1e3
        if exchange.answer is not None:
            sent = exchange.sent_at
            # An answer may come before all of the request has been sent.
            first_byte = (exchange.first_byte_at - sent) * 1e6 // 1 / 1e3 if 0 <= sent < exchange.first_byte_at else 0.0
    record = ExchangeRecord(
        ts,
        exchange.request_id.decode() or conversation.unique_id(),
        listener,
        client,
        peer,
        protocol,
        method,
        host,
        path,
        stream.taken,
        "" if route is None else route.name,
        0 if route is None else route.line,
        pool_name,
        "" if backend is None else backend.id,
        policy,
        status or status_of(exchange),
        # What a tunnel dropped has been taken off already.
        stream.given if status == _SWITCHED else stream.given - stream.held - stream.dropped,
        outcome.word,
        outcome.state + (seen.state + exchange.sticky_sent if sticky else "--"),
        outcome.flag,
        -1 if head is None else (exchange.read_at - began) * 1e6 // 1 / 1e3,
        wait,
        connect,
        first_byte,
        (now - began) * 1e6 // 1 / 1e3,
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
    if outcome is not errors.OK:
        record.timer = exchange.timer or last_timer(outcome, tries)
        record.tls_error = conversation.tls_error
    if exchange.rule:
        record.rule = exchange.rule
    cached = exchange.cached
    if cached is not None:
        _tell_cache(record, exchange, cached)
    coder = exchange.coder
    if coder is not None:
        record.coding = coder.coding.decode() or "identity"
        record.bytes_plain, record.bytes_packed = coder.sizes
    if sticky and seen.backend is not None:
        record.sticky = seen.backend.id
    if tls is not None:
        record.tls, record.cipher, record.sni, record.alpn, record.client_cert, record.resumed = tls
    return record


def _tell_cache(record: ExchangeRecord, exchange: Account, cached: Cached) -> None:
    """What the cache had to do with it. The key is told as a hash: it may be long, and hold what is nobody's business
    who reads logs.
    """
    lookup = exchange.lookup
    record.cache = cached.word
    record.collapsed = cached.collapsed
    record.age = cached.age
    key = cached.key
    if lookup is not None:
        record.cache_reason = lookup.refused
        if not key and lookup.query is not None:
            key = lookup.query.key
    if key:
        record.cache_key = _hashes.get(key) or _hash(key)
    if cached.packed >= 0 or cached.coding:
        record.coding = cached.coding.decode() or "identity"
        record.bytes_plain, record.bytes_packed = cached.plain, cached.packed


def _hash(key: bytes) -> str:
    if len(_hashes) >= _MOST_TEXTS:
        _hashes.clear()
    _hashes[key] = text = blake2b(key, digest_size=8).hexdigest()
    return text


def status_of(exchange: Account) -> int:
    """What the client was answered; CLIENT_LEFT where it left before, 0 where it was cut without an answer."""
    status = exchange.status
    if not status and exchange.outcome.word == errors.CLIENT_GONE_IN_HEAD.word:
        return CLIENT_LEFT
    return status


def _request(head: RequestHead) -> _Request:
    """What was asked for, as text; it is kept with the head."""
    referer = user_agent = ""
    for name, value, _ in head.fields:
        if name == b"user-agent":
            user_agent = user_agent or _usual(value)
        elif name == b"referer":
            referer = referer or text_of(value)
    query = head.query
    head.memo_record = request = (
        "HTTP/1.1" if head.minor else "HTTP/1.0",
        _usual(head.method),
        _usual(head.host),
        text_of(head.path),
        text_of(query) if query else "",
        referer,
        user_agent,
    )
    return request


def _usual(raw: bytes) -> str:
    """As text_of, for what many requests have in common."""
    text = _texts.get(raw)
    if text is None:
        if len(_texts) >= _MOST_TEXTS:
            _texts.clear()
        text = _texts[raw[:FIELD]] = text_of(raw)
    return text


def _ends(conversation: Conversation) -> _Ends:
    """Both ends of the connection and its TLS, as text; it is kept with the conversation."""
    tls = conversation.tls
    client = endpoint_text(conversation.source)
    peer = client if conversation.peer == conversation.source else endpoint_text(conversation.peer)
    sni = (conversation.server_name or "")[:FIELD]
    facts: _Tls | None = None
    if tls is not None:
        shown = "" if tls.certificate is None else tls.certificate.fingerprint
        facts = (tls.version, tls.cipher, sni, tls.alpn, shown, tls.resumed)
    elif sni:
        facts = ("", "", sni, "", "", False)
    conversation.record_memo = ends = (conversation.gate.name, client, peer, facts)
    return ends


def _address_text(client_ip: str) -> str:
    """A client that another proxy told of: its port is not known."""
    if not client_ip:
        return "unix"
    return f"[{client_ip}]" if ":" in client_ip else client_ip
