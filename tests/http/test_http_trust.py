"""The one client address: the walk over what trusted peers say, and what of it goes to backends (X1, X3)."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.addresses import NetworkSet
from lbproxy.http.messages import Field
from lbproxy.http.trust import MOST_BYTES, MOST_ENTRIES, Origin, forwarded_line, walk

TRUSTED = NetworkSet(["10.0.0.0/8", "fd00::/8"])
PROXY = "10.0.0.1"
STRANGER = "203.0.113.9"


def field(name: str, value: bytes) -> Field:
    return name.lower().encode(), value, b"%b: %b\r\n" % (name.encode(), value)


def listed(*lines: bytes) -> list[Field]:
    return [field("X-Forwarded-For", line) for line in lines]


def told(origin: Origin) -> tuple[str, bytes]:
    return origin.client_ip, origin.forwarded_for


@pytest.mark.parametrize(
    ("peer", "lines", "client_ip", "sent"),
    [
        # The table of what users are promised.
        (STRANGER, [b"1.2.3.4"], STRANGER, b"203.0.113.9"),
        (PROXY, [b"1.2.3.4, 198.51.100.7"], "198.51.100.7", b"1.2.3.4, 198.51.100.7, 10.0.0.1"),
        (PROXY, [b"198.51.100.7:999, 10.0.0.2"], "198.51.100.7", b"198.51.100.7, 10.0.0.2, 10.0.0.1"),
        (PROXY, [b"10.0.0.3, 10.0.0.2"], "10.0.0.3", b"10.0.0.3, 10.0.0.2, 10.0.0.1"),
        (PROXY, [b"198.51.100.7, junk"], PROXY, b"10.0.0.1"),
        (PROXY, [], PROXY, b"10.0.0.1"),
        # Several lines are one list (X1).
        (PROXY, [b"1.2.3.4", b"198.51.100.7"], "198.51.100.7", b"1.2.3.4, 198.51.100.7, 10.0.0.1"),
        (PROXY, [b"1.2.3.4", b"5.6.7.8", b"10.0.0.2"], "5.6.7.8", b"1.2.3.4, 5.6.7.8, 10.0.0.2, 10.0.0.1"),
        # Blanks, or none.
        (PROXY, [b"\t1.2.3.4 ,198.51.100.7\t"], "198.51.100.7", b"1.2.3.4, 198.51.100.7, 10.0.0.1"),
        # Junk behind a trusted address ends the walk there; left of the client it is left out.
        (PROXY, [b"198.51.100.7, junk, 10.0.0.2"], "10.0.0.2", b"10.0.0.2, 10.0.0.1"),
        (PROXY, [b"1.1.1.1, junk, 2.2.2.2, 198.51.100.7"], "198.51.100.7", b"1.1.1.1, 2.2.2.2, 198.51.100.7, 10.0.0.1"),
        # An empty entry is no address: somebody did not know its peer.
        (PROXY, [b"198.51.100.7,"], PROXY, b"10.0.0.1"),
        (PROXY, [b""], PROXY, b"10.0.0.1"),
        # Forms of addresses (X3, X4).
        (PROXY, [b"2001:DB8:0::1"], "2001:db8::1", b"2001:db8::1, 10.0.0.1"),
        (PROXY, [b"[2001:db8::1]"], "2001:db8::1", b"2001:db8::1, 10.0.0.1"),
        (PROXY, [b"[2001:db8::1]:65535, fd00::1"], "2001:db8::1", b"2001:db8::1, fd00::1, 10.0.0.1"),
        (PROXY, [b"[0000:0000:0000:0000:0000:ffff:198.051.100.007]:65535"], PROXY, b"10.0.0.1"),
        (PROXY, [b"[0000:0000:0000:0000:0000:ffff:198.151.100.207]:65535"], "198.151.100.207",
         b"198.151.100.207, 10.0.0.1"),
        (PROXY, [b"::ffff:198.51.100.7"], "198.51.100.7", b"198.51.100.7, 10.0.0.1"),
        (PROXY, [b"198.51.100.7, [::ffff:10.0.0.2]:1"], "198.51.100.7", b"198.51.100.7, 10.0.0.2, 10.0.0.1"),
        # A UNIX socket's peer is trusted and has no address.
        ("", [b"1.2.3.4, 198.51.100.7, 10.0.0.2"], "198.51.100.7", b"1.2.3.4, 198.51.100.7, 10.0.0.2"),
        ("", [b"junk"], "", b""),
        ("", [], "", b""),
        # A zone is nobody else's business.
        ("fe80::1%eth0", [], "fe80::1%eth0", b"fe80::1"),
    ],
)  # fmt: skip
def test_the_right_most_stranger_is_the_client(peer: str, lines: list[bytes], client_ip: str, sent: bytes) -> None:
    assert told(walk(peer, listed(*lines), TRUSTED)) == (client_ip, sent)


@pytest.mark.parametrize(
    "entry",
    [
        b"junk", b"unknown", b"_hidden", b"<script>", b"1.2.3.4:", b"1.2.3.4:65536", b"1.2.3.4:123456", b"1.2.3.4:-1",
        b"1.2.3.4:_port", b"127.1", b"0177.0.0.1", b"01.2.3.4", b"2130706433", b"0x7f.1", b"1.2.3.4.5", b"1.2.3.256",
        b"1.2.3.4/32", b"fe80::1%eth0", b"fe80::1%25eth0", b"[fe80::1%1]:80", b"[1.2.3.4]", b"[1.2.3.4]:80", b"[::1",
        b"::1]", b"[::1]80", b"[]:80", b":80", b":::", b"::1:80:", b"1::2::3", b"12345::", b"a" * 4000, b"1.2.3.4\0",
        b"1.2.3.4\r\nX: y", b"1.2.3.4\x0b", b"\xa01.2.3.4", "\u0661.2.3.4".encode(), b"\xff", b'"1.2.3.4"',
        b"1.2.3.4;a", b"1.2.3.4 5.6.7.8", b"localhost",
    ],
)  # fmt: skip
def test_what_is_no_address_is_nobody(entry: bytes) -> None:
    assert told(walk(PROXY, listed(entry), TRUSTED)) == (PROXY, b"10.0.0.1")
    assert told(walk(PROXY, listed(b"%b, 198.51.100.7" % entry), TRUSTED)) == (
        "198.51.100.7",
        b"198.51.100.7, 10.0.0.1",
    )


def test_a_list_beyond_the_limits_is_dropped_whole() -> None:
    most = b", ".join([b"1.2.3.4"] * (MOST_ENTRIES - 1) + [b"198.51.100.7"])
    assert walk(PROXY, listed(most), TRUSTED).client_ip == "198.51.100.7"
    assert told(walk(PROXY, listed(b"1.2.3.4, " + most), TRUSTED)) == (PROXY, b"10.0.0.1")
    assert told(walk(PROXY, listed(b"1.2.3.4", most), TRUSTED)) == (PROXY, b"10.0.0.1")
    assert told(walk(PROXY, listed(*[b"1.2.3.4"] * (MOST_ENTRIES + 1)), TRUSTED)) == (PROXY, b"10.0.0.1")
    wide = b"198.51.100.7".rjust(MOST_BYTES)
    assert walk(PROXY, listed(wide), TRUSTED).client_ip == "198.51.100.7"
    assert told(walk(PROXY, listed(b" " + wide), TRUSTED)) == (PROXY, b"10.0.0.1")
    assert told(walk(PROXY, listed(wide[4:], b"1.2.3.4"), TRUSTED)) == (PROXY, b"10.0.0.1")


def test_forwarded_beyond_the_limits_is_dropped_whole() -> None:
    most = b", ".join([b"for=1.2.3.4"] * (MOST_ENTRIES - 1) + [b"for=198.51.100.7"])
    assert walk(PROXY, [field("Forwarded", most)], TRUSTED).client_ip == "198.51.100.7"
    assert told(walk(PROXY, [field("Forwarded", b"for=1.2.3.4, " + most)], TRUSTED)) == (PROXY, b"10.0.0.1")
    wide = b"for=198.51.100.7".rjust(MOST_BYTES + 1)
    assert told(walk(PROXY, [field("Forwarded", wide)], TRUSTED)) == (PROXY, b"10.0.0.1")


def test_nobody_is_trusted_by_default_but_the_peer_of_a_unix_socket() -> None:
    for none in (None, NetworkSet([])):
        assert told(walk(PROXY, listed(b"1.2.3.4"), none)) == (PROXY, b"10.0.0.1")
        assert told(walk("", listed(b"1.2.3.4, 5.6.7.8"), none)) == ("5.6.7.8", b"1.2.3.4, 5.6.7.8")


EVERYTHING = [
    *listed(b"1.2.3.4"),
    field("Forwarded", b"for=1.2.3.4;proto=https;host=b.example"),
    field("X-Forwarded-Proto", b"https"),
    field("X-Forwarded-Host", b"b.example"),
    field("X-Forwarded-Port", b"443"),
    field("X-Forwarded-Prefix", b"/p"),
    field("X-Forwarded-By", b"me"),
    field("X-Real-IP", b"1.2.3.4"),
    field("True-Client-IP", b"1.2.3.4"),
    field("X_Forwarded_For", b"1.2.3.4"),
]


def test_nothing_that_a_stranger_says_is_believed() -> None:
    origin = walk(STRANGER, EVERYTHING, TRUSTED)
    assert told(origin) == (STRANGER, b"203.0.113.9")
    assert (origin.proto, origin.host, origin.port, origin.prefix) == (None, None, None, None)
    assert forwarded_line(origin, STRANGER, b"http", b"a.example") == b'for=203.0.113.9;proto=http;host="a.example"'


def test_what_a_trusted_peer_says_of_the_request_is_kept() -> None:
    origin = walk(PROXY, EVERYTHING, TRUSTED)
    assert told(origin) == ("1.2.3.4", b"1.2.3.4, 10.0.0.1")
    assert (origin.proto, origin.host, origin.port, origin.prefix) == (b"https", b"b.example", b"443", b"/p")
    assert forwarded_line(origin, PROXY, b"http", b"a.example") == (
        b'for=1.2.3.4;proto=https;host="b.example", for=10.0.0.1;proto=http;host="a.example"'
    )


def test_other_names_for_the_client_say_nothing() -> None:
    others = [one for one in EVERYTHING if one[0] in (b"x-real-ip", b"true-client-ip", b"x_forwarded_for")]
    assert len(others) == 3
    assert told(walk(PROXY, others, TRUSTED)) == (PROXY, b"10.0.0.1")


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("Proto", b"http", b"http"),
        ("Proto", b"HTTPS", b"https"),
        ("Proto", b"wss", b"wss"),
        ("Proto", b"https,http", None),
        ("Proto", b"javascript", None),
        ("Proto", b"https ", None),
        ("Proto", b"https\n", None),
        ("Host", b"A.Example:8443", b"a.example:8443"),
        ("Host", b"[2001:DB8::1]:80", b"[2001:db8::1]:80"),
        ("Host", b"a.example, b.example", None),
        ("Host", b"a.example/x", None),
        ("Host", b"u@a.example", None),
        ("Host", b"a.example:99999", None),
        ("Host", b'a"><script>', None),
        ("Host", b"a" * 256, None),
        ("Port", b"443", b"443"),
        ("Port", b"0", None),
        ("Port", b"65536", None),
        ("Port", b"+80", None),
        ("Port", b"8_0", None),
        ("Port", b"443\n", None),
        ("Port", "\u0664".encode(), None),
        ("Prefix", b"/", b"/"),
        ("Prefix", b"/a/b%20c/", b"/a/b%20c/"),
        ("Prefix", b"/a;v=1/.well-known", b"/a;v=1/.well-known"),
        ("Prefix", b"a", None),
        ("Prefix", b"//evil.example", None),
        ("Prefix", b"/a//b", None),
        ("Prefix", b"/\\evil.example", None),
        ("Prefix", b"/a/../b", None),
        ("Prefix", b"/..", None),
        ("Prefix", b"/..;x/a", None),
        ("Prefix", b"/%2e%2E/a", None),
        ("Prefix", b"/a%2fb", None),
        ("Prefix", b"/a%5Cb", None),
        ("Prefix", b"/a%00", None),
        ("Prefix", b"/a%252e", None),
        ("Prefix", b"/a%zz", None),
        ("Prefix", b"/a?b", None),
        ("Prefix", b"/a#b", None),
        ("Prefix", b"/a, /b", None),
        ("Prefix", b"/a\n", None),
        ("Prefix", b"/\xc3\xa9", None),
    ],
)
def test_a_value_is_kept_if_it_is_well_formed(name: str, value: bytes, kept: bytes | None) -> None:
    for fields in ([field(f"X-Forwarded-{name}", value)], [*listed(b"1.2.3.4"), field(f"X-Forwarded-{name}", value)]):
        assert getattr(walk(PROXY, fields, TRUSTED), name.lower()) == kept
    assert getattr(walk(STRANGER, fields, TRUSTED), name.lower()) is None


@pytest.mark.parametrize("name", ["Proto", "Host", "Port", "Prefix"])
def test_a_single_value_that_comes_twice_says_nothing(name: str) -> None:
    value = {"Proto": b"https", "Host": b"a", "Port": b"1", "Prefix": b"/a"}[name]
    again = [field(f"X-Forwarded-{name}", value)] * 2
    for fields in (again, [*again, *again[:1]]):
        assert getattr(walk(PROXY, fields, TRUSTED), name.lower()) is None


def test_forwarded_is_walked_where_there_is_no_list() -> None:
    said = field(
        "Forwarded", b'for=1.1.1.1, for="[2001:db8::1]:80";proto=HTTPS;host=b.example, for=10.0.0.2;proto=http'
    )
    origin = walk(PROXY, [said], TRUSTED)
    assert told(origin) == ("2001:db8::1", b"1.1.1.1, 2001:db8::1, 10.0.0.2, 10.0.0.1")
    assert (origin.proto, origin.host) == (b"https", b"b.example")
    assert forwarded_line(origin, PROXY, b"http", b"a") == (
        b'for=1.1.1.1, for="[2001:db8::1]";proto=https;host="b.example", for=10.0.0.2;proto=http, '
        b'for=10.0.0.1;proto=http;host="a"'
    )
    assert walk(PROXY, [said, field("X-Forwarded-Proto", b"http")], TRUSTED).proto == b"http"
    assert walk(PROXY, [said, field("X-Forwarded-Host", b"/")], TRUSTED).host is None
    assert walk(PROXY, [said, *listed(b"5.6.7.8")], TRUSTED).client_ip == "5.6.7.8"
    assert walk(PROXY, [said, *listed(b"")], TRUSTED).client_ip == PROXY


@pytest.mark.parametrize("node", [b"unknown", b"_hidden", b'"_x:80"', b"", b'"[fe80::1%25eth0]"', b"a.example"])
def test_a_hidden_node_ends_the_walk(node: bytes) -> None:
    said = field("Forwarded", b"for=1.2.3.4, for=%b, for=10.0.0.2" % node)
    assert told(walk(PROXY, [said], TRUSTED)) == ("10.0.0.2", b"10.0.0.2, 10.0.0.1")
    said = field("Forwarded", b"for=1.2.3.4, for=%b, for=198.51.100.7" % node)
    assert told(walk(PROXY, [said], TRUSTED)) == ("198.51.100.7", b"1.2.3.4, 198.51.100.7, 10.0.0.1")


# An oracle that is as plain as can be, with the system's own reading of addresses.


def plain_address(entry: bytes) -> str | None:
    text = entry.decode("latin-1").strip(" \t")
    host, colon, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]") and ":" in text:
        text = text[1:-1]
    elif colon and ((host.count(".") == 3 and ":" not in host) or (host.startswith("[") and host.endswith("]"))):
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
            return None
        text = host[1:-1] if host.startswith("[") and ":" in host else host
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return str(ip_address(packed[12:] if packed[:12] == bytes(10) + b"\xff\xff" else packed))
    return None


def plain_walk(peer: str, lines: list[bytes]) -> tuple[str, list[str]]:
    if peer not in ("", PROXY) or not lines:
        return peer, [peer] * bool(peer)
    entries = [plain_address(entry) for entry in b",".join(lines).split(b",")]
    client = peer
    passed: list[str] = []
    while entries:
        entry = entries.pop()
        if entry is None:
            break
        client = entry
        passed.insert(0, entry)
        if not entry.startswith(("10.", "fd")):
            passed[:0] = [other for other in entries if other]
            break
    return client, passed + [peer] * bool(peer)


ADDRESSES = st.sampled_from(
    ["1.2.3.4", "198.51.100.7", "2001:db8::1", "10.0.0.2", "10.9.9.9", "fd00::1", "::ffff:10.0.0.3"]
)
FORMS = st.sampled_from(["{}", "{}", "{}:80", "[{}]", "[{}]:443", "{}%1", "{}:", " {}\t", "{}:99999", "0{}"])
ENTRIES = st.one_of(
    st.builds(lambda form, address: form.format(address).encode(), FORMS, ADDRESSES),
    st.sampled_from([b"", b" ", b"junk", b"unknown", b"::", b"1.2.3", b"10.1", b"\xff"]),
    st.text("0123456789abcf.:[]% ", max_size=12).map(str.encode),
)
LINES = st.lists(st.lists(ENTRIES, min_size=1, max_size=5).map(b",".join), max_size=3)


@given(st.sampled_from(["", PROXY, STRANGER]), LINES)
@settings(max_examples=600, deadline=None)
def test_the_walk_is_that_of_a_plain_one(peer: str, lines: list[bytes]) -> None:
    client, passed = plain_walk(peer, lines)
    assert told(walk(peer, listed(*lines), TRUSTED)) == (client, ", ".join(passed).encode())


@given(st.binary(max_size=60), st.sampled_from([b"", b", 10.0.0.2", b", 10.0.0.2, fd00::1"]))
@settings(max_examples=300, deadline=None)
def test_no_client_can_be_somebody_else_by_what_it_sends(lie: bytes, behind: bytes) -> None:
    for lines in ([lie + b", 198.51.100.7" + behind], [lie, b"198.51.100.7" + behind]):
        origin = walk(PROXY, listed(*lines), TRUSTED)
        assert origin.client_ip == "198.51.100.7" or len(lie.split(b",")) > 28
        assert not set(origin.forwarded_for) - set(b"0123456789abcdef:., ")


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([b'"', b"\\", b"for=", b",", b";", b"6.6.6.6", b"host=", b" ", b"10.0.0.9"])).map(
            b"".join
        ),
    ),
    st.sampled_from([b"", b', for="10.0.0.2"', b', for=10.0.0.2;host="a,b";by=x, FOR="[fd00::1]:1"']),
)
@settings(max_examples=600, deadline=None)
def test_no_client_can_be_somebody_else_by_an_open_quote(lie: bytes, behind: bytes) -> None:
    for lines in ([lie + b', for="198.51.100.7";proto=https' + behind], [lie, b"for=198.51.100.7" + behind]):
        origin = walk(PROXY, [field("Forwarded", line) for line in lines], TRUSTED)
        assert origin.client_ip == "198.51.100.7" or lie.count(b",") > 25
        assert b"\n" not in forwarded_line(origin, PROXY, b"http", b"a")
