"""What people read: for each mistake the exact sentence, the key and the line."""

from __future__ import annotations

import pytest

from lbproxy.config import Problem, loads

BASE = """\
[[listener]]
name = "web"
bind = "127.0.0.1:80"
pool = "web"
[pool.web]
backends = ["10.0.0.1:80", "10.0.0.2:80"]
"""
BASE_LINES = BASE.count("\n")

TIME = 'a time such as "5s" or "1h30m", from 1ms to 365d'
NAME_RULE = "letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or digit"
POLICIES = (
    '"least-connections", "round-robin", "random", "p2c", "peak-ewma", "ketama", "maglev", "rendezvous" or "first"'
)


def said(text: str) -> list[str]:
    return [str(problem) for problem in loads(text, "f").problems]


def said_in_addition(addition: str) -> list[str]:
    """The problems of the base with this appended, their lines counted from the addition."""
    loaded = loads(BASE + addition, "f")
    word = {"error": "", "warning": "warning: "}
    return [f"{p.line - BASE_LINES}: {word[p.severity]}{p.key}: {p.message}" for p in loaded.problems]


def test_the_base_has_no_problem() -> None:
    assert said(BASE) == []


POOL = [
    ("weight = 1", "unknown key; weights stand at backends, or in the split of a route"),
    ("wait = 1", "unknown key; known here are backends, policy, hash_key, label, bounded_load, max_active, queue, "
     "tries, panic_threshold, send_proxy, tls, check, outlier, slow_start, sticky, http, load_report, timeouts"),
    ("polcy = 1", 'unknown key; did you mean "policy"?'),
    ('policy = "round-robbin"', f'is "round-robbin", it must be {POLICIES}; did you mean "round-robin"?'),
    ('policy = "leastconn"', 'is "leastconn"; here it is called "least-connections"'),
    ("policy = 3", f"is 3, it must be {POLICIES}"),
    ("tries = 0", "is 0, it must be a whole number from 1 to 10"),
    ("tries = 11", "is 11, it must be a whole number from 1 to 10"),
    ("tries = true", "is true, it must be a whole number from 1 to 10"),
    ('tries = "3"', 'is "3", it must be a whole number from 1 to 10'),
    ("tries = 2.0", "is 2.0, it must be a whole number from 1 to 10"),
    ("tries = 1979-05-27", "is the date or time 1979-05-27, it must be a whole number from 1 to 10"),
    ("tries = [[1]]", "is an array, it must be a whole number from 1 to 10"),
    (f"tries = 0x{'f' * 5000}", "is a number of 20000 bits, it must be a whole number from 1 to 10"),
    ("panic_threshold = 101", "is 101, it must be a whole number from 0 to 100"),
    ("max_active = 0", 'is 0, it must be a whole number from 1 to 1000000 or "none"'),
    ('max_active = "None"', 'is "None", it must be a whole number from 1 to 1000000 or "none"'),
    ("bounded_load = 1", "is 1, it must be a number above 1, at most 2"),
    ("bounded_load = nan", "is nan, it must be a number above 1, at most 2"),
    ("bounded_load = 1.25", 'does not go with the policy "least-connections": only a hash policy '
     '("ketama", "maglev" or "rendezvous") has a use for it'),
    ("queue = 5", "is 5, it must be a table"),
    ('send_proxy = "v3"', 'is "v3", it must be "v1", "v2" or a table'),
    ("send_proxy = 2", 'is 2, it must be "v1", "v2" or a table'),
    ("check = 5", "is 5, it must be false or a table"),
]  # fmt: skip

INNER = [
    ("check = { interval = 0 }", "check.interval", "is 0, it must be from 1ms to 365d"),
    ('check = { interval = "5 s" }', "check.interval", f'is "5 s", it must be {TIME}'),
    ("check = { interval = -inf }", "check.interval", f"is -inf, it must be {TIME}"),
    ("check = { timeout = false }", "check.timeout", f"is false, it must be {TIME}"),
    ("check = { rise = 101 }", "check.rise", "is 101, it must be a whole number from 1 to 100"),
    ("check = { port = 0 }", "check.port", "is 0, it must be a whole number from 1 to 65535"),
    ('check = { send = "hex:0d0" }', "check.send",
     'is "hex:0d0", after "hex:" there must be pairs of hexadecimal digits, as in "hex:0d0a"'),
    (f'check = {{ expect = "{"x" * 5000}" }}', "check.expect", "has 5000 bytes, at most 4096 are allowed"),
    ("slow_start = { aggression = 0 }", "slow_start.aggression", "is 0, it must be a number above 0, at most 100"),
    ("slow_start = { window = 0 }", "slow_start.window", "is 0, it must be from 1ms to 365d"),
    ('outlier = { ejection = "10m" }', "outlier.max_ejection", "is 5m, it must not be less than ejection, 10m"),
    ("timeouts = { connect = 0 }", "timeouts.connect", 'is 0, it must be from 1ms to 365d ("none" switches it off)'),
    ("timeouts = { proxy_header = 5 }", "timeouts.proxy_header",
     "is over before the pool is known; set it in [timeouts] or [listener.timeouts]"),
    ("timeouts = { client_hello = 5 }", "timeouts.client_hello",
     "is over before the pool is known; set it in [timeouts] or [listener.timeouts]"),
    ("timeouts = { request_head = 5 }", "timeouts.request_head",
     "is over before the pool is known; set it in [timeouts] or [listener.timeouts]"),
    ("timeouts = { client_idle = 5 }", "timeouts.client_idle", "is about the client's connection, whatever pools it "
     "gets to; set it in [timeouts] or [listener.timeouts]"),
    ('timeouts = { request_body_rate = "1KiB" }', "timeouts.request_body_rate",
     'is "1KiB", it must be a number of bytes per second, above 0 and at most 1e9, or "none"'),
    ("timeouts = { request_body_rate = 0 }", "timeouts.request_body_rate",
     'is 0, it must be a number of bytes per second, above 0 and at most 1e9, or "none"'),
    ("timeouts = { response_head = true }", "timeouts.response_head", f'is true, it must be {TIME}, or "none"'),
    ('send_proxy = { version = 1, tlvs = ["crc32c"] }', "send_proxy.tlvs",
     "needs version = 2; version 1 has no such fields"),
    ('send_proxy = { version = 2, tlvs = ["crc32c", "crc32c"] }', "send_proxy.tlvs", 'names "crc32c" more than once'),
    ('send_proxy = { version = 2, tlvs = ["crc32"] }', "send_proxy.tlvs[0]",
     'is "crc32", it must be "authority", "alpn", "unique_id", "crc32c" or "tls"; did you mean "crc32c"?'),
    ("send_proxy = {}", "send_proxy.version", "is missing"),
    ('queue = { shed = "code" }', "queue.shed", 'is "code", it must be "none" or "codel"; did you mean "codel"?'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), POOL)
def test_a_key_of_a_pool(line: str, message: str) -> None:
    assert said_in_addition(line) == [f"1: pool.web.{line.split(' ')[0]}: {message}"]


@pytest.mark.parametrize(("line", "key", "message"), INNER)
def test_a_key_inside_a_key_of_a_pool(line: str, key: str, message: str) -> None:
    assert said_in_addition(line) == [f"1: pool.web.{key}: {message}"]


BACKENDS = [
    ('"10.0.0.9"', "", "'10.0.0.9' has no port; write it as 10.0.0.9:80"),
    ('"10.0.0.9:0"', "", "'10.0.0.9:0': the port is '0', it must be a number from 1 to 65535"),
    ('"systemd:x"', "", 'is "systemd:x"; only a listener can use a passed socket, a backend needs "host:port"'),
    ('"0.0.0.0:81"', "", 'is "0.0.0.0:81"; that means every address of this machine, a backend needs a single one'),
    ('"224.0.0.1:81"', "", 'is "224.0.0.1:81"; nobody can be connected to at a multicast or broadcast address'),
    ('"http://10.0.0.9:80/"', "", 'is "http://10.0.0.9:80/"; here an address has no scheme, write "10.0.0.9:80"'),
    ("80", "", 'is 80, it must be an address such as "10.0.0.1:80" or a table'),
    ("{ weight = 1 }", ".address", "is missing"),
    ('{ adress = "10.0.0.9:80" }', ".adress", 'unknown key; did you mean "address"?'),
    ('{ address = "10.0.0.9:80", weight = 257 }', ".weight", "is 257, it must be a whole number from 0 to 256"),
    ('{ address = "10.0.0.9:80", id = "a b" }', ".id", f'is "a b", it must be a name: {NAME_RULE}'),
    ('{ address = "10.0.0.9:80", backup = "yes" }', ".backup",
     'is "yes", it must be true or false (without quotes)'),
    ('{ address = "10.0.0.9:80", state = "down" }', ".state", 'is "down", it must be "ready", "drain" or "maint"'),
    ('"10.0.0.8:80"', "", "10.0.0.8:80 is in this pool already; give each an id of its own if that is meant"),
    ('{ id = "one", address = "10.0.0.9:80" }', ".id", 'is "one", like that of another backend of this pool'),
    ('"127.0.0.1:80"', "", '127.0.0.1:80 is where the listener "web" accepts, so sessions would go round'),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "key", "message"), BACKENDS)
def test_a_backend(backend: str, key: str, message: str) -> None:
    text = BASE.replace(
        '["10.0.0.1:80", "10.0.0.2:80"]',
        f"""[
  "10.0.0.8:80",
  {{ id = "one", address = "10.0.0.7:80" }},
  {backend},
]""",
    )
    assert said(text) == [f"f:9: pool.web.backends[2]{key}: {message}"]


LISTENERS = [
    ('bind = "127.0.0.1"', "3: listener[0].bind: '127.0.0.1' has no port; write it as 127.0.0.1:80"),
    ('bind = ":81"', '3: listener[0].bind: is ":81"; for every address write ["0.0.0.0:81", "[::]:81"]'),
    ('bind = "*:81"', '3: listener[0].bind: is "*:81"; for every address write ["0.0.0.0:81", "[::]:81"]'),
    ('bind = "tcp://0.0.0.0:81"', '3: listener[0].bind: is "tcp://0.0.0.0:81"; here an address has no scheme, '
     'write "0.0.0.0:81"'),
    ("bind = []", "3: listener[0].bind: is empty; a listener needs at least one address"),
    ("bind = 80", '3: listener[0].bind: is 80, it must be an address such as "10.0.0.1:80", "0.0.0.0:80", "[::]:80", '
     '"unix:/run/app.sock" or "systemd:NAME"'),
    ('bind = ["127.0.0.1:81", "127.0.0.1:81"]',
     "3: listener[0].bind[1]: 127.0.0.1:81 is in use already, by the listener in line 3"),
    ('bind = ["0.0.0.0:81", "127.0.0.1:81"]',
     "3: listener[0].bind[1]: 127.0.0.1:81 overlaps with 0.0.0.0:81; the system lets only one of them be bound"),
    ("", '1: listener[0].bind: is missing; a listener needs an address, as in bind = "0.0.0.0:80"'),
    ('bind = "10.0.0.1:81"\nprotocol = "htp"',
     '4: listener[0].protocol: is "htp", it must be "tcp" or "http"; did you mean "http"?'),
    ('bind = "10.0.0.1:81"\nprotocol = "https"',
     '4: listener[0].protocol: is "https"; write protocol = "http", and set TLS in [listener.tls]'),
    ('bind = "10.0.0.1:81"\nprotocol = "udp"',
     '4: listener[0].protocol: is "udp"; lbproxy balances TCP and HTTP, write "tcp" or "http"'),
    ('bind = "10.0.0.1:81"\nprotocol = "tls"',
     '4: listener[0].protocol: is "tls"; leave the key out, and set TLS in [listener.tls]'),
    ('bind = "10.0.0.1:81"\nproxy_protocol = {}', "4: listener[0].proxy_protocol.from: is missing; a listener that "
     "takes PROXY headers needs the list of their senders"),
    ('bind = "10.0.0.1:81"\nproxy_protocol = { from = [] }', "4: listener[0].proxy_protocol.from: is empty; a listener "
     "that takes PROXY headers needs the list of their senders"),
    ('bind = "10.0.0.1:81"\nproxy_protocol = true', "4: listener[0].proxy_protocol: is true, it must be a table"),
    ('bind = "10.0.0.1:81"\nallow = "10.0.0.1/8"', "4: listener[0].allow: '10.0.0.1/8' has bits set behind its prefix; "
     "did you mean 10.0.0.0/8?"),
    ('bind = "10.0.0.1:81"\nallow = []', "4: listener[0].allow: is empty, which would let nobody in; leave the key out "
     "to let everybody in"),
    ('bind = "10.0.0.1:81"\ntimeouts = { proxy_header = "1s" }',
     '4: listener[0].timeouts.proxy_header: is "1s", it must be from 3s to 365d ("none" switches it off)'),
    ('bind = "10.0.0.1:81"\nbacklog = 0', "4: listener[0].backlog: is 0, it must be a whole number from 1 to 65535"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "problem"), LISTENERS)
def test_a_listener(lines: str, problem: str) -> None:
    text = BASE.replace('bind = "127.0.0.1:80"', lines)
    assert said(text) == [f"f:{problem}"]


ELSEWHERE = [
    ('[log]\nlevel = "warning"', '2: log.level: is "warning"; write "warn"'),
    ('[records]\nto = "file:records.log"', '2: records.to: is "file:records.log"; write the whole path of a file, as '
     'in "file:/var/log/lbproxy/records.log"'),
    ('[records]\nto = "syslog:/dev/log"\nbuffer = "4MB"', '3: records.buffer: is "4MB", write it as "4MiB"'),
    ("[records]\nbuffer = 5", "2: records.buffer: is 5, it must be from 16KiB to 1GiB"),
    ('[records]\nformat = "combind"', '2: records.format: is "combind", it must be "json", "common", "combined" or '
     '"template"; did you mean "combined"?'),
    ('[records]\nformat = "template"', '2: records.format: is "template", which needs the text of a line; write '
     'template = "..."'),
    ('[records]\ntemplate = "{ts}"', '2: records.template: belongs to format = "template"'),
    ('[records]\ntemplate = ""', '2: records.template: is "", it must be text with fields of records in braces, '
     "such as {status}"),
    ('[records]\nformat = "template"\ntemplate = "{statu}"', '3: records.template: is "{statu}"; {statu} is no field '
     "of a record that a text can hold; did you mean {status}?"),
    ('[records]\nformat = "template"\ntemplate = "a\\nb"',
     '3: records.template: is "a\\nb"; a record is one line, without control characters'),
    ('[records]\nto = "kafka"', '2: records.to: is "kafka", it must be "stdout", "none", "file:/PATH", "syslog:/PATH" '
     'or "syslog:ADDRESS:PORT"'),
    ('[records]\nto = "syslog:logs.example:514"', '2: records.to: is "syslog:logs.example:514"; write the daemon\'s IP '
     "address: looking its name up would make sessions wait"),
    ('[control]\nsocket = "control.sock"', '2: control.socket: is "control.sock", it must be the absolute path of a '
     'UNIX socket, as in "unix:/run/lbproxy/control.sock"'),
    ('[control]\nsocket = "unix:@x"', '2: control.socket: is "unix:@x"; an abstract socket has no file mode to '
     "protect it, write an absolute path"),
    ('[stop]\ngrace = "1m"', "1: stop.hard_stop: is 25s, it must not be less than stop.grace, 1m: both are counted "
     "from the signal"),
    ("[limits]\nmax_connections = 1_000_000_000",
     "2: limits.max_connections: is 1000000000, it must be a whole number from 1 to 10000000"),
    ("[timeout]\nconnect = 5", '1: timeout: unknown key; did you mean "timeouts"?'),
    ("[http]", '1: http: unknown key; HTTP is set for each listener, with protocol = "http" and in [listener.http]'),
    ("[tls]", "1: tls: unknown key; TLS is set for each listener, in [listener.tls], and for each pool, in "
     "[pool.NAME.tls]"),
    ("[pool]\n[pool.empty]", "2: pool.empty.backends: is missing; a pool needs servers, as in "
     'backends = ["10.0.0.1:80", "10.0.0.2:80"]'),
    ("[pool.empty]\nbackends = []", "2: pool.empty.backends: is empty; a pool needs at least one backend"),
    ('[pool."a b"]\nbackends = "10.0.0.1:80"', f'1: pool."a b": "a b" is no name for a pool; use {NAME_RULE}'),
    ("[[pool.x]]", "1: pool.x: is an array, it must be a table; write [pool.x] with one bracket on each side"),
    ('[[listener]]\nbind = "10.0.0.1:81"',
     '1: listener[1].pool: is missing, and no route is for this listener; write pool = "NAME"'),
    ('[[listener]]\nname = "web"\nbind = "10.0.0.1:81"\npool = "web"',
     '2: listener[1].name: is "web", like the listener in line 1'),
    ('[[listener]]\nbind = "10.0.0.1:81"\npool = "wep"',
     '3: listener[1].pool: there is no pool "wep"; did you mean "web"?'),
    ('[[route]]\npool = "api"', '2: route[0].pool: there is no pool "api"; there are web'),
    ('[[route]]\npool = "web"\nlistener = ["wbe"]',
     '3: route[0].listener[0]: there is no listener "wbe"; did you mean "web"?'),
    ('[[route]]\npool = "web"\npriority = 10', "3: route[0].priority: is 10, it must be a whole number from 0 to 9"),
    ('[[route]]\npool = "web"\nclient = []',
     "3: route[0].client: is empty, so nothing would match; leave the key out for all clients"),
    ('[[route]]\npool = "web"\nserver_name = "https://a"', '3: route[0].server_name: is "https://a", it must be '
     '"a.example" or "*.example", without port or scheme'),
    ('[[route]]\npool = "web"\nserver_name = "*"', '3: route[0].server_name: is "*"; a route without server_name '
     "matches every name, leave the key out"),
    ('[[route]]\npool = "web"\nauthority = "a"', '3: route[0].authority: unknown key; did you mean "host", or for TLS '
     'that passes through "server_name"?'),
    ('[[route]]\npool = "web"\nsni = "a"', "3: route[0].sni: unknown key; a route by SNI is written server_name"),
    ('[[route]]\npool = "web"\nalpn = ["h2", "h2"]', '3: route[0].alpn: names "h2" more than once'),
    ('[[route]]\npool = "web"\nalpn = ["http/2"]',
     '3: route[0].alpn[0]: is "http/2"; this protocol is called "h2" in ALPN'),
    ("[limits]\nhandshakes = 0", "2: limits.handshakes: is 0, it must be a whole number from 1 to 65536"),
    ("[timeouts]\nclient_hello = 1",
     '2: timeouts.client_hello: is 1, it must be from 3s to 365d ("none" switches it off)'),
    ('[route]\npool = "web"',
     "1: route: is a single table; write [[route]] with two brackets on each side, once for each route"),
]  # fmt: skip


@pytest.mark.parametrize(("addition", "problem"), ELSEWHERE)
def test_a_table(addition: str, problem: str) -> None:
    assert said_in_addition(addition) == [problem]


WARNINGS = [
    ("[timeouts]\nrequest_body_rate = 'none'", '2: warning: timeouts.request_body_rate: is "none"; a client that sends '
     "a byte now and then can hold a request for ever"),
    ("[timeouts]\ntunnel_idle = 'none'",
     '2: warning: timeouts.tunnel_idle: is "none"; one peer that goes silent can then hold a session for ever'),
    ('[pool.spare]\nbackends = "10.0.0.3:80"', "1: warning: pool.spare: no listener and no route uses this pool"),
    ('label = "address"', '1: warning: pool.web.label: has no effect with the policy "least-connections": only a hash '
     'policy ("ketama", "maglev" or "rendezvous") has a use for it'),
    ('max_active = "none"\nqueue = { size = 5 }',
     '2: warning: pool.web.queue: has no effect: with max_active = "none" nobody ever waits'),
    ('[[route]]\nalpn = ["h2", "x"]\npool = "web"\n[[route]]\nalpn = "h2"\nserver_name = "a.example"\npool = "web"',
     "4: warning: route[1]: never matches: the route in line 7 takes all its clients first"),
    ('[[listener]]\nbind = "10.0.0.1:81"\npool = "web"\n[listener.timeouts]\nclient_hello = 3',
     "5: warning: listener[1].timeouts.client_hello: has no effect: no route here has server_name or alpn"),
    ('[[route]]\nclient = "10.0.0.0/8"\npool = "web"\n[[route]]\nclient = ["10.1.0.0/16", "10.2.3.4"]\npool = "web"',
     "4: warning: route[1]: never matches: the route in line 7 takes all its clients first"),
    ('[[listener]]\nname = "b"\nbind = "10.0.0.1:81"\n[[route]]\nlistener = "b"\npool = "web"\n[[route]]\n'
     'listener = "b"\nclient = "10.0.0.1"\npool = "web"',
     "7: warning: route[1]: never matches: the route in line 10 takes all its clients first"),
]  # fmt: skip


@pytest.mark.parametrize(("addition", "problem"), WARNINGS)
def test_a_warning(addition: str, problem: str) -> None:
    assert said_in_addition(addition) == [problem]
    assert loads(BASE + addition, "f").configuration is not None


BACKEND_WARNINGS = [
    ('{ address = "10.0.0.1:80", weight = 0 }', "every backend has weight 0, so none gets sessions"),
    ('{ address = "10.0.0.1:80", state = "maint" }', "no backend is in state ready, so none gets sessions"),
    ('{ address = "10.0.0.1:80", backup = true }',
     "every backend is a backup; mark only those that should wait for the others to fail"),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "message"), BACKEND_WARNINGS)
def test_a_pool_that_serves_nobody_is_warned_about(backend: str, message: str) -> None:
    text = BASE.replace('["10.0.0.1:80", "10.0.0.2:80"]', f"[{backend}]")
    assert said(text) == [f"f:6: warning: pool.web.backends: {message}"]


def test_a_route_that_takes_everybody_leaves_nothing_to_the_listener_s_pool() -> None:
    text = BASE + '[[route]]\npool = "other"\n[pool.other]\nbackends = "10.0.0.3:80"\n'
    assert said(text) == ["f:4: warning: listener[0].pool: is never used: the route in line 7 takes every client"]


def test_routes_on_different_listeners_do_not_hide_each_other() -> None:
    text = (
        BASE
        + """\
[[listener]]
name = "b"
bind = "10.0.0.1:81"
[[route]]
listener = "b"
pool = "web"
[[route]]
client = "10.0.0.0/8"
pool = "web"
"""
    )
    assert said(text) == []


def test_every_problem_comes_at_once_and_in_order() -> None:
    text = """\
[log]
level = "loud"
[[listener]]
bnd = "127.0.0.1:80"
pool = "nowhere"
max_connections = -1
[[listener]]
bind = "127.0.0.1:81"
pool = "web"
[pool.web]
backends = ["10.0.0.1:80", "10.0.0.2", "127.0.0.1:81"]
bounded_load = 1.5
"""
    assert [(p.line, p.key) for p in loads(text, "f").problems] == [
        (2, "log.level"),
        (4, "listener[0].bnd"),
        (5, "listener[0].pool"),
        (6, "listener[0].max_connections"),
        (11, "pool.web.backends[1]"),
        (11, "pool.web.backends[2]"),
        (12, "pool.web.bounded_load"),
    ]


def test_what_cannot_be_read_is_not_called_missing_too() -> None:
    text = """\
[[listener]]
name = "a"
bind = ["nonsense"]
pool = "web"
[[listener]]
name = "b"
bind = "127.0.0.1:81"
pool = 5
[[route]]
listener = "c"
pool = "web"
[pool.web]
backends = 7
[pool.other]
backends = [true]
"""
    assert [p.key for p in loads(text, "f").problems] == [
        "listener[0].bind[0]",
        "listener[1].pool",
        "route[0].listener",
        "pool.web.backends",
        "pool.other.backends[0]",
    ]


def test_a_misspelt_table_is_the_only_complaint() -> None:
    assert said(BASE.replace("pool.web", "pools.web")) == ['f:5: pools: unknown key; did you mean "pool"?']
    assert said(BASE.replace("[[listener", "[[listner")) == ['f:1: listner: unknown key; did you mean "listener"?']


def test_loops_are_found_through_wildcards_names_and_sockets() -> None:
    def loop(bind: str, backend: str) -> bool:
        text = BASE.replace("127.0.0.1:80", bind).replace("10.0.0.1:80", backend)
        return any("go round" in problem.message for problem in loads(text, "f").errors)

    assert loop("0.0.0.0:80", "127.0.0.1:80")
    assert loop("0.0.0.0:80", "127.8.8.8:80")
    assert loop("[::]:80", "[::1]:80")
    assert loop("127.0.0.1:80", "localhost:80")
    assert loop("[::1]:80", "localhost:80")
    assert loop("localhost:80", "127.0.0.1:80")
    assert loop("unix:/run/x", "unix:/run/x")
    assert loop("127.0.0.1:80", "[::ffff:127.0.0.1]:80")
    assert not loop("0.0.0.0:80", "127.0.0.1:81")
    assert not loop("[::]:80", "127.0.0.1:80")
    assert not loop("0.0.0.0:80", "10.9.9.9:80")
    assert not loop("127.0.0.1:80", "unix:/run/x")


def test_names_that_do_not_resolve_are_warnings() -> None:
    text = BASE.replace("10.0.0.2:80", "gone.example:80")
    asked: list[str] = []

    def resolve(host: str) -> bool:
        asked.append(host)
        return False

    loaded = loads(text, "f", resolve)
    assert [str(problem) for problem in loaded.problems] == [
        'f:6: warning: pool.web.backends[1]: the name "gone.example" does not resolve now; until it does, '
        "the backend gets no sessions",
    ]
    assert asked == ["gone.example"]
    assert loaded.configuration is not None
    assert loads(text, "f", lambda _: True).problems == ()


def test_a_problem_is_written_for_people_and_for_programs() -> None:
    problem = Problem("f", 3, "pool.web", "is odd", "warning")
    assert str(problem) == "f:3: warning: pool.web: is odd"
    assert problem.as_dict() == {
        "file": "f", "line": 3, "key": "pool.web", "message": "is odd", "severity": "warning",
    }  # fmt: skip
    assert str(Problem("f", 0, "", "cannot be read")) == "f: cannot be read"
    assert str(Problem(None, 0, "--listen", "is missing")) == "--listen: is missing"


def test_a_file_of_a_million_mistakes_costs_a_thousand_sentences() -> None:
    loaded = loads(BASE + "".join(f"k{n} = 1\n" for n in range(20_000)), "f")
    assert len(loaded.problems) == 1001
    assert loaded.problems[-1].message.startswith("there are")
    assert loaded.configuration is None
