"""The backends: one process beside the load that listens on two ports for each peer.

Each peer has ports of its own, so that one peer's closed connections (TIME_WAIT) do not lengthen another's search for
a free local port.
"""

import subprocess
from pathlib import Path

from bench.children import Children, find_program, free_ports

NGINX_ANSWERS = """\
worker_processes 1;
daemon off;
master_process off;
pid {directory}/answers.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        {listen}
        location / {{ return 200 "hello world\\n"; }}
    }}
}}
"""


def start_answers(children: Children, ports: list[int], file_limit: int) -> tuple["subprocess.Popen[bytes]", str]:
    """Start the backend of small answers; return it with its name for the report."""
    nginx = find_program("nginx")
    if nginx is None:
        child = children.start_python("bench.serve", "answers", *map(str, ports))
        name = "Python epoll"
    else:
        directory = children.directory
        configuration = directory / "answers.conf"
        listen = "\n        ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
        configuration.write_text(
            NGINX_ANSWERS.format(directory=directory, connections=min(40000, file_limit - 200), listen=listen)
        )
        command = [nginx, "-p", str(directory), "-e", "stderr", "-c", str(configuration)]
        child = children.start(command, on=children.cores.load, name="answers")
        name = "nginx"
    for port in ports:
        children.wait_for_port(child, port)
    return child, name


def start_stream(children: Children, ports: list[int]) -> "subprocess.Popen[bytes]":
    """Start the backend that sends without end."""
    child = children.start_python("bench.serve", "stream", *map(str, ports))
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
