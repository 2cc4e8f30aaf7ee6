"""Stored answers on their way to clients: whole and in parts, coming and complete, from memory and from files."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lbproxy.cache.body import AnyBody, Body
from lbproxy.cache.face import SHORT
from lbproxy.cache.ranges import multipart
from lbproxy.net.tls import binding
from lbproxy.net.tls.way import VARIABLE
from lbproxy.service.disk_body import OpenBody
from tests.net.http1.http_rig import GET, HttpRig, dechunked, http_rig
from tests.net.http1.presenting_rig import LINES, FakeFile, Showing, Taker, face_of, serve_tls
from tests.net.net_rig import reset, turn

OLD = b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n"
OLD_KEEP = OLD[:-2] + b"Connection: keep-alive\r\n\r\n"
LAST_ONE = GET[:-2] + b"Connection: close\r\n\r\n"
KIB = 1024
MEGABYTE = random.Random(5).randbytes(KIB * KIB)
# What is kept for one client beyond its kernel, and the most that goes in front of it: a head.
KEPT = 16 * KIB
HEAD_ROOM = 512


def head(length: int | None, *, status: int = 200, close: bool = False, extra: bytes = b"", minor: int = 1) -> bytes:
    """As it is expected on the wire; `length` None for chunks, -1 for none of both."""
    framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    connection = b"Connection: close\r\n" if close else b"Connection: keep-alive\r\n" if not minor else b""
    return b"HTTP/1.1 %d OK\r\n%b%b%b%b\r\n" % (
        status, LINES, extra, b"" if length is not None and length < 0 else framing, connection,
    )  # fmt: skip


def coming(*pieces: bytes, expected: int = -1) -> Body:
    body = Body(expected)
    for piece in pieces:
        body.add(piece)
    return body


@pytest.fixture(params=["plain", "socket"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How clients speak: in clear, or TLS; see EVERY_WAY too."""
    if request.param == "memory":
        monkeypatch.setenv(VARIABLE, "memory")
    elif request.param == "socket":
        if not binding.AVAILABLE:
            pytest.skip("the binding lacks what the fast way needs")
        monkeypatch.delenv(VARIABLE, raising=False)
    return str(request.param)


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[HttpRig]:
    speaks = request.getfixturevalue("way") if "way" in request.fixturenames else "plain"
    with http_rig() as made:
        if speaks != "plain":
            serve_tls(made)
        yield made


@pytest.fixture
def files(rig: HttpRig) -> Iterator[Callable[..., FakeFile]]:
    made: list[FakeFile] = []

    def make(*args: Any, **rest: Any) -> FakeFile:
        made.append(FakeFile(rig, *args, **rest))
        return made[-1]

    yield make
    for one in made:
        one.close()


def taker(rig: HttpRig, *, small: bool = False) -> Taker:
    """A client; a `small` one and its kernels take a few kilobytes at a time."""
    tls = rig.gate.site is not None
    return Taker(rig, tls=tls, send=8192 if small else 0, receive=8192 if small else 0)


def told(rig: HttpRig, client: Taker) -> Any:
    """The record of the one exchange."""

    def is_there() -> bool:
        rig.passes(0.1)
        return bool(rig.told)

    client.until(is_there)
    (record,) = rig.told
    return record


# The portable way of TLS besides.
EVERY_WAY = pytest.mark.parametrize("way", ["plain", "socket", "memory"], indirect=True)


class TestShortBodies:
    @pytest.mark.parametrize("body", [b"", b"x", MEGABYTE[:SHORT]], ids=len)
    def test_head_and_body_are_one_write_and_are_remembered(self, rig: HttpRig, body: bytes) -> None:
        face = face_of(body, len(body), extra=b"Age: 3\r\n")
        Showing(rig, face)
        client = taker(rig)
        sent: list[bytes] = []
        side: Any = rig.worker.http_side(client.conversation.client)
        send = side._send

        def sending(data: bytes) -> Any:
            sent.append(bytes(data))
            return send(data)

        side._send = sending
        wire = head(len(body), extra=b"Age: 3\r\n") + body
        for _ in range(2):
            client.ask()
            assert client.hears(len(wire)) == wire
        assert sent == [wire, wire]
        assert face.memo == wire
        turn(rig.reactor)
        assert [(one.status, one.outcome, one.bytes_out) for one in rig.told] == [(200, "ok", len(wire))] * 2

    @pytest.mark.parametrize(
        ("request_", "wanted"),
        [
            (OLD, head(2, close=True)),
            (OLD_KEEP, head(2, minor=0)),
            (LAST_ONE, head(2, close=True)),
        ],
        ids=["old", "old_keep", "last"],
    )
    def test_who_speaks_otherwise_gets_a_head_of_its_own(self, rig: HttpRig, request_: bytes, wanted: bytes) -> None:
        face = face_of(b"ok", 2)
        Showing(rig, face)
        for _ in range(2):
            client = taker(rig)
            client.ask(request_)
            assert client.hears(len(wanted) + 2) == wanted + b"ok"
            if b"close" in wanted:
                assert client.hears_end() == b""
            assert face.memo is None
            usual = taker(rig)
            usual.ask()
            assert usual.hears(len(head(2)) + 2) == head(2) + b"ok"
            face.memo = None

    @pytest.mark.parametrize("status", [304, 200])
    def test_a_head_alone_has_nothing_behind_it(self, rig: HttpRig, status: int) -> None:
        """A 304, and the answer to HEAD."""
        bare = face_of(b"", -1 if status == 304 else 5, (), status=status)
        bare.length = 0
        face = face_of(b"ok", 2)
        Showing(rig, bare, face)
        client = taker(rig)
        client.ask(GET.replace(b"GET", b"HEAD") + GET)
        wire = head(-1 if status == 304 else 5, status=status) + head(2) + b"ok"
        assert client.hears(len(wire)) == wire

    def test_pipelined_requests_are_answered_in_order(self, way: str, rig: HttpRig) -> None:
        bodies = [b"a", MEGABYTE[: 300 * KIB], b"", MEGABYTE[: SHORT + 1], b"b"]
        Showing(rig, *[face_of(body, len(body)) for body in bodies], face_of(b"", 0))
        client = taker(rig, small=True)
        client.ask(GET * len(bodies))
        wire = b"".join([head(len(body)) + body for body in bodies])
        assert client.hears(len(wire)) == wire
        assert [one.outcome for one in rig.told] == ["ok"] * len(bodies)

    def test_a_small_body_of_the_request_is_skipped(self, rig: HttpRig) -> None:
        Showing(rig, face_of(b"ok", 2))
        client = taker(rig)
        client.ask(GET[:-2] + b"Content-Length: 4\r\n\r\nbody" + GET)
        wire = head(2) + b"ok"
        assert client.hears(2 * len(wire)) == 2 * wire


def in_memory(rig: HttpRig, make: Callable[..., FakeFile], data: bytes) -> AnyBody:
    return data


def complete(rig: HttpRig, make: Callable[..., FakeFile], data: bytes) -> AnyBody:
    """It has come in uneven pieces."""
    third = len(data) // 3
    body = coming(data[:third], data[third : third + 7], data[third + 7 :])
    body.finish()
    return body


def whole_but_for_its_end(rig: HttpRig, make: Callable[..., FakeFile], data: bytes) -> AnyBody:
    body = coming(data[:100], data[100:], expected=len(data))
    rig.reactor.callLater(0.0, body.finish)
    return body


def at_hand(rig: HttpRig, make: Callable[..., FakeFile], data: bytes) -> AnyBody:
    return make(data)


def on_disk(rig: HttpRig, make: Callable[..., FakeFile], data: bytes) -> AnyBody:
    return make(data, at_hand=False)


KINDS = [in_memory, complete, whole_but_for_its_end, at_hand, on_disk]


class TestLongBodies:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [SHORT + 1, 256 * KIB + 1, KIB * KIB])
    def test_it_comes_whole_and_the_connection_stays(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile], kind: Any, size: int
    ) -> None:
        data = MEGABYTE[:size]
        face = face_of(kind(rig, files, data), size)
        Showing(rig, face)
        client = taker(rig)
        for _ in range(2):
            client.ask()
            assert client.hears(size + len(head(size))) == head(size) + data
        turn(rig.reactor)
        assert [(one.outcome, one.bytes_out) for one in rig.told] == [("ok", size + len(head(size)))] * 2

    @pytest.mark.parametrize("kind", KINDS)
    @EVERY_WAY
    def test_a_slow_client_gets_all_of_it_and_costs_a_little(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile], kind: Any
    ) -> None:
        size = 700 * KIB
        data = MEGABYTE[:size]
        Showing(rig, face_of(kind(rig, files, data), size))
        client = taker(rig, small=True)
        client.idle = True
        client.ask()
        client.until(lambda: client.held)
        for _ in range(10):
            turn(rig.reactor)
            client.pump()
        assert rig.worker.budget.used == client.held
        client.idle = False
        client.until(lambda: len(client.got) >= size + len(head(size)), most=20_000)
        assert client.got == head(size) + data
        assert 0 < client.most <= KEPT + HEAD_ROOM + (0 if way != "memory" else TLS_AHEAD)
        record = told(rig, client)
        assert (record.outcome, record.bytes_out) == ("ok", size + len(head(size)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_in_chunks_where_nobody_knew_its_length(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile], kind: Any
    ) -> None:
        data = MEGABYTE[: 500 * KIB]
        Showing(rig, face_of(kind(rig, files, data)))
        client = taker(rig, small=True)
        client.ask()
        assert client.hears_head() == head(None)
        client.until(lambda: client.got.endswith(b"\r\n0\r\n\r\n") and rig.told, most=30_000)
        assert dechunked(bytes(client.got)) == data
        assert client.most <= 64 * KIB + HEAD_ROOM + (0 if way != "memory" else TLS_AHEAD)
        assert rig.told[0].bytes_out == len(client.got) + len(head(None))

    @pytest.mark.parametrize("kind", KINDS)
    def test_as_it_is_for_an_old_client(self, rig: HttpRig, files: Callable[..., FakeFile], kind: Any) -> None:
        data = MEGABYTE[: 300 * KIB]
        Showing(rig, face_of(kind(rig, files, data)))
        client = taker(rig, small=True)
        client.ask(OLD)
        assert client.hears_end() == head(-1, close=True) + data
        assert client.ended
        assert told(rig, client).outcome == "ok"


# With the portable way TLS takes what it is offered, and keeps it for the kernel itself.
TLS_AHEAD = 300 * KIB


class TestFiles:
    def test_clear_bytes_never_come_by_here(self, rig: HttpRig, files: Callable[..., FakeFile]) -> None:
        file = files(MEGABYTE)
        Showing(rig, face_of(file, len(MEGABYTE)))
        client = taker(rig)
        client.ask()
        client.hears(len(MEGABYTE) + len(head(len(MEGABYTE))))
        assert file.loads == []

    def test_what_is_not_at_hand_is_asked_for_once_at_a_time(
        self, rig: HttpRig, files: Callable[..., FakeFile]
    ) -> None:
        file = files(MEGABYTE, at_hand=False)
        file.waits = True
        Showing(rig, face_of(file, len(MEGABYTE)))
        client = taker(rig)
        client.ask()
        turn(rig.reactor, lambda: file.loads)
        turn(rig.reactor)
        assert file.loads == [(0, 256 * KIB)]
        assert client.got == b""
        file.waits = False
        file.comes()
        assert client.hears(len(MEGABYTE) + len(head(len(MEGABYTE)))).endswith(MEGABYTE)

    def test_a_client_that_leaves_meanwhile_is_not_given_to(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile]
    ) -> None:
        file = files(MEGABYTE, at_hand=False)
        file.waits = True
        Showing(rig, face_of(file, len(MEGABYTE)))
        client = taker(rig)
        client.ask()
        turn(rig.reactor, lambda: file.loads)
        reset(client.sock)
        turn(rig.reactor, lambda: rig.told)
        file.comes()
        turn(rig.reactor)
        assert (rig.told[0].outcome, rig.told[0].bytes_out) == ("client_gone", 0)

    @pytest.mark.parametrize("ready", [True, False])
    def test_a_file_that_grows(self, way: str, rig: HttpRig, files: Callable[..., FakeFile], ready: bool) -> None:
        size = 400 * KIB
        file = files(b"", expected=size, at_hand=ready)
        Showing(rig, face_of(file, size))
        client = taker(rig)
        client.ask()
        assert client.hears_head() == head(size)
        for at in range(0, size, 50 * KIB):
            file.add(MEGABYTE[at : at + 50 * KIB])
            assert client.hears(50 * KIB) == MEGABYTE[at : at + 50 * KIB]
        file.finish()
        assert told(rig, client).outcome == "ok"
        assert file.readers == []

    @pytest.mark.parametrize("ready", [True, False])
    @pytest.mark.parametrize("small", [True, False])
    def test_a_file_that_became_shorter_ends_in_a_cut(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile], ready: bool, small: bool
    ) -> None:
        file = files(MEGABYTE, at_hand=ready)
        Showing(rig, face_of(file, len(MEGABYTE)))
        file.cut(300 * KIB)
        client = taker(rig, small=small)
        client.ask()
        client.until(lambda: client.ended or client.cut)
        assert (head(len(MEGABYTE)) + MEGABYTE).startswith(client.got)
        record = told(rig, client)
        assert (record.outcome, client.cut) == ("local_resource", True)

    def test_what_cannot_be_read_at_all_is_503(self, way: str, rig: HttpRig, files: Callable[..., FakeFile]) -> None:
        file = files(MEGABYTE, at_hand=False)
        file.cut(0)
        Showing(rig, face_of(file, len(MEGABYTE)))
        client = taker(rig)
        client.ask()
        assert client.hears_head().startswith(b"HTTP/1.1 503 ")
        assert told(rig, client).outcome == "local_resource"

    @pytest.mark.parametrize("small", [True, False])
    def test_a_real_one(self, way: str, rig: HttpRig, tmp_path: Path, small: bool) -> None:
        class Elsewhere:
            def read(self, call: Callable[[], bytes | None], then: Callable[[bytes | None], None]) -> None:
                rig.reactor.callLater(0.0, lambda: then(call()))

            def close(self, descriptor: int) -> None:
                os.close(descriptor)

        path = tmp_path / "body"
        path.write_bytes(MEGABYTE)
        body = OpenBody(os.open(path, os.O_RDONLY), len(MEGABYTE), Elsewhere())
        Showing(rig, face_of(body, len(MEGABYTE)))
        client = taker(rig, small=small)
        client.ask()
        wire = head(len(MEGABYTE)) + MEGABYTE
        assert client.hears(len(wire)) == wire


class TestBodiesThatCome:
    def test_its_head_goes_before_it(self, way: str, rig: HttpRig) -> None:
        body = coming(expected=10)
        Showing(rig, face_of(body, 10))
        client = taker(rig)
        client.ask()
        assert client.hears_head() == head(10)
        body.add(b"hello")
        assert client.hears(5) == b"hello"
        body.add(b"world")
        assert client.hears(5) == b"world"
        body.finish()
        assert told(rig, client).outcome == "ok"
        assert body.readers == 0

    def test_what_is_there_goes_with_its_head(self, rig: HttpRig) -> None:
        body = coming(b"hello", expected=10)
        Showing(rig, face_of(body, 10))
        client = taker(rig)
        client.ask()
        assert client.hears(len(head(10)) + 5) == head(10) + b"hello"
        body.add(b"world")
        assert client.hears(5) == b"world"

    def test_each_piece_is_a_chunk_and_the_end_another(self, way: str, rig: HttpRig) -> None:
        body = coming(b"one")
        Showing(rig, face_of(body))
        client = taker(rig)
        client.ask()
        wire = head(None) + b"3\r\none\r\n"
        assert client.hears(len(wire)) == wire
        body.add(b"two")
        assert client.hears(8) == b"3\r\ntwo\r\n"
        body.finish()
        assert client.hears(5) == b"0\r\n\r\n"
        client.ask()
        wire = head(None) + b"6\r\nonetwo\r\n0\r\n\r\n"
        assert client.hears(len(wire)) == wire

    @pytest.mark.parametrize(("request_", "wire"), [(GET, head(None) + b"0\r\n\r\n"), (OLD, head(-1, close=True))])
    def test_one_that_turns_out_to_be_empty(self, rig: HttpRig, request_: bytes, wire: bytes) -> None:
        body = coming()
        Showing(rig, face_of(body))
        client = taker(rig)
        client.ask(request_)
        turn(rig.reactor)
        body.finish()
        assert client.hears(len(wire)) == wire
        if request_ is OLD:
            assert client.hears_end() == b""
            assert client.ended
        assert told(rig, client).outcome == "ok"

    def test_an_old_client_reads_it_until_the_end(self, rig: HttpRig) -> None:
        body = coming(b"one")
        Showing(rig, face_of(body))
        client = taker(rig)
        client.ask(OLD_KEEP)
        wire = head(-1, close=True) + b"one"
        assert client.hears(len(wire)) == wire
        body.add(b"two")
        body.finish()
        assert client.hears_end() == b"two"
        assert client.ended

    @pytest.mark.parametrize("length", [True, False])
    @pytest.mark.parametrize("seed", range(2))
    @EVERY_WAY
    def test_many_read_it_each_at_its_own_pace(self, way: str, rig: HttpRig, seed: int, length: bool) -> None:
        dice = random.Random(seed)
        data = MEGABYTE[: 600 * KIB]
        size = len(data)
        body = coming(expected=size if length else -1)
        Showing(rig, *[face_of(body, size if length else -1) for _ in range(5)], face_of(b"", 0))
        clients: list[Taker] = []
        at = 0
        finished = False

        def step() -> bool:
            nonlocal at, finished
            if len(clients) < 4 and dice.random() < 0.4:
                client = taker(rig, small=bool(len(clients) % 2))
                clients.append(client)
                client.ask()
            if dice.random() < 0.5 and at < size:
                piece = data[at : at + dice.choice([1, 700, 20_000, 90_000])]
                body.add(piece)
                at += len(piece)
            elif at == size and not finished:
                finished = True
                body.finish()
            for client in clients:
                if dice.random() < 0.7:
                    client.pump(dice.choice([100, 9000, 200_000]))
            return len(rig.told) == 4

        turn(rig.reactor, step)
        for client in clients:
            client.until(lambda client=client: len(client.got) > size)  # type: ignore[misc]  # bound early
            first = client.hears_head()
            assert first == head(size if length else None)
            if not length:
                client.until(lambda client=client: client.got.endswith(b"\r\n0\r\n\r\n"))  # type: ignore[misc]  # as above
            assert (bytes(client.got) if length else dechunked(bytes(client.got))) == data
        assert body.readers == 0
        assert [one.outcome for one in rig.told] == ["ok"] * 4

    def test_one_that_pauses_for_too_long_is_cut(self) -> None:
        """Who fills it has a clock of its own, which is heard first."""
        with http_rig(response_body_idle=5.0) as rig:
            body = coming(b"one")
            Showing(rig, face_of(body))
            client = taker(rig)
            client.ask()
            client.hears(len(head(None)) + 8)
            for _ in range(3):
                rig.passes(4.5)
                body.add(b"two")
                assert client.hears(8) == b"3\r\ntwo\r\n"
            began = rig.now
            assert told(rig, client).outcome == "local_resource"
            assert rig.now - began > 5.0
            client.hears_end()
            assert client.cut


class TestParts:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("span", [(0, 1), (17, 300 * KIB), (399 * KIB, 400 * KIB)])
    def test_one_of_them(self, rig: HttpRig, files: Callable[..., FakeFile], kind: Any, span: tuple[int, int]) -> None:
        start, end = span
        data = MEGABYTE[: 400 * KIB]
        Showing(rig, face_of(kind(rig, files, data), end - start, (span,), status=206))
        client = taker(rig)
        for _ in range(2):
            client.ask()
            wire = head(end - start, status=206) + data[start:end]
            assert client.hears(len(wire)) == wire

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("small", [True, False])
    def test_several_with_what_stands_between_them(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile], kind: Any, small: bool
    ) -> None:
        data = MEGABYTE[: 400 * KIB]
        spans = [(200 * KIB, 350 * KIB), (0, 10), (10, 150 * KIB), (len(data) - 1, len(data))]
        parts, total = multipart(b"edge", b"text/plain", spans, len(data))
        wire = head(total, status=206)
        wire += b"".join([data[part[0] : part[1]] if isinstance(part, tuple) else part for part in parts])
        Showing(rig, face_of(kind(rig, files, data), total, parts, status=206))
        client = taker(rig, small=small)
        for _ in range(2):
            client.ask()
            client.until(lambda: len(client.got) >= len(wire), most=30_000)
            assert client.hears(len(wire)) == wire
        turn(rig.reactor)
        assert [one.bytes_out for one in rig.told] == [len(wire)] * 2

    def test_of_a_body_that_comes_a_part_waits_for_its_bytes(self, rig: HttpRig) -> None:
        body = coming(b"0123", expected=10)
        Showing(rig, face_of(body, 5, ((1, 3), b"-", (6, 8)), status=206))
        client = taker(rig)
        client.ask()
        wire = head(5, status=206) + b"12-"
        assert client.hears(len(wire)) == wire
        body.add(b"456")
        assert client.hears(1) == b"6"
        body.add(b"78")
        assert client.hears(1) == b"7"
        assert told(rig, client).outcome == "ok", "what lies behind the last part is not waited for"
        assert body.readers == 0


class TestFailures:
    @EVERY_WAY
    def test_one_that_had_failed_before_is_502(self, way: str, rig: HttpRig) -> None:
        body = coming(expected=10)
        body.fail()
        Showing(rig, face_of(body, 10), face_of(b"ok", 2))
        client = taker(rig)
        client.ask()
        assert client.hears_head().startswith(b"HTTP/1.1 502 ")
        assert told(rig, client).outcome == "backend_closed"

    @pytest.mark.parametrize("length", [10, -1])
    @pytest.mark.parametrize("first", [b"", b"hello"])
    def test_behind_the_head_it_is_a_cut(self, way: str, rig: HttpRig, length: int, first: bytes) -> None:
        body = coming(first, expected=length)
        Showing(rig, face_of(body, length))
        client = taker(rig)
        client.ask()
        client.hears_head()
        turn(rig.reactor)
        body.fail()
        rest = client.hears_end()
        assert client.cut, "an end in order would make it a whole answer for some"
        assert first in rest
        assert b"0\r\n\r\n" not in rest
        assert told(rig, client).outcome == "backend_cut"

    def test_a_slow_client_gets_what_is_there_before_the_cut(self, way: str, rig: HttpRig) -> None:
        data = MEGABYTE[: 500 * KIB]
        body = coming(data, expected=KIB * KIB)
        Showing(rig, face_of(body, KIB * KIB))
        client = taker(rig, small=True)
        client.ask()
        turn(rig.reactor, lambda: client.held)
        body.fail()
        client.hears_head()
        client.until(lambda: client.cut or client.ended, most=20_000)
        assert data.startswith(client.got)
        lost = 64 * KIB if way != "memory" else TLS_AHEAD
        assert len(client.got) > len(data) - lost, "all but what a reset takes away"
        assert rig.told[0].outcome == "backend_cut"

    def test_a_file_that_fails_while_it_grows(self, way: str, rig: HttpRig, files: Callable[..., FakeFile]) -> None:
        file = files(b"x" * 30_000, expected=60_000)
        Showing(rig, face_of(file, 60_000))
        client = taker(rig)
        client.ask()
        client.hears(len(head(60_000)) + 30_000)
        file.fail()
        assert client.hears_end() == b""
        assert client.cut


class TestClientsThatLeave:
    @pytest.mark.parametrize("kind", KINDS)
    def test_in_the_middle(self, way: str, rig: HttpRig, files: Callable[..., FakeFile], kind: Any) -> None:
        Showing(rig, face_of(kind(rig, files, MEGABYTE), len(MEGABYTE)))
        client = taker(rig, small=True)
        client.ask()
        client.until(lambda: len(client.got) > 40_000, most=10_000)
        reset(client.sock)
        turn(rig.reactor, lambda: rig.told)
        turn(rig.reactor)
        assert (rig.told[0].outcome, rig.told[0].status) == ("client_gone", 200)
        assert 40_000 < rig.told[0].bytes_out < len(MEGABYTE)
        assert rig.worker.budget.used == 0

    def test_while_it_waits_for_more(self, way: str, rig: HttpRig) -> None:
        body = coming(b"one")
        Showing(rig, face_of(body))
        client = taker(rig)
        client.ask()
        client.hears(len(head(None)) + 8)
        assert body.readers == 1
        reset(client.sock)
        turn(rig.reactor, lambda: rig.told)
        assert rig.told[0].outcome == "client_gone"
        assert body.readers == 0
        body.add(b"two")
        body.finish()

    def test_one_that_takes_nothing_is_cut_in_the_end(self, way: str) -> None:
        with http_rig(write_stall=5.0) as rig:
            if way != "plain":
                serve_tls(rig)
            Showing(rig, face_of(MEGABYTE, len(MEGABYTE)))
            client = taker(rig, small=True)
            client.ask()
            turn(rig.reactor, lambda: client.held)

            def is_over() -> bool:
                rig.passes(0.5)
                return bool(rig.told)

            turn(rig.reactor, is_over)
            assert (rig.told[0].outcome, rig.told[0].timer) == ("write_stall", "write_stall")
            assert rig.worker.budget.used == 0

    def test_one_whose_kernel_takes_not_even_the_head_of_a_file(
        self, monkeypatch: pytest.MonkeyPatch, rig: HttpRig, files: Callable[..., FakeFile]
    ) -> None:
        """What is held behind it goes out in order."""
        Showing(rig, face_of(files(MEGABYTE), len(MEGABYTE)))
        client = taker(rig)
        side: Any = rig.worker.http_side(client.conversation.client)
        send = side._send

        def full(_data: object) -> int:
            side._send = send
            raise BlockingIOError

        side._send = full
        client.ask()
        wire = head(len(MEGABYTE)) + MEGABYTE
        assert client.hears(len(wire)) == wire


class Passed:
    """A body that is too long to be kept, and who fills it: it asks for `lead`, as fill does."""

    def __init__(self, rig: HttpRig, data: bytes, behind: FakeFile | None = None, *, expected: int = -1) -> None:
        self.rig = rig
        self.left = data
        self.behind = behind
        self.body = Body(expected)
        self.rooms = 0
        self.most = 0

    def passes(self) -> None:
        self.body.pass_on(self._room, self.behind)

    def _room(self) -> None:
        self.rooms += 1

    def fill(self, most: int = 64 * KIB) -> None:
        """As much as there is room for."""
        body, behind = self.body, self.behind
        while self.left and (body.lead if body.passing else body.length) <= 256 * KIB:
            piece, self.left = self.left[:most], self.left[most:]
            body.add(piece)
            if behind is not None and not behind.failed:
                behind.add(piece)
                body.advanced()
            self.most = max(self.most, self.body.length - self.body.start)


class TestBodiesTooLongToBeKept:
    @pytest.mark.parametrize("small", [True, False])
    @pytest.mark.parametrize("early", [True, False])
    @EVERY_WAY
    def test_it_comes_whole_though_little_of_it_is_kept(self, way: str, rig: HttpRig, small: bool, early: bool) -> None:
        passed = Passed(rig, MEGABYTE)
        body = passed.body
        Showing(rig, face_of(body))
        client = taker(rig, small=small)
        if early:
            passed.passes()
            client.ask()
            assert client.hears_head() == head(None)
        else:
            passed.fill()  # far more than a small client takes at once
            client.ask()
            turn(rig.reactor, lambda: client.conversation.exchange is not None)
            turn(rig.reactor)
            passed.passes()
        done = False

        def is_told() -> bool:
            nonlocal done
            passed.fill()
            if not passed.left and not done:
                done = True
                body.finish()
            return bool(rig.told)

        client.until(is_told, most=30_000)
        if not early:
            assert client.hears_head() == head(None)
        client.until(lambda: client.got.endswith(b"\r\n0\r\n\r\n"))
        assert dechunked(bytes(client.got)) == MEGABYTE
        assert passed.rooms > 0
        assert passed.most <= 256 * KIB + 2 * 64 * KIB
        assert rig.told[0].outcome == "ok"
        assert body.readers == 0

    def test_its_end_takes_nothing_away_from_a_slow_client(self, way: str, rig: HttpRig) -> None:
        passed = Passed(rig, MEGABYTE[: 300 * KIB], expected=300 * KIB)
        passed.passes()
        Showing(rig, face_of(passed.body, 300 * KIB))
        slow, fast = taker(rig, small=True), taker(rig)
        for client in (slow, fast):
            client.ask()
            assert client.hears_head() == head(300 * KIB)
        slow.idle = True
        passed.fill()
        fast.hears(100 * KIB)
        passed.fill()
        assert not passed.left
        passed.body.finish()
        fast.until(lambda: len(fast.got) == 200 * KIB)
        slow.idle = False
        slow.until(lambda: len(slow.got) == 300 * KIB or slow.cut, most=20_000)
        assert slow.got == MEGABYTE[: 300 * KIB]
        turn(rig.reactor, lambda: len(rig.told) == 2)
        assert [one.outcome for one in rig.told] == ["ok", "ok"]

    def test_a_client_that_leaves_lets_the_others_go_on(self, way: str, rig: HttpRig) -> None:
        passed = Passed(rig, MEGABYTE, expected=len(MEGABYTE))
        passed.passes()
        Showing(rig, face_of(passed.body, len(MEGABYTE)))
        slow, fast = taker(rig, small=True), taker(rig)
        for client in (slow, fast):
            client.ask()
            client.hears_head()
        assert passed.body.readers == 2
        slow.idle = True

        def stuck() -> bool:
            passed.fill()
            return passed.body.lead > 256 * KIB

        fast.until(stuck)
        before = passed.rooms
        reset(slow.sock)

        def whole() -> bool:
            passed.fill()
            return len(fast.got) == len(MEGABYTE)

        fast.until(whole)
        assert passed.rooms > before
        assert fast.got == MEGABYTE

    @pytest.mark.parametrize("ready", [True, False])
    @EVERY_WAY
    def test_a_slow_client_reads_on_from_the_file_behind_it(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile], ready: bool
    ) -> None:
        file = files(b"", expected=len(MEGABYTE), at_hand=ready)
        passed = Passed(rig, MEGABYTE, file, expected=len(MEGABYTE))
        passed.passes()
        Showing(rig, face_of(passed.body, len(MEGABYTE)))
        client = taker(rig, small=True)
        client.ask()
        client.idle = True
        turn(rig.reactor, lambda: client.conversation.exchange is not None)
        turn(rig.reactor)
        passed.fill()
        assert not passed.left, "nobody waits for it"
        assert passed.body.start > 256 * KIB
        file.finish()
        passed.body.finish()
        client.idle = False
        wire = head(len(MEGABYTE)) + MEGABYTE
        client.until(lambda: len(client.got) >= len(wire) or client.cut, most=30_000)
        assert client.got == wire
        assert client.most <= KEPT + HEAD_ROOM + (0 if way != "memory" else TLS_AHEAD)

    def test_should_the_file_fail_who_reads_from_it_is_cut(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile]
    ) -> None:
        file = files(b"", expected=len(MEGABYTE))
        passed = Passed(rig, MEGABYTE, file, expected=len(MEGABYTE))
        passed.passes()
        Showing(rig, face_of(passed.body, len(MEGABYTE)))
        client = taker(rig, small=True)
        client.ask()
        turn(rig.reactor, lambda: client.conversation.exchange is not None)
        turn(rig.reactor)
        passed.fill()
        turn(rig.reactor, lambda: client.held)
        file.fail()
        client.hears_head()
        client.until(lambda: client.cut or client.ended, most=30_000)
        assert client.cut
        assert MEGABYTE.startswith(client.got)
        assert told(rig, client).outcome == "backend_cut"

    def test_should_the_file_fail_who_is_not_behind_goes_on(
        self, way: str, rig: HttpRig, files: Callable[..., FakeFile]
    ) -> None:
        file = files(b"", expected=len(MEGABYTE))
        passed = Passed(rig, MEGABYTE, file, expected=len(MEGABYTE))
        passed.passes()
        Showing(rig, face_of(passed.body, len(MEGABYTE)))
        client = taker(rig)
        client.ask()
        client.hears_head()
        passed.body.add(MEGABYTE[:1000])
        file.fail()
        passed.left = MEGABYTE[1000:]

        def whole() -> bool:
            passed.fill()
            return len(client.got) == len(MEGABYTE)

        client.until(whole)
        assert client.got == MEGABYTE

    def test_filling_it_in_turn_overtakes_nothing_that_is_held(self, rig: HttpRig) -> None:
        """Who fills it may do so at once when told of room, while the client is being given to."""
        size = 900 * KIB
        passed = Passed(rig, MEGABYTE[:size])
        passed.body.pass_on(passed.fill)
        Showing(rig, face_of(passed.body))
        client = taker(rig, small=True)
        client.ask()
        assert client.hears_head() == head(None)

        def go_on() -> bool:
            passed.fill(3000)
            return not passed.left

        client.until(go_on, most=30_000)
        passed.body.finish()
        client.until(lambda: client.got.endswith(b"\r\n0\r\n\r\n"), most=30_000)
        assert dechunked(bytes(client.got)) == MEGABYTE[:size]
