"""What a route does with requests, worked out once from its settings.

Owns the compiled form: templates, edits, rewriting, pages. Refuses to know requests: exchanges carry it out.
"""

from __future__ import annotations

from collections.abc import Callable

from lbproxy.compress.known import KnownBody
from lbproxy.http.edits import Edits
from lbproxy.http.rewriting import Rewriter
from lbproxy.http.templates import Template
from lbproxy.model_http import ErrorPage, HttpRouteSettings
from lbproxy.routing import HttpRoute
from lbproxy.routing.keys import KeyOf, key_reader
from lbproxy.routing.splitting import Splitter
from lbproxy.session.caching import Caching, changes_of
from lbproxy.session.coding import Compression


class Plan:
    """See the module. `direct` is True where a request goes to the route's pool and nothing is looked at before;
    `plain_request` and `plain_response` where nothing is changed in them.
    """

    __slots__ = (
        "caching",
        "compression",
        "conceal",
        "direct",
        "known",
        "offloads",
        "pages",
        "plain_request",
        "plain_response",
        "redirect",
        "request_edits",
        "response_edits",
        "rewriter",
        "settings",
        "split_key",
        "splitter",
        "upgrades",
    )

    def __init__(self, settings: HttpRouteSettings, random: Callable[[], float]) -> None:
        self.settings = settings
        self.request_edits = Edits.of(settings.request_fields)
        self.response_edits = Edits.of(settings.response_fields)
        self.rewriter = None if settings.rewrite is None else Rewriter.of(settings.rewrite, settings.merge_slashes)
        self.redirect = None if settings.redirect is None else Template(settings.redirect.to)
        self.splitter = None if settings.split is None else Splitter(settings.split, random)
        self.split_key: KeyOf | None = None
        if settings.split is not None and settings.split.key is not None:
            self.split_key = key_reader(settings.split.key)
        self.pages: dict[int, ErrorPage] = {page.status: page for page in settings.error_pages}
        self.upgrades = frozenset(name.encode().lower() for name in settings.upgrades)
        self.conceal = settings.conceal
        self.direct = (
            settings.redirect is None
            and settings.answer is None
            and settings.split is None
            and settings.max_body is None
        )
        self.caching = None
        if settings.cache is not None:
            self.caching = Caching(
                settings.cache,
                settings.cache_bypass,
                settings.cache_no_store,
                merged=settings.merge_slashes,
                changes=changes_of(settings),
                split=settings.split is not None,
            )
        # Bodies of our own that have been packed, by body and type; see known.py.
        self.known: dict[tuple[bytes, bytes], KnownBody] = {}
        self.compression = None if settings.compress is None else Compression(settings.compress)
        # Whether backends are asked for plain bodies.
        self.offloads = settings.compress is not None and settings.compress.offload
        self.plain_request = (
            self.request_edits is None and self.rewriter is None and settings.merge_slashes and not self.offloads
        )
        self.plain_response = self.response_edits is None and not settings.conceal


def plan_of(route: HttpRoute, random: Callable[[], float]) -> Plan:
    """The plan of a route; it is made when the first request takes the route."""
    plan: Plan | None = route.plan
    if plan is None:
        route.plan = plan = Plan(route.http, random)
    return plan
