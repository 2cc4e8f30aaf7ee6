"""The peers: how each proxy is found, configured for one worker in TCP mode, with or without TLS, and started.

For HTTP it is `peers_http` that knows the configurations.

A peer that is not installed or does not come up is named with the reason; nobody fails for it.
"""

import grp
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.backends import NGINX_TLS, log_path
from bench.children import CHECKOUT, START_DEADLINE, Children, StartFailed, find_program, free_ports
from bench.peers_cache import nginx_open_files, varnish, varnish_version, varnishncsa
from bench.peers_http import haproxy_http, lbproxy_http, nginx_http, proxypy, proxypy_version, reverseproxy
from bench.places import SESSIONS, Front, NotInstalled, Place, first_line, program
from bench.tls import NAME, Material


@dataclass(frozen=True)
class Peer:
    """One proxy: its name in the table, its command for a place (or NotInstalled), and its version."""

    name: str
    command: Callable[[Place], list[str]]
    version: Callable[[], str]
    rows: tuple[str, ...] | None = None
    serious: bool = True
    """A production proxy: its throughput counts when the rate of the latency row is chosen."""
    worker: bool = False
    """Its work is done by the one child of the process that was started."""
    beside: Callable[[Place], list[str]] | None = None
    """A second program that belongs to it, and whose CPU time counts as its own."""

    def fits(self, row: str) -> bool:
        """Whether this peer takes part in *row*."""
        return self.rows is None or row in self.rows


@dataclass
class Running:
    """A peer that accepts connections."""

    peer: Peer
    port: int
    child: "subprocess.Popen[bytes]"
    pid: int
    """The process that proxies."""
    directory: Path
    """Where its logs grow."""
    beside: "subprocess.Popen[bytes] | None" = None
    """The second program that belongs to it."""

    @property
    def children(self) -> "list[subprocess.Popen[bytes]]":
        """All that was started for it, in the order in which it is ended."""
        return [child for child in (self.beside, self.child) if child]

    @property
    def shares_itself(self) -> bool:
        """Whether its one core is shared by several processes or threads of its own."""
        return self.beside is not None

    @property
    def pids(self) -> list[int]:
        """The processes whose CPU time counts."""
        return [self.pid, *([self.beside.pid] if self.beside else [])]

    @property
    def name(self) -> str:
        """The name in the table."""
        return self.peer.name


HAPROXY = """\
global
    nbthread 1
    maxconn {sessions}
    maxpipes 200
    log {log} local0

defaults
    mode tcp
    log global
    option tcplog
{extra}\
    timeout connect 5s
    timeout client 5m
    timeout server 5m

listen bench
    bind 127.0.0.1:{port} backlog 4096{tls}
    balance leastconn
    server b1 127.0.0.1:{backends[0]}
    server b2 127.0.0.1:{backends[1]}
"""


def haproxy(place: Place, extra: str = "") -> list[str]:
    """One thread, one process in the foreground, access log to a datagram socket as syslog would have."""
    if place.http:
        return haproxy_http(place, extra)
    path = program("haproxy")
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text(
        HAPROXY.format(
            sessions=place.sessions,
            log=log_path(place.directory.parent),
            extra=extra,
            port=place.port,
            tls=f" ssl crt {place.tls.both}" if place.tls else "",
            backends=place.backends,
        )
    )
    return [path, "-db", "-f", str(configuration)]


def haproxy_splice(place: Place) -> list[str]:
    """The same with kernel splicing.

    Not ``splice-auto``: with it strace showed no splice call in a one-second download through HAProxy 2.6, and CPU per
    GB was that of plain copying. Why was not found out.
    """
    return haproxy(place, "    option splice-request\n    option splice-response\n")


def haproxy_version() -> str:
    """As it says itself, without the date."""
    return first_line([program("haproxy"), "-v"]).partition(" 20")[0]


def haproxy_tls() -> str:
    """The library under its TLS, as half a sentence; empty where nothing is known."""
    path = find_program("haproxy")
    if path is None:
        return ""
    told = subprocess.run([path, "-vv"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = parse_tls_library(told)
    return f", {found} under haproxy" if found else ""


def parse_tls_library(told: str) -> str | None:
    """The TLS library that ``haproxy -vv`` names as running, without its date."""
    match = re.search(r"^Running on OpenSSL version *: *(.*?)(?: +\d+ \w+ \d+.*)?$", told, re.MULTILINE)
    return match[1] if match else None


NGINX = """\
{load}worker_processes 1;
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
stream {{
    log_format record '$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received '
                      '$session_time "$upstream_addr" "$upstream_bytes_sent" "$upstream_bytes_received"';
    access_log {directory}/access.log record buffer=64k flush=1s;
    upstream bench {{
        least_conn;
        server 127.0.0.1:{backends[0]};
        server 127.0.0.1:{backends[1]};
    }}
    server {{
        listen 127.0.0.1:{port}{ssl} backlog=4096;
{tls}\
        proxy_pass bench;
        proxy_connect_timeout 5s;
        proxy_timeout 5m;
    }}
}}
"""


def parse_modules_path(built: str) -> str | None:
    """The directory of dynamic modules in the output of ``nginx -V``, or None."""
    match = re.search(r"--modules-path=(\S+)", built)
    return match[1] if match else None


def nginx(place: Place) -> list[str]:
    """One process, access log to a buffered file; the stream module is loaded where it is dynamic."""
    if place.http:
        return nginx_http(place)
    path = program("nginx")
    built = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=10, check=False).stderr
    load = ""
    if "--with-stream=dynamic" in built:
        module = Path(parse_modules_path(built) or "modules") / "ngx_stream_module.so"
        if not module.exists():
            raise NotInstalled("nginx has no stream module")
        load = f"load_module {module};\n"
    elif "--with-stream" not in built:
        raise NotInstalled("nginx is built without the stream module")
    if place.tls and "--with-stream_ssl_module" not in built:
        raise NotInstalled("nginx is built without TLS for streams")
    configuration = place.directory / "nginx.conf"
    configuration.write_text(
        NGINX.format(
            load=load,
            directory=place.directory,
            connections=min(2 * SESSIONS, place.file_limit - 200),
            port=place.port,
            ssl=" ssl" if place.tls else "",
            tls=NGINX_TLS.format(certificate=place.tls.certificate, key=place.tls.key) if place.tls else "",
            backends=place.backends,
        )
    )
    return [path, "-p", str(place.directory), "-e", "stderr", "-c", str(configuration)]


def nginx_version() -> str:
    """As it says itself."""
    return first_line([program("nginx"), "-v"]).removeprefix("nginx version: ")


HITCH = """\
frontend = {{ host = "127.0.0.1" port = "{port}" }}
backend = "[127.0.0.1]:{backends[0]}"
pem-file = "{both}"
tls-protos = TLSv1.2 TLSv1.3
workers = 1
backlog = 4096
ocsp-dir = ""
{user}\
"""


def hitch(place: Place) -> list[str]:
    """TLS in front of one backend. It has no access log; without a directory for OCSP it has one child, its worker."""
    path = program("hitch")
    user = ""
    if os.getuid() == 0:
        # It refuses to work as root.
        nobody = pwd.getpwnam("nobody")
        user = f'user = "{nobody.pw_name}"\ngroup = "{grp.getgrgid(nobody.pw_gid).gr_name}"\n'
    configuration = place.directory / "hitch.conf"
    configuration.write_text(
        HITCH.format(port=place.port, backends=place.backends, both=place.material.both, user=user)
    )
    return [path, f"--config={configuration}"]


def hitch_version() -> str:
    """As it says itself."""
    return first_line([program("hitch"), "--version"])


def portforward(place: Place) -> list[str]:
    """Twisted's own forwarder; it knows one backend."""
    files = [str(place.tls.certificate), str(place.tls.key)] if place.tls else []
    return [sys.executable, "-m", "bench.portforward", str(place.port), str(place.backends[0]), *files]


def twisted_version() -> str:
    """The installed Twisted."""
    from twisted import __version__

    return f"Twisted {__version__}"


LBPROXY = """\
[records]
to = "file:{directory}/records.log"

[[listener]]
name = "bench"
bind = ["127.0.0.1:{port}"]
{front}
[pool.bench]
backends = ["127.0.0.1:{backends[0]}", "127.0.0.1:{backends[1]}"]
max_active = "none"
"""


LBPROXY_FRONT: dict[Front, str] = {
    "tcp": 'pool = "bench"\n',
    "tls": 'pool = "bench"\ntls = {{ cert = "{certificate}", key = "{key}" }}\n',
    "name": '\n[[route]]\nserver_name = "{name}"\npool = "bench"\n',
}


def lbproxy_tcp(place: Place) -> str:
    """The configuration of lbproxy where it passes bytes on."""
    material = place.material
    front = LBPROXY_FRONT[place.front].format(certificate=material.certificate, key=material.key, name=NAME)
    return LBPROXY.format(directory=place.directory, port=place.port, front=front, backends=place.backends)


def lbproxy(place: Place) -> list[str]:
    """lbproxy of this checkout under twistd, as an operator runs it."""
    beside = Path(sys.executable).with_name("twistd")
    twistd = str(beside) if beside.exists() else program("twistd")
    configuration = place.directory / "lbproxy.toml"
    configuration.write_text(lbproxy_http(place) if place.http else lbproxy_tcp(place))
    return [twistd, "-n", "--pidfile=", "lbproxy", "--config", str(configuration)]


def lbproxy_version() -> str:
    """The version in this checkout, with the commit where git knows it."""
    from lbproxy import __version__

    try:
        commit = first_line(["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"])
    except OSError:
        commit = "unknown commit"
    return f"{__version__} ({commit}), {twisted_version()}"


def lbproxy_plain(place: Place) -> list[str]:
    """lbproxy that never looks at what it passes on, whatever the row asks for."""
    return lbproxy(replace(place, front="tcp"))


def lbproxy_one_route(place: Place) -> list[str]:
    """lbproxy with one route for everything, whatever the row asks for."""
    return lbproxy(replace(place, front="route"))


PLAIN = ("rtt", "conn", "bulk", "mem", "lat", "idle")
TLS = ("tls-rtt", "tls-full", "tls-resumed", "tls-bulk", "tls-upload", "tls-idle")

BODIES = ("http-1m", "http-100m")
HTTP = (
    "http-rtt",
    "http-rtt-1k",
    "http-unique",
    *BODIES,
    "http-chunked",
    "http-conn",
    "https-rtt",
    "http-lat",
    "ws-echo",
)
SLOW = ("http-rtt", "http-rtt-1k", "http-unique")
"""The rows of the other proxies in Python: those for which something is promised against them."""

HITS = ("cache-1k", "cache-1k-many", "cache-100k")
CODED = ("gzip", "zstd")

PEERS = (
    Peer("lbproxy", lbproxy, lbproxy_version),
    Peer("lbproxy-plain", lbproxy_plain, lbproxy_version, rows=("passthrough",)),
    Peer("lbproxy-one-route", lbproxy_one_route, lbproxy_version, rows=("http-routes",)),
    Peer("haproxy", haproxy, haproxy_version, rows=(*PLAIN, *TLS, *HTTP, *HITS, *CODED)),
    Peer("haproxy-splice", haproxy_splice, haproxy_version, rows=("bulk", *BODIES)),
    Peer("nginx", nginx, nginx_version, rows=(*PLAIN, *TLS, *HTTP, *HITS, "cache-cold", *CODED)),
    Peer("nginx-open-files", nginx_open_files, nginx_version, rows=HITS),
    Peer("varnish", varnish, varnish_version, rows=(*HITS, "cache-cold"), worker=True, beside=varnishncsa),
    Peer("hitch", hitch, hitch_version, rows=("tls-rtt", "tls-full", "tls-resumed", "tls-idle"), worker=True),
    Peer("portforward", portforward, twisted_version, rows=(*PLAIN, "tls-rtt", "tls-idle"), serious=False),
    Peer("reverseproxy", reverseproxy, twisted_version, rows=SLOW, serious=False),
    Peer("proxypy", proxypy, proxypy_version, rows=SLOW, serious=False, worker=True),
)


def start_peer(
    children: Children,
    peer: Peer,
    backends: tuple[int, int],
    file_limit: int,
    front: Front,
    material: Material,
    attempts: int = 2,
) -> Running:
    """Start *peer* on a free port; raise NotInstalled or StartFailed.

    A second attempt takes another port: an outgoing connection may have taken the first one meanwhile.
    """
    (port,) = free_ports(1)
    directory = children.directory / f"{peer.name}.{port}"
    directory.mkdir(exist_ok=True)
    place = Place(directory, port, backends, file_limit, front, material)
    command = peer.command(place)
    beside: subprocess.Popen[bytes] | None = None
    child = children.start(command, on=children.cores.proxy, name=peer.name)
    try:
        children.wait_for_port(child, port)
        if peer.beside:
            beside = children.start(peer.beside(place), on=children.cores.proxy, name=f"{peer.name}-beside")
        if not peer.worker:
            return Running(peer, port, child, child.pid, directory, beside)
        pid = worker(child.pid)
        # hitch's first worker moves itself to the first core, that of the load.
        os.sched_setaffinity(pid, children.cores.proxy)
        return Running(peer, port, child, pid, directory, beside)
    except (NotInstalled, StartFailed) as failure:
        children.end(*([beside] if beside else []), child)
        if attempts > 1 and "in use" in str(failure).lower():
            return start_peer(children, peer, backends, file_limit, front, material, attempts - 1)
        raise


def worker(pid: int) -> int:
    """The one child of a process; raise StartFailed when there are more or fewer, or the kernel does not tell."""
    found: list[str] = []
    deadline = time.monotonic() + START_DEADLINE
    # One that listens before it has its worker may still be about to make it.
    while not found and time.monotonic() < deadline:
        try:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError as error:
            raise StartFailed(f"its worker was not found: {error}") from None
        time.sleep(0.02)
    if len(found) != 1:
        raise StartFailed(f"it has {len(found)} children, where one worker was expected")
    return int(found[0])


class LogSink:
    """Takes HAProxy's access log from a datagram socket and drops it, as cheaply as Python can."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(log_path(directory))
        self.lines = 0
        threading.Thread(target=self._drain, name="log sink", daemon=True).start()

    def _drain(self) -> None:
        line = bytearray(1)
        # Only the first byte of each line is copied; the sink ends with the process.
        while True:
            self._socket.recv_into(line)
            self.lines += 1
