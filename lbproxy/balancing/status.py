"""A pool's condition as plain values, for the control socket.

Owns the names of the fields. Refuses to know JSON, and anything that is not public on the pool.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lbproxy.balancing.backend import Backend
from lbproxy.balancing.load_report import NOTHING_REPORTED, Reported
from lbproxy.model import PoolSettings

if TYPE_CHECKING:
    from lbproxy.balancing.pool import Pool

_TOTALS = (
    "sessions_total",
    "reuses_total",
    "connects_ok_total",
    "connects_failed_total",
    "failures_total",
    "ejections_total",
    "checks_ok_total",
    "checks_failed_total",
)


def pool_status(pool: Pool, now: float) -> dict[str, object]:
    """The pool and its backends, in file order."""
    backends = list(pool.backends.values())
    return {
        "pool": pool.settings.name,
        "policy": pool.settings.policy,
        "check": check_kind(pool.settings),
        "active": pool.active,
        "queued": pool.queued,
        "retries": pool.retries,
        "usable": sum(backend.usable for backend in backends),
        "panic": pool.panic,
        **{name: sum(getattr(backend, name) for backend in backends) for name in _TOTALS},
        "backends": [backend_status(backend, now) for backend in backends],
    }


def check_kind(settings: PoolSettings) -> str | None:
    """How the backends of a pool are checked: "tcp", "tls", "http" or "https"; None when they are not."""
    if not settings.check.enabled:
        return None
    secure = settings.tls is not None and settings.check.tls
    if settings.check.http is not None:
        return "https" if secure else "http"
    return "tls" if secure else "tcp"


def backend_status(backend: Backend, now: float) -> dict[str, object]:
    """One backend. `limit` is None for none, `since_seconds` the age of its state, `effective` a plain weight."""
    return {
        "id": backend.id,
        "address": str(backend.address),
        "state": backend.state,
        "reason": backend.reason,
        "admin": backend.admin,
        "reported": reported_status(backend.reported),
        "breaker": backend.breaker.state,
        "checks": backend.checks.state,
        "resolved": backend.resolved,
        "since_seconds": max(0.0, now - backend.since),
        "weight": backend.weight,
        "effective": backend.effective / 1000,
        "active": backend.active,
        "limit": None if backend.limit == math.inf else int(backend.limit),
        "backup": backend.backup,
        **{name: getattr(backend, name) for name in _TOTALS},
    }


def reported_status(reported: Reported) -> dict[str, object] | None:
    """What a backend says of itself; None when it has said nothing that matters."""
    if reported == NOTHING_REPORTED:
        return None
    return {
        "state": reported.state,
        "down": reported.down,
        "percent": reported.percent,
        "max_active": reported.max_active,
    }
