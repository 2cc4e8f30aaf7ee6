"""The quick form on the command line: `--listen tcp://127.0.0.1:8101 --backend 127.0.0.1:9001 --policy first`.

Turns the words into the data that a file would hold and has it judged like one. Owns the spelling of a listener as a
URL; refuses to know option parsing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lbproxy.config.loading import examine
from lbproxy.config.places import OptionPlaces
from lbproxy.config.problems import Loaded, Problem
from lbproxy.config.units import did_you_mean, show

POOL = "default"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://(.*)", re.DOTALL)
_NOT_YET = ("tls", "http", "https")


def quick(listens: Sequence[str], backends: Sequence[str], policy: str | None) -> Loaded:
    """One pool behind one or more listeners.

    A listener is `tcp://127.0.0.1:8101`, `tcp://[::1]:80` or `unix:/run/app.sock`; `tcp://` may be left out.
    """
    problems: list[Problem] = []
    binds: list[str] = []
    for option, words in (("--listen", listens), ("--backend", backends), ("--policy", [policy or ""])):
        problems += [Problem(None, 0, option, f"{word!a} is not UTF-8") for word in words if not _is_utf8(word)]
    if problems:
        # Nothing further on could even repeat them.
        return Loaded(None, tuple(problems))
    for word in listens:
        bind, complaint = _bind(word)
        if complaint:
            problems.append(Problem(None, 0, "--listen", complaint))
        else:
            binds.append(bind)
    if not listens:
        problems.append(Problem(None, 0, "--listen", "is missing; write for example --listen tcp://127.0.0.1:8080"))
    if not backends:
        problems.append(Problem(None, 0, "--backend", "is missing; write for example --backend 127.0.0.1:9001"))
    names = ["tcp"] if len(binds) == 1 else [f"tcp{number}" for number in range(1, len(binds) + 1)]
    pool: dict[str, Any] = {"backends": [_without_scheme(word) for word in backends]}
    if policy is not None:
        pool["policy"] = policy
    raw = {
        "listener": [{"name": name, "bind": bind, "pool": POOL} for name, bind in zip(names, binds, strict=True)],
        "pool": {POOL: pool} if backends else {},
    }
    loaded = examine(raw, OptionPlaces(raw), None)
    if not problems:
        return loaded
    # With words missing, what the checks say beyond the values themselves would be echoes.
    return Loaded(None, (*problems, *(problem for problem in loaded.problems if backends and binds)))


def _bind(word: str) -> tuple[str, str]:
    """The address in a listener's word, or else a complaint."""
    found = _URL.fullmatch(word)
    if found is None:
        return word, ""
    scheme, address = found[1].lower(), found[2].removesuffix("/")
    if scheme == "tcp":
        return address, ""
    if scheme in _NOT_YET:
        return "", f"is {show(word)}; this version balances TCP only, write tcp://{address}"
    hint = did_you_mean(scheme, ("tcp",))
    return "", f"is {show(word)}; a listener is written tcp://127.0.0.1:8080 or unix:/run/app.sock{hint}"


def _without_scheme(word: str) -> str:
    return word.removeprefix("tcp://").removesuffix("/") if word.startswith("tcp://") else word


def _is_utf8(word: str) -> bool:
    """Whether the shell's bytes were text; Python hands others on as lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
