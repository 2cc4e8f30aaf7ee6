"""How each proxy is configured for HTTP: one worker, kept connections to the backends, access log on.

All add X-Forwarded-For. HAProxy and nginx add the other fields that lbproxy sends by itself, so that the work is the
same: X-Forwarded-Proto, -Host and -Port, Via and a fresh X-Request-ID. The two Python proxies do without.
"""

import importlib.util
import sys
from importlib.metadata import version

from bench.backends import NGINX_TLS
from bench.peers_cache import LBPROXY_ROUTE, haproxy_extension, lbproxy_accelerated, nginx_cache
from bench.places import Front, NotInstalled, Place, program

ROUTES = 1000
PREFIXES = 10
"""Of each host; the routes divide into hosts."""

HAPROXY = """\
global
    nbthread 1
    maxconn {sessions}
    maxpipes 200
    log stdout format raw local0

defaults
    mode http
    log global
    option httplog
    option forwardfor
{extra}\
    http-reuse always
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    timeout tunnel 5m

frontend bench
    bind 127.0.0.1:{port} backlog 4096{tls}
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request add-header Via "1.1 haproxy"
    default_backend bench

backend bench
    balance leastconn
    server b1 127.0.0.1:{backends[0]}
    server b2 127.0.0.1:{backends[1]}
"""


def haproxy_configuration(place: Place, extra: str = "") -> str:
    """What HAProxy is told, with further options."""
    configured = HAPROXY.format(
        sessions=place.sessions,
        extra=extra,
        port=place.port,
        tls=f" ssl crt {place.tls.both}" if place.tls else "",
        scheme="https" if place.tls else "http",
        backends=place.backends,
    )
    return configured + haproxy_extension(place)


def haproxy_http(place: Place, extra: str = "") -> list[str]:
    """One thread, one process in the foreground.

    Its access log goes to a file by standard output: a datagram for each request, as in the rows without HTTP, would
    cost it 3 us more on the machine where this was written, because each one wakes who takes it.
    """
    path = program("haproxy")
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text(haproxy_configuration(place, extra))
    log = place.directory / "access.log"
    # The shell opens the file and becomes HAProxy: the process that is measured is the one that was started.
    return ["/bin/sh", "-c", 'exec "$@" > "$0"', str(log), path, "-db", "-f", str(configuration)]


NGINX = """\
worker_processes 1;
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    log_format record '$remote_addr [$time_local] "$request" $status $body_bytes_sent $request_time '
                      '"$upstream_addr" "$upstream_status" "$upstream_response_time"';
    access_log {directory}/access.log record buffer=64k flush=1s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream bench {{
        least_conn;
        server 127.0.0.1:{backends[0]};
        server 127.0.0.1:{backends[1]};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    map $http_upgrade $connection_field {{
        default upgrade;
        '' '';
    }}
    server {{
        listen 127.0.0.1:{port}{ssl} backlog=4096;
{tls}\
        keepalive_requests 1000000000;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_max_temp_file_size 0;
            proxy_connect_timeout 5s;
            proxy_read_timeout 5m;
            proxy_send_timeout 5m;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $connection_field;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header Via "1.1 nginx";
            proxy_set_header X-Request-ID $request_id;
        }}
    }}
}}
"""


def nginx_configuration(place: Place) -> str:
    """What nginx is told."""
    return NGINX.format(
        directory=place.directory,
        connections=min(2 * place.sessions, place.file_limit - 200),
        port=place.port,
        ssl=" ssl" if place.tls else "",
        tls=NGINX_TLS.format(certificate=place.tls.certificate, key=place.tls.key) if place.tls else "",
        backends=place.backends,
    )


def nginx_http(place: Place) -> list[str]:
    """One process, access log to a buffered file, answers never to one but where they are stored."""
    if place.front in LBPROXY_ROUTE:
        return nginx_cache(place)
    path = program("nginx")
    configuration = place.directory / "nginx.conf"
    configuration.write_text(nginx_configuration(place))
    return [path, "-p", str(place.directory), "-e", "stderr", "-c", str(configuration)]


LBPROXY = """\
[records]
to = "file:{directory}/records.log"

[[listener]]
name = "bench"
bind = "127.0.0.1:{port}"
protocol = "http"
{front}
[pool.bench]
backends = ["127.0.0.1:{backends[0]}", "127.0.0.1:{backends[1]}"]
"""


def lbproxy_http(place: Place) -> str:
    """The configuration of lbproxy; how it is started is the same in all rows."""
    return LBPROXY.format(
        directory=place.directory, port=place.port, front=lbproxy_front(place), backends=place.backends
    )


def lbproxy_front(place: Place) -> str:
    """What stands in the listener, and the routes behind it."""
    if place.front in LBPROXY_ROUTE:
        return lbproxy_accelerated(place.front)
    fronts: dict[Front, str] = {
        "http": 'pool = "bench"\n',
        "https": f'pool = "bench"\ntls = {{ cert = "{place.material.certificate}", key = "{place.material.key}" }}\n',
        "route": '\n[[route]]\npath = "/"\npool = "bench"\n',
        "routes": "".join(
            f'\n[[route]]\nhost = "h{number // PREFIXES}.bench.test"\npath = "/p{number % PREFIXES}/"\npool = "bench"\n'
            for number in range(ROUTES)
        ),
    }
    return fronts[place.front]


def reverseproxy(place: Place) -> list[str]:
    """Twisted's own reverse proxy; it knows one backend and connects to it for each request."""
    log = place.directory / "access.log"
    return [sys.executable, "-m", "bench.reverseproxy", str(place.port), str(place.backends[0]), str(log)]


def proxypy(place: Place) -> list[str]:
    """proxy.py with its reverse proxy; it connects to one of the backends for each request."""
    if importlib.util.find_spec("proxy") is None:
        raise NotInstalled("proxy.py is not installed: pip install proxy.py")
    log = place.directory / "access.log"
    return [sys.executable, "-m", "bench.proxypy", str(place.port), *map(str, place.backends), str(log)]


def proxypy_version() -> str:
    """The installed distribution."""
    if importlib.util.find_spec("proxy") is None:
        raise NotInstalled("proxy.py is not installed")
    return f"proxy.py {version('proxy.py')}"
