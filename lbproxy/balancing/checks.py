"""What active checks say about one backend: unknown, up or down.

Owns the counting of results in a row. Refuses to know how a check is made, when, and what else may keep a
backend out of service.
"""

from __future__ import annotations

from typing import Literal

CheckState = Literal["unknown", "up", "down"]


class Checks:
    """The verdict of the active checks, flipped only by several results in a row.

    `state` starts as "unknown", which counts as usable until the first `fall`: an unchecked backend at start is
    more likely alive than dead, and waiting for the checks would refuse every early session. `streak` counts the
    results in a row that speak against `state`.
    """

    __slots__ = ("state", "streak")

    def __init__(self) -> None:
        self.state: CheckState = "unknown"
        self.streak = 0

    def passed(self, rise: int) -> bool:
        """One check passed; whether that flipped `state` (down needs `rise` in a row, unknown just this one)."""
        if self.state == "up":
            self.streak = 0
            return False
        if self.state == "unknown":
            return self._flip("up")
        self.streak += 1
        return self.streak >= rise and self._flip("up")

    def failed(self, fall: int) -> bool:
        """One check failed; whether that flipped `state` (`fall` in a row do)."""
        if self.state == "down":
            self.streak = 0
            return False
        self.streak += 1
        return self.streak >= fall and self._flip("down")

    def forget(self) -> None:
        """Know nothing again: checks were stopped (maintenance, switched off), so what they said has aged."""
        self.state = "unknown"
        self.streak = 0

    def _flip(self, state: CheckState) -> bool:
        self.state = state
        self.streak = 0
        return True

    def __repr__(self) -> str:
        return f"<Checks {self.state} streak={self.streak}>"
