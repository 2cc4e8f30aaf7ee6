"""Whether a whole answer goes into the store, and where its body goes.

Owns the reasons that are not the rules': room, stickiness, concealment. The rules are in `cache/storing.py`; how the
body gets there is in filling.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.body import Body
from lbproxy.cache.storing import Storable, is_lasting
from lbproxy.cache.values import COMPRESSIBLE, Query, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.http.writing import lines_of
from lbproxy.session.arriving import Arriving
from lbproxy.session.changing import concealed
from lbproxy.session.flights import go_alone
from lbproxy.session.lookup import OF_REQUEST, Lookup
from lbproxy.session.serving import confirmed
from lbproxy.session.shared_cache import LIGHT, GrowingFile
from lbproxy.session.waiting import wake

if TYPE_CHECKING:
    from lbproxy.session.caching import Caching
    from lbproxy.session.exchange import Exchange


def store(exchange: Exchange, lookup: Lookup, head: RequestHead, answer: ResponseHead, length: int, now: float) -> bool:
    """Store it, if it may be; whether the client is served from there."""
    caching, query, plan = lookup.caching, lookup.query, exchange.plan
    assert caching is not None
    assert query is not None
    assert plan is not None
    shown = _shown(exchange, answer)
    verdict = _judged(exchange, lookup, head, shown, now)
    file: GrowingFile | None = None
    if isinstance(verdict, Storable):
        file, refused = _room(lookup, length)
        verdict = refused or verdict
    if isinstance(verdict, str):
        _not_stored(lookup, verdict, answer)
        return _confirmed_at_least(exchange, query, answer, now)
    fresh = verdict.freshness
    compression = plan.compression
    flags = fresh.flags
    if compression is not None and not verdict.coding and compression.eligibility.varies(answer):
        flags |= COMPRESSIBLE
    stored = Stored(
        query.key,
        variant_of(verdict.vary, head, query.accept) if verdict.vary else b"",
        answer.status,
        answer.reason,
        verdict.lines,
        Body(length if length >= 0 else -1),
        coding=verdict.coding,
        born=fresh.born,
        fresh_until=fresh.fresh_until,
        while_revalidate=fresh.while_revalidate,
        if_error=fresh.if_error,
        flags=flags,
        tags=verdict.tags,
        checked=lookup.bans,
    )
    told = lookup.tells(status=answer.status if lookup.stored is not None else None)
    own = _own_lines(caching, shown)
    exchange.world.filling.adopt(exchange, lookup, Arriving(stored, verdict.vary, file, told, own))
    return True


def _room(lookup: Lookup, length: int) -> tuple[GrowingFile | None, str]:
    """The file for a body of this length, None for memory; or why there is no room for it."""
    cache = lookup.cache
    kept = length <= cache.settings.max_object  # what goes into a file only passes by
    if not 0 <= length < LIGHT and cache.crowded(max(length, 0) if kept else 0):
        return None, "busy"
    if kept:
        return None, ""
    file = None if cache.disk is None else cache.disk.begin(length)
    if file is not None:
        return file, ""
    # A disk that is opened yet, or is behind, may take it the next time.
    fits = cache.settings.disk is not None and length <= cache.settings.disk.max_object
    return None, "busy" if fits else "too large"


def _shown(exchange: Exchange, answer: ResponseHead) -> ResponseHead:
    """The answer without what tells which server gave it, where that is concealed."""
    if not exchange.conceals:
        return answer
    fields = concealed(exchange, answer.fields)
    return ResponseHead(
        answer.status, answer.reason, 1, fields, lines_of(fields), answer.length, False, False, None, b""
    )


def _judged(exchange: Exchange, lookup: Lookup, head: RequestHead, shown: ResponseHead, now: float) -> Storable | str:
    """What is to be stored, or the reason why nothing is."""
    if _unbound(exchange):
        return "sticky"
    verdict = lookup.judge(head, shown, now, exchange.world.wall())
    edits = None if exchange.plan is None else exchange.plan.request_edits
    if isinstance(verdict, Storable) and edits is not None and not edits.names.isdisjoint(verdict.vary):
        return "Vary: written here"  # what the backend was told is not what clients have said
    return verdict


def _unbound(exchange: Exchange) -> bool:
    """Whether this answer has to bind its client to the backend: then it is for that client alone."""
    pool = exchange.pool
    return pool is not None and pool.settings.http.sticky is not None and exchange.seen.state != "V"


def _own_lines(caching: Caching, answer: ResponseHead) -> bytes:
    """The fields that are not stored, because they are for the client alone who has asked."""
    said = caching.directives(answer)
    names = said.no_cache_fields | said.private_fields
    if caching.settings.ignore_set_cookie:
        names |= {b"set-cookie"}
    return b"".join([line for name, _, line in answer.fields if name in names])


def _confirmed_at_least(exchange: Exchange, query: Query, answer: ResponseHead, now: float) -> bool:
    """A client that has just this answer need not be sent it again; it could not be asked for so, since it might have
    been stored.
    """
    face = confirmed(exchange, query, answer, now)
    if face is None:
        return False
    exchange.world.filling.discard(exchange)
    if exchange.lookup is not None:
        face.extra += exchange.lookup.tells(detail=exchange.lookup.refused)
    exchange.present(face)
    return True


def _not_stored(lookup: Lookup, reason: str, answer: ResponseHead) -> None:
    """This answer is for its client alone: who waits for it has waited in vain."""
    cache, query = lookup.cache, lookup.query
    assert query is not None
    lookup.refused = reason
    lookup.storing = False
    cache.refused[reason] += 1
    if lookup.stored is not None and _speaks_of_resource(answer.status) and reason not in OF_REQUEST:
        cache.forget(lookup.stored)  # the backend has another one now
    flight, lookup.flight = lookup.flight, None
    if is_lasting(reason) or reason in ("too large", "sticky"):
        cache.store.mark(query.key, cache.now() + cache.settings.hit_for_miss)
    if flight is not None:
        cache.flights.end(flight)
        if answer.status >= 500:
            wake(flight)  # one of them tries again: a backend in trouble need not hear from all at once
        else:
            go_alone(flight)


def _speaks_of_resource(status: int) -> bool:
    """Whether an answer says what there is, and not what was wrong with the request (K8)."""
    return 200 <= status < 400 or status in (404, 410)
