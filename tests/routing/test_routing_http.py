"""Which route serves an HTTP request: the first whose condition holds, whatever way it is looked up."""

from __future__ import annotations

import timeit
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbproxy.addresses import NetworkSet
from lbproxy.http.messages import RequestHead
from lbproxy.model import Configuration, RouteSettings, Timeouts, TimeoutSettings
from lbproxy.model_http import Condition, FixedAnswer, HttpRouteSettings, Mirror, NamedMatch, Split, ValueMatch
from lbproxy.routing import HttpRoute, RoutingTable
from tests.routing.routing_rig import (
    CLIENT,
    POOLS,
    http_routes,
    listener,
    pool_of,
    reference_holds,
    request,
    to,
)

TENS = NetworkSet(["10.0.0.0/8"])


def test_a_listener_with_its_pool_alone_answers_without_asking() -> None:
    table = http_routes()
    only = table.only
    assert only is not None
    assert (only.pool, only.name, only.line, only.number, only.priority) == ("main", "", 7, 0, 5)
    assert (only.timeouts, only.http, only.plan) == (Timeouts(), HttpRouteSettings(), None)
    assert table.find(request(), CLIENT) is only
    assert table.find(request(b"*", b"b.example"), "") is only
    assert table.by_head


def test_a_listener_without_pool_and_routes_serves_nobody() -> None:
    table = http_routes(pool=None)
    assert table.only is None
    assert table.find(request(), CLIENT) is None
    assert not table.find_refused_slash(request(encoded_slash=True), CLIENT)


def test_the_first_route_wins_however_short_its_prefix_and_wide_its_host() -> None:
    wide, narrow = to("red", Condition(paths=("/a/",))), to("blue", Condition(paths=("/a/b/", "/a/b")))
    assert pool_of(http_routes(wide, narrow), request(b"/a/b/c")) == "red"
    assert pool_of(http_routes(narrow, wide), request(b"/a/b/c")) == "blue"
    assert pool_of(http_routes(narrow, wide), request(b"/a/c")) == "red"
    assert pool_of(http_routes(narrow, wide), request(b"/c")) == "main"
    wide, narrow = to("red", Condition(hosts=("*.example",))), to("blue", Condition(hosts=("a.example",)))
    assert pool_of(http_routes(wide, narrow), request()) == "red"
    assert pool_of(http_routes(narrow, wide), request()) == "blue"
    anywhere = to("blue", Condition(methods=("GET",)))
    assert pool_of(http_routes(anywhere, wide), request()) == "blue"
    assert pool_of(http_routes(wide, anywhere), request()) == "red"
    assert pool_of(http_routes(wide, anywhere), request(host=b"example")) == "blue"


def test_a_route_whose_other_conditions_fail_leaves_the_request_to_the_next() -> None:
    table = http_routes(
        to("red", Condition(hosts=("a.example",), paths=("/a/b/",), methods=("PUT",))),
        to("blue", Condition(hosts=("*.example",), paths=("/a/",), methods=("PUT", "GET"))),
    )
    assert pool_of(table, request(b"/a/b/", method=b"PUT")) == "red"
    assert pool_of(table, request(b"/a/b/", method=b"GET")) == "blue"
    assert pool_of(table, request(b"/a/b/", method=b"HEAD")) == "main"


def test_one_of_several_hosts_and_one_of_several_paths_is_enough() -> None:
    table = http_routes(to("red", Condition(hosts=("a.example", "*.b.example"), paths=("/x", "/y/", "/y/"))))
    for host in (b"a.example", b"c.b.example"):
        assert pool_of(table, request(b"/x", host)) == "red"
        assert pool_of(table, request(b"/y/z", host)) == "red"
        assert pool_of(table, request(b"/z", host)) == "main"
    assert pool_of(table, request(b"/x", b"b.example")) == "main"


def test_the_clients_of_the_route_and_those_of_its_condition_must_both_hold() -> None:
    inside = Condition(clients=NetworkSet(["10.1.0.0/16", "192.0.2.0/24"]))
    table = http_routes(RouteSettings("red", clients=TENS, http=HttpRouteSettings(inside)))
    assert pool_of(table, request(), "10.1.0.1") == "red"
    assert pool_of(table, request(), "10.2.0.1") == "main"
    assert pool_of(table, request(), "192.0.2.1") == "main"
    assert pool_of(table, request(), "") == "main"


def test_a_route_that_says_nothing_of_http_serves_all_requests_of_its_clients() -> None:
    table = http_routes(RouteSettings("red", clients=TENS), RouteSettings("blue"))
    assert pool_of(table, request(), "10.1.0.1") == "red"
    assert pool_of(table, request(), "192.0.2.1") == "blue"


def test_a_route_that_goes_by_the_handshake_of_a_session_takes_no_request() -> None:
    table = http_routes(RouteSettings("red", server_names=("a.example",)), RouteSettings("blue", alpn=("h2",)))
    assert pool_of(table, request()) == "main"


def test_the_result_goes_by_the_head_alone_where_no_route_in_reach_asks_for_the_client() -> None:
    by_client, by_path = RouteSettings("red", clients=TENS), to("blue", Condition(paths=("/a/",)))
    assert http_routes(by_path).by_head
    assert not http_routes(by_path, by_client).by_head
    assert not http_routes(to("red", Condition(some=(Condition(clients=TENS), Condition(paths=("/",)))))).by_head
    # Nobody gets past the route without conditions, encoded slash or not.
    assert http_routes(to("red", encoded_slash=True), by_client).by_head
    assert http_routes(to("red"), by_client).by_head
    slashes = replace(by_client, http=HttpRouteSettings(encoded_slash=True))
    table = http_routes(to("blue"), slashes)
    assert not table.by_head
    assert pool_of(table, request(encoded_slash=True), "10.0.0.1") == "red"
    assert pool_of(table, request(), "10.0.0.1") == "blue"


def test_an_encoded_slash_is_refused_by_routes_that_do_not_allow_it() -> None:
    allowing = to("red", Condition(paths=("/a/",)), encoded_slash=True)
    table = http_routes(to("blue", Condition(paths=("/a/b/",))), allowing)
    assert pool_of(table, request(b"/a/b/")) == "blue"
    head = request(b"/a/b/%2F", encoded_slash=True)
    assert pool_of(table, head) == "red"
    assert not table.find_refused_slash(head, CLIENT)
    # The listener's own pool does not allow it either, so there is no place for it, but for that slash.
    head = request(b"/b/%2F", encoded_slash=True)
    assert pool_of(table, head) is None
    assert table.find_refused_slash(head, CLIENT)
    assert not table.find_refused_slash(request(b"/b/"), CLIENT)
    nowhere = http_routes(allowing, pool=None)
    assert pool_of(nowhere, head) is None
    assert not nowhere.find_refused_slash(head, CLIENT)


def test_the_only_route_does_not_take_an_encoded_slash_that_it_does_not_allow() -> None:
    table, head = http_routes(), request(b"/%2F", encoded_slash=True)
    assert table.only is not None
    assert table.find(head, CLIENT) is None
    assert table.find_refused_slash(head, CLIENT)
    table = http_routes(to("red", encoded_slash=True))
    assert table.find(head, CLIENT) is table.only
    assert not table.find_refused_slash(head, CLIENT)


def test_a_route_may_ask_for_slashes_as_they_came() -> None:
    condition = Condition(paths=("/a//b/",), path_regexes=("/a//.*",))
    unmerged = RouteSettings("red", http=HttpRouteSettings(condition, merge_slashes=False))
    table = http_routes(unmerged, to("blue", Condition(paths=("/a/b/",))))
    assert pool_of(table, request(b"/a/b/c", unmerged=b"/a//b/c")) == "red"
    assert pool_of(table, request(b"/a/b/c", unmerged=b"/a/b//c")) == "blue"
    assert pool_of(table, request(b"/a/b/c")) == "blue"
    assert pool_of(http_routes(to("red", condition)), request(b"/a/b/c", unmerged=b"/a//b/c")) == "main"


def test_routes_are_numbered_by_the_file_and_each_listener_has_its_own() -> None:
    here, there = replace(to("red", Condition(paths=("/a",))), name="first", line=3, priority=2), to("blue")
    there = replace(there, listeners=("other",), line=9)
    configuration = Configuration((listener(), listener("other", None)), POOLS, (there, here))
    table = RoutingTable(configuration)
    web, other = table.for_http_listener("web"), table.for_http_listener("other")
    found, own = web.find(request(b"/a"), CLIENT), web.find(request(), CLIENT)
    assert found is not None
    assert (found.pool, found.name, found.line, found.number, found.priority) == ("red", "first", 3, 1, 2)
    assert found.http is here.http
    assert own is not None
    assert (own.pool, own.line, own.number, own.http) == ("main", 7, 2, HttpRouteSettings())
    assert other.only is not None
    assert (other.only.line, other.only.number) == (9, 0)
    both = RoutingTable(Configuration((listener(), listener("other")), POOLS, (to("red"),)))
    assert both.for_http_listener("web").only is not both.for_http_listener("other").only


def test_tcp_and_http_listeners_have_tables_of_their_own() -> None:
    tcp = replace(listener("mail"), protocol="tcp")
    table = RoutingTable(Configuration((listener(), tcp), POOLS, (to("red"),)))
    tcp_route = table.for_listener("mail").only
    assert tcp_route is not None
    # A route that goes by requests has no business with a TCP session.
    assert tcp_route.pool == "main"
    with pytest.raises(KeyError):
        table.for_http_listener("mail")
    with pytest.raises(KeyError):
        table.for_listener("web")


def test_timeouts_come_from_the_nearest_level_that_sets_them() -> None:
    names = ("connect", "queue", "client_idle", "tunnel_idle")

    def level(number: int) -> TimeoutSettings:
        """A level sets as many of the first clocks as its number says."""
        return TimeoutSettings(**{name: float(number) for name in names[:number]})

    def timeouts(settings: RouteSettings) -> list[float]:
        configuration = Configuration(
            (replace(listener(), timeouts=level(3)),),
            tuple(replace(pool, timeouts=level(2)) for pool in POOLS),
            (replace(settings, timeouts=level(1)),),
            timeouts=level(4),
        )
        route = RoutingTable(configuration).for_http_listener("web").only
        assert route is not None
        return [getattr(route.timeouts, name) for name in names]

    assert timeouts(to("red")) == [1.0, 2.0, 3.0, 4.0]
    split = HttpRouteSettings(split=Split((("red", 1), ("blue", 1))))
    assert timeouts(RouteSettings("", http=split)) == [1.0, 3.0, 3.0, 4.0]
    answer = HttpRouteSettings(answer=FixedAnswer())
    assert timeouts(RouteSettings("", http=answer)) == [1.0, 3.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "settings",
    [
        to("green"),
        RouteSettings(""),
        RouteSettings("", http=HttpRouteSettings(split=Split((("red", 1), ("green", 1))))),
        RouteSettings("red", http=HttpRouteSettings(mirror=Mirror("green"))),
    ],
)
def test_a_pool_that_does_not_exist_is_refused_when_the_table_is_built(settings: RouteSettings) -> None:
    with pytest.raises(KeyError):
        http_routes(settings)


def test_a_route_cannot_be_changed_but_for_its_plan() -> None:
    route = http_routes().only
    assert route is not None
    for name in ("pool", "http", "timeouts", "other"):
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(route, name, None)
    assert route.pool == "main"
    route.plan = "anything"
    assert route.plan == "anything"
    route.plan = "something else"
    assert route.plan == "something else"


SOME_NAMES = ["a.example", "b.a.example", "c.b.a.example", "b.example", "example"]
SOME_PATHS = ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/b/", "//a/", "/a//b/"]
kinds = st.builds(
    ValueMatch, st.sampled_from(["exact", "prefix", "present", "absent"]), st.sampled_from(["", "1", "12"])
)
matches = st.builds(NamedMatch, st.sampled_from(["x", "y"]), kinds | st.just(ValueMatch("regex", "1?2")))


def few(values: st.SearchStrategy[object], most: int) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(values, max_size=most).map(tuple)


def conditions(nested: st.SearchStrategy[Condition] | None = None) -> st.SearchStrategy[Condition]:
    """Mostly by host and path; now and then by everything else."""
    inner = st.just(()) if nested is None else few(nested, 2)
    return st.builds(
        Condition,
        hosts=few(st.sampled_from([*SOME_NAMES, *("*." + name for name in SOME_NAMES)]), 2),
        paths=few(st.sampled_from([*SOME_PATHS, "*"]), 2),
        path_regexes=few(st.sampled_from(["/a.*", "/[a-c/]+", ".*"]), 1),
        methods=few(st.sampled_from(["GET", "PUT"]), 1),
        headers=few(matches, 1),
        queries=few(matches, 1),
        cookies=few(matches, 1),
        clients=st.sampled_from([None, None, None, TENS]),
        every=inner,
        some=inner,
        none=inner,
    )


by_place = st.builds(
    Condition,
    hosts=few(st.sampled_from([*SOME_NAMES, *("*." + name for name in SOME_NAMES)]), 2),
    paths=few(st.sampled_from(SOME_PATHS), 2),
)
http_settings = st.builds(
    HttpRouteSettings,
    by_place | by_place | conditions(conditions()),
    encoded_slash=st.booleans(),
    merge_slashes=st.sampled_from([True, True, True, False]),
)
some_routes = st.lists(
    st.builds(
        RouteSettings,
        st.sampled_from(["red", "blue"]),
        clients=st.sampled_from([None, None, None, TENS]),
        http=st.none() | http_settings | http_settings | http_settings,
    ),
    max_size=8,
)
values = st.sampled_from([b"", b"1", b"2", b"12", b"123"])
pairs = st.lists(st.tuples(st.sampled_from([b"x", b"y"]), values), max_size=2)


@st.composite
def heads(draw: st.DrawFn) -> RequestHead:
    unmerged = draw(st.sampled_from([*SOME_PATHS, "/a/b/c/d", "/c", "*"]))
    cookies = [(b"cookie", b"; ".join(name + b"=" + value for name, value in draw(pairs)))]
    return request(
        unmerged.replace("//", "/").encode(),
        draw(st.sampled_from([*SOME_NAMES, "other"])).encode(),
        unmerged=unmerged.encode(),
        method=draw(st.sampled_from([b"GET", b"PUT"])),
        query=b"&".join(name + b"=" + value for name, value in draw(pairs)) or None,
        fields=draw(pairs) + cookies,
        encoded_slash=draw(st.sampled_from([False, False, True])),
    )


@settings(deadline=None, max_examples=200)
@given(some_routes, st.sampled_from([None, "main"]), st.lists(heads(), min_size=1, max_size=6))
def test_what_is_looked_up_is_what_the_first_in_order_would_be(
    given_routes: list[RouteSettings], pool: str | None, given_heads: list[RequestHead]
) -> None:
    table = http_routes(*given_routes, pool=pool)
    in_order = [*given_routes, *([RouteSettings(pool)] if pool else [])]
    for head in given_heads:
        for client in ("10.0.0.1", CLIENT):
            holding = []
            for number, route in enumerate(in_order):
                http = route.http or HttpRouteSettings()
                if (route.clients is None or client in route.clients) and reference_holds(
                    http.condition, head, client, merge_slashes=http.merge_slashes
                ):
                    holding.append((number, http.encoded_slash))
            allowed = [number for number, allows in holding if allows or not head.encoded_slash]
            found = table.find(head, client)
            assert (None if found is None else found.number) == (allowed[0] if allowed else None)
            assert table.find_refused_slash(head, client) == (not allowed and bool(holding))
            if table.only is not None and not head.encoded_slash:
                assert found is table.only
        if table.by_head:
            assert table.find(head, "10.0.0.1") is table.find(head, CLIENT)


def thousand(count: int) -> dict[str, tuple[list[Condition], RequestHead]]:
    """Routes by host, by prefix and by both, and a request for the last of them."""
    last = count - 1
    host, path = b"h%d.example" % last, b"/p%d/x/y" % last
    return {
        "hosts": ([Condition(hosts=(f"h{n}.example",)) for n in range(count)], request(path, host)),
        "wide hosts": ([Condition(hosts=(f"*.h{n}.example",)) for n in range(count)], request(path, b"a." + host)),
        "prefixes": ([Condition(paths=(f"/p{n}/",)) for n in range(count)], request(path, host)),
        "both": (
            [Condition(hosts=(f"h{n // 10}.example",), paths=(f"/p{n}/x/",)) for n in range(count)],
            request(path, b"h%d.example" % (last // 10)),
        ),
    }


def microseconds(count: int, name: str) -> float:
    """The best of several, since others use the machine too."""
    wanted, head = thousand(count)[name]
    table = http_routes(*(to("red", condition) for condition in wanted))
    found = table.find(head, CLIENT)
    assert isinstance(found, HttpRoute)
    assert found.number == count - 1
    return min(timeit.repeat(lambda: table.find(head, CLIENT), number=200, repeat=15)) / 200 * 1e6


@pytest.mark.parametrize("name", list(thousand(1)))
def test_a_thousand_routes_are_found_in_about_the_time_of_one(name: str) -> None:
    # The promise is 3 us, and asking one after the other takes well over 50; between them nothing fails by chance.
    assert microseconds(1000, name) - microseconds(1, name) < 10
