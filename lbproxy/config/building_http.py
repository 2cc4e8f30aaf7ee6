"""From the read tables about HTTP to the frozen values of `lbproxy.model_http`.

Owns the short spellings: which word of a file is which kind of value. What other files say is fetched by `Contents`.
"""

from __future__ import annotations

from typing import Literal, cast

from lbproxy import model_http
from lbproxy.addresses import NetworkSet
from lbproxy.config.building_cache import compression, decompression, route_cache
from lbproxy.config.contents import Contents
from lbproxy.config.places import Path
from lbproxy.config.schema_conditions import ConditionTable
from lbproxy.config.schema_http import HttpTable, LoadReportTable, StickyTable
from lbproxy.config.schema_pools import CheckTable, PoolTable
from lbproxy.config.schema_routes import AnswerTable, EditsTable, RewriteTable, RouteTable

_TO_CHECK = ("path", "method", "host", "headers", "status", "body")


def listener_http(table: HttpTable | None, path: Path, contents: Contents) -> model_http.HttpSettings:
    """How a listener speaks HTTP; `path` is that of the table."""
    if table is None:
        return model_http.HttpSettings()
    return model_http.HttpSettings(
        trusted_peers=_networks(table.trusted_peers),
        default_host=table.default_host,
        underscores="pass" if table.underscores == "pass" else "drop",
        max_head=table.max_head,
        max_fields=table.max_fields,
        max_target=table.max_target,
        max_requests=table.max_requests,
        via=table.via,
        forwarded=table.forwarded,
        request_id=table.request_id,
        traceparent=cast(Literal["pass", "mint", "drop"], table.traceparent),
        client_cert=table.client_cert,
        redirect_https=table.redirect_https,
        hsts=table.hsts,
        hsts_subdomains=table.hsts_subdomains,
        abort_on_half_close=table.abort_on_half_close,
        expose=table.expose,
        error_pages=_error_pages(table.error_pages, path, contents),
    )


def route_http(table: RouteTable, path: Path, contents: Contents) -> model_http.HttpRouteSettings:
    """What a route does with requests; `path` is that of the route."""
    return model_http.HttpRouteSettings(
        condition=condition(table, outermost=True),
        split=model_http.Split(tuple(table.split.items()), table.split_key) if table.split else None,
        redirect=model_http.Redirect(table.redirect.to, table.redirect.status) if table.redirect else None,
        answer=_answer(table.answer, (*path, "answer"), contents),
        rewrite=_rewrite(table.rewrite),
        request_fields=_edits(table.request_headers),
        response_fields=_edits(table.response_headers),
        max_body=table.max_body,
        mirror=model_http.Mirror(table.mirror.pool, table.mirror.percent, table.mirror.unsafe)
        if table.mirror
        else None,
        retry_idempotent=table.retry == "idempotent",
        idempotency_key=table.idempotency_key,
        retry_statuses=tuple(table.retry_statuses),
        upgrades=tuple(table.upgrades),
        streaming=table.streaming,
        encoded_slash=table.encoded_slash == "allow",
        merge_slashes=table.merge_slashes,
        conceal=table.conceal,
        error_pages=_error_pages(table.error_pages, path, contents),
        cache=route_cache(table.cache),
        cache_bypass=tuple(map(condition, table.cache.bypass)) if table.cache else (),
        cache_no_store=tuple(map(condition, table.cache.no_store)) if table.cache else (),
        compress=compression(table.compress),
        decompress=decompression(table.decompress_requests),
    )


def condition(table: ConditionTable, *, outermost: bool = False) -> model_http.Condition:
    """What a request must be like. The clients of a whole route are kept by the route, not by its condition."""
    return model_http.Condition(
        hosts=tuple(table.host or ()),
        paths=tuple(table.path or ()),
        path_regexes=tuple(table.path_regex or ()),
        methods=tuple(table.method or ()),
        headers=tuple(model_http.NamedMatch(name.lower(), match) for name, match in table.header.items()),
        queries=tuple(model_http.NamedMatch(name, match) for name, match in table.query.items()),
        cookies=tuple(model_http.NamedMatch(name, match) for name, match in table.cookie.items()),
        clients=None if outermost else _networks(table.client),
        every=tuple(map(condition, table.all_)),
        some=tuple(map(condition, table.any_)),
        none=tuple(map(condition, table.not_)),
    )


def pool_http(table: PoolTable, path: Path, contents: Contents) -> model_http.HttpPoolSettings:
    """How a pool's backends are spoken to; `path` is that of the pool."""
    return model_http.HttpPoolSettings(
        sticky=_sticky(table.sticky, (*path, "sticky"), contents),
        idle_connections=table.http.idle_connections,
        max_requests=table.http.max_requests,
        max_life=table.http.max_life,
        http10=table.http.version == "1.0",
        conceal=table.http.conceal,
    )


def check_http(table: CheckTable) -> model_http.HttpCheck | None:
    """The request of a health check, None where none of its keys is written."""
    if not any(table.given(key) for key in _TO_CHECK):
        return None
    return model_http.HttpCheck(
        method=table.method,
        path=table.path,
        host=table.host,
        headers=tuple(table.headers.items()),
        statuses=tuple(table.status),
        body=table.body,
    )


def load_report(table: LoadReportTable | None) -> model_http.LoadReport | None:
    """Where backends tell their load."""
    return model_http.LoadReport(table.port, table.interval, table.timeout) if table else None


def _networks(written: list[str] | None) -> NetworkSet | None:
    return None if written is None else NetworkSet(written)


def _error_pages(written: dict[str, str], path: Path, contents: Contents) -> tuple[model_http.ErrorPage, ...]:
    return tuple(
        model_http.ErrorPage(int(status), *contents.text(file, (*path, "error_pages", status)))
        for status, file in written.items()
    )


def _answer(table: AnswerTable | None, path: Path, contents: Contents) -> model_http.FixedAnswer | None:
    if table is None:
        return None
    body, content_type = table.body, table.content_type or "text/plain; charset=utf-8"
    if table.file is not None:
        body, content_type = contents.text(table.file, (*path, "file"), table.content_type)
    return model_http.FixedAnswer(table.status, body, content_type, tuple(table.headers.items()))


def _rewrite(table: RewriteTable | None) -> model_http.Rewrite | None:
    if table is None:
        return None
    return model_http.Rewrite(table.strip_prefix, table.add_prefix, table.regex, table.path, table.host)


def _edits(table: EditsTable) -> model_http.FieldEdits:
    return model_http.FieldEdits(tuple(table.set_.items()), tuple(table.add.items()), tuple(table.remove))


def _sticky(table: StickyTable | None, path: Path, contents: Contents) -> model_http.StickySettings | None:
    if table is None:
        return None
    kind, name = _sticky_kind(table)
    return model_http.StickySettings(
        kind=kind,
        name=name,
        keys=contents.secrets(table.key_file, (*path, "key_file")) if table.key_file else (),
        max_age=table.max_age,
        max_idle=table.max_idle,
        max_life=table.max_life,
        same_site=cast(model_http.SameSite, table.same_site),
        domain=table.domain,
        strict=table.strict,
        table_size=table.table_size,
        table_idle=table.table_idle,
    )


def _sticky_kind(table: StickyTable) -> tuple[model_http.StickyKind, str]:
    kind, _, name = table.by.partition(":")
    if kind == "header":
        return "header", name
    if name:
        return "learnt_cookie", name
    return ("client_ip", "") if kind == "client_ip" else ("cookie", table.name)
