"""How single values are read: one small frozen class for each kind of value.

Each stands in an `Annotated[...]` of schema.py, and gives pydantic a validator that either returns the value or says
in one sentence what was found and what would be right; the same object describes itself for the reference and the
JSON Schema. Refuses to know keys, tables and lines; addresses are in reading_addresses.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from lbproxy.config.units import did_you_mean, likely_size, listed, read_size, read_time, show, write_size, write_time

YEAR = 365 * 86400.0

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_RULE = "letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or digit"


def refuse(sentence: str) -> NoReturn:
    """Give up on a value; the sentence goes to the user as it is."""
    # Passed as context, since braces in a template would be read as placeholders.
    raise PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


class Reading:
    """Reads one kind of value."""

    def read(self, value: object) -> object:
        """The value for the model, or `refuse`."""
        raise NotImplementedError

    def words(self) -> str:
        """What may be written, for the reference."""
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        """The same for editors."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.json_schema()


@dataclass(frozen=True)
class Whole(Reading):
    """A whole number in a range, or "none" (read as None) where that makes sense."""

    least: int
    most: int
    none: bool = False

    def read(self, value: object) -> int | None:
        if self.none and value == "none":
            return None
        if isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most:
            return value
        refuse(f"is {show(value)}, it must be {self.words()}")

    def words(self) -> str:
        return f"a whole number from {self.least} to {self.most}" + (' or "none"' if self.none else "")

    def json_schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"const": "none"}]} if self.none else number


@dataclass(frozen=True)
class Real(Reading):
    """A number above `above`, up to `most`."""

    above: float
    most: float

    def read(self, value: object) -> float:
        # The comparison also refuses nan, and integers too large for a float never get to float().
        if isinstance(value, int | float) and not isinstance(value, bool) and self.above < value <= self.most:
            return float(value)
        refuse(f"is {show(value)}, it must be {self.words()}")

    def words(self) -> str:
        return f"a number above {self.above:g}, at most {self.most:g}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "exclusiveMinimum": self.above, "maximum": self.most}


@dataclass(frozen=True)
class Duration(Reading):
    """A time such as "250ms", in seconds when it is a plain number; "none" (read as infinity) where allowed."""

    none: bool = False
    least: float = 0.001
    most: float = YEAR

    def read(self, value: object) -> float:
        if self.none and value == "none":
            return math.inf
        seconds: float | None = None
        if isinstance(value, str):
            seconds = read_time(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
            seconds = float(value)
        if seconds is None:
            refuse(f"is {show(value)}, it must be {self.words()}")
        if not self.least <= seconds <= self.most:
            off = ' ("none" switches it off)' if self.none else ""
            refuse(f"is {show(value)}, it must be from {write_time(self.least)} to {write_time(self.most)}{off}")
        return seconds

    def words(self) -> str:
        text = f'a time such as "5s" or "1h30m", from {write_time(self.least)} to {write_time(self.most)}'
        return text + (', or "none"' if self.none else "")

    def json_schema(self) -> dict[str, Any]:
        number = {"type": "number", "minimum": self.least, "maximum": self.most}
        pattern = r"^([0-9.]+y)?([0-9.]+d)?([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9.]+ms)?$"
        forms: list[dict[str, Any]] = [{"type": "string", "pattern": pattern, "minLength": 2}, number]
        return {"anyOf": [*forms, {"const": "none"}] if self.none else forms}


class Rate(Reading):
    """Bytes per second as a plain number; "none" is read as 0, which everybody is faster than."""

    def read(self, value: object) -> float:
        if value == "none":
            return 0.0
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e9:
            return float(value)
        refuse(f"is {show(value)}, it must be {self.words()}")

    def words(self) -> str:
        return 'a number of bytes per second, above 0 and at most 1e9, or "none"'

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1e9}, {"const": "none"}]}


@dataclass(frozen=True)
class Size(Reading):
    """A number of bytes, "256MiB" or plain."""

    least: int
    most: int

    def read(self, value: object) -> int:
        size = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str):
            size = read_size(value)
            if size is None and (meant := likely_size(value)):
                refuse(f'is {show(value)}, write it as "{meant}"')
        if size is None:
            refuse(f"is {show(value)}, it must be {self.words()}")
        if not self.least <= size <= self.most:
            refuse(f"is {show(value)}, it must be from {write_size(self.least)} to {write_size(self.most)}")
        return size

    def words(self) -> str:
        return f'a size such as "64KiB" or "256MiB", from {write_size(self.least)} to {write_size(self.most)}'

    def json_schema(self) -> dict[str, Any]:
        text = {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$"}
        return {"anyOf": [text, {"type": "integer", "minimum": self.least, "maximum": self.most}]}


@dataclass(frozen=True)
class Word(Reading):
    """One of a few words. `hints` answers words that people from elsewhere try."""

    known: tuple[str, ...]
    hints: tuple[tuple[str, str], ...] = ()

    def read(self, value: object) -> str:
        if isinstance(value, str):
            if value in self.known:
                return value
            if hint := dict(self.hints).get(value):
                refuse(f"is {show(value)}; {hint}")
            refuse(f"is {show(value)}, it must be {self.words()}{did_you_mean(value, self.known)}")
        refuse(f"is {show(value)}, it must be {self.words()}")

    def words(self) -> str:
        return listed(self.known)

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self.known)}


@dataclass(frozen=True)
class Choice(Reading):
    """One of a few whole numbers."""

    known: tuple[int, ...]

    def read(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value in self.known:
            return value
        refuse(f"is {show(value)}, it must be {self.words()}")

    def words(self) -> str:
        return " or ".join(map(str, self.known))

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self.known)}


class Flag(Reading):
    """true or false, and nothing that merely looks like it."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        refuse(f"is {show(value)}, it must be true or false (without quotes)")

    def words(self) -> str:
        return "true or false"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Name(Reading):
    """A name that is safe in records, counters and on command lines."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and NAME.fullmatch(value):
            return value
        refuse(f"is {show(value)}, it must be a name: {NAME_RULE}")

    def words(self) -> str:
        return f"a name: {NAME_RULE}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{NAME.pattern}$"}


class Reference(Reading):
    """The name of a pool or listener; whether there is one of that name is for the cross-checks."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and value:
            return value
        refuse(f"is {show(value)}, it must be a name in quotes")

    def words(self) -> str:
        return "a name"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class Octets(Reading):
    """Bytes, as text (sent as UTF-8, with TOML's escapes) or as "hex:0d0a"."""

    most: int

    def read(self, value: object) -> bytes:
        if not isinstance(value, str):
            refuse(f"is {show(value)}, it must be {self.words()}")
        if value.startswith("hex:"):
            digits = value[4:]
            # bytes.fromhex skips blanks; a stray one here is more likely a slip.
            if not digits or len(digits) % 2 or not re.fullmatch("[0-9A-Fa-f]*", digits):
                refuse(f'is {show(value)}, after "hex:" there must be pairs of hexadecimal digits, as in "hex:0d0a"')
            octets = bytes.fromhex(digits)
        else:
            octets = value.encode()
        if len(octets) > self.most:
            refuse(f"has {len(octets)} bytes, at most {self.most} are allowed")
        return octets

    def words(self) -> str:
        return f'text, or "hex:" and hexadecimal digits, of at most {self.most} bytes'

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}
