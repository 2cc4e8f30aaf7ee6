"""The rows in which TLS ends at the proxy, and the one in which it is passed on.

Their loads are those of `bench.tls_load`, which hold every connection against the suite and the group of the run, and
wrk, whose ClientHello is read before it is trusted.
"""

from collections.abc import Sequence
from typing import Literal

from bench.children import find_program
from bench.peers import Running
from bench.places import Front
from bench.report import Metric, Sample, Target
from bench.rows import BUSY, CONNECTIONS, WARM_UP, Field, IdleMemory, Loaded, Scale


class TlsRoundTrips(Loaded):
    """Small requests on kept connections, the common case of an offloader."""

    name = family = "tls-rtt"
    title = f"TLS: small round trips, {CONNECTIONS} keep-alive connections, 12-byte answers"
    metrics: Sequence[Metric] = (Metric("cpu", "CPU us/request"), Metric("rate", "requests/s", "more", 0), BUSY)
    targets: Sequence[Target] = (
        Target("cpu", "at most", 1.25),
        Target("cpu", "at least", 3, base="portforward", inverse=True),
    )
    front: Front = "tls"

    def __init__(self) -> None:
        self.wrk = find_program("wrk")

    def warm(self, field: Field, running: Running) -> None:
        # This load tells what was negotiated; that wrk must come to the same is seen in what it offers.
        field.tls_load("closed", port=running.port, connections=CONNECTIONS, seconds=WARM_UP)
        if self.wrk:
            field.check_wrk(self.wrk)

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        load = "wrk, one thread" if self.wrk else "Python epoll (wrk is not installed)"
        return [f"load: {load}; the {CONNECTIONS} handshakes at the beginning of each turn count with the requests"]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        if self.wrk:
            return field.wrk(self.wrk, running.port, seconds, tls=True)
        return field.tls_load("closed", port=running.port, connections=CONNECTIONS, seconds=seconds)

    def sample(self, offered: Sample, cpu: float) -> Sample:
        return {"cpu": 1e6 * cpu / offered["requests"], "rate": offered["requests"] / offered["seconds"]}


class PassThrough(TlsRoundTrips):
    """What the look at the server name costs once it is over: the same TLS with and without it."""

    name = family = "passthrough"
    title = f"TLS passed on by server name, {CONNECTIONS} keep-alive connections, against a plain relay"
    targets = (Target("cpu", "at most", 1.15, base="lbproxy-plain"),)
    bases = ("lbproxy-plain",)
    backend = "answers-tls"
    front = "name"


class Handshakes(Loaded):
    """A connection for each request; the load makes sure that each was of the kind it is counted as."""

    metrics = (Metric("cpu", "CPU us/connection"), Metric("rate", "connections/s", "more", 0), BUSY)
    front = "tls"
    parallel = 32

    def __init__(self, *, resumed: bool) -> None:
        self.resumed = resumed
        kind = "resumed" if resumed else "full"
        self.name = self.family = f"tls-{kind}"
        how = "a resumed handshake (ticket, fresh key exchange)" if resumed else "a full handshake"
        self.title = f"TLS: {how} and one request on each connection, {self.parallel} at a time"
        self.targets = (Target("cpu", "at most", 1.6 if resumed else 1.2),)

    def warm(self, field: Field, running: Running) -> None:
        self._offer(field, running, WARM_UP)

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        return ["a connection to the backend and the way of the answer are in the number, as in `conn`"]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return self._offer(field, running, seconds)

    def _offer(self, field: Field, running: Running, seconds: float) -> Sample:
        return field.tls_load(
            "handshakes", port=running.port, parallel=self.parallel, seconds=seconds, resume=int(self.resumed)
        )

    def sample(self, offered: Sample, cpu: float) -> Sample:
        return {"cpu": 1e6 * cpu / offered["connections"], "rate": offered["connections"] / offered["seconds"]}


class TlsBulk(Loaded):
    """Streams in one direction."""

    metrics = (Metric("cpu", "CPU s/GB", digits=3), Metric("rate", "Gbit/s", "more"), BUSY)
    targets = (Target("cpu", "at most", 1.2),)
    front = "tls"
    streams = 8

    def __init__(self, direction: Literal["download", "upload"]) -> None:
        self.direction = direction
        self.name = self.family = "tls-bulk" if direction == "download" else "tls-upload"
        self.backend = "stream" if direction == "download" else "sink"
        self.title = f"TLS: bulk {direction}, {self.streams} streams"

    def turns(self, scale: Scale) -> int:
        # CPU per byte hardly differs from turn to turn, and the run is to end soon.
        return scale.rounds

    def warm(self, field: Field, running: Running) -> None:
        field.tls_load(self.direction, port=running.port, streams=self.streams, seconds=WARM_UP)

    def settle(self, _field: Field, _running: Sequence[Running]) -> list[str]:
        return ["GB = 10^9 bytes of payload"]

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return field.tls_load(self.direction, port=running.port, streams=self.streams, seconds=seconds)

    def sample(self, offered: Sample, cpu: float) -> Sample:
        gigabytes = offered["bytes"] / 1e9
        return {"cpu": cpu / gigabytes, "rate": 8 * gigabytes / offered["seconds"]}


class TlsIdleMemory(IdleMemory):
    """Memory of TLS connections that were used once and then rest, each with its connection to the backend."""

    family = "tls-idle"
    name = family
    front = "tls"

    def __init__(self, held: tuple[int, ...]) -> None:
        super().__init__(held)
        self.title = f"TLS: {self.title}"
        self.targets = (Target(f"private{held[-1]}", "at most", 45 * 1024, base=None),)

    def turns(self, scale: Scale) -> int:
        # Memory repeats to the byte, nearly; a process for each sample takes its time.
        return min(2, scale.rounds)
