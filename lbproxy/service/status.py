"""`lbproxy status` in words: what the control socket tells, as a page for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbproxy.config.units import printable

_HEADINGS = ("pool/backend", "address", "state", "for", "why", "weight", "active", "limit", "sessions", "failed")
# These read better flush right.
_NUMBERS = frozenset({"for", "weight", "active", "limit", "sessions", "failed"})


def status_text(status: dict[str, Any]) -> str:
    """The page for what `GET /v1/status` answered."""
    lines = [
        f"lbproxy {status['version']}, pid {status['pid']}, {status['state']},"
        f" up {age(status['uptime_seconds'])}, {status['sessions']} of at most {status['max_sessions']} sessions",
        "",
    ]
    for listener in status["listeners"]:
        refused = sum(listener["refused"].values())
        lines.append(
            f"listener {listener['name']}  {', '.join(listener['binds'])}  {listener['sessions']} sessions,"
            f" {listener['accepted']} accepted, {refused} refused"
        )
        if listener["handshakes"] is not None:
            lines.append(_handshakes_line(listener["handshakes"]))
    lines += map(_pool_line, status["pools"])
    rows = [_row(pool["pool"], backend) for pool in status["pools"] for backend in pool["backends"]]
    lines += ["", *table(_HEADINGS, rows)]
    lines += _certificate_lines(status["certificates"])
    dropped = status["records"]["dropped"]
    if dropped:
        lines += ["", f"{dropped} records were dropped: their sink did not take them"]
    return "\n".join(lines)


def _handshakes_line(results: dict[str, int]) -> str:
    """The successes first, then the failures by their word."""
    failed = {word: count for word, count in sorted(results.items()) if word not in ("full", "resumed")}
    words = f" ({', '.join(f'{count} {word}' for word, count in failed.items())})" if failed else ""
    return (
        f"  TLS handshakes: {results.get('full', 0)} full, {results.get('resumed', 0)} resumed,"
        f" {sum(failed.values())} failed{words}"
    )


def _certificate_lines(certificates: dict[str, Any]) -> list[str]:
    """What an operator should look after; nothing while all is well."""
    trouble = [f"certificate {one['path']}: {one['message']}" for one in certificates["expiring"]]
    trouble += [f"file {one['path']}: {one['message']}" for one in certificates["problems"]]
    return ["", *map(printable, trouble)] if trouble else []


def _pool_line(pool: dict[str, Any]) -> str:
    return (
        f"pool {pool['pool']}  {pool['policy']}, {pool['active']} active, {pool['queued']} queued,"
        f" {pool['usable']} of {len(pool['backends'])} backends usable, {pool['check'] or 'no'} checks"
        + (", PANIC" if pool["panic"] else "")
    )


def _row(pool: str, backend: dict[str, Any]) -> tuple[str, ...]:
    weight = f"{backend['weight']}"
    if backend["effective"] != backend["weight"]:
        weight = f"{backend['effective']:g}/{weight}"
    return (
        f"{pool}/{backend['id']}" + (" (backup)" if backend["backup"] else ""),
        backend["address"],
        backend["state"],
        age(backend["since_seconds"]),
        backend["reason"] or "-",
        weight,
        str(backend["active"]),
        "none" if backend["limit"] is None else str(backend["limit"]),
        str(backend["sessions_total"]),
        str(backend["failures_total"]),
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    return [
        "  ".join(
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ).rstrip()
        for row in (headings, *rows)
    ]


def age(seconds: float) -> str:
    """A span of time in its two largest units: "42s", "3m10s", "5h2m", "12d4h"."""
    whole = int(seconds)
    for unit, size, below, below_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // below_size
            return f"{whole // size}{unit}" + (f"{rest}{below}" if rest else "")
    return f"{whole}s"
