"""How addresses are written, and sets of networks beside `ipaddress`."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.addresses import (
    Address,
    AddressError,
    NetworkSet,
    join_host_port,
    parse_address,
    parse_ip,
    parse_network,
)

LONG_PATH = "/" + "p" * 106


@pytest.mark.parametrize(
    ("text", "address", "printed"),
    [
        ("127.0.0.1:80", Address("ip", "127.0.0.1", 80), None),
        ("0.0.0.0:65535", Address("ip", "0.0.0.0", 65535), None),
        ("[::1]:80", Address("ip", "::1", 80), None),
        ("[::]:1", Address("ip", "::", 1), None),
        ("[2001:DB8:0:0::1]:80", Address("ip", "2001:db8::1", 80), "[2001:db8::1]:80"),
        ("[::ffff:192.0.2.1]:80", Address("ip", "192.0.2.1", 80), "192.0.2.1:80"),
        ("localhost:80", Address("name", "localhost", 80), None),
        ("DB-1.Example.com:5432", Address("name", "db-1.example.com", 5432), "db-1.example.com:5432"),
        ("_srv.a_b.example.:80", Address("name", "_srv.a_b.example.", 80), None),
        ("web.1:80", Address("name", "web.1", 80), None),
        ("3com.example:80", Address("name", "3com.example", 80), None),
        ("0xbeef.example:80", Address("name", "0xbeef.example", 80), None),
        ("unix:/run/app.sock", Address("unix", "/run/app.sock"), None),
        ("unix:/run/a b:c", Address("unix", "/run/a b:c"), None),
        ("unix:@name", Address("unix", "@name"), None),
        ("unix:" + LONG_PATH, Address("unix", LONG_PATH), None),
        ("unix:/run/\udcff" + "p" * 101, Address("unix", "/run/\udcff" + "p" * 101), None),
        ("systemd:http", Address("systemd", "http"), None),
    ],
)
def test_an_address_is_read_and_printed(text: str, address: Address, printed: str | None) -> None:
    assert parse_address(text) == address
    assert str(address) == (printed or text)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' has no port; write it as :80"),
        ("127.0.0.1", "'127.0.0.1' has no port; write it as 127.0.0.1:80"),
        ("localhost", "write it as localhost:80"),
        (":80", "'' is neither an IP address nor a host name"),
        ("127.0.0.1:", "the port is '', it must be a number from 1 to 65535"),
        ("127.0.0.1:0", "the port is '0'"),
        ("127.0.0.1:080", "the port is '080'"),
        ("127.0.0.1:65536", "the port is '65536'"),
        ("127.0.0.1:123456", "the port is '123456'"),
        ("127.0.0.1:+80", "the port is '+80'"),
        ("127.0.0.1: 80", "the port is ' 80'"),
        ("127.0.0.1:80\n", "the port is '80\\n'"),
        ("127.0.0.1:8_0", "the port is '8_0'"),
        ("127.0.0.1:\u0668\u0660", "the port is"),
        ("127.0.0.1:http", "the port is 'http'"),
        ("::1", "write an IPv6 address in brackets, as in [::1]:80"),
        ("2001:db8::1:80", "write an IPv6 address in brackets, as in [2001:db8::1]:80"),
        ("a:b:80", "write an IPv6 address in brackets, as in [::1]:80"),
        ("[::1]", "'[::1]' is not an address; IPv6 is written [::1]:80"),
        ("[::1]80", "is not an address"),
        ("[::1:80", "is not an address"),
        ("[127.0.0.1]:80", "is not an address"),
        ("[]:80", "is not an address"),
        ("[fe80::1%eth0]:80", "'fe80::1%eth0' is neither an IP address nor a host name"),
        ("[1::2::3]:80", "'1::2::3' is neither"),
        ("127.0.0.256:80", "'127.0.0.256' is neither"),
        ("010.0.0.1:80", "'010.0.0.1' is neither"),
        ("127.1:80", "'127.1' is neither"),
        ("2130706433:80", "'2130706433' is neither"),
        ("0x7f000001:80", "'0x7f000001' is neither"),
        ("0x7f.1:80", "'0x7f.1' is neither"),
        ("127.0.0.1.:80", "'127.0.0.1.' is neither"),
        ("-a.example:80", "'-a.example' is neither"),
        ("a..example:80", "'a..example' is neither"),
        ("a b:80", "'a b' is neither"),
        ("ä.example:80", "'ä.example' is neither"),
        ("\u212a.example:80", "is neither"),
        ("a" * 64 + ":80", "is neither"),
        ("http://a.example:80", "write an IPv6 address in brackets"),
        (".".join(["a" * 49] * 5 + ["abcd"]) + ":80", "is neither"),
        ("unix:", "needs an absolute path"),
        ("unix:run/app.sock", "needs an absolute path"),
        ("unix:/", "needs an absolute path"),
        ("unix:@", "needs an absolute path"),
        ("unix:/run/\0", "needs an absolute path"),
        ("unix:" + LONG_PATH + "p", "the path has 108 bytes, a UNIX socket allows 107"),
        ("unix:/" + "ä" * 54, "the path has 109 bytes"),
        ("unix:/\ud800", "no file name can have"),
        ("systemd:", "needs the name of a passed socket"),
        ("systemd:a:b", "needs the name of a passed socket"),
        ("systemd:ä", "needs the name of a passed socket"),
        ("systemd:a\n", "needs the name of a passed socket"),
    ],
)
def test_what_is_no_address_is_told_to_the_user(text: str, message: str) -> None:
    with pytest.raises(AddressError) as raised:
        parse_address(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text("0123456789abcdefx:.[]%@/- ", max_size=40),
        st.builds("{}{}".format, st.sampled_from(["unix:", "unix:/", "systemd:", "["]), st.text(max_size=120)),
        # Lone surrogates: what Python makes of a command line that is no UTF-8.
        st.text(st.characters(categories=["Cs"]), max_size=4).map("unix:/{}".format),
    )
)
def test_any_text_is_an_address_that_prints_back_or_an_error(text: str) -> None:
    with contextlib.suppress(AddressError):
        address = parse_address(text)
        assert parse_address(str(address)) == address
    with contextlib.suppress(AddressError):
        parse_network(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::192.0.2.1", "::c000:201"),
        ("192.0.02.1", None),
        ("192.0.2", None),
        ("3221225985", None),
        ("fe80::1%eth0", None),
        (" 192.0.2.1", None),
        ("192.0.2.1\n", None),
        ("1::2::3", None),
        ("a.example", None),
        ("", None),
    ],
)
def test_an_ip_address_has_one_text(text: str, canonical: str | None) -> None:
    assert parse_ip(text) == canonical


def test_host_and_port_are_joined_with_brackets_for_ipv6() -> None:
    assert join_host_port("a.example", 80) == "a.example:80"
    assert join_host_port("::1", 80) == "[::1]:80"


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", None),
    ],
)
def test_a_network_is_read_with_mapped_ones_unwrapped(text: str, network: str | None) -> None:
    if network is None:
        with pytest.raises(AddressError):
            parse_network(text)
    else:
        assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("2001:db8::1/32", "did you mean 2001:db8::/32?"),
        ("10.0.0.0/33", "is not a network"),
        ("10.0.0/8", "is not a network"),
        ("010.0.0.0/8", "is not a network"),
        ("a.example", "is not a network"),
        ("", "is not a network"),
        ("fe80::%eth0/64", "a zone has no meaning"),
    ],
)
def test_what_is_no_network_is_told_to_the_user(text: str, message: str) -> None:
    with pytest.raises(AddressError) as raised:
        parse_network(text)
    assert message in str(raised.value)


def unwrapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


# Few bits vary, so that addresses fall into networks often enough.
fours = (
    st.integers(0, 15)
    .flatmap(lambda high: st.integers(0, 15).map(lambda low: (high << 28) | low))
    .map(ipaddress.IPv4Address)
)
sixes = (
    st.integers(0, 15)
    .flatmap(lambda high: st.integers(0, 15).map(lambda low: (high << 124) | low))
    .map(ipaddress.IPv6Address)
)
mapped = fours.map(lambda ip: ipaddress.IPv6Address((0xFFFF << 32) | int(ip)))
addresses = st.one_of(fours, sixes, mapped)
networks = st.one_of(
    st.tuples(fours, st.integers(0, 32)).map(lambda pair: ipaddress.ip_network(pair, strict=False)),
    st.tuples(sixes, st.integers(0, 128)).map(lambda pair: ipaddress.ip_network(pair, strict=False)),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(networks, max_size=6), addresses)
def test_a_set_holds_what_one_of_its_networks_holds(
    members: list[ipaddress.IPv4Network | ipaddress.IPv6Network],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    networks = NetworkSet(map(str, members))
    assert (str(address) in networks) == any(unwrapped(address) in member for member in members)
    assert NetworkSet(reversed(networks.source)) == networks
    assert hash(NetworkSet(reversed(networks.source))) == hash(networks)


@settings(deadline=None, max_examples=60)
@given(fours, st.integers(0, 32), st.one_of(fours, mapped))
def test_a_network_of_mapped_addresses_is_the_ipv4_network(
    start: ipaddress.IPv4Address, prefix: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    plain = ipaddress.ip_network((start, prefix), strict=False)
    networks = NetworkSet([f"::ffff:{plain.network_address}/{96 + prefix}"])
    assert networks == NetworkSet([str(plain)])
    assert (str(address) in networks) == (unwrapped(address) in plain)


def test_other_things_are_in_no_set() -> None:
    everything = NetworkSet(["0.0.0.0/0", "::/0"])
    for thing in ("", "a.example", "fe80::1%eth0", "/run/app.sock", "127.1", None, 1, ipaddress.ip_address("::1")):
        assert thing not in everything
    assert "192.0.2.1" not in NetworkSet([])


def test_a_set_keeps_what_the_user_wrote() -> None:
    networks = NetworkSet(["10.0.0.0/8", "::ffff:192.0.2.1"])
    assert networks.source == ("10.0.0.0/8", "::ffff:192.0.2.1")
    assert repr(networks) == "NetworkSet(['10.0.0.0/8', '::ffff:192.0.2.1'])"
    assert networks
    assert not NetworkSet([])
    assert networks != ("10.0.0.0/8", "::ffff:192.0.2.1")
    with pytest.raises(AddressError):
        NetworkSet(["10.0.0.0/8", "x"])
