"""A change of a backend's state, as one frozen value that logs, counters and the control socket share.

Owns the shape of the news. Refuses to know who listens and how the news is written down.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """Backend `backend` of pool `pool` went from state `old` to state `new`.

    `reason` is the code of the check that decided ("L4CON", ...) or one of "consecutive", "wilson" (an ejection),
    "probe" (a step of an ejection's end; `old` and `new` may then both be "ejected"), "operator", "report" (the
    backend's own word) and "dns".
    `evidence` is a short sentence with the counts or bounds behind the decision.
    """

    pool: str
    backend: str
    old: str
    new: str
    reason: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.backend}: {self.old} -> {self.new} ({self.reason}: {self.evidence})"


def ignore(change: Change) -> None:
    """Listen to nothing: what a pool does with its news when nobody asked for it."""
