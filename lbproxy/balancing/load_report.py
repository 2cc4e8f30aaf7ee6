"""What a backend says of its own load, in one line of words.

Owns the words, and how one line adds to those before it. Refuses to know how a line is fetched and what the pool
makes of it. The words are those of HAProxy's agent checks, so that the agents people have can be asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lbproxy.model import AdminState

# A longer line is no report; whoever reads it from a socket needs no more than this either.
LONGEST = 256
# So many characters of what is not understood are kept for the log.
_QUOTED = 64

_PERCENT = re.compile(rb"([0-9]{1,3})%")
_MAXCONN = re.compile(rb"maxconn:([1-9][0-9]{0,8})")
_BLANKS = bytes.maketrans(b",\t", b"  ")
_STATES: dict[bytes, AdminState] = {b"ready": "ready", b"drain": "drain", b"maint": "maint"}
_DOWN = {b"up": False, b"down": True, b"fail": True, b"failed": True, b"stopped": True}


@dataclass(frozen=True, slots=True)
class Report:
    """What one line says; None stands for "nothing of that".

    `percent` is of the configured weight, 0 to 999. `max_active` is at least 1. `down` is True for "down" and its
    kin, False for "up". `detail` is what follows "#", `unknown` the words that mean nothing here, both as text that
    may be written to a log.
    """

    percent: int | None = None
    max_active: int | None = None
    state: AdminState | None = None
    down: bool | None = None
    detail: str = ""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """All that a backend has said of itself so far, and has not taken back.

    `wanted` tells that it wants sessions at all; `admits` that it says of itself that it can serve them, too.
    """

    percent: int = 100
    max_active: int | None = None
    state: AdminState = "ready"
    down: bool = False
    wanted: bool = field(init=False, compare=False)
    admits: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        wanted = self.state == "ready" and self.percent > 0
        object.__setattr__(self, "wanted", wanted)
        object.__setattr__(self, "admits", wanted and not self.down)

    def with_report(self, report: Report) -> Reported:
        """This, and what one more line says: each line changes only what it speaks of."""
        return Reported(
            self.percent if report.percent is None else report.percent,
            self.max_active if report.max_active is None else report.max_active,
            self.state if report.state is None else report.state,
            self.down if report.down is None else report.down,
        )

    def __str__(self) -> str:
        limit = "" if self.max_active is None else f", at most {self.max_active} sessions"
        return f"{'down' if self.down else 'up'}, {self.state}, {self.percent} % of its weight{limit}"


NOTHING_REPORTED = Reported()


def parse_report(line: bytes) -> Report:
    """Read one line, or what a connection brought up to its end; what follows a line's end is not looked at.

    Words are separated by blanks, tabs or commas and may be in any case; of several that speak of the same the last
    one counts. Words that mean nothing are left out and told. Nothing is raised: a line longer than `LONGEST` bytes
    says nothing.
    """
    line = line[: LONGEST + 2].replace(b"\r", b"\n").partition(b"\n")[0]
    if len(line) > LONGEST:
        return Report(unknown=(_quoted(line),))
    said, _, detail = line.partition(b"#")
    percent: int | None = None
    max_active: int | None = None
    state: AdminState | None = None
    down: bool | None = None
    unknown = []
    for written in said.translate(_BLANKS).split(b" "):
        word = written.lower()
        if not word:
            continue
        if word in _STATES:
            state = _STATES[word]
        elif word in _DOWN:
            down = _DOWN[word]
        elif found := _PERCENT.fullmatch(word):
            percent = int(found[1])
        elif found := _MAXCONN.fullmatch(word):
            max_active = int(found[1])
        else:
            unknown.append(_quoted(written))
    return Report(percent, max_active, state, down, _quoted(detail.strip(b" \t")), tuple(unknown))


def _quoted(raw: bytes) -> str:
    """As printable ASCII, and not too much of it."""
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in raw[:_QUOTED])
