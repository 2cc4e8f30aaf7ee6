"""Key paths: from where the checks stand to where the user's text stands.

The checks work on a copy of the file from which unreadable parts were cut, so that one bad value does not hide the
next. Owns the way back: which element of the text it was, its line, its full key. Refuses to know what is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]{1,60}")


class Places:
    """The way from a path in the cut copy to a line and a key of the text.

    `raw` is the file as tomllib read it, `lines` its index. Paths in `raw` that could not be read are *spoiled*.
    """

    def __init__(self, raw: Mapping[str, Any], lines: Mapping[Path, int]) -> None:
        self.raw = raw
        self._spoiled: set[Path] = set()
        self._around_spoiled: set[Path] = set()
        self._lines = lines
        self._kept: dict[Path, list[int]] = {}

    def line(self, path: Path) -> int:
        """The line of this path, else that of its nearest ancestor; 0 when there is none."""
        return self.line_at(self.original(path))

    def line_at(self, original: Path) -> int:
        """The same for a path in the text."""
        while original:
            if line := self._lines.get(original):
                return line
            original = original[:-1]
        return 0

    def key(self, path: Path) -> str:
        """The full key as a person writes it: `pool.web.backends[0].weight`."""
        return written(self.original(path))

    def spoil(self, originals: Collection[Path]) -> None:
        """These paths of the text could not be read."""
        self._spoiled.update(originals)
        self._around_spoiled.update(bad[:n] for bad in originals for n in range(1, len(bad)))

    def is_spoiled(self, path: Path) -> bool:
        """Whether this value, something in it or something around it could not be read."""
        return self.is_gone(path) or self.original(path) in self._around_spoiled

    def is_gone(self, path: Path) -> bool:
        """Whether this value as a whole could not be read, itself or with something around it."""
        original = self.original(path)
        return any(original[:n] in self._spoiled for n in range(1, len(original) + 1))

    def is_unreadable(self, original: Path) -> bool:
        """Whether this very value of the text, not just something around it, could not be read."""
        return original in self._spoiled

    def is_written(self, path: Path) -> bool:
        """Whether the text has a value at this path of its own."""
        node: Any = self.raw
        try:
            for part in path:
                node = node[part]
        except (LookupError, TypeError):
            return False
        return True

    def original(self, path: Path) -> Path:
        """The path in the text. Short forms have no inner keys there: `bind = "..."` has no element 0."""
        result: Path = ()
        node: Any = self.raw
        for depth, part in enumerate(path):
            if isinstance(part, int):
                if not isinstance(node, list):
                    continue
                kept = self._kept.get(path[:depth])
                index = kept[part] if kept is not None else part
                result, node = (*result, index), node[index]
            elif isinstance(node, dict):
                result, node = (*result, part), node.get(part)
            else:
                break
        return result

    def cut(self) -> dict[str, Any]:
        """The file without what is spoiled. From now on paths are taken to be paths in this copy."""
        self._kept.clear()
        copy = self._cut(self.raw, (), ())
        assert isinstance(copy, dict)
        return copy

    def _cut(self, node: Any, original: Path, path: Path) -> Any:
        if original and original not in self._around_spoiled:
            return node
        if isinstance(node, dict):
            return {
                key: self._cut(value, (*original, key), (*path, key))
                for key, value in node.items()
                if (*original, key) not in self._spoiled
            }
        if isinstance(node, list):
            kept = [index for index in range(len(node)) if (*original, index) not in self._spoiled]
            self._kept[path] = kept
            return [self._cut(node[old], (*original, old), (*path, new)) for new, old in enumerate(kept)]
        return node


class OptionPlaces(Places):
    """Places for the quick form: no text, and each value came from an option of the command line."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, {})

    def key(self, path: Path) -> str:
        match self.original(path):
            case ("listener", _, "tls", "certificates", _, "key"):
                return "--key"
            case ("listener", _, "tls", *_):
                return "--cert"
            case ("listener", *_):
                return "--listen"
            case ("pool", _, "policy", *_):
                return "--policy"
            case _:
                return "--backend"


def written(path: Path) -> str:
    """A key path as TOML would quote it, array elements counted from 0 in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else _quoted(part))
    return text


def _quoted(part: str) -> str:
    cut = part if len(part) <= 60 else part[:57] + "..."
    return json.dumps(cut, ensure_ascii=False)
