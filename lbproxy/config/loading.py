"""From a file or a text to a configuration and every problem in it.

Owns the order of the steps: bytes, text, TOML, tables, model, cross-checks; what a step cannot use is noted and cut,
so that the next ones still speak about the rest. Refuses to know any single key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from lbproxy.config.building import build
from lbproxy.config.building_tls import Paths
from lbproxy.config.checks import check_all
from lbproxy.config.contents import Contents
from lbproxy.config.lines import line_index
from lbproxy.config.places import Places
from lbproxy.config.problems import MOST_PROBLEMS, Loaded, Notes, Problem
from lbproxy.config.schema import FileTable
from lbproxy.config.sentences import meant_key, sentence

Resolve = Callable[[str], bool]

# Ten thousand backends need less than one; what is larger is some other file, or /dev/zero.
LARGEST_FILE = 8 * 1024 * 1024

_AT_LINE = re.compile(r"(.*) \(at line ([0-9]+), column ([0-9]+)\)", re.DOTALL)


def load(path: str, resolve: Resolve | None = None, *, now: float | None = None, read_files: bool = True) -> Loaded:
    """Load a file; every failure to do so is a problem, none an exception.

    `resolve` tells whether a host name resolves; without it names are not looked up. `now` is the time in POSIX
    seconds; without it the dates of certificates are not judged. With `read_files` False the files that the
    configuration names (certificates, keys, lists) are not opened: what is wrong with them is not told.
    """
    try:
        with open(path, "rb") as stream:
            octets = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        return _useless(path, 0, f"cannot be read: {reason}")
    if len(octets) > LARGEST_FILE:
        return _useless(path, 0, f"is larger than {LARGEST_FILE // 1024**2} MiB; is it the right file?")
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _useless(path, 1, "is UTF-16, it must be UTF-8")
    try:
        text = octets.decode()
    except UnicodeDecodeError as problem:
        line = octets.count(b"\n", 0, problem.start) + 1
        return _useless(path, line, f"is not UTF-8: the byte 0x{octets[problem.start]:02x} fits nowhere in it")
    return loads(text, path, resolve, now=now, read_files=read_files)


def loads(
    text: str, file: str, resolve: Resolve | None = None, *, now: float | None = None, read_files: bool = True
) -> Loaded:
    """Load a text; `file` is what problems call it, and where relative paths in it begin. The rest as for `load`."""
    # Editors on Windows begin a file with a mark that is no part of its text.
    text = text.removeprefix("\ufeff")
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        return _useless(file, 0, "nests arrays or tables too deeply to be read")
    except ValueError as problem:
        # TOMLDecodeError, or Python's own limit on the digits of an integer.
        return _bad_toml(file, str(problem))
    return examine(raw, Places(raw, line_index(text)), file, resolve, now=now, read_files=read_files)


def examine(
    raw: Mapping[str, Any],
    places: Places,
    file: str | None,
    resolve: Resolve | None = None,
    *,
    now: float | None = None,
    read_files: bool = True,
) -> Loaded:
    """Judge plain data, from a file or made from options; `places` tells where it stands. The rest as for `load`."""
    notes = Notes(file, places)
    tables = _tables(raw, places, notes)
    configuration = None
    if tables is not None:
        configuration = build(tables, places, file, Contents(Paths(file), notes, read_files))
        check_all(tables, configuration, notes, resolve, now, read_files)
    return Loaded(None if notes.failed else configuration, notes.sorted())


def _tables(raw: Mapping[str, Any], places: Places, notes: Notes) -> FileTable | None:
    """The tables of what can be read, after noting what cannot; None when nothing can."""
    cut: Mapping[str, Any] = raw
    # The first round finds all that is wrong. Later ones only meet the gaps it cut (an array that is empty now, a
    # table without its required key) and widen them; the loop is bounded rather than trusted.
    for _ in range(8):
        try:
            return FileTable.model_validate(cut)
        except ValidationError as problem:
            errors = [_at_value(error) for error in problem.errors(include_url=False)]
        # A misspelt key counts as the key that was meant: nobody needs to hear that it is missing as well.
        meant = (places.original(key) for error in errors[:MOST_PROBLEMS] if (key := meant_key(error)))
        places.spoil([key for key in meant if not places.is_written(key)])
        for error in errors[: MOST_PROBLEMS + 1]:
            if error["type"] == "extra_forbidden" or not places.is_spoiled(error["loc"]):
                notes.error(error["loc"], sentence(error))
        # Without a required key its table is no use; else only the value itself is dropped.
        useless = (error["loc"][:-1] if error["type"] == "missing" else error["loc"] for error in errors)
        places.spoil([places.original(loc) for loc in useless])
        cut = places.cut()
    return None


def _at_value(error: Any) -> dict[str, Any]:
    """The same error; one of a key that the user chose has the place of its value, without pydantic's mark for keys."""
    of_key = error.get("ctx", {}).get("of_key", False)
    return {**error, "loc": error["loc"][:-1]} if of_key else dict(error)


def _bad_toml(file: str, message: str) -> Loaded:
    found = _AT_LINE.fullmatch(message)
    if found:
        return _useless(file, int(found[2]), f"is not TOML at column {found[3]}: {_lowered(found[1])}")
    return _useless(file, 0, f"is not TOML: {_lowered(message)}")


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _useless(file: str, line: int, message: str) -> Loaded:
    return Loaded(None, (Problem(file, line, "", message),))
