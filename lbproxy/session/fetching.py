"""What becomes of an answer that a backend was asked for on the cache's behalf: stored, confirmed, or only passed on.

Owns the order of these questions, and what those hear who wait for the same. The rules are in `cache/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.cache.body import Body
from lbproxy.cache.invalidation import invalidated
from lbproxy.cache.serving import may_replace_error
from lbproxy.cache.status_field import forwarded
from lbproxy.cache.storing import Storable, is_lasting, judge, vary_names
from lbproxy.cache.updating import fields_of, freshened, matches
from lbproxy.cache.values import COMPRESSIBLE, Query, Stored
from lbproxy.cache.vary import variant_of
from lbproxy.errors import Blame, Outcome
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.http.writing import lines_of
from lbproxy.session.arriving import Arriving
from lbproxy.session.changing import concealed
from lbproxy.session.lookup import SAFE, Lookup, for_each_waiter, go_alone, look_again, wake
from lbproxy.session.phases import WAITING
from lbproxy.session.serving import confirmed, serve
from lbproxy.session.shared_cache import LIGHT, GrowingFile, length_of

if TYPE_CHECKING:
    from lbproxy.cache.collapse import Flight
    from lbproxy.session.caching import Caching
    from lbproxy.session.exchange import Exchange

_NOT_MODIFIED = 304
# Why an answer was not stored that says nothing about what is stored already.
_OF_REQUEST = frozenset({"Authorization", "request no-store", "sticky", "busy"})
# What has nothing to do with the request.
_OF_ALL = frozenset(
    {
        errors.NO_BACKEND,
        errors.DNS,
        errors.REFUSED,
        errors.CONNECT_TIMEOUT,
        errors.BACKEND_TLS,
        errors.QUEUE_FULL,
        errors.QUEUE_TIMEOUT,
        errors.SHED,
    }
)


def answered(exchange: Exchange, lookup: Lookup, answer: ResponseHead, length: int) -> bool:
    """Whether the client is served from the store, be it that this answer goes there first. Else it is passed on."""
    head, query = exchange.head, lookup.query
    assert head is not None
    if head.method not in SAFE:
        _invalidate(exchange, lookup, head, answer)
    if query is None or query.bypass:
        return False
    now = lookup.cache.now()
    stored = lookup.stored
    if stored is not None and lookup.lines and answer.status == _NOT_MODIFIED:
        if _confirm(exchange, lookup, stored, answer, now):
            return True
        return _ask_afresh(exchange, lookup)
    if stored is not None and answer.status >= 500 and may_replace_error(stored, query, now):
        exchange.world.filling.discard(exchange)
        _serve_all(exchange, lookup, stored, query, now, "stale", forwarded("stale", status=answer.status))
        return True
    if not lookup.storing:
        if query.is_head:
            _learn_from_head(exchange, lookup, answer, now)
        return False
    return _store(exchange, lookup, head, answer, length, now)


def told_of(lookup: Lookup) -> bytes:
    """The Cache-Status of an answer that is passed on."""
    caching = lookup.caching
    if caching is None or not caching.settings.told:
        return b""
    return forwarded(lookup.reason or "bypass", detail=lookup.refused)


def rescued(exchange: Exchange, outcome: Outcome) -> bool:
    """Whether a stored answer takes the place of an error of ours (RFC 5861, section 4)."""
    lookup = exchange.lookup
    query = None if lookup is None else lookup.query
    if lookup is None or query is None or query.bypass or outcome.blame is Blame.CLIENT or exchange.status:
        return False
    stored, now = lookup.stored, lookup.cache.now()
    if stored is None or not may_replace_error(stored, query, now):
        _fail_all(lookup, outcome)
        return False
    _serve_all(exchange, lookup, stored, query, now, "stale", forwarded("stale", detail=outcome.word))
    return True


def _fail_all(lookup: Lookup, outcome: Outcome) -> None:
    """Where no backend could be had, who waits for the same gets the same error: asking again, one after the other,
    would help nobody. Where it was asked, the request may have been the reason: another one tries.
    """
    flight, lookup.flight = lookup.flight, None
    if flight is None:
        return
    lookup.cache.flights.end(flight)
    if outcome not in _OF_ALL:
        wake(flight)
        return

    def fail(waiter: Exchange) -> None:
        if waiter.phase == WAITING and waiter.lookup is not None:
            waiter.lookup.flight = None
            waiter.refuse(outcome)

    for_each_waiter(flight, fail)


def _serve_all(
    exchange: Exchange, lookup: Lookup, stored: Stored, query: Query, now: float, word: str, told: bytes
) -> None:
    """Serve this to the exchange and to those who wait for it."""
    flight, lookup.flight = lookup.flight, None
    names = vary_names(_as_stored(stored, stored.lines)) if flight is not None and flight.waiters else ()
    serve(exchange, lookup.cache, stored, query, now, word, told=told)
    if flight is None:
        return
    lookup.cache.flights.end(flight)

    def give(waiter: Exchange) -> None:
        mine = waiter.lookup
        if mine is None or mine.query is None:
            return
        stale = word == "stale" and not may_replace_error(stored, mine.query, now)
        if stale or isinstance(names, str) or not _wants(waiter, stored, names):
            mine.flight = None
            look_again(waiter)
        else:
            _serve_waiter(waiter, stored, now, word, told)

    for_each_waiter(flight, give)


def _wants(waiter: Exchange, stored: Stored, names: tuple[bytes, ...]) -> bool:
    """Whether this variant is the one for who waits; `names` are those of its Vary."""
    lookup, head = waiter.lookup, waiter.head
    if lookup is None or lookup.query is None or head is None:
        return False
    return (variant_of(names, head, lookup.query.accept) if names else b"") == stored.variant


def serve_others(flight: Flight, now: float) -> None:
    """The answer has begun to come: serve it to those who wait for it, as it comes."""
    stored = flight.stored

    def give(waiter: Exchange) -> None:
        if stored is not None and _wants(waiter, stored, flight.vary):
            _serve_waiter(waiter, stored, now, "miss", None)
        elif waiter.lookup is not None:
            waiter.lookup.flight = None
            look_again(waiter)

    for_each_waiter(flight, give)


def _serve_waiter(waiter: Exchange, stored: Stored, now: float, word: str, told: bytes | None) -> None:
    """Serve one that has waited."""
    lookup, head = waiter.lookup, waiter.head
    if waiter.phase != WAITING or lookup is None or head is None or lookup.query is None:
        return
    lookup.flight = None
    lookup.cache.collapsed += 1
    if waiter.cached is not None:
        waiter.cached.collapsed = True
    serve(waiter, lookup.cache, stored, lookup.query, now, word, told=told, collapsed=told is None)


# A 304.


def _confirm(exchange: Exchange, lookup: Lookup, stored: Stored, answer: ResponseHead, now: float) -> bool:
    """The backend says that what is stored is still true, and for how long."""
    query = lookup.query
    assert query is not None
    if not matches(stored.lines, answer):
        return False
    kept = _update(exchange, lookup, stored, answer, now)
    exchange.world.filling.discard(exchange)
    told = b""
    if lookup.caching is not None and lookup.caching.settings.told:
        told = forwarded("stale", status=_NOT_MODIFIED, stored=kept, detail=lookup.refused)
    if not kept and lookup.flight is not None:
        flight, lookup.flight = lookup.flight, None
        cache = lookup.cache
        serve(exchange, cache, stored, query, now, "revalidated", told=told)
        cache.flights.end(flight)
        wake(flight)  # it is for this client alone now
    else:
        _serve_all(exchange, lookup, stored, query, now, "revalidated", told)
    return True


def _update(exchange: Exchange, lookup: Lookup, stored: Stored, answer: ResponseHead, now: float) -> bool:
    """Take over what a 304, or the answer to a HEAD, says of a stored answer; whether it may still be stored."""
    head, query, caching, cache = exchange.head, lookup.query, lookup.caching, lookup.cache
    assert head is not None
    assert query is not None
    assert caching is not None
    lines = freshened(stored.lines, answer, received_at=exchange.world.wall())
    verdict = _judged(exchange, lookup, _as_get(head), _as_stored(stored, lines), now)
    if not isinstance(verdict, Storable):
        cache.forget(stored)  # who waits for it is served this once more
        lookup.refused = verdict
        return False
    if not caching.may_store(head, exchange.client_ip):
        lookup.refused = "no_store"
        return True  # it stays as it is
    fresh, there = verdict.freshness, stored.size > 0
    if verdict.vary != vary_names(_as_stored(stored, stored.lines)):
        cache.store.remove(stored)  # it varies by other fields than it did
        stored.variant = variant_of(verdict.vary, head, query.accept)
    stored.lines = verdict.lines
    stored.born, stored.fresh_until = fresh.born, fresh.fresh_until
    stored.while_revalidate, stored.if_error = fresh.while_revalidate, fresh.if_error
    stored.flags = fresh.flags | stored.flags & COMPRESSIBLE
    stored.tags = verdict.tags
    cache.refreshed(stored, verdict.vary, lookup.bans, there=there)
    return True


def _judged(exchange: Exchange, lookup: Lookup, head: RequestHead, answer: ResponseHead, now: float) -> Storable | str:
    """What the rules make of this answer. They go by dates, which are the wall clock's: that may have been set right
    since the cache began, whose own time runs evenly.
    """
    caching = lookup.caching
    assert caching is not None
    ahead = exchange.world.wall() - now
    verdict = judge(head, answer, caching.settings, asked_at=lookup.asked_at + ahead, received_at=now + ahead)
    if isinstance(verdict, Storable):
        verdict.freshness.born -= ahead
        verdict.freshness.fresh_until -= ahead
    return verdict


def _as_get(head: RequestHead) -> RequestHead:
    """What is stored is the answer to a GET, whoever asks about it."""
    return head if head.method == b"GET" else head.with_method(b"GET")


def _as_stored(stored: Stored, lines: bytes) -> ResponseHead:
    length = length_of(stored.body)
    return ResponseHead(
        stored.status,
        stored.reason,
        1,
        fields_of(lines),
        lines,
        None if length < 0 else length,
        False,
        False,
        None,
        b"",
    )


def _ask_afresh(exchange: Exchange, lookup: Lookup) -> bool:
    """The 304 speaks of something else than what was asked about (threats.md K8): ask for the whole."""
    lookup.stored, lookup.lines = None, b""
    exchange.outgoing = None  # it had the conditions
    exchange.ask_once_more()
    return True


def _learn_from_head(exchange: Exchange, lookup: Lookup, answer: ResponseHead, now: float) -> None:
    """The answer to a HEAD tells whether what is stored is still true (RFC 9111, section 4.3.5)."""
    stored = lookup.stored
    if stored is None or not 200 <= answer.status < 300:
        return
    length = length_of(stored.body)
    if matches(stored.lines, answer, length=None if length < 0 else length):
        _update(exchange, lookup, stored, answer, now)
    else:
        lookup.cache.expire(stored, now)


# A whole answer.


def _store(
    exchange: Exchange, lookup: Lookup, head: RequestHead, answer: ResponseHead, length: int, now: float
) -> bool:
    """Store it, if it may be; whether it is."""
    caching, query, plan = lookup.caching, lookup.query, exchange.plan
    assert caching is not None
    assert query is not None
    assert plan is not None
    verdict: Storable | str
    shown = answer
    if _unbound(exchange):
        verdict = "sticky"
    else:
        if exchange.conceals:
            fields = concealed(exchange, answer.fields)
            shown = ResponseHead(
                answer.status, answer.reason, 1, fields, lines_of(fields), answer.length, False, False, None, b""
            )
        verdict = _judged(exchange, lookup, head, shown, now)
    file: GrowingFile | None = None
    cache = lookup.cache
    if isinstance(verdict, Storable) and not 0 <= length < LIGHT and cache.crowded(max(length, 0)):
        verdict = "busy"
    if isinstance(verdict, Storable) and length > cache.settings.max_object:
        file = None if cache.disk is None else cache.disk.begin(length)
        if file is None:
            verdict = "too large"
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
    told = b""
    if caching.settings.told:
        told = forwarded(lookup.reason, status=answer.status if lookup.stored is not None else None)
    own = _own_lines(caching, shown)
    exchange.world.filling.adopt(exchange, lookup, Arriving(stored, verdict.vary, file, told, own))
    return True


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
        face.extra += told_of(exchange.lookup)
    exchange.present(face)
    return True


def _not_stored(lookup: Lookup, reason: str, answer: ResponseHead) -> None:
    """This answer is for its client alone: who waits for it has waited in vain."""
    cache, query = lookup.cache, lookup.query
    assert query is not None
    lookup.refused = reason
    lookup.storing = False
    cache.refused[reason] += 1
    if lookup.stored is not None and _speaks_of_resource(answer.status) and reason not in _OF_REQUEST:
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


def _invalidate(exchange: Exchange, lookup: Lookup, head: RequestHead, answer: ResponseHead) -> None:
    """A request that may have changed something: what is stored of it, and what it points to, is true no more."""
    caching, cache = lookup.caching, lookup.cache
    scheme, now = exchange.scheme, cache.now()
    for path, query in invalidated(head, answer, scheme, merge=caching is None or caching.merged):
        url = b"%b://%b%b" % (scheme, head.authority, path)
        url = url if query is None else b"%b?%b" % (url, query)
        cache.invalidate(url, now)
        key = url if caching is None else caching.key_at(head, scheme, path, query)
        if key != url:
            cache.invalidate(key, now)
