"""Short forms: one value for an array of one, a string for a table, false for a table that switches something off.

Owns how pydantic is told about them, so that the inside of each form is read and reported the same way. Refuses to
know which keys use them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from lbproxy.config.readings import Reading, refuse
from lbproxy.config.units import show


def default(of: type, name: str) -> Any:
    """The default that the model gives this field, so that it exists once."""
    return next(field.default for field in dataclasses.fields(of) if field.name == name)


class Table(BaseModel):
    """A table of the file: exact types, no unknown keys, never changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def given(self, key: str) -> bool:
        """Whether the user wrote this key."""
        return key in self.model_fields_set


@dataclass(frozen=True)
class OneOrMore:
    """An array, or its only element without brackets.

    `empty` is the sentence for an array without elements, None where such an array makes sense.
    """

    empty: str | None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_array, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        (array,) = _forms(handler(schema))
        return {"anyOf": [array["items"], array if self.empty is None else dict(array, minItems=1)]}

    def _as_array(self, value: object) -> object:
        if value == [] and self.empty is not None:
            refuse(self.empty)
        return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class TableOr:
    """A table, or a string that stands for one. `expand` makes the table of it."""

    expand: Callable[[str], dict[str, object]]
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_table, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, *_forms(handler(schema))]}

    def _as_table(self, value: object) -> object:
        if isinstance(value, str):
            return self.expand(value)
        if not isinstance(value, dict):
            refuse(f"is {show(value)}, it must be {self.words} or a table")
        return value


@dataclass(frozen=True)
class TableOrFalse:
    """A table, false (read as None) to switch it off, or true for its defaults.

    `words` says what may be written; true is worth a word only where it is not the default.
    """

    words: str = "false or a table"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_table, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, *_forms(handler(schema))]}

    def _as_table(self, value: object) -> object:
        if value is False:
            return None
        if value is True:
            return {}
        if not isinstance(value, dict):
            refuse(f"is {show(value)}, it must be {self.words}")
        return value


@dataclass(frozen=True)
class Keys:
    """A table whose keys the user chooses; `reading` reads each of them. `empty` is as for OneOrMore."""

    reading: Reading
    empty: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (_, values) = get_args(source)
        keys = core_schema.no_info_after_validator_function(self._read, core_schema.str_schema())
        table = core_schema.dict_schema(keys, handler.generate_schema(values), strict=True)
        return core_schema.no_info_before_validator_function(self._not_empty, table)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        values = handler(schema)["additionalProperties"]
        return {
            "type": "object",
            "additionalProperties": values,
            **({} if self.empty is None else {"minProperties": 1}),
        }

    def _not_empty(self, value: object) -> object:
        if value == {} and self.empty is not None:
            refuse(self.empty)
        return value

    def _read(self, key: str) -> object:
        try:
            return self.reading.read(key)
        except PydanticCustomError as problem:
            # Its place is that of the value: sentences.py finds it by this mark.
            context = {**(problem.context or {}), "of_key": True}
            raise PydanticCustomError("refused", "{sentence}", context) from None


def _forms(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, less the null that stands for an absent key: TOML has none to write."""
    return [form for form in schema.get("anyOf", [schema]) if form != {"type": "null"}]


def table_in(annotation: Any) -> type[BaseModel] | None:
    """The table class inside `list[Annotated[X, ...]]`, `dict[str, X]`, `X | None` or X itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := table_in(inner))), None)
