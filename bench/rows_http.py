"""The rows in which requests are read: HTTP, HTTP over TLS, WebSocket.

Before a peer is measured, what it answers is held against what the backend has: who gives error pages quickly is not
fast.
"""

import http.client
from collections.abc import Sequence

from bench.children import find_program
from bench.http_serve import SIZES, body
from bench.load import LoadFailed
from bench.peers import Running
from bench.peers_http import PREFIXES, ROUTES
from bench.places import Front
from bench.report import Metric, Sample, Target
from bench.rows import BUSY, CONNECTIONS, WARM_UP, Backend, Bulk, Field, Latency, Loaded, NewConnections, Scale
from bench.rows_tls import TlsRoundTrips
from bench.serve import ANSWER_BODY, KILOBYTE

FIELDS = ("-H", "User-Agent: curl/8.5.0", "-H", "Accept: */*")
"""Options of wrk: beside Host, the fields that curl sends."""

PER_REQUEST = (Metric("cpu", "CPU us/request"), Metric("rate", "requests/s", "more", 0), BUSY)

FETCH_TIMEOUT = 10.0
"""Seconds that an answer may be silent before a peer counts as broken."""

UNIQUE = """\
local random, head = math.random, nil
function init(_)
  math.randomseed(os.time())
  head = " HTTP/1.1\\r\\nHost: " .. wrk.headers["Host"]
      .. "\\r\\nUser-Agent: curl/8.5.0\\r\\nAccept: */*\\r\\nCookie: session="
end
function request()
  return "GET /item/" .. random(1, 2147483647) .. head .. random(1, 2147483647) .. "\\r\\n\\r\\n"
end
"""
"""wrk's script: a path and a cookie that no other request has."""

ROUTED = f"""\
local random = math.random
local tail = ".bench.test\\r\\nUser-Agent: curl/8.5.0\\r\\nAccept: */*\\r\\n\\r\\n"
function init(_) math.randomseed(os.time()) end
function request()
  return "GET /p" .. random(0, {PREFIXES - 1}) .. "/" .. random(1, 2147483647)
      .. " HTTP/1.1\\r\\nHost: h" .. random(0, {ROUTES // PREFIXES - 1}) .. tail
end
"""
"""wrk's script: each request for any of the routes, on a path of its own."""


def fetch(port: int, path: str, host: str = "bench") -> bytes:
    """The body that a proxy answers with; raises LoadFailed when it is no good answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=FETCH_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        content = answer.read()
    except (http.client.HTTPException, OSError) as error:
        raise LoadFailed(f"a request for {path} failed: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise LoadFailed(f"a request for {path} was answered with {answer.status}")
    return content


def check(port: int, path: str, expected: bytes, host: str = "bench") -> None:
    """Raise LoadFailed unless *path* gives what is expected."""
    if (content := fetch(port, path, host)) != expected:
        raise LoadFailed(f"{path} gave other {len(content)} bytes than the backend's {len(expected)}")


class HttpRoundTrips(Loaded):
    """Small requests on kept connections, all with the same head."""

    name = family = "http-rtt"
    title = f"HTTP: {CONNECTIONS} keep-alive connections, identical heads, 12-byte answers"
    metrics: Sequence[Metric] = PER_REQUEST
    targets: Sequence[Target] = (
        Target("cpu", "at most", 1.6),
        Target("cpu", "at least", 15, base="reverseproxy", inverse=True),
        Target("cpu", "at least", 4, base="proxypy", inverse=True),
    )
    front: Front = "http"
    path = "/"
    expected = ANSWER_BODY
    script = ""
    """What makes the requests; without one they are all the same."""

    def __init__(self) -> None:
        self.wrk = find_program("wrk")

    def warm(self, field: Field, running: Running) -> None:
        check(running.port, self.path, self.expected)
        self.offer(field, running, 1)

    def settle(self, _field: Field, running: Sequence[Running]) -> list[str]:
        notes = ["load: wrk, one thread"]
        if any(peer.name == "reverseproxy" for peer in running):
            notes.append("reverseproxy connects to the backend for each request, and passes its Connection: close on")
        if any(peer.name == "proxypy" for peer in running):
            notes.append("proxypy writes its access log by connection, the others by request")
        return notes

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        if self.wrk is None:
            raise LoadFailed("the load of this row, wrk, is not installed")
        return field.wrk(self.wrk, running.port, seconds, path=self.path, options=self._options(field))

    def _options(self, field: Field) -> Sequence[str]:
        if not self.script:
            return FIELDS
        file = field.children.directory / f"{self.name}.lua"
        file.write_text(self.script)
        return ("-s", str(file))

    def sample(self, offered: Sample, cpu: float) -> Sample:
        return {"cpu": 1e6 * cpu / offered["requests"], "rate": offered["requests"] / offered["seconds"]}


class HttpKilobytes(HttpRoundTrips):
    """The same with answers that are not quite as small."""

    name = family = "http-rtt-1k"
    title = f"HTTP: {CONNECTIONS} keep-alive connections, identical heads, 1 KB answers"
    path = "/1k"
    expected = KILOBYTE


class HttpUnique(HttpRoundTrips):
    """The same with heads that are never seen twice, so that nobody can remember what was in them."""

    name = family = "http-unique"
    title = f"HTTP: {CONNECTIONS} keep-alive connections, each request with a path and a cookie of its own"
    targets = (
        Target("cpu", "at most", 1.7),
        Target("cpu", "at least", 15, base="reverseproxy", inverse=True),
        Target("cpu", "at least", 4, base="proxypy", inverse=True),
    )
    script = UNIQUE


class HttpRoutes(HttpRoundTrips):
    """What finding the route costs: a thousand against the one that takes everything."""

    name = family = "http-routes"
    title = (
        f"HTTP: {ROUTES:,} routes of {ROUTES // PREFIXES} hosts against one route, each request with a path of its own"
    )
    bases = ("lbproxy-one-route",)
    targets = (Target("cpu", "at most", 3, base="lbproxy-one-route", difference=True),)
    front = "routes"
    script = ROUTED

    def warm(self, field: Field, running: Running) -> None:
        for number in (0, ROUTES - 1):
            host, path = f"h{number // PREFIXES}.bench.test", f"/p{number % PREFIXES}/x"
            check(running.port, path, self.expected, host)
        self.offer(field, running, 1)


class HttpBodies(Bulk):
    """Bodies of a known length."""

    targets: Sequence[Target] = (Target("cpu", "at most", 1.15),)
    backend: Backend = "http"
    front: Front = "http"

    def __init__(self, size: str) -> None:
        super().__init__(streams=8)
        self.path = f"/{size}"
        self.name = self.family = f"http-{size}"
        self.title = f"HTTP: answers of {SIZES[self.path] // 1_000_000} MB, {self.streams} keep-alive connections"

    def turns(self, scale: Scale) -> int:
        # CPU per byte hardly differs from turn to turn, and the run is to end soon.
        return scale.rounds

    def warm(self, field: Field, running: Running) -> None:
        check(running.port, self.path, body(SIZES[self.path]))
        self._offer(field, running, WARM_UP)

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return self._offer(field, running, seconds)

    def _offer(self, field: Field, running: Running, seconds: float) -> Sample:
        size = SIZES[self.path]
        return field.http_load("download", port=running.port, streams=self.streams, seconds=seconds, size=size)


class HttpChunked(HttpBodies):
    """Bodies whose length nobody knows before their end."""

    bases = ("haproxy",)
    targets = (Target("cpu", "at most", 1.6),)

    def __init__(self) -> None:
        super().__init__("chunked")
        self.title = f"HTTP: answers of 10 MB in chunks of 8 KB, {self.streams} keep-alive connections"

    def _offer(self, field: Field, running: Running, seconds: float) -> Sample:
        return field.http_load("chunked", port=running.port, streams=self.streams, seconds=seconds)


class HttpConnections(NewConnections):
    """A client connection for each request; those to the backends are kept."""

    name = family = "http-conn"
    title = "HTTP: a new client connection for each request, 32 at a time, the client closes first"
    front: Front = "http"


class HttpsRoundTrips(TlsRoundTrips):
    """Small requests on kept TLS connections."""

    name = family = "https-rtt"
    title = f"HTTPS: {CONNECTIONS} keep-alive connections, identical heads, 12-byte answers"
    targets = (Target("cpu", "at most", 1.6),)
    front = "https"

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        if self.wrk:
            return field.wrk(self.wrk, running.port, seconds, tls=True, options=FIELDS)
        return super().offer(field, running, seconds)


class HttpLatency(Latency):
    """Latency of requests at one fixed rate for all."""

    name = family = "http-lat"
    title = f"HTTP: {Latency.title}"
    targets = (Target("p99", "at most", 1.5),)
    front: Front = "http"


class WebSocketEcho(Loaded):
    """Short messages there and back, once the upgrade is over."""

    name = family = "ws-echo"
    title = f"WebSocket: 32-byte messages and their echoes on {CONNECTIONS} connections"
    metrics = (Metric("cpu", "CPU us/echo"), Metric("rate", "echoes/s", "more", 0), BUSY)
    targets = (Target("cpu", "at most", 1.2),)
    backend: Backend = "http"
    front: Front = "http"

    def warm(self, field: Field, running: Running) -> None:
        self._offer(field, running, WARM_UP)

    def offer(self, field: Field, running: Running, seconds: int) -> Sample:
        return self._offer(field, running, seconds)

    def _offer(self, field: Field, running: Running, seconds: float) -> Sample:
        return field.http_load("websocket", port=running.port, connections=CONNECTIONS, seconds=seconds)

    def sample(self, offered: Sample, cpu: float) -> Sample:
        return {"cpu": 1e6 * cpu / offered["requests"], "rate": offered["requests"] / offered["seconds"]}
