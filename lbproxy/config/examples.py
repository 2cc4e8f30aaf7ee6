"""One example for each table of the reference, and notes on what no single key says; a test loads every example.

Owns only these texts. They stand here rather than in the schema to keep that readable as a list of keys.
"""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "listener": """\
[[listener]]
name = "web"
bind = ["0.0.0.0:80", "[::]:80"]
pool = "web"
max_connections = 20000
deny = "203.0.113.0/24"
""",
    "listener.proxy_protocol": """\
[[listener]]
name = "web"
bind = "10.0.0.1:80"
pool = "web"
proxy_protocol = { from = ["10.0.0.0/24"] }
""",
    "listener.tls": """\
[[listener]]
name = "web"
bind = "0.0.0.0:443"
pool = "web"

[listener.tls]
cert = "/etc/ssl/www.example.com.pem"
key = "/etc/ssl/private/www.example.com.key"
alpn = "http/1.1"
""",
    "listener.tls.certificates": """\
[[listener]]
name = "web"
bind = "0.0.0.0:443"
pool = "web"

[listener.tls]
certificates = [
  "/etc/letsencrypt/live",
  { cert = "shop.pem", key = "shop.key", passphrase_file = "shop.passphrase", ocsp_file = "shop.ocsp" },
]
""",
    "listener.tls.site": """\
[[listener]]
name = "web"
bind = "0.0.0.0:443"
pool = "web"

[listener.tls]
certificates = "/etc/letsencrypt/live"

[[listener.tls.site]]
names = ["admin.example.com", "*.intern.example.com"]
profile = "modern"
client_ca = "staff-ca.pem"
""",
    "listener.http": """\
[[listener]]
name = "web"
bind = "10.0.0.1:80"
protocol = "http"
pool = "web"

[listener.http]
trusted_peers = "10.0.0.0/24"
max_head = "32KiB"
traceparent = "mint"
error_pages = { 503 = "pages/sorry.html", 404 = "pages/missing.html" }
""",
    "listener.timeouts": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
pool = "web"

[listener.timeouts]
tunnel_idle = "10m"
""",
    "route": """\
[[route]]
name = "office"
listener = "web"
client = ["192.0.2.0/24", "2001:db8::/32"]
server_name = ["app.example", "*.app.example"]
pool = "web"
priority = 2
""",
    "route.all": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
name = "staff"
path = "/admin/"
all = [
  { any = [{ client = "10.0.0.0/8" }, { header = { X-Staff = true } }] },
  { not = { method = ["DELETE", "PUT"], path = "/admin/audit/" } },
]
pool = "web"
""",
    "route.redirect": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
host = ["example.com", "*.old.example"]
redirect = { to = "https://www.example.com{uri}", status = 301 }
""",
    "route.answer": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
path = "/robots.txt"
answer = { body = "User-agent: *\\nDisallow: /\\n", headers = { Cache-Control = "max-age=3600" } }
""",
    "route.rewrite": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
path = "/blog/"
rewrite = { strip_prefix = "/blog", host = "blog.intern.example" }
pool = "web"

[[route]]
path = "/user/"
rewrite = { regex = "/user/([0-9]+)/(.*)", path = "/v2/{2}?user={1}" }
pool = "web"
""",
    "route.request_headers": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
host = "app.example"
pool = "web"
request_headers = { remove = ["X-Debug"], set = { X-Site = "{host}" } }
response_headers = { remove = ["Server"], set = { X-Frame-Options = "DENY" }, add = { Vary = "Origin" } }
""",
    "route.mirror": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
host = "app.example"
pool = "web"
mirror = { pool = "next", percent = 5 }

[pool.web]
backends = "10.0.0.11:8000"

[pool.next]
backends = "10.0.0.31:8000"
""",
    "route.cache": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
host = "shop.example"
pool = "web"

[route.cache]
default_ttl = "1m"
stale_if_error = "1d"
bypass = { cookie = { session = true } }
no_store = { path = "/search/" }
""",
    "route.cache.key": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
host = "shop.example"
pool = "web"
cache = { key = { ignore_query = ["utm_*", "fbclid"], sort_query = true, cookies = "currency" } }
""",
    "route.compress": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
path = "/"
pool = "web"
compress = { codings = ["br", "gzip"], br_level = 5, types = "application/x-ndjson" }
""",
    "route.decompress_requests": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[[route]]
path = "/upload/"
pool = "web"
decompress_requests = { ratio = 20, max_size = "100MiB" }
""",
    "route.timeouts": """\
[[route]]
name = "office"
client = "192.0.2.0/24"
pool = "web"
timeouts = { queue = "20s" }
""",
    "pool": """\
[pool.web]
policy = "round-robin"
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
max_active = 200
tries = 2
""",
    "pool.backends": """\
[pool.web]
backends = [
  "10.0.0.11:8000",
  { id = "big", address = "10.0.0.12:8000", weight = 4, max_active = 400 },
  { id = "spare", address = "unix:/run/spare.sock", backup = true },
]
""",
    "pool.queue": """\
[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
max_active = 50
queue = { size = 200, shed = "codel" }
""",
    "pool.send_proxy": """\
[pool.web]
backends = "10.0.0.11:8000"
send_proxy = { version = 2, tlvs = ["authority", "crc32c"] }
""",
    "pool.tls": """\
[pool.web]
backends = ["10.0.0.11:8443", "10.0.0.12:8443"]

[pool.web.tls]
ca = "intern-ca.pem"
server_name = "backend.intern.example.com"
cert = "lbproxy.pem"
key = "lbproxy.key"
""",
    "pool.check": """\
[pool.cache]
backends = ["10.0.0.21:6379", "10.0.0.22:6379"]
check = { interval = "1s", send = "PING\\r\\n", expect = "+PONG" }
""",
    "pool.outlier": """\
[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
outlier = { consecutive = 3, ejection = "10s" }
""",
    "pool.slow_start": """\
[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
slow_start = { window = "1m", aggression = 2 }
""",
    "pool.sticky": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
sticky = { by = "cookie", key_file = "/etc/lbproxy/sticky.keys", max_idle = "30m" }
""",
    "pool.http": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]

[pool.web.http]
idle_connections = 100
conceal = true
""",
    "pool.load_report": """\
[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]
load_report = { port = 9000, interval = "5s" }
""",
    "pool.timeouts": """\
[pool.web]
backends = ["10.0.0.11:8000", "10.0.0.12:8000"]

[pool.web.timeouts]
connect = "500ms"
try_window = "2s"
""",
    "timeouts": """\
[timeouts]
connect = "2s"
tunnel_idle = "1h30m"
""",
    "cache": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[cache]
memory = "1GiB"
max_object = "16MiB"

[[route]]
path = "/"
pool = "web"
cache = true
""",
    "cache.disk": """\
[[listener]]
name = "web"
bind = "0.0.0.0:80"
protocol = "http"
pool = "web"

[cache.disk]
path = "/var/cache/lbproxy"
size = "50GiB"

[[route]]
path = "/"
pool = "web"
cache = true
""",
    "limits": """\
[limits]
max_connections = 100000
buffers = "1GiB"
""",
    "records": """\
[records]
to = "file:/var/log/lbproxy/records.log"
""",
    "log": """\
[log]
level = "info"
format = "json"
""",
    "control": """\
[control]
socket = "unix:/run/lbproxy/control.sock"
""",
    "stop": """\
[stop]
grace = "5s"
hard_stop = "1m"
""",
}

NOTES: dict[str, str] = {
    "listener.tls": """\
At least one certificate is required, in `cert` or in `certificates`. For each client the name that it asks for chooses
the certificate: one that has that name before one with a wildcard, and of several the one that is listed first. All
files are read at start and at each reload; one that is missing or does not fit keeps lbproxy from starting, and a
reload then changes nothing. An expired certificate is served, with a warning.
""",
    "listener.tls.site": """\
Everything about clients goes together: with a `client_ca` of its own a site demands a certificate unless it says
otherwise, and neither the listener's `client_verify`, `client_crl` nor its `revocation` counts. Without one it takes
from the listener what it does not write; `client_verify = "none"` then lifts the demand for these names.
""",
    "listener.http": """\
With `tls` on the listener this is HTTPS; `alpn` is then "http/1.1" and cannot be anything else. The one line
`http = { redirect_https = true }` on the listener of port 80, and `hsts = "1y"` on that of port 443, keep everybody on
https. A client in clear behind a trusted peer that says `X-Forwarded-Proto: https` counts as encrypted.
""",
    "route": """\
A route does one thing with what it matches: `pool`, `split`, `redirect` or `answer`. What no route takes goes to the
listener's own pool, or is answered with 404.

The keys `name`, `listener`, `client`, `pool`, `priority` and `timeouts` are for TCP and HTTP, `server_name` and `alpn`
for TCP alone, all others for HTTP alone. Without `listener` a route is for all listeners that speak what its keys are
for.

Values of `header`, `query` and `cookie` are compared as a whole, case and all; `true` asks only whether there is one
and `false` that there is none. Where there are several of a name, one that matches is enough. Regular expressions are
Python's; they must match the whole value, and are refused if some text could take more than linear time.
""",
    "route.rewrite": """\
Either prefixes are stripped and added, or `path` replaces the whole path; where `regex` does not match nothing is
changed. A prefix ends at a slash: `/api` is taken off `/api/a` and `/api`, but not off `/apis`. A question mark in
`path` begins a query that replaces the client's.
""",
    "route.request_headers": """\
Fields that frame a message or belong to one connection can be neither set nor removed; the Host that backends see is
set with `rewrite`.
""",
    "route.cache": """\
Without further keys a route obeys what answers say: `Cache-Control`, `Expires`, `Vary` and the like (RFC 9111).
Answers with `Set-Cookie`, for clients with `Authorization`, and those that say `private` or `no-store` are not stored.

`ttl` and `default_ttl` go together: one is for answers that state a freshness, the other for those that state none.
`max_ttl` bounds both. What an answer itself says of `stale-while-revalidate` and `stale-if-error` (RFC 5861) counts
before the keys here, and neither serves what must be revalidated.

`bypass` and `no_store` are one condition, or an array of which one is enough; the keys of a condition are those of a
route, from `host` to `not`.
""",
    "route.compress": """\
Answers with `no-transform` are never compressed, those with `Set-Cookie` or `Cache-Control: private` only with
`private`. A coding whose library is not installed is left out, with a warning at start; gzip is always there.
""",
    "cache.disk": """\
The short form is the path alone: `disk = "/var/cache/lbproxy"` in `[cache]`. A disk that is full or fails costs hits,
never requests.
""",
    "pool.sticky": """\
The short form is the word for `by` alone: `sticky = "cookie"`. A backend that drains keeps the clients it has. What
policy chooses for new clients is not changed by it.
""",
    "pool": """\
The policies:

- `least-connections`: the backend with the fewest sessions (in HTTP: requests under way) for its weight.
- `round-robin`: each in turn, smoothly by weight.
- `random`: by chance, by weight.
- `p2c`: two by chance, of these the less busy one. For very many backends or several balancers side by side.
- `peak-ewma`: the one whose connects (in HTTP: answers) have lately been quickest, with sessions under way counted
  in.
- `ketama`, `maglev`, `rendezvous`: the same backend for the same client, or for whatever `hash_key` names. `ketama`
  with `label = "address"` chooses like nginx's `hash ... consistent`; `maglev` takes one step however many backends
  there are; `rendezvous` spreads most evenly and takes a step for each backend.
- `first`: in the order of the file, the next one only when those before are full or down.
""",
}
