"""What is wrong with a configuration, as values: one problem, the outcome of loading, and the collector.

Owns how a problem is written and in which order they come. Refuses to know what the rules are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lbproxy.config.places import Path, Places, written
from lbproxy.model import Configuration

Severity = Literal["error", "warning"]

# Enough for anybody to read in one sitting; a file of a million unknown keys must not cost a million sentences.
MOST_PROBLEMS = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One sentence about one key.

    `file` is None for the command line, `line` 0 when no line is known, `key` empty for the file as a whole.
    """

    file: str | None
    line: int
    key: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        """`file:line: key: message`; a warning says so before its key."""
        place = f"{self.file}:{self.line}" if self.file is not None and self.line else self.file
        word = "warning" if self.severity == "warning" else None
        return ": ".join(part for part in (place, word, self.key, self.message) if part)

    def as_dict(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "message": self.message,
            "severity": self.severity,
        }


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading: a configuration unless there is an error, and every problem in the order of lines."""

    configuration: Configuration | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep this configuration from being used."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that do not."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")


class Notes:
    """Collects problems by key path, and looks up where each path stands in the text."""

    def __init__(self, file: str | None, places: Places) -> None:
        self.file = file
        self.places = places
        self.failed = False
        self._problems: dict[Problem, None] = {}

    def error(self, path: Path, message: str) -> None:
        """Note something that keeps the configuration from being used."""
        self.failed = True
        self._note(path, message, "error")

    def error_at(self, original: Path, message: str) -> None:
        """The same, by the path in the text: for what stands in a table that could not be read as a whole."""
        self.failed = True
        self._problems.setdefault(Problem(self.file, self.places.line_at(original), written(original), message))

    def warn(self, path: Path, message: str) -> None:
        """Note something that works, but hardly as meant."""
        self._note(path, message, "warning")

    def sorted(self) -> tuple[Problem, ...]:
        """Every problem once, in the order of lines; beyond a thousand only their number."""
        ordered = sorted(self._problems, key=lambda problem: (problem.line, problem.severity))
        if len(ordered) > MOST_PROBLEMS:
            # Errors first: a cut list must never look harmless.
            ordered.sort(key=lambda problem: (problem.severity, problem.line))
            rest = len(ordered) - MOST_PROBLEMS
            ordered[MOST_PROBLEMS:] = [Problem(self.file, 0, "", f"there are {rest} more problems")]
        return tuple(ordered)

    def _note(self, path: Path, message: str, severity: Severity) -> None:
        problem = Problem(self.file, self.places.line(path), self.places.key(path), message, severity)
        self._problems.setdefault(problem)
