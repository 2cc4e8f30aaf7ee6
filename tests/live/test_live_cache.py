"""The shared cache in a real process: who is asked how often, who waits, who is served what while backends fail."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from contextlib import ExitStack
from functools import partial

import h11
import pytest

from tests.live.cache_scripts import (
    SITE,
    TEXT,
    Stepwise,
    ask_all,
    cacheable,
    caching,
    command,
    is_hit,
    purge,
    room_for,
    route,
    socket_of,
    stat,
    told,
)
from tests.live.harness import until
from tests.live.http_peers import Answer, Answered, Asked, RawClient, chunked, http_pool, http_site, request
from tests.live.http_scripts import Gate, Live, Recording, all_at_once, blocks, digest, in_turn, large, rest_of
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import PATIENCE, reset
from tests.live.tls_peers import Papers, TlsBackend, cuts_off, server_context
from tests.live.tls_peers import authority_fixture as authority_fixture
from tests.live.web_scripts import NAME, https, tls_keys

ETAG = (b"ETag", b'"one"')
TEN = b"0123456789"
HUNDRED = TEN * 10


def _numbered(*fields: tuple[bytes, bytes], cc: bytes = b"max-age=60") -> object:
    """Answers that tell the number of the request."""
    lock, count = threading.Lock(), [0]

    def choose(asked: Asked) -> Answer:
        with lock:
            count[0] += 1
            return cacheable(b"%d" % count[0], *fields, cc=cc)

    return choose


def _confirming(asked: Asked) -> Answer:
    """An answer that is confirmed when asked about."""
    if asked.get(b"if-none-match") == ETAG[1]:
        return Answer(304, fields=(ETAG, (b"Cache-Control", b"max-age=60")), reason=b"Not Modified")
    return cacheable(b"page", ETAG)


class TestVerdicts:
    def test_what_is_stored_is_served_without_the_backend(self, live: Live) -> None:
        backend = live.recording(_numbered())
        caching(live, backend.address)
        with live.client() as client:
            first, second, other = client.ask(), client.ask(), client.ask(target=b"/?b")
        assert (first.body, second.body, other.body) == (b"1", b"1", b"2")
        assert told(first) == "fwd=uri-miss; stored"
        assert is_hit(second)
        assert 0 <= int(second.get(b"age") or b"-1") <= 2
        assert [one.target for one in backend.requests] == [b"/", b"/?b"]
        assert [one["cache"] for one in live.records(3)] == ["miss", "hit", "miss"]

    def test_stale_ones_are_confirmed_replaced_or_served_meanwhile(self, live: Live) -> None:
        answers = {
            "/confirmed": _confirming,
            "/replaced": in_turn(cacheable(b"old", ETAG), cacheable(b"new", (b"ETag", b'"two"'))),
            "/meanwhile": _numbered(cc=b"max-age=60, stale-while-revalidate=60"),
        }
        backend = live.recording(answers)
        caching(live, backend.address)
        with live.client() as client:
            for path in answers:
                client.ask(target=path.encode())
            purge(live.proxy, all=True, soft=True)
            confirmed, replaced, meanwhile = (client.ask(target=path.encode()) for path in answers)
            assert (confirmed.status, confirmed.body) == (200, b"page")
            assert told(confirmed).startswith("fwd=stale; fwd-status=304; stored")
            assert (replaced.body, told(replaced)) == (b"new", "fwd=stale; fwd-status=200; stored")
            assert meanwhile.body == b"1"
            assert told(meanwhile).startswith("hit; ttl=-") or told(meanwhile) == "hit; ttl=0"
            backend.wait_for(6)
            until(lambda: not stat(live.proxy)["fetching"], "the new one has come")
            assert client.ask(target=b"/meanwhile").body == b"2"
        assert len(backend.requests) == 6
        verdicts = [one["cache"] for one in live.records(7)]
        assert verdicts[3:6] == ["revalidated", "miss", "updating"]

    def test_freshness_runs_out_by_the_clock(self, live: Live) -> None:
        """All that waits for a second to pass, at once"""
        answers = {
            "/max-age": _numbered(cc=b"max-age=1"),
            "/s-maxage": _numbered(cc=b"max-age=60, s-maxage=1"),
            "/aged": _numbered((b"Age", b"59"), cc=b"max-age=60"),
            "/error": in_turn(cacheable(cc=b"max-age=1, stale-if-error=60"), Answer(500)),
            "/never": in_turn(cacheable(cc=b"max-age=1, stale-if-error=60, must-revalidate"), Answer(500)),
            "/confirmed": in_turn(
                cacheable(b"page", ETAG, cc=b"max-age=1"), Answer(304, fields=(ETAG, (b"Cache-Control", b"max-age=60")))
            ),
            "/long": _numbered(),
        }
        backend = live.recording(answers)
        caching(live, backend.address)
        with live.client() as client:
            for path in answers:
                client.ask(target=path.encode())
            until(lambda: not is_hit(client.ask(target=b"/s-maxage")), "a second has passed")
            until(lambda: not is_hit(client.ask(target=b"/confirmed")), "a second has passed for all")
            later = {path: client.ask(target=path.encode()) for path in answers}
        assert later["/max-age"].body == b"2"
        assert later["/aged"].body == b"2"
        assert (later["/error"].status, told(later["/error"])) == (200, "fwd=stale; fwd-status=500")
        assert later["/never"].status == 500
        assert is_hit(later["/confirmed"])
        assert later["/confirmed"].body == b"page"
        assert (later["/long"].body, int(later["/long"].get(b"age") or b"0") >= 1) == (b"1", True)

    def test_what_may_not_be_stored_is_asked_for_each_time_and_says_why(self, live: Live) -> None:
        """K2, K4, K8"""
        answers = {
            "/style.css": cacheable(b"", (b"Set-Cookie", b"id=1")),
            "/private.css": cacheable(cc=b"private, max-age=60"),
            "/no-store.js": cacheable(cc=b"no-store"),
            "/vary": cacheable(b"", (b"Vary", b"*")),
            "/nothing-said": Answer(),
            "/503": cacheable(status=503),
            "/partial": cacheable(b"", (b"Content-Range", b"bytes 0-1/2"), status=206),
        }
        backend = live.recording(answers)
        caching(live, backend.address)
        with live.client() as client:
            for path in answers:
                for _ in range(2):
                    said = told(client.ask(target=path.encode()))
                    assert "hit" not in said
                    assert "stored" not in said.split("; ")
                    assert "detail=" in said
        assert len(backend.requests) == 2 * len(answers)

    def test_authorization_keeps_an_answer_private_unless_it_says_public(self, live: Live) -> None:
        """K2"""
        answers = {"/mine": _numbered(), "/ours": _numbered(cc=b"public, max-age=60")}
        backend = live.recording(answers)
        caching(live, backend.address)
        secret = ((b"Authorization", b"Basic eDp5"),)
        with live.client() as client:
            assert [client.ask(b"GET", b"/mine", secret).body for _ in range(2)] == [b"1", b"2"]
            assert client.ask(target=b"/mine").body == b"3"
            assert [client.ask(b"GET", b"/ours", secret).body for _ in range(2)] == [b"1", b"1"]
            assert client.ask(target=b"/ours").body == b"1"

    def test_fields_outside_the_key_do_not_get_in(self, live: Live) -> None:
        """K1, K3, K5: the same entry for all of these, or none"""
        backend = live.recording(_numbered((b"Vary", b"Accept-Encoding")))
        caching(live, backend.address)
        with live.client() as client:
            assert client.ask(fields=((b"X-Forwarded-Host", b"evil.test"),)).body == b"1"
            assert client.ask(fields=((b"X-Forwarded-Scheme", b"nothttps"), (b"X-Forwarded-Proto", b"x"))).body == b"1"
            for odd in (b"zz", b"gzip;q=0", b"identity", b"*;q=0, identity"):
                assert client.ask(fields=((b"Accept-Encoding", odd),)).body == b"1"
            assert client.ask(fields=((b"Accept-Encoding", b"gzip"),)).body == b"2"
            assert client.ask(fields=((b"Accept-Encoding", b"foo, GZIP ;q=0.3"),)).body == b"2"
            assert client.ask(fields=((b"X-HTTP-Method-Override", b"DELETE"),)).body == b"3"
            assert client.ask(fields=((b"X-Original-URL", b"/admin"),)).body == b"4"
            assert client.ask(fields=((b"Cache-Control", b"no-cache"), (b"Pragma", b"no-cache"))).body == b"1", "K12"
            assert client.ask(fields=((b"Cache-Control", b"only-if-cached"),), target=b"/none").status == 504
        assert backend.requests[0].get(b"x-forwarded-host") == b"lbproxy.test"

    def test_unsafe_methods_drop_what_they_change(self, live: Live) -> None:
        def answer(asked: Asked) -> Answer:
            if asked.method == b"GET":
                return cacheable(asked.target)
            return Answer(201, fields=((b"Location", b"/b"),)) if asked.target == b"/a" else Answer(500)

        backend = live.recording(answer)
        caching(live, backend.address)
        with live.client() as client:
            for path in (b"/a", b"/b", b"/c"):
                client.ask(target=path)
            client.ask(b"POST", b"/a", body=b"x")
            client.ask(b"POST", b"/c", body=b"x")
            assert [is_hit(client.ask(target=path)) for path in (b"/a", b"/b", b"/c")] == [False, False, True]


class TestOneForAll:
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_thousand_who_want_a_cold_key_reach_the_backend_once(self, live: Live, framing: str) -> None:
        """K10, with the default settings; the body comes in pieces while they wait, and then reads on"""
        room_for(1000)
        pieces = [bytes((65 + number,)) * 5000 for number in range(4)]
        body = Stepwise(live.stack, *pieces)
        gate = Gate(body.answer(chunked=framing == "chunked"))
        backend = live.recording(gate)
        caching(live, backend.address)
        with ExitStack() as closing:
            clients = [closing.enter_context(RawClient(live.port)) for _ in range(1000)]
            ask_all(clients, request(fields=((b"Connection", b"close"),)))
            gate.wait()
            until(lambda: live.proxy.listener(live.listener)["accepted"] == 1000, "all have come")
            live.proxy.status()  # what all have written has been read by then
            live.proxy.status()
            gate.open()
            body.step()
            heads = [client.take(500) for client in clients]
            body.step()
            seconds = [client.take(6000) for client in clients]
            body.all()
            rests = [client.read_to_end() for client in clients]
        assert len(backend.requests) == 1
        assert stat(live.proxy)["collapsed"] == 999
        for whole in map(b"".join, zip(heads, seconds, rests, strict=True)):
            head, _, rest = whole.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert _without_chunks(rest) == body.whole if b"chunked" in head else rest == body.whole
        with live.client() as client:
            assert client.ask().body == body.whole
        assert len(backend.requests) == 1
        assert stat(live.proxy)["requests"] == {
            "hit": 1, "stale": 0, "updating": 0, "revalidated": 0, "miss": 1000, "bypass": 0
        }  # fmt: skip

    def test_who_comes_while_the_body_does_joins(self, live: Live) -> None:
        body = Stepwise(live.stack, b"a" * 5000, b"b" * 5000)
        backend = live.recording({"/": body.answer()})
        caching(live, backend.address)
        first, second = live.client(), live.client()
        first.send(request())
        body.step()
        head = first.take(1000)
        second.send(request())
        assert b"; collapsed" in second.take(300)
        body.all()
        with live.client() as third:
            assert third.ask().body == body.whole
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(backend.requests) == 1

    def test_nobody_waits_behind_what_cannot_be_stored(self, live: Live) -> None:
        """Hit for miss: those of the first rush wait for the first head, later ones for nothing"""
        gate = Gate(Answer(fields=((b"Set-Cookie", b"a=b"),)))
        backend = live.recording(gate)
        caching(live, backend.address)
        clients = [live.client() for _ in range(20)]
        ask_all(clients, request())
        gate.wait()
        live.proxy.status()
        assert len(backend.requests) == 1
        gate.open()
        assert {client.answer().status for client in clients} == {200}
        assert len(backend.requests) == 20
        held = Gate(Answer(fields=((b"Set-Cookie", b"a=b"),)))
        backend.answers = held
        ask_all(clients, request())
        for _ in clients:
            held.wait()  # all are there at once
        held.open()
        assert {client.answer().status for client in clients} == {200}

    def test_the_leader_may_leave_and_the_others_are_served(self, live: Live) -> None:
        gate = Gate(cacheable(b"for the others"))
        backend = live.recording(gate)
        caching(live, backend.address)
        leader, others = live.client(), [live.client() for _ in range(3)]
        leader.send(request())
        gate.wait()
        ask_all(others, request())
        until(lambda: live.proxy.listener(live.listener)["accepted"] == 4, "all have come")
        live.proxy.status()
        leader.reset()
        gate.wait()  # one of them asks anew
        gate.open()
        assert {client.answer().body for client in others} == {b"for the others"}
        assert len(backend.requests) == 2

    def test_waiting_ends_after_its_time_and_at_its_number(self, live: Live) -> None:
        gate = Gate(cacheable())
        backend = live.recording(gate)
        caching(live, backend.address, top='[cache]\nwait = "0.1s"\nwaiters = 2\n')
        clients = [live.client() for _ in range(4)]
        for client in clients:
            client.send(request())
        for _ in range(4):
            gate.wait()  # two ask since too many wait, two since they have waited long enough
        gate.open()
        said = sorted(told(client.answer()) for client in clients)
        assert said[0].startswith('fwd=uri-miss; detail="')
        assert said[3] == "fwd=uri-miss; stored"
        assert len(backend.requests) == 4

    def test_a_rush_on_a_stale_one_asks_once_and_is_served_meanwhile(self, live: Live) -> None:
        """K10"""
        gate = Gate(cacheable(b"new", cc=b"max-age=60, stale-while-revalidate=60"))
        backend = live.recording(in_turn(cacheable(b"old", cc=b"max-age=60, stale-while-revalidate=60"), gate))
        caching(live, backend.address)
        clients = [live.client() for _ in range(30)]
        clients[0].ask()
        purge(live.proxy, url=f"{SITE}/", soft=True)
        ask_all(clients, request())
        assert {client.answer().body for client in clients} == {b"old"}
        gate.wait()
        gate.open()
        backend.wait_for(2)
        until(lambda: not stat(live.proxy)["fetching"], "the new one has come")
        ask_all(clients, request())
        assert {client.answer().body for client in clients} == {b"new"}
        assert len(backend.requests) == 2

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_slow_reader_delays_neither_the_others_nor_the_entry(self, live: Live, framing: str) -> None:
        size = 4_000_000
        answer = large(size, fields=((b"Cache-Control", b"max-age=60"),), framing=framing)
        backend = live.recording({"/": answer})
        caching(live, backend.address)
        slow = live.client(receive_buffer=4096)
        slow.send(request())
        backend.wait_for(1)
        backend.answers = {}
        with live.client() as client:
            for _ in range(3):
                assert hashlib.sha256(client.ask().body).hexdigest() == digest(size)
            assert is_hit(client.ask(b"HEAD"))
            purge(live.proxy, all=True)
            assert client.ask().body == b"ok"
        assert hashlib.sha256(slow.answer().body).hexdigest() == digest(size), "what it reads does not go"
        assert len(backend.requests) == 2

    @pytest.mark.parametrize("way", ["off", "off and on"])
    def test_a_reload_that_switches_the_cache_off_harms_nobody_who_waits(self, live: Live, way: str) -> None:
        gate = Gate(cacheable(b"page"))
        backend = live.recording(gate)
        port = caching(live, backend.address)
        clients = [live.client() for _ in range(8)]
        clients[0].send(request())
        gate.wait()
        ask_all(clients[1:], request())
        until(lambda: live.proxy.listener(live.listener)["accepted"] == 8, "all have come")
        live.proxy.status()
        live.serve_text(http_site(port, backend.address, more=route("")))
        if way == "off and on":
            live.serve_text(http_site(port, backend.address, more=route()))
        gate.open()
        assert {client.answer().body for client in clients} == {b"page"}
        with live.client() as client:
            again = [client.ask() for _ in range(2)]
        assert {one.body for one in again} == {b"page"}
        assert (again[1].get(b"cache-status") or b"").startswith(b"lbproxy; hit") == (way != "off")
        live.records(10)


def _without_chunks(body: bytes) -> bytes:
    parts = []
    while body:
        length, _, body = body.partition(b"\r\n")
        size = int(length, 16)
        parts.append(body[:size])
        assert body[size : size + 2] == b"\r\n"
        body = body[size + 2 :]
        if not size:
            assert body == b""
            return b"".join(parts)
    raise AssertionError("no last chunk")


class TestWithoutBackends:
    def test_cached_pages_go_on_when_every_backend_is_dead_and_each_says_so(self, live: Live) -> None:
        backends = [live.recording(lambda asked: cacheable(asked.target, ETAG)) for _ in range(2)]
        caching(live, *(one.address for one in backends), cache='{ stale_if_error = "60s" }')
        pages = [b"/%d" % number for number in range(5)]
        with live.client() as client:
            for page in pages:
                client.ask(target=page)
            purge(live.proxy, all=True, soft=True)
            for backend in backends:
                backend.stop()
            for _ in range(3):  # refused at first, and then nobody is left to be asked
                for page in pages:
                    answer = client.ask(target=page)
                    assert (answer.status, answer.body) == (200, page)
                    assert told(answer).startswith('fwd=stale; detail="')
                    assert answer.get(b"age") is not None
            assert client.ask(b"HEAD", b"/1").status == 200
            assert client.ask(fields=((b"If-None-Match", b'"one"'),), target=b"/1").status == 304
            assert client.ask(target=b"/unknown").status in (502, 503)
            assert client.ask(b"POST", b"/1", body=b"x").status in (502, 503)
        verdicts = [one["cache"] for one in live.records(24)]
        assert verdicts[5:22] == ["stale"] * 17

    @pytest.mark.parametrize(
        "failing",
        [
            Answer(500),
            Answer(503, body=b"down"),
            Answer(raw=b"", end="close"),
            Answer(raw=b"nonsense\r\n\r\n", end="close"),
            Answer(delay=5.0),
            Answer(body=b"x" * 100, end="reset", cut=20),
        ],
        ids=["500", "503", "closed", "nonsense", "late", "reset"],
    )
    def test_each_kind_of_failure_is_replaced(self, live: Live, failing: Answer) -> None:
        backend = live.recording(in_turn(cacheable(b"page", ETAG), failing))
        caching(
            live,
            backend.address,
            cache='{ stale_if_error = "60s" }',
            more='timeouts = { response_head = "0.2s" }',
            pool="outlier = false",
        )
        with live.client() as client:
            client.ask()
            purge(live.proxy, url=f"{SITE}/", soft=True)
            answer = client.ask()
            assert (answer.status, answer.body) == (200, b"page")
            assert told(answer).startswith("fwd=stale; ")
            backend.answers = {"/": cacheable(b"new page")}
            assert client.ask().body == b"new page"
            assert is_hit(client.ask())

    def test_who_waits_for_what_fails_gets_the_stale_one_too(self, live: Live) -> None:
        gate = Gate(Answer(500))
        backend = live.recording(in_turn(cacheable(b"page"), gate))
        caching(live, backend.address, cache='{ stale_if_error = "60s" }')
        clients = [live.client() for _ in range(10)]
        clients[0].ask()
        purge(live.proxy, all=True, soft=True)
        ask_all(clients, request())
        gate.wait()
        live.proxy.status()
        gate.open()
        answers = [client.answer() for client in clients]
        assert {(one.status, one.body, told(one)) for one in answers} == {(200, b"page", "fwd=stale; fwd-status=500")}
        assert len(backend.requests) == 2


_HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\n"
_LONG = b"z" * 3000
TRUNCATED = {
    "short body": _HEAD + b"Content-Length: 9000\r\n\r\n" + _LONG,
    "no last chunk": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nbb8\r\n" + _LONG + b"\r\n",
    "within a chunk": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nfa0\r\n" + _LONG,
    "no end of trailers": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nbb8\r\n" + _LONG + b"\r\n0\r\n",
    "a broken chunk": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nbb8\r\n" + _LONG + b"\r\nzz\r\n",
    "reset": _HEAD + b"Content-Length: 9000\r\n\r\n" + _LONG,
    "reset until close": _HEAD + b"\r\n" + _LONG,
}


class TestTruncated:
    """K7, fault matrix 9 to 11"""

    @pytest.mark.parametrize("packs", [False, True], ids=["plain", "packed"])
    @pytest.mark.parametrize("how", TRUNCATED)
    def test_what_is_cut_off_is_never_stored_and_never_looks_whole(self, live: Live, how: str, packs: bool) -> None:
        def script(conn: socket.socket) -> None:
            while b"\r\n\r\n" not in conn.recv(65536):
                pass
            conn.sendall(TRUNCATED[how])
            if how.startswith("reset"):
                taken.wait(PATIENCE)  # a reset would overtake the bytes
                reset(conn)

        taken = threading.Event()
        backend = live.scripted(script)
        caching(live, backend.address, compress="true" if packs else "", pool="outlier = false")
        fields = ((b"Accept-Encoding", b"gzip"),) if packs else ()
        for attempt in (1, 2):
            taken.clear()
            with live.client() as client, live.client() as old:
                client.send(request(fields=fields))
                client.sock.recv(1, socket.MSG_PEEK)
                taken.set()
                with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                    answer = client.answer()
                    assert answer.status == 502
                    raise h11.RemoteProtocolError("it says itself that nothing came")
                assert backend.connections == 2 * attempt - 1
                old.send(request(version=b"HTTP/1.0"))
                said, was_reset = rest_of(old.sock)
                assert was_reset or said.startswith(b"HTTP/1.1 502") or b"\r\nContent-Length: 9000\r\n" in said
            assert backend.connections == 2 * attempt
        assert stat(live.proxy)["stored"] == 0
        assert stat(live.proxy)["memory"]["objects"] == 0

    def test_tls_that_ends_without_notice(self, live: Live, authority: Papers) -> None:
        def script(conn: socket.socket) -> None:
            while b"\r\n\r\n" not in conn.recv(65536):
                pass
            cuts_off(_HEAD + b"\r\n" + _LONG)(conn)

        backend = TlsBackend(script, context=server_context(authority.issue("127.0.0.1")))
        live.stack.callback(backend.stop)
        caching(live, backend.address, pool=f'outlier = false\ntls = {{ ca = "{authority.ca}" }}')
        for count in (1, 2):
            with live.client() as client, pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                client.ask()
            assert backend.connections == count
        assert stat(live.proxy)["stored"] == 0

    def test_all_who_wait_hear_of_it(self, live: Live) -> None:
        body = Stepwise(live.stack, b"a" * 3000)
        gate = Gate(Answer(body=b"a" * 9000, fields=((b"Cache-Control", b"max-age=60"),), cut=4000))
        backend = live.recording(in_turn(gate, body.answer()))
        caching(live, backend.address, pool="outlier = false")
        clients = [live.client() for _ in range(10)]
        ask_all(clients, request())
        gate.wait()
        live.proxy.status()
        gate.open()
        for client in clients:
            with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                client.answer()
        body.all()
        with live.client() as client:
            assert client.ask().body == body.whole
        assert len(backend.requests) == 2


PAGES = (b"/a/1", b"/a/2", b"/a?q", b"/b", b"/c")


def _tagged(asked: Asked) -> Answer:
    tags = b"all, red" if asked.target == b"/b" else b"all"
    return cacheable(asked.target, (b"Cache-Tag", tags), ETAG)


class TestPurge:
    @pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
    @pytest.mark.parametrize(
        ("what", "gone"),
        [
            ({"url": f"{SITE}/a/1"}, {b"/a/1"}),
            ({"url": f"{SITE}/a?q"}, {b"/a?q"}),
            ({"prefix": f"{SITE}/a/"}, {b"/a/1", b"/a/2"}),
            ({"host": "LBPROXY.test"}, set(PAGES)),
            ({"tag": "RED"}, {b"/b"}),
            ({"all": True}, {*PAGES, b"other"}),
        ],
        ids=["url", "query", "prefix", "host", "tag", "all"],
    )
    def test_what_is_purged_is_asked_for_and_nothing_else(
        self, live: Live, what: dict[str, object], gone: set[bytes], soft: bool
    ) -> None:
        backend = live.recording(_tagged)
        caching(live, backend.address)

        def missed(client: RawClient) -> set[bytes]:
            found = {page for page in PAGES if not is_hit(client.ask(target=page))}
            return found if is_hit(client.ask(host=b"other.test", target=b"/b2")) else {*found, b"other"}

        with live.client() as client:
            missed(client)
            assert missed(client) == set()
            answer = purge(live.proxy, **what, soft=soft)
            assert ("purged" in answer) == ("url" in what)
            assert missed(client) == gone
            assert missed(client) == set()
        asked_about = [one for one in backend.requests[len(PAGES) + 1 :] if one.get(b"if-none-match") is not None]
        assert len(asked_about) == (len(gone) if soft else 0)

    def test_what_was_on_its_way_when_it_was_purged_is_not_stored(self, live: Live) -> None:
        body = Stepwise(live.stack, b"old", b"er")
        backend = live.recording(in_turn(body.answer(), cacheable(b"newer")))
        caching(live, backend.address)
        first, second = live.client(), live.client()
        first.send(request())
        body.step()
        backend.wait_for(1)
        head = first.take(20)
        purge(live.proxy, url=f"{SITE}/")
        body.all()
        assert head.startswith(b"HTTP/1.1 200")
        until(lambda: not stat(live.proxy)["fetching"], "it has come")
        assert second.ask().body == b"newer"

    def test_the_commands_do_the_same(self, live: Live) -> None:
        backend = live.recording(_tagged)
        caching(live, backend.address)
        socket = socket_of(live.proxy)
        urls = [f"{SITE}{page.decode()}" for page in PAGES]
        listing = "# pages\n" + "\n".join(urls) + "\nnonsense\n"
        warm = command("cache", "warm", "-", "--connect", f"127.0.0.1:{live.port}", stdin=listing)
        assert warm.returncode == 1, "one line of it is no URL"
        assert "5 stored, 1 failed" in warm.stdout, warm
        done: list[object] = [None] * 3
        words = [("purge", urls[0]), ("purge", "--tag", "red", "--soft"), ("purge", "--prefix", "nonsense")]

        def run(index: int) -> None:
            done[index] = command("cache", *words[index], "--socket", socket)

        all_at_once([partial(run, index) for index in range(3)])
        outputs = [getattr(one, "stdout", "") + getattr(one, "stderr", "") for one in done]
        assert "purged: 1 stored answer\n" in outputs[0]
        assert outputs[1].startswith("marked stale: all that was stored until now with the tag red"), outputs
        assert getattr(done[2], "returncode", 0) != 0
        assert "Traceback" not in outputs[2]
        with live.client() as client:
            assert [is_hit(client.ask(target=page)) for page in PAGES] == [False, True, True, False, True]
        shown = command("cache", "stat", "--json", "--socket", socket)
        assert json.loads(shown.stdout)["requests"]["hit"] == 3

    def test_without_a_cache_there_is_nothing_to_purge(self, live: Live) -> None:
        live.serve(live.recording().address)
        status, answer = live.proxy.ask("POST", "/v1/cache/purge", {"all": True})
        assert (status, "cache = true" in answer["error"]) == (404, True)


class TestClients:
    def test_http_1_0(self, live: Live) -> None:
        backend = live.recording({"/": cacheable(HUNDRED, framing="chunked"), "/l": cacheable(HUNDRED)})
        caching(live, backend.address)
        for path in (b"/", b"/l"):
            for _ in range(2):
                with live.client() as client:
                    client.send(request(target=path, version=b"HTTP/1.0"))
                    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
                assert body == HUNDRED
                assert b"chunked" not in head
                assert b"\r\nTransfer-Encoding" not in head
        with live.client() as client:
            kept = ((b"Connection", b"keep-alive"),)
            for _ in range(3):
                assert client.ask(fields=kept, version=b"HTTP/1.0").body == HUNDRED
        assert len(backend.requests) == 2

    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    def test_pipelined_hits_are_answered_in_their_order(self, live: Live, authority: Papers, tls: bool) -> None:
        sizes = {b"/%d" % number: size for number, size in enumerate((0, 1, 1000, 70_000, 600_000))}
        backend = live.recording(lambda asked: cacheable(b"".join(blocks(sizes[asked.target]))))
        caching(live, backend.address, listener=tls_keys(authority.issue(NAME)) if tls else "")
        with https(live) if tls else live.client() as client:
            for path in sizes:
                client.ask(target=path, host=NAME.encode())
            order = [*sizes, *reversed(sizes)] * 3
            wire = b"".join(request(target=path, host=NAME.encode()) for path in order)
            sending = threading.Thread(target=client.sock.sendall, args=(wire,))
            sending.start()
            for path in order:
                answer = client.answer()
                assert is_hit(answer)
                assert answer.body == b"".join(blocks(sizes[path]))
            sending.join()
        assert len(backend.requests) == len(sizes)

    def test_schemes_do_not_share_what_is_stored(self, live: Live, authority: Papers) -> None:
        """K1"""
        backend = live.recording(_numbered())
        port, plain = live.ports.reserve(), live.ports.reserve()
        live.port = port
        text = http_site(port, backend.address, listener=tls_keys(authority.issue(NAME)), more=route())
        text += f'\n[[listener]]\nname = "in2"\nbind = "127.0.0.1:{plain}"\nprotocol = "http"\n'
        text += '\n[[route]]\nlistener = "in2"\npool = "out"\ncache = true\n'
        live.serve_text(text)
        with https(live) as secure, live.client(plain) as client:
            bodies = [secure.ask(host=NAME.encode()).body, client.ask(host=NAME.encode()).body]
            assert bodies == [b"1", b"2"]
            assert [secure.ask(host=NAME.encode()).body, client.ask(host=NAME.encode()).body] == bodies

    def test_head_is_answered_from_a_get_and_is_none_itself(self, live: Live) -> None:
        backend = live.recording({"/": cacheable(HUNDRED, ETAG)})
        caching(live, backend.address)
        with live.client() as client:
            first = client.ask(b"HEAD")
            assert first.get(b"content-length") == b"100"
            assert client.ask().body == HUNDRED
            head = client.ask(b"HEAD")
            assert is_hit(head)
            get = client.ask()
        assert [one.method for one in backend.requests] == [b"HEAD", b"GET"]
        ignored = (b"age", b"date")
        assert [field for field in head.fields if field[0].lower() not in ignored] == [
            field for field in get.fields if field[0].lower() not in ignored
        ]

    def test_ranges_of_what_is_stored(self, live: Live) -> None:
        """K6"""
        backend = live.recording({"/": cacheable(HUNDRED, ETAG, TEXT)})
        caching(live, backend.address)
        with live.client() as client:

            def part(value: bytes, *more: tuple[bytes, bytes]) -> Answered:
                return client.ask(fields=((b"Range", value), *more))

            client.ask()
            for value, body, told_range in (
                (b"bytes=0-4", b"01234", b"bytes 0-4/100"),
                (b"bytes=95-", b"56789", b"bytes 95-99/100"),
                (b"bytes=-3", b"789", b"bytes 97-99/100"),
                (b"bytes=99-1000", b"9", b"bytes 99-99/100"),
            ):
                answer = part(value)
                assert (answer.status, answer.body, answer.get(b"content-range")) == (206, body, told_range)
            several = part(b"bytes=0-1, 50-52")
            assert several.status == 206
            kind = several.get(b"content-type") or b""
            assert kind.startswith(b"multipart/byteranges")
            boundary = kind.partition(b"boundary=")[2].strip(b'"')
            parts = several.body.split(b"--" + boundary)
            assert [one.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for one in parts[1:-1]] == [b"01", b"012"]
            assert parts[-1].strip() == b"--"
            beyond = part(b"bytes=100-")
            assert (beyond.status, beyond.get(b"content-range"), beyond.body) == (416, b"bytes */100", b"")
            many = part(b"bytes=" + b",".join([b"0-99"] * 1000))
            assert (many.status, many.body) == (200, HUNDRED)
            for condition, status in ((b'"one"', 206), (b'"two"', 200), (b'W/"one"', 200)):
                assert part(b"bytes=0-4", (b"If-Range", condition)).status == status
            assert part(b"lines=0-4").status == 200
            assert part(b"bytes=0-4", (b"If-None-Match", b'"one"')).status == 304
            assert client.ask(b"HEAD", b"/", ((b"Range", b"bytes=0-4"),)).status == 200
            assert client.ask().body == HUNDRED
        assert len(backend.requests) == 1

    def test_a_part_of_what_is_not_stored_is_the_backends(self, live: Live) -> None:
        part = Answer(
            206, body=b"01", fields=((b"Content-Range", b"bytes 0-1/100"), (b"Cache-Control", b"max-age=60"), ETAG)
        )
        backend = live.recording(lambda asked: part if asked.get(b"range") else cacheable(HUNDRED, ETAG))
        caching(live, backend.address)
        with live.client() as client:
            for _ in range(2):
                answer = client.ask(fields=((b"Range", b"bytes=0-1"),))
                assert (answer.status, answer.body, "stored" in told(answer).split("; ")) == (206, b"01", False)
            assert client.ask().body == HUNDRED
            assert is_hit(client.ask(fields=((b"Range", b"bytes=0-1"),)))
        assert len(backend.requests) == 3

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
    def test_a_request_within_a_body_is_nobodys_request(self, live: Live, method: bytes, framing: str) -> None:
        """F19, K3: whatever is stored, a body goes with its request, and is not read as the next one"""
        backend = live.recording(_numbered())
        caching(live, backend.address)
        inner = request(target=b"/inner")
        if framing == "length":
            wire = request(method, body=inner)
        else:
            wire = request(method, b"/", ((b"Transfer-Encoding", b"chunked"),), chunked(inner))
        with live.client() as client:
            assert is_hit(client.ask()) is False
            assert is_hit(client.ask())
            client.send(wire + request(target=b"/last"))
            assert told(client.answer(method)).startswith(("fwd=bypass", "fwd=method"))
            assert client.answer().body == b"3"
            assert is_hit(client.ask()) == (method != b"DELETE")
        targets = [(one.method, one.target, one.body) for one in backend.requests][:3]
        assert targets == [(b"GET", b"/", b""), (method, b"/", inner), (b"GET", b"/last", b"")]

    def test_a_body_of_nothing_is_no_body(self, live: Live) -> None:
        backend = live.recording(_numbered())
        caching(live, backend.address)
        with live.client() as client:
            client.ask()
            assert is_hit(client.ask(fields=((b"Content-Length", b"0"),)))
            refused = client.ask(fields=((b"Cache-Control", b"only-if-cached"),), target=b"/none")
            assert refused.status == 504
            assert is_hit(client.ask())

    def test_two_pools_behind_one_route_share_nothing(self, live: Live) -> None:
        one, two = (live.recording({"/": cacheable(name)}) for name in (b"one", b"two"))
        more = '[[route]]\nlistener = "in"\nsplit = { one = 1, two = 1 }\nsplit_key = "header:x-who"\ncache = true\n'
        live.serve(one.address, more=more + http_pool("one", one.address) + http_pool("two", two.address))
        with live.client() as client:
            seen = {}
            for number in range(20):
                answer = client.ask(fields=((b"X-Who", b"%d" % number),))
                seen[number] = answer.body
            assert set(seen.values()) == {b"one", b"two"}
            for number, body in seen.items():
                assert client.ask(fields=((b"X-Who", b"%d" % number),)).body == body
        assert (len(one.requests), len(two.requests)) == (1, 1)


def test_variants_are_kept_apart_and_bounded(live: Live) -> None:
    """K4"""
    backend: Recording = live.recording(lambda asked: cacheable(asked.get(b"x-kind") or b"", (b"Vary", b"X-Kind")))
    caching(live, backend.address, top="[cache]\nvariants = 4\n")
    with live.client() as client:
        for number in range(10):
            assert client.ask(fields=((b"X-Kind", b"%d" % number),)).body == b"%d" % number
        assert client.ask(fields=((b"X-Kind", b"9"),)).body == b"9"
        assert len(backend.requests) == 10
        assert stat(live.proxy)["memory"]["objects"] <= 4
        assert client.ask(fields=((b"X-Kind", b"0"),)).body == b"0"
    assert len(backend.requests) == 11
