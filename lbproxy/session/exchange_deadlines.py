"""The deadlines of an exchange: what is due in which phase, and when to look again.

Owns the rules of the timers between the head of a request and the end of its answer. Each function returns the seconds
until it wants to be asked again, None for never.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.cache.body import Body
from lbproxy.errors import TryError
from lbproxy.session.deadlines import STALL_LOOKS
from lbproxy.session.phases import ANSWER, CONNECT, DATA, LAST, OVER, QUEUE, TUNNEL, WAITING
from lbproxy.session.waiting import stop_waiting

if TYPE_CHECKING:
    from lbproxy.session.exchange import Exchange

# How long a backend may be silent about "Expect: 100-continue" before we tell the client to go on (seconds).
_CONTINUE_AFTER = 1.0
# What a body may take before its average counts (seconds).
RATE_GRACE = 10.0


def exchange_expires(exchange: Exchange, now: float) -> float | None:
    """Act on what is due at `now`."""
    phase = exchange.phase
    if phase == QUEUE:
        left = exchange.queued_at + exchange.timeouts.queue - now
        if left > 0:
            return left
        exchange.timer = "queue"
        exchange.refuse(errors.QUEUE_TIMEOUT)
    elif phase == WAITING:
        lookup = exchange.lookup
        left = 0.0 if lookup is None else lookup.waiting_since + lookup.cache.settings.wait - now
        if left > 0:
            return left
        stop_waiting(exchange)
    elif phase == CONNECT:
        return _connecting(exchange, now)
    elif phase in (ANSWER, DATA, LAST):
        left = _exchanging(exchange, now)
        if exchange.phase != OVER:
            return left
    elif phase == TUNNEL:
        return None  # it has deadlines of its own
    # Whatever was due has been done; the conversation may go on.
    return 1.0


def _connecting(exchange: Exchange, now: float) -> float | None:
    timeouts, side = exchange.timeouts, exchange.backend_side
    if exchange.resume_at >= 0 or side is None:
        return timeouts.connect
    securing = exchange.securing_since >= 0
    if securing:
        left = exchange.securing_since + timeouts.tls_handshake - now
    else:
        left = exchange.try_began + timeouts.connect - now
    if left > 0:
        return left
    side.close()
    exchange.dial_failed(TryError.TLS_TIMEOUT if securing else TryError.TIMEOUT)
    return timeouts.connect


def _exchanging(exchange: Exchange, now: float) -> float:
    """The request is under way: look at both its ends."""
    left = math.inf
    for look in (_client_takes, _backend_takes, _body_comes, _answer_comes):
        left = min(left, look(exchange, now))
        if exchange.phase == OVER or left <= 0:
            return 1.0
    return left


def _client_takes(exchange: Exchange, now: float) -> float:
    """The client must take what it is given."""
    stream, stall = exchange.stream, exchange.timeouts.write_stall
    if not stream.held:
        return math.inf
    if not stream.still_takes() and now - stream.moved >= stall:
        exchange.timer = "write_stall"
        exchange.abort(errors.WRITE_STALL_CLIENT)
        return 0.0
    return stall / STALL_LOOKS


def _backend_takes(exchange: Exchange, now: float) -> float:
    """The backend must take the request."""
    side, stall = exchange.backend_side, exchange.timeouts.write_stall
    if side is None or not side.held:
        return math.inf
    if not side.still_takes() and now - side.moved >= stall:
        exchange.timer = "write_stall"
        exchange.blame(now)
        exchange.refuse(errors.WRITE_STALL_BACKEND if exchange.status else errors.RESPONSE_TIMEOUT)
        return 0.0
    return stall / STALL_LOOKS


def _body_comes(exchange: Exchange, now: float) -> float:
    """The client must send the body that it has announced (threats.md W2); our own pauses do not count."""
    stream, side, timeouts = exchange.stream, exchange.backend_side, exchange.timeouts
    if stream.whole or exchange.phase != ANSWER or side is None:
        return math.inf
    head = exchange.head
    if head is not None and head.expect and not exchange.continued and now - exchange.connected_at >= _CONTINUE_AFTER:
        exchange.continued = True
        stream.go_on()
    wait = _CONTINUE_AFTER if head is not None and head.expect and not exchange.continued else math.inf
    if side.held:
        return min(wait, timeouts.request_body_idle)
    idle = timeouts.tunnel_idle if exchange.streaming else timeouts.request_body_idle
    since = max(stream.touched, exchange.connected_at, side.moved)
    left = since + idle - now
    took = now - max(exchange.connected_at, exchange.read_at) - stream.paused
    slow = took > RATE_GRACE and stream.taken < timeouts.request_body_rate * took and not exchange.streaming
    if left > 0 and not slow:
        return min(wait, left, RATE_GRACE)
    exchange.timer = "request_body_idle" if left <= 0 else "request_body_rate"
    exchange.rule = "W2"
    exchange.refuse(errors.BODY_TIMEOUT)
    return 0.0


def _answer_comes(exchange: Exchange, now: float) -> float:
    """The backend must answer in time, and go on with what it has begun."""
    timeouts, side, stream = exchange.timeouts, exchange.backend_side, exchange.stream
    if side is None:
        return _stored_comes(exchange, now)
    if exchange.phase == ANSWER:
        if exchange.sent_at < 0:
            return math.inf
        left = exchange.sent_at + timeouts.response_head - now
        if left > 0:
            return left
        exchange.unanswered(TryError.SILENT)
        return 0.0
    idle = timeouts.tunnel_idle if exchange.streaming else timeouts.response_body_idle
    if stream.held:
        return idle  # it is not read while the client holds it up
    left = max(side.touched, exchange.first_byte_at, stream.moved) + idle - now
    if left > 0:
        return left
    exchange.timer = "tunnel_idle" if exchange.streaming else "response_body_idle"
    exchange.cut_short(errors.BODY_IDLE)
    return 0.0


def _stored_comes(exchange: Exchange, now: float) -> float:
    """A stored body must go on; where it lies on a disk, that may hang."""
    timeouts, stream = exchange.timeouts, exchange.stream
    if exchange.phase != DATA or stream.held:
        return math.inf
    idle = timeouts.tunnel_idle if exchange.streaming else timeouts.response_body_idle
    body = None if exchange.pinned is None else exchange.pinned[1]
    if isinstance(body, Body) and not (body.complete or body.failed):
        return idle  # it is still coming from a backend, and who takes it has a clock of its own
    left = stream.moved + idle - now
    if left > 0:
        return left
    exchange.timer = "response_body_idle"
    exchange.cut_short(errors.LOCAL_RESOURCE)
    return 0.0
