"""Which backends of a pool are in service: the primaries, else the backups, else in panic all that are wanted.

Owns that order of resort. Refuses to know load: a full backend is in service too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lbproxy.balancing.backend import Backend
from lbproxy.errors import DNS, NO_BACKEND, Outcome


@dataclass(frozen=True, slots=True)
class Tiers:
    """`serving` are the backends in service, in file order. `panic` tells that checks and ejections are ignored.

    `reserve` are usable backups behind serving primaries: only for a session that has tried all of `serving`.
    """

    serving: list[Backend]
    reserve: list[Backend]
    panic: bool = False


def tiers(backends: Iterable[Backend], panic_threshold: int) -> Tiers:
    """Choose who is in service.

    Panic (`panic_threshold` percent, 0 for never) is judged within the tier that would serve: sick primaries are
    no reason to prefer them to healthy backups.
    """
    primaries: list[Backend] = []
    backups: list[Backend] = []
    for backend in backends:
        if backend.wanted and backend.resolved:
            (backups if backend.backup else primaries).append(backend)
    fit = [backend for backend in primaries if backend.usable]
    spare = [backend for backend in backups if backend.usable]
    if fit:
        if len(fit) * 100 < panic_threshold * len(primaries):
            return Tiers(primaries, spare, panic=True)
        return Tiers(fit, spare)
    if spare:
        if len(spare) * 100 < panic_threshold * len(backups):
            return Tiers(backups, [], panic=True)
        return Tiers(spare, [])
    if panic_threshold:
        return Tiers(primaries or backups, [], panic=True)
    return Tiers([], [])


def refusal(tiers: Tiers, backends: Iterable[Backend], tried: Collection[Backend]) -> Outcome | None:
    """Why a session that has tried `tried` gets nothing: None when those for it are merely full.

    A lack of names is blamed only where nothing else is wrong.
    """
    if not tried:
        if tiers.serving:
            return None
    elif any(backend not in tried for backend in tiers.serving) or any(b not in tried for b in tiers.reserve):
        return None
    wanted = [backend for backend in backends if backend.wanted and backend not in tried]
    return DNS if wanted and not any(backend.resolved for backend in wanted) else NO_BACKEND
