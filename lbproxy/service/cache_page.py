"""The control socket's paths about the cache: how it does, and dropping what is stored.

    GET  /v1/cache          how full it is, and what became of the requests
    POST /v1/cache/purge    {"url": U} | {"prefix": U} | {"host": H} | {"tag": T} | {"all": true}, each with
                            "soft": true to mark stale in place of dropping

Owns what may be asked. Who looks into the store is a `CacheDesk`.
"""

from __future__ import annotations

from typing import Any, Protocol

KINDS = ("url", "prefix", "host", "tag", "all")
_LONGEST = 64 * 1024

NO_CACHE = (404, {"error": "no route caches: write cache = true in a [[route]]"})


class CacheDesk(Protocol):
    """Whoever knows the stores."""

    def purge(self, kind: str, value: str, soft: bool) -> dict[str, Any]:
        """Drop what is stored, or with `soft` let it count as stale. `kind` is one of KINDS, `value` "" for "all".

        Gives {"purged": how many} for a URL, and {"ban": its number} for the others, which are found when they are
        next asked for. Raises ValueError with a sentence for a value that cannot be right.
        """

    def status(self) -> dict[str, Any]:
        """How the cache does, as plain values. What `lbproxy cache stat` shows of it:

        "memory": {"used", "limit" (bytes), "objects", "evicted"}; "disk": None, or {"open", "used", "limit" (bytes),
        "files", "written", "loads", "evicted", "dropped", "errors", "error" (the last one's sentence or None)};
        "requests": how many were "hit", "stale", "updating", "revalidated", "miss", "bypass";
        "collapsed": how many waited for the answer to another one; "bans": how many there are. With
        `--json` there is more: the bans themselves, and why answers were not stored.
        """


def cache_status(desk: CacheDesk | None) -> tuple[int, dict[str, Any]]:
    """The answer to GET /v1/cache: status and JSON."""
    return NO_CACHE if desk is None else (200, desk.status())


def purge(desk: CacheDesk | None, wanted: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The answer to POST /v1/cache/purge with this JSON: status and JSON."""
    if desk is None:
        return NO_CACHE
    try:
        return 200, desk.purge(*_read(wanted))
    except ValueError as problem:
        return 422, {"error": str(problem)}


def _read(wanted: dict[str, Any]) -> tuple[str, str, bool]:
    """Kind, value and whether it is soft. Raises ValueError with a sentence."""
    kinds = [kind for kind in KINDS if kind in wanted]
    if unknown := sorted(wanted.keys() - {*KINDS, "soft"}):
        raise ValueError(f"unknown: {', '.join(unknown)}; known are {', '.join(KINDS)} and soft")
    if len(kinds) != 1:
        raise ValueError(f"there must be one of {', '.join(KINDS)}, and there are {len(kinds)} of them")
    kind, soft = kinds[0], wanted.get("soft", False)
    value = wanted[kind]
    if not isinstance(soft, bool):
        raise ValueError(f"soft is {soft!r}, it must be true or false")
    if kind == "all":
        if value is not True:
            raise ValueError(f"all is {value!r}, it must be true")
        return kind, "", soft
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise ValueError(f"{kind} must be text of at most {_LONGEST} characters that is not empty")
    return kind, value, soft
