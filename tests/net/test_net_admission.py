"""Who may come in: caps, shares under pressure, lists, and counts that come out even."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy import errors
from lbproxy.addresses import Address, NetworkSet
from lbproxy.model import ListenerSettings
from lbproxy.net.admission import Admission, Total, allowed, client_group

WHERE = (Address("ip", "127.0.0.1", 80),)


def door(total: int = 1000, **rest: Any) -> Admission:
    return Admission(ListenerSettings("web", WHERE, **rest), Total(total))


def enter(admission: Admission, client: str) -> bool:
    """As a listener does it: ask, then count."""
    if admission.admit(client) is not None:
        return False
    admission.entered()
    return True


class TestGroups:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
            ("2001:db8:0:1::", "2001:db8:0:1::2"),
            ("", ""),
        ],
    )
    def test_one_subscriber(self, one: str, other: str) -> None:
        assert client_group(one) == client_group(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [("2001:db8:0:1::1", "2001:db8:0:2::1"), ("192.0.2.1", "192.0.2.2"), ("::1", "127.0.0.1"), ("", "192.0.2.1")],
    )
    def test_two_subscribers(self, one: str, other: str) -> None:
        assert client_group(one) != client_group(other)


class TestCaps:
    def test_a_full_listener_pauses(self) -> None:
        admission = door(max_connections=2)
        assert enter(admission, "192.0.2.1")
        assert not admission.full
        assert enter(admission, "192.0.2.2")
        assert admission.full
        admission.left("192.0.2.1")
        assert not admission.full

    def test_a_full_process_pauses_every_listener(self) -> None:
        total = Total(2)
        one, other = (Admission(ListenerSettings(name, WHERE), total) for name in "ab")
        enter(one, "192.0.2.1")
        enter(other, "192.0.2.1")
        assert one.full
        assert other.full
        assert total.full

    def test_a_cap_per_client(self) -> None:
        admission = door(max_connections_per_client=2)
        assert enter(admission, "192.0.2.1")
        assert enter(admission, "192.0.2.1")
        assert admission.admit("192.0.2.1") is errors.LIMITED
        assert enter(admission, "192.0.2.2")
        admission.left("192.0.2.1")
        assert enter(admission, "192.0.2.1")

    def test_the_cap_of_an_ipv6_client_is_that_of_its_network(self) -> None:
        admission = door(max_connections_per_client=2)
        assert enter(admission, "2001:db8::1")
        assert enter(admission, "2001:db8::2")
        assert admission.admit("2001:db8::3") is errors.LIMITED

    def test_below_the_pressure_nobodys_share_is_looked_at(self) -> None:
        admission = door(max_connections=100)
        assert all(enter(admission, "192.0.2.1") for _ in range(80))
        assert admission.admit("192.0.2.1") is errors.LIMITED

    def test_under_pressure_one_address_has_a_tenth(self) -> None:
        admission = door(max_connections=100)
        for number in range(80):
            assert enter(admission, f"198.51.100.{number}")
        assert sum(enter(admission, "192.0.2.1") for _ in range(20)) == 10

    def test_the_smaller_of_both_maxima_counts(self) -> None:
        admission = door(50, max_connections=1000)
        for number in range(40):
            assert enter(admission, f"198.51.100.{number}")
        assert sum(enter(admission, "192.0.2.1") for _ in range(10)) == 5

    def test_a_tiny_listener_lets_everybody_in_once(self) -> None:
        admission = door(max_connections=5)
        assert all(enter(admission, f"198.51.100.{number}") for number in range(5))

    def test_a_sender_of_proxy_headers_has_no_share(self) -> None:
        admission = door(max_connections=10, proxy_from=NetworkSet(["192.0.2.0/24"]))
        assert all(enter(admission, "192.0.2.1") for _ in range(10))

    def test_other_settings_leave_those_inside_alone(self) -> None:
        admission = door()
        enter(admission, "192.0.2.1")
        admission.configure(ListenerSettings("web", WHERE, deny=NetworkSet(["192.0.2.0/24"]), max_connections=1))
        assert admission.full
        assert admission.admit("192.0.2.1") is errors.DENIED
        admission.left("192.0.2.1")
        assert admission.sessions == 0


class TestLists:
    @pytest.mark.parametrize(
        ("client", "allow", "deny", "verdict"),
        [
            ("192.0.2.1", None, None, True),
            ("192.0.2.1", ["192.0.2.0/24"], None, True),
            ("192.0.3.1", ["192.0.2.0/24"], None, False),
            ("192.0.2.1", None, ["192.0.2.1/32"], False),
            ("192.0.2.2", None, ["192.0.2.1/32"], True),
            ("192.0.2.1", ["192.0.2.0/24"], ["192.0.2.1/32"], False),
            ("2001:db8::1", ["2001:db8::/32"], None, True),
            ("", ["192.0.2.0/24"], None, False),
            ("", None, ["0.0.0.0/0", "::/0"], True),
        ],
    )
    def test_deny_wins_over_allow(self, client: str, allow: Any, deny: Any, verdict: bool) -> None:
        lists = (None if allow is None else NetworkSet(allow), None if deny is None else NetworkSet(deny))
        assert allowed(client, *lists) is verdict

    def test_a_denied_client_is_not_counted(self) -> None:
        admission = door(deny=NetworkSet(["192.0.2.1/32"]), max_connections_per_client=1)
        for _ in range(3):
            assert admission.admit("192.0.2.1") is errors.DENIED
        admission.configure(ListenerSettings("web", WHERE, max_connections_per_client=1))
        assert admission.admit("192.0.2.1") is None

    def test_refusals_are_counted_by_reason(self) -> None:
        admission = door()
        for reason in ("denied", "limited", "denied"):
            admission.refuse(reason)
        assert admission.refused == {"denied": 2, "limited": 1}


CLIENTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:1::1", ""]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CLIENTS), st.booleans(), st.booleans()), max_size=80),
    st.integers(1, 4),
    st.integers(1, 12),
)
def test_who_left_is_forgotten(steps: list[tuple[str, bool, bool]], each: int, most: int) -> None:
    """In any order: counts are never negative, caps hold, and in the end the door knows nobody."""
    total = Total(most)
    admission = Admission(ListenerSettings("web", WHERE, max_connections_per_client=each), total)
    inside: list[str | None] = []
    for client, comes, header in steps:
        if comes and not admission.full:
            if header:  # counted before its header says who it is
                admission.entered()
                inside.append(client if admission.admit(client) is None else None)
            elif enter(admission, client):
                inside.append(client)
        elif inside:
            admission.left(inside.pop())
        assert admission.sessions == total.sessions == len(inside) <= most
        for group in map(client_group, CLIENTS):
            assert sum(one is not None and client_group(one) == group for one in inside) <= each
    while inside:
        admission.left(inside.pop())
    assert (admission.sessions, total.sessions) == (0, 0)
    assert all(admission.admit(client) is None for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1", ""))
