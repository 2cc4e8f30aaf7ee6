"""The control socket: what runs now, as JSON over HTTP on a UNIX socket that only its owner may use.

    GET   /healthz  /readyz            lives; ready (503 while stopping)
    GET   /v1/status                   everything: instance, listeners, pools, counters
    GET   /v1/pools  /v1/sessions      parts of it
    GET   /v1/certificates             what is served, until when, and what is wrong with files; never keys
    GET   /v1/cache                    how full the cache is, and what became of requests (cache_page.py)
    POST  /v1/cache/purge              {"url": U} | {"prefix": U} | {"host": H} | {"tag": T} | {"all": true}; "soft"
    PATCH /v1/pools/P/backends/B       {"state": "ready" | "drain" | "maint", "weight": 0..256}
    POST  /v1/reload                   reads the configuration again; 422 with the problems when it is refused

GET never changes anything. Try it: curl --unix-socket PATH http://localhost/v1/status
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from lbproxy import __version__
from lbproxy.balancing.pool import Pool
from lbproxy.model import ControlSettings
from lbproxy.net.binding import remove_stale_socket
from lbproxy.service.cache_page import cache_status, purge
from lbproxy.service.certificate_status import certificates_status, certificates_summary
from lbproxy.session.record import describe
from lbproxy.session.tunnel import Tunnel

if TYPE_CHECKING:
    from lbproxy.service.proxy import ProxyService

_MODE = 0o600
_MOST_BODY = 1024 * 1024
_STATES = ("ready", "drain", "maint")


class ControlService(Service):
    """Listens on the control socket while the service runs."""

    log = Logger()
    name = "control"

    def __init__(self, proxy: ProxyService, settings: ControlSettings) -> None:
        self._proxy = proxy
        self._settings = settings
        self._port: Any = None

    def startService(self) -> None:
        """Open the socket, if one is configured."""
        super().startService()
        if self._settings.path is not None:
            self._open(self._settings.path)

    def stopService(self) -> Any:
        """Close it; the Deferred fires when its path is gone."""
        super().stopService()
        return self._close()

    def configure(self, settings: ControlSettings) -> None:
        """Have another socket from now on; one that could not be had before is tried again."""
        if settings == self._settings and (self._port is not None or settings.path is None):
            return
        self._close()
        self._settings = settings
        if self.running and settings.path is not None:
            self._open(settings.path)

    def _open(self, path: str) -> None:
        # Traffic is worth more than being asked about it: without the socket, everything else goes on.
        if not remove_stale_socket(path) and os.path.lexists(path):
            self.log.error("no control socket: another process answers at {path}, or it is no socket", path=path)
            return
        site = _QuietSite(_Root(self._proxy))
        # The mask keeps others out from the first moment; Twisted sets the mode only after it has bound.
        mask = os.umask(0o777 & ~_MODE)
        try:
            self._port = self._proxy.reactor.listenUNIX(path, site, mode=_MODE)
        except CannotListenError as problem:
            self.log.error("no control socket: {problem}", problem=str(problem))
        finally:
            os.umask(mask)

    def _close(self) -> Any:
        port, self._port = self._port, None
        return None if port is None else port.stopListening()


class _QuietSite(Site):
    """Questions are not logged; what they change is, where it changes."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """See HTTPFactory."""


class _Answer(Exception):
    """Ends a request early with a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Root(Resource):
    """Every path of the control socket."""

    isLeaf = True

    def __init__(self, proxy: ProxyService) -> None:
        super().__init__()
        self._proxy = proxy

    def render(self, request: Request) -> bytes:
        """See IResource."""
        path = [part.decode("utf-8", "replace") for part in request.postpath or [] if part]
        try:
            status, answer = self._answer(request.method.decode("ascii", "replace"), path, request)
        except _Answer as early:
            status, answer = early.status, {"error": early.message}
        request.setResponseCode(status, HTTPStatus(status).phrase.encode())
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return json.dumps(answer, default=str).encode() + b"\n"

    def _answer(self, method: str, path: list[str], request: Request) -> tuple[int, Any]:
        proxy = self._proxy
        match method, path:
            case (("GET" | "HEAD"), ["healthz"]):
                return 200, {"status": "ok"}
            case (("GET" | "HEAD"), ["readyz"]):
                state = proxy.stopping.state
                return (200 if state == "serving" else 503), {"status": state}
            case (("GET" | "HEAD"), ["v1", "status"]):
                return 200, status(proxy)
            case (("GET" | "HEAD"), ["v1", "pools"]):
                return 200, _pools(proxy)
            case (("GET" | "HEAD"), ["v1", "certificates"]):
                return 200, certificates_status(proxy.certificates, proxy.worker.wall())
            case (("GET" | "HEAD"), ["v1", "sessions"]):
                return 200, _sessions(proxy)
            case (("GET" | "HEAD"), ["v1", "cache"]):
                # Absent as long as no route caches.
                return cache_status(proxy.cache_desk)
            case "POST", ["v1", "cache", "purge"]:
                return purge(proxy.cache_desk, _body(request))
            case "PATCH", ["v1", "pools", pool, "backends", backend]:
                return self._change(pool, backend, _body(request))
            case "POST", ["v1", "reload"]:
                problems = proxy.reload()
                failed = any(problem.severity == "error" for problem in problems)
                return (422 if failed else 200), {"problems": [problem.as_dict() for problem in problems]}
        raise _Answer(404, f"there is no {method} {'/' + '/'.join(path)} here")

    def _change(self, pool_name: str, backend_id: str, wanted: dict[str, Any]) -> tuple[int, Any]:
        pool = self._proxy.balancer.pools.get(pool_name)
        backend = None if pool is None else pool.backends.get(backend_id)
        if pool is None or backend is None:
            raise _Answer(404, f"there is no backend {backend_id!r} in a pool {pool_name!r}")
        state, weight = wanted.pop("state", None), wanted.pop("weight", None)
        if wanted:
            raise _Answer(422, f"unknown: {', '.join(sorted(wanted))}; state and weight can be changed")
        if state is not None and state not in _STATES:
            raise _Answer(422, f"state is {state!r}, it must be one of {', '.join(_STATES)}")
        if weight is not None and (type(weight) is not int or not 0 <= weight <= 256):
            raise _Answer(422, f"weight is {weight!r}, it must be a number from 0 to 256")
        now = self._proxy.clock()
        if state is not None:
            pool.set_admin(backend, state, now)
        if weight is not None:
            pool.set_weight(backend, weight, now)
        return 200, pool.status(now)


def _body(request: Request) -> dict[str, Any]:
    if (request.getHeader("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise _Answer(415, "send Content-Type: application/json")
    raw = request.content.read(_MOST_BODY + 1) if request.content is not None else b""
    if len(raw) > _MOST_BODY:
        raise _Answer(413, "the body is larger than 1 MiB")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as problem:
        raise _Answer(400, f"the body is not JSON: {problem}") from problem
    if not isinstance(body, dict):
        raise _Answer(422, "the body must be a JSON object")
    return body


def _sessions(proxy: ProxyService) -> list[dict[str, object]]:
    now = proxy.clock()
    # A tunnel is what became of a request, and is told with its client.
    return [describe(session, now) for session in proxy.worker.sessions() if not isinstance(session, Tunnel)]


def _pools(proxy: ProxyService) -> list[dict[str, object]]:
    now = proxy.clock()
    return [pool.status(now) for pool in _sorted(proxy)]


def _sorted(proxy: ProxyService) -> list[Pool]:
    return [pool for _, pool in sorted(proxy.balancer.pools.items())]


def status(proxy: ProxyService) -> dict[str, object]:
    """Everything, as plain values."""
    copies = proxy.worker.copies
    return {
        "version": __version__,
        "pid": os.getpid(),
        "state": proxy.stopping.state,
        "uptime_seconds": round(proxy.clock() - proxy.started, 3),
        "file": proxy.configuration.file,
        "reactor": type(proxy.reactor).__name__,
        "sessions": proxy.total.sessions,
        "max_sessions": proxy.total.limit,
        "held_bytes": proxy.worker.budget.used,
        "shed": proxy.worker.shed_total,
        "pipes_in_use": proxy.worker.pipes.in_use,
        "idle_backend_connections": proxy.worker.idle.count,
        "mirrored": {"under_way": copies.active, "made": copies.made, "skipped": copies.skipped},
        "handshakes": {"under_way": proxy.worker.handshakes.under_way, "waiting": proxy.worker.handshakes.waiting},
        "records": {"written": proxy.records.written, "dropped": proxy.records.dropped},
        "listeners": [
            {
                "name": listener.name,
                "binds": proxy.listeners.bound(listener.name),
                "sessions": listener.sessions,
                "accepted": listener.admission.accepted,
                "refused": dict(listener.admission.refused),
                "paused": listener.paused_total,
                "handshakes": None if listener.sites is None else dict(listener.handshakes),
            }
            for listener in proxy.listeners.by_name.values()
        ],
        "pools": _pools(proxy),
        "certificates": certificates_summary(proxy.certificates, proxy.worker.wall()),
        "counters": proxy.counters.as_dict(),
    }
