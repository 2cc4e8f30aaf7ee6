"""How each proxy is configured to store answers, or to compress them: one worker, access log on.

What is stored lies in memory; in nginx's case in files that the kernel keeps in memory, as it can do no other. For
compression nginx and HAProxy do what they do in the other rows of HTTP, and the coding on top.
"""

from bench.places import SESSIONS, Front, Place, first_line, program

LEVELS = range(1, 10)
"""Of nginx's gzip; the first part of a path chooses."""

STORE = 256
"""Megabytes for stored answers."""

NGINX = """\
worker_processes 1;
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
    log_format record '$remote_addr [$time_local] "$request" $status $body_bytes_sent $request_time '
                      '"$upstream_addr" "$upstream_status" "$upstream_response_time" $upstream_cache_status';
    access_log {directory}/access.log record buffer=64k flush=1s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    sendfile on;
{shared}\
    upstream bench {{
        least_conn;
        server 127.0.0.1:{backends[0]};
        server 127.0.0.1:{backends[1]};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        keepalive_requests 1000000000;
        proxy_http_version 1.1;
        proxy_read_timeout 5m;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Port $server_port;
        proxy_set_header Via "1.1 nginx";
        proxy_set_header X-Request-ID $request_id;
{locations}\
    }}
}}
"""

NGINX_STORE = """\
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=bench:16m max_size={size}m inactive=1h use_temp_path=off;
"""

NGINX_OPEN_FILES = """\
    open_file_cache max=10000 inactive=1h;
    open_file_cache_valid 1h;
"""

NGINX_STORED = """\
        location / {
            proxy_pass http://bench;
            proxy_cache bench;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 30s;
            proxy_cache_lock_age 30s;
            add_header X-Cache $upstream_cache_status;
        }
"""

NGINX_CODED = """\
    gzip on;
    gzip_proxied any;
    gzip_vary on;
    gzip_types text/plain;
"""

NGINX_LEVEL = """\
        location /{level}/ {{
            proxy_pass http://bench;
            proxy_max_temp_file_size 0;
            gzip_comp_level {level};
        }}
"""


def nginx_cache_configuration(place: Place, extra: str = "") -> str:
    """What nginx is told where it stores or compresses, with further options."""
    if place.front == "cache":
        shared, locations = NGINX_STORE.format(directory=place.directory, size=STORE) + extra, NGINX_STORED
    else:
        shared, locations = NGINX_CODED, "".join(NGINX_LEVEL.format(level=level) for level in LEVELS)
    return NGINX.format(
        directory=place.directory,
        connections=min(2 * place.sessions, place.file_limit - 200),
        port=place.port,
        backends=place.backends,
        shared=shared,
        locations=locations,
    )


def nginx_cache(place: Place, extra: str = "") -> list[str]:
    """One process, access log to a buffered file."""
    path = program("nginx")
    configuration = place.directory / "nginx.conf"
    configuration.write_text(nginx_cache_configuration(place, extra))
    return [path, "-p", str(place.directory), "-e", "stderr", "-c", str(configuration)]


def nginx_open_files(place: Place) -> list[str]:
    """The same, which opens the file of a stored answer once and not for each hit."""
    return nginx_cache(place, NGINX_OPEN_FILES)


HAPROXY_STORE = """\

cache bench
    total-max-size {size}
    max-object-size 1000000
    max-age 3600
"""

HAPROXY_STORED = """\
    http-request cache-use bench
    http-response cache-store bench
"""

HAPROXY_CODED = """\
    compression algo gzip
    compression type text/plain
"""


def haproxy_extension(place: Place) -> str:
    """What stands behind all the rest of HAProxy's file, which ends in the section of its backend."""
    if place.front == "cache":
        return HAPROXY_STORED + HAPROXY_STORE.format(size=STORE)
    return HAPROXY_CODED if place.front in ("gzip", "zstd") else ""


VARNISH = """\
vcl 4.1;
import directors;
backend b1 {{ .host = "127.0.0.1"; .port = "{backends[0]}"; .first_byte_timeout = 5m; }}
backend b2 {{ .host = "127.0.0.1"; .port = "{backends[1]}"; .first_byte_timeout = 5m; }}
sub vcl_init {{
    new bench = directors.round_robin();
    bench.add_backend(b1);
    bench.add_backend(b2);
}}
sub vcl_recv {{ set req.backend_hint = bench.backend(); }}
"""

VARNISH_THREADS = 100
"""Of its one pool, which is its default. A thread that has served a connection stays with it for a while, so with fewer
than there are connections a few of these are served and the others starve."""

VARNISH_RECORD = '%h %t "%r" %s %b %D %{Varnish:handling}x'


def varnish(place: Place) -> list[str]:
    """One pool of threads, everything in memory; its child does the work."""
    path = program("varnishd")
    configuration = place.directory / "bench.vcl"
    configuration.write_text(VARNISH.format(backends=place.backends))
    settings = {
        "thread_pools": 1,
        "thread_pool_min": VARNISH_THREADS,
        "thread_pool_max": VARNISH_THREADS,
        "thread_queue_limit": SESSIONS,
        "listen_depth": 4096,
    }
    options = [word for name, value in settings.items() for word in ("-p", f"{name}={value}")]
    storage = ["-s", f"malloc,{STORE}m"]
    where = ["-n", str(place.directory / "varnish"), "-a", f"127.0.0.1:{place.port}", "-T", "none"]
    return [path, "-j", "none", "-F", *where, *storage, *options, "-f", str(configuration)]


def varnishncsa(place: Place) -> list[str]:
    """Varnish writes its records to memory; this program reads them there and writes the access log."""
    where = ["-n", str(place.directory / "varnish"), "-w", str(place.directory / "access.log")]
    return [program("varnishncsa"), *where, "-F", VARNISH_RECORD]


def varnish_version() -> str:
    """As it says itself, without the revision."""
    return first_line([program("varnishd"), "-V"]).partition(" revision")[0].replace("varnishd (", "")


LBPROXY_ROUTE: dict[Front, str] = {
    "cache": "cache = true\n",
    "gzip": 'compress = { codings = ["gzip"] }\n',
    "zstd": 'compress = { codings = ["zstd"] }\n',
}
"""What stands in the one route of lbproxy."""

LBPROXY_CACHE = f"""
[cache]
memory = "{STORE}MiB"
waiters = 1000
"""
"""The store, and as many requests that wait for one answer as the row of a cold one has."""


# Some loads do not connect again, and the others keep their connections for good as well.
LBPROXY_KEEPING = "http = { max_requests = 1_000_000_000 }\n"


def lbproxy_accelerated(front: Front) -> str:
    """What stands in lbproxy's listener and behind it: one route that stores or compresses."""
    store = LBPROXY_CACHE if front == "cache" else ""
    return f'{LBPROXY_KEEPING}\n[[route]]\npath = "/"\npool = "bench"\n{LBPROXY_ROUTE[front]}{store}'
