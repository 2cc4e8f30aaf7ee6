"""How a route caches, worked out once from its settings; and what a request looks like to its cache.

Owns which requests pass by the cache and why, and the key. Refuses to know what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.cache.conditions import CONDITIONAL
from lbproxy.cache.directives import Directives, request_directives, response_directives
from lbproxy.cache.keys import KeyMaker
from lbproxy.cache.values import Query
from lbproxy.compress.negotiation import accepted, canonical
from lbproxy.http.messages import RequestHead, ResponseHead
from lbproxy.model_cache import RouteCacheSettings
from lbproxy.model_http import Condition
from lbproxy.routing.conditions import Test, compile_condition, goes_by_client, merged_path, unmerged_path

if TYPE_CHECKING:
    from lbproxy.session.account import Account

# Fields by which some backends take a request for one of another method (threats.md K3).
_OVERRIDES = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
_RANGE = b"range"
# What these ask is meant for the backend (RFC 9111, section 4.3.2).
_PRECONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})


class Caching:
    """See the module. `split` tells that the route has several pools, whose answers are kept apart."""

    __slots__ = ("_by_client", "_bypass", "_no_store", "maker", "merged", "settings", "split")

    def __init__(
        self,
        settings: RouteCacheSettings,
        bypass: tuple[Condition, ...],
        no_store: tuple[Condition, ...],
        *,
        merged: bool,
        split: bool,
    ) -> None:
        self.settings = settings
        self.split = split
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
        query = self._query(head, scheme, pool, exchange.client_ip)
        if not self.split and not self._by_client:
            head.memo_cache = (self, scheme, query)
        return query

    def key_of(self, head: RequestHead, scheme: bytes, pool: str) -> bytes:
        """The primary key."""
        return self._apart(self.maker(head, scheme), pool)

    def key_at(self, head: RequestHead, scheme: bytes, path: bytes, query: bytes | None, pool: str) -> bytes:
        """The key that the same client's request for another target of the same site would have."""
        return self._apart(self.maker.at(head, scheme, path, query), pool)

    def _apart(self, key: bytes, pool: str) -> bytes:
        return b"%b\npool:%b" % (key, pool.encode()) if self.split else key

    def directives(self, answer: ResponseHead) -> Directives:
        """What an answer says about being stored, as far as the route listens."""
        return response_directives(answer, targeted=self.settings.targeted)

    def may_store(self, head: RequestHead, client_ip: str) -> bool:
        """Whether the route lets the answer to this request be stored."""
        return not _any(self._no_store, head, client_ip)

    def _query(self, head: RequestHead, scheme: bytes, pool: str, client_ip: str) -> Query:
        conditional = ranged = overridden = False
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
            elif name in _OVERRIDES:
                overridden = True
        reason = ""
        if head.method not in (b"GET", b"HEAD"):
            reason = "method"
        elif head.length:
            reason = "request-body"
        elif overridden:
            reason = "method-override"
        elif head.upgrade:
            reason = "upgrade"
        elif guarded:
            reason = "precondition"
        elif _any(self._bypass, head, client_ip):
            reason = "bypass"
        directives = request_directives(head) if directed else None
        codings = accepted(accept)
        return Query(
            b"" if reason else self.key_of(head, scheme, pool),
            reason,
            is_head=head.method == b"HEAD",
            conditional=conditional,
            ranged=ranged and head.method == b"GET",
            codings=codings,
            accept=canonical(codings),
            accept_encoding=accept,
            directives=directives if self.settings.honour_clients else None,
            only_if_cached=directives is not None and directives.only_if_cached,
        )


def _any(tests: list[Test | None], head: RequestHead, client_ip: str) -> bool:
    return any(test is None or test(head, client_ip) for test in tests)
