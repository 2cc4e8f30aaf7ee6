"""The deadlines of a relay: what is due in which phase, and when to look again.

Owns the rules of the timers. Each function returns the seconds until the session wants to be asked again, None for
never; bytes that move do not come here, so idleness is worked out from the times that the sides keep.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.errors import Outcome, TryError
from lbproxy.session.opening import silent
from lbproxy.session.phases import CONNECT, DATA, ENDING, HANDSHAKE, HEADER, HELLO, OVER, QUEUE
from lbproxy.session.seams import Side

if TYPE_CHECKING:
    from lbproxy.session.arrival import Arrival
    from lbproxy.session.relay import Relay

# How often a reset is tried again while the other side still takes bytes; the wheel's own tick is the least.
_ENDING_STEP = 0.1
# How often within `write_stall` a side that holds bytes is asked whether its peer takes any: so much later than
# promised, at the most, is one cut that takes none.
STALL_LOOKS = 4


def expire(session: Relay, now: float) -> float | None:
    """Act on what is due at `now`."""
    phase = session.phase
    if phase == DATA:
        return _stalled(session, now)
    if phase == CONNECT:
        return _connecting(session, now)
    if phase == QUEUE:
        return _waiting(session, session.queued_at + session.timeouts.queue - now, "queue", errors.QUEUE_TIMEOUT)
    return _ending(session, now) if phase == ENDING else opening_expires(session, now)


def opening_expires(session: Arrival, now: float) -> float | None:
    """Act on what is due at `now` before a session's route is known."""
    if session.phase == HEADER:
        left = session.started + session.timeouts.proxy_header - now
        if left <= 0:
            session.rule = "P2"
        return _waiting(session, left, "proxy_header", errors.PROXY_HEADER_TIMEOUT)
    return _opening(session, now) if session.phase in (HELLO, HANDSHAKE) else None


def _waiting(session: Arrival, left: float, timer: str, outcome: Outcome) -> float | None:
    if left > 0:
        return left
    session.time_out(timer, outcome)
    return None


def _opening(session: Arrival, now: float) -> float | None:
    """TLS is ended here and has its time; or a name is waited for, which nobody has to tell."""
    if session.opening.tls:
        left = session.hello_began + session.timeouts.tls_handshake - now
        return _waiting(session, left, "tls_handshake", errors.TLS_HANDSHAKE_TIMEOUT)
    left = session.hello_began + session.timeouts.client_hello - now
    if left <= 0 and session.client is not None and not session.client.keeps:
        silent(session)
        return None if session.phase == OVER else session.timeouts.connect
    if left <= 0:
        session.rule = "L9"
    return _waiting(session, left, "client_hello", errors.CLIENT_HELLO_TIMEOUT)


def _connecting(session: Relay, now: float) -> float | None:
    timeouts, securing = session.timeouts, session.securing_since >= 0
    if securing:
        left = session.securing_since + timeouts.tls_handshake - now
    else:
        left = session.try_began + timeouts.connect - now
    if left <= 0:
        if session.backend_side is not None:
            session.backend_side.close()
            session.dial_failed(TryError.TLS_TIMEOUT if securing else TryError.TIMEOUT)
        left = timeouts.connect
    return None if session.phase == OVER else left


def _stalled(session: Relay, now: float) -> float | None:
    """Bytes go both ways: cut a side that takes none of what it is given, then look for silence."""
    client, backend, stall = session.client, session.backend_side, session.timeouts.write_stall
    assert client is not None  # a session in this phase has both
    assert backend is not None
    if not session.watched_over:
        # Old enough to be asked: worth the system calls.
        session.watched_over = True
        client.watch_over()
        backend.watch_over()
    look_again = math.inf
    for side, outcome in ((client, errors.WRITE_STALL_CLIENT), (backend, errors.WRITE_STALL_BACKEND)):
        if side.held:
            if not side.still_takes() and now - side.moved >= stall:
                session.time_out("write_stall", outcome)
                return None
            look_again = stall / STALL_LOOKS
    left = _silent(session, client, backend, now)
    return None if left is None else min(look_again, left)


def _silent(session: Relay, client: Side, backend: Side, now: float) -> float | None:
    half = client.finished or backend.finished
    idle = session.timeouts.half_closed if half else session.timeouts.tunnel_idle
    since = max(client.touched, backend.touched, client.moved, backend.moved, session.connected_at, session.closing_at)
    # Blame whoever should have spoken: the side that has not finished, else the one that did not speak last.
    waits_for_client = backend.finished if half else backend.touched > client.touched
    outcome = errors.CLIENT_IDLE if waits_for_client else errors.BACKEND_IDLE
    return _waiting(session, since + idle - now, "half_closed" if half else "tunnel_idle", outcome)


def _ending(session: Relay, now: float) -> float | None:
    """One side was reset: reset the other once it has all that is on its way, or takes no more of it."""
    stall = session.timeouts.write_stall
    for side in (session.client, session.backend_side):
        if side is None or not side.unsent():
            continue
        if side.still_takes() or now - max(side.moved, session.closing_at) < stall:
            return _ENDING_STEP
    session.kill(session.outcome)
    return None
