"""What demo backends say: who they are, what they were asked, what they were given.

Owns the texts in their forms: a page for browsers, JSON for the page's scripts, a line for everybody else.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from email.message import Message
from html import escape
from typing import NamedTuple

from lbproxy.demo.page import COLOURS, OTHER_COLOUR, front_page
from lbproxy.demo.page_cache import STATUS_SCRIPT

_MOST_SECONDS = 30.0

_SHORT_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} - lbproxy demo</title>
<body style="margin:0;min-height:100vh;display:grid;place-items:center;text-align:center;font:1.6rem/1.5 system-ui,
 sans-serif;background:{colour};color:#fff">
<main><p>Hello from <b>{name}</b>, on port {port}.<br>It is answer number {number} of this backend.</p>
{more}
</main>
</html>
"""
_WAY_BACK = '<p><a href="/" style="color:#fff">All that there is to try</a></p>'
# A page cannot see its own head, so it asks for itself once more.
_TOLD = """<p id="told" style="font-size:1rem"></p>
<script>
"use strict";
@STATUS@
fetch(location.href, { cache: "no-store", headers: { Accept: "application/json" } }).then(async answer => {
  const told = answer.ok ? await answer.json() : { name: "nobody", number: 0 };
  document.getElementById("told").innerText =
    `Asked again just now: ${told.name}'s number ${told.number}, ${meaning(answer.status, answer.headers)}.\n` +
    inHead(answer.headers);
});
</script>
""".replace("@STATUS@", STATUS_SCRIPT)
_TLS = "<p>This backend speaks TLS itself.</p>"


class Said(NamedTuple):
    """An answer: the type of its text, the text, the status, and what else its head says."""

    content_type: str
    text: str
    status: int = 200
    fields: tuple[tuple[str, str], ...] = (("Cache-Control", "no-store"), ("Vary", "Accept"))


def hello(name: str, port: int, number: int, path: str, accept: str, *, secure: bool, stored: bool = False) -> Said:
    """Who answers; at "/" browsers get the front page. `stored` is for what caches may store: its page tells whether
    one did.
    """
    if "application/json" in accept:
        return _json(name=name, port=port, number=number)
    if "text/html" not in accept:
        return Said("text/plain; charset=utf-8", f"hello from {name}, on port {port}, answer number {number}\n")
    if path == "/" and not secure:
        return Said("text/html; charset=utf-8", front_page(name))
    text = _SHORT_PAGE.format(
        name=escape(name),
        port=port,
        number=number,
        colour=COLOURS.get(name, OTHER_COLOUR),
        more=_TLS if secure else _WAY_BACK + _TOLD if stored else _WAY_BACK,
    )
    return Said("text/html; charset=utf-8", text)


def uploaded(name: str, pieces: Iterable[bytes], accept: str) -> Said:
    """How much was given, and its hash."""
    size, digest = 0, hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        digest.update(piece)
    if "application/json" in accept:
        return _json(name=name, size=size, sha256=digest.hexdigest())
    return Said("text/plain; charset=utf-8", f"{name} got {size} bytes, SHA-256 {digest.hexdigest()}\n")


def request_text(line: str, fields: Message) -> str:
    """A request as it arrived."""
    return "".join([f"{line}\n", *(f"{field}: {value}\n" for field, value in fields.items())])


def event(name: str, number: int) -> str:
    """One server-sent event."""
    told = json.dumps({"name": name, "number": number, "time": time.strftime("%H:%M:%S")})
    return f"id: {number}\ndata: {told}\n\n"


def seconds(query: str, usual: float) -> float:
    """How long an answer takes that takes its time: `seconds=` in the query, else the usual ones."""
    found = re.search(r"(?:^|&)seconds=(\d+(?:\.\d+)?)(?:&|$)", query)
    return min(float(found[1]), _MOST_SECONDS) if found else usual


def _json(**told: object) -> Said:
    return Said("application/json", json.dumps(told) + "\n")
