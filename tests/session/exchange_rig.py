"""An exchange with everything that its record goes by, and nothing that happens: its attributes are set by tests."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from lbproxy.balancing.pool import Pool
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.http.request_head import RequestReader
from lbproxy.model import Timeouts
from lbproxy.model_http import HttpPoolSettings, HttpRouteSettings, HttpSettings
from lbproxy.routing import HttpRoute
from lbproxy.session.conversation import Conversation
from lbproxy.session.exchange import Exchange
from tests.session.session_fakes import LOCAL, PEER, START, FakeGate, FakeWheel, pool_settings

REQUEST = b"GET /a/b?c=d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8\r\nReferer: http://x/\r\n\r\n"
STAMP = "2026-01-02T03:04:05.678Z"


def head_of(text: bytes = REQUEST) -> RequestHead:
    """The head of a request, as it is read."""
    found = RequestReader(HttpSettings(), secure=False).read(text)
    assert found is not None
    return found[0]


def conversation_of(peer: tuple[str, int] = PEER) -> Any:
    """A client of listener "web" whose first request has come."""
    world = SimpleNamespace(new_id=lambda: "id1", wheel=FakeWheel(START))
    conversation = Conversation(world, FakeGate([], {}), peer, LOCAL, START)
    conversation.requests = 1
    return conversation


def pool_of(**http: Any) -> Pool:
    """Pool "web" with backends a, b and c."""
    return Pool(pool_settings(http=HttpPoolSettings(**http)), random.Random(1).random, START)


def exchange_of(head: RequestHead | None, conversation: Any = None, pool: Pool | None = None) -> Any:
    """A request that went well in every respect: read in 250 ms, connected in 500, answered with 200 in 1000."""
    conversation = conversation or conversation_of()
    stream: Any = SimpleNamespace(given=300, taken=90, held=0, dropped=0)
    exchange: Any = Exchange(conversation, stream, head, START, START + 0.25)
    pool = pool or pool_of()
    exchange.request_id = b"0123456789abcdef0123456789abcdef"
    exchange.route = HttpRoute("web", "all", 3, 0, 5, Timeouts(), HttpRouteSettings())
    exchange.pool = pool
    exchange.served_by = pool.backends["a"]
    exchange.first_try_at = exchange.try_began = START + 0.25
    exchange.connected_at = exchange.sent_at = START + 0.75
    exchange.first_byte_at = START + 1.75
    exchange.answer = ResponseHead(200, b"OK", 1, [], b"", 12, False, False, None, b"")
    exchange.status = 200
    return exchange
