"""How the text of a record line is read. Its syntax is that of `lbproxy.http.record_template`; this owns its bounds."""

from __future__ import annotations

import re
from typing import Any

from lbproxy.config.readings import Reading, refuse
from lbproxy.config.units import show
from lbproxy.http.record_template import check_template

_LONGEST = 4096


class RecordTemplate(Reading):
    """One line of text."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            refuse(f"is {show(value)}, it must be {self.words()}")
        if len(value) > _LONGEST:
            refuse(f"has {len(value)} characters, at most {_LONGEST} are allowed")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", value):
            refuse(f"is {show(value)}; a record is one line, without control characters")
        if complaint := check_template(value):
            refuse(f"is {show(value)}; {complaint}")
        return value

    def words(self) -> str:
        return "text with fields of records in braces, such as {status}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}
