"""How clients stay with their backends: cookies of ours, learnt tables, strictness, and what records say of it."""

from __future__ import annotations

from typing import Any

import pytest

from lbproxy.model import OutlierSettings
from lbproxy.model_http import HttpPoolSettings, HttpRouteSettings, StickySettings
from lbproxy.session.phases import CONNECT
from lbproxy.session.sticking import Sticking
from tests.session.http_fakes import KEY, STAMP, Talk, web_pool

# The values of semantics.md, section 12: key of 32 zero bytes, pool "web".
NAME = "lb_4b5e57f6"
WEB1, WEB2 = "v1.h-a3tPvjG-haPPnRBd3FAg", "v1.4Rhf0GQp7YcIkUuk4Cph_Q"


def sticky_talk(names: str = "web1 web2 web3", *, secure: bool = False, route: Any = None, **settings: Any) -> Talk:
    settings.setdefault("keys", (KEY,))
    return Talk(names, secure=secure, route=route, http=HttpPoolSettings(sticky=StickySettings(**settings)))


def cookie(value: str) -> dict[str, Any]:
    return {"fields": f"Cookie: {NAME}={value}"}


def letters(talk: Talk) -> str:
    """The last two letters of the last record's state."""
    return talk.records[-1].state[2:]


class TestCookiesOfOurs:
    def test_a_new_client_is_bound_to_who_answered_it(self) -> None:
        talk = sticky_talk()
        exchange = talk.asked_and_sent()
        talk.ok(exchange)
        extra = talk.stream(exchange).extra
        assert extra == (
            b"Set-Cookie: lb_4b5e57f6=v1.h-a3tPvjG-haPPnRBd3FAg; Path=/; HttpOnly; SameSite=Lax\r\n"
            b"Cache-Control: private\r\n"
        )
        assert letters(talk) == "NI"
        assert talk.records[0].sticky == ""

    def test_over_tls_the_cookie_is_secure(self) -> None:
        talk = sticky_talk(secure=True)
        exchange = talk.asked_and_sent()
        talk.ok(exchange)
        assert b"; HttpOnly; Secure; SameSite=Lax\r\n" in talk.stream(exchange).extra

    def test_a_bound_client_comes_to_its_backend_and_is_told_nothing(self) -> None:
        talk = sticky_talk()
        exchange = talk.asks(**cookie(WEB2))
        assert talk.did() == ["dial web2"]
        exchange.connected()
        talk.ok(exchange)
        assert talk.stream(exchange).extra == b""
        assert letters(talk) == "VN"
        assert talk.records[0].sticky == "web2"

    def test_our_cookie_is_nobody_elses_business(self) -> None:
        talk = sticky_talk()
        exchange = talk.asked_and_sent(fields=f"Cookie: a=1; {NAME}={WEB2}; b=2|Cookie: {NAME}={WEB2}|X-A: 1")
        asked = talk.side(exchange).asked
        assert NAME.encode() not in asked
        assert b"\r\nCookie: a=1; b=2\r\n" in asked
        assert asked.count(b"Cookie") == 1
        assert b"\r\nX-A: 1\r\n" in asked

    def test_nor_is_that_of_another_pool(self) -> None:
        """Whoever has it is taken for the client that it was given to."""
        http = HttpPoolSettings(sticky=StickySettings(keys=(KEY,), name="other"))
        talk = Talk(pools=[web_pool("x", "other", http=http)])
        exchange = talk.asked_and_sent(fields="Cookie: other=v1.x; a=1")
        assert b"\r\nCookie: a=1\r\n" in talk.side(exchange).asked

    def test_other_cookies_stay_byte_for_byte(self) -> None:
        talk = sticky_talk()
        exchange = talk.asked_and_sent(fields='Cookie: a="x;y" ; b=\xa1z')
        assert b'\r\nCookie: a="x;y" ; b=' in talk.side(exchange).asked

    @pytest.mark.parametrize(
        "value", ["v1.AAAAAAAAAAAAAAAAAAAAAA", "x", "", WEB1[:-1], WEB1 + ".1.2.x", "v1." + "A" * 500]
    )
    def test_an_invalid_one_is_replaced(self, value: str) -> None:
        talk = sticky_talk()
        exchange = talk.asked_and_sent(**cookie(value))
        talk.ok(exchange)
        assert letters(talk) == "II"
        assert WEB1.encode() in talk.stream(exchange).extra

    def test_a_backend_that_is_down_gives_its_clients_away(self) -> None:
        talk = sticky_talk()
        talk.pool.set_admin(talk.pool.backends["web2"], "maint", talk.now)
        exchange = talk.asked_and_sent(**cookie(WEB2))
        talk.ok(exchange)
        assert letters(talk) == "DI"
        assert talk.records[0].backend == "web1"
        assert WEB1.encode() in talk.stream(exchange).extra

    def test_one_that_drains_keeps_them(self) -> None:
        talk = sticky_talk()
        talk.pool.set_admin(talk.pool.backends["web2"], "drain", talk.now)
        exchange = talk.asks(**cookie(WEB2))
        assert exchange.backend is talk.pool.backends["web2"]

    def test_one_that_cannot_be_reached_gives_them_away_too(self) -> None:
        talk = sticky_talk()
        exchange = talk.asks(**cookie(WEB2))
        talk.refuses(exchange)
        assert exchange.backend is talk.pool.backends["web1"]
        exchange.connected()
        talk.ok(exchange)
        assert WEB1.encode() in talk.stream(exchange).extra
        assert letters(talk) == "VI"
        talk.check_clean()

    def test_what_was_seen_stays_seen_whatever_the_try_did_to_its_backend(self) -> None:
        http = HttpPoolSettings(sticky=StickySettings(keys=(KEY,)))
        talk = Talk("web1 web2 web3", http=http, outlier=OutlierSettings(consecutive=1))
        exchange = talk.asks(**cookie(WEB2))
        talk.refuses(exchange)
        assert not talk.pool.backends["web2"].usable
        exchange.connected()
        talk.ok(exchange)
        assert letters(talk) == "VI"

    def test_one_that_is_full_gives_them_away_too(self) -> None:
        talk = Talk("web1 web2", max_active=1, http=HttpPoolSettings(sticky=StickySettings(keys=(KEY,))))
        talk.busy("web2")
        exchange = talk.asks(**cookie(WEB2))
        assert exchange.backend is talk.pool.backends["web1"]

    def test_a_binding_that_ages_is_written_anew_and_ends(self) -> None:
        talk = sticky_talk(max_idle=100.0, max_life=250.0)
        exchange = talk.asked_and_sent()
        talk.ok(exchange)
        first = value_of(talk, exchange)
        talk.passes(5)
        exchange = talk.asked_and_sent(**cookie(first))
        talk.ok(exchange)
        assert (letters(talk), talk.stream(exchange).extra) == ("VN", b"")
        talk.passes(50)
        exchange = talk.asked_and_sent(**cookie(first))
        talk.ok(exchange)
        assert letters(talk) == "VU"
        second = value_of(talk, exchange)
        assert second.split(".")[2] == first.split(".")[2], "the time of its beginning stays"
        talk.passes(101)
        exchange = talk.asked_and_sent(**cookie(second))
        talk.ok(exchange)
        assert letters(talk) == "EI"

    def test_a_binding_has_a_longest_life(self) -> None:
        talk = sticky_talk(max_life=50.0)
        exchange = talk.asked_and_sent()
        talk.ok(exchange)
        value = value_of(talk, exchange)
        talk.passes(51)
        exchange = talk.asked_and_sent(**cookie(value))
        talk.ok(exchange)
        assert letters(talk) == "OI"

    def test_a_key_that_is_not_the_first_any_more_still_opens(self) -> None:
        talk = sticky_talk(keys=(b"n" * 32, KEY))
        exchange = talk.asked_and_sent(**cookie(WEB2))
        talk.ok(exchange)
        assert talk.records[0].backend == "web2"
        assert letters(talk) == "VU"

    @pytest.mark.parametrize(("state", "served"), [("maint", ""), ("drain", "web2"), ("ready", "web2")])
    def test_a_strict_binding_is_kept_or_refused(self, state: Any, served: str) -> None:
        talk = sticky_talk(strict=True)
        talk.pool.set_admin(talk.pool.backends["web2"], state, talk.now)
        exchange = talk.asks(**cookie(WEB2))
        if served:
            assert exchange.backend is not None
            assert exchange.backend.id == served
            return
        assert talk.did() == ["client!503", "record no_backend", "client.next"]
        assert talk.records[0].state == "SCD-"
        talk.check_clean()

    def test_a_strict_binding_goes_nowhere_else_when_its_backend_cannot_be_reached(self) -> None:
        talk = sticky_talk(strict=True)
        exchange = talk.asks(**cookie(WEB2))
        talk.refuses(exchange)
        assert talk.records[0].outcome == "refused"
        assert talk.did() == ["dial web2", "client!502", "record refused", "client.next"]
        talk.check_clean()

    def test_a_strict_binding_is_not_tried_elsewhere_for_a_status(self) -> None:
        talk = sticky_talk(strict=True, route=HttpRouteSettings(retry_statuses=(503,), retry_idempotent=True))
        exchange = talk.asked_and_sent(**cookie(WEB2))
        talk.ok(exchange, status=503)
        assert talk.records[0].status == 503
        exchange = talk.asked_and_sent(talk.accept(), fields=f"Cookie: {NAME}={WEB1}")
        talk.loses(exchange)
        assert talk.records[1].outcome == "backend_closed"
        talk.check_clean()

    def test_a_new_client_of_a_strict_pool_is_placed_like_any_other(self) -> None:
        talk = sticky_talk(strict=True)
        exchange = talk.asks()
        talk.refuses(exchange)
        assert exchange.phase == CONNECT

    def test_an_application_may_share_the_connection_with_other_clients(self) -> None:
        """What was seen belongs to one request, not to its connection."""
        talk = sticky_talk()
        client = talk.accept()
        talk.ok(talk.asked_and_sent(client, **cookie(WEB2)))
        exchange = talk.asks(client, **cookie(WEB1))
        assert exchange.backend is talk.pool.backends["web1"]

    def test_a_pool_without_stickiness_says_nothing_of_it(self) -> None:
        talk = Talk()
        exchange = talk.asked_and_sent(**cookie(WEB2))
        assert NAME.encode() in talk.side(exchange).asked
        talk.ok(exchange)
        assert talk.records[0].state == "----"


def value_of(talk: Talk, exchange: Any) -> str:
    """The value of the cookie that the client was given."""
    extra = talk.stream(exchange).extra.decode()
    return extra.partition(f"{NAME}=")[2].partition(";")[0]


class TestLearntTables:
    def test_an_address_comes_back_to_who_answered_it(self) -> None:
        talk = Talk(policy="round-robin", http=HttpPoolSettings(sticky=StickySettings("client_ip")))
        first = talk.asked_and_sent()
        assert first.backend is not None
        name = first.backend.id
        talk.ok(first)
        assert letters(talk) == "NN"
        assert talk.stream(first).extra == b"", "nothing is said about it"
        for _ in range(3):
            exchange = talk.asks()
            assert exchange.backend is not None
            assert exchange.backend.id == name
            if exchange.phase == CONNECT:
                exchange.connected()
            talk.ok(exchange)
            assert (letters(talk), talk.records[-1].sticky) == ("VN", name)
        other = talk.asks(talk.accept(peer=("192.0.2.8", 1)))
        assert other.backend is not None
        assert other.backend.id != name

    def test_a_field_does(self) -> None:
        talk = Talk(policy="round-robin", http=HttpPoolSettings(sticky=StickySettings("header", "X-User")))
        placed = {}
        for user in "xyz":
            exchange = talk.asked_and_sent(fields=f"X-User: {user}")
            placed[user] = exchange.backend
            talk.ok(exchange)
        for user in "zyx":
            assert talk.asks(fields=f"X-User: {user}").backend is placed[user]

    def test_the_applications_cookie_does_from_its_first_answer_on(self) -> None:
        talk = Talk(policy="round-robin", http=HttpPoolSettings(sticky=StickySettings("learnt_cookie", "SID")))
        exchange = talk.asked_and_sent()
        bound = exchange.backend
        talk.ok(exchange, fields="Set-Cookie: SID=s1; Path=/")
        assert talk.asks(fields="Cookie: SID=s2").backend is not bound
        assert talk.asks(fields="Cookie: SID=s1").backend is bound
        assert talk.asks(fields="Cookie: sid=s1").backend is not None

    def test_a_client_that_is_moved_is_bound_anew(self) -> None:
        talk = Talk(http=HttpPoolSettings(sticky=StickySettings("client_ip")))
        talk.ok(talk.asked_and_sent())
        talk.pool.set_admin(talk.pool.backends["a"], "maint", talk.now)
        talk.ok(talk.asked_and_sent())
        assert letters(talk) == "DN"
        talk.pool.set_admin(talk.pool.backends["a"], "ready", talk.now)
        assert talk.asks().backend is talk.pool.backends["b"]

    def test_an_entry_that_nobody_used_is_forgotten(self) -> None:
        sticky = StickySettings("client_ip", table_idle=10)
        talk = Talk(policy="round-robin", http=HttpPoolSettings(sticky=sticky))
        talk.ok(talk.asked_and_sent())
        talk.passes(11)
        talk.ok(talk.asked_and_sent())
        assert letters(talk) == "NN"

    def test_a_client_that_was_not_answered_is_not_bound(self) -> None:
        talk = Talk(http=HttpPoolSettings(sticky=StickySettings("client_ip")))
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        assert len(talk.sticking(talk.pool).table) == 0

    def test_a_backend_that_is_no_more_makes_it_invalid(self) -> None:
        sticking = Sticking("web", StickySettings("client_ip"), KEY)
        talk = Talk()
        head = talk.asks().head
        assert head is not None
        sticking.learn(head, None, "192.0.2.7", talk.pool.backends["a"], talk.now)
        assert sticking.seen(head, "192.0.2.7", talk.pool.backends, talk.now, 0.0).state == "V"
        assert sticking.seen(head, "192.0.2.7", {}, talk.now, 0.0).state == "I"
        assert sticking.seen(head, "", talk.pool.backends, talk.now, 0.0).state == "N"

    def test_tables_of_pools_are_apart(self) -> None:
        sticky = HttpPoolSettings(sticky=StickySettings("client_ip"))
        talk = Talk(http=sticky, pools=[web_pool("a b", "other", http=sticky)])
        talk.ok(talk.asked_and_sent())
        assert len(talk.sticking(talk.pool).table) == 1
        assert len(talk.sticking(talk.pools["other"]).table) == 0
        assert talk.records[0].ts == STAMP
