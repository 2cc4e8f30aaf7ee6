"""Pools in one line, and a session that waits in a queue."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from lbproxy.addresses import Address
from lbproxy.balancing.backend import Backend
from lbproxy.balancing.change import Change
from lbproxy.balancing.pool import Pool
from lbproxy.errors import Outcome
from lbproxy.model import BackendSettings, PoolSettings


def make_settings(names: str = "a b c", weights: Iterable[int] = (), **rest: Any) -> PoolSettings:
    """Pool "web" with backends of these names; a name with "+" at its end is a backup's."""
    ids = names.split()
    loads = [*weights, *[1] * len(ids)]
    backends = tuple(
        BackendSettings(
            id=name.rstrip("+"),
            address=Address("ip", "127.0.0.1", 9101 + place),
            weight=loads[place],
            backup=name.endswith("+"),
        )
        for place, name in enumerate(ids)
    )
    return PoolSettings(name="web", backends=backends, **rest)


class News:
    """Keeps the changes it is told of."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __call__(self, change: Change) -> None:
        self.changes.append(change)

    def words(self) -> list[str]:
        """What was told since the last call, as "backend old>new reason"."""
        told = [f"{c.backend} {c.old}>{c.new} {c.reason}" for c in self.changes]
        self.changes.clear()
        return told


def make_pool(names: str = "a b c", weights: Iterable[int] = (), *, seed: int = 1, **rest: Any) -> Pool:
    """A pool at time 0."""
    return Pool(make_settings(names, weights, **rest), random.Random(seed).random, 0.0)


def watched_pool(names: str = "a b c", **rest: Any) -> tuple[Pool, News]:
    """A pool at time 0, and its news."""
    news = News()
    return Pool(make_settings(names, **rest), random.Random(1).random, 0.0, news), news


def changed(settings: PoolSettings, backend_id: str, **changes: Any) -> PoolSettings:
    """The settings with one backend's settings changed."""
    backends = tuple(replace(b, **changes) if b.id == backend_id else b for b in settings.backends)
    return replace(settings, backends=backends)


def take(pool: Pool, now: float = 0.0, key: bytes | None = None, tried: Collection[Backend] = ()) -> Backend:
    """A lease, where there must be one."""
    backend = pool.take(now, key, tried)
    assert backend is not None
    return backend


def picks(pool: Pool, count: int, *, keep: bool = False, now: float = 0.0) -> str:
    """The ids of so many leases, given back at once unless `keep`."""
    ids = []
    for _ in range(count):
        backend = take(pool, now)
        ids.append(backend.id)
        if not keep:
            pool.give_back(backend, now)
    return " ".join(ids)


def go_down(pool: Pool, backend_id: str, now: float = 0.0) -> None:
    """Let the active checks take a backend down."""
    for _ in range(pool.settings.check.fall):
        pool.check_failed(pool.backends[backend_id], "L4CON", now)


def come_up(pool: Pool, backend_id: str, now: float = 0.0) -> None:
    """Let the active checks bring a backend back."""
    for _ in range(pool.settings.check.rise):
        pool.check_passed(pool.backends[backend_id], "L4OK", now)


class Session:
    """A session that waits, and remembers what it was told.

    `then` is called with it once it is granted or dropped, to try what re-entrancy does.
    """

    def __init__(
        self,
        name: str = "",
        *,
        priority: int = 5,
        tried: Collection[Backend] = (),
        key: bytes | None = None,
        log: list[str] | None = None,
        then: Callable[[Session], None] | None = None,
    ) -> None:
        self.name = name
        self.priority = priority
        self.tried = tried
        self.key = key
        self.backend: Backend | None = None
        self.outcome: Outcome | None = None
        self._log = log
        self._then = then

    @property
    def waits(self) -> bool:
        """Whether it has heard nothing yet."""
        return self.backend is None and self.outcome is None

    def granted(self, backend: Backend, now: float) -> None:
        assert self.waits, "a waiter is told once"
        self.backend = backend
        self._tell(f"{self.name}={backend.id}")

    def dropped(self, outcome: Outcome, now: float) -> None:
        assert self.waits, "a waiter is told once"
        self.outcome = outcome
        self._tell(f"{self.name}!{outcome}")

    def _tell(self, text: str) -> None:
        if self._log is not None:
            self._log.append(text)
        if self._then is not None:
            self._then(self)
