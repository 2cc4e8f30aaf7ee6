"""Requests, routes and tables as the tests of routing want them; and what a condition means, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from lbproxy.addresses import Address
from lbproxy.http.messages import RequestHead
from lbproxy.model import BackendSettings, Configuration, ListenerSettings, PoolSettings, RouteSettings
from lbproxy.model_http import Condition, HttpRouteSettings, NamedMatch
from lbproxy.routing import HttpRoutes, RoutingTable

BACKENDS = (BackendSettings("one", Address("ip", "192.0.2.10", 80)),)
POOLS = tuple(PoolSettings(name, BACKENDS) for name in ("main", "red", "blue"))
CLIENT = "192.0.2.1"


def request(
    path: bytes = b"/",
    host: bytes = b"a.example",
    *,
    method: bytes = b"GET",
    query: bytes | None = None,
    fields: Sequence[tuple[bytes, bytes]] = (),
    unmerged: bytes | None = None,
    encoded_slash: bool = False,
    authority: bytes | None = None,
) -> RequestHead:
    lines = [(name, value, name + b": " + value + b"\r\n") for name, value in fields]
    return RequestHead(
        method,
        path,
        path if unmerged is None else unmerged,
        query,
        host,
        host if authority is None else authority,
        1,
        lines,
        b"".join(line for _, _, line in lines),
        [],
        0,
        False,
        False,
        False,
        b"",
        False,
        b"",
        encoded_slash,
    )


def listener(name: str = "web", pool: str | None = "main", line: int = 7) -> ListenerSettings:
    return ListenerSettings(name, (Address("ip", "127.0.0.1", 80),), protocol="http", pool=pool, line=line)


def http_routes(*settings: RouteSettings, pool: str | None = "main") -> HttpRoutes:
    return RoutingTable(Configuration((listener(pool=pool),), POOLS, settings)).for_http_listener("web")


def to(pool: str, condition: Condition | None = None, *, encoded_slash: bool = False) -> RouteSettings:
    return RouteSettings(pool, http=HttpRouteSettings(condition or Condition(), encoded_slash=encoded_slash))


def pool_of(routes: HttpRoutes, head: RequestHead, client_ip: str = CLIENT) -> str | None:
    route = routes.find(head, client_ip)
    return None if route is None else route.pool


def reference_holds(condition: Condition, head: RequestHead, client_ip: str, *, merge_slashes: bool = True) -> bool:
    """The docstring of Condition, one part after the other, without any thought of speed."""
    path = (head.path if merge_slashes else head.unmerged).decode()
    host = head.host.decode()
    if condition.hosts and not any(
        host.endswith(p[1:]) and host != p[1:] if p.startswith("*.") else host == p for p in condition.hosts
    ):
        return False
    if (condition.paths or condition.path_regexes) and path == "*":
        return False
    if condition.paths and not any(path.startswith(p) if p.endswith("/") else path == p for p in condition.paths):
        return False
    if condition.path_regexes and not any(re.fullmatch(p, path) for p in condition.path_regexes):
        return False
    if condition.methods and head.method.decode() not in condition.methods:
        return False
    fields = [(name.decode(), value) for name, value, _ in head.fields] + [("host", head.authority)]
    cookies = [pair.strip() for name, value in fields if name == "cookie" for pair in value.split(b";")]
    parts = (head.query or b"").replace(b"+", b" ").split(b"&")
    named: list[tuple[Sequence[NamedMatch], list[tuple[str, bytes]]]] = [
        (condition.headers, fields),
        (condition.cookies, [(pair.partition(b"=")[0].decode(), pair.partition(b"=")[2]) for pair in cookies]),
        (
            condition.queries,
            [
                (unquote_to_bytes(part.partition(b"=")[0]).decode("latin-1"), unquote_to_bytes(part.partition(b"=")[2]))
                for part in parts
                if part
            ],
        ),
    ]
    for wanted, pairs in named:
        for match in wanted:
            if not _reference_matches(match, [value for name, value in pairs if name == match.name]):
                return False
    if condition.clients is not None and client_ip not in condition.clients:
        return False

    def holds(inner: Condition) -> bool:
        return reference_holds(inner, head, client_ip, merge_slashes=merge_slashes)

    return (
        all(holds(inner) for inner in condition.every)
        and (not condition.some or any(holds(inner) for inner in condition.some))
        and not any(holds(inner) for inner in condition.none)
    )


def _reference_matches(wanted: NamedMatch, values: list[bytes]) -> bool:
    text = wanted.match.value.encode()
    return {
        "present": bool(values),
        "absent": not values,
        "exact": any(value == text for value in values),
        "prefix": any(value[: len(text)] == text for value in values),
        "regex": any(re.fullmatch(text, value, re.DOTALL) for value in values)
        if wanted.match.kind == "regex"
        else None,
    }[wanted.match.kind] is True
