"""How a route caches, worked out once from its settings; and what a request looks like to its cache.

Owns which requests pass by the cache and why, and the key. Refuses to know what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

from lbproxy.cache.conditions import CONDITIONAL
from lbproxy.cache.directives import Directives, request_directives, response_directives
from lbproxy.cache.keys import KeyMaker
from lbproxy.cache.storing import OVERRIDES
from lbproxy.cache.values import Query
from lbproxy.compress.negotiation import accepted, canonical
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.model_cache import RouteCacheSettings
from lbproxy.model_http import Condition, FieldEdits, HttpRouteSettings
from lbproxy.routing.conditions import Test, compile_condition, goes_by_client, merged_path, unmerged_path

if TYPE_CHECKING:
    from lbproxy.session.account import Account

# Fields by which some backends answer for another target than the one in the key (K1).
_TARGETS = frozenset(
    {
        b"front-end-https",
        b"x-host",
        b"x-host-override",
        b"x-http-host-override",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-url-scheme",
    }
)
_RANGE = b"range"
_ABOUT_HOST = (b"X-Forwarded-Host: ", b"X-Forwarded-Port: ", b"X-Forwarded-Prefix: ")
# What these ask is meant for the backend (RFC 9111, section 4.3.2).
_PRECONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})


class Caching:
    """See the module."""

    __slots__ = ("_by_client", "_bypass", "_changes", "_no_store", "_split", "maker", "merged", "settings")

    def __init__(
        self,
        settings: RouteCacheSettings,
        bypass: tuple[Condition, ...],
        no_store: tuple[Condition, ...],
        *,
        merged: bool,
        changes: bytes,
        split: bool,
    ) -> None:
        """`changes` stands for what the route changes in requests, b"" for nothing; `split` tells that it has several
        pools.
        """
        self.settings = settings
        self._changes = changes
        self._split = split
        self.maker = KeyMaker(settings.key, merge_slashes=merged)
        self.merged = merged
        path_of = merged_path if merged else unmerged_path
        self._bypass = [compile_condition(one, path_of) for one in bypass]
        self._no_store = [compile_condition(one, path_of) for one in no_store]
        self._by_client = any(goes_by_client(one) for one in bypass)

    def query(self, exchange: Account, head: RequestHead, scheme: bytes, pool: str) -> Query:
        """What the cache goes by; it is kept with the head where nothing else decides."""
        memo = head.memo_cache
        if memo is not None and memo[0] is self and memo[1] == scheme:
            query: Query = memo[2]
            return query
        query = self._query(exchange, head, scheme, pool)
        if not self._split and not self._by_client and exchange.intro is None:
            head.memo_cache = (self, scheme, query)
        return query

    def key_at(self, exchange: Account, head: RequestHead, path: bytes, query: bytes | None) -> bytes:
        """The key that the same client's request for another target of the same site would have, without its mark."""
        return self.maker.at(head, exchange.scheme, path, query) + told_about_host(exchange, head)

    def mark(self, pool: str) -> bytes:
        """What keeps answers apart that different backends have given, or to differently changed requests: see
        `SharedCache.marks`.
        """
        return mark_of(self._changes, pool)

    def directives(self, answer: ResponseHead) -> Directives:
        """What an answer says about being stored, as far as the route listens."""
        return response_directives(answer, targeted=self.settings.targeted)

    def may_store(self, head: RequestHead, client_ip: str) -> bool:
        """Whether the route lets the answer to this request be stored."""
        return not _any(self._no_store, head, client_ip)

    def _query(self, exchange: Account, head: RequestHead, scheme: bytes, pool: str) -> Query:
        conditional = ranged = overridden = elsewhere = False
        accept: bytes | None = None
        directed = guarded = False
        for name, value, _ in head.fields:
            if name == b"accept-encoding":
                accept = value if accept is None else b"%b, %b" % (accept, value)
            elif name in CONDITIONAL:
                conditional = True
                guarded = guarded or name in _PRECONDITIONS
            elif name == _RANGE:
                ranged = True
            elif name in (b"cache-control", b"pragma"):
                directed = True
            elif name in OVERRIDES:
                overridden = True
            elif name in _TARGETS:
                elsewhere = True
        reason = ""
        if head.method not in (b"GET", b"HEAD"):
            reason = "method"
        elif head.length:
            reason = "request-body"
        elif overridden:
            reason = "method-override"
        elif elsewhere:
            reason = "target-override"
        elif head.upgrade:
            reason = "upgrade"
        elif guarded:
            reason = "precondition"
        elif _any(self._bypass, head, exchange.client_ip):
            reason = "bypass"
        directives = request_directives(head) if directed else None
        codings = accepted(accept)
        key = b""
        if not reason:
            key = self.maker(head, scheme) + told_about_host(exchange, head)
            cache = exchange.world.cache
            if cache is not None and len(cache.marks) > 1:
                key += self.mark(pool)
        return Query(
            key,
            reason,
            is_head=head.method == b"HEAD",
            conditional=conditional,
            ranged=ranged and head.method == b"GET",
            codings=codings,
            accept=canonical(codings),
            accept_encoding=accept,
            directives=directives if self.settings.honour_clients else None,
            only_if_cached=directives is not None and directives.only_if_cached,
            no_transform=directives is not None and directives.no_transform,
        )


def mark_of(changes: bytes, pool: str) -> bytes:
    """See Caching.mark."""
    return b"\npool:%b%b" % (pool.encode(), changes)


def changes_of(settings: HttpRouteSettings) -> bytes:
    """What stands in keys for what a route changes in requests: other backends' answers may come of it."""
    if settings.rewrite is None and settings.request_fields == FieldEdits():
        return b""
    text = repr((settings.rewrite, settings.request_fields))
    return b" as:" + blake2b(text.encode(), digest_size=8).hexdigest().encode()


def marks_of(routes: Iterable[tuple[str, HttpRouteSettings]]) -> frozenset[bytes]:
    """All marks there can be: `routes` are those that cache, with the name of their pool ("" for a split)."""
    marks: set[bytes] = set()
    for pool, settings in routes:
        pools = [pool] if settings.split is None else [name for name, _ in settings.split.pools]
        marks.update(mark_of(changes_of(settings), name) for name in pools)
    return frozenset(marks)


def told_about_host(exchange: Account, head: RequestHead) -> bytes:
    """What a trusted peer says that the client asked for, where it is passed on: answers may go by it (K1)."""
    intro = exchange.intro
    if intro is None or not head.origin:
        return b""
    usual = b"X-Forwarded-Host: %b\r\n" % head.authority
    lines = [line + b"\r\n" for line in intro.lines.split(b"\r\n")]
    port = b"X-Forwarded-Port: %b\r\n" % exchange.conversation.facts.port
    told = [line for line in lines if line.startswith(_ABOUT_HOST) and line not in (usual, port)]
    told += [b"host" for line in lines if line.startswith(b"Forwarded: ") and b"host=" in line.lower()]
    return b"\n" + b"".join(told).replace(b"\r\n", b";") if told else b""


def _any(tests: list[Test | None], head: RequestHead, client_ip: str) -> bool:
    return any(test is None or test(head, client_ip) for test in tests)
