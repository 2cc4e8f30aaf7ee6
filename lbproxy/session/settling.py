"""What is decided about a request before a backend is looked for, and the answers that we give ourselves.

Owns the order of these questions: is it for us, is it a loop, must it be redirected, is it too large, what does the
route do with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy import errors
from lbproxy.errors import Outcome
from lbproxy.http.answers import Answer, error_answer, fixed_answer, redirect_answer
from lbproxy.http.identity import names_us
from lbproxy.http.messages import RequestHead
from lbproxy.http.writing import target_of
from lbproxy.session.changing import facts_of
from lbproxy.session.known import for_client

if TYPE_CHECKING:
    from lbproxy.session.account import Account

# What is wrong with these requests is where they end, or nobody will read the rest of them.
_LAST = frozenset(
    {
        errors.BAD_REQUEST,
        errors.URI_LONG,
        errors.HEAD_LARGE,
        errors.BODY_LARGE,
        errors.NOT_IMPLEMENTED,
        errors.VERSION,
        errors.EXPECT,
        errors.LENGTH_REQUIRED,
        errors.HEAD_TIMEOUT,
        errors.BODY_TIMEOUT,
        errors.METHOD,
        errors.MISDIRECTED,
        errors.UPGRADE,
        errors.INTERNAL,
    }
)
_ALLOW = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_RETRY_AFTER = 5.0


def settle(exchange: Account, head: RequestHead) -> str | None:
    """The name of the pool that the request goes to, None when it has been answered here."""
    conversation, route, plan = exchange.conversation, exchange.route, exchange.plan
    front = conversation.front
    if head.via and names_us(head.via, front.introducer.instance):
        exchange.refuse(errors.LOOP)
    elif conversation.tls is not None and not front.belongs(conversation.server_name, head.host.decode("ascii")):
        exchange.rule = "L2"
        exchange.refuse(errors.MISDIRECTED)
    elif front.settings.redirect_https and _in_clear(exchange):
        location = b"https://%b%b" % (head.host, b"" if head.path == b"*" else target_of(head.path, head.query))
        _say(exchange, redirect_answer(308, location, exchange.request_id), errors.ANSWERED)
    elif route is None or plan is None:
        if front.routes.find_refused_slash(head, exchange.client_ip):
            exchange.rule = "T18"
            exchange.refuse(errors.BAD_REQUEST)
        else:
            exchange.refuse(errors.NO_ROUTE)
    elif plan.settings.max_body is not None and head.length > plan.settings.max_body:
        exchange.refuse(errors.BODY_LARGE)
    elif plan.redirect is not None and plan.settings.redirect is not None:
        location = plan.redirect.render(facts_of(exchange, head))
        if location.startswith(b"//"):
            location = b"/" + location.lstrip(b"/")  # a path, which must not become the name of a host
        _say(exchange, redirect_answer(plan.settings.redirect.status, location, exchange.request_id), errors.ANSWERED)
    elif plan.settings.answer is not None:
        _say(exchange, for_client(exchange, fixed_answer(plan.settings.answer, exchange.request_id)), errors.ANSWERED)
    elif plan.splitter is not None:
        key = None
        if plan.split_key is not None:
            key = plan.split_key(head, exchange.client_ip, conversation.server_name)
        return plan.splitter.choose(key)
    else:
        return route.pool
    return None


def _in_clear(exchange: Account) -> bool:
    intro = exchange.intro
    if intro is not None and intro.scheme is not None:
        return intro.scheme not in (b"https", b"wss")
    return exchange.conversation.facts.scheme != b"https"


def answer_error(exchange: Account, outcome: Outcome) -> None:
    """Answer for a failure, as the route or the listener wants it said."""
    plan, head, front = exchange.plan, exchange.head, exchange.conversation.front
    status = outcome.status
    page = None if plan is None else plan.pages.get(status)
    retry_after = None
    if status == 503:
        retry_after = int(_RETRY_AFTER * (1 + exchange.world.random()))
    served = exchange.tries[-1].address if exchange.tries and front.settings.expose else ""
    if not exchange.request_id:
        exchange.request_id = exchange.conversation.facts.introducer.ids.new()
    answer = error_answer(
        outcome,
        request_id=exchange.request_id,
        accept=None if head is None else head.get(b"accept"),
        retry_after=retry_after,
        allow=_ALLOW if outcome is errors.METHOD else None,
        page=page or front.pages.get(status),
        next_hop=served.encode() or None,
    )
    if page is not None or status in front.pages:
        answer = for_client(exchange, answer)
    _say(exchange, answer, outcome, close=outcome in _LAST or head is None)


def _say(exchange: Account, answer: Answer, outcome: Outcome, *, close: bool = False) -> None:
    hsts = exchange.conversation.front.hsts
    fields = answer.fields
    if hsts:
        name, _, value = hsts.rstrip(b"\r\n").partition(b": ")
        fields = [*fields, (name, value)]
    exchange.says(answer.status, outcome)
    exchange.stream.reply(answer.status, fields, answer.body, close=close)
    exchange.said()
