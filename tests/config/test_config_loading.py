"""Loading: what a file becomes, how files that are no configuration are met, and the quick form."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from lbproxy import model, model_tls
from lbproxy.addresses import Address, NetworkSet
from lbproxy.config import load, loads, quick
from lbproxy.config.loading import LARGEST_FILE
from lbproxy.config.units import read_time, write_time

EVERYTHING = r"""
[log]
level = "debug"
format = "json"
[records]
to = "syslog:127.0.0.1:514"
buffer = 65536
[control]
socket = "/run/control.sock"
[limits]
max_connections = 5
buffers = "1MiB"
handshakes = 9
[stop]
grace = 0
hard_stop = "1m30s"
[timeouts]
connect = 1
proxy_header = "none"
client_hello = 4
[[listener]]
name = "front"
bind = ["[::1]:80", "unix:@front", "systemd:front", "localhost:81"]
protocol = "tcp"
pool = "web"
max_connections = 4
max_connections_per_client = 2
allow = ["10.0.0.0/8", "::1"]
deny = "10.1.0.0/16"
backlog = 7
proxy_protocol = { from = "10.0.0.2" }
timeouts = { proxy_header = "3s", tunnel_idle = "1h", tls_handshake = "7s" }
[listener.tls]
cert = "a.pem"
key = "../keys/a.key"
passphrase_file = "/etc/pass"
ocsp_file = "a.ocsp"
certificates = ["/etc/more", { cert = "b.pem", key = "b.key" }]
profile = "modern"
alpn = ["h2", "http/1.1"]
unknown_name = "refuse"
default_name = "A.example"
tickets = false
ocsp = "file"
keylog = "/tmp/keys"
client_ca = "ca.pem"
client_verify = "optional"
client_crl = "ca.crl"
revocation = "soft"
[[listener.tls.site]]
names = ["a.example", "*.A.example"]
profile = "intermediate"
alpn = []
client_ca = "other.pem"
[[listener.tls.site]]
names = "b.example"
client_verify = "none"
[[listener.tls.site]]
names = "c.example"
client_verify = "required"
alpn = "h2"
[[route]]
name = "inner"
listener = "front"
client = "10.0.0.0/9"
server_name = ["A.example", "*.b.example"]
alpn = ["h2", "smtp"]
pool = "web"
priority = 0
timeouts = { queue = "250ms" }
[pool.web]
policy = "maglev"
hash_key = "client_ip"
label = "address"
bounded_load = 1.25
max_active = "none"
queue = { size = 0, shed = "codel" }
tries = 1
panic_threshold = 50
send_proxy = "v1"
check = { interval = "1s", timeout = 0.5, rise = 1, fall = 1, send = "P", expect = "hex:2b50", port = 9, tls = false }
outlier = false
slow_start = { window = "1m", aggression = 2 }
backends = [
  "NAME.example:80",
  { address = "unix:/run/b", id = "b", weight = 0, backup = true, max_active = 3, state = "maint" },
]
[pool.web.timeouts]
half_closed = 5
tls_handshake = 2
[pool.web.tls]
verify = false
ca = "ca.pem"
crl = "ca.crl"
revocation = "soft"
server_name = "Backend.example"
cert = "own.pem"
key = "own.key"
passphrase_file = "own.pass"
alpn = "h2"
profile = "old"
sessions = false
"""


def test_every_key_arrives_where_the_model_has_it() -> None:
    loaded = loads(EVERYTHING, "/c/f", read_files=False)
    assert loaded.errors == ()
    clients = model_tls.ClientAuthSettings("/c/ca.pem", True, "/c/ca.crl", True)
    assert loaded.configuration == model.Configuration(
        listeners=(
            model.ListenerSettings(
                name="front",
                binds=(
                    Address("ip", "::1", 80),
                    Address("unix", "@front"),
                    Address("systemd", "front"),
                    Address("name", "localhost", 81),
                ),
                pool="web",
                proxy_from=NetworkSet(["10.0.0.2"]),
                max_connections=4,
                max_connections_per_client=2,
                allow=NetworkSet(["10.0.0.0/8", "::1"]),
                deny=NetworkSet(["10.1.0.0/16"]),
                backlog=7,
                tls=model_tls.TlsSettings(
                    certificates=(
                        model_tls.CertificateSettings(
                            "/c/a.pem", "/c/../keys/a.key", "/etc/pass", "/c/a.ocsp", line("cert =")
                        ),
                        model_tls.CertificateSettings("/etc/more", line=line("certificates =")),
                        model_tls.CertificateSettings("/c/b.pem", "/c/b.key", line=line("certificates =")),
                    ),
                    policy=model_tls.TlsPolicy("modern", ("h2", "http/1.1"), clients),
                    sites=(
                        model_tls.SiteSettings(
                            ("a.example", "*.a.example"),
                            model_tls.TlsPolicy("intermediate", (), model_tls.ClientAuthSettings("/c/other.pem")),
                            line("[[listener.tls.site]]"),
                        ),
                        model_tls.SiteSettings(
                            ("b.example",),
                            model_tls.TlsPolicy("modern", ("h2", "http/1.1")),
                            line('names = "b') - 1,
                        ),
                        model_tls.SiteSettings(
                            ("c.example",),
                            model_tls.TlsPolicy("modern", ("h2",), replace(clients, optional=False)),
                            line('names = "c') - 1,
                        ),
                    ),
                    default_name="a.example",
                    refuse_unknown=True,
                    tickets=False,
                    ocsp_fetch=False,
                    keylog="/tmp/keys",
                ),
                timeouts=model.TimeoutSettings(proxy_header=3.0, tls_handshake=7.0, tunnel_idle=3600.0),
                line=line("[[listener]]"),
            ),
        ),
        pools=(
            model.PoolSettings(
                name="web",
                backends=(
                    model.BackendSettings("name.example:80", Address("name", "name.example", 80), line=line('  "NAME')),
                    model.BackendSettings(
                        "b", Address("unix", "/run/b"), 0, True, 3, "maint", line=line("  { address")
                    ),
                ),
                policy="maglev",
                label="address",
                bounded_load=1.25,
                max_active=None,
                queue_size=0,
                shed="codel",
                tries=1,
                panic_threshold=50,
                check=model.CheckSettings(True, 1.0, 0.5, 1, 1, b"P", b"+P", 9, False),
                outlier=model.OutlierSettings(enabled=False),
                slow_start=model.SlowStartSettings(60.0, 2.0),
                send_proxy=model.SendProxySettings(1),
                tls=model_tls.BackendTlsSettings(
                    verify=False,
                    ca="/c/ca.pem",
                    crl="/c/ca.crl",
                    soft=True,
                    server_name="backend.example",
                    certificate=model_tls.CertificateSettings(
                        "/c/own.pem", "/c/own.key", "/c/own.pass", line=line('cert = "own')
                    ),
                    alpn=("h2",),
                    profile="old",
                    sessions=False,
                ),
                timeouts=model.TimeoutSettings(tls_handshake=2.0, half_closed=5.0),
                line=line("[pool.web]"),
            ),
        ),
        routes=(
            model.RouteSettings(
                pool="web",
                name="inner",
                listeners=("front",),
                clients=NetworkSet(["10.0.0.0/9"]),
                server_names=("a.example", "*.b.example"),
                alpn=("h2", "smtp"),
                priority=0,
                timeouts=model.TimeoutSettings(queue=0.25),
                line=line("[[route]]"),
            ),
        ),
        timeouts=model.TimeoutSettings(connect=1.0, proxy_header=math.inf, client_hello=4.0),
        records=model.RecordSettings("syslog", address=Address("ip", "127.0.0.1", 514), buffer=65536),
        log=model.LogSettings("debug", "json"),
        limits=model.LimitSettings(5, 1024 * 1024, 9),
        control=model.ControlSettings("/run/control.sock"),
        stop=model.StopSettings(0.0, 90.0),
        file="/c/f",
    )


def line(beginning: str) -> int:
    """The number of the first line of EVERYTHING that begins so."""
    return next(n for n, text in enumerate(EVERYTHING.splitlines(), 1) if text.startswith(beginning))


def test_what_is_not_written_has_the_model_s_defaults() -> None:
    text = '[[listener]]\nbind = "127.0.0.1:80"\npool = "web"\n[pool.web]\nbackends = "10.0.0.1:80"\n'
    backend = model.BackendSettings("10.0.0.1:80", Address("ip", "10.0.0.1", 80), line=5)
    assert loads(text, "f").configuration == model.Configuration(
        # Without a name the listener goes by its address.
        listeners=(model.ListenerSettings("127.0.0.1:80", (Address("ip", "127.0.0.1", 80),), pool="web", line=1),),
        pools=(model.PoolSettings("web", (backend,), line=4),),
        file="f",
    )


def test_switches_take_true_and_false() -> None:
    text = '[[listener]]\nbind = "127.0.0.1:80"\npool = "web"\n[pool.web]\nbackends = "10.0.0.1:80"\n'
    off = loads(text + "check = false\noutlier = false\nslow_start = false\n", "f").configuration
    on = loads(text + "check = true\noutlier = true\nslow_start = true\n", "f").configuration
    assert off is not None
    assert (off.pools[0].check.enabled, off.pools[0].outlier.enabled, off.pools[0].slow_start.window) == (
        False,
        False,
        0.0,
    )
    assert on == loads(text, "f").configuration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("1d", 86400.0), ("1m1s1ms", 61.001)],
)
def test_times(text: str, seconds: float) -> None:
    assert read_time(text) == pytest.approx(seconds)
    assert read_time(write_time(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5S", "5s5s", "1s1m", "1e3s", "٣s", "5s\n", ".5s"])
def test_what_is_no_time(text: str) -> None:
    assert read_time(text) is None


# --- files that are no configuration --------------------------------------------------------------------------------


def of_file(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    loaded = load(str(path))
    assert loaded.configuration is None
    (problem,) = loaded.problems
    return str(problem).removeprefix(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert of_file(tmp_path / "missing") == ": cannot be read: No such file or directory"
    assert of_file(tmp_path) == ": cannot be read: Is a directory"
    assert load("a\0b").configuration is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ": there is no [[listener]], so nothing would be served"),
        (b"a = 1\nb = \xff\n", ":2: is not UTF-8: the byte 0xff fits nowhere in it"),
        ("a = 1".encode("utf-16"), ":1: is UTF-16, it must be UTF-8"),
        (b"a = 1\nb = \n", ":2: is not TOML at column 5: invalid value"),
        (b"a = 1\na = 2\n", ":2: is not TOML at column 6: cannot overwrite a value"),
        (b"a = [1,\n\n", ": is not TOML: invalid value (at end of document)"),
        (b"a = " + b"[" * 100_000, ": nests arrays or tables too deeply to be read"),
        (b"#" * (LARGEST_FILE + 1), ": is larger than 8 MiB; is it the right file?"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, problem: str) -> None:
    assert of_file(tmp_path / "f", content) == problem


def test_an_integer_of_too_many_digits_is_a_problem(tmp_path: Path) -> None:
    assert ": is not TOML: " in of_file(tmp_path / "f", b"a = " + b"1" * 5000)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(
        b'\xef\xbb\xbf[[listener]]\r\nbind = "127.0.0.1:80"\r\npool = "p"\r\n[pool.p]\r\nbackends = "10.0.0.1:80"\r\n'
    )
    assert load(str(path)).problems == ()


# --- the quick form -------------------------------------------------------------------------------------------------


def test_the_quick_form_makes_one_pool_behind_each_listener() -> None:
    loaded = quick(["tcp://127.0.0.1:8101", "unix:/run/x.sock"], ["127.0.0.1:9001", "tcp://[::1]:9002"], "first")
    assert loaded.problems == ()
    assert loaded.configuration == model.Configuration(
        listeners=(
            model.ListenerSettings("tcp1", (Address("ip", "127.0.0.1", 8101),), pool="default"),
            model.ListenerSettings("tcp2", (Address("unix", "/run/x.sock"),), pool="default"),
        ),
        pools=(
            model.PoolSettings(
                "default",
                (
                    model.BackendSettings("127.0.0.1:9001", Address("ip", "127.0.0.1", 9001)),
                    model.BackendSettings("[::1]:9002", Address("ip", "::1", 9002)),
                ),
                policy="first",
            ),
        ),
    )


def test_a_single_listener_of_the_quick_form_is_called_tcp() -> None:
    configuration = quick(["tcp://[::1]:80/"], ["unix:/run/app.sock"], None).configuration
    assert configuration is not None
    assert configuration.listeners[0].name == "tcp"
    assert configuration.listeners[0].binds == (Address("ip", "::1", 80),)


def test_the_quick_form_speaks_http() -> None:
    words = ["http://127.0.0.1:8080/", "HTTP://unix:/run/x.sock", "127.0.0.1:81"]
    loaded = quick(words, ["http://10.0.0.1:1", "10.0.0.2:1"], None)
    assert loaded.problems == ()
    assert loaded.configuration is not None
    assert [(one.name, one.protocol, str(one.binds[0])) for one in loaded.configuration.listeners] == [
        ("http1", "http", "127.0.0.1:8080"),
        ("http2", "http", "unix:/run/x.sock"),
        ("tcp3", "tcp", "127.0.0.1:81"),
    ]
    (pool,) = loaded.configuration.pools
    assert [str(backend.address) for backend in pool.backends] == ["10.0.0.1:1", "10.0.0.2:1"]
    assert pool.tls is None


@pytest.mark.parametrize(
    ("listens", "backends", "policy", "problems"),
    [
        (["https://[::1]:80"], ["10.0.0.1:1"], None, [
            "--cert: is missing; https://[::1]:80 needs a certificate, as in --cert site.pem --key site.key",
        ]),
        (["http://[::1]:80"], ["10.0.0.1:1", "https://10.0.0.1:2"], None, [
            "--backend: some are written with https:// and some without; the quick form speaks to all of them in one "
            "way",
        ]),
        (["http://127.0.0.1"], ["10.0.0.1:1"], None, [
            "--listen: '127.0.0.1' has no port; write it as 127.0.0.1:80",
        ]),
        (["ftp://[::1]:80"], ["10.0.0.1:1"], None, [
            '--listen: is "ftp://[::1]:80"; a listener is written http://127.0.0.1:8080, https://..., tcp://..., '
            'tls://... or unix:/run/app.sock; did you mean "tcp"?',
        ]),
        (["tpc://[::1]:80"], ["10.0.0.1:1"], None, [
            '--listen: is "tpc://[::1]:80"; a listener is written http://127.0.0.1:8080, https://..., tcp://..., '
            'tls://... or unix:/run/app.sock; did you mean "tcp"?',
        ]),
        (["tcp://127.0.0.1"], ["10.0.0.1:99999"], "fist", [
            "--listen: '127.0.0.1' has no port; write it as 127.0.0.1:80",
            "--backend: '10.0.0.1:99999': the port is '99999', it must be a number from 1 to 65535",
            '--policy: is "fist", it must be "least-connections", "round-robin", "random", "p2c", "peak-ewma", '
            '"ketama", "maglev", "rendezvous" or "first"; did you mean "first"?',
        ]),
        ([], [], None, [
            "--listen: is missing; write for example --listen http://127.0.0.1:8080",
            "--backend: is missing; write for example --backend 127.0.0.1:9001",
        ]),
        (["tcp://127.0.0.1:80"], ["127.0.0.1:80"], None, [
            '--backend: 127.0.0.1:80 is where the listener "tcp" accepts, so sessions would go round',
        ]),
        (["tcp://127.0.0.1:80"] * 2, ["10.0.0.1:1"] * 2, None, [
            "--backend: 10.0.0.1:1 is in this pool already; give each an id of its own if that is meant",
            "--listen: 127.0.0.1:80 is in use already, by the listener before",
        ]),
    ],
)  # fmt: skip
def test_mistakes_in_the_quick_form(
    listens: list[str], backends: list[str], policy: str | None, problems: list[str]
) -> None:
    loaded = quick(listens, backends, policy)
    assert sorted(map(str, loaded.problems)) == sorted(problems)
    assert loaded.configuration is None
