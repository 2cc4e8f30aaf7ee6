"""The table of a condition: what a request must be like, for routes and for parts of them.

Part of the schema, with a file of its own; the same rules hold as in schema.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lbproxy import model_http
from lbproxy.config.reading_addresses import Network
from lbproxy.config.reading_fields import MatchedFieldName
from lbproxy.config.reading_http import Host, Method, PathText
from lbproxy.config.reading_matches import CookieName, ParameterName, Pattern, Value
from lbproxy.config.shapes import Keys, OneOrMore, Table

_NOTHING = "is empty, so nothing would match; leave the key out for all"
_Value = Annotated[model_http.ValueMatch, Value()]


class ConditionTable(Table):
    """What a request must be like: every key that is written must hold. Of an array, one element is enough."""

    host: Annotated[
        list[Annotated[str, Host('is "*"; without the key every host matches, leave it out')]] | None,
        OneOrMore(f"{_NOTHING} hosts"),
    ] = Field(default=None, description="The hosts; `*.example` is for all names below it. Default: all.")
    path: Annotated[list[Annotated[str, PathText()]] | None, OneOrMore(f"{_NOTHING} paths")] = Field(
        default=None, description="The paths: `/a` for itself alone, `/a/` for all below it. Default: all."
    )
    path_regex: Annotated[list[Annotated[str, Pattern()]] | None, OneOrMore(f"{_NOTHING} paths")] = Field(
        default=None, description="Regular expressions that must match the whole path. Default: none."
    )
    method: Annotated[list[Annotated[str, Method()]] | None, OneOrMore(f"{_NOTHING} methods")] = Field(
        default=None, description="The methods. Default: all."
    )
    header: Annotated[dict[str, _Value], Keys(MatchedFieldName(), f"{_NOTHING} requests")] = Field(
        default={}, description="Header fields by name; all must match. Default: any."
    )
    query: Annotated[dict[str, _Value], Keys(ParameterName(), f"{_NOTHING} requests")] = Field(
        default={}, description="Query parameters by name; all must match. Default: any."
    )
    cookie: Annotated[dict[str, _Value], Keys(CookieName(), f"{_NOTHING} requests")] = Field(
        default={}, description="Cookies by name; all must match. Default: any."
    )
    client: Annotated[
        list[Annotated[str, Network()]] | None,
        OneOrMore("is empty, so nothing would match; leave the key out for all clients"),
    ] = Field(default=None, description="The networks its clients are in. Default: everybody.")
    all_: Annotated[list[ConditionTable], OneOrMore(f"{_NOTHING} requests")] = Field(
        default=[], alias="all", description="Further conditions, with the same keys, that must all hold."
    )
    any_: Annotated[list[ConditionTable], OneOrMore(f"{_NOTHING} requests")] = Field(
        default=[], alias="any", description="Conditions of which at least one must hold."
    )
    not_: Annotated[list[ConditionTable], OneOrMore(f"{_NOTHING} requests")] = Field(
        default=[], alias="not", description="Conditions of which none may hold."
    )
