"""The backends: one process beside the load that listens on two ports for each peer.

Each peer has ports of its own, so that one peer's closed connections (TIME_WAIT) do not lengthen another's search for
a free local port.
"""

import subprocess
from pathlib import Path

from bench.children import Children, StartFailed, find_program, free_ports
from bench.serve import KILOBYTE
from bench.tls import Material

NGINX_ANSWERS = """\
worker_processes 1;
daemon off;
master_process off;
pid {directory}/{name}.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
    server {{
        {listen}
{tls}\
        location / {{ return 200 "hello world\\n"; }}
        location = /1k {{ return 200 "{kilobyte}"; }}
    }}
}}
"""

NGINX_TLS = """\
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
"""


def start_answers(
    children: Children, ports: list[int], file_limit: int, tls: Material | None = None
) -> tuple["subprocess.Popen[bytes]", str]:
    """Start the backend of small answers, over TLS where *tls* is given; return it with its name for the report.

    Raises StartFailed, also when there is no nginx for TLS.
    """
    nginx = find_program("nginx")
    if nginx is None:
        if tls:
            raise StartFailed("the backend needs nginx, which is not installed")
        child = children.start_python("bench.serve", "answers", *map(str, ports))
        name = "Python epoll"
    else:
        child = children.start(
            nginx_answers(nginx, children.directory, ports, file_limit, tls), on=children.cores.load, name="answers"
        )
        name = "nginx"
    for port in ports:
        children.wait_for_port(child, port)
    return child, name


def nginx_answers(nginx: str, directory: Path, ports: list[int], file_limit: int, tls: Material | None) -> list[str]:
    """Configure nginx as the backend of small answers; return its command."""
    name = "answers-tls" if tls else "answers"
    options = "ssl backlog=4096" if tls else "backlog=4096"
    configuration = directory / f"{name}.conf"
    configuration.write_text(
        NGINX_ANSWERS.format(
            directory=directory,
            name=name,
            connections=min(40000, file_limit - 200),
            listen="\n        ".join(f"listen 127.0.0.1:{port} {options};" for port in ports),
            kilobyte=KILOBYTE.decode(),
            tls=NGINX_TLS.format(certificate=tls.certificate, key=tls.key) if tls else "",
        )
    )
    return [nginx, "-p", str(directory), "-e", "stderr", "-c", str(configuration)]


def start_python(children: Children, kind: str, ports: list[int]) -> "subprocess.Popen[bytes]":
    """Start a backend of `bench.serve`, that of `bench.http_serve` or that of `bench.cache_serve`."""
    if kind in ("http", "cache"):
        child = children.start_python(f"bench.{kind}_serve", *map(str, ports))
    else:
        child = children.start_python("bench.serve", kind, *map(str, ports))
    for port in ports:
        children.wait_for_port(child, port)
    return child


def pairs(count: int) -> list[tuple[int, int]]:
    """Two free ports for each of *count* peers."""
    ports = free_ports(2 * count)
    return list(zip(ports[::2], ports[1::2], strict=True))


def log_path(directory: Path) -> str:
    """The datagram socket that takes HAProxy's access log."""
    return str(directory / "log")
