"""Where each key of a TOML text stands: key path -> line number.

Owns a scanner for text that tomllib has already accepted, so it checks nothing and only keeps its place.
Refuses to know what any key means or what any value is worth.
"""

from __future__ import annotations

import contextlib
import re
import tomllib

from lbproxy.config.places import Path

# Nothing in the configuration nests deeper; keys below get the line of this ancestor, and a key of a hundred
# thousand dots cannot make the index grow with the square of its length.
DEEPEST = 24

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+"{3,5}'
    r"|'''(?:[^']++|'(?!''))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")


def line_index(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key and array element of valid TOML.

    A table made by several headers has the line of the first text that names it.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    # Arrays may nest so deep that tomllib only just managed; what is known so far serves for ancestors.
    with contextlib.suppress(RecursionError):
        scanner.document()
    return scanner.lines


class _Scanner:
    """Walks the text once; `at` is the place reached."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}
        self._counted_to = 0
        self._line = 1

    def document(self) -> None:
        base: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                base = self._header()
            else:
                self._pair(base)
            self._skip(_BLANK)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; gives the path that the pairs below it belong to."""
        line = self._here()
        double = self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        path: Path = ()
        parts = self._key()
        for depth, part in enumerate(parts, start=1):
            path = _joined(path, part)
            self._mark(path, line)
            if double and depth == len(parts):
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                # A header inside an array of tables speaks of its last element.
                path = _joined(path, self._tables[path])
                self._mark(path, line)
        self._skip(_SPACE)
        self.at += 2 if double else 1
        return path

    def _pair(self, base: Path) -> None:
        """`a.b = value`"""
        line = self._here()
        path = base
        for part in self._key():
            path = _joined(path, part)
            self._mark(path, line)
        self._skip(_SPACE)
        self.at += 1
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            if quoted := _STRING.match(self.text, self.at):
                self.at = quoted.end()
                parts.append(str(tomllib.loads(f"key = {quoted[0]}")["key"]))
            elif bare := _BARE.match(self.text, self.at):
                self.at = bare.end()
                parts.append(bare[0])
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _value(self, path: Path) -> None:
        if self.text.startswith("[", self.at):
            self._array(path)
        elif self.text.startswith("{", self.at):
            self._inline_table(path)
        elif string := _STRING.match(self.text, self.at):
            self.at = string.end()
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._closed("]"):
                return
            element = _joined(path, index)
            self._mark(element, self._here())
            self._value(element)
            index += 1
            self._comma("]")

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self._closed("}"):
                return
            self._pair(path)
            self._comma("}")

    def _comma(self, closing: str) -> None:
        self._skip(_BLANK)
        # What does not close is a comma. Were it ever something else, the scanner still has to move on.
        if not self.text.startswith(closing, self.at):
            self.at += 1

    def _closed(self, bracket: str) -> bool:
        # The end of the text closes too: on text that tomllib would refuse, the scanner must still come to an end.
        if self.at >= len(self.text):
            return True
        if self.text.startswith(bracket, self.at):
            self.at += 1
            return True
        return False

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if found := pattern.match(self.text, self.at):
            self.at = found.end()

    def _here(self) -> int:
        """The line of the place reached; places only move forward, so the text is counted once."""
        self._line += self.text.count("\n", self._counted_to, self.at)
        self._counted_to = self.at
        return self._line

    def _mark(self, path: Path, line: int) -> None:
        if len(path) <= DEEPEST:
            self.lines.setdefault(path, line)


def _joined(path: Path, part: str | int) -> Path:
    # One element beyond the deepest is kept, to tell "too deep" from "deepest".
    return (*path, part) if len(path) <= DEEPEST else path
