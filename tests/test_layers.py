"""The arrows between the packages: who may import whom, read from the source with `ast`.

The table below is section 3 of the design. An import counts wherever it stands: at the top, in a function, or for
the type checker only. A module that is not in the table fails; it needs a place before it needs code.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "lbproxy"

VALUES = {"model", "model_cache", "model_http", "model_tls", "errors", "addresses"}
DECISIONS = VALUES | {"balancing", "routing", "preamble", "http", "cache", "compress"}
DATA_PATH = DECISIONS | {"session", "net", "certificates"}

# Module or package below lbproxy -> what else below lbproxy it may import.
ARROWS: dict[str, set[str]] = {
    "": set(),
    "addresses": set(),
    "errors": set(),
    "model": {"addresses", "model_cache", "model_http", "model_tls"},
    "model_cache": set(),
    "model_http": {"addresses", "model_cache"},
    "model_tls": set(),
    "certificates": VALUES,
    "config": VALUES | {"certificates", "http", "routing"},
    "http": VALUES,
    "balancing": VALUES,
    "cache": VALUES | {"http", "compress"},
    "compress": VALUES | {"http"},
    "routing": VALUES | {"http"},
    "preamble": VALUES,
    "session": DECISIONS | {"certificates"},
    "net": DECISIONS | {"session", "certificates"},
    "service": DATA_PATH | {"config", ""},
    "tap": {"service", ""},
    "commands_cache": VALUES | {"service"},
    "cli": VALUES | {"commands_cache", "service", "config", "net", ""},
    "demo": VALUES | {"service", "config", "net", "certificates", ""},
    "__main__": {"cli"},
}

# Nothing but the standard library and lbproxy; no clock, no chance, no sockets, no log, no system.
PURE = VALUES | {"certificates", "config", "balancing", "routing", "http", "preamble", "cache", "compress", "session"}
IMPURE_MODULES = {
    "_socket",
    "asyncio",
    "logging",
    "os",
    "posix",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "twisted",
}
# Reading a file, and naming it, is what config is for; pydantic_core is where pydantic's own errors live. A record
# is a value until msgspec, which is as pure, writes it as JSON. Certificates are files, which cryptography reads.
# Codings are libraries, which are as pure.
EXEMPT = {
    "certificates": {"os", "cryptography"},
    "compress": {"backports", "brotli", "isal"},
    "config": {"os", "pydantic", "pydantic_core"},
    "session": {"msgspec"},
}

SOCKET_MODULES = ("socket", "ssl", "select", "twisted.internet")
MAY_TOUCH_SOCKETS = {"net", "service", "tap", "cli", "demo"}


def place_of(module: str) -> str:
    """`lbproxy.net.tls` is in "net", `lbproxy` itself in ""."""
    return module.partition(".")[2].partition(".")[0]


def imports(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything the source imports; for `from a import b` that is `a.b`."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            base = parts[: len(parts) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def wrong_arrows(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """A sentence for each import that the table forbids."""
    here = place_of(module)
    if here not in ARROWS:
        return [f"{module}: lbproxy/{here} has no place in the table of this test"]
    wrong = []
    for line, name in imports(source, module, is_package=is_package):
        top = name.partition(".")[0]
        why = None
        if top == "lbproxy":
            there = place_of(name)
            # `from lbproxy import __version__` names no module: it is the root itself.
            there = "" if there.startswith("__") and there != "__main__" else there
            if there != here and there not in ARROWS[here]:
                why = f"{here or 'the root'} may not import {there or 'the root'}"
        elif here not in PURE:
            if here not in MAY_TOUCH_SOCKETS and any(f"{name}.".startswith(f"{taboo}.") for taboo in SOCKET_MODULES):
                why = "only net and what runs it touch sockets"
        elif top in EXEMPT.get(here, ()):
            continue
        elif top in IMPURE_MODULES:
            why = f"{here} is pure"
        elif top not in sys.stdlib_module_names:
            why = f"{here} has the standard library only"
        if why:
            wrong.append(f"{module}:{line} imports {name}: {why}")
    return wrong


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[module for module, _ in modules()])
def test_imports_follow_the_layers(module: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert wrong_arrows(source, module, is_package=path.name == "__init__.py") == []


def test_the_table_has_no_circle() -> None:
    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for there in ARROWS[todo.pop()] - seen:
                seen.add(there)
                todo.append(there)
        return seen

    assert [place for place in ARROWS if place in reaches(place)] == []


def test_the_table_names_modules_that_it_knows() -> None:
    assert set().union(*ARROWS.values()) <= set(ARROWS)
    assert set(ARROWS) >= PURE


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lbproxy.model", "from lbproxy.config import loading"),
        ("lbproxy.model", "from lbproxy import config"),
        ("lbproxy.errors", "import lbproxy.model"),
        ("lbproxy.routing", "import lbproxy"),
        ("lbproxy.routing", "from .session import relay"),
        ("lbproxy.preamble.reading", "from ..net import tls"),
        ("lbproxy.balancing.pool", "def late():\n    import time"),
        ("lbproxy.balancing.pool", "import random as chance"),
        ("lbproxy.session.relay", "from os import path"),
        ("lbproxy.session.relay", "from twisted.python import failure"),
        ("lbproxy.session.relay", "if TYPE_CHECKING:\n    from lbproxy.net.relay import Relay"),
        ("lbproxy.session.relay", "import lbproxy.config.loading"),
        ("lbproxy.config.loading", "import socket"),
        ("lbproxy.config.loading", "import msgspec"),
        ("lbproxy.preamble.reading", "import pydantic"),
        ("lbproxy.net.reactor", "from lbproxy.config import loading"),
        ("lbproxy.net.reactor", "from lbproxy.service import main"),
        ("lbproxy.tap", "from lbproxy.config import loading"),
        ("lbproxy.cli", "from lbproxy.session import relay"),
        ("lbproxy.__main__", "import socket"),
        ("lbproxy.__main__", "from twisted import internet"),
        ("lbproxy.__main__", "import twisted.internet.reactor"),
        ("lbproxy.helpers", ""),
    ],
)
def test_the_checker_finds_a_wrong_arrow(module: str, source: str) -> None:
    assert len(wrong_arrows(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lbproxy.model", "from lbproxy.addresses import Address"),
        (
            "lbproxy.config.loading",
            "import os\nimport tomllib\nfrom pydantic import BaseModel\nfrom lbproxy import model",
        ),
        ("lbproxy.balancing.pool", "from .policies import ring\nfrom lbproxy.balancing import health\nimport math"),
        ("lbproxy.session.relay", "from lbproxy import routing\nfrom lbproxy.preamble import ProxyHeader"),
        ("lbproxy.net.tls", "import socket, ssl, time\nfrom OpenSSL import SSL\nfrom twisted.internet import tcp"),
        ("lbproxy.service.main", "from lbproxy import __version__, config\nfrom lbproxy.net import listening"),
        ("lbproxy.tap", "from lbproxy.service import options\nfrom twisted.internet import reactor"),
        ("lbproxy.cli", "from lbproxy import __version__"),
    ],
)
def test_the_checker_leaves_right_arrows_alone(module: str, source: str) -> None:
    assert wrong_arrows(source, module) == []


def test_a_relative_import_in_a_package_starts_at_the_package() -> None:
    assert wrong_arrows("from .health import Health", "lbproxy.balancing", is_package=True) == []
    assert len(wrong_arrows("from ..net import tls", "lbproxy.balancing", is_package=True)) == 1
