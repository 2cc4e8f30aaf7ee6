"""The rows of the report: what each measures, with which load, and what lbproxy promises for it.

A row is told the peers that run and the field they stand on; it returns samples and knows no other row.
"""

import json
import re
import socket
import statistics
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from bench.children import Children, find_program
from bench.load import LoadFailed
from bench.meters import Usage, memory, usage, usage_of
from bench.peers import Peer, Running
from bench.places import Front
from bench.report import Metric, Sample, Target
from bench.tls import GROUP_NUMBER, NAME, SUITE_NUMBER, Material, offers

CONNECTIONS = 64
"""Kept connections of the loads that keep them."""

WARM_UP = 0.3
"""Seconds of load before the first sample of a peer: imports, caches and memory pools fill up."""

QUIET = 0.06
"""Seconds after a load until the proxy's CPU time is read: it closes what is left, and the kernel's tick passes."""


@dataclass(frozen=True)
class Scale:
    """How long and how much."""

    rounds: int = 3
    repeats: int = 2
    """Turns of a row in each round: many short turns, as something else on the machine spoils few of them."""
    latency_repeats: int = 4
    seconds: int = 1
    idle_seconds: float = 5.0
    idle_connections: int = 1000
    held: tuple[int, ...] = (1000, 8000)
    held_tls: tuple[int, ...] = (1000,)

    @classmethod
    def quick(cls) -> "Scale":
        """One round, a minute in all: good for a glance, not for the record."""
        return cls(rounds=1, repeats=1, latency_repeats=2, idle_seconds=2.0, held=(1000, 4000))


@dataclass
class Field:
    """What a row may use: children of the harness and the scale."""

    children: Children
    scale: Scale
    material: Material
    direct: dict[str, int] = field(default_factory=dict)
    """For each kind of backend the port that no peer uses."""

    def load(self, kind: str, **arguments: float) -> Sample:
        """Run one load beside the backends to its end; raise LoadFailed."""
        return self._load(self.start_load(kind, module="bench.load", **arguments))

    def tls_load(self, kind: str, **arguments: float) -> Sample:
        """The same for a load that speaks TLS."""
        return self._load(self.start_load(kind, module="bench.tls_load", **arguments))

    def http_load(self, kind: str, **arguments: float) -> Sample:
        """The same for a load that reads HTTP."""
        return self._load(self.start_load(kind, module="bench.http_load", **arguments))

    def cache_load(self, kind: str, **arguments: float) -> Sample:
        """The same for the loads of the cache and of compression."""
        return self._load(self.start_load(kind, module="bench.cache_load", **arguments))

    def start_load(self, kind: str, *, module: str, **arguments: float) -> "subprocess.Popen[bytes]":
        """Start one load beside the backends."""
        pairs = [f"{key}={value}" for key, value in arguments.items()]
        environment = self.material.environment if module == "bench.tls_load" else None
        return self.children.start_python(module, kind, *pairs, environment=environment, talk=True)

    def _load(self, child: "subprocess.Popen[bytes]") -> Sample:
        try:
            output, _ = child.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            raise LoadFailed("the load did not end in time") from None
        finally:
            words = self.children.last_words(child) if child.poll() is not None else ""
            self.children.end(child)
        return parse_result(output.decode(), words)

    def wrk(
        self,
        program: str,
        port: int,
        seconds: int,
        *,
        tls: bool = False,
        path: str = "/",
        options: Sequence[str] = (),
    ) -> Sample:
        """Run wrk beside the backends."""
        child = self._start_wrk(program, port, seconds, CONNECTIONS, tls=tls, path=path, options=options)
        try:
            output, _ = child.communicate(timeout=seconds + 30)
        except subprocess.TimeoutExpired:
            raise LoadFailed("wrk did not end in time") from None
        finally:
            self.children.end(child)
        return parse_wrk(output.decode())

    def check_wrk(self, program: str) -> None:
        """Read what wrk offers over TLS; raise LoadFailed when that is not the suite and the group of all, alone."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(5)
            child = self._start_wrk(program, listening.getsockname()[1], 1, 1, tls=True)
            try:
                hello = first_bytes(listening)
            finally:
                self.children.end(child)
        check_offers(hello)

    def _start_wrk(
        self,
        program: str,
        port: int,
        seconds: int,
        connections: int,
        *,
        tls: bool,
        path: str = "/",
        options: Sequence[str] = (),
    ) -> "subprocess.Popen[bytes]":
        command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", *options]
        if tls:
            command += ["-s", str(self.material.wrk), f"https://{NAME}:{port}{path}"]
        else:
            command.append(f"http://127.0.0.1:{port}{path}")
        return self.children.start(
            command,
            on=self.children.cores.load,
            name="wrk",
            environment=self.material.environment if tls else None,
            talk=True,
        )


def first_bytes(listening: socket.socket) -> bytes:
    """What a client sends first; one that only looks whether somebody listens is passed over."""
    hello = b""
    with suppress(OSError):
        while not hello:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                hello = connection.recv(65536)
    return hello


def check_offers(hello: bytes) -> None:
    """Raise LoadFailed when a ClientHello offers more, or less, than the suite and the group of all."""
    try:
        found = offers(hello)
    except ValueError as error:
        raise LoadFailed(f"the load sent no ClientHello that can be read: {error}") from None
    if found != ([SUITE_NUMBER], [GROUP_NUMBER]):
        suites, groups = (" ".join(f"{number:04x}" for number in numbers) for numbers in found)
        raise LoadFailed(
            f"the load offers the suites {suites or 'none'} and the groups {groups or 'none'}, "
            f"not {SUITE_NUMBER:04x} and {GROUP_NUMBER:04x} alone"
        )


def parse_result(output: str, words: str = "") -> Sample:
    """The last line of a load's output; an error in it, or no line at all, raises LoadFailed."""
    lines = output.strip().splitlines()
    if not lines:
        raise LoadFailed(words or "the load printed nothing")
    result = json.loads(lines[-1])
    if "error" in result:
        raise LoadFailed(str(result["error"]))
    return {key: float(value) for key, value in result.items()}


def parse_wrk(output: str) -> Sample:
    """Requests and seconds in wrk's report; errors in it raise LoadFailed."""
    if errors := re.search(r"^\s*(Socket errors: .*|Non-2xx or 3xx responses: .*)$", output, re.MULTILINE):
        raise LoadFailed(f"wrk: {errors[1]}")
    match = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)\b", output)
    if match is None or match[1] == "0":
        raise LoadFailed(f"wrk: {output.strip() or 'no report'}")
    unit = {"ms": 1e-3, "s": 1.0, "m": 60.0}[match[3]]
    return {"requests": float(match[1]), "seconds": float(match[2]) * unit}


Backend = Literal["answers", "answers-tls", "stream", "sink", "http", "cache"]
"""Who stands behind the proxies."""


class Row(ABC):
    """One row: fixed text, then the measurement."""

    name: str
    title: str
    metrics: Sequence[Metric]
    family = ""
    """What ``--rows`` calls it; rows that differ in one number share it."""
    targets: Sequence[Target] = ()
    bases: Sequence[str] = ("haproxy",)
    backend: Backend = "answers"
    front: Front = "tcp"
    fresh = False
    """Each sample needs a process that served nothing before."""
    together = False
    """All peers are measured at the same time, once."""

    def warm(self, _field: Field, _running: Running) -> None:  # noqa: B027
        """Load a peer before its first sample; raises LoadFailed."""

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        """Choose what depends on all peers, after they are warm; return notes for the report."""
        return []

    def turns(self, scale: Scale) -> int:
        """How often each peer is measured, over all rounds."""
        return scale.rounds * scale.repeats

    def leaves_out(self, _peer: Peer) -> str | None:
        """Why a running peer is not measured, known after ``settle``."""
        return None

    def measure(self, field: Field, running: Running) -> Sample:
        """One sample of one peer; raises LoadFailed."""
        raise NotImplementedError

    def measure_together(self, field: Field, running: Sequence[Running]) -> Mapping[str, Sample | LoadFailed]:
        """One sample of each peer, for rows that are *together*."""
        raise NotImplementedError

    def remarks(self, _medians: Mapping[str, Sample]) -> list[str]:
        """What a reader of the numbers should know."""
        return []


class Loaded(Row):
    """A row whose sample is a load with the proxy's CPU time around it."""

    @abstractmethod
    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        """Run the load; the result has at least ``seconds``."""

    @abstractmethod
    def sample(self, offered: Sample, cpu: float) -> Sample:
        """The metrics from the load's result and the CPU seconds of the proxy."""

    def measure(self, field: Field, running: Running) -> Sample:
        before = usage_of(running.pids)
        offered = self.offer(field, running, field.scale.seconds)
        time.sleep(QUIET)
        used = usage_of(running.pids).since(before)
        result = {**self.sample(offered, used.ran), **shares(used, offered["seconds"])}
        if running.shares_itself:
            # It waits for itself, which tells nothing of others.
            result["waited"] = 0.0
        return result

    def remarks(self, medians: Mapping[str, Sample]) -> list[str]:
        remarks = disturbance(medians)
        if spare := [peer for peer, sample in medians.items() if sample["busy"] + sample["waited"] < 90]:
            names = ", ".join(spare)
            remarks.append(
                f"the load was the bottleneck, not the proxy, for {names}: throughput is a lower bound there"
            )
        return remarks


def shares(used: Usage, seconds: float) -> Sample:
    """How much of its core the proxy had, and how much it wanted but others had, in percent."""
    return {"busy": 100 * used.ran / seconds, "waited": 100 * used.waited / seconds}


def disturbance(medians: Mapping[str, Sample]) -> list[str]:
    """A remark where other programs took the proxy's core."""
    taken = {peer: sample["waited"] for peer, sample in medians.items() if sample["waited"] > 2}
    if not taken:
        return []
    shares_text = ", ".join(f"{peer} {share:.0f} %" for peer, share in taken.items())
    # CPU per request bears a little of this, throughput and latency do not.
    weight = "not for the record: " if max(taken.values()) > 10 else ""
    return [f"{weight}other programs disturbed this row; time that the proxy waited for its core: {shares_text}"]


BUSY = Metric("busy", "core busy %", "neither", 0)


class RoundTrips(Loaded):
    """Small requests on kept connections."""

    name = family = "rtt"
    title = f"small round trips, {CONNECTIONS} keep-alive connections, 12-byte answers"
    metrics = (Metric("cpu", "CPU us/request"), Metric("rate", "requests/s", "more", 0), BUSY)
    targets = (
        Target("cpu", "at most", 1.1),
        Target("cpu", "at least", 2.5, base="portforward", inverse=True),
    )

    def __init__(self) -> None:
        self.wrk = find_program("wrk")

    def warm(self, field: Field, running: Running) -> None:
        field.load("closed", port=running.port, connections=CONNECTIONS, seconds=WARM_UP)

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        return ["load: wrk, one thread" if self.wrk else "load: Python epoll (wrk is not installed)"]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        if self.wrk:
            return field.wrk(self.wrk, running.port, seconds)
        return field.load("closed", port=running.port, connections=CONNECTIONS, seconds=seconds)

    def sample(self, offered: Sample, cpu: float) -> Sample:
        return {"cpu": 1e6 * cpu / offered["requests"], "rate": offered["requests"] / offered["seconds"]}


class NewConnections(Loaded):
    """A connection for each request."""

    name = family = "conn"
    title = "a new connection for each request, 32 at a time, the client closes first"
    metrics = (Metric("cpu", "CPU us/connection"), Metric("rate", "connections/s", "more", 0), BUSY)
    targets: Sequence[Target] = (Target("cpu", "at most", 2.0),)
    parallel = 32

    def warm(self, field: Field, running: Running) -> None:
        field.load("connect", port=running.port, parallel=self.parallel, seconds=WARM_UP)

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return field.load("connect", port=running.port, parallel=self.parallel, seconds=seconds)

    def sample(self, offered: Sample, cpu: float) -> Sample:
        return {"cpu": 1e6 * cpu / offered["connections"], "rate": offered["connections"] / offered["seconds"]}


class Bulk(Loaded):
    """Downloads: sendfile at the source, bytes dropped in the kernel at the sink."""

    family = "bulk"
    metrics = (Metric("cpu", "CPU s/GB", digits=3), Metric("rate", "Gbit/s", "more"), BUSY)
    targets: Sequence[Target] = (Target("rate", "at least", 0.95), Target("cpu", "at most", 1.15))
    bases: Sequence[str] = ("haproxy", "haproxy-splice")
    backend: Backend = "stream"

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.name = f"bulk{streams}"
        self.title = f"bulk download, {streams} stream{'s' if streams > 1 else ''}"

    def warm(self, field: Field, running: Running) -> None:
        field.load("bulk", port=running.port, streams=self.streams, seconds=WARM_UP)

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        return ["GB = 10^9 bytes"]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return field.load("bulk", port=running.port, streams=self.streams, seconds=seconds)

    def sample(self, offered: Sample, cpu: float) -> Sample:
        gigabytes = offered["bytes"] / 1e9
        return {"cpu": cpu / gigabytes, "rate": 8 * gigabytes / offered["seconds"]}


class Holding:
    """Idle connections through one proxy, held by a child until the context ends."""

    def __init__(self, field: Field, port: int, *, tls: bool = False) -> None:
        self._children = field.children
        self._child = field.start_load("hold", module="bench.tls_load" if tls else "bench.load", port=port)

    def __enter__(self) -> "Holding":
        return self

    def __exit__(self, *_: object) -> None:
        self._children.end(self._child)

    def hold(self, count: int) -> None:
        """Return once *count* connections are open in all; raise LoadFailed."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(b"%d\n" % count)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise LoadFailed("the load ended early") from None
        parse_result(self._child.stdout.readline().decode())


class IdleMemory(Row):
    """Memory of connections that were used once and then rest."""

    name = family = "mem"
    fresh = True

    def __init__(self, held: tuple[int, ...]) -> None:
        self.held = held
        self.title = f"memory per idle connection, {' and '.join(f'{count:,}' for count in held)} held"
        self.metrics = (
            *(Metric(f"private{count}", f"private B/conn at {count:,}", "less", 0) for count in held),
            Metric("pss", f"PSS B/conn at {held[-1]:,}", "neither", 0),
            Metric("base", "MB before", "neither", 1),
        )
        self.targets = (Target(f"private{held[-1]}", "at most", 6 * 1024, base=None),)

    def turns(self, scale: Scale) -> int:
        return scale.rounds

    def measure(self, field: Field, running: Running) -> Sample:
        warm = 8
        with Holding(field, running.port, tls=self.front == "tls") as holding:
            # A few connections first, so that what is made once for all connections counts to the base.
            holding.hold(warm)
            time.sleep(QUIET)
            base = memory(running.pid)
            result = {"base": base.private / 1e6}
            for count in self.held:
                holding.hold(count)
                time.sleep(0.2)
                now = memory(running.pid)
                result[f"private{count}"] = (now.private - base.private) / (count - warm)
                result["pss"] = (now.pss - base.pss) / (count - warm)
        return result

    def remarks(self, _medians: Mapping[str, Sample]) -> list[str]:
        return [
            "user memory only: sockets are the kernel's; nginx makes its connection table at the start, before the base"
        ]


class Latency(Row):
    """Latency at one fixed rate for all, below everybody's limit."""

    name = family = "lat"
    title = f"latency at a fixed rate, open loop, {CONNECTIONS} connections, counted from the intended moment"
    metrics = (
        Metric("p50", "p50 us", "less", 0),
        Metric("p99", "p99 us", "less", 0),
        Metric("p999", "p99.9 us", "less", 0),
        Metric("late", "load late p99 us", "neither", 0),
        BUSY,
    )
    targets: Sequence[Target] = (Target("p99", "at most", 1.3),)

    def __init__(self) -> None:
        self.rate = 0.0
        self.reach: dict[str, float] = {}

    def warm(self, field: Field, running: Running) -> None:
        offered = field.load("closed", port=running.port, connections=CONNECTIONS, seconds=2 * WARM_UP)
        self.reach[running.name] = offered["requests"] / offered["seconds"]

    def settle(self, field: Field, running: Sequence[Running]) -> list[str]:
        serious = [self.reach[peer.name] for peer in running if peer.peer.serious]
        self.rate = min(serious or self.reach.values()) / 2
        why = "half of what this load gets through the slowest of the serious peers"
        alone = field.load("closed", port=field.direct[self.backend], connections=CONNECTIONS, seconds=2 * WARM_UP)
        if self.rate > (limit := alone["requests"] / alone["seconds"] / 4):
            self.rate = limit
            why = "a quarter of what this load gets without a proxy: above it the load's own queue shows"
        self.rate = round(self.rate, -2)
        direct = [self._offer(field, field.direct[self.backend]) for _ in range(self.turns(field.scale))]
        p50, p99 = (1e6 * statistics.median(offered[key] for offered in direct) for key in ("p50", "p99"))
        return [
            f"rate: {self.rate:,.0f} requests/s, {why}",
            f"the same load without a proxy: p50 {p50:.0f} us, p99 {p99:.0f} us",
        ]

    def turns(self, scale: Scale) -> int:
        return scale.rounds * scale.latency_repeats

    def leaves_out(self, peer: Peer) -> str | None:
        if self.rate > 0.8 * self.reach[peer.name]:
            return f"its limit, {self.reach[peer.name]:,.0f} requests/s, is too near to the rate"
        return None

    def measure(self, field: Field, running: Running) -> Sample:
        before = usage(running.pid)
        offered = self._offer(field, running.port)
        time.sleep(QUIET)
        used = usage(running.pid).since(before)
        result = {key: 1e6 * offered[key] for key in ("p50", "p99", "p999")}
        return {**result, "late": 1e6 * offered["late_p99"], **shares(used, field.scale.seconds)}

    def _offer(self, field: Field, port: int) -> Sample:
        return field.load("open", port=port, connections=CONNECTIONS, seconds=field.scale.seconds, rate=self.rate)

    def remarks(self, medians: Mapping[str, Sample]) -> list[str]:
        return disturbance(medians)


class Idle(Row):
    """CPU time while nothing happens. Peers that do nothing do not disturb each other: all at the same time."""

    name = family = "idle"
    together = True

    def __init__(self, connections: int, seconds: float) -> None:
        self.connections = connections
        self.title = f"idle, over {seconds:.0f} s"
        self.metrics = (
            Metric("none", "CPU ms/s, 0 connections", "less", 2),
            Metric("held", f"CPU ms/s, {connections:,} idle", "less", 2),
        )

    def measure_together(self, field: Field, running: Sequence[Running]) -> Mapping[str, Sample | LoadFailed]:
        results: dict[str, Sample | LoadFailed] = {peer.name: {} for peer in running}
        holdings = [Holding(field, peer.port) for peer in running]
        try:
            for key, count in (("none", 0), ("held", self.connections)):
                for peer, holding in zip(running, holdings, strict=True):
                    try:
                        holding.hold(count)
                    except LoadFailed as failure:
                        results[peer.name] = failure
                time.sleep(1)
                before = [usage(peer.pid) for peer in running]
                time.sleep(field.scale.idle_seconds)
                for peer, start in zip(running, before, strict=True):
                    used = 1000 * usage(peer.pid).since(start).ran / field.scale.idle_seconds
                    result = results[peer.name]
                    if not isinstance(result, LoadFailed):
                        result[key] = used
        finally:
            for holding in holdings:
                holding.__exit__()
        return results


def scaled(scale: Scale, rounds: int | None, file_limit: int) -> Scale:
    """*scale* with another number of rounds, if given, and no more connections than files may be open."""
    reach = (file_limit - 1000) // 2
    return replace(
        scale,
        rounds=scale.rounds if rounds is None else max(1, rounds),
        idle_connections=min(scale.idle_connections, reach),
        held=tuple(sorted({min(count, reach) for count in scale.held})),
        held_tls=tuple(sorted({min(count, reach) for count in scale.held_tls})),
    )
