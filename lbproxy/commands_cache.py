"""`lbproxy cache`: drop what is stored, look how well the cache does, fill it from a list of URLs.

Part of the command line in cli.py, with a file of its own. Asks a running instance through its control socket; warming
is done with requests like any client's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TextIO

from lbproxy.addresses import AddressError, parse_address
from lbproxy.service.cache_stat import cache_text, size
from lbproxy.service.client import ControlError, ask
from lbproxy.service.warm_list import Fetched, Wanted, read_list
from lbproxy.service.warming import Place, fetch_all

_FAILED = 1
_MOST_SHOWN = 5
_REDRAWN = 0.1
_OUTCOMES = {
    "stored": "stored",
    "cached": "were cached already",
    "not stored": "not stored",
    "untold": "said nothing of the cache",
    "failed": "failed",
}
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?[ \t]*")
_OURS = ("host", "content-length", "transfer-encoding", "connection", "range")

Parser = argparse.ArgumentParser


def add_cache_commands(
    commands: argparse._SubParsersAction[Parser],
    with_socket: Callable[[Parser], Parser],
    socket_of: Callable[[argparse.Namespace], str],
) -> None:
    """Add `cache` and what belongs to it; `with_socket` adds the options by which `socket_of` finds the socket."""
    cache = commands.add_parser("cache", help="drop, count or fetch stored answers").add_subparsers(
        metavar="COMMAND", required=True
    )

    purge = with_socket(cache.add_parser("purge", help="drop stored answers"))
    what = purge.add_mutually_exclusive_group(required=True)
    what.add_argument("url", metavar="URL", nargs="?", help="the answers to this URL")
    what.add_argument("--prefix", metavar="URL", help="to all URLs that begin so")
    what.add_argument("--host", metavar="HOST", help="to all URLs of this host")
    what.add_argument("--tag", metavar="TAG", help="all that have this tag in Cache-Tag or Surrogate-Key")
    what.add_argument("--all", action="store_true", help="all there are")
    purge.add_argument("--soft", action="store_true", help="mark them stale: they go on to stand in for errors")
    purge.set_defaults(run=lambda options: _purge(options, socket_of(options)))

    stat = with_socket(cache.add_parser("stat", help="show how full the cache is, and how many requests it serves"))
    stat.add_argument("--json", action="store_true", help="everything there is to know, for programs")
    stat.set_defaults(run=lambda options: _stat(options, socket_of(options)))

    warm = cache.add_parser("warm", help="fetch a list of URLs, so that they are stored")
    warm.add_argument("file", metavar="FILE", help='one URL on each line, "#" begins a comment; "-" is standard input')
    warm.add_argument("--connect", metavar="HOST:PORT", type=_place, help="connect there, whatever host a URL names")
    warm.add_argument("--concurrency", metavar="N", type=_count, default=4, help="requests at once (default: 4)")
    warm.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        type=_field,
        action="append",
        default=[],
        help="a header field of each request, as in 'Accept-Encoding: br'; may be given several times",
    )
    warm.set_defaults(run=_warm)


def _purge(options: argparse.Namespace, socket: str) -> int:
    kind = next(kind for kind in ("url", "prefix", "host", "tag", "all") if getattr(options, kind))
    value = getattr(options, kind)
    body: dict[str, object] = {kind: value, "soft": True} if options.soft else {kind: value}
    status, answer = ask(socket, "POST", "/v1/cache/purge", body)
    if status != 200:
        raise ControlError(str(answer.get("error", answer)))
    done = "marked stale" if options.soft else "purged"
    if "purged" in answer:
        count = answer["purged"]
        print(f"{done}: {count} stored answer{'s'[: count != 1]}" if count else "nothing was stored for this URL")
    else:
        print(f"{done}: all that was stored until now{_whereof(kind, value)} (ban {answer['ban']})")
    return 0


def _whereof(kind: str, value: str) -> str:
    return {"prefix": f" below {value}", "host": f" for {value}", "tag": f" with the tag {value}"}.get(kind, "")


def _stat(options: argparse.Namespace, socket: str) -> int:
    status, answer = ask(socket, "GET", "/v1/cache")
    if status != 200:
        raise ControlError(str(answer.get("error", answer)))
    print(json.dumps(answer, indent=2) if options.json else cache_text(answer))
    return 0


def _warm(options: argparse.Namespace) -> int:
    listed = _listed(options.file)
    urls = [one for one in listed if isinstance(one, Wanted)]
    tally = Tally(len(listed), sys.stdout)
    for one in listed:
        if isinstance(one, Fetched):
            tally.count(one)
    results = fetch_all(urls, options.concurrency, options.connect, options.header)
    try:
        for one in results:
            tally.count(one)
    except KeyboardInterrupt:
        tally.end("given up; until then")
        return _FAILED
    finally:
        results.close()
    tally.end("done")
    return _FAILED if tally.counts["failed"] else 0


def _listed(file: str) -> list[Wanted | Fetched]:
    try:
        if file == "-":
            return list(read_list(sys.stdin))
        with open(file, encoding="utf-8", errors="replace") as stream:
            return list(read_list(stream))
    except OSError as problem:
        raise ControlError(f"{file}: cannot be read: {problem.strerror or problem}") from None


class Tally:
    """Counts what became of URLs, and says so: in a bar on a terminal, else in a line for each tenth."""

    def __init__(self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._total = total
        self._stream = stream
        self._clock = clock
        self._drawn = -1.0
        self._octets = 0
        self._tenth = 0
        self._on_terminal = stream.isatty()
        self._failures: list[Fetched] = []
        self._reasons: Counter[str] = Counter()

    def count(self, one: Fetched) -> None:
        """One more is done."""
        self.counts[one.verdict] += 1
        self._octets += one.size
        if one.verdict == "failed" and len(self._failures) < _MOST_SHOWN:
            self._failures.append(one)
        if one.verdict == "not stored":
            self._reasons[one.detail] += 1
        if self._on_terminal:
            self._draw()
        elif (tenth := 10 * self.counts.total() // self._total) > self._tenth:
            self._tenth = tenth
            self._say(f"{self.counts.total()} of {self._total}, {size(self._octets)}")

    def end(self, how: str) -> None:
        """Nothing more comes: say what there was."""
        if self._on_terminal:
            self._stream.write("\r\x1b[K")
        parts = [f"{self.counts[word]} {text}" for word, text in _OUTCOMES.items() if self.counts[word]]
        fetched = self.counts.total() - self.counts["failed"]
        self._say(f"{how}: {fetched} of {self._total} fetched, {size(self._octets)}; {', '.join(parts) or 'no URL'}")
        self._say_each("not stored", (f"{count} for: {why}" for why, count in self._reasons.most_common(_MOST_SHOWN)))
        self._say_each("failed", (f"{one.url}: {one.detail}" for one in self._failures))
        if (more := self.counts["failed"] - len(self._failures)) > 0:
            self._say(f"  and {more} more")

    def _say_each(self, heading: str, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines):
            if number == 0:
                self._say(f"{heading}:")
            self._say(f"  {_plain(line)}")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def _draw(self) -> None:
        now, done = self._clock(), self.counts.total()
        # A terminal far away is slower than a cache; nobody reads more than a few frames a second.
        if done < self._total and self._drawn >= 0 and now < self._drawn + _REDRAWN:
            return
        self._drawn = now
        failed = f", {self.counts['failed']} failed" if self.counts["failed"] else ""
        text = f" {done}/{self._total} {size(self._octets)}{failed}"
        width = max(10, min(60, shutil.get_terminal_size().columns - len(text) - 3))
        filled = width * done // self._total
        self._stream.write(f"\r[{'#' * filled}{'.' * (width - filled)}]{text}\x1b[K")
        self._stream.flush()


def _plain(text: str) -> str:
    """Text from a list or an answer, harmless for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _place(text: str) -> Place:
    try:
        address = parse_address(text)
    except AddressError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    if address.kind not in ("ip", "name"):
        raise argparse.ArgumentTypeError(f"{text!r}: write it as HOST:PORT")
    return address.host, address.port


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: it must be a whole number from 1 to 1000")
    return int(text)


def _field(text: str) -> tuple[str, str]:
    found = _FIELD.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no header field; write it as 'Name: value'")
    if found[1].lower() in _OURS:
        raise argparse.ArgumentTypeError(f"{found[1]} cannot be chosen: it follows from the URL and the connection")
    return found[1], found[2] or ""
