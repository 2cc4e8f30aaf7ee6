"""Whether a regular expression can be matched in linear time (threats.md T19), and if not, which part is to blame.

Python's `re` tries one way after the other. Accepted is what leaves a bounded number of ways for each byte of a text:

- a repeat is *clear* when what can continue it and what can follow it have no byte in common, so there is one place
  where it may end; so is a choice whose alternatives begin with different bytes. Clear parts may be nested;
- one repeat that is not clear may stand outside of all others, if nothing behind it repeats without end: then it is
  tried to end at each byte once;
- choices outside of repeats need not be clear; their ways are counted.

This refuses more than it must, and never the other way round.
"""

from __future__ import annotations

import re
import re._parser as sre  # type: ignore[import-not-found]  # it alone reads the dialect of `re`, and has no stubs
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from lbproxy.config.regex_tree import (
    END,
    Node,
    body,
    can_be_empty,
    first_of,
    flags_in,
    is_byte,
    is_repeat,
    kind,
    written,
)
from lbproxy.config.units import show

# Beyond it, repeating so often is like repeating without end: a path has thousands of bytes.
_FEW = 32
# What may be done for each byte of the text, in steps of the matcher; 8 KiB then take some milliseconds.
_MOST_STEPS = 64
# What each turn of a repeat costs beyond what is in it, where that is more than one byte.
_TURN = 2
_LONGEST = 512
_REFUSED = {
    "ASSERT": "a look-around",
    "ASSERT_NOT": "a look-around",
    "FAILURE": "a look-around",
    "GROUPREF": "a reference to a group",
    "GROUPREF_EXISTS": "a condition on a group",
}


class _Refused(Exception):
    """The message is for the user."""


def refusal(pattern: str) -> str | None:
    """What is wrong with the expression, in a sentence that names the part; None when it may be used."""
    if len(pattern) > _LONGEST:
        return f"it has {len(pattern)} characters, at most {_LONGEST} are allowed"
    if not pattern.isascii() or not pattern.isprintable():
        return "it may hold printable ASCII characters only, like what it is compared with"
    try:
        with warnings.catch_warnings():
            # What `re` warns about means something else in another version of Python.
            warnings.simplefilter("error")
            re.compile(pattern.encode())
            tree = sre.parse(pattern.encode())
        if tree.state.flags & re.LOCALE:
            return "its flag L depends on the machine; leave it out"
        _Guard().sequence(list(tree), END, tree.state.flags, _Ways(), None)
    except _Refused as problem:
        return str(problem)
    except (re.error, Warning, OverflowError) as problem:
        return f"it is not a regular expression: {problem}"
    except RecursionError:
        return "it nests too deeply"
    return None


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a place can be reached: in `number` ways, at each byte of the text if there is an `open` repeat before it."""

    number: int = 1
    open: Node | None = None


class _Guard:
    """Walks the tree of one expression. `steps` is what it may cost for each byte of the text."""

    def __init__(self) -> None:
        self.steps = 0

    def sequence(self, nodes: Sequence[Node], follow: int, flags: int, ways: _Ways, loop: Node | None) -> _Ways:
        """The ways behind `nodes`. `follow` is what can come then, `loop` the endless repeat around all this."""
        for place, node in enumerate(nodes):
            ways = self._node(node, first_of(nodes[place + 1 :], follow, flags), flags, ways, loop)
            if ways.number > _MOST_STEPS:
                raise _Refused(f"{_quoted(node)} leaves more than {_MOST_STEPS} ways to match one text")
        return ways

    def _node(self, node: Node, follow: int, flags: int, ways: _Ways, loop: Node | None) -> _Ways:
        name = kind(node)
        if name in _REFUSED:
            raise _Refused(f"{_quoted(node)} is {_REFUSED[name]}, which cannot be matched in linear time")
        if name in ("SUBPATTERN", "ATOMIC_GROUP"):
            return self.sequence(body(node), follow, flags_in(node, flags), ways, loop)
        if name == "BRANCH":
            return self._branch(node, follow, flags, ways, loop)
        if is_repeat(node):
            least, most = int(node[1][0]), int(node[1][1])
            repeat = self._endless if most > _FEW else self._few
            return repeat(node, least, most, follow, flags, ways, loop)
        if loop is not None or ways.open is not None:
            self._spend(ways.number)
        return ways

    def _branch(self, node: Node, follow: int, flags: int, ways: _Ways, loop: Node | None) -> _Ways:
        seen, clear = 0, True
        ends: list[_Ways] = []
        for alternative in map(list, node[1][1]):
            first = first_of(alternative, follow, flags)
            clear = clear and not seen & first
            seen |= first
            ends.append(self.sequence(alternative, follow, flags, ways, loop))
        if not clear and loop is not None:
            raise _ambiguous(loop)
        numbers = [end.number for end in ends]
        return _Ways(max(numbers) if clear else sum(numbers), next((end.open for end in ends if end.open), None))

    def _endless(
        self, node: Node, least: int, most: int, follow: int, flags: int, ways: _Ways, loop: Node | None
    ) -> _Ways:
        inner = body(node)
        first = first_of(inner, 0, flags)
        if ways.open is not None:
            raise _Refused(
                f"behind {_quoted(ways.open)}, which can end anywhere, {_quoted(node)} repeats again; "
                'say more exactly where the first one ends, as in "[^/]*/"'
            )
        if can_be_empty(inner, flags):
            raise _ambiguous(node)
        clear = least == most or not first & follow
        if not clear and loop is not None:
            raise _ambiguous(loop)
        self._turn(inner, ways)
        self.sequence(inner, first | follow, flags, ways, node)
        return ways if clear else _Ways(ways.number, node)

    def _few(self, node: Node, least: int, most: int, follow: int, flags: int, ways: _Ways, loop: Node | None) -> _Ways:
        inner = body(node)
        first = first_of(inner, 0, flags)
        empty = can_be_empty(inner, flags)
        if most > 1 and empty:
            raise _ambiguous(node)
        clear = least == most or not (empty or first & follow)
        if not clear and loop is not None:
            raise _ambiguous(loop)
        if most == 0:
            return ways
        before = self.steps
        if loop is not None or ways.open is not None:
            self._turn(inner, ways)
        end = self.sequence(inner, first | follow if most > 1 else follow, flags, ways, loop)
        spent = self.steps - before
        if most > 1 and (end.open is not ways.open or (not clear and spent and ways.open is None)):
            # The repeats within would stand behind one another, without a clear end between them.
            raise _ambiguous(node)
        factor = -(-end.number // ways.number)
        turns = [factor**turn for turn in range(1, most + 1)]
        if sum(turns) > _MOST_STEPS and factor > 1:
            raise _Refused(f"{_quoted(node)} leaves more than {_MOST_STEPS} ways to match one text")
        self._spend(spent * (sum(turns) - 1))
        made = turns[-1] if clear else sum(turns[max(least, 1) - 1 :]) + (least == 0)
        return _Ways(ways.number * made, end.open)

    def _turn(self, inner: Sequence[Node], ways: _Ways) -> None:
        if len(inner) != 1 or not is_byte(inner[0]):
            self._spend(_TURN * ways.number)

    def _spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > _MOST_STEPS:
            raise _Refused(
                f"for each byte of a text there would be more than {_MOST_STEPS} steps to do; make it simpler"
            )


def _ambiguous(node: Node) -> _Refused:
    return _Refused(
        f"{_quoted(node)} can match one text in very many ways, which takes for ever; "
        "what it repeats must not be able to begin what is within or behind it"
    )


def _quoted(node: Node) -> str:
    return show(f"(?:{written(node)})" if kind(node) == "BRANCH" else written(node))
