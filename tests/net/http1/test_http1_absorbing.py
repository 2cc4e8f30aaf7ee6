"""Answers of backends that no client reads: those that are stored, confirmed or thrown away, and those to copies."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lbproxy.model_cache import CacheSettings, RouteCacheSettings
from lbproxy.model_http import HttpRouteSettings, Mirror
from lbproxy.session.shared_cache import SharedCache
from tests.net.http1.http_rig import GET, HttpRig, dechunked, head_and_body, http_rig
from tests.net.http1.presenting_rig import FakeDisk, Taker
from tests.net.net_rig import put, reset, turn

KIB = 1024
EPOCH = 1_700_000_000.0
DATE = b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
MEGABYTE = random.Random(5).randbytes(KIB * KIB)


@contextmanager
def caching(
    *, max_object: int = 8 * KIB * KIB, route: dict[str, Any] | None = None, receive: int = 0, **timeouts: Any
) -> Iterator[HttpRig]:
    """A rig whose only route caches, in memory alone."""
    settings = HttpRouteSettings(cache=RouteCacheSettings(**(route or {})))
    with http_rig(route=settings, **timeouts) as rig:
        offset = EPOCH - rig.now
        rig.worker.wall = lambda: rig.now + offset
        rig.worker.cache = SharedCache(CacheSettings(max_object=max_object), lambda: rig.now, offset)
        rig.backends(receive=receive)
        yield rig


def store(rig: HttpRig) -> Any:
    cache = rig.worker.cache
    assert cache is not None
    return cache


def told(lines: bytes, body: bytes = b"", status: bytes = b"200 OK", age: bytes = b"max-age=60") -> bytes:
    return b"HTTP/1.1 %b\r\n%bCache-Control: %b\r\n%b\r\n%b" % (status, DATE, age, lines, body)


def framed(body: bytes, framing: str) -> bytes:
    if framing == "length":
        return told(b"Content-Length: %d\r\n" % len(body), body)
    if framing == "until_close":
        return told(b"", body)
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    return told(
        b"Transfer-Encoding: chunked\r\n", b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
    )


FRAMINGS = ["length", "chunks", "until_close"]


def asked(rig: HttpRig, *, small: bool = False, request: bytes = GET) -> tuple[Taker, socket.socket]:
    """A client whose request has reached the backend, on a connection of its own."""
    size = 8192 if small else 0
    client = Taker(rig, send=size, receive=size)
    client.ask(request)
    backend = rig.answered_by()
    rig.hears(backend)
    return client, backend


def sends(rig: HttpRig, backend: socket.socket, data: bytes, *clients: Taker) -> None:
    left = memoryview(data)

    def gone() -> bool:
        nonlocal left
        left = left[put(backend, bytes(left[:65536])) :]
        for client in clients:
            client.pump()
        return not left

    turn(rig.reactor, gone)


def gets(client: Taker, body: bytes, *, chunks: bool) -> bytes:
    """The head of an answer, when its body has proved to be this."""
    head = client.hears_head()
    if chunks:
        client.until(lambda: client.got.endswith(b"0\r\n\r\n"))
        assert dechunked(bytes(client.got)) == body
        client.got.clear()
    else:
        assert client.hears(len(body)) == body
    return head


def hit(rig: HttpRig, body: bytes) -> None:
    """It is in the store."""
    client = Taker(rig)
    client.ask()
    assert b"lbproxy; hit" in gets(client, body, chunks=False)


def missed(rig: HttpRig) -> None:
    """It is not: the backend is asked again."""
    client, backend = asked(rig)
    put(backend, told(b"Content-Length: 2\r\n", b"ok", age=b"no-store"))
    client.until(lambda: client.got.endswith(b"ok"))


def due(rig: HttpRig, seconds: float) -> None:
    """Let so much time pass, and all calls come that wait for it."""
    rig.passes(seconds)
    for call in rig.reactor.getDelayedCalls():
        call.reset(0)
    turn(rig.reactor)


class TestStoredAnswers:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 300 * KIB])
    def test_the_client_gets_it_and_so_do_others(self, framing: str, size: int) -> None:
        body = MEGABYTE[:size]
        with caching() as rig:
            client, backend = asked(rig)
            sends(rig, backend, framed(body, framing), client)
            if framing == "until_close":
                backend.shutdown(socket.SHUT_WR)
            client.until(lambda: rig.told)
            chunks = b"chunked" in client.got.partition(b"\r\n\r\n")[0]
            assert b"lbproxy; fwd=uri-miss" in gets(client, body, chunks=chunks)
            hit(rig, body)
            assert rig.worker.idle.count == (framing != "until_close")
            assert [(one.outcome, one.status) for one in rig.told] == [("ok", 200)] * 2

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_byte_by_byte(self, framing: str) -> None:
        with caching() as rig:
            client, backend = asked(rig)
            wire = framed(b"hello", framing)
            for at in range(len(wire)):
                put(backend, wire[at : at + 1])
                turn(rig.reactor)
            if framing == "until_close":
                backend.shutdown(socket.SHUT_WR)
            gets(client, b"hello", chunks=framing != "length")
            turn(rig.reactor, lambda: rig.told)
            hit(rig, b"hello")

    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_bytes_behind_it_are_nobodys(self, framing: str) -> None:
        with caching() as rig:
            client, backend = asked(rig)
            put(backend, framed(b"hello", framing) + b"HTTP/1.1 200 OK\r\n")
            client.until(lambda: rig.told)
            assert b"\r\n\r\nhello" in client.got
            hit(rig, b"hello")
            turn(rig.reactor)
            assert rig.worker.idle.count == 0

    def test_it_is_stored_without_the_client_for_whom_it_was_asked(self) -> None:
        body = MEGABYTE[: 300 * KIB]
        with caching() as rig:
            client, backend = asked(rig)
            wire = framed(body, "length")
            sends(rig, backend, wire[:100_000], client)
            reset(client.sock)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "client_gone"
            sends(rig, backend, wire[100_000:])
            turn(rig.reactor, lambda: store(rig).stored_total)
            hit(rig, body)

    def test_a_slow_client_delays_nobody(self) -> None:
        body = MEGABYTE
        with caching() as rig:
            client, backend = asked(rig, small=True)
            client.idle = True
            sends(rig, backend, framed(body, "length"))
            turn(rig.reactor, lambda: store(rig).stored_total)
            assert rig.worker.idle.count == 1
            assert rig.worker.budget.used <= 17 * KIB
            hit(rig, body)
            assert len(rig.told) == 1
            client.idle = False
            gets(client, body, chunks=False)

    @pytest.mark.parametrize("how", ["fin", "reset", "bad_chunk"])
    def test_one_that_is_cut_is_not_stored(self, how: str) -> None:
        with caching() as rig:
            pool = rig.pools["web"]
            client, backend = asked(rig)
            put(backend, told(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"))
            client.until(lambda: b"hello" in client.got)
            if how == "bad_chunk":
                put(backend, b"what\r\n")
            elif how == "fin":
                backend.shutdown(socket.SHUT_WR)
            else:
                reset(backend)
            client.hears_end()
            assert client.cut
            assert rig.told[0].outcome == "backend_cut"
            assert pool.active == 0
            assert store(rig).stored_total == 0
            assert rig.worker.idle.count == 0
            missed(rig)

    def test_one_that_is_none_from_the_beginning_is_502(self) -> None:
        """Its head has come with a body that cannot be read: nothing has been said yet."""
        with caching() as rig:
            client, backend = asked(rig)
            put(backend, told(b"Transfer-Encoding: chunked\r\n", b"what\r\n"))
            client.until(lambda: rig.told)
            client.pump()
            assert client.got.startswith(b"HTTP/1.1 502 ")
            assert (rig.told[0].outcome, rig.told[0].rule) == ("bad_response", "B7")
            missed(rig)

    def test_those_who_wait_get_it_as_it_comes(self) -> None:
        with caching() as rig:
            client, backend = asked(rig)
            others = [Taker(rig) for _ in range(3)]
            for other in others:
                other.ask()
            turn(rig.reactor)
            put(backend, told(b"Content-Length: 10\r\n", b"hello"))
            for one in (client, *others):
                one.until(lambda one=one: one.got.endswith(b"\r\n\r\nhello"))  # type: ignore[misc]  # bound early
            put(backend, b"world")
            for one in (client, *others):
                one.until(lambda one=one: one.got.endswith(b"helloworld"))  # type: ignore[misc]  # as above
            turn(rig.reactor, lambda: len(rig.told) == 4)
            assert store(rig).collapsed == 3

    def test_a_backend_that_pauses_for_too_long_is_given_up(self) -> None:
        with caching(response_body_idle=5.0) as rig:
            client, backend = asked(rig)
            put(backend, told(b"Content-Length: 10\r\n", b"hello"))
            client.until(lambda: client.got.endswith(b"hello"))
            due(rig, 4.0)
            assert not rig.told
            due(rig, 2.0)
            client.hears_end()
            assert client.cut
            assert store(rig).stored_total == 0


class TestTooLongToBeStored:
    """Nobody knew its length, and it turns out to be more than may be kept."""

    def test_the_client_gets_it_all_the_same(self) -> None:
        with caching(max_object=40_000) as rig:
            client, backend = asked(rig)
            sends(rig, backend, framed(MEGABYTE, "chunks"), client)
            gets(client, MEGABYTE, chunks=True)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "ok"
            assert store(rig).stored_total == 0
            assert store(rig).refused["too large"] == 1
            assert rig.worker.idle.count == 1

    def test_a_slow_client_holds_the_backend_up_and_gets_every_byte(self) -> None:
        body = MEGABYTE * 4
        with caching(max_object=40_000, receive=8192) as rig:
            client, backend = asked(rig, small=True)
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            wire = framed(body, "chunks")
            sent = 0
            client.idle = True
            for _ in range(300):
                sent += put(backend, wire[sent : sent + 65536])
                turn(rig.reactor)
            assert sent < 2 * KIB * KIB, "the backend waits for the client"
            assert rig.worker.budget.used <= 65 * KIB
            client.idle = False

            def whole() -> bool:
                nonlocal sent
                sent += put(backend, wire[sent : sent + 65536])
                return client.got.endswith(b"\r\n0\r\n\r\n") or client.cut

            client.until(whole)
            assert dechunked(head_and_body(bytes(client.got))[1]) == body

    def test_a_backend_that_is_held_up_is_not_to_blame(self) -> None:
        body = MEGABYTE * 2
        with caching(max_object=40_000, receive=8192, response_body_idle=5.0, write_stall=60.0) as rig:
            client, backend = asked(rig, small=True)
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            wire = framed(body, "chunks")
            sent = 0
            client.idle = True
            for _ in range(300):
                sent += put(backend, wire[sent : sent + 65536])
                turn(rig.reactor)
            for _ in range(4):
                due(rig, 4.0)
            assert not rig.told
            client.idle = False

            def whole() -> bool:
                nonlocal sent
                sent += put(backend, wire[sent : sent + 65536])
                return client.got.endswith(b"\r\n0\r\n\r\n") or client.cut

            for _ in range(3):
                client.pump(5000)
                turn(rig.reactor)
                due(rig, 0.5)
            client.until(whole)
            assert not client.cut
            assert dechunked(head_and_body(bytes(client.got))[1]) == body
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "ok"

    @pytest.mark.parametrize("early", [True, False], ids=["before_it_was", "while_it_was"])
    def test_without_a_client_it_is_not_read_to_its_end(self, early: bool) -> None:
        with caching(max_object=100_000) as rig:
            client, backend = asked(rig)
            wire = framed(MEGABYTE, "chunks")
            sends(rig, backend, wire[: 60_000 if early else 200_000], client)
            client.until(lambda: len(client.got) > 50_000)
            reset(client.sock)
            turn(rig.reactor, lambda: rig.told)
            if early:
                put(backend, wire[60_000:200_000])
            turn(rig.reactor, lambda: rig.pools["web"].active == 0)
            assert store(rig).stored_total == 0
            assert rig.worker.idle.count == 0

    def test_its_cut_is_a_cut(self) -> None:
        with caching(max_object=40_000) as rig:
            client, backend = asked(rig)
            sends(rig, backend, framed(MEGABYTE, "chunks")[:500_000], client)
            backend.shutdown(socket.SHUT_WR)
            client.hears_end()
            assert client.cut


class TestOnItsWayToAFile:
    @staticmethod
    @contextmanager
    def disk(most: int = 40_000, **rest: Any) -> Iterator[tuple[HttpRig, FakeDisk]]:
        with caching(max_object=most, **rest) as rig:
            cache, disk = store(rig), FakeDisk(rig)
            cache.disk = disk
            try:
                yield rig, disk
            finally:
                disk.close()

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_slow_client_delays_nothing_and_reads_from_there(self, framing: str) -> None:
        body = MEGABYTE * 3
        # One of unknown length goes to a file when it has become long, and passes when it is too long for memory.
        with self.disk(40_000 if framing == "length" else 1_500_000) as (rig, disk):
            client, backend = asked(rig, small=True)
            client.idle = True
            sends(rig, backend, framed(body, framing))
            if framing == "until_close":
                backend.shutdown(socket.SHUT_WR)
            turn(rig.reactor, lambda: disk.kept)
            (file,) = disk.made
            assert file.contents() == body
            assert rig.worker.budget.used <= 65 * KIB
            client.idle = False
            gets(client, body, chunks=framing != "length")
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "ok"

    def test_without_its_client_it_is_written_to_its_end(self) -> None:
        with self.disk() as (rig, disk):
            client, backend = asked(rig)
            wire = framed(MEGABYTE, "length")
            sends(rig, backend, wire[:100_000], client)
            reset(client.sock)
            turn(rig.reactor, lambda: rig.told)
            sends(rig, backend, wire[100_000:])
            turn(rig.reactor, lambda: disk.kept)
            assert disk.made[0].contents() == MEGABYTE

    def test_a_disk_that_is_behind_holds_the_backend_up(self) -> None:
        body = MEGABYTE * 2
        with self.disk(receive=8192) as (rig, disk):
            client, backend = asked(rig)
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            wire = framed(body, "length")
            put(backend, wire[:20_000])
            client.until(lambda: len(client.got) > 10_000)
            (file,) = disk.made
            file.full = True
            sent = 20_000
            for _ in range(60):
                sent += put(backend, wire[sent : sent + 65536])
                turn(rig.reactor)
                client.pump()
            assert sent < len(body)
            file.room()
            sends(rig, backend, wire[sent:], client)
            gets(client, body, chunks=False)
            turn(rig.reactor, lambda: disk.kept)

    def test_should_it_fail_the_client_gets_all_the_same(self) -> None:
        with self.disk() as (rig, disk):
            client, backend = asked(rig)
            wire = framed(MEGABYTE, "length")
            sends(rig, backend, wire[:100_000], client)
            disk.made[0].fail()
            sends(rig, backend, wire[100_000:], client)
            gets(client, MEGABYTE, chunks=False)
            turn(rig.reactor, lambda: rig.told)
            assert rig.told[0].outcome == "ok"
            assert disk.kept == []

    def test_should_it_fail_without_a_client_the_backend_is_let_go(self) -> None:
        with self.disk() as (rig, disk):
            client, backend = asked(rig)
            wire = framed(MEGABYTE, "length")
            sends(rig, backend, wire[:100_000], client)
            reset(client.sock)
            turn(rig.reactor, lambda: rig.told)
            disk.made[0].fail()
            turn(rig.reactor)
            assert rig.pools["web"].active == 0
            assert rig.worker.idle.count == 0


class TestConfirmed:
    @staticmethod
    @contextmanager
    def stale(lines: bytes = b"") -> Iterator[tuple[HttpRig, Taker, socket.socket]]:
        """Something stored has become stale, and the backend is asked about it on its old connection."""
        with caching() as rig:
            client, backend = asked(rig)
            put(backend, told(b'ETag: "a"\r\nContent-Length: 5\r\n' + lines, b"hello", age=b"max-age=2"))
            client.until(lambda: rig.told)
            client.got.clear()
            rig.told.clear()
            rig.now += 3
            client.ask()
            assert b'If-None-Match: "a"' in rig.hears(backend)
            yield rig, client, backend

    @pytest.mark.parametrize("extra", [b"", b"x"])
    def test_a_304_has_what_is_stored_served(self, extra: bytes) -> None:
        with self.stale() as (rig, client, backend):
            put(backend, told(b'ETag: "a"\r\n', status=b"304 Not Modified") + extra)
            head = gets(client, b"hello", chunks=False)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"fwd=stale; fwd-status=304" in head
            turn(rig.reactor)
            assert rig.worker.idle.count == (not extra)
            hit(rig, b"hello")

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_the_body_of_an_error_is_thrown_away(self, framing: str) -> None:
        body = MEGABYTE[: 300 * KIB]
        with self.stale(b"Cache-Control: stale-if-error=600\r\n") as (rig, client, backend):
            wire = framed(body, framing).replace(b"200 OK", b"503 Busy", 1)
            sends(rig, backend, wire, client)
            if framing == "until_close":
                backend.shutdown(socket.SHUT_WR)
            head = gets(client, b"hello", chunks=False)
            assert b"fwd=stale; fwd-status=503" in head
            turn(rig.reactor, lambda: rig.pools["web"].active == 0)
            assert rig.worker.idle.count == (framing != "until_close")

    @pytest.mark.parametrize("how", ["fin", "reset", "bad_chunk", "silence"])
    def test_what_becomes_of_it_is_nothing_to_the_client(self, how: str) -> None:
        with self.stale(b"Cache-Control: stale-if-error=600\r\n") as (rig, client, backend):
            put(backend, told(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"503 Busy"))
            gets(client, b"hello", chunks=False)
            if how == "bad_chunk":
                put(backend, b"what\r\n")
            elif how == "fin":
                backend.shutdown(socket.SHUT_WR)
            elif how == "reset":
                reset(backend)
            else:
                for _ in range(20):
                    due(rig, 10.0)
            turn(rig.reactor, lambda: rig.pools["web"].active == 0)
            assert rig.worker.idle.count == 0
            assert [(one.outcome, one.status) for one in rig.told] == [("ok", 200)]


class TestCopies:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("size", [0, 5, 300 * KIB])
    def test_their_answers_are_read_and_thrown_away(self, framing: str, size: int) -> None:
        with http_rig(route=HttpRouteSettings(mirror=Mirror("web"))) as rig:
            rig.backends()
            client, backend = asked(rig)
            copied = rig.answered_by()
            assert b"X-Mirror: 1\r\n" in rig.hears(copied)
            sends(rig, copied, framed(MEGABYTE[:size], framing))
            if framing == "until_close":
                copied.shutdown(socket.SHUT_WR)
            turn(rig.reactor, lambda: rig.worker.copies.active == 0)
            assert rig.worker.idle.count == (framing != "until_close")
            assert client.got == b""
            put(backend, framed(b"ok", "length"))
            client.until(lambda: client.got.endswith(b"\r\n\r\nok"))
            turn(rig.reactor, lambda: rig.told)
            assert len(rig.told) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            b"nonsense\r\n\r\n",
            told(b"Transfer-Encoding: chunked\r\n", b"what\r\n"),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            told(b"Content-Length: 9\r\n", b"hello"),
        ],
        ids=["nonsense", "bad_chunk", "101", "cut"],
    )
    def test_one_that_fails_is_nothing_to_the_client(self, answer: bytes) -> None:
        with http_rig(route=HttpRouteSettings(mirror=Mirror("web"))) as rig:
            rig.backends()
            client, backend = asked(rig)
            copied = rig.answered_by()
            rig.hears(copied)
            put(copied, answer)
            copied.shutdown(socket.SHUT_WR)
            turn(rig.reactor, lambda: rig.worker.copies.active == 0)
            assert rig.worker.idle.count == 0
            put(backend, framed(b"ok", "length"))
            client.until(lambda: client.got.endswith(b"\r\n\r\nok"))
