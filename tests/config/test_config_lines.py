"""The line index: every key and element of valid TOML has the line it stands on, and nothing else has one."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.config.lines import DEEPEST, line_index

Path = tuple[str | int, ...]

DOCUMENT = '''\
# a comment with [brackets] = "and quotes"
title = "x" # [not.a.table]

[log]
"le vel" = 1
'quoted.key'.inner = 2
text = """
[listener]
bind = "no" \\"""
"""
raw = \'\'\'
]]\'\' \'\'\'\'

[[listener]]
bind = [ # first
  "a", "b",

  # between
  { x = 1, y.z = [
     2 ] },
]
when = 1979-05-27 07:32:00
[listener.timeouts]
connect = 1.5
[[listener]]
[listener.timeouts] # again
connect = { }

[pool . "a b".check]
send = "\\\\"
[[listener.inner]]
[[listener.inner]]
k = []
'''


def test_every_form_of_key_has_its_line() -> None:
    index = line_index(DOCUMENT)
    expected: dict[Path, int] = {
        ("title",): 2,
        ("log",): 4,
        ("log", "le vel"): 5,
        ("log", "quoted.key"): 6,
        ("log", "quoted.key", "inner"): 6,
        ("log", "text"): 7,
        ("log", "raw"): 11,
        ("listener",): 14,
        ("listener", 0): 14,
        ("listener", 0, "bind"): 15,
        ("listener", 0, "bind", 0): 16,
        ("listener", 0, "bind", 1): 16,
        ("listener", 0, "bind", 2): 19,
        ("listener", 0, "bind", 2, "x"): 19,
        ("listener", 0, "bind", 2, "y"): 19,
        ("listener", 0, "bind", 2, "y", "z"): 19,
        ("listener", 0, "bind", 2, "y", "z", 0): 20,
        ("listener", 0, "when"): 22,
        ("listener", 0, "timeouts"): 23,
        ("listener", 0, "timeouts", "connect"): 24,
        ("listener", 1): 25,
        ("listener", 1, "timeouts"): 26,
        ("listener", 1, "timeouts", "connect"): 27,
        ("pool",): 29,
        ("pool", "a b"): 29,
        ("pool", "a b", "check"): 29,
        ("pool", "a b", "check", "send"): 30,
        ("listener", 1, "inner"): 31,
        ("listener", 1, "inner", 0): 31,
        ("listener", 1, "inner", 1): 32,
        ("listener", 1, "inner", 1, "k"): 33,
    }
    assert index == expected
    assert set(index) == set(paths_of(tomllib.loads(DOCUMENT)))


def test_windows_line_ends_count_once() -> None:
    assert line_index('a = 1\r\nb = """\r\n"""\r\nc = 3\r\n')[("c",)] == 4


def test_deep_keys_are_left_to_their_ancestors() -> None:
    index = line_index(".".join("k" * 50_000) + " = 1\nlast = 2\n")
    assert max(map(len, index)) == DEEPEST
    assert index[("last",)] == 2


def test_deep_arrays_end_in_an_index_not_in_a_traceback() -> None:
    assert line_index("a = " + "[" * 20_000)[("a",)] == 1


# --- against tomllib, on generated documents ------------------------------------------------------------------------
# Each scalar carries a number of its own, so that its line can be found by looking for it.

KEYS = st.sampled_from(["a", "b", "list", "x-y", "9", "with space", 'quo"te', "dot.ted", "", "#", "ü", "]"])
TREES = st.recursive(
    st.sampled_from(["int", "basic", "literal", "multi", "multiliteral", "date"]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(KEYS, TREES, max_size=4)


class Writer:
    """Writes a tree as TOML in one of its many ways; `draw` chooses."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.serial = 1000

    def choose(self, *of: str) -> str:
        return self.data.draw(st.sampled_from(of))

    def key(self, key: str) -> str:
        plain = key.isascii() and key and all(c.isalnum() or c in "-_" for c in key)
        if plain and self.choose("bare", "quoted") == "bare":
            return key
        if "'" not in key and self.choose("'", '"') == "'":
            return f"'{key}'"
        return '"' + key.replace('"', '\\"') + '"'

    def document(self, tree: dict[str, Any], path: tuple[str, ...] = ()) -> str:
        pairs, tables = "", ""
        for key, value in tree.items():
            here = (*path, key)
            header = self.choose(".", " . ").join(map(self.key, here))
            if isinstance(value, dict) and self.choose("header", "inline") == "header":
                tables += f"[{header}]{self.end()}" + self.document(value, here)
            elif value and is_tables(value) and self.choose("header", "inline") == "header":
                for element in value:
                    tables += f"[[{header}]]{self.end()}" + self.document(element, here)
            else:
                pairs += f"{self.key(key)} = {self.value(value)}{self.end()}"
        return pairs + tables

    def end(self) -> str:
        return self.choose("\n", ' # ] } "\n', "\n\n", "\n# '''\n")

    def value(self, value: Any) -> str:
        if isinstance(value, list):
            space = self.choose("", " ", "\n", " # ]\n")
            end = self.choose("", ",") if value else ""
            return "[" + space + f",{space}".join(map(self.value, value)) + end + space + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.key(k)} = {self.value(v)}" for k, v in value.items()) + "}"
        self.serial += 1
        n = self.serial
        return {
            "int": f"{n}",
            "basic": f'"{n} \\" \\\\"',
            "literal": f"'{n} # \"'",
            "multi": f'"""{n}\n] = "" \\"""\n"""""',
            "multiliteral": f"'''{n}\n[[x]] '' '''",
            "date": f"2000-01-01 00:00:00.00{n}",
        }[value]


def is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(element, dict) for element in value)


def paths_of(node: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from paths_of(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from paths_of(value, (*path, number))


def scalars_of(node: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from scalars_of(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from scalars_of(value, (*path, number))
    else:
        yield path, str(node)


@settings(max_examples=250, deadline=None)
@given(tree=DOCUMENTS, data=st.data())
def test_the_index_agrees_with_tomllib(tree: dict[str, Any], data: st.DataObject) -> None:
    text = Writer(data).document(tree)
    parsed = tomllib.loads(text)
    index = line_index(text)
    assert set(index) == set(paths_of(parsed))
    lines = text.split("\n")
    for path, value in scalars_of(parsed):
        # The key's own line; a value in the same line carries its number.
        number = value.split(" ")[0].split("\n")[0] if not value.startswith("2000") else value.rstrip("0")[-4:]
        element = isinstance(path[-1], int)
        assert number in lines[index[path] - 1] or not element, (path, value)
        if not element:
            assert (
                str(path[-1]).replace('"', '\\"') in lines[index[path] - 1] or f"'{path[-1]}'" in lines[index[path] - 1]
            )


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab.=[]{}\"'#,\n\\ 1", max_size=60))
def test_text_that_is_no_toml_comes_to_an_end(text: str) -> None:
    # Never given to it; but should the scanner ever misread valid TOML, it must not go round for ever.
    with contextlib.suppress(tomllib.TOMLDecodeError):
        line_index(text)
