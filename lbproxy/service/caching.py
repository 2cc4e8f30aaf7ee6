"""The life of the cache: made when a route stores answers, changed by reloads, swept after purges, gone at the end.

Owns when these happen, and what an operator may do to what is stored. Refuses to know what may be stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from lbproxy.model import Configuration
from lbproxy.net.worker import Worker
from lbproxy.session.shared_cache import SharedCache

# What is stored is held against purges in slices of so many, with a pause between them (seconds).
_SLICE, _PAUSE = 500, 0.05


class CachingService(Service):
    """See the module. `cache` is None while no route caches."""

    log = Logger()
    name = "caching"

    def __init__(
        self, reactor: Any, worker: Worker, clock: Callable[[], float], wall: Callable[[], float] = time.time
    ) -> None:
        self._reactor = reactor
        self._worker = worker
        self._clock = clock
        self._wall = wall

    @property
    def cache(self) -> SharedCache | None:
        """What the worker stores in."""
        return self._worker.cache

    def configure(self, configuration: Configuration) -> None:
        """Go by this configuration from now on; what is stored stays, as far as there is room."""
        wanted = any(route.http is not None and route.http.cache is not None for route in configuration.routes)
        if not wanted:
            self._worker.cache = None
            return
        cache = self._worker.cache
        if cache is None:
            cache = SharedCache(configuration.cache, self._clock, self._wall() - self._clock())
            self._worker.cache = cache
        cache.configure(configuration.cache)
