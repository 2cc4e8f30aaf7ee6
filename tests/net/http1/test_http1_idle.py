"""Connections to backends between two requests: which is used next, which is used no more."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from lbproxy.model import SendProxySettings
from lbproxy.model_http import HttpPoolSettings
from tests.net.http1.http_rig import GET, OK, HttpRig, http_rig
from tests.net.net_rig import put, reset, take_all, turn

POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n"


def two_used(rig: HttpRig) -> tuple[list[socket.socket], list[socket.socket]]:
    """Two clients that were answered one behind the other, and their backends' ends."""
    clients = [rig.client()[1] for _ in range(2)]
    for client in clients:
        put(client, GET)
    backends = [rig.answered_by(), rig.answered_by()]
    for client, backend in zip(clients, backends, strict=True):
        rig.hears(backend)
        put(backend, OK)
        rig.hears(client, b"ok")
    turn(rig.reactor)
    return clients, backends


def is_closed(rig: HttpRig, sock: socket.socket) -> bool:
    turn(rig.reactor)
    return take_all(sock)[1]


class TestReuse:
    def test_the_next_request_goes_on_the_same_connection(self) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            rig.exchange(client, backend=backend)
            assert [record.reused for record in rig.told] == [False, True]
            backends = pool.backends["b0"]
            assert (backends.connects_ok_total, backends.reuses_total) == (1, 1)

    def test_the_one_that_came_back_last_is_used_first(self) -> None:
        with http_rig() as rig:
            rig.backends()
            clients, backends = two_used(rig)
            assert len(rig.waiting()) == 2
            rig.exchange(clients[0], backend=backends[1])
            rig.exchange(clients[0], backend=backends[1])
            assert take_all(backends[0]) == (b"", False)

    def test_other_clients_use_it_too(self) -> None:
        with http_rig() as rig:
            rig.backends()
            backend = rig.exchange(rig.client()[1])
            rig.exchange(rig.client()[1], backend=backend)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + b"x",
            b"HTTP/1.1 204 No Content\r\n\r\n" + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    def test_what_the_backend_may_not_mean_to_go_on_is_not_used_again(self, answer: bytes) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            put(client, GET)
            backend = rig.answered_by()
            rig.hears(backend)
            put(backend, answer)
            turn(rig.reactor, lambda: rig.told)
            assert rig.waiting() == []
            assert is_closed(rig, backend)
            heard = take_all(client)[0]
            assert heard.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 "))
            assert heard.count(b"HTTP/1.1") == 1
            assert not heard.endswith(b"x")
            rig.exchange(client)

    def test_http_1_0_may_say_that_it_goes_on(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            rig.exchange(client, answer=b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
            assert len(rig.waiting()) == 1


class TestLimits:
    def test_no_more_may_wait_than_the_pool_says_and_the_oldest_goes(self) -> None:
        with http_rig() as rig:
            rig.backends(http=HttpPoolSettings(idle_connections=1))
            _, backends = two_used(rig)
            assert len(rig.waiting()) == 1
            assert is_closed(rig, backends[0])
            assert not is_closed(rig, backends[1])

    def test_32_may_by_default(self) -> None:
        with http_rig() as rig:
            rig.backends()
            clients = [rig.client()[1] for _ in range(33)]
            for client in clients:
                put(client, GET)
            backends = [rig.answered_by() for _ in clients]
            for backend in backends:
                rig.hears(backend)
                put(backend, OK)
            turn(rig.reactor, lambda: len(rig.told) == 33)
            assert len(rig.waiting()) == rig.worker.idle.count == 32
            assert [number for number, backend in enumerate(backends) if is_closed(rig, backend)] == [0]

    def test_none_may_wait_where_the_pool_says_so(self) -> None:
        with http_rig() as rig:
            rig.backends(http=HttpPoolSettings(idle_connections=0))
            assert is_closed(rig, rig.exchange(rig.client()[1]))
            assert rig.waiting() == []

    def test_after_so_many_requests_one_is_closed(self) -> None:
        with http_rig() as rig:
            rig.backends(http=HttpPoolSettings(max_requests=2))
            _, client = rig.client()
            backend = rig.exchange(client)
            rig.exchange(client, backend=backend)
            assert is_closed(rig, backend)
            rig.exchange(client)

    def test_after_so_long_a_life_one_is_closed(self) -> None:
        with http_rig() as rig:
            rig.backends(http=HttpPoolSettings(max_life=10.0))
            _, client = rig.client()
            backend = rig.exchange(client)
            for _ in range(4):
                rig.passes(2.4)
                rig.exchange(client, backend=backend)
            rig.passes(2.4)
            rig.exchange(client, backend=backend)
            assert is_closed(rig, backend)

    @pytest.mark.parametrize(
        ("told", "seconds"),
        [(b"", 4.0), (b"Keep-Alive: timeout=3\r\n", 2.0), (b"Keep-Alive: timeout=9\r\n", 8.0)],
    )
    def test_one_waits_for_as_long_as_its_backend_says_less_a_second(self, told: bytes, seconds: float) -> None:
        with http_rig() as rig:
            rig.backends()
            answer = b"HTTP/1.1 200 OK\r\n" + told + b"Content-Length: 2\r\n\r\nok"
            backend = rig.exchange(rig.client()[1], answer=answer)
            rig.later(seconds - 0.2)
            assert not is_closed(rig, backend)
            rig.later(0.3)
            assert is_closed(rig, backend)
            assert rig.worker.idle.count == 0

    def test_nobody_waits_longer_than_a_minute(self) -> None:
        with http_rig() as rig:
            rig.backends()
            answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=7200\r\nContent-Length: 2\r\n\r\nok"
            backend = rig.exchange(rig.client()[1], answer=answer)
            rig.later(59)
            assert not is_closed(rig, backend)
            rig.later(2)
            assert is_closed(rig, backend)

    def test_one_whose_time_is_over_is_not_used_even_before_the_sweep(self) -> None:
        with http_rig(client_idle=100) as rig:
            rig.backends()
            _, client = rig.client()
            old = rig.exchange(client)
            rig.passes(4.1)
            put(client, GET)
            fresh = rig.answered_by()
            rig.hears(fresh)
            put(fresh, OK)
            rig.hears(client, b"ok")
            assert take_all(old) == (b"", True)

    def test_the_time_can_be_set(self) -> None:
        with http_rig(backend_idle=20) as rig:
            rig.backends()
            backend = rig.exchange(rig.client()[1])
            rig.later(19)
            assert not is_closed(rig, backend)
            rig.later(2)
            assert is_closed(rig, backend)


class TestStaleness:
    @pytest.mark.parametrize("word", [None, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
    def test_one_that_is_closed_or_speaks_while_it_waits_is_dropped(self, word: bytes | None) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            if word is None:
                backend.close()
            else:
                put(backend, word)
            turn(rig.reactor, lambda: not rig.waiting())
            assert rig.worker.idle.count == 0
            rig.exchange(client)
            assert [record.reused for record in rig.told] == [False, False]

    @pytest.mark.parametrize("how", ["fin", "bytes", "reset"])
    def test_it_is_seen_at_the_last_moment_too(self, how: str) -> None:
        with http_rig() as rig:
            rig.backends()
            conversation, client = rig.client()
            backend = rig.exchange(client)
            rig.now += 0.5  # nobody has turned the reactor since
            if how == "fin":
                backend.close()
            elif how == "bytes":
                put(backend, b"x")
            else:
                reset(backend)
            front = conversation.front
            found = front.reader.read(GET)
            assert found is not None
            side: Any = conversation.side
            side._begin(found[0], found[1])
            conversation.asked(found[0], rig.now, rig.now)
            assert conversation.exchange is not None
            assert not conversation.exchange.reused
            fresh = rig.answered_by()
            rig.hears(fresh)
            put(fresh, OK)
            rig.hears(client, b"ok")

    def test_what_cannot_be_sent_twice_goes_only_on_one_that_was_used_just_now(self) -> None:
        with http_rig() as rig:
            rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            rig.passes(0.9)
            rig.exchange(client, POST, backend=backend)
            rig.passes(1.1)
            put(client, POST)
            fresh = rig.answered_by()
            rig.hears(fresh)
            put(fresh, OK)
            rig.hears(client, b"ok")
            assert rig.told[-1].reused is False

    def test_the_others_stay_for_requests_that_can(self) -> None:
        with http_rig() as rig:
            rig.backends()
            clients, backends = two_used(rig)
            rig.passes(1.5)
            put(clients[0], POST)
            fresh = rig.answered_by()
            rig.hears(fresh)
            assert take_all(backends[1]) == (b"", True)
            rig.exchange(clients[1], backend=backends[0])
            put(fresh, OK)
            rig.hears(clients[0], b"ok")

    def test_a_request_that_meets_a_close_is_sent_once_more(self) -> None:
        """Class B of the retries, on real sockets."""
        with http_rig() as rig:
            pool = rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            put(client, GET)
            turn(rig.reactor, lambda: pool.active)
            backend.close()
            fresh = rig.answered_by()
            rig.hears(fresh)
            put(fresh, OK)
            rig.hears(client, b"ok")
            record = rig.told[-1]
            assert record.tries is not None
            assert record.tries[0].klass == "B"
            assert pool.backends["b0"].failures_total == 0

    def test_a_post_that_meets_a_close_is_502(self) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            _, client = rig.client()
            backend = rig.exchange(client)
            put(client, POST)
            rig.hears(backend)
            backend.close()
            turn(rig.reactor, lambda: len(rig.told) == 2)
            assert rig.told[-1].status == 502
            assert pool.backends["b0"].failures_total == 0
            assert b"502" in take_all(client)[0]


class TestWhatMustMatch:
    def test_a_connection_that_names_its_client_serves_no_other(self) -> None:
        with http_rig() as rig:
            rig.backends(send_proxy=SendProxySettings(1))
            _, client = rig.client()
            put(client, GET)
            backend = rig.answered_by()
            asked = rig.hears(backend)
            assert asked.startswith(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n")
            put(backend, OK)
            rig.hears(client, b"ok")
            assert is_closed(rig, backend)

    def test_one_that_speaks_tls_otherwise_is_closed(self) -> None:
        """After a reload of the pool's TLS, say."""
        with http_rig() as rig:
            pool = rig.backends()
            backend = rig.exchange(rig.client()[1])
            other: Any = object()
            idle = rig.worker.idle
            assert idle.take(pool.backends["b0"], other, rig.now, sure=False) is None
            assert idle.count == 0
            assert is_closed(rig, backend)

    def test_one_is_given_out_once(self) -> None:
        with http_rig() as rig:
            pool = rig.backends()
            two_used(rig)
            idle = rig.worker.idle
            sides = [idle.take(pool.backends["b0"], None, rig.now, sure=False) for _ in range(3)]
            assert sides[2] is None
            assert len(set(sides)) == 3
            assert idle.count == 0
            for side in sides[:2]:
                assert side is not None
                side.retire()
            assert idle.count == 0

    def test_other_backends_have_their_own(self) -> None:
        with http_rig() as rig:
            pool = rig.backends(2, policy="round-robin")
            for number in range(2):
                _, client = rig.client()
                put(client, GET)
                backend = rig.answered_by(number)
                rig.hears(backend)
                put(backend, OK)
                rig.hears(client, b"ok")
            assert [len(sides) for sides in rig.worker.idle._by_backend.values()] == [1, 1]
            side = rig.worker.idle.take(pool.backends["b1"], None, rig.now, sure=True)
            assert side is not None
            assert side.backend is pool.backends["b1"]
            side.retire()

    def test_a_backend_of_http_1_0_is_asked_in_its_words(self) -> None:
        with http_rig() as rig:
            rig.backends(http=HttpPoolSettings(http10=True))
            _, client = rig.client()
            put(client, GET)
            backend = rig.answered_by()
            assert rig.hears(backend).startswith(b"GET / HTTP/1.0\r\nHost: a.example\r\n")
            put(backend, b"HTTP/1.0 200 OK\r\n\r\nhello")
            backend.close()
            assert rig.hears(client, b"0\r\n\r\n").endswith(b"5\r\nhello\r\n0\r\n\r\n")
            put(client, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert rig.hears_all(client).startswith(b"HTTP/1.1 411 ")
