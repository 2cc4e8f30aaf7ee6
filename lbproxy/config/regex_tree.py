"""What the tree of a parsed regular expression says: which bytes a part can begin with, and how it would be written.

Owns the nodes of Python's own parser. Sets of bytes are whole numbers with one bit for each byte, and one for the end
of the text. Refuses to judge anything: regex_guard.py does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# A node is the name of an operation and its arguments.
Node = tuple[Any, Any]

END = 1 << 256
_ALL = END - 1
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_SPECIAL = frozenset(rb"\.^$*+?{}[]|()")
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
_PLACES = {
    "AT_BEGINNING": "^",
    "AT_BEGINNING_STRING": r"\A",
    "AT_BOUNDARY": r"\b",
    "AT_NON_BOUNDARY": r"\B",
    "AT_END": "$",
    "AT_END_STRING": r"\Z",
}


def kind(node: Node) -> str:
    """The name of its operation."""
    return str(node[0])


def body(node: Node) -> list[Node]:
    """What a group or a repeat holds."""
    match kind(node):
        case "SUBPATTERN":
            return list(node[1][3])
        case "ATOMIC_GROUP":
            return list(node[1])
        case _:
            return list(node[1][2])


def is_repeat(node: Node) -> bool:
    """Whether this repeats something."""
    return kind(node) in _REPEATS


def is_byte(node: Node) -> bool:
    """Whether this matches one byte, whichever."""
    return kind(node) in ("LITERAL", "NOT_LITERAL", "ANY", "IN")


def flags_in(node: Node, flags: int) -> int:
    """The flags that hold within a group."""
    if kind(node) != "SUBPATTERN":
        return flags
    return (flags | int(node[1][1])) & ~int(node[1][2])


def first_of(nodes: Sequence[Node], follow: int, flags: int) -> int:
    """The bytes that a text can begin with that these match, where what is behind begins with `follow`."""
    for node in reversed(nodes):
        first, empty = _first(node, flags)
        follow = first | follow if empty else first
    return follow


def can_be_empty(nodes: Sequence[Node], flags: int) -> bool:
    """Whether these match the empty text."""
    return all(_first(node, flags)[1] for node in nodes)


def _first(node: Node, flags: int) -> tuple[int, bool]:
    """What a part can begin with, and whether it can be empty."""
    match kind(node):
        case "LITERAL":
            return _byte(node[1], flags), False
        case "NOT_LITERAL":
            return _ALL & ~_byte(node[1], flags), False
        case "ANY":
            # Routes are compiled so that it matches all bytes.
            return _ALL, False
        case "IN":
            return _members(node[1], flags), False
        case "SUBPATTERN" | "ATOMIC_GROUP":
            inner = flags_in(node, flags)
            return first_of(body(node), 0, inner), can_be_empty(body(node), inner)
        case "BRANCH":
            alternatives = node[1][1]
            first = 0
            for alternative in alternatives:
                first |= first_of(list(alternative), 0, flags)
            return first, any(can_be_empty(list(alternative), flags) for alternative in alternatives)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return first_of(body(node), 0, flags), node[1][0] == 0 or can_be_empty(body(node), flags)
        case _:
            # Places have no width.
            return 0, True


def _byte(byte: int, flags: int) -> int:
    if not flags & re.IGNORECASE:
        return 1 << byte
    letter = bytes((byte,))
    return 1 << letter.lower()[0] | 1 << letter.upper()[0]


def _members(items: Sequence[Node], flags: int) -> int:
    found = 0
    negated = False
    for item in items:
        match kind(item):
            case "NEGATE":
                negated = True
            case "RANGE":
                for byte in range(item[1][0], item[1][1] + 1):
                    found |= _byte(byte, flags)
            case "CATEGORY":
                category = re.compile(_CATEGORIES[str(item[1])].encode())
                found |= sum(1 << byte for byte in range(256) if category.match(bytes((byte,))))
            case _:
                found |= _byte(item[1], flags)
    return _ALL & ~found if negated else found


def written(node: Node) -> str:
    """The part as a person would write it; groups have lost their names."""
    argument = node[1]
    match kind(node):
        case "LITERAL":
            return _letter(argument)
        case "NOT_LITERAL":
            return f"[^{_letter(argument)}]"
        case "ANY":
            return "."
        case "IN" if len(argument) == 1 and kind(argument[0]) == "CATEGORY":
            return _member(argument[0])
        case "IN":
            return f"[{''.join(map(_member, argument))}]"
        case "AT":
            return _PLACES.get(str(argument), "")
        case "SUBPATTERN":
            return f"({'?:' if argument[0] is None else ''}{_sequence(body(node))})"
        case "ATOMIC_GROUP":
            return f"(?>{_sequence(body(node))})"
        case "BRANCH":
            return "|".join(_sequence(list(alternative)) for alternative in argument[1])
        case "ASSERT" | "ASSERT_NOT":
            back = "<" if argument[0] < 0 else ""
            return f"(?{back}{'=' if kind(node) == 'ASSERT' else '!'}{_sequence(list(argument[1]))})"
        case "GROUPREF":
            return rf"\{argument}"
        case "GROUPREF_EXISTS":
            return f"(?({argument[0]})...)"
        case "FAILURE":
            return "(?!)"
        case _:
            return _repeat(node)


def _sequence(nodes: Sequence[Node]) -> str:
    if len(nodes) == 1:
        return written(nodes[0])
    return "".join(f"(?:{written(node)})" if kind(node) == "BRANCH" else written(node) for node in nodes)


def _repeat(node: Node) -> str:
    least, most = int(node[1][0]), node[1][1]
    endless = str(most) == "MAXREPEAT"
    if (least, endless) in ((0, True), (1, True)):
        count = "+" if least else "*"
    elif (least, most) == (0, 1):
        count = "?"
    else:
        count = f"{{{least}}}" if least == most else f"{{{least},{'' if endless else most}}}"
    ending = {"MIN_REPEAT": "?", "POSSESSIVE_REPEAT": "+"}.get(kind(node), "")
    inner = _sequence(body(node))
    single = len(body(node)) == 1 and not is_repeat(body(node)[0]) and kind(body(node)[0]) != "BRANCH"
    return (inner if single else f"(?:{inner})") + count + ending


def _letter(byte: int) -> str:
    letter = chr(byte)
    return f"\\{letter}" if byte in _SPECIAL else letter if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _member(item: Node) -> str:
    match kind(item):
        case "NEGATE":
            return "^"
        case "RANGE":
            return f"{chr(item[1][0])}-{chr(item[1][1])}"
        case "CATEGORY":
            return _CATEGORIES[str(item[1])]
        case _:
            return _letter(item[1]) if chr(item[1]) in "\\]^-[" else chr(item[1])
