"""How a stored answer is served: whole, as 304, in parts, in the coding that the client prefers.

Owns what the client gets of it. That it may be served has been decided before. An answer that is asked for again and
again looks the same for a second: that look is kept.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.cache.conditions import date_of, evaluate, range_holds, validators
from lbproxy.cache.face import Face, Part
from lbproxy.cache.ranges import UNSATISFIABLE, content_range, multipart, multipart_type, read_ranges, unsatisfied_range
from lbproxy.cache.serving import age
from lbproxy.cache.status_field import forwarded, hit
from lbproxy.cache.updating import fields_of
from lbproxy.cache.values import Query, Stored
from lbproxy.http.dates import date_line
from lbproxy.http.messages import CHUNKED, Field, RequestHead, ResponseHead
from lbproxy.http.phrases import phrase
from lbproxy.http.writing import lines_of
from lbproxy.session.cached import Cached
from lbproxy.session.changing import edited
from lbproxy.session.coded_bodies import coded_body, coding_for, depends, in_coding
from lbproxy.session.shared_cache import SharedCache, length_of

if TYPE_CHECKING:
    from lbproxy.cache.body import AnyBody
    from lbproxy.session.exchange import Exchange

_OK, _NOT_MODIFIED = 200, 304
# What the backend has just made or confirmed.
_VOUCHED = ("miss", "revalidated")
_RANGE = b"range"


def serve(
    exchange: Exchange,
    cache: SharedCache,
    stored: Stored,
    query: Query,
    now: float,
    word: str,
    *,
    told: bytes | None = None,
    collapsed: bool = False,
    own: bytes = b"",
) -> None:
    """Answer with `stored`. `word` is the record's; `told` is the Cache-Status of an answer that a backend was asked
    for, None for one that was there. `own` are lines that are for this client alone.
    """
    try:
        _serve(exchange, cache, stored, query, now, word, told, own, collapsed=collapsed)
    except Exception as problem:  # nobody else who is served in the same turn shall suffer for it
        exchange.broken(problem)


def _serve(
    exchange: Exchange,
    cache: SharedCache,
    stored: Stored,
    query: Query,
    now: float,
    word: str,
    told: bytes | None,
    own: bytes,
    *,
    collapsed: bool,
) -> None:
    plan, front = exchange.plan, exchange.conversation.gate.front
    assert plan is not None
    cached = exchange.cached
    if cached is None:
        exchange.cached = cached = Cached(word)
    else:
        cached.word = word
    if exchange.detached:
        exchange.over(errors.OK)
        return
    stored.hits += 1
    cached.age = age(stored, now)
    cached.key = stored.key
    second = int(now)
    coding, compression, head = stored.coding, plan.compression, exchange.head
    assert head is not None
    if compression is not None and not query.ranged:
        coding = coding_for(compression, stored, query, exchange.world, head.minor)
    usual = query.plain and told is None and plan.plain_response and not front.hsts
    if usual:
        face = cache.faces.get((stored, coding))
        if face is not None and face.second == second and face.plan is plan:
            if coding != stored.coding:
                exchange.note_coding(coding, stored.body, face.body)
            _present(exchange, cache, face)
            return
    body = stored.body
    if compression is not None and coding != stored.coding:
        body = coded_body(exchange.world, stored, coding, compression)
        exchange.note_coding(coding, stored.body, body)
    face = _face(exchange, stored, query, body, coding, now, word, told, collapsed=collapsed)
    if usual and isinstance(body, bytes):
        face.plan = plan
        cache.remember(stored, coding, face)
    face.extra += own
    _present(exchange, cache, face)


def _present(exchange: Exchange, cache: SharedCache, face: Face) -> None:
    if face.long and cache.pin(face.body):
        exchange.pinned = (cache, face.body)
    exchange.present(face)


def _face(
    exchange: Exchange,
    stored: Stored,
    query: Query,
    body: AnyBody,
    coding: bytes,
    now: float,
    word: str,
    told: bytes | None,
    *,
    collapsed: bool,
) -> Face:
    plan, head, front = exchange.plan, exchange.head, exchange.conversation.gate.front
    assert plan is not None
    assert head is not None
    caching = plan.caching
    seconds = age(stored, now)
    # That there is an Age says that the backend was not asked for this one (RFC 9111, section 5.1).
    vouched = told is not None and word in _VOUCHED and not seconds
    extra = b"" if vouched else b"Age: %d\r\n" % seconds
    if caching is not None and caching.settings.told:
        if collapsed:
            extra += forwarded("uri-miss", collapsed=True)
        else:
            extra += hit(floor(stored.fresh_until - now)) if told is None else told
    lines = stored.lines
    fields: list[Field] | None = None
    compression = plan.compression
    if compression is not None:
        varies = depends(compression, stored)
        if varies or coding != stored.coding:
            fields = in_coding(fields_of(lines), stored.coding, coding, varies=varies)
    if plan.response_edits is not None or front.hsts:
        fields, extra = edited(exchange, fields_of(lines) if fields is None else fields, extra)
    if fields is not None:
        lines = lines_of(fields)
    length = length_of(body)
    status, reason, second = stored.status, stored.reason, int(now)
    if query.conditional:
        etag, modified = validators(lines)
        # Where there is no Last-Modified, Date stands for it (RFC 9111, section 4.3.2).
        if evaluate(head, status, etag, modified or date_of(lines), now) == _NOT_MODIFIED:
            shown = b"".join([field[2] for field in fields_of(lines) if not field[0].startswith(_DESCRIBING)])
            return _bare(_NOT_MODIFIED, shown, None, extra, second)
    if query.is_head:
        return Face(_head(status, reason, lines, length), 0, body, (), None, extra, second)
    if query.ranged and status == _OK and length >= 0:
        partial = _partial(exchange, head, lines, body, length, extra, second)
        if partial is not None:
            return partial
    return Face(
        _head(status, reason, lines, length), CHUNKED if length < 0 else length, body, None, None, extra, second
    )


_DESCRIBING = (b"content-type", b"content-encoding", b"content-language", b"content-range", b"content-length")


def confirmed(exchange: Exchange, query: Query, answer: ResponseHead, now: float) -> Face | None:
    """The 304 for a client that has this answer already, None for one that does not (RFC 9110, section 13.2)."""
    head = exchange.head
    if head is None or not query.conditional:
        return None
    modified = answer.get(b"last-modified")
    if evaluate(head, answer.status, answer.get(b"etag"), modified, now) != _NOT_MODIFIED:
        return None
    shown = b"".join([field[2] for field in answer.fields if not field[0].startswith(_DESCRIBING)])
    return _bare(_NOT_MODIFIED, shown, None, b"", int(now))


def _head(status: int, reason: bytes, lines: bytes, length: int) -> ResponseHead:
    fields: list[Field] = [(b"date", b"", b"")]  # what is stored has one, and writers look for nothing else
    return ResponseHead(status, reason, 1, fields, lines, None if length < 0 else length, length < 0, False, None, b"")


def _bare(status: int, lines: bytes, length: int | None, extra: bytes, second: int) -> Face:
    fields: list[Field] = [(b"date", b"", b"")] if lines else []
    head = ResponseHead(status, phrase(status), 1, fields, lines, length, False, False, None, b"")
    return Face(head, 0, b"", (), None, extra, second)


def _partial(
    exchange: Exchange, head: RequestHead, lines: bytes, body: AnyBody, length: int, extra: bytes, second: int
) -> Face | None:
    """The parts that are asked for; None for the whole (RFC 9110, section 14.2)."""
    wanted = [value for name, value, _ in head.fields if name == _RANGE]
    etag, modified = validators(lines)
    if len(wanted) != 1 or not range_holds(head, etag, modified, date_of(lines)):
        return None
    spans = read_ranges(wanted[0], length)
    if spans is None:
        return None
    if spans is UNSATISFIABLE:
        return _bare(416, unsatisfied_range(length) + date_line(second), 0, extra, second)
    if len(spans) == 1:
        start, end = spans[0]
        shown = lines + content_range(start, end, length)
        return Face(
            _head(206, phrase(206), shown, end - start), end - start, body, ((start, end),), None, extra, second
        )
    kind = b""
    kept = []
    for field in fields_of(lines):
        if field[0] == b"content-type":
            kind = field[1]
        else:
            kept.append(field)
    boundary = exchange.conversation.facts.introducer.ids.new()
    parts, total = multipart(boundary, kind, spans, length)
    shown = lines_of(kept) + multipart_type(boundary)
    sequence: list[Part] = list(parts)
    return Face(_head(206, phrase(206), shown, total), total, body, sequence, None, extra, second)
