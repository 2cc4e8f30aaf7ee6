"""The reference documentation and the JSON Schema, made from the schema that also reads the files.

`python -m lbproxy.config.reference > docs/configuration.md`; with `--schema` the JSON Schema for editors.
Owns how keys are laid out for reading; every fact comes from schema.py, every example from examples.py.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lbproxy.config.examples import EXAMPLES, NOTES
from lbproxy.config.readings import Duration, Reading, Size
from lbproxy.config.schema import FileTable
from lbproxy.config.shapes import Keys, OneOrMore, TableOr, TableOrFalse, table_in
from lbproxy.config.units import write_size, write_time
from lbproxy.model import RecordSettings, Timeouts

_OPENING = """\
# Configuration

<!-- Made by `python -m lbproxy.config.reference > docs/configuration.md`; change lbproxy/config/schema.py instead. -->

lbproxy reads one TOML file. `lbproxy check FILE` names every problem in it at once, with line and key.
The common case takes five lines:

```toml
[[listener]]
bind = "0.0.0.0:80"
pool = "web"
[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
```

Everything else has a default. A key that is not listed here is an error.

- Times are text with units (`"250ms"`, `"5s"`, `"1h30m"`, `"2d"`, `"1y"`) or plain numbers of seconds. For
  the timeouts, `"none"` means no limit; it brings a warning, since one silent peer can then hold a session for ever.
- Sizes are text with units (`"64KiB"`, `"256MiB"`, `"1GiB"`) or plain numbers of bytes.
- `request_body_rate` is a plain number of bytes per second, or `"none"`.
- Addresses are `"10.0.0.1:80"`, `"[2001:db8::1]:80"`, `"name:80"`, `"unix:/path"`, and for listeners `"systemd:NAME"`
  for a socket that systemd passes.
- Files and directories are paths; a relative one counts from the directory of the configuration file, and `~` means
  nothing.
- Networks are `"10.0.0.0/8"`, `"2001:db8::/32"` or single addresses.
- Where an array is expected, a single element may be written without brackets.
- Timeouts may be set at four levels. The nearest counts: route, pool, listener, file.
"""


def markdown() -> str:
    """The whole of docs/configuration.md."""
    return "\n".join([_OPENING, *(_section(path, table) for path, table in tables())])


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file."""
    made = _without_null(FileTable.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "lbproxy configuration"}


def tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table with the dotted name it has in examples.py, a table before those inside it."""
    for name, field in FileTable.model_fields.items():
        yield from _with_inner(name, table_in(field.annotation), set())


def _with_inner(
    path: str, table: type[BaseModel] | None, seen: set[type[BaseModel]]
) -> Iterator[tuple[str, type[BaseModel]]]:
    # One and the same table may stand under several keys, and conditions in conditions; it is told once.
    if table is None or table in seen:
        return
    seen.add(table)
    yield path, table
    for name, field in _fields(table):
        yield from _with_inner(f"{path}.{name}", table_in(field.annotation), seen)


def _section(path: str, table: type[BaseModel]) -> str:
    rows = [_row(path, name, field) for name, field in _fields(table)]
    head = "| Key | Value | Default | Meaning |\n|---|---|---|---|"
    about = " ".join((table.__doc__ or "").split())
    level = "##" if "." not in path else "###"
    example = f"```toml fragment\n{EXAMPLES[path]}```"
    notes = [NOTES[path]] if path in NOTES else []
    return "\n".join([f"{level} {_heading(path)}", "", about, "", head, *rows, "", *notes, example, ""])


def _heading(path: str) -> str:
    match path.split("."):
        case [("listener" | "route") as name]:
            return f"`[[{name}]]`"
        case ["pool"]:
            return "`[pool.NAME]`"
        case ["listener", "tls", "certificates"]:
            return "`certificates` of `[listener.tls]`"
        case ["listener", "tls", "site"]:
            return "`[[listener.tls.site]]`"
        case ["pool", "backends"]:
            return "`backends` of `[pool.NAME]`"
        case ["route", "all"]:
            return "`all`, `any` and `not` of `[[route]]`"
        case ["route", "request_headers"]:
            return "`request_headers` and `response_headers` of `[[route]]`"
        case ["route", "timeouts"]:
            return "`[route.timeouts]`"
        case ["route", name]:
            return f"`{name}` of `[[route]]`"
        case ["pool", name]:
            return f"`[pool.NAME.{name}]`"
        case _:
            return f"`[{path}]`"


def _row(path: str, name: str, field: FieldInfo) -> str:
    # Defaults that depend on something are told in the description, for editors; here they have a column.
    meaning, _, dependent = (field.description or "").partition(" Default: ")
    default = dependent.removesuffix(".") or _default(path, name, field)
    cells = (f"`{name}`", _words(field.annotation, field.metadata), default, meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _fields(table: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in table.model_fields.items():
        yield field.alias or name, field


def _words(annotation: Any, metadata: list[Any]) -> str:
    """What may be written for a key."""
    for mark in metadata:
        if isinstance(mark, Reading):
            return mark.words()
        if isinstance(mark, TableOrFalse):
            return mark.words.replace("true", "`true`").replace("false", "`false`")
        if isinstance(mark, TableOr):
            return f"{mark.words} or a table"
        if isinstance(mark, OneOrMore):
            return f"one or an array of: {_element(annotation) or 'tables'}"
        if isinstance(mark, Keys):
            return f"a table: {mark.reading.words()} = {_element(annotation)}"
    if get_origin(annotation) is list:
        inner = _element(annotation)
        return f"an array of: {inner}" if inner else "tables"
    return "a table"


def _element(annotation: Any) -> str:
    """The same for the elements of `list[Annotated[X, mark]]` or `list[...] | None`."""
    for inner in get_args(annotation):
        if get_origin(inner) is Annotated:
            return _words(inner.__origin__, list(inner.__metadata__))
        if found := _element(inner):
            return found
    return ""


def _default(path: str, name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    mark = next((mark for mark in field.metadata if isinstance(mark, Duration | Size)), None)
    if path == "timeouts":
        value = dataclasses.asdict(Timeouts())[name]
    elif path.endswith(".timeouts"):
        return "the level above"
    if isinstance(value, BaseModel):
        return "see there"
    if value in (None, [], {}, "", b""):
        return "none"
    if isinstance(value, RecordSettings):
        value = value.to
    elif isinstance(mark, Duration):
        value = write_time(value)
    elif isinstance(mark, Size):
        value = write_size(value)
    elif isinstance(value, float):
        return f"`{value:g}`"
    return f"`{json.dumps(value)}`"


def _without_null(node: Any) -> Any:
    """The same without the null that stands for an absent key: TOML has none to write or to default to."""
    if isinstance(node, list):
        return [_without_null(inner) for inner in node if inner != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    return {key: _without_null(inner) for key, inner in node.items() if inner is not None}


def main(arguments: list[str]) -> None:
    """Print the reference, or the JSON Schema."""
    if arguments == ["--schema"]:
        sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
    elif not arguments:
        sys.stdout.write(markdown())
    else:
        raise SystemExit("usage: python -m lbproxy.config.reference [--schema]")


if __name__ == "__main__":
    main(sys.argv[1:])
