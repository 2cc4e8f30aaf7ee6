"""An answer that is going to be stored, as it is handed from who has judged it to who takes its body."""

from __future__ import annotations

from dataclasses import dataclass

from lbproxy.cache.values import Stored
from lbproxy.session.shared_cache import GrowingFile


@dataclass(frozen=True, slots=True)
class Arriving:
    """`vary` are the names of its Vary, `file` is where a long body goes, None for memory. `told` is the Cache-Status
    of who has asked for it, and `own` are lines that are for that client alone.
    """

    stored: Stored
    vary: tuple[bytes, ...]
    file: GrowingFile | None
    told: bytes
    own: bytes
