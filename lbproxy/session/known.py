"""Answers that are written in the configuration, as one client gets them: packed if it likes, or just confirmed.

Owns what is added to these: Content-Encoding, Vary, ETag, and the 304. The bodies are packed once for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.conditions import evaluate
from lbproxy.compress.known import KnownBody
from lbproxy.http.answers import Answer

if TYPE_CHECKING:
    from lbproxy.session.account import Account

_OK, _NOT_MODIFIED = 200, 304
_SAFE = (b"GET", b"HEAD")
# What the configuration may have written itself: then nothing of the kind is added.
_OURS = frozenset({b"content-encoding", b"etag", b"vary"})
_DESCRIBING = frozenset({b"content-type", b"content-encoding", b"content-language"})


def for_client(exchange: Account, answer: Answer) -> Answer:
    """The same answer in the coding that the client likes best, with an entity tag if it is a 200; or a 304."""
    plan, head = exchange.plan, exchange.head
    written = {name.lower(): value for name, value in answer.fields}
    if plan is None or head is None or not answer.body or _OURS & written.keys():
        return answer
    content_type = written.get(b"content-type", b"")
    known = plan.known.get((answer.body, content_type))
    if known is None:
        known = KnownBody(answer.body, content_type, plan.settings.compress)
        plan.known[answer.body, content_type] = known
    coding, body, etag = known.for_client(head.get(b"accept-encoding") if head.minor else None)
    fields = list(answer.fields)
    if known.varies:
        fields.append((b"Vary", b"Accept-Encoding"))
    if coding:
        fields.append((b"Content-Encoding", coding))
    if answer.status == _OK and head.method in _SAFE:
        fields.append((b"ETag", etag))
        if evaluate(head, _OK, etag, None, 0.0) == _NOT_MODIFIED:
            return Answer(_NOT_MODIFIED, [field for field in fields if field[0].lower() not in _DESCRIBING], b"")
    return Answer(answer.status, fields, body)
