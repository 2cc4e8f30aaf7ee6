"""What the configuration says about TLS: for each mistake the exact sentence, the key and the line."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lbproxy import model_tls
from lbproxy.config import Loaded, load, loads, quick
from tests.certificates.making import Authority, key_pem

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LOUD = (
    "WRITES THE SECRETS OF EVERY SESSION to this file: whoever reads it can read all traffic; "
    "take it out once you are done debugging"
)
UNVERIFIED = "is false, so NO BACKEND HAS TO PROVE WHO IT IS: anybody on the way could read and change this traffic"
OLD = 'is "old", which lets in what is known to be weak; keep it for clients that nobody can replace'

LISTENER = """\
[[listener]]
name = "web"
bind = "127.0.0.1:443"
pool = "web"
[pool.web]
backends = ["10.0.0.1:80"]
[[listener.tls.site]]
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of certificates, made on the day of these tests."""
    place = tmp_path_factory.mktemp("certificates")
    authority = Authority("Root", now=NOW)
    authority.write(place, "ca")
    (place / "ca.crl").write_bytes(authority.crl_pem(now=NOW))
    (place / "late.crl").write_bytes(authority.crl_pem(now=NOW, days=-1))
    authority.issue("a.example", "*.a.example").write(place, "a")
    authority.issue("b.example").write(place, "b")
    authority.issue("b.example").write_both(place, "both")
    authority.issue("old.example", days=-3).write(place, "old")
    authority.issue("soon.example", days=5).write(place, "soon")
    authority.issue("we", client=True).write(place, "client")
    authority.issue("we", client=True, days=-3).write(place, "late-client")
    authority.issue("weak.example", kind="RSA", bits=1024).write(place, "weak")
    authority.issue("we", client=True, days=5).write(place, "soon-client")
    locked = authority.issue("l.example")
    locked.write(place, "locked")
    (place / "locked.key").write_bytes(key_pem(locked.key, b"open"))
    (place / "later").mkdir()
    authority.issue("f.example", now=NOW + timedelta(days=9, hours=2)).write_both(place / "later", "f")
    # Without the certificate between it and the root.
    lone = authority.intermediate("Middle").issue("c.example")
    (place / "c.crt").write_bytes(lone.leaf_pem)
    (place / "c.key").write_bytes(lone.key_pem)
    (place / "empty").mkdir()
    (place / "two").mkdir()
    authority.issue("d.example").write_both(place / "two", "d")
    authority.issue("e.example").write_both(place / "two", "e")
    return place


@pytest.fixture(autouse=True)
def roots(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system trusts the authority of these tests and no other."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "ca.pem"))


def told(loaded: Loaded, files: Path) -> list[str]:
    word = {"error": "", "warning": "warning: "}
    return [f"{p.line}: {word[p.severity]}{p.key}: {p.message}".replace(str(files), "DIR") for p in loaded.problems]


def of_listener(files: Path, tls: str, *, more: str = "") -> list[str]:
    """What is said of a listener with this table; its lines are counted from the header [listener.tls]."""
    text = '[[listener]]\nname = "web"\nbind = "127.0.0.1:443"\npool = "web"\n[pool.web]\nbackends = ["10.0.0.1:80"]\n'
    before = text.count("\n")
    loaded = loads(f"{text}[listener.tls]\n{tls}\n{more}", str(files / "f.toml"), now=NOW.timestamp())
    assert (loaded.configuration is None) == bool(loaded.errors)
    return [f"{p_line(said) - before}{said[said.index(':') :]}" for said in told(loaded, files)]


def of_pool(files: Path, tls: str, backends: str = '"10.0.0.1:443"') -> list[str]:
    """The same for a pool with these lines after [pool.web.tls]."""
    text = f'[[listener]]\nbind = "127.0.0.1:443"\npool = "web"\n[pool.web]\nbackends = [{backends}]\n'
    before = text.count("\n")
    loaded = loads(f"{text}{tls}\n", str(files / "f.toml"), now=NOW.timestamp())
    assert (loaded.configuration is None) == bool(loaded.errors)
    return [f"{p_line(said) - before}{said[said.index(':') :]}" for said in told(loaded, files)]


def p_line(said: str) -> int:
    return int(said.partition(":")[0])


# --- what is fine ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tls",
    [
        'cert = "a.crt"\nkey = "a.key"',
        'cert = "a.crt"',
        'cert = "both.pem"\ndefault_name = "b.example"',
        'certificates = ["a.crt", { cert = "b.crt", key = "b.key" }]',
        'certificates = "two"',
        'cert = "a.crt"\nclient_ca = "ca.pem"\nclient_crl = "ca.crl"\nrevocation = "soft"',
        'cert = "a.crt"\nclient_ca = "ca.pem"\n[[listener.tls.site]]\nnames = "a.example"\nclient_verify = "none"',
        'cert = "a.crt"\n[[listener.tls.site]]\nnames = ["*.a.example", "x.a.example"]\nclient_ca = "ca.pem"',
        'cert = "a.crt"\nclient_ca = "ca.pem"\nclient_verify = "none"\n[[listener.tls.site]]\nnames = "a.example"\n'
        'client_verify = "required"',
        # Some of the names that it covers have a certificate.
        'cert = "b.crt"\n[[listener.tls.site]]\nnames = "*.example"\nalpn = []',
    ],
)
def test_a_listener_with_certificates_has_no_problem(files: Path, tls: str) -> None:
    assert of_listener(files, tls) == []


@pytest.mark.parametrize(
    "tls",
    [
        "tls = true",
        "tls = false",
        '[pool.web.tls]\nca = "ca.pem"\ncrl = "ca.crl"',
        '[pool.web.tls]\ncert = "client.crt"\nkey = "client.key"\nserver_name = "x.example"\nalpn = "h2"',
        "tls = true\ncheck = { tls = false }",
    ],
)
def test_a_pool_with_tls_has_no_problem(files: Path, tls: str) -> None:
    assert of_pool(files, tls) == []


# --- files ----------------------------------------------------------------------------------------------------------

# What `lbproxy.certificates` says of a file is tested there; here only its gist, and the place in full.
FILES = [
    ('cert = "no.pem"', "2: listener[0].tls.cert: DIR/no.pem: ", "no such file"),
    ('cert = "a.crt"\nkey = "no.key"', "3: listener[0].tls.key: DIR/no.key: ", "no such file"),
    ('cert = "a.crt"\nkey = "b.key"', "2: listener[0].tls.cert: DIR/a.crt: ", "does not belong to"),
    ('cert = "locked.crt"\npassphrase_file = "no.txt"',
     "3: listener[0].tls.passphrase_file: DIR/no.txt: ", "no such file"),
    ('cert = "locked.crt"\npassphrase_file = "a.key"', "2: listener[0].tls.cert: DIR/locked.key: ", "passphrase"),
    ('cert = "locked.crt"', "2: listener[0].tls.cert: DIR/locked.key: ", "passphrase"),
    ('certificates = [\n"a.crt",\n"no.pem",\n]', "4: listener[0].tls.certificates[1]: DIR/no.pem: ", "no such file"),
    ('certificates = [\n"a.crt",\n{ cert = "b.crt", ocsp_file = "a.key" },\n]',
     "4: listener[0].tls.certificates[1].ocsp_file: DIR/a.key: ", "DER"),
    ('cert = "a.crt"\ncertificates = ["empty"]', "3: listener[0].tls.certificates[0]: DIR/empty: ", "directory"),
    ('cert = "weak.crt"', "2: listener[0].tls.cert: DIR/weak.crt: ", "1024 bits"),
    ('cert = "a.crt"\nclient_ca = "no.pem"', "3: listener[0].tls.client_ca: DIR/no.pem: ", "no such file"),
    ('cert = "a.crt"\nclient_ca = "ca.crl"', "3: listener[0].tls.client_ca: DIR/ca.crl: ", "no certificate"),
    ('cert = "a.crt"\nclient_ca = "ca.pem"\nclient_crl = "no.crl"',
     "4: listener[0].tls.client_crl: DIR/no.crl: ", "no such file"),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = "a.example"\nclient_ca = "no.pem"',
     "5: listener[0].tls.site[0].client_ca: DIR/no.pem: ", "no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "place", "gist"), FILES)
def test_a_file_that_cannot_be_used_keeps_us_from_starting(files: Path, tls: str, place: str, gist: str) -> None:
    (said,) = of_listener(files, tls)
    assert said.startswith(place)
    assert gist in said


BESIDE_FILES = [
    ('cert = "a.crt"\nkeylog = "no/keys"', "3: listener[0].tls.keylog: DIR/no/keys: there is no directory DIR/no"),
    ('cert = "a.crt"\nkeylog = "two"', "3: listener[0].tls.keylog: DIR/two: is a directory, it must be a file"),
    ('cert = "a.crt"\ndefault_name = "www.a.test"', '3: listener[0].tls.default_name: is "www.a.test", but the '
     "certificates here are for a.example, *.a.example"),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = ["a.example",\n"b.example"]', "5: listener[0].tls.site[0].names[1]"
     ': is "b.example", but the certificates here are for a.example, *.a.example'),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = "y.x.a.example"', "4: listener[0].tls.site[0].names: "
     'is "y.x.a.example", but the certificates here are for a.example, *.a.example'),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "problem"), BESIDE_FILES)
def test_names_need_certificates_and_logs_directories(files: Path, tls: str, problem: str) -> None:
    assert of_listener(files, tls) == [problem]


FILE_WARNINGS = [
    ('cert = "old.crt"', "2: warning: listener[0].tls.cert: DIR/old.crt: ", "expired on 2026-05-29"),
    ('certificates = ["a.crt",\n"soon.crt"]', "3: warning: listener[0].tls.certificates[1]: DIR/soon.crt: ",
     "expires on 2026-06-06"),
    ('certificates = "later"', "2: warning: listener[0].tls.certificates: DIR/later/f.pem: ",
     "not valid before 2026-06-10"),
    ('cert = "c.crt"', "2: warning: listener[0].tls.cert: DIR/c.crt: ", "CN=Middle is missing"),
    ('cert = "a.crt"\nclient_ca = "ca.pem"\nclient_crl = "late.crl"',
     "4: warning: listener[0].tls.client_crl: DIR/late.crl: ", "out of date since 2026-05-31"),
    ('cert = "b.crt"\ncertificates = ["both.pem"]', "3: warning: listener[0].tls.certificates[0]: DIR/both.pem: ",
     "is not served for b.example"),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "place", "gist"), FILE_WARNINGS)
def test_a_file_that_will_not_please_clients_is_a_warning(files: Path, tls: str, place: str, gist: str) -> None:
    (said,) = of_listener(files, tls)
    assert said.startswith(place)
    assert gist in said


POOL_FILES = [
    ('ca = "no.pem"', "2: pool.web.tls.ca: DIR/no.pem: ", "no such file"),
    ('crl = "ca.pem"', "2: pool.web.tls.crl: DIR/ca.pem: ", "no revocation list"),
    ('cert = "client.crt"\nkey = "a.key"', "2: pool.web.tls.cert: DIR/client.crt: ", "does not belong to"),
    ('cert = "client.crt"\nkey = "no.key"', "3: pool.web.tls.key: DIR/no.key: ", "no such file"),
    ('cert = "two"', "2: pool.web.tls.cert: DIR/two: ", "holds 2 certificates, we can show only one; name its file"),
    ('cert = "late-client.crt"', "2: warning: pool.web.tls.cert: DIR/late-client.crt: ",
     "expired on 2026-05-29 00:00 UTC, 3 days ago"),
    ('cert = "soon-client.crt"', "2: warning: pool.web.tls.cert: DIR/soon-client.crt: ",
     "expires on 2026-06-06 00:00 UTC, in 5 days"),
    ('ca = "ca.pem"\ncrl = "late.crl"', "3: warning: pool.web.tls.crl: DIR/late.crl: ", "out of date"),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "place", "gist"), POOL_FILES)
def test_a_file_of_a_pool(files: Path, tls: str, place: str, gist: str) -> None:
    (said,) = of_pool(files, f"[pool.web.tls]\n{tls}")
    assert said.startswith(place)
    assert gist in said


def test_a_system_without_authorities_verifies_nobody(
    files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    assert of_pool(files, "tls = true") == [
        "1: warning: pool.web.tls: this system has no list of authorities, so no backend can be verified; "
        "name one with ca"
    ]
    assert of_pool(files, '[pool.web.tls]\nca = "ca.pem"') == []


def test_every_problem_of_every_file_comes_at_once(files: Path) -> None:
    tls = 'cert = "no.pem"\ncertificates = ["also-no.pem", "a.crt"]\nclient_ca = "nor.pem"\n'
    site = '[[listener.tls.site]]\nnames = "nobody.test"\n'
    # Which names the missing ones are for nobody knows, so the site may be right.
    assert [said.split(":")[1].strip() for said in of_listener(files, tls, more=site)] == [
        "listener[0].tls.cert",
        "listener[0].tls.certificates[0]",
        "listener[0].tls.client_ca",
    ]


def test_dates_are_judged_by_the_clock_that_is_handed_in(files: Path) -> None:
    text = LISTENER.replace("[[listener.tls.site]]", f'[listener.tls]\ncert = "{files}/old.crt"')
    assert loads(text, "f").problems == ()
    assert len(loads(text, "f", now=NOW.timestamp()).warnings) == 1
    assert loads(text.replace("old", "soon"), "f", now=NOW.timestamp() - 20 * 86400).warnings != ()
    assert loads(text.replace("old", "a"), "f", now=NOW.timestamp()).problems == ()


def test_without_reading_files_the_rest_is_judged_all_the_same(files: Path) -> None:
    text = LISTENER.replace("[[listener.tls.site]]", '[listener.tls]\ncert = "/no.pem"')
    assert loads(text, "f", read_files=False).problems == ()
    assert [p.key for p in loads(text, "f").problems] == ["listener[0].tls.cert"]
    assert len(loads(text.replace("cert", "key"), "f", read_files=False).errors) == 2


def test_a_file_name_of_any_kind_stays_on_one_line(files: Path, tmp_path: Path) -> None:
    (tmp_path / "a\nb.pem").write_text("-----BEGIN X-----\n")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.pem")).write_text("-----BEGIN X-----\n")
    said = of_listener(files, f'certificates = ["{tmp_path}", "/no\\nfile"]')
    assert len(said) == 3
    for one, name in zip(sorted(said), ("?.pem", "a?b.pem", "/no?file"), strict=True):
        assert f"{name}: " in one
        assert one.isprintable()


def test_relative_paths_count_from_the_file(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = LISTENER.replace("[[listener.tls.site]]", '[listener.tls]\ncert = "./a.crt"\nkey = "../x/~/a.key"')
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "f.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    for name in ("conf/f.toml", str(tmp_path / "conf" / "f.toml")):
        configuration = load(name, read_files=False).configuration
        assert configuration is not None
        (listener,) = configuration.listeners
        assert listener.tls is not None
        (certificate,) = listener.tls.certificates
        assert certificate.path == f"{tmp_path}/conf/a.crt"
        # Behind a link ".." may lead elsewhere than the text says, so it is left to the system.
        assert certificate.key == f"{tmp_path}/conf/../x/~/a.key"


# --- keys -----------------------------------------------------------------------------------------------------------

KEYS = [
    ("", "1: listener[0].tls: names no certificate; write cert = \"FILE\" and key = \"FILE\", or certificates = [...]"),
    ("certificates = []", "2: listener[0].tls.certificates: is empty; name at least one certificate, or leave the key "
     "out"),
    ('cert = ""', "2: listener[0].tls.cert: is empty, it must be a path"),
    ("cert = 5", "2: listener[0].tls.cert: is 5, it must be a path"),
    ('cert = "a\\u0000b"', '2: listener[0].tls.cert: is "a\\u0000b"; no path has a NUL in it'),
    (f'cert = "{"x" * 5000}"', "2: listener[0].tls.cert: has 5000 bytes, at most 1024 are allowed"),
    ("certificates = [5]", "2: listener[0].tls.certificates[0]: is 5, it must be a path or a table"),
    ('certificates = [{ key = "a.key" }]', '2: listener[0].tls.certificates[0].cert: is missing; write the PEM file, '
     'as in cert = "/etc/ssl/site.pem"'),
    ('certificate = "a.crt"', '2: listener[0].tls.certificate: unknown key; did you mean "certificates"?'),
    ('cert = "a.crt"\nprofile = "Modern"', '3: listener[0].tls.profile: is "Modern", it must be "modern", '
     '"intermediate" or "old"; did you mean "modern"?'),
    ('cert = "a.crt"\nalpn = []', "3: listener[0].tls.alpn: is empty; leave the key out to have nothing said about "
     "protocols"),
    ('cert = "a.crt"\nalpn = ["h2", ""]', '3: listener[0].tls.alpn[1]: is "", it must be the name of a protocol such '
     'as "h2" or "http/1.1", of 1 to 255 ASCII characters without blanks'),
    ('cert = "a.crt"\nalpn = ["h2", "HTTP/1.1"]',
     '3: listener[0].tls.alpn[1]: is "HTTP/1.1"; this protocol is called "http/1.1" in ALPN'),
    ('cert = "a.crt"\nalpn = ["h2", "h2"]', '3: listener[0].tls.alpn: names "h2" more than once'),
    ('cert = "a.crt"\ntickets = "no"', '3: listener[0].tls.tickets: is "no", it must be true or false (without '
     "quotes)"),
    ('cert = "a.crt"\ndefault_name = "*.a.example"', '3: listener[0].tls.default_name: is "*.a.example", it must be a '
     "single name"),
    ('cert = "a.crt"\ndefault_name = "10.0.0.1"', '3: listener[0].tls.default_name: is "10.0.0.1"; a TLS server name '
     "is never an address"),
    ('cert = "a.crt"\nclient_verify = "optional"', '3: listener[0].tls.client_verify: is "optional", but no client_ca '
     "says which certificates count"),
    ('cert = "a.crt"\nclient_crl = "ca.crl"', "3: listener[0].tls.client_crl: is a list for client certificates, but "
     "there is no client_ca"),
    ('cert = "a.crt"\n[listener.tls.site]\nnames = "a.example"', "3: listener[0].tls.site: is a single table; write "
     "[[listener.tls.site]] with two brackets on each side, once for each site"),
    ('cert = "a.crt"\n[[listener.tls.site]]', '3: listener[0].tls.site[0].names: is missing; a site needs names, as in '
     'names = ["a.example", "*.a.example"]'),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = "*"', '4: listener[0].tls.site[0].names: is "*"; what is for '
     "every name stands in the tls table of the listener itself"),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = "a.example"\nclient_verify = "required"',
     '5: listener[0].tls.site[0].client_verify: is "required", but no client_ca says which certificates count'),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = "a.example"\n[[listener.tls.site]]\nnames = "A.example"',
     '6: listener[0].tls.site[1].names: "a.example" is in the site in line 9 already'),
    ('cert = "a.crt"\n[[listener.tls.site]]\nnames = ["a.example",\n"a.example"]',
     '5: listener[0].tls.site[0].names[1]: "a.example" is in this site already'),
    ('certificates = "b.crt"\nkey = "b.key"',
     '3: listener[0].tls.key: belongs to a certificate; write cert = "FILE" with it'),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "problem"), KEYS)
def test_a_key_of_a_listener(files: Path, tls: str, problem: str) -> None:
    assert of_listener(files, tls) == [problem]


KEY_WARNINGS = [
    ('profile = "old"', f"3: warning: listener[0].tls.profile: {OLD}"),
    ('keylog = "keys"', f"3: warning: listener[0].tls.keylog: {LOUD}"),
    ('unknown_name = "refuse"\ndefault_name = "a.example"',
     '4: warning: listener[0].tls.default_name: has no effect with unknown_name = "refuse"'),
    ('revocation = "soft"', "3: warning: listener[0].tls.revocation: has no effect: there is no client_crl"),
    ('client_ca = "ca.pem"\nclient_verify = "none"',
     '3: warning: listener[0].tls.client_ca: has no effect with client_verify = "none"'),
    ('[[listener.tls.site]]\nnames = "a.example"\nprofile = "old"',
     f"5: warning: listener[0].tls.site[0].profile: {OLD}"),
    ('[[listener.tls.site]]\nnames = "a.example"\nclient_ca = "ca.pem"\nclient_verify = "none"',
     '5: warning: listener[0].tls.site[0].client_ca: has no effect with client_verify = "none"'),
    ('[[listener.tls.site]]\nnames = "a.example"\nclient_ca = "ca.pem"\nrevocation = "soft"',
     "6: warning: listener[0].tls.site[0].revocation: has no effect: there is no client_crl"),
    ("[listener.timeouts]\nclient_hello = 5",
     "4: warning: listener[0].timeouts.client_hello: has no effect: with tls here, tls_handshake is what counts"),
    ('alpn = "h2"\n[[route]]\nalpn = "http/1.1"\npool = "web"',
     "5: warning: route[0].alpn: never matches: no listener of this route has any of these in its alpn"),
    ('unknown_name = "refuse"\n[[route]]\nserver_name = ["a.example", "b.example"]\npool = "web"',
     '5: warning: route[0].server_name[1]: "b.example" never matches: no certificate is for it, and unknown_name is '
     '"refuse"'),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "problem"), KEY_WARNINGS)
def test_what_is_dangerous_or_without_effect(files: Path, tls: str, problem: str) -> None:
    assert of_listener(files, f'cert = "a.crt"\n{tls}') == [problem]


@pytest.mark.parametrize(
    "route",
    [
        # A client without a name we know gets the default certificate, and its name still counts.
        'server_name = "b.example"',
        'server_name = "x.a.example"',
        'alpn = ["x", "h2"]',
    ],
)
def test_a_route_that_may_match_is_not_warned_about(files: Path, route: str) -> None:
    assert of_listener(files, f'cert = "a.crt"\nalpn = "h2"\n[[route]]\npool = "web"\n{route}') == []


def test_a_site_may_agree_on_what_a_route_asks_for(files: Path) -> None:
    site = '[[listener.tls.site]]\nnames = "a.example"\nalpn = "h2"\n'
    assert of_listener(files, f'cert = "a.crt"\n{site}[[route]]\npool = "web"\nalpn = "h2"') == []


def test_names_and_protocols_are_read_where_tls_passes_through() -> None:
    text = LISTENER.partition("[[listener.tls")[0]
    text += '[[route]]\npool = "web"\nserver_name = "a.example"\n[[route]]\npool = "web"\nalpn = "h2"\n'
    assert loads(text + "[listener.timeouts]\nclient_hello = 3\n", "f").problems == ()


POOL_KEYS = [
    ("tls = 5", "1: pool.web.tls: is 5, it must be true, false or a table"),
    ("[pool.web.tls]\nverfy = true", '2: pool.web.tls.verfy: unknown key; did you mean "verify"?'),
    ('[pool.web.tls]\nkey = "a.key"', '2: pool.web.tls.key: belongs to a certificate; write cert = "FILE" with it'),
    ('[pool.web.tls]\nserver_name = "a.example:443"', '2: pool.web.tls.server_name: is "a.example:443", it must be a '
     'name such as "a.example", without port or scheme'),
    ("[pool.web.tls]\nverify = false", f"2: warning: pool.web.tls.verify: {UNVERIFIED}"),
    ('[pool.web.tls]\nprofile = "old"', '2: warning: pool.web.tls.profile: is "old", which lets in what is known to be '
     "weak; better renew the backends"),
    ('[pool.web.tls]\nrevocation = "soft"', "2: warning: pool.web.tls.revocation: has no effect: there is no crl"),
    ("tls = false\ncheck = { tls = true }", "2: warning: pool.web.check.tls: has no effect: the pool itself speaks no "
     "TLS"),
]  # fmt: skip


@pytest.mark.parametrize(("tls", "problem"), POOL_KEYS)
def test_a_key_of_a_pool(files: Path, tls: str, problem: str) -> None:
    assert of_pool(files, tls) == [problem]


def test_what_cannot_be_verified_is_not_read_for_nothing(files: Path) -> None:
    said = of_pool(files, '[pool.web.tls]\nverify = false\nca = "ca.pem"')
    assert said[1:] == ["3: warning: pool.web.tls.ca: has no effect with verify = false"]


def test_a_unix_socket_needs_a_name_to_verify(files: Path) -> None:
    backend = '"unix:/run/app.sock"'
    assert of_pool(files, "tls = true", backend) == [
        '0: pool.web.backends[0]: unix:/run/app.sock has no host name to verify; write tls = { server_name = "NAME" }'
    ]
    assert of_pool(files, '[pool.web.tls]\nserver_name = "a.example"', backend) == []
    assert len(of_pool(files, "[pool.web.tls]\nverify = false", backend)) == 1
    assert of_pool(files, "tls = true", '"10.0.0.1:443", "[::1]:443"') == []


@pytest.mark.parametrize("value", ["true", '"a.pem"'])
def test_a_listener_s_tls_is_a_table(value: str) -> None:
    text = LISTENER.partition("[pool")[0] + f"tls = {value}\n" + '[pool.web]\nbackends = "10.0.0.1:80"\n'
    (problem,) = loads(text, "f").problems
    assert str(problem) == (
        f"f:5: listener[0].tls: is {value}, it must be a table; write [listener.tls], and in it the certificate"
    )


# --- the quick form -------------------------------------------------------------------------------------------------


def test_the_quick_form_ends_tls(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    loaded = quick(
        ["tls://127.0.0.1:8443", "tcp://127.0.0.1:8080"],
        ["127.0.0.1:9001"],
        None,
        certs=["a.crt", str(files / "both.pem")],
        keys=["a.key"],
        now=NOW.timestamp(),
    )
    assert loaded.problems == ()
    assert loaded.configuration is not None
    encrypted, plain = loaded.configuration.listeners
    assert (encrypted.name, plain.name, plain.tls) == ("tls1", "tcp2", None)
    assert encrypted.tls == model_tls.TlsSettings(
        (
            model_tls.CertificateSettings(f"{files}/a.crt", f"{files}/a.key"),
            model_tls.CertificateSettings(f"{files}/both.pem"),
        )
    )


def test_the_quick_form_speaks_https_on_both_sides(files: Path) -> None:
    certs = [str(files / "both.pem")]
    loaded = quick(["https://127.0.0.1:8443"], ["https://app.example:443"], None, certs=certs, now=NOW.timestamp())
    assert loaded.problems == ()
    assert loaded.configuration is not None
    (listener,) = loaded.configuration.listeners
    assert (listener.name, listener.protocol) == ("https", "http")
    assert listener.tls is not None
    assert listener.tls.policy.alpn == ("http/1.1",)
    assert loaded.configuration.pools[0].tls == model_tls.BackendTlsSettings()


def test_the_quick_form_speaks_tls_to_backends(files: Path) -> None:
    loaded = quick(["tcp://127.0.0.1:8080"], ["tls://app.example:443", "TLS://10.0.0.1:443/"], None)
    assert loaded.problems == ()
    assert loaded.configuration is not None
    (pool,) = loaded.configuration.pools
    assert pool.tls == model_tls.BackendTlsSettings()
    assert [str(backend.address) for backend in pool.backends] == ["app.example:443", "10.0.0.1:443"]
    plain = quick(["127.0.0.1:8080"], ["127.0.0.1:1"], None).configuration
    assert plain is not None
    assert plain.pools[0].tls is None


@pytest.mark.parametrize(
    ("listens", "backends", "certs", "keys", "problems"),
    [
        (["tls://127.0.0.1:8443"], ["10.0.0.1:1"], [], [], [
            "--cert: is missing; tls://127.0.0.1:8443 needs a certificate, as in --cert site.pem --key site.key",
        ]),
        (["tls://127.0.0.1:8443"], ["10.0.0.1:1"], [], ["a.key"], [
            "--cert: is missing; tls://127.0.0.1:8443 needs a certificate, as in --cert site.pem --key site.key",
        ]),
        (["tcp://127.0.0.1:8443"], ["10.0.0.1:1"], ["a.crt"], [], [
            "--cert: has no use: no listener speaks TLS; write --listen tls://127.0.0.1:8443",
        ]),
        (["http://127.0.0.1:8443"], ["10.0.0.1:1"], [], ["a.key"], [
            "--key: has no use: no listener speaks TLS; write --listen https://127.0.0.1:8443",
        ]),
        (["tls://127.0.0.1:8443"], ["10.0.0.1:1"], ["DIR/a.crt"], ["DIR/a.key", "b.key"], [
            "--key: is written 2 times, --cert 1: each key belongs to the certificate of the same place",
        ]),
        (["tcp://127.0.0.1:8443"], ["10.0.0.1:1", "tls://10.0.0.2:1"], [], [], [
            "--backend: some are written with tls:// and some without; the quick form speaks to all of them in one "
            "way",
        ]),
        (["tcp://127.0.0.1:8443"], ["tls://unix:/run/x"], [], [], [
            '--backend: unix:/run/x has no host name to verify; write tls = { server_name = "NAME" }',
        ]),
        (["tls://127.0.0.1:1", "tls://127.0.0.1:2"], ["10.0.0.1:1"], ["DIR/no.pem"], [], [
            "--cert: DIR/no.pem: there is no such file",
        ]),
        (["tls://127.0.0.1:1"], ["10.0.0.1:1"], ["DIR/a.crt"], ["DIR/no.key"], [
            "--key: DIR/no.key: there is no such file",
        ]),
        (["tls://127.0.0.1:1"], ["10.0.0.1:1"], [""], [], ["--cert: is empty, it must be a path"]),
        (["tls://127.0.0.1:1"], ["10.0.0.1:1"], ["\udcff"], [], [r"--cert: '\udcff' is not UTF-8"]),
    ],
)  # fmt: skip
def test_mistakes_in_the_quick_form(
    files: Path, listens: list[str], backends: list[str], certs: list[str], keys: list[str], problems: list[str]
) -> None:
    here = [word.replace("DIR", str(files)) for word in certs]
    beside = [word.replace("DIR", str(files)) for word in keys]
    loaded = quick(listens, backends, None, certs=here, keys=beside, now=NOW.timestamp())
    assert [str(problem).replace(str(files), "DIR") for problem in loaded.problems] == problems
    assert loaded.configuration is None
