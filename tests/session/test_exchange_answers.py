"""Answers of our own, what comes before an answer, changes of protocol, and what is changed on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lbproxy import errors
from lbproxy.addresses import NetworkSet
from lbproxy.model import RouteSettings
from lbproxy.model_http import (
    Condition,
    ErrorPage,
    FieldEdits,
    FixedAnswer,
    HttpPoolSettings,
    HttpRouteSettings,
    HttpSettings,
    Redirect,
    Rewrite,
    Split,
    StickySettings,
)
from lbproxy.session.phases import ANSWER, OVER, TUNNEL
from lbproxy.session.secured import TlsFacts
from tests.session.http_fakes import INSTANCE, Talk, message, route_of, web_pool

CLOSED = ["client.close", "left 192.0.2.7"]
WEBSOCKET = "Connection: Upgrade|Upgrade: websocket"


class TestAnswersOfOurOwn:
    def test_a_redirect_never_sees_a_backend(self) -> None:
        talk = Talk(route=HttpRouteSettings(redirect=Redirect("https://{host}/new{path}", 301)))
        exchange = talk.asks(path="/a?b")
        assert talk.did() == ["client!301", "record ok", "client.next"]
        stream = talk.stream(exchange)
        assert stream.reply_fields[b"Location"] == b"https://www.example.com/new/a"
        assert stream.reply_fields[b"X-Request-ID"] == exchange.request_id
        record = talk.records[0]
        assert (record.state, record.status, record.route, record.route_line, record.pool) == (
            "LR--",
            301,
            "all",
            3,
            "",
        )
        talk.check_clean()

    def test_a_redirect_to_a_path_never_becomes_another_host(self) -> None:
        talk = Talk(route=HttpRouteSettings(redirect=Redirect("{path}", 302), merge_slashes=False))
        exchange = talk.asks(path="//evil.example/")
        assert talk.stream(exchange).reply_fields[b"Location"] == b"/evil.example/"

    def test_a_fixed_answer_is_what_is_written(self) -> None:
        answer = FixedAnswer(200, b"up\n", fields=(("X-A", "1"),))
        talk = Talk(route=HttpRouteSettings(answer=answer))
        exchange = talk.asks(method="POST", length=5)
        assert talk.did() == ["client!200 close", "record ok", *CLOSED]
        assert talk.stream(exchange).reply_body == b"up\n"
        assert talk.stream(exchange).reply_fields[b"X-A"] == b"1"
        talk.check_over()

    def test_whoever_comes_in_clear_is_sent_to_https(self) -> None:
        talk = Talk(listener=HttpSettings(redirect_https=True))
        exchange = talk.asks(path="/a?b=c", host="www.example.com")
        assert talk.did() == ["client!308", "record ok", "client.next"]
        assert talk.stream(exchange).reply_fields[b"Location"] == b"https://www.example.com/a?b=c"

    def test_options_of_the_server_have_no_path_to_go_to(self) -> None:
        talk = Talk(listener=HttpSettings(redirect_https=True))
        exchange = talk.asks(path="*", method="OPTIONS")
        assert talk.stream(exchange).reply_fields[b"Location"] == b"https://www.example.com"

    def test_whom_a_trusted_proxy_says_to_have_come_by_https_is_not(self) -> None:
        trusted = NetworkSet(["192.0.2.0/24"])
        talk = Talk(listener=HttpSettings(redirect_https=True, trusted_peers=trusted))
        exchange = talk.asks(fields="X-Forwarded-For: 198.51.100.9|X-Forwarded-Proto: https")
        assert talk.did() == ["dial a"]
        assert exchange.client_ip == "198.51.100.9"
        other = talk.asks(fields="X-Forwarded-For: 198.51.100.9|X-Forwarded-Proto: http")
        assert talk.did() == ["client!308", "record ok", "client.next"]
        assert other.phase == OVER
        assert talk.records[0].client == "198.51.100.9"

    def test_a_request_that_came_through_us_before_is_a_loop(self) -> None:
        talk = Talk()
        talk.asks(fields=f"Via: 1.1 other, 1.1 {INSTANCE.decode()}")
        assert talk.did() == ["client!502", "record loop", "client.next"]
        assert talk.records[0].state == "PR--"

    def test_another_proxy_is_none(self) -> None:
        talk = Talk()
        talk.asks(fields="Via: 1.1 lbproxy-ffffffff")
        assert talk.did() == ["dial a"]

    def test_a_host_that_belongs_to_another_policy_of_tls_is_misdirected(self) -> None:
        talk = Talk(secure=True)
        client = talk.accept()
        client.tls = TlsFacts("TLSv1.3", "X", "", "www.example.com", "", False, 0.0)
        talk.gate.wrong_names.add("other.example.com")
        talk.ok(talk.asked_and_sent(client))
        talk.did()
        talk.asks(client, host="other.example.com")
        assert talk.did() == ["client!421 close", "record misdirected", *CLOSED]
        assert talk.records[1].rule == "L2"
        talk.check_over()

    def test_nobody_wants_this_path(self) -> None:
        talk = Talk(routes=[route_of(condition=Condition(paths=("/a/",)))])
        talk.asks(path="/b")
        assert talk.did() == ["client!404", "record no_route", "client.next"]
        assert (talk.records[0].state, talk.records[0].flag) == ("LR--", "NR")

    def test_an_encoded_slash_is_bad_where_it_alone_keeps_a_route_away(self) -> None:
        talk = Talk(routes=[route_of(condition=Condition(paths=("/a/",)))])
        talk.asks(path="/a/b%2Fc")
        assert talk.did() == ["client!400 close", "record bad_request", *CLOSED]
        assert talk.records[0].rule == "T18"

    def test_a_route_may_let_it_in(self) -> None:
        talk = Talk(route=HttpRouteSettings(encoded_slash=True))
        exchange = talk.asked_and_sent(path="/a/b%2Fc")
        assert talk.side(exchange).asked.startswith(b"GET /a/b%2Fc HTTP/1.1\r\n")

    def test_what_is_no_request_is_answered_and_ends_the_connection(self) -> None:
        talk = Talk()
        client = talk.accept()
        talk.misreads(client, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        assert talk.did() == ["client!400 close", "record bad_request", *CLOSED]
        record = talk.records[0]
        assert (record.rule, record.state, record.method, record.t_request_ms) == ("F14", "PR--", "", -1)
        talk.check_over()

    def test_a_method_that_is_refused_says_which_are_not(self) -> None:
        talk = Talk()
        client = talk.accept()
        talk.misreads(client, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert talk.did()[:2] == ["client!405 close", "record method"]
        assert b"GET" in talk.stream(client).reply_fields[b"Allow"]

    def test_a_page_of_the_route_stands_in_place_of_one_of_the_listener(self) -> None:
        pages = {503: b"route"}
        route = HttpRouteSettings(error_pages=(ErrorPage(503, pages[503]),))
        http = HttpSettings(error_pages=(ErrorPage(503, b"listener"), ErrorPage(404, b"nothing")))
        talk = Talk("a", routes=[RouteSettings("web", http=route)], listener=http)
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        assert talk.stream(talk.asks()).reply_body == b"route"
        talk = Talk("a", listener=http)
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        assert talk.stream(talk.asks()).reply_body == b"listener"

    def test_no_address_of_a_backend_is_told_unless_that_is_asked_for(self) -> None:
        for expose in (False, True):
            talk = Talk("a", listener=HttpSettings(expose=expose))
            exchange = talk.asks()
            talk.refuses(exchange)
            stream = talk.stream(exchange)
            told = b"203.0.113.1" in b"".join([*stream.reply_fields.values(), stream.reply_body])
            assert told is expose

    def test_answers_of_ours_carry_the_listeners_hsts(self) -> None:
        hsts = b"Strict-Transport-Security: max-age=60\r\n"
        talk = Talk("a", hsts=hsts)
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        exchange = talk.asks()
        assert talk.stream(exchange).reply_fields[b"Strict-Transport-Security"] == b"max-age=60"


class TestMaxBody:
    LIMITED = HttpRouteSettings(max_body=100)

    def test_a_body_that_says_it_is_longer_is_413_before_anybody_is_asked(self) -> None:
        talk = Talk(route=self.LIMITED)
        talk.asks(method="POST", length=101)
        assert talk.did() == ["client!413 close", "record body_large", *CLOSED]
        assert talk.records[0].state == "PR--"
        talk.check_over()

    def test_just_as_much_is_fine(self) -> None:
        talk = Talk(route=self.LIMITED)
        talk.asks(method="POST", length=100)
        assert talk.did() == ["dial a"]

    def test_one_without_a_length_is_cut_when_too_much_has_come(self) -> None:
        talk = Talk(route=self.LIMITED)
        exchange = talk.asked_and_sent(method="POST", chunked=True)
        exchange.body_too_large()
        assert talk.did() == ["a.abandon", "client!413 close", "record body_large", *CLOSED]
        assert talk.pool.backends["a"].failures_total == 0
        talk.check_over()

    def test_an_answer_that_has_begun_is_cut_then(self) -> None:
        talk = Talk(route=self.LIMITED)
        exchange = talk.asked_and_sent(method="POST", chunked=True)
        talk.answers(exchange)
        talk.did()
        exchange.body_too_large()
        assert talk.did() == ["a.abandon", "record body_large", "client.abort", "left 192.0.2.7"]

    def test_none_may_come_at_all(self) -> None:
        talk = Talk(route=HttpRouteSettings(max_body=0))
        talk.asks(method="POST", length=1)
        assert talk.records[0].status == 413
        talk.did()
        talk.asks(method="GET")
        assert talk.did() == ["dial a"]


class TestSplits:
    def test_chance_decides_by_weight(self) -> None:
        route = HttpRouteSettings(split=Split((("web", 3), ("canary", 1))))
        talk = Talk(route=route, pools=[web_pool("x", "canary")])
        went: Counter[str] = Counter()
        for number in range(100):
            talk.dice = [number / 100]
            exchange = talk.asks()
            assert exchange.pool is not None
            went[exchange.pool.settings.name] += 1
        assert went == {"web": 75, "canary": 25}

    def test_a_key_keeps_a_client_on_its_side(self) -> None:
        route = HttpRouteSettings(split=Split((("web", 1), ("canary", 1)), key="header:X-User"))
        talk = Talk(route=route, pools=[web_pool("x", "canary")])
        sides: dict[str, set[Any]] = {}
        for _ in range(3):
            for user in "abcdefghij":
                sides.setdefault(user, set()).add(talk.asks(fields=f"X-User: {user}").pool)
        assert all(len(pools) == 1 for pools in sides.values())
        assert len({next(iter(pools)) for pools in sides.values()}) == 2

    def test_the_record_names_the_pool_that_it_was(self) -> None:
        talk = Talk(route=HttpRouteSettings(split=Split((("canary", 1),))), pools=[web_pool("x", "canary")])
        talk.ok(talk.asked_and_sent())
        assert (talk.records[0].pool, talk.records[0].backend) == ("canary", "x")


class TestInterimAnswers:
    def test_sixteen_are_passed_on(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        for _ in range(16):
            talk.answers(exchange, status=103)
        assert talk.did() == ["client<103"] * 16
        talk.ok(exchange)
        talk.check_clean()

    def test_one_more_is_502(self) -> None:
        talk = Talk(route=HttpRouteSettings(retry_idempotent=True))
        exchange = talk.asked_and_sent()
        for _ in range(17):
            talk.answers(exchange, status=103)
        assert talk.did()[16:] == ["a.abandon", "client!502", "record bad_response", "client.next"]
        assert talk.records[0].rule == "C11"
        talk.check_clean()

    def test_a_client_of_http_1_0_hears_none(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(text=message(minor=0))
        talk.answers(exchange, status=103)
        assert talk.did() == []
        talk.ok(exchange)

    def test_100_is_said_once(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(method="PUT", length=5, fields="Expect: 100-continue")
        talk.answers(exchange, status=100)
        talk.answers(exchange, status=100)
        assert talk.did() == ["client<100"]

    def test_they_may_come_with_the_answer_in_one_piece(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        both = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        talk.answers(exchange, both)
        assert talk.did() == ["client<103", "client<200"]

    def test_a_further_try_may_have_as_many(self) -> None:
        talk = Talk(route=HttpRouteSettings(retry_statuses=(503,)))
        exchange = talk.asked_and_sent()
        for _ in range(10):
            talk.answers(exchange, status=103)
        talk.answers(exchange, status=503)
        talk.passes(0.1)
        exchange.connected()
        talk.did()
        for _ in range(6):
            talk.answers(exchange, status=103)
        assert exchange.phase == ANSWER
        talk.answers(exchange, status=103)
        assert exchange.phase == OVER, "the client gets sixteen all in all"


class TestUpgrades:
    def test_the_protocol_that_the_route_allows_is_asked_for(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=WEBSOCKET)
        asked = talk.side(exchange).asked
        assert b"\r\nConnection: Upgrade\r\n" in asked
        assert b"\r\nUpgrade: websocket\r\n" in asked

    def test_a_true_101_makes_a_tunnel(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=WEBSOCKET)
        talk.answers(exchange, status=101, fields=WEBSOCKET)
        assert talk.did() == ["client<101 tunnel"]
        assert exchange.phase == TUNNEL
        tunnel = talk.tunnels(exchange)
        talk.stream(exchange).bytes_in += 300
        talk.side(exchange).bytes_in += 4000
        talk.side(exchange).finished = True
        tunnel.ended(talk.side(exchange))
        talk.stream(exchange).finished = True
        tunnel.ended(talk.stream(exchange))
        record = talk.records[0]
        assert (record.status, record.outcome, record.bytes_out) == (101, "ok", 4000)
        assert record.bytes_in > 300
        talk.check_over()

    def test_a_backend_that_resets_a_tunnel_is_told_in_the_record(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=WEBSOCKET)
        talk.answers(exchange, status=101, fields=WEBSOCKET)
        tunnel = talk.tunnels(exchange)
        side = talk.side(exchange)
        side.gone()
        tunnel.lost(side)
        assert (talk.records[0].outcome, talk.records[0].state) == ("backend_cut", "SD--")
        talk.check_over()

    def test_a_client_that_leaves_a_tunnel_is_told_in_the_record(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=WEBSOCKET)
        talk.answers(exchange, status=101, fields=WEBSOCKET)
        tunnel = talk.tunnels(exchange)
        talk.stream(exchange).gone()
        tunnel.lost(talk.stream(exchange))
        assert (talk.records[0].outcome, talk.records[0].state) == ("client_gone", "CD--")
        talk.check_over()

    def test_another_answer_is_an_ordinary_one_and_the_last(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=WEBSOCKET)
        talk.ok(exchange)
        assert talk.did() == ["client<200 close", "record ok", *CLOSED]
        talk.check_over()

    @pytest.mark.parametrize(
        ("text", "changes"),
        [
            (message(fields="Upgrade: websocket"), "websocket"),
            (message(fields=WEBSOCKET, minor=0), "websocket"),
            (message(method="POST", length=3, fields=WEBSOCKET), "websocket"),
            (message(fields="Connection: Upgrade|Upgrade: foo"), "foo"),
            (message(fields="Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAA"), "h2c"),
        ],
    )
    def test_what_is_none_is_dropped_and_an_ordinary_request(self, text: bytes, changes: str) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(text=text)
        asked = talk.side(exchange).asked.lower()
        assert b"upgrade" not in asked
        assert b"http2-settings" not in asked
        talk.answers(exchange, status=101, fields=f"Connection: Upgrade|Upgrade: {changes}")
        assert talk.records[0].outcome == "upgrade"

    @pytest.mark.parametrize("asked", ["", WEBSOCKET])
    @pytest.mark.parametrize("told", ["foo", "websocket2", "web"])
    def test_a_101_for_something_else_is_502(self, asked: str, told: str) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=asked)
        talk.answers(exchange, status=101, fields=f"Connection: Upgrade|Upgrade: {told}")
        assert talk.did() == ["a.abandon", "client!502 close", "record upgrade", *CLOSED]
        record = talk.records[0]
        assert (record.rule, record.state, record.status) == ("C10", "PH--", 502)
        talk.check_over()

    def test_the_lease_lasts_as_long_as_the_tunnel(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(fields=WEBSOCKET)
        talk.answers(exchange, status=101, fields=WEBSOCKET)
        talk.tunnels(exchange)
        assert talk.pool.active == 1
        exchange.conversation.kill(errors.KILLED_BY_OPERATOR)
        assert talk.records[0].outcome == "killed"
        talk.check_over()

    def test_a_route_names_others(self) -> None:
        talk = Talk(route=HttpRouteSettings(upgrades=("chat",)))
        exchange = talk.asked_and_sent(fields="Connection: upgrade|Upgrade: Chat")
        talk.answers(exchange, status=101, fields="Connection: Upgrade|Upgrade: chat")
        assert exchange.phase == TUNNEL


class TestWhatIsChanged:
    def test_fields_of_requests(self) -> None:
        edits = FieldEdits(set=(("X-Who", "{client_ip}"), ("X-Forwarded-Proto", "gopher")), remove=("Accept",))
        talk = Talk(route=HttpRouteSettings(request_fields=edits))
        exchange = talk.asked_and_sent(fields="Accept: */*|X-Who: me|User-Agent: curl")
        asked = talk.side(exchange).asked
        assert asked.count(b"X-Who: ") == 1
        assert b"\r\nX-Who: 192.0.2.7\r\n" in asked
        assert b"Accept" not in asked
        assert b"\r\nUser-Agent: curl\r\n" in asked
        assert asked.count(b"X-Forwarded-Proto") == 1
        assert b"\r\nX-Forwarded-Proto: gopher\r\n" in asked
        assert asked.count(b"X-Request-ID: ") == 1

    def test_paths_and_hosts_of_requests(self) -> None:
        rewrite = Rewrite(strip_prefix="/api", add_prefix="/v1", host="inner.example")
        talk = Talk(route=HttpRouteSettings(rewrite=rewrite))
        exchange = talk.asked_and_sent(path="/api/x?y=z")
        asked = talk.side(exchange).asked
        assert asked.startswith(b"GET /v1/x?y=z HTTP/1.1\r\nHost: inner.example\r\n")
        assert b"\r\nX-Forwarded-Host: www.example.com\r\n" in asked

    def test_a_path_that_must_not_be_made_is_400(self) -> None:
        talk = Talk(route=HttpRouteSettings(rewrite=Rewrite(regex="/(.*)", path="/.{1}")))
        exchange = talk.asks(path="/./secret/")
        talk.did()
        exchange.connected()
        assert talk.did() == ["a.ask GET /.secret/"]
        exchange = talk.asks()
        exchange.connected()
        assert talk.did() == ["dial a", "a.abandon", "client!400 close", "record bad_request", *CLOSED]
        assert talk.records[0].rule == "T18"
        assert talk.pool.backends["a"].failures_total == 0

    def test_slashes_stay_where_the_route_says_so(self) -> None:
        talk = Talk(route=HttpRouteSettings(merge_slashes=False))
        exchange = talk.asked_and_sent(path="//a//b")
        assert talk.side(exchange).asked.startswith(b"GET //a//b HTTP/1.1\r\n")

    def test_fields_of_answers(self) -> None:
        edits = FieldEdits(set=(("X-A", "1"),), remove=("X-B",), add=(("X-C", "2"),))
        talk = Talk(route=HttpRouteSettings(response_fields=edits))
        exchange = talk.asked_and_sent()
        talk.answers(exchange, fields="X-A: 0|X-B: 0|X-C: 0|Server: nginx")
        stream = talk.stream(exchange)
        assert stream.lines == b"X-C: 0\r\nServer: nginx\r\nX-A: 1\r\nX-C: 2\r\n"
        assert stream.extra == b""

    def test_an_answer_that_nothing_is_changed_in_goes_as_it_is(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent()
        talk.answers(exchange, fields="X-A: 0")
        assert (talk.stream(exchange).lines, talk.stream(exchange).extra) == (None, b"")

    @pytest.mark.parametrize("by_route", [True, False])
    def test_what_tells_of_the_backend_is_concealed(self, by_route: bool) -> None:
        talk = Talk(route=HttpRouteSettings(conceal=by_route), http=HttpPoolSettings(conceal=not by_route))
        exchange = talk.asked_and_sent()
        talk.answers(
            exchange,
            status=302,
            fields="Server: nginx|X-Powered-By: PHP|Location: http://203.0.113.1:9001/x|X-A: 1",
        )
        assert talk.stream(exchange).lines == b"Location: http://www.example.com/x\r\nX-A: 1\r\n"

    def test_locations_have_the_scheme_that_a_trusted_proxy_tells(self) -> None:
        trusted = NetworkSet(["192.0.2.0/24"])
        talk = Talk(route=HttpRouteSettings(conceal=True), listener=HttpSettings(trusted_peers=trusted))
        exchange = talk.asked_and_sent(fields="X-Forwarded-Proto: https")
        talk.answers(exchange, status=302, fields="Location: http://203.0.113.1:9001/x")
        assert talk.stream(exchange).lines == b"Location: https://www.example.com/x\r\n"

    def test_locations_elsewhere_stay(self) -> None:
        talk = Talk(route=HttpRouteSettings(conceal=True))
        exchange = talk.asked_and_sent()
        talk.answers(exchange, status=302, fields="Location: https://other.example/x")
        assert talk.stream(exchange).lines in (None, b"Location: https://other.example/x\r\n")

    def test_hsts_is_said_once(self) -> None:
        hsts = b"Strict-Transport-Security: max-age=60\r\n"
        talk = Talk(hsts=hsts)
        exchange = talk.asked_and_sent()
        talk.answers(exchange, fields="Strict-Transport-Security: max-age=1|X-A: 1")
        stream = talk.stream(exchange)
        assert (stream.lines, stream.extra) == (b"X-A: 1\r\n", hsts)
        other = talk.asked_and_sent()
        talk.answers(other)
        assert (talk.stream(other).lines, talk.stream(other).extra) == (None, hsts)

    def test_a_route_that_says_it_otherwise_has_the_word(self) -> None:
        route = HttpRouteSettings(response_fields=FieldEdits(set=(("Strict-Transport-Security", "max-age=0"),)))
        talk = Talk(route=route, hsts=b"Strict-Transport-Security: max-age=60\r\n")
        exchange = talk.asked_and_sent()
        talk.answers(exchange)
        stream = talk.stream(exchange)
        assert (stream.lines, stream.extra) == (b"Strict-Transport-Security: max-age=0\r\n", b"")

    @pytest.mark.parametrize(("fields", "private"), [("", True), ("Cache-Control: max-age=9", False)])
    def test_an_answer_that_binds_a_client_is_nobody_elses(self, fields: str, private: bool) -> None:
        talk = Talk(http=HttpPoolSettings(sticky=StickySettings()))
        exchange = talk.asked_and_sent()
        talk.answers(exchange, fields=fields)
        extra = talk.stream(exchange).extra
        assert extra.startswith(b"Set-Cookie: lb_4b5e57f6=v1.")
        assert (b"Cache-Control: private\r\n" in extra) is private
