"""Copies of requests for a second pool: which are made, how many, and that nobody notices."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lbproxy.errors import RESPONSE_HEAD_LARGE, TryError
from lbproxy.http.messages import HttpError
from lbproxy.model_http import HttpRouteSettings, HttpSettings, Mirror
from lbproxy.session.mirroring import MOST_COPIES, Copy
from lbproxy.session.phases import ANSWER, CONNECT, OVER, QUEUE
from lbproxy.session.repeating import REPLAY_BYTES
from tests.session.http_fakes import FakeBackend, Talk, web_pool


def mirrored(*, names: str = "m", route: dict[str, Any] | None = None, limits: Any = None, **mirror: Any) -> Talk:
    settings = HttpRouteSettings(mirror=Mirror("copy", **mirror), **(route or {}))
    return Talk(route=settings, pools=[web_pool(names, "copy", **(limits or {}))])


def copies(talk: Talk) -> list[Copy]:
    """Those that have looked for a backend, in order, each once."""
    found: list[Copy] = []
    for one in talk.http_factory.seeking:
        if isinstance(one, Copy) and one not in found:
            found.append(one)
    return found


def side_of(copy: Copy) -> FakeBackend:
    side = copy.backend_side
    assert isinstance(side, FakeBackend)
    return side


def served(talk: Talk, copy: Copy, status: int = 200) -> None:
    """The second pool answers."""
    side = side_of(copy)
    talk.answers(copy, status=status)
    side.exchange = None
    side.gone()
    copy.completed()


class TestWhichAreMade:
    def test_a_copy_goes_out_once_the_request_has_been_sent(self) -> None:
        talk = mirrored()
        exchange = talk.asks(path="/a", fields="X-A: 1")
        talk.passes(0)
        assert talk.did() == ["dial a"]
        exchange.connected()
        talk.passes(0)
        assert talk.did() == ["a.ask GET /a", "dial m"]
        (copy,) = copies(talk)
        copy.connected()
        asked, original = side_of(copy).asked, talk.side(exchange).asked
        assert asked == original[:-2] + b"X-Mirror: 1\r\n\r\n"
        assert exchange.request_id in asked
        assert b"X-Mirror" not in original
        served(talk, copy)
        talk.ok(exchange)
        assert len(talk.records) == 1, "a copy leaves none"
        talk.check_clean()

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_safe_methods_are_copied(self, method: str) -> None:
        talk = mirrored()
        talk.asked_and_sent(method=method)
        assert talk.copies.made == 1

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FOO"])
    def test_others_are_where_the_route_says_so(self, method: str) -> None:
        talk = mirrored()
        talk.asked_and_sent(method=method)
        assert (talk.copies.made, talk.copies.skipped) == (0, 0)
        talk = mirrored(unsafe=True)
        talk.asked_and_sent(method=method)
        assert talk.copies.made == 1

    def test_a_share_of_them(self) -> None:
        talk = mirrored(percent=25.0)
        for number in range(100):
            talk.dice = [number / 100]
            talk.asked_and_sent()
        assert talk.copies.made == 25

    def test_none_is_made_of_a_request_that_was_never_sent(self) -> None:
        talk = mirrored()
        for backend in talk.pool.backends.values():
            talk.pool.set_admin(backend, "maint", talk.now)
        talk.asks()
        talk.passes(0)
        assert talk.copies.made == 0

    def test_one_is_made_of_a_request_that_is_sent_twice(self) -> None:
        talk = mirrored(route={"retry_idempotent": True})
        exchange = talk.asked_and_sent()
        talk.loses(exchange)
        talk.passes(0.1)
        exchange.connected()
        talk.passes(0)
        assert talk.copies.made == 1
        assert len(copies(talk)) == 1

    def test_an_upgrade_is_not_copied(self) -> None:
        talk = mirrored()
        talk.asked_and_sent(fields="Connection: Upgrade|Upgrade: websocket")
        assert (talk.copies.made, talk.copies.skipped) == (0, 1)

    def test_a_pool_that_is_gone_gets_none(self) -> None:
        talk = mirrored()
        del talk.pools["copy"]
        talk.asked_and_sent()
        assert (talk.copies.made, talk.copies.skipped) == (0, 1)

    def test_at_most_a_hundred_are_under_way(self) -> None:
        talk = mirrored()
        for _ in range(MOST_COPIES + 3):
            talk.asked_and_sent()
        assert (talk.copies.active, talk.copies.made, talk.copies.skipped) == (100, 100, 3)
        talk.passes(0)
        copies(talk)[0].connected()
        served(talk, copies(talk)[0])
        talk.asked_and_sent()
        assert talk.copies.made == 101

    def test_rewrites_and_edits_are_those_of_the_original(self) -> None:
        trusting = HttpSettings(forwarded=True)
        route = HttpRouteSettings(mirror=Mirror("copy"))
        talk = Talk(route=route, listener=trusting, pools=[web_pool("m", "copy")])
        exchange = talk.asked_and_sent()
        talk.passes(0)
        copies(talk)[0].connected()
        assert side_of(copies(talk)[0]).asked == talk.side(exchange).asked[:-2] + b"X-Mirror: 1\r\n\r\n"


class TestBodies:
    BODY = random.Random(8).randbytes(REPLAY_BYTES)

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_the_body_is_copied_as_it_was_sent(self, method: str) -> None:
        talk = mirrored(unsafe=True)
        exchange = talk.asked_and_sent(method=method, length=len(self.BODY))
        talk.sends(exchange, self.BODY[:20_000])
        talk.passes(0)
        assert talk.copies.made == 0, "not before it is complete"
        talk.sends(exchange, self.BODY[20_000:], last=True)
        talk.passes(0)
        copies(talk)[0].connected()
        assert side_of(copies(talk)[0]).body == self.BODY == talk.side(exchange).body
        served(talk, copies(talk)[0])
        talk.ok(exchange)
        talk.check_clean()

    def test_one_that_is_longer_than_64_kib_is_skipped(self) -> None:
        talk = mirrored(unsafe=True)
        exchange = talk.asked_and_sent(method="POST", length=REPLAY_BYTES + 1)
        talk.sends(exchange, bytes(REPLAY_BYTES + 1), last=True)
        assert (talk.copies.made, talk.copies.skipped) == (0, 1)
        assert talk.side(exchange).body == bytes(REPLAY_BYTES + 1)

    def test_keeping_the_body_of_a_post_makes_it_no_safer_to_repeat(self) -> None:
        talk = mirrored(unsafe=True, route={"retry_idempotent": True})
        exchange = talk.asked_and_sent(method="POST", length=5)
        talk.sends(exchange, b"12345", last=True)
        talk.loses(exchange)
        assert exchange.phase == OVER

    def test_a_request_whose_body_never_ends_is_not_copied(self) -> None:
        talk = mirrored(unsafe=True)
        exchange = talk.asked_and_sent(method="POST", length=10)
        talk.sends(exchange, b"123")
        talk.leaves(exchange.conversation)
        talk.passes(0)
        assert talk.copies.made == 0
        talk.check_over()


class TestNobodyNotices:
    @pytest.mark.parametrize("status", [200, 404, 500, 503])
    def test_whatever_the_copy_is_answered(self, status: int) -> None:
        talk = mirrored(route={"retry_statuses": (503,)})
        exchange = talk.asked_and_sent()
        talk.passes(0)
        copy = copies(talk)[0]
        copy.connected()
        talk.did()
        served(talk, copy, status)
        assert talk.did() == []
        assert exchange.phase == ANSWER
        talk.ok(exchange)
        assert talk.records[0].status == 200
        talk.check_clean()

    @pytest.mark.parametrize("what", ["refused", "lost", "cut", "nonsense", "upgrade", "interim", "large"])
    def test_whatever_becomes_of_it(self, what: str) -> None:
        talk = mirrored()
        exchange = talk.asked_and_sent()
        talk.passes(0)
        copy = copies(talk)[0]
        talk.did()
        if what == "refused":
            talk.refuses(copy)
        else:
            copy.connected()
        if what == "lost":
            side_of(copy).gone()
            copy.unanswered(TryError.CLOSED)
        elif what == "nonsense":
            copy.unanswered(TryError.NONSENSE, "it is no HTTP", rule="B8")
        elif what == "upgrade":
            talk.answers(copy, status=101, fields="Connection: Upgrade|Upgrade: websocket")
        elif what == "cut":
            talk.answers(copy)
            talk.loses(copy)
        elif what == "interim":
            for _ in range(17):
                talk.answers(copy, status=103)
        elif what == "large":
            copy.head_too_large(HttpError(RESPONSE_HEAD_LARGE, "B9", "it is too large"))
        assert not [word for word in talk.did() if word.startswith("client") or "record" in word]
        assert copy.phase == OVER
        talk.ok(exchange)
        talk.check_clean()

    def test_a_pool_without_a_usable_backend(self) -> None:
        talk = mirrored()
        talk.pools["copy"].set_admin(talk.pools["copy"].backends["m"], "maint", talk.now)
        exchange = talk.asked_and_sent()
        talk.passes(0)
        assert talk.copies.active == 0
        talk.ok(exchange)
        talk.check_clean()

    def test_a_full_pool_lets_it_wait_and_forgets_it_in_time(self) -> None:
        talk = mirrored(limits={"max_active": 1})
        other = talk.busy("m", "copy")
        exchange = talk.asked_and_sent()
        talk.passes(0)
        assert copies(talk)[0].phase == QUEUE
        talk.ok(exchange)
        talk.passes(120)
        assert (talk.copies.active, talk.pools["copy"].queued) == (0, 0)
        talk.pools["copy"].give_back(other, talk.now)
        talk.check_over()

    def test_a_pool_that_says_nothing_is_forgotten_in_time(self) -> None:
        talk = mirrored()
        exchange = talk.asked_and_sent()
        talk.passes(0)
        copies(talk)[0].connected()
        talk.ok(exchange)
        talk.passes(120)
        assert copies(talk)[0].phase == OVER
        talk.check_over()

    def test_a_dial_that_hangs_is_forgotten_in_time(self) -> None:
        talk = mirrored()
        exchange = talk.asked_and_sent()
        talk.passes(0)
        talk.ok(exchange)
        assert copies(talk)[0].phase == CONNECT
        talk.passes(120)
        talk.check_over()

    def test_the_client_may_be_gone_long_before(self) -> None:
        talk = mirrored()
        exchange = talk.asked_and_sent()
        talk.leaves(exchange.conversation)
        talk.passes(0)
        copies(talk)[0].connected()
        served(talk, copies(talk)[0])
        talk.check_over()

    def test_the_next_request_does_not_wait_for_it(self) -> None:
        talk = mirrored()
        exchange = talk.asked_and_sent()
        talk.ok(exchange)
        talk.passes(0)
        following = talk.asks(exchange.conversation)
        assert following.phase == ANSWER
        assert copies(talk)[0].phase == CONNECT

    def test_a_backend_that_fails_at_copies_is_the_second_pools_affair(self) -> None:
        talk = mirrored()
        exchange = talk.asked_and_sent()
        talk.passes(0)
        talk.refuses(copies(talk)[0])
        assert talk.pools["copy"].backends["m"].failures_total == 1
        assert talk.pool.backends["a"].failures_total == 0
        talk.ok(exchange)
