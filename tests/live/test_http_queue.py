"""Requests that wait for a backend with a free slot: in which order, for how long, and what the others get."""

from __future__ import annotations

import threading
import time

import pytest

from tests.live.harness import until
from tests.live.http_peers import Answer, Asked, RawClient, chunked, http_listener, http_pool, request
from tests.live.http_scripts import Gate, Live, all_at_once
from tests.live.http_scripts import live_fixture as live_fixture
from tests.live.http_scripts import shared_fixture as shared_fixture
from tests.live.peers import connect


class Door:
    """A backend whose answers all wait until they are let through one by one."""

    def __init__(self, live: Live, pool: str, more: str = "") -> None:
        self.live = live
        self.order: list[bytes] = []
        self.passes = threading.Semaphore(0)
        self.backend = live.recording(self._answer)
        live.serve(self.backend.address, pool=pool, more=more)

    def _answer(self, asked: Asked) -> Answer:
        self.order.append(asked.target)
        assert self.passes.acquire(timeout=20)
        return Answer(body=asked.target)

    def asking(self, target: bytes, waiting: int, **options: object) -> RawClient:
        """A client that has asked for this; then so many wait in the queue."""
        client = self.live.client()
        client.send(request(target=target, **options))  # type: ignore[arg-type]  # passed on as they are
        until(lambda: self.live.proxy.pool()["queued"] == waiting, f"{waiting} wait")
        until(lambda: self.live.proxy.pool()["active"] == 1, "one is served")
        return client


def test_requests_wait_in_order(live: Live) -> None:
    door = Door(live, "max_active = 1")
    clients = [door.asking(b"/%d" % number, number) for number in range(5)]
    time.sleep(0.2)
    assert door.order == [b"/0"], "the limit is kept"
    for number, client in enumerate(clients):
        door.passes.release()
        answer = client.answer()
        assert (answer.body, answer.get(b"connection")) == (b"/%d" % number, None)
    records = live.records(5)
    assert [record["outcome"] for record in records] == ["ok"] * 5
    assert records[0]["t_queue_ms"] == 0
    assert records[1]["t_queue_ms"] >= 150
    assert door.backend.connections == 1


def test_a_full_queue_is_503_at_once(live: Live) -> None:
    door = Door(live, "max_active = 1\nqueue = { size = 1 }")
    clients = [door.asking(b"/0", 0), door.asking(b"/1", 1)]
    with live.client() as client:
        began = time.monotonic()
        answer = client.ask(b"POST", b"/2", (), b"body")
        assert time.monotonic() - began < 0.3
        assert (answer.status, answer.get(b"connection")) == (503, None)
        assert 5 <= int(answer.get(b"retry-after") or b"0") <= 10
        assert b"connection_limit_reached" in (answer.get(b"proxy-status") or b"")
        door.passes.release(3)
        assert [client.answer().body for client in clients] == [b"/0", b"/1"]
        assert client.ask(target=b"/3").body == b"/3", "the connection is in step"
    assert door.order == [b"/0", b"/1", b"/3"]
    record = next(record for record in live.records(4) if record["path"] == "/2")
    assert (record["outcome"], record["state"][:2], record["flag"]) == ("queue_full", "sQ", "UO")


def test_waiting_too_long_is_503(live: Live) -> None:
    door = Door(live, 'max_active = 1\ntimeouts = { queue = "300ms" }')
    first = door.asking(b"/0", 0)
    with live.client() as client:
        began = time.monotonic()
        answer = client.ask(target=b"/1")
        assert 0.25 < time.monotonic() - began < 1.0
        assert (answer.status, answer.get(b"connection")) == (503, None)
        assert answer.get(b"retry-after")
        door.passes.release(2)
        assert first.answer().body == b"/0"
        assert client.ask(target=b"/2").body == b"/2"
    record = next(record for record in live.records(3) if record["path"] == "/1")
    assert (record["outcome"], record["state"][:2], record["timer"]) == ("queue_timeout", "sQ", "queue")
    assert record["t_queue_ms"] >= 250


def test_a_client_that_leaves_is_forgotten_at_once(live: Live) -> None:
    door = Door(live, "max_active = 1")
    first = door.asking(b"/0", 0)
    for end in ("reset", "reset"):
        leaving = door.asking(b"/gone", 1)
        getattr(leaving, end)()
        until(lambda: live.proxy.pool()["queued"] == 0, "nobody waits", 1.0)
    door.passes.release(2)
    assert first.answer().body == b"/0"
    assert first.ask(target=b"/1").body == b"/1"
    assert door.order == [b"/0", b"/1"]
    records = [record for record in live.records(4) if record["path"] == "/gone"]
    assert {(record["outcome"], record["state"][:2]) for record in records} == {("client_gone", "CQ")}


def test_a_client_that_half_closes_still_waits(live: Live) -> None:
    door = Door(live, "max_active = 1")
    first, second = door.asking(b"/0", 0), door.asking(b"/1", 1)
    second.half_close()
    time.sleep(0.05)
    door.passes.release(2)
    assert first.answer().body == b"/0"
    assert second.answer().body == b"/1"
    assert second.was_closed()


CHUNKED = ((b"Transfer-Encoding", b"chunked"),)
BODIES = {
    "length": (request(b"POST", b"/1", body=b"x" * 5000), True),
    "chunked": (request(b"POST", b"/1", CHUNKED, chunked(b"x" * 5000)), True),
    "part of a length": (request(b"POST", b"/1", body=b"x" * 5000)[:-1], False),
    "part of a chunk": (
        request(b"POST", b"/1", CHUNKED, chunked(b"x" * 5000)[:-9]),
        False,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_and_a_fin_may_come_while_nobody_reads_them(live: Live, name: str) -> None:
    """C14 and F18: the body is whole, or it is not; that is found out by whoever reads it, if not before"""
    wire, whole = BODIES[name]
    door = Door(live, "max_active = 1")
    first, second = door.asking(b"/0", 0), live.client()
    second.send(wire)
    second.half_close()
    time.sleep(0.1)
    door.passes.release(2)
    assert first.answer().body == b"/0"
    if whole:
        assert second.answer(b"POST").body == b"/1"
    assert second.was_closed()
    record = next(record for record in live.records(2) if record["path"] == "/1")
    assert record["outcome"] == ("ok" if whole else "client_gone")
    assert record.get("rule") == (None if whole else "F18")
    assert not whole or door.backend.requests[1].body == b"x" * 5000
    assert whole or not any(asked.complete for asked in door.backend.requests[1:])


def test_priorities_go_first(live: Live) -> None:
    routes = "".join(
        f'[[route]]\nlistener = "in"\npool = "out"\npath = "/{name}"\npriority = {priority}\n'
        for name, priority in (("late", 9), ("soon", 0))
    )
    door = Door(live, "max_active = 1", routes)
    clients = [door.asking(b"/first", 0)]
    clients += [door.asking(target, number) for number, target in enumerate((b"/late", b"/usual", b"/soon"), 1)]
    door.passes.release(4)
    for client in clients:
        assert client.answer().status == 200
    assert door.order == [b"/first", b"/soon", b"/usual", b"/late"]


def test_an_idle_client_takes_no_slot(live: Live) -> None:
    backend = live.recording()
    live.serve(backend.address, pool="max_active = 1")
    clients = [live.client() for _ in range(5)]
    for _ in range(3):
        for client in clients:
            assert client.ask().status == 200
    assert {record["t_queue_ms"] for record in live.records(15)} == {0}


def test_bodies_wait_as_well(live: Live) -> None:
    gate = Gate()
    backend = live.recording({"/slow": gate})
    live.serve(backend.address, pool="max_active = 1")
    first, second = live.client(), live.client()
    first.send(request(target=b"/slow"))
    gate.wait()
    second.send(request(b"POST", fields=((b"Content-Length", b"3000000"),)))
    sending = threading.Thread(target=second.sock.sendall, args=(b"x" * 3_000_000,))
    sending.start()
    until(lambda: live.proxy.pool()["queued"] == 1, "it waits")
    time.sleep(0.05)
    assert live.proxy.status()["held_bytes"] <= 64 * 1024
    gate.open()
    assert (first.answer().status, second.answer().status) == (200, 200)
    sending.join()
    assert backend.wait_for(2)[1].size == 3_000_000


def test_layer_4_shares_the_slots(live: Live) -> None:
    """One pool behind a TCP listener and an HTTP listener"""
    backend = live.recording()
    live.port = live.ports.reserve()
    tcp = live.ports.reserve()
    text = f'[[listener]]\nname = "tcp"\nbind = "127.0.0.1:{tcp}"\npool = "out"\n'
    text += http_listener(live.port, more='pool = "out"')
    live.serve_text(text + http_pool("out", backend.address, more="max_active = 1"))
    with connect(tcp) as raw:
        raw.sendall(request())
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        with live.client() as client:
            client.send(request())
            until(lambda: live.proxy.pool()["queued"] == 1, "it waits")
            raw.close()
            assert client.answer().status == 200


def test_many_requests_through_few_slots(live: Live) -> None:
    active, most, lock = 0, 0, threading.Lock()

    def answer(asked: Asked) -> Answer:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.002)
        with lock:
            active -= 1
        return Answer(body=asked.body)

    backends = [live.recording(answer) for _ in range(2)]
    live.serve(*(one.address for one in backends), pool="max_active = 2")

    def go() -> None:
        with live.client() as client:
            for number in range(20):
                body = b"%d" % number * 100
                assert client.ask(b"POST", body=body).body == body

    all_at_once([go] * 16)
    assert most <= 4
    assert live.proxy.pool()["active"] == live.proxy.pool()["queued"] == 0
