"""What pydantic found, in sentences for people.

Most values are read by our own classes, which bring their sentence; this owns the rest: unknown keys, missing keys,
and a table where an array belongs. Refuses to know lines and how sentences are collected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from lbproxy.config.places import Path, written
from lbproxy.config.schema import FileTable
from lbproxy.config.shapes import table_in
from lbproxy.config.units import closest, did_you_mean, show

# Keys that people look for because other balancers have them. An honest answer beats "unknown".
_ELSEWHERE = {
    "sni": "unknown key; a route by SNI is written server_name",
    "authority": 'unknown key; did you mean "host", or for TLS that passes through "server_name"?',
    "tls": "unknown key; TLS is set for each listener, in [listener.tls], and for each pool, in [pool.NAME.tls]",
    "http": 'unknown key; HTTP is set for each listener, with protocol = "http" and in [listener.http]',
    "certificate": "unknown key; certificates are named in [listener.tls]: cert and key, or certificates",
    "weight": "unknown key; weights stand at backends, or in the split of a route",
    "cache": "unknown key; a cache is switched on for each route, with cache = true in its [[route]]",
    "compress": "unknown key; compression is switched on for each route, with compress = true in its [[route]]",
    "gzip": "unknown key; compression is switched on for each route, with compress = true in its [[route]]",
    "admin": 'unknown key; the local socket is set with [control] socket = "unix:/run/lbproxy/control.sock"',
}
# Nobody who writes one of these means a key that merely looks like it.
_NO_SLIP = frozenset({"cache"})
_BEFORE_POOL = "is over before the pool is known; set it in [timeouts] or [listener.timeouts]"
_EARLY = ("proxy_header", "client_hello", "request_head")
_OF_CLIENT = "is about the client's connection, whatever pools it gets to; set it in [timeouts] or [listener.timeouts]"
_INNER = {"listener": ("http",), "pool": ("http",)}
_MISSING = {
    "bind": 'is missing; a listener needs an address, as in bind = "0.0.0.0:80"',
    "backends": 'is missing; a pool needs servers, as in backends = ["10.0.0.1:80", "10.0.0.2:80"]',
    "from": "is missing; a listener that takes PROXY headers needs the list of their senders",
    "cert": 'is missing; write the PEM file, as in cert = "/etc/ssl/site.pem"',
    "pool": 'is missing; name the pool, as in pool = "web"',
    "to": 'is missing; say where to, as in to = "https://new.example{uri}"',
    "by": 'is missing; say what tells clients apart, as in by = "cookie"',
    "port": "is missing; say where the load is told, as in port = 9000",
    "path": 'is missing; name the directory, as in path = "/var/cache/lbproxy"',
    "names": 'is missing; a site needs names, as in names = ["a.example", "*.a.example"]',
}


def sentence(error: Mapping[str, Any]) -> str:
    """What to tell the user of one error of pydantic's."""
    loc: Path = error["loc"]
    match error["type"]:
        case "refused":
            return str(error["ctx"]["sentence"])
        case "missing":
            return _MISSING.get(str(loc[-1]), "is missing")
        case "extra_forbidden":
            return _unknown(loc)
        case "list_type" if loc[-1] in ("listener", "route", "site") and isinstance(error["input"], dict):
            name = ".".join(part for part in loc if isinstance(part, str))
            return f"is a single table; write [[{name}]] with two brackets on each side, once for each {loc[-1]}"
        case "list_type":
            return f"is {show(error['input'])}, it must be an array, in brackets"
        case "model_type" | "dict_type":
            return _no_table(loc, error["input"])
        case "recursion_depth_exceeded":
            return "nests tables too deeply to be read"
        case _:
            return f"is {show(error['input'])}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def meant_key(error: Mapping[str, Any]) -> Path | None:
    """The path of the known key that an unknown one is taken for."""
    if error["type"] != "extra_forbidden":
        return None
    loc: Path = error["loc"]
    meant = closest(str(loc[-1]), known_keys(loc[:-1]))
    return (*loc[:-1], meant) if meant else None


def _no_table(loc: Path, value: object) -> str:
    if loc == ("pool",):
        return f"is {show(value)}, it must be a table; write [pool.NAME], once for each pool"
    if loc[-1] == "tls" and loc[0] == "listener":
        return f"is {show(value)}, it must be a table; write [listener.tls], and in it the certificate"
    if len(loc) == 2 and loc[0] == "pool":
        name = str(loc[1])
        if name in known_keys(loc):
            return f"belongs to no pool; a pool has a name, write [pool.NAME] above {name}"
        return f"is {show(value)}, it must be a table; write [{written(loc)}] with one bracket on each side"
    hint = f"; write [{loc[-1]}] with one bracket on each side" if len(loc) == 1 and isinstance(value, list) else ""
    return f"is {show(value)}, it must be a table{hint}"


def _unknown(loc: Path) -> str:
    name = str(loc[-1])
    known = known_keys(loc[:-1])
    if name in _EARLY and "connect" in known and name not in known:
        return _BEFORE_POOL
    if name == "client_idle" and "connect" in known and name not in known:
        return _OF_CLIENT
    for inner in _INNER.get(str(loc[0]), ()):
        # Listeners and pools have tables of their own for these; people write the keys beside them.
        if len(loc) == 3 and name in known_keys((*loc[:-1], inner)):
            table = f"listener.{inner}" if loc[0] == "listener" else written((*loc[:-1], inner))
            return f"unknown key; it belongs into [{table}]"
    meant = did_you_mean(name, known)
    if name in _ELSEWHERE and (not meant or name in _NO_SLIP):
        return _ELSEWHERE[name]
    return "unknown key" + (meant or f"; known here are {', '.join(known)}")


def known_keys(table: Path) -> list[str]:
    """The keys that the table at this path may have."""
    model: type[BaseModel] = FileTable
    names = [part for part in table if isinstance(part, str)]
    for depth, name in enumerate(names):
        if depth == 1 and names[0] == "pool":
            continue  # a pool's name; any will do
        inner = next((table_in(f.annotation) for n, f in model.model_fields.items() if (f.alias or n) == name), None)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
