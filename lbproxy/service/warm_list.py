"""The list of URLs that `lbproxy cache warm` fetches, and what an answer's Cache-Status says of each.

Owns the form of the list, and the words for what became of a URL. Refuses to know how it is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Verdict = Literal["stored", "cached", "not stored", "untold", "failed"]

_URL = re.compile(r"(?:http|https)://[\x21-\x7e]+", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_OURS = re.compile(r"\s*(?:lbproxy|\"lbproxy\")\s*(?:;|$)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One URL to fetch: where to connect to, what Host to name, what to ask for."""

    url: str
    tls: bool
    name: str
    port: int
    host: str
    target: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one URL. `detail` is the reason, `size` the bytes of its body."""

    url: str
    verdict: Verdict
    detail: str = ""
    size: int = 0


def read_list(lines: Iterable[str]) -> Iterator[Wanted | Fetched]:
    """One URL of each line; empty lines and those that begin with "#" are passed over, what is no URL has failed."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                yield wanted(text)
            except ValueError as problem:
                yield Fetched(text[:200], "failed", f"line {number}: {problem}")


def wanted(url: str) -> Wanted:
    """What this URL wants. Raises ValueError with a sentence."""
    if not _URL.fullmatch(url):
        raise ValueError("no whole URL; write http://host/path or https://host/path, percent-encoded")
    parts = urlsplit(url)
    try:
        name, port = parts.hostname, parts.port
    except ValueError:
        name = port = None
    if not name or port == 0 or parts.netloc.endswith(":"):
        raise ValueError("no host and port in it that could be connected to")
    if "@" in parts.netloc:
        raise ValueError("it names a user; leave out what stands before @")
    tls = parts.scheme.lower() == "https"
    # What stands behind "#" is never sent.
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Wanted(url, tls, name, port or (443 if tls else 80), parts.netloc, target)


def judge(url: str, status: int, cache_status: Iterable[str], size: int) -> Fetched:
    """What became of a URL that was answered with this status and these values of Cache-Status (RFC 9211)."""
    if status >= 400:
        return Fetched(url, "failed", f"status {status}", size)
    ours = _ours(",".join(cache_status))
    if ours is None:
        return Fetched(url, "untold", "the answer has no Cache-Status of lbproxy", size)
    if "hit" in ours:
        return Fetched(url, "cached", "", size)
    if "stored" in ours:
        return Fetched(url, "stored", "", size)
    return Fetched(url, "not stored", ours.get("detail") or ours.get("fwd") or "no reason was given", size)


def _ours(value: str) -> dict[str, str] | None:
    """The parameters of the last member that is lbproxy's, the one nearest to us; None without one."""
    # Strings may hold commas and semicolons, so they are put aside first.
    strings: list[str] = []

    def aside(found: re.Match[str]) -> str:
        strings.append(re.sub(r"\\(.)", r"\1", found[0][1:-1]))
        return f'"{len(strings) - 1}"'

    members = [member.strip() for member in _QUOTED.sub(aside, value).split(",")]
    ours = [member for member in members if _OURS.match(_restored(member.partition(";")[0].strip(), strings))]
    if not ours:
        return None
    pairs = (part.strip().partition("=") for part in ours[-1].split(";")[1:])
    return {key.lower(): _restored(text, strings) for key, _, text in pairs}


def _restored(text: str, strings: list[str]) -> str:
    found = re.fullmatch(r'"([0-9]+)"', text)
    return strings[int(found[1])] if found else text
