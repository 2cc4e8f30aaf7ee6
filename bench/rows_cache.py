"""The rows in which answers are stored, and those in which they are compressed.

In the rows of hits the backend is asked, before and after each turn, whether it was: who lets requests through is not
measured.
"""

import gzip
import http.client
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from bench.cache_load import CODINGS, ask
from bench.cache_serve import ASKED, ITEMS, content
from bench.load import LoadFailed
from bench.peers import Running
from bench.peers_cache import LEVELS, VARNISH_THREADS
from bench.places import Front
from bench.report import Metric, Sample, Target
from bench.rows import BUSY, Backend, Field, Loaded, Row, Scale
from bench.rows_http import FETCH_TIMEOUT, HttpRoundTrips, check

HIT_BASES = ("nginx", "varnish")
HIT_TARGETS = tuple(Target("cpu", "at most", 1.3, base=base) for base in HIT_BASES)

COLD_REQUESTS = 1000

DEFAULT_LEVEL = 4
"""Of nginx's gzip, where there is no lbproxy whose ratio it could be chosen by."""

MANY = f"""\
local random = math.random
local tail = " HTTP/1.1\\r\\nHost: bench\\r\\nUser-Agent: curl/8.5.0\\r\\nAccept: */*\\r\\n\\r\\n"
function init(_) math.randomseed(os.time()) end
function request() return "GET /item/" .. random(0, {ITEMS - 1}) .. tail end
"""
"""wrk's script: any of the stored answers."""


class StoredKilobyte(HttpRoundTrips):
    """Hits of one small answer."""

    name = family = "cache-1k"
    title = "cache: hits of 1 KB, 64 keep-alive connections, identical heads"
    targets: Sequence[Target] = HIT_TARGETS
    bases: Sequence[str] = HIT_BASES
    backend: Backend = "cache"
    front: Front = "cache"
    path = "/1k"

    def paths(self) -> Sequence[str]:
        """All that is asked for."""
        return (self.path,)

    def warm(self, field: Field, running: Running) -> None:
        for path in self.paths():
            # The Host is what the load sends; for most caches it is part of the key.
            check(running.port, path, content(path), self.host(running))
        self.offer(field, running, 1)

    def host(self, running: Running) -> str:
        """What the load has in Host."""
        return f"127.0.0.1:{running.port}"

    def settle(self, _field: Field, running: Sequence[Running]) -> list[str]:
        notes = ["load: wrk, one thread"]
        if any(peer.name == "varnish" for peer in running):
            notes.append(f"varnish: one pool of {VARNISH_THREADS} threads; varnishncsa, which writes its log, counts")
        if any(peer.name == "nginx-open-files" for peer in running):
            notes.append("nginx-open-files has open_file_cache, nginx opens the file of the answer for each hit")
        return notes

    def measure(self, field: Field, running: Running) -> Sample:
        path = self.paths()[-1]
        before = ask(field.direct[self.backend], ASKED + path)
        sample = super().measure(field, running)
        if asked := ask(field.direct[self.backend], ASKED + path) - before:
            raise LoadFailed(f"no hits: the backend was asked {asked} times for {path}")
        return sample


class StoredMany(StoredKilobyte):
    """Hits of many small answers."""

    name = family = "cache-1k-many"
    title = f"cache: hits of 1 KB spread over {ITEMS:,} paths, 64 keep-alive connections"
    script = MANY

    def paths(self) -> Sequence[str]:
        return [f"/item/{number}" for number in range(ITEMS)]

    def host(self, _running: Running) -> str:
        return "bench"


class StoredBody(StoredKilobyte):
    """Hits of an answer that is long enough for its bytes to count."""

    name = family = "cache-100k"
    streams = 8
    title = f"cache: hits of 100 KB, {streams} keep-alive connections"
    path = "/100k"

    def host(self, _running: Running) -> str:
        return "bench"

    def settle(self, field: Field, running: Sequence[Running]) -> list[str]:
        return super().settle(field, running)[1:]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return field.cache_load("stored", port=running.port, streams=self.streams, seconds=seconds)


class Cold(Row):
    """How often the backend is asked when many want the same at once."""

    name = family = "cache-cold"
    title = f"cache: {COLD_REQUESTS:,} requests at once for 100 KB that are not stored yet"
    metrics = (Metric("asked", "requests to the backend", "neither", 0),)
    targets = (Target("asked", "at most", 1, base=None),)
    bases = HIT_BASES
    backend: Backend = "cache"
    front: Front = "cache"

    def __init__(self) -> None:
        self.numbers = itertools.count()

    def turns(self, scale: Scale) -> int:
        return scale.rounds

    def measure(self, field: Field, running: Running) -> Sample:
        direct = field.direct[self.backend]
        offered = field.cache_load(
            "cold", port=running.port, backend=direct, number=next(self.numbers), requests=COLD_REQUESTS
        )
        return {"asked": offered["asked"]}


class Coded(Loaded):
    """Texts of a megabyte, compressed as they pass."""

    metrics = (
        Metric("cpu", "CPU ms/MB", digits=2),
        Metric("ratio", "plain / coded", "neither", 2),
        Metric("rate", "MB/s", "more", 0),
        BUSY,
    )
    targets = (Target("cpu", "at most", 1.2, base="nginx"),)
    bases = ("nginx",)
    backend: Backend = "cache"
    streams = 8

    def __init__(self, coding: Front) -> None:
        self.name = self.family = self.coding = coding
        self.front = coding
        self.title = f"compression: texts of 1 MB in {coding}, {self.streams} keep-alive connections"
        if coding != "gzip":
            self.title += ", against gzip"
        self.level = DEFAULT_LEVEL
        self.ratios: dict[str, dict[int, float]] = {}
        """By peer and level; those that know no levels have the same at each."""

    def coding_of(self, running: Running) -> str:
        """What is asked for: the peers have nothing but gzip."""
        return self.coding if running.name == "lbproxy" else "gzip"

    def warm(self, field: Field, running: Running) -> None:
        levels = LEVELS if running.name == "nginx" else [DEFAULT_LEVEL]
        coding = self.coding_of(running)
        self.ratios[running.name] = {level: packed(running.port, f"/{level}/text", coding) for level in levels}
        self._offer(field, running, 0.3)

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        if "nginx" not in self.ratios:
            return []
        notes = ["MB = 10^6 bytes of text before it is compressed"]
        if "lbproxy" in self.ratios:
            (wanted,) = self.ratios["lbproxy"].values()
            self.level = nearest(self.ratios["nginx"], wanted)
            why = "the one whose ratio is nearest to lbproxy's"
        else:
            why = "there is no lbproxy to be near to"
        return [*notes, f"nginx: gzip_comp_level {self.level}, {why}"]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        offered = self._offer(field, running, seconds)
        levels = self.ratios[running.name]
        return {**offered, "ratio": levels.get(self.level) or next(iter(levels.values()))}

    def _offer(self, field: Field, running: Running, seconds: float) -> Sample:
        coding = CODINGS.index(self.coding_of(running))
        return field.cache_load(
            "coded", port=running.port, streams=self.streams, seconds=seconds, coding=coding, level=self.level
        )

    def sample(self, offered: Sample, cpu: float) -> Sample:
        megabytes = offered["answers"] * len(content("/text")) / 1e6
        return {
            "cpu": 1e3 * cpu / megabytes,
            "ratio": offered["ratio"],
            "rate": megabytes / offered["seconds"],
        }


def nearest(ratios: Mapping[int, float], wanted: float) -> int:
    """The level whose ratio is nearest to *wanted*."""
    return min(ratios, key=lambda level: abs(ratios[level] - wanted))


def packed(port: int, path: str, coding: str) -> float:
    """How many times shorter a text comes than it is; raises LoadFailed when it is another text once unpacked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=FETCH_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Host": "bench", "Accept-Encoding": coding})
        answer = connection.getresponse()
        body = answer.read()
    except (http.client.HTTPException, OSError) as error:
        raise LoadFailed(f"a request for {path} failed: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200 or answer.getheader("Content-Encoding") != coding:
        raise LoadFailed(
            f"{path} was answered with {answer.status} in the coding {answer.getheader('Content-Encoding')}"
        )
    if unpack(body, coding) != content(path):
        raise LoadFailed(f"{path} is another text once it is unpacked")
    return len(content(path)) / len(body)


def unpack(body: bytes, coding: str) -> bytes:
    """A whole body out of its coding; raises LoadFailed."""
    try:
        if coding == "gzip":
            return gzip.decompress(body)
        unpacked: bytes = zstd().decompress(body)
    # The error of zstd's module is one of its own, right below Exception.
    except Exception as error:
        raise LoadFailed(f"a body in {coding} cannot be unpacked: {error}") from None
    return unpacked


def zstd() -> Any:
    """The module of the standard library, or that of its pattern for older ones; raises LoadFailed."""
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    raise LoadFailed("zstd cannot be unpacked here: pip install backports.zstd")
