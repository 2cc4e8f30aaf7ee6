"""The life of the cache: made when a route stores answers, changed by reloads, swept after purges, gone at the end.

Owns when these happen, and what an operator may do to what is stored: it is the desk of the control socket. Refuses to
know what may be stored.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lbproxy.cache.bans import Ban, Kind
from lbproxy.cache.keys import key_of_url
from lbproxy.http.hosts import normalise_host
from lbproxy.http.messages import HttpError
from lbproxy.model import Configuration
from lbproxy.model_cache import DiskSettings
from lbproxy.net.worker import Worker
from lbproxy.service.disk_store import Disk
from lbproxy.session.caching import marks_of
from lbproxy.session.shared_cache import SharedCache

# What is stored is held against purges in slices of about so many, with a pause between them (seconds).
_SLICE, _PAUSE = 500, 0.02
# How often the store is looked after (seconds), and how many more answers are worth a word to the collector.
_TEND, _MANY = 1.0, 20_000
# So many bans, the newest, are told one by one.
_SHOWN = 100
_COUNTED = ("written", "loads", "evicted", "dropped", "errors")
_WORDS = ("hit", "stale", "updating", "revalidated", "miss", "bypass")


class CachingService(Service):
    """See the module. `cache` is None while no route caches. `disk` is there while one is configured."""

    log = Logger()
    name = "caching"

    def __init__(
        self, reactor: Any, worker: Worker, clock: Callable[[], float], wall: Callable[[], float] = time.time
    ) -> None:
        self._reactor = reactor
        self._worker = worker
        self._clock = clock
        self._wall = wall
        self.disk: Disk | None = None
        self._tending: Any = None
        self._frozen = 0
        self._disk_path = ""
        self._sweeping: Any = None
        self._cursor = 0
        self._upto = 0

    @property
    def cache(self) -> SharedCache | None:
        """What the worker stores in."""
        return self._worker.cache

    def configure(self, configuration: Configuration) -> None:
        """Go by this configuration from now on; what is stored stays, as far as there is room."""
        settings = configuration.cache
        caching = [
            (route.pool or "", route.http)
            for route in configuration.routes
            if route.http is not None and route.http.cache is not None
        ]
        cache = self._worker.cache
        if not caching:
            self._worker.cache = None
            self._use_disk(None)
            return
        if cache is None:
            cache = SharedCache(settings, self._clock, self._wall() - self._clock())
            self._worker.cache = cache
        cache.configure(settings, marks_of(caching))
        self._use_disk(settings.disk, settings.variants)
        cache.disk = self.disk

    def startService(self) -> None:
        """Tend the store from now on."""
        super().startService()
        self._tending = self._reactor.callLater(_TEND, self._tend)

    def stopService(self) -> Deferred[None] | None:
        """Write what waits to be written."""
        super().stopService()
        for call in (self._sweeping, self._tending):
            if call is not None and call.active():
                call.cancel()
        self._sweeping = self._tending = None
        return None if self.disk is None else self.disk.stop()

    def _use_disk(self, settings: DiskSettings | None, variants: int = 32) -> None:
        disk = self.disk
        if disk is not None and (settings is None or settings.path != self._disk_path):
            disk.stop()
            self.disk = disk = None
        if settings is None:
            return
        if disk is None:
            self._disk_path = settings.path
            self.disk = disk = Disk(settings, self._reactor, variants=variants)
            disk.start()
        else:
            disk.configure(settings)

    def _tend(self) -> None:
        """Work off a limit that was lowered; and let the collector pass over what is stored: it would take half a
        second to look at a million answers, of which none is in a cycle.
        """
        self._tending = self._reactor.callLater(_TEND, self._tend)
        cache = self._worker.cache
        if cache is None:
            return
        cache.store.trim()
        cache.forget_faces()
        cache.settle()
        if abs(cache.store.objects - self._frozen) > _MANY:
            self._frozen = cache.store.objects
            gc.collect(1)
            gc.freeze()

    # The desk: see CacheDesk in cache_page.py.

    def purge(self, kind: str, value: str, soft: bool) -> dict[str, Any]:
        """See CacheDesk."""
        cache = self._worker.cache
        if cache is None:
            raise ValueError("no route caches any more")
        wanted = _value_of(kind, value)
        now = cache.now()
        if kind == "url":
            purged = self._purge_url(cache, wanted, now, soft=soft)
            self.log.info("purged {url}: {count} stored answers", url=value, count=purged)
            return {"purged": purged}
        number = cache.bans.add(cast(Kind, kind), wanted, now, soft=soft)
        if self.disk is not None:
            self.disk.purge(cast(Kind, kind), wanted, now, soft=soft)
        self.log.info("purge {number}: {kind} {value}", number=number, kind=kind, value=value or "-")
        self._sweep_again()
        return {"ban": number}

    def _purge_url(self, cache: SharedCache, key: bytes, now: float, *, soft: bool) -> int:
        """What the usual key finds is counted and goes at once; what has more in its key goes when it is met."""
        found = [stored for mark in cache.suffixes for stored in cache.stored_under(key + mark)]
        if not soft:
            cache.invalidate(key, now)
        cache.bans.add("url", key, now, soft=soft)
        if self.disk is not None:
            self.disk.purge("url", key, now, soft=soft)
        for stored in found:
            if soft:
                cache.expire(stored, now)
            else:
                cache.forget(stored)
        self._sweep_again()
        return len(found)

    def status(self) -> dict[str, Any]:
        """See CacheDesk."""
        cache = self._worker.cache
        if cache is None:
            return {}
        store, disk = cache.store, self.disk
        return {
            "memory": {
                "used": store.used,
                "limit": store.limit,
                "objects": store.objects,
                "evicted": store.evicted_total,
            },
            "disk": None if disk is None else _disk_status(disk, cache.settings.disk),
            "requests": {word: cache.counts[word] for word in _WORDS},
            "stored": cache.stored_total,
            "not_stored": dict(cache.refused.most_common(20)),
            "collapsed": cache.collapsed,
            "fetching": len(cache.flights),
            "bans": len(cache.bans),
            "ban_list": [_ban_status(ban) for ban in cache.bans.list()[-_SHOWN:]],
        }

    # Sweeping.

    def _sweep_again(self) -> None:
        """Hold all that is stored against the bans there are now; then they can be forgotten."""
        cache = self._worker.cache
        if cache is not None:
            self._cursor, self._upto = 0, cache.bans.newest
            if self._sweeping is None:
                self._sweeping = self._reactor.callLater(_PAUSE, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        cache = self._worker.cache
        if cache is None:
            return
        met, cursor = cache.store.walk(self._cursor, _SLICE)
        for stored in met:
            cache.hold_against_bans(stored, cache.now())
        if cursor is None:
            # What is on its way was asked for before, or will be held against the floor that they leave.
            cache.bans.forget(self._upto)
        else:
            self._cursor = cursor
            self._sweeping = self._reactor.callLater(_PAUSE, self._sweep)


def _value_of(kind: str, value: str) -> bytes:
    """As Bans wants it. Raises ValueError with a sentence."""
    if kind in ("url", "prefix"):
        return key_of_url(value)
    if kind == "tag":
        return value.lower().encode("utf-8")
    if kind == "host":
        try:
            return normalise_host(value.encode("ascii"), 0)[0]
        except (UnicodeEncodeError, HttpError):
            raise ValueError(f"host is {value!r}, it must be a name or an address without a port") from None
    return b""


def _ban_status(ban: Ban) -> dict[str, Any]:
    return {
        "number": ban.number,
        "kind": ban.kind,
        "value": ban.value.decode("utf-8", "replace"),
        "soft": ban.soft,
        "since": ban.since,
    }


def _disk_status(disk: Disk, settings: DiskSettings | None) -> dict[str, Any]:
    told = disk.status()
    counts: dict[str, Any] = {word: told.get(word, 0) for word in _COUNTED}
    return {
        "open": told["open"],
        "used": told["bytes"],
        "limit": 0 if settings is None else settings.size,
        "files": told["files"],
        "error": told["last_error"],
        **counts,
    }
