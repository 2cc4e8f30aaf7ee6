"""What people copy: the examples, the reference and every configuration shown in the documents."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from lbproxy.config import load, loads
from lbproxy.config.examples import EXAMPLES, NOTES
from lbproxy.config.reference import main, markdown, schema, tables
from lbproxy.config.schema_pools import POLICIES
from lbproxy.config.sentences import known_keys

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "etc").glob("*.toml"))
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README.md")])

# What an example leaves out, to make it a configuration.
LISTENER = '[[listener]]\nname = "web"\nbind = "127.0.0.1:1"\npool = "web"\n'
POOL = '[pool.web]\nbackends = "10.9.9.9:1"\n'
CACHE_USER = '[[route]]\nclient = "10.0.0.0/8"\npool = "cache"\n'


def blocks(document: Path) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_file_has_no_problem(path: Path) -> None:
    # Nobody has the certificates of examples.
    loaded = load(str(path), read_files=False)
    assert loaded.problems == ()
    assert loaded.configuration is not None


def test_the_example_files_are_all_there() -> None:
    expected = {"lbproxy", "minimal", "database", "behind-a-proxy", "demo", "tls", "http", "cache"}
    assert expected <= {path.stem for path in FILES}
    assert len((ROOT / "etc" / "minimal.toml").read_text(encoding="utf-8").splitlines()) == 5


def test_the_demonstration_is_as_promised() -> None:
    # tests/live/test_demo.py runs it.
    demo = load(str(ROOT / "etc" / "demo.toml"), read_files=False).configuration
    assert demo is not None
    assert [(b.id, str(b.address)) for b in demo.pool_by_name["demo"].backends] == [
        ("blue", "127.0.0.1:9101"),
        ("green", "127.0.0.1:9102"),
        ("orange", "127.0.0.1:9103"),
    ]
    assert [(listener.name, *map(str, listener.binds)) for listener in demo.listeners] == [
        ("demo", "127.0.0.1:8101"),
        ("demo-tls", "127.0.0.1:8143"),
        ("demo-passing", "127.0.0.1:8144"),
    ]
    assert (demo.control.path, demo.records.to) == ("/tmp/lbproxy-demo.sock", "stdout")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_configuration_in_a_document_loads(document: Path) -> None:
    for block in blocks(document):
        assert loads(block, document.name, read_files=False).problems == ()


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_of_the_reference_loads(path: str) -> None:
    text = EXAMPLES[path]
    text += "" if "[[listener]]" in text else LISTENER
    text += "" if "[pool.web]" in text else POOL
    text += CACHE_USER if "[pool.cache]" in text else ""
    assert loads(text, path, read_files=False).problems == ()


def test_every_table_has_an_example_of_it() -> None:
    assert list(EXAMPLES) == [path for path, _ in tables()]
    for path, text in EXAMPLES.items():
        node = tomllib.loads(text)
        for depth, part in enumerate(path.split(".")):
            node = node[part]
            node = next(iter(node.values())) if depth == 0 and part == "pool" else node
            node = node[0] if isinstance(node, list) and depth == 0 else node
        assert node


def test_notes_are_on_tables_and_hold_no_example() -> None:
    assert set(NOTES) <= {path for path, _ in tables()}
    assert not any("[[listener]]" in note for note in NOTES.values())


def test_every_policy_is_explained() -> None:
    for policy in POLICIES:
        assert f"`{policy}`" in NOTES["pool"]


def test_the_reference_is_up_to_date() -> None:
    stored = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert stored == markdown(), "run: python -m lbproxy.config.reference > docs/configuration.md"


def test_the_reference_lists_every_key_of_every_table() -> None:
    text = markdown()
    for path, table in tables():
        for name, field in table.model_fields.items():
            assert field.description, f"{path}.{name}"
            assert f"| `{field.alias or name}` |" in text
    assert all(len(line) <= 400 for line in text.splitlines())


def test_the_schema_is_json_and_forbids_unknown_keys(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--schema"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema()
    assert set(printed["properties"]) == set(known_keys(()))
    assert "null" not in json.dumps(printed)
    for table in printed["$defs"].values():
        assert table["additionalProperties"] is False


def test_the_reference_prints_itself(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == markdown()
    with pytest.raises(SystemExit):
        main(["--what"])
