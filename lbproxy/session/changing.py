"""What is changed in heads on their way: by the route, for stickiness, by upgrades, for concealment.

Owns the order of these. Most requests and answers need none of it, which is found out first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.conditions import CONDITIONAL
from lbproxy.http.forwarding import passed_on
from lbproxy.http.locations import REVEALING, public_location
from lbproxy.http.messages import Field, RequestHead, ResponseHead
from lbproxy.http.templates import Facts
from lbproxy.http.writing import lines_of, target_of
from lbproxy.session.sticking import carries, cleaned

if TYPE_CHECKING:
    from lbproxy.session.account import Account
    from lbproxy.session.lookup import Lookup
    from lbproxy.session.plans import Plan

_HSTS = b"strict-transport-security"
_CODINGS = frozenset({b"accept-encoding"})
# What a client says to the cache when the cache itself asks the backend.
_OURS = CONDITIONAL | _CODINGS | {b"range", b"if-range"}
_LOCATIONS = frozenset({b"location", b"content-location", b"refresh"})


class Outgoing:
    """A request as it goes to the backend where that is not as it came. `lines` are its fields and what is said about
    the client; Host, framing and `upgrade` (b"" for none) are the writer's.
    """

    __slots__ = ("authority", "lines", "path", "query", "upgrade")

    def __init__(self, path: bytes, query: bytes | None, authority: bytes, lines: bytes, upgrade: bytes) -> None:
        self.path = path
        self.query = query
        self.authority = authority
        self.lines = lines
        self.upgrade = upgrade


def outgoing(exchange: Account, head: RequestHead) -> Outgoing | None:
    """What goes to the backend, None where that is just `head` and the usual words about the client.

    Raises ValueError where the route makes no path of this one.
    """
    plan, pool, intro = exchange.plan, exchange.pool, exchange.intro
    assert plan is not None
    assert pool is not None
    ours = exchange.conversation.front.sticky_cookies
    marked = bool(ours) and carries(head, ours)
    upgrade = b""
    if head.upgrade and not pool.settings.http.http10:  # which knows no other protocol (RFC 9110, section 7.8)
        upgrade = b", ".join([name for name in head.upgrade.split(b", ") if name in plan.upgrades])
    lookup = exchange.lookup
    fetching = lookup is not None and lookup.changes_request
    if plan.plain_request and intro is None and not marked and not upgrade and not exchange.mark and not fetching:
        return None
    client = exchange.conversation.facts
    path, query, authority = head.path, head.query, head.authority
    fields = head.fields
    if intro is not None:
        fields = passed_on(head, client.introducer.settings.traceparent)
    if not plan.settings.merge_slashes:
        path = head.unmerged
    if marked:
        fields = cleaned(fields, ours)
    if fetching or plan.offloads:
        fields = _asked_for(fields, lookup if fetching else None, offload=plan.offloads)
    if plan.rewriter is not None or plan.request_edits is not None:
        facts = facts_of(exchange, head)
        if plan.rewriter is not None:
            path, query, authority = plan.rewriter.apply(head, facts)
        if plan.request_edits is not None:
            fields = plan.request_edits.apply(fields, facts)
    lines = head.kept if fields is head.fields else lines_of(fields)
    if intro is not None:
        said = intro.lines
    else:
        said = b"X-Forwarded-Host: %b\r\n%b%b\r\n" % (head.authority, client.tail, exchange.request_id)
    if plan.request_edits is not None:
        said = _without(said, plan.request_edits.names)
    return Outgoing(path, query, authority, lines + said + exchange.mark, upgrade)


def _asked_for(fields: list[Field], lookup: Lookup | None, *, offload: bool) -> list[Field]:
    """The fields without those that are between the client and what is stored, and with ours in their place."""
    names = _OURS if lookup is not None else _CODINGS
    asked = [field for field in fields if field[0] not in names]
    if lookup is not None:
        query = lookup.query
        if query is not None and query.accept and not offload:
            asked.append((b"accept-encoding", query.accept, b"Accept-Encoding: %b\r\n" % query.accept))
        if lookup.lines:
            asked.append((b"", b"", lookup.lines))
    return asked


def _without(lines: bytes, names: frozenset[bytes]) -> bytes:
    """These lines but for those of `names`: of what the route says itself we do not speak."""
    return b"".join(
        [b"%b\r\n" % line for line in lines.split(b"\r\n") if line and line.partition(b":")[0].lower() not in names]
    )


def scheme_of(exchange: Account) -> bytes:
    """What the client used, as far as that is known: a trusted peer may have told."""
    intro = exchange.intro
    return exchange.conversation.facts.scheme if intro is None or intro.scheme is None else intro.scheme


def facts_of(exchange: Account, head: RequestHead) -> Facts:
    """What templates may know of a request."""
    client, plan = exchange.conversation.facts, exchange.plan
    path = head.path if plan is None or plan.settings.merge_slashes else head.unmerged
    return Facts(
        scheme_of(exchange),
        head.host,
        client.port,
        path,
        head.query or b"",
        target_of(path, head.query),
        exchange.client_ip.encode(),
        exchange.request_id,
    )


def response_changes(exchange: Account, answer: ResponseHead, plan: Plan, now: float) -> tuple[bytes | None, bytes]:
    """The lines that stand in place of the answer's own fields (None: as they are), and further ones."""
    pool, front = exchange.pool, exchange.conversation.front
    assert pool is not None
    extra = front.hsts
    lines = None
    sticky = pool.settings.http.sticky
    conceal = plan.conceal or pool.settings.http.conceal
    told = bool(extra) and answer.get(_HSTS) is not None
    if sticky is None and plan.plain_response and not conceal and not told:
        return lines, extra
    fields = answer.fields
    if told:  # RFC 6797, section 7.1: it is said once
        fields = [field for field in fields if field[0] != _HSTS]
    if plan.response_edits is not None and _HSTS in plan.response_edits.names:
        extra = b""
    if sticky is not None:
        extra += _bind(exchange, answer, now)
    if conceal:
        fields = concealed(exchange, fields)
    if plan.response_edits is not None:
        assert exchange.head is not None
        fields = plan.response_edits.apply(fields, facts_of(exchange, exchange.head))
    if fields is not answer.fields:
        lines = lines_of(fields)
    return lines, extra


def edited(exchange: Account, fields: list[Field], extra: bytes) -> tuple[list[Field], bytes]:
    """The fields of a stored answer as the route wants them said to this client, and `extra` with what we say."""
    plan, head, hsts = exchange.plan, exchange.head, exchange.conversation.front.hsts
    assert plan is not None
    assert head is not None
    if hsts and not (plan.response_edits is not None and _HSTS in plan.response_edits.names):
        fields = [field for field in fields if field[0] != _HSTS]
        extra += hsts
    if plan.response_edits is not None:
        fields = plan.response_edits.apply(fields, facts_of(exchange, head))
    return fields, extra


def _bind(exchange: Account, answer: ResponseHead, now: float) -> bytes:
    """Bind the client to the backend that answered it; what the answer has to say about it."""
    pool, backend, head = exchange.pool, exchange.backend, exchange.head
    assert pool is not None
    assert backend is not None
    assert head is not None
    world = exchange.world
    sticking = world.sticking(pool)
    secure = scheme_of(exchange) in (b"https", b"wss")
    line, _, exchange.sticky_sent = sticking.bound(exchange.seen, backend, world.wall(), secure=secure)
    sticking.learn(head, answer, exchange.client_ip, backend, now)
    if line and answer.get(b"cache-control") is None:
        line += b"Cache-Control: private\r\n"
    return line


def concealed(exchange: Account, fields: list[Field]) -> list[Field]:
    """The fields of an answer without what tells which server gave it."""
    head, pool = exchange.head, exchange.pool
    assert head is not None
    assert pool is not None
    hosts = frozenset(str(backend.address).encode() for backend in pool.backends.values())
    hosts |= frozenset(backend.address.host.encode() for backend in pool.backends.values())
    scheme = scheme_of(exchange)
    shown = []
    for field in fields:
        name, value, _ = field
        if name in REVEALING:
            continue
        if name in _LOCATIONS:
            public = public_location(value, hosts, scheme, head.authority)
            if public != value:
                field = (name, public, b"%b: %b\r\n" % (name.title(), public))
        shown.append(field)
    return shown
