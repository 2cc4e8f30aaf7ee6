"""Which pool serves a TCP session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.addresses import Address, NetworkSet
from lbproxy.model import (
    BackendSettings,
    Configuration,
    ListenerSettings,
    PoolSettings,
    RouteSettings,
    Timeouts,
    TimeoutSettings,
)
from lbproxy.routing import ListenerRoutes, Route, RoutingTable

BACKENDS = (BackendSettings("one", Address("ip", "192.0.2.10", 80)),)
POOLS = tuple(PoolSettings(name, BACKENDS) for name in ("main", "red", "blue"))


def listener(name: str = "web", pool: str | None = "main", line: int = 7) -> ListenerSettings:
    return ListenerSettings(name, (Address("ip", "127.0.0.1", 80),), pool=pool, line=line)


def routes(*settings: RouteSettings, pool: str | None = "main") -> ListenerRoutes:
    return RoutingTable(Configuration((listener(pool=pool),), POOLS, settings)).for_listener("web")


def pool_of(
    table: ListenerRoutes, client: str = "192.0.2.1", server_name: str | None = None, alpn: Sequence[str] = ()
) -> str | None:
    route = table.find(client, server_name, alpn)
    return None if route is None else route.pool


def test_a_listener_with_its_pool_alone_answers_without_asking() -> None:
    table = routes()
    assert table.only == Route("main", "", 7, 5, Timeouts())
    assert table.find("192.0.2.1", None) is table.only
    assert table.find("", "a.example") is table.only


def test_a_listener_without_pool_and_routes_serves_nobody() -> None:
    table = routes(pool=None)
    assert table.only is None
    assert table.find("192.0.2.1", None) is None


def test_the_first_route_that_matches_wins_and_the_listeners_pool_is_the_last() -> None:
    table = routes(
        RouteSettings("red", clients=NetworkSet(["10.1.0.0/16"])),
        RouteSettings("blue", clients=NetworkSet(["10.0.0.0/8", "2001:db8::/32"])),
    )
    assert table.only is None
    assert pool_of(table, "10.1.2.3") == "red"
    assert pool_of(table, "10.2.2.3") == "blue"
    assert pool_of(table, "2001:db8::1") == "blue"
    assert pool_of(table, "192.0.2.1") == "main"


def test_without_a_last_resort_other_clients_have_no_route() -> None:
    table = routes(RouteSettings("red", clients=NetworkSet(["10.0.0.0/8"])), pool=None)
    assert pool_of(table, "10.0.0.1") == "red"
    assert pool_of(table, "192.0.2.1") is None


def test_a_route_without_conditions_is_the_end_of_the_list() -> None:
    table = routes(
        RouteSettings("red", name="all", line=3, priority=0), RouteSettings("blue", clients=NetworkSet(["10.0.0.0/8"]))
    )
    assert table.only == Route("red", "all", 3, 0, Timeouts())
    behind = routes(RouteSettings("blue", clients=NetworkSet(["10.0.0.0/8"])), RouteSettings("red"))
    assert behind.only is None
    assert pool_of(behind, "10.0.0.1") == "blue"
    assert pool_of(behind, "192.0.2.1") == "red"


def test_a_route_holds_on_the_listeners_it_names() -> None:
    configuration = Configuration(
        (listener("web"), listener("mail", pool=None), listener("both")),
        POOLS,
        (RouteSettings("red", listeners=("mail", "both")), RouteSettings("blue")),
    )
    table = RoutingTable(configuration)
    assert [pool_of(table.for_listener(name)) for name in ("web", "mail", "both")] == ["blue", "red", "red"]
    with pytest.raises(KeyError):
        table.for_listener("other")


@pytest.mark.parametrize(
    ("pattern", "server_name", "matches"),
    [
        ("a.example", "a.example", True),
        ("A.Example.", "a.example", True),
        ("a.example", "b.a.example", False),
        ("a.example", "example", False),
        ("a.example", None, False),
        ("a.example", "", False),
        ("*.example", "a.example", True),
        ("*.EXAMPLE", "a.example", True),
        ("*.example", "example", False),
        ("*.example", "a.b.example", False),
        ("*.b.example", "a.b.example", True),
        ("*.example", ".example", False),
        ("*.example", "*.example", True),
        ("*.example", "aexample", False),
        ("*.example", None, False),
        ("*.example", "", False),
    ],
)
def test_a_name_matches_exactly_and_a_star_is_exactly_one_label(
    pattern: str, server_name: str | None, matches: bool
) -> None:
    table = routes(RouteSettings("red", server_names=("other.test", pattern)))
    assert pool_of(table, server_name=server_name) == ("red" if matches else "main")


def test_one_protocol_of_the_route_s_is_enough_and_their_case_counts() -> None:
    table = routes(RouteSettings("red", alpn=("h2", "smtp")))
    assert pool_of(table, alpn=("h2", "http/1.1")) == "red"
    assert pool_of(table, alpn=["x", "smtp"]) == "red"
    assert pool_of(table, alpn=("H2", "http/1.1")) == "main"
    assert pool_of(table) == "main"


def test_a_listener_knows_whether_anybody_asks_for_names_or_protocols() -> None:
    assert not routes().by_name
    assert not routes(RouteSettings("red", clients=NetworkSet(["10.0.0.0/8"]))).by_name
    assert routes(RouteSettings("red", server_names=("a.example",))).by_name
    assert routes(RouteSettings("red", server_names=("*.example",))).by_name
    assert routes(RouteSettings("red", clients=NetworkSet(["10.0.0.0/8"]), alpn=("h2",))).by_name
    # Nobody gets past the route without conditions, so what stands behind it makes no difference.
    assert not routes(RouteSettings("blue"), RouteSettings("red", server_names=("a.example",))).by_name
    assert not routes(RouteSettings("red", listeners=("mail",), server_names=("a.example",))).by_name


def test_all_conditions_of_a_route_must_hold() -> None:
    clients = NetworkSet(["10.0.0.0/8"])
    table = routes(RouteSettings("red", clients=clients, server_names=("a.example",), alpn=("h2",)))
    assert pool_of(table, "10.0.0.1", "a.example", ("h2",)) == "red"
    assert pool_of(table, "10.0.0.1", "b.example", ("h2",)) == "main"
    assert pool_of(table, "10.0.0.1", None, ("h2",)) == "main"
    assert pool_of(table, "10.0.0.1", "a.example", ("x",)) == "main"
    assert pool_of(table, "192.0.2.1", "a.example", ("h2",)) == "main"


def test_a_client_without_an_address_is_in_no_network_and_an_empty_set_holds_nobody() -> None:
    table = routes(RouteSettings("red", clients=NetworkSet(["0.0.0.0/0", "::/0"])))
    assert pool_of(table, "") == "main"
    assert pool_of(table, "192.0.2.1") == "red"
    assert pool_of(routes(RouteSettings("red", clients=NetworkSet([])))) == "main"


def test_timeouts_come_from_the_nearest_level_that_sets_them() -> None:
    names = [field.name for field in fields(TimeoutSettings)]

    def level(number: int) -> TimeoutSettings:
        """A level sets as many of the first fields as its number says."""
        return TimeoutSettings(**{name: float(number) for name in names[:number]})

    configuration = Configuration(
        (replace(listener(pool="red"), timeouts=level(3)),),
        (replace(POOLS[1], timeouts=level(2)),),
        (RouteSettings("red", clients=NetworkSet(["10.0.0.0/8"]), timeouts=level(1)),),
        timeouts=level(4),
    )
    table = RoutingTable(configuration).for_listener("web")
    route, fallback = table.find("10.0.0.1", None), table.find("192.0.2.1", None)
    assert route is not None
    assert fallback is not None
    rest = [getattr(Timeouts(), name) for name in names[4:]]
    assert [getattr(route.timeouts, name) for name in names] == [1.0, 2.0, 3.0, 4.0, *rest]
    assert [getattr(fallback.timeouts, name) for name in names] == [2.0, 2.0, 3.0, 4.0, *rest]


def test_a_pool_that_does_not_exist_is_refused_when_the_table_is_built() -> None:
    with pytest.raises(KeyError):
        routes(RouteSettings("green"))


def test_a_route_cannot_be_changed() -> None:
    route = routes().only
    assert route is not None
    with pytest.raises(FrozenInstanceError):
        route.pool = "red"  # type: ignore[misc]


clients = st.sampled_from(["10.0.0.1", "10.1.0.1", "192.0.2.1", "2001:db8::1", ""])
names = st.sampled_from([None, "a.example", "b.example", "a.b.example", "example"])
networks = st.none() | st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "::/0"]), max_size=2).map(NetworkSet)
patterns = st.lists(st.sampled_from(["a.example", "*.example", "*.b.example", "example"]), max_size=2).map(tuple)
protocols = st.lists(st.sampled_from(["h2", "http/1.1", "x"]), max_size=2, unique=True).map(tuple)
some_routes = st.lists(
    st.builds(
        RouteSettings,
        st.sampled_from(["red", "blue"]),
        clients=networks,
        server_names=patterns,
        alpn=protocols,
        listeners=st.sampled_from([(), ("web",), ("mail",)]),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=150)
@given(some_routes, st.sampled_from([None, "main"]), clients, names, protocols)
def test_the_table_answers_as_the_rules_read(
    given_routes: list[RouteSettings],
    pool: str | None,
    client: str,
    server_name: str | None,
    alpn: tuple[str, ...],
) -> None:
    def holds(route: RouteSettings) -> bool:
        if route.listeners and "web" not in route.listeners:
            return False
        if route.clients is not None and client not in route.clients:
            return False
        if route.alpn and not set(route.alpn) & set(alpn):
            return False
        wanted = {server_name, "*." + server_name.partition(".")[2] if server_name and "." in server_name else None}
        return not route.server_names or bool(set(route.server_names) & (wanted - {None}))

    expected = next((route.pool for route in given_routes if holds(route)), pool)
    table = routes(*given_routes, pool=pool)
    assert pool_of(table, client, server_name, alpn) == expected
    if not table.by_name:
        assert pool_of(table, client) == expected
    if table.only is not None:
        assert table.only.pool == expected
