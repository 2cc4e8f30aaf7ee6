"""`lbproxy cache stat` in words: what the control socket tells about the cache, as a page for a terminal.

The hit ratio is that of the requests which looked into the store: those that were answered from it without waiting for
a backend, fresh or stale, of all of them.
"""

from __future__ import annotations

from typing import Any

from lbproxy.config.units import printable

_SERVED = ("hit", "stale", "updating")
_LOOKED = (*_SERVED, "revalidated", "miss")
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def cache_text(status: dict[str, Any]) -> str:
    """The page for what `GET /v1/cache` answered."""
    memory, requests, disk = status["memory"], status["requests"], status.get("disk")
    rows = [
        ("memory", f"{size(memory['used'])} of {size(memory['limit'])}"),
        ("objects", str(memory["objects"])),
        ("evictions", str(memory["evicted"])),
        ("hit ratio", hit_ratio(requests)),
        ("hits", str(requests.get("hit", 0))),
        ("misses", str(requests.get("miss", 0))),
        ("stale", str(requests.get("stale", 0) + requests.get("updating", 0))),
        ("revalidated", str(requests.get("revalidated", 0))),
        ("bypassed", str(requests.get("bypass", 0))),
        ("collapsed", str(status.get("collapsed", 0))),
        ("bans", str(status.get("bans", 0))),
        *_disk_rows(disk),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def hit_ratio(requests: dict[str, int]) -> str:
    """The share of requests that were served from the store; "-" before the first one."""
    looked = sum(requests.get(word, 0) for word in _LOOKED)
    served = sum(requests.get(word, 0) for word in _SERVED)
    return f"{100 * served / looked:.1f} %" if looked else "-"


def size(octets: int) -> str:
    """Bytes in the largest unit that leaves a whole number before the point: "12.3MiB"."""
    if octets < 1024:
        return f"{octets}B"
    number, power = octets / 1024, 0
    while number >= 1023.95 and power < len(_UNITS) - 1:
        number, power = number / 1024, power + 1
    return f"{number:.1f}".removesuffix(".0") + _UNITS[power]


def _disk_rows(disk: dict[str, Any] | None) -> list[tuple[str, str]]:
    if disk is None:
        return [("disk", "none")]
    rows = [
        ("disk", f"{size(disk['used'])} of {size(disk['limit'])} in {disk['files']} files"),
        ("on disk", f"{disk['loads']} loaded, {disk['written']} written, {disk['evicted']} evicted"),
    ]
    if disk["dropped"] or disk["errors"]:
        why = f": {printable(disk['error'])}" if disk.get("error") else ""
        rows.append(("disk trouble", f"{disk['dropped']} not written in time, {disk['errors']} errors{why}"))
    return rows
