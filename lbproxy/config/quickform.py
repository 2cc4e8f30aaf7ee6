"""The quick form on the command line: `--listen http://127.0.0.1:8101 --backend 127.0.0.1:9001 --policy first`.

Turns the words into the data that a file would hold and has it judged like one. Owns the spelling of a listener and a
backend as a URL, and which certificate goes with which key; refuses to know option parsing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from lbproxy.config.loading import examine
from lbproxy.config.places import OptionPlaces
from lbproxy.config.problems import Loaded, Problem
from lbproxy.config.units import did_you_mean, printable, show

POOL = "default"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://(.*)", re.DOTALL)
_SCHEMES = ("tcp", "tls", "http", "https")
_ENCRYPTED = ("tls", "https")


def quick(
    listens: Sequence[str],
    backends: Sequence[str],
    policy: str | None,
    *,
    certs: Sequence[str] = (),
    keys: Sequence[str] = (),
    now: float | None = None,
    read_files: bool = True,
) -> Loaded:
    """One pool behind one or more listeners.

    A listener is `http://127.0.0.1:8080`, `https://[::1]:443`, `tcp://127.0.0.1:8101`, `tls://[::1]:443` or
    `unix:/run/app.sock`; `tcp://` may be left out. A backend is an address, with `tls://` or `https://` in front if it
    speaks TLS, perhaps with `tcp://` or `http://` if not; what is spoken inside is the listener's protocol. `certs` are
    for the listeners with `tls://` or `https://`; each of `keys` belongs to the one of the same place, and those left
    over find their keys themselves. `now` and `read_files` as for `load`.
    """
    options = (
        ("--listen", listens),
        ("--backend", backends),
        ("--policy", [policy or ""]),
        ("--cert", certs),
        ("--key", keys),
    )
    problems: list[Problem] = []
    for option, words in options:
        problems += [Problem(None, 0, option, f"{word!a} is not UTF-8") for word in words if not _is_utf8(word)]
    if problems:
        # Nothing further on could even repeat them.
        return Loaded(None, tuple(problems))
    binds: list[tuple[str, str]] = []
    for word in listens:
        scheme, bind, complaint = _bind(word)
        if complaint:
            problems.append(Problem(None, 0, "--listen", complaint))
        else:
            binds.append((scheme, bind))
    if not listens:
        problems.append(Problem(None, 0, "--listen", "is missing; write for example --listen http://127.0.0.1:8080"))
    if not backends:
        problems.append(Problem(None, 0, "--backend", "is missing; write for example --backend 127.0.0.1:9001"))
    split = [_backend(word) for word in backends]
    problems += _tls_complaints(binds, certs, keys, [scheme for scheme, _ in split])
    raw = {
        "listener": [
            _listener(scheme if len(binds) == 1 else f"{scheme}{number}", scheme, bind, certs, keys)
            for number, (scheme, bind) in enumerate(binds, 1)
        ],
        "pool": {POOL: _pool(split, policy)} if backends else {},
    }
    loaded = examine(raw, OptionPlaces(raw), None, now=now, read_files=read_files)
    if not problems:
        return loaded
    # With words missing, what the checks say beyond the values themselves would be echoes.
    return Loaded(None, (*problems, *(problem for problem in loaded.problems if backends and binds)))


def _listener(name: str, scheme: str, bind: str, certs: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    listener: dict[str, Any] = {"name": name, "bind": bind, "pool": POOL}
    if scheme in ("http", "https"):
        listener["protocol"] = "http"
    # Without a certificate the complaint is made already, and made better than the checks could.
    if scheme in _ENCRYPTED and certs:
        pairs = zip_longest(certs, keys[: len(certs)])
        listener["tls"] = {
            "certificates": [{"cert": cert} if key is None else {"cert": cert, "key": key} for cert, key in pairs]
        }
    return listener


def _pool(backends: Sequence[tuple[str, str]], policy: str | None) -> dict[str, Any]:
    pool: dict[str, Any] = {"backends": [address for _, address in backends]}
    if any(scheme in _ENCRYPTED for scheme, _ in backends):
        pool["tls"] = True
    if policy is not None:
        pool["policy"] = policy
    return pool


def _tls_complaints(
    binds: Sequence[tuple[str, str]], certs: Sequence[str], keys: Sequence[str], spoken: Sequence[str]
) -> Iterator[Problem]:
    """What is wrong between the options; `spoken` is the scheme of each backend."""
    encrypted = next((f"{scheme}://{printable(bind)}" for scheme, bind in binds if scheme in _ENCRYPTED), None)
    if encrypted is not None and not certs:
        message = f"is missing; {encrypted} needs a certificate, as in --cert site.pem --key site.key"
        yield Problem(None, 0, "--cert", message)
    if binds and encrypted is None and (certs or keys):
        scheme, bind = binds[0]
        meant = "https" if scheme == "http" else "tls"
        message = f"has no use: no listener speaks TLS; write --listen {meant}://{printable(bind)}"
        yield Problem(None, 0, "--cert" if certs else "--key", message)
    elif len(keys) > len(certs) and (certs or encrypted is None):
        yield Problem(
            None,
            0,
            "--key",
            f"is written {len(keys)} times, --cert {len(certs)}: each key belongs to the certificate of the same place",
        )
    if len({scheme in _ENCRYPTED for scheme in spoken}) > 1:
        word = next(scheme for scheme in spoken if scheme in _ENCRYPTED)
        yield Problem(
            None,
            0,
            "--backend",
            f"some are written with {word}:// and some without; the quick form speaks to all of them in one way",
        )


def _bind(word: str) -> tuple[str, str, str]:
    """The scheme and the address in a listener's word, or else a complaint."""
    found = _URL.fullmatch(word)
    if found is None:
        return "tcp", word, ""
    scheme, address = found[1].lower(), found[2].removesuffix("/")
    if scheme in _SCHEMES:
        return scheme, address, ""
    hint = did_you_mean(scheme, _SCHEMES)
    forms = "http://127.0.0.1:8080, https://..., tcp://..., tls://... or unix:/run/app.sock"
    return "", "", f"is {show(word)}; a listener is written {forms}{hint}"


def _backend(word: str) -> tuple[str, str]:
    """The scheme and the address in a backend's word. Another scheme stays where it is and is found there."""
    found = _URL.fullmatch(word)
    if found is None or found[1].lower() not in _SCHEMES:
        return "tcp", word
    return found[1].lower(), found[2].removesuffix("/")


def _is_utf8(word: str) -> bool:
    """Whether the shell's bytes were text; Python hands others on as lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
